"""What goes with a branch that is gone, and what must not."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pointsman.clearing import DeleteAlias, DeleteRole, DeleteVersion, Doomed, Standing, clear
from pointsman.model import Alias, AliasName, Canary, EventSource, FunctionArn, FunctionName, Routing, Version, Weight

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))


def alias(name: str, version: str, canary: str = "") -> Alias:
    beside = Canary(version=Version(canary), weight=Weight(0.1)) if canary else None
    routing = Routing(version=Version(version), canary=beside)
    return Alias(arn=ARN, name=AliasName(name), routing=routing, revision=f"r-{name}")


def doomed(name: str, version: str, *used: str) -> Doomed:
    return Doomed(
        branch=name, name=AliasName(name), alias=alias(name, version), used=frozenset(map(Version, (version, *used)))
    )


def standing(*aliases: Alias, versions: str = "1 2 3 4 5 6 7 8 9", **more: Any) -> Standing:
    nothing: dict[str, Any] = {"served": {}, "untold": (), "urls": {}, "sources": {}}
    sets: dict[str, Any] = dict.fromkeys(("events", "provisioned", "permitted"), frozenset[str]())
    there = frozenset(map(Version, versions.split()))
    return Standing(**{"aliases": aliases, "versions": there, **nothing, **sets, **more})


def deleted(*gone: Doomed, of: Standing) -> list[str]:
    made = clear("greeting", ARN, gone, of)
    return [str(step.version) for each in made for step in each.steps if isinstance(step, DeleteVersion)]


def test_all_that_hangs_on_the_alias_goes_before_it_and_its_versions_after() -> None:
    mapped = EventSource(uuid="u", source="arn:aws:sqs:eu-west-1:1:q", settings={}, enabled=False)
    (made,) = clear(
        "greeting",
        ARN,
        (doomed("x", "3", "2"),),
        standing(
            alias("x", "3"), urls={"x": "https://u/"}, sources={"x": (mapped,)}, events=frozenset({"x"}),
            provisioned=frozenset({"x"}),
        ),
    )  # fmt: skip

    assert [type(step).__name__ for step in made.steps] == [
        "DeleteUrl", "UnmapEventSource", "Unprovision", "DropEvents", "DeleteAlias", "DeleteVersion", "DeleteVersion",
    ]  # fmt: skip
    assert made.steps[4] == DeleteAlias(alias=AliasName("x"), version=Version("3"), revision="r-x")


def test_what_another_alias_serves_if_only_as_a_canary_stays() -> None:
    there = standing(alias("x", "3"), alias("STAGE", "2"), alias("PROD", "1", canary="3"))

    assert deleted(doomed("x", "3", "2", "4"), of=there) == ["4"]


def test_a_version_of_two_branches_goes_with_the_last_of_them() -> None:
    there = standing(alias("x", "3"), alias("y", "3"), alias("z", "4"))

    assert deleted(doomed("x", "3"), of=there) == []
    assert deleted(doomed("x", "3"), doomed("y", "3"), of=there) == ["3"]


def test_what_an_alias_served_before_stays_unless_it_goes_too() -> None:
    served = {AliasName("STAGE"): frozenset({Version("2")}), AliasName("y"): frozenset({Version("3")})}
    there = standing(alias("x", "4"), alias("STAGE", "5"), alias("y", "6"), served=served)

    assert deleted(doomed("x", "4", "2", "3"), of=there) == ["4"]
    assert deleted(doomed("x", "4", "2", "3"), doomed("y", "6"), of=there) == ["3", "4", "6"]


def test_where_stages_history_is_not_known_no_version_goes_and_it_is_said_why() -> None:
    (made,) = clear("greeting", ARN, (doomed("x", "3"),), standing(alias("x", "3"), untold=(AliasName("STAGE"),)))

    assert made.kept == ("version 3 stays: what STAGE served before is not in this ledger, and it may be this version",)
    assert [type(step).__name__ for step in made.steps] == ["DeleteAlias"]


def test_only_versions_that_are_there_are_deleted() -> None:
    assert deleted(doomed("x", "3", "2"), of=standing(alias("x", "3"), versions="3 4")) == ["3"]


def test_what_is_left_of_an_interrupted_deletion_is_finished() -> None:
    left = Doomed(branch="x", name=AliasName("x"), alias=None, used=frozenset({Version("2"), Version("3")}))

    assert deleted(left, of=standing(alias("STAGE", "3"))) == ["2"]


def test_a_role_goes_unless_a_version_that_stays_or_latest_has_it() -> None:
    def kept(*gone: Doomed, **worn: str) -> tuple[str, ...]:
        there = standing(
            alias("x", "3"), alias("STAGE", "2"), worn={Version(v.replace("v", "")): role for v, role in worn.items()}
        )
        (made,) = clear("greeting", ARN, gone, there)
        assert (made.steps[-1] == DeleteRole(role="r")) is not any("role r stays" in each for each in made.kept)
        return made.kept

    of_x = msgspec.structs.replace(doomed("x", "3"), role="r")
    assert kept(of_x, v3="r", v2="other") == ()
    assert kept(of_x, v3="r", v2="r", v4="r") == ("role r stays: 2, 4 of greeting have it",)
    assert kept(of_x, **{"v3": "r", "$LATEST": "r"}) == ("role r stays: $LATEST of greeting has it",)


NUMBERS = st.sampled_from([str(n) for n in range(1, 10)])


@given(
    kept=st.dictionaries(st.sampled_from(["STAGE", "PROD", "other"]), st.tuples(NUMBERS, NUMBERS), max_size=3),
    served=st.dictionaries(st.sampled_from(["STAGE", "PROD", "other"]), st.frozensets(NUMBERS), max_size=3),
    gone=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(NUMBERS, min_size=1), min_size=1),
    provisioned=st.frozensets(NUMBERS),
)
def test_nothing_anybody_has_use_for_is_ever_deleted(
    kept: dict[str, tuple[str, str]],
    served: dict[str, frozenset[str]],
    gone: dict[str, list[str]],
    provisioned: frozenset[str],
) -> None:
    staying = [alias(name, one, other if other != one else "") for name, (one, other) in kept.items()]
    leaving = [doomed(name, used[0], *used[1:]) for name, used in gone.items()]
    there = standing(
        *staying,
        *(each.alias for each in leaving if each.alias),
        served={AliasName(name): frozenset(map(Version, of)) for name, of in served.items()},
        provisioned=provisioned,
    )

    made = deleted(*leaving, of=there)

    used = {version for versions in gone.values() for version in versions}
    wanted = {version for pair in kept.values() for version in pair}
    wanted |= {version for of in served.values() for version in of} | provisioned
    assert len(made) == len(set(made))
    assert set(made) == used - wanted
