"""Time and memory of the attentions against the length of the audio, in the shape of the medium scale (Conformer-M).

    python -m results.speed.measure --threads 2  # measures what results/speed/speed.json lacks, and draws speed.png
    python -m results.speed.measure --only modules --lengths 1024 --again
    python -m results.speed.measure --report     # measures nothing: tables, verdicts and figure of what is in the file

One utterance goes forward (without gradients), then forward and backward. All variants of a group are built in one process
and take turns at each length, every round in another order, so that whatever else the machine does meets all of them; only
times of the same round are compared. Loss and optimiser are left out: they are the same for all variants. Peak memory is
that of the tensors which forward and backward make; gradients count, parameters do not. Measurements in the file are kept.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from recipes.command_line import Parser, exit_code
from recipes.LibriSpeech import experiment
from results import ROOT
from results.common import timing
from results.common.timing import milliseconds, peak_bytes
from results.experiments import LENGTHS
from results.speed import figure, report
from results.speed.variants import build, names

OUTPUT = Path(__file__).with_name("speed.json")
SCALE = "medium"
SECONDS = 25  # that the rounds of a length take, about, if `--repeats` is not given,
ROUNDS = 5, 25  # and how many they are at least and at most


def train(subject, gradient):
    """Forward and backward; the gradients stay."""
    subject.forward().backward(gradient)


@torch.no_grad()
def infer(subject):
    return subject.forward()


def clear(subject):
    for tensor in (*subject.module.parameters(), *subject.leaves):
        tensor.grad = None


def measure(group, frames, shape, device="cpu", repeats=None):
    """All variants of a group at one length, in turn.

    Arguments
    ---------
    group : str
    frames : int
    shape : dict
        See `variants.build`.
    device : str
        `cpu` or `cuda`.
    repeats : int or None
        Rounds; None: as many as fit `SECONDS`.

    Returns
    -------
    list of dict
        A cell for each variant: `group`, `variant`, `frames`, `parameters`, `forward_ms` and `both_ms` (one number for each
        round), `peak_mib`.
    """
    variants = names(group, frames)
    torch.manual_seed(0)
    subjects = [build(group, name, frames, shape, device) for name in variants]
    gradients, cells = [], []
    title, start = f"{group}, {frames} frames", time.perf_counter()
    first = tqdm(variants, f"{title}: first runs", unit="run", disable=not sys.stderr.isatty(), leave=False)
    for name, subject in zip(first, subjects):  # also the warm-up
        gradients.append(torch.randn_like(infer(subject)))
        peak = peak_bytes(device, train, subject, gradients[-1])
        clear(subject)
        parameters = sum(parameter.numel() for parameter in subject.module.parameters())
        cells.append({"group": group, "variant": name, "frames": frames, "parameters": parameters})
        cells[-1].update(forward_ms=[], both_ms=[], peak_mib=round(peak / 2**20, 3))
    least, most = ROUNDS
    rounds = repeats or max(least, min(most, int(SECONDS / (time.perf_counter() - start))))

    def turn(one):
        subject, gradient, cell = one
        cell["forward_ms"].append(round(milliseconds(device, infer, subject), 3))
        cell["both_ms"].append(round(milliseconds(device, train, subject, gradient), 3))
        clear(subject)

    timing.take_turns(list(zip(subjects, gradients, cells)), rounds, title, turn)
    return cells


def fill(path, options):
    """Measure what is missing in a file."""
    results, commit = timing.begin(path, {"scale": SCALE, "device": options.device, "threads": options.threads})
    shape, _ = experiment.load(ROOT / "hparams" / "aa.yaml", f"scale: {SCALE}")
    for group in options.only or LENGTHS:
        for frames in options.lengths or LENGTHS[group]:
            there = {cell["variant"] for cell in results["cells"] if (cell["group"], cell["frames"]) == (group, frames)}
            if there.issuperset(names(group, frames)) and not options.again:
                continue
            cells = [cell for cell in results["cells"] if (cell["group"], cell["frames"]) != (group, frames)]
            cells += [{**cell, "commit": commit} for cell in measure(group, frames, shape, options.device, options.repeats)]
            results["cells"] = sorted(cells, key=lambda cell: (list(LENGTHS).index(cell["group"]), cell["frames"]))
            timing.save(path, results)


def command(arguments):
    """Measure, print, draw; 0, or 1 if a bound does not hold."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LENGTHS, help="groups; default: all")
    parser.add_argument("--lengths", nargs="+", type=timing.positive, help="frames of 40 ms; default: those of each group")
    parser.add_argument("--repeats", type=timing.positive, help="rounds; default: {} to {}, by their time".format(*ROUNDS))
    timing.add_options(parser, output=OUTPUT)
    options = parser.parse_args(arguments)
    if not options.report:
        fill(options.output, options)
    with timing.measured(options.output) as results:
        words, hold = report.text(results)
        figure.draw(results, options.output.with_suffix(".png"))
    print(words)
    return 0 if hold else 1


main = partial(exit_code, command, interrupted="stopped: the same command goes on from what is in the file")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
