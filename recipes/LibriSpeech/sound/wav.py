"""The chunks of a WAV file, whose lengths are true only in a file that was closed."""

import struct
from dataclasses import dataclass

from recipes.command_line import UserError
from recipes.LibriSpeech.sound.tape import Tape

FORMS = (b"RIFF", b"RF64", b"BW64")
AFTER_SOUND = (b"LIST", b"id3 ", b"ID3 ", b"fact", b"cue ", b"bext", b"iXML", b"smpl", b"inst", b"PEAK", b"JUNK", b"plst", *FORMS)
"""Chunks that may follow the sound."""
PLACEHOLDERS = ((0, 0), (0x7FFF0000, 0x80000000), (0xFFFF0000, 2**64))
"""Lengths that writers put down before they know: from, to."""
LONGEST = 2**30
"""Bytes of sound behind one header: a longer one goes to libsndfile in parts, as 32 bits do not hold every length."""


@dataclass(frozen=True)
class Header:
    """What comes before the sound.

    Arguments
    ---------
    chunks : bytes
        The format, and the number of samples where the codec has one.
    align : int
        Bytes of a block of samples that is decoded together.
    length : int or None
        Bytes of sound; None: they go to the end of the file.
    """

    chunks: bytes
    align: int
    length: int | None

    def riff(self, length: int) -> bytes:
        """A header, as libsndfile takes it, of `length` bytes of sound."""
        body = b"WAVE" + self.chunks + b"data" + struct.pack("<I", length)
        return b"RIFF" + struct.pack("<I", len(body) + length) + body


def is_wav(head: bytes) -> bool:
    """Whether a file begins like this, 12 bytes."""
    return head[:4] in FORMS and head[8:12] == b"WAVE"


def pcm16(rate: int) -> Header:
    """Of 16-bit little-endian samples, one channel, that go to the end of the file."""
    return Header(b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16), 2, None)


def read_header(tape: Tape, name: str) -> Header:
    """Take the header from a tape, which then stands at the first byte of sound."""
    tape.skip(12)
    form, count, long_length = b"", b"", None
    while True:
        start = tape.take(8)
        if len(start) < 8:
            raise UserError(f"{name} is a WAV that ends before its sound: it was cut off, or never written")
        kind, length = start[:4], int.from_bytes(start[4:], "little")
        if not (kind.isascii() and kind.decode().isprintable()):  # a wrong length led to what is no chunk
            raise UserError(f"{name} is a WAV with a damaged header: get it again")
        if kind == b"data":
            break
        if kind in (b"fmt ", b"fact", b"ds64"):
            body = tape.take(min(length + length % 2, 4096))
            if kind == b"ds64":
                long_length = int.from_bytes(body[8:16], "little")
            elif kind == b"fmt ":
                form = start + body
            else:
                count = start + body
        else:
            tape.skip(length + length % 2)
    if len(form) < 24:
        raise UserError(f"{name} is a WAV without a format before its sound: it is damaged")
    if length == 0xFFFFFFFF and long_length is not None:
        length = long_length
    align = int.from_bytes(form[20:22], "little") or 1  # libsndfile needs none for PCM
    follows = tape.peek(4)
    there = tape.left is None or length <= tape.left
    if length == 0 and (not follows or follows in AFTER_SOUND) or length and there and tape.left is not None:
        return Header(form + count, align, length)
    guessed = any(low <= length <= high for low, high in PLACEHOLDERS)
    return Header(form + (b"" if guessed else count), align, None if guessed else length)


def skip_to_next(tape: Tape) -> bool:
    """Pass over the chunks behind the sound; whether another WAV follows them."""
    while (head := tape.peek(12)) and not is_wav(head) and head[:4] in AFTER_SOUND:
        length = int.from_bytes(head[4:8], "little")
        tape.skip(8 + length + length % 2)
    return is_wav(head)
