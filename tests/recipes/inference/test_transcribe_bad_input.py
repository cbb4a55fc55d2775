"""What transcribe.py does with files, folders and options that are not as they should be: a line for each, and the rest."""

import numpy as np
import pytest
import soundfile
from talkative import json_lines, lines_of, record, run, speech


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
