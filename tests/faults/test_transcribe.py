"""The command line and the inputs of transcribe.py."""

import pytest

from tests.faults.case import Case, check


def empty_file(place):
    (place.here / "empty.flac").touch()


CASES = (
    Case("transcribe $run", ("give audio files, or --microphone",)),
    Case("transcribe $run nowhere.flac", ("nowhere.flac",)),
    Case("transcribe $run empty.flac", ("empty.flac",), before=empty_file),
    Case("transcribe $here a.flac", ("is not the folder of an experiment",)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_transcribe(case, place):
    check(case, place)
