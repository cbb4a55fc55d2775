"""Commands of this project as a user runs them: each in a process of its own, forked from one that has imported torch."""

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

LONGEST = 60
"""Seconds after which a command counts as hanging."""
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["torch._dynamo", "matplotlib.figure", "setuptools", "train", "transcribe", "recipes.LibriSpeech.inference.export"]
)


@dataclass
class Ended:
    """How a command ended.

    Arguments
    ---------
    code : int
        Exit code; -N after signal N.
    out, err : str
        What it wrote.
    """

    code: int
    out: str
    err: str

    @property
    def errors(self):
        """Its lines about what the user can mend."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def traceback(self):
        """Whether it wrote one."""
        return "Traceback" in self.err + self.out or re.search(r'^ *File ".*", line \d+', self.err, re.M) is not None


class Started:
    """A command that runs.

    Arguments
    ---------
    module : str
        Its module: `train`, `results.speed.measure`, ...
    arguments : list of str
    folder : Path
        Where it runs; what it writes to the terminal goes into a file beside this folder.
    environment : dict
        Variables that are set for it; None takes one away.
    stdin : Path or int or None
        A file or a pipe that it reads.
    limits : dict
        From a limit of `resource`, such as `RLIMIT_FSIZE`, to its value.
    inside : callable
        Is called in the process first: a `functools.partial` of a function of a module.
    """

    def __init__(self, module, arguments, folder, environment=None, stdin=None, limits=None, inside=None):
        folder = Path(folder)
        number = len(list(folder.parent.glob("*.err")))
        self.paths = [folder.parent / f"{number}.{kind}" for kind in ("out", "err")]
        for path in self.paths:
            path.touch()
        words = [str(word) for word in arguments]
        setting = environment or {}, str(stdin or os.devnull), limits or {}, inside
        task = (module, words, str(folder), *setting, *map(str, self.paths))
        self.process = SERVER.Process(target=_become, args=task)
        self.process.start()

    @property
    def err(self):
        """What it wrote to standard error so far."""
        return self.paths[1].read_text(errors="replace")

    def kill(self, sign=signal.SIGKILL):
        """Send a signal to it and, as a terminal or the kernel would, to all its children."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            wait_for(lambda: os.getpgid(self.process.pid) == self.process.pid)
            os.killpg(self.process.pid, sign)

    def wait(self, seconds=LONGEST):
        """Wait for its end; an AssertionError, after a kill, if it takes longer."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.kill()
            self.process.join()
            raise AssertionError(f"still running after {seconds} s; it wrote: {self.err[-2000:]}")
        out, err = (path.read_text(errors="replace") for path in self.paths)
        return Ended(self.process.exitcode, out, err)


def run(module, arguments, folder, seconds=LONGEST, **options):
    """Run a command to its end; see `Started`."""
    return Started(module, arguments, folder, **options).wait(seconds)


def wait_for(condition, seconds=LONGEST):
    """Wait until a condition holds; an AssertionError if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.02)


def _become(module, arguments, folder, environment, stdin, limits, inside, out, err):
    """In the forked process: take the place of `python -m MODULE ARGUMENTS`."""
    import resource

    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the default, where a forked process has that of its server
    os.chdir(folder)
    sys.path.insert(0, folder)  # as `python -m` does
    for name, value in environment.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    for number, path, mode in ((0, stdin, os.O_RDONLY), (1, out, os.O_WRONLY | os.O_APPEND), (2, err, os.O_WRONLY | os.O_APPEND)):
        os.dup2(os.open(path, mode), number)
    sys.stdin = open(0, closefd=False)  # the interpreter of a forked process has another
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.argv = [module, *arguments]
    if inside:
        inside()
    sys.exit(import_module(module).main(arguments))
