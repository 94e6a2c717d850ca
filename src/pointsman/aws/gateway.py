"""The AWS calls Pointsman makes, typed: each method builds one `Operation` and sends it. Absent is `None`.

Every mutating method takes what it expects to find (`expecting`: a revision id) and fails with PreconditionFailed when
it is not so. https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pointsman.aws.belongings import Belonging
from pointsman.aws.images import Images
from pointsman.aws.invoking import Invoking
from pointsman.aws.layers import Layers
from pointsman.aws.metrics import Metrics
from pointsman.aws.objects import Objects
from pointsman.aws.packages import Packages
from pointsman.aws.references import References
from pointsman.aws.roles import Roles
from pointsman.aws.sending import Reply, nothing
from pointsman.aws.stacks import Stacks
from pointsman.aws.trials import Trials
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


class Package(Value, frozen=True, kw_only=True):
    """Code on its way to Lambda: the zip's bytes, or where in S3 it lies; or a container image's URI."""

    zip: bytes | None = None
    bucket: str = ""
    key: str = ""
    image: str = ""

    def parameters(self) -> dict[str, Any]:
        if self.image:
            return {"ImageUri": self.image}
        return {"ZipFile": self.zip} if self.zip is not None else {"S3Bucket": self.bucket, "S3Key": self.key}


class Caller(Value, frozen=True, kw_only=True):
    """Whose credentials these are."""

    account: str
    arn: str


class Quotas(Value, frozen=True, kw_only=True):
    """The account in this region. Code in bytes, all versions of all functions together; `functions`: how many."""

    code: int
    code_limit: int
    concurrency: int
    unreserved: int
    functions: int = 0


class Gateway(Stacks, Belonging, Images, Invoking, Layers, Metrics, Objects, Packages, References, Roles, Trials):
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

    def everything(self) -> Iterator[Configuration]:
        """`$LATEST` and every published version of every function of the account and region, 50 a page.

        ListFunctions leaves out State and LastUpdateStatus: those are the defaults here.
        https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
        """
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListFunctions",
                lambda reply: ([configuration(each) for each in reply["Functions"]], reply.get("NextMarker")),
                FunctionVersion="ALL",
                Marker=marker,
            )
            yield from page
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
            PackageType="Image" if package.image else None,
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

    def point(self, alias: Alias, routing: Routing, *, expecting: str, description: str | None) -> Alias:
        """Weights are always said, empty ones too: what UpdateAlias is not given it keeps, as the description here."""
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

    def delete_alias(self, function: str, name: AliasName) -> bool:
        """True, whether there was one or not: AWS makes no difference, and takes no revision id."""
        return self._send(
            "DeleteAlias",
            lambda _reply: True,
            mutates=True,
            subject=f"alias {name} of {function}",
            FunctionName=function,
            Name=str(name),
        )

    # The account, and who is asking

    def quotas(self) -> Quotas:
        return self._send(
            "GetAccountSettings",
            lambda reply: Quotas(
                code=reply["AccountUsage"]["TotalCodeSize"],
                code_limit=reply["AccountLimit"]["TotalCodeSize"],
                concurrency=reply["AccountLimit"]["ConcurrentExecutions"],
                unreserved=reply["AccountLimit"]["UnreservedConcurrentExecutions"],
                functions=reply["AccountUsage"].get("FunctionCount", 0),
            ),
        )

    def caller_account(self) -> str:
        return self.caller().account

    def caller(self) -> Caller:
        return self._send(
            "GetCallerIdentity", lambda reply: Caller(account=reply["Account"], arn=reply["Arn"]), service="sts"
        )

    # What a rehearsal supplies

    def create_bucket(self, bucket: str, region: str) -> None:
        where = {"LocationConstraint": region} if region != "us-east-1" else None
        self._send(
            "CreateBucket",
            nothing,
            service="s3",
            mutates=True,
            subject=bucket,
            Bucket=bucket,
            CreateBucketConfiguration=where,
        )

    def put_parameter(self, name: str, value: str) -> None:
        """An SSM parameter that must not be there yet: Conflict where it is."""
        self._send(
            "PutParameter", nothing, service="ssm", mutates=True, subject=name, Name=name, Value=value, Type="String"
        )


def configuration(reply: Reply) -> Configuration:
    """A FunctionConfiguration as ours."""
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


__all__ = ["Gateway", "Package", "configuration"]
