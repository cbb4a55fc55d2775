"""Log-mel filterbanks with fixed statistics, and the layers that it shares with Whisper's front end."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram, Spectrogram

from ..streaming import GELU
from .base import SAMPLE_RATE, FrontEnd


class PowerSpectrogram(Spectrogram):
    """torchaudio's `Spectrogram` of power, not centred. It spares the checks of `torch.stft`, which count for a few frames."""

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> (batch, frequencies, time)."""
        frames = samples.unfold(-1, self.n_fft, self.hop_length) * self.window  # (batch, time, n_fft)
        spectrum = torch.fft.rfft(frames)
        return (spectrum.real.square() + spectrum.imag.square()).mT  # abs() would be slower: it takes a root


class FrameConvolution(nn.Conv1d):
    """A convolution over frames (batch, time, channels) as a linear layer, which is faster for a few frames."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, (time - 1) * stride + kernel, in_channels) -> (batch, time, out_channels)."""
        return F.linear(x.unfold(1, self.kernel_size[0], self.stride[0]).flatten(2), self.weight.flatten(1), self.bias)


class FbankFrontEnd(FrontEnd):
    """Log-mel filterbanks of 25 ms, every 10 ms, and two convolutions of stride 2, which make one frame every 40 ms.

    Features are normalised by fixed statistics, those of the training set. Those of the utterance would not be known while
    it streams.

    Arguments
    ---------
    dim : int
        Width of the frames.
    num_mels : int
        Number of filters.
    floor : float
        Added to the power of each filter before the logarithm; more than 0, which is the power of digital silence.
    pool : int
        See `FrontEnd`.

    Example
    -------
    >>> front_end = FbankFrontEnd(dim=8)
    >>> y, lengths = front_end(torch.rand(2, 16000), torch.tensor([16000, 9000]))
    >>> y.shape, lengths
    (torch.Size([2, 25, 8]), tensor([25, 15]))
    """

    hop, window, per_frame = 640, 1360, 4

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, num_mels: int = 80, floor: float = 1e-6, pool: int = 1):
        super().__init__(pool)
        if num_mels < 1:
            raise ValueError(f"num_mels={num_mels} must be 1 filter or more")
        if not floor > 0:
            raise ValueError(f"floor={floor} must be more than 0: silence has no logarithm")
        self.dim, self.feature_dim, self.floor = dim, num_mels, floor
        self.mel = MelSpectrogram(SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=num_mels, center=False)
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("std", torch.ones(num_mels))
        self.mel.spectrogram = PowerSpectrogram(400, hop_length=160)
        self.subsample = nn.Sequential(
            FrameConvolution(num_mels, dim, 3, stride=2), GELU(), FrameConvolution(dim, dim, 3, stride=2), GELU()
        )
        self.linear = nn.Linear(dim, dim)

    def extract(self, samples: Tensor) -> Tensor:
        """Log-mel features: (batch, 720 + time * 640) -> (batch, 4 * time + 3, num_mels). Frame t reads features 4t .. 4t + 6."""
        return (self._log_mel(samples) - self.mean) / self.std

    def _log_mel(self, samples: Tensor) -> Tensor:
        if torch.is_autocast_enabled(samples.device.type):  # powers of quiet frames vanish in half precision
            with torch.autocast(samples.device.type, enabled=False):
                return self._log_mel(samples)
        return (self.mel(samples) + self.floor).log().mT

    def project(self, features: Tensor) -> Tensor:
        return self.linear(self.subsample(features))

    @torch.no_grad()
    def fit(self, utterances: Iterable[Tensor]) -> None:
        """Set the normalisation to the mean and the standard deviation over utterances, (samples,) each.

        Raises
        ------
        ValueError
            If there are none, or their samples are no numbers.
        """
        total = torch.zeros(3, self.feature_dim, dtype=torch.float64)
        for samples in utterances:
            samples = F.pad(samples, (0, max(0, self.mel.n_fft - len(samples)))).to(self.mean.device)
            features = self._log_mel(samples[None])[0].double().cpu()
            total += torch.stack([torch.ones_like(features), features, features**2]).sum(dim=1)
        count, first, second = total
        if not count.all():
            raise ValueError("no utterances to take statistics from")
        if not total.isfinite().all():
            raise ValueError("there are samples that are no numbers, or far too large: full scale is 1")
        self.mean.copy_(first / count)
        # Below 0 by rounding, where a band is the same throughout.
        self.std.copy_((second / count - (first / count) ** 2).clamp(min=1e-6).sqrt())
