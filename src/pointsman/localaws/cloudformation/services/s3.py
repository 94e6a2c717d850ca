"""S3: buckets and their policies. CloudFormation words most of a bucket's settings otherwise than S3 does."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, tags_of, undone
from pointsman.localaws.cloudformation.resources import Made, Place, ResourceFailed, changed_properties
from pointsman.localaws.cloudformation.template import Json


def _renamed(node: Json, names: Mapping[str, str]) -> Json:
    return {names.get(key, key): value for key, value in node.items()}


def _encryption(given: Json) -> Json:
    names = {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"}
    return {"Rules": [_renamed(rule, names) for rule in given["ServerSideEncryptionConfiguration"]]}


def _cors(given: Json) -> Json:
    names = {"ExposedHeaders": "ExposeHeaders", "Id": "ID", "MaxAge": "MaxAgeSeconds"}
    return {"CORSRules": [_renamed(rule, names) for rule in given["CorsRules"]]}


def _website(given: Json) -> Json:
    out = dict(given)
    if "IndexDocument" in out:
        out["IndexDocument"] = {"Suffix": out["IndexDocument"]}
    if "ErrorDocument" in out:
        out["ErrorDocument"] = {"Key": out["ErrorDocument"]}
    if "RoutingRules" in out:
        names = {"RedirectRule": "Redirect", "RoutingRuleCondition": "Condition"}
        out["RoutingRules"] = [_renamed(rule, names) for rule in out["RoutingRules"]]
    return out


def _lifecycle(given: Json) -> Json:
    return {"Rules": [_lifecycle_rule(rule) for rule in given["Rules"]]}


def _lifecycle_rule(rule: Json) -> Json:
    out: Json = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    expiration = {
        "Days": rule.get("ExpirationInDays"),
        "Date": rule.get("ExpirationDate"),
        "ExpiredObjectDeleteMarker": rule.get("ExpiredObjectDeleteMarker"),
    }
    if expiration := {key: value for key, value in expiration.items() if value is not None}:
        out["Expiration"] = expiration
    if days := rule.get("NoncurrentVersionExpirationInDays"):
        out["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
    for key in ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"):
        if key in rule:
            out[key] = rule[key]
    if "Transitions" in rule:
        names = {"TransitionInDays": "Days", "TransitionDate": "Date"}
        out["Transitions"] = [_renamed(each, names) for each in rule["Transitions"]]
    if "Id" in rule:
        out["ID"] = rule["Id"]
    left = rule.keys() - {
        "AbortIncompleteMultipartUpload", "ExpirationDate", "ExpirationInDays", "ExpiredObjectDeleteMarker", "Id",
        "NoncurrentVersionExpiration", "NoncurrentVersionExpirationInDays", "Prefix", "Status", "Transitions",
    }  # fmt: skip
    if left:
        raise ResourceFailed(f"The local CloudFormation does not offer {', '.join(sorted(left))} of a lifecycle rule.")
    return out


def _notification(given: Json) -> Json:
    out: Json = {}
    for key, arn, to in (
        ("LambdaConfigurations", "Function", "LambdaFunction"),
        ("QueueConfigurations", "Queue", "Queue"),
        ("TopicConfigurations", "Topic", "Topic"),
    ):
        for each in given.get(key, []):
            one: Json = {"Events": [each["Event"]], f"{to}Arn": each[arn]}
            if "Filter" in each:
                one["Filter"] = {"Key": {"FilterRules": each["Filter"]["S3Key"]["Rules"]}}
            out.setdefault(f"{to}Configurations", []).append(one)
    if given.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled", "EventBridgeConfiguration" in given):
        out["EventBridgeConfiguration"] = {}
    return out


def _as_it_is(given: Json) -> Json:
    return given


_Setting = tuple[str, str, Callable[[Json], Json], str | None]
# Property → (operation, its parameter, the wording, what takes it away; None: what "empty" is is said below)
_SETTINGS: Final[Mapping[str, _Setting]] = {
    "BucketEncryption": (
        "PutBucketEncryption", "ServerSideEncryptionConfiguration", _encryption, "DeleteBucketEncryption",
    ),
    "CorsConfiguration": ("PutBucketCors", "CORSConfiguration", _cors, "DeleteBucketCors"),
    "LifecycleConfiguration": (
        "PutBucketLifecycleConfiguration", "LifecycleConfiguration", _lifecycle, "DeleteBucketLifecycle",
    ),
    "NotificationConfiguration": (
        "PutBucketNotificationConfiguration", "NotificationConfiguration", _notification, None,
    ),
    "OwnershipControls": (
        "PutBucketOwnershipControls", "OwnershipControls", _as_it_is, "DeleteBucketOwnershipControls",
    ),
    "PublicAccessBlockConfiguration": (
        "PutPublicAccessBlock", "PublicAccessBlockConfiguration", _as_it_is, "DeletePublicAccessBlock",
    ),
    "VersioningConfiguration": ("PutBucketVersioning", "VersioningConfiguration", _as_it_is, None),
    "WebsiteConfiguration": ("PutBucketWebsite", "WebsiteConfiguration", _website, "DeleteBucketWebsite"),
}  # fmt: skip
_EMPTY: Final[Mapping[str, Json]] = {
    "NotificationConfiguration": {},
    "VersioningConfiguration": {"Status": "Suspended"},
}


class Bucket(Called):
    type = "AWS::S3::Bucket"
    service = "s3"
    name_property = "BucketName"
    known = frozenset(_SETTINGS) | {"AccessControl", "BucketName"}

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("BucketName") or place.name(logical_id, 63).lower())
        given: Json = {}
        if place.region != "us-east-1":
            given["CreateBucketConfiguration"] = {"LocationConstraint": place.region}
        if "AccessControl" in properties:
            given["ACL"] = _acl(properties["AccessControl"])
        self._call(place, "CreateBucket", Bucket=name, **given)
        made = Made(name, name, self._attributes(place, name))
        undone(lambda: self._configure(place, made, {}, properties), lambda: self.delete(place, made, properties))
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        self._configure(place, made, before, after)
        if before.get("AccessControl") != after.get("AccessControl"):
            acl = _acl(after.get("AccessControl", "Private"))
            self._call(place, "PutBucketAcl", Bucket=made.name, ACL=acl)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteBucket", Bucket=made.name)

    def _configure(self, place: Place, made: Made, before: Json, after: Json) -> None:
        for key in sorted(changed_properties(before, after) & _SETTINGS.keys()):
            put, parameter, worded, delete = _SETTINGS[key]
            if key in after or delete is None:
                said = worded(after[key]) if key in after else _EMPTY[key]
                self._call(place, put, **{"Bucket": made.name, parameter: said})
            else:
                self._gone(place, delete, Bucket=made.name)
        tags = pairs_of(tags_of(after.get("Tags", [])))
        if tags:
            self._call(place, "PutBucketTagging", Bucket=made.name, Tagging={"TagSet": tags})
        elif before.get("Tags"):
            self._gone(place, "DeleteBucketTagging", Bucket=made.name)

    def _attributes(self, place: Place, name: str) -> Mapping[str, Any]:
        return {
            "Arn": f"arn:{place.partition}:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "DualStackDomainName": f"{name}.s3.dualstack.{place.region}.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{place.region}.amazonaws.com",
            "WebsiteURL": f"http://{name}.s3-website-{place.region}.amazonaws.com",
        }


def _acl(word: str) -> str:
    """PublicRead → public-read"""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in word).removeprefix("-")


class BucketPolicy(Called):
    type = "AWS::S3::BucketPolicy"
    service = "s3"
    known = frozenset({"Bucket", "PolicyDocument"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        return self.update(place, Made(properties["Bucket"], properties["Bucket"]), {}, properties)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        document = after["PolicyDocument"]
        text = document if isinstance(document, str) else json.dumps(document)
        self._call(place, "PutBucketPolicy", Bucket=made.name, Policy=text)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteBucketPolicy", Bucket=made.name)


TYPES: Final = (Bucket, BucketPolicy)
