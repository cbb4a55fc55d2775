"""The contract from the waveform to text, for encoders of the shapes of public ones: any attention, one or two frames pooled."""

import math
import random

import pytest
import torch
from cases import (
    ATTENTIONS,
    DIM,
    EDGES,
    FAMILIES,
    TOKENS,
    TOLERANCE,
    assert_close,
    enrich,
    gradients,
    noise,
    offline,
    run_all,
    splits,
    tones,
)
from speech_attention.attention.reference import reference_encoder
from speech_attention.blocks import PostNormTransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import named_tensors, state_bytes
from speech_attention.testing import randomise, verify_reference

DEPTH = 2
CASES = {**ATTENTIONS, **EDGES}
ONE = ["SA", "LLSA", "LLSA-chunk3", "LLSA-future0-chunk3", "Summary-chunk3"]  # without future, LLSA is a mask of chunks
COMBINATIONS = {
    f"{family}-{name}-pool{pool}": (FAMILIES[family], CASES[name], pool)
    for family in FAMILIES
    for pool, names in ((1, ONE), (2, ["SA", "LLSA-chunk3"]))
    for name in names
}
every_combination = pytest.mark.parametrize("family, case, pool", COMBINATIONS.values(), ids=COMBINATIONS)


@every_combination
def test_streaming_equals_parallel(family, case, pool):
    """For any split, no frame late or revised, with a state of one size, in float64 and in float32."""
    delay, hop = family.delay // pool, 320 * pool
    for dtype in TOLERANCE:
        model = family.build(case, pool, DEPTH, dtype)
        size = state_bytes(model.initial_state(2))
        for seed, time in enumerate((1, hop - 1, hop, hop + 1, 30 * hop + 7)):
            samples = noise(2, time, seed=seed, dtype=dtype)
            with torch.no_grad():
                expected, lengths = model(samples, torch.tensor([time, time]))
                state, outputs, seen = model.initial_state(2), [], 0
                for piece in samples.split(splits(time, 7 * hop, random.Random(seed)), dim=1):
                    y, state = model.step(piece, state)
                    outputs.append(y)
                    seen += piece.size(1)
                    assert sum(y.size(1) for y in outputs) == case.ready(max(0, seen // hop - delay), DEPTH)
                    waiting = named_tensors({"samples": state["front_end"], "frames": state["encoder"]["pending"]})
                    more = 2 * hop + 2 * case.chunk * DIM  # samples of a hop, and frames of a group, that are not complete
                    assert state_bytes(state) <= size + sum(t.element_size() for t in waiting.values()) * more
                y = torch.cat([*outputs, model.flush(state)], dim=1)
            assert expected.size(1) == lengths.max() == math.ceil(time / hop)
            assert_close(y, expected, TOLERANCE[dtype])
            if dtype == torch.float64:
                assert y.argmax(-1).equal(expected.argmax(-1))


@every_combination
def test_declared_lookahead_is_measured(family, case, pool):
    model = family.build(case, pool, DEPTH)
    report, frames, delay = model.latency(), case.lookahead(DEPTH) + family.delay // pool, family.delay // pool
    assert report["frame_ms"] == 20 * pool
    assert report["measured_frames"] == report["declared_frames"] == frames
    assert report["measured_ms"] == report["total_ms"] == 20 * pool * (frames + 1)
    budget = model.budget()
    assert budget["position"] == 320 * pool * delay and budget["chunk"] == 320 * pool * (case.chunk - 1)
    assert sum(budget.values()) == 16 * report["total_ms"]


@every_combination
def test_padding_is_invisible(family, case, pool):
    """Outputs and gradients of a batch, with NaN in its padding, are those of its utterances alone."""
    model, lengths = family.build(case, pool, DEPTH), torch.tensor([9000, 1, 641])
    samples, parameters = noise(3, 10000), list(model.parameters())
    samples[torch.arange(10000) >= lengths[:, None]] = math.nan
    y, frames = model(samples, lengths)
    weights = [noise(1, n, y.size(2), seed=n) for n in frames.tolist()]
    padded = torch.cat([torch.nn.functional.pad(weight, (0, 0, 0, y.size(1) - weight.size(1))) for weight in weights])
    assert y.isfinite().all()
    actual, total = gradients(y, padded, parameters), [torch.zeros_like(parameter) for parameter in parameters]
    for row, (length, weight) in enumerate(zip(lengths.tolist(), weights)):
        expected, _ = model(samples[row : row + 1, :length], lengths[row : row + 1])
        assert_close(y[row : row + 1, : frames[row]], expected)
        total = [a + b for a, b in zip(total, gradients(expected, weight, parameters))]
    for a, b in zip(actual, total):
        assert_close(a, b, 1e-10 * max(1, b.abs().max().item()))


@every_combination
def test_streams_of_a_batch(family, case, pool):
    """They begin and end when they like, and each says what its utterance says alone."""
    model = enrich(family.build(case, pool, DEPTH))
    utterances = [tones(length, seed) for seed, length in enumerate((1, 640, 16000, 0, 9001, 20000))]
    expected = [offline(model, samples) for samples in utterances]
    assert len(set(expected)) >= 4 and len(max(expected, key=len)) > 5  # there is something to compare
    texts, frames = run_all(Recognizer(model, TOKENS), utterances, seed=0, most=3)
    assert texts == expected
    assert frames == [-(-len(samples) // (320 * pool)) for samples in utterances]


@pytest.mark.parametrize("name", ["AA", "SA", "LLSA-chunk3", "LLSA-shared"])
def test_norms_after_the_sums_by_a_plain_loop(name):
    case, owners = ATTENTIONS[name], list(range(0, DEPTH, ATTENTIONS[name].share))
    encoder = Encoder(DIM, 2 * DIM, DEPTH, PostNormTransformerBlock, case.factory(), owners=owners, norm=False)
    verify_reference(randomise(encoder.double()).eval(), reference_encoder)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_reads_the_whole_utterance_says_so(name):
    """An acausal attention takes any pool, whatever the positions look ahead; a front end as published has no streaming form."""
    for case, form in ((ATTENTIONS["AA"], "original"), (ATTENTIONS["Summary"], "streaming"), (ATTENTIONS["SA"], "original")):
        model = FAMILIES[name].build(case, pool=3 if math.isinf(case.each) else 2, form=form)
        report = model.latency()
        assert model.budget() is None and math.isinf(model.lookahead)
        assert {report[key] for key in ("declared_frames", "attention_ms", "total_ms")} == {None}
        if math.isinf(case.each):  # a front end may see so little of the utterance that noise does not show it
            assert report["measured_frames"] is report["measured_ms"] is None
        with pytest.raises(ValueError, match="whole utterance"):
            Recognizer(model, TOKENS)


def test_front_end_and_encoder_pool_alike():
    family = FAMILIES["whisper"]
    model = family.build(ATTENTIONS["SA"], pool=2)
    with pytest.raises(ValueError, match="pool=1, the encoder pool=2"):
        type(model)(family.front_end(DIM), model.encoder, 30)
    with pytest.raises(ValueError, match="pool=3 must divide the look-ahead of the positions, 2 frames"):
        FAMILIES["wav2vec2-base"].build(ATTENTIONS["SA"], pool=3)
    for pool in (0, 1.5):
        with pytest.raises(ValueError, match=f"pool={pool} must be a whole number"):
            Encoder(DIM, DIM, 1, family.block, ATTENTIONS["SA"].factory(), pool=pool)
