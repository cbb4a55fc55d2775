"""The contract that every attention keeps, as a check for the tests of anybody's own attention.

`verify` builds small encoders around the attention and fails with a sentence that says what is broken, where, and by how much.
Its parts, `verify_lookahead` and the others, check one clause each, of an encoder that is given.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from .attention.base import AttentionFactory
from .blocks import BlockFactory, ConformerBlock, TransformerBlock
from .encoder import Encoder
from .streaming import last_input, named_tensors, splits, stream, tree_map

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""How far two outputs that must be equal may be apart, at the most, for each dtype."""
LONG = 150
"""Frames of a long utterance: more than two of the blocks in which SA (32) and LLSA (40 / (C + R)) evaluate their band."""
Reference: TypeAlias = Callable[[Encoder, Tensor], Tensor]
"""A plain loop: the encoder and one utterance (time, dim) -> (time, dim), such as `reference.reference_encoder`."""
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def verify(
    attention: AttentionFactory,
    *,
    reference: Reference | None = None,
    dim: int = 16,
    blocks: Sequence[BlockFactory] = (TransformerBlock, partial(ConformerBlock, kernel_size=5)),
) -> None:
    """Check that an attention keeps the contract in each type of block, with parameters drawn at random.

    * The look-ahead that it declares is the one that a gradient measures, at depths of 1, 2 and 4 blocks.
    * Padding is invisible, whatever stands in it, NaN included: outputs and gradients are those of each utterance alone.
    * Streaming gives what `forward` gives, to 1e-10 in float64 and 1e-5 in float32, for many ways to cut an utterance; each
      frame comes out as soon as its look-ahead is there. What reads the whole utterance says so by a ValueError.
    * The state is a value of fixed size, with the streams of a batch at axis 0, and all that a stream is remembered by.
    * Under autocast to bfloat16, outputs and gradients are finite.
    * Outputs and gradients are those of the plain loop, where one is given.

    Arguments
    ---------
    attention : callable
        Factory of the attention, called as `attention(dim=dim)`; usually the class with its options, by `functools.partial`.
    reference : callable or None
        The plain loop, see `Reference`; `functools.partial(reference_encoder, mix=...)` makes one of a loop of the attention.
    dim : int
        Width of the frames.
    blocks : sequence of callable
        Factories of the blocks to try.

    Raises
    ------
    AssertionError
        If a clause is broken.

    Example
    -------
    >>> from functools import partial
    >>> from speech_attention.attention import SA
    >>> verify(partial(SA, num_heads=2, left_context=6, lookahead=2))
    """
    for block in blocks:
        verify_stack(lambda depth: Encoder(dim, 2 * dim, depth, block, attention), reference)


def verify_stack(build: Callable[[int], Encoder], reference: Reference | None = None) -> None:
    """Check the contract as `verify` does, for stacks that need more options of `Encoder`, such as `owners`.

    Arguments
    ---------
    build : callable
        Makes an encoder of a number of blocks.
    reference : callable or None
        See `verify`.
    """

    def encoder(depth: int) -> Encoder:
        return randomise(build(depth).double()).eval()

    for depth in (1, 2, 4):
        verify_lookahead(encoder(depth))
    for garbage in (math.nan, 1e30):
        verify_padding(encoder(3), garbage)
    training, x = encoder(3).train(), noise(2, 9, encoder(1).dim)
    first, again = (training(x, torch.tensor([9, 9]))[0] for _ in "12")
    if first.equal(again):  # without dropout; a norm over the batch shows in training alone
        verify_padding(training)
    verify_initial_state(encoder(3))
    if math.isfinite(encoder(3).lookahead):
        for dtype in TOLERANCE:
            verify_streaming(encoder(3).to(dtype))
        verify_state(encoder(3))
        verify_sessions(encoder(3))
    verify_autocast(encoder(2).float())
    if reference is not None:
        verify_reference(encoder(2), reference)


def verify_lookahead(encoder: Encoder) -> None:
    """Check that the look-ahead that an encoder declares is the one that a gradient measures, for each frame of a chunk."""
    chunk, declared = encoder.layout.chunk, encoder.lookahead
    late = -(-40 // chunk) * chunk
    time = late + chunk + 4 + (20 if math.isinf(declared) else int(declared))
    for frame in (*range(2 * chunk, 3 * chunk), late):
        measured = measure_lookahead(encoder, frame, time)
        expected = time - 1 - frame if math.isinf(declared) else declared - frame % chunk
        if measured != expected:
            reads, says = ("the whole utterance" if n == time - 1 - frame else f"{n} frames ahead" for n in (measured, expected))
            _fail(encoder, f"output frame {frame} reads {reads}; it declares {says}")


def measure_lookahead(encoder: Encoder, frame: int, time: int) -> int:
    """Future frames that an output frame of an utterance of `time` frames depends on, by a gradient."""
    x = noise(1, time, encoder.dim)
    return last_input(lambda x: encoder(x, torch.tensor([time]))[0], x, frame) - frame


def verify_padding(encoder: Encoder, garbage: float = math.nan) -> None:
    """Check that outputs and gradients of a padded batch are those of its utterances alone, with `garbage` in the padding."""
    dim, lengths = encoder.dim, torch.tensor([20, 1, 7, 13])
    x = noise(4, 23, dim)  # padding in the longest utterance, too
    padding = torch.arange(23) >= lengths[:, None]
    x[padding] = garbage
    x.requires_grad_(True)
    y, weight, parameters = encoder(x, lengths)[0], noise(4, 23, dim, seed=1), list(encoder.parameters())
    of_input, *of_parameters = gradients(y, weight, [x, *parameters])
    for what, tensor in (("output", y), ("gradient of the input", of_input)):
        if tensor[padding].any():  # NaN, too
            _fail(encoder, f"the {what} is not 0 in the padding, where {garbage} stands")
    alone = [torch.zeros_like(parameter) for parameter in parameters]
    for i, length in enumerate(lengths.tolist()):
        own = x[i : i + 1, :length].detach().requires_grad_(True)
        expected = encoder(own, lengths[i : i + 1])[0]
        wanted, *more = gradients(expected, weight[i : i + 1, :length], [own, *parameters])
        where = f"of an utterance of {length} frames, with {garbage} in the padding of its batch, is not what it is alone"
        _compare(encoder, f"the output {where}", y[i : i + 1, :length], expected)
        _compare(encoder, f"the gradient {where}", of_input[i : i + 1, :length], wanted)
        alone = [a + b for a, b in zip(alone, more)]
    for (name, _), a, b in zip(encoder.named_parameters(), of_parameters, alone):
        _compare(encoder, f"with {garbage} in the padding, the gradient of {name} is not that of the utterances alone", a, b)


def verify_initial_state(encoder: Encoder) -> None:
    """Check that `initial_state` raises ValueError in an encoder that reads the whole utterance, and in no other one."""
    answer = "return a state"
    try:
        encoder.blocks[0].attention.initial_state(1)
    except (ValueError, NotImplementedError) as error:
        answer = f"raise {type(error).__name__}"
    if answer != (wanted := "raise ValueError" if math.isinf(encoder.lookahead) else "return a state"):
        _fail(encoder, f"a look-ahead of {encoder.lookahead} frames is declared: `initial_state` must {wanted}, not {answer}")


def verify_streaming(encoder: Encoder) -> None:
    """Check that `step` and `flush` give what `forward` gives, for utterances of several lengths, each cut in several ways."""
    dtype, chunk = encoder.blocks[0].norm.weight.dtype, encoder.layout.chunk
    rest = int(encoder.lookahead) - chunk + 1  # what must be there after the last frame of a chunk
    for seed, time in enumerate((1, 2, 3, 7, 20, LONG)):
        x = noise(2, time, encoder.dim, seed=seed, dtype=dtype)
        with torch.no_grad():
            expected, _ = encoder(x, torch.tensor([time, time]))
        for largest in (1, 4, time) if time < LONG else (9, 64, time):
            sizes = splits(time, largest, random.Random(seed))
            with torch.no_grad():
                outputs = stream(encoder, x, sizes)
            how, y = f"{dtype}, {time} frames in pieces of at most {largest}", torch.cat(outputs, dim=1)
            _compare(encoder, f"streaming differs from `forward` ({how})", y, expected, TOLERANCE[dtype])
            seen = done = 0
            for size, y in zip(sizes, outputs):
                seen, done = seen + size, done + y.size(1)
                if done != (ready := max(0, (seen - rest) // chunk) * chunk):
                    _fail(encoder, f"{done} frames are out once {seen} are in, where its look-ahead makes it {ready} ({how})")


def verify_state(encoder: Encoder) -> None:
    """Check that the state is a value of fixed size: streams of any age run in one batch, for hours, and may be copied."""
    dim, piece = encoder.dim, 10 * encoder.layout.chunk
    state, kept = encoder.initial_state(2), []
    before = {name: tuple(tensor.shape) for name, tensor in named_tensors(state).items()}
    for name, shape in before.items():
        if shape[0] != 2:
            _fail(encoder, f"the state {name} of 2 streams has the shape {shape}, not the streams at axis 0")
    x, outputs = noise(2, 50 * piece, dim), []
    for number, part in enumerate(x.split(piece, dim=1), 1):
        with torch.no_grad():
            y, state = encoder.step(part, state)
        outputs.append(y)
        after = {name: tuple(tensor.shape) for name, tensor in named_tensors(state).items()}
        for name in before | after:
            if after.get(name) != before.get(name):
                shapes = f"{before.get(name)} before the first frame, {after.get(name)} after {piece * number} frames"
                _fail(encoder, f"the state {name} does not keep its shape: {shapes}")
        kept.append(sum(tensor.untyped_storage().nbytes() for tensor in named_tensors(state).values()))  # all that views keep
    if kept[4] != kept[-1]:
        _fail(encoder, f"the state grows: {kept[4]} bytes after {5 * piece} frames, {kept[-1]} bytes after {50 * piece}")
    with torch.no_grad():
        y, expected = torch.cat(outputs, dim=1), encoder(x, torch.tensor([x.size(1)] * 2))[0]
    _compare(encoder, f"streaming differs from `forward` ({x.size(1)} frames)", y, expected[:, : y.size(1)])
    copy = tree_map(torch.clone, state)
    stream(encoder, noise(2, 9, dim), [4, 5], state)
    changed = [name for (name, a), b in zip(named_tensors(state).items(), named_tensors(copy).values()) if not a.equal(b)]
    if changed:
        _fail(encoder, f"`step` changes the state that it is given: {changed}")


@torch.no_grad()
def verify_sessions(encoder: Encoder) -> None:
    """Check that streams share a module, and a batch, whatever their ages, and that each gets what `forward` gives it."""
    dim, chunk, states, expected = encoder.dim, encoder.layout.chunk, [], []
    ages, more, tail = [3 * chunk, chunk, 20 * chunk], noise(3, 9 * chunk, dim, seed=9), int(encoder.lookahead)
    for i, age in enumerate(ages):
        x = torch.cat([noise(1, age, dim, seed=i), more[i : i + 1]], dim=1)
        y, state = encoder.step(x[:, :age], encoder.initial_state(1))
        states.append(state)
        expected.append(encoder(x, torch.tensor([x.size(1)]))[0][:, y.size(1) :])
    for i, age in enumerate(ages):
        y = torch.cat(stream(encoder, more[i : i + 1], [9 * chunk], states[i]), dim=1)
        _compare(encoder, f"after {age} frames, a stream is changed by others that have run in between", y, expected[i])
    x, valid = nn.functional.pad(more, (0, 0, 0, tail)), torch.arange(9 * chunk + tail).expand(3, -1) < 9 * chunk
    y, valid, _ = encoder.advance(x, valid, tree_map(lambda *parts: torch.cat(parts), *states))
    for i, age in enumerate(ages):
        _compare(encoder, f"after {age} frames, a stream is changed by others in its batch", y[i, valid[i]][None], expected[i])


def verify_autocast(encoder: Encoder) -> None:
    """Check that outputs and gradients of an encoder in float32 are finite under autocast to bfloat16, streaming included."""
    x, lengths = noise(2, 50, encoder.dim, dtype=torch.float32), torch.tensor([50, 31])
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = encoder(x, lengths)
        outputs = {"the output": y}
        if math.isfinite(encoder.lookahead):
            with torch.no_grad():
                outputs["the output of streaming"] = torch.cat(stream(encoder, x, [7, 1, 1, 20, 21]), dim=1)
    names, parameters = zip(*encoder.named_parameters())
    for name, gradient in zip(names, gradients(y.float(), noise(*y.shape, seed=1, dtype=torch.float32), list(parameters))):
        outputs[f"the gradient of {name}"] = gradient
    for what, tensor in outputs.items():
        if not tensor.isfinite().all():
            _fail(encoder, f"{what} is not finite under autocast to bfloat16")


def verify_reference(encoder: Encoder, reference: Reference) -> None:
    """Check outputs and gradients against a plain loop, for utterances of several lengths."""
    names, parameters = zip(*encoder.named_parameters())
    for time in (1, 2, 3, 7, 20):
        x = noise(time, encoder.dim, seed=time).requires_grad_(True)
        y, expected = encoder(x[None], torch.tensor([time]))[0][0], reference(encoder, x)
        _compare(encoder, f"the output differs from the plain loop's ({time} frames)", y[None], expected[None])
        weight = noise(*y.shape, seed=99)
        actual, wanted = (gradients(out, weight, [x, *parameters]) for out in (y, expected))
        for name, a, b in zip(("the input", *names), actual, wanted):
            tolerance = TOLERANCE[torch.float64] * max(1, b.abs().max().item())
            _compare(encoder, f"the gradient of {name} differs from the plain loop's ({time} frames)", a, b, tolerance)


def _compare(
    encoder: Encoder, sentence: str, actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE[torch.float64]
) -> None:
    """Fail with the sentence, the place and the size of the difference, unless two tensors are equal to `tolerance`."""
    if actual.shape != expected.shape:
        _fail(encoder, f"{sentence}: its shape is {tuple(actual.shape)}, not {tuple(expected.shape)}")
    error = (actual - expected).abs().nan_to_num(nan=math.inf)
    if error.numel() and (largest := error.max().item()) > tolerance:
        at = [int(i) for i in torch.unravel_index(error.argmax(), error.shape)]
        _fail(encoder, f"{sentence}: by {largest:.1e} at {at}, where at most {tolerance:.0e} is allowed")


def _fail(encoder: Encoder, sentence: str) -> NoReturn:
    block = encoder.blocks[0]
    raise AssertionError(f"{type(block.attention).__name__} in {len(encoder.blocks)} x {type(block).__name__}: {sentence}")


def randomise(module: AnyModule, seed: int = 0) -> AnyModule:
    """Parameters as after training: weights that make softmax uneven, norm scales and biases that are not 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() > 1:
                parameter.copy_(value / parameter[0].numel() ** 0.5)
            else:  # the scale of a norm or a bias
                parameter.copy_(0.3 * value + name.endswith("weight"))
    return module


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal noise, the same for each seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradients(y: Tensor, weight: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the sum of y * weight."""
    return torch.autograd.grad((y * weight).sum(), inputs)
