"""Transformer, Conformer and Branchformer blocks around any attention factory."""

from collections.abc import Callable
from typing import TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from .attention.base import AttentionFactory, MixerState, Shared
from .convolution import Convolution, DepthwiseConvolution, GatedConvolution
from .streaming import GELU, Dropout


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
    """The feed-forward module of a block: norm, widen, activate, narrow. It treats each frame alone."""

    def __init__(self, dim: int, ffn_dim: int, activation: nn.Module, dropout: float):
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, ffn_dim), activation, Dropout(dropout), nn.Linear(ffn_dim, dim),
            Dropout(dropout),
        )  # fmt: skip


class Block(nn.Module):
    """What all blocks share: a norm, an attention, and the change to and from the layout of the stack.

    The first block of a stack lays out (batch, time, dim) as (batch, groups, frames, dim). It does so after the projections
    of its attention, so that a frame that is in several groups is projected once. The last block computes the final frames
    alone. Both save time, and change no result.

    Arguments
    ---------
    dim : int
        Width of the frames.
    attention : callable
        Factory, called as `attention(dim=dim)`.
    dropout : float
        Probability of dropout in the modules of the block.
    first, last : bool
        Whether the block is the first one of its stack, and whether it is the last one.
    """

    def __init__(self, dim: int, attention: AttentionFactory, dropout: float, first: bool, last: bool):
        super().__init__()
        self.dim, self.first, self.last = dim, first, last
        self.norm = nn.LayerNorm(dim)
        self.attention = attention(dim=dim)
        self.dropout = Dropout(dropout)

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
            (batch, time, dim) in the first block, (batch, groups, frames, dim) in the others.
        valid : torch.Tensor
            The shape of x without dim, bool: which frames there are.
        table : torch.Tensor or None
            What `Mixer.table` made of the positions of these frames.
        state : dict or None
            None if these are all frames of their utterances. Otherwise the state from `initial_state` or from the call for
            the frames just before; then frames come out `attention.layer_lookahead` frames later.
        shared : tuple or None
            The attention map that the block before it returned.

        Returns
        -------
        x : torch.Tensor
            (batch, groups, frames, dim); in the last block, the final frames alone.
        valid : torch.Tensor
            (batch, groups, frames), which of these there are.
        state : dict
            For the next call.
        shared : tuple or None
            The attention map of these frames, for the next block.
        """
        raise NotImplementedError

    def mix(
        self, x: Tensor, read: Tensor, valid: Tensor, table: Tensor | None, state: BlockState, shared: Shared
    ) -> tuple[Tensor, Tensor, Tensor, Shared]:
        """Run the attention of the block, and update its entries of the state, which is changed in place.

        Arguments
        ---------
        x, valid, table, state, shared
            See `forward`.
        read : torch.Tensor
            Like x, what the attention reads of these frames: x itself, or its norm.

        Returns
        -------
        x : torch.Tensor
            (batch, groups, frames, dim), what came in, laid out in groups and held back as long as the attention waits.
        y : torch.Tensor
            Like x, what the attention adds to it.
        valid : torch.Tensor
            (batch, groups, frames).
        shared : tuple or None
            The attention map of these frames.
        """
        layout = self.attention.layout
        parts = self.attention.project(read, table)  # with the axes of x before dim
        if self.first:
            x, valid, parts = layout.expand(x), layout.expand(valid), tuple(layout.expand(part) for part in parts)
        if self.last:
            x = x[:, :, : layout.chunk]
        if "residual" in state:  # the attention gives frames out late, so x must wait as long
            residual = torch.cat([state["residual"], x], dim=1)
            x, state["residual"] = residual[:, : x.size(1)], residual[:, x.size(1) :]
        y, valid, state["attention"], shared = self.attention.mix(
            *parts, valid=valid, state=state.get("attention"), final=self.last, shared=shared
        )
        return x, self.dropout(self.attention.finish(y)), valid[:, :, : layout.chunk] if self.last else valid, shared

    def initial_state(self, batch_size: int) -> BlockState:
        """The state of `batch_size` streams before their first frame."""
        state: BlockState = {"attention": self.attention.initial_state(batch_size)}
        if delay := int(self.attention.layer_lookahead):
            state["residual"] = self.norm.weight.new_zeros(batch_size, delay, 1, self.dim)
        return state


class TransformerBlock(Block):
    """A Transformer block: attention, then a feed-forward module, each with a norm before it.

    Arguments
    ---------
    ffn_dim : int
        Width of the feed-forward layer.
    dim, attention, dropout, first, last
        See `Block`.
    """

    def __init__(
        self, dim: int, ffn_dim: int, attention: AttentionFactory, dropout: float = 0.0, first: bool = True, last: bool = True
    ):
        super().__init__(dim, attention, dropout, first, last)
        self.feed_forward = FeedForward(dim, ffn_dim, GELU(), dropout)

    def forward(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState | None = None, shared: Shared = None
    ) -> BlockOutput:
        """See `Block.forward`."""
        after: BlockState = {**state} if state else {}
        x, y, valid, shared = self.mix(x, self.norm(x), valid, table, after, shared)
        x = x + y
        return x + self.feed_forward(x), valid, after, shared


class PostNormTransformerBlock(TransformerBlock):
    """A Transformer block with a norm after each of its two sums, as in Vaswani et al. (arXiv 1706.03762) and in BASE models of
    wav2vec 2.0, HuBERT and WavLM. Its arguments are those of `TransformerBlock`; the stack needs no norm of its own."""

    def __init__(
        self, dim: int, ffn_dim: int, attention: AttentionFactory, dropout: float = 0.0, first: bool = True, last: bool = True
    ):
        super().__init__(dim, ffn_dim, attention, dropout, first, last)
        self.feed_forward[0] = nn.Identity()
        self.leave = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, valid: Tensor, table: Tensor | None, state: BlockState | None = None, shared: Shared = None
    ) -> BlockOutput:
        """See `Block.forward`."""
        after: BlockState = {**state} if state else {}
        x, y, valid, shared = self.mix(x, x, valid, table, after, shared)
        x = self.norm(x + y)
        return self.leave(x + self.feed_forward(x)), valid, after, shared


class ConvolutionalBlock(Block):
    """What the blocks share that have a convolution over time, which a subclass makes, beside their attention."""

    convolution: DepthwiseConvolution

    @property
    def lookahead(self) -> float:
        return super().lookahead + self.convolution.lookahead

    def initial_state(self, batch_size: int) -> BlockState:
        convolution = self.convolution.initial_state(batch_size)
        return {**super().initial_state(batch_size), "convolution": convolution}


class ConformerBlock(ConvolutionalBlock):
    """A Conformer block (Gulati et al., arXiv 2005.08100).

    Half a feed-forward module, attention, convolution, half a feed-forward module, and a norm, one after the other.

    Arguments
    ---------
    ffn_dim : int
        Width of the feed-forward layers.
    kernel_size : int
        Taps of the convolution, an odd number; see `DepthwiseConvolution`.
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
        x = x + 0.5 * self.enter(x)
        x, y, valid, shared = self.mix(x, self.norm(x), valid, table, after, shared)
        x = x + y
        y, after["convolution"] = self.convolution(self.norm_convolution(x), valid, after.get("convolution"))
        x = x + y
        return self.leave(x + 0.5 * self.feed_forward(x)), valid, after, shared


class BranchformerBlock(ConvolutionalBlock):
    """A Branchformer block: attention beside a gated convolution, merged by a linear layer (Peng et al., arXiv 2207.02971).

    Arguments
    ---------
    ffn_dim : int
        Width of the gated convolution, an even number.
    kernel_size : int
        Taps of its filter, an odd number; see `DepthwiseConvolution`.
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
        x, y, valid, shared = self.mix(x, self.norm(x), valid, table, after, shared)
        local, after["convolution"] = self.convolution(self.norm_convolution(x), valid, after.get("convolution"))
        return x + self.dropout(self.merge(torch.cat([y, local], dim=-1))), valid, after, shared
