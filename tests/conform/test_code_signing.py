"""Code signing configurations, and what they do to functions, as recorded on AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.conform.local_lambda import package, refused, settle

Create = Callable[..., str]
ABSENT = "ResourceNotFoundException"
Signing = Callable[..., dict[str, Any]]


@pytest.fixture
def signing(lambda_client: Any, account: str, region: str) -> Iterator[Signing]:
    """Create a code signing configuration; gone after the test, if its functions let it go."""
    made: list[str] = []
    profile = f"arn:aws:signer:{region}:{account}:/signing-profiles/test"

    def create(policy: str = "Enforce", **given: Any) -> dict[str, Any]:
        found: dict[str, Any] = lambda_client.create_code_signing_config(
            AllowedPublishers={"SigningProfileVersionArns": [profile]},
            CodeSigningPolicies={"UntrustedArtifactOnDeployment": policy},
            **given,
        )["CodeSigningConfig"]
        made.append(found["CodeSigningConfigArn"])
        return found

    yield create
    for arn in made:
        with suppress(lambda_client.exceptions.ResourceNotFoundException):
            lambda_client.delete_code_signing_config(CodeSigningConfigArn=arn)


def test_the_life_of_a_configuration(lambda_client: Any, signing: Signing, function: Create) -> None:
    made = signing(Description="d", Tags={"a": "b"})
    arn, name = made["CodeSigningConfigArn"], function()
    here = {"CodeSigningConfigArn": arn}

    assert arn.endswith(f":code-signing-config:{made['CodeSigningConfigId']}")
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert lambda_client.update_code_signing_config(**here)["CodeSigningConfig"] == made
    policy = {"UntrustedArtifactOnDeployment": "Warn"}
    updated = lambda_client.update_code_signing_config(CodeSigningPolicies=policy, **here)["CodeSigningConfig"]
    assert updated == made | {"CodeSigningPolicies": policy, "LastModified": updated["LastModified"]}
    assert lambda_client.get_code_signing_config(**here)["CodeSigningConfig"] == updated
    assert lambda_client.list_code_signing_configs()["CodeSigningConfigs"][-1] == updated
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    lambda_client.tag_resource(Resource=arn, Tags={"c": "d"})
    lambda_client.untag_resource(Resource=arn, TagKeys=["a"])
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"c": "d"}

    assert lambda_client.list_functions_by_code_signing_config(**here)["FunctionArns"] == []
    put = lambda_client.put_function_code_signing_config(FunctionName=name, **here)
    got = lambda_client.get_function_code_signing_config(FunctionName=name)
    for reply in (put, got):
        assert (reply["CodeSigningConfigArn"], reply["FunctionName"]) == (arn, name)
    listed = lambda_client.list_functions_by_code_signing_config(**here)["FunctionArns"]
    assert listed == [lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]]
    assert refused(lambda_client.delete_code_signing_config, **here)[:2] == ("ResourceConflictException", 409)

    gone = lambda_client.delete_function_code_signing_config(FunctionName=name)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert set(lambda_client.get_function_code_signing_config(FunctionName=name)) == {"ResponseMetadata"}
    assert lambda_client.delete_code_signing_config(**here)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_what_is_not_there(lambda_client: Any, signing: Signing, function: Create, account: str, region: str) -> None:
    arn, name = signing()["CodeSigningConfigArn"], function()
    none = {"CodeSigningConfigArn": f"{arn[:-1]}{'x' if arn[-1] != 'x' else 'y'}"}
    missing = (
        ABSENT,
        404,
        f"The Lambda code signing configuration {none['CodeSigningConfigArn']} can not be found.",
    )
    unknown = (ABSENT, 404, f"Function not found: arn:aws:lambda:{region}:{account}:function:conform-none")
    put = lambda_client.put_function_code_signing_config

    for call in (
        lambda_client.delete_code_signing_config,
        lambda_client.update_code_signing_config,
        lambda_client.get_code_signing_config,
        lambda_client.list_functions_by_code_signing_config,
    ):
        assert refused(call, **none) == missing
    for call in (lambda_client.get_function_code_signing_config, lambda_client.delete_function_code_signing_config):
        assert refused(call, FunctionName="conform-none") == unknown
    assert refused(put, FunctionName="conform-none", CodeSigningConfigArn=arn) == unknown
    for called in (name, "conform-none"):
        assert refused(put, FunctionName=called, **none) == (
            "CodeSigningConfigNotFoundException",
            404,
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {none['CodeSigningConfigArn']}.",
        )
    deleted = lambda_client.delete_function_code_signing_config(FunctionName=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert set(lambda_client.get_function_code_signing_config(FunctionName=name)) == {"ResponseMetadata"}


def test_unsigned_code_is_refused_where_signatures_are_enforced(
    lambda_client: Any, signing: Signing, function: Create, role: str, runtime: str
) -> None:
    enforce, warn = signing()["CodeSigningConfigArn"], signing("Warn")["CodeSigningConfigArn"]

    def unsigned(name: str) -> tuple[str, int, str]:
        return (
            "CodeVerificationFailedException",
            400,
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
            f"client is not configured to accept. Check the provided signature for {name}.",
        )

    assert refused(
        lambda_client.create_function,
        FunctionName="conform-unsigned",
        Role=role,
        Runtime=runtime,
        Handler="index.handler",
        Code={"ZipFile": package()},
        CodeSigningConfigArn=enforce,
    ) == unsigned("conform-unsigned")
    name = function(CodeSigningConfigArn=warn)
    assert lambda_client.get_function_code_signing_config(FunctionName=name)["CodeSigningConfigArn"] == warn
    lambda_client.update_function_code(FunctionName=name, ZipFile=package("two"))
    before = settle(lambda_client, name)["CodeSha256"]

    lambda_client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=enforce)
    assert refused(lambda_client.update_function_code, FunctionName=name, ZipFile=package("three")) == unsigned(name)
    lambda_client.update_function_configuration(FunctionName=name, Description="no code comes with this")
    assert settle(lambda_client, name)["CodeSha256"] == before
