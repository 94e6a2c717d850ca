"""Several functions released as one: all new or all as before, whatever fails and wherever it is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from pointsman.aws.budget import lane_of
from pointsman.aws.operation import Operation, R, Transport
from pointsman.cli import main
from pointsman.errors import AccessDenied, Ambiguous, PointsmanError, Unreachable
from pointsman.ledger import born
from tests.journeys.conftest import CHECK, Shop, control_runtime

NAMES = ("first", "second", "third")


def write(shop: Shop, word: str, *, which: tuple[str, ...] = NAMES) -> None:
    """Other code for these: two in Python, the second in Node."""
    for name in which:
        if name == "second":
            shop.write("second/index.js", f'exports.handler = async () => ({{ word: "{word}" }});\n')
        else:
            shop.write(f"{name}/index.py", f'def handler(event, context):\n    return {{"word": "{word}"}}\n')
        shop.write(f"{name}/check.py", CHECK)


def configure(shop: Shop, *, tested: tuple[str, ...] = (), approve: bool = False) -> None:
    lines = []
    for name in NAMES:
        node = name == "second"
        lines.append(
            f"""[function.{name}]
source    = "{name}"
handler   = "index.handler"
runtime   = "{"nodejs20.x" if node else control_runtime()}"
build     = "{"node" if node else "python"}"
exclude   = ["check.py"]
provision = {{ with = "direct", name = "{shop.name}-{name}", role = "{shop.role}", memory = 128 }}
"""
        )
        if name in tested:
            lines.append(
                f"""[function.{name}.test]
integration = {{ run = "{sys.executable} check.py", junit = "report.xml" }}
"""
            )
    approval = "approve = true\n" if approve else ""
    lines.append(f'[environment.staging]\nalias = "STAGE"\n{approval}')
    lines.append('[environment.production]\nalias = "PROD"\napprove = true\n')
    shop.write("pointsman.toml", "\n".join(lines))


def serves(shop: Shop, alias: str = "STAGE") -> dict[str, str | None]:
    client = shop.aws("lambda")
    found: dict[str, str | None] = {}
    for name in NAMES:
        try:
            found[name] = client.get_alias(FunctionName=f"{shop.name}-{name}", Name=alias)["FunctionVersion"]
        except client.exceptions.ResourceNotFoundException:
            found[name] = None
    return found


def says(shop: Shop, name: str, alias: str = "STAGE") -> str:
    reply = shop.aws("lambda").invoke(FunctionName=f"{shop.name}-{name}", Qualifier=alias, Payload=b"{}")
    return json.loads(reply["Payload"].read())["word"]  # type: ignore[no-any-return]


@pytest.fixture
def trio(shop: Shop) -> Shop:
    configure(shop)
    write(shop, "one")
    return shop


class On:
    """Breaks the nth call (from 1) of an action; of every function's calls together, whatever thread sends them."""

    def __init__(self, action: str, nth: int, error: BaseException, *, after: bool = False, times: int = 1) -> None:
        self.action, self.nth, self.error, self.after, self.times = action, nth, error, after, times
        self.lock = Lock()
        self.count = 0

    def __call__(self, inner: Transport) -> Transport:
        outer = self

        class Broken:
            def send(self, operation: Operation[R]) -> R:
                struck = False
                if operation.action == outer.action:
                    with outer.lock:
                        outer.count += 1
                        struck = outer.nth <= outer.count < outer.nth + outer.times
                if struck and not outer.after:
                    raise outer.error
                reply = inner.send(operation)
                if struck:
                    raise outer.error
                return reply

        return Broken()


def test_all_are_deployed_promoted_and_rolled_back_together(trio: Shop) -> None:
    done = trio.ok("deploy", "--build-id", "1", "--json")
    assert [(each["function"], each["version"], each["moved"]) for each in done.result] == [
        (name, "1", True) for name in NAMES
    ]
    assert len({each["release"] for each in done.result}) == 1
    assert {name: says(trio, name) for name in NAMES} == dict.fromkeys(NAMES, "one")
    trio.ok("promote", "1", "--to", "PROD", "--approve")

    write(trio, "two", which=("first", "third"))
    shown = trio.ok("deploy", "--build-id", "2").out
    assert serves(trio) == {"first": "2", "second": "1", "third": "2"}
    lines = shown.splitlines()
    assert lines[0].split() == ["FUNCTION", "ALIAS", "VERSION", "WAS", "BUILD", "TESTS", "OUTCOME"]
    assert lines[2].startswith("second") and lines[2].endswith("nothing to do")

    trio.ok("promote", "2", "--to", "PROD", "--approve")  # build 2 of the second is version 1, too
    assert serves(trio, "PROD") == {"first": "2", "second": "1", "third": "2"}

    back = trio.ok("rollback", "PROD", "--json").result
    assert [each["function"] for each in back] == ["first", "third"]  # the second did not move in that release
    assert serves(trio, "PROD") == dict.fromkeys(NAMES, "1")
    nothing = trio.run("rollback", "PROD")
    assert nothing.code == 2
    assert "it was the first for all its functions" in nothing.err
    assert serves(trio) == {"first": "2", "second": "1", "third": "2"}


def test_an_unchanged_release_costs_two_reads_a_function_and_no_write(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")

    again = trio.ok("deploy", "--build-id", "2", "--json")

    assert again.calls == (6, 0)
    assert {each["outcome"] for each in again.result} == {"unchanged"}
    assert trio.run("deploy", "--build-id", "2", "--fail-if-unchanged").code == 5


def test_only_what_changed_costs_writes_and_no_more_than_alone(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two", which=("third",))

    changed = trio.ok("deploy", "--build-id", "2", "--json")

    assert changed.calls[1] == 3
    writes = [
        call["action"] for call in changed.document["calls"]["list"] if not call["action"].startswith(("Get", "L"))
    ]
    assert writes == ["UpdateFunctionCode", "PublishVersion", "UpdateAlias"]


def test_a_failing_test_of_one_moves_none_and_tells_all_that_failed(shop: Shop) -> None:
    configure(shop, tested=("first", "second", "third"))
    write(shop, "one")
    shop.ok("deploy", "--build-id", "1")
    write(shop, "two", which=("first",))
    write(shop, "bad", which=("second", "third"))

    failed = shop.run("deploy", "--build-id", "2", "--json")

    assert failed.code == 3
    error = json.loads(failed.out)["error"]
    assert "second" in error["where"]
    assert any(note.startswith("And third: ") for note in error["notes"])
    assert error["release"]["outcome"] == "not moved"
    assert [each["phase"] for each in error["release"]["members"]] == ["proved", "failed", "failed"]
    assert serves(shop) == dict.fromkeys(NAMES, "1")
    assert shop.ok("resume").out.startswith("Nothing to resume")

    write(shop, "two")
    shop.ok("deploy", "--build-id", "3")
    assert {name: says(shop, name) for name in NAMES} == dict.fromkeys(NAMES, "two")


def test_a_move_that_is_refused_takes_back_those_before_it(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    before = {name: trio.aws("lambda").get_alias(FunctionName=f"{trio.name}-{name}", Name="STAGE") for name in NAMES}
    write(trio, "two")

    failed = trio.run("deploy", "--build-id", "2", wrap=On("UpdateAlias", 2, AccessDenied("no lambda:UpdateAlias")))

    assert failed.code == 1
    assert "no lambda:UpdateAlias" in failed.err
    assert "Moved back: STAGE of first, to version 1." in failed.err
    assert serves(trio) == dict.fromkeys(NAMES, "1")
    now = trio.aws("lambda").get_alias(FunctionName=f"{trio.name}-first", Name="STAGE")
    assert now["Description"] == before["first"]["Description"] == "1"
    told = [line["what"] for line in trio.ok("history", "--json").result]
    assert "deploy: STAGE → version 2 (was 1), build 2" in told
    assert "restore: STAGE → version 1 (was 2), build 1" in told
    assert any("ended restored: no lambda:UpdateAlias" in line for line in told)
    assert trio.ok("status", "--json").result[0]["aliases"][0]["drift"] == ""
    assert trio.ok("resume").out.startswith("Nothing to resume")

    trio.ok("deploy", "--build-id", "3")  # the same code: published already, only the aliases move
    assert serves(trio) == dict.fromkeys(NAMES, "2")
    trio.ok("rollback", "STAGE")
    assert serves(trio) == dict.fromkeys(NAMES, "1")


def test_aliases_that_a_failed_release_made_are_removed_again(trio: Shop) -> None:
    failed = trio.run("deploy", "--build-id", "1", wrap=On("CreateAlias", 3, AccessDenied("no lambda:CreateAlias")))

    assert failed.code == 1
    assert "Moved back: STAGE of first, which is removed again." in failed.err
    assert serves(trio) == dict.fromkeys(NAMES, None)
    trio.ok("deploy", "--build-id", "2")
    assert serves(trio) == dict.fromkeys(NAMES, "1")


def test_a_release_that_cannot_be_taken_back_says_what_is_where_and_resume_goes_on(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")

    class Down:
        """From the second alias move on nothing gets through."""

        def __init__(self, inner: Transport) -> None:
            self.inner = inner
            self.moved = 0

        def send(self, operation: Operation[R]) -> R:
            if operation.action == "UpdateAlias" or self.moved > 1:
                self.moved += 1
            if self.moved > 1:
                raise Unreachable("network down")
            return self.inner.send(operation)

    failed = trio.run("deploy", "--build-id", "2", "--json", wrap=Down)

    assert failed.code == 1
    error = json.loads(failed.out)["error"]
    assert error["code"] == "not_restored"
    assert f"STAGE of first ({trio.name}-first) was version 1, and serves version 2 of this release" in error["what"]
    assert serves(trio) == {"first": "2", "second": "1", "third": "1"}
    assert "did not finish" in trio.ok("status").out

    resumed = trio.ok("resume", "--json").result

    assert [(each["function"], each["version"], each["outcome"]) for each in resumed] == [("first", "1", "restored")]
    assert serves(trio) == dict.fromkeys(NAMES, "1")
    assert trio.ok("resume").out.startswith("Nothing to resume")


def test_an_alias_that_somebody_else_moved_meanwhile_is_left_to_them(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    client = trio.aws("lambda")

    class Meddling:
        """Somebody points the first function's alias elsewhere right before the second is refused."""

        def __init__(self, inner: Transport) -> None:
            self.inner = inner
            self.moves = 0

        def send(self, operation: Operation[R]) -> R:
            if operation.action == "UpdateAlias":
                self.moves += 1
                if self.moves == 2:
                    client.update_alias(FunctionName=f"{trio.name}-first", Name="STAGE", FunctionVersion="$LATEST")
                    raise AccessDenied("no")
            return self.inner.send(operation)

    failed = trio.run("deploy", "--build-id", "2", wrap=Meddling)

    assert failed.code == 1
    assert "STAGE of first is left as it is: somebody else moved it on, to version $LATEST" in failed.err
    assert serves(trio) == {"first": "$LATEST", "second": "1", "third": "1"}


def test_one_approval_covers_all_and_is_in_each_ones_history(shop: Shop) -> None:
    configure(shop, approve=True)
    write(shop, "one")

    refused = shop.run("deploy", "--build-id", "1")
    assert refused.code == 3
    assert "move STAGE of first to version 1, STAGE of second to version 1, STAGE of third to version 1" in refused.err
    assert serves(shop) == dict.fromkeys(NAMES, None)

    shop.variables["POINTSMAN_APPROVED_BY"] = "the release manager"
    shop.ok("deploy", "--build-id", "2")
    approved = [line for line in shop.ok("history", "--json").result if line["kind"] == "approved"]
    assert sorted(line["function"] for line in approved) == sorted(NAMES)


def test_a_promotion_that_one_function_cannot_follow_moves_none(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two", which=("first",))
    trio.ok("deploy", "--build-id", "2", "--function", "first", "--function", "third")

    failed = trio.run("promote", "2", "--to", "PROD", "--approve")

    assert failed.code == 2
    assert serves(trio, "PROD") == dict.fromkeys(NAMES, None)
    trio.ok("promote", "2", "--to", "PROD", "--approve", "--function", "third", "--function", "first")
    assert serves(trio, "PROD") == {"first": "2", "second": None, "third": "1"}
    back = trio.run("rollback", "PROD", "--to", "1", "--approve")
    assert back.code == 1  # the second has no such alias: none goes back
    assert serves(trio, "PROD") == {"first": "2", "second": None, "third": "1"}


def test_a_saved_plan_of_several_functions_is_run_exactly_or_refused(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two", which=("first", "second"))
    shown = trio.ok("plan", "--build-id", "2", "--out", "set.plan").out
    assert [line.split(":")[0] for line in shown.splitlines() if line.startswith("deploy of")] == [
        "deploy of build 2"
    ] * 3
    assert json.loads((trio.folder / "set.plan").read_text())["schema"] == 2

    write(trio, "three")
    trio.ok("apply", "set.plan")
    assert {name: says(trio, name) for name in NAMES} == {"first": "two", "second": "two", "third": "one"}

    stale = trio.run("apply", "set.plan")
    assert stale.code == 4
    assert "nothing is left of this plan: it was applied already" in stale.err


def test_without_a_build_id_and_a_commit_one_name_is_made_for_all(trio: Shop) -> None:
    done = trio.ok("deploy", "--json").result

    assert len({each["build"] for each in done}) == 1


def test_tests_of_one_folder_take_turns_and_keep_their_outputs_apart(shop: Shop) -> None:
    """All three have the same source folder and report: run at once, each would judge another's."""
    configure(shop, tested=NAMES)
    text = (shop.folder / "pointsman.toml").read_text()
    for name in NAMES:
        text = text.replace(f'source    = "{name}"', 'source    = "."').replace("nodejs20.x", control_runtime())
    shop.write("pointsman.toml", text.replace('"node"', '"python"'))
    shop.greet("hello")
    shop.write("check.py", CHECK)

    done = shop.ok("deploy", "--build-id", "1", "--json").result

    logs = {file for each in done for file in each["tests"]["integration"]["files"]}
    assert len(logs) == 3
    assert {each["tests"]["integration"]["tests"] for each in done} == {1}


class Throttling:
    """Counts the calls of Lambda's control plane in every second as they are sent."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.lock = Lock()

    def __call__(self, inner: Transport) -> Transport:
        outer = self

        class Stamped:
            def send(self, operation: Operation[R]) -> R:
                if lane_of(operation)[0] == "lambda":
                    with outer.lock:
                        outer.at.append(time.monotonic())
                return inner.send(operation)

        return Stamped()


def test_all_threads_share_one_budget_of_calls(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    path = trio.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('role = "', 'timeout = 9, role = "'))  # a write more for each of them
    stamps = Throttling()

    began = time.monotonic()
    trio.ok("deploy", "--build-id", "2", wrap=stamps)

    assert len(stamps.at) > 15
    for number, at in enumerate(sorted(stamps.at)):  # late, if their thread was woken late; never early
        assert at - began >= number // 15


def until(look: Callable[[], R]) -> R:
    """What it finds, once it finds anything."""
    end = time.monotonic() + 100
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


STEP_BY_STEP = """
import os, signal, sys, threading
from pointsman.cli import main

when, kind = sys.argv[1], getattr(signal, sys.argv[3])
only, _, k = sys.argv[2].rpartition(":")  # the kth call of all, or of one action
signal.signal(signal.SIGTERM, signal.default_int_handler)
lock, count = threading.Lock(), 0

class Killing:
    def __init__(self, inner):
        self.inner = inner
    def send(self, operation):
        global count
        # After a read everything is as before it: what is killed there is killed by "before" already.
        if only not in ("", operation.action) or (when == "after" and not operation.mutates):
            return self.inner.send(operation)
        with lock:
            number, count = count, count + 1
        if number == int(k) and when == "before":
            os.kill(os.getpid(), kind)
        reply = self.inner.send(operation)
        if number == int(k) and when == "after":
            os.kill(os.getpid(), kind)
        return reply

code = main(sys.argv[4:], wrap=Killing)
print("calls", count, file=sys.stderr)
sys.exit(code)
"""


def disturbed(shop: Shop, when: str, k: int | str, kind: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(STEP_BY_STEP), when, str(k), kind, *words]
    environ = {**os.environ, **shop.variables}
    shop.rest()
    return subprocess.run(command, cwd=shop.folder, env=environ, capture_output=True, text=True, check=False)


def calls_of(shop: Shop, when: str, *words: str) -> int:
    """How many calls there are to be killed before, or how many that change something to be killed after."""
    done = disturbed(shop, when, -1, "SIGKILL", *words)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_resume_ends_with_all_new_or_all_as_before(trio: Shop, when: str) -> None:
    """A deploy of three, killed with -9 at each of its calls in turn: `resume`, and never is there a mixture."""
    trio.ok("deploy", "--build-id", "b0")
    write(trio, "b1")
    calls = calls_of(trio, when, "deploy", "--build-id", "b1")
    assert calls >= {"before": 15, "after": 9}[when]
    build, outcomes = "b1", []
    for k in range(calls):
        old, build = build, f"{when}-{k}"
        write(trio, build)

        done = disturbed(trio, when, k, "SIGKILL", "deploy", "--build-id", build)

        if done.returncode != 0:
            resumed = trio.run("resume")
            assert resumed.code == 0, f"call {k}: {resumed.err}"
        now = {says(trio, name) for name in NAMES}
        assert len(now) == 1, f"call {k}: {now}"
        assert now <= {old, build}
        outcomes.append(now == {build})
        status = trio.ok("status", "--json").result
        assert {each["unfinished"] for each in status} == {""}, f"call {k}"
        assert {row["drift"] for each in status for row in each["aliases"]} == {""}, f"call {k}"
    assert all(outcomes)  # nothing failed but the process: every release was finished


@pytest.mark.parametrize("words", [("promote", "2", "--to", "PROD", "--approve"), ("rollback", "PROD")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_promotion_or_rollback_killed_at_any_call_is_finished_by_resume(
    trio: Shop, when: str, words: tuple[str, ...]
) -> None:
    to_two, to_one = ("promote", "2", "--to", "PROD", "--approve"), ("rollback", "PROD")
    trio.ok("deploy", "--build-id", "1")
    trio.ok("promote", "1", "--to", "PROD", "--approve")
    write(trio, "two")
    trio.ok("deploy", "--build-id", "2")
    there, first, then = ("2", to_two, to_one) if words == to_two else ("1", to_one, to_two)
    if words == to_one:
        trio.ok(*to_two)
    calls = calls_of(trio, when, *first)
    assert calls >= {"before": 6, "after": 3}[when]
    for k in range(calls):
        trio.ok(*then)

        assert disturbed(trio, when, k, "SIGKILL", *first).returncode == -signal.SIGKILL
        trio.ok("resume", "--approve")

        assert serves(trio, "PROD") == dict.fromkeys(NAMES, there), f"call {k}"


@pytest.mark.parametrize("some", [(), ("--function", "third")], ids=["all", "one"])
def test_the_next_deploy_finishes_what_was_killed_while_it_moved_first(trio: Shop, some: tuple[str, ...]) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    trio.ok("deploy", "--build-id", "2")
    write(trio, "three")
    assert (
        disturbed(trio, "after", "UpdateAlias:0", "SIGKILL", "deploy", "--build-id", "3").returncode == -signal.SIGKILL
    )
    write(trio, "bad", which=("third",))
    configure(trio, tested=("third",))

    failed = trio.run("deploy", "--build-id", "4", "-v", *some)

    assert failed.code == 3
    assert "first the deploy that was interrupted while it moved" in failed.err
    assert {name: says(trio, name) for name in NAMES} == dict.fromkeys(NAMES, "three")


def test_resume_takes_all_back_where_somebody_else_moved_one_since(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    trio.ok("deploy", "--build-id", "2")
    write(trio, "three")
    assert (
        disturbed(trio, "after", "UpdateAlias:0", "SIGKILL", "deploy", "--build-id", "3").returncode == -signal.SIGKILL
    )
    assert serves(trio) == {"first": "3", "second": "2", "third": "2"}
    trio.aws("lambda").update_alias(FunctionName=f"{trio.name}-third", Name="STAGE", FunctionVersion="1")

    refused = trio.run("resume")

    assert refused.code == 4
    assert "Moved back: STAGE of first, to version 2." in refused.err
    assert serves(trio) == {"first": "2", "second": "2", "third": "1"}
    assert trio.ok("resume").out.startswith("Nothing to resume")


def test_resume_moves_nothing_forward_that_somebody_else_took_back(trio: Shop) -> None:
    """Another machine, whose rollback this ledger knows nothing of."""
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    assert disturbed(trio, "after", "UpdateAlias:1", "SIGKILL", "deploy", "--build-id", "2").returncode < 0
    trio.aws("lambda").update_alias(FunctionName=f"{trio.name}-first", Name="STAGE", FunctionVersion="1")

    refused = trio.run("resume")

    assert refused.code == 4
    assert serves(trio) == dict.fromkeys(NAMES, "1")


@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_interrupted_while_it_moves_everything_goes_back(trio: Shop, kind: str) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    trio.ok("deploy", "--build-id", "2")
    write(trio, "three")

    done = disturbed(trio, "after", "UpdateAlias:1", kind, "deploy", "--build-id", "3")

    assert done.returncode == 130, done.stderr
    assert "Moved back: STAGE of first, to version 2." in done.stderr
    assert serves(trio) == dict.fromkeys(NAMES, "2")
    assert trio.ok("resume").out.startswith("Nothing to resume")


def test_interrupted_while_it_proves_nothing_moved_and_resume_goes_on(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")

    done = disturbed(trio, "before", 9, "SIGINT", "deploy", "--build-id", "2")

    assert done.returncode == 130
    assert serves(trio) == dict.fromkeys(NAMES, "1")
    trio.ok("resume")
    assert serves(trio) == dict.fromkeys(NAMES, "2")


def test_rolling_back_a_release_that_was_killed_while_it_moved_puts_it_back(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    trio.ok("deploy", "--build-id", "2")
    write(trio, "three")
    assert (
        disturbed(trio, "after", "UpdateAlias:1", "SIGKILL", "deploy", "--build-id", "3").returncode == -signal.SIGKILL
    )
    assert len(set(serves(trio).values())) == 2

    trio.ok("rollback", "STAGE")

    assert serves(trio) == dict.fromkeys(NAMES, "2")
    assert trio.ok("resume").out.startswith("Nothing to resume")


@pytest.mark.parametrize(
    ("action", "error", "after"),
    [
        ("UpdateAlias", Ambiguous("closed"), True),
        ("UpdateAlias", Ambiguous("closed"), False),
        ("PublishVersion", Ambiguous("closed"), True),
        ("PublishVersion", Unreachable("down"), False),
        ("UpdateFunctionCode", Unreachable("down"), False),
    ],
)
def test_any_call_of_any_member_may_fail(trio: Shop, action: str, error: PointsmanError, after: bool) -> None:
    trio.ok("deploy", "--build-id", "0")
    for nth in (1, 2, 3):
        write(trio, f"{nth}")
        failed = trio.run("deploy", "--build-id", f"{nth}", wrap=On(action, nth, error, after=after))
        if failed.code:
            trio.run("resume")
        assert {says(trio, name) for name in NAMES} == {f"{nth}"}


def stack(shop: Shop, memory: int) -> None:
    """One template with two functions."""
    from tests.journeys.test_cloudformation import template

    one: dict[str, Any] = json.loads(template(memory=memory))
    one["Resources"]["Other"] = json.loads(template(memory=memory))["Resources"]["Greeter"]
    shop.write("stack.json", json.dumps(one))


@pytest.fixture
def pair(shop: Shop) -> Shop:
    stack(shop, 128)
    shop.greet("hello")
    lines = [
        f"""[function.{name}]
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
exclude   = ["stack.json"]
provision = {{ with = "cloudformation", stack = "{shop.name}", template = "stack.json", function = "{logical}" }}
"""
        for name, logical in (("greeter", "Greeter"), ("other", "Other"))
    ]
    shop.write("pointsman.toml", "\n".join(lines) + '[environment.staging]\nalias = "STAGE"\n')
    return shop


def change_sets(answer_calls: list[dict[str, Any]]) -> int:
    return sum(call["action"] == "CreateChangeSet" for call in answer_calls)


def test_two_functions_of_one_stack_are_one_change_set(pair: Shop) -> None:
    made = pair.ok("deploy", "--build-id", "1", "--json").document
    assert change_sets(made["calls"]["list"]) == 1
    assert [each["version"] for each in made["result"]] == ["1", "1"]

    assert pair.ok("deploy", "--build-id", "2", "--json").calls == (4, 0)

    stack(pair, 256)
    pair.greet("good evening")
    changed = pair.ok("deploy", "--build-id", "3", "--json").document
    assert change_sets(changed["calls"]["list"]) == 1
    for each in changed["result"]:
        found = pair.aws("lambda").get_function_configuration(FunctionName=each["name"], Qualifier="STAGE")
        assert (found["MemorySize"], found["Version"]) == (256, "2")


def test_a_stack_that_fails_is_not_tried_for_each_of_its_functions(pair: Shop) -> None:
    failed = pair.run("deploy", "--build-id", "1", "--json", wrap=On("CreateChangeSet", 1, AccessDenied("no")))

    assert failed.code == 1
    assert change_sets(failed.document["calls"]["list"]) == 1
    assert failed.document["error"]["what"].endswith("no")


def test_an_alias_that_the_stack_made_is_put_back_and_never_removed(pair: Shop) -> None:
    one: dict[str, Any] = json.loads((pair.folder / "stack.json").read_text())
    for name in ("Greeter", "Other"):
        function, version = {"FunctionName": {"Ref": name}}, {"Fn::GetAtt": [f"{name}Version", "Version"]}
        one["Resources"] |= {
            f"{name}Version": {"Type": "AWS::Lambda::Version", "Properties": function},
            f"{name}Alias": {
                "Type": "AWS::Lambda::Alias",
                "Properties": {**function, "FunctionVersion": version, "Name": "STAGE"},
            },
        }
    pair.write("stack.json", json.dumps(one))
    file = (pair.folder / "pointsman.toml").read_text()
    pair.write("pointsman.toml", file.replace("template =", 'stack_alias = "move", template ='))

    failed = pair.run("deploy", "--build-id", "1", wrap=On("UpdateAlias", 2, AccessDenied("no")))

    assert failed.code == 1
    assert "Moved back: STAGE of greeter, to version 1." in failed.err
    client = pair.aws("lambda")
    for each in pair.aws("cloudformation").describe_stack_resources(StackName=pair.name)["StackResources"]:
        if each["ResourceType"] == "AWS::Lambda::Function":
            found = client.get_alias(FunctionName=each["PhysicalResourceId"], Name="STAGE")
            assert found["FunctionVersion"] == "1"


def test_a_release_that_stops_keeps_its_reports(trio: Shop) -> None:
    configure(trio, tested=("second",))
    write(trio, "bad", which=("second",))

    failed = trio.run("deploy", "--build-id", "1")

    assert failed.code == 3
    log = Path(failed.err.split("Their output: ")[1].split()[0])
    assert log.exists()


@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_interrupted_while_it_builds_it_ends_at_once_and_so_do_the_commands(trio: Shop, kind: str) -> None:
    """Commands have process groups of their own, and threads get no signal: somebody has to tell them."""
    text = (trio.folder / "pointsman.toml").read_text()
    command = 'build     = "command"\ncommand   = "touch began-$$; sleep 300"\nartifact  = "index.js"'
    trio.write("pointsman.toml", text.replace('build     = "node"', command))
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman", "deploy"],
        cwd=trio.folder,
        env={**os.environ, **trio.variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        began = until(lambda: list((trio.folder / "second").glob("began-*")))
        process.send_signal(getattr(signal, kind))
        _out, err = process.communicate(timeout=100)
    finally:
        process.kill()

    assert process.returncode == 130, err
    shell = int(began[0].name.removeprefix("began-"))
    assert born(shell) == ""  # dead, though perhaps not reaped yet


def test_a_move_without_an_answer_that_is_taken_back_says_nothing_of_resuming(trio: Shop) -> None:
    trio.ok("deploy", "--build-id", "1")
    write(trio, "two")
    error = Ambiguous("no answer", next="It may have taken effect: `pointsman resume` looks, and goes on from there.")

    failed = trio.run("deploy", "--build-id", "2", wrap=On("UpdateAlias", 2, error, times=3))

    assert failed.code == 1
    assert "Moved back: STAGE of first, to version 1." in failed.err
    assert "pointsman resume" not in failed.err
    assert "Nothing is left to resume: deploy again" in failed.err
    assert serves(trio) == dict.fromkeys(NAMES, "1")
    assert trio.ok("resume").out.startswith("Nothing to resume")


class Pressed(io.StringIO):
    """Somebody presses Ctrl-C at its first line."""

    def write(self, text: str, /) -> int:
        raise KeyboardInterrupt


@pytest.mark.parametrize("words", [("build",), ("plan",)])
def test_interrupted_before_anything_began_there_is_nothing_to_resume(
    trio: Shop, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in trio.variables.items():
        monkeypatch.setenv(name, value)
    err = io.StringIO()

    code = main(("-f", str(trio.folder / "pointsman.toml"), *words), out=Pressed(), err=err)

    assert code == 130
    assert "Nothing is left to resume" in err.getvalue()
    assert "goes on where it stopped" not in err.getvalue()
    assert "Nothing to resume" in trio.ok("resume").out


def test_interrupted_once_it_began_resume_goes_on(shop: Shop) -> None:
    shop.configure(test='[function.greeting.test]\nunit = { run = "kill -INT $PPID; sleep 20" }')

    done = disturbed(shop, "before", -1, "SIGINT", "deploy")

    assert done.returncode == 130, done.stderr
    assert "`pointsman resume` goes on where it stopped" in done.stderr
    shop.configure()
    shop.ok("resume")
    assert shop.serves("STAGE") == "1"


def test_tests_that_passed_without_a_report_are_told_as_passed(trio: Shop) -> None:
    configure(trio, tested=("first", "third"))
    file = trio.folder / "pointsman.toml"
    file.write_text(file.read_text().replace(', junit = "report.xml"', ""))

    done = trio.ok("deploy", "--build-id", "1")
    assert [line.count("integration: passed") for line in done.out.splitlines() if line.startswith("first")] == [1]
    assert [line.count("passed") for line in done.out.splitlines() if line.startswith("second")] == [0]

    write(trio, "two")
    told = trio.ok("deploy", "--build-id", "2", "--json").result
    nothing_counted = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0, "failed": [], "files": []}
    assert [each["tests"] for each in told] == [{"integration": nothing_counted}, {}, {"integration": nothing_counted}]
