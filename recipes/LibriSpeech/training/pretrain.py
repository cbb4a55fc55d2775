"""Self-supervised pre-training."""

from torch import nn

from recipes.LibriSpeech.training.brain import StageBrain


class Pretraining(nn.Module):
    """A front end, an encoder and an objective as one module, so that one forward pass is all that data parallelism sees.

    Arguments
    ---------
    model : SpeechEncoder
    objective : BESTRQ or Wav2Vec2
    """

    def __init__(self, model, objective):
        super().__init__()
        self.front_end, self.encoder, self.objective = model.front_end, model.encoder, objective

    def forward(self, samples, lengths, step):
        """Loss and statistics of a batch."""
        return self.objective(self.front_end, self.encoder, samples, lengths, step)


class PretrainBrain(StageBrain):
    """Minimises the objective. `modules` has one entry, `pretraining`. See `StageBrain`."""

    def compute_forward(self, batch, stage):
        return self.modules.pretraining(*self.audio(batch), self.optimizer_step)

    def compute_objectives(self, predictions, batch, stage):
        loss, stats = predictions
        self.means.add(stats)
        return loss
