"""Several streams of audio through one model, in one batch. Each may begin and end at any time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .ctc import GreedyDecoder, Word
from .front_end import SAMPLE_RATE
from .model import CTCModel
from .streaming import state_bytes, tree_map

LOUDEST = 1e6
"""Larger samples are refused (full scale is 1): their powers would overflow, and spoil all that comes after them."""
MOST_FRAMES = 500
"""At most about so many frames of each stream go into one call of the model, so that memory is bounded."""


@dataclass
class Output:
    """What is new in a stream: text to append to its transcript, and the words that have come to their end."""

    text: str = ""
    words: list[Word] = field(default_factory=list)


class Engine(Protocol):
    """What computes the steps of streams, such as a `CTCModel` itself."""

    def advance(self, samples: Tensor, valid: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """See `SpeechEncoder.advance`; the state is nested tensors of the engine's own form, streams at axis 0."""
        ...


class Recognizer:
    """Turns streams of samples into words.

    Arguments
    ---------
    model : CTCModel
        In evaluation mode, with an attention that streams.
    tokens : sequence of str
        The text of each output of the model, see `GreedyDecoder`.
    engine : object or None
        What computes the steps: its `advance` does what that of the model does. None: the model.

    Raises
    ------
    ValueError
        If the attention has no streaming form, or there is not one token for each output of the model.

    Example
    -------
    >>> from functools import partial
    >>> from speech_attention.attention import LLSA
    >>> from speech_attention.blocks import TransformerBlock
    >>> from speech_attention.encoder import Encoder
    >>> from speech_attention.front_end import FbankFrontEnd
    >>> from speech_attention.model import CTCModel
    >>> attention = partial(LLSA, num_heads=2, left_context=8, lookahead=4)
    >>> model = CTCModel(FbankFrontEnd(8), Encoder(8, 16, 2, TransformerBlock, attention), 3)
    >>> recognizer = Recognizer(model.eval(), ["<blank>", " ", "A"])
    >>> stream = recognizer.open()
    >>> for piece in torch.rand(16000).split(592):
    ...     stream.feed(piece)
    ...     outputs = recognizer.run([stream])
    >>> stream.close()
    >>> outputs = recognizer.run([stream])
    >>> stream.frames  # all of them came out
    25
    """

    def __init__(self, model: CTCModel, tokens: Sequence[str], engine: Engine | None = None):
        if len(tokens) != model.head.out_features:
            raise ValueError(f"there must be one token for each output of the model: {len(tokens)} for {model.head.out_features}")
        self.model, self.tokens, self.engine = model, tokens, engine or model
        self.layout, self.hop = model.encoder.layout, model.front_end.hop
        state = model.initial_state(1)
        lead = model.encoder.lead  # each stream begins with so many frames that are not valid; then all advance by whole chunks
        encoder = state["encoder"]
        encoder = {**encoder, "pending": encoder["pending"][:, lead:], "valid": encoder["valid"][:, lead:]}
        self.start: Any = {**state, "encoder": encoder}  # of each stream; nested tensors, in the form that the engine keeps
        self.silence = state["front_end"].new_zeros(lead * self.hop)

    @property
    def state_bytes(self) -> int:
        """The size of the state of one stream in bytes, which never grows."""
        return state_bytes(self.start)

    def open(self) -> "Stream":
        """Begin a new stream."""
        return Stream(self)

    @torch.inference_mode()
    def run(self, streams: Iterable["Stream"]) -> list[Output]:
        """Encode and decode what streams have been fed, as far as it makes whole chunks of frames.

        Arguments
        ---------
        streams : iterable of Stream
            Any streams of this recognizer, in any order.

        Returns
        -------
        list of Output
            What is new in each stream.

        Raises
        ------
        ValueError
            If a stream is given twice or is of another recognizer, or the model is in training mode. Streams stay as they were.
        """
        streams = list(streams)
        if len({id(stream) for stream in streams}) < len(streams) or any(stream.recognizer is not self for stream in streams):
            raise ValueError("streams must differ, and be of this recognizer: its own `open` makes them")
        if self.model.training:
            raise ValueError("the model is in training mode, where dropout makes its text random: call model.eval()")
        outputs = [Output() for _ in streams]
        while ready := [(stream, output) for stream, output in zip(streams, outputs) if stream.chunks]:
            chunks = min(MOST_FRAMES // self.layout.chunk + 1, *(stream.chunks for stream, _ in ready))
            pieces = [stream.take(chunks * self.layout.chunk) for stream, _ in ready]
            samples = torch.stack([samples for samples, _ in pieces])
            valid = torch.tensor([valid for _, valid in pieces], device=samples.device)
            states = [stream.state for stream, _ in ready]
            state = tree_map(lambda *rows: torch.cat(rows), *states) if len(states) > 1 else states[0]
            log_probs, valid, state = self.engine.advance(samples, valid, state)
            best, out = log_probs.argmax(dim=-1).tolist(), valid.tolist()
            for row, (stream, output) in enumerate(ready):
                stream.state = tree_map(lambda tensor: tensor[row : row + 1], state) if len(states) > 1 else state
                stream.read([token for token, there in zip(best[row], out[row]) if there], output)
        for stream, output in zip(streams, outputs):
            if stream.ended and not stream.chunks:
                output.words += stream.decoder.flush(stream.heard)
        return outputs


class Stream:
    """One stream of a `Recognizer`. `feed` gives it samples, `close` ends it, and `Recognizer.run` does the rest.

    Attributes
    ----------
    heard : int
        Number of samples that came in.
    frames : int
        Number of frames that came out.
    """

    def __init__(self, recognizer: Recognizer):
        self.recognizer, self.state, self.decoder = recognizer, recognizer.start, GreedyDecoder(recognizer.tokens)
        self.lead = recognizer.model.encoder.lead
        self.heard, self.frames, self.taken = 0, 0, 0
        self.total: int | None = None  # number of frames of the whole stream, which is known once it is closed
        self.buffer = recognizer.silence

    @property
    def ended(self) -> bool:
        """Whether the stream is closed."""
        return self.total is not None

    @property
    def chunks(self) -> int:
        """Number of whole chunks of frames that wait to be encoded."""
        return len(self.buffer) // (self.recognizer.hop * self.recognizer.layout.chunk)

    def feed(self, samples: Tensor) -> None:
        """Take the next samples, (n,) at 16 kHz, n >= 0: a tensor of floats, full scale 1.

        Raises
        ------
        ValueError
            If the stream is closed, or the samples are no such tensor, or not numbers up to `LOUDEST`. The stream stays as
            it was.
        """
        if self.ended:
            raise ValueError("the stream is closed")
        if not isinstance(samples, Tensor) or not samples.is_floating_point() or samples.dim() != 1:
            given = f"{samples.dtype} of shape {tuple(samples.shape)}" if isinstance(samples, Tensor) else type(samples).__name__
            raise ValueError(f"samples must be a tensor of floats with one axis, full scale 1, not {given}")
        if len(samples) and not samples.abs().max().item() <= LOUDEST:  # not so for NaN
            first = int((~(samples.abs() <= LOUDEST)).nonzero()[0])
            at, value = self.heard + first, samples[first].item()
            raise ValueError(f"sample {at} ({at / SAMPLE_RATE:.3f} s) is {value:g}: full scale is 1")
        self.buffer = torch.cat([self.buffer, samples.to(self.buffer)])
        self.heard += len(samples)

    def close(self) -> None:
        """End the stream. What still waits for look-ahead comes out at the next `run`."""
        if self.ended:
            return
        model, chunk = self.recognizer.model, self.recognizer.layout.chunk
        self.total = -(-self.heard // self.recognizer.hop)
        end = self.lead + self.total + int(model.encoder.lookahead) if self.total else 0
        missing = (-(-end // chunk) * chunk - self.taken) * self.recognizer.hop - len(self.buffer)
        self.buffer = torch.nn.functional.pad(self.buffer, (0, missing)) if missing >= 0 else self.buffer[:0]

    def take(self, frames: int) -> tuple[Tensor, list[bool]]:
        """Hand out the samples (frames * hop,) of the next frames, and which of these frames belong to the stream."""
        first, size = self.taken - self.lead, frames * self.recognizer.hop
        self.taken += frames
        samples, self.buffer = self.buffer[:size], self.buffer[size:]
        end = math.inf if self.total is None else self.total
        return samples, [0 <= number < end for number in range(first, first + frames)]

    def read(self, best: Sequence[int], output: Output) -> None:
        """Decode the best token of each frame that came out, and add what is new to the output."""
        text, words = self.decoder.step(best, self.heard)
        self.frames += len(best)
        output.text += text
        output.words += words
