"""The examples in the docstrings run and show what they say."""

import doctest
import importlib
import pkgutil

import pytest
import speech_attention

MODULES = [module.name for module in pkgutil.walk_packages(speech_attention.__path__, "speech_attention.")]


@pytest.mark.parametrize("name", ["speech_attention", *MODULES])
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= len(MODULES) / 2
