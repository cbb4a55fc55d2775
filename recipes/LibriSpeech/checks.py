"""What the values of an experiment must satisfy, as far as no constructor checks it, and the entries of its objects."""

import difflib
import functools
import inspect
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from speechbrain.utils.distributed import infer_device

from recipes.command_line import UserError
from recipes.LibriSpeech.data.tree import check_name
from recipes.LibriSpeech.yaml_text import in_words, locate, plain, tag_of

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


def _within(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: type(value) is int and low <= value <= high), f"from {low} to {high:,}, a whole number"


_rate = (lambda value: 0 < value <= 100), "above 0, to 100"
_seconds = (lambda value: 0 < value <= 10**6), f"above 0, to {10**6:,}"
_part = (lambda value: 0 <= value < 1), "a part of all updates, from 0 to below 1"
_size, _count = _within(1, 2**16), _within(0, 10**6)
LIMITS = {"seed": 2**32 - 1, "left_context": 10_000, **dict.fromkeys(("attention", "lookahead", "lookaheads"), 1500)}
"""The largest whole number under each key, where it is not a million: of an attention's entries, numbers of frames. LLSA's cost
grows with the square of its look-ahead: at 1,500 frames, 30 s of 20 ms, a step on noise takes 12 s at scale mini."""
RULES = (
    Rule("scale", *_one_of(*SCALES)),
    Rule("stage", *_one_of("all", "pretrain", "finetune", "test", "show")),
    Rule("seed", *_within(0, LIMITS["seed"])),
    Rule("precision", *_one_of("fp32", "fp16", "bf16")),
    Rule("eval_precision", *_one_of("fp32", "fp16", "bf16")),
    *(Rule(key, *_size) for key in ("dim", "ffn_dim", "num_heads", "kernel_size", "num_layers", "eval_batch_size")),
    Rule("left_context", *_within(0, LIMITS["left_context"])),
    Rule("lookahead", *_within(0, LIMITS["lookahead"])),
    Rule("pool", *_within(1, 64)),
    Rule("position_lookahead", *_within(0, LIMITS["lookahead"])),
    Rule("form", (None, "original", "streaming").__contains__, "original or streaming, or null", ("original", "streaming")),
    Rule("dropout", (lambda value: 0 <= value < 1), "a part of the activations, from 0 to below 1"),
    Rule("max_grad_norm", (lambda value: 0 < value < math.inf), "above 0"),
    Rule("weight_decay", (lambda value: 0 <= value <= 100), "from 0 to 100"),
    Rule("num_workers", *_within(0, 1024)),
    Rule("grad_accumulation_factor", *_within(1, 10**6)),
    Rule("ckpt_interval_minutes", *_count),
    Rule("ckpt_interval_steps", *_count),
    *(Rule(key, *_count) for key in ("pretrain.epochs", "finetune.epochs", "finetune.head_updates")),
    *(Rule(key, *_rate) for key in ("pretrain.lr", "finetune.lr", "finetune.encoder_lr")),
    *(Rule(key, *_part) for key in ("pretrain.warmup", "finetune.warmup")),
    *(Rule(key, *_seconds) for key in ("pretrain.batch_seconds", "finetune.batch_seconds")),
    Rule("finetune.layer_decay", (lambda value: 0 < value <= 1), "above 0, to 1"),
    Rule("gain_db", (lambda value: 0 <= value <= 60), "from 0 to 60"),
)


PATHS = {"output_folder": False, "embedded_folder": False, "lm": True, "lm_folder": False, "pretrained": True, "weights": True}
PATHS |= {"start": True, "start_sha256": True, "teacher": True}
"""Keys of files and folders, but for data_folder, see `choose_splits`; True where null says that there is none."""
KINDS = {bool: "True or False", int: "a whole number", float: "a number", list: "a list", dict: "a block"}
"""Kinds of values, in words."""
LITERAL = {"name", "codec", "data_folder", *PATHS}
"""Keys whose values are text, as it is."""
SUPPLIED = {
    "attention": {"dim": "dim", "role": "owners"},
    "block": {key: key for key in ("dim", "ffn_dim", "attention", "dropout")} | {"first": "num_layers", "last": "num_layers"},
    "objective": {"front_end": "front_end", "dim": "dim", "teacher": "teacher", "head": ""},
    "opt_class": {"params": "", "lr": "pretrain.lr, finetune.lr and finetune.encoder_lr"},
    "matrix_opt_class": {"params": ""},
    "schedule": dict.fromkeys(("update", "updates"), "epochs") | {"warmup": "pretrain.warmup and finetune.warmup"},
}
"""Entries of blocks that the recipe fills in itself, and the keys that decide them."""
OF_THEIR_OWN = {("encoder", "dropout"), ("front_end", "dropout"), ("front_end", "norm")}
"""Entries of blocks that have the name of a key, and may differ from it."""
TAGS = "!new:", "!name:", "!module:", "!apply:", "!ref", "!copy", "!tuple", "!include:", "!PLACEHOLDER", "tag:", "!!"
"""What the tags of HyperPyYAML and of YAML itself begin with."""


def check_numbers(node: Any, where: str = "") -> None:
    """Refuse numbers that are not finite, and whole numbers for which there is no memory, anywhere in a configuration.

    Not a number is not equal to itself, so that the guard of a run's folder would refuse the run's own command.
    """
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            check_numbers(child, f"{where}.{key}" if where else str(key))
    elif isinstance(node, float) and not math.isfinite(node):
        raise UserError(f"{where}={node} must be a finite number")
    elif isinstance(node, int):
        limit = next((LIMITS[key] for key in reversed(where.split(".")) if key in LIMITS), 10**6)
        if abs(node) > limit:
            raise UserError(f"{where}={node} is too large: at most {limit:,}")


def check_values(config: dict) -> None:
    """Refuse values out of range, and values that contradict one another, of a plain configuration."""
    for rule in RULES:
        try:
            value = functools.reduce(operator.getitem, rule.key.split("."), config)
            holds = rule.holds(value)
        except (TypeError, LookupError) as error:  # an object where a block is, or a text where a number is
            raise UserError(f"{rule.key} must be {rule.words}") from error
        if not holds:
            raise UserError(f"{rule.key}={value} must be {rule.words}")
    for key in PATHS:
        _check_text(key, config[key], "a path", PATHS[key])
    for key in ("name", "codec"):
        _check_text(key, config[key], "text", False)
    name = config["name"]
    if "/" in name or name in (".", "..") or len(os.fsencode(name)) > 200:
        raise UserError(f"name={name} must serve as the name of a folder: no slash, not . or .., at most 200 bytes")
    for block in ("front_end", "encoder", "model"):
        for entry, value in config[block].items() if isinstance(config[block], dict) else ():
            if entry in config and value != config[entry] and (block, entry) not in OF_THEIR_OWN:
                raise UserError(f"{block}.{entry} is not the {entry} of the experiment: give {entry} instead")
    speeds = config["speed_perturb"].get("speeds", [100]) if isinstance(config["speed_perturb"], dict) else [100]
    if not isinstance(speeds, list) or not speeds or not all(type(speed) is int and 10 <= speed <= 1000 for speed in speeds):
        raise UserError(f"speed_perturb.speeds={speeds} must be a list of percents, whole numbers from 10 to 1000")
    if Path(config["output_folder"]).name.endswith("-debug"):
        raise UserError(
            f"output_folder={config['output_folder']}: a folder whose name ends in -debug is one of --debug: give another"
        )
    if config["ckpt_interval_minutes"] and config["ckpt_interval_steps"]:
        raise UserError("ckpt_interval_minutes and ckpt_interval_steps are both above 0: set one of them to 0")
    begins = [key for key in ("start", "pretrained", "weights") if config[key]]
    if len(begins) > 1:
        raise UserError(f"both {begins[0]} and {begins[1]} are given: start from one of them")
    if config["finetune"]["layer_decay"] < 1 and config["matrix_opt_class"] is not None:
        raise UserError("finetune.layer_decay is for opt_class: give --matrix_opt_class null, or leave it at 1.0")
    if config["weights"] is None and not config["finetune"]["epochs"]:
        raise UserError("finetune.epochs=0 tests weights as they are: give --weights, the folder of a fine-tuned experiment")
    start = config["pretrained"] or config["weights"]
    if config["stage"] == "pretrain" and (start or not config["pretrain"]["epochs"]):
        raise UserError("--stage pretrain has nothing to do: pretrained or weights are given, or pretrain.epochs is 0")


def _check_text(key: str, value: Any, what: str, optional: bool) -> None:
    """Refuse what is no text, or empty; None is none where the key is optional."""
    if not (isinstance(value, str) and value) and not (optional and value is None):
        raise UserError(
            f"{key}={'(empty)' if value == '' else value} must be {what}, in quotes where YAML would read it otherwise"
        )


def check_augmentation(hparams: dict) -> None:
    """Refuse a `speed_perturb` and a `spec_augment`, objects of the loaded YAML, that cannot be called."""
    augment, change = hparams["spec_augment"], hparams["speed_perturb"]
    if not isinstance(augment, Iterable) or not all(map(callable, augment)):
        raise UserError(f"spec_augment={augment} must be a list of what hides parts of the features")
    if not callable(change):
        raise UserError(f"speed_perturb={change} must change the speed: for none give {{speeds: [100]}}")


def check_device(device: str | None, hparams: dict) -> None:
    """Refuse a device that is not there, or not for this precision, before anything is done; None stands for the best one."""
    device = device or infer_device()
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError, ValueError) as error:
        raise UserError(f"no device {device}: {in_words(error).partition('. ')[0]}") from error
    if device.startswith("cpu") and "fp16" in (hparams["precision"], hparams["eval_precision"]):
        raise UserError("fp16 needs a GPU: use --precision bf16 or fp32")


def choose_splits(merged: dict) -> None:
    """Fill in the splits that are not given, and check the data keys of the merged YAML, in place."""
    folder = merged["data_folder"]
    _check_text("data_folder", plain(folder), "a path", optional=True)
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
    tag = tag_of(node) or ""
    if tag and not tag.startswith(TAGS):
        raise UserError(f"{where}: {tag} is no tag of HyperPyYAML; !new:CLASS makes an object, !name:CLASS hands its class on")
    if isinstance(node, list) and tag.startswith(("!new:", "!name:")):
        raise UserError(f"{where}: give the entries of {tag} by their names, as {{entry: value}}")
    if isinstance(node, dict):
        _check_block(node, where)
        for key, child in node.items():
            check_entries(child, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for child in node:
            check_entries(child, where)


def _check_block(node: dict, where: str) -> None:
    """See `check_entries`: the entries of one block."""
    taken, supplied = entries_of(tag_of(node)), SUPPLIED.get(where.rpartition(".")[2], {})
    for key in node:
        if key in supplied:
            hint = f"set {supplied[key]}" if supplied[key] else "leave it out"
            raise UserError(f"{where}.{key} would not be used: {hint}")
    if taken is None:
        return
    own, name = [key for key in taken if key not in supplied], str(tag_of(node)).rpartition(".")[2]
    for key, value in node.items():
        if key not in taken:
            takes = f"it takes {', '.join(own)}" if own else "it takes none"
            raise UserError(f"{where}: {name} has no entry {key}{did_you_mean(key, own)}; {takes}")
        kind = next((kind for kind in KINDS if taken[key].annotation in (kind, kind.__name__)), None)
        if kind and not isinstance(value, dict):
            check_kind(f"{where}.{key}", kind(), value)
    fixed = taken if where in SUPPLIED or str(tag_of(node)).startswith("!new:") else {}  # who calls others is not known
    missing = [key for key in own if key not in node and key in fixed and taken[key].default is inspect.Parameter.empty]
    if missing:
        raise UserError(f"{where}: {name} needs {', '.join(missing)}")


def entries_of(tag: str | None) -> Mapping[str, inspect.Parameter] | None:
    """The entries that a block with this tag may have; None where it has no such tag, or anything is taken."""
    kind, _, path = (tag or "").partition(":")
    target = locate(path) if kind in ("!new", "!name") else None
    if not callable(target):  # no such class: hyperpyyaml says so
        return None
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # of some functions in C
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return {name: p for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL}


def check_kind(key: str, before: Any, value: Any) -> None:
    """Refuse a value of another kind than the one that it replaces (anything may replace null or a placeholder)."""
    kind = next((kind for kind in KINDS if isinstance(before, kind)), None)
    if kind is None or tag_of(value):
        return
    number = kind is float and isinstance(value, int) and not isinstance(value, bool)
    if not number and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UserError(f"{key}={plain(value)} must be {KINDS[kind]}")


def did_you_mean(key: object, known: Iterable[object]) -> str:
    """`; did you mean X?` with the known name that is nearest; empty if none is near."""
    close = difflib.get_close_matches(str(key), map(str, known), 1)
    return f"; did you mean {close[0]}?" if close else ""
