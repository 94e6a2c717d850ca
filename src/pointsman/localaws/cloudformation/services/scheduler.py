"""EventBridge Scheduler: schedules and their groups."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

from typing import Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, retagged, tags_of
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class ScheduleGroup(Called):
    type = "AWS::Scheduler::ScheduleGroup"
    service = "scheduler"
    name_property = "Name"
    known = frozenset({"Name"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("Name") or place.name(logical_id))
        tags = pairs_of(tags_of(properties.get("Tags", [])))
        arn = self._call(place, "CreateScheduleGroup", Name=name, Tags=tags)["ScheduleGroupArn"]
        return Made(name, name, {"Arn": arn, "State": "ACTIVE"})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        arn = made.attributes["Arn"]
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", ResourceArn=arn, TagKeys=gone)
        if tags:
            self._call(place, "TagResource", ResourceArn=arn, Tags=pairs_of(tags))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteScheduleGroup", Name=made.name)


class Schedule(Called):
    type = "AWS::Scheduler::Schedule"
    service = "scheduler"
    name_property = "Name"
    takes_tags = False
    known = frozenset({
        "Description", "EndDate", "FlexibleTimeWindow", "GroupName", "KmsKeyArn", "Name", "ScheduleExpression",
        "ScheduleExpressionTimezone", "StartDate", "State", "Target",
    })  # fmt: skip

    @property
    def replacing(self) -> frozenset[str]:
        return super().replacing | {"GroupName"}  # a schedule is known by its group and its name

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("Name") or place.name(logical_id))
        arn = self._call(place, "CreateSchedule", **properties | {"Name": name})["ScheduleArn"]
        return Made(name, name, {"Arn": arn})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        self._call(place, "UpdateSchedule", **after | {"Name": made.name})
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        group = {"GroupName": properties["GroupName"]} if "GroupName" in properties else {}
        self._gone(place, "DeleteSchedule", Name=made.name, **group)


TYPES: Final = (Schedule, ScheduleGroup)
