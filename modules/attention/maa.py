"""MAA, masked acausal attention: a band mask over the dense score matrix."""

from .window import WindowedAttention


class MAA(WindowedAttention):
    """Attention over s-L .. s+R, evaluated densely: O(T^2) time and memory (Ma et al., arXiv 2302.13451).

    Arguments: see `WindowedAttention`. The same function as `SA`, kept as the paper's baseline and as its check.

    Example
    -------
    >>> import torch
    >>> attention = MAA(dim=8, num_heads=2, left_context=3, lookahead=1, positions="none")
    >>> q, k, v = attention.project(torch.rand(1, 5, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 5, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 1, 2, 4])
    """

    block = None
