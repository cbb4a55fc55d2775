"""Streaming equals parallel for any split, with a bounded state and no frame late or revised."""

import math
import random

import pytest
import torch
from cases import (
    ATTENTIONS,
    DEPTH,
    DIM,
    HEADS,
    LONG,
    TOLERANCE,
    assert_close,
    build_encoder,
    build_model,
    every_block,
    every_dtype,
    every_front_end,
    every_streaming_case,
    full,
    noise,
    splits,
    stream,
    streaming_with_edges,
)
from speech_attention.blocks import TransformerBlock
from speech_attention.testing import verify_state


@every_dtype
@every_block
@streaming_with_edges
def test_streaming_equals_parallel(case, block, dtype):
    encoder = build_encoder(case, block, dtype=dtype).eval()
    for seed, time in enumerate((1, 2, 3, 7, 20, LONG)):
        x = noise(2, time, DIM, seed=seed, dtype=dtype)
        with torch.no_grad():
            expected, _ = encoder(x, full(x))
        for largest in (1, 4, time) if time < LONG else (9, 64, time):
            sizes = splits(time, largest, random.Random(seed))
            with torch.no_grad():
                outputs = stream(encoder, x, sizes)
            assert_close(torch.cat(outputs, dim=1), expected, TOLERANCE[dtype])
            seen = done = 0
            for size, y in zip(sizes, outputs):
                seen, done = seen + size, done + y.size(1)
                assert done == case.ready(seen, DEPTH), (sizes, seen)


@every_dtype
@every_front_end
@every_block
@every_streaming_case
def test_streaming_equals_parallel_from_waveform(case, block, front_end, dtype):
    model = build_model(case, block, front_end, dtype=dtype)
    hop = model.front_end.hop
    for seed, time in enumerate((1, 319, 320, 321, 639, 640, 641, 16000)):
        samples = noise(2, time, seed=seed, dtype=dtype)
        with torch.no_grad():
            expected, lengths = model(samples, full(samples))
            sizes = splits(time, 2500, random.Random(seed))
            outputs = stream(model, samples, sizes)
        assert expected.size(1) == lengths.max() == math.ceil(time / hop)
        assert_close(torch.cat(outputs, dim=1), expected, TOLERANCE[dtype])
        if dtype == torch.float64:
            assert torch.cat(outputs, dim=1).argmax(-1).equal(expected.argmax(-1))  # and so the greedy text
        seen = done = 0
        for size, y in zip(sizes, outputs):
            seen, done = seen + size, done + y.size(1)
            assert done == case.ready(seen // hop, depth=2)


@every_block
@every_streaming_case
def test_state_is_a_value(case, block):
    encoder, start = build_encoder(case, block), noise(1, 11, DIM, seed=1)
    _, state = encoder.step(start, encoder.initial_state(1))
    first, second = noise(1, 9, DIM, seed=2), noise(1, 14, DIM, seed=3)
    once = stream(encoder, first, [4, 5], state)
    stream(encoder, second, [14], state)  # another stream goes on from the same state in between
    again = stream(encoder, first, [4, 5], state)
    assert all(a.equal(b) for a, b in zip(once, again))


@every_block
@every_streaming_case
def test_nothing_in_nothing_out(case, block):
    encoder = build_encoder(case, block)
    assert encoder.flush(encoder.initial_state(2)).shape == (2, 0, DIM)


@every_block
@every_streaming_case
def test_state_is_bounded(case, block):
    verify_state(build_encoder(case, block))


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name.startswith("LLSA")])
def test_state_of_llsa_is_keys_and_values_of_final_frames(name):
    case = ATTENTIONS[name]
    encoder, left = build_encoder(case, TransformerBlock), case.options["left_context"]
    x = noise(2, 60, DIM)
    _, state = encoder.step(x, encoder.initial_state(2))
    for number, block in enumerate(state["blocks"]):
        assert block.keys() == {"attention"}
        follows = number % case.share > 0  # then it has values alone
        shapes = {"k": (2, left, HEADS, DIM // HEADS), "v": (2, left, HEADS, DIM // HEADS), "valid": (2, left)}
        assert {key: tensor.shape for key, tensor in block["attention"].items()} == dict(list(shapes.items())[follows:])
    assert state["pending"].size(1) == 60 - case.ready(60, DEPTH)
    final = range(case.ready(60, DEPTH))[-left:]
    block = encoder.blocks[0]  # whose input is known
    _, k, v = block.attention.project(block.norm(x[:, final]), block.attention.table(torch.tensor(final)))
    assert_close(state["blocks"][0]["attention"]["k"], k)
    assert_close(state["blocks"][0]["attention"]["v"], v)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-5)], ids=str)
@every_streaming_case
def test_streams_may_be_long(case, dtype, tolerance):
    """Only differences of positions matter, at any position.

    At 10^7 the float64 angle is rounded by 2^-30 = 1e-9, which moves a score by a few times that. In float32 this is
    far below the rounding of the table itself, so the contract's tolerance stays.
    """
    encoder, x = build_encoder(case, TransformerBlock, dtype=dtype), noise(1, 40, DIM, dtype=dtype)
    state = encoder.initial_state(1)
    late = {**state, "position": state["position"] + 10**7}
    assert_close(torch.cat(stream(encoder, x, [40], late), 1), torch.cat(stream(encoder, x, [40], state), 1), tolerance)


def test_positions_matter():
    x = noise(1, 20, DIM)
    order, moved = torch.arange(20).flip(0), {}
    for positions in ("rotary", "none"):
        encoder = build_encoder(ATTENTIONS["AA"], TransformerBlock, options={"positions": positions})
        moved[positions] = (encoder(x[:, order], full(x))[0] - encoder(x, full(x))[0][:, order]).abs().max()
    assert moved["rotary"] > 1e-2  # the same frames in another order are another utterance
    assert moved["none"] < 1e-10
