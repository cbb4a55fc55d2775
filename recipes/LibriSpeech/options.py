"""The command line of train.py: keys of the YAML files as options, and help that is read from these files."""

import contextlib
import io
import textwrap
from pathlib import Path
from typing import Any

import speechbrain as sb
from speechbrain.utils.run_opts import HELP_TEXTS

from recipes.command_line import UserError
from recipes.LibriSpeech import yaml_text
from recipes.LibriSpeech.checks import HPARAMS, SCALES
from recipes.LibriSpeech.experiment import attention_files, comments_of

RUN_OPTIONS = "device", "distributed_backend", "debug", "debug_batches", "debug_epochs", "noprogressbar", "compile"
"""Options of SpeechBrain itself that this recipe supports and that are no keys of the YAML."""
USAGE = """\
usage: python train.py hparams/ATTENTION.yaml [--key value ...]

Every key of the experiment is an option. An entry of a block is changed by --block "{entry: value}", and a whole block is
replaced by --block "!name:CLASS {entry: value}". In brackets: the default, and that of the scales which have another.
"""
NAMES, WIDTH = 28, 128
"""Columns for the names, and for the whole text."""
PLACEHOLDER = yaml_text.parse("!PLACEHOLDER")
"""What stands in a YAML where another file has the value."""


def parse(arguments: list[str]) -> tuple[str, sb.RunOptions, str]:
    """Split the words of the command line as SpeechBrain does.

    Returns
    -------
    path : str
        The YAML of the attention.
    run_options : RunOptions
        SpeechBrain's own.
    overrides : str
        All others, as YAML.

    Raises
    ------
    UserError
        If SpeechBrain refuses them.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return sb.parse_arguments(arguments)
    except SystemExit as error:
        problem = said.getvalue().strip().rpartition("error: ")[2]
        if "param_file" in problem:
            problem = f"give the YAML of an attention first: {', '.join(attention_files())}"
        raise UserError(f"{problem}; python train.py --help shows all options") from error


def help_text() -> str:
    """What `--help` prints: all keys by section, with their comments, choices, and values by scale."""
    shared = (HPARAMS / "experiment.yaml").read_text()
    comments, sections = comments_of(shared), yaml_text.sections(shared)
    values: dict[str | None, Any] = {None: yaml_text.parse(shared)}
    values |= {scale: yaml_text.parse((HPARAMS / "scale" / f"{scale}.yaml").read_text()) for scale in SCALES}
    lines = [USAGE]
    for key in values[None]:
        lines += ["", f"{sections[key]}:"] if key in sections else []
        lines += _option((key,), comments, values)
    lines += ["", "The attentions, and the entries of --attention:"]
    for name in attention_files():
        text = (HPARAMS / Path(name).name).read_text()
        title = text.splitlines()[0].removeprefix("# ")
        lines += textwrap.wrap(f"{name}: {title}", WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines += _entries(("attention",), comments_of(shared, text), {None: yaml_text.parse(text)})
    lines += ["", "SpeechBrain's own options that this recipe supports:"]
    for option in RUN_OPTIONS:
        lines += _line(f"  --{option}", HELP_TEXTS[option])
    return "\n".join(lines)


def _option(path: tuple[str, ...], comments: dict, values: dict) -> list[str]:
    """The lines of a key, and of those of its entries that have a comment; `values` by scale, None: of all scales."""
    found = {scale: _at(node, path) for scale, node in values.items()}
    name = f"  --{path[0]}" if len(path) == 1 else f"      {path[-1]}"
    return _line(name, f"{comments.get(path, '')} {_default(found)}") + _entries(path, comments, values)


def _entries(path: tuple[str, ...], comments: dict, values: dict) -> list[str]:
    """The lines of those entries of a block that have a comment."""
    block = _at(values[None], path)
    keys = block if isinstance(block, dict) else {}
    return [line for key in keys if (*path, key) in comments for line in _option((*path, key), comments, values)]


def _line(name: str, text: str) -> list[str]:
    """A name, and beside it a text, in as many lines as it needs."""
    first = f"{name:<{NAMES - 1}} "
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * NAMES)


def _at(node: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of keys; a placeholder where nothing does."""
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return PLACEHOLDER
        node = node[key]
    return node


def _default(values: dict) -> str:
    """The value of a key in words: `[0.0; base 0.1]`; empty if it is not a value of its own."""
    if isinstance(values[None], dict) and not yaml_text.tag_of(values[None]):  # a block: its entries have theirs
        return ""
    said = {scale: _short(value) for scale, value in values.items() if yaml_text.tag_of(value) != "!PLACEHOLDER"}
    shared = said.pop(None, None)
    scales: dict[str, list[str]] = {}
    for scale, value in said.items():
        if value != shared:
            scales.setdefault(value, []).append(scale)
    words = [] if shared is None else [shared]
    words += [f"{', '.join(names)} {value}" for value, names in scales.items()]
    return f"[{'; '.join(words)}]" if words else ""


def _short(node: Any) -> str:
    """A value in a few letters: an object by its class."""
    tag = yaml_text.tag_of(node)
    if isinstance(node, dict):
        return (tag or "").rpartition(".")[2]
    if isinstance(node, list):
        return f"[{', '.join(map(_short, node))}]"
    return "null" if node is None else str(yaml_text.plain(node))
