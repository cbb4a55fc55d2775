"""Schedules of the learning rate: pure functions from a count of updates to a factor."""

import math


def warmup_cosine(update: int, updates: int, warmup: float) -> float:
    """The factor rises linearly from near 0 to 1, then falls to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017).

    Arguments
    ---------
    update : int
        Updates that were made before this one.
    updates : int
        All updates of the training.
    warmup : float
        Part of all updates in which the factor rises, from 0 to below 1.

    Returns
    -------
    float
        Multiplies the learning rate of this update, 0 to 1.

    Example
    -------
    >>> [round(warmup_cosine(update, 100, 0.1), 2) for update in (0, 5, 10, 55, 100)]
    [0.09, 0.55, 1.0, 0.5, 0.0]
    """
    done = update / updates
    if done < warmup:
        return (update + 1) / (warmup * updates + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))
