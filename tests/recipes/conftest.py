"""A tiny LibriSpeech tree for the tests of the recipe."""

import numpy as np
import pytest
import soundfile
from tiny import SPLITS


@pytest.fixture
def make_tree(tmp_path):
    """A function that writes a LibriSpeech tree of noise and returns its root.

    `make_tree({"train-a": 6, "dev-b": 2}, seconds=0.5)`: utterances per split; two speakers in each, no speaker in two
    splits; utterance `n` of a speaker says "UTTERANCE" and n + 1 times "WORD".
    """

    def make(splits, seconds=0.5, root=tmp_path / "LibriSpeech"):
        noise = np.random.default_rng(0)
        for number, (split, utterances) in enumerate(splits.items()):
            for speaker in (100 + 2 * number, 101 + 2 * number):
                chapter = root / split / str(speaker) / "7"
                chapter.mkdir(parents=True)
                lines = []
                for n in range(utterances // 2 + (speaker % 2 == 0 and utterances % 2)):
                    name = f"{speaker}-7-{n:04d}"
                    wave = 0.1 * noise.standard_normal(int(16000 * seconds))
                    soundfile.write(chapter / f"{name}.flac", wave, 16000, subtype="PCM_16")
                    lines.append(" ".join([name, "UTTERANCE", *["WORD"] * (n + 1)]) + "\n")
                (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
        return root

    return make


@pytest.fixture
def tree(make_tree):
    """A tree whose utterances are long enough for CTC to align most of them."""
    return lambda splits=SPLITS: make_tree(splits, seconds=2.0)
