"""What a rollout is told against what really happened: calls through a weighted alias, counted by their replies."""

from __future__ import annotations

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pointsman.aws.gateway import Gateway
from pointsman.aws.metrics import errors, slow, throttles
from pointsman.aws.wire import Wire
from pointsman.errors import NotFound
from pointsman.localaws import control
from pointsman.model import Measured, Query, Series, Tally, Version
from tests.localaws.conftest import Client, make_function, package, until
from tests.localaws.test_execution import node_runtime

REGION = "eu-west-1"
PAGE = (Path(__file__).parents[2] / "docs" / "signals.md").read_text()
SOURCE = """\
import time
def handler(event, context):
    time.sleep(event.get("s", 0))
    if event.get("fail"):
        raise ValueError("asked to")
"""
ORDERS = Series(
    name="unpaid",
    calls=Query(
        namespace="Shop", metric="Orders", stat="Sum", dimensions={"service": "{function}", "version": "{version}"}
    ),
    bad=Query(
        namespace="Shop", metric="Unpaid", stat="Sum", dimensions={"service": "{function}", "version": "{version}"}
    ),
)


@pytest.fixture
def gateway(aws: control.Running, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", control.ACCOUNT)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    return Gateway(Wire(region=REGION))


class Called(NamedTuple):
    """What a reply told."""

    version: str
    failed: bool
    ms: float


def call(lambda_: Any, name: str, **event: Any) -> Called:
    said = lambda_.invoke(FunctionName=f"{name}:live", Payload=json.dumps(event), LogType="Tail")
    report = re.search(rb"\tDuration: ([\d.]+) ms", base64.b64decode(said["LogResult"]))
    assert report is not None
    return Called(said["ExecutedVersion"], "FunctionError" in said, float(report[1]))


def weigh(aws: control.Running, lambda_: Any, name: str, source: str = SOURCE, **more: Any) -> None:
    """An alias "live" whose calls go to versions 1 and 2 alike."""
    make_function(aws, name, source, Publish=True, **more)
    lambda_.update_function_configuration(FunctionName=name, Description="two")
    lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    lambda_.publish_version(FunctionName=name)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)


def measure(gateway: Gateway, name: str, *series: Series, since: float, period: int = 1, **when: Any) -> Measured:
    given: dict[str, Any] = {"settle": 1, "quiet": 0} | when
    return gateway.tallies(name, "live", (Version("1"), Version("2")), series, since=since, period=period, **given)


def settled(ask: Callable[[], Measured], after: float) -> Measured:
    """Once everything up to `after` is in it."""
    return until(lambda: found if (found := ask()).until > after else None, "it is settled")  # type: ignore[no-any-return]


def summed(tallies: dict[str, tuple[Tally, ...]]) -> dict[str, tuple[int, int]]:
    return {version: (sum(t.calls for t in of), sum(t.bad for t in of)) for version, of in tallies.items()}


def test_the_tallies_are_what_the_replies_said_at_any_period(
    aws: control.Running, connect: Client, gateway: Gateway
) -> None:
    weigh(aws, connect("lambda"), "counted")
    events = [{"fail": n % 3 == 0, "s": 0.06 if n % 4 == 0 else 0} for n in range(40)]
    since = time.time() // 60 * 60

    with ThreadPoolExecutor(4) as threads:
        clients = [connect("lambda") for _ in range(4)]
        called = list(threads.map(lambda n: call(clients[n % 4], "counted", **events[n]), range(40)))
    ended = time.time()

    calls = Counter(each.version for each in called)
    failed = Counter(each.version for each in called if each.failed)
    long = Counter(each.version for each in called if each.ms > 50)
    assert min(calls["1"], calls["2"], failed.total(), long.total()) > 0
    of_all = (errors(), slow(50), throttles())
    by_second = settled(lambda: measure(gateway, "counted", *of_all, since=since), ended)
    # A minute is settled when it ended; this one is taken as if it had.
    by_minute = measure(gateway, "counted", *of_all, since=since, period=60, settle=-60)
    for measured in (by_second, by_minute):
        for name, bad in (("errors", failed), ("slow", long), ("throttles", Counter[str]())):
            assert summed(measured.tallies[name]) == {v: (calls[v], bad[v]) for v in ("1", "2")}, name
    assert len(by_second.tallies["errors"]["1"]) + len(by_second.tallies["errors"]["2"]) >= 2
    assert all(each.at % 60 == 0 for each in by_minute.tallies["errors"]["1"])


def test_watched_all_along_every_call_counts_once(aws: control.Running, connect: Client, gateway: Gateway) -> None:
    lambda_ = connect("lambda")
    weigh(aws, lambda_, "watched")
    since = begun = time.time() // 1
    counted: dict[str, list[Tally]] = {"1": [], "2": []}

    def look() -> float:
        nonlocal since
        measured = measure(gateway, "watched", errors(), since=since)
        for version, tallies in measured.tallies["errors"].items():
            counted[version] += tallies
        since = measured.until
        return since

    called = []
    for n in range(60):
        called.append(call(lambda_, "watched", fail=n % 5 == 0, s=0.05))
        look()
    ended = time.time()
    until(lambda: look() > ended, "all is settled")

    for version, tallies in counted.items():
        ats = [each.at for each in tallies]
        assert ats == sorted(set(ats))
        assert min(ats, default=begun) >= begun
        of = [each for each in called if each.version == version]
        assert sum(each.calls for each in tallies) == len(of)
        assert sum(each.bad for each in tallies) == sum(each.failed for each in of)


def test_what_is_slow_is_read_off_the_alias(aws: control.Running, connect: Client, gateway: Gateway) -> None:
    lambda_ = connect("lambda")
    weigh(aws, lambda_, "paced")
    since = time.time()
    called = [call(lambda_, "paced", s=0.01 * (n % 5)) for n in range(30)]
    took = sorted(each.ms for each in called)

    given = gateway.before("paced", "live", since=since, until=since + 60, period=1, slow="p50 * 1.5").slow_ms

    middle = took[-(-len(took) // 2) - 1]
    assert given == pytest.approx(middle * 1.5, abs=0.02)
    assert gateway.before("paced", "none", since=since, until=since + 60, period=1, slow="p50").slow_ms is None


def test_throttled_calls_count_for_the_version_they_were_meant_for(
    aws: control.Running, connect: Client, gateway: Gateway
) -> None:
    lambda_ = connect("lambda")
    weigh(aws, lambda_, "shut")
    lambda_.put_function_concurrency(FunctionName="shut", ReservedConcurrentExecutions=0)
    since = time.time() // 1
    for _ in range(20):
        with pytest.raises(lambda_.exceptions.TooManyRequestsException):
            call(lambda_, "shut")
    ended = time.time()

    measured = settled(lambda: measure(gateway, "shut", throttles(), since=since), ended)

    sums = summed(measured.tallies["throttles"])
    assert all(calls == bad > 0 for calls, bad in sums.values())
    assert sum(bad for _, bad in sums.values()) == 20


def test_metrics_that_come_late_are_waited_for(aws: control.Running, connect: Client, gateway: Gateway) -> None:
    lambda_ = connect("lambda")
    weigh(aws, lambda_, "late")
    since = time.time() // 1
    control.chaos(aws, "POST", metrics_late=3600)
    try:
        called = [call(lambda_, "late") for _ in range(10)]
        ended = time.time()
        until(lambda: measure(gateway, "late", errors(), since=since).now > ended + 2, "two seconds are over")
        unseen = measure(gateway, "late", errors(), since=since, quiet=300)
    finally:
        control.chaos(aws, "POST", metrics_late=0)

    assert unseen.tallies["errors"] == {"1": (), "2": ()}
    assert unseen.until == since
    seen = settled(lambda: measure(gateway, "late", errors(), since=unseen.until), ended)
    assert {v: n for v, (n, _) in summed(seen.tallies["errors"]).items()} == Counter(each.version for each in called)


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_pages_examples_count_orders_by_version(
    aws: control.Running, connect: Client, gateway: Gateway, language: str
) -> None:
    lambda_ = connect("lambda")
    name, more = f"orders-{language}", dict[str, Any]()
    if language == "js":
        runtime = node_runtime()
        if runtime is None:
            pytest.skip("this machine has no Node")
        more = {"Runtime": runtime, "Code": {"ZipFile": package(example("js"), "index.js")}}
    weigh(aws, lambda_, name, example("python"), **more)
    since = time.time() // 1
    called = [(call(lambda_, name, paid=n % 3 > 0), n % 3 == 0) for n in range(15)]
    ended = time.time()

    expected = {
        v: tuple(Counter(one.version for one, bad in called if bad or whole)[v] for whole in (True, False))
        for v in ("1", "2")
    }
    until(
        lambda: summed(measure(gateway, name, ORDERS, since=since, settle=-5).tallies["unpaid"]) == expected,
        f"{expected} are counted",
    )
    measured = settled(lambda: measure(gateway, name, ORDERS, since=since), ended)
    assert summed(measured.tallies["unpaid"]) == expected


@pytest.fixture
def alarms(connect: Client) -> Iterator[Any]:
    cloudwatch = connect("cloudwatch")
    for name, missing in (("calm", "notBreaching"), ("mute", "missing"), ("angry", "breaching")):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Nobody",
            MetricName=name,
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            TreatMissingData=missing,
        )
    cloudwatch.put_composite_alarm(AlarmName="any", AlarmRule='ALARM("angry") OR ALARM("calm")')
    yield cloudwatch
    cloudwatch.delete_alarms(AlarmNames=["any"])
    cloudwatch.delete_alarms(AlarmNames=["calm", "mute", "angry"])


def test_alarms_are_told_as_they_stand(alarms: Any, gateway: Gateway) -> None:
    begun = time.time()
    for name, state in (("calm", "OK"), ("angry", "ALARM")):
        alarms.set_alarm_state(AlarmName=name, StateValue=state, StateReason="drill")

    names = ["any", "calm", "mute", "angry"]
    told = until(lambda: found if (found := gateway.alarms(names))[0].state == "ALARM" else None, "the composite one")

    assert [each.name for each in told] == names
    assert [each.state for each in told] == ["ALARM", "OK", "INSUFFICIENT_DATA", "ALARM"]
    assert told[3].reason == "drill"
    assert begun - 1 <= told[3].since <= time.time()

    with pytest.raises(NotFound, match="no CloudWatch alarm called nobody"):
        gateway.alarms(["calm", "nobody"])
