"""Training batches hold what is asked for, whatever the lengths, and all of an epoch once."""

import pytest
import torch

from recipes.LibriSpeech.data.batches import Batches

LONG = (12 + 3 * torch.randn(3000, generator=torch.Generator().manual_seed(0))).clamp(1, 17).tolist()  # about LibriSpeech's
SHORT = (1 + 2.5 * torch.rand(1500, generator=torch.Generator().manual_seed(0))).tolist()  # about the embedded corpus'


@pytest.mark.parametrize("durations", [LONG, SHORT])
@pytest.mark.parametrize("seconds", [30, 45, 60, 200])
def test_batches_hold_what_is_asked_for_with_little_padding(durations, seconds):
    batches = [[durations[i] for i in batch] for batch in Batches(durations, seconds, seed=1)]
    held, padded = [sum(batch) for batch in batches], [max(batch) * len(batch) for batch in batches]
    assert sum(held) / len(held) == pytest.approx(seconds, rel=0.05)
    assert sorted(held)[len(held) // 10] > 0.8 * seconds and max(held) < 1.4 * seconds
    assert sum(held) / sum(padded) > 0.85


def test_each_epoch_has_all_utterances_once_in_other_batches():
    batches, epochs = Batches(LONG, 60, seed=1), []
    for epoch in (1, 2, 1):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
        assert len(epochs[-1]) == len(batches) and sorted(sum(epochs[-1], [])) == list(range(len(LONG)))
    assert epochs[0] == epochs[2]
    together = [{frozenset(batch) for batch in epoch} for epoch in epochs]
    assert len(together[0] & together[1]) < 0.01 * len(batches)
    assert {frozenset(batch) for batch in Batches(LONG, 60, seed=2)} != {frozenset(batch) for batch in Batches(LONG, 60, seed=1)}
    longest = [max(LONG[i] for i in batch) for batch in epochs[0]]
    assert sorted(longest) != longest and sorted(longest) != longest[::-1]


def test_what_is_longer_than_a_batch_is_one():
    assert sorted(map(sorted, Batches([1.0, 1.0, 90.0, 200.0], 10, seed=0))) == [[0, 1], [2], [3]]
    assert list(Batches([5.0], 10, seed=0)) == [[0]]
