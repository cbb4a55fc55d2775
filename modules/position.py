"""Positions that are added to frames before the first block of a stack, for whole utterances and for streams."""

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention.constant import constant
from .streaming import GELU

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


class ConvolutionalPosition(NoPosition):
    """Adds to each frame what a convolution makes of the frames around it: the relative positions of wav2vec 2.0 (Baevski et
    al., arXiv 2006.11477), HuBERT and WavLM, and with several layers those of data2vec (Baevski et al., arXiv 2202.03555).

    A layer is a convolution in groups and a GELU. As trained, its frame t reads frames t - kernel // 2 and on, as many as there
    are taps. A smaller `lookahead` leaves out the taps of the frames after that; the weights keep them all, so that they load.

    Arguments
    ---------
    dim : int
        Width of the frames.
    kernel : int
        Taps of a layer.
    groups : int
        Groups of channels that do not read each other; they divide `dim`.
    layers : int
        Number of layers, one after the other.
    bare : bool
        Whether a norm without weights stands between convolution and GELU.
    norm : bool
        Whether a norm follows the sum, as it does before blocks that end with a norm.
    lookahead : int or None
        How many later frames a frame reads, which the layers share evenly. None: as many as trained.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Example
    -------
    >>> position = ConvolutionalPosition(8, kernel=6, groups=2, lookahead=1)
    >>> position(torch.rand(1, 5, 8), torch.ones(1, 5, dtype=torch.bool))[0].shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        kernel: int = 128,
        groups: int = 16,
        layers: int = 1,
        bare: bool = False,
        norm: bool = False,
        lookahead: int | None = None,
    ):
        super().__init__(dim)
        if min(kernel, groups, layers) < 1 or dim % groups:
            raise ValueError(
                f"kernel={kernel}, groups={groups} and layers={layers} must be 1 or more, and groups divide dim={dim}"
            )
        self.left = kernel // 2
        most = layers * (kernel - 1 - self.left)
        self.lookahead = most if lookahead is None else lookahead
        if type(self.lookahead) is not int or not 0 <= self.lookahead <= most:
            raise ValueError(f"lookahead={lookahead} must be from 0 to {most} whole frames, as far as the taps reach")
        self.ahead = [(self.lookahead + i) // layers for i in reversed(range(layers))]  # of each layer
        self.dim, self.groups, self.bare, self.activation = dim, groups, bare, GELU()
        std = 2 / (kernel * dim) ** 0.5
        self.weight = nn.ParameterList(std * torch.randn(dim, dim // groups, kernel) for _ in range(layers))
        self.bias = nn.ParameterList(torch.zeros(dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, x: Tensor, valid: Tensor, state: PositionState | None = None) -> tuple[Tensor, Tensor, PositionState]:
        """See `NoPosition.forward`."""
        late, time = self.lookahead, x.size(1)
        if state is None:  # nothing comes before a whole utterance, and nothing after it
            x, valid = F.pad(x, (0, 0, 0, late)), F.pad(valid, (0, late))
            x, valid, _ = self.forward(x, valid, self.initial_state(x.size(0)))
            return x[:, late:], valid[:, late:], {}
        if time == 0:
            return x, valid, state
        x = torch.cat([state["x"], x.masked_fill(~valid[..., None], 0.0)], dim=1)
        valid = torch.cat([state["valid"], valid], dim=1)
        after, y = {"x": x[:, time:], "valid": valid[:, time:]}, x[:, late:]
        for i, (weight, bias, ahead) in enumerate(zip(self.weight, self.bias, self.ahead)):
            y = torch.cat([state[f"layer{i}"], y], dim=1)
            after[f"layer{i}"] = y[:, time:]
            y = _convolve(y, weight[..., : self.left + 1 + ahead], self.groups) + bias  # (batch, time, dim)
            y = self.activation(F.layer_norm(y, (self.dim,)) if self.bare else y)
            late -= ahead
            y = y.masked_fill(~valid[:, late : late + time, None], 0.0)
        return self.norm(x[:, :time] + y), valid[:, :time], after

    def initial_state(self, batch_size: int) -> PositionState:
        x = self.bias[0]
        return {
            "x": x.new_zeros(batch_size, self.lookahead, self.dim),
            "valid": x.new_zeros(batch_size, self.lookahead, dtype=torch.bool),
            **{f"layer{i}": x.new_zeros(batch_size, self.left + n, self.dim) for i, n in enumerate(self.ahead)},
        }


def _convolve(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A convolution over time without padding, of (batch, time + taps - 1, dim) with (dim, dim / groups, taps).

    A few frames, as in a step of a stream, are a product of matrices: a convolution would lay out all its weights anew.
    """
    taps = weight.size(2)
    if x.size(1) >= taps + 8:
        return F.conv1d(x.mT, weight, groups=groups).mT
    frames = x.unfold(1, taps, 1).unflatten(2, (groups, -1)).movedim(2, 0)  # (groups, batch, time, dim / groups, taps)
    filters = weight.unflatten(0, (groups, -1)).flatten(2)  # (groups, dim / groups, dim / groups * taps)
    y = torch.bmm(frames.flatten(3).flatten(1, 2), filters.mT)  # (groups, batch * time, dim / groups)
    return y.unflatten(1, frames.shape[1:3]).movedim(0, 2).flatten(2)


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
        position = self.table[number.clamp(0, rows - 1)]
        if state or valid.size(1) > rows:  # else whole utterances, all of which the table holds, wherever they begin
            position = torch.where((number < rows)[..., None], position, self.formula(number, dim).to(position.dtype))
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
