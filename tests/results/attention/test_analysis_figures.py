"""The figures of an analysis are drawn from its file, and the picture of the maps stays where the maps are not there."""

import json
import shutil

import pytest

from results.attention import figures, page

FOLDER = page.FOLDER / page.SHOWN


@pytest.fixture
def analysis(tmp_path):
    """The committed analysis in another folder, with a picture of maps that was drawn when they were there."""
    shutil.copy(FOLDER / "analysis.json", tmp_path)
    (tmp_path / "maps.png").write_bytes(b"drawn before")
    return json.loads((tmp_path / "analysis.json").read_text()), tmp_path


def test_all_but_the_maps_is_drawn_from_the_file(analysis):
    result, folder = analysis
    drawn = figures.draw(result, None, folder)
    assert drawn == ["diagonality.png", "similarity.png", "phones.png", "probe.png"]
    for name in drawn:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert (folder / "maps.png").read_bytes() == b"drawn before"


def test_pictures_of_what_is_not_measured_any_more_go(analysis):
    result, folder = analysis
    figures.draw(result, None, folder)
    assert figures.draw({"attention": "SummaryMixing", "probe": result["probe"]}, None, folder) == ["probe.png"]
    assert sorted(path.name for path in folder.glob("*.png")) == ["probe.png"]


def test_a_window_as_wide_as_the_utterance_has_one_reference(analysis):
    maps = analysis[0]["maps"]

    def references():
        axes = figures.draw_diagonality(maps, "#123456").subfigs[1].axes[0]
        return [text.get_text() for text in axes.texts]

    assert [text.split(":")[0].split("\n")[0] for text in references()] == ["uniform over what", "uniform over"]
    maps["diagonality"]["window"] = maps["diagonality"]["uniform"]
    assert len(references()) == 1


def test_the_page_names_the_best_layer_and_its_control():
    probe = json.loads((FOLDER / "analysis.json").read_text())["probe"]
    best = probe["trained"].index(max(probe["trained"]))
    assert f"{max(probe['trained']):.1f} %" in page.headline() and f"{probe['untrained'][best]:.1f} %" in page.headline()
    assert f"layer {best + 1}" in page.headline() and len(page.layers().splitlines()) > len(probe["trained"])
