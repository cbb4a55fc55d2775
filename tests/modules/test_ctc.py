"""Greedy CTC as frames come is greedy CTC of the whole, and nothing is taken back."""

import random

import pytest
import torch
from cases import splits
from speech_attention.ctc import GreedyDecoder, Word
from speechbrain.decoders import ctc_greedy_decode

TOKENS = ("<blank>", " ", "A", "B")


def whole(best):
    """The words of a row of best tokens, by SpeechBrain's decoder."""
    log_probs = torch.nn.functional.one_hot(torch.tensor([best]), len(TOKENS)).log()
    (decoded,) = ctc_greedy_decode(log_probs, torch.ones(1), blank_id=0)
    return "".join(TOKENS[token] for token in decoded).split()


@pytest.mark.parametrize("seed", range(20))
def test_any_split_gives_the_words_of_the_whole(seed):
    generator = random.Random(seed)
    best = generator.choices(range(4), weights=(4, 2, 3, 3), k=generator.randint(1, 60))
    decoder, text, words, seen = GreedyDecoder(TOKENS), "", [], 0
    for size in splits(len(best), 7, generator):
        piece, closed = decoder.step(best[seen : seen + size], heard=10 * (seen + size))
        text, words, seen = text + piece, words + closed, seen + size
        assert text.split() == whole(best[:seen])  # at any time it is the text of what was heard, and so it only grows
        assert [word.text for word in words] == text.split()[: len(words)]
    words += decoder.flush(heard=10 * seen)
    assert text == " ".join(whole(best))
    assert [word.text for word in words] == whole(best)
    for word in words:
        assert word.first <= word.last < word.emitted // 10 <= word.closed // 10


def test_times_of_words():
    decoder = GreedyDecoder(TOKENS)
    assert decoder.step([1, 2, 2, 0], heard=4) == ("A", [])
    assert decoder.step([2, 3], heard=6) == ("AB", [])
    assert decoder.step([3, 0], heard=8) == ("", [])
    assert decoder.step([1], heard=9) == ("", [Word("AAB", first=1, last=5, emitted=6, closed=9)])
    assert decoder.step([0, 1, 1, 3], heard=13) == (" B", [])
    assert decoder.flush(heard=20) == [Word("B", first=12, last=12, emitted=13, closed=20)]
    assert decoder.flush(heard=20) == []
