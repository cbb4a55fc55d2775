"""What a run folder holds is all that its model needs: hyperparams.yaml, for plain hyperpyyaml, and the weights."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny import ROOT, arguments, fails

import train
from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, run_folder
from recipes.LibriSpeech.inference import loading

ELSEWHERE = """
import importlib.util, sys, torch
from hyperpyyaml import load_hyperpyyaml
assert importlib.util.find_spec("recipes") is None
hparams = load_hyperpyyaml(open("hyperparams.yaml"))
hparams["model"].load_state_dict(torch.load(sys.argv[1], weights_only=True), strict=True)
assert hparams["model"].encoder is hparams["encoder"] and hparams["data"].keys() == {"train-a", "dev-b", "test-c"}
model, _ = hparams["model"].eval()(torch.linspace(-1, 1, 16000)[None], torch.tensor([16000]))
torch.save(model, sys.argv[2])
"""


@pytest.fixture
def run(tree, tmp_path):
    """The folder of a fine-tuned LLSA."""
    assert train.main(arguments(tree(), tmp_path / "run", stage="finetune", pretrain="{epochs: 0}")) == 0
    return tmp_path / "run"


def weights_of(folder):
    (path,) = (folder / "finetune" / "checkpoints").glob("CKPT*/model.ckpt")
    return path


@pytest.mark.slow
def test_plain_hyperpyyaml_makes_the_model_outside_the_project(run, tmp_path):
    """In another folder, with nothing of the project but the package of modules/."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "speech_attention").symlink_to(ROOT / "modules")
    output = tmp_path / "log_probs.pt"
    command = [sys.executable, "-c", ELSEWHERE, str(weights_of(run)), str(output)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages")}
    done = subprocess.run(command, cwd=run, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected, _ = loading.load(run).model(torch.linspace(-1, 1, 16000)[None], torch.tensor([16000]))
    assert torch.equal(torch.load(output), expected)


def make_old(folder):
    """Put config.json in the place of hyperparams.yaml, as older runs have it."""
    config = run_folder.read_config(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "hyperparams.yaml").unlink()
    return config


@pytest.mark.slow
def test_older_runs_have_their_values_as_json(run, tree, tmp_path, capsys):
    model, config = loading.load(run).model, run_folder.read_config(run)
    assert make_old(run) == config == loading.load(run).config
    for name, tensor in loading.load(run).model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert run_folder.origin({"start": None, "weights": str(run), "pretrained": None})["config_hash"] == experiment.config_hash(
        experiment.identity(config)
    )
    root = tmp_path / "LibriSpeech"
    assert "another seed" in fails(capsys, root, run, stage="test", pretrain="{epochs: 0}", seed="7")
    assert not (run / "hyperparams.yaml").exists()
    assert train.main(arguments(root, run, stage="test", pretrain="{epochs: 0}")) == 0  # and from here on it is a new one
    assert (run / "hyperparams.yaml").exists()
    assert experiment.identity(run_folder.read_config(run)) == experiment.identity(config)


def test_the_file_says_what_made_it_and_what_each_key_is(run):
    lines = (run / "hyperparams.yaml").read_text().splitlines()
    assert any(line.startswith("#     python train.py ") and "--dim 16" in line for line in lines[:5])
    assert "# Encoder" in lines and any(line.startswith("dim: 16 ") and "# Width" in line for line in lines)
    assert not any("!ref" in line or "!PLACEHOLDER" in line for line in lines)


@pytest.mark.parametrize("name, text", [("hyperparams.yaml", "{["), ("hyperparams.yaml", "3"), ("config.json", "{")])
def test_damage_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        run_folder.read_config(tmp_path)
    assert run_folder.read_config(tmp_path / "empty") is None


def test_torchrun_reads_the_command_of_several_processes(monkeypatch):
    """It has options that begin with --start, and refuses to guess whose ours is."""
    from torch.distributed.run import parse_args

    monkeypatch.setenv("WORLD_SIZE", "2")
    first, *words = run_folder.command(["hparams/aa.yaml", "--start", "facebook/wav2vec2-base"]).split()
    read = parse_args(words)
    assert first == "torchrun" and read.nproc_per_node == "2" and read.training_script == "train.py"
    assert read.training_script_args == ["hparams/aa.yaml", "--start", "facebook/wav2vec2-base"]


@pytest.mark.parametrize("word", ["{lookahead: 2,\n chunk: 3}", "x\u2028y", "x\x85y", "{name}"])
def test_a_command_of_several_lines_stays_a_comment(tmp_path, word):
    run_folder.save(tmp_path, "seed: 1\n", {"dev-b": "12"}, run_folder.command(["hparams/llsa.yaml", "--attention", word]))
    assert run_folder.read_config(tmp_path) == {"seed": 1, "data": {"dev-b": "12"}}
