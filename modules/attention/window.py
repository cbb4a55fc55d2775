"""What MAA and SA share: a window of L + R + 1 keys, evaluated in blocks of queries, and its streaming state."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Attention, Mixed, MixerState, Shared, followed


class WindowedAttention(Attention):
    """Frame s sees frames s-L .. s+R. Each layer adds R frames of look-ahead: N * R for a stack of N layers.

    Streaming, frame s comes out once frame s + R is in. The state holds the keys and values of the last L + R frames and
    the R queries that still wait for their look-ahead; of a follower, the values, and the maps of R frames.

    Arguments
    ---------
    dim, num_heads, positions, role, reuse
        See `Attention`.
    left_context : int
        L, frames.
    lookahead : int
        R, frames.
    """

    block: int | None = None
    """Queries that share one stretch of keys; None: all of them."""

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
        *queries, valid = (t.squeeze(2) for t in (*parts, valid))  # (batch, time, ..): groups of one frame
        names = ("v",) if self.role == "follower" else ("q", "k", "v")
        inputs = {**dict(zip(names, queries)), "valid": valid}
        left, right, time = self.left_context, self.layer_lookahead, valid.size(1)
        if state is None:  # nothing before, nothing after
            inputs = {name: t if name == "q" else _pad(t, left, right) for name, t in inputs.items()}
        else:
            inputs = {name: torch.cat([state[name], t], dim=1) for name, t in inputs.items()}
            after = {name: t[:, time:] for name, t in inputs.items()}
            if self.role == "follower":
                shared, after["shared"] = self._delay(followed(shared), state["shared"], time)
            state = after
        block = min(self.block or time, time)
        if self.role == "follower":
            y = self.reuse_map(followed(shared), self._keys(inputs["v"], block))
        else:
            y, shared = self._attend(inputs["q"][:, :time], inputs["k"], inputs["v"], inputs["valid"], block, state is not None)
        y = y.reshape(valid.size(0), -1, *y.shape[2:])[:, :time]
        return y.unsqueeze(2), inputs["valid"][:, left : left + time].unsqueeze(2), state, shared

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor, block: int, streaming: bool) -> tuple[Tensor, Shared]:
        """q (batch, time, heads, head_dim), k and v (batch, L + time + R, ..) -> (batch * blocks, block, ..), shared."""
        window = self.left_context + 1 + self.layer_lookahead
        q = _pad(q, 0, -q.size(1) % block).reshape(-1, block, *q.shape[2:])
        k, v, valid = (self._keys(t, block) for t in (k, v, valid))
        distance = torch.arange(block + window - 1, device=q.device) - torch.arange(block, device=q.device)[:, None]
        # its own key keeps a row from being empty
        band, own = (0 <= distance) & (distance < window), distance == self.left_context
        distances = torch.arange(self.left_context, -self.layer_lookahead - 1, -1, device=q.device)
        q, bias = self.bias(q, distances, from_band)
        return self.attend(q, k, v, band & valid[:, None] | own, bias, streaming)

    def _keys(self, t: Tensor, block: int) -> Tensor:
        """The stretch of keys of each block: (batch, L + time + R, ..) -> (batch * blocks, L + block + R, ..)."""
        reach = block + self.left_context + self.layer_lookahead
        t = _pad(t, 0, (reach - t.size(1)) % block)
        return t.unfold(1, reach, block).movedim(-1, 2).flatten(0, 1)

    def _delay(self, shared: tuple[Tensor, ...], held: Tensor, time: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """The map (batch * blocks, heads, block, L + block + R) of `time` frames, R frames later; `held` are those of R."""
        (weights,) = shared  # while streaming, an owner hands on the map itself
        block = weights.size(2)
        rows = to_band(weights).transpose(1, 2)  # (batch * blocks, block, heads, L + 1 + R)
        rows = torch.cat([held, rows.reshape(held.size(0), -1, *rows.shape[2:])[:, :time]], dim=1)
        rows, held = rows[:, :time], rows[:, time:]
        rows = _pad(rows, 0, -time % block).reshape(-1, block, *rows.shape[2:])
        return (from_band(rows.transpose(1, 2)),), held

    def initial_state(self, batch_size: int) -> MixerState:
        cache = self._cache(batch_size, self.left_context + self.layer_lookahead)
        if self.role == "follower":
            window = self.left_context + 1 + self.layer_lookahead
            return {**cache, "shared": cache["v"].new_zeros(batch_size, self.layer_lookahead, self.num_heads, window)}
        return {"q": cache["k"][:, : self.layer_lookahead], **cache}


def to_band(x: Tensor) -> Tensor:
    """(.., rows, rows + width - 1) -> (.., rows, width): of row s the entries s .. s + width - 1.

    Example
    -------
    >>> to_band(torch.tensor([[1, 2, 0], [0, 3, 4]]))
    tensor([[1, 2],
            [3, 4]])
    """
    rows, keys = x.shape[-2:]
    return F.pad(x.flatten(-2), (0, rows)).unflatten(-1, (rows, keys + 1))[..., : keys - rows + 1]


def from_band(x: Tensor) -> Tensor:
    """(.., rows, width) -> (.., rows, rows + width - 1), zeros outside the band: the inverse of `to_band`."""
    rows, width = x.shape[-2:]
    return F.pad(x, (0, rows)).flatten(-2)[..., :-rows].unflatten(-1, (rows, rows + width - 1))


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    """Pad axis 1 of x (batch, time, ..) with zeros (False)."""
    return F.pad(x, (0, 0) * (x.dim() - 2) + (before, after))
