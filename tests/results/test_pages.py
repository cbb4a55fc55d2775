"""The tables of all pages are those that the files give, and each figure is drawn from a file."""

import re
import shutil

import pytest

from recipes.command_line import exit_code
from results import pages, reproduce
from results.speed import page as speed

PAGES = pages.pages(pages.ROOT)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(pages.ROOT)))
def test_tables_are_made_from_the_files(path):
    text = path.read_text()
    assert pages.fill(text) == text


def test_every_table_stands_on_one_page():
    names = [name for path in PAGES for name in re.findall(r"<!-- table: (.*?) -->", path.read_text())]
    assert sorted(names) == sorted(pages.tables())


def test_a_table_that_nothing_makes_is_refused():
    with pytest.raises(LookupError, match="nonsense"):
        pages.fill("<!-- table: nonsense -->\n<!-- end -->")


def test_a_file_that_is_gone_is_named():
    gone = pages.ROOT / "results" / "gone.json"
    assert pages.made(lambda: speed.claims(gone)) == "Missing: `gone.json`."


def copy(root):
    """README.md and results/ without runs, in another folder."""
    shutil.copytree(pages.ROOT / "results", root / "results", ignore=shutil.ignore_patterns("runs", "*.py", "__pycache__"))
    shutil.copy(pages.ROOT / "README.md", root)
    return root


def test_pages_are_filled_and_left_alone_where_nothing_changed(tmp_path):
    root = copy(tmp_path)
    before = {path: path.read_bytes() for path in pages.pages(root)}
    times = {path: path.stat().st_mtime_ns for path in before}
    pages.fill_pages(root)
    assert {path: path.stat().st_mtime_ns for path in before} == times
    for path, content in before.items():
        path.write_bytes(re.sub(rb"(<!-- table: .*? -->\n)", rb"\1old\n", content))
    pages.fill_pages(root)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_every_figure_is_drawn(tmp_path):
    root = copy(tmp_path)
    figures = {path.relative_to(root) for name in pages.SUBJECTS for path in (root / "results" / name).glob("*.png")}
    assert figures
    for path in figures:
        (root / path).unlink()
    pages.draw_figures(root)
    assert {path.relative_to(root) for name in pages.SUBJECTS for path in (root / "results" / name).glob("*.png")} == figures


@pytest.mark.parametrize("error", [AttributeError("no items"), pages.YAMLError("Ma: et al"), pages.UserError("no")])
def test_a_damaged_file_stops_no_training(monkeypatch, capsys, error):
    monkeypatch.setattr(pages, "draw_figures", lambda root: None)

    def fail(root):
        raise error

    monkeypatch.setattr(pages, "fill_pages", fail)
    assert not pages.regenerate() and exit_code(pages.command, []) == 1
    why = "no" if isinstance(error, pages.UserError) else type(error).__name__
    assert f"no new tables: {why}" in capsys.readouterr().out


def test_reproduce_makes_the_pages_too(monkeypatch):
    made = []
    monkeypatch.setattr(pages, "regenerate", lambda: made.append("pages") or True)
    assert reproduce.main(["--tables"]) == 0 and made == ["pages"]
