"""What is asked of every page that Pointsman writes, whatever is on it."""

from __future__ import annotations

from pathlib import Path

from tests.dashboard import browser

# WCAG 2.2, 1.4.3: the least contrast of any words.
CONTRAST = """(() => {
    const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(each => {
        const part = each / 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = each => { for (; each; each = each.parentElement) {
        const colour = getComputedStyle(each).backgroundColor;
        if (colour !== 'rgba(0, 0, 0, 0)') return colour; } return 'rgb(255, 255, 255)'; };
    return Math.min(...[...document.querySelectorAll('h1, h2, p, dt, dd, th, td, summary, .pill, .keys span, svg text')]
        .map(each => { const style = getComputedStyle(each);
            const [a, b] = [light(each.tagName === 'text' ? style.fill : style.color), light(behind(each))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
})()"""


def complains_of_nothing_and_fetches_nothing(page: browser.Page, path: Path) -> None:
    page.open(path, width=1280)

    assert page.complaints() == []
    assert page.requests() == [path.as_uri()]
    assert page.evaluate("document.scripts.length") == 0


def nothing_is_wider_than_the_screen(page: browser.Page, path: Path, width: int) -> None:
    page.open(path, width=width)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll, svg') &&"
        " each.getBoundingClientRect().right > innerWidth + 0.5).map(each => each.outerHTML.slice(0, 80))"
    )
    assert outside == []


def words_of_plots_stay_inside(page: browser.Page, path: Path, *, more_than: int) -> None:
    page.open(path, width=400)

    cut = page.evaluate(
        """[...document.querySelectorAll('svg text')].filter(each => {
            const text = each.getBoundingClientRect(), plot = each.closest('svg').getBoundingClientRect();
            return text.left < plot.left - 0.5 || text.right > plot.right + 0.5 ||
                text.top < plot.top - 0.5 || text.bottom > plot.bottom + 0.5;
        }).map(each => each.textContent)"""
    )
    assert page.evaluate("document.querySelectorAll('svg text').length") > more_than
    assert cut == []
