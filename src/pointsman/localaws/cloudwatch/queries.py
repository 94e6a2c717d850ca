"""Metric data queries, as GetMetricData and alarms have them: statistics of metrics, and expressions on those."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from pointsman.localaws.cloudwatch.expressions import (
    ExpressionError,
    Scope,
    Series,
    Value,
    evaluate,
    names,
    parse,
)
from pointsman.localaws.cloudwatch.metrics import Metric, Metrics, dimensions_of
from pointsman.localaws.cloudwatch.statistics import PLAIN, Distribution, statistic

Json: TypeAlias = dict[str, Any]

SHORT_PERIODS: Final = (1, 5, 10, 20, 30)
_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")
# Where a metric was reported in several units and none is asked for, AWS answers from the first of these (recorded).
_UNITS: Final = (
    "Megabits", "Terabits", "Gigabits", "Count", "Bytes", "Gigabytes", "Gigabytes/Second", "Kilobytes",
    "Kilobits/Second", "Terabytes", "Terabits/Second", "Bytes/Second", "Percent", "Megabytes", "Megabits/Second",
    "Milliseconds", "Microseconds", "Kilobytes/Second", "Gigabits/Second", "Megabytes/Second", "Bits", "Bits/Second",
    "Count/Second", "Seconds", "Kilobits", "Terabytes/Second", "None",
)  # fmt: skip


class CloudWatchError(Exception):
    """A refusal, with AWS's code for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> CloudWatchError:
    return CloudWatchError("ValidationError", message)


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked for, in epoch seconds."""

    start: float
    end: float
    now: float
    exact: bool = False  # not rounded

    def seconds(self, period: int) -> range:
        """The first seconds of its periods, rounded as AWS does: down to minutes, the older the coarser, at the start,
        and finer only for periods under a minute. What had begun before the end is in it as a whole."""
        if self.exact:
            return range(int(self.start), int(self.end), period)
        age = self.now - self.start
        coarse = 60 if age <= 15 * 86400 else 300 if age <= 63 * 86400 else 3600
        first = min(period, coarse)
        last = min(period, 60)
        return range(math.floor(self.start) // first * first, -(-math.ceil(self.end) // last) * last, period)


@dataclass(frozen=True, slots=True)
class Result:
    id: str
    series: Sequence[Series]  # several for an expression that gives an array
    returned: bool
    units: Sequence[str] = ()  # all that the metric was reported in, where none was asked for
    samples: Mapping[int, float] | None = None  # how many values each point stands for; of metrics only


def ask(metrics: Metrics, account: str, region: str, queries: Sequence[Json], when: Window) -> list[Result]:
    """In the order of the queries. Raises CloudWatchError."""
    _check(queries)
    results: dict[str, Result] = {}
    for query in queries:
        if "MetricStat" in query:
            results[query["Id"]] = _of_metric(metrics, query.get("AccountId", account), region, query, when)
    basic = {id_: result.series[0] for id_, result in results.items()}
    period = max((series.period for series in basic.values()), default=60)
    expressions = {query["Id"]: query for query in queries if "MetricStat" not in query}
    values: dict[str, Value] = dict(basic)
    for query in _in_order(expressions, set(basic)):
        id_, returned = query["Id"], query.get("ReturnData", True)
        with _wrong_in(id_):
            scope = Scope(values, basic, when.seconds(query.get("Period", period)))
            values[id_] = evaluate(parse(query["Expression"]), scope)
        if returned and isinstance(values[id_], float):  # which is fine for another expression to stand on
            raise invalid(f"Error in expression '{id_}': The result must be a time series, not a number")
        results[id_] = Result(id_, _labelled(values[id_], query.get("Label") or id_), returned)
    return [results[query["Id"]] for query in queries]


def _labelled(value: Value, label: str) -> list[Series]:
    match value:
        case float():
            return []
        case Series():
            return [replace(value, label=label)]
        case _:
            return [replace(series, label=f"{label} {series.label}") for series in value]


def _check(queries: Sequence[Json]) -> None:
    seen: set[str] = set()
    for number, query in enumerate(queries, 1):
        where = f"MetricDataQueries.member.{number}"
        id_ = str(query.get("Id", ""))
        if not _ID.fullmatch(id_):
            raise invalid(f"Value '{id_}' at '{where}.Id' must match the expression: ^[a-z][a-zA-Z0-9_]*$.")
        if id_ in seen:
            raise invalid(f"The values for parameter id in MetricDataQueries are not unique: '{id_}'.")
        seen.add(id_)
        if "MetricStat" not in query and "Expression" not in query:
            raise invalid(f"The parameter {where}.MetricStat is required.\n")  # AWS has the empty line, too
        if "MetricStat" in query and "Expression" in query:
            raise invalid(f"The parameters {where}.Expression and {where}.MetricStat are mutually exclusive.")
        if "MetricStat" in query:
            stat = query["MetricStat"]
            for name in ("Metric", "Period", "Stat"):
                if name not in stat:
                    raise invalid(f"The parameter {where}.MetricStat.{name} is required.\n")
            if statistic(stat["Stat"]) is None:
                raise invalid(f"The value {stat['Stat']} for parameter {where}.MetricStat.Stat is not supported.")
        check_period(query.get("MetricStat", query).get("Period", 60), f"{where}.MetricStat.Period")


def check_period(period: int, where: str) -> None:
    if period not in SHORT_PERIODS and (period <= 0 or period % 60):
        short = ", ".join(map(str, SHORT_PERIODS))
        raise CloudWatchError(
            "InvalidParameterValue", f"The parameter {where} must be {short} or a multiple of 60, not {period}."
        )


@contextmanager
def _wrong_in(id_: str) -> Iterator[None]:
    try:
        yield
    except ExpressionError as wrong:
        raise invalid(f"Error in expression '{id_}': {wrong}") from wrong
    except (OverflowError, RecursionError) as wrong:
        raise invalid(f"Error in expression '{id_}': It is too large") from wrong


def _in_order(expressions: Mapping[str, Json], known: set[str]) -> list[Json]:
    """Each after those it stands on."""
    ordered: list[Json] = []
    waiting: dict[str, set[str]] = {}
    for id_, query in expressions.items():
        with _wrong_in(id_):
            waiting[id_] = names(parse(query["Expression"]))
    for id_, needed in waiting.items():
        if undefined := sorted(needed - known - expressions.keys()):
            raise invalid(f"Error in expression '{id_}': Undefined id '{undefined[0]}'")
    while waiting:
        ready = [id_ for id_, needed in waiting.items() if not needed & waiting.keys()]
        if not ready:
            raise invalid(f"Error in expression '{next(iter(waiting))}': It stands on itself")
        for id_ in ready:
            del waiting[id_]
            ordered.append(expressions[id_])
    return ordered


def _of_metric(metrics: Metrics, account: str, region: str, query: Json, when: Window) -> Result:
    stat = query["MetricStat"]
    compute = statistic(stat["Stat"])
    assert compute is not None, "checked before"
    metric = metric_of(account, region, stat["Metric"])
    found = by_unit(metrics, metric, stat.get("Unit"), stat["Period"], when, values=stat["Stat"] not in PLAIN)
    points = found[min(found, key=_unit_rank)] if found else {}
    values = {at: compute(what) for at, what in points.items()}
    series = Series(
        {at: value for at, value in values.items() if value is not None},
        stat["Period"],
        query.get("Label") or metric.name,
    )
    units = sorted(found, key=_unit_rank) if len(found) > 1 else ()
    return Result(
        query["Id"], [series], query.get("ReturnData", True), units, {at: what.count for at, what in points.items()}
    )


def _unit_rank(unit: str) -> int:
    return _UNITS.index(unit) if unit in _UNITS else len(_UNITS)


def by_unit(
    metrics: Metrics, metric: Metric, unit: str | None, period: int, when: Window, *, values: bool
) -> dict[str, dict[int, Distribution]]:
    """The points by unit, of the one asked for or of all; units without points are left out."""
    seconds = when.seconds(period)
    found = {
        each: metrics.points(series, seconds, values=values)
        for each, series in metrics.units(metric).items()
        if unit in (None, each)
    }
    return {each: points for each, points in found.items() if points}


def metric_of(account: str, region: str, given: Json) -> Metric:
    return Metric(
        account,
        region,
        given.get("Namespace", ""),
        given.get("MetricName", ""),
        dimensions_of(given.get("Dimensions", [])),
    )
