"""Letters of any language, and pieces of words: from transcripts in other letters to texts, and what a user can get wrong."""

import itertools
import json
import math
import unicodedata

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from tiny import GERMAN, PIECES, arguments, fails, write_tree

import train
from recipes.command_line import UserError
from recipes.LibriSpeech import tokens
from recipes.LibriSpeech.data.alignments import ctc_ends
from recipes.LibriSpeech.decoding import arpa, beam_search
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.tokens import Letters, SentencePiece
from recipes.LibriSpeech.training.optimization import completed

UMLAUTS = "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜß"
SHORT = {"pretrain": "{epochs: 0}", "finetune": "{epochs: 1, batch_seconds: 12}"}


def pieces(size=30, kind="bpe", sentences=GERMAN):
    made = SentencePiece(size, kind)
    made.load(made.learn(sentences))
    return made


@pytest.mark.parametrize("kind, size", [("bpe", 30), ("unigram", 18)])
def test_pieces_write_what_they_were_learned_from(kind, size):
    made, again = pieces(size, kind), SentencePiece(size, kind)
    assert again.learn(GERMAN) == again.learn(iter(GERMAN))  # to the last byte
    assert len(made) == len(made.texts) == size and made.separator is None
    for words in GERMAN:
        numbers = made.encode(words).tolist()
        assert 0 not in numbers and "".join(made.texts[number] for number in numbers) == f" {words}"
        assert len(numbers) < len(words)
    assert made.encode("DIEX").tolist() == made.encode("DIE").tolist()  # no piece has an X
    assert made.foreign.findall("DIE ÑÚA") == ["Ñ", "Ú"]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_size_that_does_not_fit_says_which_does(kind):
    for size, words in ((3, "at least "), (1000, "at most ")):
        with pytest.raises(UserError, match=words) as caught:
            SentencePiece(size, kind).learn(GERMAN)
        fitting = int(str(caught.value).rpartition(words)[2])
        assert len(pieces(fitting, kind).texts) == fitting
        with pytest.raises(UserError, match=words):
            SentencePiece(fitting + (1 if size > fitting else -1), kind).learn(GERMAN)


def test_a_text_is_written_in_the_letters_that_there_are():
    assert tokens.LETTERS.written("don't élan") == "DON'T éLAN"
    assert Letters(UMLAUTS).written("große Übel") == "GROßE ÜBEL"  # a letter of the alphabet stays
    assert Letters(UMLAUTS[:-1]).written("große") == "GROSSE"
    assert Letters("abcdeé").written("DE\u0301CE\u0301DE\u0301") == "décédé"  # composed
    assert Letters("aA").written("aAbB") == "aAbB"
    for odd in ("", "AA", "A B", "A\t", "$A", "É\u0301E\u0301É", 7):
        with pytest.raises(ValueError, match="each letter of the transcripts once"):
            Letters(odd)


@pytest.mark.parametrize("made", [Letters(UMLAUTS), pieces()], ids=["letters", "pieces"])
def test_words_end_where_ctc_has_their_last_token(made):
    words, path, ends = "ÜBER DIE GRÖSSE".split(), [0, 0], []
    for word in words:
        for number in made.encode(word).tolist():
            path += [number, number, 0]
        ends.append(640 * (len(path) - 1))
        path += [1, 0] * (made.separator == 1)
    log_probs = torch.nn.functional.one_hot(torch.tensor(path), len(made)).mul(9.0).log_softmax(dim=-1)
    assert ctc_ends(log_probs, words, 640, made) == ends


def test_the_best_sentence_is_found_with_pieces(tmp_path, monkeypatch):
    """Against all sentences of up to three words, each scored with torch's CTC and with KenLM."""
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    made, words = pieces(), ("DIE", "DER", "STRASSE", "GRÖSSE")
    monkeypatch.setattr(beam_search, "BEAM_TOKENS", len(made) + 1)
    (tmp_path / "text").write_text("Die Strasse\nDIE STRASSE DER GRÖSSE\nder DIE\nGRO\u0308SSE\n")
    search = beam_search.BeamSearch(arpa.find_arpa(tmp_path / "text", tmp_path / "lm", tokens=made)[0], made)
    generator, changed = torch.Generator().manual_seed(0), set()
    for text, weight, word_score in itertools.product(("DIE STRASSE", "DER GRÖSSE DIE"), (0.5, 3.0), (-3.0, 0.0)):
        path = [number for piece in made.encode(text).tolist() for number in (piece, 0)]
        frames = torch.randn(len(path), len(made), generator=generator)
        frames[range(len(path)), path] += 4.0
        frames = frames.log_softmax(dim=-1)
        totals = {}
        for sentence in (row for n in range(4) for row in itertools.product(words, repeat=n)):
            state, language = search.lm.start(False), 0.0
            for word in sentence:
                state, log = search.lm.score(state, search.words.get_index(word))
                language += log
            language += search.lm.finish(state)[1]
            target = made.encode(" ".join(sentence))
            sizes = torch.tensor([len(frames)]), torch.tensor([len(target)])
            heard = torch.nn.functional.ctc_loss(frames[:, None], target[None], *sizes, reduction="none")[0].item()
            totals[sentence] = -heard + weight * language + word_score * len(sentence)
        best = max(totals, key=totals.get)
        assert search.decode({"u": frames}, weight, word_score)["u"] == list(best), (text, weight, word_score)
        changed.add(" ".join(best) == text)
    assert changed == {True, False}  # the weights do change what is best
    assert search.decode({"u": torch.zeros(0, len(made))}, 0.5, 0.0) == {"u": []}


def test_the_last_piece_of_a_word_may_last(tmp_path):
    """Frames in which it lasts are not held against the word."""
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    made, log_probs = pieces(), torch.full((7, 30), -40.0)
    (tmp_path / "text").write_text("DIE DIES\n")
    search = beam_search.BeamSearch(arpa.find_arpa(tmp_path / "text", tmp_path / "lm", tokens=made)[0], made)
    (first,), (same, _) = made.encode("DIE").tolist(), made.encode("DIES").tolist()
    assert first == same
    log_probs[range(7), [0, *[first] * 5, 0]] = 0.0
    assert search.decode({"u": log_probs}, 0.5, 0.0)["u"] == ["DIE"]


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """A tree with German transcripts, some of them decomposed; `Größe` has an ß, and nothing has an X."""
    root = write_tree(tmp_path_factory.mktemp("german") / "tree", {"train-a": 12, "dev-b": 4, "test-c": 4}, 2.0)
    for path in root.rglob("*.trans.txt"):
        lines = [f"{line.split()[0]} {words}\n" for line, words in zip(path.read_text().splitlines(), ["DIE GRÖßE", *GERMAN])]
        path.write_text(unicodedata.normalize("NFD" if path.parents[1].name == "100" else "NFC", "".join(lines)))
    return root


def check_run(run):
    """A run is in its own letters from its manifests to its texts, in streams too, and plain HyperPyYAML reads it."""
    assert unicodedata.is_normalized("NFC", (run / "manifests" / "train-a.csv").read_text())
    summary, system = json.loads((run / "summary.json").read_text()), loading.load(run)
    assert summary["config"]["tokens"] == system.config["tokens"] and summary["wer_streaming"]["test-c"]["different"] == []
    assert "GRÖßE" in (run / "utterances-test-c.tsv").read_text()
    with open(run / "hyperparams.yaml") as file:
        plain = load_hyperpyyaml(file)
    assert len(plain["tokens"]) == plain["model"].head.out_features == len(system.tokens.texts)
    model, samples = system.model, 0.1 * torch.randn(48000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=torch.Generator().manual_seed(1)))
        y, _ = model.encoder(*model.front_end(samples[None], torch.tensor([48000])))
        model.head.bias.copy_(-model.head.weight @ y[0].mean(dim=0))  # every token is the best one somewhere
        if system.tokens.separator:
            scores = model.head(y[0])  # the best one in a quarter of the frames
            model.head.bias[1] += (scores.amax(dim=1) - scores[:, 1]).quantile(0.25)
    whole, recognizer = system.offline(samples), system.recognizer()
    stream, text, words = recognizer.open(), "", []
    for piece in samples.split(7000):
        stream.feed(piece)
        (out,) = recognizer.run([stream])
        text, words = text + out.text, words + out.words
    stream.close()
    (out,) = recognizer.run([stream])
    assert text + out.text == whole.text == " ".join(word.text for word in words + out.words)
    assert len(whole.words) > 3 and set("ÄÖÜ") & set(whole.text) and not system.tokens.foreign.search(whole.text)
    assert [(w.text, w.first, w.last) for w in words + out.words] == [(w.text, w.first, w.last) for w in whole.words]


def test_a_run_in_letters_of_another_language(german, tmp_path, capsys):
    run, alphabet = tmp_path / "run", "{alphabet: %s}" % UMLAUTS
    assert train.main(arguments(german, run, tokens=f"!new:recipes.LibriSpeech.tokens.Letters {alphabet}", **SHORT)) == 0
    check_run(run)
    assert not (run / tokens.MODEL).exists()
    said = fails(capsys, german, tmp_path / "other", **SHORT)
    assert "outside A-Z and the apostrophe: 'ÄÖÜß'" in said and "--tokens '!new:recipes.LibriSpeech.tokens.Letters" in said
    assert "another model, tokens" in fails(
        capsys, german, run, tokens="!new:recipes.LibriSpeech.tokens.Letters {alphabet: 'AÄ'}", **SHORT
    )
    assert "has other tokens, {'class'" in fails(capsys, german, tmp_path / "other", tokens=PIECES, weights=str(run), **SHORT)


def test_a_run_in_pieces_of_another_language(german, tmp_path, capsys):
    run, start = tmp_path / "run", tmp_path / "start"
    assert train.main(arguments(german, run, tokens=PIECES, **SHORT)) == 0
    check_run(run)
    model = run / tokens.MODEL
    content = model.read_bytes()
    model.write_bytes(content + b"\n")
    assert "tokens.model is not the one that the run began with" in fails(
        capsys, german, run, tokens=PIECES, stage="test", **SHORT
    )
    with pytest.raises(UserError, match="not the one that the run began with"):
        loading.load(run)
    model.unlink()
    with pytest.raises(UserError, match="tokens.model is missing"):
        loading.load(run)
    assert train.main(arguments(german, run, tokens=PIECES, stage="test", **SHORT)) == 0
    assert model.read_bytes() == content
    # Started from its weights, other data keep its tokens.
    other = write_tree(tmp_path / "other", {"train-d": 6, "dev-e": 2, "test-f": 2}, 2.0)
    for path in other.rglob("*.trans.txt"):
        spanish = "ÑÚA" if "test-f" in str(path) else "DIE ÄRGER"
        path.write_text("".join(f"{line.split()[0]} DIE STRASSE {spanish}\n" for line in path.read_text().splitlines()))
    splits = {"train_splits": "[train-d]", "dev_splits": "[dev-e]", "test_splits": "[test-f]"}
    capsys.readouterr()
    assert train.main(arguments(other, start, tokens=PIECES, weights=str(run), **splits, **SHORT)) == 0
    assert (start / tokens.MODEL).read_bytes() == content
    assert "test-f has letters that are not among the letters of the training transcripts: 'ÑÚ'" in capsys.readouterr().err
    splits["train_splits"], splits["test_splits"] = "[test-f]", "[train-d]"
    said = fails(capsys, other, tmp_path / "last", tokens=PIECES, weights=str(run), **splits, **SHORT)
    assert "'ÑÚ'; give --pretrained in place of --weights" in said


def test_older_configurations_have_letters():
    assert completed({"finetune": {}})["tokens"] == "letters" == tokens.make("letters").__class__.__name__.lower()
    assert tokens.LETTERS.texts == ("<blank>", " ", "'", *map(chr, range(65, 91))) and math.isclose(len(tokens.LETTERS), 29)


@pytest.mark.parametrize(
    "given",
    [
        "words",
        3,
        {"size": 5},
        {"class": "!new:collections.Counter"},
        {"class": "!name:recipes.LibriSpeech.tokens.Letters"},
        {"class": "!new:recipes.LibriSpeech.tokens.Tokens"},
    ],
)
def test_what_are_no_tokens(given):
    with pytest.raises(UserError, match="must be letters, or !new:CLASS of a class of tokens"):
        tokens.make(given)
