"""The figure of WER against delay draws what was measured, and nothing that does not belong together."""

import json

import pytest

from recipes.command_line import UserError
from recipes.LibriSpeech.summary import Summary
from results.latency import wer_delay


def write(folder, name, split, checksum="x", delay=True):
    score = {"wer": 20.0, "low": 18.0, "high": 23.0}
    run = {
        "attention": "LLSA", "config": {"attention": {"chunk": 3}}, "config_hash": name, "wer": {split: score},
        "data": {"manifests": {split: {"sha256": "x"}}},
    }  # fmt: skip
    (folder / "measured" / f"{name}.json").write_text(json.dumps(run))
    hops = [{"emitted_ms": {"median": 200.0, "p90": 300.0}}, {"emitted_ms": {"median": 900.0, "p90": 950.0}}]
    delays = {"split": split, "sha256": checksum, "config_hash": name, "word_ends": "CTC", "hops": hops}
    if delay:
        (folder / "latency" / "delays" / f"{name}.json").write_text(json.dumps(delays))


@pytest.fixture
def folder(tmp_path):
    for name in ("measured", "latency/delays"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_points_and_figure(folder):
    with pytest.raises(UserError, match="no run has both"):
        wer_delay.points(folder)
    write(folder, "a", "test-clean")
    write(folder, "b", "test-synth")
    write(folder, "c", "test-synth", delay=False)
    found, missing = wer_delay.points(folder)
    point = {
        "name": "LLSA, chunk 3", "word_ends": "CTC", "wer": 20.0, "low": 18.0, "high": 23.0,
        "median": 0.2, "p90": 0.3,
    }  # fmt: skip
    assert found == {"test-clean": [point], "test-synth": [point]} and missing == ["c"]
    wer_delay.draw(found, missing, folder / "figure.png")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    write(folder, "a", "test-clean", checksum="y")
    with pytest.raises(UserError, match="a.json is of another system or other data"):
        wer_delay.points(folder)


def test_a_test_set_with_a_single_run_has_no_panel(folder):
    for name, split in (("a", "test-synth"), ("b", "test-synth"), ("c", "test-clean")):
        write(folder, name, split)
    found, missing = wer_delay.points(folder)
    wer_delay.draw(found, missing, folder / "all.png")
    wer_delay.draw({"test-synth": found["test-synth"]}, missing, folder / "synth.png")
    assert (folder / "all.png").read_bytes() == (folder / "synth.png").read_bytes()


def test_names_say_what_differs():
    def name(attention, owners=None, **options):
        return wer_delay.name_of(Summary({"attention": attention, "config": {"attention": options, "owners": owners}}))

    assert name("LLSA", chunk=1, lookahead=4) == "LLSA" and name("LLSA", chunk=3, lookahead=2) == "LLSA, chunk 3"
    assert name("LLSA", chunk=5, lookahead=0) == "chunk mask, 5 frames" and name("SA", lookahead=0) == "SA"
    assert name("SummaryMixing", chunk=4) == "SummaryMixing, chunk 4" and name("AA", [0, 2]) == "AA, shared maps"
