"""AA, acausal attention: every frame sees the whole utterance."""

import math

from .base import Attention, attend


class AA(Attention):
    """Softmax over all frames of the utterance: O(T^2) time, latency of the utterance (Ma et al., arXiv 2302.13451).

    Arguments: see `Attention`. There is no streaming form.

    Example
    -------
    >>> import torch
    >>> attention = AA(dim=8, num_heads=2, positions=False)
    >>> q, k, v = attention.project(torch.rand(1, 5, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 5, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 1, 2, 4])
    """

    layer_lookahead = math.inf

    def mix(self, q, k, v, *, valid, state=None, final=False):
        y = attend(q.squeeze(2), k.squeeze(2), v.squeeze(2), valid.transpose(1, 2))
        return y.unsqueeze(2), valid, None

    def initial_state(self, batch_size):
        raise ValueError("AA reads the whole utterance: it has no streaming form (use SA, MAA or LLSA)")
