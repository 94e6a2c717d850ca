"""A watcher at work: asks the machine what is due, does it, writes down what came of it, until the rollout ends.

The state is in the ledger before a call that it announces is made. So a watcher may be killed at any point, and another
one, on this machine or another, goes on from the last state: what had taken effect is found there. A lease keeps two
watchers from acting at once; the alias's revision id keeps both from overwriting what somebody else did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as with_other
from typing import Any

from msgspec.structs import replace

from pointsman import (
    analysis,
    footing,
    gating,
    leases,
    rollout_record,
    story,
    synthetic,
)
from pointsman import rollout as machine
from pointsman.aws import metrics
from pointsman.aws.transports import Clock
from pointsman.errors import (
    Ambiguous,
    AwsError,
    Conflict,
    FunctionFailed,
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
from pointsman.ledger import Lease
from pointsman.model import (
    AlarmState,
    Alias,
    AliasName,
    FunctionArn,
    Measured,
    Routing,
    to_json,
)
from pointsman.rollout import Action, AnySignal
from pointsman.world import Session

OFF_S = 5.0
"""By how much our clock may differ from AWS's unheeded: the Date of an answer has whole seconds."""


def alone_for(session: Session, arn: FunctionArn, alias: AliasName) -> AbstractContextManager[Lease]:
    """Nobody else acts for the alias's rollout, or begins one, meanwhile."""

    def taken(by: str) -> LostRace:
        return LostRace(
            f"it is being watched already, by {by}",
            where=f"the rollout of {alias}",
            next=f"`pointsman rollout watch {alias}` shows it. "
            f"A watcher that died is replaced after {leases.LEASE_S:g} s.",
        )

    return leases.alone(session.ledger, rollout_record.lease_name(arn, alias), session.run, leases.LEASE_S, taken)


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

    def __init__(self, session: Session, there: rollout_record.Known, lease: Lease) -> None:
        self.session = session
        self.opened = there.opened
        self.arn = FunctionArn.parse(there.arn)
        self.lease = lease
        self.held = session.world.clock.now()  # when the lease was renewed last
        if there.open:
            facts: dict[str, Any] = {"token": lease.token, "holder": lease.holder}
            session.ledger.append(session.run, "rollout-watched", subject=self.opened.id, **facts)
        # What another watcher wrote since we looked counts; what it writes from now on does not.
        self.known = rollout_record.again(session.ledger, there)
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
        if not surely and 0 <= now - self.held < leases.LEASE_S / 2:
            return
        renewed = leases.renewed(self.session.ledger, self.lease)
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
        with leases.beating(self.session.ledger, self.lease, leases.BEAT_S):
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


def report(session: Session, there: rollout_record.Known) -> dict[str, Any]:
    """The rollout in short, for `--json`; its whole story is written beside the test reports, where that can be."""
    from pointsman import report_page, reporting  # a command that moves no traffic step by step starts without

    told = rollout_record.prologue(session.ledger, there)
    for _entry, signal in rollout_record.signals(session.ledger, there.opened.id):
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
