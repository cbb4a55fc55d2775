"""Audio as it comes: pieces of a file or of a microphone, and their resampling to the rate of the models.

A source has a `name`, a `rate`, its `hop_ms`, and `late`, the most seconds that a piece had to wait to be taken. To iterate
over it gives its pieces, (samples,), each `hop_ms` long but the last: nothing ever holds a whole file.
"""

import math
import os
import queue
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.recognizer import LOUDEST

from recipes.command_line import UserError

LOWEST_RATE = 1000  # Hz
FLOAT_MAX = np.finfo("float32").max
BACKLOG = 60
"""Seconds of a microphone that may wait before they are lost."""


class Resampler:
    """A stream at any rate to one at 16 kHz: the function of `torchaudio.functional.resample` with its defaults.

    Output j is the input at the time t = j * rate / 16000 (in input samples), interpolated by a sinc with a Hann window
    of 6 zero crossings on each side, which cuts off at 0.99 of half the lower of the two rates. Its weights are computed for
    each output, so no ratio needs a large table, and j * rate is an integer: there is no drift. An output comes as soon
    as its last input sample is there. At 16 kHz samples pass through untouched.

    Arguments
    ---------
    rate : int
        Of the input, Hz.

    Example
    -------
    >>> resampler, samples = Resampler(44100), torch.rand(44100)
    >>> pieces = [resampler.step(piece) for piece in samples.split(1764)]
    >>> torch.cat([*pieces, resampler.flush()]).shape
    torch.Size([16000])
    >>> round(resampler.lookahead_ms, 3)
    0.385
    """

    def __init__(self, rate: int):
        self.rate = rate
        self.cutoff = 0.99 * min(rate, SAMPLE_RATE) / rate  # zero crossings for each input sample
        self.reach = 0 if rate == SAMPLE_RATE else math.ceil(6 / self.cutoff)  # input samples on each side
        self.buffer, self.first = torch.zeros(self.reach), -self.reach  # the last samples, and the number of the first
        self.done = 0  # outputs

    @property
    def lookahead_ms(self) -> float:
        """The time from an output sample to the last input sample that it reads, at most."""
        return 1000 * self.reach / self.rate

    def step(self, samples: torch.Tensor) -> torch.Tensor:
        """The outputs (m,) that the next samples (n,), n >= 0, complete."""
        if self.rate == SAMPLE_RATE:
            return samples
        self.buffer = torch.cat([self.buffer, samples])
        return self._outputs(self.first + len(self.buffer) - self.reach)

    def flush(self) -> torch.Tensor:
        """The outputs (m,) that still wait for samples: in all there are ceil(samples * 16000 / rate)."""
        return self.step(torch.zeros(self.reach))

    def _outputs(self, end: int) -> torch.Tensor:
        """The outputs at times before `end`, an input sample."""
        total = max(self.done, -(-end * SAMPLE_RATE // self.rate))
        offsets = torch.arange(1 - self.reach, self.reach + 1)
        parts = [self.buffer[:0]]
        for numbers in torch.arange(self.done, total).split(max(1, 2**20 // len(offsets))):
            at, rest = numbers * self.rate // SAMPLE_RATE, numbers * self.rate % SAMPLE_RATE
            x = self.cutoff * (offsets - rest[:, None].double() / SAMPLE_RATE)
            weights = self.cutoff * x.sinc() * torch.where(x.abs() < 6, (x * torch.pi / 12).cos() ** 2, 0.0)
            taps = self.buffer[(at - self.first)[:, None] + offsets]
            parts.append((weights * taps).sum(dim=1).to(self.buffer.dtype))
        keep = total * self.rate // SAMPLE_RATE + 1 - self.reach
        self.buffer, self.first, self.done = self.buffer[keep - self.first :].clone(), keep, total
        return torch.cat(parts)


class AudioFile:
    """The pieces of an audio file, its channels averaged.

    Arguments
    ---------
    path : str or Path
        Of anything that libsndfile reads.
    hop_ms : float
        Piece i ends at round((i + 1) * hop_ms / 1000 * rate) samples.
    realtime : bool
        Give each piece no earlier than when its last sample would have been spoken.

    Raises
    ------
    UserError
        If it cannot be read or is empty; while iterating, after the samples before it, at one that is no number of a usual
        size or not there. (A WAV that is cut short has no other length to compare with: it is heard to its end.)
    """

    def __init__(self, path: str | Path, hop_ms: float, realtime: bool = False):
        self.name, self.hop_ms, self.realtime, self.late = str(path), hop_ms, realtime, 0.0
        try:
            open(path, "rb").close()  # says more than libsndfile of what is not there, or is no file
            self.file = soundfile.SoundFile(os.fsencode(path))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (soundfile.SoundFileError, TypeError) as error:  # the latter: a file without a header
            raise UserError(f"cannot read {path}: it is not audio that libsndfile knows") from error
        if self.file.frames == 0:
            raise UserError(f"{path} is empty: it has no samples")
        self.rate = self.file.samplerate
        if self.rate < LOWEST_RATE:
            raise UserError(f"{path} says that its rate is {self.rate} Hz: speech needs {LOWEST_RATE} or more")

    def __iter__(self) -> Iterator[torch.Tensor]:
        start, position, piece, more = time.monotonic(), 0, 0, True
        while more:
            piece += 1
            missing = round(piece * self.hop_ms * self.rate / 1000) - position
            samples = self._read(missing, position)
            more, sound = len(samples) == missing, np.abs(samples) <= LOUDEST  # False for NaN
            good = samples if sound.all() else samples[: sound.argmin()]
            position += len(good)
            if self.realtime:
                wait = start + position / self.rate - time.monotonic()
                time.sleep(max(0.0, wait))
                self.late = max(self.late, -wait)
            yield torch.from_numpy(good)
            if len(good) < len(samples):
                value = samples[len(good)]
                raise UserError(f"{self.name}: sample {position} ({position / self.rate:.3f} s) is {value:g}: full scale is 1")
        if self.file.seekable() and position < self.file.frames:
            raise self._damage(position)

    def _read(self, frames: int, position: int) -> np.ndarray:
        """The mean over channels of the next frames, (frames,) or fewer at the end."""
        try:
            samples = self.file.read(frames, dtype="float64", always_2d=True)
            with np.errstate(over="ignore"):
                return samples.mean(axis=1).clip(-FLOAT_MAX, FLOAT_MAX).astype("float32")
        except soundfile.SoundFileError as error:
            raise self._damage(position) from error

    def _damage(self, position: int) -> UserError:
        return UserError(f"{self.name} is damaged {position / self.rate:.2f} s after its start: what follows is not transcribed")


class Microphone:
    """The pieces of a microphone, until Ctrl-C. At 16 kHz if the device allows it, otherwise at the rate that it prefers.

    Arguments
    ---------
    device : str
        Its number, or a part of its name; empty: the default one.
    hop_ms : float

    Raises
    ------
    UserError
        If there is no such device, or nothing to open it with.
    """

    name = "microphone"

    def __init__(self, device: str, hop_ms: float):
        try:
            import sounddevice
        except ImportError as error:
            raise UserError("--microphone needs the package sounddevice: pip install -e '.[microphone]'") from error
        except OSError as error:  # PortAudio is part of the package on Windows and macOS only
            raise UserError("--microphone needs the PortAudio library: install it (Debian: apt install libportaudio2)") from error
        self.hop_ms, self.lost, self.late = hop_ms, False, 0.0
        self.pieces: queue.SimpleQueue[tuple[np.ndarray | None, bool]] = queue.SimpleQueue()
        number_or_name = int(device) if device.isdigit() else device or None
        options: dict[str, Any] = {"device": number_or_name, "channels": 1, "dtype": "float32"}
        try:
            self.rate = int(sounddevice.query_devices(number_or_name, "input")["default_samplerate"])
            try:
                sounddevice.check_input_settings(**options, samplerate=SAMPLE_RATE)
                self.rate = SAMPLE_RATE
            except sounddevice.PortAudioError:
                pass
            self.block = max(1, round(hop_ms * self.rate / 1000))
            options |= {"samplerate": self.rate, "blocksize": self.block}
            self.stream = sounddevice.InputStream(**options, callback=self._take, finished_callback=self._end)
            self.stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            which = f"microphone {device}" if device else "the default microphone"
            raise UserError(f"cannot open {which}: {error}; python -m sounddevice lists the devices") from error

    def _take(self, samples: np.ndarray, frames: int, moment: Any, status: Any) -> None:
        """Called by PortAudio, in a thread of its own, with each piece."""
        full = self.pieces.qsize() * self.block > BACKLOG * self.rate
        self.lost |= full or status.input_overflow
        if not full:
            self.pieces.put((samples[:, 0].copy(), self.lost))
            self.lost = False

    def _end(self) -> None:
        self.pieces.put((None, self.lost))

    def __iter__(self) -> Iterator[torch.Tensor]:
        position, interrupted = 0, False

        def interrupt(*_: Any) -> None:
            nonlocal interrupted
            interrupted = True
            signal.signal(signal.SIGINT, before)  # a second Ctrl-C does not wait for what is still to be transcribed
            self._end()

        before = signal.signal(signal.SIGINT, interrupt)
        while True:
            samples, lost = self.pieces.get()
            if lost:
                print(f"audio was lost after {position / self.rate:.2f} s: the input buffer overflowed", file=sys.stderr)
            if samples is None:
                break
            self.late = max(self.late, self.pieces.qsize() * self.block / self.rate)
            position += len(samples)
            yield torch.from_numpy(samples)
        signal.signal(signal.SIGINT, before)
        self.stream.close()
        if not interrupted:
            raise UserError(f"the microphone stopped after {position / self.rate:.2f} s: see whether it is still connected")
