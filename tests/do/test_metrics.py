"""What a rollout is told: each period once, whole, by AWS's clock; and nothing where there is nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from pointsman.aws.gateway import Gateway
from pointsman.aws.metrics import Past, errors, settling, slow, throttles
from pointsman.aws.operation import Operation, R
from pointsman.aws.transports import Retry
from pointsman.errors import Ambiguous, NotFound
from pointsman.model import Measured, Query, Series, Tally, Version, from_json, to_json
from tests.fakes import FakeClock, Scripted

T = 1_700_000_040  # a whole minute
OLD, NEW = Version("1"), Version("2")
CUSTOM = Series(
    name="unpaid",
    calls=Query(
        namespace="Shop", metric="Orders", stat="Sum", dimensions={"service": "{function}", "version": "{version}"}
    ),
    bad=Query(namespace="Shop", metric="Unpaid", stat="Sum", dimensions={"version": "{version}", "alias": "{alias}"}),
)


class CloudWatch:
    """Answers GetMetricData from what it is told to have: (metric, version, stat) → {at: value}, `most` a page."""

    def __init__(self, now: float, *, most: int = 100_800) -> None:
        self.now = now
        self.most = most
        self.has: dict[tuple[str, str, str], dict[float, float]] = {}
        self.sent: list[Operation[Any]] = []

    def put(self, metric: str, version: str, points: Mapping[float, float], stat: str = "Sum") -> None:
        self.has.setdefault((metric, version, stat), {}).update(points)

    def send(self, operation: Operation[R]) -> R:
        self.sent.append(operation)
        asked = operation.parameters
        skip, left = int(asked.get("NextToken", 0)), self.most
        results, seen, more = [], 0, False
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            told = (each["Value"] for each in metric["Dimensions"] if each["Name"].lower().endswith("version"))
            version = next(told, "")  # of the whole alias
            points = self.has.get((metric["MetricName"], version, query["MetricStat"]["Stat"]), {})
            all_ = [at for at in sorted(points) if asked["StartTime"] <= at < asked["EndTime"]]
            page = all_[max(0, skip - seen) : max(0, skip - seen) + left] if skip < seen + len(all_) or not all_ else []
            whole = skip + self.most >= seen + len(all_)
            seen += len(all_)
            left -= len(page)
            more = more or not whole
            results.append(result(query["Id"], {at: points[at] for at in page}, "Complete" if whole else "PartialData"))
        return operation.read(reply(self.now, results, str(skip + self.most) if more else None))


def result(id_: str, points: Mapping[float, float], status: str = "Complete") -> dict[str, Any]:
    times = [datetime.fromtimestamp(at, UTC) for at in points]
    return {"Id": id_, "Label": id_, "Timestamps": times, "Values": list(points.values()), "StatusCode": status}


def reply(now: float, results: list[dict[str, Any]], token: str | None = None) -> dict[str, Any]:
    date = format_datetime(datetime.fromtimestamp(int(now), UTC), usegmt=True)
    said = {"MetricDataResults": results, "Messages": [], "ResponseMetadata": {"HTTPHeaders": {"date": date}}}
    return {**said, "NextToken": token} if token else said


def measure(aws: CloudWatch, *series: Series, since: float = T, period: int = 60, settle: float = 120) -> Measured:
    return Gateway(aws).tallies(
        "f", "live", (OLD, NEW), series or (errors(),), since=since, period=period, settle=settle
    )


def test_all_metrics_of_both_versions_are_one_call_and_none_is_asked_for_twice() -> None:
    aws = CloudWatch(T)

    measure(aws, errors(), throttles(), slow(812.5))

    (sent,) = aws.sent
    queries = [query["MetricStat"] for query in sent.parameters["MetricDataQueries"]]
    told = [(query["Metric"]["MetricName"], query["Stat"], query["Period"]) for query in queries]
    of_one = [("Invocations", "Sum", 60), ("Errors", "Sum", 60)]
    durations = [("Duration", "SampleCount", 60), ("Duration", "TC(812.5:)", 60)]
    assert told == [*of_one, *of_one, *[("Throttles", "Sum", 60)] * 2, *durations, *durations]
    assert queries[2]["Metric"] == {
        "Namespace": "AWS/Lambda",
        "MetricName": "Invocations",
        "Dimensions": [
            {"Name": "FunctionName", "Value": "f"},
            {"Name": "Resource", "Value": "f:live"},
            {"Name": "ExecutedVersion", "Value": "2"},
        ],
    }
    assert (sent.service, sent.action, sent.mutates) == ("cloudwatch", "GetMetricData", False)
    assert (sent.parameters["ScanBy"], sent.parameters["StartTime"]) == ("TimestampAscending", T)


def test_a_metric_of_the_users_own_is_asked_for_by_its_dimensions() -> None:
    aws = CloudWatch(T + 600)
    aws.put("Orders", "2", {T: 10})
    aws.put("Unpaid", "2", {T: 3})

    measured = measure(aws, CUSTOM)

    assert measured.tallies["unpaid"] == {"1": (), "2": (Tally(at=T, calls=10, bad=3),)}
    dimensions = [each["MetricStat"]["Metric"]["Dimensions"] for each in aws.sent[0].parameters["MetricDataQueries"]]
    assert dimensions[:2] == [
        [{"Name": "service", "Value": "f"}, {"Name": "version", "Value": "1"}],
        [{"Name": "version", "Value": "1"}, {"Name": "alias", "Value": "live"}],
    ]


def test_a_metric_that_does_not_tell_the_versions_apart_is_refused() -> None:
    whole = Query(namespace="Shop", metric="Orders", stat="Sum", dimensions={"service": "{function}"})

    with pytest.raises(ValueError, match=r"orders: Orders has no dimension with \{version\} in it"):
        Series(name="orders", calls=whole, bad=CUSTOM.bad)


def test_every_page_is_read() -> None:
    aws = CloudWatch(T + 6000, most=7)
    for version, calls in (("1", 90), ("2", 10)):
        aws.put("Invocations", version, {T + 60 * n: calls + n for n in range(20)})
        aws.put("Errors", version, {T + 60 * n: n for n in range(20)})

    measured = measure(aws)

    assert len(aws.sent) == 12  # 80 points
    for version, calls in (("1", 90), ("2", 10)):
        expected = tuple(Tally(at=T + 60 * n, calls=calls + n, bad=n) for n in range(20))
        assert measured.tallies["errors"][version] == expected


def test_nothing_is_nothing_and_no_errors_beside_calls_are_none() -> None:
    aws = CloudWatch(T + 900)
    aws.put("Invocations", "1", {T: 5, T + 60: 4, T + 120: 0, T + 240: 1})
    aws.put("Errors", "1", {T + 60: 1})
    aws.put("Invocations", "2", {T + 180: 7})

    measured = measure(aws)

    assert measured.tallies["errors"] == {
        "1": (Tally(at=T, calls=5, bad=0), Tally(at=T + 60, calls=4, bad=1), Tally(at=T + 240, calls=1, bad=0)),
        "2": (Tally(at=T + 180, calls=7, bad=0),),
    }
    assert from_json(to_json(measured), Measured) == measured


def test_throttled_calls_are_beside_the_calls_and_what_failed_was_called() -> None:
    aws = CloudWatch(T + 900)
    aws.put("Invocations", "2", {T: 5})
    aws.put("Throttles", "2", {T: 3, T + 60: 2})
    aws.put("Errors", "2", {T: 6})

    measured = measure(aws, errors(), throttles())

    assert measured.tallies["errors"]["2"] == (Tally(at=T, calls=6, bad=6),)
    assert measured.tallies["throttles"]["2"] == (Tally(at=T, calls=8, bad=3), Tally(at=T + 60, calls=2, bad=2))


def test_a_period_that_began_before_is_left_out() -> None:
    """Its calls were not all made under the weights of now."""
    aws = CloudWatch(T + 900)
    aws.put("Invocations", "2", {T: 5, T + 60: 6})

    measured = measure(aws, since=T + 1)

    assert measured.tallies["errors"]["2"] == (Tally(at=T + 60, calls=6, bad=0),)


@pytest.mark.parametrize(
    ("age", "until"),
    [
        (60 + 119, T),  # T's minute is over since 119 s
        (60 + 120, T + 60),  # since 120 s, and a later one has data: the first counts, the second is too young
        (60 + 180, T + 60),  # the second is old enough, but nothing later shows that it is whole
        (60 + 60 + 120 + 300, T + 120),  # it never will: both count
    ],
)
def test_a_period_counts_once_it_is_old_enough_and_a_later_one_has_data(age: int, until: float) -> None:
    aws = CloudWatch(T + age)
    aws.put("Invocations", "1", {T: 5, T + 60: 2})
    late = CloudWatch(T + age)
    late.put("Invocations", "1", {T: 1})  # the rest of the first minute is still on its way

    measured = measure(aws)

    assert measured.until == until
    assert [each.at for each in measured.tallies["errors"]["1"]] == [at for at in (T, T + 60) if at < until]
    assert measured.now == T + age
    if age < 480:
        assert measure(late) == Measured(tallies={"errors": {"1": (), "2": ()}}, until=T, now=measured.now)


@pytest.mark.parametrize("seed", range(20))
def test_asked_again_and_again_every_period_counts_exactly_once(seed: int) -> None:
    """However late data come in (in their order), however often they are looked at in between."""
    dice = random.Random(seed)
    truth = {
        version: {float(T + 60 * n): float(dice.randint(1, 99)) for n in range(40) if dice.random() < often}
        for version, often in (("1", 0.95), ("2", 0.3))
    }
    aws, since, counted = CloudWatch(T), float(T), {"1": list[Tally](), "2": list[Tally]()}
    seen_to = 0.0
    while aws.now < T + 60 * 80:
        aws.now += dice.randint(1, 150)
        seen_to = max(seen_to, aws.now - dice.choice((20, 60, 200, 400)))  # how late CloudWatch is just now
        for version, points in truth.items():
            shown: dict[float, float] = {}
            for at, calls in points.items():
                if at + 60 <= seen_to:
                    shown[at] = calls
                elif at < seen_to:
                    shown[at] = math.ceil(calls * (seen_to - at) / 60)  # a part of it only
            aws.put("Invocations", version, shown)
        measured = measure(aws, since=since)
        for version, tallies in measured.tallies["errors"].items():
            counted[version] += tallies
        assert measured.until >= since
        since = measured.until

    for version, points in truth.items():
        assert [(each.at, each.calls) for each in counted[version]] == sorted(points.items())


def test_a_correction_of_a_period_that_counted_is_not_seen_any_more() -> None:
    aws = CloudWatch(T + 240)
    aws.put("Invocations", "2", {T: 5, T + 60: 5})
    first = measure(aws)
    assert first.tallies["errors"]["2"] == (Tally(at=T, calls=5, bad=0),)

    aws.put("Invocations", "2", {T: 6, T + 120: 5})
    aws.now += 60
    second = measure(aws, since=first.until)

    assert second.tallies["errors"]["2"] == (Tally(at=T + 60, calls=5, bad=0),)


def test_a_long_absence_is_caught_up_with_in_parts() -> None:
    """A day of minutes at once: what a resumed rollout missed is read by asking again from `until`."""
    aws = CloudWatch(T + 3 * 86_400)
    aws.put("Invocations", "2", {T + 60 * n: 1 for n in range(3 * 1440)})

    since, ends = float(T), []
    for _ in range(3):
        measured = measure(aws, since=since)
        ends.append((measured.until - T) / 60)
        since = measured.until

    assert ends == [1440, 2880, 4318]  # the last two minutes are too young


def test_a_function_that_may_hang_is_waited_for() -> None:
    """A call is dated by its beginning and counted at its end: those that time out come last of all."""
    assert settling(900) == 1020
    assert settling(3, local=True) == 4


def test_an_internal_error_of_cloudwatchs_is_tried_again() -> None:
    good = [result("q0", {T: 5, T + 60: 5}), result("q1", {})]
    bad = [result("q0", {}, "InternalError"), result("q1", {})]
    aws = Scripted(reply(T + 240, bad), reply(T + 240, good))

    measured = Gateway(Retry(aws, FakeClock(), lambda: 0.5)).tallies(
        "f", "live", (NEW,), (errors(),), since=T, period=60, settle=120
    )

    assert measured.tallies["errors"]["2"] == (Tally(at=T, calls=5, bad=0),)


@pytest.mark.parametrize(
    "results", [[result("q0", {T: 5}, "PartialData"), result("q1", {})], [result("q0", {T: 5})]], ids=["part", "absent"]
)
def test_what_is_answered_in_part_counts_for_nothing(results: list[dict[str, Any]]) -> None:
    answer = reply(T + 240, results) | {"Messages": [{"Code": "x", "Value": "Maximum number of metrics exceeded"}]}

    with pytest.raises(Ambiguous, match="1 of 2 metrics in part only: Maximum number"):
        Gateway(Scripted(answer)).tallies("f", "live", (NEW,), (errors(),), since=T, period=60, settle=120)


# What is slow


def before(aws: CloudWatch | Scripted, slow: str | None = None) -> Past:
    return Gateway(aws).before("f", "live", since=T - 3600, until=T, period=60, slow=slow)


def test_how_an_alias_did_is_told_by_the_minute_whichever_version_served_it() -> None:
    aws = CloudWatch(T)
    aws.put("Invocations", "", {T - 3600: 100, T - 60: 50})
    aws.put("Errors", "", {T - 60: 2})

    told = before(aws)

    assert told.errors == (Tally(at=T - 3600, calls=100, bad=0), Tally(at=T - 60, calls=50, bad=2))
    assert (told.seconds, told.slow_ms) == (3600, None)
    assert len(aws.sent) == 1


@pytest.mark.parametrize(("said", "ms"), [("800ms", 800), ("1.5s", 1500)])
def test_a_time_is_slow_as_it_is(said: str, ms: float) -> None:
    assert before(CloudWatch(T), said).slow_ms == ms


@pytest.mark.parametrize(
    ("said", "stat", "ms"), [("p99 * 1.5", "p99", 180.18), ("p99.9*2", "p99.9", 240.25), ("p50", "p50", 120.12)]
)
def test_a_percentile_is_the_aliass_of_the_whole_window(said: str, stat: str, ms: float) -> None:
    aws = CloudWatch(T)
    aws.put("Duration", "", {T - 3600: 120.123}, stat)
    aws.put("Duration", "", {T - 3600: 500}, "SampleCount")

    assert before(aws, said).slow_ms == ms
    (sent,) = aws.sent
    assert [query["MetricStat"]["Period"] for query in sent.parameters["MetricDataQueries"]] == [60, 60, 3600, 3600]


def test_of_a_window_that_aws_cuts_in_two_the_fuller_half_tells() -> None:
    aws = CloudWatch(T)
    aws.put("Duration", "", {T - 3600: 900, T - 1200: 100}, "p99")
    aws.put("Duration", "", {T - 3600: 3, T - 1200: 4000}, "SampleCount")

    assert before(aws, "p99 * 2").slow_ms == 200


def test_without_calls_nothing_says_what_is_slow() -> None:
    assert before(CloudWatch(T), "p99").slow_ms is None


# Alarms


def alarm(name: str, state: str = "OK", **more: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(T, UTC)
    return {"AlarmName": name, "StateValue": state, "StateReason": "r", "StateUpdatedTimestamp": at, **more}


def test_alarms_of_both_kinds_are_told_in_the_order_asked_a_hundred_a_call() -> None:
    names = [f"a{n:03}" for n in range(150)]
    aws = Scripted(
        {"MetricAlarms": [alarm(name) for name in names[:60]], "CompositeAlarms": [], "NextToken": "more"},
        {"MetricAlarms": [], "CompositeAlarms": [alarm(name, "ALARM") for name in names[60:100]]},
        {"MetricAlarms": [alarm(name) for name in reversed(names[100:])], "CompositeAlarms": []},
    )

    told = Gateway(aws).alarms(names)

    assert [each.name for each in told] == names
    assert {each.name for each in told if each.state == "ALARM"} == {*names[60:100]}
    assert (told[0].since, told[0].reason) == (T, "r")
    assert [len(sent.parameters["AlarmNames"]) for sent in aws.sent] == [100, 100, 50]
    assert aws.sent[1].parameters["NextToken"] == "more"
    assert aws.sent[0].parameters["AlarmTypes"] == ["MetricAlarm", "CompositeAlarm"]


def test_an_alarm_that_is_not_there_is_named() -> None:
    aws = Scripted({"MetricAlarms": [alarm("there")], "CompositeAlarms": []})

    with pytest.raises(NotFound, match="no CloudWatch alarm called gone, lost"):
        Gateway(aws).alarms(["gone", "there", "lost"])


def test_a_state_counts_from_when_it_changed_not_from_when_its_reason_did() -> None:
    changed = datetime.fromtimestamp(T - 500, UTC)
    aws = Scripted({"MetricAlarms": [alarm("a", "ALARM", StateTransitionedTimestamp=changed)], "CompositeAlarms": []})

    assert Gateway(aws).alarms(["a"])[0].since == T - 500
