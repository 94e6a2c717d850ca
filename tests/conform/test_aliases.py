"""Aliases as recorded on AWS: names, weights, revision ids, ARNs, lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conform.local_lambda import HERE, package, refused, settle
from tests.conform.test_functions import STALE

Create = Callable[..., str]


@pytest.fixture
def two_versions(lambda_client: Any, function: Create) -> str:
    name = function(Publish=True)
    lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"))
    settle(lambda_client, name)
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "2"
    return name


def routing(**weights: float) -> dict[str, dict[str, float]]:
    return {"AdditionalVersionWeights": {key.removeprefix("v"): weight for key, weight in weights.items()}}


def test_the_life_of_an_alias(lambda_client: Any, two_versions: str, account: str, region: str) -> None:
    name = two_versions
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    before = lambda_client.get_function_configuration(FunctionName=name)["RevisionId"]

    made = lambda_client.create_alias(
        FunctionName=name, Name="live", FunctionVersion="1", Description="d", RoutingConfig=routing(v2=0.2)
    )
    assert made.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    got = lambda_client.get_alias(FunctionName=name, Name="live")
    assert got.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    assert got == made
    assert made == {
        "AliasArn": f"{arn}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "d",
        "RoutingConfig": routing(v2=0.2),
        "RevisionId": made["RevisionId"],
    }
    assert lambda_client.get_function_configuration(FunctionName=name)["RevisionId"] == before

    reached = lambda_client.get_function(FunctionName=name, Qualifier="live")["Configuration"]
    assert (reached["FunctionArn"], reached["Version"]) == (f"{arn}:live", "1")
    assert lambda_client.get_function(FunctionName=f"{arn}:live")["Configuration"]["FunctionArn"] == f"{arn}:live"

    cleared = lambda_client.update_alias(FunctionName=name, Name="live", RoutingConfig=routing())
    assert cleared["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "RoutingConfig" not in cleared
    assert (cleared["Description"], cleared["FunctionVersion"]) == ("d", "1")

    untouched = lambda_client.update_alias(FunctionName=name, Name="live")
    assert len({made["RevisionId"], cleared["RevisionId"], untouched["RevisionId"]}) == 3

    deleted = lambda_client.delete_alias(FunctionName=name, Name="live")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(lambda_client.get_alias, FunctionName=name, Name="live") == (
        "ResourceNotFoundException",
        404,
        f"Cannot find alias arn: {arn}:live",
    )
    assert refused(lambda_client.update_alias, FunctionName=name, Name="live") == (
        "ResourceNotFoundException",
        404,
        f"Alias not found: {arn}:live",
    )
    assert refused(lambda_client.get_function, FunctionName=name, Qualifier="live")[2] == (
        f"Function not found: {arn}:live"
    )
    again = lambda_client.delete_alias(FunctionName=name, Name="live")
    assert again["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_the_last_step_of_a_shift_moves_and_clears_in_one_call(lambda_client: Any, two_versions: str) -> None:
    lambda_client.create_alias(
        FunctionName=two_versions, Name="live", FunctionVersion="1", RoutingConfig=routing(v2=0.5)
    )

    refusal = refused(lambda_client.update_alias, FunctionName=two_versions, Name="live", FunctionVersion="2")
    done = lambda_client.update_alias(
        FunctionName=two_versions, Name="live", FunctionVersion="2", RoutingConfig=routing()
    )

    assert refusal == (
        "InvalidParameterValueException",
        400,
        "Invalid function version 2. Function version 2 is already included in routing configuration.",
    )
    assert done["FunctionVersion"] == "2"
    assert "RoutingConfig" not in done


def test_weights_stay_when_they_are_not_spoken_of(lambda_client: Any, two_versions: str) -> None:
    lambda_client.create_alias(
        FunctionName=two_versions, Name="live", FunctionVersion="1", RoutingConfig=routing(v2=0.5)
    )

    update = lambda_client.update_alias(FunctionName=two_versions, Name="live", Description="new")

    assert (update["RoutingConfig"], update["Description"]) == (routing(v2=0.5), "new")


def test_updates_expect_the_revision_id_they_are_given(lambda_client: Any, two_versions: str) -> None:
    made = lambda_client.create_alias(FunctionName=two_versions, Name="live", FunctionVersion="1")
    move = {"FunctionName": two_versions, "Name": "live", "FunctionVersion": "2"}

    assert refused(lambda_client.update_alias, **move, RevisionId="x") == ("PreconditionFailedException", 412, STALE)
    lambda_client.update_alias(**move, RevisionId=made["RevisionId"])
    assert refused(lambda_client.update_alias, **move, RevisionId=made["RevisionId"])[1] == 412


@pytest.mark.parametrize(
    ("version", "weights", "code", "sentence"),
    [
        (
            "1",
            routing(v1=0.5, v2=0.5),
            "InvalidParameterValueException",
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            "1",
            routing(v1=0.5),
            "InvalidParameterValueException",
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            "$LATEST",
            routing(v1=0.5),
            "InvalidParameterValueException",
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
        *[
            (
                "1",
                routing(v2=weight),
                "ValidationException",
                f"1 validation error detected: Value '{{2={float(weight)}}}' at "
                "'routingConfig.additionalVersionWeights' failed to satisfy constraint: "
                "Map value must satisfy constraint: "
                "[Member must have value less than or equal to 1.0, "
                "Member must have value greater than or equal to 0.0, Member must not be null]",
            )
            for weight in (2, -1.0)
        ],
        (
            "1",
            {"AdditionalVersionWeights": {"$LATEST": 0.5}},
            "ValidationException",
            "1 validation error detected: Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to "
            "satisfy constraint: Map keys must satisfy constraint: "
            "[Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, "
            "Member must satisfy regular expression pattern: [0-9]+]",
        ),
    ],
)
def test_weights_that_are_refused(
    *, lambda_client: Any, two_versions: str, version: str, weights: dict[str, Any], code: str, sentence: str
) -> None:
    create = refused(
        lambda_client.create_alias, FunctionName=two_versions, Name="a", FunctionVersion=version, RoutingConfig=weights
    )
    lambda_client.create_alias(FunctionName=two_versions, Name="b", FunctionVersion=version)
    update = refused(lambda_client.update_alias, FunctionName=two_versions, Name="b", RoutingConfig=weights)

    assert create == update == (code, 400, sentence)


@pytest.mark.parametrize("weights", [routing(), {}])
def test_empty_weights_are_none(lambda_client: Any, two_versions: str, weights: dict[str, Any]) -> None:
    made = lambda_client.create_alias(
        FunctionName=two_versions, Name="a", FunctionVersion="$LATEST", RoutingConfig=weights
    )

    assert made["FunctionVersion"] == "$LATEST"
    assert "RoutingConfig" not in made


def test_missing_versions_are_not_found(lambda_client: Any, two_versions: str) -> None:
    arn = lambda_client.get_function_configuration(FunctionName=two_versions)["FunctionArn"]
    lambda_client.create_alias(FunctionName=two_versions, Name="live", FunctionVersion="1")
    missing = ("ResourceNotFoundException", 404, f"Function not found: {arn}:10")

    assert refused(lambda_client.create_alias, FunctionName=two_versions, Name="a", FunctionVersion="10") == missing
    for given in ({"FunctionVersion": "10"}, {"RoutingConfig": {"AdditionalVersionWeights": {"10": 0.5}}}):
        assert refused(lambda_client.update_alias, FunctionName=two_versions, Name="live", **given) == missing
    assert refused(
        lambda_client.create_alias, FunctionName=f"{two_versions}-unknown", Name="a", FunctionVersion="1"
    ) == ("ResourceNotFoundException", 404, f"Function not found: {arn}-unknown:1")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("Role", "Specified versions must be associated with the same execution role"),
        pytest.param(
            "DeadLetterConfig",
            None,
            marks=pytest.mark.skipif(not HERE, reason="needs a queue that the role may write to"),
        ),
    ],
)
def test_both_versions_of_an_alias_have_one_role_and_one_dead_letter_target(
    lambda_client: Any, two_versions: str, account: str, setting: str, sentence: str | None
) -> None:
    other = f"arn:aws:iam::{account}:role/other"
    value: Any = other if setting == "Role" else {"TargetArn": f"arn:aws:sqs:eu-west-1:{account}:queue"}
    lambda_client.update_function_configuration(FunctionName=two_versions, **{setting: value})
    settle(lambda_client, two_versions)
    lambda_client.publish_version(FunctionName=two_versions)

    code, status, said = refused(
        lambda_client.create_alias,
        FunctionName=two_versions,
        Name="a",
        FunctionVersion="1",
        RoutingConfig=routing(v3=0.1),
    )

    assert (code, status) == ("InvalidParameterValueException", 400)
    assert sentence is None or said == sentence


@pytest.mark.parametrize("name", ["2024", "bad name", "x.y", "feature/x"])
def test_names_that_are_refused(lambda_client: Any, function: Create, name: str) -> None:
    assert refused(lambda_client.create_alias, FunctionName=function(), Name=name, FunctionVersion="$LATEST") == (
        "ValidationException",
        400,
        f"1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
    )


def test_a_date_is_a_name_but_129_characters_are_not(lambda_client: Any, function: Create) -> None:
    name = function()

    made = lambda_client.create_alias(FunctionName=name, Name="2024-01-02", FunctionVersion="$LATEST")
    code, _, sentence = refused(
        lambda_client.create_alias, FunctionName=name, Name="a" * 129, FunctionVersion="$LATEST"
    )

    assert made["Name"] == "2024-01-02"
    assert code == "ValidationException"
    assert (sentence or "").endswith("Member must have length less than or equal to 128")


def test_a_name_is_taken_once(lambda_client: Any, two_versions: str) -> None:
    made = lambda_client.create_alias(FunctionName=two_versions, Name="live", FunctionVersion="1")

    with pytest.raises(lambda_client.exceptions.ResourceConflictException) as taken:
        lambda_client.create_alias(FunctionName=two_versions, Name="live", FunctionVersion="2")

    assert taken.value.response["Error"]["Message"] == f"Alias already exists: {made['AliasArn']}"
    assert taken.value.response["Type"] == "User"
    assert taken.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409


def test_aliases_are_listed_by_page_and_by_version(lambda_client: Any, two_versions: str) -> None:
    for number in range(55):
        version = "2" if number == 7 else "1"
        lambda_client.create_alias(FunctionName=two_versions, Name=f"a{number:02}", FunctionVersion=version)

    first = lambda_client.list_aliases(FunctionName=two_versions, MaxItems=1000)
    rest = lambda_client.list_aliases(FunctionName=two_versions, Marker=first["NextMarker"])
    of_two = lambda_client.list_aliases(FunctionName=two_versions, FunctionVersion="2")

    names = [alias["Name"] for page in (first, rest) for alias in page["Aliases"]]
    assert (len(first["Aliases"]), len(rest["Aliases"])) == (50, 5)
    assert names == [f"a{number:02}" for number in range(55)]
    assert "NextMarker" not in rest
    assert [alias["Name"] for alias in of_two["Aliases"]] == ["a07"]
