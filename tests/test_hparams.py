"""What the YAML files and the command line make of one another."""

from pathlib import Path

from recipes.LibriSpeech import experiment

HPARAMS = Path(__file__).parents[1] / "hparams"
SCALES = sorted(path.stem for path in (HPARAMS / "scale").glob("*.yaml"))
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
        _, config = experiment.load(HPARAMS / "llsa.yaml", NARROW % scale)
        assert all("class" in entry for entry in config["spec_augment"])
