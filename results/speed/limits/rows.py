"""The table of limits: of each row what is measured, what is to be reached, whether it is, and what bounds it if not.

A figure is a median with its quartiles: a ratio of two times of the same round, or milliseconds. `reach` is an aim of this
project or, for a peer, that it is not slower than that; a row without one is there to compare with.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from results.common.timing import find, in_words, measured_on, quartiles
from results.speed import against

Cells = dict[tuple, dict]


class Row(NamedTuple):
    """A row of the table.

    Arguments
    ---------
    words : str
        What is measured.
    figure : callable
        Takes the cells of limits.json and of against.json; returns three quartiles. KeyError: not measured.
    reach : float or None
        The figure is to be at most this.
    unit : str
        Behind the figure; a ratio has none.
    bound : str
        What bounds the figure, where it is not reached: a sentence.
    """

    words: str
    figure: Callable[[Cells], np.ndarray]
    reach: float | None
    unit: str = ""
    bound: str = ""


class Ratio(NamedTuple):
    """Time of a variant over that of another one of its group, at one length."""

    group: str
    variant: str
    other: str
    frames: int

    def pair(self, cells, key):
        return [cells[self.group, name, self.frames][key] for name in (self.variant, self.other)]

    def __call__(self, cells):
        return quartiles(*self.pair(cells, "ms"))

    def operations(self, cells):
        """The same ratio of floating-point operations, in words."""
        one, other = self.pair(cells, "gflop")
        return f"{one / other:.2f}"


def ms(group, variant, frames):
    """Time of a packet of so many frames."""
    return lambda cells: quartiles(cells[group, variant, frames]["ms"])


def reading(group, variant, frames):
    """Time to read the weights of a variant from memory."""

    def figure(cells):
        memory = cells[group, "bandwidth"]
        return quartiles(memory["ms"]) * cells[group, variant, frames]["mib"] / memory["mib"]

    return figure


def before(group, yaml):
    """Time of today's code over that of the earlier one."""
    return lambda cells: against.ratio(cells[group, yaml])


def engine_over_before(scale, yaml, engine):
    """Time of an engine over that of torch with the earlier code: over torch with today's, times today's over the earlier one."""
    today = Ratio(f"{scale}-{yaml}", engine, "torch", 1)
    return lambda cells: today(cells) * before(f"stream-{scale}", yaml)(cells)[1]


def memory(variant):
    """Peak at 4,000 frames over that at 2,000."""
    return lambda cells: quartiles([cells["memory", variant, 4000]["peak_mib"]], [cells["memory", variant, 2000]["peak_mib"]])


ROWS = [
    Row(
        "training step, scale `cpu`, SA, over the earlier commit",
        before("train-cpu", "sa"),
        0.65,
        bound="Most of what is left are products of matrices: those of linear layers, of attention and of Muon.",
    ),
    Row("SA over AA, the core alone, 4 x 250 frames", Ratio("core-of-4", "SA", "AA", 250), 1.0),
    Row("SA over AA, the core alone, 1,000 frames", Ratio("core", "SA", "AA", 1000), 0.28),
    Row("SA over AA, the core alone, 2,000 frames", Ratio("core", "SA", "AA", 2000), 0.14),
    Row("SA over local-attention, the core alone, 1,000 frames", Ratio("core", "SA", "local-attention", 1000), 1.0),
    Row("SA over local-attention, the core alone, 2,000 frames", Ratio("core", "SA", "local-attention", 2000), 1.0),
    *(
        Row(
            f"LLSA, chunk {chunk}, over AA, 12 x 768, 400 frames",
            Ratio("stack", f"LLSA, chunk {chunk}", "AA", 400),
            aim,
            bound="Linear layers see (C + R) / C times the frames in all layers but the first and the last: see the operations.",
        )
        for chunk, aim in ((1, 6.5), (8, 1.5), (16, 1.2))
    ),
    Row(
        "Transformer block with AA over HuggingFace's wav2vec 2.0 layer",
        Ratio("transformer", "AA", "HuggingFace", 500),
        1.0,
        bound="Ours rotates queries and keys by their positions; theirs has no positions. All else is equal.",
    ),
    Row("the same with SA over the same without attention", Ratio("transformer", "SA", "no attention", 500), None),
    *(
        Row(
            f"Conformer with a chunk mask over {words}, {frames:,} frames",
            Ratio("conformer", "chunk mask", other, frames),
            aim,
            bound="Both have the same linear layers and convolution, nearly all of ours: see the row without attention.",
        )
        for other, words, aims in (
            ("SpeechBrain, RoPE", "SpeechBrain's with rotary positions", (0.85, 0.65)),
            ("SpeechBrain, relative", "SpeechBrain's with relative positions", (1.0, 1.0)),
            ("no attention", "the same without attention", (None, None)),
        )
        for frames, aim in zip((512, 1536), aims)
    ),
    Row(
        "LLSA, chunk 8, over torchaudio's Emformer, forward and backward",
        Ratio("emformer", "LLSA, chunk 8", "Emformer", 400),
        1.0,
    ),
    Row(
        "a step of LLSA, chunk 8, over `Emformer.infer`, two layers",
        Ratio("step", "LLSA, chunk 8", "Emformer", 8),
        1 / 1.2,
        bound="Most of both are the same linear layers; of the last one, ours computes half the frames.",
    ),
    *(
        Row(f"stream, 12 x 768, frame of {name}, {words} over torch with the earlier commit", figure, aim)
        for name, yaml, last in (("SA", "sa", None), ("LLSA", "llsa", 0.5))
        for words, figure, aim in (
            ("torch", before("stream-base", yaml), None),
            ("torch with packed weights", engine_over_before("base", yaml, "torch, packed"), None),
            ("ONNX Runtime", engine_over_before("base", yaml, "ONNX Runtime"), last),
        )
    ),
    *(
        Row(
            f"stream, 12 x 768, {words} of {name}, int8 by ONNX Runtime",
            ms(f"base-{name.lower()}", "ONNX Runtime, int8", frames),
            aim,
            " ms",
            bound="Products of eight bits, then the front end in float32, and what lies between: copies, norms, rounding.",
        )
        for name, frames, words, aim in (
            ("SA", 1, "frame", 9.0),
            ("LLSA", 1, "frame", 12.0),
            ("LLSA", 8, "packet of 160 ms", 25.0),
        )
    ),
    Row("the same: reading the weights from memory, float32", reading("base-llsa", "ONNX Runtime", 1), None, " ms"),
    Row("the same: reading the weights from memory, int8", reading("base-llsa", "ONNX Runtime, int8", 1), None, " ms"),
    *(
        Row(
            f"stream, mini, packet of 40 ms of {name}, {words} over torch with the earlier commit",
            figure,
            aim,
            bound="Hundreds of small operators, each of which takes longer to begin than to compute.",
        )
        for name, yaml in (("SA", "sa"), ("LLSA", "llsa"))
        for words, figure, aim in (
            ("torch", before("stream-mini", yaml), 0.6),
            ("ONNX Runtime", engine_over_before("mini", yaml, "ONNX Runtime"), 0.2),
        )
    ),
    *(
        Row(
            f"memory of {variant}, 4,000 over 2,000 frames",
            memory(variant),
            2.1,
            bound="Whole blocks of queries, as in 4,000 frames but not in 2,000, keep one copy more; beside that it is linear.",
        )
        for variant in ("SA", "SummaryMixing", "LLSA, chunk 3")
    ),
]
"""All rows, those that this project aims at in the order of its layers, its blocks and its streams."""


def cells_of(results, earlier):
    """All cells that rows take: those of limits.json and, where it is there and has as many threads, of against.json."""
    return find(results) | (find(earlier) if earlier and earlier["threads"] == results["threads"] else {})


def figure(row, cells):
    """The quartiles of a row; None if it is not measured."""
    try:
        return row.figure(cells)
    except KeyError:
        return None


def verdict(row, quartiles):
    """In a word: reached, behind, not measured, or nothing where there is no aim."""
    if quartiles is None:
        return "not measured"
    return "" if row.reach is None else "reached" if quartiles[1] <= row.reach else "behind"


def table_rows(cells):
    """The rows as dicts for a table."""
    found = [(row, figure(row, cells)) for row in ROWS]
    return [
        {
            "what": row.words,
            "operations": _operations(row, cells),
            "here": in_words(three, 2 if not row.unit else 1, row.unit) if three is not None else "",
            "to reach": "" if row.reach is None else f"{row.reach:.2f}" if not row.unit else f"{row.reach:.1f}{row.unit}",
            "verdict": verdict(row, three),
            "what bounds it": row.bound if verdict(row, three) == "behind" else "",
        }
        for row, three in found
    ]


def _operations(row, cells):
    try:
        return row.figure.operations(cells)
    except (AttributeError, KeyError):  # it has none, or is not measured
        return ""


def count(cells):
    """How many of the rows that have an aim are reached, and how many of them are measured."""
    words = [verdict(row, figure(row, cells)) for row in ROWS if row.reach is not None]
    return words.count("reached"), len(words) - words.count("not measured")


def conditions(results, cells):
    """What it was measured on, and how much of it is reached, in words."""
    reached, measured = count(cells)
    least = min(len(cell["ms"]) for cell in results["cells"] if "ms" in cell)
    rounds = f"{least} rounds or more" if least > 1 else "one round or more"
    return (
        f"Measured with random weights on {measured_on(results)}: medians [quartiles] of {rounds}. Figures "
        "without a unit are ratios of times, or of memory; `operations` is the same ratio of floating-point operations. "
        f"Of {measured} aims that are measured, {reached} are reached."
    )
