"""Which runs there are to do: results/experiments.py with seeds, their commands and folders, and what is finished of them."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from recipes import files
from recipes.command_line import UserError
from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.training import optimization
from results.experiments import Cell, at_scale

ROOT = Path(__file__).parents[2]
MEASURED, RUNS = "results/measured", "results/runs"  # below ROOT


class Run(NamedTuple):
    """A cell with one seed."""

    cell: Cell
    scale: str
    seed: int

    @property
    def name(self):
        return f"{self.cell.name}-{self.scale}-librispeech-seed{self.seed}"

    @property
    def folder(self):
        return ROOT / RUNS / self.name

    @property
    def measured(self):
        return ROOT / MEASURED / f"{self.name}.json"

    @property
    def source(self):
        """Name of the run whose weights this one starts from, or None."""
        weights = self.cell.changes.get("weights")
        return weights and f"{weights}-{self.scale}-librispeech-seed{self.seed}"

    def settings(self, common):
        """Keys of the YAML and their values, as text, for this run."""
        changes = {**self.cell.changes, "scale": self.scale, "name": self.cell.name, "seed": self.seed, **common}
        if self.source:
            changes["weights"] = f"{RUNS}/{self.source}"
        return {key: value if isinstance(value, str) else json.dumps(value).replace('"', "") for key, value in changes.items()}

    def config(self, common):
        """The resolved configuration that train.py makes of the settings."""
        text = "\n".join(f"{key}: {value}" for key, value in self.settings(common).items() if key != "device")
        return experiment.load(ROOT / "hparams" / f"{self.cell.yaml}.yaml", text)[1]

    def command(self, common):
        """The start of train.py, in ROOT."""
        words = [word for key, value in self.settings(common).items() for word in (f"--{key}", value)]
        return [sys.executable, "train.py", f"hparams/{self.cell.yaml}.yaml", *words, "--noprogressbar"]

    def changed(self, result, common):
        """Keys of the configuration that were others in a result; `lm` where it was tested without one."""
        without_lm = ["lm"] if "lm" in common and not result.get("lm") else []
        return differences(optimization.completed(result["config"]), experiment.identity(self.config(common))) + without_lm

    def ready(self, common):
        """Whether the weights that it starts from are there, trained as results/experiments.py and the scale say now."""
        if self.source is None:
            return True
        cell = next(cell for cell in at_scale(self.scale) if cell.name == self.cell.changes["weights"])
        source = Run(cell, self.scale, self.seed)
        try:
            changed = source.changed(json.loads((source.folder / "summary.json").read_text()), common)
        except (OSError, ValueError, LookupError):
            return False
        return not set(changed) - {"lm"}

    def collect(self, common):
        """Take over the summary in the folder, if there is a whole one of this configuration; it, or None.

        A file that is there already stays as it is.
        """
        try:
            text = (self.folder / "summary.json").read_bytes()
            result = json.loads(text)
        except (OSError, ValueError):
            return None
        if "utterances" not in result or self.changed(result, common):
            return None
        if not self.measured.exists():
            self.measured.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(self.measured, text)
        return result

    def part_done(self):
        """Epochs that are over among all; the test counts as one more."""
        try:
            config = json.loads((self.folder / "config.json").read_text())
        except (OSError, ValueError):
            return 0.0
        logs = [self.folder / stage / "log.jsonl" for stage in ("pretrain", "finetune")]
        done = sum(len(log.read_text().splitlines()) for log in logs if log.exists())
        return done / (config["pretrain"]["epochs"] + config["finetune"]["epochs"] + 1)


def differences(before, now, where=""):
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


def plan(scale, only=None, seeds=None):
    """The runs of a scale, in order: all that have a first seed, then all that have a second one, ...

    Arguments
    ---------
    scale : str
    only : list of str or None
        Names of cells; None: all.
    seeds : int or None
        Seeds of each cell; None: as many as the cell says.

    Returns
    -------
    list of Run
    """
    cells = at_scale(scale)
    names = [cell.name for cell in cells]
    if unknown := sorted(set(only or ()) - set(names)):
        raise UserError(f"no experiment {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [cell for cell in cells if not only or cell.name in only]
    counts = {cell.name: seeds or cell.seeds for cell in chosen}
    return [Run(cell, scale, n) for n in range(1, max(counts.values()) + 1) for cell in chosen if n <= counts[cell.name]]


def unfinished(runs, common):
    """The runs without a result, each after the run whose weights it needs, if these are not there; `common` as for `config`."""
    every = {run.name: run for run in plan(runs[0].scale, seeds=max(run.seed for run in runs))}
    found = {}
    for run in runs:
        if not run.measured.exists():
            if not run.ready(common):
                found[run.source] = every[run.source]
            found[run.name] = run
    return list(found.values())
