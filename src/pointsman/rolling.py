"""Carries a rollout through: asks the machine what is due, does it, writes down what came of it, until it ends.

The state is in the ledger before a call that it announces is made. So a watcher may be killed at any point, and another
one, on this machine or another, goes on from the last state: what had taken effect is found there. A lease keeps two
watchers from acting at once; the alias's revision id keeps both from overwriting what somebody else did.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as with_other
from typing import Any, Literal

from msgspec.structs import replace

from pointsman import (
    analysis,
    footing,
    gates,
    gating,
    owners,
    places,
    sharing,
    story,
    synthetic,
)
from pointsman import rollout as machine
from pointsman.aws import metrics
from pointsman.aws.transports import Clock
from pointsman.config import Environment
from pointsman.config import Rollout as Declared
from pointsman.errors import (
    Ambiguous,
    AwsError,
    Conflict,
    FunctionFailed,
    GateRefused,
    Interrupted,
    LedgerError,
    LostRace,
    NotFound,
    NotRestored,
    PreconditionFailed,
    Throttled,
    Unreachable,
    UsageError,
)
from pointsman.ledger import ENDED, Entry, Lease, Ledger, Run, born
from pointsman.model import (
    AlarmState,
    Alias,
    AliasName,
    FunctionArn,
    FunctionName,
    Measured,
    Query,
    Routing,
    Series,
    Value,
    Version,
    from_json,
    to_json,
)
from pointsman.rollout import Action, AnySignal, Rollout
from pointsman.world import Session, World

LEASE_S = 45.0
BEAT_S = 15.0
"""How often the lease is renewed while something else takes long: a gate's command, AWS starting environments."""
OFF_S = 5.0
"""By how much our clock may differ from AWS's unheeded: the Date of an answer has whole seconds."""
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


# What the ledger knows


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
    return None if lease is None or is_dead(lease.holder) else lease


def holder_of(run: str) -> str:
    """One process may do several things: its run tells them apart."""
    return f"{os.uname().nodename} {os.getpid()} {born(os.getpid())} {run}"


def is_dead(holder: str) -> bool:
    """Whether it was a process of this machine that is gone: nobody has to wait for its lease to end."""
    match holder.split(" "):
        case [host, pid, began, *_] if host == os.uname().nodename and pid.isdecimal():
            now = born(int(pid))
            return now == "" or (now != began and "?" not in (now, began))
    return False


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


# What stands in the way


def declared(session: Session) -> Declared | None:
    """How the environment's alias is to be moved; None: at once. Gates are passed also where it moves at once."""
    environment = session.environment
    if environment.rollout is not None and not session.world.options.all_at_once:
        return environment.rollout
    return Declared(type="AllAtOnce") if environment.gates else None


def trying(session: Session, arn: FunctionArn, alias: Alias | None) -> Version | None:
    """The version that an interrupted rollout of this alias is trying; None where there is none."""
    if alias is None:
        return None
    there = known(session.ledger, arn, alias.name)
    return there.canary if there and there.open else None


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


def clear_way(session: Session, arn: FunctionArn, alias: Alias | None, version: Version | None) -> Alias | None:
    """The alias, free for a release of this version (None: of one that is yet to be found or published).

    A rollout that is under way to another version, or one that nobody here knows, is ended first by `--supersede`;
    else LostRace, and nothing is touched. One to this very version is gone on with.
    """
    if alias is None:
        return None
    there = known(session.ledger, arn, alias.name)
    if there is not None and there.open:
        if there.canary != version and (version is not None or session.world.options.supersede):
            if not session.run:
                return alias  # only looking: the plan says that it begins from the baseline
            refuse_third(session, there)
            return session.gateway.alias(arn.name, alias.name)
    elif alias.routing.canary and session.environment.rollout is not None and session.run:
        if not session.world.options.supersede:
            raise LostRace(
                f"{alias.name} is half-way through a shift that this ledger does not know: {alias.routing}",
                where=f"releasing to {alias.name}",
                next=f"`pointsman rollout abort {alias.name}` puts it back to version {alias.version} alone; "
                "`--supersede` does so first.",
            )
        return restore_alone(session, arn.name, alias)
    return alias


def must_be_free(session: Session, arn: FunctionArn, alias: Alias) -> None:
    """Before anything is published: a rollout of another version would refuse the move in the end."""
    refuse_third(session, known(session.ledger, arn, alias.name))


def end_for_rollback(session: Session, arn: FunctionArn, alias: Alias) -> tuple[Alias, bool]:
    """A rollback while a rollout is under way ends that properly: its watcher hears of it, and gives back all.

    (The alias then, whether that was so): it is the way back, and there is no further one. So it stays when the
    rollback is killed, and resumed, right after that.
    """
    there = known(session.ledger, arn, alias.name)
    if there is None:
        return alias, False
    if there.open:
        _must_be_back(end_first(session, there, why="rolled back"), there.opened.alias)
        settle(session, there, "restored", "rolled back")
        return session.gateway.alias(arn.name, alias.name) or alias, True
    runs = chain(session.ledger, session.run)
    asked = session.ledger.after(0, "rollout-asked", there.opened.id)
    return alias, any(each.body["ask"] == "abort" and each.body.get("run") in runs for each in asked)


def abort(session: Session, there: Known, *, why: str) -> None:
    """End it, and what it was part of. Raises NotRestored, LostRace, UsageError where its end is another one."""
    ended, alias = end_first(session, there, why=why) if there.open else there.rollout, there.opened.alias
    _must_be_back(ended, alias)
    where = f"aborting the rollout of {alias}"
    match ended.state:
        case machine.Superseded(what=what):
            settle(session, there, "lost", what)
            raise LostRace(f"somebody else moved the alias: {what}", where=where, next="Nothing was overwritten.")
        case machine.Promoted():
            raise UsageError(
                f"it had ended: version {ended.canary} serves everything",
                where=where,
                next=f"`pointsman rollback {alias}` goes back.",
            )
        case _:
            settle(session, there, "restored", "its rollout was aborted")


def _must_be_back(ended: Rollout, alias: AliasName) -> None:
    """Raises NotRestored where the alias may be half-way still."""
    if isinstance(ended.state, machine.Stuck):
        raise NotRestored(
            ended.state.why,
            where=f"ending the rollout of {alias}",
            next=f"Look at {alias} in AWS; `pointsman rollout abort {alias}` tries once more.",
        )


# Beginning


class Asked(Value, frozen=True, kw_only=True):
    """What a plan's step asks for."""

    alias: AliasName
    was: Version
    version: Version
    name: FunctionName
    description: str
    revision: str
    build: str = ""


def shift(session: Session, arn: FunctionArn, asked: Asked) -> Alias:
    """Move the alias step by step; the alias as it is then.

    Raises GateRefused where the canary was rolled back, LostRace where somebody else moved the alias meanwhile.
    """
    there = known(session.ledger, arn, asked.alias)
    mine = begun_by(session.ledger, session.run)  # ended or not: what is resumed must not be tried a second time
    if mine and there and mine.opened.id == there.opened.id and mine.canary == asked.version:
        return follow(session, mine)
    if there is None or not there.open or there.canary != asked.version:
        refuse_third(session, there)
    with _watching(session, arn, asked.alias) as lease:
        there = known(session.ledger, arn, asked.alias)  # from here on nobody else begins one
        if there is None or not there.open:
            with beating(session.ledger, lease, BEAT_S):
                there = _open(session, arn, asked)
            _still_first(session, there, lease)
        elif there.canary != asked.version:
            raise _under_way(there)
        watch = Watch(session, there, lease)
        watch.run()
    return watch.ending()


def _still_first(session: Session, there: Known, lease: Lease) -> None:
    """Who slept through the lease while it looked may have begun this on top of another's: it is taken back."""
    if _renewed(session.ledger, lease) is not None:
        return
    opened, what = there.opened, "another release of it was at work"
    signal = machine.DriftSeen(at=session.world.clock.now(), what=what)
    ended, _ = machine.advance(there.rollout, signal)
    facts: dict[str, Any] = {"rollout": ended, "signal": signal, "heard": there.heard, "token": lease.token}
    session.ledger.append(session.run, "rollout-state", function=there.arn, subject=opened.id, ended=True, **facts)
    raise LostRace(what, where=f"beginning a rollout of {opened.alias}", next="Nothing was moved.")


def refuse_third(session: Session, there: Known | None) -> None:
    """A rollout under way ends first: by itself, by `--supersede`, or not at all."""
    if there is None or not there.open:
        return
    if session.world.options.supersede:
        session.say(f"ending the rollout of {there.opened.alias} to version {there.canary} first")
        ended = end_first(session, there, why="superseded by another release")
        _must_be_back(ended, there.opened.alias)
        settle(session, there, "restored", "superseded by another release")
        return
    raise _under_way(there)


def _under_way(there: Known) -> LostRace:
    opened = there.opened
    return LostRace(
        f"a rollout of {opened.alias} to version {there.canary} is under way (by {opened.by}, run {opened.id})",
        where=f"releasing to {opened.alias}",
        next=f"`pointsman rollout watch {opened.alias}` shows it; `--supersede` ends it first, "
        f"`pointsman rollout abort {opened.alias}` for good.",
    )


def _open(session: Session, arn: FunctionArn, asked: Asked) -> Known:
    """Look at all that decides whether, and how, the canary may be tried; then write it down. Nothing has moved yet."""
    ramp, gateway, world = declared(session), session.gateway, session.world
    assert ramp is not None
    alias = gateway.alias(asked.name, asked.alias)
    if alias is None:
        raise LostRace(f"{asked.alias} is gone", where=f"beginning a rollout of {asked.alias}")
    if alias.routing != Routing(version=asked.was):
        raise LostRace(
            f"somebody else moved it meanwhile: it serves {alias.routing}",
            where=f"beginning a rollout of {asked.alias}",
            next="Nothing was overwritten. `pointsman status` shows what is live.",
        )
    baseline = gateway.function(asked.name, asked.was)
    canary = gateway.function(asked.name, asked.version)
    if baseline is None or canary is None:
        gone = asked.was if baseline is None else asked.version
        raise LostRace(f"version {gone} of {asked.name} is gone", where=f"beginning a rollout of {asked.alias}")
    if why := sharing.may_share(baseline, canary):
        raise UsageError(
            "\n".join(why),
            where=f"a rollout of {asked.alias} from version {asked.was} to version {asked.version}",
            next="Nothing was moved.",
        )
    if ramp.traffic:
        synthetic.events(session.source, *ramp.traffic.events)  # raises where there are none
    footing.ready(session, arn, asked.version)
    notes = list(sharing.differences(baseline, canary))
    prepared = footing.prepare(session, alias, canary)
    if prepared.refused:
        raise UsageError("\n".join(prepared.refused), where=f"a rollout of {asked.alias}", next="Nothing was moved.")
    notes += prepared.notes
    memory = int(canary.settings.get("MemorySize", 128))
    notes += sharing.costs(prepared, memory_mb=memory, lasts_s=sum(bake for _share, bake in ramp.ramp) or 60.0)
    series, wanted, slow_ms, before = _what_to_measure(session, arn, asked, ramp, notes)
    red = _red_already(session, ramp, notes)
    timeout = float(canary.settings.get("Timeout", 3))
    period, lag = (1.0, metrics.settling(min(timeout, 5.0), local=True)) if world.local else (60.0, 0.0)
    if not world.local:
        lag = ramp.lag + min(timeout, 60.0)
    policy = replace(
        machine.as_declared(ramp, metrics=wanted, period_s=period, lag_s=lag),
        traffic=before.traffic,
        usual=before.usual,
        moments=gates.moments(session.environment),
        gated=gates.gated(session.environment),
    )
    at = world.clock.now()
    began = machine.begin(policy, baseline=asked.was, canary=asked.version, revision=asked.revision, at=at)
    notes += machine.warnings(began)
    opened = Opened(
        id=session.run,
        function=session.function.name,
        name=asked.name,
        environment=session.environment.name,
        alias=asked.alias,
        by=world.actor.by,
        at=at,
        description=asked.description,
        rollout=began,
        series=series,
        slow_ms=slow_ms,
        alarms=ramp.alarms,
        red=red,
        described=alias.description,
        shares=prepared.shares,
        notes=tuple(notes),
        build=asked.build,
        commit=world.actor.commit,
        release=session.release or session.run,
    )
    seq = session.ledger.append(session.run, "rollout", function=str(arn), subject=asked.alias, opened=opened)
    for note in notes:
        session.say(note)
    return Known(opened=opened, arn=str(arn), rollout=began, heard=seq)


class Before(Value, frozen=True, kw_only=True):
    """The time before: calls a second, the share of bad ones (None: no calls), how those come together."""

    traffic: float = 0.0
    usual: float | None = None
    dispersion: float = 1.0

    @classmethod
    def of(cls, counts: list[analysis.Counts], seconds: float) -> Before:
        calls = sum(each.calls for each in counts)
        return cls(
            traffic=calls / seconds if seconds > 0 else 0.0,
            usual=sum(each.bad for each in counts) / calls if calls else None,
            dispersion=analysis.dispersion(counts),
        )


def _what_to_measure(
    session: Session, arn: FunctionArn, asked: Asked, policy: Declared, notes: list[str]
) -> tuple[tuple[Series, ...], tuple[analysis.Metric, ...], float | None, Before]:
    """Which metrics, each with what is tolerated and how its bad calls cluster; what is slow; how it was before."""
    if not policy.ramp:
        return (), (), None, Before()
    local, now = session.world.local, session.world.clock.now()
    moves = session.ledger.moves(arn, asked.alias)
    since = max(now - (600 if local else 86_400), moves[-1].at if moves else 0.0)
    try:
        found = session.gateway.before(
            asked.name, asked.alias, since=since, until=now, period=1 if local else 60, slow=policy.slow
        )
    except AwsError as error:
        notes.append(f"what the alias did before could not be read ({error.what}): nothing is assumed of it")
        found = metrics.Past()
    before = Before.of([analysis.Counts(calls=each.calls, bad=each.bad) for each in found.errors], found.seconds)
    dispersion = before.dispersion
    if dispersion > 1.05:
        notes.append(
            f"errors of {asked.alias} came in groups of about {dispersion:.1f} lately: they count for that much less"
        )
    series = [metrics.errors()]
    wanted = [analysis.Metric(name="errors", difference=policy.errors, dispersion=dispersion)]
    if policy.slow and found.slow_ms is None:
        notes.append(f"{asked.alias} had no calls lately that would tell what {policy.slow!r} is: slow is not judged")
    elif policy.slow:
        assert found.slow_ms is not None
        series.append(metrics.slow(found.slow_ms))
        wanted.append(analysis.Metric(name="slow"))
    if policy.throttles:
        series.append(metrics.throttles())
        wanted.append(analysis.Metric(name="throttles"))
    for each in policy.metrics:
        series.append(
            Series(
                name=each.name,
                calls=Query(namespace=each.namespace, metric=each.calls, stat="Sum", dimensions=each.dimensions),
                bad=Query(namespace=each.namespace, metric=each.bad, stat="Sum", dimensions=each.dimensions),
            )
        )
        wanted.append(analysis.Metric(name=each.name, difference=each.extra, ratio=each.ratio))
    return tuple(series), tuple(wanted), found.slow_ms, before


def _red_already(session: Session, policy: Declared, notes: list[str]) -> dict[str, float]:
    """Alarms that are red before anything moved: no reason to stop what may be the fix."""
    if not policy.alarms:
        return {}
    red = [each for each in session.gateway.alarms(policy.alarms) if each.state == "ALARM"]
    for each in red:
        notes.append(f"alarm {each.name} is red already, and ignored until it clears: {each.reason}")
    return {each.name: each.since for each in red}


# Following


def follow(session: Session, there: Known) -> Alias:
    """Carry a rollout through to its end, from wherever it is. The alias as it is then; raises where it went back."""
    with _watching(session, FunctionArn.parse(there.arn), there.opened.alias) as lease:
        watch = Watch(session, there, lease)
        watch.run()
    return watch.ending()


def end_first(session: Session, there: Known, *, why: str) -> Rollout:
    """Abort it, by whoever carries it through; or here, where nobody does. The rollout as it ended."""
    world, patience = session.world, session.world.options.wait_s
    ask(world, there, "abort", why=why, run=session.run)
    began = world.clock.now()
    while watcher(world.ledger, there) is not None:
        if not (there := again(world.ledger, there)).open:
            return there.rollout
        if world.clock.now() - began > patience:
            raise LostRace(
                f"its watcher has not ended the rollout within {patience:g} s",
                where=f"ending the rollout of {there.opened.alias}",
                next="Nothing was changed. Look for the process that watches it, or try again.",
            )
        world.clock.sleep(0.5)
        world.refresh()
    with _watching(session, FunctionArn.parse(there.arn), there.opened.alias) as lease:
        watch = Watch(session, there, lease)
        watch.run()
        return watch.rollout


def ask(world: World, there: Known, what: Ask, *, why: str = "", run: str = "") -> None:
    """A request for whoever carries the rollout through. `run`: whose it is, where that is to go on when it is done."""
    # This machine's clock may be behind that of the watcher, who holds what is older than its gate for an old story.
    state = there.rollout.state
    at = max(world.clock.now(), state.since + 0.001 if isinstance(state, machine.Gating) else 0.0)
    facts: dict[str, Any] = {"ask": what, "by": world.actor.by, "why": why, "run": run, "asked": at}
    world.ledger.append(there.opened.id, "rollout-asked", subject=there.opened.id, **facts)


@contextmanager
def alone(ledger: Ledger, name: str, run: str, seconds: float, taken: Callable[[str], LostRace]) -> Iterator[Lease]:
    """Holds a lease; one whose holder died on this machine is taken over. Raises what `taken` makes of its holder."""
    other = ledger.holder(name)
    if other and is_dead(other.holder):
        ledger.release(other)
    lease = ledger.lease(name, holder_of(run), seconds)
    if lease is None:
        other = ledger.holder(name)
        raise taken(other.holder if other else "somebody")
    try:
        yield lease
    finally:
        with suppress(LedgerError):  # it ends by itself; what was done is the thing to tell
            ledger.release(lease)


def _watching(session: Session, arn: FunctionArn, alias: AliasName) -> AbstractContextManager[Lease]:
    """Nobody else acts for the alias's rollout, or begins one, meanwhile."""

    def taken(by: str) -> LostRace:
        return LostRace(
            f"it is being watched already, by {by}",
            where=f"the rollout of {alias}",
            next=f"`pointsman rollout watch {alias}` shows it. A watcher that died is replaced after {LEASE_S:g} s.",
        )

    return alone(session.ledger, lease_name(arn, alias), session.run, LEASE_S, taken)


def again(ledger: Ledger, there: Known) -> Known:
    """The same rollout, as it stands now."""
    entries = ledger.of_function("rollout", FunctionArn.parse(there.arn), there.opened.alias)
    return next((_known(ledger, each) for each in entries if each.body["opened"]["id"] == there.opened.id), there)


@dataclass
class _Steady:
    """Our clock, and where that is set back it goes on from where it was: nothing is waited for a second time."""

    inner: Clock
    lost: float = 0.0
    latest: float = 0.0

    def now(self) -> float:
        self.lost += max(0.0, self.latest - self.inner.now() - self.lost)
        self.latest = max(self.latest, self.inner.now() + self.lost)
        return self.latest

    def sleep(self, seconds: float) -> None:
        self.inner.sleep(seconds)


class Watch:
    """One watcher at work. `run` returns when the rollout ended; an interrupt leaves it for `rollout resume`."""

    def __init__(self, session: Session, there: Known, lease: Lease) -> None:
        self.session = session
        self.opened = there.opened
        self.arn = FunctionArn.parse(there.arn)
        self.lease = lease
        self.held = session.world.clock.now()  # when the lease was renewed last
        if there.open:
            facts: dict[str, Any] = {"token": lease.token, "holder": lease.holder}
            session.ledger.append(session.run, "rollout-watched", subject=self.opened.id, **facts)
        # What another watcher wrote since we looked counts; what it writes from now on does not.
        self.known = again(session.ledger, there)
        self.rollout = self.known.rollout
        self.heard = self.known.heard
        self.checks = gating.Checks(session, arn=self.arn, version=self.rollout.canary)
        self.alias: Alias | None = None
        self.calls: synthetic.Synthetic | None = None
        self.trouble = ""  # of theirs, told already
        self.gone: set[str] = set()  # alarms that are not there any more
        self.blind: float | None = None  # since when alarms cannot be read
        self.clock = _Steady(session.world.clock)
        self.ahead: float | None = None  # AWS's clock, of ours; None: not looked at yet

    @property
    def now(self) -> float:
        return self.clock.now()

    def run(self) -> None:
        try:
            signal = self.heed()
            action = self.take(signal) if signal else machine.due(self.rollout)
            if 0 < self.rollout.weight < 1 and not self.rollout.ended:
                self.call()
            self.tell()
            while not self.rollout.ended:
                action = self.take(self.heed() or self.carry_out(action))
        finally:
            self.hush()
        # First the report: what it came to is known even where AWS refuses what is behind it.
        self.session.rollout = report(self.session, self.known)
        footing.give_back(self.session, self.arn, self.opened.alias)

    def take(self, signal: AnySignal) -> Action:
        """What the signal makes of the rollout, written down before anything follows from it."""
        before, (after, action) = self.rollout, machine.advance(self.rollout, signal)
        if after != before:
            self.hold(surely=True)  # what we saw may be another watcher's work by now
            self.session.ledger.append(
                self.session.run,
                "rollout-state",
                function=str(self.arn),
                subject=self.opened.id,
                rollout=after,
                signal=signal,
                heard=self.heard,
                token=self.lease.token,
                ended=after.ended,  # what came before may be forgotten in time, this not
            )
            self.rollout = after
            watched = 0 < after.weight < 1 or isinstance(after.state, machine.Shifting)
            if not watched or isinstance(after.state, machine.Promoting | machine.RollingBack):
                self.hush()
            changed = type(before.state) is not type(after.state) or before.weight != after.weight
            if changed and not self.session.world.watched:
                self.session.say(story.state_sentence(after))
        self.tell()
        return action

    def tell(self) -> None:
        if self.session.world.watched:
            self.session.world.watched(self.opened.id)

    # What others want

    def heed(self) -> AnySignal | None:
        """A request that was not heard yet: an abort before all others, each other when it can be done."""
        self.session.world.refresh()
        asked = tuple(self.session.ledger.after(self.heard, "rollout-asked", self.opened.id))
        urgent = next((each for each in asked if each.body["ask"] == "abort"), None)
        for entry in (urgent,) if urgent else asked:
            what, by, at = entry.body["ask"], str(entry.body["by"]), self.now
            if what in ("pause", "skip") and not isinstance(self.rollout.state, machine.WATCHED):
                return None  # it waits until the canary is watched
            self.heard = entry.seq
            match what:
                case "pause":
                    return machine.PauseAsked(at=at, by=by)
                case "skip":
                    return machine.SkipAsked(at=at, by=by)
                case "abort":
                    return machine.AbortAsked(at=at, by=by, why=str(entry.body.get("why", "")))
                case _:
                    if isinstance(self.rollout.state, machine.Paused):
                        return machine.ResumeAsked(at=at, by=by)
        return None

    def wait(self, until: float, *, listen: bool = True) -> AnySignal | None:
        """Until then, or until somebody wants something, or a check fails. The lease stays ours meanwhile."""
        while True:
            self.hold()
            self.tell()
            if listen and (signal := self.heed()):
                return signal
            if listen and self.rollout.weight > 0 and (why := self.checked()):
                return machine.Failed(at=self.now, why=why)
            left = until - self.now
            if left <= 0:
                return None
            if self.session.world.halted and self.session.world.halted():
                raise Interrupted("stopped", where=f"the rollout of {self.opened.alias}")
            self.session.world.clock.sleep(min(left, self.session.world.glance_s))

    def checked(self) -> str:
        """Why a check wants it back; one may take longer than the lease lasts."""
        due = self.checks.next()
        if due is None or self.now < due:
            return ""
        with self.held_on():
            return self.checks.run(self.now)

    def hold(self, *, surely: bool = False) -> None:
        """Renew the lease in time; `surely` now. Lost, it is another's: whoever has it acts, and we must not."""
        now = self.session.world.clock.now()
        if not surely and 0 <= now - self.held < LEASE_S / 2:
            return
        renewed = _renewed(self.session.ledger, self.lease)
        if renewed is None:
            raise LostRace(
                "another watcher goes on with it",
                where=f"the rollout of {self.opened.alias}",
                next=f"Nothing is lost: `pointsman rollout watch {self.opened.alias}` shows it.",
            )
        self.lease, self.held = renewed, now

    @contextmanager
    def held_on(self) -> Iterator[None]:
        """The lease stays ours while something else takes long: a command, AWS starting environments."""
        with beating(self.session.ledger, self.lease, BEAT_S):
            yield

    # What is due

    def carry_out(self, action: Action) -> AnySignal:
        match action:
            case machine.SetWeight(routing=routing):
                return self.ready() or self.route(routing, f"shifting {self.opened.alias}")
            case machine.Promote(routing=routing):
                return self.ready() or self.route(routing, f"promoting {self.opened.alias}")
            case machine.Restore(routing=routing):
                return self.route(routing, f"putting {self.opened.alias} back")
            case machine.Measure(at=at, since=since):
                return self.wait(at - (self.ahead or 0.0)) or self.measure(since)
            case machine.RunGates(moment=moment, weight=weight, since=since):
                return self.gates(moment, weight, since)
            case machine.Nothing():
                return machine.Tick(at=self.now)

    def call(self) -> None:
        """Calls of our own, where the file asks for them. Without their events, on another machine say, it goes on."""
        declared, rollout = self.session.environment.rollout, self.rollout
        going = isinstance(rollout.state, machine.RollingBack | machine.Promoting)
        if self.calls or declared is None or declared.traffic is None or going:
            return
        try:
            self.calls = synthetic.traffic(
                self.session,
                self.arn,
                rollout.baseline,
                rollout.canary,
                patterns=declared.traffic.events,
                rate=declared.traffic.rate,
                period_s=rollout.policy.period_s,
            )
        except UsageError as error:
            self.session.world.show(f"no calls of our own are made: {error.what}")
        else:
            self.calls.start()

    def hush(self) -> None:
        """No call of our own begins after this."""
        if self.calls:
            self.calls.stop()
            self.calls = None

    def ready(self) -> machine.CallFailed | None:
        """What the canary needs before it has calls; None once it has that."""
        if self.rollout.weight > 0:
            return None
        gateway, rollout = self.session.gateway, self.rollout
        alias = gateway.alias(self.arn.name, self.opened.alias)
        canary = gateway.function(self.arn.name, rollout.canary)
        if alias and canary and alias.routing == rollout.routing(0.0):
            try:
                with self.held_on():
                    footing.provision(self.session, alias, canary)
            except (FunctionFailed, UsageError) as error:
                return machine.CallFailed(at=self.now, what=error.what)
        self.call()
        if self.ahead is None and not self.session.world.local and self.opened.series:
            with suppress(AwsError):  # told when it is measured in earnest
                self._tallies(self.now - rollout.policy.period_s)
        return None

    def gates(self, moment: machine.Moment, weight: float, since: float) -> AnySignal:
        steady = with_other(self.session, world=with_other(self.session.world, clock=self.clock))
        with self.held_on():
            signal = gating.run_gates(
                steady, self.opened.id, moment, weight, arn=self.arn, version=self.rollout.canary, since=since
            )
        if isinstance(signal, machine.GateWaiting) and not 0 < self.rollout.weight < 1:
            return self.wait(self.now + 2.0) or signal
        if isinstance(signal, machine.GatePassed) and moment == "after":  # it may have stood for hours, and is the end
            found = self.session.gateway.alias(self.arn.name, self.opened.alias)
            if found is None or not self.ours(found):
                return self.drift(found)
        return signal

    def route(self, routing: Routing, where: str) -> AnySignal:
        """One conditional UpdateAlias; after a lost answer, what is there decides.

        Found as it should be, it is our own call of before; as it was, the call is sent (again); else somebody came.
        """
        state = self.rollout.state
        back = isinstance(state, machine.RollingBack)
        gateway = self.session.undoing if back else self.session.gateway
        # A call that a dead watcher sent, or whose answer was lost, may land yet. It asks for the revision that it
        # saw: a new one, in its way, makes sure that it does not.
        late = isinstance(state, machine.RollingBack) and state.perhaps is not None
        began, contests, delay = self.now, 0, 0.5
        while True:
            self.hold()
            try:
                found = gateway.alias(self.arn.name, self.opened.alias)
                if found and self.held_by_aws(found) and found.version == routing.version:
                    found = self.moved(found, routing)
                if found and found.routing == routing and not late:
                    self.alias = found
                    return self.confirmed(found, routing)
                if found is None or not (self.ours(found) or found.routing == routing):
                    return self.drift(found)
                self.hold(surely=True)
                sent = gateway.point(found, routing, expecting=found.revision, description=self.described(found))
                late = False
                if sent.routing == routing:
                    self.alias = sent
                    return self.confirmed(sent, routing)
                continue  # AWS holds it on the version before, until the other is ready
            except (Ambiguous, Unreachable, Throttled) as error:
                # A canary with nobody watching is worse than a watcher that waits for the network.
                if self.now - began > self.rollout.policy.hold_s:
                    error.next = f"`pointsman rollout resume {self.opened.alias}` goes on from here."
                    raise
                self.session.say(f"{where}: {error.what}; trying again")
            except (PreconditionFailed, Conflict) as error:
                contests += 1
                if contests == 5:
                    return machine.CallFailed(at=self.now, what=f"{where}: {error.what}")
            except NotFound as error:
                if not back:  # the canary's version, say: nothing of that is left to try
                    return machine.DriftSeen(at=self.now, what=error.what)
                return machine.CallFailed(at=self.now, what=f"{where}: {error.what}")
            except (AwsError, FunctionFailed) as error:
                return machine.CallFailed(at=self.now, what=f"{where}: {error.what}")
            if signal := None if back else self.wait(self.now + delay):
                return signal
            if back:
                self.session.world.clock.sleep(delay)
            delay = min(delay * 1.5, 10.0)

    def confirmed(self, found: Alias, routing: Routing) -> AnySignal:
        """Where the alias itself keeps environments ready, AWS divides them anew at each weight: until then."""
        if self.opened.shares and routing.canary:
            with self.held_on():
                footing.wait_ready(self.session, self.arn, self.opened.alias)
        return machine.WeightConfirmed(at=self.now, revision=found.revision, ahead=self.ahead or 0.0)

    def moved(self, found: Alias, routing: Routing) -> Alias | None:
        was = found.routing.canary
        assert was is not None
        with self.held_on():
            return footing.moved(self.session, found, routing, was.version)

    def held_by_aws(self, found: Alias) -> bool:
        """AWS gives the version before all the weight until the other's environments are ready. We never do."""
        canary = found.routing.canary
        return bool(
            self.opened.shares
            and canary
            and float(canary.weight) == 1.0
            and {found.version, canary.version} == {self.rollout.baseline, self.rollout.canary}
        )

    def described(self, found: Alias) -> str | None:
        """The description that goes with the move; None leaves what somebody else wrote there meanwhile."""
        ours, before, state = self.opened.description, self.opened.described, self.rollout.state
        if isinstance(state, machine.Promoting) and found.description == before:
            return ours
        if isinstance(state, machine.RollingBack) and found.description == ours != before:
            return before
        return None

    def ours(self, found: Alias) -> bool:
        """Whether the alias is as this rollout left it. Its revision may have changed with its description only."""
        rollout, state = self.rollout, self.rollout.state
        weights = [rollout.weight]
        if isinstance(state, machine.RollingBack) and state.perhaps is not None:
            weights.append(state.perhaps)
        return found.routing in [rollout.routing(each) for each in weights] or self.held_by_aws(found)

    def drift(self, found: Alias | None) -> machine.DriftSeen:
        alias, was = self.opened.alias, self.rollout.routing(self.rollout.weight)
        what = f"{alias} serves {found.routing}, not {was}" if found else f"{alias} is gone"
        return machine.DriftSeen(at=self.now, what=what)

    def measure(self, since: float) -> AnySignal:
        """What was counted since; a red alarm and a moved alias come before any statistics."""
        session, opened, rollout = self.session, self.opened, self.rollout
        try:
            found = session.gateway.alias(self.arn.name, opened.alias)
            if found is None or not self.ours(found):
                return self.drift(found)
            if red := self.turned_red():
                return machine.Failed(at=self.now, why=red)
            if not opened.series:
                return machine.Measured(at=self.now, until=self.now - rollout.policy.lag_s)
            period = int(rollout.policy.period_s)
            read = self._tallies(since)
        except AwsError as error:
            return self.wait(self.now + rollout.policy.period_s) or machine.Measured(
                at=self.now, until=since, error=error.what
            )
        buckets = [
            bucket
            for name, versions in read.tallies.items()
            for bucket in _buckets(
                name,
                period,
                {each.at: each for each in versions.get(str(rollout.canary), ())},
                {each.at: each for each in versions.get(str(rollout.baseline), ())},
            )
        ]
        if self.calls:
            buckets = list(_with_calls(buckets, self.calls.take(read.until), period))
            if self.calls.trouble not in ("", self.trouble):
                self.trouble = self.calls.trouble
                session.world.show(f"calls of our own do not arrive: {self.trouble}")
        if read.until <= since:  # nothing is complete yet: ask again a little later
            return self.wait(self.now + max(1.0, rollout.policy.period_s / 4)) or machine.Tick(at=self.now)
        return machine.Measured(at=self.now, until=read.until, buckets=tuple(buckets))

    def _tallies(self, since: float) -> Measured:
        policy = self.rollout.policy
        read = self.session.gateway.tallies(
            self.arn.name,
            self.opened.alias,
            (self.rollout.baseline, self.rollout.canary),
            self.opened.series,
            since=since,
            period=int(policy.period_s),
            settle=policy.lag_s,
            quiet=0.0 if self.session.world.local else metrics.QUIET_S,
        )
        off = read.now - self.now
        self.ahead = off if abs(off) > OFF_S else 0.0
        return read

    def turned_red(self) -> str:
        """The first alarm that is red and was not from the beginning; one that clears counts from then on.

        One that is gone is told, and watched no longer: what is compared goes on. Alarms that cannot be read for as
        long as measurements may fail are a reason to go back.
        """
        names = [each for each in self.opened.alarms if each not in self.gone]
        if not names:
            return ""
        try:
            found = self._alarms(names)
        except AwsError as error:
            self.blind = self.now if self.blind is None else self.blind
            if self.now - self.blind > self.rollout.policy.hold_s:
                return f"alarms could not be read for {self.rollout.policy.hold_s:g} s: {error.what}"
            self.session.say(f"alarms cannot be read: {error.what}")
            return ""
        self.blind = None
        for each in found:
            if each.state == "ALARM" and self.opened.red.get(each.name) != each.since:
                return f"alarm {each.name} turned red: {each.reason}"
        return ""

    def _alarms(self, names: list[str]) -> tuple[AlarmState, ...]:
        try:
            return self.session.gateway.alarms(names)
        except NotFound:
            found: list[AlarmState] = []
            for name in names:
                try:
                    found += self.session.gateway.alarms([name])
                except NotFound:
                    self.gone.add(name)
                    self.session.world.show(f"alarm {name} is gone, and is watched no longer")
            return tuple(found)

    # The end

    def ending(self) -> Alias:
        """The alias where all of it serves the canary; an error of its own kind for each other end."""
        try:
            return self._ending()
        except (GateRefused, LostRace, NotRestored) as error:
            error.rollout = self.session.rollout
            raise

    def _ending(self) -> Alias:
        opened, rollout = self.opened, self.rollout
        where = f"rollout of {opened.alias} to version {rollout.canary}"
        look = f"`pointsman rollout report {opened.alias}` tells why, with the numbers"
        kept = (self.session.rollout or {}).get("reports", {}).get("markdown")
        look += f"; so does {kept}." if kept else "."
        match rollout.state:
            case machine.Promoted():
                found = self.alias or self.session.gateway.alias(self.arn.name, opened.alias)
                if found is None or found.routing != rollout.routing(1.0):
                    what = f"it serves {found.routing}" if found else "it is gone"
                    raise LostRace(f"it was promoted, and moved by somebody else since: {what}", where=where, next=look)
                return found
            case machine.RolledBack(why=why):
                moved = f"{opened.alias} serves version {rollout.baseline} alone. "
                raise GateRefused(why, where=where, next=moved + look)
            case machine.Superseded(what=what):
                raise LostRace(
                    f"somebody else moved the alias: {what}", where=where, next=f"Nothing was overwritten. {look}"
                )
            case machine.Stuck(why=why):
                raise NotRestored(
                    why,
                    where=where,
                    next=f"Look at {opened.alias} in AWS; `pointsman rollout abort {opened.alias}` tries once more.",
                )
            case state:
                raise AssertionError(f"not an end: {state}")


def _with_calls(
    buckets: list[analysis.Bucket], sent: tuple[synthetic.Sent, ...], period: int
) -> Iterator[analysis.Bucket]:
    """Our own calls count as the alias's do: they reached both versions in turn, under the same conditions."""
    own = {each.at: each for each in sent}
    for bucket in buckets:
        mine = own.pop(bucket.at, None) if bucket.metric == "errors" else None
        if mine is None:
            yield bucket
            continue
        canary, baseline = _counts(mine.canary), _counts(mine.baseline)
        yield replace(bucket, canary=bucket.canary + canary, baseline=bucket.baseline + baseline)
    for at, mine in own.items():
        yield analysis.Bucket(
            metric="errors", at=at, seconds=float(period), canary=_counts(mine.canary), baseline=_counts(mine.baseline)
        )


def _counts(calls: synthetic.Calls) -> analysis.Counts:
    return analysis.Counts(calls=calls.calls, bad=calls.bad)


def _buckets(
    metric: str, period: int, canary: dict[float, Any], baseline: dict[float, Any]
) -> Iterator[analysis.Bucket]:
    """A period that either had calls in. What is missing is missing: no calls, not calls that were good."""

    def counts(tally: Any) -> analysis.Counts:
        return analysis.Counts(calls=tally.calls, bad=tally.bad) if tally else analysis.Counts(calls=0, bad=0)

    for at in sorted({*canary, *baseline}):
        yield analysis.Bucket(
            metric=metric,
            at=at,
            seconds=float(period),
            canary=counts(canary.get(at)),
            baseline=counts(baseline.get(at)),
        )


def _renewed(ledger: Ledger, lease: Lease, seconds: float = LEASE_S) -> Lease | None:
    """The lease, for so long again; None where another watcher had it meanwhile, though it may be free by now."""
    renewed = ledger.lease(lease.name, lease.holder, seconds)
    if renewed and renewed.token != lease.token:
        ledger.release(renewed)
        return None
    return renewed


@contextmanager
def beating(ledger: Ledger, lease: Lease, every_s: float, seconds: float = LEASE_S) -> Iterator[None]:
    """Renews a lease from beside, in real time, each time for so long.

    One that was lost meanwhile stays lost: it is for `hold` to find.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(every_s):
            with suppress(LedgerError):
                if not _renewed(ledger, lease, seconds):
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def report(session: Session, there: Known) -> dict[str, Any]:
    """The rollout in short, for `--json`; its whole story is written beside the test reports, where that can be."""
    from pointsman import report_page, reporting  # a command that moves no traffic step by step starts without

    told = prologue(session.ledger, there)
    for _entry, signal in signals(session.ledger, there.opened.id):
        told = story.tell(told, signal)
    kept: dict[str, str] = {}
    folder = session.world.reports / session.run
    writers: dict[str, Callable[[story.Story], str]] = {
        "html": report_page.html,
        "markdown": reporting.markdown,
        "text": reporting.text,
        "json": lambda told: to_json(reporting.document(told)).decode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, write in writers.items():
            path = folder / f"rollout.{_SUFFIXES.get(kind, kind)}"
            path.write_text(write(told), encoding="utf-8")
            kept[kind] = str(path)
    except (OSError, ValueError) as error:  # a full disk, say: what moved has moved
        session.say(f"the report could not be written: {error}")
    return {"id": there.opened.id, "outcome": told.outcome, "reports": kept}


_SUFFIXES = {"markdown": "md", "text": "txt"}


class Restored(Value, frozen=True, kw_only=True):
    """An alias put back by itself alone. `was` had a share of its calls: `weight`, in per cent."""

    alias: AliasName
    version: Version
    was: str = ""
    weight: float = 0.0


def restore_by_alias(session: Session) -> Restored:
    """Without a rollout that the ledger knows. Raises NotFound where there is no such alias."""
    name = owners.name(session)
    alias = session.gateway.alias(name, session.environment.alias)
    if alias is None:
        raise NotFound(
            f"there is no alias {session.environment.alias} of {name}", next="`pointsman status` shows those there are."
        )
    session.check_account(alias.arn)
    share = alias.routing.canary
    if share is None:
        session.outcome = "unchanged"
        return Restored(alias=alias.name, version=alias.version)
    restore_alone(session, name, alias)
    return Restored(alias=alias.name, version=alias.version, was=share.version, weight=float(share.weight) * 100)


def restore_alone(session: Session, name: FunctionName, alias: Alias) -> Alias:
    """Without a ledger: the alias itself tells its baseline. One conditional UpdateAlias with empty weights."""
    back, lost, where = Routing(version=alias.version), 0, f"putting {alias.name} back"
    while True:
        try:
            return session.undoing.point(alias, back, expecting=alias.revision, description=None)
        except (Ambiguous, PreconditionFailed) as error:
            found = session.gateway.alias(name, alias.name)
            if found and found.routing == back:
                return found
            lost += 1
            if found and found.revision == alias.revision:  # nothing came of it
                if lost == 3:
                    raise
                continue
            raise LostRace(
                f"somebody else moved it meanwhile: {found.routing if found else 'it is gone'}",
                where=where,
                next="Nothing was overwritten.",
            ) from error
