"""SpeechBrain's convolutions of wav2vec 2.0, to be trained from nothing."""

from speechbrain.lobes.models.wav2vec import W2VLatentExtractor
from torch import Tensor, nn

from .base import FrontEnd


class WaveformFrontEnd(FrontEnd):
    """The seven convolutions of wav2vec 2.0, with a LayerNorm over channels in each, which make one frame every 20 ms.

    It is SpeechBrain's `W2VLatentExtractor`, without the normalisation of the signal by the statistics of the utterance. The
    norms of the layers look at one frame at a time, so the front end streams.

    Arguments
    ---------
    dim : int
        Width of the frames.
    channels : int
        Channels of the seven convolutions.
    pool : int
        See `FrontEnd`.

    Example
    -------
    >>> import torch
    >>> front_end = WaveformFrontEnd(dim=8, channels=4)
    >>> front_end(torch.rand(1, 16000), torch.tensor([16000]))[0].shape
    torch.Size([1, 50, 8])
    """

    hop, window = 320, 641

    def __init__(self, dim: int, channels: int = 512, pool: int = 1):
        super().__init__(pool)
        self.dim, self.feature_dim = dim, channels
        self.convolutions = W2VLatentExtractor(out_channels=[channels] * 7)
        self.linear = nn.Linear(channels, dim)

    def extract(self, samples: Tensor) -> Tensor:
        """Latents: (batch, 321 + time * 320) -> (batch, time, channels)."""
        return self.convolutions(samples, normalize_signal=False)

    def project(self, features: Tensor) -> Tensor:
        return self.linear(features)
