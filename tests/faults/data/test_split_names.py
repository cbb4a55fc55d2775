"""Names of splits: plain names of folders, each given once."""

import pytest

from tests.faults.case import Case, check


def name(options, *words):
    return Case(f"TRAIN {options}", words)


NAMES = {
    "slash": name("--train_splits [train-a/]", "split 'train-a/' must be the plain name of a folder"),
    "absolute": name("--train_splits [$tree/train-a]", "must be the plain name"),
    "up": name("--train_splits '[\"..\"]'", "split '..' must be the plain name"),
    "here": name("--dev_splits '[\".\"]'", "split '.' must be the plain name"),
    "empty": name("--test_splits '[\"\"]'", "split '' must be the plain name"),
    "blank": name("--test_splits '[\" \"]'", "must be the plain name"),
    "path": name("--train_splits [./train-a]", "must be the plain name"),
    "round": name("--test_splits [test-c/../train-a]", "must be the plain name"),
    "backslash": name("--train_splits '[train-a\\\\]'", "must be the plain name"),
    "space": name("--train_splits '[\"train-a \"]'", "must be the plain name"),
    "variable": name("--train_splits '[$$data_root]'", "must be the plain name"),
    "line": name("--train_splits '[\"train-a\\ndev-b\"]'", "must be the plain name"),
    "number": name("--train_splits [100]", "must be a list of names"),
    "null": name("--train_splits [null]", "must be a list of names"),
    "nested": name("--train_splits [[train-a]]", "must be a list of names"),
    "block": name("--train_splits '{train-a: 1}'", "Split {train-a: 1} is not in $tree"),
    "twice": name("--train_splits [train-a,train-a]", "train_splits=['train-a', 'train-a'] names a split twice"),
    "dev twice": name("--dev_splits [dev-b,dev-b]", "names a split twice"),
    "other case": name("--train_splits [Train-A]", "Split Train-A is not in $tree: there are dev-b, test-c, train-a"),
    "in both": name("--dev_splits [train-a]", "train-a would be trained on and evaluated on"),
}


@pytest.mark.parametrize("case", NAMES.values(), ids=list(NAMES))
def test_a_name_that_is_none(case, place):
    check(case, place)
