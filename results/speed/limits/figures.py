"""The two figures of results/speed/limits.json: cost against length, and milliseconds a frame in streams."""

import numpy as np
from matplotlib.figure import Figure

from results.common.figures import GREY, INK, PALE, PAPER, WIDTH, colour, for_text, plain, save, spread_out
from results.common.timing import find, short
from results.speed.limits import rows

PANELS = {
    "core": ("One attention, its core alone", {"AA": "AA", "SA": "SA", "local-attention": "package\nlocal-attention"}),
    "conformer": (
        "One Conformer block",
        {
            "SpeechBrain, relative": "SpeechBrain,\nrelative positions",
            "SpeechBrain, RoPE": "SpeechBrain,\nrotary positions",
            "chunk mask": "chunk mask",
            "no attention": "no attention",
        },
    ),
}
"""What the panels of the first figure show: a group with its title, and its variants with their names."""
STREAMS = {
    "base": (
        "12 layers of 768",
        20,
        [
            (attention, frames, f"{attention}, {words}")
            for frames, words in ((1, "frame by frame"), (8, "packets of 8"))
            for attention in ("SA", "LLSA")
        ],
    ),
    "mini": ("4 layers of 128", 40, [(attention, 1, f"{attention}, frame by frame") for attention in ("SA", "LLSA")]),
}
"""What the panels of the second figure show: a scale, its title, how long its frames last, and its blocks of bars."""
CACHE_MIB = 32  # smaller weights stay in a cache
KEY = "White line: reading all weights from memory.\nGrey line: real time."
GAP = 0.1  # between two names, of the height of a panel, for each of their lines


def draw(results, folder):
    """Draw both figures into a folder."""
    cells = find(results)
    draw_cost(cells, folder / "cost.png")
    draw_streams(cells, folder / "streams.png")


def medians(cells, group, variant):
    """Microseconds for each frame, forward and backward, by length in frames."""
    found = [cell for (name, *_), cell in cells.items() if (name, cell["variant"]) == (group, variant)]
    return {cell["frames"]: 1000 * np.median(cell["ms"]) / cell["frames"] for cell in found}


def draw_cost(cells, path):
    """Time for each frame against length: what is flat costs as much for a frame of a long utterance as of a short one."""
    figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    for axes, (group, (title, names)) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
        lines = {words: medians(cells, group, variant) for variant, words in names.items()}
        draw_lines(plain(axes), {words: line for words, line in lines.items() if line})
        axes.set_title(f"{title}\nµs a frame, forward and backward", loc="left", fontsize=11, color=INK)
    save(figure, path)


def draw_lines(axes, lines):
    """One line for each variant, with its name behind its end."""
    if not lines:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    lengths = sorted({frames for line in lines.values() for frames in line})
    high = 1.08 * max(value for line in lines.values() for value in line.values())
    right = lengths[-1] + 0.05 * (lengths[-1] - lengths[0])
    wanted = {words: list(line.values())[-1] / high for words, line in lines.items()}
    for words, place in spread_out(wanted, GAP).items():
        x, y = zip(*lines[words].items())
        value = GREY if words == "no attention" else colour(words)
        axes.plot(x, y, color=value, linewidth=2, marker="o", markersize=3.5, clip_on=False)
        axes.plot((x[-1], right), (y[-1], place * high), color=value, linewidth=0.5)
        axes.text(1.02 * right, place * high, words, color=for_text(value), fontsize=10, va="center", linespacing=1)
    axes.set(xlim=(0, lengths[-1] * 1.7), ylim=(0, high))
    axes.set_xticks([x for x in lengths if x == lengths[-1] or min(abs(x - y) for y in lengths if y > x) > 0.15 * lengths[-1]])
    axes.set_xlabel("frames", loc="left")
    axes.spines["bottom"].set_bounds(0, lengths[-1])


def draw_streams(cells, path):
    """Milliseconds a frame with each engine: bars, and the time that it takes to read the weights from memory."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1)
    left, _ = panels = figure.subplots(1, 2, sharey=True)
    for axes, (scale, (title, frame_ms, blocks)) in zip(panels, STREAMS.items()):
        found = [(words, bars(cells, f"{scale}-{attention.lower()}", frames)) for attention, frames, words in blocks]
        draw_bars(plain(axes), [(words, lines) for words, lines in found if lines], frame_ms)
        axes.set_title(f"{title}\nms a frame, which lasts {frame_ms} ms", loc="left", fontsize=11, color=INK)
    left.set_ylim(reversed(left.get_ylim()))
    left.set_xlabel(KEY, loc="left", color=INK, fontsize=9)
    save(figure, path)


def bars(cells, group, frames):
    """Of each engine its name, the time for a frame, and the time to read all weights for it; None where a cache holds them."""
    found = []
    for cell in (cell for key, cell in cells.items() if key[0] == group and key[2:] == (frames,)):
        floor = rows.reading(group, cell["variant"], frames)(cells)[1] / frames if cell["mib"] > CACHE_MIB else None
        found.append((cell["variant"], np.median(cell["ms"]) / frames, floor))
    return found


def draw_bars(axes, blocks, frame_ms):
    """Blocks of bars, one below the other, each with its words above it; a line across those of weights that no cache holds."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if not blocks:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    high, y = max(value for _, lines in blocks for _, value, _ in lines), 0.0
    if frame_ms < 1.4 * high:
        axes.axvline(frame_ms, color=PALE, linewidth=5, zorder=0)
    for words, lines in blocks:
        axes.text(0, y, words, color=for_text(colour(words)), fontsize=10, va="center")
        for engine, value, floor in lines:
            y += 1
            axes.barh(y, value, height=0.7, color=colour(words))
            if floor is not None:
                axes.plot((floor, floor), (y - 0.35, y + 0.35), color=PAPER, linewidth=1.5)
            axes.text(value + 0.02 * high, y, f"{engine} {short(value)}", color=INK, fontsize=9, va="center")
        y += 1.5
    axes.set(xlim=(0, 1.45 * high), ylim=(-0.7, max(y - 0.5, axes.get_ylim()[1])))
