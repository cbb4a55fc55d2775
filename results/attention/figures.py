"""The figures of results/analyse.py. Drawing needs matplotlib (`pip install -e '.[figures]'`)."""

import math

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from recipes.LibriSpeech.data.dataset import spread
from results.attention.phones import GROUPS

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"  # of Okabe and Ito, and one for what is expected of no content
SHOWN = 4  # layers and heads in the figure of the maps, at most


def draw(result, shown, folder):
    """Draw what there is; the names of the files.

    Arguments
    ---------
    result : dict
        As analyse.py writes it.
    shown : tuple or None
        Maps (layers, heads, T, T) of an utterance; its words and its phones: (label, start, end), in frames.
    folder : Path
    """
    maps, figures = result.get("maps"), {}
    if maps:
        figures = {"diagonality": draw_diagonality(maps), "similarity": draw_similarity(maps), "maps": draw_maps(*shown, result)}
        if "phones" in maps:
            figures["phones"] = draw_phones(maps["phones"])
    if "probe" in result:
        figures["probe"] = draw_probe(result["probe"])
    for name in ("diagonality", "similarity", "maps", "phones", "probe"):
        (folder / f"{name}.png").unlink(missing_ok=True)  # of other options
        if name in figures:
            figures[name].savefig(folder / f"{name}.png", dpi=120, facecolor="white")
    return [f"{name}.png" for name in figures]


def plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def label(axes, entries):
    """Write (value, text, colour) to the right of the axes, at the height of the value or as near as there is room."""
    low, high = axes.get_ylim()
    height = -math.inf
    for value, text, color in sorted(entries):
        height = max(value, height)
        axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), va="center", color=color, size=9)
        height += (high - low) * (0.03 + 0.045 * (text.count("\n") + 1))


def draw_diagonality(maps):
    """Cumulative attention by distance, a line for each head; its area, a dot for each head."""
    found = maps["diagonality"]
    layers = len(found["heads"])
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = map(plain, figure.subplots(1, 2))
    references = [("uniform", "uniform", ":")]
    if found["window"] - found["uniform"] > 1e-3:
        references.append(("window", "uniform over\nits window", "--"))
    for name, _, style in references:
        left.plot(found["distances"], found[f"cumulative_{name}"], style, color=GREY)
        right.axhline(found[name], linestyle=style, color=GREY)
    for layer, (heads, curves) in enumerate(zip(found["heads"], found["cumulative"])):
        color = matplotlib.colormaps["viridis"](0.85 * layer / max(1, layers - 1))
        left.plot(found["distances"], list(zip(*curves)), color=color, linewidth=1.2)
        right.plot([layer + 1] * len(heads), heads, "o", color=color, fillstyle="none")
    left.set(xlabel=f"distance in frames ({maps['frames'] - 1} at most)", ylabel="attention up to that distance")
    left.set(xlim=(0, max(1, found["distances"][-1])), ylim=(0, 1))
    right.set(xlabel="layer (colours as on the left), a circle for each head", ylabel="diagonality")
    right.set(xticks=range(1, layers + 1), xlim=(0.5, layers + 0.5))
    label(right, [(found[name], f"{words}\n{found[name]:.3f}", GREY) for name, words, _ in references])
    return figure


def draw_similarity(maps):
    """A heat map of the overlap of each two layers."""
    overlap, layers = maps["similarity"], len(maps["similarity"])
    figure = Figure(figsize=(2.5 + 0.5 * layers, 1.7 + 0.5 * layers), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(overlap, cmap="Blues", vmin=0, vmax=1)
    for row in range(layers):
        for column in range(layers):
            value = overlap[row][column]
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black", size=8)
    names = range(1, layers + 1)
    axes.set(xticks=range(layers), yticks=range(layers), xticklabels=names, yticklabels=names, xlabel="layer", ylabel="layer")
    axes.set_title("overlap of the attention maps", size=10)
    figure.colorbar(image, shrink=0.8)
    return figure


def draw_maps(maps, words, phones, result):
    """One panel for each layer and head, at most 4 x 4 of them."""
    layers, heads = (spread(range(number), SHOWN) for number in maps.shape[:2])
    figure = Figure(figsize=(2 * len(heads) + 1.4, 2 * len(layers) + 0.5), layout="constrained")
    panels = figure.subplots(len(layers), len(heads), sharex=True, sharey=True, squeeze=False)
    chosen, time = maps[layers][:, heads], maps.size(-1)
    norm, cmap = PowerNorm(0.5, vmin=0, vmax=np.quantile(chosen, 0.999)), matplotlib.colormaps["Greys"].resampled(32)
    for row, layer in enumerate(layers):
        for column, head in enumerate(heads):
            axes = panels[row, column]
            image = axes.imshow(chosen[row, column], cmap, norm, extent=(0, time, time, 0), interpolation="nearest")
            for _, _, end in words:
                axes.axvline(end, color=ORANGE, linewidth=0.5, alpha=0.5)
                axes.axhline(end, color=ORANGE, linewidth=0.5, alpha=0.5)
            axes.set_xticks([end for _, _, end in phones], minor=True)
            axes.set_yticks([end for _, _, end in phones], minor=True)
            axes.tick_params(which="minor", length=3, color=ORANGE)
            if words:
                axes.set_yticks([(start + end) / 2 for _, start, end in words], [word.lower() for word, *_ in words], size=7)
                axes.tick_params(axis="y", which="major", length=0)
            axes.set_title(f"layer {layer + 1}, head {head + 1}", size=9)
    figure.supxlabel(f"attended frame, {result['frame_ms']:g} ms each", size=10)
    figure.supylabel("attending frame", size=10)
    figure.colorbar(image, ax=panels, shrink=0.5, label="weight", extend="max")
    return figure


def draw_phones(phones):
    """log2 of the lift, for the first, the middle and the last layer."""
    lift, names = phones["lift"], phones["names"]
    layers = sorted({0, (len(lift) - 1) // 2, len(lift) - 1})
    figure = Figure(figsize=(10, 10), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    borders = [n for n in range(1, len(names)) if group(names[n]) != group(names[n - 1])]
    for axes, layer in zip(panels, layers):
        logs = [[math.nan if value is None else math.log2(max(value, 1e-3)) for value in row] for row in lift[layer]]
        image = axes.imshow(logs, cmap="RdBu_r", vmin=-2, vmax=2, interpolation="nearest")
        axes.set_facecolor("#CCCCCC")
        for border in borders:
            axes.axvline(border - 0.5, color="black", linewidth=0.5)
            axes.axhline(border - 0.5, color="black", linewidth=0.5)
        axes.set_xticks(range(len(names)), names, size=7, rotation=90)
        axes.set_yticks(range(len(names)), names, size=7)
        axes.set(title=f"layer {layer + 1}", xlabel="attended phone", ylabel="attending phone")
    for axes in panels[len(layers) :]:
        axes.set_axis_off()
    bar = figure.colorbar(image, cax=panels[3].inset_axes((0.1, 0.6, 0.8, 0.05)), orientation="horizontal", extend="both")
    bar.set_ticks(range(-2, 3), labels=["1/4", "1/2", "1", "2", "4"])
    bar.set_label("attention, over that of a uniform map")
    kinds = list(dict.fromkeys(group(name) or "others" for name in names))
    text = "Blocks: " + ", ".join(kinds) + ".\n\nGrey: fewer than 1,000 pairs of frames."
    panels[3].text(0.1, 0.35, text, transform=panels[3].transAxes, va="top", wrap=True)
    return figure


def group(phone):
    return next((name for name, phones in GROUPS.items() if phone in phones.split()), None)


def draw_probe(found):
    """Accuracy of the first layer with shifted labels, and of each layer."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = map(plain, figure.subplots(1, 2, sharey=True, width_ratios=(2, 3)))
    shifts, layers = found["shifted"]["shifts"], range(1, len(found["trained"]) + 1)
    left.plot(shifts, found["shifted"]["layer_1"], "o-", color=BLUE)
    left.axvline(0, linestyle=":", color=GREY)
    left.set(xlabel="labels shifted by frames (layer 1)", ylabel="phones, % of frames of other speakers", xticks=shifts)
    right.plot(layers, found["trained"], "o-", color=BLUE)
    right.plot(layers, found["untrained"], "s--", color=ORANGE)
    for name in ("filterbanks", "most_frequent"):
        right.axhline(found[name], linestyle=":", color=GREY)
    right.set(xlabel="layer", xticks=layers, ylim=(0, None))
    before, after = found["filterbank_context_ms"]
    label(
        right,
        [
            (found["trained"][-1], "trained", BLUE),
            (found["untrained"][-1], "untrained", ORANGE),
            (found["filterbanks"], f"filterbanks,\n−{before:g} to +{after:g} ms", GREY),
            (found["most_frequent"], "most frequent phone", GREY),
        ],
    )
    return figure
