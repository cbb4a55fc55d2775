"""The main job on a tiny tree: every stage, a kill in each, and what a user can get wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train

ROOT = Path(__file__).parents[2]
SPLITS = {"train-a": 12, "dev-b": 4, "test-c": 4}
TINY = {
    "dim": "16", "ffn_dim": "16", "num_layers": "2", "num_heads": "2", "device": "cpu",
    "train_splits": "[train-a]", "dev_splits": "[dev-b]", "test_splits": "[test-c]",
    "pretrain": "{epochs: 2, batch_seconds: 6}", "finetune": "{epochs: 2, batch_seconds: 6}",
    "ckpt_interval_minutes": "0", "ckpt_interval_steps": "1",
}  # fmt: skip


@pytest.fixture
def tree(make_tree):
    """A tree whose utterances are long enough for CTC to align most of them."""
    return lambda splits=SPLITS: make_tree(splits, seconds=2.0)


def arguments(root, folder, *flags, yaml="llsa", **changes):
    options = {"data_folder": str(root), "output_folder": str(folder), **TINY, **changes}
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(ROOT / "hparams" / f"{yaml}.yaml"), *pairs, "--noprogressbar", *flags]


def weights(folder):
    """The weights of the pre-trained encoder and of the last fine-tuning checkpoint."""
    last = max((folder / "finetune" / "checkpoints").glob("CKPT*"), key=lambda path: path.stat().st_mtime)
    return torch.load(folder / "pretrain" / "encoder.ckpt")["state"], torch.load(last / "model.ckpt")


@pytest.mark.parametrize("attention", ["aa", "maa", "sa", "llsa"])
def test_debug_run_of_every_attention(tree, tmp_path, attention):
    assert train.main(arguments(tree(), tmp_path / "run", "--debug", yaml=attention)) == 0
    summary = json.loads((tmp_path / "run-debug" / "summary.json").read_text())
    assert summary["attention"] == attention.upper() and summary["debug"]
    frames = {"aa": None, "maa": 8, "sa": 8, "llsa": 4}[attention]  # 2 layers of 4 frames, or 4 in all
    assert summary["latency"]["declared_frames"] == summary["latency"]["measured_frames"] == frames


@pytest.mark.parametrize("scale", ["small", "base"])
def test_debug_run_of_the_larger_scales(tree, tmp_path, scale):
    narrow = {"front_end": "!new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 8}"} if scale == "base" else {}
    assert train.main(arguments(tree(), tmp_path / "run", "--debug", scale=scale, **narrow)) == 0
    summary = json.loads((tmp_path / "run-debug" / "summary.json").read_text())
    assert summary["objective"] == {"small": "BESTRQ", "base": "Wav2Vec2"}[scale]
    assert summary["latency"]["attention_ms"] == 160


def test_stages_one_by_one_equal_all_at_once(tree, tmp_path):
    root = tree()
    assert train.main(arguments(root, tmp_path / "whole")) == 0
    for stage in ("pretrain", "finetune", "test"):
        assert train.main(arguments(root, tmp_path / "parts", stage=stage)) == 0
    for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "parts")):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts")]
    assert summaries[0]["wer"] == summaries[1]["wer"]
    assert summaries[0]["config_hash"] == summaries[1]["config_hash"]
    assert set(summaries[0]["wer"]) == {"test-c"}
    assert len((tmp_path / "whole" / "utterances-test-c.tsv").read_text().splitlines()) == 1 + SPLITS["test-c"]


def test_killed_in_each_stage_ends_with_the_same_weights(tree, tmp_path):
    root = tree({**SPLITS, "train-a": 40})
    command = [sys.executable, "train.py", *arguments(root, tmp_path / "killed")]
    waits = [("manifests/*.json", 1), ("pretrain/checkpoints/CKPT*", 1), ("pretrain/checkpoints/CKPT*", 2),
             ("finetune/checkpoints/CKPT*", 1), ("finetune/checkpoints/CKPT*", 2)]  # fmt: skip
    interrupted = 0
    for pattern, changes in waits:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen, limit = {frozenset((tmp_path / "killed").glob(pattern))}, time.time() + 120
        while process.poll() is None and len(seen) <= changes and time.time() < limit:
            seen.add(frozenset((tmp_path / "killed").glob(pattern)))
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
    assert interrupted == len(waits)  # none of them had already come to its end
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([sys.executable, "train.py", *arguments(root, tmp_path / "whole")], cwd=ROOT, check=True, capture_output=True)
    for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "killed")):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    encoder, model = weights(tmp_path / "whole")
    assert all(not torch.equal(encoder[name], model[name]) for name in encoder if name.endswith("weight"))  # it did train
    assert not list((tmp_path / "killed").rglob("partial-*"))


def fails(capsys, root, folder, **changes):
    """The one line of a run that must end with exit code 2."""
    assert train.main(arguments(root, folder, **changes)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


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
    assert "no stage" in fails(capsys, root, run, stage="dance")
    assert "nothing to test" in fails(capsys, root, run, stage="test")
    assert "no file" in fails(capsys, root, run, yaml="nonsense")


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


def test_a_folder_keeps_to_one_experiment(tree, tmp_path, capsys):
    root = tree()
    assert train.main(arguments(root, tmp_path / "run", stage="pretrain")) == 0
    before = (tmp_path / "run" / "config.json").read_text()
    assert "seed" in fails(capsys, root, tmp_path / "run", seed="7")
    assert (tmp_path / "run" / "config.json").read_text() == before
    text = next((root / "train-a").rglob("*.trans.txt"))
    text.write_text(text.read_text().replace("WORD", "WORDS", 1))
    assert "another data" in fails(capsys, root, tmp_path / "run")


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


def test_exit_code_of_the_command():
    process = subprocess.run(
        [sys.executable, "train.py", "hparams/llsa.yaml", "--data_folder", os.devnull], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 2
    assert process.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in process.stderr


def test_two_processes(tree, tmp_path):
    """torchrun: both processes train on their part of the data, and one of them writes the results."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    command = [*launch, *arguments(tree(), tmp_path / "run"), "--distributed_backend", "gloo"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["wer"]["test-c"]["utterances"] == SPLITS["test-c"]
    assert len((tmp_path / "run" / "finetune" / "log.jsonl").read_text().splitlines()) == 2
