"""How a change of an alarm's state is told: as a message to SNS, to a Lambda function, to EventBridge. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import NAMESPACE_URL, uuid5

from pointsman.localaws.cloudwatch.verdicts import State

Json: TypeAlias = dict[str, Any]

_COMPARED: Final = ("Period", "EvaluationPeriods", "DatapointsToAlarm", "ComparisonOperator", "Threshold")


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of an alarm, and since when and why."""

    value: State
    reason: str
    since: float
    data: str | None = None  # JSON

    def document(self) -> Json:
        shown: Json = {"value": self.value, "reason": self.reason}
        if self.data is not None:
            shown["reasonData"] = self.data
        return shown | {"timestamp": stamp(self.since)}


@dataclass(frozen=True, slots=True)
class Notice:
    """An alarm went from one state to another."""

    account: str
    region: str
    name: str
    arn: str
    given: Json  # the alarm, as it was put
    updated: float
    before: Standing
    after: Standing


def stamp(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def subject(notice: Notice, region_title: str) -> str:
    return f'{notice.after.value}: "{notice.name}" in {region_title}'


def sns_message(notice: Notice, region_title: str) -> Json:
    given = notice.given
    message = {
        "AlarmName": notice.name,
        "AlarmDescription": given.get("AlarmDescription"),
        "AWSAccountId": notice.account,
        "AlarmConfigurationUpdatedTimestamp": stamp(notice.updated),
        "NewStateValue": notice.after.value,
        "NewStateReason": notice.after.reason,
        "StateChangeTime": stamp(notice.after.since),
        "ActionExecutedAfterMuteWindow": False,
        "Region": region_title,
        "AlarmArn": notice.arn,
        "OldStateValue": notice.before.value,
        "OKActions": given.get("OKActions", []),
        "AlarmActions": given.get("AlarmActions", []),
        "InsufficientDataActions": given.get("InsufficientDataActions", []),
    }
    if "AlarmRule" in given:
        triggering = json.loads(notice.after.data or "{}").get("triggeringAlarms", [])
        return message | {
            "AlarmRule": given["AlarmRule"],
            "TriggeringChildren": [
                {
                    "Arn": child["arn"],
                    "State": {"Value": child["state"]["value"], "Timestamp": child["state"]["timestamp"]},
                }
                for child in triggering
            ],
        }
    return message | {"Trigger": _trigger(given)}


def _trigger(given: Json) -> Json:
    trigger: Json = {}
    if "Metrics" not in given:
        trigger |= {"MetricName": given["MetricName"], "Namespace": given["Namespace"]}
        if "Statistic" in given:
            trigger |= {"StatisticType": "Statistic", "Statistic": given["Statistic"].upper()}
        else:
            trigger |= {"StatisticType": "ExtendedStatistic", "ExtendedStatistic": given["ExtendedStatistic"]}
        trigger |= {"Unit": given.get("Unit"), "Dimensions": _dimensions(given)}
    trigger |= {name: given[name] for name in _COMPARED if name in given}
    trigger |= {
        "TreatMissingData": given.get("TreatMissingData", ""),
        "EvaluateLowSampleCountPercentile": given.get("EvaluateLowSampleCountPercentile", ""),
    }
    if "Metrics" in given:
        trigger["Metrics"] = [_query(query) for query in given["Metrics"]]
    return trigger


def _query(query: Json) -> Json:
    if "MetricStat" not in query:
        return dict(query)
    stat = query["MetricStat"]
    return query | {"MetricStat": stat | {"Metric": stat["Metric"] | {"Dimensions": _dimensions(stat["Metric"])}}}


def _dimensions(given: Json) -> list[Json]:
    return [{"value": each["Value"], "name": each["Name"]} for each in given.get("Dimensions", [])]


def alarm_data(notice: Notice) -> Json:
    """What Lambda gets as `alarmData` and EventBridge as `detail`."""
    given = notice.given
    configuration: Json = {"description": given["AlarmDescription"]} if "AlarmDescription" in given else {}
    if "AlarmRule" in given:
        configuration["alarmRule"] = given["AlarmRule"]
    else:
        configuration["metrics"] = [_small(query) for query in given.get("Metrics") or [_only_query(notice)]]
    return {
        "alarmName": notice.name,
        "state": notice.after.document(),
        "previousState": notice.before.document(),
        "configuration": configuration,
    }


def lambda_event(notice: Notice) -> Json:
    return {
        "source": "aws.cloudwatch",
        "alarmArn": notice.arn,
        "accountId": notice.account,
        "time": stamp(notice.after.since),
        "region": notice.region,
        "alarmData": alarm_data(notice),
    }


def _only_query(notice: Notice) -> Json:
    return single_query(notice.given) | {"Id": str(uuid5(NAMESPACE_URL, notice.arn))}


def single_query(given: Json) -> Json:
    """What an alarm on one metric asks, as a query."""
    stat: Json = {
        "Metric": {name: given[name] for name in ("Namespace", "MetricName", "Dimensions") if name in given},
        "Period": given["Period"],
        "Stat": given.get("Statistic") or given.get("ExtendedStatistic"),
    }
    if "Unit" in given:
        stat["Unit"] = given["Unit"]
    return {"Id": "m1", "MetricStat": stat, "ReturnData": True}


def _small(query: Json) -> Json:
    """A query with names that begin small, and dimensions as an object."""
    shown: Json = {"id": query["Id"]}
    if "MetricStat" in query:
        stat = query["MetricStat"]
        metric = stat["Metric"]
        shown["metricStat"] = {
            "metric": {
                "namespace": metric["Namespace"],
                "name": metric["MetricName"],
                "dimensions": {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])},
            },
            "period": stat["Period"],
            "stat": stat["Stat"],
        }
        if "Unit" in stat:
            shown["metricStat"]["unit"] = stat["Unit"]
    else:
        shown["expression"] = query["Expression"]
    if "Label" in query:
        shown["label"] = query["Label"]
    return shown | {"returnData": query.get("ReturnData", True)}
