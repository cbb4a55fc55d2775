"""The keys of an experiment that a public encoder decides: sizes, blocks, positions, front end."""

import math
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references

from recipes.command_line import UserError
from recipes.LibriSpeech import yaml_text
from recipes.LibriSpeech.checks import entries_of
from recipes.LibriSpeech.public import folder
from recipes.LibriSpeech.public.families import FAMILIES, Family
from recipes.LibriSpeech.yaml_text import naming, tag_of

DECIDED = "dim", "ffn_dim", "num_layers", "num_heads", "block", "norm", "position", "positions", "front_end"
"""The keys that are not the user's where an experiment starts from a public encoder, but for fewer layers."""
WORDS = "block", "feat_extract_norm"
"""What is a word in `Family.keys`, of those that are known. All else is a number: other text could name any class."""
KEPT = *DECIDED, "pool", "start_sha256"
"""The keys that an experiment takes over from the one whose weights it starts from, if that began with a public encoder."""


def family(name: str) -> tuple[Family, dict[str, Any]]:
    """What kind of encoder it is, and its config.json, complete.

    Raises
    ------
    UserError
        If it is none of FAMILIES, or has what nobody has written here.
    """
    config = folder.config(name)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UserError(f"start={name} has model_type={kind!r} in its {folder.CONFIG}: only {', '.join(FAMILIES)} are supported")
    found = FAMILIES[kind]
    config = {**{entry: some[0] for entry, some in found.only.items()}, **found.otherwise, **config}
    for entry, some in found.only.items():
        if not any(config[entry] == value and type(config[entry]) is type(value) for value in some):
            supported = " or ".join(map(str, some))
            raise UserError(f"start={name} has {entry}={config[entry]} in its {folder.CONFIG}: only {supported} is supported")
    return found, config


def decided(name: str) -> dict[str, Any]:
    """The keys that its config.json decides, as YAML nodes."""
    found, config = family(name)
    follows = found.follows(config, folder.preprocessor(name))
    for _, entry, *_ in string.Formatter().parse(found.keys):
        value = {**config, **follows}.get(entry or "", 0)
        if type(value) not in (int, bool) and entry not in WORDS:
            raise UserError(f"start={name}: its {folder.CONFIG} has {entry}={value}, where one number belongs")
    return yaml_text.parse(found.keys.format_map({**config, **follows})) | {"start_sha256": folder.sha256(name)}


def _of_run(path: Path) -> dict[str, Any]:
    """The keys `KEPT` of the experiment in a folder, as YAML nodes; none if it has not begun with a public encoder."""
    file = path / "hyperparams.yaml"
    if not file.is_file():
        return {}
    with naming(file):
        found = yaml_text.parse(resolve_references(file.read_text()).getvalue())
        if not isinstance(found, dict) or not found.get("start_sha256"):
            return {}
        values = {key: found[key] for key in KEPT}
    values["front_end"] |= yaml_text.parse("dim: !ref <dim>\nform: !ref <form>\npool: !ref <pool>")
    return values


def values(given: Mapping[str, Any], typed: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The keys of an experiment that are decided by where its weights come from.

    Arguments
    ---------
    given : dict
        Keys as the files and the user give them, the later ones over the earlier.
    typed : dict
        Those of them that the user has given beside the YAML of an attention.
    run : Path
        The folder of the experiment itself. If it has begun, it need not find its public encoder again.

    Returns
    -------
    dict
        YAML nodes; nothing where no public encoder is behind them.

    Raises
    ------
    UserError
        If one is not there or of no use, or the user gives what is not theirs to decide.
    """
    start, other = given.get("start"), given.get("weights") or given.get("pretrained")
    if start is not None:
        try:
            found = decided(str(start))
        except folder.Unreachable:
            found = _of_run(run)
            if not found:
                raise
    elif other is not None:
        path = Path(str(other))
        found = _of_run(path.parents[1] if path.is_file() else path)  # of FOLDER/pretrain/encoder.ckpt
    else:
        return {}
    if not found:
        return {}
    source = f"start={start}" if start is not None else f"the experiment in {other}"
    for key in DECIDED:
        if key in typed and key != "num_layers":
            raise UserError(f"--{key} is what {source} has: leave it out")
    layers = given["num_layers"] if "num_layers" in typed else found["num_layers"]
    if isinstance(layers, int) and layers > found["num_layers"]:
        raise UserError(f"--num_layers {layers} is more than {source} has: {found['num_layers']}; fewer are its first ones")
    if (sha := given.get("start_sha256")) is not None and sha != found["start_sha256"]:
        raise UserError(f"{source} has weights with the sum {found['start_sha256']}, not {sha} as start_sha256 says")
    attention = typed.get("attention")
    if isinstance(attention, dict) and attention.get("positions", found["positions"]) != found["positions"]:
        raise UserError(f"attention.positions is {found['positions']} in {source}: leave it out")
    pairs = list(range(0, layers, 2)) if isinstance(layers, int) else []
    return {**found, "pairs": pairs, "pretrain": {"epochs": 0}}


def finish(merged: dict[str, Any]) -> None:
    """Fill in what follows from the attention, in the merged YAML of an experiment with a public encoder, in place.

    The original form is for an attention that reads the whole utterance; its position convolution reads ahead as trained.
    """
    attention = merged["attention"]
    if "positions" in (entries_of(tag_of(attention)) or attention):
        attention["positions"] = yaml_text.parse("x: !ref <positions>")["x"]
    resolved = yaml_text.parse(resolve_references(yaml_text.dump(merged)).getvalue())
    if resolved["attention"].get("num_heads", resolved["num_heads"]) != resolved["num_heads"]:
        raise UserError(
            f"attention.num_heads is {resolved['num_heads']} in the public encoder: leave it out, or give this number"
        )
    described = yaml_text.tagged(yaml_text.plain(resolved["attention"]))
    with naming("attention"), torch.device("meta"):
        made = load_hyperpyyaml(f"attention: {described}")["attention"](dim=resolved["dim"])
    whole = math.isinf(made.layer_lookahead)
    if merged["form"] is None:
        merged["form"] = "original" if whole else "streaming"
    if merged["form"] == "original" and not whole:
        raise UserError("form=original reads the whole utterance, and this attention streams: leave form out")
    position = merged["position"]
    if isinstance(position, dict) and "lookahead" in position:
        original = merged["form"] == "original"
        position["lookahead"] = None if original else yaml_text.parse("x: !ref <position_lookahead>")["x"]
