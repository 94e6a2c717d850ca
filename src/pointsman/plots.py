"""Plots as text: SVG made of few parts, and lines of braille for a terminal. Pure; knows nothing of rollouts.

    frame = Frame(x=linear(0, 10), y=linear(0, 1, per_cent))
    figure("calls", frame, [line(frame, points, "canary"), limit(frame, 0.5, "limit")], title="…", text="…")

A part is a string of SVG elements; colours come from CSS classes (`STYLE`), so that a page may be light or dark. Texts
are escaped here. What lies outside a scale is drawn at its edge: an interval may reach to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise

from pointsman.model import Value

Point2 = tuple[float, float]

STYLE = """\
.plot{--ink:#1d2129;--soft:#5c6470;--rule:#d9dde3;--canary:#b45309;--baseline:#2563eb;--bad:#c2262e;--good:#15803d;
display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){.plot{--ink:#e8eaed;--soft:#9aa3af;--rule:#343b45;--canary:#fbbf24;--baseline:#7db1ff;
--bad:#ff7b7b;--good:#5fd38d}}
@media print{.plot{--ink:#000;--soft:#444;--rule:#ccc;--canary:#b45309;--baseline:#2563eb;--bad:#c2262e;--good:#15803d}}
.plot text{fill:var(--soft)}.plot .grid{stroke:var(--rule);stroke-width:1}.plot .axis{stroke:var(--soft);stroke-width:1}
.plot .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.plot .band{opacity:.16;stroke:none}
.plot .area{opacity:.12;stroke:none}.plot .limit{fill:none;stroke-width:1.5;stroke-dasharray:5 4}
.plot .mark{stroke-width:1;stroke-dasharray:2 3}.plot .dashed{stroke-dasharray:6 4}
.plot .canary{stroke:var(--canary);fill:var(--canary)}.plot .baseline{stroke:var(--baseline);fill:var(--baseline)}
.plot .bad{stroke:var(--bad);fill:var(--bad)}.plot .good{stroke:var(--good);fill:var(--good)}
.plot .soft{stroke:var(--soft);fill:var(--soft)}.plot .line.canary,.plot .line.baseline,.plot .line.bad,
.plot .line.good,.plot .line.soft,.plot .limit{fill:none}.plot text{stroke:none!important}
"""


class Scale(Value, frozen=True, kw_only=True):
    """From `low` to `high`, with marks to read it by: (value, text). `log`: both above 0, tenfolds equally far."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = False

    def place(self, value: float) -> float:
        """Where between 0 and 1 the value lies; outside it is at an edge."""
        if math.isnan(value):
            return 0.0
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if self.log:
            value = math.log(value) if value > 0 else -math.inf
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


def linear(
    low: float, high: float, show: Callable[[float], str] = "{:g}".format, *, steps: Sequence[float] = (), most: int = 5
) -> Scale:
    """A scale whose marks are round: 1, 2 or 5 times a power of ten apart, or the first of `steps` that fits."""
    if not high > low:
        high = low + 1
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next((each for each in (*steps, *(power * n for n in (1, 2, 5, 10))) if each >= rough), power * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low=low, high=high, ticks=tuple((n * step, show(n * step)) for n in range(first, last + 1)))


def tenfold(low: float, high: float, show: Callable[[float], str] = "{:g}".format, *, most: int = 6) -> Scale:
    """A logarithmic scale, its marks at powers of ten (and at 2 and 5 times those where there are few)."""
    low, high = max(low, 1e-12), max(high, low * 1.0001, 1e-12)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    apart = max(1, math.ceil(len(exponents) / most))
    marks = [10.0**n for n in exponents if n % apart == 0]
    if len([each for each in marks if low <= each <= high]) < 3:
        marks = [n * 10.0**power for power in exponents for n in (1, 2, 5)]
    return Scale(low=low, high=high, ticks=tuple((each, show(each)) for each in marks if low <= each <= high), log=True)


MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


def passed(seconds: float) -> str:
    """Time since the beginning: "0", "30 s", "5 min", "1:30 h"."""
    if seconds < 60:
        return f"{seconds:g} s" if seconds else "0"
    if seconds < 3600:
        return f"{seconds / 60:g} min"
    return f"{seconds // 3600:.0f}:{seconds % 3600 // 60:02.0f} h"


def times(seconds: float, *, most: int = 5) -> Scale:
    """The time axis of something that took so long, from 0."""
    return linear(0.0, seconds, passed, steps=MINUTES, most=most)


class Frame(Value, frozen=True, kw_only=True):
    """The area between two axes. Its units are those of the viewBox: drawn at 440 wide, 12 of text is readable from a
    phone to a desktop."""

    x: Scale
    y: Scale
    width: float = 440
    height: float = 210
    left: float = 52
    right: float = 14
    top: float = 12
    bottom: float = 26

    def across(self, value: float) -> float:
        return round(self.left + self.x.place(value) * (self.width - self.left - self.right), 1)

    def up(self, value: float) -> float:
        return round(self.height - self.bottom - self.y.place(value) * (self.height - self.top - self.bottom), 1)


# Parts


def _path(corners: Iterable[Point2]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in corners)


def line(frame: Frame, points: Sequence[Point2], style: str) -> str:
    if not points:
        return ""
    drawn = [(frame.across(x), frame.up(y)) for x, y in points]
    if len(drawn) == 1:
        return f'<circle class="{style}" cx="{drawn[0][0]:g}" cy="{drawn[0][1]:g}" r="2"/>'
    return f'<path class="line {style}" d="{_path(drawn)}"/>'


def stairs(frame: Frame, points: Sequence[Point2], style: str, *, until: float) -> str:
    """What stays as it is until it changes, with the area under it."""
    if not points:
        return ""
    corners: list[Point2] = []
    for (x, y), (following, _) in pairwise([*points, (until, 0.0)]):
        corners += [(frame.across(x), frame.up(y)), (frame.across(following), frame.up(y))]
    bottom = frame.up(frame.y.low)
    under = [(corners[0][0], bottom), *corners, (corners[-1][0], bottom)]
    return f'<path class="area {style}" d="{_path(under)}Z"/><path class="line {style}" d="{_path(corners)}"/>'


def band(frame: Frame, points: Sequence[tuple[float, float, float]], style: str) -> str:
    """Between a low and a high: (x, low, high)."""
    if not points:
        return ""
    edge = [(frame.across(x), frame.up(low)) for x, low, _ in points]
    edge += [(frame.across(x), frame.up(high)) for x, _, high in reversed(points)]
    if len(points) == 1:
        edge = [(x + side, y) for (x, y) in edge for side in (-2, 2)]
        edge = [edge[0], edge[1], edge[3], edge[2]]
    return f'<path class="band {style}" d="{_path(edge)}Z"/>'


def dots(frame: Frame, points: Sequence[tuple[float, float, str]], style: str, *, radius: float = 2.5) -> str:
    """(x, y, what a pointer over it tells)."""
    return "".join(
        f'<circle class="{style}" cx="{frame.across(x):g}" cy="{frame.up(y):g}" r="{radius:g}">'
        f"<title>{escape(told)}</title></circle>"
        for x, y, told in points
    )


def limit(frame: Frame, value: float, label: str, style: str = "bad", *, below: bool = False) -> str:
    """A line all the way across, its label above it, or below: there too where above is no room."""
    y = frame.up(value)
    below = below or y - frame.top < 16
    return (
        f'<path class="limit {style}" d="M{frame.left:g} {y:g}H{frame.width - frame.right:g}"/>'
        f'<text class="{style}" x="{frame.left + 4:g}" y="{y + (13 if below else -5):g}">{escape(label)}</text>'
    )


def mark(frame: Frame, at: float, told: str, style: str = "soft") -> str:
    """A moment: a thin line upwards that tells what happened."""
    x = frame.across(at)
    return (
        f'<path class="mark {style}" d="M{x:g} {frame.top:g}V{frame.height - frame.bottom:g}">'
        f"<title>{escape(told)}</title></path>"
    )


def figure(name: str, frame: Frame, parts: Iterable[str], *, title: str, text: str, alone: bool = False) -> str:
    """The SVG. `name`: the only one of its page; `text`: what is to be seen, in words; `alone`: it is a file."""
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    axes = []
    for value, said in frame.y.ticks:
        y = frame.up(value)
        axes.append(f'<path class="grid" d="M{frame.left:g} {y:g}H{right:g}"/>')
        axes.append(f'<text x="{frame.left - 6:g}" y="{y + 4:g}" text-anchor="end">{escape(said)}</text>')
    for value, said in frame.x.ticks:
        x = frame.across(value)
        at_edge = right - x < 14
        anchor = "end" if at_edge else "middle"
        axes.append(f'<path class="axis" d="M{x:g} {bottom:g}v4"/>')
        axes.append(
            f'<text x="{right if at_edge else x:g}" y="{bottom + 17:g}" text-anchor="{anchor}">{escape(said)}</text>'
        )
    axes.append(f'<path class="axis" d="M{frame.left:g} {bottom:g}H{right:g}"/>')
    return (
        f'<svg class="plot" viewBox="0 0 {frame.width:g} {frame.height:g}" role="img"'
        f' aria-labelledby="{name}-title {name}-text"{" xmlns=" + chr(34) + SVG + chr(34) if alone else ""}>'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-text">{escape(text)}</desc>'
        f"{'<style>' + STYLE + '</style>' if alone else ''}{''.join(axes)}{''.join(parts)}</svg>"
    )


SVG = "http://www.w3.org/2000/svg"


# On a terminal

EIGHTHS = " ▏▎▍▌▋▊▉█"
RISING = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, by row and column


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar, to an eighth of a character; what is above 0 shows."""
    filled = round(min(1.0, max(0.0, share)) * width * 8)
    if share > 0:
        filled = max(filled, 1)
    whole, rest = divmod(filled, 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(width, "·")


def sparkline(values: Sequence[float], *, low: float, high: float) -> str:
    scale = Scale(low=low, high=high)
    return "".join(RISING[min(7, int(scale.place(each) * 8))] for each in values)


def braille(
    points: Sequence[Point2], *, x: Scale, y: Scale, width: int, height: int, limit: float | None = None
) -> list[str]:
    """`height` lines of `width` characters, four dots high and two wide each; the limit is a line of dashes."""
    across, high = width * 2, height * 4
    cells = [[0] * width for _ in range(height)]
    drawn = [(round(x.place(a) * (across - 1)), round((1 - y.place(b)) * (high - 1))) for a, b in points]
    for column, row in _dotted(drawn):
        cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    at = round((1 - y.place(limit)) * (high - 1)) // 4 if limit is not None else -1
    return [
        "".join(chr(0x2800 + cell) if cell else ("╌" if row == at else " ") for cell in line)
        for row, line in enumerate(cells)
    ]


def _dotted(points: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Every dot of the line through the points."""
    if points:
        yield points[-1]
    for (x, y), (to_x, to_y) in pairwise(points):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for n in range(steps + 1):
            yield round(x + (to_x - x) * n / steps), round(y + (to_y - y) * n / steps)
