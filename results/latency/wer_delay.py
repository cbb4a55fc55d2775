"""WER against the delay that a listener feels, of every measured run: `python -m results.latency.wer_delay` draws wer_delay.png.

A run has its WER in results/measured/NAME.json and its delay, from results/delay.py, in results/delays/NAME.json. Drawing
needs matplotlib (`pip install -e '.[figures]'`).
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

from results.common.figures import save
from results.experiments import SCALES

RESULTS = Path(__file__).parents[1]
COLOURS = {"LLSA": "#D55E00", "SA": "#0072B2", "MAA": "#009E73", "AA": "#555555"}  # of Okabe and Ito, the first three


def points(folder=RESULTS):
    """What there is to draw.

    Returns
    -------
    points : dict
        From test set to a list of dicts: `name`, `attention`, `word_ends`, `wer`, `low`, `high` (percent), `median`, `p90` (s).
    missing : list of str
        Measured runs without a delay, but for those of results/experiments.py, of which most need none.

    Raises
    ------
    ValueError
        If a delay is of another system or of other data than the WER, or no run has both.
    """
    found, missing = {}, []
    for path in sorted((folder / "measured").glob("*.json")):
        run, other = json.loads(path.read_text()), folder / "latency" / "delays" / path.name
        if not other.exists():
            missing += [path.stem] if run.get("scale") not in SCALES else []
            continue
        delay = json.loads(other.read_text())
        split, hop = delay["split"], delay["hops"][0]
        manifest = run["data"]["manifests"].get(split, {})
        if (run["config_hash"], manifest.get("sha256")) != (delay["config_hash"], delay["sha256"]):
            raise ValueError(f"{other} is of another system or other data than {path}: run results/delay.py again")
        chunk = run["config"]["attention"].get("chunk") or 1
        shared = ", shared maps" if run["config"].get("owners") else ""
        found.setdefault(split, []).append(
            {
                "name": run["attention"] + (f", chunk {chunk}" if chunk > 1 else "") + shared,
                "attention": run["attention"],
                "word_ends": delay["word_ends"],
                **{name: run["wer"][split][name] for name in ("wer", "low", "high")},
                **{name: hop["emitted_ms"][name] / 1000 for name in ("median", "p90")},
            }
        )
    if not found:
        raise ValueError(f"no run has both a file in {folder / 'measured'} and one in {folder / 'delays'}")
    return found, missing


def draw(found, missing, path):
    """Draw what `points` returned: one panel for each test set, as they do not compare; percents are as high in all."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    bounds = {split: (min(run["low"] for run in runs), max(run["high"] for run in runs)) for split, runs in found.items()}
    half = max(high - low for low, high in bounds.values()) / 2 + 1
    latest = max(run["p90"] for runs in found.values() for run in runs)
    for axes, (split, runs) in zip(panels, sorted(found.items())):
        for i, run in enumerate(runs):
            x, y, colour = run["median"], run["wer"], COLOURS.get(run["attention"], "black")
            near = any(abs(other["median"] - x) < 0.02 * latest for other in runs[:i])  # a thin bar on a wide one
            bar = {"linewidth": 1.5} if near else {"linewidth": 6, "alpha": 0.45}
            axes.plot([x, x], [run["low"], run["high"]], color=colour, solid_capstyle="butt", **bar)
            axes.plot([x, run["p90"]], [y, y], color=colour, linewidth=1)
            axes.plot(x, y, "o", color=colour, markersize=8, markeredgecolor="white", zorder=3)
            axes.annotate(run["name"], (x, y), (8, 4), textcoords="offset points", color=colour, weight="bold")
        sources = " and ".join(sorted({run["word_ends"] for run in runs}))
        axes.set_title(f"{split} (ends of words by {sources})", loc="left", fontsize=10)
        middle = sum(bounds[split]) / 2
        axes.set(ylim=(middle - half, middle + half), xlim=(0, 1.03 * latest))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("WER, % (bar: 95 % interval)")
    note = f"\nno delay measured: {', '.join(missing)}" if missing else ""
    figure.supxlabel(f"end of a word to its text, s of audio (dot: median, line: to 90th percentile){note}", fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    try:
        draw(*points(), RESULTS / "latency" / "wer_delay.png")
    except ValueError as error:
        sys.exit(f"error: {error}")
