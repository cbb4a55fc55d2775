"""What the page on the comparison shows, and README.md of it: tables, figures and the headline."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from recipes import text_table
from recipes.files import content_of
from recipes.LibriSpeech.summary import Summary, summary_rows
from results import MEASURED, ROOT
from results.common import markdown
from results.common.markdown import lookahead
from results.comparison import adapted, measured
from results.comparison.measured import Measured
from results.comparison.tables import TRAINED, by_lookahead, language_model, rows, sentence, streaming, wer
from results.experiments import FIRST_COMMAND, FIRST_PAGE, OTHER_RUNS

FOLDER = Path(__file__).parent
FILES, PUBLISHED = ROOT / MEASURED, FOLDER.parent / "published.yaml"
NOTHING = "No experiment of the comparison is measured yet: run `python -m results.reproduce`."


def comparison(folder: Path = FILES) -> str:
    """For each scale that is measured, a sentence on what its rows share and a row for each experiment."""
    parts = []
    for of_scale in measured.read(folder).values():
        parts += [markdown.paragraph(sentence(of_scale) + language_model(of_scale)), markdown.table(rows(of_scale))]
    return "\n\n".join(parts) or NOTHING


def other_runs(folder: Path = FILES) -> str:
    """A row for each test set of each run beside the comparison, by test set and look-ahead; then what is missing."""
    compared = {run.path for of_scale in measured.read(folder).values() for one in of_scale for run in one.runs.values()}
    found = []
    for path in sorted(path for path in folder.glob("*.json") if path not in compared):
        run = Summary.read(path)
        for test in run.tests:
            score, stream = run.score(test), run.streaming_score(test)
            in_streams = f"{stream.wer:.1f} ({stream.different} of {stream.utterances})" if stream else "missing"
            row = {
                "test set": test,
                "attention": f"{run.attention}{options(run)}",
                "look-ahead of the stack": lookahead(run.lookahead_ms),
                "WER % [95 % interval]": f"{score.wer:.1f} [{score.low:.1f}, {score.high:.1f}]",
                "WER % streaming (texts that differ)": in_streams if run.streams else "no streaming form",
                "block": run.block,
                "parameters": f"{run.parameters / 1e6:.2f} M",
                "training data": f"{run.hours('train'):.1f} h, {run.codec}",
                "run": f"[{path.stem}](../measured/{path.name})",
            }
            found.append((test, -run.lookahead_ms if run.streams else float("-inf"), path.stem, row))
    found = [row for *_, row in sorted(found, key=lambda entry: entry[:3])]
    return markdown.with_missing(found, folder, OTHER_RUNS, "WER % [95 % interval]")


def options(run: Summary) -> str:
    """What distinguishes the attention of a run from others of its class."""
    words = f", chunk {run.chunk}" if run.chunk > 1 else ""
    words += f", revisions {run.revisions}" if run.revisions else ""
    return words + (f", maps of layers {', '.join(str(owner + 1) for owner in run.owners)} shared" if run.owners else "")


def published(path: Path = PUBLISHED) -> str:
    """The papers' numbers, with how sure each is."""
    with content_of(path, YAML(typ="safe").load) as entries:
        return markdown.table(
            [
                {
                    "paper": entry["paper"],
                    "module": entry["module"],
                    "latency": entry["latency"],
                    "dev-clean": entry.get("dev_clean", ""),
                    "test-clean": entry["test_clean"],
                    "how sure": entry["mark"],
                }
                for entry in entries
            ]
        )


def default(path: Path = FILES / f"{FIRST_COMMAND}.json") -> str:
    """README.md's block on its first command: what it prints at its end, and how long that took where."""
    run = Summary.read(path)
    cores, processor = run.environment["cores"], run.environment["cpu"]
    words = (
        f"That run took {run.seconds / 60:.1f} minutes on {cores} cores ({processor}); "
        f"[its summary](results/measured/{path.name}) has the rest."
    )
    return f"```\n{text_table.table(summary_rows(run))}\n```\n\n{markdown.paragraph(words)}"


def results(folder: Path = FILES, published: Path = PUBLISHED) -> str:
    """README.md's table: some rows of the first scale that is measured, beside the published ones that come nearest."""
    scales = measured.read(folder)
    if not scales:
        return NOTHING
    of_scale = next(iter(scales.values()))
    with content_of(published, YAML(typ="safe").load) as papers:
        beside = {entry["row"]: f"{entry['test_clean']} ({entry['latency']})" for entry in papers if "row" in entry}
    lines = [
        {
            "attention": one.experiment.title,
            "look-ahead": lookahead(one.experiment.lookahead_ms),
            "WER % here [95 % interval]": wer(one),
            "WER % in streams (texts that differ)": streaming(one),
            "WER % published (its latency)": beside.get(one.name, ""),
        }
        for one in sorted(of_scale, key=by_lookahead)
        if one.name in FIRST_PAGE
    ]
    return f"{markdown.table(lines)}\n\n{markdown.paragraph(sentence(of_scale))}"


def state(folder: Path = FILES) -> str:
    """How far the comparison has come, a sentence or two for each scale."""
    lines = [described(of_scale) for of_scale in measured.read(folder).values()]
    return "\n\n".join(markdown.paragraph(f"{line}.") for line in lines) or NOTHING


def headline(folder: Path = FILES) -> str:
    """The comparison in a sentence: that of the first scale which is measured."""
    return next((described(of_scale) for of_scale in measured.read(folder).values()), NOTHING)


def described(of_scale: Sequence[Measured]) -> str:
    """How far a scale has come."""
    done = [one for one in of_scale if one.runs]
    best = min(done, key=lambda one: one.wer)
    words = (
        f"{len(done)} of {len(of_scale)} experiments of scale `{of_scale[0].scale}` are measured; "
        f"the lowest WER on {measured.TEST} is that of {best.experiment.title}, {best.wer:.1f} %"
    )
    untrained = f". Above {TRAINED:.0f} % a system has hardly learned to spell: nothing is concluded from the order of the rows"
    return words + (untrained if best.wer > TRAINED else "")


def draw(folder: Path = FOLDER) -> None:
    """Draw all figures anew, of what is measured."""
    from results.comparison import figures

    figures.write(folder.parent)
    adapted.draw(FILES, folder / "adapted.png")


TABLES = {
    "default": default,
    "results": results,
    "state": state,
    "comparison": comparison,
    "other runs": other_runs,
    "adapted": partial(adapted.table, FILES),
    "adapted in short": partial(adapted.in_short, FILES),
    "published": published,
}
