"""What may happen to a file of a finished training, and what each command must then make of it."""

import os
import pickle
from fnmatch import fnmatch

import numpy as np

from recipes.LibriSpeech.saved import SUMS, write_sums
from tests.faults.case import Case, copy_run

RUBBISH = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()


class RunsCode:
    """Unpickled, it makes the folder `code-was-run`."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def flipped(data):
    """The same with one bit in the middle another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "flipped": flipped,
    "rubbish": lambda data: RUBBISH,
    "null": lambda data: b"null",
    "number": lambda data: b"3",
    "list": lambda data: b"[]",
    "deep": lambda data: b"[" * 1_000,
    "pickle": lambda data: pickle.dumps(RunsCode()),
    "missing": None,
    "folder": None,
}
"""From a name to a function of what was in the file."""


def damage(path, kind):
    """Damage one file."""
    before = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(DAMAGES[kind](before))
        assert path.read_bytes() != before


TUNED = "finetune/checkpoints/CKPT*"
MODEL = f"{TUNED}/CKPT.yaml", f"{TUNED}/{SUMS}", f"{TUNED}/model.ckpt"
CONFIG = "hyperparams.yaml"
FILES = (
    *(f"{TUNED}/{name}.ckpt" for name in ("brain", "dataloader-TRAIN", "epochs", "optimizer", "progress")),
    *MODEL, CONFIG, "summary.json", "pretrain/encoder.ckpt", "pretrain/checkpoints/CKPT*/pretraining.ckpt",
    "pretrain/checkpoints/CKPT*/progress.ckpt", "pretrain/log.jsonl", "finetune/log.jsonl", "train_log.txt", "env.log",
    "manifests/train-a.csv", "manifests/test-c.json", "utterances-test-c.tsv", "utterances-test-c-streaming.tsv",
)  # fmt: skip
"""Patterns of the files of a run, one for each kind."""
COMMANDS = {
    "train": "TRAIN",
    "test": "TRAIN --stage test",
    "weights": "TRAIN --output_folder $here/new --weights $here/run --finetune '{epochs: 0}'",
    "pretrained": "TRAIN --output_folder $here/new --pretrained $here/run --stage finetune",
    "transcribe": "transcribe run $tree/test-c/104/7/104-7-0000.flac",
}
READ = {
    "train": (f"{TUNED}/*", CONFIG),
    "test": (f"{TUNED}/*", CONFIG),
    "weights": (*MODEL, CONFIG, "summary.json"),
    "pretrained": ("pretrain/encoder.ckpt", CONFIG, "summary.json"),
    "transcribe": (*MODEL, CONFIG),
}
"""From a command to the files that it cannot do without; all others are not read, or are written anew."""
OPTIONAL = {
    "train": (MODEL[1], CONFIG),
    "test": (MODEL[1], CONFIG),
    "weights": (MODEL[1], "summary.json"),
    "pretrained": (CONFIG, "summary.json"),
    "transcribe": (MODEL[1],),
}
"""Those of them that it can do without if they are not there at all."""


def exit_code(command, file, kind):
    """The right one for a command when a file of the run is damaged."""
    if kind == "folder" and command in ("train", "test") and not file.startswith("pretrain/checkpoints"):
        return 2
    needed = any(fnmatch(file, pattern) for pattern in READ[command])
    return 2 if needed and not (kind == "missing" and file in OPTIONAL[command]) else 0


def case(command, file, kind, prepare=copy_run):
    """The `Case` of a command on a run in which a file is damaged; `prepare` makes the run."""

    def spoil(place):
        prepare(place)
        (path,) = (place.here / "run").glob(file)
        damage(path, kind)

    code = exit_code(command, file, kind)
    words = (file.rpartition("/")[2],) if code else ()
    return Case(COMMANDS[command], words, code, () if code else ("run/*", "new", "new/*"), spoil)


def copy_old_run(place):
    """Copy the finished training as older versions wrote it."""
    copy_run(place)
    for path in (place.here / "run").rglob(SUMS):
        path.unlink()


def copy_with_an_earlier_checkpoint(place):
    """Copy the finished training, with the checkpoint of an earlier epoch beside the last one."""
    copy_run(place)
    (last,) = (place.here / "run").glob(TUNED)
    earlier = last.with_name("CKPT+1999")
    earlier.mkdir()
    for path in last.iterdir():
        (earlier / path.name).write_bytes(path.read_bytes())
    (earlier / "CKPT.yaml").write_text("WER: 300.0\nend-of-epoch: true\nunixtime: 1.0\n")
    write_sums(earlier)
