"""CTC fine-tuning and test."""

import time

import speechbrain as sb
import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import CTCModel
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import length_mask
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from torch import Tensor
from torch.nn import functional as F

from recipes.LibriSpeech.data.dataset import absolute_lengths
from recipes.LibriSpeech.decoding.wer import Score, Utterance, greedy_words, score
from recipes.LibriSpeech.inference.sessions import random_hops, stream_words
from recipes.LibriSpeech.training.brain import StageBrain
from recipes.LibriSpeech.training.optimization import Groups, by_depth

PROJECTION = "norm.", "linear."
"""What the names of the parameters begin with that a front end has between its features and its frames."""


class FinetuneBrain(StageBrain):
    """CTC on tokens, with speed perturbation and SpecAugment. `modules` has `model`, a CTCModel. See `StageBrain`."""

    @property
    def model(self) -> CTCModel:
        """The model itself, where `modules` may hold a wrapper."""
        return self.checkpointer.recoverables["model"]

    def parameter_groups(self) -> Groups:
        """The CTC head, and the front end and the encoder at `encoder_lr`."""
        settings, head = self.settings, list(self.model.head.parameters())
        return [(head, settings["lr"]), *by_depth(self.model, settings["encoder_lr"], settings["layer_decay"])]

    def on_fit_start(self) -> None:
        """Freeze the front end, if it shall not train, but for its projection (as Baevski et al., NeurIPS 2020, fine-tune)."""
        for name, parameter in self.model.front_end.named_parameters():
            if self.settings["freeze_front_end"] and not name.startswith(PROJECTION):
                parameter.requires_grad_(False)
        self.body = [p for name, p in self.model.named_parameters() if not name.startswith("head.") and p.requires_grad]
        super().on_fit_start()

    def on_fit_batch_start(self, batch: PaddedBatch, should_step: bool) -> None:
        """Before the first update, and after the last one that trains the head alone, choose what has gradients from here on."""
        super().on_fit_batch_start(batch, should_step)
        trains = self.optimizer_step >= self.settings["head_updates"]
        if self.body[0].requires_grad != trains:
            for parameter in self.body:
                parameter.requires_grad_(trains)
            if self.distributed_launch:  # a wrapper waits for the gradients that there were when it was made
                self.modules["model"] = self.modules["model"].module
                self._wrap_distributed()

    def run(self) -> None:
        """Train; without epochs, evaluate the weights that are there on the validation set, and keep them."""
        super().run()
        if not self.checkpointer.list_checkpoints():
            self.evaluate(self.valid_loader)
            self.checkpointer.save_checkpoint(meta={"WER": round(self.score.wer, 4)})

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Log-probabilities (batch, frames, tokens) and numbers of frames (batch,)."""
        samples, lengths = self.audio(batch, stage)
        if stage != sb.Stage.TRAIN:
            return self.modules.model(samples, lengths)
        perturbed = self.hparams.speed_perturb(samples)
        lengths = (lengths * perturbed.size(1)) // samples.size(1)
        return self.modules.model(perturbed, lengths, augment=self.augment)

    @torch.compiler.disable  # SpeechBrain's SpecAugment reads what it draws
    def augment(self, features: Tensor) -> Tensor:
        """SpecAugment on features (batch, time, mels)."""
        for drop in self.hparams.spec_augment:
            features = drop(features)
        return features

    def compute_objectives(self, predictions: tuple[Tensor, Tensor], batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """The CTC loss for each token, mean over the utterances; in evaluation, words are kept too."""
        log_probs, lengths = predictions
        targets, target_lengths = batch.targets.data, absolute_lengths(batch.targets)
        losses = F.ctc_loss(
            log_probs.float().transpose(0, 1), targets, lengths, target_lengths, reduction="none", zero_infinity=True
        )
        frames = length_mask(lengths, log_probs.size(1))
        blank = (log_probs.argmax(dim=-1) == 0)[frames].float().mean().item()
        unalignable = (losses == 0).float().mean().item()  # more tokens than frames: CTC has no path, and no gradient
        self.means.add({"blank": blank, "unalignable": unalignable})
        if stage != sb.Stage.TRAIN:
            self.audio_seconds += absolute_lengths(batch.sig).sum().item() / SAMPLE_RATE
            words = greedy_words(log_probs, lengths, self.hparams.tokens.texts)
            self.hypotheses.update(zip(batch.id, words))
            self.references.update(zip(batch.id, (text.split() for text in batch.words)))
        return (losses / target_lengths.clamp(min=1)).mean()  # a transcript to evaluate on may have none that these tokens write

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Nothing has been recognised yet."""
        super().on_stage_start(stage, epoch)
        self.hypotheses: dict[str, list[str]] = {}
        self.references: dict[str, list[str]] = {}
        self.audio_seconds, self.start = 0.0, time.time()

    def stage_stats(self, stage: sb.Stage) -> dict[str, float]:
        """Statistics of the stage that ends; in evaluation the word error rate is among them."""
        stats = super().stage_stats(stage)
        if stage != sb.Stage.TRAIN:
            self.seconds = time.time() - self.start
            self.score, self.utterances = score(self.references, self.hypotheses)
            stats["wer"] = self.score.wer
        return stats

    def test(self, data: DynamicItemDataset) -> tuple[Score, list[Utterance], float, float]:
        """Greedy WER of the checkpoint with the best validation WER.

        Returns
        -------
        score : Score
        utterances : list of Utterance
        seconds, audio_seconds : float
            Wall-clock of loading audio, model and decoding; audio in it.
        """
        self.evaluate(self.eval_loader(data), min_key="WER")
        return self.score, self.utterances, self.seconds, self.audio_seconds

    def test_streaming(self, data: DynamicItemDataset, offline: list[Utterance]) -> tuple[Score, list[Utterance], list[str]]:
        """WER of the same checkpoint, fed in random hops through the streaming system (call it after `test`).

        Arguments
        ---------
        data : DynamicItemDataset
        offline : list of Utterance
            As `test` gave them for `data`.

        Returns
        -------
        score : Score
        utterances : list of Utterance
        different : list of str
            Ids of the utterances whose text is not that of the offline test.
        """
        recognizer = Recognizer(self.model, self.hparams.tokens.texts)
        references = {utterance.id: utterance.reference for utterance in offline}
        data = data.filtered_sorted(key_test={"id": references.__contains__})
        with self.evaluation_ctx:
            words = stream_words(recognizer, data, random_hops(self.hparams.seed), self.hparams.eval_batch_size)
        streaming, utterances = score(references, words)
        return streaming, utterances, [u.id for u, v in zip(utterances, offline) if u.hypothesis != v.hypothesis]
