"""Which gates stand where, when moves are allowed, and whose approval counts."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman.config import Day, Environment, Gate, Rollout, Window
from pointsman.gates import Approval, Moment, approved, described, gated, judge_window, moments, standing
from pointsman.model import AliasName

DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
STOCKHOLM = ZoneInfo("Europe/Stockholm")
OFFICE = Window(days=("mon", "tue", "wed", "thu"), since="09:00", to="16:00", zone="Europe/Stockholm")


def at(text: str, zone: ZoneInfo = STOCKHOLM, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def opens(window: Window, now: float) -> str:
    """When it opens, in its zone; "" where it is open."""
    refused = judge_window(window, now)
    if refused is None:
        return ""
    assert refused.opens is not None
    return datetime.fromtimestamp(refused.opens, ZoneInfo(window.zone)).isoformat()


# Windows


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2026-06-01 08:59:59", "2026-06-01T09:00:00+02:00"),
        ("2026-06-01 09:00", ""),
        ("2026-06-01 15:59:59", ""),
        ("2026-06-01 16:00", "2026-06-02T09:00:00+02:00"),
        ("2026-06-04 16:00", "2026-06-08T09:00:00+02:00"),  # a Thursday: then Monday
        ("2026-10-22 17:00", "2026-10-26T09:00:00+01:00"),  # over the end of summer time
    ],
)
def test_a_window_of_weekdays(now: str, then: str) -> None:
    assert opens(OFFICE, at(now)) == then


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2026-06-05 21:59", "2026-06-05T22:00:00+02:00"),
        ("2026-06-05 22:00", ""),
        ("2026-06-06 03:59", ""),  # Saturday by the calendar, Friday's window
        ("2026-06-06 04:00", "2026-06-12T22:00:00+02:00"),
        ("2026-06-05 03:00", "2026-06-05T22:00:00+02:00"),  # Thursday's night is none of it
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_opens(now: str, then: str) -> None:
    night = Window(days=("fri",), since="22:00", to="04:00", zone="Europe/Stockholm")

    assert opens(night, at(now)) == then


def test_an_hour_that_is_skipped_is_never_in_the_window() -> None:
    window = Window(since="02:15", to="02:45", zone="Europe/Stockholm")

    assert opens(window, at("2026-03-29 01:59")) == "2026-03-30T02:15:00+02:00"  # 02:00 to 03:00 is not on that day
    assert opens(replace(window, to="03:30"), at("2026-03-29 01:59")) == "2026-03-29T03:00:00+02:00"


def test_an_hour_that_comes_twice_is_in_the_window_twice() -> None:
    window = Window(since="02:15", to="02:45", zone="Europe/Stockholm")

    assert opens(window, at("2026-10-25 02:30")) == ""
    assert opens(window, at("2026-10-25 02:50")) == "2026-10-25T02:15:00+01:00"
    assert opens(window, at("2026-10-25 02:30", fold=1)) == ""
    assert opens(window, at("2026-10-25 02:50", fold=1)) == "2026-10-26T02:15:00+01:00"


def test_freeze_days_are_days_of_the_zone() -> None:
    window = Window(zone="Asia/Tokyo", freeze=("2026-12-24..2027-01-02", "2026-06-19"))
    tokyo = ZoneInfo("Asia/Tokyo")

    refused = judge_window(window, at("2026-12-31 12:00", tokyo))

    assert refused is not None
    assert refused.why == "2026-12-31 is a day without moves (2026-12-24..2027-01-02)"
    assert refused.next == "It opens Sun 2027-01-03 00:00 JST."
    assert judge_window(window, datetime(2026, 6, 18, 14, 59, tzinfo=UTC).timestamp()) is None
    assert judge_window(window, datetime(2026, 6, 18, 15, 0, tzinfo=UTC).timestamp()) is not None  # the 19th in Tokyo


def test_a_refusal_says_why_and_when_it_opens() -> None:
    refused = judge_window(OFFICE, at("2026-06-05 17:20"))

    assert refused is not None
    assert refused.why == "Fri 2026-06-05 17:20 CEST is outside the window, Mon–Thu 09:00–16:00 (Europe/Stockholm)"
    assert refused.next == "It opens Mon 2026-06-08 09:00 CEST."


def test_a_window_that_is_frozen_for_good_says_so() -> None:
    refused = judge_window(Window(freeze=("2026-01-01..2099-12-31",)), at("2026-06-05 17:20"))

    assert refused is not None
    assert refused.opens is None
    assert refused.next == "It does not open in the next ten years."


def test_days_are_told_as_ranges() -> None:
    assert described(Window(days=("sun", "mon", "tue", "thu"))) == "Mon–Tue, Thu, Sun 00:00–24:00 (UTC)"


ZONES = sorted(zoneinfo.available_timezones())
CLOCKS = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))

FROZEN = st.dates(datetime(2000, 1, 1).date(), datetime(2037, 1, 1).date()).map(str)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    since, to = draw(st.tuples(CLOCKS, CLOCKS | st.just("24:00")).filter(lambda each: each[0] != each[1]))
    return Window(
        days=tuple(draw(st.sets(st.sampled_from(DAYS), min_size=1))),
        since=since,
        to=to,
        zone=draw(st.sampled_from(ZONES)),
        freeze=tuple(draw(st.lists(FROZEN, max_size=3))),
    )


@settings(max_examples=80, deadline=None)
@given(windows(), MOMENTS)
def test_it_opens_when_it_says_and_not_a_minute_before(window: Window, moment: datetime) -> None:
    now = moment.timestamp()
    refused = judge_window(window, now)
    if refused is None:
        return
    assert refused.opens is not None
    assert judge_window(window, refused.opens) is None
    assert now < refused.opens
    between = [now + (refused.opens - now) * share for share in (0.1, 0.35, 0.6, 0.85)]
    assert all(judge_window(window, each) for each in (*between, refused.opens - 1))


@settings(max_examples=80, deadline=None)
@given(windows(), MOMENTS)
def test_a_window_and_the_rest_of_the_day_together_are_always(window: Window, moment: datetime) -> None:
    """By a second definition: what `from`–`to` leaves open, `to`–`from` allows, on days without a night between."""
    every = replace(window, days=DAYS, freeze=(), to="23:59" if window.to == "24:00" else window.to)
    if every.since == every.to:
        return
    other = replace(every, since=every.to, to=every.since)

    assert (judge_window(every, moment.timestamp()) is None) != (judge_window(other, moment.timestamp()) is None)


# Which gates stand where

SMOKE = Gate(when="traffic", run="npm run smoke")
LOOK = Gate(when="step", at=10, approve=True)
EACH = Gate(when="step", url="https://example.com/")


def production(**settings: Any) -> Environment:
    return Environment(name="production", alias=AliasName("PROD"), **settings)


def names(environment: Environment, moment: Moment, weight: float = 0.0) -> list[str]:
    return [each.name for each in standing(environment, moment, weight)]


def test_gates_stand_at_their_moments_and_steps() -> None:
    environment = production(gates=(SMOKE, LOOK, EACH, Gate(when="after", pause=True)), rollout=Rollout(steps=(1, 10)))

    assert names(environment, "before") == []
    assert names(environment, "traffic") == ["npm run smoke"]
    assert names(environment, "step", 0.01) == ["https://example.com/"]
    assert names(environment, "step", 0.1) == ["approve", "https://example.com/"]
    assert names(environment, "after", 1.0) == ["pause"]
    assert moments(environment) == ("traffic", "step", "after")
    assert gated(environment) == (0.01, 0.1)
    assert gated(replace(environment, gates=(LOOK,))) == (0.1,)


def test_two_gates_of_one_moment_have_two_names() -> None:
    assert names(production(gates=(SMOKE, SMOKE)), "traffic") == ["npm run smoke", "npm run smoke (2)"]


def test_approve_of_the_environment_is_asked_before_a_rollout_and_is_none_of_its_gates() -> None:
    assert names(production(approve=True, gates=(SMOKE,)), "traffic") == ["npm run smoke"]
    assert moments(production(approve=True)) == ()


def test_how_long_an_approval_is_asked_for() -> None:
    asked = Gate(when="full", approve=True)

    for gate, expires_s in ((asked, 4 * 3600), (replace(asked, expires=60.0), 60)):
        (only,) = standing(production(gates=(gate,)), "full", 0.5)
        assert only.expires_s == expires_s


def test_a_quiet_function_is_a_question_to_a_person() -> None:
    assert names(production(), "quiet", 0.1) == ["approve"]


# Approvals

GIVEN = Approval(
    by="ada", how="--approve", at=100.0, until=200.0, function="f", alias="PROD", version="7", moment="step"
)


def counts(*approvals: Approval, at: float = 150.0, since: float = 100.0, **other: Any) -> str:
    wanted: dict[str, Any] = {"function": "f", "alias": "PROD", "version": "7", "moment": "step", **other}
    found = approved(approvals, since=since, at=at, **wanted)
    return found.by if found else ""


@pytest.mark.parametrize(
    ("other", "by"),
    [
        ({}, "ada"),
        ({"at": 100.0}, "ada"),
        ({"at": 199.9}, "ada"),
        ({"at": 200.0}, ""),  # expired
        ({"at": 99.0, "since": 0.0}, ""),  # not given yet
        ({"since": 100.1}, ""),  # for what was asked before
        ({"version": "8"}, ""),
        ({"alias": "STAGE"}, ""),
        ({"moment": "full"}, ""),
        ({"function": "g"}, ""),
    ],
)
def test_an_approval_counts_for_what_it_was_given_and_for_its_time(other: dict[str, Any], by: str) -> None:
    assert counts(GIVEN, **other) == by


def test_the_newest_approval_is_told() -> None:
    assert counts(GIVEN, replace(GIVEN, by="bob", at=120.0), replace(GIVEN, by="eve", at=160.0)) == "bob"
