"""What the commands that measure speed share: turns, ratios of the same round, the file that keeps measurements."""

import json

import pytest

from recipes.command_line import UserError
from results.common import timing


def test_all_take_turns():
    calls = []
    timing.take_turns(["a", "b", "c"], 3, "", calls.append)
    assert "".join(calls) == "abcbcacab"


def test_ratios_are_those_of_the_same_round():
    """A machine that is twice as slow in one round changes no ratio."""
    assert timing.in_words(timing.quartiles([3, 6, 3], [2, 4, 2]), 2) == "1.50 [1.50, 1.50]"
    assert timing.in_words(timing.quartiles([1, 2, 4]), 1, " ms") == "2.0 ms [1.5, 3.0]"


def test_a_file_comes_back_as_it_was_saved_with_a_line_for_each_cell(tmp_path):
    path = tmp_path / "speed.json"
    cells = [{"group": "stream", "variant": name, "rtf": {"20": [0.5]}} for name in ("SA", "LLSA")]
    results = {"device": "cpu", "environment": {"cores": 1}, "cells": cells}
    timing.save(path, results)
    with timing.measured(path) as found:
        assert found == results
    assert all(json.dumps(cell) in path.read_text().splitlines()[i].strip(" ,") for i, cell in zip((-4, -3), cells))
    timing.save(path, {**results, "cells": []})
    with pytest.raises(UserError, match="nothing is measured"), timing.measured(path):
        pass
    path.write_text("[]")
    with pytest.raises(UserError, match="holds no measurements"):
        timing.load(path)
    assert timing.load(tmp_path / "none.json") is None
