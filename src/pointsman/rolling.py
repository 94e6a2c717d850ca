"""Carries a rollout through: asks the machine what is due, does it, writes down what came of it, until it ends.

The state is in the ledger before a call that it announces is made. So a watcher may be killed at any point, and another
one, on this machine or another, goes on from the last state: what had taken effect is found there. A lease keeps two
watchers from acting at once; the alias's revision id keeps both from overwriting what somebody else did.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from msgspec.structs import replace

from pointsman import analysis, footing, gates, gating, owners, sharing, story, synthetic
from pointsman import rollout as machine
from pointsman.aws import metrics
from pointsman.config import Rollout as Declared
from pointsman.errors import (
    Ambiguous,
    AwsError,
    Conflict,
    GateRefused,
    Interrupted,
    LostRace,
    NotFound,
    NotRestored,
    PreconditionFailed,
    Throttled,
    Unreachable,
    UsageError,
)
from pointsman.ledger import Entry, Lease, Ledger, Run, born
from pointsman.model import (
    Alias,
    AliasName,
    FunctionArn,
    FunctionName,
    Query,
    Routing,
    Series,
    Value,
    Version,
    from_json,
    to_json,
)
from pointsman.rollout import Action, AnySignal, Policy, Rollout
from pointsman.world import Session, World

LEASE_S = 45.0
Ask = Literal["pause", "resume", "skip", "abort"]


class Opened(Value, frozen=True, kw_only=True):
    """What the ledger keeps of a rollout from its beginning on. `rollout` is how it began; `id` is its run's.

    `description` is what the alias gets with the canary. `slow_ms`: what counts as slow. `red`: alarms that were red
    already. `notes`: what the person should know.
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
    red: tuple[str, ...] = ()
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
    def open(self) -> bool:
        """Whether the alias may be half-way still: one that is stuck has ended for its watcher, not for the alias."""
        return not self.rollout.ended or isinstance(self.rollout.state, machine.Stuck)


# What the ledger knows


def known(ledger: Ledger, arn: FunctionArn, alias: str) -> Known | None:
    """The alias's newest rollout, ended or not."""
    entry = next(iter(ledger.of_function("rollout", arn, alias)), None)
    return _known(ledger, entry) if entry else None


def called(ledger: Ledger, name: str) -> Known | None:
    """The newest rollout with this id, or of an alias or environment of this name."""
    for entry in ledger.all_of("rollout"):
        body = entry.body["opened"]
        if name in (body["id"], body["alias"], body["environment"]):
            return _known(ledger, entry)
    return None


def listed(ledger: Ledger) -> Iterator[Known]:
    """Every rollout, newest first."""
    for entry in ledger.all_of("rollout"):
        yield _known(ledger, entry)


def _known(ledger: Ledger, entry: Entry) -> Known:
    opened = from_json(to_json(entry.body["opened"]), Opened)
    last = ledger.newest("rollout-state", opened.id)
    if last is None:
        return Known(opened=opened, arn=entry.function, rollout=opened.rollout, heard=entry.seq)
    found = from_json(to_json(last.body["rollout"]), Rollout)
    return Known(opened=opened, arn=entry.function, rollout=found, heard=int(last.body["heard"]))


def lease_name(arn: FunctionArn | str, alias: str) -> str:
    return f"rollout {arn} {alias}"


def watcher(ledger: Ledger, rollout: Known) -> Lease | None:
    """Who carries it through now; None where nobody does (or did, and is dead)."""
    lease = ledger.holder(lease_name(rollout.arn, rollout.opened.alias))
    return None if lease is None or _dead(lease.holder) else lease


def _holder() -> str:
    return f"{os.uname().nodename} {os.getpid()} {born(os.getpid())}"


def _dead(holder: str) -> bool:
    """Whether it was a process of this machine that is gone: nobody has to wait for its lease to end."""
    match holder.split(" "):
        case [host, pid, began] if host == os.uname().nodename and pid.isdecimal():
            now = born(int(pid))
            return now == "" or (now != began and "?" not in (now, began))
    return False


def signals(ledger: Ledger, rollout: str, *, after: int = 0) -> Iterator[tuple[Entry, AnySignal]]:
    """What happened, oldest first, from an entry on."""
    for entry in ledger.after(after, "rollout-state", rollout):
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


def begun_by(ledger: Ledger, run: Run) -> Known | None:
    """The rollout that the run, or one that it resumed, began, where the alias may be half-way still."""
    resumed = {each.id: str(each.request.get("resumes") or "") for each in ledger.runs()}
    chain = run.id
    while chain:
        if there := called(ledger, chain):
            return there if there.open else None
        chain = resumed.get(chain, "")
    return None


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


def end_for_rollback(session: Session, arn: FunctionArn, alias: Alias) -> Alias:
    """A rollback while a rollout is under way ends that properly: its watcher hears of it, and gives back all."""
    there = known(session.ledger, arn, alias.name)
    if there is None or not there.open:
        return alias
    end_first(session, there, why="rolled back")
    return session.gateway.alias(arn.name, alias.name) or alias


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
    if there is None or not there.open or there.canary != asked.version:
        refuse_third(session, there)
        there = _open(session, arn, asked)
    return follow(session, there)


def refuse_third(session: Session, there: Known | None) -> None:
    """A rollout under way ends first: by itself, by `--supersede`, or not at all."""
    if there is None or not there.open:
        return
    if session.world.options.supersede:
        session.say(f"ending the rollout of {there.opened.alias} to version {there.canary} first")
        end_first(session, there, why="superseded by another release")
        return
    opened = there.opened
    raise LostRace(
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
    policy = Policy(
        steps=tuple(machine.Step(weight=share / 100, bake_s=bake) for share, bake in ramp.ramp),
        metrics=wanted,
        alpha=ramp.alpha,
        minimum=ramp.minimum,
        early=ramp.early,
        hold_s=ramp.hold,
        quiet=ramp.quiet,
        limit_s=ramp.limit,
        period_s=period,
        lag_s=lag,
        budget=ramp.budget,
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
        red=red,
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
    before = Before.of([analysis.Counts(calls=each.calls, bad=each.bad) for each in found.errors], now - since)
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


def _red_already(session: Session, policy: Declared, notes: list[str]) -> tuple[str, ...]:
    """Alarms that are red before anything moved: no reason to stop what may be the fix."""
    if not policy.alarms:
        return ()
    red = [each for each in session.gateway.alarms(policy.alarms) if each.state == "ALARM"]
    for each in red:
        notes.append(f"alarm {each.name} is red already, and ignored until it clears: {each.reason}")
    return tuple(each.name for each in red)


# Following


def follow(session: Session, there: Known) -> Alias:
    """Carry a rollout through to its end, from wherever it is. The alias as it is then; raises where it went back."""
    with _watching(session, there) as lease:
        watch = Watch(session, there, lease)
        watch.run()
    return watch.ending()


def end_first(session: Session, there: Known, *, why: str) -> Rollout:
    """Abort it, by whoever carries it through; or here, where nobody does."""
    ask(session.world, there, "abort", why=why)
    world, patience = session.world, session.world.options.wait_s
    began = world.clock.now()
    while watcher(world.ledger, there) is not None:
        if (now := known(world.ledger, FunctionArn.parse(there.arn), there.opened.alias)) and not now.open:
            return now.rollout
        if world.clock.now() - began > patience:
            raise LostRace(
                f"its watcher has not ended the rollout within {patience:g} s",
                where=f"ending the rollout of {there.opened.alias}",
                next="Nothing was changed. Look for the process that watches it, or try again.",
            )
        world.clock.sleep(0.5)
        world.refresh()
    there = known(world.ledger, FunctionArn.parse(there.arn), there.opened.alias) or there
    if there.open:
        with _watching(session, there) as lease:
            watch = Watch(session, there, lease)
            watch.run()
            return watch.rollout
    return there.rollout


def ask(world: World, there: Known, what: Ask, *, why: str = "") -> None:
    """A request for whoever carries the rollout through."""
    world.ledger.append(there.opened.id, "rollout-asked", subject=there.opened.id, ask=what, by=world.actor.by, why=why)


@contextmanager
def _watching(session: Session, there: Known) -> Iterator[Lease]:
    """Nobody else acts for the rollout meanwhile."""
    ledger, name = session.ledger, lease_name(there.arn, there.opened.alias)
    other = ledger.holder(name)
    if other and _dead(other.holder):
        ledger.release(other)
    lease = ledger.lease(name, _holder(), LEASE_S)
    if lease is None:
        other = ledger.holder(name)
        raise LostRace(
            f"it is being watched already, by {other.holder if other else 'somebody'}",
            where=f"the rollout of {there.opened.alias}",
            next=f"`pointsman rollout watch {there.opened.alias}` shows it. A watcher that died is replaced after "
            f"{LEASE_S:g} s.",
        )
    try:
        yield lease
    finally:
        ledger.release(lease)


class Watch:
    """One watcher at work. `run` returns when the rollout ended; an interrupt leaves it for `rollout resume`."""

    def __init__(self, session: Session, there: Known, lease: Lease) -> None:
        self.session = session
        self.opened = there.opened
        self.arn = FunctionArn.parse(there.arn)
        # What another watcher wrote since we looked counts: we hold the lease only now.
        self.known = known(session.ledger, self.arn, there.opened.alias) or there
        self.rollout = self.known.rollout
        self.heard = self.known.heard
        self.lease = lease
        self.red = set(self.opened.red)
        self.checks = gating.Checks(session, arn=self.arn, version=self.rollout.canary)
        self.alias: Alias | None = None
        self.calls = self._calls()

    @property
    def now(self) -> float:
        return self.session.world.clock.now()

    def run(self) -> None:
        try:
            signal = self.heed()
            action = self.take(signal) if signal else machine.due(self.rollout)
            if self.calls and self.rollout.weight > 0:
                self.calls.start()
            self.tell()
            while not self.rollout.ended:
                action = self.take(self.heed() or self.carry_out(action))
        finally:
            if self.calls:
                self.calls.stop()
        footing.give_back(self.session, self.arn, self.opened.alias)

    def take(self, signal: AnySignal) -> Action:
        """What the signal makes of the rollout, written down before anything follows from it."""
        before, (self.rollout, action) = self.rollout, machine.advance(self.rollout, signal)
        if self.rollout != before:
            self.session.ledger.append(
                self.session.run,
                "rollout-state",
                function=str(self.arn),
                subject=self.opened.id,
                rollout=self.rollout,
                signal=signal,
                heard=self.heard,
                ended=self.rollout.ended,  # what came before may be forgotten in time, this not
            )
            changed = type(before.state) is not type(self.rollout.state) or before.weight != self.rollout.weight
            if changed and not self.session.world.watched:
                self.session.say(story.state_sentence(self.rollout))
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
            if listen and self.rollout.weight > 0 and (why := self.checks.run(self.now)):
                return machine.Failed(at=self.now, why=why)
            left = until - self.now
            if left <= 0:
                return None
            if self.session.world.halted and self.session.world.halted():
                raise Interrupted("stopped", where=f"the rollout of {self.opened.alias}")
            self.session.world.clock.sleep(min(left, self.session.world.glance_s))

    def hold(self) -> None:
        """Renew the lease in time. Lost, it is another's: whoever has it acts, and we must not."""
        if self.lease.expires - self.now > LEASE_S / 2:
            return
        renewed = self.session.ledger.lease(self.lease.name, self.lease.holder, LEASE_S)
        if renewed is None or renewed.token != self.lease.token:
            raise LostRace(
                "another watcher goes on with it",
                where=f"the rollout of {self.opened.alias}",
                next=f"Nothing is lost: `pointsman rollout watch {self.opened.alias}` shows it.",
            )
        self.lease = renewed

    # What is due

    def carry_out(self, action: Action) -> AnySignal:
        match action:
            case machine.SetWeight(routing=routing):
                self.ready()
                return self.route(routing, None, f"shifting {self.opened.alias}")
            case machine.Promote(routing=routing):
                return self.route(routing, self.opened.description, f"promoting {self.opened.alias}")
            case machine.Restore(routing=routing):
                return self.route(routing, None, f"putting {self.opened.alias} back")
            case machine.Measure(at=at, since=since):
                return self.wait(at) or self.measure(since)
            case machine.RunGates(moment=moment, weight=weight, since=since):
                return self.gates(moment, weight, since)
            case machine.Nothing():
                return machine.Tick(at=self.now)

    def _calls(self) -> synthetic.Synthetic | None:
        """Calls of our own, where the file asks for them."""
        declared, rollout = self.session.environment.rollout, self.rollout
        if declared is None or declared.traffic is None:
            return None
        return synthetic.traffic(
            self.session,
            self.arn,
            rollout.baseline,
            rollout.canary,
            patterns=declared.traffic.events,
            rate=declared.traffic.rate,
            period_s=rollout.policy.period_s,
        )

    def ready(self) -> None:
        """What the canary needs before it has calls."""
        if self.rollout.weight > 0:
            return
        gateway, rollout = self.session.gateway, self.rollout
        alias = gateway.alias(self.arn.name, self.opened.alias)
        canary = gateway.function(self.arn.name, rollout.canary)
        if alias and canary and alias.routing == rollout.routing(0.0):
            footing.provision(self.session, alias, canary)
        if self.calls:
            self.calls.start()

    def gates(self, moment: machine.Moment, weight: float, since: float) -> AnySignal:
        self.hold()
        signal = gating.run_gates(
            self.session, self.opened.id, moment, weight, arn=self.arn, version=self.rollout.canary, since=since
        )
        if isinstance(signal, machine.GateWaiting) and not 0 < self.rollout.weight < 1:
            return self.wait(self.now + 2.0) or signal
        return signal

    def route(self, routing: Routing, description: str | None, where: str) -> AnySignal:
        """One conditional UpdateAlias; after a lost answer, what is there decides.

        Found as it should be, it is our own call of before; as it was, the call is sent (again); else somebody came.
        """
        back = isinstance(self.rollout.state, machine.RollingBack)
        gateway, was = self.session.undoing if back else self.session.gateway, self.rollout.routing(self.rollout.weight)
        began, contests, delay = self.now, 0, 0.5
        while True:
            self.hold()
            try:
                found = gateway.alias(self.arn.name, self.opened.alias)
                if found is None:
                    return machine.DriftSeen(at=self.now, what=f"{self.opened.alias} is gone")
                if found.routing == routing:
                    self.alias = found
                    return machine.WeightConfirmed(at=self.now, revision=found.revision)
                if not self.ours(found, was):
                    return machine.DriftSeen(at=self.now, what=f"{self.opened.alias} serves {found.routing}, not {was}")
                self.alias = gateway.point(found, routing, expecting=found.revision, description=description)
                return machine.WeightConfirmed(at=self.now, revision=self.alias.revision)
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
            except AwsError as error:
                return machine.CallFailed(at=self.now, what=f"{where}: {error.what}")
            if signal := None if back else self.wait(self.now + delay):
                return signal
            if back:
                self.session.world.clock.sleep(delay)
            delay = min(delay * 1.5, 10.0)

    def ours(self, found: Alias, was: Routing) -> bool:
        """Whether the alias is as this rollout left it. Its revision may have changed with its description only."""
        return found.routing == was

    def measure(self, since: float) -> AnySignal:
        """What was counted since; a red alarm and a moved alias come before any statistics."""
        session, opened, rollout = self.session, self.opened, self.rollout
        try:
            found = session.gateway.alias(self.arn.name, opened.alias)
            was = rollout.routing(rollout.weight)
            if found is None or not self.ours(found, was):
                now = str(found.routing) if found else "nothing: it is gone"
                return machine.DriftSeen(at=self.now, what=f"{opened.alias} serves {now}, not {was}")
            if red := self.turned_red():
                return machine.Failed(at=self.now, why=red)
            if not opened.series:
                return machine.Measured(at=self.now, until=self.now - rollout.policy.lag_s)
            period = int(rollout.policy.period_s)
            read = session.gateway.tallies(
                self.arn.name,
                opened.alias,
                (rollout.baseline, rollout.canary),
                opened.series,
                since=since,
                period=period,
                settle=rollout.policy.lag_s,
                quiet=0.0 if session.world.local else metrics.QUIET_S,
            )
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
        if read.until <= since:  # nothing is complete yet: ask again a little later
            return self.wait(self.now + max(1.0, rollout.policy.period_s / 4)) or machine.Tick(at=self.now)
        return machine.Measured(at=self.now, until=read.until, buckets=tuple(buckets))

    def turned_red(self) -> str:
        """The first alarm that is red and was not from the beginning; one that clears counts from then on."""
        declared = self.session.environment.rollout
        if declared is None or not declared.alarms:
            return ""
        for each in self.session.gateway.alarms(declared.alarms):
            if each.state != "ALARM":
                self.red.discard(each.name)
            elif each.name not in self.red:
                return f"alarm {each.name} turned red: {each.reason}"
        return ""

    # The end

    def ending(self) -> Alias:
        opened, rollout = self.opened, self.rollout
        where = f"rollout of {opened.alias} to version {rollout.canary}"
        look = f"`pointsman rollout report {opened.alias}` tells why, with the numbers."
        match rollout.state:
            case machine.Promoted():
                found = self.alias or self.session.gateway.alias(self.arn.name, opened.alias)
                assert found is not None
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


def settle_run(session: Session, there: Known) -> None:
    """The release that began an aborted rollout has nothing left to resume."""
    run = session.ledger.unfinished(there.opened.release, but=session.run)
    if run is not None and run.id == there.opened.release:
        session.ledger.end(run.id, "restored", "its rollout was aborted")


def restore_alone(session: Session, name: FunctionName, alias: Alias) -> Alias:
    """Without a ledger: the alias itself tells its baseline. One conditional UpdateAlias with empty weights."""
    back = Routing(version=alias.version)
    try:
        return session.undoing.point(alias, back, expecting=alias.revision, description=None)
    except (Ambiguous, PreconditionFailed) as error:
        found = session.gateway.alias(name, alias.name)
        if found and found.routing == back:
            return found
        raise LostRace(
            f"somebody else moved it meanwhile: {found.routing if found else 'it is gone'}",
            where=f"putting {alias.name} back",
            next="Nothing was overwritten.",
        ) from error
