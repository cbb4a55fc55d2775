"""Gated positions far from the frame, where a stack of a few frames never comes, and their one table for a stack."""

from functools import partial

import torch
from cases import assert_close, noise
from speech_attention.attention import AA
from speech_attention.attention.reference import gated_bias
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.testing import randomise


def test_bias_of_far_frames_is_that_of_their_bucket():
    attention = randomise(AA(8, 2, positions="gated")).double()
    x, distances = noise(1, 1, 8), torch.arange(-1000, 1001, 13)
    q, bias = attention.bias(attention.project(x, None)[0], distances, lambda scores: scores)
    assert q.shape == (1, 1, 2, 4)  # without the gate
    expected = torch.stack([gated_bias(attention, x[0, 0], int(distance)) for distance in distances], dim=-1)
    assert_close(bias[0, :, 0] / 2, expected)  # scores are divided by sqrt(4) later
    assert bias[0, 0, 0].unique().numel() > 80


def test_a_stack_learns_one_table():
    encoder = Encoder(8, 8, 3, TransformerBlock, partial(AA, num_heads=2, positions="gated"), owners=[0, 2])
    before = [name for name in encoder.state_dict() if "buckets" in name]
    assert before == [f"blocks.{i}.attention.buckets.weight" for i in (0, 2)]  # a follower has no positions
    y, _ = encoder(noise(1, 5, 8, dtype=torch.float32), torch.tensor([5]))
    y.square().sum().backward()
    torch.optim.SGD(encoder.parameters(), lr=1.0).step()
    assert encoder.state_dict()[before[0]].equal(encoder.state_dict()[before[1]])
