"""SA, streaming attention: the window of MAA, evaluated on the band only."""

from .window import WindowedAttention


class SA(WindowedAttention):
    """Attention over s-L .. s+R in O(T * W) time and memory, W = L + R + 1 (Ma et al., arXiv 2302.13451).

    Block-banded: each block of 64 queries meets the 64 + L + R keys that it can reach, under one mask. (One window of
    keys per query would copy every key W times.)

    Arguments: see `WindowedAttention`.

    Example
    -------
    >>> import torch
    >>> attention = SA(dim=8, num_heads=2, left_context=3, lookahead=1, positions="none")
    >>> q, k, v = attention.project(torch.rand(1, 500, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 500, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 500, 1, 2, 4])
    """

    block = 64
