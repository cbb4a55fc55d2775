"""The front ends of public encoders: each form against its definition in plain torch, and what `fit` takes from audio."""

import copy
import math

import pytest
import torch
from cases import DIM, assert_close, noise
from speech_attention.front_end import ConvolutionalFrontEnd, WhisperFrontEnd
from speech_attention.testing import randomise
from torch.nn import functional as F

UTTERANCES = [scale * noise(time, seed=time) + 0.1 for scale, time in ((1.0, 4000), (0.01, 9000), (5.0, 16001))]
NORMS = pytest.mark.parametrize("norm, bias, normalize", [("group", False, False), ("group", True, True), ("layer", False, True)])


def both(build, *arguments):
    """The original and the streaming form, with the same random weights, in float64."""
    original = randomise(build(DIM, *arguments, form="original")).double()
    streaming = build(DIM, *arguments).double()
    streaming.load_state_dict(original.state_dict())
    return original, streaming


def whole(front_end, samples):
    """The frames of one utterance, (time, dim)."""
    return front_end(samples[None], torch.tensor([len(samples)]))[0][0].detach()


def published_convolutions(front_end, samples):
    """wav2vec 2.0's: over the utterance, with 80 zeros before it and zeros up to whole hops."""
    if front_end.normalize:
        samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    x = F.pad(samples, (80, -len(samples) % 320))[None, None]
    for i, (convolution, norm) in enumerate(zip(front_end.convolutions, front_end.norms)):
        x = F.conv1d(x, convolution.weight, convolution.bias, convolution.stride)
        if isinstance(norm, torch.nn.LayerNorm):
            x = norm(x.mT).mT
        elif i == 0:
            x = F.group_norm(x, x.size(1), norm.weight, norm.bias)
        x = F.gelu(x)
    return front_end.linear(front_end.norm(x[0].mT)).detach()


def published_log_mel(front_end, samples):
    """Whisper's logarithms to base 10, (mels, time): centred windows, the last one dropped."""
    spectrum = torch.stft(samples, 400, 160, window=front_end.mel.spectrogram.window, return_complex=True)
    return (front_end.mel.mel_scale.fb.T @ spectrum[:, :-1].abs().square()).clamp(min=1e-10).log10()


def published_whisper(front_end, samples):
    log_mel = published_log_mel(front_end, F.pad(samples, (0, -len(samples) % 320)))
    x = (log_mel.clamp(min=log_mel.max() - 8) + 4) / 4
    first, second = front_end.convolutions
    x = F.gelu(F.conv1d(x[None], first.weight, first.bias, padding=1))
    return F.gelu(F.conv1d(x, second.weight, second.bias, stride=2, padding=1))[0].mT.detach()


@pytest.mark.parametrize("time", [1, 170, 321, 6400, 6500])
@NORMS
def test_original_convolutions_are_as_published(norm, bias, normalize, time):
    original, _ = both(ConvolutionalFrontEnd, 4, norm, bias, normalize)
    samples = 0.1 * noise(time) + 0.02
    assert_close(whole(original, samples), published_convolutions(original, samples))


@pytest.mark.parametrize("time", [1, 170, 321, 6400, 6500])
def test_original_whisper_is_as_published(time):
    original, _ = both(WhisperFrontEnd)
    samples = noise(time) * torch.logspace(-9, -1, time, dtype=torch.float64)  # a part of it lies below the limit of 8 decades
    assert_close(whole(original, samples), published_whisper(original, samples))


def test_whispers_loudest_value_is_one_of_the_utterance():
    """Where the padding mirrors a click, it lies nearer to the centre of a window, which hears it louder."""
    original, _ = both(WhisperFrontEnd)
    samples = F.pad(torch.ones(2, 1).double(), (241, 1000))
    y, _ = original(samples, torch.tensor([640, 1242]))
    assert_close(y[0, :2].detach(), whole(original, samples[0, :640]))


def test_streaming_whisper_is_the_original_on_audio_after_a_pause():
    original, streaming = both(WhisperFrontEnd)
    samples = noise(6400) * torch.logspace(-9, -1, 6400, dtype=torch.float64)
    later = F.pad(samples, (200, 120))
    streaming.ceiling.copy_(published_log_mel(original, later).max())
    frames, expected = whole(streaming, samples), whole(original, later)[:20]
    assert_close(frames[1:], expected[1:])
    assert (frames[0] - expected[0]).abs().max() > 1e-3  # zeros around the convolutions are not the features of silence


@NORMS
def test_fit_takes_the_statistics_of_all_utterances(norm, bias, normalize):
    _, front_end = both(ConvolutionalFrontEnd, 4, norm, bias, normalize)
    front_end.fit(iter(UTTERANCES))
    gain = torch.cat(UTTERANCES).square().mean().rsqrt() if normalize else 1.0
    if normalize:
        assert_close(front_end.gain, gain, 1e-6)  # beside the 1e-7 that is added to the power
        gain = front_end.gain
    if norm == "group":
        padded = [F.pad(gain * samples, (80, -len(samples) % 320)) for samples in UTTERANCES]
        y = torch.cat([front_end.convolutions[0](samples[None, :, None])[0] for samples in padded]).detach()
        assert_close(front_end.norms[0].mean, y.mean(dim=0))
        assert_close(front_end.norms[0].var, y.var(dim=0, correction=0), 1e-9)  # variances up to 100


def test_the_form_changes_nothing_but_statistics():
    """With those of the utterance itself, which has no mean to be removed, the streaming form is the original one."""
    samples = UTTERANCES[2] - UTTERANCES[2].mean()
    for arguments in ((4, "group", True, True), (4, "layer", True, True)):
        original, streaming = both(ConvolutionalFrontEnd, *arguments)
        before = whole(original, samples)
        for front_end in (original, streaming):
            front_end.fit([samples])
        assert all(map(torch.equal, original.state_dict().values(), streaming.state_dict().values()))
        assert_close(whole(original, samples), before, 0.0)
        assert_close(whole(streaming, samples), before, 1e-9)


def test_fit_sets_whispers_ceiling_to_the_mean_of_the_loudest_values():
    front_end = WhisperFrontEnd(DIM).double()
    front_end.fit(iter(UTTERANCES))
    loudest = [front_end._log_mel(samples[None]).max() for samples in UTTERANCES]
    assert_close(front_end.ceiling, torch.stack(loudest).mean())
    assert loudest[1] < front_end.ceiling - 1 < loudest[2]  # and not one of them


@pytest.mark.parametrize("build", [ConvolutionalFrontEnd, WhisperFrontEnd])
def test_fit_refuses_what_has_no_statistics(build):
    front_end = build(DIM)
    before = copy.deepcopy(front_end.state_dict())
    for utterances, message in (([], "no utterances"), ([torch.full((400,), math.nan)], "no numbers")):
        with pytest.raises(ValueError, match=message):
            front_end.fit(utterances)
    assert all(map(torch.equal, before.values(), front_end.state_dict().values()))
    front_end.fit([torch.zeros(1000)])
    assert all(p.isfinite().all() for p in front_end(torch.zeros(1, 1000), torch.tensor([1000]))[0])


@pytest.mark.parametrize("build", [ConvolutionalFrontEnd, WhisperFrontEnd])
def test_the_original_form_does_not_stream(build):
    front_end = build(DIM, form="original")
    assert front_end.lookahead == math.inf and build(DIM).lookahead == 0
    with pytest.raises(ValueError, match="original reads the whole utterance"):
        front_end.initial_state(1)


@pytest.mark.parametrize("arguments", [{"form": "causal"}, {"pool": 0}, {"pool": 1.5}])
def test_wrong_arguments_are_named(arguments):
    for build in (ConvolutionalFrontEnd, WhisperFrontEnd):
        with pytest.raises(ValueError, match="=".join(map(str, *arguments.items()))):
            build(DIM, **arguments)
    with pytest.raises(ValueError, match="norm=batch"):
        ConvolutionalFrontEnd(DIM, norm="batch")
