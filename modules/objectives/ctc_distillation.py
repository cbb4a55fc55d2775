"""Distillation of CTC posteriors from a teacher without latency limits, to a student that may be some frames later."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoder import Encoder
from ..front_end import FrontEnd
from ..model import CTCModel
from ..streaming import length_mask
from .base import Stats
from .teaching import Taught, full


class CTCDistillation(Taught):
    """Give each frame the CTC posteriors that a fine-tuned teacher gives it, a few frames later. It needs no labels.

    **The shift of the peaks.** CTC emits a token in one frame or two. A teacher that hears the future does so at the sound; a
    student with a small look-ahead can't yet know there what it hears, and at a fixed delay of 0 would learn to guess. So for
    each utterance the loss is that of the delay d, of those allowed, for which it is smallest: frame t + d of the student
    learns frame t of the teacher. The range bounds how late tokens come (Li et al., Delayed-KD, arXiv 2505.22069). There is one
    d for the whole utterance, since frames that each chose their own could skip a token, or learn one twice. The first d
    frames learn blanks; the last d of the teacher, mostly silence, are left out.

    **The blanks.** The teacher calls most frames blank. They soon cost little, but at first they are most of the gradient, so
    a frame counts `blank_weight` times as far as it is blank. They can't be left out: they tell when to be silent. The
    posteriors are those of the softmax, without a temperature: it would put tokens where the teacher is sure of a blank.

    Arguments
    ---------
    front_end
        Of the student.
    teacher : CTCModel
        With frames as long as the student's, and its tokens.
    head : torch.nn.Linear
        The student's CTC head, which is trained with it, so that fine-tuning starts from it.
    delays : list of int
        The smallest and the largest delay, in frames.
    blank_weight : float
        See above, from above 0 to 1.

    Raises
    ------
    ValueError
        If the teacher does not fit, or a number is out of its range.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        teacher: CTCModel,
        head: nn.Linear,
        delays: Sequence[int] = (0, 4),
        blank_weight: float = 0.25,
    ):
        super().__init__(front_end, teacher)
        if not isinstance(teacher, CTCModel):
            raise ValueError("CTCDistillation needs a teacher with a CTC head: give a fine-tuned experiment")
        if self.ratio != 1:
            raise ValueError(f"the student's frames are {self.ratio} times as long as the teacher's: they must be equal for CTC")
        if teacher.head.out_features != head.out_features:
            tokens = f"{teacher.head.out_features} tokens, and the student {head.out_features}"
            raise ValueError(f"the teacher has {tokens}: give a teacher with the same tokens")
        pair = isinstance(delays, (list, tuple)) and len(delays) == 2 and all(type(delay) is int for delay in delays)
        if not pair or not 0 <= delays[0] <= delays[1]:
            raise ValueError(f"delays={delays} must be the smallest and the largest delay in frames, such as [0, 4]")
        if not 0 < blank_weight <= 1:
            raise ValueError(f"blank_weight={blank_weight} must be above 0 and at most 1")
        self.head, self.delays, self.blank_weight = head, range(delays[0], delays[1] + 1), blank_weight

    def forward(
        self, front_end: FrontEnd, encoder: Encoder, samples: Tensor, lengths: Tensor, step: int = 0
    ) -> tuple[Tensor, Stats]:
        """See `BESTRQ.forward`. The loss is the mean over the utterances.

        The stats are `delay`, the mean of the chosen delays in frames, and `accuracy`, the part of the frames with a token of
        the teacher in which the student prefers the same token.
        """
        x, frames = front_end(samples, lengths)
        y, _ = encoder(x, frames)
        student, valid = full(self.head(y)).log_softmax(dim=-1), length_mask(frames, y.size(1))
        (answer,), _ = self.ask(samples, lengths, y.size(1), [len(self.teacher.encoder.blocks)])
        with torch.no_grad():
            teacher = full(self.teacher.read_out(answer)).exp()  # (batch, time, tokens)
        losses = torch.stack([self._loss(later(teacher, delay), student, valid) for delay in self.delays])  # (delays, batch)
        loss, best = losses.min(dim=0)
        chosen = best + self.delays[0]
        with torch.no_grad():
            number = torch.arange(y.size(1), device=y.device) - chosen[:, None]  # of the teacher's frame, (batch, time)
            tokens = teacher.argmax(dim=-1).gather(1, number.clamp(min=0)).masked_fill((number < 0) | ~valid, 0)
            right = (student.argmax(dim=-1) == tokens)[tokens > 0]
        return loss.mean(), {"delay": chosen.float().mean().item(), "accuracy": right.sum().item() / max(1, len(right))}

    def _loss(self, teacher: Tensor, student: Tensor, valid: Tensor) -> Tensor:
        """The weighted mean over the frames of the divergence of the student's posteriors from the teacher's: (batch,)."""
        weight = (1 - (1 - self.blank_weight) * teacher[..., 0]) * valid  # (batch, time)
        divergence = F.kl_div(student, teacher, reduction="none").sum(dim=-1)
        return (weight * divergence).sum(dim=1) / weight.sum(dim=1)


def later(posteriors: Tensor, delay: int) -> Tensor:
    """Posteriors (batch, time, tokens) that come `delay` frames later, after blanks; the last ones are left out."""
    blank = torch.zeros_like(posteriors[:, :1])
    blank[..., 0] = 1.0
    return torch.cat([blank.expand(-1, delay, -1), posteriors], dim=1)[:, : posteriors.size(1)]
