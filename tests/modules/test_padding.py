"""What stands in the padding does not matter, and does no harm."""

import math

import pytest
import torch
from cases import (
    BLOCKS,
    DIM,
    assert_close,
    build_encoder,
    build_model,
    every_block,
    every_case,
    every_front_end,
    gradients,
    noise,
    with_edges,
)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30], ids=str)
@every_block
@with_edges
def test_padding_is_invisible(case, block, garbage):
    encoder, lengths = build_encoder(case, block), torch.tensor([20, 1, 7, 13])
    x = noise(4, 23, DIM)  # padding in the longest utterance, too
    padding = torch.arange(23) >= lengths[:, None]
    x[padding] = garbage
    x.requires_grad_(True)
    y, weight = encoder(x, lengths)[0], noise(4, 23, DIM, seed=1)
    batch = gradients(y, weight, [x, *encoder.parameters()])
    assert not y[padding].any() and not batch[0][padding].any()

    alone = [torch.zeros_like(parameter) for parameter in encoder.parameters()]
    for i, length in enumerate(lengths):
        own = x[i : i + 1, :length].detach().requires_grad_(True)
        expected = encoder(own, lengths[i : i + 1])[0]
        assert_close(y[i : i + 1, :length], expected)
        of_input, *of_parameters = gradients(expected, weight[i : i + 1, :length], [own, *encoder.parameters()])
        assert_close(batch[0][i : i + 1, :length], of_input)
        alone = [a + b for a, b in zip(alone, of_parameters)]
    for a, b in zip(batch[1:], alone):
        assert_close(a, b)


@every_front_end
@every_case
def test_padding_is_invisible_from_waveform(case, front_end):
    model, lengths = build_model(case, BLOCKS["Conformer"], front_end), torch.tensor([9000, 1, 641, 5000])
    samples = noise(4, 10000)
    samples[torch.arange(10000) >= lengths[:, None]] = math.nan
    with torch.no_grad():
        y, frames = model(samples, lengths)
        for i, length in enumerate(lengths):
            expected, [own] = model(samples[i : i + 1, :length], lengths[i : i + 1])
            assert own == frames[i] == math.ceil(length / model.front_end.hop)
            assert_close(y[i : i + 1, :own], expected)
