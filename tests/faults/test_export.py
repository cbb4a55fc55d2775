"""The command line, the inputs and the output of the export."""

import os
import shutil
import signal
import time

import pytest

from tests.faults.case import Case, check, copy_run
from tests.faults.process import Started
from tests.recipes.tiny import ROOT, TINY

EXPORT = "recipes.LibriSpeech.inference.export"
WEIGHTS = "finetune/checkpoints/CKPT*/model.ckpt"
YAML = "hyperparams.yaml"


def changed(pattern, change):
    """A function that copies the training and changes the bytes of some of its files; None: takes them away."""

    def before(place):
        copy_run(place)
        found = list((place.here / "run").glob(pattern))
        assert found
        for path in found:
            if change is not None:
                path.write_bytes(change(path.read_bytes()))
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    return before


def of_attention(yaml):
    """A function that copies the training and says that it is one of another attention with the same weights."""

    def before(place):
        from recipes.LibriSpeech import experiment, run_folder

        copy_run(place)
        (place.here / "run" / YAML).unlink()
        overrides = "".join(f"{key}: {TINY[key]}\n" for key in ("dim", "ffn_dim", "num_layers", "num_heads"))
        run_folder.save(place.here / "run", experiment.resolve(ROOT / "hparams" / yaml, overrides), data={}, command="")

    return before


def link(target):
    return lambda place: (place.here / "m.onnx").symlink_to(target)


def old(place):
    (place.here / "m.onnx").write_text("mine")


def folders(place):
    (place.here / "m.onnx").mkdir()
    (place.here / "run").write_text("a file")


CASES = (
    Case(f"{EXPORT}", ("required: folder, model",)),
    Case(f"{EXPORT} $run", ("required: model",)),
    Case(f"{EXPORT} $run m.onnx more", ("unrecognized arguments: more",)),
    Case(f"{EXPORT} $run m.onnx --opset 99", ("unrecognized arguments: --opset 99",)),
    Case(f"{EXPORT} $run --output m.onnx", ("unrecognized arguments: --output",)),
    Case(f"{EXPORT} $run ''", ("the word after $run is empty",)),
    Case(f"{EXPORT} '' m.onnx", ("the first word is empty",)),
    Case(f"{EXPORT} $run m", ("m is no name of an ONNX model", "ends in .onnx")),
    Case(f"{EXPORT} $run .onnx", ("ends in .onnx",)),
    Case(f"{EXPORT} $run -", ("ends in .onnx",)),
    Case(f"{EXPORT} $run /dev/stdout", ("ends in .onnx",)),
    Case(f"{EXPORT} run run/{YAML}", ("ends in .onnx",), before=copy_run),
    Case(f"{EXPORT} $run nowhere/m.onnx", ("no folder nowhere", "make it first")),
    Case(f"{EXPORT} $run m.onnx/x.onnx", ("no folder m.onnx",), before=old),
    Case(f"{EXPORT} $run $here", ("cannot write $here: give the name of a file",)),
    Case(f"{EXPORT} $run m.onnx", ("cannot write m.onnx: give the name of a file",), before=folders),
    Case(f"{EXPORT} $run m.onnx/", ("cannot write m.onnx/: give the name of a file",)),
    Case(f"{EXPORT} $run m.onnx", ("cannot write m.onnx: there is no folder /nowhere",), before=link("/nowhere/m.onnx")),
    Case(f"{EXPORT} $run {'x' * 300}.onnx", ("give a shorter name",)),
    Case(f"{EXPORT} nowhere m.onnx", ("nowhere is not the folder of an experiment",)),
    Case(f"{EXPORT} run other.onnx", ("run is not the folder of an experiment",), before=folders),
    Case(f"{EXPORT} $tree m.onnx", ("$tree is not the folder of an experiment",)),
    Case(f"{EXPORT} $run/finetune m.onnx", ("is not the folder of an experiment",)),
    Case(f"{EXPORT} run m.onnx", ("no fine-tuned model yet: train it first",), before=changed("finetune", None)),
    Case(f"{EXPORT} run m.onnx", ("model.ckpt is missing", "delete the folder"), before=changed(WEIGHTS, None)),
    Case(f"{EXPORT} run m.onnx", ("model.ckpt is damaged", "delete the folder"), before=changed(WEIGHTS, lambda old: b"")),
    Case(f"{EXPORT} run m.onnx", ("model.ckpt is damaged",), before=changed(WEIGHTS, lambda old: old[: len(old) // 2])),
    Case(f"{EXPORT} run m.onnx", ("model.ckpt is damaged",), before=changed(WEIGHTS, lambda old: bytes(len(old)))),
    Case(f"{EXPORT} run m.onnx", (f"{YAML} is damaged",), before=changed(YAML, lambda old: b"3")),
    Case(f"{EXPORT} run m.onnx", (f"{YAML} is damaged",), before=changed(YAML, lambda old: old[: len(old) // 2])),
    Case(f"{EXPORT} run m.onnx", ("names no module",), before=changed(YAML, lambda old: old.replace(b"n.LLSA", b"n.GONE"))),
    Case(f"{EXPORT} run m.onnx", ("run: ", "no streaming form"), before=of_attention("aa.yaml")),
)
LONG = (
    Case(f"{EXPORT} $run m.onnx", ("m.onnx: file too large",), before=old, process={"limits": {"RLIMIT_FSIZE": 100_000}}),
    Case(f"{EXPORT} $run m.onnx", ("m.onnx: 0.", "opset 18"), code=0, leaves=("m.onnx",), before=old),
    Case(f"{EXPORT} $run m.onnx", ("opset 18",), code=0, leaves=("new.onnx",), before=link("new.onnx")),
    Case(f"{EXPORT} $run m.onnx", ("opset 18",), code=0, before=link("/dev/null")),
    Case(f"{EXPORT} $run 'a b [c] $$x {{0}}.onnx'", ("opset 18",), code=0, leaves=("a b*.onnx",)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_export(case, place):
    check(case, place)


@pytest.mark.campaign
@pytest.mark.parametrize("case", LONG, ids=str)
def test_export_that_computes(case, place):
    ended = check(case, place)
    assert case.code or (ended.out.count("\n"), ended.err) == (3, "")


@pytest.mark.campaign
@pytest.mark.parametrize("seconds", [0.5, 1, 2, 4, 6])
def test_ctrl_c(place, seconds):
    old(place)
    started = Started(EXPORT, [place.run, "m.onnx"], place.here)
    time.sleep(seconds)
    os.kill(started.process.pid, signal.SIGINT)
    ended = started.wait()
    assert (ended.code, ended.err) == (130, "stopped\n")
    assert [path.name for path in place.here.iterdir()] == ["m.onnx"] and (place.here / "m.onnx").read_text() == "mine"
