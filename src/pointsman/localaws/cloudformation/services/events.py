"""EventBridge: buses and rules."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from typing import Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, retagged, tags_of, undone
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class EventBus(Called):
    type = "AWS::Events::EventBus"
    service = "events"
    name_property = "Name"
    known = frozenset({"Description", "EventSourceName", "KmsKeyIdentifier", "Name"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        given = {key: value for key, value in properties.items() if key != "Tags"}
        tags = pairs_of(tags_of(properties.get("Tags", [])))
        arn = self._call(place, "CreateEventBus", **given, Tags=tags)["EventBusArn"]
        return Made(properties["Name"], properties["Name"], {"Arn": arn, "Name": properties["Name"]})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        given = {"Description": "", "KmsKeyIdentifier": ""} | {k: v for k, v in after.items() if k != "Tags"}
        if given != {"Description": "", "KmsKeyIdentifier": ""} | {k: v for k, v in before.items() if k != "Tags"}:
            self._call(place, "UpdateEventBus", **given)
        _retag(self, place, made, before, after)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteEventBus", Name=made.name)


class Rule(Called):
    type = "AWS::Events::Rule"
    service = "events"
    name_property = "Name"
    _PLAIN: Final = ("Description", "EventBusName", "RoleArn", "ScheduleExpression", "State")
    known = frozenset(_PLAIN) | {"EventPattern", "Name", "Targets"}

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("Name") or place.name(logical_id))
        tags = pairs_of(tags_of(properties.get("Tags", [])))
        arn = self._call(place, "PutRule", **self._given(name, properties), Tags=tags)["RuleArn"]
        bus = str(properties.get("EventBusName", "default")).rpartition("/")[2]
        # On AWS, a rule of another bus is known by both names.
        made = Made(name if bus == "default" else f"{bus}|{name}", name, {"Arn": arn, "RuleName": name})
        undone(
            lambda: self._aim(place, made, {}, properties),
            lambda: self.delete(place, made, properties | {"Targets": []}),
        )
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        self._call(place, "PutRule", **self._given(made.name, after))
        self._aim(place, made, before, after)
        _retag(self, place, made, before, after)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._aim(place, made, properties, properties | {"Targets": []})
        self._gone(place, "DeleteRule", Name=made.name, **self._bus(properties))

    def _given(self, name: str, properties: Json) -> Json:
        given: Json = {key: properties[key] for key in self._PLAIN if key in properties}
        if "EventPattern" in properties:
            given["EventPattern"] = json.dumps(properties["EventPattern"])
        return given | {"Name": name}

    def _bus(self, properties: Json) -> Json:
        return {"EventBusName": properties["EventBusName"]} if "EventBusName" in properties else {}

    def _aim(self, place: Place, made: Made, before: Json, after: Json) -> None:
        kept = {target["Id"] for target in after.get("Targets", [])}
        bus = self._bus(after)
        if gone := [target["Id"] for target in before.get("Targets", []) if target["Id"] not in kept]:
            self._gone(place, "RemoveTargets", Rule=made.name, Ids=gone, **bus)
        if after.get("Targets"):
            self._call(place, "PutTargets", Rule=made.name, Targets=after["Targets"], **bus)


def _retag(kind: Called, place: Place, made: Made, before: Json, after: Json) -> None:
    arn = made.attributes["Arn"]
    gone, tags = retagged(before, after)
    if gone:
        kind._call(place, "UntagResource", ResourceARN=arn, TagKeys=gone)
    if tags:
        kind._call(place, "TagResource", ResourceARN=arn, Tags=pairs_of(tags))


TYPES: Final = (EventBus, Rule)
