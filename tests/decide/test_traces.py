"""What CloudTrail tells of a function: moves, publications, and what is nobody's business here."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pointsman.deployments import deployments
from pointsman.model import FunctionArn, FunctionName, Trace
from pointsman.traces import CALLS, observed

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))


def trace(
    at: float, call: str, *, by: str = "anna", refused: str = "", function: str = "greeting", **asked: Any
) -> Trace:
    """As AWS answers: the alias as it then is, or the version."""
    name = next(each for each in CALLS if each.startswith(call))
    answered: dict[str, Any] = {}
    if call in ("CreateAlias", "UpdateAlias"):
        answered = {"name": asked.get("name"), "functionVersion": asked.pop("now", asked.get("functionVersion"))}
    if "version" in asked:
        answered = {"version": asked.pop("version"), "functionName": "greeting"}
    return Trace(at=at, call=name, by=by, asked={"functionName": function, **asked}, answered=answered, refused=refused)


def create(at: float, version: str, alias: str = "PROD", **more: Any) -> Trace:
    return trace(at, "CreateAlias", name=alias, functionVersion=version, **more)


def update(at: float, version: str, alias: str = "PROD", **more: Any) -> Trace:
    return trace(at, "UpdateAlias", name=alias, functionVersion=version, **more)


def moves(*found: Trace) -> list[tuple[float, str, str, str | None, str]]:
    return [(each.at, each.alias, each.version, each.was, each.by) for each in observed(found, ARN).moves]


def test_moves_are_told_with_who_and_when_and_from_where() -> None:
    assert moves(create(1, "1"), update(2, "2", by="bert"), create(3, "2", "STAGE")) == [
        (1, "PROD", "1", None, "anna"),
        (2, "PROD", "2", "1", "bert"),
        (3, "STAGE", "2", None, "anna"),
    ]


def test_what_changes_no_version_is_no_move() -> None:
    """A description, or weights: the answer says which version it serves all the same."""
    described = trace(3, "UpdateAlias", name="PROD", description="x", now="1")
    shifted = trace(4, "UpdateAlias", name="PROD", now="1", routingConfig={"additionalVersionWeights": {"2": 0.1}})

    assert len(moves(create(1, "1"), described, shifted, update(5, "2"))) == 2


def test_what_was_refused_moved_nothing() -> None:
    assert moves(create(1, "1"), update(2, "2", refused="PreconditionFailedException")) == [
        (1, "PROD", "1", None, "anna")
    ]


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ("greeting", True),
        ("arn:aws:lambda:eu-west-1:123456789012:function:greeting", True),
        ("arn:aws:lambda:eu-west-1:123456789012:function:greeting:PROD", True),
        ("123456789012:function:greeting", True),
        ("greeting:1", True),
        ("greeting-2", False),
        ("arn:aws:lambda:eu-west-1:123456789012:function:greeting-2", False),
        ("", False),
    ],
)
def test_a_function_is_known_by_whatever_callers_call_it(said: str, ours: bool) -> None:
    assert bool(moves(create(1, "1", function=said))) is ours


def test_an_alias_that_was_deleted_and_made_again_begins_anew() -> None:
    found = observed([create(1, "1"), trace(2, "DeleteAlias", name="PROD"), create(3, "1")], ARN).moves

    assert [(each.kind, each.was) for each in found] == [("observed", None), ("removed", "1"), ("observed", None)]


def test_a_function_that_was_deleted_takes_its_past_with_it_and_a_version_does_not() -> None:
    gone = trace(4, "DeleteFunction")
    one_version = trace(4, "DeleteFunction", qualifier="1")
    before = [trace(1, "PublishVersion", version="1"), create(2, "1"), update(3, "2")]

    assert len(observed([*before, one_version], ARN).moves) == 2
    found = observed([*before, gone, trace(5, "CreateFunction", version="$LATEST"), create(6, "1")], ARN)
    assert ([each.at for each in found.moves], found.published) == ([6], ())


def test_a_version_was_published_when_that_was_first_answered() -> None:
    """Lambda answers an unchanged function with its last version: that published nothing."""
    found = observed(
        [
            trace(1, "PublishVersion", version="1", by="anna"),
            trace(2, "UpdateFunctionCode", version="2", by="bert"),
            trace(3, "PublishVersion", version="2", by="carl"),
            trace(4, "UpdateFunctionCode", version="$LATEST"),
        ],
        ARN,
    )

    assert [(each.version, each.at, each.by) for each in found.published] == [("1", 1, "anna"), ("2", 2, "bert")]


def test_traces_without_what_aws_should_tell_are_passed_over() -> None:
    odd = [
        Trace(at=1, call="UpdateAlias20150331", by="", asked={"functionName": "greeting", "name": "PROD"}),
        Trace(
            at=2,
            call="UpdateAlias20150331",
            by="",
            asked={"functionName": "greeting", "name": "1", "functionVersion": "1"},
        ),
        Trace(
            at=3, call="PublishVersion20150331", by="", asked={"functionName": "greeting"}, answered={"version": "x"}
        ),
    ]

    assert observed(odd, ARN).moves == ()
    assert observed(odd, ARN).published == ()


def test_a_rollback_that_was_only_observed_is_not_rolled_back_over_again() -> None:
    """PROD went 1, 2, 1: the way back leads nowhere, not to the version that somebody fled from."""
    found = observed([create(1, "1"), update(2, "2"), update(3, "1")], ARN).moves

    assert [each.version for each in deployments(found)] == ["1"]


@given(
    some.lists(some.tuples(some.integers(0, 100), some.sampled_from("123"), some.sampled_from(("PROD", "STAGE")))),
    some.randoms(use_true_random=False),
)
def test_pages_may_come_in_any_order(given_: list[tuple[int, str, str]], dice: Random) -> None:
    distinct = list({at: (at, version, alias) for at, version, alias in given_}.values())
    found = [update(*each) for each in distinct]
    mixed = dice.sample(found, len(found))

    assert moves(*mixed) == moves(*found)
    last = {alias: version for _, version, alias in sorted(distinct)}
    assert {alias: version for _, alias, version, _, _ in moves(*mixed)} == last
