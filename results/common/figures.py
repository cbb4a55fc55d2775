"""What all figures share: one colour for each attention, labels that keep apart, and how a figure is written.

A figure of results/ takes its colours from here alone; a test reads the drawing modules and finds no other.
"""

import io
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from recipes.files import write_bytes

INK, GREY, PALE, PAPER = "#222222", "#6E6E6E", "#DADADA", "#FFFFFF"
"""Colours of words, of what is there to compare with, of lines and areas in the background, and of the paper."""
WIDTH = 7.6
"""The width of a figure, in inches of 120 pixels: as wide as a README is shown, so that letters keep their size."""
SCALE, OVER_AND_UNDER = "Greys", "RdBu_r"
"""Colour maps: from nothing (white) to much; from less than expected (blue) over as expected (white) to more (red)."""
ATTENTIONS = {
    "chunk mask": ("#E69F00", r"chunk.mask|look-ahead 0\b"),
    "shared maps": ("#CC79A7", r"shared|follower|a map for|by \d"),
    "relative positions": ("#882255", r"relative"),
    "SummaryMixing": ("#009E73", r"SummaryMixing"),
    "LLSA": ("#D55E00", r"\bLLSA\b"),
    "MAA": ("#56B4E9", r"\bMAA\b"),
    "SA": ("#0072B2", r"\bSA\b"),
    "AA": ("#000000", r"\bAA\b"),
}
"""Colours (of Okabe and Ito, and one of Tol) and the words that name the attention; the first that fits counts."""


def colour(words: str) -> str:
    """The colour of the attention that a name or a title speaks of, the same in all figures.

    Arguments
    ---------
    words : str
        Such as `SA`, or the title of a row of a table.

    Returns
    -------
    str
        As #RRGGBB; `GREY` for an attention that is not of this project.

    Example
    -------
    >>> colour("SA, 12 ahead in each layer") == colour("SA") != colour("sa-1920 run as LLSA")
    True
    >>> colour("AA, relative, a map for 2 layers") == colour("shared maps")
    True
    """
    return next((value for value, pattern in ATTENTIONS.values() if re.search(pattern, words)), GREY)


def for_text(value: str) -> str:
    """The colour, as dark as letters on white must be: a contrast of 4.5 or more (WCAG 2.1).

    Example
    -------
    >>> for_text(colour("SA")) == colour("SA").lower(), for_text(colour("chunk mask"))
    (True, '#9d6d00')
    """
    rgb = np.array(to_rgb(value))
    while contrast(rgb) < 4.5:
        rgb = 0.99 * rgb
    return to_hex(rgb)


def contrast(value: str | np.ndarray) -> float:
    """The contrast of a colour to white, from 1 (none) to 21 (black)."""
    rgb = np.array(to_rgb(value))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def plain(axes: Axes) -> Axes:
    """Remove the upper and the right line of the frame; returns the axes."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, unless the file has these pixels already."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, dpi=120, facecolor=PAPER)
    Image.open(raw).convert("RGB").quantize(128).save(small, "png", optimize=True)  # a third of the size
    if not path.exists() or not np.array_equal(pixels(small), pixels(path)):
        write_bytes(path, small.getvalue())


def pixels(file: Path | BinaryIO) -> np.ndarray:
    """The pixels of a picture, (height, width, 3)."""
    return np.asarray(Image.open(file).convert("RGB"))


def spread_out(wanted: dict, gap: float) -> dict:
    """Places near the wanted ones, in their order, at least `gap` apart and at most 1.

    Example
    -------
    >>> spread_out({"b": 0.5, "a": 0.5, "c": 1.0}, gap=0.25)
    {'b': 0.375, 'a': 0.625, 'c': 1.0}
    """
    names = sorted(wanted, key=wanted.get)
    up, down = ([wanted[name] for name in names] for _ in "ud")
    for i in range(1, len(names)):
        up[i] = max(up[i], up[i - 1] + gap)
    for i in reversed(range(len(names) - 1)):
        down[i] = min(down[i], down[i + 1] - gap)
    places = [(above + below) / 2 for above, below in zip(up, down)]
    excess = max(0.0, places[-1] - 1.0)
    return {name: place - excess for name, place in zip(names, places)}
