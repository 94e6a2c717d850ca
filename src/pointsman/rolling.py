"""Rollouts begun, gone on with, ended first, and out of the way. `watching` carries one through."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pointsman import (
    analysis,
    footing,
    gates,
    leases,
    owners,
    rollout_record,
    sharing,
    synthetic,
    watching,
)
from pointsman import rollout as machine
from pointsman.aws import metrics
from pointsman.config import Rollout as Declared
from pointsman.errors import (
    Ambiguous,
    AwsError,
    LostRace,
    NotFound,
    NotRestored,
    PreconditionFailed,
    UsageError,
)
from pointsman.ledger import Lease
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
)
from pointsman.rollout import Rollout
from pointsman.world import Session

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
    there = rollout_record.known(session.ledger, arn, alias.name)
    return there.canary if there and there.open else None


def clear_way(session: Session, arn: FunctionArn, alias: Alias | None, version: Version | None) -> Alias | None:
    """The alias, free for a release of this version (None: of one that is yet to be found or published).

    A rollout that is under way to another version, or one that nobody here knows, is ended first by `--supersede`;
    else LostRace, and nothing is touched. One to this very version is gone on with.
    """
    if alias is None:
        return None
    there = rollout_record.known(session.ledger, arn, alias.name)
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
    refuse_third(session, rollout_record.known(session.ledger, arn, alias.name))


def end_for_rollback(session: Session, arn: FunctionArn, alias: Alias) -> tuple[Alias, bool]:
    """A rollback while a rollout is under way ends that properly: its watcher hears of it, and gives back all.

    (The alias then, whether that was so): it is the way back, and there is no further one. So it stays when the
    rollback is killed, and resumed, right after that.
    """
    there = rollout_record.known(session.ledger, arn, alias.name)
    if there is None:
        return alias, False
    if there.open:
        _must_be_back(end_first(session, there, why="rolled back"), there.opened.alias)
        rollout_record.settle(session, there, "restored", "rolled back")
        return session.gateway.alias(arn.name, alias.name) or alias, True
    runs = rollout_record.chain(session.ledger, session.run)
    asked = session.ledger.after(0, "rollout-asked", there.opened.id)
    return alias, any(each.body["ask"] == "abort" and each.body.get("run") in runs for each in asked)


def abort(session: Session, there: rollout_record.Known, *, why: str) -> None:
    """End it, and what it was part of. Raises NotRestored, LostRace, UsageError where its end is another one."""
    ended, alias = end_first(session, there, why=why) if there.open else there.rollout, there.opened.alias
    _must_be_back(ended, alias)
    where = f"aborting the rollout of {alias}"
    match ended.state:
        case machine.Superseded(what=what):
            rollout_record.settle(session, there, "lost", what)
            raise LostRace(f"somebody else moved the alias: {what}", where=where, next="Nothing was overwritten.")
        case machine.Promoted():
            raise UsageError(
                f"it had ended: version {ended.canary} serves everything",
                where=where,
                next=f"`pointsman rollback {alias}` goes back.",
            )
        case _:
            rollout_record.settle(session, there, "restored", "its rollout was aborted")


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
    there = rollout_record.known(session.ledger, arn, asked.alias)
    # Ended or not: what is resumed must not be tried a second time.
    mine = rollout_record.begun_by(session.ledger, session.run)
    if mine and there and mine.opened.id == there.opened.id and mine.canary == asked.version:
        return follow(session, mine)
    if there is None or not there.open or there.canary != asked.version:
        refuse_third(session, there)
    with watching.alone_for(session, arn, asked.alias) as lease:
        there = rollout_record.known(session.ledger, arn, asked.alias)  # from here on nobody else begins one
        if there is None or not there.open:
            with leases.beating(session.ledger, lease, leases.BEAT_S):
                there = _open(session, arn, asked)
            _still_first(session, there, lease)
        elif there.canary != asked.version:
            raise _under_way(there)
        watch = watching.Watch(session, there, lease)
        watch.run()
    return watch.ending()


def _still_first(session: Session, there: rollout_record.Known, lease: Lease) -> None:
    """Who slept through the lease while it looked may have begun this on top of another's: it is taken back."""
    if leases.renewed(session.ledger, lease) is not None:
        return
    opened, what = there.opened, "another release of it was at work"
    signal = machine.DriftSeen(at=session.world.clock.now(), what=what)
    ended, _ = machine.advance(there.rollout, signal)
    facts: dict[str, Any] = {"rollout": ended, "signal": signal, "heard": there.heard, "token": lease.token}
    session.ledger.append(session.run, "rollout-state", function=there.arn, subject=opened.id, ended=True, **facts)
    raise LostRace(what, where=f"beginning a rollout of {opened.alias}", next="Nothing was moved.")


def refuse_third(session: Session, there: rollout_record.Known | None) -> None:
    """A rollout under way ends first: by itself, by `--supersede`, or not at all."""
    if there is None or not there.open:
        return
    if session.world.options.supersede:
        session.say(f"ending the rollout of {there.opened.alias} to version {there.canary} first")
        ended = end_first(session, there, why="superseded by another release")
        _must_be_back(ended, there.opened.alias)
        rollout_record.settle(session, there, "restored", "superseded by another release")
        return
    raise _under_way(there)


def _under_way(there: rollout_record.Known) -> LostRace:
    opened = there.opened
    return LostRace(
        f"a rollout of {opened.alias} to version {there.canary} is under way (by {opened.by}, run {opened.id})",
        where=f"releasing to {opened.alias}",
        next=f"`pointsman rollout watch {opened.alias}` shows it; `--supersede` ends it first, "
        f"`pointsman rollout abort {opened.alias}` for good.",
    )


def _open(session: Session, arn: FunctionArn, asked: Asked) -> rollout_record.Known:
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
    opened = rollout_record.Opened(
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
    return rollout_record.Known(opened=opened, arn=str(arn), rollout=began, heard=seq)


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


# Going on


def follow(session: Session, there: rollout_record.Known) -> Alias:
    """Carry a rollout through to its end, from wherever it is. The alias as it is then; raises where it went back."""
    with watching.alone_for(session, FunctionArn.parse(there.arn), there.opened.alias) as lease:
        watch = watching.Watch(session, there, lease)
        watch.run()
    return watch.ending()


def end_first(session: Session, there: rollout_record.Known, *, why: str) -> Rollout:
    """Abort it, by whoever carries it through; or here, where nobody does. The rollout as it ended."""
    world, patience = session.world, session.world.options.wait_s
    rollout_record.ask(world, there, "abort", why=why, run=session.run)
    began = world.clock.now()
    while rollout_record.watcher(world.ledger, there) is not None:
        if not (there := rollout_record.again(world.ledger, there)).open:
            return there.rollout
        if world.clock.now() - began > patience:
            raise LostRace(
                f"its watcher has not ended the rollout within {patience:g} s",
                where=f"ending the rollout of {there.opened.alias}",
                next="Nothing was changed. Look for the process that watches it, or try again.",
            )
        world.clock.sleep(0.5)
        world.refresh()
    with watching.alone_for(session, FunctionArn.parse(there.arn), there.opened.alias) as lease:
        watch = watching.Watch(session, there, lease)
        watch.run()
        return watch.rollout


# By the alias alone


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
