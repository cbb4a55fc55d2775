"""Self-supervised objectives: what is masked, what is predicted, and that nothing else tells the answer."""

import math
import sys
from functools import partial

import pytest
import torch
from cases import ATTENTIONS, BLOCKS, DIM, FRONT_ENDS, named, noise
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd, WaveformFrontEnd, WhisperFrontEnd
from speech_attention.objectives import BESTRQ, Wav2Vec2, perplexity, span_mask
from speechbrain.nnet.quantisers import RandomProjectionQuantizer

PAIRS = {
    "BESTRQ-fbank": (BESTRQ, FRONT_ENDS["fbank"]),
    "BESTRQ-whisper": (BESTRQ, partial(WhisperFrontEnd, num_mels=8)),
    "Wav2Vec2-fbank": (Wav2Vec2, FRONT_ENDS["fbank"]),
    "Wav2Vec2-waveform": (Wav2Vec2, FRONT_ENDS["waveform"]),
    "Wav2Vec2-pooled": (Wav2Vec2, partial(WaveformFrontEnd, channels=4, pool=2)),
}
every_pair = pytest.mark.parametrize("objective, front_end", **named(PAIRS))


def waves(*shape, seed=0):
    return noise(*shape, seed=seed, dtype=torch.float32)


def build(objective, front_end, attention="SA", dim=DIM, **options):
    torch.manual_seed(0)
    front_end = front_end(dim)
    front_end.fit(waves(4, 16000, seed=9))  # else all features are near one point, and so near one code
    encoder = Encoder(dim, 2 * dim, 2, BLOCKS["Conformer"], ATTENTIONS[attention].factory(), pool=front_end.pool)
    return objective(front_end, dim, num_codes=32, **options), front_end, encoder


def module_of(objective):
    """The Python module that defines an objective, whose functions a test may replace."""
    return sys.modules[type(objective).__module__]


def spy(module, monkeypatch, name):
    """The list of what `module.name` returns from now on."""
    results, original = [], getattr(module, name)

    def call(*args):
        results.append(original(*args))
        return results[-1]

    monkeypatch.setattr(module, name, call)
    return results


def record(layer):
    """The list of what a layer computes from now on."""
    outputs = []
    layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()))
    return outputs


# Masks


def chance(length, mask_prob, mask_length):
    """Probability of each frame to be masked: the starts of the spans are a uniform draw without replacement."""
    spans = max(1, round(length * mask_prob / mask_length))
    starts = max(1, length - mask_length + 1)
    spans = min(spans, starts)
    covering = [len([s for s in range(starts) if s <= t < s + mask_length]) for t in range(length)]
    return torch.tensor([1 - math.comb(starts - c, spans) / math.comb(starts, spans) for c in covering])


@pytest.mark.parametrize("mask_prob, mask_length", [(0.6, 10), (0.65, 4), (0.1, 10), (1.0, 1)])
def test_each_utterance_is_masked_by_its_own_length(mask_prob, mask_length):
    """Every frame is masked as often as the definition says, whatever the padding and the other utterances."""
    torch.manual_seed(0)
    draws, lengths = 4000, [30, 1, 7, 100]
    repeated = torch.tensor(lengths).repeat(draws)
    for time in (100, 130):
        masks = span_mask(repeated, time, mask_prob, mask_length).view(draws, len(lengths), time)
        for i, length in enumerate(lengths):
            mask, expected = masks[:, i], chance(length, mask_prob, mask_length)
            assert not mask[:, length:].any()
            assert mask.any(dim=1).all()
            # 5 standard errors, and one draw for chances that are almost 0 or 1
            error = 5 * (expected * (1 - expected) / draws).sqrt() + 1 / draws
            assert ((mask[:, :length].float().mean(dim=0) - expected).abs() <= error).all(), (length, time)


def test_masks_are_spans():
    torch.manual_seed(0)
    mask = span_mask(torch.full((200,), 50), 50, 0.2, 10)  # one span
    assert (mask.sum(dim=1) == 10).all()
    assert (mask.int().diff(dim=1, prepend=torch.zeros(200, 1)).clamp(min=0).sum(dim=1) == 1).all()  # in one piece
    short = span_mask(torch.tensor([4]), 50, 0.2, 10)
    assert short.sum() == 4 and short[0, :4].all()  # a span is cut at the end


# BEST-RQ


def test_codes_are_those_of_speechbrain():
    torch.manual_seed(0)
    objective = BESTRQ(FbankFrontEnd(DIM), DIM, num_codes=500).double()
    quantiser = RandomProjectionQuantizer(320, 16, 500).double()
    quantiser.load_state_dict(objective.quantiser.state_dict())
    x = noise(3, 70, 320)
    codes = objective.codes(x)
    assert codes.equal(quantiser(x)) and len(codes.unique()) > 50


def test_targets_do_not_depend_on_mask_or_padding(monkeypatch):
    objective, front_end, encoder = build(BESTRQ, FbankFrontEnd)
    targets = spy(objective, monkeypatch, "codes")
    samples, lengths = waves(2, 9000), torch.tensor([9000, 4000])
    samples[1, 4000:] = math.nan
    for seed in (1, 2):
        torch.manual_seed(seed)
        objective(front_end, encoder, samples, lengths)
    objective(front_end, encoder, samples[1:, :4000], lengths[1:])
    one, two, alone = targets
    assert one.equal(two) and one[1:, : alone.size(1)].equal(alone)
    # the hop that a target is about is its own: other sounds there are another target, and leave all others alone
    targets.clear()
    changed = samples.clone()
    changed[0, 5 * 640 : 5 * 640 + 400] = waves(400, seed=3)
    objective(front_end, encoder, changed, lengths)
    assert (targets[0] != one).nonzero().tolist() == [[0, 5]]


def test_bestrq_loss_is_cross_entropy_with_the_codes_of_masked_frames(monkeypatch):
    objective, front_end, encoder = build(BESTRQ, FbankFrontEnd)
    codes, masks = spy(objective, monkeypatch, "codes"), spy(module_of(objective), monkeypatch, "span_mask")
    predictions = record(objective.head)
    loss, stats = objective(front_end, encoder, waves(2, 16000), torch.tensor([16000, 9000]))
    targets, [logits] = codes[0][masks[0]], predictions
    chances = logits.softmax(dim=-1)[range(len(targets)), targets]
    assert loss.item() == pytest.approx(-chances.log().mean().item(), rel=1e-5)
    assert stats["accuracy"] == pytest.approx((logits.argmax(dim=-1) == targets).float().mean().item())
    assert stats["codes"] == pytest.approx(perplexity(targets))


def test_bestrq_needs_fixed_features():
    with pytest.raises(ValueError, match="FbankFrontEnd"):
        BESTRQ(WaveformFrontEnd(DIM, channels=4), DIM)


# wav2vec 2.0


def test_wav2vec2_loss_is_contrast_with_negatives(monkeypatch):
    objective, front_end, encoder = build(Wav2Vec2, FbankFrontEnd, num_negatives=5, temperature=0.5, diversity=0.0)
    drawn, predictions, quantised = spy(objective, monkeypatch, "_negatives"), record(objective.head), []
    objective.quantiser.register_forward_hook(lambda module, inputs, output: quantised.append(output[0][0].detach()))
    loss, _ = objective(front_end, encoder, waves(2, 16000), torch.tensor([16000, 9000]))
    [negatives], [predicted], [targets] = drawn, predictions, quantised
    losses = []
    for i, prediction in enumerate(predicted):
        others = [targets[j] for j in negatives[i] if not targets[j].equal(targets[i])]  # a like one is no negative
        scores = torch.stack([torch.cosine_similarity(prediction, t, dim=0) / 0.5 for t in (targets[i], *others)])
        losses.append(-scores.log_softmax(dim=0)[0])
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_negatives_are_others_of_the_same_utterance():
    objective, _, _ = build(Wav2Vec2, FbankFrontEnd, num_negatives=2000)
    mask = torch.rand(5, 10).argsort(dim=1) < torch.tensor([[7], [1], [2], [0], [10]])  # so many in each, anywhere
    utterance = mask.nonzero()[:, 0]  # of each masked frame, in the order of `y[mask]`
    for row, negatives in enumerate(objective._negatives(mask)):
        others = [other for other in range(len(utterance)) if utterance[other] == utterance[row] and other != row]
        others = others or [row]  # a frame without others: itself, which the loss leaves out
        assert negatives.unique().tolist() == others  # all of them, and no one else
        expected = 2000 / len(others)  # uniformly: 5 standard deviations of a binomial
        assert ((negatives.bincount()[others] - expected).abs() <= 5 * expected**0.5).all()


# Both


@pytest.mark.parametrize("attention", ["AA", "LLSA"])
@every_pair
def test_masked_frames_are_hidden(objective, front_end, attention, monkeypatch):
    """Sounds that only masked frames read do not reach any prediction, from themselves or from their neighbours."""
    objective, front_end, encoder = build(objective, front_end, attention)
    hop, time, masked = front_end.hop, 20, slice(8, 13)
    mask = torch.zeros(1, time, dtype=torch.bool)
    mask[:, masked] = True
    monkeypatch.setattr(module_of(objective), "span_mask", lambda *args: mask)
    predictions = record(objective.head)
    # the frames after the span read some of its samples: BEST-RQ hides features (the first of the next frame begins 240
    # samples, 15 ms, before its hop), wav2vec 2.0 hides frames (which begin window - hop before theirs)
    overlap = 240 if isinstance(objective, BESTRQ) else front_end.window - hop
    hidden = slice(masked.start * hop, masked.stop * hop - overlap)
    before, after = slice(hidden.start - hop, hidden.start), slice(masked.stop * hop, masked.stop * hop + hop)
    samples = waves(1, time * hop)
    for part in (slice(0, 0), hidden, before, after):
        changed = samples.clone()
        changed[:, part] = waves(1, time * hop, seed=1)[:, part]
        torch.manual_seed(0)
        objective(front_end, encoder, changed, torch.tensor([time * hop]))
    same, hidden, before, after = [(p - predictions[0]).abs().max() for p in predictions]
    assert same == 0 and hidden <= 1e-6  # float32
    assert before > 1e-3 and after > 1e-3  # what is not masked does reach them


@every_pair
def test_padding_changes_no_loss(objective, front_end):
    objective, front_end, encoder = build(objective, front_end)
    lengths, losses = torch.tensor([9000, 5000, 641]), []
    for garbage in (0.0, math.nan, 1e30):
        samples = waves(3, 9500)
        samples[torch.arange(9500) >= lengths[:, None]] = garbage
        torch.manual_seed(1)
        loss, _ = objective(front_end, encoder, samples, lengths)
        loss.backward()
        losses.append(loss.item())
    assert math.isfinite(losses[0]) and losses[0] == losses[1] == losses[2]
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@every_pair
def test_one_frame_utterances(objective, front_end):
    objective, front_end, encoder = build(objective, front_end)
    for samples, lengths in ((waves(1, 100), [100]), (waves(3, 640), [640, 1, 300]), (waves(2, 8000), [8000, 1])):
        loss, stats = objective(front_end, encoder, samples, torch.tensor(lengths))
        loss.backward()
        assert loss.isfinite() and all(math.isfinite(value) for value in stats.values())
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    "objective, rate, options",
    [(BESTRQ, 1e-2, {}), (Wav2Vec2, 3e-3, {"num_negatives": 10})],
    ids=["BESTRQ", "Wav2Vec2"],
)
def test_overfits_one_batch(objective, rate, options):
    objective, front_end, encoder = build(objective, FbankFrontEnd, "AA", dim=16, mask_length=4, **options)
    samples, lengths = waves(2, 9600), torch.tensor([9600, 8000])
    parameters = torch.nn.ModuleList([objective, front_end, encoder]).parameters()
    optimiser, losses = torch.optim.Adam(parameters, lr=rate), []
    for step in range(60):
        loss, stats = objective(front_end, encoder, samples, lengths, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert stats["codes"] > 4  # and not because all targets have become the same


@pytest.mark.parametrize(
    "codes, expected",
    [
        ([3], 1),
        ([7, 7, 7], 1),
        ([0, 5], 2),
        ([0, 1, 2, 3], 4),
        ([[0, 1], [1, 0]], 2),
        ([0, 0, 0, 1], 4 / 3**0.75),  # exp(3/4 log(4/3) + 1/4 log 4)
    ],
)
def test_perplexity(codes, expected):
    assert perplexity(torch.tensor(codes)) == pytest.approx(expected, rel=1e-6)
