"""What the page on speed shows: its tables, its figure and its headline."""

from pathlib import Path

from recipes.files import content_of
from results.common import markdown, timing
from results.common.timing import find, measured_on
from results.experiments import BASELINE, FIRST_COMMAND, VARIANTS
from results.speed import engines, paper_size_report, report
from results.speed.limits import rows

FOLDER = Path(__file__).parent
SPEED_JSON, PAPER_SIZE_JSON, LIMITS_JSON, AGAINST_JSON = (
    FOLDER / f"{name}.json" for name in ("speed", "paper_size", "limits", "against")
)


def limits(path: Path = LIMITS_JSON) -> str:
    """What is to be reached, and where it is."""
    with content_of(path) as results:
        cells = rows.cells_of(results, timing.load(AGAINST_JSON))
        return f"{markdown.paragraph(rows.conditions(results, cells))}\n\n{markdown.table(rows.table_rows(cells))}"


def claims(path: Path = SPEED_JSON) -> str:
    """The papers' claims, each in one row, with where they are reached."""
    with content_of(path) as results:
        conditions = f"Measured at the size of scale `{results['scale']}` with random weights on {measured_on(results)}."
        return f"{markdown.paragraph(conditions)}\n\n{markdown.table(report.claim_rows(results))}"


def all_ratios(path: Path = SPEED_JSON) -> str:
    """Every variant at every length."""
    with content_of(path) as results:
        return "\n\n".join(map(markdown.table, report.all_ratios(results)))


def paper_size(path: Path = PAPER_SIZE_JSON) -> str:
    """Look-ahead, training step and streaming at the size of the papers."""
    with content_of(path) as results:
        conditions = markdown.paragraph(paper_size_report.conditions(results))
        return f"{conditions}\n\n{markdown.table(paper_size_report.step_rows(results))}"


def estimate(path: Path = PAPER_SIZE_JSON) -> str:
    """What training at the size of the papers would cost on all of LibriSpeech."""
    with content_of(path) as results:
        arithmetic = markdown.paragraph(paper_size_report.arithmetic(results))
        return f"{arithmetic}\n\n{markdown.table(paper_size_report.estimate_rows(results))}"


def not_drawn() -> str:
    """What the figure leaves out."""
    modules = ", ".join(f"`{name}`" for name in VARIANTS["modules"] if name not in report.DRAWN)
    groups = ", ".join(f"`{group}`" for group in VARIANTS if group not in ("modules", report.DRAWN_OF))
    return markdown.paragraph(f"The figure leaves out the modules {modules}, and the group {groups}: see the tables below.")


def headline(path: Path = SPEED_JSON, limits_path: Path = LIMITS_JSON) -> str:
    """The page in a sentence: how many aims are reached, and how many of the papers' claims appear, over which attention."""
    relative = [other for other in report.AGAINST if other != BASELINE]
    with content_of(limits_path) as results:
        reached, measured = rows.count(rows.cells_of(results, timing.load(AGAINST_JSON)))
    with content_of(path) as results:
        return (
            f"{reached} of {measured} aims of speed are reached; of {len(report.CLAIMS)} published claims of less time or "
            f"memory, {appear(results, relative)} appear over "
            f"attention with relative positions, on long utterances, and {appear(results, [BASELINE])} over a fused kernel "
            "with rotary positions"
        )


def appear(results: dict, others: list[str]) -> int:
    """How many of the claims are reached by whole models, over any of the others."""
    cells = find(results)
    claims = [(claim, [report.claimed(cells, claim, "model", other) for other in others]) for claim in report.CLAIMS]
    return sum(any(min(found.values(), default=1) <= claim.limit for found in ratios) for claim, ratios in claims)


def draw(folder: Path = FOLDER) -> None:
    """Draw the figures anew that have their JSON."""
    from results.speed import figure  # needs matplotlib
    from results.speed.limits import figures

    path, limits_path = folder / SPEED_JSON.name, folder / LIMITS_JSON.name
    if path.exists():
        with content_of(path) as results:
            figure.draw(results, path.with_suffix(".png"))
    if limits_path.exists():
        with content_of(limits_path) as results:
            figures.draw(results, folder)


def engine_texts(folder: Path = FOLDER / "engines") -> str:
    """What the engines make of a test set."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with content_of(path) as result:
            found += [{**row, "run": f"[{row['run']}](engines/{path.name})"} for row in engines.rows(result)]
    return markdown.with_missing(found, folder, (FIRST_COMMAND,), "engine")


TABLES = {
    "limits": limits,
    "engine_texts": engine_texts,
    "claims": claims,
    "all_ratios": all_ratios,
    "not_drawn": not_drawn,
    "paper_size": paper_size,
    "estimate": estimate,
}
