"""Files that are written whole or not at all, and JSON files that are read with a word on what is wrong with them."""

import contextlib
import glob
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml.error import YAMLError

from recipes.command_line import UserError

LEFTOVER_SECONDS = 3600
"""Age at which a temporary file is one of a process that was killed."""


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file whole or not at all: under a temporary name in the same folder, then renamed.

    A file that is there keeps its permissions, and of a link the target is replaced. What is no regular file (a device, a
    pipe, the standard output of this process) is written to as it is.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder exists.
    content : bytes
    """
    try:
        _write(Path(path), content)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the system names the temporary file, or none


def _write(path: Path, content: bytes) -> None:
    permissions = None
    if path.exists():
        there = path.stat()
        if (stream := _own_stream(there)) is not None or not stat.S_ISREG(there.st_mode):
            with open(path if stream is None else os.dup(stream), "wb", buffering=0) as file:
                file.write(content)
            return
        permissions = stat.S_IMODE(there.st_mode)
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    name = path.name if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    for leftover in path.parent.glob(f".{glob.escape(name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process removes it, too
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                leftover.unlink()
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        if permissions is not None:
            temporary.chmod(permissions)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _own_stream(there: os.stat_result) -> int | None:
    """1 or 2 if this is the file that standard output or error goes to."""
    sys.stdout.flush()
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if os.path.samestat(there, os.fstat(stream)):
                return stream
    return None


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Writes a value as indented JSON, whole or not at all; NaN and infinity raise ValueError.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder exists.
    value : object
        Anything that JSON can hold.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "summary.json", {"wer": 5.84})
    ...     (Path(folder) / "summary.json").read_text()
    '{\\n  "wer": 5.84\\n}\\n'
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def to_write(text: str) -> Path:
    """The path of a file that a command is to write, of its command line; checked before anything is computed.

    Raises
    ------
    UserError
        If it is a folder, its folder is not there, or it must not be written.
    """
    path = Path(text)
    if not text or path.is_dir() or text.endswith(os.sep):
        raise UserError(f"cannot write {text or 'a file without a name'}: give the name of a file, not of a folder")
    return _checked_place(path)


def folder_to_write(text: str) -> Path:
    """As `to_write`, of a folder, which is made if it is not there, and the one that it is in is."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise UserError(f"cannot write {text}: it is no folder: give another one")
    return _checked_place(path)


def _checked_place(path: Path) -> Path:
    """A path, if something may be written there."""
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {folder}: make it first, or give another one")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: no permission: give another one")
    return path


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_number)


@contextlib.contextmanager
def content_of(path: Path, parse: Callable[[str], Any] = _json) -> Iterator[Any]:
    """The value in a JSON file, to be used in a `with`: what is wrong with it, even if it is found there, names the file.

    Arguments
    ---------
    path : Path
        A file, which need not exist: FileNotFoundError is raised as it is.
    parse : callable
        From its text to the value, for a file of another format.

    Raises
    ------
    UserError
        If it is no JSON, holds NaN or infinity, or an entry is missing or of another kind than the code in the `with` takes.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "run.json"
    ...     write_json(path, {"wer": 5.84})
    ...     with content_of(path) as run:
    ...         run["wer"]
    5.84
    """
    try:
        yield parse(path.read_text(encoding="utf-8"))
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(
            f"{path} is damaged, or of another kind ({said}): take it from git, or delete it and measure it again"
        ) from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
