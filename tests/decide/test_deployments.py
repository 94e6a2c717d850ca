"""Which deployment is "the previous one"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.deployments import deployments, previous
from pointsman.model import AliasName, Move, Version

PROD = AliasName("PROD")


def moves(*steps: str) -> list[Move]:
    """ "3" is a deployment of version 3, "<2" a rollback to version 2; each from where the alias was."""
    made: list[Move] = []
    for at, step in enumerate(steps):
        kind = "rollback" if step.startswith("<") else "promote"
        was = made[-1].version if made else None
        made.append(Move(alias=PROD, version=Version(step.lstrip("<")), was=was, kind=kind, at=at))
    return made


@pytest.mark.parametrize(
    ("steps", "serving", "expected"),
    [
        (["1"], "1", None),
        (["1", "2"], "2", "1"),
        (["3", "7"], "7", "3"),
        (["1", "2", "3", "<2"], "2", "1"),
        (["1", "2", "<1", "3"], "3", "1"),
        (["1", "2", "1"], "1", "2"),
        (["1", "1", "2"], "2", "1"),
        (["5", "<4"], "4", "5"),
    ],
)
def test_the_previous_deployment_of_the_alias(steps: list[str], serving: str, expected: str | None) -> None:
    found = previous(moves(*steps), Version(serving))

    assert (found.version if found else None) == expected


def test_an_alias_that_served_something_before_we_came_can_go_back_to_it() -> None:
    first = Move(alias=PROD, version=Version("8"), was=Version("5"), kind="promote", at=1.0)

    found = previous([first], Version("8"))

    assert found is not None
    assert found.version == "5"


def test_an_alias_moved_behind_our_back_has_no_previous_deployment() -> None:
    with pytest.raises(ValueError, match="version 2, not version 9"):
        previous(moves("1", "2"), Version("9"))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_rolling_back_again_and_again_walks_each_deployment_once(numbers: list[int]) -> None:
    made = moves(*(str(number) for number in numbers))
    steps = len(deployments(made))
    for _ in range(steps - 1):
        found = previous(made, made[-1].version)
        assert found is not None
        made.append(Move(alias=PROD, version=found.version, was=made[-1].version, kind="rollback", at=len(made)))
    assert previous(made, made[-1].version) is None
