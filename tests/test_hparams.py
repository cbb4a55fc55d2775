"""What the YAML files and the command line make of one another."""

from pathlib import Path

import pytest
from hyperpyyaml import resolve_references

from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, yaml_text

HPARAMS = Path(__file__).parents[1] / "hparams"
SCALES = sorted(path.stem for path in (HPARAMS / "scale").glob("*.yaml") if "\ndim: " in path.read_text())
NARROW = "{scale: %s, dim: 16, ffn_dim: 16, num_heads: 2}"


def test_command_line_wins_and_a_tag_replaces():
    _, config = experiment.load(HPARAMS / "llsa.yaml", "attention: {chunk: 2}")
    assert config["attention"]["chunk"] == 2 and config["attention"]["class"].endswith(".LLSA")
    whole = "attention: !name:speech_attention.attention.SA {num_heads: 4, left_context: 3, lookahead: 1}"
    _, config = experiment.load(HPARAMS / "llsa.yaml", whole)
    assert config["attention"] == {
        "class": "!name:speech_attention.attention.SA", "num_heads": 4, "left_context": 3, "lookahead": 1
    }  # fmt: skip


def test_every_part_keeps_its_class():
    """Regression: writing the merged YAML lost the tag of a list's first entry after a comment."""
    for scale in SCALES:
        text = experiment.resolve(HPARAMS / "llsa.yaml", NARROW % scale)
        hparams, config = experiment.build(text)
        assert all("class" in entry for entry in config["spec_augment"])
        assert len(hparams["spec_augment"]) == len(config["spec_augment"]) and all(map(callable, hparams["spec_augment"]))
        assert yaml_text.plain(yaml_text.parse(resolve_references(text).getvalue())) == config  # as hyperpyyaml reads it


SA_TAKES = "it takes num_heads, left_context, lookahead, positions, reuse"
SA = "!name:speech_attention.attention.SA"
DROP = "!new:speechbrain.augment.freq_domain.SpectrogramDrop"


@pytest.mark.parametrize(
    "text, message",
    [
        (f"attention: {SA} {{num_heads: 4, chunk: 1}}", f"attention: SA has no entry chunk; {SA_TAKES}"),
        (f"attention: {SA} {{lookahaed: 1}}", "did you mean lookahead?"),
        ("front_end: {mels: 3}", "front_end: FbankFrontEnd has no entry mels"),
        (f"spec_augment: [{DROP} {{dims: 1}}]", "spec_augment: SpectrogramDrop has no entry dims"),
    ],
    ids=["leftover", "misspelt", "scale", "list"],
)
def test_a_leftover_entry_is_named_before_anything_is_made(tmp_path, monkeypatch, text, message):
    """Changing the class of `attention` by hand, as users do, leaves an entry of the class before."""
    monkeypatch.setattr(experiment, "load_hyperpyyaml", lambda *_: pytest.fail("made"))
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\n{text}\n")
    with pytest.raises(UserError) as error:
        experiment.load(path)
    assert message in str(error.value)


def test_entries_that_a_class_takes_need_not_be_in_the_yaml():
    hparams, config = experiment.load(HPARAMS / "llsa.yaml", "attention: {reuse: queries}\nowners: [0, 2]")
    assert config["attention"]["reuse"] == "queries"
    assert hparams["model"].encoder.blocks[0].attention.reuse == "queries"
    with pytest.raises(UserError, match="attention: LLSA has no entry reus; did you mean reuse"):
        experiment.load(HPARAMS / "llsa.yaml", "attention: {reus: queries}")


def test_the_file_of_a_run_is_no_yaml_of_an_attention(tmp_path):
    """All values in it are written out: --dim would change the key, and not the encoder."""
    path = tmp_path / "hyperparams.yaml"
    path.write_text(experiment.resolve(HPARAMS / "llsa.yaml", NARROW % "mini") + "data:\n    dev: abc\n")
    with pytest.raises(UserError, match="is what a run was: to do it again give the command at its top"):
        experiment.resolve(path, "dim: 32")


def test_each_header_says_what_the_file_is_read_on_top_of():
    for path in HPARAMS.glob("*.yaml"):
        if path.stem != "experiment":
            header = path.read_text().partition("\n\n")[0]
            assert "hparams/experiment.yaml and hparams/scale/SCALE.yaml" in header
            assert f"python train.py hparams/{path.name}" in header and "--" in header
