"""What MAA and SA share: each frame sees a window of L + R + 1 frames; and the streaming state for that."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Attention, Mixed, MixerState, Shared, followed, overlap_add, pad
from .constant import constant


class WindowedAttention(Attention):
    """Frame s sees frames s-L .. s+R. Each layer adds R frames of look-ahead, so a stack of N layers has N * R.

    While streaming, frame s comes out of the layer once frame s + R has come in. The state holds the keys and values of the
    last L + R frames, and the queries of the R frames that still wait for their look-ahead. In a follower, it holds the
    values, and the owner's map of these R frames in place of queries.

    Arguments
    ---------
    dim, num_heads, positions, role, reuse
        See `Attention`.
    left_context : int
        L, in frames.
    lookahead : int
        R, in frames.

    Raises
    ------
    ValueError
        If L or R is negative.
    """

    block: int | None = None
    """The number of queries that are compared with one stretch of keys; None for all queries at once."""

    layer_lookahead: int

    def __init__(
        self,
        dim: int,
        num_heads: int,
        left_context: int,
        lookahead: int,
        positions: str = "rotary",
        role: str | None = None,
        reuse: str = "map",
    ):
        super().__init__(dim, num_heads, positions, role, reuse)
        if left_context < 0 or lookahead < 0:
            raise ValueError(f"left_context={left_context} and lookahead={lookahead} must be 0 or more frames")
        self.left_context, self.layer_lookahead = left_context, lookahead

    def mix(
        self, *parts: Tensor, valid: Tensor, state: MixerState | None = None, final: bool = False, shared: Shared = None
    ) -> Mixed:
        *queries, valid = (t.squeeze(2) for t in (*parts, valid))  # (batch, time, ..), since groups have one frame
        names = ("v",) if self.role == "follower" else ("q", "k", "v")
        inputs = {**dict(zip(names, queries)), "valid": valid}
        left, right, time = self.left_context, self.layer_lookahead, valid.size(1)
        block = self.block if self.block and time > self.block else time
        if state is None:  # a whole utterance: nothing comes before it or after it
            inputs["valid"] = pad(valid, left, right)
            if block == time:
                keys = {name: pad(inputs[name], left, right) for name in names[-2:]}
            else:
                keys = {name: Stretches.apply(inputs[name], left, right, block) for name in names[-2:]}
        else:
            inputs = {name: torch.cat([state[name], t], dim=1) for name, t in inputs.items()}
            after = {name: t[:, time:] for name, t in inputs.items()}
            if self.role == "follower":
                shared, after["shared"] = self._delay(followed(shared), state["shared"], time)
            state = after
            keys = {name: self._stretches(inputs[name], block) for name in names[-2:]}
        if self.role == "follower":
            y = self.reuse_map(followed(shared), keys["v"])
        else:
            seen = self._stretches(inputs["valid"], block)
            y, shared = self._attend(inputs["q"][:, :time], keys["k"], keys["v"], seen, block, state is not None)
        if block < time:
            y = y.reshape(valid.size(0), -1, *y.shape[2:])[:, :time]
        return y.unsqueeze(2), inputs["valid"][:, left : left + time].unsqueeze(2), state, shared

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor, block: int, streaming: bool) -> tuple[Tensor, Shared]:
        """Attend block by block, with a map of this layer's own.

        Arguments
        ---------
        q : torch.Tensor
            (batch, time, heads, head_dim).
        k, v, valid : torch.Tensor
            (batch * blocks, L + block + R, ..), the stretch of keys that each block can reach.
        block : int
            Queries of a block.
        streaming : bool
            See `attend`.

        Returns
        -------
        y : torch.Tensor
            (batch * blocks, block, heads, head_dim).
        shared : tuple or None
            The map of each block.
        """
        make = kept_masks if block <= 64 else masks  # larger ones, of MAA, are soon too many for the memory
        band, own, distances = make(block, self.left_context, self.layer_lookahead, q.device)
        if block < q.size(1):
            q = pad(q, 0, -q.size(1) % block).reshape(-1, block, *q.shape[2:])
        q, bias = self.bias(q, distances, from_band)
        # every query sees its own key, valid or not: a softmax over no keys would be NaN
        return self.attend(q, k, v, band & valid[:, None] | own, bias, streaming)

    def _stretches(self, t: Tensor, block: int) -> Tensor:
        """The stretch of keys that each block can reach: (batch, L + time + R, ..) -> (batch * blocks, L + block + R, ..)."""
        reach = block + self.left_context + self.layer_lookahead
        if t.size(1) == reach:  # one block
            return t
        t = pad(t, 0, (reach - t.size(1)) % block)
        return t.unfold(1, reach, block).movedim(-1, 2).flatten(0, 1)

    def _delay(self, shared: tuple[Tensor, ...], held: Tensor, time: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Hold the owner's map back by R frames, until the values of the look-ahead that its rows read have come.

        Arguments
        ---------
        shared : tuple of torch.Tensor
            The map of the `time` newest frames, (batch * blocks, heads, block, L + block + R).
        held : torch.Tensor
            (batch, R, heads, L + 1 + R), the rows that were held back last time.
        time : int

        Returns
        -------
        shared : tuple of torch.Tensor
            The map of the `time` frames that are R frames older, shaped as it came.
        held : torch.Tensor
            The rows to hold back now.
        """
        (weights,) = shared  # while streaming, an owner hands on the map itself
        block = weights.size(2)
        rows = to_band(weights).transpose(1, 2)  # (batch * blocks, block, heads, L + 1 + R)
        rows = torch.cat([held, rows.reshape(held.size(0), -1, *rows.shape[2:])[:, :time]], dim=1)
        rows, held = rows[:, :time], rows[:, time:]
        rows = pad(rows, 0, -time % block).reshape(-1, block, *rows.shape[2:])
        return (from_band(rows.transpose(1, 2)),), held

    def initial_state(self, batch_size: int) -> MixerState:
        cache = self._cache(batch_size, self.left_context + self.layer_lookahead)
        if self.role == "follower":
            window = self.left_context + 1 + self.layer_lookahead
            return {**cache, "shared": cache["v"].new_zeros(batch_size, self.layer_lookahead, self.num_heads, window)}
        width = self.head_dim + (self.positions == "gated")
        return {"q": self.empty.new_zeros(batch_size, self.layer_lookahead, self.num_heads, width), **cache}


class Stretches(torch.autograd.Function):
    """The stretch of frames that each block of whole utterances can reach, without a copy for each block.

    All utterances stand one after the other in one sequence, each filled up to whole blocks, and stretches are views of it that
    overlap: (batch, time, ..) -> (batch * blocks, L + block + R, ..). So the first and the last stretches of an utterance reach
    into its neighbours, whose frames must be masked. A mask stops numbers, but no NaN or infinity: those of one utterance can
    reach its neighbours. The gradient of a frame is the sum over the few stretches that hold it.

    Example
    -------
    >>> Stretches.apply(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), 1, 0, 2)
    tensor([[0, 1, 2],
            [2, 3, 4],
            [4, 5, 6],
            [6, 7, 8]])
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, left: int, right: int, block: int) -> Tensor:
        batch, time = t.shape[:2]
        ctx.shape, ctx.left, ctx.block = (batch, time), left, block
        filled = time + -time % block
        sequence = t.new_zeros(left + batch * filled + right, *t.shape[2:])
        sequence[left : left + batch * filled].unflatten(0, (batch, filled))[:, :time] = t
        return sequence.unfold(0, left + block + right, block).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (batch, time), left, block, blocks = ctx.shape, ctx.left, ctx.block, g.size(0)
        total = overlap_add(g[None], block)[0, left : left + blocks * block].unflatten(0, (batch, -1))
        return total[:, :time], None, None, None


def masks(block: int, left: int, right: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What each query of a block may see.

    Returns
    -------
    band, own : torch.Tensor
        (block, L + block + R), whether the key is in the query's window, and whether it is the query's own key.
    distances : torch.Tensor
        (L + 1 + R,), those in a window, from L to -R.
    """
    distance = torch.arange(left + block + right, device=device) - torch.arange(block, device=device)[:, None]
    distances = torch.arange(left, -right - 1, -1, device=device)
    return (0 <= distance) & (distance <= left + right), distance == left, distances


kept_masks = constant(masks)


def to_band(x: Tensor) -> Tensor:
    """Take entries s .. s + width - 1 of each row s: (.., rows, rows + width - 1) -> (.., rows, width).

    Example
    -------
    >>> to_band(torch.tensor([[1, 2, 0], [0, 3, 4]]))
    tensor([[1, 2],
            [3, 4]])
    """
    rows, keys = x.shape[-2:]
    return F.pad(x.flatten(-2), (0, rows)).unflatten(-1, (rows, keys + 1))[..., : keys - rows + 1]


def from_band(x: Tensor) -> Tensor:
    """The inverse of `to_band`, with zeros outside the band: (.., rows, width) -> (.., rows, rows + width - 1)."""
    rows, width = x.shape[-2:]
    return F.pad(x, (0, rows)).flatten(-2)[..., :-rows].unflatten(-1, (rows, rows + width - 1))
