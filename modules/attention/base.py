"""What every attention shares: projections, rotary positions, and the layout of a stack's frames.

Activations inside a stack are (batch, groups, frames, dim). A group is what one streaming step makes final: its first
`chunk` frames are final, the rest are look-ahead frames known only as of that step (revisions). Every attention but LLSA
has groups of one frame. Only attention and convolution mix time; all else is position-wise and ignores these axes.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """The frames of a group, as offsets from its first frame.

    Arguments
    ---------
    chunk : int
        Final frames in a group; group g is about frames g * chunk .. (g + 1) * chunk - 1.
    offsets : tuple of int
        Offsets of all its frames: 0 .. chunk - 1, then the look-ahead frames.

    Example
    -------
    >>> Layout(chunk=1, offsets=(0, 1, 2)).expand(torch.arange(5)[None])
    tensor([[[0, 1, 2],
             [1, 2, 3],
             [2, 3, 4]]])
    """

    chunk: int = 1
    offsets: tuple = (0,)

    @property
    def lookahead(self):
        """Frames after the first one of a group that the group reads (the worst case of its frames)."""
        return self.offsets[-1]

    @property
    def pending(self):
        """Frames after a group's final ones that it reads."""
        return self.lookahead - self.chunk + 1

    @property
    def lead(self):
        """Frames to put before the first one, so that a group is complete after each `chunk` frames that come."""
        return -self.pending % self.chunk

    def groups(self, time):
        """The number of groups whose frames are all among `time` frames."""
        return max(0, (time - self.lookahead - 1) // self.chunk + 1)

    def expand(self, x, dim=1):
        """(.., time, ..) -> (.., groups, frames, ..) at axis `dim`: H^0[g, j] = X[g * chunk + offsets[j]]."""
        windows = x.unfold(dim, self.lookahead + 1, self.chunk)  # (.., groups, .., lookahead + 1), a view
        if len(self.offsets) <= self.lookahead:  # only some of the look-ahead frames
            windows = windows.index_select(-1, torch.tensor(self.offsets, device=x.device))
        return windows.movedim(-1, dim + 1)


def rotary(positions, head_dim, base=10000.0):
    """Cosines and sines of rotary position embedding (Su et al., arXiv 2104.09864).

    Angles are taken in float64: scores depend on position differences alone, for any length of stream.

    Arguments
    ---------
    positions : torch.Tensor
        Absolute frame numbers, any shape, integer.
    head_dim : int
        Width of a head, even.

    Returns
    -------
    torch.Tensor
        (*positions.shape, 2, head_dim / 2), float64.
    """
    frequency = base ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float64) / head_dim)
    angle = positions[..., None] * frequency
    return torch.stack([angle.cos(), angle.sin()], dim=-2)


def rotate(x, table):
    """Rotate x (batch, .., heads, head_dim) by a table (.., 2, head_dim / 2) of `rotary`."""
    cos, sin = table.to(x.dtype).unsqueeze(-3).unbind(-2)  # each (.., 1, head_dim / 2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attend(q, k, v, mask):
    """Scaled dot-product attention in (batch, time, heads, head_dim); mask (batch or 1, queries, keys), True = may see."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (batch, heads, time, head_dim)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None]).transpose(1, 2)


class Mixer(nn.Module):
    """What mixes the frames of a block: an attention, or what stands in its place. Blocks and encoder know only this.

    Invariant: `mix` over any split of the frames, each call given the state that the last one returned, gives the
    outputs of one `mix` over all frames with `state=None`, delayed by `layer_lookahead` frames.
    """

    layout = Layout()
    layer_lookahead = 0
    """Frames of look-ahead that *each layer* adds to its stack: R for SA and MAA, 0 for LLSA, infinity for AA."""

    def table(self, positions):
        """What `project` must know of the frames at `positions` (batch, time), (batch, time, ..); None: nothing."""
        return None

    def project(self, x, table):
        """The tensors (batch, .., *) that `mix` takes, of frames x (batch, .., dim); position-wise."""
        raise NotImplementedError

    def mix(self, *parts, valid, state=None, final=False):
        """Mix the frames.

        Arguments
        ---------
        parts : torch.Tensor
            (batch, groups, frames, *) each, of `project`.
        valid : torch.Tensor
            (batch, groups, frames), bool: False where there is no such frame (padding, before the start, after the end).
        state : dict or None
            None: these are all the frames there are. Otherwise what the last call returned.
        final : bool
            Only the final frames of each group are asked for.

        Returns
        -------
        y : torch.Tensor
            (batch, groups, frames or final frames, *).
        valid : torch.Tensor
            (batch, groups, frames), of the frames that y is about.
        state : dict or None
        """
        raise NotImplementedError

    def finish(self, y):
        """(batch, .., *) of `mix` -> (batch, .., dim); position-wise."""
        return y

    def initial_state(self, batch_size):
        """State before the first frame: a dict of tensors of fixed shapes, or ValueError if there is no streaming form."""
        raise NotImplementedError


class Attention(Mixer):
    """Base of all attentions. A subclass says which keys a query sees, in `mix`.

    `mix` takes q, k and v, (batch, groups, frames, heads, head_dim) each.

    Arguments
    ---------
    dim : int
        Width of the frames.
    num_heads : int
        Heads; dim / num_heads is even.
    positions : bool
        Rotary positions; without them attention knows order only through its window.
    """

    def __init__(self, dim, num_heads, positions=True):
        super().__init__()
        if num_heads < 1 or dim < 1 or dim % num_heads or (dim // num_heads) % 2:
            raise ValueError(f"num_heads={num_heads} must divide dim={dim} into heads of even width")
        self.num_heads, self.head_dim, self.positions = num_heads, dim // num_heads, positions
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def table(self, positions):
        return rotary(positions, self.head_dim) if self.positions else None

    def project(self, x, table):
        """Queries, keys and values of frames x (batch, .., dim), each (batch, .., heads, head_dim)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(-3)
        return (rotate(q, table), rotate(k, table), v) if self.positions else (q, k, v)

    def finish(self, y):
        return self.output(y.flatten(-2))

    def _cache(self, batch_size, frames):
        """Keys, values and validity of `frames` frames that are not there."""
        empty = self.qkv.weight.new_zeros(batch_size, frames, self.num_heads, self.head_dim)
        return {"k": empty, "v": empty, "valid": empty.new_zeros(batch_size, frames, dtype=torch.bool)}
