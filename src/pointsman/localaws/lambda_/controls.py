"""What else is asked of a function: how its runtime is updated, and whether it may call itself.

Nothing here is enforced, because nothing here can happen: runtimes are this machine's and never updated behind a
function's back, and loops are not looked for.
"""

from __future__ import annotations

from pointsman.localaws.lambda_.address import Address
from pointsman.localaws.lambda_.errors import invalid
from pointsman.localaws.lambda_.store import Store, Version
from pointsman.localaws.lambda_.wire import Json


class Controls(Store):
    # --- runtime updates ---

    def get_runtime_management_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetRuntimeManagementConfig", account, region, parameters)
        with self._lock:
            version = self._reached(here)
            found = self._db.execute(
                "SELECT mode, arn FROM runtime_management WHERE function = ? AND qualifier = ?",
                (version.function, version.label),
            ).fetchone()
        return _managed(here, version, *(found or ("Auto", None)))

    def put_runtime_management_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("PutRuntimeManagementConfig", account, region, parameters)
        mode, arn = parameters["UpdateRuntimeOn"], parameters.get("RuntimeVersionArn")
        if (mode == "Manual") != (arn is not None):
            # AWS documents the rule; its sentence is not recorded anywhere that we know of.
            raise invalid("RuntimeVersionArn must be given with UpdateRuntimeOn Manual, and only then.")
        with self._writing():
            version = self._reached(here)
            self._db.execute(
                "REPLACE INTO runtime_management (function, qualifier, mode, arn) VALUES (?, ?, ?, ?)",
                (version.function, version.label, mode, arn),
            )
        return _managed(here, version, mode, arn)

    # --- recursion ---

    def get_function_recursion_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("GetFunctionRecursionConfig", account, region, parameters)
        with self._lock:
            (found,) = self._db.execute(
                "SELECT recursion FROM function WHERE id = ?", (self._function(here),)
            ).fetchone()
        return {"RecursiveLoop": found}

    def put_function_recursion_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("PutFunctionRecursionConfig", account, region, parameters)
        with self._writing():
            self._db.execute(
                "UPDATE function SET recursion = ? WHERE id = ?", (parameters["RecursiveLoop"], self._function(here))
            )
        return {"RecursiveLoop": parameters["RecursiveLoop"]}


def _managed(here: Address, version: Version, mode: str, arn: str | None) -> Json:
    shown = {"UpdateRuntimeOn": mode, "FunctionArn": here.qualified(version.label)}
    return shown if arn is None else shown | {"RuntimeVersionArn": arn}
