"""Secrets Manager: secrets."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import json
from typing import Final

from pointsman.localaws.cloudformation.called import Called, pairs_of, retagged, tags_of
from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json


class Secret(Called):
    type = "AWS::SecretsManager::Secret"
    service = "secretsmanager"
    name_property = "Name"
    known = frozenset({"Description", "GenerateSecretString", "KmsKeyId", "Name", "SecretString"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        self._check(properties)
        name = str(properties.get("Name") or place.name(logical_id))
        tags = pairs_of(tags_of(properties.get("Tags", [])))
        given = self._given(place, properties)
        arn = self._call(place, "CreateSecret", Name=name, **given, **({"Tags": tags} if tags else {}))["ARN"]
        return Made(arn, name, {"Id": arn})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._check(after)
        same = before.get("GenerateSecretString") == after.get("GenerateSecretString")
        kept = {key: value for key, value in after.items() if not (same and key == "GenerateSecretString")}
        self._call(place, "UpdateSecret", SecretId=made.physical_id, **self._given(place, kept))
        gone, tags = retagged(before, after)
        if gone:
            self._call(place, "UntagResource", SecretId=made.physical_id, TagKeys=gone)
        if tags:
            self._call(place, "TagResource", SecretId=made.physical_id, Tags=pairs_of(tags))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone(place, "DeleteSecret", SecretId=made.physical_id, ForceDeleteWithoutRecovery=True)

    def _given(self, place: Place, properties: Json) -> Json:
        given: Json = {key: properties[key] for key in ("Description", "KmsKeyId", "SecretString") if key in properties}
        if "GenerateSecretString" in properties:
            wish = dict(properties["GenerateSecretString"])
            template, key = wish.pop("SecretStringTemplate", None), wish.pop("GenerateStringKey", None)
            password = self._call(place, "GetRandomPassword", **wish)["RandomPassword"]
            given["SecretString"] = json.dumps(json.loads(template) | {key: password}) if template else password
        return given


TYPES: Final = (Secret,)
