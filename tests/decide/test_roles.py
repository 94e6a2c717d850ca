"""Roles, decided: when two say the same, what changed, who shares one, and what a branch's clone is called."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.model import AliasName, FunctionArn, FunctionName, Role, Version
from pointsman.roles import (
    Served,
    changed,
    changes,
    clone_name,
    clone_tags,
    digest,
    is_clone,
    other,
    ours,
    parts,
    shared,
)

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))
HOME = "arn:aws:iam::123456789012:role/app/greeting-role"


def role(**facts: Any) -> Role:
    return Role(**{"arn": HOME, "trust": {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]}, **facts})


def statement(*actions: str, resource: Any = "*") -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (statement("s3:GetObject", "s3:PutObject"), statement("s3:PutObject", "s3:GetObject")),
        (
            statement("s3:GetObject"),
            {**statement(), "Statement": [{**statement()["Statement"][0], "Action": "s3:GetObject"}]},
        ),
        (statement("s3:GetObject", resource=["b", "a"]), statement("s3:GetObject", resource=["a", "b"])),
        (
            {"Version": "2012-10-17", "Statement": [{"Sid": "A"}, {"Sid": "B"}]},
            {"Statement": [{"Sid": "B"}, {"Sid": "A"}], "Version": "2012-10-17"},
        ),
        ({"Statement": {"Sid": "A"}}, {"Statement": [{"Sid": "A"}]}),
    ],
    ids=["actions", "one or a list of one", "resources", "statements", "a single statement"],
)
def test_the_order_in_which_a_policy_says_it_is_no_change(one: Any, other: Any) -> None:
    assert digest(parts(role(inline={"p": one}))) == digest(parts(role(inline={"p": other})))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, ()),
        ({"description": "other words", "tags": {"team": "x"}, "path": "/y/"}, ()),
        ({"inline": {"tables": statement("dynamodb:*")}}, ("inline policy tables changed",)),
        ({"inline": {}}, ("inline policy tables removed",)),
        ({"inline": {"tables": statement("dynamodb:GetItem"), "x": 1}}, ("inline policy x added",)),
        ({"attached": {"arn:p": {"version": "v2"}}}, ("attached policy arn:p changed",)),
        ({"boundary": "arn:b"}, ("the permissions boundary added",)),
        ({"trust": {"Statement": []}}, ("the trust policy changed",)),
    ],
)
def test_each_change_of_what_a_role_allows_is_named(facts: dict[str, Any], told: tuple[str, ...]) -> None:
    before: dict[str, Any] = {
        "inline": {"tables": statement("dynamodb:GetItem")},
        "attached": {"arn:p": {"version": "v1"}},
    }

    assert changes(parts(role(**before)), parts(role(**{**before, **facts}))) == told


def served(alias: str, environment: str, version: str, arn: str = HOME, then: dict[str, str] | None = None) -> Served:
    return Served(
        alias=AliasName(alias), environment=environment, version=Version(version), role=arn, published=1e9, then=then
    )


def test_a_role_that_an_environment_shares_with_branches_is_told_with_names_and_numbers() -> None:
    everybody = [served("PROD", "production", "7"), served("STAGE", "staging", "9")]
    everybody += [served(f"feature-{n}", "", str(n)) for n in range(10, 15)]

    (found,) = shared(everybody)

    assert found.what == (
        "PROD's version 7 and STAGE's version 9 and feature-10's version 10, feature-11's version 11, feature-12's "
        "version 12 and 2 more share role greeting-role: editing it for a branch changes PROD and STAGE at once"
    )
    assert "per-branch" in found.next


@pytest.mark.parametrize(
    "everybody",
    [
        [served("PROD", "production", "7"), served("STAGE", "staging", "8")],
        [served("PROD", "production", "7"), served("x", "", "8", "arn:aws:iam::1:role/greeting-x-branch-0123456789")],
        [served("x", "", "8"), served("y", "", "9")],
        [],
    ],
    ids=["environments only", "another role", "branches only", "nobody"],
)
def test_nothing_is_told_where_no_branch_shares_a_role_with_an_environment(everybody: list[Served]) -> None:
    assert shared(everybody) == ()


def test_a_role_that_changed_after_a_version_was_published_is_told_once_for_each_environment() -> None:
    everybody = [
        served("PROD", "production", "7", then={"inline policy tables": "a"}),
        served("STAGE", "staging", "9", then={"inline policy tables": "b"}),
        served("x", "", "10", then={"inline policy tables": "a"}),
        served("OLD", "old", "1"),
    ]

    (found,) = changed(everybody, {HOME: {"inline policy tables": "b"}})

    assert found.what.startswith(
        "role greeting-role changed since PROD's version 7 was published (2001-09-09 01:46 UTC)"
    )
    assert "inline policy tables changed; PROD runs with it already" in found.what
    assert changed(everybody, {}) == ()  # IAM did not show it: no evidence, and said elsewhere


def test_an_alias_that_is_to_move_onto_another_role_is_told() -> None:
    assert other(served("PROD", "production", "7"), Version("8"), HOME) == ()
    (found,) = other(served("PROD", "production", "7"), Version("8"), "arn:aws:iam::123456789012:role/elsewhere")
    assert found.what == "version 8 runs with role elsewhere, and PROD's version 7 with greeting-role"


@given(st.lists(st.text(alphabet=string.printable + "äß/", min_size=1, max_size=200), unique=True, max_size=30))
def test_a_clones_name_is_legal_and_no_two_branches_share_it(branches: list[str]) -> None:
    """IAM takes `Feature` and `feature` for one name."""
    names = [clone_name(ARN, branch) for branch in branches]

    assert len({name.lower() for name in names}) == len(branches)
    for name in names:
        assert len(name) <= 64
        assert set(name) <= {*string.ascii_letters, *string.digits, *"+=,.@_-"}
        assert is_clone(name)
        assert is_clone(f"arn:aws:iam::123456789012:role/some/path/{name}")


def test_a_clones_name_differs_by_function_account_and_region_and_stays_the_same() -> None:
    longest = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("f" * 64))
    elsewhere = FunctionArn(account="123456789012", region="us-east-1", name=FunctionName("greeting"))

    assert clone_name(ARN, "feature/x") == "greeting-feature-x-branch-9ebe4c10fc"
    assert clone_name(elsewhere, "feature/x") != clone_name(ARN, "feature/x")
    assert clone_name(longest, "feature/x").startswith(f"{'f' * 36}-feature-x-branch-")
    assert not is_clone("greeting-role")
    assert not is_clone("my-branch-role")


def test_only_a_role_with_our_tags_for_that_branch_is_ours() -> None:
    origin = role(tags={"team": "greeters", "aws:cloudformation:stack-name": "s", "pointsman:branch": "another"})
    tags = clone_tags(origin, ARN, "feature/ä!")
    clone = Role(arn=f"arn:aws:iam::123456789012:role/{clone_name(ARN, 'feature/ä!')}", trust={}, tags=tags)

    assert tags["team"] == "greeters"
    assert "aws:cloudformation:stack-name" not in tags  # IAM refuses it
    assert ours(clone, ARN, "feature/ä!")
    assert not ours(clone, ARN, "feature/x")
    assert not ours(Role(arn=HOME, trust={}, tags=tags), ARN, "feature/ä!")
    assert len(clone_tags(role(tags={str(n): "" for n in range(50)}), ARN, "x")) < 50  # one more is set in the end
