"""README's tables are those that the files give."""

from results import tables


def test_tables_are_made_from_the_files():
    text = (tables.ROOT / "README.md").read_text()
    assert "<!-- table: measured -->" in text and "<!-- table: published -->" in text
    assert tables.fill(text) == text


def test_a_file_that_is_gone_is_named():
    gone = tables.ROOT / "results" / "gone.json"
    assert tables.made(lambda: tables.speed(gone)) == "Missing: `results/gone.json`."
