"""The convolution module of a Conformer, causal wherever the attention streams."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Convolution(nn.Module):
    """Pointwise, gate, depthwise over time, norm, pointwise (Gulati et al., arXiv 2005.08100), with LayerNorm.

    A frame reads the `kernel_size - 1` frames before it: final frames before its group (history) and, inside the group,
    the local frames before it, at their true distances; so in LLSA it adds no look-ahead. Where the attention reads the
    whole utterance the kernel is centred instead. Frames that are not valid are zeros at the depthwise input, so padding
    is invisible.

    Arguments
    ---------
    dim : int
        Width of the frames.
    kernel_size : int
        Taps, odd.
    attention : Attention
        Whose `layout` and `layer_lookahead` the convolution follows.
    dropout : float

    Example
    -------
    >>> from speech_attention.attention import SA
    >>> convolution = Convolution(8, 3, SA(dim=8, num_heads=2, left_context=4, lookahead=1))
    >>> convolution(torch.rand(1, 5, 1, 8), torch.ones(1, 5, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 1, 8])
    """

    def __init__(self, dim, kernel_size, attention, dropout=0.0):
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 3:
            raise ValueError(f"kernel_size={kernel_size} must be odd and at least 3")
        self.kernel_size, self.layout = kernel_size, attention.layout
        self.centred = math.isinf(attention.layer_lookahead)
        self.lookahead = math.inf if self.centred else 0  # frames; infinite where there is no streaming form
        self.enter = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GLU(dim=-1))
        self.weight = nn.Parameter(torch.empty(dim, kernel_size).uniform_(-1, 1) / kernel_size**0.5)
        self.leave = nn.Sequential(nn.LayerNorm(dim), nn.SiLU(), nn.Linear(dim, dim), nn.Dropout(dropout))

    def forward(self, x, valid, state=None):
        """x (batch, groups, frames, dim), valid (batch, groups, frames) -> y like x, state; see `Attention.mix`.

        Only the first frames of each group may be given: no frame reads a local frame after it.
        """
        x = self.enter(x).masked_fill(~valid[..., None], 0.0)
        if self.centred:
            taps = self.kernel_size // 2
            y = F.conv1d(x.squeeze(2).mT, self.weight[:, None], padding=taps, groups=x.size(-1)).mT.unsqueeze(2)
            return self.leave(y), None
        if state is None:  # nothing before
            state = self.initial_state(x.size(0))
        final = torch.cat([state.to(x.dtype), x[:, :, : self.layout.chunk].flatten(1, 2)], dim=1)  # (batch, time, dim)
        y = self._history(final, x.size(1), x.size(2)) + self._local(x)
        return self.leave(y), final[:, x.size(1) * self.layout.chunk :]

    def _history(self, final, groups, frames):
        """The taps that reach before the group: one convolution over the final frames, `frames` outputs per group."""
        past, dim, chunk = self.kernel_size - 1, final.size(-1), self.layout.chunk
        taps = self.weight.flip(1)  # in order of time; the frame at `offset` reads its group's past that much later
        kernel = torch.stack([F.pad(taps, (offset, 0))[:, :past] for offset in self.layout.offsets[:frames]], dim=1)
        kernel = kernel.flatten(0, 1)[:, None]  # (dim * frames, 1, past)
        y = F.conv1d(final[:, : past + (groups - 1) * chunk].mT, kernel, stride=chunk, groups=dim)
        return y.unflatten(1, (dim, frames)).permute(0, 3, 2, 1)  # (batch, groups, frames, dim)

    def _local(self, x):
        """The taps inside the group: a causal convolution over its frames, at their true distances."""
        offsets = self.layout.offsets[: x.size(2)]
        span = offsets[-1] + 1
        taps = min(self.kernel_size, span)
        if len(offsets) < span:  # frames between them are not there: zeros
            x = x.new_zeros(*x.shape[:2], span, x.size(3)).index_copy(2, torch.tensor(offsets, device=x.device), x)
        x = F.pad(x, (0, 0, taps - 1, 0)).permute(0, 3, 1, 2)  # (batch, dim, groups, taps - 1 + span)
        y = F.conv2d(x, self.weight[:, None, None, :taps].flip(-1), groups=x.size(1)).permute(0, 2, 3, 1)
        return y[:, :, list(offsets)] if len(offsets) < span else y

    def initial_state(self, batch_size):
        """(batch, kernel_size - 1, dim) zeros: the last final frames at the depthwise input."""
        return self.weight.new_zeros(batch_size, self.kernel_size - 1, self.weight.size(0))
