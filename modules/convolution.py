"""Convolutions over time for Conformer and Branchformer blocks. They are causal wherever the attention streams."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention.base import Mixer
from .attention.constant import indices
from .streaming import GELU, Dropout


class DepthwiseConvolution(nn.Module):
    """One filter over time for each channel. The two classes below put it into the modules that blocks use.

    A frame reads the `kernel_size - 1` frames before it. Those before its group are final ones; those inside its group are
    the group's own. Each is read at its true distance, so the convolution adds no look-ahead, in LLSA neither. Where the
    attention reads the whole utterance, the kernel is centred instead. Frames that are not valid count as zeros, so that
    padding is invisible.

    Arguments
    ---------
    channels : int
    kernel_size : int
        Number of taps, odd and at least 3.
    attention : Mixer
        The attention of the same block; the convolution follows its `layout` and its `layer_lookahead`.

    Raises
    ------
    ValueError
        If kernel_size is even or too small.
    """

    def __init__(self, channels: int, kernel_size: int, attention: Mixer):
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 3:
            raise ValueError(f"kernel_size={kernel_size} must be odd and at least 3")
        self.kernel_size, self.layout = kernel_size, attention.layout
        self.centred = math.isinf(attention.layer_lookahead)
        self.lookahead: float = math.inf if self.centred else 0  # in frames; infinite where there is no streaming form
        self.weight = nn.Parameter(torch.empty(channels, kernel_size).uniform_(-1, 1) / kernel_size**0.5)

    def depthwise(self, x: Tensor, valid: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Filter each channel over time.

        Arguments
        ---------
        x : torch.Tensor
            (batch, groups, frames, channels). These may be the final frames of each group alone, since no frame reads a
            later frame of its group.
        valid : torch.Tensor
            (batch, groups, frames), bool.
        state : torch.Tensor or None
            (batch, kernel_size - 1, channels); None if these are all frames of their utterances.

        Returns
        -------
        y : torch.Tensor
            Like x.
        state : torch.Tensor or None
            For the next call.
        """
        x = x.masked_fill(~valid[..., None], 0.0)
        past, chunk, groups = self.kernel_size - 1, self.layout.chunk, x.size(1)
        if self.centred:
            return _filter(F.pad(x.squeeze(2), (0, 0, past // 2, past // 2)), self.weight).unsqueeze(2), None
        if state is None:  # a whole utterance: nothing comes before it
            state = self.initial_state(x.size(0))
        taps = self.weight.flip(1)  # in the order of time
        joined = groups == 1 and x.size(2) == self.layout.lookahead + 1  # all frames follow the past without a gap
        known = torch.cat([state.to(x.dtype), (x if joined else x[:, :, :chunk]).flatten(1, 2)], dim=1)  # (batch, time, channels)
        y = _filter(known, taps).unflatten(1, (groups, -1))  # a final frame reads final frames alone
        if y.size(2) < x.size(2):
            y = torch.cat([y, self._look_ahead(known[:, chunk:], x[:, :, chunk:], taps)], dim=2)
        return y, known[:, groups * chunk : groups * chunk + past]

    def _look_ahead(self, final: Tensor, x: Tensor, taps: Tensor) -> Tensor:
        """Filter the look-ahead frames of each group. They read the final frames up to the end of their group, and each other.

        Arguments
        ---------
        final : torch.Tensor
            (batch, kernel_size - 1 + (groups - 1) * chunk, channels). The first kernel_size - 1 of these final frames come
            just before the look-ahead frames of the first group.
        x : torch.Tensor
            (batch, groups, frames, channels), the look-ahead frames.
        taps : torch.Tensor
            (channels, kernel_size), in the order of time.

        Returns
        -------
        torch.Tensor
            (batch, groups, frames, channels).
        """
        (batch, groups, frames, dim), past, span = x.shape, taps.size(1) - 1, self.layout.pending
        offsets = self.layout.offsets[self.layout.chunk :]
        after = indices(tuple(offset - self.layout.chunk for offset in offsets), x.device)  # 0: next to a final frame
        # the frame that comes `after` frames later reads the same final frames with its taps moved by as many
        moved = F.pad(taps, (span, 0)).unfold(1, past, 1).index_select(1, span - after)  # (channels, frames, past)
        copies = final[:, :, None].expand(-1, -1, frames, -1).flatten(2)  # (batch, time, frames * channels)
        history = _filter(copies, moved.transpose(0, 1).flatten(0, 1), stride=self.layout.chunk).unflatten(2, (frames, dim))
        if frames < span:  # frames that the layout leaves out count as zeros
            x = x.new_zeros(batch, groups, span, dim).index_copy(2, after, x)
        reach = min(past, span - 1)
        own = _filter(F.pad(x.flatten(0, 1), (0, 0, reach, 0)), taps[:, past - reach :]).unflatten(0, (batch, groups))
        return history + (own.index_select(2, after) if frames < span else own)

    def initial_state(self, batch_size: int) -> Tensor:
        """The last kernel_size - 1 final frames before the first frame, which are zeros: (batch, kernel_size - 1, channels)."""
        return self.weight.new_zeros(batch_size, self.kernel_size - 1, self.weight.size(0))


def _filter(x: Tensor, taps: Tensor, stride: int = 1) -> Tensor:
    """Filter each channel of x (batch, time, channels) by its row of taps (channels, n): (batch, time, channels), no padding."""
    x = x[:, :, None].permute(0, 3, 1, 2)  # (batch, channels, time, 1); channels stay last in memory, where CPUs are fastest
    return F.conv2d(x, taps[:, None, :, None], stride=(stride, 1), groups=len(taps)).permute(0, 2, 3, 1).squeeze(2)


class Convolution(DepthwiseConvolution):
    """The convolution module of a Conformer (Gulati et al., arXiv 2005.08100), with LayerNorm in place of BatchNorm.

    It widens each frame, gates it, filters each channel over time, and normalises and projects the result.

    Arguments
    ---------
    dim : int
        Width of the frames.
    kernel_size, attention
        See `DepthwiseConvolution`.
    dropout : float

    Example
    -------
    >>> from speech_attention.attention import SA
    >>> convolution = Convolution(8, 3, SA(dim=8, num_heads=2, left_context=4, lookahead=1))
    >>> convolution(torch.rand(1, 5, 1, 8), torch.ones(1, 5, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 1, 8])
    """

    def __init__(self, dim: int, kernel_size: int, attention: Mixer, dropout: float = 0.0):
        super().__init__(dim, kernel_size, attention)
        self.enter = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GLU(dim=-1))
        self.leave = nn.Sequential(nn.LayerNorm(dim), nn.SiLU(), nn.Linear(dim, dim), Dropout(dropout))

    def forward(self, x: Tensor, valid: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `DepthwiseConvolution.depthwise`."""
        y, state = self.depthwise(self.enter(x), valid, state)
        return self.leave(y), state


class GatedConvolution(DepthwiseConvolution):
    """The gated convolution of a Branchformer (Peng et al., arXiv 2207.02971).

    It widens each frame and halves it. One half, filtered over time, gates the other, and the product is projected.

    Arguments
    ---------
    dim : int
        Width of the frames.
    width : int
        Width of both halves together, an even number.
    kernel_size, attention
        See `DepthwiseConvolution`.
    dropout : float
    """

    def __init__(self, dim: int, width: int, kernel_size: int, attention: Mixer, dropout: float = 0.0):
        if width % 2:
            raise ValueError(f"ffn_dim={width} must be even: one half gates the other")
        super().__init__(width // 2, kernel_size, attention)
        self.enter = nn.Sequential(nn.Linear(dim, width), GELU())
        self.norm = nn.LayerNorm(width // 2)
        self.bias = nn.Parameter(torch.ones(width // 2))  # so that the gate is open at first
        self.leave = nn.Sequential(Dropout(dropout), nn.Linear(width // 2, dim))

    def forward(self, x: Tensor, valid: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `DepthwiseConvolution.depthwise`."""
        x, gate = self.enter(x).chunk(2, dim=-1)
        gate, state = self.depthwise(self.norm(gate), valid, state)
        return self.leave(x * (gate + self.bias)), state
