"""What objectives share: statistics, spans of frames to mask, and the features of a hop side by side."""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ..streaming import length_mask

Stats: TypeAlias = dict[str, float]
"""What an objective says of a batch beside its loss, by name."""


def span_mask(lengths: Tensor, time: int, mask_prob: float, mask_length: int) -> Tensor:
    """Draw spans of frames to mask, for each utterance by its own length.

    Arguments
    ---------
    lengths : torch.Tensor
        (batch,), in frames.
    time : int
        Number of frames of the padded batch.
    mask_prob : float
        The part of an utterance that would be masked if no two spans overlapped.
    mask_length : int
        Number of frames of a span.

    Returns
    -------
    torch.Tensor
        (batch, time) bool, True for masked frames. Every utterance has at least one span, and none goes beyond its end.
    """
    spans = (lengths * mask_prob / mask_length).round().clamp(min=1)
    starts = (lengths - mask_length + 1).clamp(min=1)
    score = torch.rand(len(lengths), time, device=lengths.device).masked_fill(~length_mask(starts, time), -1.0)
    rank = score.argsort(dim=1, descending=True).argsort(dim=1)
    start = ((rank < spans[:, None]) & (score >= 0)).float()
    mask = F.max_pool1d(F.pad(start, (mask_length - 1, 0))[:, None], mask_length, stride=1)[:, 0] > 0
    return mask & length_mask(lengths, time)


def stack_features(features: Tensor, stack: int, time: int) -> Tensor:
    """Put the features of each hop side by side: (batch, a few + time * stack, dim) -> (batch, time, stack * dim)."""
    return features[:, features.size(1) - time * stack :].unflatten(1, (time, stack)).flatten(2)


def check(num_codes: int, mask_prob: float, mask_length: int) -> None:
    if num_codes < 1 or mask_length < 1 or not 0 < mask_prob <= 1:
        raise ValueError(
            f"num_codes={num_codes} and mask_length={mask_length} must be 1 or more, mask_prob={mask_prob} above 0 and at most 1"
        )


def perplexity(codes: Tensor) -> float:
    """The exponential of the entropy of a set of codes, which says how many are in use."""
    p = codes.flatten().bincount().float() / codes.numel()
    return torch.special.entr(p).sum().exp().item()
