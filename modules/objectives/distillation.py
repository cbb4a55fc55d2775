"""Layer-wise distillation: the student's layers regress those of a teacher that may hear the whole utterance."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..encoder import Encoder
from ..front_end import FrontEnd
from ..model import SpeechEncoder
from ..streaming import length_mask
from .base import Stats
from .teaching import Taught, full


class Distillation(Taught):
    """Regress what layers of a frozen teacher make of the same frames. It needs no labels.

    Each layer is read through a norm, as the next block reads it, and a linear layer, which training throws away. Its target
    is the teacher's output with each channel of each utterance scaled to mean 0 and variance 1, as in data2vec (Baevski et al.,
    arXiv 2202.03555): otherwise the few channels of a Transformer that are many times larger than the rest would be most of
    the loss. The loss is the mean squared error, so that 1 is what a student without an idea has. Layer-wise distillation from a
    model that does not stream to one that does was ahead of that of token posteriors (Shim et al., arXiv 2308.16415).

    Arguments
    ---------
    front_end, dim
        Of the student.
    teacher : SpeechEncoder
        Of any width and attention. Its frames are as long as the student's, or these are a whole number of its frames.
    layers : list of int
        Layers of the student, from 1, in rising order. The last one of its encoder must be among them, since the layers after
        the last one here would learn nothing.
    weight : float
        Factor on the loss.
    teacher_layers : list of int or None
        The layer of the teacher for each of them. None: the same ones.

    Raises
    ------
    ValueError
        If the layers are no such list, the teacher has no such layer, or its frames do not fit.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        dim: int,
        teacher: SpeechEncoder,
        layers: Sequence[int],
        weight: float = 1.0,
        teacher_layers: Sequence[int] | None = None,
    ):
        super().__init__(front_end, teacher)
        depth, sources = len(teacher.encoder.blocks), layers if teacher_layers is None else teacher_layers
        for name, numbers in (("layers", layers), ("teacher_layers", sources)):
            whole = isinstance(numbers, (list, tuple)) and numbers and all(type(number) is int for number in numbers)
            if not whole or list(numbers) != sorted(set(numbers)) or numbers[0] < 1:
                raise ValueError(f"{name}={numbers} must be numbers of layers in rising order, counted from 1, such as [6, 12]")
        if len(sources) != len(layers):
            raise ValueError(f"teacher_layers={sources} must have an entry for each of layers={layers}")
        if sources[-1] > depth:
            raise ValueError(f"the teacher has {depth} layers, and no layer {sources[-1]}: give teacher_layers that it has")
        if not weight > 0:
            raise ValueError(f"weight={weight} must be above 0")
        self.layers, self.sources, self.weight = layers, sources, weight
        self.heads = nn.ModuleList()
        for _ in layers:
            regression = nn.Linear(dim, teacher.encoder.dim)
            nn.init.zeros_(regression.weight)  # else chance would disturb a student that begins with weights of use
            nn.init.zeros_(regression.bias)
            self.heads.append(nn.Sequential(nn.LayerNorm(dim), regression))

    def forward(
        self, front_end: FrontEnd, encoder: Encoder, samples: Tensor, lengths: Tensor, step: int = 0
    ) -> tuple[Tensor, Stats]:
        """See `BESTRQ.forward`. The stats are `explained_6` and so on: the part of a layer's variance that the student knows.

        Raises
        ------
        ValueError
            If the student's last layer is not the last one of `layers`.
        """
        if self.layers[-1] != len(encoder.blocks):
            raise ValueError(f"layers={self.layers} must end with the last layer of the student, {len(encoder.blocks)}")
        outputs: list[Tensor] = []
        x, frames = front_end(samples, lengths)
        y, _ = encoder(x, frames, outputs)
        outputs.append(y)
        targets, valid = self.ask(samples, lengths, y.size(1), self.sources)
        valid = valid & length_mask(frames, y.size(1))
        errors = {}
        for layer, head, target in zip(self.layers, self.heads, targets):
            error = full(head(outputs[layer - 1])) - standardised(target, valid)
            errors[layer] = error[valid].square().mean()
        loss = self.weight * torch.stack(list(errors.values())).mean()
        return loss, {f"explained_{layer}": 1 - error.item() for layer, error in errors.items()}


def standardised(y: Tensor, valid: Tensor) -> Tensor:
    """Scale each channel of each utterance to mean 0 and variance 1 over its valid frames.

    Arguments
    ---------
    y : torch.Tensor
        (batch, time, dim), finite everywhere.
    valid : torch.Tensor
        (batch, time), bool.
    """
    weight = valid[..., None].to(y.dtype) / valid.sum(dim=1).clamp(min=1)[:, None, None]  # (batch, time, 1)
    y = y - (weight * y).sum(dim=1, keepdim=True)
    return y / ((weight * y.square()).sum(dim=1, keepdim=True) + 1e-5).sqrt()
