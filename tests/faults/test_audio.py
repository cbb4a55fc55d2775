"""Files that are no sound, pipes, and names, given to transcribe.py."""

import gzip
import os
import shlex
import socket
import threading

import numpy as np
import pytest
import soundfile

from tests.faults.case import Case, check
from tests.faults.process import run

NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 16000)
ZEROS = bytes(600)


def holding(data, *names):
    """Make files that hold these bytes."""
    return lambda place: [(place.here / name).write_bytes(data) for name in names]


def sound(*names, **options):
    """Make sound files."""
    return lambda place: [soundfile.write(place.here / name, NOISE, **{"samplerate": 16000, **options}) for name in names]


def ogg(first_packet):
    return b"OggS\0\2" + bytes(20) + bytes([1, len(first_packet)]) + first_packet + ZEROS


def no_sound(name, data, *words, **options):
    """A case of a file that libsndfile does not read."""
    return Case(f"transcribe $run {shlex.quote(name)}", (name, *words), before=holding(data, name), **options)


def converted(name, data, kind):
    """A case of a file that ffmpeg reads."""
    return no_sound(name, data + ZEROS, f"it is {kind}", f"ffmpeg -i {name} -ac 1 -ar 16000 {name.split('.')[0]}.wav")


SIGNATURES = (
    converted("a.m4a", b"\0\0\0\x20ftypM4A \0\0\2\0", "MPEG-4"),
    converted("a.mp4", b"\0\0\0\x18ftypmp42", "MPEG-4"),
    converted("a.mov", b"\0\0\0\x14ftypqt  ", "MPEG-4"),
    converted("a.webm", b"\x1aE\xdf\xa3\x9fB\x86\x81\1", "Matroska or WebM"),
    converted("a.mkv", b"\x1aE\xdf\xa3\1\0\0\0", "Matroska or WebM"),
    converted("a.amr", b"#!AMR\n", "AMR"),
    converted("a.wma", b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", "Windows Media"),
    converted("a.aac", b"\xff\xf1\x50\x80", "AAC"),
    converted("a.ape", b"MAC \x96\x0f", "Monkey's Audio"),
    converted("a.wv", b"wvpk\x20\0", "WavPack"),
    converted("a.spx", ogg(b"Speex   1.2"), "Speex in Ogg"),
    converted("a.avi", b"RIFF\0\1\0\0AVI LIST", "AVI"),
    converted("a.ts", b"G" + bytes(187) + b"G", "an MPEG transport stream"),
    no_sound("a.wav", b"\0\0\0\x20ftypM4A " + ZEROS, "ffmpeg -i a.wav -ac 1 -ar 16000 a-converted.wav"),
    no_sound("it's a.m4a", b"\0\0\0\x20ftypM4A ", """ffmpeg -i 'it'"'"'s a.m4a'"""),
    no_sound("lfs.flac", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    no_sound("page.wav", b"<!DOCTYPE html>\n<html><body>404 Not Found", "a web page", "download"),
    no_sound("page.flac", b"\xef\xbb\xbf\n<HTML>", "a web page"),
    no_sound("denied.mp3", b'<?xml version="1.0"?><Error>AccessDenied</Error>', "a web page"),
    no_sound("answer.wav", b'{"error": "quota"}', "JSON"),
    no_sound("words.txt", "the quick brown fox, grün\n".encode(), "it is text"),
    no_sound("a.flac.gz", gzip.compress(b"fLaC" * 100), "gunzip"),
    no_sound("a.zip", b"PK\3\4" + ZEROS, "unzip"),
    no_sound("a.wav.xz", b"\xfd7zXZ\0" + ZEROS, "unxz"),
    no_sound("a.tar", b"a.flac" + bytes(251) + b"ustar\0" + ZEROS, "tar -xf"),
    no_sound("a.pdf", b"%PDF-1.7" + ZEROS, "PDF"),
    no_sound("a.png", b"\x89PNG\r\n" + ZEROS, "a picture"),
    no_sound("a.mid", b"MThd\0\0\0\6" + ZEROS, "MIDI"),
    no_sound("a.pcm", (NOISE * 30000).astype("<i2").tobytes(), "--raw RATE"),
    no_sound("zeros", bytes(5000), "--raw RATE"),
    no_sound("cut.wav", b"RIFF\0\0\0\0WAVEfmt ", "cut off"),
    no_sound("zeros.wav", b"RIFF\0\0\0\0WAVE" + ZEROS, "a damaged header"),
    no_sound("formless.wav", b"RIFF\0\0\0\0WAVEdata\0\1\0\0" + ZEROS, "without a format"),
    no_sound("head.flac", b"fLaC" + bytes(100), "damaged"),
    no_sound("head.ogg", b"OggS\0\2" + bytes(10), "damaged"),
    no_sound("empty.wav", b"", "is empty"),
)


def pipe_with_sound(place):
    """A sound on standard input, through a file."""
    soundfile.write(place.here / "in.wav", NOISE, 16000)


def unaligned(place):
    """A WAV whose header leaves out the bytes of a sample, which follow from the rest."""
    pipe_with_sound(place)
    data = (place.here / "in.wav").read_bytes()
    (place.here / "a.wav").write_bytes(data[:32] + bytes(2) + data[34:])


def torn(place):
    """An Ogg with a byte that is wrong."""
    soundfile.write(place.here / "a.ogg", NOISE, 16000)
    data = bytearray((place.here / "a.ogg").read_bytes())
    data[len(data) // 2] ^= 1
    (place.here / "a.ogg").write_bytes(data)


def pipe_with_mp3(place):
    """An MP3 on standard input, through a pipe."""
    soundfile.write(place.here / "a.mp3", NOISE, 16000)
    os.mkfifo(place.here / "pipe")
    threading.Thread(target=lambda: (place.here / "pipe").write_bytes((place.here / "a.mp3").read_bytes()), daemon=True).start()


def make_socket(place):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(place.here / "socket"))


def odd_names(place):
    for name in ODD_NAMES:
        soundfile.write(os.fsencode(place.here) + b"/" + name, NOISE, 16000, format="WAV")


ODD_NAMES = (
    b"-a.wav",
    b"--raw",
    b"a\nb.wav",
    b"a\tb.wav",
    b"\xff\xfe.wav",
    "ü 語.wav".encode(),
    b"a" * 250 + b".wav",
    b"$HOME.wav",
    b"%s.wav",
)
STDIN, PIPE = {"stdin": "in.wav"}, {"stdin": "pipe"}
FULL = {**PIPE, "limits": {"RLIMIT_FSIZE": 1000}}
OTHERS = (
    Case("transcribe $run -", ("standard input", "it is empty")),
    Case("transcribe $run - --json", ('"file": "-"', '"seconds": 1.0'), 0, before=pipe_with_sound, process=STDIN),
    Case("transcribe $run - in.wav", ("-\t", "in.wav\t"), 0, before=pipe_with_sound, process=STDIN),
    Case("transcribe $run a.ogg", ("a.ogg is damaged: what cannot be read is left out",), before=torn),
    Case("transcribe $run a.wav --json", ('"seconds": 1.0',), 0, before=unaligned),
    Case("transcribe $run in.wav - --batch 2", ("-\t", "in.wav\t"), 0, before=pipe_with_sound, process=STDIN),
    Case("transcribe $run /dev/stdin", (), 0, before=pipe_with_sound, process=STDIN),
    Case("transcribe $run - --json", ('"seconds": 1.0',), 0, before=pipe_with_mp3, process=PIPE),
    Case(
        "transcribe $run -",
        ("cannot copy standard input to", "File too large", "TMPDIR"),
        before=pipe_with_mp3,
        process=FULL,
    ),
    Case("transcribe $run - -", ("- can be read once",), before=pipe_with_sound, process=STDIN),
    Case("transcribe $run /dev/null /dev/null", ("/dev/null can be read once",)),
    Case("transcribe $run - --microphone", ("one of them",)),
    Case("transcribe $run - --raw 16000 --microphone", ("one of them",)),
    Case("transcribe $run --raw 16000 --microphone", ("--raw", "leave it out")),
    Case(
        "transcribe $run - --raw 16000", ("standard input has a header", "leave --raw out"), before=pipe_with_sound, process=STDIN
    ),
    Case(
        "transcribe $run a.pcm --raw 8000 --json",
        ('"seconds": 2.0', '"rate": 8000'),
        0,
        before=holding((NOISE * 9).astype("<i2").tobytes(), "a.pcm"),
    ),
    Case("transcribe $run a.pcm --raw 0", ("--raw 0 must be a rate from 1000",)),
    Case("transcribe $run a.pcm --raw -16000", ("--raw -16000 must be a rate",)),
    Case("transcribe $run a.pcm --raw 16k", ("--raw: invalid int value: '16k'",)),
    Case("transcribe $run a.pcm --raw", ("--raw: expected one argument",)),
    Case("transcribe $run a.pcm --raw 8000", ("a.pcm is empty",), before=holding(b"\1", "a.pcm")),
    Case("transcribe $run *.flac", ("*.flac", "No such file")),
    Case("transcribe $run ''", ("is empty",)),
    Case("transcribe $run .", ("Is a directory",)),
    Case("transcribe $run socket", ("cannot read socket: ",), before=make_socket),
    Case("transcribe $run /dev/null", ("/dev/null", "it is empty")),
    Case("transcribe $run /dev/zero", ("/dev/zero", "no format that libsndfile knows")),
    Case("transcribe $run /proc/self/mem", ("/proc/self/mem", "Input/output error")),
    Case("transcribe $run " + "a" * 300, ("File name too long",)),
    Case("transcribe $run slow.wav", ("500 Hz", "1000"), before=sound("slow.wav", samplerate=500)),
    Case("transcribe $run one.wav one.wav", ("one.wav\t",), 0, before=sound("one.wav")),
    Case("transcribe $run -- -a.wav", (), 0, before=odd_names),
    Case("transcribe $run one.wav --hop_ms 0 --batch 0", ("--hop_ms 0",)),
    Case("transcribe $run one.wav --hop_ms nan --json", ("--hop_ms nan",)),
    Case("transcribe $run one.wav --hop_ms 1e400", ("--hop_ms inf",)),
    Case("transcribe $run one.wav --batch 99999999999999999999", (), 0, before=sound("one.wav")),
)


@pytest.mark.parametrize("case", SIGNATURES + OTHERS, ids=str)
def test_audio(case, place):
    check(case, place)


def test_odd_names(place):
    """Each has its text on a line of its own, and a tab before it."""
    odd_names(place)
    names = [os.fsdecode(name) for name in ODD_NAMES]
    ended = run("transcribe", [place.run, "--", *names], place.here)
    lines = ended.out.splitlines()
    assert ended.code == 0 and [line.count("\t") for line in lines] == [1] * len(names)
    assert lines[2].startswith("a\\nb.wav\t") and lines[4].startswith("\\udcff\\udcfe.wav\t")
    assert len({line.split("\t")[1] for line in lines}) == 1
