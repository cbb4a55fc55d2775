"""README's tables are those that the files give."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_tables_are_made_from_the_files():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "results" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = (ROOT / "README.md").read_text()
    assert "<!-- table: measured -->" in text and "<!-- table: published -->" in text
    assert tables.fill(text) == text
