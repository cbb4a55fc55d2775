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
from speech_attention.testing import verify_padding


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30], ids=str)
@every_block
@with_edges
def test_padding_is_invisible(case, block, garbage):
    verify_padding(build_encoder(case, block), garbage)


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


@every_block
@every_case
def test_an_utterance_without_frames_does_no_harm(case, block):
    """Its row of the batch is empty, and gradients are those of the other rows."""
    encoder, x, weight = build_encoder(case, block), noise(2, 40, DIM).requires_grad_(True), noise(2, 40, DIM, seed=1)
    both, _ = encoder(x, torch.tensor([0, 40]))
    alone, _ = encoder(x[1:], torch.tensor([40]))
    assert both[0].eq(0).all()
    assert_close(both[1:], alone)
    inputs = [x, *encoder.parameters()]
    for actual, expected in zip(gradients(both, weight, inputs), gradients(alone, weight[1:], inputs)):
        assert_close(actual, expected)
