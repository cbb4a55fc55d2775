"""The soak finds nothing in a sound system, and finds a system that grows, drifts, leaks or loses its position."""

import json

import pytest
import speech_attention.attention.base
import torch
from planted import noise_tree, random_model, save_experiment
from speech_attention.attention import LLSA

from recipes.command_line import exit_code
from recipes.LibriSpeech.inference.loading import Trained
from results.latency import soak

BLOCK = "block: !name:speech_attention.blocks.ConformerBlock {kernel_size: 5}\n"
CONFORMER = "attention: {chunk: 3, lookahead: 2}\n" + BLOCK
WHISPER = """
front_end: !new:speech_attention.front_end.WhisperFrontEnd {dim: 16, num_mels: 20, pool: 2}
position: !name:speech_attention.position.Sinusoids {rows: 100}
positions: none
pool: 2
"""
WAV2VEC2 = """
front_end: !new:speech_attention.front_end.ConvolutionalFrontEnd {dim: 16, channels: 4, pool: 2}
position: !name:speech_attention.position.ConvolutionalPosition {kernel: 32, groups: 4, norm: True, lookahead: 2}
positions: gated
pool: 2
"""


class Growing(LLSA):
    """Keeps one frame more at each step, and does not need it."""

    def initial_state(self, batch_size):
        return {**super().initial_state(batch_size), "more": torch.zeros(batch_size, 0)}

    def mix(self, *parts, state=None, **rest):
        y, valid, after, shared = super().mix(*parts, state=state, **rest)
        if state:
            after = {**after, "more": torch.cat([state["more"], torch.zeros(len(y), 1)], dim=1)}
        return y, valid, after, shared


class Drifting(LLSA):
    """Its memory of values fades a little at each step."""

    def mix(self, *parts, **rest):
        y, valid, state, shared = super().mix(*parts, **rest)
        return y, valid, {**state, "v": 0.999 * state["v"]}, shared


class Leaking(LLSA):
    """Keeps 400 kB at each step, outside of the state."""

    kept = []

    def mix(self, *parts, **rest):
        self.kept.append(torch.ones(100_000))
        return super().mix(*parts, **rest)


ROTARY = speech_attention.attention.base.rotary


def float32_rotary(positions, head_dim, base=10000.0):
    angle = positions[..., None].float() * base ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.stack([angle.cos(), angle.sin()], dim=-2)


def utterances(*seconds):
    """Noise, as a data set."""
    return [{"sig": 0.1 * torch.randn(int(16000 * s), generator=torch.Generator().manual_seed(0))} for s in seconds]


def found(system, minutes=0.3, but=("slow", "memory")):
    """What is found, but for what depends on other work: the time, and the memory of the process that runs all tests."""
    result = soak.measure(system, utterances(2.01, 0.02, 3), minutes)
    return [line for line in soak.failures(result) if not any(word in line for word in but)], result


def with_attention(kind):
    model, config = random_model("llsa")
    for block in model.encoder.blocks:
        block.attention.__class__ = kind
    return Trained(model, config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "yaml, overrides", [("llsa", ""), ("sa", WAV2VEC2), ("maa", BLOCK), ("llsa", CONFORMER), ("sa", ""), ("llsa", WHISPER)]
)
def test_nothing_is_found_in_a_sound_system(yaml, overrides):
    lines, result = found(Trained(*random_model(yaml, overrides)))
    assert lines == [] and len(result["tenths"]) == 10 and result["frames"] == 450
    assert result["offline_frames"] < 250 and result["difference"] < 2e-5  # not the whole stream: only the receptive field
    assert soak.FAR - 500 < result["far"]["first_frame"] < soak.FAR


def test_packets_are_the_utterances_in_a_row():
    data, packets = utterances(0.01, 0.1), soak.packets(utterances(0.01, 0.1), 640)
    heard = torch.cat([next(packets) for _ in range(9)])
    assert torch.equal(heard, torch.cat([row["sig"] for row in data] * 4)[: 9 * 640])


@pytest.mark.slow
def test_state_that_grows_is_found():
    (line,), result = found(with_attention(Growing))
    assert line.startswith("the state grew") and result["difference"] < 2e-5


@pytest.mark.slow
def test_outputs_that_drift_are_found():
    lines, _ = found(with_attention(Drifting))
    assert ["outputs are" in line for line in lines] == [True, True]


@pytest.mark.slow
def test_memory_that_leaks_is_found():
    (line,), _ = found(with_attention(Leaking), but=("slow",))
    assert line.startswith("memory grew")
    Leaking.kept.clear()


@pytest.mark.slow
@pytest.mark.parametrize("rotary", [float32_rotary, lambda p, *of: ROTARY(p.int(), *of)])
def test_positions_without_precision_or_that_overflow_are_found(rotary, monkeypatch):
    monkeypatch.setattr(speech_attention.attention.base, "rotary", rotary)
    lines, _ = found(Trained(*random_model("llsa")))
    assert any(line.startswith("far from frame 0") for line in lines)


def test_slower_is_found():
    tenth = {"state_bytes": 8, "resident_mib": 100.0, "compute_median_ms": 2.0}
    result = {"initial_state_bytes": 8, "tenths": [tenth] * 10, "difference": 1e-5, "far": {"difference": 1e-5}}
    assert soak.failures(result) == []
    result["tenths"] = [{**tenth, "compute_median_ms": ms} for ms in (9.0, *[2.0] * 8, 3.1)]
    assert soak.failures(result) == ["the last tenth is 1.55 times as slow as the second"]
    assert len(soak.failures({**result, "difference": float("nan")})) == 2
    assert len(soak.failures({**result, "int8": True, "difference": 0.5})) == 1  # weights of eight bits are that far away


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_command(tmp_path, capsys, monkeypatch, engine):
    monkeypatch.setattr(soak, "SLOWER", float("inf"))
    save_experiment(tmp_path / "mine", noise_tree(tmp_path / "tree", ["test-c"]), overrides=CONFORMER)
    arguments = [str(tmp_path / "mine"), "--minutes", "0.3", "--engine", engine, "--output", str(tmp_path / "soak.json")]
    assert exit_code(soak.command, arguments) == 0
    text = (tmp_path / "soak.json").read_text()
    result = json.loads(text)
    assert result["command"] == f"python -m results.latency.soak mine --minutes 0.3 --engine {engine}"
    assert str(tmp_path) not in text
    assert result["failures"] == [] and result["frames"] == 450
    assert "distance from offline, after 450 frames" in capsys.readouterr().out
    monkeypatch.setattr(soak, "TOLERANCE", 0)
    assert exit_code(soak.command, arguments) == 1
    assert "failed: at the end, outputs are" in capsys.readouterr().err
    for wrong, words in (([str(tmp_path)], "not the folder"), ([*arguments, "--minutes", "0.1"], "from 10 s")):
        assert exit_code(soak.command, wrong) == 2
        assert words in capsys.readouterr().err
    save_experiment(tmp_path / "aa", tmp_path / "tree", yaml="aa")
    assert exit_code(soak.command, [str(tmp_path / "aa")]) == 2
    assert "no streaming form" in capsys.readouterr().err
