"""A stack of blocks around one attention, for whole utterances and for streams."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from itertools import pairwise
from typing import TypedDict, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention.base import AttentionFactory
from .blocks import Block, BlockFactory, BlockState
from .position import NoPosition, PositionState
from .streaming import Streaming, length_mask


class EncoderState(TypedDict):
    """What an encoder keeps of the frames before."""

    position_state: PositionState
    pending: Tensor  # (batch, frames, dim), frames of groups that are not complete
    valid: Tensor  # (batch, frames), bool, which of these there are
    position: Tensor  # (batch,), the number of the first pending frame
    blocks: list[BlockState]


class Encoder(Streaming[EncoderState]):
    """Blocks one after the other, and a norm. Of its attention it knows the hooks of a `Mixer`, and no more.

    Arguments
    ---------
    dim : int
        Width of the frames.
    ffn_dim : int
        Width of the blocks' feed-forward layers.
    num_layers : int
        Number of blocks.
    block : callable
        Factory of a block, such as `TransformerBlock` or `ConformerBlock`.
    attention : callable
        Factory of an attention, called as `attention(dim=dim)` for each block.
    dropout : float
        Probability of dropout in the blocks.
    checkpointing : bool
        True computes the activations of each block again in the backward pass, for less memory and about a third more time.
    owners : list of int or None
        Numbers of the blocks that make an attention map of their own, for sharing of maps (Shim et al., ICLR 2022). Each other
        block reads the map of the last one before it. None: every block makes its own.
    lookaheads : list of int or None
        Look-ahead of the attention of each block, in frames, where it differs from block to block (MAA and SA). None: what
        `attention` says, in every block.
    position : callable or None
        Factory of what adds positions before the first block, called as `position(dim=dim)`, such as `Sinusoids`; None: nothing.
    norm : bool
        Whether a norm follows the last block. Blocks that end with one need none.
    pool : int
        Frames that come in for each frame of the stack. It is their mean, taken after the positions.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Example
    -------
    >>> from functools import partial
    >>> from speech_attention.attention import SA
    >>> from speech_attention.blocks import TransformerBlock
    >>> attention = partial(SA, num_heads=2, left_context=8, lookahead=1)
    >>> encoder = Encoder(8, 16, 3, TransformerBlock, attention)
    >>> encoder(torch.rand(2, 20, 8), torch.tensor([20, 13]))[0].shape
    torch.Size([2, 20, 8])
    >>> encoder.lookahead
    3
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_layers: int,
        block: BlockFactory,
        attention: AttentionFactory,
        dropout: float = 0.0,
        checkpointing: bool = False,
        owners: Sequence[int] | None = None,
        lookaheads: Sequence[int] | None = None,
        position: Callable[..., NoPosition] | None = None,
        norm: bool = True,
        pool: int = 1,
    ):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} must be 1 or more")
        if type(pool) is not int or pool < 1:
            raise ValueError(f"pool={pool} must be a whole number of frames, 1 or more")
        for name, given in (("owners", owners), ("lookaheads", lookaheads)):
            if given is not None and (not isinstance(given, (list, tuple)) or any(type(entry) is not int for entry in given)):
                raise ValueError(f"{name}={given} must be a list of whole numbers, such as [0, 2]")
        if lookaheads is not None and len(lookaheads) != num_layers:
            raise ValueError(f"lookaheads={lookaheads} must have {num_layers} entries, one for each block")
        if lookaheads is not None and not _takes(attention, "lookahead"):
            raise ValueError(f"lookaheads={lookaheads}: this attention has no look-ahead in frames; MAA and SA have")
        owners = list(range(num_layers) if owners is None else owners)
        if owners != sorted(set(owners)) or owners[:1] != [0] or owners[-1] >= num_layers:
            raise ValueError(f"owners={owners} must rise from block 0 to at most the last one, {num_layers - 1}")
        if len(owners) < num_layers and not _takes(attention, "role"):
            raise ValueError(f"owners={owners}: this attention has no maps that layers could share; all but SummaryMixing have")
        attentions = [partial(attention, **_role(layer, owners, num_layers)) for layer in range(num_layers)]
        if lookaheads is not None:
            attentions = [partial(attention, lookahead=lookahead) for attention, lookahead in zip(attentions, lookaheads)]
        blocks = nn.ModuleList(
            block(dim, ffn_dim, attention, dropout=dropout, first=i == 0, last=i == num_layers - 1)
            for i, attention in enumerate(attentions)
        )
        self.blocks = cast(Sequence[Block], blocks)  # type checkers take what a ModuleList holds for any modules
        for other in self.blocks[1:]:
            other.attention.join(self.blocks[0].attention)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.dim, self.pool, self.checkpointing = dim, pool, checkpointing
        self.position = NoPosition(dim) if position is None else position(dim=dim)
        self.layout = self.blocks[0].attention.layout
        if any(block.attention.layout != self.layout for block in self.blocks):
            raise ValueError(f"lookaheads={lookaheads} must be equal in every block if the stack shares them (LLSA)")
        if any(a.lookahead != b.lookahead for i, (a, b) in enumerate(pairwise(self.blocks), 1) if i not in owners):
            raise ValueError(f"lookaheads={lookaheads} must be equal in the blocks that share a map: owners={owners}")
        if math.isfinite(self.lookahead) and self.position.lookahead % pool:
            raise ValueError(f"pool={pool} must divide the look-ahead of the positions, {self.position.lookahead} frames")

    @property
    def lookahead(self) -> float:
        """Look-ahead, in frames of the stack: that of the layout, once, and what each block and the positions add."""
        return self.layout.lookahead + sum(block.lookahead for block in self.blocks) + self._delay

    @property
    def _delay(self) -> int:
        return self.position.lookahead // self.pool

    @property
    def lead(self) -> int:
        """Frames to put before the first one of a stream, so that each further `chunk` frames complete exactly one group."""
        return -(self.layout.pending + self._delay) % self.layout.chunk

    def forward(self, x: Tensor, lengths: Tensor, outputs: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        Arguments
        ---------
        x : torch.Tensor
            (batch, time * pool, dim). What stands in the padding does not matter.
        lengths : torch.Tensor
            (batch,), in frames of the stack.
        outputs : list or None
            If given, what each block but the last one makes of the frames is added to it, (batch, time, dim) each.

        Returns
        -------
        y : torch.Tensor
            (batch, time, dim), zeros in the padding.
        lengths : torch.Tensor
            As given.
        """
        time = x.size(1) // self.pool
        x, valid, _ = self._enter(x, length_mask(lengths, time))
        groups = -(-time // self.layout.chunk)
        tail = groups * self.layout.chunk + self.layout.pending - time  # frames that the last group reads after the end
        x, valid = nn.functional.pad(x, (0, 0, 0, tail)), nn.functional.pad(valid, (0, tail))
        y, _, _ = self._run(x, valid, torch.zeros(1, dtype=torch.long, device=x.device), outputs=outputs)
        if outputs is not None:
            outputs[:] = [output[:, :time].masked_fill(~valid[:, :time, None], 0.0) for output in outputs]
        return y[:, :time].masked_fill(~valid[:, :time, None], 0.0), lengths

    def _enter(self, x: Tensor, valid: Tensor, state: PositionState | None = None) -> tuple[Tensor, Tensor, PositionState]:
        """Add positions, and take the mean of each `pool` frames: (batch, time * pool, dim) -> (batch, time, dim)."""
        if self.pool == 1:
            return self.position(x, valid, state)
        x, valid, after = self.position(x, valid[..., None].expand(-1, -1, self.pool).flatten(1), state)
        return x.unflatten(1, (x.size(1) // self.pool, self.pool)).mean(dim=2), valid[:, :: self.pool], after

    def _run(
        self,
        x: Tensor,
        valid: Tensor,
        position: Tensor,
        states: list[BlockState] | None = None,
        outputs: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, list[BlockState]]:
        """Run all blocks, and the norm, over frames that complete whole groups.

        Arguments
        ---------
        x : torch.Tensor
            (batch, time, dim).
        valid : torch.Tensor
            (batch, time), bool.
        position : torch.Tensor
            (batch or 1,), the number of the first of these frames.
        states : list of dict or None
            State of each block; None if these are all frames of their utterances.
        outputs : list or None
            If given, the final frames (batch, frames, dim) of each block but the last one are added to it.

        Returns
        -------
        y : torch.Tensor
            (batch, frames, dim), the final frames.
        valid : torch.Tensor
            (batch, frames), which of these there are.
        states : list of dict
            For the next call.
        """
        x = x.masked_fill(~valid[..., None], 0.0)
        positions = position[:, None] + torch.arange(x.size(1), device=x.device)
        table = self.blocks[0].attention.table(positions)
        before: Sequence[BlockState | None] = states or [None] * len(self.blocks)
        after, shared = [], None
        for i, block in enumerate(self.blocks):
            if self.checkpointing and self.training:
                x, valid, state, shared = checkpoint(block, x, valid, table, before[i], shared, use_reentrant=False)
            else:
                x, valid, state, shared = block(x, valid, table, before[i], shared)
            after.append(state)
            if outputs is not None and not block.last:
                outputs.append(x[:, :, : self.layout.chunk].flatten(1, 2))
            if i == 0 and table is not None:
                table = self.layout.expand(table)
        return self.norm(x.flatten(1, 2)), valid.flatten(1, 2), after

    def initial_state(self, batch_size: int) -> EncoderState:
        """The state of `batch_size` streams before their first frame."""
        x, before = self.blocks[0].norm.weight, self.lead + self.layout.pending
        return {
            "position_state": self.position.initial_state(batch_size),
            "pending": x.new_zeros(batch_size, before, self.dim),
            "valid": x.new_zeros(batch_size, before, dtype=torch.bool),
            "position": torch.full((batch_size,), -before - self._delay, device=x.device),
            "blocks": [block.initial_state(batch_size) for block in self.blocks],
        }

    def step(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Encode the next frames (batch, n * pool, dim). Returns the frames (batch, m, dim) that they complete, and the state."""
        y, valid, state = self.advance(x, x.new_ones(x.size(0), x.size(1) // self.pool, dtype=torch.bool), state)
        return y[:, valid[0]], state

    def flush(self, state: EncoderState) -> Tensor:
        """End the streams. Returns the frames (batch, m, dim) that still waited for look-ahead."""
        pending, tail = state["pending"], int(self.lookahead)
        x = pending.new_zeros(pending.size(0), tail * self.pool, self.dim)
        y, valid, _ = self.advance(x, x.new_zeros(x.size(0), tail, dtype=torch.bool), state)
        return y[:, valid[0]]

    def advance(self, x: Tensor, valid: Tensor, state: EncoderState) -> tuple[Tensor, Tensor, EncoderState]:
        """Encode the next frames of streams that may start and end at different times.

        Arguments
        ---------
        x : torch.Tensor
            (batch, n * pool, dim). What stands in frames that are not valid does not matter.
        valid : torch.Tensor
            (batch, n), bool, which of these frames belong to their stream: none before its first one, none after its last one.
        state : dict
            From `initial_state`, or from the last call.

        Returns
        -------
        y : torch.Tensor
            (batch, m, dim), the frames that come out; m = n if n is a multiple of the chunk.
        valid : torch.Tensor
            (batch, m), bool. The frames that were valid when they went in are valid when they come out, in the same order,
            `lookahead` frames later.
        state : dict
            For the next call.
        """
        x, valid, position_state = self._enter(x, valid, state["position_state"])
        x, valid = torch.cat([state["pending"], x], dim=1), torch.cat([state["valid"], valid], dim=1)
        taken = self.layout.groups(x.size(1)) * self.layout.chunk
        position = state["position"]
        rest: EncoderState = {**state, "pending": x[:, taken:], "valid": valid[:, taken:]}
        state = {**rest, "position_state": position_state, "position": position + taken}
        if taken == 0:
            return x[:, :0], valid[:, :0], state
        used = taken + self.layout.pending
        y, valid, state["blocks"] = self._run(x[:, :used], valid[:, :used], position, state["blocks"])
        return y, valid, state


def _takes(attention: AttentionFactory, argument: str) -> bool:
    """Whether an attention can be made with this argument."""
    parameters = signature(attention).parameters
    return argument in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _role(layer: int, owners: Sequence[int], num_layers: int) -> dict[str, str]:
    """The `role` of a layer's attention: a follower, an owner if the next layer follows it, or, as in most stacks, none."""
    if layer not in owners:
        return {"role": "follower"}
    return {} if layer + 1 in (*owners, num_layers) else {"role": "owner"}
