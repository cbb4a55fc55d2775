"""One streaming step of a trained system, from samples to CTC log-probabilities, as an ONNX model that needs no torch.

    pip install -e '.[export]'
    python -m recipes.LibriSpeech.inference.export EXPERIMENT_FOLDER MODEL.onnx

The model is a function: `samples`, `valid` and every `state.*` go in, `log_probs`, `valid_out` and every `next.*` come out.
Its metadata (JSON values) say the rest. With an `onnxruntime.InferenceSession` of it, and `audio`, floats at `sample_rate`:

    said = session.get_modelmeta().custom_metadata_map
    meta = {name: json.loads(said[name]) for name in ("hop", "chunk", "lead", "flush", "state")}
    hop, chunk = meta["hop"], meta["chunk"]
    if audio.dtype.kind != "f" or audio.ndim != 1 or not (np.abs(audio) <= 1e6).all():
        raise ValueError("audio must be the samples of one channel, (samples,), floats of full scale 1")
    state = {s["name"]: np.full((1, *s["shape"]), s["initial"], s["dtype"]) for s in meta["state"]}
    frames = -(-len(audio) // hop)
    steps = -(-(meta["lead"] + frames + meta["flush"]) // chunk)
    samples, valid = np.zeros((1, steps * chunk * hop), np.float32), np.zeros((1, steps * chunk), bool)
    samples[0, meta["lead"] * hop :][: len(audio)] = audio
    valid[0, meta["lead"] :][:frames] = True
    for step in range(steps):
        feeds = {"samples": samples[:, step * chunk * hop :][:, : chunk * hop], "valid": valid[:, step * chunk :][:, :chunk]}
        values = session.run(None, {**feeds, **state})
        outputs = dict(zip([output.name for output in session.get_outputs()], values))
        state = {name: outputs["next." + name.removeprefix("state.")] for name in state}
        yield outputs["log_probs"][0][outputs["valid_out"][0]]  # the frames that came out, (0 .. chunk, tokens)

So: before a stream's first frame go `lead` frames, and after its last one at least `flush` frames (`flush_steps` steps), that
are not valid and whose samples are zeros; with them all its frames come out, in order, none of them twice. The last frame is
filled up with zeros. Live, a step is run whenever `chunk` frames have been heard; `latency_ms` is the time from a frame's first
sample to the last one that it waits for. The rows of a batch are streams that know nothing of each other: one that is to begin
later gets steps that are not valid, and a row is used again by setting it to its initial state. That is zeros but for
`position`, the number of the next frame, of which only differences matter. Text: the best token of each frame, repetitions
merged, `blank` left out, and the `tokens` that remain joined; each word begins with a space, or after a token that is one.

`quantize` in the metadata names what can be quantised: weights of linear layers with eight bits, a quarter of their size. The
filterbank cannot, it would destroy the text, and convolutions over the waveform are left alone with it.

    from onnxruntime.quantization import quantize_dynamic

    session = onnxruntime.InferenceSession("MODEL.onnx")
    how = json.loads(session.get_modelmeta().custom_metadata_map["quantize"])
    quantize_dynamic("MODEL.onnx", "SMALL.onnx", **how)

The same driver drives it. Activations are then rounded by the largest one of the batch: its rows are no longer independent.
"""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import SpeechState
from speech_attention.streaming import named_tensors, state_bytes

from recipes import files, machine
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.inference.step import EXACT, OPSET, step_proto

LARGEST = 2**31 - 2**20
"""Bytes of weights in one file: protobuf reads less than 2 GiB, and what they are for takes some of it."""


def metadata(system: loading.Trained, start: SpeechState, nodes: Iterable[Any]) -> dict[str, Any]:
    """What one must know to drive the model, beside its inputs and outputs: plain values for JSON by name.

    Arguments
    ---------
    system : Trained
    start : dict
        State of one stream before its first frame.
    nodes : iterable of onnx.NodeProto
        Of its step.

    Returns
    -------
    dict
    """
    encoder, hop, config = system.model.encoder, system.model.front_end.hop, experiment.identity(system.config)
    state, environment = [], machine.environment()
    exact = [node.name for node in nodes if any(name.startswith(EXACT) for name in node.input)]
    for name, tensor in named_tensors(start, "state.").items():
        (initial,) = tensor.unique().tolist() or [0]
        dtype = str(tensor.dtype).removeprefix("torch.")
        state.append({"name": name, "shape": list(tensor.shape[1:]), "dtype": dtype, "initial": initial})
    return {
        "tokens": list(system.tokens.texts),
        "blank": 0,
        "sample_rate": SAMPLE_RATE,
        "hop": hop,  # samples of a frame
        "chunk": encoder.layout.chunk,  # frames of a step
        "lead": encoder.lead,  # frames that are not valid before the first one
        "flush": encoder.lookahead,  # and after the last one
        "flush_steps": math.ceil(encoder.lookahead / encoder.layout.chunk),
        "latency_ms": 1000 * (system.model.lookahead + hop) / SAMPLE_RATE,
        "state": state,
        "quantize": {"op_types_to_quantize": ["MatMul"], "nodes_to_exclude": exact},
        "experiment": config["name"],
        "config_hash": experiment.config_hash(config),
        "source": {name: environment[name] for name in ("git", "versions")},
    }


def export(folder: Path, path: Path) -> str:
    """Write one streaming step of an experiment as an ONNX model, whole or not at all.

    Arguments
    ---------
    folder : Path
        Of the experiment, as train.py leaves it.
    path : Path
        The file to write.

    Returns
    -------
    str
        What it has become, in three lines.

    Raises
    ------
    UserError
        If there is no such experiment, its attention has no streaming form, it is too large or does what torch cannot export,
        the file cannot be written, or onnx or onnxscript are not installed.
    """
    if path.suffix != ".onnx":
        raise UserError(f"{path} is no name of an ONNX model: give one that ends in .onnx")
    system = loading.load(folder)
    try:
        start = system.recognizer().start
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    model = checked_step(system, start)
    import onnx

    meta = metadata(system, start, model.graph.node)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in meta.items()})
    model.doc_string, model.producer_version = __doc__, torch.__version__
    onnx.checker.check_model(model)
    files.write_bytes(path, model.SerializeToString())
    chunk, hop = meta["chunk"], meta["hop"]
    return (
        f"{path}: {path.stat().st_size / 2**20:.1f} MiB, opset {OPSET}\n"
        f"inputs: samples (batch, {chunk * hop}), valid (batch, {chunk}), and {len(meta['state'])} tensors of state, "
        f"{state_bytes(start) / 2**10:.0f} KiB for each stream\n"
        f"frames of {1000 * hop / SAMPLE_RATE:.0f} ms, {chunk} in a step; lead of {meta['lead']}, flush of {meta['flush']} "
        f"({meta['flush_steps']} steps); latency {meta['latency_ms']:.0f} ms"
    )


def checked_step(system: loading.Trained, start: SpeechState, chunks: int = 1) -> Any:
    """`step_proto` of a system, or a UserError that says why there is none."""
    if (weights := state_bytes(system.model.state_dict())) > LARGEST:
        raise UserError(f"{system.folder}: its model has {weights / 2**30:.1f} GiB of weights, an ONNX file less than 2 GiB")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401  (torch.onnx needs both)
    except (ImportError, TypeError, AttributeError) as error:  # the latter two where protobuf is too old or too new for it
        raise UserError(f"the export needs onnx and onnxscript ({error}): pip install -e '.[export]'") from error
    try:
        return step_proto(system.model, start, chunks)
    except torch.onnx.OnnxExporterError as error:  # a block or an attention of somebody else does what torch cannot trace
        reason = first_line(error.__cause__ or error)
        raise UserError(f"torch.onnx cannot export the model of {system.folder}; transcribe.py can use it: {reason}") from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return str(error).strip().partition("\n")[0]


def run(arguments: Sequence[str]) -> None:
    """Export what the options say."""
    parser = Parser(description="One streaming step of a trained system as ONNX.")
    parser.add_argument("folder", type=Path, help="of the experiment, e.g. results/runs/llsa-mini-embedded-seed1")
    parser.add_argument("model", type=files.to_write, help="the file to write, e.g. llsa.onnx")
    options = parser.parse_args(arguments)
    print(export(options.folder, options.model))


def main(arguments: Sequence[str]) -> int:
    """Export; 0, or 2 after one line about what the user can mend."""
    return exit_code(run, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
