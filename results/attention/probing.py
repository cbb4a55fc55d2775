"""What the layers of an encoder know of phones, as one linear layer finds it.

The encoder is frozen; the probe is trained on some speakers and tested on others. Two controls say what an accuracy means:
the same probe on the layers of an encoder with random weights, and on filterbanks.
"""

import math

import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import SpeechEncoder
from speechbrain.dataio.dataset import DynamicItemDataset
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram
from tqdm import tqdm

from recipes.LibriSpeech.data.dataset import spread
from recipes.LibriSpeech.inference import loading
from recipes.LibriSpeech.inference.loading import Trained
from results.attention.phones import inventory

DECAYS = (1e-1, 1e-2, 1e-3)  # weight decays to choose from: wide features, such as filterbanks, need more
FRAMES = 32_000  # for training and test together; of more frames an even selection is taken
SHIFTS = range(-3, 4)  # frames by which the labels are shifted
CONTEXT = SAMPLE_RATE // 5  # samples that the filterbanks may read before a frame, and after it if the encoder looks ahead


@torch.no_grad()
def layer_outputs(model: SpeechEncoder, samples: Tensor) -> Tensor:
    """The output of each layer of an encoder.

    Arguments
    ---------
    model : SpeechEncoder
    samples : torch.Tensor
        (samples,)

    Returns
    -------
    torch.Tensor
        (layers, time, dim), of the final version of each frame, before the norm that ends the encoder.
    """
    outputs, time, chunk = [], -(-len(samples) // model.front_end.hop), model.encoder.layout.chunk

    def keep(block, inputs, output):
        outputs.append(output[0][0, :, :chunk].flatten(0, 1)[:time])  # of (1, groups, frames, dim)

    hooks = [block.register_forward_hook(keep) for block in model.encoder.blocks]
    try:
        model(samples[None], torch.tensor([len(samples)]))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(outputs)


def untrained(system: Trained) -> SpeechEncoder:
    """The same model with random weights. The statistics of its front end are those of the trained one."""
    torch.manual_seed(0)
    model = loading.build(system.config["model"]).eval()
    model.load_state_dict(dict(system.model.named_buffers()), strict=False)
    return model


class Filterbanks(nn.Module):
    """Log-mel filterbanks, every 20 ms, of the audio that a frame reads and of `left` and `right` samples around it.

    Arguments
    ---------
    hop, window : int
        Of the front end, samples.
    left, right : int
        Samples.

    Example
    -------
    >>> Filterbanks(hop=640, window=1360, left=3200, right=1280)(torch.rand(16000)).shape
    torch.Size([25, 1440])
    """

    def __init__(self, hop: int, window: int, left: int, right: int):
        super().__init__()
        self.hop, self.before, self.right = hop, window - hop + left, right
        self.mel = MelSpectrogram(SAMPLE_RATE, n_fft=400, hop_length=320, n_mels=80, center=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(samples,) -> (time, features)"""
        padded = F.pad(samples, (self.before, self.right + -len(samples) % self.hop))
        stretches = padded.unfold(0, self.before + self.hop + self.right, self.hop)
        return (self.mel(stretches) + 1e-6).log().flatten(1)


def probe(features: Tensor, labels: Tensor, part: Tensor) -> float:
    """The accuracy of a softmax regression on standardised features, trained to the minimum of cross-entropy and weight decay.

    Arguments
    ---------
    features : torch.Tensor
        (frames, features).
    labels : torch.Tensor
        (frames,), 0 or more.
    part : torch.Tensor
        (frames,): 0 for frames to train on, 1 for those that choose the weight decay, 2 for those to test on.

    Returns
    -------
    float
        Percent of the frames to test on.

    Example
    -------
    >>> labels, part = torch.tensor([0, 1] * 6), torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
    >>> probe(labels[:, None] + 0.1 * torch.rand(12, 1), labels, part)
    100.0
    """
    train, choose, test = (part == number for number in range(3))
    features = (features - features[train].mean(dim=0)) / features[train].std(dim=0).clamp(min=1e-6)
    inputs, targets = features[train], labels[train]
    weight = torch.zeros(int(labels.max()) + 1, features.size(1), requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    found = []
    for decay in DECAYS:  # each begins where the one before it ended
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

        def loss():
            optimizer.zero_grad()
            value = F.cross_entropy(F.linear(inputs, weight, bias), targets) + decay * weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        with torch.no_grad():
            right = (F.linear(features, weight, bias).argmax(dim=-1) == labels).double()
        found.append((right[choose].mean().item(), right[test].mean().item()))
    return 100 * max(found, key=lambda pair: pair[0])[1]


def frame_labels(
    data: DynamicItemDataset, phones: dict[str, list[str | None]], held_out: list[str]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Which frames the probe is trained and tested on, and their phones.

    Arguments
    ---------
    data : DynamicItemDataset
    phones : dict
        From utterance id to the phone of each frame, None where it is not known.
    held_out : list of str
        Speakers to test on.

    Returns
    -------
    frames : dict
        From utterance id to the numbers of the frames that are used.
    labels : torch.Tensor
        (frames, shifts): the number of the phone of each of these frames and of the frames around it, as far as `SHIFTS` go.
    part : torch.Tensor
        (frames,), see `probe`. The last quarter of the frames of the other speakers chooses the weight decay.
    """
    numbers = {phone: number for number, phone in enumerate(inventory(set().union(*phones.values())))}
    every = math.ceil(sum(map(len, phones.values())) / FRAMES)
    frames, labels, test = {}, [], []
    for key in data.data_ids:
        around = [-1] * max(SHIFTS)
        said = torch.tensor([*around, *(numbers.get(phone, -1) for phone in phones[key]), *around]).unfold(0, len(SHIFTS), 1)
        frames[key] = torch.tensor([t for t in range(0, len(said), every) if (said[t] >= 0).all()], dtype=torch.long)
        labels.append(said[frames[key]])
        test.append(torch.full((len(frames[key]),), data.data[key]["spk_id"] in held_out))
    part = 2 * torch.cat(test)
    train = (part == 0).nonzero().flatten()
    part[train[len(train) * 3 // 4 :]] = 1
    return frames, torch.cat(labels), part


def measure_probe(system: Trained, data: DynamicItemDataset, phones: dict[str, list[str | None]]) -> dict | None:
    """The accuracy of a linear probe on each layer, on the layers of an untrained encoder, and on filterbanks.

    Arguments
    ---------
    system : Trained
    data : DynamicItemDataset
    phones : dict
        From utterance id to the phone of each frame, None where it is not known.

    Returns
    -------
    dict or None
        None if fewer than two speakers have phones.
    """
    speakers = sorted({data.data[key]["spk_id"] for key in data.data_ids})
    held_out = spread(speakers, max(1, round(len(speakers) / 4)))
    frames, labels, part = frame_labels(data, phones, held_out)
    train, test = labels[part < 2, -SHIFTS[0]], labels[part == 2, -SHIFTS[0]]
    if not len(test) or len(train) < 4:
        return None

    front_end, other = system.model.front_end, untrained(system)
    right = min(CONTEXT, system.model.encoder.lookahead * front_end.hop)
    filterbanks = Filterbanks(front_end.hop, front_end.window, CONTEXT, right)
    sources = {
        "trained": lambda samples: layer_outputs(system.model, samples),
        "untrained": lambda samples: layer_outputs(other, samples),
        "filterbanks": lambda samples: filterbanks(samples)[None],
    }

    def accuracy(features, shift=0):
        return round(probe(features, labels[:, shift - SHIFTS[0]], part), 2)

    result = {
        "frames": {"train": len(train), "test": len(test)},
        "speakers": {"train": [speaker for speaker in speakers if speaker not in held_out], "test": held_out},
        "filterbank_context_ms": [1000 * CONTEXT / SAMPLE_RATE, 1000 * right / SAMPLE_RATE],
    }
    for source, outputs in sources.items():
        features = []
        for place in tqdm(range(len(data)), desc=f"probe, {source}", unit="utterance", disable=None, leave=False):
            utterance = data[place]
            features.append(outputs(utterance["sig"])[:, frames[utterance["id"]]])
        features = torch.cat(features, dim=1)  # (layers, frames, dim)
        result[source] = [accuracy(layer) for layer in tqdm(features, desc="probes", disable=None, leave=False)]
        if source == "trained":
            result["shifted"] = {"shifts": list(SHIFTS), "layer_1": [accuracy(features[0], shift) for shift in SHIFTS]}
    result["filterbanks"] = result["filterbanks"][0]
    result["most_frequent"] = round(100 * (test == train.mode().values).double().mean().item(), 2)
    return result
