"""Everything the local Lambda knows, and the decision where an invocation goes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pointsman.localaws.contract import Measure, Target
from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.aliases import Aliases
from pointsman.localaws.lambda_.concurrency import MOST_CONCURRENT
from pointsman.localaws.lambda_.controls import Controls
from pointsman.localaws.lambda_.errors import LambdaError, NotReady, function_not_found, in_state
from pointsman.localaws.lambda_.event_invokes import EventInvokes
from pointsman.localaws.lambda_.event_queue import EventQueue
from pointsman.localaws.lambda_.functions import Functions
from pointsman.localaws.lambda_.packages import MOST_UNZIPPED, MOST_ZIPPED
from pointsman.localaws.lambda_.policies import Policies
from pointsman.localaws.lambda_.settings import digest
from pointsman.localaws.lambda_.store import (
    MOST_STORED,
    FindNetwork,
    ImageDigest,
    ReadObject,
    RoleExists,
    Version,
    code_digest,
)
from pointsman.localaws.lambda_.tags import Tags
from pointsman.localaws.lambda_.urls import UrlOf, Urls
from pointsman.localaws.lambda_.wire import Json, validate

MOST_WAYS = 1024  # remembered; then it begins anew


@dataclass(frozen=True, slots=True)
class Reach:
    """Where an invocation goes: the version (its code perhaps not unpacked yet) and the ARN it was invoked by.

    `ready` environments of the version are provisioned. Beyond these, `reserved` invocations of the whole function may
    run at once (None: as many as come). `closed`: it is reserved 0, so that none ever will.
    """

    target: Target
    arn: str
    qualifier: str | None
    ready: int
    reserved: int | None
    closed: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """Where calls of one address go until something is written: versions, or what they come to once time cannot
    change that any more."""

    generation: int
    here: Address
    ready: dict[int, int]  # by version
    reserved: int | None
    primary: Version | Reach
    additional: Version | Reach | None
    weight: float  # the share of calls that `additional` gets


class LambdaState(Functions, Aliases, Policies, Urls, EventInvokes, EventQueue, Controls, Tags):
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
        url_of: UrlOf = lambda url_id, region: f"https://{url_id}.lambda-url.{region}.on.aws/",
        image_digest: ImageDigest | None = None,
        code_quota: int = MOST_STORED,
        find_network: FindNetwork | None = None,
    ) -> None:
        self._url_of = url_of
        super().__init__(
            directory,
            now=now,
            settle_s=settle_s,
            runtimes=runtimes,
            role_exists=role_exists,
            read_object=read_object,
            image_digest=image_digest,
            code_quota=code_quota,
            find_network=find_network,
        )
        self._ways: dict[tuple[str, str, str, str | None], _Way] = {}
        # What the process before us did not get ready in its time will start when it is called.
        self._db.execute("UPDATE provisioned SET settles_at = 0 WHERE settles_at > ?", (now() + settle_s,))
        self.occurred: Measure = lambda _happened: None
        """Told of every attempt to invoke, and of what else metrics show."""

    def now(self) -> float:
        return self._now()

    def get_account_settings(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetAccountSettings", parameters)
        self._sweep()
        with self._lock:
            size, quota = self._storage(account, region)
            (functions,) = self._db.execute(
                "SELECT COUNT(*) FROM function WHERE account = ? AND region = ?", (account, region)
            ).fetchone()
            unreserved = self._unreserved(account, region)
        return {
            "AccountLimit": {
                "TotalCodeSize": quota,
                "CodeSizeUnzipped": MOST_UNZIPPED,
                "CodeSizeZipped": MOST_ZIPPED,
                "ConcurrentExecutions": MOST_CONCURRENT,
                "UnreservedConcurrentExecutions": unreserved,
            },
            "AccountUsage": {"TotalCodeSize": size, "FunctionCount": functions},
        }

    def log_groups(self) -> dict[tuple[str, str, str], str]:
        """(account, region, log group) → the function that logs there rather than to the group of its own name."""
        with self._lock:
            return {
                (account, region, group): name
                for account, region, name, group in self._db.execute(
                    "SELECT account, region, name,"
                    " json_extract(CAST(settings AS TEXT), '$.LoggingConfig.LogGroup') AS log_group"
                    " FROM function JOIN version ON function = id AND number = 0"
                    " WHERE log_group <> '/aws/lambda/' || name"
                )
            }

    def reach(
        self,
        account: str,
        region: str,
        function_name: str,
        qualifier: str | None,
        *,
        choose: Callable[[], float] = random.random,
    ) -> Reach:
        """What an invocation reaches. `function_name` is a name or ARN, perhaps qualified.

        An alias with weights draws once from `choose`, which gives numbers in [0, 1). While a version is being created
        it cannot run: NotReady. While $LATEST is being updated, and when that failed, what was there before still runs.
        """
        asked = (account, region, function_name, qualifier)
        known = self._ways.get(asked)
        if known is None or known.generation != self._generation:
            known = self._way(*asked)
        chosen = known.additional if known.additional is not None and choose() < known.weight else known.primary
        return chosen if isinstance(chosen, Reach) else self._to(known, chosen)

    def _way(self, account: str, region: str, function_name: str, qualifier: str | None) -> _Way:
        given: Json = {"FunctionName": function_name}
        if qualifier is not None:
            given["Qualifier"] = qualifier
        here = self._called("Invoke", account, region, given)
        self._arrive()
        with self._lock:
            function = self._find(here)
            if function is None:
                raise function_not_found(here.qualified(here.qualifier or LATEST))
            alias = None if here.qualifier is None else self._alias(function, here.qualifier)
            here, primary = self._invoked(here)
            additional, weight = None, 0.0
            if alias is not None and alias.additional is not None:
                additional, weight = self._version(function, alias.additional), alias.weight or 0.0
            ready, lasting = self._kept_ready(function)
            reserved = self._reserved(function)
            if reserved:
                reserved -= sum(ready.values())
            found = _Way(self._generation, here, ready, reserved, primary, additional, weight)
            now = self._now()
            settled = all(
                each is None or (each.ready(now) and (not each.managed or self._state(each, now) == "Active"))
                for each in (primary, additional)
            )
        if not (lasting and settled):
            return found
        found = replace(
            found,
            primary=self._to(found, primary),
            additional=None if additional is None else self._to(found, additional),
        )
        if len(self._ways) > MOST_WAYS:
            self._ways.clear()
        self._ways[account, region, function_name, qualifier] = found
        return found

    def _to(self, way: _Way, version: Version) -> Reach:
        here, now = way.here, self._now()
        self._check_invocable(version)
        if version.stage == "creating":
            if not version.settled(now):
                raise NotReady(version.settles_at - now)
            if version.failure is not None:
                raise in_state("Failed")
        settings = version.runs(now)
        if settings["PackageType"] == "Image":
            raise LambdaError(
                "NotImplementedException",
                501,
                f"{here.name} is a container image ({settings['ImageUri']}), and the local Lambda registers images but "
                "does not run them.",
                type="Service",
            )
        target = Target(
            account=here.account,
            region=here.region,
            function_name=here.name,
            version=version.label,
            revision=digest(settings),
            runtime=settings["Runtime"],
            handler=settings["Handler"],
            code=self.packages.folder(code_digest(settings)),
            environment=settings.get("Environment", {}).get("Variables", {}),
            memory_mb=settings["MemorySize"],
            timeout_s=float(settings["Timeout"]),
            log_group=settings["LoggingConfig"]["LogGroup"],
            opt=self._opt(settings) if "Layers" in settings else None,
            role=settings["Role"],
            initialization="lambda-managed-instances" if version.managed else "on-demand",
        )
        ready = way.ready.get(version.number, 0)
        return Reach(
            target,
            here.qualified(here.qualifier),
            here.qualifier,
            ready,
            way.reserved,
            way.reserved == 0 and not way.ready,
        )
