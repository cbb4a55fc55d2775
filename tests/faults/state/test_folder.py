"""The folder of a run: what is done in it, who has it, and what its configuration may name."""

import json
import shutil

import pytest
import torch

from recipes.LibriSpeech import run_folder, saved
from recipes.LibriSpeech.inference import loading
from tests.faults.case import Case, check, copy_run
from tests.faults.process import Started, wait_for
from tests.faults.state.damage import TUNED, damage
from tests.recipes.tiny import arguments

WAV = "$tree/test-c/104/7/104-7-0000.flac"


def names(tag):
    """The model of the run is another thing."""

    def spoil(place):
        copy_run(place)
        path = place.here / "run" / "hyperparams.yaml"
        path.write_text(path.read_text().replace("!new:speech_attention.model.CTCModel", tag))

    return spoil


def injected(place):
    """A class whose name ends, in YAML, and goes on with a command; in the configuration of an older run."""
    copy_run(place)
    config = run_folder.read_config(place.here / "run")
    config["model"]["class"] = "!new:torch.nn.Identity {}\nbad: !apply:os.mkdir [code-was-run]\nother: "
    (place.here / "run" / "config.json").write_text(json.dumps(config))
    (place.here / "run" / "hyperparams.yaml").unlink()


def unfinished(place):
    """Its fine-tuning has ended one of two epochs."""
    copy_run(place)
    (checkpoint,) = (place.here / "run").glob(TUNED)
    (checkpoint / "epochs.ckpt").write_text("1")
    saved.write_sums(checkpoint)


def file_for_folder(place):
    (place.here / "run").mkdir()
    (place.here / "run" / "pretrain").touch()


def old_config(text):
    """The run is of an older version, whose configuration was JSON."""

    def spoil(place):
        copy_run(place)
        (place.here / "run" / "hyperparams.yaml").unlink()
        (place.here / "run" / "config.json").write_text(text)

    return spoil


def without(*patterns):
    """Files and folders of the run are deleted."""

    def spoil(place):
        copy_run(place)
        for path in [path for pattern in patterns for path in (place.here / "run").glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


FOREIGN = (
    "!new:os.system",
    "!name:os.mkdir",
    "!apply:os.mkdir",
    "!new:subprocess.Popen",
    "!new:antigravity.fly",
    "!new:builtins.exec",
    "!new:torch.hub.load",
    "!new:torch.load",
    "!new:speech_attention.front_end.torch.hub.load",
    "!name:torch.load",
    "!new:torch.nn.functional.gelu",
    "!name:torch.nn.functional.importlib.import_module",
    "!name:speech_attention.front_end.torch.load",
    "!new:numpy.fromfile",
    "!new:no.such",
)
"""What a folder from elsewhere may name in the place of its model."""
CASES = (
    *(Case(f"transcribe run {WAV}", ("hyperparams.yaml", tag, "is not made"), before=names(tag)) for tag in FOREIGN),
    Case(f"transcribe run {WAV}", ("is not made",), before=injected),
    Case(
        "TRAIN --output_folder $here/new --weights $here/run", ("!new:os.system", "is not made"), before=names("!new:os.system")
    ),
    Case("TRAIN --stage test", ("nothing to test in $here/run", "fine-tune first")),
    Case("TRAIN --stage test --output_folder $here/a/b/c", ("nothing to test in $here/a/b/c",)),
    Case("TRAIN --stage test --debug", ("--debug keeps no checkpoints", "leave out --stage")),
    Case("TRAIN --stage test", ("has ended 1 of 2 epochs", "without --stage test"), before=unfinished),
    Case("TRAIN --stage test", ("nothing to test",), before=without(TUNED)),
    Case("TRAIN --stage finetune", ("no pre-trained encoder at $here/run/pretrain/encoder.ckpt",)),
    Case("TRAIN --stage finetune", ("no pre-trained encoder",), before=without("pretrain", "finetune")),
    Case("TRAIN --pretrained $here/nowhere", ("no pre-trained encoder at $here/nowhere",)),
    Case(
        "TRAIN --pretrained $root/README.md",
        ("README.md is not an encoder checkpoint: give pretrain/encoder.ckpt", "or its folder"),
    ),
    Case("TRAIN --weights $here/nowhere", ("$here/nowhere is not the folder of an experiment",)),
    Case("TRAIN --pretrain '{epochs: 3}'", ("another pretrain",), before=copy_run),
    Case("TRAIN --finetune '{epochs: 3}'", ("another finetune",), before=copy_run),
    *(Case("TRAIN", ("config.json is damaged",), before=old_config(text)) for text in ("null", "3", "[]", '{"a": 1', "{}")),
    *(Case(f"transcribe run {WAV}", ("config.json is damaged",), before=old_config(text)) for text in ("null", "[]", "\0", "{}")),
    Case("TRAIN --seed 2", ("another seed",), before=copy_run),
    Case("TRAIN", code=0, leaves=("run/*",), before=copy_run),
    Case("TRAIN", code=0, leaves=("run/*",), before=without("hyperparams.yaml", "manifests", "pretrain/encoder.ckpt", "*.log")),
    Case("TRAIN", ("pretrain is no folder",), before=file_for_folder),
    Case("TRAIN", ("run: file exists: give another name",), before=lambda place: (place.here / "run").touch()),
    Case("TRAIN --data_folder $here/nowhere", ("$here/nowhere is not there",)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_folder(case, place):
    check(case, place)


def test_half_written_files_of_a_run_are_removed_and_no_others(place):
    copy_run(place)
    folder = place.here / "run"
    for name in (kept := (".mine.tmp", "else/.summary.json.17.tmp")) + (
        gone := (".summary.json.17.tmp", "manifests/.a.csv.17.tmp")
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    check(Case("TRAIN --stage test", ("summary: ",), code=0, leaves=("run/*",)), place)
    assert [(folder / name).exists() for name in kept + gone] == [True, True, False, False]


def test_a_function_on_tensors_is_an_entry_of_a_model():
    gelu = {"class": "!name:torch.nn.functional.gelu"}
    layer = loading.build({"class": "!new:torch.nn.TransformerEncoderLayer", "d_model": 4, "nhead": 2, "activation": gelu})
    assert layer.activation is torch.nn.functional.gelu


def test_what_is_in_a_checkpoint_too_is_written_anew(place):
    """The encoder and the records of both stages: as they were."""
    copy_run(place)
    folder = place.here / "run"
    logs = {stage: (folder / stage / "log.jsonl").read_bytes() for stage in ("pretrain", "finetune")}
    before = torch.load(folder / "pretrain" / "encoder.ckpt")
    for name in ("pretrain/log.jsonl", "finetune/log.jsonl", "pretrain/encoder.ckpt"):
        damage(folder / name, "half")
    ended = check(Case("TRAIN", ("encoder.ckpt is damaged: it is written anew",), code=0, leaves=("run/*",)), place)
    assert not ended.errors
    assert logs == {stage: (folder / stage / "log.jsonl").read_bytes() for stage in logs}
    after = torch.load(folder / "pretrain" / "encoder.ckpt")
    assert all(torch.equal(before["state"][name], after["state"][name]) for name in before["state"])
    assert json.loads((folder / "summary.json").read_text())["log"]["pretrain"][1]["epoch"] == 2


def test_a_second_start_names_the_first_and_a_dead_one_is_replaced(place):
    long = arguments(place.tree, place.here / "run", finetune="{epochs: 500, batch_seconds: 6}")
    first = Started("train", long, place.here)
    wait_for(lambda: "finetune epoch 1/" in first.paths[0].read_text())
    said = f"$here/run is in use by process {first.process.pid} on "
    check(Case("TRAIN", (said, "since 20", "another --output_folder"), leaves=("run/*",)), place)
    check(Case(f"transcribe run {WAV}", code=0, leaves=("run/*",)), place)
    assert first.process.is_alive()
    first.kill()
    first.process.join()
    assert (place.here / "run" / "train.lock").exists()
    check(Case("TRAIN", ("another finetune",), leaves=("run/train.lock", "run/*.tmp")), place)  # so it had the folder
    assert not (place.here / "run" / "train.lock").exists()
