"""Transformer and Conformer blocks around any attention factory."""

import torch
from torch import nn

from .convolution import Convolution


class FeedForward(nn.Sequential):
    """Norm, widen, activation, narrow; position-wise."""

    def __init__(self, dim, ffn_dim, activation, dropout):
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, ffn_dim), activation, nn.Dropout(dropout), nn.Linear(ffn_dim, dim),
            nn.Dropout(dropout),
        )  # fmt: skip


class TransformerBlock(nn.Module):
    """Pre-norm Transformer block.

    The first block of a stack turns (batch, time, dim) into (batch, groups, frames, dim), after the projections, so that
    these are shared by a frame's revisions; the last one computes the final frames only. Both are exact.

    Arguments
    ---------
    dim, ffn_dim : int
        Widths of the frames and of the feed-forward layer.
    attention : callable
        Factory called as `attention(dim=dim)`.
    dropout : float
    first, last : bool
        The block's place in its stack.
    """

    def __init__(self, dim, ffn_dim, attention, dropout=0.0, first=True, last=True):
        super().__init__()
        self.dim, self.first, self.last = dim, first, last
        self.norm = nn.LayerNorm(dim)
        self.attention = attention(dim=dim)
        self.feed_forward = FeedForward(dim, ffn_dim, nn.GELU(), dropout)
        self.dropout = nn.Dropout(dropout)

    @property
    def lookahead(self):
        """Frames of look-ahead that this block adds to its stack."""
        return self.attention.layer_lookahead

    def forward(self, x, valid, table, state=None):
        """Run the block.

        Arguments
        ---------
        x : torch.Tensor
            (batch, time, dim) for the first block, else (batch, groups, frames, dim).
        valid : torch.Tensor
            Like x without dim, bool.
        table : torch.Tensor
            Rotary table of the frames of x, without batch.
        state : dict or None
            None: these are all the frames there are. Otherwise of `initial_state` or of the last call, whose frames came
            just before; then frames come out `attention.layer_lookahead` later.

        Returns
        -------
        x, valid, state
            (batch, groups, frames, dim), (batch, groups, frames), of the final frames only for the last block.
        """
        state = dict(state or {})
        x, valid = self.mix_attention(x, valid, table, state)
        return x + self.feed_forward(x), valid, state

    def mix_attention(self, x, valid, table, state):
        """x + attention, in the layout of the stack; takes and leaves its part of the state."""
        layout = self.attention.layout
        q, k, v = self.attention.project(self.norm(x), table)
        if self.first:
            x, valid, q, k, v = (layout.expand(t) for t in (x, valid, q, k, v))
        if self.last:
            x, q = x[:, :, : layout.chunk], q[:, :, : layout.chunk]
        if "residual" in state:  # frames leave the attention late: so must those beside it
            residual = torch.cat([state["residual"], x], dim=1)
            x, state["residual"] = residual[:, : x.size(1)], residual[:, x.size(1) :]
        y, valid, state["attention"] = self.attention.mix(q, k, v, valid, state.get("attention"))
        x = x + self.dropout(self.attention.output(y.flatten(-2)))
        return x, valid[:, :, : x.size(2)]

    def initial_state(self, batch_size):
        """State before the first frame, a dict of tensors (nested)."""
        state = {"attention": self.attention.initial_state(batch_size)}
        if delay := self.attention.layer_lookahead:
            state["residual"] = self.norm.weight.new_zeros(batch_size, delay, 1, self.dim)
        return state


class ConformerBlock(TransformerBlock):
    """Half feed-forward, attention, convolution, half feed-forward, norm (Gulati et al., arXiv 2005.08100).

    Arguments
    ---------
    kernel_size : int
        Taps of the convolution, odd; causal where the attention streams, see `Convolution`.
    dim, ffn_dim, attention, dropout, first, last
        See `TransformerBlock`.
    """

    def __init__(self, dim, ffn_dim, attention, kernel_size=15, dropout=0.0, first=True, last=True):
        super().__init__(dim, ffn_dim, attention, dropout, first, last)
        self.enter = FeedForward(dim, ffn_dim, nn.SiLU(), dropout)
        self.feed_forward = FeedForward(dim, ffn_dim, nn.SiLU(), dropout)
        self.norm_convolution = nn.LayerNorm(dim)
        self.convolution = Convolution(dim, kernel_size, self.attention, dropout)
        self.leave = nn.LayerNorm(dim)

    @property
    def lookahead(self):
        return super().lookahead + self.convolution.lookahead

    def forward(self, x, valid, table, state=None):
        """See `TransformerBlock.forward`."""
        state = dict(state or {})
        x, valid = self.mix_attention(x + 0.5 * self.enter(x), valid, table, state)
        y, state["convolution"] = self.convolution(self.norm_convolution(x), valid, state.get("convolution"))
        x = x + y
        return self.leave(x + 0.5 * self.feed_forward(x)), valid, state

    def initial_state(self, batch_size):
        convolution = self.convolution.initial_state(batch_size)
        return {**super().initial_state(batch_size), "convolution": convolution}
