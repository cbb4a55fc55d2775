"""README's tables are those that the files give."""

from results import pages


def test_tables_are_made_from_the_files():
    text = (pages.ROOT / "README.md").read_text()
    assert "<!-- table: measured -->" in text and "<!-- table: published -->" in text
    assert pages.fill(text) == text


def test_a_file_that_is_gone_is_named():
    gone = pages.ROOT / "results" / "gone.json"
    assert pages.made(lambda: pages.speed(gone)) == "Missing: `results/gone.json`."
