"""What all commands share: the one exception for what a user can mend, their options, and how they end."""

import argparse
import contextlib
import errno
import io
import itertools
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

UNFORESEEN = 1
"""Exit code after an error that no part of the program foresaw."""
MENDABLE = 2
"""Exit code after a line about what the user can mend."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
NOT_READ = 141
"""Exit code when whoever reads the output, `head` for instance, has had enough."""
TERMINATED = 143
"""Exit code after SIGTERM, with which a cluster ends a program."""

FULL = "free some space, or choose a folder on another disk; what was there before is kept"
FORBIDDEN = "choose a place that you may read, or write to"
OF_SYSTEM = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`), or choose a folder on another disk",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: FORBIDDEN,
    errno.ENOENT: "give one that exists",
    errno.EISDIR: "give the name of a file",
    errno.ENOTDIR: "give a path whose folders are folders",
    errno.EEXIST: "give another name, or move it away",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit, for instance with `ulimit -n 4096`",
    errno.EAGAIN: "the system starts no more processes or threads: raise `ulimit -u`, or lower num_workers",
}
"""From the number of an error of the system to what to do about it."""
OF_MACHINE = (
    (
        r"MemoryError|can't allocate|[Cc]annot allocate|bad_alloc|malloc|out of memory|ALLOC_FAILED|OutOfMemoryError|"
        r"could not create a primitive|can't start new thread|failed to map segment",
        "not enough memory: make the batches or the model smaller, or end other programs",
    ),
    (r"PytorchStreamWriter|unexpected pos \d+ vs|iostream error", f"a checkpoint could not be written, is the disk full? {FULL}"),
    (r"\bshm\b|[Ss]hared memory|SIGBUS", "not enough shared memory (/dev/shm): enlarge it, or give num_workers 0"),
    (
        r"DataLoader worker.* (killed by signal|exited unexpectedly)",
        "a process that loads data was killed, mostly for want of memory: lower num_workers or the size of the batches",
    ),
    (
        r"^Dist\w*Error|/gloo/",
        "another process of this training has ended, its own last line says why: start all of them again with the same command, "
        "which goes on from the last checkpoint",
    ),
)
"""Patterns that tell what the machine lacks from the words of an error, of whatever library, and the line that is printed."""


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do about it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


class Parser(argparse.ArgumentParser):
    """The options of a command; a wrong one is a `UserError` like any other bad input. Names are not abbreviated.

    The usage line shows the command as it is typed, for instance `python -m results.pages` or `python transcribe.py`.
    """

    def __init__(self, **options: Any):
        module = getattr(sys.modules["__main__"], "__spec__", None)  # None in a script
        typed = f"python -m {module.name}" if module else f"python {os.path.basename(sys.argv[0])}"
        super().__init__(**{"prog": typed, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise UserError(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As that of argparse; an empty word, which would pass for what is not given, is an error."""
        for before, word in itertools.pairwise(["", *args]):
            if not word or (word.startswith("--") and word.endswith("=")):
                named = word or (
                    before if before.startswith("--") else f"the word after {before}" if before else "the first word"
                )
                raise UserError(f"{named} is empty: give a value, or is a variable of the shell not set?")
        return super().parse_known_args(args, namespace)


def complain(error: object) -> int:
    """Print one line about what the user can mend, in a process of several with its rank; returns the exit code."""
    rank = os.environ.get("RANK") if os.environ.get("WORLD_SIZE", "1") not in ("", "1") else None
    line = printable(" ".join(str(error).split()))
    with contextlib.suppress(OSError):  # nobody can be told of it
        print(f"error: {f'rank {rank}: ' if rank else ''}{line}", file=sys.stderr, flush=True)
    return MENDABLE


def printable(text: str) -> str:
    """A text in one line, without tabs: what cannot be printed as Python writes it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def exit_code(command: Callable[[Sequence[str]], int | None], arguments: Sequence[str], interrupted: str = "stopped") -> int:
    """Run a command, and turn what a user or the machine can do to it into one line and an exit code.

    Arguments
    ---------
    command : callable
        Takes the arguments; returns an exit code, or None for 0.
    arguments : sequence of str
        Words of the command line, without the name of the command.
    interrupted : str
        What is printed after Ctrl-C or SIGTERM: how to go on. Empty: nothing.

    Returns
    -------
    int
        What the command returned; 2 after bad input and where the machine lacks something (no permission, a full disk, too
        little memory); 130 after Ctrl-C; 141 when nobody reads the output any more; 143 after SIGTERM. 1 after an error that
        nobody foresaw; its traceback is in a file that the line names.

    Example
    -------
    >>> exit_code(lambda words: len(words), ["a", "b", "c"])
    3
    """
    _mend_streams()
    try:
        with _signals_as_exceptions():
            code = command(arguments) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return NOT_READ
    except KeyboardInterrupt as error:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except Exception as error:
        try:
            return _tell(error)
        except MemoryError:  # not even for that
            os.write(2, b"error: not enough memory\n")
            return MENDABLE
    finally:
        _give_up_closed_output()


def _tell(error: Exception) -> int:
    """Print the line about an error; returns the exit code."""
    if (line := mendable(error)) is not None:
        return complain(line)
    kind, words = original(error)
    complain(f"unforeseen {kind}: {words}; {_keep_traceback(error)}")
    return UNFORESEEN


def original(error: Exception) -> tuple[str, str]:
    """The kind and the words of an error; of one in a process that loads data, for which torch raises one whose words are a
    traceback, those of that one."""
    kind, words = type(error).__name__, str(error)
    if caught := re.search(r"Caught (\w+) in .*\nOriginal Traceback", words):
        kind = caught[1]
        words = re.split(rf"^(?:\w+\.)*{kind}(?:: |$)", words, flags=re.M)[-1]  # behind its last line of code
    return kind, words.strip()


def mendable(error: Exception) -> str | None:
    """What the user can do about an error, in a line; None if it is not one of those that a user can mend.

    Arguments
    ---------
    error : Exception
        A `UserError`, or what the machine made a library raise; from a process that loads data, too.

    Returns
    -------
    str or None

    Example
    -------
    >>> mendable(IsADirectoryError(21, "Is a directory", "results"))
    'results: is a directory: give the name of a file'
    >>> mendable(KeyError("wer")) is None
    True
    """
    kind, words = original(error)
    if isinstance(error, UserError) or kind == UserError.__name__:  # which may blame a file for what the machine lacks
        return _lacking(error.__cause__) or words
    if line := _lacking(error):
        return line
    if kind == "RecursionError":
        return "a file that was read is nested too deeply: give one that is not"
    if found := re.match(r"\[Errno (\d+)\] (.*?)(?:: (.*))?$", words, re.S):
        number, what, names = found.groups()
        names = re.sub(r"'(.*?)'", r"\1", names) if names else "the system says"
        return f"{names}: {what[:1].lower()}{what[1:]}" + (f": {OF_SYSTEM[int(number)]}" if int(number) in OF_SYSTEM else "")
    if isinstance(error, OSError):
        return f"{kind}: {words}"
    if kind == "ModuleNotFoundError":
        return f"{words}: install it, the README says with which extra (pip install -e '.[...]')"
    return None


def _lacking(error: BaseException | None) -> str | None:
    """The line of `OF_MACHINE` for an error, or for the one that it comes from."""
    if not isinstance(error, Exception):
        return None
    kind, words = original(error)
    if not isinstance(error, UserError) and kind != UserError.__name__:
        for pattern, line in OF_MACHINE:
            if re.search(pattern, f"{kind}: {words}"):
                return line
    return _lacking(error.__cause__)


def _keep_traceback(error: Exception) -> str:
    """Write the traceback of an error into a new file; where it is, in words."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="traceback-", suffix=".txt", delete=False, errors="replace") as file:
            file.writelines(traceback.format_exception(error))
        return f"please report it with the traceback, which is in {file.name}"
    except OSError as full:
        return f"its traceback could not be kept ({full})"


def _mend_streams() -> None:
    """Standard output and error that are closed go nowhere; letters that the terminal does not know are written as numbers."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def _give_up_closed_output() -> None:
    """Send what cannot be written to standard output nowhere, or Python would complain of it once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM be exceptions until the command has ended. SIGTERM still kills one process of several, which may
    wait for another where it would not notice."""

    def terminate(number: int, frame: object) -> NoReturn:
        raise Terminated

    handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if "WORLD_SIZE" not in os.environ:
        handlers[signal.SIGTERM] = terminate
    if threading.current_thread() is not threading.main_thread():  # which alone may set them
        handlers = {}
    mine = {number: handler for number, handler in handlers.items() if signal.getsignal(number) == signal.SIG_DFL}
    try:
        for number, handler in mine.items():
            signal.signal(number, handler)
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
