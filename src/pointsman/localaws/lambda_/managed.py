"""Managed instances: capacity providers, and how many execution environments a version on them has.

No instance is ever started: the functions run here as all others do. What is kept is what a deployment meets: which
versions a provider has, when it can be deleted, and what is deactivated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pointsman.localaws.lambda_.address import Address, partition_of
from pointsman.localaws.lambda_.errors import LambdaError, conflict, in_state, invalid, update_in_progress
from pointsman.localaws.lambda_.store import (
    Store,
    Version,
    after_marker,
    marker,
    page_size,
    provider_of,
    timestamp,
    version_label,
)
from pointsman.localaws.lambda_.wire import Json, validate

MOST_PROVIDERS: Final = 1000
MOST_VERSIONS: Final = 100  # at one provider

_UPDATABLE = ("PropagateTags", "TelemetryConfig")


@dataclass(frozen=True, slots=True)
class _Provider:
    id: int
    settings: Json  # as AWS shows them, State apart
    stage: str
    settles_at: float

    @property
    def arn(self) -> str:
        return str(self.settings["CapacityProviderArn"])

    def state(self, now: float) -> str:
        if self.stage == "deleting":
            return "Deleting"
        return "Pending" if now < self.settles_at else "Active"

    def shown(self, now: float) -> Json:
        return {"CapacityProviderArn": self.arn, "State": self.state(now)} | self.settings


class Managed(Store):
    # --- capacity providers ---

    def create_capacity_provider(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("CreateCapacityProvider", parameters)
        name = parameters["CapacityProviderName"].rpartition(":")[2]
        instances = parameters.get("InstanceRequirements", {})
        if instances.get("AllowedInstanceTypes") and instances.get("ExcludedInstanceTypes"):
            # AWS documents the rule; its sentence is not recorded anywhere that we know of.
            raise invalid("Specify either AllowedInstanceTypes or ExcludedInstanceTypes, but not both.")
        network = parameters["VpcConfig"]
        self._vpc(account, region, network["SubnetIds"], network["SecurityGroupIds"])
        role = parameters["PermissionsConfig"]["CapacityProviderOperatorRoleArn"]
        if self._role_exists is not None and not self._role_exists(account, role):
            raise invalid("The operator role defined for the capacity provider cannot be assumed by Lambda.")
        scaling = parameters.get("CapacityProviderScalingConfig", {})
        settings: Json = {
            "CapacityProviderArn": _arn(account, region, name),
            "VpcConfig": network,
            "PermissionsConfig": parameters["PermissionsConfig"],
            "InstanceRequirements": {"Architectures": ["x86_64"]} | instances,
            "CapacityProviderScalingConfig": {"MaxVCpuCount": 400, "ScalingMode": "Auto"} | scaling,
        }
        settings |= {key: parameters[key] for key in ("KmsKeyArn", *_UPDATABLE) if key in parameters}
        settings["LastModified"] = timestamp(self._now())
        with self._writing():
            names = self._db.execute(
                "SELECT name FROM capacity_provider WHERE account = ? AND region = ?", (account, region)
            ).fetchall()
            if (name,) in names:
                raise conflict(f"Capacity provider already exist: {name}")  # ours, after what is said of functions
            if len(names) >= MOST_PROVIDERS:
                raise LambdaError(
                    "CapacityProviderLimitExceededException",
                    400,
                    f"The maximum number of capacity providers for your account ({MOST_PROVIDERS}) has been exceeded.",
                )
            settles_at, _failure = self._begin("CreateCapacityProvider")
            tags = msgspec.json.encode(parameters.get("Tags", {}))
            self._db.execute(
                "INSERT INTO capacity_provider (account, region, name, settings, tags, stage, settles_at)"
                " VALUES (?, ?, ?, ?, ?, 'creating', ?)",
                (account, region, name, msgspec.json.encode(settings), tags, settles_at),
            )
            made = self._provider(account, region, name)
        return {"CapacityProvider": made.shown(self._now())}

    def get_capacity_provider(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("GetCapacityProvider", parameters)
        with self._lock:
            found = self._provider(account, region, parameters["CapacityProviderName"])
        return {"CapacityProvider": found.shown(self._now())}

    def update_capacity_provider(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("UpdateCapacityProvider", parameters)
        with self._writing():
            found = self._active_provider(account, region, parameters["CapacityProviderName"])
            found.settings.update({key: parameters[key] for key in _UPDATABLE if key in parameters})
            found.settings["CapacityProviderScalingConfig"] |= parameters.get("CapacityProviderScalingConfig", {})
            found.settings["LastModified"] = timestamp(self._now())
            self._db.execute(
                "UPDATE capacity_provider SET settings = ? WHERE id = ?",
                (msgspec.json.encode(found.settings), found.id),
            )
        return {"CapacityProvider": found.shown(self._now())}

    def delete_capacity_provider(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("DeleteCapacityProvider", parameters)
        with self._writing():
            found = self._active_provider(account, region, parameters["CapacityProviderName"])
            (functions,) = self._db.execute(
                "SELECT COUNT(DISTINCT function) FROM version WHERE provider = ?", (found.arn,)
            ).fetchone()
            if functions:
                raise conflict(
                    f"The capacity provider is currently in use by {functions} functions. To delete this capacity "
                    f"provider, first remove its association with {found.arn}."
                )
            settles_at, _failure = self._begin("DeleteCapacityProvider")
            self._db.execute(
                "UPDATE capacity_provider SET stage = 'deleting', settles_at = ? WHERE id = ?", (settles_at, found.id)
            )
            self._expect_gone()
            found = self._provider(account, region, found.arn)
        return {"CapacityProvider": found.shown(self._now())}

    def list_capacity_providers(self, account: str, region: str, parameters: Json) -> Json:
        """In order of name."""
        self._asked("ListCapacityProviders", parameters)
        size, now = page_size(parameters), self._now()
        (after,) = after_marker(parameters, "")
        with self._lock:
            rows = self._db.execute(
                "SELECT name, id, settings, stage, settles_at FROM capacity_provider"
                " WHERE account = ? AND region = ? AND name > ? ORDER BY name",
                (account, region, after),
            ).fetchall()
        found = [(row[0], _as_provider(row[1:])) for row in rows]
        found = [each for each in found if parameters.get("State") in (None, each[1].state(now))]
        reply: Json = {"CapacityProviders": [provider.shown(now) for _, provider in found[:size]]}
        if len(found) > size:
            reply["NextMarker"] = marker(found[size - 1][0])
        return reply

    def list_function_versions_by_capacity_provider(self, account: str, region: str, parameters: Json) -> Json:
        """Published versions: $LATEST has no instances."""
        self._asked("ListFunctionVersionsByCapacityProvider", parameters)
        size, now = page_size(parameters), self._now()
        name, after = after_marker(parameters, "", 0)
        with self._lock:
            provider = self._provider(account, region, parameters["CapacityProviderName"])
            rows = self._db.execute(
                "SELECT account, region, name, function, number FROM version JOIN function ON function = id"
                " WHERE provider = ? AND number > 0 AND (name, number) > (?, ?) ORDER BY name, number LIMIT ?",
                (provider.arn, name, after, size + 1),
            ).fetchall()
            listed = []
            for *place, function, number in rows[:size]:
                version = self._version(function, number)
                assert version is not None, "it is in the same snapshot of the database"
                arn = Address(*place).qualified(version_label(number))
                listed.append({"FunctionArn": arn, "State": self._state(version, now)})
        reply: Json = {"CapacityProviderArn": provider.arn, "FunctionVersions": listed}
        if len(rows) > size:
            *_, name, _, number = rows[size - 1]
            reply["NextMarker"] = marker(name, number)
        return reply

    def _asked(self, operation: str, parameters: Json) -> None:
        validate(operation, parameters)
        self._sweep()

    def _provider(self, account: str, region: str, called: str) -> _Provider:
        """By name or ARN."""
        arn = called if called.startswith("arn:") else _arn(account, region, called)
        name = arn.rpartition(":")[2]
        row = self._db.execute(
            "SELECT id, settings, stage, settles_at FROM capacity_provider"
            " WHERE account = ? AND region = ? AND name = ?",
            (account, region, name),
        ).fetchone()
        if row is None or arn != _arn(account, region, name):
            raise LambdaError("ResourceNotFoundException", 404, f"Capacity provider not found: {arn}")
        return _as_provider(row)

    def _active_provider(self, account: str, region: str, called: str) -> _Provider:
        found = self._provider(account, region, called)
        if (state := found.state(self._now())) != "Active":
            # Ours, after what is said of functions.
            raise conflict(
                "The operation cannot be performed at this time. The capacity provider is currently in the following "
                f"state: {state}"
            )
        return found

    def _check_provider(self, account: str, region: str, given: Json) -> None:
        """That the provider a function is to be on is there."""
        if (arn := provider_of(given)) is not None:
            self._provider(account, region, arn)

    def _check_room_at_provider(self, settings: Json) -> None:
        (versions,) = self._db.execute(
            "SELECT COUNT(*) FROM version WHERE provider = ? AND number > 0", (provider_of(settings),)
        ).fetchone()
        if versions >= MOST_VERSIONS:
            # AWS documents the number and the code; its sentence is not recorded anywhere that we know of.
            raise LambdaError(
                "FunctionVersionsPerCapacityProviderLimitExceededException",
                400,
                f"The maximum number of function versions that can be associated with a single capacity provider "
                f"({MOST_VERSIONS}) has been exceeded.",
            )

    # --- scaling ---

    def put_function_scaling_config(self, account: str, region: str, parameters: Json) -> Json:
        """Nothing given: none is wanted any more. At most 0 environments: the version is deactivated."""
        here = self._called("PutFunctionScalingConfig", account, region, parameters)
        wanted = parameters.get("FunctionScalingConfig", {})
        least, most = wanted.get("MinExecutionEnvironments"), wanted.get("MaxExecutionEnvironments")
        if least is not None and most is not None and least > most:
            raise invalid("MinExecutionEnvironments must be less than or equal to MaxExecutionEnvironments.")
        with self._writing():
            version = self._scalable(here)
            now = self._now()
            if (state := self._state(version, now)) in ("Pending", "Failed", "Deleting"):
                raise in_state(state)
            if not version.settled(now):
                raise update_in_progress(here.qualified(here.qualifier))
            settles_at, _failure = self._begin("PutFunctionScalingConfig")
            before = self._scaling(version).applied(now)
            self._db.execute(
                "REPLACE INTO scaling (function, number, wanted, before, settles_at) VALUES (?, ?, ?, ?, ?)",
                (version.function, version.number, *map(msgspec.json.encode, (wanted, before)), settles_at),
            )
            state = self._state(version, now)
        if most == 0:
            self.changed(here, here.qualifier)
        return {"FunctionState": state}

    def get_function_scaling_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetFunctionScalingConfig", account, region, parameters)
        with self._lock:
            scaling, now = self._scaling(self._scalable(here)), self._now()
        shown = {"FunctionArn": here.qualified(here.qualifier), "AppliedFunctionScalingConfig": scaling.applied(now)}
        return shown if now >= scaling.settles_at else shown | {"RequestedFunctionScalingConfig": scaling.wanted}

    def _scalable(self, here: Address) -> Version:
        assert here.qualifier is not None, "the model requires it"
        version = self._existing(here, here.qualifier)
        if not version.managed:
            raise LambdaError(
                "AccessDeniedException",
                403,
                "The function provided by the arn does not contain a capacity provider configuration",
                type="",
            )
        return version


def _arn(account: str, region: str, name: str) -> str:
    return f"arn:{partition_of(region)}:lambda:{region}:{account}:capacity-provider:{name}"


def _as_provider(row: tuple[int, bytes, str, float]) -> _Provider:
    number, settings, stage, settles_at = row
    return _Provider(number, msgspec.json.decode(settings), stage, settles_at)
