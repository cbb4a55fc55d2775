"""What the page on attention maps shows: a table of each analysis, its figures and its headline."""

import json
from pathlib import Path

from results.common import markdown

FOLDER = Path(__file__).parent
SHOWN = "llsa-chunk3-mini-librispeech-seed1"
"""The run that the page shows."""


def layers(path: Path = FOLDER / SHOWN / "analysis.json") -> str:
    """A sentence on what was heard, and a row for each layer: how far it looks, what it shares, what it knows of phones."""
    run = json.loads(path.read_text())
    maps, probe = run["maps"], run["probe"]
    rows = []
    for layer, heads in enumerate(maps["diagonality"]["heads"]):
        overlaps = maps["similarity"][layer]
        best = max((other for other in range(len(overlaps)) if other != layer), key=lambda other: overlaps[other])
        rows.append(
            {
                "layer": layer + 1,
                "diagonality of its heads": " ".join(f"{head:.3f}" for head in heads),
                "most in common with": f"layer {best + 1}: {overlaps[best]:.2f}",
                "phones found, %": f"{probe['trained'][layer]:.1f}",
                "with random weights, %": f"{probe['untrained'][layer]:.1f}",
            }
        )
    sentence = (
        f"{run['attention']} of [{run['experiment']}](../measured/{run['experiment']}.json), on {run['utterances']} utterances "
        f"of {run['split']}{', which it was trained on' if run['trained_on'] else ''}. Diagonality is "
        f"{maps['diagonality']['uniform']:.3f} for attention that is uniform over the utterance, and "
        f"{maps['diagonality']['window']:.3f} if it is uniform over what a frame sees. "
        f"The same probe finds {probe['filterbanks']:.1f} % of the phones from filterbanks, and "
        f"{probe['most_frequent']:.1f} % of the frames are the most frequent phone."
    )
    return f"{markdown.paragraph(sentence)}\n\n{markdown.table(rows)}"


def headline(path: Path = FOLDER / SHOWN / "analysis.json") -> str:
    """The page in a sentence: what the layers know of phones."""
    run = json.loads(path.read_text())
    probe = run["probe"]
    best = max(range(run["layers"]), key=lambda layer: probe["trained"][layer])
    return (
        f"in a trained {run['attention']}, a linear layer finds the phone of {probe['trained'][best]:.1f} % of the frames from "
        f"layer {best + 1}; with random weights of {probe['untrained'][best]:.1f} %"
    )


def draw(folder: Path = FOLDER) -> None:
    """Draw each figure anew that its analysis.json is enough for."""
    from results.attention import figures

    for path in sorted(folder.glob("*/analysis.json")):
        figures.draw(json.loads(path.read_text()), None, path.parent)


TABLES = {"layers": layers}
