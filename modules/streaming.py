"""The streaming contract that every module with a notion of time keeps, and the check of its declared look-ahead."""

import torch
from torch import nn


def length_mask(lengths, time):
    """(batch, time) bool, True on the first `lengths` frames of each row."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def tree_map(function, *trees):
    """Apply a function to the tensors at the same place of nested states (dicts and lists).

    Example
    -------
    >>> tree_map(lambda a, b: a + b, {"k": [torch.tensor(1)]}, {"k": [torch.tensor(2)]})
    {'k': [tensor(3)]}
    """
    first = trees[0]
    if isinstance(first, dict):
        return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, list):
        return [tree_map(function, *parts) for parts in zip(*trees)]
    return function(*trees)


def state_bytes(state):
    """The size of a nested state in bytes."""
    sizes = []
    tree_map(lambda tensor: sizes.append(tensor.numel() * tensor.element_size()), state)
    return sum(sizes)


class Streaming(nn.Module):
    """A module that turns frames into frames, all at once or as they come.

    * `forward(x, lengths)` -> `(y, lengths)`: a padded batch.
    * `initial_state(batch_size)`, `step(x, state)` -> `(y, state)`, `flush(state)` -> `y`: the same, on 1..n new frames a
      time. The state is a value: bounded in size, and all there is.

    Invariant: for any split of x, the outputs of `step` and then of `flush`, concatenated, are those of `forward`, to
    1e-10 in float64 and 1e-5 in float32. Output frame t comes once what it reads has come, and is never revised.
    """

    lookahead = 0
    """The largest number of future input frames that an output frame reads; infinite where there is no streaming form."""

    def forward(self, x, lengths):
        raise NotImplementedError

    def initial_state(self, batch_size):
        raise NotImplementedError

    def step(self, x, state):
        raise NotImplementedError

    def flush(self, state):
        raise NotImplementedError


def last_input(forward, samples, frame, dtype=torch.float64):
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
