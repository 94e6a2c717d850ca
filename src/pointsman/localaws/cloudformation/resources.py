"""What a stack can be made of: Lambda's types by our own state, AWS's other types by moto's models."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import copy
import importlib
import inspect
import io
import json
import random
import re
import string
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from moto.core.common_models import CloudFormationModel
from moto.core.exceptions import ServiceException
from werkzeug.exceptions import HTTPException

from pointsman.localaws.cloudformation.template import Json, TemplateError
from pointsman.localaws.lambda_ import LambdaError, LambdaState


class ResourceFailed(Exception):
    """A resource cannot be created, updated or deleted; the message becomes the event's reason."""


@dataclass(frozen=True, slots=True)
class Place:
    account: str
    region: str
    stack_id: str
    stack_name: str

    def name(self, logical_id: str, most: int = 64) -> str:
        """A name as CloudFormation makes one: stack-LogicalId-RANDOM, the stack's part cut to fit."""
        tail = f"-{logical_id}-{''.join(random.choices(string.ascii_uppercase + string.digits, k=12))}"
        return (self.stack_name[: max(1, most - len(tail))] + tail)[-most:]


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that exists."""

    physical_id: str
    name: str  # what it was created as; for some of moto's models that is not the physical id
    attributes: Mapping[str, Any] = field(default_factory=dict)
    live: Any = None  # moto's object, which is also in moto's backend


class Kind(Protocol):
    """One resource type. `create` and `update` return when the resource is ready; both raise ResourceFailed."""

    @property
    def name_property(self) -> str | None: ...
    @property
    def replacing(self) -> frozenset[str]:
        """Properties that cannot change: the resource is made anew."""
        ...

    def create(self, place: Place, logical_id: str, properties: Json) -> Made: ...
    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made: ...
    def delete(self, place: Place, made: Made, properties: Json) -> None: ...
    def attribute(self, made: Made, name: str) -> Any: ...


def changed_properties(before: Json, after: Json) -> frozenset[str]:
    return frozenset(
        name for name in before.keys() | after.keys() if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    )


_ABSENT = object()


class Kinds:
    """The resource types that are served."""

    def __init__(self, state: LambdaState) -> None:
        self._own: dict[str, Kind] = {
            "AWS::CDK::Metadata": Nothing(),
            "AWS::CloudFormation::WaitConditionHandle": Nothing(),
            "AWS::Lambda::Alias": LambdaAlias(state),
            "AWS::Lambda::Function": LambdaFunction(state),
            "AWS::Lambda::Permission": LambdaPermission(state),
            "AWS::Lambda::Url": LambdaUrl(state),
            "AWS::Lambda::Version": LambdaVersion(state),
        }

    def of(self, type_: str) -> Kind:
        """Raises ResourceFailed for a type nobody serves."""
        if type_ not in self._own:
            model = _model(type_)
            if model is None:
                raise ResourceFailed(f"The local CloudFormation has no resource type {type_}.")
            self._own[type_] = Role(model) if type_ == "AWS::IAM::Role" else Modelled(model)
        return self._own[type_]


class Nothing:
    """Types that are only there for CloudFormation itself."""

    name_property = None
    replacing: frozenset[str] = frozenset()

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = place.name(logical_id)
        return Made(name, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        return

    def attribute(self, made: Made, name: str) -> Any:
        raise TemplateError(f"{made.name} has no attribute {name}")


# --- Lambda ---


class _Lambda:
    name_property: str | None = None

    def __init__(self, state: LambdaState) -> None:
        self._state = state

    def _call(self, operation: str, place: Place, parameters: Json) -> Json:
        method: Callable[[str, str, Json], Json] | None = getattr(
            self._state, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower(), None
        )
        if method is None:
            raise ResourceFailed(f"The local Lambda does not offer {operation} yet.")
        try:
            return method(place.account, place.region, parameters)
        except LambdaError as error:
            said = f"{error.message or error.code} (Service: Lambda, Status Code: {error.status})"
            raise ResourceFailed(f'Resource handler returned message: "{said}"') from error

    def _gone(self, operation: str, place: Place, parameters: Json) -> None:
        """Delete; what somebody else has deleted before is fine."""
        try:
            self._call(operation, place, parameters)
        except ResourceFailed as error:
            if not (isinstance(error.__cause__, LambdaError) and error.__cause__.status == 404):
                raise

    def attribute(self, made: Made, name: str) -> Any:
        if name not in made.attributes:
            raise TemplateError(f"Requested attribute {name} does not exist in schema for {type(self).__name__}")
        return made.attributes[name]


def _known(properties: Json, known: Iterable[str], refused: Iterable[str] = ()) -> None:
    if unknown := sorted(properties.keys() - set(known) - set(refused)):
        raise ResourceFailed(f"Properties validation failed: extraneous key [{', '.join(unknown)}] is not permitted")
    if here := sorted(properties.keys() & set(refused)):
        raise ResourceFailed(f"The local Lambda does not offer {', '.join(here)} yet.")


def _typed(value: Any, name: str) -> Any:
    """CloudFormation takes "128" for 128 and "true" for true; Lambda does not."""
    match value:
        case dict():
            # An environment's values are texts, whatever they look like.
            return {k: v if name == "Variables" else _typed(v, k) for k, v in value.items()}
        case str() if name in ("MemorySize", "Timeout", "Size") and value.isdecimal():
            return int(value)
        case str() if name == "Ipv6AllowedForDualStack":
            return value == "true"
    return value


class LambdaFunction(_Lambda):
    """AWS::Lambda::Function. An update changes only what the template changed: code deployed since then stays."""

    name_property = "FunctionName"
    replacing = frozenset({"FunctionName", "PackageType"})

    # What UpdateFunctionConfiguration is told when a property is taken out of the template.
    _CONFIGURATION: Mapping[str, Any] = {
        "DeadLetterConfig": {"TargetArn": ""},
        "Description": "",
        "Environment": {"Variables": {}},
        "EphemeralStorage": {"Size": 512},
        "FileSystemConfigs": [],
        "Handler": None,
        "KmsKeyArn": "",
        "Layers": [],
        "LoggingConfig": None,
        "MemorySize": 128,
        "Role": None,
        "Runtime": None,
        "SnapStart": {"ApplyOn": "None"},
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    }
    _OTHERS = ("Architectures", "Code", "FunctionName", "PackageType", "ReservedConcurrentExecutions", "Tags")
    _REFUSED = (
        "CapacityProviderConfig", "CodeSigningConfigArn", "DurableConfig", "FunctionScalingConfig", "ImageConfig",
        "PublishToLatestPublished", "RecursiveLoop", "RuntimeManagementConfig", "TenancyConfig",
    )  # fmt: skip

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        _known(properties, (*self._CONFIGURATION, *self._OTHERS), self._REFUSED)
        name = str(properties.get("FunctionName") or place.name(logical_id))
        given = self._configuration(properties) | {"FunctionName": name, "Code": self._code(properties)}
        for key in ("Architectures", "PackageType"):
            if key in properties:
                given[key] = properties[key]
        if "Tags" in properties:
            given["Tags"] = _tags(properties["Tags"])
        self._call("CreateFunction", place, given)
        try:
            self._settled(place, name)
            self._reserve(place, name, properties)
        except BaseException:
            self._gone("DeleteFunction", place, {"FunctionName": name})
            raise
        return self._made(place, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        _known(after, (*self._CONFIGURATION, *self._OTHERS), self._REFUSED)
        changed = changed_properties(before, after)
        if changed & {"Code", "Architectures"}:
            self._settled(place, made.name)
            code = self._code(after) | {"FunctionName": made.name}
            code |= {"Architectures": after.get("Architectures", ["x86_64"])} if "Architectures" in changed else {}
            self._call("UpdateFunctionCode", place, code)
        if configuration := changed & self._CONFIGURATION.keys():
            self._settled(place, made.name)
            given = {key: after.get(key, self._CONFIGURATION[key]) for key in sorted(configuration)}
            if given.get("LoggingConfig", {}) is None:
                given["LoggingConfig"] = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{made.name}"}
            if missing := [key for key, value in given.items() if value is None]:
                raise ResourceFailed(f"Properties validation failed: required key [{missing[0]}] not found")
            self._call("UpdateFunctionConfiguration", place, self._configuration(given) | {"FunctionName": made.name})
        self._settled(place, made.name)
        if "Tags" in changed:
            self._tag(place, made, _tags(before.get("Tags", [])), _tags(after.get("Tags", [])))
        if "ReservedConcurrentExecutions" in changed:
            self._reserve(place, made.name, after)
        return self._made(place, made.name)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteFunction", place, {"FunctionName": made.name})

    def _configuration(self, properties: Json) -> Json:
        given = {key: _typed(properties[key], key) for key in self._CONFIGURATION if key in properties}
        if "KmsKeyArn" in given:
            given["KMSKeyArn"] = given.pop("KmsKeyArn")
        if "Variables" in given.get("Environment", {}):
            given["Environment"] = {"Variables": {k: _string(v) for k, v in given["Environment"]["Variables"].items()}}
        return given

    def _code(self, properties: Json) -> Json:
        code = properties.get("Code")
        if not isinstance(code, dict):
            raise ResourceFailed("Properties validation failed: required key [Code] not found")
        if "ZipFile" in code:
            return {"ZipFile": inline_package(str(code["ZipFile"]), str(properties.get("Runtime", "")))}
        _known(code, ("S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri"), ("SourceKMSKeyArn",))
        return dict(code)

    def _reserve(self, place: Place, name: str, properties: Json) -> None:
        if "ReservedConcurrentExecutions" in properties:
            number = int(properties["ReservedConcurrentExecutions"])
            given = {"FunctionName": name, "ReservedConcurrentExecutions": number}
            self._call("PutFunctionConcurrency", place, given)
        else:
            self._call("DeleteFunctionConcurrency", place, {"FunctionName": name})

    def _tag(self, place: Place, made: Made, before: Json, after: Json) -> None:
        resource = made.attributes["Arn"]
        if gone := sorted(before.keys() - after.keys()):
            self._call("UntagResource", place, {"Resource": resource, "TagKeys": gone})
        if new := {key: value for key, value in after.items() if before.get(key) != value}:
            self._call("TagResource", place, {"Resource": resource, "Tags": new})

    def _settled(self, place: Place, name: str, patience_s: float = 300.0) -> Json:
        deadline = time.monotonic() + patience_s
        while True:
            found = self._call("GetFunctionConfiguration", place, {"FunctionName": name})
            update = found.get("LastUpdateStatus")  # absent while State is Pending
            if "Failed" in (found["State"], update):
                raise ResourceFailed(str(found.get("LastUpdateStatusReason") or found.get("StateReason")))
            if found["State"] != "Pending" and update != "InProgress":
                return found
            if time.monotonic() > deadline:
                raise ResourceFailed(f"{name} did not become ready within {patience_s:g} s")
            time.sleep(0.01)

    def _made(self, place: Place, name: str) -> Made:
        found = self._call("GetFunctionConfiguration", place, {"FunctionName": name})
        snap = found.get("SnapStart", {"ApplyOn": "None", "OptimizationStatus": "Off"})
        attributes = {
            "Arn": found["FunctionArn"],
            "SnapStartResponse": snap,
            "SnapStartResponse.ApplyOn": snap["ApplyOn"],
            "SnapStartResponse.OptimizationStatus": snap["OptimizationStatus"],
        }
        return Made(name, name, attributes)


def inline_package(source: str, runtime: str) -> bytes:
    """The zip CloudFormation makes of `Code.ZipFile`: one file called index. The same source gives the same bytes."""
    suffix = "js" if runtime.startswith("nodejs") else "py" if runtime.startswith("python") else None
    if suffix is None:
        raise ResourceFailed("ZipFile can only be used when Runtime is set to either of nodejs, python.")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(f"index.{suffix}", (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, source)
    return packed.getvalue()


def _tags(tags: Iterable[Mapping[str, Any]]) -> Json:
    return {str(tag["Key"]): _string(tag["Value"]) for tag in tags}


def _string(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class LambdaVersion(_Lambda):
    """AWS::Lambda::Version: publishes. Every change publishes anew; the old version goes unless it is retained."""

    replacing = frozenset({"FunctionName", "Description", "CodeSha256"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        _known(properties, self.replacing, ("ProvisionedConcurrencyConfig", "RuntimePolicy", "FunctionScalingConfig"))
        named = {"FunctionName": properties["FunctionName"]}
        LambdaFunction(self._state)._settled(place, properties["FunctionName"])
        listing = self._call("ListVersionsByFunction", place, named)
        before = {version["Version"] for version in listing["Versions"]}
        while "NextMarker" in listing:
            listing = self._call("ListVersionsByFunction", place, named | {"Marker": listing["NextMarker"]})
            before |= {version["Version"] for version in listing["Versions"]}
        found = self._call(
            "PublishVersion", place, {key: properties[key] for key in self.replacing & properties.keys()}
        )
        if found["Version"] in before:
            raise ResourceFailed(
                f"A version for this Lambda function exists ( {found['Version']} ). "
                "Modify the function to create a new version."
            )
        arn = found["FunctionArn"]
        return Made(arn, arn, {"Version": found["Version"], "FunctionArn": arn})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        raise ResourceFailed("Updates are not supported for AWS::Lambda::Version.")

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteFunction", place, {"FunctionName": made.physical_id})


class LambdaAlias(_Lambda):
    name_property = "Name"
    replacing = frozenset({"FunctionName", "Name"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        made = self._call("CreateAlias", place, self._given(properties))
        return Made(made["AliasArn"], made["Name"], {"AliasArn": made["AliasArn"]})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        # Weights and description are always said: UpdateAlias keeps what it is not given.
        self._call("UpdateAlias", place, {"Description": "", "RoutingConfig": {}} | self._given(after))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteAlias", place, {"FunctionName": properties["FunctionName"], "Name": made.name})

    def _given(self, properties: Json) -> Json:
        known = ("Description", "FunctionName", "FunctionVersion", "Name", "RoutingConfig")
        _known(properties, known, ("ProvisionedConcurrencyConfig",))
        given: Json = {key: _string(properties[key]) for key in known[:-1] if key in properties}
        weights = properties.get("RoutingConfig", {}).get("AdditionalVersionWeights", [])
        given["RoutingConfig"] = {
            "AdditionalVersionWeights": {str(w["FunctionVersion"]): float(w["FunctionWeight"]) for w in weights}
        }
        return given


class LambdaPermission(_Lambda):
    replacing = frozenset(
        {"Action", "EventSourceToken", "FunctionName", "FunctionUrlAuthType", "Principal", "PrincipalOrgID",
         "SourceAccount", "SourceArn", "InvokedViaFunctionUrl"}
    )  # fmt: skip

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        _known(properties, self.replacing)
        statement = place.name(logical_id, 100)
        self._call("AddPermission", place, properties | {"StatementId": statement})
        return Made(statement, statement, {"Id": statement})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        raise ResourceFailed("Updates are not supported for AWS::Lambda::Permission.")

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        given = {"FunctionName": properties["FunctionName"], "StatementId": made.physical_id}
        self._gone("RemovePermission", place, given)


class LambdaUrl(_Lambda):
    replacing = frozenset({"TargetFunctionArn", "Qualifier"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        found = self._call("CreateFunctionUrlConfig", place, self._given(properties))
        attributes = {"FunctionUrl": found["FunctionUrl"], "FunctionArn": found["FunctionArn"]}
        return Made(found["FunctionArn"], found["FunctionArn"], attributes)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._call("UpdateFunctionUrlConfig", place, self._given(after))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        given = self._given(properties)
        self._gone("DeleteFunctionUrlConfig", place, {k: given[k] for k in ("FunctionName", "Qualifier") if k in given})

    def _given(self, properties: Json) -> Json:
        _known(properties, ("TargetFunctionArn", "Qualifier", "AuthType", "Cors", "InvokeMode"))
        given = dict(properties)
        return given | {"FunctionName": given.pop("TargetFunctionArn")}


# --- moto's ---


def _model(type_: str) -> Any:
    """moto's class for a type, or None. Importing only its module spares the second that importing all takes."""
    match type_.split("::"):
        case ["AWS", str(service), str()] if service != "Lambda":
            folder = {"ElasticLoadBalancing": "elb", "ElasticLoadBalancingV2": "elbv2"}.get(service, service.lower())
        case _:
            return None
    try:
        importlib.import_module(f"moto.{folder}.models")
    except ModuleNotFoundError:
        return None
    return next((m for m in CloudFormationModel.__subclasses__() if m.cloudformation_type() == type_), None)


class Modelled:
    """A type moto has a model for."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._type = str(model.cloudformation_type())
        self.name_property: str | None = model.cloudformation_name_type() or None
        self.replacing = frozenset({self.name_property} if self.name_property else ())

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = self._name(place, logical_id, properties)
        live = self._moto(
            self._model.create_from_cloudformation_json,
            name,
            self._document(properties),
            place.account,
            place.region,
            LogicalId=logical_id,
            StackId=place.stack_id,
            ResourceType=self._type,
        )
        live.type = self._type
        return Made(str(live.physical_resource_id), name, live=live)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        theirs = self._model.update_from_cloudformation_json
        if hasattr(theirs, "__isabstractmethod__"):
            raise ResourceFailed(f"The local CloudFormation cannot update {self._type}; only create and delete it.")
        live = self._moto(
            theirs,
            original_resource=made.live,
            new_resource_name=made.name,
            cloudformation_json=self._document(after),
            account_id=place.account,
            region_name=place.region,
        )
        live = made.live if live is None else live
        return Made(str(live.physical_resource_id), made.name, live=live)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        theirs = getattr(made.live, "delete", None)
        if theirs is not None and _takes_two(theirs):
            self._moto(theirs, place.account, place.region)
        elif not hasattr(delete := self._model.delete_from_cloudformation_json, "__isabstractmethod__"):
            self._moto(delete, made.physical_id, self._document(properties), place.account, place.region)
        else:
            raise ResourceFailed(f"The local CloudFormation cannot delete {self._type}.")

    def attribute(self, made: Made, name: str) -> Any:
        try:
            value = made.live.get_cfn_attribute(name)
        except Exception as error:  # moto says "no such attribute" in several ways
            raise TemplateError(
                f"Template error: resource type {self._type} does not support attribute type {name} in Fn::GetAtt"
            ) from error
        return value

    def _name(self, place: Place, logical_id: str, properties: Json) -> str:
        if self.name_property and properties.get(self.name_property):
            return str(properties[self.name_property])
        if self._type == "AWS::S3::Bucket":
            return place.name(logical_id, 63).lower()
        return place.name(logical_id, 64 if self._type.startswith("AWS::IAM") else 80)

    def _document(self, properties: Json) -> Json:
        return {"Type": self._type, "Properties": copy.deepcopy(properties)}

    def _moto(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        except (ServiceException, HTTPException) as error:
            message = getattr(error, "message", None) or getattr(error, "description", None) or str(error)
            raise ResourceFailed(f'Resource handler returned message: "{message}"') from error
        except KeyError as error:
            raise ResourceFailed(f"Properties validation failed: required key [{error.args[0]}] not found") from error


def _takes_two(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind("account", "region")
    except TypeError:
        return False
    return True


class Role(Modelled):
    """AWS::IAM::Role: moto attaches no managed policies, and its update forgets all policies and the trust policy."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.replacing = frozenset({"RoleName", "Path"})

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        later = ("ManagedPolicyArns", "Policies", "Tags")
        made = super().create(place, logical_id, {k: v for k, v in properties.items() if k not in later})
        try:
            return self._configure(place, made, {}, properties)
        except BaseException:
            self.delete(place, made, properties)
            raise

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        return self._configure(place, made, before, after)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        iam = self._iam(place)
        role = next((role for role in iam.roles.values() if role.name == made.name), None)
        if role is None:
            return
        for arn in list(role.managed_policies):
            if arn in properties.get("ManagedPolicyArns", []):
                self._moto(iam.detach_role_policy, arn, made.name)
        for policy in properties.get("Policies", []):
            role.policies.pop(policy["PolicyName"], None)
        self._moto(iam.delete_role, made.name)

    def _configure(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        iam, role = self._iam(place), made.live
        if before:
            document = after["AssumeRolePolicyDocument"]
            text = document if isinstance(document, str) else json.dumps(document)
            self._moto(iam.update_assume_role_policy, made.name, text)
            role.description = after.get("Description", "")
            role.max_session_duration = int(after.get("MaxSessionDuration", 3600))
            if after.get("PermissionsBoundary"):
                self._moto(iam.put_role_permissions_boundary, made.name, after["PermissionsBoundary"])
            else:
                role.permissions_boundary_arn = None
        for policy in before.get("Policies", []):
            role.policies.pop(policy["PolicyName"], None)
        for policy in after.get("Policies", []):
            role.put_policy(policy["PolicyName"], json.dumps(policy["PolicyDocument"]))
        wanted, had = after.get("ManagedPolicyArns", []), before.get("ManagedPolicyArns", [])
        for arn in had:
            if arn not in wanted and arn in role.managed_policies:
                self._moto(iam.detach_role_policy, arn, made.name)
        for arn in wanted:
            if arn not in role.managed_policies:
                self._moto(iam.attach_role_policy, arn, made.name)
        if gone := sorted(_tags(before.get("Tags", [])).keys() - _tags(after.get("Tags", [])).keys()):
            self._moto(iam.untag_role, made.name, gone)
        if tags := after.get("Tags"):
            self._moto(iam.tag_role, made.name, tags)
        return made

    def _iam(self, place: Place) -> Any:
        from moto.iam.models import iam_backends
        from moto.utilities.utils import get_partition

        return iam_backends[place.account][get_partition(place.region)]
