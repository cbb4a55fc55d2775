"""SummaryMixing: each frame is joined with a mean over frames, in place of an attention; time and memory are linear in T.

    sbar_t = mean of s(x_m) over the frames m that frame t sees
    y_t    = c([f(x_t); sbar_t])

f and s have two layers, c has one; an activation follows each of them. The concatenation is never made: the weight of c is
split into a part for f(x_t) and a part for sbar_t, and the second part is applied once for each chunk or utterance.
Written from the equations of Parcollet et al., arXiv 2307.07421.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..streaming import GELU
from .base import Mixed, Mixer, MixerState, Shared
from .layout import Layout


class HeadLinear(nn.Module):
    """A linear layer for each head: weight (heads, head_dim, head_dim), where each head is initialised as a layer of its own."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        layers = [nn.Linear(dim // num_heads, dim // num_heads) for _ in range(num_heads)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each head of x its own layer: (.., dim) -> (.., dim)."""
        if len(self.weight) == 1:
            return F.linear(x, self.weight[0].T, self.bias)
        heads = x.reshape(-1, *self.weight.shape[:2]).transpose(0, 1)  # (heads, frames, head_dim)
        return (heads @ self.weight).transpose(0, 1).reshape(x.shape) + self.bias


def two_layers(dim: int, num_heads: int) -> nn.Sequential:
    """What f and s are: two layers, with an activation after each."""
    return nn.Sequential(HeadLinear(dim, num_heads), GELU(), HeadLinear(dim, num_heads), GELU())


class SummaryMixing(Mixer):
    """Each frame is joined with the mean of the utterance, or with that of its own chunk and the past; see above.

    * With `chunk=None`, the mean is that of the utterance, and there is no streaming form.
    * With `chunk=C`, a frame sees its own chunk of C frames and the `left_context` before that. Its look-ahead is the rest of
      its chunk, once for the whole stack. With `chunk=1` and all of the past, the mean is cumulative.

    The streaming state is a sum (in float64) and a count over all of the past; where the left context is limited, it is the
    sum and the count of each chunk in it.

    Arguments
    ---------
    dim : int
        Width of the frames.
    num_heads : int
        Number of parts into which the layers of f and s are split; it must divide dim.
    chunk : int or None
        C, in frames; None for the whole utterance.
    left_context : int or None
        Number of frames before the chunk that a frame sees, a multiple of C; None for all of the past.
    lite : bool
        True makes y_t equal to sbar_t; then the block, a Branchformer, brings layers that play the part of f and c.
    norm : bool
        True puts a LayerNorm on f(x_t) and on sbar_t, as published for whole utterances; the published streaming form has none.

    Raises
    ------
    ValueError
        If a number does not fit the others.

    Example
    -------
    >>> mixing = SummaryMixing(dim=8, num_heads=2, chunk=2)
    >>> parts = mixing.project(torch.rand(1, 3, 2, 8), None)  # 3 chunks of 2 frames
    >>> mixing.mix(*parts, valid=torch.ones(1, 3, 2, dtype=torch.bool))[0].shape
    torch.Size([1, 3, 2, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 4,
        chunk: int | None = None,
        left_context: int | None = None,
        lite: bool = False,
        norm: bool = False,
    ):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide dim={dim}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk={chunk} must be 1 frame or more, or null for the whole utterance")
        if left_context is not None and (chunk is None or left_context < 0 or left_context % chunk):
            raise ValueError(f"left_context={left_context} must be null (all of the past) or a multiple of chunk={chunk}")
        self.dim, self.lite = dim, lite
        self.layer_lookahead = math.inf if chunk is None else 0
        self.layout = Layout() if chunk is None else Layout(chunk, tuple(range(chunk)))
        self.left_context = math.inf if left_context is None else left_context
        self.past = left_context // chunk if chunk and left_context is not None else None  # chunks
        self.s = two_layers(dim, num_heads)
        if not lite:
            self.f = two_layers(dim, num_heads)
            self.norm_f, self.norm_s = (nn.LayerNorm(dim) if norm else nn.Identity() for _ in "fs")
            self.c_f, self.c_s = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)

    def project(self, x: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        return (self.s(x),) if self.lite else (self.s(x), self.norm_f(self.f(x)))

    def mix(
        self, *parts: Tensor, valid: Tensor, state: MixerState | None = None, final: bool = False, shared: Shared = None
    ) -> Mixed:
        values = parts[0]
        total = values.masked_fill(~valid[..., None], 0.0).sum(dim=2, dtype=torch.promote_types(values.dtype, torch.float32))
        total, count, state = self._accumulate(total, valid.sum(dim=2), state)
        # (batch, groups, 1, dim), or one group for all
        mean = (total / count.clamp(min=1)[..., None]).to(values.dtype).unsqueeze(2)
        y = mean.expand_as(values) if self.lite else F.gelu(self.c_f(parts[1]) + self.c_s(self.norm_s(mean)))
        return y, valid, state, None

    def _accumulate(self, total: Tensor, count: Tensor, state: MixerState | None) -> tuple[Tensor, Tensor, MixerState | None]:
        """From sums (batch, groups, dim) and counts (batch, groups) of each group to those of all frames that the group sees."""
        if math.isinf(self.layer_lookahead):
            return total.sum(dim=1, keepdim=True), count.sum(dim=1, keepdim=True), None
        if state is None:  # a whole utterance: nothing comes before it
            state = self.initial_state(total.size(0))
        if self.past is None:
            total = state["total"] + total.double().cumsum(dim=1)
            count = state["count"] + count.cumsum(dim=1)
            return total, count, {"total": total[:, -1:], "count": count[:, -1:]}
        total, count = torch.cat([state["total"], total], dim=1), torch.cat([state["count"], count], dim=1)
        state = {"total": total[:, total.size(1) - self.past :], "count": count[:, total.size(1) - self.past :]}
        return total.unfold(1, self.past + 1, 1).sum(dim=-1), count.unfold(1, self.past + 1, 1).sum(dim=-1), state

    def initial_state(self, batch_size: int) -> MixerState:
        if math.isinf(self.layer_lookahead):
            raise ValueError("SummaryMixing without chunk reads the whole utterance: it has no streaming form (give it a chunk)")
        weight = next(self.parameters())
        chunks, dtype = (1, torch.float64) if self.past is None else (self.past, torch.promote_types(weight.dtype, torch.float32))
        return {
            "total": weight.new_zeros(batch_size, chunks, self.dim, dtype=dtype),
            "count": weight.new_zeros(batch_size, chunks, dtype=torch.long),
        }
