"""The processes of one training, as torchrun starts them: how they find each other, and wait for the main one."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process
from torch import distributed

from recipes.command_line import UserError

JOIN_SECONDS = 50
"""How long processes wait at the start until all of them are there."""
TIMEOUT = timedelta(hours=2)
"""How long they then wait for each other, but for `main_first`. gloo notices at once when another process has ended."""
PLACE = "RANK", "LOCAL_RANK", "WORLD_SIZE"
ADDRESS = "MASTER_ADDR", "MASTER_PORT"

_calls = itertools.count()
_store: distributed.Store | None = None


def check() -> bool:
    """Whether this is one process of several, by the environment.

    Raises
    ------
    UserError
        If the variables that say so are incomplete, or no numbers that fit together.
    """
    if not set(PLACE) & os.environ.keys():
        return False
    hint = "start with torchrun, which sets them, or, for one process, unset RANK, LOCAL_RANK and WORLD_SIZE"
    values = {name: os.environ.get(name, "") for name in (*PLACE, *ADDRESS)}
    if missing := [name for name, value in values.items() if not value]:
        given = " ".join(f"{name}={os.environ[name]}" for name in values if name in os.environ)
        raise UserError(f"the environment has {given} but no value for {', '.join(missing)}: {hint}")
    for name in (*PLACE, "MASTER_PORT"):
        if not (values[name].isascii() and values[name].isdigit()):
            raise UserError(f"{name}={values[name]} in the environment is no whole number: {hint}")
    rank, local, size = (int(values[name]) for name in PLACE)
    if not local <= rank < size or not 0 < int(values["MASTER_PORT"]) < 2**16:
        said = ", ".join(f"{name}={values[name]}" for name in (*PLACE, "MASTER_PORT"))
        raise UserError(f"{said} in the environment do not fit together: {hint}")
    return True


def join(backend: str) -> None:
    """Wait for the other processes of this training, where `check` says that there are some.

    Arguments
    ---------
    backend : str
        How they talk to each other: nccl (a GPU each), gloo, or mpi.

    Raises
    ------
    UserError
        If the backend does not suit this machine, or the others are not there in `JOIN_SECONDS`.
    """
    local = int(os.environ["LOCAL_RANK"])
    if not getattr(distributed, f"is_{backend}_available")():
        raise UserError(f"--distributed_backend {backend} is not there in this PyTorch: give gloo, or nccl for GPUs")
    if backend == "nccl":
        if local >= torch.cuda.device_count():
            raise UserError(
                f"process {local} of this machine has no GPU, there are {torch.cuda.device_count()}: start fewer processes, "
                "or give --distributed_backend gloo, and --device cpu where there is none"
            )
        torch.cuda.set_device(local)
    address, port = (os.environ[name] for name in ADDRESS)
    try:
        socket.getaddrinfo(address, port)
    except OSError as error:
        raise UserError(f"MASTER_ADDR={address} in the environment is no machine that is known here: {error.args[-1]}") from error
    failed: list[Exception] = []
    thread = threading.Thread(target=_join, args=(backend, failed), daemon=True)  # in which a wait cannot be interrupted
    thread.start()
    thread.join(JOIN_SECONDS)
    if failed and "EADDRINUSE" in str(failed[0]):
        raise UserError(f"MASTER_PORT={port} in the environment is taken by another program: give another")
    if failed:
        raise UserError(f"cannot meet the other processes at {address}, port {port}: {failed[0]}")
    if thread.is_alive():
        raise UserError(
            f"not all {os.environ['WORLD_SIZE']} processes came to {address}, port {port} (MASTER_ADDR, MASTER_PORT) "
            f"in {JOIN_SECONDS} s: start all of them at once"
        )


def _join(backend: str, failed: list[Exception]) -> None:
    global _store
    try:
        _store, rank, size = next(distributed.rendezvous("env://", timeout=TIMEOUT))
        distributed.init_process_group(backend, store=_store, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        failed.append(error)


def main_first(function: Callable, *arguments: Any) -> Any:
    """The result of `function` on every process: the main one makes it, the others then find it made.

    That may take any time, hours of a download for instance; the others end when the main one does.
    """
    made = f"made {next(_calls)}"
    if _store is None:
        return function(*arguments)
    if distributed.get_rank():
        while not _store.check([made]):  # no barrier, which would end by `TIMEOUT`, and keep Ctrl-C out
            time.sleep(0.2)
    result = function(*arguments)
    if not distributed.get_rank():
        _store.set(made, "")
    return result


def tell(line: str, **options: Any) -> None:
    """Print a line, as `print` does, once for all processes."""
    if if_main_process():
        print(line, **options)
