"""What else is asked of a function: how its runtime is updated, and whether it may call itself.

Nothing here is enforced, because nothing here can happen: runtimes are this machine's and never updated behind a
function's back, and loops are not looked for.
"""

from __future__ import annotations

from pointsman.localaws.lambda_.errors import not_built
from pointsman.localaws.lambda_.store import Store
from pointsman.localaws.lambda_.wire import Json


class Controls(Store):
    # --- runtime updates ---

    def get_runtime_management_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetRuntimeManagementConfig", account, region, parameters)
        with self._lock:
            version = self._reached(here)
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": here.qualified(version.label)}

    def put_runtime_management_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("PutRuntimeManagementConfig", account, region, parameters)
        if (mode := parameters["UpdateRuntimeOn"]) != "Auto":
            raise not_built(f"UpdateRuntimeOn {mode}")
        with self._lock:
            version = self._reached(here)
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": here.qualified(version.label)}

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
