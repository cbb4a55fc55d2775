"""Every sample that is there is read, whatever the header says, from a file and from a pipe."""

import io
import os
import struct
import threading

import numpy as np
import pytest
import soundfile

from recipes.LibriSpeech.sound.reader import Sound, measure

RATE = 16000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 12345)
LIST = b"LIST" + struct.pack("<I", 2000) + b"INFO" + b"loud" * 499
TAG = b"ID3\x03\x00\x00" + bytes([0, 0, 7, 104]) + bytes(1000)


def encoded(form="WAV", subtype="PCM_16", rate=RATE, channels=1, samples=NOISE, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, np.repeat(samples[:, None], channels, axis=1), rate, format=form, subtype=subtype, **options)
    return file.getvalue()


def whole(data):
    """What libsndfile makes of a file that is as it should be, all at once: (samples,) and the rate."""
    samples, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    return samples.mean(axis=1), rate


def sized(riff, data, sound=None, after=b""):
    """A WAV with these two lengths in its header."""
    sound = encoded()[44:] if sound is None else sound
    return b"RIFF" + struct.pack("<I", riff) + encoded()[8:40] + struct.pack("<I", data) + sound + after


def unknown_length(flac):
    """A FLAC whose header has no number of samples."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def rf64(length, sound):
    body = b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", 0, length, 0, 0)) + encoded()[12:36] + b"data" + b"\xff" * 4 + sound
    return b"RF64" + b"\xff" * 4 + body


WAV, FLAC, OGG, OPUS = encoded(), encoded("FLAC"), encoded("OGG", "VORBIS"), encoded("OGG", "OPUS")
SOUND = WAV[44:]
N = len(SOUND)
SIMPLE = {
    f"{form} {subtype} {rate} Hz x {channels}": encoded(form, subtype, rate, channels)
    for form, subtype, rate, channels in [
        *(("WAV", subtype, RATE, 1) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
        *(("WAV", subtype, 8000, 1) for subtype in ("IMA_ADPCM", "MS_ADPCM", "G721_32")),
        ("WAVEX", "PCM_24", 48000, 8),
        ("WAV", "PCM_16", 768000, 2),
        ("WAV", "PCM_16", 1000, 1),
        ("RF64", "PCM_16", 44100, 2),
        ("W64", "PCM_16", RATE, 1),
        ("FLAC", "PCM_24", 192000, 8),
        ("FLAC", "PCM_S8", 8000, 1),
        ("OGG", "VORBIS", 44100, 2),
        ("OGG", "OPUS", 48000, 2),
        ("MP3", "MPEG_LAYER_III", 22050, 2),
        ("AIFF", "PCM_16", RATE, 1),
        ("CAF", "ALAC_16", RATE, 2),
        ("AU", "ULAW", 8000, 1),
        ("NIST", "PCM_16", RATE, 1),
        ("VOC", "PCM_16", RATE, 1),
    ]
}
HEADERS = {  # a file, and a sound one that holds the same samples
    "a WAV that was never closed": (sized(0, 0), WAV),
    "closed by Python's wave with nothing in it": (sized(36, 0), WAV),
    "by libsndfile": (sized(8, 0), WAV),
    "a WAV from ffmpeg through a pipe": (sized(0xFFFFFFFF, 0xFFFFFFFF), WAV),
    "from sox": (sized(0x7FFFF024, 0x7FFFF000), WAV),
    "from arecord": (sized(0x80000024, 0x80000000), WAV),
    "a wrong RIFF length": (sized(100, N), WAV),
    "LIST behind the sound": (sized(36 + N + len(LIST), N, after=LIST), WAV),
    "LIST before the sound": (WAV[:12] + LIST + WAV[12:], WAV),
    "chunks of odd length": (WAV[:12] + chunk(b"junk", b"abc") + WAV[12:] + chunk(b"cue ", b"odd"), WAV),
    "one byte too many": (WAV + b"\0", WAV),
    "half a sample at the end": (sized(0, 0, SOUND + b"\1"), WAV),
    "zeros behind the sound": (WAV + bytes(1000), WAV),
    "an odd length": (sized(36 + N - 1, N - 1), encoded(samples=NOISE[:-1])),
    "RF64": (rf64(N, SOUND) + LIST, WAV),
    "RF64 that was never closed": (rf64(0, SOUND), WAV),
    "RF64 of the longest length": (rf64(2**64 - 1, SOUND), WAV),
    "a FLAC of unknown length": (unknown_length(FLAC), FLAC),
    "an ID3 tag before a FLAC": (TAG + FLAC, FLAC),
    "two ID3 tags, and unknown length": (TAG + TAG + unknown_length(FLAC), FLAC),
    "an ID3 tag behind a FLAC": (FLAC + b"TAG" + bytes(125), FLAC),
    "an ID3 tag before an MP3": (TAG + encoded("MP3", "MPEG_LAYER_III"), encoded("MP3", "MPEG_LAYER_III")),
}
CHAINS = {
    "two Vorbis": (OGG, encoded("OGG", "VORBIS", samples=NOISE[:7000])),
    "Vorbis and Opus": (OGG, OPUS, OGG),
    "two FLAC": (FLAC, encoded("FLAC", samples=NOISE[:7000])),
    "two FLAC of unknown length": (unknown_length(FLAC), unknown_length(encoded("FLAC", channels=2))),
    "two WAV": (WAV + LIST, encoded(subtype="PCM_24", channels=2)),
}


def read(name, piece=777, **options):
    """All samples, float32, and the `Sound`."""
    sound, pieces = Sound(str(name), **options), []
    while not pieces or len(pieces[-1]) == piece:
        pieces.append(sound.read(piece))
    return np.concatenate(pieces).astype("float32"), sound


@pytest.fixture
def both_ways(tmp_path):
    """A function that reads bytes as a file and through a pipe, a few at a time; the same comes of both."""

    def read_both(data, **options):
        path, pipe = tmp_path / "file", tmp_path / "pipe"
        path.write_bytes(data)
        samples, sound = read(path, **options)
        os.mkfifo(pipe)
        steps = [data[i : i + 999] for i in range(0, min(len(data), 99900), 999)] + [data[99900:]]

        def write():
            with open(pipe, "wb", buffering=0) as file:
                for step in steps:
                    file.write(step)

        writer = threading.Thread(target=write)
        writer.start()
        piped, other = read(pipe, 320, **options)
        writer.join()
        pipe.unlink()
        np.testing.assert_array_equal(piped, samples)
        assert (other.rate, other.damaged) == (sound.rate, sound.damaged)
        return samples, sound

    return read_both


@pytest.mark.parametrize("name", SIMPLE)
def test_formats(both_ways, tmp_path, name):
    samples, sound = both_ways(SIMPLE[name])
    expected, rate = whole(SIMPLE[name])
    assert sound.rate == rate and not sound.damaged and len(samples) == len(expected) > 0
    np.testing.assert_allclose(samples, expected, rtol=0, atol=3e-7)
    assert measure(tmp_path / "file") == (rate, soundfile.info(tmp_path / "file").channels, len(samples))


@pytest.mark.parametrize("name", HEADERS)
def test_lengths_in_headers(both_ways, tmp_path, name):
    data, right = HEADERS[name]
    samples, sound = both_ways(data)
    assert not sound.damaged
    np.testing.assert_allclose(samples, whole(right)[0], rtol=0, atol=3e-7)
    assert measure(tmp_path / "file") == (RATE, 1, len(samples))


@pytest.mark.parametrize("name", CHAINS)
def test_several_in_a_row_are_one_sound(both_ways, name):
    samples, sound = both_ways(b"".join(CHAINS[name]))
    alone = [
        soundfile.read(io.BytesIO(data if "unknown" not in name else right), always_2d=True)[0].mean(axis=1)
        for data, right in zip(CHAINS[name], (FLAC, encoded("FLAC", channels=2), OGG))
    ]
    np.testing.assert_allclose(samples, np.concatenate(alone), rtol=0, atol=3e-7)
    assert not sound.damaged
