"""Every experiment is run once, whatever interrupts: kills, budgets, failures, a second start."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
from processes import soon, trainers
from tqdm import tqdm

from recipes.LibriSpeech import experiment
from results import pages, reproduce
from results.comparison import planned
from results.experiments import Experiment, at_scale
from tests.recipes.tiny import write_tree

ROOT = Path(__file__).parents[3]
STEPS, EVERY, EPOCHS = 12, 3, 4  # of the stand-in
EXPERIMENTS = [
    Experiment("aa", "aa", "AA", None, seeds=2),
    Experiment("tuned", "llsa", "LLSA", 160, {"weights": "sa-1920", "any_attention": True}),  # before what it needs
    Experiment("sa-1920", "sa", "SA", 1920, {"attention": {"lookahead": 12}}),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A checkout with a stand-in for train.py, and a LibriSpeech tree; `EXPERIMENTS` are all there is to do."""
    (tmp_path / "hparams").symlink_to(ROOT / "hparams")
    shutil.copy(Path(__file__).with_name("stand_in.py"), tmp_path / "train.py")
    for split in ("train-clean-5", "dev-clean", "test-clean"):
        folder = tmp_path / "LibriSpeech" / split / "1" / "2"
        folder.mkdir(parents=True)
        (folder / "1-2.trans.txt").touch()
    for module in (planned, reproduce):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(planned, "at_scale", lambda scale: EXPERIMENTS)
    monkeypatch.setattr(pages, "regenerate", lambda: True)
    monkeypatch.setattr(reproduce, "POLL_SECONDS", 0.02)
    write_configs(tmp_path)
    yield tmp_path
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write_configs(root):
    """What the stand-in says its configuration is."""
    splits = {"train_splits": ["train-clean-5"], "dev_splits": ["dev-clean"], "test_splits": ["test-clean"]}
    (root / "configs").mkdir(exist_ok=True)
    for run in planned.plan("cpu", seeds=None):
        config = experiment.identity(run.config({"data_folder": "elsewhere", **splits}))
        (root / "configs" / f"{run.name}.json").write_text(json.dumps(config))


def start(root, *options):
    """reproduce.py as a process of its own, which can be killed."""
    arguments = ["--data_folder", str(root / "LibriSpeech"), *options]

    def target():
        os.setsid()
        tqdm.set_lock(threading.RLock())  # tqdm's own is shared with this process, and whoever is killed may hold it
        os._exit(reproduce.main(arguments))

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    return process


def main(root, *options):
    return reproduce.main(["--data_folder", str(root / "LibriSpeech"), *options])


def measured(root):
    """What is finished: name of the run to content and time of its file."""
    return {path.stem: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.glob("results/measured/*.json")}


def steps(root):
    """The steps that each run has done, in order."""
    files = root.glob("results/runs/*/steps")
    return {file.parent.name: [int(line.split()[0]) for line in file.read_text().split("\n")[:-1]] for file in files}


RUNS = ["aa-cpu-librispeech-seed1", "aa-cpu-librispeech-seed2", "sa-1920-cpu-librispeech-seed1", "tuned-cpu-librispeech-seed1"]


@pytest.mark.slow
def test_all_are_run_once(here, capsys):
    assert main(here) == 0
    assert sorted(measured(here)) == RUNS and not list(here.glob("results/runs/*/overlap"))
    assert all(done == list(range(STEPS)) for done in steps(here).values())
    assert {run.part_done() for run in planned.plan("cpu")} == {
        EPOCHS / (EPOCHS + 1)
    }  # the test is not counted before its summary
    assert "done: 4 of 4 runs" in capsys.readouterr().out
    before = measured(here)
    assert main(here) == 0 and measured(here) == before and all(len(done) == STEPS for done in steps(here).values())


def test_runs_take_turns_on_the_devices(here):
    assert main(here, "--jobs", "2", "--device", "cuda:0", "cuda:1", "--only", "aa") == 0
    assert [(here / "results" / "runs" / run / "device").read_text() for run in RUNS[:2]] == ["cuda:0", "cuda:1"]


def test_first_seeds_come_first():
    seeds = [run.seed for run in planned.plan("cpu")]
    assert seeds == sorted(seeds) and seeds.count(1) == len(at_scale("cpu"))
    assert [run.name for run in planned.plan("cpu", only=["aa"], seeds=2)] == [f"aa-cpu-librispeech-seed{n}" for n in (1, 2)]


@pytest.mark.slow
def test_killed_at_any_time(here):
    chance, kills, finished = random.Random(0), 0, {}
    while True:
        process = start(here, "--jobs", "2")
        soon(lambda: trainers(here) or process.exitcode is not None)
        process.join(chance.uniform(0, 0.3) if kills < 8 else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
        assert soon(lambda: not trainers(here))
        assert finished.items() <= measured(here).items()
        finished = measured(here)
    assert process.exitcode == 0 and kills > 1
    assert finished.items() <= measured(here).items() and sorted(measured(here)) == RUNS
    assert not list(here.glob("results/runs/*/overlap"))
    for done in steps(here).values():
        again = [done[i] - done[i + 1] + 1 for i in range(len(done) - 1) if done[i + 1] != done[i] + 1]
        assert set(done) == set(range(STEPS)) and all(0 < count <= EVERY for count in again)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the trainer ends its run, and nobody else enters the folder")
def test_a_killed_start_takes_its_trainer_with_it(here, monkeypatch):
    monkeypatch.setenv("STEP_SECONDS", "10")  # far longer than `soon`
    process = start(here)
    assert soon(lambda: trainers(here))
    process.kill()
    process.join()
    assert soon(lambda: not trainers(here))


@pytest.mark.slow
def test_two_starts_at_once(here):
    processes = [start(here) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert main(here) == 0  # what each left to the other
    assert sorted(measured(here)) == RUNS and not list(here.glob("results/runs/*/overlap"))
    assert all(done == list(range(STEPS)) for done in steps(here).values())


def test_sigterm_ends_the_trainer_too(here):
    process = start(here)
    assert soon(lambda: steps(here))
    process.terminate()
    process.join()
    assert process.exitcode == 143 and not trainers(here) and not measured(here)


@pytest.mark.slow
def test_budget(here, capsys):
    assert main(here, "--budget_minutes", "0.004") == 0
    out = capsys.readouterr().out
    assert not trainers(here) and "left: " in out and "done: 4 of 4" not in out
    assert main(here, "--budget_minutes", "5") == 0
    assert "done: 4 of 4 runs" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failure_is_shown_and_the_others_go_on(here, capsys, monkeypatch):
    broken = Experiment("broken", "aa", "AA", None)
    needs = Experiment("needs", "llsa", "LLSA", 160, {"weights": "broken"})
    monkeypatch.setattr(planned, "at_scale", lambda scale: [broken, needs, EXPERIMENTS[0]._replace(seeds=1)])
    write_configs(here)
    assert main(here) == 1
    out = capsys.readouterr().out
    assert "broken-cpu-librispeech-seed1: failed: error: out of luck" in out
    assert "needs-cpu-librispeech-seed1: failed: it needs the weights of broken-cpu-librispeech-seed1" in out
    assert sorted(measured(here)) == ["aa-cpu-librispeech-seed1"]
    assert "something" in (here / "results/runs/broken-cpu-librispeech-seed1/reproduce.log").read_text()


@pytest.mark.slow
def test_weights_that_are_not_on_this_machine_are_trained_again(here):
    assert main(here, "--only", "sa-1920") == 0
    before = measured(here)
    shutil.rmtree(here / "results" / "runs")
    assert main(here, "--only", "tuned") == 0
    assert before.items() <= measured(here).items() and len(measured(here)) == 2


@pytest.mark.slow
def test_other_configurations_are_reported_and_kept(here, capsys):
    assert main(here, "--only", "aa") == 0
    path = here / "results" / "measured" / "aa-cpu-librispeech-seed1.json"
    result = json.loads(path.read_text())
    result["config"]["finetune"]["epochs"] += 1
    path.write_text(json.dumps(result))
    before = measured(here)
    capsys.readouterr()
    assert main(here, "--only", "aa") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "another" in line]
    assert lines == [f"{path.stem}: measured with another finetune.epochs; to measure it again delete {path}"]
    assert main(here, "--only", "sa-1920") == 2  # no table would take both
    assert "no table could hold aa-cpu-librispeech-seed1 and new runs" in capsys.readouterr().err
    assert measured(here) == before


def test_what_is_trained_by_hand_is_taken_over_if_it_is_the_same(here):
    folder = here / "results" / "runs" / "aa-cpu-librispeech-seed1"
    folder.mkdir(parents=True)
    config = json.loads((here / "configs" / "aa-cpu-librispeech-seed1.json").read_text())
    summary = {"config": config, "utterances": {}, "wer": {"test-clean": {"wer": 1.0, "low": 0.0, "high": 2.0}}}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert main(here, "--only", "aa", "--seeds", "1") == 0
    assert not steps(here) and json.loads(measured(here)["aa-cpu-librispeech-seed1"][0]) == summary
    (here / "results" / "measured" / "aa-cpu-librispeech-seed1.json").unlink()
    summary["config"]["dim"] = 1
    (folder / "summary.json").write_text(json.dumps(summary))
    assert main(here, "--only", "aa", "--seeds", "1") == 0 and len(steps(here)) == 1  # train.py judges


@pytest.mark.slow
def test_a_language_model_that_came_later_is_tested_alone(here, capsys):
    (here / "lm.txt").write_text("A WORD\n")
    only = ("--only", "sa-1920", "--lm", str(here / "lm.txt"))
    assert main(here, *only[:2]) == 0
    assert main(here, *only) == 0 and "with another lm; to measure it again delete" in capsys.readouterr().out
    (here / "results" / "measured" / "sa-1920-cpu-librispeech-seed1.json").unlink()
    assert main(here, *only) == 0
    assert json.loads(*(content for content, _ in measured(here).values()))["lm"] == str(here / "lm.txt")
    assert all(done == list(range(STEPS)) for done in steps(here).values())


@pytest.mark.parametrize(
    "options, says",
    [
        ([], "--data_folder is missing"),
        (["--data_folder", "nowhere"], "nowhere is not there"),
        (["--data_folder", "LibriSpeech", "--only", "ab"], "no experiment ab; there are aa, tuned, sa-1920"),
        (["--data_folder", "LibriSpeech", "--jobs", "0"], "--jobs 0 must be above 0"),
        (["--data_folder", "LibriSpeech", "--budget_minutes", "nan"], "--budget_minutes nan must be above 0"),
        (["--data_folder", "LibriSpeech", "--lm", "nowhere.txt"], "nowhere.txt is not a file"),
        (["--scale", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_bad_input(here, monkeypatch, capsys, options, says):
    monkeypatch.chdir(here)
    assert reproduce.main(options) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and says in errors[0]


@pytest.mark.slow
def test_a_real_training(here, monkeypatch):
    """The whole way, with train.py itself, of a very small model on noise."""
    (here / "train.py").unlink()
    (here / "train.py").symlink_to(ROOT / "train.py")
    write_tree(here / "LibriSpeech", {"train-clean-5": 6, "dev-clean": 6, "test-clean": 6}, seconds=1)
    small = {"dim": 16, "ffn_dim": 16, "num_layers": 2, "num_heads": 2, "finetune": {"epochs": 1, "batch_seconds": 3}}
    monkeypatch.setattr(planned, "at_scale", lambda scale: [Experiment("sa", "sa", "SA", 160, {**small, "lookaheads": [4, 0]})])
    assert main(here, "--codec", "PCM, in FLAC") == 0
    result = json.loads(measured(here)["sa-cpu-librispeech-seed1"][0])
    assert result["data"]["splits"] == {"train": ["train-clean-5"], "dev": ["dev-clean"], "test": ["test-clean"]}
    assert result["data"]["codec"] == "PCM, in FLAC" and result["latency"]["attention_ms"] == 160
    assert len(result["utterances"]["test-clean"]["errors"].split()) == 6
