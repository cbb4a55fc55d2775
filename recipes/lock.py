"""A folder for one process at a time."""

import contextlib
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from speechbrain.utils.distributed import ddp_broadcast, if_main_process

from recipes.command_line import UserError, mendable

LOCK = "train.lock"
"""The file that a training holds while it works in the folder."""
WRITTEN = ".hyperparams.yaml", ".summary.json", ".env.log", ".utterances-*", "manifests/.*", "pretrain/.*", "finetune/.*"
"""What a start that was killed may have left half of, see `files.write_bytes`. Nothing else in the folder is touched."""


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep a folder for this start of train.py alone; the main process of several does it for all.

    A lock ends with its process, however that ends. It holds between machines where their file system has the locks of
    POSIX, as NFS has; where it has none, nothing is locked.

    Arguments
    ---------
    folder : Path
        Made if it is not there; removed at the end if it is empty then.

    Raises
    ------
    UserError
        If another process has the folder.
    """
    path, made = folder / LOCK, [each for each in (folder, *folder.parents) if not each.exists()]
    file, problem = None, None
    if if_main_process():
        try:
            file = _locked(path)
            for leftover in itertools.chain(*(folder.glob(f"{name}.*.tmp") for name in WRITTEN)):
                leftover.unlink(missing_ok=True)
        except (UserError, OSError) as error:
            problem = mendable(error)
    problem = ddp_broadcast(problem)
    if problem:
        raise UserError(problem)
    try:
        yield
    finally:
        if file:
            with contextlib.suppress(OSError):
                path.unlink()
                for each in made:
                    each.rmdir()
            file.close()


def _locked(path: Path) -> TextIO:
    """A file that this process has locked, with its number, machine and time in it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            owner = file.read() or "another process"
            file.close()
            raise UserError(f"{path.parent} is in use by {owner}: wait for its end, or give another --output_folder") from error
        except OSError:  # a file system without locks
            pass
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # its owner has ended, and removed it, since it was opened
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    file.flush()
    return file
