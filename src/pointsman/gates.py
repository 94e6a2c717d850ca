"""Gates: what must pass at which moment of a move, when a move is allowed at all, whose approval counts. Pure.

A window is read off the wall clock of its zone: where the clock is put back, an hour that it shows twice is in the
window both times or not at all; where it is put forward, what it skips never is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pointsman.config import Day, Environment, Gate, Window
from pointsman.model import Value

Moment = Literal["before", "traffic", "step", "quiet", "spent", "full", "after"]  # `rollout.Moment`

EXPIRES_S = 4 * 3600.0
"""For how long an approval is asked for, and how long one counts, where the file does not say."""

_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HORIZON = timedelta(days=3660)  # a window that is frozen for longer is not looked beyond


# Which gates stand where


class Standing(Value, frozen=True, kw_only=True):
    """A gate at one moment. `name` tells it from the others there, also after the file was changed."""

    name: str
    gate: Gate

    @property
    def expires_s(self) -> float:
        return EXPIRES_S if self.gate.expires is None else self.gate.expires


def standing(environment: Environment, moment: Moment, weight: float) -> tuple[Standing, ...]:
    """The gates of that moment, in the file's order; of `step`, those behind that weight (0 to 1).

    `approve = true` of the environment is no gate of a rollout: it is asked before one begins. `quiet`, which comes
    where too few calls were counted, and `spent`, where the budget is, are one question to a person.
    """
    if moment in ("quiet", "spent"):
        return (Standing(name="approve", gate=Gate(when="step", approve=True)),)
    found = [each for each in environment.gates if each.when == moment and _behind(each, weight)]
    names = [_name(each) for each in found]
    return tuple(
        Standing(name=name if name not in names[:i] else f"{name} ({names[:i].count(name) + 1})", gate=gate)
        for i, (name, gate) in enumerate(zip(names, found, strict=True))
    )


def moments(environment: Environment) -> tuple[Moment, ...]:
    """Those where something stands: `rollout.Policy.moments`."""
    own: tuple[Moment, ...] = ("before", "traffic", "step", "full", "after")
    there = {gate.when for gate in environment.gates}
    return tuple(each for each in own if each in there)


def gated(environment: Environment) -> tuple[float, ...]:
    """The steps' weights (0 to 1) behind which something stands: `rollout.Policy.gated`."""
    ramp = environment.rollout.ramp if environment.rollout else ()
    return tuple(share / 100 for share, _ in ramp if standing(environment, "step", share / 100))


def _behind(gate: Gate, weight: float) -> bool:
    return gate.at is None or math.isclose(gate.at, weight * 100, rel_tol=1e-6)


def _name(gate: Gate) -> str:
    return gate.run or gate.url or ("approve" if gate.approve else "pause")


# Approvals


class Approval(Value, frozen=True, kw_only=True):
    """Somebody lets a version pass one moment on an alias. It counts from `at` until before `until` (epoch seconds).

    `function`: its name in the file. `how` it was given: in words.
    """

    by: str
    how: str
    at: float
    until: float
    function: str
    alias: str
    version: str
    moment: Moment


def approved(
    approvals: Iterable[Approval],
    *,
    function: str,
    alias: str,
    version: str,
    moment: Moment,
    since: float,
    at: float,
) -> Approval | None:
    """The newest that counts at `at`. One from before `since`, when it was asked for, was given for something else."""
    wanted = (function, alias, version, moment)
    fits = (
        each
        for each in approvals
        if (each.function, each.alias, each.version, each.moment) == wanted and since <= each.at <= at < each.until
    )
    return max(fits, key=lambda each: each.at, default=None)


# Windows


class Refusal(Value, frozen=True, kw_only=True):
    """Why nothing moves now, and when it may: `opens` in epoch seconds (None: not in ten years), `next` in words."""

    why: str
    opens: float | None
    next: str


def judge_window(window: Window, at: float) -> Refusal | None:
    """None where a move is allowed at `at` (epoch seconds)."""
    zone = ZoneInfo(window.zone)
    now = datetime.fromtimestamp(at, zone)
    if frozen := _frozen(window, now.date()):
        why = f"{now:%Y-%m-%d} is a day without moves ({frozen})"
    elif not _open(window, now):
        why = f"{_shown(now)} is outside the window, {described(window)}"
    else:
        return None
    opens = _opens(window, at)
    if opens is None:
        return Refusal(why=why, opens=None, next="It does not open in the next ten years.")
    return Refusal(why=why, opens=opens, next=f"It opens {_shown(datetime.fromtimestamp(opens, zone))}.")


def described(window: Window) -> str:
    """The window in words: "Mon–Thu 09:00–16:00 (Europe/Stockholm)"."""
    at = [i for i, day in enumerate(_DAYS) if day in window.days]
    runs: list[list[int]] = []
    for i in at:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    days = [f"{_DAYS[run[0]].title()}–{_DAYS[run[-1]].title()}" if run[1:] else _DAYS[run[0]].title() for run in runs]
    return f"{', '.join(days)} {window.since}–{window.to} ({window.zone})"


def _shown(moment: datetime) -> str:
    return f"{_DAYS[moment.weekday()].title()} {moment:%Y-%m-%d %H:%M} {moment.tzname()}"


def _frozen(window: Window, day: date) -> str:
    for each in window.freeze:
        first, last = (each.split("..") * 2)[:2]
        if date.fromisoformat(first) <= day <= date.fromisoformat(last):
            return each
    return ""


def _open(window: Window, now: datetime) -> bool:
    """By the wall clock alone; freeze days apart."""
    since, to, minute = _minutes(window.since), _minutes(window.to), now.hour * 60 + now.minute
    today = _DAYS[now.weekday()] in window.days
    if since < to:
        return today and since <= minute < to
    return (today and minute >= since) or (_DAYS[now.weekday() - 1] in window.days and minute < to)


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _opens(window: Window, at: float) -> float | None:
    """The first whole minute after `at` in the window. Days that cannot hold one are skipped, others looked through:
    so it holds whatever the zone does to its clock on that day."""
    zone = ZoneInfo(window.zone)
    minute = math.floor(at / 60) * 60 + 60
    end = datetime.fromtimestamp(at, zone).date() + _HORIZON
    while (now := datetime.fromtimestamp(minute, zone)).date() <= end:
        night = {_DAYS[now.weekday() - 1]} if _minutes(window.to) < _minutes(window.since) else set()
        if {_DAYS[now.weekday()], *night} & {*window.days} and not _frozen(window, now.date()):
            if _open(window, now):
                return float(minute)
            minute += 60
        else:
            tomorrow = datetime.combine(now.date() + timedelta(days=1), time(), zone)
            minute = max(minute + 60, math.floor(tomorrow.timestamp() / 60) * 60)
    return None
