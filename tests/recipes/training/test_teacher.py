"""Pre-training with a teacher: from a run, from a public encoder, after a stop, and what is refused."""

import json
import shutil

import pytest
import torch
from tiny import arguments, fails, write_tree

import train
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.public.shape import DECIDED
from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer
from tests.recipes.public.tiny_encoder import FOLDER

LAYERS = "!name:speech_attention.objectives.Distillation {layers: [1, 2]}"
CTC = "!name:speech_attention.objectives.CTCDistillation {delays: [0, 2]}"
OTHER = "!new:recipes.LibriSpeech.tokens.Letters {alphabet: ABCDEFGHIJKLMNOPQRSTUVWXYZÉ}"  # as many as there are in English
PIECES = "!new:recipes.LibriSpeech.tokens.SentencePiece {size: 29}"
WAVEFORM = "!new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 4}"
ONCE = {"pretrain": "{epochs: 1, batch_seconds: 6}", "finetune": "{epochs: 1, batch_seconds: 6}"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("data") / "LibriSpeech", {"train-a": 12, "dev-b": 2, "test-c": 2}, seconds=1.0)


@pytest.fixture(scope="module")
def teacher(tree, tmp_path_factory):
    """A finished run of AA, wider than the students."""
    folder = tmp_path_factory.mktemp("runs") / "aa"
    assert train.main(arguments(tree, folder, yaml="aa", **{**ONCE, "dim": "20", "pretrain": "{epochs: 0}"})) == 0
    return folder


def encoder(folder):
    return torch.load(folder / "pretrain" / "encoder.ckpt")


def test_fine_tuning_begins_from_the_head_that_learned_from_a_run(tree, teacher, tmp_path):
    run = tmp_path / "run"
    options = {**ONCE, "teacher": str(teacher), "objective": CTC, "finetune": "{epochs: 1, lr: 1.0e-30, encoder_lr: 1.0e-30}"}
    assert train.main(arguments(tree, run, **options)) == 0
    learned = encoder(run)["state"]
    (path,) = run.glob("pretrain/checkpoints/*/pretraining.ckpt")
    kept = torch.load(path)
    assert {name for name in kept if name.startswith("objective.")} == {"objective.head.weight", "objective.head.bias"}
    assert torch.equal(learned["head.weight"], kept["objective.head.weight"])
    tuned = loading.load(run).model.state_dict()
    assert all(torch.equal(tuned[name], learned[name]) for name in tuned)
    found = json.loads((run / "summary.json").read_text())["teacher"]
    assert found["name"] == "aa"
    assert found["config_hash"] == json.loads((teacher / "summary.json").read_text())["config_hash"]


def test_a_student_of_a_public_encoder_goes_on_after_a_stop(tree, tmp_path, monkeypatch, capsys):
    """The teacher is the encoder in its original form. It isn't saved; another one can't go on in its place."""
    start = shutil.copytree(FOLDER, tmp_path / "start")
    decided = {f"--{key}" for key in DECIDED}

    def command(folder):
        options = {"scale": "cpu", "stage": "pretrain", "start": str(start), "objective": LAYERS, "pool": "2"}
        words = arguments(tree, folder, **options)
        return [word for before, word in zip(["", *words], words) if not {before, word} & decided]

    assert train.main(command(tmp_path / "whole")) == 0
    save, saves = AtomicCheckpointer.save_checkpoint, []

    def stop(self, *given, **more):
        saves.append(save(self, *given, **more))
        if len(saves) == 2:
            raise OSError("stopped inside")

    monkeypatch.setattr(AtomicCheckpointer, "save_checkpoint", stop)
    assert train.main(command(tmp_path / "stopped")) == 2
    monkeypatch.undo()
    record = tmp_path / "stopped" / "pretrain" / "teacher.json"
    true = record.read_text()
    record.write_text(true.replace('"sha256": "', '"sha256": "0'))
    assert train.main(command(tmp_path / "stopped")) == 2
    assert "has begun to learn from start with other weights" in capsys.readouterr().err
    record.write_text(true)
    assert train.main(command(tmp_path / "stopped")) == 0
    whole, stopped = encoder(tmp_path / "whole")["state"], encoder(tmp_path / "stopped")["state"]
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    kept = torch.load(max(tmp_path.glob("whole/pretrain/checkpoints/*/pretraining.ckpt")))
    assert len(kept) == len(whole) + 8  # those of two heads, and none of the teacher
    assert json.loads(true)["name"] == "start"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"objective": LAYERS}, "the objective needs a teacher: give --teacher"),
        ({"objective": LAYERS, "teacher": "nowhere"}, "nowhere is not the folder of an experiment"),
        ({"teacher": "TEACHER"}, "--teacher would change nothing, as the objective takes no teacher"),
        ({"objective": CTC, "teacher": "TEACHER", "pretrain": "{epochs: 0}"}, "nothing, as pretrain.epochs is 0"),
        ({"objective": CTC, "teacher": "TEACHER", "tokens": OTHER}, "has other tokens, letters: give its own --tokens"),
        ({"objective": CTC, "teacher": "TEACHER", "tokens": PIECES}, "has other tokens, letters: give its own --tokens"),
        ({"objective": LAYERS.replace("2]", "2], teacher_layers: [1, 3]"), "teacher": "TEACHER"}, "no layer 3"),
        ({"objective": LAYERS, "teacher": "TEACHER", "front_end": WAVEFORM}, "frames of 40 ms, and the student of 20 ms"),
        ({"objective": LAYERS.replace("2]", "2], teacher: 3"), "teacher": "TEACHER"}, "objective.teacher would not be used"),
        ({"objective": LAYERS, "teacher": "TEACHER", "dev_splits": "[train-a]", "train_splits": "[dev-b]"}, "was trained on it"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tree, teacher, tmp_path, capsys, changes, words):
    changes = {key: str(teacher) if value == "TEACHER" else value for key, value in changes.items()}
    assert words in fails(capsys, tree, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "pretrain").exists()
