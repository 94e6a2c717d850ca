"""The order of things within a stack, its statuses while something is under way, and roll-back that goes wrong."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from pointsman.localaws.cloudformation.kinds import Kinds
from pointsman.localaws.cloudformation.resources import Made, NotBegun, Place, ResourceFailed
from pointsman.localaws.cloudformation.stacks import Refused, Stack, Stacks, Wanted, new_stack
from pointsman.localaws.cloudformation.template import Json, TemplateError, parse
from tests.localaws.conftest import until

ACCOUNT, REGION = "123456789012", "eu-west-1"


class Recorded:
    """A resource type that writes down what it is told, and fails or waits where it is asked to."""

    name_property = "Name"
    replacing = frozenset({"Name", "Kind"})

    def __init__(self) -> None:
        self.told: list[str] = []
        self.failing: set[str] = set()
        self.gate: threading.Event | None = None

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if self.gate is not None:
            assert self.gate.wait(10)
        if what in self.failing:
            raise ResourceFailed(f"{what} failed")

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = str(properties.get("Name", f"{logical_id}{len(self.told)}"))
        self._tell(f"create {logical_id} {properties.get('Value')}")
        return Made(name, name, {"Value": properties.get("Value")})

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        self._tell(f"update {made.name} {before.get('Value')} to {after.get('Value')}")
        return Made(made.physical_id, made.name, {"Value": after.get("Value")})

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        self._tell(f"delete {made.name}")

    def attribute(self, made: Made, name: str) -> Any:
        if name not in made.attributes:
            raise TemplateError(f"no attribute {name}")
        return made.attributes[name]

    def of(self, type_: str) -> Recorded:
        return self


def wanted(**resources: Json) -> Wanted:
    bodies = {name: {"Type": "Test::Thing", **body} for name, body in resources.items()}
    return Wanted(parse(json.dumps({"Resources": bodies})), {}, {})


def thing(**properties: Any) -> Json:
    return {"Properties": properties}


@pytest.fixture
def kind() -> Recorded:
    return Recorded()


def nothing() -> None:
    """Nobody keeps these stacks."""


def make(kind: Recorded, *, wait_s: float = 10.0, saved: Callable[[], None] = nothing) -> Stacks:
    return Stacks(cast(Kinds, kind), saved=saved, wait_s=wait_s)


def created(stacks: Stacks, wanted_: Wanted) -> Stack:
    stack = new_stack(ACCOUNT, REGION, "s")
    stacks.create(stack, wanted_)
    return stack


def test_resources_come_after_what_they_refer_to_and_go_before_it(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(
        stacks,
        wanted(
            Last={"DependsOn": "Middle", **thing(Name="l")},
            Middle=thing(Name="m", Value={"Fn::Sub": "${First.Value}!"}),
            First=thing(Name="f", Value="1"),
        ),
    )
    assert kind.told == ["create First 1", "create Middle 1!", "create Last None"]
    stacks.delete(stack)
    assert kind.told[3:] == ["delete l", "delete m", "delete f"]
    assert (stack.status, stack.resources) == ("DELETE_COMPLETE", {})


def test_a_slow_operation_is_seen_in_progress_and_keeps_others_out(kind: Recorded) -> None:
    kind.gate = threading.Event()
    stacks = make(kind, wait_s=0.0)
    stack = created(stacks, wanted(A=thing(Value="1")))
    assert stack.status == "CREATE_IN_PROGRESS"
    with pytest.raises(Refused, match="is in CREATE_IN_PROGRESS state and can not be updated"):
        stacks.update(stack, wanted(A=thing(Value="2")))
    with pytest.raises(Refused, match="cannot be deleted while in status CREATE_IN_PROGRESS"):
        stacks.delete(stack)
    with pytest.raises(Refused, match=r"Stack \[s\] already exists"):
        created(stacks, wanted(A=thing(Value="2")))
    kind.gate.set()
    until(lambda: stack.status == "CREATE_COMPLETE", "it ends")


def test_what_was_in_progress_when_the_server_died_has_failed(kind: Recorded) -> None:
    kind.gate = threading.Event()
    stacks = make(kind, wait_s=0.0)
    stack = created(stacks, wanted(A=thing(Value="1")))
    kept = pickle.dumps(stacks.kept())
    kind.gate.set()
    until(lambda: stack.status == "CREATE_COMPLETE", "the first ends")

    again = make(Recorded())
    again.restore(pickle.loads(kept))

    (found,) = again.within(ACCOUNT, REGION)
    assert (found.status, found.reason) == ("CREATE_FAILED", "The local AWS was stopped while this was in progress")
    again.delete(found)
    assert found.status == "DELETE_COMPLETE"


def test_every_ended_operation_is_saved(kind: Recorded) -> None:
    seen: list[str] = []
    stacks = make(kind, saved=lambda: seen.append(stack.status))
    stack = new_stack(ACCOUNT, REGION, "s")
    stacks.create(stack, wanted(A=thing(Value="1")))
    stacks.delete(stack)
    assert seen == ["CREATE_COMPLETE", "DELETE_COMPLETE"]


def test_an_update_is_taken_back_step_by_step(kind: Recorded) -> None:
    stacks = make(kind)
    before = wanted(A=thing(Name="a", Value="1"), B=thing(Name="b", Value="1"), C=thing(Name="c", Value="1"))
    stack = created(stacks, before)
    kind.told.clear()
    kind.failing = {"update c 1 to 2"}

    stacks.update(
        stack,
        wanted(
            New=thing(Name="n"),
            A=thing(Name="a", Value="2"),
            B=thing(Name="b2", Value="1"),
            C={"DependsOn": ["New", "A", "B"], **thing(Name="c", Value="2")},
        ),
    )

    assert kind.told == [
        "create New None",
        "update a 1 to 2",
        "create B 1",
        "update c 1 to 2",
        "update c 2 to 1",  # it may have failed half-way
        "delete b2",
        "update a 2 to 1",
        "delete n",
    ]
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert {name: each.made.name for name, each in stack.resources.items()} == {"A": "a", "B": "b", "C": "c"}
    assert stack.now == before


def test_a_roll_back_that_fails_says_so(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Name="a", Value="1")))
    kind.failing = {"update a 1 to 2", "update a 2 to 1"}
    stacks.update(stack, wanted(A=thing(Name="a", Value="2")))
    assert (stack.status, stack.reason) == (
        "UPDATE_ROLLBACK_FAILED",
        "The following resource(s) failed to update: [A]. update a 2 to 1 failed",
    )


def test_a_roll_back_that_failed_is_continued_or_skips_what_cannot_be(kind: Recorded) -> None:
    stacks = make(kind)
    before = wanted(A=thing(Name="a", Value="1"), B={"DependsOn": "A", **thing(Name="b", Value="1")})
    after = wanted(A=thing(Name="a", Value="2"), B={"DependsOn": "A", **thing(Name="b", Value="2")})
    for skipped, told in (((), ["update a 2 to 1"]), (("A",), [])):
        kind.failing = set()
        stack = new_stack(ACCOUNT, REGION, f"s{len(skipped)}")
        stacks.create(stack, before)
        kind.failing = {"update b 1 to 2", "update a 2 to 1"}
        stacks.update(stack, after)
        assert stack.status == "UPDATE_ROLLBACK_FAILED"
        with pytest.raises(Refused, match="is in UPDATE_ROLLBACK_FAILED state and can not be updated"):
            stacks.update(stack, after)
        kind.failing = set()
        kind.told.clear()
        stacks.continue_rollback(stack, skipped)
        assert (stack.status, kind.told) == ("UPDATE_ROLLBACK_COMPLETE", told)
        with pytest.raises(Refused, match="can not continue rollback"):
            stacks.continue_rollback(stack)


def test_an_update_that_is_not_to_be_rolled_back_is_left_as_it_is_until_asked(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Name="a", Value="1")))
    after = wanted(A=thing(Name="a", Value="2"), B={"DependsOn": "A", **thing(Name="b")})
    kind.failing = {"create B None"}
    stacks.update(stack, after, disable_rollback=True)
    assert (stack.status, stack.resources["A"].properties["Value"]) == ("UPDATE_FAILED", "2")
    stacks.roll_back(stack)
    assert (stack.status, stack.resources["A"].properties["Value"]) == ("UPDATE_ROLLBACK_COMPLETE", "1")

    stacks.update(stack, after, disable_rollback=True)
    kind.failing = set()
    stacks.update(stack, after)  # mended, and tried again
    assert (stack.status, list(stack.resources)) == ("UPDATE_COMPLETE", ["A", "B"])


def test_a_creation_that_was_left_may_be_rolled_back_or_gone_on_with(kind: Recorded) -> None:
    stacks = make(kind)
    both = wanted(A=thing(Name="a"), B={"DependsOn": "A", **thing(Name="b")})
    for name in ("gone", "mended"):
        kind.failing = {"create B None"}
        stack = new_stack(ACCOUNT, REGION, name, on_failure="DO_NOTHING")
        stacks.create(stack, both)
        assert stack.status == "CREATE_FAILED"
        kind.failing = set()
        if name == "gone":
            stacks.roll_back(stack)
            assert (stack.status, stack.resources) == ("ROLLBACK_COMPLETE", {})
        else:
            with pytest.raises(Refused, match="is in CREATE_FAILED state"):
                stacks.update(stack, both)
            stacks.update(stack, both, disable_rollback=True)
            assert (stack.status, list(stack.resources)) == ("UPDATE_COMPLETE", ["A", "B"])


def test_an_update_can_be_called_off(kind: Recorded) -> None:
    stacks = make(kind, wait_s=0.0)
    stack = created(stacks, wanted(A=thing(Name="a", Value="1"), B=thing(Name="b", Value="1")))
    until(lambda: stack.status == "CREATE_COMPLETE", "it is created")
    kind.told.clear()
    kind.gate = threading.Event()
    stacks.update(stack, wanted(A=thing(Name="a", Value="2"), B=thing(Name="b", Value="2")))
    until(lambda: kind.told, "the first step is under way")
    stacks.cancel(stack)
    kind.gate.set()
    until(lambda: stack.status == "UPDATE_ROLLBACK_COMPLETE", "it is taken back")
    assert kind.told == ["update a 1 to 2", "update a 2 to 1"]
    with pytest.raises(Refused, match="cannot be called from current stack status"):
        stacks.cancel(stack)


def test_what_cannot_be_begun_is_not_taken_back(kind: Recorded) -> None:
    class Fixed(Recorded):
        def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
            raise NotBegun("it cannot be updated")

    fixed = Fixed()
    stacks = make(fixed)
    stack = created(stacks, wanted(A=thing(Name="a", Value="1")))
    stacks.update(stack, wanted(A=thing(Name="a", Value="2")))
    assert (stack.status, fixed.told) == ("UPDATE_ROLLBACK_COMPLETE", ["create A 1"])


def test_what_is_retained_except_on_create_goes_with_a_failed_creation_only(kind: Recorded) -> None:
    kept = {"DeletionPolicy": "RetainExceptOnCreate"}
    stacks = make(kind)
    stacks.delete(created(stacks, wanted(A=kept | thing(Name="a"))))
    assert "delete a" not in kind.told
    kind.failing = {"create B None"}
    created(stacks, wanted(A=kept | thing(Name="a"), B={"DependsOn": "A"}))
    assert "delete a" in kind.told


def test_another_policy_alone_is_a_change(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Name="a")))
    stacks.update(stack, wanted(A={"DeletionPolicy": "Retain", **thing(Name="a")}))
    assert (stack.status, stack.resources["A"].retained) == ("UPDATE_COMPLETE", True)


def test_what_was_proposed_for_a_stack_that_is_no_more_cannot_be_executed(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Name="a", Value="1")))
    given: dict[str, Any] = {"name": "c", "type_": "UPDATE", "description": None}
    old = stacks.propose(stack, wanted(A=thing(Name="a", Value="2")), **given)
    stacks.update(stack, wanted(A=thing(Name="a", Value="3")))
    assert old.execution == "OBSOLETE"
    with pytest.raises(Refused, match="cannot be executed in its current status"):
        stacks.execute(stack, old)


def test_a_deletion_that_fails_can_be_tried_again(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Name="a"), B={"DependsOn": "A", **thing(Name="b")}))
    kind.failing = {"delete a"}
    stacks.delete(stack)
    assert (stack.status, list(stack.resources)) == ("DELETE_FAILED", ["A"])
    kind.failing = set()
    stacks.delete(stack)
    assert stack.status == "DELETE_COMPLETE"


def test_what_is_retained_is_not_deleted(kind: Recorded) -> None:
    stacks = make(kind)
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    stack = created(stacks, wanted(A=kept | thing(Name="a"), B=thing(Name="b")))
    stacks.update(stack, wanted(A=kept | thing(Name="a2"), B=thing(Name="b")))
    stacks.delete(stack)
    assert [told for told in kind.told if told.startswith("delete")] == ["delete b"]


def test_a_custom_name_cannot_be_replaced_by_itself(kind: Recorded) -> None:
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Name="a", Kind="x")))
    stacks.update(stack, wanted(A=thing(Name="a", Kind="y")))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "cannot update a stack when a custom-named resource requires replacing" in str(stack.events)


def test_nothing_is_kept_of_a_failed_creation_when_asked(kind: Recorded) -> None:
    kind.failing = {"create B None"}
    stack = new_stack(ACCOUNT, REGION, "s", on_failure="DO_NOTHING")
    make(kind).create(stack, wanted(A=thing(Name="a"), B=thing(Name="b")))
    assert (stack.status, list(stack.resources)) == ("CREATE_FAILED", ["A"])
    stack = new_stack(ACCOUNT, REGION, "s", on_failure="DELETE")
    make(kind).create(stack, wanted(A=thing(Name="a"), B=thing(Name="b")))
    assert (stack.status, list(stack.resources)) == ("DELETE_COMPLETE", [])


def test_a_dependant_of_what_is_replaced_may_be_replaced_too(kind: Recorded) -> None:
    """A change set can only say so: the new name is not known before it is there."""
    stacks = make(kind)
    stack = created(stacks, wanted(A=thing(Kind="x"), B=thing(Kind={"Ref": "A"}), C=thing(Value={"Ref": "A"})))
    found = stacks.propose(
        stack,
        wanted(A=thing(Kind="y"), B=thing(Kind={"Ref": "A"}), C=thing(Value={"Ref": "A"})),
        name="c",
        type_="UPDATE",
        description=None,
    )
    assert [(change.logical_id, change.replacement) for change in found.changes] == [
        ("A", "True"),
        ("B", "Conditional"),
        ("C", "False"),
    ]
