"""What the objectives with a teacher share: the teacher hears the same utterance, and answers on the student's frames."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..front_end import FrontEnd
from ..model import SpeechEncoder
from ..streaming import length_mask


class Taught(nn.Module):
    """An objective with a teacher, which is no part of it: its weights are neither trained nor saved with it.

    Arguments
    ---------
    front_end : FrontEnd
        Of the student.
    teacher : SpeechEncoder
        Put into evaluation mode, and frozen.

    Raises
    ------
    ValueError
        If a frame of the student is no whole number of frames of the teacher.
    """

    def __init__(self, front_end: FrontEnd, teacher: SpeechEncoder):
        super().__init__()
        hop, own = front_end.hop, teacher.front_end.hop
        if hop % own:
            raise ValueError(
                f"the teacher has frames of {own / 16:g} ms, and the student of {hop / 16:g} ms: give a teacher with equal frames"
            )
        self.ratio, self.shift = hop // own, front_end.delay - teacher.front_end.delay
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple, which torch does not look into

    @property
    def teacher(self) -> SpeechEncoder:
        """The frozen teacher."""
        return self._teacher[0]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Taught":
        """Move the teacher along, to another device for instance."""
        self.teacher._apply(fn)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def ask(self, samples: Tensor, lengths: Tensor, time: int, layers: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """What the teacher makes of a batch, on the frames of the student.

        Where the student's front end hears the audio some samples later, as Whisper's streaming form does, so does the teacher;
        where that of the teacher does, its audio begins so many samples later, of which one is left in the shortest utterance.
        Where a frame of the student is as long as several of the teacher, it gets their mean.

        Arguments
        ---------
        samples : torch.Tensor
            (batch, samples).
        lengths : torch.Tensor
            (batch,), in samples.
        time : int
            Number of the student's frames in the padded batch.
        layers : list of int
            Of the teacher, from 1.

        Returns
        -------
        outputs : list of torch.Tensor
            (batch, time, dim) for each of these layers; that of the last one has gone through the norm of the encoder.
        valid : torch.Tensor
            (batch, time), bool, which frames there are.
        """
        outputs: list[Tensor] = []
        samples = samples.masked_fill(~length_mask(lengths, samples.size(1)), 0.0)
        samples = F.pad(samples, (0, max(0, 1 - self.shift - samples.size(1))))  # there is a sample left, however short they are
        x, frames = self.teacher.front_end(F.pad(samples, (self.shift, 0)), (lengths + self.shift).clamp(min=1))
        y, _ = self.teacher.encoder(x, frames, outputs)
        valid = length_mask(frames, time * self.ratio).unflatten(1, (time, self.ratio))  # (batch, time, ratio)
        count = valid.sum(dim=2).clamp(min=1)[..., None]
        asked = [full([*outputs, y][layer - 1]) for layer in layers]  # with zeros in the padding
        whole = [F.pad(output, (0, 0, 0, time * self.ratio - output.size(1))) for output in asked]  # (batch, time * ratio, dim)
        return [output.unflatten(1, (time, self.ratio)).sum(dim=2) / count for output in whole], valid.any(dim=2)


def full(x: Tensor) -> Tensor:
    """In float32, if its precision was lower."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
