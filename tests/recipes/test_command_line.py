"""How every command ends: a line and an exit code, never a traceback for what a user can mend."""

import os
import subprocess
import sys

import pytest
from tiny import ROOT
from torch.utils.data import DataLoader, Dataset

from recipes.command_line import FULL, OF_MACHINE, Parser, UserError, exit_code

MEMORY, WRITER = OF_MACHINE[0][1], OF_MACHINE[1][1]


def blamed(error, cause):
    """An error that another one has led to."""
    error.__cause__ = cause
    return error


def ends(error):
    """A command that ends in an exception."""

    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    "error, code, said",
    [
        (UserError("two\n  lines"), 2, "error: two lines\n"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            2,
            "error: /root/x: permission denied: choose a place that you may read, or write to\n",
        ),
        (KeyboardInterrupt(), 130, "go on so\n"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"), 2, f"error: {WRITER}\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, f"error: {MEMORY}\n"),
        (blamed(UserError("a.flac cannot be decoded"), MemoryError()), 2, f"error: {MEMORY}\n"),
        (blamed(UserError("a.json is damaged"), RecursionError("deep")), 2, "error: a.json is damaged\n"),
        (OSError("odd"), 2, "error: OSError: odd\n"),
        (OSError(28, "No space left on device"), 2, f"error: the system says: no space left on device: {FULL}\n"),
        (
            ModuleNotFoundError("No module named 'onnx'"),
            2,
            "error: No module named 'onnx': install it, the README says with which extra (pip install -e '.[...]')\n",
        ),
        (UserError("a\x1b[31m.flac \udcff"), 2, "error: a\\x1b[31m.flac \\udcff\n"),
    ],
    ids=["input", "system", "Ctrl-C", "writer", "memory", "blamed", "damaged", "odd", "full", "package", "escapes"],
)
def test_what_is_said_and_the_exit_code(capsys, error, code, said):
    assert exit_code(ends(error), [], interrupted="go on so") == code
    assert capsys.readouterr().err == said


def test_an_interruption_may_go_without_words(capsys):
    assert exit_code(ends(KeyboardInterrupt()), [], interrupted="") == 130
    assert capsys.readouterr().err == ""


def test_what_nobody_foresaw_is_a_line_and_a_file_with_the_traceback(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_code(lambda arguments: 1 // 0, []) == 1
    (file,) = tmp_path.iterdir()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unforeseen ZeroDivisionError: integer") and str(file) in line
    assert "Traceback" in file.read_text() and "1 // 0" in file.read_text()


class Failing(Dataset):
    """A data set whose one item is an error."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    "error, code, line",
    [
        (UserError("u-1: damaged:\n  fetch it again"), 2, "u-1: damaged: fetch it again"),
        (FileNotFoundError(2, "No such file or directory", "/a b.flac"), 2, "/a b.flac: no such file or directory: give one"),
        (MemoryError(), 2, "not enough memory"),
        (KeyError("sig"), 1, "unforeseen KeyError: 'sig'; please report"),
    ],
    ids=["input", "system", "memory", "unforeseen"],
)
def test_an_error_of_a_process_that_loads_data_is_a_line_too(capsys, tmp_path, monkeypatch, error, code, line):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_code(lambda arguments: len(list(DataLoader(Failing(error), num_workers=1))), []) == code
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {line}")


def test_in_a_process_of_several_the_line_names_the_rank(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert exit_code(ends(UserError("no")), []) == 2
    assert capsys.readouterr().err == "error: rank 1: no\n"


def test_a_reader_that_has_enough():
    """As with `| head -1`: no traceback, and none at the end of the process, which writes what is left."""
    code = "import sys; from recipes.command_line import exit_code; "
    code += "sys.exit(exit_code(lambda words: [print('line', flush=True) for _ in range(10**6)] and 0, []))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.wait(60) == 141 and process.stderr.read() == ""


@pytest.mark.parametrize(
    "words, terminal, code, out, err",
    [
        ("print('ö')", {"stdout": "/dev/full"}, 2, "", "error: the system says: no space left on device: free some space"),
        ("print('ö')", {"close": 1}, 0, "", ""),
        ("print('ö')", {"env": "ascii"}, 0, "\\xf6\n", ""),
        ("[][1]", {"close": 2}, 1, "", ""),
        ("[][1]", {"stderr": "/dev/full"}, 1, "", ""),
        ("sys.exit(print('ö'))", {"close": 1}, 0, "", ""),
    ],
    ids=["full", "closed", "ASCII", "closed error", "full error", "help"],
)
def test_odd_terminals(words, terminal, code, out, err, tmp_path):
    script = f"import sys; from recipes.command_line import exit_code; sys.exit(exit_code(lambda w: {words} and 0, []))"
    streams = {name: open(terminal[name], "w") if name in terminal else subprocess.PIPE for name in ("stdout", "stderr")}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": terminal.get("env", "utf-8")},
        preexec_fn=lambda: os.close(terminal["close"]) if "close" in terminal else None,
        text=True,
        **streams,
    )
    assert ended.returncode == code, ended.stderr
    assert (ended.stdout or "") == out and (ended.stderr or "").startswith(err) and "Traceback" not in (ended.stderr or "")
    assert len((ended.stderr or "").splitlines()) == bool(err)


def test_options_are_not_abbreviated_and_wrong_ones_are_bad_input():
    parser = Parser(prog="command")
    parser.add_argument("--number", type=int)
    assert parser.parse_args(["--number", "3"]).number == 3
    for words in (["--num", "3"], ["--number", "x"]):
        with pytest.raises(UserError):
            parser.parse_args(words)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["-m results.pages", "transcribe.py"])
def test_the_usage_shows_the_command_as_it_is_typed(command):
    words = [sys.executable, *command.split(), "--help"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f"usage: python {command} [-h]")
