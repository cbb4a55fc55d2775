"""Every sample that is there is read, whatever the header says, from a file and from a pipe."""

import io
import os
import struct
import threading

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from recipes.command_line import UserError
from recipes.LibriSpeech.data import dataset
from recipes.LibriSpeech.data.tree import check_audio
from recipes.LibriSpeech.sound import wav
from recipes.LibriSpeech.sound.reader import Sound

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
MP3 = encoded("MP3", "MPEG_LAYER_III")
SOUND = WAV[44:]
N = len(SOUND)
SIMPLE = {
    f"{form} {subtype} {rate} Hz x {channels}": encoded(form, subtype, rate, channels)
    for form, subtype, rate, channels in [
        *(("WAV", subtype, RATE, 1) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
        *(("WAV", subtype, 8000, 1) for subtype in ("IMA_ADPCM", "MS_ADPCM", "G721_32")),
        ("WAVEX", "PCM_24", RATE, 8),
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
    "an AU of unknown length": (encoded("AU")[:8] + b"\xff" * 4 + encoded("AU")[12:], WAV),
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
    "a FLAC with more than its header says": (FLAC[:21] + bytes([FLAC[21] & 0xF0, 0, 0, 1, 0]) + FLAC[26:], FLAC),
    "an ID3 tag before an MP3": (TAG + MP3, MP3),
}
SHORT = {form: encoded(form, samples=NOISE[:7000]) for form in ("WAV", "FLAC")}
CHAINS = {  # files in a row, and for each one that holds the same samples
    "two Vorbis": [(OGG, OGG), (OGG, OGG)],
    "Vorbis and Opus": [(OGG, OGG), (OPUS, OPUS), (OGG, OGG)],
    "two FLAC": [(FLAC, FLAC), (SHORT["FLAC"], SHORT["FLAC"])],
    "two FLAC of unknown length": [(unknown_length(FLAC), FLAC), (unknown_length(SHORT["FLAC"]), SHORT["FLAC"])],
    "three MP3 with tags": [(TAG + MP3 + b"TAG" + bytes(125), MP3), (MP3, MP3), (TAG + MP3, MP3)],
    "two WAV, the first of odd length": [
        (SIMPLE["WAV PCM_U8 16000 Hz x 1"] + LIST, SIMPLE["WAV PCM_U8 16000 Hz x 1"]),
        (WAV, WAV),
    ],
    "two WAV": [(WAV + LIST, WAV), (SIMPLE["WAVEX PCM_24 16000 Hz x 8"],) * 2],
}
LONG = {form: encoded(form, subtype, samples=np.tile(NOISE, 12)) for form, subtype in (("FLAC", "PCM_16"), ("OGG", "OPUS"))}
CUT = {  # what is there, the whole, and a number of samples that are in what is there
    "half a WAV": (WAV[: 44 + N // 2], [WAV], 6172),
    "a FLAC without its end": (FLAC[:-100], [FLAC], 8192),
    "half a FLAC": (FLAC[: len(FLAC) // 2], [FLAC], 4096),
    "half an Ogg": (LONG["OGG"][: len(LONG["OGG"]) // 2], [LONG["OGG"]], 48000),
    "an Ogg without its end": (LONG["OGG"][:-10], [LONG["OGG"]], 96000),
    "half of the second FLAC": (FLAC + LONG["FLAC"][: len(LONG["FLAC"]) // 2], [FLAC, LONG["FLAC"]], 81920),
}
EXACT = {
    "one": NOISE[:1],
    "full scale": np.array([-1.0, 1.0] * 1000),
    "beyond it": np.array([-3.0, 7.5] * 1000),
    "all the same": np.full(1000, 0.25),
    "silence": np.zeros(1000),
    "no numbers": np.array([0.5, np.nan, np.inf, -np.inf, np.nan]),
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
def test_formats(both_ways, name):
    samples, sound = both_ways(SIMPLE[name])
    expected, rate = whole(SIMPLE[name])
    assert sound.rate == rate and not sound.damaged and len(samples) == len(expected) > 0
    np.testing.assert_allclose(samples, expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("name", HEADERS)
def test_lengths_in_headers(both_ways, name):
    data, right = HEADERS[name]
    samples, sound = both_ways(data)
    assert not sound.damaged
    np.testing.assert_allclose(samples, whole(right)[0], rtol=0, atol=3e-7)


@pytest.mark.parametrize("name", CHAINS)
def test_several_in_a_row_are_one_sound(both_ways, name):
    parts, alone = zip(*CHAINS[name])
    samples, sound = both_ways(b"".join(parts))
    np.testing.assert_allclose(samples, np.concatenate([whole(data)[0] for data in alone]), rtol=0, atol=3e-7)
    assert not sound.damaged


@pytest.mark.parametrize("rate, other", [(16000, 8000), (8000, 44100)])
def test_a_row_of_different_rates_has_that_of_the_first(both_ways, rate, other):
    first, second = (encoded("OGG", "VORBIS", each) for each in (rate, other))
    samples, sound = both_ways(first + second)
    after = resample(torch.from_numpy(whole(second)[0]), other, rate).numpy()
    assert sound.rate == rate
    np.testing.assert_allclose(samples, np.concatenate([whole(first)[0], after]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_off_is_read_up_to_there(both_ways, name):
    data, right, least = CUT[name]
    samples, sound = both_ways(data)
    expected = np.concatenate([whole(each)[0] for each in right])
    assert sound.damaged and least <= len(samples) < len(expected)
    np.testing.assert_allclose(samples, expected[: len(samples)], rtol=0, atol=3e-7)


def test_what_comes_before_a_bad_part_is_kept(both_ways):
    """However long the pieces are."""
    for second in (encoded(rate=999), b"RIFF\0\0\0\0WAVEdata\0\0\0\0"):
        samples, sound = both_ways(WAV + second)
        np.testing.assert_array_equal(samples, whole(WAV)[0])
        with pytest.raises(UserError, match="999 Hz|without a format"):
            sound.check()


@pytest.mark.parametrize("name", EXACT)
def test_samples_stay_as_they_are(both_ways, name):
    """What is not a number of a usual size is found where the pieces are fed, see `AudioFile`."""
    samples, _ = both_ways(encoded(subtype="DOUBLE", samples=EXACT[name]))
    np.testing.assert_array_equal(samples, EXACT[name].astype("float32"))


def test_a_wav_longer_than_32_bits_hold(both_ways, monkeypatch):
    """It goes to libsndfile in parts, which begin where a block of samples does."""
    monkeypatch.setattr(wav, "LONGEST", 1000)
    for data in (WAV, sized(0, 0), encoded(subtype="PCM_24", channels=7), SIMPLE["WAV FLOAT 16000 Hz x 1"]):
        samples, sound = both_ways(data)
        np.testing.assert_allclose(samples, NOISE, atol=1e-4)
        assert not sound.damaged


def test_raw(both_ways):
    samples, sound = both_ways(SOUND, raw=8000)
    np.testing.assert_array_equal(samples, whole(WAV)[0])
    assert sound.rate == 8000
    assert len(both_ways(SOUND[:-1], raw=8000)[0]) == len(samples) - 1
    for data in (WAV, FLAC, OGG):
        with pytest.raises(UserError, match="leave --raw out"):
            both_ways(data, raw=16000)


def test_preparation_finds_the_same_samples(tmp_path):
    path = tmp_path / "a.flac"
    for data in (FLAC, unknown_length(FLAC), TAG + FLAC):
        path.write_bytes(data)
        assert check_audio(path).samples == len(NOISE)
        np.testing.assert_array_equal(dataset.read(str(path), len(NOISE) / RATE), read(path)[0])
