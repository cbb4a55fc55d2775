"""The comparison on real speech as figures: story.png, WER against look-ahead, and learning_curves.png.

They are drawn from what `comparison.rows` finds, and written only where a pixel is another one. Drawing needs matplotlib
(`pip install -e '.[figures]'`).
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from results.common.figures import save, spread_out
from results.comparison.rows import REFERENCES, TRAINED, ahead, rows

RESULTS = Path(__file__).parents[1]
COLOURS = {  # of Okabe and Ito, by the name of a cell or by its YAML
    "chunk-mask": "#56B4E9",
    "aa": "#000000",
    "sa": "#0072B2",
    "maa": "#009E73",
    "llsa": "#D55E00",
    "summary_mixing": "#CC79A7",
    "shared_attention": "#E69F00",
}
OFF_THE_SCALE = 1.5  # times the median WER: named at the upper edge
COLUMNS = 4  # of the learning curves
FEW = 3  # rows of a scale, below which nothing is drawn


def colour(row):
    """Of a row, wherever it is drawn."""
    return COLOURS.get(row.cell.name, COLOURS[row.cell.yaml])


def starts_otherwise(row):
    """Whether it is pre-trained where its scale is not, or the other way round."""
    return "pretrain" in row.cell.changes


def story(found):
    """WER with its interval against look-ahead, every row with its name beside it.

    Arguments
    ---------
    found : dict
        See `comparison.rows`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each scale.
    """
    figure = Figure(figsize=(12, 5.2 * len(found)), layout="constrained")
    for axes, (scale, of_scale) in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found.items()):
        of_scale = [row for row in of_scale if row.runs]
        points = {row.cell.name: (np.mean(row.wers), row.interval()) for row in of_scale}
        top = OFF_THE_SCALE * np.median([wer for wer, _ in points.values()])
        shown = [value for wer, bounds in points.values() if wer < top for value in (wer, *bounds) if value is not None]
        low, high = min(shown), max(shown)
        low, high = low - 0.1 * (high - low + 1), high + 0.15 * (high - low + 1)
        for x, ms in enumerate(reversed(REFERENCES)):
            group(axes, x, [row for row in of_scale if row.cell.lookahead_ms == ms], points, low, high)
        axes.set(xlim=(-0.15, len(REFERENCES) - 0.15), ylim=(low, high), ylabel="WER on test-clean, %")
        axes.set_xticks(range(len(REFERENCES)), ["whole utterance" if ms is None else ahead(ms) for ms in reversed(REFERENCES)])
        words = f"scale {scale}: greedy WER, bars are 95 % intervals"
        words += ", open dots start otherwise" if any(map(starts_otherwise, of_scale)) else ""
        words += f"; above {TRAINED:.0f} % it is too early to compare attentions" if high > TRAINED else ""
        axes.set_title(words, loc="left", fontsize=10)
        axes.set_xlabel("look-ahead of the whole stack", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def group(axes, x, members, points, low, high):
    """The rows of one look-ahead, in a narrow column at x; names to its right, as far apart as it takes."""
    inside = sorted((row for row in members if points[row.cell.name][0] < high), key=lambda row: points[row.cell.name][0])
    beyond = [row for row in members if row not in inside]
    wanted = {row.cell.name: (points[row.cell.name][0] - low) / (high - low) for row in inside}
    places = spread_out(wanted, gap=0.045) if wanted else {}
    for i, row in enumerate(inside):
        wer, (lower, upper) = points[row.cell.name]
        at, y, style = x + 0.035 * (i % 3), low + places[row.cell.name] * (high - low), {"color": colour(row)}
        if lower is not None:
            axes.plot([at, at], [lower, upper], linewidth=4, alpha=0.35, solid_capstyle="butt", **style)
        face = "white" if starts_otherwise(row) else colour(row)
        axes.plot(at, wer, "o", markersize=6, markerfacecolor=face, markeredgecolor=colour(row), zorder=3)
        axes.plot([at, x + 0.13], [wer, y], linewidth=0.5, **style)
        axes.text(x + 0.14, y, f"{row.cell.title}  {wer:.1f}", va="center", fontsize=8, **style)
    for i, row in enumerate(beyond):
        y = high - (0.02 + 0.045 * i) * (high - low)
        axes.text(x + 0.14, y, f"↑ {row.cell.title}  {points[row.cell.name][0]:.1f}", va="center", fontsize=8, color=colour(row))


def curves(found):
    """Dev WER against epochs of fine-tuning: a panel for each row, a line for each seed, the other rows in grey.

    Arguments
    ---------
    found : dict
        See `comparison.rows`.

    Returns
    -------
    matplotlib.figure.Figure or None
        None if no run has a log.
    """
    panels = []
    for of_scale in found.values():
        logs = [(row, [run["log"]["finetune"] for run in row.runs.values() if run.get("log")]) for row in of_scale]
        logs = [(row, lines) for row, lines in logs if any(lines)]
        every = [line for _, lines in logs for line in lines]
        panels += [(row, lines, every) for row, lines in logs]
        panels += [None] * (-len(panels) % COLUMNS)
    if not panels:
        return None
    height = len(panels) // COLUMNS
    figure = Figure(figsize=(12, 1.9 * height + 0.5), layout="constrained")
    for axes, panel in zip(figure.subplots(height, COLUMNS, squeeze=False).flat, panels):
        if panel is None:
            axes.axis("off")
        else:
            curve(axes, *panel)
    figure.supylabel("WER on the dev set, %", fontsize=9)
    figure.supxlabel("epochs of fine-tuning; grey: all other rows of the scale", fontsize=9)
    return figure


def curve(axes, row, lines, every):
    """One panel of the learning curves."""

    def draw(line, **style):
        axes.plot([record["epoch"] for record in line], [record["valid_wer"] for record in line], **style)

    for line in every:
        draw(line, color="#D8D8D8", linewidth=1)
    for line in lines:
        draw(line, color=colour(row), linewidth=1.5, marker="o", markersize=3)
    last = [line[-1]["valid_wer"] for line in lines if line]
    wers = [record["valid_wer"] for line in every for record in line]
    axes.set_title(f"{row.scale}: {row.cell.title}  {np.mean(last):.1f}", loc="left", fontsize=8, color=colour(row))
    axes.set_ylim(0.9 * min(wers), min(100, 1.05 * max(wers)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def write(folder=RESULTS):
    """Draw both figures into a folder, from its `measured`; of fewer rows than make a comparison there is none."""
    found = rows(folder / "measured").items()
    found = {scale: of_scale for scale, of_scale in found if sum(bool(row.runs) for row in of_scale) >= FEW}
    for name, draw in (("story", story), ("learning_curves", curves)):
        figure, path = found and draw(found), folder / "comparison" / f"{name}.png"
        if figure:
            save(figure, path)
        else:
            path.unlink(missing_ok=True)
