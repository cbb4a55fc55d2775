"""When the words of an utterance end: by a TextGrid, or by the system's own CTC.

A TextGrid says when the word was spoken. CTC only says in which frame the system writes the last letter on its best path
through the reference, which is often before or after the sound.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from speech_attention.front_end import SAMPLE_RATE
from torchaudio.functional import forced_align, merge_tokens

from recipes.command_line import UserError
from recipes.LibriSpeech.tokens import LETTERS, Tokens

UNKNOWN = "<UNK>"  # the label that aligners give to a word that is not in their dictionary


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of an utterance, in samples from its start."""

    label: str
    start: int
    end: int


def find_textgrids(folder: str | Path) -> dict[str, Path]:
    """The TextGrids in a folder and the folders below it: a dict from utterance id to path."""
    if not Path(folder).is_dir():
        raise UserError(f"no folder {folder}: give the one that holds <utterance id>.TextGrid, at any depth")
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob("[!.]*.TextGrid")):
        if path.stem in found:
            raise UserError(f"{path.stem} has two alignments, {found[path.stem]} and {path}: remove one of them")
        found[path.stem] = path
    if not found:
        raise UserError(f"{folder} holds no file <utterance id>.TextGrid, at any depth")
    return found


def read_tier(path: str | Path, tier: str, samples: float = math.inf) -> list[Interval]:
    """The intervals of one tier of a TextGrid, without the empty ones.

    Arguments
    ---------
    path : str or Path
    tier : str
        E.g. "words" or "phones".
    samples : int
        Of its utterance, beyond which it may go by half a second.

    Returns
    -------
    list of Interval

    Raises
    ------
    UserError
        If the file is not a TextGrid, does not have that tier of intervals, or goes beyond its utterance.
    """
    try:
        from praatio import textgrid
    except ImportError as error:
        raise UserError("to read TextGrids install praatio: pip install -e '.[alignments]'") from error
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
        entries = grid.getTier(tier).entries if tier in grid.tierNames else None
        if entries is not None:
            found = [Interval(e.label, round(e.start * SAMPLE_RATE), round(e.end * SAMPLE_RATE)) for e in entries]
    except Exception as error:  # whatever a damaged file makes its parser stumble over
        raise UserError(f"cannot read {path} as a TextGrid with the intervals of a tier {tier}") from error
    if entries is None:
        raise UserError(f"{path} has no tier {tier}: there are {', '.join(grid.tierNames) or 'none'}")
    if found and found[-1].end > samples + SAMPLE_RATE / 2:
        times = f"{tier} until {found[-1].end / SAMPLE_RATE:g} s, and its utterance ends at {samples / SAMPLE_RATE:g} s"
        raise UserError(f"{path} has {times}: give its own alignment, in seconds")
    return found


def spoken_ends(path: str | Path, words: Sequence[str], samples: float = math.inf) -> list[int] | None:
    """Where each word of an utterance ends, by its TextGrid.

    Arguments
    ---------
    path : str or Path
        A TextGrid with the tier "words".
    words : list of str
        The transcript.
    samples : int
        See `read_tier`.

    Returns
    -------
    list of int or None
        Samples. None where the TextGrid has other words than the transcript (`<unk>` may be any).
    """
    intervals = read_tier(path, "words", samples)
    labels = [unicodedata.normalize("NFC", interval.label).upper() for interval in intervals]
    if len(labels) != len(words) or any(label not in (word.upper(), UNKNOWN) for label, word in zip(labels, words)):
        return None
    return [interval.end for interval in intervals]


def ctc_ends(log_probs: torch.Tensor, words: Sequence[str], hop: int, tokens: Tokens = LETTERS) -> list[int] | None:
    """Where each word ends on the best CTC path through the transcript: after the last frame of its last token.

    Arguments
    ---------
    log_probs : torch.Tensor
        (frames, tokens), of the whole utterance.
    words : list of str
        The transcript.
    hop : int
        Samples of a frame.
    tokens : Tokens
        Of the system.

    Returns
    -------
    list of int or None
        Samples. None where the transcript has more tokens than there are frames for.

    Example
    -------
    >>> import torch
    >>> path = [0, 3, 3, 0, 4, 1, 0, 5, 5, 0]  # A B, a space, C; token 0 is the blank
    >>> log_probs = torch.nn.functional.one_hot(torch.tensor(path), len(LETTERS)).float().log_softmax(dim=-1)
    >>> ctc_ends(log_probs, ["AB", "C"], hop=640)
    [3200, 5760]
    >>> ctc_ends(log_probs, ["AAAAAA"], hop=640)  # needs five blanks between them
    """
    targets = tokens.encode(" ".join(words))
    repetitions = int((targets[1:] == targets[:-1]).sum())
    if len(log_probs) < len(targets) + repetitions:
        return None
    path, scores = forced_align(log_probs[None].float(), targets[None], blank=0)
    spans = merge_tokens(path[0], scores[0])
    texts = [tokens.texts[number] for number in targets]
    return [end.end * hop for end, text, after in zip(spans, texts, [*texts[1:], " "]) if text != " " and after.startswith(" ")]
