"""An hour of audio through one stream: nothing grows, nothing slows down, and the last frames are still right.

    python -m results.latency.soak results/runs/llsa-mini-embedded-seed1 --minutes 60
    python -m results.latency.soak results/runs/llsa-mini-embedded-seed1 --engine onnx --int8

The utterances of the test set come one after the other, over and over again, in packets of one frame. In each tenth of the
time these are noted: the bytes of the stream's state, the memory of the process, and the time to compute after a packet that
brought frames.

At the end the last log-probabilities are compared with those of an offline pass over as much of the last audio as they can
depend on. They must be equal to 1e-4 in float32: a frame remembers nothing older, so that rounding cannot add up, and the
angles of positions are float64. The same is asked of a second stream that crosses frame 2**32 + 2**31 (8 years of 40 ms),
where a count of 32 bits has overflowed. (Angles of float64 would be off by 1e-4 from frame 2**40 on.) Where any of this
fails, the exit code is 1. Weights of eight bits are further from the offline pass; there the distance is noted, and no failure.
"""

import copy
import itertools
import math
import os
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import CTCModel
from speech_attention.position import ConvolutionalPosition, PositionState, Sinusoids
from speech_attention.recognizer import Recognizer
from speech_attention.streaming import named_tensors, state_bytes
from tqdm import tqdm

from recipes import files, machine, text_table
from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.data.dataset import load_split
from recipes.LibriSpeech.inference import engines, loading
from recipes.LibriSpeech.inference.loading import Trained
from results.common import origin

FAR = 2**32 + 2**31  # a frame that the second stream crosses
COMPARED = 100  # frames at the end whose outputs are compared with an offline pass
TOLERANCE = 1e-4  # largest distance between their log-probabilities
GROWTH_MIB = 4  # that the process may grow after the first tenth
SLOWER = 1.5  # times that the median frame of the last tenth may take, over that of the second
LONGEST = 10 * 365 * 24 * 3600  # seconds
RESULTS = Path(__file__).with_name("soaks")


def packets(data: Sequence[dict], size: int) -> Iterator[torch.Tensor]:
    """The utterances of a set, one after the other and over again, as packets of `size` samples; endless."""
    rest = torch.zeros(0)
    for index in itertools.cycle(range(len(data))):
        rest = torch.cat([rest, data[index]["sig"]])
        whole = len(rest) // size
        yield from rest[: whole * size].view(whole, size)
        rest = rest[whole * size :]


def memory_frames(model: CTCModel) -> float:
    """How many earlier frames an output frame can depend on; infinity if on all of them."""
    past, position = -(-(model.front_end.window - model.front_end.hop) // model.front_end.hop), model.encoder.position
    if isinstance(position, ConvolutionalPosition):
        past += -(-position.left * len(position.ahead) // model.encoder.pool)
    for block in model.encoder.blocks:
        past += block.attention.left_context + model.encoder.layout.chunk - 1
        past += block.convolution.kernel_size - 1 if hasattr(block, "convolution") else 0
    return past


def resident_mib() -> float:
    """Memory of this process now, in MiB; where the system does not say, the most that it was."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return machine.peak_memory_mib()
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Later(torch.nn.Module):
    """`Sinusoids` of whole utterances that begin at a later frame than the first."""

    lookahead = 0

    def __init__(self, sinusoids: Sinusoids, first: int):
        super().__init__()
        self.sinusoids, self.first = sinusoids, first

    def forward(self, x: torch.Tensor, valid: torch.Tensor, state: None) -> tuple[torch.Tensor, torch.Tensor, PositionState]:
        return self.sinusoids(x, valid, {"frames": torch.full((len(x), 1), self.first)})


class Soak:
    """One stream of a system, in packets of one frame.

    Arguments
    ---------
    recognizer : Recognizer
    audio : iterator of torch.Tensor
        Packets (hop,).
    frames : int
        Packets in all.
    first : int
        The number of the first frame, a multiple of the chunk.

    Attributes
    ----------
    tenths : list of dict
        What was seen in each tenth of the frames.
    """

    def __init__(self, recognizer: Recognizer, audio: Iterator[torch.Tensor], frames: int, first: int = 0):
        self.model, self.audio, self.frames, self.tenths = recognizer.model, audio, frames, []
        self.engine, self.stream = recognizer.engine, recognizer.open()
        self.stream.state, self.first = copy.deepcopy(self.stream.state), first
        for name, tensor in named_tensors(self.stream.state).items():  # in whatever form the engine keeps it
            if name.endswith("encoder.position"):
                tensor += first
            elif name.endswith("position_state.frames"):
                tensor += first * self.model.encoder.pool
        self.outputs = deque(maxlen=COMPARED)  # log-probabilities of the last frames
        self.needed = memory_frames(self.model) + COMPARED + self.model.encoder.lookahead
        self.start = max(0, frames - self.needed) // self.model.encoder.layout.chunk * self.model.encoder.layout.chunk
        self.heard = deque(maxlen=frames - self.start)  # the packets from frame `start` on

    def run(self) -> "Soak":
        """Feed all the frames; returns self."""
        self.stream.recognizer.engine = self
        bounds = [self.frames * tenth // 10 for tenth in range(11)]
        with tqdm(total=self.frames, desc="streaming", unit="frame", disable=None, leave=False) as bar:
            for first, last in itertools.pairwise(bounds):
                self.tenths.append(self._feed(last - first, bar))
        self.stream.recognizer.engine = self.engine
        return self

    def advance(self, *inputs):
        """A step of the engine, whose outputs are kept."""
        y, valid, state = self.engine.advance(*inputs)
        self.outputs.extend(y[valid])
        return y, valid, state

    def _feed(self, count, bar):
        """The next `count` packets: what there was to see."""
        seconds, largest = [], 0
        for packet in itertools.islice(self.audio, count):
            self.heard.append(packet)
            begin, before = time.process_time(), self.stream.frames
            self.stream.feed(packet)
            self.stream.recognizer.run([self.stream])
            if self.stream.frames > before:
                seconds.append(time.process_time() - begin)
            largest = max(largest, state_bytes(self.stream.state))
            bar.update()
        median, p99 = 1000 * np.percentile(seconds, [50, 99])
        times = {"compute_median_ms": round(float(median), 3), "compute_p99_ms": round(float(p99), 3)}
        return {"state_bytes": largest, "resident_mib": round(resident_mib(), 2), **times}

    @torch.inference_mode()
    def difference(self) -> float:
        """The largest distance of the last log-probabilities from those of an offline forward over the last audio."""
        audio, encoder = torch.cat(list(self.heard))[None], self.model.encoder
        position = encoder.position
        if isinstance(position, Sinusoids):
            encoder.position = Later(position, (self.first + self.start) * encoder.pool)
        log_probs, _ = self.model(audio, torch.tensor([audio.size(1)]))
        encoder.position = position
        compared, last = min(COMPARED, self.stream.frames), self.stream.frames - self.start
        return float((torch.stack(list(self.outputs)[-compared:]) - log_probs[0, last - compared : last]).abs().max())


def measure(system: Trained, data: Sequence[dict], minutes: float, engine: str = "torch", int8: bool = False) -> dict:
    """Soak a system in the utterances of a set for so many minutes of audio: a dict of what was found."""
    recognizer = engines.recognizer(system, engine, int8)
    hop, chunk = system.model.front_end.hop, system.model.encoder.layout.chunk
    frames = round(minutes * 60 * SAMPLE_RATE / hop)
    soak = Soak(recognizer, packets(data, hop), frames).run()
    first = FAR - 2 * soak.needed + system.model.encoder.lookahead + COMPARED // 2  # FAR is among the frames compared
    far = Soak(recognizer, packets(data, hop), 2 * soak.needed, first // chunk * chunk).run()
    return {
        "engine": engine,
        "int8": int8,
        "minutes": minutes,
        "frames": frames,
        "initial_state_bytes": recognizer.state_bytes,
        "tenths": soak.tenths,
        "offline_frames": frames - soak.start,
        "difference": soak.difference(),
        "far": {"first_frame": first // chunk * chunk, "difference": far.difference()},
    }


def failures(result: dict) -> list[str]:
    """A line for each thing that grew, slowed down or drifted."""
    first, second, *_, last = tenths = result["tenths"]
    state = max(tenth["state_bytes"] for tenth in tenths)
    growth = max(tenth["resident_mib"] for tenth in tenths) - first["resident_mib"]
    slower = last["compute_median_ms"] / second["compute_median_ms"]
    tolerance = math.inf if result.get("int8") else TOLERANCE
    differences = {"at the end": result["difference"], "far from frame 0": result["far"]["difference"]}
    found = {
        f"the state grew from {result['initial_state_bytes']} to {state} bytes": state != result["initial_state_bytes"],
        f"memory grew by {growth:.1f} MiB after the first tenth": growth > GROWTH_MIB,
        f"the last tenth is {slower:.2f} times as slow as the second": slower > SLOWER,
        **{f"{where}, outputs are {x:.1e} from offline ones": not x <= tolerance for where, x in differences.items()},
    }
    return [line for line, there in found.items() if there]


def run(options: Namespace) -> dict:
    """The whole result for the options of the command line."""
    folder = Path(options.experiment)
    if not 10 <= options.minutes * 60 <= LONGEST:
        raise UserError(f"--minutes {options.minutes:g} must be from 10 s to 10 years")
    system = loading.load(folder)
    if not system.streams or math.isinf(memory_frames(system.model)):
        raise UserError(f"{folder}: its attention has no streaming form, or remembers all of the past: nothing to compare with")
    manifest, data = load_split(folder, system.config, data_folder=options.data_folder)
    result = measure(system, data, options.minutes, options.engine, options.int8)
    result["failures"] = failures(result)
    return origin.described(result, "results.latency.soak", options, system, manifest)


def command(arguments: Sequence[str]) -> int:
    """Print what was found and write it; 0, or 1 if something failed."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment", metavar="FOLDER", help="of a trained experiment")
    parser.add_argument("--minutes", type=float, default=60, help="of audio; default: 60")
    engines.add_options(parser)
    parser.add_argument("--data_folder", help="a LibriSpeech tree; default: that of the experiment")
    parser.add_argument("--output", type=files.to_write, metavar="JSON", help="default: results/latency/soaks/<run, engine>.json")
    options = parser.parse_args(arguments)
    engines.check(options.engine, options.int8)
    result = run(options)
    engine = "" if options.engine == "torch" else f"-{options.engine}{'-int8' * options.int8}"
    output = options.output or RESULTS / f"{result['experiment']}{engine}.json"
    RESULTS.mkdir(exist_ok=True)
    files.write_json(output, result)
    print(f"{result['experiment']}: {result['minutes']:g} minutes of {result['split']}, {result['frames']} frames\n")
    print(text_table.table([{"tenth": number, **tenth} for number, tenth in enumerate(result["tenths"], 1)]))
    print(f"\ndistance from offline, after {result['frames']} frames: {result['difference']:.1e}")
    print(f"distance from offline, from frame {result['far']['first_frame']} on: {result['far']['difference']:.1e}\n\n{output}")
    print("".join(f"failed: {line}\n" for line in result["failures"]), end="", file=sys.stderr)
    return 1 if result["failures"] else 0


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
