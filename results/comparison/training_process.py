"""One training as a process of its own: alone in its folder, and never alive without the process that started it."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2)
GRACE_SECONDS = 10
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with(parent):
    """A function for the new process, before it becomes the trainer: Linux then kills it when `parent` ends, however."""

    def prepare():
        if LIBC is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # which ended before this
                os._exit(1)

    return prepare


class TrainingProcess:
    """A process that has begun, see `start`.

    Its folder has `reproduce.lock`, which the process itself holds as long as it lives, and `reproduce.log`, all that it
    and those before it have written.
    """

    def __init__(self, process, lock, log):
        self.process, self.lock, self.log = process, lock, log

    @classmethod
    def start(cls, folder, command, cwd, threads):
        """Start a command, or return None if another one is alive in the folder.

        Arguments
        ---------
        folder : Path
            Made if it is not there.
        command : list of str
        cwd : Path
        threads : int
            Of torch.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock, log = open(folder / "reproduce.lock", "w"), folder / "reproduce.log"
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to the parent alone, which then ends the whole group
                pass_fds=(lock.fileno(),),
                preexec_fn=_die_with(os.getpid()),
            )
        return cls(process, lock, log)

    def ended(self):
        """Whether the process is over."""
        return self.process.poll() is not None

    @property
    def succeeded(self):
        return self.process.returncode == 0

    @property
    def last_line(self):
        """The last line of the log, or what ended the process."""
        if self.process.returncode < 0:
            return f"killed by {signal.Signals(-self.process.returncode).name}"
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.process.returncode}"

    def release(self):
        """Give up the folder."""
        self.lock.close()

    def stop(self):
        """End the process and what it started."""
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        except ProcessLookupError:
            self.process.wait()
        self.release()
