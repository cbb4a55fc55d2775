"""Makes all tables and figures anew from the JSON files, in README.md and on the pages of results/: `python -m results.pages`.

A table stands in a page between `<!-- table: NAME -->` and `<!-- end -->`. The function that makes it stands in the `page` module
of its folder, in `TABLES`; `draw` there makes the figures, which need matplotlib (`pip install -e '.[figures]'`). Files in which
nothing changes are not touched.
"""

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ruamel.yaml.error import YAMLError
from tqdm import tqdm

from recipes.command_line import Parser, UserError, exit_code
from recipes.files import write_text
from results import ROOT
from results.attention import page as attention
from results.common.markdown import paragraph
from results.comparison import page as comparison
from results.latency import page as latency
from results.speed import page as speed

SUBJECTS = {"comparison": comparison, "speed": speed, "latency": latency, "attention": attention}
"""From a folder of results/ to the module that says what its page shows."""


def headlines() -> str:
    """A line for each page, for results/README.md."""
    return "\n".join(paragraph(f"* [{name}]({name}/README.md): {made(page.headline)}.") for name, page in SUBJECTS.items())


def tables() -> dict[str, Callable[[], str]]:
    """The function that makes each table, by name."""
    return {"headlines": headlines} | {name: table for page in SUBJECTS.values() for name, table in page.TABLES.items()}


def made(table: Callable[[], str]) -> str:
    """The text of a table, or that its file is missing."""
    try:
        return table()
    except FileNotFoundError as error:
        return f"Missing: `{Path(error.filename).name}`."


def fill(text: str) -> str:
    """The text of a page, with each table between its markers made anew; LookupError where nothing makes one."""
    known = tables()
    return re.sub(
        r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{made(known[found[2]])}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def pages(root: Path) -> list[Path]:
    """The files that have tables."""
    return [root / "README.md", *sorted(root.glob("results/README.md")), *sorted(root.glob("results/*/README.md"))]


def fill_pages(root: Path = ROOT) -> None:
    """Make all tables anew."""
    for page in pages(root):
        before = page.read_text()
        after = fill(before)
        if after != before:
            write_text(page, after)


def draw_figures(root: Path = ROOT) -> None:
    """Draw each figure anew that a file is enough for."""
    for name, page in SUBJECTS.items():
        page.draw(root / "results" / name)


def regenerate(root: Path = ROOT) -> bool:
    """Figures, and the pages, which show them; where files do not fit together a line says so. Whether all are made."""
    complete = True
    for make, what in ((draw_figures, "figures"), (fill_pages, "tables")):
        try:
            make(root)
            continue
        except ImportError as error:
            why = f"{error}; pip install -e '.[figures]'"
        except UserError as error:  # which names the file
            why = str(error)
        except (ValueError, LookupError, TypeError, AttributeError, OSError, YAMLError) as error:  # what runs, runs on
            why = f"{type(error).__name__}: {' '.join(str(error).split())}: is a file in results/ damaged?"
        tqdm.write(f"no new {what}: {why}")
        complete = False
    return complete


def command(arguments: Sequence[str]) -> int:
    """0, or 1 if something could not be made."""
    Parser(description=__doc__.split("\n")[0]).parse_args(arguments)
    return 0 if regenerate() else 1


main = partial(exit_code, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
