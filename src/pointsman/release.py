"""The use cases: deploy, promote, roll back, plan, apply, resume. Each observes, plans, carries out, records.

With its neighbours of the conduct tier, the only module that knows both what decides and what does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from pointsman import (
    building,
    carrying,
    furnishing,
    images,
    owners,
    places,
    preflight,
    role_guard,
    rolling,
    rollout_record,
)
from pointsman.config import Environment, Function
from pointsman.errors import (
    BuildFailed,
    Drift,
    GateRefused,
    LostRace,
    NotFound,
    NotMade,
    StalePlan,
    UnknownTarget,
    UsageError,
)
from pointsman.execute import in_progress, sound, wait_until_settled
from pointsman.hands import Released, announce, carry_out, release_gates, unit_gate, unit_tests
from pointsman.interrupted import Told, catch_up, not_overtaken, told
from pointsman.ledger import Run, under_way
from pointsman.model import (
    Artifact,
    BuildId,
    FunctionArn,
    TestReport,
    Value,
    Version,
    from_json,
    to_json,
)
from pointsman.observe import (
    arn_of,
    described,
    hex_of,
    observe,
    previous_deployment,
    ramp,
    resolve,
    same_build,
    search_descriptions,
)
from pointsman.plan import (
    MOVES,
    Plan,
    PublishVersion,
    Seen,
    ShiftTraffic,
    Wanted,
    differences,
    plan_deploy,
    plan_move,
)
from pointsman.world import Session, World, git


class SavedPlan(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Plans in a file, exactly as shown, and `asked` as they were asked for. `schema`: 1 has `plan`, 2 has `plans`."""

    schema: Literal[1, 2]
    asked: dict[str, Any]
    plan: Plan | None = None
    plans: tuple[Plan, ...] = ()

    def __post_init__(self) -> None:
        if (self.schema == 1) != (self.plan is not None) or (self.schema == 2) != bool(self.plans):
            raise ValueError("schema 1 has a plan, schema 2 has plans")

    @property
    def all(self) -> tuple[Plan, ...]:
        return (self.plan,) if self.plan else self.plans


# Building


def build(session: Session) -> Artifact:
    """Make the package, or find that it is made already. Raises BuildFailed before anything is asked of AWS.

    Of a container image: look which one it is.
    """
    world, function = session.world, session.function
    if function.build == "image":
        made = images.resolve(session)
    else:
        made = building.build(
            world.project,
            function,
            environ=world.environ,
            say=world.say,
            halted=world.halted,
            builds=world.builds,
        )
    world.packages[function.name] = made
    return made


def commit(world: World) -> str:
    """The commit checked out, short; with a "+" where the folder is not what was committed; "" without git."""
    world.make_home()
    sha = git(world.project.root, "rev-parse", "--short", "HEAD")
    return f"{sha}+" if sha and git(world.project.root, "status", "--porcelain", "--", ".") else sha


def build_id(world: World, made: Artifact, given: str | None, at: str) -> BuildId:
    """The one given; else the commit `at`, with the digest where the tree was not what was committed; else a time."""
    if given is not None:
        try:
            return BuildId(given)
        except ValueError as error:
            raise UsageError(str(error), where="--build-id") from error
    if not at:
        return BuildId(time.strftime("%Y%m%d-%H%M%S", time.gmtime(world.clock.now())) + f"-{hex_of(made)}")
    return BuildId(f"{at.rstrip('+')}-{hex_of(made)}" if at.endswith("+") else at)


# Deploying


def deploy(world: World, function: Function, environment: Environment, *, given: str | None) -> Released:
    """Unit tests → package → provision → update → publish → integration tests → alias."""
    with world.running("deploy", function, environment, {"build": given}) as session:
        at = commit(world)  # now: tests may write into the tree
        tests = unit_tests(session)
        made = build(session)
        return _deploy(session, made, build_id(world, made, given, at), tests=tests)


def _deploy(
    session: Session,
    made: Artifact,
    build: BuildId,
    *,
    tests: dict[str, TestReport],
    check: Callable[[Seen], None] = lambda _seen: None,
) -> Released:
    return carry_out(session, proposed(session, made, build, check=check), tests=tests)


def proposed(
    session: Session, made: Artifact, build: BuildId, *, check: Callable[[Seen], None] = lambda _seen: None
) -> Plan:
    """The deploy of this package, planned on what is there now, and the build's id taken."""
    preflight.check(session, made, session.world.show)
    session.ledger.append(session.run, "packaged", function=session.function.name, artifact=made, build=build)
    wanted, seen = observe(session, made, build, gates=release_gates(session.function))
    check(seen)
    planned = _planned(session, wanted, seen)
    if session.arn:
        # From here on the id is taken, whatever becomes of this run.
        sha256 = planned.artifact.sha256 if planned.artifact else made.sha256
        session.ledger.built(session.run, session.arn, build, sha256, commit=session.world.actor.commit)
    return planned


def plan(world: World, function: Function, environment: Environment, *, given: str | None) -> Plan:
    """The deploy as it would be carried out now; nothing is changed, and nothing but the package is made."""
    at = commit(world)
    session = world.session(function, environment)
    made = build(session)
    return planned_deploy(session, made, build_id(world, made, given, at))


def planned_deploy(session: Session, made: Artifact, name: BuildId) -> Plan:
    preflight.check(session, made)
    gates = (*unit_gate(session.function), *release_gates(session.function))
    wanted, seen = observe(session, made, name, gates=gates)
    planned = role_guard.planned(session, _planned(session, wanted, seen))
    for each in session.warnings:
        session.world.show(f"warning: {each}")
    return planned


def _planned(session: Session, wanted: Wanted, seen: Seen) -> Plan:
    same_build(session, wanted, seen)
    made = _placed(session, plan_deploy(wanted, seen))
    preflight.check_there(session, wanted, seen, made)
    if session.run:
        announce(session, made)
    if any(isinstance(step, PublishVersion) for step in made.steps) and seen.function:
        search_descriptions(session, wanted, seen.function)
    return made


# Moving an alias to a version that exists


def promote(world: World, function: Function, environment: Environment, target: str) -> Released:
    """The same bits, another alias: by build id, version or alias."""
    with world.running("promote", function, environment, {"target": target}) as session:
        return _move(session, planned_promotion(session, target))


def _move(session: Session, made: Plan) -> Released:
    announce(session, made)
    return carry_out(session, made)


def plan_promote(world: World, function: Function, environment: Environment, target: str) -> Plan:
    session = world.session(function, environment)
    return role_guard.planned(session, planned_promotion(session, target))


def planned_promotion(session: Session, target: str, *, asked: BuildId | None = None, carried: bool = False) -> Plan:
    """`carried`: it was brought from another place when it was planned, which is looked for before this one."""
    owners.may_move(session)
    source = carrying.find(session, target) or (carrying.look(session, target) if carried else None)
    if source is not None:
        return _planned_carrying(session, source)
    try:
        return _planned_here(session, target, asked=asked)
    except (UnknownTarget, NotFound) as error:
        if (source := carrying.look(session, target)) is None:
            if isinstance(error, NotMade) and (asked_for := carrying.build_meant(session, target)):
                # That the function is not there yet is no wonder: what was to bring it here is nowhere.
                raise UnknownTarget(
                    f"there is no build {asked_for} in any place of the file, and no function here either",
                    where=f"environment {session.environment.name}",
                    next="`pointsman history --kind build` lists the builds; `pointsman deploy` makes one.",
                ) from error
            raise
        return _planned_carrying(session, source)


def _planned_carrying(session: Session, source: carrying.Source) -> Plan:
    """The same bits, which are in another account or region, with the settings that are declared for this one."""
    build, name = source.build, session.function.name
    if owners.brings_code(session):
        try:  # its owner may have brought that build there already
            return _planned_here(session, f"build:{build}", asked=None)
        except (UnknownTarget, NotFound):
            pass  # said below, with who has to bring it
    _must_be_proved(session, source.arn, source.version, f"promoting build {build}")
    session.proved_latest = source.verdict == "pass"
    session.carried = source
    there = carrying.there(session)
    if there.function and there.function.arn.unqualified == source.arn:  # by two names for one account
        session.carried = None
        return _planned_here(session, f"version:{source.version}", asked=build)
    made = carrying.package_of(session, source)
    wanted, seen = observe(session, made, build, gates=(), found=there)
    same_build(session, wanted, seen)
    planned = msgspec.structs.replace(plan_deploy(wanted, seen), kind="promote")
    if session.run:
        session.ledger.append(session.run, "packaged", function=name, artifact=made, build=build)
        if session.arn and planned.artifact:
            commit = known.commit if (known := session.ledger.build(source.arn, build)) else ""
            session.ledger.built(session.run, session.arn, build, planned.artifact.sha256, commit=commit)
    if planned.steps:
        session.say(f"build {build} is brought from {source}")
    return _placed(session, planned)


def _planned_here(session: Session, target: str, *, asked: BuildId | None) -> Plan:
    name = owners.name(session)
    alias = session.gateway.alias(name, session.environment.alias)
    arn = alias.arn.unqualified if alias else arn_of(session, name)
    session.arn, session.alias = arn, alias
    session.check_account(arn)
    version, build = resolve(session, arn, target)
    found = session.gateway.function(name, version)
    if found is None:
        raise UnknownTarget(
            f"there is no version {version} of {name}", next="`pointsman versions` lists what there is."
        )
    known = session.ledger.build(arn, build) if build else None
    if known and known.sha256 != found.sha256:
        raise UnknownTarget(
            f"build {build} is {known.sha256.short}… in the ledger, but version {version} holds {found.sha256.short}…",
            next="The function was deleted and made anew since: deploy the build again.",
        )
    session.role = found.settings.get("Role", "")
    _must_be_proved(session, arn, version, f"promoting {target}")
    if in_progress(found):
        world = session.world
        found = wait_until_settled(
            session.gateway, world.clock, name, qualifier=version, wait_s=world.options.wait_s, say=session.say
        )
    if sound(found).state == "Inactive":
        session.say(f"version {version} is Inactive: Lambda took back its resources, and its first calls wake it up")
    session.alias = alias = rolling.clear_way(session, arn, alias, version)
    made = plan_move(
        "promote",
        function=session.function.name,
        environment=session.environment.name,
        alias=session.environment.alias,
        name=name,
        version=version,
        seen=alias,
        build=asked or build or described(found),
        approve=session.environment.approve,
        branch=session.environment.branch,
        furnishing=furnishing.look(session, name, alias),
        ramp=ramp(session),
        rolling=rolling.trying(session, arn, alias),
    )
    return _placed(session, made)


def _placed(session: Session, made: Plan) -> Plan:
    """The plan with the region it is for, where the environment has several."""
    region = places.one_of_several(session.environment)
    return msgspec.structs.replace(made, region=region) if region else made


def roll_back(world: World, function: Function, environment: Environment, to: str | None) -> Released:
    """One conditional UpdateAlias, to the previous deployment of that alias or to the one named."""
    with world.running("rollback", function, environment, {"target": to}) as session:
        return _move(session, planned_rollback(session, to))


def plan_rollback(world: World, function: Function, environment: Environment, to: str | None) -> Plan:
    session = world.session(function, environment)
    return role_guard.planned(session, planned_rollback(session, to))


def planned_rollback(session: Session, to: str | None, *, asked: BuildId | None = None) -> Plan:
    if stays := owners.stays_behind(session):
        session.say(stays)
    name, alias_name = owners.name(session), session.environment.alias
    alias = session.gateway.alias(name, alias_name)
    if alias is None:
        session.check_account(None)
        raise NotFound(f"there is no alias {alias_name} of {name}", next="`pointsman status` shows those there are.")
    session.check_account(alias.arn)
    session.arn = arn = alias.arn.unqualified
    session.alias = alias
    catch_up(session, arn, alias)
    shifting = alias.routing.canary is not None  # then the way back is to the baseline, and no further
    if session.run:
        tried = str(alias.routing.canary.version) if alias.routing.canary else ""
        session.alias, ended = rolling.end_for_rollback(session, arn, alias)
        alias, shifting = session.alias, shifting or ended
        session.went_back = (tried or "the canary") if ended else ""
    approve = False  # going back must never wait for a signature
    if to is not None:
        version, build = resolve(session, arn, to)
        found = session.gateway.function(name, version)
        if found is None:
            raise UnknownTarget(f"there is no version {version} of {name}", next="`pointsman versions` lists them.")
        session.role = found.settings.get("Role", "")  # as it is: this ledger may not know the version
        moves = session.ledger.moves(arn, alias_name)
        if version not in {each for move in moves for each in (move.version, move.was)}:
            # The alias never served it: this is no way back, and asks for what a promotion asks for.
            _must_be_proved(session, arn, version, f"rolling {alias_name} back to {to}")
            approve = session.environment.approve
    elif shifting:
        version, build = alias.version, None
    else:
        version, build = previous_deployment(session, arn, alias)
    made = plan_move(
        "rollback",
        function=session.function.name,
        environment=session.environment.name,
        alias=alias_name,
        name=name,
        version=version,
        seen=alias,
        build=asked or build,
        approve=approve,
        branch=session.environment.branch,
    )
    if session.went_back and not made.steps:
        why = f"the rollout was ended, and {alias_name} serves version {version} alone"
        made = msgspec.structs.replace(made, why_nothing=why)
    return _placed(session, made)


def _must_be_proved(session: Session, arn: FunctionArn, version: Version, where: str) -> None:
    verdict = session.ledger.verdict(arn, version)
    if verdict in ("fail", "due"):
        what = "did not pass its integration tests" if verdict == "fail" else "never had its integration tests run"
        raise GateRefused(
            f"version {version} {what}",
            where=where,
            next="Deploy that build again: its tests run again, and if they pass it can be promoted.",
        )


# Plans in files


def save(path: Path, made: Sequence[Plan], asked: Mapping[str, Any]) -> None:
    """Mode 0600: a plan holds the environment variables it would set."""
    saved = (
        SavedPlan(schema=1, plan=made[0], asked=dict(asked))
        if len(made) == 1
        else SavedPlan(schema=2, plans=tuple(made), asked=dict(asked))
    )
    try:
        path.touch(mode=0o600)
        if path.is_file():  # one that was there keeps its mode otherwise
            path.chmod(0o600)
        path.write_bytes(to_json(saved))
    except OSError as error:
        raise UsageError(f"cannot write the plan {path}: {error.strerror}", where="--out") from error


def load(path: Path) -> SavedPlan:
    try:
        return from_json(path.read_bytes(), SavedPlan)
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is not a saved plan: {error}", next="Write one: `pointsman plan --out FILE`."
        ) from error


def apply(world: World, saved: SavedPlan) -> Released:
    """Run exactly the saved plan. Raises StalePlan, with the differences, when the world is no longer what it saw."""
    (then,) = saved.all
    function = world.functions(then.function)[0]
    environment = world.environment(then.environment, then.region)
    request = {"build": then.build, "target": asked_of(then), **saved.asked}
    with world.running(then.kind, function, environment, request) as session:
        return carry_out(session, still_true(session, then))


def still_true(session: Session, then: Plan) -> Plan:
    """The saved plan, where asking again gives the same; StalePlan otherwise."""
    announce(session, then)
    if then.artifact:
        made, build = then.artifact, then.build
        session.ledger.append(session.run, "packaged", function=then.function, artifact=made, build=build)
    session.saved = then
    now = asked_again(session, then)
    if then.steps and not now.steps and now.why_nothing:
        raise StalePlan(
            f"nothing is left of this plan: it was applied already, or a release did the same ({now.why_nothing})",
            where=f"applying the plan of {then.function}",
            next="Nothing was changed. `pointsman history` tells who did.",
        )
    if lines := differences(then, now):
        raise StalePlan(
            "the world is no longer what this plan saw:\n" + "\n".join(f"  {line}" for line in lines),
            where=f"applying the plan of {then.function}",
            next="Nothing was changed. Make a new plan, and look at it.",
        )
    return then


def asked_of(then: Plan) -> str:
    """What a saved plan moves to, in words that ask for it again."""
    return f"build:{then.build}" if then.artifact else f"version:{then.version}"


def asked_again(session: Session, then: Plan) -> Plan:
    """The same question, asked now."""
    match then.kind:
        case "deploy":
            assert then.artifact is not None
            assert then.build is not None
            if not building.intact(then.artifact):
                raise StalePlan(
                    f"the package of {then.function}, or a layer's, is gone or holds other bytes than the plan has",
                    where=then.artifact.path,
                    next="Make a new plan.",
                )
            session.world.packages[then.function] = then.artifact
            gates = (*unit_gate(session.function), *release_gates(session.function))
            wanted, seen = observe(session, then.artifact, then.build, gates=gates)
            return _planned(session, wanted, seen)
        case "promote" if then.artifact:
            return planned_promotion(session, f"build:{then.build}", carried=True)
        case "promote":
            return planned_promotion(session, f"version:{then.version}", asked=then.build)
        case "rollback":
            return planned_rollback(session, f"version:{then.version}", asked=then.build)
        case "restore":
            raise UsageError("what a failed release takes back is never kept in a file")


# Going on after a crash


def resume(world: World, run: Run) -> Released:
    """Ask again what an unfinished run was asked, with what it had already decided: package, build id, version.

    Raises LostRace where it is still under way, Drift where somebody else moved on since.
    """
    must_have_ended(run)
    world.as_asked(run)
    function = world.functions(run.function)[0]
    environment = world.environment_of(run)
    before = told(world, run)
    with world.running(run.command, function, environment, {**run.request, "resumes": run.id}) as session:
        session.approved = before.approved
        if run.request.get("alone"):
            return _restored(session, rolling.restore_by_alias(session))
        if before.planned and (there := rollout_record.begun_by(world.ledger, run.id)):
            return _resumed_rollout(session, before.planned, there)
        if run.command == "deploy":
            return _resumed_deploy(session, run, before)
        if before.planned:
            return _move(session, resumed_move(session, before.planned))
        target: Any = run.request.get("target")
        made = planned_promotion(session, target) if run.command == "promote" else planned_rollback(session, target)
        return _move(session, made)


def must_have_ended(run: Run) -> None:
    if under_way(run):
        raise LostRace(
            f"{run.command} of {run.function} to {run.alias} (run {run.id}) is still under way",
            next=f"Wait for process {run.pid} of {run.by}, or end it.",
        )


def _resumed_deploy(session: Session, run: Run, before: Told) -> Released:
    made, name, tests = repackaged(session, run, before)
    return _deploy(session, made, name, tests=tests, check=lambda seen: not_overtaken(before, made, seen))


def repackaged(session: Session, run: Run, before: Told) -> tuple[Artifact, BuildId, dict[str, TestReport]]:
    """The package and the id that the interrupted run had decided on; made now where it had not come to it."""
    world, packaged = session.world, before.packaged
    at = commit(world)
    tests = {} if before.unit_passed else unit_tests(session)
    if packaged:
        made = from_json(to_json(packaged["artifact"]), Artifact)
        if made.image or Path(made.path).exists():
            if not building.intact(made):
                raise BuildFailed(f"{made.path} was changed since run {run.id} made it", next="Deploy again.")
            world.packages[run.function] = made
            return made, BuildId(packaged["build"]), tests
    made = build(session)
    return made, build_id(world, made, packaged["build"] if packaged else run.request.get("build"), at), tests


def abort(world: World, there: rollout_record.Known, *, why: str) -> Released:
    """End a rollout by whoever carries it through, or here. Raises NotRestored where the alias may be half-way still,
    LostRace where it is somebody else's by now, UsageError where it was promoted before that was heard."""
    function, environment = world.functions(there.opened.function)[0], rollout_record.where(world, there)
    # Killed, it goes on as a rollback: of a rollout that was to end that goes back to its baseline, and no further.
    with world.running("rollback", function, environment, {"target": None, "rollout": there.opened.id}) as session:
        session.arn = FunctionArn.parse(there.arn)
        session.check_account(session.arn)
        rolling.abort(session, there, why=why)
        baseline = rolling.Restored(alias=there.opened.alias, version=there.rollout.baseline, was=there.canary)
        return _restored(session, baseline, name=there.opened.name)


def restore_alone(world: World, function: Function, environment: Environment) -> tuple[rolling.Restored, Released]:
    """An alias that is half-way, and no ledger tells how it came to that: by itself alone."""
    with world.running("rollback", function, environment, {"alone": True}) as session:
        restored = rolling.restore_by_alias(session)
        return restored, _restored(session, restored)


def _restored(session: Session, back: rolling.Restored, *, name: str = "") -> Released:
    return Released(
        command="rollback",
        function=session.function.name,
        name=name or owners.name(session),
        environment=session.environment.name,
        alias=back.alias,
        outcome=session.outcome,
        build=None,
        version=back.version,
        was=back.was or None,
        published=False,
        moved=bool(back.was),
        why="" if back.was else f"{back.alias} serves version {back.version} alone already",
        run=session.run,
        region=places.one_of_several(session.environment),
        release=session.release or session.run,
        tests={},
        rollout=session.rollout,
    )


def _resumed_rollout(session: Session, then: Plan, there: rollout_record.Known) -> Released:
    """What led to it is done; the rollout goes on from its last state, and what was to follow it follows.

    Where it ends otherwise than promoted, there is nothing left of the run that began it, either.
    """
    session.arn = FunctionArn.parse(there.arn)
    session.alias = session.gateway.alias(there.opened.name, then.alias)
    session.check_account(session.arn)
    steps = list(then.steps)
    while steps and not isinstance(steps[0], ShiftTraffic):
        steps.pop(0)
    now = msgspec.structs.replace(then, steps=tuple(steps), version=there.canary, name=there.opened.name)
    announce(session, now)
    try:
        return carry_out(session, now)
    except (GateRefused, LostRace) as error:
        if not rollout_record.again(session.ledger, there).open:
            rollout_record.settle(session, there, "refused" if isinstance(error, GateRefused) else "lost", error.what)
        raise


def resumed_move(session: Session, then: Plan) -> Plan:
    """The move as decided then. If the alias is neither where it was nor where it should be, somebody else came."""
    now = asked_again(session, then)
    moves = any(isinstance(step, MOVES) for step in now.steps)  # else it is there, and lacks at most what belongs to it
    if moves and now.expects.alias_routing != then.expects.alias_routing:
        raise Drift(
            f"{then.alias} was at {then.expects.alias_routing} and is at {now.expects.alias_routing} now",
            where=f"resuming the {then.kind} to version {then.version}",
            next="Somebody else moved it since. Nothing was changed: ask again for what you want.",
        )
    return now
