"""Experiments that start from a public encoder: a tiny wav2vec 2.0 in HuggingFace's files."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from speech_attention.front_end import ConvolutionalFrontEnd
from tiny import ROOT, TINY, arguments, write_tree

import train
from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, run_folder, yaml_text
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.public import load, save
from recipes.LibriSpeech.public.shape import DECIDED
from recipes.LibriSpeech.training.finetune import FinetuneBrain
from tests.recipes.public.tiny_encoder import FOLDER

EPOCHS = {"scale": "cpu", "finetune": "{epochs: 1, batch_seconds: 6}"}


def command(tree, folder, yaml, **changes):
    """The command line of a short training whose shape is not typed."""
    typed = {key: value for key, value in TINY.items() if key not in (*DECIDED, "pretrain")}
    words = arguments(tree, folder, yaml=yaml, **{**EPOCHS, **changes})
    left_out = {f"--{key}" for key in TINY.keys() - typed.keys()}
    return [word for before, word in zip(["", *words], words) if not {before, word} & left_out]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("data") / "LibriSpeech", {"train-a": 6, "dev-b": 2, "test-c": 2}, seconds=1.0)


@pytest.fixture(scope="module")
def acausal(tree, tmp_path_factory):
    """A finished run of AA in the original form. Its front end was fitted with the weights that were loaded."""
    folder, fit, fitted = tmp_path_factory.mktemp("runs") / "aa", ConvolutionalFrontEnd.fit, []

    def watched(front_end, utterances):
        fitted.append(front_end.convolutions[0].weight.detach().clone())
        fit(front_end, utterances)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConvolutionalFrontEnd, "fit", watched)
        assert train.main(command(tree, folder, "aa", start=str(FOLDER))) == 0
    there = load_file(FOLDER / "model.safetensors")["wav2vec2.feature_extractor.conv_layers.0.conv.weight"]
    assert [weight.equal(there) for weight in fitted] == [True]
    return folder


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def weights(folder):
    return loading.load(folder).model.state_dict()


def test_the_tiny_encoder_computes_what_transformers_computed():
    expected = load_file(FOLDER / "expected.safetensors")
    hparams, _ = experiment.load(ROOT / "hparams" / "aa.yaml", {"start": str(FOLDER)})
    model = hparams["model"].eval()
    load.load(model, str(FOLDER))
    with torch.no_grad():
        features, lengths = model.front_end.features(expected["samples"], torch.tensor([8000]))
        y, _ = model.encoder(model.front_end.project(features), lengths)
    assert (y - expected["expected"]).abs().max() < 1e-5


def test_keys_follow_from_the_encoder_and_from_the_attention():
    def resolved(yaml, **changes):
        text = experiment.resolve(ROOT / "hparams" / f"{yaml}.yaml", {"start": str(FOLDER), **changes})
        return yaml_text.plain(yaml_text.parse(text))

    aa, llsa, conformer = resolved("aa"), resolved("llsa", position_lookahead=2, pool=2), resolved("summary_mixing")
    assert (aa["form"], llsa["form"]) == ("original", "streaming") == (aa["front_end"]["form"], llsa["front_end"]["form"])
    assert (aa["position"]["lookahead"], llsa["position"]["lookahead"], llsa["front_end"]["pool"]) == (None, 2, 2)
    assert resolved("aa", form="streaming")["position"]["lookahead"] == 0
    assert conformer["block"]["class"].endswith(".PostNormTransformerBlock")  # whatever the file of the attention says
    assert aa["attention"]["positions"] == resolved("shared_attention")["attention"]["positions"] == "none"
    assert resolved("aa", num_layers=1)["num_layers"] == 1 and resolved("shared_attention", num_layers=1)["owners"] == [0]
    assert [config["pretrain"]["epochs"] for config in (aa, resolved("aa", pretrain={"epochs": 3}))] == [0, 3]


def test_only_what_an_attention_brings_of_its_own_starts_anew(capsys):
    hparams, _ = experiment.load(ROOT / "hparams" / "summary_mixing.yaml", {"start": str(FOLDER)})
    load.load(hparams["model"], str(FOLDER))
    assert "11 tensors of each layer start anew: attention." in capsys.readouterr().out
    hparams, _ = experiment.load(ROOT / "hparams" / "shared_attention.yaml", {"start": str(FOLDER)})
    load.load(hparams["model"], str(FOLDER))
    follower, there = hparams["model"].encoder.blocks[1].attention, load_file(FOLDER / "model.safetensors")
    assert torch.equal(follower.value.weight, there["wav2vec2.encoder.layers.1.attention.v_proj.weight"])
    assert not capsys.readouterr().out


def test_the_run_says_what_it_began_with(acausal):
    found = summary(acausal)
    sha = run_folder.read_config(acausal)["start_sha256"]
    assert found["start"] == {"name": "tiny", "revision": None, "sha256": sha, "config_hash": None, "command": None}
    assert "--start tiny " in found["command"] and str(FOLDER.parent) not in json.dumps(found)
    assert found["config"]["start_sha256"] == sha and len(sha) == 64


@pytest.mark.slow
def test_weights_of_aa_run_as_llsa_and_are_trained_on(tree, acausal, tmp_path):
    """The shape is that of the weights' own experiment, also of one that took it over itself."""
    lent = {"any_attention": "True", "pool": "2", "position_lookahead": "2"}
    untouched = {"finetune": "{epochs: 0, batch_seconds: 6}"}
    assert train.main(command(tree, tmp_path / "as", "llsa", weights=str(acausal), **lent | untouched)) == 0
    mini = {"scale": "mini", "spec_augment": "[]"}
    assert train.main(command(tree, tmp_path / "on", "sa", weights=str(tmp_path / "as"), any_attention="True", **mini)) == 0
    before, same, on = weights(acausal), weights(tmp_path / "as"), weights(tmp_path / "on")
    assert all(torch.equal(before[key], same[key]) for key in before) and before.keys() == on.keys()
    assert not all(torch.equal(before[key], on[key]) for key in before)
    found = summary(tmp_path / "on")
    assert found["wer_streaming"]["test-c"]["different"] == [] and found["start"]["name"] == "as"
    assert found["latency"]["declared_frames"] == found["latency"]["measured_frames"] == 2 * 4
    with pytest.raises(UserError, match="computes something else than HuggingFace's classes"):
        save.save(tmp_path / "on", tmp_path / "out")
    assert found["config"]["pool"] == 2 and found["config"]["start_sha256"] == summary(acausal)["config"]["start_sha256"]
    assert summary(tmp_path / "as")["latency"]["measured_frames"] == 4 + 1  # of the position convolution: 2 frames of 20 ms


@pytest.mark.slow
def test_an_interrupted_run_goes_on_without_its_encoder(tree, tmp_path, monkeypatch, capsys):
    start = tmp_path / "encoder"
    shutil.copytree(FOLDER, start)
    two = {"start": str(start), "finetune": "{epochs: 2, batch_seconds: 6}"}
    assert train.main(command(tree, tmp_path / "whole", "llsa", **two)) == 0
    fit, calls = FinetuneBrain.fit_batch, []

    def stop(brain, batch):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(brain, batch)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneBrain, "fit_batch", stop)
        assert train.main(command(tree, tmp_path / "parts", "llsa", **two)) == 130
    other = load_file(start / "model.safetensors")
    save_file({key: 2 * tensor for key, tensor in other.items()}, start / "model.safetensors")
    assert train.main(command(tree, tmp_path / "parts", "llsa", **two)) == 2  # other weights are another experiment
    assert "another start_sha256" in capsys.readouterr().err
    shutil.rmtree(start)
    assert train.main(command(tree, tmp_path / "parts", "llsa", **two)) == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
def test_it_goes_out_in_the_files_that_it_came_in(acausal, tmp_path):
    from transformers import AutoModel

    save.save(acausal, tmp_path / "out")
    there, system = AutoModel.from_pretrained(tmp_path / "out").double().eval(), loading.load(acausal)
    model, samples = system.model.double(), 0.1 * torch.randn(1, 4000, dtype=torch.float64)
    with torch.no_grad():
        features, lengths = model.front_end.features(samples, torch.tensor([4000]))
        y, _ = model.encoder(model.front_end.project(features), lengths)
        expected = there(torch.nn.functional.pad(samples, (80, 160))).last_hidden_state
    assert (y - expected).abs().max() < 1e-5
    kept, before = load_file(tmp_path / "out" / "model.safetensors"), load_file(FOLDER / "model.safetensors")
    assert kept.keys() == before.keys() and torch.equal(kept["project_q.weight"], before["project_q.weight"])
    with pytest.raises(UserError, match="is not empty: give a new folder"):
        save.save(acausal, tmp_path / "out")
