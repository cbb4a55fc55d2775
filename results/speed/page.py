"""What the page on speed and memory shows: its tables, its figure and its headline."""

import json
from pathlib import Path

from results.common import markdown
from results.speed import paper_size_report, report

FOLDER = Path(__file__).parent


def speed(path: Path = FOLDER / "speed.json") -> str:
    """The papers' claims of speed and memory, and where they appear."""
    return markdown.table(report.claims(json.loads(path.read_text())))


def paper_size(path: Path = FOLDER / "paper_size.json") -> str:
    """Look-ahead, training step and streaming at the size of the papers."""
    return paper_size_report.table_of(path, markdown.table)


def estimate(path: Path = FOLDER / "paper_size.json") -> str:
    """What the size of the papers would cost on all of LibriSpeech."""
    return paper_size_report.estimate_of(path, markdown.table)


def headline(path: Path = FOLDER / "speed.json") -> str:
    """The page in a sentence: which of the papers' claims appear over fused attention with rotary positions."""
    cells = report.find(json.loads(path.read_text()))
    found = {claim.words: report.reached(cells, claim, "model", report.BASELINE)[1] for claim in report.CLAIMS}
    there = [f"{words} at {', '.join(lengths)}" for words, lengths in found.items() if lengths]
    what = f"of {len(found)} claims of speed and memory, over {report.BASELINE} with a fused kernel, appear"
    return f"{what}: {'; '.join(there) or 'none'}"


def draw(folder: Path = FOLDER) -> None:
    """Draw the figure anew, if it has its JSON."""
    from results.speed import figure

    path = folder / "speed.json"
    if path.exists():
        figure.draw(json.loads(path.read_text()), path.with_suffix(".png"))


TABLES = {"speed": speed, "paper_size": paper_size, "estimate": estimate}
