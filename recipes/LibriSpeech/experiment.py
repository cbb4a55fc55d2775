"""An experiment: its YAML files read as one, the objects that they describe, and what identifies it."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references

from recipes.command_line import UserError
from recipes.LibriSpeech import tokens, yaml_text
from recipes.LibriSpeech.checks import (
    HPARAMS,
    RULES,
    SCALES,
    check_augmentation,
    check_entries,
    check_kind,
    check_numbers,
    check_values,
    choose_splits,
    did_you_mean,
)
from recipes.LibriSpeech.public import shape
from recipes.LibriSpeech.training import optimization
from recipes.LibriSpeech.yaml_text import in_words, naming, tag_of

INCIDENTAL = {"output_folder", "data_folder", "embedded_folder", "stage", "download", "num_workers", "ckpt_interval_minutes"}
INCIDENTAL |= {"ckpt_interval_steps", "eval_batch_size", "skip_bad", "lm", "lm_folder", "tensorboard", "start"}
"""Keys that may change between two starts of one experiment: they do not change what it computes from the same data."""
PARTICULAR = {"left_context", "lookahead", "kernel_size", "pairs", "form", "position_lookahead", "positions"}
"""Keys that some attentions and blocks read, and others do not."""
REFERENCE = re.compile(r"!ref <(\w+)>")
"""A key that a YAML file uses elsewhere."""


def run_name(name: str, scale: str, data: str, seed: object) -> str:
    """Name of the folder of a run, and of its file in results/measured/; `data` is `embedded` or `librispeech`.

    Example
    -------
    >>> run_name("llsa", "mini", "embedded", 1)
    'llsa-mini-embedded-seed1'
    """
    return f"{name}-{scale}-{data}-seed{seed}"


def identity(config: dict) -> dict:
    """A configuration without its incidental keys: what decides the result, given the data."""
    return {key: value for key, value in config.items() if key not in INCIDENTAL}


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash of a configuration: the same for the same values, in whatever order the keys come.

    Arguments
    ---------
    config : dict
        Anything that JSON can hold; other objects raise TypeError, NaN raises ValueError.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256 of the canonical JSON.

    Example
    -------
    >>> config_hash({"seed": 1, "lookahead": 4}) == config_hash({"lookahead": 4, "seed": 1})
    True
    """
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def load(path: str | Path, overrides: str | Mapping[str, Any] = "") -> tuple[dict, dict]:
    """Read an experiment and make its objects.

    Arguments
    ---------
    path, overrides
        See `resolve`.

    Returns
    -------
    hparams, config : dict
        See `build`.

    Example
    -------
    >>> hparams, config = load(HPARAMS / "llsa.yaml", "attention: {lookahead: 2}")
    >>> hparams["model"].encoder.lookahead, config["attention"]["lookahead"]
    (2, 2)
    """
    return build(resolve(path, overrides), path)


def resolve(path: str | Path, overrides: str | Mapping[str, Any] = "") -> str:
    """Read an experiment: `hparams/experiment.yaml`, then `hparams/scale/SCALE.yaml`, then `path`, then `overrides`, the
    later winning. A mapping changes single entries of the one before it; one with a tag of its own replaces it.

    Arguments
    ---------
    path : str or Path
        The YAML of an attention, e.g. hparams/llsa.yaml.
    overrides : str or dict
        YAML, or the values of keys, see `options.values` for those of the command line. Of the latter each must be read by
        an object; a YAML, as Python gives it to several attentions, may have a window that one of them does not read.

    Returns
    -------
    str
        One YAML, which plain hyperpyyaml loads: every key with its value and its comment.

    Raises
    ------
    UserError
        If a file, a key, or an entry of an object is not there, or a value is of the wrong kind.
    """
    shared, own = (HPARAMS / "experiment.yaml").read_text(), _read(path)
    of_path = _block(own, str(path))
    last = _block(overrides or "{}", "the changes") if isinstance(overrides, str) else dict(overrides)
    if "data" in of_path:  # in which --dim, for instance, would change nothing: the sizes of all objects are written out
        raise UserError(f"{path} is what a run was: to do it again give the command at its top, with the YAML of an attention")
    scale = last.get("scale", of_path.get("scale", "mini"))
    if scale not in SCALES:
        raise UserError(f"no scale {scale}; there are {', '.join(SCALES)}")
    merged = yaml_text.parse(shared)
    optional = {key for key, value in merged.items() if value is None}
    merge(merged, yaml_text.parse((HPARAMS / "scale" / f"{scale}.yaml").read_text()))
    given = {**merged, **of_path, **last}
    if given["output_folder"] is None:
        data = "embedded" if given["data_folder"] is None else "librispeech"
        given["output_folder"] = f"results/runs/{run_name(given['name'], scale, data, given['seed'])}"
    public = shape.values(given, last, Path(str(given["output_folder"])))
    merge(merged, public, optional=optional)
    merge(merged, of_path, optional=optional)
    if public:  # whose blocks stay, whatever the attention: the position before them knows the order of frames
        merged["block"] = public["block"]
    merge(merged, last, optional=optional)
    merged["output_folder"] = given["output_folder"]
    choose_splits(merged)
    check_entries(merged)
    if open_keys := [key for key, value in merged.items() if tag_of(value) == "!PLACEHOLDER"]:
        if "front_end" in open_keys and "attention" not in open_keys:
            raise UserError(f"scale {scale} has no sizes of its own: give --start, the folder or the Hub id of a public encoder")
        raise UserError(f"{path} has no {', '.join(open_keys)}: give the YAML of an attention, as {', '.join(attention_files())}")
    if isinstance(merged["model"], dict) and tag_of(merged["model"].get("num_tokens")) == "!PLACEHOLDER":
        merged["model"]["num_tokens"] = len(tokens.make(yaml_text.plain(merged["tokens"])))
    if public:
        shape.finish(merged)
    text = yaml_text.dump(merged)
    whole = "model" in of_path
    if whole or not isinstance(overrides, str):
        _check_used(last, text, path, whole)
    with naming(path):
        resolved = yaml_text.parse(resolve_references(text).getvalue())
    check_entries(resolved)  # what was a reference has its value now
    comments = comments_of(shared, own, *public, *[key for key, value in last.items() if tag_of(value)])
    return yaml_text.annotate(yaml_text.dump(resolved), comments, yaml_text.sections(shared))


def comments_of(shared: str, own: str = "", *replaced: str) -> dict[tuple[str, ...], str]:
    """The comment of each key, with its choices.

    Arguments
    ---------
    shared, own : str
        The text of experiment.yaml, and of the file that is read on top of it.
    replaced : str
        Blocks whose comments in `own` do not count: another one stands in its place.
    """
    own_comments = {path: text for path, text in yaml_text.comments(own).items() if path[0] not in replaced}
    comments = {**yaml_text.comments(shared), **own_comments}
    choices = {tuple(rule.key.split(".")): ", ".join(rule.choices) for rule in RULES if rule.choices}
    return comments | {path: f"{comments.get(path, '')} One of {names}.".strip() for path, names in choices.items()}


def build(text: str, path: str | Path = "hyperparams.yaml") -> tuple[dict, dict]:
    """Make the objects of an experiment, with initial weights from its seed.

    Arguments
    ---------
    text : str
        As `resolve` returns it.
    path : str or Path
        The file that an error names.

    Returns
    -------
    hparams : dict
        With all objects made.
    config : dict
        The values, plain; objects are mappings with their class under `class`.

    Raises
    ------
    UserError
        If an object refuses its entries, or a value is out of range.
    """
    config = yaml_text.plain(yaml_text.parse(text))
    check_numbers(config)
    check_values(config)
    torch.manual_seed(config["seed"])  # initial weights
    with naming(path):
        hparams = load_hyperpyyaml(text)
    hparams["tokens"] = tokens.make(config["tokens"])
    check_augmentation(hparams)
    optimization.check(hparams)
    hparams["output_folder"] = Path(hparams["output_folder"])
    return hparams, config


def attention_files() -> list[str]:
    """The YAML files of attentions, as the command line names them."""
    return sorted(f"hparams/{file.name}" for file in HPARAMS.glob("*.yaml") if file.stem != "experiment")


def _read(path: str | Path) -> str:
    """The text of the YAML of an attention."""
    if not Path(path).exists():
        raise UserError(f"no file {path}; there are {', '.join(attention_files())}")
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder: give the YAML of an attention, as {', '.join(attention_files())}")
    try:
        return Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: save it as UTF-8, or give {', '.join(attention_files())}") from error


def _block(text: str, source: str) -> dict:
    """A YAML that must be a block of keys."""
    node = parse_yaml(text, source)
    if not isinstance(node, dict):
        raise UserError(f"{source} must hold lines of the form key: value, as {', '.join(attention_files())} do")
    return node


def parse_yaml(text: str, source: str) -> Any:
    """A YAML text as nodes, see `yaml_text.parse`; what is wrong with it is a UserError that names the `source`."""
    try:
        node = yaml_text.parse(text)
        yaml_text.plain(node)  # a value that holds itself has no end
    except ruamel.yaml.constructor.DuplicateKeyError as error:
        raise UserError(f"{source}: {' '.join(str(error.problem).split())}: give each key once") from error
    except RecursionError as error:
        raise UserError(f"{source} holds blocks in blocks without an end") from error
    except (ruamel.yaml.error.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:  # the last for odd dates
        raise UserError(f"{source} is not valid YAML: {in_words(error)}") from error
    return node


def _check_used(overrides: Mapping[str, Any], merged: str, path: str | Path, whole: bool) -> None:
    """Refuse changes of keys that no object reads, as AA no look-ahead, or, in a YAML that is the `whole` experiment with all
    values written out, as of `--stage show`, none at all."""
    known = {key for file in HPARAMS.glob("**/*.yaml") for key in REFERENCE.findall(file.read_text())} | {"scale"}
    if unread := sorted((known if whole else PARTICULAR) & overrides.keys() - set(REFERENCE.findall(merged))):
        why = f"{path} has all values written out" if whole else f"nothing in {path}, with the changes to it, reads this key"
        do = "change the file, or give the YAML of an attention" if whole else "leave it out"
        raise UserError(f"--{unread[0]} would change nothing, as {why}: {do}")


def merge(base: dict, changes: dict, where: str = "", optional: Collection[str] = ()) -> None:
    """Write `changes` into the mapping `base`, in place; a null may replace anything where the key is `optional`.

    Entries that the block of an object does not have yet are added: `check_entries` tells whether its class takes them.
    """
    for key, value in changes.items():
        before = base.get(key)
        if key not in base and not tag_of(base):
            hint = did_you_mean(key, base) or f"; there are {', '.join(map(str, base))}"
            raise UserError(f"unknown key {where}{key}{hint}")
        if isinstance(value, dict) and isinstance(before, dict) and not tag_of(value):
            merge(before, value, f"{key}.")
        else:
            if value is not None or not (tag_of(base) or key in optional):  # an object checks its own arguments
                check_kind(f"{where}{key}", before, value)
            base[key] = value
