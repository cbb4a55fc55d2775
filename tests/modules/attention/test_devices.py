"""Every step as on a GPU, without one: PyTorch works out the shape and device of each tensor, but no values.

So an operator that waits for a value ends the step, as does one whose tensors lie on two devices. The backward pass of `cuda`
needs a driver, so it is tested on the device `meta`.
"""

import copy
import sys
from functools import partial

import pytest
import torch
from cases import (
    ATTENTIONS,
    BLOCKS,
    DIM,
    FAMILIES,
    FRONT_ENDS,
    Case,
    build_encoder,
    build_model,
    every_block,
    every_case,
    named,
    noise,
    streaming,
)
from speech_attention.attention import LLSA
from speech_attention.encoder import Encoder
from speech_attention.objectives import BESTRQ, Wav2Vec2
from speechbrain.nnet.losses import ContrastiveLoss
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OneDevice(TorchDispatchMode):
    """Refuses an operator that reads or makes a tensor elsewhere: what a GPU needs from the host, it waits for."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)}
        assert devices <= {self.device} or self.once(), f"{function} has tensors on {devices}"
        return result

    @staticmethod
    def once():
        """Whether the operator makes a constant, which is kept for all later steps."""
        frame = sys._getframe()
        while frame and not frame.f_code.co_filename.endswith("attention/constant.py"):
            frame = frame.f_back
        return bool(frame)


@pytest.fixture(autouse=True)
def no_values(monkeypatch):
    """PyTorch keeps the values of tensors with one entry, and would copy them to a GPU that is not there."""
    monkeypatch.setattr("torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT", 0)


def to_fake(module, device):
    """Put fake tensors on a device in place of the parameters and buffers of a module."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    tensors[name] = torch.nn.Parameter(fake) if isinstance(tensor, torch.nn.Parameter) else fake
    return module


def advance(model, sizes, device="cuda"):
    """What a recognizer asks of the model for one piece after the other, of so many frames, on two streams."""
    hop = model.front_end.hop
    with FakeTensorMode(), torch.inference_mode():
        state = to_fake(model, device).initial_state(2)
        for frames in sizes:
            samples, valid = torch.empty(2, frames * hop, device=device), torch.empty(2, frames, dtype=torch.bool, device=device)
            with OneDevice(device):
                log_probs, valid, state = model.advance(samples, valid, state)
                best = log_probs.argmax(dim=-1)
    return best, valid


MISTAKES = {
    "value": (lambda x: x * x.sum().item(), DataDependentOutputException),
    "host": (lambda x: x + torch.ones(x.size(-1)), AssertionError),
    "list": (lambda x: x[..., list(range(x.size(-1)))], AssertionError),
    "number": (lambda x: x * torch.tensor(2.0, device=x.device), AssertionError),
}
"""What a norm might do that no GPU likes, and how it is noticed."""


@pytest.mark.parametrize("mistake, error", **named(MISTAKES))
def test_mistakes_are_noticed(mistake, error):
    model = build_model(ATTENTIONS["SA"], BLOCKS["Transformer"], FRONT_ENDS["fbank"], dtype=torch.float32)
    model.encoder.blocks[0].norm.register_forward_hook(lambda module, inputs, output: mistake(output))
    with pytest.raises(error):
        advance(model, [1, 6])


def test_constants_that_are_kept_are_no_fake_ones():
    """After a fake step on a device, which made them first, a real step on that device works."""
    case = Case(LLSA, {"left_context": 13, "lookahead": 9, "revisions": [0, 3, 9]})  # as no other test has it
    model = build_model(case, BLOCKS["Conformer"], FRONT_ENDS["fbank"], dtype=torch.float32)
    advance(copy.deepcopy(model), [12], device="cpu")
    y, _ = model(noise(1, 9600, dtype=torch.float32), torch.tensor([9600]))
    assert y.isfinite().all()


@every_block
@every_case
def test_a_training_step_stays_on_its_device(case, block):
    encoder = build_encoder(case, block, depth=2, dtype=torch.float32, dropout=0.1).train().to("meta")
    x, lengths = torch.empty(3, 70, DIM, device="meta"), torch.empty(3, dtype=torch.long, device="meta")
    with OneDevice("meta"):
        y, _ = encoder(x, lengths)
        y.mean().backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    torch.optim.AdamW(encoder.parameters()).step()  # it counts its steps on the host
    assert y.shape == x.shape and all(parameter.grad.device == x.device for parameter in encoder.parameters())


@every_block
@pytest.mark.parametrize("case", **named(streaming(ATTENTIONS)))
def test_a_streaming_step_stays_on_its_device(case, block):
    best, valid = advance(build_model(case, block, FRONT_ENDS["fbank"], dtype=torch.float32), [1, 2, 6, 70])
    assert best.device.type == "cuda" and best.shape == valid.shape


def test_the_waveform_front_end_streams_on_its_device():
    advance(build_model(ATTENTIONS["SA"], BLOCKS["Transformer"], FRONT_ENDS["waveform"], dtype=torch.float32), [1, 6])


MODELS = {name: partial(build_model, ATTENTIONS["SA"], BLOCKS["Transformer"], FRONT_ENDS[name]) for name in FRONT_ENDS}
MODELS.update({name: partial(FAMILIES[name].build, ATTENTIONS["LLSA-chunk3"], pool=2) for name in FAMILIES})


@pytest.mark.parametrize("build", **named(MODELS))
def test_a_model_in_training_stays_on_its_device(build):
    """From the waveform to log-probabilities. What comes beside it, SpeechBrain's SpecAugment and the CTC loss, reads values."""
    model = build(dtype=torch.float32).train()
    with FakeTensorMode():
        samples, lengths = torch.empty(3, 48000, device="cuda"), torch.empty(3, dtype=torch.long, device="cuda")
        to_fake(model, "cuda")
        with OneDevice("cuda"):
            log_probs, lengths = model(samples, lengths)
    assert log_probs.device.type == lengths.device.type == "cuda"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_public_encoder_streams_on_its_device(name):
    advance(FAMILIES[name].build(ATTENTIONS["LLSA-chunk3"], pool=2, dtype=torch.float32), [3, 30])


@pytest.mark.parametrize("objective, front_end", [(BESTRQ, "fbank"), (Wav2Vec2, "fbank"), (Wav2Vec2, "waveform")])
def test_objectives_stay_on_their_device(objective, front_end, monkeypatch):
    """Masked frames are picked by their values, so their number is not known here, and stands as a symbol."""
    monkeypatch.setattr(ContrastiveLoss, "forward", lambda self, x, y, negatives: (x.sum(), y.mean()))  # it reads values
    front_end = FRONT_ENDS[front_end](DIM)
    encoder = Encoder(DIM, 2 * DIM, 2, BLOCKS["Transformer"], ATTENTIONS["SA"].factory())
    parts = torch.nn.ModuleList([objective(front_end, DIM, num_codes=32), front_end, encoder])
    with FakeTensorMode(shape_env=ShapeEnv()):
        samples, lengths = torch.empty(3, 48000, device="cuda"), torch.empty(3, dtype=torch.long, device="cuda")
        to_fake(parts, "cuda")
        loss, _ = parts[0](*parts[1:], samples, lengths)
    assert loss.device.type == "cuda"
