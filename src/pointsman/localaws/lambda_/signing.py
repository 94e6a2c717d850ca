"""Code signing configurations: whose signature code must bear, and what happens when it does not.

No signature is ever verified here: all code counts as not signed, so Enforce refuses it and Warn lets it pass.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from pointsman.localaws.lambda_.address import Address, partition_of
from pointsman.localaws.lambda_.errors import LambdaError, conflict, invalid
from pointsman.localaws.lambda_.store import Store, after_marker, marker, page_size, timestamp
from pointsman.localaws.lambda_.wire import Json, validate

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_OWN = ("Description", "AllowedPublishers", "CodeSigningPolicies")


class Signing(Store):
    # --- the configurations ---

    def create_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        validate("CreateCodeSigningConfig", parameters)
        name = "csc-" + "".join(secrets.choice(_ALPHABET) for _ in range(17))
        facts: Json = {
            "CodeSigningConfigId": name,
            "CodeSigningConfigArn": f"arn:{partition_of(region)}:lambda:{region}:{account}:code-signing-config:{name}",
            "Description": "",
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
            "LastModified": timestamp(self._now()),
        }
        facts |= {key: parameters[key] for key in _OWN if key in parameters}
        with self._writing():
            self._db.execute(
                "INSERT INTO code_signing (account, region, name, facts, tags) VALUES (?, ?, ?, ?, ?)",
                (account, region, name, msgspec.json.encode(facts), msgspec.json.encode(parameters.get("Tags", {}))),
            )
        return {"CodeSigningConfig": facts}

    def get_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetCodeSigningConfig", parameters)
        with self._lock:
            _, facts = self._signing(account, region, parameters["CodeSigningConfigArn"])
        return {"CodeSigningConfig": facts}

    def update_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        validate("UpdateCodeSigningConfig", parameters)
        with self._writing():
            config, facts = self._signing(account, region, parameters["CodeSigningConfigArn"])
            if given := {key: parameters[key] for key in _OWN if key in parameters}:
                facts |= given | {"LastModified": timestamp(self._now())}
                self._db.execute("UPDATE code_signing SET facts = ? WHERE id = ?", (msgspec.json.encode(facts), config))
        return {"CodeSigningConfig": facts}

    def delete_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        validate("DeleteCodeSigningConfig", parameters)
        arn = parameters["CodeSigningConfigArn"]
        with self._writing():
            config, _ = self._signing(account, region, arn)
            if self._db.execute("SELECT 1 FROM function WHERE code_signing = ?", (config,)).fetchone():
                # AWS documents the rule; its sentence is not recorded anywhere that we know of.
                raise conflict(f"The code signing configuration {arn} cannot be deleted: functions use it.")
            self._db.execute("DELETE FROM code_signing WHERE id = ?", (config,))
        return {}

    def list_code_signing_configs(self, account: str, region: str, parameters: Json) -> Json:
        """Oldest first."""
        validate("ListCodeSigningConfigs", parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, 0)
        with self._lock:
            rows = self._db.execute(
                "SELECT id, facts FROM code_signing WHERE account = ? AND region = ? AND id > ? ORDER BY id LIMIT ?",
                (account, region, after, size + 1),
            ).fetchall()
        reply: Json = {"CodeSigningConfigs": [msgspec.json.decode(facts) for _, facts in rows[:size]]}
        if len(rows) > size:
            reply["NextMarker"] = marker(rows[size - 1][0])
        return reply

    # --- of functions ---

    def get_function_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        """Recorded: an empty reply for a function without one, even without the function's name."""
        here = self._called_unqualified("GetFunctionCodeSigningConfig", account, region, parameters)
        with self._lock:
            facts = self._signing_of(self._signed_function(here))
        return {} if facts is None else _named(here, facts)

    def put_function_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("PutFunctionCodeSigningConfig", account, region, parameters)
        with self._writing():
            # The configuration is looked for before the function is (recorded).
            config, facts = self._signing_for_function(account, region, parameters["CodeSigningConfigArn"])
            self._db.execute("UPDATE function SET code_signing = ? WHERE id = ?", (config, self._signed_function(here)))
        return _named(here, facts)

    def delete_function_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("DeleteFunctionCodeSigningConfig", account, region, parameters)
        with self._writing():
            self._db.execute("UPDATE function SET code_signing = NULL WHERE id = ?", (self._signed_function(here),))
        return {}

    def list_functions_by_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        """Their ARNs, in order of name."""
        validate("ListFunctionsByCodeSigningConfig", parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, "")
        with self._lock:
            config, _ = self._signing(account, region, parameters["CodeSigningConfigArn"])
            rows = self._db.execute(
                "SELECT name FROM function WHERE code_signing = ? AND name > ? ORDER BY name LIMIT ?",
                (config, after, size + 1),
            ).fetchall()
        names = [name for (name,) in rows]
        reply: Json = {"FunctionArns": [Address(account, region, name).arn for name in names[:size]]}
        if len(names) > size:
            reply["NextMarker"] = marker(names[size - 1])
        return reply

    # --- what functions ask ---

    def _signing_for_function(self, account: str, region: str, arn: str) -> tuple[int, Json]:
        try:
            return self._signing(account, region, arn)
        except LambdaError as missing:
            raise LambdaError(
                "CodeSigningConfigNotFoundException",
                404,
                "The code signing configuration cannot be found. "
                f"Check that the provided configuration is not deleted: {arn}.",
            ) from missing

    def _check_signature(self, function: int, name: str) -> None:
        """Before new code, or new layers, are a function's."""
        if (facts := self._signing_of(function)) is not None:
            check_unsigned(facts, name)

    def _signing_of(self, function: int) -> Json | None:
        row = self._db.execute(
            "SELECT facts FROM function JOIN code_signing ON code_signing.id = code_signing WHERE function.id = ?",
            (function,),
        ).fetchone()
        return None if row is None else dict(msgspec.json.decode(row[0]))

    # --- finding ---

    def _signing(self, account: str, region: str, arn: str) -> tuple[int, Json]:
        _, _, _, its_region, its_account, _, name = arn.split(":")
        row = self._db.execute(
            "SELECT id, facts FROM code_signing WHERE account = ? AND region = ? AND name = ?",
            (account, region, name),
        ).fetchone()
        if row is None or (its_account, its_region) != (account, region):
            raise LambdaError(
                "ResourceNotFoundException",
                404,
                f"The Lambda code signing configuration {arn} can not be found.",
                type="",
            )
        return row[0], msgspec.json.decode(row[1])

    def _signed_function(self, here: Address) -> int:
        latest = self._latest(here)
        if latest.settings["PackageType"] == "Image":
            raise images_not_signed()
        return latest.function


def check_unsigned(facts: Json, name: str) -> None:
    if facts["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"] == "Enforce":
        raise LambdaError(
            "CodeVerificationFailedException",
            400,
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
            f"client is not configured to accept. Check the provided signature for {name}.",
        )


def images_not_signed() -> LambdaError:
    return invalid("Code signing is not supported for functions created with container images.")


def _named(here: Address, facts: Json) -> Json:
    return {"CodeSigningConfigArn": facts["CodeSigningConfigArn"], "FunctionName": here.name}
