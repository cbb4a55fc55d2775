"""Log-mel filterbanks with fixed statistics, and two convolutions."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..streaming import GELU
from .base import FrontEnd, check_statistics
from .layers import Filterbank, FrameConvolution


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
        if not floor > 0:
            raise ValueError(f"floor={floor} must be more than 0: silence has no logarithm")
        self.dim, self.feature_dim, self.floor = dim, num_mels, floor
        self.mel = Filterbank(num_mels)
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("std", torch.ones(num_mels))
        self.subsample = nn.Sequential(
            FrameConvolution(num_mels, dim, 3, stride=2), GELU(), FrameConvolution(dim, dim, 3, stride=2), GELU()
        )
        self.linear = nn.Linear(dim, dim)

    def extract(self, samples: Tensor) -> Tensor:
        """Log-mel features: (batch, 720 + time * 640) -> (batch, 4 * time + 3, num_mels). Frame t reads features 4t .. 4t + 6."""
        return (self._log_mel(samples) - self.mean) / self.std

    def _log_mel(self, samples: Tensor) -> Tensor:
        return (self.mel(samples) + self.floor).log()

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
        check_statistics(count, total)
        self.mean.copy_(first / count)
        # Below 0 by rounding, where a band is the same throughout.
        self.std.copy_((second / count - (first / count) ** 2).clamp(min=1e-6).sqrt())
