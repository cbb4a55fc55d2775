"""What a run leaves behind: its JSON, the hash of its configuration, its environment, and the table of several runs."""

import json
import os
import subprocess
import sys

import pytest
import torch

from recipes import files, machine, text_table
from recipes.LibriSpeech import summary

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
    "wer_streaming": {"test-clean": {"wer": 5.84, "different": []}, "test-other": {"wer": 15.1, "different": ["a", "b"]}},
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


def test_environment_is_json_and_true():
    found = machine.environment()
    assert json.loads(json.dumps(found)) == found
    assert set(found["versions"]) == {"python", "torch", "torchaudio", "speechbrain", "hyperpyyaml", "jiwer"}
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["cores"] == torch.get_num_threads()
    assert found["memory_gib"] > 0 and found["cpu"]
    assert (found["gpu"] is not None) == torch.cuda.is_available()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one commit that holds a copy of the module; returns (run git, the copied module's source)."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "package" / "summary.py"
    module.parent.mkdir()
    module.write_text("first\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(machine, "__file__", str(module))
    return git, module


def test_environment_names_the_commit(checkout):
    git, module = checkout
    commit = git("rev-parse", "HEAD")
    assert machine.environment()["git"] == {"commit": commit, "dirty": False}
    module.write_text("second\n")
    assert machine.environment()["git"] == {"commit": commit, "dirty": True}
    git("checkout", ".")
    (module.parent / "new_attention.py").write_text("untracked code counts\n")
    assert machine.environment()["git"] == {"commit": commit, "dirty": True}


def test_no_commit_for_code_that_is_merely_inside_a_checkout(checkout, monkeypatch):
    """A package installed below someone's own project must not report that project's commit as its own."""
    _, module = checkout
    installed = module.parent / "site-packages" / "summary.py"
    installed.parent.mkdir()
    installed.write_text("installed\n")
    monkeypatch.setattr(machine, "__file__", str(installed))
    assert machine.environment()["git"] is None


def test_peak_memory_is_what_this_process_held_at_most():
    """A small process takes 100 MiB and lets them go; the one that started it holds 500 MiB, which are not its own."""
    large = torch.ones(500, 2**20, dtype=torch.uint8)
    code = f"""
import importlib.util, sys, types
device = lambda name: types.SimpleNamespace(type=name)
sys.modules["torch"] = types.SimpleNamespace(device=device)  # the real one would take more than 100 MiB itself
spec = importlib.util.spec_from_file_location("summary", {summary.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
block = b"x" * (100 * 2**20)
del block
print(module.peak_memory_mib())
"""
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 100 <= float(child.stdout) < 300
    assert machine.peak_memory_mib() >= large.numel() / 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_of_a_cuda_device():
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 2**20
    held = torch.empty(10, 2**20, dtype=torch.uint8, device="cuda")
    del held
    assert machine.peak_memory_mib("cuda") == before + 10


def test_json_round_trip(tmp_path):
    path = tmp_path / "summary.json"
    files.write_json(path, SUMMARY)
    text = path.read_text()
    assert json.loads(text) == SUMMARY
    assert text.endswith("}\n") and '\n  "attention": "LLSA"' in text
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"wer": float("nan")}]])
def test_json_refuses_what_is_no_number(tmp_path, value):
    path = tmp_path / "summary.json"
    files.write_json(path, {"wer": 5.84})
    with pytest.raises(ValueError):
        files.write_json(path, {"wer": value})
    assert json.loads(path.read_text()) == {"wer": 5.84}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    """The last character has no encoding: the write fails when the file is already open."""
    path = tmp_path / "utterances.tsv"
    files.write_text(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new " * 100000 + "\ud800")
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["utterances.tsv"]


def test_a_failed_rename_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_json(path, {"wer": 1})

    def crash(source, target):
        assert json.loads(open(source).read()) == {"wer": 2}  # complete before it takes the place of the old one
        raise OSError("crash")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        files.write_json(path, {"wer": 2})
    assert json.loads(path.read_text()) == {"wer": 1}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_one_row_per_test_set():
    first, second = summary.summary_rows(SUMMARY)
    assert first == {
        "experiment": "llsa",
        "attention": "LLSA",
        "scale": "mini",
        "test": "test-clean",
        "WER % [95 %]": "5.84 [5.50, 6.20]",
        "WER % streaming": 5.84,
        "utterances that differ": 0,
        "attention latency (ms)": 160.0,
        "total latency (ms)": 200.0,
        "parameters (M)": 1.234567,
        "time (min)": 3.0,
    }
    assert (second["test"], second["WER % [95 %]"]) == ("test-other", "15.00 [14.25, 16.00]")
    assert second["utterances that differ"] == 2


def test_no_streaming_form_is_no_number():
    rows = summary.summary_rows({**SUMMARY, "wer_streaming": None})
    assert {(row["WER % streaming"], row["utterances that differ"]) for row in rows} == {(None, None)}


def test_latency_of_the_whole_utterance_is_said_in_words():
    rows = summary.summary_rows({**SUMMARY, "latency": {"attention_ms": None, "total_ms": None}})
    assert {row["attention latency (ms)"] for row in rows} == {"utterance"}
    assert {row["total latency (ms)"] for row in rows} == {"utterance"}


def test_latency_of_zero_is_a_number():
    rows = summary.summary_rows({**SUMMARY, "latency": {"attention_ms": 0.0, "total_ms": 40.0}})
    assert [row["attention latency (ms)"] for row in rows] == [0.0, 0.0]


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
