"""Two commits side by side: each process has its own code, and the operators that one of them adds are seen."""

import json
import shutil
import subprocess

import pytest

from recipes.command_line import UserError
from results import ROOT
from results.speed import against


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of its own, with the project's code and a scale `mini` that is small."""
    here = tmp_path / "repository"
    here.mkdir()
    for name in (".types", "modules", "recipes", "hparams"):
        shutil.copytree(ROOT / name, here / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    scale = here / "hparams" / "scale" / "mini.yaml"
    changed = {"dim": 16, "ffn_dim": 16, "num_layers": 2, "num_heads": 2}
    lines = [line for line in scale.read_text().splitlines() if line.split(":")[0] not in changed]
    scale.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in changed.items())]))
    git = ["git", "-C", str(here), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    monkeypatch.setattr(against, "ROOT", here)
    monkeypatch.setattr(against, "TURN_MS", 1)
    return here


@pytest.mark.slow
def test_operators_that_a_change_adds_are_counted_and_the_results_stay(repository, tmp_path, capsys):
    encoder = repository / "modules" / "encoder.py"
    before = "return self.norm("
    assert encoder.read_text().count(before) == 1
    encoder.write_text(encoder.read_text().replace(before, "x = x.neg().neg().neg().neg()\n        return self.norm("))
    path = tmp_path / "against.json"
    words = ["HEAD", "--only", "train-mini-sa", "stream-mini-sa", "--seconds", "1", "--repeats", "2", "--threads", "1"]
    assert against.main([*words, "--output", str(path)]) == 0, capsys.readouterr().err
    cells = {(cell["group"], cell["variant"]): cell for cell in json.loads(path.read_text())["cells"]}
    assert cells.keys() == {("train-mini", "sa"), ("stream-mini", "sa")}
    for (group, _), cell in cells.items():
        assert cell["after"]["operators"] - cell["before"]["operators"] == (8 if group == "train-mini" else 4)  # and backward
        assert cell["after"]["value"] == cell["before"]["value"]
        assert all(len(cell[side][clock]) == 2 for side in ("before", "after") for clock in ("ms", "cpu_ms"))
    shown = capsys.readouterr().out
    assert against.main([*words, "--output", str(path), "--report"]) == 0 and capsys.readouterr().out == shown


def test_a_commit_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no commit v0"):
        against.unpack("v0", tmp_path)
