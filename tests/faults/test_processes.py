"""Trainings of several processes: what the environment says of them, and one of them that fails or is killed."""

import socket

import pytest

from tests.faults.case import Case, check

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
