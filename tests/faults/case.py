"""A bad or odd input, and what a command must make of it."""

import contextlib
import hashlib
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from string import Template

from tests.faults.process import run
from tests.recipes.tiny import ROOT, arguments

TRAIN = ["train", *(word.replace(str(ROOT), "$root") for word in arguments("$tree", "$here/run"))]
"""A training that takes seconds. An option that follows replaces one of its."""


@dataclass(frozen=True)
class Place:
    """Where a case finds things; `$name` in its command, and in the words of its answer, stands for the path.

    Arguments
    ---------
    here : Path
        The folder that the command runs in; what it leaves there is compared with what it may leave.
    tree : Path
        A LibriSpeech tree of noise, splits train-a, dev-b, test-c. Not to be written to.
    run : Path
        The folder of a finished training on it. Not to be written to: `copy_run` makes one that may.
    root : Path
        The folder of this project.
    """

    here: Path
    tree: Path
    run: Path
    root: Path = ROOT

    def fill_in(self, text):
        """A text with the paths that it stands for."""
        return Template(text).safe_substitute(vars(self))


@dataclass(frozen=True)
class Case:
    """One row of a table of bad inputs.

    Arguments
    ---------
    command : str
        As typed after `python -m`, in words of a shell; `TRAIN` stands for a whole training. `$here` and so on: see `Place`.
    words : tuple of str
        What its one line about the error must hold; without an error (code 0) what its output must.
    code : int
        Exit code.
    leaves : tuple of str
        Patterns of files that may be new or different afterwards, relative to `here`; all else must be as before.
    before : callable
        Takes the `Place` and makes the bad input.
    process : dict
        More for `process.Started`: environment, stdin, limits.
    """

    command: str
    words: tuple[str, ...] = ()
    code: int = 2
    leaves: tuple[str, ...] = ()
    before: Callable[[Place], object] | None = None
    process: dict = field(default_factory=dict)

    def __str__(self):
        return self.command


def copy_run(place):
    """Copy the finished training into the folder of the case."""
    shutil.copytree(place.run, place.here / "run")


def words_of(command, place):
    """The module and the options of a command as `Case` has it."""
    words = shlex.split(command)
    if words[0] == "TRAIN":
        pairs = zip(TRAIN[2:-1:2], TRAIN[3:-1:2])
        words[:1] = [*TRAIN[:2], *(word for pair in pairs if pair[0] not in words for word in pair), TRAIN[-1]]
    return [place.fill_in(word) for word in words]


def check(case, place):
    """Run a case: its exit code, its line, no traceback, no hang, and nothing on the disk that should not be there.

    Returns
    -------
    Ended
    """
    if case.before:
        case.before(place)
    before = contents(place.here)
    module, *options = words_of(case.command, place)
    ended = run(module, options, place.here, **case.process)
    said = f"exit code {ended.code}: {ended.err[-3000:]}"
    assert not ended.traceback, said
    assert ended.code == case.code, said
    if case.code == 2:
        assert len(ended.errors) == 1, said
    text = ended.errors[0] if case.code == 2 else ended.out + ended.err
    for words in case.words:
        assert place.fill_in(words) in text, f"no {words!r} in: {said}"
    after = contents(place.here)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not {name for name in changed if not any(fnmatch(name, pattern) for pattern in case.leaves)}
    return ended


def contents(folder):
    """From the path of each file and folder below `folder` to a digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        with contextlib.suppress(FileNotFoundError):  # a training that goes on beside the case has removed it
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest() if regular else "no file"
    return found
