"""Looking at the world before a release: what is there, what the ledger knows of it, and what a name means.

As few reads as will do: GetFunction and GetAlias where the ledger knows the rest. In a run with `--supersede` an open
rollout of the alias is ended first: what is seen is the alias that this release will move.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from pointsman import branch_roles, branches, furnishing, layers, owners, rolling
from pointsman.config import CloudFormation, Direct, Existing
from pointsman.deployments import deployments, previous
from pointsman.errors import (
    Drift,
    FunctionFailed,
    LostRace,
    NotFound,
    NotMade,
    UnknownTarget,
)
from pointsman.execute import in_progress, wait_until_settled
from pointsman.ledger import taken
from pointsman.model import (
    Alias,
    AliasName,
    Artifact,
    Bits,
    BuildId,
    Configuration,
    FunctionArn,
    FunctionName,
    Version,
)
from pointsman.plan import (
    Gate,
    Seen,
    Wanted,
    bits,
)
from pointsman.takeover import taken_over
from pointsman.world import Session, unknown


def same_build(session: Session, wanted: Wanted, seen: Seen) -> None:
    """The id must not name other bits already: in the ledger, or on the alias in front of us."""
    if seen.function is None:
        return
    known = session.ledger.build(seen.function.arn.unqualified, wanted.build)
    if known and known.sha256 != wanted.artifact.sha256:
        raise taken(wanted.build, known.sha256, wanted.artifact.sha256, where="the ledger")
    if known and known.version:  # the alias may be described as it, and serve another: moved by hand
        return
    alias, serving = seen.alias, seen.serving
    if alias is None or serving is None or _build_of(alias) != wanted.build:
        return
    if serving.sha256 != wanted.artifact.sha256 and not _moved_by_hand(session, wanted, alias, seen.function):
        raise taken(wanted.build, serving.sha256, wanted.artifact.sha256, where=f"alias {alias.name}")


def _moved_by_hand(session: Session, wanted: Wanted, alias: Alias, function: Configuration) -> bool:
    """Whether another version is the build that the alias is described as: who moves an alias elsewhere leaves its
    description as it was, and that counts only for the version it was written for."""
    named = [each for each in session.gateway.versions(function.arn.name) if each.description == wanted.build]
    return bool(named) and all(
        each.version != alias.version and each.sha256 == wanted.artifact.sha256 for each in named
    )


def hex_of(made: Artifact) -> str:
    """The first digits of a package's digest, as build ids made from it end."""
    return made.sha256.hex[:8]


def search_descriptions(session: Session, wanted: Wanted, function: Configuration) -> None:
    """An id this ledger never heard of may be another machine's: the versions' descriptions tell."""
    if session.ledger.build(function.arn.unqualified, wanted.build) or wanted.build.endswith(hex_of(wanted.artifact)):
        return  # known here; or named after these very bits
    for version in session.gateway.versions(function.arn.name):
        if version.description == wanted.build and version.sha256 != wanted.artifact.sha256:
            raise taken(wanted.build, version.sha256, wanted.artifact.sha256, where=f"version {version.version}")


def observe(
    session: Session, made: Artifact, build: BuildId, *, gates: tuple[Gate, ...], found: owners.Found | None = None
) -> tuple[Wanted, Seen]:
    """Look at the world: GetFunction and GetAlias where the ledger knows the rest, more where it does not.

    `found`: what a promotion brings its package to, which its owner is not asked to change.
    """
    provision, carried = session.function.provision, found is not None
    found = found or owners.find(session, made, build)
    session.check_account(found.function.arn if found.function else None)
    function = _usable(session, found.function) if found.function else _missing(session, found, made)
    name = function.arn.name if function else found.name
    if function and found.template and found.stack == "same":
        owners.remember(session, found.template, function.arn)
    alias_name = session.environment.alias
    alias = session.gateway.alias(function.arn.name, alias_name) if function else None
    if function and alias:
        alias = rolling.clear_way(session, function.arn.unqualified, alias, None)
    session.arn, session.alias = (function.arn.unqualified if function else None), alias
    if not carried and not (found.terraform and found.terraform.brings):  # it brings this very zip, as its plan says
        made = msgspec.structs.replace(taken_over(session, made, function), layers=made.layers)
    looked = layers.look(session, made, function)
    chosen = branch_roles.choose(session, function)
    session.role = chosen.role
    wanted = Wanted(
        function=session.function.name,
        name=name,
        environment=session.environment.name,
        alias=alias_name,
        build=build,
        artifact=made,
        gates=gates,
        approve=session.environment.approve,
        settings=_settings(session, looked.refs),
        dropped=_dropped(session),
        stack=provision.stack if isinstance(provision, CloudFormation) else None,
        template=found.template,
        branch=session.environment.branch,
        stack_brings_code=found.brings_code,
        stack_makes_alias=found.makes_alias,
        home=chosen.home,
        role=chosen.role,
        layers=looked.steps,
        ramp=ramp(session),
    )
    seen = Seen(
        function=function,
        alias=alias,
        serving=_serving(session, alias) if alias else None,
        published=found.published
        or (_published(session, bits(wanted, function), function, alias) if function else None),
        stack=found.stack,
        terraform=found.terraform,
        furnishing=furnishing.look(session, function.arn.name if function else None, alias),
        stack_changes=found.changes,
        stack_losses=found.losses,
        rolling=_rolling(session, wanted, function, alias) if function and alias else None,
    )
    if function and alias and seen.rolling is None and session.run:
        rolling.must_be_free(session, function.arn.unqualified, alias)
    served = function is not None and seen.serving == bits(wanted, function)
    if not served and (seen.published is None or any(gate.against == "latest" for gate in gates)):
        wanted = msgspec.structs.replace(wanted, clone=branch_roles.step(session, chosen))
    return wanted, seen


def _rolling(session: Session, wanted: Wanted, function: Configuration, alias: Alias) -> Version | None:
    """The version that an interrupted rollout of ours is trying, where it is what is wanted again."""
    arn = function.arn.unqualified
    version = rolling.trying(session, arn, alias)
    if version is None:
        return None
    build = session.ledger.build(arn, wanted.build)
    same = session.ledger.bits(arn, version) == bits(wanted, function)
    return version if same or (build and build.version == version) else None


def ramp(session: Session) -> tuple[str, ...]:
    """How the environment's alias is moved step by step, in words; none where it moves at once."""
    declared = rolling.declared(session)
    if declared is None:
        return ()
    steps = [f"{share:g} %" for share, _bake in declared.ramp]
    compared = [
        f"errors (to {declared.errors:g} more is tolerated)" if declared.errors else "errors",
        *([f"calls slower than {declared.slow}"] if declared.slow else ()),
        *(["throttles"] if declared.throttles else ()),
        *(each.name for each in declared.metrics),
    ]
    watched = [*declared.alarms, *(each.url or each.run or "" for each in declared.checks)]
    bake = sorted({seconds for _share, seconds in declared.ramp})
    return (
        ", ".join([*steps, "then all" if steps else "all at once"]),
        *([f"each step watched for {bake[0]:g} s at least"] if len(bake) == 1 else ()),
        f"compared with the old version: {', '.join(compared)}",
        *([f"rolled back by: {', '.join(watched)}"] if watched else ()),
        *(
            [f"at most {declared.budget} more failed calls: the weight grows with the evidence"]
            if declared.budget
            else ()
        ),
    )


def _missing(session: Session, found: owners.Found, made: Artifact) -> Configuration | None:
    """What to do without a function: None where this deploy makes it; NotFound where it ought to be there."""
    provision, world = session.function.provision, session.world
    if isinstance(provision, Existing):
        if world.staged and session.run:
            from pointsman.provision import rehearsal

            return rehearsal.stand_in(
                session.gateway,
                session.function,
                name=FunctionName(provision.name),
                account=session.gateway.caller_account(),
                say=session.say,
                clock=world.clock,
                image=made.image,
            )
        raise NotFound(
            f"there is no function {found.name} in {session.wire.region}",
            where=f"function.{session.function.name}",
            next="`pointsman --local deploy` makes a stand-in for it; a plan, which changes nothing, does not."
            if world.staged
            else "Check its name, the region and the credentials; or let `provision` create it.",
        )
    if isinstance(provision, CloudFormation) and found.stack == "same":
        raise NotFound(
            f"stack {provision.stack} has function {found.name}, but Lambda does not: it was deleted beside the stack",
            next="Delete the stack and deploy again, or mend it with `aws cloudformation`.",
        )
    return None


def _usable(session: Session, function: Configuration) -> Configuration:
    """The function once it is no longer busy. Raises FunctionFailed where it was never made whole."""
    if in_progress(function):
        session.say(f"{function.arn.name} is busy: {function.state}, update {function.update}")
        world, name = session.world, function.arn.name
        wait_s = world.options.wait_s
        function = wait_until_settled(session.gateway, world.clock, name, wait_s=wait_s, say=session.say)
    if function.state == "Failed":
        raise FunctionFailed(
            f"{function.arn.name} is Failed: {function.state_reason or 'AWS gives no reason'}",
            next="Its creation failed; it must be deleted and created again.",
        )
    return function


def _serving(session: Session, alias: Alias) -> Bits | None:
    known = session.ledger.bits(alias.arn.unqualified, alias.version)
    if known or not alias.version.published:
        return known
    found = session.gateway.function(alias.arn.name, alias.version)
    if found and session.run:
        session.ledger.saw(session.run, alias.arn.unqualified, alias.version, found.bits)
    return found.bits if found else None


def _published(session: Session, bits: Bits, function: Configuration, alias: Alias | None) -> Version | None:
    """A version of exactly these bits that the ledger knows and Lambda still has."""
    version = session.ledger.version_of(function.arn.unqualified, bits)
    if version is None or (alias and alias.version == version):
        return version
    found = session.gateway.function(function.arn.name, version)
    return version if found and found.bits == bits else None


def _settings(session: Session, layers: tuple[str, ...]) -> dict[str, Any] | None:
    provision = session.function.provision
    if not isinstance(provision, Direct):
        return None
    from pointsman.provision import direct

    return direct.settings(session.function, provision, layers)


def declared_before(session: Session) -> set[str]:
    """The environment variables that deploys of this function have declared."""
    known = session.ledger.remembered("declared", session.provision_key)
    return set((known or {}).get("variables", ()))


def _dropped(session: Session) -> tuple[str, ...]:
    """Environment variables an earlier deploy declared and the file does not any more: those are ours to remove."""
    provision = session.function.provision
    if not isinstance(provision, Direct):
        return ()
    return tuple(sorted(declared_before(session) - {*(provision.environment or {})}))


def previous_deployment(session: Session, arn: FunctionArn, alias: Alias) -> tuple[Version, BuildId | None]:
    name = alias.name
    moves = session.ledger.moves(arn, name)
    again = f"Name it: `pointsman rollback {name} --to BUILD|VERSION`; `pointsman versions` lists them."
    try:
        found = previous(moves, alias.version)
    except ValueError as error:
        raise Drift(
            f"{name} was moved outside Pointsman: {error}",
            where=f"looking for {name}'s previous deployment",
            next=again,
        ) from error
    if found is None:
        known = "this is its first deployment" if deployments(moves) else "the ledger knows no deployment of it"
        raise UnknownTarget(f"there is nothing to roll {name} back to: {known}", next=again)
    return found.version, found.build


def arn_of(session: Session, name: FunctionName) -> FunctionArn:
    function = session.gateway.function(name)
    if function is None:
        session.check_account(None)  # with the wrong credentials it is no wonder that it is not there
        raise NotMade(f"there is no function {name} in {session.wire.region}", next="`pointsman deploy` comes first.")
    return function.arn.unqualified


def described(version: Configuration) -> BuildId | None:
    try:
        return BuildId(version.description)
    except ValueError:
        return None


def resolve(session: Session, arn: FunctionArn, text: str) -> tuple[Version, BuildId | None]:
    """What BUILD|VERSION|ALIAS means: a build of the ledger, an alias of the file, a description, a version, an alias.

    `build:`, `version:`, `alias:`, `branch:`, `pr:` in front say which. Raises UnknownTarget with the nearest builds.
    """
    kind, _, rest = text.partition(":") if re.match(r"(build|version|alias):", text) else ("", "", text)
    if text.startswith("branch:") or branches.pull_request(text):
        return _of_alias(session, arn, session.world.of_branch(text.removeprefix("branch:")).alias)
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
            return descriptions[rest].version, described(descriptions[rest])
    if kind in ("", "alias") and (branch := session.world.branch_called(rest)):
        return _of_alias(session, arn, branches.alias_name(branch))
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
    return of_alias(session, arn, found)


def of_alias(session: Session, arn: FunctionArn, found: Alias) -> tuple[Version, BuildId | None]:
    """The version it serves alone, and from which build. Raises UnknownTarget, or LostRace where it is half-way."""
    name = found.name
    if not found.version.published:
        raise UnknownTarget(f"{name} points at {found.version}, which is not published", next="Deploy first.")
    if found.routing.canary:
        raise LostRace(
            f"{name} is half-way through a shift: {found.routing}", next="End the shift first, or say a version."
        )
    newest = next((move for move in reversed(session.ledger.moves(arn, name)) if move.version == found.version), None)
    if newest and newest.build:
        return found.version, newest.build
    described_as = _build_of(found)
    known = session.ledger.build(arn, described_as) if described_as else None
    # Moved by hand, it is still described as what it served before.
    return found.version, None if known and known.version not in (None, found.version) else described_as


def _build_of(alias: Alias) -> BuildId | None:
    """As its description tells."""
    return branches.told(alias.description, alias.name).build
