"""What goes with a branch that is gone: its alias, all that hangs on it, the versions nobody else has use for. Pure.

Never an environment's alias, never a protected one, never one whose description does not say that it is a branch's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from pointsman.model import LATEST, Alias, AliasName, EventSource, FunctionArn, Value, Version


class DeleteUrl(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    url: str


class UnmapEventSource(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    uuid: str
    source: str


class Unprovision(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName


class DropEvents(Value, frozen=True, kw_only=True, tag_field="step"):
    """The alias's event-invoke configuration."""

    alias: AliasName


class DeleteAlias(Value, frozen=True, kw_only=True, tag_field="step"):
    """`revision` as it was seen: AWS's call has no condition, so the alias is read once more right before it."""

    alias: AliasName
    version: Version
    revision: str


class DeleteVersion(Value, frozen=True, kw_only=True, tag_field="step"):
    version: Version


class DeleteRole(Value, frozen=True, kw_only=True, tag_field="step"):
    """The clone that the branch's versions ran with."""

    role: str


Clear: TypeAlias = DeleteUrl | UnmapEventSource | Unprovision | DropEvents | DeleteAlias | DeleteVersion | DeleteRole


class Doomed(Value, frozen=True, kw_only=True):
    """A branch that is gone. `alias` is None where only its versions are left, of a deletion that was interrupted.

    `used` are the versions its alias is known to have served, and those published for it that no alias ever served.
    """

    branch: str
    name: AliasName
    alias: Alias | None
    used: frozenset[Version]
    role: str = ""  # the name of the branch's own, where it has one


class Standing(Value, frozen=True, kw_only=True):
    """The function as it stands. `served`: what surviving aliases served before, as the ledger tells.

    `untold` are environments' aliases whose history the ledger does not have. The rest is by qualifier.
    """

    versions: frozenset[Version]
    aliases: tuple[Alias, ...]
    served: Mapping[AliasName, frozenset[Version]]
    untold: tuple[AliasName, ...]
    urls: Mapping[str, str]
    sources: Mapping[str, tuple[EventSource, ...]]
    events: frozenset[str]
    provisioned: frozenset[str]
    permitted: frozenset[str]  # versions with a resource policy of their own
    worn: Mapping[Version, str] = {}  # the role (its name) of every version, `$LATEST`'s too


class Clearing(Value, frozen=True, kw_only=True):
    """What goes with one branch, in order. `kept` says of each version that stays why."""

    function: str
    arn: FunctionArn
    branch: str
    alias: AliasName
    steps: tuple[Clear, ...]
    kept: tuple[str, ...] = ()


def clear(function: str, arn: FunctionArn, doomed: tuple[Doomed, ...], standing: Standing) -> tuple[Clearing, ...]:
    """Branch after branch: a version that two of them used goes with the last of them."""
    left = {each.name: each for each in standing.aliases}
    versions = set(standing.versions)
    made: list[Clearing] = []
    for each in doomed:
        left.pop(each.name, None)
        steps: list[Clear] = _of_alias(each.alias, standing) if each.alias else []
        kept: list[str] = []
        for version in sorted(each.used & versions):
            if why := _wanted(version, left.values(), standing, but={one.name for one in doomed}):
                kept.append(f"version {version} stays: {why}")
            else:
                steps.append(DeleteVersion(version=version))
                versions.discard(version)
        there = (version for version, role in standing.worn.items() if role == each.role)
        if each.role and (users := sorted(version for version in there if version in versions or version == LATEST)):
            named = ", ".join(users)
            kept.append(f"role {each.role} stays: {named} of {arn.name} {'have' if users[1:] else 'has'} it")
        elif each.role:
            steps.append(DeleteRole(role=each.role))
        made.append(
            Clearing(
                function=function, arn=arn, branch=each.branch, alias=each.name, steps=tuple(steps), kept=tuple(kept)
            )
        )
    return tuple(made)


def _of_alias(alias: Alias, standing: Standing) -> list[Clear]:
    """The alias last: what hangs on it can be found by it only."""
    name = alias.name
    steps: list[Clear] = []
    if name in standing.urls:
        steps.append(DeleteUrl(alias=name, url=standing.urls[name]))
    for each in standing.sources.get(name, ()):
        steps.append(UnmapEventSource(alias=name, uuid=each.uuid, source=each.source))
    if name in standing.provisioned:
        steps.append(Unprovision(alias=name))
    if name in standing.events:
        steps.append(DropEvents(alias=name))
    steps.append(DeleteAlias(alias=name, version=alias.version, revision=alias.revision))
    return steps


def _wanted(version: Version, aliases: Collection[Alias], standing: Standing, *, but: Collection[AliasName]) -> str:
    """Who has use for it, "" if nobody has. `but`: aliases that go."""
    for alias in aliases:
        canary = alias.routing.canary
        if version in (alias.version, canary.version if canary else None):
            return f"{alias.name} serves it"
    for name, served in standing.served.items():
        if name not in but and version in served:
            return f"{name} served it, and may be rolled back to it"
    if version in standing.provisioned:
        return "it has provisioned concurrency"
    if standing.sources.get(version):
        return f"{standing.sources[version][0].source} is mapped to it"
    if version in standing.events or version in standing.permitted:
        return "it is called by its number: it has a configuration or permissions of its own"
    if standing.untold:
        return f"what {' and '.join(standing.untold)} served before is not in this ledger, and it may be this version"
    return ""


def describe(step: Clear) -> str:
    match step:
        case DeleteUrl():
            return f"delete the function URL of {step.alias} ({step.url})"
        case UnmapEventSource():
            return f"unmap {step.source} from {step.alias}"
        case Unprovision():
            return f"end the provisioned concurrency of {step.alias}"
        case DropEvents():
            return f"delete the event-invoke configuration of {step.alias}"
        case DeleteAlias():
            return f"delete alias {step.alias} (it serves version {step.version})"
        case DeleteVersion():
            return f"delete version {step.version}, which nobody else uses"
        case DeleteRole():
            return f"delete role {step.role}, made for this branch"


__all__ = [
    "Clear",
    "Clearing",
    "DeleteAlias",
    "DeleteRole",
    "DeleteUrl",
    "DeleteVersion",
    "Doomed",
    "DropEvents",
    "Standing",
    "UnmapEventSource",
    "Unprovision",
    "clear",
    "describe",
]
