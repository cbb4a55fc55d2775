"""The latency budget of experiments, declared and measured.

    python -m results.latency.budget hparams/llsa.yaml hparams/sa.yaml --scale base --hop_ms 20

The latency of a frame is the time from its first sample to the last sample that must be there before the frame comes out. It is
that of the worst frame, and it leaves out the time to compute. The modules declare it stage by stage (`SpeechEncoder.budget`);
packets of `hop_ms` add the wait for the next packet.

It is measured twice. A gradient finds which samples one output frame depends on. A stream finds when each frame comes out,
for the first `GROUPS` groups of frames or for one period of the packets. The gradient sees a single frame, and it cannot see
a path that has no gradient. Therefore the outputs of a stream, which cannot look ahead, must also equal those of an offline
pass, for several lengths and levels of noise. Where any of this differs, the exit code is 1.
"""

import argparse
import copy
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import SpeechEncoder
from speech_attention.streaming import state_bytes

from recipes import files, machine, text_table
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech import experiment

STAGES = {
    "window": "window of the features",
    "frame": "subsampling: the frame itself",
    "position": "positions before the first block",
    "chunk": "attention: chunk",
    "attention": "attention: look-ahead",
    "convolution": "convolution",
    "hop": "packets",
}
GROUPS = 50  # groups of frames that are streamed, at the least
SIGNALS = ((0.3, 1.0), (1.5, 1000.0), (3.0, 0.01))  # seconds and level of the noise on which stream and offline pass are compared
EQUAL = 1e-8  # largest distance between them, in float64


def packet_wait(latency: int, period: int, packet: int) -> int:
    """The longest wait for the end of a packet. Group g of frames can be computed once g * period + latency samples are there.

    Arguments
    ---------
    latency, period, packet : int
        Samples.

    Returns
    -------
    int
        Samples.

    Example
    -------
    >>> packet_wait(latency=3200, period=640, packet=640), packet_wait(latency=3200, period=640, packet=1000)
    (0, 960)
    """
    groups = packet // math.gcd(packet, period)  # after so many groups the deadlines fall on the same places again
    return max(-(group * period + latency) % packet for group in range(groups))


@torch.no_grad()
def stream(model: SpeechEncoder, packet: int, frames: int, limit: int) -> tuple[int | None, int]:
    """Feed noise to one stream until `frames` frames came out, or until it heard `limit` samples.

    Arguments
    ---------
    model : SpeechEncoder
    packet, frames, limit : int
        Samples of each step, frames, samples.

    Returns
    -------
    latency : int or None
        The most samples that a frame needed: those from its first sample on that were fed when it came out. None if fewer than
        `frames` frames came out.
    size : int
        Bytes of the largest state.
    """
    generator = torch.Generator().manual_seed(0)
    state, fed, done, latency, largest = model.initial_state(1), 0, 0, 0, 0
    while done < frames and fed < limit:
        y, state = model.step(torch.randn(1, packet, generator=generator), state)
        fed += packet
        if y.size(1):  # of the frames that come out together, the first has waited longest
            latency = max(latency, fed - done * model.front_end.hop)
        done, largest = done + y.size(1), max(largest, state_bytes(state))
    return latency if done >= frames else None, largest


@torch.no_grad()
def offline_difference(model: SpeechEncoder, packet: int = 4000) -> float:
    """The largest distance between the outputs of a stream and of an offline pass, in float64, over `SIGNALS`."""
    model, largest = copy.deepcopy(model).double(), 0.0
    for seconds, level in SIGNALS:
        generator = torch.Generator().manual_seed(0)
        samples = level * torch.randn(1, int(seconds * SAMPLE_RATE), generator=generator, dtype=torch.float64)
        state, outputs = model.initial_state(1), []
        for piece in samples.split(packet, dim=1):
            y, state = model.step(piece, state)
            outputs.append(y)
        streamed = torch.cat([*outputs, model.flush(state)], dim=1)
        offline, _ = model(samples, torch.tensor([samples.size(1)]))
        if streamed.shape != offline.shape:
            return math.inf
        largest = max(largest, float((streamed - offline).abs().max()))
    return largest


def measure(path: str | Path, overrides: str = "", hop_ms: float | None = None) -> dict:
    """The budget of one experiment.

    Arguments
    ---------
    path : str or Path
        YAML of an attention.
    overrides : str
        YAML, see `experiment.load`.
    hop_ms : float or None
        Length of the packets; None: one frame.

    Returns
    -------
    dict
        Times are in ms, and None stands for the whole utterance. `declared_ms` holds the stages and `total_ms` their sum.
        `gradient_ms` is to equal the sum without packets, and `streamed_ms` the whole sum. `attention_ms` is the look-ahead
        of the attention alone. `state_bytes` is the size of a stream's state. Where all that agrees, `offline_difference` is
        the distance between the outputs of a stream and of an offline pass.
    """
    hparams, config = experiment.load(path, overrides)
    model = hparams["model"].eval()
    frame, chunk = model.front_end.hop, model.encoder.layout.chunk
    packet = frame if hop_ms is None else samples_of(hop_ms)
    latency, budget = model.latency(), model.budget()
    result = {
        "experiment": str(path), "scale": config["scale"], "frame_ms": ms(frame), "hop_ms": ms(packet),
        "declared_ms": None, "total_ms": None, "attention_ms": latency["attention_ms"],
        "gradient_ms": latency["measured_ms"], "streamed_ms": None, "state_bytes": None, "offline_difference": None,
    }  # fmt: skip
    if budget is not None:
        total = sum(budget.values())
        budget["hop"] = packet_wait(total, chunk * frame, packet)
        frames = chunk * max(GROUPS, packet // math.gcd(packet, chunk * frame))
        streamed, result["state_bytes"] = stream(model, packet, frames, limit=2 * (frames * frame + total + packet))
        result["streamed_ms"] = None if streamed is None else ms(streamed)
        result["declared_ms"] = {stage: ms(samples) for stage, samples in budget.items()}
        result["total_ms"] = ms(sum(budget.values()))
        if not disagreements(result):
            result["offline_difference"] = offline_difference(model)
    return result


def ms(samples: int) -> float:
    """Samples at 16 kHz in ms."""
    return 1000 * samples / SAMPLE_RATE


def samples_of(hop_ms: float) -> int:
    """The samples of a packet."""
    samples, longest = hop_ms * SAMPLE_RATE / 1000, 10_000
    if not (1 <= samples <= longest * SAMPLE_RATE / 1000 and samples.is_integer()):
        raise UserError(f"--hop_ms {hop_ms:g} must be whole samples, multiples of {ms(1)}, and at most {longest}")
    return int(samples)


def disagreements(result: dict) -> list[str]:
    """One line for each measurement that is not what is declared."""
    total, lines = result["total_ms"], []
    read = None if total is None else total - result["declared_ms"]["hop"]
    if result["gradient_ms"] != read:
        lines.append(f"declared {_words(read)}, measured {_words(result['gradient_ms'])} (gradient)")
    if result["streamed_ms"] != total:
        measured = _words(result["streamed_ms"], none="nothing that comes out")
        lines.append(f"declared {_words(total)}, measured {measured} (streamed)")
    difference = result["offline_difference"]
    if difference is not None and not difference <= EQUAL:
        lines.append(f"what streams is {difference:.1e} from what is computed offline: something looks ahead")
    return [f"{result['experiment']}: {line}" for line in lines]


def _words(latency, none="the whole utterance"):
    return none if latency is None else f"{latency} ms"


def table(results: list[dict]) -> str:
    """The budgets as text: one row for each stage, one column for each experiment."""

    def row(name, values):
        return {"latency in ms": name, **{result["experiment"]: value for result, value in zip(results, values)}}

    def or_utterance(key):
        return ["utterance" if result[key] is None else result[key] for result in results]

    stages = [result["declared_ms"] or {"attention": "utterance"} for result in results]
    return text_table.table(
        [
            *(row(words, [stage.get(name) for stage in stages]) for name, words in STAGES.items()),
            row("declared, in all", or_utterance("total_ms")),
            row("measured by gradient, without packets", or_utterance("gradient_ms")),
            row("measured in a stream", [result["streamed_ms"] for result in results]),
            row("length of the packets", [result["hop_ms"] for result in results]),
            row("state of a stream, bytes", [result["state_bytes"] for result in results]),
        ]
    )


def command(arguments: Sequence[str]) -> int:
    """Print the budgets; 0, or 1 if declared and measured disagree."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", metavar="YAML", help="e.g. hparams/llsa.yaml")
    parser.add_argument("--scale", help="of hparams/scale; default: that of the YAML")
    parser.add_argument("--hop_ms", type=float, help="length of the packets that audio comes in; default: one frame")
    parser.add_argument("--output", type=files.to_write, metavar="JSON", help="write the results to this file too")
    options = parser.parse_args(arguments)
    overrides = "" if options.scale is None else f"scale: {json.dumps(options.scale)}"
    results = [measure(path, overrides, options.hop_ms) for path in dict.fromkeys(options.experiments)]
    if options.output:
        files.write_json(options.output, {"results": results, "environment": machine.environment()})
    print(table(results) + "\n")
    for result in results:
        ahead, total = _words(result["attention_ms"]), _words(result["total_ms"])
        print(f"{result['experiment']}: attention look-ahead {ahead}, in all {total}")
    wrong = [line for result in results for line in disagreements(result)]
    print("".join(f"disagreement: {line}\n" for line in wrong), end="", file=sys.stderr)
    return 1 if wrong else 0


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
