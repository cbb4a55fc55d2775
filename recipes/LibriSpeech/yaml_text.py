"""HyperPyYAML as text: reading it, its comments, writing it with them, plain values of it, and its errors in words."""

import contextlib
import io
import json
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ruamel.yaml

from recipes.command_line import UserError, mendable

ENTRY = re.compile(r"(?P<indent> *(?:- )?)(?P<key>\w+):(?: (?P<value>.*?))?(?: +# (?P<comment>.*))?$")
"""A line of a YAML file that gives a key."""
WIDTH = 32
"""Column in which comments begin, where the value leaves room."""


UNMADE = ValueError, TypeError, AttributeError, LookupError, ImportError, ArithmeticError, RuntimeError, AssertionError
"""What the classes and functions of a YAML raise for entries that they do not take."""


def in_words(error: Exception) -> str:
    """The message of an error in one line, without the words that hyperpyyaml puts before it."""
    said = [str(words) for words in error.args if not (words is None or str(words).startswith("Invalid argument to "))]
    return mendable(error) or " ".join(" ".join(said).split()) or type(error).__name__


@contextlib.contextmanager
def naming(part: str | Path) -> Iterator[None]:
    """Turn what a part of a YAML raises into a UserError that names the part."""
    try:
        yield
    except (*UNMADE, ruamel.yaml.error.YAMLError) as error:
        raise UserError(f"{part}: {in_words(error)}") from error


def locate(name: str) -> Any:
    """What an import path names; None if it is not there. What fails in somebody's own module is a UserError."""
    try:
        return pydoc.locate(name)
    except pydoc.ErrorDuringImport as error:
        raise UserError(error) from error


def parse(text: str) -> Any:
    """A YAML text as ruamel's nodes, which know their tags, in the order of the text.

    Raises
    ------
    ruamel.yaml.error.YAMLError
        If it isn't YAML.
    """
    return ruamel.yaml.YAML().load(text)


def dump(node: Any) -> str:
    """The text of a YAML node, without comments (ruamel can lose a tag that follows one when it writes).

    A block that occurs several times is written once, and named by the first key of the outermost mapping that holds it.
    """
    _make_writable(node)
    for key, value in reversed(list(node.items())):
        if hasattr(value, "yaml_set_anchor"):
            value.yaml_set_anchor(key)
    yaml, text = ruamel.yaml.YAML(), io.StringIO()
    yaml.width = 10_000  # never wrap
    yaml.indent(mapping=4, sequence=6, offset=4)
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.representer.add_representer(str, _represent_text)
    yaml.dump(node, text)
    return text.getvalue()


def _represent_text(to: Any, text: str) -> Any:
    """Text with a line break or the like in double quotes, where these are escaped: each entry stays in its line."""
    return to.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


def can_hold(text: str) -> bool:
    """Whether a YAML file gives this text back, as all but undecodable bytes and one rare line break.

    Example
    -------
    >>> can_hold(" ~[a: b]\\t#"), can_hold("\\udcff")
    (True, False)
    """
    return not re.search(r"[\ud800-\udfff\x85]", text)


def _make_writable(node: Any) -> bool:
    """Take comments away, and write lists of blocks, and what they are in, in lines: within [ ] ruamel leaves out the braces of
    a block of one entry. Whether there is such a list."""
    if not isinstance(node, (dict, list)):
        return False
    if hasattr(node, "_yaml_comment"):
        del node._yaml_comment
    children = list(node.values()) if isinstance(node, dict) else node
    lists = [_make_writable(child) for child in children]
    in_lines = any(lists) or (isinstance(node, list) and any(isinstance(child, dict) for child in children))
    if in_lines and hasattr(node, "fa"):
        node.fa.set_block_style()
    return in_lines


def _entries(text: str) -> Iterator[tuple[str, tuple[str, ...], re.Match[str] | None]]:
    """(line, its path of keys, the match of ENTRY) for each line; without an entry the path is empty and the match None."""
    above: list[tuple[int, str]] = []  # indentation and key of what the line is in
    for line in text.splitlines():
        found = ENTRY.match(line)
        if found:
            indent = len(found["indent"])
            above = [(other, key) for other, key in above if other < indent] + [(indent, found["key"])]
        yield line, tuple(key for _, key in above) if found else (), found


def comments(text: str) -> dict[tuple[str, ...], str]:
    """The comment at the end of each line that gives a key.

    Arguments
    ---------
    text : str
        A YAML file, in block style.

    Returns
    -------
    dict
        From the path of keys to the comment. Entries of a list have the path of the list.

    Example
    -------
    >>> comments("dim: 16          # Width.\\npretrain:\\n    lr: 0.1      # Its peak.\\n")
    {('dim',): 'Width.', ('pretrain', 'lr'): 'Its peak.'}
    """
    return {path: found["comment"] for _, path, found in _entries(text) if found and found["comment"]}


def sections(text: str) -> dict[str, str]:
    """The headings of a YAML file: lines of comment of their own after an empty line.

    Returns
    -------
    dict
        From the key that follows a heading to the heading.

    Example
    -------
    >>> sections("# The head of the file.\\n\\n# Data\\nfolder: null\\nsplits: null\\n")
    {'folder': 'Data'}
    """
    return {key: heading for heading, key in re.findall(r"\n\n# (.*)\n(\w+):", text)}


def annotate(text: str, comment: dict[tuple[str, ...], str], heading: dict[str, str]) -> str:
    """Write comments and headings into a YAML text; see `comments` and `sections`.

    Example
    -------
    >>> print(annotate("dim: 16\\nseed: 1\\n", {("dim",): "Width."}, {"seed": "Chance"}), end="")
    dim: 16                         # Width.
    <BLANKLINE>
    # Chance
    seed: 1
    """
    lines: list[str] = []
    for line, path, found in _entries(text):
        if len(path) == 1 and path[0] in heading:
            lines += ["", f"# {heading[path[0]]}"]
        if path not in comment:
            lines.append(line)
        elif found and found["value"]:
            lines.append(f"{line:<{WIDTH - 1}} # {comment[path]}")
        else:  # above the key: hyperpyyaml loses the tag of a list's first entry after a comment
            lines += [f"{' ' * (len(line) - len(line.lstrip()))}# {comment[path]}", line]
    return "\n".join(lines).lstrip() + "\n"


def tag_of(node: Any) -> str | None:
    """The tag of a node, `!new:...` for instance; None if it has none of its own."""
    tag = getattr(node, "tag", None)
    return getattr(tag, "value", tag) or None


def plain(node: Any) -> Any:
    """A YAML node as plain dicts, lists and scalars; a tag becomes the entry `class`.

    Example
    -------
    >>> plain(parse("attention: !name:speech_attention.attention.AA {num_heads: 4}"))
    {'attention': {'class': '!name:speech_attention.attention.AA', 'num_heads': 4}}
    """
    if isinstance(node, dict):
        entries = {str(key): plain(value) for key, value in node.items()}
        return {"class": tag_of(node), **entries} if tag_of(node) else entries
    if isinstance(node, list):
        return [plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, (int, float)):  # ruamel has its own kinds of both
        return int(node) if isinstance(node, int) else float(node)
    value = str(getattr(node, "value", node))
    return {"class": tag_of(node)} if tag_of(node) and not value else value


def tagged(node: Any) -> str:
    """A plain description (see `plain`) as the YAML text that it came from, in one line.

    Example
    -------
    >>> tagged({"class": "!new:collections.Counter", "a": 1, "b": [True, None]})
    '!new:collections.Counter {"a": 1, "b": [true, null]}'
    """
    if isinstance(node, dict):
        entries = ", ".join(f"{json.dumps(key)}: {tagged(value)}" for key, value in node.items() if key != "class")
        return f"{node.get('class', '')} {{{entries}}}".strip()
    if isinstance(node, list):
        return f"[{', '.join(map(tagged, node))}]"
    return json.dumps(node, ensure_ascii=False)  # YAML takes two escapes of one character for two characters
