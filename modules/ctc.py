"""Greedy CTC decoding of frames as they come. What is written is never taken back."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of a stream, with the times at which it was spoken and written.

    Arguments
    ---------
    text : str
        The word.
    first, last : int
        Numbers of the frames of its first and of its last token, which say when it was spoken.
    emitted : int
        How many samples of the stream had been heard when its last token came out, so that it could be read.
    closed : int
        How many samples had been heard when what ends it came out, a space, the next word or the end of the stream, so that it
        was known to be whole.
    """

    text: str
    first: int
    last: int
    emitted: int
    closed: int


class GreedyDecoder:
    """Takes the best token of each frame, merges repetitions, leaves out blanks, and cuts the text into words at spaces.

    Arguments
    ---------
    tokens : sequence of str
        The text of each output of the model. The first one is the blank. A space, which can only be the first character of a
        text, ends the word before it: " " stands for itself, and " THE" begins a word, which "RE" goes on with.

    Example
    -------
    >>> decoder = GreedyDecoder(["<blank>", " ", "A", "B"])
    >>> decoder.step([2, 2, 0, 2], heard=640)
    ('AA', [])
    >>> decoder.step([1, 1, 3], heard=1280)
    (' B', [Word(text='AA', first=0, last=3, emitted=640, closed=1280)])
    >>> decoder.flush(heard=1280)
    [Word(text='B', first=6, last=6, emitted=1280, closed=1280)]
    """

    def __init__(self, tokens: Sequence[str]):
        self.tokens = tokens
        self.previous, self.frame, self.written = 0, 0, False
        self.word: tuple[str, int, int, int] | None = None  # (text, first, last, emitted) of the word that is not closed

    def step(self, best: Sequence[int], heard: int) -> tuple[str, list[Word]]:
        """Decode the next frames.

        Arguments
        ---------
        best : sequence of int
            The best token of each frame.
        heard : int
            How many samples of the stream had come in when these frames came out.

        Returns
        -------
        text : str
            What these frames add to the text, in which one space separates words.
        words : list of Word
            The words that these frames end.
        """
        text, words = "", list[Word]()
        for token in best:
            if token not in (0, self.previous):
                written = self.tokens[token]
                if written.startswith(" "):
                    words += self.flush(heard)
                if letters := written.lstrip(" "):
                    text += self._write(letters, heard)
            self.previous, self.frame = token, self.frame + 1
        return text, words

    def _write(self, letters: str, heard: int) -> str:
        """Add letters to the word that is open, or begin a word with them. Returns what that adds to the text."""
        if self.word:
            start, first = self.word[:2]
            self.word = (start + letters, first, self.frame, heard)
            return letters
        self.word = (letters, self.frame, self.frame, heard)
        space, self.written = " " * self.written, True
        return space + letters

    def flush(self, heard: int) -> list[Word]:
        """End the word that is open. Returns it in a list, or an empty list if there is none."""
        words = [Word(*self.word, closed=heard)] if self.word else []
        self.word = None
        return words
