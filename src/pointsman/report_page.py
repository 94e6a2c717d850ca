"""The report of a rollout as one HTML file: plots beside tables, light and dark, from a phone to paper. Pure.

It needs nothing else: no script, no font, no picture, no address is asked for anything, and its policy says so to the
browser. Every text that came from outside is cleaned and escaped (`_text`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from pointsman import plots, story
from pointsman.analysis import Judgement, Metric
from pointsman.model import Verdict
from pointsman.plots import Frame
from pointsman.reporting import BUCKET, bucket_row, counted_as, facts, interval, merged
from pointsman.story import Point, Story, clean, clock, lasted, per_cent

DRAWN = 240  # points of a plot: more cannot be told apart
LISTED = 200  # rows of a table; --json has all

STYLE = """\
:root{color-scheme:light dark;--paper:#faf9f6;--card:#fff;--ink:#1d2129;--soft:#5c6470;--rule:#e3e1db;--canary:#b45309;
--baseline:#2563eb;--bad:#c2262e;--good:#15803d;--wait:#5c6470}
@media(prefers-color-scheme:dark){:root{--paper:#14171c;--card:#1b1f26;--ink:#e8eaed;--soft:#9aa3af;--rule:#2c323b;
--canary:#fbbf24;--baseline:#7db1ff;--bad:#ff7b7b;--good:#5fd38d;--wait:#9aa3af}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%;overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:clamp(1.7rem,1.2rem + 2.2vw,2.6rem);line-height:1.12;letter-spacing:-.02em;margin:.3rem 0 .2rem}
h2{font-size:1.25rem;letter-spacing:-.01em;margin:0}h3{font-size:.95rem;margin:0}
.over{display:flex;flex-wrap:wrap;gap:.4rem .8rem;align-items:center;color:var(--soft);font-size:.9rem}
.pill{border:1.5px solid currentColor;border-radius:99px;padding:.05rem .7rem;font-size:.8rem;font-weight:650;
white-space:nowrap}
.bad{color:var(--bad)}.good{color:var(--good)}.wait{color:var(--wait)}.canary{color:var(--canary)}
.baseline{color:var(--baseline)}
.lede{border-left:4px solid;padding:.1rem 0 .1rem 1rem;margin:1.4rem 0 1rem;font-size:1.15rem;line-height:1.45;
max-width:54rem}
.lede span{color:var(--ink)}
.note{color:var(--soft);margin:.4rem 0}
section{margin-top:2.6rem}section>header{display:flex;flex-wrap:wrap;gap:.3rem .8rem;align-items:baseline;
border-bottom:1px solid var(--rule);padding-bottom:.5rem;margin-bottom:1rem}
section>header p{margin:0;color:var(--soft);font-size:.9rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
.card,figure{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:1rem;margin:0;min-width:0}
figcaption{margin-bottom:.6rem;font-size:.9rem;color:var(--soft)}figcaption strong{display:block;color:var(--ink)}
.keys{display:flex;flex-wrap:wrap;gap:.1rem 1rem}.keys span::before{content:"";display:inline-block;width:1.3em;
border-top:2.5px solid;vertical-align:.28em;margin-right:.4em}.keys .dashed::before{border-top-style:dashed}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1rem;margin:0;font-size:.95rem}
dt{color:var(--soft)}dd{margin:0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.4rem .5rem;border-bottom:1px solid var(--rule);white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:.8rem}tbody th{color:inherit;font-size:inherit}
th,td{overflow-wrap:normal}th:first-child,td:first-child,.words td,.words th{text-align:left}
.words td:nth-child(2){white-space:normal;width:100%;overflow-wrap:anywhere;min-width:9rem}
tr:last-child>*{border-bottom:0}.scroll{overflow-x:auto}caption{text-align:left;color:var(--soft);padding-bottom:.4rem}
.card th{white-space:normal}sup{line-height:0;font-size:.72em}
.big{font-size:1.7rem;font-weight:650;letter-spacing:-.02em;line-height:1.2}.big small{font-size:.9rem;font-weight:400;
letter-spacing:0;color:var(--soft)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin-bottom:.8rem}.pair p{margin:0}
details{margin-top:1rem}summary{cursor:pointer;color:var(--soft);font-size:.9rem;padding:.3rem 0}
details .scroll{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:.4rem}
footer{margin-top:3rem;border-top:1px solid var(--rule);padding-top:1rem;color:var(--soft);font-size:.85rem}
footer p{max-width:54rem}
:focus-visible{outline:2px solid var(--baseline);outline-offset:2px;border-radius:4px}
@media(max-width:520px){main{padding:24px 16px 48px}.card,figure{padding:.8rem}figure svg{margin:0 -.3rem;
width:calc(100% + .6rem)}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}}
@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#ccc;--canary:#b45309;
--baseline:#2563eb;--bad:#c2262e;--good:#15803d;--wait:#444}main{padding:0;max-width:none}body{font-size:10.5pt}
figure,.card,tr{break-inside:avoid}section>header{break-after:avoid}.grid{grid-template-columns:1fr 1fr}
details::details-content{content-visibility:visible;height:auto}th,td{padding:.2rem .3rem}}
"""

_TONES = {Verdict.PASS: "good", Verdict.INCONCLUSIVE: "wait", Verdict.ERROR: "bad", Verdict.FAIL: "bad"}
_OUTCOMES = {"promoted": "good", "rolled back": "bad", "superseded": "wait", "stuck": "bad"}


def html(told: Story) -> str:
    """The whole page."""
    where = f"{told.function} → {told.alias}"
    judgement = story.telling(told)
    tone = _TONES[judgement.verdict] if judgement else "wait"
    metrics = zip(told.rollout.policy.metrics, told.rollout.judgements, strict=True)
    body = "".join(
        [
            f'<header><p class="over"><span class="pill {_OUTCOMES.get(told.outcome, "canary")}">{_text(told.outcome)}'
            f"</span><span>{_text(where)}</span><span>{_text(told.environment)}</span></p>",
            f"<h1>{_text(story.headline(told))}</h1>",
            f'<p class="lede {tone}"><span>{_powers(story.verdict(told))}</span></p>',
            f'<p class="note">{_text(story.state_sentence(told.rollout))}</p>',
            *(f'<p class="note">Note: {_text(each)}</p>' for each in told.notes),
            "</header>",
            _traffic(told),
            *(_metric(told, n, metric, each) for n, (metric, each) in enumerate(metrics)),
            _events(told),
            _method(told),
        ]
    )
    title = _text(f"{story.headline(told)}: {where}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="referrer" content="no-referrer"><title>{title}</title>'
        f"<style>{STYLE}{plots.STYLE}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )


def _text(said: str) -> str:
    return escape(clean(said))


_POWER = str.maketrans("-0123456789.", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹·")


def _powers(said: str) -> str:
    """10^6.2 as people write it."""
    head, *rest = _text(said).split("10^")
    parts = [head]
    for each in rest:
        exponent = each[: len(each) - len(each.lstrip("-0123456789.∞"))].rstrip(".")
        parts.append(f"10<sup>{exponent.replace('-', '−')}</sup>{each[len(exponent) :]}")
    return "".join(parts)


def _tick(exponent: float) -> str:
    return f"10{f'{exponent:g}'.translate(_POWER)}"


# Sections


def _length(told: Story) -> float:
    """Seconds that the plots are wide: until the end, or until the last that is known."""
    last = [told.ended, *(each.at + each.seconds for each in told.points[-1:]), *(each.at for each in told.events[-1:])]
    return max(*last, told.began + 60) - told.began


def _traffic(told: Story) -> str:
    length = _length(told)
    weights = story.weights(told)
    top = max(0.1, *(weight for _, weight in weights), *(each.weight for each in told.rollout.policy.steps))
    frame = Frame(x=plots.times(length), y=plots.linear(0.0, min(1.0, top), per_cent, most=4))
    marks = [
        plots.mark(frame, each.at - told.began, f"{clock(each.at)} {clean(each.what)}", _mark(each.kind))
        for each in told.events
        if each.kind != "shift"
    ]
    steps = plots.stairs(frame, weights, "canary", until=length)
    said = "; ".join(f"{per_cent(weight)} after {lasted(at)}" for at, weight in weights[1:]) or "none"
    picture = plots.figure("weight", frame, [*marks, steps], title="Weight of the canary over time", text=said)
    rows = "".join(f"<dt>{label}</dt><dd>{_text(text)}</dd>" for label, text in facts(told))
    return (
        '<section><div class="grid">'
        f'<div class="card"><dl>{rows}</dl></div>'
        f"<figure><figcaption><strong>Traffic to version {told.canary.version}</strong>"
        f"Since {clock(told.began)} UTC. Thin lines are what happened meanwhile.</figcaption>{picture}</figure>"
        "</div></section>"
    )


def _mark(kind: str) -> str:
    return "bad" if kind in ("alarm", "error", "verdict") else "soft"


def _metric(told: Story, index: int, metric: Metric, judgement: Judgement) -> str:
    points = told.of(metric.name)
    drawn = merged(points, DRAWN)
    tone = _TONES[judgement.verdict]
    word = story.VERDICTS[judgement.verdict] if judgement.canary.calls else "no calls"
    cards = [_numbers(told, judgement)]
    if drawn:
        frames = [_shares, _evidence, _ratios] if judgement.canary.calls else [_shares]
        cards += [each(told, f"m{index}", metric, judgement, drawn) for each in frames]
    return (
        f'<section><header><h2>{_text(metric.name)}</h2><span class="pill {tone}">{word}</span>'
        f"<p>{_text(counted_as(metric))}</p></header>"
        f'<div class="grid">{"".join(cards)}</div>{_table(points, metric) if points else ""}</section>'
    )


def _numbers(told: Story, judgement: Judgement) -> str:
    """The two shares, large, and what they come from."""
    sides = ((told.canary, judgement.canary, "canary"), (told.baseline, judgement.baseline, "baseline"))
    pair = "".join(
        f'<p><span class="{style}">Version {side.version}, {style}</span><br>'
        f'<span class="big">{story.share(counts)}</span><br>{counts.bad:,} of {story.counted_calls(counts.calls)}'
        f" {_text(story.did(judgement.metric))}</p>"
        for side, counts, style in sides
    )
    rows = [
        ("Odds ratio", interval(judgement.ratio, judgement.low, judgement.high)),
        ("Extra share of bad calls", f"{_percentage(judgement.extra)}, at most {_percentage(judgement.extra_high)}"),
        ("E-value against the canary", story.power(judgement.worse)),
        ("E-value for the canary", story.power(judgement.no_worse)),
        ("Limit of both", story.power(judgement.limit)),
    ]
    if not judgement.canary.calls:
        rows = rows[2:]
    cells = "".join(f"<tr><th scope='row'>{name}</th><td>{_powers(value)}</td></tr>" for name, value in rows)
    return f'<div class="card"><div class="pair">{pair}</div><table><tbody>{cells}</tbody></table></div>'


def _percentage(part: float) -> str:
    return f"{part * 100:.2g} %".replace("-", "−")


def _figure(title: str, keys: Sequence[tuple[str, str]], picture: str) -> str:
    shown = "".join(f'<span class="{style}">{_text(text)}</span>' for style, text in keys)
    return (
        f'<figure><figcaption><strong>{title}</strong><span class="keys">{shown}</span></figcaption>{picture}</figure>'
    )


def _shares(told: Story, name: str, metric: Metric, judgement: Judgement, points: Sequence[Point]) -> str:
    sides = (
        ("baseline dashed", [(each, each.baseline) for each in points if each.baseline.calls]),
        ("canary", [(each, each.canary) for each in points if each.canary.calls]),
    )
    top = max((counts.bad / counts.calls for _, side in sides for _, counts in side), default=0.0) or 0.01
    frame = Frame(x=plots.times(_length(told)), y=plots.linear(0.0, min(1.0, top * 1.1), _share_tick, most=4))
    parts = []
    for style, side in sides:
        middle = [(_middle(told, each), counts.bad / counts.calls) for each, counts in side]
        said = [f"{clock(each.at)}: {counts} ({story.share(counts)})" for each, counts in side]
        parts.append(plots.line(frame, middle, style))
        parts.append(
            plots.dots(frame, [(x, y, t) for (x, y), t in zip(middle, said, strict=True)], style.partition(" ")[0])
        )
    text = f"In all {story.found_sentence(judgement)}." if judgement.canary.calls else "No call of the canary."
    title = f"Share of calls that {_text(story.did(metric.name))}"
    picture = plots.figure(f"{name}-share", frame, parts, title=f"{clean(metric.name)}: bad share by bucket", text=text)
    keys = (("canary", f"version {told.canary.version}"), ("baseline dashed", f"version {told.baseline.version}"))
    return _figure(title, keys, picture)


def _share_tick(value: float) -> str:
    return f"{value * 100:.6g} %"


def _middle(told: Story, point: Point) -> float:
    return point.at + point.seconds / 2 - told.began


def _evidence(told: Story, name: str, metric: Metric, judgement: Judgement, points: Sequence[Point]) -> str:
    limit = judgement.limit
    lines: tuple[tuple[str, Callable[[Point], float]], ...] = (
        ("good dashed", lambda each: each.no_worse),
        ("bad", lambda each: each.worse),
    )
    seen = [line(each) for _, line in lines for each in points]
    low, high = max(-limit, min(0.0, *seen)), max(limit * 1.2, *seen)
    whole = max(1, math.ceil((high - low) / 6))
    frame = Frame(x=plots.times(_length(told)), y=plots.linear(low, high, _tick, steps=(whole,)))
    parts = [plots.limit(frame, limit, f"limit {_tick(round(limit, 1))}", "soft")]
    began = points[0].at - told.began
    for style, line in lines:
        ends = [(each.at + each.seconds - told.began, line(each)) for each in points]
        said = [f"{clock(each.at + each.seconds)}: {story.power(line(each))}" for each in points]
        parts.append(plots.line(frame, [(began, 0.0), *ends], style))
        told_dots = [(x, y, t) for (x, y), t in zip(ends, said, strict=True)]
        parts.append(plots.dots(frame, told_dots if len(ends) <= 40 else [], style.partition(" ")[0], radius=2))
    text = (
        f"Against the canary {story.power(judgement.worse)}, for it {story.power(judgement.no_worse)}; "
        f"the limit is {story.power(limit)}."
    )
    picture = plots.figure(
        f"{name}-evidence", frame, parts, title=f"{clean(metric.name)}: e-values over time", text=text
    )
    keys = (("bad", "evidence that it is worse"), ("good dashed", "that it is no worse than tolerated"))
    return _figure("E-values against their limit", keys, picture)


def _ratios(told: Story, name: str, metric: Metric, judgement: Judgement, points: Sequence[Point]) -> str:
    shown = [each for each in points if each.ratio is not None or each.low > 0 or each.high is not None]
    seen = [
        *(value for each in shown for value in (each.ratio, each.low, each.high) if value),
        metric.tolerated_ratio or 1.0,
    ]
    low, high = max(0.05, min(0.5, *seen) / 1.2), min(1000.0, max(3.0, *seen) * 1.2)
    frame = Frame(x=plots.times(_length(told)), y=plots.tenfold(low, high, story.number))
    parts = [plots.limit(frame, 1.0, "equal", "soft", below=True)]
    if metric.tolerated_ratio:
        parts.append(plots.limit(frame, metric.tolerated_ratio, "tolerated", "soft"))
    ends = [(each, each.at + each.seconds - told.began) for each in shown]
    around = [(x, each.low, math.inf if each.high is None else each.high) for each, x in ends]
    parts.append(plots.band(frame, around, "canary"))
    line = [(x, each.ratio) for each, x in ends if each.ratio]
    parts.append(plots.line(frame, line, "canary"))
    said = [
        (x, each.ratio, f"{clock(each.at + each.seconds)}: {interval(each.ratio, each.low, each.high)}")
        for each, x in ends
        if each.ratio
    ]
    parts.append(plots.dots(frame, said if len(said) <= 40 else [], "canary"))
    text = f"{story.ratio_words(judgement)}; 1 means equally good."
    picture = plots.figure(
        f"{name}-ratio", frame, parts, title=f"{clean(metric.name)}: odds ratio over time", text=text
    )
    keys = (
        ("canary", f"odds of a bad call, version {told.canary.version} to {told.baseline.version}; interval shaded"),
    )
    return _figure("Odds ratio and its interval", keys, picture)


def _table(points: Sequence[Point], metric: Metric) -> str:
    shown = merged(points, LISTED)
    head = "".join(f'<th scope="col">{name}</th>' for name in BUCKET)
    rows = "".join(f"<tr>{''.join(f'<td>{_powers(cell)}</td>' for cell in bucket_row(each))}</tr>" for each in shown)
    more = f"; neighbours summed, {len(points):,} in all" if len(shown) < len(points) else ""
    opened = " open" if len(shown) <= 12 else ""
    return (
        f"<details{opened}><summary>The numbers of {_text(metric.name)}, bucket by bucket{more}</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Buckets of {_text(metric.name)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _events(told: Story) -> str:
    if not told.events:
        return ""
    rows = "".join(
        f"<tr><td>{clock(each.at)}</td><td>{_text(each.what)}</td><td>{_text(each.by)}</td></tr>"
        for each in told.events
    )
    return (
        "<section><header><h2>What happened</h2><p>Times are UTC</p></header>"
        '<div class="card scroll"><table class="words"><thead><tr><th scope="col">at</th><th scope="col">what</th>'
        f'<th scope="col">by</th></tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _method(told: Story) -> str:
    policy = told.rollout.policy
    many = len(policy.metrics)
    each = f"{per_cent(policy.alpha / many)} for each of {many} metrics" if many > 1 else per_cent(policy.alpha)
    return (
        "<footer><p><strong>How to read it.</strong> An e-value is the evidence gathered so far. Were both versions "
        "equally good, the one against the canary would ever reach 10<sup>x</sup> in at most one of 10<sup>x</sup> "
        f"rollouts, however often it is looked at. The limit is set so that a canary as good as the baseline is sent "
        f"back with a chance of {each} at most. The other e-value is evidence that the canary is no worse than what is "
        "tolerated. Counts of each bucket are compared within that bucket, so an outage that hits both versions proves "
        "nothing against either. All numbers, to be computed again by hand, are in the JSON report.</p>"
        f"<p>Rollout {_text(told.id)}, written by Pointsman.</p></footer>"
    )
