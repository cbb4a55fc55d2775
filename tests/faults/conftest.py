"""The places of the cases: one tree and one finished training for all of them."""

import pytest

from tests.faults.case import Place
from tests.faults.process import run
from tests.recipes.tiny import SPLITS, arguments, write_tree


@pytest.fixture(scope="session")
def ready(tmp_path_factory):
    """A tree, and the folder of a finished training on it."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "here").mkdir()
    tree = write_tree(folder / "LibriSpeech", SPLITS, seconds=2.0)
    ended = run("train", arguments(tree, folder / "run"), folder / "here", seconds=300)
    assert ended.code == 0, ended.err
    return tree, folder / "run"


@pytest.fixture
def place(ready, tmp_path):
    """The place of one case, with an empty folder to run in."""
    here = tmp_path / "here"
    here.mkdir()
    return Place(here, *ready)


@pytest.fixture
def place_of(ready, tmp_path):
    """A function that makes the place of a part of a case, with a folder of its own, by its name."""

    def make(name):
        here = tmp_path / name / "here"
        here.mkdir(parents=True)
        return Place(here, *ready)

    return make
