"""SA, streaming attention: the window of MAA, evaluated on the band only."""

from .window import WindowedAttention


class SA(WindowedAttention):
    """Each frame s sees frames s-L .. s+R, in O(T * W) time and memory with W = L + R + 1 (Ma et al., arXiv 2302.13451).

    Queries are taken in blocks of 32. Each block is compared with the 32 + L + R keys that it can reach, under one mask.
    A window of keys for each single query would copy every key W times. For the arguments, see `WindowedAttention`.

    Example
    -------
    >>> import torch
    >>> attention = SA(dim=8, num_heads=2, left_context=3, lookahead=1, positions="none")
    >>> q, k, v = attention.project(torch.rand(1, 500, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 500, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 500, 1, 2, 4])
    """

    block = 32
