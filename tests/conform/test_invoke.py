"""Invoke as recorded on AWS: which version answers, headers, kinds of invocation, refusals."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.conform.local_lambda import InProcess, package, refused, settle

Create = Callable[..., str]
Held = Callable[[], AbstractContextManager[None]]


def invoke(client: Any, name: str, event: object = None, **given: Any) -> tuple[dict[str, Any], Any]:
    reply = client.invoke(FunctionName=name, Payload=json.dumps(event), **given)
    body = reply["Payload"].read()
    return reply, json.loads(body) if body else None


@pytest.fixture
def two_builds(lambda_client: Any, function: Create) -> str:
    """Version 1 is build "one", version 2 build "two", $LATEST build "three"."""
    name = function(Publish=True)
    for build in ("two", "three"):
        lambda_client.update_function_code(FunctionName=name, ZipFile=package(build))
        settle(lambda_client, name)
        if build == "two":
            lambda_client.publish_version(FunctionName=name)
    return name


def test_a_qualifier_decides_which_version_runs(lambda_client: Any, two_builds: str) -> None:
    lambda_client.create_alias(FunctionName=two_builds, Name="live", FunctionVersion="2")
    arn = lambda_client.get_function_configuration(FunctionName=two_builds)["FunctionArn"]

    for given, build, version, invoked in (
        ({}, "three", "$LATEST", arn),
        ({"Qualifier": "1"}, "one", "1", f"{arn}:1"),
        ({"Qualifier": "live"}, "two", "2", f"{arn}:live"),
        ({"FunctionName": f"{arn}:live"}, "two", "2", f"{arn}:live"),
        ({"FunctionName": f"{two_builds}:1"}, "one", "1", f"{arn}:1"),
    ):
        reply, answer = invoke(lambda_client, **({"name": two_builds} | _named(given)), event={"a": 1})
        assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, version)
        assert "FunctionError" not in reply
        assert answer == {"build": build, "version": version, "arn": invoked, "event": {"a": 1}}


def _named(given: dict[str, str]) -> dict[str, str]:
    return {"name" if key == "FunctionName" else key: value for key, value in given.items()}


def test_weights_share_the_invocations(lambda_client: Any, two_builds: str) -> None:
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    lambda_client.create_alias(FunctionName=two_builds, Name="live", FunctionVersion="1", RoutingConfig=weights)

    seen = Counter(invoke(lambda_client, f"{two_builds}:live")[0]["ExecutedVersion"] for _ in range(60))

    # Fewer than 10 of 60 fair draws, either way: about one run in 30 million.
    assert set(seen) == {"1", "2"}
    assert min(seen.values()) >= 10


@pytest.mark.parametrize(("weight", "version"), [(0.0, "1"), (1.0, "2")])
def test_the_ends_of_the_scale(lambda_client: Any, two_builds: str, weight: float, version: str) -> None:
    weights = {"AdditionalVersionWeights": {"2": weight}}
    lambda_client.create_alias(FunctionName=two_builds, Name="live", FunctionVersion="1", RoutingConfig=weights)

    assert {invoke(lambda_client, f"{two_builds}:live")[0]["ExecutedVersion"] for _ in range(12)} == {version}


def test_a_function_error_is_a_200_with_a_header(lambda_client: Any, function: Create) -> None:
    reply, answer = invoke(lambda_client, function(), {"fail": True})

    assert (reply["StatusCode"], reply["FunctionError"], reply["ExecutedVersion"]) == (200, "Unhandled", "$LATEST")
    assert (answer["errorMessage"], answer["errorType"]) == ("asked to", "ValueError")


def test_the_log_comes_with_the_reply_when_asked(lambda_client: Any, function: Create) -> None:
    name = function()

    short = base64.b64decode(invoke(lambda_client, name, {"a": 1}, LogType="Tail")[0]["LogResult"]).decode()
    long = base64.b64decode(invoke(lambda_client, name, {"a": "x" * 9000}, LogType="Tail")[0]["LogResult"])

    assert short.startswith("START RequestId: ")
    assert 'seen {"a": 1}\nEND RequestId: ' in short.replace("\r", "\n")
    assert "REPORT RequestId: " in short
    assert len(long) <= 4096
    assert b"REPORT RequestId: " in long
    assert "LogResult" not in invoke(lambda_client, name, {"a": 1})[0]


def test_a_dry_run_runs_nothing(lambda_client: Any, function: Create, executor: InProcess) -> None:
    name = function()
    before = len(executor.ran)

    reply, answer = invoke(lambda_client, name, {}, InvocationType="DryRun")

    assert (reply["StatusCode"], answer) == (204, None)
    assert "ExecutedVersion" not in reply
    assert len(executor.ran) == before
    assert refused(lambda_client.invoke, FunctionName="not-there", InvocationType="DryRun")[1] == 404


def test_an_event_is_accepted_at_once(lambda_client: Any, function: Create) -> None:
    reply, answer = invoke(lambda_client, function(), {"fail": True}, InvocationType="Event")

    assert (reply["StatusCode"], answer) == (202, None)
    assert "FunctionError" not in reply
    assert refused(lambda_client.invoke, FunctionName="not-there", InvocationType="Event")[1] == 404


def test_a_missing_qualifier_is_not_found(lambda_client: Any, function: Create) -> None:
    name = function()
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]

    for qualifier in ("99", "nobody"):
        assert refused(lambda_client.invoke, FunctionName=name, Qualifier=qualifier) == (
            "ResourceNotFoundException",
            404,
            f"Function not found: {arn}:{qualifier}",
        )


BEGINNING = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
PLACE = "\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {}, column: {}]"


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"{not json", ""),
        (b"nul\x87", "Invalid UTF-8 start byte 0x87" + PLACE.format(1, 5)),
        (
            b"\x99\xeb",
            f"Unexpected character ((CTRL-CHAR, code 153)): expected a valid value {BEGINNING}" + PLACE.format(1, 1),
        ),
        (b"\n hello", f"Unrecognized token 'hello': was expecting {BEGINNING}" + PLACE.format(2, 7)),
    ],
)
def test_payloads_that_are_no_json(lambda_client: Any, function: Create, payload: bytes, sentence: str) -> None:
    code, status, said = refused(lambda_client.invoke, FunctionName=function(), Payload=payload)

    assert (code, status) == ("InvalidRequestContentException", 400)
    beginning = "Could not parse request body into json: Could not parse payload into json: "
    assert (said or "").startswith(beginning + sentence)


def test_payloads_that_are_too_large(lambda_client: Any, function: Create) -> None:
    name = function()

    assert refused(lambda_client.invoke, FunctionName=name, Payload=b'"' + b"x" * 6_291_456 + b'"') == (
        "RequestEntityTooLargeException",
        413,
        "Request must be smaller than 6291456 bytes for the InvokeFunction operation",
    )
    assert refused(
        lambda_client.invoke, FunctionName=name, InvocationType="Event", Payload=b'"' + b"x" * 1_048_576 + b'"'
    ) == (
        "RequestEntityTooLargeException",
        413,
        "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes)",
    )


def test_an_invocation_waits_for_a_function_that_is_being_created(
    lambda_client: Any, function: Create, role: str, runtime: str, held: Held
) -> None:
    name = function()
    lambda_client.delete_function(FunctionName=name)
    with ThreadPoolExecutor(1) as beside:
        with held():
            made = lambda_client.create_function(
                FunctionName=name,
                Role=role,
                Runtime=runtime,
                Handler="index.handler",
                Code={"ZipFile": package("fresh")},
            )
            invoking = beside.submit(invoke, lambda_client, name)
        _, answer = invoking.result()

    assert made["State"] == "Pending"
    assert answer["build"] == "fresh"
    assert lambda_client.get_function_configuration(FunctionName=name)["State"] == "Active"


def test_invoke_async_is_still_there(lambda_client: Any, function: Create) -> None:
    assert lambda_client.invoke_async(FunctionName=function(), InvokeArgs=b"{}")["Status"] == 202
