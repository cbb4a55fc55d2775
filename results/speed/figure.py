"""The figure of results/speed/speed.json: single modules against length, and the papers' claims over three baselines."""

import numpy as np
from matplotlib.figure import Figure

from results.common.figures import INK, PALE, colour, for_text, plain, save, spread_out
from results.common.timing import find, short
from results.experiments import BASELINE
from results.speed.report import AGAINST, CLAIMS, DRAWN, DRAWN_OF, FRAME_S, WORDS, claimed, medians

DASHES = {"plain": (1.5, 1), "SA follower": (4, 1.5), "lite": (4, 1.5)}  # where two lines have one colour
TICKS = (1, 2, 5), (1, 1.5, 2, 3, 5, 7)  # of each power of ten, on axes that span much and little
GAP = 0.075  # between two labels, of the height of a panel


def draw(results, path):
    """Draw two panels of single modules and one for each claim, of whole models; what is not measured has no line."""
    cells = find(results)
    panels = []
    for what in ("both_ms", "peak_mib"):
        lines = {name: medians(cells, what, "modules", name, BASELINE) for name in DRAWN}
        panels.append((f"One module: {WORDS[what]},\nover that of {BASELINE}", lines, None))
    for claim in CLAIMS:
        lines = {f"over {name}": claimed(cells, claim, DRAWN_OF, name) for name in AGAINST}
        panels.append((f"Claimed: {claim.words}\n{claim.variant}: {WORDS[claim.what]}", lines, claim.limit))
    figure = Figure(figsize=(9, 3.4 * len(panels) / 2), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    for axes, (title, lines, limit) in zip(figure.subplots(len(panels) // 2, 2).flat, panels):
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        draw_lines(plain(axes), {name: line for name, line in lines.items() if line}, limit)
    save(figure, path)


def draw_lines(axes, lines, limit):
    """Ratios against length, each with its name beside its end, and the band of ratios that are as claimed or lower.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
    lines : dict
        From a name to its ratios by length in frames.
    limit : float or None
        Of what was claimed.
    """
    if not lines:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    seconds = sorted({frames * FRAME_S for line in lines.values() for frames in line})
    values = [value for line in lines.values() for value in line.values()] + ([limit] if limit else [])
    low, high = min(values) / 1.25, max(values) * 1.15
    first, last, right = 0.9 * seconds[0], seconds[-1], 1.15 * seconds[-1]  # `right`: where the names begin
    wanted = {name: np.log(list(line.values())[-1] / low) / np.log(high / low) for name, line in lines.items()}
    for name, place in spread_out(wanted, GAP).items():
        x, y = [frames * FRAME_S for frames in lines[name]], list(lines[name].values())
        dashes = next((dashes for word, dashes in DASHES.items() if word in name), ())
        axes.plot(x, y, color=colour(name), dashes=dashes, linewidth=2, marker="o", markersize=3.5)
        label = low * (high / low) ** place
        axes.plot((x[-1], right), (y[-1], label), color=colour(name), linewidth=0.5)
        axes.text(1.03 * right, label, name, color=for_text(colour(name)), fontsize=10, va="center")
    if limit:
        axes.fill_between((first, last), low, limit, color=PALE, linewidth=0, zorder=0)
        axes.text(1.05 * first, 1.03 * low, f"as claimed: {limit:.2f} or less", color=INK, fontsize=10, va="bottom")
    room = (right / seconds[0]) ** 0.75  # for the names
    axes.set(xscale="log", yscale="log", xlim=(first, right * room), ylim=(low, high))
    axes.set_xticks(seconds, [short(x) for x in seconds])
    ticks = np.outer(10.0 ** np.arange(-3, 3), TICKS[int(high < 10 * low)]).ravel()
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("seconds of audio", loc="left")
    axes.spines["bottom"].set_bounds(first, last)
