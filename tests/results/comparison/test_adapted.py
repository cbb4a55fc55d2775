"""The table and the figure of runs that began with a public encoder say what their files say."""

import json

from results.comparison import adapted
from results.experiments import ADAPTED


def write(folder, name, wers, start=None, **changes):
    """A run whose epochs took ten minutes of a core each."""
    score = {"wer": 30.0, "low": 29.0, "high": 31.0, "utterances": 4, "different": ["a"]}
    log = [{"seconds": 9999.0, "cpu_seconds": 600.0 * (epoch + 1), "valid_wer": wer} for epoch, wer in enumerate(wers)]
    run = {
        "attention": "LLSA", "config": {"attention": {"chunk": 3}}, "latency": {"attention_ms": 160.0}, "parameters": 2e6,
        "wer": {"test-clean": score}, "wer_streaming": {"test-clean": score}, "log": {"finetune": log},
        "start": start and {"name": start, "config_hash": None}, "speed": {"device": "cpu"}, **changes,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(run))


def test_table(tmp_path):
    assert adapted.table(tmp_path) == f"Missing: {', '.join(ADAPTED)}."
    offline = {"attention": "AA", "config": {"attention": {}}, "latency": {"attention_ms": None}, "wer_streaming": None}
    write(tmp_path, ADAPTED[0], [70.0, 55.25], "whisper-base", **offline)
    write(tmp_path, ADAPTED[2], range(91, 80, -1))
    write(tmp_path, ADAPTED[1], [60.0, 50.0], "whisper-base")
    lines = adapted.table(tmp_path).splitlines()
    assert len(lines) == 2 + len(ADAPTED)
    llsa, aa, scratch, missing = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert llsa[:4] == ["whisper-base", "LLSA, chunk 3", "0.16 s", "60.0 after 10, 50.0 after 20"]  # the best one first
    assert llsa[4:7] == ["30.0 [29.0, 31.0]", "30.0 (1 of 4)", "2.0 M"]
    assert aa[1:4] == ["AA", "utterance", "70.0 after 10, 55.2 after 20"] and aa[5] == "no streaming form"
    assert scratch[0] == "nothing"
    assert scratch[3] == "90.0 after 20, 87.0 after 50, 84.0 after 80, 81.0 after 110"  # some, and the last
    assert missing[4] == "missing" and missing[-1] == ADAPTED[3]
    short = [[cell.strip() for cell in line.split("|")[1:-1]] for line in adapted.in_short(tmp_path).splitlines()]
    assert short[0] == list(adapted.SHORT) and len(short) == 2 + 3
    assert short[2] == [*aa[:3], aa[4], aa[5], f"[{ADAPTED[0]}](results/measured/{ADAPTED[0]}.json)"]


def test_figure(tmp_path):
    path = tmp_path / "adapted.png"
    write(tmp_path, ADAPTED[0], [70.0, 55.0], "whisper-base")
    adapted.draw(tmp_path, path)
    before = path.read_bytes()
    write(tmp_path, ADAPTED[2], [90.0, 85.0])
    adapted.draw(tmp_path, path)
    assert path.read_bytes() != before
    for file in tmp_path.glob("*.json"):
        file.unlink()
    adapted.draw(tmp_path, path)
    assert not path.exists()
