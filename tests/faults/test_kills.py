"""Kills at random moments, and at chosen ones: the same command goes on, to the same weights, statistics and words."""

import random
import shutil
import time
from collections import Counter

import pytest

from tests.faults import kills

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


@pytest.mark.campaign
def test_killed_at_chosen_spots(place):
    chain = kills.Chain(place, kills.SYSTEMS["LLSA Transformer, TensorBoard, language model"])
    for spot in SPOTS:
        assert chain.kill_before(1, spot), spot
    chain.finish()


@pytest.mark.campaign
def test_killed_at_random_moments(place_of, capsys):
    """Half of them by the clock, half before a change on the disk, over all systems in turn."""
    draw, spots, chains = random.Random(12), Counter(), 0
    for number, (name, options) in enumerate(kills.SYSTEMS.items()):
        begin = time.monotonic()
        chain, seconds = kills.Chain(place_of(str(number)), options), time.monotonic() - begin
        share = CAMPAIGN * (number + 1) // len(kills.SYSTEMS) - CAMPAIGN * number // len(kills.SYSTEMS)
        while len(chain.kills) < share:
            part = draw.random() * 0.7
            if not (
                chain.kill_after(part * seconds) if draw.random() < 0.5 else chain.kill_before(1 + int(part * chain.changes))
            ):
                chain.finish()
                shutil.rmtree(chain.place.here / "run")
                chains += 1
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
