"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pointsman.moments import moment, shown

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=BERLIN).timestamp()


def told(text: str, *, now: float = NOW, end: bool = False) -> str:
    return datetime.fromtimestamp(moment(text, now=now, zone=BERLIN, end=end), BERLIN).isoformat()


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("02:00", "2026-11-30T02:00:00+01:00"),
        ("12:00", "2026-11-30T12:00:00+01:00"),
        ("12:01", "2026-11-29T12:01:00+01:00"),
        ("23:59:30", "2026-11-29T23:59:30+01:00"),
        ("7d", "2026-11-23T12:00:00+01:00"),
        ("90m", "2026-11-30T10:30:00+01:00"),
        ("1.5h", "2026-11-30T10:30:00+01:00"),
        ("2w", "2026-11-16T12:00:00+01:00"),
        ("now", "2026-11-30T12:00:00+01:00"),
        ("today", "2026-11-30T00:00:00+01:00"),
        ("Yesterday", "2026-11-29T00:00:00+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("2026-07-01T14:30", "2026-07-01T14:30:00+02:00"),
        ("2026-07-01 14:30:10", "2026-07-01T14:30:10+02:00"),
        ("2026-07-01T14:30Z", "2026-07-01T16:30:00+02:00"),
        ("2026-07-01T14:30-05:00", "2026-07-01T21:30:00+02:00"),
    ],
)
def test_what_people_type_is_the_moment_they_mean(text: str, then: str) -> None:
    assert told(text) == then


def test_a_day_as_an_end_is_its_last_moment() -> None:
    assert told("2026-10-25", end=True) == "2026-10-26T00:00:00+01:00"
    assert told("today", end=True) == "2026-12-01T00:00:00+01:00"
    assert told("2026-10-25T10:00", end=True) == "2026-10-25T10:00:00+01:00"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a time"),
        ("25:00", "is not a time"),
        ("7 days", "is not a time"),
        ("-7d", "is not a time"),
        ("01.03.2026", "is not a time"),
        ("20260301", "is not a time"),
        ("2026-02-30", "is no date: day"),
        ("2026-02-30T10:00", "is no date and time"),
        ("2026-03-01T25:00", "is no date and time"),
        ("2026-03-29T02:30", "never was"),
        ("2026-10-25T02:30", "2026-10-25 02:30:00+02:00 or 2026-10-25 02:30:00+01:00"),
    ],
)
def test_what_is_no_time_or_two_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^'") as refused:
        moment(text, now=NOW, zone=BERLIN)

    assert says in str(refused.value)


def test_a_time_of_day_that_came_twice_is_the_later_that_has_passed() -> None:
    between = datetime(2026, 10, 25, 0, 45, tzinfo=UTC).timestamp()  # 02:45 for the first time

    assert told("02:30", now=between) == "2026-10-25T02:30:00+02:00"
    assert told("02:30", now=between + 3600) == "2026-10-25T02:30:00+01:00"


def test_a_time_of_day_that_a_day_lacks_is_the_day_befores() -> None:
    assert told("02:30", now=datetime(2026, 3, 29, 9, 0, tzinfo=BERLIN).timestamp()) == "2026-03-28T02:30:00+01:00"


@given(
    now=some.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2035, 1, 1)), clock=some.times()
)  # every zone's clock changes lie in there
def test_a_time_of_day_is_always_the_last_that_has_passed(now: datetime, clock: object) -> None:
    at = now.replace(tzinfo=UTC).timestamp()
    text = f"{clock:%H:%M}"

    found = moment(text, now=at, zone=BERLIN)

    assert found <= at
    assert f"{datetime.fromtimestamp(found, BERLIN):%H:%M}" == text
    assert at - found <= timedelta(days=2).total_seconds()


@given(some.integers(min_value=10**9, max_value=2 * 10**9))
def test_what_is_shown_can_be_typed_again(at: int) -> None:
    assert moment(shown(at, BERLIN), now=at, zone=BERLIN) == at
