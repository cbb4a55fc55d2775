"""The exported step, driven by its metadata with numpy and onnxruntime alone, says what the model says."""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from speech_attention.streaming import named_tensors, tree_map
from tiny import GERMAN, PIECES, ROOT

from recipes.LibriSpeech import experiment, run_folder
from recipes.LibriSpeech.decoding.wer import greedy_words
from recipes.LibriSpeech.inference import export, loading
from recipes.LibriSpeech.inference.step import OPSET, Step
from recipes.LibriSpeech.tokens import learn
from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer

TINY = {"dim": 16, "ffn_dim": 32, "num_layers": 2, "num_heads": 2, "left_context": 7, "lookahead": 2}
CASES = {
    "LLSA": ("llsa", {}),
    "LLSA-chunk3": ("llsa", {"attention": "{chunk: 3}"}),
    "LLSA-relative": (
        "llsa",
        {
            "num_layers": 1,
            "attention": "{positions: relative}",
            "front_end": "!new:speech_attention.front_end.ConvolutionalFrontEnd {dim: 16, channels: 8, bias: True}",
        },
    ),
    "SA-Conformer-pieces": ("sa", {"block": "!name:speech_attention.blocks.ConformerBlock {kernel_size: 5}", "tokens": PIECES}),
    "MAA-waveform": (
        "maa",
        {
            "num_layers": 1,
            "front_end": "!new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 8}",
            "position": "!name:speech_attention.position.ConvolutionalPosition {kernel: 8, groups: 4, norm: True, lookahead: 2}",
            "block": "!name:speech_attention.blocks.PostNormTransformerBlock {}",
            "norm": "False",
        },
    ),
    "SummaryMixing": ("summary_mixing", {"attention": "{chunk: 4}"}),
    "SA-first-shared": ("sa", {"num_layers": 3, "owners": "[0, 1]", "lookaheads": "[2, 1, 1]"}),
    "LLSA-Whisper": (
        "llsa",
        {
            "num_layers": 1,
            "positions": "gated",
            "front_end": "!new:speech_attention.front_end.WhisperFrontEnd {dim: 16, num_mels: 20, pool: 2}",
            "position": "!name:speech_attention.position.Sinusoids {rows: 30}",  # the batch goes on after them
            "pool": 2,
        },
    ),
}
TOLERANCE = 1e-4  # of a log-probability, on the maximum


def noise(samples, seed=0):
    """Bursts of noise, loud and quiet."""
    generator = torch.Generator().manual_seed(seed)
    gain = torch.rand(-(-samples // 1000), generator=generator).repeat_interleave(1000)[:samples]
    return 0.2 * gain**2 * torch.randn(samples, generator=generator)


def make_experiment(folder, yaml, changes={}):
    """Leave a fine-tuned experiment as train.py would, with weights whose text is rich."""
    overrides = "\n".join(f"{key}: {value}" for key, value in {**TINY, **changes}.items())
    text = experiment.resolve(ROOT / "hparams" / f"{yaml}.yaml", overrides)
    hparams, _ = experiment.build(text)
    model, generator = hparams["model"].eval(), torch.Generator().manual_seed(0)
    model.front_end.fit([noise(64000, seed=1)])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # attentions that are not uniform
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
        model.head.weight.mul_(4)
        y, _ = model.encoder(*model.front_end(noise(64000)[None], torch.tensor([64000])))
        model.head.bias.copy_(-model.head.weight @ y[0].mean(dim=0))  # every token is the best one somewhere
    folder.mkdir(exist_ok=True)
    run_folder.save(folder, text, data=learn(hparams["tokens"], folder, GERMAN, None, None), command="")
    AtomicCheckpointer(folder / "finetune" / "checkpoints", {"model": model}).save_checkpoint(meta={"WER": 50.0})
    return folder


@dataclass
class Exported:
    system: loading.Trained
    path: Path
    printed: str


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def exported(request, tmp_path_factory):
    folder = make_experiment(tmp_path_factory.mktemp("run"), *CASES[request.param])
    path = folder / "step.onnx"
    return Exported(loading.load(folder), path, export.export(folder, path))


def metadata(path):
    """What the export says in a model's file; other tools add values there that are no JSON."""
    return {item.key: json.loads(item.value) for item in onnx.load(path).metadata_props if not item.key.startswith("onnx.")}


def drive(path, streams, late, replaced=None):
    """Log-probabilities of each stream, an array of samples, which begins `late` steps after the first step.

    Of the model only its file; `replaced` computes the step in its place.
    """
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    meta = metadata(path)
    run = replaced or (lambda feeds: dict(zip(names, session.run(None, feeds))))
    hop, chunk, batch = meta["hop"], meta["chunk"], len(streams)
    first = [wait * chunk + meta["lead"] for wait in late]
    frames = [-(-len(audio) // hop) for audio in streams]
    steps = max(-(-(start + count + meta["flush"]) // chunk) for start, count in zip(first, frames))
    samples, valid = np.zeros((batch, steps * chunk * hop), np.float32), np.zeros((batch, steps * chunk), bool)
    for row, audio in enumerate(streams):
        samples[row, first[row] * hop :][: len(audio)] = audio
        valid[row, first[row] :][: frames[row]] = True
    state = {s["name"]: np.full((batch, *s["shape"]), s["initial"], s["dtype"]) for s in meta["state"]}
    out = [[] for _ in streams]
    for step in range(steps):
        feeds = {"samples": samples[:, step * chunk * hop :][:, : chunk * hop], "valid": valid[:, step * chunk :][:, :chunk]}
        outputs = run({**feeds, **state})
        state = {name: outputs["next." + name.removeprefix("state.")] for name in state}
        for row, (log_probs, there) in enumerate(zip(outputs["log_probs"], outputs["valid_out"])):
            out[row].append(log_probs[there])
    return [np.concatenate(rows) for rows in out]


def text(path, log_probs):
    """Greedy decoding, by the metadata of the file."""
    meta = metadata(path)
    best = log_probs.argmax(axis=-1)
    new = np.append(True, best[1:] != best[:-1]) & (best != meta["blank"])
    return "".join(meta["tokens"][token] for token in best[new])


def torch_step(system):
    """`CTCModel.advance`, as `drive` calls a step."""
    start = system.recognizer().start

    def run(feeds):
        samples, valid, *state = map(torch.from_numpy, feeds.values())
        tensors = iter(state)
        with torch.no_grad():
            log_probs, valid, state = system.model.advance(samples, valid, tree_map(lambda _: next(tensors), start))
        outputs = {"log_probs": log_probs, "valid_out": valid, **named_tensors(state, "next.")}
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run


def documented_driver():
    """The driver in the docstring, a function of a session and samples."""
    body = re.search(r"\n\n( +said = .*?)\n\n\w", export.__doc__, re.DOTALL)[1]
    exec(f"def driver(session, audio):\n{body}", namespace := {"json": json, "np": np})
    return lambda path, audio: list(namespace["driver"](onnxruntime.InferenceSession(path), audio))


def test_the_documented_driver(exported):
    driver, samples = documented_driver(), noise(20000).numpy()
    frames = driver(exported.path, samples)
    assert np.array_equal(np.concatenate(frames), drive(exported.path, [samples], [0])[0])
    assert sum(map(len, driver(exported.path, samples[:0]))) == 0
    spoilt = np.where(np.arange(20000) == 7, np.nan, samples), np.where(np.arange(20000) == 7, -1e30, samples)
    stereo, integers = np.stack([samples, samples]), (samples * 32767).astype(np.int16)
    for audio in (*(odd.astype(np.float32) for odd in spoilt), stereo, stereo.T, integers):
        with pytest.raises(ValueError, match="one channel"):
            driver(exported.path, audio)


@pytest.mark.parametrize(
    "lengths, late",
    [([50123], [0]), ([800], [0]), ([1], [0]), ([40000, 24001, 50123], [3, 0, 11])],
    ids=["whole", "50ms", "sample", "batch"],
)
def test_onnx_equals_torch(exported, lengths, late):
    streams = [noise(length, seed=length) for length in lengths]
    arrays = [samples.numpy() for samples in streams]
    model = exported.system.model
    actual = drive(exported.path, arrays, late)
    for out, step, samples in zip(actual, drive(exported.path, arrays, late, torch_step(exported.system)), streams):
        with torch.no_grad():
            whole, frames = model(samples[None], torch.tensor([len(samples)]))
        assert out.shape == step.shape == (-(-len(samples) // model.front_end.hop), len(exported.system.tokens)) == whole[0].shape
        assert np.abs(out - step).max() <= TOLERANCE
        assert np.abs(out - whole[0].numpy()).max() <= TOLERANCE
        assert text(exported.path, out).split() == greedy_words(whole, frames, exported.system.tokens.texts)[0]
        assert len(set(text(exported.path, out))) >= min(8, len(out) // 2)  # there is something to compare


def test_the_file_says_what_it_is(exported):
    model, onnx_model = exported.system.model, onnx.load(exported.path)
    meta = metadata(exported.path)
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*onnx_model.graph.input, *onnx_model.graph.output)
    }
    chunk, hop = meta["chunk"], meta["hop"]
    expected = {"samples": ["batch", chunk * hop], "valid": ["batch", chunk]}
    expected |= {entry["name"]: ["batch", *entry["shape"]] for entry in meta["state"]}
    expected |= {"log_probs": ["batch", chunk, len(exported.system.tokens)], "valid_out": ["batch", chunk]}
    expected |= {"next." + entry["name"].removeprefix("state."): ["batch", *entry["shape"]] for entry in meta["state"]}
    assert shapes == expected
    started = {entry["name"]: entry["initial"] for entry in meta["state"] if entry["initial"]}
    before = model.encoder.lead + model.encoder.layout.pending + model.encoder.position.lookahead
    assert started == ({"state.encoder.position": -before} if before else {})
    assert meta["tokens"] == list(exported.system.tokens.texts) and meta["sample_rate"] == 16000
    assert meta["latency_ms"] == model.latency()["total_ms"]
    assert meta["flush_steps"] * chunk >= meta["flush"] == model.encoder.lookahead > (meta["flush_steps"] - 1) * chunk
    assert [entry.version for entry in onnx_model.opset_import] == [OPSET] and "opset 18" in exported.printed
    assert onnx_model.doc_string == export.__doc__
    assert os.fsencode(ROOT) not in exported.path.read_bytes()  # nothing of the machine that made it


def fails(capsys, *arguments):
    """The one line of an export that must end with exit code 2."""
    assert export.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def test_bad_input(tmp_path, capsys, monkeypatch):
    folder = make_experiment(tmp_path / "llsa", "llsa")
    assert "no streaming form" in fails(capsys, make_experiment(tmp_path / "aa", "aa"), tmp_path / "aa.onnx")
    whole = make_experiment(tmp_path / "whole", "summary_mixing", {"attention": "{chunk: null}"})
    assert "no streaming form" in fails(capsys, whole, tmp_path / "x.onnx")
    assert "not the folder of an experiment" in fails(capsys, tmp_path / "nowhere", tmp_path / "x.onnx")
    assert "nowhere" in fails(capsys, folder, tmp_path / "nowhere" / "x.onnx")
    assert "name of a file" in fails(capsys, folder, tmp_path)
    assert "required: model" in fails(capsys, folder)
    assert "required: folder, model" in fails(capsys)
    assert "unrecognized" in fails(capsys, folder, tmp_path / "x.onnx", "more")
    for missing in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            assert "pip install -e '.[export]'" in fails(capsys, folder, tmp_path / "x.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(export, "LARGEST", 1000)
        assert "less than 2 GiB" in fails(capsys, folder, tmp_path / "x.onnx")
    monkeypatch.setattr(Step, "forward", lambda step, samples, *_: samples if samples.sum() > 0 else -samples)
    assert "torch.onnx cannot export the model" in fails(capsys, folder, tmp_path / "x.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa", "llsa", "whole"]


def test_whole_or_not_at_all(exported, tmp_path, capsys, monkeypatch):
    def full_disk(*_):
        raise OSError("the disk is full")

    folder, path = exported.path.parent, tmp_path / "step.onnx"
    path.write_text("mine")
    monkeypatch.setattr(export, "step_proto", lambda *_: onnx.load(exported.path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        assert "the disk is full" in fails(capsys, folder, path)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]
    assert export.main([str(folder), str(path)]) == 0
    assert list(tmp_path.iterdir()) == [path] and onnx.load(path) == onnx.load(exported.path)


@pytest.mark.slow
def test_quiet(tmp_path, capfd):
    folder = make_experiment(tmp_path, "llsa", {"num_layers": 1, "lookahead": 0})  # a state with empty tensors
    assert export.main([str(folder), str(tmp_path / "step.onnx")]) == 0
    captured = capfd.readouterr()
    assert captured.out.count("\n") == 3 and captured.err == ""
    samples = noise(9000).numpy()
    expected = drive(tmp_path / "step.onnx", [samples], [0], torch_step(loading.load(folder)))
    assert np.abs(drive(tmp_path / "step.onnx", [samples], [0])[0] - expected[0]).max() <= TOLERANCE
