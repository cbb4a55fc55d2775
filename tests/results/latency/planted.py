"""Systems for the tests of what comes after training: one that says what it is told to, and tiny ones with random weights."""

from functools import partial

import soundfile
import torch
from speech_attention.attention import LLSA
from speech_attention.blocks import TransformerBlock
from speech_attention.encoder import Encoder
from speech_attention.front_end import FrontEnd
from speech_attention.model import CTCModel
from speechbrain.utils.checkpoints import Checkpointer

from recipes.LibriSpeech import experiment, run_folder
from recipes.LibriSpeech.inference.loading import Trained
from recipes.LibriSpeech.tokens import LETTERS

HOP = 640
TINY = "dim: 16\nffn_dim: 16\nnum_layers: 2\nnum_heads: 2\nleft_context: 5\n"


class Script(FrontEnd):
    """The samples of each frame say its token."""

    hop = window = HOP
    dim = 30

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def extract(self, samples):
        return (100 * samples).round().long().unflatten(1, (-1, HOP))[:, :, 0]

    def project(self, features):
        return torch.nn.functional.one_hot(features, self.dim).float()


class Echo(Encoder):
    """Frames come out as they went in, as late as the layout and the look-ahead say."""

    def _run(self, x, valid, position, states=None, outputs=None):
        frames = self.layout.groups(x.size(1)) * self.layout.chunk
        return x[:, :frames], valid[:, :frames], states


def scripted(attention=partial(LLSA, left_context=1, lookahead=2)):
    """A system that recognises `script`, with the look-ahead of an attention."""
    encoder = Echo(Script.dim, 8, 1, TransformerBlock, partial(attention, num_heads=1))
    model = CTCModel(Script(), encoder, len(LETTERS)).eval()
    with torch.no_grad():
        model.head.weight.copy_(20 * torch.eye(*model.head.weight.shape))
        model.head.bias.zero_()
    return Trained(model, {})


def script(frames, samples=0):
    """Audio that says a character in each frame, "_" for the blank; `samples` more follow, of a blank."""
    tokens = torch.tensor([0 if character == "_" else LETTERS.texts.index(character) for character in frames])
    return torch.cat([(tokens / 100).repeat_interleave(HOP), torch.zeros(samples)])


def random_model(yaml, overrides=""):
    """The model and the configuration of a tiny experiment; its head is random, and centred, so that it says a lot."""
    hparams, config = experiment.load(experiment.HPARAMS / f"{yaml}.yaml", TINY + overrides)
    model, samples = hparams["model"].eval(), 0.1 * torch.randn(1, 64000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
        y, _ = model.encoder(*model.front_end(samples, torch.tensor([64000])))
        model.head.bias.copy_(-model.head.weight @ y[0].mean(0))
        model.head.bias[LETTERS.texts.index(" ")] += 1.5 * model.head(y).std()  # short words
    return model, config


def save_experiment(folder, root, yaml="llsa", overrides=""):
    """Write the folder of a tiny experiment as training leaves it, with the data in `root`; returns it as `Trained`."""
    splits = "train_splits: [train-a]\ndev_splits: [dev-b]\ntest_splits: [test-c]\n"
    overrides = f"{overrides}\n{splits}data_folder: {root}\n"
    model, config = random_model(yaml, overrides)
    folder.mkdir()
    text = experiment.resolve(experiment.HPARAMS / f"{yaml}.yaml", TINY + overrides)
    run_folder.save(folder, text, data={}, command="")
    Checkpointer(folder / "finetune" / "checkpoints", {"model": model}).save_checkpoint(meta={"WER": 50.0})
    return Trained(model, config)


def noise_tree(root, splits, seconds=(2, 3, 4), text=lambda signal: "WORD"):
    """A LibriSpeech tree of noise: an utterance of each length, of two speakers, in each split."""
    for number, split in enumerate(splits):
        for speaker in (10 + number, 20 + number):
            chapter = root / split / str(speaker) / "7"
            chapter.mkdir(parents=True)
            lines = []
            for n, length in enumerate(seconds):
                name = f"{speaker}-7-{n:04d}"
                generator = torch.Generator().manual_seed(100 * speaker + n)
                soundfile.write(chapter / f"{name}.flac", 0.1 * torch.randn(16000 * length, generator=generator), 16000)
                signal = torch.from_numpy(soundfile.read(chapter / f"{name}.flac", dtype="float32")[0])
                lines.append(f"{name} {text(signal)}\n")
            (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return root
