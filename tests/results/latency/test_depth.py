"""The measured look-ahead against depth, as committed, and its picture."""

import json

import pytest

from results.latency import depth


def test_llsa_is_flat_and_the_others_rise():
    results = json.loads(depth.FILE.read_text())
    lookahead = results["lookahead_ms"]
    assert results["layers"] == list(range(1, 17))
    assert lookahead.keys() == depth.AGAINST_DEPTH.keys()
    for name, points in lookahead.items():
        each = {"AA": [None] * 16, "MAA": range(160, 2561, 160), "SA": range(160, 2561, 160)}
        assert points["declared"] == points["measured"] == list(each.get(name, [160] * 16))


@pytest.mark.slow
def test_measuring_again_gives_what_is_committed(monkeypatch):
    committed, depths = json.loads(depth.FILE.read_text())["lookahead_ms"], [1, 5]
    monkeypatch.setattr(depth, "DEPTHS", depths)
    for name, points in depth.measure()["lookahead_ms"].items():
        assert points["measured"] == [committed[name]["measured"][layers - 1] for layers in depths]


def test_it_can_be_drawn(tmp_path):
    depth.draw(json.loads(depth.FILE.read_text()), tmp_path / "depth.png")
    for path in (tmp_path / "depth.png", depth.FILE.with_suffix(".png")):
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 100_000
