"""What the tables of all pages share: Markdown, the words for a look-ahead, and rows for what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def table(rows: Sequence[Mapping]) -> str:
    """A Markdown table of dicts with the same keys.

    Example
    -------
    >>> print(table([{"attention": "SA", "WER": 75.5}, {"attention": "AA", "WER": 74.2}]))
    | attention | WER |
    | --- | --- |
    | SA | 75.5 |
    | AA | 74.2 |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


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
