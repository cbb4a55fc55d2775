"""wav2vec 2.0: contrast with the latents of other masked frames."""

import torch
from speechbrain.lobes.models.wav2vec import W2VTargetQuantiser
from speechbrain.nnet.losses import ContrastiveLoss
from torch import Tensor, nn

from ..encoder import Encoder
from ..front_end import FrontEnd
from .base import Stats, check, span_mask, stack_features


class Wav2Vec2(nn.Module):
    """Tell the quantised latent of a masked frame from those of other masked frames (Baevski et al., arXiv 2006.11477).

    Arguments
    ---------
    front_end : FrontEnd
        Its features are the latents; where a frame has several, they are put side by side.
    dim : int
        Width of the encoder.
    target_dim, num_codes : int
        Width of the targets, and number of entries in each of the two codebooks.
    mask_prob, mask_length
        See `span_mask`.
    num_negatives : int
        Number of other masked frames that a frame is told from.
    temperature : float
        Temperature of the softmax over the frame and these others.
    diversity : float
        Weight of the loss that makes the quantiser use all its entries.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        dim: int,
        target_dim: int = 256,
        num_codes: int = 320,
        mask_prob: float = 0.65,
        mask_length: int = 10,
        num_negatives: int = 100,
        temperature: float = 0.1,
        diversity: float = 0.1,
    ):
        super().__init__()
        check(num_codes, mask_prob, mask_length)
        self.mask_prob, self.mask_length, self.stack = mask_prob, mask_length, front_end.per_frame
        self.num_negatives, self.diversity = num_negatives, diversity
        width = self.stack * front_end.feature_dim
        self.norm = nn.LayerNorm(width)
        self.quantiser = W2VTargetQuantiser(width, target_dim, num_vars=num_codes)
        self.hidden = nn.Parameter(torch.rand(dim))
        self.head = nn.Linear(dim, target_dim)
        self.contrast = ContrastiveLoss(temperature)

    def forward(
        self, front_end: FrontEnd, encoder: Encoder, samples: Tensor, lengths: Tensor, step: int = 0
    ) -> tuple[Tensor, Stats]:
        """See `BESTRQ.forward`. The stats are `accuracy`, `codes`, the perplexity of both codebooks, and `temperature`."""
        features, lengths = front_end.features(samples, lengths)
        time = -(-samples.size(1) // front_end.hop)
        latents = self.norm(stack_features(features, self.stack, time))  # (batch, time, width)
        mask = span_mask(lengths, time, self.mask_prob, self.mask_length)
        x, hidden = front_end.project(features), mask.repeat_interleave(front_end.pool, dim=1)[..., None]
        y, _ = encoder(torch.where(hidden, self.hidden.to(x.dtype), x), lengths)
        self.quantiser.quantiser.update_temp(step)
        targets, meta = self.quantiser(latents[mask][None])  # (1, masked, target_dim)
        negatives = self._negatives(mask)  # (masked, negatives)
        loss, accuracy = self.contrast(self.head(y[mask])[None], targets, targets[0][negatives.T][:, None])
        loss = loss / mask.sum() + self.diversity * meta["diversity_loss"]
        stats = {"accuracy": accuracy.item(), "codes": meta["code_perplex"].item(), "temperature": float(meta["temp"])}
        return loss, stats

    def _negatives(self, mask: Tensor) -> Tensor:
        """Draw negatives for each masked frame of mask (batch, time), uniformly from the other masked frames of its utterance.

        Returns their numbers among all masked frames, (masked, num_negatives).
        """
        count = mask.sum(dim=1)  # (batch,)
        first = (count.cumsum(0) - count).repeat_interleave(count)[:, None]
        others = count.repeat_interleave(count)[:, None]
        own = torch.arange(others.size(0), device=mask.device)[:, None] - first
        draw = torch.rand(others.size(0), self.num_negatives, device=mask.device)
        drawn = (draw * (others - 1)).long().clamp(max=(others - 2).clamp(min=0))
        return first + drawn + (drawn >= own) * (others > 1)
