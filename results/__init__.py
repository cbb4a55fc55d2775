"""Commands that measure, and the pages that show what they measured."""

import os
from pathlib import Path

import recipes as _  # noqa: F401  its filters of warnings

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler would tell of each start,
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # and of tensors that are older than it

ROOT = Path(__file__).parents[1]
MEASURED, RUNS = "results/measured", "results/runs"
"""Folders below ROOT: the summaries of finished runs, which the pages show; the folders of all runs, which are not in git."""
