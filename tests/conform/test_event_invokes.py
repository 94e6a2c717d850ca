"""Event invoke configurations as recorded on AWS: one per $LATEST, version and alias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conform.local_lambda import refused

Create = Callable[..., str]
NOWHERE: dict[str, Any] = {"OnSuccess": {}, "OnFailure": {}}


def shown(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key not in ("ResponseMetadata", "LastModified")}


def test_put_update_get_delete(lambda_client: Any, function: Create) -> None:
    name = function()
    latest = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"] + ":$LATEST"
    base = {"FunctionArn": latest, "DestinationConfig": NOWHERE}

    put = lambda_client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    assert (put["ResponseMetadata"]["HTTPStatusCode"], put["LastModified"].tzinfo is not None) == (200, True)
    assert shown(put) == base | {"MaximumRetryAttempts": 0}
    again = lambda_client.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
    assert shown(again) == base | {"MaximumEventAgeInSeconds": 60}
    updated = lambda_client.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    both = base | {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1}
    assert shown(updated) == both
    assert shown(lambda_client.get_function_event_invoke_config(FunctionName=name)) == both
    assert shown(lambda_client.get_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST")) == both
    deleted = lambda_client.delete_function_event_invoke_config(FunctionName=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    none = ("ResourceNotFoundException", 404, f"The function {latest} doesn't have an EventInvokeConfig")
    assert refused(lambda_client.get_function_event_invoke_config, FunctionName=name) == none
    assert refused(lambda_client.delete_function_event_invoke_config, FunctionName=name) == none
    given = {"FunctionName": name, "MaximumRetryAttempts": 1}
    assert refused(lambda_client.update_function_event_invoke_config, **given) == none


def test_every_qualifier_has_its_own_and_they_are_listed_by_page(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualified in (name, f"{name}:1", f"{arn}:live"):
        lambda_client.put_function_event_invoke_config(FunctionName=qualified, MaximumRetryAttempts=1)

    def listed(**page: Any) -> tuple[list[str], str | None]:
        found = lambda_client.list_function_event_invoke_configs(FunctionName=name, **page)
        return [each["FunctionArn"] for each in found["FunctionEventInvokeConfigs"]], found.get("NextMarker")

    first, after = listed(MaxItems=2)
    rest, end = listed(MaxItems=2, Marker=after)
    assert (sorted(first + rest), end) == (sorted(f"{arn}:{each}" for each in ("$LATEST", "1", "live")), None)
    lambda_client.delete_alias(FunctionName=name, Name="live")
    lambda_client.delete_function(FunctionName=name, Qualifier="1")
    assert listed() == ([f"{arn}:$LATEST"], None)


def test_destinations(lambda_client: Any, function: Create) -> None:
    name, other = function(), function()
    arns = [lambda_client.get_function_configuration(FunctionName=each)["FunctionArn"] for each in (name, other)]

    def put(**ends: Any) -> dict[str, Any]:
        reply = lambda_client.put_function_event_invoke_config(FunctionName=name, DestinationConfig=ends)
        destinations: dict[str, Any] = reply["DestinationConfig"]
        return destinations

    def refusal(arn: str) -> tuple[str, int, str | None]:
        given = {"FunctionName": name, "DestinationConfig": {"OnSuccess": {"Destination": arn}}}
        return refused(lambda_client.put_function_event_invoke_config, **given)

    assert put(OnSuccess={"Destination": arns[1]}) == NOWHERE | {"OnSuccess": {"Destination": arns[1]}}
    assert put(OnFailure={}) == NOWHERE
    wrong = "InvalidParameterValueException"
    assert refusal(arns[0]) == (wrong, 400, "You can't specify the function as a destination for itself.")
    assert refusal(arns[0] + "none") == (wrong, 400, f"The destination ARN {arns[0]}none is invalid.")
    service = arns[0].replace(":lambda:", ":iam:")
    config = f"DestinationConfig(onSuccess=OnSuccess(destination={service}), onFailure=null)"
    assert refusal(service) == (wrong, 400, f"The provided destination config {config} is invalid.")


@pytest.mark.parametrize("operation", ["put", "update"])
def test_what_is_missing(lambda_client: Any, function: Create, operation: str) -> None:
    name = function()
    call = getattr(lambda_client, f"{operation}_function_event_invoke_config")
    none = ("ResourceNotFoundException", 404, "The function doesn't exist.")

    assert refused(call, FunctionName="conform-none", MaximumRetryAttempts=1) == none
    assert refused(call, FunctionName=name, Qualifier="none", MaximumRetryAttempts=1) == none
    assert refused(call, FunctionName="conform-none") == (
        "InvalidParameterValueException",
        400,
        "You must specify at least one of error handling or destination setting.",
    )
    assert refused(lambda_client.list_function_event_invoke_configs, FunctionName="conform-none") == none
