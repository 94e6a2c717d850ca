"""Functions as recorded on AWS: lifecycle, states, revision ids, refusals. Runs on any witness (see conftest)."""

from __future__ import annotations

import base64
import hashlib
import io
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.conform.local_lambda import HERE, package, refused, settle

Create = Callable[..., str]
Held = Callable[[], AbstractContextManager[None]]
only_here = pytest.mark.skipif(not HERE, reason="needs the fake S3, roles or runtimes of the built-in server")

IN_PROGRESS = "The operation cannot be performed at this time. An update is in progress for resource: "
PENDING = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)
UNQUALIFIED_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)
CREATE_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)
GET_PATTERN = CREATE_PATTERN.replace("([a-zA-Z0-9-_]+)(", r"([a-zA-Z0-9-_\.]+)(").replace(
    r"\$LATEST|", r"\$LATEST(\.PUBLISHED)?|"
)


def sha256(zipped: bytes) -> str:
    return base64.b64encode(hashlib.sha256(zipped).digest()).decode()


def test_create_answers_pending_and_the_defaults(
    *, lambda_client: Any, function: Create, role: str, runtime: str, account: str, region: str, held: Held
) -> None:
    name = function()  # cleans up; this test creates a second one to see the first answer
    lambda_client.delete_function(FunctionName=name)

    with held():
        made = lambda_client.create_function(
            FunctionName=name, Role=role, Runtime=runtime, Handler="index.handler", Code={"ZipFile": package()}
        )

    revision = made.pop("RevisionId")
    assert made.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert made.pop("LastModified").endswith("+0000")
    assert made.pop("RuntimeVersionConfig")["RuntimeVersionArn"].startswith(f"arn:aws:lambda:{region}::runtime:")
    assert made == {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:{region}:{account}:function:{name}",
        "Runtime": runtime,
        "Role": role,
        "Handler": "index.handler",
        "CodeSize": len(package()),
        "CodeSha256": sha256(package()),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }
    active = settle(lambda_client, name)
    assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in active
    assert active["RevisionId"] != revision


def test_changes_are_refused_while_the_function_is_pending(
    lambda_client: Any, function: Create, role: str, runtime: str, held: Held
) -> None:
    name = function()
    lambda_client.delete_function(FunctionName=name)

    with held():
        lambda_client.create_function(
            FunctionName=name, Role=role, Runtime=runtime, Handler="index.handler", Code={"ZipFile": package()}
        )
        unpublished = refused(lambda_client.publish_version, FunctionName=name)

    assert unpublished == ("ResourceConflictException", 409, PENDING)


def test_an_update_is_in_progress_and_then_successful_under_changing_revision_ids(
    lambda_client: Any, function: Create, held: Held
) -> None:
    name = function(Environment={"Variables": {}})
    before = lambda_client.get_function_configuration(FunctionName=name)
    assert before["Environment"] == {"Variables": {}}

    with held():
        update = lambda_client.update_function_configuration(FunctionName=name, Description="changed", MemorySize=512)
        blocked = refused(lambda_client.update_function_code, FunctionName=name, ZipFile=package("two"))
        unpublished = refused(lambda_client.publish_version, FunctionName=name)
    after = settle(lambda_client, name)

    assert update["LastUpdateStatus"] == "InProgress"
    assert update["LastUpdateStatusReason"] == "The function is being created."
    assert update["LastUpdateStatusReasonCode"] == "Creating"
    assert update["State"] == "Active"
    assert blocked == ("ResourceConflictException", 409, IN_PROGRESS + before["FunctionArn"])
    assert unpublished == blocked
    assert (after["LastUpdateStatus"], after["Description"], after["MemorySize"]) == ("Successful", "changed", 512)
    assert "LastUpdateStatusReason" not in after
    assert len({before["RevisionId"], update["RevisionId"], after["RevisionId"]}) == 3


def test_a_redundant_update_runs_and_changes_the_revision_id_all_the_same(
    lambda_client: Any, function: Create, held: Held
) -> None:
    name = function(Description="same")
    before = lambda_client.get_function_configuration(FunctionName=name)

    with held():
        update = lambda_client.update_function_configuration(FunctionName=name, Description="same")
    after = settle(lambda_client, name)

    assert update["LastUpdateStatus"] == "InProgress"
    assert len({before["RevisionId"], update["RevisionId"], after["RevisionId"]}) == 3


def test_updates_expect_the_revision_id_they_are_given(lambda_client: Any, function: Create) -> None:
    name = function()

    for update, given in (
        (lambda_client.update_function_code, {"ZipFile": package("b")}),
        (lambda_client.update_function_configuration, {"Timeout": 9}),
        (lambda_client.publish_version, {}),
    ):
        refusal = refused(update, FunctionName=name, RevisionId="x", **given)
        assert refusal == ("PreconditionFailedException", 412, STALE)

    current = lambda_client.get_function_configuration(FunctionName=name)
    assert (current["Timeout"], current["CodeSha256"]) == (3, sha256(package()))
    lambda_client.update_function_code(FunctionName=name, ZipFile=package("b"), RevisionId=current["RevisionId"])
    assert settle(lambda_client, name)["CodeSha256"] == sha256(package("b"))


def test_a_dry_run_validates_and_changes_nothing(lambda_client: Any, function: Create) -> None:
    name = function()
    before = lambda_client.get_function_configuration(FunctionName=name)

    lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"), DryRun=True, Publish=True)
    code, status, _ = refused(lambda_client.update_function_code, FunctionName=name, ZipFile=b"no zip", DryRun=True)

    after = lambda_client.get_function_configuration(FunctionName=name)
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert before | {"ResponseMetadata": None} == after | {"ResponseMetadata": None}
    assert len(lambda_client.list_versions_by_function(FunctionName=name)["Versions"]) == 1


def test_the_code_can_be_downloaded_from_its_location(lambda_client: Any, function: Create) -> None:
    code = lambda_client.get_function(FunctionName=function())["Code"]

    assert code["RepositoryType"] == "S3"
    with urllib.request.urlopen(code["Location"]) as response:
        assert response.read() == package()


@only_here  # elsewhere the VPC, file system, layer, key and queue would have to exist
def test_every_setting_of_the_model_is_kept_and_shown(lambda_client: Any, function: Create, account: str) -> None:
    queue = f"arn:aws:sqs:eu-west-1:{account}:dead-letters"
    name = function()
    layer = lambda_client.publish_layer_version(LayerName="conform-settings", Content={"ZipFile": package()})
    given: dict[str, Any] = {
        "Description": "d",
        "Timeout": 30,
        "MemorySize": 256,
        "Environment": {"Variables": {"KEY": "value"}},
        "DeadLetterConfig": {"TargetArn": queue},
        "KMSKeyArn": f"arn:aws:kms:eu-west-1:{account}:key/1",
        "TracingConfig": {"Mode": "Active"},
        "EphemeralStorage": {"Size": 1024},
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "LoggingConfig": {"LogFormat": "JSON", "LogGroup": "cool"},
        "FileSystemConfigs": [
            {
                "Arn": f"arn:aws:elasticfilesystem:eu-west-1:{account}:access-point/fsap-" + "0" * 17,
                "LocalMountPath": "/mnt/a",
            }
        ],
        "Layers": [layer["LayerVersionArn"]],
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    }
    lambda_client.update_function_configuration(FunctionName=name, **given)
    shown = settle(lambda_client, name)

    for key in (
        "Description",
        "Timeout",
        "MemorySize",
        "Environment",
        "DeadLetterConfig",
        "KMSKeyArn",
        "TracingConfig",
    ):
        assert shown[key] == given[key]
    assert shown["EphemeralStorage"] == {"Size": 1024}
    assert shown["FileSystemConfigs"] == given["FileSystemConfigs"]
    assert shown["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    assert [layer["Arn"] for layer in shown["Layers"]] == given["Layers"]
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    assert shown["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "cool"} | levels
    assert shown["VpcConfig"] == given["VpcConfig"] | {"VpcId": "vpc-1", "Ipv6AllowedForDualStack": False}

    cleared: dict[str, Any] = {"DeadLetterConfig": {}, "KMSKeyArn": "", "FileSystemConfigs": [], "Layers": []}
    none: dict[str, Any] = {"SubnetIds": [], "SecurityGroupIds": []}
    lambda_client.update_function_configuration(FunctionName=name, VpcConfig=none, **cleared)
    shown = settle(lambda_client, name)

    assert not cleared.keys() & shown.keys()
    assert shown["VpcConfig"] == none | {"VpcId": "", "Ipv6AllowedForDualStack": False}


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        ({"LogFormat": "JSON"}, {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}),
        (
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"},
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "INFO"},
        ),
        ({"LogGroup": "cool"}, {"LogFormat": "Text", "LogGroup": "cool"}),
    ],
)
def test_partial_logging_settings_merge(
    lambda_client: Any, function: Create, partial: dict[str, str], expected: dict[str, str]
) -> None:
    name = function()

    update = lambda_client.update_function_configuration(FunctionName=name, LoggingConfig=partial)

    assert update["LoggingConfig"] == {"LogGroup": f"/aws/lambda/{name}"} | expected


def test_a_deleted_function_is_gone(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]

    deleted = lambda_client.delete_function(FunctionName=name)

    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    missing = ("ResourceNotFoundException", 404, f"Function not found: {arn}")
    assert refused(lambda_client.get_function, FunctionName=name) == missing
    assert refused(lambda_client.delete_function, FunctionName=name) == missing
    assert refused(lambda_client.delete_function, FunctionName=name, Qualifier="7") == missing
    assert refused(lambda_client.get_function, FunctionName=name, Qualifier="1")[2] == f"Function not found: {arn}:1"
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.list_versions_by_function(FunctionName=name)


def test_a_name_is_taken_once(lambda_client: Any, function: Create, role: str, runtime: str) -> None:
    name = function()

    taken = refused(
        lambda_client.create_function,
        FunctionName=name,
        Role=role,
        Runtime=runtime,
        Handler="index.handler",
        Code={"ZipFile": package()},
    )

    assert taken == ("ResourceConflictException", 409, f"Function already exist: {name}")


def test_published_versions_cannot_be_changed(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)

    for change, given in (
        (lambda_client.update_function_code, {"ZipFile": package("two")}),
        (lambda_client.update_function_configuration, {"Timeout": 9}),
    ):
        refusal = refused(change, FunctionName=f"{name}:1", **given)
        assert refusal == ("InvalidParameterValueException", 400, UNQUALIFIED_ONLY)
    version = lambda_client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert (version["CodeSha256"], version["Timeout"]) == (sha256(package()), 3)


# --- addresses ---


def test_a_function_answers_to_name_partial_arn_and_arn(
    lambda_client: Any, function: Create, account: str, region: str
) -> None:
    name = function(Publish=True)
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"

    for spelling in (name, f"{account}:function:{name}", f"function:{name}", arn):
        assert lambda_client.get_function_configuration(FunctionName=spelling)["FunctionArn"] == arn
        found = lambda_client.get_function_configuration(FunctionName=f"{spelling}:1")
        assert (found["FunctionArn"], found["Version"]) == (f"{arn}:1", "1")
        latest = lambda_client.get_function(FunctionName=spelling, Qualifier="$LATEST")
        assert latest["Configuration"]["FunctionArn"] == f"{arn}:$LATEST"
    assert lambda_client.get_function_configuration(FunctionName=f"{arn}:1", Qualifier="1")["Version"] == "1"


@pytest.mark.parametrize("operation", ["get_function", "get_function_configuration", "delete_function", "invoke"])
def test_two_different_qualifiers_are_refused(lambda_client: Any, operation: str) -> None:
    assert refused(getattr(lambda_client, operation), FunctionName="some-function:1", Qualifier="$LATEST") == (
        "InvalidParameterValueException",
        400,
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


@pytest.mark.parametrize("operation", ["get_function", "get_function_configuration", "delete_function", "invoke"])
def test_another_region_cannot_be_reached(lambda_client: Any, operation: str, account: str, region: str) -> None:
    arn = f"arn:aws:lambda:ap-southeast-1:{account}:function:f"

    assert refused(getattr(lambda_client, operation), FunctionName=arn) == (
        "ResourceNotFoundException",
        404,
        f"Functions from 'ap-southeast-1' are not reachable in this region ('{region}')",
    )


def test_another_account_is_denied(lambda_client: Any, region: str, role: str, runtime: str) -> None:
    arn = f"arn:aws:lambda:{region}:210987654321:function:f"

    create = refused(
        lambda_client.create_function,
        FunctionName=arn,
        Role=role,
        Runtime=runtime,
        Handler="index.handler",
        Code={"ZipFile": package()},
    )

    assert create == ("AccessDeniedException", 403, None)
    assert refused(lambda_client.get_function, FunctionName=arn)[:2] == ("AccessDeniedException", 403)


@pytest.mark.parametrize(
    ("subnet", "group", "sentence"),
    [
        (
            "subnet-0",
            "sg-0",  # looked for first
            "Error occurred while DescribeSecurityGroups. EC2 Error Code: InvalidGroup.NotFound. "
            "EC2 Error Message: The security group 'sg-0' does not exist",
        ),
        pytest.param(
            "subnet-0",
            "sg-1",
            "Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. "
            "EC2 Error Message: The subnet ID 'subnet-0' does not exist",
            marks=only_here,
        ),
    ],
)
def test_a_network_that_is_not_there(
    *, lambda_client: Any, function: Create, subnet: str, group: str, sentence: str
) -> None:
    network = {"SubnetIds": [subnet], "SecurityGroupIds": [group]}

    refusal = refused(lambda_client.update_function_configuration, FunctionName=function(), VpcConfig=network)

    assert refusal == ("InvalidParameterValueException", 400, sentence)


@pytest.mark.parametrize(
    "name",
    [
        "my-function!",
        "*",
        "invalid-account:function:my-function",
        "arn:aws:lambda:invalid-region:123456789012:function:my-function",
        "arn:aws:ec2:eu-west-1:123456789012:instance:i-1234567890abcdef0",
        "arn:aws:lambda:eu-west-1:123456789012:function:my-function:1:2",
        "function:my-function:$LATEST:extra",
        "arn:aws:lambda::123456789012:function:my-function",
        "arn:aws:lambda:eu-west-1::function:my-function",
        "arn:aws:lambda:eu-west-1:123456789012:function:my-function:$LATES",
    ],
)
def test_malformed_names_are_refused_with_the_pattern(lambda_client: Any, name: str, role: str, runtime: str) -> None:
    sentence = f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
    expected = "Member must satisfy regular expression pattern: "

    for operation in ("get_function", "delete_function", "invoke"):
        assert refused(getattr(lambda_client, operation), FunctionName=name) == (
            "ValidationException",
            400,
            sentence + expected + GET_PATTERN,
        )
    assert refused(
        lambda_client.create_function,
        FunctionName=name,
        Role=role,
        Runtime=runtime,
        Handler="index.handler",
        Code={"ZipFile": package()},
    ) == ("ValidationException", 400, sentence + expected + CREATE_PATTERN)


def test_all_that_is_wrong_is_said_at_once(lambda_client: Any) -> None:
    code, status, sentence = refused(lambda_client.get_function, FunctionName="a!", Qualifier="b" * 129)

    assert (code, status) == ("ValidationException", 400)
    assert sentence is not None
    assert sentence.startswith("2 validation errors detected: Value '")
    at = f"Value '{'b' * 129}' at 'qualifier' failed to satisfy constraint: "
    assert f"{at}Member must have length less than or equal to 128" in sentence


@pytest.mark.parametrize(
    ("name", "qualifier", "missing"),
    [("my-function", "a" * 65, ":" + "a" * 65), ("my-function", "$latest", ":$latest"), ("a" * 65, None, "")],
)
def test_what_is_well_formed_but_not_there_is_not_found(
    *, lambda_client: Any, name: str, qualifier: str | None, missing: str, account: str, region: str
) -> None:
    given = {"FunctionName": name} | ({} if qualifier is None else {"Qualifier": qualifier})
    sentence = f"Function not found: arn:aws:lambda:{region}:{account}:function:{name}"

    assert refused(lambda_client.get_function, **given) == ("ResourceNotFoundException", 404, sentence + missing)
    assert refused(lambda_client.invoke, **given)[2] == sentence + (missing or ":$LATEST")


def test_aliases_are_not_deleted_by_delete_function_even_where_no_function_is(lambda_client: Any) -> None:
    assert refused(lambda_client.delete_function, FunctionName="my-function", Qualifier="a" * 65) == (
        "InvalidParameterValueException",
        400,
        "Deletion of aliases is not currently supported.",
    )


# --- what CreateFunction and UpdateFunctionConfiguration refuse ---


def wrong(lambda_client: Any, function: Create, role: str, runtime: str, **given: Any) -> list[tuple[Any, ...]]:
    """The refusals by CreateFunction and by UpdateFunctionConfiguration, of the same settings."""
    usual = {"Role": role, "Runtime": runtime, "Handler": "index.handler", "Code": {"ZipFile": package()}}
    return [
        refused(lambda_client.create_function, FunctionName="conform-never", **(usual | given)),
        refused(lambda_client.update_function_configuration, FunctionName=function(), **given),
    ]


@pytest.mark.parametrize(
    ("given", "at", "constraint"),
    [
        (
            {"Role": "r1"},
            "Value 'r1' at 'role'",
            "Member must satisfy regular expression pattern: "
            r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
        ),
        ({"MemorySize": 64}, "Value '64' at 'memorySize'", "Member must have value greater than or equal to 128"),
        ({"Timeout": 0}, "Value '0' at 'timeout'", "Member must have value greater than or equal to 1"),
        (
            {"Description": "x" * 257},
            f"Value '{'x' * 257}' at 'description'",
            "Member must have length less than or equal to 256",
        ),
        (
            {"SnapStart": {"ApplyOn": "invalidOption"}},
            "Value 'invalidOption' at 'snapStart.applyOn'",
            "Member must satisfy enum value set: [PublishedVersions, None]",
        ),
        (
            {"VpcConfig": {"SubnetIds": ["bad-1"]}},
            "Value '[bad-1]' at 'vpcConfig.subnetIds'",
            "Member must satisfy constraint: [Member must have length less than or equal to 1024, "
            "Member must have length greater than or equal to 0, "
            "Member must satisfy regular expression pattern: subnet-[0-9a-z]*]",
        ),
    ],
)
def test_broken_constraints_are_named(
    *, lambda_client: Any, function: Create, role: str, runtime: str, given: dict[str, Any], at: str, constraint: str
) -> None:
    sentence = f"1 validation error detected: {at} failed to satisfy constraint: {constraint}"

    for refusal in wrong(lambda_client, function, role, runtime, **given):
        assert refusal == ("ValidationException", 400, sentence)


@pytest.mark.parametrize(
    ("architectures", "constraint"),
    [
        (["x86_64", "arm64"], "Member must have length less than or equal to 1"),
        (
            ["X86_64"],
            "Member must satisfy constraint: "
            "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
    ],
)
def test_architectures(lambda_client: Any, role: str, runtime: str, architectures: list[str], constraint: str) -> None:
    refusal = refused(
        lambda_client.create_function,
        FunctionName="conform-never",
        Role=role,
        Runtime=runtime,
        Handler="index.handler",
        Code={"ZipFile": package()},
        Architectures=architectures,
    )

    value = f"[{', '.join(architectures)}]"
    at = f"1 validation error detected: Value '{value}' at 'architectures' failed to satisfy constraint: "
    assert refusal == ("ValidationException", 400, at + constraint)


@pytest.mark.parametrize("retired", ["nodejs4.3", "java8", "go1.x", "provided", "ruby2.7", "nodejs14.x", "python3.7"])
def test_retired_runtimes(lambda_client: Any, function: Create, role: str, runtime: str, retired: str) -> None:
    for refusal in wrong(lambda_client, function, role, runtime, Runtime=retired):
        assert refusal == (
            "InvalidParameterValueException",
            400,
            f"The runtime parameter of {retired} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions.",
        )


@pytest.mark.parametrize("unknown", ["cobol", "PYTHON3.9"])
def test_unknown_runtimes(lambda_client: Any, function: Create, role: str, runtime: str, unknown: str) -> None:
    for code, status, sentence in wrong(lambda_client, function, role, runtime, Runtime=unknown):
        assert (code, status) == ("InvalidParameterValueException", 400)
        at = f"Value {unknown} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
        assert sentence.startswith(at)
        assert sentence.endswith("] or be a valid ARN")


@only_here
def test_a_runtime_this_machine_lacks_is_refused_by_a_list_of_those_it_has(
    lambda_client: Any, function: Create, role: str, runtime: str
) -> None:
    for code, _, sentence in wrong(lambda_client, function, role, runtime, Runtime="java21"):
        assert code == "InvalidParameterValueException"
        assert "java21" in sentence
        assert "nodejs20.x, python3.11, python3.13" in sentence


def test_environment_variables_are_limited(lambda_client: Any, function: Create, role: str, runtime: str) -> None:
    large = {"SMALL_VAR": "ok", "LARGE_VAR": "x" * 4064}
    measured = '{"SMALL_VAR":"ok","LARGE_VAR":"' + "x" * 4064 + '"}'

    for refusal in wrong(lambda_client, function, role, runtime, Environment={"Variables": large}):
        assert refusal == (
            "InvalidParameterValueException",
            400,
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured}",
        )
    for code, _, sentence in wrong(
        lambda_client, function, role, runtime, Environment={"Variables": {"AWS_REGION": "x", "FINE": "x"}}
    ):
        assert code == "InvalidParameterValueException"
        assert sentence.endswith("Reserved keys used in this request: AWS_REGION")


def test_environment_variables_just_below_the_limit_are_fine(lambda_client: Any, function: Create) -> None:
    name = function(Environment={"Variables": {"KEY": "x" * (4096 - len('{"KEY":""}'))}})

    assert len(lambda_client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]["KEY"]) == 4086


@pytest.mark.parametrize("missing", ["Runtime", "Handler"])
def test_a_zip_needs_runtime_and_handler(lambda_client: Any, role: str, runtime: str, missing: str) -> None:
    given = {"Role": role, "Runtime": runtime, "Handler": "index.handler", "Code": {"ZipFile": package()}}
    del given[missing]

    assert refused(lambda_client.create_function, FunctionName="conform-never", **given) == (
        "InvalidParameterValueException",
        400,
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
    )


def test_a_name_of_65_characters(lambda_client: Any, role: str, runtime: str) -> None:
    code = {"ZipFile": package()}
    given = {"Role": role, "Runtime": runtime, "Handler": "index.handler", "Code": code}

    assert refused(lambda_client.create_function, FunctionName="a" * 65, **given) == (
        "InvalidParameterValueException",
        400,
        f"1 validation error detected: Value '{'a' * 65}' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 64",
    )


@only_here
def test_roles(lambda_client: Any, function: Create, role: str, runtime: str, account: str) -> None:
    nobody, foreign = f"arn:aws:iam::{account}:role/nobody", "arn:aws:iam::210987654321:role/conform"

    for refusal in wrong(lambda_client, function, role, runtime, Role=nobody):
        assert refusal == (
            "InvalidParameterValueException",
            400,
            "The role defined for the function cannot be assumed by Lambda.",
        )
    for refusal in wrong(lambda_client, function, role, runtime, Role=foreign):
        assert refusal == ("AccessDeniedException", 403, "Cross-account pass role is not allowed.")


# --- code ---


def test_what_is_no_zip(lambda_client: Any, function: Create) -> None:
    name = function()

    assert refused(lambda_client.update_function_code, FunctionName=name, ZipFile=b"this is no zip") == (
        "InvalidParameterValueException",
        400,
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )


def test_a_function_needs_code_from_one_source(lambda_client: Any, function: Create) -> None:
    name = function()

    nothing = refused(lambda_client.update_function_code, FunctionName=name)
    image = refused(lambda_client.update_function_code, FunctionName=name, ImageUri="x.dkr.ecr/y:latest")
    both = refused(
        lambda_client.update_function_code, FunctionName=name, ZipFile=package(), S3Bucket="bucket", S3Key="key"
    )

    assert nothing[0] == image[0] == both[0] == "InvalidParameterValueException"
    assert nothing[2] == "Please provide a source for function code."
    assert image[2] == "Please don't provide ImageUri when updating a function with packageType Zip."
    assert both[2] == "Please do not provide other FunctionCode parameters when providing a ZipFile."


def test_more_than_50_mb_in_the_request(lambda_client: Any, function: Create) -> None:
    name = function()

    assert refused(lambda_client.update_function_code, FunctionName=name, ZipFile=bytes(52_428_801)) == (
        "RequestEntityTooLargeException",
        413,
        "Zipped size must be smaller than 52428800 bytes",
    )
    assert refused(lambda_client.update_function_code, FunctionName=name, ZipFile=bytes(54_000_000)) == (
        "RequestEntityTooLargeException",
        413,
        "Request must be smaller than 70167211 bytes for the UpdateFunctionCode operation",
    )


def test_more_than_250_mb_unzipped(lambda_client: Any, function: Create) -> None:
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros", "w") as entry,
    ):
        for _ in range(251):
            entry.write(bytes(1 << 20))

    assert refused(lambda_client.update_function_code, FunctionName=function(), ZipFile=bomb.getvalue()) == (
        "InvalidParameterValueException",
        400,
        "Unzipped size must be smaller than 262144000 bytes",
    )


@only_here
def test_code_from_s3(lambda_client: Any, function: Create) -> None:
    name = function(Code={"S3Bucket": "bucket", "S3Key": "old.zip"})
    newest = lambda_client.get_function_configuration(FunctionName=name)["CodeSha256"]

    lambda_client.update_function_code(FunctionName=name, S3Bucket="bucket", S3Key="old.zip", S3ObjectVersion="v0")

    assert newest == sha256(package("from-s3"))
    assert settle(lambda_client, name)["CodeSha256"] == sha256(package("from-s3-v0"))
    for bucket, key, error in (
        ("other-bucket", "old.zip", "NoSuchBucket. S3 Error Message: The specified bucket does not exist"),
        ("bucket", "new.zip", "NoSuchKey. S3 Error Message: The specified key does not exist."),
    ):
        assert refused(lambda_client.update_function_code, FunctionName=name, S3Bucket=bucket, S3Key=key) == (
            "InvalidParameterValueException",
            400,
            f"Error occurred while GetObject. S3 Error Code: {error}",
        )


# --- tags, account ---


def test_tags(lambda_client: Any, function: Create) -> None:
    name = function(Tags={"a": "1"})
    found = lambda_client.get_function(FunctionName=name)
    arn, revision = found["Configuration"]["FunctionArn"], found["Configuration"]["RevisionId"]
    assert found["Tags"] == {"a": "1"}

    tagged = lambda_client.tag_resource(Resource=arn, Tags={"b": "2", "a": "3", "c": "4"})
    assert tagged["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"a": "3", "b": "2", "c": "4"}
    assert lambda_client.get_function_configuration(FunctionName=name)["RevisionId"] != revision

    lambda_client.untag_resource(Resource=arn, TagKeys=["a", "c", "never"])
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"b": "2"}

    lambda_client.untag_resource(Resource=arn, TagKeys=["b"])
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {}
    assert "Tags" not in lambda_client.get_function(FunctionName=name)


def test_what_tags_refuse(lambda_client: Any, function: Create, account: str, region: str) -> None:
    name = function()
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    too_many = ("InvalidParameterValueException", 400, "Number of tags exceeds resource tag limit.")

    assert refused(lambda_client.tag_resource, Resource=arn, Tags={str(n): "x" for n in range(51)}) == too_many
    assert refused(lambda_client.tag_resource, Resource=arn, Tags={})[2] == (
        "An error occurred and the request cannot be processed."
    )
    assert refused(lambda_client.untag_resource, Resource=arn, TagKeys=[]) == (
        "ValidationException",
        400,
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null",
    )
    for qualifier in ("1", "$LATEST", "live"):
        assert refused(lambda_client.tag_resource, Resource=f"{arn}:{qualifier}", Tags={"a": "b"}) == (
            "InvalidParameterValueException",
            400,
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )
    assert refused(lambda_client.list_tags, Resource=f"{arn}-not-there") == (
        "ResourceNotFoundException",
        404,
        f"Function not found: {arn}-not-there",
    )
    provider = arn.replace("function", "capacity-provider", 1)
    assert refused(lambda_client.list_tags, Resource=provider) == (
        "ResourceNotFoundException",
        404,
        f"Capacity provider not found: {provider}",
    )
    for malformed in ("arn:aws:something", f"{provider}:alias"):
        assert refused(lambda_client.list_tags, Resource=malformed)[0] == "ValidationException"


@only_here  # on a shared account, somebody else's functions count, too
def test_account_settings_count_every_version_whole(lambda_client: Any, function: Create) -> None:
    def usage() -> tuple[int, int]:
        settings = lambda_client.get_account_settings()["AccountUsage"]
        return settings["FunctionCount"], settings["TotalCodeSize"]

    functions, size = usage()
    name = function()
    assert usage() == (functions + 1, size + len(package()))

    lambda_client.update_function_configuration(FunctionName=name, Description="no code")
    settle(lambda_client, name)
    assert usage() == (functions + 1, size + len(package()))

    lambda_client.publish_version(FunctionName=name)
    assert usage() == (functions + 1, size + 2 * len(package()))
    assert lambda_client.get_account_settings()["AccountLimit"]["TotalCodeSize"] == 75 * 1024**3


@only_here
def test_what_is_not_built_yet_says_so(lambda_client: Any, function: Create) -> None:
    accelerator = {"AcceleratorMemorySize": 16}
    code, status, sentence = refused(
        lambda_client.update_function_configuration, FunctionName=function(), AcceleratorConfig=accelerator
    )

    assert (code, status) == ("NotImplementedException", 501)
    assert "AcceleratorConfig" in (sentence or "")


@only_here
def test_code_under_a_key_is_refused_in_words(lambda_client: Any, function: Create) -> None:
    """It is named in Code when a function is made, and beside the function's name when it is updated."""
    name = function()
    role = lambda_client.get_function_configuration(FunctionName=name)["Role"]
    code = {"ZipFile": package(), "SourceKMSKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/k"}
    said = ("NotImplementedException", 501, "The local Lambda does not offer the parameter SourceKMSKeyArn yet.")

    given = {"FunctionName": "conform-keyed", "Role": role, "Runtime": "python3.11", "Handler": "index.handler"}
    assert refused(lambda_client.create_function, **given, Code=code) == said
    assert refused(lambda_client.update_function_code, FunctionName=name, **code) == said
