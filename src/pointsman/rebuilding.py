"""A ledger that is lost, written anew: versions and aliases from Lambda, who moved them and when from CloudTrail."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pointsman import owners, traces
from pointsman.branches import told
from pointsman.config import Function
from pointsman.errors import AccessDenied, AwsError, LedgerError, NotFound, PointsmanError, UsageError
from pointsman.ledger import Entry
from pointsman.model import Alias, BuildId, Configuration, FunctionArn, Move, Trace, Value, counted
from pointsman.moments import epoch
from pointsman.progress import Course
from pointsman.survey import places
from pointsman.world import Session, World

_KEPT_S = 90 * 86_400.0


class Rebuilt(Value, frozen=True, kw_only=True):
    """`set_aside`: where the old file went, None where there was none. `moves`: how many CloudTrail knew of."""

    set_aside: str | None
    versions: int
    aliases: int
    moves: int = 0
    sources: tuple[str, ...] = ("Lambda",)
    notes: tuple[str, ...] = ()


def must_be_needed(world: World) -> None:
    """Raises UsageError for a ledger that can be read: what Lambda does not know would be lost from it."""
    try:
        sound = world.ledger.sound
    except LedgerError:
        return
    if sound:
        raise UsageError(
            f"{world.ledger.place} is sound, and knows more than Lambda: approvals, and builds that published nothing",
            next="`pointsman history --rebuild --force` sets it aside all the same.",
        )


def rebuild(world: World, functions: tuple[Function, ...]) -> Rebuilt:
    """Set a damaged ledger aside; write a new one of what is known elsewhere.

    Versions by their descriptions and dates, aliases as they are. CloudTrail's last 90 days, where they may be read,
    tell when aliases were moved and by whom: as moves that were observed. Without them Lambda alone tells, and a note.
    """
    aside = world.begin_ledger_anew()
    try:
        return _written(world, functions, aside)
    except PointsmanError as error:
        if aside:
            error.add_note(f"The old ledger is kept as {aside}.")
        raise


def _written(world: World, functions: tuple[Function, ...], aside: Path | None) -> Rebuilt:
    run, now = world.run_id(), world.clock.now()
    entries: list[Entry] = []
    trails: dict[int, tuple[Trace, ...] | None] = {}  # by the connection: of one account and region
    notes: list[str] = []
    written: set[FunctionArn] = set()
    versions = aliases = moves = 0
    asked = [(function, session) for function in functions for session, _environments in places(world, function)]
    for number, (function, session) in enumerate(asked, 1):
        where = f"{function.name} in {session.wire.region} ({session.environment.name})"
        world.say(f"reading {where}, {number} of {counted(len(asked), 'place')}")
        if id(session.wire) not in trails:
            trails[id(session.wire)] = _trail(session, now, notes)
        try:
            name = owners.name(session)
            there = list(session.gateway.versions(name))
            serving = session.gateway.aliases(name)
        except NotFound as error:  # it was never deployed there: the other places still tell
            notes.append(f"{where} is not there: {error.what}")
            continue
        if there:
            session.check_account(there[0].arn)
            if there[0].arn.unqualified in written:  # other credentials reach the same
                continue
            written.add(there[0].arn.unqualified)
        found = _entries(run, now, there, serving, trails[id(session.wire)] or ())
        moves += sum(each.kind == "moved" and each.at < now for each in found)
        entries += found
        versions, aliases = versions + len(there), aliases + len(serving)
    entries.sort(key=lambda each: each.at)
    world.ledger.add(entries)
    sources = ("Lambda", *(["CloudTrail"] if any(each is not None for each in trails.values()) else []))
    world.ledger.append(run, "rebuilt", versions=versions, aliases=aliases, sources=sources, by=world.actor.by)
    world.ledger.flush()
    if moves:
        notes.insert(
            0, f"CloudTrail knew of {counted(moves, 'move')} of the last 90 days: they are written as observed"
        )
    return Rebuilt(
        set_aside=str(aside) if aside else None,
        versions=versions,
        aliases=aliases,
        moves=moves,
        sources=sources,
        notes=tuple(notes),
    )


def _entries(
    run: str, now: float, versions: list[Configuration], aliases: tuple[Alias, ...], found: Iterable[Trace]
) -> list[Entry]:
    """What is written of one function."""
    there = [each.arn for each in versions] + [each.arn for each in aliases]
    if not there:
        return []
    arn = there[0].unqualified
    seen = traces.observed(found, arn)
    by = {each.version: each.by for each in seen.published}
    builds = {
        each.version: BuildId(each.description) for each in versions if BuildId.pattern.fullmatch(each.description)
    }
    made: list[Entry] = []

    def write(at: float, kind: str, subject: str, *, function: str = str(arn), **body: Any) -> None:
        made.append(Entry(seq=0, at=at, run=run, kind=kind, function=function, subject=subject, body=body))

    for each in versions:
        if build := builds.get(each.version):
            write(
                *(_published(each, now), "published", each.version),
                build=build,
                sha256=each.sha256,
                fingerprint=each.fingerprint,
                size=each.code_size,
                commit="",
                role=each.settings.get("Role", ""),
                by=by.get(each.version, ""),
            )
    last: dict[str, Move] = {}
    for move in seen.moves:
        known = replace(move, build=builds.get(move.version))
        write(move.at, "moved", move.alias, move=known)
        last[move.alias] = known
    for alias in aliases:
        before = last.get(alias.name)
        if before is None or before.kind == "removed" or before.version != alias.version:
            was = before.version if before and before.kind != "removed" else None
            now_there = Move(
                alias=alias.name,
                version=alias.version,
                was=was,
                kind="observed",
                at=now,
                build=builds.get(alias.version),
            )
            write(now, "moved", alias.name, move=now_there)
        if branch := told(alias.description, alias.name).branch:
            write(now, "branch", alias.name, function="", branch=branch)
    return made


def _published(each: Configuration, now: float) -> float:
    """Of a version LastModified is when it was published; a date that is not to be read is now."""
    at = epoch(each.modified)
    return now if at is None else at


def _trail(session: Session, now: float, notes: list[str]) -> tuple[Trace, ...] | None:
    """What CloudTrail kept of this account and region; None, and a note, where it does not tell."""
    world = session.world
    course = Course(world, f"reading CloudTrail of {session.wire.region}")
    found: list[Trace] = []
    try:
        for name in traces.CALLS:
            page: str | None = None
            begins = len(found)
            while True:
                more, page = session.gateway.traces(name, now - _KEPT_S, page)
                # The newest come first, and times are whole seconds: of two calls in one second their order tells.
                found[begins:begins] = reversed(more)
                course.reached(len(found), None, counted(len(found), "call"))
                if page is None:
                    break
    except AwsError as error:
        told_next = "; grant cloudtrail:LookupEvents, and rebuild again" if isinstance(error, AccessDenied) else ""
        notes.append(
            f"CloudTrail of {session.wire.region} does not tell ({error.what}): who moved aliases before, and when, "
            f"is not known{told_next}"
        )
        return None
    finally:
        course.ended()
    return tuple(found)


__all__ = ["Rebuilt", "must_be_needed", "rebuild"]
