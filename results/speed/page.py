"""What the page on speed shows: its tables, its figure and its headline."""

import json
from pathlib import Path

from results.common import markdown
from results.common.timing import find, measured_on
from results.experiments import BASELINE, VARIANTS
from results.speed import paper_size_report, report

FOLDER = Path(__file__).parent
SPEED_JSON, PAPER_SIZE_JSON = FOLDER / "speed.json", FOLDER / "paper_size.json"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def claims(path: Path = SPEED_JSON) -> str:
    """The papers' claims, each in one row, with where they are reached."""
    results = read(path)
    conditions = f"Measured at the size of scale `{results['scale']}` with random weights on {measured_on(results)}."
    return f"{markdown.paragraph(conditions)}\n\n{markdown.table(report.claim_rows(results))}"


def all_ratios(path: Path = SPEED_JSON) -> str:
    """Every variant at every length."""
    return "\n\n".join(map(markdown.table, report.all_ratios(read(path))))


def paper_size(path: Path = PAPER_SIZE_JSON) -> str:
    """Look-ahead, training step and streaming at the size of the papers."""
    results = read(path)
    conditions = markdown.paragraph(paper_size_report.conditions(results))
    return f"{conditions}\n\n{markdown.table(paper_size_report.step_rows(results))}"


def estimate(path: Path = PAPER_SIZE_JSON) -> str:
    """What training at the size of the papers would cost on all of LibriSpeech."""
    results = read(path)
    arithmetic = markdown.paragraph(paper_size_report.arithmetic(results))
    return f"{arithmetic}\n\n{markdown.table(paper_size_report.estimate_rows(results))}"


def not_drawn() -> str:
    """What the figure leaves out."""
    modules = ", ".join(f"`{name}`" for name in VARIANTS["modules"] if name not in report.DRAWN)
    groups = ", ".join(f"`{group}`" for group in VARIANTS if group not in ("modules", report.DRAWN_OF))
    return markdown.paragraph(f"The figure leaves out the modules {modules}, and the group {groups}: see the tables below.")


def headline(path: Path = SPEED_JSON) -> str:
    """The page in a sentence: how many of the papers' claims appear, over which attention."""
    cells = find(read(path))

    def appear(others):
        claims = [(claim, [report.claimed(cells, claim, "model", other) for other in others]) for claim in report.CLAIMS]
        return sum(any(min(found.values(), default=1) <= claim.limit for found in ratios) for claim, ratios in claims)

    relative = [other for other in report.AGAINST if other != BASELINE]
    return (
        f"of {len(report.CLAIMS)} published claims of less time or memory, {appear(relative)} appear over attention with "
        f"relative positions, on long utterances, and {appear([BASELINE])} over a fused kernel with rotary positions"
    )


def draw(folder: Path = FOLDER) -> None:
    """Draw the figure anew, if it has its JSON."""
    from results.speed import figure  # needs matplotlib

    path = folder / SPEED_JSON.name
    if path.exists():
        figure.draw(read(path), path.with_suffix(".png"))


TABLES = {
    "claims": claims,
    "all_ratios": all_ratios,
    "not_drawn": not_drawn,
    "paper_size": paper_size,
    "estimate": estimate,
}
