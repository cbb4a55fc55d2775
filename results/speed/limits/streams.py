"""What is timed as a stream: recognizers with every engine, one step of an encoder beside Emformer's, and the memory itself."""

import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder

from recipes.LibriSpeech.inference import engines
from recipes.LibriSpeech.inference.loading import Trained
from results.experiments import Experiment
from results.speed.limits.layers import EMFORMER, emformer_module, installed, llsa

READ_MIB = 256  # of a matrix that no cache holds
PACKED = "torch, packed"
ENGINES = {"torch": None, PACKED: ("torch", False), "ONNX Runtime": ("onnx", False), "ONNX Runtime, int8": ("onnx", True)}
"""Engines as `engines.recognizer` knows them, and whether weights have eight bits; None: the model itself."""
OF_A_SMALL_MODEL = tuple(name for name in ENGINES if name != PACKED)


class Streamed(NamedTuple):
    """What takes turns: a call without arguments that is one packet, and how many MiB of weights it reads, if that is asked."""

    call: Callable[[], object]
    mib: float | None = None


def recognizers(scale, yaml, packets, names):
    """Each engine with packets of each length, in the middle of an endless stream of noise.

    Arguments
    ---------
    scale, yaml : str
        Of hparams/.
    packets : tuple of int
        Frames of a packet.
    names : tuple of str
        Of `ENGINES`; those whose packages are not there are left out.

    Returns
    -------
    dict
        From (engine, frames) to `Streamed`, and from ("bandwidth", None) to the reading of a large matrix.
    """
    torch.manual_seed(0)
    hparams, config = Experiment(yaml, yaml).load(scale=scale)
    model, found = hparams["model"].eval(), {("bandwidth", None): reading()}
    numbers = sum(weight.numel() for weight in model.encoder.parameters() if weight.dim() == 2)
    with tempfile.TemporaryDirectory() as folder:  # so that what one engine exports is there for the next
        system = Trained(model, config, Path(folder))
        for frames, engine in itertools.product(packets, filter(installed, names)):
            name, small = ENGINES[engine] or (None, False)
            recognizer = engines.recognizer(system, name, small, frames) if name else system.recognizer()
            found[engine, frames] = Streamed(packet(recognizer, model, frames), numbers * (1 if small else 4) / 2**20)
    return found


def packet(recognizer, model, frames):
    """A call that feeds so many frames and runs what they complete, as often as one likes."""
    stream, samples = recognizer.open(), 0.1 * torch.randn(frames * model.front_end.hop)

    def call():
        stream.feed(samples)
        recognizer.run([stream])

    for _ in range(int(model.encoder.lookahead) // frames + 3):  # from here on each frame that goes in brings one out
        call()
    return call


@torch.no_grad()
def reading():
    """A product of a large matrix with a vector, which takes as long as the memory needs to give the matrix."""
    matrix, vector = torch.ones(READ_MIB * 2**18 // 4096, 4096), torch.ones(4096)
    return Streamed(partial(torch.mv, matrix, vector), READ_MIB)


def steps(num_layers=2):
    """One step of LLSA with chunks of 8 frames, and `Emformer.infer` with segments of 8; the rest is equal, too."""
    encoder = Encoder(*(EMFORMER[key] for key in ("dim", "ffn_dim")), num_layers, TransformerBlock, _llsa()).eval()
    emformer = emformer_module(**EMFORMER, num_layers=num_layers).eval()
    x, states = torch.randn(1, 16, EMFORMER["dim"]), {"encoder": encoder.initial_state(1), "emformer": None}

    @torch.inference_mode()
    def ours():
        _, states["encoder"] = encoder.step(x[:, :8], states["encoder"])

    @torch.inference_mode()
    def theirs():
        *_, states["emformer"] = emformer.infer(x, torch.tensor([16]), states["emformer"])

    for _ in range(10):  # until the left context is full
        ours(), theirs()
    return {("LLSA, chunk 8", 8): Streamed(ours), ("Emformer", 8): Streamed(theirs)}


def _llsa():
    return llsa(8, num_heads=EMFORMER["num_heads"], positions="none")


class Group(NamedTuple):
    """Variants that take turns, and what makes them: from (variant, frames of a packet) to `Streamed`."""

    variants: tuple[str, ...]
    make: Callable[[], dict[tuple[str, int | None], Streamed]]

    def names(self):
        """The variants whose packages are there."""
        return [name for name in self.variants if installed(name)]


def _of_scale(scale, yaml, packets, names):
    return Group(("bandwidth", *names), partial(recognizers, scale, yaml, packets, names))


GROUPS = {
    "base-sa": _of_scale("base", "sa", (1, 8), tuple(ENGINES)),
    "base-llsa": _of_scale("base", "llsa", (1, 8), tuple(ENGINES)),
    "mini-sa": _of_scale("mini", "sa", (1,), OF_A_SMALL_MODEL),
    "mini-llsa": _of_scale("mini", "llsa", (1,), OF_A_SMALL_MODEL),
    "step": Group(("LLSA, chunk 8", "Emformer"), steps),
}
"""What is timed as a stream, by name."""
