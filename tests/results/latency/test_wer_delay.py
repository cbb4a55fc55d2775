"""The figure of WER against delay draws what was measured, and nothing that does not belong together."""

import json

import pytest

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
    with pytest.raises(ValueError, match="no run has both"):
        wer_delay.points(folder)
    write(folder, "a", "test-clean")
    write(folder, "b", "test-synth")
    write(folder, "c", "test-synth", delay=False)
    found, missing = wer_delay.points(folder)
    point = {
        "name": "LLSA, chunk 3", "attention": "LLSA", "word_ends": "CTC", "wer": 20.0, "low": 18.0, "high": 23.0,
        "median": 0.2, "p90": 0.3,
    }  # fmt: skip
    assert found == {"test-clean": [point], "test-synth": [point]} and missing == ["c"]
    wer_delay.draw(found, missing, folder / "figure.png")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    write(folder, "a", "test-clean", checksum="y")
    with pytest.raises(ValueError, match="a.json is of another system or other data"):
        wer_delay.points(folder)
