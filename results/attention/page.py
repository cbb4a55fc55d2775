"""What the page on attention maps shows: a table of each analysis, its figures and its headline."""

from pathlib import Path

from recipes.files import content_of
from results.common import markdown

FOLDER = Path(__file__).parent
SHOWN = "llsa-chunk3-mini-librispeech-seed1"
"""The run that the page shows."""


def layers(path: Path = FOLDER / SHOWN / "analysis.json") -> str:
    """A sentence on what was heard, and a row for each layer: how far it looks, what it shares, what it knows of phones."""
    with content_of(path) as run:
        return f"{markdown.paragraph(described(run))}\n\n{markdown.table(layer_rows(run))}"


def layer_rows(run: dict) -> list[dict]:
    """A row for each layer of an analysis."""
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
    return rows


def described(run: dict) -> str:
    """What was heard, and what the numbers of the layers are to be compared with."""
    maps, probe = run["maps"], run["probe"]
    return (
        f"{run['attention']} of [{run['experiment']}](../measured/{run['experiment']}.json), on {run['utterances']} utterances "
        f"of {run['split']}{', which it was trained on' if run['trained_on'] else ''}. Diagonality is "
        f"{maps['diagonality']['uniform']:.3f} for attention that is uniform over the utterance, and "
        f"{maps['diagonality']['window']:.3f} if it is uniform over what a frame sees. "
        f"The same probe finds {probe['filterbanks']:.1f} % of the phones from filterbanks, and "
        f"{probe['most_frequent']:.1f} % of the frames are the most frequent phone."
    )


def headline(path: Path = FOLDER / SHOWN / "analysis.json") -> str:
    """The page in a sentence: what the layers know of phones."""
    with content_of(path) as run:
        probe = run["probe"]
        best = max(range(run["layers"]), key=lambda layer: probe["trained"][layer])
        return (
            f"in a trained {run['attention']}, a linear layer finds the phone of {probe['trained'][best]:.1f} % of the frames "
            f"from layer {best + 1}; with random weights of {probe['untrained'][best]:.1f} %"
        )


def draw(folder: Path = FOLDER) -> None:
    """Draw each figure anew that its analysis.json is enough for."""
    from results.attention import figures

    for path in sorted(folder.glob("*/analysis.json")):
        with content_of(path) as run:
            figures.draw(run, None, path.parent)


TABLES = {"layers": layers}
