"""Layers: numbered, immutable packages that functions name, who else may use them, and how a function gets them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pointsman.localaws.lambda_.address import partition_of
from pointsman.localaws.lambda_.errors import (
    LambdaError,
    conflict,
    invalid,
    stale_layer_policy,
    validation,
)
from pointsman.localaws.lambda_.packages import sha256_of
from pointsman.localaws.lambda_.settings import CREATABLE
from pointsman.localaws.lambda_.sources import Sources, code_path
from pointsman.localaws.lambda_.store import (
    after_marker,
    layer_arn,
    marker,
    new_revision,
    page_size,
    timestamp,
)
from pointsman.localaws.lambda_.wire import Json, known_runtimes, problems, validate

MOST_LAYERS: Final = 5
MOST_POLICY: Final = 20_480
MOST_RUNTIMES: Final = 15
_MOST: Final = (1 << 63) - 1  # what SQLite can count to

# What the lists take as a runtime, in the order in which AWS's refusal of another names them (recorded).
_LISTABLE: Final = (
    "ruby3.5", "ruby2.6", "dotnetcore1.0", "python3.7", "nodejs8.10", "nasa", "ruby2.7", "python2.7-greengrass",
    "dotnetcore2.0", "python3.8", "java21", "dotnet6", "dotnetcore2.1", "python3.9", "java11", "nodejs6.10", "provided",
    "dotnetcore3.1", "dotnet8", "java25", "java17", "nodejs", "nodejs4.3", "java8.al2", "go1.x", "dotnet10",
    "nodejs20.x", "go1.9", "byol", "nodejs10.x", "provided.al2023", "nodejs22.x", "python3.10", "java8", "nodejs12.x",
    "python3.11", "nodejs24.x", "nodejs8.x", "python3.12", "nodejs14.x", "nodejs8.9", "nodejs26.x", "python3.13",
    "python3.14", "nodejs16.x", "python3.15", "provided.al2", "nodejs4.3-edge", "nodejs18.x", "ruby3.2", "python3.4",
    "ruby3.3", "ruby3.4", "ruby2.5", "python3.6", "python2.7",
)  # fmt: skip

_ARN = re.compile(
    r"arn:[^:]+:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[^:]+)(?::(?P<number>\d+))?"
)
_COLUMNS = "layer, number, facts, code, code_size, policy, policy_revision"


@dataclass(frozen=True, slots=True)
class _Place:
    """A layer as a caller names it, whether or not it exists."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return layer_arn(self.account, self.region, self.name)


@dataclass(frozen=True, slots=True)
class _LayerVersion:
    layer: int
    number: int
    facts: Json  # what was given at publishing, as AWS shows it
    code: str
    code_size: int
    statements: list[Json]
    policy_revision: str | None


class Layers(Sources):
    # --- publish, read, delete ---

    def publish_layer_version(self, account: str, region: str, parameters: Json) -> Json:
        broken = problems("PublishLayerVersion", parameters)
        runtimes = parameters.get("CompatibleRuntimes", [])
        if len(runtimes) > MOST_RUNTIMES:
            broken.append(
                f"Value '[{', '.join(runtimes)}]' at 'compatibleRuntimes' failed to satisfy constraint: "
                f"Member must have length less than or equal to {MOST_RUNTIMES}"
            )
        if not set(runtimes) <= set(known_runtimes()):
            # Recorded: named ahead of the other problems, with what functions may have, though more is taken.
            broken.insert(
                0,
                f"Value '[{', '.join(runtimes)}]' at 'compatibleRuntimes' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(CREATABLE)}]",
            )
        if broken:
            raise validation(broken)
        place = self._layer(account, region, parameters["LayerName"])
        if place.account != account:
            raise _denied(account, region, "PublishLayerVersion", place.arn)
        package = self._package(account, region, parameters["Content"])
        facts: Json = {"Description": parameters.get("Description", ""), "CreatedDate": timestamp(self._now())}
        facts |= {
            key: parameters[key]
            for key in ("CompatibleArchitectures", "CompatibleRuntimes", "LicenseInfo")
            if key in parameters
        }
        with self._storing(account, region):
            layer, number = self._db.execute(
                "INSERT INTO layer (account, region, name, last) VALUES (?, ?, ?, 1)"
                " ON CONFLICT DO UPDATE SET last = last + 1 RETURNING id, last",
                (account, region, place.name),
            ).fetchone()
            self._db.execute(
                "INSERT INTO layer_version (layer, number, facts, code, code_size) VALUES (?, ?, ?, ?, ?)",
                (layer, number, msgspec.json.encode(facts), package.digest, package.size),
            )
        return _shown(place, _LayerVersion(layer, number, facts, package.digest, package.size, [], None))

    def get_layer_version(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetLayerVersion", parameters)
        place, number = self._numbered(account, region, parameters)
        return self._readable(account, region, place, number)

    def get_layer_version_by_arn(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetLayerVersionByArn", parameters)
        place, number = _named(parameters["Arn"])
        if place is None:
            raise _no_resource()
        return self._readable(account, region, place, number)

    def delete_layer_version(self, account: str, region: str, parameters: Json) -> Json:
        """Functions that have it keep it; deleting what is not there is silently fine (recorded)."""
        validate("DeleteLayerVersion", parameters)
        place, number = self._numbered(account, region, parameters)
        if place.account != account:
            raise _denied(account, region, "DeleteLayerVersion", f"{place.arn}:{number}")
        with self._writing():
            self._db.execute(
                "UPDATE layer_version SET deleted = 1, policy = NULL, policy_revision = NULL WHERE number = ?"
                " AND layer = (SELECT id FROM layer WHERE account = ? AND region = ? AND name = ?)",
                (min(number, _MOST), place.account, place.region, place.name),
            )
        return {}

    def _readable(self, account: str, region: str, place: _Place, number: int) -> Json:
        with self._lock:
            found = None if place.region != region else self._layer_version(place, number)
        if place.account != account and (found is None or not _permits(found, account)):
            raise _denied(account, region, "GetLayerVersion", f"{place.arn}:{number}")
        if found is None:
            raise _no_resource()
        return _shown(place, found)

    # --- lists ---

    def list_layer_versions(self, account: str, region: str, parameters: Json) -> Json:
        """Newest first."""
        _validate_list("ListLayerVersions", parameters)
        place = self._layer(account, region, parameters["LayerName"])
        if place.account != account:
            raise _denied(account, region, "ListLayerVersions", place.arn)
        size = page_size(parameters)
        (before,) = after_marker(parameters, _MOST)
        condition, values = _matching(parameters)
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM layer_version JOIN layer ON id = layer"
                f" WHERE account = ? AND region = ? AND name = ? AND number < ? AND {condition}"
                " ORDER BY number DESC LIMIT ?",
                (account, region, place.name, before, *values, size + 1),
            )
            found = [_as_layer_version(row) for row in rows]
        reply: Json = {"LayerVersions": [_listed(place, version) for version in found[:size]]}
        if len(found) > size:
            reply["NextMarker"] = marker(found[size - 1].number)
        return reply

    def list_layers(self, account: str, region: str, parameters: Json) -> Json:
        """In order of name, each with its newest version that matches; layers without one are left out."""
        _validate_list("ListLayers", parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, "")
        condition, values = _matching(parameters)
        with self._lock:
            rows = self._db.execute(
                f"SELECT name, MAX(number), {_COLUMNS} FROM layer JOIN layer_version ON layer = id"
                f" WHERE account = ? AND region = ? AND name > ? AND {condition}"
                " GROUP BY name ORDER BY name LIMIT ?",
                (account, region, after, *values, size + 1),
            ).fetchall()
        layers: list[Json] = []
        for name, _, *row in rows[:size]:
            place = _Place(account, region, name)
            newest = _listed(place, _as_layer_version(row))
            layers.append({"LayerName": name, "LayerArn": place.arn, "LatestMatchingVersion": newest})
        reply: Json = {"Layers": layers}
        if len(rows) > size:
            reply["NextMarker"] = marker(rows[size - 1][0])
        return reply

    # --- permissions ---

    def add_layer_version_permission(self, account: str, region: str, parameters: Json) -> Json:
        validate("AddLayerVersionPermission", parameters)
        place, number = self._numbered(account, region, parameters)
        statement = _statement(place, number, parameters)
        with self._writing():
            found = self._owned(account, "AddLayerVersionPermission", place, number)
            _expect_policy(found, parameters)
            if any(each["Sid"] == statement["Sid"] for each in found.statements):
                raise conflict(
                    f"The statement id ({statement['Sid']}) provided already exists. "
                    "Please provide a new statement id, or remove the existing statement."
                )
            revision = self._put_layer_policy(found, [*found.statements, statement])
        return {"Statement": _text(statement), "RevisionId": revision}

    def remove_layer_version_permission(self, account: str, region: str, parameters: Json) -> Json:
        validate("RemoveLayerVersionPermission", parameters)
        place, number = self._numbered(account, region, parameters)
        with self._writing():
            found = self._owned(account, "RemoveLayerVersionPermission", place, number)
            kept = [each for each in found.statements if each["Sid"] != parameters["StatementId"]]
            if len(kept) == len(found.statements):
                raise _missing(f"Statement {parameters['StatementId']} is not found in resource policy.")
            _expect_policy(found, parameters)
            self._put_layer_policy(found, kept)
        return {}

    def get_layer_version_policy(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetLayerVersionPolicy", parameters)
        place, number = self._numbered(account, region, parameters)
        with self._lock:
            found = self._owned(account, "GetLayerVersionPolicy", place, number)
        if not found.statements:
            raise _missing("No policy is associated with the given resource.")
        return {"Policy": _text(_policy(found.statements)), "RevisionId": found.policy_revision}

    def _owned(self, account: str, operation: str, place: _Place, number: int) -> _LayerVersion:
        if place.account != account:
            raise _denied(account, place.region, operation, f"{place.arn}:{number}")
        found = self._layer_version(place, number)
        if found is None:
            raise _missing(f"Layer version {place.arn}:{number} does not exist.")
        return found

    def _put_layer_policy(self, version: _LayerVersion, statements: list[Json]) -> str:
        size = len(_text(_policy(statements)))
        if size > MOST_POLICY:
            raise LambdaError(
                "PolicyLengthExceededException",
                400,
                f"The final policy size ({size}) is bigger than the limit ({MOST_POLICY}).",
            )
        revision = new_revision()
        self._db.execute(
            "UPDATE layer_version SET policy = ?, policy_revision = ? WHERE layer = ? AND number = ?",
            (
                msgspec.json.encode(statements) if statements else None,
                revision if statements else None,
                version.layer,
                version.number,
            ),
        )
        return revision

    # --- what functions ask ---

    def _named_layers(self, account: str, region: str, arns: Sequence[str]) -> list[Json]:
        """The layers a function's parameters name, as its configuration shows them, or AWS's refusal."""
        if len(arns) > MOST_LAYERS:
            raise invalid(f"Cannot reference more than {MOST_LAYERS} layers.")
        layers: list[Json] = []
        named: dict[str, str] = {}
        for arn in arns:
            place, number = _named(arn)
            found = None if place is None or place.region != region else self._layer_version(place, number)
            if place is not None and place.account != account:
                if found is None:
                    # On AWS it may be there, and public (Powertools, AWS's extensions): the words must not mislead.
                    why = f" (the local AWS has it only once account {place.account} has published it here)"
                    raise _denied(account, region, "GetLayerVersion", arn, why)
                if not _permits(found, account):
                    raise _denied(account, region, "GetLayerVersion", arn)
            elif place is not None and place.region != region:
                raise invalid(
                    f"Layers are not in the same region as the function. Layers are expected to be in region {region}."
                )
            if place is None or found is None:
                raise invalid(f"Layer version {arn} does not exist.")
            if place.arn in named:
                raise invalid(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. "
                    f"{named[place.arn]} and {arn} are versions of the same layer."
                )
            named[place.arn] = arn
            layers.append({"Arn": arn, "CodeSize": found.code_size})
        return layers

    def _layer_codes(self, settings: Json) -> list[str]:
        """The packages of a function's layers, in order; those deleted since then, too."""
        codes = []
        for layer in settings.get("Layers", ()):
            place, number = _named(layer["Arn"])
            found = None if place is None else self._layer_version(place, number, deleted=True)
            assert found is not None, "a layer version stays while a function has it"
            codes.append(found.code)
        return codes

    def _layers_unzipped(self, settings: Json) -> int:
        return sum(self.packages.unzipped_size(code) for code in self._layer_codes(settings))

    def _opt(self, settings: Json) -> Path:
        with self._lock:
            return self.packages.opt(self._layer_codes(settings))

    # --- finding ---

    def _layer(self, account: str, region: str, name: str) -> _Place:
        """The layer of that name or ARN."""
        place = _named(name)[0] or _Place(account, region, name)
        if place.region != region:
            raise _no_resource()
        return place

    def _numbered(self, account: str, region: str, given: Json) -> tuple[_Place, int]:
        if given["VersionNumber"] < 1:
            raise invalid("Layer Version Cannot be less than 1")
        return self._layer(account, region, given["LayerName"]), given["VersionNumber"]

    def _layer_version(self, place: _Place, number: int, *, deleted: bool = False) -> _LayerVersion | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM layer_version JOIN layer ON id = layer"
            " WHERE account = ? AND region = ? AND name = ? AND number = ? AND deleted <= ?",
            (place.account, place.region, place.name, min(number, _MOST), deleted),
        ).fetchone()
        return None if row is None else _as_layer_version(row)


def _as_layer_version(row: Sequence[Any]) -> _LayerVersion:
    layer, number, facts, code, code_size, policy, revision = row
    statements = [] if policy is None else msgspec.json.decode(policy)
    return _LayerVersion(layer, number, msgspec.json.decode(facts), code, code_size, statements, revision)


def _named(arn: str) -> tuple[_Place | None, int]:
    """The layer and number an ARN names; (None, 0) when it is none, or one of AWS's own (awslayer)."""
    found = _ARN.fullmatch(arn)
    if found is None:
        return None, 0
    return _Place(found["account"], found["region"], found["name"]), int(found["number"] or 0)


def _matching(given: Json) -> tuple[str, list[str]]:
    """What a list's filters ask of a layer version: (SQL, its values)."""
    condition, values = "NOT deleted", []
    for name, fact in (
        ("CompatibleRuntime", "CompatibleRuntimes"),
        ("CompatibleArchitecture", "CompatibleArchitectures"),
    ):
        if name in given:
            condition += f" AND ? IN (SELECT value FROM json_each(CAST(facts AS TEXT), '$.{fact}'))"
            values.append(given[name])
    return condition, values


def _validate_list(operation: str, given: Json) -> None:
    broken = problems(operation, given)
    runtime = given.get("CompatibleRuntime")
    if runtime is not None and runtime not in _LISTABLE and runtime not in known_runtimes():
        broken.append(
            f"Value '{runtime}' at 'compatibleRuntime' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(_LISTABLE)}]"
        )
    if broken:
        raise validation(broken)


def _permits(version: _LayerVersion, account: str) -> bool:
    """Whether its policy lets another account use it. Organizations are not known here, so they permit nobody."""
    return any(
        "Condition" not in each and (each["Principal"] == "*" or each["Principal"]["AWS"].split(":")[4] == account)
        for each in version.statements
    )


def _expect_policy(version: _LayerVersion, given: Json) -> None:
    if given.get("RevisionId") not in (None, version.policy_revision):
        raise stale_layer_policy()


def _statement(place: _Place, number: int, given: Json) -> Json:
    principal = given["Principal"]
    if principal.isdecimal():
        principal = f"arn:{partition_of(place.region)}:iam::{principal}:root"
    statement: Json = {
        "Sid": given["StatementId"],
        "Effect": "Allow",
        "Principal": "*" if principal == "*" else {"AWS": principal},
        "Action": given["Action"],
        "Resource": f"{place.arn}:{number}",
    }
    if "OrganizationId" in given:
        statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": given["OrganizationId"]}}
    return statement


def _policy(statements: list[Json]) -> Json:
    return {"Version": "2012-10-17", "Id": "default", "Statement": statements}


def _text(document: Json) -> str:
    return msgspec.json.encode(document).decode()


def _listed(place: _Place, version: _LayerVersion) -> Json:
    return {"LayerVersionArn": f"{place.arn}:{version.number}", "Version": version.number} | version.facts


def _shown(place: _Place, version: _LayerVersion) -> Json:
    """With where to get it: a path below this service; whoever answers over HTTP puts scheme and host before it."""
    content = {
        "Location": code_path(version.code),
        "CodeSha256": sha256_of(version.code),
        "CodeSize": version.code_size,
    }
    return {"Content": content, "LayerArn": place.arn} | _listed(place, version)


def _missing(sentence: str) -> LambdaError:
    return LambdaError("ResourceNotFoundException", 404, sentence)


def _no_resource() -> LambdaError:
    return _missing("The resource you requested does not exist.")


def _denied(account: str, region: str, action: str, arn: str, more: str = "") -> LambdaError:
    sentence = (
        f"User: arn:{partition_of(region)}:iam::{account}:root is not authorized to perform: lambda:{action} "
        f"on resource: {arn} because no resource-based policy allows the lambda:{action} action{more}"
    )
    return LambdaError("AccessDeniedException", 403, sentence, type="")
