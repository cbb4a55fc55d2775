"""Transformer, Conformer and Branchformer blocks around any attention factory."""

from collections.abc import Callable
from typing import TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from .attention.base import AttentionFactory, MixerState, Shared
from .convolution import Convolution, DepthwiseConvolution, GatedConvolution


class BlockState(TypedDict, total=False):
    """What a block keeps of the frames before."""

    attention: MixerState | None
    residual: Tensor  # (batch, layer_lookahead, 1, dim), the frames whose attention still waits for its look-ahead
    convolution: Tensor | None  # (batch, kernel_size - 1, channels), the last final frames


BlockOutput: TypeAlias = tuple[Tensor, Tensor, BlockState, Shared]
"""What `Block.forward` returns: the frames, which of them are valid, the state after them, and their attention map."""
BlockFactory: TypeAlias = "Callable[..., Block]"
"""Called as `block(dim, ffn_dim, attention, dropout=dropout, first=first, last=last)`."""


class FeedForward(nn.Sequential):
    """Norm, widen, activation, narrow; position-wise."""

    def __init__(self, dim: int, ffn_dim: int, activation: nn.Module, dropout: float):
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, ffn_dim), activation, nn.Dropout(dropout), nn.Linear(ffn_dim, dim),
            nn.Dropout(dropout),
        )  # fmt: skip


class Block(nn.Module):
    """What all blocks share: a norm, an attention, and the layout of the stack.

    The first block of a stack turns (batch, time, dim) into (batch, groups, frames, dim), after the projections, so that
    these are shared by a frame's revisions; the last one computes the final frames only. Both are exact.

    Arguments
    ---------
    dim : int
        Width of the frames.
    attention : callable
        Factory called as `attention(dim=dim)`.
    dropout : float
    first, last : bool
        The block's place in its stack.
    """

    def __init__(self, dim: int, attention: AttentionFactory, dropout: float, first: bool, last: bool):
        super().__init__()
        self.dim, self.first, self.last = dim, first, last
        self.norm = nn.LayerNorm(dim)
        self.attention = attention(dim=dim)
        self.dropout = nn.Dropout(dropout)

    @property
    def lookahead(self) -> float:
        """Frames of look-ahead that this block adds to its stack."""
        return self.attention.layer_lookahead

    def forward(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState | None = None, shared: Shared = None
    ) -> BlockOutput:
        """Run the block.

        Arguments
        ---------
        x : torch.Tensor
            (batch, time, dim) for the first block, else (batch, groups, frames, dim).
        valid : torch.Tensor
            Like x without dim, bool.
        table : torch.Tensor or None
            What the attention made of the frames' positions, see `Mixer.table`.
        state : dict or None
            None: these are all the frames there are. Otherwise of `initial_state` or of the last call, whose frames came
            just before; then frames come out `attention.layer_lookahead` later.
        shared : object
            What the block before it returned: the attention map that it may follow.

        Returns
        -------
        x, valid, state, shared
            (batch, groups, frames, dim), (batch, groups, frames), of the final frames only for the last block.
        """
        raise NotImplementedError

    def mix(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState, shared: Shared
    ) -> tuple[Tensor, Tensor, Tensor, Shared]:
        """The attention's part: x in the layout of the stack, what the attention adds to it, which frames there are, its map.

        Takes and leaves its part of the state.
        """
        layout = self.attention.layout
        parts = self.attention.project(self.norm(x), table)  # each (batch, time, ..), or as x
        if self.first:
            x, valid, parts = layout.expand(x), layout.expand(valid), tuple(layout.expand(part) for part in parts)
        if self.last:
            x = x[:, :, : layout.chunk]
        if "residual" in state:  # frames leave the attention late: so must those beside it
            residual = torch.cat([state["residual"], x], dim=1)
            x, state["residual"] = residual[:, : x.size(1)], residual[:, x.size(1) :]
        y, valid, state["attention"], shared = self.attention.mix(
            *parts, valid=valid, state=state.get("attention"), final=self.last, shared=shared
        )
        return x, self.dropout(self.attention.finish(y)), valid[:, :, : x.size(2)], shared

    def initial_state(self, batch_size: int) -> BlockState:
        """State before the first frame, a dict of tensors (nested)."""
        state: BlockState = {"attention": self.attention.initial_state(batch_size)}
        if delay := int(self.attention.layer_lookahead):
            state["residual"] = self.norm.weight.new_zeros(batch_size, delay, 1, self.dim)
        return state


class TransformerBlock(Block):
    """Pre-norm Transformer block.

    Arguments
    ---------
    ffn_dim : int
        Width of the feed-forward layer.
    dim, attention, dropout, first, last
        See `Block`.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        attention: AttentionFactory,
        dropout: float = 0.0,
        first: bool = True,
        last: bool = True,
    ):
        super().__init__(dim, attention, dropout, first, last)
        self.feed_forward = FeedForward(dim, ffn_dim, nn.GELU(), dropout)

    def forward(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState | None = None, shared: Shared = None
    ) -> BlockOutput:
        """See `Block.forward`."""
        after: BlockState = {**state} if state else {}
        x, y, valid, shared = self.mix(x, valid, table, after, shared)
        x = x + y
        return x + self.feed_forward(x), valid, after, shared


class ConvolutionalBlock(Block):
    """A block with a convolution over time beside its attention; `convolution` is a `DepthwiseConvolution`."""

    convolution: DepthwiseConvolution

    @property
    def lookahead(self) -> float:
        return super().lookahead + self.convolution.lookahead

    def initial_state(self, batch_size: int) -> BlockState:
        convolution = self.convolution.initial_state(batch_size)
        return {**super().initial_state(batch_size), "convolution": convolution}


class ConformerBlock(ConvolutionalBlock):
    """Half feed-forward, attention, convolution, half feed-forward, norm (Gulati et al., arXiv 2005.08100).

    Arguments
    ---------
    ffn_dim : int
        Width of the feed-forward layers.
    kernel_size : int
        Taps of the convolution, odd; causal where the attention streams, see `DepthwiseConvolution`.
    dim, attention, dropout, first, last
        See `Block`.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        attention: AttentionFactory,
        kernel_size: int = 15,
        dropout: float = 0.0,
        first: bool = True,
        last: bool = True,
    ):
        super().__init__(dim, attention, dropout, first, last)
        self.enter = FeedForward(dim, ffn_dim, nn.SiLU(), dropout)
        self.feed_forward = FeedForward(dim, ffn_dim, nn.SiLU(), dropout)
        self.norm_convolution = nn.LayerNorm(dim)
        self.convolution = Convolution(dim, kernel_size, self.attention, dropout)
        self.leave = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState | None = None, shared: Shared = None
    ) -> BlockOutput:
        """See `Block.forward`."""
        after: BlockState = {**state} if state else {}
        x, y, valid, shared = self.mix(x + 0.5 * self.enter(x), valid, table, after, shared)
        x = x + y
        y, after["convolution"] = self.convolution(self.norm_convolution(x), valid, after.get("convolution"))
        x = x + y
        return self.leave(x + 0.5 * self.feed_forward(x)), valid, after, shared


class BranchformerBlock(ConvolutionalBlock):
    """Attention beside a convolutional MLP, merged by a linear layer (Peng et al., arXiv 2207.02971).

    Arguments
    ---------
    ffn_dim : int
        Width of the convolutional MLP, even.
    kernel_size : int
        Taps of its convolution, odd; causal where the attention streams, see `DepthwiseConvolution`.
    dim, attention, dropout, first, last
        See `Block`.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        attention: AttentionFactory,
        kernel_size: int = 31,
        dropout: float = 0.0,
        first: bool = True,
        last: bool = True,
    ):
        super().__init__(dim, attention, dropout, first, last)
        self.norm_convolution = nn.LayerNorm(dim)
        self.convolution = GatedConvolution(dim, ffn_dim, kernel_size, self.attention, dropout)
        self.merge = nn.Linear(2 * dim, dim)

    def forward(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState | None = None, shared: Shared = None
    ) -> BlockOutput:
        """See `Block.forward`."""
        after: BlockState = {**state} if state else {}
        x, y, valid, shared = self.mix(x, valid, table, after, shared)
        local, after["convolution"] = self.convolution(self.norm_convolution(x), valid, after.get("convolution"))
        return x + self.dropout(self.merge(torch.cat([y, local], dim=-1))), valid, after, shared
