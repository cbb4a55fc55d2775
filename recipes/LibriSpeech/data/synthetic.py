"""A small synthetic corpus in LibriSpeech's layout, made on the spot: the recipe runs with no download.

The sentences are in `synthetic.txt`; espeak-ng (from the `espeakng-loader` package) speaks them. The test set has voices
and sentences that are not in the training set.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from speech_attention.front_end import SAMPLE_RATE
from torchaudio.transforms import Resample
from tqdm import tqdm

from recipes.command_line import UserError

TEXT = Path(__file__).with_name("synthetic.txt")
VOLUME = 60  # of espeak-ng's 100, which clips
FORMAT = 1  # raise it when the code below makes other audio from the same text and voices
ACCENTS = "en en-us en-gb-x-rp en-gb-scotland en-029 en-gb-x-gbclan en-gb-x-gbcwmd en-us-nyc".split()
# Timbres of espeak-ng; those of one split are in no other.
VARIANTS = {
    "train": "m1 m3 m4 m6 m7 f1 f2 f4 Gene Mike victor shelby".split(),
    "dev": "m8 f5 Alex linda".split(),
    "test": "m2 m5 f3 Michael quincy steph".split(),
}
NUM_VOICES = {"train": 48, "dev": 4, "test": 12}
FIRST_SPEAKER = {"train": 1001, "dev": 2001, "test": 3001}


def voices(split: str) -> dict[int, dict[str, Any]]:
    """The voices of a split.

    Arguments
    ---------
    split : str
        `train`, `dev` or `test`.

    Returns
    -------
    dict
        From speaker id to espeak-ng's voice name, rate (words a minute) and pitch (0 to 99).

    Example
    -------
    >>> voices("dev")[2001]
    {'voice': 'en+m8', 'rate': 120, 'pitch': 35}
    """
    variants = VARIANTS[split]
    found = {}
    for i in range(NUM_VOICES[split]):
        accent = ACCENTS[i % len(ACCENTS)]
        variant = variants[(i + i // 24) % len(variants)]  # the shift keeps pairs distinct over 48 voices
        found[FIRST_SPEAKER[split] + i] = {"voice": f"{accent}+{variant}", "rate": 120 + 17 * i % 45, "pitch": 35 + 11 * i % 30}
    return found


def embedded_corpus(folder: str | Path, text: str | Path = TEXT) -> Path:
    """Makes the synthetic corpus, or finds the one made before from the same text, voices and library.

    Arguments
    ---------
    folder : str or Path
        Where to keep it; it becomes a folder in there whose name carries the corpus' version.
    text : str or Path
        The sentences (see `synthetic.txt`).

    Returns
    -------
    Path
        The root of the corpus, with the splits `train-synth`, `dev-synth` and `test-synth`.
    """
    sentences = read_text(text)
    recipe = [FORMAT, VOLUME, version("espeakng-loader"), sentences, {split: voices(split) for split in sentences}]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    folder = Path(folder)
    root = folder / f"embedded-{digest[:8]}"
    if root.is_dir():  # it got this name only when it was complete
        return root
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits for the end of another run that makes a corpus here
        if root.is_dir():
            return root
        partial = folder / ".embedded-partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            _build(partial, sentences)
            os.replace(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(lock)
    return root


def read_text(path: str | Path) -> dict[str, list[str]]:
    """Reads the sentences of each split.

    Arguments
    ---------
    path : str or Path
        One sentence a line; `# train`, `# dev` and `# test` open the splits; `##` opens a comment.

    Returns
    -------
    dict
        From split to its list of sentences.
    """
    sentences: dict[str, list[str]] = {split: [] for split in VARIANTS}
    split = ""
    for line in Path(path).read_text().splitlines():
        if line.startswith("##") or not line.strip():
            continue
        if line.startswith("#"):
            split = line[1:].strip()
        elif split in sentences:
            sentences[split].append(line.strip())
        if split not in sentences:
            raise UserError(f"{path}: the line {line!r} is under no header: use # {', # '.join(sentences)}.")
    empty = [split for split, lines in sentences.items() if not lines]
    if empty:
        raise UserError(f"{path} has no sentences for {', '.join(empty)}: add some under '# {empty[0]}'.")
    return sentences


def _build(root: Path, sentences: Mapping[str, list[str]]) -> None:
    """Speaks all sentences, each voice in a process of its own, and writes the tree."""
    with (
        tqdm(total=sum(map(len, sentences.values())), desc="Making the synthetic corpus", unit="utterance") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        tasks = []
        for split, lines in sentences.items():
            cast = voices(split)
            for number, (speaker, voice) in enumerate(cast.items()):
                own = lines[number :: len(cast)]
                if own:
                    tasks.append(pool.submit(_write_speaker, root / f"{split}-synth", speaker, voice, own))
        for task in as_completed(tasks):
            bar.update(task.result())


def _write_speaker(split_folder: Path, speaker: int, voice: Mapping[str, Any], sentences: Sequence[str]) -> int:
    """Writes <speaker>/1/ with its FLAC files and transcripts; returns the number of utterances."""
    chapter = split_folder / str(speaker) / "1"
    chapter.mkdir(parents=True)
    rate, spoken = _speak(voice, sentences)
    # In double precision, so that rounding to 16 bits gives the same samples on every machine.
    resample = Resample(rate, SAMPLE_RATE, dtype=torch.float64)
    lines = []
    for number, (sentence, samples) in enumerate(zip(sentences, spoken)):
        name = f"{speaker}-1-{number:04d}"
        wave = resample(torch.from_numpy(samples.astype(np.float64))).round().clamp(-32768, 32767)
        soundfile.write(chapter / f"{name}.flac", wave.numpy().astype(np.int16), SAMPLE_RATE, subtype="PCM_16")
        lines.append(f"{name} {sentence}\n")
    (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))
    return len(sentences)


def _speak(voice: Mapping[str, Any], sentences: Sequence[str]) -> tuple[int, list[np.ndarray]]:
    """The sampling rate and one array of 16-bit samples per sentence."""
    job = {**voice, "volume": VOLUME, "sentences": [sentence.lower() for sentence in sentences]}
    command = [sys.executable, str(Path(__file__).with_name("espeak.py"))]
    done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"Cannot make the synthetic corpus: {reason[-1]} (is espeakng-loader installed whole?)")
    first, _, audio = done.stdout.partition(b"\n")
    header = json.loads(first)
    spoken = np.split(np.frombuffer(audio, np.int16), np.cumsum(header["samples"])[:-1])
    return header["rate"], spoken
