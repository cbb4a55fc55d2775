"""The synthetic corpus: the same audio each time, in LibriSpeech's layout, with an unseen test set."""

import time
from collections import Counter
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest
import soundfile

from recipes.command_line import UserError
from recipes.LibriSpeech.data import synthetic
from recipes.LibriSpeech.data.prepare import prepare
from recipes.LibriSpeech.data.synthetic import TEXT, embedded_corpus, read_text, voices

SMALL = """## a comment
# train
THE CAT SAW A BIRD
A MAN WALKED HOME
WE HEARD THE OLD BELL
# dev
THE BIRD SAW A CAT
# test
A CAT WALKED HOME
THE MAN HEARD THE BIRD
"""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(SMALL)
    return path


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_two_builds_are_byte_identical(tmp_path, text, monkeypatch):
    monkeypatch.setitem(synthetic.VARIANTS, "train", ["m1", "f2", "victor"])  # the last two have random breath
    first = embedded_corpus(tmp_path / "a", text)
    time.sleep(1.1)  # by default espeak-ng takes its random seed from the clock, in seconds
    second = embedded_corpus(tmp_path / "b", text)
    assert first != second and first.name == second.name
    assert len(contents(first)) == 6 + 6  # a speaker for each sentence: its audio and its transcripts
    assert contents(first) == contents(second)


def test_corpus_is_a_librispeech_tree_of_speech(tmp_path, text):
    root = embedded_corpus(tmp_path / "corpus", text)
    manifests = prepare(root, tmp_path / "save", ["train-synth", "dev-synth", "test-synth"])
    assert [manifest.utterances for manifest in manifests.values()] == [3, 1, 2]
    for path in root.rglob("*.flac"):
        wave, rate = soundfile.read(path, dtype="int16")
        assert rate == 16000 and 0.8 < len(wave) / rate < 5
        assert 3000 < np.abs(wave.astype(int)).max() < 32767  # loud, and not clipped


def test_sentences_of_one_voice_keep_their_length(tmp_path):
    voice, sentences = voices("train")[1001], ["THE CAT SAW A BIRD", "A BIRD", "THE CAT SAW A BIRD"]
    assert synthetic._write_speaker(tmp_path, 1001, voice, sentences) == 3
    durations = [soundfile.info(path).duration for path in sorted(tmp_path.rglob("*.flac"))]
    assert durations[0] == pytest.approx(durations[2], rel=0.05) and durations[1] < 0.8 * durations[0]
    rate, spoken = synthetic._speak(voice, sentences)
    assert rate != 16000 and durations == pytest.approx([len(samples) / rate for samples in spoken], abs=0.001)


def test_corpus_is_kept_until_its_recipe_changes(tmp_path, text, monkeypatch):
    root = embedded_corpus(tmp_path / "corpus", text)
    with monkeypatch.context() as frozen:
        frozen.setattr(synthetic, "_build", None)  # a second build would fail
        assert embedded_corpus(tmp_path / "corpus", text) == root

    text.write_text(SMALL.replace("OLD BELL", "NEW BELL"))
    other = embedded_corpus(tmp_path / "corpus", text)
    assert other != root and "NEW BELL" in "".join(path.read_text() for path in other.rglob("*.txt"))
    monkeypatch.setattr(synthetic, "version", lambda package: "another version")
    assert embedded_corpus(tmp_path / "corpus", text) not in (root, other)


def test_interrupted_build_is_not_used(tmp_path, text, monkeypatch):
    real, calls = synthetic._speak, []

    def fails_late(*args):
        calls.append(args)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(synthetic, "_speak", fails_late)
    with pytest.raises(KeyboardInterrupt):
        embedded_corpus(tmp_path / "corpus", text)
    assert list((tmp_path / "corpus").iterdir()) == []
    monkeypatch.undo()
    assert len(list(embedded_corpus(tmp_path / "corpus", text).rglob("*.flac"))) == 6


def test_failure_of_the_synthesiser_is_one_line(tmp_path, text, monkeypatch):
    monkeypatch.setattr(synthetic, "ACCENTS", ["xx-nowhere"])
    with pytest.raises(UserError, match="xx-nowhere") as error:
        embedded_corpus(tmp_path / "corpus", text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong, named",
    [("# train\nA CAT\n# dev\nA DOG\n", "test"), ("A CAT\n# train\nA DOG\n", "A CAT")],
    ids=["no test", "no header"],
)
def test_bad_text(tmp_path, wrong, named):
    path = tmp_path / "wrong.txt"
    path.write_text(wrong)
    with pytest.raises(UserError, match=named):
        embedded_corpus(tmp_path / "corpus", path)


def test_voices_exist_and_those_of_a_split_are_in_no_other():
    cast = {split: voices(split) for split in ("train", "dev", "test")}
    names = [voice["voice"] for split in cast.values() for voice in split.values()]
    assert len(names) == len(set(names)) == sum(map(len, cast.values()))
    assert len(set().union(*cast.values())) == len(names)  # speaker ids
    timbres = [{name["voice"].split("+")[1] for name in split.values()} for split in cast.values()]
    assert not timbres[0] & timbres[1] and not (timbres[0] | timbres[1]) & timbres[2]
    # espeak-ng takes its default in silence for a timbre that it does not have
    shipped = {path.name for path in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir()}
    assert set().union(*timbres) <= shipped


def test_shipped_text():
    sentences = read_text(TEXT)
    every = [line for lines in sentences.values() for line in lines]
    assert len(every) == len(set(every))  # so no dev or test sentence is in train
    assert all(4 <= len(line.split()) <= 8 for line in every)
    seen = Counter(word for line in sentences["train"] for word in line.split())
    assert min(seen.values()) >= 20
    assert {word for line in every for word in line.split()} == set(seen)
    assert all(word.isascii() and word.isalpha() and word.isupper() for word in seen)
