"""LLSA, low-latency streaming attention: R frames of look-ahead for the whole stack, at any depth.

When frame s + R has come in, every layer l computes frame s for good, and frames s+1 .. s+R for the time being. H^l[s, j] is
frame s + j as computed at that time, so H^l[s, 0] is the final version of frame s.

    H^0[s, j] = X_{s+j}                                            j = 0..R
    H^l[s, j] = Block_l(H^{l-1}[s, j]) attending to the final frames H^{l-1}[m, 0], m = s-L..s-1,
                and to the frames of its own group, H^{l-1}[s, 0..R]   (the same keys for all j, no mask inside)
    output      X^N_s = H^N[s, 0]

Nothing reads beyond frame s + R, so the look-ahead does not add up over layers. The price is R + 1 times the frames.

This is our reading of Ma et al., arXiv 2302.13451, whose code is not public. With chunk = 1 it is what Emformer
(Shi et al., arXiv 2010.10759) computes with segments of one frame and no memory; chunk > 1 is Emformer's segment.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Attention, Mixed, MixerState, Shared, followed, overlap_add, pad
from .constant import constant
from .layout import Layout

QUERIES = 40  # groups are put together until they have about this many queries, which share one stretch of keys


class LLSA(Attention):
    """Attention with a look-ahead of R frames for the whole stack, at any depth; the equations are above.

    The streaming state holds the keys and values of the last L *final* frames, and nothing else.

    Arguments
    ---------
    dim, num_heads, positions, role, reuse
        See `Attention`.
    left_context : int
        L, the number of final frames before its group that a frame reads.
    lookahead : int
        R, the number of frames after the final ones of its group that a frame reads.
    chunk : int
        C, the number of final frames in a group. These share their look-ahead frames, so that a layer computes (C + R) / C
        times as many frames as SA. The first frame of a group then looks ahead R + C - 1 frames, the last one R.
    revisions : list of int or None
        Which of the R look-ahead frames are computed: their distances from the last final frame, such as [0, 4, 8]. The first
        is 0, that final frame itself; the last is R. None: all of 0..R.

    Raises
    ------
    ValueError
        If a number is too small, or `revisions` do not rise from 0 to R.

    Example
    -------
    >>> attention = LLSA(dim=8, num_heads=2, left_context=16, lookahead=2, positions="none")
    >>> q, k, v = attention.project(torch.rand(1, 5, 3, 8), None)  # 5 frames, each with itself and 2 frames after it
    >>> attention.mix(q, k, v, valid=torch.ones(1, 5, 3, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 3, 2, 4])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        left_context: int,
        lookahead: int,
        chunk: int = 1,
        revisions: Sequence[int] | None = None,
        positions: str = "rotary",
        role: str | None = None,
        reuse: str = "map",
    ):
        super().__init__(dim, num_heads, positions, role, reuse)
        if left_context < 0 or lookahead < 0 or chunk < 1:
            raise ValueError(
                f"left_context={left_context} and lookahead={lookahead} must be 0 or more frames, and chunk={chunk} 1 or more"
            )
        revisions = list(range(lookahead + 1)) if revisions is None else list(revisions)
        if revisions != sorted(set(revisions)) or revisions[:1] != [0] or revisions[-1] != lookahead:
            raise ValueError(f"revisions={revisions} must rise from 0 to lookahead={lookahead}")
        self.left_context = left_context
        self.layout = Layout(chunk, (*range(chunk), *(chunk - 1 + lag for lag in revisions[1:])))

    def mix(
        self, *parts: Tensor, valid: Tensor, state: MixerState | None = None, final: bool = False, shared: Shared = None
    ) -> Mixed:
        *queries, v = parts  # a follower has values alone, and `queries` is empty; else it holds queries and keys
        chunk, left, (batch, groups, frames) = self.layout.chunk, self.left_context, valid.shape
        if state is None:  # a whole utterance: nothing comes before it
            state = self.initial_state(batch)
        local = {"v": v, "valid": valid, **dict(zip("k", queries[1:]))}
        most = max(1, QUERIES // frames)
        block = most if groups > most else groups  # groups of a block, which share one stretch of keys
        blocks = -(-groups // block)
        reach = {name: self._keys(t, state[name].to(t.dtype), block) for name, t in local.items()}
        keys, after = ({name: both[i] for name, both in reach.items()} for i in (0, 1))

        if self.role == "follower":
            shared = followed(shared)
            y = self.reuse_map(self._final(shared, block) if final else shared, keys["v"])
        else:
            q = queries[0][:, :, :chunk] if final else queries[0]
            seen, own, distances, nth = masks(self.layout, left, block, q.size(2), q.device)
            q = pad(q, 0, blocks * block - groups).reshape(batch * blocks, -1, *q.shape[3:])
            q, bias = self.bias(q, distances, lambda scores: scores.gather(-1, nth.expand(*scores.shape[:2], -1, -1)))
            y, shared = self.attend(q, keys["k"], keys["v"], seen & keys["valid"][:, None] | own, bias)
        y = y.reshape(batch, blocks * block, -1, *y.shape[2:])
        return y[:, :groups] if groups < blocks * block else y, valid, after, shared

    def _keys(self, t: Tensor, past: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """What each block can reach: L final frames before it, then its own frames.

        Arguments
        ---------
        t : torch.Tensor
            (batch, groups, frames, ..).
        past : torch.Tensor
            (batch, L, ..), the final frames before these.
        block : int
            Groups of a block.

        Returns
        -------
        keys : torch.Tensor
            (batch * blocks, L + block * frames, ..).
        past : torch.Tensor
            (batch, L, ..), the last final frames.
        """
        groups, chunk, left = t.size(1), self.layout.chunk, self.left_context
        keys = torch.cat([past, t.flatten(1, 2)], dim=1) if groups == block else Reach.apply(t, past, chunk, block)
        if groups == 1:  # its final frames stand just behind the past
            return keys, keys[:, chunk : chunk + left]
        last = t[:, left // -chunk :, :chunk].flatten(1, 2)  # the final frames of as many groups as hold L
        final = torch.cat([past, last], dim=1)
        return keys, final[:, final.size(1) - left :]

    def _final(self, shared: tuple[Tensor, ...], block: int) -> tuple[Tensor, ...]:
        """The rows of a map that belong to final frames. Queries are at axis 2, save in the keys of (q, k, mask)."""
        chunk = self.layout.chunk
        return tuple(
            t if len(shared) == 3 and i == 1 else t.unflatten(2, (block, -1))[:, :, :, :chunk].flatten(2, 3)
            for i, t in enumerate(shared)
        )

    def initial_state(self, batch_size: int) -> MixerState:
        return self._cache(batch_size, self.left_context)


class Reach(torch.autograd.Function):
    """What each block of groups can reach, as `LLSA._keys` returns it: (batch * blocks, L + block * frames, ..).

    The gradient of a frame comes from its own block, and if it is final from the few blocks after it: a sum of slices.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, past: Tensor, chunk: int, block: int) -> Tensor:
        ctx.shape, ctx.left, ctx.chunk, ctx.block = t.shape[:3], past.size(1), chunk, block
        missing = -t.size(1) % block  # groups that the last block lacks
        final = pad(torch.cat([past, t[:, :, :chunk].flatten(1, 2)], dim=1), 0, missing * chunk)
        own = pad(t, 0, missing).unflatten(1, (-1, block)).flatten(2, 3)  # (batch, blocks, block * frames, ..)
        before = final.unfold(1, past.size(1), block * chunk)[:, : own.size(1)].movedim(-1, 2)
        return torch.cat([before, own], dim=2).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (batch, groups, frames), left, chunk, block = ctx.shape, ctx.left, ctx.chunk, ctx.block
        g = g.unflatten(0, (batch, -1))  # (batch, blocks, L + block * frames, ..)
        final, read = overlap_add(g[:, :, :left], block * chunk), (g.size(1) - 1) * block  # groups that a later block reads
        own = g[:, :, left:].clone(memory_format=torch.contiguous_format).view(batch, -1, frames, *g.shape[3:])[:, :groups]
        own[:, :read, :chunk] += final[:, left : left + read * chunk].unflatten(1, (read, chunk))
        return own, final[:, :left], None, None


@constant
def masks(layout: Layout, left: int, groups: int, queries: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What each query of a block may see, and how far it is away.

    Arguments
    ---------
    layout : Layout
    left : int
        L, in frames.
    groups : int
        Groups of the block.
    queries : int
        Queries of each group: all its frames, or the final ones alone.
    device : torch.device

    Returns
    -------
    seen, own : torch.Tensor
        (groups * queries, L + groups * frames) each, with L final frames before the block, and then its own frames, as
        keys: whether the query may see the key, and whether it is the query's own key.
    distances : torch.Tensor
        (n,), all distances in frames that may lie between a query and a key.
    nth : torch.Tensor
        (groups * queries, L + groups * frames), which of these distances it is.
    """
    chunk, offsets = layout.chunk, torch.tensor(layout.offsets, device=device)
    group = torch.arange(groups, device=device) * chunk  # number of its first frame, for each group
    start = group.repeat_interleave(queries)[:, None]  # first frame of each query's group
    version = torch.arange(len(offsets), device=device).repeat(groups)
    owner = group.repeat_interleave(len(offsets))  # first frame of each key's group
    past, position = torch.arange(-left, 0, device=device), owner + offsets.repeat(groups)
    earlier_final = (owner < start) & (version < chunk) & (position >= start - left)
    seen = torch.cat([past >= start - left, (owner == start) | earlier_final], dim=1)
    own = (owner == start) & (version == torch.arange(queries, device=device).repeat(groups)[:, None])
    distance = start + offsets[:queries].repeat(groups)[:, None] - torch.cat([past, position])
    longest = left + groups * chunk + layout.lookahead
    return seen, F.pad(own, (left, 0)), torch.arange(longest, -longest - 1, -1, device=device), longest - distance
