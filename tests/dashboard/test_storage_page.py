"""How full the code storage is, as a browser shows it: on a phone, a desktop and paper, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman import storage_page
from tests import storage_stories as stories
from tests.dashboard import browser, pages

pytestmark = pytest.mark.skipif(browser.program() is None, reason="no Chromium; `make test` installs it")

STORIES = {
    "growing": lambda: [stories.growing()],
    "two": lambda: [stories.growing(), stories.full()],
    "new": lambda: [stories.new()],
    "empty": lambda: [stories.empty()],
    "none": list,
    "nasty": lambda: [stories.nasty()],
}


def written(folder: Path, name: str) -> Path:
    path = folder / "storage.html"
    path.write_text(storage_page.html(STORIES[name]()), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", STORIES)
def test_the_browser_has_nothing_to_complain_of_and_nothing_to_fetch(
    page: browser.Page, tmp_path: Path, name: str
) -> None:
    pages.complains_of_nothing_and_fetches_nothing(page, written(tmp_path, name))


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("width", [320, 400, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: browser.Page, tmp_path: Path, name: str, width: int) -> None:
    pages.nothing_is_wider_than_the_screen(page, written(tmp_path, name), width)


def test_the_words_of_the_plot_stay_inside_it(page: browser.Page, tmp_path: Path) -> None:
    pages.words_of_plots_stay_inside(page, written(tmp_path, "growing"), more_than=6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(page: browser.Page, tmp_path: Path, scheme: str) -> None:
    page.open(written(tmp_path, "two"), width=1000, scheme=scheme)

    assert page.evaluate(pages.CONTRAST) >= 4.5


def test_bars_are_as_long_as_what_they_stand_for(page: browser.Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, "growing"), width=1280)
    used = stories.growing().usage

    (share,) = page.evaluate(
        "[...document.querySelectorAll('.full i')].map(each =>"
        " each.getBoundingClientRect().width / each.parentElement.getBoundingClientRect().width)"
    )
    widths = page.evaluate(
        "[...document.querySelectorAll('.wide .part i')].map(each => each.getBoundingClientRect().width)"
    )

    assert share == pytest.approx(used.share, abs=0.005)
    assert [each / widths[0] for each in widths] == pytest.approx(
        [each.size / used.by_function[0].size for each in used.by_function], abs=0.01
    )


def test_a_screen_reader_is_told_what_the_plot_shows(page: browser.Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, "growing"), width=1280)
    page.call("Accessibility.enable")

    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [
        each["name"]["value"]
        for each in nodes
        if each.get("role", {}).get("value") in ("img", "image", "graphics-document")
    ]

    assert any("Code storage over time" in each and "Full on" in each for each in pictures)
    assert any(each.endswith("% used") for each in pictures)
