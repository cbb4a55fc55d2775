"""A microphone as a source of audio, see `audio`."""

import queue
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from speech_attention.front_end import SAMPLE_RATE

from recipes.command_line import UserError

BACKLOG = 60
"""Seconds of a microphone that may wait before they are lost."""


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
