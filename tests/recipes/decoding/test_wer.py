"""Decoding and scoring against answers worked out by hand and against slow plain loops."""

import math
import random

import jiwer
import numpy as np
import pytest
import torch

from recipes.command_line import UserError
from recipes.LibriSpeech.decoding.wer import greedy_words, score, write_utterances

TOKENS = ["<blank>", " ", "A", "B", "C"]


def words(**texts):
    """From id to words, written as plain sentences."""
    return {key: text.split() for key, text in texts.items()}


@pytest.mark.parametrize(
    "reference, hypothesis, substitutions, insertions, deletions",
    [
        ("THE CAT SAT", "THE CAT SAT", 0, 0, 0),
        ("THE CAT SAT", "THE BAT SAT", 1, 0, 0),
        ("THE CAT SAT", "THE CAT SAT DOWN", 0, 1, 0),
        ("THE CAT SAT", "THE SAT", 0, 0, 1),
        ("THE CAT SAT", "", 0, 0, 3),
        ("THE CAT SAT", "A DOG RAN", 3, 0, 0),
        ("ONE TWO THREE FOUR", "ONE THREE FOUR FIVE", 0, 1, 1),
        ("ONE TWO THREE FOUR", "ZERO ONE TWO THIRD FOUR", 1, 1, 0),
    ],
)
def test_known_answers(reference, hypothesis, substitutions, insertions, deletions):
    total, [utterance] = score(words(u=reference), words(u=hypothesis), resamples=10)
    edits = (substitutions, insertions, deletions)
    assert (total.substitutions, total.insertions, total.deletions) == edits
    assert (utterance.substitutions, utterance.insertions, utterance.deletions) == edits
    assert utterance.errors == sum(edits)
    assert total.wer == 100 * sum(edits) / len(reference.split())
    assert total.sentence_error_rate == (100 if sum(edits) else 0)


def test_errors_are_pooled_over_utterances():
    """1 error in 4 words and 1 in 1 are 2 in 5 (40 %), not the mean of 25 % and 100 %."""
    total, utterances = score(words(b="A", a="A B C D"), words(a="A B C X", b="B"))
    assert total.wer == 40
    assert (total.words, total.utterances, total.sentence_error_rate) == (5, 2, 100)
    assert [utterance.id for utterance in utterances] == ["a", "b"]


def test_perfect_and_empty_hypotheses():
    references = words(a="A B", b="C", c="D E F")
    perfect, _ = score(references, dict(references))
    assert (perfect.wer, perfect.low, perfect.high) == (0, 0, 0)
    silent, _ = score(references, {key: [] for key in references})
    assert (silent.wer, silent.low, silent.high) == (100, 100, 100)
    assert silent.deletions == 6


def test_empty_reference_counts_its_hypothesis_as_insertions():
    total, utterances = score(words(a="", b="A B C D", c=""), words(a="X Y", b="A B C D", c=""))
    assert (total.wer, total.insertions, total.words) == (50, 2, 4)
    assert [utterance.errors for utterance in utterances] == [2, 0, 0]
    assert math.isfinite(total.low) and math.isfinite(total.high)


def test_totals_equal_a_plain_edit_distance():
    def distance(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    draw = random.Random(0)
    references = {f"u{i}": draw.choices("ABC", k=draw.randint(0, 5)) for i in range(100)}
    hypotheses = {f"u{i}": draw.choices("ABC", k=draw.randint(0, 5)) for i in range(100)}
    total, utterances = score(references, hypotheses, resamples=10)
    for utterance in utterances:
        assert utterance.errors == distance(references[utterance.id], hypotheses[utterance.id])
    assert total.wer == 100 * sum(u.errors for u in utterances) / sum(map(len, references.values()))


def test_disagreeing_counts_name_the_utterance(monkeypatch):
    """A jiwer that reads one hypothesis differently must not go unnoticed."""
    process_words = jiwer.process_words
    monkeypatch.setattr(
        jiwer, "process_words", lambda refs, hyps: process_words(refs, [hyp.replace("COLOR", "COLOUR") for hyp in hyps])
    )
    references = words(a="A B", b="A COLOUR", c="COLOUR")
    with pytest.raises(RuntimeError, match="utterance 'b'"):
        score(references, words(a="A B", b="A COLOR", c="COLOR"))


@pytest.mark.parametrize(
    "references, hypotheses, message",
    [
        (words(a="A", b="B"), words(a="A"), "'b'"),
        (words(a="A"), words(a="A", c="B"), "'c'"),
        (words(a="", b=""), words(a="A", b=""), "no words"),
        ({}, {}, "no words"),
        ({"a": ["A B"]}, {"a": ["A", "B"]}, "reference of 'a'"),
        ({"a": ["A", "B"]}, {"a": "A B"}, "hypothesis of 'a'"),
    ],
)
def test_bad_input_is_one_clear_line(references, hypotheses, message):
    with pytest.raises(UserError, match=message) as error:
        score(references, hypotheses)
    assert "\n" not in str(error.value)


def test_interval_equals_a_plain_bootstrap():
    """Utterances of very different lengths; two runs of 10,000 draws with unrelated generators.

    The quantile of n draws at probability p has a standard error of sqrt(p (1 - p) / n) / density. With p = 0.025 and
    the normal density 0.0584 / sd there, that is 0.027 sd; the difference of two runs has 0.038 sd. Five of
    those are 0.19 sd.
    """
    draw = random.Random(1)
    lengths = [draw.randint(1, 40) for _ in range(60)]
    errors = [sum(draw.random() < 0.2 for _ in range(n)) for n in lengths]
    references = {f"u{i}": ["A"] * n for i, n in enumerate(lengths)}
    hypotheses = {f"u{i}": ["B"] * e + ["A"] * (n - e) for i, (n, e) in enumerate(zip(lengths, errors))}
    total, _ = score(references, hypotheses)
    rates = []
    for _ in range(10000):
        sample = draw.choices(range(60), k=60)
        rates.append(100 * sum(errors[i] for i in sample) / sum(lengths[i] for i in sample))
    rates.sort()
    tolerance = 0.19 * np.std(rates)
    assert total.low == pytest.approx(rates[250], abs=tolerance)
    assert total.high == pytest.approx(rates[9750], abs=tolerance)


def test_interval_of_equal_utterances_is_the_binomial_one():
    """One word each, 400 utterances, 100 wrong: 25 % with a standard deviation of sqrt(0.25 * 0.75 / 400) = 2.165 %.

    The bounds lie 1.96 of those from 25 %, up to the grid of 1/400 = 0.25 % and the sampling error of the quantile
    (five times 0.027 standard deviations, 0.29 %).
    """
    references = {f"u{i}": ["A"] for i in range(400)}
    hypotheses = {f"u{i}": ["B" if i < 100 else "A"] for i in range(400)}
    total, _ = score(references, hypotheses)
    assert total.low == pytest.approx(25 - 1.96 * 2.165, abs=0.25 + 0.29)
    assert total.high == pytest.approx(25 + 1.96 * 2.165, abs=0.25 + 0.29)


def test_seed_decides_the_interval_whatever_the_order():
    draw = random.Random(2)
    references = {f"u{i}": ["A"] * draw.randint(1, 30) for i in range(30)}
    hypotheses = {key: said[: draw.randint(0, len(said))] for key, said in references.items()}
    backwards = dict(reversed(references.items()))
    total, _ = score(references, hypotheses, seed=3, resamples=200)
    assert score(backwards, hypotheses, seed=3, resamples=200)[0] == total
    assert score(references, hypotheses, seed=4, resamples=200)[0].low != total.low


def test_score_as_dict_holds_plain_rounded_numbers():
    total, _ = score(words(a="A B C"), words(a="A B X"))
    values = total.as_dict()
    assert values["wer"] == 33.333
    assert (values["substitutions"], values["words"], values["utterances"]) == (1, 3, 1)
    assert all(type(value) in (int, float) for value in values.values())


def test_utterance_file(tmp_path):
    _, utterances = score(words(b="A B", a="C", c="D"), words(a="C", b="A X Y", c=""))
    path = tmp_path / "test.tsv"
    write_utterances(path, reversed(utterances))
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert header == ["id", "words", "errors", "substitutions", "insertions", "deletions", "reference", "hypothesis"]
    assert lines == [
        ["a", "1", "0", "0", "0", "0", "C", "C"],
        ["b", "2", "2", "1", "1", "0", "A B", "A X Y"],
        ["c", "1", "1", "0", "0", "1", "D", ""],
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["test.tsv"]


def log_probs_of(frames):
    """Log-probabilities in which each frame's token clearly wins."""
    return torch.nn.functional.one_hot(torch.tensor(frames), len(TOKENS)).float().mul(5).log_softmax(dim=-1)


@pytest.mark.parametrize(
    "frames, expected",
    [
        ("AABB", ["AB"]),
        ("A-A", ["AA"]),
        ("A-B--", ["AB"]),
        ("A B", ["A", "B"]),
        ("A-- --B", ["A", "B"]),
        ("  A   -  B ", ["A", "B"]),
        ("AA-A BBB-CC", ["AA", "BC"]),
        ("-----", []),
        ("  - ", []),
    ],
)
def test_greedy_merges_repetitions_then_removes_blanks(frames, expected):
    indices = ["- ABC".index(character) for character in frames]
    assert greedy_words(log_probs_of([indices]), torch.tensor([len(indices)]), TOKENS) == [expected]


@pytest.mark.parametrize("time", [1, 2, 3, 7, 100, 333])
@pytest.mark.parametrize("garbage", [1e9, math.nan, math.inf])
def test_greedy_reads_exactly_the_valid_frames(time, garbage):
    """Every length from 0 to `time` in one batch; neighbours differ, so each frame is one letter."""
    frames = [2 + t % 3 for t in range(time)]
    log_probs = log_probs_of([frames] * (time + 1))
    lengths = torch.arange(time + 1)
    for row, length in zip(log_probs, lengths):
        row[length:] = 0
        row[length:, 2 + (length + 1) % 3] = garbage
    expected = [["".join(TOKENS[index] for index in frames[:length])] if length else [] for length in lengths]
    assert greedy_words(log_probs, lengths, TOKENS) == expected


def test_greedy_with_another_blank_and_no_frames():
    log_probs = log_probs_of([[2, 4, 2, 0]])
    assert greedy_words(log_probs, torch.tensor([4]), ["D", " ", "A", "B", "<blank>"], blank=4) == [["AAD"]]
    assert greedy_words(torch.empty(2, 0, len(TOKENS)), torch.tensor([0, 0]), TOKENS) == [[], []]
