"""The hashes that tell whether a change of code changes a result."""

import pytest
from tiny_weights import ROOT, train


@pytest.mark.slow
def test_the_hash_is_that_of_the_training(tmp_path):
    """The same training twice, and one with another weight decay."""
    runs = {name: tmp_path / name for name in ("first", "again", "other")}
    for folder in runs.values():
        folder.mkdir()
    first = train(ROOT, "SummaryMixing", runs["first"])
    assert train(ROOT, "SummaryMixing", runs["again"]) == first
    other = train(ROOT, "SummaryMixing", runs["other"], weight_decay="0.02")
    encoder, model, *_ = first.split(", ")
    assert encoder not in other and model not in other
