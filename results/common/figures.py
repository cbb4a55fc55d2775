"""What the figures share: writing them, and labels that keep apart."""

import io

import numpy as np
from PIL import Image

from recipes.files import write_bytes


def save(figure, path):
    """Write a figure as PNG, unless the file has these pixels already."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, dpi=120, facecolor="white")
    Image.open(raw).convert("RGB").quantize(128).save(small, "png", optimize=True)  # a third of the size
    if not path.exists() or not np.array_equal(pixels(small), pixels(path)):
        write_bytes(path, small.getvalue())


def pixels(file):
    """(height, width, 3)"""
    return np.asarray(Image.open(file).convert("RGB"))


def spread_out(wanted, gap):
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
