"""A tape gives bytes as soon as they are there, and a stretch of it ends exactly where the next one begins."""

import io

import pytest

from recipes.LibriSpeech.sound.tape import UNKNOWN, WINDOW, Stretch, Tape

MARKS = (b"mark", b"maples")


class Dribble(io.FileIO):
    """A file that gives a few bytes at a time."""

    few = 1

    def read(self, count):
        return super().read(min(count, self.few))


def all_of(stretch, size):
    """What a stretch gives in reads of `size` bytes."""
    parts, buffer = [], bytearray(size)
    while got := stretch.readinto(memoryview(buffer)):
        parts.append(bytes(buffer[:got]))
    return b"".join(parts)


@pytest.mark.parametrize("few", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_stretches_end_at_marks(tmp_path, few, size):
    parts = [b"markmamma mia", b"maplesma", b"marmalade", b"mark", b"marksmapl"]
    together = [parts[0], parts[1] + parts[2], parts[3], parts[4]]  # one of them is no mark
    (tmp_path / "a").write_bytes(b"".join(parts))
    Dribble.few, found = few, []
    with Dribble(tmp_path / "a") as file:
        tape = Tape(file, "a")
        while start := tape.take(4):
            found.append(all_of(Stretch(tape, start, None, MARKS), size))
    assert found == together


def test_a_decoder_looks_back_and_at_the_end(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 1024)
    with open(tmp_path / "a", "rb", buffering=0) as file:
        tape = Tape(file, "a")
        stretch = Stretch(tape, b"head", 1000)
        buffer = bytearray(10)
        stretch.readinto(memoryview(buffer))
        assert bytes(buffer) == b"head" + bytes(range(6)) and stretch.tell() == 10
        stretch.seek(2)
        stretch.readinto(memoryview(buffer))
        assert bytes(buffer) == b"ad" + bytes(range(8)) and stretch.tell() == 12
        stretch.seek(0, 2)
        assert (stretch.tell(), stretch.readinto(memoryview(buffer))) == (1004, 0)
        stretch.seek(500)  # not read yet
        assert stretch.tell() == -1
        stretch.drain()
        assert tape.taken == 1000 and tape.left == 1024 * 256 - 1000
        endless = Stretch(tape, b"")
        endless.seek(0, 2)
        assert endless.tell() == UNKNOWN
        endless.seek(0)
        assert all_of(endless, 50_000) == (bytes(range(256)) * 1024)[1000:]
        assert len(endless.window) <= WINDOW and tape.left == 0
