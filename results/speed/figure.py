"""The figure of results/speed.json: ratios to the baseline against length, a row for each group of variants."""

import numpy as np
from matplotlib.figure import Figure

from results.common.figures import save, spread_out
from results.speed.report import FRAME_S, WORDS, find, ratio
from results.speed.variants import BASELINE, VARIANTS

COLOURS = {  # of Okabe and Ito; the first whose key is in the name
    "SummaryMixing": "#009E73",
    "SA": "#0072B2",
    "plain": "#D55E00",
    "relative by": "#CC79A7",
    "relative": "#E69F00",
    "AA ": "#56B4E9",
    "AA": "#000000",
}
DASHES = {word: (1, 1) for word in ("queries", "cumulative", "matched")}
DASHES.update({"chunks": (4, 1.5), "SA follower": (4, 1.5), "lite": (6, 2, 1, 2)})
COARSE, FINE = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20), (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5)
SHOWN = ("both_ms", "peak_mib")


def draw(results, path):
    """Draw the ratios to the baseline against length: a row for each group, time and memory beside each other."""
    cells = find(results)
    groups = [group for group in VARIANTS if any(name == group for name, _, _ in cells)]
    figure = Figure(figsize=(10, 3.7 * len(groups)), layout="constrained")
    for row, group in zip(figure.subplots(len(groups), len(SHOWN), squeeze=False), groups):
        for axes, what in zip(row, SHOWN):
            panel(axes, cells, group, what)
    save(figure, path)


def panel(axes, cells, group, what):
    """The lines of a group, each with its name beside its end."""
    lines = {}
    for name in VARIANTS[group]:
        lengths = sorted(key[2] for key in cells if key[:2] == (group, name))
        ratios = {n * FRAME_S: ratio(cells, what, (group, name, n), (group, BASELINE, n)) for n in lengths}
        lines[name] = [(seconds, quartiles[1]) for seconds, quartiles in ratios.items() if quartiles is not None]
    lines = {name: line for name, line in lines.items() if line}
    seconds = sorted({x for line in lines.values() for x, _ in line})
    values = [y for line in lines.values() for _, y in line]
    low, high = 0.8 * min(values), 1.1 * max(values)
    last, right = seconds[-1], 1.15 * seconds[-1]  # of the lines; of the labels' left edge
    wanted = {name: np.log(line[-1][1] / low) / np.log(high / low) for name, line in lines.items()}
    for name, place in spread_out(wanted, gap=0.068).items():
        line, y = lines[name], low * (high / low) ** place
        colour = next(colour for word, colour in COLOURS.items() if word in name)
        dashes = next((dashes for word, dashes in DASHES.items() if word in name), ())
        axes.plot(*zip(*line), color=colour, dashes=dashes, linewidth=1.2 if "by 2" in name else 2, marker="o", markersize=3)
        axes.plot((line[-1][0], right), (line[-1][1], y), color=colour, linewidth=0.5)
        axes.text(1.02 * right, y, name, color=colour, fontsize=9, va="center")
    axes.set(xscale="log", yscale="log", xlim=(0.9 * seconds[0], right * (right / seconds[0]) ** 0.8), ylim=(low, high))
    axes.set_title(f"{group}: {WORDS[what]}, {BASELINE} = 1", fontsize=10, loc="left", pad=10)
    axes.set_xticks(seconds, [f"{x:.0f}" for x in seconds], minor=False)
    ticks = [tick for tick in (COARSE if high > 10 * low else FINE) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("seconds of audio", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["bottom"].set_bounds(0.9 * seconds[0], last)
