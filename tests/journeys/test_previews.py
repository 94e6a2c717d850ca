"""What a branch's alias gets beside its version: a URL to try it by, and what the alias it is like has."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.journeys.conftest import Shop

API = "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3"


def previewed(shop: Shop, auth: str = "NONE", more: str = "") -> Shop:
    shop.configure(more=f'[branches]\npreview = true\npreview_auth = "{auth}"\n{more}')
    shop.write(
        "index.py",
        """\
        def handler(event, context):
            return {"statusCode": 200, "body": "hello from " + context.invoked_function_arn.split(":")[-1]}
        """,
    )
    return shop


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]


def policy(shop: Shop, qualifier: str) -> list[dict[str, Any]]:
    client = shop.aws("lambda")
    try:
        found = client.get_policy(FunctionName=shop.name, Qualifier=qualifier)["Policy"]
    except client.exceptions.ResourceNotFoundException:
        return []
    return json.loads(found)["Statement"]  # type: ignore[no-any-return]


def test_a_preview_answers_everybody_and_costs_later_deploys_nothing(shop: Shop) -> None:
    previewed(shop)

    first = shop.ok("deploy", "--branch", "topic", "--json").result[0]
    again = shop.ok("deploy", "--branch", "topic", "--json")

    assert ask(first["preview"]) == "hello from topic"
    assert again.result[0]["preview"] == first["preview"]
    assert again.calls == (2, 0)
    assert f"Preview: {first['preview']}" in shop.ok("deploy", "--branch", "topic").out
    assert {(each["Action"], each["Principal"]) for each in policy(shop, "topic")} == {
        ("lambda:InvokeFunctionUrl", "*"),
        ("lambda:InvokeFunction", "*"),
    }
    shop.greet("two")
    assert shop.ok("deploy", "--branch", "topic", "--json").calls[1] == 3


def test_without_a_ledger_the_url_is_looked_up(shop: Shop) -> None:
    previewed(shop)
    first = shop.ok("deploy", "--branch", "topic", "--json").result[0]
    for each in (shop.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    again = shop.ok("deploy", "--branch", "topic", "--json")

    assert again.result[0]["preview"] == first["preview"]
    assert again.calls[1] == 0
    assert [call["action"] for call in again.document["calls"]["list"]].count("GetFunctionUrlConfig") == 1


def test_a_preview_for_signed_requests_lets_nobody_else_in(shop: Shop) -> None:
    previewed(shop, auth="AWS_IAM")

    url = shop.ok("deploy", "--branch", "topic", "--json").result[0]["preview"]

    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(url)
    assert refused.value.code == 403
    assert policy(shop, "topic") == []


def test_the_file_decides_later_too_who_may_call_and_whether_there_is_one(shop: Shop) -> None:
    previewed(shop, auth="AWS_IAM")
    url = shop.ok("deploy", "--branch", "topic", "--json").result[0]["preview"]

    previewed(shop, auth="NONE")
    shown = shop.ok("plan", "--branch", "topic").out
    assert "permit everybody lambda:InvokeFunctionUrl on topic" in shown
    assert "change the function URL of topic: for everybody who knows it (it was AWS_IAM)" in shown
    assert shop.ok("deploy", "--branch", "topic", "--json").result[0]["preview"] == url
    assert ask(url) == "hello from topic"

    previewed(shop, auth="AWS_IAM")
    shop.ok("deploy", "--branch", "topic")
    assert policy(shop, "topic") == []
    with pytest.raises(urllib.error.HTTPError):
        ask(url)

    shop.configure()
    gone = shop.ok("deploy", "--branch", "topic", "--json").result[0]
    assert gone["preview"] == ""
    assert shop.aws("lambda").list_function_url_configs(FunctionName=shop.name)["FunctionUrlConfigs"] == []
    assert shop.ok("deploy", "--branch", "topic", "--json").calls == (2, 0)


def furnished(shop: Shop) -> Shop:
    """STAGE with all that an alias can have."""
    shop.ok("deploy", "--build-id", "1")
    client = shop.aws("lambda")
    here: dict[str, Any] = {"FunctionName": shop.name, "Qualifier": "STAGE"}
    gateway: dict[str, Any] = {"Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com"}
    client.add_permission(**here, StatementId="api", SourceArn=f"{API}/*/GET/greet", **gateway)
    client.add_permission(**here, StatementId="api-stage", SourceArn=f"{API}/prod/GET/greet", **gateway)
    client.add_permission(
        **here, StatementId="bucket", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::greetings", SourceAccount="123456789012",
    )  # fmt: skip
    client.add_permission(
        **here, StatementId="own-url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE"
    )
    queue = shop.aws("sqs").create_queue(QueueName=f"{shop.name}-dead")["QueueUrl"]
    arn = queue_arn(shop, queue)
    client.put_function_event_invoke_config(
        **here, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    source = shop.aws("sqs").create_queue(QueueName=f"{shop.name}-work", Attributes={"VisibilityTimeout": "60"})
    client.create_event_source_mapping(
        FunctionName=f"{shop.name}:STAGE", EventSourceArn=queue_arn(shop, source["QueueUrl"]), BatchSize=3
    )
    client.put_provisioned_concurrency_config(**here, ProvisionedConcurrentExecutions=1)
    return shop


def queue_arn(shop: Shop, url: str) -> str:
    found = shop.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return found["Attributes"]["QueueArn"]  # type: ignore[no-any-return]


def test_a_new_alias_gets_what_its_model_has_and_the_plan_says_so(shop: Shop) -> None:
    furnished(shop)

    shown = shop.ok("plan", "--branch", "topic", "--json").result[0]
    done = shop.ok("deploy", "--branch", "topic", "--build-id", "1", "--json")

    steps = [(step["step"], step.get("parameters", {}).get("StatementId")) for step in shown["steps"]]
    assert steps[-4:] == [
        ("CreateAlias", None), ("GrantPermission", "api"), ("GrantPermission", "bucket"), ("ConfigureEvents", None),
    ]  # fmt: skip
    assert shown["notes"] == done.result[0]["notes"]
    assert shown["notes"] == [
        "permission api-stage of STAGE is not carried over: it is for the stage prod of an API",
        "permission own-url of STAGE is not carried over: it is for its function URL",
    ]
    theirs = {each["Sid"]: each for each in policy(shop, "topic")}
    assert set(theirs) == {"api", "bucket"}
    assert theirs["api"]["Resource"].endswith(f"{shop.name}:topic")
    assert theirs["bucket"]["Condition"] == {
        "StringEquals": {"AWS:SourceAccount": "123456789012"}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::greetings"},
    }  # fmt: skip
    client = shop.aws("lambda")
    events = client.get_function_event_invoke_config(FunctionName=shop.name, Qualifier="topic")
    assert events["MaximumRetryAttempts"] == 1
    assert events["DestinationConfig"]["OnFailure"]["Destination"].endswith("-dead")
    assert client.list_event_source_mappings(FunctionName=f"{shop.name}:topic")["EventSourceMappings"] == []
    shop.greet("two")
    assert shop.ok("deploy", "--branch", "topic", "--json").calls[1] == 3


def test_event_sources_come_disabled_and_environments_are_kept_ready_where_the_file_says_so(shop: Shop) -> None:
    shop.configure(more='[branches]\ncopy = ["event-sources", "provisioned-concurrency"]\n')
    furnished(shop)
    shop.greet("two")

    shop.ok("deploy", "--branch", "topic")

    client = shop.aws("lambda")
    (mapping,) = client.list_event_source_mappings(FunctionName=f"{shop.name}:topic")["EventSourceMappings"]
    assert mapping["BatchSize"] == 3
    assert mapping["State"] in ("Creating", "Disabled", "Disabling")
    ready = client.get_provisioned_concurrency_config(FunctionName=shop.name, Qualifier="topic")
    assert ready["RequestedProvisionedConcurrentExecutions"] == 1
    assert policy(shop, "topic") == []


def test_an_environment_that_is_like_another_gets_what_that_ones_alias_has(shop: Shop) -> None:
    """PROD is made later than STAGE, and API Gateway would answer 500 for it."""
    path = shop.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('alias   = "PROD"', 'alias   = "PROD"\nlike = "staging"'))
    furnished(shop)

    shop.ok("promote", "1", "--to", "PROD", "--approve")

    assert {each["Sid"] for each in policy(shop, "PROD")} == {"api", "bucket"}
    shop.greet("two")
    shop.ok("deploy", "--build-id", "2")
    assert shop.ok("promote", "2", "--to", "PROD", "--approve", "--json").calls == (2, 1)
