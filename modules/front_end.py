"""From waveform to encoder frames. Each frame of a front end is a function of one window of samples, and of nothing else.

A hop is the samples from one frame to the next. Frame t reads samples (t + 1) * hop - window .. (t + 1) * hop - 1, so that its
window ends where its hop ends. Before the first sample and after the last one there are zeros. Hence a frame looks ahead to
the end of its own hop, and no further; an utterance of n samples has ceil(n / hop) frames; and the streaming state is the
last samples.
"""

from collections.abc import Iterable

import torch
from speechbrain.lobes.models.wav2vec import W2VLatentExtractor
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram, Spectrogram

from .streaming import GELU, Streaming, length_mask

SAMPLE_RATE = 16000


class FrontEnd(Streaming[Tensor]):
    """Turns a waveform (batch, samples) into frames (batch, time, dim). A subclass supplies `extract` and `project`.

    The streaming state holds the last window - hop samples, and those of a hop that is not complete.
    """

    dim: int
    """Width of the frames."""
    feature_dim: int
    """Width of the features."""
    hop: int
    """Samples from one frame to the next."""
    window: int
    """Samples that a frame reads."""
    lookahead: int = 0
    """Samples that a frame reads after the end of its own hop."""
    per_frame = 1
    """Number of features for each hop. Before those of the first hop there may be a few more, fewer than this number."""

    def extract(self, samples: Tensor) -> Tensor:
        """Compute features, each of a few samples: (batch, window - hop + time * hop) -> (batch, .., feature_dim)."""
        raise NotImplementedError

    def project(self, features: Tensor) -> Tensor:
        """Compute frames of features: (batch, .., feature_dim) -> (batch, time, dim)."""
        raise NotImplementedError

    def fit(self, utterances: Iterable[Tensor]) -> None:
        """Take what statistics of the features it needs from utterances, (samples,) each. By default it needs none."""

    def features(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a padded batch.

        Arguments
        ---------
        samples : torch.Tensor
            (batch, samples). What stands in the padding does not matter.
        lengths : torch.Tensor
            (batch,), in samples.

        Returns
        -------
        features : torch.Tensor
            (batch, .., feature_dim).
        lengths : torch.Tensor
            (batch,), in frames: ceil(samples / hop).

        Raises
        ------
        ValueError
            If the samples are no floats (batch, samples), or the lengths no whole numbers (batch,).
        """
        self._check(samples)
        if lengths.shape != samples.shape[:1] or lengths.is_floating_point():
            given = f"{lengths.dtype} of shape {tuple(lengths.shape)}"
            raise ValueError(f"lengths must be whole numbers of samples, one for each of {len(samples)} utterances, not {given}")
        samples = samples.masked_fill(~length_mask(lengths, samples.size(1)), 0.0)
        samples = F.pad(samples, (self.window - self.hop, -samples.size(1) % self.hop))
        return self.extract(samples), -(-lengths // self.hop)

    def _check(self, samples: Tensor) -> None:
        if samples.dim() != 2 or not samples.is_floating_point():
            given = f"{samples.dtype} of shape {tuple(samples.shape)}"
            raise ValueError(f"samples must be floats of full scale 1, (batch, samples), not {given}")

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """From (batch, samples) and lengths in samples to frames (batch, time, dim) and lengths in frames."""
        features, lengths = self.features(samples, lengths)
        return self.project(features), lengths

    def initial_state(self, batch_size: int) -> Tensor:
        return next(self.parameters()).new_zeros(batch_size, self.window - self.hop)

    def step(self, samples: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Take the next samples (batch, n). Returns the frames (batch, m, dim) that they complete, and the state."""
        self._check(samples)
        samples = torch.cat([state, samples], dim=1)
        used = (samples.size(1) - self.window + self.hop) // self.hop * self.hop
        if used == 0:
            return samples.new_zeros(samples.size(0), 0, self.dim), samples
        y = self.project(self.extract(samples[:, : used + self.window - self.hop]))
        return y, samples[:, used:]

    def flush(self, state: Tensor) -> Tensor:
        """End the streams. Returns the last frame, if its hop has begun: (batch, 0 or 1, dim)."""
        rest = state.size(1) - self.window + self.hop
        return self.step(F.pad(state, (0, -rest % self.hop))[:, state.size(1) :], state)[0]


class PowerSpectrogram(Spectrogram):
    """torchaudio's `Spectrogram` of power, not centred. It spares the checks of `torch.stft`, which count for a few frames."""

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> (batch, frequencies, time)."""
        frames = samples.unfold(-1, self.n_fft, self.hop_length) * self.window  # (batch, time, n_fft)
        spectrum = torch.fft.rfft(frames)
        return (spectrum.real.square() + spectrum.imag.square()).mT  # abs() would be slower: it takes a root


class Subsampling(nn.Conv1d):
    """A convolution over three frames, at every second frame, as a linear layer, which is faster for a few frames."""

    def __init__(self, channels: int, dim: int):
        super().__init__(channels, dim, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 2 * time + 1, channels) -> (batch, time, dim)."""
        return F.linear(x.unfold(1, 3, 2).flatten(2), self.weight.flatten(1), self.bias)


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

    def __init__(self, dim: int, num_mels: int = 80, floor: float = 1e-6):
        super().__init__()
        if num_mels < 1:
            raise ValueError(f"num_mels={num_mels} must be 1 filter or more")
        if not floor > 0:
            raise ValueError(f"floor={floor} must be more than 0: silence has no logarithm")
        self.dim, self.feature_dim, self.floor = dim, num_mels, floor
        self.mel = MelSpectrogram(SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=num_mels, center=False)
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("std", torch.ones(num_mels))
        self.mel.spectrogram = PowerSpectrogram(400, hop_length=160)
        self.subsample = nn.Sequential(Subsampling(num_mels, dim), GELU(), Subsampling(dim, dim), GELU())
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

    Example
    -------
    >>> front_end = WaveformFrontEnd(dim=8, channels=4)
    >>> front_end(torch.rand(1, 16000), torch.tensor([16000]))[0].shape
    torch.Size([1, 50, 8])
    """

    hop, window = 320, 641

    def __init__(self, dim: int, channels: int = 512):
        super().__init__()
        self.dim, self.feature_dim = dim, channels
        self.convolutions = W2VLatentExtractor(out_channels=[channels] * 7)
        self.linear = nn.Linear(channels, dim)

    def extract(self, samples: Tensor) -> Tensor:
        """Latents: (batch, 321 + time * 320) -> (batch, time, channels)."""
        return self.convolutions(samples, normalize_signal=False)

    def project(self, features: Tensor) -> Tensor:
        return self.linear(features)
