"""Training steps and streaming at the size of the papers, with random weights and noise: nothing is trained.

    python -m results.speed.paper_size           # measures what results/speed/paper_size.json lacks; takes about 11 GB of memory
    python -m results.speed.paper_size --scale mini --seconds 4 --repeats 1 --output mini.json
    python -m results.speed.paper_size --report  # measures nothing: tables and estimate of what is in the file

A step is what train.py does with one batch: forward, backward, clipping and optimiser, in pre-training and in CTC fine-tuning
(without speed perturbation, which would change the length). Its floating-point operations are counted, and from them the time
on all of LibriSpeech is estimated. A stream goes through the recognizer in packets, in float32. All attentions are built in
one process and take turns, every round in another order; only times of the same round are compared.
"""

import argparse
import math
import sys
import tempfile
from functools import partial
from pathlib import Path

import speechbrain as sb
import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.recognizer import Recognizer
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.run_opts import RunOptions
from tqdm import tqdm

from recipes.command_line import Parser, UserError, exit_code
from recipes.LibriSpeech.tokens import LETTERS
from recipes.LibriSpeech.training.finetune import FinetuneBrain
from recipes.LibriSpeech.training.pretrain import PretrainBrain, Pretraining
from results.common import timing
from results.common.timing import count_flop, milliseconds, peak_bytes
from results.experiments import AT_PAPER_SIZE
from results.speed import paper_size_report

OUTPUT = Path(__file__).with_name("paper_size.json")
GROUPS = "finetune", "pretrain", "stream"
UTTERANCE = 12  # seconds, about the mean of LibriSpeech; a batch is as many as it takes
PACKETS_MS = 160, 640  # beside packets of one frame
STREAMED = 1.92  # seconds of a stream in each round: whole packets of all lengths
TEXT = "WHAT IS SAID DOES NOT MATTER HERE "


def make_batch(seconds):
    """Noise and characters, in utterances of about `UTTERANCE` seconds."""
    count = max(1, round(seconds / UTTERANCE))
    words = (TEXT * seconds)[: 10 * seconds // count].strip()  # 10 characters a second
    generator = torch.Generator().manual_seed(0)
    samples = 0.1 * torch.randn(count, seconds * SAMPLE_RATE // count, generator=generator)
    return [{"id": str(i), "sig": sig, "words": words, "targets": LETTERS.encode(words)} for i, sig in enumerate(samples)]


def make_brain(stage, name, utterances, options, folder):
    """The Brain of a stage, as train.py has it after the first line of `fit`."""
    hparams = AT_PAPER_SIZE[name].load(scale=options.scale, precision=options.precision, speed_perturb={"speeds": [100]})[0]
    hparams["output_folder"], model = folder / name, hparams["model"]
    if stage == "pretrain":
        modules = {"pretraining": Pretraining(model, hparams["objective"](front_end=model.front_end, dim=hparams["dim"]))}
    else:
        modules = {"model": model}
    kind = {"pretrain": PretrainBrain, "finetune": FinetuneBrain}[stage]
    data = DynamicItemDataset({u["id"]: {"duration": len(u["sig"]) / SAMPLE_RATE} for u in utterances})
    run_opts = RunOptions.from_dictionary({"device": options.device, "noprogressbar": True})
    brain = kind(stage, modules, hparams, run_opts, data, data)
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
    brain.modules.train()
    brain.step, brain.told = 1, math.inf  # nothing is told of how far training is
    return brain


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure_steps(stage, options):
    """Time, memory and operations of training steps, one cell for each attention."""
    utterances, subjects = make_batch(options.seconds), []
    with tempfile.TemporaryDirectory() as folder:
        for name in tqdm(AT_PAPER_SIZE, f"{stage}: first steps", unit="run", disable=not sys.stderr.isatty(), leave=False):
            brain, batch = make_brain(stage, name, utterances, options, Path(folder)), PaddedBatch(utterances)
            flop = count_flop(brain.fit_batch, batch)  # also the warm-up: from here on the optimiser has its state
            parameters = list(brain.modules.parameters())
            states = [state for optimizer in brain.optimizers_dict.values() for state in optimizer.state.values()]
            states = [t for state in states for t in state.values() if torch.is_tensor(t)]
            cell = {"group": stage, "variant": name, "parameters": sum(p.numel() for p in parameters)}
            cell |= {"epochs": brain.settings["epochs"], "batch_seconds": brain.settings["batch_seconds"], "gflop": flop / 1e9}
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)  # as where gradients add up: the peak is what comes on top
            cell |= {"held_mib": size([*parameters, *parameters, *states]) / 2**20}
            cell |= {"peak_mib": peak_bytes(options.device, brain.fit_batch, batch) / 2**20, "step_ms": []}
            subjects.append((brain, batch, cell))

        def step(subject):
            brain, batch, cell = subject
            cell["step_ms"].append(round(milliseconds(options.device, brain.fit_batch, batch), 3))

        timing.take_turns(subjects, options.repeats, stage, step)
    return [cell for *_, cell in subjects]


def feed(recognizer, samples, packet):
    """One stream, from its first packet on."""
    stream = recognizer.open()
    for piece in samples.split(packet):
        stream.feed(piece)
        recognizer.run([stream])


def measure_streams(_, options):
    """Declared look-ahead, state, and real-time factors, one cell for each attention."""
    samples, cells, subjects = 0.1 * torch.randn(int(STREAMED * SAMPLE_RATE), generator=torch.Generator().manual_seed(0)), [], []
    for name in AT_PAPER_SIZE:
        model = AT_PAPER_SIZE[name].load(scale=options.scale)[0]["model"].to(options.device).eval()
        frame_ms, budget = model.frame_ms, model.budget()
        cell = {"group": "stream", "variant": name, "frame_ms": frame_ms, "lookahead_ms": None, "total_ms": None}
        cells.append({**cell, "state_bytes": None, "rtf": {}})
        if budget is None:
            continue
        total, recognizer = sum(budget.values()), Recognizer(model, LETTERS.texts)
        lookahead = total - budget["window"] - budget["frame"]  # samples
        cells[-1].update(lookahead_ms=1000 * lookahead / SAMPLE_RATE, total_ms=1000 * total / SAMPLE_RATE)
        cells[-1].update(state_bytes=recognizer.state_bytes, rtf={f"{ms:g}": [] for ms in (frame_ms, *PACKETS_MS)})
        subjects.append((recognizer, cells[-1]["rtf"]))
        feed(recognizer, samples[: SAMPLE_RATE // 4], model.front_end.hop)  # warm-up

    def stream(subject):
        recognizer, factors = subject
        for packet_ms, values in factors.items():
            took = milliseconds(options.device, feed, recognizer, samples, int(float(packet_ms) * SAMPLE_RATE / 1000))
            values.append(round(took / 1000 / STREAMED, 5))

    timing.take_turns(subjects, options.repeats, "streams", stream)
    return cells


def fill(path, options):
    """Measure what is missing in a file."""
    results, commit = timing.begin(
        path, {key: getattr(options, key) for key in ("scale", "device", "threads", "precision", "seconds")}
    )
    for group in options.only or GROUPS:
        if options.again or {cell["variant"] for cell in results["cells"] if cell["group"] == group} != set(AT_PAPER_SIZE):
            cells = (measure_streams if group == "stream" else measure_steps)(group, options)
            others = [cell for cell in results["cells"] if cell["group"] != group]
            cells = others + [{**cell, "commit": commit} for cell in cells]
            results["cells"] = sorted(cells, key=lambda cell: GROUPS.index(cell["group"]))
            timing.save(path, results)


def command(arguments):
    """Measure and print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="default: all")
    parser.add_argument("--scale", default="base", help="of hparams/scale; default: %(default)s")
    parser.add_argument("--seconds", type=timing.positive, default=4, help="of audio in a training batch; default: %(default)s")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of training; default: %(default)s")
    parser.add_argument("--repeats", type=timing.positive, default=3, help="rounds; default: %(default)s")
    timing.add_options(parser, output=OUTPUT)
    options = parser.parse_args(arguments)
    if options.device == "cpu" and options.precision == "fp16":
        raise UserError("fp16 needs a GPU: use --precision bf16 or fp32")
    if not options.report:
        fill(options.output, options)
    with timing.measured(options.output) as results:
        print(paper_size_report.text(results))


main = partial(exit_code, command, interrupted="stopped: the same command goes on from what is in the file")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
