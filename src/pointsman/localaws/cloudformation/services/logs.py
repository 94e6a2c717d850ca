"""CloudWatch Logs: groups, streams and what is done with their lines."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

from typing import Final

from pointsman.localaws.cloudformation.called import Called, retagged, tags_of, undone
from pointsman.localaws.cloudformation.resources import Made, Place, changed_properties
from pointsman.localaws.cloudformation.template import Json


class LogGroup(Called):
    type = "AWS::Logs::LogGroup"
    service = "logs"
    name_property = "LogGroupName"
    known = frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName", "RetentionInDays"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("LogGroupName") or place.name(logical_id, 512))
        given = {
            to: properties[key]
            for key, to in (("KmsKeyId", "kmsKeyId"), ("LogGroupClass", "logGroupClass"))
            if key in properties
        }
        tags = tags_of(properties.get("Tags", []))
        self._call(place, "CreateLogGroup", logGroupName=name, **given, **({"tags": tags} if tags else {}))
        arn = f"arn:{place.partition}:logs:{place.region}:{place.account}:log-group:{name}:*"
        made = Made(name, name, {"Arn": arn})
        undone(lambda: self._retain(place, name, properties), lambda: self.delete(place, made, properties))
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        changed = changed_properties(before, after)
        if "RetentionInDays" in changed:
            self._retain(place, made.name, after)
        if "KmsKeyId" in changed:
            if "KmsKeyId" in after:
                self._call(place, "AssociateKmsKey", logGroupName=made.name, kmsKeyId=after["KmsKeyId"])
            else:
                self._call(place, "DisassociateKmsKey", logGroupName=made.name)
        arn = made.attributes["Arn"].removesuffix(":*")
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", resourceArn=arn, tagKeys=gone)
        if tags:
            self._call(place, "TagResource", resourceArn=arn, tags=tags)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteLogGroup", logGroupName=made.name)

    def _retain(self, place: Place, name: str, properties: Json) -> None:
        if days := properties.get("RetentionInDays"):
            self._call(place, "PutRetentionPolicy", logGroupName=name, retentionInDays=days)
        else:
            self._call(place, "DeleteRetentionPolicy", logGroupName=name)


class LogStream(Called):
    type = "AWS::Logs::LogStream"
    service = "logs"
    name_property = "LogStreamName"
    known = frozenset({"LogGroupName", "LogStreamName"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("LogStreamName") or place.name(logical_id, 512))
        self._call(place, "CreateLogStream", logGroupName=properties["LogGroupName"], logStreamName=name)
        return Made(name, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteLogStream", logGroupName=properties["LogGroupName"], logStreamName=made.name)


class SubscriptionFilter(Called):
    type = "AWS::Logs::SubscriptionFilter"
    service = "logs"
    name_property = "FilterName"
    known = frozenset({"DestinationArn", "Distribution", "FilterName", "FilterPattern", "LogGroupName", "RoleArn"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("FilterName") or place.name(logical_id, 512))
        return self.update(place, Made(name, name), {}, properties)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        given = {key[0].lower() + key[1:]: value for key, value in after.items() if key not in ("FilterName", "Tags")}
        self._call(place, "PutSubscriptionFilter", **given, filterName=made.name)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        group = properties["LogGroupName"]
        self._gone(place, "DeleteSubscriptionFilter", logGroupName=group, filterName=made.name)


class MetricFilter(Called):
    type = "AWS::Logs::MetricFilter"
    service = "logs"
    name_property = "FilterName"
    known = frozenset({"FilterName", "FilterPattern", "LogGroupName", "MetricTransformations"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("FilterName") or place.name(logical_id, 512))
        return self.update(place, Made(name, name), {}, properties)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        transformations = [_lowered(each) for each in after["MetricTransformations"]]
        given = {"logGroupName": after["LogGroupName"], "filterPattern": after["FilterPattern"]}
        self._call(place, "PutMetricFilter", **given, filterName=made.name, metricTransformations=transformations)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteMetricFilter", logGroupName=properties["LogGroupName"], filterName=made.name)


def _lowered(transformation: Json) -> Json:
    given = {key[0].lower() + key[1:]: value for key, value in transformation.items()}
    if "dimensions" in given:
        given["dimensions"] = {each["Key"]: each["Value"] for each in given["dimensions"]}
    return given


TYPES: Final = (LogGroup, LogStream, MetricFilter, SubscriptionFilter)
