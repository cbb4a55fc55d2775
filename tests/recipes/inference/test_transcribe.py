"""transcribe.py: the words of the offline model, for any hop, kind of file and company, as they come."""

import functools
import io
import signal
import subprocess
import sys
import time

import pytest
from speech_attention.model import SpeechEncoder
from talkative import BLOCKS, CASES, json_lines, lines_of, record, run
from tiny import ROOT, arguments

import train
import transcribe


@pytest.mark.slow
@pytest.mark.parametrize("block, long_hops", [("transformer", (37, 1000)), ("conformer", (160, 1000))])
@pytest.mark.parametrize("case", [case for case in CASES if case != "aa"])
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


@pytest.mark.slow
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
