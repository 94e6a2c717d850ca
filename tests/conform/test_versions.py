"""Published versions as recorded on AWS: numbering, idempotence, preconditions, immutability, deletion, pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.conform.local_lambda import HERE, package, refused, settle

Create = Callable[..., str]
Held = Callable[[], AbstractContextManager[None]]


def change(client: Any, name: str, **settings: Any) -> None:
    client.update_function_configuration(FunctionName=name, **settings)
    settle(client, name)


def numbers(client: Any, name: str) -> list[str]:
    return [found["Version"] for found in client.list_versions_by_function(FunctionName=name)["Versions"]]


def test_a_version_has_a_description_and_a_revision_id_of_its_own(lambda_client: Any, function: Create) -> None:
    name = function(Description="latest")
    before = lambda_client.get_function_configuration(FunctionName=name)

    published = lambda_client.publish_version(FunctionName=name, Description="first")
    after = lambda_client.get_function_configuration(FunctionName=name)
    change(lambda_client, name, Description="something else", Timeout=9)
    later = lambda_client.get_function_configuration(FunctionName=name, Qualifier="1")

    assert published["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (published["Version"], published["Description"], published["State"]) == ("1", "first", "Active")
    assert published["LastUpdateStatus"] == "Successful"
    assert published["FunctionArn"] == before["FunctionArn"] + ":1"
    assert len({before["RevisionId"], published["RevisionId"], after["RevisionId"]}) == 3
    assert after["Description"] == "latest"
    assert published | {"ResponseMetadata": None} == later | {"ResponseMetadata": None}


def test_nothing_changed_means_no_new_version_and_the_old_description(lambda_client: Any, function: Create) -> None:
    name = function()
    first = lambda_client.publish_version(FunctionName=name, Description="build 101")
    revision = lambda_client.get_function_configuration(FunctionName=name)["RevisionId"]

    again = lambda_client.publish_version(FunctionName=name, Description="build 102")

    assert again["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (again["Version"], again["Description"]) == ("1", "build 101")
    assert again["RevisionId"] == first["RevisionId"]
    assert lambda_client.get_function_configuration(FunctionName=name)["RevisionId"] == revision
    assert numbers(lambda_client, name) == ["$LATEST", "1"]


def test_an_identical_zip_or_a_no_op_change_is_no_change(lambda_client: Any, function: Create) -> None:
    name = function(Description="same")
    lambda_client.publish_version(FunctionName=name)

    lambda_client.update_function_code(FunctionName=name, ZipFile=package())
    settle(lambda_client, name)
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"

    change(lambda_client, name, Description="same")
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"

    lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"), DryRun=True)
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"

    update = lambda_client.update_function_code(FunctionName=name, ZipFile=package(), Publish=True)
    assert update["Version"] == "1"


def test_a_change_of_configuration_alone_makes_a_version(lambda_client: Any, function: Create) -> None:
    name = function()
    lambda_client.publish_version(FunctionName=name)

    change(lambda_client, name, Description="only this")

    assert lambda_client.publish_version(FunctionName=name)["Version"] == "2"
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "2"


def test_publishing_expects_the_code_it_is_told(lambda_client: Any, function: Create) -> None:
    name = function()
    current = lambda_client.get_function_configuration(FunctionName=name)["CodeSha256"]

    assert refused(lambda_client.publish_version, FunctionName=name, CodeSha256="somenonexistentsha256") == (
        "InvalidParameterValueException",
        400,
        f"CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST ({current}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )
    assert lambda_client.publish_version(FunctionName=name, CodeSha256=current)["Version"] == "1"


def test_publish_with_create(lambda_client: Any, function: Create, role: str, runtime: str, held: Held) -> None:
    name = function()
    lambda_client.delete_function(FunctionName=name)

    with held():
        made = lambda_client.create_function(
            FunctionName=name,
            Role=role,
            Runtime=runtime,
            Handler="index.handler",
            Code={"ZipFile": package()},
            Publish=True,
        )
    latest = settle(lambda_client, name)
    version = lambda_client.get_function_configuration(FunctionName=name, Qualifier=made["Version"])

    assert made["FunctionArn"].endswith(f":function:{name}")  # recorded: not the version's
    assert made["State"] == "Pending"
    assert version["State"] == "Active"
    assert version["FunctionArn"].endswith(f":{name}:{made['Version']}")
    assert len({made["RevisionId"], latest["RevisionId"], version["RevisionId"]}) == 3
    assert lambda_client.publish_version(FunctionName=name)["Version"] == made["Version"]


def test_publish_with_update_gives_a_pending_version(lambda_client: Any, function: Create, held: Held) -> None:
    name = function()

    with held():
        update = lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"), Publish=True)
    version = lambda_client.get_function_configuration(FunctionName=name, Qualifier="1")
    lambda_client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1 if not HERE else 0.02, "MaxAttempts": 300}
    )
    active = lambda_client.get_function_configuration(FunctionName=name, Qualifier="1")

    assert update["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (update["Version"], update["State"], update["StateReasonCode"]) == ("1", "Pending", "Creating")
    assert "LastUpdateStatus" not in update
    assert update["FunctionArn"].endswith(f":{name}:1")
    assert update["RevisionId"] == version["RevisionId"] == active["RevisionId"]
    assert active["State"] == "Active"


def test_numbers_are_never_used_again(lambda_client: Any, function: Create) -> None:
    name = function()
    for timeout in (4, 5, 6):
        change(lambda_client, name, Timeout=timeout)
        lambda_client.publish_version(FunctionName=name)

    lambda_client.delete_function(FunctionName=name, Qualifier="1")
    lambda_client.delete_function(FunctionName=name, Qualifier="3")
    change(lambda_client, name, Timeout=7)
    published = lambda_client.publish_version(FunctionName=name)

    assert published["Version"] == "4"
    assert numbers(lambda_client, name) == ["$LATEST", "2", "4"]


def test_the_last_version_deleted_is_published_anew(lambda_client: Any, function: Create) -> None:
    name = function()
    lambda_client.publish_version(FunctionName=name)

    lambda_client.delete_function(FunctionName=name, Qualifier="1")

    assert lambda_client.publish_version(FunctionName=name)["Version"] == "2"


def test_versions_that_aliases_name_cannot_be_deleted(lambda_client: Any, function: Create) -> None:
    name = function()
    lambda_client.publish_version(FunctionName=name)
    change(lambda_client, name, Timeout=9)
    lambda_client.publish_version(FunctionName=name)
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    in_use = "Unable to delete version because the following aliases reference it: [live]"

    for version in ("1", "2"):
        refusal = refused(lambda_client.delete_function, FunctionName=name, Qualifier=version)
        assert refusal == ("ResourceConflictException", 409, in_use)
    lambda_client.delete_alias(FunctionName=name, Name="live")
    lambda_client.delete_function(FunctionName=f"{name}:1")

    assert numbers(lambda_client, name) == ["$LATEST", "2"]


def test_what_else_delete_refuses_or_lets_pass(lambda_client: Any, function: Create) -> None:
    name = function()

    gone = lambda_client.delete_function(FunctionName=name, Qualifier="1221")

    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    for either in (name, "conform-none"):
        assert refused(lambda_client.delete_function, FunctionName=either, Qualifier="$LATEST") == (
            "InvalidParameterValueException",
            400,
            "$LATEST version cannot be deleted without deleting the function.",
        )
    assert refused(lambda_client.delete_function, FunctionName=name, Qualifier="live")[2] == (
        "Deletion of aliases is not currently supported."
    )
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    for read in (lambda_client.get_function, lambda_client.get_function_configuration):
        refusal = refused(read, FunctionName=name, Qualifier="1221")
        assert refusal == ("ResourceNotFoundException", 404, f"Function not found: {arn}:1221")


def test_versions_are_listed_by_page(lambda_client: Any, function: Create) -> None:
    name = function()
    for number in (1, 2, 3):
        change(lambda_client, name, Timeout=number + 3)
        assert lambda_client.publish_version(FunctionName=name)["Version"] == str(number)
    every = ["$LATEST", "1", "2", "3"]

    few = lambda_client.list_versions_by_function(FunctionName=name, MaxItems=2)
    rest = lambda_client.list_versions_by_function(FunctionName=name, Marker=few["NextMarker"], MaxItems=100)
    pages = lambda_client.get_paginator("list_versions_by_function").paginate(FunctionName=name)

    assert [found["Version"] for found in few["Versions"]] == every[:2]
    assert [found["Version"] for found in rest["Versions"]] == every[2:]
    assert "NextMarker" not in rest
    assert [found["Version"] for page in pages for found in page["Versions"]] == every
    assert few["Versions"][0]["FunctionArn"].endswith(":$LATEST")
    assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig"} & few["Versions"][0].keys()


def test_functions_are_listed_with_all_their_versions_when_asked(lambda_client: Any, function: Create) -> None:
    one, two = sorted((function(Publish=True), function()))
    published = lambda_client.list_versions_by_function(FunctionName=one)["Versions"]
    of_one = [found["FunctionArn"] for found in published]
    pages = lambda_client.get_paginator("list_functions").paginate

    plain = [found for page in pages() for found in page["Functions"] if found["FunctionName"] in (one, two)]
    every = [
        found["FunctionArn"]
        for page in pages(FunctionVersion="ALL", PaginationConfig={"PageSize": 1})
        for found in page["Functions"]
        if found["FunctionName"] == one
    ]

    assert {found["Version"] for found in plain} == {"$LATEST"}
    assert [found["FunctionArn"].rpartition(":")[2] for found in plain] == [one, two]
    assert "State" not in plain[0]
    assert every == of_one
    assert refused(lambda_client.list_functions, FunctionVersion="invalid") == (
        "ValidationException",
        400,
        "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ALL]",
    )
