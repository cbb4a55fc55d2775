"""Writes README's tables, and the sentence on its first command, from the files: `python -m results.pages`.

Measured numbers come from `results/measured/*.json` (summaries of runs), published ones from `results/published.yaml`.
"""

import json
import re
from pathlib import Path

import ruamel.yaml

from recipes.files import write_text
from results.comparison.rows import rows, sections
from results.speed import paper_size_report, report

ROOT = Path(__file__).parents[1]
OTHER_RUNS = ("llsa-chunk3-mini-librispeech-seed1",)
OTHER_RUNS += tuple(f"{name}-mini-embedded-seed1" for name in ("aa", "sa", "maa", "llsa", "shared-attention", "summary-mixing"))
"""Runs outside the comparison that the table has in any case."""
DELAYS = (*OTHER_RUNS, "llsa-chunk3-mini-librispeech-seed1-train-clean-100")
"""The same, of results/delays."""


def markdown(rows):
    """A markdown table of dicts with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def with_missing(rows, folder, names, column):
    """A table of rows, and of one for each name that has no file in the folder, which says so in `column`."""
    missing = [name for name in names if not (folder / f"{name}.json").exists()]
    if not rows:
        return f"Missing: {', '.join(missing)}."
    return markdown(rows + [{**dict.fromkeys(rows[0], ""), "run": name, column: "missing"} for name in missing])


def measured(folder=ROOT / "results" / "measured"):
    """One row for each test set of each run that is not in the comparison, by data, then by latency; then what is missing."""
    compared = {row.file(seed) for of_scale in rows(folder).values() for row in of_scale for seed in row.runs}
    found = []
    for path in sorted(path for path in folder.glob("*.json") if path.name not in compared):
        run = json.loads(path.read_text())
        hours = sum(run["data"]["manifests"][split]["hours"] for split in run["data"]["splits"]["train"])
        layout = run["config"]["attention"]
        options = f", chunk {layout['chunk']}" if (layout.get("chunk") or 1) > 1 else ""
        options += f", revisions {layout['revisions']}" if layout.get("revisions") else ""
        owners = run["config"].get("owners")
        options += f", maps of layers {', '.join(map(str, owners))} shared" if owners else ""
        ms = run["latency"]["attention_ms"]
        for test, score in run["wer"].items():
            row = {
                "test set": test,
                "attention": f"{run['attention']}{options}",
                "look-ahead of the stack": "utterance" if ms is None else f"{ms / 1000:.2f} s",
                "WER % [95 % interval]": f"{score['wer']:.1f} [{score['low']:.1f}, {score['high']:.1f}]",
                "WER % streaming (texts that differ)": streaming(run, test),
                "block": run["block"].removesuffix("Block"),
                "parameters": f"{run['parameters'] / 1e6:.2f} M",
                "training data": f"{hours:.1f} h, {run['data']['codec']}",
                "run": f"[{path.stem}](results/measured/{path.name})",
            }
            found.append((test, -(float("inf") if ms is None else ms), path.stem, row))
    found = [row for *_, row in sorted(found, key=lambda entry: entry[:3])]
    return with_missing(found, folder, OTHER_RUNS, "WER % [95 % interval]")


def comparison(folder=ROOT / "results" / "measured"):
    """A sentence and a table for each scale at which the experiments of results/experiments.py are measured, and the figures."""
    parts = [f"{sentence}\n\n{markdown(lines)}" for sentence, lines in sections(folder)]
    figures = {"story": "WER against look-ahead", "learning_curves": "WER on the dev set against epochs"}
    parts += [
        f"![{words}](results/comparison/{name}.png)"
        for name, words in figures.items()
        if (folder.parent / "comparison" / f"{name}.png").exists()
    ]
    return "\n\n".join(parts) or "No experiment of the comparison is measured yet: run `results/reproduce.py`."


def streaming(run, test):
    """The cell of the streaming WER."""
    if run["latency"]["attention_ms"] is None:
        return "no streaming form"
    if "wer_streaming" not in run:
        return "missing"
    score = run["wer_streaming"][test]
    return f"{score['wer']:.1f} ({len(score['different'])} of {score['utterances']})"


def default_run(path=ROOT / "results" / "measured" / "llsa-mini-embedded-seed1.json"):
    """One sentence about README's first command."""
    run = json.loads(path.read_text())
    (score,), minutes = run["wer"].values(), sum(run["time_s"].values()) / 60
    return (
        f"Measured after installation, on {run['environment']['cores']} cores ({run['environment']['cpu']}): "
        f"{minutes:.1f} minutes, "
        f"WER {score['wer']:.1f} % [{score['low']:.1f}, {score['high']:.1f}] "
        f"([{path.stem}](results/measured/{path.name}))."
    )


def latency(path=ROOT / "results" / "latency" / "budget.json"):
    """The latency budget of each attention, declared and measured."""

    def words(ms):
        return "utterance" if ms is None else f"{ms / 1000:.2f} s"

    rows = []
    for run in json.loads(path.read_text())["results"]:
        state = run["state_bytes"]
        rows.append(
            {
                "experiment": f"`{run['experiment']}`",
                "look-ahead of the attention": words(run["attention_ms"]),
                "in all, declared": words(run["total_ms"]),
                "measured by a gradient": words(run["gradient_ms"]),
                "measured in a stream": "no streaming form" if state is None else words(run["streamed_ms"]),
                "state of a stream": "" if state is None else f"{state / 2**20:.1f} MiB",
            }
        )
    return markdown(rows)


def delays(folder=ROOT / "results" / "latency" / "delays"):
    """What a listener waits for a word, for each run and each length of the packets."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        hops = run["hops"]
        first = hops[0]["emitted_ms"]
        rows.append(
            {
                "run": f"[{run['experiment']}](results/latency/delays/{path.name})",
                "heard": run["split"] + (" (trained on)" if run["trained_on"] else ""),
                "ends of words by": run["word_ends"],
                "median, p90, p99": f"{first['median']:.0f}, {first['p90']:.0f}, {first['p99']:.0f} ms",
                "packets": ", ".join("utterance" if hop["hop_ms"] is None else f"{hop['hop_ms']:.0f} ms" for hop in hops),
                "median in them": ", ".join(f"{hop['emitted_ms']['median']:.0f}" for hop in hops) + " ms",
                "real-time factor, one core": ", ".join(f"{hop['real_time_factor']:.3f}" for hop in hops),
            }
        )
    return with_missing(rows, folder, DELAYS, "median, p90, p99")


def speed(path=ROOT / "results" / "speed" / "speed.json"):
    """The papers' claims of speed and memory, and where they appear."""
    return markdown(report.claims(json.loads(path.read_text())))


def published(path=ROOT / "results" / "published.yaml"):
    """The papers' numbers, with how sure each is."""
    entries = ruamel.yaml.YAML(typ="safe").load(path.read_text())
    return markdown(
        [
            {
                "paper": entry["paper"],
                "module": entry["module"],
                "latency": entry["latency"],
                "dev-clean": entry.get("dev_clean", ""),
                "test-clean": entry["test_clean"],
                "how sure": entry["mark"],
            }
            for entry in entries
        ]
    )


def paper_size(path=ROOT / "results" / "speed" / "paper_size.json"):
    """Look-ahead, training step and streaming at the size of the papers."""
    return paper_size_report.table_of(path, markdown)


def estimate(path=ROOT / "results" / "speed" / "paper_size.json"):
    """What the size of the papers would cost on all of LibriSpeech."""
    return paper_size_report.estimate_of(path, markdown)


def made(table):
    """The text of a table, or that its file is missing."""
    try:
        return table()
    except FileNotFoundError as error:
        return f"Missing: `results/{Path(error.filename).name}`."


def fill(text):
    """README's text with each table between its markers made anew."""
    tables = {"default": default_run, "comparison": comparison, "measured": measured}
    tables |= {"published": published, "latency": latency, "delays": delays, "speed": speed}
    tables |= {"paper_size": paper_size, "estimate": estimate}
    for name, table in tables.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda match: f"{match[1]}{made(table)}\n{match[2]}", text, flags=re.DOTALL)
    return text


def write():
    """Make README's tables anew."""
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = fill(before)
    if after != before:
        write_text(readme, after)


if __name__ == "__main__":
    write()
