"""The contract that every attention keeps in every block type, against definitions, references and known answers."""

import math
import random

import pytest
import torch
from torch import nn
from torchaudio.models import Emformer

from cases import (
    ATTENTIONS, BLOCKS, DEPTH, DIM, EDGES, FRONT_ENDS, HEADS, TOLERANCE, Case, assert_close, build_encoder, full, named,
    noise, randomise, splits, stream, streaming,
)  # fmt: skip
from speech_attention.attention import AA, LLSA, MAA, SA
from speech_attention.attention.base import rotary, rotate
from speech_attention.attention.reference import reference_encoder
from speech_attention.blocks import ConformerBlock, TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.model import CTCModel
from speech_attention.streaming import measured_lookahead

LONG = 150  # frames: more than two of the blocks in which SA (64) and LLSA (72 / (C + R)) evaluate their band
every_block = pytest.mark.parametrize("block", **named(BLOCKS))
every_case = pytest.mark.parametrize("case", **named(ATTENTIONS))
every_streaming_case = pytest.mark.parametrize("case", **named(streaming(ATTENTIONS)))
every_front_end = pytest.mark.parametrize("front_end", **named(FRONT_ENDS))
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
with_edges = pytest.mark.parametrize("case", **named({**ATTENTIONS, **EDGES}))
streaming_with_edges = pytest.mark.parametrize("case", **named(streaming({**ATTENTIONS, **EDGES})))


def build_model(case, block, front_end, depth=2, dtype=torch.float64):
    model = CTCModel(front_end(DIM), build_encoder(case, block, depth), 30)
    randomise(model.front_end.linear)
    return randomise(model.head) and model.to(dtype).eval()


def gradients(y, weight, inputs):
    return torch.autograd.grad((y * weight).sum(), inputs)


# Against the plain loop


@every_block
@with_edges
def test_equals_the_plain_loop(case, block):
    encoder = build_encoder(case, block)
    names, parameters = zip(*encoder.named_parameters())
    for time in (1, 2, 3, 7, 20):
        x = noise(time, DIM, seed=time).requires_grad_(True)
        y, expected = encoder(x[None], torch.tensor([time]))[0][0], reference_encoder(encoder, x)
        assert_close(y, expected)
        weight = noise(time, DIM, seed=99)
        actual, wanted = (gradients(out, weight, [x, *parameters]) for out in (y, expected))
        for name, a, b in zip(("input", *names), actual, wanted):
            assert (a - b).abs().max() <= 1e-10 * max(1, b.abs().max()), (time, name)


@every_block
@every_streaming_case
def test_equals_the_plain_loop_beyond_blocks(case, block):
    encoder, x = build_encoder(case, block, depth=2), noise(LONG, DIM)
    with torch.no_grad():
        assert_close(encoder(x[None], torch.tensor([LONG]))[0][0], reference_encoder(encoder, x))


def test_rotary_is_a_rotation_by_position():
    x, positions = noise(6, HEADS, 8), torch.tensor([0, 1, 2, 3, 50, 1000])
    frequency = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)  # 10000 ** (-2 i / 8)
    turn = torch.polar(torch.ones(6, 4, dtype=torch.float64), positions[:, None] * frequency)[:, None]
    expected = torch.complex(x[..., :4], x[..., 4:]) * turn
    assert_close(rotate(x, rotary(positions, 8)), torch.cat([expected.real, expected.imag], dim=-1))


# Parallel equals streaming


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


def tensors(state):
    """All tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for value in values for tensor in tensors(value)]


@every_block
@every_streaming_case
def test_state_is_bounded(case, block):
    encoder, sizes = build_encoder(case, block), {}
    state = encoder.initial_state(2)
    for seen in range(10, 510, 10):
        _, state = encoder.step(noise(2, 10, DIM, seed=seen), state)
        # 50 and 500 are the same number modulo chunks of 1, 2 and 3; views count with all that they keep alive
        sizes[seen] = sum(t.numel() for t in tensors(state)), sum(t.untyped_storage().nbytes() for t in tensors(state))
    assert sizes[50] == sizes[500]


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name.startswith("LLSA")])
def test_state_of_llsa_is_keys_and_values_of_final_frames(name):
    case = ATTENTIONS[name]
    encoder, left = build_encoder(case, TransformerBlock), case.options["left_context"]
    x = noise(2, 60, DIM)
    _, state = encoder.step(x, encoder.initial_state(2))
    for block in state["blocks"]:
        assert block.keys() == {"attention"}
        assert {key: tensor.shape for key, tensor in block["attention"].items()} == {
            "k": (2, left, HEADS, DIM // HEADS), "v": (2, left, HEADS, DIM // HEADS), "valid": (2, left)
        }  # fmt: skip
    assert state["pending"].size(1) == 60 - case.ready(60, DEPTH)
    final = range(case.ready(60, DEPTH))[-left:]
    block = encoder.blocks[0]  # whose input is known
    _, k, v = block.attention.project(block.norm(x[:, final]), rotary(torch.tensor(final), DIM // HEADS))
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
    for positions in (True, False):
        encoder = build_encoder(ATTENTIONS["AA"], TransformerBlock, options={"positions": positions})
        moved[positions] = (encoder(x[:, order], full(x))[0] - encoder(x, full(x))[0][:, order]).abs().max()
    assert moved[True] > 1e-2  # the same frames in another order are another utterance
    assert moved[False] < 1e-10


# Padding


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


# Attentions that are the same function


def pair(one, other, block, depth):
    """Two encoders with the same weights."""
    encoders = [build_encoder(case, block, depth) for case in (one, other)]
    encoders[1].load_state_dict(randomise(encoders[0], seed=5).state_dict())
    return encoders


@pytest.mark.parametrize(
    "one, other, depth",
    [
        (MAA, SA, 3),
        (LLSA, SA, 1),
    ],
    ids=["MAA is SA", "LLSA of one layer is SA"],
)
@every_block
def test_equal_functions(one, other, depth, block):
    x = noise(2, LONG, DIM)
    for left, right in ((5, 2), (0, 3), (70, 1)):
        options = {"left_context": left, "lookahead": right}
        a, b = pair(Case(one, options), Case(other, options), block, depth)
        assert_close(a(x, full(x))[0], b(x, full(x))[0])


@every_block
def test_llsa_without_lookahead_is_sa(block):
    x = noise(2, LONG, DIM)
    for left in (0, 5, 70):
        options = {"left_context": left, "lookahead": 0}
        a, b = pair(Case(LLSA, options), Case(SA, options), block, DEPTH)
        assert_close(a(x, full(x))[0], b(x, full(x))[0])


def test_window_as_long_as_the_utterance_is_aa():
    x = noise(2, LONG, DIM)  # no Conformer: its convolution is causal in one and centred in the other
    a, b = pair(Case(SA, {"left_context": LONG, "lookahead": LONG}), Case(AA), TransformerBlock, DEPTH)
    assert_close(a(x, full(x))[0], b(x, full(x))[0])


class EmformerBlock(TransformerBlock):
    """Emformer's layer: a Transformer block with a norm at its end."""

    def __init__(self, dim, *args, **kwargs):
        super().__init__(dim, *args, **kwargs)
        self.leave = nn.LayerNorm(dim)

    def forward(self, x, valid, table, state=None):
        x, valid, state = super().forward(x, valid, table, state)
        return self.leave(x), valid, state


@pytest.mark.parametrize(
    "left, right, chunk", [(5, 2, 1), (3, 0, 1), (0, 3, 1), (30, 1, 1), (5, 2, 4), (16, 3, 8), (0, 1, 4), (5, 6, 4)]
)
def test_llsa_is_emformer(left, right, chunk, monkeypatch):
    case = Case(LLSA, {"left_context": left, "lookahead": right, "chunk": chunk, "positions": False})
    encoder = build_encoder(case, EmformerBlock).eval()
    emformer = Emformer(
        DIM, HEADS, 2 * DIM, DEPTH, segment_length=chunk, activation="gelu", left_context_length=left,
        right_context_length=right, max_memory_size=0,
    ).double().eval()  # fmt: skip
    randomise(emformer, seed=1)
    for block, layer in zip(encoder.blocks, emformer.emformer_layers):
        query, key_value = layer.attention.emb_to_query, layer.attention.emb_to_key_value
        block.attention.qkv.load_state_dict(
            {name: torch.cat([query.state_dict()[name], key_value.state_dict()[name]]) for name in ("weight", "bias")}
        )
        block.attention.output.load_state_dict(layer.attention.out_proj.state_dict())
        block.feed_forward.load_state_dict(layer.pos_ff.state_dict())
        block.norm.load_state_dict(layer.layer_norm_input.state_dict())
        block.leave.load_state_dict(layer.layer_norm_output.state_dict())

    time = 30  # no multiple of 4 or 8
    x = noise(2, time + right, DIM)  # Emformer asks for the look-ahead of the last frames, and makes no output for it
    y = encoder(x, full(x))[0][:, :time]
    # Emformer's scores pass through float32: its probabilities are off by 2^-24 times the scores (below 10), about 1e-6
    assert_close(y, encoder.norm(emformer(x, torch.tensor([time, time]))[0]), 1e-5)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # without that cast, they are the same
    assert_close(y, encoder.norm(emformer(x, torch.tensor([time, time]))[0]))


# Look-ahead


def lookahead_of(encoder, frame, time):
    last = measured_lookahead(lambda x: encoder(x, torch.tensor([time]))[0], noise(1, time, DIM), frame)
    return last - frame


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12])
@every_block
@with_edges
def test_lookahead_against_depth(case, block, depth):
    encoder = build_encoder(case, block, depth)
    assert encoder.lookahead == case.lookahead(depth)
    time = 45
    for frame in range(2 * case.chunk, 3 * case.chunk):  # each frame of a chunk
        assert lookahead_of(encoder, frame, time) == min(case.lookahead(depth, frame), time - 1 - frame)


@every_front_end
@every_block
@every_case
def test_latency_from_waveform(case, block, front_end):
    for depth in (1, 3):
        model = build_model(case, block, front_end, depth)
        report, whole = model.latency(), math.isinf(case.each)
        frame_ms = model.front_end.hop / 16  # 16 kHz
        assert report["frame_ms"] == frame_ms
        frames = None if whole else case.lookahead(depth)
        assert report["measured_frames"] == report["declared_frames"] == frames
        assert report["attention_ms"] == (None if whole else frames * frame_ms)
        assert report["total_ms"] == (None if whole else (frames + 1) * frame_ms)
        assert whole or model.lookahead == frames * model.front_end.hop


def test_probe_knows_the_answer():
    """It finds the one frame three steps ahead, and is not blind where a norm makes every frame's sum zero."""

    def centred(x):
        y = x + 1e-12 * x.roll(-3, dims=1)
        return y - y.mean(dim=-1, keepdim=True)

    assert measured_lookahead(centred, noise(1, 10, DIM), 4) == 7


class Normalised(nn.Module):
    """A front end that looks at the whole utterance."""

    def __init__(self, front_end):
        super().__init__()
        self.front_end, self.hop, self.project = front_end, front_end.hop, front_end.project

    def features(self, samples, lengths):
        return self.front_end.features(samples - samples.mean(dim=1, keepdim=True), lengths)


@every_front_end
@pytest.mark.parametrize("name", ["SA", "LLSA", "LLSA-chunk3"])
def test_probe_sees_normalisation_by_the_utterance(name, front_end):
    model = build_model(ATTENTIONS[name], TransformerBlock, front_end)
    model.front_end = Normalised(model.front_end)
    assert model.latency()["measured_frames"] is None


def test_probe_sees_a_centred_convolution():
    model = build_model(ATTENTIONS["SA"], BLOCKS["Conformer"], FRONT_ENDS["fbank"])
    model.encoder.blocks[0].convolution.centred = True
    report = model.latency()
    assert report["measured_frames"] == report["declared_frames"] + 5 // 2


@pytest.mark.parametrize("wrong", [0, 3, 5])
def test_probe_sees_a_wrong_declaration(wrong, monkeypatch):
    model = build_model(ATTENTIONS["SA"], TransformerBlock, FRONT_ENDS["fbank"])
    monkeypatch.setattr(Encoder, "lookahead", wrong)
    report = model.latency()
    assert report["declared_frames"] == wrong
    assert report["measured_frames"] == (4 if wrong else None)  # two layers of two frames, or all that 0 left room for


# Precision, compilation, checkpointing


def relative_error(actual, expected):
    return (actual.float() - expected).norm() / expected.norm()


@every_block
@every_case
def test_autocast(case, block):
    """A rounding to bfloat16 moves a value by up to 2^-8, at random; a block has about 20 in a row, and 20 backward."""
    depth = 2
    tolerance = (2 * 20 * depth) ** 0.5 * 2**-8
    encoder, x = build_encoder(case, block, depth, torch.float32), noise(2, 50, DIM, dtype=torch.float32)
    lengths, weight = torch.tensor([50, 31]), noise(2, 50, DIM, seed=1, dtype=torch.float32)
    expected, _ = encoder(x, lengths)
    wanted = gradients(expected, weight, list(encoder.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = encoder(x, lengths)
    actual = gradients(y, weight, list(encoder.parameters()))
    assert 0 < relative_error(y, expected) < tolerance  # 0 would be float32
    for (name, _), a, b in zip(encoder.named_parameters(), actual, wanted):
        assert a.isfinite().all(), name
    flat = [torch.cat([gradient.flatten() for gradient in all]) for all in (actual, wanted)]
    assert relative_error(*flat) < tolerance
    if math.isfinite(case.each):
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            y = torch.cat(stream(encoder, x, [7, 1, 1, 20, 21]), dim=1)
        assert 0 < relative_error(y, encoder(x, full(x))[0]) < tolerance


@every_block
@every_case
def test_compile(case, block):
    torch._dynamo.reset()
    encoder = build_encoder(case, block, depth=2)
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    x = noise(2, 30, DIM)
    lengths, inputs = torch.tensor([30, 17]), [x.requires_grad_(True), *encoder.parameters()]
    weight = noise(2, 30, DIM, seed=1)
    (expected, _), (y, _) = encoder(x, lengths), compiled(x, lengths)
    assert_close(y, expected)
    for a, b in zip(gradients(y, weight, inputs), gradients(expected, weight, inputs)):
        assert_close(a, b)


@every_block
@every_case
def test_checkpointing_changes_nothing(case, block):
    x, lengths, results = noise(2, 30, DIM).requires_grad_(True), torch.tensor([30, 17]), []
    for checkpointing in (False, True):
        encoder = build_encoder(case, block, dropout=0.1, checkpointing=checkpointing).train()
        torch.manual_seed(0)  # of dropout
        y, _ = encoder(x, lengths)
        torch.manual_seed(1)  # what is recomputed must not draw anew
        results.append([y, *gradients(y, noise(2, 30, DIM, seed=1), [x, *encoder.parameters()])])
    assert all(a.equal(b) for a, b in zip(*results))


# Wrong arguments


WRONG = {
    "num_heads does not divide": ("num_heads=3", lambda: AA(dim=8, num_heads=3)),
    "num_heads of odd width": ("num_heads=2", lambda: SA(dim=6, num_heads=2, left_context=1, lookahead=1)),
    "MAA left_context": ("left_context=-1", lambda: MAA(8, 2, left_context=-1, lookahead=1)),
    "SA left_context": ("left_context=-1", lambda: SA(8, 2, left_context=-1, lookahead=1)),
    "SA lookahead": ("lookahead=-1", lambda: SA(8, 2, left_context=1, lookahead=-1)),
    "LLSA left_context": ("left_context=-1", lambda: LLSA(8, 2, left_context=-1, lookahead=1)),
    "LLSA lookahead": ("lookahead=-1", lambda: LLSA(8, 2, left_context=1, lookahead=-1)),
    "LLSA chunk": ("chunk=0", lambda: LLSA(8, 2, left_context=1, lookahead=1, chunk=0)),
    "revisions empty": ("revisions=", lambda: LLSA(8, 2, 1, 2, revisions=[])),
    "revisions from 1": ("revisions=", lambda: LLSA(8, 2, 1, 2, revisions=[1, 2])),
    "revisions short of R": ("revisions=", lambda: LLSA(8, 2, 1, 2, revisions=[0, 1])),
    "revisions beyond R": ("revisions=", lambda: LLSA(8, 2, 1, 2, revisions=[0, 3])),
    "revisions twice": ("revisions=", lambda: LLSA(8, 2, 1, 2, revisions=[0, 1, 1, 2])),
    "revisions falling": ("revisions=", lambda: LLSA(8, 2, 1, 2, revisions=[0, 2, 1])),
    "kernel_size even": ("kernel_size=4", lambda: ConformerBlock(8, 8, ATTENTIONS["SA"].factory(), kernel_size=4)),
    "kernel_size 1": ("kernel_size=1", lambda: ConformerBlock(8, 8, ATTENTIONS["SA"].factory(), kernel_size=1)),
    "num_layers": ("num_layers=0", lambda: Encoder(8, 8, 0, TransformerBlock, ATTENTIONS["SA"].factory())),
    "AA streaming": ("AA .* no streaming form", lambda: AA(8, 2).initial_state(1)),
}


@pytest.mark.parametrize("argument, build", **named(WRONG))
def test_wrong_arguments(argument, build):
    with pytest.raises(ValueError, match=argument):
        build()
