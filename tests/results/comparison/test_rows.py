"""The paired test where the answer is known, and the table and the figures that show it."""

import itertools
import json
import math
import re

import numpy as np
import pytest

from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.decoding import bootstrap, wer
from results.comparison import figures, page, rows
from results.experiments import OTHER_RUNS, at_scale

SPEAKERS, EACH = 40, 15  # utterances of each


def test_equal_systems_do_not_differ():
    errors, words = np.arange(40) % 4, np.full(40, 10)
    found = bootstrap.paired(errors, errors, words, np.arange(40) // 4)
    assert found == (0, 0, 0, 0.5) and not found.significant


def test_all_draws_of_few_speakers():
    """Against every possible sample of four speakers, one after the other."""
    generator = np.random.default_rng(0)
    speakers, words = np.repeat([19, 26, 84, 7], 5), generator.integers(3, 30, 20)
    errors, others = generator.integers(0, 4, 20), generator.integers(0, 4, 20)
    found = bootstrap.paired(errors, others, words, speakers, resamples=20000)
    draws, better = [], []
    for sample in itertools.product([19, 26, 84, 7], repeat=4):
        chosen = [i for speaker in sample for i in range(20) if speakers[i] == speaker]
        gained = sum(errors[i] - others[i] for i in chosen)
        draws.append(100 * gained / sum(words[i] for i in chosen))
        better.append(1.0 if gained < 0 else 0.5 if gained == 0 else 0.0)
    assert found.points == pytest.approx(100 * (errors.sum() - others.sum()) / words.sum())
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.3)
    assert found.improves == pytest.approx(np.mean(better), abs=0.02)


def test_the_interval_of_a_wer_is_that_of_the_summary():
    generator = np.random.default_rng(1)
    references = {f"{n:02d}": ["A"] * int(generator.integers(1, 9)) for n in range(30)}
    hypotheses = {key: ["A"] * max(0, len(words) - int(generator.integers(0, 3))) for key, words in references.items()}
    total, utterances = wer.score(references, hypotheses)
    errors, words = [u.errors for u in utterances], [len(u.reference) for u in utterances]
    assert bootstrap.interval(errors, words, range(30)) == (total.low, total.high)


def simulated(generator, gain):
    """Word errors of two systems; the first makes `gain` fewer in a word, and does differently well on each voice."""
    words, speakers = generator.integers(5, 30, SPEAKERS * EACH), np.repeat(np.arange(SPEAKERS), EACH)
    hard, voice = generator.uniform(0.2, 0.5, len(words)), generator.normal(0, 0.06, SPEAKERS).clip(-0.15, 0.15)[speakers]
    return generator.binomial(words, hard + voice - gain), generator.binomial(words, hard), words, speakers


def test_speakers_keep_the_level_that_utterances_do_not():
    generator, found = np.random.default_rng(2), {"speakers": [], "utterances": [], "better": []}
    for _ in range(200):
        errors, others, words, speakers = simulated(generator, gain=0.0)
        found["speakers"].append(bootstrap.paired(errors, others, words, speakers, resamples=500).significant)
        found["utterances"].append(bootstrap.paired(errors, others, words, range(len(words)), resamples=100).significant)
        better = bootstrap.paired(*simulated(generator, gain=0.05), resamples=200)
        found["better"].append(better.high < 0 and better.improves > 0.9)
    rates = {name: np.mean(values) for name, values in found.items()}
    assert 0.01 < rates["speakers"] < 0.15 and rates["utterances"] > 0.2 and rates["better"] > 0.95


def test_verdicts():
    clear, unclear = bootstrap.Difference(-1.0, -1.5, -0.5, 1.0), bootstrap.Difference(-1.0, -2.5, 0.5, 0.9)
    three, worse = [20.0, 20.1, 20.2], [21.0, 21.1, 21.2]
    assert rows.verdict(clear, three, worse) == rows.verdict(clear, worse, three) == "yes"
    assert rows.verdict(unclear, three, worse) == "no"
    assert rows.verdict(clear, three, [wer + 35 for wer in worse]) == "too early"
    assert rows.verdict(clear, three[:2], worse) == rows.verdict(clear, three, [20.15, *worse]) == "these trainings"


def write(folder, name, seed, errors, config={}, **changes):
    """A measured run of 4 utterances of 10 words by 2 speakers."""
    cell = next(cell for cell in at_scale("cpu") if cell.name == name)
    wer = 100 * sum(errors) / 40
    score = {"wer": wer, "low": wer - 1, "high": wer + 1, "utterances": 4, "different": []}
    manifests = {split: {"sha256": split, "hours": 1.5, "utterances": 4, "speakers": 2} for split in ("a", "b", "test-clean")}
    record = {"updates": 100, "seconds": 500.0, "cpu_seconds": 60.0 * seed, "epoch": 1, "valid_wer": wer}
    utterances = {"speakers": "1 1 2 2", "words": "10 10 10 10", "errors": " ".join(map(str, errors))}
    run = {
        "wer": {"test-clean": score}, "wer_streaming": {"test-clean": score}, "wer_lm": None, "parameters": 1_234_000,
        "latency": {"attention_ms": cell.lookahead_ms}, "environment": {"cpu": "one", "cores": 1, "gpu": None},
        "data": {"splits": {"train": ["a"], "dev": ["b"], "test": ["test-clean"]}, "manifests": manifests, "codec": "FLAC"},
        "log": {"pretrain": [], "finetune": [record]}, "utterances": {"test-clean": utterances},
        "config": {"name": name, "finetune": {"epochs": 1}, **cell.changes, **config}, "config_hash": name,
        "speed": {"device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / f"{name}-cpu-librispeech-seed{seed}.json"
    path.write_text(json.dumps({key: value for key, value in run.items() if value != "old"}))
    return path


@pytest.fixture
def measured(tmp_path):
    for name in ("measured", "comparison"):
        (tmp_path / name).mkdir()
    return tmp_path / "measured"


def row(folder, title):
    """A line of the only table."""
    ((_, lines),) = rows.sections(folder)
    return next(line for line in lines if line["attention"] == title)


def test_rows(measured):
    assert page.comparison(measured).startswith("No experiment") and rows.sections(measured) == []
    for seed in (1, 2, 3):
        write(measured, "chunk-mask", seed, [4, 4, 4, 4 + seed])
        write(measured, "llsa-c3", seed, [2, 2, 2, 2 + seed])
    path = write(measured, "aa", 1, [1, 1, 1, 1], wer_lm={"test-clean": {"wer": 5.0, "low": 4.0, "high": 6.0}})
    for seed in (1, 2):
        errors = {"errors": f"4 4 4 {4 + seed}", "errors_lm": " ".join([str(seed)] * 4)}
        utterances = {"speakers": "1 1 2 2", "words": "10 10 10 10", **errors}
        score = {"test-clean": {"wer": 10.0 * seed, "low": 0.0, "high": 90.0}}
        write(measured, "chunk-mask", seed, [4, 4, 4, 4 + seed], utterances={"test-clean": utterances}, wer_lm=score)
    write(measured, "shared-2", 1, [1, 1, 1, 1])
    ((sentence, lines),) = rows.sections(measured)
    assert "trained on 1.5 h (a), FLAC" in sentence and "4 utterances of 2 speakers" in sentence
    assert [line["attention"] for line in lines].count("AA") == 1 and len(lines) == len(at_scale("cpu"))
    aa = row(measured, "AA")
    assert (aa["WER % [95 % interval]"], aa["with LM"]) == ("10.0 [9.0, 11.0]", "5.0 [4.0, 6.0]")
    assert (aa["streaming (texts that differ)"], aa["training"]) == ("no streaming form", "100 updates, 1 min")
    assert aa["runs"] == "[1](../measured/aa-cpu-librispeech-seed1.json); missing: 2, 3"
    assert row(measured, "AA, relative, a map for 2 layers")["significant"] == "no"
    llsa = row(measured, "LLSA, chunk 3")
    assert re.fullmatch(r"25.0 \[.*\]; 3 seeds, 22.5 to 27.5", llsa["WER % [95 % interval]"])
    assert llsa["difference to the reference"] == "-20.0 [-20.0, -20.0]" and llsa["significant"] == "yes"
    assert llsa["streaming (texts that differ)"] == "25.0 (0 of 12)" and llsa["a step, AA = 1"] == "2.00"
    mask = row(measured, "chunk mask, 5 frames")
    assert mask["difference to the reference"] == "reference"
    assert mask["with LM"] == "15.0 [15.0, 15.0]; 2 seeds, 10.0 to 20.0; 2 of 3 seeds"
    assert row(measured, "SA, causal")["WER % [95 % interval]"] == "missing"
    path.unlink()
    assert row(measured, "AA")["WER % [95 % interval]"] == "missing" and row(measured, "AA")["runs"] == "missing: 1, 2, 3"


def test_old_files_make_rows(measured):
    write(measured, "aa", 1, [1, 1, 1, 1], log="old", utterances="old", wer_lm="old")
    write(measured, "shared-2", 1, [2, 2, 2, 2])
    old, new = row(measured, "AA"), row(measured, "AA, relative, a map for 2 layers")
    assert old["WER % [95 % interval]"] == "10.0 [9.0, 11.0]" and old["training"] == ""
    assert new["difference to the reference"] == new["a step, AA = 1"] == ""


def test_what_does_not_belong_together_is_refused(measured):
    write(measured, "aa", 1, [1, 1, 1, 1])
    manifests = {"a": {"sha256": "another"}, "b": {"sha256": "b"}, "test-clean": {"sha256": "test-clean"}}
    path = write(measured, "causal", 1, [1, 1, 1, 1], data={"splits": {"train": ["a"]}, "manifests": manifests})
    with pytest.raises(ValueError, match="of different data: delete the one"):
        rows.rows(measured)
    path.unlink()
    start = {"name": "aa-cpu-librispeech-seed1", "config_hash": "that of another"}
    path = write(measured, "sa-as-llsa", 1, [1, 1, 1, 1], start=start)
    with pytest.raises(ValueError, match="sa-as-llsa-cpu-librispeech-seed1.json began with an older aa-cpu"):
        rows.rows(measured)
    path.unlink()
    for config, says in (
        ({"finetune": {"epochs": 0, "lr": 0.1}, "codec": "MP3"}, "have another finetune.lr: delete the older one"),
        ({"muon_lr": 0.1}, "have another muon_lr: delete the older one"),
        ({"attention": {"chunk": 2, "lookahead": 4}}, "sa-as-llsa.* has another attention.chunk than its name says"),
    ):
        path = write(measured, "sa-as-llsa", 1, [1, 1, 1, 1], config=config)  # its epochs are what the experiment is about
        with pytest.raises(ValueError, match=says):
            rows.rows(measured)
        path.unlink()
    write(measured, "causal", 1, [1, 1, 1, 1], latency={"attention_ms": 160})
    with pytest.raises(ValueError, match="looks ahead by another time"):
        rows.rows(measured)


def test_the_other_table_has_the_other_runs(measured):
    write(measured, "aa", 1, [1, 1, 1, 1])
    assert page.other_runs(measured) == f"Missing: {', '.join(OTHER_RUNS)}."


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_another_run_whose_file_is_gone_is_missing(measured, name):
    for other in OTHER_RUNS:
        (measured / f"{other}.json").symlink_to(rows.MEASURED / f"{other}.json")
    before = page.other_runs(measured).splitlines()
    (measured / f"{name}.json").unlink()
    lines = page.other_runs(measured).splitlines()
    (gone,), (missing,) = set(before) - set(lines), set(lines) - set(before)
    assert f"../measured/{name}.json" in gone and "| missing |" in missing and missing.endswith(f"| {name} |")


@pytest.mark.parametrize("scale", ["cpu", "small"])
def test_experiments_look_ahead_by_what_they_say(scale):
    narrow = {"dim": 16, "ffn_dim": 16}
    for cell in at_scale(scale):
        text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in {**cell.changes, "scale": scale, **narrow}.items())
        hparams, _ = experiment.load(f"hparams/{cell.yaml}.yaml", text)
        ahead = hparams["model"].encoder.lookahead * hparams["model"].frame_ms
        assert ahead == (math.inf if cell.lookahead_ms is None else cell.lookahead_ms), cell.name


def test_figures_are_drawn_once(measured):
    def drawn():
        paths = (measured.parent / "comparison").glob("*.png")
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    figures.write(measured.parent)
    assert not drawn()
    for name, errors in {"aa": 1, "sa-1920": 2, "chunk-mask": 2, "causal": 3, "sa-as-llsa": 9}.items():
        write(measured, name, 1, [errors] * 4)
    figures.write(measured.parent)
    before = drawn()
    assert sorted(before) == ["learning_curves.png", "story.png"]
    figures.write(measured.parent)
    assert drawn() == before
    write(measured, "aa", 1, [2] * 4)
    figures.write(measured.parent)
    assert all(drawn()[name][0] != content for name, (content, _) in before.items())
