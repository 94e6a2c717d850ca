"""An AWS in memory, behind the one seam: one function, its versions and aliases, and CloudWatch's view of its calls.

It answers what the command line asks for in a rollout, with revision ids and preconditions as Lambda has them. Traffic
is a seeded world: each second has so many calls, and each version its share by the weight then in force. Time is a
fake clock's, the Date of the answers too.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from pointsman.aws.operation import Operation, R
from pointsman.errors import (
    AccessDenied,
    AwsError,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
)
from tests.fakes import FakeClock

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeting"
Parameters = Mapping[str, Any]


def _called(action: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", action).lower()


def digest(code: bytes) -> str:
    return base64.b64encode(hashlib.sha256(code).digest()).decode()


@dataclass(frozen=True)
class Served:
    """What an alias serves: a version, and another with a share of the calls."""

    version: str
    canary: str = ""
    weight: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        both = {self.version: 1 - self.weight}
        return {**both, self.canary: self.weight} if self.canary else both


@dataclass
class AnAlias:
    served: Served
    revision: int
    description: str = ""


@dataclass
class Kept:
    """Provisioned concurrency: of `number` environments, ready from a time on, or failed for a reason."""

    number: int
    ready: float
    modified: str
    failed: str = ""


@dataclass
class SmallAws:
    """`rates`: the share of bad calls, by version. `a_second`: calls to an alias."""

    clock: FakeClock
    rates: dict[str, float] = field(default_factory=dict)
    a_second: float = 20.0
    seed: int = 1
    late_s: float = 0.0  # how long after a period's end CloudWatch has it
    starts_s: float = 2.0  # how long environments take to start
    versions: dict[str, str] = field(default_factory=dict)  # number → digest of its code
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    latest: str = digest(b"nothing yet")
    aliases: dict[str, AnAlias] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    alarms: dict[str, tuple[str, float]] = field(default_factory=dict)
    fails_to_start: set[str] = field(default_factory=set)
    dark: Callable[[float], AwsError | str | None] = lambda _now: None  # of CloudWatch: an error, or "empty"
    refused: Callable[[str, Parameters], AwsError | None] = lambda _action, _parameters: None
    shifts: list[tuple[float, str, Served]] = field(default_factory=list)
    updates: list[tuple[str, Served]] = field(default_factory=list)  # UpdateAlias that took effect
    _revision: int = 0
    _held: dict[str, Served] = field(default_factory=dict)  # what an alias serves once its environments are ready

    # What tests do beside

    def point(self, name: str, served: Served, description: str | None = None) -> None:
        alias = self.aliases.setdefault(name, AnAlias(served, 0))
        alias.served, alias.revision = served, self._next()
        alias.description = alias.description if description is None else description
        self.shifts.append((self.clock.time, name, served))

    def publish(self, code: bytes) -> str:
        self.latest = digest(code)
        return self._published()

    def _published(self) -> str:
        number = str(len(self.versions) + 1)
        self.versions[number] = self.latest
        return number

    def shown(self, name: str = "PROD") -> tuple[Served, str]:
        self._settle()
        return self.aliases[name].served, self.aliases[name].description

    def provisioned(self) -> dict[str, int]:
        return {qualifier: each.number for qualifier, each in sorted(self.kept.items())}

    # The door

    def wrap(self, _inner: object) -> SmallAws:
        return self

    def send(self, operation: Operation[R]) -> R:
        self._settle()
        if error := self.refused(operation.action, operation.parameters):
            raise error
        if operation.service == "iam":
            raise AccessDenied("User is not authorized to perform: iam")
        answer: Callable[[Parameters], Mapping[str, Any]] = getattr(self, _called(operation.action))
        date = {"HTTPHeaders": {"date": formatdate(self.clock.time, usegmt=True)}}
        return operation.read({**answer(operation.parameters), "ResponseMetadata": date})

    def _next(self) -> int:
        self._revision += 1
        return self._revision

    def _settle(self) -> None:
        """AWS lets an alias go once what it keeps ready is ready."""
        for name, after in list(self._held.items()):
            if (kept := self.kept.get(name)) and not kept.failed and self.clock.time >= kept.ready:
                del self._held[name]
                self.point(name, after)

    # Lambda

    def get_function(self, asked: Parameters) -> Mapping[str, Any]:
        return {"Configuration": self._configuration(asked.get("Qualifier", "$LATEST"))}

    def _configuration(self, qualifier: str) -> dict[str, Any]:
        if qualifier != "$LATEST" and qualifier not in self.versions:
            raise NotFound(f"Function not found: {ARN}:{qualifier}")
        code = self.latest if qualifier == "$LATEST" else self.versions[qualifier]
        return {
            "FunctionName": "greeting", "FunctionArn": f"{ARN}:{qualifier}", "Version": qualifier, "CodeSha256": code,
            "RevisionId": f"{qualifier} {code}", "Role": "arn:aws:iam::123456789012:role/greeting", "Timeout": 1,
            "MemorySize": 128, "Runtime": "python3.12", "Handler": "index.handler", "State": "Active",
            "LastUpdateStatus": "Successful", "LastModified": "2026-01-01T00:00:00.000+0000",
            "CodeSize": 10**9,  # larger than what would be fetched to be compared
            **self.settings.get(qualifier, {}),
        }  # fmt: skip

    def update_function_code(self, asked: Parameters) -> Mapping[str, Any]:
        if asked["RevisionId"] != f"$LATEST {self.latest}":
            raise PreconditionFailed("The Revision Id provided does not match the latest Revision Id.")
        self.latest = digest(asked["ZipFile"])
        return self._configuration("$LATEST")

    def publish_version(self, asked: Parameters) -> Mapping[str, Any]:
        if asked["CodeSha256"] != self.latest:
            raise InvalidRequest("CodeSHA256 is different from the current CodeSHA256 in $LATEST.")
        last = max(self.versions, key=int, default="")
        number = last if last and self.versions[last] == self.latest else self._published()
        self.settings.setdefault(number, {"Description": asked.get("Description", "")})
        return self._configuration(number)

    def list_versions_by_function(self, _asked: Parameters) -> Mapping[str, Any]:
        return {"Versions": [self._configuration(each) for each in ("$LATEST", *self.versions)]}

    def get_account_settings(self, _asked: Parameters) -> Mapping[str, Any]:
        return {
            "AccountUsage": {"TotalCodeSize": 1},
            "AccountLimit": {
                "TotalCodeSize": 10**10,
                "ConcurrentExecutions": 1000,
                "UnreservedConcurrentExecutions": 1000,
            },
        }

    def _alias(self, name: str) -> dict[str, Any]:
        if name not in self.aliases:
            raise NotFound(f"Cannot find alias arn: {ARN}:{name}")
        alias = self.aliases[name]
        served = alias.served
        return {
            "AliasArn": f"{ARN}:{name}", "Name": name, "FunctionVersion": served.version,
            "RevisionId": str(alias.revision), "Description": alias.description,
            "RoutingConfig": {"AdditionalVersionWeights": {served.canary: served.weight} if served.canary else {}},
        }  # fmt: skip

    def get_alias(self, asked: Parameters) -> Mapping[str, Any]:
        return self._alias(asked["Name"])

    def list_aliases(self, _asked: Parameters) -> Mapping[str, Any]:
        return {"Aliases": [self._alias(each) for each in self.aliases]}

    def update_alias(self, asked: Parameters) -> Mapping[str, Any]:
        name = asked["Name"]
        self._alias(name)
        alias = self.aliases[name]
        if asked["RevisionId"] != str(alias.revision):
            raise PreconditionFailed("The Revision Id provided does not match the latest Revision Id.")
        weights = asked["RoutingConfig"]["AdditionalVersionWeights"]
        canary, weight = next(iter(weights.items()), ("", 0.0))
        wanted = Served(asked["FunctionVersion"], canary, weight)
        for version in wanted.shares:
            self._configuration(version)
        self.updates.append((name, wanted))
        was, kept = alias.served, self.kept.get(name)
        self._held.pop(name, None)
        if kept and was != wanted:
            if wanted.version != was.version and not wanted.canary:  # it takes its environments along
                self._held[name] = wanted
                wanted = replace(wanted, canary=was.version, weight=1.0)
            kept.ready, kept.modified = self.clock.time + self.starts_s, f"moved {self._next()}"
            reached = {asked["FunctionVersion"], canary}
            kept.failed = "FUNCTION_ERROR_INIT_FAILURE" if reached & self.fails_to_start else ""
        self.point(name, wanted, asked.get("Description"))
        return self._alias(name)

    # Provisioned concurrency

    def _config(self, qualifier: str) -> dict[str, Any]:
        kept = self.kept.get(qualifier)
        if kept is None:
            raise NotFound("No Provisioned Concurrency Config found for this function")
        ready = self.clock.time >= kept.ready
        return {
            "FunctionArn": f"{ARN}:{qualifier}", "RequestedProvisionedConcurrentExecutions": kept.number,
            "Status": "FAILED" if kept.failed else "READY" if ready else "IN_PROGRESS",
            "StatusReason": kept.failed, "LastModified": kept.modified,
        }  # fmt: skip

    def keep(self, qualifier: str, number: int) -> None:
        failed = "FUNCTION_ERROR_INIT_FAILURE" if qualifier in self.fails_to_start else ""
        self.kept[qualifier] = Kept(number, self.clock.time + self.starts_s, f"asked {self._next()}", failed)

    def get_provisioned_concurrency_config(self, asked: Parameters) -> Mapping[str, Any]:
        return self._config(asked["Qualifier"])

    def list_provisioned_concurrency_configs(self, _asked: Parameters) -> Mapping[str, Any]:
        return {"ProvisionedConcurrencyConfigs": [self._config(each) for each in self.kept]}

    def put_provisioned_concurrency_config(self, asked: Parameters) -> Mapping[str, Any]:
        self.keep(asked["Qualifier"], asked["ProvisionedConcurrentExecutions"])
        return self._config(asked["Qualifier"])

    def delete_provisioned_concurrency_config(self, asked: Parameters) -> Mapping[str, Any]:
        self._config(asked["Qualifier"])
        del self.kept[asked["Qualifier"]]
        return {}

    # CloudWatch

    def describe_alarms(self, asked: Parameters) -> Mapping[str, Any]:
        found = [
            {
                "AlarmName": name,
                "StateValue": state,
                "StateTransitionedTimestamp": datetime.fromtimestamp(since, UTC),
                "StateReason": "as the test says",
            }
            for name, (state, since) in self.alarms.items()
            if name in asked["AlarmNames"]
        ]
        return {"MetricAlarms": found, "CompositeAlarms": []}

    def get_metric_data(self, asked: Parameters) -> Mapping[str, Any]:
        trouble = self.dark(self.clock.time)
        if isinstance(trouble, AwsError):
            raise trouble
        results = []
        for query in asked["MetricDataQueries"]:
            points = [] if trouble else list(self._points(query["MetricStat"], asked["StartTime"], asked["EndTime"]))
            results.append(
                {
                    "Id": query["Id"],
                    "StatusCode": "Complete",
                    "Timestamps": [datetime.fromtimestamp(at, UTC) for at, _value in points],
                    "Values": [value for _at, value in points],
                }
            )
        return {"MetricDataResults": results}

    def _points(self, asked: Mapping[str, Any], begin: float, end: float) -> Iterator[tuple[float, float]]:
        given = {each["Name"]: each["Value"] for each in asked["Metric"]["Dimensions"]}
        alias = given["Resource"].rpartition(":")[2]
        bad, period, at = asked["Metric"]["MetricName"] == "Errors", asked["Period"], begin
        while at < min(end, self.clock.time) and at + period + self.late_s <= self.clock.time:
            versions = [given["ExecutedVersion"]] if "ExecutedVersion" in given else list(self._serving(alias, at))
            counts = [self._counted(alias, each, at, period) for each in versions]
            value = sum(each[bad] for each in counts)
            if any(each[0] for each in counts):
                yield at, float(value)
            at += period

    def _serving(self, alias: str, at: float) -> dict[str, float]:
        """What was served in the period that begins then (with a weight that changes in it: what was before)."""
        served = [each for since, name, each in self.shifts if name == alias and since <= at]
        return served[-1].shares if served else {}

    def _counted(self, alias: str, version: str, at: float, period: int) -> tuple[int, int]:
        """(calls, bad ones), whenever they are asked for."""
        calls = round(self.a_second * period * self._serving(alias, at).get(version, 0.0))
        chance = random.Random(hash((self.seed, version == "1", at)))  # of numbers: the same in each process
        rate = self.rates.get(version, 0.0)
        if not calls or not rate:
            return calls, 0
        if calls > 200:
            wrong = round(chance.gauss(calls * rate, (calls * rate * (1 - rate)) ** 0.5))
            return calls, min(calls, max(0, wrong))
        return calls, sum(chance.random() < rate for _ in range(calls))


def denied() -> AccessDenied:
    return AccessDenied("User is not authorized to perform: cloudwatch:GetMetricData")
