"""Checkpoints that a kill cannot spoil, and strict loading of a pre-trained encoder."""

import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from speech_attention.model import CTCModel, SpeechEncoder
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from recipes.command_line import UserError
from recipes.LibriSpeech.inference import loading

State = dict[str, torch.Tensor]
"""Parameters and buffers by name."""
PARTIAL = "partial"
"""The name of a checkpoint that is not whole yet begins with this word."""


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, which writes the meta file first: a kill would leave a checkpoint that looks whole. This one
    writes into a folder of its own, and moves the checkpoint to its place at the end.

    Arguments
    ---------
    checkpoints_dir : str or Path
    recoverables : dict
        Name to what is saved and loaded; see `speechbrain.utils.checkpoints.Checkpointer`.
    """

    checkpoints_dir: Path

    def __init__(self, checkpoints_dir: str | Path, recoverables: Mapping[str, Any]):
        super().__init__(checkpoints_dir, recoverables)
        if if_main_process():
            for leftover in self.checkpoints_dir.glob(PARTIAL + "*"):
                shutil.rmtree(leftover)

    def save_checkpoint(self, *arguments: Any, name: str | None = None, **options: Any) -> Checkpoint | None:
        """As SpeechBrain's, whose arguments these are. A checkpoint without a name gets that of its time, to a microsecond."""
        folder, name = self.checkpoints_dir, name or datetime.now().strftime("%Y-%m-%d+%H-%M-%S+%f")
        self.checkpoints_dir = folder / PARTIAL
        try:
            checkpoint = super().save_checkpoint(*arguments, name=name, **options)
        finally:
            self.checkpoints_dir = folder
        ddp_barrier()  # until every process has written its part
        if checkpoint is not None:  # the main process
            whole = folder / checkpoint.path.name
            os.rename(checkpoint.path, whole)
            (folder / PARTIAL).rmdir()
            paths = {name: whole / path.name for name, path in checkpoint.paramfiles.items()}
            checkpoint = checkpoint._replace(path=whole, paramfiles=paths)
        ddp_barrier()
        return checkpoint

    def save_and_keep_only(self, *arguments: Any, **options: Any) -> None:
        """As SpeechBrain's, but for its default of `importance_keys`: a list that gets longer, and each save slower, by each."""
        super().save_and_keep_only(*arguments, **{"importance_keys": [], **options})


def attention(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of its attention, for comparison with that of another."""
    return {**config["attention"], "lookaheads": config.get("lookaheads")}


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder must share with the experiment that loads it."""
    keys = ("block", "front_end", "dim", "ffn_dim", "num_layers", "owners")
    return {"attention": attention(config), **{key: config[key] for key in keys}}


def starting_weights(hparams: Mapping[str, Any], config: Mapping[str, Any], train: DynamicItemDataset) -> None:
    """Give the model of an experiment the weights that its fine-tuning starts from.

    Arguments
    ---------
    hparams, config : dict
        See `experiment.build`: `weights` and `pretrained` of the first say where weights come from; without them it is the
        encoder that the experiment itself has pre-trained. Without pre-training, the initial weights stay.
    train : DynamicItemDataset
        The training set, for the statistics of the features where no weights are loaded.
    """
    model, own = hparams["model"], hparams["output_folder"] / "pretrain" / "encoder.ckpt"
    if hparams["weights"]:
        load_weights(hparams["weights"], model, architecture(config), hparams["any_attention"])
    elif hparams["pretrained"] or hparams["pretrain"]["epochs"]:
        load_encoder(hparams["pretrained"] or own, model, architecture(config), hparams["any_attention"])
    else:
        fit_front_end(model.front_end, train)


def fit_front_end(front_end: Any, train: DynamicItemDataset, utterances: int = 300) -> None:
    """Normalise features by statistics of some training utterances, spread over all."""
    some = range(0, len(train), max(1, len(train) // utterances))
    front_end.fit(train[index]["sig"] for index in some)


def _encoder_state(model: SpeechEncoder) -> State:
    """The part of a model's state that pre-training makes."""
    return {name: t for name, t in model.state_dict().items() if name.startswith(("front_end.", "encoder."))}


def save_encoder(path: str | Path, model: SpeechEncoder, architecture: Mapping[str, Any]) -> None:
    """Write the front end and the encoder of a `SpeechEncoder`, and what they are.

    Arguments
    ---------
    path : Path
    model : SpeechEncoder
    architecture : dict
        Plain description; its `attention` is compared at loading.
    """
    partial = Path(path).with_name(f"{PARTIAL}-{Path(path).name}")
    torch.save({"state": _encoder_state(model), "architecture": architecture}, partial)
    os.replace(partial, path)


def load_encoder(path: str | Path, model: SpeechEncoder, architecture: Mapping[str, Any], any_attention: bool = False) -> None:
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


def load_weights(folder: str | Path, model: CTCModel, architecture: Mapping[str, Any], any_attention: bool = False) -> None:
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


def _check_fit(what: str, state: State, own: State) -> None:
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


def _check_attention(what: str, before: Mapping[str, Any], here: Mapping[str, Any], any_attention: bool) -> None:
    """Refuse weights that were trained with another attention, unless any will do."""
    differ = [key for key in sorted(before.keys() | here.keys()) if before.get(key) != here.get(key)]
    if differ and not any_attention:
        changes = ", ".join(f"{key} {before.get(key)} (here {here.get(key)})" for key in differ)
        raise UserError(f"{what} was trained with another attention: {changes}; to use it all the same give --any_attention True")
