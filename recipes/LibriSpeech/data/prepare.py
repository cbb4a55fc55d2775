"""Checks a LibriSpeech tree and writes one CSV manifest per split, as SpeechBrain's data sets read them."""

import csv
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
from speech_attention.front_end import SAMPLE_RATE
from tqdm import tqdm

from recipes.command_line import UserError
from recipes.files import write_json, write_text

CSV_HEADER = ["ID", "duration", "wav", "spk_id", "wrd"]
NOT_ALLOWED = re.compile("[^A-Z' ]")


@dataclass(frozen=True)
class Manifest:
    """What one prepared split holds.

    Arguments
    ---------
    split : str
        Name of the split, such as `dev-clean`.
    path : Path
        The CSV file.
    utterances : int
        Number of rows in it.
    hours : float
        Hours of audio.
    speakers : int
        Number of speakers.
    sha256 : str
        Digest over the sorted lines "id samples transcript": equal for equal data, wherever it lies.
    skipped : list
        The bad audio files that were left out, relative to the root of the tree.
    """

    split: str
    path: Path
    utterances: int
    hours: float
    speakers: int
    sha256: str
    skipped: list[str]


def find_root(data_folder: str | Path) -> Path:
    """Finds the folder that holds the splits; `$data_root` in the manifests stands for it.

    Arguments
    ---------
    data_folder : str or Path
        The folder with the splits, or the folder above it (the archives unpack to `LibriSpeech/<split>`).

    Returns
    -------
    Path
        `data_folder` itself or `data_folder/LibriSpeech`, resolved.
    """
    data_folder = Path(data_folder)
    if not data_folder.is_dir():
        raise UserError(f"Data folder {data_folder} is not there: give the folder that holds your LibriSpeech splits.")
    for root in (data_folder, data_folder / "LibriSpeech"):
        if root.is_dir() and splits_in(root):
            return root.resolve()
    raise UserError(
        f"Data folder {data_folder} holds no LibriSpeech splits: give the folder above "
        "<split>/<speaker>/<chapter>/<utterance>.flac, such as the one that holds train-clean-100."
    )


def prepare(
    data_folder: str | Path, save_folder: str | Path, splits: Iterable[str], skip_bad: bool = False
) -> dict[str, Manifest]:
    """Checks splits of a LibriSpeech tree and writes `<split>.csv` and `<split>.json` for each.

    A manifest that is there already is used again if it was made from the same files with the same settings.

    Arguments
    ---------
    data_folder : str or Path
        The LibriSpeech tree (see `find_root`).
    save_folder : str or Path
        Where the manifests go.
    splits : list
        Names of the splits.
    skip_bad : bool
        Leave bad audio files out, with a warning, instead of refusing the split.

    Returns
    -------
    dict
        For each split its `Manifest`.

    Example
    -------
    >>> prepare("/nowhere", "manifests", ["dev-clean"])
    Traceback (most recent call last):
    recipes.command_line.UserError: Data folder /nowhere is not there: give the folder that holds your LibriSpeech splits.
    """
    root = find_root(data_folder)
    for split in splits:
        if not (root / split).is_dir():
            raise UserError(f"Split {split} is not in {root}: there are {', '.join(splits_in(root))}.")
    save_folder = Path(save_folder)
    save_folder.mkdir(parents=True, exist_ok=True)
    manifests = {}
    for split in splits:
        manifest = _prepare_split(root, save_folder, split, skip_bad)
        if manifest.skipped:
            print(f"WARNING: {split}: {_some(manifest.skipped, 'bad audio file')} left out of {manifest.path}.", file=sys.stderr)
        manifests[split] = manifest
    return manifests


def splits_in(root: Path) -> list[str]:
    """Names of the splits in a folder: its folders that hold <speaker>/<chapter>/ with audio or transcripts.

    Arguments
    ---------
    root : Path
        The folder.

    Returns
    -------
    list
        The names, sorted.
    """
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    return [f.name for f in folders if any(f.glob("*/*/*.flac")) or any(f.glob("*/*/*.trans.txt"))]


def _prepare_split(root: Path, save_folder: Path, split: str, skip_bad: bool) -> Manifest:
    """Prepares one split, or takes the manifest that is there."""
    audio = {path.stem: path for path in sorted((root / split).glob("*/*/*.flac"))}
    texts = sorted((root / split).glob("*/*/*.trans.txt"))
    if not audio:
        raise UserError(f"Split {split} in {root} has no utterances (<speaker>/<chapter>/*.flac): delete it and unpack it again.")
    csv_path = save_folder / f"{split}.csv"
    json_path = save_folder / f"{split}.json"
    fingerprint = _fingerprint(root, split, [*audio.values(), *texts], skip_bad)
    known = _read_manifest(csv_path, json_path, fingerprint)
    if known is not None:
        return known

    transcripts = _read_transcripts(split, texts)
    _check_pairs(split, audio, transcripts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = pool.map(_check_audio, audio.values())
        checks = list(tqdm(running, total=len(audio), desc=f"Checking {split}", unit="file"))
    bad = [(path.relative_to(root), error) for path, (_, error) in zip(audio.values(), checks) if error]
    if bad and not skip_bad:
        named = _some([f"{path} ({error})" for path, error in bad], "bad audio file")
        raise UserError(f"Split {split} has {named}; mend them, or leave them out with --skip_bad True.")
    if len(bad) == len(audio):
        raise UserError(f"Split {split} in {root} has no readable audio file (first: {bad[0][0]}: {bad[0][1]}).")

    samples = {key: samples for key, (samples, error) in zip(audio, checks) if not error}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    digest = hashlib.sha256()
    for key in sorted(samples):
        relative = audio[key].relative_to(root).as_posix()
        speaker = key.split("-")[0]
        writer.writerow([key, samples[key] / SAMPLE_RATE, f"$data_root/{relative}", speaker, transcripts[key]])
        digest.update(f"{key} {samples[key]} {transcripts[key]}\n".encode())
    manifest = Manifest(
        split=split,
        path=csv_path,
        utterances=len(samples),
        hours=sum(samples.values()) / SAMPLE_RATE / 3600,
        speakers=len({key.split("-")[0] for key in samples}),
        sha256=digest.hexdigest(),
        skipped=[path.as_posix() for path, _ in bad],
    )
    write_text(csv_path, table.getvalue())
    stamp = {"fingerprint": fingerprint, "csv_sha256": _sha256(csv_path)}
    write_json(json_path, {**asdict(manifest), "path": csv_path.name, **stamp})
    return manifest


def _fingerprint(root: Path, split: str, files: Iterable[Path], skip_bad: bool) -> str:
    """Digest of all that a manifest is made from, without opening the files."""
    digest = hashlib.sha256(json.dumps([str(root), split, bool(skip_bad)]).encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_manifest(csv_path: Path, json_path: Path, fingerprint: str) -> Manifest | None:
    """The manifest that is there, or None if it is not, or is not the one of `fingerprint`."""
    try:
        known = json.loads(json_path.read_text())
        if known.pop("fingerprint") != fingerprint or known.pop("csv_sha256") != _sha256(csv_path):
            return None
        return Manifest(**{**known, "path": csv_path})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_transcripts(split: str, texts: Iterable[Path]) -> dict[str, str]:
    """Reads and checks the transcripts of a split: a dict from utterance id to words."""
    transcripts = {}
    for path in texts:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if not line.strip():
                continue
            key, _, words = " ".join(line.split()).partition(" ")
            if key in transcripts:
                raise UserError(f"Utterance {key} of {split} has more than one transcript: remove one, see {path}.")
            if not words:
                raise UserError(f"Utterance {key} has an empty transcript in {path}: add its words or remove it.")
            if NOT_ALLOWED.search(words):
                found = "".join(sorted(set(NOT_ALLOWED.findall(words))))
                raise UserError(
                    f"Utterance {key} in {path} has characters outside A-Z, apostrophe and space: "
                    f"{found!r}; normalise its transcript."
                )
            transcripts[key] = words
    return transcripts


def _check_pairs(split: str, audio: Mapping[str, Path], transcripts: Mapping[str, str]) -> None:
    """Every audio file needs a transcript, and the other way round."""
    if unwritten := sorted(audio.keys() - transcripts.keys()):
        raise UserError(f"Split {split} has {_some(unwritten, 'FLAC file')} without a transcript: unpack it again.")
    if unspoken := sorted(transcripts.keys() - audio.keys()):
        raise UserError(f"Split {split} has {_some(unspoken, 'transcript')} without a FLAC file: unpack it again.")


def _check_audio(path: Path) -> tuple[int, str | None]:
    """Samples of a FLAC file and None, or 0 and what is wrong with it.

    The header of a truncated file still promises all samples: only reading the last one shows that it is there.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE:
                return 0, f"{file.samplerate} Hz instead of {SAMPLE_RATE}"
            if file.channels != 1:
                return 0, f"{file.channels} channels instead of one"
            if file.frames < 1:
                return 0, "no samples"
            file.seek(file.frames - 1)
            if len(file.read(1)) != 1:
                return 0, "truncated"
            return file.frames, None
    except (soundfile.SoundFileError, OSError):
        return 0, "truncated or unreadable"


def _some(names: Sequence[str], what: str) -> str:
    """Counts and names a few: "5 FLAC files (a, b, c, ...)"."""
    named = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({named})"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
