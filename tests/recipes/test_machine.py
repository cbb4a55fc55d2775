"""What a program ran on is told truly: libraries, hardware, commit, memory."""

import json
import os
import subprocess
import sys

import pytest
import torch

from recipes import machine


def test_environment_is_json_and_true():
    found = machine.environment()
    assert json.loads(json.dumps(found)) == found
    assert set(found["versions"]) == {"python", "torch", "torchaudio", "speechbrain", "hyperpyyaml", "jiwer"}
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["cores"] == torch.get_num_threads()
    assert found["memory_gib"] > 0 and found["cpu"]
    assert (found["gpu"] is not None) == torch.cuda.is_available()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one commit that holds a copy of the module; returns (run git, the copied module's source)."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "package" / "machine.py"
    module.parent.mkdir()
    module.write_text("first\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(machine, "__file__", str(module))
    return git, module


def test_environment_names_the_commit(checkout):
    git, module = checkout
    commit = git("rev-parse", "HEAD")
    assert machine.environment()["git"] == {"commit": commit, "dirty": False}
    module.write_text("second\n")
    assert machine.environment()["git"] == {"commit": commit, "dirty": True}
    git("checkout", ".")
    (module.parent / "new_attention.py").write_text("untracked code counts\n")
    assert machine.environment()["git"] == {"commit": commit, "dirty": True}


def test_no_commit_for_code_that_is_merely_inside_a_checkout(checkout, monkeypatch):
    """A package installed below someone's own project must not report that project's commit as its own."""
    _, module = checkout
    installed = module.parent / "site-packages" / "machine.py"
    installed.parent.mkdir()
    installed.write_text("installed\n")
    monkeypatch.setattr(machine, "__file__", str(installed))
    assert machine.environment()["git"] is None


def test_peak_memory_is_what_this_process_held_at_most():
    """A small process takes 100 MiB and lets them go; the one that started it holds 500 MiB, which are not its own."""
    large = torch.ones(500, 2**20, dtype=torch.uint8)
    code = f"""
import importlib.util, sys, types
device = lambda name: types.SimpleNamespace(type=name)
sys.modules["torch"] = types.SimpleNamespace(device=device)  # the real one would take more than 100 MiB itself
spec = importlib.util.spec_from_file_location("machine", {machine.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
block = b"x" * (100 * 2**20)
del block
print(module.peak_memory_mib())
"""
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 100 <= float(child.stdout) < 300
    assert machine.peak_memory_mib() >= large.numel() / 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_of_a_cuda_device():
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 2**20
    held = torch.empty(10, 2**20, dtype=torch.uint8, device="cuda")
    del held
    assert machine.peak_memory_mib("cuda") == before + 10
