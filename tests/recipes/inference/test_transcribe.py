"""transcribe.py: the words of the offline model, for any hop, kind of file and company; times, pace, bad input, microphone."""

import functools
import io
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import soundfile
import torch
from speech_attention.model import SpeechEncoder
from speechbrain.utils.checkpoints import Checkpointer
from tiny import ROOT, arguments
from torchaudio.functional import resample

import train
import transcribe
from recipes.LibriSpeech import experiment, run_folder
from recipes.LibriSpeech.data.dataset import TOKENS
from recipes.LibriSpeech.decoding.wer import greedy_words
from recipes.LibriSpeech.inference import loading

CASES = {"aa": "", "sa": "", "maa": "", "llsa": "", "summary_mixing": "", "sa-shared": "owners: [0]"}
CASES["llsa-chunk8"] = "attention: {chunk: 8}"
BLOCKS = {"transformer": "", "conformer": "block: !name:speech_attention.blocks.ConformerBlock {kernel_size: 5}"}
FRAME, LOOKAHEAD = 0.04, {"sa": 8, "llsa": 4}  # s; frames of 2 layers, or in all
CLEAR = 1e-3
"""Of the best token over the next one, in every frame: float32 rounds these log-probabilities by up to 1.3e-4."""


def speech(seconds, rate=16000, channels=1, seed=0):
    """Something that changes as often as speech does: a chord every tenth of a second, and noise, (samples, channels)."""
    random, samples = np.random.default_rng(seed), round(seconds * rate)
    note = max(1, rate // 10)
    parts, times = [], np.arange(note) / rate
    for _ in range(-(-samples // note)):
        pitches, volumes = random.uniform(100, 0.4 * rate, 4), random.uniform(0, 0.1, 4)
        parts.append(volumes @ np.sin(2 * np.pi * pitches[:, None] * times) + 0.01 * random.standard_normal(note))
    return np.concatenate(parts)[:samples, None] * random.uniform(0.5, 1, channels)


@pytest.fixture(scope="module")
def make_experiment(tmp_path_factory):
    """A function from a case and a block to the folder of a small experiment, not trained, and talkative."""

    @functools.cache
    def make(case, block="transformer"):
        small = "dim: 16\nffn_dim: 16\nnum_layers: 2\nnum_heads: 2\n"
        yaml = ROOT / "hparams" / f"{case.partition('-')[0]}.yaml"
        text = experiment.resolve(yaml, f"{small}{CASES[case]}\n{BLOCKS[block]}")
        hparams, _ = experiment.build(text)
        folder, model = tmp_path_factory.mktemp(case), hparams["model"].eval()
        samples = torch.from_numpy(speech(20, seed=99)[:, 0]).float()
        model.front_end.fit([samples])
        with torch.no_grad():  # random directions in the space that the frames fill, so that the best token changes often
            frames = SpeechEncoder.forward(model, samples[None], torch.tensor([len(samples)]))[0][0]
            _, spread, directions = torch.linalg.svd(frames - frames.mean(dim=0), full_matrices=False)
            scaled = directions[:5] / spread[:5, None] * len(frames) ** 0.5
            model.head.weight.copy_(3 * torch.randn(len(TOKENS), 5, generator=torch.Generator().manual_seed(0)) @ scaled)
            model.head.bias.copy_(-model.head.weight @ frames.mean(dim=0))
            model.head.bias[TOKENS.index(" ")] += 6
        run_folder.save(folder, text, data={}, command="")
        Checkpointer(folder / "finetune" / "checkpoints", {"model": model}).save_checkpoint(meta={"WER": 100.0})
        return folder

    return make


def offline(folder, path):
    """The transcript of a file by the model as a whole, and by how much its closest decision was made."""
    samples, rate = soundfile.read(path, always_2d=True)
    samples = resample(torch.from_numpy(samples.mean(axis=1)), rate, 16000).float()
    model = loading.load(folder).model
    with torch.inference_mode():
        log_probs, lengths = model(samples[None], torch.tensor([len(samples)]))
    first, second = log_probs[0].topk(2).values.unbind(dim=-1)
    return " ".join(greedy_words(log_probs, lengths, TOKENS)[0]), (first - second).min()


def record(folder, path, seconds, rate=16000, channels=1, subtype="FLOAT"):
    """Write a file on whose every frame the model is clear; returns its transcript."""
    for seed in itertools.count():
        soundfile.write(path, speech(seconds, rate, channels, seed), rate, subtype=subtype)
        text, margin = offline(folder, path)
        if text and margin > CLEAR:
            return text


def run(capsys, *words):
    """Exit code, standard output, and the lines of errors."""
    code = transcribe.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("error: ")]


def lines_of(paths, texts):
    return "".join(f"{path}\t{text}\n" for path, text in zip(paths, texts))


@pytest.mark.parametrize("block, long_hops", [("transformer", (37, 1000)), ("conformer", (160, 1000))])
@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c != "sa")) for c in CASES if c != "aa"])
def test_the_words_do_not_depend_on_the_hop(make_experiment, tmp_path, capsys, case, block, long_hops):
    folder = make_experiment(case, block)
    paths = [tmp_path / f"{seconds}.wav" for seconds in (0.05, 0.3, 1.7, 35)]
    texts = [record(folder, path, float(path.stem)) for path in paths]
    assert len(texts[-1].split()) > 50
    for hop in (None, 20, 37, 160, 1000):
        some = len(paths) if hop in long_hops else 3
        code, out, errors = run(capsys, folder, *paths[:some], *(("--hop_ms", hop) if hop else ()))
        assert (code, out, errors) == (0, lines_of(paths[:some], texts), [])


@pytest.mark.parametrize("case", ["llsa", "aa"])
def test_files_of_every_kind(make_experiment, tmp_path, capsys, case):
    folder = make_experiment(case)
    kinds = {
        "stereo.wav": {"rate": 44100, "channels": 2, "subtype": "PCM_16"},
        "float.wav": {"rate": 48000, "channels": 3},
        "phone.flac": {"rate": 8000, "subtype": "PCM_16"},
        "low.wav": {"rate": 11025, "subtype": "PCM_U8"},
        "music.ogg": {"rate": 22050, "channels": 2, "subtype": "VORBIS"},
        "plain.flac": {"subtype": "PCM_24"},
        "click.wav": {"rate": 8000, "seconds": 0.0008},  # less than the filter of the resampler reads ahead
    }
    paths = [tmp_path / name for name in kinds]
    texts = [record(folder, path, **{"seconds": 1.2, **kinds[path.name]}) for path in paths]
    assert len(set(texts)) == len(texts)
    for hop in ((), ("--hop_ms", 500)):
        assert run(capsys, folder, *paths, *hop) == (0, lines_of(paths, texts), [])


def test_side_by_side(make_experiment, tmp_path, capsys):
    folder = make_experiment("llsa", "conformer")
    seconds = (1.5, 0.3, 2.2, 0.05, 0.9, 3.1, 0.7)
    paths = [tmp_path / f"{second}.wav" for second in seconds]
    texts = [record(folder, path, float(path.stem), rate=8000 if path.stem == "0.9" else 16000) for path in paths]
    code, out, _ = run(capsys, folder, *paths, "--batch", 3)
    assert code == 0 and sorted(out.splitlines()) == sorted(lines_of(paths, texts).splitlines())
    ended = [line.split("\t")[0] for line in out.splitlines()]
    assert ended[:2] == [str(tmp_path / "0.3.wav"), str(tmp_path / "0.05.wav")]  # which took its place
    assert ended[-1] == str(tmp_path / "3.1.wav")
    one_by_one = json_lines(run(capsys, folder, *paths, "--json")[1])
    batched = json_lines(run(capsys, folder, *paths, "--json", "--batch", 3)[1])
    for path, text in zip(paths, texts):
        words = [line for line in one_by_one if line["file"] == str(path) and "word" in line]
        assert words == [line for line in batched if line["file"] == str(path) and "word" in line]
        assert " ".join(line["word"] for line in words) == text


def json_lines(out):
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("case", LOOKAHEAD)
def test_times_of_words(make_experiment, tmp_path, capsys, case):
    folder, path, ahead = make_experiment(case), tmp_path / "a.wav", LOOKAHEAD[case]
    text, samples = record(folder, path, 5.01306), round(5.01306 * 16000)
    *words, summary = json_lines(run(capsys, folder, path, "--json")[1])
    assert len(words) > 5 and " ".join(word["word"] for word in words) == text == summary["text"]
    frames = -(-samples // 640)
    on_time = [word for word in words if word["frame"][1] + 1 + ahead <= samples // 640]
    assert len(on_time) >= len(words) - 3
    for word in on_time:  # each frame comes when the look-ahead that is declared has been heard, and no later
        assert word["emitted"] - word["end"] == pytest.approx(ahead * FRAME)
    for word in words:
        first, last = word["frame"]
        assert 0 <= first <= last < frames and word["start"] == pytest.approx(first * FRAME)
        assert word["end"] == pytest.approx(min((last + 1) * FRAME, samples / 16000))
        assert word["start"] < word["end"] <= word["emitted"] <= word["closed"] <= samples / 16000
    for before, after in zip(words, words[1:]):
        assert before["frame"][1] < after["frame"][0] and before["closed"] <= after["emitted"]
    assert words[-1]["closed"] == summary["seconds"] == samples / 16000
    assert summary["rate"] == 16000 and summary["hop_ms"] == 40 and summary["file"] == str(path)
    assert summary["latency_ms"]["attention_ms"] == 1000 * ahead * FRAME
    assert summary["latency_ms"]["total_ms"] == 1000 * (ahead + 1) * FRAME
    assert summary["real_time_factor"] > 0 and summary["state_bytes"] > 0


@pytest.mark.parametrize("hop_ms", [20, 370, 1000])
def test_words_come_at_the_end_of_a_piece(make_experiment, tmp_path, capsys, hop_ms):
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    record(folder, path, 5)
    *words, summary = json_lines(run(capsys, folder, path, "--json", "--hop_ms", hop_ms)[1])
    assert summary["hop_ms"] == hop_ms and len(words) > 5
    for word in words:
        ready = (word["frame"][1] + 1 + 4) * 640  # samples
        pieces = -(-ready // (16 * hop_ms))
        assert word["emitted"] == pytest.approx(min(pieces * hop_ms / 1000, 5))


def test_times_of_words_at_another_rate(make_experiment, tmp_path, capsys):
    """The last sample of a frame waits for the filter's half width, and so for the next piece."""
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    text = record(folder, path, 3, rate=44100)
    *words, summary = json_lines(run(capsys, folder, path, "--json")[1])
    assert " ".join(word["word"] for word in words) == text
    for word in words[:-3]:
        assert word["emitted"] - word["end"] == pytest.approx((4 + 1) * FRAME, abs=1 / 16000)
    assert words[-1]["closed"] == summary["seconds"] == 3
    resampling = summary["latency_ms"]["resampling_ms"]
    assert 0.37 < resampling < 0.4 and summary["latency_ms"]["total_ms"] == 200 + resampling


@pytest.mark.parametrize("block", BLOCKS)
def test_attention_to_everything_is_transcribed_offline(make_experiment, tmp_path, capsys, block):
    folder, paths = make_experiment("aa", block), [tmp_path / "a.wav", tmp_path / "b.wav"]
    texts = [record(folder, path, seconds) for path, seconds in zip(paths, (2, 0.7))]
    assert transcribe.main([str(folder), *map(str, paths)]) == 0
    out, err = capsys.readouterr()
    assert out == lines_of(paths, texts)
    assert len(err.splitlines()) == 1 and "AA has no streaming form" in err
    _, out, _ = run(capsys, folder, *paths, "--json", "--batch", 2)
    for path, text, seconds in zip(paths, texts, (2, 0.7)):
        *words, summary = [line for line in json_lines(out) if line["file"] == str(path)]
        assert " ".join(word["word"] for word in words) == text == summary["text"]
        assert all(word["emitted"] == word["closed"] == seconds == summary["seconds"] for word in words)
        assert all(0 <= word["start"] < word["end"] <= seconds for word in words)
        assert summary["latency_ms"]["total_ms"] is None


class Listener(io.StringIO):
    """A standard output that notes what had been written at each flush, and when."""

    def __init__(self):
        super().__init__()
        self.flushed = [(time.monotonic(), "")]

    def flush(self):
        if self.getvalue() != self.flushed[-1][1]:
            self.flushed.append((time.monotonic(), self.getvalue()))


def test_text_comes_in_time_and_is_final(make_experiment, tmp_path, capsys, monkeypatch):
    folder, path, listener = make_experiment("llsa"), tmp_path / "a.wav", Listener()
    text = record(folder, path, 1.5)
    began = time.monotonic()
    monkeypatch.setattr(sys, "stdout", listener)
    assert transcribe.main([str(folder), str(path), "--realtime"]) == 0
    assert time.monotonic() - began >= 1.5
    assert listener.getvalue() == text + "\n"
    flushed = listener.flushed[1:]
    assert len(flushed) > 10
    assert all((text + "\n").startswith(written) for _, written in flushed)
    assert flushed[0][0] < flushed[-1][0] - 0.5  # not all at the end
    assert "could not keep up" not in capsys.readouterr().err


def slow(seconds, advance=SpeechEncoder.advance):
    """`SpeechEncoder.advance` that takes its time."""
    return lambda *arguments: time.sleep(seconds) or advance(*arguments)


def test_a_system_that_is_too_slow_says_so(make_experiment, tmp_path, capsys, monkeypatch):
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    text = record(folder, path, 0.4)
    monkeypatch.setattr(SpeechEncoder, "advance", slow(0.1))
    assert transcribe.main([str(folder), str(path), "--realtime"]) == 0
    out, err = capsys.readouterr()
    assert out == text + "\n"
    assert len(err.splitlines()) == 2 and "could not keep up" in err  # after the line on the system


def test_bad_files_are_named_and_the_others_transcribed(make_experiment, tmp_path, capsys):
    folder, good = make_experiment("sa"), [tmp_path / "good-1.wav", tmp_path / "good-2.wav"]
    texts = [record(folder, path, 0.5) for path in good]
    wave = speech(3)[:, 0]
    names = ("folder", "missing.wav", "text.wav", "empty.wav", "none.wav", "rate.wav", "bare.raw")
    bad = {name: tmp_path / name for name in names}
    bad["folder"].mkdir()
    bad["text.wav"].write_text("not audio")
    bad["none.wav"].touch()
    soundfile.write(bad["empty.wav"], wave[:0], 16000)
    soundfile.write(bad["rate.wav"], wave, 16000)
    header = bytearray(bad["rate.wav"].read_bytes())
    header[24:28] = bytes(4)
    bad["rate.wav"].write_bytes(header)
    bad["bare.raw"].write_bytes(bytes(1000))
    for extra in ((), ("--json",), ("--batch", 2)):
        code, out, errors = run(capsys, folder, good[0], *bad.values(), good[1], *extra)
        assert code == 2 and len(errors) == len(bad)
        assert all(str(path) in line for path, line in zip(bad.values(), errors))
        if "--json" in extra:
            assert [line["text"] for line in json_lines(out) if "text" in line] == texts
        else:
            assert out == lines_of(good, texts)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(make_experiment, tmp_path, capsys, number):
    """What stands before the first one is transcribed."""
    folder, path, part, good = make_experiment("llsa"), tmp_path / "a.wav", tmp_path / "part.wav", tmp_path / "good.wav"
    text, other = record(folder, part, 1.01), record(folder, good, 0.5)
    samples = np.concatenate([soundfile.read(part)[0], [number], speech(1)[:, 0]])
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    code, out, (error,) = run(capsys, folder, path, good)
    assert code == 2 and out == lines_of([path, good], [text, other])
    assert str(path) in error and "sample 16160 (1.010 s)" in error
    soundfile.write(path, samples[16160:], 16000, subtype="FLOAT")
    for case in ("llsa", "aa"):
        code, out, (error,) = run(capsys, make_experiment(case), path)
        assert code == 2 and out == "\n" and "sample 0" in error


@pytest.mark.parametrize("name, damage", [("a.flac", "zeros"), ("a.flac", "truncated"), ("a.mp3", "truncated")])
def test_damage_inside_a_file(make_experiment, tmp_path, capsys, name, damage):
    folder, path, good = make_experiment("llsa"), tmp_path / name, tmp_path / "good.wav"
    whole, other = record(folder, path, 4, subtype=None), record(folder, good, 0.5)
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    path.write_bytes(data[:half] if damage == "truncated" else data[:half] + bytes(2000) + data[half + 2000 :])
    code, out, (error,) = run(capsys, folder, path, good)
    assert code == 2 and str(path) in error and "damaged" in error
    text = out.splitlines()[0].partition("\t")[2]
    assert out == lines_of([path, good], [text, other])
    assert len(whole) / 4 < len(text) < len(whole)
    assert whole.startswith(text[: len(text) - 8])  # but for the last frames, which read zeros ahead


@pytest.mark.parametrize(
    "words, message",
    [
        (["--hop_ms", "0"], "--hop_ms 0"),
        (["--hop_ms", "-20"], "--hop_ms -20"),
        (["--hop_ms", "0.05"], "a sample"),
        (["--hop_ms", "nan"], "--hop_ms nan"),
        (["--hop_ms", "inf"], "--hop_ms inf"),
        (["--hop_ms", "much"], "hop_ms"),
        (["--batch", "0"], "--batch 0"),
        (["--batch", "-1"], "--batch -1"),
        (["--batch", "1.5"], "batch"),
        (["--microphone"], "one of them"),
        (["--volume", "11"], "--volume"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_stop_before_anything(make_experiment, tmp_path, capsys, words, message):
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    soundfile.write(path, speech(0.3), 16000)
    code, out, (error,) = run(capsys, folder, path, *words)
    assert (code, out) == (2, "") and message in error


def test_bad_folders(make_experiment, tmp_path, capsys):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech(0.3), 16000)
    (tmp_path / "untrained").mkdir()
    (tmp_path / "untrained" / "config.json").write_text('{"model": {}}')
    for words, message in [
        ((tmp_path, path), "not the folder of an experiment"),
        ((path, path), "not the folder of an experiment"),
        ((tmp_path / "untrained", path), "train it first"),
        ((make_experiment("llsa"),), "give audio files"),
        ((), "EXPERIMENT_FOLDER"),
    ]:
        code, out, (error,) = run(capsys, *words)
        assert (code, out) == (2, "") and message in error


@pytest.mark.slow
def test_what_train_leaves(tree, tmp_path, capsys):
    """The transcripts of the test of a run, word for word."""
    root, folder = tree(), tmp_path / "run"
    assert train.main(arguments(root, folder, yaml="sa", pretrain="{epochs: 0}")) == 0
    _, *rows = [line.split("\t") for line in (folder / "utterances-test-c.tsv").read_text().splitlines()]
    paths = {path.stem: path for path in (root / "test-c").rglob("*.flac")}
    capsys.readouterr()
    code, out, errors = run(capsys, folder, *(paths[row[0]] for row in rows))
    assert (code, out, errors) == (0, lines_of([paths[row[0]] for row in rows], [row[-1] for row in rows]), [])


def start(folder, *words):
    """transcribe.py as a process of its own, that has begun to write."""
    command = [sys.executable, "transcribe.py", str(folder), *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # it may be ignored where the tests run
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=heeds, **pipes)
    assert process.stdout.read(1)
    return process


@pytest.mark.slow
def test_a_reader_that_has_enough_and_a_user_that_has(make_experiment, tmp_path):
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    record(folder, path, 20)
    reader, user = start(folder, path, "--realtime"), start(folder, path, "--realtime")
    reader.stdout.close()
    user.send_signal(signal.SIGINT)
    assert (reader.wait(60), user.wait(60)) == (141, 130)
    for process in (reader, user):
        assert len(process.stderr.read().splitlines()) == 1  # that on the system


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
