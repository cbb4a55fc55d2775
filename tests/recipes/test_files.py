"""Files are written whole or not at all."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import files
from recipes.command_line import UserError

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


def test_a_link_stays_and_a_file_keeps_its_permissions(tmp_path):
    target, link, new = tmp_path / "deep" / "target.json", tmp_path / "link.json", tmp_path / "new.json"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("deep/target.json")
    files.write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and stat.S_IMODE(target.stat().st_mode) == 0o640
    mask = os.umask(0o027)
    files.write_text(new, "new")
    os.umask(mask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    dangling = tmp_path / "dangling.json"
    dangling.symlink_to("not there yet.json")
    files.write_text(dangling, "new")
    assert dangling.is_symlink() and (tmp_path / "not there yet.json").read_text() == "new"


def test_what_is_no_regular_file_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(pipe, "text")
    assert os.read(reader, 100) == b"text" and os.listdir(tmp_path) == ["pipe"]
    os.close(reader)
    files.write_text("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_standard_output_keeps_what_comes_before_and_after(tmp_path):
    code = "from recipes import files; print('before'); files.write_text('/dev/stdout', 'text\\n'); print('after')"
    with open(tmp_path / "out", "wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "out").read_text() == "before\ntext\nafter\n"


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    old, live = tmp_path / ".a[1].json.17.tmp", tmp_path / ".a[1].json.18.tmp"
    for path in (old, live):
        path.touch()
    os.utime(old, (0, 0))
    files.write_text(tmp_path / "a[1].json", "text")
    assert sorted(os.listdir(tmp_path)) == [live.name, "a[1].json"]


def test_the_longest_name(tmp_path):
    path = tmp_path / ("é" * 127)  # 254 bytes
    files.write_text(path, "text")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "text, said", [("", "without a name"), (".", "not of a folder"), ("a/", "folder"), ("no/a", "no folder no")]
)
def test_a_file_to_write_is_checked(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        files.to_write(text)
    assert files.to_write("a.json") == Path("a.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"3", b"[]", b"{}", b'{"wer": NaN}', b'{"wer": "x"}', b'\xff{"wer": 1}', b"[" * 10**5]
)
def test_a_damaged_json_file_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="run.json is damaged"), files.content_of(path) as run:
        float(run["wer"])
