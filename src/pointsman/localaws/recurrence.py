"""When a schedule is due: AWS's rate(), cron() and at() expressions. Pure.

No library reads AWS's cron: its fields are Quartz's (without the seconds, with W, #, a year, and Sunday as 1).
"""

from __future__ import annotations

import re
from calendar import monthrange, weekday
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final, Protocol, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = [
    "At",
    "Cron",
    "ExpressionError",
    "Rate",
    "Recurrence",
    "Within",
    "ZoneError",
    "parse_rule",
    "parse_schedule",
    "zone_of",
]

DaysOf: TypeAlias = Callable[[int, int], Sequence[int]]
"""(year, month) → days of that month, ascending"""

_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_RATE: Final = re.compile(r"rate\(([0-9]{1,9})\s+(minute|hour|day)(s?)\)")
_CRON: Final = re.compile(r"cron\((.*)\)")
_AT: Final = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", re.ASCII)
_PART: Final = re.compile(r"(?:\*|([0-9]+|[A-Z]+)(?:-([0-9]+|[A-Z]+))?)(?:/([0-9]+))?")
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_WEEKDAY: Final = r"([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)"
_FIRST_YEAR, _LAST_YEAR = 1970, 2199


class ExpressionError(ValueError):
    """AWS would not take such an expression."""


class ZoneError(ExpressionError):
    """No such time zone, as far as this machine knows."""


class Recurrence(Protocol):
    """Equal ones are due at the same times."""

    def next(self, after: float) -> float | None:
        """The first time it is due later than `after`, both in epoch seconds; None: never again."""
        ...


@dataclass(frozen=True, slots=True)
class Rate:
    """Every `period` seconds, in step with `since`."""

    period: int
    since: float

    def next(self, after: float) -> float:
        return after + self.period - (after - self.since) % self.period


@dataclass(frozen=True, slots=True)
class At:
    moment: float

    def next(self, after: float) -> float | None:
        return self.moment if self.moment > after else None


@dataclass(frozen=True, slots=True)
class Within:
    """No sooner than `start` and no later than `end`."""

    whole: Recurrence
    start: float | None
    end: float | None

    def next(self, after: float) -> float | None:
        due = self.whole.next(after)
        if due is not None and self.start is not None and due < self.start:
            due = self.whole.next(self.start - 0.001)
        return None if due is None or (self.end is not None and due > self.end) else due


@dataclass(frozen=True, slots=True)
class Cron:
    """By `zone`'s clock: a time that clock leaves out is left out, one that comes twice counts the first time."""

    text: str
    zone: tzinfo = UTC
    _minutes: Sequence[int] = field(init=False, compare=False, repr=False)
    _hours: Sequence[int] = field(init=False, compare=False, repr=False)
    _months: Sequence[int] = field(init=False, compare=False, repr=False)
    _years: Sequence[int] = field(init=False, compare=False, repr=False)
    _days: DaysOf = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fields = self.text.upper().split()
        if len(fields) != 6:
            raise ExpressionError(f"{self.text!r} has {len(fields)} fields, not six")
        minute, hour, day, month, day_of_week, year = fields
        if (day == "?") == (day_of_week == "?"):
            raise ExpressionError(f"one of the days of {self.text!r}, and only one, must be '?'")
        found = {
            "_minutes": _values(minute, 0, 59),
            "_hours": _values(hour, 0, 23),
            "_months": _values(month, 1, 12, _MONTHS),
            "_years": _values(year, _FIRST_YEAR, _LAST_YEAR),
            "_days": _days_of_month(day) if day_of_week == "?" else _days_of_week(day_of_week),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def next(self, after: float) -> float | None:
        for local in self._following(datetime.fromtimestamp(after, self.zone).replace(tzinfo=None)):
            moment = local.replace(tzinfo=self.zone).timestamp()
            left_out = datetime.fromtimestamp(moment, self.zone).replace(tzinfo=None) != local
            if moment > after and not left_out:  # in the hour that comes twice, the first one may be over
                return moment
        return None

    def _following(self, local: datetime) -> Iterator[datetime]:
        for year in self._years:
            for month in self._months:
                if (year, month) < (local.year, local.month):
                    continue
                for day in self._days(year, month):
                    if (year, month, day) < (local.year, local.month, local.day):
                        continue
                    for hour in self._hours:
                        for minute in self._minutes:
                            if (candidate := datetime(year, month, day, hour, minute)) > local:
                                yield candidate


def parse_rule(text: str, since: float) -> Recurrence:
    """The schedule of a rule put at `since`. ExpressionError as PutRule refuses (recorded), down to the plurals."""
    if found := _RATE.fullmatch(text):
        number = int(found[1])
        if number < 1 or (number > 1) != bool(found[3]):
            raise ExpressionError(text)
        return Rate(number * _UNITS[found[2]], since)
    if found := _CRON.fullmatch(text):
        return Cron(found[1])
    raise ExpressionError(text)


def parse_schedule(text: str, zone: tzinfo, since: float) -> Recurrence:
    """The same for EventBridge Scheduler, which does not mind plurals and also knows at()."""
    if (found := _RATE.fullmatch(text)) and int(found[1]) > 0:
        return Rate(int(found[1]) * _UNITS[found[2]], since)
    if found := _CRON.fullmatch(text):
        return Cron(found[1], zone)
    if found := _AT.fullmatch(text):
        try:
            return At(datetime.fromisoformat(found[1]).replace(tzinfo=zone).timestamp())
        except ValueError as error:
            raise ExpressionError(text) from error
    raise ExpressionError(text)


def zone_of(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # which is there without a database of zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # a folder of zones is an OSError
        raise ZoneError(f"this machine knows no time zone {name}") from error


# --- cron's fields ---


def _values(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> Sequence[int]:
    found: set[int] = set()
    for part in text.split(","):
        parts = _PART.fullmatch(part)
        if parts is None:
            raise ExpressionError(f"{part!r} is no value of cron's")
        first, last, step = parts.groups()
        begin = low if first is None else _value(first, low, high, names)
        if last is not None:
            end = _value(last, low, high, names)
        else:
            end = high if first is None or step is not None else begin
        if step == "0" or (end < begin and low == _FIRST_YEAR):
            raise ExpressionError(f"{part!r} has no values")
        size = high - low + 1  # a range may go over the end: FRI-MON, 22-4
        found |= {low + (begin - low + n) % size for n in range(0, (end - begin) % size + 1, int(step or 1))}
    return sorted(found)


def _value(text: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return low + names.index(text)
    if not text.isdigit() or not low <= int(text) <= high:
        raise ExpressionError(f"{text!r} is none of {low} to {high}")
    return int(text)


def _days_of_month(text: str) -> DaysOf:
    if text == "LW":
        return lambda year, month: _nearest_weekday(year, month, _last(year, month))
    if found := re.fullmatch(r"L(?:-([0-9]{1,2}))?", text):
        before = int(found[1] or 0)
        if before > 30:
            raise ExpressionError(f"no month has {before} days before its last")
        return lambda year, month: [day] if (day := _last(year, month) - before) >= 1 else []
    if found := re.fullmatch(r"([0-9]{1,2})W", text):
        near = _value(found[1], 1, 31, ())
        return lambda year, month: _nearest_weekday(year, month, near)
    values = _values(text, 1, 31)
    return lambda year, month: [day for day in values if day <= _last(year, month)]


def _days_of_week(text: str) -> DaysOf:
    if found := re.fullmatch(rf"{_WEEKDAY}#([1-5])", text):
        which, nth = _value(found[1], 1, 7, _WEEKDAYS), int(found[2])
        return lambda year, month: _weekdays(year, month, {which})[nth - 1 : nth]
    if found := re.fullmatch(rf"{_WEEKDAY}L", text):
        which = _value(found[1], 1, 7, _WEEKDAYS)
        return lambda year, month: _weekdays(year, month, {which})[-1:]
    values = {7} if text == "L" else set(_values(text, 1, 7, _WEEKDAYS))
    return lambda year, month: _weekdays(year, month, values)


def _last(year: int, month: int) -> int:
    return monthrange(year, month)[1]


def _weekdays(year: int, month: int, wanted: set[int]) -> Sequence[int]:
    first, last = monthrange(year, month)
    return [day for day in range(1, last + 1) if (first + day) % 7 + 1 in wanted]


def _nearest_weekday(year: int, month: int, day: int) -> Sequence[int]:
    """Monday to Friday, and in the same month."""
    if day > (last := _last(year, month)):
        return []
    match weekday(year, month, day):
        case 5:  # Saturday
            return [day - 1 if day > 1 else day + 2]
        case 6:  # Sunday
            return [day + 1 if day < last else day - 2]
        case _:
            return [day]
