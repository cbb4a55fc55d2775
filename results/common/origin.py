"""Where a measurement of a trained experiment comes from: what its JSON says of the system, the audio and the command."""

import shlex
from argparse import Namespace
from pathlib import Path

from recipes import machine
from recipes.LibriSpeech import experiment
from recipes.LibriSpeech.data.prepare import Manifest
from recipes.LibriSpeech.inference.loading import Trained

OF_THIS_MACHINE = {"data_folder": "LIBRISPEECH", "alignments": "TEXTGRIDS"}
"""Options whose values are folders somewhere, and what stands for them in a command that others repeat."""


def described(found: dict, module: str, options: Namespace, system: Trained, manifest: Manifest) -> dict:
    """What was found, and before it the experiment with its hash, the audio that it heard with its checksum, and whether it
    was trained on it; behind it the machine and the command of a module, see `command`."""
    return {
        "experiment": Path(options.experiment).absolute().name,
        "config_hash": experiment.config_hash(experiment.identity(system.config)),
        "split": manifest.split,
        "sha256": manifest.sha256,
        "codec": None if options.data_folder else system.config["codec"],
        "trained_on": manifest.split in system.config["train_splits"],
        **found,
        "environment": machine.environment(),
        "command": command(module, options),
    }


def command(module: str, options: Namespace) -> str:
    """The command line that gives the measurement again; `options.experiment` is the folder of the experiment.

    Example
    -------
    >>> command("results.latency.delay", Namespace(experiment="runs/mine", data_folder="/my", hops=[40.0, 100.0], far=True))
    'python -m results.latency.delay mine --data_folder LIBRISPEECH --hops 40 100 --far'
    """
    words = ["python", "-m", module, Path(options.experiment).absolute().name]
    for name, value in vars(options).items():
        if name in ("experiment", "output") or value is None or value is False:
            continue
        if value is True:
            words.append(f"--{name}")
            continue
        values = [OF_THIS_MACHINE[name]] if name in OF_THIS_MACHINE else value if isinstance(value, list) else [value]
        words += [f"--{name}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in values)]
    return shlex.join(words)


def heard(result: dict) -> str:
    """Whether the system was trained on the audio that it heard, in words; such audio says less."""
    return f"audio that it was {'' if result['trained_on'] else 'not '}trained on"
