"""What a user can get wrong: one line that says what to do, exit code 2, nothing lost."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny import ROOT, arguments, fails

import train
from recipes.LibriSpeech import experiment


def test_bad_input_names_what_is_wrong(tree, tmp_path, capsys):
    root, run = tree(), tmp_path / "run"
    (tmp_path / "empty").mkdir()
    assert "nowhere" in fails(capsys, tmp_path / "nowhere", run)
    assert "empty" in fails(capsys, tmp_path / "empty", run)
    assert "train-zz" in fails(capsys, root, run, train_splits="[train-zz]")
    line = fails(capsys, root, run, lookahed="3")
    assert "lookahed" in line and "lookahead" in line
    assert "lookahead=-1" in fails(capsys, root, run, attention="{lookahead: -1}")
    assert "chunk=0" in fails(capsys, root, run, attention="{chunk: 0}")
    assert "revisions" in fails(capsys, root, run, attention="{revisions: [0, 9]}")
    assert "num_heads=3" in fails(capsys, root, run, num_heads="3")
    assert "max_grad_norm=0" in fails(capsys, root, run, max_grad_norm="0")
    assert "finetune.lr=-1" in fails(capsys, root, run, finetune="{lr: -1}")
    assert "finetune.epochs=1.5" in fails(capsys, root, run, finetune="{epochs: 1.5}")
    assert "finetune.epoch;" in fails(capsys, root, run, finetune="{epoch: 1}")
    assert "huge" in fails(capsys, root, run, scale="huge")
    assert "stage=dance must be" in fails(capsys, root, run, stage="dance")
    assert "nothing to test" in fails(capsys, root, run, stage="test")
    assert "no file" in fails(capsys, root, run, yaml="nonsense")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"dim": "abc"}, "dim=abc must be a whole number"),
        ({"dim": "0"}, "dim=0"),
        ({"num_heads": "0"}, "num_heads=0"),
        ({"seed": "x"}, "seed=x must be a whole number"),
        ({"seed": "1.5"}, "seed=1.5 must be a whole number"),
        ({"seed": "99999999999999999999999"}, "seed=99999999999999999999999 is too large"),
        ({"finetune": "3"}, "finetune=3 must be a block"),
        ({"finetune": "{lr: .nan}"}, "finetune.lr=nan"),
        ({"finetune": "{epochs: 0}"}, "finetune.epochs"),
        ({"front_end": "3"}, "front_end=3 must be a block"),
        ({"objective": "{num_codes: 0}"}, "objective"),
        ({"finetune": "!name:torch.optim.SGD"}, "finetune.epochs must be from 0 to"),
        ({"finetune": "{lr: !ref <name>}"}, "finetune.lr must be above 0"),
        ({"front_end": "!unknown tag"}, "front_end: !unknown is no tag of HyperPyYAML"),
        ({"pretrained": "nowhere/7"}, "no pre-trained encoder at nowhere/7"),
        ({"weights": "[a]"}, "[a] is not the folder of an experiment"),
        ({"spec_augment": "3"}, "spec_augment=3 must be a list"),
        ({"spec_augment": "[3]"}, "spec_augment=[3] must be a list"),
        ({"spec_augment": "!new:speechbrain.augment.freq_domain.SpectrogramDrop {dim: 1}"}, "must be a list"),
        ({"opt_class": "!name:torch.optim.LBFGS {}", "stage": "show"}, "opt_class: LBFGS doesn't support"),
        ({"weight_decay": "-1"}, "weight_decay"),
        ({"matrix_opt_class": "!name:torch.optim.Muon {lr: 0}"}, "matrix_opt_class.lr=0 must be a number above 0"),
        ({"matrix_opt_class": "!name:torch.optim.Muon {lr: fast}"}, "matrix_opt_class.lr=fast must be a number"),
        ({"matrix_opt_class": "{lr: 0.1}"}, "must name a class of optimisers"),
        ({"matrix_opt_class": "!name:torch.optim.Muoon {lr: 0.1}"}, "torch.optim.Muoon"),
        ({"opt_class": "{decay: 0.1}"}, "opt_class: AdamW has no entry decay; it takes betas,"),
        ({"opt_class": "!name:torch.optim.AdamW {decay: 0.1}"}, "opt_class: AdamW has no entry decay"),
        ({"opt_class": "!name:torch.optim.SGD {lr: 0.1}"}, "opt_class.lr would not be used"),
        ({"opt_class": "!name:builtins.list {}"}, "opt_class makes a list, not an optimiser"),
        ({"opt_class": "{betas: [2, 0.9]}"}, "opt_class: Invalid beta parameter"),
        (
            {"schedule": "!name:speech_attention.schedule.warmup_cosine {power: 2}"},
            "schedule: warmup_cosine has no entry power; it takes none",
        ),
        ({"schedule": "!name:math.hypot {x: 1}"}, "schedule: "),
        ({"schedule": "!name:speech_attention.schedule.warmup {}"}, "speech_attention.schedule.warmup"),
        ({"weight_decay": "null"}, "weight_decay=None must be a number"),
        ({"num_workers": "-1"}, "num_workers"),
        ({"skip_bad": "maybe"}, "skip_bad=maybe must be True or False"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"device": "nosuch"}, "no device nosuch"),
        ({"grad_accumulation_factor": "100"}, "grad_accumulation_factor=100"),
        ({"grad_accumulation_factor": "0"}, "grad_accumulation_factor=0"),
        ({"train_splits": "[]"}, "train_splits=[] must be a list of names"),
        ({"train_splits": "[train-a, 3]"}, "must be a list of names"),
        ({"test_splits": "[train-a]"}, "train-a would be trained on and evaluated on"),
        ({"data_folder": "3"}, "Data folder 3 is not there"),
        ({"stage": "pretrain", "pretrained": "somewhere"}, "nothing to do"),
        ({"stage": "pretrain", "weights": "somewhere"}, "nothing to do"),
        ({"pretrained": "one", "weights": "another"}, "start from one of them"),
        ({"finetune": "{epochs: 0}"}, "give --weights"),
        ({"finetune": "{head_updates: 0.5}"}, "finetune.head_updates=0.5 must be a whole number"),
        ({"finetune": "{freeze_front_end: 1}"}, "finetune.freeze_front_end=1 must be True or False"),
        ({"finetune": "{layer_decay: 1.5}"}, "finetune.layer_decay=1.5 must be above 0, to 1"),
        ({"finetune": "{layer_decay: 0.9}", "scale": "cpu"}, "layer_decay is for opt_class: give --matrix_opt_class null"),
        ({"scale": "adapt"}, "scale adapt has no sizes of its own: give --start"),
        ({"gain_db": "-6"}, "gain_db=-6 must be from 0 to 60"),
        ({"weights": "nowhere"}, "nowhere is not the folder of an experiment"),
        ({"lookaheads": "[1, 2, 3]"}, "lookaheads=[1, 2, 3] must have 2 entries"),
        ({"lookaheads": "[1, 2]"}, "must be equal in every block"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_values_of_the_wrong_kind_or_size(tree, tmp_path, capsys, change, words):
    assert words in fails(capsys, change.pop("data_folder", tree()), tmp_path / "run", **change)


def test_a_module_of_a_users_own_that_cannot_be_imported(tree, tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text("class Mine:\n    x = = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    line = fails(capsys, tree(), tmp_path / "run", attention="!name:mine.Mine {num_heads: 2}")
    assert "mine.py - SyntaxError: invalid syntax (mine.py, line 2)" in line


def test_null_reaches_an_object(tree, tmp_path, capsys):
    """An attention may mean something by it, as SummaryMixing does by chunk: null, the whole utterance."""
    _, config = experiment.load(ROOT / "hparams" / "summary_mixing.yaml", "attention: {chunk: null}")
    assert config["attention"]["chunk"] is None and config["encoder"]["attention"]["chunk"] is None
    root = tree()
    assert "error" in fails(capsys, root, tmp_path / "run", attention="{num_heads: null}")
    assert "dim=None must be a whole number" in fails(capsys, root, tmp_path / "run", dim="null")


def test_download_needs_a_place(capsys):
    assert train.main([str(ROOT / "hparams" / "llsa.yaml"), "--download"]) == 2
    assert "--download needs --data_folder" in capsys.readouterr().err


def test_output_folder_that_cannot_be_one(tree, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert "file" in fails(capsys, tree(), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_debug_leaves_what_is_not_its_own(tree, tmp_path):
    (tmp_path / "run-debug").mkdir()
    (tmp_path / "run-debug" / "thesis.tex").write_text("mine")
    root = tree()
    for _ in range(2):
        assert train.main(arguments(root, tmp_path / "run", "--debug")) == 0
    assert (tmp_path / "run-debug" / "thesis.tex").read_text() == "mine"


def test_damage_inside_a_file_is_named(tree, tmp_path, capsys):
    root = tree()
    bad = next((root / "train-a").rglob("*.flac"))
    data = bytearray(bad.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    bad.write_bytes(data)
    assert bad.name in fails(capsys, root, tmp_path / "run")


@pytest.mark.slow
def test_bad_audio_is_named_or_skipped_and_counted(tree, tmp_path, capsys):
    root = tree()
    bad = next((root / "train-a").rglob("*.flac"))
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    line = fails(capsys, root, tmp_path / "run")
    assert bad.stem in line and "skip_bad" in line
    assert train.main(arguments(root, tmp_path / "run", "--debug", skip_bad="True")) == 0
    summary = json.loads((tmp_path / "run-debug" / "summary.json").read_text())
    assert summary["data"]["manifests"]["train-a"]["skipped"] == [str(bad.relative_to(root))]
    bad.unlink()
    assert bad.stem in fails(capsys, root, tmp_path / "run")  # a transcript without audio
    (bad.parent / f"{bad.stem.rsplit('-', 1)[0]}.trans.txt").unlink()
    assert "transcript" in fails(capsys, root, tmp_path / "run")  # audio without transcripts


@pytest.mark.slow
def test_an_encoder_that_does_not_fit_is_refused(tree, tmp_path, capsys):
    root = tree()
    assert train.main(arguments(root, tmp_path / "sa", stage="pretrain", yaml="sa")) == 0
    source = {"pretrained": str(tmp_path / "sa")}
    line = fails(capsys, root, tmp_path / "run", **source)
    assert "SA" in line and "LLSA" in line and "any_attention" in line
    line = fails(capsys, root, tmp_path / "wide", **source, dim="32", yaml="sa")
    assert "encoder.blocks.0" in line and "16" in line and "32" in line
    line = fails(capsys, root, tmp_path / "deep", **source, num_layers="3", yaml="sa")
    assert "encoder.blocks.2" in line
    assert "no pre-trained encoder" in fails(capsys, root, tmp_path / "none", pretrained=str(tmp_path / "nothing"))
    (tmp_path / "text").write_text("not a checkpoint")
    assert "not an encoder checkpoint" in fails(capsys, root, tmp_path / "text-run", pretrained=str(tmp_path / "text"))
    assert train.main(arguments(root, tmp_path / "other", **source, any_attention="True", stage="finetune")) == 0
    source = {"weights": str(tmp_path / "other")}
    assert "any_attention" in fails(capsys, root, tmp_path / "weights", **source, lookahead="2")
    assert "does not fit" in fails(capsys, root, tmp_path / "weights-wide", **source, dim="32")


def test_a_folder_keeps_to_one_experiment(tree, tmp_path, capsys):
    root = tree()
    assert train.main(arguments(root, tmp_path / "run", stage="pretrain")) == 0
    before = (tmp_path / "run" / "hyperparams.yaml").read_text()
    assert "seed" in fails(capsys, root, tmp_path / "run", seed="7")
    assert (tmp_path / "run" / "hyperparams.yaml").read_text() == before
    text = next((root / "train-a").rglob("*.trans.txt"))
    text.write_text(text.read_text().replace("WORD", "WORDS", 1))
    assert "another data" in fails(capsys, root, tmp_path / "run")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tree, tmp_path, capsys, monkeypatch):
    root = tree()
    assert train.main(arguments(root, tmp_path / "run", stage="pretrain")) == 0
    compute, steps = train.FinetuneBrain.compute_objectives, []

    def spoiled(self, predictions, batch, stage):
        steps.append(batch.id)
        return compute(self, predictions, batch, stage) * (float("nan") if len(steps) == 3 else 1)

    monkeypatch.setattr(train.FinetuneBrain, "compute_objectives", spoiled)
    line = fails(capsys, root, tmp_path / "run")
    assert "nan" in line and all(name in line for name in steps[2])
    kept = list((tmp_path / "run" / "finetune" / "checkpoints").glob("CKPT*"))
    assert len(kept) == 1
    assert all(t.isfinite().all() for t in torch.load(kept[0] / "model.ckpt").values())
    monkeypatch.undo()
    assert train.main(arguments(root, tmp_path / "run")) == 0  # and it goes on from there


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tree, tmp_path, capsys, monkeypatch):
    root, step = tree(), train.PretrainBrain.optimizers_step

    def spoiled(self):
        if self.optimizer_step == self.updates - 1:
            next(self.modules.parameters()).grad.fill_(float("nan"))
        step(self)

    monkeypatch.setattr(train.PretrainBrain, "optimizers_step", spoiled)
    line = fails(capsys, root, tmp_path / "run", stage="pretrain")
    assert "gradient is nan" in line and "-7-" in line
    assert not (tmp_path / "run" / "pretrain" / "encoder.ckpt").exists()
    kept = max((tmp_path / "run" / "pretrain" / "checkpoints").glob("CKPT*"), key=lambda path: path.stat().st_mtime)
    assert all(t.isfinite().all() for t in torch.load(kept / "pretraining.ckpt").values())
    monkeypatch.undo()
    assert train.main(arguments(root, tmp_path / "run")) == 0


@pytest.mark.slow
def test_test_needs_a_whole_epoch(tree, tmp_path, capsys, monkeypatch):
    def full_disk(*_, **__):
        raise OSError("the disk is full")

    root = tree()
    monkeypatch.setattr(train.FinetuneBrain, "evaluate_batch", full_disk)
    assert "the disk is full" in fails(capsys, root, tmp_path / "run")  # in the first validation
    monkeypatch.undo()
    assert "nothing to test" in fails(capsys, root, tmp_path / "run", stage="test")


@pytest.mark.slow
def test_exit_code_of_the_command():
    process = subprocess.run(
        [sys.executable, "train.py", "hparams/llsa.yaml", "--data_folder", os.devnull], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 2
    assert process.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in process.stderr
