"""Manifests of LibriSpeech trees: what they hold, what is refused, and when they are used again."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from recipes.command_line import UserError
from recipes.LibriSpeech.data.prepare import find_root, prepare


def rows(manifest):
    with open(manifest.path, newline="") as file:
        return list(csv.DictReader(file))


def refused(*args, **kwargs):
    """The message of the error, which has to be a single line."""
    with pytest.raises(UserError) as error:
        prepare(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def audio_of(root, split):
    return sorted(root.glob(f"{split}/*/*/*.flac"))


def test_manifest_describes_the_split(make_tree, tmp_path):
    root = make_tree({"train-a": 5, "dev-b": 2}, seconds=0.75)
    manifests = prepare(root, tmp_path / "save", ["train-a", "dev-b"])
    assert list(manifests) == ["train-a", "dev-b"]
    train = manifests["train-a"]
    assert (train.split, train.utterances, train.speakers, train.skipped) == ("train-a", 5, 2, [])
    assert train.hours == pytest.approx(5 * 0.75 / 3600)
    table = rows(train)
    assert list(table[0]) == ["ID", "duration", "wav", "spk_id", "wrd"]
    assert [row["ID"] for row in table] == ["100-7-0000", "100-7-0001", "100-7-0002", "101-7-0000", "101-7-0001"]
    assert table[1]["wrd"] == "UTTERANCE WORD WORD" and table[1]["spk_id"] == "100"
    assert float(table[1]["duration"]) == 0.75
    for row in table:
        assert row["wav"].startswith("$data_root/")
        assert soundfile.info(row["wav"].replace("$data_root", str(find_root(root)))).frames == 12000


def test_root_may_be_the_folder_above(make_tree, tmp_path):
    root = make_tree({"dev-b": 2})
    assert find_root(root) == find_root(tmp_path) == root


def test_digest_depends_on_the_data_and_not_on_its_place(make_tree, tmp_path):
    here = prepare(make_tree({"dev-b": 3}), tmp_path / "save1", ["dev-b"])["dev-b"]
    other = make_tree({"dev-b": 3}, root=tmp_path / "other" / "LibriSpeech")
    there = prepare(other, tmp_path / "save2", ["dev-b"])["dev-b"]
    assert here.sha256 == there.sha256
    texts = next(other.glob("dev-b/*/*/*.txt"))
    texts.write_text(texts.read_text().replace("UTTERANCE", "SENTENCE", 1))
    assert prepare(other, tmp_path / "save2", ["dev-b"])["dev-b"].sha256 != here.sha256


def test_manifest_is_used_again_only_for_the_same_files(make_tree, tmp_path):
    root, save = make_tree({"dev-b": 4}), tmp_path / "save"
    first = prepare(root, save, ["dev-b"])["dev-b"]
    written = first.path.stat().st_mtime_ns
    assert prepare(root, save, ["dev-b"])["dev-b"] == first
    assert first.path.stat().st_mtime_ns == written

    audio = audio_of(root, "dev-b")[0]
    soundfile.write(audio, np.zeros(32000), 16000, subtype="PCM_16")  # a changed file
    assert float(rows(prepare(root, save, ["dev-b"])["dev-b"])[0]["duration"]) == 2

    other = make_tree({"dev-b": 2}, root=tmp_path / "other")  # another tree with a split of that name
    assert prepare(other, save, ["dev-b"])["dev-b"].utterances == 2

    manifest = prepare(other, save, ["dev-b"])["dev-b"]  # a manifest cut short
    whole = manifest.path.read_text()
    manifest.path.write_text(whole[:40])
    prepare(other, save, ["dev-b"])
    assert manifest.path.read_text() == whole


@pytest.mark.parametrize("change", [{"utterances": 9}, {"sha256": "0"}, {"skipped": None}, {"audio": None}, {"more": 1}, None, 3])
def test_manifest_whose_record_was_changed_is_made_again(make_tree, tmp_path, change):
    root, save = make_tree({"dev-b": 4}), tmp_path / "save"
    first = prepare(root, save, ["dev-b"])["dev-b"]
    record = json.loads((save / "dev-b.json").read_text())
    (save / "dev-b.json").write_text(json.dumps({**record, **change} if isinstance(change, dict) else change))
    assert prepare(root, save, ["dev-b"])["dev-b"] == first
    assert json.loads((save / "dev-b.json").read_text()) == record


def test_touched_tree_with_equal_sizes_is_read_again(make_tree, tmp_path):
    root, save = make_tree({"dev-b": 2}), tmp_path / "save"
    before = prepare(root, save, ["dev-b"])["dev-b"]
    texts = next(root.glob("dev-b/*/*/*.txt"))
    stat = texts.stat()
    texts.write_text(texts.read_text().replace("WORD", "DROW"))
    os.utime(texts, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = prepare(root, save, ["dev-b"])["dev-b"]
    assert after.sha256 != before.sha256 and "DROW" in after.path.read_text()


def test_copy_of_a_tree_is_another_tree(make_tree, tmp_path):
    root, save = make_tree({"dev-b": 2}), tmp_path / "save"
    before = prepare(root, save, ["dev-b"])["dev-b"]
    copy = shutil.copytree(root, tmp_path / "copy")  # times included
    texts = next(copy.glob("dev-b/*/*/*.txt"))
    stat = texts.stat()
    texts.write_text(texts.read_text().replace("WORD", "DROW"))
    os.utime(texts, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prepare(copy, save, ["dev-b"])["dev-b"].sha256 != before.sha256


def test_folder_without_data(make_tree, tmp_path):
    assert "is not there" in refused(tmp_path / "nowhere", tmp_path / "save", ["dev-b"])
    (tmp_path / "empty").mkdir()
    assert "holds no LibriSpeech splits" in refused(tmp_path / "empty", tmp_path / "save", ["dev-b"])
    root = make_tree({"dev-b": 2, "train-a": 2})
    assert "holds no LibriSpeech splits" in refused(root / "dev-b", tmp_path / "save", ["dev-b"])
    message = refused(root, tmp_path / "save", ["dev-b", "dev-c"])
    assert "dev-c" in message and "dev-b, train-a" in message
    (root / "hollow").mkdir()
    assert "hollow" in refused(root, tmp_path / "save", ["hollow"])


def test_audio_without_transcript_and_transcript_without_audio(make_tree, tmp_path):
    root = make_tree({"dev-b": 4, "dev-c": 4})
    text = root / "dev-b" / "100" / "7" / "100-7.trans.txt"
    text.write_text("")
    message = refused(root, tmp_path / "save", ["dev-b"])
    assert "2 FLAC files" in message and "100-7-0000, 100-7-0001" in message
    audio_of(root, "dev-c")[3].unlink()
    message = refused(root, tmp_path / "save", ["dev-c"])
    assert "1 transcript " in message and "103-7-0001" in message


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("", "empty transcript"),
        ("lower case", "outside A-Z"),
        ("TWO, THREE", "','"),
        ("ROOM 7", "'7'"),
        ("CAF\u00c9", "outside A-Z"),
    ],
)
def test_bad_transcript(make_tree, tmp_path, words, complaint):
    root = make_tree({"dev-b": 2})
    text = root / "dev-b" / "100" / "7" / "100-7.trans.txt"
    text.write_text(f"100-7-0000 {words}\n")
    message = refused(root, tmp_path / "save", ["dev-b"], skip_bad=True)
    assert complaint in message and "100-7-0000" in message
    text.write_text("100-7-0000 DON'T\n")
    assert rows(prepare(root, tmp_path / "save", ["dev-b"])["dev-b"])[0]["wrd"] == "DON'T"


def test_two_transcripts_for_one_utterance(make_tree, tmp_path):
    root = make_tree({"dev-b": 2})
    text = root / "dev-b" / "100" / "7" / "100-7.trans.txt"
    text.write_text("100-7-0000 ONE\n100-7-0000 TWO\n")
    assert "100-7-0000" in refused(root, tmp_path / "save", ["dev-b"])


def cut(share):
    def damage(path):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return damage


def write(wave, rate):
    return lambda path: soundfile.write(path, wave, rate, subtype="PCM_16")


@pytest.mark.parametrize(
    "damage",
    [
        cut(0),
        cut(0.01),
        cut(0.5),
        cut(0.999),
        lambda path: path.write_bytes(b"no audio" * 100),
        write(np.zeros(8000), 8000),
        write(np.zeros((8000, 2)), 16000),
    ],
    ids=["empty", "header only", "half", "last bytes missing", "no FLAC", "8 kHz", "stereo"],
)
def test_bad_audio_is_refused_or_left_out(make_tree, tmp_path, capsys, damage):
    root, save = make_tree({"dev-b": 6}, seconds=2), tmp_path / "save"
    bad = audio_of(root, "dev-b")[4]
    damage(bad)
    message = refused(root, save, ["dev-b"])
    assert bad.name in message and "--skip_bad True" in message and not (save / "dev-b.csv").exists()

    for _ in range(2):  # the second time the manifest is used again
        capsys.readouterr()
        manifest = prepare(root, save, ["dev-b"], skip_bad=True)["dev-b"]
        assert manifest.skipped == ["dev-b/101/7/101-7-0001.flac"]
        assert manifest.utterances == 5 and bad.stem not in [row["ID"] for row in rows(manifest)]
        warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
        assert len(warnings) == 1 and bad.name in warnings[0]
    assert bad.name in refused(root, save, ["dev-b"])  # that manifest is not used without skip_bad


def test_split_of_bad_audio_only(make_tree, tmp_path):
    root = make_tree({"dev-b": 2})
    for path in audio_of(root, "dev-b"):
        path.write_bytes(b"")
    assert "no readable audio" in refused(root, tmp_path / "save", ["dev-b"], skip_bad=True)
