"""Checkpoints that a kill cannot spoil, and strict loading of a pre-trained encoder."""

import json
import os
import shutil
import time
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import Checkpointer, mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from recipes.command_line import UserError
from recipes.LibriSpeech.inference import loading

PARTIAL = "partial-"


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, which writes the meta file first: a kill leaves a checkpoint that looks whole. This one
    writes under another name and renames at the end.

    Arguments: see `speechbrain.utils.checkpoints.Checkpointer`.
    """

    def __init__(self, checkpoints_dir, recoverables):
        super().__init__(checkpoints_dir, recoverables)
        if if_main_process():
            for leftover in self.checkpoints_dir.glob(PARTIAL + "*"):
                shutil.rmtree(leftover)

    def _new_checkpoint_dirpath(self):
        path = super()._new_checkpoint_dirpath()
        return path.with_name(PARTIAL + path.name)

    def save_checkpoint(self, *args, **kwargs):
        checkpoint = super().save_checkpoint(*args, **kwargs)
        ddp_barrier()
        if checkpoint is not None:  # the main process
            whole = checkpoint.path.with_name(checkpoint.path.name.removeprefix(PARTIAL))
            os.rename(checkpoint.path, whole)
            paths = {name: whole / path.name for name, path in checkpoint.paramfiles.items()}
            checkpoint = checkpoint._replace(path=whole, paramfiles=paths)
        ddp_barrier()
        return checkpoint


class Means:
    """Running means of named statistics."""

    def __init__(self):
        self.sums, self.count = {}, 0

    def add(self, stats):
        self.count += 1
        for name, value in stats.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def result(self):
        return {name: total / self.count for name, total in self.sums.items()}


@register_checkpoint_hooks
class Progress:
    """What an epoch's log needs, over all restarts: time spent in the stage, means over the epoch so far."""

    def __init__(self):
        self._go_on({"seconds": 0.0, "cpu_seconds": 0.0})
        self.means = Means()

    def _go_on(self, before):
        self.before, self.start = before, self._now()

    @staticmethod
    def _now():
        return {"seconds": time.time(), "cpu_seconds": time.process_time()}

    @property
    def times(self):
        """Wall clock, and the CPU time of this process, which other work on the machine hardly changes; seconds."""
        return {name: self.before[name] + now - self.start[name] for name, now in self._now().items()}

    @mark_as_saver
    def save(self, path):
        state = {"times": self.times, "sums": self.means.sums, "count": self.means.count}
        Path(path).write_text(json.dumps(state))

    @mark_as_loader
    def load(self, path, end_of_epoch):
        state = json.loads(Path(path).read_text())
        self._go_on(state["times"])
        self.means.sums, self.means.count = state["sums"], state["count"]


def attention(config):
    """What a configuration says of its attention, for comparison with that of another."""
    return {**config["attention"], "lookaheads": config.get("lookaheads")}


def _encoder_state(model):
    """The part of a model's state that pre-training makes."""
    return {name: t for name, t in model.state_dict().items() if name.startswith(("front_end.", "encoder."))}


def save_encoder(path, model, architecture):
    """Write the front end and the encoder of a `SpeechEncoder`, and what they are.

    Arguments
    ---------
    path : Path
    model : SpeechEncoder
    architecture : dict
        Plain description; its `attention` is compared at loading.
    """
    partial = Path(path).with_name(PARTIAL + Path(path).name)
    torch.save({"state": _encoder_state(model), "architecture": architecture}, partial)
    os.replace(partial, path)


def load_encoder(path, model, architecture, any_attention=False):
    """Load what `save_encoder` wrote into `model`. Every parameter must be there, and the attention be the same.

    Arguments
    ---------
    path : Path
        The file.
    model : SpeechEncoder
    architecture : dict
        Of `model`.
    any_attention : bool
        Accept weights that were trained with another attention (AA, MAA, SA and LLSA have the same parameters).

    Raises
    ------
    UserError
        If anything does not fit, naming it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "pretrain" / "encoder.ckpt"
    if not path.exists():
        raise UserError(f"no pre-trained encoder at {path}: give its file, or the folder of an experiment that has one")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state, before = dict(saved["state"]), dict(saved["architecture"]["attention"])
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise UserError(f"{path} is not an encoder checkpoint of this project ({type(error).__name__})") from error
    _check_fit(f"the encoder in {path}", state, _encoder_state(model))
    _check_attention(f"the encoder in {path}", before, architecture["attention"], any_attention)
    model.load_state_dict({**model.state_dict(), **state})


def load_weights(folder, model, architecture, any_attention=False):
    """Load all weights of a fine-tuned experiment into `model`, the head's too.

    Arguments
    ---------
    folder : str or Path
        Of the experiment.
    model, architecture, any_attention
        See `load_encoder`.

    Raises
    ------
    UserError
        If anything does not fit, naming it.
    """
    system = loading.load(folder)
    state = system.model.state_dict()
    _check_fit(f"the model in {folder}", state, model.state_dict())
    _check_attention(f"the model in {folder}", attention(system.config), architecture["attention"], any_attention)
    model.load_state_dict(state)


def _check_fit(what, state, own):
    """Refuse weights that are not those of this model, by name and shape."""
    wrong = [f"{name} is missing" for name in own.keys() - state.keys()]
    wrong += [f"{name} is not in this model" for name in state.keys() - own.keys()]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, here {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{what} does not fit this model: {'; '.join(sorted(wrong)[:3])}{more}")


def _check_attention(what, before, here, any_attention):
    """Refuse weights that were trained with another attention, unless any will do."""
    differ = [key for key in sorted(before.keys() | here.keys()) if before.get(key) != here.get(key)]
    if differ and not any_attention:
        changes = ", ".join(f"{key} {before.get(key)} (here {here.get(key)})" for key in differ)
        raise UserError(f"{what} was trained with another attention: {changes}; to use it all the same give --any_attention True")
