"""The runs that results/experiments.py asks for: their seeds, commands and folders, and what is finished of them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from recipes.command_line import UserError
from recipes.files import write_json
from recipes.LibriSpeech import run_folder
from recipes.LibriSpeech.experiment import identity, run_name
from recipes.LibriSpeech.summary import Summary
from results import MEASURED, ROOT, RUNS
from results.experiments import Experiment, at_scale


class PlannedRun(NamedTuple):
    """An experiment at a scale with one seed: one start of train.py."""

    experiment: Experiment
    scale: str
    seed: int

    @property
    def name(self) -> str:
        return run_name(self.experiment.name, self.scale, "librispeech", self.seed)

    @property
    def folder(self) -> Path:
        return ROOT / RUNS / self.name

    @property
    def measured(self) -> Path:
        return ROOT / MEASURED / f"{self.name}.json"

    @property
    def source(self) -> str | None:
        """Name of the run whose weights this one starts from, or None."""
        weights = self.experiment.changes.get("weights")
        return weights and run_name(weights, self.scale, "librispeech", self.seed)

    def settings(self, common: Mapping) -> dict[str, str]:
        """Keys of the YAML and their values, as text, for this run."""
        changes = {**self.experiment.changes, "scale": self.scale, "name": self.experiment.name, "seed": self.seed, **common}
        if self.source:
            changes["weights"] = f"{RUNS}/{self.source}"
        return {key: value if isinstance(value, str) else json.dumps(value).replace('"', "") for key, value in changes.items()}

    def config(self, common: Mapping) -> dict:
        """The resolved configuration that train.py makes of the settings."""
        settings = {key: value for key, value in self.settings(common).items() if key != "device"}
        return self.experiment.load(**settings)[1]

    def command(self, common: Mapping) -> list[str]:
        """The start of train.py, in ROOT."""
        words = [word for key, value in self.settings(common).items() for word in (f"--{key}", value)]
        return [sys.executable, "train.py", f"hparams/{self.experiment.yaml}.yaml", *words, "--noprogressbar"]

    def changed(self, result: Summary, common: Mapping) -> list[str]:
        """Keys of the configuration that were others in a result; `lm` where it was tested without one."""
        without_lm = ["lm"] if "lm" in common and not result.lm else []
        return differences(result.config, identity(self.config(common))) + without_lm

    def summary(self) -> Summary | None:
        """What train.py left in the folder, if it is whole."""
        try:
            return Summary.read(self.folder / "summary.json")
        except (OSError, UserError):
            return None

    def ready(self, common: Mapping) -> bool:
        """Whether the weights that it starts from are there, trained as results/experiments.py and the scale say now."""
        if self.source is None:
            return True
        one = next(one for one in at_scale(self.scale) if one.name == self.experiment.changes["weights"])
        source = PlannedRun(one, self.scale, self.seed)
        result = source.summary()
        return result is not None and not set(source.changed(result, common)) - {"lm"}

    def collect(self, common: Mapping) -> Summary | None:
        """Take over the summary in the folder, if there is a whole one of this configuration; it, or None.

        A file that is there already stays as it is.
        """
        result = self.summary()
        if result is None or not result.has_counts or self.changed(result, common):
            return None
        if not self.measured.exists():
            self.measured.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.measured, result.content)
        return result

    def part_done(self) -> float:
        """How much of it is done, from 0 to 1: epochs that are over among all, the test counting as one more."""
        logs = [self.folder / stage / "log.jsonl" for stage in ("pretrain", "finetune")]
        done = sum(log.read_bytes().count(b"\n") for log in logs if log.is_file())
        try:
            config = run_folder.read_config(self.folder)
            return done / (config["pretrain"]["epochs"] + config["finetune"]["epochs"] + 1) if config else 0.0
        except (UserError, LookupError, TypeError):  # damaged, which the training itself tells in a line
            return 0.0


def differences(before: Mapping, now: Mapping, where: str = "") -> list[str]:
    """Keys of the configuration `now` that had another value in `before`; what was not there counts as null.

    Example
    -------
    >>> differences({"dim": 16, "finetune": {"epochs": 4, "lr": 1}}, {"dim": 16, "finetune": {"epochs": 5, "lr": 1}, "lm": None})
    ['finetune.epochs']
    """
    found = []
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict | None):
            found += differences(old or {}, value, f"{where}{key}.")
        elif old != value:
            found.append(f"{where}{key}")
    return found


def plan(scale: str, only: Sequence[str] | None = None, seeds: int | None = None) -> list[PlannedRun]:
    """The runs of a scale, in order: all that have a first seed, then all that have a second one, ...

    Arguments
    ---------
    scale : str
    only : list of str or None
        Names of experiments; None: all.
    seeds : int or None
        Seeds of each; None: as many as it says itself.

    Returns
    -------
    list of PlannedRun
    """
    experiments = at_scale(scale)
    names = [experiment.name for experiment in experiments]
    if unknown := sorted(set(only or ()) - set(names)):
        raise UserError(f"no experiment {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [experiment for experiment in experiments if not only or experiment.name in only]
    last = seeds or max(experiment.seeds for experiment in chosen)
    numbered = [(seed, experiment) for seed in range(1, last + 1) for experiment in chosen]
    return [PlannedRun(experiment, scale, seed) for seed, experiment in numbered if seed <= (seeds or experiment.seeds)]


def unfinished(runs: Sequence[PlannedRun], common: Mapping) -> list[PlannedRun]:
    """The runs without a result, each after the run whose weights it needs, if these are not there; `common` as for `config`."""
    every = {run.name: run for run in plan(runs[0].scale, seeds=max(run.seed for run in runs))}
    found = {}
    for run in runs:
        if not run.measured.exists():
            if not run.ready(common):
                found[run.source] = every[run.source]
            found[run.name] = run
    return list(found.values())
