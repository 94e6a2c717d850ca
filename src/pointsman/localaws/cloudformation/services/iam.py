"""IAM: policies. (Roles, users and groups are moto's models.)"""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from pointsman.localaws.cloudformation.called import Called, undone
from pointsman.localaws.cloudformation.resources import Made, Place, ResourceFailed
from pointsman.localaws.cloudformation.template import Json

_HOLDERS: Final = (("Groups", "Group"), ("Roles", "Role"), ("Users", "User"))


def _holders(properties: Json) -> Iterator[tuple[str, str]]:
    """(Group, Role or User; its name)"""
    for key, word in _HOLDERS:
        for name in properties.get(key, []):
            yield word, str(name)


class Policy(Called):
    """AWS::IAM::Policy: written into each of those who hold it."""

    type = "AWS::IAM::Policy"
    service = "iam"
    name_property = "PolicyName"
    known = frozenset({"Groups", "PolicyDocument", "PolicyName", "Roles", "Users"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        if not list(_holders(properties)):
            raise ResourceFailed("At least one of [Groups,Roles,Users] must be non-empty.")
        name = place.name(logical_id)
        self._put(place, properties)
        return Made(name, name, {"Id": name})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._put(place, after)
        kept = set(_holders(after)) if before["PolicyName"] == after["PolicyName"] else set()
        self._take(place, before, kept)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._take(place, properties, set())

    def _put(self, place: Place, properties: Json) -> None:
        for word, name in _holders(properties):
            given = {f"{word}Name": name, "PolicyName": properties["PolicyName"]}
            document = properties["PolicyDocument"]
            text = document if isinstance(document, str) else json.dumps(document)
            self._call(place, f"Put{word}Policy", **given, PolicyDocument=text)

    def _take(self, place: Place, properties: Json, kept: set[tuple[str, str]]) -> None:
        for word, name in _holders(properties):
            if (word, name) not in kept:
                given = {f"{word}Name": name, "PolicyName": properties["PolicyName"]}
                self._gone(place, f"Delete{word}Policy", **given)


class ManagedPolicy(Called):
    type = "AWS::IAM::ManagedPolicy"
    service = "iam"
    name_property = "ManagedPolicyName"
    known = frozenset({"Description", "Groups", "ManagedPolicyName", "Path", "PolicyDocument", "Roles", "Users"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("ManagedPolicyName") or place.name(logical_id, 128))
        given: Json = {key: properties[key] for key in ("Description", "Path") if key in properties}
        given["PolicyDocument"] = self._document(properties)
        found = self._call(place, "CreatePolicy", PolicyName=name, **given)["Policy"]
        made = Made(found["Arn"], name, {"PolicyArn": found["Arn"], "PolicyId": found["PolicyId"]})
        undone(lambda: self._attach(place, made, properties), lambda: self.delete(place, made, properties))
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        arn = made.physical_id
        if before["PolicyDocument"] != after["PolicyDocument"]:
            old = self._call(place, "ListPolicyVersions", PolicyArn=arn)["Versions"]
            for version in sorted((v for v in old if not v["IsDefaultVersion"]), key=lambda v: v["CreateDate"])[:-3]:
                self._call(place, "DeletePolicyVersion", PolicyArn=arn, VersionId=version["VersionId"])
            document = self._document(after)
            self._call(place, "CreatePolicyVersion", PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
        self._attach(place, made, after)
        for word, name in set(_holders(before)) - set(_holders(after)):
            self._gone(place, f"Detach{word}Policy", PolicyArn=arn, **{f"{word}Name": name})
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        arn = made.physical_id
        for word, name in _holders(properties):
            self._gone(place, f"Detach{word}Policy", PolicyArn=arn, **{f"{word}Name": name})
        for version in self._call(place, "ListPolicyVersions", PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                self._gone(place, "DeletePolicyVersion", PolicyArn=arn, VersionId=version["VersionId"])
        self._gone(place, "DeletePolicy", PolicyArn=arn)

    def _document(self, properties: Json) -> str:
        document = properties["PolicyDocument"]
        return document if isinstance(document, str) else json.dumps(document)

    def _attach(self, place: Place, made: Made, properties: Json) -> None:
        for word, name in _holders(properties):
            self._call(place, f"Attach{word}Policy", PolicyArn=made.physical_id, **{f"{word}Name": name})


TYPES: Final = (ManagedPolicy, Policy)
