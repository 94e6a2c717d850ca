"""Everything the local Lambda knows, and the decision where an invocation goes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from pointsman.localaws.contract import Target
from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.aliases import Aliases
from pointsman.localaws.lambda_.concurrency import MOST_CONCURRENT, Concurrency
from pointsman.localaws.lambda_.controls import Controls
from pointsman.localaws.lambda_.errors import NotReady, function_not_found
from pointsman.localaws.lambda_.event_invokes import EventInvokes
from pointsman.localaws.lambda_.functions import Functions
from pointsman.localaws.lambda_.packages import MOST_UNZIPPED, MOST_ZIPPED
from pointsman.localaws.lambda_.policies import Policies
from pointsman.localaws.lambda_.settings import digest
from pointsman.localaws.lambda_.store import ReadObject, RoleExists, code_digest
from pointsman.localaws.lambda_.tags import Tags
from pointsman.localaws.lambda_.wire import Json, validate

MOST_STORED = 80_530_636_800  # 75 GB of code for an account and region


class LambdaState(Functions, Aliases, Policies, EventInvokes, Concurrency, Controls, Tags):
    """One method per operation: (account, region, AWS's parameters) → AWS's reply, or a LambdaError.

    Thread-safe; durable in `directory`, which one process uses at a time. An update takes `settle_s` seconds of `now`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        now: Callable[[], float] = time.time,
        settle_s: float = 0.15,
        runtimes: Callable[[], tuple[str, ...]],
        role_exists: RoleExists | None = None,
        read_object: ReadObject | None = None,
    ) -> None:
        super().__init__(
            directory,
            now=now,
            settle_s=settle_s,
            runtimes=runtimes,
            role_exists=role_exists,
            read_object=read_object,
        )

    def get_account_settings(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetAccountSettings", parameters)
        with self._lock:
            size, functions = self._db.execute(
                "SELECT COALESCE(SUM(code_size), 0), COUNT(DISTINCT id) FROM function JOIN version ON function = id"
                " WHERE account = ? AND region = ?",
                (account, region),
            ).fetchone()
            unreserved = self._unreserved(account, region)
        return {
            "AccountLimit": {
                "TotalCodeSize": MOST_STORED,
                "CodeSizeUnzipped": MOST_UNZIPPED,
                "CodeSizeZipped": MOST_ZIPPED,
                "ConcurrentExecutions": MOST_CONCURRENT,
                "UnreservedConcurrentExecutions": unreserved,
            },
            "AccountUsage": {"TotalCodeSize": size, "FunctionCount": functions},
        }

    def reserved(self, target: Target) -> int | None:
        """How many invocations of the target's function may run at once; None: as many as come."""
        with self._lock:
            function = self._find(Address(target.account, target.region, target.function_name))
            return None if function is None else self._reserved(function)

    def target(
        self,
        account: str,
        region: str,
        function_name: str,
        qualifier: str | None,
        *,
        choose: Callable[[], float] = random.random,
    ) -> tuple[Target, str]:
        """(what to run, the ARN it was invoked by). `function_name` is a name or ARN, perhaps qualified.

        An alias with weights draws once from `choose`, which gives numbers in [0, 1). While a version is being created
        it cannot run: NotReady. While $LATEST is being updated, the code and settings from before still run.
        """
        given: Json = {"FunctionName": function_name}
        if qualifier is not None:
            given["Qualifier"] = qualifier
        here = self._called("Invoke", account, region, given)
        with self._lock:
            if self._find(here) is None:
                raise function_not_found(here.qualified(here.qualifier or LATEST))
            version = self._reached(here, choose)
        settings = version.settings
        if not version.settled(now := self._now()):
            if version.stage == "creating":
                raise NotReady(version.settles_at - now)
            settings = version.previous or settings
        target = Target(
            account=account,
            region=region,
            function_name=here.name,
            version=version.label,
            revision=digest(settings),
            runtime=settings["Runtime"],
            handler=settings["Handler"],
            code=self.packages.unpacked(code_digest(settings)),
            environment=settings.get("Environment", {}).get("Variables", {}),
            memory_mb=settings["MemorySize"],
            timeout_s=float(settings["Timeout"]),
            log_group=settings["LoggingConfig"]["LogGroup"],
        )
        return target, here.qualified(here.qualifier)
