"""What the commands that measure speed share: time and memory of a call, the file that keeps what was measured."""

import argparse
import json
import sys
import time
from itertools import accumulate

import torch
from tqdm import tqdm

from recipes import files, machine
from recipes.command_line import UserError


def milliseconds(device, function, *arguments):
    """Time of one call."""
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronise()
    start = time.perf_counter()
    function(*arguments)
    synchronise()
    return 1000 * (time.perf_counter() - start)


def peak_bytes(device, function, *arguments):
    """The most that the tensors which a call makes occupy at a time, as PyTorch's allocator counts them.

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


def take_turns(subjects, repeats, title, measure):
    """`measure(subject)` for each, `repeats` times, each round beginning with another one."""
    bar = tqdm(desc=title, total=repeats * len(subjects), unit="run", disable=not sys.stderr.isatty(), leave=False)
    for turn in range(repeats):
        for i in range(len(subjects)):
            measure(subjects[(i + turn) % len(subjects)])
            bar.update()
    bar.close()


def load(path):
    """The results in a file, None if it is not there."""
    try:
        results = json.loads(path.read_text())
        _ = results["cells"], results["environment"]
        return results
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} holds no measurements of this command: give another --output") from error


def same_conditions(path, before, now):
    """Refuse to put measurements of two machines into one file."""
    flat = [{**results["environment"], **results} for results in (before, now)]
    differ = [key for key in sorted(flat[1].keys() - {"git", "environment", "cells"}) if flat[0].get(key) != flat[1][key]]
    if differ:
        raise UserError(f"{path} was measured with another {', '.join(differ)}: give another --output, or delete it")


def begin(path, conditions):
    """What measuring goes on from: the results in a file, or empty ones, and the commit that the new cells are of.

    Arguments
    ---------
    path : Path
    conditions : dict
        All that decides the numbers beside the machine: `device`, `threads` and more.
    """
    if conditions["device"] == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is none")
    torch.set_num_threads(conditions["threads"])
    environment = machine.environment()
    results, before = {**conditions, "environment": environment, "cells": []}, load(path)
    if before:
        same_conditions(path, before, results)
    return before or results, environment["git"] and environment["git"]["commit"][:12] + "+" * environment["git"]["dirty"]


def save(path, results):
    """Write the results, one line for each cell."""
    cells = ",\n".join(f"    {json.dumps(cell)}" for cell in results["cells"])
    head = json.dumps({**results, "cells": []}, indent=2)
    files.write_text(path, head.replace('"cells": []', f'"cells": [\n{cells}\n  ]') + "\n")


def positive(text):
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 1 or more")
    return int(text)
