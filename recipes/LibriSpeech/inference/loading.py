"""The trained system of an experiment folder, for everything that comes after training."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speech_attention.ctc import GreedyDecoder
from speech_attention.model import CTCModel
from speech_attention.recognizer import Output, Recognizer
from speechbrain.utils.checkpoints import Checkpointer

from recipes.command_line import UserError
from recipes.LibriSpeech import run_folder
from recipes.LibriSpeech.data.dataset import TOKENS
from recipes.LibriSpeech.yaml_text import tagged


@dataclass(frozen=True)
class Trained:
    """A trained system.

    Arguments
    ---------
    model : CTCModel
        In evaluation mode, on the CPU.
    config : dict
        The experiment's resolved configuration, plain values.
    """

    model: CTCModel
    config: dict

    @property
    def streams(self) -> bool:
        """Whether its attention has a streaming form."""
        return math.isfinite(self.model.encoder.lookahead)

    def recognizer(self) -> Recognizer:
        """A `Recognizer` of its model and tokens."""
        return Recognizer(self.model, TOKENS)

    @torch.inference_mode()
    def offline(self, samples: torch.Tensor) -> Output:
        """The `Output` for a whole utterance, (samples,); all its words come with the last sample."""
        if not len(samples):
            return Output()
        decoder = GreedyDecoder(TOKENS)
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
        If the folder is not an experiment, has no finished epoch of fine-tuning, or its weights do not fit.
    """
    folder = Path(folder)
    config = run_folder.read_config(folder)
    if config is None:
        raise UserError(f"{folder} is not the folder of an experiment: it has no {run_folder.CONFIG}")
    if "model" not in config:
        raise run_folder.damaged(folder / run_folder.CONFIG)
    checkpoints = folder / "finetune" / "checkpoints"
    try:
        best = Checkpointer(checkpoints).find_checkpoint(min_key="WER") if checkpoints.is_dir() else None
    except Exception as error:  # whatever its YAML makes of a damaged file
        raise UserError(f"a CKPT.yaml in {checkpoints} is damaged: remove its checkpoint ({type(error).__name__})") from error
    if best is None:
        raise UserError(f"{folder} has no fine-tuned model yet: train it first (python train.py ...)")
    try:
        model = load_hyperpyyaml(io.StringIO(f"model: {tagged(config['model'])}"))["model"]
        model.load_state_dict(torch.load(best.path / "model.ckpt", map_location="cpu", weights_only=True))
    except Exception as error:  # a class that is not there, a damaged file, weights of another model
        raise UserError(f"cannot load the model of {folder}: {' '.join(str(error).split())[:300]}") from error
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise UserError(f"the model in {best.path} has weights that are not finite: train it again")
    return Trained(model.eval(), config)
