"""What results/speed.py measures: a table of variants, and how each becomes something that runs at a given length."""

from functools import partial
from typing import NamedTuple

import torch
from speech_attention.attention import AA, SA, SummaryMixing
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd
from speech_attention.model import CTCModel
from torch import nn


class Variant(NamedTuple):
    """An attention, its options, and how many blocks use one map (1: each makes its own)."""

    kind: type
    options: dict = {}
    share: int = 1


PLAIN = {"positions": "relative", "role": "owner"}  # scores, softmax and mean one after another, as in Transformer-XL
RELATIVE = {"positions": "relative"}
WINDOW = {"left_context": 64, "lookahead": 4}
FOLLOWER = {"role": "follower"}

BASELINE = "AA"  # rotary positions, fused
SHARED = {
    f"AA{words}by {share}, {reuse}": Variant(AA, {**positions, "reuse": reuse}, share)
    for words, positions in ((" ", {}), (" relative ", RELATIVE))
    for share in (2, 4)
    for reuse in ("map", "queries")
}
MATCHED = Variant(SummaryMixing, {"num_heads": 2})  # as many parameters as the baseline
VARIANTS = {
    "modules": {
        BASELINE: Variant(AA),
        "AA relative": Variant(AA, RELATIVE),
        "AA relative, plain": Variant(AA, PLAIN),
        "AA follower, map": Variant(AA, {**FOLLOWER, "reuse": "map"}),
        "AA follower, queries": Variant(AA, {**FOLLOWER, "reuse": "queries"}),
        "SA": Variant(SA, WINDOW),
        "SA follower, map": Variant(SA, {**WINDOW, **FOLLOWER}),
        "SummaryMixing": Variant(SummaryMixing),
        "SummaryMixing, chunks of 16": Variant(SummaryMixing, {"chunk": 16}),
        "SummaryMixing, cumulative": Variant(SummaryMixing, {"chunk": 1}),
        "SummaryMixing lite": Variant(SummaryMixing, {"lite": True}),
    },
    "encoder": {
        BASELINE: Variant(AA),
        "AA relative": Variant(AA, RELATIVE),
        "AA relative, plain": Variant(AA, PLAIN),
        **SHARED,
        "SummaryMixing": Variant(SummaryMixing),
        "SummaryMixing, matched": MATCHED,
    },
    "model": {
        BASELINE: Variant(AA),
        "AA relative": Variant(AA, RELATIVE),
        "AA relative, plain": Variant(AA, PLAIN),
        **{name: SHARED[name] for name in ("AA by 4, map", "AA relative by 4, map")},
        "SummaryMixing": Variant(SummaryMixing),
        "SummaryMixing, matched": MATCHED,
    },
}
LENGTHS = {  # frames of 40 ms: from 5 s on
    "modules": (125, 250, 500, 1024, 2048, 4096, 8192),
    "encoder": (125, 250, 500, 875, 1500),
    "model": (125, 250, 500, 1000, 2000),
}
QUADRATIC = ("AA relative", "AA relative, plain", "AA follower, map")  # modules that hold T x T tensors: up to 82 s
TOKENS = 128


class Subject(NamedTuple):
    """What runs: its parameters are those of `module`; `leaves` are the other tensors that get a gradient."""

    module: nn.Module
    leaves: list
    forward: callable


def names(group, frames):
    """The variants of a group that are measured at a length."""
    return [name for name in VARIANTS[group] if group != "modules" or frames <= 2048 or name not in QUADRATIC]


def build(group, name, frames, shape, device):
    """Something that runs.

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
    """One module as the first block of a stack runs it. A follower's map, made beforehand, gets a gradient as in a stack."""
    module = attention(dim=dim).to(device)
    layout = module.layout
    time = torch.arange(frames + -frames % layout.chunk + layout.pending, device=device)[None]
    x = torch.randn(1, time.size(1), dim, device=device, requires_grad=True)
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
