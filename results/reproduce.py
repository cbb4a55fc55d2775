"""Trains and tests every experiment of the tables that has no result yet, then makes tables and figures anew.

    python -m results.reproduce --data_folder /path/to/LibriSpeech --scale cpu --jobs 2 --budget_minutes 60
    python -m results.reproduce --tables                    # tables and figures only, from the files

An experiment of results/experiments.py is, for each seed, one run of train.py with a folder in results/runs/. Its summary
becomes a file of the same name in results/measured/, which is what makes it finished. After any stop, by Ctrl-C, SIGKILL or
the end of the budget, the same command goes on: what is finished stays, what was in progress continues from its last
checkpoint. results/PROTOCOL.md says how the experiments are compared. The figures need matplotlib (`pip install
-e '.[figures]'`).
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.data import prepare
from recipes.LibriSpeech.decoding import beam_search
from recipes.LibriSpeech.summary import Summary
from results import ROOT, pages
from results.comparison.measured import TEST
from results.comparison.planned import plan, unfinished
from results.comparison.training_process import TrainingProcess
from results.experiments import SCALES, Experiment

POLL_SECONDS = 0.5


def work(todo, common, jobs, deadline, devices=(None,)):
    """Run what is to be done, `jobs` at a time, until it is done or `deadline` (of time.monotonic) has come.

    Returns
    -------
    dict
        Why a run failed, by its name.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    waiting, active, given, elsewhere, failed = list(todo), [], {}, [], {}  # active: (run, process); given: devices
    sure = sum(run.part_done() for run in todo)
    form = "{l_bar}{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}"
    bar = tqdm(total=len(todo), initial=sure, smoothing=0, bar_format=form, mininterval=1)

    def finish(run):
        """Take over the result of a run; whether it has one."""
        if result := run.collect(common):
            score = result.score(result.tests[0])
            tqdm.write(f"{run.name}: WER {score.wer:.1f} % [{score.low:.1f}, {score.high:.1f}]")
            pages.regenerate()
        return result is not None

    def device_for(run):
        """The setting, where devices are given: the one that has the fewest runs."""
        taken = [given[other.name] for other, _ in active]
        given[run.name] = min(devices, key=taken.count)
        return {"device": given[run.name]} if given[run.name] else {}

    def fail(run, why):
        failed[run.name] = why
        tqdm.write(f"{run.name}: failed: {why}")

    try:
        while (waiting or active) and time.monotonic() < deadline:
            busy = {run.name for run in waiting} | {run.name for run, _ in active}
            for run in [run for run in waiting if run.source not in busy]:
                if len(active) == jobs:
                    break
                waiting.remove(run)
                if finish(run):
                    continue
                if run.source in elsewhere:
                    elsewhere.append(run.name)
                elif run.source in failed or not run.ready(common):
                    fail(run, f"it needs the weights of {run.source}")
                elif process := TrainingProcess.start(run.folder, run.command({**common, **device_for(run)}), ROOT, threads):
                    active.append((run, process))
                else:
                    elsewhere.append(run.name)
                    tqdm.write(f"{run.name}: another process is at it")
            if not active:
                continue
            bar.n = len(todo) - len(waiting) - len(active) + sum(run.part_done() for run, _ in active)
            bar.set_postfix_str(", ".join(run.name for run, _ in active))
            time.sleep(POLL_SECONDS)
            for run, process in [(run, process) for run, process in active if process.ended()]:
                if not (process.succeeded and finish(run)):
                    fail(run, f"{process.last_line} (all of it: {process.log})")
                process.release()
                active.remove((run, process))
    finally:
        for _, process in active:
            process.stop()
        bar.close()
    return failed


def data_settings(options):
    """What all runs share: data, language model, precision, as far as they are given or found."""
    if options.data_folder is None:
        raise UserError("--data_folder is missing: give the folder that holds your LibriSpeech splits (or --tables)")
    there = prepare.splits_in(prepare.find_root(options.data_folder))
    train = options.train_splits or [split for split in ("train-clean-5", "train-clean-100") if split in there]
    if not train:
        raise UserError(f"{options.data_folder} has neither train-clean-5 nor train-clean-100: give --train_splits")
    dev = options.dev_splits or ["dev-mini" if "dev-mini" in there else "dev-clean"]
    if missing := [split for split in (*train, *dev, TEST) if split not in there]:
        raise UserError(f"{options.data_folder} has no split {', '.join(missing)}; there are {', '.join(there)}")
    common = {
        "data_folder": str(Path(options.data_folder).absolute()),
        "train_splits": train,
        "dev_splits": dev,
        "test_splits": [TEST],
        "codec": options.codec,
        "lm": options.lm and str(Path(options.lm).absolute()),
        "precision": options.precision,
    }
    return {key: value for key, value in common.items() if value is not None}


def reproduce(options):
    """Do what the options say. Returns the exit code."""
    if options.tables:
        return 0 if pages.regenerate() else 1
    for name, most in (("seeds", 1000), ("jobs", 1000), ("budget_minutes", float("inf"))):
        value = getattr(options, name)
        if value is not None and not 0 < value <= most:
            raise UserError(f"--{name} {value} must be above 0" + (f", and at most {most}" if most == 1000 else ""))
    deadline = time.monotonic() + 60 * (options.budget_minutes or float("inf"))
    for device in options.device or ():
        try:
            torch.device(device)
        except RuntimeError as error:
            raise UserError(f"no device {device}: give cpu, cuda, cuda:0, ...") from error
    if "LOCAL_RANK" in os.environ:
        raise UserError("start reproduce.py without torchrun, which would join its runs into one; torchrun is for train.py")
    common = data_settings(options)
    hparams, _ = Experiment("aa", "aa").load(scale=options.scale, **common)
    if options.lm is not None:
        beam_search.check(options.lm, hparams["lm_folder"])
    runs = plan(options.scale, options.only, options.seeds)
    there = [run for run in plan(options.scale) if run.measured.exists()]
    changed = [(run, keys) for run in there if (keys := run.changed(Summary.read(run.measured), common))]
    for run, keys in changed:
        print(f"{run.name}: measured with another {', '.join(keys)}; to measure it again delete {run.measured}")
    todo = unfinished(runs, common)
    apart = ", ".join(run.name for run, keys in changed if set(keys) - {"lm", "codec"})
    if todo and apart:
        raise UserError(f"no table could hold {apart} and new runs: delete those, or give what they were measured with")
    devices = options.device or [None]
    failed = work(todo, common, options.jobs or len(devices), deadline, devices) if todo else {}
    made = pages.regenerate()
    left = [run.name for run in runs if not run.measured.exists() and run.name not in failed]
    print(f"done: {sum(run.measured.exists() for run in runs)} of {len(runs)} runs")
    for words, names in (("failed", failed), ("left", left)):
        if names:
            print(f"{words}: {', '.join(names)}")
    return 1 if failed or not made else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", action="store_true", help="only make tables and figures anew")
    parser.add_argument("--data_folder", metavar="FOLDER", help="a LibriSpeech tree")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of results/experiments.py; default: all")
    parser.add_argument("--seeds", type=int, metavar="N", help="for each experiment; default: as results/experiments.py says")
    parser.add_argument("--budget_minutes", type=float, metavar="N", help="stop then; the same command goes on")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time, which share the cores; default: one a device")
    parser.add_argument("--train_splits", nargs="+", metavar="SPLIT", help="default: train-clean-5, train-clean-100, if there")
    parser.add_argument("--dev_splits", nargs="+", metavar="SPLIT", help="default: dev-mini if there, else dev-clean")
    parser.add_argument("--codec", help="what the audio went through, for the record")
    parser.add_argument("--lm", metavar="FILE", help="a language model for a second WER")
    parser.add_argument("--device", nargs="+", help="e.g. cuda:0; several share the runs: cuda:0 cuda:1")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), help="default: that of the scale")
    return parser.parse_args(arguments)


def command(arguments: Sequence[str]) -> int:
    """0, or 1 if a run failed or there are no new tables."""
    return reproduce(parse(arguments))


main = partial(exit_code, command, interrupted="stopped: the same command goes on from the last checkpoints")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
