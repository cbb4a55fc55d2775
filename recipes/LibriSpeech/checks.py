"""What the values of an experiment must satisfy, as far as no constructor checks it, and the entries of its objects."""

import difflib
import functools
import inspect
import math
import operator
import pydoc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recipes.command_line import UserError
from recipes.LibriSpeech.data.tree import check_name
from recipes.LibriSpeech.yaml_text import plain, tag_of

HPARAMS = Path(__file__).parents[2] / "hparams"
SCALES = sorted(file.stem for file in (HPARAMS / "scale").glob("*.yaml"))
EMBEDDED_SPLITS = {"train_splits": ["train-synth"], "dev_splits": ["dev-synth"], "test_splits": ["test-synth"]}
LIBRISPEECH_SPLITS = {"train_splits": ["train-clean-100"], "dev_splits": ["dev-clean"], "test_splits": ["test-clean"]}


class Rule(NamedTuple):
    """A key (in a block: `block.entry`), what its value must satisfy, that in words, and the values if they are few."""

    key: str
    holds: Callable[[Any], bool]
    words: str
    choices: Sequence[str] = ()


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str, Sequence[str]]:
    return choices.__contains__, " or ".join(choices), choices


_positive = (lambda value: 0 < value < math.inf), "above 0"
_part = (lambda value: 0 <= value < 1), "a part of all updates, from 0 to below 1"
_from_0 = (lambda value: 0 <= value < math.inf), "0 or more"
_from_1 = (lambda value: 1 <= value < math.inf), "1 or more"
RULES = (
    Rule("scale", *_one_of(*SCALES)),
    Rule("stage", *_one_of("all", "pretrain", "finetune", "test", "show")),
    Rule("precision", *_one_of("fp32", "fp16", "bf16")),
    Rule("eval_precision", *_one_of("fp32", "fp16", "bf16")),
    Rule("max_grad_norm", *_positive),
    Rule("weight_decay", *_from_0),
    Rule("num_workers", *_from_0),
    Rule("eval_batch_size", *_from_1),
    Rule("grad_accumulation_factor", *_from_1),
    Rule("pretrain.epochs", *_from_0),
    Rule("pretrain.lr", *_positive),
    Rule("pretrain.warmup", *_part),
    Rule("pretrain.batch_seconds", *_positive),
    Rule("finetune.epochs", *_from_0),
    Rule("finetune.lr", *_positive),
    Rule("finetune.encoder_lr", *_positive),
    Rule("finetune.warmup", *_part),
    Rule("finetune.batch_seconds", *_positive),
)


PATHS = {"output_folder": False, "embedded_folder": False, "lm": True, "lm_folder": False, "pretrained": True, "weights": True}
"""Keys of files and folders, but for data_folder, see `choose_splits`; True where null says that there is none."""


def check_values(hparams: dict) -> None:
    """Refuse values out of range, and values that contradict one another, of the loaded YAML."""
    for rule in RULES:
        try:
            value = functools.reduce(operator.getitem, rule.key.split("."), hparams)
            holds = rule.holds(value)
        except (TypeError, LookupError) as error:  # an object where a block is, or a text where a number is
            raise UserError(f"{rule.key} must be {rule.words}") from error
        if not holds:
            raise UserError(f"{rule.key}={value} must be {rule.words}")
    for key in PATHS:
        value = hparams[key]
        if not isinstance(value, str) and (value is not None or not PATHS[key]):
            raise UserError(f"{key}={value} must be a path")
    augment = hparams["spec_augment"]
    if not isinstance(augment, Iterable) or not all(map(callable, augment)):
        raise UserError(f"spec_augment={augment} must be a list of what hides parts of the features")
    if hparams["pretrained"] and hparams["weights"]:
        raise UserError("both pretrained and weights are given: start from one of them")
    if hparams["weights"] is None and not hparams["finetune"]["epochs"]:
        raise UserError("finetune.epochs=0 tests weights as they are: give --weights, the folder of a fine-tuned experiment")
    start = hparams["pretrained"] or hparams["weights"]
    if hparams["stage"] == "pretrain" and (start or not hparams["pretrain"]["epochs"]):
        raise UserError("--stage pretrain has nothing to do: pretrained or weights are given, or pretrain.epochs is 0")


def check_device(device: str, hparams: dict) -> None:
    """Refuse a device that is not there, or not for this precision, before anything is done."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no device {device}: {str(error).splitlines()[0]}") from error
    if str(device).startswith("cpu") and "fp16" in (hparams["precision"], hparams["eval_precision"]):
        raise UserError("fp16 needs a GPU: use --precision bf16 or fp32")


def choose_splits(merged: dict) -> None:
    """Fill in the splits that are not given, and check the data keys of the merged YAML, in place."""
    folder = merged["data_folder"]
    if folder is not None and not isinstance(folder, str):
        raise UserError(f"data_folder={folder} must be a folder")
    if folder is None and merged["download"]:
        raise UserError("--download needs --data_folder: the folder to put LibriSpeech in")
    for key, default in (EMBEDDED_SPLITS if folder is None else LIBRISPEECH_SPLITS).items():
        value = default if merged[key] is None else merged[key]
        merged[key] = value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not value or not all(isinstance(split, str) for split in value):
            raise UserError(f"{key}={plain(value)} must be a list of names, such as {default}")
        for split in value:
            check_name(split)
        if len(set(value)) < len(value):
            raise UserError(f"{key}={plain(value)} names a split twice: name each once")
    both = sorted(set(merged["train_splits"]) & {*merged["dev_splits"], *merged["test_splits"]})
    if both:
        raise UserError(f"{', '.join(both)} would be trained on and evaluated on: give other train, dev or test splits")


def check_entries(node: Any, where: str = "") -> None:
    """Refuse entries of `!new:` and `!name:` blocks that the class or function does not take, before anything is made.

    Arguments
    ---------
    node : object
        A YAML node, see `yaml_text.parse`.
    where : str
        The key that it stands under.

    Raises
    ------
    UserError
        Names the entry, and all that are taken.
    """
    if isinstance(node, dict):
        taken = entries_of(tag_of(node))
        for key in node:
            if taken is not None and key not in taken:
                name = str(tag_of(node)).rpartition(".")[2]
                raise UserError(f"{where}: {name} has no entry {key}{did_you_mean(key, taken)}; it takes {', '.join(taken)}")
        for key, child in node.items():
            check_entries(child, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for child in node:
            check_entries(child, where)


def entries_of(tag: str | None) -> list[str] | None:
    """The entries that a block with this tag may have; None where it has no such tag, or anything is taken."""
    kind, _, path = (tag or "").partition(":")
    try:
        target = pydoc.locate(path) if kind in ("!new", "!name") else None
    except pydoc.ErrorDuringImport as error:  # a mistake in somebody's own module
        raise UserError(error) from error
    if not callable(target):  # no such class: hyperpyyaml says so
        return None
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # of some functions in C
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else list(parameters)


def check_kind(key: str, before: Any, value: Any) -> None:
    """Refuse a value of another kind than the one that it replaces (anything may replace null or a placeholder)."""
    kinds = ((bool, "True or False"), (int, "a whole number"), (float, "a number"), (list, "a list"), (dict, "a block"))
    kind = next(((kind, name) for kind, name in kinds if isinstance(before, kind)), None)
    if kind is None or tag_of(value):
        return
    number = kind[0] is float and isinstance(value, int) and not isinstance(value, bool)
    if not number and (not isinstance(value, kind[0]) or (kind[0] is int and isinstance(value, bool))):
        raise UserError(f"{key}={plain(value)} must be {kind[1]}")


def did_you_mean(key: object, known: Iterable[object]) -> str:
    """`; did you mean X?` with the known name that is nearest; empty if none is near."""
    close = difflib.get_close_matches(str(key), map(str, known), 1)
    return f"; did you mean {close[0]}?" if close else ""
