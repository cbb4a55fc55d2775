"""Write the encoder of an experiment that began with a public one in the files that it came from.

    python -m recipes.LibriSpeech.public.save RUN FOLDER

Whatever reads the public encoder reads FOLDER: the sizes are the same, the tensors of front end and encoder are those that were
trained, and what belongs to no encoder, such as a decoder, is as it was. The CTC head stays in the run. It takes an experiment
of hparams/aa.yaml in the original form: any other one computes something else than HuggingFace's class of this name.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from speech_attention.model import SpeechEncoder
from torch import Tensor

from recipes import files
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.public import folder
from recipes.LibriSpeech.public.load import sources
from recipes.LibriSpeech.public.shape import decided, family


def save(run: Path, to: Path) -> str:
    """Write the encoder of a run.

    Arguments
    ---------
    run : Path
        The folder of the experiment.
    to : Path
        A folder that is not there yet, or empty.

    Returns
    -------
    str
        What was written, in words.

    Raises
    ------
    UserError
        If it is none that can be written, or the public encoder is not there any more.
    """
    system = loading.load(run)
    start = _start(run, system.config)
    if to.is_dir() and any(to.iterdir()):
        raise UserError(f"{to} is not empty: give a new folder")
    write(system.model, start, to)
    return f"{to}: {folder.CONFIG} and {folder.SAFE} of {folder.called(start)[0]}, with the encoder of {run}"


def write(model: SpeechEncoder, start: str, to: Path) -> None:
    """Write the files of a public encoder with the weights of a model that began with it, in single precision."""
    described, config = family(start)[0], folder.config(start)
    tensors = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in folder.read(start).items()}
    names = {folder.PREFIX.sub("", key): key for key in tensors}
    for key, own in model.state_dict().items():
        if wanted := sources(described.names, key):
            for source, part in zip(wanted, own.float().chunk(len(wanted))):
                _put(tensors, names, source, part)
    config |= {entry: "float32" for entry in ("dtype", "torch_dtype") if entry in config}
    to.mkdir(exist_ok=True)
    if (found := folder.find(start) / folder.PREPROCESSOR).is_file():
        shutil.copyfile(found, to / folder.PREPROCESSOR)
    files.write_json(to / folder.CONFIG, config)
    files.write_bytes(to / folder.SAFE, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def _start(run: Path, config: Mapping[str, Any]) -> str:
    """The public encoder that a run began with, if it still computes what HuggingFace's class of its kind does."""
    if not config.get("start_sha256"):
        raise UserError(f"{run} did not begin with a public encoder (--start): there are no files that it could be written in")
    whole = config["attention"]["class"].endswith(".AA") and config["form"] == "original"
    if not whole or config["owners"] is not None or config["pool"] != 1:
        raise UserError(
            f"{run} computes something else than HuggingFace's classes: only hparams/aa.yaml with form original, pool 1 and "
            "no owners is what they compute"
        )
    start = config["start"]
    if not start:
        raise UserError(f"{run} has its public encoder from another run: what that one began with is not known here")
    if folder.sha256(start) != config["start_sha256"]:
        raise UserError(f"start={start} holds other weights than those that {run} began with: put these there")
    if config["num_layers"] != (layers := decided(start)["num_layers"]):
        raise UserError(f"{run} has {config['num_layers']} layers, and start={start} {layers}: only all can be written")
    return start


def _put(tensors: dict[str, Tensor], names: Mapping[str, str], source: str, part: Tensor) -> None:
    """Put one tensor where the public encoder has it, in its shape; see `folder.DIVIDED` for one in two. What it has not is left
    out: Whisper's keys have no bias, which changes no softmax."""
    if source in names:
        key = names[source]
        tensors[key] = part.reshape(tensors[key].shape).clone()
    for length, direction in folder.DIVIDED:
        stem = source.removesuffix("weight")
        if stem + length in names:
            tensors[names[stem + length]] = part.norm(dim=(0, 1), keepdim=True)
            tensors[names[stem + direction]] = part.clone()


def run(arguments: Sequence[str]) -> None:
    """Write what the options say."""
    parser = Parser(description="The encoder of an experiment in HuggingFace's files.")
    parser.add_argument("run", type=Path, help="the folder of an experiment that began with --start")
    parser.add_argument("folder", type=files.folder_to_write, help="the folder to write")
    options = parser.parse_args(arguments)
    print(save(options.run, options.folder))


def main(arguments: Sequence[str]) -> int:
    """Write; 0, or 2 after one line about what the user can mend."""
    return exit_code(run, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
