"""Every attention in every block is what it is defined to be: the plain loop, and what it must equal."""

from functools import partial

import pytest
import torch
from cases import (
    ATTENTIONS,
    DEPTH,
    DIM,
    HEADS,
    LONG,
    Case,
    assert_close,
    build_encoder,
    every_block,
    every_streaming_case,
    full,
    named,
    noise,
    randomise,
    with_edges,
)
from speech_attention.attention import AA, LLSA, MAA, SA, SummaryMixing
from speech_attention.attention.llsa import Reach
from speech_attention.attention.positions import rotary, rotate
from speech_attention.attention.reference import reference_encoder
from speech_attention.attention.window import Stretches
from speech_attention.blocks import ConformerBlock, TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.testing import verify_reference
from torch import nn
from torchaudio.models import Emformer


@every_block
@with_edges
def test_equals_the_plain_loop(case, block):
    verify_reference(build_encoder(case, block), reference_encoder)


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


@pytest.mark.parametrize("batch, time, left, right, block", [(2, 7, 5, 2, 3), (1, 6, 0, 0, 3), (3, 4, 0, 5, 4), (2, 5, 13, 1, 2)])
def test_stretches_are_pieces_of_one_sequence(batch, time, left, right, block):
    """Their values and their gradient are those of pieces that are cut out one by one."""
    x, filled = noise(batch, time, 3).requires_grad_(), time + -time % block
    stretches = Stretches.apply(x, left, right, block)
    rows = nn.functional.pad(x, (0, 0, 0, filled - time)).flatten(0, 1)  # (batch * filled, 3)
    sequence = torch.cat([rows.new_zeros(left, 3), rows, rows.new_zeros(right, 3)])
    expected = torch.stack([sequence[start : start + left + block + right] for start in range(0, batch * filled, block)])
    weight = noise(*expected.shape, seed=1)
    assert_close(stretches, expected)
    assert_close(*(torch.autograd.grad(pieces, x, weight)[0] for pieces in (stretches, expected)))


@pytest.mark.parametrize(
    "groups, frames, left, chunk, block", [(7, 3, 5, 1, 2), (6, 4, 0, 2, 3), (5, 2, 13, 2, 2), (4, 5, 3, 4, 1), (2, 3, 4, 1, 3)]
)
def test_reach_is_the_final_frames_before_a_block_and_its_own(groups, frames, left, chunk, block):
    """Its values and its gradient are those of pieces that are cut out one by one."""
    inputs = noise(2, groups, frames, 3).requires_grad_(), noise(2, left, 3, seed=1).requires_grad_()
    t = nn.functional.pad(inputs[0], (0, 0, 0, 0, 0, -groups % block))
    final = torch.cat([inputs[1], t[:, :, :chunk].flatten(1, 2)], dim=1)
    starts = range(0, groups, block)
    pieces = [torch.cat([final[:, g * chunk :][:, :left], t[:, g : g + block].flatten(1, 2)], dim=1) for g in starts]
    keys, expected = Reach.apply(*inputs, chunk, block), torch.stack(pieces, dim=1).flatten(0, 1)
    assert_close(keys, expected)
    weight = noise(*expected.shape, seed=2)
    for actual, wanted in zip(*(torch.autograd.grad(out, inputs, weight) for out in (keys, expected))):
        assert_close(actual, wanted)


def test_window_as_long_as_the_utterance_is_aa():
    x = noise(2, LONG, DIM)  # no Conformer: its convolution is causal in one and centred in the other
    a, b = pair(Case(SA, {"left_context": LONG, "lookahead": LONG}), Case(AA), TransformerBlock, DEPTH)
    assert_close(a(x, full(x))[0], b(x, full(x))[0])


class EmformerBlock(TransformerBlock):
    """Emformer's layer: a Transformer block with a norm at its end."""

    def __init__(self, dim, *args, **kwargs):
        super().__init__(dim, *args, **kwargs)
        self.leave = nn.LayerNorm(dim)

    def forward(self, x, *args):
        x, *rest = super().forward(x, *args)
        return self.leave(x), *rest


@pytest.mark.parametrize(
    "left, right, chunk", [(5, 2, 1), (3, 0, 1), (0, 3, 1), (30, 1, 1), (5, 2, 4), (16, 3, 8), (0, 1, 4), (5, 6, 4)]
)
def test_llsa_is_emformer(left, right, chunk, monkeypatch):
    case = Case(LLSA, {"left_context": left, "lookahead": right, "chunk": chunk, "positions": "none"})
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
    "Summary chunk": ("chunk=0", lambda: SummaryMixing(8, 2, chunk=0)),
    "Summary num_heads": ("num_heads=3", lambda: SummaryMixing(8, 3)),
    "Summary left_context between chunks": ("left_context=3", lambda: SummaryMixing(8, 2, chunk=2, left_context=3)),
    "Summary left_context of the whole": ("left_context=2", lambda: SummaryMixing(8, 2, left_context=2)),
    "Summary streaming": ("SummaryMixing .* no streaming form", lambda: SummaryMixing(8, 2).initial_state(1)),
    "positions": ("positions=sine", lambda: AA(8, 2, positions="sine")),
    "role": ("role=leader", lambda: AA(8, 2, role="leader")),
    "reuse": ("reuse=values", lambda: AA(8, 2, reuse="values")),
    "lookaheads too few": ("lookaheads=", lambda: Encoder(8, 8, 2, TransformerBlock, ATTENTIONS["SA"].factory(), lookaheads=[1])),
    "lookaheads of AA": (
        "has no look-ahead in frames",
        lambda: Encoder(8, 8, 2, TransformerBlock, ATTENTIONS["AA"].factory(), lookaheads=[1, 0]),
    ),
    "owners of SummaryMixing": (
        "has no maps that layers could share",
        lambda: Encoder(8, 8, 2, TransformerBlock, ATTENTIONS["Summary"].factory(), owners=[0]),
    ),
    "lookaheads half a frame": (
        "lookaheads=",
        lambda: Encoder(8, 8, 2, TransformerBlock, ATTENTIONS["SA"].factory(), lookaheads=[1, 0.5]),
    ),
    "AA streaming": ("AA .* no streaming form", lambda: AA(8, 2).initial_state(1)),
}


@pytest.mark.parametrize("argument, build", **named(WRONG))
def test_wrong_arguments(argument, build):
    with pytest.raises(ValueError, match=argument):
        build()


def test_a_subclass_may_hand_on_its_options():
    """As FadingSA of modules/attention/README.md does: what its base takes is seen in the signature of the base alone."""

    class HandsOn(SA):
        def __init__(self, **options):
            super().__init__(**options)

    attention = partial(HandsOn, num_heads=2, left_context=3, lookahead=1)
    assert Encoder(8, 8, 2, TransformerBlock, attention, owners=[0], lookaheads=[2, 2]).lookahead == 4


@pytest.mark.parametrize("positions", ["rotary", "relative"])
@pytest.mark.parametrize("name", ["AA-shared", "MAA-shared", "SA-shared", "LLSA-shared", "LLSA-relative-shared"])
def test_a_map_and_its_queries_give_the_same(name, positions):
    """To 1e-6 of the largest output, in float32."""
    case, x, lengths = ATTENTIONS[name], noise(2, LONG, DIM, dtype=torch.float32), torch.tensor([LONG, 101])
    encoders = [
        build_encoder(case, TransformerBlock, options={"reuse": reuse, "positions": positions}, dtype=torch.float32)
        for reuse in ("map", "queries")
    ]
    with torch.no_grad():
        y = encoders[0](x, lengths)[0]
        assert_close(encoders[1](x, lengths)[0], y, 1e-6 * y.abs().max())


@pytest.mark.parametrize("positions, each", [("rotary", 2), ("relative", 3)])
def test_a_follower_has_values_alone(positions, each):
    """No queries and keys, and with relative positions no layer for distances and no two biases."""
    sizes = []
    for owners in (None, [0, 2], [0]):
        attention = Case(AA).factory(positions=positions)
        encoder = Encoder(DIM, DIM, 4, TransformerBlock, attention, owners=owners)
        sizes.append(sum(parameter.numel() for parameter in encoder.parameters()))
        y, _ = encoder(torch.rand(1, 9, DIM), torch.tensor([9]))
        y.sum().backward()
        assert all(parameter.grad is not None for parameter in encoder.parameters())  # none is dead
    saved = each * DIM**2 + (4 * DIM if positions == "relative" else 2 * DIM)
    assert [sizes[0] - size for size in sizes] == [0, 2 * saved, 3 * saved]


@pytest.mark.parametrize(
    "options, chunks, kind",
    [({"chunk": 2}, 1, torch.float64), ({"chunk": 1, "left_context": 3}, 3, torch.float32)],
    ids=["all of the past", "limited past"],
)
def test_summary_is_a_sum_that_keeps_its_precision(options, chunks, kind):
    mixing = SummaryMixing(8, 2, **options).bfloat16()
    x, state = noise(3, 20, mixing.layout.chunk, 8).bfloat16(), mixing.initial_state(3)
    for _ in range(2):
        assert {name: (t.shape, t.dtype) for name, t in state.items()} == {
            "total": ((3, chunks, 8), kind),
            "count": ((3, chunks), torch.long),
        }
        valid = torch.ones(x.shape[:3], dtype=torch.bool)
        _, _, state, _ = mixing.mix(*mixing.project(x, None), valid=valid, state=state)


def test_blocks_that_share_a_map_look_ahead_alike():
    attention, options = ATTENTIONS["SA"].factory(), {"owners": [0, 2], "lookaheads": [1, 1, 0, 1]}
    with pytest.raises(ValueError, match="share a map"):
        Encoder(DIM, DIM, 4, TransformerBlock, attention, **options)
    assert Encoder(DIM, DIM, 4, TransformerBlock, attention, **{**options, "lookaheads": [1, 1, 0, 0]}).lookahead == 2


@pytest.mark.parametrize("owners", [[], [1], [0, 0], [2, 0], [0, 4], [0, -1], [0, 1.5], [0, True], 0, ["0"]], ids=str)
def test_owners_that_cannot_be(owners):
    with pytest.raises(ValueError, match="owners="):
        Encoder(DIM, DIM, 4, TransformerBlock, ATTENTIONS["SA"].factory(), owners=owners)
