"""Time and memory of the attentions against length, in the shape of the medium scale (Conformer-M).

    python -m results.speed.measure                                   # all that is missing in results/speed.json; draws speed.png
    python -m results.speed.measure --only modules --lengths 1024 --again
    python -m results.speed.measure --report                          # measures nothing: tables, verdicts and figure of the file

One utterance, forward (without gradients) and forward + backward. All variants of a group at a length are built in one
process and take turns, in another order each round, so that what else the machine does meets all of them; compared are the
times of the same round. Optimiser and loss, which are the same for all, are left out. Peak memory is that of the tensors
that forward and backward make, gradients counted, parameters not. What is in the file is kept.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from recipes.command_line import Parser, UserError
from recipes.LibriSpeech import experiment
from results.common.timing import begin, load, milliseconds, peak_bytes, positive, save, take_turns
from results.speed import figure, report
from results.speed.variants import LENGTHS, build, names

ROOT = Path(__file__).parents[2]
SCALE = "medium"
SECONDS = 25  # of a length, if `--repeats` is not given: as many rounds as that takes
ROUNDS = 5, 25  # at least, at most


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
        See `speed_variants.build`.
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

    take_turns(list(zip(subjects, gradients, cells)), rounds, title, turn)
    return cells


def fill(path, options):
    """Measure what is missing in a file."""
    results, commit = begin(path, {"scale": SCALE, "device": options.device, "threads": options.threads})
    shape, _ = experiment.load(ROOT / "hparams" / "aa.yaml", f"scale: {SCALE}")
    for group in options.only or LENGTHS:
        for frames in options.lengths or LENGTHS[group]:
            there = {cell["variant"] for cell in results["cells"] if (cell["group"], cell["frames"]) == (group, frames)}
            if there.issuperset(names(group, frames)) and not options.again:
                continue
            cells = [cell for cell in results["cells"] if (cell["group"], cell["frames"]) != (group, frames)]
            cells += [{**cell, "commit": commit} for cell in measure(group, frames, shape, options.device, options.repeats)]
            results["cells"] = sorted(cells, key=lambda cell: (list(LENGTHS).index(cell["group"]), cell["frames"]))
            save(path, results)


def main(arguments):
    """Measure, print, draw; 0, or 1 if a bound does not hold, or 2 after one line about what the user can mend."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LENGTHS, help="groups; default: all")
    parser.add_argument("--lengths", nargs="+", type=positive, help="frames of 40 ms; default: those of each group")
    parser.add_argument("--repeats", type=positive, help="rounds; default: {} to {}, by the time they take".format(*ROUNDS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="of the CPU; default: %(default)s")
    parser.add_argument("--again", action="store_true", help="measure also what is in the file")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "results" / "speed" / "speed.json", metavar="JSON", help="figure beside it"
    )
    try:
        options = parser.parse_args(arguments)
        if not options.report:
            fill(options.output, options)
        results = load(options.output)
        if not results or not results["cells"]:
            raise UserError(f"nothing is measured in {options.output}")
        figure.draw(results, options.output.with_suffix(".png"))
    except (UserError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    lines, hold = report.verdicts(results)
    print(report.tables(results), *lines, sep="\n")
    return 0 if hold else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
