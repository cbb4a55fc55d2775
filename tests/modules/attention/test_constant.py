"""What is made once and kept serves inference and training, and is never mixed with the tensors of a program being traced."""

import torch
from speech_attention.attention import LLSA, MAA, window
from speech_attention.attention.constant import constant
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


@constant
def numbers(size, device):
    return torch.arange(size, device=device)


def test_it_is_made_once():
    assert numbers(5, torch.device("cpu")) is numbers(5, torch.device("cpu"))
    assert numbers(6, torch.device("cpu")).equal(torch.arange(6))


def test_fake_tensors_are_not_kept_and_real_ones_not_handed_to_fake_programs():
    for size in (7, 8):  # 7: first without data, then with data; 8: the other way round
        if size == 8:
            numbers(size, torch.device("cpu"))
        with FakeTensorMode():
            assert isinstance(numbers(size, torch.device("cpu")), FakeTensor)
        assert numbers(size, torch.device("cpu")).equal(torch.arange(size))


def test_what_inference_made_serves_training():
    attention = LLSA(dim=8, num_heads=2, left_context=17, lookahead=3, positions="relative")  # a window of no other test
    parts, valid = attention.project(torch.rand(1, 5, 4, 8), None), torch.ones(1, 5, 4, dtype=torch.bool)
    with torch.inference_mode():
        attention.mix(*parts, valid=valid)
    attention.mix(*parts, valid=valid)[0].sum().backward()
    assert attention.distance.weight.grad.abs().sum() > 0


def test_large_masks_are_not_kept(monkeypatch):
    kept, made = [], window.kept_masks
    monkeypatch.setattr(window, "kept_masks", lambda block, *others: kept.append(block) or made(block, *others))
    attention = MAA(dim=8, num_heads=2, left_context=3, lookahead=1, positions="none")
    for time in (1, 5, 500):
        parts, valid = attention.project(torch.rand(1, time, 1, 8), None), torch.ones(1, time, 1, dtype=torch.bool)
        attention.mix(*parts, valid=valid)
        attention.mix(*parts, valid=valid, state=attention.initial_state(1))
    assert kept == [1, 1, 5, 5]
