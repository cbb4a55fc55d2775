"""Which phone is said in each frame, and how well one linear layer can tell from what a layer puts out."""

from bisect import bisect_right

import torch
from speech_attention.front_end import SAMPLE_RATE
from torch import nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

SILENCE = "SIL"
GROUPS = {  # by manner, then by place from the lips backwards; vowels from front to back
    "plosives": "P B T D K G",
    "affricates": "CH JH",
    "fricatives": "F V TH DH S Z SH ZH HH",
    "nasals": "M N NG",
    "approximants": "W L R Y",
    "vowels": "IY IH EY EH AE AH ER AA AO OW UH UW AY AW OY",
    "silence": SILENCE,
}
"""ARPAbet in the order of the figures."""


def fold(label):
    """The phone of an aligner's label: no stress, one silence, None for noise that is no known word.

    Example
    -------
    >>> [fold(label) for label in ("AH0", "S", "sp", "", "spn")]
    ['AH', 'S', 'SIL', 'SIL', None]
    """
    label = label.upper().rstrip("012")
    if label in ("SPN", "<UNK>"):
        return None
    return SILENCE if label in ("", "SIL", "SP") else label


def frame_phones(intervals, frames, hop, window):
    """The phone in the middle of what each frame reads, samples (t + 1) * hop - window .. (t + 1) * hop - 1.

    Arguments
    ---------
    intervals : list of Interval
        Phones, in order; there is silence between them.
    frames : int
    hop, window : int
        Of the front end, samples.

    Returns
    -------
    list of str
        See `fold`.

    Example
    -------
    >>> from recipes.LibriSpeech.alignment import Interval
    >>> frame_phones([Interval("AH0", 0, 1000), Interval("N", 1500, 3000)], frames=5, hop=640, window=640)
    ['AH', 'AH', 'N', 'N', 'N']
    >>> frame_phones([Interval("AH0", 0, 1000), Interval("N", 1500, 3000)], frames=5, hop=640, window=1240)
    ['AH', 'AH', 'SIL', 'N', 'N']
    """
    starts, phones = [interval.start for interval in intervals], []
    for t in range(frames):
        middle = max(0, (t + 1) * hop - window // 2)
        place = bisect_right(starts, middle) - 1
        inside = place >= 0 and middle < intervals[place].end
        phones.append(fold(intervals[place].label if inside else SILENCE))
    return phones


def inventory(found):
    """The phones in the order of `GROUPS`, those that are not ARPAbet after them.

    Example
    -------
    >>> inventory({"AH", "Q", "SIL", "B", None})
    ['B', 'AH', 'SIL', 'Q']
    """
    known = " ".join(GROUPS.values()).split()
    return [phone for phone in known if phone in found] + sorted(found - {None, *known})


@torch.no_grad()
def layer_outputs(encoder, x):
    """What each layer of an encoder puts out.

    Arguments
    ---------
    encoder : Encoder
    x : torch.Tensor
        (time, dim), the frames of one utterance.

    Returns
    -------
    torch.Tensor
        (layers, time, dim), of the final version of each frame, before the norm that ends the encoder.
    """
    outputs, chunk = [], encoder.layout.chunk

    def keep(block, inputs, output):
        outputs.append(output[0][0, :, :chunk].flatten(0, 1)[: len(x)])  # of (1, groups, frames, dim)

    hooks = [block.register_forward_hook(keep) for block in encoder.blocks]
    try:
        encoder(x[None], torch.tensor([len(x)], device=x.device))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(outputs)


class Filterbanks(nn.Module):
    """Log-mel filterbanks every 20 ms of what each frame reads, `left` and `right` samples more of it: no encoder.

    Arguments
    ---------
    hop, window : int
        Of the front end, samples.
    left, right : int
        Samples.

    Example
    -------
    >>> Filterbanks(hop=640, window=1360, left=3200, right=1280)(torch.rand(16000)).shape
    torch.Size([25, 1360])
    """

    def __init__(self, hop, window, left, right):
        super().__init__()
        self.hop, self.before, self.right = hop, window - hop + left, right
        self.mel = MelSpectrogram(SAMPLE_RATE, n_fft=400, hop_length=320, n_mels=80, center=False)

    def forward(self, samples):
        """(samples,) -> (time, features)"""
        padded = F.pad(samples, (self.before, self.right + -len(samples) % self.hop))
        stretches = padded.unfold(0, self.before + self.hop + self.right, self.hop)
        return (self.mel(stretches) + 1e-6).log().flatten(1)


def probe(train, train_labels, test, test_labels):
    """The accuracy of a softmax regression on standardised features: cross-entropy and a little weight decay, to its minimum.

    Arguments
    ---------
    train, test : torch.Tensor
        (frames, features).
    train_labels, test_labels : torch.Tensor
        (frames,), 0 or more.

    Returns
    -------
    float
        %, of the test frames.

    Example
    -------
    >>> x = torch.tensor([[0.0], [0.1], [1.0], [0.9]])
    >>> probe(x, torch.tensor([0, 0, 1, 1]), x, torch.tensor([0, 0, 1, 0]))
    75.0
    """
    mean, std = train.mean(dim=0), train.std(dim=0).clamp(min=1e-6)
    train, test = (train - mean) / std, (test - mean) / std
    weight = torch.zeros(int(max(train_labels.max(), test_labels.max())) + 1, train.size(1), requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), train_labels) + 1e-4 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return 100 * (F.linear(test, weight, bias).argmax(dim=-1) == test_labels).double().mean().item()
