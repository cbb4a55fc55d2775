"""The texts of the engines are compared with those of the model itself, and a difference in float32 fails."""

import json
from functools import partial

import pytest
import torch
from speech_attention.attention import LLSA
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd
from speech_attention.model import CTCModel
from speech_attention.recognizer import Recognizer

from recipes.LibriSpeech.inference import engines, loading
from recipes.LibriSpeech.tokens import LETTERS
from results.speed import engines as compared
from results.speed import page


class Data(list):
    """Utterances as a data set has them."""

    data = {name: {"wrd": "WHAT WAS SAID"} for name in "ab"}


class Deaf:
    """An engine of which the second utterance comes out as silence."""

    def __init__(self, model):
        self.model = model

    def advance(self, samples, valid, state):
        y, valid, state = self.model.advance(samples, valid, state)
        y[samples.abs().amax(dim=1) > 3] = torch.eye(len(LETTERS))[0]
        return y, valid, state


@pytest.mark.parametrize("small, code", [(True, 0), (False, 1)])
def test_texts_that_differ_are_listed(tmp_path, capsys, monkeypatch, small, code):
    torch.manual_seed(0)
    attention, made = partial(LLSA, num_heads=2, left_context=8, lookahead=4), []
    model = CTCModel(FbankFrontEnd(8), Encoder(8, 16, 1, TransformerBlock, attention), len(LETTERS)).eval()
    monkeypatch.setattr(loading, "load", lambda _: loading.Trained(model, {}))

    def recognizer(system, engine, small):
        made.append((engine, small))
        return Recognizer(system.model, LETTERS.texts, Deaf(system.model) if engine == "odd" else None)

    monkeypatch.setattr(engines, "recognizer", recognizer)
    monkeypatch.setattr(engines, "VARIANTS", [("torch", False), ("odd", small)])
    audio = Data({"id": name, "sig": scale * torch.rand(32000)} for name, scale in (("a", 1), ("b", 40)))
    monkeypatch.setattr(compared, "load_split", lambda *_, **__: (None, audio))
    monkeypatch.setattr(compared.origin, "described", lambda found, *_: {"experiment": "mine", **found})
    path = tmp_path / "found" / "mine.json"
    path.parent.mkdir()
    assert compared.main(["mine", "--output", str(path)]) == code
    exact, odd = json.loads(path.read_text())["engines"]
    assert made == [("torch", False), ("odd", small)] and exact["different"] == {} and list(odd["different"]) == ["b"]
    assert odd["different"]["b"][0] and odd["score"]["utterances"] == 2
    assert odd["different"]["b"][0] in capsys.readouterr().out
    *_, first, second, missing = (line.strip("| ").split(" | ") for line in page.engine_texts(path.parent).splitlines())
    assert first[-1] == "0 of 2" and second[1].startswith("`odd`") and second[-1] == "1 of 2"
    assert "missing" in missing and page.engine_texts(tmp_path / "none").startswith("Missing: ")
