"""What results/speed.json says: tables, the bounds that must hold, the papers' claims beside what is found, a figure.

Every number is computed from the cells of the file. Ratios of one length are those of the same round, and their median.
"""

import io
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from recipes.LibriSpeech.summary import table
from results.speed_variants import BASELINE, VARIANTS

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
AGAINST = (BASELINE, PLAIN)


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


def compare(cells, claim, group, other):
    """One line: what was claimed, what is found at each length, and at which it is what was claimed."""
    lengths = sorted(frames for name, variant, frames in cells if (name, variant) == (group, claim.variant))
    found = {n: ratio(cells, claim.what, (group, claim.variant, n), (group, other, n)) for n in lengths}
    found = {f"{n * FRAME_S:g} s": quartiles[1] for n, quartiles in found.items() if quartiles is not None}
    there = [length for length, value in found.items() if value <= claim.limit]
    ratios = ", ".join(f"{value:.3f} at {length}" for length, value in found.items())
    here = f"{ratios}; {'reached at ' + ', '.join(there) if there else 'reached nowhere'}" if found else "not measured"
    what = f"{group}, {WORDS[claim.what]} of {claim.variant} over {other}"
    return f"claimed {claim.words} ({claim.limit:.2f}) by {claim.paper}; here {what}: {here}"


COLOURS = {  # of Okabe and Ito; the first whose key is in the name
    "SummaryMixing": "#009E73",
    "SA": "#0072B2",
    "plain": "#D55E00",
    "relative by": "#CC79A7",
    "relative": "#E69F00",
    "AA ": "#56B4E9",
    "AA": "#000000",
}
DASHES = {word: (1, 1) for word in ("queries", "cumulative", "matched")}
DASHES.update({"chunks": (4, 1.5), "SA follower": (4, 1.5), "lite": (6, 2, 1, 2)})
COARSE, FINE = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20), (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5)
SHOWN = ("both_ms", "peak_mib")


def draw(results, path):
    """Draw the ratios to the baseline against length: a row for each group, time and memory beside each other."""
    cells = find(results)
    groups = [group for group in VARIANTS if any(name == group for name, _, _ in cells)]
    figure = Figure(figsize=(10, 3.7 * len(groups)), layout="constrained")
    for row, group in zip(figure.subplots(len(groups), len(SHOWN), squeeze=False), groups):
        for axes, what in zip(row, SHOWN):
            panel(axes, cells, group, what)
    image = io.BytesIO()
    figure.savefig(image, dpi=120, facecolor="white")
    Image.open(image).convert("RGB").quantize(128).save(path, optimize=True)  # a third of the size


def panel(axes, cells, group, what):
    """The lines of a group, each with its name beside its end."""
    lines = {}
    for name in VARIANTS[group]:
        lengths = sorted(key[2] for key in cells if key[:2] == (group, name))
        ratios = {n * FRAME_S: ratio(cells, what, (group, name, n), (group, BASELINE, n)) for n in lengths}
        lines[name] = [(seconds, quartiles[1]) for seconds, quartiles in ratios.items() if quartiles is not None]
    lines = {name: line for name, line in lines.items() if line}
    seconds = sorted({x for line in lines.values() for x, _ in line})
    values = [y for line in lines.values() for _, y in line]
    low, high = 0.8 * min(values), 1.1 * max(values)
    last, right = seconds[-1], 1.15 * seconds[-1]  # of the lines; of the labels' left edge
    wanted = {name: np.log(line[-1][1] / low) / np.log(high / low) for name, line in lines.items()}
    for name, place in spread_out(wanted, gap=0.068).items():
        line, y = lines[name], low * (high / low) ** place
        colour = next(colour for word, colour in COLOURS.items() if word in name)
        dashes = next((dashes for word, dashes in DASHES.items() if word in name), ())
        axes.plot(*zip(*line), color=colour, dashes=dashes, linewidth=1.2 if "by 2" in name else 2, marker="o", markersize=3)
        axes.plot((line[-1][0], right), (line[-1][1], y), color=colour, linewidth=0.5)
        axes.text(1.02 * right, y, name, color=colour, fontsize=9, va="center")
    axes.set(xscale="log", yscale="log", xlim=(0.9 * seconds[0], right * (right / seconds[0]) ** 0.8), ylim=(low, high))
    axes.set_title(f"{group}: {WORDS[what]}, {BASELINE} = 1", fontsize=10, loc="left", pad=10)
    axes.set_xticks(seconds, [f"{x:.0f}" for x in seconds], minor=False)
    ticks = [tick for tick in (COARSE if high > 10 * low else FINE) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("seconds of audio", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["bottom"].set_bounds(0.9 * seconds[0], last)


def spread_out(wanted, gap):
    """Places near the wanted ones, in their order, at least `gap` apart and at most 1.

    Example
    -------
    >>> spread_out({"b": 0.5, "a": 0.5, "c": 1.0}, gap=0.25)
    {'b': 0.375, 'a': 0.625, 'c': 1.0}
    """
    names = sorted(wanted, key=wanted.get)
    up, down = ([wanted[name] for name in names] for _ in "ud")
    for i in range(1, len(names)):
        up[i] = max(up[i], up[i - 1] + gap)
    for i in reversed(range(len(names) - 1)):
        down[i] = min(down[i], down[i + 1] - gap)
    places = [(above + below) / 2 for above, below in zip(up, down)]
    excess = max(0.0, places[-1] - 1.0)
    return {name: place - excess for name, place in zip(names, places)}
