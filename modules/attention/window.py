"""What MAA and SA share: a window of L + R + 1 keys, and its streaming state."""

import torch
from torch.nn import functional as F

from .base import Attention


class WindowedAttention(Attention):
    """Frame s sees frames s-L .. s+R. Each layer adds R frames of look-ahead: N * R for a stack of N layers.

    Streaming, frame s comes out once frame s + R is in. The state holds the keys and values of the last L + R frames and
    the R queries that still wait for their look-ahead.

    Arguments
    ---------
    dim, num_heads, positions
        See `Attention`.
    left_context : int
        L, frames.
    lookahead : int
        R, frames.
    """

    def __init__(self, dim, num_heads, left_context, lookahead, positions=True):
        super().__init__(dim, num_heads, positions)
        if left_context < 0 or lookahead < 0:
            raise ValueError(f"left_context={left_context} and lookahead={lookahead} must be 0 or more frames")
        self.left_context, self.layer_lookahead = left_context, lookahead

    def mix(self, q, k, v, *, valid, state=None, final=False):
        q, k, v, valid = (t.squeeze(2) for t in (q, k, v, valid))  # (batch, time, ..): groups of one frame
        left, right, time = self.left_context, self.layer_lookahead, q.size(1)
        if state is None:  # nothing before, nothing after
            k, v = (F.pad(t, (0, 0, 0, 0, left, right)) for t in (k, v))
            valid = F.pad(valid, (left, right))
        else:
            q, k, v, valid = (
                torch.cat([state[name], t], dim=1) for name, t in (("q", q), ("k", k), ("v", v), ("valid", valid))
            )
            state = {"q": q[:, time:], "k": k[:, time:], "v": v[:, time:], "valid": valid[:, time:]}
        y = self.attend_window(q[:, :time], k, v, valid)
        return y.unsqueeze(2), valid[:, left : left + time].unsqueeze(2), state

    def attend_window(self, q, k, v, valid):
        """Query i sees keys i .. i + L + R: q (batch, time, heads, head_dim), k and v (batch, time + L + R, ..)."""
        raise NotImplementedError

    def initial_state(self, batch_size):
        cache = self._cache(batch_size, self.left_context + self.layer_lookahead)
        return {"q": cache["k"][:, : self.layer_lookahead], **cache}

    def band(self, queries, device):
        """(queries, queries + L + R) masks: the window, and each query's own key (which keeps a row from being empty)."""
        keys = queries + self.left_context + self.layer_lookahead
        distance = torch.arange(keys, device=device) - torch.arange(queries, device=device)[:, None]
        return (0 <= distance) & (distance <= keys - queries), distance == self.left_context
