"""The ARPA file of a language model: one that is given, known by its content, or one that is estimated from a text and kept."""

import gzip
import itertools
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from recipes.command_line import UserError
from recipes.files import sha256, write_bytes
from recipes.LibriSpeech.decoding import ngram
from recipes.LibriSpeech.tokens import LETTERS, Tokens

ORDER = 4
LINES_BEFORE = 1000
"""An ARPA file may begin with so many lines of other text."""


def evaluated(sets: Mapping[str, Any]) -> set[str]:
    """The sentences of the dev and test sets."""
    return {row["wrd"] for data in (sets["dev"], *sets["test"].values()) for row in data.data.values()}


def find_arpa(
    path: str | Path,
    cache: str | Path,
    leave_out: Collection[str] = frozenset(),
    tokens: Tokens = LETTERS,
    order: int = ORDER,
) -> tuple[Path, dict[str, Any]]:
    """The ARPA file of a language model: `path` itself, or one estimated from it unless that is done.

    Arguments
    ---------
    path : str or Path
        An ARPA file or a text, plain or gzipped.
    cache : str or Path
        Folder for what is estimated.
    leave_out : set of str
        Sentences of the text that are not to be learned from.
    tokens : Tokens
        What is to write its words.
    order : int
        Of an n-gram that is estimated.

    Returns
    -------
    arpa : Path
    description : dict
        For the summary: the file and its hash, the order and the number of n-grams of each; of a text also its words,
        and how many sentences were left out.
    """
    path = Path(path)
    description: dict[str, Any] = {"file": path.name, "sha256": sha256(path)}
    if not is_arpa(path):
        words, stream, left_out = ngram.read_text(path, leave_out, tokens)
        marks = 2 * int((stream == ngram.BEGIN).sum())
        description |= {"words": len(stream) - marks, "sentences_left_out": left_out}
        path = Path(cache) / f"{ngram.fingerprint(words, stream, order)}-{order}gram.arpa.gz"
        if not is_whole(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            orders = ngram.count(words, stream, order)
            ngram.estimate(orders)
            write_bytes(path, gzip.compress(ngram.arpa(words, orders).encode(), compresslevel=1))
    counts, _ = read_head(path)
    return path, {**description, "order": len(counts), "ngrams": counts}


def is_arpa(path: str | Path) -> bool:
    """Whether a file is an ARPA file, by its line `\\data\\`; one in which KenLM does not find that line is refused."""
    with ngram.open_text(path) as lines:
        before = ""
        for line in itertools.islice(lines, LINES_BEFORE):
            text = line.strip()
            if text.lstrip(ngram.BOM) == "\\data\\":
                if before or text.startswith(ngram.BOM):
                    what = "text" if before else "a byte order mark"
                    raise UserError(
                        f"{path} is an ARPA file with {what} before its line \\data\\, which KenLM refuses: delete that"
                    )
                return True
            before = before or ("" if text.startswith("#") else text)
    return False


def is_whole(arpa: Path) -> bool:
    """Whether an n-gram that was estimated before is there to its last line; gzip's checksum vouches for the rest."""
    end = b""
    try:
        with gzip.open(arpa, "rb") as file:
            while block := file.read(2**20):
                end = (end + block)[-6:]
    except (OSError, EOFError, zlib.error):
        return False
    return end == b"\\end\\\n"


def read_head(path: str | Path) -> tuple[list[int], list[str]]:
    """How many n-grams of each order an ARPA file has, and its words without the marks."""
    counts, words = [], []
    with ngram.open_text(path) as lines:
        try:
            for line in lines:
                if line.startswith("ngram "):
                    counts.append(int(line.partition("=")[2]))
                elif line.strip() == "\\1-grams:":
                    break
            for line in lines:
                if not line.strip():
                    break
                words.append(line.split()[1])
        except (ValueError, IndexError) as error:
            raise UserError(f"{path} is a damaged ARPA file, in the line {line.strip()[:80]!r}") from error
    if counts and counts[0] != len(words):
        raise UserError(f"{path} is a damaged ARPA file: it announces {counts[0]} words and has {len(words)}")
    return counts, [word for word in words if word not in ngram.MARKS]
