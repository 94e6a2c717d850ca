"""Provisioned concurrency as recorded on AWS: on a version or an alias, never on both."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.conform.local_lambda import package, refused, settle

Create = Callable[..., str]
Held = Callable[[], AbstractContextManager[None]]
ABSENT, WRONG, CONFLICT = "ResourceNotFoundException", "InvalidParameterValueException", "ResourceConflictException"
NONE = (
    "ProvisionedConcurrencyConfigNotFoundException",
    404,
    "No Provisioned Concurrency Config found for this function",
)


def provision(client: Any, name: str, qualifier: str, number: int = 1) -> dict[str, Any]:
    reply: dict[str, Any] = client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=number
    )
    return reply


def settled(client: Any, name: str, qualifier: str) -> dict[str, Any]:
    while True:
        got: dict[str, Any] = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        if got["Status"] != "IN_PROGRESS":
            return got
        time.sleep(0.05)


def refusal(client: Any, name: str, qualifier: str, number: int = 1) -> tuple[str, int, str | None]:
    given = {"FunctionName": name, "Qualifier": qualifier, "ProvisionedConcurrentExecutions": number}
    return refused(client.put_provisioned_concurrency_config, **given)


def test_a_version_or_its_alias(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    version, alias = ({"FunctionName": name, "Qualifier": qualifier} for qualifier in ("1", "live"))

    assert refused(lambda_client.get_provisioned_concurrency_config, **version) == NONE
    put = provision(lambda_client, name, "1")
    assert put.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    assert put == {
        "RequestedProvisionedConcurrentExecutions": 1,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": put["LastModified"],
    }
    assert refusal(lambda_client, name, "live") == (
        CONFLICT,
        409,
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )
    got = settled(lambda_client, name, "1")
    assert (got["Status"], got["AllocatedProvisionedConcurrentExecutions"]) == ("READY", 1)
    for _ in range(2):
        deleted = lambda_client.delete_provisioned_concurrency_config(**version)
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204

    provision(lambda_client, name, "live")
    assert refusal(lambda_client, name, "1") == (CONFLICT, 409, "Version is pointed by a Provisioned Concurrency alias")
    (listed,) = lambda_client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    assert listed["FunctionArn"] == f"{arn}:live"
    lambda_client.delete_alias(FunctionName=name, Name="live")
    missing = (ABSENT, 404, f"Cannot find alias arn: {arn}:live")
    assert refused(lambda_client.get_provisioned_concurrency_config, **alias) == missing
    assert not lambda_client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]


def two_versions(client: Any, function: Create) -> str:
    name = function(Publish=True)
    client.update_function_code(FunctionName=name, ZipFile=package("two"))
    settle(client, name)
    client.publish_version(FunctionName=name)
    return name


def weights_cleared(client: Any, name: str, alias: str) -> dict[str, Any]:
    while True:
        got: dict[str, Any] = client.get_alias(FunctionName=name, Name=alias)
        if not got.get("RoutingConfig", {}).get("AdditionalVersionWeights"):
            return got
        time.sleep(0.05)


def test_weights_count(lambda_client: Any, function: Create) -> None:
    """Documented: an alias with provisioned concurrency may have weights; it cannot be managed while they stand.

    https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html. The sentence is what users report
    (hashicorp/terraform 24957, aws/serverless-application-model 1296).
    """
    name = two_versions(lambda_client, function)
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    provision(lambda_client, name, "live")
    lambda_client.update_alias(FunctionName=name, Name="live", RoutingConfig=weights)

    assert refusal(lambda_client, name, "2")[:2] == (CONFLICT, 409)
    assert refusal(lambda_client, name, "live", 2) == (
        WRONG,
        400,
        "Alias with weights can not be used with Provisioned Concurrency",
    )


def test_one_version_has_one_configuration(lambda_client: Any, function: Create) -> None:
    """Documented, and either way round: its own, or one alias's that reaches it. The sentence is users'."""
    name = two_versions(lambda_client, function)
    for alias, version in (("live", "1"), ("next", "2")):
        lambda_client.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)
    provision(lambda_client, name, "live")
    moves = ({"FunctionVersion": "2"}, {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}}})
    wrong = (WRONG, 400, "Invalid alias configuration for Provisioned Concurrency")

    for other in ("2", "next"):
        provision(lambda_client, name, other)
        for move in moves:
            assert refused(lambda_client.update_alias, FunctionName=name, Name="live", **move) == wrong
        lambda_client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=other)
    lambda_client.update_alias(FunctionName=name, Name="live", **moves[1])


def test_two_versions_of_a_weighted_alias_have_their_own(lambda_client: Any, function: Create) -> None:
    """Documented: the rule is about the alias's configuration, and this one has none."""
    name = two_versions(lambda_client, function)
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)

    for version in ("1", "2"):
        provision(lambda_client, name, version)
        assert settled(lambda_client, name, version)["Status"] == "READY"


def test_limits(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    free = lambda_client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]

    assert refusal(lambda_client, name, "1", free + 1) == (
        WRONG,
        400,
        f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{free}].",
    )
    assert refusal(lambda_client, name, "1", free) == (
        WRONG,
        400,
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
        "below its minimum value of [100].",
    )
    assert refusal(lambda_client, name, "1", 0)[:2] == ("ValidationException", 400)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    assert refusal(lambda_client, name, "1", 3)[:2] == (WRONG, 400)
    provision(lambda_client, name, "1", 2)
    given = {"FunctionName": name, "ReservedConcurrentExecutions": 1}
    assert refused(lambda_client.put_function_concurrency, **given)[:2] == (WRONG, 400)


def test_what_is_missing(lambda_client: Any, function: Create, account: str, region: str) -> None:
    name = function()
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    none = f"arn:aws:lambda:{region}:{account}:function:conform-none"

    for function_name, start in ((name, arn), ("conform-none", none)):
        for qualifier, words in (("10", "Function not found"), ("noalias", "Cannot find alias arn")):
            expected = (ABSENT, 404, f"{words}: {start}:{qualifier}")
            assert refusal(lambda_client, function_name, qualifier) == expected
            for call in ("get", "delete"):
                method = getattr(lambda_client, f"{call}_provisioned_concurrency_config")
                assert refused(method, FunctionName=function_name, Qualifier=qualifier) == expected
    assert refusal(lambda_client, name, "$LATEST") == (
        WRONG,
        400,
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    )
    assert refused(lambda_client.get_provisioned_concurrency_config, FunctionName=name, Qualifier="$LATEST") == (
        WRONG,
        400,
        "The function resource provided must be an alias or a published version.",
    )
    assert refused(lambda_client.list_provisioned_concurrency_configs, FunctionName="conform-none") == (
        ABSENT,
        404,
        f"Function not found: {none}",
    )


def test_what_is_provisioned_is_taken_from_what_is_reserved(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)

    before = lambda_client.invoke(FunctionName=name)
    provision(lambda_client, name, "live")
    settled(lambda_client, name, "live")
    version = lambda_client.invoke(FunctionName=name, Qualifier="1")
    throttled = refused(lambda_client.invoke, FunctionName=name)
    lambda_client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
    after = lambda_client.invoke(FunctionName=name)

    assert [reply["ExecutedVersion"] for reply in (before, version, after)] == ["$LATEST", "1", "$LATEST"]
    assert throttled == ("TooManyRequestsException", 429, "Rate Exceeded.")
    lower = {"FunctionName": name, "ReservedConcurrentExecutions": 0}
    provision(lambda_client, name, "1")
    assert refused(lambda_client.put_function_concurrency, **lower) == (
        WRONG,
        400,
        " ReservedConcurrentExecutions  0 should not be lower than function's total provisioned concurrency [1].",
    )


def test_what_cannot_be_initialised_fails(lambda_client: Any, function: Create) -> None:
    source = (
        "import os\n"
        "if os.environ.get('AWS_LAMBDA_INITIALIZATION_TYPE') == 'provisioned-concurrency':\n"
        "    raise RuntimeError('fails when provisioned')\n"
        "def handler(event, context): return 1\n"
    )
    name = function(Publish=True, Code={"ZipFile": package(**{"index.py": source})})

    provision(lambda_client, name, "1")
    got = settled(lambda_client, name, "1")

    assert (got["Status"], got["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    assert (got["AvailableProvisionedConcurrentExecutions"], got["AllocatedProvisionedConcurrentExecutions"]) == (0, 0)
    assert lambda_client.invoke(FunctionName=name, Qualifier="1")["StatusCode"] == 200  # on demand


def test_what_is_provisioned_goes_with_the_alias(lambda_client: Any, function: Create, held: Held) -> None:
    """Recorded."""
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    before = lambda_client.get_function_configuration(FunctionName=name, Qualifier="live")
    provision(lambda_client, name, "live")
    settled(lambda_client, name, "live")
    after = lambda_client.get_function_configuration(FunctionName=name, Qualifier="live")
    assert {key for key in before if before[key] != after[key]} == {"RevisionId", "ResponseMetadata"}
    lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"))
    settle(lambda_client, name)
    lambda_client.publish_version(FunctionName=name)

    with held():
        lambda_client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
        moving = lambda_client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
    moved = settled(lambda_client, name, "live")

    counts = ("AvailableProvisionedConcurrentExecutions", "AllocatedProvisionedConcurrentExecutions")
    assert (moving["Status"], *(moving[count] for count in counts)) == ("IN_PROGRESS", 1, 1)
    assert (moved["Status"], *(moved[count] for count in counts)) == ("READY", 1, 1)
    for version in ("1", "2"):
        assert refused(lambda_client.get_provisioned_concurrency_config, FunctionName=name, Qualifier=version) == NONE
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert refused(lambda_client.invoke, FunctionName=name, Qualifier="1")[0] == "TooManyRequestsException"
    assert lambda_client.invoke(FunctionName=name, Qualifier="2")["ExecutedVersion"] == "2"


def test_the_version_left_serves_until_the_next_is_ready(
    lambda_client: Any, function: Create, held: Callable[[], AbstractContextManager[None]]
) -> None:
    """Reported (hashicorp/terraform-provider-aws 48116): AWS adds the weight by itself, and takes it away again."""
    name = two_versions(lambda_client, function)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    provision(lambda_client, name, "live")
    settled(lambda_client, name, "live")

    with held():
        lambda_client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
        moving = lambda_client.get_alias(FunctionName=name, Name="live")
        served = lambda_client.invoke(FunctionName=name, Qualifier="live")["ExecutedVersion"]
        back = refused(lambda_client.update_alias, FunctionName=name, Name="live", FunctionVersion="1")
        changed = refusal(lambda_client, name, "live", 2)
    moved = weights_cleared(lambda_client, name, "live")

    assert (moving["FunctionVersion"], moving["RoutingConfig"]) == ("2", {"AdditionalVersionWeights": {"1": 1.0}})
    assert (served, changed[2]) == ("1", "Alias with weights can not be used with Provisioned Concurrency")
    assert back[2] == "Invalid function version 1. Function version 1 is already included in routing configuration."
    assert moved["FunctionVersion"] == "2"
    assert lambda_client.invoke(FunctionName=name, Qualifier="live")["ExecutedVersion"] == "2"


def test_a_version_that_cannot_start_never_takes_over(lambda_client: Any, function: Create) -> None:
    """Reported: the weight stays where it is, until somebody clears it. No caller ever sees the new version."""
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    provision(lambda_client, name, "live")
    settled(lambda_client, name, "live")
    broken = package(**{"index.py": "raise RuntimeError('fails when provisioned')"})
    lambda_client.update_function_code(FunctionName=name, ZipFile=broken)
    settle(lambda_client, name)
    lambda_client.publish_version(FunctionName=name)

    lambda_client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    failed = settled(lambda_client, name, "live")
    stuck = lambda_client.get_alias(FunctionName=name, Name="live")

    assert (failed["Status"], failed["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    assert stuck["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 1.0}}
    assert lambda_client.invoke(FunctionName=name, Qualifier="live")["ExecutedVersion"] == "1"
    clear = {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {}}}
    lambda_client.update_alias(FunctionName=name, Name="live", **clear)
    assert settled(lambda_client, name, "live")["Status"] == "READY"
