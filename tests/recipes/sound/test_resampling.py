"""Resampling equals the library's whole-file function for any split, waits as long as it declares, and does not drift."""

import math
import random

import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from recipes.LibriSpeech.sound.resampling import Resampler

RATES = (8000, 11025, 22050, 32000, 44100, 48000, 96000)


def pieces(samples, largest, seed=0):
    """Samples cut into pieces of 0 to `largest`."""
    generator, start = random.Random(seed), 0
    while start < len(samples):
        size = generator.randint(0, largest)
        yield samples[start : start + size]
        start += size


def streamed(rate, parts):
    resampler = Resampler(rate)
    return torch.cat([*(resampler.step(part) for part in parts), resampler.flush()])


@pytest.mark.parametrize("rate", RATES)
def test_resampling_equals_torchaudio_for_any_split(rate):
    """In float64, where torchaudio's own table is exact: in float32 it is rounded by up to 1e-4."""
    for samples in (1, 2, 5, rate // 3 + 1):
        x = torch.from_numpy(np.random.default_rng(samples).standard_normal(samples))
        expected = resample(x, rate, 16000)
        assert len(expected) == math.ceil(samples * 16000 / rate)
        for largest in (1, rate // 50, samples) if samples < 100 else (rate // 1000, rate // 50, samples):
            torch.testing.assert_close(streamed(rate, pieces(x, largest)), expected, rtol=0, atol=1e-10)
        single = streamed(rate, pieces(x.float(), rate // 50))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [15999, 7919, 44101])
def test_resampling_at_any_rate(rate):
    """Coprime with 16000: against the formula, one output and one input sample at a time."""
    x = np.random.default_rng(0).standard_normal(200)
    crossings = 0.99 * min(rate, 16000)  # a second
    expected = []
    for j in range(math.ceil(len(x) * 16000 / rate)):
        total = 0.0
        for k, sample in enumerate(x):
            distance = crossings * (k / rate - j / 16000)
            if abs(distance) < 6:
                sinc = math.sin(math.pi * distance) / (math.pi * distance) if distance else 1.0
                total += sample * crossings / rate * sinc * math.cos(math.pi * distance / 12) ** 2
        expected.append(total)
    got = streamed(rate, pieces(torch.from_numpy(x), 9))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


def test_16_khz_passes_untouched():
    x, resampler = torch.rand(1000), Resampler(16000)
    assert torch.equal(torch.cat([resampler.step(x[:1]), resampler.step(x[1:]), resampler.flush()]), x)
    assert len(resampler.step(x)) == len(x) and resampler.lookahead_ms == 0


@pytest.mark.parametrize("rate", RATES)
def test_resampling_waits_as_long_as_it_declares(rate):
    """An output comes once the samples of the half width of the filter, 6 zero crossings, are there; never later."""
    resampler, waits, done = Resampler(rate), [], 0
    for heard in range(1, 400):
        for _ in resampler.step(torch.rand(1)):
            waits.append((heard - 1) / rate - done / 16000)  # from the output's time to that of the last sample heard
            done += 1
    width, sample = 6 / (0.99 * min(rate, 16000)), 1 / rate
    assert 1000 * max(waits) <= resampler.lookahead_ms + 1e-9
    assert max(waits) > resampler.lookahead_ms / 1000 - sample
    assert width <= resampler.lookahead_ms / 1000 < width + sample


def test_a_long_stream_neither_drifts_nor_grows():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(22051 * 60))
    resampler, outputs, sizes = Resampler(22051), [], set()
    for part in x.split(882):
        outputs.append(resampler.step(part))
        sizes.add(len(resampler.buffer))
    got = torch.cat([*outputs, resampler.flush()])
    assert max(sizes) < 100
    start = 22051 * 59  # the last second alone
    late = streamed(22051, [x[start:]])
    torch.testing.assert_close(got[59 * 16000 + 10 :], late[10:], rtol=0, atol=1e-10)
