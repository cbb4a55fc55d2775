"""A tiny LibriSpeech tree for the tests of the recipe."""

import pytest
from tiny import SPLITS, write_tree


@pytest.fixture
def make_tree(tmp_path):
    """`write_tree` in the test's own folder: `make_tree({"train-a": 6, "dev-b": 2}, seconds=0.5)` returns the root."""
    return lambda splits, seconds=0.5, root=tmp_path / "LibriSpeech": write_tree(root, splits, seconds)


@pytest.fixture
def tree(make_tree):
    """A tree whose utterances are long enough for CTC to align most of them."""
    return lambda splits=SPLITS: make_tree(splits, seconds=2.0)
