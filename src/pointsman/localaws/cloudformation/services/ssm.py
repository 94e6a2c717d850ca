"""SSM: parameters."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

from typing import Any, Final

from pointsman.localaws.cloudformation.called import Called
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class Parameter(Called):
    type = "AWS::SSM::Parameter"
    service = "ssm"
    name_property = "Name"
    known = frozenset({"AllowedPattern", "DataType", "Description", "Name", "Policies", "Tier", "Type", "Value"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("Name") or f"CFN-{place.name(logical_id)[len(place.stack_name) + 1 :]}")
        tags = _pairs(properties.get("Tags", {}))
        self._call(place, "PutParameter", **self._given(name, properties), **({"Tags": tags} if tags else {}))
        return self._made(name, properties)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        self._call(place, "PutParameter", **self._given(made.name, after), Overwrite=True)
        old, new = before.get("Tags", {}), after.get("Tags", {})
        named = {"ResourceType": "Parameter", "ResourceId": made.name}
        if gone := sorted(old.keys() - new.keys()):
            self._call(place, "RemoveTagsFromResource", **named, TagKeys=gone)
        if new:
            self._call(place, "AddTagsToResource", **named, Tags=_pairs(new))
        return self._made(made.name, after)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteParameter", Name=made.name)

    def _given(self, name: str, properties: Json) -> Json:
        return {key: value for key, value in properties.items() if key != "Tags"} | {"Name": name}

    def _made(self, name: str, properties: Json) -> Made:
        return Made(name, name, {"Type": properties["Type"], "Value": properties["Value"]})


def _pairs(tags: dict[str, Any]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": str(value)} for key, value in tags.items()]


TYPES: Final = (Parameter,)
