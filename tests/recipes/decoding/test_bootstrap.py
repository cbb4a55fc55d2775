"""The paired test and the intervals where the answer is known."""

import itertools

import numpy as np
import pytest

from recipes.LibriSpeech.decoding import bootstrap, wer

SPEAKERS, EACH = 40, 15  # utterances of each


def test_equal_systems_do_not_differ():
    errors, words = np.arange(40) % 4, np.full(40, 10)
    found = bootstrap.paired(errors, errors, words, np.arange(40) // 4)
    assert found == (0, 0, 0, 0.5) and not found.significant


def test_all_draws_of_few_speakers():
    """Against every possible sample of four speakers, one after the other."""
    generator = np.random.default_rng(0)
    speakers, words = np.repeat([19, 26, 84, 7], 5), generator.integers(3, 30, 20)
    errors, others = generator.integers(0, 4, 20), generator.integers(0, 4, 20)
    found = bootstrap.paired(errors, others, words, speakers, resamples=20000)
    draws, better = [], []
    for sample in itertools.product([19, 26, 84, 7], repeat=4):
        chosen = [i for speaker in sample for i in range(20) if speakers[i] == speaker]
        gained = sum(errors[i] - others[i] for i in chosen)
        draws.append(100 * gained / sum(words[i] for i in chosen))
        better.append(1.0 if gained < 0 else 0.5 if gained == 0 else 0.0)
    assert found.points == pytest.approx(100 * (errors.sum() - others.sum()) / words.sum())
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.3)
    assert found.improves == pytest.approx(np.mean(better), abs=0.02)


@pytest.mark.parametrize("utterances, shortest", [(30, 1), (6, 0)])
def test_the_interval_of_a_wer_equals_one_draw_after_the_other(utterances, shortest):
    """The same draws, summed in a plain loop; a draw of empty references only has no word error rate."""
    generator = np.random.default_rng(1)
    references = {f"{n:02d}": ["A"] * int(generator.integers(shortest, 9)) for n in range(utterances)}
    if not shortest:
        references |= {"00": [], "01": [], "02": []}
    hypotheses = {key: ["A"] * max(0, len(words) - int(generator.integers(0, 3))) for key, words in references.items()}
    total, found = wer.score(references, hypotheses)
    draws, rates = np.random.default_rng(0), []
    for _ in range(10000):
        drawn = [found[index] for index in draws.integers(utterances, size=utterances)]
        if words := sum(len(utterance.reference) for utterance in drawn):
            rates.append(100 * sum(utterance.errors for utterance in drawn) / words)
    assert (len(rates) == 10000) == bool(shortest)
    assert (total.low, total.high) == tuple(np.quantile(rates, [0.025, 0.975])) and total.low < total.high
    errors, words = [u.errors for u in found], [len(u.reference) for u in found]
    assert bootstrap.interval(errors, words, range(utterances)) == (total.low, total.high)


def simulated(generator, gain):
    """Word errors of two systems; the first makes `gain` fewer in a word, and does differently well on each voice."""
    words, speakers = generator.integers(5, 30, SPEAKERS * EACH), np.repeat(np.arange(SPEAKERS), EACH)
    hard, voice = generator.uniform(0.2, 0.5, len(words)), generator.normal(0, 0.06, SPEAKERS).clip(-0.15, 0.15)[speakers]
    return generator.binomial(words, hard + voice - gain), generator.binomial(words, hard), words, speakers


@pytest.mark.slow
def test_speakers_keep_the_level_that_utterances_do_not():
    generator, found = np.random.default_rng(2), {"speakers": [], "utterances": [], "better": []}
    for _ in range(200):
        errors, others, words, speakers = simulated(generator, gain=0.0)
        found["speakers"].append(bootstrap.paired(errors, others, words, speakers, resamples=500).significant)
        found["utterances"].append(bootstrap.paired(errors, others, words, range(len(words)), resamples=100).significant)
        better = bootstrap.paired(*simulated(generator, gain=0.05), resamples=200)
        found["better"].append(better.high < 0 and better.improves > 0.9)
    rates = {name: np.mean(values) for name, values in found.items()}
    assert 0.01 < rates["speakers"] < 0.15 and rates["utterances"] > 0.2 and rates["better"] > 0.95
