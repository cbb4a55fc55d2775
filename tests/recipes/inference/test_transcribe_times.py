"""transcribe.py --json: when each word was said, and when it came out."""

import pytest
from talkative import json_lines, record, run

FRAME, LOOKAHEAD = 0.04, {"sa": 8, "llsa": 4}  # s; frames of 2 layers, or in all


@pytest.mark.parametrize("case", LOOKAHEAD)
def test_times_of_words(make_experiment, tmp_path, capsys, case):
    folder, path, ahead = make_experiment(case), tmp_path / "a.wav", LOOKAHEAD[case]
    text, samples = record(folder, path, 5.01306), round(5.01306 * 16000)
    *words, summary = json_lines(run(capsys, folder, path, "--json")[1])
    assert len(words) > 5 and " ".join(word["word"] for word in words) == text == summary["text"]
    frames = -(-samples // 640)
    on_time = [word for word in words if word["frame"][1] + 1 + ahead <= samples // 640]
    assert len(on_time) >= len(words) - 3
    for word in on_time:  # each frame comes when the look-ahead that is declared has been heard, and no later
        assert word["emitted"] - word["end"] == pytest.approx(ahead * FRAME)
    for word in words:
        first, last = word["frame"]
        assert 0 <= first <= last < frames and word["start"] == pytest.approx(first * FRAME)
        assert word["end"] == pytest.approx(min((last + 1) * FRAME, samples / 16000))
        assert word["start"] < word["end"] <= word["emitted"] <= word["closed"] <= samples / 16000
    for before, after in zip(words, words[1:]):
        assert before["frame"][1] < after["frame"][0] and before["closed"] <= after["emitted"]
    assert words[-1]["closed"] == summary["seconds"] == samples / 16000
    assert summary["rate"] == 16000 and summary["hop_ms"] == 40 and summary["file"] == str(path)
    assert summary["latency_ms"]["attention_ms"] == 1000 * ahead * FRAME
    assert summary["latency_ms"]["total_ms"] == 1000 * (ahead + 1) * FRAME
    assert summary["real_time_factor"] > 0 and summary["state_bytes"] > 0


@pytest.mark.parametrize("hop_ms", [20, 370, 1000])
def test_words_come_at_the_end_of_a_piece(make_experiment, tmp_path, capsys, hop_ms):
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    record(folder, path, 5)
    *words, summary = json_lines(run(capsys, folder, path, "--json", "--hop_ms", hop_ms)[1])
    assert summary["hop_ms"] == hop_ms and len(words) > 5
    for word in words:
        ready = (word["frame"][1] + 1 + 4) * 640  # samples
        pieces = -(-ready // (16 * hop_ms))
        assert word["emitted"] == pytest.approx(min(pieces * hop_ms / 1000, 5))


def test_times_of_words_at_another_rate(make_experiment, tmp_path, capsys):
    """The last sample of a frame waits for the filter's half width, and so for the next piece."""
    folder, path = make_experiment("llsa"), tmp_path / "a.wav"
    text = record(folder, path, 3, rate=44100)
    *words, summary = json_lines(run(capsys, folder, path, "--json")[1])
    assert " ".join(word["word"] for word in words) == text
    for word in words[:-3]:
        assert word["emitted"] - word["end"] == pytest.approx((4 + 1) * FRAME, abs=1 / 16000)
    assert words[-1]["closed"] == summary["seconds"] == 3
    resampling = summary["latency_ms"]["resampling_ms"]
    assert 0.37 < resampling < 0.4 and summary["latency_ms"]["total_ms"] == 200 + resampling
