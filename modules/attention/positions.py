"""Positions of frames: rotary position embedding, the sinusoids of relative positions, and the buckets of gated ones."""

import math

import torch
from torch import Tensor

from .constant import constant


def rotary(positions: Tensor, head_dim: int, base: float = 10000.0) -> Tensor:
    """Cosines and sines of rotary position embedding (Su et al., arXiv 2104.09864).

    Angles are computed in float64. So scores depend on differences of positions alone, however long a stream is.

    Arguments
    ---------
    positions : torch.Tensor
        Frame numbers from the start of the stream, integers in any shape.
    head_dim : int
        Width of a head, an even number.
    base : float
        The slowest pair of channels turns about `base` times slower than the fastest one.

    Returns
    -------
    torch.Tensor
        (*positions.shape, 2, head_dim / 2), float64.
    """
    angle = positions[..., None] * frequencies(head_dim, base, positions.device)
    return torch.stack([angle.cos(), angle.sin()], dim=-2)


@constant
def frequencies(head_dim: int, base: float, device: torch.device) -> Tensor:
    """Angle in radians by which each pair of channels turns from one frame to the next: (head_dim / 2,), float64."""
    return base ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float64) / head_dim)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the heads of x (batch, .., heads, head_dim) by a table (.., 2, head_dim / 2) that `rotary` has made."""
    cos, sin = table.to(x.dtype).unsqueeze(-3).unbind(-2)  # each (.., 1, head_dim / 2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)], dim=-1)


def sinusoids(distances: Tensor, dim: int) -> Tensor:
    """Encode distances as sines and cosines, as Transformer-XL does (Dai et al., arXiv 1901.02860): (n,) -> (n, dim)."""
    return rotary(distances, dim).flatten(-2)


def buckets(distances: Tensor, count: int = 320, farthest: int = 800) -> Tensor:
    """Number the distances s - t of T5 (Raffel et al., arXiv 1910.10683): exact for near frames, in logarithmic steps beyond.

    Half of the buckets are for frames t before s, and half for those after it. Of each half, one half is exact; the rest reaches
    to `farthest` frames, and its last bucket beyond. The logarithm is in float32, as where the weights were trained.

    Example
    -------
    >>> buckets(torch.tensor([0, 79, 80, 90, 799, 5000, -1, -5000]))
    tensor([  0,  79,  80,  84, 159, 159, 161, 319])
    """
    far, exact = distances.abs(), count // 4
    steps = (far.clamp(min=exact).float() / exact).log() / math.log(farthest / exact) * exact
    near = torch.where(far < exact, far, (exact + steps).long().clamp(max=count // 2 - 1))
    return torch.where(distances < 0, count // 2, 0) + near
