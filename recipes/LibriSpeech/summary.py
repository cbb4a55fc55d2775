"""The summary of a run: hash of its configuration, environment, peak memory; writing it, and tables of several."""

import hashlib
import json
from pathlib import Path


def config_hash(config):
    """Hash of a configuration: the same for the same values, in whatever order the keys come.

    Arguments
    ---------
    config : dict
        Anything that JSON can hold; other objects raise TypeError, NaN raises ValueError.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256 of the canonical JSON.

    Example
    -------
    >>> config_hash({"seed": 1, "lookahead": 4}) == config_hash({"lookahead": 4, "seed": 1})
    True
    """
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def stage_log(folder):
    """The records of a training stage, one for each epoch, from its `log.jsonl`; none if it did not run."""
    log = Path(folder) / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def stage_seconds(folder):
    """Seconds that a training stage took, over all its restarts; 0.0 if it did not run."""
    return next((record["seconds"] for record in reversed(stage_log(folder))), 0.0)


def summary_rows(summary):
    """The lines of the results table that a run fills: one for each of its test sets.

    Arguments
    ---------
    summary : dict
        The summary of a run, as train.py writes it.

    Returns
    -------
    list of dict
        Rows for `table`. A latency of None in the summary is that of the whole utterance.

    Example
    -------
    >>> rows = summary_rows({
    ...     "experiment": "llsa", "attention": "LLSA", "scale": "mini", "parameters": 1234567,
    ...     "wer": {"test-clean": {"wer": 5.84, "low": 5.51, "high": 6.2}},
    ...     "wer_streaming": {"test-clean": {"wer": 5.84, "different": []}},
    ...     "latency": {"attention_ms": 160.0, "total_ms": 200.0}, "time_s": {"pretrain": 60.0, "test": 30.0},
    ... })
    >>> rows[0]["test"], rows[0]["WER % [95 %]"], rows[0]["attention latency (ms)"], rows[0]["time (min)"]
    ('test-clean', '5.84 [5.51, 6.20]', 160.0, 1.5)
    """
    latency = {
        name: "utterance" if summary["latency"][name] is None else summary["latency"][name]
        for name in ("attention_ms", "total_ms")
    }
    return [
        {
            "experiment": summary["experiment"],
            "attention": summary["attention"],
            "scale": summary["scale"],
            "test": test,
            "WER % [95 %]": f"{score['wer']:.2f} [{score['low']:.2f}, {score['high']:.2f}]",
            **({"WER % LM": summary["wer_lm"][test]["wer"]} if summary.get("wer_lm") else {}),
            **_streaming_columns(summary["wer_streaming"], test),
            "attention latency (ms)": latency["attention_ms"],
            "total latency (ms)": latency["total_ms"],
            "parameters (M)": summary["parameters"] / 1e6,
            "time (min)": sum(summary["time_s"].values()) / 60,
        }
        for test, score in summary["wer"].items()
    ]


def _streaming_columns(streaming, test):
    """WER streaming, and in how many utterances the text is not the offline one."""
    score = streaming[test] if streaming else {"wer": None, "different": None}
    different = score["different"] if score["different"] is None else len(score["different"])
    return {"WER % streaming": score["wer"], "utterances that differ": different}
