"""LibriSpeech trees with something wrong or odd in them."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.command_line import UserError
from recipes.LibriSpeech.data.dataset import check_sound, dataset
from recipes.LibriSpeech.data.prepare import prepare
from tests.faults.case import Case, check
from tests.faults.data.trees import (
    CHAPTER,
    FIRST,
    TEXT,
    audio,
    both,
    content,
    copy,
    every,
    link,
    move,
    one_of,
    remove,
    text,
    total,
)
from tests.recipes.tiny import SPLITS, write_tree

PLACE = "must have its utterances in <speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
PREPARED = ("run", "run/manifests*")


def with_tree(change, *words, leaves=(), options=""):
    """A training on a tree of its own, once `change` was called with the path of the tree."""

    def write(place):
        shutil.copytree(place.tree, place.here / "tree")
        change(place.here / "tree")

    return Case(f"TRAIN --data_folder $here/tree {options}", words, before=write, leaves=leaves)


def silent(value):
    return every(lambda path: soundfile.write(path, np.full(32000, value, "int16"), 16000, subtype="PCM_16"))


def all_to(ending, **options):
    """Convert the whole training set to another format."""

    def change(path):
        soundfile.write(path.with_suffix(ending), soundfile.read(path)[0], 16000, **options)
        path.unlink()

    return every(change)


APART = {
    "linked split": with_tree(
        link("train-a", "test-d"), "Splits train-a and test-d are one folder", options="--test_splits [test-d]"
    ),
    "copied split": with_tree(
        copy("train-a", "test-d"), "train-a and test-d share 12 of their utterances (100-7-0000 is 100-7-0000)",
        options="--test_splits [test-d]", leaves=PREPARED,
    ),
    "copied split of training": with_tree(
        copy("train-a", "train-d"), "two splits of one set both have 12 utterances (100-7-0000, ",
        options="--train_splits [train-a,train-d]", leaves=PREPARED,
    ),
    "linked speaker": with_tree(
        link("../train-a/100", "test-c/100"), "train-a and test-c share 6 of their utterances", leaves=PREPARED
    ),
    "renamed audio": with_tree(
        copy(FIRST, "dev-b/102/7/102-7-0001.flac"),
        "train-a and dev-b share 1 of their utterances (100-7-0000 is 102-7-0001): what is evaluated on may not be trained on",
        leaves=PREPARED,
    ),
    "trained before": Case(
        "TRAIN --weights $run --train_splits [dev-b] --dev_splits [test-c] --test_splits [train-a]",
        ("train-a would be evaluated on, and $run was trained on it",), leaves=PREPARED,
    ),
    "pre-trained before": Case(
        "TRAIN --pretrained $run/pretrain/encoder.ckpt --train_splits [dev-b] --dev_splits [train-a]",
        ("train-a would be evaluated on, and $run/pretrain/encoder.ckpt was trained on it",), leaves=PREPARED,
    ),
    "same id, other audio": with_tree(
        both(
            copy("dev-b/102/7/102-7-0000.flac", CHAPTER.replace("100", "102") + "102-7-0000.flac"),
            lambda tree: (tree / "train-a/102/7/102-7.trans.txt").write_text("102-7-0000 A\n"),
            audio(np.zeros(32000), name="train-a/102/7/102-7-0000.flac"),
        ),
        "share 1 of their utterances (102-7-0000 is 102-7-0000)", leaves=PREPARED,
    ),
}  # fmt: skip

LYING = {
    "upper-case ending": with_tree(move((FIRST, FIRST[:-4] + "FLAC")), "1 other file ($here/tree/train-a", "rename them"),
    "wav": with_tree(
        all_to(".wav"), "has 12 other files", ".wav", "ffmpeg -i '100-7-0000.wav' -ar 16000 -ac 1 '100-7-0000.flac'"
    ),
    "mp3": with_tree(all_to(".mp3"), "has 12 other files", "ffmpeg -i '100-7-0000.mp3'"),
    "ogg": with_tree(all_to(".ogg"), "has 12 other files", "ffmpeg -i '100-7-0000.ogg'"),
    "twice by its ending": with_tree(
        copy(FIRST, FIRST[:-4] + "FLAC"), "Utterance 100-7-0000 is there twice", ".flac and", ".FLAC"
    ),
    "in two chapters": with_tree(
        copy(FIRST, "train-a/100/8/100-7-0000.flac"), "100-7-0000 is there twice", "/100/7/100-7-0000.flac and", "/100/8/100-7-"
    ),
    "speaker twice": with_tree(link("100", "train-a/100b"), "is there twice", "train-a/100/7", "train-a/100b/7"),
    "links in a ring": with_tree(link(".", "train-a/again"), PLACE),
    "other chapter": with_tree(move((CHAPTER, "train-a/100/8")), PLACE, "rename 6 files"),
    "other speaker": with_tree(move(("train-a/100", "train-a/109")), PLACE),
    "too high": with_tree(copy(FIRST, "train-a/100/100-9-0000.flac"), PLACE, "1 file ($here/tree/train-a/100/100-9-0000.flac)"),
    "too deep": with_tree(move((FIRST, CHAPTER + "more/100-7-0000.flac")), PLACE),
    "comma": with_tree(move((FIRST, CHAPTER + "100-7-0,0.flac")), PLACE),
    "new line": with_tree(move((FIRST, CHAPTER + "100-7-00\n00.flac")), PLACE),
    "quote": with_tree(move((FIRST, CHAPTER + '100-7-"0".flac')), PLACE),
    "accent": with_tree(move((FIRST, CHAPTER + unicodedata.normalize("NFD", "100-7-é.flac"))), PLACE),
    "bytes": with_tree(lambda tree: (tree / FIRST).rename(tree / CHAPTER / os.fsdecode(b"100-7-\xff.flac")), PLACE),
    "transcripts of another chapter": with_tree(
        copy("dev-b/102/7/102-7.trans.txt", TEXT), "line 1: '102-7-0000' must be an utterance id that begins with 100-7-"
    ),
    "transcripts in another chapter": with_tree(move((TEXT, "train-a/101/7/100-7.trans.txt")), "that begins with 101-7-"),
    "transcripts twice": with_tree(copy(TEXT, CHAPTER + "b.trans.txt"), "Utterance 100-7-0000 has more than one", "b.trans.txt"),
    "no id": with_tree(text("100-7-0002 ", ""), "line 3: 'UTTERANCE' must be an utterance id"),
    "comment": with_tree(text("100-7-0000", "# mine\n100-7-0000"), "line 1: '#' must be an utterance id"),
    "comma after the id": with_tree(text("100-7-0000 ", "100-7-0000,"), "line 1: '100-7-0000,UTTERANCE'"),
    "UTF-16": with_tree(text("", "", "utf-16"), "100-7.trans.txt is not in UTF-8 (UTF-16, or no text): save it in UTF-8"),
    "UTF-16 unmarked": with_tree(text("", "", "utf-16-be"), "is not in UTF-8 (UTF-16, or no text)"),
    "Latin-1": with_tree(text("0001 UTTERANCE", "0001 CAF\xc9", "latin-1"), "is not in UTF-8 (see line 2)"),
    "lower case": with_tree(text("0001 UTTERANCE", "0001 utterance"), "outside A-Z", "write capitals"),
    "digits": with_tree(text("0001 UTTERANCE", "0001 ROOM 101"), "'01'; write capitals, numbers in words"),
    "typographic apostrophe": with_tree(text("0001 UTTERANCE", "0001 DON\u2019T"), "'\u2019'"),
    "Chinese": with_tree(text("0001 UTTERANCE", "0001 " + "".join(map(chr, range(0x4E00, 0x5E00)))), "outside A-Z"),
    "long line": with_tree(text("0001 UTTERANCE", "0001 " + "A" * 200_000), "has 200010 letters: cut its recording"),
    "empty text": with_tree(
        lambda tree: (tree / TEXT).write_text(""), "6 FLAC files (100-7-0000, 100-7-0001, 100-7-0002, ...) without a transcript"
    ),
    "no text": with_tree(remove(TEXT), "6 FLAC files"),
    "pipe for a text": with_tree(both(remove(TEXT), lambda tree: os.mkfifo(tree / TEXT)), "is not a file"),
    "dead link for a text": with_tree(link("nowhere", TEXT), "100-7.trans.txt is not a file, or a link that leads nowhere"),
    "web page for a text": with_tree(content(lambda _: b"<!DOCTYPE html>", TEXT), "line 1: '<!DOCTYPE' must be an utterance id"),
    "second download": with_tree(copy(FIRST, CHAPTER + "100-7-0000 (1).flac"), PLACE),
    "no audio": with_tree(remove(FIRST), "1 transcript (100-7-0000) without a FLAC file"),
    "file for a split": with_tree(
        both(remove("train-a"), lambda tree: (tree / "train-a").touch()), "Split train-a is not in"
    ),
    "hollow split": with_tree(
        both(remove("train-a"), lambda tree: (tree / "train-a/1/2").mkdir(parents=True)), "no utterances"
    ),
    "folder for audio": with_tree(
        both(remove(FIRST), lambda tree: (tree / FIRST).mkdir()), "without a FLAC"
    ),
    "folder for manifests": Case(
        "TRAIN", ("run/manifests",), before=lambda place: ((place.here / "run").mkdir(), (place.here / "run/manifests").touch())
    ),
}  # fmt: skip

SOUND = {
    "dead link": with_tree(link("nowhere.flac", FIRST), "100-7-0000.flac (not a file, or a link that leads nowhere)"),
    "link to itself": with_tree(link("100-7-0000.flac", FIRST), "not a file, or a link that leads nowhere"),
    "pipe": with_tree(both(remove(FIRST), lambda tree: os.mkfifo(tree / FIRST)), "not a file"),
    "empty": with_tree(content(lambda data: b""), "it is empty"),
    "pointer": with_tree(content(lambda data: b"version https://git-lfs.github.com/spec/v1\noid 1\n"), "git lfs pull fetches it"),
    "page": with_tree(content(lambda data: b"<!DOCTYPE html><html></html>"), "it is a web page"),
    "cut": with_tree(
        content(lambda data: data[: len(data) // 2]), "100-7-0000.flac (truncated or unreadable)", "--skip_bad True"
    ),
    "promises more": with_tree(total(40000), "truncated or unreadable"),
    "promises less": with_tree(total(8000), "more in it than its header says"),
    "WAV by its content": with_tree(audio(np.zeros(32000), format="WAV"), "WAV instead of FLAC"),
    "8 kHz": with_tree(audio(np.zeros(16000), 8000), "8000 Hz instead of 16000"),
    "two channels": with_tree(audio(np.zeros((32000, 2))), "2 channels instead of one"),
    "silence": with_tree(silent(0), "all 12 utterances of the training set are silence", leaves=PREPARED),
    "constant": with_tree(silent(900), "all 12 utterances of the training set are silence", leaves=PREPARED),
    "shorter than the letters": with_tree(
        every(lambda path: soundfile.write(path, np.random.default_rng(len(path.name)).random(int(path.stem[-4:]) + 800), 16000)),
        "12 of 12 training utterances have more letters than frames of 40 ms", leaves=PREPARED,
    ),
}  # fmt: skip


ALIKE = {
    "mp3", "ogg", "speaker twice", "other speaker", "comma", "quote", "new line", "too deep", "UTF-16 unmarked",
    "transcripts in another chapter", "comment", "comma after the id", "typographic apostrophe", "Chinese", "no text",
    "hollow split", "dead link for a text", "web page for a text", "link to itself", "page", "two channels", "constant",
    "pre-trained before",
}  # fmt: skip
"""Another case of the kind is in the plain suite."""


@pytest.mark.parametrize("case", [one_of(case, name, ALIKE) for table in (APART, LYING, SOUND) for name, case in table.items()])
def test_what_is_refused(case, place):
    check(case, place)


ODD = {
    "macOS": both(
        lambda tree: (tree / CHAPTER / "._100-7-0000.flac").write_bytes(b"\0\5\x16\7"),
        lambda tree: (tree / CHAPTER / "._100-7.trans.txt").write_bytes(b"\0\5\x16\7"),
        lambda tree: (tree / CHAPTER / ".DS_Store").write_bytes(b"\0"),
        lambda tree: (tree / "train-a" / "._100").write_bytes(b"\0"),
        copy(FIRST, "train-a/__MACOSX/100/100-7-0000.flac", "train-a/.Trashes/1/100-7-0000.flac"),
    ),
    "Windows": both(lambda tree: (tree / CHAPTER / "Thumbs.db").touch(), text("\n", "\r\n")),
    "byte order mark": text("100-7-0000", "\ufeff100-7-0000"),
    "old Macintosh": text("\n", "\r"),
    "spaces": both(text(" UTT", "\t  UTT"), text("\n", " \t\n\n"), text("100-7-0000", " 100-7-0000")),
    "no last line end": lambda tree: (tree / TEXT).write_text((tree / TEXT).read_text().rstrip()),
    "WAV beside FLAC": copy(FIRST, FIRST[:-4] + "wav"),
    "notes": both(*(copy(TEXT, name) for name in ("train-a/README.md", "train-a/100/notes.txt", CHAPTER + "a.json"))),
    "links": both(move(("train-a", "elsewhere")), link("elsewhere", "train-a")),
    "links in a ring": link("..", CHAPTER + "up"),
    "linked audio": both(move((FIRST, "a.flac")), link("../../../a.flac", FIRST)),
    "length unknown": total(0),
    "one silent utterance": audio(np.zeros(32000)),
    "a tag behind": content(lambda data: data + b"TAG" + bytes(125)),
    "two texts": both(
        text("100-7-0000 UTTERANCE WORD\n", ""),
        lambda tree: (tree / CHAPTER / "more.trans.txt").write_text("100-7-0000 UTTERANCE WORD\n"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A tree, and the checksum of its training set."""
    folder = tmp_path_factory.mktemp("plain")
    tree = write_tree(folder / "tree", SPLITS, seconds=2.0)
    return tree, prepare(tree, folder / "manifests", ["train-a"])["train-a"].sha256


@pytest.mark.parametrize("change", ODD.values(), ids=list(ODD))
def test_what_is_odd_and_read_as_it_is_meant(change, plain, tmp_path):
    shutil.copytree(plain[0], tmp_path / "tree")
    change(tmp_path / "tree")
    manifest = prepare(tmp_path / "tree", tmp_path / "manifests", ["train-a"])["train-a"]
    assert (manifest.sha256, manifest.utterances, manifest.skipped) == (plain[1], 12, [])


@pytest.mark.parametrize("folder", ["a b", "$data_root", "é", "é", "#1 [a], 'b'", "2024"])
def test_a_tree_may_have_any_name(folder, plain, tmp_path):
    tree = shutil.copytree(plain[0], tmp_path / folder / "LibriSpeech")
    assert prepare(tree.parent, tmp_path / "manifests", ["train-a"])["train-a"].sha256 == plain[1]


def test_a_folder_that_cannot_be_read_is_not_left_out(plain, tmp_path, monkeypatch):
    scan = os.scandir

    def refuse(folder):
        if Path(folder).name == "101":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="101"):
        prepare(plain[0], tmp_path / "manifests", ["train-a"])
    assert not (tmp_path / "manifests").exists()


def test_what_changes_after_preparation_is_noticed(plain, tmp_path):
    tree = shutil.copytree(plain[0], tmp_path / "tree")
    rows = dataset([prepare(tree, tmp_path / "manifests", ["train-a"])["train-a"]], tree)
    for samples in (31999, 32001, 64000):
        audio(np.zeros(samples))(tree)
        with pytest.raises(UserError, match="100-7-0000.flac is not what it was when it was prepared"):
            rows[rows.data_ids.index("100-7-0000")]
    remove(FIRST)(tree)
    with pytest.raises(UserError, match="100-7-0000.flac"):
        rows[rows.data_ids.index("100-7-0000")]


def test_one_utterance_with_sound_is_enough(plain, tmp_path):
    tree = shutil.copytree(plain[0], tmp_path / "tree")
    silent(0)(tree)
    audio(np.arange(32000) % 2 / 2**15, name="train-a/101/7/101-7-0002.flac")(tree)
    check_sound(dataset([prepare(tree, tmp_path / "manifests", ["train-a"])["train-a"]], tree))
