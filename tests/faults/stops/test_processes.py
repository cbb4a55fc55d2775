"""Trainings of several processes: what the environment says of them, and one of them that fails or is killed."""

import functools
import pickle
import shutil
import signal
import socket
from dataclasses import replace

import pytest

from recipes.LibriSpeech.data.dataset import dataset
from recipes.LibriSpeech.data.prepare import prepare
from tests.faults.case import Case, Place, check
from tests.faults.process import Started, run, wait_for
from tests.faults.stops import kills

WHOLE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29733"}
SECOND = {**WHOLE, "RANK": "1", "LOCAL_RANK": "1"}
HINT = "start with torchrun"


def case(words, command="TRAIN --distributed_backend gloo", **environment):
    return Case(command, words, process={"environment": environment})


ENVIRONMENTS = (
    case(("WORLD_SIZE= but no value for RANK", HINT), WORLD_SIZE=""),
    case(("RANK=0 but no value for LOCAL_RANK, WORLD_SIZE", HINT), RANK="0"),
    case(("RANK= but no value", HINT), RANK=""),
    case(("LOCAL_RANK=0 but no value for RANK", HINT), LOCAL_RANK="0"),
    case(("rank 0: ", "no value for MASTER_PORT", HINT), **{**WHOLE, "MASTER_PORT": ""}),
    case(("rank 0: ", "LOCAL_RANK=gpu", "no whole number", HINT), **{**WHOLE, "LOCAL_RANK": "gpu"}),
    case(("RANK=-1", "no whole number", HINT), **{**WHOLE, "RANK": "-1"}),
    case(("RANK=1.0", "no whole number"), **{**WHOLE, "RANK": "1.0"}),
    case(("WORLD_SIZE=two", "no whole number"), **{**WHOLE, "WORLD_SIZE": "two"}),
    case(("WORLD_SIZE=0", "do not fit together"), **{**WHOLE, "WORLD_SIZE": "0"}),
    case(("rank 2: ", "RANK=2", "do not fit together"), **{**WHOLE, "RANK": "2"}),
    case(("LOCAL_RANK=1", "do not fit together"), **{**WHOLE, "LOCAL_RANK": "1"}),
    case(("MASTER_PORT=70000", "do not fit together"), **{**WHOLE, "MASTER_PORT": "70000"}),
    case(("MASTER_ADDR=nowhere.invalid", "no machine that is known"), **{**WHOLE, "MASTER_ADDR": "nowhere.invalid"}),
    case(("--distributed_backend carrier",), "TRAIN --distributed_backend carrier", **WHOLE),
    case(("--distributed_backend mpi", "gloo"), "TRAIN --distributed_backend mpi", **WHOLE),
    case(("no GPU", "--distributed_backend gloo"), "TRAIN", **{**WHOLE, "RANK": "77", "LOCAL_RANK": "77", "WORLD_SIZE": "78"}),
)


@pytest.mark.parametrize("case", ENVIRONMENTS, ids=lambda case: str(case.process["environment"]))
def test_environment(case, place):
    check(case, place)


def test_port_of_another_program(place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        check(case((f"rank 0: MASTER_PORT={port}", "taken"), **{**WHOLE, "MASTER_PORT": port}), place)


@pytest.mark.campaign
@pytest.mark.parametrize("environment", [WHOLE, SECOND], ids=["the first", "the second"])
def test_nobody_else_comes(place, environment):
    check(case(("not all 2 processes", "start all of them at once"), **environment), place)


SHORT = {"distributed_backend": "gloo", "pretrain": "{epochs: 1, batch_seconds: 6}", "finetune": "{epochs: 1, batch_seconds: 6}"}
BRAIN = "recipes.LibriSpeech.training.brain.StageBrain"
SAVE = "recipes.LibriSpeech.training.checkpoint.AtomicCheckpointer.save_checkpoint"
LOST = "another process of this training has ended"


def start(place, folder="run", inside=(None, None), **options):
    """Two processes of one training; `inside` as in `Started`, for each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = kills.training(place, folder, **{**SHORT, **options})
    ranks = ({**each, "MASTER_PORT": port} for each in (WHOLE, SECOND))
    return [Started("train", words, place.here, environment=rank, inside=inside[number]) for number, rank in enumerate(ranks)]


@pytest.fixture(scope="module")
def whole(ready, tmp_path_factory):
    """What a training of two processes finds that nobody stops."""
    here = tmp_path_factory.mktemp("two") / "here"
    here.mkdir()
    assert [process.wait().code for process in start(Place(here, *ready))] == [0, 0]
    return kills.found(here / "run")


def goes_on(place, whole):
    """The same command, in both processes, ends as if nothing had been."""
    for ended in [process.wait() for process in start(place)]:
        assert ended.code == 0, ended.err
    assert kills.found(place.here / "run") == whole


def more(*row):
    return pytest.param(*row, marks=pytest.mark.campaign)


@pytest.mark.parametrize(
    "rank, method, number, action, code, words, lost",
    [
        (1, f"{BRAIN}.on_fit_batch_end", 4, kills.die, -9, None, LOST),
        more(0, f"{BRAIN}.on_fit_batch_end", 1, kills.die, -9, None, LOST),
        more(0, f"{BRAIN}.evaluate_batch", 1, kills.die, -9, None, LOST),
        more(1, f"{BRAIN}.evaluate_batch", 1, kills.die, -9, None, LOST),
        more(0, SAVE, 2, kills.die, -9, None, LOST),
        more(1, SAVE, 3, kills.die, -9, None, LOST),
        more(0, "recipes.LibriSpeech.training.finetune.FinetuneBrain.test", 1, kills.die, -9, None, None),
        more(1, "recipes.LibriSpeech.training.finetune.FinetuneBrain.test", 1, kills.die, -9, None, None),
        more(1, f"{BRAIN}.on_fit_batch_start", 2, kills.poison, 2, "pretrain: the loss is nan at epoch 1, step 2", LOST),
        more(0, f"{BRAIN}.on_fit_batch_start", 4, kills.poison, 2, "the loss is nan at epoch 1, step ", LOST),
        more(1, f"{BRAIN}.make_loaders", 1, kills.refuse, 2, "not here", LOST),
        more(0, f"{BRAIN}.make_loaders", 2, kills.refuse, 2, "not here", LOST),
    ],
)
def test_one_of_two_fails(place, whole, rank, method, number, action, code, words, lost):
    """Within a minute the other one ends, too, if it needs the first, and says so."""
    inside = [None, None]
    inside[rank] = functools.partial(kills.at_call, method, number, action)
    ended = [process.wait() for process in start(place, inside=inside)]
    assert ended[rank].code == code, ended[rank].err
    assert ended[1 - rank].code == (2 if lost else 0), ended[1 - rank].err
    for number, line in ((rank, words), (1 - rank, lost)):
        assert not ended[number].traceback
        assert [line in error and f"error: rank {number}: " in error for error in ended[number].errors] == [True] * bool(line)
    goes_on(place, whole)


@pytest.mark.campaign
@pytest.mark.parametrize("moment", ["run/manifests/*", "run/pretrain/checkpoints/CKPT*", "run/finetune/checkpoints/partial*"])
def test_ctrl_c_in_both(place, whole, moment):
    both = start(place)
    wait_for(lambda: any(place.here.glob(moment)))
    for process in both:
        process.kill(signal.SIGINT)
    for ended in [process.wait() for process in both]:
        assert ended.code == 130 and "the same command goes on" in ended.err and not ended.traceback, ended.err
    goes_on(place, whole)


@pytest.mark.campaign
def test_sound_that_is_damaged_after_preparation(place, whole):
    """One of two meets it first, and names the file; with the sound as it was, both go on."""
    own = replace(place, tree=place.here / "tree")
    shutil.copytree(place.tree, own.tree)
    inside = None, functools.partial(kills.at_call, f"{BRAIN}.on_fit_batch_start", 1, kills.spoil)
    ended = [process.wait() for process in start(own, inside=inside)]
    lines = [line for each in ended for line in each.errors]
    assert [each.code for each in ended] == [2, 2] and not any(each.traceback for each in ended), lines
    assert len(lines) == 2 and any(f"{own.tree}" in line and ".flac" in line for line in lines), lines
    shutil.copytree(place.tree, own.tree, dirs_exist_ok=True)
    goes_on(own, whole)


@pytest.mark.campaign
def test_damaged_checkpoint_of_two(place, whole):
    """Both name it; as it was, it is gone on from."""
    inside = None, functools.partial(kills.at_call, f"{BRAIN}.evaluate_batch", 2, kills.die)
    for process in start(place, inside=inside):
        process.wait()
    path = max(place.here.glob("run/*/checkpoints/CKPT*/optimizer.ckpt"), key=lambda path: path.stat().st_mtime)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for rank, ended in enumerate([process.wait() for process in start(place)]):
        assert ended.code == 2 and len(ended.errors) == 1 and not ended.traceback, ended.err
        assert f"error: rank {rank}: " in ended.errors[0] and (path.parent.name in ended.errors[0] or LOST in ended.errors[0])
    path.write_bytes(content)
    goes_on(place, whole)


@pytest.mark.campaign
def test_data_may_take_longer_to_prepare_than_processes_wait_elsewhere(place, whole):
    slow = functools.partial(kills.be_slow, 15, 25), functools.partial(kills.be_slow, 15)
    assert [process.wait(120).code for process in start(place, inside=slow)] == [0, 0]
    assert kills.found(place.here / "run") == whole


WORKERS = {"num_workers": "2"}


@pytest.mark.parametrize(
    "action, words", [(kills.kill_worker, "a process that loads data was killed"), more(kills.spoil, "$here/tree/train-a/")]
)
def test_process_that_loads_data_fails(place, action, words):
    """It is killed, as by a kernel that lacks memory, or meets a damaged file: the training ends in a line, and goes on."""
    own = replace(place, tree=place.here / "tree")
    shutil.copytree(place.tree, own.tree)
    inside = functools.partial(kills.at_call, f"{BRAIN}.on_fit_batch_start", 2, action)
    ended = run("train", kills.training(own, **WORKERS), own.here, inside=inside)
    assert ended.code == 2 and not ended.traceback, ended.err
    assert [place.fill_in(words) in line for line in ended.errors] == [True], ended.err
    shutil.copytree(place.tree, own.tree, dirs_exist_ok=True)
    ended = run("train", kills.training(own), own.here)
    assert ended.code == 0 and kills.found(own.here / "run") == kills.found(place.run), ended.err


@pytest.mark.campaign
def test_killed_beside_its_processes_that_load_data(place):
    """These end by themselves, seconds later; until then they keep nobody from going on."""
    first = Started("train", kills.training(place, **WORKERS), place.here)
    wait_for(lambda: any(place.here.glob("run/pretrain/checkpoints/CKPT*")))
    first.process.kill()
    assert first.wait().code == -signal.SIGKILL
    ended = run("train", kills.training(place, **WORKERS), place.here)
    assert ended.code == 0 and kills.found(place.here / "run") == kills.found(place.run), ended.err


@pytest.mark.campaign
def test_more_processes_than_batches(place):
    """Both say so, before anything is trained."""
    for rank, ended in enumerate([process.wait() for process in start(place, pretrain="{epochs: 1, batch_seconds: 1000}")]):
        assert ended.code == 2 and not ended.traceback, ended.err
        assert f"error: rank {rank}: pretrain: fewer than 2 batches an epoch for each process" in ended.errors[0]
    assert not list(place.here.glob("run/pretrain/checkpoints/*"))


@pytest.mark.campaign
def test_a_warning_is_given_once(place):
    own = replace(place, tree=place.here / "tree")
    shutil.copytree(place.tree, own.tree)
    next(own.tree.glob("train-a/*/*/*.flac")).write_bytes(b"no sound")
    ended = [process.wait() for process in start(own, skip_bad="True", pretrain="{epochs: 1, batch_seconds: 1000}")]
    assert ["1 bad audio file" in each.err for each in ended] == [True, False]


def test_data_can_be_sent_to_a_process(place):
    """As it must be where processes are no forks: on a Mac, and from Python 3.14 on."""
    data = dataset([prepare(place.tree, place.here, ["dev-b"])["dev-b"]], place.tree)
    assert pickle.loads(pickle.dumps(data))[0]["words"] == data[0]["words"] == "UTTERANCE WORD"
