"""`pointsman rollout simulate`: what the environment's rollout would do with such traffic and such regressions."""

from __future__ import annotations

from html import escape
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from pointsman import config, plots, simulation
from pointsman.analysis import Metric, information_bound
from pointsman.errors import UsageError
from pointsman.model import Value, Version
from pointsman.rollout import Policy, as_declared, begin, warnings
from pointsman.simulation import Outage, Summary, Traffic
from pointsman.story import per_cent

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed

HEAD = (
    "the new version is",
    "fails",
    "rolled back",
    "a person asked",
    "minutes",
    "95 %",
    "extra failed",
    "95 %",
    "mean",
)
TIMES = (1.5, 2.0, 3.0, 5.0, 50.0)


class World(Value, frozen=True, kw_only=True):
    """One row: a canary, and how its rollouts ended. `bound`: minutes that any sound test takes at the last step."""

    name: str
    healthy: bool
    bad: float
    summary: Summary
    bound: float | None = None


def run(typed: Typed) -> int:
    asked, screen = typed.asked, typed.screen
    declared, name = _declared(typed)
    traffic = Traffic(calls=asked.calls, rate=asked.rate)
    policy = simulation.measured_policy(declared_policy(declared), traffic, Random(asked.seed))
    rows = []
    for title, world in _worlds(traffic, asked.regression):
        screen.say(f"simulating {asked.runs} rollouts: {title}")
        rows.append(_row(title, world, simulation.summary(_runs(typed, policy, world)), policy))
    notes = warnings(begin(policy, baseline=Version("1"), canary=Version("2"), revision="", at=0.0))
    if not screen.json:
        _show(typed, name, declared, rows, notes)
    if asked.html:
        Path(asked.html).write_text(page(name, declared, traffic, rows), encoding="utf-8")
        if not screen.json:
            screen.print(f"wrote {asked.html}")
    facts = {"calls": asked.calls, "rate": asked.rate, "runs": asked.runs, "seed": asked.seed}
    screen.result({"environment": name, **facts, "policy": policy, "worlds": rows, "notes": notes})
    return 0


def _runs(typed: Typed, policy: Policy, traffic: Traffic) -> list[simulation.Run]:
    """All of them; a terminal counts along."""
    asked, screen, found = typed.asked, typed.screen, []
    for number, each in enumerate(simulation.runs(policy, traffic, seed=asked.seed, count=asked.runs), start=1):
        found.append(each)
        if screen.lively and (number % 10 == 0 or number == asked.runs):
            # The count goes when it is complete: what is said next takes its line.
            counted = "" if number == asked.runs else f"        {number} of {asked.runs}"
            print(f"\r\x1b[K{counted}", end="", file=screen.err, flush=True)
    return found


def _declared(typed: Typed) -> tuple[config.Rollout, str]:
    """The environment's rollout, or the default one where there is no file or no such table."""
    name = typed.asked.name
    try:
        project = config.load(typed.file())
    except UsageError:
        if name:
            raise
        return config.Rollout(), "default settings"
    chosen = [each for each in project.environments.values() if name in (None, each.name, each.alias)]
    if not chosen:
        raise UsageError(
            f"pointsman.toml has no environment {name}", next="`pointsman rollout simulate` takes the first."
        )
    found = next((each for each in chosen if each.rollout), chosen[0])
    return found.rollout or config.Rollout(), found.name if found.rollout else f"{found.name}, default settings"


def declared_policy(declared: config.Rollout) -> Policy:
    """As on AWS: by the minute. Only errors are simulated."""
    errors = Metric(name="errors", difference=declared.errors)
    lag_s = declared.lag + 3.0  # a time-out of Lambda's default
    return as_declared(declared, metrics=(errors,), period_s=60.0, lag_s=lag_s)


def _worlds(traffic: Traffic, more: list[float]) -> list[tuple[str, Traffic]]:
    from msgspec.structs import replace

    rate = traffic.rate
    outage = Outage(begins=2.0, ends=6.0, rate=0.3)
    found = [
        ("as good as the old version", traffic),
        ("as good, in an outage of 30 %", replace(traffic, outages=(outage,))),
        ("as good, on rates that drift", replace(traffic, drift=3.0, cycle=0.3)),
    ]
    times = sorted({*TIMES, *more})
    found += [(f"{each:g} times the errors", replace(traffic, bad=min(1.0, rate * each))) for each in times]
    return [*found, ("every second call fails", replace(traffic, bad=max(0.5, rate)))]


def _row(title: str, traffic: Traffic, found: Summary, policy: Policy) -> World:
    bound = None
    if traffic.bad is not None and traffic.bad > traffic.rate and policy.steps:
        calls = information_bound(traffic.bad, traffic.rate, weight=policy.steps[-1].weight, alpha=policy.alpha)
        bound = calls / traffic.calls
    bad = traffic.rate if traffic.bad is None else traffic.bad
    return World(name=title, healthy=traffic.bad is None, bad=bad, summary=found, bound=bound)


def _show(typed: Typed, name: str, declared: config.Rollout, rows: list[World], notes: tuple[str, ...]) -> None:
    screen, asked = typed.screen, typed.asked
    screen.print(
        f"{name}: {steps(declared)}; {asked.calls:g} calls a minute, {per_cent(asked.rate)} of them fail; "
        f"{asked.runs} rollouts each, seed {asked.seed}"
    )
    screen.print()
    doubt = any(row.summary.asked for row in rows)
    screen.table(
        (*HEAD[:3], "", *HEAD[3:4][: int(doubt)], *HEAD[4:]),
        [
            (
                row.name,
                per_cent(row.bad),
                f"{row.summary.rolled_back:.1%}",
                plots.bar(row.summary.rolled_back, 12),
                *([f"{row.summary.asked:.1%}"] if doubt else []),
                f"{row.summary.minutes:.1f}",
                f"{row.summary.minutes_95:.1f}",
                f"{row.summary.extra:,.0f}",
                f"{row.summary.extra_95:,.0f}",
                f"{row.summary.extra_mean:,.0f}",
            )
            for row in rows
        ],
    )
    screen.print()
    false = max(row.summary.rolled_back for row in rows if row.healthy)
    screen.print(
        f"Healthy versions were rolled back in {false:.1%} of rollouts at most (allowed: {per_cent(declared.alpha)}). "
        "Minutes and extra failed calls are medians of whole rollouts."
    )
    if doubt:
        screen.print("Where a person would be asked, the run ends: too few calls, or the budget is spent.")
    for note in notes:
        screen.print(f"Note: {note}.")


def steps(declared: config.Rollout) -> str:
    words = ", ".join(f"{share:g} %" for share, _bake in declared.ramp)
    budget = f", a budget of {declared.budget} calls" if declared.budget else ""
    return f"{words}, then all{budget}" if words else f"all at once{budget}"


def page(name: str, declared: config.Rollout, traffic: Traffic, rows: list[World]) -> str:
    """One self-contained page: how often each regression is caught, and what it costs until then."""
    bad = [row for row in rows if not row.healthy and row.bad > 0]
    low, high = min(row.bad for row in bad), max(row.bad for row in bad)
    x = plots.tenfold(low, max(high, low * 10), per_cent)
    caught = plots.Frame(x=x, y=plots.linear(0, 1, "{:.0%}".format))
    most = max(1.0, *(row.summary.extra_95 for row in bad))
    cost = plots.Frame(x=x, y=plots.linear(0, most, "{:g}".format))
    figures = [
        plots.figure(
            "caught",
            caught,
            [
                plots.line(caught, [(row.bad, row.summary.rolled_back) for row in bad], "bad"),
                plots.dots(caught, [(row.bad, row.summary.rolled_back, row.name) for row in bad], "bad"),
            ],
            title="Rolled back, by how many calls of the new version fail",
            text="; ".join(f"{row.name}: {row.summary.rolled_back:.0%}" for row in bad),
        ),
        plots.figure(
            "cost",
            cost,
            [
                plots.band(cost, [(row.bad, 0.0, row.summary.extra_95) for row in bad], "canary"),
                plots.line(cost, [(row.bad, row.summary.extra) for row in bad], "canary"),
                *([plots.limit(cost, declared.budget, "budget")] if declared.budget else []),
            ],
            title="Calls that failed more than with the old version: median, and 95 % of rollouts below the band",
            text="; ".join(f"{row.name}: {row.summary.extra:.0f}, up to {row.summary.extra_95:.0f}" for row in bad),
        ),
    ]
    cells = "".join(
        f"<tr><th scope=row>{escape(row.name)}</th><td>{per_cent(row.bad)}</td><td>{row.summary.rolled_back:.1%}</td>"
        f"<td>{row.summary.asked:.1%}</td><td>{row.summary.minutes:.1f}</td><td>{row.summary.minutes_95:.1f}</td><td>{row.summary.extra:,.0f}</td>"
        f"<td>{row.summary.extra_95:,.0f}</td><td>{row.summary.extra_mean:,.1f}</td></tr>"
        for row in rows
    )
    head = "".join(f"<th scope=col>{each}</th>" for each in HEAD)
    titled = zip(_TITLES, figures, strict=True)
    drawn = "".join(f"<figure><figcaption>{title}</figcaption>{svg}</figure>" for title, svg in titled)
    said = f"{steps(declared)}; {traffic.calls:g} calls a minute, {per_cent(traffic.rate)} of them fail"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Simulated rollouts</title>'
        f"<style>{_STYLE}{plots.STYLE}</style></head><body><main><h1>Simulated rollouts: {escape(name)}</h1>"
        f"<p>{escape(said)}; {rows[0].summary.runs} rollouts each.</p>"
        f"{drawn}"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>'
        "</main></body></html>\n"
    )


_TITLES = ("Rolled back, by the share of calls that fail", "Extra failed calls until then: median, and 95 %")
_STYLE = """\
:root{color-scheme:light dark;--paper:#fff;--ink:#1d2129;--rule:#d9dde3}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e8eaed;--rule:#343b45}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1rem}figure{margin:1.5rem 0}figcaption{font-weight:600}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--rule)}
th[scope=row],th:first-child{text-align:left}
"""
