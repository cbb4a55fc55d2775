"""What the page on latency shows: its tables, its figures and its headline."""

import json
from pathlib import Path

from results.common import markdown
from results.common.markdown import lookahead
from results.experiments import DELAYS

FOLDER = Path(__file__).parent


def latency(path: Path = FOLDER / "budget.json") -> str:
    """The latency budget of each attention, declared and measured."""
    rows = []
    for run in json.loads(path.read_text())["results"]:
        state = run["state_bytes"]
        rows.append(
            {
                "experiment": f"`{run['experiment']}`",
                "look-ahead of the attention": lookahead(run["attention_ms"]),
                "in all, declared": lookahead(run["total_ms"]),
                "measured by a gradient": lookahead(run["gradient_ms"]),
                "measured in a stream": "no streaming form" if state is None else lookahead(run["streamed_ms"]),
                "state of a stream": "" if state is None else f"{state / 2**20:.1f} MiB",
            }
        )
    return markdown.table(rows)


def delays(folder: Path = FOLDER / "delays") -> str:
    """What a listener waits for a word, for each run and each length of the packets."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        hops = run["hops"]
        first = hops[0]["emitted_ms"]
        rows.append(
            {
                "run": f"[{run['experiment']}](delays/{path.name})",
                "heard": run["split"] + (" (trained on)" if run["trained_on"] else ""),
                "ends of words by": run["word_ends"],
                "median, p90, p99": f"{first['median']:.0f}, {first['p90']:.0f}, {first['p99']:.0f} ms",
                "packets": ", ".join("utterance" if hop["hop_ms"] is None else f"{hop['hop_ms']:.0f} ms" for hop in hops),
                "median in them": ", ".join(f"{hop['emitted_ms']['median']:.0f}" for hop in hops) + " ms",
                "real-time factor, one core": ", ".join(f"{hop['real_time_factor']:.3f}" for hop in hops),
            }
        )
    return markdown.with_missing(rows, folder, DELAYS, "median, p90, p99")


def headline(path: Path = FOLDER / "depth.json") -> str:
    """The page in a sentence: the measured look-ahead at the papers' depth."""
    results = json.loads(path.read_text())
    at = {name: lookahead(found["measured"][results["layers"].index(12)]) for name, found in results["lookahead_ms"].items()}
    return f"measured at 12 layers, a stack of SA looks ahead by {at['SA']}, one of LLSA by {at['LLSA']}"


def draw(folder: Path = FOLDER) -> None:
    """Draw each figure anew that has its JSON."""
    from results.latency import depth, wer_delay

    path = folder / "depth.json"
    if path.exists():
        depth.draw(json.loads(path.read_text()), path.with_suffix(".png"))
    if any((folder / "delays").glob("*.json")):
        wer_delay.draw(*wer_delay.points(folder.parent), folder / "wer_delay.png")


TABLES = {"latency": latency, "delays": delays}
