"""Changes to a LibriSpeech tree: each function returns one that takes the path of the tree."""

import shutil

import pytest
import soundfile

CHAPTER = "train-a/100/7/"
TEXT, FIRST = CHAPTER + "100-7.trans.txt", CHAPTER + "100-7-0000.flac"


def text(old, new, encoding="utf-8", name=TEXT):
    """Change what is written in a file of transcripts."""

    def change(tree):
        content = (tree / name).read_text()
        assert old in content
        (tree / name).write_bytes(content.replace(old, new).encode(encoding))

    return change


def copy(source, *targets):
    """Copy a file or a folder; folders are made for it."""

    def change(tree):
        for target in targets:
            (tree / target).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (tree / source).is_dir() else shutil.copy)(tree / source, tree / target)

    return change


def move(*pairs):
    """Move files or folders; folders are made for them."""

    def change(tree):
        for source, target in pairs:
            (tree / target).parent.mkdir(parents=True, exist_ok=True)
            (tree / source).rename(tree / target)

    return change


def remove(name):
    """Remove a file or a folder."""
    return lambda tree: shutil.rmtree(tree / name) if (tree / name).is_dir() else (tree / name).unlink()


def link(target, *names):
    """Make links to what may not be there, each in place of what is."""

    def change(tree):
        for name in names:
            if (tree / name).is_file():
                (tree / name).unlink()
            (tree / name).symlink_to(target)

    return change


def audio(wave, rate=16000, name=FIRST, **options):
    """Write a file of audio."""
    return lambda tree: soundfile.write(tree / name, wave, rate, **options)


def content(make, name=FIRST):
    """Change the bytes of a file; `make` has its old ones."""
    return lambda tree: (tree / name).write_bytes(make((tree / name).read_bytes()))


def total(samples):
    """Change how many samples the header of a FLAC file promises."""

    def make(data):
        number = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
        return data[:18] + number.to_bytes(8, "big") + data[26:]

    return content(make)


def both(*changes):
    return lambda tree: [change(tree) for change in changes]


def every(change):
    """Apply a change, made from a path, to all audio of the training set."""
    return lambda tree: [change(path) for path in sorted(tree.glob("train-a/*/*/*.flac"))]


def one_of(case, name, alike):
    """A case of a table by its name, in the campaign alone if it is one of several alike."""
    return pytest.param(case, id=name, marks=[pytest.mark.campaign] if name in alike else [])
