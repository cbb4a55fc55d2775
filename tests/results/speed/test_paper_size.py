"""The command that measures what needs no training: what it keeps, counts, concludes and refuses."""

import json

import pytest
import torch

from recipes.LibriSpeech.training import brain
from results.common import timing
from results.experiments import AT_PAPER_SIZE
from results.speed import paper_size, paper_size_report

FEW = {name: AT_PAPER_SIZE[name] for name in ("AA", "SA", "LLSA", "LLSA, chunk 3")}
TINY = ["--scale", "mini", "--seconds", "1", "--repeats", "2", "--threads", "1"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command at the mini scale, on a file of its own; its exit code, the results, what it prints."""
    path, threads = tmp_path / "paper_size.json", torch.get_num_threads()
    monkeypatch.setattr(paper_size, "AT_PAPER_SIZE", FEW)
    monkeypatch.setattr(paper_size, "STREAMED", 0.64)

    def run(*options):
        code = paper_size.main([*options, "--output", str(path)])
        out, err = capsys.readouterr()
        return code, json.loads(path.read_text()) if path.exists() else None, out, err

    run.path = path
    yield run
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_end_to_end_and_resumes(run, monkeypatch):
    monkeypatch.setattr(brain, "TELL_SECONDS", -1)  # as if each step took that long
    code, results, out, err = run(*TINY)
    cells = timing.find(results)
    assert code == 0 and not err and cells.keys() == {(group, name) for group in paper_size.GROUPS for name in FEW}
    assert {name: cells["stream", name]["lookahead_ms"] for name in FEW} == {
        "AA": None, "SA": 4 * 4 * 40, "LLSA": 160, "LLSA, chunk 3": 160,
    }  # fmt: skip
    assert cells["finetune", "LLSA"]["peak_mib"] > 1.5 * cells["finetune", "AA"]["peak_mib"]
    for stage in ("pretrain", "finetune"):
        for name in FEW:
            cell = cells[stage, name]
            assert len(cell["step_ms"]) == 2 and cell["peak_mib"] > 0
            assert cell["held_mib"] == pytest.approx(4 * 4 * cell["parameters"] / 2**20, rel=0.01)  # with two moments each
        flop = {name: cells[stage, name]["gflop"] for name in FEW}
        assert flop["AA"] < flop["SA"] < flop["LLSA, chunk 3"] < flop["LLSA"] / 2
    factors = cells["stream", "LLSA"]["rtf"]
    assert list(factors) == ["40", "160", "640"] and all(len(values) == 2 and min(values) > 0 for values in factors.values())
    assert cells["stream", "SA"]["state_bytes"] > 0 and cells["stream", "AA"]["rtf"] == {}
    assert "missing" not in out and "no streaming form" in out and "ESTIMATE" in out and "epoch 1" not in out
    written = run.path.read_text()
    monkeypatch.setattr(paper_size, "make_brain", None)  # a second call measures nothing, a lost group only itself
    assert run(*TINY)[0] == 0 and run.path.read_text() == written
    results["cells"] = [cell for cell in results["cells"] if cell["group"] != "stream"]
    run.path.write_text(json.dumps(results))
    code, _, out, _ = run("--report")
    assert code == 0 and "missing" in out
    code, results, out, _ = run(*TINY)
    assert code == 0 and timing.find(results).keys() == cells.keys() and "missing" not in out
    code, _, out, err = run(*TINY, "--precision", "bf16")
    assert code == 2 and not out and err.count("\n") == 1 and "another precision" in err


@pytest.mark.slow
def test_operations_of_a_training_step_are_those_of_its_products(run):
    """Forward once and backward twice those of the weights for each frame, more for the scores and for the first layer."""
    options = paper_size.argparse.Namespace(scale="mini", precision="fp32", device="cpu", seconds=2, repeats=1)
    (cell, *_) = paper_size.measure_steps("finetune", options)
    frames, dim, ffn, layers = 50, 128, 256, 4
    blocks = layers * (4 * dim * dim + 2 * dim * ffn) * frames + layers * 2 * frames * frames * dim
    front_end = (80 * dim * 3 * 2 + dim * dim * 3 + dim * dim) * frames
    assert 1e9 * cell["gflop"] == pytest.approx(2 * 3 * (blocks + front_end + dim * 29 * frames), rel=0.02)


def planted():
    step = {"group": "finetune", "parameters": 1, "epochs": 2, "batch_seconds": 40, "gflop": 20, "held_mib": 3072}
    step |= {"peak_mib": 1024, "step_ms": [100, 100, 200]}
    other = {**step, "variant": "SA", "gflop": 40, "peak_mib": 512, "step_ms": [200, 400, 1000]}
    environment = {"cpu": "a CPU", "gpu": None, "versions": {"torch": "2"}}
    head = {"scale": "base", "device": "cpu", "threads": 1, "precision": "fp32", "seconds": 10, "environment": environment}
    return {**head, "cells": [{**step, "variant": "AA"}, other]}


def test_numbers_of_the_report_from_planted_ones():
    baseline, other = paper_size_report.step_rows(planted())
    assert (baseline["training step"], other["training step"]) == ("100 ms [100, 150]", "4.00 [3.00, 4.50]")  # 2, 4 and 5
    memory = "memory beyond what is held"
    assert (baseline[memory], other[memory]) == ("1024 MiB", "0.50")
    baseline, other = paper_size_report.estimate_rows(planted())
    hours = 2e9 * 100 * 3600 * 2 / (312e12 * 0.3) / 3600
    assert baseline["hours of one A100 SXM"] == f"missing + {hours:.3g}"
    assert other["hours of one A100 SXM"] == f"missing + {2 * hours:.3g}"
    assert baseline["GiB of each GPU"] == "missing + 7" and other["GiB of each GPU"] == "missing + 5"  # 3 + 4 * 1
    assert baseline["step here, s"] == "missing + 0.1" and baseline["GFLOP/s in it"] == "missing + 200"
    text = paper_size_report.text(planted())
    assert "ESTIMATE" in text and "30%" in text and "fine-tuning 2 epochs of 100 h" in text


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seconds", "0"], "0 must be a whole number, 1 or more"),
        (["--only", "decode"], "'decode'"),
        (["--scale", "huge", "--output", "nowhere.json"], "no scale huge"),
        (["--precision", "fp16"], "fp16 needs a GPU"),
        (["--report", "--output", "nowhere.json"], "nothing is measured in nowhere.json"),
        (["--report", "--output", __file__], "holds no measurements"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(capsys, arguments, words):
    threads = torch.get_num_threads()
    assert paper_size.main(arguments) == 2
    torch.set_num_threads(threads)
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err and not out
