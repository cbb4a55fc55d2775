"""One step on a quarter of a second of noise before anything else is done, so that what cannot be trained ends at once."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from speech_attention.front_end import SAMPLE_RATE

from recipes.LibriSpeech.training.teacher import make_objective, takes_teacher
from recipes.LibriSpeech.yaml_text import naming


def run(hparams: Mapping[str, Any]) -> None:
    """Refuse an experiment whose parts do not work together; all states of chance and of the model stay as they were.

    It takes about as long as making the model did, 0.1 s at scale mini: the audio is short, and no optimiser steps.

    Arguments
    ---------
    hparams : dict
        See `experiment.build`.

    Raises
    ------
    UserError
        Names the part that fails, or gives what is not finite.
    """
    model, chance = hparams["model"], random.getstate()
    with torch.random.fork_rng(devices=[]):
        buffers = [(buffer, buffer.clone()) for buffer in _of(model, "buffers")]
        try:
            _step(hparams)
        finally:
            random.setstate(chance)
            for buffer, before in buffers:
                buffer.copy_(before)
            for parameter in _of(model, "parameters"):
                parameter.grad = None


def _of(model: Any, what: str) -> list[torch.Tensor]:
    """Its parameters or buffers, none where it is no module at all."""
    return list(getattr(model, what)()) if isinstance(model, torch.nn.Module) else []


def _step(hparams: Mapping[str, Any]) -> None:
    """A forward and a backward pass through all parts."""
    model, dim = hparams["model"], hparams["dim"]
    samples, lengths = 0.1 * torch.randn(1, SAMPLE_RATE // 4), torch.tensor([SAMPLE_RATE // 4])
    with naming("speed_perturb"):
        perturbed = hparams["speed_perturb"](samples)
        _expect(perturbed.ndim == 2 and perturbed.size(1) > 0, "gives no audio")
    with naming("front_end"):
        frames, _ = model.front_end(samples, lengths)
        _expect(frames.size(-1) == dim, f"gives frames of width {frames.size(-1)}, and dim is {dim}")
        features, _ = model.front_end.features(perturbed, lengths * perturbed.size(1) // samples.size(1))
    with naming("spec_augment"):
        for drop in hparams["spec_augment"]:
            changed = drop(features)
            _expect(changed.shape == features.shape, f"makes {tuple(changed.shape)} of features {tuple(features.shape)}")
    with naming("model"):
        log_probs, _ = model(samples, lengths)
        known = len(hparams["tokens"])
        _expect(log_probs.size(-1) == known, f"tells {log_probs.size(-1)} tokens apart, and there are {known}")
        loss = log_probs.mean()
    if hparams["pretrain"]["epochs"] and (hparams["teacher"] or not takes_teacher(hparams["objective"])):
        with naming("objective"):
            objective = make_objective(hparams, hparams["teacher"])
            loss = loss + objective(model.front_end, model.encoder, samples, lengths, 0)[0]
    with naming("training"):
        loss.backward()
        _expect(bool(loss.isfinite()), f"gives the loss {loss.item()} for noise")
        gradients = (p.grad for p in model.parameters() if p.grad is not None)
        _expect(all(bool(gradient.isfinite().all()) for gradient in gradients), "gives gradients that are not finite for noise")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
