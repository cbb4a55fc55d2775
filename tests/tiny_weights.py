"""Prints a hash of the weights that tiny trainings end with: what a change of code that changes no result must leave as it is.

    python -m tests.tiny_weights                                       # of this checkout, about a minute
    python -m tests.tiny_weights --tree ../before > before.txt         # of another one, in this environment
    python -m tests.tiny_weights | diff before.txt - && echo equal

Seven systems of two layers are pre-trained for two epochs and fine-tuned for two, on 24 seconds of noise: both block types with
BEST-RQ and with wav2vec 2.0, Muon, shared attention maps, SummaryMixing. Hashes are equal only where processor, number
of threads and package versions are: compare on one machine.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.recipes.tiny import SPLITS, TINY, write_tree

ROOT = Path(__file__).parents[1]
CONFORMER = "!name:speech_attention.blocks.ConformerBlock {kernel_size: 5}"
WAVEFORM = "!new:speech_attention.front_end.WaveformFrontEnd {dim: 16, channels: 16}"
SYSTEMS = {
    "transformer, BEST-RQ": ("llsa", {"scale": "mini"}),
    "conformer, BEST-RQ": ("sa", {"scale": "small", "lookahead": "1"}),
    "conformer, Muon": ("llsa", {"scale": "cpu"}),
    "transformer, wav2vec 2.0": ("llsa", {"scale": "base", "front_end": WAVEFORM}),
    "conformer, wav2vec 2.0": ("sa", {"scale": "base", "front_end": WAVEFORM, "block": CONFORMER}),
    "shared maps": ("shared_attention", {"scale": "mini", "owners": "[0]"}),
    "SummaryMixing": ("summary_mixing", {"scale": "mini"}),
}
"""The YAML in hparams/ and what is changed in it, for each system."""


def digest(path):
    """A hash of the names and values of the weights in a checkpoint."""
    state = torch.load(path, weights_only=True)
    result = hashlib.sha256()
    for name, tensor in sorted(state.get("state", state).items()):
        result.update(name.encode() + tensor.numpy().tobytes())
    return result.hexdigest()[:16]


def train(tree, system, folder, **changes):
    """Train one system in a process of its own.

    Arguments
    ---------
    tree : Path
        The checkout whose code is used.
    system : str
        A key of `SYSTEMS`.
    folder : Path
        An empty folder: the data and the run are written there.
    **changes : str
        Further keys of the experiment.

    Returns
    -------
    str
        Hashes of the pre-trained encoder and of the last checkpoint, and WER on the dev and test sets.
    """
    yaml, own = SYSTEMS[system]
    data, run, imports = folder / "LibriSpeech", folder / "run", folder / "imports"
    write_tree(data, SPLITS, seconds=2.0)
    imports.mkdir()
    (imports / "speech_attention").symlink_to(tree / "modules")
    options = {**TINY, **own, **changes, "data_folder": str(data), "output_folder": str(run)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "train.py", f"hparams/{yaml}.yaml", *words, "--noprogressbar"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(imports), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{system}: {done.stderr}")
    summary = json.loads((run / "summary.json").read_text())
    (score,) = summary["wer"].values()
    last = max(run.rglob("model.ckpt"))
    hashes = f"encoder {digest(run / 'pretrain' / 'encoder.ckpt')}, model {digest(last)}"
    return f"{hashes}, WER {summary['dev_wer']} dev, {score['wer']} test"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout that trains (default: this one)")
    tree = parser.parse_args().tree.resolve()
    for system in SYSTEMS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{system}: {train(tree, system, Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
