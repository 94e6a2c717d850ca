"""Rollouts in a small AWS in memory: the real command line, the real ledger, and time that passes when it is slept.

Whatever is killed, lost, refused, asked or moved on the way: the rollout ends as an undisturbed one does, or says
whose the alias is now.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pointsman import rolling
from pointsman.aws.operation import Operation, R, Transport
from pointsman.aws.transports import Faults
from pointsman.cli import main
from pointsman.errors import Ambiguous, Unreachable
from pointsman.ledger import Ledger
from pointsman.model import FunctionArn
from pointsman.story import Story, tell
from tests.fakes import FakeClock
from tests.small_aws import ARN, Served, SmallAws

STEPS = 'rollout = { steps = [20, 50], bake = "1s", minimum = 10, hold = "30s", early = false }'


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
        return self.folder / ".pointsman" / "local" / "ledger.db"

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
EVERY = int(os.environ.get("POINTSMAN_EVERY", "4"))
"""So many moments, or calls, on from one that is tried to the next. With 1 it takes minutes."""
PROMOTE = ("promote", "2", "--to", "PROD")


@dataclass(frozen=True)
class Journey:
    """`prepare` makes the world; `words` are typed; it ends with `code`."""

    prepare: Callable[[Shop], None]
    words: tuple[str, ...] = PROMOTE
    code: int = 0
    by_rollout: bool = True  # whether `rollout resume` means the same as `resume`


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


def deployed(shop: Shop) -> None:
    (shop.folder / "code.zip").write_bytes(packed("def handler(event, context): pass"))


def alias_ready(shop: Shop) -> None:
    """The alias itself keeps environments ready: AWS holds the version before, at the end. And back over that again."""
    refused_after(shop)
    del shop.aws.kept["1"]
    shop.aws.keep("PROD", 2)


JOURNEYS = {
    "healthy": Journey(healthy),
    "bad": Journey(bad, code=3),
    "gated": Journey(gated),
    "refused after": Journey(refused_after, code=3),
    "at once": Journey(at_once),
    "third": Journey(third, ("promote", "3", "--to", "PROD", "--supersede"), by_rollout=False),
    "deployed": Journey(deployed, ("deploy", "--to", "PROD", "--build-id", "102")),
    "alias ready": Journey(alias_ready, code=3),
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
        rollouts = list(rolling.listed(ledger))
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


def story_of(ledger: Ledger, there: rolling.Known) -> Story:
    told = rolling.prologue(ledger, there)
    for _entry, signal in rolling.signals(ledger, there.opened.id):
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
    assert expected["told"][0] == ("rolled back" if journey.code else "promoted")
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
    """What was read, and did not arrive, is asked for again: there only a network that stays away makes a difference."""
    journey = JOURNEYS[name]
    shop = begun(folder / "undisturbed", journey)
    counted = Counted(shop.aws, {})
    assert shop.run(*journey.words, wrap=counted.wrap).code == journey.code
    expected = end_state(shop)
    faults = [(k, fault) for k in counted.mutating for fault in (refused, hanging, lost, dead_after)]
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
