"""Files that the commands of results/ read, damaged in many ways: a line names the file, and nothing is drawn or written."""

import json
import shutil

import pytest

from recipes.command_line import UserError
from results.attention import page as attention
from results.comparison import page as comparison
from results.latency import page as latency
from results.latency import wer_delay
from results.speed import page as speed
from tests.faults.case import Case, check
from tests.recipes.tiny import ROOT

RESULTS = ROOT / "results"
RUN = "llsa-mini-embedded-seed1.json"
OTHER = b'{"tool": {"name": "another program"}, "results": 3, "cells": {"a": 1}}'


def cut(content):
    return content[: len(content) // 2]


def not_a_number(content):
    """The first number below the first key that has one is NaN."""
    value = json.loads(content)
    _spoil(value)
    return json.dumps(value).encode()


def _spoil(value):
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, float) and not isinstance(inner, bool):
            value[key] = float("nan")
            return True
        if isinstance(inner, dict | list) and _spoil(inner):
            return True
    return False


DAMAGES = {
    "empty": lambda content: b"",
    "null": lambda content: b"null",
    "3": lambda content: b"3",
    "[]": lambda content: b"[]",
    "{}": lambda content: b"{}",
    "text": lambda content: b'"text"',
    "cut": cut,
    "zeros": lambda content: bytes(len(content)),
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "of another program": lambda content: OTHER,
    "deep": lambda content: b"[" * 100_000,
    "NaN": not_a_number,
}
"""From a name to what becomes of the bytes of a file."""
FILES = {
    "speed/speed.json": speed.claims,
    "speed/paper_size.json": speed.paper_size,
    "latency/budget.json": latency.latency,
    "latency/depth.json": latency.headline,
    f"latency/delays/{RUN}": lambda path: latency.delays(path.parent),
    f"latency/soaks/{RUN}": lambda path: latency.soaks(path.parent),
    f"attention/{attention.SHOWN}/analysis.json": attention.layers,
    f"measured/{RUN}": comparison.default,
}
"""From a file of results/ to what reads it for a page."""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_page_names_the_damaged_file(name, damage, tmp_path):
    path = tmp_path / name.rpartition("/")[2]
    path.write_bytes(DAMAGES[damage]((RESULTS / name).read_bytes()))
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        FILES[name](path)


@pytest.mark.parametrize("content", [b"", b"3", b"a: b", b"- a", b"- {paper: x}", b"{", b"\xff", b"\t- a: [", b"[" * 1_000])
def test_published_numbers_that_are_damaged(content, tmp_path):
    path = tmp_path / "published.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match="published.yaml is damaged"):
        comparison.published(path)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "NaN"])
def test_a_delay_that_is_damaged_is_not_drawn(damage, tmp_path):
    for folder in ("measured", "latency/delays"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(RESULTS / folder / RUN, tmp_path / folder)
    path = tmp_path / "latency" / "delays" / RUN
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError, match=f"delays/{RUN} is damaged"):
        wer_delay.points(tmp_path)


def measured(name, damage):
    """Makes a damaged a.json of a file of results/speed."""
    return lambda place: (place.here / "a.json").write_bytes(DAMAGES[damage]((RESULTS / "speed" / name).read_bytes()))


def checkout(name, damage):
    """Makes a checkout, as far as results/ needs one, with a damaged file."""

    def make(place):
        shutil.copy(ROOT / "README.md", place.here)
        shutil.copytree(RESULTS, place.here / "results", ignore=shutil.ignore_patterns("runs", "__pycache__"))
        path = place.here / "results" / name
        path.write_bytes(DAMAGES[damage](path.read_bytes()))

    return make


REPORTS = (
    *(
        Case(f"results.speed.{module} --report --output a.json", ("a.json", "damaged"), before=measured(f"{name}.json", damage))
        for module, name in (("measure", "speed"), ("paper_size", "paper_size"))
        for damage in ("null", "cut", "UTF-16", "of another program")
    ),
    *(
        Case(
            "results.speed.measure --output a.json",
            ("a.json holds no measurements of this command", "another --output"),
            before=measured("speed.json", damage),
        )
        for damage in ("[]", "cut", "of another program")
    ),
    Case(
        "results.speed.measure --output a.json",
        ("a.json was measured with another", "another --output"),
        before=lambda place: shutil.copy(RESULTS / "speed" / "paper_size.json", place.here / "a.json"),
    ),
    Case("results.latency.wer_delay", (f"{RUN} is damaged",), before=checkout(f"measured/{RUN}", "cut")),
    Case("results.latency.wer_delay", (f"delays/{RUN} is damaged",), before=checkout(f"latency/delays/{RUN}", "null")),
    Case(
        "results.attention.figures",
        ("analysis.json is damaged",),
        before=checkout(f"attention/{attention.SHOWN}/analysis.json", "{}"),
    ),
)
PAGES = (
    Case("results.pages", ("no new tables", "budget.json is damaged"), 1, before=checkout("latency/budget.json", "cut")),
    Case("results.pages", ("no new figures", "speed.json is damaged"), 1, before=checkout("speed/speed.json", "null")),
    Case("results.reproduce --tables", ("no new tables", f"{RUN} is damaged"), 1, before=checkout(f"measured/{RUN}", "[]")),
)


@pytest.mark.parametrize("case", REPORTS, ids=str)
def test_reports_of_damaged_files(case, place):
    check(case, place)


@pytest.mark.campaign
@pytest.mark.parametrize("case", PAGES, ids=str)
def test_pages_of_damaged_files(case, place):
    check(case, place)
