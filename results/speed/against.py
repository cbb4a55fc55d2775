"""The speed of today's code over that of an earlier commit: training steps and streaming steps, with random weights on noise.

    python -m results.speed.against v1.0                                # measures what results/speed/against.json lacks
    python -m results.speed.against HEAD~3 --only train-mini-sa stream-mini-llsa --output mini.json
    python -m results.speed.against v1.0 --report                       # measures nothing: shows what is in the file

A subject is `train-SCALE-YAML`, a step of CTC fine-tuning with a YAML of hparams/ (forward, backward, clipping, optimiser), or
`stream-SCALE-YAML`, a frame through the recognizer. Two processes, one with each code, take turns, and only one of them works at
a time; ratios are those of the same round. What comes out of a call and how many operators of torch it runs are compared, too.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial
from math import ceil
from pathlib import Path

from recipes.command_line import Parser, UserError, exit_code
from recipes.text_table import table
from results import ROOT
from results.common import timing
from results.common.timing import in_words, quartiles

OUTPUT = Path(__file__).with_name("against.json")
WORKER = Path(__file__).with_name("worker.py").read_text()
SUBJECTS = "train-cpu-sa", "stream-mini-sa", "stream-mini-llsa", "stream-base-sa", "stream-base-llsa"
TURN_MS = 300  # about how long a turn lasts: short calls are repeated


def unpack(commit, folder):
    """Write the files of a commit into a folder."""
    done = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True)
    if done.returncode:
        raise UserError(f"git knows no commit {commit}: {done.stderr.decode(errors='replace')}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


@contextmanager
def worker(tree, options):
    """A process that measures with the code of a tree: a function from a request to the answer, see `worker.measure`."""
    command = [sys.executable, "-c", WORKER, json.dumps(options)]  # so that the first place of imports is the tree
    paths = os.pathsep.join(str(Path(tree, name)) for name in ("", ".types"))  # .types has modules/ under its import name
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tree, env={**os.environ, "PYTHONPATH": paths}, **pipes) as process:

        def ask(subject, calls=1, count=False):
            process.stdin.write(json.dumps({"subject": subject, "calls": calls, "count": count}) + "\n")
            process.stdin.flush()
            if answer := process.stdout.readline():
                return json.loads(answer)
            raise UserError(f"the code in {tree} has no {subject}, see above")

        try:
            yield ask
        finally:
            process.kill()


def measure(subject, sides, rounds):
    """A subject with both codes, in turn.

    Arguments
    ---------
    subject : str
    sides : dict
        `before` and `after`, each a function of `worker`.
    rounds : int

    Returns
    -------
    dict
        A cell: `ms` and `cpu_ms` of each side, a number for each round; of each side `operators`, and `value` of the last call.
    """
    kind, scale, yaml = subject.split("-", 2)
    cell = {"group": f"{kind}-{scale}", "variant": yaml, "calls": 1}
    for side in sides:
        cell[side] = {"ms": [], "cpu_ms": [], "operators": sides[side](subject, count=True)["operators"]}
        cell["calls"] = max(cell["calls"], ceil(TURN_MS / sides[side](subject)["ms"]))

    def turn(side):
        answer = sides[side](subject, cell["calls"])
        for clock in ("ms", "cpu_ms"):
            cell[side][clock].append(round(answer[clock], 3))
        cell[side]["value"] = answer["value"]

    timing.take_turns(list(sides), rounds, subject, turn)
    return cell


def fill(path, options):
    """Measure what is missing in a file."""
    conditions = {"against": options.commit, **{key: getattr(options, key) for key in ("device", "threads", "seconds")}}
    results, commit = timing.begin(path, conditions)
    with tempfile.TemporaryDirectory() as earlier, tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        unpack(options.commit, earlier)
        trees = {"before": earlier, "after": str(ROOT)}
        sides = {side: processes.enter_context(worker(tree, {**conditions, "folder": folder})) for side, tree in trees.items()}
        for subject in options.only:
            there = timing.find(results)
            cells = [cell for key, cell in there.items() if "-".join(key) != subject]
            if len(cells) < len(there) and not options.again:
                continue
            results["cells"] = sorted(
                [*cells, {**measure(subject, sides, options.repeats), "commit": commit}],
                key=lambda cell: (cell["group"], cell["variant"]),
            )
            timing.save(path, results)


def ratio(cell, clock="ms"):
    """Quartiles of the times of today's code over those of the earlier one.

    Example
    -------
    >>> ratio({"before": {"ms": [2, 4, 2]}, "after": {"ms": [1, 2, 1]}})
    array([0.5, 0.5, 0.5])
    """
    return quartiles(cell["after"][clock], cell["before"][clock])


def text(results):
    """The table for the terminal."""
    rows = [
        {
            "step": f"{cell['group']}-{cell['variant']}",
            "before": in_words(quartiles(cell["before"]["ms"]), 1, " ms"),
            "ratio": in_words(ratio(cell), 2),
            "of processor time": in_words(ratio(cell, "cpu_ms"), 2),
            "operators": f"{cell['before']['operators']} -> {cell['after']['operators']}",
            "result": f"{cell['before']['value']:.6g} -> {cell['after']['value']:.6g}",
        }
        for cell in results["cells"]
    ]
    return f"today's code over {results['against']}, {timing.measured_on(results)}\n\n{table(rows)}"


def subject_of(name):
    """A subject, for argparse."""
    if name.count("-") < 2 or name.split("-")[0] not in ("train", "stream"):
        raise argparse.ArgumentTypeError(f"{name} must be train-SCALE-YAML or stream-SCALE-YAML")
    return name


def command(arguments):
    """Measure and print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="whatever git calls a commit: a hash, a tag, HEAD~3")
    parser.add_argument("--only", nargs="+", type=subject_of, default=SUBJECTS, help=f"default: {' '.join(SUBJECTS)}")
    parser.add_argument("--seconds", type=timing.positive, default=48, help="of audio in a training batch; default: %(default)s")
    parser.add_argument("--repeats", type=timing.positive, default=7, help="rounds; default: %(default)s")
    timing.add_options(parser, output=OUTPUT)
    options = parser.parse_args(arguments)
    if not options.report:
        fill(options.output, options)
    with timing.measured(options.output) as results:
        print(text(results))


main = partial(exit_code, command, interrupted="stopped: the same command goes on from what is in the file")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
