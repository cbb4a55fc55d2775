"""Declared look-ahead is measured look-ahead, and the probe would notice."""

import math

import pytest
from cases import (
    ATTENTIONS,
    BLOCKS,
    DIM,
    FRONT_ENDS,
    build_encoder,
    build_model,
    every_block,
    every_case,
    every_front_end,
    noise,
    with_edges,
)
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.streaming import last_input
from speech_attention.testing import measure_lookahead
from torch import nn


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12])
@every_block
@with_edges
def test_lookahead_against_depth(case, block, depth):
    encoder = build_encoder(case, block, depth)
    assert encoder.lookahead == case.lookahead(depth)
    time = 45
    for frame in range(2 * case.chunk, 3 * case.chunk):  # each frame of a chunk
        assert measure_lookahead(encoder, frame, time) == min(case.lookahead(depth, frame), time - 1 - frame)


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

    assert last_input(centred, noise(1, 10, DIM), 4) == 7


class Normalised(nn.Module):
    """A front end that looks at the whole utterance."""

    def __init__(self, front_end):
        super().__init__()
        self.front_end, self.hop, self.project = front_end, front_end.hop, front_end.project
        self.lookahead = front_end.lookahead

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
