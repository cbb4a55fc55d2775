"""Muon by shape is torch's Muon: the same numbers to the rounding of that one, the same state, the same options."""

import pytest
import torch
from torch.nn import Parameter

from recipes.LibriSpeech.training import muon
from recipes.LibriSpeech.training.muon import Muon, orthogonalised

SHAPES = (8, 4), (4, 8), (8, 4), (6, 6), (3, 15)
COEFFICIENTS = 3.4445, -4.7750, 2.0315


def plain(x, steps=5):
    """The iteration as it is defined, for one matrix."""
    a, b, c = COEFFICIENTS
    x = x / x.norm()
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def train(optimizer, some, steps=4):
    """Steps with gradients of their own; one parameter has none at every other step."""
    generator = torch.Generator().manual_seed(2)
    for step in range(steps):
        for number, parameter in enumerate(some):
            gradient = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            parameter.grad = None if number == 1 and step % 2 else gradient
        optimizer.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_are_orthogonalised_as_if_each_were_alone(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([plain(matrix) for matrix in matrices])
    assert (orthogonalised(matrices, COEFFICIENTS, 5, 1e-7) - expected).abs().max() < 1e-10
    assert orthogonalised(torch.zeros(1, *shape), COEFFICIENTS, 5, 1e-7).eq(0).all()


@pytest.mark.parametrize("options", [
    {"weight_decay": 0.0}, {"nesterov": False, "momentum": 0.8}, {"ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"},
    {"adjust_lr_fn": "original"},
])  # fmt: skip
def test_steps_are_those_of_torch(options, monkeypatch):
    """Torch rounds each product to 8 bits, which moves its weights by `rounding`. In bfloat16 these are as near to exact ones,
    in float32 hundreds of times nearer."""
    distances, made = {}, {"torch": torch.optim.Muon, "exact": Muon, torch.float32: Muon, torch.bfloat16: Muon}
    weights, states = {}, {}
    for name, kind in made.items():
        monkeypatch.setattr(muon, "product_dtype", lambda device: torch.float64 if name == "exact" else name)
        some = parameters(torch.float64 if name == "exact" else torch.float32)
        optimizer = kind(some, lr=0.1, **options)
        train(optimizer, some)
        weights[name], states[name] = torch.cat([p.detach().flatten() for p in some]), optimizer.state_dict()
    for name in weights:
        distances[name] = (weights[name].double() - weights["exact"]).norm() / weights["exact"].norm()
    rounding = distances["torch"]
    assert 0 < rounding < 2**-7 and distances[torch.float32] < rounding / 200 and distances[torch.bfloat16] < 2 * rounding
    assert states["torch"]["param_groups"] == states[torch.float32]["param_groups"]
    for number, state in states["torch"]["state"].items():
        assert states[torch.float32]["state"][number].keys() == state.keys() == {"momentum_buffer"}
        torch.testing.assert_close(states[torch.float32]["state"][number]["momentum_buffer"], state["momentum_buffer"])


def test_goes_on_from_a_checkpoint_of_torch(monkeypatch):
    monkeypatch.setattr(muon, "product_dtype", lambda device: torch.float32)
    ends = []
    for last in (torch.optim.Muon, Muon):
        some = parameters()
        first, second = torch.optim.Muon(some, lr=0.1), last(some, lr=0.5)
        train(first, some, steps=3)
        second.load_state_dict(first.state_dict())
        train(second, some, steps=1)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in some]))
    assert (ends[0] - ends[1]).norm() / ends[0].norm() < 2**-8


def test_a_processor_without_bfloat16_multiplies_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert muon.product_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert muon.product_dtype(torch.device("cpu")) == torch.float32
    assert muon.product_dtype(torch.device("cuda")) == torch.bfloat16
