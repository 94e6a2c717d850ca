"""What AWS makes of a runtime, and when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pointsman import runtimes


def at(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("runtime", "day", "verdict", "what"),
    [
        ("python3.9", "2025-01-01", "ok", "python3.9 is supported until 2025-12-15"),
        ("python3.9", "2025-10-01", "soon", "AWS deprecates python3.9 on 2025-12-15"),
        (
            *("python3.9", "2025-12-15", "deprecated"),
            "python3.9 is deprecated since 2025-12-15: no patches, and from 2027-03-03 on no updates",
        ),
        (
            *("python3.9", "2027-02-01", "no_create"),
            "AWS refuses to create functions with python3.9 since 2027-02-01, and to update from 2027-03-03",
        ),
        (
            *("python3.9", "2027-03-03", "blocked"),
            "AWS refuses to update functions with python3.9 since 2027-03-03",
        ),
        ("nodejs21.x", "2026-09-01", "never", "AWS has no runtime nodejs21.x"),
    ],
)
def test_a_runtime_is_judged_by_the_day(runtime: str, day: str, verdict: str, what: str) -> None:
    judged = runtimes.judge(runtime, at(day))

    assert (judged.verdict, judged.what) == (verdict, what)


@pytest.mark.parametrize(
    ("runtime", "verdict", "next_"),
    [
        ("nodejs21.x", "never", "Did you mean nodejs24.x?"),
        ("pyhton3.12", "new", "Did you mean python3.12?"),
        ("python3.99", "new", "Did you mean python3.14?"),  # next year's: a warning, for this table is older than it
        ("java8", "deprecated", "Move to a newer one (java25)."),
        ("go1.x", "deprecated", "Move to another one."),
    ],
)
def test_what_to_do_about_it_is_said(runtime: str, verdict: str, next_: str) -> None:
    judged = runtimes.judge(runtime, at("2026-09-01"))

    assert (judged.verdict, judged.next) == (verdict, next_)


def test_the_days_of_each_runtime_are_in_their_order() -> None:
    assert len(runtimes.table()) > 40
    for name, days in runtimes.table().items():
        assert days.deprecated <= days.no_create <= days.no_update, name


def test_what_the_file_may_say_is_mostly_known() -> None:
    """The schema offers some runtimes to editors: none that AWS does not have."""
    from pointsman import config

    offered = next(each.extra["known"] for each in config.Runtime.__metadata__)
    assert set(offered) <= set(runtimes.table())


def test_each_python_that_functions_may_have_is_a_release_of_that_series() -> None:
    for runtime in (each for each in runtimes.table() if each.startswith("python3.")):
        series = runtime.removeprefix("python")
        assert runtimes.python_release(runtime).startswith(f"{series}."), runtime
    assert runtimes.python_release("python3.11") != "3.11.0"
    assert runtimes.python_release("python3.99") == "3.99.0"  # younger than the file
    with pytest.raises(ValueError, match=r"nodejs22\.x is no runtime of Python"):
        runtimes.python_release("nodejs22.x")
