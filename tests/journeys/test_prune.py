"""`pointsman prune` on the local AWS: what is in use there stays, what is not goes, whatever happens in between."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from pointsman.aws import permissions
from pointsman.errors import AccessDenied
from tests.fakes import FakeClock
from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_bad_luck import killed

RETENTION = """
[retention]
keep_versions = 1
keep_deployments = 2
keep_days = 0
"""
ACCOUNT = "123456789012"


def code(word: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", f"def handler(event, context):\n    return {{'word': '{word}'}}\n")
    return packed.getvalue()


def published(shop: Shop, count: int) -> None:
    """Versions 1 … count of a function that Pointsman's ledger does not know."""
    client = shop.aws("lambda")
    client.create_function(
        FunctionName=shop.name, Role=shop.role, Runtime=control_runtime(), Handler="index.handler",
        Code={"ZipFile": code("1")}, Publish=True,
    )  # fmt: skip
    client.get_waiter("function_active_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
    for number in range(2, count + 1):
        client.update_function_code(FunctionName=shop.name, ZipFile=code(str(number)))
        client.get_waiter("function_updated_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
        client.publish_version(FunctionName=shop.name)


@pytest.fixture
def old(shop: Shop) -> Shop:
    """Nine versions, PROD on the eighth."""
    shop.configure(provision=f'{{ with = "existing", name = "{shop.name}" }}', more=RETENTION)
    published(shop, 9)
    shop.aws("lambda").create_alias(FunctionName=shop.name, Name="PROD", FunctionVersion="8")
    return shop


def prune(shop: Shop, *words: str, **more: Any) -> Any:
    """Of this test's function alone: all tests of a worker share an account."""
    return shop.ok("prune", "--function", "greeting", *words, "--json", **more).result


def reasons(result: Any, name: str) -> dict[str, tuple[str, str]]:
    (plan,) = result["plans"]
    (found,) = (each for each in plan["functions"] if each["name"] == name)
    return {each["version"]: (each["action"], each["reason"]) for each in found["decisions"]}


def test_what_is_surplus_goes_and_the_rest_stays_with_a_reason(old: Shop) -> None:
    shown = old.ok("prune", "--function", "greeting")
    assert f"{old.name}  9         2     7" in shown.out
    assert "Nothing was deleted: `--yes` does it" in shown.out
    assert f"Note: {old.name}: the ledger knows no deployment of it: decided by versions and days only." in shown.out
    assert len(old.versions()) == 9

    done = prune(old, "--yes")["done"]

    assert old.versions() == ["8", "9"]
    assert (done[0]["deleted"], done[0]["versions"]) == ({old.name: "1-7"}, 7)
    assert prune(old, "--yes")["done"] == []


def test_every_version_is_listed_with_its_decision(old: Shop) -> None:
    lines = old.ok("prune", "--function", "greeting", "--list", "--keep-versions", "2").out.splitlines()

    told = [line.split(maxsplit=2) for line in lines if line.startswith(("7  ", "8  ", "9  ", "$"))]
    assert [line[:2] for line in told] == [["7", "delete"], ["8", "keep"], ["9", "keep"], ["$LATEST", "keep"]]
    assert told[1][2].endswith("alias PROD serves it")


def test_the_traps_of_a_fleet(old: Shop) -> None:
    """A weight, an event source on a version, provisioned concurrency, an API's stage variable, a rule: all at once."""
    client, arn = old.aws("lambda"), f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:{old.name}"
    client.update_alias(FunctionName=old.name, Name="PROD", RoutingConfig={"AdditionalVersionWeights": {"1": 0.05}})
    queue = f"{old.name}-orders"
    old.aws("sqs").create_queue(QueueName=queue)
    mapping = client.create_event_source_mapping(
        FunctionName=f"{arn}:2", EventSourceArn=f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{queue}", Enabled=False
    )
    client.put_provisioned_concurrency_config(FunctionName=old.name, Qualifier="3", ProvisionedConcurrentExecutions=1)
    gateway = old.aws("apigateway")
    api = gateway.create_rest_api(name=old.name)["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    method = {"restApiId": api, "resourceId": root, "httpMethod": "GET"}
    gateway.put_method(**method, authorizationType="NONE")
    uri = f"arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/{arn}:${{stageVariables.v}}/invocations"
    gateway.put_integration(**method, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    gateway.create_deployment(restApiId=api, stageName="prod", variables={"v": "4"})
    events = old.aws("events")
    events.put_rule(Name=old.name, ScheduleExpression="rate(1 day)", State="DISABLED")
    events.put_targets(Rule=old.name, Targets=[{"Id": "1", "Arn": f"{arn}:5"}])
    http = old.aws("apigatewayv2")
    web = http.create_api(Name=old.name, ProtocolType="HTTP")["ApiId"]
    http.create_authorizer(
        ApiId=web, AuthorizerType="REQUEST", Name="who", IdentitySource=["$request.header.Who"],
        AuthorizerPayloadFormatVersion="2.0", AuthorizerUri=uri.replace("${stageVariables.v}", "6"),
    )  # fmt: skip
    try:
        found = reasons(prune(old), old.name)
        prune(old, "--yes")
    finally:
        gateway.delete_rest_api(restApiId=api)
        http.delete_api(ApiId=web)
        client.delete_event_source_mapping(UUID=mapping["UUID"])

    assert {version: why for version, (action, why) in found.items() if action == "keep"} == {
        "1": "alias PROD names it beside another",
        "2": f"event source {queue} names it",
        "3": "it has provisioned concurrency",
        "4": f"REST API {old.name} ({api}), stage prod names it",
        "5": f"rule {old.name} on bus default names it",
        "6": f"HTTP API {old.name} ({web}) names it",
        "8": "alias PROD serves it",
        "9": "the newest version",
        "$LATEST": "$LATEST is the function itself, and never deleted",
    }
    assert old.versions() == ["1", "2", "3", "4", "5", "6", "8", "9"]


@contextmanager
def stuck_stack(shop: Shop, name: str) -> Iterator[None]:
    """UPDATE_ROLLBACK_FAILED: an alias cannot be made, and the role that the function had before is gone."""
    trust = {"Version": "2012-10-17", "Statement": []}
    iam, stacks = shop.aws("iam"), shop.aws("cloudformation")
    roles = [
        iam.create_role(RoleName=f"{name}-{which}", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        for which in ("before", "after")
    ]

    def template(role: str, **more: Any) -> str:
        properties = {
            "FunctionName": name, "Role": role, "Runtime": control_runtime(), "Handler": "index.handler",
            "Code": {"ZipFile": "def handler(event, context): pass"},
        }  # fmt: skip
        function = {"Type": "AWS::Lambda::Function", "Properties": properties}
        return json.dumps({"Resources": {"Function": function, **more}})

    broken = {"Name": "X", "FunctionName": {"Ref": "Function"}, "FunctionVersion": "99"}
    stacks.create_stack(StackName=name, TemplateBody=template(roles[0]))
    stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1})
    iam.delete_role(RoleName=f"{name}-before")
    alias = {"Type": "AWS::Lambda::Alias", "Properties": broken}
    stacks.update_stack(StackName=name, TemplateBody=template(roles[1], Alias=alias))
    until(lambda: stacks.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "UPDATE_ROLLBACK_FAILED")
    try:
        yield
    finally:
        stacks.delete_stack(StackName=name)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def test_versions_of_a_function_stay_whose_stack_is_stuck(shop: Shop) -> None:
    name = f"stuck-{uuid.uuid4().hex[:8]}"
    shop.name = name
    shop.configure(provision=f'{{ with = "existing", name = "{name}" }}', more=RETENTION)
    with stuck_stack(shop, name):
        client = shop.aws("lambda")
        for number in range(3):
            client.update_function_code(FunctionName=name, ZipFile=code(f"{number}"))
            client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
            client.publish_version(FunctionName=name)

        found = reasons(prune(shop, "--yes"), name)

        assert shop.versions() == ["1", "2", "3"]
        assert found["1"] == ("keep", f"stack {name}, which is UPDATE_ROLLBACK_FAILED, has its function")
    until(
        lambda: not [each for each in shop.aws("lambda").list_functions()["Functions"] if each["FunctionName"] == name]
    )


def test_what_pointsman_deployed_keeps_the_deployments_that_a_rollback_wants(shop: Shop) -> None:
    shop.configure(more=RETENTION)
    for number in range(1, 6):
        shop.greet(f"word {number}")
        shop.ok("deploy", "--build-id", f"b{number}")
        if number in (1, 3):
            shop.ok("promote", f"b{number}", "--to", "PROD", "--approve")

    result = prune(shop, "--yes", "--pin", "b2")  # so nothing is left to go, and no alias has to be asked for

    assert reasons(result, shop.name) == {
        "1": ("keep", "deployment of alias PROD that a rollback would want (1 before the one it serves)"),
        "2": ("keep", "pinned (b2)"),
        "3": ("keep", "deployment of alias PROD that a rollback would want (the last one the ledger knows)"),
        "4": ("keep", "deployment of alias STAGE that a rollback would want (1 before the one it serves)"),
        "5": ("keep", "deployment of alias STAGE that a rollback would want (the last one the ledger knows)"),
        "$LATEST": ("keep", "$LATEST is the function itself, and never deleted"),
    }
    shop.ok("rollback", "PROD")
    assert shop.serves("PROD") == "1"


def test_a_pin_that_matches_nothing_is_told_and_one_that_was_typed_stops_the_deleting(old: Shop) -> None:
    shown = old.ok("prune", "--function", "greeting", "--pin", "build:never-built", "--list")
    assert "warning: pin build:never-built matches no version of any function or layer: it keeps nothing." in shown.err

    refused = old.run("prune", "--function", "greeting", "--pin", "build:never-built", "--yes")
    assert refused.code == 2
    assert "--pin build:never-built matches no version of any function or layer" in refused.err
    assert len(old.versions()) == 9

    old.ok("prune", "--function", "greeting", "--pin", "version:5", "--yes")
    assert old.versions() == ["5", "8", "9"]


def test_what_the_names_leave_out_is_not_listed_and_a_glob_that_matches_nothing_is_told(old: Shop) -> None:
    answer = old.ok("prune", "--only", "nope*", "--list")

    assert answer.err == "warning: no function and no layer is called nope*.\n"
    assert old.name not in answer.out
    assert "left alone by the names" in answer.out


class Denied:
    """A policy that lacks one action."""

    def __init__(self, inner: Any, action: str) -> None:
        self.inner, self.action = inner, action

    def send(self, operation: Any) -> Any:
        if operation.action == self.action:
            need = permissions.CALLS[f"{operation.service}:{operation.action}"].actions[0]
            resource = f"{operation.subject or '*'} because no identity-based policy allows it"
            raise AccessDenied(f"not authorized to perform: {need} on resource: {resource}", where=str(operation))
        return self.inner.send(operation)


def test_where_a_permission_is_missing_everything_stays_and_the_report_says_so(old: Shop) -> None:
    answer = old.run("prune", "--function", "greeting", "--yes", wrap=lambda inner: Denied(inner, "ListStateMachines"))

    assert answer.code == 1  # something stays that might have gone
    assert len(old.versions()) == 9
    assert (
        "warning: Step Functions could not be looked up (ListStateMachines: not authorized to perform: "
        "states:ListStateMachines on resource: * because no identity-based policy allows it): it may name any version "
        "of any function, so all stay that were to go. The credentials need states:ListStateMachines; "
        "`--skip stepfunctions` decides without it." in answer.err
    )
    assert "7 perhaps in use: not all could be looked up" in answer.out
    assert "Nothing to delete" in answer.out

    layers = old.run("prune", "--function", "greeting", wrap=lambda inner: Denied(inner, "ListLayers"))
    assert layers.code == 1
    assert "the layers could not be looked up" in layers.err
    assert (
        "): the versions of all layers stay, and functions are decided all the same. The credentials need "
        "lambda:ListLayers; `[retention] layers = false` leaves them alone.\n" in layers.err
    )
    assert f"{old.name}  9         2     7" in layers.out

    old.ok(
        "prune", "--function", "greeting", "--yes", "--skip", "stepfunctions",
        wrap=lambda inner: Denied(inner, "ListStateMachines"),
    )  # fmt: skip
    assert old.versions() == ["8", "9"]


def test_where_nothing_may_be_deleted_that_is_the_exit_code_and_resume_goes_on(old: Shop) -> None:
    answer = old.run("prune", "--function", "greeting", "--yes", wrap=lambda inner: Denied(inner, "DeleteFunction"))

    assert answer.code == 1
    (line,) = (each for each in answer.out.splitlines() if "could not be deleted" in each)
    assert line == (
        f"  {old.name}:1-7 could not be deleted: not authorized to perform: lambda:DeleteFunction on resource: "
        f"{old.name} because no identity-based policy allows it."
    )
    assert len(old.versions()) == 9

    assert "Deleted 7 versions" in old.ok("resume").out
    assert old.versions() == ["8", "9"]
    assert old.ok("resume").out == "Nothing to resume: every run ended.\n"


def test_resume_says_what_of_it_goes_on_and_asks_again_where_that_is_long_ago(old: Shop) -> None:
    old.run("prune", "--function", "greeting", "--yes", wrap=lambda inner: Denied(inner, "DeleteFunction"))
    (line,) = (each for each in old.ok("status", "--all").out.splitlines() if "did not finish" in each)
    assert line.startswith(f"Unfinished: prune of {ACCOUNT} eu-west-1 (run ")

    later = old.ok("resume", clock=FakeClock(time.time() + 2 * 86_400))
    assert f"resuming prune of {ACCOUNT} eu-west-1 (run " in later.err
    assert ", begun 20" in later.err
    assert f"it was to delete {old.name} 1-7" in later.err
    assert f"{old.name}  9         2     7" in later.out
    assert "Nothing was deleted: `pointsman resume " in later.out
    assert len(old.versions()) == 9

    old.ok("resume", "--yes", clock=FakeClock(time.time() + 2 * 86_400))
    assert old.versions() == ["8", "9"]
    assert old.ok("resume").out == "Nothing to resume: every run ended.\n"


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_killed_in_the_middle_it_goes_on_with_resume(old: Shop, how: str) -> None:
    calls = old.ok("prune", "--function", "greeting", "--json").document["calls"]["reads"]

    dead = killed(old, "after", calls + 3, how, "prune", "--function", "greeting", "--yes")

    assert dead.returncode in (-signal.SIGKILL, 130, -signal.SIGINT)
    assert {"8", "9"} <= set(old.versions())
    assert how == "SIGINT" or old.versions() != ["8", "9"]  # what was under way at a Ctrl-C is still done
    old.ok("resume")
    assert old.versions() == ["8", "9"]
    assert old.ok("resume").out == "Nothing to resume: every run ended.\n"


def test_killed_in_the_middle_it_goes_on_with_the_same_command(old: Shop) -> None:
    calls = old.ok("prune", "--function", "greeting", "--json").document["calls"]["reads"]
    killed(old, "after", calls + 3, "SIGKILL", "prune", "--function", "greeting", "--yes")

    prune(old, "--yes")

    assert old.versions() == ["8", "9"]
    assert old.ok("resume").out == "Nothing to resume: every run ended.\n"


def test_of_two_at_once_one_is_told_and_nothing_breaks(old: Shop) -> None:
    """Two processes with one ledger; whichever comes second finds the other at work, or nothing left to do."""
    words = [sys.executable, "-m", "pointsman", "prune", "--function", "greeting", "--yes", "--json"]

    def run(_number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=old.folder, env={**os.environ, **old.variables}, capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, range(2)))

    assert old.versions() == ["8", "9"]
    assert sorted(each.returncode for each in done) in ([0, 0], [0, 4])
    for each in done:
        if each.returncode == 4:
            assert json.loads(each.stdout)["error"]["what"].startswith("another prune is at work there")


def test_a_version_deleted_under_our_feet_is_no_error(old: Shop) -> None:
    client = old.aws("lambda")

    class Rival:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == "DeleteFunction":
                client.delete_function(FunctionName=old.name, Qualifier=operation.parameters["Qualifier"])
            return self.inner.send(operation)

    assert prune(old, "--yes", wrap=Rival)["done"][0]["versions"] == 7
    assert old.versions() == ["8", "9"]


def test_an_alias_that_is_pointed_at_a_version_in_the_last_moment_keeps_it(old: Shop) -> None:
    client, moved = old.aws("lambda"), []

    class Rival:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == "DeleteFunction" and operation.parameters["Qualifier"] == "4":
                client.create_alias(FunctionName=old.name, Name="QA", FunctionVersion="4")
                moved.append("4")
            return self.inner.send(operation)

    (done,) = prune(old, "--yes", wrap=Rival)["done"]

    assert moved == ["4"]
    assert old.versions() == ["4", "8", "9"]
    (spared,) = done["spared"]
    assert "Unable to delete version because the following aliases reference it: [QA]" in spared["why"]


def test_a_saved_plan_is_applied_and_what_gained_protection_since_stays(old: Shop) -> None:
    shown = old.ok("prune", "--function", "greeting", "--out", "old.prune")
    assert "`pointsman apply old.prune` deletes what of this may still go" in shown.out
    assert len(old.versions()) == 9
    old.aws("lambda").create_alias(FunctionName=old.name, Name="QA", FunctionVersion="4")

    answer = old.ok("apply", "old.prune")

    assert old.versions() == ["4", "8", "9"]
    assert answer.out.count(f"{old.name}:4 stays after all: alias QA serves it.") == 1


def test_versions_are_backed_up_before_they_go_and_come_back(old: Shop) -> None:
    path = old.folder / "pointsman.toml"
    path.write_text(path.read_text() + '\n[backup]\nto = "kept"\n')

    answer = old.ok("prune", "--function", "greeting", "--yes")
    assert f"Backed up before: 7 versions, to {old.folder / '.pointsman' / 'local' / 'backup'}." in answer.out
    assert old.versions() == ["8", "9"]

    old.ok("backup", "verify")
    old.ok("restore", old.name, "4", "--yes")
    assert old.versions() == ["8", "9", "10"]
    assert old.invoke("10")["word"] == "4"


def test_where_the_backup_fails_nothing_goes(old: Shop) -> None:
    path = old.folder / "pointsman.toml"
    path.write_text(path.read_text() + '\n[backup]\nto = "kept"\n')
    in_its_place = old.folder / ".pointsman" / "local" / "backup"  # a rehearsal keeps its own
    in_its_place.parent.mkdir(parents=True)
    in_its_place.write_text("no folder")

    answer = old.run("prune", "--function", "greeting", "--yes")

    assert answer.code == 1
    assert f"{old.name}:1-7 could not be deleted: its backup failed" in answer.out
    assert len(old.versions()) == 9
    old.ok("prune", "--function", "greeting", "--yes", "--without-backup")
    assert old.versions() == ["8", "9"]


def test_a_function_that_is_not_there_is_said(old: Shop) -> None:
    answer = old.run("prune", "--function", "nobody")

    assert answer.code == 2
    assert "there is no function nobody" in answer.err
