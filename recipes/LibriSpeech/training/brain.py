"""What pre-training and fine-tuning share: exact resume, schedule, clipping, logging, and a stop at a loss that is not finite."""

import random
import time
from collections.abc import Mapping
from typing import Any

import speechbrain as sb
import torch
from speech_attention.front_end import SAMPLE_RATE
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import ddp_all_reduce
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recipes.command_line import UserError
from recipes.LibriSpeech.data.batches import Batches
from recipes.LibriSpeech.data.dataset import absolute_lengths
from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer
from recipes.LibriSpeech.training.logs import StageLogs
from recipes.LibriSpeech.training.optimization import Groups, optimizers
from recipes.LibriSpeech.training.progress import Means, Progress

TELL_SECONDS = 180
"""How often the terminal says inside an epoch how far it is."""


class StageBrain(sb.Brain):
    """A Brain for one stage. `run` trains it to its last epoch; SpeechBrain's loop calls the other methods in this order:

    * `init_optimizers`, then the last checkpoint is loaded, if there is one;
    * for each batch `on_fit_batch_start`, `compute_forward` and `compute_objectives` of the subclass, `optimizers_step`, and
      `on_fit_batch_end`; inside an epoch a checkpoint is saved every `ckpt_interval_minutes` or `ckpt_interval_steps`;
    * for each epoch `on_stage_start` and `on_stage_end`, of training, then of validation, which ends in `end_epoch`.

    The randomness of a step depends on the seed, the epoch and the step alone, and so does the learning rate. Together
    with checkpoints inside an epoch, a run that was killed and started again ends with the weights of one that was not.

    Arguments
    ---------
    name : str
        Of the stage, and of its folder and its block of settings in the YAML (epochs, lr, warmup, batch_seconds).
    modules : dict of nn.Module
        Each with an `encoder`.
    hparams : dict
        The loaded YAML.
    run_opts : RunOptions
        SpeechBrain's (device, precision, ...).
    train, valid : DynamicItemDataset

    Raises
    ------
    UserError
        If an epoch has too few batches for the processes, or for `grad_accumulation_factor`.
    """

    ckpt_interval_minutes: float
    ckpt_interval_steps: int
    told: float

    def __init__(
        self,
        name: str,
        modules: Mapping[str, Any],
        hparams: Mapping[str, Any],
        run_opts: RunOptions,
        train: DynamicItemDataset,
        valid: DynamicItemDataset,
    ):
        self.name, self.settings, folder = name, hparams[name], hparams["output_folder"]
        self.epochs, self.progress = EpochCounter(self.settings["epochs"]), Progress()
        self.matrices = [p for module in modules.values() for p in module.encoder.parameters() if p.ndim == 2]
        saved = {**modules, "epochs": self.epochs, "progress": self.progress}
        checkpointer = AtomicCheckpointer(folder / name / "checkpoints", saved)
        super().__init__(modules, hparams["opt_class"], hparams, run_opts, checkpointer)
        if self.compile:  # this choice of layouts fails in torch where sizes are symbols (pytorch/pytorch#185510)
            torch._inductor.config.layout_optimization = False
        self.intervals = self.ckpt_interval_minutes, self.ckpt_interval_steps
        self.logs = StageLogs(name, self.settings["epochs"], folder, self.hparams.tensorboard)
        self.make_loaders(train, valid)

    def make_loaders(self, train: DynamicItemDataset, valid: DynamicItemDataset) -> None:
        """Make the batches of both sets, and count the updates of the stage."""
        self.hparams.sorting = "batches"  # else SpeechBrain would shuffle these once more where there are several processes
        durations = [train.data[name]["duration"] for name in train.data_ids]
        sampler = Batches(durations, self.settings["batch_seconds"], self.hparams.seed)
        workers = {"num_workers": self.hparams.num_workers}
        self.train_loader = self.make_dataloader(train, sb.Stage.TRAIN, batch_sampler=sampler, **workers)
        self.train_sampler: Any = self.train_sampler or sampler
        self.valid_loader = self.eval_loader(valid)
        if self.distributed_launch and len(self.train_loader) < 2:
            raise UserError(f"{self.name}: fewer than 2 batches an epoch for each process: lower {self.name}.batch_seconds")
        each = len(self.train_loader) // self.grad_accumulation_factor  # SpeechBrain drops what is left at an epoch's end
        if each == 0:
            raise UserError(
                f"{self.name}: grad_accumulation_factor={self.grad_accumulation_factor} is more than the "
                f"{len(self.train_loader)} batches of an epoch: no update would be made"
            )
        self.updates = self.settings["epochs"] * each

    def eval_loader(self, data: DynamicItemDataset) -> DataLoader:
        """Batches of a set to evaluate: a fixed number of utterances of like length."""
        options = {"batch_size": self.hparams.eval_batch_size, "num_workers": self.hparams.num_workers}
        return self.make_dataloader(data, sb.Stage.TEST, ckpt_prefix=None, **options)

    def run(self) -> None:
        """Train until the last epoch, from where an earlier run stopped."""
        self.fit(self.epochs, self.train_loader, self.valid_loader)
        if self.epochs.current < self.settings["epochs"] and not self.debug:
            raise UserError(f"{self.name} ended after {self.epochs.current} of {self.settings['epochs']} epochs: it is not done")

    def parameter_groups(self) -> Groups:
        """All parameters, with their learning rates."""
        return [(list(self.modules.parameters()), self.settings["lr"])]

    def init_optimizers(self) -> None:
        """Those of the YAML; `matrix_opt_class`, if it is there, trains the two-dimensional parameters of the encoder.

        These are the weights of its linear layers and depthwise convolutions, and the two biases of relative positions, a
        row for each head; SummaryMixing's weights of single heads are three-dimensional, and stay with `opt_class`.
        """
        self.optimizers_dict = optimizers(vars(self.hparams), self.parameter_groups(), self.matrices)
        for name, optimizer in self.optimizers_dict.items():
            self.checkpointer.add_recoverable(name, optimizer)

    @property
    def lr(self) -> float:
        """The learning rate of the last step that goes with `lr` in the settings of the stage."""
        return self.optimizers_dict["optimizer"].param_groups[0]["lr"]

    def seed(self, *numbers: int) -> None:
        """Seed all random numbers from the experiment's seed and these; each process its own."""
        mixed = hash((self.hparams.seed, *numbers, getattr(self, "rank", 0))) % 2**31  # tuples of int: the same everywhere
        torch.manual_seed(mixed)
        random.seed(mixed)

    def audio(self, batch: PaddedBatch, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Samples (batch, samples) and their numbers (batch,), on the device; in training each row at a level of its own."""
        batch = batch.to(self.device)
        samples = batch.sig.data
        if stage == sb.Stage.TRAIN and self.hparams.gain_db:
            gains = self.hparams.gain_db * (2 * torch.rand(len(samples), 1, device=samples.device) - 1)  # dB
            samples = samples * 10 ** (gains / 20)
        return samples, absolute_lengths(batch.sig)

    def on_fit_batch_start(self, batch: PaddedBatch, should_step: bool) -> None:
        """Set the seed and the learning rates of a step."""
        self.ids = batch.id
        self.seed(self.epochs.current, self.step)
        factor = self.hparams.schedule(self.optimizer_step, self.updates, self.settings["warmup"])
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor

    def optimizers_step(self) -> None:
        """As SpeechBrain's, but clips the gradients of all parameter groups together, not of the first alone."""
        for optimizer in self.optimizers_dict.values():
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.modules.parameters(), self.max_grad_norm)
        if not self.scaler.is_enabled():  # which lowers its scale after such updates
            self.check_loss_isfinite(norm, "norm of the gradient")
        whole = bool(torch.isfinite(norm))  # else the scaler would skip an optimiser whose own gradients are not, and no other
        for optimizer in self.optimizers_dict.values():
            if whole and any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
                self.scaler.step(optimizer)  # which refuses one without gradients
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        self.optimizer_step += 1

    def on_fit_batch_end(self, batch: PaddedBatch, outputs: Any, loss: Tensor, should_step: bool) -> None:
        """Count what was heard, allow or forbid a checkpoint here, and say now and then how far the epoch is."""
        self.progress.audio_seconds += absolute_lengths(batch.sig).sum().item() / SAMPLE_RATE
        # A checkpoint has no gradients: SpeechBrain, which reads these two next, may save one only where none are adding up.
        self.ckpt_interval_minutes, self.ckpt_interval_steps = self.intervals if should_step else (0, 0)
        if time.time() - self.told > TELL_SECONDS:
            self.told, epoch = time.time(), self.epochs.current
            part = self.step / len(self.train_loader)
            self.logs.inside_epoch(epoch, part, self.lr, self.avg_train_loss, self.seconds_left(epoch - 1, self.step))

    def seconds_left(self, epochs: int, batches: int = 0) -> float:
        """Estimated time to the end of all epochs, when so many epochs, and batches of the next one, are over."""
        each = len(self.train_loader)
        return self.progress.seconds_left(epochs * each + batches, self.settings["epochs"] * each)

    def check_loss_isfinite(self, loss: Tensor, what: str = "loss") -> None:
        """Stop at a loss that is not finite, and name the utterances of its batch."""
        if not torch.isfinite(loss):
            raise UserError(
                f"{self.name}: the {what} is {loss.item()} at epoch {self.epochs.current}, step {self.step}, utterances "
                f"{' '.join(self.ids)}; the last checkpoint in {self.checkpointer.checkpoints_dir} is kept: "
                "look at these utterances, or lower the learning rate"
            )

    def evaluate_batch(self, batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """As SpeechBrain's; its loss must be finite too."""
        self.ids = batch.id
        loss = super().evaluate_batch(batch, stage)
        self.check_loss_isfinite(loss, f"{stage.name.lower()} loss")
        return loss

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Begin new means, or go on with those of an epoch that was interrupted."""
        if stage != sb.Stage.TRAIN:
            self.means = Means()
            self.seed(0)  # the same masks at each validation
            return
        if not self.step:  # else inside an epoch that was interrupted
            self.progress.begin_epoch()
        self.means, self.told = self.progress.means, time.time()

    def stage_stats(self, stage: sb.Stage) -> dict[str, float]:
        """Statistics of the stage that ends, name to number."""
        return self.means.result()

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Keep the statistics of training until the validation after it is over."""
        stats = {name: float(value) for name, value in {**self.stage_stats(stage), "loss": stage_loss}.items()}
        if stage == sb.Stage.TRAIN:
            heard = torch.tensor(self.progress.audio_seconds, device=self.device)
            heard = ddp_all_reduce(heard, torch.distributed.ReduceOp.SUM)  # by all processes
            self.train_stats, self.throughput = stats, self.progress.throughput(heard.item())
        elif stage == sb.Stage.VALID:
            assert epoch is not None  # SpeechBrain's loop numbers them
            self.end_epoch(epoch, stats)

    def end_epoch(self, epoch: int, valid_stats: dict[str, float]) -> None:
        """Log the epoch and save a checkpoint."""
        meta = {"updates": self.optimizer_step, **self.progress.times, "lr": self.lr, "throughput": self.throughput}
        self.logs.epoch(epoch, meta, self.train_stats, valid_stats, self.seconds_left(epoch), self.progress.records)
        scores = {"WER": round(valid_stats["wer"], 4)} if "wer" in valid_stats else {}
        self.checkpointer.save_and_keep_only(meta=scores, min_keys=list(scores), num_to_keep=1)
