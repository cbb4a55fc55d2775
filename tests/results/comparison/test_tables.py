"""The table and the figures of the comparison say what the files say, and refuse what does not belong together."""

import json
import math
import re

import pytest
from ruamel.yaml import YAML

from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.decoding import bootstrap
from results.comparison import figures, measured, page, tables
from results.experiments import FIRST_PAGE, OTHER_RUNS, at_scale


def test_verdicts():
    clear, unclear = bootstrap.Difference(-1.0, -1.5, -0.5, 1.0), bootstrap.Difference(-1.0, -2.5, 0.5, 0.9)
    three, worse = [20.0, 20.1, 20.2], [21.0, 21.1, 21.2]
    assert tables.verdict(clear, three, worse) == tables.verdict(clear, worse, three) == "yes"
    assert tables.verdict(unclear, three, worse) == "no"
    assert tables.verdict(clear, three, [wer + 35 for wer in worse]) == "too early"
    assert tables.verdict(clear, three[:2], worse) == tables.verdict(clear, three, [20.15, *worse]) == "these trainings"


def write(folder, name, seed, errors, config={}, **changes):
    """A measured run of 4 utterances of 10 words by 2 speakers."""
    one = next(one for one in at_scale("cpu") if one.name == name)
    wer = 100 * sum(errors) / 40
    score = {"wer": wer, "low": wer - 1, "high": wer + 1, "utterances": 4, "different": []}
    manifests = {split: {"sha256": split, "hours": 1.5, "utterances": 4, "speakers": 2} for split in ("a", "b", "test-clean")}
    record = {"updates": 100, "seconds": 500.0, "cpu_seconds": 60.0 * seed, "epoch": 1, "valid_wer": wer}
    utterances = {"speakers": "1 1 2 2", "words": "10 10 10 10", "errors": " ".join(map(str, errors))}
    run = {
        "wer": {"test-clean": score}, "wer_streaming": {"test-clean": score}, "wer_lm": None, "parameters": 1_234_000,
        "latency": {"attention_ms": one.lookahead_ms}, "environment": {"cpu": "one", "cores": 1, "gpu": None},
        "data": {"splits": {"train": ["a"], "dev": ["b"], "test": ["test-clean"]}, "manifests": manifests, "codec": "FLAC"},
        "log": {"pretrain": [], "finetune": [record]}, "utterances": {"test-clean": utterances},
        "config": {"name": name, "finetune": {"epochs": 1}, **one.changes, **config}, "config_hash": name,
        "speed": {"device": "cpu"}, **changes,
    }  # fmt: skip
    path = folder / f"{name}-cpu-librispeech-seed{seed}.json"
    path.write_text(json.dumps({key: value for key, value in run.items() if value != "old"}))
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("measured", "comparison"):
        (tmp_path / name).mkdir()
    return tmp_path / "measured"


def row(folder, title):
    """A line of the only table."""
    (of_scale,) = measured.read(folder).values()
    return next(line for line in tables.rows(of_scale) if line["attention"] == title)


@pytest.mark.slow
def test_rows(folder):
    assert page.comparison(folder).startswith("No experiment") and measured.read(folder) == {}
    for seed in (1, 2, 3):
        write(folder, "chunk-mask", seed, [4, 4, 4, 4 + seed])
        write(folder, "llsa-c3", seed, [2, 2, 2, 2 + seed])
    path = write(folder, "aa", 1, [1, 1, 1, 1], wer_lm={"test-clean": {"wer": 5.0, "low": 4.0, "high": 6.0}})
    for seed in (1, 2):
        errors = {"errors": f"4 4 4 {4 + seed}", "errors_lm": " ".join([str(seed)] * 4)}
        utterances = {"speakers": "1 1 2 2", "words": "10 10 10 10", **errors}
        score = {"test-clean": {"wer": 10.0 * seed, "low": 0.0, "high": 90.0}}
        write(folder, "chunk-mask", seed, [4, 4, 4, 4 + seed], utterances={"test-clean": utterances}, wer_lm=score)
    write(folder, "shared-2", 1, [1, 1, 1, 1])
    (of_scale,) = measured.read(folder).values()
    sentence, lines = tables.sentence(of_scale), tables.rows(of_scale)
    assert "trained on 1.5 h (a), FLAC" in sentence and "4 utterances of 2 speakers" in sentence
    assert [line["attention"] for line in lines].count("AA") == 1 and len(lines) == len(at_scale("cpu"))
    aa = row(folder, "AA")
    assert (aa["WER % [95 % interval]"], aa["with LM"]) == ("10.0 [9.0, 11.0]", "5.0 [4.0, 6.0]")
    assert (aa["streaming (texts that differ)"], aa["training"]) == ("no streaming form", "100 updates, 1 min")
    assert aa["runs"] == "[1](../measured/aa-cpu-librispeech-seed1.json); missing: 2, 3"
    assert row(folder, "AA, relative, a map for 2 layers")["significant"] == "no"
    llsa = row(folder, "LLSA, chunk 3")
    assert re.fullmatch(r"25.0 \[.*\]; 3 seeds, 22.5 to 27.5", llsa["WER % [95 % interval]"])
    assert llsa["difference to the reference"] == "-20.0 [-20.0, -20.0]" and llsa["significant"] == "yes"
    assert llsa["streaming (texts that differ)"] == "25.0 (0 of 12)" and llsa["a step, AA = 1"] == "2.00"
    mask = row(folder, "chunk mask, 5 frames")
    assert mask["difference to the reference"] == "reference"
    assert mask["with LM"] == "15.0 [15.0, 15.0]; 2 seeds, 10.0 to 20.0; 2 of 3 seeds"
    assert row(folder, "SA, causal")["WER % [95 % interval]"] == "missing"
    path.unlink()
    assert row(folder, "AA")["WER % [95 % interval]"] == "missing" and row(folder, "AA")["runs"] == "missing: 1, 2, 3"


def test_old_files_make_rows(folder):
    write(folder, "aa", 1, [1, 1, 1, 1], log="old", utterances="old", wer_lm="old")
    write(folder, "shared-2", 1, [2, 2, 2, 2])
    old, new = row(folder, "AA"), row(folder, "AA, relative, a map for 2 layers")
    assert old["WER % [95 % interval]"] == "10.0 [9.0, 11.0]" and old["training"] == ""
    assert new["difference to the reference"] == new["a step, AA = 1"] == ""


@pytest.mark.slow
def test_what_does_not_belong_together_is_refused(folder):
    write(folder, "aa", 1, [1, 1, 1, 1])
    manifests = {"a": {"sha256": "another"}, "b": {"sha256": "b"}, "test-clean": {"sha256": "test-clean"}}
    path = write(folder, "causal", 1, [1, 1, 1, 1], data={"splits": {"train": ["a"]}, "manifests": manifests})
    with pytest.raises(ValueError, match="of different data: delete the one"):
        measured.read(folder)
    path.unlink()
    start = {"name": "aa-cpu-librispeech-seed1", "config_hash": "that of another"}
    path = write(folder, "sa-as-llsa", 1, [1, 1, 1, 1], start=start)
    with pytest.raises(ValueError, match="sa-as-llsa-cpu-librispeech-seed1.json began with an older aa-cpu"):
        measured.read(folder)
    path.unlink()
    for config, says in (
        ({"finetune": {"epochs": 0, "lr": 0.1}, "codec": "MP3"}, "have another finetune.lr: delete the older one"),
        ({"muon_lr": 0.1}, "have another muon_lr: delete the older one"),
        ({"attention": {"chunk": 2, "lookahead": 4}}, "sa-as-llsa.* has another attention.chunk than its name says"),
    ):
        path = write(folder, "sa-as-llsa", 1, [1, 1, 1, 1], config=config)  # its epochs are what the experiment is about
        with pytest.raises(ValueError, match=says):
            measured.read(folder)
        path.unlink()
    write(folder, "causal", 1, [1, 1, 1, 1], latency={"attention_ms": 160})
    with pytest.raises(ValueError, match="looks ahead by another time"):
        measured.read(folder)


def test_the_first_page_has_few_rows_and_published_numbers_apart(folder):
    assert page.results(folder) == page.headline(folder) == page.NOTHING
    write(folder, "llsa-c3", 1, [2, 2, 2, 2])
    write(folder, "sa-as-llsa", 1, [9, 9, 9, 9])
    lines = [line.strip("| ").split(" | ") for line in page.results(folder).splitlines() if line.startswith("|")]
    assert len(lines) - 2 == len(FIRST_PAGE) <= 8 and all(len(line) <= 5 for line in lines)
    assert ["LLSA, chunk 3", "0.16 s", "20.0 [19.0, 21.0]", "20.0 (0 of 4)", "5.84 (0.16 s)"] in lines
    papers = YAML(typ="safe").load(page.PUBLISHED.read_text())
    assert {paper["row"] for paper in papers if "row" in paper} <= set(FIRST_PAGE)


def test_the_headline_says_when_it_is_too_early(folder):
    write(folder, "aa", 1, [5, 5, 6, 6])
    assert "the lowest WER on test-clean is that of AA, 55.0 %. Above 50 % a system has hardly learned" in page.headline(folder)
    write(folder, "llsa-c3", 1, [2, 2, 2, 2])
    words = page.headline(folder)
    assert words.startswith(f"2 of {len(at_scale('cpu'))} experiments of scale `cpu`") and words.endswith("LLSA, chunk 3, 20.0 %")
    assert page.state(folder).replace("\n", " ") == f"{words}."


def test_the_other_table_has_the_other_runs(folder):
    write(folder, "aa", 1, [1, 1, 1, 1])
    assert page.other_runs(folder) == f"Missing: {', '.join(OTHER_RUNS)}."


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_another_run_whose_file_is_gone_is_missing(folder, name):
    for other in OTHER_RUNS:
        (folder / f"{other}.json").symlink_to(page.FILES / f"{other}.json")
    before = page.other_runs(folder).splitlines()
    (folder / f"{name}.json").unlink()
    lines = page.other_runs(folder).splitlines()
    (gone,), (missing,) = set(before) - set(lines), set(lines) - set(before)
    assert f"../measured/{name}.json" in gone and "| missing |" in missing and missing.endswith(f"| {name} |")


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["cpu", "small"])
def test_experiments_look_ahead_by_what_they_say(scale):
    narrow = {"dim": 16, "ffn_dim": 16}
    for one in at_scale(scale):
        text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in {**one.changes, "scale": scale, **narrow}.items())
        hparams, _ = experiment.load(f"hparams/{one.yaml}.yaml", text)
        ahead = hparams["model"].encoder.lookahead * hparams["model"].frame_ms
        assert ahead == (math.inf if one.lookahead_ms is None else one.lookahead_ms), one.name


@pytest.mark.slow
def test_figures_are_drawn_once(folder):
    def drawn():
        paths = (folder.parent / "comparison").glob("*.png")
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    figures.write(folder.parent)
    assert not drawn()
    for name, errors in {"aa": 1, "sa-1920": 2, "chunk-mask": 2, "causal": 3, "sa-as-llsa": 9}.items():
        write(folder, name, 1, [errors] * 4)
    figures.write(folder.parent)
    before = drawn()
    assert sorted(before) == ["learning_curves.png", "story.png"]
    figures.write(folder.parent)
    assert drawn() == before
    write(folder, "aa", 1, [2] * 4)
    figures.write(folder.parent)
    assert all(drawn()[name][0] != content for name, (content, _) in before.items())
