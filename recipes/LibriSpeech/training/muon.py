"""Muon for many matrices of few shapes: those of one shape are orthogonalised together."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim._muon import _adjust_lr  # of the shape, as this version of torch has it


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, with its arguments and its state, which takes one product for all matrices of a shape, where that one
    takes a product for each of them.

    It iterates in bfloat16, as that one does, on devices that multiply in it, and in float32 on processors that do not.

    Arguments
    ---------
    params, lr, ...
        See `torch.optim.Muon`.

    Example
    -------
    >>> weight = torch.nn.Parameter(torch.zeros(4, 8))
    >>> weight.grad = torch.ones_like(weight)
    >>> Muon([weight], lr=0.1, weight_decay=0.0).step()
    >>> bool((weight < 0).all())
    True
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; `closure`, if there is one, computes the loss, which is returned."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters of one shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]  # all of them
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        if group["nesterov"]:
            buffers = list(torch._foreach_lerp(gradients, buffers, group["momentum"]))
        directions = torch.stack(buffers).to(product_dtype(buffers[0].device))  # (number, rows, columns)
        directions = orthogonalised(directions, group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], parameters[0].shape)
        torch._foreach_add_(parameters, directions.to(parameters[0].dtype).unbind(), alpha=-rate)


def product_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where a device multiplies matrices in it, float32 on a processor that would have to convert them."""
    if device.type == "cpu" and not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return torch.float32
    return torch.bfloat16


def orthogonalised(matrices: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Matrices whose singular vectors are those of the given ones, and whose singular values are about 1: `steps` Newton-Schulz
    iterations X <- aX + bAX + cA^2 X, where A = X X^T, from X of norm 1.

    Arguments
    ---------
    matrices : torch.Tensor
        (number, rows, columns).
    coefficients : sequence of float
        a, b and c.
    steps : int
    eps : float
        A matrix with a smaller norm is divided by this.

    Returns
    -------
    torch.Tensor
        Like `matrices`.
    """
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices  # (number, shorter side, longer side)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
