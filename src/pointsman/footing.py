"""What the two versions of a rollout stand on: both started, both as ready as the one that is served was.

`provision` before the first traffic, `give_back` after the last. Both look at AWS first and may be done again after
a kill: the ledger says what was asked for (`rollout-provisioned`: once before the call, once after it, once at the
end). Nothing is taken away that somebody else set meanwhile.
"""

from __future__ import annotations

from msgspec.structs import replace

from pointsman import sharing
from pointsman.errors import Ambiguous, Conflict, FunctionFailed, InvalidRequest, TimedOut, UsageError
from pointsman.execute import wait_until_settled
from pointsman.model import (
    Alias,
    AliasName,
    Configuration,
    FunctionArn,
    KeptReady,
    Routing,
    Version,
    counted,
    from_json,
    to_json,
)
from pointsman.sharing import Preparation, Provisioned
from pointsman.world import Session

KIND = "rollout-provisioned"
LONGEST_S = 900.0
"""Snapshots and provisioned environments take minutes: recorded are 2 to 8, and AWS promises nothing."""


def ready(session: Session, arn: FunctionArn, version: Version) -> Configuration:
    """The version once it can be called; with SnapStart its snapshot is made first, which takes minutes.

    Raises FunctionFailed with AWS's reason, TimedOut.
    """
    return wait_until_settled(
        session.gateway,
        session.world.clock,
        arn.name,
        qualifier=version,
        wait_s=_patience(session),
        say=session.say,
    )


def prepare(session: Session, alias: Alias, canary: Configuration) -> Preparation:
    """What `provision` will do, for the plan and before anything moves: two reads, one where nothing is provisioned."""
    name = alias.arn.name
    kept = session.gateway.kept_ready_of_all(name)
    if not kept:
        return Preparation()
    aliases = session.gateway.aliases(name)
    return sharing.preparation(alias.name, alias.version, canary, kept, aliases)


def provision(session: Session, alias: Alias, canary: Configuration) -> Provisioned | None:
    """The canary as ready as `alias`'s version is, before it gets traffic; None where that one has nothing.

    Raises UsageError where AWS does not allow it (nothing was done), FunctionFailed where the environments cannot be
    started or had (they are given back), TimedOut (what was asked for stays, and is waited for again).
    """
    name, version = alias.arn.name, canary.version
    before = open_one(session, alias.arn, alias.name)
    if before and (before.baseline, before.canary) != (alias.version, version):
        give_back(session, alias.arn, alias.name)  # of a rollout that nobody saw to its end
        before = None
    if before is None:
        prepared = prepare(session, alias, canary)
        if prepared.refused:
            raise UsageError(
                "\n".join(prepared.refused), where=f"rolling out to {alias.name}", next="Nothing was changed."
            )
        session.warnings += prepared.notes
        for qualifier in prepared.waits_for:
            wait_ready(session, alias.arn, qualifier)
        if not prepared.number:
            return None
        had = session.gateway.kept_ready(name, alias.version)
        if had is None:
            return None  # given up while we looked
        before = Provisioned(alias=alias.name, baseline=alias.version, canary=version, number=had.number, before=had)
        _write(session, alias.arn, before)
    if not before.made:
        before = _ask(session, alias.arn, before)
    try:
        wait_ready(session, alias.arn, version)
    except FunctionFailed:
        give_back(session, alias.arn, alias.name)
        raise
    return before


def _ask(session: Session, arn: FunctionArn, wanted: Provisioned) -> Provisioned:
    """Asking twice is asking once; of a lost answer AWS tells what became."""
    where = f"keeping {counted(wanted.number, 'environment')} of version {wanted.canary} ready"
    try:
        made = _sent(session, arn, wanted, where)
    except (Conflict, InvalidRequest) as refused:
        _write(session, arn, wanted, done=True)
        raise FunctionFailed(
            refused.what,
            where=where,
            next=f"Nothing moved. Both versions need {counted(wanted.number, 'environment')} for a while: ask AWS for "
            f"more concurrency, lower what version {wanted.baseline} has, or use `--all-at-once`.",
        ) from refused
    asked = replace(wanted, made=made.modified)
    _write(session, arn, asked)
    session.say(f"{where}, as of version {wanted.baseline}")
    return asked


def _sent(session: Session, arn: FunctionArn, wanted: Provisioned, where: str) -> KeptReady:
    gateway, name, version = session.gateway, arn.name, wanted.canary
    if found := gateway.kept_ready(name, version):
        return found
    try:
        return gateway.provision(name, version, wanted.number)
    except Ambiguous as lost:
        session.say(f"{where}: no answer ({lost.what}); looking whether it took effect")
        return gateway.kept_ready(name, version) or gateway.provision(name, version, wanted.number)


def wait_ready(session: Session, arn: FunctionArn, qualifier: str) -> KeptReady | None:
    """What is kept ready of a version or alias, once it is; None where there is nothing (any more).

    After a shift, too, where the alias has it: AWS divides it anew. Raises FunctionFailed with AWS's reason, TimedOut.
    """
    clock, patience = session.world.clock, _patience(session)
    began, delay, told = clock.now(), 0.2, -1
    while True:
        found = session.gateway.kept_ready(arn.name, qualifier)
        if found is None or found.status == "READY":
            return found
        if found.status == "FAILED":
            raise FunctionFailed(
                f"{counted(found.number, 'environment')} of {arn.name}:{qualifier} could not be provisioned: "
                f"{found.reason or 'AWS gives no reason'}",
                where=f"keeping {qualifier} ready",
                next="FUNCTION_ERROR_INIT_FAILURE: its code fails while it loads (see its log). Otherwise look at the "
                "account's concurrency in Lambda's console.",
            )
        waited = clock.now() - began
        if waited > patience:
            raise TimedOut(
                f"{arn.name}:{qualifier} is not ready after {waited:g} s",
                where=f"keeping {qualifier} ready",
                next="`pointsman resume` goes on waiting; `pointsman rollout abort` gives it back.",
            )
        if delay > 1 and int(waited // 15) > told:
            told = int(waited // 15)
            session.say(
                f"waiting until {counted(found.number, 'environment')} of {qualifier} are ready: {waited:.0f} s"
            )
        clock.sleep(delay)
        delay = min(delay * 1.5, 5.0)


def give_back(session: Session, arn: FunctionArn, alias: AliasName) -> tuple[str, ...]:
    """Of the versions of the last rollout, the one that the alias does not serve (any more) gives back.

    What stays is said, with its reason. Nothing is done, and nothing asked, where nothing was set aside. Open after a
    Ctrl-C: what is left behind is paid for.
    """
    mine = open_one(session, arn, alias)
    if mine is None:
        return ()
    gateway = session.undoing
    kept, aliases = gateway.kept_ready_of_all(arn.name), gateway.aliases(arn.name)
    serves = next((each.routing for each in aliases if each.name == alias), None)
    back = sharing.returned(mine, serves, kept, aliases)
    for version in back.versions:
        try:
            gateway.unprovision(arn.name, version)
        except Ambiguous:
            gateway.unprovision(arn.name, version)  # what is gone is gone: it may simply be sent again
        session.say(f"gave back {counted(kept[version].number, 'provisioned environment')} of version {version}")
    for note in back.notes:
        session.say(note)
    session.warnings += back.notes
    if serves is None or not {mine.baseline, mine.canary} <= set(sharing.names(serves)):
        _write(session, arn, mine, done=True)
    return back.notes


def moved(session: Session, alias: Alias, wanted: Routing, was: Version) -> Alias | None:
    """The alias as it is once AWS no longer moves it by itself; whether it is `wanted` is for the caller to see.

    Raises FunctionFailed where AWS gave up and `was` serves on, TimedOut.
    """
    name, clock, patience = alias.arn.name, session.world.clock, _patience(session)
    began, delay = clock.now(), 0.2
    while True:
        found = session.gateway.alias(name, alias.name)
        if found is None or found.routing == wanted or found.routing.canary is None:
            return found
        kept = session.gateway.kept_ready(name, alias.name)
        if sharing.is_aws_stuck(wanted, was, found.routing, kept):
            raise FunctionFailed(
                f"version {wanted.version} cannot be kept ready ({kept.reason if kept else ''}), and AWS holds all "
                f"traffic of {alias.name} on version {was}",
                where=f"moving {alias.name}",
                next=f"Point {alias.name} to version {was} without weights: `pointsman rollback {alias.name}`.",
            )
        if not sharing.is_aws_moving(wanted, was, found.routing, kept):
            return found
        if clock.now() - began > patience:
            raise TimedOut(
                f"AWS still holds the traffic of {alias.name} on version {was} after {patience:g} s",
                where=f"moving {alias.name}",
                next="`pointsman resume` goes on waiting.",
            )
        if delay > 1:
            session.say(f"waiting until AWS lets {alias.name} go from version {was} to {wanted.version}")
        clock.sleep(delay)
        delay = min(delay * 1.5, 5.0)


def open_one(session: Session, arn: FunctionArn, alias: AliasName) -> Provisioned | None:
    """What was set aside for a rollout of the alias and is not given back yet."""
    known = session.ledger.remembered(KIND, f"{arn.unqualified}:{alias}")
    if known is None or known["done"]:
        return None
    return from_json(to_json(known["provisioned"]), Provisioned)


def _write(session: Session, arn: FunctionArn, mine: Provisioned, *, done: bool = False) -> None:
    session.ledger.append(
        session.run,
        KIND,
        function=str(arn.unqualified),
        subject=f"{arn.unqualified}:{mine.alias}",
        provisioned=mine,
        done=done,
    )


def _patience(session: Session) -> float:
    return max(session.world.options.wait_s, LONGEST_S)


__all__ = ["KIND", "give_back", "moved", "open_one", "prepare", "provision", "ready", "wait_ready"]
