"""Tables for the terminal."""

import pytest

from recipes import text_table


def test_table_aligns_numbers_right_and_text_left():
    rows = [
        {"attention": "summary mixing", "latency (ms)": "utterance", "layers": 12, "WER (%)": None},
        {"attention": "LLSA", "latency (ms)": 160.0, "layers": 4, "WER (%)": 5.844},
    ]
    assert text_table.table(rows).splitlines() == [
        "attention       latency (ms)  layers  WER (%)",
        "summary mixing     utterance      12        -",
        "LLSA                  160.00       4     5.84",
    ]


def test_table_of_nothing_and_of_unequal_rows():
    assert text_table.table([]) == ""
    with pytest.raises(ValueError, match="same columns"):
        text_table.table([{"a": 1}, {"b": 1}])
