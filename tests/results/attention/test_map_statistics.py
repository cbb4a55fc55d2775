"""What is measured on attention maps and layers, where the answer is known."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from speech_attention.attention import AA, LLSA, MAA, SA, reference
from speech_attention.attention.summary_mixing import SummaryMixing
from speech_attention.blocks import ConformerBlock, TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd
from speech_attention.model import SpeechEncoder

from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.inference.loading import Trained
from results.attention import map_statistics, probing

ATTENTIONS = {
    "AA": partial(AA),
    "AA-relative": partial(AA, positions="relative"),
    "MAA": partial(MAA, left_context=3, lookahead=2),
    "SA": partial(SA, left_context=3, lookahead=2),
    "LLSA": partial(LLSA, left_context=3, lookahead=2),
    "LLSA-chunk2": partial(LLSA, left_context=3, lookahead=3, chunk=2, revisions=[0, 2, 3], positions="relative"),
}


def speech_encoder(attention, block=TransformerBlock, layers=4, **options):
    torch.manual_seed(0)
    encoder = Encoder(16, 16, layers, block, partial(attention, num_heads=2), **options)
    for parameter in encoder.parameters():  # maps that are far from uniform
        torch.nn.init.normal_(parameter, std=0.7)
    return SpeechEncoder(FbankFrontEnd(16), encoder).double().eval()


def noise(frames, seed=0):
    return torch.randn(640 * frames - 100, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(shared, model, length):
    """The map of the plain loops, a dict from (group, version) to the weight of each such key, as (heads, T, T)."""
    chunk, offsets = model.encoder.layout.chunk, model.encoder.layout.offsets
    full = torch.zeros(2, length, length, dtype=torch.float64)
    for (group, version), weights in shared.items():
        if version < chunk:
            for (g, v), weight in weights.items():
                full[:, group * chunk + version, g * chunk + offsets[v]] += weight
    return full


@pytest.mark.parametrize("owners, reuse", [(None, "map"), ([0, 2], "map"), ([0, 2], "queries")])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_maps_are_those_of_the_plain_loops(name, owners, reuse):
    model = speech_encoder(partial(ATTENTIONS[name], reuse=reuse), owners=owners)
    samples, length, expected, attend = noise(11), 11, [], reference.reference_attention

    def spy(*arguments):
        y, shared = attend(*arguments)
        expected.append(dense(shared, model, length))
        return y, shared

    with torch.no_grad():
        reference.reference_encoder(model.encoder, model.front_end(samples[None], torch.tensor([len(samples)]))[0][0], mix=spy)
    maps = map_statistics.attention_maps(model, samples)
    assert maps.shape == (4, 2, length, length)
    assert torch.allclose(maps, torch.stack(expected), atol=1e-10)
    assert torch.allclose(maps.sum(dim=-1), torch.ones(4, 2, length, dtype=torch.float64))
    assert (maps[0] - maps[1]).abs().max() > 0.1 or owners  # not all the same
    assert not owners or (torch.equal(maps[0], maps[1]) and not torch.allclose(maps[1], maps[2]))
    assert torch.equal(map_statistics.seen(maps), (expected[0] > 0).any(dim=0))


def test_looking_at_maps_and_outputs_changes_nothing():
    model, samples = speech_encoder(ATTENTIONS["LLSA-chunk2"], ConformerBlock), noise(11)
    with torch.no_grad():
        before = model(samples[None], torch.tensor([len(samples)]))[0][0]
        map_statistics.attention_maps(model, samples)
        outputs = probing.layer_outputs(model, samples)
        assert outputs.shape == (4, 11, 16) and torch.allclose(model.encoder.norm(outputs[-1]), before)
        with pytest.raises(AttributeError):
            map_statistics.attention_maps(model, samples.numpy())
        assert torch.equal(model(samples[None], torch.tensor([len(samples)]))[0][0], before)
    for block in model.encoder.blocks:
        assert "mix" not in vars(block.attention) and not block._forward_hooks


def test_what_has_no_maps():
    assert map_statistics.has_maps(speech_encoder(AA)) and not map_statistics.has_maps(speech_encoder(SummaryMixing))
    model = speech_encoder(partial(SummaryMixing, chunk=2))
    assert probing.layer_outputs(model, noise(11)).shape == (4, 11, 16)


@pytest.mark.parametrize("time", [2, 7, 100])
def test_diagonality(time):
    even = map_statistics.distance_profile(torch.full((time, time), 1 / time, dtype=torch.float64))
    assert map_statistics.diagonality(even).item() == pytest.approx((2 * time - 1) / (3 * time))
    assert map_statistics.diagonality(map_statistics.distance_profile(torch.eye(time))) == 1
    for distance in range(time // 2 + 1):
        planted = torch.zeros(2, 3, time, time, dtype=torch.float64)
        for i in range(time):
            j = i + distance if i + distance < time else i - distance
            planted[:, :, i, j] = 1
        profile = map_statistics.distance_profile(planted)
        assert profile[1, 2, distance] == 1 and profile[1, 2].sum() == 1
        assert torch.allclose(map_statistics.diagonality(profile), torch.tensor(1 - distance / (time - 1), dtype=torch.float64))


def test_diagonality_is_the_area_under_the_curve():
    maps = torch.rand(9, 9, dtype=torch.float64).softmax(dim=-1)
    distance = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    r = torch.arange(0.5, 1000) / 1000  # midpoints
    curve = torch.tensor([maps[distance <= x * 8].sum() / 9 for x in r.tolist()])
    assert map_statistics.diagonality(map_statistics.distance_profile(maps)).item() == pytest.approx(
        curve.mean().item(), abs=1e-3
    )


def test_uniform_over_a_window():
    maps = map_statistics.attention_maps(speech_encoder(ATTENTIONS["SA"]), noise(20))
    window = map_statistics.uniform(map_statistics.seen(maps))
    assert window[10].nonzero().flatten().tolist() == [7, 8, 9, 10, 11, 12] and window[10, 7] == pytest.approx(1 / 6)
    assert window[0].nonzero().flatten().tolist() == [0, 1, 2]


def one_hot(columns, time):
    return torch.nn.functional.one_hot(torch.tensor(columns), time).double()


def test_overlaps():
    a, b, c = one_hot([0, 1, 2], 3), one_hot([1, 2, 0], 3), one_hot([0, 2, 1], 3)
    overlap = map_statistics.overlaps(torch.stack([torch.stack([a, b]), torch.stack([c, a])]))
    assert overlap.shape == (2, 2, 2, 2)
    assert overlap[0, 0].tolist() == [[1, 0], [0, 1]]
    assert torch.allclose(overlap[0, 1], torch.tensor([[1, 3], [1, 0]]).double() / 3)  # rows: heads of layer 0
    assert torch.equal(overlap[1, 0], overlap[0, 1].T)
    even = torch.full((3, 3), 1 / 3).double()
    layers = torch.stack([a, (a + b) / 2, even])[:, None]
    assert map_statistics.overlaps(layers)[0, :, 0, 0].tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_heads_are_matched_in_whatever_order():
    maps = torch.randn(5, 12, 12).mul(3).softmax(dim=-1)
    overlap = map_statistics.overlaps(torch.stack([maps, maps[[2, 0, 1, 4, 3]]]))
    assert map_statistics.matched(overlap[0, 1]) == pytest.approx(1, abs=1e-5)
    assert overlap[0, 1].diag().mean() < 0.8
    assert map_statistics.matched(torch.tensor([[0.9, 0.8], [0.7, 0.1]])) == pytest.approx(0.5)  # greedy: 0.9 and what is left


PHONES = torch.tensor([0, 0, 1, 1, 1, 2, 0, 2, 2, 1, -1, 2])
RUNS = [2, 2, 3, 3, 3, 1, 1, 2, 2, 1, 1, 1]  # length of the run that each frame stands in


def lift(maps, visible=None, least=1):
    visible = torch.ones(12, 12, dtype=torch.bool) if visible is None else visible
    return map_statistics.lift(*map_statistics.phone_attention(maps[None].double(), visible, PHONES, 3), least)[0]


def test_lift_of_a_uniform_map_is_1():
    assert torch.allclose(lift(torch.full((12, 12), 1 / 12)), torch.ones(3, 3).double())
    index = torch.arange(12)
    visible = (index[:, None] - index).abs() <= 6
    assert torch.allclose(lift(map_statistics.uniform(visible), visible), torch.ones(3, 3).double())


def test_lift_of_attention_to_one_phone():
    """Phone 2 has 4 of 12 frames, evenly attended by all: T without the own run, over the frames of 2 without it."""
    found = lift((PHONES == 2).double().expand(12, 12) / 4)
    for p in (0, 1):
        own = [RUNS[i] for i in range(12) if PHONES[i] == p]
        expected = 1 / (sum(4 / (12 - run) for run in own) / (4 * len(own)) * 4)  # attention 1 each; even, 1 / (12 - run)
        assert found[p].tolist() == pytest.approx([0, 0, expected])
    left = [(4 - RUNS[i]) / 4 for i in range(12) if PHONES[i] == 2]
    even = [m / (12 - RUNS[i]) * (4 - RUNS[i]) for m, i in zip(left, (5, 7, 8, 11))]
    assert found[2].tolist() == pytest.approx([0, 0, sum(left) / sum(even)])


def test_lift_leaves_the_own_run_out():
    index = torch.arange(12)
    run = torch.repeat_interleave(torch.arange(7), torch.tensor([2, 3, 1, 1, 2, 1, 2]))
    run[11] += 1
    own = map_statistics.uniform(run[:, None] == run)
    assert lift(own).isnan().all()
    mostly = 0.9 * own + 0.1 * map_statistics.uniform(index[:, None] != index)  # its own run more or less does not matter
    other = 0.3 * own + 0.7 * map_statistics.uniform(run[:, None] != run)
    assert torch.allclose(lift(other), torch.ones(3, 3).double())
    assert torch.allclose(lift(mostly), torch.ones(3, 3).double())


def test_lift_of_few_pairs_is_hidden():
    pairs = map_statistics.phone_attention(torch.full((1, 12, 12), 1 / 12), torch.ones(12, 12, dtype=torch.bool), PHONES, 3)[2]
    assert pairs.tolist() == [[4, 12, 12], [12, 6, 16], [12, 16, 10]]
    hidden = lift(torch.full((12, 12), 1 / 12), least=11).isnan()
    assert hidden.tolist() == [[True, False, False], [False, True, False], [False, False, True]]


def planted_features(labels, classes, width, generator):
    code = torch.randn(classes, width, generator=generator)
    return code[labels] + 0.05 * torch.randn(len(labels), width, generator=generator)


def test_probe():
    generator = torch.Generator().manual_seed(0)
    labels, part = torch.randint(5, (3000,), generator=generator), torch.arange(3000) % 3
    features = planted_features(labels, 5, 8, generator)
    assert probing.probe(1000 * features + 500, labels, part) > 99
    assert probing.probe(torch.randn(3000, 8, generator=generator), labels, part) == pytest.approx(20, abs=5)
    wrong = torch.where(part == 2, (labels + 1) % 5, labels)  # what is tested is what it says
    assert probing.probe(features, wrong, part) < 1


def test_weight_decay_is_chosen_on_the_frames_for_that(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    labels, part = torch.randint(5, (3000,), generator=generator), torch.arange(3000) % 3
    labels[part == 0] *= torch.rand(1000, generator=generator) > 0.2  # 0 is the most frequent to train on
    features = planted_features(labels, 5, 8, generator)
    for decays in ((1e3, 1e-3), (1e-3, 1e3)):
        monkeypatch.setattr(probing, "DECAYS", decays)
        assert probing.probe(features, labels, part) > 99
        assert probing.probe(features, labels.masked_fill(part == 1, 0), part) < 30  # there, it is best to say 0


def test_frames_of_the_probe(monkeypatch):
    monkeypatch.setattr(probing, "FRAMES", 100)
    phones = {f"{n % 3}-{n}": (["AH", "S", "T"] * 20)[: 40 + n] for n in range(6)}
    phones["1-1"][20] = None
    frames, labels, part = probing.frame_labels(Data(phones), phones, held_out=["0"])
    assert frames["0-0"].tolist() == list(range(3, 37, 3)) and frames["0-3"].tolist() == list(range(3, 40, 3))  # 255 are too many
    assert frames["1-1"].tolist() == [3, 6, 9, 12, 15, 24, 27, 30, 33, 36]
    assert len(labels) == len(part) == sum(map(len, frames.values()))
    assert labels[0].tolist() == [labels[0, 3], *labels[0, 1:3], *labels[0, :3], labels[0, 0]]
    order = [key.split("-")[0] for key in phones for _ in frames[key]]
    assert all((speaker == "0") == (number == 2) for speaker, number in zip(order, part.tolist()))
    train = part[part < 2].tolist()
    assert train == sorted(train) and sum(train) == len(train) - len(train) * 3 // 4


def test_filterbanks_read_their_stretch():
    filterbanks, samples = probing.Filterbanks(hop=640, window=1360, left=1000, right=320), torch.rand(640 * 10 - 5)
    before = filterbanks(samples)
    assert len(before) == 10
    for frame in (0, 4, 9):
        first, end = (frame + 1) * 640 - 1360 - 1000, (frame + 1) * 640 + 320
        for place in (first - 1, end):
            if 0 <= place < len(samples):
                assert torch.equal(filterbanks(samples.index_fill(0, torch.tensor(place), 9.0))[frame], before[frame])
        inside = min(max(first, 0) + 300, len(samples) - 1)
        assert not torch.equal(filterbanks(samples.index_fill(0, torch.tensor(inside), 9.0))[frame], before[frame])


class Data(list):
    """Utterances of two speakers, as much of a data set as the probe asks for."""

    def __init__(self, phones):
        signals = [torch.full((len(said) * 640,), n / 10) for n, said in enumerate(phones.values())]
        super().__init__({"id": key, "sig": signal} for key, signal in zip(phones, signals))
        self.data_ids, self.data = list(phones), {key: {"spk_id": key.split("-")[0]} for key in phones}


@pytest.mark.parametrize("shift", [-2, 0, 3])
def test_probe_of_layers(shift, monkeypatch):
    """Layer 1 knows the phone of `shift` frames later, layer 2 also who speaks and calls the phones of others otherwise."""
    hparams, config = experiment.load(experiment.HPARAMS / "sa.yaml", "dim: 16\nffn_dim: 16\nnum_layers: 2\nnum_heads: 2\n")
    system, generator = Trained(hparams["model"].eval(), config), torch.Generator().manual_seed(0)
    system.model.front_end.mean.fill_(5)
    names = ["AH", "B", "SIL", "S", None]
    draw = [torch.randint(5, (120 + n,), generator=generator).tolist() for n in range(8)]
    phones = {f"{100 + n % 4}-{n}": [names[i] for i in said] for n, said in enumerate(draw)}
    asked = []

    def outputs(model, samples):
        asked.append(model)
        n = round(samples[0].item() * 10)
        if model is not system.model:
            return torch.rand(2, len(draw[n]), 5)
        later = torch.nn.functional.one_hot(torch.tensor(draw[n]).roll(-shift), 5).float()
        return torch.stack([later, later if n % 4 else later.roll(1, dims=1)])  # the first speaker is the one to test on

    monkeypatch.setattr(probing, "layer_outputs", outputs)
    found = probing.measure_probe(system, Data(phones), phones)
    assert found["speakers"] == {"train": ["101", "102", "103"], "test": ["100"]}
    used = {n: sum(4 not in said[t - 3 : t + 4] for t in range(3, len(said) - 3)) for n, said in enumerate(draw)}
    assert found["frames"] == {"train": sum(used[n] for n in used if n % 4), "test": used[0] + used[4]}
    shifted = dict(zip(found["shifted"]["shifts"], found["shifted"]["layer_1"]))
    assert shifted.pop(shift) == 100 and max(shifted.values()) < 60
    assert found["trained"][1] < 40 and max(found["untrained"]) < 60
    assert found["trained"][0] == (100 if shift == 0 else found["shifted"]["layer_1"][3])
    other = asked[-1]
    assert other is not system.model and torch.equal(other.front_end.mean, system.model.front_end.mean)
    assert not torch.equal(other.encoder.blocks[0].attention.qkv.weight, system.model.encoder.blocks[0].attention.qkv.weight)


def test_no_probe_without_a_second_speaker():
    phones = {"1-0": ["AH"] * 50, "1-1": ["B"] * 50}
    assert probing.measure_probe(SimpleNamespace(), Data(phones), phones) is None
