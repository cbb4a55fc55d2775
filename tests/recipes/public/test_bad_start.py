"""What a public encoder, or the command beside it, can have wrong: one line and exit code 2, before the data is looked for."""

import json
import shutil
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ROOT

import train
from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.public import folder, load
from tests.recipes.public.tiny_encoder import FOLDER

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LAYER = "encoder.layers.1."


def config(**changes):
    """Changes entries of config.json."""

    def change(start):
        found = json.loads((start / CONFIG).read_text())
        (start / CONFIG).write_text(json.dumps({**found, **changes}))

    return change


def tensors(change):
    """Changes the tensors, a dict by their names."""

    def changed(start):
        found = load_file(start / WEIGHTS)
        change(found)
        save_file(found, start / WEIGHTS)

    return changed


def without_layer(found):
    for name in [name for name in found if LAYER in name]:
        del found[name]


def reshaped(found):
    found[f"wav2vec2.{LAYER}final_layer_norm.weight"] = torch.ones(8)


def infinite(found):
    found[f"wav2vec2.{LAYER}final_layer_norm.bias"][3] = torch.inf


def text(name, content):
    """Writes a file, or takes it away."""
    return lambda start: (start / name).write_text(content) if content else (start / name).unlink()


def shards(start):
    (start / WEIGHTS).unlink()
    (start / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))


CASES = {
    "kind": (config(model_type="bert"), {}, "has model_type='bert' in its config.json: only wav2vec2, hubert, wavlm, data2vec"),
    "no config": (text(CONFIG, ""), {}, "has no config.json: give a folder as HuggingFace's save_pretrained writes it"),
    "no weights": (text(WEIGHTS, ""), {}, "has no weights: no model.safetensors"),
    "no shard": (shards, {}, "model-00001-of-00001.safetensors is missing, which model.safetensors.index.json names"),
    "damaged config": (text(CONFIG, "{"), {}, f"{CONFIG} is damaged: put a sound copy there"),
    "damaged weights": (text(WEIGHTS, "no tensors"), {}, f"{WEIGHTS} is damaged: put a sound copy there"),
    "missing": (tensors(without_layer), {}, f"lacks {LAYER}layer_norm.weight and 15 more tensors"),
    "shape": (tensors(reshaped), {}, f"{LAYER}final_layer_norm.weight is (8,), and (16,) by its config.json"),
    "infinite": (tensors(infinite), {}, f"has weights that are not finite, the first in {LAYER}final_layer_norm.bias"),
    "adapter": (config(add_adapter=True), {}, "has add_adapter=True in its config.json: only False is supported"),
    "kernels": (config(conv_kernel=[10] * 7), {}, "has conv_kernel=[10, 10, 10, 10, 10, 10, 10] in its config.json: only [10, 3"),
    "activation": (config(hidden_act="relu"), {}, "has hidden_act=relu in its config.json: only gelu is supported"),
    "widths": (config(conv_dim=[8, 8, 8, 8, 8, 8, 4]), {}, "has channels=[8, 8, 8, 8, 8, 8, 4], where one number belongs"),
    "text": (
        config(hidden_size="16\nname: !new:os.abort"),
        {},
        "has hidden_size=16 name: !new:os.abort, where one number belongs",
    ),
    "no folder": (shutil.rmtree, {}, "is no folder, and no name of the Hub, such as openai/whisper-base"),
    "dim": (None, {"dim": "16"}, "--dim is what start="),
    "block": (None, {"block": "!name:speech_attention.blocks.TransformerBlock {}"}, "--block is what start="),
    "heads": (None, {"attention": "{num_heads: 1}"}, "attention.num_heads is 2 in the public encoder"),
    "positions": (None, {"attention": "{positions: rotary}"}, "attention.positions is none in start="),
    "layers": (None, {"num_layers": "3"}, "--num_layers 3 is more than start="),
    "sum": (None, {"start_sha256": "12ab"}, "not 12ab as start_sha256 says"),
    "weights, too": (None, {"weights": "results"}, "both start and weights are given: start from one of them"),
    "form": (None, {"form": "original"}, "form=original reads the whole utterance, and this attention streams: leave form out"),
    "position": (None, {"position_lookahead": "9"}, "lookahead=9 must be from 0 to 3 whole frames"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_ends_with_one_line(case, tmp_path, capsys):
    change, options, words = CASES[case]
    start = tmp_path / "encoder"
    shutil.copytree(FOLDER, start)
    if change:
        change(start)
    options = {"start": str(start), "data_folder": str(tmp_path / "not there"), "output_folder": str(tmp_path / "run"), **options}
    pairs = [word for key, value in options.items() for word in (f"--{key}", value)]
    assert train.main([str(ROOT / "hparams" / "llsa.yaml"), *pairs, "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["form", "position_lookahead"])
def test_keys_of_a_start_change_nothing_without_one(key, tmp_path, capsys):
    value = {"form": "streaming", "position_lookahead": "2"}[key]
    assert train.main([str(ROOT / "hparams" / "llsa.yaml"), f"--{key}", value, "--output_folder", str(tmp_path / "run")]) == 2
    assert f"--{key} would change nothing" in capsys.readouterr().err


def refused(*_, **__):
    raise folder.LocalEntryNotFoundError("no network")


def test_without_a_network_a_name_of_the_hub_needs_its_cache(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folder, "snapshot_download", refused)
    command = [str(ROOT / "hparams" / "aa.yaml"), "--output_folder", str(tmp_path / "run"), "--start", "nobody/nothing@v1"]
    assert train.main(command) == 2
    line = capsys.readouterr().err
    assert "start=nobody/nothing@v1: there is no such folder here, it is not in the Hub's cache, and the Hub does not" in line
    assert "`hf download nobody/nothing --revision v1`" in line


def test_a_name_that_the_hub_has_not_may_be_that_of_a_folder_that_was_moved(monkeypatch):
    """So a run that has begun with it goes on."""

    def unknown(*_, **__):
        raise folder.RepositoryNotFoundError("404", response=Mock())

    monkeypatch.setattr(folder, "snapshot_download", unknown)
    with pytest.raises(folder.Unreachable, match="the Hub has none of this name and revision"):
        folder.find("models/moved")


def test_of_the_hub_only_what_is_needed_is_fetched(tmp_path, monkeypatch):
    """Its main revision may have old weights alone."""
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return tmp_path

    monkeypatch.setattr(folder, "snapshot_download", snapshot_download)
    folder._download.cache_clear()
    assert folder.find("facebook/wav2vec2-base@abc") == tmp_path
    assert [(name, revision) for name, revision, _ in asked] == [("facebook/wav2vec2-base", "abc")] * 2
    assert "pytorch_model.bin" not in asked[0][2] and "pytorch_model.bin" in asked[1][2]
    assert folder.called("facebook/wav2vec2-base@abc") == ("facebook/wav2vec2-base", tmp_path.name)


def test_old_files_and_old_names_hold_the_same_tensors(tmp_path):
    """pytorch_model.bin, weight_g and weight_v, no prefix, half precision, and several files with an index."""
    found, own = load_file(FOLDER / WEIGHTS), folder.tensors(str(FOLDER))
    new, old = "parametrizations.weight.original", ("weight_g", "weight_v")
    found = {name.removeprefix("wav2vec2."): tensor for name, tensor in found.items()}
    found = {name.replace(f"{new}0", old[0]).replace(f"{new}1", old[1]): tensor for name, tensor in found.items()}
    for part in ("bin", "shards", "half"):
        (tmp_path / part).mkdir()
        shutil.copyfile(FOLDER / CONFIG, tmp_path / part / CONFIG)
    torch.save(found, tmp_path / "bin" / "pytorch_model.bin")
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(found)}
    (tmp_path / "shards" / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": files}))
    for file in set(files.values()):
        save_file({name: found[name] for name in found if files[name] == file}, tmp_path / "shards" / file)
    save_file({name: tensor.half() for name, tensor in found.items()}, tmp_path / "half" / WEIGHTS)
    for part in ("bin", "shards"):
        again = folder.tensors(str(tmp_path / part))
        assert again.keys() == own.keys() and all(torch.equal(again[name], own[name]) for name in own)
    sums = {folder.sha256(str(tmp_path / part)) for part in ("bin", "shards", "half")}
    assert len(sums) == 3
    hparams, _ = experiment.load(ROOT / "hparams" / "aa.yaml", {"start": str(tmp_path / "half")})
    load.load(hparams["model"], str(tmp_path / "half"))
    weight = hparams["model"].encoder.blocks[0].attention.output.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, own["encoder.layers.0.attention.out_proj.weight"].half().float())
