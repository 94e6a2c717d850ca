"""Managed instances: capacity providers, `$LATEST.PUBLISHED`, and what can be invoked.

None of this is recorded on AWS where anybody could look it up. The sentences compared are those that are reported of it
or in its documentation; where ours stand in for AWS's, only the code is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any
from uuid import uuid4

import pytest

from tests.conform.local_lambda import HERE, package, refused
from tests.conform.test_invoke import invoke

pytestmark = pytest.mark.skipif(not HERE, reason="on AWS every capacity provider starts three instances, which cost")

Create = Callable[..., str]
Held = Callable[[], AbstractContextManager[None]]
PUBLISHED = "$LATEST.PUBLISHED"
NO_PUBLISHED = (
    "The function can't be invoked because no published version exists. For functions with capacity provider "
    "configuration, either publish a version to $LATEST.PUBLISHED, or specify a published version qualifier."
)
NOT_LATEST = (
    "Functions configured with capacity provider configuration can't be invoked with $LATEST qualifier. To invoke this "
    "function, specify a published version qualifier or $LATEST.PUBLISHED."
)
STATE = "The operation cannot be performed at this time. The function is currently in the following state: "


def until(look: Callable[[], Any], wanted: object) -> None:
    deadline = time.monotonic() + 60
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found}, and not {wanted}"
        time.sleep(0.01)


def state(client: Any, name: str, qualifier: str | None = None) -> tuple[str | None, str | None]:
    """(State, LastUpdateStatus)"""
    found = client.get_function_configuration(FunctionName=name, **({"Qualifier": qualifier} if qualifier else {}))
    return found.get("State"), found.get("LastUpdateStatus")


def published(client: Any, name: str, **given: Any) -> dict[str, Any]:
    """Publish, and wait until that can be invoked."""
    version: dict[str, Any] = client.publish_version(FunctionName=name, **given)
    until(lambda: state(client, name, version["Version"]), ("Active", "Successful"))
    return version


@pytest.fixture
def provider(lambda_client: Any, account: str) -> Iterator[Callable[..., str]]:
    """Create a capacity provider and wait until it is active; its ARN."""
    made: list[str] = []

    def create(**parameters: Any) -> str:
        name = f"conform-{uuid4().hex[:12]}"
        given = {
            "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
            "PermissionsConfig": {"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{account}:role/operator"},
        }
        reply = lambda_client.create_capacity_provider(CapacityProviderName=name, **(given | parameters))
        made.append(name)
        until(lambda: provider_state(lambda_client, name), "Active")
        return str(reply["CapacityProvider"]["CapacityProviderArn"])

    yield create
    for name in made:
        until(lambda name=name: gone(lambda_client, name), wanted=True)


def provider_state(client: Any, name: str) -> str:
    return str(client.get_capacity_provider(CapacityProviderName=name)["CapacityProvider"]["State"])


def gone(client: Any, name: str) -> bool:
    """Deleted at last: not while functions use it, nor while it is being deleted."""
    with suppress(client.exceptions.ResourceConflictException):
        try:
            client.delete_capacity_provider(CapacityProviderName=name)
        except client.exceptions.ResourceNotFoundException:
            return True
    return False


@pytest.fixture
def managed(lambda_client: Any, role: str, provider: Callable[..., str]) -> Iterator[Create]:
    """Create a function on a capacity provider of its own, and wait until it can be changed."""
    made: list[str] = []

    def create(**parameters: Any) -> str:
        name = f"conform-{uuid4().hex[:12]}"
        given = {"Role": role, "Runtime": "python3.13", "Handler": "index.handler", "Code": {"ZipFile": package()}}
        if "CapacityProviderConfig" not in parameters:
            parameters["CapacityProviderConfig"] = on(provider())
        lambda_client.create_function(FunctionName=name, **(given | parameters))
        made.append(name)
        until(lambda: state(lambda_client, name), ("ActiveNonInvocable", "Successful"))
        return name

    yield create
    for name in made:
        with suppress(lambda_client.exceptions.ResourceNotFoundException):
            lambda_client.delete_function(FunctionName=name)


def on(arn: str, **more: Any) -> dict[str, Any]:
    return {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": arn} | more}


# --- capacity providers ---


def test_a_capacity_provider_from_creation_to_deletion(
    lambda_client: Any, account: str, region: str, held: Held
) -> None:
    name = f"conform-{uuid4().hex[:12]}"
    arn = f"arn:aws:lambda:{region}:{account}:capacity-provider:{name}"
    vpc = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    operator = {"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{account}:role/operator"}
    missing = ("ResourceNotFoundException", 404, f"Capacity provider not found: {arn}")
    asked = {"CapacityProviderName": name}

    new = asked | {"VpcConfig": vpc, "PermissionsConfig": operator}
    with held():
        made = lambda_client.create_capacity_provider(**new, Tags={"team": "blue"})
        early = refused(lambda_client.delete_capacity_provider, **asked)
    again = refused(lambda_client.create_capacity_provider, **new)
    pending = made["CapacityProvider"]
    active = lambda_client.get_capacity_provider(CapacityProviderName=arn)["CapacityProvider"]
    scaled = lambda_client.update_capacity_provider(**asked, CapacityProviderScalingConfig={"MaxVCpuCount": 30})
    with held():
        deleting = lambda_client.delete_capacity_provider(**asked)
        assert provider_state(lambda_client, name) == "Deleting"

    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert pending["State"] == "Pending"
    assert early[:2] == again[:2] == ("ResourceConflictException", 409)
    assert active | {"State": "Pending"} == pending
    assert list(active) == [
        "CapacityProviderArn", "State", "VpcConfig", "PermissionsConfig", "InstanceRequirements",
        "CapacityProviderScalingConfig", "LastModified",
    ]  # fmt: skip
    assert (active["CapacityProviderArn"], active["VpcConfig"], active["PermissionsConfig"]) == (arn, vpc, operator)
    assert active["InstanceRequirements"] == {"Architectures": ["x86_64"]}
    assert active["CapacityProviderScalingConfig"] == {"MaxVCpuCount": 400, "ScalingMode": "Auto"}
    assert scaled["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert scaled["CapacityProvider"]["CapacityProviderScalingConfig"] == {"MaxVCpuCount": 30, "ScalingMode": "Auto"}
    assert deleting["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert deleting["CapacityProvider"]["State"] == "Deleting"
    for call in (
        lambda_client.get_capacity_provider,
        lambda_client.update_capacity_provider,
        lambda_client.delete_capacity_provider,
        lambda_client.list_function_versions_by_capacity_provider,
    ):
        assert refused(call, **asked) == missing


def test_what_a_capacity_provider_is_made_of_must_exist(lambda_client: Any, account: str) -> None:
    def made(**given: Any) -> tuple[str, int, str | None]:
        whole = {
            "CapacityProviderName": "never",
            "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []},
            "PermissionsConfig": {"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{account}:role/operator"},
        }
        return refused(lambda_client.create_capacity_provider, **(whole | given))

    assert made(VpcConfig={"SubnetIds": ["subnet-9"], "SecurityGroupIds": []}) == (
        "InvalidParameterValueException",
        400,
        "Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. EC2 Error Message: The subnet "
        "ID 'subnet-9' does not exist",
    )
    nobody = {"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{account}:role/nobody"}
    assert made(PermissionsConfig=nobody)[:2] == ("InvalidParameterValueException", 400)
    both = {"AllowedInstanceTypes": ["m7g.large"], "ExcludedInstanceTypes": ["m5.*"]}
    assert made(InstanceRequirements=both)[:2] == ("InvalidParameterValueException", 400)
    assert made(VpcConfig={"SubnetIds": []})[0] == "ValidationException"


def test_capacity_providers_are_listed_page_by_page(lambda_client: Any, provider: Callable[..., str]) -> None:
    arns = sorted(provider() for _ in range(3))

    pages = lambda_client.get_paginator("list_capacity_providers").paginate(PaginationConfig={"PageSize": 2})
    listed = [each["CapacityProviderArn"] for page in pages for each in page["CapacityProviders"]]

    assert [arn for arn in listed if arn in arns] == arns
    failed = lambda_client.list_capacity_providers(State="Failed")["CapacityProviders"]
    assert not {each["CapacityProviderArn"] for each in failed} & {*arns}


def test_capacity_providers_have_tags(lambda_client: Any, provider: Callable[..., str]) -> None:
    arn = provider(Tags={"team": "blue"})

    lambda_client.tag_resource(Resource=arn, Tags={"stage": "test"})
    lambda_client.untag_resource(Resource=arn, TagKeys=["team"])

    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"stage": "test"}


def test_a_capacity_provider_stays_while_versions_are_on_it(lambda_client: Any, managed: Create) -> None:
    name = managed(Publish=True)
    arn = lambda_client.get_function_configuration(FunctionName=name)["CapacityProviderConfig"][
        "LambdaManagedInstancesCapacityProviderConfig"
    ]["CapacityProviderArn"]
    asked = {"CapacityProviderName": arn.rpartition(":")[2]}
    until(lambda: state(lambda_client, name, "1"), ("Active", "Successful"))
    published(lambda_client, name, PublishTo="LATEST_PUBLISHED")

    whole = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    listed = lambda_client.list_function_versions_by_capacity_provider(**asked)
    first = lambda_client.list_function_versions_by_capacity_provider(**asked, MaxItems=1)
    second = lambda_client.list_function_versions_by_capacity_provider(**asked, Marker=first["NextMarker"])

    assert listed["CapacityProviderArn"] == arn
    assert listed["FunctionVersions"] == [
        {"FunctionArn": f"{whole}:1", "State": "Active"},
        {"FunctionArn": f"{whole}:{PUBLISHED}", "State": "Active"},
    ]
    assert first["FunctionVersions"] + second["FunctionVersions"] == listed["FunctionVersions"]
    assert refused(lambda_client.delete_capacity_provider, **asked) == (
        "ResourceConflictException",
        409,
        "The capacity provider is currently in use by 1 functions. To delete this capacity provider, first remove its "
        f"association with {arn}.",
    )


# --- functions ---


def test_a_function_on_managed_instances_has_other_settings(
    lambda_client: Any, managed: Create, provider: Callable[..., str], held: Held
) -> None:
    arn = provider()
    name = managed(CapacityProviderConfig=on(arn, PerExecutionEnvironmentMaxConcurrency=4))
    found = lambda_client.get_function_configuration(FunctionName=name)

    assert found["CapacityProviderConfig"] == on(
        arn, PerExecutionEnvironmentMaxConcurrency=4, ExecutionEnvironmentMemoryGiBPerVCpu=2.0
    )
    assert found["MemorySize"] == 2048
    assert found["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
        "LogGroup": f"/aws/lambda/{name}",
    }
    assert "SnapStart" not in found
    assert len(found["ConfigSha256"]) == 64
    other = provider()
    with held():
        changed = lambda_client.update_function_configuration(FunctionName=name, CapacityProviderConfig=on(other))
    # What is not said is AWS's default again, not what it was.
    assert changed["CapacityProviderConfig"] == on(
        other, PerExecutionEnvironmentMaxConcurrency=16, ExecutionEnvironmentMemoryGiBPerVCpu=2.0
    )
    assert changed["ConfigSha256"] != found["ConfigSha256"]
    assert (changed["State"], changed["LastUpdateStatus"]) == ("ActiveNonInvocable", "InProgress")


def test_what_managed_instances_do_not_take(lambda_client: Any, role: str, provider: Callable[..., str]) -> None:
    arn = provider()

    def made(**given: Any) -> tuple[str, int, str | None]:
        code = {"ZipFile": package()}
        whole = {"FunctionName": "never", "Role": role, "Runtime": "python3.13", "Handler": "a.b", "Code": code}
        return refused(lambda_client.create_function, **(whole | {"CapacityProviderConfig": on(arn)} | given))

    where = "capacityProviderConfig.lambdaManagedInstancesCapacityProviderConfig"
    null = "failed to satisfy constraint: Member must not be null"
    assert made(CapacityProviderConfig={}) == (
        "ValidationException",
        400,
        f"1 validation error detected: Value null at '{where}' {null}",
    )
    assert made(CapacityProviderConfig={"LambdaManagedInstancesCapacityProviderConfig": {}}) == (
        "ValidationException",
        400,
        f"1 validation error detected: Value null at '{where}.capacityProviderArn' {null}",
    )
    assert made(CapacityProviderConfig=on("nonsense"))[2].startswith(  # type: ignore[union-attr]
        f"1 validation error detected: Value 'nonsense' at '{where}.capacityProviderArn' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: arn:aws[a-zA-Z-]*:lambda:"
    )
    assert made(CapacityProviderConfig=on(f"{arn}-none")) == (
        "ResourceNotFoundException",
        404,
        f"Capacity provider not found: {arn}-none",
    )
    assert made(Runtime="python3.11") == (
        "InvalidParameterValueException",
        400,
        "Runtime Enum python3.11 does not support specified feature: Lambda Managed Instances",
    )
    assert made(LoggingConfig={"LogFormat": "Text"}) == (
        "InvalidParameterValueException",
        400,
        'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the '
        'LogFormat to "JSON" and try again.',
    )
    assert made(PublishTo="LATEST") == (
        "ValidationException",
        400,
        "1 validation error detected: Value 'LATEST' at 'publishTo' failed to satisfy constraint: Member must satisfy "
        "enum value set: [LATEST_PUBLISHED]",
    )
    for given in ({"MemorySize": 1024}, {"SnapStart": {"ApplyOn": "PublishedVersions"}}):
        assert made(**given)[:2] == ("InvalidParameterValueException", 400)


def test_an_ordinary_function_stays_one(
    lambda_client: Any, function: Create, provider: Callable[..., str], role: str
) -> None:
    name, arn = function(Runtime="python3.13"), provider()

    assert refused(lambda_client.update_function_configuration, FunctionName=name, CapacityProviderConfig=on(arn)) == (
        "InvalidParameterValueException",
        400,
        "CapacityProviderConfig isn't supported for Lambda Default functions.",
    )
    to = {"PublishTo": "LATEST_PUBLISHED"}
    new = {"FunctionName": f"{name}-2", "Role": role, "Runtime": "python3.13", "Handler": "index.handler"}
    for call, given in (
        (lambda_client.publish_version, {"FunctionName": name}),
        (lambda_client.update_function_code, {"FunctionName": name, "ZipFile": package("two"), "Publish": True}),
        (lambda_client.create_function, new | {"Code": {"ZipFile": package()}, "Publish": True}),
    ):
        assert refused(call, **given, **to)[:2] == ("InvalidParameterValueException", 400)
    assert [each["Version"] for each in lambda_client.list_versions_by_function(FunctionName=name)["Versions"]] == [
        "$LATEST"
    ]
    scaling = {"FunctionName": name, "Qualifier": lambda_client.publish_version(FunctionName=name)["Version"]}
    for call in (lambda_client.get_function_scaling_config, lambda_client.put_function_scaling_config):
        assert refused(call, **scaling) == (
            "AccessDeniedException",
            403,
            "The function provided by the arn does not contain a capacity provider configuration",
        )
    assert refused(lambda_client.update_function_configuration, FunctionName=name, MemorySize=10_241)[:2] == (
        "InvalidParameterValueException",
        400,
    )


# --- versions ---


def test_numbered_versions_start_before_they_are_active(lambda_client: Any, managed: Create, held: Held) -> None:
    name = managed()

    with held():
        made = lambda_client.publish_version(FunctionName=name, Description="first")
        early = refused(lambda_client.invoke, FunctionName=name, Qualifier="1")
    answer, payload = invoke(lambda_client, name, Qualifier="1")

    assert (made["Version"], made["State"], made["StateReasonCode"]) == ("1", "Pending", "Creating")
    assert "LastUpdateStatus" not in made
    assert early == ("ResourceConflictException", 409, f"{STATE}Pending")
    assert (answer["ExecutedVersion"], payload["version"]) == ("1", "1")
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"


def test_latest_cannot_be_invoked_but_latest_published_can(lambda_client: Any, managed: Create, held: Held) -> None:
    name = managed()
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]

    for asked in ({}, {"Qualifier": "$LATEST"}):
        for kind in ("RequestResponse", "Event", "DryRun"):
            assert refused(lambda_client.invoke, FunctionName=name, InvocationType=kind, **asked) == (
                "NoPublishedVersionException",
                400,
                NO_PUBLISHED,
            )
    assert refused(lambda_client.invoke, FunctionName=name, Qualifier=PUBLISHED) == (
        "ResourceNotFoundException",
        404,
        f"Function not found: {arn}:{PUBLISHED}",
    )
    lambda_client.create_alias(FunctionName=name, Name="unpublished", FunctionVersion="$LATEST")
    assert refused(lambda_client.invoke, FunctionName=name, Qualifier="unpublished") == (
        "ResourceConflictException",
        409,
        f"{STATE}ActiveNonInvocable",
    )

    with held():
        made = lambda_client.publish_version(FunctionName=name, PublishTo="LATEST_PUBLISHED")
    until(lambda: state(lambda_client, name, PUBLISHED), ("Active", "Successful"))

    assert (made["Version"], made["FunctionArn"], made["State"]) == (PUBLISHED, f"{arn}:{PUBLISHED}", "Pending")
    assert refused(lambda_client.invoke, FunctionName=name, Qualifier="$LATEST") == (
        "InvalidParameterValueException",
        400,
        NOT_LATEST,
    )
    for asked in ({}, {"Qualifier": PUBLISHED}):
        answer, payload = invoke(lambda_client, name, **asked)
        assert answer["ExecutedVersion"] == PUBLISHED
        assert (payload["version"], payload["arn"]) == (PUBLISHED, f"{arn}:{PUBLISHED}")


def test_latest_published_is_published_again_and_serves_meanwhile(
    lambda_client: Any, managed: Create, held: Held
) -> None:
    name = managed()
    published(lambda_client, name, PublishTo="LATEST_PUBLISHED", Description="one")
    before = lambda_client.get_function_configuration(FunctionName=name, Qualifier=PUBLISHED)
    lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"))
    until(lambda: state(lambda_client, name), ("ActiveNonInvocable", "Successful"))
    unpublished = lambda_client.get_function_configuration(FunctionName=name)

    with held():
        made = lambda_client.publish_version(FunctionName=name, PublishTo="LATEST_PUBLISHED", Description="two")
        meanwhile = invoke(lambda_client, name)[1]["build"]
        busy = refused(lambda_client.put_function_scaling_config, FunctionName=name, Qualifier=PUBLISHED)

    assert (made["State"], made["LastUpdateStatus"]) == ("Active", "InProgress")
    assert made["LastUpdateStatusReasonCode"] == "Updating"
    assert made["LastUpdateStatusReason"] == "The function is being updated."
    assert made["Description"] == "two"
    assert made["RevisionId"] != before["RevisionId"]
    assert busy[0] == "ResourceConflictException"
    assert (meanwhile, invoke(lambda_client, name)[1]["build"]) == ("one", "two")
    after = lambda_client.get_function_configuration(FunctionName=name)
    assert after["RevisionId"] != unpublished["RevisionId"]
    # Nothing changed since: it stays as it is.
    again = lambda_client.publish_version(FunctionName=name, PublishTo="LATEST_PUBLISHED", Description="three")
    assert (again["RevisionId"], again["Description"]) == (made["RevisionId"], "two")
    # Numbers know nothing of it.
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"
    versions = lambda_client.list_versions_by_function(FunctionName=name)["Versions"]
    assert [each["Version"] for each in versions] == ["$LATEST", "1", PUBLISHED]


def test_creating_and_updating_publish_to_latest_published(
    lambda_client: Any, role: str, managed: Create, held: Held
) -> None:
    name = managed(Publish=True, PublishTo="LATEST_PUBLISHED")
    until(lambda: state(lambda_client, name, PUBLISHED), ("Active", "Successful"))

    with held():
        updated = lambda_client.update_function_code(
            FunctionName=name, ZipFile=package("two"), Publish=True, PublishTo="LATEST_PUBLISHED"
        )
    until(lambda: state(lambda_client, name, PUBLISHED), ("Active", "Successful"))

    assert updated["Version"] == PUBLISHED
    assert (updated["State"], updated["LastUpdateStatus"]) == ("Active", "InProgress")
    assert updated["FunctionArn"].endswith(f":{name}:{PUBLISHED}")
    assert invoke(lambda_client, name)[1]["build"] == "two"
    every = lambda_client.get_paginator("list_functions").paginate(FunctionVersion="ALL").build_full_result()
    assert [each["Version"] for each in every["Functions"] if each["FunctionName"] == name] == ["$LATEST", PUBLISHED]


def test_an_alias_and_a_policy_may_name_latest_published(lambda_client: Any, managed: Create) -> None:
    name = managed()
    alias = {"FunctionName": name, "Name": "live", "FunctionVersion": PUBLISHED}
    assert refused(lambda_client.create_alias, **alias)[:2] == ("ResourceNotFoundException", 404)
    published(lambda_client, name, PublishTo="LATEST_PUBLISHED")

    made = lambda_client.create_alias(**alias)
    grant = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    lambda_client.add_permission(FunctionName=name, Qualifier=PUBLISHED, **grant)
    answer, payload = invoke(lambda_client, name, Qualifier="live")

    assert made["FunctionVersion"] == PUBLISHED
    assert (answer["ExecutedVersion"], payload["arn"]) == (PUBLISHED, made["AliasArn"])
    listed = lambda_client.list_aliases(FunctionName=name, FunctionVersion=PUBLISHED)["Aliases"]
    assert [each["Name"] for each in listed] == ["live"]
    assert refused(lambda_client.delete_function, FunctionName=name, Qualifier=PUBLISHED) == (
        "ResourceConflictException",
        409,
        "Unable to delete version because the following aliases reference it: [live]",
    )
    lambda_client.delete_alias(FunctionName=name, Name="live")
    lambda_client.delete_function(FunctionName=name, Qualifier=PUBLISHED)
    missing = ("ResourceNotFoundException", 404)
    until(lambda: exists(lambda_client, name, Qualifier=PUBLISHED), wanted=False)
    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier=PUBLISHED)[:2] == missing
    published(lambda_client, name, PublishTo="LATEST_PUBLISHED")
    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier=PUBLISHED)[:2] == missing


def exists(client: Any, name: str, **asked: Any) -> bool:
    try:
        client.get_function(FunctionName=name, **asked)
    except client.exceptions.ResourceNotFoundException:
        return False
    return True


def test_deleting_takes_a_while(lambda_client: Any, managed: Create, held: Held) -> None:
    name = managed(Publish=True)
    until(lambda: state(lambda_client, name, "1"), ("Active", "Successful"))
    published(lambda_client, name, PublishTo="LATEST_PUBLISHED")
    revision = lambda_client.get_function_configuration(FunctionName=name)["RevisionId"]

    with held():
        one = lambda_client.delete_function(FunctionName=name, Qualifier="1")
        found = state(lambda_client, name, "1")
        late = refused(lambda_client.create_alias, FunctionName=name, Name="late", FunctionVersion="1")
    assert not exists(lambda_client, name, Qualifier="1")
    unknown = lambda_client.delete_function(FunctionName=name, Qualifier="1")
    with held():
        whole = lambda_client.delete_function(FunctionName=name)
        deleting = lambda_client.get_function_configuration(FunctionName=name)
        invoked = refused(lambda_client.invoke, FunctionName=name)
        updated = refused(lambda_client.update_function_configuration, FunctionName=name, Timeout=9)
    assert not exists(lambda_client, name)

    assert (one["StatusCode"], unknown["StatusCode"], whole["StatusCode"]) == (202, 204, 202)
    assert found == ("Deleting", "InProgress")
    assert (deleting["State"], deleting["LastUpdateStatus"]) == ("Deleting", "InProgress")
    assert deleting["RevisionId"] == revision
    for refusal in (late, invoked, updated):
        assert refusal == ("ResourceConflictException", 409, f"{STATE}Deleting")


# --- scaling ---


def test_scaling_is_requested_then_applied_and_0_deactivates(lambda_client: Any, managed: Create, held: Held) -> None:
    name = managed()
    with held():
        made = lambda_client.publish_version(FunctionName=name)
        early = refused(lambda_client.put_function_scaling_config, FunctionName=name, Qualifier="1")
    assert early == ("ResourceConflictException", 409, f"{STATE}Pending")
    asked = {"FunctionName": name, "Qualifier": "1"}

    def scaling() -> tuple[Any, Any]:
        found = lambda_client.get_function_scaling_config(**asked)
        assert found["FunctionArn"] == made["FunctionArn"]
        return found.get("RequestedFunctionScalingConfig"), found.get("AppliedFunctionScalingConfig")

    three = {"MinExecutionEnvironments": 3, "MaxExecutionEnvironments": 100}
    none = {"MinExecutionEnvironments": 0, "MaxExecutionEnvironments": 0}
    assert scaling() == (None, {})

    with held():
        put = lambda_client.put_function_scaling_config(**asked, FunctionScalingConfig=three)
        assert scaling() == (three, {})
    assert (put["ResponseMetadata"]["HTTPStatusCode"], put["FunctionState"]) == (202, "Active")
    assert scaling() == (None, three)

    with held():
        put = lambda_client.put_function_scaling_config(**asked, FunctionScalingConfig=none)
        assert (put["FunctionState"], state(lambda_client, name, "1")[0]) == ("Deactivating", "Deactivating")
    assert state(lambda_client, name, "1") == ("Deactivated", "Successful")
    assert refused(lambda_client.invoke, **asked) == ("ResourceConflictException", 409, f"{STATE}Deactivated")

    with held():
        lambda_client.put_function_scaling_config(**asked)
        assert refused(lambda_client.invoke, **asked) == ("ResourceConflictException", 409, f"{STATE}Deactivated")
    assert scaling() == (None, {})
    assert invoke(lambda_client, name, Qualifier="1")[0]["ExecutedVersion"] == "1"
    upside_down = {"MinExecutionEnvironments": 2, "MaxExecutionEnvironments": 1}
    wrong = refused(lambda_client.put_function_scaling_config, **asked, FunctionScalingConfig=upside_down)
    assert wrong[:2] == ("InvalidParameterValueException", 400)
    assert refused(lambda_client.get_function_scaling_config, FunctionName=name, Qualifier="2")[:2] == (
        "ResourceNotFoundException",
        404,
    )
    assert refused(lambda_client.get_function_scaling_config, FunctionName=name, Qualifier="$LATEST")[0] == (
        "ValidationException"
    )
