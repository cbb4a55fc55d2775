"""The command line of train.py, and the YAML that it names."""

import io
import shutil
import subprocess

import pytest
from hyperpyyaml import load_hyperpyyaml

from tests.faults.case import Case, check
from tests.faults.process import run
from tests.recipes.tiny import arguments

FIRST = "give the YAML of an attention first"
WHOLE = "name: mine\nattention: !name:speech_attention.attention.AA {num_heads: 2}\n"
NO_VALUE = "has no value: give one, or leave the option out"


def yaml(content):
    """A case whose YAML holds this text, or these bytes."""
    return lambda place: (place.here / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())


def shown(place):
    """Keep what `--stage show` prints in a file."""
    ended = run("train", [str(place.root / "hparams" / "llsa.yaml"), "--stage", "show"], place.here)
    (place.here / "mine.yaml").write_text(ended.out)


CASES = (
    Case("train", (FIRST, "hparams/llsa.yaml")),
    Case("train ''", (FIRST,)),
    Case("train --seed 2 $root/hparams/llsa.yaml", (FIRST,)),
    Case("train nowhere.yaml", ("no file nowhere.yaml", "hparams/llsa.yaml")),
    Case("TRAIN --stage test", ("nothing to test in $here/run",)),
    # Words that are no options
    Case("TRAIN --lookahed 3", ("unknown key lookahed", "did you mean lookahead?")),
    Case("TRAIN --devise cpu", ("unknown key devise; did you mean device?",)),
    Case("TRAIN --nopro", ("unknown key nopro",)),
    Case("TRAIN --=3", ("unknown key ; python train.py --help",)),
    Case("TRAIN --", ("unknown key ; python train.py --help",)),
    Case("train $root/hparams/llsa.yaml word", ("'word' belongs to no option",)),
    Case("TRAIN --seed 1 2", ("'2' belongs to no option",)),
    Case("TRAIN --skip_bad True False", ("'False' belongs to no option",)),
    Case("TRAIN --name=a b", ("'b' belongs to no option", "quotes")),
    Case("TRAIN --codec \udcff", ("'\\udcff' has bytes or characters that no YAML file can hold",)),
    Case("TRAIN --seed 1 --seed=1", ("--seed is given twice",)),
    Case("TRAIN --debug --debug", ("--debug is given twice",)),
    # Options without a value, as of shell variables that are not set
    Case("TRAIN --data_folder ''", (f"--data_folder {NO_VALUE}", "shell variable")),
    Case("train $root/hparams/llsa.yaml --data_folder=", (f"--data_folder {NO_VALUE}",)),
    Case("TRAIN --data_folder --seed 2", (f"--data_folder {NO_VALUE}",)),
    Case("TRAIN --output_folder", (f"--output_folder {NO_VALUE}",)),
    Case("TRAIN --embedded_folder ''", (f"--embedded_folder {NO_VALUE}",)),
    Case("TRAIN --weights=", (f"--weights {NO_VALUE}",)),
    Case("TRAIN --pretrained --stage finetune", (f"--pretrained {NO_VALUE}",)),
    Case("TRAIN --lm ''", (f"--lm {NO_VALUE}",)),
    Case("TRAIN --lm_folder=", (f"--lm_folder {NO_VALUE}",)),
    Case("TRAIN --name ''", (f"--name {NO_VALUE}",)),
    Case("TRAIN --codec --seed 3", (f"--codec {NO_VALUE}",)),
    Case("train $root/hparams/llsa.yaml --train_splits=", (f"--train_splits {NO_VALUE}",)),
    Case("TRAIN --owners=", (f"--owners {NO_VALUE}",)),
    Case("TRAIN --device", (f"--device {NO_VALUE}",)),
    Case("TRAIN --debug --debug_batches --debug_epochs 1", (f"--debug_batches {NO_VALUE}",)),
    # Options of SpeechBrain
    Case("TRAIN --jit", ("--jit, an option of SpeechBrain, is not supported here: give --compile",)),
    Case("TRAIN --auto_mix_prec", ("--auto_mix_prec, an option of SpeechBrain", "--precision fp16")),
    Case("TRAIN --test_only", ("--test_only, an option of SpeechBrain", "--stage test")),
    Case("TRAIN --optimizer_step_limit=1", ("--optimizer_step_limit", "{epochs: N}")),
    Case("TRAIN --debug --debug_batches 0", ("--debug_batches 0 must be a whole number above 0",)),
    Case("TRAIN --debug --debug_epochs -1", ("--debug_epochs -1 must be a whole number above 0",)),
    Case("TRAIN --debug --debug_epochs 1.5", ("--debug_epochs 1.5 must be a whole number above 0",)),
    Case("TRAIN --debug_batches 3", ("--debug_batches changes nothing without --debug",)),
    Case("TRAIN --compile --compile_using_dynamic_shape_tracing", ("--compile alone serves batches of all sizes",)),
    Case("TRAIN --debug False", ("--debug has no value: leave 'False' out",)),
    Case("TRAIN --compile=default", ("--compile has no value: leave 'default' out",)),
    Case("train $root/hparams/llsa.yaml --noprogressbar False", ("--noprogressbar has no value",)),
    Case("TRAIN --distributed_backend ncll", ("--distributed_backend ncll must be nccl or gloo or mpi",)),
    *(Case(f"TRAIN --device {name}", (f"no device {name}: ",)) for name in ("meta", "cuda:99", "CPU", "0", "xla", "cpu:x")),
    Case("TRAIN --device meta --stage show", ("no device meta: ",)),
    Case("TRAIN --debug --debug_batches 1 --debug_epochs 1", ("summary: ",), 0, ("run-debug", "run-debug/*")),  # no `run`
    Case("TRAIN --output_folder $here/run-debug", ("a folder whose name ends in -debug is one of --debug",)),
    # Names
    Case("TRAIN --name a/b", ("name=a/b must serve as the name of a folder",)),
    Case("TRAIN --name ..", ("name=.. must serve as the name of a folder",)),
    Case("TRAIN --name .", ("must serve as the name of a folder",)),
    Case(f"TRAIN --name {'n' * 250}", ("must serve as the name of a folder", "200 bytes")),
    Case("TRAIN --lm null", ("lm=null is not a file",)),  # a file of this name, which is not there
    Case("TRAIN --weights 'a: b'", ("a: b is not the folder of an experiment",)),
    Case("TRAIN --pretrained '[a]'", ("no pre-trained encoder at [a]",)),
    Case("TRAIN --data_folder '~'", ("Data folder ~ is not there",)),
    Case("TRAIN --data_folder true", ("Data folder true is not there",)),
    Case("TRAIN --data_folder '!x'", ("Data folder !x is not there",)),
    Case("TRAIN --train_splits 2024", ("Split 2024 is not in $tree",)),
    Case("TRAIN --train_splits '[train-a'", ("--train_splits is not valid YAML",)),
    # The YAML itself
    Case("train $root/hparams/experiment.yaml", ("experiment.yaml has no name, ", "hparams/llsa.yaml")),
    Case("train $root/hparams/scale/mini.yaml", ("mini.yaml has no name, attention: give the YAML of an attention",)),
    Case("train $here", ("is a folder: give the YAML of an attention",)),
    Case("train mine.yaml", ("mine.yaml must hold lines of the form key: value",), before=yaml("")),
    Case("train mine.yaml", ("mine.yaml must hold lines of the form key: value",), before=yaml("- a\n- b\n")),
    Case("train mine.yaml", ("mine.yaml must hold lines of the form key: value",), before=yaml("llsa")),
    Case("train mine.yaml", ("mine.yaml is not valid YAML",), before=yaml("name: [a\nattention: 3\n")),
    Case("train mine.yaml", ("mine.yaml is not valid YAML",), before=yaml("name: 2024-99-99\n")),
    Case("train mine.yaml", ("mine.yaml", "give each key once"), before=yaml("name: a\nname: b\n")),
    Case("train mine.yaml", ("mine.yaml is no text in UTF-8",), before=yaml("name: a\n".encode("utf-16"))),
    Case("train mine.yaml", ("mine.yaml is no text in UTF-8",), before=yaml(bytes(range(256)))),
    Case("train mine.yaml", ("mine.yaml is not valid YAML",), before=yaml("name: \0\n")),
    Case("TRAIN --owners '&a [*a]'", ("--owners holds blocks in blocks without an end",)),
    Case("train mine.yaml", ("mine.yaml has no attention",), before=yaml("name: mine\n")),
    Case("train mine.yaml", ("output_folder=3 must be a path, in quotes",), before=yaml(f"{WHOLE}output_folder: 3\n")),
    Case("train mine.yaml", ("data_folder=(empty) must be a path",), before=yaml("name: a\ndata_folder: ''\n")),
    Case("train mine.yaml", ("name=300000.0 must be text, in quotes",), before=yaml(WHOLE.replace("mine", "3e5"))),
    Case("train mine.yaml --dim 32", ("--dim would change nothing, as mine.yaml has all values written out",), before=shown),
    Case("train mine.yaml --scale base", ("--scale would change nothing",), before=shown),
    Case("train mine.yaml --attention '{chunk: 2}'", ("--attention would change nothing",), before=shown),
    Case("train mine.yaml --stage show --seed 3", ("seed: 3 ", "name: llsa"), 0, before=shown),
)


@pytest.mark.parametrize("case", CASES, ids=ascii)
def test_options(case, place):
    check(case, place)


WORDS = [" [a]: b\n\t#2 ", "2024", "out/Libri #2", "!x & *y", "~'\"\\é😀(x)"]


@pytest.mark.parametrize("word", WORDS[:1] + [pytest.param(word, marks=pytest.mark.campaign) for word in WORDS[1:]], ids=ascii)
def test_words_are_taken_as_they_are(place, word):
    """Data, runs and names that YAML would read otherwise: trained, again by the command in the file, and transcribed with."""
    tree, name = place.here / f"data {word}".replace("/", ""), word.replace("/", "")
    shutil.copytree(place.tree, tree)
    command = arguments(tree.name, word, stage="finetune", pretrain="{epochs: 0}", name=name, codec=word)
    assert run("train", command, place.here).code == 0
    assert {path.name for path in place.here.iterdir()} == {tree.name, word.partition("/")[0]}
    text = (place.here / word / "hyperparams.yaml").read_text()
    values = load_hyperpyyaml(io.StringIO(text))
    assert (values["name"], values["codec"], values["output_folder"], values["data_folder"]) == (name, word, word, tree.name)
    (typed,) = (line for line in text.splitlines() if line.startswith("#     python train.py "))
    typed = typed.removeprefix("#     python train.py ").removesuffix(" --data_folder LIBRISPEECH")
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {typed}"], capture_output=True, text=True, check=True).stdout
    again = [*printed.split("\0")[:-1], "--data_folder", tree.name, "--output_folder", word, "--device", "cpu"]
    ended = run("train", [*again, "--stage", "test"], place.here)  # the guard of the folder finds nothing that changed
    assert ended.code == 0, ended.err
    told = run("transcribe", [word, str(next(tree.rglob("*.flac")))], place.here)
    assert told.code == 0, told.err


def test_a_class_without_entries_stays(place):
    """Regression: the values of a run had an empty text in place of the class, and its model could not be made again."""
    block = "!name:speech_attention.blocks.ConformerBlock"
    command = arguments(place.tree, "run", stage="finetune", pretrain="{epochs: 0}", finetune="{epochs: 1}", block=block)
    assert run("train", command, place.here).code == 0
    assert run("transcribe", ["run", str(next(place.tree.rglob("*.flac")))], place.here).code == 0
