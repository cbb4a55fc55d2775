"""What CTC writes: letters, or pieces of words that SentencePiece learns from the training transcripts.

Token 0 is the blank. A token is known by its text, and a text that begins with a space begins a word: letters have a token
" ", which is all space; pieces have "▁THE", whose text is " THE". So any tokens give a transcript by joining their texts.
Transcripts are in Unicode's form NFC, and in the case of the tokens: nothing but `written` changes a letter.
"""

import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process

from recipes import files
from recipes.command_line import UserError
from recipes.LibriSpeech.yaml_text import locate, naming

MODEL = "tokens.model"
"""The file of a run with what its tokens have learned."""
ENGLISH = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORD = "\u2581"
"""What SentencePiece writes for a space."""
LIMITS = (
    (re.compile(r"Vocabulary size too high .*<= (\d+)"), "more than these transcripts have pieces: give at most"),
    (re.compile(r"smaller than required_chars\. \d+ vs (\d+)"), "less than there are letters: give at least"),
)
"""What SentencePiece says of a size that does not fit, and that in our words."""


class Tokens:
    """Tokens of CTC.

    Attributes
    ----------
    texts : sequence of str
        The text of each; the blank's is not read. Empty until tokens that learn have learned.
    separator : int or None
        The token that ends a word; None where tokens begin words.
    learns : bool
        Whether they are learned from transcripts, and kept in `MODEL`.
    named : str
        Their letters in words.
    refused : re.Pattern
        Finds the characters that no transcript may have.
    foreign : re.Pattern
        Finds the characters that these tokens cannot write.
    """

    texts: Sequence[str] = ()
    separator: int | None = None
    learns = False
    named: str
    refused = re.compile(f"[\0-\x1f\x7f-\x9f${WORD}]")  # data sets take what begins with $ for a name
    foreign = refused

    def __init__(self) -> None:
        self.cases: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.texts)

    def encode(self, words: str) -> torch.Tensor:
        """The token numbers of a transcript."""
        raise NotImplementedError

    def written(self, text: str) -> str:
        """A text as these tokens write it: in NFC, and a letter that is not among theirs in its other case, if that one is."""
        return unicodedata.normalize("NFC", text).translate(self.cases)

    def know(self, letters: Iterable[str]) -> None:
        """Take these as all letters that can be written."""
        self.foreign = re.compile(f"[^{re.escape(''.join(letters))} ]")
        self.cases = _Cases(letters)

    def equal(self, other: "Tokens") -> bool:
        """Whether they are the same tokens as others; before these have learned, whether they can be."""
        return list(self.texts) == list(other.texts)

    def learn(self, sentences: Iterable[str]) -> bytes:
        """The content of `MODEL`, for tokens that learn."""
        raise NotImplementedError

    def load(self, content: bytes) -> None:
        """Know what `learn` has returned."""


class Letters(Tokens):
    """A token for each letter, and a space that ends a word.

    Arguments
    ---------
    alphabet : str
        All letters of the transcripts, each once, in the order of the tokens; capitals and others are different letters.

    Example
    -------
    >>> tokens = Letters("ABCÇÉ")
    >>> tokens.encode("ÇA BÉ").tolist(), tokens.written("ça bé")
    ([5, 2, 1, 3, 6], 'ÇA BÉ')
    """

    separator = 1

    def __init__(self, alphabet: str = ENGLISH):
        super().__init__()
        alphabet = unicodedata.normalize("NFC", alphabet) if isinstance(alphabet, str) else ""
        if not alphabet or len(set(alphabet)) < len(alphabet) or self.refused.search(alphabet) or alphabet.split() != [alphabet]:
            raise ValueError("alphabet must be a text with each letter of the transcripts once, and without a space")
        self.texts = "<blank>", " ", *alphabet
        self.named = "A-Z and the apostrophe" if alphabet == ENGLISH else alphabet
        self.numbers = {letter: number for number, letter in enumerate(self.texts)}
        self.know(alphabet)
        self.refused = self.foreign

    def encode(self, words: str) -> torch.Tensor:
        """The token numbers of a transcript."""
        return torch.tensor([self.numbers[letter] for letter in words], dtype=torch.long)


class SentencePiece(Tokens):
    """Pieces of words that a SentencePiece model finds in the training transcripts, in whatever letters these are.

    The package itself is used, as SpeechBrain's wrapper of it reads and writes files of its own, which a kill can leave in part,
    and normalises letters (NFKC). Here the model is learned and kept as bytes; the same transcripts give the same bytes.
    A letter that was not among those of the training is left out of the tokens.

    Arguments
    ---------
    size : int
        Number of tokens, with the blank.
    kind : str
        `bpe` (Sennrich et al., ACL 2016) or `unigram` (Kudo, ACL 2018).

    Example
    -------
    >>> tokens = SentencePiece(size=12)
    >>> tokens.load(tokens.learn(["ÉTÉ ET TÊTE"] * 9))
    >>> [tokens.texts[number] for number in tokens.encode("ÉTÉ TÊTE")]
    [' É', 'TÉ', ' ', 'TÊ', 'TE']
    """

    named = "the letters of the training transcripts"
    learns = True

    def __init__(self, size: int, kind: str = "bpe"):
        super().__init__()
        if kind not in ("bpe", "unigram") or size < 3:
            raise ValueError(f"kind={kind} must be bpe or unigram, and size={size} be 3 or more")
        self.size, self.kind = size, kind

    def __len__(self) -> int:
        return self.size

    def encode(self, words: str) -> torch.Tensor:
        """The token numbers of a transcript."""
        return torch.tensor([number for number in self.model.encode(words) if number], dtype=torch.long)

    def equal(self, other: Tokens) -> bool:
        """Whether they are the same tokens as others; before these have learned, whether they can be."""
        if self.texts:
            return super().equal(other)
        return isinstance(other, SentencePiece) and (self.size, self.kind) == (other.size, other.kind)

    def learn(self, sentences: Iterable[str]) -> bytes:
        """The content of `MODEL`."""
        import sentencepiece

        sentences, content = list(sentences), io.BytesIO()
        how: dict[str, Any] = {"vocab_size": self.size, "model_type": self.kind, "character_coverage": 1.0, "num_threads": 1}
        how |= {"normalization_rule_name": "identity", "max_sentence_length": 1 + max(len(s.encode()) for s in sentences)}
        how |= {"unk_id": 0, "unk_piece": "<blank>", "bos_id": -1, "eos_id": -1, "pad_id": -1, "minloglevel": 2}
        try:
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_writer=content, **how)
        except RuntimeError as error:
            for limit, words in LIMITS:
                if found := limit.search(str(error)):
                    raise UserError(f"tokens.size={self.size} is {words} {found[1]}") from error
            raise
        return content.getvalue()

    def load(self, content: bytes) -> None:
        """Know what `learn` has returned."""
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_proto=content)
        self.texts = [self.model.id_to_piece(number).replace(WORD, " ") for number in range(self.model.vocab_size())]
        self.know(sorted(set("".join(self.texts[1:])) - {" "}))


class _Cases(dict[int, str]):
    """What each character is written as, for `str.translate`."""

    def __init__(self, letters: Iterable[str]):
        super().__init__()
        self.letters = set(letters) | {" "}

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        forms = (letter, letter.upper(), letter.lower())
        self[code] = next((form for form in forms if set(form) <= self.letters), letter)
        return self[code]


LETTERS = Letters()
"""The 29 tokens of English."""


def make(description: Any) -> Tokens:
    """The tokens of a configuration.

    Arguments
    ---------
    description : str or dict
        Its `tokens`, plain values: `letters`, or a class of tokens with its entries, see `yaml_text.plain`.

    Raises
    ------
    UserError
        If it is neither, or the class does not take the entries.
    """
    if description == "letters":
        return Letters()
    entries = dict(description) if isinstance(description, Mapping) else {}
    found = re.fullmatch(r"!new:([\w.]+)", str(entries.pop("class", "")))
    foreign = not found or found[1].partition(".")[0] in sys.stdlib_module_names
    kind = None if foreign or not found else locate(found[1])
    if not (isinstance(kind, type) and issubclass(kind, Tokens)) or kind is Tokens:
        example = f"!new:{__name__}.SentencePiece {{size: 256}}"
        raise UserError(f"tokens={description} must be letters, or !new:CLASS of a class of tokens, as {example}")
    with naming("tokens"):
        return kind(**entries)


def of_run(config: Mapping[str, Any], folder: Path) -> Tokens:
    """The tokens of a run, by its configuration and its folder; those of older runs are letters."""
    tokens = make(config.get("tokens", "letters"))
    if tokens.learns:
        load(tokens, folder, config.get("data", {}).get(MODEL))
    return tokens


def learn(tokens: Tokens, folder: Path, sentences: Iterable[str], start: Path | None, expected: str | None) -> dict[str, str]:
    """Give the tokens of a run what they learn, and keep it in the run's folder.

    Arguments
    ---------
    tokens : Tokens
    folder : Path
        Of the run.
    sentences : iterable of str
        The training transcripts.
    start : Path or None
        The run whose tokens this one takes.
    expected : str or None
        Checksum of the file, of a run that goes on.

    Returns
    -------
    dict
        The checksum of the file by its name; empty where nothing is learned.
    """
    if not tokens.learns:
        return {}
    if if_main_process() and not (expected and (folder / MODEL).exists()):
        files.write_bytes(folder / MODEL, (start / MODEL).read_bytes() if start else tokens.learn(sentences))
    return {MODEL: load(tokens, folder, expected)}


def load(tokens: Tokens, folder: Path, expected: str | None) -> str:
    """Read what the tokens of a run have learned; its checksum."""
    path = folder / MODEL
    if not path.is_file():
        raise UserError(f"{path} is missing: put a sound copy there, or go on with the run, which makes it again")
    checksum = files.sha256(path)
    if checksum != (expected or checksum):
        raise UserError(
            f"{path} is not the one that the run began with: put a sound copy there, or delete it and go on with the run, which "
            "makes it again"
        )
    tokens.load(path.read_bytes())
    return checksum
