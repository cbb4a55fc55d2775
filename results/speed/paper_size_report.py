"""What results/speed/paper_size.json says: the headlines, and what the same training would cost on all of LibriSpeech.

Every number is computed from the cells of the file, but for those of `GPUS`, `UTILISATION` and `HOURS`, which are named
wherever they enter. Ratios are those of the same round, and their median.
"""

import json

import numpy as np

from recipes.text_table import table

BASELINE = "AA"
QUARTILES = [0.25, 0.5, 0.75]
HOURS = {"pretrain": 960, "finetune": 100}  # LibriSpeech: all of train-*, and train-clean-100
WORDS = {"pretrain": "pre-training", "finetune": "fine-tuning"}
GPUS = {  # FLOP/s in bfloat16, dense, as published
    "H100 SXM": (989.4e12, "NVIDIA H100 Tensor Core GPU Architecture, white paper, 2022"),
    "A100 SXM": (312e12, "NVIDIA A100 Tensor Core GPU, data sheet, 2021"),
}
UTILISATION = 0.3  # assumed


def find(results):
    """The cells of a file by (group, variant)."""
    return {(cell["group"], cell["variant"]): cell for cell in results["cells"]}


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
    for name in dict.fromkeys(cell["variant"] for cell in results["cells"]):
        stream, row = cells.get(("stream", name)), {"attention": name}
        row["look-ahead"] = _lookahead(stream)
        step = cells.get(("finetune", name))
        row["parameters"] = f"{step['parameters'] / 1e6:.2f} M" if step else "missing"
        row["training step"] = _step(cells, name)
        row["memory beyond what is held"] = _peak(cells, name)
        for ms in packets:
            row[f"real-time factor, {ms} ms"] = _factor(stream, ms)
        row["state"] = f"{stream['state_bytes'] / 2**20:.1f} MiB" if stream and stream["state_bytes"] else ""
        rows.append(row)
    return rows


def _lookahead(stream):
    if stream is None:
        return "missing"
    return "utterance" if stream["lookahead_ms"] is None else f"{stream['lookahead_ms'] / 1000:.2f} s"


def _step(cells, name, group="finetune"):
    """Median and quartiles: of the baseline in ms, of the others as ratios."""
    cell, baseline = cells.get((group, name)), cells.get((group, BASELINE))
    if cell is None or baseline is None:
        return "missing"
    if name == BASELINE:
        low, middle, high = np.quantile(cell["step_ms"], QUARTILES)
        return f"{middle:.0f} ms [{low:.0f}, {high:.0f}]"
    low, middle, high = np.quantile(np.divide(cell["step_ms"], baseline["step_ms"]), QUARTILES)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _peak(cells, name, group="finetune"):
    cell, baseline = cells.get((group, name)), cells.get((group, BASELINE))
    if cell is None or baseline is None:
        return "missing"
    return f"{cell['peak_mib']:.0f} MiB" if name == BASELINE else f"{cell['peak_mib'] / baseline['peak_mib']:.2f}"


def _factor(stream, ms):
    if stream is None:
        return "missing"
    if not stream["rtf"]:
        return "no streaming form"
    low, middle, high = np.quantile(stream["rtf"][ms], QUARTILES)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


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
    for name in dict.fromkeys(cell["variant"] for cell in results["cells"]):
        stages = [cells.get((stage, name)) for stage in HOURS]

        def both(function):
            return " + ".join("missing" if cell is None else _digits(function(cell)) for cell in stages)

        row = {"attention": name, "GFLOP a second of audio": both(lambda cell: cell["gflop"] / seconds)}
        for gpu in GPUS:
            row[f"hours of one {gpu}"] = both(lambda cell: gpu_hours(cell, seconds, gpu))
        row["GiB of each GPU"] = both(lambda cell: memory_gib(cell, seconds))
        row["step here, s"] = both(lambda cell: np.median(cell["step_ms"]) / 1000)
        row["GFLOP/s in it"] = both(lambda cell: 1000 * cell["gflop"] / np.median(cell["step_ms"]))
        rows.append(row)
    return rows


def _digits(value):
    """Three of them, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def conditions(results):
    """One sentence: on what, and of what, the numbers are."""
    environment = results["environment"]
    where = environment["gpu"] if results["device"] == "cuda" else f"{environment['cpu']}, {results['threads']} threads"
    rounds = sorted({len(cell["step_ms"]) for cell in results["cells"] if "step_ms" in cell}) or ["no"]
    return (
        f"Scale `{results['scale']}`, random weights, {where}, torch {environment['versions']['torch']}; steps of "
        f"{results['seconds']} s of audio in {results['precision']}, {' or '.join(map(str, rounds))} rounds, "
        "median [quartiles], over AA."
    )


def arithmetic(results):
    """How the estimate is made, in one paragraph."""
    stages = {stage: cell for stage in HOURS for cell in results["cells"] if cell["group"] == stage}
    data = ", ".join(f"{WORDS[stage]} {cell['epochs']} epochs of {HOURS[stage]} h" for stage, cell in stages.items())
    batches = ", ".join(f"{WORDS[stage]} {cell['batch_seconds']:g} s" for stage, cell in stages.items())
    peaks = "; ".join(f"{name} {peak / 1e12:g} TFLOP/s ({source})" for name, (peak, source) in GPUS.items())
    return (
        "An ESTIMATE, nothing of this size was run: hours = operations counted in one step, by second of audio, times the "
        f"seconds of audio in all epochs ({data}; no padding, no validation), over a GPU's published peak in bfloat16 times an "
        f"assumed utilisation of {UTILISATION:.0%}. {peaks}. Memory: what is held (weights, gradients, AdamW's state), and "
        f"what a step here made beyond it, in {results['precision']}, times batch over batch ({batches})."
        " Where two numbers stand, pre-training + fine-tuning."
    )


def table_of(path, markdown):
    """README's table of headlines, with its conditions; `markdown` makes one of rows."""
    return _of(path, lambda results: f"{conditions(results)}\n\n{markdown(step_rows(results))}")


def estimate_of(path, markdown):
    """README's estimate, with its arithmetic."""
    return _of(path, lambda results: f"{arithmetic(results)}\n\n{markdown(estimate_rows(results))}")


def _of(path, words):
    return words(json.loads(path.read_text()))


def report(results):
    """All of it as text."""
    parts = [conditions(results), table(step_rows(results))]
    return "\n\n".join([*parts, arithmetic(results), table(estimate_rows(results))])
