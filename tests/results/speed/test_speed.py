"""The command that measures time and memory against length: what it keeps, what it counts, what it concludes."""

import json
from types import SimpleNamespace

import pytest
import torch
from matplotlib.text import Text
from torch import nn

from results.common import timing
from results.experiments import BASELINE, LENGTHS, VARIANTS
from results.speed import figure, measure, page, report, variants
from results.speed.variants import build, names

NARROW = {"dim": 16, "ffn_dim": 32, "num_layers": 4, "num_heads": 4}
TINY = ["--lengths", "20", "32", "--repeats", "1", "--threads", "1"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command at the mini scale, on a file of its own; its exit code, the results, what it prints."""
    path, threads = tmp_path / "speed.json", torch.get_num_threads()
    monkeypatch.setattr(measure, "SCALE", "mini")

    def run(*options):
        code = measure.main([*options, "--output", str(path)])
        out, err = capsys.readouterr()
        return code, json.loads(path.read_text()) if path.exists() else None, out, err

    run.path = path
    yield run
    torch.set_num_threads(threads)


def planted(values):
    """Results in which a variant's `forward_ms`, `both_ms` and `peak_mib` are 10, or what (group, variant, frames) says."""
    cells = []
    for group, lengths in LENGTHS.items():
        for frames in lengths:
            for name in names(group, frames):
                forward, both, peak = values.get((group, name, frames), (10, 10, 10))
                cell = {"group": group, "variant": name, "frames": frames, "parameters": 1, "commit": None}
                cells.append({**cell, "forward_ms": [forward] * 3, "both_ms": [both] * 3, "peak_mib": peak})
    return {"scale": "medium", "device": "cpu", "threads": 1, "environment": {}, "cells": cells}


@pytest.mark.slow
def test_end_to_end_and_resumes(run, monkeypatch):
    code, results, out, err = run(*TINY)
    assert code == 0 and not err
    wanted = {(group, name, frames) for group in VARIANTS for frames in (20, 32) for name in VARIANTS[group]}
    cells = timing.find(results)
    assert cells.keys() == wanted and len(results["cells"]) == len(wanted)
    assert all(len(cell[what]) == 1 for cell in cells.values() for what in ("forward_ms", "both_ms"))
    assert all(cell["peak_mib"] > 0 and cell["parameters"] > 0 for cell in cells.values())
    assert (results["device"], results["threads"], results["scale"]) == ("cpu", 1, "mini")
    assert results["environment"]["cores"] == 1
    image = run.path.with_suffix(".png")
    assert image.read_bytes().startswith(b"\x89PNG") and image.stat().st_size < 150_000
    for group in VARIANTS:
        assert f"{group}: forward + backward" in out
    assert "not measured" in out  # no bound is about such lengths
    written, measured = run.path.read_text(), []
    monkeypatch.setattr(
        measure, "measure", lambda group, frames, *_: measured.append((group, frames)) or cells_like(group, frames)
    )

    def cells_like(group, frames):
        return [{**cells[group, name, frames], "peak_mib": 5} for name in names(group, frames)]

    assert run(*TINY)[0] == 0 and not measured  # a second call measures nothing
    assert run.path.read_text() == written
    run.path.write_text(json.dumps({**results, "cells": results["cells"][1:]}))  # one of them is lost:
    _, results, _, _ = run(*TINY)
    assert measured == [("modules", 20)]  # those that took turns with it are measured again
    assert timing.find(results).keys() == wanted
    assert [cell["peak_mib"] == 5 for cell in results["cells"]] == [True] * 11 + [False] * (len(wanted) - 11)
    run(*TINY, "--again", "--only", "model")
    assert measured[1:] == [("model", 20), ("model", 32)]


def test_what_is_interrupted_is_kept(run, monkeypatch):
    def stop(group, frames, *_):
        if frames == 32:
            raise KeyboardInterrupt
        return [{"group": group, "variant": name, "frames": frames} for name in names(group, frames)]

    monkeypatch.setattr(measure, "measure", stop)
    code, _, out, err = run(*TINY)
    assert code == 130 and not out and err.startswith("stopped: ")
    assert {cell["frames"] for cell in json.loads(run.path.read_text())["cells"]} == {20}


@pytest.mark.slow
def test_a_file_keeps_to_one_machine(run):
    one = ["--only", "model", "--lengths", "20", "--repeats", "1"]
    assert run(*one, "--threads", "1")[0] == 0
    code, _, out, err = run(*one, "--threads", "2")
    assert code == 2 and not out and err.count("\n") == 1 and "another cores, threads" in err


def test_variants_take_turns(monkeypatch):
    """Each round begins with another variant, and every time is that of its own variant."""
    calls = []

    def fake(group, name, frames, shape, device):
        return SimpleNamespace(module=nn.Linear(1, 1), leaves=[], forward=lambda: calls.append(name) or torch.zeros(1))

    def clock(device, function, *arguments):
        function(*arguments)
        return len(calls)

    monkeypatch.setattr(measure, "build", fake)
    monkeypatch.setattr(measure, "peak_bytes", lambda *_: 2**20)
    monkeypatch.setattr(measure, "train", lambda subject, gradient: None)
    monkeypatch.setattr(measure, "milliseconds", clock)
    variants = list(VARIANTS["model"])
    cells = measure.measure("model", 9, NARROW, repeats=3)
    assert calls[: len(variants)] == variants  # the warm-up
    rounds = [calls[len(variants) * i :][: len(variants)] for i in (1, 2, 3)]
    assert rounds == [variants[i:] + variants[:i] for i in range(3)]
    assert [cell["forward_ms"][1] for cell in cells] == [2 * len(variants) + rounds[1].index(name) + 1 for name in variants]


def test_peak_memory_of_what_can_be_counted():
    """A linear layer and a ReLU. At the most: the output, the gradients after and before the layer, and of its weight."""
    time, dim = 50, 8
    module, x = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.ReLU()), torch.randn(time, dim, requires_grad=True)
    subject = variants.Subject(module, [x], lambda: module(x))
    floats = 3 * time * dim + dim * dim
    for _ in range(2):  # whatever was allocated before
        assert measure.peak_bytes("cpu", measure.train, subject, torch.ones(time, dim)) == 4 * floats
        measure.clear(subject)


def test_peak_memory_grows_as_it_should():
    def peaks(name):
        subjects = [build("modules", name, frames, NARROW, "cpu") for frames in (256, 512, 1024)]
        return [measure.peak_bytes("cpu", measure.train, s, torch.ones_like(measure.infer(s))) for s in subjects]

    for name in ("SummaryMixing", "SummaryMixing, chunks of 16", "SummaryMixing, cumulative", "SA", "SA follower, map"):
        first, second, third = peaks(name)
        assert third - second == pytest.approx(2 * (second - first), rel=0.02), name
    first, second, third = peaks("AA relative, plain")
    assert third - second == pytest.approx(4 * (second - first), rel=0.05)


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS["modules"].items() if "role" in variant.options])
def test_a_follower_passes_gradients_to_what_it_shares(name):
    subject = build("modules", name, 20, NARROW, "cpu")
    y = measure.infer(subject)
    assert y.shape == (1, 20, 1, 16) and not y.requires_grad
    measure.train(subject, torch.randn_like(y))
    assert len(subject.leaves) == {"AA follower, queries": 3}.get(name, 1 if "plain" in name else 2)
    assert all(leaf.grad is not None for leaf in subject.leaves)


@pytest.mark.slow
def test_parameters():
    """In Conformer-M: what sharing saves, and which SummaryMixing has as many as attention."""
    shape, _ = measure.experiment.load(measure.ROOT / "hparams" / "aa.yaml", "scale: medium")

    def count(group, name):
        return sum(parameter.numel() for parameter in build(group, name, 10, shape, "cpu").module.parameters())

    whole = count("model", "AA relative, plain")
    assert whole == 25_777_536 and whole - count("model", "AA relative by 4, map") == 12 * (3 * 256**2 + 4 * 256)
    encoder = count("encoder", "AA relative")
    assert encoder - count("encoder", "AA relative by 2, queries") == 8 * 197_632
    baseline, matched = count("encoder", BASELINE), count("encoder", "SummaryMixing, matched")
    assert abs(matched - baseline) == 16 * 256 < abs(count("encoder", "SummaryMixing") - baseline)


@pytest.mark.slow
def test_bounds_from_planted_numbers(run):
    good = {
        ("modules", "SummaryMixing", 1024): (9, 4.4, 10), ("modules", "SummaryMixing, chunks of 16", 1024): (9, 4.6, 10),
        ("modules", "SummaryMixing", 2048): (9, 3, 10), ("modules", "SummaryMixing, chunks of 16", 2048): (9, 3.1, 10),
        ("modules", "SummaryMixing", 4096): (9, 6.5, 21), ("modules", "SummaryMixing", 8192): (9, 14, 46),
        ("modules", "SA follower, map", 1024): (5, 4.9, 10), ("encoder", "AA relative by 4, map", 875): (6.6, 10, 10),
    }  # fmt: skip
    run.path.write_text(json.dumps(planted(good)))
    code, _, out, _ = run("--report")
    bounds = [line for line in out.splitlines() if line.startswith("bound: ")]
    assert code == 0 and len(bounds) == len(report.BOUNDS) and all(line.endswith(", holds") for line in bounds)
    bad = {**good, ("modules", "SummaryMixing", 2048): (9, 3.1, 10), ("modules", "SummaryMixing", 8192): (9, 14, 46.3)}
    run.path.write_text(json.dumps(planted(bad)))
    code, _, out, _ = run("--report")
    broken = [line for line in out.splitlines() if line.endswith("does not hold")]
    assert code == 1 and len(broken) == 2
    assert "SummaryMixing at 2048 frames over AA at 2048: at most 0.30; here 0.31" in broken[0]
    assert "peak memory: SummaryMixing at 8192 frames over SummaryMixing at 4096: at most 2.20; here 2.20" in broken[1]


def test_claims_from_planted_numbers():
    values = {("model", "SummaryMixing", frames): (10, 7.2, 5.1) for frames in (1000, 2000)}
    values |= {("model", "AA relative, plain", frames): (19.7, 10, 10.3) for frames in (500, 2000)}
    results = planted(values)

    def verdict(group, what, other):
        (row,) = [row for row in report.claim_rows(results) if row["measured here"] == what]
        (said,) = [said for said in row[f"reached over {other}"].split("<br>") if said.startswith(f"{group}: ")]
        return said.removeprefix(f"{group}: ").partition(" (lowest")[0]

    faster = "forward of AA relative by 4, map"
    assert verdict("model", "forward + backward of SummaryMixing", BASELINE) == "from 40 s on"
    assert verdict("encoder", "forward + backward of SummaryMixing", BASELINE) == "nowhere"
    assert verdict("model", "peak memory of SummaryMixing", BASELINE) == "nowhere"
    assert verdict("model", "peak memory of SummaryMixing", "AA relative, plain") == "at 80 s"
    assert verdict("model", faster, "AA relative, plain") == "at 20 s, 80 s"
    assert verdict("model", faster, BASELINE) == "nowhere"
    for row in report.claim_rows({"cells": []}):
        assert {row[f"reached over {other}"] for other in report.AGAINST} == {"model: missing<br>encoder: missing"}


def test_each_claim_has_one_row_from_planted_numbers(tmp_path):
    values = {("model", "SummaryMixing", frames): (10, 7.2, 5.1) for frames in (1000, 2000)}
    values |= {("encoder", "AA relative, plain", 250): (20, 10, 10), ("model", "AA relative, plain", 2000): (10, 10, 10.3)}
    results = planted(values)
    time, memory, inference, training = report.claim_rows(results)
    assert time["reached over AA"] == "model: from 40 s on (lowest 0.720 at 40 s)<br>encoder: nowhere (lowest 1.000 at 5 s)"
    assert memory["reached over AA"] == "model: nowhere (lowest 0.510 at 40 s)<br>encoder: nowhere (lowest 1.000 at 5 s)"
    plain = "reached over AA relative, plain"
    assert inference[plain].endswith("encoder: at 10 s (lowest 0.500 at 10 s)") and "nowhere" in inference["reached over AA"]
    assert "a ratio of 0.67" in training["claimed"] and "forward + backward of AA relative by 4, map" in training["measured here"]
    assert report.claimed(timing.find(results), report.CLAIMS[0], "model", BASELINE) == {
        125: 1, 250: 1, 500: 1, 1000: 0.72, 2000: 0.72,
    }  # fmt: skip
    (tmp_path / "speed.json").write_text(json.dumps(results))
    headline = page.headline(tmp_path / "speed.json")
    assert (
        "of 4 published" in headline and "2 appear over attention with relative" in headline and "and 1 over a fused" in headline
    )


def test_figure_has_few_lines_and_its_names_keep_apart(monkeypatch):
    """Of the measured numbers: at most 7 lines in a panel, every name inside the figure and clear of the others."""
    drawn = []
    monkeypatch.setattr(figure, "save", lambda figure, _: drawn.append(figure))
    figure.draw(timing.load(page.SPEED_JSON), None)
    (drawing,) = drawn
    drawing.canvas.draw()
    assert len(drawing.axes) == 2 + len(report.CLAIMS)
    for axes in drawing.axes:
        assert 3 <= len([line for line in axes.lines if line.get_linewidth() > 1]) <= 7
        boxes = [text.get_window_extent() for text in axes.get_children() if isinstance(text, Text) and text.get_text()]
        assert all(box.x1 <= drawing.bbox.x1 for box in boxes)
        assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--only", "modules", "--lengths", "0"], "0 must be a whole number, 1 or more"),
        (["--lengths", "5.5"], "5.5 must be"),
        (["--repeats", "-1"], "--repeats"),
        (["--threads", "many"], "many must be"),
        (["--only", "decoder"], "'decoder'"),
        (["--device", "tpu"], "'tpu'"),
        (["--speed"], "--speed"),
        (["--report", "--output", "nowhere/speed.json"], "nothing is measured in nowhere/speed.json"),
        (["--report", "--output", __file__], "holds no measurements"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(capsys, arguments, words):
    assert measure.main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err and not out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line(run):
    code, results, out, err = run("--device", "cuda")
    assert code == 2 and results is None and not out and err == "error: --device cuda: there is none\n"
