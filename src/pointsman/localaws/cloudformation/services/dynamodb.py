"""DynamoDB: tables."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

from typing import Any, Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, retagged, tags_of, undone
from pointsman.localaws.cloudformation.resources import Made, Place, ResourceFailed, changed_properties
from pointsman.localaws.cloudformation.template import Json


class Table(Called):
    type = "AWS::DynamoDB::Table"
    service = "dynamodb"
    name_property = "TableName"
    _AT_CREATION: Final = (
        "AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "GlobalSecondaryIndexes", "KeySchema",
        "LocalSecondaryIndexes", "ProvisionedThroughput", "TableClass",
    )  # fmt: skip
    known = frozenset(_AT_CREATION) | {
        "PointInTimeRecoverySpecification", "SSESpecification", "StreamSpecification", "TableName",
        "TimeToLiveSpecification",
    }  # fmt: skip

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("TableName") or place.name(logical_id, 255))
        given: Json = {key: properties[key] for key in self._AT_CREATION if key in properties}
        if "GlobalSecondaryIndexes" in given:
            given["GlobalSecondaryIndexes"] = [_index(each) for each in given["GlobalSecondaryIndexes"]]
        for key in ("StreamSpecification", "SSESpecification"):
            if key in properties:
                given[key] = self._specified(key, properties)
        if properties.get("Tags"):
            given["Tags"] = pairs_of(tags_of(properties["Tags"]))
        self._call(place, "CreateTable", TableName=name, **given)
        for key in self._afterwards(properties):
            undone(
                lambda key=key: self._say(place, name, key, properties),  # type: ignore[misc]
                lambda: self._gone(place, "DeleteTable", TableName=name),
            )
        return self._made(place, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        changed = changed_properties(before, after)
        plain = changed & {"BillingMode", "DeletionProtectionEnabled", "ProvisionedThroughput", "TableClass"}
        given: Json = {key: after[key] for key in plain if key in after}
        if given.get("BillingMode") == "PAY_PER_REQUEST":
            given.pop("ProvisionedThroughput", None)
        if "BillingMode" in changed and "BillingMode" not in after:
            given |= {"BillingMode": "PROVISIONED", "ProvisionedThroughput": after.get("ProvisionedThroughput")}
        if "DeletionProtectionEnabled" in changed:
            given["DeletionProtectionEnabled"] = after.get("DeletionProtectionEnabled", False)
        for key in changed & {"StreamSpecification", "SSESpecification"}:
            given[key] = self._specified(key, after)
        if given:
            self._call(place, "UpdateTable", TableName=made.name, **given)
        if "GlobalSecondaryIndexes" in changed:
            for step in _index_changes(before.get("GlobalSecondaryIndexes", []), after):
                definitions = after["AttributeDefinitions"]
                given = {"AttributeDefinitions": definitions, "GlobalSecondaryIndexUpdates": [step]}
                self._call(place, "UpdateTable", TableName=made.name, **given)
        for key in self._afterwards(before | after):
            if key in changed:
                self._say(place, made.name, key, after, before)
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", ResourceArn=made.attributes["Arn"], TagKeys=gone)
        if tags:
            self._call(place, "TagResource", ResourceArn=made.attributes["Arn"], Tags=pairs_of(tags))
        return self._made(place, made.name)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteTable", TableName=made.name)

    def _specified(self, key: str, properties: Json) -> Json:
        if key == "StreamSpecification":
            view = properties.get(key, {}).get("StreamViewType")
            return {"StreamEnabled": True, "StreamViewType": view} if view else {"StreamEnabled": False}
        given = properties.get(key, {"SSEEnabled": False})
        return {("Enabled" if name == "SSEEnabled" else name): value for name, value in given.items()}

    def _afterwards(self, properties: Json) -> list[str]:
        return sorted(properties.keys() & {"PointInTimeRecoverySpecification", "TimeToLiveSpecification"})

    def _say(self, place: Place, name: str, key: str, properties: Json, before: Json | None = None) -> None:
        if key == "PointInTimeRecoverySpecification":
            wish = properties.get(key) or {"PointInTimeRecoveryEnabled": False}
            given = {"PointInTimeRecoveryEnabled": False} | wish
            self._call(place, "UpdateContinuousBackups", TableName=name, PointInTimeRecoverySpecification=given)
            return
        old = (before or {}).get(key, {})
        wish = properties.get(key) or {"AttributeName": old.get("AttributeName"), "Enabled": False}
        if wish["Enabled"] or old.get("Enabled"):
            self._call(place, "UpdateTimeToLive", TableName=name, TimeToLiveSpecification=wish)

    def _made(self, place: Place, name: str) -> Made:
        found = self._call(place, "DescribeTable", TableName=name)["Table"]
        attributes: dict[str, Any] = {"Arn": found["TableArn"]}
        if found.get("StreamSpecification", {}).get("StreamEnabled"):
            attributes["StreamArn"] = found["LatestStreamArn"]
        return Made(name, name, attributes)


def _index(index: Json) -> Json:
    """Without the one setting that is no part of the index to DynamoDB's operations."""
    insights = index.get("ContributorInsightsSpecification", {})
    if insights.get("Enabled"):
        raise ResourceFailed("The local CloudFormation does not offer ContributorInsightsSpecification of an index.")
    return {key: value for key, value in index.items() if key != "ContributorInsightsSpecification"}


def _index_changes(before: list[Json], after: Json) -> list[Json]:
    old = {index["IndexName"]: _index(index) for index in before}
    new = {index["IndexName"]: _index(index) for index in after.get("GlobalSecondaryIndexes", [])}

    def keys(index: Json) -> Any:
        return index["KeySchema"], index.get("Projection")

    rebuilt = {name for name in old.keys() & new.keys() if keys(old[name]) != keys(new[name])}
    steps: list[Json] = [{"Delete": {"IndexName": name}} for name in old if name not in new or name in rebuilt]
    steps += [{"Create": index} for name, index in new.items() if name not in old or name in rebuilt]
    steps += [
        {"Update": {"IndexName": name, "ProvisionedThroughput": new[name]["ProvisionedThroughput"]}}
        for name in old.keys() & new.keys()
        if name not in rebuilt and old[name] != new[name] and "ProvisionedThroughput" in new[name]
    ]
    return steps


TYPES: Final = (Table,)
