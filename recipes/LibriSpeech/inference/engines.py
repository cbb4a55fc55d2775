"""Engines: what computes the steps of streams in the place of the eager model, for a `Recognizer`.

| engine | what it is | when to take it |
| --- | --- | --- |
| `torch` | the model itself, with packed weights if it is large | it is ready at once, and needs nothing more |
| `onnx` | ONNX Runtime, with a file of the run's folder that its first use writes | the fastest, the more so with int8 |
| `compiled` | what torch compiles of the model, in a file of the user's cache | with a C++ compiler, without ONNX Runtime |

Every engine keeps the contract of `CTCModel.advance`: streams of a batch know nothing of each other, and audio may be cut in
any way. A step takes one chunk of frames, or as many chunks as usually come at once; what comes is cut into such steps.
"""

import copy
import hashlib
import inspect
import json
import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path

import speech_attention
import torch
from speech_attention.model import CTCModel, SpeechState
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import named_tensors, state_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from recipes import files, machine
from recipes.command_line import UserError
from recipes.LibriSpeech.inference import export, int8
from recipes.LibriSpeech.inference import step as exported
from recipes.LibriSpeech.inference.loading import Trained

ENGINES = "torch", "compiled", "onnx"
VARIANTS = [*((engine, False) for engine in ENGINES), ("onnx", True)]
"""Each engine, and whether its weights have eight bits."""
State = dict[str, Tensor]
"""The tensors of a `SpeechState` by name, such as state.encoder.position, in the order in which a step takes them."""
Step = Callable[[Tensor, Tensor, State], tuple[Tensor, Tensor, State]]
"""Computes what `CTCModel.advance` does, for a number of frames that is always the same."""
LARGE = 32 * 2**20
"""Bytes of weights that no cache holds: reading them is what a step waits for."""
MOST_CHUNKS = 16
"""Chunks of the longest step."""


def add_options(parser: ArgumentParser) -> None:
    """Give a parser the options that choose an engine; see `check`."""
    parser.add_argument("--engine", choices=ENGINES, default="torch", help="what computes; default: %(default)s")
    parser.add_argument("--int8", action="store_true", help="weights of eight bits, with --engine onnx")


def check(engine: str, small: bool) -> None:
    """Refuse eight bits a weight for an engine that has none."""
    if (engine, small) not in VARIANTS:
        raise UserError(f"--int8 is for --engine onnx, not {engine}")


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
        large = torch.backends.mkldnn.is_available() and state_bytes(system.model.state_dict()) > LARGE
        return Recognizer(system.model, system.tokens.texts, packed(system.model)) if large else plain
    counts = {1, max(1, min(frames // plain.layout.chunk, MOST_CHUNKS))}
    make = compiled_step if engine == "compiled" else partial(onnx_step, small=small)
    steps = {chunks: make(system, plain.start, chunks) for chunks in counts}
    made = Recognizer(system.model, system.tokens.texts, Steps(system.model, steps))
    made.start = named_tensors(made.start, "state.")
    return made


class PackedLinear(nn.Module):
    """A linear layer with a copy of its weights that lies as oneDNN reads it fastest for a few rows; one row takes the weights
    themselves, which are faster there."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.weight, self.bias, self.out_features = linear.weight, linear.bias, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == x.size(-1):
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def packed(model: CTCModel) -> CTCModel:
    """The same model with packed linear layers; all else is shared with it."""
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
    for module in list(twin.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))
    return twin


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

    def advance(self, samples: Tensor, valid: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `CTCModel.advance`; the frames are those of whole chunks."""
        log_probs, out = [], []
        while frames := valid.size(1):
            chunks, step = next((n, step) for n, step in self.steps.items() if n * self.chunk <= frames)
            now = chunks * self.chunk
            y, there, state = step(samples[:, : now * self.hop], valid[:, :now], state)
            log_probs.append(y)
            out.append(there)
            samples, valid = samples[:, now * self.hop :], valid[:, now:]
        return (y, there, state) if len(out) == 1 else (torch.cat(log_probs, dim=1), torch.cat(out, dim=1), state)


def onnx_step(system: Trained, start: SpeechState, chunks: int, small: bool) -> Step:
    """A step of ONNX Runtime. What is exported is kept in the folder `engines` of the run, if that can be written.

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
    path = system.folder / "engines" / kept(system, chunks, ".onnx")
    if path.exists():
        content = path.read_bytes()
    else:
        _tell("onnx", path)
        content = export.checked_step(system, start, chunks).SerializeToString()
        _keep(path, content, f"step-{chunks}-*.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a stream waits for audio most of the time
    options.log_severity_level = 3
    try:
        content = int8.quantised(content) if small else content
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # those of protobuf and ONNX Runtime have no class in common
        raise UserError(f"ONNX Runtime cannot use {path}; if it is damaged, delete it: {export.first_line(error)}") from error
    session._model_bytes = None  # a second copy of the weights, for a change of provider
    outputs = [value.name for value in session.get_outputs()]

    def step(samples: Tensor, valid: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        given = {"samples": samples, "valid": valid, **state}
        log_probs, out, *after = session.run(outputs, {name: tensor.numpy() for name, tensor in given.items()})
        return torch.from_numpy(log_probs), torch.from_numpy(out), dict(zip(state, map(torch.from_numpy, after)))

    return step


def compiled_step(system: Trained, start: SpeechState, chunks: int) -> Step:
    """A step that torch has compiled for this machine, its weights packed. It is kept in the user's own cache, which torch has
    in `~/.cache/torch`: a run's folder may come from elsewhere, and this file is code. Else as `onnx_step`, see there."""
    from torch._inductor.exc import InductorError  # takes a second

    place = hashlib.sha256(os.fsencode(system.folder.resolve())).hexdigest()[:16]
    path = Path(torch.hub.get_dir()).with_name("speech_attention") / place
    path /= kept(system, chunks, ".pt2", machine.environment()["cpu"], torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        if not path.exists():
            _tell("compiled", path)
            made = Path(folder) / "step.pt2"
            inputs, shapes = exported.example(system.model, start, chunks)
            module = exported.Step(system.model, start).eval().requires_grad_(False)
            try:
                program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=shapes)
            except Exception as error:  # somebody else's attention does what torch cannot trace, of whatever class that is
                raise UserError(f"torch.export cannot export the model of {system.folder}: {export.first_line(error)}") from error
            try:
                with torch.no_grad():
                    torch._inductor.aoti_compile_and_package(program, package_path=str(made), inductor_configs={"freezing": True})
            except InductorError as error:
                raise UserError(
                    f"--engine compiled needs a C++ compiler (Debian: apt install g++): {export.first_line(error)}"
                ) from error
            path = _keep(path, made.read_bytes(), f"step-{chunks}-*.pt2") or made
        try:
            run = torch._inductor.aoti_load_package(str(path))
        except RuntimeError as error:
            raise UserError(f"torch cannot use {path}; if it is damaged, delete it: {export.first_line(error)}") from error

    def step(samples: Tensor, valid: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        given = samples, valid, *state.values()
        log_probs, out, *after = run(*(tensor.contiguous() for tensor in given))  # compiled code takes that for granted
        return log_probs, out, dict(zip(state, after))

    return step


def kept(system: Trained, chunks: int, ending: str, *also: object) -> str:
    """The name of the file of a step of so many chunks. It changes with configuration, weights, code, and `also`."""
    digest = hashlib.sha256(f"{json.dumps(system.config, sort_keys=True, default=str)}{torch.__version__}{also}".encode())
    code = {*Path(speech_attention.__path__[0]).rglob("*.py"), Path(exported.__file__)}
    code |= {Path(inspect.getfile(type(module))) for module in system.model.modules()}  # somebody else's attention, too
    for path in sorted(code):
        digest.update(path.read_bytes())
    for tensor in system.model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"step-{chunks}-{digest.hexdigest()[:16]}{ending}"


def _tell(engine: str, path: Path) -> None:
    """Say why nothing is heard for a while."""
    print(f"--engine {engine} makes {path.name}, once: this may take minutes", file=sys.stderr, flush=True)


def _keep(path: Path, content: bytes, outdated: str) -> Path | None:
    """Write a file, and remove those that it replaces. None where that is not possible: the next start makes it again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content)
        for old in set(path.parent.glob(outdated)) - {path}:
            old.unlink(missing_ok=True)
    except OSError:
        return None
    return path
