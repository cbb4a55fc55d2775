"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file whole or not at all: under a temporary name in the same folder, then renamed.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder exists.
    content : bytes
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
