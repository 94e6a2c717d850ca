"""What is to be done: desired + observed → `Plan`, a tuple of frozen steps, each with its reason. Pure.

No clock, no I/O: equal inputs give equal plans, so a saved plan is checked by planning again and comparing. A version
that a plan is yet to publish has no number: steps after `PublishVersion` leave `version` out and mean that one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from pointsman import belongings
from pointsman.belongings import (
    ChangeUrl,
    ConfigureEvents,
    Furnishing,
    GiveUrl,
    GrantPermission,
    MapEventSource,
    ProvisionConcurrency,
    RemoveUrl,
    RevokePermission,
)
from pointsman.errors import LostRace, UsageError
from pointsman.model import (
    Alias,
    AliasName,
    Artifact,
    Bits,
    BuildId,
    CodeSha256,
    Configuration,
    FunctionName,
    Routing,
    Value,
    Version,
    fingerprint,
    role_name,
    size,
)


class ApplyStack(Value, frozen=True, kw_only=True, tag_field="step"):
    """Create or update a CloudFormation stack by a change set. `template` is the digest of what is sent.

    `changes` says what differs from the stack as it is; `losses` is what needs `--allow`. `makes_alias`: the plan's
    alias may be there afterwards.
    """

    stack: str
    template: str
    create: bool
    reason: str
    changes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    makes_alias: bool = False


class CloneRole(Value, frozen=True, kw_only=True, tag_field="step"):
    """Make, or bring up to date, a branch's own copy of the function's role. `digest`: of the origin as it was seen."""

    role: str
    origin: str
    digest: str
    create: bool
    reason: str


class ReturnRole(Value, frozen=True, kw_only=True, tag_field="step"):
    """Give `$LATEST` its own role back where it has `lent`: what is published next must not be published with that."""

    role: str
    lent: str
    reason: str


class ApplyTerraform(Value, frozen=True, kw_only=True, tag_field="step"):
    """Apply exactly the saved plan in `file`, whose SHA-256 is `digest`.

    `changes` a line each; `losses` is what needs `--allow`. `publishes`: versions of the package are the module's to
    make; `brings`: this one is there once it is applied, as `version` where the function stays as it is. `makes_alias`:
    the module makes an alias, too. `key`: what decided the plan, as a digest.
    """

    directory: str
    workspace: str
    file: str
    digest: str
    key: str
    address: str
    changes: tuple[str, ...]
    publishes: bool
    brings: bool
    reason: str
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    version: Version | None = None
    makes_alias: bool = False


class CreateFunction(Value, frozen=True, kw_only=True, tag_field="step"):
    sha256: CodeSha256
    settings: dict[str, Any]
    reason: str


class UpdateCode(Value, frozen=True, kw_only=True, tag_field="step"):
    sha256: CodeSha256
    size: int
    reason: str
    architecture: str | None = None


class UpdateConfiguration(Value, frozen=True, kw_only=True, tag_field="step"):
    """Only the settings that change, in UpdateFunctionConfiguration's names."""

    settings: dict[str, Any]
    reason: str


class PublishLayer(Value, frozen=True, kw_only=True, tag_field="step"):
    """A layer's next version, of what was built. `arn`: without the number. Settings name it as `layer.LAYER`."""

    layer: str
    arn: str
    sha256: CodeSha256
    size: int
    reason: str
    retain: int | None = None


class RunGate(Value, frozen=True, kw_only=True, tag_field="step"):
    gate: Literal["unit", "integration"]
    against: Literal["source", "latest", "version"]
    reason: str
    version: Version | None = None


class PublishVersion(Value, frozen=True, kw_only=True, tag_field="step"):
    """`role`: what `$LATEST` must have when it is published; "" where only its owner knows, and no branch's then."""

    sha256: CodeSha256
    description: BuildId
    reason: str
    role: str = ""


class AskApproval(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    reason: str
    version: Version | None = None


class CreateAlias(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    reason: str
    version: Version | None = None


class PointAlias(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    was: Version
    reason: str
    version: Version | None = None


class ShiftTraffic(Value, frozen=True, kw_only=True, tag_field="step"):
    """Move the alias step by step, watched, and back where the new version is worse. `ramp` says how, a line each.

    `goes_on`: an interrupted rollout to this version is gone on with.
    """

    alias: AliasName
    was: Version
    reason: str
    ramp: tuple[str, ...]
    version: Version | None = None
    goes_on: bool = False


class RestoreAlias(Value, frozen=True, kw_only=True, tag_field="step"):
    """Back to what the alias was before this release moved it: versions, weights and description."""

    alias: AliasName
    now: Version
    routing: Routing
    description: str
    reason: str


class RemoveAlias(Value, frozen=True, kw_only=True, tag_field="step"):
    """An alias that this release made, and that would otherwise stay alone."""

    alias: AliasName
    version: Version
    reason: str


Step: TypeAlias = (
    ApplyStack
    | CloneRole
    | ApplyTerraform
    | PublishLayer
    | CreateFunction
    | UpdateCode
    | UpdateConfiguration
    | RunGate
    | PublishVersion
    | ReturnRole
    | AskApproval
    | CreateAlias
    | PointAlias
    | ShiftTraffic
    | RestoreAlias
    | RemoveAlias
    | GrantPermission
    | RevokePermission
    | ConfigureEvents
    | MapEventSource
    | ProvisionConcurrency
    | GiveUrl
    | ChangeUrl
    | RemoveUrl
)
MOVES = (CreateAlias, PointAlias, ShiftTraffic, RestoreAlias, RemoveAlias)
BELONG = (
    *(GrantPermission, RevokePermission, ConfigureEvents, MapEventSource, ProvisionConcurrency),
    *(GiveUrl, ChangeUrl, RemoveUrl),
)
NOT_WRITES = (RunGate, AskApproval)


class Gate(Value, frozen=True, kw_only=True):
    """A test that must pass, and when: on the source, on `$LATEST`, or on the published version."""

    name: Literal["unit", "integration"]
    against: Literal["source", "latest", "version"]


class Expects(Value, frozen=True, kw_only=True):
    """What the plan saw and stands on: the executor's calls are conditional on exactly these."""

    function_revision: str | None = None
    function_sha256: str | None = None
    alias_revision: str | None = None
    alias_routing: str | None = None


class Plan(Value, frozen=True, kw_only=True):
    """`steps` in order, or none and `why_nothing`. `version` is the one meant where no step publishes."""

    kind: Literal["deploy", "promote", "rollback", "restore"]
    function: str
    environment: str
    alias: AliasName
    name: FunctionName | None
    build: BuildId | None
    version: Version | None
    artifact: Artifact | None
    steps: tuple[Step, ...]
    expects: Expects
    why_nothing: str = ""
    branch: str = ""  # whose alias it is, "" of an environment's
    region: str = ""  # of an environment that has several
    notes: tuple[str, ...] = ()  # what the alias will not have, though one might think so

    @property
    def writes(self) -> bool:
        return any(not isinstance(step, NOT_WRITES) for step in self.steps)

    @property
    def parts(self) -> tuple[tuple[Step, ...], tuple[AskApproval, ...], tuple[Step, ...]]:
        """What nobody calling the alias notices; what has to be approved then; what they do notice."""
        noticed = (AskApproval, *MOVES, *BELONG)
        seam = next((n for n, step in enumerate(self.steps) if isinstance(step, noticed)), None)
        before, after = (self.steps, ()) if seam is None else (self.steps[:seam], self.steps[seam:])
        asks = tuple(step for step in after if isinstance(step, AskApproval))
        return before, asks, tuple(step for step in after if not isinstance(step, AskApproval))


class Wanted(Value, frozen=True, kw_only=True):
    """A deploy, as asked. `settings` are what the file declares (direct); None where somebody else owns them.

    `dropped` names environment variables that an earlier deploy declared and the file no longer does.
    `home` is the role of `$LATEST`, and `role` the one the version is published with: `home`, or a branch's own, which
    `clone` makes if need be. Both are "" while only the function's owner knows.
    """

    function: str
    name: FunctionName | None
    environment: str
    alias: AliasName
    build: BuildId
    artifact: Artifact
    gates: tuple[Gate, ...] = ()
    approve: bool = False
    settings: dict[str, Any] | None = None
    dropped: tuple[str, ...] = ()
    stack: str | None = None
    template: str = ""
    branch: str = ""
    stack_brings_code: bool = False
    stack_makes_alias: bool = False
    home: str = ""
    role: str = ""
    clone: CloneRole | None = None
    layers: tuple[PublishLayer, ...] = ()
    ramp: tuple[str, ...] = ()  # how the alias is to be moved step by step; none: at once


class Seen(Value, frozen=True, kw_only=True):
    """The world before a deploy. `serving` is what the alias's version was published from, if known;

    `published` a version made of exactly the wanted bits. `stack`: whether the template is the one deployed.
    `terraform`: the step by which Terraform would change what it owns.
    """

    function: Configuration | None
    alias: Alias | None = None
    serving: Bits | None = None
    published: Version | None = None
    stack: Literal["absent", "same", "differs"] = "same"
    terraform: ApplyTerraform | None = None
    furnishing: Furnishing = belongings.NOTHING  # what the alias lacks
    stack_changes: tuple[str, ...] = ()
    stack_losses: tuple[str, ...] = ()
    rolling: Version | None = None  # an interrupted rollout of ours is trying this version, made of the wanted bits


def plan_deploy(wanted: Wanted, seen: Seen) -> Plan:
    """Raises LostRace when the alias is in the middle of somebody's traffic shift."""
    if seen.alias and seen.rolling:
        move = _move(wanted.alias, seen.rolling, seen.alias, approve=False, build=wanted.build, ramp=wanted.ramp)
        return _plan(wanted, seen, (*move, *seen.furnishing.steps), version=seen.rolling)
    if seen.alias and seen.alias.routing.canary:
        raise LostRace(
            f"{seen.alias.name} is half-way through a shift: it serves {seen.alias.routing}",
            where=f"planning a deploy to {wanted.alias}",
            next=f"`pointsman rollout status {wanted.alias}` tells more. End it first: `pointsman rollout abort "
            f"{wanted.alias}`, or `--supersede`.",
        )
    steps: list[Step] = [_gate(gate) for gate in wanted.gates if gate.against == "source"]
    function = seen.function
    if function and function.sha256.image != wanted.artifact.sha256.image and seen.stack == "same":
        has, is_to_be = ("an image", "a zip") if function.sha256.image else ("a zip", "an image")
        raise UsageError(
            f"{function.arn.name} has {has}, and {is_to_be} is to be deployed: its package type stays for good",
            where=f"planning a deploy to {wanted.alias}",
            next="Deploy to a function of another name, or delete this one first.",
        )
    changes = _changes(wanted, function)
    architecture = _architecture(wanted, function)
    latest_gates = [_gate(gate) for gate in wanted.gates if gate.against == "latest"]
    version: Version | None = None
    role = function.settings.get("Role", "") if function else wanted.home

    if function and seen.stack == "same" and not {*changes} - {"Role"} and not architecture:
        if seen.alias and seen.serving == bits(wanted, function):
            why = f"{wanted.alias} serves exactly this code and configuration already, as version {seen.alias.version}"
            steps = [*_return(wanted, role), *seen.furnishing.steps]
            why = "" if steps else why
            return _plan(wanted, seen, tuple(steps), version=seen.alias.version, why_nothing=why)
        if not latest_gates:
            version = seen.published

    if seen.terraform and seen.terraform.brings:
        if wanted.role != wanted.home:
            raise UsageError(
                f"the module in {seen.terraform.directory} publishes versions itself, with the function's role",
                where='branches.role = "per-branch"',
                next="Take `publish = true` out of the module (Pointsman then publishes), or share the role.",
            )
        # It publishes by itself, or leaves the version of this very code as it is.
        steps.append(seen.terraform)
        version = seen.terraform.version
        if version and seen.alias and seen.alias.version == version:
            return _plan(wanted, seen, (*steps, *seen.furnishing.steps), version=version)
        steps += latest_gates
    elif version is None:
        steps += [*_to_latest(wanted, seen, changes, architecture), *latest_gates, _publish(wanted, seen)]
        role = wanted.role
    steps += _return(wanted, role)
    steps += [_gate(gate, version) for gate in wanted.gates if gate.against == "version"]
    steps += _move(wanted.alias, version, seen.alias, approve=wanted.approve, build=wanted.build, ramp=wanted.ramp)
    steps += seen.furnishing.steps
    return _plan(wanted, seen, tuple(steps), version=version)


def _to_latest(wanted: Wanted, seen: Seen, changes: dict[str, Any], architecture: str | None) -> list[Step]:
    """What brings `$LATEST` to where a version can be published from it."""
    steps: list[Step] = []
    function, owner_changes = seen.function, seen.stack != "same"
    if owner_changes:
        steps.append(seen.terraform or _stack(wanted, seen))
    if wanted.clone:
        steps.append(wanted.clone)
    steps += wanted.layers
    if function is None and not owner_changes:
        settings = {**(wanted.settings or {})}
        steps.append(CreateFunction(sha256=wanted.artifact.sha256, settings=settings, reason="there is none yet"))
        if wanted.role != wanted.home:
            reason = f"Role {wanted.home} → {wanted.role}"
            steps.append(UpdateConfiguration(settings={"Role": wanted.role}, reason=reason))
        return steps
    # A stack that changes may bring its own code: then ours goes up again. (Skipped where it did not.) Code that
    # somebody put beside a stack that brings ours goes up to what the stack says it is.
    code_is_new = function is None or architecture or function.sha256 != wanted.artifact.sha256
    if (code_is_new or owner_changes) and not (owner_changes and wanted.stack_brings_code):
        steps.append(_code(wanted, function, architecture))
    if changes:
        steps.append(UpdateConfiguration(settings=changes, reason=_explain(changes, function)))
    return steps


def _publish(wanted: Wanted, seen: Seen) -> PublishVersion:
    # A stack that changes may give the function another role: then only that it is no branch's can be told now.
    sure = seen.stack == "same" or wanted.role != wanted.home
    return PublishVersion(
        sha256=wanted.artifact.sha256,
        description=wanted.build,
        reason=f"build {wanted.build}",
        role=wanted.role if sure else "",
    )


def bits(wanted: Wanted, function: Configuration) -> Bits:
    """What a version would be, published from this code, these settings and the role that is wanted."""
    settings = {**function.settings, "Role": wanted.role} if wanted.role else function.settings
    return Bits(sha256=wanted.artifact.sha256, fingerprint=fingerprint(settings))


def plan_move(
    kind: Literal["promote", "rollback"],
    *,
    function: str,
    environment: str,
    alias: AliasName,
    name: FunctionName,
    version: Version,
    seen: Alias | None,
    build: BuildId | None,
    approve: bool,
    branch: str = "",
    furnishing: Furnishing = belongings.NOTHING,
    ramp: tuple[str, ...] = (),
    rolling: Version | None = None,
) -> Plan:
    """Point an alias at a version that exists, or move it there by `ramp`, step by step.

    Without a ramp a half-shifted alias is ended by it, whichever version is asked for. `rolling`: the version that an
    interrupted rollout is trying: it was approved then.
    """
    there = seen is not None and seen.routing.version == version and not seen.routing.canary
    approve = approve and (rolling is None or rolling != version)
    steps: list[Step] = [] if there else _move(alias, version, seen, approve=approve, build=build, ramp=ramp)
    steps += furnishing.steps
    why = "" if steps else f"{alias} serves version {version} already"
    return Plan(
        kind=kind,
        function=function,
        environment=environment,
        alias=alias,
        name=name,
        build=build,
        version=version,
        artifact=None,
        steps=tuple(steps),
        expects=_expects(None, seen),
        why_nothing=why,
        branch=branch,
        notes=furnishing.notes,
    )


def describe(step: Step) -> str:
    """The step in one line, as `plan` shows it."""
    match step:
        case ApplyStack():
            return f"{'create' if step.create else 'update'} stack {step.stack} by a change set ({step.reason})"
        case CloneRole():
            return f"{'make' if step.create else 'bring up to date'} role {role_name(step.role)} ({step.reason})"
        case ReturnRole():
            return f"give $LATEST its role {role_name(step.role)} back ({step.reason})"
        case ApplyTerraform():
            workspace = f", workspace {step.workspace}" if step.workspace else ""
            return f"apply Terraform's plan of {step.directory}{workspace} ({step.reason})"
        case PublishLayer():
            return f"publish {size(step.size)} as the next version of layer {step.layer} ({step.reason})"
        case CreateFunction():
            return f"create the function ({step.reason})"
        case UpdateCode() if step.sha256.image:
            return f"put image sha256:{step.sha256.short}… into $LATEST ({step.reason})"
        case UpdateCode():
            return f"upload {size(step.size)} of code {step.sha256.short}… to $LATEST ({step.reason})"
        case UpdateConfiguration():
            return f"change the configuration of $LATEST: {step.reason}"
        case RunGate(gate="unit"):
            return "run the unit tests"
        case RunGate():
            what = "$LATEST" if step.against == "latest" else _version(step.version)
            return f"run the integration tests against {what}"
        case PublishVersion():
            return f"publish a version of it, described “{step.description}”"
        case AskApproval():
            return f"ask for approval to move {step.alias} ({step.reason})"
        case CreateAlias():
            return f"create alias {step.alias} for {_version(step.version)}"
        case PointAlias():
            return f"move alias {step.alias} from version {step.was} to {_version(step.version)} ({step.reason})"
        case ShiftTraffic():
            begins = "go on moving" if step.goes_on else "move"
            how = f"{step.reason}; {', '.join(step.ramp[:1])}" if step.ramp else step.reason
            return f"{begins} alias {step.alias} from version {step.was} to {_version(step.version)} ({how})"
        case RestoreAlias():
            return f"put alias {step.alias} back from version {step.now} to {step.routing} ({step.reason})"
        case RemoveAlias():
            return f"remove alias {step.alias} again ({step.reason})"
        case _:
            return belongings.describe(step)


def details(step: Step) -> tuple[str, ...]:
    """What else is to be seen of a step before it is carried out, a line each."""
    match step:
        case ApplyTerraform():
            return (*step.changes, *(f"needs --allow: {line}" for line in step.losses), *step.notes)
        case ApplyStack():
            return (*step.changes, *(f"needs --allow: {line}" for line in step.losses))
        case PublishLayer(retain=int(kept)):
            return (f"of the versions that Pointsman published the newest {kept} stay, the others are deleted",)
        case ShiftTraffic():
            return step.ramp[1:]
        case _:
            return ()


def differences(saved: Plan, now: Plan) -> tuple[str, ...]:
    """What makes a saved plan stale, a line each; none when both would do exactly the same."""
    lines = [
        f"{name}: the plan has {_show(was)}, now it is {_show(present)}"
        for name in ("build", "version", "name", "artifact", "expects")
        if (was := getattr(saved, name)) != (present := getattr(now, name))
    ]
    then, today = [describe(step) for step in saved.steps], [describe(step) for step in now.steps]
    lines += [f"no longer planned: {line}" for line in then if line not in today]
    lines += [f"not in the plan: {line}" for line in today if line not in then]
    if now.why_nothing and not saved.why_nothing:
        lines.append(f"nothing is left to do: {now.why_nothing}")
    if not lines and msgspec.structs.replace(saved, notes=now.notes) != now:
        lines.append("the steps are the same, but what they would send differs")
    return tuple(lines)


def _plan(
    wanted: Wanted, seen: Seen, steps: tuple[Step, ...], *, version: Version | None, why_nothing: str = ""
) -> Plan:
    return Plan(
        kind="deploy",
        function=wanted.function,
        environment=wanted.environment,
        alias=wanted.alias,
        name=seen.function.arn.name if seen.function else wanted.name,
        build=wanted.build,
        version=version,
        artifact=wanted.artifact,
        steps=steps,
        expects=_expects(seen.function, seen.alias),
        why_nothing=why_nothing,
        branch=wanted.branch,
        notes=seen.furnishing.notes,
    )


def _expects(function: Configuration | None, alias: Alias | None) -> Expects:
    return Expects(
        function_revision=function.revision if function else None,
        function_sha256=function.sha256 if function else None,
        alias_revision=alias.revision if alias else None,
        alias_routing=str(alias.routing) if alias else None,
    )


def _stack(wanted: Wanted, seen: Seen) -> ApplyStack:
    create = seen.stack == "absent"
    reason = "there is none yet" if create else "the template or its parameters changed"
    return ApplyStack(
        stack=wanted.stack or "",
        template=wanted.template,
        create=create,
        reason=f"{reason}; it brings the code" if wanted.stack_brings_code else reason,
        changes=seen.stack_changes,
        losses=seen.stack_losses,
        makes_alias=wanted.stack_makes_alias,
    )


def _architecture(wanted: Wanted, function: Configuration | None) -> str | None:
    """The declared architecture where it is another: it goes with the code, not with the configuration."""
    declared = (wanted.settings or {}).get("Architectures", [None])[0]
    present = function.settings.get("Architectures", ["x86_64"])[0] if function else declared
    return declared if declared != present else None


def _code(wanted: Wanted, function: Configuration | None, architecture: str | None) -> UpdateCode:
    return UpdateCode(
        sha256=wanted.artifact.sha256,
        size=wanted.artifact.size,
        reason=_why_code(wanted, function),
        architecture=architecture,
    )


def _why_code(wanted: Wanted, function: Configuration | None) -> str:
    owner = "the stack" if wanted.stack else "Terraform"
    if function is None:
        return f"{owner} brings a stand-in"
    if function.sha256 == wanted.artifact.sha256:
        return f"if {owner} changes it"
    return f"$LATEST holds {function.sha256.short}…"


def _changes(wanted: Wanted, function: Configuration | None) -> dict[str, Any]:
    """The declared settings that differ. Environment variables nobody declared here are left as they are."""
    if function is None:
        return {}
    changes: dict[str, Any] = {}
    declared = {**(wanted.settings or {}), **({"Role": wanted.role} if wanted.role else {})}
    for key, value in declared.items():
        present: Any = function.description if key == "Description" else function.settings.get(key)
        if key == "Architectures":
            continue
        if key == "Environment":
            if function.hidden:
                raise UsageError(
                    f"AWS does not show the function's environment variables: {function.hidden}",
                    where=f"planning the configuration of {function.arn.name}",
                    next="Without seeing them, those of others would be lost. Grant the credentials kms:Decrypt.",
                )
            kept = {name: each for name, each in (present or {}).items() if name not in wanted.dropped}
            if (merged := {**kept, **value["Variables"]}) != (present or {}):
                changes[key] = {"Variables": merged}
        elif value != present and (value or present):
            changes[key] = value
    return changes


def _explain(changes: dict[str, Any], function: Configuration | None) -> str:
    """Which settings, from what to what; of environment variables the names only, for values may be secrets."""
    present = function.settings if function else {}
    lines = []
    for key, value in changes.items():
        if key == "Environment":
            before: dict[str, str] = present.get(key, {})
            after: dict[str, str] = value["Variables"]
            names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            lines.append(f"environment variables {', '.join(names)}")
        elif key == "Layers":
            lines.append(f"Layers {_layers(present.get(key, ()), value)} → {_layers(value, present.get(key, ()))}")
        else:
            lines.append(f"{key} {present.get(key, 'unset')} → {value}")
    return "; ".join(lines)


def _layers(refs: Iterable[str], others: Iterable[str]) -> str:
    """ "common:3, tools:7"; of one that is yet to be published "common (new)". Where layers of two accounts or regions
    have the same name, each is told with all that it is."""
    wholes: dict[str, set[str]] = {}
    for ref in (*refs, *others):
        whole = ref.rpartition(":")[0]
        wholes.setdefault(whole.rpartition(":")[2], set()).add(whole)
    shown = []
    for ref in refs:
        name, _, number = ref.rpartition(":")
        short = name.rpartition(":")[2]
        shown.append(
            f"{ref.removeprefix('layer.')} (new)"
            if ref.startswith("layer.")
            else ref
            if len(wholes[short]) > 1
            else f"{short}:{number}"
        )
    return ", ".join(shown) or "none"


def _return(wanted: Wanted, role: str) -> tuple[ReturnRole, ...]:
    if not wanted.home or role == wanted.home:
        return ()
    return (ReturnRole(role=wanted.home, lent=role, reason=f"it has {role_name(role)} by then"),)


def _gate(gate: Gate, version: Version | None = None) -> RunGate:
    return RunGate(gate=gate.name, against=gate.against, version=version, reason=f"{gate.name} tests must pass")


def _move(
    alias: AliasName,
    version: Version | None,
    seen: Alias | None,
    *,
    approve: bool,
    build: BuildId | None,
    ramp: tuple[str, ...] = (),
) -> list[Step]:
    reason = f"build {build}" if build else "as asked"
    steps: list[Step] = []
    if approve:
        steps.append(AskApproval(alias=alias, version=version, reason="approve = true"))
    if seen is None:
        steps.append(CreateAlias(alias=alias, version=version, reason="there is none yet"))
    elif ramp and seen.version.published:
        goes_on = seen.routing.canary is not None and seen.routing.canary.version == version
        steps.append(
            ShiftTraffic(alias=alias, version=version, was=seen.version, reason=reason, ramp=ramp, goes_on=goes_on)
        )
    else:
        steps.append(PointAlias(alias=alias, version=version, was=seen.version, reason=reason))
    return steps


def _version(version: Version | None) -> str:
    return f"version {version}" if version else "the new version"


def _show(value: object) -> str:
    if isinstance(value, Artifact):
        return f"{value.sha256.short}… ({value.path or value.image})"
    if isinstance(value, Expects):
        facts = {name: getattr(value, name) for name in value.__struct_fields__}
        return ", ".join(f"{name} {fact}" for name, fact in facts.items() if fact) or "nothing there"
    return str(value) if value is not None else "none"
