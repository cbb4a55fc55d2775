"""The folder of a public encoder as HuggingFace writes it: where it is, its config.json, its tensors."""

import contextlib
import functools
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors import safe_open
from torch import Tensor

from recipes import files
from recipes.command_line import UserError, mendable
from recipes.LibriSpeech.yaml_text import in_words

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
SAFE, SHARDS, OLD = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
"""Where the weights are: whole, in several files with an index, and as older versions wrote them."""
PREFIX = re.compile(r"^(wav2vec2|hubert|wavlm|data2vec_audio|model)\.")
"""What stands before the names of an encoder inside a larger model."""
_NEW = "parametrizations.weight.original"
DIVIDED = ("weight_g", "weight_v"), (f"{_NEW}0", f"{_NEW}1")
"""Old and new names of the length and the direction of a weight, which is length * direction / norm of the direction."""
PARTS = "encoder.", "feature_extractor.", "feature_projection."
"""What the names of an encoder's tensors begin with; the others, of a decoder for instance, are not read."""


HUB_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
"""A name of HuggingFace's Hub, with a branch, a tag or a commit."""


class Unreachable(UserError):
    """There is no such folder, and not in the Hub either, or no way to that."""


def find(name: str) -> Path:
    """The folder of a public encoder. One that is there is read as it is, and nothing is asked of the network.

    Arguments
    ---------
    name : str
        The folder; or a name of the Hub, `facebook/wav2vec2-base` or `facebook/wav2vec2-base@REVISION`. What comes from there is
        kept in its cache, which is used where there is no network.

    Raises
    ------
    UserError
        If there is none of this name, or no way to it.
    """
    if Path(name).is_dir():
        return Path(name)
    found = HUB_NAME.fullmatch(name)
    if Path(name).exists() or not found:
        raise Unreachable(f"start={name} is no folder, and no name of the Hub, such as openai/whisper-base: give one of them")
    try:
        folder = _download(*found.groups(), CONFIG, PREPROCESSOR, SAFE, SHARDS, "model-*-of-*.safetensors")
        if not (folder / SAFE).exists() and not (folder / SHARDS).exists():  # else both would come
            folder = _download(*found.groups(), CONFIG, PREPROCESSOR, OLD)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise Unreachable(  # a folder that has been moved may have a name as the Hub's are
            f"start={name}: there is no such folder here, and the Hub has none of this name and revision that you may read: "
            "correct it, or log in with `hf auth login`"
        ) from error
    except HFValidationError as error:
        raise Unreachable(f"start={name} is no folder, and no name of the Hub: {in_words(error)}") from error
    except Exception as error:  # whatever the libraries under it make of a network that fails
        if not isinstance(error, LocalEntryNotFoundError) and mendable(error):  # of a disk that is full
            raise
        revision = f" --revision {found['revision']}" if found["revision"] else ""
        raise Unreachable(
            f"start={name}: there is no such folder here, it is not in the Hub's cache, and the Hub does not answer: fetch it "
            f"where there is a network, `hf download {found['id']}{revision}`, and give its folder"
        ) from error
    return folder


@functools.cache  # an experiment asks several times
def _download(name: str, revision: str | None, *patterns: str) -> Path:
    return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))


def called(name: str) -> tuple[str, str | None]:
    """The name of a public encoder for the record, without a path, and its revision in the Hub, a commit if it is known.

    Example
    -------
    >>> called("/data/whisper-base/")
    ('whisper-base', None)
    """
    found = HUB_NAME.fullmatch(name)
    if Path(name).is_dir() or not found:
        return Path(os.path.abspath(name)).name, None
    with contextlib.suppress(UserError):
        return found["id"], find(name).name  # the Hub's cache has a folder for each commit
    return found["id"], found["revision"]


def config(name: str) -> dict[str, Any]:
    """What its config.json says.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    folder = find(name)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} has no {CONFIG}: give a folder as HuggingFace's save_pretrained writes it")
    return _json(folder / CONFIG)


def preprocessor(name: str) -> dict[str, Any]:
    """What its preprocessor_config.json says; nothing if it has none."""
    path = find(name) / PREPROCESSOR
    return _json(path) if path.is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(found, dict):
        raise _damaged(path)
    return found


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: put a sound copy there")


def weights(folder: Path) -> list[Path]:
    """The files with its weights.

    Raises
    ------
    UserError
        If there are none.
    """
    if (folder / SAFE).is_file():
        return [folder / SAFE]
    if (folder / SHARDS).is_file():
        names = _json(folder / SHARDS).get("weight_map")
        if not isinstance(names, dict) or not names or not all(Path(str(n)).name == n for n in names.values()):
            raise _damaged(folder / SHARDS)
        found = [folder / name for name in sorted(set(names.values()))]
        if missing := [path for path in found if not path.is_file()]:
            raise UserError(f"{missing[0]} is missing, which {SHARDS} names: put it there")
        return found
    if (folder / OLD).is_file():
        return [folder / OLD]
    raise UserError(f"{folder} has no weights: no {SAFE}, no {SHARDS}, no {OLD}")


def sha256(name: str) -> str:
    """The SHA-256 of its weights; of several files that of their sums, in order."""
    sums = [files.sha256(path) for path in weights(find(name))]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of its encoder, by their names there without a prefix, on the CPU and as they were saved.

    The norm of a convolution's weight is taken out: of its length g and its direction v, see `DIVIDED`, one weight is made.

    Raises
    ------
    UserError
        If a file is damaged.
    """
    found = {PREFIX.sub("", key): tensor for key, tensor in read(name, PARTS).items()}
    for length, direction in DIVIDED:
        for stem in [key.removesuffix(length) for key in found if key.endswith(length)]:
            if stem + direction in found:
                g, v = found.pop(stem + length).double(), found.pop(stem + direction).double()
                found[stem + "weight"] = g * v / v.norm(dim=(0, 1), keepdim=True)
    return found


def read(name: str, parts: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Its tensors by their whole names; those whose names, without a prefix, begin with one of `parts`."""
    found: dict[str, Tensor] = {}
    for path in weights(find(name)):
        try:
            if path.suffix == ".bin":
                loaded = torch.load(path, map_location="cpu", weights_only=True)
                found |= {key: value for key, value in loaded.items() if PREFIX.sub("", key).startswith(parts)}
            else:
                with safe_open(path, "pt") as file:
                    wanted = [key for key in file.keys() if PREFIX.sub("", key).startswith(parts)]  # noqa: SIM118, no dict
                    found |= {key: file.get_tensor(key) for key in wanted}
        except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
            if mendable(error):
                raise
            raise _damaged(path) from error
    return found
