"""WER against the delay of a word, of every measured run: `python -m results.latency.wer_delay` draws wer_delay.png.

A run has its WER in results/measured/NAME.json and its delay, which `results.latency.delay` measures, in delays/NAME.json.
Drawing needs matplotlib (`pip install -e '.[figures]'`).
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.command_line import Parser, UserError, exit_code
from recipes.files import content_of
from recipes.LibriSpeech.summary import Summary
from results.common.figures import GREY, INK, PAPER, WIDTH, colour, for_text, plain, save, spread_out
from results.experiments import SCALES

RESULTS = Path(__file__).parents[1]


def points(folder: Path = RESULTS) -> tuple[dict[str, list[dict]], list[str]]:
    """What there is to draw.

    Returns
    -------
    points : dict
        From test set to a list of dicts: `name`, `word_ends`, `wer`, `low`, `high` (percent), `median`, `p90` (s).
    missing : list of str
        Measured runs without a delay. Those of the comparison are left out, because most of them need none.

    Raises
    ------
    UserError
        If a delay is of another system or of other data than the WER, or no run has both.
    """
    found, missing = {}, []
    for path in sorted((folder / "measured").glob("*.json")):
        run, other = Summary.read(path), folder / "latency" / "delays" / path.name
        if not other.exists():
            missing += [path.stem] if run.scale not in SCALES else []
            continue
        with content_of(other) as delay:
            split, (first, *_) = delay["split"], delay["hops"]
            if (run.config_hash, run.checksums.get(split)) != (delay["config_hash"], delay["sha256"]):
                raise UserError(f"{other} is of another system or other data than {path}: measure the delay again")
            score = run.score(split)
            if first["emitted_ms"]["median"] is None:  # no word was recognised
                continue
            found.setdefault(split, []).append(
                {
                    "name": name_of(run),
                    "word_ends": delay["word_ends"],
                    **{name: getattr(score, name) for name in ("wer", "low", "high")},
                    **{name: first["emitted_ms"][name] / 1000 for name in ("median", "p90")},
                }
            )
    if not found:
        raise UserError(f"no run has both a file in {folder / 'measured'} and one in {folder / 'latency' / 'delays'}")
    return found, missing


def name_of(run: Summary) -> str:
    """What a point is called: the attention, and what tells it from others of its class."""
    if run.chunk > 1 and run.config["attention"].get("lookahead") == 0:
        return f"chunk mask, {run.chunk} frames"
    return run.attention + (f", chunk {run.chunk}" if run.chunk > 1 else "") + (", shared maps" if run.owners else "")


def draw(found: dict[str, list[dict]], missing: list[str], path: Path) -> None:
    """Draw what `points` returned: a panel for each test set of which there is something to compare."""
    found = {split: runs for split, runs in sorted(found.items()) if len(runs) > 1} or found
    figure = Figure(figsize=(WIDTH, 3.9 * len(found)), layout="constrained")
    latest = max(run["p90"] for runs in found.values() for run in runs)
    for axes, (split, runs) in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found.items()):
        panel(plain(axes), split, runs, latest)
    if missing:
        figure.supxlabel(f"no delay measured: {', '.join(missing)}", fontsize=9, color=GREY)
    save(figure, path)


def panel(axes: Axes, split: str, runs: list[dict], latest: float) -> None:
    """The runs of one test set: a dot at the median delay, a line to the 90th percentile, a bar for the interval of the WER."""
    top, heights = 1.1 * max(run["high"] for run in runs), {}
    for run in runs:  # labels have to keep apart from those beside them only
        beside = [other for other in runs if abs(other["p90"] - run["p90"]) < 0.15 * latest]
        heights[run["name"]] = spread_out({other["name"]: other["wer"] / top for other in beside}, gap=0.12)[run["name"]]
    for i, run in enumerate(runs):
        x, y, value = run["median"], run["wer"], colour(run["name"])
        near = any(abs(other["median"] - x) < 0.02 * latest for other in runs[:i])  # a thin bar on a wide one
        bar = {"linewidth": 2} if near else {"linewidth": 8, "alpha": 0.35}
        axes.plot([x, x], [run["low"], run["high"]], color=value, solid_capstyle="butt", **bar)
        axes.plot([x, run["p90"]], [y, y], color=value, linewidth=1.5)
        axes.plot(x, y, "o", color=value, markersize=8, markeredgecolor=PAPER, zorder=3)
        beside = run["p90"] + 0.02 * latest, heights[run["name"]] * top
        axes.plot([run["p90"], beside[0] - 0.01], [y, beside[1]], color=value, linewidth=0.7)
        words = f"{run['name']}\n{y:.1f} %"
        axes.text(*beside, words, color=for_text(value), weight="bold", va="center", fontsize=10)
    sources = " and ".join(sorted({run["word_ends"] for run in runs}))
    axes.set_title(f"WER on {split}, % (bar: 95 % interval)", loc="left", fontsize=12, color=INK)
    axes.set_xlabel(
        f"seconds of audio from the end of a word (by {sources}) to its text;\na dot at the median, a line to the 90th percentile"
    )
    axes.set(ylim=(0, top), xlim=(0, 1.35 * latest))
    axes.set_xticks([second for second in axes.get_xticks() if second <= latest])


def command(arguments: Sequence[str]) -> None:
    """Draw wer_delay.png from the files."""
    Parser(description=__doc__.split("\n")[0]).parse_args(arguments)
    draw(*points(), RESULTS / "latency" / "wer_delay.png")


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
