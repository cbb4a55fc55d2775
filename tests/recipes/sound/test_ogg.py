"""Pages of an Ogg: what libsndfile leaves out without a word is noticed."""

import io

import numpy as np
import pytest
import soundfile

from recipes.command_line import UserError
from recipes.LibriSpeech.sound import ogg
from recipes.LibriSpeech.sound.reader import Sound

NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 64000)


def encoded(subtype):
    file = io.BytesIO()
    soundfile.write(file, NOISE, 16000, format="OGG", subtype=subtype)
    return file.getvalue()


def page_of(data, number):
    """Where a page begins."""
    place = -1
    for _ in range(number + 1):
        place = data.index(b"OggS", place + 1)
    return place


CHANGES = {  # from what is changed to whether the stream is torn, and cut
    "nothing": (lambda data, page: data, False, False),
    "a byte": (lambda data, page: data[: page + 99] + bytes([data[page + 99] ^ 1]) + data[page + 100 :], True, False),
    "a signature": (lambda data, page: data[:page] + b"oggs" + data[page + 4 :], True, False),
    "bytes lost": (lambda data, page: data[: page + 99] + data[page + 199 :], True, False),
    "bytes between": (lambda data, page: data[:page] + b"between" + data[page:], True, False),
    "bytes behind": (lambda data, page: data + b"behind", False, False),
    "the end lost": (lambda data, page: data[:-9], False, True),
}


@pytest.mark.parametrize("size", [7, 2**17])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("change, torn, cut", CHANGES.values(), ids=list(CHANGES))
def test_pages(change, torn, cut, subtype, size):
    data = encoded(subtype)
    data, pages = change(data, page_of(data, 4)), ogg.Pages()
    for start in range(0, len(data), size):
        pages.feed(data[start : start + size])
    assert (pages.torn, pages.cut) == (torn, cut)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_stream_with_a_hole(subtype, tmp_path):
    """All else is read, also what follows a stream that was cut, and at its end it is said."""
    data = encoded(subtype)
    for content, least in ((CHANGES["a byte"][0](data, page_of(data, 4)), 32000), (data[: page_of(data, 4) + 99] + data, 80000)):
        (tmp_path / "a.ogg").write_bytes(content)
        sound = Sound(str(tmp_path / "a.ogg"))
        assert len(sound.read(10**6)) > least
        with pytest.raises(UserError, match="is damaged: what cannot be read is left out"):
            sound.check()
