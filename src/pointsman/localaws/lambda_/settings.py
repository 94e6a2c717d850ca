"""A function's settings: everything AWS calls its configuration that does not change by itself.

They are kept as AWS's own dict, without what depends on time or caller (State, RevisionId, FunctionArn, Version).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.localaws.lambda_.errors import invalid, not_built
from pointsman.localaws.lambda_.wire import Json, known_runtimes

MOST_ENVIRONMENT = 4096
MOST_TAGS = 50

# What CreateFunction accepted on AWS on 2025-11-26, in AWS's order; the sentence that refuses a runtime lists them.
CREATABLE = (
    "nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x", "nodejs22.x", "java25",
    "python3.10", "python3.11", "java21", "ruby3.3", "ruby3.4", "ruby3.2", "python3.8", "python3.9", "java17",
    "nodejs16.x", "dotnet10", "dotnet8", "java11", "dotnet6", "nodejs18.x", "provided.al2", "java8.al2",
)  # fmt: skip
RETIRED = frozenset((
    "nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x",
    "python2.7", "python3.6", "python3.7", "java8", "dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1",
    "go1.x", "ruby2.5", "ruby2.7", "provided",
))  # fmt: skip

_RESERVED = frozenset((
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
))  # fmt: skip

_AS_GIVEN = (
    "Role", "Runtime", "Handler", "Description", "Timeout", "MemorySize", "Architectures", "EphemeralStorage",
    "Environment", "TenancyConfig", "DurableConfig", "RuntimeConfig", "VpcConfig",
)  # fmt: skip
_NOT_OF_IMAGES = ("Handler", "Runtime", "Layers")
# These would change what a function is or where it runs; storing them and doing nothing would be a lie.
_NOT_BUILT = ("AcceleratorConfig", "SourceKMSKeyArn")

# What runs on managed instances: CapacityProviderConfig makes the difference, once, when a function is created.
_MANAGED_RUNTIMES = frozenset((
    "python3.13", "python3.14", "nodejs22.x", "nodejs24.x", "java21", "java25", "dotnet8", "dotnet10",
    "provided.al2023",
))  # fmt: skip
_AT_ONCE = {"nodejs": 64, "java": 32, "dotnet": 32}  # invocations in one environment; 16 of others


def fresh(name: str, given: Mapping[str, Any], runtimes: tuple[str, ...]) -> Json:
    """The settings CreateFunction makes of its parameters, code apart. Layers come as a configuration shows them."""
    kind = given.get("PackageType", "Zip")
    if kind == "Zip" and ("Runtime" not in given or "Handler" not in given):
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    if kind == "Image" and any(key in given for key in _NOT_OF_IMAGES):
        raise invalid(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        )
    defaults: Json = {
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "PackageType": kind,
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "TracingConfig": {"Mode": "PassThrough"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }
    if "CapacityProviderConfig" in given:
        del defaults["SnapStart"]
        defaults["MemorySize"] = _MEMORY[True][0]
        levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
        defaults["LoggingConfig"] |= {"LogFormat": "JSON"} | levels
        defaults["CapacityProviderConfig"] = {}
    return changed(defaults, given, runtimes)


def changed(settings: Json, given: Mapping[str, Any], runtimes: tuple[str, ...]) -> Json:
    """`settings` after the configuration parameters in `given` (Layers as in `fresh`); what is not given stays."""
    refuse_unbuilt(given)
    if "Runtime" in given:
        _check_runtime(given["Runtime"], runtimes)
    if "Environment" in given:
        _check_environment(given["Environment"].get("Variables", {}))
    if settings["PackageType"] == "Zip" and "ImageConfig" in given:
        raise invalid("Please don't provide ImageConfig when updating a function with packageType Zip.")
    if settings["PackageType"] == "Image":
        _check_image(given)
    new = settings | {key: given[key] for key in _AS_GIVEN if key in given}
    if "TracingConfig" in given:
        new["TracingConfig"] = {"Mode": "PassThrough"} | given["TracingConfig"]
    if "CapacityProviderConfig" in settings:
        _check_managed(given)
    elif "CapacityProviderConfig" in given:
        raise invalid("CapacityProviderConfig isn't supported for Lambda Default functions.")
    elif "SnapStart" in given:
        new["SnapStart"] = {"ApplyOn": "None", "OptimizationStatus": "Off"} | given["SnapStart"]
    if "LoggingConfig" in given:
        new["LoggingConfig"] = _logging(settings["LoggingConfig"], given["LoggingConfig"])
    if "CapacityProviderConfig" in given:
        new["CapacityProviderConfig"] = _capacity(given["CapacityProviderConfig"], new.get("Runtime", ""))
    _check_limits(given, "CapacityProviderConfig" in settings)
    clearable: Json = {}
    if "DeadLetterConfig" in given:
        target = given["DeadLetterConfig"].get("TargetArn")
        clearable["DeadLetterConfig"] = {"TargetArn": target} if target else None
    if "Layers" in given:
        clearable["Layers"] = given["Layers"]
    if "ImageConfig" in given:
        image = {key: value for key, value in given["ImageConfig"].items() if value}
        clearable["ImageConfigResponse"] = {"ImageConfig": image} if image else None
    clearable |= {key: given[key] for key in ("KMSKeyArn", "FileSystemConfigs") if key in given}
    for key, value in clearable.items():  # AWS clears these by an empty value, and then leaves them out of replies
        if value:
            new[key] = value
        else:
            new.pop(key, None)
    return new


def refuse_unbuilt(given: Mapping[str, Any]) -> None:
    for key in _NOT_BUILT:
        if key in given:
            raise not_built(f"the parameter {key}")


def check_publish_to(given: Mapping[str, Any], settings: Json) -> None:
    if "PublishTo" in given and "CapacityProviderConfig" not in settings:
        # AWS's sentence is not recorded anywhere that we know of.
        raise invalid("PublishTo isn't supported for Lambda Default functions.")


def digest(settings: Json) -> str:
    """Equal for equal code and configuration, whenever they were set: what makes publishing idempotent."""
    rest = {key: value for key, value in settings.items() if key not in ("LastModified", "ImageUri")}
    return hashlib.sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()


_LONGEST = {False: 900, True: 5400}  # seconds, without and with managed instances
_MEMORY = {False: (128, 10_240), True: (2048, 32_768)}


def _check_limits(given: Mapping[str, Any], managed: bool) -> None:
    """The model's limits are those of both kinds of function together."""
    least, most = _MEMORY[managed]
    for name, low, high in (("MemorySize", least, most), ("Timeout", 1, _LONGEST[managed])):
        value = given.get(name, low)
        if not low <= value <= high:
            limit = f"less than or equal to {high}" if value > high else f"greater than or equal to {low}"
            raise invalid(f"'{name}' value failed to satisfy constraint: Member must have value {limit}")


def _check_managed(given: Mapping[str, Any]) -> None:
    if "Runtime" in given and given["Runtime"] not in _MANAGED_RUNTIMES:
        raise invalid(
            f"Runtime Enum {given['Runtime']} does not support specified feature: Lambda Managed Instances", type=""
        )
    if given.get("LoggingConfig", {}).get("LogFormat") == "Text":
        raise invalid(
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change '
            'the LogFormat to "JSON" and try again.'
        )
    if given.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions":
        # AWS documents the rule; its sentence is not recorded anywhere that we know of.
        raise invalid("SnapStart is not supported for functions with capacity provider configuration.")


def _capacity(given: Json, runtime: str) -> Json:
    """What is not said is AWS's default, not what was said before (reported, not recorded)."""
    at_once = next((number for family, number in _AT_ONCE.items() if runtime.startswith(family)), 16)
    defaults = {"ExecutionEnvironmentMemoryGiBPerVCpu": 2.0, "PerExecutionEnvironmentMaxConcurrency": at_once}
    key = "LambdaManagedInstancesCapacityProviderConfig"
    return {key: defaults | given[key]}


def _check_image(given: Mapping[str, Any]) -> None:
    if any(key in given for key in _NOT_OF_IMAGES):
        raise invalid(
            "Please don't provide Handler or Runtime or Layer when updating a function with packageType Image."
        )
    if given.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions":
        raise invalid("SnapStart is not supported for functions with packageType Image.")


def _check_runtime(runtime: str, runtimes: tuple[str, ...]) -> None:
    if runtime in runtimes:
        return
    if runtime in RETIRED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in known_runtimes():
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(CREATABLE)}] or be a valid ARN"
        )
    here = ", ".join(runtimes) or "none"
    raise invalid(f"AWS has the runtime {runtime}, but this machine cannot run it. Runtimes this machine has: {here}.")


def _check_environment(variables: Mapping[str, str]) -> None:
    if reserved := sorted(_RESERVED & variables.keys()):
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = msgspec.json.encode(variables)
    if len(measured) > MOST_ENVIRONMENT:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured.decode()}"
        )


def _logging(before: Json, given: Json) -> Json:
    """Partial settings merge; only JSON has log levels (recorded)."""
    merged: Json = before | given
    if merged["LogFormat"] == "JSON":
        return {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"} | merged
    if "ApplicationLogLevel" in given or "SystemLogLevel" in given:
        raise invalid("ApplicationLogLevel and SystemLogLevel need LogFormat JSON.")
    return {key: merged[key] for key in ("LogFormat", "LogGroup")}
