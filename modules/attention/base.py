"""What every attention shares: the hooks of a `Mixer`, and the projections, positions and shared maps of an `Attention`."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layout import Layout
from .positions import buckets, rotary, rotate, sinusoids

MixerState: TypeAlias = dict[str, Tensor]
"""What a `Mixer` keeps of the frames before: tensors of fixed shapes by name, each with the streams of a batch at axis 0."""
Shared: TypeAlias = tuple[Tensor, ...] | None
"""An attention map on its way from its owner to the followers: the softmax, or queries, keys and mask; None: no map."""
Mixed: TypeAlias = tuple[Tensor, Tensor, MixerState | None, Shared]
"""What `Mixer.mix` returns: the mixed frames, which of them are valid, the state after them, and their map."""
AttentionFactory: TypeAlias = "Callable[..., Mixer]"
"""Called as `attention(dim=dim)`; with `role=` where layers share maps, with `lookahead=` where layers differ in it."""


def followed(shared: Shared) -> tuple[Tensor, ...]:
    """The map that a follower reads. The encoder gives it one: the first block of a stack is an owner."""
    assert shared is not None, "a follower needs the map of a layer before it"
    return shared


def pad(x: Tensor, before: int, after: int) -> Tensor:
    """Pad axis 1 of x with zeros, or with False."""
    return F.pad(x, (0, 0) * (x.dim() - 2) + (before, after)) if before or after else x


def overlap_add(windows: Tensor, step: int) -> Tensor:
    """Sum windows that begin `step` frames after one another, the gradient of such windows: (batch, blocks, reach, ..) ->
    (batch, frames, ..), filled up with zeros to whole steps.

    Example
    -------
    >>> overlap_add(torch.tensor([[[1, 2, 3], [10, 20, 30]]]), step=2)
    tensor([[ 1,  2, 13, 20, 30,  0]])
    """
    parts, blocks = windows.split(step, dim=2), windows.size(1)  # what each window has of its own step, of the next one, ..
    total = windows.new_zeros(windows.size(0), blocks + len(parts) - 1, step, *windows.shape[3:])
    for i, part in enumerate(parts):
        total[:, i : i + blocks, : part.size(2)] += part
    return total.flatten(1, 2)


class Mixer(nn.Module):
    """What mixes the frames of a block: an attention, or what stands in its place. Blocks and encoder use only these hooks.

    A subclass overrides `mix`, `project` and `initial_state`, and, where the defaults do not fit, `finish`, `table`,
    `layout` and `layer_lookahead`. README.md in this folder has an example, and `testing.verify` checks it.

    Invariant: cut the frames into pieces in any way, and call `mix` on each piece with the state that the call before it
    returned. The outputs are those of one `mix` over all frames with `state=None`, delayed by `layer_lookahead` frames.
    """

    layout = Layout()
    """The groups in which the stack computes frames; the look-ahead of a group counts once for the whole stack."""
    layer_lookahead: float = 0
    """Frames of look-ahead that *each layer* adds to its stack: R for SA and MAA, 0 for LLSA, infinity for AA."""

    def table(self, positions: Tensor) -> Tensor | None:
        """What `project` must know of the positions of frames; the stack computes it once for all its layers.

        Arguments
        ---------
        positions : torch.Tensor
            (batch or 1, time), frame numbers from the start of the stream.

        Returns
        -------
        torch.Tensor or None
            (batch or 1, time, ..). None if positions do not matter.
        """
        return None

    def project(self, x: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """Compute from each frame, by itself, the tensors that `mix` takes: x (batch, .., dim) -> (batch, .., *) each."""
        raise NotImplementedError

    def mix(
        self, *parts: Tensor, valid: Tensor, state: MixerState | None = None, final: bool = False, shared: Shared = None
    ) -> Mixed:
        """Let frames read each other.

        Arguments
        ---------
        *parts : torch.Tensor
            What `project` returned, laid out in groups: (batch, groups, frames, *) each.
        valid : torch.Tensor
            (batch, groups, frames), bool. False where there is no such frame: in padding, before the start, after the end.
        state : dict or None
            None if these are all frames of their utterances. Otherwise the state that the last call returned.
        final : bool
            True if only the final frames of each group are needed.
        shared : tuple or None
            For a follower, the map that the layer before it returned.

        Returns
        -------
        y : torch.Tensor
            (batch, groups, frames or final frames, *), the mixed frames.
        valid : torch.Tensor
            (batch, groups, frames), which of these frames there are.
        state : dict or None
            For the next call.
        shared : tuple or None
            The map of these frames, for the followers of this layer; None if it has none.
        """
        raise NotImplementedError

    def finish(self, y: Tensor) -> Tensor:
        """Turn each mixed frame, by itself, into what the block adds: (batch, .., *) -> (batch, .., dim)."""
        return y

    def join(self, first: "Mixer") -> None:
        """Take parameters that a whole stack has in common from the attention of its first block; by default there are none."""

    def initial_state(self, batch_size: int) -> MixerState:
        """The state of `batch_size` streams before their first frame; their shapes never change.

        Raises
        ------
        ValueError
            If there is no streaming form.
        """
        raise NotImplementedError


class Attention(Mixer):
    """Base of the softmax attentions. In `mix`, a subclass says which keys each query sees.

    `mix` takes queries, keys and values, (batch, groups, frames, heads, head_dim) each; in a follower, values alone. A query with
    gated positions has its gate for one more entry.

    Arguments
    ---------
    dim : int
        Width of the frames.
    num_heads : int
        Number of heads; dim / num_heads must be even.
    positions : str
        `rotary`; `relative`, as in Transformer-XL (Dai et al., arXiv 1901.02860); `gated`, as in WavLM (Chen et al., arXiv
        2110.13900), with one table for the stack; or `none`, where only the window tells earlier frames from later ones.
    role : str or None
        Sharing of attention maps (Shim et al., ICLR 2022). An `owner` makes a map that later layers read. These layers, each
        a `follower`, have no queries, keys or positions of their own. None: the layer keeps its map to itself.
    reuse : str
        What an owner hands on. `map`: the softmax itself. `queries`: its queries and keys, from which fused kernels make
        the map again. The results are the same.

    Raises
    ------
    ValueError
        If an argument is not one of these.
    """

    empty: Tensor

    def __init__(self, dim: int, num_heads: int, positions: str = "rotary", role: str | None = None, reuse: str = "map"):
        super().__init__()
        if num_heads < 1 or dim < 1 or dim % num_heads or (dim // num_heads) % 2:
            raise ValueError(f"num_heads={num_heads} must divide dim={dim} into heads of even width")
        allowed: tuple[tuple[str, str | None, tuple[str | None, ...]], ...] = (
            ("positions", positions, ("rotary", "relative", "gated", "none")),
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
            if positions == "gated":
                self.gate, self.strength = nn.Linear(dim // num_heads, 8), nn.Parameter(torch.ones(num_heads))
                self.buckets = nn.Embedding(320, num_heads)
        self.output = nn.Linear(dim, dim)
        self.register_buffer("empty", torch.empty(0), persistent=False)  # knows dtype and device, whatever becomes of the layers

    def table(self, positions: Tensor) -> Tensor | None:
        return rotary(positions, self.head_dim).to(self.empty.dtype) if self.positions == "rotary" else None

    def project(self, x: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """Queries, keys and values (batch, .., heads, head_dim) of frames x (batch, .., dim); in a follower, values alone."""
        if self.role == "follower":
            return (self.value(x).unflatten(-1, (self.num_heads, self.head_dim)),)
        heads = self.num_heads
        qk, v = self.qkv(x).unflatten(-1, (3 * heads, self.head_dim)).split_with_sizes([2 * heads, heads], dim=-2)
        if self.positions == "rotary":
            assert table is not None, "rotary positions need the table of the frames' positions"
            qk = rotate(qk, table)
        q, k = qk.chunk(2, dim=-2)
        if self.positions == "gated":
            a, b = self.gate(x.unflatten(-1, (heads, -1))).unflatten(-1, (2, 4)).sum(-1).sigmoid().unbind(-1)  # (.., heads)
            q = torch.cat([q, (a * (b * self.strength - 1) + 2)[..., None].to(q.dtype)], dim=-1)
        return q, k, v

    def finish(self, y: Tensor) -> Tensor:
        return self.output(y.flatten(-2))

    def join(self, first: Mixer) -> None:
        if self.positions == "gated" and self.role != "follower":
            assert isinstance(first, Attention)
            self.buckets = first.buckets

    def bias(self, q: Tensor, distances: Tensor, spread: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
        """The part of the scores that depends on distances, for relative and gated positions.

        The score of frame s for frame t, before its division by sqrt(head_dim), is

            (q_s + u) . k_t + (q_s + v) . W sinusoids(s - t)                       relative
            q_s . k_t + gate(x_s) * table[bucket(s - t)] * sqrt(head_dim)          gated

        with two learned vectors u and v and a table for each head, and a learned matrix W.

        Arguments
        ---------
        q : torch.Tensor
            (batch, queries, heads, head_dim), as `project` returns them.
        distances : torch.Tensor
            (n,), all distances s - t that occur.
        spread : callable
            Takes the scores by distance, (batch, heads, queries, n), to the keys: (batch, heads, queries, keys).

        Returns
        -------
        q : torch.Tensor
            The queries for the part that depends on keys, such as q_s + u.
        bias : torch.Tensor or None
            (batch, heads, queries, keys), to be added to the scores before their division.
        """
        if self.positions == "gated":
            r = self.buckets(buckets(distances)) * self.head_dim**0.5  # (n, heads)
            return q[..., :-1], spread(torch.einsum("bqh,nh->bhqn", q[..., -1], r.to(q.dtype)))
        if self.positions != "relative":
            return q, None
        r = self.distance(sinusoids(distances, self.distance.in_features).to(q.dtype)).unflatten(-1, (self.num_heads, -1))
        scores = torch.einsum("bqhd,nhd->bhqn", q + self.bias_distance, r)
        return q + self.bias_content, spread(scores)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None = None, streaming: bool = False
    ) -> tuple[Tensor, Shared]:
        """Attend with a map of this layer's own.

        Arguments
        ---------
        q, k, v : torch.Tensor
            (batch, queries or keys, heads, head_dim).
        mask : torch.Tensor
            (batch or 1, queries or 1, keys), True where a query may see a key.
        bias : torch.Tensor or None
            (batch, heads, queries, keys), added to the scores before their division by sqrt(head_dim).
        streaming : bool
            True makes an owner hand on the map itself, whatever `reuse` says: rows of a map can wait for their followers.

        Returns
        -------
        y : torch.Tensor
            (batch, queries, heads, head_dim).
        shared : tuple or None
            The map, for `reuse_map`; None in a layer that shares none.
        """
        q, k, mask = q.transpose(1, 2), k.transpose(1, 2), mask[:, None]  # (batch, heads, time, head_dim)
        scale = self.head_dim**-0.5
        if bias is not None:
            mask = (bias * scale).masked_fill(~mask, -torch.inf)
        shared: tuple[Tensor, ...] = (q, k, mask)
        if self.role == "owner" and (streaming or self.reuse == "map"):
            scores = (q * scale) @ k.mT
            scores = scores.masked_fill(~mask, -torch.inf) if bias is None else scores + mask
            shared = (scores.softmax(dim=-1),)
        return self.reuse_map(shared, v), shared if self.role else None

    def reuse_map(self, shared: tuple[Tensor, ...], v: Tensor) -> Tensor:
        """Attend with a map that `attend` has made: v (batch, keys, heads, head_dim) -> (batch, queries, heads, head_dim)."""
        v = v.transpose(1, 2)
        if len(shared) == 1:
            return (shared[0].to(v.dtype) @ v).transpose(1, 2)
        q, k, mask = shared
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.head_dim**-0.5).transpose(1, 2)

    def _cache(self, batch_size: int, frames: int) -> MixerState:
        """A state for `frames` frames that are not there yet: keys, values, and `valid`; in a follower there are no keys."""
        empty = self.empty.new_zeros(batch_size, frames, self.num_heads, self.head_dim)
        cache = {"v": empty, "valid": empty.new_zeros(batch_size, frames, dtype=torch.bool)}
        return cache if self.role == "follower" else {"k": empty, **cache}
