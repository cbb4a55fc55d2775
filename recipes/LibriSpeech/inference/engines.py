"""Engines: what computes the steps of streams in the place of the eager model, for a `Recognizer`.

| engine | what it is | when to take it |
| --- | --- | --- |
| `torch` | the model itself | it is ready at once, and needs nothing more |
| `onnx` | ONNX Runtime, with a file of the run's folder that its first use writes | the fastest, the more so with int8 |

Every engine keeps the contract of `CTCModel.advance`: streams of a batch know nothing of each other, and audio may be cut in
any way. A step takes one chunk of frames, or as many chunks as usually come at once; what comes is cut into such steps.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import speech_attention
import torch
from speech_attention.model import CTCModel, SpeechState
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import named_tensors, tree_map
from torch import Tensor

from recipes import files
from recipes.command_line import UserError
from recipes.LibriSpeech.data.dataset import TOKENS
from recipes.LibriSpeech.inference import export, int8
from recipes.LibriSpeech.inference.loading import Trained

ENGINES = "torch", "onnx"
Step = Callable[[Tensor, Tensor, SpeechState], tuple[Tensor, Tensor, SpeechState]]
"""Computes what `CTCModel.advance` does, for a number of frames that is always the same."""
MOST_CHUNKS = 16
"""Chunks of the longest step."""


def recognizer(system: Trained, engine: str = "torch", small: bool = False, frames: int = 1) -> Recognizer:
    """A `Recognizer` of a trained system, with an engine.

    Arguments
    ---------
    system : Trained
        Its attention streams.
    engine : str
        One of `ENGINES`.
    small : bool
        Whether the weights of linear layers have eight bits, see `int8`; for `onnx` alone.
    frames : int
        How many frames usually come at once.

    Returns
    -------
    Recognizer

    Raises
    ------
    UserError
        If a package or a compiler is missing, or torch cannot export the model.
    """
    plain = system.recognizer()
    if engine == "torch":
        return plain
    counts = {1, max(1, min(frames // plain.layout.chunk, MOST_CHUNKS))}
    steps = {chunks: onnx_step(system, plain.start, chunks, small) for chunks in counts}
    return Recognizer(system.model, TOKENS, Steps(system.model, steps))


class Steps:
    """Engine that cuts what comes into steps of a few fixed lengths.

    Arguments
    ---------
    model : CTCModel
    steps : dict
        From a number of chunks to what computes so many. There is one for 1.
    """

    def __init__(self, model: CTCModel, steps: dict[int, Step]):
        self.chunk, self.hop = model.encoder.layout.chunk, model.front_end.hop
        self.steps = dict(sorted(steps.items(), reverse=True))

    def advance(self, samples: Tensor, valid: Tensor, state: SpeechState) -> tuple[Tensor, Tensor, SpeechState]:
        """See `CTCModel.advance`; the frames are those of whole chunks."""
        log_probs, out = [], []
        while frames := valid.size(1):
            chunks, step = next((n, step) for n, step in self.steps.items() if n * self.chunk <= frames)
            now = chunks * self.chunk
            y, there, state = step(samples[:, : now * self.hop], valid[:, :now], state)
            log_probs.append(y)
            out.append(there)
            samples, valid = samples[:, now * self.hop :], valid[:, now:]
        return torch.cat(log_probs, dim=1), torch.cat(out, dim=1), state


def onnx_step(system: Trained, start: SpeechState, chunks: int, small: bool) -> Step:
    """A step of ONNX Runtime. What is exported is kept in the folder `onnx` of the run, if that can be written.

    Arguments
    ---------
    system : Trained
    start : dict
        State of one stream before its first frame.
    chunks : int
        Chunks of the step.
    small : bool
        See `recognizer`.

    Returns
    -------
    callable

    Raises
    ------
    UserError
        See `recognizer`.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"--engine onnx needs onnxruntime ({error}): pip install -e '.[engines]'") from error
    path = kept(system, chunks)
    if path.exists():
        content = path.read_bytes()
    else:
        content = export.checked_step(system, start, chunks).SerializeToString()
        _keep(path, content, f"step-{chunks}-*.onnx")
    if small:
        content = int8.quantised(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a stream waits for audio most of the time
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def step(samples: Tensor, valid: Tensor, state: SpeechState) -> tuple[Tensor, Tensor, SpeechState]:
        feeds = {"samples": samples, "valid": valid, **named_tensors(state, "state.")}
        log_probs, out, *after = map(torch.from_numpy, session.run(None, {name: t.numpy() for name, t in feeds.items()}))
        tensors = iter(after)  # in the order of `named_tensors`, which is that of `tree_map`
        return log_probs, out, tree_map(lambda _: next(tensors), state)

    return step


def kept(system: Trained, chunks: int) -> Path:
    """Where the step of so many chunks is kept; the name tells the configuration, the weights, and the code that it is of."""
    digest = hashlib.sha256(f"{json.dumps(system.config, sort_keys=True, default=str)}{torch.__version__}".encode())
    modules = Path(speech_attention.__path__[0])
    for path in (*sorted(modules.rglob("*.py")), Path(export.__file__)):
        digest.update(path.read_bytes())
    for tensor in system.model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return system.folder / "onnx" / f"step-{chunks}-{digest.hexdigest()[:16]}.onnx"


def _keep(path: Path, content: bytes, outdated: str) -> None:
    """Write a file, and remove those that it replaces; where that is not possible the next start exports again."""
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_bytes(path, content)
        for old in set(path.parent.glob(outdated)) - {path}:
            old.unlink(missing_ok=True)
    except OSError:
        pass
