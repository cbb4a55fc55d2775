"""The n-gram against the formula, and against KenLM; the beam search against all sentences; what a user can get wrong."""

import gzip
import itertools
import json
import math
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from tiny import arguments, fails

import train
from recipes.command_line import UserError
from recipes.LibriSpeech.decoding import arpa, beam_search, ngram
from recipes.LibriSpeech.tokens import LETTERS

CORPUS = "THE CAT SAT\nTHE CAT RAN\nA DOG SAT\nTHE DOG\nCAT AND DOG AND CAT\nA CAT RAN\n\nAND\nTHE CAT SAT\n"


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS)
    return path


def text_of(order, orders, words):
    """The n-grams of one order as tuples of words, in its own order."""
    last = [(words[number],) for number in orders[order].word]
    if order == 0:
        return last
    before = text_of(order - 1, orders, words)
    return [before[prefix] + word for prefix, word in zip(orders[order].prefix, last)]


def naive(sentences, order, discounts):
    """p(word | history) straight from the formula, with the given discounts of each order, on tuples and dictionaries."""
    sentences = [("<s>", *sentence.split(), "</s>") for sentence in sentences]
    raw = [Counter(s[i : i + n] for s in sentences for i in range(len(s) - n + 1)) for n in range(1, order + 1)]
    counts = []
    for n in range(1, order + 1):
        if n == order:
            counts.append(raw[-1])
        else:
            left = {gram: len({longer[0] for longer in raw[n] if longer[1:] == gram}) for gram in raw[n - 1]}
            counts.append({gram: raw[n - 1][gram] if gram[0] == "<s>" else left[gram] for gram in left})
    del counts[0][("<s>",)]
    vocabulary = {word for s in sentences for word in s} - {"<s>"} | {"<unk>"}

    def probability(history, word):
        seen = {gram[-1]: count for gram, count in counts[len(history)].items() if gram[:-1] == history}
        discount = discounts[len(history)]
        below = probability(history[1:], word) if history else 1 / len(vocabulary)
        if not seen:
            return below
        left = sum(discount[min(count, 3)] for count in seen.values())
        return (max(seen.get(word, 0) - discount[min(seen.get(word, 0), 3)], 0) + left * below) / sum(seen.values())

    return probability, sorted(vocabulary)


def estimated(path, order):
    words, stream, _ = ngram.read_text(path)
    orders = ngram.count(words, stream, order)
    ngram.estimate(orders)
    return words, orders


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_estimate_is_the_formula(corpus, order, monkeypatch):
    given = [np.array([0, 0.1 * n + 0.3, 0.2 * n + 0.7, 0.1 * n + 1.2]) for n in range(order)]  # of their own in each order
    waiting = iter(given)
    monkeypatch.setattr(ngram, "discounts", lambda adjusted: next(waiting))
    words, orders = estimated(corpus, order)
    probability, _ = naive(filter(None, CORPUS.split("\n")), order, given)
    for n, this in enumerate(orders):
        for gram, found in zip(text_of(n, orders, words), this.probability):
            if gram != ("<s>",):
                assert found == pytest.approx(probability(gram[:-1], gram[-1]), rel=1e-9), gram
    assert len(orders) == order


def test_discounts_are_those_of_the_paper():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 40, 16, 8, 5, 7])
    y = 40 / (40 + 2 * 16)
    expected = [0, 1 - 2 * y * 16 / 40, 2 - 3 * y * 8 / 16, 3 - 4 * y * 5 / 8]
    assert ngram.discounts(counts) == pytest.approx(expected)
    assert tuple(ngram.discounts(np.array([1, 1, 2]))) == ngram.FALLBACK  # nothing occurs 3 or 4 times
    assert tuple(ngram.discounts(np.repeat([1, 2, 3, 4], [1, 1, 90, 1]))) == ngram.FALLBACK  # they would be negative


def kenlm(file):
    """A function (history, word) -> p as KenLM reads it from the file, and the vocabulary with its marks."""
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    search = beam_search.BeamSearch(file)

    def probability(history, word):
        state = search.lm.start(False)
        for before in history:
            state, _ = search.lm.score(state, search.words.get_index(before))
        _, log = search.lm.finish(state) if word == "</s>" else search.lm.score(state, search.words.get_index(word))
        return 10**log

    return probability, search


def test_kenlm_reads_what_was_estimated(corpus, tmp_path):
    """Scores in context after <s>, for histories that were seen and that were not; each sums to one."""
    file, _ = arpa.find_arpa(corpus, tmp_path / "lm")
    read, _ = kenlm(file)
    words, orders = estimated(corpus, arpa.ORDER)
    probability, vocabulary = naive(filter(None, CORPUS.split("\n")), len(orders), [ngram.FALLBACK] * len(orders))
    histories = [(), ("THE",), ("THE", "CAT"), ("THE", "CAT", "SAT"), ("SAT", "SAT", "A"), ("<unk>",), ("DOG", "<unk>", "AND")]
    for history in histories:
        found = {word: read(history, word) for word in vocabulary}
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        context = ("<s>", *history)[1 - len(orders) :]
        assert found == pytest.approx({word: probability(context, word) for word in vocabulary}, rel=1e-4)


def test_sentences_that_are_tested_on_are_left_out(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"1-2-0000 ONE two\n1-2-0001 THREE\nThree.\n1-2-0002 FOUR\nTHREE\nTHREE FOUR\n"))
    words, stream, left_out = ngram.read_text(path, {"THREE"})
    assert words == ["<unk>", "<s>", "</s>", "ONE", "TWO", "FOUR", "THREE"] and left_out == 3
    assert [words[n] for n in stream] == "<s> ONE TWO </s> <s> FOUR </s> <s> THREE FOUR </s>".split()
    first, described = arpa.find_arpa(path, tmp_path / "lm", {"THREE"})
    assert described["words"] == 5 and described["sentences_left_out"] == 3 and described["ngrams"][0] == 7
    written = first.stat().st_mtime_ns
    assert arpa.find_arpa(path, tmp_path / "lm", {"THREE"})[0] == first and first.stat().st_mtime_ns == written
    assert arpa.find_arpa(path, tmp_path / "lm")[0] != first  # another text
    whole = gzip.decompress(first.read_bytes())
    for damaged in (b"", b"text", first.read_bytes()[:-20], gzip.compress(whole[:-6]), first.read_bytes()[:60] + bytes(9)):
        first.write_bytes(damaged)  # an n-gram that was kept is made again
        assert arpa.find_arpa(path, tmp_path / "lm", {"THREE"})[0] == first
        assert gzip.decompress(first.read_bytes()) == whole


def test_an_arpa_is_taken_as_it_is(corpus, tmp_path):
    first, described = arpa.find_arpa(corpus, tmp_path / "lm", order=3)
    plain = tmp_path / "some.arpa"
    plain.write_bytes(gzip.decompress(first.read_bytes()))
    for path in (first, plain):
        found, again = arpa.find_arpa(path, tmp_path / "none", {"THE DOG"})
        assert found == path and again["order"] == 3 and again["ngrams"] == described["ngrams"] and "words" not in again
    assert not (tmp_path / "none").exists()


def frames_of(text, generator):
    """Log-probabilities in which the letters of a text are likely, none is sure; spaces are only where it has one."""
    numbers = [number for letter in LETTERS.encode(text).tolist() for number in (letter, 0)]
    logits = torch.randn(len(numbers), len(LETTERS), generator=generator)
    logits[:, 1] = -20.0
    logits[range(len(numbers)), numbers] = 4.0
    return logits.log_softmax(dim=-1)


def ctc(frames, target):
    """ln p(target | frames)."""
    sizes = torch.tensor([len(frames)]), torch.tensor([len(target)])
    return -torch.nn.functional.ctc_loss(frames[:, None], target[None], *sizes, reduction="none")[0]


def test_the_best_sentence_is_found(tmp_path, monkeypatch):
    """Against all sentences of up to three words, each scored with torch's CTC (spaces around it are free) and with KenLM."""
    monkeypatch.setattr(beam_search, "BEAM_TOKENS", len(LETTERS))
    (tmp_path / "text").write_text("A BE\nA BEE SEE\nSEE A BE\nBE\nBEE\n")
    file, _ = arpa.find_arpa(tmp_path / "text", tmp_path / "lm")
    read, search = kenlm(file)
    sentences = [words for n in range(4) for words in itertools.product(("A", "BE", "BEE", "SEE"), repeat=n)]
    languages = {}
    for words in sentences:
        steps = [read(words[:n], word) for n, word in enumerate((*words, "</s>"))]
        languages[words] = sum(map(math.log10, steps))
    generator, found = torch.Generator().manual_seed(0), Counter()
    for text, weight, word_score in itertools.product(("A BE", "BEE SEE", "SEE BE A"), (0.5, 3.0), (-3.0, 0.0, 4.0)):
        frames = frames_of(text, generator)
        best, top = None, -math.inf
        for words in sentences:
            spaced = {before + " ".join(words) + after for before in ("", " ") for after in ("", " ")}
            heard = torch.stack([ctc(frames, LETTERS.encode(target)) for target in spaced]).logsumexp(0).item()
            if (total := heard + weight * languages[words] + word_score * len(words)) > top:
                best, top = words, total
        assert search.decode({"u": frames}, weight, word_score)["u"] == list(best), (text, weight, word_score)
        found[" ".join(best) == text] += 1
    assert min(found[True], found[False]) > 0  # the weights do change what is best


def test_weights_with_the_fewest_errors_are_chosen():
    """A search whose errors grow with the distance from (3.5, -2): the walk ends there, and at once where all are equal."""

    class Fake:
        def decode(self, log_probs, weight, word_score):
            errors = int(2 * abs(weight - 3.5) + abs(word_score + 2))
            return {"u": ["A"] * (20 - errors)}

    assert beam_search.choose_weights(Fake(), {}, {"u": ["A"] * 20}) == (3.5, -2.0, 0.0)
    Fake.decode = lambda *_: {"u": ["A"] * 20}
    assert beam_search.choose_weights(Fake(), {}, {"u": ["A"] * 20}) == (*beam_search.START, 0.0)


@pytest.mark.slow
def test_a_run_with_a_language_model(tree, tmp_path, capsys):
    """Both columns from one trained system; the same n-gram from its text and from its ARPA file."""
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    root, run = tree(), tmp_path / "run"
    (tmp_path / "text").write_text("UTTERANCE WORD\nUTTERANCE WORD WORD\nUTTERANCE\nWORD\n" + "WORD UTTERANCE\n" * 3)
    short = {"pretrain": "{epochs: 0}", "finetune": "{epochs: 1, batch_seconds: 12}"}
    options = {"lm": str(tmp_path / "text"), "lm_folder": str(tmp_path / "lm"), **short}
    assert train.main(arguments(root, run, **options)) == 0
    assert "with LM %" in capsys.readouterr().out
    assert "nowhere is not a file" in fails(capsys, root, run, stage="test", **short, lm="nowhere")
    summary = json.loads((run / "summary.json").read_text())
    lm, wer = summary["lm"], summary["wer_lm"]["test-c"]
    assert lm["words"] == 8 and lm["sentences_left_out"] == 2 and lm["ngrams"][0] == 5  # those of dev-b and test-c
    assert wer["words"] == summary["wer"]["test-c"]["words"] and lm["weight"] >= 0
    errors = map(int, summary["utterances"]["test-c"]["errors_lm"].split())
    assert sum(errors) == wer["substitutions"] + wer["insertions"] + wer["deletions"]
    lines = (run / "utterances-test-c-lm.tsv").read_text().splitlines()[1:]
    assert {word for line in lines for word in line.split("\t")[-1].split()} <= {"UTTERANCE", "WORD"}
    options["lm"] = str(next((tmp_path / "lm").iterdir()))
    assert train.main(arguments(root, run, stage="test", **options)) == 0
    again = json.loads((run / "summary.json").read_text())
    assert again["wer_lm"] == summary["wer_lm"] and "words" not in again["lm"]
    assert again["config_hash"] == summary["config_hash"]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "no words"),
        (b"\n \n", "no words"),
        ("ÄÖ 12\n3 É\n".encode(), "A-Z and the apostrophe"),
        (b"\xff\xfe\x00\x01", "is in UTF-16: save it in UTF-8"),
        (gzip.compress(CORPUS.encode() * 100)[:-40], "is no text in UTF-8, or damaged"),
        (b"\\data\\\nngram 1=x\n", "damaged ARPA file, in the line 'ngram 1=x'"),
        (b"\\data\\\nngram 1=2\n\n\\1-grams:\n-1\n", "damaged ARPA file, in the line '-1'"),
        (b"\\data\\\nngram 1=9\nngram 2=1\n\n\\1-grams:\n-1\tA\t0\n\n", "announces 9 words and has 1"),
        (b"\\data\\\nngram 1=1\nngram 2=1\n\n\\1-grams:\n-1\tA\t0\n\n", "not an ARPA file that KenLM reads"),
        (b"\\data\\\nngram 1=1\n\n\\1-grams:\n-1\t7\t0\n\n\\end\\\n", "A-Z and the apostrophe"),
    ],
)
def test_a_file_that_is_no_language_model(tmp_path, content, words):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    (tmp_path / "lm").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        beam_search.BeamSearch(arpa.find_arpa(tmp_path / "lm", tmp_path / "cache")[0])
    assert "\n" not in str(caught.value)


def test_a_text_of_more_words_than_memory(corpus, monkeypatch):
    monkeypatch.setattr(ngram, "MOST_WORDS", 10)
    with pytest.raises(UserError, match="more than 10 words.*lmplz"):
        ngram.read_text(corpus)


def test_without_the_package_it_says_what_to_install(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[lm\]'"):
        beam_search.check(corpus, tmp_path)
