"""Where a training reports: the terminal, and files for people, for tables, and for TensorBoard."""

import contextlib
import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_environment_description
from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger
from tqdm import tqdm

from recipes.command_line import UserError
from recipes.files import write_text
from recipes.LibriSpeech import saved

_environment = functools.cache(get_environment_description)  # it asks pip for all versions, which takes most of a second


def check(hparams: Mapping[str, Any]) -> None:
    """Refuse `tensorboard: True` without the package, before anything else is done."""
    if hparams["tensorboard"]:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError("--tensorboard needs a package: pip install -e '.[tensorboard]'") from error


def write_environment(folder: Path) -> None:
    """Write `env.log`, SpeechBrain's description of Python, its packages, the commit and CUDA, into the folder of a run.

    SpeechBrain's `create_experiment_directory` is not used: it would also replace `sys.excepthook`, and copy train.py.
    """
    if if_main_process():
        write_text(folder / "env.log", _environment())


def records(folder: Path) -> list[dict[str, Any]]:
    """The records of a stage, one for each epoch that has ended.

    They are in its last checkpoint, too, as far as it is not of an older version: `log.jsonl` is written anew if it differs.

    Arguments
    ---------
    folder : Path
        Of the stage.

    Raises
    ------
    UserError
        If they are in neither.
    """
    path, known = folder / "log.jsonl", None
    with contextlib.suppress(saved.Damaged):  # by which the log alone is left
        if last := saved.latest(folder / "checkpoints"):
            saved.verify(last.path, "progress.ckpt")
            known = json.loads((last.path / "progress.ckpt").read_text()).get("records")
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        whole = all(record["epoch"] == number and record["seconds"] >= 0 for number, record in enumerate(found, 1))
    except (ValueError, LookupError, TypeError, RecursionError):
        found, whole = [], False
    if known and found[: len(known)] != known and if_main_process():
        write_text(path, _lines(known))
    if not (known or whole):
        raise UserError(f"{path} is damaged: put a sound copy there, or delete it: the summary then lacks its epochs")
    return known or found


class StageLogs:
    """The logs of one stage. Epochs that a restart does again replace their lines.

    * `<run>/<stage>/log.jsonl`: a record for each epoch, which the tables read.
    * `<run>/train_log.txt`: SpeechBrain's FileTrainLogger, a line for each epoch of each stage.
    * `<run>/tensorboard/<stage>`: SpeechBrain's TensorboardLogger, a point for each epoch, if it is asked for.

    Arguments
    ---------
    stage : str
        Its name.
    epochs : int
        All that it has.
    folder : Path
        Of the run.
    tensorboard : bool
    """

    def __init__(self, stage: str, epochs: int, folder: Path, tensorboard: bool):
        self.stage, self.epochs, self.folder = stage, epochs, folder
        self.text = FileTrainLogger(folder / "train_log.txt")
        self.curves = TensorboardLogger(str(folder / "tensorboard" / stage)) if tensorboard else None

    def epoch(
        self,
        epoch: int,
        meta: Mapping[str, float],
        train: Mapping[str, float],
        valid: Mapping[str, float],
        seconds_left: float,
        records: list[dict[str, Any]],
    ) -> None:
        """Log an epoch, in all processes: SpeechBrain's loggers wait for each other.

        Arguments
        ---------
        epoch : int
            Its number, from 1.
        meta : dict
            `updates`, `seconds` and `cpu_seconds` since the beginning of the stage, `lr`, and `throughput` in seconds of audio
            per second.
        train, valid : dict
            Statistics, name to number.
        seconds_left : float
            Estimated time to the end of all epochs.
        records : list of dict
            Of the epochs before; that of this one is added.
        """
        if if_main_process():
            self._log_record(records, {"epoch": epoch, **meta, **_prefixed("train", train), **_prefixed("valid", valid)})
            self._drop_text_of(epoch)
        shown = {name: meta[name] for name in ("lr", "throughput")}
        stats = {"train_stats": dict(train), "valid_stats": dict(valid), "verbose": False}
        self.text.log_stats({"stage": self.stage, "epoch": epoch, **shown}, **stats)
        if self.curves is not None:
            before = {"train": dict.fromkeys(train, epoch - 1), "valid": dict.fromkeys(valid, epoch - 1)}
            self.curves.global_step = {"meta": epoch - 1, "test": {}, **before}  # else it counts from 0 after a restart
            self.curves.log_stats(shown, **stats)
        words = _words({"lr": meta["lr"], **_prefixed("train", train), **_prefixed("valid", valid)})
        self._print(f"epoch {epoch}/{self.epochs}", words, seconds_left)

    def inside_epoch(self, epoch: int, part: float, lr: float, train_loss: float, seconds_left: float) -> None:
        """Say on the terminal how far an epoch is: the `part` of its batches that are done, from 0 to 1."""
        self._print(f"epoch {epoch}/{self.epochs}, {part:.0%}", _words({"lr": lr, "train_loss": train_loss}), seconds_left)

    def _print(self, where: str, words: str, seconds_left: float) -> None:
        if if_main_process():
            left = f"  {duration(seconds_left)} left" if seconds_left else ""
            with tqdm.external_write_mode():  # above the progress bar, if there is one
                print(f"{self.stage} {where}  {words}{left}", flush=True)

    def _log_record(self, before: list[dict[str, Any]], record: Mapping[str, float]) -> None:
        epoch, folder = int(record["epoch"]), self.folder / self.stage
        if len(before) < epoch - 1:  # a checkpoint of an older version has none
            before[:] = records(folder)[: epoch - 1]
        before.append({name: _rounded(name, value) for name, value in record.items()})
        write_text(folder / "log.jsonl", _lines(before))

    def _drop_text_of(self, epoch: int) -> None:
        path = Path(self.text.save_file)
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if not line.startswith(f"stage: {self.stage}, epoch: {epoch},")]
        if kept != lines:
            write_text(path, "".join(kept))


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def _prefixed(prefix: str, stats: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in stats.items()}


def _rounded(name: str, value: float) -> float:
    """Four decimals, but four digits of a learning rate."""
    return value if isinstance(value, int) else float(f"{value:.4g}") if name == "lr" else round(value, 4)


def _words(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def duration(seconds: float) -> str:
    """A time in words, to a minute above ten minutes.

    Example
    -------
    >>> duration(42.3), duration(90), duration(1234), duration(50000)
    ('42 s', '1 min 30 s', '21 min', '13 h 53 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
