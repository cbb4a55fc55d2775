"""Every file of a run damaged in every way: one line that names it, or the same results as before."""

import shutil
from dataclasses import replace

import pytest

from tests.faults.case import check, copy_run
from tests.faults.state.damage import (
    COMMANDS,
    CONFIG,
    DAMAGES,
    FILES,
    MODEL,
    READ,
    TUNED,
    case,
    copy_old_run,
    copy_with_an_earlier_checkpoint,
    damage,
    exit_code,
)

AMBIGUOUS = {(file, "flipped") for file in (CONFIG, "summary.json", MODEL[1])}  # the bit may be in a comment, or a number
EVERY = [
    (command, file, kind)
    for command in COMMANDS
    for file in FILES
    for kind in DAMAGES
    if (file, kind) not in AMBIGUOUS and (command == "train" or file in READ[command] or file == MODEL[2])
]
AGAIN = ("summary.json", "manifests/train-a.csv", "utterances-test-c-streaming.tsv")  # some of those that are written anew
ONE_EACH = [("train", file, kind) for file, kind in zip(FILES, 2 * list(DAMAGES)) if (file, kind) not in AMBIGUOUS]
ONE_EACH = [one for one in ONE_EACH if exit_code(*one) or one[1] in AGAIN]
ONE_EACH += [
    ("test", MODEL[2], "missing"),
    ("test", CONFIG, "half"),
    ("train", MODEL[2], "pickle"),
    ("train", "pretrain/log.jsonl", "deep"),
    ("train", "train_log.txt", "folder"),
    ("weights", MODEL[2], "zeros"),
    ("weights", CONFIG, "list"),
    ("weights", "summary.json", "half"),
    ("pretrained", "pretrain/encoder.ckpt", "flipped"),
    ("pretrained", "pretrain/encoder.ckpt", "pickle"),
    ("transcribe", MODEL[0], "null"),
    ("transcribe", MODEL[2], "flipped"),
    ("transcribe", CONFIG, "half"),
]


def named(command, file, kind):
    return f"{command}, {file}: {kind}"


@pytest.mark.parametrize("one", ONE_EACH, ids=lambda one: named(*one))
def test_damage(one, place):
    check(case(*one), place)


@pytest.mark.campaign
@pytest.mark.parametrize("one", [one for one in EVERY if one not in ONE_EACH], ids=lambda one: named(*one))
def test_every_damage(one, place):
    check(case(*one), place)


def copy_with_half_an_encoder(place):
    copy_run(place)
    damage(place.here / "run" / "pretrain" / "encoder.ckpt", "half")


def copy_without_an_encoder(place):
    copy_run(place)
    (place.here / "run" / "pretrain" / "encoder.ckpt").unlink()


@pytest.mark.parametrize("prepare", [copy_with_half_an_encoder, copy_without_an_encoder])
@pytest.mark.parametrize("file, kind", [("pretraining.ckpt", "flipped"), ("epochs.ckpt", "number"), ("CKPT.yaml", "missing")])
def test_the_last_checkpoint_of_pretraining_where_it_is_needed(prepare, file, kind, place):
    words = "pretrain/checkpoints/CKPT+", file, "delete the folder", "its stage then begins again"
    one = case("train", f"pretrain/checkpoints/CKPT*/{file}", kind, prepare)
    check(replace(one, words=words, code=2, leaves=()), place)


def test_half_an_encoder_without_checkpoints(place):
    def prepare(place):
        copy_run(place)
        shutil.rmtree(place.here / "run" / "pretrain" / "checkpoints")

    one = case("train", "pretrain/encoder.ckpt", "half", prepare)
    check(replace(one, words=("encoder.ckpt is damaged", "put a sound copy there, or delete it"), code=2, leaves=()), place)


OLD = [(file, kind) for file in FILES if file.startswith(TUNED) and file != MODEL[1] for kind in DAMAGES]


@pytest.mark.parametrize(
    "file, kind", [(MODEL[2], "flipped"), (f"{TUNED}/optimizer.ckpt", "half"), (f"{TUNED}/epochs.ckpt", "empty")]
)
def test_checkpoints_without_sums(file, kind, place):
    check(case("train", file, kind, copy_old_run), place)


@pytest.mark.campaign
@pytest.mark.parametrize("file, kind", OLD)
def test_every_damage_of_a_checkpoint_without_sums(file, kind, place):
    one, text = case("train", file, kind, copy_old_run), file not in (*MODEL, f"{TUNED}/optimizer.ckpt")
    if text and kind in ("flipped", "number", "half", "missing"):
        pytest.skip("a sound file of another content, or one that not each checkpoint has")
    if kind == "missing" and file != MODEL[0]:  # nothing says before the loading that it should be there
        one = replace(one, words=("cannot be loaded", "delete the folder"), leaves=("run/*",))
    check(one, place)


@pytest.mark.parametrize("command", ["train", "test", "transcribe"])
def test_an_earlier_checkpoint_is_offered_and_used(command, place):
    one = case(command, "finetune/checkpoints/CKPT+2*/model.ckpt", "half", copy_with_an_earlier_checkpoint)
    ended = check(
        replace(one, words=("model.ckpt is damaged", "delete the folder", "CKPT+1999, which is whole, is then used")), place
    )
    shutil.rmtree(place.here / ended.errors[0].partition("delete the folder ")[2].partition(";")[0])
    ended = check(replace(one, before=None, words=(), code=0, leaves=("run", "run/*")), place)
