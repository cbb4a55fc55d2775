"""A sound, whatever it comes in: opened once, read forwards, all of it."""

import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from recipes.command_line import UserError
from recipes.LibriSpeech.sound import formats, ogg, wav
from recipes.LibriSpeech.sound.resampling import Resampler
from recipes.LibriSpeech.sound.tape import UNKNOWN, WINDOW, Stretch, Tape

STANDARD_INPUT = "-"
RATES = (1000, 1_000_000)
"""Hz, from and to: of what may be speech."""
BLOCK = 2**16
"""Samples of each channel that are decoded at once, at most."""
FLAC = (b'fLaC\x00\x00\x00"', b'fLaC\x80\x00\x00"')
"""How a FLAC begins, each of several in a row too."""


class Decoder(soundfile.SoundFile):
    """What libsndfile decodes, without its habit of seeking the place where it already is."""

    def seekable(self) -> bool:
        """It is only read forwards."""
        return False


class Sound:
    """The samples of a sound, mono: the mean of its channels.

    What libsndfile reads: WAV, FLAC and Ogg come as they arrive, also through a pipe, and to the last sample that is there
    whatever their headers say. Of the others, which need a look ahead, a pipe is copied to a temporary file first.
    Several of one kind in a row, FLAC, Ogg, WAV or MP3, are one sound, at the rate of the first.

    Arguments
    ---------
    name : str
        A path, or `-` for standard input.
    raw : int or None
        It is PCM without a header, 16 bits, little-endian, one channel, at this rate.

    Raises
    ------
    UserError
        If it cannot be read, is no sound, or has no samples.
    """

    def __init__(self, name: str, raw: int | None = None):
        self.path, self.name = name, "standard input" if name == STANDARD_INPUT else name
        self.rate, self.given, self.damaged, self.torn = 0, 0, False, False
        self.failure: UserError | None = None  # what else came after the last sample
        self.ready = np.zeros(0)  # samples, decoded and not given
        self.decoder: Decoder | None = None
        self.decoded = 0  # samples of each channel, of the part that it decodes
        self.resampler: Resampler | None = None
        self.file = open_once(name)
        try:
            self.parts = self._parts(Tape(self.file, self.name), raw)
            self._turn()
            self._fill(1)
        except BaseException:
            self.file.close()
            raise
        if not len(self.ready):
            raise UserError(f"{self.name} is empty: it has no samples{' that can be decoded' * self.damaged}")

    def read(self, count: int) -> np.ndarray:
        """The next samples, (count,) or fewer at the end, float64."""
        self._fill(count)
        samples, self.ready = self.ready[:count], self.ready[count:]
        self.given += len(samples)
        return samples

    def check(self) -> None:
        """After the last sample: a `UserError` if there should be more."""
        if self.failure:
            raise self.failure
        if self.damaged:
            raise UserError(f"{self.name} is damaged {self.given / self.rate:.2f} s after its start: what follows cannot be read")
        if self.torn:
            raise UserError(f"{self.name} is damaged: what cannot be read is left out, and times behind it are too early")

    def _fill(self, count: int) -> None:
        """Decode until `count` samples are ready, or all."""
        blocks, missing = [self.ready], count - len(self.ready)
        while missing > 0 and self.decoder:
            blocks.append(self._block(min(missing, BLOCK)))
            missing -= len(blocks[-1])
        self.ready = np.concatenate(blocks)

    def _block(self, count: int) -> np.ndarray:
        """Some of the next samples, (m,); after the last of a part, go on to the next."""
        assert self.decoder
        left = self.decoder.frames - self.decoded  # behind them there may be other things than sound
        frames = np.full((min(count, left), self.decoder.channels), np.nan)
        try:
            got = len(self.decoder.read(out=frames))
        except soundfile.SoundFileError:
            missing = np.isnan(frames).all(axis=1)  # the others were decoded
            got, self.damaged = int(missing.argmax()) if missing.any() else len(frames), True
        self.decoded += got
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are no sound
            samples = frames[:got].mean(axis=1)
        resampler, ended = self.resampler, got < count or self.damaged
        if ended:
            self._turn()
        if resampler:
            samples = resampler.step(torch.from_numpy(samples)).numpy()
            samples = np.concatenate([samples, resampler.flush().numpy()]) if ended else samples
        return samples

    def _turn(self) -> None:
        """Go on to the next part; there is none after damage, or the last."""
        try:
            self.decoder = next(self.parts, None)
        except UserError as error:
            if not self.rate:  # it is no sound at all
                raise
            self.decoder, self.failure = None, error
        if not self.decoder or self.damaged:
            self.decoder = None
            return self.file.close()
        rate, self.decoded = self.decoder.samplerate, 0
        self.rate = self.rate or rate
        self.resampler = None if rate == self.rate else Resampler(rate, self.rate)

    def _parts(self, tape: Tape, raw: int | None) -> Iterator[Decoder]:
        """The decoder of each part that has a header of its own."""
        while tag := _id3_before_flac(tape):
            tape.skip(tag)
        if raw:
            if tape.peek(4).startswith(formats.READ):
                raise UserError(f"{self.name} has a header, so it is not raw: leave --raw out")
            yield from self._wav(tape, wav.pcm16(raw))
        elif wav.is_wav(tape.peek(12)):
            more = True
            while more:
                header = wav.read_header(tape, self.name)
                yield from self._wav(tape, header)
                more = wav.skip_to_next(tape)
        elif tape.peek(8) in FLAC:
            while tape.peek(8) in FLAC:
                yield from self._flac(tape)
        elif tape.peek(14) in ogg.BEGIN:
            while tape.peek(14) in ogg.BEGIN:
                yield from self._ogg(tape)
        else:
            yield from self._seekable(tape)

    def _wav(self, tape: Tape, header: wav.Header) -> Iterator[Decoder]:
        most, left = max(1, wav.LONGEST // header.align) * header.align, header.length
        while left is None and tape.peek(1) or left:
            length = most if left is None else min(left, most)
            start = tape.taken
            yield from self._stretch(tape, header.riff(length), length)
            if left is not None:
                left -= length
                self.damaged |= tape.taken < start + length
        tape.skip((header.length or 0) % 2)

    def _flac(self, tape: Tape) -> Iterator[Decoder]:
        start = tape.take(26)
        numbers = int.from_bytes(start[18:], "big")  # 64 bits, the last 36 of them the number of samples, 0 if unknown
        promised, unlimited = numbers % 2**36, numbers | 2**36 - 1
        yield from self._stretch(tape, start[:18] + unlimited.to_bytes(8, "big"), marks=FLAC)
        self.damaged = self.decoded < promised or self.damaged and not promised  # a tag behind it is no damage

    def _ogg(self, tape: Tape) -> Iterator[Decoder]:
        pages = ogg.Pages()
        yield from self._stretch(tape, tape.take(ogg.heads(tape)), marks=ogg.BEGIN, watch=pages.feed)
        self.torn |= pages.torn or pages.cut
        self.damaged |= pages.cut and not tape.peek(1)

    def _stretch(self, tape: Tape, head: bytes, length: int | None = None, **options: Any) -> Iterator[Decoder]:
        """The decoder of a stretch of the tape, which stands behind it afterwards."""
        stretch = Stretch(tape, head, length, **options)
        try:
            yield self._open(stretch, head + tape.peek(formats.ENOUGH))
        finally:  # what went wrong with the file says more than what libsndfile makes of it
            if stretch.error:
                raise stretch.error
        stretch.drain()

    def _seekable(self, tape: Tape) -> Iterator[Decoder]:
        """The decoder of a whole file, or of the copy of a pipe; of several MP3 in a row one after the other."""
        head = tape.peek(formats.ENOUGH)
        with tempfile.TemporaryFile(buffering=0) as copy:
            file = self.file if tape.left is not None else copy
            if tape.left is not None:
                file.seek(-len(tape.ahead), os.SEEK_CUR)
            elif formats.may_be_read(head):
                self._copy(tape, copy)
            else:  # it may never end
                raise self._no_sound(head)
            more = True
            while more and not self.damaged:
                decoder = self._open(file.fileno(), head)
                yield decoder
                self.damaged |= self.decoded < decoder.frames < UNKNOWN
                place = file.tell()  # behind the last frame, if it is an MP3
                place += 128 * (os.pread(file.fileno(), 3, place) == b"TAG")
                head = os.pread(file.fileno(), formats.ENOUGH, file.seek(place))
                more = decoder.format == "MP3" and formats.is_mp3(head)

    def _copy(self, tape: Tape, copy: io.FileIO) -> None:
        try:
            while data := tape.some(WINDOW):
                while data := data[copy.write(data) :]:  # a disk that fills up takes a part first
                    pass
        except OSError as error:
            where = f"cannot copy {self.name} to {tempfile.gettempdir()}: {error.strerror}"
            raise UserError(f"{where}: make room there, or set TMPDIR") from error
        copy.seek(0)

    def _open(self, source: Stretch | int, head: bytes) -> Decoder:
        try:
            decoder = Decoder(source, closefd=False)
        except (soundfile.SoundFileError, TypeError) as error:  # the latter: it would need to know more
            raise self._no_sound(head) from error
        if not RATES[0] <= decoder.samplerate <= RATES[1]:
            what = f"{self.name} says that its rate is {decoder.samplerate} Hz"
            raise UserError(f"{what}: speech needs {RATES[0]} to {RATES[1]}")
        return decoder

    def _no_sound(self, head: bytes) -> UserError:
        return UserError(f"cannot read {self.name}: {formats.what_to_do(self.path, head)}")


def read_whole(path: str | Path) -> torch.Tensor:
    """All samples of a file, (samples,), float32; a `UserError` if it is damaged."""
    sound, blocks = Sound(str(path)), []
    while len(block := sound.read(BLOCK)):
        blocks.append(torch.from_numpy(block).float())
    sound.check()
    return torch.cat(blocks)


def _id3_before_flac(tape: Tape) -> int:
    """The bytes of an ID3 tag that has a FLAC behind it, where libsndfile may not look for it."""
    tag = tape.peek(10)
    if tag[:3] != b"ID3" or len(tag) < 10:
        return 0
    length = 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0)))  # 7 bits a byte
    return length if tape.peek(length + 4)[length:] in (b"fLaC", b"ID3\x03", b"ID3\x04") else 0


def open_once(name: str) -> io.FileIO:
    """Open a file, a pipe or standard input, unbuffered."""
    what = "standard input" if name == STANDARD_INPUT else name
    try:
        file = io.FileIO(0, closefd=False) if name == STANDARD_INPUT else io.FileIO(name)
    except OSError as error:
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        raise UserError(f"cannot read {what}: {why}") from error
    if file.isatty():
        raise UserError(f"{what} is a terminal: pipe a sound into this command, as in arecord -f S16_LE -r 16000 | ... -")
    return file


def check_names(names: Sequence[str]) -> None:
    """A `UserError` where a pipe, which can be read once, is named twice."""
    seen = set()
    for name in names:
        with contextlib.suppress(OSError):  # what is not there is said when its turn comes
            about = os.fstat(0) if name == STANDARD_INPUT else os.stat(name)
            if name != STANDARD_INPUT and (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
                continue
            if (about.st_dev, about.st_ino) in seen:
                raise UserError(f"{name} can be read once: name it once, or copy it to a file first")
            seen.add((about.st_dev, about.st_ino))
