"""The exported step with eight bits a weight: systems that have learned to read chords still read the same texts."""

import json
import re
import textwrap

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime import quantization
from speech_attention.streaming import named_tensors, tree_map
from test_engines import side_by_side
from test_export import documented_driver, drive, metadata, text
from tiny import ROOT

from recipes.LibriSpeech import experiment, run_folder
from recipes.LibriSpeech.inference import engines, export, int8, loading
from recipes.LibriSpeech.tokens import LETTERS
from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer

SMALL = "dim: 32\nffn_dim: 64\nnum_layers: 2\nnum_heads: 2\nleft_context: 7\ndropout: 0.0\n"
CASES = {
    "LLSA": ("llsa", "lookahead: 1"),
    "chunk-mask": ("llsa", "attention: {chunk: 4}\nlookahead: 0"),
    "SA-Conformer": ("sa", "lookahead: 1\nblock: !name:speech_attention.blocks.ConformerBlock {kernel_size: 5}"),
    "SummaryMixing": ("summary_mixing", "attention: {chunk: 4}"),
}
CHORD = 2560
"""Samples of a chord, which stands for a letter: four frames."""


def write(letters, seed):
    """Samples of chords, one for each letter (a token's number), at many volumes and with noise."""
    random, pitches = np.random.default_rng(seed), np.random.default_rng(0).uniform(200, 6000, (len(LETTERS), 3))
    times = np.arange(CHORD) / 16000
    volumes = random.uniform(0.05, 0.2, (len(letters), 1))
    chords = np.sin(2 * np.pi * pitches[letters][..., None] * times).sum(axis=1) * volumes
    return (chords.ravel() + 0.001 * random.standard_normal(chords.size)).astype(np.float32)


def dictation(seed, length=12):
    """Letters, none twice in a row, and the samples of their chords."""
    letters = np.cumsum(np.random.default_rng(seed).integers(1, len(LETTERS) - 1, length)) % (len(LETTERS) - 1) + 1
    return letters, write(letters, seed)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def folder(request, tmp_path_factory):
    """A folder with MODEL.onnx, the export of a system that was trained to write down chords, and SMALL.onnx, by the snippet."""
    yaml, changes = CASES[request.param]
    text = experiment.resolve(ROOT / "hparams" / f"{yaml}.yaml", SMALL + changes)
    torch.manual_seed(0)
    model = experiment.build(text)[0]["model"].train()
    model.front_end.fit([torch.from_numpy(dictation(0)[1])])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(70):
        letters, samples = map(np.stack, zip(*(dictation(1000 + 8 * step + row) for row in range(8))))
        log_probs, _ = model(torch.from_numpy(samples), torch.full((8,), samples.shape[1]))
        frames = torch.from_numpy(letters).repeat_interleave(4, dim=1)  # (8, 12) -> (8, 48)
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(log_probs.flatten(0, 1), frames.flatten()).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("chords")
    run_folder.save(folder, text, data={}, command="")
    AtomicCheckpointer(folder / "finetune" / "checkpoints", {"model": model}).save_checkpoint(meta={"WER": 0.0})
    export.export(folder, folder / "MODEL.onnx")
    snippet = re.search(r"\n\n(    from onnxruntime.*?)\n\n\w", export.__doc__, re.DOTALL)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(textwrap.dedent(snippet), {"json": json, "onnxruntime": onnxruntime})
    return folder


def read(path, streams, late):
    """What a model writes down of each stream; see `drive`."""
    return [text(path, log_probs) for log_probs in drive(path, streams, late)]


def test_the_same_texts(folder):
    letters, streams = zip(*map(dictation, range(24)))
    expected = ["".join(LETTERS.texts[letter] for letter in each) for each in letters]
    whole, small = folder / "MODEL.onnx", folder / "SMALL.onnx"
    assert read(whole, streams, [0] * 24) == expected
    assert read(small, streams, [0] * 24) == expected
    assert read(small, streams, [row % 5 for row in range(24)]) == expected
    assert read(small, streams[:3], [7, 0, 1]) == expected[:3]
    assert [read(small, [samples], [0])[0] for samples in streams[:3]] == expected[:3]
    assert text(small, np.concatenate(documented_driver()(small, streams[0]))) == expected[0]
    assert small.stat().st_size < whole.stat().st_size
    assert metadata(small) == metadata(whole) and onnx.load(small).doc_string == export.__doc__
    linear = [node.op_type for node in onnx.load(small).graph.node if node.op_type.startswith("MatMulInteger")]
    assert len(linear) >= 10  # it is not that nothing was quantised


def test_the_filterbank_must_be_left_out(folder):
    letters, streams = zip(*map(dictation, range(24)))
    quantization.quantize_dynamic(folder / "MODEL.onnx", folder / "every.onnx")
    texts = read(folder / "every.onnx", streams, [0] * 24)
    assert sum(text == "".join(LETTERS.texts[letter] for letter in each) for text, each in zip(texts, letters)) <= 16


def test_the_engine(folder):
    letters, streams = zip(*map(dictation, range(24)))
    expected = ["".join(LETTERS.texts[letter] for letter in each) for each in letters]
    system = loading.load(folder)
    kept = folder / "engines" / engines.kept(system, 1, ".onnx")
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes((folder / "MODEL.onnx").read_bytes())  # the same step
    audio = list(map(torch.from_numpy, streams))
    for small in (False, True):
        recognizer = engines.recognizer(system, "onnx", small)
        assert side_by_side(recognizer, audio, seed=0) == side_by_side(recognizer, audio[::-1], seed=1)[::-1] == expected
        assert [side_by_side(recognizer, [samples], seed=2)[0] for samples in audio[:3]] == expected[:3]
    content = int8.quantised(kept.read_bytes())
    linear = [node.op_type for node in onnx.load_from_string(content).graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(linear) >= 10 and len(content) < len(kept.read_bytes())


def test_no_stream_of_the_engine_knows_of_another(folder):
    """One stream a thousand times as loud as its neighbour: with a scale for both together the quiet one would be lost."""
    system = loading.load(folder)
    step = engines.onnx_step(system, system.recognizer().start, 1, True)
    start = named_tensors(system.recognizer().start, "state.")
    samples, valid = torch.from_numpy(dictation(0)[1])[None, : system.recognizer().hop * system.model.encoder.layout.chunk], None
    valid = torch.ones(1, system.model.encoder.layout.chunk, dtype=torch.bool)
    alone = step(samples, valid, start)
    both = step(torch.cat([samples, 1000 * samples]), valid.expand(2, -1), tree_map(lambda t: torch.cat([t, t]), start))
    for one, two in zip(named_tensors(alone[2]).values(), named_tensors(both[2]).values()):
        assert torch.equal(one, two[:1])
