"""The tables of the page on latency show what went wrong, and what is missing."""

import json

from results.experiments import FIRST_COMMAND
from results.latency import page


def soak(folder, name, **changes):
    tenth = {"state_bytes": 2048, "resident_mib": 100.0, "compute_median_ms": 2.0}
    far = {"first_frame": 25 * 60 * 60 * 24 * 365.25 * 3, "difference": 2e-6}  # three years of 40 ms
    result = {
        "experiment": name, "split": "test-c", "minutes": 1, "frames": 1500, "initial_state_bytes": 2048,
        "tenths": [tenth] * 10, "difference": 1e-6, "far": far, "failures": [],
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps({**result, **changes}))


def test_what_a_soak_found(tmp_path):
    soak(tmp_path, "sound")
    tenths = [{"state_bytes": 2048 * n, "resident_mib": 100.0 + n, "compute_median_ms": float(n)} for n in range(1, 11)]
    soak(tmp_path, "unsound", tenths=tenths, failures=["the state grew", "memory grew"])
    *_, sound, unsound, missing = (line.strip("| ").split(" | ") for line in page.soaks(tmp_path).splitlines())
    assert sound[2:] == ["2 KiB, unchanged", "0.0 MiB", "2.0, 2.0 ms", "1e-06", "2e-06 (3.0 years)", "nothing"]
    assert unsound[2:5] == ["2 KiB, then 20 KiB", "9.0 MiB", "2.0, 10.0 ms"]
    assert unsound[-1] == "the state grew; memory grew"
    assert missing[0] == FIRST_COMMAND and "missing" in missing


def test_the_headline_is_of_the_papers_depth(tmp_path):
    lookahead = {name: {"measured": [step * layer for layer in range(1, 13)]} for name, step in (("SA", 100), ("LLSA", 0))}
    (tmp_path / "depth.json").write_text(json.dumps({"layers": list(range(1, 13)), "lookahead_ms": lookahead}))
    assert page.headline(tmp_path / "depth.json").endswith("SA looks ahead by 1.20 s, one of LLSA by 0")
