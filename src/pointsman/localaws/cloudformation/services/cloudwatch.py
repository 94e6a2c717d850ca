"""CloudWatch: alarms and dashboards."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

from typing import ClassVar, Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, retagged, tags_of
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class Alarm(Called):
    type = "AWS::CloudWatch::Alarm"
    service = "cloudwatch"
    name_property = "AlarmName"
    known = frozenset({
        "ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "ComparisonOperator", "DatapointsToAlarm",
        "Dimensions", "EvaluateLowSampleCountPercentile", "EvaluationPeriods", "ExtendedStatistic",
        "InsufficientDataActions", "MetricName", "Metrics", "Namespace", "OKActions", "Period", "Statistic",
        "Threshold", "ThresholdMetricId", "TreatMissingData", "Unit",
    })  # fmt: skip
    _put: ClassVar[str] = "PutMetricAlarm"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("AlarmName") or place.name(logical_id, 255))
        given = properties | ({"Tags": pairs_of(tags_of(properties["Tags"]))} if "Tags" in properties else {})
        return self._made(place, name, given)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        arn = made.attributes["Arn"]
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", ResourceARN=arn, TagKeys=gone)
        if tags:
            self._call(place, "TagResource", ResourceARN=arn, Tags=pairs_of(tags))
        return self._made(place, made.name, {key: value for key, value in after.items() if key != "Tags"})

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteAlarms", AlarmNames=[made.name])

    def _made(self, place: Place, name: str, properties: Json) -> Made:
        self._check(properties)
        self._call(place, self._put, **properties | {"AlarmName": name})
        return Made(
            name, name, {"Arn": f"arn:{place.partition}:cloudwatch:{place.region}:{place.account}:alarm:{name}"}
        )


class CompositeAlarm(Alarm):
    type = "AWS::CloudWatch::CompositeAlarm"
    known = frozenset({
        "ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "AlarmRule", "InsufficientDataActions",
        "OKActions",
    })  # fmt: skip
    _put = "PutCompositeAlarm"


class Dashboard(Called):
    type = "AWS::CloudWatch::Dashboard"
    service = "cloudwatch"
    name_property = "DashboardName"
    known = frozenset({"DashboardBody", "DashboardName"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("DashboardName") or place.name(logical_id, 255))
        self._call(place, "PutDashboard", DashboardName=name, DashboardBody=properties["DashboardBody"])
        return Made(name, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._call(place, "PutDashboard", DashboardName=made.name, DashboardBody=after["DashboardBody"])
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteDashboards", DashboardNames=[made.name])


TYPES: Final = (Alarm, CompositeAlarm, Dashboard)
