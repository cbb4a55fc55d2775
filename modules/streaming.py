"""The contract of modules that may run on a stream, tools for their states, and a gradient that measures look-ahead."""

import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

State = TypeVar("State")
"""The state of a module: a tensor, or nested dicts and lists of tensors, each with the streams of a batch at axis 0."""


def length_mask(lengths: Tensor, time: int) -> Tensor:
    """Mark the frames of each utterance: lengths (batch,) -> (batch, time) bool, True on the first `lengths` frames of a row."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def tree_map(function: Callable[..., Any], *trees: State) -> State:
    """Apply a function to the tensors at the same place of nested states, which are dicts and lists.

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


def named_tensors(state: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a nested state by name, such as blocks.0.attention.v.

    Example
    -------
    >>> named_tensors({"a": torch.tensor(1), "b": [torch.tensor(2), {"c": torch.tensor(3)}]}, "state.")
    {'state.a': tensor(1), 'state.b.0': tensor(2), 'state.b.1.c': tensor(3)}
    """
    if isinstance(state, Tensor):
        return {prefix.removesuffix("."): state}
    parts = state.items() if isinstance(state, dict) else enumerate(state or [])
    return {name: tensor for key, part in parts for name, tensor in named_tensors(part, f"{prefix}{key}.").items()}


def state_bytes(state: object) -> int:
    """The size of a nested state, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in named_tensors(state).values())


class Streaming(nn.Module, Generic[State]):
    """A module that turns frames into frames, all at once or as they come.

    * `forward(x, lengths)` returns `(y, lengths)` for a padded batch of whole utterances.
    * `initial_state(batch_size)`, `step(x, state)`, which returns `(y, state)`, and `flush(state)`, which returns `y`, do the
      same with a stream: `step` takes one or more new frames, and `flush` ends the stream. The state is all that the module
      remembers, a value whose size does not grow.

    Invariant: cut x into pieces in any way. The outputs of `step` on each piece and of `flush`, one after the other, are those
    of `forward`, to 1e-10 in float64 and 1e-5 in float32. An output frame comes as soon as the frames that it reads have
    come, and never changes later.
    """

    @property
    def lookahead(self) -> float:
        """How many future input frames an output frame reads, at most; infinite where there is no streaming form."""
        return 0

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> State:
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def flush(self, state: State) -> Tensor:
        raise NotImplementedError


class Dropout(nn.Dropout):
    """torch's dropout, without the call that does nothing in evaluation mode: a step of a stream would make a dozen of them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


class GELU(nn.GELU):
    """torch's GELU, by the kernel that is faster for the frames of one step.

    For contiguous tensors torch calls oneDNN, which takes several times as long to begin as to compute a few frames. Tensors
    that are not contiguous go to torch's own kernel. So frames are transposed for it, and a single frame, which would stay
    contiguous, is doubled with stride 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or x.numel() > min(2**15, 256 * x.size(-1)) or x.dim() == 1:
            return super().forward(x)
        return super().forward(x.mT).mT if x.size(-2) > 1 else super().forward(x.expand(2, *x.shape))[0]


def splits(total: int, largest: int, chance: random.Random) -> list[int]:
    """Random sizes from 1 to `largest` that add up to `total`."""
    sizes: list[int] = []
    while total:
        sizes.append(chance.randint(1, min(largest, total)))
        total -= sizes[-1]
    return sizes


def stream(module: Streaming, x: Tensor, sizes: list[int], state: Any = None) -> list[Tensor]:
    """Outputs of each `step` over x (batch, time, ..) in pieces of `sizes`, then that of `flush`."""
    state = module.initial_state(x.size(0)) if state is None else state
    outputs = []
    for piece in x.split(sizes, dim=1):
        y, state = module.step(piece, state)
        outputs.append(y)
    return [*outputs, module.flush(state)]


def last_input(forward: Callable[[Tensor], Tensor], samples: Tensor, frame: int) -> int:
    """The last input that an output frame depends on, found by one backward pass.

    It is the last one with a gradient that is not zero. To change an input and compare outputs would miss inputs whose effect
    many layers make so small that it is lost in rounding; a gradient keeps it.

    Arguments
    ---------
    forward : callable
        Function of (1, samples, ..) that returns (1, frames, ..), in float64.
    samples : torch.Tensor
        Input, (1, samples, ..).
    frame : int
        Number of the output frame.

    Returns
    -------
    int
        Number of that input.
    """
    x = samples.double().clone().requires_grad_(True)
    y = forward(x)[0, frame]
    weight = torch.linspace(0.5, 1.5, y.numel(), dtype=torch.float64).view_as(y)  # not constant, since a norm would hide that
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    touched = gradient.abs().flatten(2).sum(-1)[0] if gradient.dim() > 2 else gradient.abs()[0]
    return int(touched.nonzero().max())
