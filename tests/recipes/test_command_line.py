"""How every command ends: a line and an exit code, never a traceback for what a user can mend."""

import subprocess
import sys

import pytest
from tiny import ROOT

from recipes.command_line import Parser, UserError, exit_code


def ends(error):
    """A command that ends in an exception."""

    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    "error, code, said",
    [
        (UserError("two\n  lines"), 2, "error: two lines\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "error: [Errno 13] Permission denied: '/root/x'\n"),
        (KeyboardInterrupt(), 130, "go on so\n"),
    ],
    ids=["input", "machine", "Ctrl-C"],
)
def test_what_is_said_and_the_exit_code(capsys, error, code, said):
    assert exit_code(ends(error), [], interrupted="go on so") == code
    assert capsys.readouterr().err == said


def test_an_interruption_may_go_without_words(capsys):
    assert exit_code(ends(KeyboardInterrupt()), [], interrupted="") == 130
    assert capsys.readouterr().err == ""


def test_what_nobody_can_mend_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda arguments: 1 // 0, [])


def test_a_reader_that_has_enough():
    """As with `| head -1`: no traceback, and none at the end of the process, which writes what is left."""
    code = "import sys; from recipes.command_line import exit_code; "
    code += "sys.exit(exit_code(lambda words: [print('line', flush=True) for _ in range(10**6)] and 0, []))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.wait(60) == 141 and process.stderr.read() == ""


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
