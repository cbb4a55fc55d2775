"""What a public encoder saves: WER on the dev set against time on one core, begun with its weights and begun from nothing."""

from collections.abc import Iterator
from pathlib import Path

from recipes.LibriSpeech.summary import Summary
from results.common import markdown
from results.common.markdown import lookahead
from results.comparison.measured import TEST
from results.comparison.tables import seconds
from results.experiments import ADAPTED

POINTS = 5
"""So many epochs of a training a row of the table shows, at most."""
SHORT = "begun with", "attention", "look-ahead", "WER % on test-clean [95 % interval]", "in streams (texts that differ)", "run"
"""The columns that README.md shows."""


def runs(folder: Path) -> list[Summary]:
    """Those of `ADAPTED` that are measured."""
    return [Summary.read(path) for name in ADAPTED if (path := folder / f"{name}.json").exists()]


def start(run: Summary) -> str:
    """What a run began with, in words."""
    return run.start["name"] or "nothing"


def curve(run: Summary) -> list[tuple[float, float]]:
    """Minutes since the beginning of fine-tuning, and WER on the dev set in percent, after each epoch."""
    found = [(seconds(run, record), record["valid_wer"]) for record in run.log("finetune")]
    return [(spent / 60, wer) for spent, wer in found if spent is not None]


def table(folder: Path) -> str:
    """A row for each run, the best on the dev set first; then those that are not measured."""
    measured = sorted(runs(folder), key=lambda run: min(wer for _, wer in curve(run)))
    return markdown.with_missing([dict(row(run)) for run in measured], folder, ADAPTED, SHORT[3])


def in_short(folder: Path) -> str:
    """README.md's table: some columns of those rows that are measured."""
    lines = [{name: cell for name, cell in row(run) if name in SHORT} for run in runs(folder)]
    links = [{**line, "run": line["run"].replace("../", "results/")} for line in lines]
    return markdown.table(links) if links else f"Missing: {', '.join(ADAPTED)}."


def row(run: Summary) -> Iterator[tuple[str, str]]:
    """The cells of a run, by column."""
    points, score, stream = curve(run), run.score(TEST), run.streaming_score(TEST)
    some = points[:: -max(1, -(-len(points) // POINTS))][::-1]  # the last one is among them
    yield "begun with", start(run)
    yield "attention", run.attention + (f", chunk {run.chunk}" if run.chunk > 1 else "")
    yield "look-ahead", lookahead(run.lookahead_ms)
    yield "WER % on the dev set after minutes of one core", ", ".join(f"{wer:.1f} after {spent:.0f}" for spent, wer in some)
    yield "WER % on test-clean [95 % interval]", f"{score.wer:.1f} [{score.low:.1f}, {score.high:.1f}]"
    in_streams = f"{stream.wer:.1f} ({stream.different} of {stream.utterances})" if stream else "no streaming form"
    yield "in streams (texts that differ)", in_streams
    yield "parameters", f"{run.parameters / 1e6:.1f} M"
    yield "run", f"[{run.name}](../measured/{run.name}.json)"


def draw(folder: Path, path: Path) -> None:
    """Draw WER on the dev set against minutes of one core, a line for each run; without runs there is no figure."""
    from matplotlib.figure import Figure

    from results.common.figures import WIDTH, colour, for_text, plain, save

    lines = [(run, curve(run)) for run in runs(folder)]
    if not lines:
        return path.unlink(missing_ok=True)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = plain(figure.subplots())
    for run, points in lines:
        value, begun = colour(run.attention), bool(run.start["name"])
        axes.plot(*zip(*points), color=value, linewidth=2, linestyle="-" if begun else ":", marker="o", markersize=3.5)
        words = f"{run.attention}, from {start(run)}"
        axes.annotate(words, points[-1], (6, 0), textcoords="offset points", va="center", fontsize=9, color=for_text(value))
    axes.set(xlabel="minutes of one core, validation included", ylabel="WER on the dev set, %", ylim=(0, 100))
    axes.set_xlim(0, 1.3 * max(spent for _, points in lines for spent, _ in points))
    save(figure, path)
