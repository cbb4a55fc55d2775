"""`verify` passes for what keeps the contract, and says what is wrong with what does not."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from cases import ATTENTIONS, build_encoder, every_block, every_case
from faulty import FAULTS
from hyperpyyaml import load_hyperpyyaml
from speech_attention.attention import AA, LLSA
from speech_attention.attention.reference import reference_encoder
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.testing import verify, verify_padding, verify_stack, verify_streaming

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
SETTINGS = "num_heads: 2\nleft_context: 6\nlookahead: 2\nkernel_size: 5\npairs: [0, 2]\npositions: rotary\n"
WINDOW = {"num_heads": 2, "left_context": 5, "lookahead": 2}


EXPERIMENTS = sorted({*HPARAMS.glob("*.yaml")} - {HPARAMS / "experiment.yaml"})


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_attention_of_each_experiment_keeps_the_contract(path):
    verify(load_hyperpyyaml(SETTINGS + path.read_text())["attention"], reference=reference_encoder)


@pytest.mark.slow
@every_block
@every_case
def test_every_case_keeps_the_contract(case, block):
    verify_stack(partial(build_encoder, case, block), reference_encoder)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_it_says_what_is_broken(fault):
    options = {"num_heads": 2} if issubclass(fault, AA) else WINDOW
    with pytest.raises(AssertionError) as error:
        verify(partial(fault, **options), reference=reference_encoder)
    assert re.match(rf"{fault.__name__} in \d x TransformerBlock: ", str(error.value))
    assert re.search(FAULTS[fault], str(error.value))


def test_frames_that_come_too_early(monkeypatch):
    encoder = build_encoder(ATTENTIONS["SA"], TransformerBlock)  # 3 blocks of 2 frames
    verify_streaming(encoder)
    monkeypatch.setattr(Encoder, "lookahead", 7)
    with pytest.raises(AssertionError, match=r"1 frames are out once 7 are in, where its look-ahead makes it 0 "):
        verify_streaming(encoder)


def test_something_in_the_padding(monkeypatch):
    encoder, forward = build_encoder(ATTENTIONS["SA"], TransformerBlock), Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda *arguments: (forward(*arguments)[0] + 1, None))
    with pytest.raises(AssertionError, match="the output is not 0 in the padding, where nan stands"):
        verify_padding(encoder)


def test_a_layout_that_reads_less_than_it_declares():
    class Deaf(LLSA):
        def mix(self, *parts, valid, **rest):
            last = torch.tensor([valid.size(2) - 1])
            y, _, *after = super().mix(*parts, valid=valid.index_fill(2, last, False), **rest)
            return y, valid, *after

    with pytest.raises(AssertionError, match="output frame 4 reads 2 frames ahead; it declares 3 frames ahead"):
        verify(partial(Deaf, **WINDOW, chunk=2), blocks=[TransformerBlock])
