"""Layers that front ends have in common."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram, Spectrogram

from .base import SAMPLE_RATE


class PowerSpectrogram(Spectrogram):
    """torchaudio's `Spectrogram` of power, not centred. It spares the checks of `torch.stft`, which count for a few frames."""

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> (batch, frequencies, time)."""
        frames = samples.unfold(-1, self.n_fft, self.hop_length) * self.window  # (batch, time, n_fft)
        spectrum = torch.fft.rfft(frames)
        return (spectrum.real.square() + spectrum.imag.square()).mT  # abs() would be slower: it takes a root


class Filterbank(MelSpectrogram):
    """The power of filters in windows of 25 ms, every 10 ms: in full precision, as powers of quiet frames vanish in half of it.

    Arguments
    ---------
    num_mels : int
        Number of filters.
    **scale
        What torchaudio's `MelSpectrogram` may know of them: `norm` and `mel_scale`.

    Raises
    ------
    ValueError
        If there is no filter.
    """

    def __init__(self, num_mels: int, **scale: Any):
        if num_mels < 1:
            raise ValueError(f"num_mels={num_mels} must be 1 filter or more")
        super().__init__(SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=num_mels, center=False, **scale)
        self.spectrogram = PowerSpectrogram(400, hop_length=160)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, 240 + time * 160) -> (batch, time, num_mels)."""
        if torch.is_autocast_enabled(samples.device.type):
            with torch.autocast(samples.device.type, enabled=False):
                return self.forward(samples)
        return super().forward(samples).mT


class FrameConvolution(nn.Conv1d):
    """A convolution over frames (batch, time, channels) as a linear layer, which is faster for a few frames."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, (time - 1) * stride + kernel, in_channels) -> (batch, time, out_channels)."""
        return F.linear(x.unfold(1, self.kernel_size[0], self.stride[0]).flatten(2), self.weight.flatten(1), self.bias)
