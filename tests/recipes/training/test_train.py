"""The main job on a tiny tree: every attention and scale, every stage, a kill in each, two processes."""

import json
import math
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from tiny import ROOT, SPLITS, arguments, curves

import train
from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.training.pretrain import PretrainBrain

MUON = "!name:torch.optim.Muon {lr: 0.01, weight_decay: 0.01}"
HEAD_FIRST = "{epochs: 2, batch_seconds: 6, head_updates: 1}"


def model_weights(folder):
    """The weights of the last fine-tuning checkpoint."""
    last = max((folder / "finetune" / "checkpoints").glob("CKPT*"), key=lambda path: path.stat().st_mtime)
    return torch.load(last / "model.ckpt")


def weights(folder):
    """The weights of the pre-trained encoder and of the last fine-tuning checkpoint."""
    return torch.load(folder / "pretrain" / "encoder.ckpt")["state"], model_weights(folder)


@pytest.mark.parametrize(
    "yaml, attention, frames",
    [
        pytest.param("aa", "AA", None, marks=pytest.mark.slow),
        pytest.param("maa", "MAA", 2 * 4, marks=pytest.mark.slow),  # two layers of 4 frames
        pytest.param("sa", "SA", 2 * 4, marks=pytest.mark.slow),
        ("llsa", "LLSA", 4),
        pytest.param("summary_mixing", "SummaryMixing", 4 - 1, marks=pytest.mark.slow),  # the rest of a chunk of 4
        pytest.param("shared_attention", "AA", None, marks=pytest.mark.slow),
    ],
)
def test_debug_run_of_every_attention(tree, tmp_path, yaml, attention, frames):
    owners = {"owners": "[0]"} if yaml == "shared_attention" else {}  # of two layers
    assert train.main(arguments(tree(), tmp_path / "run", "--debug", yaml=yaml, **owners)) == 0
    summary = json.loads((tmp_path / "run-debug" / "summary.json").read_text())
    assert summary["attention"] == attention and summary["debug"]
    assert summary["latency"]["declared_frames"] == summary["latency"]["measured_frames"] == frames
    if frames is None:
        assert summary["wer_streaming"] is None
    else:
        assert summary["wer_streaming"]["test-c"] == {**summary["wer"]["test-c"], "different": []}
        assert summary["memory"]["state_bytes"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["cpu", "small", "medium", "base", "adapt", "adapt-gpu"])
def test_debug_run_of_the_larger_scales(tree, tmp_path, scale):
    waveform = "!new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 8}"
    front_end = {"base": waveform, "adapt": "!new:speech_attention.front_end.WhisperFrontEnd {dim: 16, pool: 2}"}
    narrow = {"front_end": front_end.get(scale, waveform)} if scale in ("base", "adapt", "adapt-gpu") else {}
    if scale.startswith("adapt"):  # whose sizes come from a public encoder
        narrow |= {"block": "!name:speech_attention.blocks.TransformerBlock {}", "grad_accumulation_factor": "1"}
    assert train.main(arguments(tree(), tmp_path / "run", "--debug", scale=scale, **narrow)) == 0
    summary = json.loads((tmp_path / "run-debug" / "summary.json").read_text())
    assert summary["objective"] == ("Wav2Vec2" if scale in ("base", "adapt-gpu") else "BESTRQ")
    assert summary["latency"]["attention_ms"] == 160


@pytest.mark.slow
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


@pytest.mark.slow
def test_weights_of_one_attention_run_as_another(tree, tmp_path):
    """SA's weights as LLSA, as they are and trained on; as SA, they give SA's own words."""
    root, sa = tree(), tmp_path / "sa"
    assert train.main(arguments(root, sa, yaml="sa", lookaheads="[3, 0]")) == 0
    start = {"weights": str(sa), "any_attention": "True"}
    asked = {"same": ("sa", {"lookaheads": "[3, 0]"}, 0), "as": ("llsa", {}, 0), "on": ("llsa", {}, 1)}
    for name, (yaml, changes, epochs) in asked.items():
        changes = {**changes, **start, "finetune": f"{{epochs: {epochs}, batch_seconds: 6}}"}
        assert train.main(arguments(root, tmp_path / name, yaml=yaml, **changes)) == 0
    states = {name: model_weights(tmp_path / name) for name in ("sa", *asked)}
    changed = {name: any(not torch.equal(states["sa"][key], state[key]) for key in state) for name, state in states.items()}
    assert changed == {"sa": False, "same": False, "as": False, "on": True}
    summaries = {name: json.loads((tmp_path / name / "summary.json").read_text()) for name in states}
    assert summaries["same"]["utterances"] == summaries["sa"]["utterances"]
    assert [summaries[name]["latency"]["measured_frames"] for name in states] == [3, 3, 4, 4]
    assert [len(summaries[name]["log"]["finetune"]) for name in states] == [2, 0, 0, 1]
    assert summaries["as"]["log"]["pretrain"] == [] and summaries["sa"]["start"] is None
    before = {key: summaries["sa"][key] for key in ("config_hash", "command")}
    assert summaries["on"]["start"] == {"name": "sa", **before}


@pytest.mark.slow
def test_summary_has_what_paired_tests_need(tree, tmp_path):
    assert train.main(arguments(tree(), tmp_path / "run", "--debug")) == 0
    summary = json.loads((tmp_path / "run-debug" / "summary.json").read_text())
    columns = {name: list(map(int, text.split())) for name, text in summary["utterances"]["test-c"].items()}
    assert columns["speakers"] == [104, 104, 105, 105] and columns["words"] == [2, 3, 2, 3]
    score = summary["wer"]["test-c"]
    assert sum(columns["errors"]) == score["substitutions"] + score["insertions"] + score["deletions"]


@pytest.mark.slow
def test_killed_in_each_stage_ends_with_the_same_weights(tree, tmp_path):
    root = tree({**SPLITS, "train-a": 40})
    options = {"matrix_opt_class": MUON}  # two optimisers to go on with
    command = [sys.executable, "train.py", *arguments(root, tmp_path / "killed", tensorboard="True", **options)]
    waits = [("manifests/*.json", 1), ("pretrain/checkpoints/CKPT*", 1), ("pretrain/checkpoints/CKPT*", 2),
             ("finetune/checkpoints/CKPT*", 1), ("finetune/checkpoints/CKPT*", 2), ("utterances-*.tsv", 1)]  # fmt: skip
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
    assert not (tmp_path / "killed" / "summary.json").exists()  # the last one was in the test
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    command = [sys.executable, "train.py", *arguments(root, tmp_path / "whole", **options)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "killed")):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    encoder, model = weights(tmp_path / "whole")
    assert all(not torch.equal(encoder[name], model[name]) for name in encoder if name.endswith("weight"))  # it did train
    assert not list((tmp_path / "killed").rglob("partial*"))
    for stage in ("pretrain", "finetune"):
        assert [epoch for epoch, _ in curves(tmp_path / "killed", stage)["loss/valid"]] == [1, 2]


def test_muon_moves_the_matrices_of_the_encoder_and_nothing_else(tree, tmp_path):
    """One update, with AdamW standing still: orthogonal up to the approximation, as long as the learning rate says."""
    root, rate = tree(), 0.01
    options = {
        "stage": "finetune",
        "matrix_opt_class": f"!name:torch.optim.Muon {{lr: {rate}, weight_decay: 0}}",
        "weight_decay": "0",
        "ckpt_interval_steps": "0",
    }
    still = "{epochs: 1, lr: 1.0e-30, encoder_lr: 1.0e-30, warmup: 0, batch_seconds: 1000}"
    run = arguments(root, tmp_path / "run", pretrain="{epochs: 0}", finetune=still, **options)
    assert train.main(run) == 0
    path, text = run[0], "\n".join(f"{key[2:]}: {value}" for key, value in zip(run[1:-1:2], run[2:-1:2]) if key != "--device")
    before, after = experiment.load(path, text)[0]["model"].state_dict(), model_weights(tmp_path / "run")
    moved = {name for name in after if not torch.allclose(after[name], before[name]) and not name.startswith("front_end")}
    assert moved == {name for name in after if name.startswith("encoder.") and after[name].ndim == 2}
    for name in moved:
        change = (after[name] - before[name]) / (rate * max(1, after[name].size(0) / after[name].size(1)) ** 0.5)
        assert torch.linalg.matrix_norm(change, 2) < 1.3  # Newton-Schulz brings singular values near 1, from 0.7 to 1.2


def test_any_optimiser_and_schedule_may_stand_in_the_yaml(tree, tmp_path):
    own = {
        "opt_class": "!name:torch.optim.SGD {momentum: 0.5}",
        "schedule": "!name:builtins.min {}",
    }  # of update, updates, warmup
    options = {**own, "pretrain": "{epochs: 1, lr: 0.5, warmup: 0.25, batch_seconds: 6}", "ckpt_interval_steps": "0"}
    assert train.main(arguments(tree(), tmp_path / "run", stage="pretrain", **options)) == 0
    (state,) = (torch.load(path)["param_groups"] for path in tmp_path.rglob("optimizer.ckpt"))
    assert state[0]["momentum"] == 0.5 and state[0]["lr"] == 0.5 * 0.25
    assert json.loads((tmp_path / "run" / "pretrain" / "log.jsonl").read_text())["lr"] == 0.5 * 0.25


def test_muon_may_be_left_out_of_a_scale_that_has_it():
    path, key = ROOT / "hparams" / "aa.yaml", "matrix_opt_class"
    assert experiment.load(path, f"scale: cpu\n{key}: null")[1][key] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_half_precision_skips_an_update_for_both_optimisers(bad):
    one, other = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizers = {"optimizer": torch.optim.AdamW([one]), "muon": torch.optim.Muon([other])}
    modules, scaler = torch.nn.ParameterList([one, other]), torch.amp.GradScaler("cpu", init_scale=8.0)
    brain = SimpleNamespace(modules=modules, scaler=scaler, optimizers_dict=optimizers, max_grad_norm=1.0, optimizer_step=0)
    scaler.scale((one * bad + other * 2).sum()).backward()
    PretrainBrain.optimizers_step(brain)
    assert torch.equal(one, torch.ones(2, 2)) and torch.equal(other, torch.ones(2, 2)) and scaler.get_scale() == 4.0
    scaler.scale((one + other * 2).sum()).backward()
    PretrainBrain.optimizers_step(brain)
    assert (one < 1).all() and (other < 1).all()
    before = other.clone()
    scaler.scale(one.sum()).backward()  # an optimiser without gradients, as in the first updates of the head alone
    PretrainBrain.optimizers_step(brain)
    assert torch.equal(other, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "yaml, changes",
    [("llsa", {"tensorboard": "True", "finetune": HEAD_FIRST}), ("shared_attention", {"owners": "[0]"})],
    ids=["llsa", "shared"],
)
def test_two_processes(tree, tmp_path, yaml, changes):
    """torchrun: both processes train on their part of the data, and one of them writes the results.

    Gradients of all parameters are exchanged: a parameter without one (a follower's queries, or all but the CTC head in the
    first update) would stop the run.
    """
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    command = [*launch, *arguments(tree(), tmp_path / "run", yaml=yaml, **changes), "--distributed_backend", "gloo"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["wer"]["test-c"]["utterances"] == SPLITS["test-c"]
    assert summary["command"].startswith("torchrun --nproc_per_node=2 -- train.py ")
    logs = tmp_path / "run" / "finetune" / "log.jsonl", tmp_path / "run" / "train_log.txt"
    assert [len(log.read_text().splitlines()) for log in logs] == [2, 4]
    assert len(list(tmp_path.rglob("events.out.*"))) == (2 if "tensorboard" in changes else 0)  # a file for each stage
