"""Functions and their versions: create, read, update, publish, list, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec

from pointsman.localaws.lambda_.address import LATEST, LATEST_PUBLISHED, Address
from pointsman.localaws.lambda_.errors import (
    LambdaError,
    conflict,
    function_not_found,
    in_state,
    invalid,
    stale_revision,
)
from pointsman.localaws.lambda_.layers import Layers
from pointsman.localaws.lambda_.managed import Managed
from pointsman.localaws.lambda_.packages import MOST_UNZIPPED, check_unzipped
from pointsman.localaws.lambda_.settings import MOST_TAGS, changed, check_publish_to, digest, fresh, refuse_unbuilt
from pointsman.localaws.lambda_.signing import Signing, check_unsigned, images_not_signed
from pointsman.localaws.lambda_.sources import code_location, code_of
from pointsman.localaws.lambda_.store import (
    LAST,
    PAGE,
    Failure,
    Version,
    after_marker,
    code_digest,
    marker,
    new_revision,
    page_size,
    timestamp,
    version_number,
)
from pointsman.localaws.lambda_.wire import Json, validate

MOST_NAME = 64

Ends: TypeAlias = tuple[float, Failure | None]
"""When what begins will have settled, and how it fails."""


class Functions(Layers, Signing, Managed):
    # --- create, read, delete ---

    def create_function(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("CreateFunction", account, region, parameters)
        if len(here.name) > MOST_NAME:
            raise invalid(
                f"1 validation error detected: Value '{here.name}' at 'functionName' failed to satisfy constraint: "
                f"Member must have length less than or equal to {MOST_NAME}"
            )
        if len(tags := parameters.get("Tags", {})) > MOST_TAGS:
            raise invalid("Number of tags exceeds resource tag limit.")
        settings = fresh(here.name, self._with_layers(here, parameters), self._runtimes())
        check_publish_to(parameters, settings)
        self._check_role(account, settings["Role"])
        settings |= self._network(account, region, parameters)
        signing = self._given_signing(here, settings, parameters)
        code = self._code(here, settings, parameters["Code"])
        settings |= code | {"LastModified": timestamp(self._now())}  # a big zip takes a while
        with self._storing(account, region):
            if self._find(here) is not None:
                raise conflict(f"Function already exist: {here.name}")
            self._check_provider(account, region, parameters)
            function = self._db.execute(
                "INSERT INTO function (account, region, name, tags, code_signing) VALUES (?, ?, ?, ?, ?)",
                (account, region, here.name, msgspec.json.encode(tags), signing),
            ).lastrowid
            assert function is not None
            settles_at, failure = self._begin("CreateFunction")
            revisions = new_revision(), new_revision()
            latest = Version(
                function, 0, settings, digest(settings), *revisions, "creating", settles_at, failure=failure
            )
            self._put(latest)
            reply = self._configuration(here, latest, None)
            if parameters.get("Publish"):
                # Recorded: the reply is $LATEST's but for the number; version 1 gets a RevisionId of its own.
                to_latest = "PublishTo" in parameters
                reply["Version"] = self._publish_new(here, latest, (settles_at, failure), to_latest=to_latest).label
        return reply

    def get_function(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetFunction", account, region, parameters)
        with self._lock:
            version = self._reached(here)
            (tags,) = self._db.execute("SELECT tags FROM function WHERE id = ?", (version.function,)).fetchone()
            reserved = self._reserved(version.function)
            reply: Json = {
                "Configuration": self._configuration(here, version, here.qualifier),
                "Code": code_location(version.settings, code_digest(version.settings)),
            }
        if tags != b"{}":
            reply["Tags"] = msgspec.json.decode(tags)
        if reserved is not None:
            reply["Concurrency"] = {"ReservedConcurrentExecutions": reserved}
        return reply

    def get_function_configuration(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetFunctionConfiguration", account, region, parameters)
        with self._lock:
            return self._configuration(here, self._reached(here), here.qualifier)

    def delete_function(self, account: str, region: str, parameters: Json) -> Json:
        """What is on managed instances is there for a while yet (202), Deleting (reported, not recorded)."""
        here = self._called("DeleteFunction", account, region, parameters)
        if here.qualifier is not None and not here.qualifier.isdecimal() and "$" not in here.qualifier:
            raise invalid("Deletion of aliases is not currently supported.")  # said of missing functions, too
        if here.qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        with self._writing():
            version: Version | None = self._latest(here)
            assert version is not None
            function = version.function
            if here.qualifier is not None:
                version = self._deletable(function, here, here.qualifier)
            later = version is not None and version.managed
            if version is None:
                pass  # deleting a version that is not there is silently fine (recorded)
            elif later:
                settles_at, _failure = self._begin("DeleteFunction")
                self._db.execute(
                    "UPDATE version SET stage = 'deleting', settles_at = ?"
                    " WHERE function = ? AND ? IN (number, 0) AND stage <> 'deleting'",
                    (settles_at, function, version.number),
                )
                self._expect_gone()
            elif here.qualifier is None:
                self._db.execute("DELETE FROM function WHERE id = ?", (function,))
            else:
                self._db.execute("DELETE FROM version WHERE function = ? AND number = ?", (function, version.number))
        self.changed(here, here.qualifier)
        return {"StatusCode": 202} if later else {}

    def _deletable(self, function: int, here: Address, label: str) -> Version | None:
        if not label.isdecimal() and label != LATEST_PUBLISHED:
            raise function_not_found(here.qualified(label))
        number = version_number(label)
        named = self._db.execute(
            "SELECT name FROM alias WHERE function = ?1 AND (version = ?2 OR additional = ?2) ORDER BY name",
            (function, number),
        ).fetchall()
        if named:
            names = ", ".join(name for (name,) in named)
            raise conflict(f"Unable to delete version because the following aliases reference it: [{names}]")
        return self._version(function, number)

    # --- update ---

    def update_function_code(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("UpdateFunctionCode", account, region, parameters)
        with self._lock:
            before = self._latest(here)
        check_publish_to(parameters, before.settings)
        image = before.settings["PackageType"] == "Image"
        if image and "ImageUri" not in parameters:
            raise invalid("Please provide ImageUri when updating a function with packageType Image.")
        if not image and "ImageUri" in parameters:
            raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
        code = self._code(here, before.settings, parameters)
        with self._storing(here.account, region):
            latest = self._latest(here)
            self._changeable(here, latest)
            self._expect_revision(parameters, latest)
            self._check_signature(latest.function, here.name)
            settings = latest.settings | code
            if "Architectures" in parameters:
                settings["Architectures"] = parameters["Architectures"]
            if parameters.get("DryRun"):
                return self._configuration(here, replace(latest, settings=settings), None)
            updated = self._update("UpdateFunctionCode", latest, settings)
            if parameters.get("Publish"):
                ends = updated.settles_at, updated.failure
                version = self._publish(here, updated, ends, to_latest="PublishTo" in parameters)
                reply = self._configuration(here, version, version.label)
            else:
                reply = self._configuration(here, updated, None)
        self.changed(here, LATEST)
        if "PublishTo" in parameters:
            self.changed(here, LATEST_PUBLISHED)
        return reply

    def update_function_configuration(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("UpdateFunctionConfiguration", account, region, parameters)
        if "Role" in parameters:
            self._check_role(here.account, parameters["Role"])
        runtimes = self._runtimes()
        parameters = parameters | self._network(here.account, region, parameters)
        with self._writing():
            latest = self._latest(here)
            self._changeable(here, latest)
            self._expect_revision(parameters, latest)
            self._check_provider(here.account, region, parameters)
            settings = changed(latest.settings, self._with_layers(here, parameters), runtimes)
            if parameters.get("Layers"):
                self._check_signature(latest.function, here.name)
                self._check_size(settings)
            updated = self._update("UpdateFunctionConfiguration", latest, settings)
            reply = self._configuration(here, updated, None)
        self.changed(here, LATEST)
        return reply

    def _update(self, operation: str, latest: Version, settings: Json) -> Version:
        now = self._now()
        settings["LastModified"] = timestamp(now)
        never_was = latest.stage == "creating" and latest.failure is not None
        settles_at, failure = self._begin(operation)
        updated = replace(
            latest,
            settings=settings,
            digest=digest(settings),
            revision=new_revision(),
            settled_revision=new_revision(),
            stage="creating" if never_was else "updating",
            settles_at=settles_at,
            previous=None if never_was else latest.runs(now),
            failure=failure,
        )
        self._put(updated)
        return updated

    def _expect_revision(self, given: Json, latest: Version) -> None:
        if given.get("RevisionId") not in (None, latest.current_revision(self._now())):
            raise stale_revision()

    # --- publish ---

    def publish_version(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("PublishVersion", account, region, parameters)
        with self._storing(account, region):
            latest = self._latest(here)
            self._changeable(here, latest)
            check_publish_to(parameters, latest.settings)
            if latest.failure is not None:
                raise in_state("Failed")
            self._expect_revision(parameters, latest)
            current = latest.settings["CodeSha256"]
            if (expected := parameters.get("CodeSha256")) not in (None, current):
                raise invalid(
                    f"CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({current}). "
                    "Please try again with the CodeSHA256 in $LATEST."
                )
            # SnapStart takes its snapshot first, managed instances start; others are usable at once (recorded).
            waits = latest.managed or _snapshot(latest.settings)
            settling = self._begin("PublishVersion", None if waits else 0.0)
            to_latest = "PublishTo" in parameters
            description = parameters.get("Description")
            version = self._publish(here, latest, settling, to_latest=to_latest, description=description)
            reply = self._configuration(here, version, version.label)
        if to_latest:
            self.changed(here, LATEST_PUBLISHED)
        return reply

    def _publish(
        self, here: Address, latest: Version, ends: Ends, *, to_latest: bool, description: str | None = None
    ) -> Version:
        """The last published version if nothing changed since (with its old description), else a new one.

        `to_latest`: $LATEST.PUBLISHED, which is updated if it is there.
        """
        last = self._version(latest.function, LAST if to_latest else self._last_number(here))
        if last is not None and last.number > 0:
            if last.digest == latest.digest and last.failure is None and last.stage != "deleting":
                return last
            if to_latest:
                self._changeable(here, last)
        version = self._publish_new(here, latest, ends, to_latest=to_latest, description=description)
        self._put(latest.revised(self._now()))
        return version

    def _publish_new(
        self, here: Address, latest: Version, ends: Ends, *, to_latest: bool, description: str | None = None
    ) -> Version:
        before = self._version(latest.function, LAST) if to_latest else None
        if before is None and latest.managed:
            self._check_room_at_provider(latest.settings)
        settings = latest.settings if description is None else latest.settings | {"Description": description}
        if _snapshot(settings):
            settings = settings | {"SnapStart": settings["SnapStart"] | {"OptimizationStatus": "On"}}
        revision, (settles_at, failure) = new_revision(), ends
        # `digest` stays that of $LATEST: it is what the next publishing compares with.
        version = Version(
            latest.function,
            LAST if to_latest else self._next_number(here),
            settings,
            latest.digest,
            revision,
            revision,
            "creating",
            settles_at,
            failure=failure,
        )
        if before is not None and before.ready(now := self._now()):
            version = replace(version, stage="updating", previous=before.runs(now))
        self._put(version)
        return version

    def _next_number(self, here: Address) -> int:
        number = self._last_number(here) + 1
        self._db.execute("REPLACE INTO numbering VALUES (?, ?, ?, ?)", (here.account, here.region, here.name, number))
        return number

    def _last_number(self, here: Address) -> int:
        found = self._db.execute(
            "SELECT last FROM numbering WHERE account = ? AND region = ? AND name = ?",
            (here.account, here.region, here.name),
        ).fetchone()
        return 0 if found is None else int(found[0])

    # --- lists ---

    def list_versions_by_function(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("ListVersionsByFunction", account, region, parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, -1)
        with self._lock:
            found = self._versions(self._function(here), after, size + 1)
        reply: Json = {"Versions": [self._listed(here, version, version.label) for version in found[:size]]}
        if len(found) > size:
            reply["NextMarker"] = marker(found[size - 1].number)
        return reply

    def list_functions(self, account: str, region: str, parameters: Json) -> Json:
        """In order of name; with FunctionVersion=ALL every version of each, and qualified ARNs."""
        validate("ListFunctions", parameters)
        self._sweep()
        every = parameters.get("FunctionVersion") == "ALL"
        size = page_size(parameters)
        name, after = after_marker(parameters, "", -1)
        found: list[tuple[Address, Version]] = []
        with self._lock:
            functions = self._db.execute(
                "SELECT id, name FROM function WHERE account = ? AND region = ? AND name >= ? ORDER BY name LIMIT ?",
                (account, region, name, PAGE + 2),
            ).fetchall()
            for function, its_name in functions:
                wanted = size + 1 - len(found)
                start = after if its_name == name else -1
                found += [
                    (Address(account, region, its_name), version)
                    for version in self._versions(function, start, wanted if every else min(1, wanted))
                    if every or version.number == 0
                ]
        listed = [self._listed(here, version, version.label if every else None) for here, version in found[:size]]
        reply: Json = {"Functions": listed}
        if len(found) > size:
            here, version = found[size - 1]
            reply["NextMarker"] = marker(here.name, version.number)
        return reply

    # --- code, layers, role and network ---

    def _code(self, here: Address, settings: Json, given: Mapping[str, Any]) -> Json:
        """What becomes of `settings` by the code that parameters name."""
        refuse_unbuilt(given)
        if settings["PackageType"] == "Image":
            if "ImageUri" not in given:
                raise invalid("Please provide a source for function code.")
            return self._image(here.region, given["ImageUri"])
        package = self._package(here.account, here.region, given, store=not given.get("DryRun"))
        with self._lock:
            check_unzipped(package.unzipped, self._layers_unzipped(settings))
        return code_of(package)

    def _with_layers(self, here: Address, given: Json) -> Json:
        if not given.get("Layers"):
            return given
        with self._lock:
            return given | {"Layers": self._named_layers(here.account, here.region, given["Layers"])}

    def _check_size(self, settings: Json) -> None:
        size = self.packages.unzipped_size(code_digest(settings)) + self._layers_unzipped(settings)
        if size >= MOST_UNZIPPED:
            raise invalid(
                f"Function code combined with layers exceeds the maximum allowed size of {MOST_UNZIPPED} bytes. "
                f"The actual size is {size} bytes."
            )

    def _given_signing(self, here: Address, settings: Json, given: Json) -> int | None:
        """The code signing configuration a new function is to have, its policy applied."""
        if (arn := given.get("CodeSigningConfigArn")) is None:
            return None
        if settings["PackageType"] == "Image":
            raise images_not_signed()
        with self._lock:
            config, facts = self._signing_for_function(here.account, here.region, arn)
        check_unsigned(facts, here.name)
        return config

    def _check_role(self, account: str, role: str) -> None:
        if role.split(":")[4] != account:
            raise LambdaError("AccessDeniedException", 403, "Cross-account pass role is not allowed.", type="")
        if self._role_exists is not None and not self._role_exists(account, role):
            raise invalid("The role defined for the function cannot be assumed by Lambda.")

    def _network(self, account: str, region: str, parameters: Json) -> Json:
        """The VpcConfig in `parameters`, if any, as AWS shows it: with the VPC. Empty lists leave it."""
        if "VpcConfig" not in parameters:
            return {}
        given = parameters["VpcConfig"]
        subnets, groups = given.get("SubnetIds", []), given.get("SecurityGroupIds", [])
        vpc = self._vpc(account, region, subnets, groups) if subnets else ""
        ipv6 = given.get("Ipv6AllowedForDualStack", False)
        shown = {"Ipv6AllowedForDualStack": ipv6, "SecurityGroupIds": groups, "SubnetIds": subnets, "VpcId": vpc}
        return {"VpcConfig": shown}


def _snapshot(settings: Json) -> bool:
    """Whether publishing takes a snapshot (SnapStart)."""
    return bool(settings.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions")
