"""A rollout while it goes on: a picture on a terminal that is redrawn in place; elsewhere a line for each change."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from pointsman import plots, story
from pointsman.analysis import Judgement
from pointsman.model import Verdict
from pointsman.rollout import Promoted, Rollout, due
from pointsman.story import Story, clean, clock, lasted, per_cent

BOLD, DIM, RED, GREEN, YELLOW, BLUE = "1", "2", "31", "32", "33", "34"
_COLOURS = {Verdict.PASS: GREEN, Verdict.INCONCLUSIVE: YELLOW, Verdict.ERROR: RED, Verdict.FAIL: RED}
_ENDINGS = {"promoted": GREEN, "rolled back": RED, "superseded": YELLOW, "stuck": RED}


class View:
    """`show` as often as you like. `lively`: the lines may be redrawn; else only what changed is written, once."""

    def __init__(self, out: TextIO, *, lively: bool, colour: bool) -> None:
        self.out = out
        self.lively = lively
        self.colour = colour
        self.drawn: list[str] = []
        self.said = ""
        self.told = 0

    def show(self, now_told: Story, now: float) -> None:
        if self.lively:
            size = shutil.get_terminal_size()
            # A line that wraps would be two to go up, and so would one line more than the screen has.
            self._draw(draw(now_told, now, width=size.columns - 1, height=size.lines - 1, colour=self.colour))
        else:
            self._say(now_told, now)

    def lift(self) -> None:
        """Take the picture away, for lines to be printed in its place."""
        if self.drawn:
            self.out.write(f"\033[{len(self.drawn)}F\033[J")
            self.out.flush()
            self.drawn = []

    def _draw(self, lines: list[str]) -> None:
        if lines != self.drawn:
            # Written over, and not cleared first: a picture that is gone for a moment flickers.
            up = f"\033[{len(self.drawn)}F" if self.drawn else ""
            self.out.write(up + "".join(f"{each}\033[K\n" for each in lines) + "\033[J")
            self.out.flush()
            self.drawn = lines

    def _say(self, now_told: Story, now: float) -> None:
        for each in now_told.events[self.told :]:
            by = f" ({clean(each.by)})" if each.by else ""
            self.out.write(f"{clock(each.at)}  {clean(each.what)}{by}\n")
        self.told = len(now_told.events)
        text = line(now_told, now)
        if text != self.said:
            self.out.write(f"{text}\n")
            self.said = text
        self.out.flush()


def line(told: Story, now: float) -> str:
    """The state in one line: since when, the weight, each metric's counts and e-value, what is so.

    Equal while nothing changes, so that it is written once: `now` shows only where nothing has happened.
    """
    since = max((told.rollout.measured, *(each.at for each in told.events[-1:]))) or now
    parts = [f"{_weight(told.rollout)} to version {told.canary.version}"]
    for each in told.rollout.judgements:
        if each.canary.calls or each.baseline.calls:
            canary, baseline = each.canary, each.baseline
            parts.append(
                f"{clean(each.metric)}: {canary.bad:,} of {canary.calls:,} ({story.share(canary)}), "
                f"baseline {baseline.bad:,} of {baseline.calls:,} ({story.share(baseline)}), "
                f"e-value {story.power(each.worse)} of {story.power(each.limit)}"
            )
    return f"{clock(since)}  {'; '.join([*parts, story.state_sentence(told.rollout)])}"


Span = tuple[str, str]  # a text and its style, "" for none


def draw(told: Story, now: float, width: int = 80, height: int = 24, colour: bool = False) -> list[str]:
    """The picture, at most so wide and so high, each line without its end."""
    top = [*_head(told, now, width), [], *_table(told, width)]
    end: list[list[Span]] = [[], *_sentences(told, now, width)]
    room = height - len(top) - len(end)
    events = _events(told, min(5, room - 8 if room > 10 else room - 1))
    lines = [*top, *_plot(told, now, width, min(8, room - len(events) - 3)), *end, *events]
    return [_line(each, width, colour) for each in lines[:height]]


def _line(spans: Sequence[Span], width: int, colour: bool) -> str:
    """The spans, cut to the width; styles take no columns."""
    shown = []
    for text, style in spans:
        text = fit(text, width)
        width -= columns(text)
        shown.append(f"\033[{style}m{text}\033[0m" if colour and style and text.strip() else text)
    return "".join(shown).rstrip()


def _head(told: Story, now: float, width: int) -> list[list[Span]]:
    rollout = told.rollout
    build = f" (build {clean(told.canary.build)})" if told.canary.build else ""
    what = (
        f"{clean(told.function)} → {clean(told.alias)}   version {told.baseline.version} → {told.canary.version}{build}"
    )
    passed = lasted((told.ended or now) - told.began)
    what = fit(f"{what}, {clean(told.environment)}", width - len(passed) - 2)
    rungs = [(per_cent(each.weight), n == rollout.step) for n, each in enumerate(rollout.policy.steps)]
    here = 0 < rollout.weight < 1
    ladder = " › ".join([*(f"[{rung}]" if at and here else rung for rung, at in rungs), "100 %"])
    outcome, weight = told.outcome, f"{_weight(rollout):>6}  "
    bar = max(10, min(40, width - columns(ladder) - len(outcome) - len(weight) - 3))
    ladder = fit(ladder, width - bar - len(weight) - len(outcome) - 3)
    gap = " " * (width - bar - 1 - len(weight) - columns(ladder) - len(outcome))
    return [
        [(what, BOLD), (" " * (width - columns(what) - len(passed)), ""), (passed, DIM)],
        [
            (plots.bar(_served(rollout), bar), YELLOW),
            (f" {weight}", BOLD),
            (f"{ladder}{gap}", ""),
            (outcome.upper(), _ENDINGS.get(outcome, BLUE)),
        ],
    ]


def _served(rollout: Rollout) -> float:
    return 1.0 if isinstance(rollout.state, Promoted) else rollout.weight


def _weight(rollout: Rollout) -> str:
    return per_cent(_served(rollout))


def _table(told: Story, width: int) -> list[list[Span]]:
    """Two lines for each metric: the canary and what speaks against it, the baseline and what speaks for the canary."""
    judgements = told.rollout.judgements
    if not judgements:
        return [[("no metric was named to judge it by", DIM)]]
    head = ("METRIC", "V", "CALLS", "BAD", "SHARE", "ODDS RATIO")
    both = [(each, canary) for each in judgements for canary in (True, False)]
    rows = [_cells(told, each, canary=canary) for each, canary in both]
    sizes = [max(columns(row[n]) for row in (head, *rows)) for n in range(len(head))]
    bar = min(24, width - sum(sizes) - 2 * len(sizes) - len("against  10^-2.0"))
    lines: list[list[Span]] = [[(f"{_row(head, sizes)}EVIDENCE", BOLD)]]
    for (each, canary), cells in zip(both, rows, strict=True):
        value = each.worse if canary else each.no_worse
        front = _row(cells[:-1], sizes[:-1])
        lines.append(
            [
                (front, ""),
                (f"{cells[-1]:<{sizes[-1]}}  ", "" if canary else _COLOURS[each.verdict]),
                ("against " if canary else "for     ", DIM),
                (
                    plots.bar(value / each.limit if each.limit else 0.0, bar) if bar > 2 else "",
                    RED if canary else GREEN,
                ),
                (f" {story.power(value)}", ""),
            ]
        )
    return lines


def _row(cells: Sequence[str], sizes: Sequence[int]) -> str:
    """The name and the ratio to the left, numbers to the right."""
    shown = []
    for n, (cell, size) in enumerate(zip(cells, sizes, strict=True)):
        gap = " " * (size - columns(cell))
        shown.append(f"{cell}{gap}  " if n in (0, 5) else f"{gap}{cell}  ")
    return "".join(shown)


def _cells(told: Story, each: Judgement, *, canary: bool) -> tuple[str, ...]:
    counts = each.canary if canary else each.baseline
    side = told.canary if canary else told.baseline
    if not each.canary.calls:
        last = "-" if canary else "no data"
    elif canary:
        ratio = "?" if each.ratio is None else story.number(each.ratio)
        last = f"{ratio} ({story.number(each.low)}–{story.number(each.high)})"
    else:
        last = story.VERDICTS[each.verdict]
    name = fit(clean(each.metric), 12) if canary else ""
    return (name, str(side.version), f"{counts.calls:,}", f"{counts.bad:,}", story.share(counts), last)


def _plot(told: Story, now: float, width: int, height: int) -> list[list[Span]]:
    """log10 of the e-value against the canary, of the metric that tells most."""
    judgement = story.telling(told)
    points = told.of(judgement.metric) if judgement else ()
    if judgement is None or not points or height < 3:
        return []
    passes = judgement.verdict is Verdict.PASS
    label = 7
    length = max((told.ended or now) - told.began, points[-1].at + points[-1].seconds - told.began)
    values = [(each.at + each.seconds - told.began, each.no_worse if passes else each.worse) for each in points]
    values.insert(0, (0.0, 0.0))
    seen = [each for _, each in values]
    up = plots.linear(max(-judgement.limit, min(seen)), max(judgement.limit * 1.25, *seen))
    room = width - label - 1
    drawn = plots.braille(values, x=plots.linear(0.0, length), y=up, width=room, height=height, limit=judgement.limit)
    marks = {_line_of(at, up, height): story.power(at) for at in (0.0, judgement.limit)}
    style = {Verdict.FAIL: RED, Verdict.PASS: GREEN}.get(judgement.verdict, BLUE)
    title = f"e-value {'for' if passes else 'against'} version {told.canary.version}, {clean(judgement.metric)}"
    lines: list[list[Span]] = [
        [],
        [(title, BOLD), (" (╌ the limit)", DIM)],
    ]
    for row, cells in enumerate(drawn):
        lines.append([(f"{marks.get(row, ''):>{label}}{'┤' if row in marks else '│'}", DIM), (cells, style)])
    return [*lines, [(f"{' ' * label}└0{f' {lasted(length)}'.rjust(room - 1, '─')}", DIM)]]


def _line_of(value: float, scale: plots.Scale, height: int) -> int:
    return round((1 - scale.place(value)) * (height * 4 - 1)) // 4


def _sentences(told: Story, now: float, width: int) -> list[list[Span]]:
    rollout = told.rollout
    judgement = story.telling(told)
    style = _COLOURS[judgement.verdict] if judgement else DIM
    lines = [*_wrapped(story.verdict(told), width, style), *_wrapped(story.state_sentence(rollout), width, "")]
    if rollout.ended:
        return lines
    left = story.time_left(told, now)
    if left is None:
        time = "calls or people decide how long it takes"
    else:
        time = f"about {lasted(left)} to go if nothing speaks against it" if left else "almost there"
    return [*lines, *_wrapped(f"Next: {story.action_sentence(due(rollout))}; {time}.", width, DIM)]


def _events(told: Story, most: int) -> list[list[Span]]:
    last = told.events[-most:] if most > 0 else ()
    lines: list[list[Span]] = [
        [(f"{clock(each.at)}  ", DIM), (clean(each.what) + (f" ({clean(each.by)})" if each.by else ""), "")]
        for each in last
    ]
    return [[], *lines] if lines else []


def _wrapped(text: str, width: int, style: str) -> list[list[Span]]:
    return [[(each, style)] for each in textwrap.wrap(text, width)]


def columns(text: str) -> int:
    """How many columns a terminal gives the text: two for each wide character, none for one that combines."""
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(bool(unicodedata.combining(each)) for each in text)


def fit(text: str, width: int) -> str:
    """The text, cut where it would be wider."""
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return f"{text}…" if width > 0 else ""
