"""SNS: topics, subscriptions and topics' policies."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from typing import Any, Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, retagged, tags_of, text_of
from pointsman.localaws.cloudformation.resources import Made, Place, changed_properties
from pointsman.localaws.cloudformation.template import Json


class Topic(Called):
    type = "AWS::SNS::Topic"
    service = "sns"
    name_property = "TopicName"
    _ATTRIBUTES: Final = {
        "ArchivePolicy": "{}",
        "ContentBasedDeduplication": "false",
        "DisplayName": "",
        "FifoThroughputScope": "Topic",
        "FifoTopic": "false",
        "KmsMasterKeyId": "",
        "SignatureVersion": "1",
        "TracingConfig": "PassThrough",
    }
    known = frozenset(_ATTRIBUTES) | {"TopicName", "Subscription"}

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        suffix = ".fifo" if properties.get("FifoTopic") else ""
        name = str(properties.get("TopicName") or place.name(logical_id, 256 - len(suffix)) + suffix)
        given = {key: text_of(properties[key]) for key in self._ATTRIBUTES if key in properties}
        tags = pairs_of(tags_of(properties.get("Tags", [])))
        arn = self._call(place, "CreateTopic", Name=name, Attributes=given, Tags=tags)["TopicArn"]
        for each in properties.get("Subscription", []):
            self._call(place, "Subscribe", TopicArn=arn, **each)
        return Made(arn, name, {"TopicArn": arn, "TopicName": name})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        arn = made.physical_id
        for key in sorted(changed_properties(before, after) & self._ATTRIBUTES.keys()):
            value = text_of(after.get(key, self._ATTRIBUTES[key]))
            self._call(place, "SetTopicAttributes", TopicArn=arn, AttributeName=key, AttributeValue=value)
        old, new = before.get("Subscription", []), after.get("Subscription", [])
        there = self._call(place, "ListSubscriptionsByTopic", TopicArn=arn)["Subscriptions"]
        for each in there:
            if any(each["Endpoint"] == gone["Endpoint"] for gone in old if gone not in new):
                self._call(place, "Unsubscribe", SubscriptionArn=each["SubscriptionArn"])
        for each in new:
            if each not in old:
                self._call(place, "Subscribe", TopicArn=arn, **each)
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", ResourceArn=arn, TagKeys=gone)
        if tags:
            self._call(place, "TagResource", ResourceArn=arn, Tags=pairs_of(tags))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteTopic", TopicArn=made.physical_id)


class Subscription(Called):
    type = "AWS::SNS::Subscription"
    service = "sns"
    _ATTRIBUTES: Final = {
        "DeliveryPolicy": "{}",
        "FilterPolicy": "{}",
        "FilterPolicyScope": "MessageAttributes",
        "RawMessageDelivery": "false",
        "RedrivePolicy": "{}",
        "SubscriptionRoleArn": "",
    }
    known = frozenset(_ATTRIBUTES) | {"Endpoint", "Protocol", "Region", "TopicArn"}

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        given: Json = {key: properties[key] for key in ("TopicArn", "Protocol", "Endpoint") if key in properties}
        given["Attributes"] = {key: text_of(properties[key]) for key in self._ATTRIBUTES if key in properties}
        arn = self._call(place, "Subscribe", **given, ReturnSubscriptionArn=True)["SubscriptionArn"]
        return Made(arn, arn, {"Arn": arn})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        for key in sorted(changed_properties(before, after) & self._ATTRIBUTES.keys()):
            value = text_of(after.get(key, self._ATTRIBUTES[key]))
            given = {"AttributeName": key, "AttributeValue": value}
            self._call(place, "SetSubscriptionAttributes", SubscriptionArn=made.physical_id, **given)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "Unsubscribe", SubscriptionArn=made.physical_id)


class TopicPolicy(Called):
    type = "AWS::SNS::TopicPolicy"
    service = "sns"
    known = frozenset({"PolicyDocument", "Topics"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._put(place, properties["Topics"], properties["PolicyDocument"])
        name = place.name(logical_id)
        return Made(name, name, {"Id": name})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._reset(place, [each for each in before["Topics"] if each not in after["Topics"]])
        self._put(place, after["Topics"], after["PolicyDocument"])
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._reset(place, properties["Topics"])

    def _put(self, place: Place, topics: list[str], document: Any) -> None:
        for arn in topics:
            given = {"AttributeName": "Policy", "AttributeValue": json.dumps(document)}
            self._call(place, "SetTopicAttributes", TopicArn=arn, **given)

    def _reset(self, place: Place, topics: list[str]) -> None:
        """To the policy that a topic has from the beginning (recorded)."""
        for arn in topics:
            owner = {"StringEquals": {"AWS:SourceOwner": place.account}}
            actions = [f"SNS:{name}" for name in _OWNERS]
            statement = {"Sid": "__default_statement_ID", "Effect": "Allow", "Principal": {"AWS": "*"}}
            document = {
                "Version": "2008-10-17",
                "Id": "__default_policy_ID",
                "Statement": [statement | {"Action": actions, "Resource": arn, "Condition": owner}],
            }
            given = {"AttributeName": "Policy", "AttributeValue": json.dumps(document)}
            self._gone(place, "SetTopicAttributes", TopicArn=arn, **given)


_OWNERS: Final = (
    "GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic", "Subscribe",
    "ListSubscriptionsByTopic", "Publish",
)  # fmt: skip

TYPES: Final = (Subscription, Topic, TopicPolicy)
