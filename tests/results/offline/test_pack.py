"""Packed, unpacked on what stands for a machine without network, run, and taken home: nothing is lost or changed on the way."""

import fcntl
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.data import prepare
from results.comparison import planned
from results.offline import pack, packed_run

ROOT = Path(__file__).parents[3]
LENGTHS = (1, 159, 4001, 16000, 23999)  # samples
PART_MIB = 0.08  # three chapters and no more
RUN = "aa-cpu-librispeech-seed1"
EVERYTHING = ["torch", "torchaudio", "speechbrain", "hyperpyyaml", "ruamel.yaml", "numpy", "soundfile", "jiwer", "requests"]
EVERYTHING += ["tqdm", "espeakng-loader", "matplotlib"]


@pytest.fixture
def tree(tmp_path):
    """Tones; four chapters of equal size, two of them in train-clean-5."""
    for number, (split, chapters) in enumerate({"train-clean-5": 2, "dev-clean": 1, "test-clean": 1}.items()):
        for chapter in range(chapters):
            folder, lines = tmp_path / "LibriSpeech" / split / str(number) / str(chapter), []
            folder.mkdir(parents=True)
            for n, length in enumerate(LENGTHS):
                wave = 0.3 * np.sin(0.1 * (n + 1) * np.arange(length))
                soundfile.write(folder / f"{number}-{chapter}-{n:04d}.flac", wave, 16000, subtype="PCM_16")
                lines.append(f"{number}-{chapter}-{n:04d} {'WORD ' * (n + 1)}".strip() + "\n")
            (folder / f"{number}-{chapter}.trans.txt").write_text("".join(lines))
    return tmp_path / "LibriSpeech"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A committed checkout whose train.py is the stand-in; it makes no pages."""
    root = tmp_path / "checkout"
    for folder in ("hparams", "modules", "recipes"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "results" / "measured").mkdir(parents=True)
    (root / "results" / "measured" / "old.json").write_text("{}")
    for path in ROOT.glob("results/**/*.py"):
        (root / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.relative_to(ROOT))
    (root / "results" / "pages.py").write_text("def regenerate():\n    return True\n")
    shutil.copy(ROOT / "tests" / "results" / "comparison" / "stand_in.py", root / "train.py")
    shutil.copy(ROOT / "setup.py", root)
    splits = {"train_splits": ["train-clean-5"], "dev_splits": ["dev-clean"], "test_splits": ["test-clean"]}
    run = planned.plan("cpu", ["aa"], 1)[0]
    config = experiment.identity(run.config({"data_folder": "x", "codec": "Opus 24 kbit/s, unpacked to FLAC", **splits}))
    (root / "configs").mkdir()
    (root / "configs" / f"{RUN}.json").write_text(json.dumps(config))
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(pack, "ROOT", root)
    return root


def packed(tree, output, *options):
    arguments = ["--data_folder", str(tree), "--output", str(output), "--there", *EVERYTHING, *options]
    assert pack.main(arguments) == 0
    return json.loads((output / "manifest.json").read_text())


def start(folder, work, *options):
    command = [sys.executable, str(folder / "run.py"), "--folder", str(work), "--out", str(work) + "-home", *options]
    command += ["--scale", "cpu", "--only", "aa", "--seeds", "1"]
    environment = {**os.environ, "STEP_SECONDS": "0.1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def digests(tree, save):
    """By split, the digest over ids, samples and transcripts."""
    return {split: manifest.sha256 for split, manifest in prepare.prepare(tree, save, prepare.splits_in(tree)).items()}


@pytest.mark.slow
def test_each_part_is_a_tree_and_together_they_are_the_data(tree, checkout, tmp_path):
    manifest = packed(tree, tmp_path / "pack", "--part_mib", str(PART_MIB))
    parts = sorted((tmp_path / "pack").glob("data-*.tar"))
    assert len(parts) == 2 and all(part.stat().st_size <= PART_MIB * 2**20 for part in parts)
    for number, part in enumerate(parts):
        for root in (tmp_path / f"alone{number}", tmp_path / "together"):
            packed_run.unpack(part, root, manifest["samples"])
        assert digests(tmp_path / f"alone{number}", tmp_path / f"save{number}")  # which prepare accepts
    assert digests(tmp_path / "together", tmp_path / "save") == digests(tree, tmp_path / "saved")
    files = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (tree, tmp_path / "together")]
    assert files[0] == files[1]
    for path in tree.rglob("*-0004.flac"):  # near what it was: a tone stays a tone, no delay
        before, after = (soundfile.read(root / path.relative_to(tree))[0] for root in (tree, tmp_path / "together"))
        info = soundfile.info(tmp_path / "together" / path.relative_to(tree))
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert np.corrcoef(before, after)[0, 1] > 0.98


@pytest.mark.slow
def test_what_is_encoded_or_unpacked_is_kept(tree, checkout, tmp_path):
    manifest = packed(tree, tmp_path / "pack")
    opus = sorted((tmp_path / "pack-opus24").rglob("*.opus"))
    before = [path.stat().st_mtime_ns for path in opus]
    assert packed(tree, tmp_path / "pack") == manifest
    opus[0].unlink()
    assert packed(tree, tmp_path / "pack")["samples"] == manifest["samples"]
    assert [path.stat().st_mtime_ns for path in opus][1:] == before[1:] and opus[0].stat().st_mtime_ns > before[0]
    packed_run.unpack(tmp_path / "pack" / "data-00.tar", tmp_path / "there", manifest["samples"])
    flac = sorted((tmp_path / "there").rglob("*.flac"))
    before = [path.stat().st_mtime_ns for path in flac]
    flac[1].unlink()
    packed_run.unpack(tmp_path / "pack" / "data-00.tar", tmp_path / "there", manifest["samples"])
    assert [path.stat().st_mtime_ns for path in flac][2:] == before[2:] and flac[1].exists()


@pytest.mark.slow
def test_there_and_back(tree, checkout, tmp_path, monkeypatch):
    """A machine gets the parts in two calls and is stopped in the run; another goes on; the result is taken home."""
    folder, away = tmp_path / "pack", tmp_path / "away"
    (checkout / "not_committed").touch()
    manifest = packed(tree, folder, "--part_mib", str(PART_MIB))
    late = folder / "data-01.tar"
    late.rename(tmp_path / "late")
    out, _ = (first := start(folder, away)).communicate()
    assert first.returncode == 0 and out.endswith("still to come: data-01.tar\n")
    assert not (away / "code" / "not_committed").exists()
    (tmp_path / "late").rename(late)
    (folder / "data-00.tar").unlink()  # unpacked before

    process, steps = start(folder, away), away / "code" / "results" / "runs" / RUN / "steps"
    while process.poll() is None and not (steps.exists() and len(steps.read_text().splitlines()) >= 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    shutil.rmtree(away)

    packed(tree, folder, "--part_mib", str(PART_MIB))
    again = start(folder, tmp_path / "anew", "--home", str(away) + "-home", "--part_mib", "0.001")
    out, errors = again.communicate()
    assert again.returncode == 0 and "done: 1 of 1 runs" in out, errors
    done = [line.split()[0] for line in (tmp_path / "anew/code/results/runs" / RUN / "steps").read_text().splitlines()]
    assert set(done) == {str(n) for n in range(12)} and done.count("0") == done.count("1") == done.count("2") == 1

    home = tmp_path / "anew-home"
    assert len(list(home.iterdir())) > 1 and all(path.stat().st_size <= 0.001 * 2**20 for path in home.iterdir())
    assert pack.main(["--take_home", str(home)]) == 0
    result = json.loads((checkout / "results" / "measured" / f"{RUN}.json").read_text())
    assert result["wer"]["test-clean"]["wer"] == 9.0 and result["config"]["codec"] == manifest["codec"]
    runs = checkout / "results" / "runs" / RUN
    assert (runs / "finetune" / "log.jsonl").exists() and not (runs / "summary.json").exists()
    (checkout / "results" / "measured" / f"{RUN}.json").write_text("mine")
    (runs / "summary.json").write_text("mine")
    assert not packed_run.restore(home, checkout)


@pytest.mark.slow
def test_lengths_are_those_of_the_originals_whatever_the_decoder_gives(tree, checkout, tmp_path):
    samples = packed(tree, tmp_path / "pack")["samples"]
    lengths = {name: max(1, length + (-7 if length % 2 else 7)) for name, length in samples.items()}
    packed_run.unpack(tmp_path / "pack" / "data-00.tar", tmp_path / "there", lengths)
    assert {path.stem: soundfile.info(path).frames for path in (tmp_path / "there").rglob("*.flac")} == lengths


def hand_back(code, out, weights=False):
    manifest = {"measured": ["old.json"], "commit": "abc"}
    packed_run.hand_back(code, out, manifest, weights, part_mib=1)
    with tarfile.open(fileobj=gzip.open(out / "home.tar.gz.00")) as tar:
        return {Path(name).relative_to("results").as_posix() for name in tar.getnames()}


def test_what_comes_home(tmp_path):
    code = tmp_path / "code"
    for name in ("finished", "going"):
        for file in ("hyperparams.yaml", "a.lock", "manifests/a.csv", "pretrain/encoder.ckpt", "pretrain/checkpoints/a/a.ckpt"):
            (code / "results/runs" / name / file).parent.mkdir(parents=True, exist_ok=True)
            (code / "results/runs" / name / file).touch()
        (code / "results/runs" / name / "finetune/checkpoints/b").mkdir(parents=True)
        (code / "results/runs" / name / "finetune/checkpoints/b/CKPT.yaml").touch()
    (code / "results/runs/finished/summary.json").touch()
    (code / "results/measured").mkdir()
    for name in ("old", "finished"):
        (code / "results/measured" / f"{name}.json").write_text('{"environment": {"git": null}}')
    always = {"measured/finished.json", *(f"runs/{name}/hyperparams.yaml" for name in ("finished", "going"))}
    always |= {f"runs/going/{name}" for name in ("pretrain/encoder.ckpt", "finetune/checkpoints/b/CKPT.yaml")}
    weights = {"summary.json", "pretrain/encoder.ckpt", "finetune/checkpoints/b/CKPT.yaml"}
    assert hand_back(code, tmp_path / "out") == always
    assert hand_back(code, tmp_path / "out", weights=True) == always | {f"runs/finished/{name}" for name in weights}
    assert len(packed_run.restore(tmp_path / "out", tmp_path / "there")) == 8
    result = json.loads((tmp_path / "there/results/measured/finished.json").read_text())
    assert result["environment"]["git"] == {"commit": "abc", "dirty": False}
    (tmp_path / "there/results/runs/going/hyperparams.yaml").write_text("mine")
    assert not packed_run.restore(tmp_path / "out", tmp_path / "there", replace=False)
    assert (tmp_path / "there/results/runs/going/hyperparams.yaml").read_text() == "mine"
    with open(tmp_path / "there/results/runs/going/reproduce.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not packed_run.restore(tmp_path / "out", tmp_path / "there")
    assert "results/runs/going/hyperparams.yaml" in packed_run.restore(tmp_path / "out", tmp_path / "there")


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_what_is_damaged_is_refused(tree, checkout, tmp_path, capsys):
    manifest = packed(tree, tmp_path / "pack")
    for name in manifest["files"]:
        before = (tmp_path / "pack" / name).read_bytes()
        spoil(tmp_path / "pack" / name)
        with pytest.raises(packed_run.Refused, match=f"{name} is damaged"):
            packed_run.check(tmp_path / "pack")
        (tmp_path / "pack" / name).write_bytes(before)
    assert packed_run.check(tmp_path / "pack") == manifest
    spoil(tmp_path / "pack" / "data-00.tar")
    out, errors = (process := start(tmp_path / "pack", tmp_path / "away")).communicate()
    assert process.returncode == 2 and len(errors.splitlines()) == 1 and "data-00.tar is damaged: copy it again" in errors
    with pytest.raises(packed_run.Refused, match="samples at 16000 Hz"):
        packed_run.unpack(next((tmp_path / "pack").glob("*.tar")), tmp_path / "x", dict.fromkeys(manifest["samples"], 9999))


def test_a_damaged_hand_back_is_refused(tmp_path, capsys, monkeypatch):
    measured = tmp_path / "code" / "results" / "measured"
    measured.mkdir(parents=True)
    (measured / "a.json").write_text(json.dumps({"noise": np.random.default_rng(0).random(2000).tolist()}))
    packed_run.hand_back(tmp_path / "code", tmp_path / "out", {"measured": []}, False, 0.01)
    monkeypatch.setattr(pack, "ROOT", tmp_path / "root")
    (tmp_path / "out" / "home.tar.gz.01").rename(tmp_path / "lost")
    assert pack.main(["--take_home", str(tmp_path / "out")]) == 2
    (tmp_path / "lost").rename(tmp_path / "out" / "home.tar.gz.01")
    spoil(tmp_path / "out" / "home.tar.gz.00")
    assert pack.main(["--take_home", str(tmp_path / "out")]) == pack.main(["--take_home", str(tmp_path / "nowhere")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all("copy them again" in line for line in errors) and not (tmp_path / "root").exists()


@pytest.mark.slow
def test_wheels_are_those_that_the_other_machine_lacks():
    packages = pack.needed(["torch", "torchaudio"], ["figures"])
    assert {"speechbrain", "hyperpyyaml", "jiwer", "rapidfuzz", "matplotlib", "pillow"} <= packages.keys()
    assert not {"torch", "torchaudio", "sympy", "flashlight-text", "pytest"} & packages.keys()
    assert "sympy" in pack.needed(["torchaudio"], []) or "torch" not in pack.needed(["torchaudio"], [])
    assert "numpy" in packages and "numpy" not in pack.needed(["torch", "numpy"], [])
    assert "flashlight-text" in pack.needed(["torch"], ["lm"])
    command = pack.download_command({"jiwer": "4.0.0"}, "3.12", Path("wheels"))
    assert command[-3:] == ["-d", "wheels", "jiwer==4.0.0"] and command[command.index("--python-version") + 1] == "3.12"


@pytest.mark.parametrize(
    "options, says",
    [
        ([], "--data_folder is missing"),
        (["--data_folder", "nowhere", "--output", "pack"], "nowhere is not there"),
        (["--data_folder", "LibriSpeech", "--output", "pack", "--splits", "dev-b"], "Split dev-b is not in"),
        (["--data_folder", "LibriSpeech", "--output", "pack", "--bitrate_kbit", "1"], "must be from 6 to 256"),
        (["--data_folder", "LibriSpeech", "--output", "pack", "--part_mib", "0.01"], "--part_mib 0.01 is too small"),
        (["--data_folder", "LibriSpeech", "--output", "pack", "--lm", "no.arpa"], "no.arpa is not there"),
    ],
)
def test_bad_input(tree, monkeypatch, capsys, options, says):
    monkeypatch.chdir(tree.parent)
    assert pack.main(options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1 and says in errors[0]
