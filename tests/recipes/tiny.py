"""A main job that takes seconds: its data, its command line, and the line with which it fails."""

from pathlib import Path

import numpy as np
import soundfile

import train

ROOT = Path(__file__).parents[2]
SPLITS = {"train-a": 12, "dev-b": 4, "test-c": 4}
TINY = {
    "dim": "16", "ffn_dim": "16", "num_layers": "2", "num_heads": "2", "device": "cpu",
    "train_splits": "[train-a]", "dev_splits": "[dev-b]", "test_splits": "[test-c]",
    "pretrain": "{epochs: 2, batch_seconds: 6}", "finetune": "{epochs: 2, batch_seconds: 6}",
    "ckpt_interval_minutes": "0", "ckpt_interval_steps": "1",
}  # fmt: skip

PIECES = "!new:recipes.LibriSpeech.tokens.SentencePiece {size: 30}"
"""Tokens that learn from `GERMAN`."""
GERMAN = ["ÜBER DIE STRASSE", "DIE GRÖSSE DER STRASSE", "ÜBER DER GRÖSSE", "DIE ÄRGER"] * 2


def write_tree(root, splits, seconds):
    """Write a LibriSpeech tree of noise.

    Arguments
    ---------
    root : Path
        A folder that is not there yet.
    splits : dict
        How many utterances each split has. Two speakers in each, no speaker in two splits; utterance `n` of a speaker says
        "UTTERANCE" and n + 1 times "WORD".
    seconds : float
        The length of each utterance.

    Returns
    -------
    Path
        `root`.
    """
    noise = np.random.default_rng(0)
    for number, (split, utterances) in enumerate(splits.items()):
        for speaker in (100 + 2 * number, 101 + 2 * number):
            chapter = root / split / str(speaker) / "7"
            chapter.mkdir(parents=True)
            lines = []
            for n in range(utterances // 2 + (speaker % 2 == 0 and utterances % 2)):
                name = f"{speaker}-7-{n:04d}"
                wave = 0.1 * noise.standard_normal(int(16000 * seconds))
                soundfile.write(chapter / f"{name}.flac", wave, 16000, subtype="PCM_16")
                lines.append(" ".join([name, "UTTERANCE", *["WORD"] * (n + 1)]) + "\n")
            (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return root


def arguments(root, folder, *flags, yaml="llsa", **changes):
    options = {"data_folder": str(root), "output_folder": str(folder), **TINY, **changes}
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(ROOT / "hparams" / f"{yaml}.yaml"), *pairs, "--noprogressbar", *flags]


def fails(capsys, root, folder, **changes):
    """The one line of a run that must end with exit code 2."""
    assert train.main(arguments(root, folder, **changes)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def curves(run, stage):
    """From the name of each curve in TensorBoard to its steps and values, over all starts; a later point replaces an earlier."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard" / stage)).Reload()
    names = events.Tags()["scalars"]
    return {name: sorted({event.step: event.value for event in events.Scalars(name)}.items()) for name in names}
