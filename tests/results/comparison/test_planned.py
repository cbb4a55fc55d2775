"""Runs that are measured stay measured when the configuration gets other keys."""

import json

import pytest

from recipes.LibriSpeech import experiment, options, yaml_text
from recipes.LibriSpeech.summary import Summary
from results import MEASURED, ROOT
from results.comparison.planned import PlannedRun
from results.experiments import at_scale

DATA = ("train_splits", "dev_splits", "codec")
RUNS = [run for one in at_scale("cpu") if (run := PlannedRun(one, "cpu", 1)).measured.exists()]


def test_the_nine_rows_from_before_optimisers_stood_in_yaml_are_there():
    old = [path for path in (ROOT / MEASURED).glob("*-cpu-librispeech-seed*.json") if '"muon_lr"' in path.read_text()]
    assert len(old) == 9 and {path.stem for path in old} <= {run.name for run in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_measured_row_has_todays_configuration(run):
    """All of it, given the data; another rate or decay counts as another recipe."""
    result = json.loads(run.measured.read_text())
    config, common = result["config"], {"data_folder": "x", **{key: result["config"][key] for key in DATA}}
    assert run.changed(Summary(result), common) == []
    if "muon_lr" in config:
        changes = {"muon_lr": 0.1, "weight_decay": 0.2}
        assert run.changed(Summary({**result, "config": {**config, **changes}}), common) == [
            "weight_decay",
            "opt_class.weight_decay",
            "matrix_opt_class.lr",
            "matrix_opt_class.weight_decay",
        ]
        assert "matrix_opt_class.class" in run.changed(Summary({**result, "config": {**config, "muon_lr": None}}), common)


def test_paths_and_the_codec_are_taken_as_they_are():
    common = {"data_folder": "/data/Libri #2: [a]", "codec": "3e5", "lm": "null", "train_splits": ["train-clean-5"]}
    run = PlannedRun(at_scale("cpu")[0], "cpu", 1)
    config, (_, _, path, *words) = run.config(common), run.command(common)
    assert {key: config[key] for key in common} == common
    again = experiment.resolve(ROOT / path, options.parse([path, *words])[2])
    assert yaml_text.plain(yaml_text.parse(again)) == config
