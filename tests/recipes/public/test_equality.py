"""AA with the weights of a public encoder computes what transformers computes."""

import pytest
import torch
from published import FAMILIES, frames, made, ours, theirs, wav2vec2


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
