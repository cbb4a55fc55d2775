"""The command that prints latency budgets: it agrees with every experiment, and notices what breaks a declaration."""

import doctest
import json
import math
from pathlib import Path

import pytest
from speech_attention.encoder import Encoder

from recipes.command_line import exit_code
from recipes.LibriSpeech import experiment
from results.latency import budget

HPARAMS = Path(__file__).parents[3] / "hparams"
FILES = sorted(path for path in HPARAMS.glob("*.yaml") if path.stem != "experiment")
SCALES = sorted(path.stem for path in (HPARAMS / "scale").glob("*.yaml") if "\ndim: " in path.read_text())
NARROW = "dim: 16\nffn_dim: 16\nnum_heads: 2\n"  # latency does not depend on widths, time does
NARROW_FRONT_END = "front_end: !new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 4}\n"
PAPER = {"aa": None, "maa": 1920, "sa": 1920, "llsa": 160, "summary_mixing": 60, "shared_attention": None}  # ms, at base scale


def mine(attention, *lines, left_context=5, lookahead=2, **options):
    """The text of a YAML: an attention, and more lines."""
    window = {"num_heads": 2, "left_context": left_context, "lookahead": lookahead, **options}
    return "\n".join(["name: mine", f"attention: !name:{attention} {json.dumps(window)}", *lines, ""])


SA, LLSA = "speech_attention.attention.SA", "speech_attention.attention.LLSA"


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command on a YAML of the given text; its exit code, the results (None on bad input), the lines of errors."""

    def run(text, *options):
        path, output = tmp_path / "mine.yaml", tmp_path / "latency.json"
        output.unlink(missing_ok=True)
        path.write_text(text + NARROW)
        code = exit_code(budget.command, [str(path), "--output", str(output), *options])
        result = json.loads(output.read_text())["results"][0] if output.exists() else None
        return code, result, capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize("scale", [pytest.param(scale, marks=[pytest.mark.slow] * (scale != "mini")) for scale in SCALES])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_agrees(run, path, scale):
    few = "num_layers: 4\npairs: [0, 2]\n"
    small = {"base": NARROW_FRONT_END if path.stem != "llsa" else "", "small": few, "medium": few}.get(scale, "")
    code, result, errors = run(f"{path.read_text()}scale: {scale}\n{small}")
    assert code == 0 and not errors
    assert result["scale"] == scale
    if scale == "base":
        assert result["attention_ms"] == PAPER[path.stem]
    if path.stem in ("aa", "shared_attention"):
        assert result["total_ms"] is result["gradient_ms"] is result["streamed_ms"] is result["state_bytes"] is None
    else:  # in packets of one frame: no wait
        total = result["attention_ms"] + result["frame_ms"]
        assert result["total_ms"] == result["gradient_ms"] == result["streamed_ms"] == total
        assert set(result["declared_ms"]) == set(budget.STAGES)
        assert result["state_bytes"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("hop_ms", [5, 20, 37, 160, 1000])
@pytest.mark.parametrize(
    "attention, ms",
    [
        (mine(SA), 2 * 80),  # 2 layers, frames of 40 ms
        (mine(LLSA), 80),
        (mine(LLSA, chunk=3), 160),
        (mine(LLSA, lookahead=3, chunk=2, revisions=[0, 3]), 160),
    ],
    ids=["SA", "LLSA", "LLSA-chunk3", "LLSA-chunk2-revisions"],
)
def test_packets_add_what_is_declared(run, attention, ms, hop_ms):
    code, result, errors = run(attention + "num_layers: 2\n", "--hop_ms", str(hop_ms))
    assert code == 0 and not errors
    assert result["attention_ms"] == ms
    assert result["gradient_ms"] == ms + 40
    assert result["streamed_ms"] == result["total_ms"] == ms + 40 + result["declared_ms"]["hop"]
    assert result["declared_ms"]["hop"] < hop_ms


def test_packet_wait_against_counting():
    """Packet by packet: the first of them with which the samples of a group are in."""
    for ahead, period, packet in [(200, 40, 37), (41, 40, 37), (40, 40, 40), (13, 7, 10), (5, 120, 16), (90, 6, 100), (3, 5, 1)]:
        waits = []
        for group in range(200):
            deadline = group * period + ahead
            fed = 0
            while fed < deadline:
                fed += packet
            waits.append(fed - deadline)
        assert budget.packet_wait(ahead, period, packet) == max(waits)


def test_stages_and_state(run):
    """Every figure by hand: mini, LLSA with chunks of 3 frames of 40 ms, packets of 100 ms."""
    code, result, _ = run(mine(LLSA, chunk=3), "--hop_ms", "100")
    assert code == 0
    # group g is ready at 200 + 120 g ms and waits for the next multiple of 100: 0, 80, 60, 40, 20, and again
    stages = {"window": 0, "frame": 40, "position": 0, "chunk": 80, "attention": 80, "convolution": 0, "hop": 80}
    assert result["declared_ms"] == stages
    cache = 4 * 5 * (2 * 16 * 4 + 1)  # layers, frames of the past, keys and values in float32, one bool
    pending = 4 * (16 * 4 + 1)  # a group needs 5 frames: 4 of them wait
    samples = 4 * (720 + 320)  # the window before a frame, and half a frame: 700 ms are 17.5 frames
    assert result["state_bytes"] == cache + pending + samples + 8  # and a position


BREAKS = {  # the YAML, which measurement notices, what is declared, what is measured
    "normalised": (mine(LLSA, "front_end: !new:broken.Normalised {dim: 16}"), "gradient", 120, None),
    "window": (mine(LLSA, "front_end: !new:broken.WideWindow {dim: 16}"), "gradient", 120, 160),
    "centred-3": (mine(SA, "block: !name:broken.CentredConformer {kernel_size: 3}"), "gradient", 200, 280),
    "centred-15": (mine(SA, "block: !name:broken.CentredConformer {kernel_size: 15}"), "gradient", 200, None),
    "SA-more": (mine("broken.ShiftedSA", shift=1), "gradient", 200, 280),  # a frame more in each of two layers
    "SA-less": (mine("broken.ShiftedSA", shift=-1), "gradient", 200, 120),
    "LLSA-more": (mine("broken.EagerLLSA"), "gradient", 120, 200),
    "LLSA-less": (mine("broken.DeafLLSA"), "gradient", 120, 80),
    "AA": ("name: mine\nattention: !name:broken.CausalAA {num_heads: 2}\n", "gradient", 40, None),
    "late": (mine(LLSA, "model: !new:broken.Late {since: 0, PARTS}"), "streamed", 120, 160),
    "later": (mine(LLSA, "model: !new:broken.Late {since: 40, PARTS}"), "streamed", 120, 160),
    "silent": (mine(LLSA, "model: !new:broken.Silent {PARTS}"), "streamed", 120, None),
}


@pytest.mark.parametrize("text, how, declared, measured", BREAKS.values(), ids=BREAKS)
def test_what_breaks_a_declaration_is_noticed(run, text, how, declared, measured):
    text = text.replace("PARTS", "front_end: !ref <front_end>, encoder: !ref <encoder>, num_tokens: 29")
    code, result, errors = run(text + "num_layers: 2\n")
    assert code == 1
    assert result["total_ms"] == declared
    assert result[f"{how}_ms"] == measured
    assert result[{"gradient": "streamed_ms", "streamed": "gradient_ms"}[how]] == declared  # the other one agrees
    assert len(errors) == 1 and errors[0].startswith("disagreement: ") and errors[0].endswith(f"({how})")
    assert "mine.yaml" in errors[0] and f"declared {float(declared)} ms" in errors[0]
    nothing = {"gradient": "measured the whole utterance", "streamed": "measured nothing that comes out"}[how]
    assert (f"measured {float(measured)} ms" if measured else nothing) in errors[0]


UNSEEN = {  # by a gradient of one frame
    "detached": mine(LLSA, "front_end: !new:broken.DetachedNorm {dim: 16}"),
    "long": mine(LLSA, "front_end: !new:broken.LongNorm {dim: 16}"),
    "later": mine("broken.LaterSA"),
    "sign": mine(SA, "block: !name:broken.Signs {}"),
}


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
def test_what_no_gradient_sees_is_not_what_streams(run, text):
    code, result, errors = run(text + "num_layers: 2\n")
    assert code == 1 and result["offline_difference"] > 1e-4
    assert result["gradient_ms"] == result["streamed_ms"] == result["total_ms"]
    assert len(errors) == 1 and "something looks ahead" in errors[0]


def test_a_convolution_that_looks_ahead_is_in_the_sum():
    hparams, _ = experiment.load(HPARAMS / "sa.yaml", "{scale: small, dim: 16, ffn_dim: 16, num_heads: 2, num_layers: 2}")
    model = hparams["model"]
    assert model.budget()["convolution"] == 0
    model.encoder.blocks[1].convolution.lookahead = 3
    assert model.encoder.lookahead == 2 * 4 + 3
    others = {"window": 0, "frame": 640, "position": 0, "chunk": 0}
    assert model.budget() == {**others, "attention": 8 * 640, "convolution": 3 * 640}
    model.encoder.blocks[1].convolution.lookahead = math.inf
    assert model.budget() is None


@pytest.mark.parametrize("attention", [SA, LLSA])
@pytest.mark.parametrize("wrong", [1, 9])
def test_a_wrong_sum_is_noticed(run, monkeypatch, attention, wrong):
    monkeypatch.setattr(Encoder, "lookahead", wrong)  # 4 and 2 frames are right
    code, result, errors = run(mine(attention, "num_layers: 2"))
    assert code == 1
    assert result["total_ms"] == 40 * (wrong + 1) != result["gradient_ms"]
    assert any("(gradient)" in error for error in errors)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere.yaml"], "no file nowhere.yaml"),
        ([str(HPARAMS / "sa.yaml"), "--scale", "huge"], "no scale huge; there are adapt, adapt-gpu, base, cpu, medium, mini,"),
        ([str(HPARAMS / "sa.yaml"), "--scale", "[base"], "no scale [base"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "0"], "--hop_ms 0 must be whole samples"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "0.03"], "multiples of 0.0625"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "20.01"], "multiples of 0.0625"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "-20"], "--hop_ms -20"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "nan"], "--hop_ms nan"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "1e9"], "at most 10000"),
        ([str(HPARAMS / "sa.yaml"), "--hop_ms", "short"], "'short'"),
        ([str(HPARAMS / "sa.yaml"), "--output", "nowhere/latency.json"], "nowhere"),
        ([str(HPARAMS / "sa.yaml"), "--hops", "20"], "--hops"),
        ([str(HPARAMS / "experiment.yaml")], "has no name"),
        ([], "YAML"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(capsys, arguments, words):
    assert exit_code(budget.command, arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert not out


def test_what_is_printed(capsys):
    """Two experiments side by side, a line for each, and that the whole utterance is not a number."""
    assert exit_code(budget.command, [str(HPARAMS / f"{name}.yaml") for name in ("aa", "llsa")]) == 0
    out = capsys.readouterr().out
    assert f"{HPARAMS / 'llsa.yaml'}: attention look-ahead 160.0 ms, in all 200.0 ms" in out
    assert f"{HPARAMS / 'aa.yaml'}: attention look-ahead the whole utterance, in all the whole utterance" in out
    rows = {line.split("  ")[0]: line.split()[-2:] for line in out.splitlines() if "  " in line}
    assert rows["attention: look-ahead"] == ["utterance", "160.00"]
    assert rows["measured in a stream"] == ["-", "200.00"]


def test_examples():
    assert doctest.testmod(budget).failed == 0
