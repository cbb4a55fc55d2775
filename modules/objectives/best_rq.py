"""BEST-RQ: the codes of a random quantiser."""

import torch
from speechbrain.nnet.quantisers import RandomProjectionQuantizer
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoder import Encoder
from ..front_end import FrontEnd
from .base import Stats, check, perplexity, span_mask, stack_features


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
        check(num_codes, mask_prob, mask_length)
        if front_end.per_frame == front_end.pool:
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
            targets = self.codes(stack_features(features, self.stack, -(-samples.size(1) // front_end.hop)))
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
