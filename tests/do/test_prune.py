"""What prune asks AWS, what that protects, and what it deletes: against an AWS in memory, behind the one seam."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pointsman import config, prune, prune_plan, references
from pointsman.aws.operation import Transport
from pointsman.aws.transports import Faults
from pointsman.errors import (
    AccessDenied,
    AccountMismatch,
    Ambiguous,
    CredentialsRefused,
    InvalidRequest,
    LostRace,
    NotFound,
    PointsmanError,
    StalePlan,
    Throttled,
    UnknownTarget,
    Unreachable,
)
from pointsman.ledger import Run
from pointsman.model import AliasName, Bits, BuildId, CodeSha256, FunctionArn, FunctionName, Move, Version
from pointsman.world import World
from tests.fakes import FakeClock
from tests.many_functions import HERE, LAYER, ManyFunctions

CHECKOUT = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("checkout"))
URI = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/{}/invocations"
FILE = """\
[function.checkout]
handler = "index.handler"
runtime = "python3.12"
build = "python"
provision = { with = "existing", name = "checkout" }
[environment.staging]
alias = "STAGE"
region = "eu-west-1"
[environment.production]
alias = "PROD"
region = "eu-west-1"
[retention]
keep_versions = 1
keep_deployments = 1
keep_days = 0
"""


@pytest.fixture
def aws() -> ManyFunctions:
    """checkout with nine versions, PROD on the eighth; cart with four."""
    made = ManyFunctions()
    made.add("checkout", range(1, 10), PROD=8)
    made.add("cart", range(1, 5), PROD=3)
    return made


def world(
    folder: Path, aws: ManyFunctions, *, wrap: Callable[[Transport], Transport] | None = None, text: str = FILE
) -> World:
    folder.mkdir(exist_ok=True)
    (folder / "index.py").touch()
    project = config.parse(text, file=folder / "pointsman.toml")
    given = {"USER": "ada", "AWS_REGION": "eu-west-1"}
    wrapped: Callable[[Transport], Transport] = (lambda inner: wrap(aws.wrap(inner))) if wrap else aws.wrap
    return World(project=project, environ=given, clock=FakeClock(aws.now), wrap=wrapped, draw=lambda: 0.5)


def planned(here: World, **given: Any) -> prune_plan.Planned:
    environments = tuple(here.project.environments.values())
    (made,) = prune_plan.plan(here, environments, prune_plan.policy_of(here.project.retention, **given))
    return made


def goes(made: prune_plan.Planned) -> dict[str, list[str]]:
    return {name: sorted(versions) for name, versions in made.pruning.doomed.items()}


def reason(made: prune_plan.Planned, name: str, version: str) -> str:
    (found,) = (each for each in made.pruning.functions if each.name == name)
    return next(each.reason for each in found.decisions if each.version == version)


ALL = {"checkout": ["1", "2", "3", "4", "5", "6", "7"], "cart": ["1", "2"]}


# What it costs


def test_two_environments_in_one_place_are_looked_at_once_in_few_calls(tmp_path: Path, aws: ManyFunctions) -> None:
    assert goes(planned(world(tmp_path, aws))) == ALL
    per_function = {"lambda:ListAliases", "lambda:ListProvisionedConcurrencyConfigs"}
    assert {called: count for called, count in aws.calls.items() if count > 1} == dict.fromkeys(per_function, 2)
    assert not [called for called in aws.calls if called.startswith("cloudfront")]  # not of this region's business


def test_functions_that_lose_nothing_cost_no_more_than_their_listing(tmp_path: Path) -> None:
    aws = ManyFunctions()
    for number in range(100):
        aws.add(f"young-{number}", range(1, 20), days=3, PROD=19)

    assert goes(planned(world(tmp_path, aws), keep_days=30)) == {}
    assert aws.calls.total() - aws.calls["lambda:ListFunctions"] <= 2
    assert aws.calls["lambda:ListFunctions"] == 40


def test_of_many_functions_the_plan_costs_little_more_than_their_listing(tmp_path: Path) -> None:
    """Provisioned concurrency, which AWS lists by function only, is asked for right before their versions go."""
    aws = ManyFunctions()
    for number in range(60):
        aws.add(f"f-{number:02}", range(1, 41), PROD=38)
    aws.kept_ready = {"f-07": {"5", "PROD"}}
    here = world(tmp_path, aws)

    made = planned(here)

    assert sum(map(len, made.pruning.doomed.values())) == 60 * 38
    assert aws.calls.total() <= -(-60 * 41 // 50) + 60 + 20
    assert made.pruning.notes == (
        "provisioned concurrency of 60 functions is asked for right before their versions go, which stay where they "
        "have some (--thorough asks now)",
    )
    done = pruned(here, made)
    assert sorted(aws.versions["f-07"]) == ["38", "40", "5"]
    assert [(each.name, each.version, each.why) for each in done.spared] == [
        ("f-07", "5", "it has provisioned concurrency")
    ]
    assert reason(planned(here, thorough=True), "f-07", "5") == "it has provisioned concurrency"


# What protects


def answering(aws: ManyFunctions, called: str, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    aws.answers[called] = answer


def rest_api(aws: ManyFunctions, *, now: str, deployed: str = "", variables: Any = None, canary: Any = None) -> None:
    """An API whose method calls `now`; its stage serves what it was deployed with."""
    aws.listed["apigateway:GetRestApis"] = [{"id": "a1", "name": "shop"}]
    method = {"methodIntegration": {"uri": URI.format(now)}}
    aws.listed["apigateway:GetResources"] = [{"id": "r", "resourceMethods": {"GET": method}}]
    stage = {"stageName": "prod", "variables": variables or {}}
    aws.listed["apigateway:GetStages"] = [
        {**stage, "canarySettings": {"stageVariableOverrides": canary}} if canary else stage
    ]
    body = json.dumps({"paths": {"/": {"get": {"uri": URI.format(deployed or now)}}}}).encode()
    answering(aws, "apigateway:GetExport", lambda _asked: {"body": body})


def state_machine(aws: ManyFunctions, definition: object) -> None:
    aws.listed["stepfunctions:ListStateMachines"] = [{"stateMachineArn": "arn:aws:states:eu-west-1:1:stateMachine:m"}]
    answering(aws, "stepfunctions:DescribeStateMachine", lambda _asked: {"definition": json.dumps(definition)})


def http_api(aws: ManyFunctions, kind: str, stage: Mapping[str, Any], uri: str, exported: str = "") -> None:
    aws.listed["apigatewayv2:GetApis"] = [{"ApiId": "h1", "Name": "web", "ProtocolType": kind}]
    aws.listed["apigatewayv2:GetIntegrations"] = [{"IntegrationUri": uri}]
    aws.listed["apigatewayv2:GetStages"] = [{"StageName": "live", **stage}]
    answering(aws, "apigatewayv2:ExportApi", lambda _asked: {"body": exported.encode()})


def task(**parameters: Any) -> dict[str, Any]:
    return {"States": {"a": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": parameters}}}


FOUR = f"{HERE}:checkout:4"
EVERY = tuple(ALL["checkout"])


@pytest.mark.parametrize(
    ("arrange", "stays", "why"),
    [
        (lambda aws: aws.aliases["checkout"].update(OLD=("4", {})), "4", "alias OLD serves it"),
        (
            lambda aws: aws.aliases["checkout"].update(PROD=("8", {"4": 0.1})),
            "4", "alias PROD names it beside another",
        ),
        (
            lambda aws: aws.aliases["checkout"].update(PROD=("8", {"4": 0.0})),
            "4", "alias PROD names it beside another",
        ),
        (lambda aws: aws.kept_ready.update(checkout={"4", "PROD"}), "4", "it has provisioned concurrency"),
        (
            lambda aws: aws.listed.update(
                {"lambda:ListEventSourceMappings": [
                    {"UUID": "u", "FunctionArn": FOUR, "State": "Disabled",
                     "EventSourceArn": "arn:aws:sqs:eu-west-1:1:orders"}
                ]}
            ),
            "4", "event source orders names it",
        ),
        (lambda aws: rest_api(aws, now=FOUR), "4", "REST API shop (a1), stage prod names it"),
        (
            lambda aws: rest_api(aws, now=f"{HERE}:checkout:PROD", deployed=FOUR),
            "4", "REST API shop (a1), stage prod names it",
        ),
        (
            lambda aws: rest_api(aws, now=f"{HERE}:checkout:${{stageVariables.v}}", variables={"v": "4"}),
            "4", "REST API shop (a1), stage prod names it",
        ),
        (
            lambda aws: rest_api(
                aws, now=f"{HERE}:${{stageVariables.f}}", variables={"f": "checkout"}, canary={"f": "checkout:4"}
            ),
            "4", "REST API shop (a1), stage prod names it",
        ),
        (
            lambda aws: rest_api(aws, now=f"{HERE}:cart:PROD", variables={"unused": "checkout:4"}),
            "4", "REST API shop (a1), stage prod names it",
        ),
        (
            lambda aws: aws.listed.update(
                {"apigateway:GetRestApis": [{"id": "a1", "name": "shop"}],
                 "apigateway:GetAuthorizers": [{"id": "z", "authorizerUri": URI.format(FOUR)}]}
            ),
            "4", "REST API shop (a1) names it",
        ),
        (lambda aws: http_api(aws, "HTTP", {}, FOUR), "4", "HTTP API web (h1), stage live names it"),
        (
            lambda aws: http_api(aws, "HTTP", {"DeploymentId": "d"}, f"{HERE}:checkout:PROD", FOUR),
            "4", "HTTP API web (h1), stage live names it",
        ),
        (
            lambda aws: http_api(
                aws, "WEBSOCKET", {"StageVariables": {"v": "4"}, "DeploymentId": "d"},
                f"{HERE}:checkout:${{stageVariables.v}}",
            ),
            "4", "WebSocket API web (h1), stage live names it",
        ),
        (lambda aws: state_machine(aws, task(FunctionName=FOUR)), "4", "state machine m names it"),
        (
            lambda aws: state_machine(aws, task(FunctionName="checkout", Qualifier="4")),
            "4", "state machine m names it",
        ),
        (
            lambda aws: state_machine(aws, task(**{"FunctionName": "checkout", "Qualifier.$": "$.v"})),
            EVERY, "state machine m may name any version of it",
        ),
        (
            lambda aws: state_machine(aws, task(FunctionName=f"{HERE}:checkout", Qualifier="{% $states.input.v %}")),
            EVERY, "state machine m may name any version of it",
        ),
        (
            lambda aws: aws.listed.update(
                {"events:ListEventBuses": [{"Name": "default"}],
                 "events:ListRules": [{"Name": "nightly", "State": "DISABLED"}],
                 "events:ListTargetsByRule": [{"Id": "1", "Arn": FOUR}]}
            ),
            "4", "rule nightly on bus default names it",
        ),
        (
            lambda aws: aws.listed.update(
                {"scheduler:ListSchedules": [{"GroupName": "default", "Name": "s", "Target": {"Arn": FOUR}}]}
            ),
            "4", "schedule default/s names it",
        ),
        *(
            (
                lambda aws, partition=partition: (
                    aws.listed.update(
                        {"scheduler:ListSchedules": [
                            {"GroupName": "default", "Name": "s",
                             "Target": {"Arn": f"arn:{partition}:scheduler:::aws-sdk:lambda:invoke"}}
                        ]}
                    ),
                    answering(
                        aws, "scheduler:GetSchedule",
                        lambda _: {"Target": {"Input": '{"FunctionName": "checkout", "Qualifier": "4"}'}},
                    ),
                ),
                "4", "schedule default/s names it",
            )
            for partition in ("aws", "aws-cn")
        ),
        (
            lambda aws: aws.listed.update({"pipes:ListPipes": [{"Name": "p", "Enrichment": FOUR}]}),
            "4", "pipe p names it",
        ),
        (
            lambda aws: (
                aws.listed.update({"s3:ListBuckets": [{"Name": "uploads"}]}),
                answering(
                    aws, "s3:GetBucketNotificationConfiguration",
                    lambda _: {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": FOUR}]},
                ),
            ),
            "4", "the notifications of bucket uploads names it",
        ),
        (
            lambda aws: aws.listed.update(
                {"sns:ListSubscriptions": [
                    {"Protocol": "lambda", "Endpoint": FOUR, "TopicArn": "arn:aws:sns:eu-west-1:1:paid"}
                ]}
            ),
            "4", "a subscription of topic paid names it",
        ),
        (
            lambda aws: (
                aws.listed.update({"cognito-idp:ListUserPools": [{"Id": "u1", "Name": "people"}]}),
                answering(
                    aws, "cognito-idp:DescribeUserPool", lambda _: {"UserPool": {"LambdaConfig": {"PreSignUp": FOUR}}}
                ),
            ),
            "4", "user pool people (u1) names it",
        ),
        (
            lambda aws: aws.listed.update(
                {"cloudformation:ListStacks": [
                    {"StackId": "s1", "StackName": "shop", "StackStatus": "UPDATE_ROLLBACK_FAILED"}
                 ],
                 "cloudformation:ListStackResources": [
                    {"ResourceType": "AWS::Lambda::Version", "PhysicalResourceId": FOUR}
                 ]}
            ),
            EVERY, "stack shop, which is UPDATE_ROLLBACK_FAILED, has its function",
        ),
    ],
)  # fmt: skip
def test_whoever_names_a_version_by_its_number_keeps_it(
    tmp_path: Path,
    aws: ManyFunctions,
    arrange: Callable[[ManyFunctions], object],
    stays: str | tuple[str, ...],
    why: str,
) -> None:
    arrange(aws)

    made = planned(world(tmp_path, aws))

    kept = (stays,) if isinstance(stays, str) else stays
    left = [each for each in ALL["checkout"] if each not in kept]
    assert goes(made) == {**({"checkout": left} if left else {}), "cart": ALL["cart"]}
    assert {reason(made, "checkout", each) for each in kept} >= {why}
    assert made.pruning.unseen == ()


def test_a_function_by_its_plain_name_or_alias_protects_no_version(tmp_path: Path, aws: ManyFunctions) -> None:
    state_machine(aws, task(FunctionName=f"{HERE}:checkout:PROD"))
    aws.listed["sns:ListSubscriptions"] = [{"Protocol": "lambda", "Endpoint": f"{HERE}:checkout", "TopicArn": "t"}]

    assert goes(planned(world(tmp_path, aws))) == ALL


def test_the_functions_of_a_stack_within_a_stack_that_is_stuck_stay_whole(tmp_path: Path, aws: ManyFunctions) -> None:
    inner = [{"ResourceType": "AWS::Lambda::Function", "PhysicalResourceId": "checkout"}]
    outer = [{"ResourceType": "AWS::CloudFormation::Stack", "PhysicalResourceId": "s2"}]
    aws.listed["cloudformation:ListStacks"] = [
        {"StackId": "s1", "StackName": "shop", "StackStatus": "UPDATE_IN_PROGRESS"}
    ]
    answering(
        aws, "cloudformation:ListStackResources",
        lambda asked: {"StackResourceSummaries": inner if asked["StackName"] == "s2" else outer},
    )  # fmt: skip

    made = planned(world(tmp_path, aws))

    assert goes(made) == {"cart": ALL["cart"]}
    assert reason(made, "checkout", "3") == "stack shop, which is UPDATE_IN_PROGRESS, has its function"


def test_versions_that_cloudfront_runs_stay_where_it_takes_them_from(tmp_path: Path) -> None:
    aws = ManyFunctions()
    aws.add("edge", range(1, 5))
    arn = "arn:aws:lambda:us-east-1:123456789012:function:edge:2"
    behaviour = {"LambdaFunctionAssociations": {"Items": [{"LambdaFunctionARN": arn, "EventType": "viewer-request"}]}}
    aws.listed["cloudfront:ListDistributions"] = [{"Id": "E1", "CacheBehaviors": {"Items": [behaviour]}}]
    here = world(tmp_path, aws, text=FILE.replace("eu-west-1", "us-east-1"))
    configuration = aws._configuration

    def there(*given: Any) -> dict[str, Any]:
        return json.loads(json.dumps(configuration(*given)).replace("eu-west-1", "us-east-1"))  # type: ignore[no-any-return]

    aws._configuration = there  # type: ignore[method-assign]

    made = planned(here)

    assert goes(made) == {"edge": ["1", "3"]}
    assert reason(made, "edge", "2") == "CloudFront distribution E1 names it"


def test_what_a_functions_environment_names_stays(tmp_path: Path, aws: ManyFunctions) -> None:
    configuration = aws._configuration

    def told(name: str, number: str, days: float) -> dict[str, Any]:
        more = {"Environment": {"Variables": {"NEXT": "checkout:4"}}} if name == "cart" else {}
        return {**configuration(name, number, days), **more}

    aws._configuration = told  # type: ignore[method-assign]

    assert reason(planned(world(tmp_path, aws)), "checkout", "4") == "the environment of cart names it"


# What could not be looked up

FIRST = {source.key: source.label for source in references.SOURCES if not source.region}
LISTS = {
    "event-sources": "lambda:ListEventSourceMappings", "cloudformation": "cloudformation:ListStacks",
    "apigateway": "apigateway:GetRestApis", "apigatewayv2": "apigatewayv2:GetApis",
    "stepfunctions": "stepfunctions:ListStateMachines", "events": "events:ListEventBuses",
    "scheduler": "scheduler:ListSchedules", "pipes": "pipes:ListPipes", "s3": "s3:ListBuckets",
    "sns": "sns:ListSubscriptions", "cognito": "cognito-idp:ListUserPools",
}  # fmt: skip


@pytest.mark.parametrize("key", FIRST)
@pytest.mark.parametrize("error", [AccessDenied, Ambiguous, Unreachable, InvalidRequest, NotFound])
def test_where_one_service_cannot_be_looked_up_everything_stays_and_it_is_said(
    tmp_path: Path, aws: ManyFunctions, key: str, error: type[PointsmanError]
) -> None:
    aws.refused = lambda called, _: error("no", where="asking") if called == LISTS[key] else None  # type: ignore[return-value]

    made = planned(world(tmp_path, aws))

    assert goes(made) == {}
    assert [(each.source, each.why) for each in made.pruning.unseen] == [(FIRST[key], "asking: no")]
    assert reason(made, "checkout", "3") == f"it may be in use: {FIRST[key]} could not be looked up"
    assert goes(planned(world(tmp_path, aws), skip=(key,))) == ALL  # whoever knows better says so


def test_a_permission_that_is_missing_half_way_keeps_everything_too(tmp_path: Path, aws: ManyFunctions) -> None:
    aws.listed["stepfunctions:ListStateMachines"] = [
        {"stateMachineArn": f"arn:aws:states:eu-west-1:1:stateMachine:m{n}"} for n in range(3)
    ]
    answering(aws, "stepfunctions:DescribeStateMachine", lambda _asked: {"definition": "{}"})
    denied = AccessDenied("not authorized", where="DescribeStateMachine of m1")
    aws.refused = lambda called, asked: (
        denied if called.endswith("DescribeStateMachine") and asked["stateMachineArn"].endswith("m1") else None
    )

    made = planned(world(tmp_path, aws))

    assert goes(made) == {}
    (unseen,) = made.pruning.unseen
    assert (unseen.source, unseen.why) == ("Step Functions", "DescribeStateMachine of m1: not authorized")


def test_what_was_deleted_since_it_was_listed_names_nothing(tmp_path: Path, aws: ManyFunctions) -> None:
    pools = [{"Id": "u1", "Name": "people"}]
    answering(aws, "cognito-idp:ListUserPools", lambda _asked: {"UserPools": [pools.pop()] if pools else []})
    gone = NotFound("no such pool", where="DescribeUserPool")
    aws.refused = lambda called, _: gone if called == "cognito-idp:DescribeUserPool" else None

    assert goes(planned(world(tmp_path, aws))) == ALL


def test_what_is_still_listed_and_cannot_be_found_was_not_seen(tmp_path: Path, aws: ManyFunctions) -> None:
    aws.listed["cognito-idp:ListUserPools"] = [{"Id": "u1", "Name": "people"}]
    gone = NotFound("no such pool", where="DescribeUserPool")
    aws.refused = lambda called, _: gone if called == "cognito-idp:DescribeUserPool" else None

    assert goes(planned(world(tmp_path, aws))) == {}


@pytest.mark.parametrize("called", ["lambda:ListAliases", "lambda:ListProvisionedConcurrencyConfigs"])
def test_a_function_that_may_not_be_asked_keeps_its_versions_and_others_do_not(
    tmp_path: Path, aws: ManyFunctions, called: str
) -> None:
    denied = AccessDenied("not authorized", where="asking checkout")
    aws.refused = lambda each, asked: denied if each == called and asked["FunctionName"] == "checkout" else None

    made = planned(world(tmp_path, aws))

    assert goes(made) == {"cart": ALL["cart"]}
    assert [each.functions for each in made.pruning.unseen] == [("checkout",)]


def test_without_credentials_nothing_is_planned_at_all(tmp_path: Path, aws: ManyFunctions) -> None:
    aws.refused = lambda called, _: CredentialsRefused("expired") if called.startswith("sns") else None

    with pytest.raises(CredentialsRefused):
        planned(world(tmp_path, aws))


def test_another_account_than_the_declared_one_is_refused(tmp_path: Path, aws: ManyFunctions) -> None:
    declared = FILE.replace('alias = "STAGE"', 'alias = "STAGE"\naccount = "999999999999"')

    with pytest.raises(AccountMismatch, match="account 123456789012, but staging is in account 999999999999"):
        planned(world(tmp_path, aws, text=declared))


# What the ledger protects


def moved(here: World, alias: str, *versions: int) -> None:
    was: Version | None = None
    for number in versions:
        to = Version(str(number))
        here.ledger.moved("r", CHECKOUT, Move(alias=AliasName(alias), version=to, was=was, kind="deploy", at=0.0))
        was = to


def begun(here: World, *, command: str = "promote", at: float = 0.0) -> Run:
    run = Run(
        id="r1", command=command, function="checkout", alias="PROD", environment="production", request={},
        by="ada", at=at, host="elsewhere", pid=1,
    )  # fmt: skip
    here.ledger.start(run)
    return run


def test_the_deployments_that_a_rollback_would_want_stay(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    moved(here, "PROD", 2, 4, 6, 8)
    moved(here, "GONE", 1, 3)  # an alias that is no more

    made = planned(here, keep_deployments=3)

    assert goes(made)["checkout"] == ["1", "2", "3", "5", "7"]


def test_a_build_is_pinned_by_its_id(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    bits = Bits(sha256=CodeSha256("A" * 43 + "="), fingerprint="f")
    here.ledger.published("r", CHECKOUT, Version("3"), bits, BuildId("release-7"))

    assert reason(planned(here, pins=("release-7",)), "checkout", "3") == "pinned (release-7)"


def test_pins_and_names_that_nothing_is_called_by_are_told(tmp_path: Path, aws: ManyFunctions) -> None:
    aws.layers = {"common": dict.fromkeys(range(1, 7), 100.0)}
    pins = ("build:102", "version:5", "typo-7", "common:2", "cart:version:1")

    made = planned(world(tmp_path, aws), pins=pins, only=("ch*", "common", "nope*"))

    assert made.pruning.idle_pins == ("build:102", "typo-7")
    assert made.pruning.idle_globs == ("nope*",)
    assert reason(made, "checkout", "5") == "pinned (version:5)"


def test_where_layers_cannot_be_listed_a_pin_may_be_of_one(tmp_path: Path, aws: ManyFunctions) -> None:
    denied = AccessDenied("not authorized", where="ListLayers")
    aws.refused = lambda called, _: denied if called == "lambda:ListLayers" else None

    assert planned(world(tmp_path, aws), pins=("common:2",)).pruning.idle_pins == ()


def test_a_run_that_is_not_finished_keeps_every_version_it_may_want(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    begun(here)

    made = planned(here)

    assert goes(made) == {"cart": ALL["cart"]}
    assert reason(made, "checkout", "3") == "promote of checkout to PROD (run r1) is not finished"


def test_a_run_that_failed_keeps_what_it_had_planned_until_a_later_one_is_done(
    tmp_path: Path, aws: ManyFunctions
) -> None:
    here = world(tmp_path, aws)
    run = begun(here)
    plan = {"version": "3", "name": "checkout"}
    here.ledger.append(run.id, "planned", function="checkout", subject="PROD", plan=plan)
    here.ledger.end(run.id, "failed", "the network was down")
    assert goes(planned(here))["checkout"] == ["1", "2", "4", "5", "6", "7"]

    here.ledger.start(msgspec.structs.replace(run, id="r2"))
    here.ledger.end("r2", "done")
    assert goes(planned(here)) == ALL


def test_a_deploy_that_was_killed_long_ago_holds_what_it_had_decided_and_no_more(
    tmp_path: Path, aws: ManyFunctions
) -> None:
    """Jobs of CI are killed every day, and their branches may never be deployed again."""
    here = world(tmp_path, aws)
    run = begun(here, command="deploy")
    here.ledger.append(run.id, "planned", subject="x", plan={"version": None, "name": "checkout"})
    bits = Bits(sha256=CodeSha256("A" * 43 + "="), fingerprint="f")
    here.ledger.published(run.id, CHECKOUT, Version("3"), bits, BuildId("b3"))
    assert goes(planned(here))["checkout"] == ["1", "2", "4", "5", "6", "7"]

    recent = world(tmp_path / "recent", aws)
    begun(recent, command="deploy", at=aws.now - 60)  # on another machine: it may be at work
    assert goes(planned(recent)) == {"cart": ALL["cart"]}


def test_a_run_of_a_function_whose_name_is_not_known_keeps_everything(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    begun(here)
    here.project = msgspec.structs.replace(here.project, functions={})  # no longer in the file

    assert goes(planned(here)) == {}


# Deleting


def pruned(here: World, made: prune_plan.Planned | None = None, **more: Any) -> prune.Pruned:
    return prune.carry_out(here, made or planned(here), **more)


LEFT = {"checkout": ["8", "9"], "cart": ["3", "4"]}


def left(aws: ManyFunctions) -> dict[str, list[str]]:
    return {name: list(numbers) for name, numbers in aws.versions.items()}


def test_what_is_decided_is_deleted_announced_and_settled_in_the_ledger(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)

    done = pruned(here)

    assert left(aws) == LEFT
    assert (done.deleted, done.versions, done.freed) == ({"checkout": "1-7", "cart": "1-2"}, 9, 9_000_000)
    calls = [each for each in here.ledger.entries() if each.kind == "call"]
    assert {each.subject for each in calls} == {f"{name}:{n}" for name, numbers in ALL.items() for n in numbers}
    settled = [each.body["outcome"] for each in here.ledger.entries() if each.kind == "settled"]
    assert settled == ["done"] * 9
    assert here.ledger.unfinished() is None
    assert pruned(here).versions == 0


def test_an_alias_that_was_moved_meanwhile_keeps_its_version(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    made = planned(here)
    aws.aliases["checkout"]["PROD"] = ("4", {})

    done = pruned(here, made)

    assert left(aws) == {"checkout": ["4", "8", "9"], "cart": ["3", "4"]}
    assert [(each.version, each.why, each.failed) for each in done.spared] == [
        ("4", "alias PROD names it by now", False)
    ]


def test_what_aws_itself_refuses_stays_and_the_rest_goes(tmp_path: Path, aws: ManyFunctions) -> None:
    """CloudFront's replicas outlive their distribution: only AWS knows of them."""
    replicated = InvalidRequest("Lambda was unable to delete it because it is a replicated function.")
    aws.refused = lambda called, asked: (
        replicated if called == "lambda:DeleteFunction" and asked["Qualifier"] == "4" else None
    )

    done = pruned(world(tmp_path, aws))

    assert left(aws)["checkout"] == ["4", "8", "9"]
    assert [(each.version, each.failed) for each in done.spared] == [("4", False)]


def test_versions_and_functions_that_are_deleted_under_our_feet_are_no_error(
    tmp_path: Path, aws: ManyFunctions
) -> None:
    here = world(tmp_path, aws)
    made = planned(here)
    del aws.versions["checkout"]["3"], aws.versions["cart"]
    gone = NotFound("Function not found")
    aws.refused = lambda called, asked: (
        gone if called == "lambda:DeleteFunction" and asked["FunctionName"] == "cart" else None
    )

    done = pruned(here, made)

    assert (left(aws), done.failed) == ({"checkout": ["8", "9"]}, ())


def test_where_a_permission_ends_half_way_the_rest_is_done_and_resume_tries_again(
    tmp_path: Path, aws: ManyFunctions
) -> None:
    here = world(tmp_path, aws)
    denied = AccessDenied("not authorized to perform: lambda:DeleteFunction")
    aws.refused = lambda called, asked: (
        denied if called == "lambda:DeleteFunction" and asked["FunctionName"] == "checkout" else None
    )

    done = pruned(here)

    assert left(aws)["cart"] == LEFT["cart"]
    assert {(each.name, each.why) for each in done.failed} == {("checkout", denied.what)}
    assert len(done.failed) == 7
    assert aws.calls["lambda:DeleteFunction"] < 9 + 16  # it does not ask on and on
    run = here.ledger.unfinished()
    assert run is not None
    aws.refused = lambda _called, _asked: None
    again = prune.carry_out(here, prune.resume(here, run), resumes=run.id)
    assert (again.versions, left(aws), here.ledger.unfinished()) == (7, LEFT, None)


def test_resume_deletes_nothing_that_was_not_shown_then(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    lost = CredentialsRefused("expired")
    aws.refused = lambda called, _: lost if called == "lambda:DeleteFunction" else None
    with pytest.raises(CredentialsRefused):
        pruned(here)
    aws.refused = lambda _called, _asked: None
    aws.versions["checkout"] |= {"10": 100.0, "11": 100.0}  # 9 and 10 are surplus now, and nobody was asked
    run = here.ledger.unfinished()
    assert run is not None

    prune.carry_out(here, prune.resume(here, run), resumes=run.id)

    assert left(aws)["checkout"] == ["8", "9", "10", "11"]


def test_what_was_agreed_to_holds_for_a_day_however_often_it_is_resumed(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    aws.refused = lambda called, _: AccessDenied("no") if called == "lambda:DeleteFunction" else None
    then = here.clock.now() - 80_000
    pruned(here, agreed=then)
    run = here.ledger.unfinished()
    assert run is not None

    assert prune.agreed(run, here.clock.now()) == then
    assert prune.agreed(run, here.clock.now() + 7_000) is None


def test_two_at_once_are_told_and_one_that_died_is_replaced(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    lease = here.ledger.lease("prune 123456789012 eu-west-1", "elsewhere 1 2 r", 60)
    assert lease

    with pytest.raises(LostRace, match="another prune is at work there: elsewhere"):
        pruned(here)

    assert left(aws)["checkout"] == [str(n) for n in range(1, 10)]
    here.ledger.release(lease)
    assert pruned(here).versions == 9


def test_two_at_once_that_share_no_ledger_do_no_harm(tmp_path: Path, aws: ManyFunctions) -> None:
    worlds = [world(tmp_path / name, aws) for name in ("one", "other")]
    both = threading.Barrier(2)

    def run(here: World) -> prune.Pruned:
        made = planned(here)
        both.wait()
        return pruned(here, made)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, worlds))

    assert left(aws) == LEFT
    assert len(aws.deleted) == 9  # each once, whoever it was
    assert [each.failed for each in done] == [(), ()]


def test_throttles_are_waited_for_and_never_shown(tmp_path: Path, aws: ManyFunctions) -> None:
    seen: dict[str, int] = {}

    def refused(called: str, asked: Mapping[str, Any]) -> Throttled | None:
        key = f"{called} {asked}"
        seen[key] = seen.get(key, 0) + 1
        return Throttled("Rate exceeded") if seen[key] <= 3 else None

    aws.refused = refused

    assert pruned(world(tmp_path, aws)).failed == ()
    assert left(aws) == LEFT


def test_each_version_is_asked_for_permissions_of_its_own_where_that_is_wanted(
    tmp_path: Path, aws: ManyFunctions
) -> None:
    aws.permitted = {"checkout:4"}
    here = world(tmp_path, aws)

    done = pruned(here, planned(here, thorough=True))

    assert left(aws)["checkout"] == ["4", "8", "9"]
    assert [each.why for each in done.spared] == ["it has permissions of its own: somebody calls it by its number"]


def test_versions_are_backed_up_before_they_go_and_stay_where_that_fails(tmp_path: Path, aws: ManyFunctions) -> None:
    kept: list[str] = []

    def backup(_world: World, _door: object, versions: Any, _fleet: object) -> None:
        if any(each.arn.name == "cart" for each in versions):
            raise PointsmanError("the bucket is gone")
        assert aws.versions["checkout"].keys() >= {each.version for each in versions}  # they are there still
        kept.extend(f"{each.arn.name}:{each.version}" for each in versions)

    done = pruned(world(tmp_path, aws), before_delete=backup)

    assert sorted(kept) == [f"checkout:{n}" for n in range(1, 8)]
    assert left(aws) == {"checkout": ["8", "9"], "cart": ["1", "2", "3", "4"]}
    assert {each.why for each in done.failed} == {"its backup failed: the bucket is gone"}


def test_of_a_backup_that_fails_for_one_version_that_one_stays(tmp_path: Path, aws: ManyFunctions) -> None:
    def backup(_world: World, _door: object, versions: Any, _fleet: object) -> None:
        if any((each.arn.name, each.version) == ("checkout", "3") for each in versions):
            raise PointsmanError("version 3 is damaged")

    done = pruned(world(tmp_path, aws), before_delete=backup)

    assert left(aws)["checkout"] == ["3", "8", "9"]
    assert [(each.version, each.why) for each in done.failed] == [("3", "its backup failed: version 3 is damaged")]
    assert done.backed_up == 8


def test_where_nothing_can_be_backed_up_it_is_not_tried_for_each_version(tmp_path: Path, aws: ManyFunctions) -> None:
    tried: list[int] = []

    def backup(_world: World, _door: object, versions: Any, _fleet: object) -> None:
        tried.append(len(versions))
        raise PointsmanError("the bucket is gone")

    done = pruned(world(tmp_path, aws), before_delete=backup)

    assert tried == [9, 2, 1, 1, 7, 1, 1]
    assert (len(done.failed), done.backed_up) == (9, 0)


# Layers


def test_versions_of_layers_go_that_no_function_has_and_nobody_else_may_use(tmp_path: Path, aws: ManyFunctions) -> None:
    aws.layers = {"common": dict.fromkeys(range(1, 7), 100.0), "single": {1: 100.0}}
    aws.worn = {"cart:3": [f"{LAYER}:common:2"], "cart:$LATEST": [f"{LAYER}:common:4"]}
    aws.shared = {"common:5"}
    here = world(tmp_path, aws)

    made = planned(here)
    (common,) = made.pruning.layers
    assert {each.version: each.reason for each in common.decisions if each.action == "keep"} == {
        "2": "cart:3 has it",
        "4": "cart:$LATEST has it",
        "5": "its policy shares it, and who uses it there cannot be seen",
        "6": "the newest layer version",
    }
    assert pruned(here, made).layers == {"common": "1, 3"}
    assert sorted(aws.layers["common"]) == [2, 4, 5, 6]
    assert aws.calls["lambda:ListLayerVersions"] == 1  # not of one that has a single version


def test_layers_stay_where_their_policies_cannot_be_read(tmp_path: Path, aws: ManyFunctions) -> None:
    aws.layers = {"common": dict.fromkeys(range(1, 4), 100.0)}
    denied = AccessDenied("not authorized", where="GetLayerVersionPolicy")
    aws.refused = lambda called, _: denied if called == "lambda:GetLayerVersionPolicy" else None

    pruning = planned(world(tmp_path, aws)).pruning

    (common,) = pruning.layers
    assert not common.doomed
    assert [(each.source, each.holds) for each in pruning.unseen] == [
        ("layer common", "the versions of layer common stay, and functions are decided all the same")
    ]
    assert pruning.blind


# Plans in files


def test_a_saved_plan_spares_what_gained_protection_and_deletes_nothing_more(
    tmp_path: Path, aws: ManyFunctions
) -> None:
    here = world(tmp_path, aws)
    prune_plan.save(tmp_path / "p", [planned(here).pruning])
    aws.aliases["checkout"]["QA"] = ("4", {})
    aws.versions["checkout"]["10"] = 100.0
    saved = prune_plan.load(tmp_path / "p")
    assert saved is not None

    (made,) = prune_plan.again(here, saved)
    done = pruned(here, made)

    assert left(aws) == {"checkout": ["4", "8", "9", "10"], "cart": ["3", "4"]}
    assert [(each.version, each.why) for each in done.spared] == [("4", "alias QA serves it")]


def test_a_saved_plan_of_another_account_is_refused(tmp_path: Path, aws: ManyFunctions) -> None:
    here = world(tmp_path, aws)
    elsewhere = msgspec.structs.replace(planned(here).pruning, account="999999999999")

    with pytest.raises(StalePlan, match="the plan is of 999999999999 eu-west-1, and staging is 123456789012 eu-west-1"):
        list(prune_plan.again(here, prune_plan.SavedPruning(schema=1, prune=(elsewhere,))))


def test_what_is_no_plan_of_prune_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"schema": 1, "plan": {}}')

    assert prune_plan.load(tmp_path / "other") is None
    assert prune_plan.load(tmp_path / "missing") is None


def test_a_function_that_is_not_there_is_named_with_the_nearest(tmp_path: Path, aws: ManyFunctions) -> None:
    with pytest.raises(UnknownTarget, match="there is no function chekout"):
        prune_plan.must_exist([planned(world(tmp_path, aws))], ["chekout"])


# Whichever call fails


class Disturbed:
    """Call `k` of all that are sent goes wrong; many threads may send."""

    def __init__(self, k: int, fault: str) -> None:
        self.k, self.fault, self.count, self.lock = k, fault, 0, threading.Lock()

    def __call__(self, inner: Transport) -> Transport:
        outer = self

        class Counting:
            def send(self, operation: Any) -> Any:
                with outer.lock:
                    number, outer.count = outer.count, outer.count + 1
                return Faults(inner, **outer.how(number)).send(operation)

        return Counting()

    def how(self, number: int) -> dict[str, Any]:
        hit = number == self.k
        match self.fault:
            case "refused":
                return {"before": lambda _n, _a: Unreachable("connection refused") if hit else None}
            case "denied":
                return {"before": lambda _n, _a: AccessDenied("not authorized") if hit else None}
            case "lost":
                return {"after": lambda _n, _a: Ambiguous("connection closed") if hit else None}
            case _:
                return {"before": lambda _n, _a: Unreachable("network down") if number >= self.k else None}


@pytest.mark.parametrize("fault", ["refused", "denied", "lost", "dead"])
def test_whichever_call_fails_nothing_in_use_goes_and_the_same_command_ends_as_undisturbed(
    tmp_path: Path, fault: str
) -> None:
    def arranged() -> ManyFunctions:
        made = ManyFunctions()
        made.add("checkout", range(1, 6), PROD=4)
        made.add("cart", range(1, 4), PROD=2)
        rest_api(made, now=f"{HERE}:checkout:2")
        made.layers = {"common": dict.fromkeys(range(1, 4), 100.0)}
        made.worn = {"cart:2": [f"{LAYER}:common:2"]}
        return made

    counter, aws = Disturbed(10**6, "dead"), arranged()
    pruned(world(tmp_path / "undisturbed", aws, wrap=counter))
    expected = (left(aws), aws.layers)
    assert expected == ({"checkout": ["2", "4", "5"], "cart": ["2", "3"]}, {"common": {2: 100.0, 3: 100.0}})
    assert counter.count > 25
    for k in range(counter.count):
        aws = arranged()
        folder = tmp_path / f"{k}"
        with suppress(PointsmanError):
            pruned(world(folder, aws, wrap=Disturbed(k, fault)))
        assert {"2", "4", "5"} <= aws.versions["checkout"].keys(), f"call {k}"
        assert {"2", "3"} <= aws.versions["cart"].keys(), f"call {k}"

        here = world(folder, aws)
        run = here.ledger.unfinished()
        if run:
            prune.carry_out(here, prune.resume(here, run), resumes=run.id)
        pruned(here)

        assert (left(aws), aws.layers) == expected, f"call {k}"
        assert here.ledger.unfinished() is None, f"call {k}"
