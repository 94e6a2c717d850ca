"""The report of a rollout, under way or over: as text, a JSON document, Markdown. Pure. HTML: `report_page`.

All tell the same numbers. The document has every one that led to the verdict: each bucket's counts, α's share,
what is tolerated, and what the e-value is a mixture of; weighed again as docs/analysis.md says, they give it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec.structs import replace

from pointsman import analysis, story
from pointsman.analysis import Counts, Judgement, Metric
from pointsman.model import Verdict, to_json
from pointsman.rollout import due
from pointsman.story import Point, Story, clean, clock, day, lasted, per_cent, power

SCHEMA = 1
MOST = 20  # buckets that people are shown; the document has all


# Facts that every form shows


def facts(told: Story) -> list[tuple[str, str]]:
    """What was rolled out where, by whom and when: (label, text), texts cleaned."""
    return [
        ("function", told.function if told.function == told.name else f"{told.function} ({told.name} on AWS)"),
        ("environment", f"{told.environment}, alias {told.alias}"),
        ("canary", _side(told.canary)),
        ("baseline", _side(told.baseline)),
        ("began", f"{day(told.began)}, by {told.by}" if told.by else day(told.began)),
        *([("ended", f"{day(told.ended)}, after {lasted(told.ended - told.began)}")] if told.ended else []),
        ("steps", _steps(told)),
        ("rollout", told.id),
    ]


def _side(side: story.Side) -> str:
    more = [f"build {side.build}"] if side.build else []
    more += [f"commit {side.commit}"] if side.commit else []
    return f"version {side.version}" + (f" ({', '.join(more)})" if more else "")


def _steps(told: Story) -> str:
    policy = told.rollout.policy
    steps = ", ".join(f"{per_cent(each.weight)} for {lasted(each.bake_s)}" for each in policy.steps) or "all at once"
    return steps + (f"; at most {policy.budget:,} extra bad calls" if policy.budget is not None else "")


def counted_as(metric: Metric) -> str:
    """What the metric tolerates, in words."""
    return f"tolerated: {metric.tolerated}"


def merged(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """At most so many points: neighbours of one weight summed, with what all buckets up to the last come to."""
    found = tuple(points)
    while len(found) > most:
        halves = []
        for _, group in groupby(found, key=lambda each: each.weight):
            same = list(group)
            halves += [_sum(same[n : n + 2]) for n in range(0, len(same), 2)]
        if len(halves) == len(found):
            return found[-most:]  # every bucket had a weight of its own
        found = tuple(halves)
    return found


def _sum(points: Sequence[Point]) -> Point:
    first, last = points[0], points[-1]
    return replace(
        last,
        at=first.at,
        seconds=last.at + last.seconds - first.at,
        canary=sum((each.canary for each in points), Counts()),
        baseline=sum((each.baseline for each in points), Counts()),
    )


# Text


def text(told: Story) -> str:
    """For a terminal or a log, about 90 columns wide."""
    lines = [f"{story.headline(told)}: {clean(told.function)} → {clean(told.alias)}", "", story.verdict(told)]
    lines += [story.state_sentence(told.rollout), ""]
    lines += [f"  {label:<12} {clean(said)}" for label, said in facts(told)]
    if judgements := told.rollout.judgements:
        head = ("metric", "version", "calls", "bad", "share", "odds ratio", "e-value", "limit", "verdict")
        lines += ["", *_table(head, [row for each in judgements for row in _judged(told, each)])]
    for metric in told.rollout.policy.metrics:
        if points := told.of(metric.name):
            lines += ["", f"{clean(metric.name)}, bucket by bucket ({counted_as(metric)})", *_buckets(points)]
    if told.events:
        lines += ["", "What happened"]
        lines += [f"  {clock(each.at)}  {clean(each.what)}" + _by(each.by) for each in told.events]
    if told.notes:
        lines += ["", *(f"Note: {clean(each)}" for each in told.notes)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _by(name: str) -> str:
    return f" ({clean(name)})" if name else ""


def _judged(told: Story, each: Judgement) -> list[tuple[str, ...]]:
    """Two rows: the canary with the evidence against it, the baseline with the evidence for the canary."""
    limit = power(each.limit)
    return [
        (
            clean(each.metric), f"{told.canary.version}", f"{each.canary.calls:,}", f"{each.canary.bad:,}",
            story.share(each.canary), interval(each.ratio, each.low, each.high), f"{power(each.worse)} against", limit,
            story.VERDICTS[each.verdict],
        ),
        (
            "", f"{told.baseline.version}", f"{each.baseline.calls:,}", f"{each.baseline.bad:,}",
            story.share(each.baseline), "", f"{power(each.no_worse)} for", limit, "",
        ),
    ]  # fmt: skip


def interval(ratio: float | None, low: float, high: float | None) -> str:
    """ "74 (21–260)"; "-" where nothing was compared."""
    if ratio is None and low == 0 and high is None:
        return "-"
    shown = "?" if ratio is None else story.number(ratio)
    return f"{shown} ({story.number(low)}–{story.number(high)})"


BUCKET = ("from", "weight", "canary bad", "of", "share", "baseline bad", "of", "share", "e-value", "for", "odds ratio")


def bucket_row(point: Point) -> tuple[str, ...]:
    """The cells under `BUCKET`."""
    return (
        clock(point.at),
        per_cent(point.weight),
        f"{point.canary.bad:,}",
        f"{point.canary.calls:,}",
        story.share(point.canary),
        f"{point.baseline.bad:,}",
        f"{point.baseline.calls:,}",
        story.share(point.baseline),
        power(point.worse),
        power(point.no_worse),
        interval(point.ratio, point.low, point.high),
    )


def _buckets(points: Sequence[Point]) -> list[str]:
    lines = _table(BUCKET, [bucket_row(each) for each in merged(points, MOST)])
    if len(points) > MOST:
        lines.append(f"  ({len(points)} buckets, neighbours summed; --json has each)")
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Indented; words to the left, numbers to the right."""
    sizes = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    left = [all(not row[n][:1].isdigit() for row in rows) for n in range(len(head))]
    return [
        "  " + "  ".join(_padded(cell, size, left=side) for cell, size, side in zip(row, sizes, left, strict=True))
        for row in (tuple(each.upper() for each in head), *rows)
    ]


def _padded(cell: str, size: int, *, left: bool) -> str:
    return cell.ljust(size) if left else cell.rjust(size)


# JSON


def document(told: Story) -> dict[str, Any]:
    """Schema 1. Times are epoch seconds; null: not known, or no bound. e-values are logarithms to the base 10."""
    rollout, policy = told.rollout, told.rollout.policy
    return {
        "schema": SCHEMA,
        "rollout": told.id,
        "function": told.function,
        "name": told.name,
        "environment": told.environment,
        "alias": told.alias,
        "canary": _json(told.canary),
        "baseline": _json(told.baseline),
        "by": told.by,
        "began": told.began,
        "ended": told.ended or None,
        "outcome": told.outcome,
        "headline": story.headline(told),
        "verdict": story.verdict(told),
        "state": _json(rollout.state),
        "sentence": story.state_sentence(rollout),
        "weight": rollout.weight,
        "next": None if rollout.ended else _json(due(rollout)),
        "policy": _json(policy),
        "metrics": [
            _metric(told, metric, judged) for metric, judged in zip(policy.metrics, rollout.judgements, strict=True)
        ],
        "events": _json(told.events),
        "notes": list(told.notes),
        "method": {
            "text": "e-value: the mean, by these weights, of each bucket's likelihood ratio at these odds ratios, "
            "multiplied over buckets; `kept` of the stake is spread over later buckets. See docs/analysis.md",
            "odds_ratios": {f"{ratio:g}": weight for ratio, weight in analysis.WORSE.items()},
            "kept": analysis.KEPT,
            "patience_s": analysis.PATIENCE_S,
        },
    }


def _json(value: object) -> Any:
    return msgspec.json.decode(to_json(value))


def _metric(told: Story, metric: Metric, judged: Judgement) -> dict[str, Any]:
    return {
        "name": metric.name,
        "tolerated": {"difference": metric.difference, "ratio": metric.tolerated_ratio},
        "dispersion": metric.dispersion,
        "alpha": analysis.shares(told.rollout.policy.alpha, len(told.rollout.policy.metrics)),
        "verdict": judged.verdict.name.lower(),
        "why": judged.why,
        "canary": _counts(judged.canary),
        "baseline": _counts(judged.baseline),
        "log10": {"worse": judged.worse, "no_worse": judged.no_worse, "limit": judged.limit},
        "odds_ratio": {"estimate": judged.ratio, "low": judged.low, "high": judged.high},
        "extra_share": {"estimate": judged.extra, "high": judged.extra_high},
        "calls_needed": judged.needed,
        "buckets": [
            {
                "at": each.at,
                "seconds": each.seconds,
                "weight": each.weight,
                "canary": _counts(each.canary),
                "baseline": _counts(each.baseline),
                "log10": {"worse": each.worse, "no_worse": each.no_worse},
                "odds_ratio": {"estimate": each.ratio, "low": each.low, "high": each.high},
            }
            for each in told.of(metric.name)
        ],
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "calls": counts.calls,
        "bad": counts.bad,
        "share": counts.bad / counts.calls if counts.calls else None,
    }


# Markdown

_SIGNS = {"promoted": "✅", "rolled back": "❌", "superseded": "⚠️", "stuck": "⛔"}
_SIGNS_OF = {Verdict.PASS: "✅", Verdict.INCONCLUSIVE: "❔", Verdict.ERROR: "⚠️", Verdict.FAIL: "❌"}


def markdown(told: Story) -> str:
    """For a step summary or a comment in GitHub's dialect. Texts from outside stay texts."""
    sign = _SIGNS.get(told.outcome, "⏳")
    lines = [f"### {sign} {_escaped(story.headline(told))}: {_escaped(told.function)} → {_escaped(told.alias)}", ""]
    lines += [f"**{_escaped(story.verdict(told))}**", "", _escaped(story.state_sentence(told.rollout))]
    if judgements := told.rollout.judgements:
        canary, baseline = told.canary.version, told.baseline.version
        head = [
            "metric",
            f"version {canary} (canary)",
            f"version {baseline}",
            "odds ratio",
            "e-value of limit",
            "verdict",
        ]
        rows = [
            (
                each.metric,
                _found(each.canary),
                _found(each.baseline),
                interval(each.ratio, each.low, each.high),
                f"{power(each.worse)} of {power(each.limit)}",
                f"{_SIGNS_OF[each.verdict]} {story.VERDICTS[each.verdict]}",
            )
            for each in judgements
        ]
        lines += ["", *_rows(head, rows)]
    lines += ["", *_rows(("", ""), facts(told))]
    if told.events:
        lines += ["", "<details><summary>What happened</summary>", ""]
        lines += _rows(("UTC", "", "by"), [(clock(each.at), each.what, each.by) for each in told.events])
        lines += ["", "</details>"]
    for metric in told.rollout.policy.metrics:
        if points := told.of(metric.name):
            title = f"{_escaped(metric.name)}, bucket by bucket ({_escaped(counted_as(metric))})"
            lines += ["", f"<details><summary>{title}</summary>", ""]
            lines += [*_rows(BUCKET, [bucket_row(each) for each in merged(points, MOST)]), "", "</details>"]
    for each in told.notes:
        lines += ["", f"> [!NOTE]\n> {_escaped(each)}"]
    return "\n".join(lines) + "\n"


def _found(counts: Counts) -> str:
    return f"{counts.bad:,} of {counts.calls:,} ({story.share(counts)})" if counts.calls else "no calls"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([_escaped(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _escaped(said: str) -> str:
    """Shown letter by letter: no markup, no HTML, no link, nobody mentioned."""
    shown = clean(said).replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;").replace("://", ":&#47;&#47;")
    return "".join(f"\\{each}" if each in "\\`*_[]|#~>" else each for each in shown.replace("&#", "\0")).replace(
        "\0", "&#"
    )
