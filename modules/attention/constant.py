"""Tensors that depend on plain numbers alone, such as the mask of a window, are made once and kept."""

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

import torch

Make = TypeVar("Make", bound=Callable[..., Any])


def constant(make: Make) -> Make:
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
    def kept(*arguments: Hashable) -> Any:
        return make(*arguments)

    @wraps(make)
    def get(*arguments: Hashable) -> Any:
        real = not torch.compiler.is_compiling() and type(torch.empty(0)) is torch.Tensor
        return kept(*arguments) if real else make(*arguments)

    return cast(Make, get)


@constant
def indices(numbers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """These numbers as an index, (n,): a list of them would be copied to the device, which waits for it, at each step."""
    return torch.tensor(numbers, device=device)
