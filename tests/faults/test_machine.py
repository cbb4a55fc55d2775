"""What the machine does to a command: no room on the disk, no memory, a signal, nobody who reads."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.case import Case, check, words_of
from tests.faults.machine import little_memory
from tests.faults.process import Started, wait_for

MEMORY, FULL = ("not enough memory", "smaller"), ("free some space", "what was there before is kept")
BUDGET = "results.latency.budget $root/hparams/llsa.yaml"
LEFT = ("run", "run/*")
AUDIO = "$tree/test-c/104/7/104-7-0000.flac"


def files_of(size):
    """A process whose files have at most so many bytes."""
    return {"limits": {"RLIMIT_FSIZE": size}}


def with_memory(mib):
    """A process that has so much memory left."""
    return {"inside": partial(little_memory, mib)}


def link_to_itself(place):
    (place.here / "run").symlink_to("run")


CASES = (
    Case("results.latency.delay $run --output a.json", MEMORY, process=with_memory(8)),
    Case("TRAIN", ("train-a.csv", "file too large", "ulimit -f"), leaves=LEFT, process=files_of(1000)),
    Case("TRAIN", ("hyperparams.yaml", "file too large"), leaves=LEFT, process=files_of(4000)),
    Case("TRAIN", ("a checkpoint could not be written", *FULL), leaves=LEFT, process=files_of(20000)),
    Case(f"{BUDGET} --output a.json", ("a.json: file too large",), process=files_of(600)),
    Case(f"{BUDGET} --output /dev/full", ("/dev/full: no space left on device", *FULL)),
    Case(f"{BUDGET} --output /dev/stdout", ('"results"', "declared, in all"), 0),
    Case("TRAIN", ("too many open files", "ulimit -n"), leaves=LEFT, process={"limits": {"RLIMIT_NOFILE": 6}}),
    Case("TRAIN --output_folder run", ("run: file exists: give another name",), before=link_to_itself),
    Case("TRAIN --output_folder /proc/run", ("/proc/run: no such file or directory",)),
    Case("TRAIN --output_folder /dev/null/run", ("/dev/null/run: not a directory",)),
    Case(f"TRAIN --output_folder {'x' * 300}", ("file name too long", "shorter name")),
)


SLOW = (
    Case("TRAIN", MEMORY, process=with_memory(12)),
    Case(f"transcribe $run {AUDIO}", MEMORY, process=with_memory(0)),
    Case(f"transcribe $run {AUDIO}", MEMORY, process=with_memory(2)),
    Case("results.latency.delay $run --output a.json", MEMORY, process=with_memory(0)),
    Case(BUDGET, MEMORY, process=with_memory(8)),
    Case("recipes.LibriSpeech.inference.export $run a.onnx", ("a.onnx: file too large",), process=files_of(20000)),
    Case("recipes.LibriSpeech.inference.export $run a.onnx", MEMORY, process=with_memory(8)),
)


@pytest.mark.campaign
@pytest.mark.parametrize("case", SLOW, ids=str)
def test_what_the_machine_lacks_more_slowly(case, place):
    check(case, place)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_the_machine_lacks(case, place):
    check(case, place)


def cpu_seconds(process):
    """What a process has computed so far."""
    times = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


LONG = (
    ("TRAIN --output_folder run --pretrain '{epochs: 1000}'", "run/pretrain/checkpoints/*", "goes on from the last checkpoint"),
    pytest.param("results.latency.soak $run --output a.json", None, "stopped", marks=pytest.mark.campaign),
    pytest.param(
        "results.speed.measure --only modules --lengths 125 --repeats 1000 --output a.json",
        None,
        "goes on",
        marks=pytest.mark.campaign,
    ),
)


@pytest.mark.parametrize("sign, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("command, begun, says", LONG)
def test_a_signal_is_one_line(command, begun, says, sign, code, place):
    module, *options = words_of(command, place)
    process = Started(module, options, place.here)
    wait_for(lambda: list(place.here.glob(begun)) if begun else cpu_seconds(process) > 1.5)
    process.kill(sign)
    ended = process.wait()
    assert (ended.code, ended.traceback) == (code, False), ended.err
    assert ended.err.splitlines()[-1].startswith("stopped") and says in ended.err and "error" not in ended.err
    assert not list(place.here.glob("*.json"))
