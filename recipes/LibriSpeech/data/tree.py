"""What lies in a split of a LibriSpeech tree: in each <speaker>/<chapter>/ a FLAC file for each utterance, and transcripts."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
from speech_attention.front_end import SAMPLE_RATE

from recipes.command_line import UserError
from recipes.LibriSpeech.sound import formats, reader
from recipes.LibriSpeech.sound.tape import UNKNOWN
from recipes.LibriSpeech.tokens import Tokens

AUDIO = {".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".wma", ".sph"}
"""Endings of audio files; only `.flac` is read, all others are refused."""
OF_THE_SYSTEM = ("Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir")
"""What systems leave in folders, beside names that begin with a dot."""
UTTERANCE_ID = re.compile("[A-Za-z0-9_.-]+")
MOST_LETTERS = 100_000
TAG_BYTES = 128
"""An ID3 tag may stand behind the samples of a FLAC file."""


@dataclass(frozen=True)
class Found:
    """The files of a split.

    Arguments
    ---------
    audio : dict
        The FLAC file of each utterance.
    texts : list of Path
        Files of transcripts.
    fingerprint : str
        Digest of their names, sizes and times.
    """

    audio: dict[str, Path]
    texts: list[Path]
    fingerprint: str


def check_name(split: str) -> None:
    """Refuse a name of a split that is not one plain name of a folder, such as a path."""
    plain = split.isprintable() and split == split.strip() and not split.startswith(".") and not set(split) & set("/\\$")
    if not split or not plain:
        raise UserError(f"split {split!r} must be the plain name of a folder in the data folder, such as dev-clean, and no path")


def find(root: Path, split: str) -> Found:
    """The files of a split, without opening them.

    Arguments
    ---------
    root : Path
        The folder of the split.
    split : str

    Returns
    -------
    Found

    Raises
    ------
    UserError
        If an utterance is there twice, or a file has a place, a name or a format that LibriSpeech does not have.
    """
    audio: dict[str, Path] = {}
    texts, others, misplaced, misnamed = [], [], [], []
    digest = hashlib.sha256()
    for depth, entry in _files(root / split):
        name, ending = os.path.splitext(entry.name)
        text = entry.name.endswith(".trans.txt")
        if not text and ending.lower() not in AUDIO:
            continue
        path = Path(entry.path)
        digest.update(f"{path.relative_to(root)!s} {_state(entry)}\n".encode("utf-8", "surrogateescape"))
        if depth != 2:
            misplaced += [path] * (text or ending == ".flac")
        elif text:
            texts.append(path)
        elif ending != ".flac":
            others.append(path)
        else:
            if name in audio:
                raise _twice(name, audio[name], path)
            audio[name] = path
            misnamed += [] if _belongs(name, path) else [path]
    for path in others:
        if path.suffix.lower() == ".flac" and path.stem in audio:
            raise _twice(path.stem, audio[path.stem], path)
    where = "in <speaker>/<chapter>/<speaker>-<chapter>-<number>.flac, of letters, digits, '-', '_' and '.'"
    if misplaced or misnamed:
        raise UserError(f"Split {split} must have its utterances {where}: move or rename {some(misplaced + misnamed, 'file')}.")
    if others := [path for path in others if path.stem not in audio]:
        raise UserError(
            f"Split {split} must be FLAC files with the ending .flac, and has {some(others, 'other file')}: rename them, or "
            f"convert each and remove it, ffmpeg -i {others[0].name!r} -ar 16000 -ac 1 {others[0].stem + '.flac'!r}."
        )
    return Found(audio, texts, digest.hexdigest())


def _files(folder: str | Path, depth: int = 0) -> Iterator[tuple[int, os.DirEntry]]:
    """All files to one level below the chapters, each with its depth, by name; links are followed."""
    with os.scandir(folder) as entries:
        here = sorted(entries, key=lambda entry: entry.name)
    for entry in here:
        if entry.name.startswith(".") or entry.name in OF_THE_SYSTEM:
            continue
        if not os.path.isdir(entry.path) if entry.is_symlink() else not entry.is_dir():
            yield depth, entry
        elif depth < 3:
            yield from _files(entry.path, depth + 1)


def _state(entry: os.DirEntry) -> str:
    """Size and time of a file; a link to nothing has neither."""
    try:
        state = entry.stat()
    except OSError as error:
        return str(error.strerror)
    return f"{state.st_size} {state.st_mtime_ns}"


def _belongs(utterance: str, path: Path) -> bool:
    """Whether the id of an utterance is that of the speaker and the chapter in whose folder a file lies."""
    folder = path.parent
    return utterance.startswith(f"{folder.parent.name}-{folder.name}-") and UTTERANCE_ID.fullmatch(utterance) is not None


def _twice(utterance: str, *paths: Path) -> UserError:
    return UserError(f"Utterance {utterance} is there twice, {' and '.join(map(str, paths))}: remove one of them.")


def read_transcripts(texts: Iterable[Path], tokens: Tokens) -> dict[str, str]:
    """Reads and checks transcripts, which `tokens` are to write: a dict from utterance id to words, in Unicode's form NFC."""
    transcripts: dict[str, str] = {}
    read: dict[str, Path] = {}
    refused: dict[str, set[str]] = {}
    for path in texts:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            key, _, words = " ".join(unicodedata.normalize("NFC", line).split()).partition(" ")
            if not _belongs(key, path):
                begin = f"{path.parent.parent.name}-{path.parent.name}-"
                raise UserError(f"{path}, line {number}: {key[:80]!r} must be an utterance id that begins with {begin}")
            if key in transcripts:
                places = " and ".join(sorted({str(read[key]), str(path)}))
                raise UserError(f"Utterance {key} has more than one transcript: remove one, see {places}.")
            if not words:
                raise UserError(f"Utterance {key} has an empty transcript in {path}: add its words or remove it.")
            if tokens.refused.search(words):
                refused[key] = set(tokens.refused.findall(words))
            if len(words) > MOST_LETTERS:
                raise UserError(f"Utterance {key} in {path} has {len(words)} letters: cut its recording into sentences.")
            transcripts[key], read[key] = words, path
    if refused:
        first, found = next(iter(refused)), "".join(sorted(set().union(*refused.values())))[:40]
        others = f" (and {len(refused) - 1} others)" if len(refused) > 1 else ""
        raise UserError(
            f"Utterance {first} in {read[first]}{others} has characters outside {tokens.named}: {found!r}; write "
            "capitals, numbers in words, and no punctuation; for letters of another language give all of them, --tokens "
            "'!new:recipes.LibriSpeech.tokens.Letters {alphabet: ...}', or SentencePiece."
        )
    return transcripts


def _lines(path: Path) -> list[str]:
    """The lines of a text in UTF-8, with or without a byte order mark, with the line ends of any system."""
    if not path.is_file():
        raise UserError(f"{path} is not a file, or a link that leads nowhere: unpack its split again.")
    content = path.read_bytes()
    try:
        if b"\0" not in content:
            return content.decode("utf-8-sig").splitlines()
        what = "UTF-16, or no text"
    except UnicodeDecodeError as error:
        what = f"see line {content.count(bytes([10]), 0, error.start) + 1}"
    raise UserError(f"{path} is not in UTF-8 ({what}): save it in UTF-8, for instance with iconv.")


def check_pairs(split: str, audio: Mapping[str, Path], transcripts: Mapping[str, str]) -> None:
    """Every audio file needs a transcript, and the other way round."""
    if unwritten := sorted(audio.keys() - transcripts.keys()):
        raise UserError(f"Split {split} has {some(unwritten, 'FLAC file')} without a transcript: unpack it again.")
    if unspoken := sorted(transcripts.keys() - audio.keys()):
        raise UserError(f"Split {split} has {some(unspoken, 'transcript')} without a FLAC file: unpack it again.")


@dataclass(frozen=True)
class Audio:
    """What the check of a FLAC file finds.

    Arguments
    ---------
    samples : int
        How many it has.
    digest : str
        Equal for files with equal samples.
    error : str
        What is wrong with it; empty if nothing is.
    """

    samples: int = 0
    digest: str = ""
    error: str = ""


def check_audio(path: Path) -> Audio:
    """Looks whether a file is what training reads, without decoding all of it.

    The header of a truncated file still promises all samples: only reading the last one shows that it is there. Bytes
    behind it are samples that the header does not count.
    """
    if not path.is_file():
        return Audio(error="not a file, or a link that leads nowhere")
    try:
        with open(path, "rb", buffering=0) as raw:
            head = raw.read(formats.ENOUGH)
            raw.seek(0)
            with soundfile.SoundFile(raw.fileno(), closefd=False) as file:
                if file.format != "FLAC":
                    return Audio(error=f"{file.format} instead of FLAC")
                if file.samplerate != SAMPLE_RATE:
                    return Audio(error=f"{file.samplerate} Hz instead of {SAMPLE_RATE}")
                if file.channels != 1:
                    return Audio(error=f"{file.channels} channels instead of one")
                if file.frames < 1:
                    return Audio(error="no samples")
                if file.frames >= UNKNOWN:  # written to a pipe: its header could not be completed
                    return Audio(len(reader.read_whole(path)), _digest_of_file(path))
                file.seek(file.frames - 1)
                if len(file.read(1)) != 1:
                    return Audio(error="truncated")
                if os.fstat(raw.fileno()).st_size - raw.tell() > TAG_BYTES:
                    return Audio(error="more in it than its header says")
                samples = file.frames
            of_samples = head[26:42]  # their MD5, in FLAC's header unless the encoder left it out
            known = head[:4] == b"fLaC" and any(of_samples)
            return Audio(samples, of_samples.hex() if known else _digest_of_file(path))
    except soundfile.SoundFileError:
        return Audio(error="truncated or unreadable" if head[:4] == b"fLaC" else formats.what_to_do(str(path), head))
    except UserError as error:
        return Audio(error=str(error))
    except OSError as error:
        return Audio(error=str(error.strerror))


def _digest_of_file(path: Path) -> str:
    return "file " + hashlib.md5(path.read_bytes()).hexdigest()


def some(names: Sequence[str | Path], what: str) -> str:
    """Counts and names a few: "5 FLAC files (a, b, c, ...)"."""
    named = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({named})"
