"""What a change set would change of roles that are live: of lists as CloudFormation writes them."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.aws.stacks import Change, Detail
from pointsman.provision import stack_roles

SERVED = {"greeter": {"arn:aws:iam::123456789012:role/app/live-role": "STAGE, PROD"}}
PHYSICAL = {"Greeter": "greeter", "Role": "live-role", "Other": "other-role", "Shared": "arn:aws:iam::1:policy/shared"}
ROLE = {"type": "AWS::IAM::Role", "logical_id": "Role", "physical_id": "live-role"}
GREETER = {"type": "AWS::Lambda::Function", "logical_id": "Greeter", "physical_id": "greeter"}


def document(**resources: Any) -> dict[str, Any]:
    return {"Resources": {name: {"Type": kind, "Properties": said} for name, (kind, said) in resources.items()}}


def told(*changes: Change, template: dict[str, Any] | None = None) -> tuple[str, ...]:
    return stack_roles.role_changes(changes, SERVED, [template or {}], PHYSICAL)


def modified(of: dict[str, str], *names: str, **more: Any) -> Change:
    return Change(action="Modify", details=tuple(Detail(name=each) for each in names), **{**of, **more})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            modified(ROLE, "Policies.0.PolicyDocument", "Tags.0.Value"),
            "modify AWS::IAM::Role Role: Policies, Tags, the role of STAGE, PROD",
        ),
        (Change(action="Remove", **ROLE), "remove AWS::IAM::Role Role, the role of STAGE, PROD"),
        (Change(action="Modify", **ROLE), "modify AWS::IAM::Role Role, the role of STAGE, PROD"),
        (
            modified(ROLE, "Description", replacement="True"),
            "modify AWS::IAM::Role Role, replacing it: Description, the role of STAGE, PROD",
        ),
        (modified(GREETER, "Role"), "Greeter would run with another role than STAGE, PROD"),
    ],
)
def test_what_changes_a_live_role_is_told_in_a_line(change: Change, line: str) -> None:
    assert told(change) == (line,)


@pytest.mark.parametrize(
    "change",
    [
        modified(ROLE, "Tags.0.Value", "Description"),
        Change(action="Modify", scope=("Tags", "Metadata"), **ROLE),
        Change(action="Remove", kept=True, **ROLE),
        modified({**ROLE, "physical_id": "other-role"}, "Policies"),
        modified(GREETER, "MemorySize"),
    ],
)
def test_tags_what_stays_in_the_account_and_roles_of_nobody_are_free(change: Change) -> None:
    assert told(change) == ()


def test_a_function_whose_role_is_only_tagged_keeps_its_role() -> None:
    """CloudFormation lists it, for it cannot know yet that the role's ARN stays."""
    role = Detail(name="Role", dynamic=True, cause="Role.Arn")
    follows = Change(action="Modify", details=(role,), **GREETER)

    assert told(modified(ROLE, "Tags"), follows) == ()
    assert told(modified(ROLE, "RoleName", replacement="True"), follows)[1:] == (
        "Greeter would run with another role than STAGE, PROD",
    )


@pytest.mark.parametrize(
    ("roles", "line"),
    [
        ([{"Ref": "Role"}], "a policy of the role of STAGE, PROD"),
        ([{"Fn::Sub": "${Role}"}], "a policy of the role of STAGE, PROD"),
        (["live-role"], "a policy of the role of STAGE, PROD"),
        ([{"Fn::ImportValue": "role"}], "perhaps a policy of the role of STAGE, PROD"),
        ({"Fn::If": ["Prod", ["a"], ["b"]]}, "perhaps a policy of the role of STAGE, PROD"),
        ([{"Ref": "Other"}], None),
        ([{"Ref": "AWS::NoValue"}], None),
    ],
)
def test_a_policy_is_told_by_the_roles_it_names_and_in_doubt_too(roles: Any, line: str | None) -> None:
    change = Change(action="Add", type="AWS::IAM::Policy", logical_id="Beside")

    found = told(change, template=document(Beside=("AWS::IAM::Policy", {"Roles": roles})))

    assert found == ((f"add AWS::IAM::Policy Beside, {line}",) if line else ())


def test_a_policy_that_no_template_shows_is_in_doubt() -> None:
    """SAM's connectors make one, for example."""
    change = Change(action="Add", type="AWS::IAM::ManagedPolicy", logical_id="Connector")

    assert told(change) == ("add AWS::IAM::ManagedPolicy Connector, perhaps a policy of the role of STAGE, PROD",)


def test_a_custom_resource_may_answer_with_another_role_though_it_stays() -> None:
    own = modified({"type": "Custom::Role", "logical_id": "Maker", "physical_id": "maker"}, "Tags")
    role = Detail(name="Role", dynamic=True, cause="Maker.Arn")

    found = told(own, Change(action="Modify", details=(role,), **GREETER))

    assert found == ("Greeter would run with another role than STAGE, PROD",)


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (("AWS::IAM::Role", {"ManagedPolicyArns": ["arn:aws:iam::123456789012:policy/shared"]}), "a policy"),
        (("AWS::CloudFormation::Stack", {"Parameters": {"Policy": {"Ref": "Shared"}}}), "perhaps a policy"),
        (("AWS::CloudFormation::Stack", {"Parameters": {"Table": "t"}}), None),
    ],
)
def test_a_managed_policy_is_found_by_its_name_and_where_a_nested_stack_gets_it(other: Any, line: str | None) -> None:
    template = document(Shared=("AWS::IAM::ManagedPolicy", {"ManagedPolicyName": "shared"}), Role=other)
    of = {"type": "AWS::IAM::ManagedPolicy", "logical_id": "Shared", "physical_id": PHYSICAL["Shared"]}

    found = told(modified(of, "PolicyDocument"), template=template)

    of_whom = "of the role of STAGE, PROD"
    assert found == ((f"modify AWS::IAM::ManagedPolicy Shared: PolicyDocument, {line} {of_whom}",) if line else ())


def test_another_role_in_sams_globals_is_another_role_of_the_function() -> None:
    before, after = (
        document(Greeter=("AWS::Serverless::Function", {})) | {"Globals": {"Function": {"Role": role}}}
        for role in ("arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b")
    )

    (found,) = (each for each in stack_roles.expected(before, after, (), PHYSICAL) if each.logical_id == "Greeter")

    assert told(found) == ("Greeter would run with another role than STAGE, PROD",)


@pytest.mark.parametrize("holder", ["Role", "Other"])
def test_a_managed_policy_is_told_where_a_live_role_names_it(holder: str) -> None:
    template = document(
        Shared=("AWS::IAM::ManagedPolicy", {}),
        **{holder: ("AWS::IAM::Role", {"ManagedPolicyArns": [{"Ref": "Shared"}]})},
    )
    of = {"type": "AWS::IAM::ManagedPolicy", "logical_id": "Shared", "physical_id": PHYSICAL["Shared"]}

    found = told(modified(of, "PolicyDocument"), template=template)

    line = "modify AWS::IAM::ManagedPolicy Shared: PolicyDocument, a policy of the role of STAGE, PROD"
    assert found == ((line,) if holder == "Role" else ())


def test_a_parameter_that_changes_is_looked_for_in_roles_and_policies() -> None:
    policies = [{"PolicyDocument": {"Resource": {"Fn::Sub": "arn:aws:s3:::${Bucket}/*"}}}]
    same = document(Role=("AWS::IAM::Role", {"Policies": policies}), Other=("AWS::IAM::Role", {}))

    (found,) = stack_roles.expected(same, same, ["Bucket"], PHYSICAL)

    assert told(found) == ("modify AWS::IAM::Role Role: Policies, the role of STAGE, PROD",)
    assert stack_roles.expected(same, same, ["Memory"], PHYSICAL) == ()


def queue(name: str, **more: Any) -> dict[str, Any]:
    return {"Orders": {"Type": "SQS", "Properties": {"Queue": name, **more}}}


@pytest.mark.parametrize(
    ("was", "now", "names"),
    [
        ({"Policies": ["A"]}, {"Policies": ["A", "B"]}, ["Policies"]),
        ({}, {"Tracing": "Active"}, ["Tracing"]),
        ({"Tracing": "Active"}, {"Tracing": "PassThrough"}, None),
        ({"VpcConfig": {"SubnetIds": ["a"]}}, {"VpcConfig": {"SubnetIds": ["b"]}}, None),
        ({"VpcConfig": {"SubnetIds": ["a"]}}, {}, ["VpcConfig"]),
        ({"Events": queue("q", BatchSize=1)}, {"Events": queue("q", BatchSize=10)}, None),
        ({"Events": queue("q")}, {"Events": queue("p")}, ["Events"]),
        ({}, {"Events": {"Queue": {"Type": "SQS"}}}, ["Events"]),
        ({}, {"Events": {"Get": {"Type": "Api"}}}, None),
        ({"MemorySize": 128}, {"MemorySize": 256}, None),
    ],
)
def test_of_sams_own_role_is_known_what_makes_it(was: Any, now: Any, names: list[str] | None) -> None:
    before, after = (document(Greeter=("AWS::Serverless::Function", each)) for each in (was, now))

    found = [each for each in stack_roles.expected(before, after, (), PHYSICAL) if each.type == "AWS::IAM::Role"]

    assert [[detail.name for detail in each.details] for each in found] == ([names] if names else [])
