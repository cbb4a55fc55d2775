"""Kills at random moments, and at chosen ones: the same command goes on, to the same weights, statistics and words."""

import functools
import random
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest

from recipes.LibriSpeech.data.synthetic import embedded_corpus
from tests.faults.case import contents
from tests.faults.process import Started, run
from tests.faults.stops import kills

SPOTS = (
    "rename run/manifests/train-a.csv", "rename run/manifests/train-a.json", "rename run/hyperparams.yaml",
    "mkdir run/pretrain/checkpoints/partial/CKPT", "open run/pretrain/checkpoints/partial/CKPT/CKPT.yaml",
    "rename run/pretrain/checkpoints/CKPT", "rmdir run/pretrain/checkpoints/partial", "rename run/pretrain/log.jsonl",
    "rename run/pretrain/encoder.ckpt", "rename run/finetune/checkpoints/CKPT", "open run/train_log.txt",
    "rename run/utterances-test-c.tsv", "rename run/summary.json",
)  # fmt: skip
"""Changes on the disk before which a training is killed, in their order."""
CAMPAIGN = 50
"""Kills at random moments."""
IN_TEST = (
    "open run/.utterances-test-c.tsv.*", "rename run/utterances-test-c.tsv", "remove run/.utterances-test-c.tsv.*",
    "open run/.summary.json.*", "rename run/*-lm.tsv", "rename run/summary.json",
)  # fmt: skip
"""For each system a change on the disk in its test, before which it is killed the last time."""
BRAIN = "recipes.LibriSpeech.training.brain.StageBrain"


@pytest.mark.campaign
def test_killed_at_chosen_spots(place):
    chain = kills.Chain(place, kills.SYSTEMS["LLSA Transformer, TensorBoard, language model"])
    for spot in SPOTS:
        assert chain.kill_before(1, spot), spot
    chain.finish()


@pytest.mark.campaign
def test_killed_at_random_moments(place_of, capsys):
    """Half by the clock, half before a change on the disk, over all systems in turn; the last one of each in its test."""
    draw, spots, chains = random.Random(12), Counter(), 0
    for number, (name, options) in enumerate(kills.SYSTEMS.items()):
        begin = time.monotonic()
        chain, seconds = kills.Chain(place_of(str(number)), options), time.monotonic() - begin
        share = CAMPAIGN * (number + 1) // len(kills.SYSTEMS) - CAMPAIGN * number // len(kills.SYSTEMS)
        while len(chain.kills) < share - 1:
            part = draw.random() * 0.7
            killed = chain.kill_after(part * seconds) if draw.random() < 0.5 else chain.kill_before(1 + int(part * chain.changes))
            if not killed:
                chain.finish()
                shutil.rmtree(chain.place.here / "run")
                chains += 1
        assert chain.kill_before(1, IN_TEST[number])
        chain.finish()
        chains += 1
        spots.update(chain.kills)
    with capsys.disabled():
        print(f"\n{sum(spots.values())} kills of {chains} trainings, which all ended as without:")
        print("\n".join(f"{count:4d}  {spot}" for spot, count in sorted(spots.items(), key=lambda item: item[0].split()[1:])))


def test_killed_three_times(place):
    """Early in pre-training, in fine-tuning, and in the test."""
    chain = kills.Chain(place, kills.SYSTEMS["LLSA Conformer, language model"])
    for spot in (
        "rename run/pretrain/checkpoints/CKPT",
        "mkdir run/finetune/checkpoints/partial/CKPT",
        "rename run/summary.json",
    ):
        assert chain.kill_before(2 if "pretrain" in spot else 1, spot), spot
    chain.finish()


def test_killed_while_the_embedded_corpus_is_made(place):
    """The next start makes it whole, two at once do, and nothing is left of the others."""
    (place.here / "text").write_text("# train\nTHE CAT SAW A BIRD\nA MAN WALKED HOME\n# dev\nTHE BELL\n# test\nA CAT WALKED\n")
    words = ["tests.faults.stops.kills", ["text", "data"], place.here]
    for number, spot in (1, "start espeak.py"), (3, "start espeak.py"), (2, "open *.trans.txt"), (1, "rename data/embedded-*"):
        watch = functools.partial(kills.watch, str(place.here.parent / "last"), number, spot)
        assert run(*words, inside=watch).code == -signal.SIGKILL
    assert [started.wait().code for started in (Started(*words), Started(*words))] == [0, 0]
    made = embedded_corpus(place.here / "whole", place.here / "text")
    assert {path.name for path in (place.here / "data").iterdir()} == {made.name}
    assert contents(place.here / "data" / made.name) == contents(made)


def test_two_starts_at_once(place):
    """One of them is refused in a line, and the other ends as if it were alone."""
    both = [Started("train", kills.training(place), place.here) for _ in range(2)]
    first, second = sorted((started.wait() for started in both), key=lambda ended: ended.code)
    assert (first.code, second.code) == (0, 2), first.err + second.err
    assert "run is in use by process" in second.errors[0] and not second.traceback
    assert kills.found(place.here / "run") == kills.found(place.run)


def test_limit_of_a_file(place):
    """A checkpoint is too large for what a file may have; without the limit the same command goes on."""
    ended = run("train", kills.training(place), place.here, limits={"RLIMIT_FSIZE": 100_000})
    assert ended.code == 2 and len(ended.errors) == 1 and not ended.traceback, ended.err
    ended = run("train", kills.training(place), place.here)
    assert ended.code == 0 and kills.found(place.here / "run") == kills.found(place.run), ended.err


@pytest.fixture
def disk(place):
    """A small disk of its own, in the folder of the case."""
    path = place.here / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("a disk of its own needs the rights of root")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.campaign
@pytest.mark.parametrize("number", [1, 3, 14])
def test_full_disk(place, disk, number):
    """It is full at a checkpoint, and the next start is killed beside the full disk; with room again the third goes on."""
    save = "recipes.LibriSpeech.training.checkpoint.AtomicCheckpointer.save_checkpoint"
    words = kills.training(place, "disk/run")
    ended = run("train", words, place.here, inside=functools.partial(kills.at_call, save, number, kills.fill_disk))
    assert ended.code == 2 and len(ended.errors) == 1 and "disk" in ended.errors[0] and not ended.traceback, ended.err
    ended = run("train", words, place.here, inside=functools.partial(kills.at_call, f"{BRAIN}.on_fit_batch_end", 1, kills.die))
    assert ended.code in (2, -signal.SIGKILL) and not ended.traceback, ended.err
    (disk / "ballast").unlink()
    ended = run("train", words, place.here)
    assert ended.code == 0 and kills.found(disk / "run") == kills.found(place.run), ended.err
