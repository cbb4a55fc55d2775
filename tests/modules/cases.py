"""What the contract runs over. A new attention is one line in `ATTENTIONS`, a new block type one in `BLOCKS`."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
from speech_attention.attention import AA, LLSA, MAA, SA, SummaryMixing
from speech_attention.blocks import BranchformerBlock, ConformerBlock, PostNormTransformerBlock, TransformerBlock
from speech_attention.ctc import GreedyDecoder
from speech_attention.encoder import Encoder
from speech_attention.front_end import ConvolutionalFrontEnd, FbankFrontEnd, WaveformFrontEnd, WhisperFrontEnd
from speech_attention.model import CTCModel
from speech_attention.position import ConvolutionalPosition, Sinusoids
from speech_attention.testing import LONG, TOLERANCE, gradients, noise, randomise, splits, stream  # noqa: F401  (for the tests)

DIM, HEADS, DEPTH = 8, 2, 3
TOKENS = ("<blank>", *" ABCDEFGHIJKLMNOPQRSTUVWXYZ '")


@dataclass(frozen=True)
class Case:
    """An attention, and what its definition says of its look-ahead: the tests never ask the module for it.

    `each` frames are added by every layer, `once` by the whole stack; both count from the last frame of a chunk. `share`
    blocks in a row share one attention map. Of `first`, only the first block of a stack looks ahead, by `once` frames.
    """

    attention: type
    options: dict = field(default_factory=dict)
    each: float = 0
    once: int = 0
    chunk: int = 1
    share: int = 1
    first: bool = False
    name: str = ""

    def factory(self, **options):
        return partial(self.attention, num_heads=HEADS, **{**self.options, **options})

    def lookahead(self, depth, frame=0):
        """Future frames that `frame` reads; the first one of a chunk is the worst."""
        return self.once + self.each * depth + self.chunk - 1 - frame % self.chunk

    def ready(self, seen, depth):
        """Frames that are out once `seen` frames are in: those of the chunks whose look-ahead is complete."""
        return max(0, (seen - self.once - self.each * depth) // self.chunk) * self.chunk


WINDOW = {"left_context": 5, "lookahead": 2}
ATTENTIONS = {
    "AA": Case(AA, each=math.inf),
    "MAA": Case(MAA, WINDOW, each=2),
    "SA": Case(SA, WINDOW, each=2),
    "SA-first": Case(SA, WINDOW, once=2, first=True),
    "LLSA": Case(LLSA, WINDOW, once=2),
    "LLSA-chunk3": Case(LLSA, {**WINDOW, "chunk": 3}, once=2, chunk=3),
    "LLSA-revisions": Case(LLSA, {"left_context": 5, "lookahead": 4, "revisions": [0, 2, 4]}, once=4),
    "LLSA-chunk2-revisions": Case(LLSA, {"left_context": 7, "lookahead": 4, "chunk": 2, "revisions": [0, 1, 4]}, once=4, chunk=2),
    "Summary": Case(SummaryMixing, {"norm": True}, each=math.inf),
    "Summary-chunk3": Case(SummaryMixing, {"chunk": 3}, chunk=3),
    "Summary-cumulative": Case(SummaryMixing, {"chunk": 1}),
    "Summary-past4": Case(SummaryMixing, {"chunk": 2, "left_context": 4, "norm": True}, chunk=2),
    "Summary-lite": Case(SummaryMixing, {"lite": True}, each=math.inf),
    "Summary-lite-chunk3": Case(SummaryMixing, {"chunk": 3, "lite": True}, chunk=3),
    "AA-relative": Case(AA, {"positions": "relative"}, each=math.inf),
    "SA-relative": Case(SA, {**WINDOW, "positions": "relative"}, each=2),
    "LLSA-relative": Case(LLSA, {**WINDOW, "positions": "relative", "chunk": 2}, once=2, chunk=2),
    "SA-gated-shared": Case(SA, {**WINDOW, "positions": "gated", "reuse": "queries"}, each=2, share=2),
    "LLSA-gated": Case(LLSA, {**WINDOW, "positions": "gated", "chunk": 2}, once=2, chunk=2),
    "AA-shared": Case(AA, each=math.inf, share=2),
    "AA-relative-shared": Case(AA, {"positions": "relative", "reuse": "queries"}, each=math.inf, share=3),
    "MAA-shared": Case(MAA, {**WINDOW, "reuse": "queries"}, each=2, share=2),
    "SA-shared": Case(SA, WINDOW, each=2, share=2),
    "SA-relative-shared": Case(SA, {**WINDOW, "positions": "relative"}, each=2, share=3),
    "LLSA-shared": Case(LLSA, WINDOW, once=2, share=3),
    "LLSA-relative-shared": Case(
        LLSA,
        {**WINDOW, "chunk": 2, "revisions": [0, 2], "positions": "relative", "reuse": "queries"},
        once=2,
        chunk=2,
        share=2,
    ),
}
EDGES = {  # windows at their limits
    "MAA-past0": Case(MAA, {"left_context": 0, "lookahead": 2}, each=2),
    "SA-past0": Case(SA, {"left_context": 0, "lookahead": 2}, each=2),
    "SA-future0": Case(SA, {"left_context": 5, "lookahead": 0}),
    "SA-alone": Case(SA, {"left_context": 0, "lookahead": 0}),
    "LLSA-past0": Case(LLSA, {"left_context": 0, "lookahead": 2}, once=2),
    "LLSA-future0": Case(LLSA, {"left_context": 5, "lookahead": 0}),
    "LLSA-future0-chunk3": Case(LLSA, {"left_context": 1, "lookahead": 0, "chunk": 3}, chunk=3),
    "LLSA-past0-chunk3": Case(LLSA, {"left_context": 0, "lookahead": 1, "chunk": 3}, once=1, chunk=3),
    "Summary-past0": Case(SummaryMixing, {"chunk": 3, "left_context": 0}, chunk=3),
    "Summary-alone": Case(SummaryMixing, {"chunk": 1, "left_context": 0}),
    "LLSA-past-long": Case(LLSA, {"left_context": 200, "lookahead": 1, "chunk": 2}, once=1, chunk=2),
}
for table in (ATTENTIONS, EDGES):
    table.update({name: replace(case, name=name) for name, case in table.items()})
BLOCKS = {
    "Transformer": TransformerBlock,
    "Conformer": partial(ConformerBlock, kernel_size=5),
    "Branchformer": partial(BranchformerBlock, kernel_size=5),
}


@dataclass(frozen=True)
class Family:
    """A tiny encoder of the shape of a public one. Its positions look `delay` frames ahead, of which there are 50 in a second."""

    front_end: Callable
    block: type
    position: Callable
    delay: int = 0
    positions: str = "none"
    norm: bool = True

    def build(self, case, pool=1, depth=2, dtype=torch.float64, form="streaming"):
        """A model around the attention of a case, with parameters drawn at random and statistics of noise."""
        attention = case.factory() if case.attention is SummaryMixing else case.factory(positions=self.positions)
        encoder = Encoder(DIM, 2 * DIM, depth, self.block, attention, position=self.position, norm=self.norm, pool=pool)
        model = randomise(CTCModel(self.front_end(DIM, form=form, pool=pool), encoder, 30).double())
        model.front_end.fit([noise(16000)])
        return model.to(dtype).eval()


LATENTS = partial(ConvolutionalFrontEnd, channels=4)
LATENTS_NORMED = partial(ConvolutionalFrontEnd, channels=16, norm="layer", normalize=True)
CONVOLUTION = partial(ConvolutionalPosition, groups=2)
FAMILIES = {
    "wav2vec2-base": Family(LATENTS, PostNormTransformerBlock, partial(CONVOLUTION, kernel=6, norm=True), delay=2, norm=False),
    "wav2vec2-large": Family(partial(LATENTS_NORMED, bias=True), TransformerBlock, partial(CONVOLUTION, kernel=8, lookahead=0)),
    "data2vec": Family(
        LATENTS_NORMED,
        PostNormTransformerBlock,
        partial(CONVOLUTION, kernel=5, layers=3, bare=True, norm=True, lookahead=4),
        delay=4,
        norm=False,
    ),
    "wavlm": Family(
        LATENTS,
        PostNormTransformerBlock,
        partial(CONVOLUTION, kernel=16, norm=True, lookahead=2),
        delay=2,
        positions="gated",
        norm=False,
    ),
    "whisper": Family(partial(WhisperFrontEnd, num_mels=8), TransformerBlock, partial(Sinusoids, rows=20)),
}
FRONT_ENDS = {"fbank": FbankFrontEnd, "waveform": partial(WaveformFrontEnd, channels=4)}


def named(table):
    """Arguments of `pytest.mark.parametrize` for the values of a table, with its keys as ids."""
    return {"argvalues": table.values(), "ids": table.keys()}


def streaming(table):
    return {name: case for name, case in table.items() if math.isfinite(case.each)}


def build_encoder(case, block, depth=DEPTH, dtype=torch.float64, options=None, **more):
    """A small encoder with randomised parameters; `options` go to the attention, `more` to the encoder."""
    owners = list(range(0, depth, case.share))
    if case.first:
        more["lookaheads"] = [case.once] + [0] * (depth - 1)
    return randomise(Encoder(DIM, 2 * DIM, depth, block, case.factory(**(options or {})), owners=owners, **more).to(dtype))


def full(x):
    """Lengths of a batch without padding."""
    return torch.full((x.size(0),), x.size(1))


def assert_close(actual, expected, tolerance=TOLERANCE[torch.float64]):
    """Equal shapes, and values to `tolerance`, at the maximum."""
    assert actual.shape == expected.shape
    if actual.numel():
        assert (actual - expected).abs().max() <= tolerance  # False for NaN


def build_model(case, block, front_end, depth=2, dtype=torch.float64):
    torch.manual_seed(0)  # for the rest of the front end
    model = CTCModel(front_end(DIM), build_encoder(case, block, depth), 30)
    randomise(model.front_end.linear)
    return randomise(model.head) and model.to(dtype).eval()


def tones(length, seed=0, dtype=torch.float64):
    """Samples whose pitch and loudness change every 50 ms."""
    steps = noise(2, length // 800 + 1, seed=seed).repeat_interleave(800, dim=1)[:, :length]
    phase = (2 * torch.pi * 1000 * steps[0].exp() / 16000).cumsum(0)
    return (0.1 * steps[1].exp() * phase.sin() + 0.01 * noise(length, seed=seed)).to(dtype)


def enrich(model):
    """Let the best token change from frame to frame, by a head that reads what differs between frames."""
    with torch.no_grad():
        samples = tones(32000, dtype=model.head.weight.dtype)
        y, _ = model.encoder(*model.front_end(samples[None], torch.tensor([32000])))
        model.head.bias.copy_(-model.head.weight @ y[0].mean(0))
    return model


def offline(model, samples):
    """The text of a whole utterance."""
    if len(samples) == 0:
        return ""
    with torch.no_grad():
        log_probs, _ = model(samples[None], torch.tensor([len(samples)]))
    return GreedyDecoder(TOKENS).step(log_probs[0].argmax(-1).tolist(), heard=0)[0]


def run_all(recognizer, utterances, seed, most):
    """Texts of utterances that begin, are fed and end at random, at most `most` at once."""
    generator = random.Random(seed)
    waiting, live, texts, frames = list(enumerate(utterances)), [], {}, {}
    while waiting or live:
        while waiting and len(live) < most and generator.random() < 0.5:
            live.append((recognizer.open(), *waiting.pop(0)))
        for one, _, samples in live:
            if generator.random() < 0.8:  # some get nothing this time
                one.feed(samples[one.heard :][: generator.randint(0, 3000)])
            if one.heard == len(samples):
                one.close()
        generator.shuffle(live)
        for (one, number, _), output in zip(live, recognizer.run([one for one, _, _ in live])):
            texts[number] = texts.get(number, "") + output.text
            frames[number] = one.frames
        live = [entry for entry in live if not entry[0].ended]
    return [texts[number] for number in range(len(utterances))], [frames[number] for number in range(len(utterances))]


every_block = pytest.mark.parametrize("block", **named(BLOCKS))
every_case = pytest.mark.parametrize("case", **named(ATTENTIONS))
every_streaming_case = pytest.mark.parametrize("case", **named(streaming(ATTENTIONS)))
every_front_end = pytest.mark.parametrize("front_end", **named(FRONT_ENDS))
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
with_edges = pytest.mark.parametrize("case", **named({**ATTENTIONS, **EDGES}))
streaming_with_edges = pytest.mark.parametrize("case", **named(streaming({**ATTENTIONS, **EDGES})))
