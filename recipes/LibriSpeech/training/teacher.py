"""The frozen teacher of a distillation: where it comes from, and which one it was."""

import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from speech_attention.model import SpeechEncoder
from speechbrain.utils.distributed import if_main_process
from torch import nn

from recipes import files
from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, run_folder, saved
from recipes.LibriSpeech.checks import HPARAMS
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.public import folder as public
from recipes.LibriSpeech.public.load import load
from recipes.LibriSpeech.training import checkpoint
from recipes.LibriSpeech.training.pretrain import pretrains

RECORD = "pretrain/teacher.json"
"""The file of a run that says who taught it."""


class Teacher(NamedTuple):
    """A teacher, and what it is: its name, and what tells it from others.

    Arguments
    ---------
    model : SpeechEncoder
    origin : dict
        `name`; `sha256` of its weights; `config_hash` of an experiment, `revision` of a public encoder.
    system : Trained or None
        The whole system, of a run that has a CTC head.
    """

    model: SpeechEncoder
    origin: dict[str, Any]
    system: loading.Trained | None = None


def find(hparams: Mapping[str, Any], debug: bool = False) -> Teacher | None:
    """The teacher of the pre-training that is to come; None where there is none, or its objective has no teacher.

    It is the experiment in the folder `teacher`, or the public encoder `start` in its original form.

    Arguments
    ---------
    hparams : dict
        See `experiment.build`.
    debug : bool
        Whether it is a short trial, which pre-trains again.

    Raises
    ------
    UserError
        If there is no teacher where one is needed or one where none is, or it cannot be loaded.
    """
    taught, folder, epochs = takes_teacher(hparams["objective"]), hparams["teacher"], hparams["pretrain"]["epochs"]
    if folder is not None and not (taught and epochs):
        why = "pretrain.epochs is 0" if taught else "the objective takes no teacher, as Distillation does"
        raise UserError(f"--teacher would change nothing, as {why}")
    if not taught or not pretrains(hparams):
        return None
    if not debug and _is_done(hparams["output_folder"] / "pretrain" / "encoder.ckpt"):
        return None
    if folder is not None:
        return _of_run(Path(folder))
    if hparams["start"] is None:
        raise UserError("the objective needs a teacher: give --teacher, the folder of a run, or --start, a public encoder")
    return _of_start(hparams)


def _is_done(encoder: Path) -> bool:
    """Whether pre-training has left its encoder, and nothing is wrong with the file."""
    try:
        saved.tensors(encoder)
    except saved.Damaged:
        return False
    return True


def takes_teacher(objective: Any) -> bool:
    """Whether an objective has a teacher."""
    return "teacher" in _parts(objective)


def _parts(objective: Any) -> Collection[str]:
    """The arguments that an objective takes; none where it is no callable, or one that does not say them."""
    try:
        return inspect.signature(objective).parameters
    except (TypeError, ValueError):
        return ()


def make_objective(hparams: Mapping[str, Any], teacher: Teacher | None) -> nn.Module:
    """The objective of an experiment, with those of its parts that it takes."""
    model, objective = hparams["model"], hparams["objective"]
    parts = {"front_end": model.front_end, "dim": hparams["dim"], "teacher": teacher and teacher.model, "head": model.head}
    taken = _parts(objective) or ("front_end", "dim")
    if teacher and teacher.system and "head" in taken:
        if not hparams["tokens"].equal(teacher.system.tokens):
            given = teacher.system.config.get("tokens", "letters")
            raise UserError(f"--teacher {teacher.system.folder} has other tokens, {given}: give its own --tokens")
    return objective(**{name: part for name, part in parts.items() if name in taken})


def tokens_from(hparams: Mapping[str, Any]) -> Path | None:
    """The run whose tokens an experiment takes: of the weights that it starts from, or of the teacher of its CTC head."""
    system = hparams["teacher"] and hparams["teacher"].system
    if system and "head" in _parts(hparams["objective"]):
        return system.folder
    return hparams["weights"] and Path(hparams["weights"])


def _of_run(folder: Path) -> Teacher:
    """The model of an experiment: fine-tuned if it was, else as pre-training has left it, without a head."""
    path, best = folder / "pretrain" / "encoder.ckpt", saved.best(folder / "finetune" / "checkpoints")
    config, trained = run_folder.read_config(folder), None
    if config and best is None and path.exists():
        tuned = loading.build(config["model"])
        checkpoint.load_encoder(path, tuned, checkpoint.architecture(config))
        model = SpeechEncoder(tuned.front_end, tuned.encoder)
    else:
        trained = loading.load(folder)  # which says what is wrong with the folder
        model, config, path = trained.model, trained.config, best.path / "model.ckpt" if best else path
    hashed = experiment.config_hash(experiment.identity(config))
    return Teacher(model, {"name": folder.absolute().name, "sha256": files.sha256(path), "config_hash": hashed}, trained)


def _of_start(hparams: Mapping[str, Any]) -> Teacher:
    """The public encoder that an experiment starts from, as it was published: all its layers, frames and future."""
    start = {"start": hparams["start"], "start_sha256": hparams["start_sha256"]}
    with torch.random.fork_rng(devices=[]):
        model = experiment.load(HPARAMS / "aa.yaml", start)[0]["model"]
    load(model, hparams["start"])
    name, revision = public.called(hparams["start"])
    origin = {"name": name, "sha256": hparams["start_sha256"], "revision": revision}
    return Teacher(SpeechEncoder(model.front_end, model.encoder), origin)


def check(folder: Path, teacher: Teacher | None) -> None:
    """Refuse to go on with a pre-training that another teacher has begun."""
    before = record(folder)
    if teacher and before and before != teacher.origin:
        raise UserError(
            f"{folder} has begun to learn from {before.get('name')} with other weights or another configuration than "
            f"{teacher.origin['name']} has: give the teacher that it had, or another --output_folder"
        )


def write(folder: Path, teacher: Teacher) -> None:
    """Keep which teacher a run has."""
    if if_main_process():
        (folder / RECORD).parent.mkdir(exist_ok=True)
        files.write_json(folder / RECORD, teacher.origin)


def record(folder: Path) -> dict[str, Any] | None:
    """Which teacher a run has had, see `Teacher`; None if it had none."""
    path = folder / RECORD
    try:
        found = json.loads(path.read_text()) if path.exists() else None
        if found is None or isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise UserError(f"{path} is damaged: delete it; the run then goes on with whichever teacher it is given")
