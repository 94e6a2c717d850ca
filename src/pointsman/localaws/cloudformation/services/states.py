"""Step Functions: state machines."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from typing import Any, Final

from pointsman.localaws.cloudformation.called import Called, retagged, tags_of
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class StateMachine(Called):
    type = "AWS::StepFunctions::StateMachine"
    service = "stepfunctions"
    name_property = "StateMachineName"
    known = frozenset({
        "Definition", "DefinitionS3Location", "DefinitionString", "DefinitionSubstitutions", "LoggingConfiguration",
        "RoleArn", "StateMachineName", "StateMachineType", "TracingConfiguration",
    })  # fmt: skip

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("StateMachineName") or place.name(logical_id, 80))
        given = self._given(place, properties) | {"name": name, "type": properties.get("StateMachineType", "STANDARD")}
        tags = [{"key": key, "value": value} for key, value in tags_of(properties.get("Tags", [])).items()]
        arn = self._call(place, "CreateStateMachine", **given, **({"tags": tags} if tags else {}))["stateMachineArn"]
        return Made(arn, name, {"Arn": arn, "Name": name})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        self._call(place, "UpdateStateMachine", stateMachineArn=made.physical_id, **self._given(place, after))
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", resourceArn=made.physical_id, tagKeys=gone)
        if tags:
            pairs = [{"key": key, "value": value} for key, value in tags.items()]
            self._call(place, "TagResource", resourceArn=made.physical_id, tags=pairs)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteStateMachine", stateMachineArn=made.physical_id)

    def _given(self, place: Place, properties: Json) -> Json:
        given: Json = {"roleArn": properties["RoleArn"], "definition": self._definition(place, properties)}
        if logging := properties.get("LoggingConfiguration"):
            groups = [
                {"cloudWatchLogsLogGroup": {"logGroupArn": each["CloudWatchLogsLogGroup"]["LogGroupArn"]}}
                for each in logging.get("Destinations", [])
            ]
            given["loggingConfiguration"] = {
                "level": logging.get("Level", "OFF"),
                "includeExecutionData": logging.get("IncludeExecutionData", False),
                "destinations": groups,
            }
        if tracing := properties.get("TracingConfiguration"):
            given["tracingConfiguration"] = {"enabled": tracing.get("Enabled", False)}
        return given

    def _definition(self, place: Place, properties: Json) -> str:
        text: str = properties.get("DefinitionString") or json.dumps(properties.get("Definition"))
        if location := properties.get("DefinitionS3Location"):
            given: Json = {"Bucket": location["Bucket"], "Key": location["Key"]}
            if "Version" in location:
                given["VersionId"] = location["Version"]
            text = str(self._calls(place, "s3", "GetObject", given)["Body"].read().decode())
        for key, value in properties.get("DefinitionSubstitutions", {}).items():
            text = text.replace(f"${{{key}}}", _said(value))
        return text


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


TYPES: Final = (StateMachine,)
