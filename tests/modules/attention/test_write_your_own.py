"""What modules/attention/README.md tells a stranger to write works as it stands there."""

import re
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml
from speech_attention import attention
from speech_attention.attention.base import Mixer
from speech_attention.testing import verify
from torch import nn

FOLDER = Path(attention.__file__).parent
PAGE = (FOLDER / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.M | re.S)
MODULE, TEST, LOOP, BIAS = (code for language, code in BLOCKS if language == "python")
[YAML] = (text for language, text in BLOCKS if language == "yaml")


@pytest.fixture(autouse=True)
def fading(monkeypatch):
    """The module of the page, under the name that it would have."""
    module = types.ModuleType("speech_attention.attention.fading")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(MODULE, vars(module))
    monkeypatch.setattr(attention, "fading", module, raising=False)
    return module


def test_the_tests_of_the_page_pass():
    names = {}
    exec(TEST + LOOP, names)
    names["test_fading"]()
    names["test_fading_is_the_loop"]()


@pytest.mark.slow
def test_they_fail_where_they_must(fading, monkeypatch):
    names = {}
    exec(TEST + LOOP, names)
    monkeypatch.setattr(fading.Fading, "finish", lambda self, y: 2 * self.output(y))
    names["test_fading"]()
    with pytest.raises(AssertionError, match="the output differs from the plain loop's"):
        names["test_fading_is_the_loop"]()
    monkeypatch.setattr(fading.Fading, "layer_lookahead", 1)
    with pytest.raises(AssertionError, match="output frame 2 reads 0 frames ahead; it declares 1 frames ahead"):
        names["test_fading"]()


def test_the_yaml_of_the_page_makes_its_attention(fading):
    factory = load_hyperpyyaml("left_context: 6\n" + YAML)["attention"]
    assert isinstance(factory(dim=8), fading.Fading) and factory(dim=8).window == 6


def test_the_files_of_the_page_are_as_the_project_has_them():
    """Whoever saves them sees no complaint of the linter, nor of the tests of hparams/."""
    for name, code in (("modules/attention/fading.py", MODULE), ("tests/modules/attention/test_fading.py", TEST)):
        command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", name, "-"]
        found = subprocess.run(command, input=code, cwd=FOLDER.resolve().parents[1], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout
    assert YAML.splitlines()[1] == (FOLDER.resolve().parents[1] / "hparams" / "sa.yaml").read_text().splitlines()[1]


@pytest.mark.parametrize("base", ["SA", "LLSA", "AA"])
def test_the_attention_that_changes_scores_alone_keeps_the_contract(base):
    names = {}
    exec(BIAS.replace("(SA)", f"({base})").replace("import SA", f"import {base}"), names)
    options = {} if base == "AA" else {"left_context": 5, "lookahead": 2}
    verify(partial(names["FadingSA"], num_heads=2, **options))


def test_the_page_names_every_hook_and_every_file():
    hooks = {name for name in vars(Mixer) if not name.startswith("_")}
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.M))
    assert named == hooks - vars(nn.Module).keys()
    files = set(re.findall(r"`(\w+\.py)`", PAGE.split("\n## ")[0]))
    assert files == {path.name for path in FOLDER.glob("*.py")} - {"__init__.py"}
