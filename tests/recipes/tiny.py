"""A main job that takes seconds: its command line, and the line with which it fails."""

from pathlib import Path

import train

ROOT = Path(__file__).parents[2]
SPLITS = {"train-a": 12, "dev-b": 4, "test-c": 4}
TINY = {
    "dim": "16", "ffn_dim": "16", "num_layers": "2", "num_heads": "2", "device": "cpu",
    "train_splits": "[train-a]", "dev_splits": "[dev-b]", "test_splits": "[test-c]",
    "pretrain": "{epochs: 2, batch_seconds: 6}", "finetune": "{epochs: 2, batch_seconds: 6}",
    "ckpt_interval_minutes": "0", "ckpt_interval_steps": "1",
}  # fmt: skip


def arguments(root, folder, *flags, yaml="llsa", **changes):
    options = {"data_folder": str(root), "output_folder": str(folder), **TINY, **changes}
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(ROOT / "hparams" / f"{yaml}.yaml"), *pairs, "--noprogressbar", *flags]


def fails(capsys, root, folder, **changes):
    """The one line of a run that must end with exit code 2."""
    assert train.main(arguments(root, folder, **changes)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]
