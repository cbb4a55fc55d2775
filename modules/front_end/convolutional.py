"""The convolutions over the waveform of wav2vec 2.0, HuBERT, data2vec and WavLM."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..streaming import GELU, length_mask
from .base import FrontEnd, check_statistics
from .layers import FrameConvolution


class TimeNorm(nn.Module):
    """A norm of each channel over time, `GroupNorm(channels, channels)`: over the utterance, or by fixed statistics."""

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise x (batch, time, channels), each row over its first `lengths` (batch,) frames; None: by `mean` and `var`."""
        mean, var = self.mean, self.var
        if lengths is not None:
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            mean, var = statistics(x, lengths)
        scale = self.weight * (var + self.eps).rsqrt()
        return torch.addcmul(self.bias - mean * scale, x, scale)


def statistics(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the first `lengths` (batch,) entries of x (batch, time, ..) along axis 1, which they keep."""
    there = length_mask(lengths, x.size(1)).view(*x.shape[:2], *[1] * (x.dim() - 2))
    count = lengths.clamp(min=1).view(-1, *[1] * (x.dim() - 1))
    mean = x.masked_fill(~there, 0.0).sum(dim=1, keepdim=True) / count
    return mean, ((x - mean) ** 2).masked_fill(~there, 0.0).sum(dim=1, keepdim=True) / count


class ConvolutionalFrontEnd(FrontEnd):
    """wav2vec 2.0's seven convolutions, a norm and a linear layer, which make one frame every 20 ms (Baevski et al., 2020).

    Both forms have the same weights. The original form computes what is published, of the utterance with 5 ms (80 samples) of
    silence before it, and silence up to the end of its last hop. The streaming form computes the same with fixed statistics,
    which `fit` takes from the training set, in place of those of the utterance.

    Arguments
    ---------
    dim : int
        Width of the frames.
    channels : int
        Channels of the convolutions.
    norm : str
        "group": the first convolution has a norm of each channel over time, the others have none. "layer": each has a norm over
        channels, frame by frame.
    bias : bool
        Whether the convolutions have biases.
    normalize : bool
        Whether samples are scaled first: to mean 0 and variance 1 over the utterance, or, in the streaming form, by a fixed gain
        to power 1 over the training set.
    form, pool
        See `FrontEnd`.

    Raises
    ------
    ValueError
        If there is no such norm.

    Example
    -------
    >>> front_end = ConvolutionalFrontEnd(dim=8, channels=4, pool=2)
    >>> y, lengths = front_end(torch.rand(2, 16000), torch.tensor([16000, 9000]))
    >>> y.shape, lengths  # 40 ms for each hop of two frames
    (torch.Size([2, 50, 8]), tensor([25, 15]))
    """

    hop, window = 320, 400
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)

    gain: Tensor

    def __init__(
        self,
        dim: int,
        channels: int = 512,
        norm: str = "group",
        bias: bool = False,
        normalize: bool = False,
        form: str = "streaming",
        pool: int = 1,
    ):
        super().__init__(pool, form)
        if norm not in ("group", "layer"):
            raise ValueError(f"norm={norm} must be group or layer")
        self.dim, self.feature_dim, self.normalize = dim, channels, normalize
        inputs = (1, *[channels] * 6)
        self.convolutions = nn.ModuleList(
            FrameConvolution(width, channels, kernel, stride, bias=bias)
            for width, kernel, stride in zip(inputs, self.kernels, self.strides)
        )
        group = (TimeNorm(channels), *(nn.Identity() for _ in range(6)))
        self.norms = nn.ModuleList(group if norm == "group" else (nn.LayerNorm(channels) for _ in range(7)))
        self.activation = GELU()
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, dim)
        if normalize:
            self.register_buffer("gain", torch.tensor(1.0))

    def extract(self, samples: Tensor) -> Tensor:
        """Latents: (batch, 80 + time * 320) -> (batch, time, channels)."""
        return self._convolve(samples * self.gain if self.normalize else samples)

    def extract_whole(self, samples: Tensor, lengths: Tensor) -> Tensor:
        if self.normalize:
            mean, var = statistics(samples, lengths)
            there = length_mask(lengths, samples.size(1))
            samples = ((samples - mean) * (var + 1e-7).rsqrt()).masked_fill(~there, 0.0)
        whole = -(-lengths // self.hop) * self.hop
        return self._convolve(F.pad(samples, (80, 0)), (whole + 80 - self.kernels[0]) // self.strides[0] + 1)

    def _convolve(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Latents of samples (batch, 80 + time * 320). `lengths` (batch,), after the first convolution: in the original form."""
        x = samples[..., None]  # (batch, samples, 1)
        for convolution, norm in zip(self.convolutions, self.norms):
            x = convolution(x)
            x = self.activation(norm(x, lengths) if isinstance(norm, TimeNorm) else norm(x))
        return x

    def project(self, features: Tensor) -> Tensor:
        return self.linear(self.norm(features))

    @torch.no_grad()
    def fit(self, utterances: Iterable[Tensor]) -> None:
        """Set the gain, and the statistics of the norm over time, to those of utterances, (samples,) each.

        The first convolution is linear, so its statistics follow from the mean and the second moments of its windows.

        Raises
        ------
        ValueError
            If there are none, or their samples are no numbers.
        """
        norm, first = self.norms[0], {name: weight.double().cpu() for name, weight in self.convolutions[0].named_parameters()}
        if not self.normalize and not isinstance(norm, TimeNorm):
            return
        size, stride = self.kernels[0], self.strides[0]
        count, power, mean, second = (torch.zeros(shape, dtype=torch.float64) for shape in ((2,), (), (size,), (size, size)))
        for samples in utterances:
            samples = samples.double().cpu()
            windows = F.pad(samples, (80, -len(samples) % self.hop)).unfold(0, size, stride)  # (time, size)
            count += torch.tensor([len(samples), len(windows)])
            power += samples.square().sum()
            mean += windows.sum(dim=0)
            second += windows.T @ windows
        check_statistics(count, power)
        gain = (power / count[0] + 1e-7).rsqrt() if self.normalize else torch.tensor(1.0)
        if self.normalize:
            self.gain.copy_(gain)
        if isinstance(norm, TimeNorm):
            mean, second = gain * mean / count[1], gain**2 * second / count[1]
            matrix = first["weight"][:, 0]  # (channels, size)
            norm.mean.copy_(matrix @ mean + first.get("bias", 0.0))
            norm.var.copy_(((matrix @ (second - mean[:, None] * mean)) * matrix).sum(dim=1).clamp(min=0))
