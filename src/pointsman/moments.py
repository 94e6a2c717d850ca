"""Times as people type them: dates, times of day, how long ago; and as Lambda tells them. Pure: now and zone come in.

Where a clock is put forward an hour is missing, and where it is put back one comes twice: of a date and time that is
missing or comes twice it is said so, and an offset asked for.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, tzinfo

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h|d|w)")
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
SHAPES = "2026-03-01, 2026-03-01T14:30, 2026-03-01T14:30:00+01:00, 14:30, yesterday, 90m, 12h, 7d, 2w"


def moment(text: str, *, now: float, zone: tzinfo | None = None, end: bool = False) -> float:
    """Epoch seconds. A length of time is so long ago, a time of day the last that has passed; without an offset in
    `zone` (None: the machine's own). A day is its beginning, or its `end`.

    Raises ValueError, in words, where it is none of these.
    """
    said = text.strip()
    if found := _AGO.fullmatch(said):
        ago = float(found[1]) * _UNITS[found[2]]
        if ago > now:
            raise ValueError(f"{text!r} is longer ago than 1970")
        return now - ago
    if found := _CLOCK.fullmatch(said):
        return _last(time(int(found[1]), int(found[2]), int(found[3] or 0)), now, zone)
    today = datetime.fromtimestamp(now, zone).date()
    match said.lower():
        case "now":
            return now
        case "today":
            return _day(today, zone, end)
        case "yesterday":
            return _day(today - timedelta(days=1), zone, end)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", said):
        try:
            return _day(date.fromisoformat(said), zone, end)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is no date: {error}") from error
    if not re.match(r"\d{4}-\d\d-\d\d[T ]", said):
        raise ValueError(f"{text!r} is not a time. Times look like {SHAPES}")
    try:
        given = datetime.fromisoformat(said)
        return given.timestamp() if given.tzinfo else _exact(given, zone, text)
    except OverflowError as error:
        raise ValueError(f"{text!r} is no date and time: {error}") from error
    except ValueError as error:
        raise ValueError(str(error) if text in str(error) else f"{text!r} is no date and time: {error}") from error


def _stamp(naive: datetime, zone: tzinfo | None) -> float:
    return naive.replace(tzinfo=zone).timestamp()


def _both(naive: datetime, zone: tzinfo | None) -> tuple[float, ...]:
    """When the clock shows that: once mostly, twice where it is put back, never where it is put forward."""
    stamps = sorted({_stamp(naive.replace(fold=fold), zone) for fold in (0, 1)})
    return tuple(each for each in stamps if datetime.fromtimestamp(each, zone).replace(tzinfo=None, fold=0) == naive)


def _exact(naive: datetime, zone: tzinfo | None, text: str) -> float:
    stamps = _both(naive, zone)
    if len(stamps) == 1:
        return stamps[0]
    if not stamps:
        raise ValueError(f"{text!r} never was: the clock was put forward over it. Say it with an offset, as in +01:00")
    one, other = (shown(each, zone) for each in stamps)
    raise ValueError(f"{text!r} came twice, for the clock was put back: say {one} or {other}")


def _last(clock: time, now: float, zone: tzinfo | None) -> float:
    today = datetime.fromtimestamp(now, zone).date()
    for days in range(4):  # one day may lack that time, and today's may be to come
        passed = [each for each in _both(datetime.combine(today - timedelta(days=days), clock), zone) if each <= now]
        if passed:
            return max(passed)
    raise ValueError(f"{clock} has not been within the last days")


def _day(day: date, zone: tzinfo | None, end: bool) -> float:
    # Some zones put the clock forward at midnight: the day then begins an hour later, which is what this stamp is.
    return _stamp(datetime.combine(day + timedelta(days=1 if end else 0), time()), zone)


def shown(at: float, zone: tzinfo | None = None) -> str:
    """ "2026-03-01 02:00:00+01:00": without a doubt which moment is meant."""
    return datetime.fromtimestamp(at, zone).astimezone(zone).isoformat(" ", "seconds").replace("+00:00", "Z")


def epoch(modified: str) -> float | None:
    """Lambda's LastModified ("2024-01-31T12:00:00.000+0000") in epoch seconds; None where it says nothing."""
    try:
        return datetime.fromisoformat(modified).timestamp()
    except ValueError:
        return None


__all__ = ["SHAPES", "epoch", "moment", "shown"]
