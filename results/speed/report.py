"""What results/speed.json says: tables, the bounds that must hold, the papers' claims beside what is found.

Every number is computed from the cells of the file. Ratios of one length are those of the same round, and their median.
"""

from typing import NamedTuple

import numpy as np

from recipes.text_table import table
from results.speed.variants import BASELINE, VARIANTS

WORDS = {"forward_ms": "forward", "both_ms": "forward + backward", "peak_mib": "peak memory"}
FRAME_S = 0.04
QUARTILES = [0.25, 0.5, 0.75]


class Bound(NamedTuple):
    """`what` of a variant at a length is at most `limit` times that of another."""

    group: str
    variant: str
    frames: int
    other: str
    other_frames: int
    what: str
    limit: float


SUMMARY, CHUNKED = "SummaryMixing", "SummaryMixing, chunks of 16"
SHARED, PLAIN = "AA relative by 4, map", "AA relative, plain"
BOUNDS = (
    Bound("modules", SUMMARY, 1024, BASELINE, 1024, "both_ms", 0.45),
    Bound("modules", SUMMARY, 2048, BASELINE, 2048, "both_ms", 0.30),
    Bound("modules", CHUNKED, 1024, SUMMARY, 1024, "both_ms", 1.05),
    Bound("modules", CHUNKED, 2048, SUMMARY, 2048, "both_ms", 1.05),
    Bound("modules", "SA follower, map", 1024, "SA", 1024, "forward_ms", 0.5),
    Bound("modules", "SA follower, map", 1024, "SA", 1024, "both_ms", 0.5),
    *(Bound("modules", SUMMARY, 2 * n, SUMMARY, n, what, 2.2) for n in (2048, 4096) for what in ("both_ms", "peak_mib")),
    Bound("encoder", SHARED, 875, PLAIN, 875, "forward_ms", 1 / 1.5),
)


class Claim(NamedTuple):
    """What a paper found for a variant: `what` of it was `limit` times that of its baseline, or less."""

    words: str
    paper: str
    variant: str
    what: str
    limit: float


PARCOLLET = "Parcollet et al., arXiv 2307.07421 v1"
SHIM = "Shim et al., ICLR 2022"
CLAIMS = (
    Claim("up to 27 % less time in training", PARCOLLET, SUMMARY, "both_ms", 0.73),
    Claim("half the memory", PARCOLLET, SUMMARY, "peak_mib", 0.5),
    Claim("up to 1.96x faster inference", SHIM, SHARED, "forward_ms", 1 / 1.96),
    Claim("33 % less time in training", SHIM, SHARED, "both_ms", 0.67),
)
AGAINST = (BASELINE, "AA relative", PLAIN)


def find(results):
    """The cells of a file by (group, variant, frames)."""
    return {(cell["group"], cell["variant"], cell["frames"]): cell for cell in results["cells"]}


def ratio(cells, what, one, other):
    """Quartiles of `what` of one cell over that of another, None if one of them is missing.

    Arguments
    ---------
    cells : dict
        See `find`.
    what : str
        A key of `WORDS`.
    one, other : tuple
        Keys of `cells`. Of the same group and length: round by round; else each round of one over the other's median.

    Returns
    -------
    numpy.ndarray or None
        (3,)

    Example
    -------
    >>> cells = {("modules", "SA", 9): {"both_ms": [2, 3, 8]}, ("modules", "AA", 9): {"both_ms": [4, 4, 4]}}
    >>> ratio(cells, "both_ms", ("modules", "SA", 9), ("modules", "AA", 9))
    array([0.625, 0.75 , 1.375])
    """
    if one not in cells or other not in cells:
        return None
    above, below = (np.atleast_1d(cells[key][what]) for key in (one, other))
    paired = (one[0], one[2]) == (other[0], other[2])
    return np.quantile(above / (below if paired else np.median(below)), QUARTILES)


def tables(results):
    """Three tables for each group, as text: the baseline in ms or MiB, the others over it; median and quartiles."""
    cells, texts = find(results), []
    for group, variants in VARIANTS.items():
        lengths = sorted({frames for name, _, frames in cells if name == group})
        for what in WORDS if lengths else ():
            rows = []
            for name in variants:
                row = {f"{group}: {WORDS[what]}": name, "parameters": None}
                for frames in lengths:
                    cell = cells.get((group, name, frames))
                    row["parameters"] = cell["parameters"] if cell else row["parameters"]
                    row[f"{frames} ({frames * FRAME_S:.0f} s)"] = entry(cells, what, (group, name, frames))
                rows.append(row)
            texts.append(table(rows) + "\n")
    return "\n".join(texts)


def entry(cells, what, key):
    """What a table has for a cell."""
    group, name, frames = key
    if key not in cells or (group, BASELINE, frames) not in cells:
        return None
    if name == BASELINE:
        quartiles, digits, unit = np.quantile(cells[key][what], QUARTILES), 1, " MiB" if what == "peak_mib" else " ms"
    else:
        quartiles, digits, unit = ratio(cells, what, key, (group, BASELINE, frames)), 2, ""
    low, middle, high = (f"{value:.{digits}f}" for value in quartiles)
    return middle + unit + (f" [{low}, {high}]" if what != "peak_mib" else "")


def verdicts(results):
    """The bounds, then the papers' claims, a line for each.

    Returns
    -------
    lines : list of str
    hold : bool
        No bound that is measured is broken.
    """
    cells, lines, hold = find(results), [], True
    for bound in BOUNDS:
        one, other = (bound.group, bound.variant, bound.frames), (bound.group, bound.other, bound.other_frames)
        quartiles = ratio(cells, bound.what, one, other)
        if quartiles is None:
            verdict = "not measured"
        else:
            holds = bool(quartiles[1] <= bound.limit)
            low, middle, high = (f"{value:.2f}" for value in quartiles)
            verdict, hold = f"{middle} [{low}, {high}], {'holds' if holds else 'does not hold'}", hold and holds
        words = f"{bound.variant} at {bound.frames} frames over {bound.other} at {bound.other_frames}"
        lines.append(f"bound: {bound.group}, {WORDS[bound.what]}: {words}: at most {bound.limit:.2f}; here {verdict}")
    for claim in CLAIMS:
        for group in ("encoder", "model"):
            lines += [compare(cells, claim, group, other) for other in AGAINST]
    return lines, hold


def reached(cells, claim, group, other):
    """What a claim's variant is over another at each length, and the lengths at which that is what was claimed.

    Returns
    -------
    found : dict
        From the length in words to the median ratio.
    there : list of str
    """
    lengths = sorted(frames for name, variant, frames in cells if (name, variant) == (group, claim.variant))
    found = {n: ratio(cells, claim.what, (group, claim.variant, n), (group, other, n)) for n in lengths}
    found = {f"{n * FRAME_S:g} s": quartiles[1] for n, quartiles in found.items() if quartiles is not None}
    return found, [length for length, value in found.items() if value <= claim.limit]


def compare(cells, claim, group, other):
    """One line: what was claimed, what is found at each length, and at which it is what was claimed."""
    found, there = reached(cells, claim, group, other)
    ratios = ", ".join(f"{value:.3f} at {length}" for length, value in found.items())
    here = f"{ratios}; {'reached at ' + ', '.join(there) if there else 'reached nowhere'}" if found else "not measured"
    what = f"{group}, {WORDS[claim.what]} of {claim.variant} over {other}"
    return f"claimed {claim.words} ({claim.limit:.2f}) by {claim.paper}; here {what}: {here}"


def claims(results):
    """The papers' claims beside what is found, for README: a row for each claim and baseline.

    Returns
    -------
    list of dict
    """
    cells, rows = find(results), []
    for claim in CLAIMS:
        for group in ("encoder", "model"):
            for other in AGAINST:
                found, there = reached(cells, claim, group, other)
                rows.append(
                    {
                        "claimed": f"{claim.words} ({claim.limit:.2f}; {claim.paper})",
                        "here": f"{group}, {WORDS[claim.what]}, {claim.variant} over {other}",
                        "ratio": ", ".join(f"{value:.3f} at {length}" for length, value in found.items()) or "missing",
                        "reached": "at " + ", ".join(there) if there else "nowhere",
                    }
                )
    return rows
