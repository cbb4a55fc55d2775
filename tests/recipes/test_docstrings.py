"""The examples in the recipe's docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes" / "LibriSpeech").glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(f"recipes.LibriSpeech.{name}")).failed == 0
