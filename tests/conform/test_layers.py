"""Layers: versions, filters, policies, and functions that name them, as recorded on AWS."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest

from tests.conform.local_lambda import HERE, package, refused, settle

Create = Callable[..., str]
Publish = Callable[..., dict[str, Any]]
ABSENT, WRONG = "ResourceNotFoundException", "InvalidParameterValueException"
NO_RESOURCE = (ABSENT, 404, "The resource you requested does not exist.")
RUNTIMES = (
    "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, python3.10, "
    "python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet10, dotnet8, "
    "java11, dotnet6, nodejs18.x, provided.al2, java8.al2"
)


@pytest.fixture
def name() -> str:
    return f"conform-{uuid4().hex[:12]}"


@pytest.fixture
def publish(lambda_client: Any, name: str) -> Iterator[Publish]:
    """Publish a version of a layer (this test's own unless told otherwise); all are gone after the test."""
    made: list[tuple[str, int]] = []

    def call(layer: str = name, **given: Any) -> dict[str, Any]:
        content = given.pop("Content", {"ZipFile": package()})
        published: dict[str, Any] = lambda_client.publish_layer_version(LayerName=layer, Content=content, **given)
        made.append((layer, published["Version"]))
        return published

    yield call
    for layer, version in made:
        lambda_client.delete_layer_version(LayerName=layer, VersionNumber=version)


def plain(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key != "ResponseMetadata"}


def test_the_life_of_a_layer(lambda_client: Any, publish: Publish, name: str, account: str, region: str) -> None:
    code = package("layer")
    given = {"Description": "d", "LicenseInfo": "MIT", "CompatibleRuntimes": ["python3.12"]}
    given |= {"CompatibleArchitectures": ["x86_64"]}

    one = publish(Content={"ZipFile": code}, **given)
    two = publish(Content={"ZipFile": code}, **given)  # nothing need change for a second version
    listed = lambda_client.list_layer_versions(LayerName=name)["LayerVersions"]
    got = lambda_client.get_layer_version(LayerName=name, VersionNumber=1)
    by_arn = lambda_client.get_layer_version_by_arn(Arn=one["LayerVersionArn"])

    arn = f"arn:aws:lambda:{region}:{account}:layer:{name}"
    assert one["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert one["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(code).digest()).decode()
    assert one["Content"]["CodeSize"] == len(code)
    assert (one["LayerArn"], one["LayerVersionArn"], one["Version"]) == (arn, f"{arn}:1", 1)
    assert {key: one[key] for key in given} == given
    assert (two["Version"], two["Content"]["CodeSha256"]) == (2, one["Content"]["CodeSha256"])
    assert [version["Version"] for version in listed] == [2, 1]
    assert set(listed[0]) == {"LayerVersionArn", "Version", "CreatedDate", *given}
    with urlopen(got["Content"].pop("Location")) as zipped:
        assert zipped.read() == code
    for reply in (one, by_arn):
        del reply["Content"]["Location"]
    assert plain(got) == plain(by_arn) == plain(one)

    for _ in range(2):  # also when it is gone
        gone = lambda_client.delete_layer_version(LayerName=name, VersionNumber=1)
        assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    lambda_client.delete_layer_version(LayerName=name, VersionNumber=2)
    assert lambda_client.list_layer_versions(LayerName=name)["LayerVersions"] == []
    assert refused(lambda_client.get_layer_version, LayerName=name, VersionNumber=2) == NO_RESOURCE
    assert publish()["Version"] == 3  # numbers are never used again


def test_what_is_not_given_is_not_shown(publish: Publish) -> None:
    bare, empty = publish(), publish(CompatibleRuntimes=[], CompatibleArchitectures=[])

    assert bare["Description"] == ""
    assert not {"LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"} & bare.keys()
    assert (empty["CompatibleRuntimes"], empty["CompatibleArchitectures"]) == ([], [])


def test_layers_that_are_not_there(lambda_client: Any, publish: Publish, name: str) -> None:
    arn = publish()["LayerArn"]
    get, low = lambda_client.get_layer_version, (WRONG, 400, "Layer Version Cannot be less than 1")

    assert lambda_client.list_layer_versions(LayerName="conform-none")["LayerVersions"] == []
    assert refused(get, LayerName="conform-none", VersionNumber=1) == NO_RESOURCE
    assert refused(get, LayerName=name, VersionNumber=2) == NO_RESOURCE
    assert refused(get, LayerName=name, VersionNumber=0) == low
    assert refused(get, LayerName=name, VersionNumber=-1) == low
    assert refused(lambda_client.delete_layer_version, LayerName=name, VersionNumber=-1) == low
    assert refused(lambda_client.get_layer_version_by_arn, Arn=f"{arn}:2") == NO_RESOURCE
    code, status, sentence = refused(lambda_client.get_layer_version_by_arn, Arn=arn)
    assert (code, status) == ("ValidationException", 400)
    assert sentence is not None
    assert f"Value '{arn}' at 'arn' failed to satisfy constraint: Member must satisfy regular expression" in sentence


def test_values_nobody_knows_are_named(lambda_client: Any, name: str) -> None:
    code, status, sentence = refused(
        lambda_client.publish_layer_version,
        LayerName=name,
        Content={"ZipFile": package()},
        CompatibleRuntimes=["invalidruntime", "nodejs20.x"],
        CompatibleArchitectures=["invalidarch", "x86_64"],
    )
    runtime = refused(lambda_client.list_layers, CompatibleRuntime="invalidruntime")
    architecture = refused(lambda_client.list_layers, CompatibleArchitecture="invalidarch")

    assert (code, status) == ("ValidationException", 400)
    assert sentence == (
        "2 validation errors detected: Value '[invalidruntime, nodejs20.x]' at 'compatibleRuntimes' failed to satisfy "
        f"constraint: Member must satisfy enum value set: [{RUNTIMES}]; Value '[invalidarch, x86_64]' at "
        "'compatibleArchitectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy "
        "enum value set: [x86_64, arm64], Member must not be null]"
    )
    assert runtime[2] is not None
    assert runtime[2].startswith(
        "1 validation error detected: Value 'invalidruntime' at 'compatibleRuntime' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ruby3.5, ruby2.6, "
    )
    assert architecture[2] == (
        "1 validation error detected: Value 'invalidarch' at 'compatibleArchitecture' failed to satisfy constraint: "
        "Member must satisfy enum value set: [x86_64, arm64]"
    )


def test_lists_are_filtered_and_paged(lambda_client: Any, publish: Publish, name: str) -> None:
    publish(CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["arm64"])
    publish(CompatibleRuntimes=["python3.12", "nodejs20.x"])
    publish(CompatibleRuntimes=["nodejs20.x"])
    other = f"{name}-other"
    publish(other)

    def numbers(**given: Any) -> list[int]:
        return [each["Version"] for each in lambda_client.list_layer_versions(LayerName=name, **given)["LayerVersions"]]

    def newest(**given: Any) -> dict[str, int]:
        pages = lambda_client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1}, **given)
        layers = [layer for page in pages for layer in page["Layers"]]
        return {
            each["LayerName"]: each["LatestMatchingVersion"]["Version"] for each in layers if name in each["LayerName"]
        }

    assert numbers() == [3, 2, 1]
    assert numbers(CompatibleRuntime="python3.12") == [2, 1]
    assert numbers(CompatibleArchitecture="arm64") == [1]
    assert numbers(CompatibleRuntime="nodejs20.x", CompatibleArchitecture="arm64") == []
    first = lambda_client.list_layer_versions(LayerName=name, MaxItems=2)
    rest = lambda_client.list_layer_versions(LayerName=name, MaxItems=2, Marker=first["NextMarker"])
    assert [each["Version"] for each in first["LayerVersions"] + rest["LayerVersions"]] == [3, 2, 1]
    assert "NextMarker" not in rest
    assert newest() == {name: 3, other: 1}
    assert newest(CompatibleRuntime="python3.12") == {name: 2}


def test_a_policy_per_version(lambda_client: Any, publish: Publish, name: str) -> None:
    arn = publish()["LayerVersionArn"]
    here = {"LayerName": name, "VersionNumber": 1}
    given = here | {"Action": "lambda:GetLayerVersion", "Principal": "*"}
    add, remove = lambda_client.add_layer_version_permission, lambda_client.remove_layer_version_permission
    get = lambda_client.get_layer_version_policy
    statement = f'"Effect":"Allow","Principal":"*","Action":"lambda:GetLayerVersion","Resource":"{arn}"}}'
    stale = (
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetLayerPolicy API to retrieve the latest Revision Id",
    )

    assert refused(get, **here) == (ABSENT, 404, "No policy is associated with the given resource.")
    added = add(StatementId="s1", **given)
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert added["Statement"] == f'{{"Sid":"s1",{statement}'
    first = get(**here)
    assert first["Policy"] == f'{{"Version":"2012-10-17","Id":"default","Statement":[{{"Sid":"s1",{statement}]}}'
    assert first["RevisionId"] == added["RevisionId"]
    assert refused(add, StatementId="s1", **given) == (
        "ResourceConflictException",
        409,
        "The statement id (s1) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    )
    assert refused(add, StatementId="s2", RevisionId="wrong", **given) == stale
    assert refused(remove, StatementId="s1", RevisionId="wrong", **here) == stale
    assert refused(remove, StatementId="none", **here) == (
        ABSENT,
        404,
        "Statement none is not found in resource policy.",
    )
    assert refused(add, StatementId="s2", **(given | {"Action": "*"})) == (
        "ValidationException",
        400,
        "1 validation error detected: Value '*' at 'action' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: lambda:GetLayerVersion",
    )
    second = add(StatementId="s2", RevisionId=first["RevisionId"], **given)["RevisionId"]
    removed = remove(StatementId="s2", RevisionId=second, **here)
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    after = get(**here)
    assert after["Policy"] == first["Policy"]
    assert len({first["RevisionId"], second, after["RevisionId"]}) == 3


@pytest.mark.parametrize("number", [1, 2])
def test_policies_of_versions_that_are_not_there(lambda_client: Any, publish: Publish, name: str, number: int) -> None:
    arn = publish()["LayerArn"]
    layer = name if number == 2 else f"{name}-none"
    here = {"LayerName": layer, "VersionNumber": number}
    missing = (ABSENT, 404, f"Layer version {arn.removesuffix(name)}{layer}:{number} does not exist.")
    given = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}

    assert refused(lambda_client.add_layer_version_permission, **here, **given) == missing
    assert refused(lambda_client.get_layer_version_policy, **here) == missing
    assert refused(lambda_client.remove_layer_version_permission, **here, StatementId="s") == missing


def test_a_function_has_its_layers_also_when_they_are_deleted(
    lambda_client: Any, publish: Publish, function: Create, name: str
) -> None:
    layer = publish()
    shown = [{"Arn": layer["LayerVersionArn"], "CodeSize": layer["Content"]["CodeSize"]}]
    called = function(Layers=[layer["LayerVersionArn"]])

    assert lambda_client.get_function_configuration(FunctionName=called)["Layers"] == shown
    lambda_client.delete_layer_version(LayerName=name, VersionNumber=1)
    lambda_client.update_function_configuration(FunctionName=called, Description="changed")
    assert settle(lambda_client, called)["Layers"] == shown
    assert lambda_client.publish_version(FunctionName=called)["Layers"] == shown
    assert lambda_client.invoke(FunctionName=called)["StatusCode"] == 200
    assert refused(
        lambda_client.update_function_configuration, FunctionName=called, Layers=[layer["LayerVersionArn"]]
    ) == (WRONG, 400, f"Layer version {layer['LayerVersionArn']} does not exist.")

    lambda_client.update_function_configuration(FunctionName=called, Layers=[])
    assert "Layers" not in settle(lambda_client, called)


def test_layers_a_function_cannot_have(lambda_client: Any, publish: Publish, function: Create, name: str) -> None:
    one, two = publish(), publish()
    first, second = one["LayerVersionArn"], two["LayerVersionArn"]
    called = function()

    def refusal(*layers: str) -> tuple[str, int, str | None]:
        return refused(lambda_client.update_function_configuration, FunctionName=called, Layers=list(layers))

    def twice(one: str, other: str) -> tuple[str, int, str]:
        return (
            WRONG,
            400,
            (
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{one} and {other} are versions of the same layer."
            ),
        )

    assert refusal(first, second) == twice(first, second)
    assert refusal(first, first) == twice(first, first)
    for missing in (f"{one['LayerArn']}:9", f"{one['LayerArn']}-none:1"):
        assert refusal(missing) == (WRONG, 400, f"Layer version {missing} does not exist.")
    six = [publish(f"{name}-{number}")["LayerVersionArn"] for number in range(6)]
    assert refusal(*six) == (WRONG, 400, "Cannot reference more than 5 layers.")
    code, status, sentence = refusal(one["LayerArn"])
    assert (code, status) == ("ValidationException", 400)
    assert sentence is not None
    assert sentence.startswith(
        f"1 validation error detected: Value '[{one['LayerArn']}]' at 'layers' failed to satisfy constraint: Member "
        "must satisfy constraint: [Member must have length less than or equal to 2048, Member must have length greater "
        "than or equal to 1, Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:"
    )
    assert sentence.endswith(":lambda:::awslayer:[a-zA-Z0-9-_]+), Member must not be null]")


def test_layers_of_elsewhere(lambda_client: Any, function: Create, publish: Publish, account: str, region: str) -> None:
    arn = publish()["LayerVersionArn"]
    called = function()
    update = lambda_client.update_function_configuration

    abroad = refused(update, FunctionName=called, Layers=[arn.replace(region, "us-west-2")])
    theirs = arn.replace(account, "210987654321")
    code, status, sentence = refused(update, FunctionName=called, Layers=[theirs])

    assert abroad == (
        WRONG,
        400,
        f"Layers are not in the same region as the function. Layers are expected to be in region {region}.",
    )
    assert (code, status) == ("AccessDeniedException", 403)
    assert sentence is not None
    ours = " (the local AWS has it only once account 210987654321 has published it here)" if HERE else ""
    assert sentence.endswith(
        f"is not authorized to perform: lambda:GetLayerVersion on resource: {theirs} because no resource-based policy "
        f"allows the lambda:GetLayerVersion action{ours}"
    )


@pytest.mark.skipif(not HERE, reason="its code would have to be in a bucket of AWS's")
def test_a_layer_from_s3(lambda_client: Any, publish: Publish, name: str) -> None:
    layer = publish(Content={"S3Bucket": "bucket", "S3Key": "old.zip"})
    call = lambda_client.publish_layer_version

    assert layer["Content"]["CodeSize"] == len(package("from-s3"))
    assert refused(call, LayerName=name, Content={"S3Bucket": "bucket", "S3Key": "no.zip"})[:2] == (WRONG, 400)
    assert refused(call, LayerName=name, Content={"ZipFile": b"no zip"})[2] == (
        "Could not unzip uploaded file. Please check your file, then try to upload again."
    )


def test_code_and_layers_together_have_a_size(
    lambda_client: Any, publish: Publish, function: Create, name: str
) -> None:
    half = {"ZipFile": _zeros(140_000_000)}
    one, two = (publish(f"{name}-{n}", Content=half)["LayerVersionArn"] for n in "ab")
    called = function(Layers=[one])
    most, unzipped = 262_144_000, _unzipped(half["ZipFile"])

    both = refused(lambda_client.update_function_configuration, FunctionName=called, Layers=[one, two])
    code = refused(lambda_client.update_function_code, FunctionName=called, **half)

    size = 2 * unzipped + _unzipped(package())
    assert both == (
        WRONG,
        400,
        f"Function code combined with layers exceeds the maximum allowed size of {most} bytes. "
        f"The actual size is {size} bytes.",
    )
    assert code == (WRONG, 400, f"Unzipped size must be smaller than {most - unzipped} bytes")


def _zeros(size: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("zeros", bytes(size))
    return packed.getvalue()


def _unzipped(packed: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return sum(entry.file_size for entry in archive.infolist())
