"""The figures of an analysis: `python -m results.attention.figures` draws them again from each analysis.json.

`results.attention.measure` draws them too, and maps.png with them, for which it needs the maps themselves: a few
megabytes that no file keeps. Drawing needs matplotlib (`pip install -e '.[figures]'`).
"""

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from recipes.command_line import Parser, exit_code
from recipes.files import content_of
from recipes.LibriSpeech.data.dataset import spread
from results.attention.phones import GROUPS
from results.common.figures import GREY, INK, OVER_AND_UNDER, PALE, PAPER, SCALE, WIDTH, colour, for_text, plain, save, spread_out

SHOWN = 4  # layers and heads that have panels of their own, at most
NAMES = ("diagonality", "similarity", "maps", "phones", "probe")


def draw(result: dict, shown: tuple | None, folder: Path) -> list[str]:
    """Draw what there is, and delete the figures of which there is nothing.

    Arguments
    ---------
    result : dict
        What `results.attention.measure` writes to analysis.json.
    shown : tuple or None
        Maps (layers, heads, T, T) of one utterance; its words and its phones: (label, start, end), in frames. None leaves
        maps.png as it is, where the result has maps.
    folder : Path

    Returns
    -------
    list of str
        The names of the files.
    """
    maps, value, figures = result.get("maps"), colour(result["attention"]), {}
    if maps:
        figures = {"diagonality": draw_diagonality(maps, value), "similarity": draw_similarity(maps["similarity"])}
        if shown:
            figures["maps"] = draw_maps(*shown, result["frame_ms"])
        if "phones" in maps:
            figures["phones"] = draw_phones(maps["phones"])
    if "probe" in result:
        figures["probe"] = draw_probe(result["probe"], value)
    for name in NAMES:
        if name in figures:
            save(figures[name], folder / f"{name}.png")
        elif name != "maps" or not maps:  # drawn with other options
            (folder / f"{name}.png").unlink(missing_ok=True)
    return [f"{name}.png" for name in NAMES if name in figures]


def label(axes: Axes, entries: list[tuple[float, str, str]], gap: float) -> None:
    """Write (value, text, colour) to the right of the axes, at the height of the value or as near as there is room."""
    low, high = axes.get_ylim()
    places = spread_out({text: (value - low) / (high - low) for value, text, _ in entries}, gap)
    for _, text, color in entries:
        axes.text(1.02, places[text], text, transform=axes.transAxes, va="center", color=for_text(color), fontsize=10)


def draw_diagonality(maps: dict, value: str) -> Figure:
    """Above, attention up to a distance, a line for each head, in a panel for each layer; below, the areas under all lines."""
    found = maps["diagonality"]
    layers = len(found["heads"])
    references = {"window": ("uniform over what\na frame sees", "--"), "uniform": ("uniform over\nthe utterance", ":")}
    if found["window"] - found["uniform"] < 1e-3:
        del references["window"]
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1))
    chosen = spread(range(layers), SHOWN)
    panels = above.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    for axes, layer in zip(map(plain, panels), chosen):
        for name, (_, style) in references.items():
            axes.plot(found["distances"], found[f"cumulative_{name}"], style, color=GREY, linewidth=1.5)
        for line in found["cumulative"][layer]:
            axes.plot(found["distances"], line, color=value, linewidth=1.5)
        axes.set_title(f"layer {layer + 1}", fontsize=10)
        axes.set(xlim=(0, max(1, found["distances"][-1])), ylim=(0, 1))
    panels[0].set_ylabel("attention up\nto a distance")
    above.supxlabel(f"distance in frames, of {maps['frames'] - 1}; a line for each head", fontsize=10)
    axes = plain(below.subplots())
    for layer, heads in enumerate(found["heads"]):
        axes.plot([layer + 1] * len(heads), heads, "o", color=value, fillstyle="none", markersize=7, markeredgewidth=1.5)
    for name, (_, style) in references.items():
        axes.axhline(found[name], linestyle=style, color=GREY, linewidth=1.5)
    axes.set(xticks=range(1, layers + 1), xlim=(0.5, layers + 0.5))
    axes.set_ylabel("diagonality:\nthe area under a line")
    axes.set_xlabel("layer; a circle for each head")
    label(axes, [(found[name], f"{words}: {found[name]:.3f}", GREY) for name, (words, _) in references.items()], gap=0.2)
    return figure


def draw_similarity(overlap: list[list[float]]) -> Figure:
    """A heat map of the overlap of each two layers."""
    layers = len(overlap)
    size = min(WIDTH, 2.2 + 0.55 * layers)
    figure = Figure(figsize=(size, 0.85 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(overlap, cmap=SCALE, vmin=0, vmax=1)
    for row in range(layers):
        for column in range(layers):
            value = overlap[row][column]
            over = PAPER if value > 0.5 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=over, fontsize=10 if layers < 9 else 8)
    names = range(1, layers + 1)
    axes.set(xticks=range(layers), yticks=range(layers), xticklabels=names, yticklabels=names, xlabel="layer", ylabel="layer")
    axes.set_title("attention that two layers have\nin common (1: equal maps)", fontsize=11, color=INK)
    figure.colorbar(image, shrink=0.8)
    return figure


def draw_maps(maps: Tensor, words: list, phones: list, frame_ms: float) -> Figure:
    """One panel for each layer and head, at most 4 x 4 of them; grey lines where words end."""
    layers, heads = (spread(range(number), SHOWN) for number in maps.shape[:2])
    figure = Figure(figsize=(WIDTH, 1.75 * len(layers) + 0.9), layout="constrained")
    panels = figure.subplots(len(layers), len(heads), sharex=True, sharey=True, squeeze=False)
    chosen, time = maps[layers][:, heads], maps.size(-1)
    norm, shades = PowerNorm(0.5, vmin=0, vmax=np.quantile(chosen, 0.999)), matplotlib.colormaps[SCALE].resampled(32)
    middles = {number: (start + end) / 2 / time for number, (_, start, end) in enumerate(words)}
    places = {number: time * place for number, place in sorted(spread_out(middles, gap=0.08).items())} if words else {}
    for row, layer in enumerate(layers):
        for column, head in enumerate(heads):
            axes = panels[row, column]
            image = axes.imshow(chosen[row, column], shades, norm, extent=(0, time, time, 0), interpolation="nearest")
            for _, _, end in words:
                axes.axvline(end, color=PALE, linewidth=0.7)
                axes.axhline(end, color=PALE, linewidth=0.7)
            axes.set_xticks([end for _, _, end in phones], minor=True)
            axes.set_yticks([end for _, _, end in phones], minor=True)
            axes.tick_params(which="minor", length=3, color=GREY)
            if words:
                axes.set_yticks(list(places.values()), [word.lower() for word, *_ in words], fontsize=8)
                axes.tick_params(axis="y", which="major", length=0)
            axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
    ends = "; lines: ends of words, ticks: of phones" if words else ""
    figure.supxlabel(f"attended frame, {frame_ms:g} ms each{ends}", fontsize=10)
    figure.supylabel("attending frame", fontsize=10)
    figure.colorbar(image, ax=panels, location="top", aspect=40, shrink=0.6, label="weight (darker: more)", extend="max")
    return figure


def draw_phones(phones: dict) -> Figure:
    """Attention between phones in the first, the middle and the last layer, and a list of the phones."""
    lift, names = phones["lift"], phones["names"]
    layers = sorted({0, (len(lift) - 1) // 2, len(lift) - 1})
    blocks = {}
    for name in names:
        blocks.setdefault(group(name), []).append(name)
    starts = np.cumsum([0, *map(len, blocks.values())])
    figure = Figure(figsize=(WIDTH, WIDTH - 0.3), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    for place, (axes, layer) in enumerate(zip(panels, layers)):
        logs = [[math.nan if value is None else math.log2(max(value, 1e-3)) for value in row] for row in lift[layer]]
        image = axes.imshow(logs, cmap=OVER_AND_UNDER, vmin=-2, vmax=2, interpolation="nearest")
        axes.set_facecolor(PALE)
        for border in starts[1:-1]:
            axes.axvline(border - 0.5, color=INK, linewidth=0.7)
            axes.axhline(border - 0.5, color=INK, linewidth=0.7)
        middles = (starts[1:] + starts[:-1] - 1) / 2
        axes.set_xticks(middles, blocks, fontsize=9, rotation=90)
        axes.set_yticks(middles, blocks if place % 2 == 0 else [""] * len(blocks), fontsize=9)
        axes.tick_params(length=0)
        axes.set_title(f"layer {layer + 1}", fontsize=11)
    for axes in panels[len(layers) :]:
        axes.set_axis_off()
    figure.supxlabel("attended phone", fontsize=10)
    figure.supylabel("attending phone", fontsize=10)
    legend(figure, panels[3], image, blocks)
    return figure


def legend(figure: Figure, axes: Axes, image: AxesImage, blocks: dict[str, list[str]]) -> None:
    """What colours and blocks of the figure of the phones mean."""
    bar = figure.colorbar(image, cax=axes.inset_axes((0.0, 0.9, 1.0, 0.05)), orientation="horizontal", extend="both")
    bar.set_ticks(range(-2, 3), labels=["1/4", "1/2", "1", "2", "4"])
    bar.set_label("attention to a phone, over that\nof a map without preferences", fontsize=10)
    lines = [("in grey", "fewer than 1,000 pairs of frames")]
    for name, phones in blocks.items():
        rows = [" ".join(phones[first : first + 9]) for first in range(0, len(phones), 9)]
        lines += zip([name] + [""] * (len(rows) - 1), rows)
    for place, (name, words) in enumerate(lines):
        y = 0.58 - 0.068 * place
        axes.text(0.0, y, name, transform=axes.transAxes, fontsize=9, weight="bold", color=INK)
        axes.text(0.4, y, words, transform=axes.transAxes, fontsize=9, color=INK)


def group(phone: str) -> str:
    """The manner of a phone, a key of `phones.GROUPS`, or `others`."""
    return next((name for name, phones in GROUPS.items() if phone in phones.split()), "others")


def draw_probe(found: dict, value: str) -> Figure:
    """On the left the accuracy of the first layer where labels are shifted in time; on the right that of each layer."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    left, right = map(plain, figure.subplots(1, 2, sharey=True, width_ratios=(2, 3)))
    shifts, layers = found["shifted"]["shifts"], range(1, len(found["trained"]) + 1)
    left.plot(shifts, found["shifted"]["layer_1"], "o-", color=value)
    left.axvline(0, linestyle=":", color=GREY)
    left.set(xlabel="layer 1, labels shifted by frames", ylabel="phones found, % of frames", xticks=shifts)
    right.plot(layers, found["trained"], "o-", color=value)
    right.plot(layers, found["untrained"], "s--", color=GREY)
    for name in ("filterbanks", "most_frequent"):
        right.axhline(found[name], linestyle=":", color=GREY)
    right.set(xlabel="layer", xticks=layers, ylim=(0, None))
    before, after = found["filterbank_context_ms"]
    entries = [
        (found["trained"][-1], "trained", value),
        (found["untrained"][-1], "random weights", GREY),
        (found["filterbanks"], f"filterbanks,\n−{before:g} to +{after:g} ms", GREY),
        (found["most_frequent"], "most frequent\nphone", GREY),
    ]
    label(right, entries, gap=0.11)
    return figure


def command(arguments: Sequence[str]) -> None:
    """Draw the figures of each analysis.json again."""
    Parser(description=__doc__.split("\n")[0]).parse_args(arguments)
    for path in sorted(Path(__file__).parent.glob("*/analysis.json")):
        with content_of(path) as run:
            print(f"{path.parent.name}: {', '.join(draw(run, None, path.parent))}")


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
