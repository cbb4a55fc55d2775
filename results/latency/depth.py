"""Look-ahead against depth, measured: `python -m results.latency.depth` writes depth.json and draws depth.png.

Every attention of hparams/ at the frames of 20 ms and the window (R = 8) of the base scale, and LLSA with chunks, where
8 frames are the worst case: a narrow model of 1 to 16 layers each, and one backward pass to the waveform. Drawing needs
matplotlib (`pip install -e '.[figures]'`).
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

from recipes import files, machine
from recipes.LibriSpeech import experiment
from results.common.figures import save

ROOT = Path(__file__).parents[2]
DEPTHS = range(1, 17)
ATTENTIONS = {
    "AA": ("aa", ""),
    "MAA": ("maa", ""),
    "SA": ("sa", ""),
    "LLSA": ("llsa", ""),
    "LLSA, chunk 3, look-ahead 6": ("llsa", "attention: {chunk: 3, lookahead: 6}\n"),
    "LLSA, chunk 9, look-ahead 0": ("llsa", "attention: {chunk: 9, lookahead: 0}\n"),
}
NARROW = """scale: base
dim: 16
ffn_dim: 16
num_heads: 2
front_end: !new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 4}
"""


def measure():
    """Declared and measured look-ahead of the attention at each depth.

    Returns
    -------
    dict
        `layers`, and under `lookahead_ms` for each attention the lists `declared` and `measured`, in ms; None where it is
        the whole utterance. `environment` is what they were measured on.
    """
    lookahead = {}
    for name, (file, changes) in ATTENTIONS.items():
        latencies = []
        for depth in DEPTHS:
            hparams, _ = experiment.load(ROOT / "hparams" / f"{file}.yaml", f"{NARROW}num_layers: {depth}\n{changes}")
            latencies.append(hparams["model"].latency())
        lookahead[name] = {
            "declared": [latency["attention_ms"] for latency in latencies],
            "measured": [  # beyond the frame itself
                None if latency["measured_ms"] is None else latency["measured_ms"] - latency["frame_ms"] for latency in latencies
            ],
        }
    return {"layers": list(DEPTHS), "lookahead_ms": lookahead, "environment": machine.environment()}


STYLES = {  # colours of Okabe and Ito; where lines coincide the later ones are thinner, or their markers smaller
    "SA": {"color": "#0072B2", "linewidth": 5, "solid_capstyle": "butt"},
    "MAA": {"color": "#F0E442", "linewidth": 2, "dashes": (3, 3)},
    "LLSA, chunk 9, look-ahead 0": {"color": "#D55E00", "marker": "s", "markersize": 11, "fillstyle": "none"},
    "LLSA, chunk 3, look-ahead 6": {"color": "#D55E00", "marker": "o", "markersize": 7, "fillstyle": "none"},
    "LLSA": {"color": "#D55E00", "marker": "o", "markersize": 3},
}


def draw(results, path):
    """Draw what `measure` returned."""
    layers, lookahead = results["layers"], results["lookahead_ms"]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, style in STYLES.items():
        axes.plot(layers, [ms / 1000 for ms in lookahead[name]["measured"]], **style)
    paper = layers.index(12)
    axes.annotate(
        f"{lookahead['SA']['measured'][paper] / 1000:.2f} s at 12 layers", (12, lookahead["SA"]["measured"][paper] / 1000),
        xytext=(8, -18), textcoords="offset points", color="#0072B2",
    )  # fmt: skip
    axes.text(9.7, 1.78, "SA (solid) and MAA (dashed)\n0.16 s for each layer", color="#0072B2", ha="right")
    axes.text(16.3, 0.3, "LLSA at any depth: 0.16 s   ● chunk 1   ○ chunk 3   □ chunk 9", color="#D55E00", ha="right")
    axes.axhspan(2.8, 3.1, color="#E8E8E8")  # beyond the axis: no number
    axes.text(8.5, 2.95, "AA at any depth: the whole utterance", ha="center", va="center")
    axes.set(xlabel="layers", ylabel="look-ahead of the stack, s", xlim=(0.5, 16.5), ylim=(0, 3.1), xticks=layers)
    axes.set_yticks([0, 0.5, 1, 1.5, 2, 2.5])
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left"].set_bounds(0, 2.7)
    save(figure, path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    path = ROOT / "results" / "latency" / "depth.json"
    files.write_json(path, measure())
    draw(json.loads(path.read_text()), path.with_suffix(".png"))
