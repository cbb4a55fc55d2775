"""Trainings that are killed, and what they leave when the same command has brought them to their end."""

import contextlib
import functools
import hashlib
import json
import math
import multiprocessing
import os
import pathlib
import pydoc
import re
import signal
import sys
import time
from datetime import timedelta
from fnmatch import fnmatch

import torch

from recipes.command_line import UserError
from recipes.LibriSpeech import processes
from recipes.LibriSpeech.data.synthetic import embedded_corpus
from tests.faults.process import Started, run
from tests.recipes.tiny import arguments, curves

CONFORMER = {"block": "!name:speech_attention.blocks.ConformerBlock {kernel_size: 5}"}
LM = {"lm": "$here/text", "lm_folder": "$here/lm"}
SYSTEMS = {
    "AA Transformer, TensorBoard": {"yaml": "aa", "tensorboard": "True"},
    "LLSA Conformer, language model": {"yaml": "llsa", **CONFORMER, **LM},
    "SummaryMixing Transformer, two workers": {"yaml": "summary_mixing", "num_workers": "2"},
    "AA Conformer, Muon": {"yaml": "aa", **CONFORMER, "matrix_opt_class": "!name:torch.optim.Muon {lr: 0.01}"},
    "LLSA Transformer, TensorBoard, language model": {"yaml": "llsa", "tensorboard": "True", **LM},
    "SummaryMixing Conformer": {"yaml": "summary_mixing", **CONFORMER},
}
"""Trainings by name, and their options."""
TIMES = {"seconds", "cpu_seconds", "throughput", "test_real_time_factor", "peak_mib", "time_s", "git"}
"""Entries of a log or a summary that differ between two trainings that are the same, if somebody edits the code meanwhile."""
CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "subprocess.Popen"}
"""What Python tells of (see `sys.addaudithook`) before it changes something on the disk, or starts a process that does."""


def training(place, folder="run", **options):
    """The words of a tiny training in a folder of the case."""
    options = {name: place.fill_in(value) for name, value in options.items()}
    return arguments(place.tree, place.here / folder, **options)


def watch(last, number=None, pattern="*"):
    """Called inside a process: keep its last change on the disk in a file, and kill it, with its children, before one of them.

    Arguments
    ---------
    last : str
        The file, which lies outside of the folder that the process runs in.
    number : int or None
        The how-manieth of the changes that fit the pattern; None: it is not killed.
    pattern : str
        Of `fnmatch`, for a change as `_words` tells it.
    """
    here, file, count = os.getcwd(), os.open(last, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), [0, 0]

    def hook(event, details):
        words = _words(event, details, here) if event in CHANGES else None
        if words is None:
            return
        count[0] += 1
        count[1] += fnmatch(words, pattern)
        os.pwrite(file, f"{count[0]:6d} {words}".ljust(300).encode(), 0)
        if count[1] == number:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)


def _words(event, details, here):
    """A change on the disk in words, paths relative to the run's folder; None if it is none, or elsewhere."""
    if event == "subprocess.Popen":
        return f"start {os.path.basename(details[1][-1])}" if "espeak" in str(details[1][-1]) else None
    if event == "open" and (isinstance(details[0], int) or not details[2] & (os.O_WRONLY | os.O_RDWR)):
        return None
    path = os.path.join(here, os.fsdecode(details[1 if event == "os.rename" else 0]))
    if not path.startswith(here + os.sep):
        return None
    path = re.sub(r"CKPT\+[^/]*", "CKPT", os.path.relpath(path, here))
    return f"{event.removeprefix('os.')} {re.sub(r'[0-9]{4,}[.0-9]*', 'N', path)}"


def last_change(last):
    """The number and the words of the last change that `watch` kept."""
    number, _, words = last.read_text().strip().partition(" ")
    return int(number or 0), words


def found(run_folder):
    """What a training has found: weights, statistics, words, and the names of its files; without times."""
    names = sorted(re.sub(r"CKPT\+[^/]*|events\..*", "N", str(path.relative_to(run_folder))) for path in run_folder.rglob("*"))
    found = {"files": [name for number, name in enumerate(names) if name not in names[:number]]}
    for path in (run_folder / "pretrain" / "encoder.ckpt", *run_folder.glob("finetune/checkpoints/CKPT*/*.ckpt")):
        if path.read_bytes().startswith(b"PK"):  # of torch; others are a few numbers, times among them
            found[path.name] = _digests(torch.load(path, weights_only=True))
    for path in run_folder.glob("*/log.jsonl"):
        found[path.parent.name] = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    for stage in ("pretrain", "finetune") if (run_folder / "tensorboard").exists() else ():
        found[f"curves of {stage}"] = {name: at for name, at in curves(run_folder, stage).items() if name != "throughput"}
    found["summary"] = _timeless(json.loads((run_folder / "summary.json").read_text()))
    found["log"] = re.sub(r"throughput: \S+", "", (run_folder / "train_log.txt").read_text())
    return found | {path.name: path.read_text() for path in run_folder.glob("*.tsv")}


def _digests(value):
    """A state with digests in the place of tensors."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {name: _digests(part) for name, part in value.items()}
    return [_digests(part) for part in value] if isinstance(value, list) else value


def _timeless(value):
    """A record without times."""
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name not in TIMES}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


class Chain:
    """One training that is killed again and again, and one that is not.

    Arguments
    ---------
    place : Place
    options : dict
        Of the training.
    """

    def __init__(self, place, options):
        (place.here / "text").write_text("UTTERANCE WORD\nUTTERANCE WORD WORD\nUTTERANCE\nWORD\n" + "WORD UTTERANCE\n" * 3)
        self.place, self.options, self.kills, self.last = place, options, [], place.here.parent / "last"
        ended = run("train", training(place, "whole", **options), place.here, inside=self._watch())
        assert ended.code == 0, ended.err
        self.whole, self.changes = found(place.here / "whole"), last_change(self.last)[0]

    def _watch(self, *arguments):
        return functools.partial(watch, str(self.last), *arguments)

    def start(self, *arguments):
        """The command once more; `arguments` of `watch` say where it is to be killed."""
        return Started("train", training(self.place, **self.options), self.place.here, inside=self._watch(*arguments))

    def kill_before(self, number, pattern="*"):
        """Start, and kill before a change on the disk; False if it came to its end."""
        return self._ended(self.start(number, pattern).wait(), "before")

    def kill_after(self, seconds):
        """Start, and kill after a time; False if it came to its end."""
        started = self.start()
        started.process.join(seconds)
        started.kill()
        return self._ended(started.wait(), "after")

    def _ended(self, ended, when):
        killed = ended.code == -signal.SIGKILL
        assert killed or ended.code == 0, ended.err
        if killed:
            self.kills.append(f"{when} {last_change(self.last)[1]}")
        return killed

    def finish(self):
        """Let the training come to its end, and hold what it found against the one that was not killed."""
        ended = self.start().wait()
        assert ended.code == 0, ended.err
        again = found(self.place.here / "run")
        different = [(name, again.get(name), self.whole[name]) for name in self.whole if again.get(name) != self.whole[name]]
        assert not different, f"after kills {self.kills}: {different}"


def at_call(path, number, action):
    """Called inside a process: do something before a method is called for the `number`-th time.

    Arguments
    ---------
    path : str
        `module.Class.method`.
    number : int
    action : callable
        Takes the object.
    """
    owner, name = pydoc.locate(path.rpartition(".")[0]), path.rpartition(".")[2]
    method, calls = getattr(owner, name), [0]

    def replaced(self, *arguments, **options):
        calls[0] += 1
        if calls[0] == number:
            action(self)
        return method(self, *arguments, **options)

    setattr(owner, name, replaced)


def die(_):
    """An action: this process, and its children, are killed."""
    os.killpg(0, signal.SIGKILL)


def kill_worker(_):
    """An action: a process that loads data is killed."""
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def refuse(_):
    """An action: what is wrong is only wrong here."""
    raise UserError("not here")


def poison(brain):
    """An action: a weight is not a number, and so is the loss."""
    with torch.no_grad():
        next(brain.modules.parameters()).fill_(math.nan)


def spoil(_):
    """An action: the sound files of training are damaged inside."""
    for path in pathlib.Path("tree/train-a").rglob("*.flac"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + bytes(2000) + data[len(data) // 2 + 2000 :])


def fill_disk(_):
    """An action: nothing more fits on the disk."""
    with open("disk/ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def be_slow(timeout, seconds=0):
    """Called inside a process: it waits for others no longer than a timeout, and takes its time to prepare the data."""
    processes.TIMEOUT = timedelta(seconds=timeout)
    if seconds:
        at_call("recipes.LibriSpeech.data.dataset.prepare", 1, lambda _: time.sleep(seconds))


def main(arguments):
    """A command that makes the embedded corpus: from this text, in this folder."""
    embedded_corpus(*reversed(arguments))
