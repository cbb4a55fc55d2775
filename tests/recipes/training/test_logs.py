"""What a run says of itself: its logs, its curves, the lines on the terminal, and all of it after an interruption."""

import json
import re
import sys

import pytest
import speechbrain as sb
from speechbrain.utils.checkpoints import Checkpointer
from tiny import arguments, curves, fails

import train
from recipes.LibriSpeech.training import brain, finetune, pretrain
from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer
from recipes.LibriSpeech.training.progress import Progress

STAGES = "pretrain", "finetune"


def records(run, stage):
    return [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]


def same(run):
    """Hold the three logs of a run against each other; every epoch must be in each of them once, in order."""
    for stage in STAGES:
        found, drawn = records(run, stage), curves(run, stage)
        assert [record["epoch"] for record in found] == [1, 2]
        names = {"lr": "lr", "throughput": "throughput", "loss/train": "train_loss", "loss/valid": "valid_loss"}
        for curve, name in {**names, **({"wer/valid": "valid_wer"} if stage == "finetune" else {})}.items():
            assert [step for step, _ in drawn[curve]] == [1, 2]
            assert [value for _, value in drawn[curve]] == pytest.approx([record[name] for record in found], abs=1e-4)
    lines = (run / "train_log.txt").read_text().splitlines()
    heads = [re.match(r"stage: (\w+), epoch: (\d+), lr: (\d\.\d\de-\d\d),", line).groups() for line in lines]
    assert [head[:2] for head in heads] == [(stage, epoch) for stage in STAGES for epoch in ("1", "2")]
    rates = [record["lr"] for stage in STAGES for record in records(run, stage)]  # which have a digit more
    assert [float(rate) for _, _, rate in heads] == pytest.approx(rates, rel=0.005)


@pytest.mark.slow
def test_the_logs_of_a_run_agree(tree, tmp_path, capsys):
    assert (
        train.main(arguments(tree(), tmp_path / "run", tensorboard="True", finetune="{epochs: 2, lr: 0.003, batch_seconds: 6}"))
        == 0
    )
    same(tmp_path / "run")
    assert (tmp_path / "run" / "env.log").read_text().startswith("SpeechBrain system description")
    out = capsys.readouterr().out
    assert re.search(r"^finetune epoch 1/2  lr 0\.00\d+  train_blank .*  train_loss .*  valid_wer .*  \d+ s left$", out, re.M)
    first, last = records(tmp_path / "run", "finetune")
    assert 0.003 > first["lr"] > last["lr"] > 0
    assert 0 < 24 / first["throughput"] < first["seconds"]  # 12 utterances of 2 s: the epoch's training took a part of the time


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_the_same_logs(tree, tmp_path, monkeypatch, capsys):
    """Stopped inside an epoch, and after an epoch was logged, before its checkpoint: then it is logged once more."""
    root, options, stops = tree(), {"tensorboard": "True"}, []
    end, save = brain.StageBrain.on_fit_batch_end, AtomicCheckpointer.save_and_keep_only

    def stop_inside(self, *arguments):
        end(self, *arguments)
        if self.name == "finetune" and self.epochs.current == 2 and self.step == 2:
            raise OSError("stopped inside")

    def stop_after(self, *arguments, end_of_epoch=True, **more):
        if end_of_epoch and len(stops) < 2:
            stops.append("stopped after")
            raise OSError(stops[0])
        return save(self, *arguments, end_of_epoch=end_of_epoch, **more)

    monkeypatch.setattr(AtomicCheckpointer, "save_and_keep_only", stop_after)
    for _ in range(2):
        assert "stopped after" in fails(capsys, root, tmp_path / "run", **options)
    monkeypatch.undo()
    monkeypatch.setattr(brain.StageBrain, "on_fit_batch_end", stop_inside)
    assert "stopped inside" in fails(capsys, root, tmp_path / "run", **options)
    monkeypatch.undo()
    before = records(tmp_path / "run", "finetune")
    assert train.main(arguments(root, tmp_path / "run", **options)) == 0
    for stage in STAGES:
        lines = [line for line in (tmp_path / "run" / "train_log.txt").read_text().splitlines() if f"stage: {stage}" in line]
        assert [line.split(",")[1] for line in lines] == [" epoch: 1", " epoch: 2"]
        assert [record["epoch"] for record in records(tmp_path / "run", stage)] == [1, 2]
        assert [step for step, _ in curves(tmp_path / "run", stage)["lr"]] == [1, 2]
    assert records(tmp_path / "run", "finetune")[0] == before[0]
    assert records(tmp_path / "run", "finetune")[1]["seconds"] > before[0]["seconds"]


@pytest.mark.slow
def test_long_epochs_say_how_far_they_are(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(brain, "TELL_SECONDS", 0)
    assert train.main(arguments(tree(), tmp_path / "run", stage="pretrain")) == 0
    out = capsys.readouterr().out
    parts = [
        int(part) for part in re.findall(r"^pretrain epoch 1/2, (\d+)%  lr 0\.\d+  train_loss [\d.]+  \d+ s left$", out, re.M)
    ]
    assert len(parts) > 2 and parts == sorted(set(parts)) and parts[-1] == 100


def test_the_estimate_counts_what_was_before_an_interruption(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    first = Progress()
    clock[0] += 60
    first.begin_epoch()
    first.audio_seconds = 600.0
    clock[0] += 40
    assert first.seconds_left(10, 40) == 300 and first.throughput(first.audio_seconds) == 15
    first.save(tmp_path / "progress")
    clock[0] += 5000  # nobody trains
    again = Progress()
    again.load(tmp_path / "progress", end_of_epoch=False)
    assert again.seconds_left(10, 40) == 300 and again.throughput(again.audio_seconds) == 15
    clock[0] += 100
    again.audio_seconds += 810
    assert again.seconds_left(20, 40) == 200 and again.throughput(again.audio_seconds) == pytest.approx(1410 / 140)
    state = json.loads((tmp_path / "progress").read_text())
    (tmp_path / "old").write_text(json.dumps({name: state[name] for name in ("times", "sums", "count")}))
    again.load(tmp_path / "old", end_of_epoch=False)
    clock[0] += 10
    again.audio_seconds += 50
    assert again.throughput(again.audio_seconds) == pytest.approx(5)  # of what it knows


def test_without_the_package_it_says_what_to_install(tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install -e '.[tensorboard]'" in fails(capsys, tree(), tmp_path / "run", tensorboard="True")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_checkpoints_fall_between_updates(tree, tmp_path, monkeypatch):
    """Gradients that still add up are not in a checkpoint."""
    save, steps = AtomicCheckpointer.save_checkpoint, []

    def spy(self, *arguments, **options):
        if not options["end_of_epoch"]:
            steps.append(self.recoverables["brain"].step)
        return save(self, *arguments, **options)

    monkeypatch.setattr(AtomicCheckpointer, "save_checkpoint", spy)
    assert train.main(arguments(tree(), tmp_path / "run", stage="pretrain", grad_accumulation_factor="2")) == 0
    assert len(steps) > 2 and not [step for step in steps if step % 2]


@pytest.mark.parametrize("own", [brain.StageBrain, pretrain.PretrainBrain, finetune.FinetuneBrain, AtomicCheckpointer])
def test_nothing_private_of_speechbrain_is_overridden(own):
    base = Checkpointer if issubclass(own, Checkpointer) else sb.Brain
    assert not [name for name in vars(own) if name.startswith("_") and not name.endswith("__") and hasattr(base, name)]
