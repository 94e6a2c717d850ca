"""Aliases: named pointers to one version, or to two with a weight between them."""

from __future__ import annotations

from dataclasses import replace

from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.concurrency import Concurrency
from pointsman.localaws.lambda_.errors import LambdaError, alias_not_found, conflict, in_state, invalid, stale_revision
from pointsman.localaws.lambda_.store import (
    Alias,
    Version,
    after_marker,
    marker,
    new_revision,
    page_size,
    version_label,
    version_number,
)
from pointsman.localaws.lambda_.wire import Json


class Aliases(Concurrency):
    def create_alias(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("CreateAlias", account, region, parameters)
        name = parameters["Name"]
        with self._writing():
            function, version, additional, weight = self._route(
                here, parameters["FunctionVersion"], _weights(parameters)
            )
            if self._alias(function, name) is not None:
                raise conflict(f"Alias already exists: {here.qualified(name)}")
            alias = Alias(name, parameters.get("Description", ""), version, additional, weight, new_revision())
            self._put_alias(function, alias)
        return _shown(here, alias)

    def get_alias(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("GetAlias", account, region, parameters)
        self._arrive()
        with self._lock:
            alias = self._alias(self._function(here), parameters["Name"])
        if alias is None:
            raise alias_not_found(here.qualified(parameters["Name"]), "Cannot find alias arn")
        return _shown(here, alias)

    def update_alias(self, account: str, region: str, parameters: Json) -> Json:
        """What is not given stays, weights included; empty weights clear them.

        An alias with provisioned concurrency serves the version it leaves until the new one is ready: AWS gives that
        one all the weight meanwhile (reported by users, seen by Terraform's tests), and takes it away by itself.
        """
        here = self._called_unqualified("UpdateAlias", account, region, parameters)
        self._arrive()
        with self._writing():
            function = self._function(here)
            alias = self._alias(function, parameters["Name"])
            if alias is None:
                raise alias_not_found(here.qualified(parameters["Name"]), "Alias not found")
            if parameters.get("RevisionId") not in (None, alias.revision):
                raise stale_revision()
            weights = _weights(parameters) if "RoutingConfig" in parameters else _kept(alias)
            label = parameters.get("FunctionVersion", version_label(alias.version))
            _, version, additional, weight = self._route(here, label, weights)
            self._check_single(function, alias.name, version, additional)
            description = parameters.get("Description", alias.description)
            moving, due = False, None
            if version != alias.version:
                moving, due = self._move_provisioned(function, alias.name, alias.version)
            if moving and additional is None and self._alike(here, version, alias.version):
                additional, weight = alias.version, 1.0
            alias = Alias(alias.name, description, version, additional, weight, new_revision())
            self._put_alias(function, alias)
        self._provision(replace(here, qualifier=alias.name), due)
        return _shown(here, alias)

    def delete_alias(self, account: str, region: str, parameters: Json) -> Json:
        """Deleting an alias that is not there is silently fine (recorded)."""
        here = self._called_unqualified("DeleteAlias", account, region, parameters)
        with self._writing():
            self._db.execute(
                "DELETE FROM alias WHERE function = ? AND name = ?", (self._function(here), parameters["Name"])
            )
        return {}

    def list_aliases(self, account: str, region: str, parameters: Json) -> Json:
        """In order of name; FunctionVersion keeps those whose own version (not the additional one) it is."""
        here = self._called_unqualified("ListAliases", account, region, parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, "")
        label = parameters.get("FunctionVersion")
        version = None if label is None else version_number(label)
        self._arrive()
        with self._lock:
            rows = self._db.execute(
                "SELECT name, description, version, additional, weight, revision FROM alias"
                " WHERE function = ?1 AND name > ?2 AND (?3 IS NULL OR version = ?3) ORDER BY name LIMIT ?4",
                (self._function(here), after, version, size + 1),
            ).fetchall()
        found = [Alias(*row) for row in rows]
        reply: Json = {"Aliases": [_shown(here, alias) for alias in found[:size]]}
        if len(found) > size:
            reply["NextMarker"] = marker(found[size - 1].name)
        return reply

    def _route(self, here: Address, label: str, weights: dict[str, float]) -> tuple[int, int, int | None, float | None]:
        """(function, version, additional version, its weight), or AWS's refusal."""
        if len(weights) > 1:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        if label in weights:
            raise invalid(
                f"Invalid function version {label}. "
                f"Function version {label} is already included in routing configuration."
            )
        if weights and label == LATEST:
            raise invalid("$LATEST is not supported for an alias pointing to more than 1 version", type="")
        primary = self._lasting(here, label)
        for other, weight in weights.items():
            additional = self._lasting(here, other)
            _check_alike(primary, additional)
            return primary.function, primary.number, additional.number, weight
        return primary.function, primary.number, None, None

    def _alike(self, here: Address, one: int, other: int) -> bool:
        try:
            _check_alike(self._existing(here, version_label(one)), self._existing(here, version_label(other)))
        except LambdaError:
            return False
        return True

    def _lasting(self, here: Address, label: str) -> Version:
        version = self._existing(here, label)
        if version.stage == "deleting":
            raise in_state("Deleting")
        return version

    def _put_alias(self, function: int, alias: Alias) -> None:
        self._db.execute(
            "INSERT INTO alias (function, name, description, version, additional, weight, revision)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET description = excluded.description,"
            " version = excluded.version, additional = excluded.additional, weight = excluded.weight,"
            " revision = excluded.revision",
            (function, alias.name, alias.description, alias.version, alias.additional, alias.weight, alias.revision),
        )


def _check_alike(primary: Version, additional: Version) -> None:
    if primary.settings["Role"] != additional.settings["Role"]:
        raise invalid("Specified versions must be associated with the same execution role")
    if primary.settings.get("DeadLetterConfig") != additional.settings.get("DeadLetterConfig"):
        # AWS documents the rule; its sentence is not recorded anywhere that we know of.
        raise invalid("Specified versions must be associated with the same dead-letter queue configuration")


def _weights(parameters: Json) -> dict[str, float]:
    weights: dict[str, float] = parameters.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return weights


def _kept(alias: Alias) -> dict[str, float]:
    if alias.additional is None or alias.weight is None:
        return {}
    return {version_label(alias.additional): alias.weight}


def _shown(here: Address, alias: Alias) -> Json:
    shown: Json = {
        "AliasArn": here.qualified(alias.name),
        "Name": alias.name,
        "FunctionVersion": version_label(alias.version),
        "Description": alias.description,
        "RevisionId": alias.revision,
    }
    if weights := _kept(alias):
        shown["RoutingConfig"] = {"AdditionalVersionWeights": weights}
    return shown
