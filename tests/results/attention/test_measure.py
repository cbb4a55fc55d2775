"""What a trained encoder attends to, measured on tiny experiments."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from praatio import textgrid

import train
from recipes.command_line import exit_code
from results.attention import measure
from tests.recipes.tiny import SPLITS, arguments, write_tree

TRAINING = {"pretrain": "{epochs: 0}", "finetune": "{epochs: 1, batch_seconds: 6}"}
FIGURES = ("diagonality", "similarity", "maps", "phones", "probe")


def write_textgrid(path, seconds, shift=0):
    """Phones of 0.1 s in turn, and a word for each second of them."""
    labels = ["AH0", "S", "sil", "AH1", "T", "spn", "Q"]
    phones = [(n / 10, (n + 1) / 10, labels[(n + shift) % 7]) for n in range(int(10 * seconds))]
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier("words", [(n, n + 1, f"word{n}") for n in range(int(seconds))], 0, seconds))
    grid.addTier(textgrid.IntervalTier("phones", phones, 0, seconds))
    grid.save(str(path), format="short_textgrid", includeBlankSpaces=True)


@pytest.fixture
def make(tmp_path):
    """Trains an experiment on noise, and writes TextGrids for its test split and one more utterance; its folder."""

    def make(yaml, **changes):
        root = write_tree(tmp_path / "LibriSpeech", SPLITS, seconds=2.0)
        assert train.main(arguments(root, tmp_path / "mine", yaml=yaml, **TRAINING, **changes)) == 0
        (tmp_path / "grids" / "deep").mkdir(parents=True)
        for number, path in enumerate(sorted((root / "test-c").rglob("*.flac"))):
            write_textgrid(tmp_path / "grids" / "deep" / f"{path.stem}.TextGrid", 2.0, number)
        write_textgrid(tmp_path / "grids" / "9-9-9.TextGrid", 2.0)
        return tmp_path / "mine"

    return make


def drawn(folder):
    for name in FIGURES:
        if (folder / f"{name}.png").exists():
            assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            assert (folder / f"{name}.png").stat().st_size < 200_000
    return [name for name in FIGURES if (folder / f"{name}.png").exists()]


def test_what_is_summed_up(monkeypatch):
    """Two utterances; layer 1 has a diagonal head, uniform in the second utterance, and one that attends to S."""
    even, to_s = torch.full((6, 6), 1 / 6), torch.tensor([0, 1 / 3] * 3).expand(6, 6)
    planted = [torch.stack([torch.stack([head, to_s]), torch.stack([even, even])]) for head in (torch.eye(6), even)]
    monkeypatch.setattr(measure.map_statistics, "attention_maps", lambda model, samples: planted[int(samples[0])])
    monkeypatch.setattr(measure.map_statistics, "lift", partial(measure.map_statistics.lift, least=1))
    data = [{"id": n, "sig": torch.full((6 * 640,), float(n))} for n in range(2)]
    model = SimpleNamespace(front_end=SimpleNamespace(hop=640))
    phones = {0: ["AH", "S"] * 4, 1: ["AH", "S"] * 3}
    found = measure.measure_maps(model, data, [0, 1], 6, phones)
    (diagonal, _), uniform = found["diagonality"]["heads"]
    assert uniform == [found["diagonality"]["uniform"]] * 2 == pytest.approx([11 / 18] * 2, abs=1e-4)
    assert diagonal == pytest.approx((1 + 11 / 18) / 2, abs=1e-4)
    overlap = [(1 / 6 + 1) / 2, (1 / 2 + 1 / 2) / 2]  # of each head of layer 1 with a uniform one
    assert found["similarity"][0] == [1, pytest.approx(sum(overlap) / 2, abs=1e-4)]
    assert found["phones"]["names"] == ["S", "AH"] and found["phones"]["pairs"] == [[12, 18], [18, 12]]
    # from AH, 5 frames without the own one: attention left 1/2 and 11/12, of which 1/2 and 3/4 go to the three S
    assert found["phones"]["lift"][0][1][0] == pytest.approx((1 / 2 + 3 / 4) / ((1 / 2 + 11 / 12) * 3 / 5), abs=1e-3)
    assert found["phones"]["lift"][1] == [[1, 1], [1, 1]]


@pytest.mark.slow
def test_the_command(make, tmp_path, capsys, monkeypatch):
    experiment, output = make("llsa", attention="{left_context: 6, lookahead: 2, chunk: 2}"), tmp_path / "put"
    options = [str(experiment), "--output", str(output)]
    monkeypatch.setattr(measure.map_statistics, "lift", partial(measure.map_statistics.lift, least=40))
    capsys.readouterr()
    assert exit_code(measure.command, [*options, "--alignments", str(tmp_path / "grids"), "--frames", "40"]) == 0
    assert drawn(output) == list(FIGURES)
    text = (output / "analysis.json").read_text()
    result = json.loads(text)
    assert (
        str(tmp_path) not in text
        and result["command"] == "python -m results.attention.measure mine --alignments TEXTGRIDS --frames 40"
    )
    assert (result["experiment"], result["split"], result["trained_on"]) == ("mine", "test-c", False)
    assert (result["attention"], result["utterances"], result["layers"]) == ("LLSA", 4, 2)
    assert len(result["sha256"]) == 64 and len(result["config_hash"]) == 16 and result["environment"]["versions"]

    maps = result["maps"]
    assert (maps["frames"], maps["utterances"]) == (40, 4)
    diagonality = maps["diagonality"]
    assert diagonality["uniform"] == pytest.approx(79 / 120, abs=1e-4)
    assert diagonality["distances"] == list(range(8))  # 6 frames and the rest of a chunk
    assert all(diagonality["window"] - 0.1 < head < 1 for layer in diagonality["heads"] for head in layer)
    assert diagonality["cumulative"][1][0][-1] == diagonality["cumulative_window"][-1] == 1
    assert diagonality["cumulative_uniform"][0] == 0.025
    assert maps["similarity"][0][0] == maps["similarity"][1][1] == 1 > maps["similarity"][0][1] == maps["similarity"][1][0] > 0
    assert maps["phones"]["names"] == ["T", "S", "AH", "SIL", "Q"]
    lift, pairs = maps["phones"]["lift"], maps["phones"]["pairs"]
    assert len(lift) == 2 and all((lift[0][p][q] is None) == (pairs[p][q] < 40) for p in range(5) for q in range(5))
    assert 0 < sum(number < 40 for row in pairs for number in row) < 25

    probe = result["probe"]
    assert probe["speakers"] == {"train": ["105"], "test": ["104"]}
    assert probe["frames"]["train"] > 10 and probe["frames"]["test"] > 10
    assert len(probe["trained"]) == len(probe["untrained"]) == 2 and probe["filterbank_context_ms"] == [200, 120]
    printed = capsys.readouterr().out
    assert "test-c: audio that it was not trained on; 4 utterances" in printed and "phones %" in printed
    assert f"uniform map {diagonality['uniform']:.3f}" in printed and "probe.png" in printed

    assert exit_code(measure.command, [*options, "--split", "train-a", "--utterances", "3"]) == 0
    assert drawn(output) == ["diagonality", "similarity", "maps"]  # those of before are gone
    result = json.loads((output / "analysis.json").read_text())
    assert result["trained_on"] and result["utterances"] == 3 and "probe" not in result and "phones" not in result["maps"]
    assert result["maps"]["frames"] == 50 and result["maps"]["diagonality"]["uniform"] == pytest.approx(99 / 150, abs=1e-4)
    assert capsys.readouterr().out.count("no --alignments: phoneme relationships and the probe are left out\n") == 1


@pytest.mark.slow
def test_summary_mixing_has_no_maps(make, tmp_path, capsys):
    options = [str(make("summary_mixing")), "--output", str(tmp_path / "output")]
    capsys.readouterr()
    assert exit_code(measure.command, options) == 2
    assert "SummaryMixing makes no attention maps: give --alignments" in capsys.readouterr().err
    assert exit_code(measure.command, [*options, "--alignments", str(tmp_path / "grids")]) == 0
    assert drawn(tmp_path / "output") == ["probe"]
    assert "maps" not in json.loads((tmp_path / "output" / "analysis.json").read_text())
    assert "SummaryMixing makes no attention maps" in capsys.readouterr().out


def test_bad_input(make, tmp_path, capsys, monkeypatch):
    make("sa")
    monkeypatch.chdir(tmp_path)
    write_textgrid(tmp_path / "mine" / "9-9-9.TextGrid", 2.0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "104-7-0000.TextGrid").write_text("what")
    capsys.readouterr()
    for options, words in [
        ([], "the following arguments are required"),
        (["nowhere"], "is not the folder of an experiment"),
        (["mine", "--split", "test-z"], "Split test-z is not in"),
        (["mine", "--utterances", "0"], "--utterances 0 must be"),
        (["mine", "--frames", "-1"], "--frames -1 must be"),
        (["mine", "--frames", "51"], "--frames 51: the longest utterance has 50"),
        (["mine", "--frames", "1"], "2 are the least"),
        (["mine", "--frames", "x"], "invalid int value"),
        (["mine", "--data_folder", "mine"], "holds no LibriSpeech splits"),
        (["mine", "--alignments", "LibriSpeech"], "holds no file <utterance id>.TextGrid"),
        (["mine", "--alignments", "gone"], "no folder"),
        (["mine", "--alignments", "mine"], "no TextGrid in mine is named like an utterance of test-c"),
        (["mine", "--alignments", "broken"], "broken/104-7-0000.TextGrid"),
        (["mine", "--output", "mine/hyperparams.yaml"], "hyperparams.yaml"),
    ]:
        assert exit_code(measure.command, options) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert words in line
