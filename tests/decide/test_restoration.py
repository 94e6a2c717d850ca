"""What a release that failed has to put back: everything it moved, nothing that others moved, the last one first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.model import Alias, AliasName, Canary, FunctionArn, FunctionName, Move, Routing, Version, Weight
from pointsman.plan import Plan, RemoveAlias, RestoreAlias
from pointsman.restoration import Left, Shift, last_release, restoration

STAGE = AliasName("STAGE")


def alias(name: str, routing: Routing, revision: str = "r") -> Alias:
    arn = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName(name), qualifier=STAGE)
    return Alias(arn=arn, name=STAGE, routing=routing, revision=revision)


numbers = st.integers(1, 9).map(str).map(Version)
plain = numbers.map(lambda version: Routing(version=version))
half = st.tuples(st.integers(1, 4), st.integers(5, 9)).map(
    lambda two: Routing(version=Version(str(two[0])), canary=Canary(version=Version(str(two[1])), weight=Weight(0.5)))
)
before = st.one_of(st.none(), plain, half)


@st.composite
def releases(draw: st.DrawFn) -> tuple[list[Shift], dict[str, Routing | None], set[str]]:
    """(what was tried, where the aliases are now, whose alias somebody else moved): stopped and meddled with."""
    names = [f"f{n}" for n in range(draw(st.integers(1, 6)))]
    shifts = [
        Shift(
            function=name,
            name=FunctionName(name),
            alias=STAGE,
            version=Version(str(10 + n)),
            before=draw(before),
            description="a description, not a build id",
        )
        for n, name in enumerate(names)
    ]
    tried = shifts[: draw(st.integers(1, len(shifts)))]
    now = {shift.function: shift.before for shift in shifts}
    for shift in tried[:-1]:
        now[shift.function] = shift.after
    if draw(st.booleans()):  # the last one: refused, or done and the answer lost
        now[tried[-1].function] = tried[-1].after
    others = draw(st.sets(st.sampled_from(names)))
    for name in others:
        now[name] = draw(st.one_of(st.none(), st.just(Routing(version=Version("99")))))
    return tried, now, others


@given(releases())
def test_afterwards_every_alias_is_as_before_or_told_as_left(
    release: tuple[list[Shift], dict[str, Routing | None], set[str]],
) -> None:
    tried, now, others = release
    present = {name: alias(name, routing, f"r-{name}") if routing else None for name, routing in now.items()}

    unsure = {tried[-1].function}
    found = restoration(tried, present, environment="staging", why="because", unsure=unsure)

    order = [shift.function for shift in reversed(tried)]
    assert [each.function for each in found] == [name for name in order if name in {each.function for each in found}]
    left = {each.function for each in found if isinstance(each, Left)}
    for each in found:
        if isinstance(each, Plan):
            (step,) = each.steps
            assert each.expects.alias_revision == f"r-{each.function}"
            assert isinstance(step, RestoreAlias | RemoveAlias)
            now[each.function] = step.routing if isinstance(step, RestoreAlias) else None
    for shift in tried:
        if shift.function in left:
            assert shift.function in others
        else:
            assert now[shift.function] == shift.before
    for name in others - left:
        shift_ = next((each for each in tried if each.function == name), None)
        assert shift_ is None or now[name] == shift_.before


def test_what_was_half_way_through_a_shift_is_put_back_half_way() -> None:
    was = Routing(version=Version("1"), canary=Canary(version=Version("2"), weight=Weight(0.1)))
    shift = Shift(function="f", name=FunctionName("f"), alias=STAGE, version=Version("2"), before=was, description="b")

    (found,) = restoration([shift], {"f": alias("f", shift.after)}, environment="staging", why="because")

    assert isinstance(found, Plan)
    assert found.steps == (RestoreAlias(alias=STAGE, now=Version("2"), routing=was, description="b", reason="because"),)
    assert found.build == "b"


def test_an_alias_whose_move_may_still_land_gets_a_new_revision_where_it_is() -> None:
    was = Routing(version=Version("1"))
    shift = Shift(function="f", name=FunctionName("f"), alias=STAGE, version=Version("2"), before=was)

    assert restoration([shift], {"f": alias("f", was)}, environment="staging", why="x") == ()
    (found,) = restoration([shift], {"f": alias("f", was)}, environment="staging", why="x", unsure={"f"})

    assert isinstance(found, Plan)
    assert found.steps == (RestoreAlias(alias=STAGE, now=Version("1"), routing=was, description="", reason="x"),)


def move(version: str, was: str | None, at: float, release: str = "", kind: str = "deploy") -> Move:
    before_ = Version(was) if was else None
    return Move(alias=STAGE, version=Version(version), was=before_, kind=kind, at=at, release=release)


def test_the_last_release_is_what_moved_together_last() -> None:
    a = [move("1", None, 1, "x"), move("2", "1", 4, "y")]
    b = [move("1", None, 2, "x"), move("2", "1", 5, "y")]
    c = [move("1", None, 3, "x")]  # not part of the second release
    new = [move("1", None, 6, "y")]

    back, first = last_release({"a": a, "b": b, "c": c, "new": new})

    assert set(back) == {"a", "b"}
    assert set(first) == {"new"}


def test_after_a_rollback_the_release_before_it_is_the_last() -> None:
    a = [move("1", None, 1, "x"), move("2", "1", 3, "y"), move("3", "2", 5, "z"), move("2", "3", 7, "q", "rollback")]
    b = [move("1", None, 2, "x"), move("2", "1", 4, "y")]

    assert set(last_release({"a": a, "b": b})[0]) == {"a", "b"}  # y: both moved in it


def test_what_was_taken_back_is_no_release_to_go_back_over() -> None:
    a = [move("1", None, 1, "x"), move("2", "1", 3, "y"), move("1", "2", 5, "y", "restore")]
    b = [move("1", None, 2, "x")]
    made_and_removed = [move("1", None, 4, "y"), move("1", "1", 6, "y", "removed")]

    back, first = last_release({"a": a, "b": b, "c": made_and_removed})

    assert (back, set(first)) == ({}, {"a", "b"})


def test_functions_deployed_alone_go_back_alone() -> None:
    a = [move("1", None, 1, "x"), move("2", "1", 3, "alone")]
    b = [move("1", None, 2, "x"), move("2", "1", 2.5, "y")]

    assert set(last_release({"a": a, "b": b})[0]) == {"a"}
    assert last_release({"a": []}) == ({}, {})
