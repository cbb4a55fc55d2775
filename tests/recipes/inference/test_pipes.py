"""transcribe.py reads pipes: words come while they are open, nothing waits for the end, and none is opened twice."""

import io
import os
import pty
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
import soundfile
from talkative import json_lines, record, speech

from recipes.LibriSpeech.sound.reader import Sound
from recipes.LibriSpeech.sound.tape import Tape
from tests.faults.process import Started, wait_for

HEADER = 44


def unclosed(data):
    """A WAV as a program writes it that does not know how much will come."""
    return data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[HEADER:]


@pytest.fixture
def through_pipe(make_experiment, tmp_path):
    """A function that starts transcribe.py on a pipe, and gives it, and the pipe to write to."""
    pipe, here = tmp_path / "pipe", tmp_path / "here"
    here.mkdir()

    def begin(*words, case="llsa"):
        os.mkfifo(pipe)
        started = Started("transcribe", [make_experiment(case), *words], here, stdin=pipe)
        file = open(pipe, "wb", buffering=0)
        pipe.unlink()
        return started, file

    return begin


def said(started):
    return started.paths[0].read_text()


@pytest.fixture
def sounds(make_experiment, tmp_path):
    """A function that gives the bytes of a recording, in a form, and its text."""

    def make(form, subtype):
        path = tmp_path / f"a.{form.lower()}"
        text = record(make_experiment("llsa"), path, 8, subtype=subtype)
        return path.read_bytes(), text

    return make


@pytest.mark.parametrize("form, subtype, least", [("WAV", "PCM_16", 0.4), ("FLAC", "PCM_16", 0.3), ("OGG", "VORBIS", 0.1)])
def test_words_come_while_the_pipe_is_open(through_pipe, sounds, form, subtype, least):
    data, text = sounds(form, subtype)
    data = unclosed(data) if form == "WAV" else data
    started, pipe = through_pipe("-")
    pipe.write(data[: len(data) // 2])
    wait_for(lambda: len(said(started)) > least * len(text))
    assert text.startswith(said(started))
    pipe.write(data[len(data) // 2 :])
    pipe.close()
    ended = started.wait()
    assert (ended.code, ended.out) == (0, text + "\n")


def test_raw_samples_come_one_by_one(through_pipe, sounds):
    """Bytes that end inside a sample wait for the rest of it."""
    data, text = sounds("WAV", "PCM_16")
    started, pipe = through_pipe("/dev/stdin", "--raw", 16000)
    for start in range(HEADER, len(data), 3333):
        pipe.write(data[start : start + 3333])
    pipe.close()
    ended = started.wait()
    assert (ended.code, ended.out) == (0, text + "\n")


def test_words_have_the_same_times_as_those_of_the_file(through_pipe, sounds, tmp_path, make_experiment):
    data, text = sounds("FLAC", "PCM_16")
    started, pipe = through_pipe("-", "--json")
    pipe.write(data)
    pipe.close()
    *words, summary = json_lines(started.wait().out)
    *expected, _ = json_lines(
        Started("transcribe", [make_experiment("llsa"), tmp_path / "a.flac", "--json"], tmp_path / "here").wait().out
    )
    assert [{**word, "file": "-"} for word in expected] == words and len(words) > 5
    assert (summary["text"], summary["seconds"], summary["file"]) == (text, 8.0, "-")


def test_a_pipe_that_breaks_off(through_pipe, sounds):
    """What came is transcribed, and the line says from where on there is nothing."""
    data, text = sounds("WAV", "PCM_16")
    started, pipe = through_pipe("-")
    pipe.write(data[: HEADER + 2 * 16000 * 4])
    pipe.close()
    ended = started.wait()
    (error,) = ended.errors
    assert ended.code == 2 and "standard input is damaged 4.00 s after its start" in error
    assert ended.out.endswith("\n") and text.startswith(ended.out[:-5]) and len(ended.out) > 0.4 * len(text)


def test_nobody_writes_and_the_user_has_enough(through_pipe, sounds):
    for first in (b"", sounds("WAV", "PCM_16")[0][:20000]):
        started, pipe = through_pipe("-")
        pipe.write(first)
        if first:
            wait_for(lambda: said(started))
        else:
            time.sleep(0.5)
        started.kill(signal.SIGINT)
        ended = started.wait()
        pipe.close()
        assert ended.code == 130 and not ended.errors and not ended.traceback


def test_a_terminal_is_no_sound(make_experiment, tmp_path):
    (tmp_path / "here").mkdir()
    master, slave = pty.openpty()
    try:
        ended = Started("transcribe", [make_experiment("llsa"), "-"], tmp_path / "here", stdin=os.ttyname(slave)).wait(20)
    finally:
        os.close(master)
        os.close(slave)
    (error,) = ended.errors
    assert ended.code == 2 and "standard input is a terminal" in error


def test_an_hour_fits_into_little_memory():
    reading, writing = os.pipe()
    piece = (speech(60)[:, 0] * 3000).astype("<i2").tobytes()

    def write():
        with open(writing, "wb") as file:
            for _ in range(60):
                file.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    tracemalloc.start()
    sound, samples = Sound(f"/dev/fd/{reading}", raw=16000), 0
    os.close(reading)
    tracemalloc.reset_peak()
    while len(block := sound.read(16000)):
        samples += len(block)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    writer.join()
    assert samples == 3600 * 16000 and highest < 2**22


def test_a_pipe_that_does_not_wait():
    """Its reader asks again when there is something."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    data = io.BytesIO()
    soundfile.write(data, np.linspace(-0.5, 0.5, 9000), 16000, format="WAV")

    def write():
        for start in range(0, len(data.getvalue()), 4000):
            os.write(writing, data.getvalue()[start : start + 4000])
            time.sleep(0.02)
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    tape = Tape(io.FileIO(reading), "pipe")
    assert tape.peek(2) == b"RI" and tape.take(99999) == data.getvalue()
    writer.join()


def test_errors_leave_the_other_texts_alone(make_experiment, tmp_path, sounds):
    data, text = sounds("FLAC", "PCM_16")
    here = tmp_path / "here"
    here.mkdir()
    for name, content in (("a.flac", data), ("b.m4a", b"\0\0\0\x20ftypM4A "), ("c.flac", data[:30000]), ("d.flac", data)):
        (here / name).write_bytes(content)
    words = ["a.flac", "b.m4a", "nowhere.wav", "c.flac", "-", "d.flac"]
    for extra in ([], ["--batch", "4"], ["--hop_ms", "333"]):
        ended = Started("transcribe", [make_experiment("llsa"), *words, *extra], here).wait()
        lines = dict(line.split("\t") for line in ended.out.splitlines())
        assert ended.code == 2 and len(ended.errors) == 4
        assert sorted(lines) == ["a.flac", "c.flac", "d.flac"] and lines["a.flac"] == lines["d.flac"] == text
        assert text.startswith(lines["c.flac"][:-5])
