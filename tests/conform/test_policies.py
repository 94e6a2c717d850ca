"""Resource policies as recorded on AWS: statements, revision ids, refusals; one per function, version and alias."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conform.local_lambda import HERE, client_of, package, refused, settle

Create = Callable[..., str]
NOTHING = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
STALE = (
    "PreconditionFailedException",
    412,
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id",
)


def arn_of(client: Any, name: str) -> str:
    return str(client.get_function_configuration(FunctionName=name)["FunctionArn"])


def permit(client: Any, name: str, statement: str = "s3", **more: Any) -> dict[str, Any]:
    given = {"StatementId": statement, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"} | more
    found: dict[str, Any] = json.loads(client.add_permission(FunctionName=name, **given)["Statement"])
    return found


def sids(client: Any, name: str, **more: Any) -> list[str]:
    policy = json.loads(client.get_policy(FunctionName=name, **more)["Policy"])
    assert {key: policy[key] for key in ("Version", "Id")} == {"Version": "2012-10-17", "Id": "default"}
    return [statement["Sid"] for statement in policy["Statement"]]


def test_statements_come_and_go(lambda_client: Any, function: Create) -> None:
    name = function()
    arn = arn_of(lambda_client, name)

    made = lambda_client.add_permission(
        FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
    )
    permit(lambda_client, name, "sqs", Principal="sqs.amazonaws.com", SourceArn="arn:aws:s3:::bucket")
    both = json.loads(lambda_client.get_policy(FunctionName=arn)["Policy"])["Statement"]

    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    service = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": arn}
    assert both == [
        service | {"Sid": "s3", "Principal": {"Service": "s3.amazonaws.com"}},
        service
        | {
            "Sid": "sqs",
            "Principal": {"Service": "sqs.amazonaws.com"},
            "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
        },
    ]
    assert both[0] == json.loads(made["Statement"])
    removed = lambda_client.remove_permission(FunctionName=name, StatementId="sqs")
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert sids(lambda_client, name) == ["s3"]
    assert refused(lambda_client.remove_permission, FunctionName=name, StatementId="sqs") == (
        "ResourceNotFoundException",
        404,
        "Statement sqs is not found in resource policy.",
    )
    lambda_client.remove_permission(FunctionName=name, StatementId="s3")
    assert refused(lambda_client.get_policy, FunctionName=name) == NOTHING
    assert refused(lambda_client.remove_permission, FunctionName=name, StatementId="s3") == (
        "ResourceNotFoundException",
        404,
        "No policy is associated with the given resource.",
    )


@pytest.mark.parametrize(
    ("given", "principal", "condition"),
    [
        ({"Principal": "*", "SourceAccount": "1" * 12}, "*", {"StringEquals": {"AWS:SourceAccount": "1" * 12}}),
        ({"Principal": "lambda.amazonaws.com"}, {"Service": "lambda.amazonaws.com"}, None),
        ({"Principal": "alexa-appkit.amazon.com"}, {"Service": "alexa-appkit.amazon.com"}, None),
        (
            {"Principal": "*", "EventSourceToken": "amzn1.ask.skill.x"},
            "*",
            {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask.skill.x"}},
        ),
        (
            {
                "Action": "lambda:InvokeFunctionUrl",
                "Principal": "*",
                "SourceArn": "arn:aws:s3:::bucket",
                "SourceAccount": "1" * 12,
                "PrincipalOrgID": "o-1234567890",
                "FunctionUrlAuthType": "NONE",
            },
            "*",
            {
                "StringEquals": {
                    "AWS:SourceAccount": "1" * 12,
                    "lambda:FunctionUrlAuthType": "NONE",
                    "aws:PrincipalOrgID": "o-1234567890",
                },
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
            },
        ),
    ],
)
def test_what_a_statement_says(
    lambda_client: Any, function: Create, given: dict[str, Any], principal: Any, condition: Any
) -> None:
    statement = permit(lambda_client, function(), **given)

    assert (statement["Principal"], statement.get("Condition")) == (principal, condition)
    assert statement["Action"] == given.get("Action", "lambda:InvokeFunction")


def test_an_account_is_its_root_and_an_arn_itself(lambda_client: Any, function: Create, account: str) -> None:
    name = function()
    root = {"AWS": f"arn:aws:iam::{account}:root"}

    assert permit(lambda_client, name, "number", Principal=account)["Principal"] == root
    assert permit(lambda_client, name, "arn", Principal=root["AWS"])["Principal"] == root


def test_every_version_and_alias_has_a_policy_of_its_own(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    arn = arn_of(lambda_client, name)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    permit(lambda_client, name)

    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier="1") == NOTHING
    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier="live") == NOTHING
    assert permit(lambda_client, f"{name}:1", Qualifier="1")["Resource"] == f"{arn}:1"
    assert permit(lambda_client, f"{name}:live")["Resource"] == f"{arn}:live"
    permit(lambda_client, name, "second", Qualifier="live")

    assert sids(lambda_client, name) == sids(lambda_client, name, Qualifier="1") == ["s3"]
    assert sids(lambda_client, name, Qualifier="live") == ["s3", "second"]
    lambda_client.update_alias(FunctionName=name, Name="live", Description="moved")
    assert sids(lambda_client, f"{arn}:live") == ["s3", "second"]
    lambda_client.remove_permission(FunctionName=f"{name}:live", StatementId="s3")
    assert sids(lambda_client, name, Qualifier="live") == ["second"]
    assert sids(lambda_client, name) == ["s3"]


def test_a_policy_goes_with_what_carries_it(lambda_client: Any, function: Create, role: str, runtime: str) -> None:
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualifier in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}):
        permit(lambda_client, name, **qualifier)

    lambda_client.delete_alias(FunctionName=name, Name="live")
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier="live") == NOTHING
    lambda_client.delete_function(FunctionName=name, Qualifier="1")
    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier="1") == NOTHING
    assert sids(lambda_client, name) == ["s3"]
    lambda_client.delete_function(FunctionName=name)
    code = {"ZipFile": package()}
    lambda_client.create_function(FunctionName=name, Role=role, Runtime=runtime, Handler="index.handler", Code=code)
    settle(lambda_client, name)
    assert refused(lambda_client.get_policy, FunctionName=name) == NOTHING


def test_revision_ids(lambda_client: Any, function: Create) -> None:
    name = function()

    def revision() -> Any:
        return lambda_client.get_function_configuration(FunctionName=name)["RevisionId"]

    before = revision()
    given = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    assert refused(lambda_client.add_permission, FunctionName=name, RevisionId="wrong", **given) == STALE
    permit(lambda_client, name, RevisionId=before)
    policy = lambda_client.get_policy(FunctionName=name)["RevisionId"]
    assert before != policy == revision()

    lambda_client.publish_version(FunctionName=name)
    assert lambda_client.get_policy(FunctionName=name)["RevisionId"] == policy != revision()
    permit(lambda_client, name, "second", RevisionId=policy)
    removal = {"FunctionName": name, "StatementId": "s3"}
    assert refused(lambda_client.remove_permission, RevisionId=policy, **removal) == STALE
    lambda_client.remove_permission(RevisionId=lambda_client.get_policy(FunctionName=name)["RevisionId"], **removal)

    alias = lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")["RevisionId"]
    refusal = refused(lambda_client.add_permission, FunctionName=name, Qualifier="live", RevisionId="wrong", **given)
    assert refusal == STALE
    permit(lambda_client, name, Qualifier="live", RevisionId=alias)
    assert lambda_client.get_policy(FunctionName=name, Qualifier="live")["RevisionId"] != alias


def test_refusals(lambda_client: Any, function: Create, account: str, region: str) -> None:
    name = function()
    arn = arn_of(lambda_client, name)
    missing = f"arn:aws:lambda:{region}:{account}:function:conform-none"
    permit(lambda_client, name)

    def add(function_name: str = name, **more: Any) -> tuple[str, int, str | None]:
        given = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"} | more
        return refused(lambda_client.add_permission, FunctionName=function_name, **given)

    def remove(function_name: str = name, **more: Any) -> tuple[str, int, str | None]:
        return refused(lambda_client.remove_permission, FunctionName=function_name, StatementId="s3", **more)

    absent, wrong = "ResourceNotFoundException", "InvalidParameterValueException"
    assert add("conform-none") == (absent, 404, f"Function not found: {missing}")
    assert add(Qualifier="none") == (absent, 404, f"Cannot find alias arn: {arn}:none")
    assert add(Qualifier="42") == (absent, 404, f"Function not found: {arn}:42")
    assert add(Qualifier="has-$-in-it") == (absent, 404, f"Function not found: {arn}:has-$-in-it")
    assert add(f"{name}:$LATEST") == (wrong, 400, "We currently do not support adding policies for $LATEST.")
    assert add(f"{name}:live", Qualifier="42") == (
        wrong,
        400,
        "The derived qualifier from the function name does not match the specified qualifier.",
    )
    assert add(Principal="invalid.nonaws.com") == (
        wrong,
        400,
        "The provided principal was invalid. Please check the principal and try again.",
    )
    assert add(FunctionUrlAuthType="NONE")[:2] == (wrong, 400)
    assert add(StatementId="with space")[:2] == ("ValidationException", 400)
    assert add() == (
        "ResourceConflictException",
        409,
        "The statement id (s3) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    )
    assert remove("conform-none") == (absent, 404, f"No policy found for: {missing}")
    assert remove(Qualifier="none") == (absent, 404, f"Cannot find alias arn: {arn}:none")
    assert refused(lambda_client.get_policy, FunctionName="conform-none") == NOTHING
    assert refused(lambda_client.get_policy, FunctionName=name, Qualifier="77") == NOTHING


def test_a_policy_has_a_limit(lambda_client: Any, function: Create) -> None:
    name = function()
    long = {"Principal": "s3.amazonaws.com", "Action": "lambda:InvokeFunction", "SourceArn": f"arn:aws:s3:::{'x' * 60}"}
    code, status, sentence = "", 0, None
    for index in range(100):
        permit(lambda_client, name, f"{index:098d}", **long)
        if len(lambda_client.get_policy(FunctionName=name)["Policy"]) > 20_000:
            code, status, sentence = refused(
                lambda_client.add_permission, FunctionName=name, StatementId="9" * 100, **long
            )
            break

    assert (code, status) == ("PolicyLengthExceededException", 400)
    assert sentence is not None
    assert sentence.endswith("is bigger than the limit (20480).")


@pytest.mark.skipif(not HERE, reason="needs a second account")
def test_another_account_may_do_what_the_policy_says(
    lambda_client: Any, function: Create, endpoint: str, account: str, region: str
) -> None:
    stranger = client_of("lambda", endpoint, access_key="210987654321")
    name = function()
    arn = arn_of(lambda_client, name)
    denied = (
        "AccessDeniedException",
        403,
        "User: arn:aws:iam::210987654321:root is not authorized to perform: lambda:{0} on resource: "
        f"{arn} because no resource-based policy allows the lambda:{{0}} action",
    )

    before = refused(stranger.get_function, FunctionName=arn)
    permit(lambda_client, name, "one", Action="lambda:GetFunction", Principal="210987654321")
    permit(lambda_client, name, "org", Action="lambda:*", Principal="*", PrincipalOrgID="o-a1b2c3d4e5")
    shown = stranger.get_function(FunctionName=arn)["Configuration"]
    not_that = refused(stranger.invoke, FunctionName=arn)
    permit(lambda_client, name, "all", Action="lambda:*", Principal="210987654321")
    stranger.create_alias(FunctionName=arn, Name="theirs", FunctionVersion="$LATEST")
    stranger.tag_resource(Resource=arn, Tags={"whose": "theirs"})
    stranger.put_function_event_invoke_config(FunctionName=arn, MaximumRetryAttempts=1)
    ran = stranger.invoke(FunctionName=arn)
    alias = lambda_client.get_alias(FunctionName=name, Name="theirs")
    stranger.delete_function(FunctionName=arn)

    assert before == (*denied[:2], denied[2].format("GetFunction"))
    assert not_that == (*denied[:2], denied[2].format("InvokeFunction"))
    assert (shown["FunctionArn"], alias["AliasArn"]) == (arn, f"{arn}:theirs")
    assert json.loads(ran["Payload"].read())["arn"] == arn
    assert refused(lambda_client.get_function, FunctionName=name)[:2] == ("ResourceNotFoundException", 404)
