"""Every version gets a decision and a reason; what is in use, wanted, pinned or perhaps in use is never deleted."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.fleet import Fleet, Member
from pointsman.model import AliasName, CodeSha256, Configuration, FunctionArn, FunctionName, Move, Version
from pointsman.retention import (
    DAY_S,
    Decision,
    Known,
    LayerHeld,
    Policy,
    Reference,
    Unseen,
    decide,
    decide_layer,
    idle_pins,
    spans,
    versions_in,
    within,
)

NOW = 1_800_000_000.0
ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("checkout"))
SHA = CodeSha256("A" * 43 + "=")
NONE = Policy(keep_deployments=1, keep_days=0, keep_versions=1)


def stamp(days: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(NOW - days * DAY_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def version(number: int | str, *, days: float = 100, size: int = 10, description: str = "") -> Configuration:
    return Configuration(
        arn=ARN, version=Version(str(number)), sha256=SHA, revision="r", settings={}, fingerprint="f",
        modified=stamp(days), code_size=size, description=description,
    )  # fmt: skip


def member(count: int, **ages: float) -> Member:
    """Versions 1 … count, 100 days old or as said (v3=5)."""
    versions = tuple(version(n, days=ages.get(f"v{n}", 100)) for n in range(1, count + 1))
    return Member(latest=version("$LATEST"), versions=versions)


def there() -> Fleet:
    """checkout with nine versions."""
    return Fleet(account=ARN.account, region=ARN.region, at=NOW, members=(member(9),))


def move(alias: str, to: int, was: int | None = None, kind: str = "deploy") -> Move:
    return Move(
        alias=AliasName(alias), version=Version(str(to)), was=Version(str(was)) if was else None, kind=kind, at=0.0
    )


def decided(known: Known, policy: Policy = NONE, *, count: int = 9, **ages: float) -> dict[str, Decision]:
    return {each.version: each for each in decide(member(count, **ages), known, policy, NOW).decisions}


def v(*numbers: int) -> tuple[Version, ...]:
    return tuple(Version(str(number)) for number in numbers)


@pytest.mark.parametrize(
    ("known", "policy", "stays", "rule", "reason"),
    [
        (Known(aliases={"PROD": v(3)}), NONE, "3", "alias", "alias PROD serves it"),
        (Known(aliases={"PROD": v(9, 3)}), NONE, "3", "alias", "alias PROD names it beside another"),
        (
            Known(references=(Reference(function="checkout", version=Version("3"), by="rule nightly names it"),)),
            NONE, "3", "reference", "rule nightly names it",
        ),
        (
            Known(references=(Reference(function="checkout", version=None, by="stack shop has its function"),)),
            NONE, "3", "reference", "stack shop has its function",
        ),
        (
            Known(moves={"PROD": (move("PROD", 3), move("PROD", 5, 3), move("PROD", 8, 5))}),
            Policy(keep_deployments=3, keep_days=0, keep_versions=1), "3", "deployment",
            "deployment of alias PROD that a rollback would want (2 before the one it serves)",
        ),
        (Known(), Policy(keep_days=0, keep_versions=1, pins=("3",)), "3", "pin", "pinned (3)"),
        (Known(), Policy(keep_days=0, keep_versions=1, pins=("checkout:3",)), "3", "pin", "pinned (checkout:3)"),
        (
            Known(builds={"3": ("101", "102")}), Policy(keep_days=0, keep_versions=1, pins=("102",)),
            "3", "pin", "pinned (102)",
        ),
        (
            Known(builds={"3": ("101",)}), Policy(keep_days=0, keep_versions=1, pins=("checkout:101",)),
            "3", "pin", "pinned (checkout:101)",
        ),
        (
            Known(), Policy(keep_days=0, keep_versions=1, only=("shop-*",)), "3", "left-out",
            "checkout is left out by the names given",
        ),
        (
            Known(), Policy(keep_days=0, keep_versions=1, but=("check*",)), "3", "left-out",
            "checkout is left out by the names given",
        ),
        (Known(), Policy(keep_days=0, keep_versions=7), "3", "newest", "one of the newest 7"),
        (Known(), NONE, "9", "newest", "the newest version"),
        (
            Known(), Policy(keep_days=100.5, keep_versions=1), "3", "young", "100 days old, younger than 100.5 days",
        ),
        (
            Known(published={"3": NOW - 3600}), Policy(keep_days=1, keep_versions=1), "3", "young",
            "1 h old, younger than 1 days",
        ),
        (
            Known(unseen=(Unseen(source="SNS", why="denied"),)), NONE, "3", "unseen",
            "it may be in use: SNS could not be looked up",
        ),
        (
            Known(unseen=(Unseen(source="aliases", why="denied", functions=("checkout",)),)), NONE, "3", "unseen",
            "it may be in use: aliases could not be looked up",
        ),
    ],
)  # fmt: skip
def test_each_rule_keeps_what_it_is_for_and_says_so(
    known: Known, policy: Policy, stays: str, rule: str, reason: str
) -> None:
    found = decided(known, policy)[stays]

    assert (found.action, found.rule, found.reason) == ("keep", rule, reason)
    bare = decided(Known(), msgspec.structs.replace(NONE))
    assert stays == "9" or bare[stays].action == "delete"  # and nothing else would have kept it


def test_what_nothing_keeps_goes_with_a_reason_too() -> None:
    found = decided(Known(aliases={"PROD": v(9)}))["3"]

    assert (found.action, found.rule, found.reason) == (
        "delete",
        "surplus",
        "100 days old, 6 newer, and nobody names it",
    )


def test_a_pin_of_another_functions_version_keeps_nothing_here() -> None:
    assert decided(Known(), Policy(keep_days=0, keep_versions=1, pins=("other:3",)))["3"].action == "delete"


@pytest.mark.parametrize(
    "pin",
    ["3", "version:3", "b3", "build:b3", *(f"checkout:{pin}" for pin in ("3", "version:3", "b3", "build:b3"))],
)
def test_a_pin_is_read_as_promote_reads_it_and_may_name_a_function(pin: str) -> None:
    known = Known(builds={"3": ("b3",)})
    policy = msgspec.structs.replace(NONE, pins=(pin,))

    found = decided(known, policy)

    assert [each for each in found if found[each].rule == "pin"] == ["3"]
    assert idle_pins(policy, there(), {"checkout": known}, {}) == ()


@pytest.mark.parametrize(
    "pin", ["build:3", "version:b3", "version:10", "build:b4", "typo-7", "chekout:3", "checkout:version:b3", "common:6"]
)
def test_a_pin_that_nothing_is_meant_by_is_told(pin: str) -> None:
    policy = msgspec.structs.replace(NONE, pins=("3", pin, "common:5", "common:version:2"))

    assert idle_pins(policy, there(), {"checkout": Known(builds={"3": ("b3",)})}, {"common": 5}) == (pin,)


def test_what_could_not_be_seen_of_other_functions_keeps_nothing_here() -> None:
    unseen = Unseen(source="aliases", why="denied", functions=("other",))

    assert decided(Known(unseen=(unseen,)))["3"].action == "delete"


def test_a_version_whose_age_is_not_known_stays() -> None:
    odd = msgspec.structs.replace(version(1), modified="")
    there = Member(latest=version("$LATEST"), versions=(odd, version(2)))

    assert decide(there, Known(), NONE, NOW).decisions[0].reason == "when it was published is not known"


def test_a_rollback_takes_deployments_away_and_what_it_leads_back_to_next_stays() -> None:
    moves = (move("PROD", 3), move("PROD", 5, 3), move("PROD", 8, 5), move("PROD", 5, 8, "rollback"))
    found = decided(Known(moves={"PROD": moves}), Policy(keep_deployments=2, keep_days=0, keep_versions=1))

    assert {number for number, each in found.items() if each.rule == "deployment"} == {"5", "3"}
    assert found["8"].action == "delete"


def test_a_function_that_the_ledger_does_not_know_is_decided_by_versions_and_days_and_that_is_said() -> None:
    assert decide(member(9), Known(), NONE, NOW).notes == (
        "the ledger knows no deployment of it: decided by versions and days only",
    )
    half = Known(aliases={"PROD": v(9), "QA": v(9)}, moves={"PROD": (move("PROD", 9),)})
    assert decide(member(9), half, NONE, NOW).notes == (
        "the ledger knows no deployment of its alias QA: of that, only what it names stays",
    )


def test_of_latest_there_is_a_decision_too() -> None:
    found = decided(Known())["$LATEST"]

    assert (found.action, found.rule) == ("keep", "latest")


# 1,000 random fleets

NOTATIONS = (
    "{}:{}",
    "function:{}:{}",
    "arn:aws:lambda:eu-west-1:123456789012:function:{}:{}",
    '{{"Uri": "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/'
    'arn:aws:lambda:eu-west-1:123456789012:function:{}:{}/invocations"}}',
)


def fleet(dice: random.Random) -> tuple[Member, Known, Policy]:
    numbers = sorted(dice.sample(range(1, 13), dice.randint(1, 12)))
    versions = tuple(version(n, days=dice.randint(0, 60), size=n) for n in numbers)

    def some(most: int) -> list[int]:
        return [dice.randint(1, 12) for _ in range(dice.randint(0, most))]

    def aliases() -> list[str]:
        return [each for each in ("PROD", "STAGE", "QA") if dice.random() < 0.4]

    text = " ".join(dice.choice(NOTATIONS).format("checkout", n) for n in some(3))
    references = [
        Reference(function=name, version=number, by=f"{number} is named")
        for name, number in versions_in(text, frozenset({"checkout"}), account=ARN.account, region=ARN.region)
    ]
    if dice.random() < 0.1:
        references.append(Reference(function="checkout", version=None, by="stack shop has its function"))
    policy = Policy(
        keep_deployments=dice.randint(1, 4),
        keep_days=dice.choice([0, 0, 7, 30]),
        keep_versions=dice.randint(1, 5),
        pins=tuple(each for each in ("2", "checkout:5", "other:7", "b3") if dice.random() < 0.2),
        only=dice.choice([(), (), (), (), ("check*",), ("shop*",)]),
        but=dice.choice([(), (), (), (), ("*audit",), ("checkout",)]),
    )
    unseen = dice.choice([None, None, None, None, ("SNS", None), ("aliases", ("checkout",)), ("aliases", ("other",))])
    known = Known(
        aliases={name: v(*dict.fromkeys((dice.randint(1, 12), *some(1)))) for name in aliases()},
        references=tuple(references),
        moves={name: tuple(move(name, n) for n in some(6)) for name in aliases()},
        builds={"3": ("b3",)},
        unseen=(Unseen(source=unseen[0], why="denied", functions=unseen[1]),) if unseen else (),
    )
    return Member(latest=version("$LATEST"), versions=versions), known, policy


def protected(there: Member, known: Known, policy: Policy) -> set[str]:
    """Said once more, another way: set by set, whatever the order."""
    all_of_them = {str(each.version) for each in there.versions}
    whole = (
        any(each.version is None for each in known.references)
        or policy.only == ("shop*",)
        or policy.but == ("checkout",)
        or any(each.functions in (None, ("checkout",)) for each in known.unseen)
    )
    if whole:
        return all_of_them
    found = {str(each) for serves in known.aliases.values() for each in serves}
    found |= {str(each.version) for each in known.references}
    for moves in known.moves.values():
        served = [str(each.version) for each in moves]
        distinct = [each for n, each in enumerate(served) if n == 0 or served[n - 1] != each]
        found |= set(distinct[-policy.keep_deployments :])
    found |= {"2"} & set(policy.pins) | ({"5"} if "checkout:5" in policy.pins else set())
    found |= {"3"} if "b3" in policy.pins else set()
    newest = sorted(all_of_them, key=int)[-policy.keep_versions :]
    young = {str(e.version) for e in there.versions if e.modified > stamp(policy.keep_days)}
    return (found | set(newest) | young) & all_of_them


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**32))
def test_never_is_a_protected_version_deleted_nor_one_kept_without_a_reason(seed: int) -> None:
    there, known, policy = fleet(random.Random(seed))

    made = decide(there, known, policy, NOW)

    assert [each.version for each in made.decisions] == [*(each.version for each in there.versions), "$LATEST"]
    assert all(each.reason for each in made.decisions)
    kept = {str(each.version) for each in made.decisions if each.action == "keep"} - {"$LATEST"}
    assert kept == protected(there, known, policy)
    assert made.freed == sum(int(each.version) for each in made.doomed)


# Texts

HERE: Mapping[str, Any] = {"account": "123456789012", "region": "eu-west-1"}
FUNCTIONS = frozenset({"checkout", "check", "7up", "123456789012", "function"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("arn:aws:lambda:eu-west-1:123456789012:function:checkout:7", {("checkout", "7")}),
        ("arn:aws-cn:lambda:eu-west-1:123456789012:function:checkout:7", {("checkout", "7")}),
        ("123456789012:function:checkout:7", {("checkout", "7")}),
        ("function:checkout:7", {("checkout", "7")}),
        ("checkout:7", {("checkout", "7")}),
        ('{"FunctionName": "checkout:12"}', {("checkout", "12")}),
        ('"{\\"Uri\\": \\"checkout:12\\"}"', {("checkout", "12")}),
        ("functions/arn:aws:lambda:eu-west-1:123456789012:function:checkout:7/invocations", {("checkout", "7")}),
        ("arn:aws:lambda:us-east-1:123456789012:function:checkout:7", set()),
        ("arn:aws:lambda:eu-west-1:999999999999:function:checkout:7", set()),
        ("999999999999:function:checkout:7", set()),
        ("arn:aws:lambda:eu-west-1:123456789012:function:checkout", set()),
        ("arn:aws:lambda:eu-west-1:123456789012:function:checkout:PROD", set()),
        ("checkout:7up:3", {("7up", "3")}),
        ("checkout:$LATEST", set()),
        ("checkout:07", set()),
        ("my-checkout:7", set()),
        ("other:7", set()),
        ("checkout:7 and check:3", {("checkout", "7"), ("check", "3")}),
        ("arn:aws:lambda:eu-west-1:123456789012:function:123456789012:4", {("123456789012", "4")}),
        ("function:7", {("function", "7")}),
    ],
)
def test_a_text_names_a_version_by_name_and_number_and_by_nothing_less(text: str, named: set[tuple[str, str]]) -> None:
    assert versions_in(text, FUNCTIONS, **HERE) == named


@given(st.sets(st.integers(1, 300)))
def test_spans_say_the_same_versions_in_short(numbers: set[int]) -> None:
    assert within(spans(v(*numbers))) == set(v(*numbers))


def test_spans_read_well() -> None:
    assert spans(v(1, 2, 3, 5, 8, 9)) == "1-3, 5, 8-9"


# Layers


def layer(**more: Any) -> LayerHeld:
    made = {number: stamp(100) for number in range(1, 6)}
    return LayerHeld(name="common", arn="arn:aws:lambda:eu-west-1:123456789012:layer:common", made=made, **more)


@pytest.mark.parametrize(
    ("held", "policy", "goes"),
    [
        (layer(), NONE, "1-4"),
        (layer(used={2: "checkout:7 has it"}), NONE, "1, 3-4"),
        (layer(), Policy(keep_days=0, keep_versions=4), "1"),
        (layer(), Policy(keep_days=101, keep_versions=1), ""),
        (layer(), Policy(keep_days=0, keep_versions=1, pins=("common:3", "2")), "1-2, 4"),
        (layer(), Policy(keep_days=0, keep_versions=1, but=("comm*",)), ""),
        (layer(unseen=(Unseen(source="layer common", why="denied"),)), NONE, ""),
    ],
)
def test_of_a_layer_goes_what_no_function_has_beyond_the_newest_and_old_enough(
    held: LayerHeld, policy: Policy, goes: str
) -> None:
    made = decide_layer(held, policy, NOW)

    assert spans(each.version for each in made.doomed) == goes
    assert len(made.decisions) == 5
    assert all(each.reason for each in made.decisions)
