"""An AWS in memory with many functions, behind the one seam: what prune reads, and deletes. Everything else is empty.

`refused(service, action, parameters)` may say no; `before` is told of each call. Many threads may ask at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pointsman.aws.operation import Operation, R
from pointsman.errors import AwsError, Conflict, NotFound

HERE = "arn:aws:lambda:eu-west-1:123456789012:function"
LAYER = "arn:aws:lambda:eu-west-1:123456789012:layer"
Parameters = Mapping[str, Any]
PAGE = 50


@dataclass
class ManyFunctions:
    now: float = 1_800_000_000.0
    versions: dict[str, dict[str, float]] = field(default_factory=dict)  # function → number → days old
    aliases: dict[str, dict[str, tuple[str, dict[str, float]]]] = field(default_factory=dict)
    kept_ready: dict[str, set[str]] = field(default_factory=dict)
    layers: dict[str, dict[int, float]] = field(default_factory=dict)
    worn: dict[str, list[str]] = field(default_factory=dict)  # "checkout:7" → its layers' ARNs
    shared: set[str] = field(default_factory=set)  # "common:3"
    permitted: set[str] = field(default_factory=set)  # "checkout:7"
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # "events:ListRules" → its items
    answers: dict[str, Callable[[Parameters], Mapping[str, Any]]] = field(default_factory=dict)
    refused: Callable[[str, Parameters], AwsError | None] = lambda _action, _parameters: None
    before: Callable[[str, Parameters], None] = lambda _action, _parameters: None
    calls: Counter[str] = field(default_factory=Counter)
    deleted: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _every: list[tuple[str, str, float]] = field(default_factory=list)  # as listed last

    def add(self, name: str, numbers: Iterable[int], *, days: float = 100, **aliases: int) -> None:
        self.versions[name] = {str(each): days for each in numbers}
        self.aliases[name] = {alias: (str(version), {}) for alias, version in aliases.items()}

    def wrap(self, _inner: object) -> ManyFunctions:
        return self

    def send(self, operation: Operation[R]) -> R:
        called = f"{operation.service}:{operation.action}"
        self.before(called, operation.parameters)
        with self.lock:
            self.calls[called] += 1
            if error := self.refused(called, operation.parameters):
                raise error
            return operation.read(self._answer(called, operation.action, operation.parameters))

    def _answer(self, called: str, action: str, asked: Parameters) -> Mapping[str, Any]:
        if called in self.answers:
            return self.answers[called](asked)
        if called.startswith("lambda:") and (own := getattr(self, f"_{action}", None)):
            return own(asked)  # type: ignore[no-any-return]
        if called == "cloudfront:ListDistributions":
            return {"DistributionList": {"Items": self.listed.get(called, [])}}
        if called == "sts:GetCallerIdentity":
            return {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/test"}
        items = "Items" if called.startswith("apigatewayv2:") else _ITEMS[action]
        return {items: self.listed.get(called, [])}

    # Lambda

    def _configuration(self, name: str, number: str, days: float) -> dict[str, Any]:
        at = datetime.fromtimestamp(self.now - days * 86_400, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
        return {
            "FunctionName": name, "FunctionArn": f"{HERE}:{name}:{number}", "Version": number, "CodeSize": 1_000_000,
            "CodeSha256": f"{number:A>43}=".replace("$", "A"), "RevisionId": f"{name}-{number}", "Timeout": 3,
            "Role": "arn:aws:iam::123456789012:role/r", "Handler": "index.handler", "Runtime": "python3.12",
            "MemorySize": 128, "LastModified": at, "Description": "", "Architectures": ["x86_64"],
            "Environment": {"Variables": {"TABLE": f"{name}-table", "LEVEL": "info"}}, "VpcConfig": {},
            "TracingConfig": {"Mode": "PassThrough"}, "EphemeralStorage": {"Size": 512}, "PackageType": "Zip",
            "Layers": [{"Arn": arn} for arn in self.worn.get(f"{name}:{number}", ())],
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}, "SnapStart": {"ApplyOn": "None"},
        }  # fmt: skip

    def _ListFunctions(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802 (as AWS calls it)
        begin = int(asked.get("Marker") or 0)
        if not begin:
            self._every = [
                (name, number, days)
                for name, numbers in sorted(self.versions.items())
                for number, days in (("$LATEST", 0.0), *numbers.items())
            ]
        every = self._every
        page = [self._configuration(*each) for each in every[begin : begin + PAGE]]
        more = {"NextMarker": str(begin + PAGE)} if begin + PAGE < len(every) else {}
        return {"Functions": page, **more}

    def _ListAliases(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        name = asked["FunctionName"]
        if name not in self.versions:
            raise NotFound(f"Function not found: {HERE}:{name}")
        return {
            "Aliases": [
                {
                    "Name": alias, "AliasArn": f"{HERE}:{name}:{alias}", "FunctionVersion": version, "RevisionId": "r",
                    "RoutingConfig": {"AdditionalVersionWeights": weights},
                }
                for alias, (version, weights) in self.aliases.get(name, {}).items()
            ]
        }  # fmt: skip

    def _ListProvisionedConcurrencyConfigs(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        name = asked["FunctionName"]
        configs = [
            {"FunctionArn": f"{HERE}:{name}:{each}", "RequestedProvisionedConcurrentExecutions": 1}
            for each in self.kept_ready.get(name, ())
        ]
        return {"ProvisionedConcurrencyConfigs": configs}

    def _GetPolicy(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        called = f"{asked['FunctionName']}:{asked['Qualifier']}"
        if called not in self.permitted:
            raise NotFound("The resource you requested does not exist.")
        statement = '{"Sid": "s", "Effect": "Allow", "Action": "lambda:InvokeFunction", "Principal": {"Service": "x"}}'
        return {"Policy": f'{{"Statement": [{statement}]}}'}

    def _DeleteFunction(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        name, number = asked["FunctionName"], asked["Qualifier"]
        naming = [
            alias for alias, (version, weights) in self.aliases.get(name, {}).items() if number in (version, *weights)
        ]
        if naming:
            raise Conflict(
                f"Unable to delete version because the following aliases reference it: [{', '.join(naming)}]"
            )
        if self.versions[name].pop(number, None) is not None:
            self.deleted.append(f"{name}:{number}")
        return {}

    # Layers

    def _ListLayers(self, _asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        return {
            "Layers": [
                {"LayerName": name, "LayerArn": f"{LAYER}:{name}", "LatestMatchingVersion": {"Version": max(numbers)}}
                for name, numbers in self.layers.items()
            ]
        }

    def _ListLayerVersions(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        def made(days: float) -> str:
            return datetime.fromtimestamp(self.now - days * 86_400, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")

        numbers = self.layers[asked["LayerName"]]
        return {"LayerVersions": [{"Version": number, "CreatedDate": made(days)} for number, days in numbers.items()]}

    def _GetLayerVersionPolicy(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        if f"{asked['LayerName']}:{asked['VersionNumber']}" not in self.shared:
            raise NotFound("No policy is associated with the given resource.")
        return {"Policy": "{}"}

    def _DeleteLayerVersion(self, asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        if self.layers[asked["LayerName"]].pop(asked["VersionNumber"], None) is not None:
            self.deleted.append(f"layer {asked['LayerName']}:{asked['VersionNumber']}")
        return {}

    def _GetAccountSettings(self, _asked: Parameters) -> Mapping[str, Any]:  # noqa: N802
        return {
            "AccountUsage": {"TotalCodeSize": 1, "FunctionCount": len(self.versions)},
            "AccountLimit": {
                "TotalCodeSize": 10**10, "ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000
            },
        }  # fmt: skip


_ITEMS = {
    "ListEventSourceMappings": "EventSourceMappings", "ListStacks": "StackSummaries",
    "ListStackResources": "StackResourceSummaries", "GetRestApis": "items", "GetResources": "items",
    "GetAuthorizers": "items", "GetStages": "item",
    "ListStateMachines": "stateMachines", "ListStateMachineVersions": "stateMachineVersions",
    "ListEventBuses": "EventBuses", "ListRules": "Rules", "ListTargetsByRule": "Targets",
    "ListSchedules": "Schedules", "ListPipes": "Pipes", "ListBuckets": "Buckets", "ListSubscriptions": "Subscriptions",
    "ListUserPools": "UserPools",
}  # fmt: skip
