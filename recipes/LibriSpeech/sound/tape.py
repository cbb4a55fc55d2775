"""Bytes that can be read once: a file, a pipe, or standard input; and stretches of them that libsndfile takes for files."""

import io
import os
import select
import stat
from collections.abc import Callable, Sequence

from recipes.command_line import UserError

WINDOW = 2**17
"""Bytes behind the reading position to which a decoder may go back."""
UNKNOWN = 2**63 - 1
"""The length of a file of unknown length, as libsndfile says it."""


class Tape:
    """The bytes of an open file, forwards only.

    Arguments
    ---------
    file : FileIO
        It need not be seekable, and may be slow.
    name : str
        For what is said about it.

    Raises
    ------
    UserError
        When it cannot be read.
    """

    def __init__(self, file: io.FileIO, name: str):
        self.file, self.name, self.ahead, self.ended = file, name, bytearray(), False
        about = os.fstat(file.fileno())
        known = stat.S_ISREG(about.st_mode) and about.st_size > 0  # some files of the kernel's have contents but no size
        self.bytes = about.st_size - file.tell() if known else None
        self.taken = 0

    @property
    def left(self) -> int | None:
        """Bytes to come, None where only reading them would tell."""
        return None if self.bytes is None else self.bytes - self.taken

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay there; fewer at the end."""
        while len(self.ahead) < count and not self.ended:
            self._more()
        return bytes(self.ahead[:count])

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        self.peek(count)
        return self._give(count)

    def some(self, most: int, before: Sequence[bytes] = ()) -> bytes:
        """Bytes as soon as there are any, from 1 to `most`; none at the end, and none where one of `before` begins."""
        while True:
            places = [place for mark in before if (place := self.ahead.find(mark)) >= 0]
            free = min(places, default=len(self.ahead) - (0 if self.ended else _begun(self.ahead, before)))
            if free or places or self.ended:
                return self._give(min(free, most))
            self._more()

    def skip(self, count: int) -> None:
        """Pass over bytes, to the end at most."""
        while count and (passed := len(self.some(min(count, WINDOW)))):
            count -= passed

    def _more(self) -> None:
        try:
            data = self.file.read(WINDOW)
        except OSError as error:
            raise UserError(f"cannot read {self.name}: {error.strerror}") from error
        if data is None:  # nothing yet in a pipe that does not wait by itself
            select.select([self.file], [], [])
        else:
            self.ahead += data
            self.ended = not data

    def _give(self, count: int) -> bytes:
        data = bytes(self.ahead[:count])
        del self.ahead[:count]
        self.taken += len(data)
        return data


def _begun(data: bytearray, marks: Sequence[bytes]) -> int:
    """How many bytes at the end of the data may be the beginning of a mark."""
    longest = max(map(len, marks), default=1) - 1
    return next((n for n in range(min(longest, len(data)), 0, -1) if any(mark.startswith(data[-n:]) for mark in marks)), 0)


class Stretch:
    """A part of a tape, with what libsndfile asks of a file: it goes forwards, but for a look back at its beginning.

    Arguments
    ---------
    tape : Tape
    head : bytes
        What comes before the bytes of the tape.
    length : int or None
        Bytes of the tape; None: to the next mark, or the end.
    marks : sequence of bytes
        Where one of them begins, the stretch ends.
    watch : callable or None
        Is given what is read from the tape.
    """

    def __init__(
        self,
        tape: Tape,
        head: bytes,
        length: int | None = None,
        marks: Sequence[bytes] = (),
        watch: Callable[[bytes], None] | None = None,
    ):
        self.tape, self.marks, self.left, self.watch = tape, marks, length, watch
        self.end = UNKNOWN if length is None else len(head) + length
        self.window, self.begin = bytearray(head), 0  # what was read last, and the position of its first byte
        self.position = self.answer = 0
        self.error: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Go back to what is still there, or to the end, where nothing is read; `tell` then gives -1 for any other place."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.end}[whence]
        inside = self.begin <= place <= self.begin + len(self.window) or place == self.end
        self.answer = place if inside else -1
        if inside:
            self.position = place

    def tell(self) -> int:
        """The position; after a `seek`, once, how that went."""
        answer, self.answer = self.answer, self.position
        return answer

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer, wholly where the length is known, and otherwise with what is there; 0 at the end.

        What goes wrong is kept in `error`: libsndfile, which calls this, would not hand it on.
        """
        try:
            done = 0
            while done < len(buffer) and (done == 0 or self.end != UNKNOWN) and (data := self._read(len(buffer) - done)):
                buffer[done : done + len(data)] = data
                done += len(data)
            return done
        except BaseException as error:  # Ctrl-C among them
            self.error = error
            return 0

    def drain(self) -> None:
        """Leave the tape at the end of this stretch."""
        self.position = self.begin + len(self.window)
        while self._read(WINDOW):
            pass

    def _read(self, most: int) -> bytes:
        again = self.position - self.begin
        if again < len(self.window):
            data = bytes(self.window[again : again + most])
        elif self.position >= self.end and self.end != UNKNOWN:
            return b""
        else:
            data = self.tape.some(most if self.left is None else min(most, self.left), self.marks)
            self.left = None if self.left is None else self.left - len(data)
            if self.watch:
                self.watch(data)
            self.window += data
            surplus = max(0, len(self.window) - WINDOW)
            self.window, self.begin = self.window[surplus:], self.begin + surplus
        self.position = self.answer = self.position + len(data)
        return data
