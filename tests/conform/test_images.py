"""Functions made of container images, as recorded on AWS: registered, versioned and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conform.local_lambda import ACCOUNT, HERE, REGION, package, refused, settle

pytestmark = pytest.mark.skipif(not HERE, reason="elsewhere the images would have to be in a registry")

Create = Callable[..., str]
WRONG = "InvalidParameterValueException"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/app"
ONE, TWO = "1" * 64, "2" * 64
UNASKED = "Please don't provide Handler or Runtime or Layer when"


@pytest.fixture
def image(function: Create) -> Create:
    def create(**given: Any) -> str:
        usual = {"Code": {"ImageUri": f"{REPOSITORY}:latest"}, "PackageType": "Image"}
        return function(**({"Runtime": None, "Handler": None} | usual | given))

    return create


@pytest.fixture
def function(lambda_client: Any, role: str) -> Any:
    made: list[str] = []

    def create(**given: Any) -> str:
        name = f"conform-image-{len(made)}"
        parameters = {key: value for key, value in given.items() if value is not None}
        lambda_client.create_function(FunctionName=name, Role=role, **parameters)
        made.append(name)
        settle(lambda_client, name)
        return name

    yield create
    for name in made:
        lambda_client.delete_function(FunctionName=name)


def test_an_image_is_shown_by_its_digest(lambda_client: Any, image: Create) -> None:
    name = image(Environment={"Variables": {"CUSTOM_ENV": "test"}})

    found = lambda_client.get_function(FunctionName=name)

    assert found["Code"] == {
        "RepositoryType": "ECR",
        "ImageUri": f"{REPOSITORY}:latest",
        "ResolvedImageUri": f"{REPOSITORY}@sha256:{ONE}",
    }
    shown = found["Configuration"]
    assert (shown["PackageType"], shown["CodeSha256"], shown["CodeSize"]) == ("Image", ONE, 0)
    assert set(shown) == {
        "Architectures", "CodeSha256", "CodeSize", "Description", "Environment", "EphemeralStorage", "FunctionArn",
        "FunctionName", "LastModified", "LastUpdateStatus", "LoggingConfig", "MemorySize", "PackageType", "RevisionId",
        "Role", "SnapStart", "State", "Timeout", "TracingConfig", "Version",
    }  # fmt: skip


def test_its_configuration_stands_over_the_images_own(lambda_client: Any, image: Create) -> None:
    first = {"EntryPoint": ["sh"], "Command": ["-c", "echo test"], "WorkingDirectory": "/app1"}
    second = {"Command": ["-c", "echo test1"], "WorkingDirectory": "/app1"}
    name = image(ImageConfig=first)

    assert settle(lambda_client, name)["ImageConfigResponse"] == {"ImageConfig": first}
    lambda_client.update_function_configuration(FunctionName=name, ImageConfig=second)
    assert settle(lambda_client, name)["ImageConfigResponse"] == {"ImageConfig": second}
    lambda_client.update_function_configuration(FunctionName=name, ImageConfig={})
    assert "ImageConfigResponse" not in settle(lambda_client, name)


def test_versions_and_aliases_keep_their_image(lambda_client: Any, image: Create) -> None:
    name = image(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    updated = lambda_client.update_function_code(FunctionName=name, ImageUri=f"{REPOSITORY}:next")
    settle(lambda_client, name)
    published = lambda_client.publish_version(FunctionName=name, CodeSha256=TWO)
    again = lambda_client.publish_version(FunctionName=name)

    assert updated["CodeSha256"] == TWO
    assert (published["Version"], again["Version"]) == ("2", "2")
    code = lambda_client.get_function(FunctionName=name, Qualifier="live")["Code"]
    assert code["ResolvedImageUri"] == f"{REPOSITORY}@sha256:{ONE}"
    listed = lambda_client.list_versions_by_function(FunctionName=name)["Versions"]
    assert [version["CodeSha256"] for version in listed] == [TWO, ONE, TWO]
    assert all("ImageUri" not in version for version in listed)
    assert refused(lambda_client.publish_version, FunctionName=name, CodeSha256="a" * 64) == (
        WRONG,
        400,
        f"CodeSHA256 ({'a' * 64}) is different from current CodeSHA256 in $LATEST ({TWO}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )


def test_a_digest_is_taken_as_it_is(lambda_client: Any, image: Create) -> None:
    name = image(Code={"ImageUri": f"{REPOSITORY}@sha256:{'a' * 64}"})

    code = lambda_client.get_function(FunctionName=name)["Code"]
    assert code["ImageUri"] == code["ResolvedImageUri"] == f"{REPOSITORY}@sha256:{'a' * 64}"


def test_images_that_are_not_there(image: Create) -> None:
    for uri, wrong in (
        (f"{REPOSITORY}:none", "does not exist"),
        (f"{REPOSITORY}-none:latest", "does not exist"),
        (REPOSITORY, "is not valid"),
        ("public.ecr.aws/lambda/python:3.12", "is not valid"),
    ):
        assert refused(image, Code={"ImageUri": uri}) == (
            WRONG,
            400,
            f"Source image {uri} {wrong}. Provide a valid source image.",
        )


def test_a_zip_stays_a_zip_and_an_image_an_image(lambda_client: Any, image: Create, function: Create) -> None:
    picture = image()
    zipped = function(Runtime="python3.11", Handler="index.handler", Code={"ZipFile": package()})
    code, configuration = lambda_client.update_function_code, lambda_client.update_function_configuration

    assert refused(code, FunctionName=picture, ZipFile=package()) == (
        WRONG,
        400,
        "Please provide ImageUri when updating a function with packageType Image.",
    )
    assert refused(code, FunctionName=zipped, ImageUri=f"{REPOSITORY}:latest") == (
        WRONG,
        400,
        "Please don't provide ImageUri when updating a function with packageType Zip.",
    )
    assert refused(configuration, FunctionName=zipped, ImageConfig={"Command": ["x"]})[2] == (
        "Please don't provide ImageConfig when updating a function with packageType Zip."
    )
    assert refused(configuration, FunctionName=picture, Handler="a.b")[2] == (
        f"{UNASKED} updating a function with packageType Image."
    )
    assert refused(image, Handler="a.b")[2] == f"{UNASKED} the intended function PackageType is Image."
    assert refused(image, Code={"ZipFile": package()})[2] == "Please provide a source for function code."


def test_an_image_is_not_run_and_says_so(lambda_client: Any, image: Create) -> None:
    code, status, sentence = refused(lambda_client.invoke, FunctionName=image())

    assert (code, status) == ("NotImplementedException", 501)
    assert sentence is not None
    assert "registers images but does not run them" in sentence
