"""Whether two versions may share an alias, and what is kept ready of them: nothing of somebody else's is taken."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.model import (
    Alias,
    AliasName,
    Canary,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    KeptReady,
    Routing,
    Version,
    Weight,
)
from pointsman.sharing import (
    Provisioned,
    costs,
    differences,
    is_aws_moving,
    is_aws_stuck,
    may_share,
    preparation,
    returned,
)

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("orders"))
PROD, STAGE = AliasName("PROD"), AliasName("STAGE")
ONE, TWO, THREE = Version("1"), Version("2"), Version("3")
ROLE = "arn:aws:iam::123456789012:role/orders"


def version(number: str, **settings: Any) -> Configuration:
    return Configuration(
        arn=ARN,
        version=Version(number),
        sha256=CodeSha256("A" * 43 + "="),
        revision="r",
        settings={"Role": ROLE, "MemorySize": 128, "Timeout": 3, **settings},
        fingerprint="",
    )


def to(first: Version, second: Version | None = None, weight: float = 0.1) -> Routing:
    return Routing(version=first, canary=Canary(version=second, weight=Weight(weight)) if second else None)


def alias(name: AliasName, routing: Routing) -> Alias:
    return Alias(arn=ARN, name=name, routing=routing, revision="r")


def kept(number: int = 8, status: str = "READY", modified: str = "then", reason: str = "") -> KeptReady:
    return KeptReady(number=number, status=status, modified=modified, reason=reason)


# Whether they may


def test_code_and_variables_may_differ() -> None:
    assert may_share(version("1"), version("2", Environment={"A": "b"}, Handler="other.handler")) == ()


@pytest.mark.parametrize(
    ("canary", "words", "remedy"),
    [
        (version("2", Role=f"{ROLE}-2"), "role orders, version 2 orders-2", "same role"),
        (version("2", DeadLetterConfig="arn:q"), "queue (none), version 2 arn:q", "event-invoke configuration"),
        (version("$LATEST"), "$LATEST is not published", "Deploy"),
        (version("1"), "serves version 1 already", "nothing to roll out"),
    ],
)
def test_what_lambda_forbids_is_said_with_what_to_do(canary: Configuration, words: str, remedy: str) -> None:
    (reason,) = may_share(version("1"), canary)

    assert words in reason
    assert remedy in reason


def test_each_reason_is_named() -> None:
    assert len(may_share(version("1", DeadLetterConfig="a"), version("2", Role="r", DeadLetterConfig="b"))) == 2


def test_other_machines_are_no_hindrance_and_are_told() -> None:
    canary = version("2", Architectures=["arm64"], MemorySize=256, VpcConfig={"SubnetIds": ["s"]}, Timeout=1)
    baseline = version("1", Architectures=["x86_64"])

    assert may_share(baseline, canary) == ()
    told = differences(baseline, canary)
    assert told[0] == ("architecture differs: x86_64 in version 1, arm64 in version 2; durations show that, too")
    assert [each.split()[0] for each in told] == ["architecture", "memory", "network", "version"]
    assert differences(baseline, baseline) == ()


# What is to be kept ready


def test_nothing_is_kept_ready_where_nothing_was() -> None:
    assert preparation(PROD, ONE, version("2"), {}, ()).number == 0


def test_the_canary_gets_as_many_as_the_version_served_has() -> None:
    made = preparation(PROD, ONE, version("2"), {"1": kept(8)}, (alias(PROD, to(ONE)),))

    assert (made.number, made.refused, made.notes) == (8, (), ())
    assert costs(made, memory_mb=512, lasts_s=1200) == (
        "8 provisioned environments of 512 MB twice for about 20 min (4,800 GB-s more), "
        "and for the 1 to 10 minutes that starting them takes",
    )


def test_what_the_canary_has_already_is_left_as_it_is() -> None:
    own = preparation(PROD, ONE, version("2"), {"1": kept(8), "2": kept(3)}, ())
    aliases = (alias(PROD, to(ONE)), alias(STAGE, to(TWO)))
    of_another = preparation(PROD, ONE, version("2"), {"1": kept(8), "STAGE": kept(3)}, aliases)

    assert (own.number, own.waits_for) == (0, ("2",))
    assert (of_another.number, of_another.waits_for) == (0, ("STAGE",))
    assert "3 environments of version 2" in of_another.notes[0]


def test_what_the_alias_has_is_divided_by_aws_and_nothing_can_be_prepared() -> None:
    made = preparation(PROD, ONE, version("2"), {"PROD": kept(8)}, (alias(PROD, to(ONE)),))

    assert (made.number, made.shares, made.waits_for, made.refused) == (0, 8, ("PROD",), ())
    assert "may start cold" in made.notes[0]
    assert "twice while the alias moves" in costs(made, memory_mb=128, lasts_s=1200)[0]


@pytest.mark.parametrize(
    ("there", "canary", "words"),
    [
        ({"PROD": kept(8), "2": kept(3)}, version("2"), "one configuration a version. Delete that of 2"),
        ({"PROD": kept(8), "STAGE": kept(3)}, version("2"), "one configuration a version. Delete that of STAGE"),
        ({"PROD": kept(8)}, version("2", SnapStart="PublishedVersions"), "without SnapStart"),
        ({"PROD": kept(8, "FAILED", reason="X_FAILURE")}, version("2"), "X_FAILURE"),
    ],
)
def test_what_aws_forbids_is_said_before_anything_moves(
    there: dict[str, KeptReady], canary: Configuration, words: str
) -> None:
    aliases = (alias(PROD, to(ONE)), alias(STAGE, to(TWO)))

    (reason,) = preparation(PROD, ONE, canary, there, aliases).refused

    assert words in reason


@pytest.mark.parametrize(
    ("there", "canary", "words"),
    [
        ({"1": kept(8)}, version("2", SnapStart="PublishedVersions"), "restored from its snapshot"),
        ({"1": kept(8, "FAILED", reason="X_FAILURE")}, version("2"), "X_FAILURE"),
        ({"STAGE": kept(8)}, version("2"), "kept ready for STAGE, not for PROD"),
    ],
)
def test_where_the_canary_can_or_need_have_none_it_is_said(
    there: dict[str, KeptReady], canary: Configuration, words: str
) -> None:
    made = preparation(PROD, ONE, canary, there, (alias(PROD, to(ONE)), alias(STAGE, to(ONE))))

    assert (made.number, made.refused) == (0, ())
    assert words in made.notes[0]


# Giving back

MINE = Provisioned(alias=PROD, baseline=ONE, canary=TWO, number=8, before=kept(), made="now")
BOTH = {"1": kept(), "2": kept(modified="now")}


def back(serves: Routing | None, there: dict[str, KeptReady], *others: Alias, mine: Provisioned = MINE) -> list[str]:
    aliases = (alias(PROD, serves), *others) if serves else others
    made = returned(mine, serves, there, aliases)
    return [*made.versions, *made.notes]


def test_the_version_that_is_not_served_gives_back() -> None:
    assert back(to(TWO), BOTH) == ["1"]  # promoted
    assert back(to(ONE), BOTH) == ["2"]  # rolled back
    assert back(to(THREE), BOTH) == ["2"]  # somebody else's now: what was there before the rollout is theirs
    assert back(None, BOTH) == ["2"]
    assert back(to(ONE, TWO), BOTH) == ["PROD serves both versions: both stay ready"]


def test_it_may_be_done_again() -> None:
    assert back(to(TWO), {"2": kept(modified="now")}) == []
    assert back(to(ONE), {"1": kept()}) == []


def test_what_was_asked_for_before_a_kill_is_found_again() -> None:
    mine = Provisioned(alias=PROD, baseline=ONE, canary=TWO, number=8, before=kept())

    assert back(to(ONE), BOTH, mine=mine) == ["2"]
    assert "somebody set it meanwhile" in back(to(ONE), BOTH | {"2": kept(5)}, mine=mine)[0]


@pytest.mark.parametrize("changed", [kept(9), kept(modified="since")])
def test_what_somebody_else_set_meanwhile_stays_and_is_told(changed: KeptReady) -> None:
    for serves, qualifier in ((to(TWO), "1"), (to(ONE), "2")):
        (note,) = back(serves, BOTH | {qualifier: changed})
        assert "somebody set it meanwhile" in note
        assert "are paid for" in note


def test_the_version_before_stays_ready_for_whom_it_serves() -> None:
    (note,) = back(to(TWO), BOTH, alias(STAGE, to(THREE, ONE)))

    assert note == "8 provisioned environments of version 1 stay, and are paid for: STAGE serves it"
    assert back(to(ONE), BOTH, alias(STAGE, to(TWO))) == ["2"]  # STAGE had none before this rollout


# AWS's own weights


def test_weights_of_aws_are_no_drift() -> None:
    wanted, there = to(TWO), to(TWO, ONE, 1.0)

    assert is_aws_moving(wanted, ONE, there, kept(status="IN_PROGRESS"))
    assert is_aws_moving(wanted, ONE, there, kept())  # ready, and the weight is about to go
    assert is_aws_stuck(wanted, ONE, there, kept(status="FAILED"))
    assert not is_aws_moving(wanted, ONE, there, kept(status="FAILED"))


@pytest.mark.parametrize(
    ("found", "of_alias"),
    [
        (to(TWO, ONE, 1.0), None),  # without provisioned concurrency AWS adds none
        (to(TWO, ONE, 0.5), kept()),
        (to(TWO, THREE, 1.0), kept(status="IN_PROGRESS")),
        (to(THREE, ONE, 1.0), kept(status="IN_PROGRESS")),
        (to(TWO), kept(status="IN_PROGRESS")),
    ],
)
def test_somebody_elses_weights_are_drift(found: Routing, of_alias: KeptReady | None) -> None:
    assert not is_aws_moving(to(TWO), ONE, found, of_alias)
    assert not is_aws_stuck(to(TWO), ONE, found, of_alias)


def test_a_weight_that_was_asked_for_is_not_awss() -> None:
    assert not is_aws_moving(to(TWO, ONE, 1.0), ONE, to(TWO, ONE, 1.0), kept(status="IN_PROGRESS"))
