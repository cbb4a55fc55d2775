"""The summary of a run: hash of its configuration, environment, peak memory; writing it, and tables of several."""

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import torch


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


def environment():
    """What a run ran on: versions of the libraries, hardware, and the git commit of the code.

    Returns
    -------
    dict
        Plain values for JSON. `cuda` is the version that torch was built for, `gpu` the device found (either may be
        None); `git` is None outside a checkout that tracks this file.

    Example
    -------
    >>> sorted(environment())
    ['cores', 'cpu', 'cuda', 'git', 'gpu', 'memory_gib', 'os', 'versions']
    """
    packages = ("torch", "torchaudio", "speechbrain", "hyperpyyaml", "jiwer")
    versions = {name: importlib.metadata.version(name) for name in packages}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "versions": {"python": platform.python_version(), **versions},
        "os": platform.platform(),
        "cpu": _cpu_model(),
        "cores": torch.get_num_threads(),
        "memory_gib": round(memory / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "git": _git_state(Path(__file__).resolve()),
    }


def peak_memory_mib(device="cpu"):
    """Peak memory of this process so far.

    Arguments
    ---------
    device : str or torch.device
        A CUDA device: the most that tensors have occupied on it. Otherwise: the largest resident set of the process.

    Returns
    -------
    float
        Mebibytes.

    Example
    -------
    >>> peak_memory_mib() > 1
    True
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")  # on Linux `getrusage` starts from the peak of the process that started this one
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, KiB elsewhere


def write_bytes(path, content):
    """Writes a file whole or not at all: under a temporary name in the same folder, then renamed.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder exists.
    content : bytes
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a text in UTF-8, whole or not at all; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path, value):
    """Writes a value as indented JSON, whole or not at all; NaN and infinity raise ValueError.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder exists.
    value : object
        Anything that JSON can hold.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "summary.json", {"wer": 5.84})
    ...     (Path(folder) / "summary.json").read_text()
    '{\\n  "wer": 5.84\\n}\\n'
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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


def table(rows):
    """Aligned plain-text table: numbers and what shares a column with them to the right, text to the left.

    Arguments
    ---------
    rows : list of dict
        The cells of each row by column name; the same columns in every row. None shows as "-".

    Returns
    -------
    str
        A header line, then one line per row.

    Example
    -------
    >>> print(table([{"attention": "MAA", "WER (%)": 13.82}, {"attention": "LLSA", "WER (%)": 5.84}]))
    attention  WER (%)
    MAA          13.82
    LLSA          5.84
    """
    if not rows:
        return ""
    names = list(rows[0])
    if any(set(row) != set(names) for row in rows):
        raise ValueError("the rows of a table must have the same columns")
    columns = []
    for name in names:
        values = [row[name] for row in rows]
        cells = [name, *map(_cell, values)]
        width = max(map(len, cells))
        right = any(isinstance(value, (int, float)) for value in values)
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns))


def _cell(value):
    """The text of one table cell."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _cpu_model():
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_state(file):
    """Commit of the checkout that tracks a file, and whether anything differs from it; None without one."""

    def git(*arguments):
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # a package inside another project's checkout is not its code
        return {"commit": git("rev-parse", "HEAD"), "dirty": git("status", "--porcelain") != ""}
    except (OSError, subprocess.CalledProcessError):
        return None
