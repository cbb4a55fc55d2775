"""What stands in the padding does not matter, and does no harm."""

import math

import pytest
import torch
from cases import (
    BLOCKS,
    assert_close,
    build_encoder,
    build_model,
    every_block,
    every_case,
    every_front_end,
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
