"""Lambda's resource types, by the local Lambda's own operations."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pointsman.localaws.cloudformation.called import Described, retagged, tags_of, text_of
from pointsman.localaws.cloudformation.resources import Made, NotBegun, Place, ResourceFailed, changed_properties
from pointsman.localaws.cloudformation.template import Json
from pointsman.localaws.lambda_ import LambdaError, LambdaState
from pointsman.localaws.lambda_.address import LATEST_PUBLISHED

_PATIENCE_S = 300.0


class _Lambda(Described):
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
            if not _is_missing(error):
                raise

    def _vanished(self, operation: str, place: Place, parameters: Json) -> None:
        """Wait until what was deleted is no longer there: what is on managed instances takes a while."""

        def missing() -> Json | None:
            try:
                self._call(operation, place, parameters)
            except ResourceFailed as error:
                if _is_missing(error):
                    return {}
                raise
            return None

        _wait(missing, f"the deletion of {' '.join(parameters.values())}")

    def _settled(self, place: Place, name: str, qualifier: str | None = None) -> Json:
        """The configuration of a function or version that is no longer being created or updated."""
        named = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})

        def settled() -> Json | None:
            found = self._call("GetFunctionConfiguration", place, named)
            update = found.get("LastUpdateStatus")  # absent while State is Pending
            if "Failed" in (found["State"], update):
                raise ResourceFailed(str(found.get("LastUpdateStatusReason") or found.get("StateReason")))
            return found if found["State"] != "Pending" and update != "InProgress" else None

        return _wait(settled, name)

    def _retag(self, place: Place, arn: str, before: Json, after: Json) -> None:
        """`before` and `after` are the resource's properties."""
        gone, tags = retagged(before, after)
        if gone:
            self._call("UntagResource", place, {"Resource": arn, "TagKeys": gone})
        if tags:
            self._call("TagResource", place, {"Resource": arn, "Tags": tags})

    def _provision(self, place: Place, named: Json, properties: Json) -> None:
        config = properties["ProvisionedConcurrencyConfig"]
        self._call("PutProvisionedConcurrencyConfig", place, named | config)

        def ready() -> Json | None:
            found = self._call("GetProvisionedConcurrencyConfig", place, named)
            if found["Status"] == "FAILED":
                raise ResourceFailed(str(found.get("StatusReason")))
            return found if found["Status"] == "READY" else None

        _wait(ready, f"the provisioned concurrency of {named['FunctionName']}")


def _is_missing(error: ResourceFailed) -> bool:
    return isinstance(error.__cause__, LambdaError) and error.__cause__.status == 404


def _wait(look: Callable[[], Json | None], what: str) -> Json:
    deadline = time.monotonic() + _PATIENCE_S
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise ResourceFailed(f"{what} did not become ready within {_PATIENCE_S:g} s")
        time.sleep(0.01)
    return found


class LambdaFunction(_Lambda):
    """AWS::Lambda::Function. An update changes only what the template changed: code deployed since then stays."""

    type = "AWS::Lambda::Function"
    name_property = "FunctionName"

    # What UpdateFunctionConfiguration is told when a property is taken out of the template; None: it must be there.
    _CONFIGURATION: Mapping[str, Any] = {
        "CapacityProviderConfig": None,
        "DeadLetterConfig": {"TargetArn": ""},
        "Description": "",
        "DurableConfig": None,
        "Environment": {"Variables": {}},
        "EphemeralStorage": {"Size": 512},
        "FileSystemConfigs": [],
        "Handler": None,
        "ImageConfig": {},
        "KmsKeyArn": "",
        "Layers": [],
        "LoggingConfig": {"LogFormat": "Text"},
        "MemorySize": 128,
        "Role": None,
        "Runtime": None,
        "SnapStart": {"ApplyOn": "None"},
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    }
    _OF_MANAGED: Mapping[str, Any] = {"LoggingConfig": {"LogFormat": "JSON"}, "MemorySize": 2048}
    # The others are said by operations of their own.
    _AT_CREATION = ("Architectures", "CodeSigningConfigArn", "PackageType", "TenancyConfig")
    _AFTERWARDS = ("ReservedConcurrentExecutions", "RuntimeManagementConfig", "RecursiveLoop", "FunctionScalingConfig")

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("FunctionName") or place.name(logical_id))
        given = self._configuration(properties) | {"FunctionName": name, "Code": self._code(properties)}
        given |= {key: properties[key] for key in self._AT_CREATION if key in properties}
        if publishes := self._publishes(properties):
            given |= {"Publish": True, "PublishTo": "LATEST_PUBLISHED"}
        given["Tags"] = tags_of(properties.get("Tags", [])) | {
            "aws:cloudformation:logical-id": logical_id,
            "aws:cloudformation:stack-id": place.stack_id,
            "aws:cloudformation:stack-name": place.stack_name,
        }
        self._call("CreateFunction", place, given)
        try:
            self._settled(place, name)
            if publishes:
                self._settled(place, name, LATEST_PUBLISHED)
            for key in self._AFTERWARDS:
                if key in properties:
                    self._say(place, name, key, properties)
        except BaseException:
            self._gone("DeleteFunction", place, {"FunctionName": name})
            raise
        return self._made(place, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        changed = changed_properties(before, after)
        named = {"FunctionName": made.name}
        # Inline code is packed as the runtime wants it.
        if changed & {"Code", "Architectures"} or ("Runtime" in changed and "ZipFile" in after.get("Code", {})):
            self._settled(place, made.name)
            code = self._code(after) | named
            code |= {"Architectures": after.get("Architectures", ["x86_64"])} if "Architectures" in changed else {}
            self._call("UpdateFunctionCode", place, code)
        if configuration := changed & self._CONFIGURATION.keys():
            self._settled(place, made.name)
            defaults = {**self._CONFIGURATION, **(self._OF_MANAGED if "CapacityProviderConfig" in after else {})}
            given = {key: after.get(key, defaults[key]) for key in sorted(configuration)}
            if missing := [key for key, value in given.items() if value is None]:
                raise ResourceFailed(f"{missing[0]} cannot be taken away from a function.")
            if "LoggingConfig" in given:
                given["LoggingConfig"] = {"LogGroup": f"/aws/lambda/{made.name}"} | given["LoggingConfig"]
            self._call("UpdateFunctionConfiguration", place, self._configuration(given) | named)
        self._settled(place, made.name)
        if self._publishes(after):
            self._call("PublishVersion", place, named | {"PublishTo": "LATEST_PUBLISHED"})
            self._settled(place, made.name, LATEST_PUBLISHED)
        for key in (*self._AFTERWARDS, "CodeSigningConfigArn"):
            if key in changed:
                self._say(place, made.name, key, after)
        self._retag(place, made.attributes["Arn"], before, after)
        return self._made(place, made.name)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteFunction", place, {"FunctionName": made.name})
        self._vanished("GetFunction", place, {"FunctionName": made.name})

    def _publishes(self, properties: Json) -> bool:
        """To $LATEST.PUBLISHED, as functions on managed instances do unless the template says otherwise."""
        return bool(properties.get("PublishToLatestPublished", "CapacityProviderConfig" in properties))

    def _configuration(self, properties: Json) -> Json:
        given = {key: properties[key] for key in self._CONFIGURATION if key in properties}
        if "KmsKeyArn" in given:
            given["KMSKeyArn"] = given.pop("KmsKeyArn")
        if "Variables" in given.get("Environment", {}):
            given["Environment"] = {"Variables": {k: text_of(v) for k, v in given["Environment"]["Variables"].items()}}
        return given

    def _code(self, properties: Json) -> Json:
        code = dict(properties["Code"])
        if "ZipFile" in code:
            return {"ZipFile": inline_package(str(code["ZipFile"]), str(properties.get("Runtime", "")))}
        return code

    def _say(self, place: Place, name: str, key: str, properties: Json) -> None:
        """One of the properties that have operations of their own; absent: as it was before anything was said."""
        named, value = {"FunctionName": name}, properties.get(key)
        match key:
            case "ReservedConcurrentExecutions" if value is None:
                self._call("DeleteFunctionConcurrency", place, named)
            case "ReservedConcurrentExecutions":
                self._call("PutFunctionConcurrency", place, named | {key: value})
            case "RuntimeManagementConfig":
                self._call("PutRuntimeManagementConfig", place, named | (value or {"UpdateRuntimeOn": "Auto"}))
            case "RecursiveLoop":
                self._call("PutFunctionRecursionConfig", place, named | {key: value or "Terminate"})
            case "CodeSigningConfigArn" if value is None:
                self._call("DeleteFunctionCodeSigningConfig", place, named)
            case "CodeSigningConfigArn":
                self._call("PutFunctionCodeSigningConfig", place, named | {key: value})
            case _:
                scaled = named | {"Qualifier": LATEST_PUBLISHED, key: value or {}}
                self._call("PutFunctionScalingConfig", place, scaled)

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


class LambdaVersion(_Lambda):
    """AWS::Lambda::Version: publishes. A change publishes anew; the old version goes unless it is retained."""

    type = "AWS::Lambda::Version"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        named = {"FunctionName": properties["FunctionName"]}
        self._settled(place, properties["FunctionName"])
        before = {version["Version"] for version in self._versions(place, named)}
        asked = ("FunctionName", "Description", "CodeSha256")
        found = self._call("PublishVersion", place, {key: properties[key] for key in asked if key in properties})
        version, arn = found["Version"], found["FunctionArn"]
        if version in before:
            raise ResourceFailed(
                f"A version for this Lambda function exists ( {version} ). Modify the function to create a new version."
            )
        made = Made(arn, arn, {"Version": version, "FunctionArn": arn})
        named["Qualifier"] = version
        try:
            self._settled(place, properties["FunctionName"], version)
            if policy := properties.get("RuntimePolicy"):
                self._call("PutRuntimeManagementConfig", place, named | policy)
            if "ProvisionedConcurrencyConfig" in properties:
                self._provision(place, named, properties)
            if "FunctionScalingConfig" in properties:
                scaling = {"FunctionScalingConfig": properties["FunctionScalingConfig"]}
                self._call("PutFunctionScalingConfig", place, named | scaling)
        except BaseException:
            self.delete(place, made, properties)
            raise
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        """AWS's schema lets nothing else of a version change."""
        function, _, version = made.physical_id.rpartition(":")
        scaling = {"FunctionScalingConfig": after.get("FunctionScalingConfig", {})}
        self._call("PutFunctionScalingConfig", place, {"FunctionName": function, "Qualifier": version} | scaling)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteFunction", place, {"FunctionName": made.physical_id})
        self._vanished("GetFunction", place, {"FunctionName": made.physical_id})

    def _versions(self, place: Place, named: Json) -> Iterable[Json]:
        listing = self._call("ListVersionsByFunction", place, named)
        yield from listing["Versions"]
        while "NextMarker" in listing:
            listing = self._call("ListVersionsByFunction", place, named | {"Marker": listing["NextMarker"]})
            yield from listing["Versions"]


class LambdaAlias(_Lambda):
    type = "AWS::Lambda::Alias"
    name_property = "Name"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        found = self._call("CreateAlias", place, self._given(properties))
        made = Made(found["AliasArn"], found["Name"], {"AliasArn": found["AliasArn"]})
        if "ProvisionedConcurrencyConfig" in properties:
            try:
                self._provision(place, self._named(properties), properties)
            except BaseException:
                self.delete(place, made, properties)
                raise
        return made

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        changed = changed_properties(before, after)
        provisioned = "ProvisionedConcurrencyConfig"
        if provisioned in changed and provisioned not in after:
            self._gone("DeleteProvisionedConcurrencyConfig", place, self._named(before))
        if changed - {provisioned}:
            # Weights and description are always said: UpdateAlias keeps what it is not given.
            self._call("UpdateAlias", place, {"Description": "", "RoutingConfig": {}} | self._given(after))
        if provisioned in changed and provisioned in after:
            self._provision(place, self._named(after), after)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteAlias", place, {"FunctionName": properties["FunctionName"], "Name": made.name})

    def _named(self, properties: Json) -> Json:
        return {"FunctionName": properties["FunctionName"], "Qualifier": properties["Name"]}

    def _given(self, properties: Json) -> Json:
        known = ("Description", "FunctionName", "FunctionVersion", "Name")
        given: Json = {key: properties[key] for key in known if key in properties}
        weights = properties.get("RoutingConfig", {}).get("AdditionalVersionWeights", [])
        given["RoutingConfig"] = {
            "AdditionalVersionWeights": {each["FunctionVersion"]: each["FunctionWeight"] for each in weights}
        }
        return given


class LambdaPermission(_Lambda):
    type = "AWS::Lambda::Permission"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        statement = place.name(logical_id, 100)
        self._call("AddPermission", place, properties | {"StatementId": statement})
        return Made(statement, statement, {"Id": statement})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        raise NotBegun(f"Updates are not supported for {self.type}.")

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        given = {"FunctionName": properties["FunctionName"], "StatementId": made.physical_id}
        self._gone("RemovePermission", place, given)


class LambdaUrl(_Lambda):
    type = "AWS::Lambda::Url"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        found = self._call("CreateFunctionUrlConfig", place, self._given(properties))
        attributes = {"FunctionUrl": found["FunctionUrl"], "FunctionArn": found["FunctionArn"]}
        return Made(found["FunctionArn"], found["FunctionArn"], attributes)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        # What is not given stays; an empty Cors takes it away.
        self._call("UpdateFunctionUrlConfig", place, {"Cors": {}, "InvokeMode": "BUFFERED"} | self._given(after))
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        given = self._given(properties)
        self._gone("DeleteFunctionUrlConfig", place, {k: given[k] for k in ("FunctionName", "Qualifier") if k in given})

    def _given(self, properties: Json) -> Json:
        given = dict(properties)
        return given | {"FunctionName": given.pop("TargetFunctionArn")}


class LambdaEventInvokeConfig(_Lambda):
    type = "AWS::Lambda::EventInvokeConfig"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        identity = f"{properties['FunctionName']}|{properties['Qualifier']}"
        try:
            self._call("GetFunctionEventInvokeConfig", place, self._named(properties))
        except ResourceFailed as error:
            if not _is_missing(error):
                raise
        else:
            raise ResourceFailed(f"{self.type} with identifier '{identity}' already exists.")
        self._call("PutFunctionEventInvokeConfig", place, properties)
        return Made(identity, identity)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._call("PutFunctionEventInvokeConfig", place, after)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteFunctionEventInvokeConfig", place, self._named(properties))

    def _named(self, properties: Json) -> Json:
        return {key: properties[key] for key in ("FunctionName", "Qualifier")}


class LambdaEventSourceMapping(_Lambda):
    type = "AWS::Lambda::EventSourceMapping"

    # What UpdateEventSourceMapping is told when a property is taken out of the template.
    _DEFAULTS: Mapping[str, Any] = {
        "BisectBatchOnFunctionError": False,
        "DestinationConfig": {},
        "Enabled": True,
        "FilterCriteria": {},
        "FunctionResponseTypes": [],
        "KmsKeyArn": "",
        "MaximumBatchingWindowInSeconds": 0,
        "MaximumRecordAgeInSeconds": -1,
        "MaximumRetryAttempts": -1,
        "MetricsConfig": {"Metrics": []},
        "ParallelizationFactor": 1,
        "ScalingConfig": {},
        "TumblingWindowInSeconds": 0,
    }
    _UNDER_WAY = ("Creating", "Enabling", "Disabling", "Updating")

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        given = self._given(properties)
        if properties.get("Tags"):
            given["Tags"] = tags_of(properties["Tags"])
        found = self._call("CreateEventSourceMapping", place, given)
        return self._made(place, found["UUID"])

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        changed = changed_properties(before, after)
        given = {key: after[key] if key in after else self._default(key, after) for key in changed - {"Tags"}}
        if given:
            self._call("UpdateEventSourceMapping", place, self._given(given) | {"UUID": made.physical_id})
        self._retag(place, made.attributes["EventSourceMappingArn"], before, after)
        return self._made(place, made.physical_id)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        named = {"UUID": made.physical_id}
        self._gone("DeleteEventSourceMapping", place, named)

        def gone() -> Json | None:
            try:
                self._call("GetEventSourceMapping", place, named)
            except ResourceFailed as error:
                if _is_missing(error):
                    return {}
                raise
            return None

        _wait(gone, f"the deletion of {made.physical_id}")

    def _default(self, key: str, properties: Json) -> Any:
        if key == "BatchSize":
            return 10 if ":sqs:" in str(properties.get("EventSourceArn")) else 100
        if key not in self._DEFAULTS:
            raise ResourceFailed(f"{key} cannot be taken away from an event source mapping.")
        return self._DEFAULTS[key]

    def _given(self, properties: Json) -> Json:
        given = {key: value for key, value in properties.items() if key != "Tags"}
        if "KmsKeyArn" in given:
            given["KMSKeyArn"] = given.pop("KmsKeyArn")
        return given

    def _made(self, place: Place, uuid: str) -> Made:
        def ready() -> Json | None:
            found = self._call("GetEventSourceMapping", place, {"UUID": uuid})
            return None if found["State"] in self._UNDER_WAY else found

        found = _wait(ready, uuid)
        return Made(uuid, uuid, {"Id": uuid, "EventSourceMappingArn": found["EventSourceMappingArn"]})


class LambdaLayerVersion(_Lambda):
    """AWS::Lambda::LayerVersion: every change publishes anew."""

    type = "AWS::Lambda::LayerVersion"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        found = self._call("PublishLayerVersion", place, {"LayerName": logical_id} | properties)
        arn = found["LayerVersionArn"]
        return Made(arn, arn, {"LayerVersionArn": arn})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        raise NotBegun(f"Updates are not supported for {self.type}.")

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteLayerVersion", place, _layer_version(made.physical_id))


class LambdaLayerVersionPermission(_Lambda):
    type = "AWS::Lambda::LayerVersionPermission"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        statement = place.name(logical_id, 100)
        given = dict(properties)
        layer = _layer_version(given.pop("LayerVersionArn"))
        self._call("AddLayerVersionPermission", place, given | layer | {"StatementId": statement})
        identity = f"{properties['LayerVersionArn']}#{statement}"
        return Made(identity, statement, {"Id": identity})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        raise NotBegun(f"Updates are not supported for {self.type}.")

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        given = _layer_version(properties["LayerVersionArn"]) | {"StatementId": made.name}
        self._gone("RemoveLayerVersionPermission", place, given)


def _layer_version(arn: str) -> Json:
    layer, _, number = arn.rpartition(":")
    if not number.isdecimal():
        raise ResourceFailed(f"{arn} is not the ARN of a layer version.")
    return {"LayerName": layer, "VersionNumber": int(number)}


class LambdaCodeSigningConfig(_Lambda):
    type = "AWS::Lambda::CodeSigningConfig"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        given = properties | ({"Tags": tags_of(properties["Tags"])} if "Tags" in properties else {})
        found = self._call("CreateCodeSigningConfig", place, given)["CodeSigningConfig"]
        arn = found["CodeSigningConfigArn"]
        return Made(arn, arn, {"CodeSigningConfigArn": arn, "CodeSigningConfigId": found["CodeSigningConfigId"]})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        given = {"Description": "", "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"}} | after
        given.pop("Tags", None)
        self._call("UpdateCodeSigningConfig", place, given | {"CodeSigningConfigArn": made.physical_id})
        self._retag(place, made.physical_id, before, after)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._gone("DeleteCodeSigningConfig", place, {"CodeSigningConfigArn": made.physical_id})


class LambdaCapacityProvider(_Lambda):
    type = "AWS::Lambda::CapacityProvider"
    name_property = "CapacityProviderName"

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("CapacityProviderName") or place.name(logical_id))
        given = properties | ({"Tags": tags_of(properties["Tags"])} if "Tags" in properties else {})
        self._call("CreateCapacityProvider", place, given | {"CapacityProviderName": name})

        def active() -> Json | None:
            found: Json = self._call("GetCapacityProvider", place, {"CapacityProviderName": name})["CapacityProvider"]
            return found if found["State"] == "Active" else None

        found = _wait(active, name)
        return Made(name, name, {"Arn": found["CapacityProviderArn"], "State": found["State"]})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        defaults: Json = {
            "CapacityProviderScalingConfig": {"MaxVCpuCount": 400, "ScalingMode": "Auto"},
            "PropagateTags": {"Mode": "None"},
            "TelemetryConfig": {},
        }
        changed = changed_properties(before, after)
        given = {key: after.get(key, default) for key, default in defaults.items() if key in changed}
        self._call("UpdateCapacityProvider", place, given | {"CapacityProviderName": made.name})
        self._retag(place, made.attributes["Arn"], before, after)
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        named = {"CapacityProviderName": made.name}
        self._gone("DeleteCapacityProvider", place, named)
        self._vanished("GetCapacityProvider", place, named)


LAMBDA_TYPES: tuple[type[Any], ...] = (
    LambdaAlias,
    LambdaCapacityProvider,
    LambdaCodeSigningConfig,
    LambdaEventInvokeConfig,
    LambdaEventSourceMapping,
    LambdaFunction,
    LambdaLayerVersion,
    LambdaLayerVersionPermission,
    LambdaPermission,
    LambdaUrl,
    LambdaVersion,
)
