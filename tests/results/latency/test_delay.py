"""The delays of words: known where the system and the ends of the words are; the command says what it measured."""

import json
from functools import partial

import pytest
import torch
from planted import HOP, noise_tree, random_model, save_experiment, script, scripted
from praatio import textgrid
from speech_attention.attention import AA, LLSA

from recipes.command_line import UserError, exit_code
from recipes.LibriSpeech.data.alignments import read_tier, spoken_ends
from recipes.LibriSpeech.inference.loading import Trained
from results.latency import delay
from results.latency.word_delays import delays, listen

FRAMES = "_AB_ _CC__ D_____________"  # AB, CC as one C, D
LAST = {"AB": 2, "C": 6, "D": 11}  # the frame in which each last letter begins
ENDS = {"AB": 3 * HOP, "C": 8 * HOP, "D": 12 * HOP}  # after its last frame
CLOSED = {"AB": 4, "C": 10, "D": len(FRAMES) - 1}  # the frame of the space; the end


def utterance(name="u-1", frames=FRAMES, words="AB C D", samples=0):
    return {"id": name, "sig": script(frames, samples), "words": words}


def ms(samples):
    return samples / 16


def write_textgrid(path, words, duration, tier="words"):
    """`words`: list of (start, end, label), seconds."""
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier(tier, words, 0, duration))
    grid.addTier(textgrid.IntervalTier("phones", [(0.1, 0.2, "AH0")], 0, duration))
    grid.save(str(path), format="short_textgrid", includeBlankSpaces=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("chunk, ahead", [(1, 0), (1, 2), (1, 5), (3, 2)])
@pytest.mark.parametrize("packet", [160, 592, HOP, 4 * HOP, 10**6])
def test_delay_is_look_ahead_and_the_wait_for_the_packet(chunk, ahead, packet):
    system = scripted(partial(LLSA, left_context=1, lookahead=ahead, chunk=chunk))
    signal = script(FRAMES, samples=77)

    def out(frame):
        """Samples that are in when a frame comes out, by hand."""
        ready = (frame // chunk * chunk + chunk + ahead) * HOP
        return min(-(-ready // packet) * packet, len(signal))

    (words,), _, frames = listen(system, [signal], packet)
    assert sum(frames) == len(FRAMES) + 1
    assert [word.text for word in words] == list(ENDS)
    expected = [(ms(out(LAST[w]) - ENDS[w]), ms(out(CLOSED[w]) - ENDS[w])) for w in ("AB", "C")]
    expected.append((ms(out(LAST["D"]) - ENDS["D"]), ms(len(signal) - ENDS["D"])))
    assert delays(list(ENDS), list(ENDS.values()), words) == expected
    result = delay.measure(system, [utterance(samples=77)], [packet])  # with the ends that CTC finds
    assert result["hops"][0]["emitted_ms"]["mean"] == pytest.approx(sum(e for e, _ in expected) / 3, abs=1e-3)
    assert result["hops"][0]["closed_ms"]["p99"] <= max(c for _, c in expected)
    assert result["hops"][0]["wer"]["wer"] == 0 and result["left_out"] == 0


def test_only_correct_words_count():
    system = scripted()
    (hop,) = delay.measure(system, [utterance(words="AB X D"), utterance("u-2", words="E E AB C")], [HOP])["hops"]
    assert (hop["words"], hop["correct"], hop["emitted_ms"]["count"]) == (7, 4, 4)
    assert hop["wer"]["substitutions"] == 1 and hop["wer"]["deletions"] == 2 and hop["wer"]["insertions"] == 1
    (hop,) = delay.measure(system, [utterance(words="X Y Z")], [HOP])["hops"]
    assert hop["correct"] == 0 and hop["emitted_ms"] == dict.fromkeys(("median", "p90", "p99", "mean")) | {"count": 0}
    assert "-" in delay.table({"hops": [hop]})


def test_without_streaming_form_text_comes_at_the_end():
    system, end = scripted(AA), script(FRAMES, samples=77).numel()
    (hop,) = delay.measure(system, [utterance(samples=77)], delay.packets_of(system, None))["hops"]
    expected = sorted(ms(end - word_end) for word_end in ENDS.values())
    assert hop["hop_ms"] is None and hop["emitted_ms"] == hop["closed_ms"] and hop["compute_ms"]["count"] == 1
    found = [hop["emitted_ms"]["median"], hop["emitted_ms"]["mean"]]
    assert found == pytest.approx([expected[1], sum(expected) / 3], abs=1e-3)
    with pytest.raises(UserError, match="no streaming form"):
        delay.packets_of(system, [40])


def test_ends_are_those_of_the_textgrid(tmp_path):
    words = [(0.01, 0.1, "ab"), (0.12, 0.3, "<unk>"), (0.3, 0.4, "d")]
    grids = {"u-1": write_textgrid(tmp_path / "u-1.TextGrid", words, 1.0)}
    grids["u-2"] = write_textgrid(tmp_path / "u-2.TextGrid", words[:2], 1.0)  # a word is missing
    grids["u-3"] = write_textgrid(tmp_path / "u-3.TextGrid", [*words[:2], (0.3, 0.4, "e")], 1.0)  # another word
    result = delay.measure(scripted(), [utterance(f"u-{n}") for n in (1, 2, 3)], [HOP], grids)
    assert (result["utterances"], result["left_out"], result["hops"][0]["wer"]["utterances"]) == (1, 2, 1)
    frames = [(LAST[word] + 3) * 40 for word in LAST]  # ms, two frames of look-ahead
    assert result["hops"][0]["emitted_ms"]["mean"] == pytest.approx((sum(frames) - 100 - 300 - 400) / 3, abs=1e-3)
    assert [(i.label, i.start, i.end) for i in read_tier(grids["u-1"], "phones")] == [("AH0", 1600, 3200)]
    with pytest.raises(UserError, match="no tier lines: there are words, phones"):
        read_tier(grids["u-1"], "lines")
    (tmp_path / "broken.TextGrid").write_text("what")
    with pytest.raises(UserError, match="broken.TextGrid"):
        spoken_ends(tmp_path / "broken.TextGrid", ["A"])
    with pytest.raises(UserError, match="no utterance has an alignment"):
        delay.measure(scripted(), [utterance("u-2")], [HOP], grids)


def test_utterances_without_a_path_are_left_out():
    result = delay.measure(scripted(), [utterance(), utterance("u-2", "_A_", words="AAAA")], [HOP])
    assert (result["utterances"], result["left_out"]) == (1, 1)


@pytest.mark.parametrize("yaml, overrides", [("llsa", "attention: {chunk: 3, lookahead: 2}"), ("sa", "")])
def test_a_word_comes_when_it_does_whatever_else_is_in_the_batch(yaml, overrides):
    system = Trained(*random_model(yaml, overrides))
    signals = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (64000, 700, 31000, 16000)]
    for packet in (592, 2560):
        together = listen(system, signals, packet)[0]
        assert together == [listen(system, [signal], packet)[0][0] for signal in signals]
        assert sum(map(len, together)) > 10


@pytest.fixture
def experiment(tmp_path):
    """An experiment that makes no errors, as its references are what it said: its folder."""
    system, said = save_experiment(tmp_path / "mine", tmp_path / "tree"), []

    def text(signal):
        said.append(" ".join(word.text for word in listen(system, [signal], None)[0][0]))
        return said[-1]

    noise_tree(tmp_path / "tree", ["train-a", "test-c"], text=text)
    assert len(set(said)) == 12 and min(map(len, said)) > 10
    return tmp_path / "mine"


@pytest.mark.slow
def test_the_command(experiment, tmp_path, capsys):
    output = tmp_path / "delay.json"
    assert exit_code(delay.command, [str(experiment), "--hops", "40", "37", "--output", str(output)]) == 0
    text = output.read_text()
    result = json.loads(text)
    assert str(tmp_path) not in text and result["command"] == "python -m results.latency.delay mine --hops 40 37"
    assert (result["experiment"], result["split"], result["trained_on"], result["word_ends"]) == ("mine", "test-c", False, "CTC")
    assert (result["utterances"], result["left_out"], result["alone"]) == (6, 0, {"compared": 12, "different": 0})
    for hop, length in zip(result["hops"], (40.0, 37.0)):
        assert hop["hop_ms"] == length and hop["wer"]["wer"] == 0 and hop["correct"] == hop["words"] > 20
        assert 0 < hop["emitted_ms"]["median"] <= 4 * 40 + length
        assert hop["real_time_factor"] > 0 and hop["compute_ms"]["count"] > 100
    printed = capsys.readouterr().out
    assert "test-c: audio that it was not trained on, ends of words by CTC" in printed and "100.0 %" in printed

    grids = tmp_path / "grids" / "deep"
    grids.mkdir(parents=True)
    write_textgrid(grids / "10-7-0001.TextGrid", [(0.1, 0.2, "NOTHING")], 3.0)
    arguments = [str(experiment), "--split", "train-a", "--alignments", str(tmp_path / "grids"), "--output", str(output)]
    assert exit_code(delay.command, arguments) == 2  # its words are other ones
    assert "no utterance has an alignment" in capsys.readouterr().err
    (line,) = [line for line in (tmp_path / "tree/train-a/10/7/10-7.trans.txt").read_text().splitlines() if "0001" in line]
    words = line.split()[1:]
    write_textgrid(grids / "10-7-0001.TextGrid", [(n / 10, n / 10 + 0.05, word) for n, word in enumerate(words)], 3.0)
    assert exit_code(delay.command, arguments) == 0
    result = json.loads(output.read_text())
    assert (result["utterances"], result["left_out"], result["word_ends"]) == (1, 5, "TextGrid")
    assert result["trained_on"] and result["hops"][0]["words"] == len(words)
    assert "audio that it was trained on" in capsys.readouterr().out
    assert result["command"] == "python -m results.latency.delay mine --split train-a --alignments TEXTGRIDS"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "the following arguments are required"),
        (["nowhere"], "is not the folder of an experiment"),
        (["mine", "--split", "test-z"], "Split test-z is not in"),
        (["mine", "--hops", "0"], "--hops 0 must be"),
        (["mine", "--hops", "nan"], "--hops nan must be"),
        (["mine", "--hops", "0.01"], "--hops 0.01 must be"),
        (["mine", "--hops", "x"], "invalid float value"),
        (["mine", "--utterances", "0"], "--utterances 0 must be"),
        (["mine", "--data_folder", "mine"], "holds no LibriSpeech splits"),
        (["mine", "--alignments", "mine"], "holds no file <utterance id>.TextGrid"),
        (["mine", "--alignments", "gone"], "no folder"),
    ],
)
def test_bad_input(experiment, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(experiment.parent)
    assert exit_code(delay.command, arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert words in line
