"""Experiments that several files of tests transcribe with."""

import functools

import pytest
from talkative import make_talkative


@pytest.fixture(scope="session")
def make_experiment(tmp_path_factory):
    """A function from a case and a block to the folder of a small experiment, not trained, and talkative."""
    return functools.cache(lambda case, block="transformer": make_talkative(tmp_path_factory.mktemp(case), case, block))
