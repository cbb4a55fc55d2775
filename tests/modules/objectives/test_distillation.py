"""Distillation: what a layer's output is, what the student regresses, and how late it may be."""

import copy

import torch
from cases import BLOCKS, DIM, assert_close, build_encoder, every_case, noise
from torch import nn

# Outputs of layers


@every_case
def test_outputs_of_a_layer_are_those_of_the_stack_that_ends_with_it(case):
    """Where a layer is the last one, it computes final frames alone; in LLSA the frames around them are left out."""
    encoder = build_encoder(case, BLOCKS["Transformer"])
    x, lengths, outputs = noise(2, 10, DIM), torch.tensor([10, 7]), []
    encoder(x, lengths, outputs)
    assert len(outputs) == len(encoder.blocks) - 1
    for depth, output in enumerate(outputs, 1):
        first = copy.deepcopy(encoder)
        first.blocks, first.norm = first.blocks[:depth], nn.Identity()
        first.blocks[-1].last = True
        assert_close(output, first(x, lengths)[0])
