"""Self-supervised objectives, BEST-RQ and wav2vec 2.0. Each is called with a front end, an encoder and a batch."""

from typing import TypeAlias

import torch
from speechbrain.lobes.models.wav2vec import W2VTargetQuantiser
from speechbrain.nnet.losses import ContrastiveLoss
from speechbrain.nnet.quantisers import RandomProjectionQuantizer
from torch import Tensor, nn
from torch.nn import functional as F

from .encoder import Encoder
from .front_end import FrontEnd
from .streaming import length_mask

Stats: TypeAlias = dict[str, float]
"""What an objective says of a batch beside its loss, by name."""


def span_mask(lengths: Tensor, time: int, mask_prob: float, mask_length: int) -> Tensor:
    """Draw spans of frames to mask, for each utterance by its own length.

    Arguments
    ---------
    lengths : torch.Tensor
        (batch,), in frames.
    time : int
        Number of frames of the padded batch.
    mask_prob : float
        The part of an utterance that would be masked if no two spans overlapped.
    mask_length : int
        Number of frames of a span.

    Returns
    -------
    torch.Tensor
        (batch, time) bool, True for masked frames. Every utterance has at least one span, and none goes beyond its end.
    """
    spans = (lengths * mask_prob / mask_length).round().clamp(min=1)
    starts = (lengths - mask_length + 1).clamp(min=1)
    score = torch.rand(len(lengths), time, device=lengths.device).masked_fill(~length_mask(starts, time), -1.0)
    rank = score.argsort(dim=1, descending=True).argsort(dim=1)
    start = ((rank < spans[:, None]) & (score >= 0)).float()
    mask = F.max_pool1d(F.pad(start, (mask_length - 1, 0))[:, None], mask_length, stride=1)[:, 0] > 0
    return mask & length_mask(lengths, time)


def stack_features(features: Tensor, stack: int) -> Tensor:
    """Put the features of each hop side by side: (batch, extra + time * stack, dim) -> (batch, time, stack * dim)."""
    return features[:, features.size(1) % stack :].unflatten(1, (-1, stack)).flatten(2)  # extra < stack, before the first hop


def _check(num_codes: int, mask_prob: float, mask_length: int) -> None:
    if num_codes < 1 or mask_length < 1 or not 0 < mask_prob <= 1:
        raise ValueError(
            f"num_codes={num_codes} and mask_length={mask_length} must be 1 or more, mask_prob={mask_prob} above 0 and at most 1"
        )


class BESTRQ(nn.Module):
    """Predict the codes that a fixed random quantiser gives to masked frames (Chiu et al., arXiv 2202.01855).

    The code of a frame is that of the features of its hop, side by side. In masked frames, noise replaces these features. The
    features must be fixed, as filterbanks are: if the model could move its targets, it would make them easy to predict.

    Arguments
    ---------
    front_end : FbankFrontEnd
        Only its sizes are used here.
    dim : int
        Width of the encoder.
    num_codes, code_dim : int
        Number of codes, and width of each.
    mask_prob, mask_length
        See `span_mask`.
    noise : float
        Standard deviation of the noise; features have a standard deviation of 1.

    Raises
    ------
    ValueError
        If a number is out of its range, or the features of the front end are not fixed.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        dim: int,
        num_codes: int = 8192,
        code_dim: int = 16,
        mask_prob: float = 0.6,
        mask_length: int = 10,
        noise: float = 0.1,
    ):
        super().__init__()
        _check(num_codes, mask_prob, mask_length)
        if front_end.per_frame == 1:
            raise ValueError("BESTRQ needs a front end with fixed features (FbankFrontEnd); use Wav2Vec2 with this one")
        self.mask_prob, self.mask_length, self.noise, self.stack = mask_prob, mask_length, noise, front_end.per_frame
        self.quantiser = RandomProjectionQuantizer(self.stack * front_end.feature_dim, code_dim, num_codes)
        self.head = nn.Linear(dim, num_codes)

    def codes(self, stacked: Tensor) -> Tensor:
        """The nearest code of stacked features (.., stack * feature_dim), by its number (..).

        SpeechBrain's quantiser gives the same numbers, but makes a tensor (.., num_codes, code_dim) on the way.
        """
        # all codes have length 1, so the nearest one has the largest product
        return ((stacked @ self.quantiser.P) @ self.quantiser.CB.T).argmax(dim=-1)

    def forward(
        self, front_end: FrontEnd, encoder: Encoder, samples: Tensor, lengths: Tensor, step: int = 0
    ) -> tuple[Tensor, Stats]:
        """Compute the loss of a batch.

        Arguments
        ---------
        front_end : FrontEnd
        encoder : Encoder
        samples : torch.Tensor
            (batch, samples).
        lengths : torch.Tensor
            (batch,), in samples.
        step : int
            Number of updates so far, for objectives that change with it.

        Returns
        -------
        loss : torch.Tensor
            A scalar.
        stats : dict of str to float
            Of the masked frames: `accuracy`; `codes`, the perplexity of the targets; `predicted`, that of the predictions. A
            perplexity near 1 shows a collapse, in which all frames have one code.
        """
        features, lengths = front_end.features(samples, lengths)
        with torch.autocast(features.device.type, enabled=False):  # half precision would move some frames to another code
            targets = self.codes(stack_features(features, self.stack))
        mask = span_mask(lengths, targets.size(1), self.mask_prob, self.mask_length)
        hidden = mask.repeat_interleave(self.stack, dim=1)
        hidden = F.pad(hidden, (features.size(1) - hidden.size(1), 0))[..., None]
        features = torch.where(hidden, self.noise * torch.randn_like(features), features)
        y, _ = encoder(front_end.project(features), lengths)
        logits, targets = self.head(y[mask]).float(), targets[mask]
        loss = F.cross_entropy(logits, targets)
        predicted = logits.argmax(dim=-1)
        stats = {
            "accuracy": (predicted == targets).float().mean().item(),
            "codes": perplexity(targets),
            "predicted": perplexity(predicted),
        }
        return loss, stats


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
        _check(num_codes, mask_prob, mask_length)
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
        latents = self.norm(stack_features(features, self.stack))  # (batch, time, width)
        x = front_end.project(features)
        mask = span_mask(lengths, x.size(1), self.mask_prob, self.mask_length)
        y, _ = encoder(torch.where(mask[..., None], self.hidden.to(x.dtype), x), lengths)
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


def perplexity(codes: Tensor) -> float:
    """The exponential of the entropy of a set of codes, which says how many are in use."""
    p = codes.flatten().bincount().float() / codes.numel()
    return torch.special.entr(p).sum().exp().item()
