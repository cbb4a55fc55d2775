"""What results/speed/paper_size.json says: steps and streams, and what the same training would cost on all of LibriSpeech.

Every number is computed from the cells of the file, but for those of `GPUS`, `UTILISATION` and `HOURS`, which are named
wherever they enter. A ratio is the median of those of the same round.
"""

import numpy as np

from recipes.text_table import table
from results.common.markdown import lookahead
from results.common.timing import find, in_words, measured_on, quartiles, short
from results.experiments import BASELINE

HOURS = {"pretrain": 960, "finetune": 100}  # of LibriSpeech: all of train-*, and train-clean-100
WORDS = {"pretrain": "pre-training", "finetune": "fine-tuning"}
GPUS = {  # FLOP/s in bfloat16, dense, as published
    "H100 SXM": (989.4e12, "NVIDIA H100 Tensor Core GPU Architecture, white paper, 2022"),
    "A100 SXM": (312e12, "NVIDIA A100 Tensor Core GPU, data sheet, 2021"),
}
UTILISATION = 0.3  # assumed


def names(results):
    """The attentions, in the order of the file."""
    return list(dict.fromkeys(cell["variant"] for cell in results["cells"]))


def step_rows(results):
    """One row for each attention: look-ahead, training step and its memory, streaming; what is missing says so.

    Arguments
    ---------
    results : dict
        Of results/speed/paper_size.json.

    Returns
    -------
    list of dict
    """
    cells, rows = find(results), []
    packets = next((cell["rtf"] for cell in results["cells"] if cell.get("rtf")), [])
    for name in names(results):
        stream, row = cells.get(("stream", name)), {"attention": name}
        row["look-ahead"] = lookahead(stream["lookahead_ms"]) if stream else "missing"
        step = cells.get(("finetune", name))
        row["parameters"] = f"{step['parameters'] / 1e6:.2f} M" if step else "missing"
        row["training step"], row["memory beyond what is held"] = _step(step, cells.get(("finetune", BASELINE)))
        for ms in packets:
            row[f"real-time factor, {ms} ms"] = _factor(stream, ms)
        row["state"] = f"{stream['state_bytes'] / 2**20:.1f} MiB" if stream and stream["state_bytes"] else ""
        rows.append(row)
    return rows


def _step(cell, baseline):
    """Time and memory of a step: of the baseline in ms and MiB, of the others as ratios."""
    if cell is None or baseline is None:
        return "missing", "missing"
    if cell is baseline:
        return in_words(quartiles(cell["step_ms"]), 0, " ms"), f"{cell['peak_mib']:.0f} MiB"
    return in_words(quartiles(cell["step_ms"], baseline["step_ms"]), 2), f"{cell['peak_mib'] / baseline['peak_mib']:.2f}"


def _factor(stream, ms):
    """Time to compute a stream in packets of some ms, over the time that it lasts."""
    if stream is None:
        return "missing"
    return in_words(quartiles(stream["rtf"][ms]), 3) if stream["rtf"] else "no streaming form"


def gpu_hours(cell, seconds, gpu):
    """Hours that one GPU would take for all epochs of a stage on LibriSpeech. An estimate.

    Arguments
    ---------
    cell : dict
        Of the stage and attention.
    seconds : float
        Of audio, in which `gflop` were counted.
    gpu : str
        Key of `GPUS`.

    Returns
    -------
    float

    Example
    -------
    >>> cell = {"group": "finetune", "gflop": 989.4, "epochs": 3}  # 1e12 operations a second of audio, 300 h of it
    >>> round(gpu_hours(cell, 1, "H100 SXM"), 6)
    1.0
    """
    audio = HOURS[cell["group"]] * 3600 * cell["epochs"]
    return 1e9 * cell["gflop"] / seconds * audio / (GPUS[gpu][0] * UTILISATION) / 3600


def memory_gib(cell, seconds):
    """GiB on each GPU with the batch of the YAML. An estimate: what a step makes grows with the batch, what it holds does not."""
    return (cell["held_mib"] + cell["peak_mib"] * cell["batch_seconds"] / seconds) / 2**10


def estimate_rows(results):
    """One row for each attention: of pre-training + fine-tuning the operations, hours of one GPU, and the step here."""
    cells, rows, seconds = find(results), [], results["seconds"]
    for name in names(results):
        stages = [cells.get((stage, name)) for stage in HOURS]

        def both(function):
            return " + ".join("missing" if cell is None else short(function(cell), digits=3) for cell in stages)

        row = {"attention": name, "GFLOP a second of audio": both(lambda cell: cell["gflop"] / seconds)}
        for gpu in GPUS:
            row[f"hours of one {gpu}"] = both(lambda cell: gpu_hours(cell, seconds, gpu))
        row["GiB of each GPU"] = both(lambda cell: memory_gib(cell, seconds))
        row["step here, s"] = both(lambda cell: np.median(cell["step_ms"]) / 1000)
        row["GFLOP/s in it"] = both(lambda cell: 1000 * cell["gflop"] / np.median(cell["step_ms"]))
        rows.append(row)
    return rows


def conditions(results):
    """What the steps were measured on and with, and how the table shows them."""
    rounds = sorted({len(cell["step_ms"]) for cell in results["cells"] if "step_ms" in cell}) or ["no"]
    return (
        f"Measured at scale `{results['scale']}` with random weights on {measured_on(results)}. A step takes "
        f"{results['seconds']} s of audio in {results['precision']}. Shown are medians [quartiles] of "
        f"{' or '.join(map(str, rounds))} rounds. Time and memory of a step are in units in the row of {BASELINE}; "
        "in the other rows they are ratios to it."
    )


def arithmetic(results):
    """How the estimate is made, in one paragraph."""
    stages = {stage: cell for stage in HOURS for cell in results["cells"] if cell["group"] == stage}
    data = ", ".join(f"{WORDS[stage]} {cell['epochs']} epochs of {HOURS[stage]} h" for stage, cell in stages.items())
    batches = ", ".join(f"{WORDS[stage]} {cell['batch_seconds']:g} s" for stage, cell in stages.items())
    peaks = "; ".join(f"{name} {peak / 1e12:g} TFLOP/s ({source})" for name, (peak, source) in GPUS.items())
    return (
        "This is an ESTIMATE: no training of this size was run. Hours are the floating-point operations that were counted in "
        f"one step, for each second of audio, times the seconds of audio in all epochs ({data}; no padding, no validation), "
        f"divided by a GPU's published peak in bfloat16 times an assumed utilisation of {UTILISATION:.0%}. The peaks: {peaks}. "
        "Memory is what is held all the time (weights, gradients, AdamW's state), plus what a step here made beyond it, in "
        f"{results['precision']}, times the full batch over the batch here (full batches: {batches}). "
        "Where two numbers stand, the first is pre-training, the second fine-tuning."
    )


def text(results):
    """All of it for the terminal."""
    parts = [conditions(results), table(step_rows(results))]
    return "\n\n".join([*parts, arithmetic(results), table(estimate_rows(results))])
