"""The AWS calls Pointsman makes, typed: each method builds one `Operation` and sends it. Absent is `None`.

Every mutating method takes what it expects to find (`expecting`: a revision id) and fails with PreconditionFailed when
it is not so. https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from pointsman.aws.operation import Operation, Transport
from pointsman.errors import AccessDenied, NotFound, NotYet
from pointsman.model import (
    Alias,
    AliasName,
    Canary,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    Routing,
    Value,
    Version,
    Weight,
    fingerprint,
)

R = TypeVar("R")
Reply = Mapping[str, Any]


class Package(Value, frozen=True, kw_only=True):
    """Code on its way to Lambda: the zip's bytes, or where in S3 it lies."""

    zip: bytes | None = None
    bucket: str = ""
    key: str = ""

    def parameters(self) -> dict[str, Any]:
        return {"ZipFile": self.zip} if self.zip is not None else {"S3Bucket": self.bucket, "S3Key": self.key}


class Stack(Value, frozen=True, kw_only=True):
    """A CloudFormation stack. `status` is AWS's, e.g. UPDATE_COMPLETE; `id` is its ARN."""

    name: str
    id: str
    status: str
    reason: str
    outputs: dict[str, str]
    parameters: dict[str, str]
    change_set: str = ""  # the ARN of the one last executed


class Resource(Value, frozen=True, kw_only=True):
    logical_id: str
    physical_id: str
    type: str


class Change(Value, frozen=True, kw_only=True):
    """One line of a change set: Add, Modify, Remove …; `replacement` is True, False or Conditional."""

    action: str
    logical_id: str
    type: str
    replacement: str = ""
    scope: tuple[str, ...] = ()


class ChangeSet(Value, frozen=True, kw_only=True):
    id: str
    status: str
    reason: str
    execution: str
    changes: tuple[Change, ...]
    more: str = ""  # the next page's token


class Gateway:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _send(
        self,
        action: str,
        read: Callable[[Reply], R],
        *,
        service: str = "lambda",
        mutates: bool = False,
        subject: str = "",
        **parameters: Any,
    ) -> R:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._transport.send(Operation(service, action, given, read, mutates, subject))

    def _or_none(self, action: str, read: Callable[[Reply], R], **parameters: Any) -> R | None:
        try:
            return self._send(action, read, **parameters)
        except NotFound:
            return None

    # Functions and versions

    def function(self, name: str, qualifier: str | None = None) -> Configuration | None:
        subject = f"{name}:{qualifier}" if qualifier else name
        return self._or_none(
            "GetFunction",
            lambda reply: configuration(reply["Configuration"]),
            subject=subject,
            FunctionName=name,
            Qualifier=qualifier,
        )

    def versions(self, name: str) -> Iterator[Configuration]:
        """Every published version, oldest first, page by page (50 each): stop early and the rest is never asked for."""
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListVersionsByFunction",
                lambda reply: ([configuration(each) for each in reply["Versions"]], reply.get("NextMarker")),
                subject=name,
                FunctionName=name,
                Marker=marker,
            )
            yield from (each for each in page if each.version.published)
            if not marker:
                return

    def create_function(self, name: FunctionName, settings: Mapping[str, Any], package: Package) -> Configuration:
        return self._send(
            "CreateFunction",
            configuration,
            mutates=True,
            subject=name,
            FunctionName=str(name),
            Code=package.parameters(),
            **settings,
        )

    def update_code(
        self, name: str, package: Package, *, expecting: str, architecture: str | None = None
    ) -> Configuration:
        return self._send(
            "UpdateFunctionCode",
            configuration,
            mutates=True,
            subject=name,
            FunctionName=name,
            RevisionId=expecting,
            Architectures=[architecture] if architecture else None,
            **package.parameters(),
        )

    def update_configuration(self, name: str, settings: Mapping[str, Any], *, expecting: str) -> Configuration:
        return self._send(
            "UpdateFunctionConfiguration",
            configuration,
            mutates=True,
            subject=name,
            FunctionName=name,
            RevisionId=expecting,
            **settings,
        )

    def publish(self, name: str, *, sha256: CodeSha256, expecting: str, description: str) -> Configuration:
        return self._send(
            "PublishVersion",
            configuration,
            mutates=True,
            subject=name,
            FunctionName=name,
            CodeSha256=str(sha256),
            RevisionId=expecting,
            Description=description,
        )

    # Aliases

    def alias(self, function: str, name: str) -> Alias | None:
        return self._or_none(
            "GetAlias", _alias, subject=f"alias {name} of {function}", FunctionName=function, Name=name
        )

    def aliases(self, function: str) -> tuple[Alias, ...]:
        found: list[Alias] = []
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListAliases",
                lambda reply: ([_alias(each) for each in reply["Aliases"]], reply.get("NextMarker")),
                subject=function,
                FunctionName=function,
                Marker=marker,
            )
            found += page
            if not marker:
                return tuple(found)

    def create_alias(self, function: str, name: AliasName, version: Version, *, description: str) -> Alias:
        return self._send(
            "CreateAlias",
            _alias,
            mutates=True,
            subject=f"alias {name} of {function}",
            FunctionName=function,
            Name=str(name),
            FunctionVersion=str(version),
            Description=description,
        )

    def point(self, alias: Alias, routing: Routing, *, expecting: str, description: str) -> Alias:
        """Weights are always said, empty ones too: what UpdateAlias is not given it keeps."""
        canary = routing.canary
        weights = {str(canary.version): float(canary.weight)} if canary else {}
        return self._send(
            "UpdateAlias",
            _alias,
            mutates=True,
            subject=f"alias {alias.name} of {alias.arn.name}",
            FunctionName=str(alias.arn.name),
            Name=str(alias.name),
            FunctionVersion=str(routing.version),
            RoutingConfig={"AdditionalVersionWeights": weights},
            RevisionId=expecting,
            Description=description,
        )

    # Who is asking

    def caller_account(self) -> str:
        return self._send("GetCallerIdentity", lambda reply: str(reply["Account"]), service="sts")

    def create_role(self, name: str) -> None:
        """A role that Lambda may assume and that may do nothing."""
        statement = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        self._send(
            "CreateRole",
            _nothing,
            service="iam",
            mutates=True,
            subject=name,
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )

    # CloudFormation

    def stack(self, name: str) -> Stack | None:
        return self._or_none(
            "DescribeStacks",
            lambda reply: _stack(reply["Stacks"][0]),
            service="cloudformation",
            subject=name,
            StackName=name,
        )

    def stack_template(self, name: str) -> Any:
        """The template as last executed: text, or what botocore made of JSON."""
        return self._send(
            "GetTemplate",
            lambda reply: reply["TemplateBody"],
            service="cloudformation",
            subject=name,
            StackName=name,
            TemplateStage="Original",
        )

    def stack_resources(self, name: str) -> tuple[Resource, ...]:
        found: list[Resource] = []
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListStackResources",
                lambda reply: ([_resource(each) for each in reply["StackResourceSummaries"]], reply.get("NextToken")),
                service="cloudformation",
                subject=name,
                StackName=name,
                NextToken=marker,
            )
            found += page
            if not marker:
                return tuple(found)

    def stack_failures(self, name: str) -> tuple[str, ...]:
        """Why the newest operation on the stack failed: "LogicalId (Type): reason", the root cause first."""

        def read(reply: Reply) -> tuple[str, ...]:
            failed: list[str] = []
            for event in reply["StackEvents"]:
                status = event["ResourceStatus"]
                if event["LogicalResourceId"] == name and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
                    break
                reason = event.get("ResourceStatusReason", "")
                if status.endswith("_FAILED") and "cancelled" not in reason:
                    failed.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
            return tuple(reversed(failed))

        return self._send("DescribeStackEvents", read, service="cloudformation", subject=name, StackName=name)

    def create_change_set(
        self,
        stack: str,
        name: str,
        template: str,
        *,
        create: bool,
        parameters: Mapping[str, str | None],
        capabilities: tuple[str, ...],
        tags: Mapping[str, str],
    ) -> str:
        """Returns the change set's ARN. A parameter that is None keeps the stack's present value."""
        return self._send(
            "CreateChangeSet",
            lambda reply: str(reply["Id"]),
            service="cloudformation",
            mutates=True,
            subject=stack,
            StackName=stack,
            ChangeSetName=name,
            ChangeSetType="CREATE" if create else "UPDATE",
            TemplateBody=template,
            Parameters=[
                {"ParameterKey": k, "UsePreviousValue": True} if v is None else {"ParameterKey": k, "ParameterValue": v}
                for k, v in parameters.items()
            ],
            Capabilities=list(capabilities),
            Tags=[{"Key": k, "Value": v} for k, v in tags.items()] or None,
        )

    def change_set(self, stack: str, name: str) -> ChangeSet | None:
        """With all its changes, however many pages they take."""
        found = self._or_none("DescribeChangeSet", _change_set, **_of_stack(stack, ChangeSetName=name))
        more = found.more if found else ""
        while found and more:
            page = self._send("DescribeChangeSet", _change_set, **_of_stack(stack, ChangeSetName=name, NextToken=more))
            more = page.more
            found = msgspec.structs.replace(found, changes=(*found.changes, *page.changes), more="")
        return found

    def execute_change_set(self, stack: str, name: str) -> None:
        self._send("ExecuteChangeSet", _nothing, mutates=True, **_of_stack(stack, ChangeSetName=name))

    def delete_change_set(self, stack: str, name: str) -> None:
        self._send("DeleteChangeSet", _nothing, mutates=True, **_of_stack(stack, ChangeSetName=name))

    def delete_stack(self, stack: str) -> None:
        self._send("DeleteStack", _nothing, mutates=True, **_of_stack(stack))

    # S3, for packages too large for a request

    def object_exists(self, bucket: str, key: str) -> bool:
        """False also where S3 will not say: without s3:ListBucket it answers 403 for a key that is not there."""
        subject = f"s3://{bucket}/{key}"
        try:
            found = self._or_none("HeadObject", lambda _: True, service="s3", subject=subject, Bucket=bucket, Key=key)
        except AccessDenied:
            return False
        return bool(found)

    def put_object(self, bucket: str, key: str, body: bytes) -> None:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        self._send(
            "PutObject",
            _nothing,
            service="s3",
            mutates=True,
            subject=f"s3://{bucket}/{key}",
            Bucket=bucket,
            Key=key,
            Body=body,
            ChecksumSHA256=digest,
        )


def _of_stack(stack: str, **more: str) -> dict[str, Any]:
    return {"service": "cloudformation", "subject": stack, "StackName": stack, **more}


def _nothing(_reply: Reply) -> None:
    """For replies that say only that it was done."""


def configuration(reply: Reply) -> Configuration:
    """A FunctionConfiguration as ours. Raises NotYet for a container image: its digest is not a zip's."""
    if reply.get("PackageType") == "Image":
        raise NotYet(
            f"{reply['FunctionArn']} is a container image: this version deploys zip packages only",
            next='Image functions come with `build = "image"`.',
        )
    settings = _settings(reply)
    return Configuration(
        arn=FunctionArn.parse(reply["FunctionArn"]),
        version=Version(reply["Version"]),
        sha256=CodeSha256(reply["CodeSha256"]),
        revision=reply.get("RevisionId", ""),
        settings=settings,
        fingerprint=fingerprint(settings),
        description=reply.get("Description", ""),
        state=reply.get("State", "Active"),
        state_reason=reply.get("StateReason", ""),
        update=reply.get("LastUpdateStatus", "Successful"),
        update_reason=reply.get("LastUpdateStatusReason", ""),
        modified=reply.get("LastModified", ""),
        code_size=reply.get("CodeSize", 0),
        hidden=reply.get("Environment", {}).get("Error", {}).get("Message", ""),
    )


_PLAIN = (
    *("Role", "Handler", "Runtime", "Timeout", "MemorySize", "KMSKeyArn", "Architectures", "FileSystemConfigs"),
    *("CapacityProviderConfig", "DurableConfig", "TenancyConfig"),
)


def _settings(reply: Reply) -> dict[str, Any]:
    """What decides how the code runs, in UpdateFunctionConfiguration's words, reply-only fields left out."""
    found: dict[str, Any] = {key: reply.get(key) for key in _PLAIN}
    found["Environment"] = reply.get("Environment", {}).get("Variables")
    found["Layers"] = [layer["Arn"] for layer in reply.get("Layers", ())]  # order decides: later layers win
    vpc = reply.get("VpcConfig", {})
    found["VpcConfig"] = {key: sorted(vpc.get(key, ())) for key in ("SubnetIds", "SecurityGroupIds") if vpc.get(key)}
    if vpc.get("Ipv6AllowedForDualStack"):
        found["VpcConfig"]["Ipv6AllowedForDualStack"] = True
    found["DeadLetterConfig"] = reply.get("DeadLetterConfig", {}).get("TargetArn")
    found["TracingConfig"] = reply.get("TracingConfig", {}).get("Mode")
    found["EphemeralStorage"] = reply.get("EphemeralStorage", {}).get("Size")
    found["SnapStart"] = reply.get("SnapStart", {}).get("ApplyOn")
    found["LoggingConfig"] = reply.get("LoggingConfig")
    found["ImageConfig"] = reply.get("ImageConfigResponse", {}).get("ImageConfig")
    return {key: value for key, value in sorted(found.items()) if value}


def _alias(reply: Reply) -> Alias:
    weights = reply.get("RoutingConfig", {}).get("AdditionalVersionWeights") or {}
    # A weight of exactly 0 serves nothing: an alias that carries one is not shifted.
    canaries = [Canary(version=Version(v), weight=Weight(w)) for v, w in weights.items() if w > 0]
    return Alias(
        arn=FunctionArn.parse(reply["AliasArn"]),
        name=AliasName(reply["Name"]),
        routing=Routing(version=Version(reply["FunctionVersion"]), canary=canaries[0] if canaries else None),
        revision=reply.get("RevisionId", ""),
        description=reply.get("Description", ""),
    )


def _stack(reply: Reply) -> Stack:
    return Stack(
        name=reply["StackName"],
        id=reply["StackId"],
        status=reply["StackStatus"],
        reason=reply.get("StackStatusReason", ""),
        outputs={each["OutputKey"]: each.get("OutputValue", "") for each in reply.get("Outputs", ())},
        parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in reply.get("Parameters", ())},
        change_set=reply.get("ChangeSetId", ""),
    )


def _resource(reply: Reply) -> Resource:
    return Resource(
        logical_id=reply["LogicalResourceId"],
        physical_id=reply.get("PhysicalResourceId", ""),
        type=reply["ResourceType"],
    )


def _change_set(reply: Reply) -> ChangeSet:
    def change(each: Reply) -> Change:
        what = each["ResourceChange"]
        return Change(
            action=what["Action"],
            logical_id=what["LogicalResourceId"],
            type=what["ResourceType"],
            replacement=what.get("Replacement", ""),
            scope=tuple(what.get("Scope", ())),
        )

    return ChangeSet(
        id=reply.get("ChangeSetId", ""),
        status=reply["Status"],
        reason=reply.get("StatusReason", ""),
        execution=reply.get("ExecutionStatus", ""),
        changes=tuple(change(each) for each in reply.get("Changes", ()) if "ResourceChange" in each),
        more=reply.get("NextToken", ""),
    )


__all__ = ["Change", "ChangeSet", "Gateway", "Package", "Resource", "Stack", "configuration"]
