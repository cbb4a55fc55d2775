"""The layout of the frames inside a stack.

Activations inside a stack are (batch, groups, frames, dim). A group is what one streaming step computes. Its first `chunk`
frames are final. The frames after these are its look-ahead; later groups compute them again, when they know more. In most
attentions a group is a single frame; in LLSA, and in SummaryMixing with chunks, it has more. Only attention and convolution
mix frames. All other layers treat each frame alone, so they need not know how frames are laid out.
"""

from dataclasses import dataclass

from torch import Tensor

from .constant import indices


@dataclass(frozen=True)
class Layout:
    """Which frames a group has, as distances from its first frame.

    Arguments
    ---------
    chunk : int
        Number of final frames in a group; those of group g are frames g * chunk .. (g + 1) * chunk - 1.
    offsets : tuple of int
        Distances of all its frames, in order: 0 .. chunk - 1 for the final ones, then those of the look-ahead frames.

    Example
    -------
    >>> import torch
    >>> Layout(chunk=1, offsets=(0, 1, 2)).expand(torch.arange(5)[None])
    tensor([[[0, 1, 2],
             [1, 2, 3],
             [2, 3, 4]]])
    """

    chunk: int = 1
    offsets: tuple[int, ...] = (0,)

    @property
    def lookahead(self) -> int:
        """Look-ahead of the first frame of a group, in frames; it is the largest in the group."""
        return self.offsets[-1]

    @property
    def pending(self) -> int:
        """Look-ahead of the last final frame of a group, in frames."""
        return self.lookahead - self.chunk + 1

    def groups(self, time: int) -> int:
        """The number of groups that `time` frames complete."""
        return max(0, (time - self.lookahead - 1) // self.chunk + 1)

    def expand(self, x: Tensor) -> Tensor:
        """Lay out frames in groups: (batch, time, ..) -> (batch, groups, frames, ..).

        Entry [:, g, j] of the result is frame g * chunk + offsets[j]; groups that are not complete are left out.
        """
        if not self.pending:  # groups do not overlap
            used = self.groups(x.size(1)) * self.chunk
            return x[:, :used].unflatten(1, (used // self.chunk, self.chunk))
        windows = x.unfold(1, self.lookahead + 1, self.chunk)  # (batch, groups, .., lookahead + 1), a view
        if len(self.offsets) <= self.lookahead:  # only some of the look-ahead frames
            windows = windows.index_select(-1, indices(self.offsets, x.device))
        return windows.movedim(-1, 2)
