"""Positions that are added to frames before the first block of a stack, for whole utterances and for streams."""

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .attention.constant import constant

PositionState: TypeAlias = dict[str, Tensor]
"""What a position module keeps of the frames before, the streams of a batch at axis 0."""


class NoPosition(nn.Module):
    """Adds nothing, where attentions know positions by themselves. It is also the base of the modules that add something.

    Arguments
    ---------
    dim : int
        Width of the frames.
    """

    lookahead = 0
    """How many later frames a frame reads."""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor, valid: Tensor, state: PositionState | None = None) -> tuple[Tensor, Tensor, PositionState]:
        """Add positions to frames.

        Arguments
        ---------
        x : torch.Tensor
            (batch, time, dim). What stands in frames that are not valid does not matter.
        valid : torch.Tensor
            (batch, time), bool, which of these frames belong to their utterance.
        state : dict or None
            None if these are all frames of their utterances. Otherwise the state from `initial_state` or from the call for
            the frames just before; then frames come out `lookahead` frames later.

        Returns
        -------
        x : torch.Tensor
            (batch, time, dim).
        valid : torch.Tensor
            (batch, time), which of these there are.
        state : dict
            For the next call.
        """
        return x, valid, {}

    def initial_state(self, batch_size: int) -> PositionState:
        """The state of `batch_size` streams before their first frame."""
        return {}


class Sinusoids(NoPosition):
    """Adds a row of a table to each frame, by its number: the encoder positions of Whisper (Radford et al., arXiv 2212.04356).

    After the last row of the table the formula that it was made by goes on, so that a stream may be of any length: sines, then
    cosines, of the number times 10000 ** (-i / (dim / 2 - 1)), for i = 0 .. dim / 2 - 1. In training, whole utterances begin
    at a random row, each at its own, as far as the table has room: late rows, too, are then seen, which streams reach.

    Arguments
    ---------
    dim : int
        Width of the frames, an even number of at least 4.
    rows : int
        Rows of the table. They are a buffer, made by the formula; that of Whisper is in float32, and up to 1e-4 away from it.

    Raises
    ------
    ValueError
        If dim or rows do not fit.

    Example
    -------
    >>> x, valid = torch.zeros(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    >>> Sinusoids(4).eval()(x, valid)[0][0, :, 0]  # the sines of 0, 1 and 2
    tensor([0.0000, 0.8415, 0.9093])
    """

    table: Tensor

    def __init__(self, dim: int, rows: int = 1500):
        super().__init__(dim)
        if dim < 4 or dim % 2 or rows < 1:
            raise ValueError(f"dim={dim} must be even and at least 4, rows={rows} at least 1")
        self.register_buffer("table", self.formula(torch.arange(rows), dim).float())

    @staticmethod
    def formula(numbers: Tensor, dim: int) -> Tensor:
        """Encode frame numbers, integers in any shape: (*numbers.shape, dim), float64."""
        angle = numbers[..., None] * frequencies(dim, numbers.device)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def forward(self, x: Tensor, valid: Tensor, state: PositionState | None = None) -> tuple[Tensor, Tensor, PositionState]:
        """See `NoPosition.forward`."""
        before = state["frames"] if state else self._start(valid)
        number = before + valid.cumsum(dim=1) - 1  # of the frames of each stream, whenever it began
        rows, dim = self.table.shape
        known = self.table[number.clamp(0, rows - 1)]
        position = torch.where((number < rows)[..., None], known, self.formula(number, dim).to(known.dtype))
        return x + position, valid, {"frames": before + valid.sum(dim=1, keepdim=True)}

    def _start(self, valid: Tensor) -> Tensor:
        """The number of the first frame of whole utterances: (batch, 1)."""
        lengths = valid.sum(dim=1, keepdim=True)
        if not self.training:
            return torch.zeros_like(lengths)
        room = (len(self.table) + 1 - lengths).clamp(min=1)
        return (room * torch.rand(room.shape, dtype=torch.float64, device=room.device)).long()

    def initial_state(self, batch_size: int) -> PositionState:
        return {"frames": torch.zeros(batch_size, 1, dtype=torch.long, device=self.table.device)}


@constant
def frequencies(dim: int, device: torch.device) -> Tensor:
    """The angle in radians from one frame to the next, for each pair of channels: (dim / 2,), float64."""
    half = dim // 2
    return torch.exp(torch.arange(half, dtype=torch.float64, device=device) * (-math.log(10000.0) / (half - 1)))
