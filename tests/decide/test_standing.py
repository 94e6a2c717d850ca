"""How functions stand: what each alias serves, from which build and commit, and what differs from the ledger."""

from __future__ import annotations

import pytest

from pointsman.fleet import Fleet, Member
from pointsman.model import (
    Alias,
    AliasName,
    Build,
    BuildId,
    Canary,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    Move,
    Routing,
    Version,
    Weight,
)
from pointsman.standing import Known, Standing, commit_in, epoch, lost, standings

SHA = CodeSha256("A" * 43 + "=")
PUBLISHED = "2026-01-02T03:04:05.000+0000"


def arn(name: str) -> FunctionArn:
    return FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName(name))


def version(name: str, number: str, description: str = "") -> Configuration:
    return Configuration(
        arn=arn(name),
        version=Version(number),
        sha256=SHA,
        revision="r",
        settings={"Runtime": "python3.13"},
        fingerprint="f",
        description=description,
        modified=PUBLISHED,
        code_size=100,
    )


def alias(name: str, called: str, at: str, canary: str = "", description: str = "") -> Alias:
    shifted = Canary(version=Version(canary), weight=Weight(0.1)) if canary else None
    return Alias(
        arn=arn(name),
        name=AliasName(called),
        routing=Routing(version=Version(at), canary=shifted),
        revision="r",
        description=description,
    )


def member(name: str, *aliases: Alias, versions: int = 3, described: str = "") -> Member:
    published = tuple(version(name, str(number), described) for number in range(1, versions + 1))
    return Member(latest=version(name, "$LATEST"), versions=published, aliases=aliases)


def fleet(*members: Member) -> Fleet:
    return Fleet(account="123456789012", region="eu-west-1", at=0.0, members=members)


def move(called: str, at: str, kind: str = "deploy", build: str | None = None) -> Move:
    made = BuildId(build) if build else None
    return Move(alias=AliasName(called), version=Version(at), was=None, kind=kind, at=50.0, by="ada", build=made)


def known(
    moves: dict[tuple[str, str], Move] | None = None,
    builds: dict[str, tuple[Build, ...]] | None = None,
    rollouts: dict[tuple[str, str], str] | None = None,
) -> Known:
    return Known(moves=moves or {}, builds=builds or {}, rollouts=rollouts or {})


def one(found: tuple[Standing, ...]) -> Standing:
    (standing,) = found
    return standing


def test_a_function_that_nobody_told_us_of_stands_as_lambda_tells() -> None:
    there = member("orders", alias("orders", "PROD", "2", canary="3"), described="3f9c2ab")

    standing = one(standings(fleet(there), known()))

    assert (standing.function, standing.runtime, standing.versions, standing.newest) == ("orders", "python3.13", 3, "3")
    assert standing.code_size == 400
    (prod,) = standing.aliases
    assert (prod.version, prod.canary, prod.weight) == ("2", "3", 0.1)
    assert (prod.build, prod.commit, prod.published) == ("3f9c2ab", "3f9c2ab", epoch(PUBLISHED))
    assert (prod.since, prod.by, prod.drift) == (None, "", "")
    assert standing.troubles == ()


def test_what_the_ledger_knows_is_told_since_when_by_whom_from_which_commit() -> None:
    orders = str(arn("orders"))
    made = Build(id=BuildId("101"), sha256=SHA, version=Version("2"), commit="c0ffee")

    standing = one(
        standings(
            fleet(member("orders", alias("orders", "PROD", "2"))),
            known({(orders, "PROD"): move("PROD", "2", build="101")}, {orders: (made,)}),
        )
    )

    (prod,) = standing.aliases
    assert (prod.build, prod.commit, prod.since, prod.by, prod.drift) == ("101", "c0ffee", 50.0, "ada", "")


def test_an_alias_that_serves_another_version_than_the_last_move_is_drift() -> None:
    moves = {(str(arn("orders")), "PROD"): move("PROD", "2", build="101")}

    standing = one(standings(fleet(member("orders", alias("orders", "PROD", "3"))), known(moves)))

    (prod,) = standing.aliases
    assert (prod.build, prod.since) == ("", None)
    told = "it serves version 3, and the ledger's last move was to version 2"
    assert standing.troubles == (f"PROD was moved outside Pointsman: {told}",)


def test_an_alias_that_is_gone_is_told_unless_a_release_took_it_back() -> None:
    orders = str(arn("orders"))
    moves = {(orders, "PROD"): move("PROD", "2"), (orders, "NEW"): move("NEW", "2", kind="removed")}

    standing = one(standings(fleet(member("orders")), known(moves)))

    assert standing.troubles == ("PROD is gone; the ledger's last move of it was to version 2",)


def test_functions_of_this_account_and_region_that_are_gone_are_lost() -> None:
    elsewhere = str(arn("orders")).replace("eu-west-1", "us-east-1")
    moves = {
        (str(arn("orders")), "PROD"): move("PROD", "2"),
        (str(arn("billing")), "PROD"): move("PROD", "2"),
        (str(arn("billing")), "STAGE"): move("STAGE", "2"),
        (elsewhere.replace("orders", "other"), "PROD"): move("PROD", "2"),
    }

    assert lost(fleet(member("orders")), known(moves)) == ("billing",)


def test_aliases_come_in_the_order_of_the_environments_then_by_name() -> None:
    there = member("orders", *(alias("orders", each, "1") for each in ("PROD", "a", "STAGE", "Z")))

    standing = one(standings(fleet(there), known(), ["STAGE", "PROD"]))

    assert [str(each.alias) for each in standing.aliases] == ["STAGE", "PROD", "Z", "a"]


def test_a_rollout_is_told_with_its_alias() -> None:
    rollouts = {(str(arn("orders")), "PROD"): "rollout of PROD to version 3: baking"}

    standing = one(
        standings(fleet(member("orders", alias("orders", "PROD", "2", canary="3"))), known(None, None, rollouts))
    )

    assert standing.troubles == ("rollout of PROD to version 3: baking",)


def test_a_branch_is_told_from_its_alias() -> None:
    there = member("orders", alias("orders", "feature-x--217d2bf51f", "1", description="branch feature/x, build 7"))

    assert one(standings(fleet(there), known())).aliases[0].branch == "feature/x"


def test_an_alias_on_latest_has_no_build() -> None:
    standing = one(standings(fleet(member("orders", alias("orders", "DEV", "$LATEST"))), known()))

    assert (standing.aliases[0].build, standing.aliases[0].published) == ("", epoch(PUBLISHED))


@pytest.mark.parametrize(
    ("build", "commit"),
    [
        ("3f9c2ab", "3f9c2ab"),
        ("3f9c2ab-1d5e9a", "3f9c2ab"),
        ("3f9c2abdeadbeef3f9c2abdeadbeef3f9c2abdea", "3f9c2abdeadbeef3f9c2abdeadbeef3f9c2abdea"),
        ("1234567", ""),
        ("101", ""),
        ("20260102-030405-3f9c2ab", ""),
        ("my function", ""),
        ("", ""),
    ],
)
def test_a_commit_is_read_off_a_build_id_that_is_one(build: str, commit: str) -> None:
    assert commit_in(build) == commit


def test_times_are_lambdas() -> None:
    assert epoch("1970-01-01T00:01:00.500+0000") == 60.5
    assert epoch("") is None
