"""What a program runs on: versions of the libraries, hardware, peak memory, and the git commit of the code."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """What a run ran on: versions of the libraries, hardware, and the git commit of the code.

    Returns
    -------
    dict
        Plain values for JSON. `cuda` is the version that torch was built for, `gpu` the device found (either may be
        None); `git` is None outside a checkout that tracks this file.

    Example
    -------
    >>> sorted(environment())
    ['cores', 'cpu', 'cuda', 'git', 'gpu', 'memory_gib', 'os', 'versions']
    """
    packages = ("torch", "torchaudio", "speechbrain", "hyperpyyaml", "jiwer")
    versions = {name: importlib.metadata.version(name) for name in packages}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "versions": {"python": platform.python_version(), **versions},
        "os": platform.platform(),
        "cpu": _proc("cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": torch.get_num_threads(),
        "memory_gib": round(memory / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "git": _git_state(Path(__file__).resolve()),
    }


def peak_memory_mib(device: "str | torch.device" = "cpu") -> float:
    """Peak memory of this process so far.

    Arguments
    ---------
    device : str or torch.device
        A CUDA device: the most that tensors have occupied on it. Otherwise: the largest resident set of the process.

    Returns
    -------
    float
        Mebibytes.

    Example
    -------
    >>> peak_memory_mib() > 1
    True
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if held := _proc("self/status", "VmHWM"):  # in KiB; on Linux `getrusage` starts from the peak of this process' parent
        return int(held.split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, KiB elsewhere


def _proc(file: str, name: str) -> str | None:
    """What Linux says under a name in a file of /proc; None elsewhere."""
    path = Path("/proc", file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _git_state(file: Path) -> dict[str, Any] | None:
    """Commit of the checkout that tracks a file, and whether anything differs from it; None without one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # a package inside another project's checkout is not its code
        return {"commit": git("rev-parse", "HEAD"), "dirty": git("status", "--porcelain") != ""}
    except (OSError, subprocess.CalledProcessError):
        return None
