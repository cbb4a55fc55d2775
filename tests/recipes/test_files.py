"""Files are written whole or not at all."""

import json
import os

import pytest

from recipes import files

SUMMARY = {"attention": "LLSA", "wer": {"test-clean": {"wer": 5.84}}, "wer_streaming": None, "different": ["a", "b"]}


def test_json_round_trip(tmp_path):
    path = tmp_path / "summary.json"
    files.write_json(path, SUMMARY)
    text = path.read_text()
    assert json.loads(text) == SUMMARY
    assert text.endswith("}\n") and '\n  "attention": "LLSA"' in text
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"wer": float("nan")}]])
def test_json_refuses_what_is_no_number(tmp_path, value):
    path = tmp_path / "summary.json"
    files.write_json(path, {"wer": 5.84})
    with pytest.raises(ValueError):
        files.write_json(path, {"wer": value})
    assert json.loads(path.read_text()) == {"wer": 5.84}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    """The last character has no encoding: the write fails when the file is already open."""
    path = tmp_path / "utterances.tsv"
    files.write_text(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new " * 100000 + "\ud800")
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["utterances.tsv"]


def test_a_failed_rename_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_json(path, {"wer": 1})

    def crash(source, target):
        assert json.loads(open(source).read()) == {"wer": 2}  # complete before it takes the place of the old one
        raise OSError("crash")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        files.write_json(path, {"wer": 2})
    assert json.loads(path.read_text()) == {"wer": 1}
    assert os.listdir(tmp_path) == ["summary.json"]
