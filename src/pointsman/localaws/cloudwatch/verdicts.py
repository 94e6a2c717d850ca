"""Whether an alarm's latest points make it alarm, and how AWS words it. Pure.

The rules for missing points are those of AWS's documentation ("How alarm state is evaluated when data is missing").
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

EXTRA: Final = 2
"""Points fetched beyond EvaluationPeriods, so that a few missing ones do not matter; AWS documents 5 for 3."""
_LISTED: Final = 5

COMPARISONS: Final[Mapping[str, tuple[Callable[[float, float], bool], str]]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
_TREATED: Final = {"breaching": "Breaching", "notBreaching": "NonBreaching"}


@dataclass(frozen=True, slots=True)
class Point:
    """One period. Its value is missing when nothing was measured in it."""

    at: int
    value: float | None
    samples: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    comparison: str
    threshold: float
    periods: int  # N
    to_alarm: int | None  # M; None where nobody said, which is N, but worded differently
    missing: str  # missing, ignore, breaching or notBreaching

    def breached_by(self, value: float) -> bool:
        return COMPARISONS[self.comparison][0](value, self.threshold)


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State | None  # None: as it was
    reason: str
    points: Sequence[Point]  # those it rests on, oldest first


def judge(points: Sequence[Point], rule: Rule) -> Verdict:
    """`points` are rule.periods + EXTRA whole periods, oldest first."""
    real = [point for point in points if point.value is not None][-rule.periods :]
    filled = rule.periods - len(real)
    breaching = [point for point in real if point.value is not None and rule.breached_by(point.value)]
    needed = rule.to_alarm or rule.periods
    evaluated = real if real else points[-rule.periods :]
    state: State | None
    if filled == 0 or rule.missing in _TREATED:
        count = len(breaching) + (filled if rule.missing == "breaching" else 0)
        state = "ALARM" if count >= needed else "OK"
        return Verdict(state, _worded(state, real, breaching, rule, filled), evaluated)
    if not real:
        plural = "datapoint was" if rule.periods == 1 else "datapoints were"
        unknown = f"Insufficient Data: {rule.periods} {plural} unknown."
        return Verdict(None if rule.missing == "ignore" else "INSUFFICIENT_DATA", unknown, evaluated)
    if len(breaching) >= needed:
        state = "ALARM"
    elif len(breaching) < len(real):
        state = "OK"
    elif rule.missing == "ignore":
        state = None
    else:
        # All that is known breaches. It alarms once the oldest of it is so old that it would count among M points:
        # the next point may still be a good one.
        age = next(n for n, point in enumerate(reversed(points), 1) if point is breaching[0])
        state = "ALARM" if age >= needed else "INSUFFICIENT_DATA"
    if state == "INSUFFICIENT_DATA":
        plural = "datapoint was" if filled == 1 else "datapoints were"
        return Verdict(state, f"Insufficient Data: {filled} {plural} unknown.", evaluated)
    return Verdict(state, _worded(state or "ALARM", real, breaching, rule, 0), evaluated)


def _worded(state: State, real: Sequence[Point], breaching: Sequence[Point], rule: Rule, filled: int) -> str:
    filled = filled if rule.missing in _TREATED else 0
    treated = ""
    if filled:
        plural = "datapoint was" if filled == 1 else "datapoints were"
        treated = f"{filled} missing {plural} treated as [{_TREATED[rule.missing]}]"
    if not real:
        periods = f"{rule.periods} period{'' if rule.periods == 1 else 's'}"
        return f"Threshold Crossed: no datapoints were received for {periods} and {treated}."
    crossing = breaching if state == "ALARM" else [point for point in real if point not in breaching]
    said = crossing or real  # filled points alone decided
    crossed = (state == "ALARM") == bool(crossing)
    number = len(said)
    verb = f"{'was' if number == 1 else 'were'}{'' if crossed else ' not'}"
    than = f"{verb} {COMPARISONS[rule.comparison][1]} the threshold ({rule.threshold!r})"
    listed = ", ".join(f"{point.value!r} ({_moment(point.at)})" for point in list(reversed(said))[:_LISTED])
    subject = f"{number} datapoint{'' if number == 1 else 's'}"
    if rule.to_alarm is not None:
        subject = f"{number} out of the last {len(real) + filled} datapoints"
    if number <= _LISTED:
        sentence = f"Threshold Crossed: {subject} [{listed}] {than}"
    else:
        sentence = (
            f"Threshold Crossed: {subject} {than}. The most recent datapoints which crossed the threshold: [{listed}]"
        )
    if treated:
        sentence += f" and {treated}"
    if rule.to_alarm is not None:
        least, change = (
            (rule.to_alarm, "OK -> ALARM") if state == "ALARM" else (rule.periods - rule.to_alarm + 1, "ALARM -> OK")
        )
        sentence += f" (minimum {least} datapoint{'' if least == 1 else 's'} for {change} transition)"
    return f"{sentence}."


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d/%m/%y %H:%M:%S")
