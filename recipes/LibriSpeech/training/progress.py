"""How far a training stage has come, over all its restarts."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks


class Means:
    """Running means of named statistics."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, stats: Mapping[str, float]) -> None:
        """Take in the statistics of one batch; each batch has the same names."""
        self.count += 1
        for name, value in stats.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def result(self) -> dict[str, float]:
        """The mean of each statistic over the batches so far."""
        return {name: total / self.count for name, total in self.sums.items()}


@register_checkpoint_hooks
class Progress:
    """Time spent in a stage, the records of its epochs, and what has been heard and measured in the current one. It is part of
    each checkpoint, so that a stage that was interrupted goes on counting from there.

    Example
    -------
    >>> progress = Progress()
    >>> progress.begin_epoch()
    >>> progress.means.add({"loss": 2.0})
    >>> progress.times["seconds"] >= 0 and progress.means.result() == {"loss": 2.0}
    True
    """

    def __init__(self) -> None:
        self._go_on({"seconds": 0.0, "cpu_seconds": 0.0})
        self.records: list[dict[str, Any]] = []
        self.begin_epoch()

    def _go_on(self, before: dict[str, float]) -> None:
        self.before, self.start = before, self._now()

    @staticmethod
    def _now() -> dict[str, float]:
        return {"seconds": time.time(), "cpu_seconds": time.process_time()}

    @property
    def times(self) -> dict[str, float]:
        """Wall clock, and the CPU time of this process, which other work on the machine hardly changes; seconds."""
        return {name: self.before[name] + now - self.start[name] for name, now in self._now().items()}

    def begin_epoch(self) -> None:
        """From here on, means and audio are those of a new epoch."""
        self.means, self.audio_seconds, self.epoch_start = Means(), 0.0, self.times["seconds"]

    def throughput(self, audio_seconds: float) -> float:
        """Seconds of audio per second, for the training of this epoch so far.

        Arguments
        ---------
        audio_seconds : float
            What has been heard in this epoch: `self.audio_seconds`, or its sum over several processes.
        """
        return audio_seconds / max(self.times["seconds"] - self.epoch_start, 1e-9)

    def seconds_left(self, done: int, steps: int) -> float:
        """Estimated time until `steps` batches are over, of which `done` are, from the time that these took."""
        return self.times["seconds"] / done * (steps - done)

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Write the state to a file, as SpeechBrain's checkpointer asks for."""
        epoch = {"audio_seconds": self.audio_seconds, "epoch_start": self.epoch_start}
        means = {"sums": self.means.sums, "count": self.means.count}
        state = {"times": self.times, **means, **epoch, "records": self.records}
        Path(path).write_text(json.dumps(state))

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Go on from what `save` wrote; older files lack the audio, which then counts from here, and the records."""
        state = json.loads(Path(path).read_text())
        self._go_on(state["times"])
        self.means.sums, self.means.count = state["sums"], state["count"]
        self.audio_seconds = state.get("audio_seconds", 0.0)
        self.epoch_start = state.get("epoch_start", self.times["seconds"])
        self.records = state.get("records", [])
