"""The folder of a run: the YAML that it belongs to, and the guard against mixing two experiments in one folder."""

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ruamel.yaml
from speechbrain.utils.distributed import if_main_process

from recipes import files
from recipes.command_line import UserError
from recipes.LibriSpeech import yaml_text
from recipes.LibriSpeech.experiment import INCIDENTAL, config_hash, identity
from recipes.LibriSpeech.public import folder as public
from recipes.LibriSpeech.summary import Summary
from recipes.LibriSpeech.tokens import MODEL
from recipes.LibriSpeech.training import optimization

CONFIG = "hyperparams.yaml"
"""The file with all values of the experiment."""
OLD_CONFIG = "config.json"
"""What older runs have in its place: the same values as JSON, objects as `yaml_text.plain` says."""
FOLDERS = "pretrain", "finetune", "manifests", "tensorboard"
FILES = "env.log", "train_log.txt", "summary.json", MODEL, "utterances-*.tsv", "manifests/*.*", "*/log.jsonl", "*/encoder.ckpt"
"""What else a run leaves in its folder."""
HEADER = """\
# All values of one experiment. load_hyperpyyaml(open("hyperparams.yaml")) makes its model, `model`; the weights are in
# finetune/checkpoints. The command:
#     {command}

"""
DATA = "\n# SHA-256 of the manifest of each split, and of what tokens have learned\n"


def read_config(folder: str | Path) -> dict | None:
    """The plain values of the experiment in a folder, see `experiment.build`; `data` has the checksum of each split.

    Arguments
    ---------
    folder : str or Path
        As train.py leaves it; older ones have config.json in place of hyperparams.yaml.

    Returns
    -------
    dict or None
        None if no experiment has begun in it.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    for name, parse in ((CONFIG, yaml_text.parse), (OLD_CONFIG, json.loads)):
        path = Path(folder) / name
        if path.exists() or path.is_symlink():
            try:
                config = yaml_text.plain(parse(path.read_text()))
                whole = isinstance(config, dict) and ("data" if name == CONFIG else "model") in config  # "data" is the end
                if whole and isinstance(config.get("data") or {}, dict):
                    return config
            except (ValueError, RecursionError, IsADirectoryError, ruamel.yaml.error.YAMLError):
                pass
            raise damaged(path)
    return None


def damaged(path: Path) -> UserError:
    """The error for a file with a configuration that cannot be read."""
    return UserError(
        f"{path} is damaged: put a sound copy there, or delete this file alone and give the command that began the training "
        "once more, which writes it anew and goes on from the checkpoints"
    )


def check(folder: str | Path, config: dict) -> None:
    """Refuse a folder in which an experiment with another configuration, or on other data, has begun.

    Arguments
    ---------
    folder : str or Path
    config : dict
        As `experiment.build` returns it; may have `data`, the checksum of each split.
    """
    before = read_config(folder)
    if before is None:
        return
    if "model" not in before:
        raise damaged(Path(folder) / CONFIG)
    before, config = optimization.completed(before), optimization.completed(config)
    changed = [key for key in sorted(config.keys() - INCIDENTAL) if config[key] != before.get(key)]
    if changed:
        raise UserError(
            f"{folder} holds an experiment with another {', '.join(changed)}: go on with its own configuration, give "
            "another --output_folder, or delete it"
        )


def check_kinds(folder: Path) -> None:
    """Refuse a folder where a file belongs, and the other way round."""
    for name in FOLDERS:
        if (folder / name).exists() and not (folder / name).is_dir():
            raise UserError(f"{folder / name} is no folder, as it should be here: move it away, or give another --output_folder")
    for pattern in FILES:
        if wrong := [path for path in folder.glob(pattern) if path.is_dir()]:
            raise UserError(f"{wrong[0]} is a folder, where a file belongs: move it away, or give another --output_folder")


def save(folder: Path, text: str, data: dict[str, str], command: str) -> None:
    """Write `hyperparams.yaml`: from here on the folder belongs to this experiment.

    Arguments
    ---------
    folder : Path
    text : str
        As `experiment.resolve` returns it.
    data : dict
        From each split to the checksum of its manifest; of what tokens have learned, too.
    command : str
        The one that does the experiment again, see `command`.
    """
    if if_main_process():
        files.write_text(folder / CONFIG, HEADER.format(command=command) + text + DATA + yaml_text.dump({"data": dict(data)}))


def clear(folder: Path) -> None:
    """Remove what an experiment left in the folder, and nothing else."""
    files_of_it = [folder / name for name in (CONFIG, OLD_CONFIG) if (folder / name).exists()]
    if files_of_it:
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("train_log.txt", MODEL):
            (folder / name).unlink(missing_ok=True)
        for path in files_of_it:
            path.unlink()


def check_start(start: str | None, checksums: Mapping[str, str]) -> None:
    """Refuse to evaluate on what the weights that an experiment begins with were trained on.

    Arguments
    ---------
    start : str or None
        Its `weights` or `pretrained`.
    checksums : dict
        From each dev and test split to the checksum of its manifest.
    """
    if start is None:
        return
    path = Path(start).absolute()
    before = read_config(path.parents[1] if path.is_file() else path) or {}  # of FOLDER/pretrain/encoder.ckpt
    heard = {before.get("data", {}).get(split) for split in before.get("train_splits", [])} - {None}
    if both := sorted(split for split, checksum in checksums.items() if checksum in heard):
        raise UserError(f"{', '.join(both)} would be evaluated on, and {start} was trained on it: give other dev or test splits")


def origin(hparams: Mapping[str, Any]) -> dict | None:
    """What an experiment began with, for its summary.

    Arguments
    ---------
    hparams : dict
        Of the experiment: its `weights`, `pretrained` or `start`.

    Returns
    -------
    dict or None
        Name of the folder or file; of an experiment the hash of the configuration, and the command if it is there; of a public
        encoder the revision and the SHA-256 of its weights. None without a start.
    """
    if hparams["start"] is not None:
        name, revision = public.called(hparams["start"])
        return {"name": name, "revision": revision, "sha256": hparams["start_sha256"], "config_hash": None, "command": None}
    start = hparams["weights"] or hparams["pretrained"]
    if start is None:
        return None
    config, summary = read_config(start), Path(start) / "summary.json"
    return {
        "name": Path(start).name,
        "config_hash": config and config_hash(identity(config)),
        "command": Summary.read(summary).command if summary.exists() else None,
    }


def command(arguments: Sequence[str]) -> str:
    """The command that does this experiment again, elsewhere: without incidental options and their paths.

    Example
    -------
    >>> command(["hparams/sa.yaml", "--data_folder", "/data", "--device", "cpu", "--lm", "/text.gz", "--seed", "2"])
    'python train.py hparams/sa.yaml --seed 2 --data_folder LIBRISPEECH --lm LM'
    """
    drop = (INCIDENTAL | {"device", "distributed_backend"}) - {"start"}
    processes = int(os.environ.get("WORLD_SIZE", 1))  # as torchrun says
    launch = ["torchrun", f"--nproc_per_node={processes}", "--"] if processes > 1 else ["python"]  # it knows a --start-method
    words, keep = [*launch, "train.py"], True
    for word in arguments:
        if word == "--noprogressbar":
            continue
        if word.startswith("--"):
            keep = word[2:].partition("=")[0] not in drop
        if keep:
            words.append(_named(word, words[-1]))
    given = {word.partition("=")[0] for word in arguments}
    for option, place in (("--data_folder", "LIBRISPEECH"), ("--lm", "LM")):
        words += [option, place] if option in given else []
    return " ".join(map(_quoted, words))


def _named(word: str, before: str) -> str:
    """The folder of a public encoder by its name alone; any other word as it is."""
    option, equals, value = word.partition("=") if word.startswith("--start=") else ("", "", word)
    if (equals or before == "--start") and Path(value).is_dir():
        return option + equals + Path(value).resolve().name
    return word


def _quoted(word: str) -> str:
    """A word as a shell takes it, in one line: line breaks and the like as bash and zsh write them.

    Example
    -------
    >>> print(_quoted("out/Libri #2"), _quoted("two\\nlines"))
    'out/Libri #2' $'two\\U0000000alines'
    """
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(c if c.isprintable() and c not in "'\\" else f"\\U{ord(c):08x}" for c in word) + "'"
