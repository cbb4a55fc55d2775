"""What pre-training and fine-tuning share: exact resume, schedule, clipping, logging, and a stop at a loss that is not finite."""

import json
import random

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.epoch_loop import EpochCounter

from recipes.command_line import UserError
from recipes.files import write_text
from recipes.LibriSpeech.data.dataset import absolute_lengths, batches
from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer, Means, Progress
from recipes.LibriSpeech.training.optimization import optimizers


class StageBrain(sb.Brain):
    """A Brain for one stage.

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
    """

    def __init__(self, name, modules, hparams, run_opts, train, valid):
        self.name, self.settings, self.folder = name, hparams[name], hparams["output_folder"] / name
        self.epochs, self.progress = EpochCounter(self.settings["epochs"]), Progress()
        self.matrices = [p for module in modules.values() for p in module.encoder.parameters() if p.ndim == 2]
        saved = {**modules, "epochs": self.epochs, "progress": self.progress}
        checkpointer = AtomicCheckpointer(self.folder / "checkpoints", saved)
        super().__init__(modules, hparams=hparams, run_opts=run_opts, checkpointer=checkpointer)
        self.hparams.sorting = "batches"  # else SpeechBrain would shuffle these once more where there are several processes
        sampler = batches(train, self.settings["batch_seconds"], self.hparams.seed)
        workers = {"num_workers": self.hparams.num_workers}
        self.train_loader = self.make_dataloader(train, sb.Stage.TRAIN, batch_sampler=sampler, **workers)
        self.train_sampler = self.train_sampler or sampler
        self.valid_loader = self.eval_loader(valid)
        if self.distributed_launch and len(self.train_loader) < 2:
            raise UserError(f"{name}: fewer than 2 batches an epoch for each process: lower {name}.batch_seconds")
        each = len(self.train_loader) // self.grad_accumulation_factor  # SpeechBrain drops what is left at an epoch's end
        if each == 0:
            raise UserError(
                f"{name}: grad_accumulation_factor={self.grad_accumulation_factor} is more than the {len(self.train_loader)} "
                "batches of an epoch: no update would be made"
            )
        self.updates = self.settings["epochs"] * each

    def eval_loader(self, data):
        """Batches of a set to evaluate: a fixed number of utterances of like length."""
        options = {"batch_size": self.hparams.eval_batch_size, "num_workers": self.hparams.num_workers}
        return self.make_dataloader(data, sb.Stage.TEST, ckpt_prefix=None, **options)

    def run(self):
        """Train until the last epoch, from where an earlier run stopped."""
        self.fit(self.epochs, self.train_loader, self.valid_loader)

    def parameter_groups(self):
        """[(parameters, base learning rate)]"""
        return [(list(self.modules.parameters()), self.settings["lr"])]

    def init_optimizers(self):
        """Those of the YAML; `matrix_opt_class`, if it is there, trains the two-dimensional parameters of the encoder.

        These are the weights of its linear layers and depthwise convolutions, and the two biases of relative positions, a
        row for each head; SummaryMixing's maps of single heads are three-dimensional, and stay with `opt_class`.
        """
        self.optimizers_dict = optimizers(vars(self.hparams), self.parameter_groups(), self.matrices)
        for name, optimizer in self.optimizers_dict.items():
            self.checkpointer.add_recoverable(name, optimizer)

    def seed(self, *numbers):
        """Seed all random numbers from the experiment's seed and these; each process its own."""
        mixed = hash((self.hparams.seed, *numbers, getattr(self, "rank", 0))) % 2**31  # tuples of int: the same everywhere
        torch.manual_seed(mixed)
        random.seed(mixed)

    def audio(self, batch):
        """Samples (batch, samples) and their numbers (batch,), on the device."""
        batch = batch.to(self.device)
        return batch.sig.data, absolute_lengths(batch.sig)

    def on_fit_batch_start(self, batch, should_step):
        self.ids = batch.id
        self.seed(self.epochs.current, self.step)
        factor = self.hparams.schedule(self.optimizer_step, self.updates, self.settings["warmup"])
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor

    def check_loss_isfinite(self, loss, what="loss"):
        if not torch.isfinite(loss):
            raise UserError(
                f"{self.name}: the {what} is {loss.item()} at epoch {self.epochs.current}, step {self.step}, utterances "
                f"{' '.join(self.ids)}; the last checkpoint in {self.checkpointer.checkpoints_dir} is kept: "
                "look at these utterances, or lower the learning rate"
            )

    def evaluate_batch(self, batch, stage):
        self.ids = batch.id
        loss = super().evaluate_batch(batch, stage)
        self.check_loss_isfinite(loss, f"{stage.name.lower()} loss")
        return loss

    def optimizers_step(self):
        """As SpeechBrain's, but clips the gradients of all parameter groups together, not of the first alone."""
        for optimizer in self.optimizers_dict.values():
            self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.modules.parameters(), self.max_grad_norm)
        if not self.scaler.is_enabled():  # which lowers its scale after such updates
            self.check_loss_isfinite(norm, "norm of the gradient")
        whole = bool(torch.isfinite(norm))  # else the scaler would skip an optimiser whose own gradients are not, and no other
        for optimizer in self.optimizers_dict.values():
            if whole:
                self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        self.optimizer_step += 1

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        whole = self.step % self.grad_accumulation_factor == 0  # gradients that still add up are not in a checkpoint
        return whole and super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)

    def on_stage_start(self, stage, epoch=None):
        self.means = Means()
        if stage != sb.Stage.TRAIN:
            self.seed(0)  # the same masks at each validation
        elif self.step:  # inside an epoch that was interrupted
            self.means = self.progress.means
        else:
            self.progress.means = self.means

    def stage_stats(self, stage):
        """Statistics of the stage that ends, name to number."""
        return self.means.result()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        stats = {**self.stage_stats(stage), "loss": stage_loss}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
        elif stage == sb.Stage.VALID:
            self.end_epoch(epoch, stats)

    def end_epoch(self, epoch, valid_stats):
        """Log the epoch and save a checkpoint."""
        record = {"epoch": epoch, "updates": self.optimizer_step, **self.progress.times}
        record |= {f"train_{name}": value for name, value in self.train_stats.items()}
        record |= {f"valid_{name}": value for name, value in valid_stats.items()}
        record = {name: value if isinstance(value, int) else round(float(value), 4) for name, value in record.items()}
        self.log(record)
        meta = {"WER": record["valid_wer"]} if "valid_wer" in record else {}  # plain numbers: a tensor would spoil the file
        self.checkpointer.save_and_keep_only(meta=meta, min_keys=list(meta), num_to_keep=1)

    def log(self, record):
        """One line of `log.jsonl` for each epoch (an epoch that is run again replaces its line), one on the terminal."""
        if not if_main_process():
            return
        path = self.folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        lines = [line for line in lines if json.loads(line)["epoch"] < record["epoch"]]
        write_text(path, "\n".join([*lines, json.dumps(record)]) + "\n")
        shown = {name: value for name, value in record.items() if name not in ("epoch", "updates", "seconds", "cpu_seconds")}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        print(f"{self.name} epoch {record['epoch']}/{self.settings['epochs']}  {text}", flush=True)
