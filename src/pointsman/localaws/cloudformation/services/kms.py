"""KMS: keys and aliases."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from typing import Final

from pointsman.localaws.cloudformation.called import Called, retagged, tags_of, undone
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class Key(Called):
    type = "AWS::KMS::Key"
    service = "kms"
    known = frozenset({
        "Description", "EnableKeyRotation", "Enabled", "KeyPolicy", "KeySpec", "KeyUsage", "MultiRegion", "Origin",
        "PendingWindowInDays",
    })  # fmt: skip

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        asked = ("Description", "KeySpec", "KeyUsage", "MultiRegion", "Origin")
        given: Json = {key: properties[key] for key in asked if key in properties}
        if "KeyPolicy" in properties:
            given["Policy"] = json.dumps(properties["KeyPolicy"])
        if properties.get("Tags"):
            given["Tags"] = _pairs(tags_of(properties["Tags"]))
        found = self._call(place, "CreateKey", **given)["KeyMetadata"]
        made = Made(found["KeyId"], found["KeyId"], {"Arn": found["Arn"], "KeyId": found["KeyId"]})
        undone(lambda: self._switch(place, made, {}, properties), lambda: self.delete(place, made, properties))
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        if before.get("Description") != after.get("Description"):
            self._call(place, "UpdateKeyDescription", KeyId=made.name, Description=after.get("Description", ""))
        if before.get("KeyPolicy") != after.get("KeyPolicy") and "KeyPolicy" in after:
            policy = json.dumps(after["KeyPolicy"])
            self._call(place, "PutKeyPolicy", KeyId=made.name, PolicyName="default", Policy=policy)
        self._switch(place, made, before, after)
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", KeyId=made.name, TagKeys=gone)
        if tags:
            self._call(place, "TagResource", KeyId=made.name, Tags=_pairs(tags))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        days = properties.get("PendingWindowInDays", 30)
        self._gone(place, "ScheduleKeyDeletion", KeyId=made.name, PendingWindowInDays=days)

    def _switch(self, place: Place, made: Made, before: Json, after: Json) -> None:
        if before.get("EnableKeyRotation", False) != after.get("EnableKeyRotation", False):
            verb = "Enable" if after.get("EnableKeyRotation") else "Disable"
            self._call(place, f"{verb}KeyRotation", KeyId=made.name)
        if before.get("Enabled", True) != after.get("Enabled", True):
            self._call(place, "EnableKey" if after.get("Enabled", True) else "DisableKey", KeyId=made.name)


def _pairs(tags: dict[str, str]) -> list[Json]:
    return [{"TagKey": key, "TagValue": value} for key, value in tags.items()]


class Alias(Called):
    type = "AWS::KMS::Alias"
    service = "kms"
    name_property = "AliasName"
    known = frozenset({"AliasName", "TargetKeyId"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._call(place, "CreateAlias", AliasName=properties["AliasName"], TargetKeyId=properties["TargetKeyId"])
        return Made(properties["AliasName"], properties["AliasName"])

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._call(place, "UpdateAlias", AliasName=made.name, TargetKeyId=after["TargetKeyId"])
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteAlias", AliasName=made.name)


TYPES: Final = (Alias, Key)
