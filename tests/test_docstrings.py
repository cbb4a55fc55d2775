"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest
import speech_attention

import recipes
import results

MODULES = sorted(
    module.name
    for package in (speech_attention, recipes, results)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) > 10
