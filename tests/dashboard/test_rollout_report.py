"""The report of a rollout, as a browser shows it: on a phone, a desktop and paper, light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pointsman import report_page
from tests import rollout_stories as stories
from tests.dashboard import browser, pages
from tests.decide.test_reports_of_rollouts import nasty

pytestmark = pytest.mark.skipif(browser.program() is None, reason="no Chromium; `make test` installs it")

STORIES = {"bad": stories.bad, "leaking": stories.leaking, "quiet": stories.quiet, "nasty": nasty}


def written(folder: Path, name: str) -> Path:
    path = folder / "report.html"
    path.write_text(report_page.html(STORIES[name]()), encoding="utf-8")
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


@pytest.mark.parametrize("name", STORIES)
def test_the_words_of_a_plot_stay_inside_it(page: browser.Page, tmp_path: Path, name: str) -> None:
    pages.words_of_plots_stay_inside(page, written(tmp_path, name), more_than=10)


def test_words_are_readable_on_a_phone(page: browser.Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, "bad"), width=400)

    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map(each =>"
        " 12 * each.closest('svg').getBoundingClientRect().width / 440))"
    )
    assert smallest >= 9


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_every_word_stands_out_from_what_is_behind_it(
    page: browser.Page, tmp_path: Path, scheme: str, media: str
) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1. On paper too, whatever the screen's colours are."""
    page.open(written(tmp_path, "bad"), width=1000, scheme=scheme, media=media)

    assert page.evaluate(pages.CONTRAST) >= 4.5


def test_dark_is_dark_and_paper_is_white(page: browser.Page, tmp_path: Path) -> None:
    path = written(tmp_path, "bad")
    colours = []
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        page.open(path, width=1000, scheme=scheme, media=media)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert colours == ["rgb(250, 249, 246)", "rgb(20, 23, 28)", "rgb(255, 255, 255)"]


def test_tables_that_scroll_can_be_reached_without_a_mouse(page: browser.Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, "leaking"), width=400)

    assert page.evaluate("document.querySelector('details').open") is False
    reachable = page.evaluate(
        "(() => { const all = document.querySelectorAll('details'); all.forEach(each => each.open = true);"
        " return [...all].every(each => { const box = each.querySelector('.scroll'); box.focus();"
        " return document.activeElement === box && box.scrollWidth > box.clientWidth; }); })()"
    )
    assert reachable is True
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_screen_reader_is_told_what_a_plot_shows(page: browser.Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, "bad"), width=1280)
    page.call("Accessibility.enable")

    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [
        each["name"]["value"]
        for each in nodes
        if each.get("role", {}).get("value") in ("img", "image", "graphics-document")
    ]

    assert len(pictures) == 7
    told = (
        r"errors: e-values over time Against the canary 10\^([\d.]+), for it 10\^-[\d.]+; the limit is 10\^([\d.]+)\."
    )
    (found,) = filter(None, (re.fullmatch(told, each) for each in pictures))
    assert float(found[1]) > float(found[2]) == 2.3
