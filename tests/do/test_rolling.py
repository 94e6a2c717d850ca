"""Rollouts in a small AWS in memory: the real command line, the real ledger, and time that passes when it is slept.

Whatever is killed, lost, refused, asked or moved on the way: the rollout ends as an undisturbed one does, or says
whose the alias is now.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pointsman import config, leases, rollout_record
from pointsman import rollout as machine
from pointsman.aws.operation import Operation, R, Transport
from pointsman.aws.transports import Faults
from pointsman.cli import main
from pointsman.errors import Ambiguous, AwsError, PreconditionFailed, Unreachable
from pointsman.ledger import Ledger
from pointsman.model import AliasName, FunctionArn, FunctionName, Version
from pointsman.rollout import DriftSeen, Policy, advance
from pointsman.story import Story, tell
from pointsman.world import World
from tests.fakes import FakeClock
from tests.small_aws import ARN, Served, SmallAws, denied

STEPS = 'rollout = { steps = [20, 50], bake = "1s", minimum = 10, hold = "10s", early = false }'


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        return json.loads(self.out)["result"]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


class Fate:
    """Counts the moments at which a process may be killed, and kills it at one: the disk stays as it is then.

    A moment is a write to the ledger or a call that changed something at AWS: killed anywhere until the next of them,
    a process leaves the same behind. A write is seen at the next call or reading of the clock, which comes before the
    next write at the latest.
    """

    def __init__(self, ledger: Path, target: int = -1) -> None:
        self.ledger = ledger
        self.target = target
        self.moments = 0
        self.dead = False
        self.disk = ledger.parent / "as-it-was"
        self._looking: sqlite3.Connection | None = None
        self._seen = -1

    def look(self) -> None:
        if self.dead:
            raise Killed
        if self._looking is None and self.ledger.exists():
            self._looking = sqlite3.connect(self.ledger, isolation_level=None)
        if self._looking is not None:
            seen = self._looking.execute("PRAGMA data_version").fetchone()[0]
            if seen != self._seen:
                self._seen = seen
                self.moment()

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.target:
            self.dead = True
            shutil.rmtree(self.disk, ignore_errors=True)
            self.disk.mkdir(parents=True)
            for suffix in ("", "-wal"):
                if (path := self.ledger.with_name(self.ledger.name + suffix)).exists():
                    shutil.copy(path, self.disk / path.name)
            raise Killed

    def over(self) -> None:
        """What handlers wrote on the way out, a killed process does not write."""
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        if self.dead:
            for suffix in ("", "-wal", "-shm"):
                path = self.ledger.with_name(self.ledger.name + suffix)
                path.unlink(missing_ok=True)
                if (kept := self.disk / path.name).exists():
                    shutil.copy(kept, path)


class Mortal:
    """The door to AWS of a process with a fate."""

    def __init__(self, inner: Transport, fate: Fate) -> None:
        self.inner, self.fate = inner, fate

    def send(self, operation: Operation[R]) -> R:
        self.fate.look()
        reply = self.inner.send(operation)
        if operation.mutates:
            self.fate.moment()
        return reply


class Watched(FakeClock):
    """A clock that tells when it is read, and what time passes for whom."""

    def __init__(self, world: FakeClock, read: Callable[[], None]) -> None:
        super().__init__()
        self.world, self.read = world, read

    def now(self) -> float:
        self.read()
        return self.world.time

    def sleep(self, seconds: float) -> None:
        self.read()
        self.world.sleep(seconds)


@dataclass
class Shop:
    """A project with two versions on the small AWS, PROD at the first."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    aws: SmallAws = field(init=False)
    before: int = 0  # runs in the ledger when the test begins

    def __post_init__(self) -> None:
        self.aws = SmallAws(self.clock)
        self.aws.publish(b"one")
        self.aws.publish(b"two")
        self.aws.point("PROD", Served("1"), "101")
        self.configure()

    def configure(self, rollout: str = STEPS, more: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "pointsman.toml").write_text(
            f"""
[function.greeting]
build     = "zip"
artifact  = "code.zip"
handler   = "index.handler"
runtime   = "python3.12"
provision = {{ with = "existing", name = "greeting" }}

[environment.production]
alias = "PROD"
{rollout}
{more}
"""
        )

    @property
    def ledger(self) -> Path:
        home = self.folder / ".pointsman"
        return (home / "local" if "AWS_ENDPOINT_URL" in os.environ else home) / "ledger.db"

    def run(
        self, *words: str, wrap: Callable[[Transport], Transport] | None = None, clock: FakeClock | None = None
    ) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        here = Path.cwd()
        os.chdir(self.folder)

        def door(inner: Transport) -> Transport:
            return wrap(self.aws) if wrap else self.aws

        try:
            code = main(words, out=out, err=err, wrap=door, clock=clock or self.clock)
        finally:
            os.chdir(here)
        return Answer(code, out.getvalue(), err.getvalue())

    def runs(self) -> int:
        """How many commands are in the ledger."""
        if not self.ledger.exists():
            return 0
        ledger = Ledger(self.ledger, now=lambda: self.clock.time)
        try:
            return sum(1 for _ in ledger.runs())
        finally:
            ledger.close()

    def half_way(self, *words: str, moments: int = 3) -> None:
        """A promotion whose watcher dies so many moments after the first weight was set; its lease ran out."""
        fate = Fate(self.ledger)

        class Door(Mortal):
            def send(self, operation: Operation[R]) -> R:
                reply = super().send(operation)
                if operation.action == "UpdateAlias" and fate.target < 0:
                    fate.target = fate.moments + moments
                return reply

        try:
            words = words or PROMOTE
            answer = self.run(*words, wrap=lambda inner: Door(inner, fate), clock=Watched(self.clock, fate.look))
            raise AssertionError(f"not killed: {answer}")
        except Killed:
            self.clock.time += 60
        finally:
            fate.over()

    def ok(self, *words: str) -> Answer:
        answer = self.run(*words)
        assert answer.code == 0, f"{words}: {answer}"
        return answer

    def mortal(self, target: int, *words: str) -> tuple[Answer | None, int]:
        """What it came to (None: killed), and how many moments there were."""
        fate = Fate(self.ledger, target)
        try:
            return self.run(*words, wrap=lambda inner: Mortal(inner, fate), clock=Watched(self.clock, fate.look)), (
                fate.moments
            )
        except Killed:
            return None, fate.moments
        finally:
            fate.over()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """On a disk in memory where there is one: thousands of entries are made durable here, one by one."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "POINTSMAN_", "GITHUB_", "CI")):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # a rehearsal: periods of a second
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PATH": "/nowhere",  # no git: who asks is the machine's
    }.items():
        monkeypatch.setenv(name, value)
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    made = memory / f"pointsman-{os.getpid()}-{tmp_path.name}"
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def shop(folder: Path) -> Shop:
    return Shop(folder / "shop")


def packed(word: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("index.py", word)
    return body.getvalue()


def test_the_rollout_meant_is_the_one_that_is_open_and_of_the_function_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", now=lambda: 1.0)

    def opened(identity: str, function: str, *, ended: bool) -> None:
        began = machine.begin(Policy(steps=()), baseline=Version("1"), canary=Version("2"), revision="r", at=1.0)
        known = rollout_record.Opened(
            id=identity, function=function, name=FunctionName(function), environment="production",
            alias=AliasName("PROD"), by="ada", at=1.0, description="", rollout=began,
        )  # fmt: skip
        arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{function}"
        ledger.append(identity, "rollout", function=arn, subject="PROD", opened=known)
        if ended:
            after, _ = machine.advance(began, machine.AbortAsked(at=2.0, by="ada"))
            facts: dict[str, Any] = {"rollout": after, "signal": machine.Tick(at=2.0), "heard": 0, "token": 1}
            ledger.append(identity, "rollout-state", function=arn, subject=identity, **facts)

    def meant(*asked: Any) -> str:
        found = rollout_record.called(ledger, *asked)
        return found.opened.id if found else ""

    assert meant("PROD") == ""
    opened("first", "a", ended=True)
    assert meant("PROD") == meant() == "first"
    opened("second", "a", ended=False)
    opened("third", "b", ended=True)
    assert meant("PROD") == meant("production") == meant() == "second", "the newest has ended"
    assert meant("PROD", ["b"]) == meant("third") == "third"
    assert meant("PROD", ["a"]) == "second"
    assert meant("STAGE") == meant("PROD", ["c"]) == ""
    ledger.close()


# Killed, and every call failing: it ends as if it had not been


GATES = """
[[environment.production.gates]]
when = "before"
run  = "exit 0"
[[environment.production.gates]]
when = "traffic"
run  = "exit 0"
[[environment.production.gates]]
when = "step"
run  = "exit 0"
[[environment.production.gates]]
when = "full"
run  = "exit 0"
[[environment.production.gates]]
when = "after"
run  = "exit 0"
"""
EVERY = int(os.environ.get("POINTSMAN_EVERY", "12"))
"""So many moments, or calls, on from one that is tried to the next. With 1 it takes minutes."""
PROMOTE = ("promote", "2", "--to", "PROD")


@dataclass(frozen=True)
class Journey:
    """`prepare` makes the world; `words` are typed; it ends with `code`."""

    prepare: Callable[[Shop], None]
    words: tuple[str, ...] = PROMOTE
    code: int = 0
    by_rollout: bool = True  # whether `rollout resume` means the same as `resume`
    outcome: str = "promoted"  # of the newest rollout


def healthy(shop: Shop) -> None:
    pass


def bad(shop: Shop) -> None:
    shop.aws.rates["2"] = 0.5


def gated(shop: Shop) -> None:
    """A gate at every moment; and version 1 keeps environments ready: the canary gets as many."""
    shop.configure(more=GATES)
    shop.aws.keep("1", 2)


def refused_after(shop: Shop) -> None:
    """All traffic has moved, and goes back."""
    gated(shop)
    shop.configure(more=GATES.replace('when = "after"\nrun  = "exit 0"', 'when = "after"\nrun  = "exit 1"'))


def at_once(shop: Shop) -> None:
    """No steps, but gates."""
    gated(shop)
    gates = GATES.replace('[[environment.production.gates]]\nwhen = "step"\nrun  = "exit 0"\n', "")
    shop.configure(rollout='rollout = { type = "AllAtOnce" }', more=gates)


def third(shop: Shop) -> None:
    """The rollout of version 2 is half-way and unattended when version 3 is wanted."""
    shop.aws.publish(b"three")
    shop.half_way()


def half_way(shop: Shop) -> None:
    """Version 2 was deployed, 3 is half-way and unattended: the way back is to 2, and no further."""
    shop.aws.publish(b"three")
    shop.ok("promote", "2", "--to", "PROD", "--all-at-once")
    shop.half_way("promote", "3", "--to", "PROD")


def deployed(shop: Shop) -> None:
    (shop.folder / "code.zip").write_bytes(packed("def handler(event, context): pass"))


def alias_ready(shop: Shop) -> None:
    """The alias itself keeps environments ready: AWS holds the version before, at the end. And back over that again."""
    refused_after(shop)
    del shop.aws.kept["1"]
    shop.aws.keep("PROD", 2)


JOURNEYS = {
    "healthy": Journey(healthy),
    "bad": Journey(bad, code=3, outcome="rolled back"),
    "gated": Journey(gated),
    "refused after": Journey(refused_after, code=3, outcome="rolled back"),
    "at once": Journey(at_once),
    "third": Journey(third, ("promote", "3", "--to", "PROD", "--supersede"), by_rollout=False),
    "aborted": Journey(half_way, ("rollout", "abort", "PROD"), by_rollout=False, outcome="rolled back"),
    "rollback": Journey(half_way, ("rollback", "PROD"), by_rollout=False, outcome="rolled back"),
    "deployed": Journey(deployed, ("deploy", "--to", "PROD", "--build-id", "102")),
    "alias ready": Journey(alias_ready, code=3, outcome="rolled back"),
}


def begun(folder: Path, journey: Journey) -> Shop:
    shop = Shop(folder)
    journey.prepare(shop)
    shop.before = shop.runs()
    return shop


def end_state(shop: Shop) -> dict[str, Any]:
    """All that counts: what is served and kept ready, what the ledger finds, and that nothing is left open."""
    ledger = Ledger(shop.ledger, now=lambda: shop.clock.time)
    try:
        rollouts = list(rollout_record.listed(ledger))
        return {
            "alias": shop.aws.shown(),
            "kept": shop.aws.provisioned(),
            "versions": len(shop.aws.versions),
            "rollouts": [
                (each.rollout.baseline, each.rollout.canary, type(each.rollout.state).__name__) for each in rollouts
            ],
            "blind": [
                each for each in rollouts if "nothing could be measured" in getattr(each.rollout.state, "why", "")
            ],
            "told": [story_of(ledger, each).outcome for each in rollouts],
            "moves": [(each.was, each.version) for each in ledger.moves(FunctionArn.parse(ARN), "PROD")],
            "unfinished": getattr(ledger.unfinished(), "id", None),
            "leases": ledger.leases(),
            "set aside": [
                body["provisioned"]
                for each in list(ledger.all_of("rollout-provisioned"))[:1]
                if not (body := each.body)["done"]
            ],
        }
    finally:
        ledger.close()


def story_of(ledger: Ledger, there: rollout_record.Known) -> Story:
    told = rollout_record.prologue(ledger, there)
    for _entry, signal in rollout_record.signals(ledger, there.opened.id):
        told = tell(told, signal)
    return told


def finished(shop: Shop, journey: Journey, number: int) -> list[Answer]:
    """What a person types after it broke off, on another machine: until there is nothing to resume."""
    shop.clock.time += 60  # the dead one's lease ends by itself
    if shop.runs() == shop.before:  # it had not even begun
        return [shop.run(*journey.words)]
    answers = [shop.run("rollout", "resume", "PROD") if number % 2 and journey.by_rollout else shop.run("resume")]
    if answers[-1].code == 2:
        answers.append(shop.run("resume"))
    return answers


@pytest.mark.parametrize("name", JOURNEYS)
def test_killed_at_any_moment_it_goes_on_elsewhere_and_ends_the_same(folder: Path, name: str) -> None:
    journey = JOURNEYS[name]
    shop = begun(folder / "undisturbed", journey)
    answer, moments = shop.mortal(-1, *journey.words)
    assert answer is not None
    assert answer.code == journey.code, answer
    expected = end_state(shop)
    assert (expected["unfinished"], expected["leases"], expected["set aside"]) == (None, (), [])
    assert expected["told"][0] == journey.outcome
    for moment in range(1 + len(name) % EVERY, moments + 1, EVERY):
        again = begun(folder / f"{moment}", journey)

        killed, _ = again.mortal(moment, *journey.words)
        answers = finished(again, journey, moment)

        assert killed is None
        assert end_state(again) == expected, f"killed at moment {moment} of {moments}: {answers}"


def refused(k: int) -> dict[str, Any]:
    return {"before": lambda n, _action: Unreachable("connection refused") if n == k else None}


def hanging(k: int) -> dict[str, Any]:
    return {"before": lambda n, _action: Ambiguous("read timed out") if n == k else None}


def lost(k: int) -> dict[str, Any]:
    return {"after": lambda n, _action: Ambiguous("connection closed before the answer") if n == k else None}


def dead_from(k: int) -> dict[str, Any]:
    return {"before": lambda n, _action: Unreachable("network down") if n >= k else None}


def dead_after(k: int) -> dict[str, Any]:
    return {
        "before": lambda n, _action: Unreachable("network down") if n > k else None,
        "after": lambda n, _action: Ambiguous("connection closed before the answer") if n == k else None,
    }


class Counted:
    """All doors of one command, with their calls counted through."""

    def __init__(self, aws: SmallAws, fault: dict[str, Any]) -> None:
        self.faults = Faults(aws, **fault)
        self.mutating: list[int] = []

    def wrap(self, _inner: Transport) -> Transport:
        return self

    def send(self, operation: Operation[R]) -> R:
        if operation.mutates:
            self.mutating.append(self.faults.count)
        return self.faults.send(operation)


@pytest.mark.parametrize("name", JOURNEYS)
def test_whichever_call_fails_it_ends_the_same(folder: Path, name: str) -> None:
    """What was read, and did not arrive, is asked for again: only a network that stays away makes a difference."""
    journey = JOURNEYS[name]
    shop = begun(folder / "undisturbed", journey)
    counted = Counted(shop.aws, {})
    assert shop.run(*journey.words, wrap=counted.wrap).code == journey.code
    expected = end_state(shop)
    ways = (lost, dead_after) if EVERY > 1 else (refused, hanging, lost, dead_after)
    faults = [(k, fault) for k in counted.mutating for fault in ways]
    faults += [(k, dead_from) for k in range(len(name) % EVERY, counted.faults.count, EVERY)]
    for k, fault in faults:
        again = begun(folder / f"{fault.__name__}-{k}", journey)

        door = Counted(again.aws, fault(k))
        answers = [again.run(*journey.words, wrap=door.wrap)]
        if answers[0].code != journey.code:
            answers += finished(again, journey, k)

        found = end_state(again)
        if found["blind"]:  # for longer than `hold`: then it is to go back, and so it does
            before = begun(folder / f"{fault.__name__}-{k}-before", journey)
            assert (found["alias"], found["kept"]) == ((Served("1"), "101"), before.aws.provisioned())
            assert (found["unfinished"], found["leases"], found["set aside"]) == (None, (), [])
        else:
            assert found == expected, f"call {k} {fault.__name__}: {answers}"


# Asked for, at any time


def asked(shop: Shop, *whats: rollout_record.Ask) -> None:
    """By somebody at another machine, who does not wait for what comes of it."""
    project, local = config.load(shop.folder / "pointsman.toml"), "AWS_ENDPOINT_URL" in os.environ
    world = World(project=project, environ=os.environ, clock=shop.clock, local=local)
    try:
        if there := next(rollout_record.listed(world.ledger), None):
            for what in whats:
                rollout_record.ask(world, there, what)
    finally:
        world.close()


class Beside:
    """The door, and what happens beside before its calls of these numbers."""

    def __init__(self, aws: SmallAws, happens: dict[int, Callable[[], None]]) -> None:
        self.aws, self.happens, self.count = aws, happens, 0

    def wrap(self, _inner: Transport) -> Transport:
        return self

    def send(self, operation: Operation[R]) -> R:
        if happens := self.happens.get(self.count):
            happens()
        self.count += 1
        return self.aws.send(operation)


def calls_of(folder: Path, prepare: Callable[[Shop], None] = healthy) -> int:
    shop = begun(folder, Journey(prepare))
    door = Beside(shop.aws, {})
    assert shop.run(*PROMOTE, wrap=door.wrap).code == 0
    return door.count


@pytest.mark.parametrize("whats", [("abort",), ("skip",), ("pause", "abort"), ("abort", "resume"), ("skip", "skip")])
def test_asks_are_heard_at_any_call(folder: Path, whats: tuple[rollout_record.Ask, ...]) -> None:
    for k in range(len(whats), calls_of(folder / "undisturbed"), EVERY):
        shop = Shop(folder / f"{k}")
        door = Beside(shop.aws, {k: partial(asked, shop, *whats)})

        answer = shop.run(*PROMOTE, wrap=door.wrap)

        found = end_state(shop)
        assert (found["unfinished"], found["leases"]) == (None, ())
        aborted = "abort" in whats and found["told"] == ["rolled back"]
        assert aborted or answer.code == 0, f"{whats} before call {k}: {answer}"
        assert found["alias"] == ((Served("1"), "101") if aborted else (Served("2"), "")), f"{whats} before call {k}"


def test_pause_holds_until_resume_whenever_they_come(folder: Path) -> None:
    shop = Shop(folder / "shop")

    def later() -> None:
        held.append(shop.clock.time)

    held: list[float] = []
    door = Beside(shop.aws, {14: lambda: asked(shop, "pause"), 60: later, 61: lambda: asked(shop, "resume")})

    answer = shop.run(*PROMOTE, wrap=door.wrap)

    assert answer.code == 0
    assert [round(each.weight, 2) for _at, _name, each in shop.aws.shifts[1:]] == [0.2, 0.5, 0.0]
    assert shop.aws.shifts[2][0] > held[0] > shop.aws.shifts[1][0] + 10


@pytest.mark.parametrize("what", ["abort", "skip", "pause", "resume"])
def test_asked_while_nobody_watches_it_is_heard_by_who_comes(folder: Path, what: rollout_record.Ask) -> None:
    """At each state in which a watcher may have died; a canary that may have landed already goes back, too."""
    for moments in range(1, 12, 1 if what == "abort" else 3):
        shop = Shop(folder / f"{moments}")
        shop.half_way(moments=moments)
        asked(shop, what)
        if what == "pause":
            asked(shop, "resume")

        answer = shop.run("resume")

        found = end_state(shop)
        assert found["told"] == ["rolled back" if what == "abort" else "promoted"], f"{what} after {moments}: {answer}"
        assert found["alias"] == ((Served("1"), "101") if what == "abort" else (Served("2"), "")), f"{moments}"
        assert (found["unfinished"], found["leases"]) == (None, ())


# Somebody else at the alias


def test_whoever_moves_it_keeps_it(folder: Path) -> None:
    """Before any call: what they did stays, it is told, and the exit code is 4."""
    for k in range(8, calls_of(folder / "undisturbed"), 2 if EVERY > 1 else 1):
        for theirs in (Served("1", "2", 0.9), Served("3")):
            shop = Shop(folder / f"{k}-{theirs.version}")
            shop.aws.publish(b"three")
            door = Beside(shop.aws, {k: partial(shop.aws.point, "PROD", theirs, "theirs")})

            answer = shop.run(*PROMOTE, wrap=door.wrap)

            assert answer.code == 4, f"before call {k}: {answer}"
            assert shop.aws.shown() == (theirs, "theirs"), f"before call {k}"
            assert end_state(shop)["told"] == ["superseded"] or not shop.aws.updates
            assert "superseded" in shop.run("rollout", "report", "PROD").out or not shop.aws.updates
            assert theirs.canary == "" or "half-way" in shop.ok("status").out


def test_an_alias_that_is_deleted_stays_so(folder: Path) -> None:
    for k in range(9, calls_of(folder / "undisturbed"), 3):
        shop = Shop(folder / f"{k}")
        door = Beside(shop.aws, {k: shop.aws.aliases.clear})

        answer = shop.run(*PROMOTE, wrap=door.wrap)

        assert answer.code == 4, f"before call {k}: {answer}"
        assert "gone" in answer.err or "Cannot find alias" in answer.err
        assert shop.aws.aliases == {}


def test_a_canary_that_is_deleted_before_it_has_traffic_moves_nothing(shop: Shop) -> None:
    door = Beside(shop.aws, {13: partial(shop.aws.versions.__delitem__, "2")})

    answer = shop.run(*PROMOTE, wrap=door.wrap)

    assert answer.code == 4, answer
    assert "not found" in answer.err
    assert shop.aws.updates == []


def test_a_description_that_somebody_writes_meanwhile_is_kept(folder: Path) -> None:
    for k in range(9, calls_of(folder / "undisturbed"), 3):
        shop = Shop(folder / f"{k}")

        def describe(shop: Shop = shop) -> None:
            shop.aws.point("PROD", shop.aws.aliases["PROD"].served, "do not touch on Fridays")

        answer = shop.run(*PROMOTE, wrap=Beside(shop.aws, {k: describe}).wrap)

        assert answer.code == 0, f"before call {k}: {answer}"
        assert shop.aws.shown() == (Served("2"), "do not touch on Fridays"), f"before call {k}"


# Without its ledger


def test_a_lost_ledger_leaves_an_alias_that_can_be_put_back_by_itself(folder: Path) -> None:
    for moments in (1, 4, 9, 12, 16):
        shop = Shop(folder / f"{moments}")
        shop.half_way(moments=moments)
        served = shop.aws.shown()[0]
        assert served.canary
        for file in shop.ledger.parent.glob("ledger.db*"):
            file.unlink()
        before = len(shop.aws.updates)

        status = shop.ok("status").out
        refused = shop.run(*PROMOTE)
        door = Counted(shop.aws, lost(next(iter(range(2, 3)))))  # the answer to its one call is lost, too
        aborted = shop.run("rollout", "abort", "PROD", wrap=door.wrap)

        assert f"{served.weight:.0%} on 2" in status
        assert "half-way" in status
        assert refused.code == 4
        assert "`pointsman rollout abort PROD`" in refused.err
        assert aborted.code == 0, aborted
        assert shop.aws.updates[before:] == [("PROD", Served("1"))]
        assert shop.aws.shown() == (Served("1"), "101")


# CloudWatch, alarms and clocks


def seconds(since: float, until: float, what: AwsError | str) -> Callable[[Shop], None]:
    """Of CloudWatch, counted from the first shift on."""

    def prepare(shop: Shop) -> None:
        def dark(now: float) -> AwsError | str | None:
            first = next((at for at, _name, each in shop.aws.shifts if each.canary), now)
            return what if since <= now - first < until and now != first else None

        shop.aws.dark = dark

    return prepare


@pytest.mark.parametrize(
    ("prepare", "outcome"),
    [
        (seconds(0, 20, "empty"), "promoted"),
        (seconds(0, 20, denied()), "promoted"),
        (seconds(2, 25, Ambiguous("InternalError")), "promoted"),
        (seconds(0, 300, denied()), "rolled back"),
    ],
    ids=["absent for a while", "denied for a while", "errors for a while", "denied for good"],
)
def test_cloudwatch_that_fails_for_a_while_is_waited_for(shop: Shop, prepare: Any, outcome: str) -> None:
    shop.configure(STEPS.replace("10s", "30s"))
    prepare(shop)

    answer = shop.run(*PROMOTE)

    assert end_state(shop)["told"] == [outcome], answer
    if outcome == "rolled back":
        assert "nothing could be measured for 30 s" in answer.err
        assert shop.aws.shifts[-1][0] - shop.aws.shifts[1][0] < 60


def test_alarms_hold_from_their_last_change_whoever_watches(folder: Path) -> None:
    """One that was red before is ignored; cleared and red again it counts, though nobody watched in between."""
    alarms = STEPS.replace("early = false", 'early = false, alarms = ["5xx"]')
    shop = Shop(folder / "shop")
    shop.configure(alarms)
    missing = shop.run(*PROMOTE)
    shop.aws.alarms["5xx"] = ("ALARM", shop.clock.time - 100)
    shop.half_way()
    other = Shop(folder / "other")
    other.configure(alarms)
    other.aws.alarms["5xx"] = ("ALARM", other.clock.time - 100)
    other.half_way()
    other.aws.alarms["5xx"] = ("ALARM", other.clock.time - 10)

    ignored, counted = shop.run("resume"), other.run("resume")

    assert missing.code == 1
    assert "no CloudWatch alarm called 5xx" in missing.err
    assert ignored.code == 0, ignored
    assert counted.code == 3, counted
    assert "alarm 5xx turned red" in counted.err


class Wrong(FakeClock):
    """A machine's clock that is off, by a number of seconds that depends on the true time."""

    def __init__(self, true: FakeClock, off: Callable[[float], float], least: float = 0.0) -> None:
        super().__init__()
        self.true, self.off, self.least = true, off, least

    def now(self) -> float:
        return self.true.time + self.off(self.true.time)

    def sleep(self, seconds: float) -> None:
        self.true.time += max(seconds, self.least)


def test_a_clock_that_is_set_back_costs_no_time(shop: Shop) -> None:
    shop.configure(more=GATES)
    began = shop.clock.time

    answer = shop.run(*PROMOTE, clock=Wrong(shop.clock, lambda now: -3600.0 if now > began + 4 else 0.0))

    assert answer.code == 0, answer
    assert shop.clock.time - began < 60
    assert end_state(shop)["told"] == ["promoted"]


def as_on_aws(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes, late ones, and no rehearsal."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    shop.aws.late_s = 60.0


def test_counts_that_come_later_than_ever_are_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_aws(shop, monkeypatch)
    shop.aws.late_s = 200.0  # the file says 60
    shop.configure(STEPS.replace("1s", "2m").replace("10s", "30m"))
    began = shop.clock.time

    answer = shop.run(*PROMOTE, clock=Wrong(shop.clock, lambda _now: 0.0, least=2.0))

    assert answer.code == 0, answer
    assert 2 * (120 + 200) < shop.clock.time - began < 1500
    told = json.loads(shop.ok("rollout", "report", "PROD", "--json").out)["result"]
    assert sum(each["canary"]["calls"] for each in told["metrics"]) > 1000


@pytest.mark.parametrize("off", [-240.0, 240.0])
def test_buckets_are_counted_by_the_clock_of_aws(shop: Shop, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """A machine whose clock is four minutes wrong counts nothing from before the shift, and waits no longer."""
    as_on_aws(shop, monkeypatch)
    shop.configure(STEPS.replace("1s", "2m").replace("10s", "30m"))

    answer = shop.run(*PROMOTE, clock=Wrong(shop.clock, lambda _now: off, least=2.0))

    assert answer.code == 0, answer
    times = [at for at, _name, _served in shop.aws.shifts[1:]]
    assert all(240 < later - sooner < 480 for sooner, later in itertools.pairwise(times)), times


def test_what_is_undecided_goes_back_after_a_day(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_aws(shop, monkeypatch)
    shop.configure(STEPS.replace("1s", "20h"))
    began = shop.clock.time

    answer = shop.run(*PROMOTE, clock=Wrong(shop.clock, lambda _now: 0.0, least=600.0))

    assert answer.code == 3, answer
    assert "no decision within 1 d" in answer.err
    assert 86_400 < shop.clock.time - began < 86_400 + 3600
    assert shop.aws.shown() == (Served("1"), "101")


# Two watchers


class Baton:
    """Several processes of which one runs at a time; who, is drawn at each call, each sleep and reading of the clock.

    One may run for long while another stands still: time passes with whoever sleeps, and leases run out.
    """

    def __init__(self, clock: FakeClock, seed: int, ledger: Path) -> None:
        self.clock, self.draw, self.ledger = clock, random.Random(seed), ledger
        self.turn = threading.Condition()
        self.live: list[int] = []
        self.whose = 0
        self.left = 0  # of the turn of whoever runs
        self.failed: list[BaseException] = []

    def run(self, *jobs: Callable[[FakeClock, Callable[[Transport], Transport]], None]) -> None:
        self.live = list(range(len(jobs)))
        threads = [threading.Thread(target=self._run, args=(me, job)) for me, job in enumerate(jobs)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        if self.failed:
            raise self.failed[0]

    def _run(self, me: int, job: Callable[[FakeClock, Callable[[Transport], Transport]], None]) -> None:
        try:
            self.step(me)
            job(Watched(self.clock, lambda: self.read(me)), lambda inner: _Stepping(inner, lambda: self.step(me)))
        except BaseException as error:  # noqa: BLE001 (raised again where the test waits)
            self.failed.append(error)
        finally:
            with self.turn:
                self.live.remove(me)
                self._next()

    def read(self, me: int) -> None:
        """Not where the ledger is locked: who waits for it would never give the baton back."""
        try:
            looking = sqlite3.connect(self.ledger, timeout=0, isolation_level=None)
            try:
                looking.execute("BEGIN IMMEDIATE")
                looking.execute("ROLLBACK")
            finally:
                looking.close()
        except sqlite3.OperationalError:
            return
        self.step(me)

    def step(self, me: int) -> None:
        with self.turn:
            self.left -= 1
            if self.left <= 0 or self.whose not in self.live:
                self._next()
            self.turn.wait_for(lambda: self.whose == me or me not in self.live, timeout=60)

    def _next(self) -> None:
        if self.live:
            self.whose = self.draw.choice(self.live)
            self.left = self.draw.choice((1, 1, 2, 3, 5, 30, 300))
        self.turn.notify_all()


class _Stepping:
    def __init__(self, inner: Transport, step: Callable[[], None]) -> None:
        self.inner, self.step = inner, step

    def send(self, operation: Operation[R]) -> R:
        self.step()
        reply = self.inner.send(operation)
        self.step()
        return reply


@pytest.mark.parametrize("seed", range(int(os.environ.get("POINTSMAN_SEEDS", "8"))))
def test_two_watchers_never_both_act(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The one that began it, and others that resume it at any time, each overtaken wherever its lease may run out."""
    shop = Shop(folder / "shop")
    shop.run("rollout", "list")  # the ledger is there
    bad(shop) if seed % 3 == 2 else None
    baton = Baton(shop.clock, seed, shop.ledger)
    monkeypatch.chdir(shop.folder)
    answers: list[tuple[str, Answer]] = []

    def command(*words: str, times: int = 1) -> Callable[[FakeClock, Callable[[Transport], Transport]], None]:
        def job(clock: FakeClock, wrap: Callable[[Transport], Transport]) -> None:
            for _ in range(times):
                answers.append((words[0], shop.run(*words, wrap=wrap, clock=clock)))
                clock.sleep(20)

        return job

    baton.run(command(*PROMOTE), command("rollout", "resume", "PROD", times=6), command("resume", times=3))

    while shop.run("resume").out.count("Nothing to resume") == 0:  # who was overtaken may have been the last
        shop.clock.time += 60
    twenty, fifty = Served("1", "2", 0.2), Served("1", "2", 0.5)
    back = ([twenty, Served("1")], [twenty, fifty, Served("1")])
    updates = [served for _name, served in shop.aws.updates]
    assert updates in back if seed % 3 == 2 else updates == [twenty, fifty, Served("2")], answers
    found = end_state(shop)
    acted = [each for each in found["rollouts"] if each[2] != "Superseded"]  # begun in sleep, and taken back
    assert [each[2] for each in acted] == ["RolledBack" if seed % 3 == 2 else "Promoted"], answers
    assert (found["unfinished"], found["leases"], len(found["moves"])) == (None, (), 0 if seed % 3 == 2 else 1)
    for _words, answer in answers:
        assert answer.code in (0, 2, 3, 4), answer
        why = ("watche", "under way", "another release of it was at work", "somebody else moved it meanwhile")
        assert answer.code != 4 or any(each in answer.err for each in why), answer


def test_who_slept_through_the_lease_does_nothing_more(folder: Path) -> None:
    """A process stands still within any call; meanwhile another carries it all through."""
    for k in range(15, calls_of(folder / "undisturbed"), 3):
        shop = Shop(folder / f"{k}")

        def sleep(shop: Shop = shop) -> None:
            shop.clock.time += 60
            assert shop.run("resume").code == 0

        answer = shop.run(*PROMOTE, wrap=Beside(shop.aws, {k: sleep}).wrap)

        assert answer.code == 4, f"call {k}: {answer}"
        assert "another watcher goes on with it" in answer.err
        assert len(shop.aws.updates) == 3, f"call {k}"
        found = end_state(shop)
        assert (found["told"], found["unfinished"], found["leases"]) == (["promoted"], None, ()), f"call {k}"


def test_what_an_overtaken_watcher_still_wrote_counts_for_nothing(shop: Shop) -> None:
    """It held the lease when it looked, and not any more when it wrote."""
    shop.half_way()
    ledger = Ledger(shop.ledger, now=lambda: shop.clock.time)
    (there,) = rollout_record.listed(ledger)
    state = next(iter(ledger.all_of("rollout-state")))
    ledger.append("them", "rollout-watched", subject=there.opened.id, token=state.body["token"] + 1, holder="them")
    drift = DriftSeen(at=shop.clock.time, what="the other watcher")
    late, _ = advance(there.rollout, drift)

    def write(token: int) -> tuple[bool, str]:
        body: dict[str, Any] = {"rollout": late, "signal": drift, "heard": there.heard, "token": token, "ended": True}
        ledger.append("it", "rollout-state", function=there.arn, subject=there.opened.id, **body)
        (now,) = rollout_record.listed(ledger)
        return now.open, story_of(ledger, there).outcome

    assert write(state.body["token"]) == (True, "under way")
    assert write(state.body["token"] + 1) == (False, "superseded")
    ledger.close()


def test_a_call_that_lands_late_moves_nothing_any_more(shop: Shop) -> None:
    """No answer came to the first shift, and it was aborted; then the call arrives, with the revision it had seen."""
    held: list[Operation[Any]] = []

    class Slow(Beside):
        def send(self, operation: Operation[R]) -> R:
            if operation.action == "UpdateAlias" and not held:
                held.append(operation)
                asked(shop, "abort")
                raise Ambiguous("read timed out")
            return super().send(operation)

    answer = shop.run(*PROMOTE, wrap=Slow(shop.aws, {}).wrap)

    assert answer.code == 3, answer
    with pytest.raises(PreconditionFailed):
        shop.aws.send(held[0])
    assert shop.aws.shown() == (Served("1"), "101")


def test_the_second_is_told_who_watches(shop: Shop) -> None:
    def second() -> None:
        answers.append(shop.run("rollout", "resume", "PROD"))
        answers.append(shop.run(*PROMOTE))

    answers: list[Answer] = []
    assert shop.run(*PROMOTE, wrap=Beside(shop.aws, {17: second}).wrap).code == 0

    resumed, again = answers
    assert resumed.code == 0
    assert f"{os.uname().nodename} {os.getpid()}" in resumed.out
    assert again.code == 4
    assert "being watched already" in again.err


def test_a_lease_is_kept_while_something_else_takes_long(folder: Path) -> None:
    """From beside, in real time; one that another has taken meanwhile is left to them, free or not."""
    clock = FakeClock()
    ledger = Ledger(folder / "ledger.db", now=clock.now)
    lease = ledger.lease("it", "me", leases.LEASE_S)
    assert lease
    with leases.beating(ledger, lease, 0.005):
        clock.time += 30
        until(lambda: (found := ledger.holder("it")) and found.expires == clock.time + leases.LEASE_S)
        clock.time += leases.LEASE_S * 2
        taken = ledger.lease("it", "them", leases.LEASE_S)
        if taken is None:  # renewed in between
            clock.time += leases.LEASE_S * 2
        else:
            ledger.release(taken)
    found = ledger.holder("it")
    assert found is None or found.token == lease.token
    ledger.close()


def until(what: Callable[[], Any]) -> None:
    ends = time.monotonic() + 30
    while not what():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.002)


# What it leaves


def test_its_report_lies_beside_the_test_reports_and_in_the_summary(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = shop.folder / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    good = shop.run(*PROMOTE, "--json").result[0]["rollout"]
    promoted = summary.read_text()
    shop.aws.point("PROD", Served("1"), "101")
    bad(shop)
    answer = shop.run(*PROMOTE)
    both = summary.read_text()

    assert good["outcome"] == "promoted"
    assert {Path(each).suffix for each in good["reports"].values()} == {".html", ".md", ".txt", ".json"}
    assert all(Path(each).stat().st_size > 200 for each in good["reports"].values())
    assert json.loads(Path(good["reports"]["json"]).read_text())["outcome"] == "promoted"
    assert Path(good["reports"]["markdown"]).read_text() in promoted
    assert promoted.index("| function |") < promoted.index("version 2")
    assert answer.code == 3
    (markdown,) = [each for each in (shop.folder / ".pointsman" / "reports").glob("*/*.md") if str(each) in answer.err]
    assert markdown.read_text() in both


def test_a_report_that_cannot_be_written_fails_nothing(shop: Shop) -> None:
    (shop.folder / ".pointsman").mkdir()
    (shop.folder / ".pointsman" / "reports").write_text("in the way")

    answer = shop.run(*PROMOTE, "--json")

    assert answer.code == 0, answer
    assert answer.result[0]["rollout"]["reports"] == {}


def test_an_alias_that_aws_gives_up_on_goes_back(shop: Shop) -> None:
    """The version's environments cannot start: at the first weight, or with all traffic, which AWS then holds back."""
    shop.aws.keep("PROD", 2)
    shop.clock.time += 10
    shop.aws.fails_to_start.add("2")

    answer = shop.run(*PROMOTE)

    assert answer.code in (1, 3), answer
    assert "could not be provisioned" in answer.err
    assert shop.aws.shown()[0] == Served("1")
    assert end_state(shop)["leases"] == ()


def test_a_canary_whose_environments_cannot_start_gets_no_traffic(shop: Shop) -> None:
    shop.aws.keep("1", 2)
    shop.aws.fails_to_start.add("2")

    answer = shop.run(*PROMOTE)

    assert answer.code == 3, answer
    assert "FUNCTION_ERROR_INIT_FAILURE" in answer.err or "could not be provisioned" in answer.err
    assert [each for each in shop.aws.updates if each[1].canary] == []
    assert end_state(shop)["kept"] == {"1": 2}
    assert end_state(shop)["set aside"] == []
