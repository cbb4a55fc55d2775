"""Attentions that break the contract, each in one way, and what `verify` says of each."""

import math

import torch
from speech_attention.attention import AA, SA


class Further(SA):
    """Reads one frame more than it declares."""

    def _attend(self, q, k, v, *rest):
        return super()._attend(q, k.roll(-1, dims=1), v.roll(-1, dims=1), *rest)


class Nearer(SA):
    """Reads one frame less than it declares."""

    def _attend(self, q, k, v, *rest):
        return super()._attend(q, k.roll(1, dims=1), v.roll(1, dims=1), *rest)


class Later(SA):
    """Reads further ahead in every frame from the 30th on."""

    def mix(self, q, k, v, **rest):
        (y, *more), (ahead, *_) = (super(Later, self).mix(q, k.roll(-n, 1), v.roll(-n, 1), **rest) for n in (0, 3))
        late = torch.arange(q.size(1)) >= 30
        return torch.where(late[:, None, None, None], ahead, y), *more


class Peeking(SA):
    """Reads the sign of a frame to come, which no gradient shows."""

    def mix(self, *parts, **rest):
        y, valid, *more = super().mix(*parts, **rest)
        ahead = torch.nn.functional.pad((y * valid[..., None, None]).sign().detach(), (0, 0, 0, 0, 0, 0, 0, 3))[:, 3:]
        return y + ahead, valid, *more


class HalfWhole(SA):
    """Says that it reads the whole utterance, and reads a window."""

    layer_lookahead = math.inf

    def __init__(self, **options):
        super().__init__(**options)
        self.window, self.layer_lookahead = self.layer_lookahead, math.inf

    def mix(self, *parts, **rest):
        self.layer_lookahead = self.window
        mixed = super().mix(*parts, **rest)
        self.layer_lookahead = math.inf
        return mixed


class Padded(SA):
    """Sees the padding of a batch."""

    def mix(self, *parts, valid, state=None, **rest):
        y, seen, *more = super().mix(*parts, valid=valid if state else torch.ones_like(valid), state=state, **rest)
        return y, seen if state else valid, *more


class NormalisedByTheBatch(SA):
    """Its outputs depend on the other utterances of the batch."""

    def mix(self, *parts, **rest):
        y, *more = super().mix(*parts, **rest)
        return y + 1e-6 * y.mean(dim=0, keepdim=True).detach(), *more


class NormalisedInTraining(SA):
    """Has a BatchNorm, which reads the other utterances and the padding in training alone."""

    def __init__(self, **options):
        super().__init__(**options)
        self.batch_norm = torch.nn.BatchNorm1d(self.num_heads)

    def finish(self, y):
        return super().finish(self.batch_norm(y.flatten(0, -3)).view_as(y))


class UndefinedGradient(SA):
    """Divides by zero where there is padding: its output is right, and the gradient is NaN."""

    def __init__(self, **options):
        super().__init__(**options)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def mix(self, *parts, **rest):
        y, valid, *more = super().mix(*parts, **rest)
        return y * torch.where(valid, self.scale / valid, 0)[..., None, None], valid, *more


class OtherStep(SA):
    """Differs by a little while it streams."""

    def mix(self, *parts, state=None, **rest):
        y, *more = super().mix(*parts, state=state, **rest)
        return y * (1 + 1e-6 * (state is not None)), *more


class Forgetful(SA):
    """Forgets the oldest frame of its left context from one step to the next."""

    def mix(self, *parts, state=None, **rest):
        if state is not None:
            state = {**state, "valid": state["valid"].index_fill(1, torch.tensor([0]), False)}
        return super().mix(*parts, state=state, **rest)


class Late(SA):
    """Holds each frame back by one more."""

    def mix(self, *parts, valid, state=None, **rest):
        if state is None:
            return super().mix(*parts, valid=valid, **rest)
        y, valid, after, shared = super().mix(*parts, valid=valid, state=state, **rest)
        y, valid = torch.cat([state["y"], y], dim=1), torch.cat([state["late"], valid], dim=1)
        return y[:, :-1], valid[:, :-1], {**after, "y": y[:, -1:], "late": valid[:, -1:]}, shared

    def initial_state(self, batch_size):
        y = self.output.weight.new_zeros(batch_size, 1, 1, self.num_heads, self.head_dim)
        return {**super().initial_state(batch_size), "y": y, "late": torch.zeros(batch_size, 1, 1, dtype=torch.bool)}


class Kept(SA):
    """Keeps something of all the frames that it has seen; a subclass says what."""

    def keep(self, before, v):
        raise NotImplementedError

    def mix(self, q, k, v, state=None, **rest):
        y, valid, after, shared = super().mix(q, k, v, state=state, **rest)
        return y, valid, {**after, "kept": self.keep(state["kept"], v)} if state else after, shared

    def initial_state(self, batch_size):
        state = super().initial_state(batch_size)
        return {**state, "kept": state["v"][:, :1]}


class Growing(Kept):
    """Its state grows."""

    def keep(self, before, v):
        return torch.cat([before, v[:, :, 0]], dim=1)


class Hoarding(Kept):
    """Its state keeps its shape, as a view of a tensor that grows."""

    def keep(self, before, v):
        memory = torch.cat([before.new_empty(0).set_(before.untyped_storage()), v.flatten()])
        return memory[: before.numel()].view_as(before)


class Renaming(SA):
    """Its state gets another entry once there are frames."""

    def mix(self, *parts, state=None, **rest):
        y, valid, after, shared = super().mix(*parts, state=state, **rest)
        return y, valid, {**after, "last": after["v"][:, -1:]} if after else after, shared


class Sideways(Kept):
    """Its state has the streams at axis 1."""

    def keep(self, before, v):
        return before

    def initial_state(self, batch_size):
        state = super().initial_state(batch_size)
        return {**state, "kept": state["v"][:, :1].transpose(0, 1)}


class InPlace(Kept):
    """Changes the state that it is given."""

    def keep(self, before, v):
        return before.add_(1)


class Remembering(SA):
    """Keeps a state of its own, beside the one that it returns."""

    calls = 0

    def mix(self, *parts, state=None, **rest):
        y, *more = super().mix(*parts, state=state, **rest)
        self.calls += state is not None
        return y * (1 + 1e-6 * self.calls), *more


class Elsewhere(SA):
    """Keeps the state in the module, which begins anew with each stream, and returns nothing of it."""

    def initial_state(self, batch_size):
        self.kept = super().initial_state(batch_size)
        return {"nothing": self.output.weight.new_zeros(batch_size, 1)}

    def mix(self, *parts, state=None, **rest):
        if state is None:
            return super().mix(*parts, **rest)
        y, valid, self.kept, shared = super().mix(*parts, state=self.kept, **rest)
        return y, valid, state, shared


class OfOneAge(SA):
    """Takes all streams of a batch to be as old as the first one."""

    def mix(self, *parts, valid, state=None, **rest):
        return super().mix(*parts, valid=valid if state is None else valid[:1].expand_as(valid), state=state, **rest)


class Ageing(SA):
    """Is another function after 200 frames of an utterance, but not of a stream."""

    def mix(self, *parts, state=None, **rest):
        y, *more = super().mix(*parts, state=state, **rest)
        return (y if state else torch.cat([y[:, :200], 2 * y[:, 200:]], dim=1)), *more


class StreamingAA(AA):
    """Offers a streaming form, and has none."""

    def initial_state(self, batch_size):
        return {}


class Unfinished(SA):
    """Has no streaming form, and a look-ahead that says that it has one."""

    def initial_state(self, batch_size):
        raise NotImplementedError


class Overflowing(SA):
    """Is too large for half precision."""

    def mix(self, q, k, v, **rest):
        y, *more = super().mix(q, k, v, **rest)
        return y * torch.inf if y.dtype == torch.bfloat16 else y, *more


class Shifted(SA):
    """Another function than its definition."""

    def finish(self, y):
        return super().finish(y) * 1.001


class Detached(SA):
    """The right function, with another gradient."""

    def mix(self, q, k, v, **rest):
        return super().mix(q, k.detach(), v, **rest)


FAULTS = {
    Further: r"1 x TransformerBlock: output frame 2 reads 3 frames ahead; it declares 2 frames ahead",
    Nearer: r"1 x TransformerBlock: output frame 2 reads 1 frames ahead; it declares 2 frames ahead",
    Later: r"output frame 40 reads 5 frames ahead; it declares 2 frames ahead",
    HalfWhole: r"output frame 2 reads 2 frames ahead; it declares the whole utterance",
    Peeking: r"streaming differs from `forward` \(torch.float64, 7 frames .*\): by \S+ at \[\d, \d+, \d+\]",
    Padded: r"the output of an utterance of \d+ frames, with nan in the padding of its batch, is not what it is alone: by",
    NormalisedByTheBatch: r"the output of an utterance of 20 frames, with nan in the padding of its batch, is not what",
    NormalisedInTraining: r"the output of an utterance of \d+ frames, with nan in the padding of its batch, is not what",
    UndefinedGradient: r"with nan in the padding, the gradient of blocks\.0\.attention\.scale is not that of .*: by inf",
    OtherStep: r"streaming differs from `forward` .*: by \d\.\de-0[567] at .*, where at most 1e-10 is allowed",
    Forgetful: r"streaming differs from `forward`",
    Late: r"streaming differs from `forward` .*: its shape is \(2, 0, 16\), not \(2, 1, 16\)",
    Growing: r"the state blocks\.0\.attention\.kept does not keep its shape: \(2, 1, 2, 8\) before .*, \(2, 11, 2, 8\) after 10",
    Renaming: r"the state blocks\.0\.attention\.last does not keep its shape: None before .*, \(2, 1, 2, 8\) after 10 frames",
    Hoarding: r"the state grows: \d+ bytes after 50 frames, \d+ bytes after 500",
    Sideways: r"the state blocks\.0\.attention\.kept of 2 streams has the shape \(1, 2, 2, 8\), not the streams at axis 0",
    InPlace: r"`step` changes the state that it is given: \['blocks\.0\.attention\.kept', .*\]",
    Remembering: r"streaming differs from `forward`",
    Elsewhere: r"after 3 frames, a stream is changed by others that have run in between: ",
    OfOneAge: r"after \d+ frames?, a stream is changed by others in its batch: ",
    Ageing: r"streaming differs from `forward` \(500 frames\): by",
    StreamingAA: r"a look-ahead of inf frames is declared: `initial_state` must raise ValueError, not return a state",
    Unfinished: r"a look-ahead of 6 frames is declared: `initial_state` must return a state, not raise NotImplementedError",
    Overflowing: r"the output is not finite under autocast to bfloat16",
    Shifted: r"the output differs from the plain loop's \(1 frames\): by",
    Detached: r"the gradient of the input differs from the plain loop's \(\d frames\): by",
}
