"""The optimisers and the schedule of an experiment, made from what its YAML names."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from speech_attention.model import SpeechEncoder
from torch.nn import Parameter
from torch.optim import Optimizer

from recipes.command_line import UserError
from recipes.LibriSpeech.yaml_text import naming

Groups = Sequence[tuple[Sequence[Parameter], float]]
"""Parameters, and the learning rate that the schedule multiplies."""


def by_depth(model: SpeechEncoder, rate: float, decay: float) -> Groups:
    """The front end and the encoder, the nearer to the waveform the slower (Clark et al., ICLR 2020; Bao et al., ICLR 2022).

    Arguments
    ---------
    model : SpeechEncoder
    rate : float
        Learning rate of the last block, and of the norm after it.
    decay : float
        Each block has this part of the rate of the next one; the front end, and positions before the blocks, of the first.

    Returns
    -------
    list of (list of Parameter, float)
        Those that require a gradient, a group for each rate.
    """
    blocks = model.encoder.blocks
    below = {id(p): number for number in range(len(blocks), 0, -1) for p in blocks[number - 1].parameters()}  # of the first one
    below |= {id(p): len(blocks) for p in model.encoder.norm.parameters()}
    groups: dict[float, list[Parameter]] = {}
    for parameter in [*model.front_end.parameters(), *model.encoder.parameters()]:
        if parameter.requires_grad:
            groups.setdefault(rate * decay ** (len(blocks) - below.get(id(parameter), 0)), []).append(parameter)
    return [(parameters, rate) for rate, parameters in groups.items()]


def optimizers(hparams: Mapping[str, Any], groups: Groups, matrices: Sequence[Parameter]) -> dict[str, Optimizer]:
    """One optimiser, or two where the YAML names a `matrix_opt_class`.

    Arguments
    ---------
    hparams : dict
        The loaded YAML: `opt_class` and `matrix_opt_class`, each called with parameter groups.
    groups : list of (list of Parameter, float)
        All parameters, with their learning rates.
    matrices : list of Parameter
        Those of them that `matrix_opt_class` trains if there is one, at the learning rate that it names itself.

    Returns
    -------
    dict
        The optimisers by their names in checkpoints. Each parameter group has its learning rate twice: `lr`, which the
        schedule changes, and `base_lr`, which stays.

    Raises
    ------
    UserError
        If a class does not take its entries, or is no optimiser.

    Example
    -------
    >>> classes = {"opt_class": torch.optim.SGD, "matrix_opt_class": None}
    >>> made = optimizers(classes, [([Parameter(torch.zeros(2))], 0.1)], [])
    >>> made["optimizer"].param_groups[0]["base_lr"]
    0.1
    """
    if hparams["matrix_opt_class"] is None:
        return {"optimizer": _make("opt_class", hparams, [{"params": list(some), "lr": rate} for some, rate in groups])}
    apart = set(map(id, matrices))
    rest = [{"params": [p for p in some if id(p) not in apart], "lr": rate} for some, rate in groups]
    made = {"optimizer": _make("opt_class", hparams, rest)}
    made["muon"] = _make("matrix_opt_class", hparams, [{"params": list(matrices)}])  # its name in checkpoints, whatever its class
    return made


def _make(key: str, hparams: Mapping[str, Any], groups: list[dict[str, Any]]) -> Optimizer:
    """An optimiser of the class that the YAML has under `key`."""
    opt_class = hparams[key]
    if not callable(opt_class):
        raise UserError(f"{key}={opt_class} must name a class of optimisers, such as !name:torch.optim.AdamW {{}}")
    entries = getattr(opt_class, "keywords", {})
    rate = entries.get("lr", 1.0)
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise UserError(f"{key}.lr={rate} must be a number above 0")
    with naming(key):
        optimizer = opt_class(groups)
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"{key} makes a {type(optimizer).__name__}, not an optimiser")
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def check(hparams: Mapping[str, Any]) -> None:
    """Refuse optimisers and a schedule that cannot be used, before anything else is done.

    Arguments
    ---------
    hparams : dict
        The loaded YAML.

    Raises
    ------
    UserError
        With the key that is wrong.
    """
    head, bias, matrix = Parameter(torch.zeros(1)), Parameter(torch.zeros(1)), Parameter(torch.zeros(1, 1))
    made = optimizers(hparams, [([head], 1.0), ([bias, matrix], 1.0)], [matrix])  # two groups, as fine-tuning has them
    for parameter in (head, bias, matrix):
        parameter.grad = torch.ones_like(parameter)
    for key, optimizer in zip(("opt_class", "matrix_opt_class"), made.values()):
        with naming(key):
            optimizer.step()
    if not all(parameter.isfinite().all() for parameter in (head, bias, matrix)):
        raise UserError("opt_class or matrix_opt_class makes weights that are not finite in one step: change its entries")
    schedule: Callable[..., Any] = hparams["schedule"]
    if not callable(schedule):
        raise UserError(f"schedule={schedule} must name a function, such as !name:speech_attention.schedule.warmup_cosine {{}}")
    with naming("schedule"):
        factors = [float(schedule(update, 10, 0.1)) for update in range(10)]
    if not all(0 <= factor < math.inf for factor in factors):
        raise UserError(f"schedule gives the factor {next(f for f in factors if not 0 <= f < math.inf)}: it must be 0 or more")


HELD = {("cpu", 60.0): 45.0, ("mini", 60.0): 35.0, ("mini", 40.0): 30.0}
"""Seconds of audio in a batch, where so many were asked for at a scale, before `data.batches` held what is asked for."""


_FRONT_END, _ENCODER = {"pool": 1}, {"position": None, "pool": 1, "norm": True}
ADDED: dict[str, Any] = {
    "start": None, "start_sha256": None, "form": None, "position_lookahead": 0,
    "positions": "rotary", "position": None, "pool": 1, "norm": True, "gain_db": 0.0, "teacher": None, "tokens": "letters",
    "finetune": {"head_updates": 0, "freeze_front_end": False, "layer_decay": 1.0},
    "front_end": _FRONT_END, "encoder": _ENCODER, "model": {"front_end": _FRONT_END, "encoder": _ENCODER},
}  # fmt: skip
"""Keys and entries of blocks that older configurations lack, with the values at which nothing is done."""


def _filled(config: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and the entries that it lacks; blocks that it lacks are not made."""
    blocks = {key: entries for key, entries in added.items() if isinstance(entries, dict)}
    inner = {key: _filled(config[key], entries) for key, entries in blocks.items() if isinstance(config.get(key), dict)}
    return {**{key: value for key, value in added.items() if key not in blocks}, **config, **inner}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in today's keys: an older one gets those of `ADDED`, and optimisers and schedule as they were built in.

    Batches are those that it had, and optimisers those that compute the same.

    Arguments
    ---------
    config : dict
        Of a run, plain values as in its `config.json`.

    Returns
    -------
    dict
        Its values, with `opt_class`, `matrix_opt_class` and `schedule` in place of `muon_lr`.

    Example
    -------
    >>> completed({"weight_decay": 0.01, "muon_lr": 0.02})["matrix_opt_class"]
    {'class': '!name:recipes.LibriSpeech.training.muon.Muon', 'lr': 0.02, 'weight_decay': 0.01}
    >>> completed({"finetune": {"epochs": 5}})["finetune"]
    {'head_updates': 0, 'freeze_front_end': False, 'layer_decay': 1.0, 'epochs': 5}
    """
    config = _filled(config, ADDED) if "finetune" in config else dict(config)
    if "opt_class" in config or "weight_decay" not in config:
        return config
    decay, rate = config["weight_decay"], config.get("muon_lr")
    stages: dict[str, Any] = {name: dict(config[name]) for name in ("pretrain", "finetune") if name in config}
    for stage in stages.values():
        stage["batch_seconds"] = HELD.get((config["scale"], stage["batch_seconds"]), stage["batch_seconds"])
    return {
        **{key: value for key, value in config.items() if key != "muon_lr"},
        **stages,
        "opt_class": {"class": "!name:torch.optim.AdamW", "betas": [0.9, 0.98], "weight_decay": decay, "fused": True},
        "matrix_opt_class": rate and {"class": "!name:recipes.LibriSpeech.training.muon.Muon", "lr": rate, "weight_decay": decay},
        "schedule": {"class": "!name:speech_attention.schedule.warmup_cosine"},
    }
