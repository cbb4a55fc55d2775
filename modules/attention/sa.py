"""SA, streaming attention: the window of MAA, evaluated on the band only."""

from torch.nn import functional as F

from .base import attend
from .window import WindowedAttention

BLOCK = 64  # queries that share one stretch of keys


class SA(WindowedAttention):
    """Attention over s-L .. s+R in O(T * W) time and memory, W = L + R + 1 (Ma et al., arXiv 2302.13451).

    Block-banded: each block of 64 queries meets the 64 + L + R keys that it can reach, under one mask. (One window of
    keys per query would copy every key W times.)

    Arguments: see `WindowedAttention`.

    Example
    -------
    >>> import torch
    >>> attention = SA(dim=8, num_heads=2, left_context=3, lookahead=1, positions=False)
    >>> q, k, v = attention.project(torch.rand(1, 500, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 500, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 500, 1, 2, 4])
    """

    def attend_window(self, q, k, v, valid):
        batch, time = q.shape[:2]
        block = min(BLOCK, time)
        reach = block + self.left_context + self.layer_lookahead
        tail = -time % block
        q, k, v = (F.pad(t, (0, 0, 0, 0, 0, tail)) for t in (q, k, v))
        q = q.reshape(-1, block, *q.shape[2:])  # (batch * blocks, block, heads, head_dim)
        k, v = (t.unfold(1, reach, block).movedim(-1, 2).flatten(0, 1) for t in (k, v))  # (batch * blocks, reach, ..)
        valid = F.pad(valid, (0, tail)).unfold(1, reach, block).flatten(0, 1)  # (batch * blocks, reach)
        band, own = self.band(block, q.device)
        y = attend(q, k, v, band & valid[:, None] | own)
        return y.reshape(batch, time + tail, *y.shape[2:])[:, :time]
