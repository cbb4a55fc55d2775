"""How a variant of results/experiments.py becomes something that runs on audio of a given length."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd
from speech_attention.model import CTCModel
from torch import nn

from results.experiments import QUADRATIC, VARIANTS

LONGEST_MAP = 2048  # frames; what holds the map of all pairs of frames is not measured at longer ones
TOKENS = 128


class Subject(NamedTuple):
    """What is timed: a call without arguments, the module whose parameters get gradients, and other tensors that get one."""

    module: nn.Module
    leaves: list[torch.Tensor]
    forward: Callable[[], torch.Tensor]


def names(group, frames):
    """The variants of a group that are measured at a length."""
    return [name for name in VARIANTS[group] if group != "modules" or frames <= LONGEST_MAP or name not in QUADRATIC]


def build(group, name, frames, shape, device):
    """Make a variant ready to run on noise.

    Arguments
    ---------
    group : str
        `modules`: one attention module, from frames to frames. `encoder`: the blocks. `model`: from waveform to CTC tokens.
    name : str
        Variant.
    frames : int
        Length of the one utterance, in frames of 40 ms.
    shape : dict
        `dim`, `ffn_dim`, `num_layers`, `num_heads` and `block` of a scale.
    device : str

    Returns
    -------
    Subject
    """
    kind, options, share = VARIANTS[group][name]
    attention = partial(kind, **{"num_heads": shape["num_heads"], **options})
    if group == "modules":
        return _module(attention, frames, shape["dim"], device)
    owners = list(range(0, shape["num_layers"], share))
    encoder = Encoder(*(shape[key] for key in ("dim", "ffn_dim", "num_layers", "block")), attention, owners=owners).to(device)
    if group == "encoder":
        lengths = torch.tensor([frames], device=device)
        x = torch.randn(1, frames, shape["dim"], device=device, requires_grad=True)
        return Subject(encoder, [x], lambda: encoder(x, lengths)[0])
    model = CTCModel(FbankFrontEnd(shape["dim"]), encoder, TOKENS).to(device)
    lengths = torch.tensor([frames * model.front_end.hop], device=device)
    samples = torch.randn(1, int(lengths), device=device)
    return Subject(model, [], lambda: model(samples, lengths)[0])


def _module(attention, frames, dim, device):
    """One module as the first block of a stack runs it. A follower reads what an owner made before the clock runs; that gets a
    gradient too, as in a stack."""
    module = attention(dim=dim).to(device)
    layout = module.layout
    time = torch.arange(frames + -frames % layout.chunk + layout.pending, device=device)[None]
    x = torch.randn(1, time.size(1), dim, device=device, requires_grad=True)  # (batch, time, dim)
    valid, table = layout.expand(time < frames), module.table(time)

    def mix(mixer, shared=None):
        parts = [layout.expand(t) for t in mixer.project(x, table)]
        y, _, _, shared = mixer.mix(*parts, valid=valid, shared=shared)
        return mixer.finish(y), shared

    shared = None
    if getattr(module, "role", None) == "follower":
        with torch.no_grad():
            _, shared = mix(attention(dim=dim, role="owner").to(device))
        shared = [t.requires_grad_(t.is_floating_point()) for t in shared]
    return Subject(module, [x, *(t for t in shared or () if t.requires_grad)], lambda: mix(module, shared)[0])
