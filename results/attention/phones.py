"""Which phone is said in each frame."""

from bisect import bisect_right
from collections.abc import Sequence

from recipes.LibriSpeech.data.alignments import Interval

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


def fold(label: str) -> str | None:
    """The phone of an aligner's label, without stress; one name for all silence; None for noise and unknown words.

    Example
    -------
    >>> [fold(label) for label in ("AH0", "S", "sp", "", "spn")]
    ['AH', 'S', 'SIL', 'SIL', None]
    """
    label = label.upper().rstrip("012")
    if label in ("SPN", "<UNK>"):
        return None
    return SILENCE if label in ("", "SIL", "SP") else label


def frame_phones(intervals: Sequence[Interval], frames: int, hop: int, window: int) -> list[str | None]:
    """The phone in the middle of what each frame reads. Frame t reads samples (t + 1) * hop - window to (t + 1) * hop - 1.

    Arguments
    ---------
    intervals : list of Interval
        Phones in the order of time; between two of them there is silence.
    frames : int
        How many frames the utterance has.
    hop, window : int
        Of the front end, in samples.

    Returns
    -------
    list of (str or None)
        See `fold`.

    Example
    -------
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


def inventory(found: set[str | None]) -> list[str]:
    """Phones in the order of `GROUPS`; those that are not ARPAbet come last.

    Example
    -------
    >>> inventory({"AH", "Q", "SIL", "B", None})
    ['B', 'AH', 'SIL', 'Q']
    """
    known = " ".join(GROUPS.values()).split()
    return [phone for phone in known if phone in found] + sorted(found - {None, *known})
