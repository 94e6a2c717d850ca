"""Metrics kept: by the second, over restarts and kills, old ones more coarsely; what Lambda adds to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pointsman.localaws.cloudwatch.emission import NAMESPACE, emit
from pointsman.localaws.cloudwatch.metrics import Datum, Dimensions, Metric, Metrics, Retention
from pointsman.localaws.cloudwatch.statistics import Distribution, statistic
from pointsman.localaws.contract import Occurrence, Sample, Target
from pointsman.localaws.lambda_.running import Running
from tests.fakes import FakeClock
from tests.localaws.conftest import until

PLACE = ("123456789012", "eu-west-1")
T = 1_700_000_040  # a whole minute
SIZE = Metric(*PLACE, "Shop", "Size", (("Kind", "big"),))

Open = Callable[..., Metrics]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(T)


@pytest.fixture
def opened(tmp_path: Path, clock: FakeClock) -> Iterator[Open]:
    made: list[Metrics] = []

    def open_(file: Path = tmp_path / "metrics.db", **given: object) -> Metrics:
        made.append(Metrics(file, emit=emit, now=clock.now, **given))  # type: ignore[arg-type]
        return made[-1]

    yield open_
    for metrics in made:
        metrics.close()


def sample(**given: object) -> Sample:
    known = {"account": PLACE[0], "region": PLACE[1], "function_name": "f", "qualifier": "live", "version": "3"}
    return Sample(**(known | {"at": T + 0.5, "outcome": "succeeded", "duration_ms": 20.0} | given))  # type: ignore[arg-type]


def of_lambda(metrics: Metrics, name: str, dimensions: Dimensions, statistic_: str = "Sum") -> float | None:
    """Over the minute that begins at T."""
    compute = statistic(statistic_)
    assert compute is not None
    units = metrics.units(Metric(*PLACE, NAMESPACE, name, tuple(sorted(dimensions))))
    if not units:
        return None
    (points,) = [metrics.points(series, range(T, T + 60, 60), values=True) for series in units.values()]
    return compute(points[T]) if T in points else None


FUNCTION = (("FunctionName", "f"),)
ALIAS = (*FUNCTION, ("Resource", "f:live"))
VERSION = (*ALIAS, ("ExecutedVersion", "3"))


def test_an_invocation_counts_everywhere_it_belongs(opened: Open) -> None:
    metrics = opened()

    metrics.record(sample(outcome="failed", running=(5, 3, 2), unreserved=4))
    metrics.record(sample(duration_ms=40.0))

    for dimensions in ((), FUNCTION, ALIAS, VERSION):
        assert of_lambda(metrics, "Invocations", dimensions) == 2
        assert of_lambda(metrics, "Errors", dimensions) == 1
        assert of_lambda(metrics, "Throttles", dimensions) == 0
        assert of_lambda(metrics, "Duration", dimensions, "Average") == 30
    most = [of_lambda(metrics, "ConcurrentExecutions", each, "Maximum") for each in ((), FUNCTION, ALIAS, VERSION)]
    assert most == [5, 3, 2, None]
    assert of_lambda(metrics, "UnreservedConcurrentExecutions", (), "Maximum") == 4
    assert of_lambda(metrics, "UnreservedConcurrentExecutions", FUNCTION) is None
    assert of_lambda(metrics, "ProvisionedConcurrencyInvocations", ALIAS) is None


@pytest.mark.parametrize(
    ("qualifier", "resource"), [(None, "f"), ("$LATEST", "f:$LATEST"), ("3", "f:3"), ("live", "f:live")]
)
def test_the_resource_is_what_was_called_and_only_aliases_tell_the_version(
    opened: Open, qualifier: str | None, resource: str
) -> None:
    metrics = opened()

    metrics.record(sample(qualifier=qualifier))

    named = (*FUNCTION, ("Resource", resource))
    assert of_lambda(metrics, "Invocations", named) == 1
    assert of_lambda(metrics, "Invocations", (*named, ("ExecutedVersion", "3"))) == (1 if qualifier == "live" else None)


def test_a_throttled_attempt_is_no_invocation(opened: Open) -> None:
    metrics = opened()

    metrics.record(sample(outcome="throttled"))

    assert [of_lambda(metrics, "Throttles", each) for each in ((), FUNCTION, ALIAS, VERSION)] == [1, 1, 1, 1]
    for name in ("Invocations", "Errors", "Duration", "ConcurrentExecutions"):
        assert of_lambda(metrics, name, FUNCTION) is None


def test_provisioned_concurrency_is_used_first_then_spilled_over(opened: Open) -> None:
    metrics = opened()

    metrics.record(sample(provisioned=2, ready=1))
    metrics.record(sample(provisioned=2))

    assert of_lambda(metrics, "ProvisionedConcurrencyInvocations", ALIAS) == 1
    assert of_lambda(metrics, "ProvisionedConcurrencySpilloverInvocations", VERSION) == 1
    assert of_lambda(metrics, "ProvisionedConcurrentExecutions", ALIAS, "Maximum") == 2
    assert of_lambda(metrics, "ProvisionedConcurrencyUtilization", ALIAS, "Minimum") == 0.5


def test_other_occurrences_count_for_the_function_and_what_was_called(opened: Open) -> None:
    metrics = opened()

    metrics.record(Occurrence(*PLACE, "f", "live", T, "DeadLetterErrors"))
    metrics.record(Occurrence(*PLACE, "f", "live", T, "AsyncEventAge", 1500.0))

    assert [of_lambda(metrics, "DeadLetterErrors", each) for each in ((), FUNCTION, ALIAS)] == [1, 1, 1]
    assert of_lambda(metrics, "AsyncEventAge", ALIAS, "Maximum") == 1500
    assert of_lambda(metrics, "Invocations", FUNCTION) is None


def test_what_runs_at_once_is_counted_by_where_it_runs() -> None:
    target = Target(*PLACE, "f", "3", "r", "python3.11", "h.h", Path("/code"), {}, 128, 3.0, "/aws/lambda/f")
    other = replace(target, function_name="g")
    running = Running()

    with (
        running.one_more(target, "live", ready=True, reserved=False) as first,
        running.one_more(target, None, ready=False, reserved=False) as second,
        running.one_more(other, "live", ready=False, reserved=True) as third,
    ):
        assert (running.ready(target), running.on_demand(target), running.on_demand(other)) == (1, 1, 1)

    assert (first.counts, first.unreserved, first.ready) == ((1, 1, 1), 1, 1)
    assert (second.counts, second.unreserved, second.ready) == ((2, 2, 1), 2, None)
    assert (third.counts, third.unreserved, third.ready) == ((3, 1, 1), None, None)
    assert (running.ready(target), running.on_demand(target)) == (0, 0)


def put(metrics: Metrics, at: float, *values: float, metric: Metric = SIZE, unit: str = "None") -> None:
    metrics.put(Datum(metric, unit, at, Distribution.of(value)) for value in values)


def sums(metrics: Metrics, seconds: range) -> dict[int, float]:
    return {at - T: found.total for at, found in metrics.points(metrics.units(SIZE)["None"], seconds).items()}


def test_periods_of_any_length_down_to_a_second(opened: Open) -> None:
    metrics = opened()
    for second, value in ((0, 1), (1, 2), (9, 4), (60, 8), (119, 16)):
        put(metrics, T + second + 0.25, value)

    assert sums(metrics, range(T, T + 120, 1)) == {0: 1, 1: 2, 9: 4, 60: 8, 119: 16}
    assert sums(metrics, range(T, T + 120, 5)) == {0: 3, 5: 4, 60: 8, 115: 16}
    assert sums(metrics, range(T, T + 120, 60)) == {0: 7, 60: 24}
    assert sums(metrics, range(T + 1, T + 119, 300)) == {1: 14}


def test_all_is_there_again_after_a_restart(opened: Open, tmp_path: Path) -> None:
    metrics = opened()
    metrics.record(sample())
    put(metrics, T, 1, 2, 30)
    metrics.close()

    again = opened()

    assert of_lambda(again, "Invocations", VERSION) == 1
    found = again.points(again.units(SIZE)["None"], range(T, T + 1), values=True)[T]
    assert found.values == {1: 1, 2: 1, 30: 1}
    put(again, T, 30)
    assert again.points(again.units(SIZE)["None"], range(T, T + 1), values=True)[T].values == {1: 1, 2: 1, 30: 2}


def test_a_kill_loses_no_more_than_the_pause_between_writings(opened: Open, tmp_path: Path) -> None:
    metrics = opened(pause_s=0.01)
    metrics.record(sample())

    def survivors() -> bool:
        """What a process would find that starts now, this one being gone without a word."""
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in tmp_path.glob("metrics.db*"):
            shutil.copy(file, copy)
        found = opened(copy / "metrics.db")
        return of_lambda(found, "Invocations", FUNCTION) == 1

    until(survivors, "the invocation is on disk")


def test_old_seconds_become_minutes_and_old_minutes_go(opened: Open, clock: FakeClock) -> None:
    metrics = opened(retention=Retention(seconds_s=3600, minutes_s=86400))
    for second, value in ((0, 1), (1, 2), (70, 4)):
        put(metrics, T + second, value)
    clock.sleep(3720)
    put(metrics, clock.now(), 100)

    metrics.tidy()

    series = metrics.units(SIZE)["None"]
    assert metrics.points(series, range(T, T + 120, 1)) == {}  # its seconds are not known any more
    by_minute = metrics.points(series, range(T, T + 120, 60), values=True)
    assert {at - T: found.values for at, found in by_minute.items()} == {0: {1: 1, 2: 1}, 60: {4: 1}}

    clock.sleep(86400)
    put(metrics, clock.now(), 5, metric=Metric(*PLACE, "Shop", "Other"))
    metrics.tidy()

    assert metrics.points(series, range(T, T + 120, 60)) == {}
    assert [metric.name for _, metric in listed(metrics)] == ["Size", "Other"]  # whose latest value is not so old


def listed(metrics: Metrics, **given: object) -> list[tuple[int, Metric]]:
    wanted = {"namespace": None, "name": None, "dimensions": [], "since": 0.0, "after": 0, "limit": 500} | given
    return metrics.listed(*PLACE, **wanted)  # type: ignore[arg-type]


def test_metrics_are_listed_once_whatever_their_units(opened: Open) -> None:
    metrics = opened()
    put(metrics, T, 1)
    put(metrics, T, 1, unit="Bytes")
    put(metrics, T, 1, metric=SIZE._replace(account="210987654321"))
    put(metrics, T - 100, 1, metric=SIZE._replace(dimensions=()))

    assert [metric.dimensions for _, metric in listed(metrics)] == [(("Kind", "big"),), ()]
    assert [metric.dimensions for _, metric in listed(metrics, dimensions=[{"Name": "Kind"}])] == [(("Kind", "big"),)]
    assert listed(metrics, dimensions=[{"Name": "Kind", "Value": "small"}]) == []
    assert len(listed(metrics, since=T)) == 1
    ((first, _),) = listed(metrics, limit=1)
    assert [metric.dimensions for _, metric in listed(metrics, after=first)] == [()]
