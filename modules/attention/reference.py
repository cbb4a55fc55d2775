"""The specification: every attention and block as plain loops over frames, slow and easy to check; the tests compare with it.

A frame of a stack is named by a key (group, version): it is frame group * chunk + offsets[version], as that group computes
it. Where a group is a single frame, version is 0.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from ..convolution import DepthwiseConvolution, GatedConvolution
from .aa import AA
from .base import Attention, Mixer
from .llsa import LLSA
from .positions import sinusoids
from .summary_mixing import SummaryMixing
from .window import WindowedAttention

if TYPE_CHECKING:  # encoder.py needs nothing of this file
    from ..encoder import Encoder

Key: TypeAlias = tuple[int, int]
"""A frame of a stack: (group, version)."""
Vectors: TypeAlias = dict[Key, Tensor]
"""One tensor (dim,) for each frame of the stack."""
Maps: TypeAlias = dict[Key, dict[Key, Tensor]]
"""For each frame the frames that it sees, and the weight (heads,) of each."""


def visible(attention: Mixer, query: Key, frames: dict[Key, int]) -> list[Key]:
    """The frames that a frame sees, written down from the definition of each attention.

    Arguments
    ---------
    attention : Mixer
        One of this folder.
    query : tuple of int
        (group, version) of the frame that sees.
    frames : dict
        Frame number of each (group, version) inside the utterance.

    Returns
    -------
    list of tuple of int
        (group, version) of the frames that it sees.
    """
    if isinstance(attention, AA) or (isinstance(attention, SummaryMixing) and attention.layer_lookahead):
        return list(frames)
    if isinstance(attention, SummaryMixing):
        start = query[0] * attention.layout.chunk
        left = start if attention.past is None else attention.past * attention.layout.chunk
        return [key for key, t in frames.items() if start - left <= t < start + attention.layout.chunk]
    if isinstance(attention, WindowedAttention):
        s = frames[query]
        return [key for key, t in frames.items() if s - attention.left_context <= t <= s + attention.layer_lookahead]
    assert isinstance(attention, LLSA)
    group, chunk = query[0], attention.layout.chunk
    start = group * chunk
    return [
        (g, version)
        for (g, version), t in frames.items()
        if g == group or (g < group and version < chunk and t >= start - attention.left_context)
    ]


def reference_attention(attention: Any, x: Vectors, frames: dict[Key, int], shared: Maps | None) -> tuple[Vectors, Maps | None]:
    """One layer of attention: y_s = sum of softmax(q_s . k / sqrt(d)) v over the keys that frame s sees.

    Arguments
    ---------
    attention : Mixer
        One of this folder.
    x : dict
        The vector (dim,) of each frame.
    frames : dict
        The number of each frame.
    shared : dict or None
        The map of an owner, which a follower reads.

    Returns
    -------
    y : dict
        The mixed vector (dim,) of each frame.
    shared : dict or None
        The map that was used.
    """
    if isinstance(attention, SummaryMixing):
        return reference_summary_mixing(attention, x, frames), None
    if attention.role != "follower":
        shared = reference_map(attention, x, frames)
    assert shared is not None, "a follower needs the map of a layer before it"
    v = {key: attention.project(vector, attention.table(torch.tensor(frames[key])))[-1] for key, vector in x.items()}
    y = {}
    for key in x:
        mixed: Any = sum(weight[:, None] * v[other] for other, weight in shared[key].items())
        y[key] = attention.output(mixed.flatten())
    return y, shared


def reference_map(attention: Attention, x: Vectors, frames: dict[Key, int]) -> Maps:
    """The attention map: for each frame the frames that it sees, and the weight (heads,) of each."""
    q, k = {}, {}
    for key, vector in x.items():
        q[key], k[key], _ = attention.project(vector, attention.table(torch.tensor(frames[key])))  # (heads, head_dim) each
        q[key] = q[key][:, : attention.head_dim]
    weights = {}
    for key in x:
        scores = {other: (q[key] * k[other]).sum(-1) for other in visible(attention, key, frames)}
        if attention.positions == "relative":
            for other in scores:
                distance = torch.tensor([frames[key] - frames[other]])
                r = attention.distance(sinusoids(distance, attention.distance.in_features)).view_as(q[key])
                scores[other] = ((q[key] + attention.bias_content) * k[other] + (q[key] + attention.bias_distance) * r).sum(-1)
        logits = torch.stack(list(scores.values())) / math.sqrt(attention.head_dim)
        if attention.positions == "gated":
            logits = logits + torch.stack([gated_bias(attention, x[key], frames[key] - frames[other]) for other in scores])
        weights[key] = dict(zip(scores, logits.softmax(dim=0)))
    return weights


def gated_bias(attention: Attention, x: Tensor, distance: int) -> Tensor:
    """What gated positions add to the scores (heads,) of a frame x (dim,) for the frame `distance` frames before it."""
    far, biases = abs(distance), []
    bucket = far if far < 80 else min(159, int(80 + 80 * math.log(far / 80, 10)))
    for head, part in enumerate(x.chunk(attention.num_heads)):
        a, b = (attention.gate(part)[i : i + 4].sum().sigmoid() for i in (0, 4))
        gate = a * (b * attention.strength[head] - 1) + 2
        biases.append(gate * attention.buckets.weight[bucket + (160 if distance < 0 else 0), head])
    return torch.stack(biases)


def reference_summary_mixing(mixing: SummaryMixing, x: Vectors, frames: dict[Key, int]) -> Vectors:
    """y_t = c([f(x_t); mean of s(x_m) over the frames that frame t sees]); with `lite`, y_t is that mean."""
    y = {}
    for key in x:
        seen = visible(mixing, key, frames)
        mean = sum(mixing.s(x[other]) for other in seen) / len(seen)
        if mixing.lite:
            y[key] = mean
            continue
        weight = torch.cat([mixing.c_f.weight, mixing.c_s.weight], dim=1)  # c, one linear layer over the concatenation
        joined = torch.cat([mixing.norm_f(mixing.f(x[key])), mixing.norm_s(mean)])
        y[key] = torch.nn.functional.gelu(weight @ joined + mixing.c_f.bias)
    return y


def reference_depthwise(convolution: DepthwiseConvolution, inputs: Vectors, frames: dict[Key, int]) -> Vectors:
    """y_s = sum over taps of weight[tap] * inputs[s - tap]; frames before the group are final, others the group's own."""
    chunk, y = convolution.layout.chunk, {}
    for (group, version), vector in inputs.items():
        total = torch.zeros_like(vector)
        for tap in range(convolution.kernel_size):
            t = frames[group, version] - tap + (convolution.kernel_size // 2 if convolution.centred else 0)
            home = group if t >= group * chunk and not convolution.centred else t // chunk
            for (g, other), at in frames.items():
                if at == t and g == home and (g == group or other < chunk):
                    total = total + convolution.weight[:, tap if not convolution.centred else -1 - tap] * inputs[g, other]
        y[group, version] = total
    return y


def reference_convolution(convolution: Any, x: Vectors, frames: dict[Key, int]) -> Vectors:
    """The convolution module of a Conformer or of a Branchformer."""
    inputs = {key: convolution.enter(vector) for key, vector in x.items()}
    if not isinstance(convolution, GatedConvolution):
        y = reference_depthwise(convolution, inputs, frames)
        return {key: convolution.leave(vector) for key, vector in y.items()}
    half = len(convolution.bias)
    y = reference_depthwise(convolution, {key: convolution.norm(vector[half:]) for key, vector in inputs.items()}, frames)
    return {key: convolution.leave(inputs[key][:half] * (y[key] + convolution.bias)) for key in y}


def reference_encoder(encoder: "Encoder", x: Tensor, mix: Callable[..., tuple[Vectors, Any]] = reference_attention) -> Tensor:
    """`Encoder.forward` of one utterance, frame by frame.

    Arguments
    ---------
    encoder : Encoder
    x : torch.Tensor
        (time, dim).
    mix : callable
        The plain loop of the attention, called as `reference_attention` is; that one knows the attentions of this folder.

    Returns
    -------
    torch.Tensor
        (time, dim).
    """
    layout, time = encoder.layout, x.size(0)
    frames = {
        (group, version): group * layout.chunk + offset
        for group in range(math.ceil(time / layout.chunk))
        for version, offset in enumerate(layout.offsets)
        if group * layout.chunk + offset < time
    }
    h, shared = {key: x[t] for key, t in frames.items()}, None
    block: Any  # of any type
    for block in encoder.blocks:
        if hasattr(block, "enter"):
            h = {key: vector + 0.5 * block.enter(vector) for key, vector in h.items()}
        post = hasattr(block, "leave") and not hasattr(block, "enter")  # norms after the sums
        normed = h if post else {key: block.norm(vector) for key, vector in h.items()}
        y, shared = mix(block.attention, normed, frames, shared)
        if hasattr(block, "merge"):
            normed = {key: block.norm_convolution(vector) for key, vector in h.items()}
            local = reference_convolution(block.convolution, normed, frames)
            h = {key: vector + block.merge(torch.cat([y[key], local[key]])) for key, vector in h.items()}
            continue
        h = {key: vector + y[key] for key, vector in h.items()}
        if hasattr(block, "convolution"):
            normed = {key: block.norm_convolution(vector) for key, vector in h.items()}
            y = reference_convolution(block.convolution, normed, frames)
            h = {key: block.leave(h[key] + y[key] + 0.5 * block.feed_forward(h[key] + y[key])) for key in h}
        elif post:
            h = {key: block.norm(vector) for key, vector in h.items()}
            h = {key: block.leave(vector + block.feed_forward(vector)) for key, vector in h.items()}
        else:
            h = {key: vector + block.feed_forward(vector) for key, vector in h.items()}
    final = {t: h[key] for key, t in frames.items() if key[1] < layout.chunk}
    return encoder.norm(torch.stack([final[t] for t in range(time)]))
