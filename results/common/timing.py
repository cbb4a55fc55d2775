"""What the commands that measure speed share: time and memory of a call, the file that keeps them, and ratios.

A file holds `cells`, one for each variant, and what they were measured on. A cell's times are a list, one for each round; in a
round all variants take turns, so a ratio of two variants is taken round by round, and its median and quartiles are shown.
"""

import argparse
import json
import time
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from recipes import files, machine
from recipes.command_line import UserError

KEYS = "group", "variant", "frames"
"""The entries by which a cell is found; a group whose length is always the same has no `frames`."""


def milliseconds(device, function, *arguments):
    """Milliseconds that one call takes; on `cuda` until the device has done all of it."""
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronise()
    start = time.perf_counter()
    function(*arguments)
    synchronise()
    return 1000 * (time.perf_counter() - start)


def peak_bytes(device, function, *arguments):
    """The most bytes that the tensors which a call makes occupy at the same time, as PyTorch's allocator counts them.

    Example
    -------
    >>> x = torch.ones(1000)
    >>> peak_bytes("cpu", lambda: (x + 1) + (x + 2))  # three tensors of float32 at the last addition
    12000
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(*arguments)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        function(*arguments)
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def count_flop(function, *arguments):
    """Floating-point operations of a call, recomputed activations counted.

    Example
    -------
    >>> count_flop(torch.nn.Linear(4, 8, bias=False), torch.ones(2, 4))  # a multiplication and an addition each
    128
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # fused kernels of the CPU are not counted
        function(*arguments)
    return counter.get_total_flops()


def take_turns(subjects, repeats, title, measure):
    """Call `measure(subject)` for all subjects in `repeats` rounds; each round begins with the next subject."""
    order = [subjects[(i + turn) % len(subjects)] for turn in range(repeats) for i in range(len(subjects))]
    for subject in tqdm(order, title, unit="run", disable=None, leave=False):
        measure(subject)


def find(results):
    """The cells of a file by their group, variant and, where they have one, length in frames.

    Example
    -------
    >>> list(find({"cells": [{"group": "stream", "variant": "SA", "rtf": {}}]}))
    [('stream', 'SA')]
    """
    return {tuple(cell[key] for key in KEYS if key in cell): cell for cell in results["cells"]}


def quartiles(above, below=1):
    """First quartile, median and third quartile of numbers, or of their ratios to those of the same rounds.

    Example
    -------
    >>> quartiles([2, 3, 8], [4, 4, 4])
    array([0.625, 0.75 , 1.375])
    """
    return np.quantile(np.divide(above, below), [0.25, 0.5, 0.75])


def in_words(three, digits, unit=""):
    """A median with its quartiles behind it.

    Example
    -------
    >>> in_words(quartiles([2, 3, 8]), 1, " ms")
    '3.0 ms [2.5, 5.5]'
    """
    low, middle, high = (f"{value:.{digits}f}" for value in three)
    return f"{middle}{unit} [{low}, {high}]"


def short(value, digits=2):
    """A number in so many digits, or whole where it has as many.

    Example
    -------
    >>> short(2.345), short(123.45), short(2.345, digits=3)
    ('2.3', '123', '2.35')
    """
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def measured_on(results):
    """The device of a file, and torch, in words.

    Example
    -------
    >>> measured_on({"device": "cpu", "threads": 2, "environment": {"cpu": "AMD EPYC", "versions": {"torch": "2.14"}}})
    'AMD EPYC, 2 threads, torch 2.14'
    """
    environment, threads = results["environment"], results["threads"]
    device = environment["gpu"] if results["device"] == "cuda" else f"{environment['cpu']}, {threads} thread{'s' * (threads > 1)}"
    return f"{device}, torch {environment['versions']['torch']}"


def add_options(parser, output, devices=("cpu", "cuda")):
    """Give a parser the options that all commands have; `output` is where results go if `--output` is not given."""
    parser.add_argument("--device", choices=devices, default="cpu")
    parser.add_argument(
        "--threads", type=partial(positive, most=1024), default=torch.get_num_threads(), help="of the CPU; default: %(default)s"
    )
    parser.add_argument("--again", action="store_true", help="measure also what is in the file")
    parser.add_argument("--report", action="store_true", help="measure nothing, show what is in the file")
    parser.add_argument("--output", type=Path, default=output, metavar="JSON", help=f"default: results/speed/{output.name}")


def positive(text, most=10**6):
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or not 1 <= int(text[:20]) <= most:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 1 or more, at most {most}")
    return int(text)


def begin(path, conditions):
    """What measuring goes on from: the results in a file, or empty ones.

    Arguments
    ---------
    path : Path
        The JSON file, which need not exist.
    conditions : dict
        All that decides the numbers beside the machine: `device`, `threads` and more.

    Returns
    -------
    results : dict
        `conditions`, `environment` and `cells`.
    commit : str or None
        The commit whose code measures the new cells; None outside a git checkout.

    Raises
    ------
    UserError
        If the device is not there, or the file was measured under other conditions.
    """
    files.to_write(str(path))
    if conditions["device"] == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is none")
    torch.set_num_threads(conditions["threads"])
    environment = machine.environment()
    results, before = {**conditions, "environment": environment, "cells": []}, load(path)
    if before:
        flat = [{**old_or_new["environment"], **old_or_new} for old_or_new in (before, results)]
        differ = [key for key in sorted(flat[1].keys() - {"git", "environment", "cells"}) if flat[0].get(key) != flat[1][key]]
        if differ:  # two machines, or other options
            raise UserError(f"{path} was measured with another {', '.join(differ)}: give another --output, or delete it")
    return before or results, environment["git"] and environment["git"]["commit"][:12] + "+" * environment["git"]["dirty"]


def load(path):
    """The results in a file, None if it is not there."""
    try:
        with files.content_of(path) as results:
            _ = find(results), results["environment"].items()
            return results
    except FileNotFoundError:
        return None
    except UserError as error:
        raise UserError(f"{path} holds no measurements of this command: give another --output ({error})") from error


@contextmanager
def measured(path):
    """The results in a file, of which there must be some, to be used in a `with`: see `files.content_of`."""
    results = load(path)
    if not results or not results["cells"]:
        raise UserError(f"nothing is measured in {path}: run the command without --report")
    with files.content_of(path):
        yield results


def save(path, results):
    """Write the results, one line for each cell."""
    cells = ",\n".join(f"    {json.dumps(cell)}" for cell in results["cells"])
    head = json.dumps({**results, "cells": []}, indent=2)
    files.write_text(path, head.replace('"cells": []', f'"cells": [\n{cells}\n  ]') + "\n")
