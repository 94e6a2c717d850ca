"""How full the code storage is as one HTML file, in the style of a rollout's report: it fetches nothing. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from pointsman import plots, storing
from pointsman.model import counted
from pointsman.plots import Frame, Scale
from pointsman.report_page import STYLE
from pointsman.storing import DAY_S, Growth, Part, Report, Usage, stored
from pointsman.story import clean, per_cent

LISTED = 100  # rows of a table; --json has all
WARN, FULL = 0.8, 0.95
"""Shares of the quota from which on it is a warning, and a problem, as for `doctor`."""

_MORE = """\
.wide{grid-column:1/-1}
.full{height:14px;background:var(--rule);border-radius:7px;overflow:hidden;margin:.8rem 0 .4rem;display:flex}
.full i,.part i{display:block;height:100%;background:currentColor;min-width:1px}
.part{height:6px;border-radius:3px;background:var(--rule);overflow:hidden;min-width:50px;color:var(--baseline)}
td.bar{width:30%;min-width:70px}
@media print{.full i,.part i{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def html(reports: Sequence[Report]) -> str:
    """The whole page: a section for every account and region."""
    when = max((each.usage.at for each in reports), default=0.0)
    body = "".join(_section(n, each) for n, each in enumerate(reports))
    worst = max(reports, key=lambda each: each.usage.share, default=None)
    headline = (
        f"{per_cent(round(worst.usage.share, 3))} of the code storage is used" if worst else "No account was looked at"
    )
    where = f" in {worst.usage.account} {worst.usage.region}" if worst and len(reports) > 1 else ""
    head = (
        f'<header><p class="over"><span>Accounts and regions: {len(reports)}</span>'
        f"<span>{_moment(when)} UTC</span></p><h1>{_text(headline + where)}</h1></header>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="referrer" content="no-referrer"><title>{_text(headline + where)}</title>'
        f"<style>{STYLE}{plots.STYLE}{_MORE}</style></head>\n<body><main>{head}{body}{_method()}</main></body></html>\n"
    )


def _section(number: int, report: Report) -> str:
    used = report.usage
    tone = _tone(used.share)
    outlook = storing.outlook(report.growth, used.share)
    name = ", ".join(report.environments)
    facts = "".join(f"<dt>{label}</dt><dd>{_text(text)}</dd>" for label, text in _facts(report))
    notes = "".join(f'<p class="note">Note: {_text(each)}.</p>' for each in report.notes)
    return (
        f"<section><header><h2>{_text(used.account)} {_text(used.region)}</h2>"
        f'<span class="pill {tone}">{_text(per_cent(round(used.share, 3)))}</span><p>{_text(name)}</p></header>'
        f'<p class="lede {tone}"><span>{_text(outlook)}</span></p>{notes}'
        f'<div class="grid"><div class="card"><h3>{stored(used.code)} of {stored(used.limit)}</h3>'
        f"{_meter(used, tone)}<dl>{facts}</dl></div>{_curve(number, report)}"
        f"{_parts('By age of the version', 'published', used.by_age, used.code, keep=True)}"
        f"{_parts('By layer', 'layer', used.by_layer, used.code)}"
        f"{_parts('By function', 'function', used.by_function, used.code, latest=True)}</div></section>"
    )


def _tone(share: float) -> str:
    return "bad" if share >= FULL else "canary" if share >= WARN else "good"


def _meter(used: Usage, tone: str) -> str:
    return (
        f'<div class="full {tone}" role="img" aria-label="{_text(per_cent(round(used.share, 3)))} used">'
        f'<i style="width:{min(1.0, used.share) * 100:.2f}%"></i></div>'
    )


def _facts(report: Report) -> list[tuple[str, str]]:
    used = report.usage
    versions = sum(each.count for each in used.by_function)
    found = [
        ("Versions", f"{stored(used.versions)} in {counted(versions, 'version')}"),
        ("$LATEST", f"{stored(used.latest)} in {counted(len(used.by_function), 'function')}"),
        ("Layers", f"{stored(used.layers)} in {counted(sum(each.count for each in used.by_layer), 'version')}"),
        ("Same package again", f"{stored(used.repeated)}: AWS counts each version whole, whatever they share"),
    ]
    if used.images:
        found.append(("Container images", f"{counted(used.images, 'version')}, which take nothing here"))
    if used.other:
        found.append(("Else", f"{stored(used.other)} that AWS counts, and no list shows"))
    if report.prunable is not None:
        found.append(("Prune would free", stored(report.prunable)))
    if report.published_count:
        told = f"{stored(report.published)} in {counted(report.published_count, 'version')}"
        found.append(("Published from here", f"{told} in the last 30 days"))
    return found


def _curve(number: int, report: Report) -> str:
    """What was used day by day, the limit, and where it leads."""
    used, grows = report.usage, report.growth
    points = [(each.at, float(each.code)) for each in grows.points]
    if len(points) < 2:
        return ""
    ahead = future(grows, used)
    low, high = span(points, ahead)
    top = ceiling(points, ahead, used.limit)
    frame = Frame(x=dates(low, high), y=_sizes(top), left=58)
    parts = [plots.line(frame, points, "baseline")]
    told = [(x, y, f"{_moment(x)}: {stored(y)}") for x, y in points]
    parts.append(plots.dots(frame, told if len(told) <= 60 else told[-1:], "baseline", radius=2))
    if ahead:
        parts.append(plots.band(frame, ahead, "soft"))
        middle = [(x, used.code + grows.per_day * (x - used.at) / DAY_S) for x, _, _ in ahead]
        parts.append(plots.line(frame, middle, "soft dashed"))
    if used.limit <= top:
        parts.append(plots.limit(frame, used.limit, f"limit {stored(used.limit)}", "bad"))
    text = f"{stored(used.code)} of {stored(used.limit)}. {storing.outlook(grows, used.share)}"
    picture = plots.figure(f"use{number}", frame, parts, title="Code storage over time", text=text)
    keys = '<span class="keys"><span class="baseline">used</span>'
    keys += '<span class="soft dashed">if it goes on so, nine times in ten within the grey</span>' if ahead else ""
    since = {
        "samples": "As this ledger saw it",
        "versions": "By the dates of the versions there now: what was deleted is not in it",
        "": "As this ledger saw it",
    }[grows.basis]
    return (
        f"<figure><figcaption><strong>Code storage over time</strong>{since}.{keys}</span>"
        f"</figcaption>{picture}</figure>"
    )


def future(grows: Growth, used: Usage) -> list[tuple[float, float, float]]:
    """(when, at the least, at the most) from now on: until it is full, or half as far ahead as is known of the past."""
    if not grows.basis:
        return []
    ahead = max(grows.days / 2, 7.0)
    if grows.full is not None:
        ahead = min(max((grows.full - used.at) / DAY_S * 1.1, 7.0), max(grows.days * 2, 30.0))
    found = []
    for n in range(13):
        days = ahead * n / 12
        found.append((used.at + days * DAY_S, used.code + grows.low * days, used.code + grows.high * days))
    return found


def span(points: Sequence[tuple[float, float]], ahead: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    low, high = points[0][0], max([points[-1][0], *(x for x, _, _ in ahead)])
    return (low, high) if high > low else (low - DAY_S, high)


def ceiling(points: Sequence[tuple[float, float]], ahead: Sequence[tuple[float, float, float]], limit: int) -> float:
    """The top of the plot: the limit and a little, unless what is used would be a line along the bottom."""
    most = max([1.0, *(y for _, y in points), *(min(high, limit * 1.1) for _, _, high in ahead)])
    return max(most, limit) * 1.08 if most * 4 > limit else most * 1.2


def _sizes(top: float) -> Scale:
    unit = next((each for each in (2**30, 2**20, 2**10) if top >= each), 1)
    scale = plots.linear(0.0, top / unit, most=5)
    return Scale(low=0.0, high=top, ticks=tuple((value * unit, stored(value * unit)) for value, _ in scale.ticks))


_STEPS = (1, 2, 7, 14, 30, 61, 91, 182, 365, 730, 1825)


def dates(low: float, high: float, *, most: int = 4) -> Scale:
    """A time axis with days for marks."""
    days = (high - low) / DAY_S
    step = next((each for each in _STEPS if days / each <= most), math.ceil(days / most))
    shown = "%Y-%m-%d" if days > 300 else "%b %d"
    ticks = []
    at = math.ceil(low / DAY_S) * DAY_S
    while at <= high:
        ticks.append((at, datetime.fromtimestamp(at, UTC).strftime(shown)))
        at += step * DAY_S
    return Scale(low=low, high=high, ticks=tuple(ticks))


def _parts(
    title: str, what: str, parts: Sequence[Part], whole: int, *, keep: bool = False, latest: bool = False
) -> str:
    shown = [each for each in parts if keep or each.size or each.count][:LISTED]
    if not shown:
        return ""
    most = max((each.size for each in shown), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{_text(each.name)}</th><td>{each.count:,}</td><td>{stored(each.size)}</td>'
        f"<td>{per_cent(round(each.size / whole, 3)) if whole else '–'}</td>"
        f"{f'<td>{stored(each.repeated)}</td>' if latest else ''}"
        f'<td class="bar"><div class="part">{_filled(each.size / most)}</div></td></tr>'
        for each in shown
    )
    left = len([each for each in parts if each.size or each.count]) - len(shown)
    more = f'<p class="note">And {counted(left, "smaller one")}.</p>' if left > 0 else ""
    again = '<th scope="col">same package again</th>' if latest else ""
    style = "card scroll wide" if latest else "card scroll"
    return (
        f'<div class="{style}" tabindex="0" role="region" aria-label="{title}"><h3>{title}</h3><table><thead><tr>'
        f'<th scope="col">{what}</th><th scope="col">versions</th><th scope="col">size</th><th scope="col">of all</th>'
        f"{again}<td></td></tr></thead><tbody>{rows}</tbody></table>{more}</div>"
    )


def _filled(share: float) -> str:
    return f'<i style="width:{share * 100:.1f}%"></i>' if share else ""


def _method() -> str:
    return (
        "<footer><p><strong>How to read it.</strong> AWS counts every version of every function, and every version of "
        "every layer, with its whole zipped size, for an account in a region. The slope is that of Theil and Sen: half "
        "of all pairs of days grow faster. Its interval widens where days differ much. Prunes and busy weeks to come "
        "are not foreseen. All numbers are in the JSON of `pointsman storage --json`.</p>"
        "<p>Written by Pointsman.</p></footer>"
    )


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _text(said: str) -> str:
    return escape(clean(said))


__all__ = ["ceiling", "dates", "future", "html", "span"]
