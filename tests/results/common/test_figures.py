"""One colour for each attention in all figures, which readers who see colours differently can tell apart."""

import ast
import doctest
import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import is_color_like, to_rgb

from results import experiments
from results.common import figures

RESULTS = Path(figures.__file__).parents[1]
PALETTE = [value for value, _ in figures.ATTENTIONS.values()]
SIGHT = {  # Machado, Oliveira and Fernandes 2009, at severity 1; of linear RGB
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def seen(value, sight):
    """CIE L*a*b* of a colour as somebody sees it."""
    rgb = np.array(to_rgb(value))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart(sight):
    for one, other in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(seen(one, sight) - seen(other, sight)) > 15


def test_words_in_colour_can_be_read():
    assert figures.contrast(figures.PAPER) == 1 and figures.contrast("#000000") == pytest.approx(21)
    for value in (*PALETTE, figures.INK, figures.GREY):
        assert figures.contrast(figures.for_text(value)) >= 4.5


def test_an_attention_has_its_colour_whatever_it_is_called():
    for name, (value, _) in figures.ATTENTIONS.items():
        assert figures.colour(name) == value
    of = {
        "aa": "AA",
        "sa": "SA",
        "maa": "MAA",
        "llsa": "LLSA",
        "summary_mixing": "SummaryMixing",
        "shared_attention": "shared maps",
    }
    other = {"chunk-mask": "chunk mask", "aa-relative": "relative positions"}
    for cell in (cell for scale in experiments.SCALES for cell in experiments.at_scale(scale)):
        assert figures.colour(cell.title) == figures.colour(other.get(cell.name, of[cell.yaml]))
    for name, variant in (item for group in experiments.VARIANTS.values() for item in group.items()):
        kind = "relative positions" if variant.options.get("positions") == "relative" else variant.kind.__name__
        shared = variant.share > 1 or variant.options.get("role") == "follower"
        assert figures.colour(name) == figures.colour("shared maps" if shared else kind)
    assert figures.colour("FOSSA") == figures.GREY not in PALETTE


def test_examples():
    found = doctest.testmod(figures)
    assert found.attempted >= 3 and found.failed == 0


def literals(tree):
    """The colours and colour maps that a module names, and the single letters that it uses as a colour."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 1:
            if is_color_like(node.value) and node.value != "none" or node.value in matplotlib.colormaps:
                yield node.value
        letter = isinstance(node, ast.keyword) and "color" in (node.arg or "") and getattr(node.value, "value", None)
        if isinstance(letter, str) and len(letter) == 1:
            yield letter


def test_drawing_modules_take_their_colours_from_here():
    code = "axes.plot(x, y, 'o-', color='k'); draw(cmap='viridis', edge='#123456', face=['tab:red', 'beige'])"
    assert sorted(literals(ast.parse(code))) == ["#123456", "beige", "k", "tab:red", "viridis"]
    drawing = [path for path in RESULTS.rglob("*.py") if "matplotlib" in path.read_text() and path.parent.name != "common"]
    assert {f"{path.parent.name}/{path.name}" for path in drawing} >= {
        "attention/figures.py", "comparison/figures.py", "latency/depth.py", "latency/wer_delay.py", "speed/figure.py",
    }  # fmt: skip
    assert {path: found for path in drawing if (found := list(literals(ast.parse(path.read_text()))))} == {}
