"""What every attention shares: projections, rotary positions, and the layout of a stack's frames.

Activations inside a stack are (batch, groups, frames, dim). A group is what one streaming step makes final: its first
`chunk` frames are final, the rest are look-ahead frames known only as of that step (revisions). Every attention but LLSA
has groups of one frame. Only attention and convolution mix time; all else is position-wise and ignores these axes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MixerState: TypeAlias = dict[str, Tensor]
"""What a `Mixer` keeps of the frames before: tensors of fixed shapes by name, each with the streams of a batch at axis 0."""
Shared: TypeAlias = tuple[Tensor, ...] | None
"""An attention map on its way from its owner to the followers: the softmax, or queries, keys and mask; None: no map."""
Mixed: TypeAlias = tuple[Tensor, Tensor, MixerState | None, Shared]
"""What `Mixer.mix` returns: the mixed frames, which of them are valid, the state after them, and their map."""
AttentionFactory: TypeAlias = "Callable[..., Mixer]"
"""Called as `attention(dim=dim)`; with `role=` where layers share maps, with `lookahead=` where layers differ in it."""


@dataclass(frozen=True)
class Layout:
    """The frames of a group, as offsets from its first frame.

    Arguments
    ---------
    chunk : int
        Final frames in a group; group g is about frames g * chunk .. (g + 1) * chunk - 1.
    offsets : tuple of int
        Offsets of all its frames: 0 .. chunk - 1, then the look-ahead frames.

    Example
    -------
    >>> Layout(chunk=1, offsets=(0, 1, 2)).expand(torch.arange(5)[None])
    tensor([[[0, 1, 2],
             [1, 2, 3],
             [2, 3, 4]]])
    """

    chunk: int = 1
    offsets: tuple[int, ...] = (0,)

    @property
    def lookahead(self) -> int:
        """Frames after the first one of a group that the group reads (the worst case of its frames)."""
        return self.offsets[-1]

    @property
    def pending(self) -> int:
        """Frames after a group's final ones that it reads."""
        return self.lookahead - self.chunk + 1

    @property
    def lead(self) -> int:
        """Frames to put before the first one, so that a group is complete after each `chunk` frames that come."""
        return -self.pending % self.chunk

    def groups(self, time: int) -> int:
        """The number of groups whose frames are all among `time` frames."""
        return max(0, (time - self.lookahead - 1) // self.chunk + 1)

    def expand(self, x: Tensor, dim: int = 1) -> Tensor:
        """(.., time, ..) -> (.., groups, frames, ..) at axis `dim`: H^0[g, j] = X[g * chunk + offsets[j]]."""
        if not self.pending:  # groups side by side
            used = self.groups(x.size(dim)) * self.chunk
            return x.narrow(dim, 0, used).unflatten(dim, (used // self.chunk, self.chunk))
        windows = x.unfold(dim, self.lookahead + 1, self.chunk)  # (.., groups, .., lookahead + 1), a view
        if len(self.offsets) <= self.lookahead:  # only some of the look-ahead frames
            windows = windows.index_select(-1, torch.tensor(self.offsets, device=x.device))
        return windows.movedim(-1, dim + 1)


def rotary(positions: Tensor, head_dim: int, base: float = 10000.0) -> Tensor:
    """Cosines and sines of rotary position embedding (Su et al., arXiv 2104.09864).

    Angles are taken in float64: scores depend on position differences alone, for any length of stream.

    Arguments
    ---------
    positions : torch.Tensor
        Absolute frame numbers, any shape, integer.
    head_dim : int
        Width of a head, even.

    Returns
    -------
    torch.Tensor
        (*positions.shape, 2, head_dim / 2), float64.
    """
    frequency = base ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float64) / head_dim)
    angle = positions[..., None] * frequency
    return torch.stack([angle.cos(), angle.sin()], dim=-2)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate x (batch, .., heads, head_dim) by a table (.., 2, head_dim / 2) of `rotary`."""
    cos, sin = table.to(x.dtype).unsqueeze(-3).unbind(-2)  # each (.., 1, head_dim / 2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def sinusoids(distances: Tensor, dim: int) -> Tensor:
    """Sines and cosines of distances (n,) -> (n, dim), the encoding of Transformer-XL (Dai et al., arXiv 1901.02860)."""
    return rotary(distances, dim).flatten(-2)


def followed(shared: Shared) -> tuple[Tensor, ...]:
    """The map that a follower reads. The encoder gives it one: the first block of a stack is an owner."""
    assert shared is not None, "a follower needs the map of a layer before it"
    return shared


class Mixer(nn.Module):
    """What mixes the frames of a block: an attention, or what stands in its place. Blocks and encoder know only this.

    Invariant: `mix` over any split of the frames, each call given the state that the last one returned, gives the
    outputs of one `mix` over all frames with `state=None`, delayed by `layer_lookahead` frames.
    """

    layout = Layout()
    layer_lookahead: float = 0
    """Frames of look-ahead that *each layer* adds to its stack: R for SA and MAA, 0 for LLSA, infinity for AA."""

    def table(self, positions: Tensor) -> Tensor | None:
        """What `project` must know of the frames at `positions` (batch, time), (batch, time, ..); None: nothing."""
        return None

    def project(self, x: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """The tensors (batch, .., *) that `mix` takes, of frames x (batch, .., dim); position-wise."""
        raise NotImplementedError

    def mix(
        self, *parts: Tensor, valid: Tensor, state: MixerState | None = None, final: bool = False, shared: Shared = None
    ) -> Mixed:
        """Mix the frames.

        Arguments
        ---------
        parts : torch.Tensor
            (batch, groups, frames, *) each, of `project`.
        valid : torch.Tensor
            (batch, groups, frames), bool: False where there is no such frame (padding, before the start, after the end).
        state : dict or None
            None: these are all the frames there are. Otherwise what the last call returned.
        final : bool
            Only the final frames of each group are asked for.
        shared : object
            For a follower: what the layer before it returned as `shared`, the map of its owner.

        Returns
        -------
        y : torch.Tensor
            (batch, groups, frames or final frames, *).
        valid : torch.Tensor
            (batch, groups, frames), of the frames that y is about.
        state : dict or None
        shared : object
            For the followers: the map of these frames; None where nobody shares.
        """
        raise NotImplementedError

    def finish(self, y: Tensor) -> Tensor:
        """(batch, .., *) of `mix` -> (batch, .., dim); position-wise."""
        return y

    def initial_state(self, batch_size: int) -> MixerState:
        """State before the first frame: a dict of tensors of fixed shapes, or ValueError if there is no streaming form."""
        raise NotImplementedError


class Attention(Mixer):
    """Base of all attentions. A subclass says which keys a query sees, in `mix`.

    `mix` takes q, k and v, (batch, groups, frames, heads, head_dim) each; in a follower v alone.

    Arguments
    ---------
    dim : int
        Width of the frames.
    num_heads : int
        Heads; dim / num_heads is even.
    positions : str
        `rotary`; `relative`, as in Transformer-XL (Dai et al., arXiv 1901.02860); or `none`: order only through the window.
    role : str or None
        `owner`: its map is read by later layers, the `follower`s, which have no queries, keys or positions of their own
        (Shim et al., ICLR 2022).
    reuse : str
        What an owner hands on: `map`, the softmax itself, or `queries`, its queries and keys, from which fused kernels make
        the map again. The results are the same.
    """

    def __init__(self, dim: int, num_heads: int, positions: str = "rotary", role: str | None = None, reuse: str = "map"):
        super().__init__()
        if num_heads < 1 or dim < 1 or dim % num_heads or (dim // num_heads) % 2:
            raise ValueError(f"num_heads={num_heads} must divide dim={dim} into heads of even width")
        allowed: tuple[tuple[str, str | None, tuple[str | None, ...]], ...] = (
            ("positions", positions, ("rotary", "relative", "none")),
            ("role", role, (None, "owner", "follower")),
            ("reuse", reuse, ("map", "queries")),
        )
        for name, value, choices in allowed:
            if value not in choices:
                raise ValueError(f"{name}={value} must be one of {', '.join(map(str, choices))}")
        self.num_heads, self.head_dim, self.positions = num_heads, dim // num_heads, positions
        self.role, self.reuse = role, reuse
        if role == "follower":
            self.value = nn.Linear(dim, dim)
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
            if positions == "relative":
                self.distance = nn.Linear(dim, dim, bias=False)
                self.bias_content, self.bias_distance = (nn.Parameter(torch.zeros(num_heads, dim // num_heads)) for _ in "uv")
        self.output = nn.Linear(dim, dim)

    def table(self, positions: Tensor) -> Tensor | None:
        return rotary(positions, self.head_dim) if self.positions == "rotary" else None

    def project(self, x: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """Queries, keys and values of frames x (batch, .., dim), each (batch, .., heads, head_dim); of a follower, values."""
        if self.role == "follower":
            return (self.value(x).unflatten(-1, (self.num_heads, self.head_dim)),)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(-3)
        if self.positions != "rotary":
            return q, k, v
        assert table is not None, "rotary positions need the table of the frames' positions"
        return rotate(q, table), rotate(k, table), v

    def finish(self, y: Tensor) -> Tensor:
        return self.output(y.flatten(-2))

    def bias(self, q: Tensor, distances: Tensor, spread: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
        """The part of the scores that depends on distances, (batch, heads, queries, keys), and the queries for the other.

        score(s, t) = (q_s + u) . k_t + (q_s + v) . W sinusoids(s - t), before its division by sqrt(head_dim)

        Arguments
        ---------
        q : torch.Tensor
            (batch, queries, heads, head_dim).
        distances : torch.Tensor
            (n,) s - t, all that occur.
        spread : callable
            (batch, heads, queries, n) -> (batch, heads, queries, keys): puts each distance at its key.
        """
        if self.positions != "relative":
            return q, None
        r = self.distance(sinusoids(distances, self.distance.in_features).to(q.dtype)).unflatten(-1, (self.num_heads, -1))
        scores = torch.einsum("bqhd,nhd->bhqn", q + self.bias_distance, r)
        return q + self.bias_content, spread(scores)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None = None, streaming: bool = False
    ) -> tuple[Tensor, Shared]:
        """Attention with the map that this layer makes.

        Arguments
        ---------
        q, k, v : torch.Tensor
            (batch, queries or keys, heads, head_dim).
        mask : torch.Tensor
            (batch or 1, queries or 1, keys), True = may see.
        bias : torch.Tensor or None
            (batch, heads, queries, keys), added to the scores before their scaling.
        streaming : bool
            An owner hands on the map itself, whatever `reuse` says: where it must wait, it waits row by row.

        Returns
        -------
        y : torch.Tensor
            (batch, queries, heads, head_dim).
        shared : tuple or None
            For `reuse_map`, of an owner.
        """
        q, k, mask = q.transpose(1, 2), k.transpose(1, 2), mask[:, None]  # (batch, heads, time, head_dim)
        scale = self.head_dim**-0.5
        if bias is not None:
            mask = (bias * scale).masked_fill(~mask, -torch.inf)
        shared: tuple[Tensor, ...] = (q, k, mask)
        if self.role == "owner" and (streaming or self.reuse == "map"):
            scores = q @ k.mT * scale
            scores = scores.masked_fill(~mask, -torch.inf) if bias is None else scores + mask
            shared = (scores.softmax(dim=-1),)
        return self.reuse_map(shared, v), shared if self.role else None

    def reuse_map(self, shared: tuple[Tensor, ...], v: Tensor) -> Tensor:
        """v (batch, keys, heads, head_dim) -> (batch, queries, heads, head_dim) by a map that `attend` has made."""
        v = v.transpose(1, 2)
        if len(shared) == 1:
            return (shared[0].to(v.dtype) @ v).transpose(1, 2)
        q, k, mask = shared
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.head_dim**-0.5).transpose(1, 2)

    def _cache(self, batch_size: int, frames: int) -> MixerState:
        """Keys, values and validity of `frames` frames that are not there; of a follower, values and validity."""
        empty = self.output.weight.new_zeros(batch_size, frames, self.num_heads, self.head_dim)
        cache = {"v": empty, "valid": empty.new_zeros(batch_size, frames, dtype=torch.bool)}
        return cache if self.role == "follower" else {"k": empty, **cache}
