"""What the tables of all pages share: Markdown, the words for a look-ahead, and rows for what is missing."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

WIDTH = 140
"""Longest line of a page, tables left out."""


def table(rows: Sequence[Mapping]) -> str:
    """A Markdown table of dicts with the same keys; None shows as "-".

    Example
    -------
    >>> print(table([{"attention": "SA", "WER": 75.5}, {"attention": "AA", "WER": None}]))
    | attention | WER |
    | --- | --- |
    | SA | 75.5 |
    | AA | - |
    """
    cells = [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (list(rows[0]), ["---"] * len(rows[0]), *cells))


def paragraph(text: str) -> str:
    """A text in lines of at most `WIDTH` characters, which no word or link is cut for; those after "* " are indented.

    Example
    -------
    >>> paragraph("What is said.   And why.")
    'What is said. And why.'
    """
    text = " ".join(text.split())
    indent = "  " if text.startswith("* ") else ""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def with_missing(rows: Sequence[Mapping], folder: Path, names: Iterable[str], column: str) -> str:
    """A table of rows, and of one for each name that has no file in the folder, which says so in `column`."""
    missing = [name for name in names if not (folder / f"{name}.json").exists()]
    if not rows:
        return f"Missing: {', '.join(missing)}."
    return table([*rows, *({**dict.fromkeys(rows[0], ""), "run": name, column: "missing"} for name in missing)])


def lookahead(ms: float | None) -> str:
    """A look-ahead in words; None is that of the whole utterance.

    Example
    -------
    >>> [lookahead(ms) for ms in (None, 1920, 0)]
    ['utterance', '1.92 s', '0']
    """
    return "utterance" if ms is None else f"{ms / 1000:.2f} s" if ms else "0"
