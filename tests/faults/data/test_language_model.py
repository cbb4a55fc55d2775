"""Files that are given as a language model: known by their content, used as they are, or refused before anything is done."""

import bz2
import gzip
import lzma
import pickle
import zipfile

import pytest

from tests.faults.case import Case, check
from tests.faults.data.trees import one_of

ARPA = (
    "\\data\\\nngram 1=5\nngram 2=2\n\n\\1-grams:\n-1\t<unk>\t0\n-99\t<s>\t-0.3\n-1\t</s>\n-0.5\tWORD\t-0.2\n"
    "-0.6\tUTTERANCE\t-0.1\n\n"
    "\\2-grams:\n-0.3\t<s> WORD\n-0.2\tWORD UTTERANCE\n\n\\end\\\n"
)
TEXT = "THE CAT SAT\nA DOG RAN HOME\nUTTERANCE\n"
NO_TEXT = "are not all in A-Z and the apostrophe: give a text with one sentence a line"
KENLM = "$here/lm is not an ARPA file that KenLM reads: "


def arpa(old="", new=""):
    """The ARPA file with one thing changed."""
    assert old in ARPA
    return ARPA.replace(old, new) if old else ARPA


def refused(content, *words):
    """A training with a language model of this content, which must end before it begins."""

    def write(place):
        (place.here / "lm").write_bytes(content if isinstance(content, bytes) else content.encode())

    return Case("TRAIN --lm $here/lm --lm_folder $here/cache", words, before=write)


def pack(place):
    with zipfile.ZipFile(place.here / "lm", "w") as archive:
        archive.writestr("text", TEXT)


CASES = {
    "byte order mark": refused("\ufeff" + ARPA, "ARPA file with a byte order mark before its line \\data\\"),
    "text before": refused("made by hand\n\n" + ARPA, "ARPA file with text before its line \\data\\"),
    "much text before": refused("made by hand\n" * 2000 + ARPA, "has the line '\\\\data\\\\'"),
    "part of an ARPA": refused(ARPA[ARPA.index("-0.5") :], "has the line '-0.5\\tWORD\\t-0.2'"),
    "part with head": refused(ARPA[ARPA.index("\\1-") :], "has the line '\\\\1-grams:'"),
    "high count": refused(arpa("1=5", "1=6"), "damaged ARPA file: it announces 6 words and has 5"),
    "low count": refused(arpa("2=2", "2=1"), KENLM),
    "huge count": refused(arpa("1=5", "1=500000000000"), "it announces 500000000000 words and has 5"),
    "no count": refused(arpa("1=5", "1=five"), "damaged ARPA file, in the line 'ngram 1=five'"),
    "not a number": refused(arpa("-0.5\t", "nan\t"), KENLM),
    "positive": refused(arpa("-0.5\t", "0.5\t"), KENLM + "Positive log probability 0.5"),
    "no end": refused(arpa("\\end\\\n"), KENLM),
    "cut": refused(ARPA[:-40], KENLM),
    "no beginning of sentences": refused(arpa("-99\t<s>\t-0.3\n").replace("1=5", "1=4"), KENLM),
    "a word of no 1-gram": refused(arpa("WORD UTTERANCE", "WORD MARS"), KENLM + "Word MARS was not seen"),
    "a word twice": refused(arpa("\tUTTERANCE\t", "\tWORD\t"), "has the word WORD twice"),
    "spaces for tabs": refused(arpa("\t", " "), KENLM),
    "no words of letters": refused(ARPA.replace("UTTERANCE", "7").replace("WORD", "8"), "no word that can be written"),
    "ARPA in Latin-1": refused(ARPA.replace("WORD", "W\xd6RD").encode("latin-1"), "is no text in UTF-8, or damaged"),
    "one order": refused("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\t0\n-1\t</s>\n-1\tA\n\n\\end\\\n", KENLM),
    "cut gzip": refused(gzip.compress(ARPA.encode())[:-10], "is no text in UTF-8, or damaged"),
    "gzip twice": refused(gzip.compress(gzip.compress(TEXT.encode())), "compressed by gzip: unpack it first"),
    "gzip of binary": refused(gzip.compress(bytes(range(64))), "binary: give a text or an ARPA file"),
    "bzip2": refused(bz2.compress(ARPA.encode()), "compressed by bzip2: unpack it first: bunzip2"),
    "xz": refused(lzma.compress(TEXT.encode()), "compressed by xz: unpack it first: unxz"),
    "zip": Case("TRAIN --lm $here/lm", ("is a zip archive: unpack it first",), before=pack),
    "KenLM": refused(b"mmap lm http://kheafield.com/code format version 5\n\0", "give the ARPA file that it was made from"),
    "pickle": refused(pickle.dumps(["THE CAT", "A DOG"]), "binary"),
    "old pickle": refused(pickle.dumps(["THE CAT", "A DOG"], 0), NO_TEXT),
    "PDF": refused("%PDF-1.4\nTHE CAT\n", "is a PDF: save its text"),
    "binary at its end": refused(TEXT.encode() * 1000 + bytes(9), "has the line"),
    "UTF-16": refused(TEXT.encode("utf-16"), "is in UTF-16: save it in UTF-8"),
    "UTF-16 unmarked": refused(TEXT.encode("utf-16-be"), "binary"),
    "Latin-1": refused("CAF\xc9 NOIR\n".encode("latin-1"), "is no text in UTF-8, or damaged"),
    "web page": refused("<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n", NO_TEXT),
    "JSON": refused('[{"text": "THE CAT"}]\n', "100 % of its words, such as '[{\"TEXT\":'"),
    "words and counts": refused("THE 123\nCAT 12\n", "50 % of its words, such as '12"),
    "counts and words": refused("123\tTHE\n12\tCAT\n", "has the line '123\\tTHE'"),
    "dictionary": refused("HELLO HH AH0 L OW1\nWORLD W ER1 L D\n", NO_TEXT),
    "empty": refused("", "has no words"),
    "blank": refused("\n \n\ufeff\n", "has no words"),
    "folder": Case("TRAIN --lm $here", ("lm=$here is not a file",)),
    "device": Case("TRAIN --lm /dev/null", ("lm=/dev/null is not a file",)),
    "missing": Case("TRAIN --lm nowhere.gz", ("lm=nowhere.gz is not a file",)),
    "cache": Case("TRAIN --lm $here/lm --lm_folder $here/lm", ("is not a folder",), before=refused(TEXT).before),
    "only sentences of the test": Case(
        "TRAIN --lm $here/lm --lm_folder $here/cache", ("has no words",), leaves=("run*",),
        before=refused("UTTERANCE WORD\nutterance word.\n").before,
    ),
}  # fmt: skip


ALIKE = {
    "much text before", "part with head", "low count", "huge count", "positive", "cut", "no beginning of sentences",
    "spaces for tabs", "one order", "gzip twice", "gzip of binary", "xz", "zip", "old pickle", "UTF-16 unmarked",
    "counts and words", "blank", "device", "JSON",
}  # fmt: skip
"""Another case of the kind is in the plain suite."""


@pytest.mark.parametrize("case", [one_of(case, name, ALIKE) for name, case in CASES.items()])
def test_a_file_that_is_no_language_model(case, place):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    check(case, place)
