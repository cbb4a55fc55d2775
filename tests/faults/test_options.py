"""The command line of train.py."""

import pytest

from tests.faults.case import Case, check

CASES = (
    Case("train", ("give the YAML of an attention first", "hparams/llsa.yaml")),
    Case("train nowhere.yaml", ("no file nowhere.yaml", "hparams/llsa.yaml")),
    Case("TRAIN --lookahed 3", ("unknown key lookahed", "lookahead")),
    Case("TRAIN --stage test", ("nothing to test in $here/run",)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_options(case, place):
    check(case, place)
