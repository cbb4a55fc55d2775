"""The command lines of results/: what is wrong is said in a line before anything is measured."""

import pytest

from tests.faults.case import Case, check, copy_run

BUDGET, DELAY, SOAK = "results.latency.budget $root/hparams/llsa.yaml", "results.latency.delay $run", "results.latency.soak $run"
MAPS, SPEED, PAPER = "results.attention.measure $run", "results.speed.measure", "results.speed.paper_size"
REPRODUCE, PACK = "results.reproduce --data_folder libri", "results.offline.pack"


def a_file(place):
    (place.here / "file").touch()


def libri(place):
    for split in ("train-clean-5", "dev-clean", "test-clean"):
        folder = place.here / "libri" / split / "1" / "2"
        folder.mkdir(parents=True)
        (folder / "1-2.trans.txt").touch()


def a_run_without_weights(place):
    copy_run(place)
    for path in (place.here / "run").rglob("model.ckpt"):
        path.unlink()


def aligned(*names, seconds=2):
    """Write the alignments of an utterance, which has two seconds."""

    def write(place):
        tier = f'class = "IntervalTier"\nname = "words"\nxmin = 0\nxmax = {seconds}\nintervals: size = 1\n'
        interval = f'intervals [1]:\nxmin = 0\nxmax = {seconds}\ntext = "utterance"\n'
        head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {seconds}\n'
        for name in names:
            path = place.here / "grids" / name / "104-7-0000.TextGrid"
            path.parent.mkdir(parents=True)
            path.write_text(f"{head}tiers? <exists>\nsize = 1\nitem []:\nitem [1]:\n{tier}{interval}")

    return write


OPTIONS = (
    Case("results.pages x", ("unrecognized arguments: x",)),
    Case("results.latency.budget", ("required: YAML",)),
    Case("results.latency.budget ''", ("is empty",)),
    Case("results.latency.budget nowhere.yaml", ("no file nowhere.yaml",)),
    Case("results.latency.budget $root/README.md", ("not valid YAML", "README.md")),
    Case(f"{BUDGET} --scale", ("--scale", "expected one argument")),
    Case(f"{BUDGET} --scale ''", ("--scale is empty",)),
    Case(f"{BUDGET} --scale=", ("--scale= is empty",)),
    Case(f"{BUDGET} --scale '[a'", ("no scale [a; there are",)),
    *(Case(f"{BUDGET} --hop_ms {hop}", (f"--hop_ms {hop} must be",)) for hop in ("0", "-1", "nan", "inf", "1e-05", "1e+300")),
    Case(f"{BUDGET} --hop_ms x", ("--hop_ms", "'x'")),
    Case(f"{BUDGET} --output no/a.json", ("there is no folder no",)),
    Case(f"{BUDGET} --output no/../a.json", ("there is no folder no/..",)),
    Case(f"{BUDGET} --output .", ("not of a folder",)),
    Case(f"{BUDGET} --output file/a.json", ("there is no folder file",), before=a_file),
    Case(f"{BUDGET} --output ''", ("--output is empty",)),
    Case(f"{BUDGET} --output {'x' * 300}", ("file name too long: give a shorter name",)),
    Case(f"{BUDGET} --output /dev/full", ("/dev/full: no space left on device: free some space",)),
    Case("results.latency.delay nowhere", ("nowhere is not the folder of an experiment",)),
    Case("results.latency.delay $run/summary.json", ("is not the folder of an experiment",)),
    Case(
        "results.latency.delay run",
        ("model.ckpt is missing", "delete the folder"),
        before=a_run_without_weights,
        leaves=("run/*",),
    ),
    *(Case(f"{DELAY} --hops {hop}", (f"--hops {hop} must be",)) for hop in ("0", "-5", "nan", "inf", "1e-09", "1e+300")),
    Case(f"{DELAY} --hops", ("--hops", "expected at least one argument")),
    *(Case(f"{DELAY} --utterances {count}", ("--utterances",)) for count in ("0", "-1", "1.5", "nan")),
    Case(f"{DELAY} --split nope", ("nope", "dev-b, test-c, train-a")),
    Case(f"{DELAY} --split ''", ("--split is empty",)),
    Case(f"{DELAY} --data_folder ''", ("--data_folder is empty",)),
    Case(f"{DELAY} --data_folder nowhere", ("nowhere is not there",)),
    Case(f"{DELAY} --alignments nowhere", ("no folder nowhere",)),
    Case(f"{DELAY} --alignments grids", ("104-7-0000 has two alignments, grids/a/", "grids/b/"), before=aligned("a", "b")),
    Case(
        f"{DELAY} --alignments grids",
        ("104-7-0000.TextGrid has words until 90 s", "at 2 s", "in seconds"),
        before=aligned("a", seconds=90),
    ),
    Case(f"{MAPS} --alignments grids", ("has no tier phones: there are words",), before=aligned("a")),
    Case(f"{DELAY} --output no/a.json", ("there is no folder no",)),
    Case(f"{DELAY} --bad", ("unrecognized arguments: --bad",)),
    Case("results.latency.soak nowhere", ("nowhere is not the folder of an experiment",)),
    *(Case(f"{SOAK} --minutes {n}", (f"--minutes {n} must be from",)) for n in ("0", "-1", "nan", "inf", "1e+300")),
    Case(f"{SOAK} --data_folder nowhere", ("nowhere is not there",)),
    Case(f"{SOAK} --output no/a.json", ("there is no folder no",)),
    Case("results.latency.depth x", ("unrecognized arguments: x",)),
    Case("results.latency.wer_delay --output a.png", ("unrecognized arguments: --output",)),
    Case("results.attention.measure $here", ("is not the folder of an experiment",)),
    *(Case(f"{MAPS} --frames {count}", ("--frames",)) for count in ("0", "1", "100000", "x")),
    Case(f"{MAPS} --utterances -3", ("--utterances -3 must be 1 or more",)),
    Case(f"{MAPS} --alignments file", ("no folder file",), before=a_file),
    Case(f"{MAPS} --output no/maps", ("there is no folder no",)),
    Case(f"{MAPS} --output file", ("file: it is no folder",), before=a_file),
    Case("results.attention.figures x", ("unrecognized arguments: x",)),
    *(Case(f"{SPEED} --lengths {number}", ("must be a whole number",)) for number in ("0", "-1", "1e9", "²", "nan")),
    Case(f"{SPEED} --only x", ("invalid choice: 'x'",)),
    Case(f"{SPEED} --only", ("expected at least one argument",)),
    Case(f"{SPEED} --threads 0", ("--threads", "must be a whole number")),
    Case(f"{SPEED} --threads 100000000", ("--threads", "at most")),
    Case(f"{SPEED} --output no/a.json", ("there is no folder no",)),
    Case(f"{SPEED} --report --output a.json", ("nothing is measured in a.json", "without --report")),
    Case(f"{PAPER} --seconds 0", ("must be a whole number",)),
    Case(f"{PAPER} --seconds 99999999999", ("--seconds", "at most")),
    Case(f"{PAPER} --scale nope --only stream --output a.json", ("no scale nope",)),
    Case(f"{PAPER} --precision fp16", ("fp16 needs a GPU",)),
    Case(f"{PAPER} --device meta", ("invalid choice: 'meta'",)),
    Case("results.reproduce", ("--data_folder is missing",)),
    Case("results.reproduce --data_folder ''", ("--data_folder is empty",)),
    Case("results.reproduce --data_folder $here", ("$here holds no LibriSpeech splits",)),
    Case("results.reproduce --data_folder $tree", ("neither train-clean-5 nor train-clean-100",)),
    *(Case(f"{REPRODUCE} --seeds {number}", (f"--seeds {number} must be above 0",)) for number in ("0", "-1", "1000000000")),
    *(Case(f"{REPRODUCE} --jobs {number}", ("--jobs",)) for number in ("0", "1.5", "1000000000")),
    *(Case(f"{REPRODUCE} --budget_minutes {n}", (f"--budget_minutes {n} must be above 0",)) for n in ("0.0", "-1.0", "nan")),
    Case(f"{REPRODUCE} --only nope", ("no experiment nope; there are aa",), before=libri),
    Case(f"{REPRODUCE} --scale huge", ("invalid choice: 'huge'",)),
    Case(f"{REPRODUCE} --device rubbish", ("no device rubbish",)),
    Case(f"{REPRODUCE} --lm nowhere.arpa", ("nowhere.arpa is not a file",), before=libri),
    Case(f"{REPRODUCE} --only aa --dev_splits nope", ("no split nope; there are dev-clean",), before=libri),
    Case("results.reproduce --data_folder $tree --train_splits ../x", ("no split ../x, dev-clean",)),
    Case(PACK, ("--data_folder is missing",)),
    Case(f"{PACK} --data_folder $tree", ("--output is missing",)),
    Case(f"{PACK} --data_folder $tree --output no/pack", ("there is no folder no",)),
    Case(f"{PACK} --data_folder $tree --output file", ("file: it is no folder",), before=a_file),
    *(
        Case(f"{PACK} --data_folder $tree --output p --part_mib {n}", ("--part_mib", "above 0"))
        for n in ("0", "-1", "nan", "inf")
    ),
    *(Case(f"{PACK} --data_folder $tree --output p --bitrate_kbit {n}", ("from 6 to 256",)) for n in ("0", "nan", "1e9")),
    Case(f"{PACK} --data_folder $tree --output p --python three", ("--python three must be a version",)),
    Case(f"{PACK} --data_folder $tree --output p --lm nowhere", ("--lm nowhere is not there",)),
    Case(f"{PACK} --data_folder $tree --output p --there not-a-package-x", ("not-a-package-x", "not installed")),
    Case(f"{PACK} --data_folder nowhere --output p", ("nowhere is not there",)),
    Case(f"{PACK} --data_folder $tree --output p --splits nope", ("Split nope is not in $tree",)),
    Case(f"{PACK} --take_home nowhere", ("nowhere", "copy them again")),
    Case(f"{PACK} --take_home file", ("file", "copy them again"), before=a_file),
)


@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_options_of_results(case, place):
    check(case, place)
