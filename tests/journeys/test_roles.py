"""The article's warning, and what is done about it: versions share a role, and editing it for a branch edits PROD's."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pointsman import branch_roles, config, release
from pointsman.aws.operation import Transport
from pointsman.aws.transports import Faults
from pointsman.config import Environment
from pointsman.errors import AccessDenied, Ambiguous, GateRefused, InvalidRequest, PointsmanError, Unreachable
from pointsman.hands import Released
from pointsman.model import FunctionArn
from pointsman.roles import clone_name
from pointsman.world import Options, World
from tests.fakes import FakeClock
from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_any_call_fails import Disturbed, Fault, dead_after, end_state, lost, refused
from tests.journeys.test_release_set import disturbed

TABLES = "arn:aws:dynamodb:eu-west-1:123456789012:table/greetings"


def allow(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": TABLES}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Staff:
    """The role of one project's function, and looks at clones of it with other eyes than the command's."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.iam = shop.aws("iam")
        self.name = f"role-{uuid.uuid4().hex[:8]}"
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        made = self.iam.create_role(
            RoleName=self.name,
            Path="/app/",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            Tags=[{"Key": "team", "Value": "greeters"}],
        )
        self.arn = made["Role"]["Arn"]
        self.says("tables", "dynamodb:GetItem")
        self.iam.attach_role_policy(
            RoleName=self.name, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
        )
        shop.role = self.arn

    def says(self, policy: str, *actions: str) -> None:
        self.iam.put_role_policy(RoleName=self.name, PolicyName=policy, PolicyDocument=allow(*actions))

    def all(self) -> set[str]:
        """The roles there are for this function's branches."""
        found: set[str] = set()
        for page in self.iam.get_paginator("list_roles").paginate():
            found |= {each["RoleName"] for each in page["Roles"] if each["RoleName"].startswith(f"{self.shop.name}-")}
        return found

    def of(self, qualifier: str) -> str:
        got = self.shop.aws("lambda").get_function_configuration(FunctionName=self.shop.name, Qualifier=qualifier)
        return str(got["Role"])


@pytest.fixture
def staff(shop: Shop) -> Staff:
    made = Staff(shop)
    shop.configure()
    return made


def guarded(shop: Shop, **keys: str) -> None:
    lines = "\n".join(f'{key} = "{value}"' for key, value in keys.items())
    shop.configure(more=f"\n[branches]\n{lines}\n")


@contextmanager
def at_work(
    shop: Shop, branch: str, *, wrap: Callable[[Transport], Transport] | None = None, allow: bool = False
) -> Iterator[tuple[World, Environment]]:
    """What `deploy --branch` works with."""
    before = dict(os.environ)
    os.environ.update(shop.variables)
    world = World(
        project=config.load(shop.folder / "pointsman.toml"),
        environ=dict(os.environ),
        options=Options(allow_replace=allow),
        local=True,
    )
    if wrap:
        world.wrap = wrap
    try:
        yield world, world.of_branch(branch)
    finally:
        world.close()
        os.environ.clear()
        os.environ.update(before)


def deploy(shop: Shop, branch: str, build: str, **more: Any) -> Released:
    with at_work(shop, branch, **more) as (world, environment):
        return release.deploy(world, world.functions()[0], environment, given=build)


def remove(shop: Shop, branch: str, **more: Any) -> bool:
    arn = FunctionArn.parse(f"arn:aws:lambda:eu-west-1:123456789012:function:{shop.name}")
    with (
        at_work(shop, branch, **more) as (world, environment),
        world.running("branch delete", world.functions()[0], environment, {}) as session,
    ):
        return branch_roles.remove_branch_role(session, arn, branch)


def resume(shop: Shop, branch: str) -> Released | None:
    with at_work(shop, branch) as (world, _environment):
        run = world.ledger.unfinished()
        return release.resume(world, run) if run else None


def in_production(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "PROD", "--approve")


# The warning


def test_a_branch_edits_the_role_for_itself_and_the_next_deploy_tells_that_prod_changed(
    shop: Shop, staff: Staff
) -> None:
    in_production(shop)
    shop.greet("with a table")
    first = deploy(shop, "feature-tables", "f1")
    assert any("share role" in each and "editing it for a branch changes" in each for each in first.warnings)

    staff.says("tables", "dynamodb:GetItem", "dynamodb:DeleteTable")
    shop.greet("with another table")
    second = deploy(shop, "feature-tables", "f2")

    (told,) = [each for each in second.warnings if "changed since PROD's" in each]
    assert f"role {staff.name} changed since PROD's version 1 was published" in told
    assert "inline policy tables changed; PROD runs with it already" in told

    shop.greet("something else")
    there = shop.ok("deploy", "--build-id", "102", "--json").result[0]
    assert any("changed since PROD's" in each for each in there["warnings"])
    shop.greet("and again")
    again = shop.ok("deploy", "--build-id", "103").err
    assert "warning: role" in again
    assert "share role" not in again, "that is a branch's doing, and was told when it was deployed"


def test_what_the_guard_will_refuse_stands_in_the_plan(shop: Shop, staff: Staff) -> None:
    guarded(shop, role_guard="refuse")
    in_production(shop)
    shop.greet("for a branch")
    told = "share role"

    shown = shop.ok("plan", "deploy", "--branch", "feature-x", "--build-id", "f1")
    assert "Note: needs --allow: STAGE's version 1 and PROD's version 1 and" in shown.out
    assert told in shown.out
    (planned,) = shop.ok("plan", "deploy", "--branch", "feature-x", "--build-id", "f1", "--json").result
    assert any(note.startswith("needs --allow: ") and told in note for note in planned["notes"])
    refused = shop.run("deploy", "--branch", "feature-x", "--build-id", "f1")
    assert refused.code == 3
    assert told in refused.err

    staff.says("queue", "sqs:SendMessage")
    shown = shop.ok("plan", "deploy", "--build-id", "102", "--out", "saved.plan").out
    assert f"needs --allow: role {staff.name} changed since" in shown
    assert shop.run("apply", "saved.plan").code == 3
    shop.ok("apply", "saved.plan", "--allow")


def test_of_an_alias_that_is_gone_nothing_is_said(shop: Shop, staff: Staff) -> None:
    """Say with the function that another took the place of: the ledger still names its version."""
    in_production(shop)
    staff.says("queue", "sqs:SendMessage")
    shop.aws("lambda").delete_alias(FunctionName=shop.name, Name="PROD")
    shop.greet("without PROD")

    assert "PROD" not in " ".join(shop.ok("deploy", "--build-id", "102", "--json").result[0]["warnings"])
    shop.greet("of a branch")
    assert "PROD" not in " ".join(deploy(shop, "feature-x", "f1").warnings)


def test_a_deploy_that_publishes_nothing_asks_nothing_of_iam(shop: Shop, staff: Staff) -> None:
    in_production(shop)

    assert shop.ok("deploy", "--build-id", "102", "--json").calls == (2, 0)

    shop.greet("good evening")
    changed = shop.ok("deploy", "--build-id", "103", "--json")
    asked = [call["action"] for call in changed.document["calls"]["list"] if call["service"] == "iam"]
    assert asked == ["GetRole", "ListRolePolicies", "GetRolePolicy", "ListAttachedRolePolicies", "GetPolicy"]
    assert changed.calls[1] == 3
    reads, writes = shop.ok("promote", "103", "--to", "PROD", "--approve", "--json").calls
    assert reads <= 2
    assert writes == 1


def test_the_guard_may_refuse_before_anything_is_written_and_be_told_that_it_was_meant(
    shop: Shop, staff: Staff
) -> None:
    guarded(shop, role_guard="refuse")
    in_production(shop)
    staff.says("queue", "sqs:SendMessage")
    shop.greet("with a queue")

    refused = shop.run("deploy", "--build-id", "102", "--json")

    assert refused.code == 3
    assert "inline policy queue added" in refused.document["error"]["what"]
    assert refused.calls[1] == 0
    assert shop.versions() == ["1"]

    shop.ok("deploy", "--build-id", "102", "--allow")
    shop.greet("accepted is accepted")
    assert shop.ok("deploy", "--build-id", "103", "--json").result[0]["warnings"] == []

    with pytest.raises(GateRefused, match="share role"):
        deploy(shop, "feature-x", "f1")


def test_the_guard_may_be_off(shop: Shop, staff: Staff) -> None:
    guarded(shop, role_guard="off")
    in_production(shop)
    staff.says("queue", "sqs:SendMessage")
    shop.greet("unwatched")

    answer = shop.ok("deploy", "--build-id", "102", "--json")

    assert answer.result[0]["warnings"] == []
    assert not [call for call in answer.document["calls"]["list"] if call["service"] == "iam"]


def no_iam(inner: Transport) -> Transport:
    def before(_number: int, action: str) -> PointsmanError | None:
        denied = action in ("GetRole", "ListAttachedRolePolicies", "GetPolicy")
        return AccessDenied("not authorized", where=action) if denied else None

    return Faults(inner, before=before)


def test_without_permission_to_look_at_roles_a_deploy_says_which_and_goes_on(shop: Shop, staff: Staff) -> None:
    answer = shop.ok("deploy", "--build-id", "101", "--json", wrap=no_iam)

    (told,) = answer.result[0]["warnings"]
    assert f"role {staff.name} could not be looked at: the credentials lack iam:GetRole, iam:ListAttachedRole" in told
    assert "iam:ListRolePolicies" not in told

    guarded(shop, role_guard="refuse")
    shop.greet("unseen")
    refused = shop.run("deploy", "--build-id", "102", wrap=no_iam)
    assert refused.code == 3
    assert "could not be looked at" in refused.err
    assert shop.versions() == ["1"]


# A role for each branch


def test_a_branch_gets_a_clone_of_the_role_and_the_environments_keep_theirs(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    in_production(shop)
    shop.greet("on a branch")

    done = deploy(shop, "feature-x", "f1")

    assert done.warnings == ()
    (clone,) = staff.all()
    assert staff.of("feature-x").endswith(f":role/app/{clone}")
    assert staff.of("$LATEST") == staff.of("PROD") == staff.arn
    assert shop.invoke("feature-x")["word"] == "on a branch"
    got = staff.iam.get_role(RoleName=clone)["Role"]
    tags = {each["Key"]: each["Value"] for each in got["Tags"]}
    assert (tags["team"], tags["pointsman:branch"]) == ("greeters", "feature-x")
    assert (
        got["AssumeRolePolicyDocument"] == staff.iam.get_role(RoleName=staff.name)["Role"]["AssumeRolePolicyDocument"]
    )
    inline = staff.iam.get_role_policy(RoleName=clone, PolicyName="tables")["PolicyDocument"]
    assert inline == json.loads(allow("dynamodb:GetItem"))
    attached = staff.iam.list_attached_role_policies(RoleName=clone)["AttachedPolicies"]
    assert [each["PolicyName"] for each in attached] == ["AWSLambdaBasicExecutionRole"]

    again = deploy(shop, "feature-x", "f2")
    assert again.outcome == "unchanged"

    shop.ok("deploy", "--build-id", "102")
    assert staff.of("STAGE") == staff.arn
    assert shop.invoke("STAGE")["word"] == "on a branch"


def test_the_clone_follows_its_origin_and_is_removed_with_the_branch(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    shop.ok("deploy", "--build-id", "101")
    shop.greet("one")
    deploy(shop, "feature-x", "f1")
    (clone,) = staff.all()
    staff.iam.put_role_policy(RoleName=clone, PolicyName="own", PolicyDocument=allow("dynamodb:PutItem"))
    shop.greet("two")
    deploy(shop, "feature-x", "f2")
    assert set(staff.iam.list_role_policies(RoleName=clone)["PolicyNames"]) == {"tables", "own"}

    staff.says("queue", "sqs:SendMessage")
    staff.iam.delete_role_policy(RoleName=staff.name, PolicyName="tables")
    staff.iam.detach_role_policy(
        RoleName=staff.name, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    )
    shop.greet("three")
    deploy(shop, "feature-x", "f3")
    assert staff.iam.list_role_policies(RoleName=clone)["PolicyNames"] == ["queue"]
    assert staff.iam.list_attached_role_policies(RoleName=clone)["AttachedPolicies"] == []

    assert not remove(shop, "feature-y")
    assert remove(shop, "feature-x")
    assert not remove(shop, "feature-x")
    assert staff.all() == set()


def test_the_clone_is_shown_in_the_plan_and_goes_when_the_branch_is_deleted(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    shop.ok("deploy", "--build-id", "101")
    shop.greet("on a branch")

    steps = shop.ok("plan", "deploy", "--branch", "feature/x", "--build-id", "f1").out
    assert f"a clone of {staff.name} for branch feature/x" in steps
    assert f"give $LATEST its role {staff.name} back" in steps
    assert staff.all() == set()

    shop.ok("deploy", "--branch", "feature/x", "--build-id", "f1")
    (clone,) = staff.all()
    assert f"delete role {clone}, made for this branch" in shop.ok("branch", "delete", "feature/x").out
    shop.ok("branch", "delete", "feature/x", "--yes")

    assert staff.all() == set()
    assert shop.versions() == ["1"]


def test_a_version_with_a_branchs_role_is_never_promoted(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch", role_guard="off")
    in_production(shop)
    shop.greet("on a branch")
    deploy(shop, "feature-x", "f1")

    refused = shop.run("promote", "f1", "--to", "PROD", "--approve")

    assert refused.code == 3
    assert "was published for a branch, with that branch's role" in refused.err
    assert "pointsman deploy --to production" in refused.err
    assert shop.serves("PROD") == "1"


def test_nor_rolled_back_to_where_the_ledger_does_not_know_it(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    in_production(shop)
    shop.greet("on a branch")
    done = deploy(shop, "feature-x", "f1")
    forget(shop)

    refused = shop.run("rollback", "PROD", "--to", f"version:{done.version}", "--approve")

    assert refused.code == 3
    assert "was published for a branch, with that branch's role" in refused.err
    assert shop.serves("PROD") == "1"


def forget(shop: Shop) -> None:
    """Another machine: its ledger knows nothing."""
    for each in (shop.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()


def test_a_role_of_that_name_that_is_not_ours_is_left_alone(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    shop.ok("deploy", "--build-id", "101")
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{shop.name}"
    name = clone_name(FunctionArn.parse(arn), "feature-x")
    staff.iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    shop.greet("two")

    with pytest.raises(PointsmanError, match="was not made for branch feature-x"):
        deploy(shop, "feature-x", "f1")
    assert staff.of("$LATEST") == staff.arn
    assert shop.versions() == ["1"]


def existing(shop: Shop, staff: Staff) -> None:
    """Somebody else made the function: its role is not in the file."""
    shop.ok("deploy", "--build-id", "101")
    shop.configure(
        provision=f'{{ with = "existing", name = "{shop.name}" }}', more='\n[branches]\nrole = "per-branch"\n'
    )
    shop.greet("on a branch")


def killed_at(action: str, *, nth: int = 1) -> Callable[[Transport], Transport]:
    """From the nth such call on the process might as well be dead: it takes effect, and nothing more gets through."""
    seen = {"count": 0, "dead": False}

    def wrap(inner: Transport) -> Transport:
        def before(_number: int, name: str) -> PointsmanError | None:
            if seen["dead"]:
                return Unreachable("killed")
            seen["count"] += name == action
            return None

        def after(_number: int, name: str) -> PointsmanError | None:
            if name == action and seen["count"] == nth:
                seen["dead"] = True
                return Ambiguous("killed")
            return None

        return Faults(inner, before=before, after=after)

    return wrap


@pytest.mark.parametrize("action", ["UpdateFunctionConfiguration", "PublishVersion"])
@pytest.mark.parametrize("forgotten", [False, True], ids=["ledger", "no ledger"])
def test_killed_while_latest_has_the_branchs_role_anybody_gives_it_back(
    shop: Shop, staff: Staff, action: str, forgotten: bool
) -> None:
    """Whoever comes next: the same run, resumed; or PROD's deploy, which must not publish with it."""
    existing(shop, staff)
    with pytest.raises(PointsmanError) as caught:
        deploy(shop, "feature-x", "f1", wrap=killed_at(action))
    assert "may still have role" in "\n".join(caught.value.__notes__)
    assert staff.of("$LATEST") != staff.arn

    if forgotten:
        forget(shop)
        shop.ok("deploy", "--build-id", "102")
        assert staff.of("STAGE") == staff.arn
        assert shop.invoke("STAGE")["word"] == "on a branch"
    else:
        resume(shop, "feature-x")
        assert shop.invoke("feature-x")["word"] == "on a branch"
        assert staff.of("feature-x") != staff.arn
    assert staff.of("$LATEST") == staff.arn


def test_a_role_that_latest_still_has_outlives_its_branch(shop: Shop, staff: Staff) -> None:
    """Without it nobody could tell any more which role is the function's own."""
    existing(shop, staff)
    deploy(shop, "feature-x", "f1")
    shop.greet("two")
    with pytest.raises(PointsmanError):
        deploy(shop, "feature-x", "f2", wrap=killed_at("PublishVersion"))
    (clone,) = staff.all()

    shown = shop.ok("branch", "delete", "feature-x", "--yes").out
    assert f"role {clone} stays: $LATEST of {shop.name} has it" in shown
    assert staff.all() == {clone}

    shop.ok("deploy", "--build-id", "102")
    assert staff.of("$LATEST") == staff.of("STAGE") == staff.arn
    assert f"delete role {clone}" in shop.ok("branch", "delete", "feature-x", "--yes").out
    assert staff.all() == set()


def test_a_branch_that_never_got_an_alias_leaves_no_role(shop: Shop, staff: Staff) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.configure(
        test=f"""[function.greeting.test]
integration = {{ run = "{sys.executable} -c 'raise SystemExit(1)'", against = "latest" }}""",
        more='\n[branches]\nrole = "per-branch"\n',
    )
    shop.greet("bad")
    with pytest.raises(GateRefused):
        deploy(shop, "feature-x", "f1")
    (clone,) = staff.all()

    assert f"delete role {clone}, made for this branch" in shop.ok("branch", "delete", "feature-x").out
    shop.ok("branch", "delete", "feature-x", "--yes")

    assert staff.all() == set()
    assert shop.run("branch", "delete", "feature-x").code == 1


def test_a_release_that_is_interrupted_gives_every_role_back(shop: Shop, staff: Staff) -> None:
    def write(word: str) -> None:
        for name in ("one", "two"):
            shop.write(f"{name}/index.py", f'def handler(event, context):\n    return "{word}"\n')

    lines = [
        f"""[function.{name}]
source    = "{name}"
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
provision = {{ with = "direct", name = "{shop.name}-{name}", role = "{staff.arn}", memory = 128 }}
"""
        for name in ("one", "two")
    ]
    rest = '[environment.staging]\nalias = "STAGE"\n[branches]\nrole = "per-branch"\n'
    shop.write("pointsman.toml", "\n".join(lines) + rest)
    write("hello")
    shop.ok("deploy", "--build-id", "1")
    write("good evening")

    words = ("deploy", "--branch", "x", "--build-id", "2")
    done = disturbed(shop, "after", "UpdateFunctionConfiguration:1", "SIGINT", *words)

    assert done.returncode == 130
    client = shop.aws("lambda")
    for name in ("one", "two"):
        assert client.get_function_configuration(FunctionName=f"{shop.name}-{name}")["Role"] == staff.arn
    shop.ok("resume")
    for name in ("one", "two"):
        assert client.get_alias(FunctionName=f"{shop.name}-{name}", Name="x")["FunctionVersion"] == "2"


def test_tests_that_fail_leave_latest_with_its_own_role(shop: Shop, staff: Staff) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.configure(
        test=f"""[function.greeting.test]
integration = {{ run = "{sys.executable} -c 'raise SystemExit(1)'", against = "latest" }}""",
        more='\n[branches]\nrole = "per-branch"\n',
    )
    shop.greet("bad")

    with pytest.raises(GateRefused):
        deploy(shop, "feature-x", "f1")

    assert staff.of("$LATEST") == staff.arn
    assert shop.versions() == ["1"]


# Roles that were made a moment ago


def slow_iam(times: int, action: str) -> Callable[[Transport], Transport]:
    left = [times]

    def before(_number: int, name: str) -> PointsmanError | None:
        if name == action and left[0]:
            left[0] -= 1
            return InvalidRequest("The role defined for the function cannot be assumed by Lambda.")
        return None

    return lambda inner: Faults(inner, before=before)


def test_a_role_that_lambda_does_not_know_yet_is_waited_for(shop: Shop, staff: Staff) -> None:
    clock = FakeClock(1_800_000_000.0)

    shop.ok("deploy", "--build-id", "101", wrap=slow_iam(4, "CreateFunction"), clock=clock)

    assert shop.serves("STAGE") == "1"
    assert sum(clock.slept) > 3


def test_but_not_where_waiting_is_no_use(shop: Shop, staff: Staff) -> None:
    staff.iam.update_assume_role_policy(
        RoleName=staff.name,
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            }
        ),
    )
    clock = FakeClock(1_800_000_000.0)

    answer = shop.run("deploy", "--build-id", "101", wrap=slow_iam(99, "CreateFunction"), clock=clock)

    assert answer.code == 1
    assert "does not let Lambda act as it" in answer.err
    assert sum(clock.slept) < 1


# Bad luck


def branch_journey(shop: Shop, wrap: Disturbed | None) -> None:
    """A build of a branch, with a role of its own; then the branch goes."""
    try:
        deploy(shop, "feature-x", "f1", wrap=wrap)
    except PointsmanError:
        resume(shop, "feature-x")
    try:
        remove(shop, "feature-x", wrap=wrap)
    except PointsmanError:
        remove(shop, "feature-x")


def end_of_branch(shop: Shop, staff: Staff) -> dict[str, Any]:
    arns = {staff.arn: "its own", staff.of("feature-x"): "the branch's"}
    return {
        **end_state(shop),
        "roles": [arns.get(staff.of(each)) for each in ("$LATEST", "STAGE", "feature-x")],
        "left": staff.all(),
    }


@pytest.mark.parametrize("third", [0, 1, 2])  # of the calls: one test must not take minutes
@pytest.mark.parametrize("fault", [refused, lost, dead_after], ids=lambda each: each.__name__)
def test_whichever_call_fails_latest_ends_with_its_own_role_and_no_clone_is_left(
    shop: Shop, staff: Staff, fault: Fault, third: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    existing(shop, staff)
    counter = Disturbed({})
    branch_journey(shop, counter)
    expected = end_of_branch(shop, staff)
    assert expected["roles"] == ["its own", "its own", "the branch's"]
    assert expected["left"] == set()
    assert counter.count >= 25
    for k in counter.worth(fault, [refused, lost, dead_after])[third::3]:
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-{fault.__name__.replace('_', '-')}-{k}"
        )
        theirs = Staff(again)
        again.configure()
        existing(again, theirs)

        branch_journey(again, Disturbed(fault(k)))

        assert end_of_branch(again, theirs) == expected, f"call {k} of {counter.count}"
