"""Rollouts as the ledger tells them: their beginning, their states, what was asked of them, the runs they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pointsman import (
    gates,
    leases,
    places,
    story,
)
from pointsman import rollout as machine
from pointsman.config import Environment
from pointsman.ledger import ENDED, Entry, Lease, Ledger, Run
from pointsman.model import (
    AliasName,
    FunctionArn,
    FunctionName,
    Series,
    Value,
    Version,
    from_json,
    to_json,
)
from pointsman.rollout import AnySignal, Rollout
from pointsman.world import Session, World

Ask = Literal["pause", "resume", "skip", "abort"]


class Opened(Value, frozen=True, kw_only=True):
    """What the ledger keeps of a rollout from its beginning on. `rollout` is how it began; `id` is its run's.

    `description` is what the alias gets with the canary, `described` what it had before. `slow_ms`: what counts as
    slow. `alarms`, and those that were `red` already, since when. `shares`: environments that the alias itself keeps
    ready, which AWS takes from version to version. `notes`: what the person should know.
    """

    id: str
    function: str
    name: FunctionName
    environment: str
    alias: AliasName
    by: str
    at: float
    description: str
    rollout: Rollout
    series: tuple[Series, ...] = ()
    slow_ms: float | None = None
    alarms: tuple[str, ...] = ()
    red: dict[str, float] = {}  # noqa: RUF012 (msgspec copies it)
    described: str = ""
    shares: int = 0
    notes: tuple[str, ...] = ()
    build: str = ""
    commit: str = ""
    release: str = ""


class Known(Value, frozen=True, kw_only=True):
    """A rollout as the ledger tells it: its beginning, its last state, and up to where requests were heard."""

    opened: Opened
    arn: str
    rollout: Rollout
    heard: int = 0

    @property
    def canary(self) -> Version:
        return self.rollout.canary

    @property
    def region(self) -> str:
        return FunctionArn.parse(self.arn).region

    @property
    def open(self) -> bool:
        """Whether the alias may be half-way still: one that is stuck has ended for its watcher, not for the alias."""
        return not self.rollout.ended or isinstance(self.rollout.state, machine.Stuck)


def known(ledger: Ledger, arn: FunctionArn, alias: str) -> Known | None:
    """The alias's newest rollout, ended or not."""
    entry = next(iter(ledger.of_function("rollout", arn, alias)), None)
    return _known(ledger, entry) if entry else None


def called(ledger: Ledger, name: str = "", functions: Sequence[str] = (), region: str = "") -> Known | None:
    """The rollout with this id, or of an alias or environment of this name: the newest that is open, else the newest.

    `functions`: of one of these only; `region`: there only. Without any of them any will do.
    """
    newest: Known | None = None
    seen: set[tuple[str, str]] = set()
    for entry in ledger.all_of("rollout"):
        body = entry.body["opened"]
        if name and name not in (body["id"], body["alias"], body["environment"]):
            continue
        if functions and body["function"] not in functions:
            continue
        if region and FunctionArn.parse(entry.function).region != region:
            continue
        if newest and (entry.function, entry.subject) in seen:
            continue  # only the newest of an alias can be open
        seen.add((entry.function, entry.subject))
        there = _known(ledger, entry)
        if there.open:
            return there
        newest = newest or there
    return newest


def listed(ledger: Ledger) -> Iterator[Known]:
    """Every rollout, newest first."""
    for entry in ledger.all_of("rollout"):
        yield _known(ledger, entry)


def _known(ledger: Ledger, entry: Entry) -> Known:
    opened, arn = from_json(to_json(entry.body["opened"]), Opened), FunctionArn.parse(entry.function)
    overtaken = _overtaken(ledger, opened.id)
    states = ledger.of_function("rollout-state", arn, opened.id)
    last = next((each for each in states if not overtaken(each)), None)
    if last is None:
        return Known(opened=opened, arn=entry.function, rollout=opened.rollout, heard=entry.seq)
    found = from_json(to_json(last.body["rollout"]), Rollout)
    return Known(opened=opened, arn=entry.function, rollout=found, heard=int(last.body["heard"]))


def _overtaken(ledger: Ledger, rollout: str) -> Callable[[Entry], bool]:
    """Whether a watcher wrote this when another was at work already: it did not know yet, and nothing came of it.

    The lease's token grows with each watcher, and each writes down that it is there before it reads how things stand.
    """
    watchers = [(each.seq, int(each.body["token"])) for each in ledger.after(0, "rollout-watched", rollout)]

    def late(entry: Entry) -> bool:
        return any(seq < entry.seq and token > int(entry.body["token"]) for seq, token in watchers)

    return late


def lease_name(arn: FunctionArn | str, alias: str) -> str:
    return f"rollout {arn} {alias}"


def watcher(ledger: Ledger, rollout: Known) -> Lease | None:
    """Who carries it through now; None where nobody does (or did, and is dead)."""
    lease = ledger.holder(lease_name(rollout.arn, rollout.opened.alias))
    return None if lease is None or leases.is_dead(lease.holder) else lease


def signals(ledger: Ledger, rollout: str, *, after: int = 0) -> Iterator[tuple[Entry, AnySignal]]:
    """What happened, oldest first, from an entry on."""
    overtaken = _overtaken(ledger, rollout)
    for entry in ledger.after(after, "rollout-state", rollout):
        if not overtaken(entry):
            yield entry, from_json(to_json(entry.body["signal"]), AnySignal)  # type: ignore[arg-type]


def prologue(ledger: Ledger, there: Known) -> story.Story:
    """The story before its first signal."""
    opened, arn = there.opened, FunctionArn.parse(there.arn)

    def side(version: Version) -> story.Side:
        build = next((each for each in ledger.builds(arn).values() if each.version == version), None)
        return story.Side(version=version, build=build.id if build else "", commit=build.commit if build else "")

    return story.Story(
        id=opened.id,
        function=opened.function,
        name=opened.name,
        environment=opened.environment,
        alias=opened.alias,
        baseline=side(there.rollout.baseline),
        canary=side(there.rollout.canary),
        by=opened.by,
        began=opened.at,
        rollout=opened.rollout,
        notes=opened.notes,
    )


def where(world: World, there: Known) -> Environment:
    """The environment of a rollout; of several regions, the one its function is in."""
    found = world.environment_called(there.opened.environment)
    return places.in_region(found, there.region) if found.regions else found


def pauses(world: World, there: Known) -> bool:
    """Whether what it waits for now is a pause, which `rollout resume` ends."""
    state, environment = there.rollout.state, where(world, there)
    if not isinstance(state, machine.Gating):
        return False
    return any(each.gate.pause for each in gates.standing(environment, state.moment, state.weight))


def chain(ledger: Ledger, run: str) -> tuple[str, ...]:
    """The run, that which it resumed, and so on."""
    return _chain(_resumptions(ledger), run)


def _resumptions(ledger: Ledger) -> dict[str, str]:
    """Each run, and that which it resumed."""
    return {each.run: str(each.body["run"]["request"].get("resumes") or "") for each in ledger.all_of("run")}


def _chain(resumed: dict[str, str], run: str) -> tuple[str, ...]:
    found = [run]
    while earlier := resumed.get(found[-1]):
        found.append(earlier)
    return tuple(found)


def begun_by(ledger: Ledger, run: str) -> Known | None:
    """The rollout that the run, or one that it resumed, began: ended or not, what is behind it may be still to do."""
    runs = chain(ledger, run)
    there = (_known(ledger, each) for each in ledger.all_of("rollout") if each.body["opened"]["id"] in runs)
    return next(there, None)


def told(ledger: Ledger, arn: FunctionArn, alias: str, version: Version, rollout: str) -> bool:
    """Whether the ledger has the move already with which this rollout ended."""
    moves, there = ledger.moves(arn, alias), called(ledger, rollout)
    return bool(moves and there and moves[-1].version == version and moves[-1].at >= there.opened.at)


def unfinished(ledger: Ledger, there: Known) -> Run | None:
    """The newest run that can be gone on with of those that carried this rollout, or what it is part of, through."""
    own, resumed = {there.opened.id, there.opened.release}, _resumptions(ledger)
    for run in ledger.runs():
        if not run.part_of and own & {*_chain(resumed, run.id)} and ledger.unfinished(run.id) is not None:
            return run
    return None


def settle(session: Session, there: Known, outcome: str, why: str) -> None:
    """It has ended: the runs that carried it through before have nothing left to resume.

    A release of several functions has: the others go where this one went.
    """
    own, ledger = {there.opened.id, there.opened.release}, session.ledger
    resumed = _resumptions(ledger)
    for run in ledger.runs():
        mine = run.id in (session.run, session.part_of) or run.members or run.part_of
        if not mine and run.outcome not in ENDED and own & {*_chain(resumed, run.id)}:
            ledger.end(run.id, outcome, why)


def ask(world: World, there: Known, what: Ask, *, why: str = "", run: str = "") -> None:
    """A request for whoever carries the rollout through. `run`: whose it is, where that is to go on when it is done."""
    # This machine's clock may be behind that of the watcher, who holds what is older than its gate for an old story.
    state = there.rollout.state
    at = max(world.clock.now(), state.since + 0.001 if isinstance(state, machine.Gating) else 0.0)
    facts: dict[str, Any] = {"ask": what, "by": world.actor.by, "why": why, "run": run, "asked": at}
    world.ledger.append(there.opened.id, "rollout-asked", subject=there.opened.id, **facts)


def again(ledger: Ledger, there: Known) -> Known:
    """The same rollout, as it stands now."""
    entries = ledger.of_function("rollout", FunctionArn.parse(there.arn), there.opened.alias)
    return next((_known(ledger, each) for each in entries if each.body["opened"]["id"] == there.opened.id), there)
