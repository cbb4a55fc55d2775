"""Self-supervised objectives: BEST-RQ and wav2vec 2.0. Each is called with the front end, the encoder and a batch."""

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
    """Random spans to mask, drawn for each utterance by its own length.

    Arguments
    ---------
    lengths : torch.Tensor
        (batch,) frames.
    time : int
        Frames of the padded batch.
    mask_prob : float
        Masked fraction of an utterance if no two spans overlapped.
    mask_length : int
        Frames of a span.

    Returns
    -------
    torch.Tensor
        (batch, time) bool; at least one span in every utterance, none beyond its end.
    """
    spans = (lengths * mask_prob / mask_length).round().clamp(min=1)
    starts = (lengths - mask_length + 1).clamp(min=1)
    score = torch.rand(len(lengths), time, device=lengths.device).masked_fill(~length_mask(starts, time), -1.0)
    rank = score.argsort(dim=1, descending=True).argsort(dim=1)
    start = ((rank < spans[:, None]) & (score >= 0)).float()
    mask = F.max_pool1d(F.pad(start, (mask_length - 1, 0))[:, None], mask_length, stride=1)[:, 0] > 0
    return mask & length_mask(lengths, time)


def stack_features(features: Tensor, stack: int) -> Tensor:
    """Each frame's own features, side by side: (batch, extra + time * stack, dim) -> (batch, time, stack * dim)."""
    return features[:, features.size(1) % stack :].unflatten(1, (-1, stack)).flatten(2)  # extra < stack come before frame 0


def _check(num_codes: int, mask_prob: float, mask_length: int) -> None:
    if num_codes < 1 or mask_length < 1 or not 0 < mask_prob <= 1:
        raise ValueError(
            f"num_codes={num_codes} and mask_length={mask_length} must be 1 or more, mask_prob={mask_prob} above 0 and at most 1"
        )


class BESTRQ(nn.Module):
    """Predict the codes of masked frames under a fixed random quantiser (Chiu et al., arXiv 2202.01855).

    Codes come from the features that a frame's own hop ends with, stacked; masked frames have these features replaced by
    noise. The front end's features must be fixed (filterbanks), else targets would follow the model.

    Arguments
    ---------
    front_end : FbankFrontEnd
    dim : int
        Width of the encoder.
    num_codes, code_dim : int
        Size of the codebook.
    mask_prob, mask_length
        See `span_mask`.
    noise : float
        Standard deviation of what replaces masked features (which have standard deviation 1).
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
        """Nearest code of stacked features (.., stack * feature_dim); as SpeechBrain's, without its (.., codes, dim) tensor."""
        return ((stacked @ self.quantiser.P) @ self.quantiser.CB.T).argmax(dim=-1)  # codes are unit vectors

    def forward(
        self, front_end: FrontEnd, encoder: Encoder, samples: Tensor, lengths: Tensor, step: int = 0
    ) -> tuple[Tensor, Stats]:
        """Loss of a batch.

        Arguments
        ---------
        front_end : FrontEnd
        encoder : Encoder
        samples, lengths : torch.Tensor
            (batch, samples) and (batch,) samples.
        step : int
            Updates so far (for objectives with a schedule).

        Returns
        -------
        loss : torch.Tensor
            Scalar.
        stats : dict of str to float
            Collapse shows here: `accuracy` on masked frames, `codes`, the perplexity of the targets, and `predicted`,
            that of the predictions.
        """
        features, lengths = front_end.features(samples, lengths)
        with torch.autocast(features.device.type, enabled=False):  # in half precision targets would jitter
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
    """Tell a masked frame's quantised latent from those of other masked frames (Baevski et al., arXiv 2006.11477).

    Arguments
    ---------
    front_end : FrontEnd
        Its features are the latents; several a frame are stacked.
    dim : int
        Width of the encoder.
    target_dim, num_codes : int
        Width of the targets; entries of each of the two codebooks.
    mask_prob, mask_length
        See `span_mask`.
    num_negatives : int
    temperature : float
        Of the contrastive softmax.
    diversity : float
        Weight of the diversity loss.
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
        """See `BESTRQ.forward`; `codes` is the perplexity of the codebooks, over both."""
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
        stats = {"accuracy": accuracy.item(), "codes": float(meta["code_perplex"]), "temperature": float(meta["temp"])}
        return loss, stats

    def _negatives(self, mask: Tensor) -> Tensor:
        """For each masked frame, row numbers among the masked frames: others of its utterance, uniformly."""
        count = mask.sum(dim=1)  # (batch,)
        first = (count.cumsum(0) - count).repeat_interleave(count)[:, None]
        others = count.repeat_interleave(count)[:, None]
        own = torch.arange(others.size(0), device=mask.device)[:, None] - first
        draw = torch.rand(others.size(0), self.num_negatives, device=mask.device)
        drawn = (draw * (others - 1)).long().clamp(max=(others - 2).clamp(min=0))
        return first + drawn + (drawn >= own) * (others > 1)


def perplexity(codes: Tensor) -> float:
    """exp(entropy) of a set of codes: how many are in use."""
    p = codes.flatten().bincount().float() / codes.numel()
    return torch.special.entr(p).sum().exp().item()
