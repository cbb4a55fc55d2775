"""The whole system, from the waveform by way of front end and encoder to CTC log-probabilities."""

import copy
import math
from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor, nn

from .encoder import Encoder, EncoderState
from .front_end import SAMPLE_RATE, FrontEnd
from .streaming import Streaming, last_input


class SpeechState(TypedDict):
    """What a speech encoder keeps of the samples before."""

    front_end: Tensor
    encoder: EncoderState


class Budget(TypedDict):
    """Parts of a latency, in samples, see `SpeechEncoder.budget`."""

    window: float
    frame: int
    position: int
    chunk: int
    attention: float
    convolution: float


class Latency(TypedDict):
    """A latency as declared and as measured, see `SpeechEncoder.latency`; None where it is the whole utterance."""

    frame_ms: float
    declared_frames: float | None
    measured_frames: int | None
    attention_ms: float | None
    total_ms: float | None
    measured_ms: float | None


class SpeechEncoder(Streaming[SpeechState]):
    """A front end and an encoder, which pre-training makes and fine-tuning starts from.

    Arguments
    ---------
    front_end : FrontEnd
        From the waveform to frames.
    encoder : Encoder
        From frames to frames.

    Example
    -------
    >>> from functools import partial
    >>> from speech_attention.attention import LLSA
    >>> from speech_attention.blocks import TransformerBlock
    >>> from speech_attention.encoder import Encoder
    >>> from speech_attention.front_end import FbankFrontEnd
    >>> attention = partial(LLSA, num_heads=2, left_context=8, lookahead=4)
    >>> model = SpeechEncoder(FbankFrontEnd(8), Encoder(8, 16, 2, TransformerBlock, attention))
    >>> model(torch.rand(1, 16000), torch.tensor([16000]))[0].shape
    torch.Size([1, 25, 8])
    >>> model.lookahead / 16  # ms: 4 frames
    160.0
    """

    def __init__(self, front_end: FrontEnd, encoder: Encoder):
        super().__init__()
        if front_end.dim != encoder.dim:
            raise ValueError(f"the front end makes frames of width {front_end.dim}, the encoder takes {encoder.dim}")
        if front_end.pool != encoder.pool:
            raise ValueError(f"the front end has pool={front_end.pool}, the encoder pool={encoder.pool}: they must be the same")
        self.front_end, self.encoder = front_end, encoder

    @property
    def lookahead(self) -> float:
        """How many samples after the end of its own hop a frame reads."""
        return self.front_end.lookahead + self.encoder.lookahead * self.front_end.hop

    @property
    def frame_ms(self) -> float:
        """Time from one frame to the next, in ms."""
        return 1000 * self.front_end.hop / SAMPLE_RATE

    def forward(
        self, samples: Tensor, lengths: Tensor, augment: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        Arguments
        ---------
        samples : torch.Tensor
            (batch, samples) at 16 kHz. What stands in the padding does not matter.
        lengths : torch.Tensor
            (batch,), in samples.
        augment : callable or None
            Applied to the features (batch, .., feature_dim), such as SpecAugment.

        Returns
        -------
        y : torch.Tensor
            (batch, time, dim).
        lengths : torch.Tensor
            (batch,), in frames.
        """
        features, lengths = self.front_end.features(samples, lengths)
        features = augment(features) if augment else features
        y, lengths = self.encoder(self.front_end.project(features), lengths)
        return self.read_out(y), lengths

    def read_out(self, y: Tensor) -> Tensor:
        """What comes out for each frame of the encoder (batch, time, dim), by itself; here that frame."""
        return y

    def initial_state(self, batch_size: int) -> SpeechState:
        return {"front_end": self.front_end.initial_state(batch_size), "encoder": self.encoder.initial_state(batch_size)}

    def step(self, samples: Tensor, state: SpeechState) -> tuple[Tensor, SpeechState]:
        """Encode the next samples (batch, n). Returns the frames (batch, m, dim) that they complete, and the state."""
        x, front_end = self.front_end.step(samples, state["front_end"])
        y, encoder = self.encoder.step(x, state["encoder"])
        return self.read_out(y), {"front_end": front_end, "encoder": encoder}

    def flush(self, state: SpeechState) -> Tensor:
        y, encoder = self.encoder.step(self.front_end.flush(state["front_end"]), state["encoder"])
        return self.read_out(torch.cat([y, self.encoder.flush(encoder)], dim=1))

    def advance(self, samples: Tensor, valid: Tensor, state: SpeechState) -> tuple[Tensor, Tensor, SpeechState]:
        """Encode whole frames of streams that may start and end at different times, see `Encoder.advance`.

        Arguments
        ---------
        samples : torch.Tensor
            (batch, n * hop), zeros before the first sample of a stream and after its last one.
        valid : torch.Tensor
            (batch, n), bool, True for frames that have samples of their stream.
        state : dict
            From `initial_state`, or from the last call.

        Returns
        -------
        y : torch.Tensor
            (batch, m, dim), the frames that come out.
        valid : torch.Tensor
            (batch, m), bool, which of these belong to their stream.
        state : dict
            For the next call.

        Raises
        ------
        ValueError
            If the samples are not those of n frames.
        """
        if samples.size(1) != valid.size(1) * self.front_end.hop:
            raise ValueError(
                f"samples must be {valid.size(1)} frames of {self.front_end.hop}, as `valid` has, not {samples.size(1)}"
            )
        x, front_end = self.front_end.step(samples, state["front_end"])
        y, valid, encoder = self.encoder.advance(x, valid, state["encoder"])
        return self.read_out(y), valid, {"front_end": front_end, "encoder": encoder}

    def budget(self) -> Budget | None:
        """What makes up the latency of a frame, as the modules declare it: from its first sample to the last one that it reads.

        It is the latency of the first frame of a chunk, which waits longest.

        Returns
        -------
        dict or None
            In samples. `window`: what the front end reads after the frame's own hop. `frame`: that hop. `position`: the
            look-ahead of the positions. `chunk`: the other frames of its chunk. `attention`: the look-ahead of the attentions
            after that. `convolution`: what the encoder declares beside these. None if a frame waits for the whole utterance.
        """
        layout, hop = self.encoder.layout, self.front_end.hop
        if math.isinf(self.lookahead):
            return None
        position, chunk = self.encoder.position.lookahead // self.encoder.pool, layout.chunk - 1
        attention = layout.lookahead - chunk + sum(block.attention.layer_lookahead for block in self.encoder.blocks)
        return {
            "window": self.front_end.lookahead,
            "frame": hop,
            "position": position * hop,
            "chunk": chunk * hop,
            "attention": attention * hop,
            "convolution": (self.encoder.lookahead - position - chunk - attention) * hop,
        }

    def latency(self) -> Latency:
        """The look-ahead that the modules declare, beside the one that a gradient measures with this model's weights, in float64.

        Returns
        -------
        dict
            `frame_ms`: time from one frame to the next. `declared_frames` and `measured_frames`: the look-ahead of the
            encoder. `attention_ms`: the declared one in ms. `total_ms`: the same with the frame itself. `measured_ms`: from
            the first sample of a frame to the last one that it reads. None where that is the whole utterance.
        """
        frame, hop, ahead = self.encoder.layout.chunk, self.front_end.hop, self.encoder.lookahead
        whole = math.isinf(self.lookahead)
        frames = frame + 1 + (20 if whole else int(ahead)) + 4
        samples = torch.randn(1, frames * hop, generator=torch.Generator().manual_seed(0))
        model = copy.deepcopy(self).cpu().double().eval()
        last = last_input(lambda x: model(x, torch.tensor([frames * hop]))[0], samples, frame)
        to_the_end = last // hop == frames - 1
        return {
            "frame_ms": self.frame_ms,
            "declared_frames": None if whole else ahead,
            "measured_frames": None if to_the_end else last // hop - frame,
            "attention_ms": None if whole else ahead * self.frame_ms,
            "total_ms": None if whole else 1000 * (self.front_end.hop + self.lookahead) / SAMPLE_RATE,
            "measured_ms": None if to_the_end else 1000 * (last + 1 - frame * hop) / SAMPLE_RATE,
        }


class CTCModel(SpeechEncoder):
    """A speech encoder, and a linear layer to CTC tokens. Its outputs are log-probabilities (batch, time, tokens).

    Arguments
    ---------
    front_end, encoder
        See `SpeechEncoder`.
    num_tokens : int
        Number of tokens, with the blank, which is token 0.
    """

    def __init__(self, front_end: FrontEnd, encoder: Encoder, num_tokens: int):
        super().__init__(front_end, encoder)
        self.head = nn.Linear(encoder.dim, num_tokens)

    def read_out(self, y: Tensor) -> Tensor:
        """Log-probabilities (batch, time, tokens)."""
        return self.head(y).log_softmax(dim=-1)
