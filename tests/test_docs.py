"""What the pages say of files, folders and commands is so, and the tree keeps its shape."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import ruamel.yaml

ROOT = Path(__file__).parents[1]
LONGEST_LINE, LONGEST_README, LONGEST_MODULE, MODULES_IN_A_FOLDER = 140, 200, 300, 12
TUTORIAL = Path("modules/attention/README.md")
"""Its reader writes a YAML of hparams/."""


def committed():
    """Paths of all files that git knows or would add, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


FILES = committed()
PAGES = [path for path in FILES if path.suffix == ".md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=str)


def prose(text):
    """The lines of a page outside fenced blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(text):
    """The names under which GitHub links to a page's headings."""
    headings = (line.lstrip("#").strip().lower() for _, line in prose(text) if re.match("#+ ", line))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def broken_links(page, text):
    """The relative links and images of a page that lead nowhere."""
    broken = []
    for line in (re.sub("`[^`]*`", "", line) for _, line in prose(text)):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            name, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (ROOT / page).parent / name
            headings = file.read_text() if file.suffix == ".md" and file.exists() else "" if name else text
            if not file.exists() or (anchor and anchor not in anchors(headings)):
                broken.append(target)
    return broken


@every_page
def test_links_resolve(page):
    assert broken_links(page, (ROOT / page).read_text()) == []


def test_a_broken_link_is_found():
    links = "[a](#one) [b](#two) ![c](nowhere.png) [d](LICENSE) [e](https://nowhere.example/x) `[f](code)`"
    assert broken_links(Path("README.md"), f"# One\n{links}\n```\n[g](code)\n```\n") == ["#two", "nowhere.png"]


@every_page
def test_lines_are_short(page):
    long = [number for number, line in prose((ROOT / page).read_text()) if len(line) > LONGEST_LINE and line[:1] != "|"]
    assert long == []


def test_commands_are_there():
    """What follows `python -m`, and the scripts and YAML files of commands, in pages, code and YAML."""
    missing = set()
    for path in (path for path in FILES if path.suffix in (".md", ".py", ".yaml") and path.name != "CHANGELOG.md"):
        text = (ROOT / path).read_text()
        modules = re.findall(r"python -m ((?:recipes|results|tests)\.[\w.]*\w)", text)
        missing |= {(str(path), name) for name in modules if importlib.util.find_spec(name) is None}
        files = re.findall(r"python ([\w/]+\.py)\b", text)
        if path != TUTORIAL and path.parts[0] != "tests":  # which name files that are not there
            files += re.findall(r"(?<![\w/])hparams/[a-z0-9_/]+\.yaml", text)
        missing |= {(str(path), name) for name in files if not (ROOT / name).exists()}
    assert missing == set()


def tree_of(text):
    """The paths in README's tree: on each line one path, or several with commas between them, then two spaces and words."""
    (block,) = re.findall(r"<!-- tree -->\n```\n(.*?)```", text, re.DOTALL)
    return [Path(name) for line in block.splitlines() for name in line.split("  ")[0].split(", ")]


def test_readme_shows_the_tree():
    shown = set(tree_of((ROOT / "README.md").read_text()))
    assert [str(path) for path in sorted(shown) if not (ROOT / path).exists()] == []
    real = {Path(path.parts[0]) for path in FILES if not path.parts[0].startswith(".")} - {Path("README.md")}
    for folder in (Path("recipes/LibriSpeech"), Path("results")):
        inside = [path.relative_to(folder).parts for path in FILES if path.is_relative_to(folder)]
        real |= {folder / parts[0] for parts in inside if len(parts) > 1}
    assert sorted(map(str, real - shown)) == []


def test_a_tree_is_read():
    text = "<!-- tree -->\n```\ntrain.py  trains, and tests\nLICENSE, setup.py\nresults/speed/   how fast\n```\n"
    assert tree_of(text) == [Path(name) for name in ("train.py", "LICENSE", "setup.py", "results/speed")]


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) < LONGEST_README


def test_folders_hold_few_modules():
    modules = [path.parent for path in FILES if path.suffix == ".py" and path.name != "__init__.py"]
    counts = {str(folder): modules.count(folder) for folder in modules}
    assert {folder: count for folder, count in counts.items() if count > MODULES_IN_A_FOLDER} == {}


def test_modules_are_short():
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in FILES if path.suffix == ".py"}
    assert {name for name, length in lengths.items() if length > LONGEST_MODULE} == set()


def test_citation_is_that_of_the_package():
    """The keys that the Citation File Format demands, and the version that setup.py has."""
    citation = ruamel.yaml.YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f'version="{citation["version"]}"' in (ROOT / "setup.py").read_text()
    assert all({"type", "title", "authors"} <= reference.keys() for reference in citation["references"])
