"""Greedy CTC as frames come is greedy CTC of the whole, and nothing is taken back."""

import random

import pytest
import torch
from cases import splits
from speech_attention.ctc import GreedyDecoder, Word
from speechbrain.decoders import ctc_greedy_decode

TOKENS = ("<blank>", " ", "A", "B")
PIECES = ("<blank>", " A", "A", " BÉ", "ß", " ")


def whole(best, tokens):
    """The words of a row of best tokens, by SpeechBrain's decoder."""
    log_probs = torch.nn.functional.one_hot(torch.tensor([best]), len(tokens)).log()
    (decoded,) = ctc_greedy_decode(log_probs, torch.ones(1), blank_id=0)
    return "".join(tokens[token] for token in decoded).split()


@pytest.mark.parametrize("tokens", [TOKENS, PIECES], ids=["letters", "pieces"])
@pytest.mark.parametrize("seed", range(20))
def test_any_split_gives_the_words_of_the_whole(seed, tokens):
    generator = random.Random(seed)
    best = generator.choices(range(len(tokens)), weights=(4, 2, 3, 3, 2, 1)[: len(tokens)], k=generator.randint(1, 60))
    decoder, text, words, seen = GreedyDecoder(tokens), "", [], 0
    for size in splits(len(best), 7, generator):
        piece, closed = decoder.step(best[seen : seen + size], heard=10 * (seen + size))
        text, words, seen = text + piece, words + closed, seen + size
        assert text.split() == whole(best[:seen], tokens)  # at any time it is the text of what was heard, and so it only grows
        assert [word.text for word in words] == text.split()[: len(words)]
    words += decoder.flush(heard=10 * seen)
    assert text == " ".join(whole(best, tokens))
    assert [word.text for word in words] == whole(best, tokens)
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


def test_times_of_words_of_pieces():
    """A word is closed when the next one begins, or the stream ends."""
    decoder = GreedyDecoder(PIECES)
    assert decoder.step([0, 1, 1, 2], heard=4) == ("AA", [])
    assert decoder.step([0, 3], heard=6) == (" BÉ", [Word("AA", first=1, last=3, emitted=4, closed=6)])
    assert decoder.step([4, 0], heard=8) == ("ß", [])
    assert decoder.step([5], heard=9) == ("", [Word("BÉß", first=5, last=6, emitted=8, closed=9)])
    assert decoder.step([4], heard=10) == (" ß", [])
    assert decoder.flush(heard=20) == [Word("ß", first=9, last=9, emitted=10, closed=20)]
