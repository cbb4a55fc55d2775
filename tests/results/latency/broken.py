"""Parts that break what they declare, for the controls of `test_budget.py`; YAML names them, e.g. `!new:broken.Late`."""

import torch
from speech_attention.attention import AA, LLSA, SA
from speech_attention.blocks import ConformerBlock, TransformerBlock
from speech_attention.front_end import FbankFrontEnd
from speech_attention.model import CTCModel


class Normalised(FbankFrontEnd):
    """Looks at the mean of the whole utterance."""

    def features(self, samples, lengths):
        return super().features(samples - samples.mean(dim=1, keepdim=True), lengths)


class WideWindow(FbankFrontEnd):
    """Reads one hop more than it declares."""

    def features(self, samples, lengths):
        return super().features(samples + samples.roll(-self.hop, dims=1), lengths)


class DetachedNorm(FbankFrontEnd):
    """Looks at the mean of the whole utterance, past the gradient."""

    def features(self, samples, lengths):
        return super().features(samples - samples.detach().mean(dim=1, keepdim=True), lengths)


class LongNorm(FbankFrontEnd):
    """Looks at the mean of the whole utterance if that is longer than a second."""

    def features(self, samples, lengths):
        return super().features(samples - samples.mean(dim=1, keepdim=True) * (samples.size(1) > 16000), lengths)


class LaterSA(SA):
    """Reads 5 frames more at every frame from the 10th on."""

    def mix(self, q, k, v, **rest):
        (y, *more), (ahead, *_) = (super(LaterSA, self).mix(q, k.roll(-n, 1), v.roll(-n, 1), **rest) for n in (0, 5))
        late = torch.arange(q.size(1)) >= 10
        return torch.where(late[:, None, None, None], ahead, y), *more


class Signs(TransformerBlock):
    """Reads the sign of a frame to come."""

    def forward(self, x, *context):
        x, *rest = super().forward(x, *context)
        return x + x.roll(-3, 1).sign().detach(), *rest


class CentredConformer(ConformerBlock):
    """Its convolution reads half a kernel ahead."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.convolution.centred = True

    def forward(self, x, valid, table, state=None, shared=None):
        x, valid, after, shared = super().forward(x, valid, table, state, shared)
        return x, valid, {**after, "convolution": (state or after)["convolution"]}, shared


class ShiftedSA(SA):
    """Each layer reads `shift` frames more than its `layer_lookahead` says, or less."""

    def __init__(self, shift, **options):
        super().__init__(**options)
        self.shift = shift

    def _attend(self, q, k, v, *rest):
        return super()._attend(q, k.roll(-self.shift, dims=1), v.roll(-self.shift, dims=1), *rest)


class EagerLLSA(LLSA):
    """Each layer sees the local frames of the next group in place of those of its `layout`."""

    def mix(self, q, k, v, **rest):
        return super().mix(q, k.roll(-1, dims=1), v.roll(-1, dims=1), **rest)


class DeafLLSA(LLSA):
    """Does not see the last look-ahead frame of its `layout`."""

    def mix(self, *parts, valid, **rest):
        last = torch.tensor([valid.size(2) - 1])
        y, _, *after = super().mix(*parts, valid=valid.index_fill(2, last, False), **rest)
        return y, valid, *after


class CausalAA(AA):
    """Says that it looks at nothing to come."""

    layer_lookahead = 0

    def mix(self, *parts, **rest):
        return *super().mix(*parts, **rest)[:2], {}, None

    def initial_state(self, batch_size):
        return {}


class Late(CTCModel):
    """Computes what it should and, from frame `since` on, holds each frame back until the next one is there."""

    def __init__(self, since, **parts):
        super().__init__(**parts)
        self.since = since

    def initial_state(self, batch_size):
        held, done = torch.zeros(batch_size, 0, 29), torch.tensor(0)
        return {"model": super().initial_state(batch_size), "held": held, "done": done}

    def step(self, samples, state):
        y, model = super().step(samples, state["model"])
        y = torch.cat([state["held"], y], dim=1)
        ready = y.size(1) - 1 if y.size(1) and state["done"] + y.size(1) > self.since else y.size(1)
        return y[:, :ready], {"model": model, "held": y[:, ready:], "done": state["done"] + ready}


class Silent(CTCModel):
    """Nothing ever comes out."""

    def step(self, samples, state):
        y, state = super().step(samples, state)
        return y[:, :0], state
