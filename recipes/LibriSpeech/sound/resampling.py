"""A stream at one rate to another."""

import math

import torch
from speech_attention.front_end import SAMPLE_RATE


class Resampler:
    """A stream at any rate to one at 16 kHz: the function of `torchaudio.functional.resample` with its defaults.

    Output j is the input at the time t = j * rate / target (in input samples), interpolated by a sinc with a Hann window
    of 6 zero crossings on each side, which cuts off at 0.99 of half the lower of the two rates. Its weights are computed for
    each output, so no ratio needs a large table, and j * rate is an integer: there is no drift. An output comes as soon
    as its last input sample is there. Samples at the target rate pass through untouched.

    Arguments
    ---------
    rate : int
        Of the input, Hz.
    target : int
        Of the output, Hz.

    Example
    -------
    >>> resampler, samples = Resampler(44100), torch.rand(44100)
    >>> pieces = [resampler.step(piece) for piece in samples.split(1764)]
    >>> torch.cat([*pieces, resampler.flush()]).shape
    torch.Size([16000])
    >>> round(resampler.lookahead_ms, 3)
    0.385
    """

    def __init__(self, rate: int, target: int = SAMPLE_RATE):
        self.rate, self.target = rate, target
        self.cutoff = 0.99 * min(rate, target) / rate  # zero crossings for each input sample
        self.reach = 0 if rate == target else math.ceil(6 / self.cutoff)  # input samples on each side
        self.buffer, self.first = torch.zeros(self.reach), -self.reach  # the last samples, and the number of the first
        self.done = 0  # outputs

    @property
    def lookahead_ms(self) -> float:
        """The time from an output sample to the last input sample that it reads, at most."""
        return 1000 * self.reach / self.rate

    def step(self, samples: torch.Tensor) -> torch.Tensor:
        """The outputs (m,) that the next samples (n,), n >= 0, complete."""
        if self.rate == self.target:
            return samples
        self.buffer = torch.cat([self.buffer, samples])
        return self._outputs(self.first + len(self.buffer) - self.reach)

    def flush(self) -> torch.Tensor:
        """The outputs (m,) that still wait for samples: in all there are ceil(samples * target / rate)."""
        return self.step(torch.zeros(self.reach))

    def _outputs(self, end: int) -> torch.Tensor:
        """The outputs at times before `end`, an input sample."""
        total = max(self.done, -(-end * self.target // self.rate))
        offsets = torch.arange(1 - self.reach, self.reach + 1)
        parts = [self.buffer[:0]]
        for numbers in torch.arange(self.done, total).split(max(1, 2**20 // len(offsets))):
            at, rest = numbers * self.rate // self.target, numbers * self.rate % self.target
            x = self.cutoff * (offsets - rest[:, None].double() / self.target)
            weights = self.cutoff * x.sinc() * torch.where(x.abs() < 6, (x * torch.pi / 12).cos() ** 2, 0.0)
            taps = self.buffer[(at - self.first)[:, None] + offsets]
            parts.append((weights * taps).sum(dim=1).to(self.buffer.dtype))
        keep = total * self.rate // self.target + 1 - self.reach
        self.buffer, self.first, self.done = self.buffer[keep - self.first :].clone(), keep, total
        return torch.cat(parts)
