"""One of the two processes of `results.speed.against`: does what it is asked for with the code of one commit, and times it.

The file itself is today's in both processes, so it uses only what the earlier code has as well. It reads lines of JSON with a
`subject` and a number of `calls`, and answers each with a line: how long a call took and what came out, see `measure`.
"""

import json
import math
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import torch
from speech_attention.front_end import SAMPLE_RATE
from torch.profiler import ProfilerActivity, profile

from recipes.LibriSpeech import experiment

UTTERANCE = 12  # seconds of the longest utterance of a batch


def load(scale, yaml):
    return experiment.load(experiment.HPARAMS / f"{yaml}.yaml", f"scale: {scale}")[0]


def train(scale, yaml, options):
    """A call is one step of CTC fine-tuning on noise: forward, backward, clipping, optimiser. It returns the loss."""
    import speechbrain as sb
    from speechbrain.dataio.batch import PaddedBatch
    from speechbrain.dataio.dataset import DynamicItemDataset
    from speechbrain.utils.run_opts import RunOptions

    from recipes.LibriSpeech.training.finetune import FinetuneBrain

    count = max(1, options["seconds"] // UTTERANCE)
    longest = options["seconds"] * SAMPLE_RATE // count
    samples = [0.1 * torch.randn(int(longest * (1 - i / 40))) for i in range(count)]
    words = "WHAT IS SAID DOES NOT MATTER HERE " * longest
    spoken = [words[: len(sig) * 10 // SAMPLE_RATE] for sig in samples]  # 10 characters a second
    targets = [torch.tensor([1 + ord(letter) % 28 for letter in text]) for text in spoken]  # as many as there are letters
    rows = enumerate(zip(samples, spoken, targets))
    batch = [{"id": str(i), "sig": sig, "words": text, "targets": numbers} for i, (sig, text, numbers) in rows]
    hparams = load(scale, yaml)
    hparams["output_folder"] = Path(tempfile.mkdtemp(dir=options["folder"]))
    data = DynamicItemDataset({one["id"]: {"duration": len(one["sig"]) / SAMPLE_RATE} for one in batch})
    run_opts = RunOptions.from_dictionary({"device": options["device"], "noprogressbar": True})
    brain = FinetuneBrain("finetune", {"model": hparams["model"]}, hparams, run_opts, data, data)
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
    brain.modules.train()
    brain.step, brain.told = 1, math.inf  # nothing is told of how far training is
    batch = PaddedBatch(batch)
    return lambda: float(brain.fit_batch(batch))


def stream(scale, yaml, options):
    """A call feeds the recognizer one more frame of an endless stream of noise. It returns the mean of the scores."""
    from speech_attention.recognizer import Recognizer

    model = load(scale, yaml)["model"].to(options["device"]).eval()
    recognizer, scores = Recognizer(model, ["A"] * model.head.out_features), {}
    model.head.register_forward_hook(lambda module, inputs, output: scores.update(last=output))
    one = recognizer.open()

    def call():
        one.feed(0.1 * torch.randn(model.front_end.hop))
        recognizer.run([one])
        return float(scores["last"].mean())

    for _ in range(int(model.encoder.lookahead) + 2):  # from here on each frame that goes in brings one out
        call()
    return call


@cache
def make(subject, options):
    torch.manual_seed(0)
    kind, scale, yaml = subject.split("-", 2)
    return {"train": train, "stream": stream}[kind](scale, yaml, dict(options))


def measure(subject, calls, count, options):
    """Time `calls` calls of a subject, which is made at the first one.

    Returns
    -------
    dict
        `ms` and `cpu_ms`, wall clock and processor time of a call; `value`, what the last one returned; with `count` also
        `operators`, how many operators of torch the next call runs, forward and backward.
    """
    call = make(subject, tuple(options.items()))
    torch.manual_seed(0)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        value = call()  # a number: on a GPU, too, all is done
    answer = {"ms": 1000 * (time.perf_counter() - start) / calls, "cpu_ms": 1000 * (time.process_time() - cpu) / calls}
    answer["value"] = value
    if count:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            call()
        answer["operators"] = sum(event.name().startswith("aten::") for event in profiler.profiler.kineto_results.events())
    return answer


def serve(options):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    torch.set_num_threads(options["threads"])
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line), options=options)), file=answers, flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
