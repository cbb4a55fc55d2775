"""The comparison on real speech: what README's table says of each experiment of results/experiments.py, from the measured files.

results/PROTOCOL.md says what is compared, and what "significant" means.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ruamel.yaml import YAML

from recipes.LibriSpeech.decoding import bootstrap
from recipes.LibriSpeech.experiment import HPARAMS
from recipes.LibriSpeech.training import optimization
from results.comparison import runs
from results.experiments import SCALES, Cell, at_scale

MEASURED = Path(__file__).parents[1] / "measured"
TEST = "test-clean"
REFERENCES = {None: "aa", 1920: "sa-1920", 160: "chunk-mask", 0: "causal"}  # of those with equal look-ahead, in ms
TRAINED = 50.0  # percent, greedy WER: above it, rows differ in how far they have come with spelling
ENOUGH_SEEDS = 3  # to say something of an attention, and not of its trainings alone


class Row(NamedTuple):
    """A cell at a scale, and the summaries of its runs by seed."""

    cell: Cell
    scale: str
    runs: dict

    def file(self, seed):
        """Name of the file of a run."""
        return f"{self.cell.name}-{self.scale}-librispeech-seed{seed}.json"

    @property
    def wers(self):
        """Greedy WER of each seed, in percent."""
        return [run["wer"][TEST]["wer"] for run in self.runs.values()]

    @property
    def counted(self):
        """Whether the files have counts of each utterance (older ones do not)."""
        return bool(self.runs) and all("utterances" in run for run in self.runs.values())

    def counts(self, what):
        """`words`, `speakers`, or of `errors`, `errors_lm` the mean over the seeds, of each utterance in the order of the ids."""
        columns = [run["utterances"][TEST][what].split() for run in self.runs.values()]
        return np.mean(np.array(columns, float), axis=0) if what.startswith("errors") else np.array(columns[0], int)

    def interval(self, kind="wer", errors="errors"):
        """Bounds of the 95 % interval of the WER, of the mean over the seeds if there are several and their counts are there."""
        if len(self.runs) > 1 and self.counted and all(errors in run["utterances"][TEST] for run in self.runs.values()):
            return bootstrap.interval(self.counts(errors), self.counts("words"), range(len(self.counts("words"))))
        (score, *more) = (run[kind][TEST] for run in self.runs.values())
        return (None, None) if more else (score["low"], score["high"])


def rows(folder=MEASURED):
    """A row for each cell of each scale that has a file.

    Returns
    -------
    dict
        From the scale to its list of Row, in the order of results/experiments.py.

    Raises
    ------
    ValueError
        If files of one scale are of other data or another recipe, or of another look-ahead than their name says.
    """
    found = {}
    for scale in SCALES:
        if not any(folder.glob(f"*-{scale}-librispeech-seed*.json")):
            continue
        of_scale = [Row(cell, scale, {}) for cell in at_scale(scale)]
        for row in of_scale:
            seeds = [path.stem.rpartition("seed")[2] for path in folder.glob(row.file("[0-9]*"))]
            seeds = sorted(int(seed) for seed in seeds if seed.isdigit())  # not of a copy, as seed1-old
            row.runs.update({seed: json.loads((folder / row.file(seed)).read_text()) for seed in seeds})
        if any(row.runs for row in of_scale):
            check(of_scale)
            found[scale] = of_scale
    return found


def check(of_scale):
    """Refuse to compare what is not of the same data or recipe, or not what its name says."""
    found = {row.file(seed): (row.cell, run) for row in of_scale for seed, run in row.runs.items()}
    first, (first_cell, first_run) = next(iter(found.items()))
    hashes = {Path(name).stem: run.get("config_hash") for name, (_, run) in found.items()}
    for name, (cell, run) in found.items():
        if run["latency"]["attention_ms"] != cell.lookahead_ms:
            raise ValueError(f"{name} looks ahead by another time than its name says: measure it again")
        if data_of(run) != data_of(first_run):
            raise ValueError(f"{name} and {first} are of different data: delete the one that does not belong here")
        if changed := set(runs.differences(run["config"], cell.changes)) - {"weights"}:
            raise ValueError(f"{name} has another {', '.join(changed)} than its name says: delete it, to measure it again")
        if changed := other_recipe(cell, run["config"], first_cell, first_run["config"]):
            raise ValueError(f"{name} and {first} have another {', '.join(changed)}: delete the older one, to measure it again")
        start = run.get("start") or {"name": None, "config_hash": None}
        if hashes.get(start["name"], start["config_hash"]) != start["config_hash"]:
            raise ValueError(f"{name} began with an older {start['name']}: delete it, to measure it again")
    models = {(run["lm"]["sha256"], run["lm"]["order"]) for _, run in found.values() if run.get("lm")}
    if len(models) > 1:
        raise ValueError(f"the runs of scale {of_scale[0].scale} were tested with {len(models)} language models: use one")


def data_of(run):
    """The splits of a run, and the checksum of each."""
    return run["data"]["splits"], {split: manifest["sha256"] for split, manifest in run["data"]["manifests"].items()}


def other_recipe(cell, config, other_cell, other_config):
    """Keys in which the configurations of two cells differ, but for those that the experiments are about.

    `codec` is a remark on the audio, of which there are checksums; of `encoder` and `model` the parts are keys of their own.
    """
    config, other_config = map(optimization.completed, (config, other_config))
    own = {"name", "seed", "codec", "encoder", "model"}
    for changing in (cell, other_cell):
        own |= {*YAML().load(HPARAMS / f"{changing.yaml}.yaml"), *runs.differences({}, changing.changes)}
    differ = {*runs.differences(config, other_config), *runs.differences(other_config, config)}
    return sorted(key for key in differ if not own & {key, key.partition(".")[0]})


def sections(folder=MEASURED):
    """What README has for each scale: a sentence, and the rows of a table, by look-ahead.

    Returns
    -------
    list of (str, list of dict)
    """
    return [(sentence(of_scale) + sentence_on_lm(of_scale), table(of_scale)) for of_scale in rows(folder).values()]


def sentence(of_scale):
    """What the rows of a scale share."""
    row = next(row for row in of_scale if row.runs)
    run = next(iter(row.runs.values()))
    splits, manifests = run["data"]["splits"], run["data"]["manifests"]

    def described(name):
        hours = sum(manifests[split]["hours"] for split in splits[name])
        return f"{hours:.1f} h ({', '.join(splits[name])})"

    codec, test = run["data"]["codec"], manifests[TEST]
    return (
        f"Scale `{row.scale}`: trained on {described('train')}, {codec}; checkpoints chosen on {described('dev')}; "
        f"tested on the {test['utterances']} utterances of {test['speakers']} speakers of {TEST}."
    )


def sentence_on_lm(of_scale):
    """What the language model of the rows of a scale is, if they have one."""
    lm = next((run["lm"] for row in of_scale for run in row.runs.values() if run.get("lm")), None)
    if lm is None:
        return ""
    left_out = f", without {lm['sentences_left_out']} sentences of the dev and test sets" if "sentences_left_out" in lm else ""
    return f" LM: {lm['order']}-gram of {lm['file']}{left_out}; its weights are chosen on {lm['dev_utterances']} dev utterances."


def table(of_scale):
    """The rows of a scale's table, by look-ahead."""
    by_name = {row.cell.name: row for row in of_scale}
    order = list(REFERENCES)
    compared = {row.cell.name: difference(row, by_name[REFERENCES[row.cell.lookahead_ms]]) for row in of_scale}
    return [
        {
            "look-ahead": ahead(row.cell.lookahead_ms),
            "attention": row.cell.title,
            "WER % [95 % interval]": wer(row),
            "with LM": with_lm(row),
            "streaming (texts that differ)": streaming(row),
            "parameters": one(row, lambda run: f"{run['parameters'] / 1e6:.2f} M"),
            "training": training(row),
            "a step, AA = 1": step_cost(row, by_name["aa"]),
            "difference to the reference": compared[row.cell.name][0],
            "significant": compared[row.cell.name][1],
            "runs": links(row),
        }
        for row in sorted(of_scale, key=lambda row: order.index(row.cell.lookahead_ms))
    ]


def ahead(ms):
    """A look-ahead in words."""
    return "utterance" if ms is None else f"{ms / 1000:.2f} s" if ms else "0"


def one(row, words):
    """What the first run of a row says, if there is one."""
    return next((words(run) for run in row.runs.values()), "")


def over_seeds(values, low=None, high=None):
    """Mean of some WERs, the interval if it is known, and how far the seeds lie apart."""
    interval = "" if low is None else f" [{low:.1f}, {high:.1f}]"
    spread = f"; {len(values)} seeds, {min(values):.1f} to {max(values):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{interval}{spread}"


def wer(row):
    """The greedy WER."""
    return over_seeds(row.wers, *row.interval()) if row.runs else "missing"


def with_lm(row):
    """The WER with a language model."""
    tested = Row(row.cell, row.scale, {seed: run for seed, run in row.runs.items() if run.get("wer_lm")})
    if not tested.runs:
        return ""
    wers = [run["wer_lm"][TEST]["wer"] for run in tested.runs.values()]
    part = f"; {len(wers)} of {len(row.runs)} seeds" if len(wers) < len(row.runs) else ""
    return over_seeds(wers, *tested.interval("wer_lm", "errors_lm")) + part


def streaming(row):
    """The WER in streams, and how many texts are not those of the offline pass."""
    if not row.runs:
        return ""
    if row.cell.lookahead_ms is None:
        return "no streaming form"
    scores = [run["wer_streaming"][TEST] for run in row.runs.values()]
    different = sum(len(score["different"]) for score in scores)
    wer = np.mean([score["wer"] for score in scores])
    return f"{wer:.1f} ({different} of {sum(score['utterances'] for score in scores)})"


def seconds(run, record):
    """Time of a stage, from a record of its log: CPU time where a CPU trained, which other work hardly changes; or None."""
    return record.get("cpu_seconds") if run["speed"]["device"].startswith("cpu") else record["seconds"]


def training(row):
    """Updates and time of one training, the mean over the seeds."""
    runs = [run for run in row.runs.values() if "log" in run]
    last = [(run, records[-1]) for run in runs for records in run["log"].values() if records]
    times = [seconds(run, record) for run, record in last]
    if not runs or None in times:
        return ""
    updates, minutes = sum(record["updates"] for _, record in last) / len(runs), sum(times) / 60 / len(runs)
    after = f" after {row.cell.changes['weights']}" if "weights" in row.cell.changes else ""
    return f"{updates:.0f} updates, {minutes:.0f} min{after}"


def step_cost(row, aa):
    """Time of an update of fine-tuning, validation included, over that of AA, if both ran on the same hardware."""
    each = []
    for of_row in (row, aa):
        last = [(run, run["log"]["finetune"][-1]) for run in of_row.runs.values() if run.get("log", {}).get("finetune")]
        times = [(seconds(run, record), record["updates"]) for run, record in last]
        if not times or (None in next(zip(*times))):
            return ""
        each.append(np.mean([time / updates for time, updates in times]))
    runs = [run for of_row in (row, aa) for run in of_row.runs.values()]
    hardware = {tuple(run["environment"][key] for key in ("cpu", "cores", "gpu")) + (run["speed"]["device"],) for run in runs}
    return f"{each[0] / each[1]:.2f}" if len(hardware) == 1 else "other hardware"


def difference(row, reference):
    """Points of WER between a row and the reference of its group with their interval, and what the protocol concludes."""
    if row is reference:
        return "reference", ""
    if not (row.counted and reference.counted):
        return "", ""
    found = bootstrap.paired(row.counts("errors"), reference.counts("errors"), row.counts("words"), row.counts("speakers"))
    return f"{found.points:+.1f} [{found.low:+.1f}, {found.high:+.1f}]", verdict(found, row.wers, reference.wers)


def verdict(found, wers, others):
    """`too early`: one of them has learned too little to compare attentions; `no`, `yes`, or `these trainings`: they differ,
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


def links(row):
    """Links to the files, and how many are to come."""
    there = ", ".join(f"[{seed}](../measured/{row.file(seed)})" for seed in row.runs)
    missing = [seed for seed in range(1, row.cell.seeds + 1) if seed not in row.runs]
    to_come = f"missing: {', '.join(map(str, missing))}" if missing else ""
    return "; ".join(filter(None, (there, to_come)))
