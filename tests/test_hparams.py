"""Every YAML at every scale: it loads, and its declared look-ahead is the measured one."""

from pathlib import Path

import pytest

from recipes.LibriSpeech import experiment

HPARAMS = Path(__file__).parents[1] / "hparams"
FILES = sorted(path for path in HPARAMS.glob("*.yaml") if path.stem != "experiment")
SCALES = sorted(path.stem for path in (HPARAMS / "scale").glob("*.yaml"))
NARROW = "{scale: %s, dim: 16, ffn_dim: 16, num_heads: 2}"  # look-ahead does not depend on widths, time does


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_declared_lookahead_is_measured(path, scale):
    hparams, config = experiment.load(path, NARROW % scale)
    latency = hparams["model"].latency()
    assert latency["declared_frames"] == latency["measured_frames"]
    assert (latency["attention_ms"] is None) == (config["attention"]["class"].endswith(".AA"))


@pytest.mark.parametrize("attention, ms", [("maa", 1920), ("sa", 1920), ("llsa", 160)])
def test_latencies_of_the_paper_at_base_scale(attention, ms):
    hparams, _ = experiment.load(HPARAMS / f"{attention}.yaml", NARROW % "base")
    latency = hparams["model"].latency()
    assert latency["attention_ms"] == ms
    assert latency["total_ms"] == ms + 20


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
