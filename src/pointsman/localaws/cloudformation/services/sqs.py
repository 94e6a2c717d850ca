"""SQS: queues and their policies."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from typing import Any, Final

from pointsman.localaws.cloudformation.called import Called, retagged, tags_of, text_of
from pointsman.localaws.cloudformation.resources import Made, Place, changed_properties
from pointsman.localaws.cloudformation.template import Json


class Queue(Called):
    type = "AWS::SQS::Queue"
    service = "sqs"
    name_property = "QueueName"

    # The attributes, and what they are when a template does not say.
    _ATTRIBUTES: Final = {
        "ContentBasedDeduplication": "false",
        "DeduplicationScope": "queue",
        "DelaySeconds": "0",
        "FifoQueue": "false",
        "FifoThroughputLimit": "perQueue",
        "KmsDataKeyReusePeriodSeconds": "300",
        "KmsMasterKeyId": "",
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        "ReceiveMessageWaitTimeSeconds": "0",
        "RedriveAllowPolicy": "",
        "RedrivePolicy": "",
        "SqsManagedSseEnabled": "true",
        "VisibilityTimeout": "30",
    }
    known = frozenset(_ATTRIBUTES) | {"QueueName"}

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        suffix = ".fifo" if properties.get("FifoQueue") else ""
        name = str(properties.get("QueueName") or place.name(logical_id, 80 - len(suffix)) + suffix)
        # FifoQueue may be said of a FIFO queue only, and then only as true.
        given = {k: text_of(v) for k, v in properties.items() if k in self._ATTRIBUTES and (k != "FifoQueue" or v)}
        tags = tags_of(properties.get("Tags", []))
        url = self._call(place, "CreateQueue", QueueName=name, Attributes=given, tags=tags)["QueueUrl"]
        arn = f"arn:{place.partition}:sqs:{place.region}:{place.account}:{name}"
        return Made(url, name, {"Arn": arn, "QueueName": name, "QueueUrl": url})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        changed = changed_properties(before, after) & self._ATTRIBUTES.keys()
        given = {key: text_of(after.get(key, self._ATTRIBUTES[key])) for key in changed}
        if given:
            self._call(place, "SetQueueAttributes", QueueUrl=made.physical_id, Attributes=given)
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagQueue", QueueUrl=made.physical_id, TagKeys=gone)
        if tags:
            self._call(place, "TagQueue", QueueUrl=made.physical_id, Tags=tags)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteQueue", QueueUrl=made.physical_id)


class QueuePolicy(Called):
    type = "AWS::SQS::QueuePolicy"
    service = "sqs"
    known = frozenset({"PolicyDocument", "Queues"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._put(place, properties["Queues"], json.dumps(properties["PolicyDocument"]))
        name = place.name(logical_id)
        return Made(name, name, {"Id": name})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._put(place, [each for each in before["Queues"] if each not in after["Queues"]], "")
        self._put(place, after["Queues"], json.dumps(after["PolicyDocument"]))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        for url in properties["Queues"]:
            self._gone(place, "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": ""})

    def _put(self, place: Place, queues: list[Any], policy: str) -> None:
        for url in queues:
            self._call(place, "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": policy})


TYPES: Final = (Queue, QueuePolicy)
