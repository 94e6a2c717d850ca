"""CloudWatch's operations on metrics and alarms: (account, region, parameters as botocore has them) → the reply."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from pointsman.localaws.cloudwatch.alarms import Act, Alarm, Alarms
from pointsman.localaws.cloudwatch.embedded import embedded
from pointsman.localaws.cloudwatch.emission import emit
from pointsman.localaws.cloudwatch.metrics import KEPT, Datum, Metrics, Retention, dimensions_of
from pointsman.localaws.cloudwatch.notices import Notice
from pointsman.localaws.cloudwatch.queries import (
    CloudWatchError,
    Result,
    Window,
    ask,
    by_unit,
    check_period,
    invalid,
    metric_of,
)
from pointsman.localaws.cloudwatch.rules import RuleError, children, parse_rule
from pointsman.localaws.cloudwatch.statistics import PLAIN, Distribution, statistic
from pointsman.localaws.cloudwatch.verdicts import COMPARISONS

Json: TypeAlias = dict[str, Any]

MOST_DATAPOINTS: Final = 100_800
MOST_STATISTICS: Final = 1440
MOST_METRICS: Final = 500
_ACTIVE_S: Final = 14 * 86400  # what ListMetrics still knows
_STATES: Final = ("INSUFFICIENT_DATA", "ALARM", "OK")
_MISSING: Final = ("missing", "ignore", "breaching", "notBreaching")
_OF_ONE_METRIC: Final = ("MetricName", "Namespace", "Dimensions", "Period", "Unit", "Statistic", "ExtendedStatistic")
_ARN = re.compile(r"arn:[\w-]+:[\w-]+:[\w-]*:[\w-]*:.+")


class CloudWatch:
    """Thread-safe; durable in `directory`. `measure` takes what Lambda does, in microseconds."""

    def __init__(
        self,
        directory: Path,
        *,
        act: Act,
        announce: Callable[[Notice], None],
        now: Callable[[], float] = time.time,
        retention: Retention = KEPT,
    ) -> None:
        self._now = now
        self.metrics = Metrics(directory / "metrics.db", emit=emit, now=now, retention=retention)
        self.alarms = Alarms(directory / "alarms.db", self.metrics, act=act, announce=announce, now=now)
        self.alarms.start()
        self.measure = self.metrics.record

    def close(self) -> None:
        self.alarms.close()
        self.metrics.close()

    # --- metrics ---

    def come_late(self, seconds: float) -> None:
        """Show what happened only so long after, to alarms too."""
        self.metrics.late_s = seconds

    def logged(self, account: str, region: str, log_group: str, lines: Iterable[str]) -> None:
        """Take the metrics out of what functions print."""
        if found := list(embedded(account, region, log_group, lines, self._now())):
            self.metrics.put(found)

    def put_metric_data(self, account: str, region: str, given: Json) -> Json:
        data = [
            datum
            for number, each in enumerate(given.get("MetricData", []), 1)
            for datum in self._data(account, region, given["Namespace"], each, f"MetricData.member.{number}")
        ]
        self.metrics.put(data)
        return {}

    def _data(self, account: str, region: str, namespace: str, each: Json, where: str) -> Iterable[Datum]:
        # Recorded: AWS takes Values beside StatisticValues; the latter count here.
        for first, second in (("Value", "Values"), ("Value", "StatisticValues")):
            if first in each and second in each:
                raise CloudWatchError(
                    "InvalidParameterCombination",
                    f"The parameters {where}.{first} and {where}.{second} are mutually exclusive "
                    "and you have specified both.",
                )
        metric = metric_of(account, region, each | {"Namespace": namespace})
        unit = each.get("Unit", "None")
        now = self._now()
        at = seconds(each["Timestamp"]) if "Timestamp" in each else now
        if at < now - 14 * 86400 or at > now + 7200:
            bound = "two weeks in the past" if at < now else "two hours in the future"
            raise _wrong(f"The parameter {where}.Timestamp must specify a time no more than {bound}.")
        if "StatisticValues" in each:
            of = each["StatisticValues"]
            for name in ("SampleCount", "Sum", "Minimum", "Maximum"):
                if name not in of:
                    raise CloudWatchError(
                        "MissingParameter", f"The parameter {where}.StatisticValues.{name} is required."
                    )
            count, total, low, high = (float(of[name]) for name in ("SampleCount", "Sum", "Minimum", "Maximum"))
            _check_finite(where, "StatisticValues", (count, total, low, high))
            values = {low: count} if low == high else None
            yield Datum(metric, unit, at, Distribution(count, total, low, high, values))
            return
        several = "Values" in each
        values_given = [float(value) for value in each.get("Values", [each["Value"]] if "Value" in each else [])]
        if not values_given:
            raise CloudWatchError(
                "MissingParameter",
                f"At least one of the parameters {where}.Value, {where}.Values or {where}.StatisticValues must be "
                "specified.",
            )
        counts = [float(count) for count in each.get("Counts", [1.0] * len(values_given))]
        if len(counts) != len(values_given):
            raise _wrong(f"The parameters {where}.Values and {where}.Counts must be of the same size.")
        _check_finite(where, "Values" if several else "Value", values_given)
        for value, count in zip(values_given, counts, strict=True):
            yield Datum(metric, unit, at, Distribution.of(value, count))

    def list_metrics(self, account: str, region: str, given: Json) -> Json:
        since = self._now() - (10_800 if given.get("RecentlyActive") == "PT3H" else _ACTIVE_S)
        found = self.metrics.listed(
            account,
            region,
            namespace=given.get("Namespace"),
            name=given.get("MetricName"),
            dimensions=given.get("Dimensions", []),
            since=since,
            after=_resume(given, 0),
            limit=MOST_METRICS + 1,
        )
        listed = [
            {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
            }
            for _, metric in found[:MOST_METRICS]
        ]
        more = {"NextToken": _token(found[MOST_METRICS - 1][0])} if len(found) > MOST_METRICS else {}
        return {"Metrics": listed, **more}

    def get_metric_statistics(self, account: str, region: str, given: Json) -> Json:
        when = self._window(given)
        period = given["Period"]
        names = given.get("Statistics", [])
        extended = given.get("ExtendedStatistics", [])
        if not names and not extended:
            raise CloudWatchError("InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics")
        for name in names:
            if name not in PLAIN:
                raise invalid(_not_of(name, "statistics.1.member", sorted(PLAIN)))
        for name in extended:
            if name in PLAIN or statistic(name) is None:
                raise _wrong(f"The value {name} for parameter ExtendedStatistics.member.1 is invalid.")
        check_period(period, "Period")
        if (asked := math.ceil((when.end - when.start) / period)) > MOST_STATISTICS:
            raise CloudWatchError(
                "InvalidParameterCombination",
                f"You have requested up to {asked} datapoints, which exceeds the limit of {MOST_STATISTICS}. You may "
                "reduce the datapoints requested by increasing Period, or decreasing the time range.",
            )
        found = by_unit(
            self.metrics, metric_of(account, region, given), given.get("Unit"), period, when, values=bool(extended)
        )
        datapoints = [
            _datapoint(at, what, unit, names, extended) for unit, points in found.items() for at, what in points.items()
        ]
        return {"Label": given["MetricName"], "Datapoints": datapoints}

    def get_metric_data(self, account: str, region: str, given: Json) -> Json:
        when = self._window(given)
        queries = given["MetricDataQueries"]
        results = [result for result in ask(self.metrics, account, region, queries, when) if result.returned]
        labels = _labels(queries)
        descending = given.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        most = given.get("MaxDatapoints", MOST_DATAPOINTS)
        after = _resume(given, 0)
        seen = 0
        shown: list[Json] = []
        for result in results:
            for series in result.series:
                points = sorted(series.points.items(), reverse=descending)
                first, last = max(0, after - seen), max(0, after + most - seen)
                seen += len(points)
                page = points[first:last]
                if not page and (points or after):
                    continue  # on another page
                shown.append(
                    {
                        "Id": result.id,
                        "Label": labels.get(result.id, series.label),
                        "Timestamps": [_time(at) for at, _ in page],
                        "Values": [value for _, value in page],
                        "StatusCode": "Complete" if last >= len(points) else "PartialData",
                    }
                    | _units_message(result)
                )
        reply: Json = {"MetricDataResults": shown, "Messages": []}
        if seen > after + most:
            reply["NextToken"] = _token(after + most)
        return reply

    def _window(self, given: Json) -> Window:
        start, end = seconds(given["StartTime"]), seconds(given["EndTime"])
        if start >= end:
            raise _wrong("The parameter StartTime must be less than the parameter EndTime.")
        return Window(start, end, self._now())

    # --- alarms ---

    def put_metric_alarm(self, account: str, region: str, given: Json) -> Json:
        _check_alarm(given)
        if "Metrics" in given:
            self._check_expressions(account, region, given["Metrics"])
        self._put(account, region, "MetricAlarm", given | {"ActionsEnabled": given.get("ActionsEnabled", True)})
        return {}

    def _check_expressions(self, account: str, region: str, queries: Sequence[Json]) -> None:
        """That they can be evaluated, to one series: what cannot be now never can."""
        if sum(query.get("ReturnData", True) for query in queries) != 1:
            raise invalid("Exactly one element of the metrics list should return data.")
        now = self._now()
        results = ask(self.metrics, account, region, queries, Window(now, now + 1, now))
        if any(result.returned and len(result.series) != 1 for result in results):
            raise invalid("An alarm can only watch a single time series, not an array of them.")

    def put_composite_alarm(self, account: str, region: str, given: Json) -> Json:
        if suppressing := sorted(name for name in given if name.startswith("ActionsSuppressor")):
            raise NotImplementedError(f"PutCompositeAlarm with {suppressing[0]}")
        try:
            rule = parse_rule(given["AlarmRule"])
        except RuleError as wrong:
            raise invalid(f"Error in AlarmRule: {wrong}") from wrong
        known = {name for alarm in self.alarms.all(account, region) for name in (alarm.name, alarm.arn)}
        if unknown := [child for child in children(rule) if child not in known]:
            raise invalid(
                f"Could not save the composite alarm as alarms [{', '.join(unknown)}] in the alarm rule do not exist"
            )
        _check_actions(given)
        self._put(account, region, "CompositeAlarm", given | {"ActionsEnabled": given.get("ActionsEnabled", True)})
        return {}

    def _put(self, account: str, region: str, kind: Any, given: Json) -> None:
        before = self.alarms.get(account, region, given["AlarmName"])
        if before is not None and before.kind != kind:
            raise invalid(f"An alarm of another type is already called {before.name}.")
        tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}
        self.alarms.put(account, region, kind, {key: value for key, value in given.items() if key != "Tags"}, tags)

    def delete_alarms(self, account: str, region: str, given: Json) -> Json:
        self.alarms.delete(account, region, given["AlarmNames"])
        return {}

    def describe_alarms(self, account: str, region: str, given: Json) -> Json:
        """Without AlarmTypes only metric alarms are shown, as on AWS."""
        found = [alarm for alarm in self.alarms.all(account, region) if _wanted(alarm, given)]
        if child := given.get("ParentsOfAlarmName"):
            arns = {alarm.arn for alarm in self.alarms.all(account, region) if alarm.name == child} | {child}
            found = [alarm for alarm in self.alarms.all(account, region) if arns & set(children(alarm.rule))]
        if parent := given.get("ChildrenOfAlarmName"):
            above = self.alarms.get(account, region, parent)
            named = set() if above is None else set(children(above.rule))
            found = [alarm for alarm in self.alarms.all(account, region) if {alarm.name, alarm.arn} & named]
        page, more = _page(found, given, lambda alarm: alarm.name, 50)
        return {
            "MetricAlarms": [_shown(alarm) for alarm in page if alarm.kind == "MetricAlarm"],
            "CompositeAlarms": [_shown(alarm) for alarm in page if alarm.kind == "CompositeAlarm"],
            "LogAlarms": [],
            **more,
        }

    def describe_alarms_for_metric(self, account: str, region: str, given: Json) -> Json:
        """Alarms on that very metric; those with expressions are on none."""
        wanted = [
            name
            for name in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Unit")
            if name in given
        ]
        found = [
            alarm
            for alarm in self.alarms.all(account, region)
            if "MetricName" in alarm.given
            and all(alarm.given.get(name) == given[name] for name in wanted)
            and dimensions_of(alarm.given.get("Dimensions", [])) == dimensions_of(given.get("Dimensions", []))
        ]
        return {"MetricAlarms": [_shown(alarm) for alarm in found]}

    def describe_alarm_history(self, account: str, region: str, given: Json) -> Json:
        kinds = given.get("AlarmTypes", ["MetricAlarm"])
        first = seconds(given["StartDate"]) if "StartDate" in given else -math.inf
        last = seconds(given["EndDate"]) if "EndDate" in given else math.inf
        found = [
            item
            for item in self.alarms.history(account, region, given.get("AlarmName"))
            if item.kind in kinds and given.get("HistoryItemType", item.type) == item.type and first <= item.at <= last
        ]
        if given.get("ScanBy", "TimestampDescending") == "TimestampDescending":
            found.reverse()
        page, more = _page(found, given, lambda item: item.id, 100)
        shown = [
            {
                "AlarmName": item.name,
                "AlarmType": item.kind,
                "Timestamp": _time(item.at),
                "HistoryItemType": item.type,
                "HistorySummary": item.summary,
                "HistoryData": item.data,
            }
            for item in page
        ]
        return {"AlarmHistoryItems": shown, **more}

    def set_alarm_state(self, account: str, region: str, given: Json) -> Json:
        state = given["StateValue"]
        if state not in _STATES:
            raise invalid(f"1 validation error detected: {_not_of(state, 'stateValue', _STATES)}")
        data = given.get("StateReasonData")
        if data is not None:
            try:
                json.loads(data)
            except ValueError:
                raise CloudWatchError("InvalidFormat", "StateReasonData is not valid JSON") from None
        if not self.alarms.set_state(account, region, given["AlarmName"], (state, given["StateReason"], data)):
            raise CloudWatchError("ResourceNotFound", "")
        return {}

    def enable_alarm_actions(self, account: str, region: str, given: Json) -> Json:
        return self._enable(account, region, given["AlarmNames"], on=True)

    def disable_alarm_actions(self, account: str, region: str, given: Json) -> Json:
        return self._enable(account, region, given["AlarmNames"], on=False)

    def _enable(self, account: str, region: str, names: Sequence[str], *, on: bool) -> Json:
        for name in names:
            self.alarms.edit(
                account, region, name, lambda alarm: replace(alarm, given=alarm.given | {"ActionsEnabled": on})
            )
        return {}

    # --- tags, of alarms ---

    def list_tags_for_resource(self, account: str, region: str, given: Json) -> Json:
        alarm = self.alarms.get(account, region, _alarm_name(given["ResourceARN"]))
        tags = {} if alarm is None else alarm.tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def tag_resource(self, account: str, region: str, given: Json) -> Json:
        new = {tag["Key"]: tag["Value"] for tag in given["Tags"]}
        return self._tag(account, region, given["ResourceARN"], lambda tags: tags | new)

    def untag_resource(self, account: str, region: str, given: Json) -> Json:
        gone = given["TagKeys"]
        return self._tag(
            account,
            region,
            given["ResourceARN"],
            lambda tags: {key: value for key, value in tags.items() if key not in gone},
        )

    def _tag(self, account: str, region: str, arn: str, edit: Callable[[dict[str, str]], dict[str, str]]) -> Json:
        name = _alarm_name(arn)
        if not self.alarms.edit(account, region, name, lambda alarm: replace(alarm, tags=edit(alarm.tags))):
            raise CloudWatchError("ResourceNotFoundException", "")
        return {}


# --- metrics ---


def seconds(moment: Any) -> float:
    """Epoch seconds; a time without a zone is in UTC."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(moment)


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _wrong(message: str) -> CloudWatchError:
    return CloudWatchError("InvalidParameterValue", message)


def _not_of(value: str, where: str, allowed: Iterable[str]) -> str:
    return (
        f"Value '{value}' at '{where}' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(allowed)}]"
    )


def _check_finite(where: str, name: str, values: Iterable[float]) -> None:
    for value in values:
        if not math.isfinite(value):
            raise _wrong(f"The value {value} for parameter {where}.{name} is invalid.")


def _datapoint(at: int, what: Distribution, unit: str, names: Sequence[str], extended: Sequence[str]) -> Json:
    shown: Json = {"Timestamp": _time(at), "Unit": unit}
    for name in names:
        shown[name] = PLAIN[name](what)
    found = {name: compute(what) for name in extended if (compute := statistic(name)) is not None}
    if known := {name: value for name, value in found.items() if value is not None}:
        shown["ExtendedStatistics"] = known
    return shown


def _labels(queries: Sequence[Json]) -> dict[str, str]:
    """Of metrics without a label: the name, and what of statistic and period differs among the queries (recorded)."""
    stats = {query["Id"]: query["MetricStat"] for query in queries if "MetricStat" in query}
    differing = [name for name in ("Stat", "Period") if len({str(stat[name]) for stat in stats.values()}) > 1]
    named = len({stat["Metric"].get("MetricName") for stat in stats.values()}) == 1
    labelled = {query["Id"] for query in queries if query.get("Label")}
    return {
        id_: " ".join([stat["Metric"].get("MetricName", ""), *(str(stat[name]) for name in differing if named)])
        for id_, stat in stats.items()
        if id_ not in labelled
    }


def _units_message(result: Result) -> Json:
    if not result.units:
        return {}
    return {"Messages": [{"Code": "MultipleUnits", "Value": f"Multiple units returned: '[{', '.join(result.units)}]'"}]}


# --- alarms ---


def _check_alarm(given: Json) -> None:
    for name, allowed in (("ComparisonOperator", tuple(COMPARISONS)), ("TreatMissingData", _MISSING)):
        if name in given and given[name] not in allowed:
            if name == "ComparisonOperator" and given[name].endswith(("UpperThreshold", "LowerThreshold")):
                raise NotImplementedError("Anomaly detection")
            where = name[0].lower() + name[1:]
            raise invalid(f"1 validation error detected: {_not_of(given[name], where, allowed)}")
    if "ThresholdMetricId" in given:
        raise NotImplementedError("Anomaly detection")
    for name in ("ComparisonOperator", "EvaluationPeriods", "Threshold"):
        if name not in given:
            raise invalid(f"{name} must not be null")
    period = _check_watched(given)
    count = given["EvaluationPeriods"]
    longest = 7 * 86400 if period >= 3600 else 86400
    if count * period > longest:
        span, most = ("seven days", longest) if period >= 3600 else ("a day", longest)
        raise invalid(
            f"Metrics cannot be checked across more than {span} (EvaluationPeriods * Period must be <= {most})."
        )
    if given.get("DatapointsToAlarm", 1) > count:
        raise invalid("DatapointsToAlarm must be less than or equal to EvaluationPeriods")
    _check_actions(given)


def _check_watched(given: Json) -> int:
    """What the alarm is on; its period."""
    if "Metrics" in given:
        for name in _OF_ONE_METRIC:
            if given.get(name):
                raise invalid(f"{name} should not be set if list of Metrics is set.")
        periods = [query["MetricStat"]["Period"] for query in given["Metrics"] if "MetricStat" in query]
        return int(max([*periods, *(query["Period"] for query in given["Metrics"] if "Period" in query)], default=60))
    for name in ("MetricName", "Namespace", "Period"):
        if name not in given:
            raise invalid(f"{name} must not be null")
    if ("Statistic" in given) == ("ExtendedStatistic" in given):
        raise invalid("Exactly one of Statistic and ExtendedStatistic must be set")
    if "Statistic" in given and given["Statistic"] not in PLAIN:
        raise invalid(f"1 validation error detected: {_not_of(given['Statistic'], 'statistic', PLAIN)}")
    if "ExtendedStatistic" in given and statistic(given["ExtendedStatistic"]) is None:
        raise invalid(f"The value {given['ExtendedStatistic']} for parameter ExtendedStatistic is not supported.")
    try:
        check_period(given["Period"], "Period")
    except CloudWatchError:
        raise invalid("Period must be 10, 30 or a multiple of 60") from None
    return int(given["Period"])


def _check_actions(given: Json) -> None:
    for name in ("OKActions", "AlarmActions", "InsufficientDataActions"):
        for arn in given.get(name, []):
            if not _ARN.fullmatch(arn):
                raise invalid(f"Invalid arn syntax: {arn}")


def _wanted(alarm: Alarm, given: Json) -> bool:
    return (
        alarm.kind in given.get("AlarmTypes", ["MetricAlarm"])
        and alarm.name in given.get("AlarmNames", [alarm.name])
        and alarm.name.startswith(given.get("AlarmNamePrefix", ""))
        and alarm.now.value == given.get("StateValue", alarm.now.value)
        and ("ActionPrefix" not in given or any(arn.startswith(given["ActionPrefix"]) for arn in _actions(alarm)))
    )


def _actions(alarm: Alarm) -> list[str]:
    names = ("OKActions", "AlarmActions", "InsufficientDataActions")
    return [arn for name in names for arn in alarm.given.get(name, [])]


def _shown(alarm: Alarm) -> Json:
    shown: Json = {
        "AlarmArn": alarm.arn,
        "AlarmConfigurationUpdatedTimestamp": _time(alarm.updated),
        "OKActions": [],
        "AlarmActions": [],
        "InsufficientDataActions": [],
    }
    if alarm.kind == "MetricAlarm":
        shown["Dimensions"] = []
    shown |= alarm.given
    if "Metrics" in shown:
        shown["Metrics"] = [query | {"ReturnData": query.get("ReturnData", True)} for query in shown["Metrics"]]
    shown |= {
        "StateValue": alarm.now.value,
        "StateReason": alarm.now.reason,
        "StateUpdatedTimestamp": _time(alarm.now.since),
        "StateTransitionedTimestamp": _time(alarm.changed),
    }
    return shown if alarm.now.data is None else shown | {"StateReasonData": alarm.now.data}


def _alarm_name(arn: str) -> str:
    return arn.partition(":alarm:")[2]


# --- pages ---


def _token(after: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode()


def _resume(given: Json, first: Any) -> Any:
    if not given.get("NextToken"):
        return first
    try:
        found = json.loads(base64.urlsafe_b64decode(given["NextToken"]))
    except ValueError:
        found = None
    if not isinstance(found, type(first)):
        raise CloudWatchError("InvalidNextToken", "Request parameter NextToken is invalid")
    return found


def _page(found: Sequence[Any], given: Json, key: Callable[[Any], Any], most: int) -> tuple[Sequence[Any], Json]:
    """From the one after NextToken's key on; a page ends with the last it shows."""
    if given.get("NextToken"):
        after = _resume(given, key(found[0])) if found else None
        found = found[next((n for n, each in enumerate(found, 1) if key(each) == after), len(found)) :]
    size = min(given.get("MaxRecords", most), 100)
    return found[:size], {"NextToken": _token(key(found[size - 1]))} if len(found) > size else {}


OPERATIONS: Final[Mapping[str, Callable[[CloudWatch, str, str, Json], Json]]] = {
    operation.__name__: operation
    for operation in (
        CloudWatch.delete_alarms,
        CloudWatch.describe_alarm_history,
        CloudWatch.describe_alarms,
        CloudWatch.describe_alarms_for_metric,
        CloudWatch.disable_alarm_actions,
        CloudWatch.enable_alarm_actions,
        CloudWatch.get_metric_data,
        CloudWatch.get_metric_statistics,
        CloudWatch.list_metrics,
        CloudWatch.put_composite_alarm,
        CloudWatch.put_metric_alarm,
        CloudWatch.put_metric_data,
        CloudWatch.set_alarm_state,
    )
}
"""Those that moto's are replaced by whole."""
