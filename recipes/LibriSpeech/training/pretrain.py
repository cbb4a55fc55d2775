"""Self-supervised pre-training."""

from collections.abc import Mapping
from typing import Any

import speechbrain as sb
from speech_attention.model import SpeechEncoder
from speechbrain.dataio.batch import PaddedBatch
from torch import Tensor, nn

from recipes.LibriSpeech.training.brain import StageBrain


def pretrains(hparams: Mapping[str, Any]) -> bool:
    """Whether this start pre-trains, unless that is done."""
    start = hparams["weights"] or hparams["pretrained"]
    return hparams["stage"] in ("all", "pretrain") and hparams["pretrain"]["epochs"] > 0 and not start


class Pretraining(nn.Module):
    """A front end, an encoder and an objective as one module, so that one forward pass is all that data parallelism sees.

    Arguments
    ---------
    model : SpeechEncoder
    objective : BESTRQ or Wav2Vec2
    """

    def __init__(self, model: SpeechEncoder, objective: nn.Module):
        super().__init__()
        self.front_end, self.encoder, self.objective = model.front_end, model.encoder, objective

    def forward(self, samples: Tensor, lengths: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss and statistics of a batch.

        Arguments
        ---------
        samples : torch.Tensor
            Padded audio, (batch, samples).
        lengths : torch.Tensor
            Numbers of samples, (batch,).
        step : int
            Updates so far.
        """
        return self.objective(self.front_end, self.encoder, samples, lengths, step)


class PretrainBrain(StageBrain):
    """Minimises the objective. `modules` has one entry, `pretraining`. See `StageBrain`."""

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> tuple[Tensor, dict[str, float]]:
        """Loss and statistics of a batch."""
        return self.modules.pretraining(*self.audio(batch, stage), self.optimizer_step)

    def compute_objectives(self, predictions: Any, batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """The loss; the statistics go into the means."""
        loss, stats = predictions
        self.means.add(stats)
        return loss
