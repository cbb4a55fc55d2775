"""Training batches of utterances of like length, each with about as much audio as is asked for."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

UNLIKE = 0.05
"""How unlike the lengths in a batch are: the standard deviation of the noise on their logarithms, by which they are sorted."""


class Batches(Sampler[list[int]]):
    """Batches of utterances, others in each epoch, in random order; their numbers of utterances stay.

    A batch ends where the sum of its lengths is nearest to what is asked for, so that sums are a little above or below it. Zeros
    that pad the shorter utterances of a batch come on top.

    Arguments
    ---------
    durations : sequence of float
        Length of each utterance.
    batch_seconds : float
        Audio in a batch, in the unit of `durations`.
    seed : int
        The batches of an epoch depend on it, and on the epoch alone.

    Example
    -------
    >>> batches = Batches([3.0, 2.0, 1.0, 2.0, 4.0], batch_seconds=4.0, seed=0)
    >>> len(batches), sorted(map(sorted, batches))
    (3, [[0], [1, 2, 3], [4]])
    """

    def __init__(self, durations: Sequence[float], batch_seconds: float, seed: int):
        self.durations, self.seed, self.epoch = torch.tensor(durations, dtype=torch.float64), seed, 0
        self.sizes, held = [0], 0.0
        for duration in sorted(durations):
            if self.sizes[-1] and held + duration / 2 > batch_seconds:
                self.sizes.append(0)
                held = 0.0
            self.sizes[-1] += 1
            held += duration

    def set_epoch(self, epoch: int) -> None:
        """Make the next batches those of an epoch, as SpeechBrain asks for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        noise = torch.randn(len(self.durations), generator=generator, dtype=torch.float64)
        batches = (self.durations * (UNLIKE * noise).exp()).argsort(stable=True).split(self.sizes)
        for number in torch.randperm(len(batches), generator=generator):
            yield batches[number].tolist()
