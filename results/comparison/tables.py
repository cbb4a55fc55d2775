"""The table of the comparison, from the measured files: a sentence on what its rows share, and a row for each experiment.

results/PROTOCOL.md says what is compared, and what "significant" means.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from recipes.LibriSpeech.decoding import bootstrap
from recipes.LibriSpeech.summary import Summary
from results.common.markdown import lookahead
from results.comparison.measured import TEST, Measured

REFERENCES = {None: "aa", 1920: "sa-1920", 160: "chunk-mask", 0: "causal"}  # of those with equal look-ahead, in ms
TRAINED = 50.0  # percent, greedy WER: above it, rows differ in how far they have come with spelling
ENOUGH_SEEDS = 3  # to say something of an attention, and not of its trainings alone


def sentence(of_scale: Sequence[Measured]) -> str:
    """What the rows of a scale share."""
    runs = [run for measured in of_scale for run in measured.runs.values()]
    run = runs[0]

    def described(kind):
        return f"{run.hours(kind):.1f} h ({', '.join(run.splits[kind])})"

    test = run.manifest(TEST)
    return (
        f"Scale `{of_scale[0].scale}`: trained on {described('train')}, {run.codec}; checkpoints chosen on {described('dev')}; "
        f"tested on the {test['utterances']} utterances of {test['speakers']} speakers of {TEST}."
    )


def language_model(of_scale: Sequence[Measured]) -> str:
    """A sentence about the language model of a table, if it has one."""
    lm = next((run.lm for measured in of_scale for run in measured.runs.values() if run.lm), None)
    if lm is None:
        return ""
    left_out = f", without {lm['sentences_left_out']} sentences of the dev and test sets" if "sentences_left_out" in lm else ""
    return f" LM: {lm['order']}-gram of {lm['file']}{left_out}; its weights are chosen on {lm['dev_utterances']} dev utterances."


def rows(of_scale: Sequence[Measured]) -> list[dict[str, str]]:
    """The rows of a scale's table, by look-ahead."""
    by_name = {measured.name: measured for measured in of_scale}
    found = []
    for measured in sorted(of_scale, key=by_lookahead):
        points, verdict = difference(measured, by_name[REFERENCES[measured.experiment.lookahead_ms]])
        found.append(
            {
                "look-ahead": lookahead(measured.experiment.lookahead_ms),
                "attention": measured.experiment.title,
                "WER % [95 % interval]": wer(measured),
                "with LM": with_lm(measured),
                "streaming (texts that differ)": streaming(measured),
                "parameters": next((f"{run.parameters / 1e6:.2f} M" for run in measured.runs.values()), ""),
                "training": training(measured),
                "a step, AA = 1": step_cost(measured, by_name["aa"]),
                "difference to the reference": points,
                "significant": verdict,
                "runs": links(measured),
            }
        )
    return found


def by_lookahead(measured: Measured) -> int:
    """Place of its group in the table: the most look-ahead first."""
    return list(REFERENCES).index(measured.experiment.lookahead_ms)


def over_seeds(values: Sequence[float], low: float | None = None, high: float | None = None) -> str:
    """Mean of some WERs, the interval if it is known, and how far the seeds lie apart."""
    interval = "" if low is None else f" [{low:.1f}, {high:.1f}]"
    spread = f"; {len(values)} seeds, {min(values):.1f} to {max(values):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{interval}{spread}"


def wer(measured: Measured) -> str:
    """The greedy WER."""
    return over_seeds(measured.wers, *measured.interval()) if measured.runs else "missing"


def with_lm(measured: Measured) -> str:
    """The WER with a language model."""
    scores = {seed: score for seed, run in measured.runs.items() if (score := run.lm_score(TEST))}
    if not scores:
        return ""
    tested = measured._replace(runs={seed: measured.runs[seed] for seed in scores})
    part = f"; {len(scores)} of {len(measured.runs)} seeds" if len(scores) < len(measured.runs) else ""
    return over_seeds([score.wer for score in scores.values()], *tested.interval("errors_lm")) + part


def streaming(measured: Measured) -> str:
    """The WER in streams, and how many texts are not those of the offline pass."""
    if not measured.runs:
        return ""
    if measured.experiment.lookahead_ms is None:
        return "no streaming form"
    scores = [run.streaming_score(TEST) for run in measured.runs.values()]
    different, utterances = (sum(getattr(score, name) for score in scores) for name in ("different", "utterances"))
    return f"{np.mean([score.wer for score in scores]):.1f} ({different} of {utterances})"


def seconds(run: Summary, record: Mapping) -> float | None:
    """Time of a stage, from a record of its log: CPU time where a CPU trained, which other work hardly changes; or None."""
    return record.get("cpu_seconds") if run.device.startswith("cpu") else record["seconds"]


def training(measured: Measured) -> str:
    """Updates and time of one training, the mean over the seeds."""
    runs = [run for run in measured.runs.values() if run.has_log]
    last = [(run, log[-1]) for run in runs for stage in ("pretrain", "finetune") if (log := run.log(stage))]
    times = [seconds(run, record) for run, record in last]
    if not runs or None in times:
        return ""
    updates, minutes = sum(record["updates"] for _, record in last) / len(runs), sum(times) / 60 / len(runs)
    changes = measured.experiment.changes
    return f"{updates:.0f} updates, {minutes:.0f} min" + (f" after {changes['weights']}" if "weights" in changes else "")


def step_cost(measured: Measured, aa: Measured) -> str:
    """Time of an update of fine-tuning, validation included, over that of AA, if both ran on the same hardware."""
    each = []
    for one in (measured, aa):
        last = [(run, log[-1]) for run in one.runs.values() if (log := run.log("finetune"))]
        times = [seconds(run, record) for run, record in last]
        if not times or None in times:
            return ""
        each.append(np.mean([time / record["updates"] for time, (_, record) in zip(times, last)]))
    runs = [run for one in (measured, aa) for run in one.runs.values()]
    hardware = {tuple(run.environment[key] for key in ("cpu", "cores", "gpu")) + (run.device,) for run in runs}
    return f"{each[0] / each[1]:.2f}" if len(hardware) == 1 else "other hardware"


def difference(measured: Measured, reference: Measured) -> tuple[str, str]:
    """Points of WER between a row and the reference of its group with their interval, and what the protocol concludes."""
    if measured is reference:
        return "reference", ""
    if not (measured.has_counts and reference.has_counts):
        return "", ""
    errors, others = measured.counts("errors"), reference.counts("errors")
    found = bootstrap.paired(errors, others, measured.counts("words"), measured.counts("speakers"))
    return f"{found.points:+.1f} [{found.low:+.1f}, {found.high:+.1f}]", verdict(found, measured.wers, reference.wers)


def verdict(found: bootstrap.Difference, wers: Sequence[float], others: Sequence[float]) -> str:
    """What the protocol concludes of a difference between two rows.

    Arguments
    ---------
    found : bootstrap.Difference
    wers, others : list of float
        Greedy WER of each seed of the row, and of its reference, in percent.

    Returns
    -------
    str
        `too early`: one of them has learned too little to compare attentions; `no`, `yes`, or `these trainings`: they differ,
        which need not be due to the attention.

    Example
    -------
    >>> clear = bootstrap.Difference(points=-1.0, low=-1.5, high=-0.5, improves=1.0)
    >>> verdict(clear, [20.0], [21.0]), verdict(clear, [20.0, 20.1, 19.9], [21.0, 21.1, 20.9])
    ('these trainings', 'yes')
    """
    if max(np.mean(wers), np.mean(others)) > TRAINED:
        return "too early"
    if not found.significant:
        return "no"
    apart = max(wers) < min(others) or max(others) < min(wers)
    return "yes" if apart and min(len(wers), len(others)) >= ENOUGH_SEEDS else "these trainings"


def links(measured: Measured) -> str:
    """Links to the files, and how many are to come."""
    there = ", ".join(f"[{seed}](../measured/{run.name}.json)" for seed, run in measured.runs.items())
    missing = [seed for seed in range(1, measured.experiment.seeds + 1) if seed not in measured.runs]
    to_come = f"missing: {', '.join(map(str, missing))}" if missing else ""
    return "; ".join(filter(None, (there, to_come)))
