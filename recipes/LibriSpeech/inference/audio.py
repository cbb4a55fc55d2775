"""Audio as it comes: the pieces of a file or a pipe.

A source has a `name`, a `rate`, its `hop_ms`, and `late`, the most seconds that a piece had to wait to be taken. To iterate
over it gives its pieces, (samples,), each `hop_ms` long but the last: nothing ever holds a whole file.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from speech_attention.recognizer import LOUDEST

from recipes.command_line import UserError
from recipes.LibriSpeech.sound.reader import Sound


class AudioFile:
    """The pieces of a file, a pipe, or standard input, its channels averaged.

    Arguments
    ---------
    path : str or Path
        See `Sound`; `-` is standard input.
    hop_ms : float
        Piece i ends at round((i + 1) * hop_ms / 1000 * rate) samples.
    realtime : bool
        Give each piece no earlier than when its last sample would have been spoken.
    raw : int or None
        It is PCM without a header at this rate, see `Sound`.

    Raises
    ------
    UserError
        If it cannot be read or is empty; while iterating, after the samples before it, at one that is no number of a usual
        size or not there.
    """

    def __init__(self, path: str | Path, hop_ms: float, realtime: bool = False, raw: int | None = None):
        self.name, self.hop_ms, self.realtime, self.late = str(path), hop_ms, realtime, 0.0
        self.sound = Sound(self.name, raw)
        self.rate = self.sound.rate

    def __iter__(self) -> Iterator[torch.Tensor]:
        start, position, piece, more = time.monotonic(), 0, 0, True
        while more:
            piece += 1
            missing = round(piece * self.hop_ms * self.rate / 1000) - position
            samples = self.sound.read(missing)
            more, usual = len(samples) == missing, np.abs(samples) <= LOUDEST  # False for NaN
            good = samples if usual.all() else samples[: usual.argmin()]
            position += len(good)
            if self.realtime:
                wait = start + position / self.rate - time.monotonic()
                time.sleep(max(0.0, wait))
                self.late = max(self.late, -wait)
            yield torch.from_numpy(good.astype("float32"))
            if len(good) < len(samples):
                value = samples[len(good)]
                raise UserError(
                    f"{self.sound.name}: sample {position} ({position / self.rate:.3f} s) is {value:g}: full scale is 1"
                )
        self.sound.check()
