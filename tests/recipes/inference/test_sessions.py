"""The streaming test says what the offline test says, for any hops, and would tell if it did not."""

import json

import pytest
import speech_attention.recognizer
import torch
from tiny import arguments

import train
from recipes.command_line import UserError
from recipes.LibriSpeech import saved
from recipes.LibriSpeech.decoding.wer import greedy_words
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.inference.sessions import random_hops, stream_words
from recipes.LibriSpeech.tokens import LETTERS


def enrich(folder):
    """Give a trained experiment a random head, centred on noise: its text is long and different for each utterance."""
    system = loading.load(folder)
    model, samples = system.model, 0.1 * torch.randn(1, 64000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
        model.head.weight[1] *= 2  # spaces
        y, _ = model.encoder(*model.front_end(samples, torch.tensor([64000])))
        model.head.bias.copy_(-model.head.weight @ y[0].mean(0))
    for path in (folder / "finetune" / "checkpoints").glob("CKPT*/model.ckpt"):
        torch.save(model.state_dict(), path)
        saved.write_sums(path.parent)


@pytest.fixture
def experiment(tree, tmp_path):
    """A tiny LLSA experiment with rich text: its folder, and the arguments that test it."""
    root, folder = tree(), tmp_path / "run"
    assert train.main(arguments(root, folder, stage="finetune", pretrain="{epochs: 0}")) == 0
    enrich(folder)
    return folder, arguments(root, folder, stage="test", pretrain="{epochs: 0}")


class Utterances(list):
    """Noise of several lengths, as a data set."""

    def __init__(self, *lengths):
        super().__init__({"id": str(n), "sig": 0.1 * torch.randn(n)} for n in lengths)


@pytest.mark.slow
@pytest.mark.parametrize("hops", [[592], [640], [1, 16000, 77], [16000]], ids=str)
def test_any_hops_and_any_number_of_streams(experiment, hops):
    texts, system, data = LETTERS.texts, loading.load(experiment[0]), Utterances(800, 40000, 16001, 1, 30000, 64000)
    with torch.no_grad():
        expected = {
            row["id"]: greedy_words(*system.model(row["sig"][None], torch.tensor([len(row["sig"])])), texts)[0] for row in data
        }
    assert sum(map(len, expected.values())) > 15  # words
    for streams in (1, 4, 100):
        assert stream_words(system.recognizer(), data, (hop for _ in iter(int, 1) for hop in hops), streams) == expected


def test_random_hops():
    first, second = ([next(hops) for _ in range(200)] for hops in (random_hops(1), random_hops(1)))
    assert first == second and min(first) >= 1 and max(first) <= 16000 and len(set(first)) > 150


def test_two_columns(experiment, capsys):
    folder, command = experiment
    assert train.main(command) == 0
    summary = json.loads((folder / "summary.json").read_text())
    streaming = summary["wer_streaming"]["test-c"]
    assert streaming.pop("different") == [] and streaming == summary["wer"]["test-c"]
    texts = [(folder / f"utterances-test-c{name}.tsv").read_text() for name in ("", "-streaming")]
    assert texts[0] == texts[1] and len(texts[0]) > 350
    assert "streaming %" in capsys.readouterr().out


@pytest.mark.slow
def test_a_difference_is_counted_and_named(experiment, monkeypatch):
    """A last word that is lost at the flush, as elsewhere."""
    folder, command = experiment
    monkeypatch.setattr(speech_attention.recognizer.GreedyDecoder, "flush", lambda self, heard: [])
    assert train.main(command) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["wer_streaming"]["test-c"]["different"]) == summary["wer"]["test-c"]["utterances"] == 4


@pytest.mark.slow
def test_what_is_not_a_trained_experiment(experiment, tmp_path):
    folder, _ = experiment
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere", folder / "hyperparams.yaml"):
        with pytest.raises(UserError, match="not the folder of an experiment"):
            loading.load(path)
    (weights,) = (folder / "finetune" / "checkpoints").glob("CKPT*/model.ckpt")
    data, note = weights.read_bytes(), weights.with_name("CKPT.yaml")
    spoiled = torch.load(weights)
    spoiled["head.bias"][3] = float("nan")
    torch.save(spoiled, weights)
    saved.write_sums(weights.parent)
    with pytest.raises(UserError, match="not finite"):
        loading.load(folder)
    before = note.read_text()
    for damage in ("{[", "WER: abc\nend-of-epoch: true\nunixtime: 1.0\n"):
        note.write_text(damage)
        with pytest.raises(UserError, match="CKPT.yaml"):
            loading.load(folder)
    note.write_text(before)
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="model.ckpt is damaged"):
        loading.load(folder)
    weights.unlink()
    with pytest.raises(UserError, match="model.ckpt is missing"):
        loading.load(folder)
    torch.save({"another": torch.zeros(1)}, weights)
    saved.write_sums(weights.parent)
    with pytest.raises(UserError, match="cannot load the model"):
        loading.load(folder)
    weights.parent.rename(weights.parent.with_name("partial-CKPT"))
    with pytest.raises(UserError, match="no fine-tuned model yet"):
        loading.load(folder)
    (folder / "hyperparams.yaml").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        loading.load(folder)
