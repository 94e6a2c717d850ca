"""Reserved concurrency: how many invocations of a function may run at once, and what that leaves to the others."""

from __future__ import annotations

from typing import Final

from pointsman.localaws.lambda_.address import LATEST
from pointsman.localaws.lambda_.errors import function_not_found, invalid
from pointsman.localaws.lambda_.store import Store
from pointsman.localaws.lambda_.wire import Json

MOST_CONCURRENT: Final = 1000
LEAST_UNRESERVED: Final = 100


class Concurrency(Store):
    def put_function_concurrency(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("PutFunctionConcurrency", account, region, parameters)
        number = parameters["ReservedConcurrentExecutions"]
        with self._writing():
            function = self._find(here)
            if function is None:
                raise function_not_found(here.qualified(LATEST))  # recorded, though no qualifier may be given
            if self._unreserved(account, region, but=function) - number < LEAST_UNRESERVED:
                raise invalid(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{LEAST_UNRESERVED}].",
                    type="",
                )
            self._db.execute("UPDATE function SET reserved = ? WHERE id = ?", (number, function))
        return {"ReservedConcurrentExecutions": number}

    def get_function_concurrency(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("GetFunctionConcurrency", account, region, parameters)
        with self._lock:
            number = self._reserved(self._function(here))
        return {} if number is None else {"ReservedConcurrentExecutions": number}

    def delete_function_concurrency(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("DeleteFunctionConcurrency", account, region, parameters)
        with self._writing():
            self._db.execute("UPDATE function SET reserved = NULL WHERE id = ?", (self._function(here),))
        return {}

    def _unreserved(self, account: str, region: str, but: int | None = None) -> int:
        """What functions without a reservation share (`but`: as if that function had none)."""
        (reserved,) = self._db.execute(
            "SELECT COALESCE(SUM(reserved), 0) FROM function WHERE account = ? AND region = ? AND id IS NOT ?",
            (account, region, but),
        ).fetchone()
        return MOST_CONCURRENT - int(reserved)
