"""Small systems that say a lot, audio for them, and what transcribe.py makes of it."""

import itertools
import json

import numpy as np
import soundfile
import torch
from speechbrain.utils.checkpoints import Checkpointer
from tiny import GERMAN, PIECES, ROOT
from torchaudio.functional import resample

import transcribe
from recipes.LibriSpeech import experiment, run_folder
from recipes.LibriSpeech.decoding.wer import greedy_words
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.tokens import learn

CASES = {"aa": "", "sa": "", "maa": f"tokens: {PIECES}", "llsa": "", "summary_mixing": "", "sa-shared": "owners: [0]"}
CASES["llsa-chunk8"] = "attention: {chunk: 8}"
BLOCKS = {"transformer": "", "conformer": "block: !name:speech_attention.blocks.ConformerBlock {kernel_size: 5}"}
CLEAR = 1e-3
"""Of the best token over the next one, in every frame: float32 rounds these log-probabilities by up to 1.3e-4."""


def speech(seconds, rate=16000, channels=1, seed=0):
    """Something that changes as often as speech does: a chord every tenth of a second, and noise, (samples, channels)."""
    random, samples = np.random.default_rng(seed), round(seconds * rate)
    note = max(1, rate // 10)
    parts, times = [], np.arange(note) / rate
    for _ in range(-(-samples // note)):
        pitches, volumes = random.uniform(100, 0.4 * rate, 4), random.uniform(0, 0.1, 4)
        parts.append(volumes @ np.sin(2 * np.pi * pitches[:, None] * times) + 0.01 * random.standard_normal(note))
    return np.concatenate(parts)[:samples, None] * random.uniform(0.5, 1, channels)


def make_talkative(folder, case, block):
    """Leave a small experiment in a folder as train.py would, not trained, and talkative; returns the folder."""
    small = "dim: 16\nffn_dim: 16\nnum_layers: 2\nnum_heads: 2\n"
    yaml = ROOT / "hparams" / f"{case.partition('-')[0]}.yaml"
    text = experiment.resolve(yaml, f"{small}{CASES[case]}\n{BLOCKS[block]}")
    hparams, _ = experiment.build(text)
    model, tokens = hparams["model"].eval(), hparams["tokens"]
    learned = learn(tokens, folder, GERMAN, None, None)
    samples = torch.from_numpy(speech(20, seed=99)[:, 0]).float()
    model.front_end.fit([samples])
    with torch.no_grad():  # random directions in the space that the frames fill, so that the best token changes often
        frames = model.encoder(*model.front_end(samples[None], torch.tensor([len(samples)])))[0][0]
        _, spread, directions = torch.linalg.svd(frames - frames.mean(dim=0), full_matrices=False)
        scaled = directions[:5] / spread[:5, None] * len(frames) ** 0.5
        model.head.weight.copy_(3 * torch.randn(len(tokens), 5, generator=torch.Generator().manual_seed(0)) @ scaled)
        model.head.bias.copy_(-model.head.weight @ frames.mean(dim=0))
        if tokens.separator:
            model.head.bias[tokens.separator] += 6
    run_folder.save(folder, text, data=learned, command="")
    Checkpointer(folder / "finetune" / "checkpoints", {"model": model}).save_checkpoint(meta={"WER": 100.0})
    return folder


def offline(folder, path):
    """The transcript of a file by the model as a whole, and by how much its closest decision was made."""
    samples, rate = soundfile.read(path, always_2d=True)
    samples = resample(torch.from_numpy(samples.mean(axis=1)), rate, 16000).float()
    system = loading.load(folder)
    with torch.inference_mode():
        log_probs, lengths = system.model(samples[None], torch.tensor([len(samples)]))
    first, second = log_probs[0].topk(2).values.unbind(dim=-1)
    return " ".join(greedy_words(log_probs, lengths, system.tokens.texts)[0]), (first - second).min()


def record(folder, path, seconds, rate=16000, channels=1, subtype="FLOAT"):
    """Write a file on whose every frame the model is clear; returns its transcript."""
    for seed in itertools.count():
        soundfile.write(path, speech(seconds, rate, channels, seed), rate, subtype=subtype)
        text, margin = offline(folder, path)
        if text and margin > CLEAR:
            return text


def run(capsys, *words):
    """Exit code, standard output, and the lines of errors."""
    code = transcribe.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("error: ")]


def lines_of(paths, texts):
    return "".join(f"{path}\t{text}\n" for path, text in zip(paths, texts))


def json_lines(out):
    return [json.loads(line) for line in out.splitlines()]
