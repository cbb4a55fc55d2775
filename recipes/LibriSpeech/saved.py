"""Checkpoints as they are read again: whatever is damaged is named, before anything in it is used."""

import contextlib
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from speechbrain.utils.checkpoints import CKPT_PREFIX, METAFNAME, PARAMFILE_EXT, Checkpoint, ckpt_recency

from recipes import files
from recipes.command_line import UserError, mendable

SUMS = "SHA256SUMS"
"""The file of a checkpoint with the sums of all others, as `sha256sum -c` reads it; checkpoints of older versions have none."""
TEXTS = {METAFNAME: dict, "brain.ckpt": dict, "progress.ckpt": dict, "epochs.ckpt": int, "dataloader-TRAIN.ckpt": int}
"""The files of a checkpoint that torch has not written, and what is in them, in YAML."""


class Damaged(UserError):
    """A file that a training has saved cannot be read."""


def write_sums(checkpoint: Path) -> None:
    """Write `SHA256SUMS` into the folder of a checkpoint that is complete."""
    names = sorted(path.name for path in checkpoint.iterdir() if path.name != SUMS)
    files.write_text(checkpoint / SUMS, "".join(f"{files.sha256(checkpoint / name)}  {name}\n" for name in names))


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, and what the CKPT.yaml of each says; none if the folder isn't there.

    Raises
    ------
    Damaged
        If one has no sound CKPT.yaml.
    """
    found = []
    for path in _folders(folder):
        try:
            found.append(Checkpoint(path, _meta(path), {file.stem: file for file in _parameters(path)}))
        except (Damaged, OSError) as fault:
            if path.exists():  # else a training has just deleted it
                raise damaged(path, fault) from fault
    return found


def latest(folder: Path) -> Checkpoint | None:
    """The last checkpoint in a folder."""
    return max(checkpoints(folder), key=ckpt_recency, default=None)


def best(folder: Path) -> Checkpoint | None:
    """The checkpoint with the lowest word error rate on the dev set, of several the first one, as SpeechBrain chooses it."""
    ended = [checkpoint for checkpoint in checkpoints(folder) if "WER" in checkpoint.meta]
    return min(ended, key=lambda checkpoint: checkpoint.meta["WER"], default=None)


def verify(checkpoint: Path, *names: str) -> None:
    """Compare files of a checkpoint with their sums.

    Arguments
    ---------
    checkpoint : Path
        Its folder.
    names : str
        The files; none: all.

    Raises
    ------
    Damaged
        If one is missing, or is another than the one that was written.
    """
    try:
        _verify(checkpoint, names)
    except Damaged as fault:
        raise damaged(checkpoint, fault) from fault


def damaged(checkpoint: Path, fault: Exception | str) -> Damaged:
    """The error for a checkpoint with a fault; it says what is left without it."""
    others = [path for path in _folders(checkpoint.parent) if path != checkpoint and _whole(path)]
    last = max(others, key=lambda path: _meta(path)["unixtime"], default=None)
    left = f"{last.name}, which is whole, is then used" if last else "its stage then begins again, as there is no other"
    return Damaged(f"{fault}: delete the folder {checkpoint}; {left}")


def tensors(path: Path) -> Any:
    """What `torch.save` wrote: tensors, and plain values of Python. Nothing else is made of a file.

    Raises
    ------
    Damaged
        If the file is not there, or is none of these.
    """
    if not path.is_file():
        raise Damaged(f"{path} is missing, or no file")
    try:
        if _sound(path):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        if mendable(error):
            raise
    raise Damaged(f"{path} is damaged, or holds something else than tensors, which is not loaded")


def _folders(folder: Path) -> list[Path]:
    """The folders of checkpoints, as `AtomicCheckpointer` names them once they are complete."""
    return sorted(folder.glob(f"{CKPT_PREFIX}+*")) if folder.is_dir() else []


def _parameters(checkpoint: Path) -> list[Path]:
    return [path for path in checkpoint.iterdir() if path.suffix == PARAMFILE_EXT and not path.name.startswith(".")]


def _meta(checkpoint: Path) -> dict[str, Any]:
    """What the CKPT.yaml of a checkpoint says."""
    _verify(checkpoint, [METAFNAME])
    with contextlib.suppress(ValueError, LookupError, TypeError, yaml.YAMLError):
        meta = yaml.safe_load((checkpoint / METAFNAME).read_text())
        numbers = meta["unixtime"], meta.get("WER", 0.0)
        if isinstance(meta["end-of-epoch"], bool) and all(map(math.isfinite, numbers)):
            return meta
    raise Damaged(f"{checkpoint / METAFNAME} is damaged")


def _verify(checkpoint: Path, names: Iterable[str] = ()) -> None:
    """As `verify`; the error names the fault alone."""
    sums, expected = checkpoint / SUMS, None
    if sums.exists():
        try:
            lines = [line.partition("  ") for line in sums.read_text().splitlines()]
            expected = {name: digest for digest, _, name in lines if name}
            if len(expected) < len(lines):
                raise ValueError
        except (ValueError, OSError) as error:
            raise Damaged(f"{sums} is damaged") from error
    for name in names or sorted({METAFNAME, *(path.name for path in _parameters(checkpoint)), *(expected or ())}):
        path = checkpoint / name
        if not path.is_file():
            raise Damaged(f"{path} is missing, or no file")
        if expected is not None and expected.get(name) != files.sha256(path):
            raise Damaged(f"{path} is damaged: it differs from its sum in {SUMS}")
        if expected is None and not _sound(path):
            raise Damaged(f"{path} is damaged")


def _whole(checkpoint: Path) -> bool:
    try:
        _verify(checkpoint)
        return bool(_meta(checkpoint))
    except Damaged:
        return False


def _sound(path: Path) -> bool:
    """Whether a file without a sum seems whole: a text is of its kind, and in what torch wrote the checksums are right."""
    kind = TEXTS.get(path.name)
    with contextlib.suppress(zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, yaml.YAMLError):
        if kind is None:
            return zipfile.ZipFile(path).testzip() is None
        return isinstance(yaml.safe_load(path.read_text()), kind)
    return False
