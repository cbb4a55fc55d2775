"""Gated positions far from the frame, where a stack of a few frames never comes."""

import torch
from cases import assert_close, noise
from speech_attention.attention import AA
from speech_attention.attention.reference import gated_bias
from speech_attention.testing import randomise


def test_bias_of_far_frames_is_that_of_their_bucket():
    attention = randomise(AA(8, 2, positions="gated")).double()
    x, distances = noise(1, 1, 8), torch.arange(-1000, 1001, 13)
    q, bias = attention.bias(attention.project(x, None)[0], distances, lambda scores: scores)
    assert q.shape == (1, 1, 2, 4)  # without the gate
    expected = torch.stack([gated_bias(attention, x[0, 0], int(distance)) for distance in distances], dim=-1)
    assert_close(bias[0, :, 0] / 2, expected)  # scores are divided by sqrt(4) later
    assert bias[0, 0, 0].unique().numel() > 80
