"""From waveform to encoder frames. Each frame of a front end is a function of one window of samples, and of nothing else.

A hop is the samples from one frame to the next. Frame t reads samples (t + 1) * hop - window .. (t + 1) * hop - 1, so that its
window ends where its hop ends. Before the first sample and after the last one there are zeros. Hence a frame looks ahead to
the end of its own hop, and no further; an utterance of n samples has ceil(n / hop) frames; and the streaming state is the
last samples.

With `pool`, a hop is that many times as long, and has as many frames, of which the encoder makes one. The front ends of public
encoders have two forms with the same weights: the original one, which reads the whole utterance, and the streaming one.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..streaming import Streaming, length_mask

SAMPLE_RATE = 16000


class FrontEnd(Streaming[Tensor]):
    """Turns a waveform (batch, samples) into frames (batch, time * pool, dim). A subclass supplies `extract` and `project`.

    The streaming state holds the last window - hop samples, and those of a hop that is not complete.

    Arguments
    ---------
    pool : int
        Frames for each hop; a subclass says what `hop`, `window` and `per_frame` are for one.
    form : str
        "streaming", or "original": what a public encoder computes of a whole utterance.

    Raises
    ------
    ValueError
        If `pool` is no whole number from 1, or there is no such form.
    """

    dim: int
    """Width of the frames."""
    feature_dim: int
    """Width of the features."""
    hop: int
    """Samples from one hop to the next."""
    window: int
    """Samples that the frames of a hop read."""
    per_frame: int = 1
    """Number of features for each hop. Before those of the first hop there may be a few more."""
    delay: int = 0
    """Samples by which it hears the audio later than its original form does."""

    def __init__(self, pool: int = 1, form: str = "streaming"):
        super().__init__()
        if type(pool) is not int or pool < 1:
            raise ValueError(f"pool={pool} must be a whole number of frames, 1 or more")
        if form not in ("streaming", "original"):
            raise ValueError(f"form={form} must be streaming or original")
        self.pool, self.form, one = pool, form, self.hop
        self.hop, self.window, self.per_frame = pool * one, self.window + (pool - 1) * one, pool * self.per_frame

    @property
    def lookahead(self) -> float:
        """Samples that a frame reads after the end of its own hop."""
        return math.inf if self.form == "original" else 0

    def extract(self, samples: Tensor) -> Tensor:
        """Compute features, each of a few samples: (batch, window - hop + time * hop) -> (batch, .., feature_dim)."""
        raise NotImplementedError

    def extract_whole(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Compute the features of the original form.

        Arguments
        ---------
        samples : torch.Tensor
            (batch, time * hop), zeros after the last sample of an utterance.
        lengths : torch.Tensor
            (batch,), in samples.

        Returns
        -------
        features : torch.Tensor
            (batch, .., feature_dim), as many as `extract` makes.
        """
        raise NotImplementedError

    def project(self, features: Tensor) -> Tensor:
        """Compute frames of features: (batch, .., feature_dim) -> (batch, time * pool, dim)."""
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
            (batch,), in hops: ceil(samples / hop).

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
        samples, hops = F.pad(samples, (0, -samples.size(1) % self.hop)), -(-lengths // self.hop)
        if self.form == "original":
            return self.extract_whole(samples, lengths), hops
        return self.extract(F.pad(samples, (self.window - self.hop, 0))), hops

    def _check(self, samples: Tensor) -> None:
        if samples.dim() != 2 or not samples.is_floating_point():
            given = f"{samples.dtype} of shape {tuple(samples.shape)}"
            raise ValueError(f"samples must be floats of full scale 1, (batch, samples), not {given}")

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """From (batch, samples) and lengths in samples to frames (batch, time * pool, dim) and lengths in hops."""
        features, lengths = self.features(samples, lengths)
        return self.project(features), lengths

    def initial_state(self, batch_size: int) -> Tensor:
        """The samples before the first one: zeros. ValueError in the original form, which has no streaming form."""
        if self.form == "original":
            raise ValueError("form=original reads the whole utterance: a stream needs form=streaming")
        return next(self.parameters()).new_zeros(batch_size, self.window - self.hop)

    def step(self, samples: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Take the next samples (batch, n). Returns the frames (batch, m * pool, dim) that they complete, and the state."""
        self._check(samples)
        samples = torch.cat([state, samples], dim=1)
        used = (samples.size(1) - self.window + self.hop) // self.hop * self.hop
        if used == 0:
            return samples.new_zeros(samples.size(0), 0, self.dim), samples
        y = self.project(self.extract(samples[:, : used + self.window - self.hop]))
        return y, samples[:, used:]

    def flush(self, state: Tensor) -> Tensor:
        """End the streams. Returns the frames of the last hop, if it has begun: (batch, 0 or pool, dim)."""
        rest = state.size(1) - self.window + self.hop
        return self.step(F.pad(state, (0, -rest % self.hop))[:, state.size(1) :], state)[0]


def check_statistics(count: Tensor, sums: Tensor) -> None:
    """Refuse, by a ValueError, statistics of nothing, and those of samples that are no numbers; see `FrontEnd.fit`."""
    if not count.all():
        raise ValueError("no utterances to take statistics from")
    if not sums.isfinite().all():
        raise ValueError("there are samples that are no numbers, or far too large: full scale is 1")
