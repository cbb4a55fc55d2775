"""What a run leaves behind: its summary, the hash of its configuration, and the table that it ends with."""

import json
from pathlib import Path

import pytest

from recipes.command_line import UserError
from recipes.LibriSpeech import summary
from recipes.LibriSpeech.summary import Summary

SUMMARY = {
    "experiment": "llsa",
    "attention": "LLSA",
    "block": "ConformerBlock",
    "scale": "mini",
    "seed": 1,
    "wer": {
        "test-clean": {"wer": 5.84, "low": 5.5, "high": 6.204},
        "test-other": {"wer": 15.0, "low": 14.25, "high": 16.0},
    },
    "wer_streaming": {
        "test-clean": {"wer": 5.84, "low": 5.5, "high": 6.204, "different": []},
        "test-other": {"wer": 15.1, "low": 14.3, "high": 16.1, "different": ["a", "b"]},
    },
    "latency": {"attention_ms": 160.0, "total_ms": 200.0},
    "parameters": 1234567,
    "time_s": {"pretrain": 60.0, "finetune": 90.0, "test": 30.0},
}


def test_hash_ignores_the_order_of_keys_at_any_depth():
    one = {"seed": 1, "attention": {"lookahead": 4, "left_context": 16}}
    other = {"attention": {"left_context": 16, "lookahead": 4}, "seed": 1}
    assert summary.config_hash(one) == summary.config_hash(other)
    assert len(summary.config_hash(one)) == 16 and int(summary.config_hash(one), 16) >= 0


def test_hash_survives_a_file():
    config = {"sizes": (1, 2), "name": "é", "rate": 0.1, "none": None}
    assert summary.config_hash(json.loads(json.dumps(config))) == summary.config_hash(config)


def test_hash_tells_values_apart():
    configs = [{"a": 1}, {"a": 2}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": [1, 2]}, {"a": [2, 1]}, {"b": 1}, {}]
    assert len({summary.config_hash(config) for config in configs}) == len(configs)


def test_hash_refuses_objects():
    with pytest.raises(TypeError):
        summary.config_hash({"attention": object()})


def test_one_row_per_test_set():
    first, second = summary.summary_rows(Summary(SUMMARY))
    assert first == {
        "experiment": "llsa",
        "attention": "LLSA",
        "scale": "mini",
        "test": "test-clean",
        "WER % [95 %]": "5.84 [5.50, 6.20]",
        "streaming %": 5.84,
        "texts differ": 0,
        "look-ahead ms": 160.0,
        "in all ms": 200.0,
        "M parameters": 1.234567,
        "minutes": 3.0,
    }
    assert (second["test"], second["WER % [95 %]"]) == ("test-other", "15.00 [14.25, 16.00]")
    assert second["texts differ"] == 2


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": {}}', "\x00"])
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(UserError, match="run.json is damaged: delete it"):
        Summary.read(path)


def test_every_measured_file_is_read():
    paths = sorted((Path(__file__).parents[2] / "results" / "measured").glob("*.json"))
    assert paths
    for path in paths:
        found = Summary.read(path)
        content = json.loads(path.read_text())
        ((split, score),) = content["wer"].items()
        assert found.tests == found.splits["test"] == [split] and found.score(split)[:4] == (
            *(score[name] for name in ("wer", "low", "high")), score["utterances"],
        )  # fmt: skip
        assert found.counts(split, "errors").sum() == sum(score[kind] for kind in ("substitutions", "insertions", "deletions"))
        assert found.counts(split, "words").sum() == score["words"] and found.counts(split, "nothing") is None
        assert found.streams == (found.streaming_score(split) is not None) and found.config_hash == content["config_hash"]
        assert found.hours("train") > 0 and all(record["updates"] > 0 for record in found.log("finetune"))
        assert found.seconds > 0 and found.parameters > 1e5 and found.block in ("Transformer", "Conformer")


def test_no_streaming_form_is_no_number():
    rows = summary.summary_rows(Summary({**SUMMARY, "wer_streaming": None}))
    assert {(row["streaming %"], row["texts differ"]) for row in rows} == {(None, None)}


def test_latency_of_the_whole_utterance_is_said_in_words():
    rows = summary.summary_rows(Summary({**SUMMARY, "latency": {"attention_ms": None, "total_ms": None}}))
    assert {row["look-ahead ms"] for row in rows} == {"utterance"}
    assert {row["in all ms"] for row in rows} == {"utterance"}


def test_latency_of_zero_is_a_number():
    rows = summary.summary_rows(Summary({**SUMMARY, "latency": {"attention_ms": 0.0, "total_ms": 40.0}}))
    assert [row["look-ahead ms"] for row in rows] == [0.0, 0.0]
