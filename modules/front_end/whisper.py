"""The log-mel spectrogram and the two convolutions of Whisper."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..streaming import GELU
from .base import FrontEnd, check_statistics
from .layers import Filterbank, FrameConvolution


class WhisperFrontEnd(FrontEnd):
    """Whisper's log-mel features, every 10 ms, and two convolutions, which make one frame every 20 ms (Radford et al., 2022).

    Both forms have the same weights. Features are limited to eight decades below a ceiling.

    * The original form computes what is published, of the utterance with silence up to the end of its last hop: windows centred
      on their hop, with the utterance mirrored at both ends; its loudest value for a ceiling; zeros around the convolutions.
    * The streaming form hears the audio 200 samples later, so that a window ends where its hop ends; before the start there is
      silence, and the ceiling is fixed by `fit`. With equal ceilings, all frames but the first are those of the original form
      on the audio after 200 samples of silence.

    Arguments
    ---------
    dim : int
        Width of the frames.
    num_mels : int
        Number of filters.
    form, pool
        See `FrontEnd`.

    Example
    -------
    >>> front_end = WhisperFrontEnd(dim=8, pool=2)
    >>> y, lengths = front_end(torch.rand(2, 16000), torch.tensor([16000, 9000]))
    >>> y.shape, lengths  # 40 ms for each hop of two frames
    (torch.Size([2, 50, 8]), tensor([25, 15]))
    """

    hop, window, per_frame = 320, 1040, 2

    ceiling: Tensor

    def __init__(self, dim: int, num_mels: int = 80, form: str = "streaming", pool: int = 1):
        super().__init__(pool, form)
        self.dim, self.feature_dim, self.delay = dim, num_mels, 0 if form == "original" else 200
        self.mel = Filterbank(num_mels, norm="slaney", mel_scale="slaney")
        self.register_buffer("ceiling", torch.tensor(1.5))
        self.convolutions = nn.ModuleList([FrameConvolution(num_mels, dim, 3), FrameConvolution(dim, dim, 3, stride=2)])
        self.activation = GELU()

    def extract(self, samples: Tensor) -> Tensor:
        """(batch, 720 + time * 320) -> (batch, 2 * time + 3, num_mels). Frame t reads features 2t .. 2t + 4."""
        return self._scaled(self._log_mel(samples), self.ceiling)

    def extract_whole(self, samples: Tensor, lengths: Tensor) -> Tensor:
        time, length = samples.size(1), -(-lengths // self.hop) * self.hop  # whole hops
        number = torch.arange(-200, time + 200, device=samples.device).abs()
        mirrored = torch.minimum(number, 2 * (length[:, None] - 1) - number)  # (batch, 400 + time)
        log_mel = self._log_mel(samples.gather(1, mirrored.clamp(0, time - 1)))[:, : time // 160]
        valid = torch.arange(log_mel.size(1), device=samples.device) < length[:, None] // 160
        loudest = log_mel.masked_fill(~valid[..., None], -torch.inf).amax(dim=(1, 2), keepdim=True)
        features = self._scaled(log_mel, loudest).masked_fill(~valid[..., None], 0.0)
        return F.pad(features, (0, 0, 2, 1))  # zeros around the first convolution, and one more, which `project` does not use

    def _log_mel(self, samples: Tensor) -> Tensor:
        """Logarithms to base 10 of the power of each filter, (batch, time, num_mels)."""
        return self.mel(samples).clamp(min=1e-10).log10()

    def _scaled(self, log_mel: Tensor, ceiling: Tensor) -> Tensor:
        return (log_mel.maximum(ceiling - 8) + 4) / 4

    def project(self, features: Tensor) -> Tensor:
        x = self.activation(self.convolutions[0](features))  # (batch, 2 * time + 1, dim)
        if self.form == "original":
            x = F.pad(x[:, 1:], (0, 0, 1, 0))  # zeros around the second convolution
        return self.activation(self.convolutions[1](x))

    @torch.no_grad()
    def fit(self, utterances: Iterable[Tensor]) -> None:
        """Set the ceiling to the mean over utterances, (samples,) each, of the loudest value of each.

        Raises
        ------
        ValueError
            If there are none, or their samples are no numbers.
        """
        loudest = []
        for samples in utterances:
            samples = F.pad(samples, (0, max(0, self.mel.n_fft - len(samples)))).to(self.ceiling)
            loudest.append(self._log_mel(samples[None]).max().item())
        values = torch.tensor(loudest, dtype=torch.float64)
        check_statistics(torch.tensor(len(loudest)), values)
        self.ceiling.copy_(values.mean())
