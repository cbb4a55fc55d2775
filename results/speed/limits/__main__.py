"""How near the attentions are to what is possible, beside other projects' layers and beside no attention at all; on a CPU.

    python -m results.speed.limits                    # measures what results/speed/limits.json lacks, prints, draws; 12 minutes
    python -m results.speed.limits --only core --again
    python -m results.speed.limits --report           # measures nothing: shows what is in the file

Layers go forward and backward in float32, with random weights, on noise; streams go packet by packet through a recognizer, with
each of its engines. All variants of a group are built in one process and take turns, every round in another order, and a ratio
is taken within a round. What a row is to reach, and what bounds it where it does not, stands in `rows.py`. Peers that are not
installed are left out: `pip install -e '.[peers,engines]'` brings them. The ratios to earlier code are those of
`results.speed.against`.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from recipes.command_line import Parser, exit_code
from recipes.text_table import table
from results.common import timing
from results.common.timing import count_flop, milliseconds, peak_bytes
from results.speed import against
from results.speed.limits import figures, rows
from results.speed.limits.layers import GROUPS, MEMORY, PACKAGES, installed
from results.speed.limits.streams import GROUPS as STREAMS
from results.speed.measure import clear, infer, train

OUTPUT = Path(__file__).parents[1] / "limits.json"
SECONDS = 8  # that the rounds of a group take at one length, about, if it is not more for `ROUNDS`,
ROUNDS = 7, 25  # which are how many there are at least and at most
TURN_MS = 50  # about how long a turn of a stream lasts: short calls are repeated


def rounds(seconds, repeats):
    """How many rounds there are if one takes so long."""
    least, most = ROUNDS
    return repeats or max(least, min(most, int(SECONDS / seconds)))


def first_runs(subjects, title):
    """All subjects, with a bar: the first run of each is also its warm-up."""
    return tqdm(subjects, f"{title}: first runs", unit="run", disable=not sys.stderr.isatty(), leave=False)


def operations(make):
    """Floating-point operations of forward and backward, counted without computing anything."""
    with torch.device("meta"):
        subject = make()
        return count_flop(lambda: subject.forward().sum().backward())


def measure_layers(name, frames, repeats):
    """A group of `layers.GROUPS` at one length, forward and backward in turn: a cell for each variant."""
    group, subjects, seconds = GROUPS[name], [], 0.0
    torch.manual_seed(0)
    for variant in first_runs(group.names(), f"{name}, {frames} frames"):
        make = partial(group.variants[variant], frames=frames, **group.shape)
        subject = make()
        gradient = torch.randn_like(infer(subject))
        seconds += milliseconds("cpu", train, subject, gradient) / 1000
        clear(subject)
        cell = {"group": name, "variant": variant, "frames": frames, "gflop": operations(make) / 1e9, "ms": []}
        subjects.append((subject, gradient, cell))

    def turn(one):
        subject, gradient, cell = one
        cell["ms"].append(round(milliseconds("cpu", train, subject, gradient), 3))
        clear(subject)

    timing.take_turns(subjects, rounds(seconds, repeats), f"{name}, {frames} frames", turn)
    return [cell for *_, cell in subjects]


def measure_memory(frames, _):
    """The most memory that forward and backward take, beside the parameters, at one length; it needs no rounds."""
    cells = []
    for variant in first_runs(MEMORY.names(), f"memory, {frames} frames"):
        subject = MEMORY.variants[variant](frames=frames, **MEMORY.shape)
        peak = peak_bytes("cpu", train, subject, torch.ones_like(infer(subject)))
        cells.append({"group": "memory", "variant": variant, "frames": frames, "peak_mib": round(peak / 2**20, 3)})
    return cells


def measure_streams(name, repeats):
    """A group of `streams.GROUPS` in turn; cells with `ms`, those of one packet, and `mib`, of the weights that it reads."""
    subjects, seconds = [], 0.0
    for (variant, frames), streamed in first_runs(STREAMS[name].make().items(), name):
        streamed.call()
        took = milliseconds("cpu", streamed.call)
        cell = {"group": name, "variant": variant, "frames": frames, "mib": streamed.mib, "ms": []}
        calls = max(1, ceil(TURN_MS / took))
        seconds += calls * took / 1000
        subjects.append((streamed.call, calls, {key: value for key, value in cell.items() if value is not None}))

    def turn(subject):
        call, calls, cell = subject
        cell["ms"].append(round(milliseconds("cpu", lambda: [call() for _ in range(calls)]) / calls, 4))

    timing.take_turns(subjects, rounds(seconds, repeats), name, turn)
    return [cell for *_, cell in subjects]


class Part(NamedTuple):
    """What is measured at once: variants of a group, at one length or, in streams, with packets of several lengths."""

    group: str
    frames: int | None
    variants: list[str]
    measure: Callable[[int | None], list[dict]]

    def holds(self, cell):
        return cell["group"] == self.group and self.frames in (None, cell.get("frames"))


def parts():
    """All parts, in the order in which they are measured and stand in the file."""
    for name, group in GROUPS.items():
        for frames in group.frames:
            yield Part(name, frames, group.names(), partial(measure_layers, name, frames))
    for frames in MEMORY.frames:
        yield Part("memory", frames, MEMORY.names(), partial(measure_memory, frames))
    for name, group in STREAMS.items():
        yield Part(name, None, group.names(), partial(measure_streams, name))


def fill(path, options):
    """Measure what is missing in a file."""
    results, commit = timing.begin(path, {"device": "cpu", "threads": options.threads})
    everything = list(parts())
    for number, part in enumerate(everything):
        old = [cell for cell in results["cells"] if part.holds(cell)]
        if part.group not in options.only or (not options.again and {cell["variant"] for cell in old}.issuperset(part.variants)):
            continue
        new = [{**cell, "commit": commit} for cell in part.measure(options.repeats)]
        cells = [cell for cell in results["cells"] if cell not in old]
        place = sum(any(earlier.holds(cell) for earlier in everything[:number]) for cell in cells)
        results["cells"] = cells[:place] + new + cells[place:]
        timing.save(path, results)


def command(arguments):
    """Measure, print, draw."""
    names = list(dict.fromkeys(part.group for part in parts()))
    parser = Parser(
        prog="python -m results.speed.limits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="groups; default: all")
    parser.add_argument("--repeats", type=timing.positive, help="rounds; default: {} to {}, by their time".format(*ROUNDS))
    timing.add_options(parser, output=OUTPUT, devices=("cpu",))
    parser.set_defaults(threads=1)
    options = parser.parse_args(arguments)
    if not options.report:
        for variant, (package, extra) in PACKAGES.items():
            if not installed(variant):
                tqdm.write(f"{variant} is left out: pip install -e '.[{extra}]' brings {package}")
        fill(options.output, options)
    with timing.measured(options.output) as results:
        cells = rows.cells_of(results, timing.load(against.OUTPUT))
        print(f"{rows.conditions(results, cells)}\n\n{table(rows.table_rows(cells))}")
        figures.draw(results, options.output.parent)


main = partial(exit_code, command, interrupted="stopped: the same command goes on from what is in the file")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
