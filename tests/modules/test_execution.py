"""Autocast, compilation and activation checkpointing change nothing that matters."""

import math

import pytest
import torch
from cases import (
    ATTENTIONS,
    BLOCKS,
    DIM,
    FAMILIES,
    assert_close,
    build_encoder,
    every_block,
    every_case,
    full,
    gradients,
    noise,
    stream,
)
from speech_attention.streaming import GELU


def relative_error(actual, expected):
    return (actual.float() - expected).norm() / expected.norm()


@every_block
@every_case
def test_autocast(case, block):
    """A rounding to bfloat16 moves a value by up to 2^-8, at random; a block has about 20 in a row, and 20 backward."""
    depth = 2
    tolerance = (2 * 20 * depth) ** 0.5 * 2**-8
    encoder, x = build_encoder(case, block, depth, torch.float32), noise(2, 50, DIM, dtype=torch.float32)
    lengths, weight = torch.tensor([50, 31]), noise(2, 50, DIM, seed=1, dtype=torch.float32)
    expected, _ = encoder(x, lengths)
    wanted = gradients(expected, weight, list(encoder.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = encoder(x, lengths)
    actual = gradients(y, weight, list(encoder.parameters()))
    assert 0 < relative_error(y, expected) < tolerance  # 0 would be float32
    for (name, _), a, b in zip(encoder.named_parameters(), actual, wanted):
        assert a.isfinite().all(), name
    flat = [torch.cat([gradient.flatten() for gradient in all]) for all in (actual, wanted)]
    assert relative_error(*flat) < tolerance
    if math.isfinite(case.each):
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            y = torch.cat(stream(encoder, x, [7, 1, 1, 20, 21]), dim=1)
        assert 0 < relative_error(y, encoder(x, full(x))[0]) < tolerance


@every_block
@every_case
def test_compile(case, block):
    """One graph serves batches of other sizes. The backward pass is compiled too where it holds code of the project or a
    convolution, which takes twice as long again.

    Utterances that fit into one block of SA or LLSA, or that fill blocks or chunks exactly, have another graph.
    """
    torch._dynamo.reset()
    encoder = build_encoder(case, block, depth=2)
    whole = (case.name, block) in (("SA", BLOCKS["Conformer"]), ("LLSA", BLOCKS["Transformer"]))
    compiled = torch.compile(encoder, backend="aot_eager" if whole else "eager", fullgraph=True)
    for batch, time, stance in ((2, 83, "default"), (3, 121, "fail_on_recompile"), (4, 97, "fail_on_recompile")):
        x, lengths = noise(batch, time, DIM).requires_grad_(), torch.tensor([time, *range(time - batch, time - 1)])
        torch._dynamo.maybe_mark_dynamic(x, [0, 1])  # else a second batch would show that sizes differ
        torch._dynamo.maybe_mark_dynamic(lengths, 0)
        weight, inputs = noise(batch, time, DIM, seed=1), [x, *encoder.parameters()]
        with torch.compiler.set_stance(stance):
            (expected, _), (y, _) = encoder(x, lengths), compiled(x, lengths)
        assert_close(y, expected)
        for a, b in zip(gradients(y, weight, inputs), gradients(expected, weight, inputs)):
            assert_close(a, b)


@every_block
@every_case
def test_checkpointing_changes_nothing(case, block):
    x, lengths, results = noise(2, 30, DIM).requires_grad_(True), torch.tensor([30, 17]), []
    for checkpointing in (False, True):
        encoder = build_encoder(case, block, dropout=0.1, checkpointing=checkpointing).train()
        torch.manual_seed(0)  # of dropout
        y, _ = encoder(x, lengths)
        torch.manual_seed(1)  # what is recomputed must not draw anew
        results.append([y, *gradients(y, noise(2, 30, DIM, seed=1), [x, *encoder.parameters()])])
    assert all(a.equal(b) for a, b in zip(*results))


@pytest.mark.parametrize("name", ["data2vec", "whisper"])
def test_encoders_of_public_shapes(name):
    """Norms after the sums, either kind of position, and pooled frames: compiled as one graph, checkpointed, under autocast."""
    torch._dynamo.reset()
    encoder, lengths, results = FAMILIES[name].build(ATTENTIONS["LLSA-chunk3"], pool=2).encoder, torch.tensor([83, 70]), []
    x = noise(2, 166, DIM).requires_grad_(True)
    expected, _ = encoder(x, lengths)
    assert_close(torch.compile(encoder, backend="eager", fullgraph=True)(x, lengths)[0], expected)
    for encoder.checkpointing in (False, True):
        torch.manual_seed(0)  # of where the sinusoids begin
        y, _ = encoder.train()(x, lengths)
        results.append([y, *gradients(y, noise(*y.shape, seed=1), [x, *encoder.parameters()])])
    assert all(a.equal(b) for a, b in zip(*results))
    encoder, x = encoder.float().eval(), x.detach().float()
    expected, _ = encoder(x, full(x[:, ::2]))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y, _ = encoder(x, full(x[:, ::2]))
        streamed = torch.cat(stream(encoder, x, [14, 2, 2, 40, 108]), dim=1)
    assert 0 < relative_error(y, expected) < 0.05 and 0 < relative_error(streamed, expected) < 0.05


@pytest.mark.parametrize("shape", [(1, 1, 1, 6), (2, 3, 1, 6), (1, 2, 5, 6), (2, 0, 6), (40, 1000)])
def test_gelu_by_any_kernel(shape):
    x = noise(*shape).requires_grad_(True)
    y, expected = GELU()(x), torch.nn.functional.gelu(x)
    assert_close(y, expected, 1e-15)
    for a, b in zip(gradients(y, noise(*shape, seed=1), [x]), gradients(expected, noise(*shape, seed=1), [x])):
        assert_close(a, b, 1e-15)
