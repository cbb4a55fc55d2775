"""MAA, masked acausal attention: a band mask over the dense score matrix."""

from .window import WindowedAttention


class MAA(WindowedAttention):
    """Each frame s sees frames s-L .. s+R; all scores are computed, in O(T^2) time and memory (Ma et al., arXiv 2302.13451).

    It is the same function as `SA`, kept as the baseline of the paper and to check `SA` with. For the arguments, see
    `WindowedAttention`.

    Example
    -------
    >>> import torch
    >>> attention = MAA(dim=8, num_heads=2, left_context=3, lookahead=1, positions="none")
    >>> q, k, v = attention.project(torch.rand(1, 5, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 5, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 1, 2, 4])
    """
