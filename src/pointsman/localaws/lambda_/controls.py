"""What else is asked of a function: how its runtime is updated, whether it may call itself, who signed its code.

Nothing here is enforced, because nothing here can happen: runtimes are this machine's and never updated behind a
function's back, loops are not looked for, and there are no code signing configurations to name.
"""

from __future__ import annotations

from pointsman.localaws.lambda_.errors import LambdaError, not_built
from pointsman.localaws.lambda_.store import Store
from pointsman.localaws.lambda_.wire import Json, validate


class Controls(Store):
    # --- code signing ---

    def get_function_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        """Recorded: an empty reply for a function without one, even without the function's name."""
        self._must_exist("GetFunctionCodeSigningConfig", account, region, parameters)
        return {}

    def put_function_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        self._called_unqualified("PutFunctionCodeSigningConfig", account, region, parameters)
        raise LambdaError(  # said before the function is looked for (recorded)
            "CodeSigningConfigNotFoundException",
            404,
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {parameters['CodeSigningConfigArn']}.",
        )

    def delete_function_code_signing_config(self, account: str, region: str, parameters: Json) -> Json:
        self._must_exist("DeleteFunctionCodeSigningConfig", account, region, parameters)
        return {}

    def list_functions_by_code_signing_config(
        self,
        account: str,  # noqa: ARG002 - every operation is called alike
        region: str,  # noqa: ARG002
        parameters: Json,
    ) -> Json:
        validate("ListFunctionsByCodeSigningConfig", parameters)
        arn = parameters["CodeSigningConfigArn"]
        raise LambdaError(
            "ResourceNotFoundException", 404, f"The Lambda code signing configuration {arn} can not be found.", type=""
        )

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

    def _must_exist(self, operation: str, account: str, region: str, parameters: Json) -> None:
        here = self._called_unqualified(operation, account, region, parameters)
        with self._lock:
            self._function(here)
