"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned plain-text table: numbers and what shares a column with them to the right, text to the left.

    Arguments
    ---------
    rows : list of dict
        The cells of each row by column name; the same columns in every row. None shows as "-".

    Returns
    -------
    str
        A header line, then one line per row.

    Example
    -------
    >>> print(table([{"attention": "MAA", "WER (%)": 13.82}, {"attention": "LLSA", "WER (%)": 5.84}]))
    attention  WER (%)
    MAA          13.82
    LLSA          5.84
    """
    if not rows:
        return ""
    names = list(rows[0])
    if any(set(row) != set(names) for row in rows):
        raise ValueError("the rows of a table must have the same columns")
    columns = []
    for name in names:
        values = [row[name] for row in rows]
        cells = [name, *map(_cell, values)]
        width = max(map(len, cells))
        right = any(isinstance(value, (int, float)) for value in values)
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns))


def _cell(value: object) -> str:
    """The text of one table cell."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
