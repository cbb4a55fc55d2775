"""The pages of an Ogg, each with a checksum: libsndfile leaves out those that do not fit theirs, and says nothing."""

import zlib

from recipes.LibriSpeech.sound.tape import Tape

BEGIN = (b"OggS\x00\x02" + bytes(8),)
"""How a stream begins, each of several in a row too."""
HEAD = 27
"""Bytes of a page before the table of lengths, whose size is the last of them."""
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""From each byte to the one with its bits in the other order."""


def heads(tape: Tape) -> int:
    """The bytes of the pages at the beginning that each announce a stream."""
    length = 0
    while (page := tape.peek(length + HEAD)[length:])[:14] in BEGIN and len(page) == HEAD:
        lacing = tape.peek(length + HEAD + page[26])[length + HEAD :]
        length += HEAD + page[26] + sum(lacing)
    return length


def checksum(page: bytes) -> int:
    """The checksum of a page: that of zlib, but with the bits of bytes and sum in the other order, and from 0."""
    data = (page[:22] + bytes(4) + page[26:]).translate(MIRRORED)
    return int(f"{zlib.crc32(data, 2**32 - 1) ^ (2**32 - 1):032b}"[::-1], 2)


class Pages:
    """Watches the pages of a stream as they come; `torn` is whether some of it, before its end, is no whole page.

    Example
    -------
    >>> page = bytearray(b"OggS" + bytes(22) + bytes([1, 3]) + b"abc")
    >>> page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    >>> pages = Pages()
    >>> pages.feed(page + page[:5])
    >>> pages.torn, pages.cut
    (False, True)
    >>> pages.feed(page)
    >>> pages.torn, pages.cut
    (True, False)
    """

    def __init__(self) -> None:
        self.data, self.odd, self.torn = bytearray(), False, False

    @property
    def cut(self) -> bool:
        """Whether a page has begun that is not there to its end."""
        return self.data[:4] == b"OggS"

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self.data += data
        while True:
            start = self.data.find(b"OggS")
            start = max(0, len(self.data) - 3) if start < 0 else start
            self.odd |= start > 0
            del self.data[:start]
            lengths = HEAD + self.data[26] if len(self.data) >= HEAD else HEAD
            length = lengths + sum(self.data[HEAD:lengths])
            if len(self.data) < max(lengths, length):
                return
            whole = checksum(bytes(self.data[:length])) == int.from_bytes(self.data[22:26], "little")
            self.torn |= self.odd or not whole
            self.odd = not whole
            del self.data[: length if whole else 4]
