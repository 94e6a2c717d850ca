"""Who names versions of functions: listings of whole services, each as documents to be searched; and layers.

One listing for an account and region where AWS has one; where it has none, a call for each thing that is listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pointsman.aws.sending import Sender
from pointsman.model import Value, Version


class Document(Value, frozen=True, kw_only=True):
    """A text that may name versions, and whose it is ("rule nightly on bus default").

    `functions`: of these every version is in its hands, named or not.
    """

    where: str
    text: str = ""
    functions: tuple[str, ...] = ()


class ListedLayer(Value, frozen=True, kw_only=True):
    """A layer and the number of its newest version."""

    name: str
    arn: str
    newest: int


# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html: all but what is settled
UNSETTLED = (
    *("CREATE_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED"),
    *("DELETE_IN_PROGRESS", "DELETE_FAILED", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
    *("UPDATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"),
    *("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "REVIEW_IN_PROGRESS"),
    *("IMPORT_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_FAILED"),
)
_UNIVERSAL = ":scheduler:::aws-sdk:lambda:"  # after the partition


class References(Sender):
    # Lambda's own

    def event_source_documents(self) -> Iterator[Document]:
        """Every mapping of the account and region, without a function's name. Disabled ones too."""
        for each in self._items("lambda", "ListEventSourceMappings", "EventSourceMappings", "Marker", "NextMarker"):
            source = each.get("EventSourceArn") or each["UUID"]
            yield Document(where=f"event source {source.rpartition(':')[2]}", text=each.get("FunctionArn", ""))

    def alias_versions(self, function: str) -> dict[str, tuple[Version, ...]]:
        """Every version that each alias names, its own first. One with a weight of 0 is named, too: AWS keeps it."""
        found: dict[str, tuple[Version, ...]] = {}
        for each in self._items(
            "lambda", "ListAliases", "Aliases", "Marker", "NextMarker", subject=function, FunctionName=function
        ):
            weights = (each.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
            found[each["Name"]] = tuple(map(Version, (each["FunctionVersion"], *weights)))
        return found

    def layers(self) -> Iterator[ListedLayer]:
        for each in self._items("lambda", "ListLayers", "Layers", "Marker", "NextMarker"):
            newest = each.get("LatestMatchingVersion", {}).get("Version", 0)
            yield ListedLayer(name=each["LayerName"], arn=each["LayerArn"], newest=newest)

    def layer_dates(self, name: str) -> dict[int, str]:
        """When each version of a layer was made."""
        listed = self._items(
            "lambda", "ListLayerVersions", "LayerVersions", "Marker", "NextMarker", subject=f"layer {name}",
            LayerName=name,
        )  # fmt: skip
        return {each["Version"]: each.get("CreatedDate", "") for each in listed}

    def layer_is_shared(self, name: str, number: int) -> bool:
        """Whether it has a policy: others may use it then, and nobody can tell whether they do."""
        asked = {"LayerName": name, "VersionNumber": number}
        found = self._or_none("GetLayerVersionPolicy", lambda r: r["Policy"], subject=f"layer {name}:{number}", **asked)
        return found is not None

    # API Gateway

    def rest_apis(self) -> Iterator[tuple[str, str]]:
        """(id, name)"""
        for each in self._items("apigateway", "GetRestApis", "items", "position", "position", limit=500):
            yield each["id"], each.get("name", "")

    def rest_api_documents(self, api: str, name: str) -> Iterator[Document]:
        """What each stage serves: its last deployment (which only an export shows), and the API as it is edited now,
        both with the stage's variables, a canary's too, in their places."""
        where = f"REST API {name} ({api})"
        asked: dict[str, Any] = {"subject": where, "restApiId": api}
        resources = [
            *self._items(
                "apigateway", "GetResources", "items", "position", "position", limit=500, embed=["methods"], **asked
            ),
            *self._items("apigateway", "GetAuthorizers", "items", "position", "position", limit=500, **asked),
        ]
        stages = self._send("GetStages", lambda reply: list(reply.get("item") or ()), service="apigateway", **asked)
        for stage in stages:
            exported = self._or_none(  # None: the stage was deleted meanwhile
                "GetExport",
                lambda reply: _body(reply["body"]),
                service="apigateway",
                stageName=stage["stageName"],
                exportType="oas30",
                parameters={"extensions": "apigateway"},
                accepts="application/json",
                **asked,
            )
            variables = stage.get("variables") or {}
            canary = (stage.get("canarySettings") or {}).get("stageVariableOverrides") or {}
            text = f"{_text(resources)}\n{exported or ''}"
            yield Document(where=f"{where}, stage {stage['stageName']}", text=_filled(text, variables, canary))
        yield Document(where=where, text=_text(resources))

    def http_apis(self) -> Iterator[tuple[str, str, bool]]:
        """(id, name, whether it is a WebSocket API)"""
        for each in self._items("apigatewayv2", "GetApis", "Items", "NextToken", "NextToken"):
            yield each["ApiId"], each.get("Name", ""), each.get("ProtocolType") == "WEBSOCKET"

    def http_api_documents(self, api: str, name: str, websocket: bool) -> Iterator[Document]:
        """The same of an HTTP or WebSocket API. What a WebSocket API's stage serves cannot be exported."""
        where = f"{'WebSocket' if websocket else 'HTTP'} API {name} ({api})"
        asked: dict[str, Any] = {"subject": where, "ApiId": api}
        parts = [
            *self._items("apigatewayv2", "GetIntegrations", "Items", "NextToken", "NextToken", **asked),
            *self._items("apigatewayv2", "GetAuthorizers", "Items", "NextToken", "NextToken", **asked),
        ]
        for stage in self._items("apigatewayv2", "GetStages", "Items", "NextToken", "NextToken", **asked):
            text = _text(parts)
            if not websocket and not stage.get("AutoDeploy") and stage.get("DeploymentId"):
                exported = self._or_none(
                    "ExportApi",
                    lambda reply: _body(reply["body"]),
                    service="apigatewayv2",
                    StageName=stage["StageName"],
                    Specification="OAS30",
                    OutputType="JSON",
                    IncludeExtensions=True,
                    **asked,
                )
                text = f"{text}\n{exported or ''}"
            variables = stage.get("StageVariables") or {}
            yield Document(where=f"{where}, stage {stage['StageName']}", text=_filled(text, variables, {}))
        yield Document(where=where, text=_text(parts))

    # What is run, on a time or an event

    def state_machines(self) -> Iterator[str]:
        """Their ARNs."""
        for each in self._items("stepfunctions", "ListStateMachines", "stateMachines", "nextToken", "nextToken"):
            yield each["stateMachineArn"]

    def state_machine_documents(self, arn: str) -> Iterator[Document]:
        """Its definition, and that of each of its published versions."""
        versions = self._items(
            "stepfunctions", "ListStateMachineVersions", "stateMachineVersions", "nextToken", "nextToken",
            subject=arn, stateMachineArn=arn,
        )  # fmt: skip
        name = arn.rpartition(":")[2]
        for each in (arn, *(version["stateMachineVersionArn"] for version in versions)):
            text = self._or_none(
                "DescribeStateMachine",
                lambda reply: reply["definition"],
                service="stepfunctions",
                subject=each,
                stateMachineArn=each,
            )
            which = "" if each == arn else f", version {each.rpartition(':')[2]}"
            yield Document(where=f"state machine {name}{which}", text=text or "")

    def rules(self) -> Iterator[tuple[str, str]]:
        """(bus, rule), on every bus, disabled ones too."""
        for bus in self._items("events", "ListEventBuses", "EventBuses", "NextToken", "NextToken"):
            asked = {"subject": f"bus {bus['Name']}", "EventBusName": bus["Name"]}
            for rule in self._items("events", "ListRules", "Rules", "NextToken", "NextToken", **asked):
                yield bus["Name"], rule["Name"]

    def rule_documents(self, bus: str, rule: str) -> Iterator[Document]:
        asked = {"subject": f"rule {rule}", "Rule": rule, "EventBusName": bus}
        targets = list(self._items("events", "ListTargetsByRule", "Targets", "NextToken", "NextToken", **asked))
        yield Document(where=f"rule {rule} on bus {bus}", text=_text(targets))

    def schedules(self) -> Iterator[tuple[str, str, str]]:
        """(group, name, its target's ARN)"""
        for each in self._items("scheduler", "ListSchedules", "Schedules", "NextToken", "NextToken"):
            yield each["GroupName"], each["Name"], each["Target"]["Arn"]

    def schedule_documents(self, group: str, name: str, target: str) -> Iterator[Document]:
        """The list shows the target. What Lambda is called with by the universal target stands in the schedule only."""
        text = target
        if _UNIVERSAL in target:
            text = self._send(
                "GetSchedule",
                lambda reply: reply["Target"].get("Input", ""),
                service="scheduler",
                subject=name,
                GroupName=group,
                Name=name,
            )
        yield Document(where=f"schedule {group}/{name}", text=text)

    def pipes(self) -> Iterator[Document]:
        for each in self._items("pipes", "ListPipes", "Pipes", "NextToken", "NextToken"):
            yield Document(where=f"pipe {each['Name']}", text=_text(each))

    def subscriptions(self) -> Iterator[Document]:
        for each in self._items("sns", "ListSubscriptions", "Subscriptions", "NextToken", "NextToken"):
            if each.get("Protocol") == "lambda":
                topic = each.get("TopicArn", "").rpartition(":")[2]
                yield Document(where=f"a subscription of topic {topic}", text=each.get("Endpoint", ""))

    def buckets(self, region: str) -> Iterator[str]:
        """Those of this region: no other may notify a function of it."""
        for each in self._items(
            "s3",
            "ListBuckets",
            "Buckets",
            "ContinuationToken",
            "ContinuationToken",
            MaxBuckets=1000,
            BucketRegion=region,
        ):
            yield each["Name"]

    def bucket_documents(self, bucket: str) -> Iterator[Document]:
        found = self._send(
            "GetBucketNotificationConfiguration",
            lambda reply: reply.get("LambdaFunctionConfigurations") or (),
            service="s3",
            subject=f"bucket {bucket}",
            Bucket=bucket,
        )
        yield Document(where=f"the notifications of bucket {bucket}", text=_text(found))

    def user_pools(self) -> Iterator[tuple[str, str]]:
        """(id, name)"""
        for each in self._items("cognito-idp", "ListUserPools", "UserPools", "NextToken", "NextToken", MaxResults=60):
            yield each["Id"], each.get("Name", "")

    def user_pool_documents(self, pool: str, name: str) -> Iterator[Document]:
        text = self._send(
            "DescribeUserPool",
            lambda reply: _text(reply["UserPool"].get("LambdaConfig") or {}),
            service="cognito-idp",
            subject=f"user pool {name}",
            UserPoolId=pool,
        )
        yield Document(where=f"user pool {name} ({pool})", text=text)

    def distributions(self) -> Iterator[Document]:
        """CloudFront's: of Lambda@Edge each behaviour names a version."""
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListDistributions",
                lambda reply: (
                    list(reply["DistributionList"].get("Items") or ()),
                    reply["DistributionList"].get("NextMarker"),
                ),
                service="cloudfront",
                Marker=marker,
            )
            for each in page:
                behaviours = [each.get("DefaultCacheBehavior"), each.get("CacheBehaviors")]
                yield Document(where=f"CloudFront distribution {each['Id']}", text=_text(behaviours))
            if not marker:
                return

    # CloudFormation

    def unsettled_stacks(self) -> Iterator[tuple[str, str, str]]:
        """(id, name, status) of every stack that is under way or failed."""
        asked: dict[str, Any] = {"StackStatusFilter": list(UNSETTLED)}
        for each in self._items("cloudformation", "ListStacks", "StackSummaries", "NextToken", "NextToken", **asked):
            yield each["StackId"], each["StackName"], each["StackStatus"]

    def stack_documents(self, stack: str, name: str, status: str) -> Iterator[Document]:
        """What it may still go back to: every version of its functions, and of those of the stacks within it."""
        functions: set[str] = set()
        texts: list[str] = []
        left, seen = [stack], set()
        while left:
            asked = left.pop()
            seen.add(asked)
            for each in self._items(
                "cloudformation", "ListStackResources", "StackResourceSummaries", "NextToken", "NextToken",
                subject=f"stack {name}", StackName=asked,
            ):  # fmt: skip
                kind, physical = each["ResourceType"], each.get("PhysicalResourceId") or ""
                if kind == "AWS::CloudFormation::Stack" and physical and physical not in seen:
                    left.append(physical)
                elif kind.startswith("AWS::Lambda::"):
                    texts.append(physical)
                    functions.add(_FUNCTION.sub(r"\1", physical))
        where = f"stack {name}, which is {status},"
        yield Document(where=where, text="\n".join(texts), functions=tuple(sorted(functions)))

    # Pages

    def _items(
        self, service: str, action: str, items: str, given: str, told: str, *, subject: str = "", **parameters: Any
    ) -> Iterator[Mapping[str, Any]]:
        """Every item of every page. `given` and `told`: what the page's token is called in the request and answer."""
        token: str | None = None
        while True:
            page, token = self._send(
                action,
                lambda reply: (list(reply.get(items) or ()), reply.get(told)),
                service=service,
                subject=subject,
                **{**parameters, given: token},
            )
            yield from page
            if not token:
                return


_FUNCTION = re.compile(r"^(?:arn:[^:]*:lambda:[^:]*:[^:]*:function:)?([A-Za-z0-9_-]+)(?::.*)?$", re.DOTALL)
_VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]+)\}")


def _filled(text: str, variables: Mapping[str, str], canary: Mapping[str, str]) -> str:
    """The text with a stage's variables in their places, once more with its canary's, and all their values."""
    found = [_text([variables, canary])]
    for given in (variables, {**variables, **canary}) if canary else (variables,):
        found.append(_VARIABLE.sub(lambda match, given=given: given.get(match[1], match[0]), text))  # type: ignore[misc]
    return "\n".join(found)


def _body(given: Any) -> str:
    data = given.read() if hasattr(given, "read") else given
    return data.decode() if isinstance(data, bytes) else str(data)


def _text(given: Any) -> str:
    return json.dumps(given, default=str, ensure_ascii=False)


__all__ = ["UNSETTLED", "Document", "ListedLayer", "References"]
