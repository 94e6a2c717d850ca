"""Several functions, or regions, released as one: nothing moves before all is proved; all goes back if one cannot.

    test and package  →  look and plan  →  prove what changed, in parallel  →  approve once  →  move in the file's order

An environment of several regions has each function once in each. They move in waves: the regions of one side by side,
the next wave once all of this one are well.

The ledger has one run for the whole, and one for each function that is `part_of` it. What becomes of a release that is
killed is decided by what the whole wrote last: nothing yet (no alias moved: `resume` goes on proving), "decided move"
(all are proved and approved: `resume` moves the rest), "decided restore" (`resume` puts the rest back). So it ends with
all new or with all as before.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple

import msgspec

from pointsman import approving, furnishing, places, release, role_guard, rolling
from pointsman.belongings import NOTHING
from pointsman.config import Environment, Function
from pointsman.deployments import deployments
from pointsman.errors import (
    Ambiguous,
    Drift,
    Interrupted,
    LedgerError,
    NotRestored,
    PointsmanError,
    UnknownTarget,
)
from pointsman.hands import Released, Work, announce, unit_tests
from pointsman.interrupted import Told, not_overtaken, told
from pointsman.ledger import Run
from pointsman.model import Alias, Artifact, BuildId, CodeSha256, TestReport, from_json, to_json
from pointsman.observe import ramp
from pointsman.plan import MOVES, Plan, plan_move
from pointsman.restoration import Left, Shift, last_release, restoration
from pointsman.world import Progress, Session, World, unknown

AT_ONCE = 16  # functions in AWS's hands at the same time; their calls have one budget anyway

# The use cases


def deploy(
    world: World, functions: tuple[Function, ...], environment: Environment, *, given: str | None
) -> list[Released]:
    """All of them, or none: see above. One function in one region is deployed as ever."""
    parts = parts_of(functions, environment)
    _finish(world, parts, environment)
    if len(parts) == 1:
        return [release.deploy(world, functions[0], parts[0].place, given=given)]
    with _running(world, "deploy", parts, environment, {"build": given}) as crew:
        return _deploy(crew, given)


def promote(world: World, functions: tuple[Function, ...], environment: Environment, target: str) -> list[Released]:
    """Every function must have the target before the first alias moves."""
    parts = parts_of(functions, environment)
    _finish(world, parts, environment)
    if len(parts) == 1:
        return [release.promote(world, functions[0], parts[0].place, target)]
    with _running(world, "promote", parts, environment, {"target": target}) as crew:
        return _move(crew, lambda session: release.planned_promotion(session, target))


def roll_back(
    world: World, functions: tuple[Function, ...], environment: Environment, to: str | None
) -> list[Released]:
    """Back over the environment's last release: what moved in it goes where it was. `to`: all of them, to that build.

    A release that was interrupted while it moved is put back, too.
    """
    parts, new = parts_of(functions, environment), tuple[Part, ...]()
    beside: tuple[str, ...] = ()
    if len(parts) > 1 and to is None:
        if (open_ := _half_moved(world, parts, environment)) is not None:
            return resume(world, open_, back=True)
        all_parts = parts
        parts, new = _of_last_release(world, parts, environment)
        beside = _beside(world, all_parts, [*parts, *new], environment)
    if len(parts) == 1:
        done = [release.roll_back(world, parts[0].function, parts[0].place, to)]
    else:
        with _running(world, "rollback", parts, environment, {"target": to}) as crew:
            done = _move(crew, lambda session: release.planned_rollback(session, to))
    if beside and done:
        done[0] = msgspec.structs.replace(done[0], warnings=(*done[0].warnings, *beside))
    return [*done, *(_stays(each) for each in new)]


def apply(world: World, saved: release.SavedPlan) -> list[Released]:
    """Exactly the saved plans, all of them or none."""
    if len(saved.all) == 1:
        return [release.apply(world, saved)]
    first = saved.all[0]
    environment = world.environment(first.environment)
    there = {each.title: each for each in parts_of(world.functions(), environment)}
    plans = {f"{each.function} in {each.region}" if each.region else each.function: each for each in saved.all}
    parts = _known(there, plans)
    request = {"build": first.build, "target": release.asked_of(first), **saved.asked}
    with _running(world, first.kind, parts, environment, request) as crew:

        def check(member: Member) -> None:
            member.takes(release.still_true(member.session, plans[member.name]))

        crew.together(check, crew.members, phase="looking")
        return crew.carry_out()


def plan(
    world: World, functions: tuple[Function, ...], environment: Environment, *, given: str | None
) -> tuple[Plan, ...]:
    """The deploys as they would be carried out now, in that order; nothing is changed but that packages are made."""
    at = release.commit(world)
    sessions = [world.session(each.function, each.place) for each in parts_of(functions, environment)]
    made: dict[str, Artifact] = {}
    packages = []
    for session in sessions:
        own = session.function.name
        if session.function.build == "image" or own not in made:
            made[own] = release.build(session)
        packages.append(made[own])
    name = release.build_id(world, _all_of(list(made.values())), given, at)
    return tuple(
        release.planned_deploy(session, package, name) for session, package in zip(sessions, packages, strict=True)
    )


def plan_promote(
    world: World, functions: tuple[Function, ...], environment: Environment, target: str
) -> tuple[Plan, ...]:
    parts = parts_of(functions, environment)
    return tuple(release.plan_promote(world, each.function, each.place, target) for each in parts)


def plan_rollback(
    world: World, functions: tuple[Function, ...], environment: Environment, to: str | None
) -> tuple[Plan, ...]:
    parts = parts_of(functions, environment)
    if len(parts) > 1 and to is None:
        parts, _new = _of_last_release(world, parts, environment)
    return tuple(release.plan_rollback(world, each.function, each.place, to) for each in parts)


def resume(world: World, run: Run, *, back: bool = False) -> list[Released]:
    """Go on where the interrupted release stopped: forward or backward, as it had decided; `back`: backward."""
    if not run.members:
        return [release.resume(world, run)]
    release.must_have_ended(run)
    world.as_asked(run)
    environment = world.environment_of(run)
    parts = _known({each.title: each for each in parts_of(world.functions(), environment)}, run.members)
    decided = _decided(world, run)
    request = {**run.request, "resumes": run.id, "release": run.request.get("release") or run.id}
    with _running(world, run.command, parts, environment, request, earlier=_parts(world, run)) as crew:
        if decided is not None:
            direction, shifts = decided
            if back or direction == "restore":
                return crew.put_back(shifts, f"{run.command} {run.id} was interrupted")
            return crew.go_on(shifts)
        if run.command == "deploy":
            return _deploy(crew, run.request.get("build"))
        target: Any = run.request.get("target")
        ask = release.planned_promotion if run.command == "promote" else release.planned_rollback
        return _move(crew, lambda session: ask(session, target))


# Their steps


def _deploy(crew: ReleaseSet, given: str | None) -> list[Released]:
    world = crew.world
    at = release.commit(world)  # now: tests may write into the tree

    firsts = {each.function.name: each for each in reversed(crew.members)}

    def package(member: Member) -> None:
        if member.earlier:
            run, before = member.earlier
            member.artifact, _, member.tests = release.repackaged(member.session, run, before)
        else:
            member.tests = unit_tests(member.session)
            member.artifact = release.build(member.session)

    once = [each for each in crew.members if firsts[each.function.name] is each]
    crew.together(package, once, phase="building", at_once=os.cpu_count() or 2, apart=_folder)
    made = [each.artifact for each in once if each.artifact]
    for each in crew.members:  # the same package in every region; an image lies in each
        first = firsts[each.function.name]
        image = each is not first and each.session.function.build == "image"
        each.artifact, each.tests = release.build(each.session) if image else first.artifact, first.tests
    before = (each.earlier[1].packaged for each in crew.members if each.earlier)
    name = next((BuildId(each["build"]) for each in before if each), None)
    name = name or release.build_id(world, _all_of(made), given, at)

    def look(member: Member) -> None:
        assert member.artifact is not None
        artifact, earlier = member.artifact, member.earlier
        check = (lambda seen: not_overtaken(earlier[1], artifact, seen)) if earlier else (lambda _seen: None)
        member.takes(release.proposed(member.session, artifact, name, check=check))

    crew.together(look, crew.members, phase="looking")
    return crew.carry_out()


def _move(crew: ReleaseSet, ask: Callable[[Session], Plan]) -> list[Released]:
    def look(member: Member) -> None:
        decided = member.earlier[1].planned if member.earlier else None
        made = release.resumed_move(member.session, decided) if decided else ask(member.session)
        announce(member.session, made)
        member.takes(made)

    crew.together(look, crew.members, phase="looking")
    return crew.carry_out()


class Part(NamedTuple):
    """What moves by itself: a function in one region. Those of one `wave` (counted from 0) move together."""

    function: Function
    place: Environment
    wave: int = 0

    @property
    def title(self) -> str:
        return places.title(self.function.name, self.place)


def parts_of(functions: Iterable[Function], environment: Environment) -> tuple[Part, ...]:
    """In the order they move: by waves, their regions, and the functions of the file."""
    waves, functions = enumerate(places.waves(environment)), tuple(functions)
    return tuple(Part(function, place, n) for n, wave in waves for place in wave for function in functions)


def _known(there: Mapping[str, Part], titles: Iterable[str]) -> tuple[Part, ...]:
    """The parts of these titles. Raises UnknownTarget where the file has one of them no more."""
    chosen = {*titles}
    if gone := next((each for each in chosen if each not in there), None):
        raise unknown("function", gone, there, "pointsman.toml has")
    return tuple(part for title, part in there.items() if title in chosen)


class Member:
    """One part of a release: its session, its plan, how far it is. `name` says which function, and where."""

    def __init__(self, part: Part, session: Session, row: Progress, earlier: tuple[Run, Told] | None) -> None:
        self.part = part
        self.function = part.function
        self.name = part.title
        self.session = session
        self.row = row
        self.earlier = earlier
        self.artifact: Artifact | None = None
        self.tests: dict[str, TestReport] = {}
        self.work: Work | None = None
        self.error: BaseException | None = None

    def takes(self, made: Plan, *, decided: bool = False) -> None:
        """`decided`: by a release that was looked at when it began, and goes on or back now."""
        if not decided:
            role_guard.check(self.session, made)
        self.work = Work(self.session, made, tests=self.tests)
        self.row.version = made.version or ""

    def shift(self) -> Shift:
        """Once it is proved: what its move will do, and what would undo it."""
        assert self.work is not None
        session, execution = self.session, self.work.execution
        # An owner's step may have made the alias, or put another function, with other versions, in the place of ours.
        alias = execution.present if execution.looked else session.alias
        assert execution.arn is not None
        assert execution.version is not None
        session.arn = execution.arn
        return Shift(
            function=self.name,
            name=execution.arn.name,
            alias=session.environment.alias,
            version=execution.version,
            before=alias.routing if alias else None,
            revision=alias.revision if alias else "",
            description=alias.description if alias else "",
            build=self.work.made.build,
            furnished=not all(isinstance(step, MOVES) for step in self.work.made.parts[2]),
        )


class ReleaseSet:
    """The functions of one release, each in a thread of its own where it has to wait, and the run that is theirs."""

    def __init__(  # noqa: PLR0917 (as World.begin takes them)
        self,
        world: World,
        command: str,
        parts: tuple[Part, ...],
        environment: Environment,
        request: dict[str, object],
        earlier: Mapping[str, Run],
    ) -> None:
        self.world = world
        self.command = command
        self.environment = environment
        self.halt = Event()
        self.decided = False  # whether aliases may have moved
        self.restored = False
        self.left: list[str] = []  # what is not put back, and why
        names = tuple(each.title for each in parts)
        self.run = world.begin(world.run_id(), command, names, environment, request)
        self.members = [self._member(n, each, earlier.get(each.title)) for n, each in enumerate(parts, 1)]

    def _member(self, number: int, part: Part, earlier: Run | None) -> Member:
        row = Progress(function=part.title)
        run, world = f"{self.run.id}-{number}", self.world
        request = {**self.run.request, "resumes": earlier.id if earlier else ""}
        world.begin(run, self.command, (part.function.name,), part.place, request, part_of=self.run.id)

        def say(line: str) -> None:
            row.doing = line
            world.say(f"{part.title}: {line}")

        def echo(line: str) -> None:
            row.doing = line
            if world.echo:
                world.echo(f"{part.title}: {line}")

        session = world.beside(say=say, echo=echo, halted=self.halt.is_set).session(part.function, part.place, run)
        session.part_of = self.run.id
        session.release = str(self.run.request.get("release") or self.run.id)
        before = (earlier, told(world, earlier)) if earlier else None
        session.approved = before[1].approved if before else {}
        return Member(part, session, row, before)

    # Forward

    def carry_out(self) -> list[Released]:
        """Every member has its plan: prove what has something to do, then move it all, or leave all as it was."""
        changed = [each for each in self.members if each.work and each.work.made.steps]
        for each in self.members:
            each.row.phase = "waiting" if each in changed else "unchanged"

        def prove(member: Member) -> None:
            assert member.work is not None
            member.work.prepare()

        self.together(prove, changed, phase="proving", then="proved")
        movers = [each for each in changed if each.work and each.work.made.parts[2]]
        if movers:
            self._approve(movers)
            shifts = tuple(each.shift() for each in movers)
            self._decide("move", shifts)
            self._move(movers, shifts)
        return [each.work.released() for each in self.members if each.work]

    def _approve(self, movers: Sequence[Member]) -> None:
        """One question for all, and an answer in each one's history."""
        due: list[tuple[Member, str, str]] = []
        for member in movers:
            assert member.work is not None
            for step in member.work.made.parts[1]:
                version = member.work.execution.served(step.version)
                what = f"{step.alias} of {member.name} to version {version}"
                due.append((member, f"{step.alias} {version}", what))
        unasked = [what for member, key, what in due if key not in member.session.approved]
        if unasked:
            session = movers[0].session
            self._show()
            by = approving.approver(session, f"move {', '.join(unasked)}")
            for member, key, _what in due:
                member.session.approved = {key: by, **member.session.approved}
        for member in movers:
            assert member.work is not None
            member.work.execution.approve()

    def _move(self, movers: Sequence[Member], shifts: tuple[Shift, ...]) -> None:
        """One after the other, in the file's order, and the regions of a wave side by side.

        Whatever stops it, Ctrl-C too: those that moved go back.
        """
        tried = 0
        try:
            for group in _waves(movers):
                tried += len(group)
                self.together(_moves, group, phase="moving", then="moved", apart=_regions, stop=True)
        except (Exception, KeyboardInterrupt) as error:
            self.halt.clear()
            self._go_back(shifts[:tried], error)
            raise

    def go_on(self, shifts: tuple[Shift, ...]) -> list[Released]:
        """The moves that an interrupted release had decided on, those that are still to be made."""
        self.decided = True
        by_name = {each.name: each for each in self.members}
        movers = [by_name[shift.function] for shift in shifts]
        todo = dict(zip(movers, shifts, strict=True))

        def look(member: Member) -> None:
            shift = todo[member]
            alias = self._alias(member, shift)
            session = member.session
            trying = rolling.trying(session, session.arn, alias) if session.arn else None
            if trying != shift.version and not shift.may_go_on(alias):
                raise Drift(
                    f"{shift.alias} of {member.name} is at {alias.routing if alias else 'nothing'} now",
                    where="resuming the release",
                    next="Somebody else moved it since: what this release had moved was put back.",
                )
            planned = member.earlier[1].planned if member.earlier else None
            assert planned is not None, "a move is decided on plans that were written down"
            now = plan_move(
                "promote",
                function=member.function.name,
                environment=self.environment.name,
                alias=shift.alias,
                name=shift.name,
                version=shift.version,
                seen=alias,
                build=shift.build,
                approve=False,
                furnishing=furnishing.look(session, shift.name, alias) if shift.before is None else NOTHING,
                ramp=ramp(session),
                rolling=trying,
            )
            again = {"steps": now.steps, "expects": now.expects, "why_nothing": now.why_nothing}
            member.takes(
                msgspec.structs.replace(planned, version=shift.version, name=shift.name, **again), decided=True
            )

        try:
            self.together(look, movers, phase="looking")
        except Drift as error:
            self._go_back(shifts, error)
            raise
        self._move(movers, shifts)
        return [each.work.released() for each in self.members if each.work]

    # Backward

    def put_back(self, shifts: tuple[Shift, ...], why: str, *, unsure: Collection[str] = ()) -> list[Released]:
        """Aliases as they were before the release, the last one moved first. Raises NotRestored where one is not."""
        self._decide("restore", shifts)
        by_name = {each.name: each for each in self.members}
        present: dict[str, Alias | None] = {}
        failed: dict[str, BaseException] = {}
        for shift in shifts:
            try:
                member = by_name[shift.function]
                alias, arn = self._alias(member, shift), member.session.arn
                if alias and arn:  # a rollout of ours that was interrupted goes back first
                    alias, _ended = rolling.end_for_rollback(member.session, arn, alias)
                present[shift.function] = alias
            except (PointsmanError, OSError) as error:
                failed[shift.function] = error
        seen = [shift for shift in shifts if shift.function in present]
        done: list[Released] = []
        for back in restoration(seen, present, environment=self.environment.name, why=why, unsure=unsure):
            member = by_name[back.function]
            if isinstance(back, Left):
                member.row.phase = "left"
                self.left.append(f"{back.alias} of {back.function} is left as it is: {back.why}.")
                continue
            made = msgspec.structs.replace(back, function=member.function.name)
            try:
                self.together(_moves, [_taking(member, made)], phase="moving back", then="moved back")
            except (PointsmanError, OSError) as error:
                failed[back.function] = error
            else:
                assert member.work is not None
                done.append(msgspec.structs.replace(member.work.released(), outcome="restored"))
                member.session.outcome = "restored"
        if failed:
            raise self._not_restored([shift for shift in shifts if shift.function in failed], failed)
        self.restored = True
        return done

    def _go_back(self, shifts: tuple[Shift, ...], error: BaseException) -> None:
        """After a move that failed. The error gets told what was put back; or is replaced, where that failed too."""
        what = error.what if isinstance(error, PointsmanError) else "interrupted"
        # An answer that never came: the call may land yet. A new revision id in its way makes sure that it does not.
        unsure = {each.name for each in self.members if isinstance(each.error, Ambiguous)}
        try:
            done = self.put_back(shifts, what.splitlines()[0], unsure=unsure)
        except NotRestored as worse:
            worse.add_note(f"It was to be moved back because: {what}")
            raise worse from error
        told_ = [
            f"Moved back: {each.alias} of {each.function}{f' in {each.region}' if each.region else ''}, "
            + (f"to version {each.version}." if each.version else "which is removed again.")
            for each in done
        ]
        told_ += self.left
        told_ = told_ or ["Every alias of the release is as it was before."]
        if isinstance(error, KeyboardInterrupt):
            stopped = Interrupted("interrupted", next="Nothing is left to resume: deploy again when you want it.")
            for line in told_:
                stopped.add_note(line)
            stopped.release = self.facts("restored")
            raise stopped from error
        for line in told_:
            error.add_note(line)
        if isinstance(error, PointsmanError):
            error.release = self.facts("restored")
            if isinstance(error, Ambiguous):  # it said to resume
                error.next = "Nothing is left to resume: deploy again when you want it."

    def _not_restored(self, shifts: Iterable[Shift], why: Mapping[str, BaseException]) -> NotRestored:
        lines = []
        for shift in shifts:
            was = str(shift.before) if shift.before else "not there"
            error = why[shift.function]
            reason = error.what if isinstance(error, PointsmanError) else error
            lines.append(
                f"  {shift.alias} of {shift.function} ({shift.name}) was {was}, "
                f"and serves version {shift.version} of this release if its move got through: {reason}"
            )
        made = NotRestored(
            "\n".join(("the release failed, and could not be taken back in full:", *lines)),
            where=f"{self.command} to {self.environment.alias}",
            next="`pointsman resume` goes on taking it back; `pointsman status` shows what serves what.",
        )
        made.release = self.facts("not restored")
        return made

    def _alias(self, member: Member, shift: Shift) -> Alias | None:
        session = member.session
        session.alias = alias = session.gateway.alias(shift.name, shift.alias)
        session.arn = alias.arn.unqualified if alias else session.arn
        session.check_account(session.arn)
        return alias

    # The whole

    def _decide(self, direction: Literal["move", "restore"], shifts: tuple[Shift, ...]) -> None:
        self.decided = True
        self.world.ledger.append(self.run.id, "decided", function=self.run.function, subject=direction, shifts=shifts)

    def facts(self, outcome: str) -> dict[str, object]:
        """For `--json`: how the release stands, function by function."""
        alias = self.environment.alias
        members = [
            {
                "function": each.function.name,
                **({"region": region} if (region := places.one_of_several(each.part.place)) else {}),
                "alias": alias,
                "version": row.version,
                "phase": row.phase,
            }
            for each, row in zip(self.members, self._rows(), strict=True)
        ]
        return {"run": self.run.id, "outcome": outcome, "members": members}

    def together(
        self,
        do: Callable[[Member], None],
        members: Sequence[Member],
        *,
        phase: str,
        then: str = "waiting",
        at_once: int = AT_ONCE,
        apart: Callable[[Sequence[Member]], Sequence[Sequence[Member]]] | None = None,
        stop: bool = False,
    ) -> None:
        """In threads; waits for all of them, whoever fails. Raises the first error in the file's order.

        `stop`: once one failed no other begins anything more, nor goes on past the call that it is at.
        `apart` groups those that have to go one after the other. On Ctrl-C no further call is sent, those under way
        are waited for (nobody could say afterwards whether they took effect), and KeyboardInterrupt goes on its way.
        """

        from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

        def one_by_one(group: Sequence[Member]) -> None:
            for member in group:
                if stop and self.halt.is_set():
                    return
                member.row.starts(phase, self.world.clock.now())
                ends = then
                try:
                    do(member)
                except BaseException as error:  # noqa: BLE001 (raised again below, by the thread that waits)
                    member.error = error
                    ends = "stopped" if self.halt.is_set() else "failed"
                    if stop:
                        self.halt.set()
                member.row.stops(ends, self.world.clock.now())

        self._show()  # before the first line is said: from now on the table tells it
        groups = apart(members) if apart else [[each] for each in members]
        with ThreadPoolExecutor(max(1, min(at_once, len(groups)))) as pool:
            try:
                left: set[Future[None]] = {pool.submit(one_by_one, each) for each in groups}
                while left:
                    _done, left = wait(left, timeout=0.1 if self.world.board else None, return_when=FIRST_COMPLETED)
                    self._show()
            except BaseException:
                self.halt.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        failed = [each for each in members if each.error]
        if stop and len(failed) > 1:  # those that were stopped are not the reason
            failed = [each for each in failed if not isinstance(each.error, Interrupted)] or failed
        if failed:
            first = failed[0].error
            assert first is not None
            if isinstance(first, PointsmanError) and failed[0].name not in f"{first.where} {first.what}":
                first.where = f"{failed[0].name}, {first.where}" if first.where else failed[0].name
            for each in failed[1:]:
                what = each.error.what if isinstance(each.error, PointsmanError) else repr(each.error)
                first.add_note(f"And {each.name}: {what}")
            raise first

    def _rows(self) -> list[Progress]:
        for each in self.members:
            if each.work and each.work.execution.version:
                each.row.version = each.work.execution.version
        return [each.row for each in self.members]

    def _show(self) -> None:
        if self.world.board:
            self.world.board(self._rows(), self.world.clock.now())

    def end(self) -> None:
        for each in self.members:
            self.world.ledger.end(each.session.run, each.session.outcome if each.work else "unchanged")
        changed = any(each.session.outcome != "unchanged" for each in self.members if each.work)
        self.world.ledger.end(self.run.id, "restored" if self.restored else "done" if changed else "unchanged")

    def end_badly(self, error: BaseException) -> None:
        """Each member ends as it stands; the whole stays open for `resume` where that has something to go on with."""
        what = error.what if isinstance(error, PointsmanError) else "interrupted"
        if isinstance(error, PointsmanError) and not self.decided:
            error.release = self.facts("not moved")
            error.add_note("Nothing of this release was moved: all of its functions, or none.")
        try:
            for each in self.members:
                if each.error is not None:
                    self.world.end_badly(each.session.run, each.error)
                else:
                    outcome = "restored" if each.session.outcome == "restored" else "withheld"
                    self.world.ledger.end(each.session.run, outcome, what)
            if self.restored:
                self.world.ledger.end(self.run.id, "restored", what)
        except LedgerError as also:
            error.add_note(str(also))
        if not self.restored:
            self.world.end_badly(self.run.id, error)


@contextmanager
def _running(
    world: World,
    command: str,
    parts: tuple[Part, ...],
    environment: Environment,
    request: dict[str, object],
    *,
    earlier: Mapping[str, Run] | None = None,
) -> Iterator[ReleaseSet]:
    crew = ReleaseSet(world, command, parts, environment, request, earlier or {})
    try:
        yield crew
    except BaseException as error:
        crew.end_badly(error)
        raise
    crew.end()


def _moves(member: Member) -> None:
    assert member.work is not None
    member.work.execution.move()


def _taking(member: Member, made: Plan) -> Member:
    member.error = None
    member.takes(made, decided=True)
    return member


def _waves(members: Iterable[Member]) -> Iterator[list[Member]]:
    """What moves together: one by one in a single region, the whole wave in several."""
    for _wave, group in groupby(members, key=lambda each: each.part.wave):
        wave = list(group)
        yield from [wave] if len(_regions(wave)) > 1 else [[each] for each in wave]


def _regions(members: Iterable[Member]) -> list[list[Member]]:
    """Those of one region go one after the other."""
    groups: dict[str | None, list[Member]] = {}
    for each in members:
        groups.setdefault(each.part.place.region, []).append(each)
    return list(groups.values())


def _folder(members: Sequence[Member]) -> list[list[Member]]:
    """Those whose sources lie in, or above, another's: a test or build command of one may write where another reads."""
    groups: dict[Path, list[Member]] = {}
    sources = {each.name: each.session.source.resolve() for each in members}
    for each in members:
        own = sources[each.name]
        top = min((path for path in sources.values() if own.is_relative_to(path)), key=lambda path: len(path.parts))
        groups.setdefault(top, []).append(each)
    return list(groups.values())


def _all_of(made: Sequence[Artifact]) -> Artifact:
    """The packages as one, for a build id that is made from digests: it names what was released together."""
    if len(made) == 1:
        return made[0]
    digest = hashlib.sha256("".join(each.sha256 for each in made).encode()).digest()
    return msgspec.structs.replace(made[0], sha256=CodeSha256(base64.b64encode(digest).decode()))


# What the ledger knows


def _decided(world: World, run: Run) -> tuple[str, tuple[Shift, ...]] | None:
    """The last decision of a release, or of the one that it resumed."""
    for entry in reversed(world.ledger.of_run(run.id, "decided")):
        return entry.subject, from_json(to_json(entry.body["shifts"]), tuple[Shift, ...])
    before = _resumed(world, run)
    return _decided(world, before) if before else None


def _parts(world: World, run: Run) -> dict[str, Run]:
    """Each member's last run: of this release, or of the one that it resumed."""
    before = _resumed(world, run)
    return {
        **(_parts(world, before) if before else {}),
        **{each.titles[0]: each for each in world.ledger.parts(run.id)},
    }


def _resumed(world: World, run: Run) -> Run | None:
    earlier = run.request.get("resumes")
    return next((each for each in world.ledger.runs() if each.id == earlier), None) if earlier else None


def _finish(world: World, parts: tuple[Part, ...], environment: Environment) -> None:
    """A release that was interrupted while it moved comes first: a new one on top could leave some of it behind."""
    if len(world.project.functions) == 1 and not environment.regions:
        return
    if (run := _half_moved(world, parts, environment)) is not None:
        world.say(f"first the {run.command} that was interrupted while it moved (run {run.id})")
        resume(world, run)


def _half_moved(world: World, parts: tuple[Part, ...], environment: Environment) -> Run | None:
    names = {each.title for each in parts}
    meant = (each for each in world.ledger.open_runs() if each.environment == environment.name)
    run = next((each for each in meant if names & {*each.members}), None)
    return run if run and _decided(world, run) else None


def _of_last_release(
    world: World, parts: tuple[Part, ...], environment: Environment
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """(what goes back, what has nowhere to go back to): the parts that moved together last."""
    moves = world.ledger.moves_by_function(environment.name, environment.alias)
    back, first = last_release({each.title: moves.get(each.title, ()) for each in parts})
    if not back:
        known = "it was the first for all its functions" if first else "the ledger knows no release of it"
        raise UnknownTarget(
            f"there is nothing to roll {environment.alias} back to: {known}",
            next=f"Say which function, or which build: `pointsman rollback {environment.alias} --to BUILD`.",
        )
    return (
        tuple(each for each in parts if each.title in back),
        tuple(each for each in parts if each.title in first),
    )


def _beside(
    world: World, parts: tuple[Part, ...], moved: Collection[Part], environment: Environment
) -> tuple[str, ...]:
    """Regions that were no part of the last release of a function, and stay as they are: a sentence each."""
    moves = world.ledger.moves_by_function(environment.name, environment.alias)
    told, titles, names = [], {each.title for each in moved}, {each.function.name for each in moved}
    for part in parts:
        region, standing = places.one_of_several(part.place), deployments(moves.get(part.title, ()))
        if region and standing and part.title not in titles and part.function.name in names:
            serves = f"build {standing[-1].build}" if standing[-1].build else f"version {standing[-1].version}"
            told.append(
                f"{part.title} was no part of that release, and still serves {serves}; "
                f"`pointsman rollback {environment.alias} --region {region}` goes back there, too"
            )
    return tuple(told)


def _stays(part: Part) -> Released:
    function, environment = part.function, part.place
    why = "it was new in that release, and there is nothing before it"
    return Released(
        command="rollback",
        function=function.name,
        name=function.name,
        environment=environment.name,
        alias=environment.alias,
        outcome="unchanged",
        build=None,
        version=None,
        was=None,
        published=False,
        moved=False,
        why=why,
        tests={},
        region=places.one_of_several(environment),
    )


__all__ = ["apply", "deploy", "parts_of", "plan", "plan_promote", "plan_rollback", "promote", "resume", "roll_back"]
