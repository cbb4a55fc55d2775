"""A word n-gram with interpolated modified Kneser-Ney smoothing, estimated from text and written as an ARPA file.

Of the n-gram h w, with h its history and h' that history without its first word,

    p(w | h) = (a(h w) - D(a(h w))) / sum_x a(h x) + g(h) p(w | h')        g(h) = sum_x D(a(h x)) / sum_x a(h x)

where a is how often the n-gram occurs if it is of the highest order or begins a sentence, otherwise how many different words
come before it; below the words lies a uniform distribution over them, `</s>` and `<unk>`. An n-gram that was not seen has
p(w | h) = g(h) p(w | h'), and g = 1 after a history that was not. The discounts D of 1, 2, and 3 or more come from how many
n-grams have a = 1, 2, 3, 4 (Chen and Goodman, An empirical study of smoothing techniques for language modeling, TR-10-98,
Harvard, 1998). The sentence marks are as in Heafield et al., Scalable modified Kneser-Ney language model estimation, ACL 2013.
"""

import contextlib
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from recipes.command_line import UserError
from recipes.LibriSpeech.sound.formats import PACKED
from recipes.LibriSpeech.tokens import LETTERS, Tokens

MARKS = ("<unk>", "<s>", "</s>")
UNK, BEGIN, END = range(3)
UTTERANCE_ID = re.compile(r"^\d+-\d+-\d+(?=\s)")
"""What stands before a transcript in LibriSpeech's own files."""
OF_NO_TEXT = re.compile(r"\\(data|end|\d+-grams:)\\?\s*$|[-+]?\d[\d.eE+-]*\t|.*\0")
"""A line of an ARPA file (of its frame, or a number and a tab), or of none."""
BOM = "\ufeff"
"""The byte order mark that some editors put at the beginning of a text."""
NOT_READ = (
    *PACKED,
    (0, b"mmap lm http://kheafield.com", "a binary of KenLM", "give the ARPA file that it was made from"),
    (0, b"%PDF", "a PDF", "save its text, one sentence a line"),
    (0, b"\xff\xfe", "in UTF-16", "save it in UTF-8"),
    (0, b"\xfe\xff", "in UTF-16", "save it in UTF-8"),
)
"""Signatures of what is no plain text, see `PACKED`."""
MOST_WORDS = 12_000_000
"""All of LibriSpeech's transcripts and their marks; estimating takes about 500 bytes of memory for each."""
MOST_ODD = 1 / 4
"""A text of which more words cannot be written in our letters is none: a dictionary, a table, a web page."""
FALLBACK = (0.0, 0.5, 1.0, 1.5)
"""Discounts where a text is too small to estimate them, those of Heafield's lmplz."""


@dataclass
class Order:
    """The different n-grams of one length, sorted. An n-gram is known by its number in its order.

    Arguments
    ---------
    prefix, suffix : numpy.ndarray
        The n-gram without its last word and without its first: numbers in the order below, (ngrams,).
    word : numpy.ndarray
        Its last word, (ngrams,).
    count : numpy.ndarray
        How often it occurs, (ngrams,).
    probability, backoff : numpy.ndarray
        p(word | prefix), and g of the n-gram as a history, (ngrams,); `estimate` makes them.
    """

    prefix: np.ndarray
    suffix: np.ndarray
    word: np.ndarray
    count: np.ndarray
    probability: np.ndarray = field(init=False)
    backoff: np.ndarray = field(init=False)


@contextlib.contextmanager
def open_text(path: str | Path) -> Iterator[TextIO]:
    """The lines of a text file in UTF-8, plain or gzipped; anything else, and damage, is a `UserError`."""
    try:
        with open(path, "rb") as file:
            opener: Callable = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with opener(path, "rb") as file:
            head = file.read(4096)
        for place, mark, kind, advice in NOT_READ:
            if head[place:].startswith(mark):
                raise UserError(f"{path} is {kind}: {advice}")
        if b"\0" in head:
            raise UserError(f"{path} is no text, but binary: give a text or an ARPA file, plain or gzipped")
        with opener(path, "rt", encoding="utf-8") as lines:
            yield lines
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is no text in UTF-8, or damaged: {error}") from error


def read_text(
    path: str | Path, leave_out: Collection[str] = frozenset(), tokens: Tokens = LETTERS
) -> tuple[list[str], np.ndarray, int]:
    """The words of a text, one sentence a line, in the case of the tokens; LibriSpeech's utterance ids are not words.

    Arguments
    ---------
    path : str or Path
        Plain or gzipped.
    leave_out : set of str
        Sentences that are not to be learned from.
    tokens : Tokens
        What is to write them.

    Returns
    -------
    words : list of str
        The three marks, then each different word.
    stream : numpy.ndarray
        The text as numbers of words: <s>, a sentence, </s>, <s>, ...
    left_out : int
        How many of its sentences were in `leave_out`.
    """
    numbers, stream, left_out = {mark: number for number, mark in enumerate(MARKS)}, [], 0
    with open_text(path) as lines:
        for line in tqdm(lines, desc="reading the text", unit=" lines", disable=None, leave=False):
            if OF_NO_TEXT.match(line):
                found = repr(line.strip()[:60])
                raise UserError(
                    f"{path} has the line {found}, and is neither a text nor an ARPA file from its beginning: give one"
                )
            sentence = tokens.written(UTTERANCE_ID.sub("", line.lstrip(BOM))).split()
            if " ".join(tokens.foreign.sub("", " ".join(sentence)).split()) in leave_out:  # whatever its punctuation
                left_out += 1
            elif sentence:
                stream += [BEGIN, *(numbers.setdefault(word, len(numbers)) for word in sentence), END]
            if len(stream) > MOST_WORDS:
                raise UserError(
                    f"{path} has more than {MOST_WORDS} words: estimate its n-gram with KenLM's lmplz and give the ARPA file"
                )
    if not stream:
        raise UserError(f"{path} has no words to estimate an n-gram from: one sentence a line")
    words, numbered = list(numbers), np.array(stream, dtype=np.int64)
    said = odd_words(words, numbered, tokens)
    if said and said[0] > MOST_ODD:
        raise UserError(f"{path}: {said[1]}: give a text with one sentence a line, numbers in words, without punctuation")
    return words, numbered, left_out


def odd_words(words: Sequence[str], stream: np.ndarray, tokens: Tokens) -> tuple[float, str] | None:
    """The part of a text, see `read_text`, that the tokens cannot write, and that in words; None if they can write all."""
    counts = np.bincount(stream) * [tokens.foreign.search(word) is not None for word in words]
    counts[: len(MARKS)] = 0
    if not counts.any():
        return None
    part, most = counts.sum() / (stream >= len(MARKS)).sum(), words[int(counts.argmax())]
    return part, f"{100 * part:.3g} % of its words, such as {most[:40]!r}, are not all in {tokens.named}"


def fingerprint(words: Sequence[str], stream: np.ndarray, order: int) -> str:
    """Hash of everything that an estimated n-gram depends on: 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{order} {' '.join(words)}".encode())
    digest.update(stream.tobytes())
    return digest.hexdigest()[:16]


def count(words: Sequence[str], stream: np.ndarray, order: int) -> list[Order]:
    """The n-grams of each order up to `order`, or to that of the longest sentence with its marks.

    Arguments
    ---------
    words : list of str
    stream : numpy.ndarray
        As `read_text` returns them.
    order : int

    Returns
    -------
    list of Order
    """
    every = np.arange(len(words))
    nothing = np.zeros_like(every)
    orders, here = [Order(nothing, nothing, every, np.bincount(stream, minlength=len(words)))], stream
    while len(orders) < order:  # here: the number of the n-gram that ends at each word, -1 where it would begin before <s>
        prefix = np.concatenate([[-1], here[:-1]])
        longer = np.flatnonzero((prefix >= 0) & (stream != BEGIN))
        if not len(longer):
            break
        code, first, number, counts = np.unique(
            prefix[longer] * len(words) + stream[longer], return_index=True, return_inverse=True, return_counts=True
        )
        orders.append(Order(code // len(words), here[longer[first]], code % len(words), counts))
        here = np.full(len(stream), -1)
        here[longer] = number
    return orders


def discounts(adjusted: np.ndarray) -> np.ndarray:
    """D of 0, 1, 2, and 3 or more, for the adjusted counts of one order."""
    ones, twos, threes, fours = (int((adjusted == n).sum()) for n in (1, 2, 3, 4))
    if not (ones and twos and threes and fours):
        return np.array(FALLBACK)
    y = ones / (ones + 2 * twos)
    found = np.array([0, 1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes])
    return found if all(0 <= d <= n for n, d in enumerate(found)) else np.array(FALLBACK)


def estimate(orders: Sequence[Order]) -> None:
    """Fill in the probabilities and back-off weights of counted n-grams, in place."""
    first = orders[0]
    begins = first.word == BEGIN
    below = np.full(len(first.word), 1 / (len(first.word) - 1))  # uniform, without <s>
    for n, this in enumerate(orders):
        adjusted = this.count
        if n:
            begins = begins[this.prefix]
        if n + 1 < len(orders):  # left continuations; what begins a sentence has none
            adjusted = np.where(begins, this.count, np.bincount(orders[n + 1].suffix, minlength=len(this.word)))
        if n == 0:
            adjusted = np.where(begins, 0, adjusted)  # <s> is never predicted
        discount = discounts(adjusted)[np.minimum(adjusted, 3)]
        histories = len(orders[n - 1].word) if n else 1
        total = np.bincount(this.prefix, adjusted, histories)
        backoff = np.divide(np.bincount(this.prefix, discount, histories), total, out=np.ones(histories), where=total > 0)
        this.probability = (adjusted - discount) / total[this.prefix] + backoff[this.prefix] * below[this.suffix]
        this.backoff, below = np.ones(len(this.word)), this.probability
        if n:
            orders[n - 1].backoff = backoff


def arpa(words: Sequence[str], orders: Sequence[Order]) -> str:
    """Estimated n-grams as an ARPA file.

    Arguments
    ---------
    words : list of str
        The marks and the words.
    orders : list of Order
        With their probabilities.

    Returns
    -------
    str

    Example
    -------
    >>> words, stream = ["<unk>", "<s>", "</s>", "A"], np.array([1, 3, 2])
    >>> orders = count(words, stream, order=2)
    >>> estimate(orders)
    >>> [line.split("\\t") for line in arpa(words, orders).splitlines()[5:7]]
    [['-0.7781513', '<unk>', '0'], ['-99', '<s>', '-0.30103']]
    """
    lines = ["\\data\\", *(f"ngram {n}={len(this.word)}" for n, this in enumerate(orders, 1))]
    before: list[str] = []
    for n, this in enumerate(tqdm(orders, desc="writing the n-gram", unit=" orders", disable=None, leave=False), 1):
        last = [words[number] for number in this.word.tolist()]
        text = [f"{before[prefix]} {word}" for prefix, word in zip(this.prefix.tolist(), last)] if n > 1 else last
        logs = np.log10(this.probability)
        if n == 1:
            logs[BEGIN] = -99  # by convention, for a probability of 0
        lines += ["", f"\\{n}-grams:"]
        lines += [f"{p:.7g}\t{t}\t{b:.7g}" for p, t, b in zip(logs.tolist(), text, np.log10(this.backoff).tolist())]
        before = text
    return "\n".join([*lines, "", "\\end\\", ""])
