"""Values of an experiment that cannot be: one line before anything is done, which `--stage show` gives too."""

import contextlib
import io

import pytest

import train
from recipes.LibriSpeech import yaml_text
from recipes.LibriSpeech.checks import HPARAMS, LITERAL
from tests.faults.case import Case, check

CONFORMER = "--block '!name:speech_attention.blocks.ConformerBlock {kernel_size: !ref <kernel_size>}'"
FINITE, LARGE = "must be a finite number", "is too large"
CASES = (
    # Numbers
    Case("TRAIN --dropout .nan", ("dropout=nan", FINITE)),
    Case("TRAIN --dropout 1", ("dropout=1 must be a part of the activations",)),
    Case("TRAIN --dropout -.1", ("dropout=-0.1 must be",)),
    Case("TRAIN --max_grad_norm .inf", ("max_grad_norm=inf", FINITE)),
    Case("TRAIN --max_grad_norm=-1", ("max_grad_norm=-1 must be above 0",)),
    Case("TRAIN --weight_decay 1e400", ("weight_decay=inf", FINITE)),
    Case("TRAIN --dim 0", ("dim=0 must be from 1",)),
    Case("TRAIN --dim 1000000", ("dim=1000000 must be from 1 to 65,536",)),
    Case("TRAIN --ffn_dim -16", ("ffn_dim=-16 must be from 1",)),
    Case("TRAIN --num_heads -2", ("num_heads=-2 must be from 1",)),
    Case("TRAIN --num_layers 0", ("num_layers=0 must be from 1",)),
    Case(f"TRAIN --kernel_size 0 {CONFORMER}", ("kernel_size=0 must be from 1",)),
    Case("TRAIN --left_context -1", ("left_context=-1 must be from 0",)),
    Case("TRAIN --lookahead 2000000", ("lookahead=2000000 is too large: at most 1,500",)),
    Case(
        "train $root/hparams/llsa.yaml --stage show --left_context 10000 --attention '{lookahead: 3}'",
        ("left_context: 10000",),
        0,
    ),
    Case("TRAIN --attention '{left_context: 10001}'", ("attention.left_context=10001 is too large: at most 10,000",)),
    # Keys that nothing reads
    Case("train $root/hparams/aa.yaml --lookahead 3", ("--lookahead would change nothing", "reads this key: leave it out")),
    Case("train $root/hparams/summary_mixing.yaml --left_context 8", ("--left_context would change nothing",)),
    Case("TRAIN --kernel_size 5", ("--kernel_size would change nothing",)),
    Case("TRAIN --pairs '[0]'", ("--pairs would change nothing",)),
    Case("TRAIN --attention '!name:speech_attention.attention.AA {num_heads: 2}' --left_context 8", ("would change nothing",)),
    Case("TRAIN --seed -1", ("seed=-1 must be from 0",)),
    Case("TRAIN --seed '!ref <dim> * 1.5'", ("seed=24.0 must be from 0 to 4,294,967,295, a whole number",)),
    Case("TRAIN --seed 1180591620717411303424", ("seed=1180591620717411303424", LARGE)),
    Case("TRAIN --finetune '{epochs: 1e9}'", ("finetune.epochs=1000000000.0 must be a whole number",)),
    Case("TRAIN --finetune '{epochs: 1000000000}'", ("finetune.epochs=1000000000 is too large: at most 1,000,000",)),
    Case("TRAIN --finetune '{lr: 1e30}'", ("finetune.lr=1e+30 must be above 0, to 100",)),
    Case("TRAIN --pretrain '{warmup: 1}'", ("pretrain.warmup=1 must be a part of all updates",)),
    Case("TRAIN --pretrain '{batch_seconds: .inf}'", ("pretrain.batch_seconds=inf", FINITE)),
    Case("TRAIN --num_workers 1000000", ("num_workers=1000000 must be from 0 to 1,024",)),
    Case("TRAIN --eval_batch_size 0", ("eval_batch_size=0 must be from 1",)),
    Case("TRAIN --ckpt_interval_minutes -1", ("ckpt_interval_minutes=-1 must be from 0",)),
    Case("TRAIN --ckpt_interval_steps .5", ("ckpt_interval_steps=0.5 must be a whole number",)),
    Case("TRAIN --ckpt_interval_minutes 5", ("ckpt_interval_minutes and ckpt_interval_steps are both above 0",)),
    Case("TRAIN --opt_class '{eps: .nan}'", ("opt_class.eps=nan", FINITE)),
    Case("TRAIN --opt_class '{betas: [.nan, 0.9]}'", ("opt_class.betas.0=nan", FINITE)),
    Case("TRAIN --attention '{lookahead: 99999999999}'", ("attention.lookahead=99999999999", LARGE)),
    Case("TRAIN --attention '{chunk: 2.5}'", ("attention.chunk=2.5 must be a whole number",)),
    Case("TRAIN --attention '{num_heads: null}'", ("attention.num_heads=None must be a whole number",)),
    Case("TRAIN --attention '{positions: 3}'", ("positions=3 must be one of rotary",)),
    Case("TRAIN --download null", ("download=None must be True or False",)),
    Case("TRAIN --front_end '{num_mels: 4000000000}'", ("front_end.num_mels=4000000000 is too large",)),
    # Parts that do not fit together
    Case("TRAIN --front_end '{dim: 7}'", ("front_end.dim is not the dim of the experiment: give dim instead",)),
    Case("TRAIN --encoder '{num_layers: 1}'", ("encoder.num_layers is not the num_layers of the experiment",)),
    Case("TRAIN --encoder '{ffn_dim: 8}'", ("encoder.ffn_dim is not",)),
    Case("TRAIN --model '{num_tokens: 5}'", ("model: tells 5 tokens apart, and there are 29",)),
    Case("TRAIN --front_end '{num_mels: 0}'", ("num_mels=0 must be 1 filter or more",)),
    Case("TRAIN --front_end '{floor: -1.0}'", ("floor=-1.0 must be more than 0",)),
    Case(
        "TRAIN --front_end '!new:torch.nn.Linear {in_features: 3, out_features: 16}'", ("'Linear' object has no attribute 'dim'",)
    ),
    Case("TRAIN --front_end '!new:torch.nn.Identity'", ("'Identity' object has no attribute 'dim'",)),
    Case("TRAIN --encoder '!new:torch.nn.Identity {}'", ("Identity", "dim")),
    Case("TRAIN --model '!new:collections.Counter {}'", ("no attribute 'front_end'",)),
    Case("TRAIN --model '!new:torch.nn.Identity {}'", ("no attribute 'front_end'",)),
    Case("TRAIN --block '!name:builtins.dict {}'", ("dict expected at most 1 argument",)),
    Case("TRAIN --block '!name:torch.nn.Linear {}'", ("block: Linear needs in_features",)),
    Case("TRAIN --attention '!name:torch.nn.MultiheadAttention {num_heads: 2}'", ("MultiheadAttention",)),
    Case("TRAIN --attention '!name:builtins.print {}'", ("invalid keyword argument for print()",)),
    Case("TRAIN --objective '!name:torch.nn.Identity {}'", ("objective: ",)),
    Case("TRAIN --objective '!name:builtins.dict {}'", ("objective: ",)),
    Case("TRAIN --objective '{num_codes: 0}'", ("objective: num_codes=0",)),
    # Augmentation
    *(
        Case(
            f"TRAIN --speed_perturb '{{speeds: {speeds}}}'", ("speed_perturb.speeds=", "percents, whole numbers from 10 to 1000")
        )
        for speeds in ("[]", "[0]", "[-5]", "[a]", "[100, 0]", "[90.5]", "[100000]", "null")
    ),
    Case("TRAIN --speed_perturb '{speeds: 90}'", ("speed_perturb.speeds=90 must be a list",)),
    Case("TRAIN --speed_perturb null", ("speed_perturb=None must be a block",)),
    Case("TRAIN --speed_perturb '!name:builtins.len {}'", ("speed_perturb: ",)),
    Case("TRAIN --spec_augment '[3]'", ("spec_augment=[3] must be a list of what hides parts",)),
    Case("TRAIN --spec_augment '[!name:builtins.len {}]'", ("spec_augment: ",)),
    Case("TRAIN --spec_augment '[!new:torch.nn.Flatten {}]'", ("spec_augment: makes ", "of features")),
    Case(  # a block of one entry, whose tag was once taken for its key
        "TRAIN --stage show --spec_augment '[!new:speechbrain.augment.freq_domain.SpectrogramDrop {drop_length_high: 6}]'",
        ("- !new:speechbrain.augment.freq_domain.SpectrogramDrop", "drop_length_high: 6"),
        0,
    ),
    # Optimisers and schedule
    Case("TRAIN --opt_class '!name:torch.optim.SparseAdam {}'", ("opt_class: SparseAdam does not support",)),
    Case("TRAIN --opt_class '!name:torch.optim.LBFGS {}'", ("opt_class: LBFGS",)),
    Case("TRAIN --opt_class '!name:torch.optim.Muon {}'", ("opt_class: ",)),
    Case("TRAIN --opt_class '!name:builtins.dict {}'", ("opt_class makes a dict, not an optimiser",)),
    Case(
        "TRAIN --opt_class '{lr: 0.1}'", ("opt_class.lr would not be used: set pretrain.lr, finetune.lr and finetune.encoder_lr",)
    ),
    Case("TRAIN --matrix_opt_class '!name:torch.optim.SparseAdam {lr: 0.1}'", ("matrix_opt_class: SparseAdam does not support",)),
    Case("TRAIN --schedule '!name:math.floor {}'", ("schedule: ",)),
    Case("TRAIN --schedule '{warmup: 0.5}'", ("schedule.warmup would not be used: set pretrain.warmup",)),
    # Entries
    Case("TRAIN --attention '{dim: 7}'", ("attention.dim would not be used: set dim",)),
    Case("TRAIN --attention '{role: owner}'", ("attention.role would not be used: set owners",)),
    Case(
        "TRAIN --attention '{chunks: 3}'", ("LLSA has no entry chunks; did you mean chunk?; it takes num_heads, left_context,",)
    ),
    Case(
        "TRAIN --attention '!name:speech_attention.attention.SA {}'", ("attention: SA needs num_heads, left_context, lookahead",)
    ),
    Case("TRAIN --attention '!name:speech_attention.attention.SA [2, 3]'", ("attention: give the entries of", "by their names")),
    Case(
        "TRAIN --attention '!nwe:speech_attention.attention.SA {}'", ("attention: !nwe:speech_attention.attention.SA is no tag",)
    ),
    Case("TRAIN --attention '!name:speech_attention.attention.SB {}'", ("speech_attention.attention.SB",)),
    Case("TRAIN --attention '!name:nowhere.SA {}'", ("no such entity as nowhere.SA",)),
    Case("TRAIN --attention '{num_heads: !ref <nothing>}'", ('The reference "nothing" is not valid',)),
    Case("TRAIN --attention '{num_heads: !ref <dropout> * x}'", ("attention.num_heads=0.05 * x must be a whole number",)),
)


MORE = [pytest.param(case, marks=pytest.mark.campaign) for case in CASES[1::2]]  # half of them: the suite stays fast


@pytest.mark.parametrize("case", [*CASES[::2], *MORE], ids=ascii)
def test_values(case, place):
    check(case, place)


ODD = ("", "null", "[]", "{}", "-1", "0", ".nan", ".inf", "1e400", "abc", "!x", "[1", "99999999999999999999", "2024-99-99")
TAKEN = {"null": {"owners", "lookaheads", "position", "matrix_opt_class"}, "[]": {"spec_augment"}}
TAKEN["{}"] = {"attention", "block", "front_end", "encoder", "model", "objective", "pretrain", "finetune", "speed_perturb"}
TAKEN["{}"] |= {"opt_class", "schedule"}
TAKEN["0"] = {"seed", "left_context", "lookahead", "dropout", "weight_decay", "num_workers"}
TAKEN["0"] |= {"gain_db", "ckpt_interval_minutes", "ckpt_interval_steps"}
SMALL = {"dim": "16", "ffn_dim": "16", "num_heads": "2", "num_layers": "2"}
KEYS = [key for key in yaml_text.parse((HPARAMS / "experiment.yaml").read_text()) if key not in LITERAL and "splits" not in key]
SWEEP = [(key, value) for key in KEYS for value in ODD]


def taken(key, value):
    """Whether train.py shows an experiment with this value; where not, it says one line about it."""
    err, out = io.StringIO(), io.StringIO()
    words = [word for name, text in {**SMALL, key: value, "stage": "show"}.items() for word in (f"--{name}", text)]
    if key == "stage":
        words[-1] = value
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = train.main([str(HPARAMS / "llsa.yaml"), *words])
    if code:
        assert code == 2 and not out.getvalue() and len(err.getvalue().splitlines()) == 1 and "error: " in err.getvalue()
    return code == 0


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.campaign) for part in range(1, 9))])
def test_odd_values_of_every_key(part):
    """Each with each; one ninth of them in the plain suite, every key among these."""
    some = SWEEP[part::9]
    assert {key for key, _ in some} == set(KEYS)
    assert [pair for pair in some if taken(*pair)] == [pair for pair in some if pair[0] in TAKEN.get(pair[1], ())]
