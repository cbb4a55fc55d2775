"""Two systems on the same utterances: the paired bootstrap of Bisani and Ney (ICASSP 2004), over speakers.

What both get wrong in a hard utterance cancels in the difference, so that it is known better than either error rate.
Utterances of one speaker are alike, therefore speakers are drawn, each with all of its utterances; with every utterance a
unit of its own it is the bootstrap of the paper.
"""

from typing import NamedTuple

import numpy as np

RESAMPLES = 10000
BOUNDS = [0.025, 0.975]  # of a 95 % interval


class Difference(NamedTuple):
    """Error rate of one system minus that of another, in points of WER.

    Arguments
    ---------
    points, low, high : float
        The difference and its 95 % interval; below 0 the first system is better.
    improves : float
        Probability of improvement: part of the samples in which the first system makes fewer errors (a tie counts half).
    """

    points: float
    low: float
    high: float
    improves: float

    @property
    def significant(self):
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def resample(counts, units, seed=0, resamples=RESAMPLES):
    """Sums of counts when units are drawn with replacement, as many as there are.

    Arguments
    ---------
    counts : numpy.ndarray
        (columns, utterances).
    units : sequence
        What each utterance belongs to, (utterances,).
    seed, resamples : int

    Returns
    -------
    numpy.ndarray
        (columns, resamples).

    Example
    -------
    >>> resample(np.array([[1, 2, 5]]), ["ann", "ann", "bob"], resamples=8)
    array([[10.,  8.,  6.,  6.,  8., 10., 10., 10.]])
    """
    _, index = np.unique(np.asarray(units), return_inverse=True)
    sums = np.stack([np.bincount(index, column) for column in counts])  # (columns, units)
    generator, size = np.random.default_rng(seed), sums.shape[1]
    totals = [sums[:, generator.integers(size, size=size)].sum(axis=1) for _ in range(resamples)]
    return np.stack(totals, axis=1)


def interval(errors, words, units, **options):
    """The 95 % interval of a word error rate in percent, see `resample`."""
    errors, words = resample(np.stack([errors, words]), units, **options)
    low, high = np.quantile(100 * errors / words, BOUNDS)
    return float(low), float(high)


def paired(errors, others, words, units, **options):
    """Compare two systems on the same utterances.

    Arguments
    ---------
    errors, others : array of float
        Word errors of the first and of the second system in each utterance, (utterances,); with several trainings of a
        system their mean.
    words : array of int
        Reference words, (utterances,).
    units : sequence
        What is drawn: the speaker of each utterance, (utterances,).
    **options
        `seed` and `resamples`, see `resample`.

    Returns
    -------
    Difference

    Example
    -------
    >>> paired([1, 0, 2, 1], [2, 1, 3, 2], [10, 10, 10, 10], ["ann", "ann", "bob", "bob"])
    Difference(points=-10.0, low=-10.0, high=-10.0, improves=1.0)
    """
    gained = np.subtract(errors, others, dtype=float)
    difference, drawn = resample(np.stack([gained, words]), units, **options)
    low, high = np.quantile(100 * difference / drawn, BOUNDS)
    improves = np.mean(difference < 0) + np.mean(difference == 0) / 2
    return Difference(100 * float(gained.sum()) / float(np.sum(words)), float(low), float(high), float(improves))
