"""Streams of one batch, which begin and end at different times, are what each of them is alone."""

import random

import pytest
import torch
from cases import (
    ATTENTIONS,
    BLOCKS,
    DIM,
    FRONT_ENDS,
    TOKENS,
    assert_close,
    build_encoder,
    build_model,
    enrich,
    every_block,
    every_front_end,
    noise,
    offline,
    run_all,
    streaming_with_edges,
    tones,
)
from speech_attention.recognizer import MOST_FRAMES, Recognizer
from speech_attention.streaming import state_bytes

PARTS = BLOCKS["Conformer"], FRONT_ENDS["fbank"]
LENGTHS = (1, 300, 640, 641, 9000, 16000, 40001, 0, 12000)  # samples


def rich_model(case, block, front_end, dtype=torch.float64):
    return enrich(build_model(case, block, front_end, dtype=dtype))


@every_front_end
@every_block
@streaming_with_edges
def test_batch_of_streams_against_offline(case, block, front_end):
    model = rich_model(case, block, front_end)
    utterances = [tones(length, seed) for seed, length in enumerate(LENGTHS)]
    expected = [offline(model, samples) for samples in utterances]
    assert len(set(expected)) >= 5 and len(max(expected, key=len)) > 20  # there is something to compare
    for seed, most in enumerate((1, 4)):
        texts, frames = run_all(Recognizer(model, TOKENS), utterances, seed, most)
        assert texts == expected
        assert frames == [-(-length // model.front_end.hop) for length in LENGTHS]


@every_block
@streaming_with_edges
def test_rows_that_begin_and_end_when_they_like(case, block):
    """`advance`: the valid frames come out, in order, as those of the utterance alone, whatever stands in the others."""
    encoder = build_encoder(case, block).eval()
    chunk, total = encoder.layout.chunk, 60
    starts, lengths = (0, 4 * chunk, 1 * chunk), (31, 13, 40)
    x, valid = torch.full((3, total, DIM), float("nan"), dtype=torch.float64), torch.zeros(3, total, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(starts, lengths)):
        x[row, start : start + length] = noise(length, DIM, seed=row)
        valid[row, start : start + length] = True
    state, outputs = encoder.initial_state(3), []
    generator = random.Random(0)
    with torch.no_grad():
        while total:
            size = min(total, generator.randint(1, 9))
            (now, x), (there, valid) = x.split([size, total - size], 1), valid.split([size, total - size], 1)
            *out, state = encoder.advance(now, there, state)
            outputs.append(out)
            total -= size
        end = noise(3, encoder.lookahead, DIM)
        outputs.append(encoder.advance(end, end[..., 0] > 1e9, state)[:2])
        y, valid = (torch.cat(parts, dim=1) for parts in zip(*outputs))
        for row, length in enumerate(lengths):
            expected, _ = encoder(noise(length, DIM, seed=row)[None], torch.tensor([length]))
            assert_close(y[row][valid[row]], expected[0])


@pytest.mark.parametrize("name", ["SA", "LLSA", "LLSA-chunk3", "LLSA-chunk2-revisions"])
def test_words_come_as_soon_as_the_lookahead_allows(name):
    """Fed sample by sample around each frame's deadline, a frame is out when it must be, and not before it can be."""
    case = ATTENTIONS[name]
    model = build_model(case, *PARTS)
    recognizer = Recognizer(model, TOKENS)
    stream, hop = recognizer.open(), model.front_end.hop
    for frame in range(1, 20):
        for piece in (hop - 1, 1):
            stream.feed(noise(piece, seed=frame))
            recognizer.run([stream])
            assert stream.frames == case.ready(stream.heard // hop, depth=2)


def test_much_at_once_and_nothing_at_all():
    model = rich_model(ATTENTIONS["LLSA-chunk3"], *PARTS, dtype=torch.float32)
    recognizer = Recognizer(model, TOKENS)
    samples = noise(640 * (2 * MOST_FRAMES + 100), dtype=torch.float32)
    stream = recognizer.open()
    stream.feed(samples)
    stream.feed(samples[:0])
    stream.close()
    stream.close()
    (output,) = recognizer.run([stream])
    assert stream.frames == 2 * MOST_FRAMES + 100
    assert output.text == " ".join(word.text for word in output.words)
    assert recognizer.run([stream])[0].text == "" and recognizer.run([]) == []


def test_what_cannot_be_fed():
    recognizer = Recognizer(rich_model(ATTENTIONS["SA"], *PARTS), TOKENS)
    stream = recognizer.open()
    stream.feed(noise(100))
    for bad in (float("nan"), float("inf"), -1e20):
        samples = noise(50)
        samples[7] = bad
        with pytest.raises(ValueError, match="sample 107 "):
            stream.feed(samples)
    with pytest.raises(ValueError, match="one axis"):
        stream.feed(noise(2, 50))
    assert stream.heard == 100
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.feed(noise(5))
    with pytest.raises(ValueError, match="no streaming form"):
        Recognizer(build_model(ATTENTIONS["AA"], *PARTS), TOKENS)


def test_state_of_a_stream_is_bounded():
    recognizer = Recognizer(rich_model(ATTENTIONS["SA"], *PARTS, dtype=torch.float32), TOKENS)
    stream = recognizer.open()
    for seed in range(50):
        stream.feed(noise(1000, seed=seed, dtype=torch.float32))
        recognizer.run([stream])
        assert state_bytes(stream.state) == recognizer.state_bytes
        assert len(stream.buffer) < 640


@pytest.mark.parametrize("name", ["SA", "LLSA"])
def test_a_quantised_model(name):
    model = rich_model(ATTENTIONS[name], *PARTS, dtype=torch.float32)
    small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    assert not isinstance(small.head.weight, torch.Tensor)  # but a method
    recognizer = Recognizer(small, TOKENS)
    assert recognizer.state_bytes == Recognizer(model, TOKENS).state_bytes
    stream = recognizer.open()
    stream.feed(torch.rand(16000) - 0.5)
    stream.close()
    assert recognizer.run([stream])[0].text and stream.frames == 25
