"""The streaming contract that every module with a notion of time keeps, and the check of its declared look-ahead."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

State = TypeVar("State")
"""The state of one kind of module: a tensor, or dicts and lists of tensors, each with the streams of a batch at axis 0."""


def length_mask(lengths: Tensor, time: int) -> Tensor:
    """(batch, time) bool, True on the first `lengths` frames of each row."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def tree_map(function: Callable[..., Any], *trees: State) -> State:
    """Apply a function to the tensors at the same place of nested states (dicts and lists).

    Example
    -------
    >>> tree_map(lambda a, b: a + b, {"k": [torch.tensor(1)]}, {"k": [torch.tensor(2)]})
    {'k': [tensor(3)]}
    """
    nested: Any = trees  # the structure is the same before and after, which type checkers cannot see
    if isinstance(nested[0], dict):
        return {key: tree_map(function, *(tree[key] for tree in nested)) for key in nested[0]}  # type: ignore[return-value]
    if isinstance(nested[0], list):
        return [tree_map(function, *parts) for parts in zip(*nested)]  # type: ignore[return-value]
    return function(*nested)


def state_bytes(state: object) -> int:
    """The size of a nested state in bytes."""
    sizes: list[int] = []
    tree_map(lambda tensor: sizes.append(tensor.numel() * tensor.element_size()), state)
    return sum(sizes)


class Streaming(nn.Module, Generic[State]):
    """A module that turns frames into frames, all at once or as they come.

    * `forward(x, lengths)` -> `(y, lengths)`: a padded batch.
    * `initial_state(batch_size)`, `step(x, state)` -> `(y, state)`, `flush(state)` -> `y`: the same, on 1..n new frames a
      time. The state is a value: bounded in size, and all there is.

    Invariant: for any split of x, the outputs of `step` and then of `flush`, concatenated, are those of `forward`, to
    1e-10 in float64 and 1e-5 in float32. Output frame t comes once what it reads has come, and is never revised.
    """

    @property
    def lookahead(self) -> float:
        """The largest number of future input frames that an output frame reads; infinite where there is no streaming form."""
        return 0

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> State:
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def flush(self, state: State) -> Tensor:
        raise NotImplementedError


def last_input(forward: Callable[[Tensor], Tensor], samples: Tensor, frame: int, dtype: torch.dtype = torch.float64) -> int:
    """The last input that an output frame depends on, by one backward pass.

    Arguments
    ---------
    forward : callable
        (1, samples, ..) -> (1, frames, ..), in `dtype`. A gradient, unlike a perturbation, does not round away what many
        layers make small.
    samples : torch.Tensor
        Input (1, samples, ..).
    frame : int
        Output frame.

    Returns
    -------
    int
        Its index: that of the last non-zero gradient.
    """
    x = samples.to(dtype).clone().requires_grad_(True)
    y = forward(x)[0, frame]
    weight = torch.linspace(0.5, 1.5, y.numel(), dtype=dtype).view_as(y)  # not constant: a norm hides a constant
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    touched = gradient.abs().flatten(2).sum(-1)[0] if gradient.dim() > 2 else gradient.abs()[0]
    return int(touched.nonzero().max())
