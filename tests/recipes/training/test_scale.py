"""What changes at full scale: several processes, gradients that add up, half precision, compiled models."""

import json
import subprocess
import sys

import pytest
import torch
from tiny import ROOT, SPLITS, arguments

import train
from recipes.LibriSpeech import saved
from recipes.LibriSpeech.decoding.wer import score
from recipes.LibriSpeech.training.finetune import FinetuneBrain

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
PLAIN = {"dropout": "0.0", "spec_augment": "[]", "speed_perturb": "{speeds: [100]}"}  # what draws other numbers in each process
HELD = "head_updates: 3, layer_decay: 0.5"  # of 12: gradients that are exchanged begin anew


def outcome(folder):
    """Validation loss after each epoch of fine-tuning, and the weights at the end."""
    losses = [json.loads(line)["valid_loss"] for line in (folder / "finetune" / "log.jsonl").read_text().splitlines()]
    last = max((folder / "finetune" / "checkpoints").glob("CKPT*"), key=lambda path: path.stat().st_mtime)
    return losses, torch.load(last / "model.ckpt")


@pytest.mark.slow
def test_two_processes_update_as_one_that_accumulates(tree, tmp_path):
    """Two processes with one batch each, one with two batches: the same utterances in every update, so the same model."""
    root = tree({**SPLITS, "train-a": 24})  # 12 batches of two utterances
    options = {**PLAIN, "stage": "finetune", "pretrain": "{epochs: 0}", "finetune": f"{{epochs: 2, batch_seconds: 4, {HELD}}}"}
    options["ckpt_interval_steps"] = "0"
    command = [*LAUNCH, *arguments(root, tmp_path / "two", distributed_backend="gloo", **options)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert train.main(arguments(root, tmp_path / "one", grad_accumulation_factor="2", **options)) == 0
    (losses, weights), (expected, reference) = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert losses == pytest.approx(expected, rel=1e-6) and losses[0] > losses[1]
    for name in reference:
        torch.testing.assert_close(weights[name], reference[name], rtol=0, atol=1e-6)


@pytest.fixture
def transcribe(tree, tmp_path, monkeypatch):
    """A function that tests one fixed checkpoint, which has much to say, with options of train.py.

    Returns the letters of each utterance and the log-probabilities of the last batch.
    """
    root, system, outputs = tree(), tmp_path / "system", []
    small = {"yaml": "aa", "num_layers": "1", "pretrain": "{epochs: 0}", "ckpt_interval_steps": "0"}
    once = {**small, "stage": "finetune", "finetune": "{epochs: 1, batch_seconds: 6}"}
    assert train.main(arguments(root, system, **once)) == 0
    (checkpoint,) = system.rglob("model.ckpt")
    weights = torch.load(checkpoint)
    torch.manual_seed(0)
    weights["front_end.linear.weight"] *= 100  # what is heard, not what was learnt, decides
    weights["head.weight"].normal_()
    torch.save(weights, checkpoint)
    saved.write_sums(checkpoint.parent)
    objectives = FinetuneBrain.compute_objectives

    def keep(self, predictions, batch, stage):
        outputs.append(predictions[0])
        return objectives(self, predictions, batch, stage)

    monkeypatch.setattr(FinetuneBrain, "compute_objectives", keep)

    def run(name, *flags, **changes):
        options = {**small, "finetune": "{epochs: 0, batch_seconds: 6}", "weights": str(system), **changes}
        assert train.main(arguments(root, tmp_path / name, *flags, **options)) == 0
        lines = (tmp_path / name / "utterances-test-c.tsv").read_text().splitlines()[1:]
        rows = [line.split("\t") for line in lines]
        return {row[0]: list(row[-1].replace(" ", "_")) for row in rows}, outputs[-1]

    return run


@pytest.mark.slow
def test_half_precision_hardly_changes_the_text(transcribe):
    expected, reference = transcribe("fp32")
    letters, outputs = transcribe("bf16", eval_precision="bf16")
    assert sum(map(len, expected.values())) > 100
    assert 1e-4 < (outputs - reference).abs().max() < 0.5  # it is in use, and near
    assert score(expected, letters)[0].wer < 5  # % of the letters


@pytest.fixture
def graphs(monkeypatch):
    """Compilation by all stages of the compiler but the last, C++, which would take minutes. Returns a count of the graphs."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, dynamic, **_: compiler(module, backend="aot_eager", dynamic=dynamic))
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"] - before


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_text(transcribe, graphs):
    expected, reference = transcribe("eager")
    assert graphs() == 0
    letters, outputs = transcribe("compiled", "--compile")
    assert graphs() > 0
    assert letters == expected and sum(map(len, expected.values())) > 100
    torch.testing.assert_close(outputs, reference, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_model_trains_alike_from_few_graphs(tree, tmp_path, graphs):
    """SpecAugment stands between two graphs in training; in evaluation there is one. Each is made for the first batch, then for
    any length or number of utterances, then for both, as sizes turn out to differ: 9 graphs, however many batches there are."""
    root, small = tree({**SPLITS, "train-a": 10}), {"yaml": "aa", "num_layers": "1", "stage": "finetune", "dropout": "0.0"}
    options = {**small, "pretrain": "{epochs: 0}", "finetune": "{epochs: 2, batch_seconds: 6}", "ckpt_interval_steps": "0"}
    assert train.main(arguments(root, tmp_path / "eager", **options)) == 0 and graphs() == 0
    assert train.main(arguments(root, tmp_path / "compiled", "--compile", **options)) == 0 and 3 <= graphs() <= 9
    (losses, weights), (expected, reference) = outcome(tmp_path / "compiled"), outcome(tmp_path / "eager")
    assert losses == pytest.approx(expected, rel=1e-4) and losses[0] > losses[-1]
    for name in reference:
        torch.testing.assert_close(weights[name], reference[name], rtol=0, atol=1e-4)
