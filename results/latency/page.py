"""What the page on latency shows: its tables, its figures and its headline."""

import json
from pathlib import Path

from results.common import markdown
from results.common.markdown import lookahead
from results.experiments import DELAYS, FIRST_COMMAND

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
    """The delay of a word, for each run and each length of the packets."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        hops = run["hops"]
        first, unit = hops[0]["emitted_ms"], " ms" if hops[0]["hop_ms"] else ""
        rows.append(
            {
                "run": f"[{run['experiment']}](delays/{path.name})",
                "heard": run["split"] + (" (trained on)" if run["trained_on"] else ""),
                "ends of words by": run["word_ends"],
                "half of the words within": f"{first['median']:.0f} ms",
                "90 % within": f"{first['p90']:.0f} ms",
                "99 % within": f"{first['p99']:.0f} ms",
                "packets": ", ".join("utterance" if hop["hop_ms"] is None else f"{hop['hop_ms']:.0f}" for hop in hops) + unit,
                "half within, in such packets": ", ".join(f"{hop['emitted_ms']['median']:.0f}" for hop in hops) + " ms",
                "real-time factor, one core": ", ".join(f"{hop['real_time_factor']:.3f}" for hop in hops),
            }
        )
    return markdown.with_missing(rows, folder, DELAYS, "half of the words within")


def soaks(folder: Path = FOLDER / "soaks") -> str:
    """What a long stream does to the state, the memory, the time and the outputs, for each run that was soaked."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        first, second, *_, last = tenths = run["tenths"]
        before, after = run["initial_state_bytes"], max(tenth["state_bytes"] for tenth in tenths)
        grown = max(tenth["resident_mib"] for tenth in tenths) - first["resident_mib"]
        years = run["far"]["first_frame"] / run["frames"] * run["minutes"] / (365.25 * 24 * 60)
        rows.append(
            {
                "run": f"[{run['experiment']}](soaks/{path.name})",
                "audio": f"{run['minutes']:g} minutes of {run['split']}",
                "state": f"{before / 1024:.0f} KiB" + (", unchanged" if after == before else f", then {after / 1024:.0f} KiB"),
                "memory grew by": f"{grown:.1f} MiB",
                "a frame, second and last tenth": f"{second['compute_median_ms']:.1f}, {last['compute_median_ms']:.1f} ms",
                "distance from offline": f"{run['difference']:.0e}",
                "the same after": f"{run['far']['difference']:.0e} ({years:.1f} years)",
                "what failed": "; ".join(run["failures"]) or "nothing",
            }
        )
    return markdown.with_missing(rows, folder, (FIRST_COMMAND,), "state")


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


TABLES = {"latency": latency, "delays": delays, "soaks": soaks}
