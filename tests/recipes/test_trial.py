"""The step on noise before a training: it refuses what is not finite, and leaves nothing behind."""

import random

import pytest
import torch
from tiny import ROOT

from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, trial

SMALL = "{dim: 16, ffn_dim: 16, num_heads: 2, num_layers: 2}"


@pytest.fixture
def hparams():
    return experiment.load(ROOT / "hparams" / "llsa.yaml", SMALL)[0]


def test_chance_and_the_model_stay_as_they_were(hparams):
    model = hparams["model"]
    model.norm = torch.nn.BatchNorm1d(29)  # whose statistics change with each pass
    model.register_forward_hook(lambda module, inputs, output: (module.norm(output[0].mT).mT, output[1]))
    before, drawn = (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        (torch.get_rng_state(), random.getstate()),
    )
    trial.run(hparams)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn[0]) and random.getstate() == drawn[1]
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("weight, message", [("head.weight", "training: gives the loss nan"), ("front_end.mean", "loss nan")])
def test_what_is_not_finite_is_refused(hparams, weight, message):
    hparams["model"].state_dict()[weight].fill_(float("nan"))
    with pytest.raises(UserError, match=message):
        trial.run(hparams)


def test_a_gradient_that_is_not_finite_is_refused(hparams):
    hparams["model"].head.bias.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(UserError, match="training: gives gradients that are not finite"):
        trial.run(hparams)
