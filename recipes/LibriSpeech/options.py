"""The command line of train.py: keys of the YAML files as options, and help that is read from these files."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import speechbrain as sb
from speechbrain.utils.run_opts import HELP_TEXTS

from recipes.command_line import UserError
from recipes.LibriSpeech import yaml_text
from recipes.LibriSpeech.checks import HPARAMS, LITERAL, SCALES, did_you_mean
from recipes.LibriSpeech.experiment import attention_files, comments_of, parse_yaml

NEEDS = {"debug_batches": "debug", "debug_epochs": "debug"}
"""Options of SpeechBrain that change nothing without another one."""
FLAGS = "debug", "noprogressbar", "compile"
"""Those that have no value."""
RUN_OPTIONS = {name: HELP_TEXTS[name] for name in ("device", "distributed_backend", *FLAGS, *NEEDS)} | {
    "debug_epochs": "Number of epochs to run in debug mode.",
    "compile": "Compile the model with torch.compile; it may take minutes.",
}
"""Options of SpeechBrain itself that this recipe supports and that are no keys of the YAML, with their help."""
REFUSED = {
    "test_only": "give --stage test",
    "debug_persistently": "what --debug leaves is in the folder of the run whose name ends in -debug",
    "log_config": "what a run logs is in train_log.txt and log.jsonl of its folder, and with --tensorboard in curves",
    "data_parallel_backend": "start train.py with torchrun, one process for each GPU",
    "find_unused_parameters": "each parameter has to be used: take those that are not out of the model",
    "jit": "give --compile",
    "jit_module_keys": "give --compile",
    "compile_module_keys": "--compile alone compiles all modules",
    "compile_mode": "give --compile alone",
    "compile_using_fullgraph": "give --compile alone",
    "compile_using_dynamic_shape_tracing": "--compile alone serves batches of all sizes",
    "auto_mix_prec": "give --precision fp16",
    "bfloat16_mix_prec": "give --precision bf16",
    "skip_nonfinite_grads": "training stops at a gradient that is not finite, and names the utterances",
    "nonfinite_patience": "training stops at a loss that is not finite, and names the utterances",
    "optimizer_step_limit": 'give --pretrain "{epochs: N}" and --finetune "{epochs: N}"',
    "tqdm_colored_bar": "give --noprogressbar for none",
    "remove_vector_weight_decay": "give --weight_decay, or another --opt_class",
    "profile_training": "python -m results.speed.measure measures the speed",
    "profile_warmup": "python -m results.speed.measure measures the speed",
    "profile_steps": "python -m results.speed.measure measures the speed",
}
"""Options of SpeechBrain that this recipe does not support, and what to do instead."""
USAGE = """\
usage: python train.py hparams/ATTENTION.yaml [--key value ...]

Every key of the experiment is an option. An entry of a block is changed by --block "{entry: value}", and a whole block is
replaced by --block "!name:CLASS {entry: value}". Paths, names and the codec are taken as they are typed, other values are
YAML. In brackets: the default, and that of the scales which have another.
"""
NAMES, WIDTH = 28, 128
"""Columns for the names, and for the whole text."""
PLACEHOLDER = yaml_text.parse("!PLACEHOLDER")
"""What stands in a YAML where another file has the value."""


def parse(arguments: Sequence[str]) -> tuple[str, sb.RunOptions, dict[str, Any]]:
    """Read the words of the command line.

    Arguments
    ---------
    arguments : sequence of str
        The YAML of an attention; then `--key value`, `--key=value`, or `--key` alone where the value is True or False.

    Returns
    -------
    path : str
        The YAML.
    run_options : RunOptions
        What is given of RUN_OPTIONS.
    overrides : dict
        All others, see `values`.

    Raises
    ------
    UserError
        If an option is not known or given twice, or its value is missing or none that it takes.

    Example
    -------
    >>> path, run_options, overrides = parse(["hparams/sa.yaml", "--name", "3e5", "--device=cpu", "--skip_bad", "--seed", "2"])
    >>> path, run_options.device, overrides
    ('hparams/sa.yaml', 'cpu', {'name': '3e5', 'skip_bad': True, 'seed': 2})
    """
    path = next(iter(arguments), "")
    if unfit := [word for word in arguments if not yaml_text.can_hold(word)]:
        raise UserError(f"{unfit[0]!a} has bytes or characters that no YAML file can hold: rename it")
    if not path or path.startswith("-"):
        raise UserError(f"give the YAML of an attention first: {', '.join(attention_files())}; --help shows all options")
    words: dict[str, str | None] = {}
    waiting: str | None = None  # the option whose value may follow
    for word in arguments[1:]:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in words:
                raise UserError(f"--{name} is given twice: give each option once")
            words[name], waiting = (value, None) if equals else (None, name)
        elif waiting is None:
            raise UserError(f"{word!r} belongs to no option: give --key value, with quotes around a value that has spaces")
        else:
            words[waiting], waiting = word, None
    overrides = values({name: word for name, word in words.items() if name not in RUN_OPTIONS})
    run_options = {name: _run_option(name, word) for name, word in words.items() if name in RUN_OPTIONS}
    for name, other in NEEDS.items():
        if name in run_options and other not in run_options:
            raise UserError(f"--{name} changes nothing without --{other}")
    if "compile" in run_options:
        run_options["compile_using_dynamic_shape_tracing"] = None  # the second size of a batch shows that sizes differ
    return path, sb.RunOptions.from_dictionary(run_options), overrides


def values(words: Mapping[str, str | None]) -> dict[str, Any]:
    """The values of keys of the YAML that are given as options: text as it is for a path, a name or the codec, else YAML.

    Arguments
    ---------
    words : dict
        From each key to the word after it, None where there is none.

    Returns
    -------
    dict
        For `experiment.resolve`.

    Raises
    ------
    UserError
        See `parse`.

    Example
    -------
    >>> values({"output_folder": "out/Libri #2", "owners": "[0, 2]", "test_splits": "test-other"})
    {'output_folder': 'out/Libri #2', 'owners': [0, 2], 'test_splits': 'test-other'}
    """
    shared, found = yaml_text.parse((HPARAMS / "experiment.yaml").read_text()), dict[str, Any]()
    for key, word in words.items():
        if key in REFUSED:
            raise UserError(f"--{key}, an option of SpeechBrain, is not supported here: {REFUSED[key]}")
        if key not in shared:
            hint = did_you_mean(key, [*shared, *RUN_OPTIONS]) or "; python train.py --help shows all options"
            raise UserError(f"unknown key {key}{hint}")
        if word is None and isinstance(shared[key], bool):
            found[key] = True
        elif not word:
            raise _no_value(key)
        elif key in LITERAL or (key.endswith("_splits") and not word.startswith("[")):
            found[key] = word
        else:
            found[key] = parse_yaml(word, f"--{key}")
    return found


def _no_value(name: str) -> UserError:
    return UserError(f"--{name} has no value: give one, or leave the option out (a shell variable in its place may be empty)")


def _run_option(name: str, word: str | None) -> Any:
    """The value of one of RUN_OPTIONS."""
    if name in FLAGS:
        if word is not None:
            raise UserError(f"--{name} has no value: leave {word!r} out")
        return True
    if not word:
        raise _no_value(name)
    if name.startswith("debug_"):
        if not word.isdecimal() or not 0 < int(word) < 2**32:
            raise UserError(f"--{name} {word} must be a whole number above 0")
        return int(word)
    if name == "distributed_backend" and word not in ("nccl", "gloo", "mpi"):
        raise UserError(f"--{name} {word} must be nccl or gloo or mpi")
    return word


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
        text = (HPARAMS.parent / name).read_text()
        title = text.splitlines()[0].removeprefix("# ")
        lines += textwrap.wrap(f"{name}: {title}", WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines += _entries(("attention",), comments_of(shared, text), {None: yaml_text.parse(text)})
    lines += ["", "SpeechBrain's own options that this recipe supports:"]
    for option, text in RUN_OPTIONS.items():
        lines += _line(f"  --{option}", text)
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
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * NAMES, break_on_hyphens=False)


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
