"""Reserved concurrency, recursion and runtime updates, as recorded on AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conform.local_lambda import refused

Create = Callable[..., str]
ABSENT, WRONG = "ResourceNotFoundException", "InvalidParameterValueException"


def test_concurrency_is_reserved_and_released(lambda_client: Any, function: Create) -> None:
    name = function()

    for number in (0, 1):
        put = lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=number)
        assert (put["ResponseMetadata"]["HTTPStatusCode"], put["ReservedConcurrentExecutions"]) == (200, number)
    assert lambda_client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 1
    assert lambda_client.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 1}
    deleted = lambda_client.delete_function_concurrency(FunctionName=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "ReservedConcurrentExecutions" not in lambda_client.get_function_concurrency(FunctionName=name)
    assert "Concurrency" not in lambda_client.get_function(FunctionName=name)


def test_no_more_can_be_reserved_than_leaves_the_rest_enough(lambda_client: Any, function: Create) -> None:
    one, other = function(), function()
    free = lambda_client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    lambda_client.put_function_concurrency(FunctionName=one, ReservedConcurrentExecutions=10)

    code, status, sentence = refused(
        lambda_client.put_function_concurrency, FunctionName=other, ReservedConcurrentExecutions=free - 109
    )
    limits = lambda_client.get_account_settings()["AccountLimit"]
    lambda_client.put_function_concurrency(FunctionName=one, ReservedConcurrentExecutions=free - 100)

    assert (code, status) == (WRONG, 400)
    assert sentence == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
        "below its minimum value of [100]."
    )
    assert limits["UnreservedConcurrentExecutions"] == free - 10


def test_who_may_have_a_reservation(lambda_client: Any, function: Create, account: str, region: str) -> None:
    latest = f"arn:aws:lambda:{region}:{account}:function:conform-none:$LATEST"
    call = lambda_client.put_function_concurrency

    assert refused(call, FunctionName="conform-none", ReservedConcurrentExecutions=1) == (
        ABSENT,
        404,
        f"Function not found: {latest}",
    )
    assert refused(call, FunctionName=f"{function()}:$LATEST", ReservedConcurrentExecutions=0) == (
        WRONG,
        400,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )


def test_nothing_reserved_means_nothing_runs(lambda_client: Any, function: Create) -> None:
    name = function()
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    with pytest.raises(lambda_client.exceptions.TooManyRequestsException) as raised:
        lambda_client.invoke(FunctionName=name)
    lambda_client.delete_function_concurrency(FunctionName=name)
    answer = lambda_client.invoke(FunctionName=name)

    response = raised.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["Error"]["Message"] == "Rate Exceeded."
    assert answer["StatusCode"] == 200


def test_loops_end_unless_allowed(lambda_client: Any, function: Create) -> None:
    name = function()

    before = lambda_client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"]
    put = lambda_client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")["RecursiveLoop"]
    after = lambda_client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"]

    assert (before, put, after) == ("Terminate", "Allow", "Allow")
    assert refused(lambda_client.put_function_recursion_config, FunctionName=name, RecursiveLoop="x") == (
        "ValidationException",
        400,
        "1 validation error detected: Value 'x' at 'recursiveLoop' failed to satisfy constraint: "
        "Member must satisfy enum value set: [Terminate, Allow]",  # not their order in AWS's own model
    )


def test_how_the_runtime_of_a_version_is_updated(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    shown = lambda_client.get_function_configuration(FunctionName=name)
    runtime, arn = shown["RuntimeVersionConfig"]["RuntimeVersionArn"], shown["FunctionArn"]
    put, get = lambda_client.put_runtime_management_config, lambda_client.get_runtime_management_config

    before = get(FunctionName=name)
    updated = put(FunctionName=name, UpdateRuntimeOn="FunctionUpdate")
    pinned = put(FunctionName=name, Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=runtime)

    latest, version = get(FunctionName=name), get(FunctionName=name, Qualifier="1")
    assert (before["UpdateRuntimeOn"], before["FunctionArn"]) == ("Auto", f"{arn}:$LATEST")
    assert updated["UpdateRuntimeOn"] == latest["UpdateRuntimeOn"] == "FunctionUpdate"
    for reply in (pinned, version):
        assert (reply["UpdateRuntimeOn"], reply["FunctionArn"]) == ("Manual", f"{arn}:1")
        assert reply["RuntimeVersionArn"] == runtime
    assert refused(put, FunctionName=name, UpdateRuntimeOn="Manual")[:2] == (WRONG, 400)
