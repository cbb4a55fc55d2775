"""What is measured of each experiment of results/experiments.py, and whether it may be compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ruamel.yaml import YAML

from recipes.LibriSpeech.decoding import bootstrap
from recipes.LibriSpeech.experiment import HPARAMS, run_name
from recipes.LibriSpeech.summary import Summary
from results import MEASURED, ROOT
from results.comparison.planned import PlannedRun, differences
from results.experiments import SCALES, Experiment, at_scale

TEST = "test-clean"


class Measured(NamedTuple):
    """An experiment at a scale, and the summaries of its runs by seed; none yet if it is not measured."""

    experiment: Experiment
    scale: str
    runs: dict[int, Summary]

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.experiment.name

    @property
    def wers(self) -> list[float]:
        """Greedy WER of each seed, in percent."""
        return [run.score(TEST).wer for run in self.runs.values()]

    @property
    def wer(self) -> float:
        """Their mean."""
        return float(np.mean(self.wers))

    @property
    def has_counts(self) -> bool:
        """Whether the files have counts of each utterance (older ones do not)."""
        return bool(self.runs) and all(run.has_counts for run in self.runs.values())

    def counts(self, what: str) -> np.ndarray | None:
        """`words`, `speakers`, or of `errors`, `errors_lm` the mean over the seeds, of each utterance in the order of the ids."""
        columns = [run.counts(TEST, what) for run in self.runs.values()]
        if any(column is None for column in columns):
            return None
        return np.mean(columns, axis=0) if what.startswith("errors") else columns[0]

    def interval(self, errors: str = "errors") -> tuple[float | None, float | None]:
        """Bounds of the 95 % interval of the WER, of the mean over the seeds if there are several and their counts are there.

        Arguments
        ---------
        errors : str
            `errors` for the greedy WER, `errors_lm` for that with a language model.
        """
        (first, *others) = self.runs.values()
        if others and self.has_counts and (counted := self.counts(errors)) is not None:
            return bootstrap.interval(counted, self.counts("words"), range(len(counted)))
        score = first.score(TEST) if errors == "errors" else first.lm_score(TEST)
        return (None, None) if others else (score.low, score.high)


def read(folder: Path = ROOT / MEASURED) -> dict[str, list[Measured]]:
    """Every experiment of each scale that has a file, in the order of results/experiments.py.

    Raises
    ------
    ValueError
        If files of one scale are of other data or another recipe, or of another look-ahead than their name says.
    """
    found = {}
    for scale in SCALES:
        if any(folder.glob(run_name("*", scale, "librispeech", "*") + ".json")):
            of_scale = [Measured(experiment, scale, runs_of(experiment, scale, folder)) for experiment in at_scale(scale)]
            if any(measured.runs for measured in of_scale):
                check(of_scale)
                found[scale] = of_scale
    return found


def runs_of(experiment: Experiment, scale: str, folder: Path) -> dict[int, Summary]:
    """The summaries of an experiment by seed."""
    seeds = [path.stem.rpartition("seed")[2] for path in folder.glob(f"{PlannedRun(experiment, scale, 0).name[:-1]}[0-9]*.json")]
    seeds = sorted(int(seed) for seed in seeds if seed.isdigit())  # not of a copy, as seed1-old
    return {seed: Summary.read(folder / f"{PlannedRun(experiment, scale, seed).name}.json") for seed in seeds}


def check(of_scale: Sequence[Measured]) -> None:
    """Refuse to compare what is not of the same data or recipe, or not what its name says."""
    runs = [(measured.experiment, run) for measured in of_scale for run in measured.runs.values()]
    first_experiment, first = runs[0]
    hashes = {run.name: run.config_hash for _, run in runs}
    for experiment, run in runs:
        name = f"{run.name}.json"
        if run.lookahead_ms != experiment.lookahead_ms:
            raise ValueError(f"{name} looks ahead by another time than its name says: measure it again")
        if (run.splits, run.checksums) != (first.splits, first.checksums):
            raise ValueError(f"{name} and {first.name}.json are of different data: delete the one that does not belong here")
        if changed := set(differences(run.config, experiment.changes)) - {"weights"}:
            raise ValueError(f"{name} has another {', '.join(changed)} than its name says: delete it, to measure it again")
        if changed := other_recipe(experiment, run.config, first_experiment, first.config):
            keys = ", ".join(changed)
            raise ValueError(f"{name} and {first.name}.json have another {keys}: delete the older one, to measure it again")
        if hashes.get(run.start["name"], run.start["config_hash"]) != run.start["config_hash"]:
            raise ValueError(f"{name} began with an older {run.start['name']}: delete it, to measure it again")
    models = {(run.lm["sha256"], run.lm["order"]) for _, run in runs if run.lm}
    if len(models) > 1:
        raise ValueError(f"the runs of scale {of_scale[0].scale} were tested with {len(models)} language models: use one")


def other_recipe(experiment: Experiment, config: Mapping, other: Experiment, other_config: Mapping) -> list[str]:
    """Keys in which the configurations of two experiments differ, but for those that the experiments are about.

    `codec` is a remark on the audio, of which there are checksums; of `encoder` and `model` the parts are keys of their own.
    """
    own = {"name", "seed", "codec", "encoder", "model"}
    for changing in (experiment, other):
        own |= {*YAML().load(HPARAMS / f"{changing.yaml}.yaml"), *differences({}, changing.changes)}
    differ = {*differences(config, other_config), *differences(other_config, config)}
    return sorted(key for key in differ if not own & {key, key.partition(".")[0]})
