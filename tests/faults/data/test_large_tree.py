"""The time and the memory that a tree of 30,000 utterances takes."""

import resource
import shutil
import time
from types import SimpleNamespace

import pytest

from recipes.LibriSpeech.data.dataset import load_sets
from recipes.LibriSpeech.tokens import LETTERS
from tests.faults.process import SERVER
from tests.recipes.tiny import write_tree

SPLITS = {"train-a": 28, "dev-b": 1, "test-c": 1}
"""How many speakers each split has, of a thousand utterances each."""


def write_large_tree(root):
    """A tree of 30,000 utterances of a second. All have the same samples; the headers of the files say that they have not."""
    sample = next(write_tree(root / "sample", {"train-a": 2}, seconds=1.0).rglob("*.flac"))
    data, number = bytearray(sample.read_bytes()), 0
    shutil.rmtree(root / "sample")
    for split, speakers in SPLITS.items():
        for speaker in range(100 + number // 1000, 100 + number // 1000 + speakers):
            chapter, lines = root / split / str(speaker) / "7", []
            chapter.mkdir(parents=True)
            for n in range(1000):
                number += 1
                data[26:42] = number.to_bytes(16, "big")  # MD5 of the samples
                (chapter / f"{speaker}-7-{n:04d}.flac").write_bytes(data)
                lines.append(f"{speaker}-7-{n:04d} HELLO WORLD\n")
            (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return root


def load(pipe, root, folder):
    """Prepare and load the data as a training does; seconds, and MiB of memory at most, go into a pipe."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    splits = {f"{split.split('-')[0]}_splits": [split] for split in SPLITS}
    model = SimpleNamespace(front_end=SimpleNamespace(hop=640))
    given = {"data_folder": root, "output_folder": folder, "download": False, "skip_bad": False, "stage": "all", "model": model}
    sets, *_ = load_sets({**given, **splits, "tokens": LETTERS})
    assert len(sets["train"]) == 28_000
    pipe.send((time.monotonic() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


@pytest.mark.campaign
def test_a_tree_of_30000_utterances(tmp_path):
    root, found = write_large_tree(tmp_path / "LibriSpeech"), []
    for _ in range(2):
        here, there = SERVER.Pipe(duplex=False)
        process = SERVER.Process(target=load, args=(there, root, tmp_path / "run"))
        process.start()
        there.close()
        found.append(here.recv())
        process.join()
    print(", ".join(f"{seconds:.1f} s, {mib:.0f} MiB" for seconds, mib in found))
    (first, memory), (second, _) = found
    assert first < 60 and second < 5 and memory < 100
