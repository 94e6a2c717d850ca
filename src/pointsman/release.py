"""The use cases: deploy, promote, roll back, plan, apply, resume. Each observes, plans, carries out, records.

The only module, with `execute` and `world`, that knows both what decides and what does.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pointsman import artifact as packaging
from pointsman.aws.gateway import Package
from pointsman.config import CloudFormation, Direct, Environment, Existing, Function, Test
from pointsman.deployments import deployments, previous
from pointsman.errors import (
    BuildFailed,
    FunctionFailed,
    GateRefused,
    LostRace,
    NotFound,
    NotYet,
    StalePlan,
    UnknownTarget,
    UsageError,
)
from pointsman.execute import Done, Hands, execute, in_progress, wait_until_settled
from pointsman.ledger import ENDED, Run, taken
from pointsman.model import (
    LATEST,
    Alias,
    AliasName,
    Artifact,
    Bits,
    BuildId,
    Configuration,
    FunctionArn,
    FunctionName,
    Move,
    TestReport,
    Value,
    Version,
    from_json,
    plain,
    to_json,
)
from pointsman.plan import (
    ApplyStack,
    AskApproval,
    Gate,
    Plan,
    PublishVersion,
    RunGate,
    Seen,
    Wanted,
    differences,
    plan_deploy,
    plan_move,
)
from pointsman.world import Session, World, git, unknown

_SMALL = 50_000_000  # bytes of zip that fit a request; more goes through S3


class Released(Value, frozen=True, kw_only=True):
    """What a deploy, promote or rollback came to. `outcome`: done, or unchanged where nothing was to be done."""

    command: str
    function: str
    name: str
    environment: str
    alias: str
    outcome: str
    build: str | None
    version: str | None
    was: str | None
    published: bool
    moved: bool
    why: str
    sha256: str | None = None
    run: str = ""
    tests: dict[str, TestReport]


class SavedPlan(Value, frozen=True, kw_only=True):
    """A plan in a file: `schema` for later readers, `plan` exactly as shown, `asked` as it was asked for."""

    schema: Literal[1]
    plan: Plan
    asked: dict[str, Any]


# Building


def build(world: World, function: Function) -> Artifact:
    """Make the package, or find that it is made already. Raises BuildFailed before anything is asked of AWS."""
    tests = (function.test.unit, function.test.integration)
    recipe = packaging.Recipe(
        function=function.name,
        source=str((world.project.root / function.source).resolve()),
        build=_buildable(function),
        handler=function.handler,
        runtime=function.runtime,
        architecture=function.architecture,
        include=function.include,
        exclude=function.exclude,
        command=function.command,
        artifact=function.artifact,
        never=tuple(path for test in tests if test for path in test.junit),
    )
    home = world.project.root / ".pointsman"
    made = packaging.build(
        recipe, out=home / "artifacts", cache=home / "cache", environment=world.environ, say=world.say
    )
    size = f"{made.size / 1e6:.1f} MB" if made.size >= 1e6 else f"{made.size / 1e3:.1f} kB"
    world.say(f"packaged {function.name}: {made.files} files, {size}, {made.sha256.short}…")
    return made


def _buildable(function: Function) -> Literal["python", "node", "command", "zip"]:
    if function.build == "image":
        raise NotYet(
            f'function.{function.name}.build = "image": container images are not deployed by this version',
            next='Use "python", "node", "command" or "zip".',
        )
    return function.build


def build_id(world: World, made: Artifact, given: str | None) -> BuildId:
    """The one given; else the commit, marked where the tree is not what was committed; else a time."""
    if given is not None:
        try:
            return BuildId(given)
        except ValueError as error:
            raise UsageError(str(error), where="--build-id") from error
    commit = git(world.project.root, "rev-parse", "--short", "HEAD")
    if not commit:
        return BuildId(time.strftime("%Y%m%d-%H%M%S", time.gmtime(world.clock.now())) + f"-{_hex(made.sha256)}")
    changed = git(world.project.root, "status", "--porcelain", "--", ".")
    return BuildId(f"{commit}-{_hex(made.sha256)}" if changed else commit)


def _hex(sha256: str) -> str:
    import base64

    return base64.b64decode(sha256).hex()[:8]


# Deploying


def deploy(world: World, function: Function, environment: Environment, *, given: str | None) -> Released:
    """Unit tests → package → provision → update → publish → integration tests → alias."""
    with world.running("deploy", function, environment, {"build": given}) as session:
        tests = _unit_tests(session)
        made = build(world, function)
        return _deploy(session, made, build_id(world, made, given), tests=tests)


def _deploy(session: Session, made: Artifact, build: BuildId, *, tests: dict[str, TestReport]) -> Released:
    packaging.check(
        made, handler=session.function.handler, runtime=session.function.runtime, bucket=session.environment.bucket
    )
    session.ledger.append(session.run, "packaged", function=session.function.name, artifact=made, build=build)
    wanted, seen = _observe(session, made, build, gates=_gates(session.function))
    return _carry_out(session, _planned(session, wanted, seen), tests=tests)


def plan(world: World, function: Function, environment: Environment, *, given: str | None) -> Plan:
    """The deploy as it would be carried out now; nothing is changed, and nothing but the package is made."""
    session = world.session(function, environment)
    made = build(world, function)
    name = build_id(world, made, given)
    packaging.check(made, handler=function.handler, runtime=function.runtime, bucket=environment.bucket)
    gates = (*_unit_gate(function), *_gates(function))
    wanted, seen = _observe(session, made, name, gates=gates)
    return _planned(session, wanted, seen)


def _planned(session: Session, wanted: Wanted, seen: Seen) -> Plan:
    _same_build(session, wanted, seen)
    made = plan_deploy(wanted, seen)
    if any(isinstance(step, PublishVersion) for step in made.steps) and seen.function:
        _search_descriptions(session, wanted, seen.function)
    return made


def _same_build(session: Session, wanted: Wanted, seen: Seen) -> None:
    """The id must not name other bits already: in the ledger, or on the alias in front of us."""
    if seen.function is None:
        return
    known = session.ledger.build(seen.function.arn.unqualified, wanted.build)
    if known and known.sha256 != wanted.artifact.sha256:
        raise taken(wanted.build, known.sha256, wanted.artifact.sha256, where="the ledger")
    if seen.alias and seen.serving and seen.alias.description == wanted.build:  # noqa: SIM102 (two thoughts)
        if seen.serving.sha256 != wanted.artifact.sha256:
            raise taken(wanted.build, seen.serving.sha256, wanted.artifact.sha256, where=f"alias {seen.alias.name}")


def _search_descriptions(session: Session, wanted: Wanted, function: Configuration) -> None:
    """Without a ledger entry of this function (a fresh CI machine) the descriptions are all there is to go by."""
    if session.ledger.builds(function.arn.unqualified):
        return
    for version in session.gateway.versions(function.arn.name):
        if version.description == wanted.build and version.sha256 != wanted.artifact.sha256:
            raise taken(wanted.build, version.sha256, wanted.artifact.sha256, where=f"version {version.version}")


def _gates(function: Function) -> tuple[Gate, ...]:
    test = function.test.integration
    return (Gate(name="integration", against=test.against),) if test else ()


def _unit_gate(function: Function) -> tuple[Gate, ...]:
    return (Gate(name="unit", against="source"),) if function.test.unit else ()


def _observe(session: Session, made: Artifact, build: BuildId, *, gates: tuple[Gate, ...]) -> tuple[Wanted, Seen]:
    """Look at the world: GetFunction and GetAlias where the ledger knows the rest, more where it does not."""
    provision = session.function.provision
    name = session.declared_name()
    stack: Literal["absent", "same", "differs"] = "same"
    digest = ""
    function: Configuration | None = None
    if isinstance(provision, CloudFormation):
        digest = _template_digest(session, provision)
        known = session.ledger.remembered("provisioned", session.provision_key) if digest else None
        if known and known["template"] == digest:
            function = session.gateway.function(known["name"])
            if function and str(function.arn.unqualified) == known["arn"]:
                name = function.arn.name
            else:
                function = None
        if function is None:
            from pointsman.provision import cloudformation

            looked = cloudformation.look(
                session.gateway, provision, _template(session, provision), settle=session.settled_stack
            )
            stack, name = looked.status, looked.name
    if function is None and name is not None:
        function = session.gateway.function(name)
    if function is None and isinstance(provision, Existing):
        raise NotFound(
            f"there is no function {name} in {session.wire.region}",
            where=f"function.{session.function.name}",
            next="Check its name, the region and the credentials; or let `provision` create it.",
        )
    if function is None and isinstance(provision, CloudFormation) and stack == "same":
        raise NotFound(
            f"stack {provision.stack} has function {name}, but Lambda does not: it was deleted beside the stack",
            next="Delete the stack and deploy again, or mend it with `aws cloudformation`.",
        )
    session.check_account(function.arn if function else None)
    if function and in_progress(function):
        session.say(f"{function.arn.name} is busy: {function.state}, update {function.update}")
        world = session.world
        function = wait_until_settled(
            session.gateway, world.clock, function.arn.name, wait_s=world.options.wait_s, say=session.say
        )
    if function and function.state == "Failed":
        raise FunctionFailed(
            f"{function.arn.name} is Failed: {function.state_reason or 'AWS gives no reason'}",
            next="Its creation failed; it must be deleted and created again.",
        )
    if function and isinstance(provision, CloudFormation) and stack == "same" and digest:
        _remember_provisioned(session, digest, function.arn)
    alias_name = session.environment.alias
    alias = session.gateway.alias(function.arn.name, alias_name) if function else None
    session.arn, session.alias = (function.arn.unqualified if function else None), alias
    wanted = Wanted(
        function=session.function.name,
        name=name,
        environment=session.environment.name,
        alias=alias_name,
        build=build,
        artifact=made,
        gates=gates,
        approve=session.environment.approve,
        settings=_settings(session),
        dropped=_dropped(session),
        stack=provision.stack if isinstance(provision, CloudFormation) else None,
        template=digest,
    )
    seen = Seen(
        function=function,
        alias=alias,
        serving=_serving(session, alias) if alias else None,
        published=_published(session, made, function, alias),
        stack=stack,
    )
    return wanted, seen


def _serving(session: Session, alias: Alias) -> Bits | None:
    known = session.ledger.bits(alias.arn.unqualified, alias.version)
    if known or not alias.version.published:
        return known
    found = session.gateway.function(alias.arn.name, alias.version)
    return found.bits if found else None


def _published(session: Session, made: Artifact, function: Configuration | None, alias: Alias | None) -> Version | None:
    """A version of exactly these bits that the ledger knows and Lambda still has."""
    if function is None:
        return None
    bits = Bits(sha256=made.sha256, fingerprint=function.fingerprint)
    version = session.ledger.version_of(function.arn.unqualified, bits)
    if version is None or (alias and alias.version == version):
        return version
    found = session.gateway.function(function.arn.name, version)
    return version if found and found.bits == bits else None


def _template(session: Session, provision: CloudFormation) -> str | None:
    if provision.template is None:
        return None
    path = session.world.project.root / provision.template
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the template {path}: {error}") from error


def _template_digest(session: Session, provision: CloudFormation) -> str:
    text = _template(session, provision)
    if text is None:
        return ""
    asked = to_json([text, provision.stack, provision.function, dict(provision.parameters)])
    return hashlib.sha256(asked).hexdigest()


def _remember_provisioned(session: Session, digest: str, arn: FunctionArn) -> None:
    fact = {"template": digest, "name": arn.name, "arn": str(arn.unqualified)}
    if session.run and session.ledger.remembered("provisioned", session.provision_key) != fact:
        session.ledger.append(
            session.run, "provisioned", function=session.function.name, subject=session.provision_key, **fact
        )


def _settings(session: Session) -> dict[str, Any] | None:
    provision = session.function.provision
    if not isinstance(provision, Direct):
        return None
    from pointsman.provision import direct

    return direct.settings(session.function, provision)


def _dropped(session: Session) -> tuple[str, ...]:
    """Environment variables an earlier deploy declared and the file does not any more: those are ours to remove."""
    provision = session.function.provision
    if not isinstance(provision, Direct):
        return ()
    known = session.ledger.remembered("declared", session.provision_key)
    return tuple(sorted({*(known or {}).get("variables", ())} - {*(provision.environment or {})}))


# Moving an alias to a version that exists


def promote(world: World, function: Function, environment: Environment, target: str) -> Released:
    """The same bits, another alias: by build id, version or alias."""
    _rollout_not_yet(world, environment)
    with world.running("promote", function, environment, {"target": target}) as session:
        return _carry_out(session, _plan_promote(session, target))


def plan_promote(world: World, function: Function, environment: Environment, target: str) -> Plan:
    _rollout_not_yet(world, environment)
    return _plan_promote(world.session(function, environment), target)


def _plan_promote(session: Session, target: str) -> Plan:
    name = session.name()
    alias = session.gateway.alias(name, session.environment.alias)
    arn = alias.arn.unqualified if alias else _arn(session, name)
    session.arn, session.alias = arn, alias
    session.check_account(arn)
    version, build = resolve(session, arn, target)
    found = session.gateway.function(name, version)
    if found is None:
        raise UnknownTarget(
            f"version {version} of {name} was deleted", next="`pointsman versions` lists what there is."
        )
    known = session.ledger.build(arn, build) if build else None
    if known and known.sha256 != found.sha256:
        raise UnknownTarget(
            f"build {build} is {known.sha256.short}… in the ledger, but version {version} holds {found.sha256.short}…",
            next="The function was deleted and made anew since: deploy the build again.",
        )
    if in_progress(found):
        world = session.world
        found = wait_until_settled(
            session.gateway, world.clock, name, qualifier=version, wait_s=world.options.wait_s, say=session.say
        )
    return plan_move(
        "promote",
        function=session.function.name,
        environment=session.environment.name,
        alias=session.environment.alias,
        name=name,
        version=version,
        seen=alias,
        build=build or _described(found),
        approve=session.environment.approve,
    )


def roll_back(world: World, function: Function, environment: Environment, to: str | None) -> Released:
    """One conditional UpdateAlias, to the previous deployment of that alias or to the one named."""
    with world.running("rollback", function, environment, {"target": to}) as session:
        return _carry_out(session, _plan_rollback(session, to))


def plan_rollback(world: World, function: Function, environment: Environment, to: str | None) -> Plan:
    return _plan_rollback(world.session(function, environment), to)


def _plan_rollback(session: Session, to: str | None) -> Plan:
    name, alias_name = session.name(), session.environment.alias
    alias = session.gateway.alias(name, alias_name)
    if alias is None:
        raise NotFound(f"there is no alias {alias_name} of {name}", next="`pointsman status` shows those there are.")
    session.check_account(alias.arn)
    session.arn = arn = alias.arn.unqualified
    session.alias = alias
    if to is not None:
        version, build = resolve(session, arn, to)
    elif alias.routing.canary:
        version, build = alias.version, None  # half-way through a shift: back to the baseline alone
    else:
        version, build = _previous(session, arn, alias)
    return plan_move(
        "rollback",
        function=session.function.name,
        environment=session.environment.name,
        alias=alias_name,
        name=name,
        version=version,
        seen=alias,
        build=build,
        approve=False,  # going back must never wait for a signature
    )


def _previous(session: Session, arn: FunctionArn, alias: Alias) -> tuple[Version, BuildId | None]:
    name = alias.name
    moves = session.ledger.moves(arn, name)
    again = f"Name it: `pointsman rollback {name} --to BUILD|VERSION`; `pointsman versions` lists them."
    try:
        found = previous(moves, alias.version)
    except ValueError as error:
        raise LostRace(
            f"{name} was moved outside Pointsman: {error}",
            where=f"looking for {name}'s previous deployment",
            next=again,
        ) from error
    if found is None:
        known = "this is its first deployment" if deployments(moves) else "the ledger knows no deployment of it"
        raise UnknownTarget(f"there is nothing to roll {name} back to: {known}", next=again)
    return found.version, found.build


def _rollout_not_yet(world: World, environment: Environment) -> None:
    if environment.rollout is not None and not world.options.all_at_once:
        raise NotYet(
            f"environment.{environment.name}.rollout: moving traffic step by step is not built yet",
            next="`--all-at-once` moves all of it now; or take the key out of the file.",
        )


def _arn(session: Session, name: FunctionName) -> FunctionArn:
    function = session.gateway.function(name)
    if function is None:
        raise NotFound(f"there is no function {name} in {session.wire.region}", next="`pointsman deploy` comes first.")
    return function.arn.unqualified


def _described(version: Configuration) -> BuildId | None:
    try:
        return BuildId(version.description)
    except ValueError:
        return None


def resolve(session: Session, arn: FunctionArn, text: str) -> tuple[Version, BuildId | None]:
    """What BUILD|VERSION|ALIAS means: a build of the ledger, an alias of the file, a description, a version, an alias.

    `build:`, `version:` and `alias:` in front say which. Raises UnknownTarget with the nearest known builds.
    """
    kind, _, rest = text.partition(":") if re.match(r"(build|version|alias):", text) else ("", "", text)
    environments = session.world.project.environments.values()
    if kind in ("", "build") and (known := session.ledger.build(arn, rest)):
        if known.version:
            return known.version, known.id
        if kind:
            raise UnknownTarget(f"build {rest} was made, but never published", next="`pointsman deploy` publishes it.")
    named = next((each for each in environments if rest in (each.name, each.alias)), None)
    if kind in ("", "alias") and named:
        return _of_alias(session, arn, named.alias)
    descriptions: dict[str, Configuration] = {}
    if kind in ("", "build"):
        for version in session.gateway.versions(arn.name):
            same = descriptions.get(version.description)
            if version.description == rest and same and same.bits != version.bits:
                raise UnknownTarget(
                    f"build {rest} is the description of versions {same.version} and {version.version}, which differ",
                    next=f"Say which: version:{same.version} or version:{version.version}.",
                )
            descriptions[version.description] = version
        if rest in descriptions:
            return descriptions[rest].version, _described(descriptions[rest])
    if kind in ("", "version") and re.fullmatch(r"[1-9][0-9]*", rest):
        return Version(rest), None
    if kind in ("", "alias") and re.fullmatch(AliasName.pattern, rest):
        return _of_alias(
            session, arn, AliasName(rest), known=(*session.ledger.builds(arn), *filter(None, descriptions))
        )
    raise unknown(kind or "build, version or alias", rest, (*session.ledger.builds(arn), *descriptions), "Builds")


def _of_alias(
    session: Session, arn: FunctionArn, name: AliasName, known: tuple[str, ...] | None = None
) -> tuple[Version, BuildId | None]:
    found = session.gateway.alias(arn.name, name)
    if found is None:
        if known is not None:
            raise unknown("build, version or alias", name, known, "Known builds")
        raise NotFound(f"there is no alias {name} of {arn.name}", next=f"`pointsman deploy --to {name}` makes it.")
    if not found.version.published:
        raise UnknownTarget(f"{name} points at {found.version}, which is not published", next="Deploy first.")
    if found.routing.canary:
        raise LostRace(
            f"{name} is half-way through a shift: {found.routing}", next="End the shift first, or say a version."
        )
    newest = next((move for move in reversed(session.ledger.moves(arn, name)) if move.version == found.version), None)
    build = newest.build if newest else None
    if build is None and found.description:
        build = BuildId(found.description) if BuildId.pattern.fullmatch(found.description) else None
    return found.version, build


# Plans in files


def save(path: Path, made: Plan, asked: Mapping[str, Any]) -> None:
    """Mode 0600: a plan holds the environment variables it would set."""
    path.touch(mode=0o600)
    path.write_bytes(to_json(SavedPlan(schema=1, plan=made, asked=dict(asked))))


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
    then = saved.plan
    function = world.functions(then.function)[0]
    environment = world.environment(then.environment)
    with world.running(then.kind, function, environment, {"plan": plain(then), **saved.asked}) as session:
        if then.artifact:
            session.ledger.append(
                session.run, "packaged", function=then.function, artifact=then.artifact, build=then.build
            )
        now = _again(session, then)
        if lines := differences(then, now):
            raise StalePlan(
                "the world is no longer what this plan saw:\n" + "\n".join(f"  {line}" for line in lines),
                where="applying the plan",
                next="Nothing was changed. Make a new plan, and look at it.",
            )
        return _carry_out(session, then)


def _again(session: Session, then: Plan) -> Plan:
    """The same question, asked now."""
    match then.kind:
        case "deploy":
            assert then.artifact is not None
            assert then.build is not None
            made = packaging.inspect(Path(then.artifact.path), then.function)
            if made.sha256 != then.artifact.sha256:
                raise StalePlan(f"{made.path} holds other bytes than the plan has", next="Make a new plan.")
            gates = (*_unit_gate(session.function), *_gates(session.function))
            wanted, seen = _observe(session, then.artifact, then.build, gates=gates)
            return _planned(session, wanted, seen)
        case "promote":
            return _plan_promote(session, f"version:{then.version}")
        case "rollback":
            return _plan_rollback(session, f"version:{then.version}")


# Going on after a crash


def unfinished(world: World, run_id: str | None = None) -> Run | None:
    """The newest run that neither ended nor was overtaken by a later one of the same function and alias."""
    seen: set[tuple[str, str]] = set()
    host = os.uname().nodename
    for run in world.ledger.runs():
        key = (run.function, run.alias)
        if run_id in (None, run.id) and key not in seen and run.outcome not in ENDED:
            if not run.outcome and run.host == host and run.pid != os.getpid() and _alive(run.pid):
                raise LostRace(
                    f"{run.command} of {run.function} to {run.alias} (run {run.id}) is still under way",
                    next=f"Wait for process {run.pid} of {run.by}, or end it.",
                )
            return run
        if run_id == run.id:
            return None
        seen.add(key)
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def resume(world: World, run: Run) -> Released:
    """Ask again what an unfinished run was asked, with what it had already decided: package, build id, version."""
    function = world.functions(run.function)[0]
    environment = world.environment(run.alias)
    entries = world.ledger.of_run(run.id, "packaged", "planned", "gate")
    packaged = next((entry.body for entry in entries if entry.kind == "packaged"), None)
    planned = next((entry.body for entry in entries if entry.kind == "planned"), None)
    request = {**run.request, "resumes": run.id}
    with world.running(run.command, function, environment, request) as session:
        if run.command == "deploy":
            tests: dict[str, TestReport] = {}
            if packaged and Path(packaged["artifact"]["path"]).exists():
                artifact = from_json(to_json(packaged["artifact"]), Artifact)
                made = packaging.inspect(Path(artifact.path), run.function)
                if made.sha256 != artifact.sha256:
                    raise BuildFailed(f"{made.path} was changed since run {run.id} made it", next="Deploy again.")
                return _deploy(session, artifact, BuildId(packaged["build"]), tests=tests)
            tests = _unit_tests(session)
            made = build(world, function)
            given = packaged["build"] if packaged else run.request.get("build")
            return _deploy(session, made, build_id(world, made, given), tests=tests)
        if planned:
            then = from_json(to_json(planned["plan"]), Plan)
            return _carry_out(session, _resumed_move(session, then))
        target: Any = run.request.get("target")
        made_plan = _plan_promote(session, target) if run.command == "promote" else _plan_rollback(session, target)
        return _carry_out(session, made_plan)


def _resumed_move(session: Session, then: Plan) -> Plan:
    """The move as decided then. If the alias is neither where it was nor where it should be, somebody else came."""
    now = _again(session, then)
    if now.steps and now.expects.alias_routing != then.expects.alias_routing:
        raise LostRace(
            f"{then.alias} was at {then.expects.alias_routing} and is at {now.expects.alias_routing} now",
            where=f"resuming the {then.kind} to version {then.version}",
            next="Somebody else moved it since. Nothing was changed: ask again for what you want.",
        )
    return Plan(**{**{name: getattr(now, name) for name in now.__struct_fields__}, "build": then.build})


# Carrying out


def _carry_out(session: Session, made: Plan, *, tests: dict[str, TestReport] | None = None) -> Released:
    ledger, reports = session.ledger, dict(tests or {})
    ledger.append(
        session.run, "planned", function=session.function.name, subject=made.alias, plan=_without_values(made)
    )
    hands = Hands(
        gateway=session.gateway,
        clock=session.world.clock,
        record=_Record(session, made),
        package=lambda: _package(session, made.artifact),
        gate=lambda step, arn, version: _gate(session, step, arn, version, reports),
        approve=lambda step, version: _approve(session, step, version),
        apply_stack=lambda step: _apply_stack(session, step),
        say=session.say,
        wait_s=session.world.options.wait_s,
    )
    done = execute(made, hands)
    _remember(session, made, done)
    session.outcome = "done" if made.steps else "unchanged"
    return Released(
        command=made.kind,
        function=made.function,
        name=made.name or (done.alias.arn.name if done.alias else ""),
        environment=made.environment,
        alias=made.alias,
        outcome=session.outcome,
        build=made.build,
        version=done.version,
        was=done.was,
        published=done.published,
        moved=done.moved,
        why=made.why_nothing,
        sha256=made.artifact.sha256 if made.artifact else None,
        run=session.run,
        tests=reports,
    )


def _without_values(made: Plan) -> Any:
    """The plan as the ledger keeps it: of environment variables the names, never the values."""

    def scrub(value: Any) -> Any:
        match value:
            case {"Variables": dict(variables), **rest}:
                return {**rest, "Variables": dict.fromkeys(variables, "…")}
            case dict():
                return {key: scrub(each) for key, each in value.items()}
            case list():
                return [scrub(each) for each in value]
            case _:
                return value

    return scrub(plain(made))


def _remember(session: Session, made: Plan, done: Done) -> None:
    """What the steps themselves did not tell the ledger: the build's version, a move that had landed already."""
    ledger, arn = session.ledger, session.arn or (done.alias.arn.unqualified if done.alias else None)
    if arn is None or done.version is None:
        return
    if made.build and made.artifact:
        ledger.built(
            session.run,
            arn,
            made.build,
            made.artifact.sha256,
            version=done.version,
            size=made.artifact.size,
            commit=session.world.actor.commit,
        )
    if session.alias and not done.moved and session.alias.version == done.version:
        moves = ledger.moves(arn, made.alias)
        if not moves or moves[-1].version != done.version:
            was = moves[-1].version if moves else None
            _Record(session, made).moved(arn, made.alias, done.version, was)
    for step in made.steps:
        if isinstance(step, ApplyStack):
            _remember_provisioned(session, step.template, arn)
    provision = session.function.provision
    if made.kind == "deploy" and isinstance(provision, Direct) and provision.environment is not None:
        variables = sorted(provision.environment)
        if (ledger.remembered("declared", session.provision_key) or {}).get("variables") != variables:
            name, key = session.function.name, session.provision_key
            ledger.append(session.run, "declared", function=name, subject=key, variables=variables)


class _Record:
    """Tells the ledger what became true."""

    def __init__(self, session: Session, made: Plan) -> None:
        self.session = session
        self.made = made

    def published(self, function: FunctionArn, version: Version, bits: Bits) -> None:
        assert self.made.build is not None
        self.session.ledger.published(self.session.run, function, version, bits, self.made.build)

    def moved(self, function: FunctionArn, alias: AliasName, version: Version, was: Version | None) -> None:
        world = self.session.world
        move = Move(
            alias=alias,
            version=version,
            was=was,
            kind=self.made.kind,
            at=world.clock.now(),
            by=world.actor.by,
            build=self.made.build,
        )
        self.session.ledger.moved(self.session.run, function, move)


def _package(session: Session, made: Artifact | None) -> Package:
    assert made is not None, "only a deploy uploads"
    path = Path(made.path)
    body = path.read_bytes()
    if made.size <= _SMALL:
        return Package(zip=body)
    bucket = session.environment.bucket
    assert bucket, "packaging.check asks for a bucket first"
    key = f"pointsman/{made.function}/{made.sha256.replace('/', '_').replace('+', '-').rstrip('=')}.zip"
    if session.gateway.object_exists(bucket, key):
        session.say(f"s3://{bucket}/{key} is there already")
    else:
        session.say(f"uploading {made.size / 1e6:.1f} MB to s3://{bucket}/{key}")
        session.gateway.put_object(bucket, key, body)
    return Package(bucket=bucket, key=key)


def _apply_stack(session: Session, step: ApplyStack) -> FunctionName:
    from pointsman.provision import cloudformation

    provision = session.function.provision
    assert isinstance(provision, CloudFormation)
    template = _template(session, provision)
    assert template is not None
    world = session.world
    return cloudformation.apply(
        session.gateway,
        provision,
        template,
        name=f"pointsman-{session.run}",
        create=step.create,
        allow_replace=world.options.allow_replace,
        clock=world.clock,
        say=session.say,
        wait_s=max(world.options.wait_s, 900),
    )


# Gates


def _unit_tests(session: Session) -> dict[str, TestReport]:
    reports: dict[str, TestReport] = {}
    for gate in _unit_gate(session.function):
        step = RunGate(gate=gate.name, against=gate.against, reason="before anything else")
        _gate(session, step, None, None, reports)
    return reports


def _gate(
    session: Session, step: RunGate, arn: FunctionArn | None, version: Version | None, reports: dict[str, TestReport]
) -> None:
    """Run the test, keep its reports, and raise GateRefused where it proves nothing or proves the build bad."""
    from pointsman import testrun

    test: Test | None = getattr(session.function.test, step.gate)
    assert test is not None
    if arn is None and step.against != "source":
        arn = _arn(session, session.name())
    qualifier = version if step.against != "source" else None
    against = {"source": "", "latest": " against $LATEST", "version": f" against version {version}"}[step.against]
    session.say(f"{step.gate} tests{against}: {test.run}")
    run = testrun.run(
        test.run,
        cwd=session.source,
        environment=session.test_environment(arn if qualifier else None, qualifier),
        junit=test.junit,
        reports=session.world.state / "reports" / session.run,
        name=step.gate,
        timeout_s=test.timeout,
        echo=session.world.echo,
    )
    session.ledger.append(
        session.run,
        "gate",
        function=session.function.name,
        subject=step.gate,
        verdict="fail" if run.problem else "pass",
        problem=run.problem,
        version=version if version != LATEST else None,
        report=run.report,
        log=run.log,
    )
    if run.report:
        reports[step.gate] = run.report
    if run.problem:
        raise GateRefused(
            f"the {step.gate} tests{against} do not pass: {run.problem}",
            where=f"{step.gate} tests of {session.function.name}",
            next=f"No alias was moved. Their output: {run.log}",
        )
    session.say(f"{step.gate} tests passed: {run.report}" if run.report else f"{step.gate} tests passed")


def _approve(session: Session, step: AskApproval, version: Version) -> None:
    world = session.world
    what = f"move {step.alias} of {session.function.name} to version {version}"
    by = world.environ.get("POINTSMAN_APPROVED_BY", "")
    if not by and world.options.approve:
        by = world.actor.by
    if not by and world.ask is not None:
        if not world.ask(f"{what[0].upper()}{what[1:]}?"):
            raise GateRefused(
                f"{world.actor.by} did not approve to {what}", where="approval", next="Nothing was moved."
            )
        by = world.actor.by
    if not by:
        raise GateRefused(
            f"environment {session.environment.name} wants an approval to {what}, and there is no terminal to ask on",
            where="approval",
            next="Add `--approve`, or set POINTSMAN_APPROVED_BY to the name of who approved.",
        )
    session.ledger.append(
        session.run, "approved", function=session.function.name, subject=step.alias, by=by, version=version
    )
    session.say(f"approved by {by}")
