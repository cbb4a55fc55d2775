"""Look-ahead against depth, measured: `python -m results.latency.depth` writes depth.json and draws depth.png.

Each attention has frames of 20 ms and looks ahead by R = 8 of them, as at scale `base`; LLSA is there with chunks too, in
which the worst frame waits for 8 others. For each depth from 1 to 16 layers a narrow model is built, and one backward pass to
the waveform finds how far it looks ahead. Drawing needs matplotlib (`pip install -e '.[figures]'`).
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from recipes import files, machine
from recipes.command_line import Parser, exit_code
from results.common.figures import GREY, INK, PALE, PAPER, WIDTH, colour, for_text, plain, save
from results.experiments import AGAINST_DEPTH

DEPTHS = range(1, 17)
FILE = Path(__file__).with_suffix(".json")
NARROW = {
    "scale": "base",
    "dim": 16,
    "ffn_dim": 16,
    "num_heads": 2,
    "front_end": "!new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 4}",
}


def measure() -> dict:
    """Declared and measured look-ahead of the attention at each depth.

    Returns
    -------
    dict
        `layers` is the list of depths. `lookahead_ms` has for each attention the lists `declared` and `measured`, in ms
        beyond the frame itself; None stands for the whole utterance. `environment` is the machine.
    """
    lookahead = {}
    for name, one in AGAINST_DEPTH.items():
        latencies = [one.load(**NARROW, num_layers=depth)[0]["model"].latency() for depth in DEPTHS]
        lookahead[name] = {
            "declared": [latency["attention_ms"] for latency in latencies],
            "measured": [  # beyond the frame itself
                None if latency["measured_ms"] is None else latency["measured_ms"] - latency["frame_ms"] for latency in latencies
            ],
        }
    return {"layers": list(DEPTHS), "lookahead_ms": lookahead, "environment": machine.environment()}


PAPERS = 12  # layers of the encoder in the papers


def draw(results: dict, path: Path) -> None:
    """Draw what `measure` returned: a line for each attention, the distance between them at the papers' depth."""
    layers, at = results["layers"], results["layers"].index(PAPERS)
    seconds = {name: [None if ms is None else ms / 1000 for ms in of["measured"]] for name, of in results["lookahead_ms"].items()}
    slow, fast, last = seconds["SA"], seconds["LLSA"], layers[-1]
    top = 1.12 * slow[-1]  # where the whole utterance is, which has no number
    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = plain(figure.subplots())

    def line(name, **style):
        axes.plot(layers, seconds[name], color=colour(name), solid_capstyle="butt", **style)

    line("SA", linewidth=5)
    line("MAA", linewidth=2.2, dashes=(2.5, 2))
    line("LLSA, chunk 9, look-ahead 0", linewidth=7)
    line("LLSA", linewidth=2.4, marker="o", markersize=6, markeredgecolor=PAPER)
    line("LLSA, chunk 3, look-ahead 6", linewidth=0, marker=".", markersize=3, markerfacecolor=PAPER, zorder=4)
    axes.plot((1, last), (top, top), color=colour("AA"), linewidth=2.4)
    axes.annotate(
        "", (PAPERS, fast[at] + 0.08), (PAPERS, slow[at] - 0.05), arrowprops={"arrowstyle": "->", "color": GREY, "linewidth": 1.2}
    )
    middle = (slow[at] + fast[at]) / 2
    words = f"{slow[at]:.2f} s → {fast[at]:.2f} s\nat the papers'\n{PAPERS} layers"
    axes.text(PAPERS + 0.25, middle, words, color=INK, va="center", fontsize=11)
    for y, words, name in (
        (top, "AA", "AA"),
        (slow[-1] + 0.06, "SA", "SA"),
        (slow[-1] - 0.13, "MAA", "MAA"),
        (fast[-1] + 0.19, "chunk mask", "chunk mask"),
        (fast[-1], "LLSA", "LLSA"),
    ):
        axes.text(last + 0.3, y, words, color=for_text(colour(name)), va="center", fontsize=11, weight="bold")
    axes.text(last + 0.3, fast[-1] - 0.15, "in chunks of 1 or 3", color=for_text(colour("LLSA")), va="center", fontsize=9)
    axes.set(xlim=(0.6, last + 0.1), ylim=(0, top + 0.08))
    axes.set_xticks([1, *range(2, last + 1, 2)])
    axes.set_yticks([*np.arange(0, slow[-1], 0.5), top], [*(f"{y:g}" for y in np.arange(0, slow[-1], 0.5)), "utterance"])
    axes.set_xlabel("layers of the encoder", fontsize=11)
    axes.set_title("seconds of audio that the encoder looks ahead, measured", loc="left", fontsize=12, color=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    save(figure, path)


def command(arguments: Sequence[str]) -> None:
    """Measure, write depth.json and draw depth.png."""
    Parser(description=__doc__.split("\n")[0]).parse_args(arguments)
    files.write_json(FILE, measure())
    draw(json.loads(FILE.read_text()), FILE.with_suffix(".png"))


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
