"""Uses of the classes that would give a wrong answer: each is refused in words. And odd uses that are right."""

import re
from functools import partial

import pytest
import torch
from speech_attention.attention import AA, LLSA, SA, SummaryMixing
from speech_attention.blocks import ConformerBlock, TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd, WaveformFrontEnd
from speech_attention.model import CTCModel
from speech_attention.recognizer import Recognizer

from recipes.LibriSpeech.inference.sessions import stream_words

TOKENS = ["<blank>", " ", *"ABCD"]
WINDOW = {"num_heads": 2, "left_context": 8}
SAMPLES = 0.1 * torch.randn(8, 2000, generator=torch.Generator().manual_seed(0))
SAMPLES = (SAMPLES * torch.tensor([0.1, 3, 0.01, 2, 0.5, 4, 0.02, 1])[:, None]).flatten()
LENGTH = torch.tensor([16000])
UTTERANCES = [{"id": "a", "sig": SAMPLES}]
FRAMES, VALID = SAMPLES[None, :1280], torch.ones(1, 2, dtype=torch.bool)


def make(attention=LLSA, block=TransformerBlock, **entries):
    """A small model in evaluation mode."""
    entries = {**WINDOW, "lookahead": 4} | entries if attention in (LLSA, SA) else {"num_heads": 2} | entries
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CTCModel(FbankFrontEnd(8), Encoder(8, 16, 2, block, partial(attention, **entries)), len(TOKENS))
    with torch.no_grad():  # each token is the best one somewhere
        frames, _ = model.encoder(*model.front_end(SAMPLES[None], LENGTH))
        model.head.bias.copy_(-model.head.weight @ frames[0].mean(dim=0))
    return model.eval()


MODEL = make()
RECOGNIZER, OTHER = Recognizer(MODEL, TOKENS), Recognizer(make(), TOKENS)


def conformer(kernel_size):
    return make(block=partial(ConformerBlock, kernel_size=kernel_size))


def feed(*pieces, recognizer=RECOGNIZER, close=True):
    """A stream that was fed samples."""
    stream = recognizer.open()
    for piece in pieces:
        stream.feed(piece)
    if close:
        stream.close()
    return stream


def recognize(*pieces, recognizer=RECOGNIZER):
    """The text of samples that are fed in pieces, and the number of frames."""
    stream = feed(*pieces, recognizer=recognizer)
    return recognizer.run([stream])[0].text, stream.frames


def spoilt(value):
    samples = SAMPLES.clone()
    samples[800] = value
    return samples


REFUSED = {
    "16 bits": (lambda: feed((SAMPLES * 32767).short()), "floats with one axis, full scale 1, not torch.int16 of shape (16000,)"),
    "32 bits": (lambda: feed((SAMPLES * 2**31).int()), "not torch.int32"),
    "8 bits": (lambda: feed((SAMPLES * 255).byte()), "not torch.uint8"),
    "booleans": (lambda: feed(SAMPLES > 0), "not torch.bool"),
    "complex": (lambda: feed(SAMPLES.cfloat()), "not torch.complex64"),
    "numpy": (lambda: feed(SAMPLES.numpy()), "must be a tensor of floats with one axis, full scale 1, not ndarray"),
    "list": (lambda: feed(SAMPLES.tolist()), "not list"),
    "nothing": (lambda: feed(None), "not NoneType"),
    "one number": (lambda: feed(torch.tensor(0.1)), "of shape ()"),
    "a batch": (lambda: feed(SAMPLES[None]), "of shape (1, 16000)"),
    "channels": (lambda: feed(SAMPLES[:, None]), "of shape (16000, 1)"),
    "NaN": (lambda: feed(SAMPLES, spoilt(torch.nan)), "sample 16800 (1.050 s) is nan"),
    "infinity": (lambda: feed(spoilt(torch.inf)), "sample 800 (0.050 s) is inf"),
    "huge": (lambda: feed(spoilt(-1e30)), "is -1e+30: full scale is 1"),
    "after its end": (lambda: feed(SAMPLES).feed(SAMPLES), "the stream is closed"),
    "of another": (lambda: OTHER.run([feed(SAMPLES)]), "of this recognizer"),
    "twice": (lambda: RECOGNIZER.run([feed(SAMPLES)] * 2), "streams must differ"),
    "one token": (lambda: Recognizer(MODEL, TOKENS[:1]), "one token for each output of the model: 1 for 6"),
    "seven tokens": (lambda: Recognizer(MODEL, [*TOKENS, "E"]), "7 for 6"),
    "whole utterance": (lambda: Recognizer(make(AA), TOKENS), "no streaming form"),
    "whole mean": (lambda: Recognizer(make(SummaryMixing, partial(ConformerBlock, kernel_size=3)), TOKENS), "no streaming form"),
    "no streams": (lambda: stream_words(RECOGNIZER, UTTERANCES, [640], 0), "streams=0 must be 1 or more"),
    "no hop": (lambda: stream_words(RECOGNIZER, UTTERANCES, [640, 0], 1), "a hop of 0 samples"),
    "backwards": (lambda: stream_words(RECOGNIZER, UTTERANCES, [-640], 1), "a hop of -640 samples"),
    "few hops": (lambda: stream_words(RECOGNIZER, UTTERANCES, [640] * 3, 1), "the hops ended before the utterances"),
    "no batch": (lambda: MODEL(SAMPLES, LENGTH), "(batch, samples), not torch.float32 of shape (16000,)"),
    "batch of channels": (lambda: MODEL(SAMPLES[None, None], LENGTH), "of shape (1, 1, 16000)"),
    "batch of integers": (lambda: MODEL((SAMPLES * 32767).short()[None], LENGTH), "floats of full scale 1"),
    "relative lengths": (lambda: MODEL(SAMPLES[None], torch.ones(1)), "whole numbers of samples"),
    "lengths of others": (lambda: MODEL(SAMPLES[None], torch.tensor([16000, 9])), "one for each of 1 utterances"),
    "step of integers": (lambda: MODEL.step(torch.ones(1, 640, dtype=torch.int16), MODEL.initial_state(1)), "not torch.int16"),
    "step without batch": (lambda: MODEL.step(SAMPLES, MODEL.initial_state(1)), "(batch, samples)"),
    "half a frame": (lambda: MODEL.advance(SAMPLES[None, :960], VALID, MODEL.initial_state(1)), "2 frames of 640"),
    "few frames": (
        lambda: MODEL.advance(FRAMES, VALID[:, :1], MODEL.initial_state(1)),
        "1 frames of 640, as `valid` has, not 1280",
    ),
    "widths": (lambda: CTCModel(FbankFrontEnd(16), MODEL.encoder, 6), "frames of width 16, the encoder takes 8"),
    "heads": (lambda: make(num_heads=3), "num_heads=3 must divide dim=8"),
    "look back": (lambda: make(left_context=-1), "left_context=-1"),
    "look ahead": (lambda: make(SA, lookahead=-1), "lookahead=-1"),
    "chunk": (lambda: make(chunk=0), "chunk=0"),
    "positions": (lambda: make(positions="absolute"), "positions=absolute must be one of rotary, relative, gated, none"),
    "kernel": (lambda: conformer(4), "kernel_size=4 must be odd"),
    "floor": (lambda: FbankFrontEnd(8, floor=0.0), "floor=0.0 must be more than 0"),
    "floor of NaN": (lambda: FbankFrontEnd(8, floor=torch.nan), "floor=nan must be more than 0"),
    "no statistics": (lambda: FbankFrontEnd(8).fit([]), "no utterances"),
    "statistics of NaN": (lambda: FbankFrontEnd(8).fit([SAMPLES, spoilt(torch.nan)]), "no numbers"),
    "statistics too large": (lambda: FbankFrontEnd(8).fit([spoilt(1e30)]), "no numbers, or far too large"),
}


@pytest.mark.parametrize("use, words", REFUSED.values(), ids=REFUSED)
def test_refused(use, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        use()


def test_a_model_in_training_mode_recognizes_nothing():
    model = make()
    recognizer = Recognizer(model.train(), TOKENS)
    stream = feed(SAMPLES, recognizer=recognizer)
    with pytest.raises(ValueError, match=re.escape("call model.eval()")):
        recognizer.run([stream])
    model.eval()
    recognizer.run([stream])
    assert stream.frames == 25


def test_what_was_refused_leaves_streams_as_they_were():
    stream = feed(SAMPLES[:9000], close=False)
    for odd in (SAMPLES[None], spoilt(torch.nan), SAMPLES.int()):
        with pytest.raises(ValueError):
            stream.feed(odd)
    stream.feed(SAMPLES[9000:])
    stream.close()
    for streams in ([stream, stream], [stream, feed(SAMPLES, recognizer=OTHER)]):
        with pytest.raises(ValueError):
            RECOGNIZER.run(streams)
    assert (RECOGNIZER.run([stream])[0].text, stream.frames) == recognize(SAMPLES)


RIGHT = {
    "float64": [SAMPLES.double()],
    "with a gradient": [SAMPLES.clone().requires_grad_()],
    "every other of twice": [SAMPLES.repeat_interleave(2)[::2]],
    "empty pieces": [SAMPLES[:0], SAMPLES[:1], SAMPLES[:0], SAMPLES[1:]],
    "pieces of 100": SAMPLES.split(100),
}


@pytest.mark.parametrize("pieces", RIGHT.values(), ids=RIGHT)
def test_right(pieces):
    assert recognize(*pieces) == recognize(SAMPLES)
    assert len(set(recognize(SAMPLES)[0])) > 2


def test_a_buffer_may_be_filled_anew_after_it_was_fed():
    stream, buffer = RECOGNIZER.open(), torch.empty(100)
    for piece in SAMPLES.split(100):
        stream.feed(buffer.copy_(piece))
    stream.close()
    assert RECOGNIZER.run([stream])[0].text == recognize(SAMPLES)[0]


def test_streams_in_any_iterable_and_two_recognizers_of_one_model():
    other = Recognizer(MODEL, TOKENS)
    streams = [feed(SAMPLES), feed(SAMPLES.flip(0)), feed()]
    texts = [output.text for output in RECOGNIZER.run(stream for stream in streams)]
    assert texts == [recognize(SAMPLES, recognizer=other)[0], recognize(SAMPLES.flip(0), recognizer=other)[0], ""]
    assert RECOGNIZER.run([]) == [] and RECOGNIZER.run(streams)[0].text == ""  # all was said


def test_a_waveform_front_end_refuses_the_same():
    front_end = WaveformFrontEnd(8, channels=4)
    for samples, lengths in ((SAMPLES, LENGTH), (SAMPLES[None], torch.ones(1)), (SAMPLES[None].int(), LENGTH)):
        with pytest.raises(ValueError):
            front_end(samples, lengths)
