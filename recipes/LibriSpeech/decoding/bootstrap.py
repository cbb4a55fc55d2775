"""The bootstrap of Bisani and Ney (ICASSP 2004): how well a test set determines an error rate, or a difference of two.

Utterances are drawn with replacement, as many as there are, and their word errors counted; over many such draws the error rate
spreads as it would over other test sets. Where two systems heard the same utterances, what both get wrong in a hard one cancels
in the difference, which is therefore known better than either error rate. Utterances of one speaker are alike: a draw can also
be one of speakers, each with all of its utterances.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

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
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def resample(counts: np.ndarray, units: Sequence[Any], seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
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


def interval(errors: ArrayLike, words: ArrayLike, units: Sequence[Any], **options: int) -> tuple[float, float]:
    """The 95 % interval of a word error rate.

    Arguments
    ---------
    errors, words : array of float
        Word errors and reference words of each utterance, (utterances,).
    units : sequence
        What is drawn, (utterances,): `range(utterances)` for the utterances themselves.
    **options
        `seed` and `resamples`, see `resample`.

    Returns
    -------
    low, high : float
        Percent.

    Example
    -------
    >>> interval([1, 1, 1], [4, 4, 4], range(3), resamples=100)
    (25.0, 25.0)
    """
    made, said = resample(np.stack([errors, words]), units, **options)
    some = said > 0  # a draw of empty references only has no word error rate
    low, high = np.quantile(100 * made[some] / said[some], BOUNDS)
    return float(low), float(high)


def paired(errors: ArrayLike, others: ArrayLike, words: ArrayLike, units: Sequence[Any], **options: int) -> Difference:
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
