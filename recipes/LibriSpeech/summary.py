"""The summary of a run, `summary.json`: what is in it, how it is built after the test, and how it is read again.

Nobody else knows the keys of the file: train.py calls `build`, all others read it as `Summary`.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from speech_attention.recognizer import Recognizer

from recipes import machine
from recipes.command_line import UserError
from recipes.LibriSpeech.decoding.wer import Utterance
from recipes.LibriSpeech.experiment import config_hash
from recipes.LibriSpeech.training.logs import records
from recipes.LibriSpeech.training.optimization import completed

MANIFEST = "utterances", "hours", "speakers", "sha256", "skipped"
NO_START = {"name": None, "config_hash": None}


class Tested(NamedTuple):
    """What the test stage has found. Each dict has an entry for each test split.

    Arguments
    ---------
    offline : dict
        What `FinetuneBrain.test` returned: score, utterances, seconds, seconds of audio.
    streaming : dict or None
        What `FinetuneBrain.test_streaming` returned: score, utterances, ids of those whose text differs; None without streams.
    with_lm : tuple or None
        What `beam_search.test` returned: scores, description of the language model, utterances; None without one.
    """

    offline: dict
    streaming: dict | None = None
    with_lm: tuple[dict, dict, dict] | None = None


def build(
    hparams: Mapping, config: dict, start: dict | None, teacher: dict | None, brain: Any, tested: Tested, manifests: Mapping
) -> dict:
    """The content of `summary.json`, plain values.

    Arguments
    ---------
    hparams : dict
        The experiment, see `experiment.load`; with `command`, the words that started it.
    config : dict
        What decides its result, see `experiment.identity`.
    start : dict or None
        The experiment whose weights it began with, see `run_folder.origin`.
    teacher : dict or None
        What taught it before, see `teacher.record`.
    brain : FinetuneBrain
        After the test.
    tested : Tested
    manifests : dict
        Manifest of each split.
    """
    folder, model, texts = hparams["output_folder"], hparams["model"], hparams["tokens"].texts
    scores_lm, lm, utterances_lm = tested.with_lm or (None, None, {})
    seconds = sum(took for _, _, took, _ in tested.offline.values())
    audio_seconds = sum(audio for _, _, _, audio in tested.offline.values())
    streaming, logs = tested.streaming, {stage: records(folder / stage) for stage in ("pretrain", "finetune")}
    return {
        "experiment": hparams["name"],
        **{key: config[key]["class"].rpartition(".")[2] for key in ("attention", "block", "objective")},
        "scale": hparams["scale"],
        "seed": hparams["seed"],
        "debug": brain.debug,
        "wer": {split: score.as_dict() for split, (score, *_) in tested.offline.items()},
        "wer_streaming": streaming
        and {split: {**score.as_dict(), "different": different} for split, (score, _, different) in streaming.items()},
        "wer_lm": scores_lm,
        "lm": lm,
        "dev_wer": brain.checkpointer.find_checkpoint(min_key="WER").meta["WER"],
        "latency": model.latency(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "speed": {"test_real_time_factor": seconds / audio_seconds, "device": str(brain.device)},
        "memory": {
            "peak_mib": machine.peak_memory_mib(brain.device),
            "state_bytes": Recognizer(model, texts).state_bytes if math.isfinite(model.lookahead) else None,
        },
        "log": logs,
        "utterances": {
            split: _columns(utterances, utterances_lm.get(split)) for split, (_, utterances, *_) in tested.offline.items()
        },
        "data": {
            "codec": hparams["codec"] if hparams["data_folder"] else "synthetic (espeak-ng), FLAC",
            "splits": {name: hparams[f"{name}_splits"] for name in ("train", "dev", "test")},
            "manifests": {split: {name: getattr(manifest, name) for name in MANIFEST} for split, manifest in manifests.items()},
        },
        "time_s": {**{stage: log[-1]["seconds"] if log else 0.0 for stage, log in logs.items()}, "test": seconds},
        "start": start,
        "teacher": teacher,
        "command": hparams["command"],
        "config": config,
        "config_hash": config_hash(config),
        "environment": machine.environment(),
    }


def _columns(utterances: Sequence[Utterance], with_lm: Sequence[Utterance] | None) -> dict[str, str]:
    """Speaker, words and word errors of each utterance in the order of the sorted ids, each column joined by spaces.

    They are there for paired tests and intervals: `errors` of the greedy search, `errors_lm` with a language model.
    """
    columns: dict[str, list] = {
        "speakers": [utterance.id.partition("-")[0] for utterance in utterances],
        "words": [len(utterance.reference) for utterance in utterances],
        "errors": [utterance.errors for utterance in utterances],
    }
    if with_lm:
        columns["errors_lm"] = [utterance.errors for utterance in with_lm]
    return {name: " ".join(map(str, values)) for name, values in columns.items()}


class Wer(NamedTuple):
    """A word error rate in percent, its 95 % interval, of how many utterances, and in how many the stream's text differs."""

    wer: float
    low: float
    high: float
    utterances: int | None = None
    different: int | None = None

    @classmethod
    def of(cls, score: Mapping) -> "Wer":
        """From the entry of a summary."""
        different = score.get("different")
        counts = score.get("utterances"), None if different is None else len(different)
        return cls(score["wer"], score["low"], score["high"], *counts)


def _entry(*keys: str, doc: str, then: Callable[[Any], Any] = lambda found: found, **default: Any) -> Any:
    """A property of `Summary`: `then` of what stands below these keys, or of the default where the last of them is not there."""

    def entry(summary: "Summary") -> Any:
        (*above, last), found = keys, summary.content
        try:
            for key in above:
                found = found[key]
            return then(found.get(last, default["default"]) if default else found[last])
        except (LookupError, TypeError, AttributeError) as error:
            raise summary.damaged(error) from error

    return property(entry, doc=doc)


def _there(found: Any) -> bool:
    return found is not None


@dataclasses.dataclass(frozen=True)
class Summary:
    """A summary that is read again. What older files lack is None or empty.

    Arguments
    ---------
    content : dict
        As `build` made it.
    path : Path or None
        Where it was read.

    Example
    -------
    >>> Summary({"wer": {"test-clean": {"wer": 5.84, "low": 5.51, "high": 6.2}}}).score("test-clean").wer
    5.84
    """

    content: dict
    path: Path | None = None

    @classmethod
    def read(cls, path: Path) -> "Summary":
        """The summary in a file; UserError, in one line, if it holds none. What an entry lacks is one when it is read."""
        summary = cls({}, path)
        try:
            summary = cls(json.loads(path.read_text()), path)
            _ = summary.config.items()
            for test in summary.tests:
                for score in (summary.score(test), summary.streaming_score(test), summary.lm_score(test)):
                    if score and not all(map(math.isfinite, score[:3])):
                        raise ValueError("its word error rate is no number")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise summary.damaged(error) from error
        return summary

    def damaged(self, error: Exception) -> UserError:
        """The error for a file in which something is missing or of another kind."""
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return UserError(f"{self.path or 'a summary'} is damaged: delete it, to measure it again ({said})")

    experiment = _entry("experiment", doc="Its name, str.")
    scale = _entry("scale", default=None, doc="Name of the scale, str or None.")
    attention = _entry("attention", doc="Name of the class of the attention, str.")
    block = _entry("block", then=lambda name: name.removesuffix("Block"), doc="Kind of the blocks: `Transformer` or another.")
    parameters = _entry("parameters", doc="How many numbers are trained, int.")
    config = _entry("config", then=completed, doc="What decides the result, see `experiment.identity`; in today's keys, dict.")
    chunk = _entry("config", "attention", "chunk", default=None, then=lambda n: n or 1, doc="Frames of a chunk, 1 without, int.")
    revisions = _entry("config", "attention", "revisions", default=None, doc="The lags computed again, if not all; list or None.")
    owners = _entry("config", "owners", default=None, doc="Layers that make maps, where others use them too; list or None.")
    config_hash = _entry("config_hash", default=None, doc="Hash of the configuration, str or None.")
    start = _entry("start", default=None, then=lambda start: start or NO_START, doc="See `experiment.origin`, dict.")
    command = _entry("command", default=None, doc="The words that do the experiment again, str or None.")
    environment = _entry("environment", doc="Versions and hardware, see `machine.environment`, dict.")
    device = _entry("speed", "device", doc="Device that trained and tested it, str.")
    seconds = _entry("time_s", then=lambda stages: sum(stages.values()), doc="Of both stages and the test, float.")
    lookahead_ms = _entry("latency", "attention_ms", doc="Look-ahead of all layers together, in ms; None: the utterance.")
    total_ms = _entry("latency", "total_ms", doc="The same with the frame itself and the front end.")
    streams = _entry("latency", "attention_ms", then=_there, doc="Whether it has a streaming form, bool.")
    tests = _entry("wer", then=list, doc="The test splits, list of str.")
    lm = _entry("lm", default=None, doc="The language model: its file, how it was estimated, its weights; dict or None.")
    has_counts = _entry("utterances", default=None, then=_there, doc="Whether `counts` are there, bool.")
    has_log = _entry("log", default=None, then=_there, doc="Whether the records of its training are there, bool.")
    codec = _entry("data", "codec", doc="What the audio went through, str.")
    splits = _entry("data", "splits", doc="Names of the `train`, `dev` and `test` splits, dict of lists of str.")

    @property
    def name(self) -> str | None:
        """The name of the file, without its ending."""
        return self.path.stem if self.path else None

    def score(self, test: str) -> Wer:
        """The WER of the greedy search, offline."""
        return Wer.of(self.content["wer"][test])

    def streaming_score(self, test: str) -> Wer | None:
        """The WER of the greedy search, in streams."""
        scores = self.content.get("wer_streaming")
        return Wer.of(scores[test]) if scores else None

    def lm_score(self, test: str) -> Wer | None:
        """The WER of the search with a language model, offline."""
        scores = self.content.get("wer_lm")
        return Wer.of(scores[test]) if scores else None

    def counts(self, test: str, what: str) -> np.ndarray | None:
        """`words`, `speakers`, `errors` or `errors_lm` of each utterance, in the order of the sorted ids."""
        column = self.content["utterances"][test].get(what)
        return None if column is None else np.array(column.split(), int)

    def log(self, stage: str) -> list[dict]:
        """The records of a training stage, one for each epoch."""
        return self.content.get("log", {}).get(stage, [])

    def manifest(self, split: str) -> dict:
        """`utterances`, `hours`, `speakers` and `sha256` of a split; empty if it was not used."""
        return self.content["data"]["manifests"].get(split, {})

    @property
    def checksums(self) -> dict[str, str]:
        """The SHA-256 of the manifest of each split."""
        return {split: self.manifest(split)["sha256"] for split in self.content["data"]["manifests"]}

    def hours(self, kind: str) -> float:
        """Hours of audio in the `train`, `dev` or `test` splits together."""
        return sum(self.manifest(split)["hours"] for split in self.splits[kind])


def summary_rows(summary: Summary) -> list[dict]:
    """The lines of the table that a run ends with: one for each of its test sets."""
    rows = []
    for test in summary.tests:
        score, streaming, with_lm = summary.score(test), summary.streaming_score(test), summary.lm_score(test)
        rows.append(
            {
                "experiment": summary.experiment,
                "attention": summary.attention,
                "scale": summary.scale,
                "test": test,
                "WER % [95 %]": f"{score.wer:.2f} [{score.low:.2f}, {score.high:.2f}]",
                **({"with LM %": with_lm.wer} if with_lm else {}),
                "streaming %": streaming and streaming.wer,
                "texts differ": streaming and streaming.different,
                "look-ahead ms": summary.lookahead_ms if summary.streams else "utterance",
                "in all ms": summary.total_ms if summary.streams else "utterance",
                "M parameters": summary.parameters / 1e6,
                "minutes": summary.seconds / 60,
            }
        )
    return rows
