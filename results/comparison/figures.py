"""The comparison on real speech as figures: story.png, WER against look-ahead, and learning_curves.png.

They are drawn from what `comparison.measured` finds, and written only where a pixel is another one. Drawing needs matplotlib
(`pip install -e '.[figures]'`).
"""

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from results import ROOT
from results.common.figures import GREY, INK, PALE, PAPER, WIDTH, colour, for_text, plain, save
from results.common.markdown import lookahead
from results.comparison import measured
from results.comparison.tables import REFERENCES, TRAINED

COLUMNS = 4  # of the learning curves
FEW = 3  # rows of a scale, below which nothing is drawn


def starts_otherwise(row):
    """Whether it is pre-trained where its scale is not, or the other way round."""
    return "pretrain" in row.experiment.changes


def story(found):
    """WER with its interval, row by row, in groups of equal look-ahead.

    Arguments
    ---------
    found : dict
        See `measured.read`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each scale.
    """
    panels = [(scale, grouped([row for row in of_scale if row.runs])) for scale, of_scale in found.items()]
    heights = [0.27 * (len(lines) + 2) for _, lines in panels]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    for axes, (scale, lines) in zip(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0], panels):
        ladder(plain(axes), scale, lines)
    return figure


def grouped(of_scale):
    """The rows and, before each group of equal look-ahead, its words: the most look-ahead first, the lowest WER first."""
    lines = []
    for ms in REFERENCES:
        group = sorted((row for row in of_scale if row.experiment.lookahead_ms == ms), key=lambda row: row.wer)
        if group:
            lines += ["the whole utterance" if ms is None else f"{lookahead(ms)} ahead" if ms else "nothing ahead", *group]
    return lines


def ladder(axes, scale, lines):
    """One line below the other: a name, a dot with its interval, the WER. The axis begins at 0, as distances are to be fair."""
    seeds = [row for row in lines if not isinstance(row, str)]
    top = max(max(row.wer, row.interval()[1] or 0) for row in seeds)
    for y, row in enumerate(lines):
        if isinstance(row, str):
            axes.text(-0.02, y, row, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=10, weight="bold")
            continue
        wer, (lower, upper), value = row.wer, row.interval(), colour(row.experiment.title)
        axes.plot([0, wer], [y, y], color=PALE, linewidth=0.8, zorder=1)
        if lower is not None:
            axes.plot([lower, upper], [y, y], color=value, linewidth=11, alpha=0.4, solid_capstyle="butt")
        face = PAPER if starts_otherwise(row) else value
        axes.plot(wer, y, "o", markersize=4, markerfacecolor=face, markeredgecolor=value, zorder=3)
        words = {"va": "center", "fontsize": 9.5, "color": for_text(value)}
        axes.text(-0.02, y, row.experiment.title, transform=axes.get_yaxis_transform(), ha="right", **words)
        axes.text(max(wer, upper or 0) + 0.02 * top, y, f"{wer:.1f}", **words)
    if top > TRAINED:
        axes.axvline(TRAINED, color=GREY, linestyle=":", linewidth=1)
        note = f"right of {TRAINED:.0f} %: hardly learned to spell"
        axes.text(TRAINED - 0.01 * top, 0, note, color=GREY, fontsize=9, ha="right", va="center")
    axes.set(xlim=(0, 1.1 * top), ylim=(len(lines) - 0.4, -0.6), yticks=[])
    axes.spines["left"].set_visible(False)
    circles = "; hollow: starts otherwise" if any(map(starts_otherwise, seeds)) else ""
    axes.set_xlabel(f"WER on test-clean, %, scale {scale} (greedy; bar: 95 % interval{circles})", color=INK)


def curves(found):
    """Dev WER against epochs of fine-tuning: a panel for each row, a line for each seed, the other rows in grey.

    Arguments
    ---------
    found : dict
        See `measured.read`.

    Returns
    -------
    matplotlib.figure.Figure or None
        None if no run has a log.
    """
    panels = []
    for of_scale in found.values():
        logs = [(row, [run.log("finetune") for run in row.runs.values()]) for row in of_scale]
        logs = [(row, lines) for row, lines in logs if any(lines)]
        every = [line for _, lines in logs for line in lines]
        panels += [(row, lines, every) for row, lines in logs]
        panels += [None] * (-len(panels) % COLUMNS)
    if not panels:
        return None
    height = len(panels) // COLUMNS
    figure = Figure(figsize=(WIDTH, 1.9 * height + 0.4), layout="constrained")
    for place, (axes, panel) in enumerate(zip(figure.subplots(height, COLUMNS, squeeze=False).flat, panels)):
        if panel is None:
            axes.axis("off")
        else:
            curve(plain(axes), *panel)
            axes.tick_params(labelsize=8, labelleft=place % COLUMNS == 0)
    figure.supylabel("WER on the dev set, %", fontsize=10)
    figure.supxlabel("epochs of fine-tuning; grey: the other rows of the scale", fontsize=10)
    return figure


def curve(axes, row, lines, every):
    """One panel of the learning curves."""

    def draw(line, **style):
        axes.plot([record["epoch"] for record in line], [record["valid_wer"] for record in line], **style)

    for line in every:
        draw(line, color=PALE, linewidth=1)
    value = colour(row.experiment.title)
    for line in lines:
        draw(line, color=value, linewidth=2, marker="o", markersize=3.5)
    last = [line[-1]["valid_wer"] for line in lines if line]
    wers = [record["valid_wer"] for line in every for record in line]
    title = f"{fill(row.experiment.title, 24)}\n{np.mean(last):.1f} %, scale {row.scale}"
    axes.set_title(title, loc="left", fontsize=9, color=for_text(value))
    axes.set_ylim(0.9 * min(wers), min(100, 1.05 * max(wers)))
    axes.xaxis.get_major_locator().set_params(integer=True)


def write(folder: Path = ROOT / "results") -> None:
    """Draw both figures into a folder, from its `measured`; of fewer rows than make a comparison there is none."""
    found = measured.read(folder / "measured").items()
    found = {scale: of_scale for scale, of_scale in found if sum(bool(row.runs) for row in of_scale) >= FEW}
    for name, draw in (("story", story), ("learning_curves", curves)):
        figure, path = found and draw(found), folder / "comparison" / f"{name}.png"
        if figure:
            save(figure, path)
        else:
            path.unlink(missing_ok=True)
