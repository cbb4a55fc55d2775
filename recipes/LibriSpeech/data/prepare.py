"""Checks a LibriSpeech tree and writes one CSV manifest per split, as SpeechBrain's data sets read them."""

import csv
import hashlib
import io
import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from speech_attention.front_end import SAMPLE_RATE
from tqdm import tqdm

from recipes.command_line import UserError
from recipes.files import write_json, write_text
from recipes.LibriSpeech.data import tree
from recipes.LibriSpeech.processes import tell
from recipes.LibriSpeech.tokens import LETTERS, Tokens

CSV_HEADER = ["ID", "duration", "wav", "spk_id", "wrd"]


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
    audio : dict
        From each utterance to a digest of its samples.
    """

    split: str
    path: Path
    utterances: int
    hours: float
    speakers: int
    sha256: str
    skipped: list[str]
    audio: dict[str, str]


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
    data_folder: str | Path, save_folder: str | Path, splits: Iterable[str], skip_bad: bool = False, tokens: Tokens = LETTERS
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
    tokens : Tokens
        What is to write the transcripts; their letters decide which characters these may have.

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
    folders: dict[Path, str] = {}
    for split in splits:
        tree.check_name(split)
        if not (root / split).is_dir():
            raise UserError(f"Split {split} is not in {root}: there are {', '.join(splits_in(root))}.")
        same = next((other for folder, other in folders.items() if folder.samefile(root / split)), None)
        if same is not None:
            raise UserError(f"Splits {same} and {split} are one folder, {(root / split).resolve()}: name it once.")
        folders[root / split] = split
    manifests = {}
    for split, found in [(split, tree.find(root, split)) for split in splits]:
        manifest = _prepare_split(root, Path(save_folder), split, found, skip_bad, tokens)
        if manifest.skipped:
            left_out = tree.some(manifest.skipped, "bad audio file")
            tell(f"WARNING: {split}: {left_out} left out of {manifest.path}.", file=sys.stderr)
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
    return [f.name for f in folders if any(f.glob("*/*/[!.]*.flac")) or any(f.glob("*/*/[!.]*.trans.txt"))]


def check_apart(manifests: Mapping[str, Manifest], train: Iterable[str], evaluated: Iterable[str]) -> None:
    """Refuse splits that have an utterance, by its id or by its samples, in training and in evaluation.

    Arguments
    ---------
    manifests : dict
        As `prepare` returns them.
    train, evaluated : list of str
        Splits that are trained on, and splits that are not to be heard in training.
    """
    for split, other in itertools.product(train, evaluated):
        here, there = manifests[split].audio, manifests[other].audio
        heard = {digest: name for name, digest in here.items()}
        pairs = [(heard[digest], name) for name, digest in there.items() if digest in heard]
        pairs += [(name, name) for name in here.keys() & there.keys()]
        if pairs:
            first, second = min(pairs)
            count = len({name for _, name in pairs})
            raise UserError(
                f"{split} and {other} share {count} of their utterances ({first} is {second}): what is evaluated on may not be "
                "trained on; remove them from one of the two, or give other train, dev or test splits"
            )


def _prepare_split(root: Path, save_folder: Path, split: str, found: tree.Found, skip_bad: bool, tokens: Tokens) -> Manifest:
    """Prepares one split, or takes the manifest that is there."""
    audio = found.audio
    if not audio:
        raise UserError(f"Split {split} in {root} has no utterances (<speaker>/<chapter>/*.flac): delete it and unpack it again.")
    csv_path = save_folder / f"{split}.csv"
    json_path = save_folder / f"{split}.json"
    letters = [] if tokens.refused == LETTERS.refused else [tokens.refused.pattern]  # as before there were other tokens
    made_from = json.dumps([str(root), split, bool(skip_bad), found.fingerprint, *letters])
    fingerprint = hashlib.sha256(made_from.encode()).hexdigest()
    known = _read_manifest(csv_path, json_path, fingerprint)
    if known is not None:
        return known

    transcripts = tree.read_transcripts(found.texts, tokens)
    tree.check_pairs(split, audio, transcripts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = pool.map(tree.check_audio, audio.values())
        checks = dict(zip(audio, tqdm(running, total=len(audio), desc=f"Checking {split}", unit="file")))
    bad = [(audio[key].relative_to(root).as_posix(), checks[key].error) for key in audio if checks[key].error]
    if bad and not skip_bad:
        named = tree.some([f"{path} ({error})" for path, error in bad], "bad audio file")
        raise UserError(f"Split {split} has {named}; mend them, or leave them out with --skip_bad True.")
    if len(bad) == len(audio):
        raise UserError(f"Split {split} in {root} has no readable audio file (first: {bad[0][0]}: {bad[0][1]}).")

    samples = {key: check.samples for key, check in checks.items() if not check.error}
    speakers = {key: audio[key].parents[1].name for key in samples}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    digest = hashlib.sha256()
    for key in sorted(samples):
        relative = audio[key].relative_to(root).as_posix()
        writer.writerow([key, samples[key] / SAMPLE_RATE, f"$data_root/{relative}", speakers[key], transcripts[key]])
        digest.update(f"{key} {samples[key]} {transcripts[key]}\n".encode())
    manifest = Manifest(
        split=split,
        path=csv_path,
        utterances=len(samples),
        hours=sum(samples.values()) / SAMPLE_RATE / 3600,
        speakers=len(set(speakers.values())),
        sha256=digest.hexdigest(),
        skipped=[path for path, _ in bad],
        audio={key: checks[key].digest for key in samples},
    )
    save_folder.mkdir(parents=True, exist_ok=True)
    write_text(csv_path, table.getvalue())
    own = _sha256(table.getvalue().encode())  # another start may have put another one there by now
    record = {**asdict(manifest), "path": csv_path.name, "fingerprint": fingerprint, "csv_sha256": own}
    write_json(json_path, {**record, "record_sha256": _sha256(json.dumps(record).encode())})
    return manifest


def _read_manifest(csv_path: Path, json_path: Path, fingerprint: str) -> Manifest | None:
    """The manifest that is there, or None if it is not, or is not the one of `fingerprint`."""
    try:
        known = json.loads(json_path.read_text())
        whole = known.pop("record_sha256") == _sha256(json.dumps(known).encode())
        same = known.pop("fingerprint") == fingerprint and known.pop("csv_sha256") == _sha256(csv_path.read_bytes())
        return Manifest(**{**known, "path": csv_path}) if whole and same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
