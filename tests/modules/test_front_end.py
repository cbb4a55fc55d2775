"""From waveform to frames: how many, and which samples each one reads."""

import math
import random
from functools import partial

import pytest
import torch
from cases import DIM, FRONT_ENDS, assert_close, named, noise, splits, stream
from speech_attention.front_end import ConvolutionalFrontEnd, FbankFrontEnd, WaveformFrontEnd, WhisperFrontEnd

BASE = partial(ConvolutionalFrontEnd, channels=4)
LARGE = partial(ConvolutionalFrontEnd, channels=4, norm="layer", bias=True, normalize=True)
STREAMING = {
    **FRONT_ENDS,
    "fbank-pool2": partial(FbankFrontEnd, pool=2),
    "waveform-pool2": partial(WaveformFrontEnd, channels=4, pool=2),
    "base": BASE,
    "large": LARGE,
    "large-pool2": partial(LARGE, pool=2),
    "whisper": WhisperFrontEnd,
    "whisper-pool3": partial(WhisperFrontEnd, pool=3),
}
ORIGINAL = {
    "base-original": partial(BASE, form="original"),
    "large-original-pool2": partial(LARGE, form="original", pool=2),
    "whisper-original": partial(WhisperFrontEnd, form="original"),
}
every_front_end = pytest.mark.parametrize("build", **named({**STREAMING, **ORIGINAL}))
every_streaming_front_end = pytest.mark.parametrize("build", **named(STREAMING))
HOPS = {"fbank": 640, "fbank-pool2": 1280, "large": 320, "large-pool2": 640, "whisper-pool3": 960, "whisper-original": 320}


@pytest.mark.parametrize("name", HOPS)
def test_frame_count(name):
    front_end, hop = {**STREAMING, **ORIGINAL}[name](DIM), HOPS[name]
    assert front_end.hop == hop
    samples = noise(1, 3 * hop, dtype=torch.float32)
    for time in (1, 2, hop - 1, hop, hop + 1, 2 * hop, 2 * hop + 1, 3 * hop - 1, 3 * hop):
        with torch.no_grad():
            y, lengths = front_end(samples[:, :time], torch.tensor([time]))
        assert y.shape == (1, math.ceil(time / hop) * front_end.pool, DIM)
        assert lengths.tolist() == [math.ceil(time / hop)]


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30], ids=str)
@every_front_end
def test_padding_is_invisible(build, garbage):
    front_end, lengths = build(DIM).double(), torch.tensor([5000, 1, 640, 641, 3000])
    samples = noise(5, 5500)
    samples[torch.arange(5500) >= lengths[:, None]] = garbage
    samples.requires_grad_(True)
    y, frames = front_end(samples, lengths)
    for i, length in enumerate(lengths):
        expected, [own] = front_end(samples[i : i + 1, :length], lengths[i : i + 1])
        assert own == frames[i]
        assert_close(y[i : i + 1, : own * front_end.pool], expected)
    weight = noise(*y.shape, seed=1)
    for gradient in torch.autograd.grad((y * weight).sum(), [samples, *front_end.parameters()]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("build", [FbankFrontEnd, WhisperFrontEnd])
def test_logarithms_keep_their_precision_under_autocast(build):
    front_end, samples, lengths = build(DIM), noise(1, 4000, dtype=torch.float32), torch.tensor([4000])
    expected, _ = front_end.features(samples, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(front_end.features(samples, lengths)[0], expected, 0)


@every_streaming_front_end
def test_samples_that_a_frame_reads(build):
    front_end = build(DIM).double()
    hop, window = front_end.hop, front_end.window
    samples = noise(1, 8 * hop).requires_grad_(True)
    y, _ = front_end(samples, torch.tensor([8 * hop]))
    y = y.unflatten(1, (8, -1))  # the frames of each hop
    for frame in range(8):
        (gradient,) = torch.autograd.grad((y[0, frame] * noise(DIM)).sum(), samples, retain_graph=True)
        read = gradient[0].nonzero().flatten()
        end = (frame + 1) * hop
        assert read.max() == end - 1  # the last sample of its own hop, and none after it
        # the first one: a Hann window is zero at its first sample
        assert max(0, end - window) <= read.min() <= max(0, end - window + 1)


@pytest.mark.parametrize("time", [1, 640, 19200, 20000])
@every_streaming_front_end
def test_streaming_equals_parallel(build, time):
    front_end = build(DIM).double()
    samples, state = noise(2, time), front_end.initial_state(2)
    sizes = splits(time, 1500, random.Random(0))
    for piece in samples.split(sizes, dim=1):
        _, state = front_end.step(piece, state)
        assert state.shape[0] == 2 and state.shape[1] < front_end.window
    assert_close(torch.cat(stream(front_end, samples, sizes), 1), front_end(samples, torch.tensor([time] * 2))[0])


def test_fit_normalises_over_all_utterances():
    front_end = FbankFrontEnd(DIM).double()
    utterances = [scale * noise(time, seed=time) for scale, time in ((1.0, 4000), (0.01, 9000), (5.0, 16000))]
    front_end.fit(iter(utterances))
    features = torch.cat([front_end.extract(samples[None])[0] for samples in utterances])
    assert_close(features.mean(dim=0), torch.zeros(80).double(), 1e-8)  # float64, squares of up to 15
    assert_close(features.std(dim=0, correction=0), torch.ones(80).double(), 1e-8)
    one = front_end.extract(utterances[1][None])[0]
    assert one.mean() < -0.5  # and not over each of them: the quiet one stays quiet


def test_features_are_log_mel_energies():
    """A tone of 1 kHz is loudest in the mel band around it; twice the amplitude is log(4) more power."""
    front_end = FbankFrontEnd(DIM).double()
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(4000, dtype=torch.float64) / 16000)[None]
    quiet, loud = (front_end.extract(gain * tone)[0] for gain in (1, 2))
    top = 2595 * math.log10(1 + 8000 / 700)  # mel scale of HTK; band b is centred on the (b + 1)-th of 81 equal steps
    band = round(2595 * math.log10(1 + 1000 / 700) / top * 81) - 1
    assert quiet.argmax(dim=1).unique().tolist() == [band]
    gain = (loud - quiet)[:, band]
    assert_close(gain, torch.full_like(gain, math.log(4)), 1e-6)  # the floor is 1e-6, and the power above 1


@pytest.mark.parametrize("samples", [torch.zeros(32000), torch.full((32000,), 0.9), torch.tensor([0.3, -0.3]).repeat(16000)])
@pytest.mark.parametrize("mels", [80, 200])
def test_bands_that_never_change_are_no_reason_for_nan(samples, mels):
    """Where the variance is 0, or less by rounding; filters narrower than a frequency of the spectrum hear nothing at all."""
    front_end = FbankFrontEnd(DIM, num_mels=mels)
    front_end.fit([samples] * 3)
    assert (front_end.std >= 9.9e-4).all() and front_end(samples[None], torch.tensor([32000]))[0].isfinite().all()
