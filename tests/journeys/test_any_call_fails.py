"""A deploy and a promote, repeated with each AWS call failing in turn: `resume` ends where an undisturbed run ends."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pointsman.aws.operation import Transport
from pointsman.aws.transports import Faults
from pointsman.errors import Ambiguous, Unreachable
from tests.journeys import test_release_set as release_set
from tests.journeys.conftest import Answer, Shop
from tests.journeys.test_adoption import deployed
from tests.journeys.test_cloudformation import template

Fault = Callable[[int], dict[str, Any]]
ALL_WAYS = os.environ.get("POINTSMAN_EVERY") == "1"  # each call in every way: ten minutes more


def refused(k: int) -> dict[str, Any]:
    """Call k never reaches AWS."""
    return {"before": lambda n, _action: Unreachable("connection refused") if n == k else None}


def hanging(k: int) -> dict[str, Any]:
    """Call k times out, and had no effect: all the caller knows is that no answer came."""
    return {"before": lambda n, _action: Ambiguous("read timed out") if n == k else None}


def lost(k: int) -> dict[str, Any]:
    """Call k takes effect, and its answer is lost."""
    return {"after": lambda n, _action: Ambiguous("connection closed before the answer") if n == k else None}


def dead_from(k: int) -> dict[str, Any]:
    """From call k on nothing gets through: no retry, no looking after."""
    return {"before": lambda n, _action: Unreachable("network down") if n >= k else None}


def dead_after(k: int) -> dict[str, Any]:
    """Call k takes effect, its answer is lost, and then nothing gets through any more."""
    return {
        "before": lambda n, _action: Unreachable("network down") if n > k else None,
        "after": lambda n, _action: Ambiguous("connection closed before the answer") if n == k else None,
    }


class Disturbed:
    """Wraps the door to AWS of every command, counting calls through all of them."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.fault = fault
        self.count = 0
        self.mutating: list[int] = []

    def worth(self, fault: Fault, ways: Sequence[Fault]) -> list[int]:
        """The calls to fail so: every call fails, in one way or, if it changes something, in two of many, by turns.

        What was read, and did not arrive, is as if it had never been asked for.
        """
        chosen = []
        for k in range(self.count):
            changes = k in self.mutating
            fit = [each for each in ways if changes or each not in (lost, dead_after)]
            first = k % len(fit) if fit else 0
            turn = fit if ALL_WAYS else [*fit[first:], *fit[:first]][: 2 if changes and len(ways) > 2 else 1]
            if fault in turn:
                chosen.append(k)
        return chosen

    def __call__(self, inner: Transport) -> Transport:
        faults = Faults(inner, **self.fault)
        outer = self

        class Counting:
            def send(self, operation: Any) -> Any:
                faults.count = outer.count
                if operation.mutates:
                    outer.mutating.append(outer.count)
                outer.count += 1
                return faults.send(operation)

        return Counting()


def journey(shop: Shop, wrap: Disturbed | None) -> list[Answer]:
    """Deploy a second build, promote it; after every command that fails: the network is back, and `resume`."""
    answers = []
    for words in (("deploy", "--build-id", "102"), ("promote", "102", "--to", "PROD", "--approve")):
        answer = shop.run(*words, wrap=wrap) if wrap else shop.run(*words)
        answers.append(answer)
        if answer.code != 0:
            answers.append(shop.run("resume", "--approve"))
    return answers


def end_state(shop: Shop) -> dict[str, Any]:
    """All that counts: what is published under which description, what the aliases serve, what the ledger finds."""
    client = shop.aws("lambda")
    listed = client.list_versions_by_function(FunctionName=shop.name)["Versions"]
    found = shop.ok("status", "--json").result[0]
    moves = [line["what"] for line in shop.ok("history", "--limit", "500", "--json").result if line["kind"] == "moved"]
    return {
        "versions": [(each["Version"], each["CodeSha256"], each["Description"]) for each in listed],
        "aliases": [(row["alias"], row["version"], row["build"], row["drift"]) for row in found["aliases"]],
        "unfinished": found["unfinished"],
        "moves": sorted(set(moves)),
    }


def prepared(shop: Shop) -> Shop:
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    shop.greet("two")
    return shop


@pytest.fixture
def undisturbed(shop: Shop) -> tuple[dict[str, Any], Disturbed]:
    prepared(shop)
    counter = Disturbed({})
    assert [answer.code for answer in journey(shop, counter)] == [0, 0]
    return end_state(shop), counter


FAULTS = [refused, hanging, lost, dead_from, dead_after]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_whichever_call_fails_resume_ends_where_an_undisturbed_run_ends(
    shop: Shop, undisturbed: tuple[dict[str, Any], Disturbed], fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected, counter = undisturbed
    assert counter.count >= 8
    for k in counter.worth(fault, FAULTS):
        again = shop.another(tmp_path_factory.mktemp("again") / "project", f"{shop.name}-{fault.__name__}-{k}")
        prepared(again)

        answers = journey(again, Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k}: {[(each.code, each.err) for each in answers]}"


def from_nothing(shop: Shop) -> Shop:
    """A stack that is still to be made, with a function whose name is given."""
    shop.write("stack.json", template(name=shop.name))
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "stack.json", function = "Greeter" }}'
    )
    return shop


def stacked_journey(shop: Shop, wrap: Disturbed | None) -> None:
    for words in (("deploy", "--build-id", "101"), ("promote", "101", "--to", "PROD", "--approve")):
        answer = shop.run(*words, wrap=wrap) if wrap else shop.run(*words)
        if answer.code != 0:
            shop.run("resume", "--approve")


@pytest.mark.parametrize("fault", [refused, lost, dead_after], ids=lambda each: each.__name__)
def test_from_an_empty_account_too(shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first deploy of all: the stack is made by change set, and any of those calls may fail."""
    counter = Disturbed({})
    stacked_journey(from_nothing(shop), counter)
    expected = end_state(shop)
    assert counter.count >= 15
    for k in counter.worth(fault, [refused, lost, dead_after]):
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-s-{fault.__name__.replace('_', '-')}-{k}"
        )

        stacked_journey(from_nothing(again), Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"


def stack_with_code(shop: Shop) -> Shop:
    """A stack that brings the code: each build goes to S3, and by a change set into the function."""
    document = json.loads(template(name=shop.name))
    document["Parameters"] = {"CodeKey": {"Type": "String"}, "CodeBucket": {"Type": "String"}}
    code = {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
    document["Resources"]["Greeter"]["Properties"]["Code"] = code
    shop.write("stack.json", json.dumps(document))
    s3 = shop.aws("s3")
    s3.create_bucket(Bucket=shop.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "stack.json", function = "Greeter",'
        ' code_parameters = { bucket = "CodeBucket", key = "CodeKey" } }'
    )
    path = shop.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('alias = "STAGE"', f'alias = "STAGE"\nbucket = "{shop.name}"'))
    shop.ok("deploy", "--build-id", "100")
    shop.greet("two")
    return shop


@pytest.mark.parametrize("fault", [dead_after], ids=lambda each: each.__name__)
def test_with_a_stack_that_brings_the_code_too(
    shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counter = Disturbed({})
    stacked_journey(stack_with_code(shop), counter)
    expected = end_state(shop)
    assert counter.count >= 15
    for k in counter.worth(fault, [dead_after]):
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-c-{fault.__name__.replace('_', '-')}-{k}"
        )

        stacked_journey(stack_with_code(again), Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"


def made_elsewhere(shop: Shop) -> Shop:
    """The same code, deployed by another tool as another zip, with an alias."""
    provision = f'{{ with = "existing", name = "{shop.name}" }}'
    shop.configure(provision=provision)
    version = deployed(shop, {"index.py": (shop.folder / "index.py").read_text()})
    shop.aws("lambda").create_alias(FunctionName=shop.name, Name="STAGE", FunctionVersion=version)
    return shop


@pytest.mark.parametrize("fault", [refused, lost, dead_from], ids=lambda each: each.__name__)
def test_a_function_is_taken_over_without_publishing_whichever_call_fails(
    shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counter = Disturbed({})
    stacked_journey(made_elsewhere(shop), counter)
    expected = end_state(shop)
    assert [each[0] for each in expected["versions"]] == ["$LATEST", "1"]
    for k in counter.worth(fault, [refused, lost, dead_from]):
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-t-{fault.__name__.replace('_', '-')}-{k}"
        )

        stacked_journey(made_elsewhere(again), Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"


class DisturbedTogether(Disturbed):
    """The same for calls that several threads send at once."""

    def __init__(self, fault: dict[str, Any]) -> None:
        super().__init__(fault)
        self.lock = threading.Lock()

    def __call__(self, inner: Transport) -> Transport:
        outer = self

        class Counting:
            def send(self, operation: Any) -> Any:
                faults = Faults(inner, **outer.fault)
                with outer.lock:
                    faults.count = outer.count
                    if operation.mutates:
                        outer.mutating.append(outer.count)
                    outer.count += 1
                return faults.send(operation)

        return Counting()


@pytest.mark.parametrize("fault", SEVERAL := [refused, lost, dead_from, dead_after], ids=lambda each: each.__name__)
def test_a_release_of_several_functions_ends_all_new_or_all_as_before(shop: Shop, fault: Fault) -> None:
    both = tuple(release_set.NAMES[::2])
    some = tuple(word for name in both for word in ("--function", name))
    release_set.configure(shop)
    release_set.write(shop, "zero")
    shop.ok("deploy", "--build-id", "zero", *some)
    release_set.write(shop, "counted")
    counter = DisturbedTogether({})
    shop.ok("deploy", "--build-id", "counted", *some, wrap=counter)
    assert counter.count >= 14
    served = "counted"
    for k in counter.worth(fault, SEVERAL):
        release_set.write(shop, f"word-{k}")

        answer = shop.run("deploy", "--build-id", f"b{k}", *some, wrap=DisturbedTogether(fault(k)))
        if answer.code:
            again = shop.run("resume")
            assert again.code == 0, f"call {k}: {answer.err}{again.err}"

        words = {release_set.says(shop, name) for name in both}
        assert words in ({served}, {f"word-{k}"}), f"call {k}: {answer.err}"
        (served,) = words
        status = shop.ok("status", *some, "--json").result
        assert {each["unfinished"] for each in status} == {""}, f"call {k}"
        assert {row["drift"] for each in status for row in each["aliases"]} == {""}, f"call {k}"


def test_a_failure_says_what_to_do_next(shop: Shop) -> None:
    prepared(shop)
    answer = shop.run("deploy", "--build-id", "102", wrap=Disturbed(dead_from(4)))

    assert answer.code == 1
    assert answer.err.startswith("pointsman: ")
    assert "did not finish" in shop.ok("status").out
    assert "`pointsman resume` goes on" in shop.ok("status").out


def test_nothing_to_resume_is_no_error(shop: Shop) -> None:
    prepared(shop)

    assert shop.ok("resume").out == "Nothing to resume: every run ended.\n"
