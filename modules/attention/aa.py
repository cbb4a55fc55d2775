"""AA, acausal attention: every frame sees the whole utterance."""

import math

import torch
from torch import Tensor

from .base import Attention, Mixed, MixerState, Shared, followed


class AA(Attention):
    """Softmax over all frames of the utterance, in O(T^2) time for T frames (Ma et al., arXiv 2302.13451).

    It must wait for the end of the utterance, so it has no streaming form. For the arguments, see `Attention`.

    Example
    -------
    >>> attention = AA(dim=8, num_heads=2, positions="none")
    >>> q, k, v = attention.project(torch.rand(1, 5, 1, 8), None)
    >>> attention.mix(q, k, v, valid=torch.ones(1, 5, 1, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 1, 2, 4])
    """

    layer_lookahead = math.inf

    def mix(
        self, *parts: Tensor, valid: Tensor, state: MixerState | None = None, final: bool = False, shared: Shared = None
    ) -> Mixed:
        frames = [t.squeeze(2) for t in parts]  # (batch, time, heads, head_dim): groups of one frame
        if self.role == "follower":
            y = self.reuse_map(followed(shared), frames[0])
        else:
            q, k, v = frames
            time = q.size(1)
            q, bias = self.bias(q, torch.arange(time - 1, -time, -1, device=q.device), shift)
            seen = valid | ~valid.any(dim=1, keepdim=True)  # without any frame, all padding: a softmax over no keys would be NaN
            y, shared = self.attend(q, k, v, seen.transpose(1, 2), bias)
        return y.unsqueeze(2), valid, None, shared

    def initial_state(self, batch_size: int) -> MixerState:
        raise ValueError("AA reads the whole utterance: it has no streaming form (use SA, MAA or LLSA)")


def shift(scores: Tensor) -> Tensor:
    """Scores by distance to scores by key: (.., time, 2 * time - 1) -> (.., time, time).

    The distances are in falling order. Row s of the result begins with distance s, which is entry time - 1 - s of its row.


    Example
    -------
    >>> shift(torch.tensor([[2, 1, 0, -1, -2]] * 3))
    tensor([[ 0, -1, -2],
            [ 1,  0, -1],
            [ 2,  1,  0]])
    """
    time = scores.size(-2)
    if time == 1:
        return scores
    return scores.flatten(-2)[..., time - 1 : -1].unflatten(-1, (time, 2 * time - 2))[..., :time]
