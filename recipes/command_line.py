"""What all commands share: the one exception for what a user can mend, their options, and how they end."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

MENDABLE = 2
"""Exit code after a line about what the user can mend."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
NOT_READ = 141
"""Exit code when whoever reads the output, `head` for instance, has had enough."""


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do about it."""


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


def complain(error: object) -> int:
    """Print one line about what the user can mend; returns the exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return MENDABLE


def exit_code(command: Callable[[Sequence[str]], int | None], arguments: Sequence[str], interrupted: str = "stopped") -> int:
    """Run a command, and turn what a user or the machine can do to it into one line and an exit code.

    Arguments
    ---------
    command : callable
        Takes the arguments; returns an exit code, or None for 0.
    arguments : sequence of str
        Words of the command line, without the name of the command.
    interrupted : str
        What is printed after Ctrl-C: how to go on. Empty: nothing.

    Returns
    -------
    int
        What the command returned; 2 after bad input, no permission, a file where a folder should be, a full disk; 130 after
        Ctrl-C; 141 when nobody reads the output any more.

    Example
    -------
    >>> exit_code(lambda words: len(words), ["a", "b", "c"])
    3
    """
    try:
        return command(arguments) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_READ
    except (UserError, OSError) as error:
        return complain(error)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return INTERRUPTED
