"""Positions before the stack: what they add, how far they look ahead, and streams of any length."""

import math

import pytest
import torch
from cases import assert_close, gradients, noise
from speech_attention.position import ConvolutionalPosition, Sinusoids
from speech_attention.streaming import last_input
from speech_attention.testing import randomise

HOUR = 180_000  # frames of 20 ms


def there(batch, time):
    return torch.ones(batch, time, dtype=torch.bool)


def sinusoid(number, dim):
    """One row of the formula, by Python's own arithmetic."""
    angles = [number * math.exp(-math.log(10000) * i / (dim / 2 - 1)) for i in range(dim // 2)]
    return [*map(math.sin, angles), *map(math.cos, angles)]


def test_sinusoids_are_the_table_and_then_the_formula():
    position = Sinusoids(8, rows=5).double().eval()
    assert_close(position.table, torch.tensor([sinusoid(n, 8) for n in range(5)]).double(), 1e-7)  # rounded to float32
    position.table.copy_(noise(5, 8))  # as loaded
    y, _, _ = position(torch.zeros(2, 9, 8).double(), torch.arange(9) < torch.tensor([[9], [2]]))
    formula = torch.tensor([sinusoid(n, 8) for n in range(5, 9)], dtype=torch.float64)
    assert_close(y[0], torch.cat([position.table, formula]), 1e-12)
    assert_close(y[1, :2], position.table[:2], 0)


def test_sinusoids_of_streams_that_begin_when_they_like():
    position, x = Sinusoids(8, rows=5).double().eval(), noise(1, 12, 8)
    whole, _, _ = position(x, there(1, 12))
    state, outputs, valid = position.initial_state(3), [], torch.arange(20) >= torch.tensor([[0], [3], [8]])
    rows = torch.stack([torch.cat([noise(begin, 8), x[0], noise(8, 8)])[:20] for begin in (0, 3, 8)])
    for piece, now in zip(rows.split([1, 4, 9, 6], dim=1), valid.split([1, 4, 9, 6], dim=1)):
        y, now, state = position(piece, now, state)
        outputs.append(y)
    y = torch.cat(outputs, dim=1)
    for row, begin in enumerate((0, 3, 8)):
        assert_close(y[row, begin : begin + 12], whole[0], 0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-6)], ids=str)
def test_sinusoids_after_an_hour(dtype, tolerance):
    """To the rounding of the outputs, which lie in -1 .. 1: float32 alone would have angles wrong by 1e-2 by then."""
    position = Sinusoids(512, rows=1500).to(dtype).eval()
    state = {"frames": torch.tensor([[HOUR], [0]])}
    y, _, state = position(torch.zeros(2, 3, 512, dtype=dtype), there(2, 3), state)
    expected = torch.tensor([sinusoid(HOUR + n, 512) for n in range(3)], dtype=torch.float64)
    assert_close(y[0].double(), expected, tolerance)
    assert_close(y[1], position.table[:3], 0)
    assert state["frames"].tolist() == [[HOUR + 3], [3]]


def test_sinusoids_begin_at_random_in_training():
    """Each utterance at its own row, wherever the table has room for it; from the start in evaluation, and beyond the table."""
    position, lengths = Sinusoids(4, rows=6).train(), torch.tensor([4, 6, 2, 9])
    valid, seen = torch.arange(9) < lengths[:, None], [set() for _ in lengths]
    torch.manual_seed(0)
    for _ in range(60):
        y, _, _ = position(torch.zeros(4, 9, 4), valid)
        for row, length in enumerate(lengths):
            (first,) = [n for n in range(6) if y[row, 0].equal(position.table[n])]
            seen[row].add(first)
            assert y[row, : min(length, 6)].equal(position.table[first : first + length])
    assert seen == [{0, 1, 2}, {0}, {0, 1, 2, 3, 4}, {0}]
    for mode in (True, False):
        drawn = []
        for _ in "12":
            torch.manual_seed(1)
            drawn.append(position.train(mode)(torch.zeros(4, 9, 4), valid)[0])
        assert drawn[0].equal(drawn[1])
    assert drawn[0][:, 0].equal(position.table[:1].expand(4, -1))


def by_loops(position, x, ahead):
    """One utterance (time, dim), by the definition: each output channel of a layer sums taps over the channels of its group."""
    y, (time, dim) = x, x.shape
    width = dim // position.groups
    for weight, bias, right in zip(position.weight, position.bias, ahead):
        left, sums = weight.size(2) // 2, []
        for t in range(time):
            total = bias.clone()
            for s in range(max(0, t - left), min(time, t + right + 1)):
                for out in range(dim):
                    own = y[s, out // width * width :][:width]
                    total[out] += weight[out, :, s - t + left] @ own
            if position.bare:
                total = (total - total.mean()) / (total.var(correction=0) + 1e-5).sqrt()
            sums.append(0.5 * total * (1 + torch.erf(total / math.sqrt(2))))
        y = torch.stack(sums)
    return position.norm(x + y)


@pytest.mark.parametrize(
    "options, ahead",
    [
        ({"kernel": 6, "norm": True}, [2]),
        ({"kernel": 6, "lookahead": 1}, [1]),
        ({"kernel": 5, "layers": 3, "bare": True, "norm": True}, [2, 2, 2]),
        ({"kernel": 5, "layers": 3, "bare": True, "lookahead": 4}, [2, 1, 1]),
        ({"kernel": 5, "layers": 3, "bare": True, "lookahead": 0}, [0, 0, 0]),
    ],
)
def test_convolution_by_a_plain_loop(options, ahead):
    position = randomise(ConvolutionalPosition(4, groups=2, **options).double())
    assert position.lookahead == sum(ahead)
    for time in (1, 9):
        x = noise(1, time, 4)
        with torch.no_grad():
            assert_close(position(x, there(1, time))[0][0], by_loops(position, x[0], ahead))


@pytest.mark.parametrize(
    "options, declared", [({}, 63), ({"lookahead": 8}, 8), ({"lookahead": 0}, 0), ({"kernel": 19, "layers": 5, "bare": True}, 45)]
)
def test_convolution_looks_ahead_as_it_declares(options, declared):
    position = randomise(ConvolutionalPosition(2, groups=1, **options).double())
    assert position.lookahead == declared
    assert last_input(lambda x: position(x, there(1, 200))[0], noise(1, 200, 2), 70) == 70 + declared


@pytest.mark.parametrize("time", [1, 20])  # by either way to compute it
def test_convolution_gives_gradients_of_the_frames_there_are(time):
    position, x = randomise(ConvolutionalPosition(4, kernel=6, groups=2).double()), noise(1, time, 4)
    padded = torch.cat([x, torch.full((1, 5, 4), math.nan, dtype=torch.float64)], dim=1)
    weight, parameters = noise(1, time, 4, seed=1), [*position.weight, *position.bias]
    expected = gradients(position(x, there(1, time))[0], weight, parameters)
    actual = gradients(position(padded, torch.arange(time + 5)[None] < time)[0][:, :time], weight, parameters)
    for a, b in zip(actual, expected):
        assert_close(a, b)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ConvolutionalPosition(4, groups=3), "groups divide dim=4"),
        (lambda: ConvolutionalPosition(4, groups=0), "must be 1 or more"),
        (lambda: ConvolutionalPosition(4, groups=2, lookahead=64), "lookahead=64 must be from 0 to 63 whole frames"),
        (lambda: ConvolutionalPosition(4, groups=2, lookahead=1.5), "lookahead=1.5"),
        (lambda: ConvolutionalPosition(4, groups=2, lookahead=-1), "lookahead=-1"),
        (lambda: Sinusoids(5), "dim=5 must be even"),
        (lambda: Sinusoids(2), "at least 4"),
        (lambda: Sinusoids(4, rows=0), "rows=0 at least 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
