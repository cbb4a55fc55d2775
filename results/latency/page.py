"""What the page on latency shows: its tables, its figures and its headline."""

from collections.abc import Callable
from pathlib import Path

from recipes.files import content_of
from results.common import markdown
from results.common.markdown import lookahead
from results.experiments import DELAYS, FIRST_COMMAND

FOLDER = Path(__file__).parent


def latency(path: Path = FOLDER / "budget.json") -> str:
    """The latency budget of each attention, declared and measured."""
    with content_of(path) as found:
        return markdown.table([budget_row(run) for run in found["results"]])


def budget_row(run: dict) -> dict:
    """A row of the table of budgets."""
    state = run["state_bytes"]
    return {
        "experiment": f"`{run['experiment']}`",
        "look-ahead of the attention": lookahead(run["attention_ms"]),
        "in all, declared": lookahead(run["total_ms"]),
        "measured by a gradient": lookahead(run["gradient_ms"]),
        "measured in a stream": "no streaming form" if state is None else lookahead(run["streamed_ms"]),
        "state of a stream": "" if state is None else f"{state / 2**20:.1f} MiB",
    }


def delays(folder: Path = FOLDER / "delays") -> str:
    """The delay of a word, for each run and each length of the packets."""
    rows = rows_of(folder, delay_row)
    return markdown.with_missing(rows, folder, DELAYS, "half of the words within")


def rows_of(folder: Path, row: Callable[[Path, dict], dict]) -> list[dict]:
    """What `row` makes of each JSON file of a folder."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        with content_of(path) as run:
            rows.append(row(path, run))
    return rows


def whole(ms: float | None) -> str:
    """A time in whole ms; of a run that recognised no word there is none."""
    return "-" if ms is None else f"{ms:.0f}"


def delay_row(path: Path, run: dict) -> dict:
    """The row of a run in the table of delays."""
    hops = run["hops"]
    first, unit = hops[0]["emitted_ms"], " ms" if hops[0]["hop_ms"] else ""
    return {
        "run": f"[{run['experiment']}](delays/{path.name})",
        "heard": run["split"] + (" (trained on)" if run["trained_on"] else ""),
        "ends of words by": run["word_ends"],
        "half of the words within": f"{whole(first['median'])} ms",
        "90 % within": f"{whole(first['p90'])} ms",
        "99 % within": f"{whole(first['p99'])} ms",
        "packets": ", ".join("utterance" if hop["hop_ms"] is None else f"{hop['hop_ms']:.0f}" for hop in hops) + unit,
        "half within, in such packets": ", ".join(whole(hop["emitted_ms"]["median"]) for hop in hops) + " ms",
        "real-time factor, one core": ", ".join(f"{hop['real_time_factor']:.3f}" for hop in hops),
    }


def soaks(folder: Path = FOLDER / "soaks") -> str:
    """What a long stream does to the state, the memory, the time and the outputs, for each run that was soaked."""
    return markdown.with_missing(rows_of(folder, soak_row), folder, (FIRST_COMMAND,), "state")


def soak_row(path: Path, run: dict) -> dict:
    """The row of a run in the table of long streams."""
    first, second, *_, last = tenths = run["tenths"]
    before, after = run["initial_state_bytes"], max(tenth["state_bytes"] for tenth in tenths)
    grown = max(tenth["resident_mib"] for tenth in tenths) - first["resident_mib"]
    years = run["far"]["first_frame"] / run["frames"] * run["minutes"] / (365.25 * 24 * 60)
    return {
        "run": f"[{path.stem}](soaks/{path.name})",
        "audio": f"{run['minutes']:g} minutes of {run['split']}",
        "state": f"{before / 1024:.0f} KiB" + (", unchanged" if after == before else f", then {after / 1024:.0f} KiB"),
        "memory grew by": f"{grown:.1f} MiB",
        "a frame, second and last tenth": f"{second['compute_median_ms']:.1f}, {last['compute_median_ms']:.1f} ms",
        "distance from offline": f"{run['difference']:.0e}",
        "the same after": f"{run['far']['difference']:.0e} ({years:.1f} years)",
        "what failed": "; ".join(run["failures"]) or "nothing",
    }


def headline(path: Path = FOLDER / "depth.json") -> str:
    """The page in a sentence: the measured look-ahead at the papers' depth."""
    with content_of(path) as results:
        at = {name: lookahead(found["measured"][results["layers"].index(12)]) for name, found in results["lookahead_ms"].items()}
        return f"measured at 12 layers, a stack of SA looks ahead by {at['SA']}, one of LLSA by {at['LLSA']}"


def draw(folder: Path = FOLDER) -> None:
    """Draw each figure anew that has its JSON."""
    from results.latency import depth, wer_delay

    path = folder / "depth.json"
    if path.exists():
        with content_of(path) as results:
            depth.draw(results, path.with_suffix(".png"))
    if any((folder / "delays").glob("*.json")):
        wer_delay.draw(*wer_delay.points(folder.parent), folder / "wer_delay.png")


TABLES = {"latency": latency, "delays": delays, "soaks": soaks}
