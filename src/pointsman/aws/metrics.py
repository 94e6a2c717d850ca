"""CloudWatch's calls: what each version of an alias did, period by period, and how alarms stand.

Time is AWS's own: the periods' timestamps, and the Date of its answers. docs/signals.md has facts and sources.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pointsman.aws.sending import Reply, Sender
from pointsman.errors import Ambiguous, NotFound
from pointsman.model import AlarmState, Measured, Query, Series, Tally, Version, few

LATE_S = 120.0
"""How long after a minute's end CloudWatch has it whole, as a rule. The local AWS: LOCAL_LATE_S."""
LOCAL_LATE_S = 1.0
QUIET_S = 300.0
"""How much longer the last period with data waits for a later one: only that shows that no more is on its way."""

_PERIODS = 1440  # asked for at once: with 20 queries far below the 100,800 data points of one page
_NAMES = 100  # DescribeAlarms takes no more
_LAMBDA = "AWS/Lambda"
_BY_ALIAS = {"FunctionName": "{function}", "Resource": "{function}:{alias}"}
_BY_VERSION = {**_BY_ALIAS, "ExecutedVersion": "{version}"}


def settling(timeout_s: float, *, local: bool = False) -> float:
    """Seconds after a period's end until it is complete, for a function with this time-out.

    A call is dated by its beginning and counted at its end: those that hang until the time-out come last, and leaving
    them out would make a canary that hangs look well.
    """
    return timeout_s + (LOCAL_LATE_S if local else LATE_S)


def errors() -> Series:
    """Calls that ended in an unhandled error, the time-out, or a crash of the runtime."""
    return Series(name="errors", calls=_lambda("Invocations", "Sum"), bad=_lambda("Errors", "Sum"))


def throttles() -> Series:
    """Calls that were refused for want of concurrency. Lambda does not count those as invocations."""
    calls, bad = _lambda("Invocations", "Sum"), _lambda("Throttles", "Sum")
    return Series(name="throttles", calls=calls, bad=bad, apart=True)


def slow(ms: float) -> Series:
    """Calls that took longer than this. Both numbers are of one metric: they cannot be late one without the other."""
    return Series(name="slow", calls=_lambda("Duration", "SampleCount"), bad=_lambda("Duration", f"TC({_number(ms)}:)"))


def _lambda(metric: str, stat: str) -> Query:
    return Query(namespace=_LAMBDA, metric=metric, stat=stat, dimensions=_BY_VERSION)


class Past(NamedTuple):
    """How the alias did: calls and errors by the period, what is slow in ms (None: not known), in how many seconds."""

    errors: tuple[Tally, ...] = ()
    slow_ms: float | None = None
    seconds: float = 0.0


class Metrics(Sender):
    def tallies(
        self,
        function: str,
        alias: str,
        versions: Iterable[Version],
        series: Iterable[Series],
        *,
        since: float,
        period: int,
        settle: float,
        quiet: float = QUIET_S,
    ) -> Measured:
        """What each version did in each whole period from `since` on: one GetMetricData, and its further pages.

        A period counts once it ended `settle` seconds ago (`settling`) and a later one has data, or `quiet` seconds
        more have passed: data that come later than ever are then waited for as long as there is traffic. At most 1,440
        periods at once. Raises Ambiguous where CloudWatch could not answer in full. Asked an hour
        back, for the baseline alone, this is the history that a rollout is planned by.
        """
        begin = math.ceil(since / period) * period
        end = begin + _PERIODS * period
        versions, series = tuple(versions), tuple(series)
        wanted: dict[_Filled, str] = {}
        for each in series:
            for version in versions:
                for query in (each.calls, each.bad):
                    wanted.setdefault(_filled(query, function, alias, version), f"q{len(wanted)}")
        read = self._metric_data({id_: (query, period) for query, id_ in wanted.items()}, begin, end, function)
        newest = max((at for points in read.points.values() for at in points), default=begin)
        old = read.now - settle
        until = min(end, _floor(old, period), max(newest, _floor(old - quiet, period)))
        found: dict[str, dict[str, tuple[Tally, ...]]] = {}
        for each in series:
            for version in versions:
                calls, bad = (
                    read.points[wanted[_filled(query, function, alias, version)]] for query in (each.calls, each.bad)
                )
                counted = _tallies(calls, bad, until, apart=each.apart)
                found.setdefault(each.name, {})[str(version)] = counted
        return Measured(tallies=found, until=max(float(begin), float(until)), now=read.now)

    def before(
        self, function: str, alias: str, *, since: float, until: float, period: int, slow: str | None = None
    ) -> Past:
        """What the alias did in [since, until), whichever version served it: one GetMetricData.

        By the alias, not by version: AWS documents `ExecutedVersion` for aliases with weights, and before a rollout
        there are none. `slow` as the file has it: "800ms", or "p99 * 1.5" of what calls took.
        """
        begin, end = math.ceil(since / period) * period, _floor(until, period)
        end = max(end, begin + period)
        begin = max(begin, end - _PERIODS * period)
        whole = max(60, math.ceil((end - begin) / 60) * 60)
        known = re.fullmatch(r"([\d.]+)(ms|s)", slow or "")
        asked = {
            "calls": (_filled(_of_alias("Invocations", "Sum"), function, alias, None), period),
            "bad": (_filled(_of_alias("Errors", "Sum"), function, alias, None), period),
        }
        share = re.fullmatch(r"(p[\d.]+)(?: ?\* ?([\d.]+))?", slow or "")
        if slow and not known and not share:
            raise ValueError(f"{slow!r} is neither a time nor a percentile")
        if share:
            asked["percentile"] = (_filled(_of_alias("Duration", share[1]), function, alias, None), whole)
            asked["count"] = (_filled(_of_alias("Duration", "SampleCount"), function, alias, None), whole)
        read = self._metric_data(asked, begin, end, function)
        slow_ms = float(known[1]) * (1 if known[2] == "ms" else 1000) if known else None
        if share:
            # One period is asked for. Were it cut in two, at a boundary of AWS's own, the fuller half would do.
            counts, percentiles = read.points["count"], read.points["percentile"]
            fullest = max(percentiles, key=lambda at: counts.get(at, 0), default=None)
            slow_ms = None if fullest is None else round(percentiles[fullest] * float(share[2] or 1), 2)
        errors_ = _tallies(read.points["calls"], read.points["bad"], end, apart=False)
        return Past(errors=errors_, slow_ms=slow_ms, seconds=float(end - begin))

    def alarms(self, names: Sequence[str]) -> tuple[AlarmState, ...]:
        """Metric and composite alarms, in the order asked for: 100 a call. Raises NotFound, naming those not there."""
        found: dict[str, AlarmState] = {}
        for first in range(0, len(names), _NAMES):
            token: str | None = None
            while True:
                page, token = self._send(
                    "DescribeAlarms",
                    lambda reply: (_alarms(reply), reply.get("NextToken")),
                    service="cloudwatch",
                    subject=few(names),
                    AlarmNames=list(names[first : first + _NAMES]),
                    AlarmTypes=["MetricAlarm", "CompositeAlarm"],
                    MaxRecords=_NAMES,
                    NextToken=token,
                )
                found |= page
                if not token:
                    break
        if missing := [name for name in names if name not in found]:
            raise NotFound(
                f"there is no CloudWatch alarm called {few(missing)}",
                where="alarms",
                next="Correct `alarms` of the environment's rollout in pointsman.toml, or create it in this region.",
            )
        return tuple(found[name] for name in names)

    def _metric_data(self, wanted: Mapping[str, tuple[_Filled, int]], begin: int, end: int, function: str) -> _Answer:
        points: dict[str, dict[float, float]] = {id_: {} for id_ in wanted}
        complete: set[str] = set()
        now, token = 0.0, None
        queries = [
            {"Id": id_, "MetricStat": query.asked(period), "ReturnData": True}
            for id_, (query, period) in wanted.items()
        ]
        while True:
            page = self._send(
                "GetMetricData",
                _page,
                service="cloudwatch",
                subject=function,
                MetricDataQueries=queries,
                StartTime=begin,
                EndTime=end,
                ScanBy="TimestampAscending",
                NextToken=token,
            )
            now = now or page.now  # the first page's: the others are not older
            for id_, values in page.points.items():
                points[id_] |= values
            complete |= page.complete
            token = page.token
            if not token:
                break
        if missing := points.keys() - complete:
            told = f": {page.message}" if page.message else ""
            raise Ambiguous(
                f"CloudWatch gave {len(missing)} of {len(points)} metrics in part only{told}", where=function
            )
        return _Answer(points, now)


class _Filled(NamedTuple):
    """A query with its dimensions filled in; equal ones are asked for, and paid, once."""

    namespace: str
    metric: str
    stat: str
    dimensions: tuple[tuple[str, str], ...]

    def asked(self, period: int) -> dict[str, Any]:
        dimensions = [{"Name": name, "Value": value} for name, value in self.dimensions]
        metric = {"Namespace": self.namespace, "MetricName": self.metric, "Dimensions": dimensions}
        return {"Metric": metric, "Period": period, "Stat": self.stat}


class _Answer(NamedTuple):
    points: dict[str, dict[float, float]]
    now: float


class _Page(NamedTuple):
    points: dict[str, dict[float, float]]
    complete: set[str]
    message: str
    token: str | None
    now: float


def _page(reply: Reply) -> _Page:
    from email.utils import parsedate_to_datetime  # slow to import, as a deploy should not be

    results = reply["MetricDataResults"]
    if any(each["StatusCode"] == "InternalError" for each in results):
        raise Ambiguous("CloudWatch met an internal error", where="GetMetricData")  # within a send: tried again
    messages = [*reply.get("Messages", ()), *(said for each in results for said in each.get("Messages", ()))]
    return _Page(
        {
            each["Id"]: {at.timestamp(): value for at, value in zip(each["Timestamps"], each["Values"], strict=True)}
            for each in results
        },
        {each["Id"] for each in results if each["StatusCode"] == "Complete"},
        "; ".join(said["Value"] for said in messages),
        reply.get("NextToken"),
        parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp(),
    )


def _of_alias(metric: str, stat: str) -> Query:
    return Query(namespace=_LAMBDA, metric=metric, stat=stat, dimensions=_BY_ALIAS)


def _filled(query: Query, function: str, alias: str, version: Version | None) -> _Filled:
    def fill(text: str) -> str:
        for name, value in (("{function}", function), ("{alias}", alias), ("{version}", str(version))):
            text = text.replace(name, value)
        return text

    dimensions = tuple((name, fill(value)) for name, value in query.dimensions.items())
    return _Filled(query.namespace, query.metric, query.stat, dimensions)


def _tallies(
    calls: Mapping[float, float], bad: Mapping[float, float], until: float, *, apart: bool
) -> tuple[Tally, ...]:
    """Absent bad ones beside calls are none. What is bad was called, whatever the other metric says."""
    found = []
    for at in sorted(at for at in calls.keys() | bad.keys() if at < until):
        wrong, called = round(bad.get(at, 0)), round(calls.get(at, 0))
        called = called + wrong if apart else max(called, wrong)
        if called:
            found.append(Tally(at=at, calls=called, bad=wrong))
    return tuple(found)


def _alarms(reply: Reply) -> dict[str, AlarmState]:
    return {
        each["AlarmName"]: AlarmState(
            name=each["AlarmName"],
            state=each["StateValue"],
            since=(each.get("StateTransitionedTimestamp") or each["StateUpdatedTimestamp"]).timestamp(),
            reason=each.get("StateReason", ""),
        )
        for kind in ("MetricAlarms", "CompositeAlarms")
        for each in reply.get(kind, ())
    }


def _floor(at: float, period: int) -> int:
    return math.floor(at / period) * period


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


__all__ = ["LATE_S", "LOCAL_LATE_S", "QUIET_S", "Metrics", "errors", "settling", "slow", "throttles"]
