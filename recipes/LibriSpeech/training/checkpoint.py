"""Checkpoints that a kill cannot spoil, and strict loading of the weights that a stage starts from."""

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from speech_attention.model import CTCModel, SpeechEncoder
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from recipes.command_line import UserError, mendable
from recipes.LibriSpeech import run_folder, saved
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.public import load
from recipes.LibriSpeech.training import logs

State = dict[str, torch.Tensor]
"""Parameters and buffers by name."""
STAGES = "pretrain", "finetune"
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
            saved.write_sums(checkpoint.path)
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

    def delete_checkpoints(
        self, *, num_to_keep: int = 1, min_keys: Any = (), importance_keys: Any = (), ckpt_predicate: Any = None, **_: Any
    ) -> None:
        """As SpeechBrain's, but a kill leaves nothing that looks like a checkpoint and is a part of one."""
        keys = [{"min_key": key} for key in min_keys or ()] + [{"importance_key": key} for key in importance_keys or ()]
        orders = [self.find_checkpoints(ckpt_predicate=ckpt_predicate, **key) for key in keys]
        keep = {checkpoint.path for order in orders for checkpoint in order[:num_to_keep]}
        ddp_barrier()  # until every process has looked
        if if_main_process():
            for path in {checkpoint.path for order in orders for checkpoint in order} - keep:
                part = path.with_name(f"{PARTIAL}-{path.name}")
                os.rename(path, part)
                shutil.rmtree(part)
        ddp_barrier()

    def list_checkpoints(self) -> list[Checkpoint]:
        """As SpeechBrain's; `saved.Damaged` if one of them cannot be read."""
        return saved.checkpoints(self.checkpoints_dir)

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """As SpeechBrain's; `saved.Damaged` if a file is not the one that was saved."""
        saved.verify(checkpoint.path)
        try:
            super().load_checkpoint(checkpoint)
        except Exception as error:
            if mendable(error):
                raise
            fault = f"{checkpoint.path} cannot be loaded ({' '.join(str(error).split())[:200]})"
            raise saved.damaged(checkpoint.path, fault) from error


def attention(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of its attention, for comparison with that of another."""
    return {**config["attention"], "lookaheads": config.get("lookaheads")}


def architecture(config: Mapping[str, Any], tokens: Sequence[str] = ()) -> dict[str, Any]:
    """What an encoder must share with the experiment that loads it; a CTC head that it may have, too, the texts of its tokens."""
    keys = ("block", "front_end", "dim", "ffn_dim", "num_layers", "owners")
    return {"attention": attention(config), "tokens": list(tokens), **{key: config[key] for key in keys}}


def check(hparams: Mapping[str, Any], config: Mapping[str, Any], debug: bool) -> None:
    """Read all that a start will need of what earlier ones have left, and refuse what is damaged or missing: before the data.

    Arguments
    ---------
    hparams, config : dict
        See `experiment.build`.
    debug : bool
        Whether it is a short trial.
    """
    folder, stage, epochs = hparams["output_folder"], hparams["stage"], hparams["finetune"]["epochs"]
    own, start = folder / "pretrain" / "encoder.ckpt", hparams["weights"] or hparams["pretrained"]
    run_folder.check_kinds(folder)
    for name in STAGES:
        logs.records(folder / name)
    if stage in ("all", "pretrain") and hparams["pretrain"]["epochs"] and not start:
        try:
            saved.tensors(own)
        except saved.Damaged:
            if _verify(folder / "pretrain" / "checkpoints") is None and own.exists():
                load_encoder(own, hparams["model"], architecture(config))  # says what to do
    tuned = _verify(folder / "finetune" / "checkpoints")
    if stage == "test":
        if debug:
            raise UserError("--debug keeps no checkpoints that could be tested: leave out --stage, which runs all stages")
        if tuned is None or saved.best(folder / "finetune" / "checkpoints") is None:  # of the end of an epoch
            raise UserError(f"nothing to test in {folder}: fine-tune first (--stage finetune, or no --stage)")
        ended = int((tuned.path / "epochs.ckpt").read_text()) - (not tuned.meta["end-of-epoch"])
        if ended < epochs:
            raise UserError(
                f"fine-tuning in {folder} has ended {ended} of {epochs} epochs: give the same command without --stage test, "
                "which goes on with it and tests it at its end"
            )
    elif stage != "pretrain" and tuned is None and (start or stage == "finetune" and hparams["pretrain"]["epochs"]):
        starting_weights(hparams, config)
    if hparams["start"] and tuned is None and not own.exists() and saved.latest(folder / "pretrain" / "checkpoints") is None:
        load.load(hparams["model"], hparams["start"])  # for good: what is trained first begins with these weights
    run_folder.origin(hparams)


def _verify(folder: Path) -> Checkpoint | None:
    """Verify the checkpoints that training and testing would load; the last one."""
    last, best = saved.latest(folder), saved.best(folder)
    for path in {checkpoint.path for checkpoint in (last, best) if checkpoint}:
        saved.verify(path)
    return last


def starting_weights(hparams: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Give the model of an experiment the weights that its fine-tuning starts from.

    Arguments
    ---------
    hparams, config : dict
        See `experiment.build`: `weights` and `pretrained` of the first say where weights come from; without them it is the
        encoder that the experiment itself has pre-trained.

    Returns
    -------
    bool
        False without pre-training: the initial weights stay.
    """
    model, own, tokens = hparams["model"], hparams["output_folder"] / "pretrain" / "encoder.ckpt", hparams["tokens"].texts
    if hparams["weights"]:
        load_weights(hparams["weights"], model, config, hparams["any_attention"])
    elif hparams["pretrained"] or hparams["pretrain"]["epochs"]:
        load_encoder(hparams["pretrained"] or own, model, architecture(config, tokens), hparams["any_attention"])
    else:
        return False
    return True


def fit_front_end(front_end: Any, train: DynamicItemDataset, utterances: int = 300) -> None:
    """Normalise features by statistics of some training utterances, spread over all."""
    some = range(0, len(train), max(1, len(train) // utterances))
    front_end.fit(train[index]["sig"] for index in some)


def _encoder_state(model: SpeechEncoder, head: bool) -> State:
    """The part of a model's state that pre-training makes, with or without its CTC head."""
    return {name: t for name, t in model.state_dict().items() if head or name.startswith(("front_end.", "encoder."))}


def save_encoder(path: str | Path, model: SpeechEncoder, architecture: Mapping[str, Any], head: bool = False) -> None:
    """Write the front end and the encoder of a `SpeechEncoder`, and what they are.

    Arguments
    ---------
    path : Path
    model : SpeechEncoder
    architecture : dict
        Plain description; its `attention` is compared at loading.
    head : bool
        Whether pre-training has trained the CTC head, too.
    """
    partial = Path(path).with_name(f"{PARTIAL}-{Path(path).name}")
    tokens = head and architecture["tokens"]
    torch.save({"state": _encoder_state(model, head), "architecture": architecture, "tokens": tokens}, partial)
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
    path = Path(path) / "pretrain" / "encoder.ckpt" if Path(path).is_dir() else Path(path)
    if not path.exists():
        raise UserError(f"no pre-trained encoder at {path}: give its file, or the folder of an experiment that has one")
    try:
        found = saved.tensors(path)
    except saved.Damaged as fault:
        if path.name != "encoder.ckpt":  # somebody's own file, which is not to be deleted
            raise UserError(
                f"{path} is not an encoder checkpoint: give pretrain/encoder.ckpt of an experiment, or its folder"
            ) from fault
        again = "delete it and start its experiment again with --stage pretrain, which writes it anew from the last checkpoint"
        raise saved.Damaged(f"{path} is damaged, or not an encoder checkpoint: put a sound copy there, or {again}") from fault
    try:
        state, before = dict(found["state"]), dict(found["architecture"]["attention"])
        finite = all(tensor.isfinite().all() for tensor in state.values())
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not an encoder checkpoint of this project: give one that pre-training has left") from error
    if not finite:
        raise UserError(f"the encoder in {path} has weights that are not finite: pre-train it again")
    head = found.get("tokens") == architecture["tokens"]
    state = {name: tensor for name, tensor in state.items() if head or not name.startswith("head.")}  # not that of other tokens
    _check_fit(f"the encoder in {path}", state, _encoder_state(model, head))
    _check_attention(f"the encoder in {path}", before, architecture["attention"], any_attention)
    model.load_state_dict({**model.state_dict(), **state})


def load_weights(folder: str | Path, model: CTCModel, config: Mapping[str, Any], any_attention: bool = False) -> None:
    """Load all weights of a fine-tuned experiment into `model`, the head's too; UserError, as of `load_encoder`.

    Arguments
    ---------
    folder : str or Path
        Of the experiment.
    model, any_attention
        See `load_encoder`.
    config : dict
        Of the experiment of `model`.
    """
    system = loading.load(folder)
    state, tokens = system.model.state_dict(), system.config.get("tokens", "letters")
    if tokens != config["tokens"]:
        raise UserError(f"the model in {folder} has other tokens, {tokens} (here {config['tokens']}): give its own --tokens")
    _check_fit(f"the model in {folder}", state, model.state_dict())
    _check_attention(f"the model in {folder}", attention(system.config), attention(config), any_attention)
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
