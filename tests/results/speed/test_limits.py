"""The command that holds this project's layers and streams beside others: what it keeps, what its rows say, that it is fair."""

import inspect
import json
from functools import partial

import pytest
import torch
from matplotlib.text import Text
from speech_attention.attention import AA, LLSA, SA
from speech_attention.blocks import ConformerBlock, TransformerBlock

from results.common import timing
from results.speed.limits import __main__ as limits
from results.speed.limits import figures, layers, rows, streams

TINY = {"dim": 16, "ffn_dim": 16, "num_heads": 2, "num_layers": 2, "kernel_size": 3, "batch": 2}


def tiny(group, frames=(32, 48)):
    return group._replace(frames=frames[: len(group.frames)], shape={key: TINY[key] for key in group.shape})


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command on tiny layers and one stream that does nothing, on a file of its own."""
    monkeypatch.setattr(layers, "find_spec", lambda name: None)  # imports of peers take seconds
    monkeypatch.setattr(limits, "GROUPS", {name: tiny(group) for name, group in layers.GROUPS.items()})
    monkeypatch.setattr(limits, "MEMORY", tiny(layers.MEMORY))
    streamed = [("bandwidth", None), ("torch", 1), ("torch", 8)]
    still = streams.Group(("bandwidth", "torch"), lambda: {key: streams.Streamed(lambda: None, 2.5) for key in streamed})
    monkeypatch.setattr(limits, "STREAMS", {"base-sa": still})
    monkeypatch.setattr(limits, "TURN_MS", 0.01)
    path, threads = tmp_path / "limits.json", torch.get_num_threads()

    def run(*options):
        code = limits.main([*options, "--output", str(path)])
        out, err = capsys.readouterr()
        return code, json.loads(path.read_text())["cells"] if path.exists() else None, out, err

    run.path = path
    yield run
    torch.set_num_threads(threads)


def key(cell):
    return cell["group"], cell["variant"], cell.get("frames")


def test_end_to_end_and_resumes(run, monkeypatch):
    code, cells, out, err = run("--repeats", "2")
    assert code == 0, err
    assert not err and "SA over AA, the core alone" in out
    groups = {**limits.GROUPS, "memory": limits.MEMORY}
    wanted = [(name, variant, frames) for name, g in groups.items() for frames in g.frames for variant in g.names()]
    wanted += [("base-sa", "bandwidth", None), ("base-sa", "torch", 1), ("base-sa", "torch", 8)]
    assert [key(cell) for cell in cells] == wanted  # in this order
    assert all(cell["peak_mib"] > 0 if cell["group"] == "memory" else len(cell["ms"]) == 2 for cell in cells)
    assert (run.path.parent / "cost.png").exists() and (run.path.parent / "streams.png").exists()
    measured = []
    for name in ("measure_layers", "measure_memory", "measure_streams"):
        real = getattr(limits, name)
        monkeypatch.setattr(limits, name, lambda *words, real=real: measured.append(words[:-1]) or real(*words))
    written = run.path.read_text()
    run()
    assert not measured and run.path.read_text() == written  # a second call measures nothing
    lost = wanted.index(("core", "SA", 48))
    run.path.write_text(json.dumps({**json.loads(written), "cells": cells[:lost] + cells[lost + 1 :]}))
    _, after, *_ = run("--repeats", "1")
    assert measured == [("core", 48)]  # what took turns with it is measured again, in its place
    assert [key(cell) for cell in after] == wanted
    assert [cell == other for cell, other in zip(cells, after)].count(False) == len(limits.GROUPS["core"].names())
    run("--again", "--only", "base-sa", "--repeats", "1")
    assert measured[1:] == [("base-sa",)]


def test_a_peer_that_is_not_installed_is_left_out(run, monkeypatch):
    monkeypatch.setattr(layers, "find_spec", lambda name: None)
    code, cells, out, err = run("--only", "core", "transformer", "--repeats", "1")
    assert code == 0
    assert {cell["variant"] for cell in cells} == {"AA", "SA", "no attention"}
    (row,) = [line for line in out.splitlines() if line.startswith("SA over local-attention, the core alone, 1,000")]
    assert row.endswith("not measured")
    assert [line for line in (out + err).splitlines() if "pip install" in line] == [
        "local-attention is left out: pip install -e '.[peers]' brings local_attention",
        "HuggingFace is left out: pip install -e '.[peers]' brings transformers",
        "ONNX Runtime is left out: pip install -e '.[engines]' brings onnxruntime",
        "ONNX Runtime, int8 is left out: pip install -e '.[engines]' brings onnxruntime",
    ]


def planted(values):
    """Cells of all rows: a variant takes 10 ms, or what (group, variant, frames) says; a peak is as long as its utterance."""
    cells = {}
    for name, group in layers.GROUPS.items():
        for frames in group.frames:
            for variant in group.variants:
                cells[name, variant, frames] = {"ms": [values.get((name, variant, frames), 10)] * 3, "gflop": frames}
    cells |= {("memory", variant, f): {"peak_mib": f} for variant in layers.MEMORY.variants for f in layers.MEMORY.frames}
    for name, group in streams.GROUPS.items():
        for variant in group.variants:
            for frames in (1, 8):
                cells[name, variant, frames] = {"ms": [values.get((name, variant, frames), 10)] * 3, "mib": 64}
        cells[name, "bandwidth"] = {"ms": [values.get((name, "bandwidth"), 10)] * 3, "mib": 256}
    for key in (
        ("train-cpu", "sa"),
        ("stream-mini", "sa"),
        ("stream-mini", "llsa"),
        ("stream-base", "sa"),
        ("stream-base", "llsa"),
    ):
        cells[key] = {"before": {"ms": [10] * 3}, "after": {"ms": [values.get(key, 10)] * 3}}
    return cells


def row_of(cells, words):
    (row,) = [row for row in rows.table_rows(cells) if row["what"] == words]
    return row


def test_every_row_is_measured_by_the_groups():
    assert [row["what"] for row in rows.table_rows(planted({})) if row["verdict"] == "not measured"] == []
    assert {row["verdict"] for row in rows.table_rows({})} == {"not measured"} and rows.count({}) == (0, 0)


def test_rows_from_planted_numbers():
    values = {
        ("core", "SA", 1000): 2.8,
        ("core", "SA", 2000): 1.41,
        ("train-cpu", "sa"): 6.6,
        ("conformer", "chunk mask", 512): 8,
    }
    values |= {("base-llsa", "bandwidth"): 40, ("base-llsa", "ONNX Runtime, int8", 8): 25}
    values |= {("mini-sa", "ONNX Runtime", 1): 5, ("stream-mini", "sa"): 5}
    cells = planted(values)
    cells["core", "SA", 1000]["gflop"] = 500
    first, second = (row_of(cells, f"SA over AA, the core alone, {frames} frames") for frames in ("1,000", "2,000"))
    assert (first["here"], first["to reach"], first["verdict"]) == ("0.28 [0.28, 0.28]", "0.28", "reached")
    assert first["operations"] == "0.50"
    assert (second["here"], second["verdict"]) == ("0.14 [0.14, 0.14]", "behind")  # 0.141
    step = row_of(cells, "training step, scale `cpu`, SA, over the earlier commit")
    assert (step["here"], step["operations"], step["verdict"]) == ("0.66 [0.66, 0.66]", "", "behind")
    assert (
        row_of(cells, "Conformer with a chunk mask over SpeechBrain's with rotary positions, 512 frames")["verdict"] == "reached"
    )
    reading = row_of(cells, "the same: reading the weights from memory, float32")
    assert (reading["here"], reading["verdict"]) == ("10.0 ms [10.0, 10.0]", "")  # 40 ms * 64 / 256
    int8 = row_of(cells, "stream, 12 x 768, packet of 160 ms of LLSA, int8 by ONNX Runtime")
    assert (int8["here"], int8["to reach"], int8["verdict"]) == ("25.0 ms [25.0, 25.0]", "25.0 ms", "reached")
    packet = row_of(cells, "stream, mini, packet of 40 ms of SA, ONNX Runtime over torch with the earlier commit")
    assert (packet["here"], packet["verdict"]) == (
        "0.25 [0.25, 0.25]",
        "behind",
    )  # half of today's, which is half of the earlier one
    assert row_of(cells, "memory of SA, 4,000 over 2,000 frames")["here"] == "2.00 [2.00, 2.00]"
    reached, measured = rows.count(cells)
    assert measured == len([row for row in rows.ROWS if row.reach is not None])
    cells["core", "SA", 2000]["ms"] = [1.4] * 3
    assert rows.count(cells)[0] == reached + 1


def test_memory_counts_the_tensors_of_forward_and_backward():
    for variant in layers.MEMORY.variants:
        shape = {key: TINY[key] for key in layers.MEMORY.shape}
        subjects = [layers.MEMORY.variants[variant](frames=frames, **shape) for frames in (384, 768, 1536)]
        first, second, third = (limits.peak_bytes("cpu", limits.train, s, torch.ones_like(limits.infer(s))) for s in subjects)
        assert third - second == pytest.approx(2 * (second - first), rel=0.02), variant


@pytest.mark.parametrize(
    "kind, attention",
    [(TransformerBlock, partial(layers.NoAA, positions="none")), (ConformerBlock, partial(layers.NoLLSA, **layers.CHUNK))],
)
def test_without_attention_only_the_convolution_reads_other_frames(kind, attention):
    shape, options = {key: TINY[key] for key in layers.BASE}, {"kernel_size": 3} if kind is ConformerBlock else {}
    subject = layers.block(kind, attention, frames=32, **shape, **options)
    (x,) = subject.leaves
    subject.forward()[0].flatten(0, 1)[20, 0].backward()
    read = x.grad[0].abs().sum(dim=-1).nonzero().flatten().tolist()
    assert read == ([18, 19, 20] if kind is ConformerBlock else [20])
    assert (subject.module.attention.qkv.weight.grad.unflatten(0, (3, -1)).abs().sum(dim=(1, 2)) > 0).all()


def test_local_attention_computes_what_sa_computes():
    pytest.importorskip("local_attention")
    shape = {"frames": 150, "batch": 2, "dim": 8, "num_heads": 2}
    ours, theirs = layers.core(partial(SA, **layers.WINDOW), **shape), layers.local_attention(**shape)
    for one, other in zip(ours.leaves, theirs.leaves):
        other.data = one.data.squeeze(2)
    assert torch.allclose(ours.forward().squeeze(2), theirs.forward(), atol=1e-5)


@pytest.mark.slow
def test_huggingface_reads_the_whole_utterance_and_has_as_many_parameters():
    pytest.importorskip("transformers")
    shape = {key: TINY[key] for key in layers.BASE}
    theirs = layers.wav2vec2(frames=20, **shape)
    ours = layers.block(TransformerBlock, AA, frames=20, **shape)
    (x,) = theirs.leaves
    theirs.forward()[0, 0, 0].backward()
    assert (x.grad[0].abs().sum(dim=-1) > 0).all()
    sizes = [sum(parameter.numel() for parameter in subject.module.parameters()) for subject in (ours, theirs)]
    assert sizes[0] == sizes[1]


def test_speechbrain_reads_what_the_chunk_mask_reads():
    """Both masks let a frame see its own chunk and the left context before it; a convolution of one chunk adds to it."""
    shape = {**{key: TINY[key] for key in layers.BASE}, "kernel_size": 3}
    ours = layers.block(ConformerBlock, partial(LLSA, **layers.CHUNK), frames=160, **shape)
    for name in ("RoPEMHA", "RelPosMHAXL"):
        theirs = layers.speechbrain(name, frames=160, **shape)
        for subject, first in ((ours, 128 - 64 - 2), (theirs, 128 - 64 - 1)):  # ours is causal in its chunk, theirs is centred
            (x,) = subject.leaves
            x.grad = None
            subject.forward().reshape(160, -1)[130, 0].backward()
            read = x.grad[0].abs().sum(dim=-1).nonzero().flatten().tolist()
            assert first <= read[0] and read[-1] == 143, name


def test_a_packet_brings_out_as_many_frames_as_it_has(monkeypatch):
    monkeypatch.setattr(streams, "READ_MIB", 1)
    found = streams.recognizers("mini", "llsa", (1, 8), ("torch",))  # an export takes seconds
    assert [key for key in found if key[0] != "bandwidth"] == [("torch", 1), ("torch", 8)]
    for (engine, frames), streamed in found.items():
        if engine != "bandwidth":
            stream = inspect.getclosurevars(streamed.call).nonlocals["stream"]
            before = stream.frames
            streamed.call()
            assert stream.frames == before + frames
    assert streams.steps()["LLSA, chunk 8", 8].call() is None


def test_figures_have_names_that_keep_apart(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    figures.draw(timing.load(limits.OUTPUT), limits.OUTPUT.parent)
    assert len(drawn) == 2
    for drawing in drawn:
        drawing.canvas.draw()
        for axes in drawing.axes:
            boxes = [text.get_window_extent() for text in axes.get_children() if isinstance(text, Text) and text.get_text()]
            assert all(box.x1 <= drawing.bbox.x1 for box in boxes)
            assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--only", "decoder"], "'decoder'"),
        (["--repeats", "0"], "0 must be"),
        (["--device", "cuda"], "'cuda'"),
        (["--report", "--output", "nowhere.json"], "nothing is measured in nowhere.json"),
        (["--report", "--output", __file__], "holds no measurements"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(capsys, arguments, words):
    assert limits.main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err and not out
