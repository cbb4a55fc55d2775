"""transcribe.py --microphone, with a microphone that is not there."""

import signal
import sys
import threading
import time
import types

import pytest
import soundfile
import torch
from talkative import json_lines, record, run

import transcribe


class NoDevice(Exception):
    pass


def press(microphone, before):
    """Press Ctrl-C once somebody listens and has heard everything."""
    while signal.getsignal(signal.SIGINT) is before or microphone.pieces.qsize():
        time.sleep(0.001)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def fake_sounddevice(blocks_of, rates=(16000,), own_rate=48000, overflow_at=None, unplugged=False):
    """A `sounddevice` whose one microphone plays `blocks_of(rate, blocksize)`, then has Ctrl-C pressed or is unplugged."""

    def query_devices(device, kind):
        if device not in (None, 0, "good") or not rates:
            raise (ValueError if isinstance(device, str) else NoDevice)(f"no device {device}")
        return {"default_samplerate": float(own_rate)}

    def check_input_settings(device, channels, dtype, samplerate):
        if samplerate not in rates:
            raise NoDevice("Invalid sample rate")

    class InputStream:
        def __init__(self, device, channels, dtype, samplerate, blocksize, callback, finished_callback):
            assert (channels, dtype) == (1, "float32") and samplerate in (*rates, own_rate)
            self.blocks, self.callback, self.finished = blocks_of(samplerate, blocksize), callback, finished_callback

        def start(self):
            for number, block in enumerate(self.blocks):
                flags = types.SimpleNamespace(input_overflow=number == overflow_at)
                self.callback(block[:, None], len(block), None, flags)
            if unplugged:
                self.finished()
            else:
                of = self.callback.__self__, signal.getsignal(signal.SIGINT)
                threading.Thread(target=press, args=of, daemon=True).start()

        def close(self):
            self.finished()

    module = types.ModuleType("sounddevice")
    module.PortAudioError, module.query_devices, module.check_input_settings = NoDevice, query_devices, check_input_settings
    module.InputStream = InputStream
    return module


@pytest.fixture
def listen(make_experiment, tmp_path, capsys, monkeypatch):
    """A function that transcribes a file through a fake microphone: exit code, output, lines of errors; and its transcript."""
    before = signal.getsignal(signal.SIGINT)
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"

    def transcript(*words, rate=16000, seconds=1.2, **options):
        text = record(folder, path, seconds, rate)
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])

        def blocks(at, size):
            assert at == rate
            return [block.numpy() for block in samples.split(size)]

        monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(blocks, rates=(rate,), **options))
        code = transcribe.main([str(folder), "--microphone", *words])
        out, err = capsys.readouterr()
        assert signal.getsignal(signal.SIGINT) == before
        return code, out, err.splitlines(), text

    return transcript


def test_microphone_until_interrupted(listen):
    code, out, _, text = listen()
    assert (code, out) == (0, text + "\n")
    code, out, _, text = listen("good", "--hop_ms", "300")
    assert (code, out) == (0, text + "\n")


def test_microphone_at_a_rate_of_its_own(listen):
    code, out, err, text = listen("0", "--json", rate=48000)
    *words, summary = json_lines(out)
    assert code == 0 and summary["text"] == text == " ".join(word["word"] for word in words)
    assert summary["rate"] == 48000 and summary["seconds"] == 1.2 and summary["file"] == "microphone"
    assert "48000 Hz" in err[0]


def test_microphone_that_overflows_or_stops(listen):
    code, out, err, text = listen(overflow_at=5)
    assert (code, out) == (0, text + "\n")
    assert [line for line in err if "overflow" in line] == ["audio was lost after 0.20 s: the input buffer overflowed"]
    code, out, err, text = listen(unplugged=True)
    assert (code, out) == (2, text + "\n")
    assert ["stopped after 1.20 s" in line for line in err if line.startswith("error: ")] == [True]


def test_microphone_that_nobody_listens_to_for_too_long(listen):
    """A minute may wait; more is lost, and that is said."""
    code, _, err, _ = listen("--hop_ms", "1000", "--json", seconds=70)
    assert code == 0 and len([line for line in err if "overflow" in line]) == 1
    assert [line for line in err if "could not keep up: 6" in line]


def test_microphone_that_is_not_there(make_experiment, capsys, monkeypatch, tmp_path):
    folder = make_experiment("llsa")
    code, out, (error,) = run(capsys, make_experiment("aa"), "--microphone")
    assert (code, out) == (2, "") and "no streaming form" in error
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # not installed
    code, out, (error,) = run(capsys, folder, "--microphone")
    assert (code, out) == (2, "") and "pip install" in error
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, (error,) = run(capsys, folder, "--microphone")
    assert (code, out) == (2, "") and "PortAudio" in error and "install" in error
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(None))
    for device in ("nosuch", "7"):
        code, out, (error,) = run(capsys, folder, "--microphone", device)
        assert (code, out) == (2, "") and f"microphone {device}" in error
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(None, rates=()))
    code, out, (error,) = run(capsys, folder, "--microphone")
    assert (code, out) == (2, "") and "the default microphone" in error
