"""The trained system of an experiment folder, for everything that comes after training."""

import io
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from hyperpyyaml import load_hyperpyyaml
from speech_attention.ctc import GreedyDecoder
from speech_attention.model import CTCModel
from speech_attention.recognizer import Output, Recognizer

from recipes.command_line import UserError, mendable
from recipes.LibriSpeech import run_folder, saved
from recipes.LibriSpeech.tokens import LETTERS, Tokens, of_run
from recipes.LibriSpeech.yaml_text import locate, tagged


@dataclass(frozen=True)
class Trained:
    """A trained system.

    Arguments
    ---------
    model : CTCModel
        In evaluation mode, on the CPU.
    config : dict
        The experiment's resolved configuration, plain values.
    folder : Path
        Of the experiment.
    tokens : Tokens
        What its outputs mean.
    """

    model: CTCModel
    config: dict
    folder: Path = Path()
    tokens: Tokens = LETTERS

    @property
    def streams(self) -> bool:
        """Whether its attention and its front end have streaming forms."""
        return math.isfinite(self.model.lookahead)

    def recognizer(self) -> Recognizer:
        """A `Recognizer` of its model and tokens."""
        return Recognizer(self.model, self.tokens.texts)

    @torch.inference_mode()
    def offline(self, samples: torch.Tensor) -> Output:
        """The `Output` for a whole utterance, (samples,); all its words come with the last sample."""
        if not len(samples):
            return Output()
        decoder = GreedyDecoder(self.tokens.texts)
        log_probs, _ = self.model(samples[None], torch.tensor([len(samples)]))
        text, words = decoder.step(log_probs[0].argmax(dim=-1).tolist(), len(samples))
        return Output(text, words + decoder.flush(len(samples)))


def load(folder: str | Path) -> Trained:
    """The model of an experiment, with the weights of the checkpoint that has the best validation WER.

    Arguments
    ---------
    folder : str or Path
        As train.py leaves it.

    Returns
    -------
    Trained

    Raises
    ------
    UserError
        If the folder is not an experiment, has no finished epoch of fine-tuning, is damaged, or its weights do not fit.
    """
    folder = Path(folder)
    config = run_folder.read_config(folder)
    if config is None:
        raise UserError(f"{folder} is not the folder of an experiment: it has no {run_folder.CONFIG}")
    if "model" not in config:
        raise run_folder.damaged(folder / run_folder.CONFIG)
    best = saved.best(folder / "finetune" / "checkpoints")
    if best is None:
        raise UserError(f"{folder} has no fine-tuned model yet: train it first (python train.py ...)")
    saved.verify(best.path, "model.ckpt")
    try:
        weights = saved.tensors(best.path / "model.ckpt")
    except saved.Damaged as fault:
        raise saved.damaged(best.path, fault) from fault
    tokens = of_run(config, folder)
    try:
        model = build(config["model"])
        model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{folder / run_folder.CONFIG}: {error}") from error
    except Exception as error:  # weights of another model, or whatever its class makes of its entries
        if mendable(error):
            raise
        raise UserError(f"cannot load the model of {folder}: {' '.join(str(error).split())[:300]}") from error
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise UserError(f"the model in {best.path} has weights that are not finite: train it again")
    return Trained(model.eval(), config, folder, tokens)


def build(description: dict) -> CTCModel:
    """The model that a configuration describes, with initial weights.

    Arguments
    ---------
    description : dict
        The `model` of a configuration, plain values, see `yaml_text.plain`.

    Raises
    ------
    UserError
        If it names anything but modules of torch, this project's or others, and functions on tensors: a folder from elsewhere
        shall run nothing.
    """
    _check_classes(description)
    return load_hyperpyyaml(io.StringIO(f"model: {tagged(description)}"))["model"]


def _check_classes(node: Any) -> None:
    """Refuse what is no `!new:` or `!name:` of a module, nor the `!name:` of a function on tensors, without importing anything
    of Python's own library for it."""
    if isinstance(node, list):
        for child in node:
            _check_classes(child)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key != "class":
                _check_classes(child)
        if "class" in node:
            tag = str(node["class"])
            found = re.fullmatch(r"!(?:new|name):([\w.]+)", tag)
            foreign = not found or found[1].partition(".")[0] in sys.stdlib_module_names
            target = None if foreign or not found else locate(found[1])
            module = isinstance(target, type) and issubclass(target, torch.nn.Module)
            if not module and not (found and tag.startswith("!name:") and _is_function(found[1], target)):
                raise UserError(f"{tag} names no module of torch that is installed here: it is not made")


def _is_function(name: str, target: Any) -> bool:
    """Whether it is a function of this project or of torch.nn.functional itself, which names other things, too."""
    own = isinstance(target, FunctionType) and target.__module__.startswith("speech_attention.")
    return own or (callable(target) and re.fullmatch(r"torch\.nn\.functional\.\w+", name) is not None)
