"""What train.py says without training: help, the whole YAML of an experiment, one line where it is called wrongly."""

import io

import pytest
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from tiny import ROOT

import train
from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, options, yaml_text
from recipes.LibriSpeech.checks import HPARAMS, SCALES


def test_help_has_every_key_with_comment_default_and_choices(capsys):
    assert train.main(["--help"]) == train.main([str(HPARAMS / "sa.yaml"), "-h"]) == 0
    text = options.help_text()
    assert capsys.readouterr().out == 2 * (text + "\n")
    shared = (HPARAMS / "experiment.yaml").read_text()
    for key in yaml_text.parse(shared):
        assert text.count(f"\n  --{key} ") == 1 and (key,) in yaml_text.comments(shared)  # each has one
    joined = " ".join(text.split())
    for comment in yaml_text.comments(shared).values():
        assert comment in joined
    assert [f"\n{heading}:\n" in text for heading in yaml_text.sections(shared).values()] == [True] * 8
    assert f"One of {', '.join(SCALES)}. [mini]" in joined
    assert "One of all, pretrain, finetune, test, show. [all]" in joined
    assert "Width of the frames. [base 768; cpu, mini 128; medium, small 256]" in joined
    assert "less memory, a third more time. [False; adapt-gpu, base True]" in joined
    assert "epochs 0 leaves pre-training out. [adapt, adapt-gpu, cpu 0; base 200; medium, small 60; mini 2]" in joined
    assert all(f"  --{option} " in text for option in options.RUN_OPTIONS)
    assert max(map(len, text.splitlines())) <= options.WIDTH


def test_every_entry_of_every_attention_is_explained():
    text = " ".join(options.help_text().split())
    for path in HPARAMS.glob("*.yaml"):
        if path.stem != "experiment":
            explained, own = yaml_text.comments(path.read_text()), yaml_text.parse(path.read_text())
            for key, value in own["attention"].items():
                if yaml_text.tag_of(value) != "!ref":
                    assert explained["attention", key] in text


@pytest.mark.parametrize(
    "changes", [{}, {"dim": "48", "attention": "{chunk: 3, reuse: queries}", "scale": "base"}], ids=["", "changed"]
)
def test_show_prints_what_a_run_would_hold_and_does_nothing(tmp_path, monkeypatch, capsys, changes):
    monkeypatch.chdir(tmp_path)
    path = str(ROOT / "hparams" / "llsa.yaml")
    options = [word for key, value in changes.items() for word in (f"--{key}", value)]
    assert train.main([path, "--stage", "show", "--data_folder", "nowhere", *options]) == 0
    shown = capsys.readouterr().out
    overrides = {"data_folder": "nowhere", **changes}
    assert shown == experiment.resolve(path, "\n".join(f"{key}: {value}" for key, value in overrides.items()))
    assert not any(tmp_path.iterdir())
    hparams = load_hyperpyyaml(io.StringIO(shown))
    assert hparams["dim"] == int(changes.get("dim", 128)) and hparams["model"].encoder is hparams["encoder"]
    keys = list(yaml_text.parse((HPARAMS / "experiment.yaml").read_text()))
    assert list(hparams) == keys


def test_comments_stay_with_their_class():
    """An entry of another class of the same name is not explained by the comment of the one that was there."""
    text = experiment.resolve(HPARAMS / "llsa.yaml", "attention: !name:speech_attention.attention.SummaryMixing {chunk: 4}")
    assert "chunk: 4" in text and "revised look-ahead" not in text


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "give the YAML of an attention first: hparams/aa.yaml, "),
        (["hparams/llsa.yaml", "--precision", "fp8"], "precision=fp8 must be fp32 or fp16 or bf16"),
        (["hparams/nothing.yaml"], "no file hparams/nothing.yaml"),
    ],
    ids=["nothing", "choice", "file"],
)
def test_a_wrong_call_ends_in_one_line(capsys, words, message):
    assert train.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_every_option_of_speechbrain_is_supported_or_refused():
    """A new release may bring more: each has to be decided on."""
    known = {action.dest for action in sb.RunOptions._create_parser()._actions} - {"help", "param_file"}
    keys = yaml_text.parse((HPARAMS / "experiment.yaml").read_text()).keys()
    supported = {*options.RUN_OPTIONS, *keys}
    assert known - supported == options.REFUSED.keys()
    for name in options.REFUSED:
        for word in ([], ["1"]):
            with pytest.raises(UserError, match=f"--{name}, an option of SpeechBrain, is not supported here: "):
                options.parse(["hparams/llsa.yaml", f"--{name}", *word])


def test_supported_options_reach_speechbrain(tmp_path):
    """Those of the command line as such, those of the YAML as its values; each is what the Brain then has."""
    given = {"device": "cpu", "distributed_backend": "gloo", "debug_batches": "3", "debug_epochs": "4"}
    keys = {"precision": "bf16", "eval_precision": "bf16", "max_grad_norm": "2.5", "grad_accumulation_factor": "3"}
    keys |= {"ckpt_interval_minutes": "0", "ckpt_interval_steps": "9"}
    words = [word for name, value in {**given, **keys}.items() for word in (f"--{name}", value)]
    path, run_options, overrides = options.parse(["hparams/llsa.yaml", *words, *(f"--{name}" for name in options.FLAGS)])
    hparams, _ = experiment.load(ROOT / path, overrides)
    brain = sb.Brain({"model": hparams["model"]}, hparams=hparams, run_opts=run_options)
    expected = {name: yaml_text.parse(value) for name, value in {**given, **keys}.items()}
    expected |= dict.fromkeys(options.FLAGS, True)
    assert {name: getattr(brain, name) for name in expected} == expected
    assert not any(getattr(brain, name) for name in ("jit", "test_only", "optimizer_step_limit", "auto_mix_prec"))
