"""An experiment: its YAML files read as one, its folder, and the guard against mixing two experiments in a folder."""

import difflib
import functools
import io
import json
import math
import operator
import os
import shlex
import shutil
from pathlib import Path

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.distributed import if_main_process

from recipes.command_line import UserError
from recipes.files import write_json
from recipes.LibriSpeech.summary import config_hash
from recipes.LibriSpeech.training import optimization

HPARAMS = Path(__file__).parents[2] / "hparams"
INCIDENTAL = {"output_folder", "data_folder", "embedded_folder", "stage", "download", "num_workers", "ckpt_interval_minutes"}
INCIDENTAL |= {"ckpt_interval_steps", "eval_batch_size", "skip_bad", "lm", "lm_folder", "tensorboard"}
"""Keys that may change between two starts of one experiment: they do not change what it computes from the same data."""
EMBEDDED_SPLITS = {"train_splits": ["train-synth"], "dev_splits": ["dev-synth"], "test_splits": ["test-synth"]}
LIBRISPEECH_SPLITS = {"train_splits": ["train-clean-100"], "dev_splits": ["dev-clean"], "test_splits": ["test-clean"]}


def _one_of(*choices):
    return choices.__contains__, " or ".join(choices)


_positive = (lambda value: 0 < value < math.inf), "above 0"
_part = (lambda value: 0 <= value < 1), "a part of all updates, from 0 to below 1"
_from_0 = (lambda value: 0 <= value < math.inf), "0 or more"
_from_1 = (lambda value: 1 <= value < math.inf), "1 or more"
RULES = (
    ("stage", *_one_of("all", "pretrain", "finetune", "test")),
    ("precision", *_one_of("fp32", "fp16", "bf16")),
    ("eval_precision", *_one_of("fp32", "fp16", "bf16")),
    ("max_grad_norm", *_positive),
    ("weight_decay", *_from_0),
    ("num_workers", *_from_0),
    ("eval_batch_size", *_from_1),
    ("grad_accumulation_factor", *_from_1),
    ("pretrain.epochs", *_from_0),
    ("pretrain.lr", *_positive),
    ("pretrain.warmup", *_part),
    ("pretrain.batch_seconds", *_positive),
    ("finetune.epochs", *_from_0),
    ("finetune.lr", *_positive),
    ("finetune.encoder_lr", *_positive),
    ("finetune.warmup", *_part),
    ("finetune.batch_seconds", *_positive),
)
"""Key, what its value must satisfy, and that in words."""


def load(path, overrides="", run_options=None):
    """Read an experiment: `hparams/experiment.yaml`, then `hparams/scale/SCALE.yaml`, then `path`, then `overrides`, the
    later winning. A mapping changes single entries of the one before it; one with a tag of its own replaces it.

    Arguments
    ---------
    path : str or Path
        The YAML of an attention, e.g. hparams/llsa.yaml.
    overrides : str
        YAML, e.g. of the command line.
    run_options : dict or None
        Options that SpeechBrain took from the command line for itself; those that are keys of the YAML count as overrides.

    Returns
    -------
    hparams : dict
        With all objects made.
    config : dict
        The resolved values, plain; objects are mappings with their class under `class`.
    """
    yaml = ruamel.yaml.YAML()
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(f"hparams/{file.name}" for file in HPARAMS.glob("*.yaml") if file.stem != "experiment"))
        raise UserError(f"no file {path}; there are {known}")
    try:
        own, last = yaml.load(path.read_text()), yaml.load(overrides) or {}
        if not isinstance(own, dict) or not isinstance(last, dict):
            raise UserError(f"{path} and the command line must be mappings, key: value")
    except ruamel.yaml.constructor.DuplicateKeyError as error:
        raise UserError(f"{' '.join(error.problem.split())}: give each key once") from error
    except (ruamel.yaml.error.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not valid YAML in {path} or on the command line: {' '.join(str(error).split())}") from error
    scale = last.get("scale", own.get("scale", "mini"))
    scales = sorted(file.stem for file in (HPARAMS / "scale").glob("*.yaml"))
    if scale not in scales:
        raise UserError(f"no scale {scale}; there are {', '.join(scales)}")
    merged = yaml.load((HPARAMS / "experiment.yaml").read_text())
    optional = {key for key, value in merged.items() if value is None}
    merge(merged, yaml.load((HPARAMS / "scale" / f"{scale}.yaml").read_text()))
    merge(merged, own, optional=optional)
    merge(merged, last, optional=optional)
    merge(merged, {key: value for key, value in (run_options or {}).items() if key in merged})
    _choose_splits(merged)
    if merged["output_folder"] is None:
        data = "embedded" if merged["data_folder"] is None else "librispeech"
        merged["output_folder"] = f"results/runs/{run_name(merged['name'], scale, data, merged['seed'])}"
    _drop_comments(merged)
    text = io.StringIO()
    yaml.dump(merged, text)
    try:
        torch.manual_seed(merged["seed"])  # initial weights
        resolved = resolve_references(text.getvalue()).getvalue()
        hparams = load_hyperpyyaml(resolved)
    except (ValueError, TypeError, AttributeError, LookupError, ImportError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    _check_values(hparams)
    optimization.check(hparams)
    hparams["output_folder"] = Path(hparams["output_folder"])
    return hparams, plain(yaml.load(resolved))


def run_name(name: str, scale: str, data: str, seed: int) -> str:
    """Name of the folder of a run, and of its file in results/measured/; `data` is `embedded` or `librispeech`."""
    return f"{name}-{scale}-{data}-seed{seed}"


def _choose_splits(merged):
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
    both = sorted(set(merged["train_splits"]) & {*merged["dev_splits"], *merged["test_splits"]})
    if both:
        raise UserError(f"{', '.join(both)} would be trained on and evaluated on: give other train, dev or test splits")


def _check_values(hparams):
    """Ranges and choices that no constructor checks."""
    for key, holds, words in RULES:
        value = functools.reduce(operator.getitem, key.split("."), hparams)
        if not holds(value):
            raise UserError(f"{key}={value} must be {words}")
    if hparams["pretrained"] and hparams["weights"]:
        raise UserError("both pretrained and weights are given: start from one of them")
    if hparams["weights"] is None and not hparams["finetune"]["epochs"]:
        raise UserError("finetune.epochs=0 tests weights as they are: give --weights, the folder of a fine-tuned experiment")
    start = hparams["pretrained"] or hparams["weights"]
    if hparams["stage"] == "pretrain" and (start or not hparams["pretrain"]["epochs"]):
        raise UserError("--stage pretrain has nothing to do: pretrained or weights are given, or pretrain.epochs is 0")


def merge(base, changes, where="", optional=()):
    """Write `changes` into the mapping `base`, in place; a null may replace anything where the key is `optional`."""
    for key, value in changes.items():
        if key not in base:
            close = difflib.get_close_matches(str(key), map(str, base), 1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(map(str, base))}"
            raise UserError(f"unknown key {where}{key}{hint}")
        if isinstance(value, dict) and isinstance(base[key], dict) and not _tag(value):
            merge(base[key], value, f"{key}.")
        elif value is None and isinstance(base[key], bool):  # a bare flag
            base[key] = True
        else:
            if value is not None or not (_tag(base) or key in optional):  # an object checks its own arguments
                _check_kind(f"{where}{key}", base[key], value)
            base[key] = value


def _check_kind(key, before, value):
    """Refuse a value of another kind than the one that it replaces (anything may replace null or a placeholder)."""
    kinds = ((bool, "True or False"), (int, "a whole number"), (float, "a number"), (list, "a list"), (dict, "a block"))
    kind = next(((kind, name) for kind, name in kinds if isinstance(before, kind)), None)
    if kind is None or _tag(value):
        return
    number = kind[0] is float and isinstance(value, int) and not isinstance(value, bool)
    if not number and (not isinstance(value, kind[0]) or (kind[0] is int and isinstance(value, bool))):
        raise UserError(f"{key}={plain(value)} must be {kind[1]}")


def _tag(node):
    tag = getattr(node, "tag", None)
    return (tag.value if hasattr(tag, "value") else tag) or None


def _drop_comments(node):
    """Forget a YAML node's comments, in place: ruamel can lose a tag that follows one when it writes."""
    if isinstance(node, (dict, list)):
        if hasattr(node, "_yaml_comment"):
            del node._yaml_comment
        for child in node.values() if isinstance(node, dict) else node:
            _drop_comments(child)


def plain(node):
    """A YAML node as plain dicts, lists and scalars; a tag becomes the entry `class`."""
    if isinstance(node, dict):
        entries = {str(key): plain(value) for key, value in node.items()}
        return {"class": _tag(node), **entries} if _tag(node) else entries
    if isinstance(node, list):
        return [plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, (int, float)):  # ruamel has its own kinds of both
        return int(node) if isinstance(node, int) else float(node)
    return str(getattr(node, "value", node))


def check_folder(folder, config):
    """Refuse a folder in which an experiment with another configuration, or on other data, has begun.

    Arguments
    ---------
    folder : Path
    config : dict
        As `load` returns it; may have `data`, the checksum of each split.
    """
    path = folder / "config.json"
    if not path.exists():
        return
    try:
        before = optimization.completed(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path} is damaged: delete {folder}, or give another --output_folder") from error
    changed = [key for key in sorted(config.keys() - INCIDENTAL) if config[key] != before.get(key)]
    if changed:
        raise UserError(
            f"{folder} holds an experiment with another {', '.join(changed)}: go on with its own configuration, give "
            "another --output_folder, or delete it"
        )


def save_config(folder, config):
    """Write `config.json`: from here on the folder belongs to this configuration."""
    if if_main_process():
        write_json(folder / "config.json", config)


def clear_folder(folder):
    """Remove what an experiment left in the folder, and nothing else."""
    if (folder / "config.json").exists():
        for name in ("pretrain", "finetune", "manifests", "tensorboard"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "train_log.txt").unlink(missing_ok=True)
        (folder / "config.json").unlink()


def identity(config):
    """A configuration without its incidental keys: what decides the result, given the data."""
    return {key: value for key, value in config.items() if key not in INCIDENTAL}


def origin(start):
    """What an experiment began with, for its summary.

    Arguments
    ---------
    start : str or None
        Its `weights` or `pretrained`.

    Returns
    -------
    dict or None
        Name of the folder or file; of a folder the hash of the configuration, and the command if it is there. None without
        a start.
    """
    if start is None:
        return None
    found = [Path(start) / name for name in ("config.json", "summary.json")]
    config, summary = (json.loads(path.read_text()) if path.exists() else None for path in found)
    return {
        "name": Path(start).name,
        "config_hash": config and config_hash(identity(config)),
        "command": summary and summary.get("command"),
    }


def command(arguments):
    """The command that does this experiment again, elsewhere: without incidental options and their paths.

    Example
    -------
    >>> command(["hparams/sa.yaml", "--data_folder", "/data", "--device", "cpu", "--lm", "/text.gz", "--seed", "2"])
    'python train.py hparams/sa.yaml --seed 2 --data_folder LIBRISPEECH --lm LM'
    """
    drop = INCIDENTAL | {"device", "distributed_backend"}
    processes = int(os.environ.get("WORLD_SIZE", 1))  # as torchrun says
    words, keep = [*(["torchrun", f"--nproc_per_node={processes}"] if processes > 1 else ["python"]), "train.py"], True
    for word in arguments:
        if word == "--noprogressbar":
            continue
        if word.startswith("--"):
            keep = word[2:].partition("=")[0] not in drop
        if keep:
            words.append(word)
    given = {word.partition("=")[0] for word in arguments}
    for option, place in (("--data_folder", "LIBRISPEECH"), ("--lm", "LM")):
        words += [option, place] if option in given else []
    return shlex.join(words)
