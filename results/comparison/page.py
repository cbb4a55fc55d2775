"""What the page on the comparison shows, and README.md of it: tables, figures and the headline."""

from pathlib import Path

from ruamel.yaml import YAML

from recipes import text_table
from recipes.LibriSpeech.summary import Summary, summary_rows
from results.common import markdown
from results.common.markdown import lookahead
from results.comparison.rows import REFERENCES, TEST, TRAINED, rows, sections, sentence, streaming, wer
from results.experiments import FIRST_COMMAND, FIRST_PAGE, OTHER_RUNS

FOLDER = Path(__file__).parent
MEASURED, PUBLISHED = FOLDER.parent / "measured", FOLDER.parent / "published.yaml"
NOTHING = "No experiment of the comparison is measured yet: run `python -m results.reproduce`."


def comparison(folder: Path = MEASURED) -> str:
    """For each scale that is measured, a sentence on what its rows share and a row for each experiment."""
    return "\n\n".join(f"{markdown.paragraph(words)}\n\n{markdown.table(lines)}" for words, lines in sections(folder)) or NOTHING


def other_runs(folder: Path = MEASURED) -> str:
    """A row for each test set of each run beside the comparison, by test set and look-ahead; then what is missing."""
    compared = {row.file(seed) for of_scale in rows(folder).values() for row in of_scale for seed in row.runs}
    found = []
    for path in sorted(path for path in folder.glob("*.json") if path.name not in compared):
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
    return words + (f", maps of layers {', '.join(map(str, run.owners))} shared" if run.owners else "")


def published(path: Path = PUBLISHED) -> str:
    """The papers' numbers, with how sure each is."""
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
            for entry in YAML(typ="safe").load(path.read_text())
        ]
    )


def default(path: Path = MEASURED / f"{FIRST_COMMAND}.json") -> str:
    """README.md's block on its first command: what it prints at its end, and how long that took where."""
    run = Summary.read(path)
    cores, processor = run.environment["cores"], run.environment["cpu"]
    words = (
        f"That run took {run.seconds / 60:.1f} minutes after the installation, on {cores} cores ({processor}); "
        f"[its summary](results/measured/{path.name}) has the rest."
    )
    return f"```\n{text_table.table(summary_rows(run))}\n```\n\n{markdown.paragraph(words)}"


def results(folder: Path = MEASURED, published: Path = PUBLISHED) -> str:
    """README.md's table: some rows of the first scale that is measured, beside the published ones that come nearest."""
    found = rows(folder)
    if not found:
        return NOTHING
    of_scale = next(iter(found.values()))
    papers = {entry["row"]: entry for entry in YAML(typ="safe").load(published.read_text()) if "row" in entry}
    by_name = {row.cell.name: row for row in of_scale}
    lines = [
        {
            "attention": row.cell.title,
            "look-ahead": lookahead(row.cell.lookahead_ms),
            "WER % here [95 % interval]": wer(row),
            "WER % in streams (texts that differ)": streaming(row),
            "WER % published (its latency)": f"{papers[name]['test_clean']} ({papers[name]['latency']})"
            if name in papers
            else "",
        }
        for name, row in by_name.items()
        if name in FIRST_PAGE
    ]
    lines.sort(key=lambda line: [lookahead(ms) for ms in REFERENCES].index(line["look-ahead"]))
    return f"{markdown.table(lines)}\n\n{markdown.paragraph(sentence(of_scale))}"


def headline(folder: Path = MEASURED) -> str:
    """The comparison in a sentence."""
    found = rows(folder)
    if not found:
        return NOTHING
    scale, of_scale = next(iter(found.items()))
    measured = [row for row in of_scale if row.runs]
    best = min(measured, key=lambda row: sum(row.wers) / len(row.wers))
    early = f": above {TRAINED:.0f} %, too early to compare attentions" if sum(best.wers) / len(best.wers) > TRAINED else ""
    return (
        f"{len(measured)} of {len(of_scale)} experiments of scale `{scale}` are measured on {TEST}; "
        f"the lowest WER is that of {best.cell.title}, {wer(best)} %{early}"
    )


def draw(folder: Path = FOLDER) -> None:
    """Draw both figures anew, of what is measured."""
    from results.comparison import figures

    figures.write(folder.parent)


TABLES = {"default": default, "results": results, "comparison": comparison, "other runs": other_runs, "published": published}
