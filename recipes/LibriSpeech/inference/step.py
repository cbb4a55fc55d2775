"""One streaming step as a function of tensors alone, as torch exports it: for ONNX, and for torch's compiler."""

import copy
import logging
import math
import warnings
from typing import Any

import torch
from speech_attention.front_end.layers import FrameConvolution, PowerSpectrogram
from speech_attention.model import CTCModel, SpeechState
from speech_attention.streaming import named_tensors, tree_map
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchaudio.transforms import Spectrogram

OPSET = 18  # the one in which torch's exporter writes its operators: any other would be a conversion of that

EXACT = "model.front_end.mel.", "model.front_end.convolutions."
"""Where the names of weights begin that eight bits would spoil: of the filterbank, and of the first convolutions."""


class DFT(nn.Module):
    """The power spectrogram as a product with the windowed DFT.

    Training has the FFT, which is faster there. onnxruntime has it too (STFT), but at 400 points that is off by up to 0.03 in
    a log-mel feature of speech, where this is off by 0.0001, and takes four times as long.

    Arguments
    ---------
    spectrogram : torchaudio.transforms.Spectrogram
        What it equals; of power 2, not centred, not normalised.

    Example
    -------
    >>> from torchaudio.transforms import Spectrogram
    >>> spectrogram = Spectrogram(n_fft=400, hop_length=160, center=False).double()
    >>> samples = torch.rand(2, 1360).double()
    >>> torch.allclose(DFT(spectrogram)(samples), spectrogram(samples))
    True
    """

    basis: torch.Tensor

    def __init__(self, spectrogram: Spectrogram):
        super().__init__()
        size, self.hop, window = spectrogram.n_fft, spectrogram.hop_length, spectrogram.window
        turns = torch.arange(size // 2 + 1)[:, None] * torch.arange(size) % size
        angle = 2 * math.pi / size * turns.double()
        self.register_buffer("basis", (torch.cat([angle.cos(), angle.sin()]) * window).to(window.dtype).T.contiguous())

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> (batch, frequencies, time)."""
        frames = samples.unfold(1, len(self.basis), self.hop)  # (batch, time, n_fft)
        real, imaginary = (frames @ self.basis).chunk(2, dim=-1)
        return (real * real + imaginary * imaginary).mT


class StridedConvolution(nn.Module):
    """A convolution over time as a product, for which ONNX Runtime has the faster kernel, and which keeps the name of its weight.

    Arguments
    ---------
    convolution : torch.nn.Conv1d
        What it equals; without padding. A `FrameConvolution` takes and returns (batch, time, channels).

    Example
    -------
    >>> convolution = nn.Conv1d(4, 6, 3, stride=2)
    >>> x = torch.rand(2, 4, 9)
    >>> torch.allclose(StridedConvolution(convolution)(x), convolution(x), atol=1e-6)
    True
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, convolution: Any):
        super().__init__()
        (self.size,), (self.stride,) = convolution.kernel_size, convolution.stride
        self.frames = isinstance(convolution, FrameConvolution)
        self.register_buffer("weight", convolution.weight.detach().permute(2, 1, 0).flatten(0, 1))  # (size * inputs, outputs)
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, time) -> (batch, outputs, time), or as a `FrameConvolution`."""
        return self._product(x) if self.frames else self._product(x.mT).mT

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        windows = x.unfold(1, self.size, self.stride).mT  # (batch, time, size, inputs)
        y = windows.flatten(2) @ self.weight
        return y if self.bias is None else y + self.bias


class Step(nn.Module):
    """`CTCModel.advance` with the tensors of the state side by side.

    Arguments
    ---------
    model : CTCModel
        In evaluation mode; it is not changed.
    start : dict
        A state, for its structure.
    """

    def __init__(self, model: CTCModel, start: SpeechState):
        super().__init__()
        self.model, self.start = copy.deepcopy(model), start
        for module in list(self.model.front_end.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, PowerSpectrogram):
                    setattr(module, name, DFT(child))
                elif type(child) in (nn.Conv1d, FrameConvolution):
                    setattr(module, name, StridedConvolution(child))

    def forward(self, samples: torch.Tensor, valid: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = iter(state)
        log_probs, valid, next_state = self.model.advance(samples, valid, tree_map(lambda _: next(tensors), self.start))
        after = named_tensors(next_state)
        return log_probs, valid, *(after[name] for name in named_tensors(self.start))


def example(model: CTCModel, start: SpeechState, chunks: int) -> tuple[dict[str, torch.Tensor], tuple]:
    """Inputs of a step, by name, and which of their sizes are free: the number of streams."""
    two = tree_map(lambda tensor: torch.cat([tensor, tensor]), start)  # one stream would be taken for a constant
    frames, states = chunks * model.encoder.layout.chunk, named_tensors(two, "state.")
    inputs = {"samples": torch.zeros(2, frames * model.front_end.hop), "valid": torch.ones(2, frames, dtype=torch.bool), **states}
    batch = {0: torch.export.Dim("batch")}
    return inputs, (batch, batch, (batch,) * len(states))


def step_proto(model: CTCModel, start: SpeechState, chunks: int = 1) -> Any:
    """`CTCModel.advance` over some chunks of frames as an `onnx.ModelProto`, of any number of streams."""
    from onnxscript import opset18 as op

    inputs, shapes = example(model, start, chunks)

    def cosine(x: Any) -> Any:  # float64, for which onnxruntime has a sine, but before 1.30 no cosine
        return op.Sin(op.Add(x, math.pi / 2))

    def gelu(x: Any, approximate: str = "none") -> Any:  # in the order in which onnxruntime knows it, and makes it one operator
        return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, math.sqrt(2))), 1.0)), 0.5)

    def attention(q: Any, k: Any, v: Any, mask: Any = None, *_: Any, scale: float | None = None, **__: Any) -> Any:
        scores = op.Mul(op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])), q.shape[-1] ** -0.5 if scale is None else scale)
        if mask is not None:  # torch's own translation looks for queries without a key, of which there are none
            scores = op.Where(mask, scores, -math.inf) if mask.dtype.name == "BOOL" else op.Add(scores, mask)
        return op.MatMul(op.Softmax(scores, axis=-1), v)

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        # The fused attention, as it is traced, lays out its result in another way than the plain one that is exported.
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Step(model, start).eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=["log_probs", "valid_out", *named_tensors(start, "next.")],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                custom_translation_table={
                    torch.ops.aten.cos.default: cosine,
                    torch.ops.aten.gelu.default: gelu,
                    torch.ops.aten.scaled_dot_product_attention.default: attention,
                },
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # it is with dynamo
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info):  # where in the source it came from, with paths
        del part.metadata_props[:]
    return proto
