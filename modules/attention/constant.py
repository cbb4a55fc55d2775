"""Tensors that depend on plain numbers alone, such as the mask of a window, are made once and kept."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def constant(make: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function of hashable values, one of them a device, that returns tensors which nobody changes.

    The results of the last 32 calls are kept. While torch traces a program nothing is kept, and nothing that is kept is used:
    the tensors are then not real ones.

    Example
    -------
    >>> @constant
    ... def below(size: int, device: torch.device) -> torch.Tensor:
    ...     return torch.ones(size, size, dtype=torch.bool, device=device).tril()
    >>> below(3, torch.device("cpu")) is below(3, torch.device("cpu"))
    True
    """

    @lru_cache(maxsize=32)
    @torch.inference_mode(False)  # what inference makes could not serve training
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        return make(*args, **kwargs)

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> T:
        real = not torch.compiler.is_compiling() and type(torch.empty(0)) is torch.Tensor
        return kept(*args, **kwargs) if real else make(*args, **kwargs)

    return get


@constant
def indices(numbers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """These numbers as an index, (n,): a list of them would be copied to the device, which waits for it, at each step."""
    return torch.tensor(numbers, device=device)
