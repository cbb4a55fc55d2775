"""What results/speed/speed.json says: all ratios, the bounds that must hold, the papers' claims beside what is found.

Every number is computed from the cells of the file. A ratio is the median of those of the same round.
"""

from typing import NamedTuple

import numpy as np

from recipes.text_table import table
from results.common.timing import find, in_words, quartiles, short
from results.experiments import BASELINE, VARIANTS

WORDS = {"forward_ms": "forward", "both_ms": "forward + backward", "peak_mib": "peak memory"}
FRAME_S = 0.04


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
AGAINST = (PLAIN, "AA relative", BASELINE)
"""The baselines that a claim is held against, the slowest first."""
CLAIMED_OF = ("model", "encoder")
"""The groups in which a claim is looked for."""
DRAWN_OF = "model"
"""The group that the figure shows."""
DRAWN = ("AA", "AA relative", "AA follower, map", "SA", "SA follower, map", "SummaryMixing", "SummaryMixing lite")
"""The single modules that the figure shows."""


def ratio(cells, what, one, other):
    """Quartiles of `what` of one cell over that of another.

    Arguments
    ---------
    cells : dict
        See `timing.find`.
    what : str
        A key of `WORDS`.
    one, other : tuple
        Keys of `cells`. Of the same group and length: round by round; else each round of one over the other's median.

    Returns
    -------
    numpy.ndarray or None
        (3,); None if a cell is missing.

    Example
    -------
    >>> cells = {("modules", "SA", 9): {"both_ms": [2, 3, 8]}, ("modules", "AA", 9): {"both_ms": [4, 4, 4]}}
    >>> ratio(cells, "both_ms", ("modules", "SA", 9), ("modules", "AA", 9))
    array([0.625, 0.75 , 1.375])
    """
    if one not in cells or other not in cells:
        return None
    above, below = cells[one][what], cells[other][what]
    paired = (one[0], one[2]) == (other[0], other[2])
    return quartiles(above, below if paired else np.median(below))


def lengths_of(cells, group, variant=None):
    """The lengths, in frames, at which a group, or a variant of it, is measured."""
    return sorted({frames for name, other, frames in cells if name == group and variant in (None, other)})


def seconds(frames):
    return short(frames * FRAME_S) + " s"


def all_ratios(results):
    """For each group and each of `WORDS`, the rows of a table: the baseline in ms or MiB, the others over it.

    Yields
    ------
    list of dict
        A row for each variant: median and quartiles at each length, None where that is not measured.
    """
    cells = find(results)
    for group, variants in VARIANTS.items():
        lengths = lengths_of(cells, group)
        for what in WORDS if lengths else ():
            rows = []
            for name in variants:
                of_name = [cells[group, name, frames] for frames in lengths if (group, name, frames) in cells]
                row = {f"{group}: {WORDS[what]}": name, "parameters": of_name[0]["parameters"] if of_name else None}
                row |= {f"{frames} ({seconds(frames)})": _entry(cells, what, (group, name, frames)) for frames in lengths}
                rows.append(row)
            yield rows


def _entry(cells, what, key):
    """What a table says of a cell."""
    group, name, frames = key
    if key not in cells or (group, BASELINE, frames) not in cells:
        return None
    if what == "peak_mib":
        value, baseline = (cells[group, of, frames][what] for of in (name, BASELINE))
        return f"{value:.1f} MiB" if name == BASELINE else f"{value / baseline:.2f}"
    if name == BASELINE:
        return in_words(quartiles(cells[key][what]), 1, " ms")
    return in_words(ratio(cells, what, key, (group, BASELINE, frames)), 2)


def medians(cells, what, group, variant, other):
    """The median ratio of a variant to another, by the length in frames."""
    found = {n: ratio(cells, what, (group, variant, n), (group, other, n)) for n in lengths_of(cells, group, variant)}
    return {frames: three[1] for frames, three in found.items() if three is not None}


def claimed(cells, claim, group, other):
    """The median ratio that a claim is about, over a baseline, by the length in frames."""
    return medians(cells, claim.what, group, claim.variant, other)


def reached(found, limit):
    """At which lengths a ratio is what was claimed, or less.

    Example
    -------
    >>> reached({125: 0.9, 250: 0.5, 500: 0.4}, limit=0.5)
    'from 10 s on'
    >>> reached({125: 0.5, 250: 0.9, 500: 0.4}, limit=0.5), reached({125: 0.9}, limit=0.5)
    ('at 5 s, 20 s', 'nowhere')
    """
    there = [frames for frames, value in found.items() if value <= limit]
    if len(there) > 1 and there == list(found)[-len(there) :]:
        return f"from {seconds(there[0])} on"
    return "at " + ", ".join(map(seconds, there)) if there else "nowhere"


def claim_rows(results):
    """The papers' claims, one row for each: over which baseline and from which length on they appear here.

    Returns
    -------
    list of dict
    """
    cells = find(results)

    def cell(claim, group, other):
        found = claimed(cells, claim, group, other)
        if not found:
            return f"{group}: missing"
        best = min(found, key=found.get)
        return f"{group}: {reached(found, claim.limit)} (lowest {found[best]:.3f} at {seconds(best)})"

    return [
        {
            "claimed": f"{claim.words} (a ratio of {claim.limit:.2f})",
            "by": claim.paper,
            "measured here": f"{WORDS[claim.what]} of {claim.variant}",
            **{f"reached over {other}": "<br>".join(cell(claim, group, other) for group in CLAIMED_OF) for other in AGAINST},
        }
        for claim in CLAIMS
    ]


def bounds(results):
    """The bounds, a line for each.

    Returns
    -------
    lines : list of str
    hold : bool
        No bound that is measured is broken.
    """
    cells, lines, hold = find(results), [], True
    for bound in BOUNDS:
        one, other = (bound.group, bound.variant, bound.frames), (bound.group, bound.other, bound.other_frames)
        three = ratio(cells, bound.what, one, other)
        if three is None:
            verdict = "not measured"
        else:
            holds = bool(three[1] <= bound.limit)
            verdict, hold = f"{in_words(three, 2)}, {'holds' if holds else 'does not hold'}", hold and holds
        words = f"{bound.variant} at {bound.frames} frames over {bound.other} at {bound.other_frames}"
        lines.append(f"bound: {bound.group}, {WORDS[bound.what]}: {words}: at most {bound.limit:.2f}; here {verdict}")
    return lines, hold


def text(results):
    """All of it for the terminal, and whether no bound is broken."""
    claims = ["\n  ".join(f"{key}: {said.replace('<br>', '; ')}" for key, said in row.items()) for row in claim_rows(results)]
    lines, hold = bounds(results)
    return "\n\n".join([*map(table, all_ratios(results)), *claims, "\n".join(lines)]), hold
