"""Whatever engine computes the steps, a stream says the same, in any batch and however its audio is cut."""

import itertools
import random
import sys

import onnx
import pytest
import soundfile
import torch
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import named_tensors, splits
from talkative import run
from test_export import make_experiment, noise
from torch._inductor.exc import InductorError

from recipes.command_line import UserError
from recipes.LibriSpeech.inference import engines, export, loading

LENGTHS = 40123, 800, 24001, 1


class Watched:
    """An engine whose log-probabilities of a single stream are kept, and whose states must never change their shapes."""

    def __init__(self, recognizer):
        self.engine, self.frames = recognizer.engine, []
        self.shapes = {name: tensor.shape for name, tensor in named_tensors(recognizer.start).items()}

    def advance(self, samples, valid, state):
        y, valid, state = self.engine.advance(samples, valid, state)
        assert {name: tensor.shape for name, tensor in named_tensors(state).items()} == self.shapes
        self.frames.append(y[valid])
        return y, valid, state


def log_probs_of(recognizer, seed=0, most=30):
    """Log-probabilities of a stream of each of `LENGTHS`, which is fed at most so many frames at once."""
    seen, engine = [], recognizer.engine
    for length in LENGTHS:
        recognizer.engine = engine
        recognizer.engine = watched = Watched(recognizer)
        stream, samples = recognizer.open(), noise(length, seed=length)
        for piece in samples.split(splits(length, most * recognizer.hop, random.Random(seed))):
            stream.feed(piece)
            recognizer.run([stream])
        stream.close()
        recognizer.run([stream])
        seen.append(torch.cat(watched.frames))
    recognizer.engine = engine
    return seen


def side_by_side(recognizer, audio, seed, most=9):
    """Texts of streams of one batch, each of which begins at another time and is fed pieces of 0 .. `most` frames."""
    chance, live, texts, rest = random.Random(seed), {}, [""] * len(audio), list(audio)
    while len(live) < len(audio) or not all(stream.ended for stream in live.values()):
        if len(live) < len(audio):
            live[len(live)] = recognizer.open()
        open_ones = {row: stream for row, stream in live.items() if not stream.ended}
        for row, stream in open_ones.items():
            now = chance.randint(0, most * recognizer.hop)
            stream.feed(rest[row][:now])
            rest[row] = rest[row][now:]
            if not len(rest[row]):
                stream.close()
        for row, output in zip(open_ones, recognizer.run(open_ones.values())):
            texts[row] += output.text
    return texts


def texts_of(recognizer, seed):
    return side_by_side(recognizer, [noise(length, seed=length) for length in LENGTHS], seed)


@pytest.mark.parametrize("attention", ["{chunk: 1}", "{chunk: 3}"])
def test_steps_of_a_few_lengths(tmp_path, attention):
    system = loading.load(make_experiment(tmp_path, "llsa", {"attention": attention}))
    asked = []

    def step(chunks):
        def advance(samples, valid, state):
            asked.append(chunks)
            assert valid.size(1) == chunks * system.model.encoder.layout.chunk
            return system.model.advance(samples, valid, state)

        return advance

    cut = Recognizer(system.model, system.tokens.texts, engines.Steps(system.model, {n: step(n) for n in (1, 4)}))
    for actual, expected in zip(log_probs_of(cut), log_probs_of(system.recognizer())):
        assert (actual - expected).abs().max() <= 1e-4
    assert set(asked) == {1, 4}


def test_packed_weights(tmp_path, monkeypatch):
    system = loading.load(make_experiment(tmp_path, "llsa"))
    weights = {name: (tensor, tensor.clone()) for name, tensor in system.model.named_parameters()}
    assert engines.recognizer(system).engine is system.model  # it is small
    monkeypatch.setattr(engines, "LARGE", 1000)
    recognizer = engines.recognizer(system)
    kinds = [type(module) for module in recognizer.engine.modules()]
    assert kinds.count(engines.PackedLinear) == 10 and torch.nn.Linear not in kinds
    for actual, expected in zip(log_probs_of(recognizer), log_probs_of(system.recognizer(), seed=1)):
        assert (actual - expected).abs().max() <= 1e-4
    assert texts_of(recognizer, 0) == texts_of(system.recognizer(), 1)
    for name, parameter in system.model.named_parameters():  # the model has been left alone
        assert parameter is weights[name][0] and torch.equal(parameter, weights[name][1])


def test_onnx(tmp_path, capsys, monkeypatch):
    system = loading.load(make_experiment(tmp_path, "llsa", {"num_layers": 1}))
    recognizer = engines.recognizer(system, "onnx", frames=4)
    for actual, expected in zip(log_probs_of(recognizer), log_probs_of(system.recognizer(), seed=1, most=5)):
        assert actual.shape == expected.shape and (actual - expected).abs().max() <= 1e-4
    assert texts_of(recognizer, 0) == texts_of(recognizer, 1) == texts_of(system.recognizer(), 2)
    assert len(set(texts_of(recognizer, 0)[0])) >= 8  # there is something to compare

    kept = sorted((tmp_path / "engines").iterdir())
    assert [path.name.rpartition("-")[0] for path in kept] == ["step-1", "step-4"]
    exported, proto = [], onnx.load(kept[0])
    monkeypatch.setattr(export, "checked_step", lambda *which: exported.append(which) or proto)
    assert texts_of(engines.recognizer(system, "onnx", frames=4), 3) == texts_of(recognizer, 0) and not exported
    soundfile.write(tmp_path / "a.flac", noise(40000).numpy(), 16000)
    _, expected, _ = run(capsys, tmp_path, tmp_path / "a.flac")
    used = []
    with monkeypatch.context() as patch:
        make = engines.recognizer
        patch.setattr(engines, "recognizer", lambda *which: used.append(which[0].model) or make(*which))
        assert run(capsys, tmp_path, tmp_path / "a.flac", "--engine", "onnx")[1] == expected != "" and not exported
    assert {tensor.device.type for tensor in used[0].state_dict().values()} == {"meta"}  # the weights are there once

    with torch.no_grad():
        system.model.head.bias[0] += 1
    engines.recognizer(system, "onnx")
    assert len(exported) == 1
    after = sorted((tmp_path / "engines").iterdir())
    assert len(after) == 2 and after[0] != kept[0] and after[1] == kept[1]  # what is outdated has been replaced
    whole = after[0].read_bytes()
    for small, damaged in itertools.product((False, True), (b"", whole[:1000])):
        after[0].write_bytes(damaged)
        with pytest.raises(UserError, match=f"{after[0].name}; if it is damaged, delete it"):
            engines.recognizer(system, "onnx", small)


def test_code_of_others_counts(tmp_path, monkeypatch):
    (tmp_path / "their_attention.py").write_text("from speech_attention.attention import SA\n\nclass Theirs(SA):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    attention = "!name:their_attention.Theirs {num_heads: 2, left_context: 7, lookahead: 2}"
    system = loading.load(make_experiment(tmp_path / "run", "sa", {"attention": attention}))
    names = {engines.kept(system, 1, ".onnx"), engines.kept(system, 1, ".onnx")}
    with open(tmp_path / "their_attention.py", "a") as file:
        file.write("    # another idea\n")
    assert len(names) == 1 and engines.kept(system, 1, ".onnx") not in names


@pytest.mark.slow
def test_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    system = loading.load(make_experiment(tmp_path / "run", "llsa", {"num_layers": 1}))
    with torch._inductor.config.patch({"aot_inductor.compile_wrapper_opt_level": "O0"}):  # the rest is as fast to make
        recognizer = engines.recognizer(system, "compiled")
    for actual, expected in zip(log_probs_of(recognizer), log_probs_of(system.recognizer(), seed=1)):
        assert actual.shape == expected.shape and (actual - expected).abs().max() <= 1e-4
    assert texts_of(recognizer, 0) == texts_of(recognizer, 1) == texts_of(system.recognizer(), 2)
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", None)
        assert texts_of(engines.recognizer(system, "compiled"), 3) == texts_of(recognizer, 0)
    assert not (system.folder / "engines").exists()  # a folder from elsewhere shall bring no code
    (kept,) = (tmp_path / "cache").rglob("*.pt2")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(UserError, match="step-1-.*if it is damaged, delete it"):
        engines.recognizer(system, "compiled")


def test_bad_input(tmp_path, capsys, monkeypatch):
    folder, whole = make_experiment(tmp_path / "sa", "sa"), make_experiment(tmp_path / "aa", "aa")
    for words, expected in (
        ([folder, "x.wav", "--int8"], "--int8 is for --engine onnx"),
        ([whole, "x.wav", "--engine", "onnx"], "no streaming form"),
        ([folder, "x.wav", "--engine", "fast"], "invalid choice"),
    ):
        code, out, errors = run(capsys, *words)
        assert code == 2 and out == "" and len(errors) == 1 and expected in errors[0]
    for missing in ("onnxruntime", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            code, _, errors = run(capsys, folder, "x.wav", "--engine", "onnx")
            assert code == 2 and len(errors) == 1 and "pip install -e '.[e" in errors[0]
    error = InductorError.__new__(InductorError)  # as torch raises it where there is no compiler
    error.args = ("InvalidCxxCompiler: none is found",)

    def no_compiler(*_, **__):
        raise error

    monkeypatch.setattr(torch.export, "export", lambda *_, **__: None)
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", no_compiler)
    code, _, errors = run(capsys, folder, "x.wav", "--engine", "compiled")
    assert code == 2 and len(errors) == 1 and "needs a C++ compiler" in errors[0] and "none is found" in errors[0]
    assert not (folder / "engines").exists()
