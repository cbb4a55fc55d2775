"""What fine-tuning holds back, at its start or for ever, and the levels at which it hears utterances."""

from functools import partial
from types import SimpleNamespace

import pytest
import speechbrain as sb
import torch
from speech_attention.attention import AA
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd
from speech_attention.model import SpeechEncoder
from speechbrain.dataio.batch import PaddedBatch
from tiny import arguments, fails

import train
from recipes.LibriSpeech import saved
from recipes.LibriSpeech.training.brain import StageBrain
from recipes.LibriSpeech.training.optimization import by_depth

HELD = "head_updates: 3, freeze_front_end: True, layer_decay: 0.5"


@pytest.fixture
def tune(tree, tmp_path, monkeypatch, capsys):
    """A function that fine-tunes in 8 updates, or until it is stopped before one; the weights before each, and at the end."""
    root, begin = tree(), StageBrain.on_fit_batch_start
    entries = f"{{epochs: 2, lr: 0.1, encoder_lr: 0.1, warmup: 0, batch_seconds: 6, {HELD}}}"
    options = {"pretrain": "{epochs: 0}", "finetune": entries, "stage": "finetune", "weight_decay": "0"}

    def run(name, stop=None):
        seen = []

        def keep(self, *rest):
            if self.optimizer_step == stop:
                raise OSError("stopped")
            begin(self, *rest)
            seen.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})

        monkeypatch.setattr(StageBrain, "on_fit_batch_start", keep)
        if stop is None:
            assert train.main(arguments(root, tmp_path / name, **options)) == 0
        else:
            assert "stopped" in fails(capsys, root, tmp_path / name, **options)
        return [*seen, torch.load(saved.latest(tmp_path / name / "finetune" / "checkpoints").path / "model.ckpt")]

    return run


def test_the_head_trains_first_then_all_but_what_is_frozen(tune):
    """A stop inside the updates of the head alone, and one just after them, change nothing."""
    weights = tune("whole")
    assert len(weights) == 8 + 1

    def change(name, before, after):
        return (weights[after][name] - weights[before][name]).abs().max().item()

    assert {name for name in weights[0] if change(name, 0, 3)} == {"head.weight", "head.bias"}
    moved = {name for name in weights[0] if change(name, 3, 4)}
    frozen = {name for name in weights[0] if name.startswith("front_end.") and not name.startswith("front_end.linear.")}
    assert len(frozen) > 2 and moved == weights[0].keys() - frozen
    rates = [
        change(name, 3, 4) for name in ("encoder.blocks.1.norm.weight", "encoder.blocks.0.norm.weight", "front_end.linear.weight")
    ]
    assert rates == pytest.approx([rates[0], rates[0] / 2, rates[0] / 4], rel=1e-3)  # AdamW's first step is as long as its rate
    assert change("encoder.norm.weight", 3, 4) == pytest.approx(rates[0], rel=1e-3)
    for stop in (2, 4):
        tune("stopped", stop)
    again = tune("stopped")
    assert len(again) == 4 + 1 and all(torch.equal(again[-1][name], weights[-1][name]) for name in weights[-1])


def test_each_training_utterance_has_a_level_of_its_own():
    brain = SimpleNamespace(device="cpu", hparams=SimpleNamespace(gain_db=6.0))
    batch = PaddedBatch([{"sig": torch.linspace(-0.1, 0.1, 50 + n)} for n in range(200)])
    plain, lengths = StageBrain.audio(brain, batch, sb.Stage.VALID)
    torch.manual_seed(0)
    samples, same = StageBrain.audio(brain, batch, sb.Stage.TRAIN)
    assert torch.equal(plain, batch.sig.data) and torch.equal(same, lengths) and lengths.tolist() == list(range(50, 250))
    gains = 20 * torch.log10(samples[:, 0] / plain[:, 0])
    assert gains.min() >= -6.01 and gains.max() <= 6.01 and gains.std() == pytest.approx(12 / 12**0.5, rel=0.1)
    torch.testing.assert_close(samples, plain * 10 ** (gains[:, None] / 20))
    brain.hparams.gain_db = 0.0
    chance = torch.get_rng_state()
    assert torch.equal(StageBrain.audio(brain, batch, sb.Stage.TRAIN)[0], plain) and torch.equal(torch.get_rng_state(), chance)


def test_a_table_of_the_whole_stack_learns_as_slowly_as_the_first_block():
    encoder = Encoder(8, 8, 3, TransformerBlock, partial(AA, num_heads=2, positions="gated"))
    groups = by_depth(SpeechEncoder(FbankFrontEnd(8), encoder), rate=1.0, decay=0.5)
    rates = {id(parameter): rate for parameters, rate in groups for parameter in parameters}
    assert [rates[id(block.attention.output.weight)] for block in encoder.blocks] == [0.25, 0.5, 1.0]
    assert rates[id(encoder.blocks[2].attention.buckets.weight)] == 0.25
