"""AA with the weights of a public encoder computes what transformers computes."""

import pytest
import torch
from published import FAMILIES, TINY_FAMILIES, frames, made, ours, theirs, wav2vec2
from speech_attention.front_end import WhisperFrontEnd

from recipes.LibriSpeech.public.save import write


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """A model of transformers, and ours with its weights, in float64."""
    folder = tmp_path_factory.mktemp("encoder")
    there = made(FAMILIES[request.param], folder)
    return there.double(), ours(folder, torch.float64)


@pytest.mark.slow
def test_each_row_is_what_transformers_makes_of_it_alone(pair):
    there, model = pair
    samples, lengths = 0.1 * torch.randn(2, 4000, dtype=torch.float64), [4000, 2511]
    if hasattr(there, "decoder"):  # which takes inputs of one length alone
        lengths = [4000, 3999]
    expected = [theirs(there, model, row[:length]) for row, length in zip(samples, lengths)]
    samples[1, lengths[1] :] = torch.nan
    for y, of_theirs in zip(frames(model, samples, torch.tensor(lengths)), expected):
        assert y.shape == of_theirs.shape and of_theirs.abs().max() > 1
        assert (y - of_theirs).abs().max() < 1e-10


@pytest.mark.slow
def test_base_at_its_whole_depth_in_single_precision(tmp_path):
    there = made(wav2vec2(num_hidden_layers=12), tmp_path)
    model, samples = ours(tmp_path), 0.1 * torch.randn(4000)
    expected = theirs(there, model, samples)
    (y,) = frames(model, samples[None], torch.tensor([4000]))
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_trained_weights_go_back_to_transformers(family, tmp_path):
    from transformers import AutoModel

    made(TINY_FAMILIES[family], tmp_path)
    model, samples = ours(tmp_path), 0.1 * torch.randn(4000, dtype=torch.float64)
    for name, parameter in model.named_parameters():
        if "qkv.bias" not in name:  # Whisper's keys have none
            parameter.data += 0.05 * torch.randn_like(parameter)
    write(model, str(tmp_path), tmp_path / "out")
    there, model = AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float64).eval(), model.double()
    (y,) = frames(model, samples[None], torch.tensor([4000]))
    expected = theirs(there, model, samples)
    assert (y - expected).abs().max() < 1e-6 * expected.abs().max()  # lengths of weights are rounded
    assert (y - frames(ours(tmp_path, torch.float64), samples[None], torch.tensor([4000]))[0]).abs().max() > 0.1  # trained


@pytest.mark.slow
def test_log_mel_features_are_those_of_transformers():
    from transformers import WhisperFeatureExtractor

    samples = torch.randn(16000) * torch.logspace(-6, -1, 16000)
    found = WhisperFeatureExtractor()(samples.numpy(), sampling_rate=16000, padding=False, return_tensors="pt")
    features, _ = WhisperFrontEnd(8, form="original").features(samples[None], torch.tensor([16000]))
    expected = found["input_features"][0].mT
    assert (features[0, 2:-1] - expected).abs().max() < 1e-5  # as exact as its two implementations are to each other
