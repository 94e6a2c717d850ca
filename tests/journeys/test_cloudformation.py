"""A stack owns the function: created and changed by change sets, the function found whatever it is called."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import Shop, control_runtime


def template(*, name: str | None = None, memory: int = 128, **more: Any) -> str:
    function: dict[str, Any] = {
        "Code": {"ZipFile": "def handler(event, context):\n    return {'word': 'stand-in'}\n"},
        "Handler": "index.handler",
        "Runtime": control_runtime(),
        "MemorySize": memory,
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        **more,
    }
    if name:
        function["FunctionName"] = name
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    resources = {
        "Greeter": {"Type": "AWS::Lambda::Function", "Properties": function},
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}},
    }
    outputs = {"FunctionArn": {"Value": {"Fn::GetAtt": ["Greeter", "Arn"]}}}
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources, "Outputs": outputs})


@pytest.fixture
def stacked(shop: Shop) -> Shop:
    shop.write("stack.json", template())
    own(shop, "Greeter")
    return shop


def own(shop: Shop, function: str, more: str = "") -> None:
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "stack.json",'
        f' function = "{function}"{more} }}'
    )


def named(shop: Shop) -> str:
    """The name AWS gave the function."""
    resources = shop.aws("cloudformation").list_stack_resources(StackName=shop.name)["StackResourceSummaries"]
    return next(each["PhysicalResourceId"] for each in resources if each["LogicalResourceId"] == "Greeter")


@pytest.mark.parametrize("function", ["Greeter", "FunctionArn"])
def test_a_function_that_aws_named_is_found_by_logical_id_or_output(shop: Shop, function: str) -> None:
    shop.write("stack.json", template())
    own(shop, function)

    shop.ok("deploy", "--build-id", "101")

    shop.name = named(shop)
    assert shop.invoke("STAGE")["word"] == "hello"


def test_a_function_that_the_template_names_is_found_by_it(shop: Shop) -> None:
    shop.write("stack.json", template(name=f"{shop.name}-fn"))
    own(shop, f"{shop.name}-fn")

    done = shop.ok("deploy", "--build-id", "101", "--json")

    assert done.result[0]["name"] == f"{shop.name}-fn"


def test_an_unchanged_deploy_asks_the_stack_nothing(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")

    again = stacked.ok("deploy", "--build-id", "102", "--json")

    assert again.calls == (2, 0)
    assert [call["service"] for call in again.document["calls"]["list"]] == ["lambda", "lambda"]


def test_changed_code_leaves_the_stack_alone(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    stacked.greet("two")

    answer = stacked.ok("deploy", "--build-id", "102", "--json")

    assert answer.calls[1] == 3


def test_a_changed_template_is_a_new_version_and_keeps_the_code(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    stacked.write("stack.json", template(memory=256))
    shown = stacked.ok("plan", "--build-id", "102").out
    assert f"update stack {stacked.name} by a change set (the template or its parameters changed)" in shown

    told = stacked.ok("deploy", "--build-id", "102", "-v").err

    assert "modify AWS::Lambda::Function Greeter" in told
    stacked.name = named(stacked)
    configuration = stacked.aws("lambda").get_function_configuration(FunctionName=stacked.name, Qualifier="STAGE")
    assert (configuration["Version"], configuration["MemorySize"]) == ("2", 256)
    assert stacked.invoke("STAGE")["word"] == "hello"


def test_a_template_that_fails_says_why_and_can_be_mended(stacked: Shop) -> None:
    stacked.write("stack.json", template(Timeout=99_999))

    failed = stacked.run("deploy", "--build-id", "101")

    assert failed.code == 1
    assert "Greeter (AWS::Lambda::Function)" in failed.err
    assert "99999" in failed.err

    stacked.write("stack.json", template())
    stacked.ok("deploy", "--build-id", "101")
    stacked.name = named(stacked)
    assert stacked.serves("STAGE") == "1"


def test_an_update_that_fails_moves_no_alias(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    stacked.write("stack.json", template(Timeout=99_999))
    stacked.greet("two")

    failed = stacked.run("deploy", "--build-id", "102")

    assert failed.code == 1
    assert "UPDATE_ROLLBACK_COMPLETE" in failed.err
    stacked.name = named(stacked)
    assert stacked.serves("STAGE") == "1"


def test_a_template_that_would_lose_every_version_is_refused(shop: Shop) -> None:
    """Another FunctionName replaces the function, and its versions and aliases go with it."""
    shop.write("stack.json", template(name=f"{shop.name}-a"))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    shop.write("stack.json", template(name=f"{shop.name}-b"))

    refused = shop.run("deploy", "--build-id", "102")

    assert refused.code == 3
    assert "replacing it" in refused.err
    shop.name = f"{shop.name}-a"
    assert shop.serves("STAGE") == "1"


def test_a_stack_that_has_no_such_function_names_those_it_has(shop: Shop) -> None:
    shop.write("stack.json", template())
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    own(shop, "Greter")

    wrong = shop.run("deploy", "--build-id", "102")

    assert wrong.code == 2
    assert "Functions: Greeter" in wrong.err
    assert "Outputs: FunctionArn" in wrong.err


def test_two_runs_of_one_deploy_make_one_stack(stacked: Shop) -> None:
    """Without a ledger the stack itself is asked, and found to be the same."""
    stacked.ok("deploy", "--build-id", "101")
    for each in (stacked.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    again = stacked.ok("deploy", "--build-id", "101", "--json")

    assert again.calls[1] == 0
    assert again.result[0]["outcome"] == "unchanged"
