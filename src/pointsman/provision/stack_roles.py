"""What a stack's update would lose, or change of roles that are live: of a change set, or guessed from two templates.

Pure. Terraform's rule (`terraform_plan.role_changes`), in the same words. What cannot be told is taken for a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pointsman.aws.stacks import Change, Detail
from pointsman.model import WITH_IT
from pointsman.provision import template as templates
from pointsman.provision.template import Json

_FUNCTION, _ROLE, _MANAGED = "AWS::Lambda::Function", "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"
_POLICIES = {"AWS::IAM::Policy": "Roles", "AWS::IAM::RolePolicy": "RoleName", _MANAGED: "Roles"}
_CUSTOM = ("Custom::", "AWS::CloudFormation::CustomResource")
_HARMLESS = {"Tags", "Description"}
_BESIDE = {"Metadata", "Tags", "CreationPolicy", "UpdatePolicy", "DeletionPolicy", "UpdateReplacePolicy"}
# https://github.com/aws/serverless-application-model/blob/develop/samtranslator/model/sam_resources.py
_OF_SAMS_ROLE = (
    *("Policies", "PermissionsBoundary", "AssumeRolePolicyDocument", "RolePath"),
    *("DeadLetterQueue", "EventInvokeConfig"),
)
_IF_ANY = ("Tracing", "VpcConfig")  # each has a managed policy, whatever it says
# What of a polled event is no matter of the role's.
_HOW_OFTEN = {
    *("BatchSize", "MaximumBatchingWindowInSeconds", "Enabled", "FilterCriteria", "FunctionResponseTypes"),
    *("StartingPosition", "ParallelizationFactor", "BisectBatchOnFunctionError", "MaximumRetryAttempts"),
    *("MaximumRecordAgeInSeconds", "TumblingWindowInSeconds", "ScalingConfig"),
}
_POLLED = {"SQS", "Kinesis", "DynamoDB", "MSK", "MQ", "SelfManagedKafka", "DocumentDB"}


def lost(changes: Iterable[Change]) -> tuple[str, ...]:
    """Which functions' versions and aliases would be gone, a line each."""
    gone = (each for each in changes if each.type == _FUNCTION and (each.action == "Remove" or _replaced(each)))
    return tuple(f"{line(each)}, {WITH_IT}" for each in gone)


def touched(changes: Iterable[Change]) -> bool:
    """Whether it is worth asking which roles are in use."""
    return any(
        each.type in (_ROLE, *_POLICIES) or (each.type == _FUNCTION and "Role" in _names(each)) for each in changes
    )


def role_changes(
    changes: Sequence[Change],
    served: Mapping[str, Mapping[str, str]],
    documents: Sequence[Json],
    physical: Mapping[str, str],
) -> tuple[str, ...]:
    """What would change of the roles in use, a line each.

    `served`: of each function by its name, by a role's ARN, whose it is to read. `documents`: the template as it is and
    as it is to be, `physical` what its resources are called.
    """
    roles: dict[str, str] = {}
    for each in served.values():
        for arn, whose in each.items():
            name = arn.rpartition("/")[2]
            roles[name] = f"{roles[name]}, {whose}" if name in roles else whose
    if not roles:
        return ()
    everybody = ", ".join(dict.fromkeys(roles.values()))
    # A custom resource may answer with another name or ARN though it stays.
    stay = {
        each.logical_id
        for each in changes
        if each.action == "Modify" and not _replaced(each) and not each.type.startswith(_CUSTOM)
    }
    found = []
    for change in changes:
        if change.kept or _harmless(change, stay):
            continue
        match change.type:
            case "AWS::Lambda::Function" if change.action == "Modify" and "Role" in _names(change, stay):
                if theirs := served.get(change.physical_id):
                    whose = ", ".join(dict.fromkeys(theirs.values()))
                    found.append(f"{change.logical_id} would run with another role than {whose}")
            case "AWS::IAM::Role" if change.physical_id in roles:
                found.append(f"{_told(change)}, the role of {roles[change.physical_id]}")
            case kind if kind in _POLICIES:
                names = list(_holders(change.logical_id, documents, physical))
                touching = [roles[name] for name in names if name in roles]
                if touching:
                    found.append(f"{_told(change)}, a policy of the role of {', '.join(dict.fromkeys(touching))}")
                elif None in names:
                    found.append(f"{_told(change)}, perhaps a policy of the role of {everybody}")
            case _:
                pass
    return tuple(found)


def line(change: Change) -> str:
    replaced = {"True": ", replacing it", "Conditional": ", perhaps replacing it"}.get(change.replacement, "")
    return f"{change.action.lower()} {change.type} {change.logical_id}{replaced}"


def _told(change: Change) -> str:
    names = ", ".join(_names(change)) if change.action == "Modify" else ""
    return line(change) + (f": {names}" if names else "")


def _replaced(change: Change) -> bool:
    return change.replacement in ("True", "Conditional")


def _names(change: Change, stay: Iterable[str] = ()) -> tuple[str, ...]:
    """Of the properties that change. `stay`: resources whose names and ARNs stay what they are."""
    stay = frozenset(stay)
    return tuple(dict.fromkeys(each.name.split(".")[0] for each in change.details if not _same(each, stay)))


def _same(detail: Detail, stay: frozenset[str]) -> bool:
    """Whether all that "changes" is the name of something that changes and keeps it: change sets list that, too."""
    origin, _, attribute = detail.cause.partition(".")
    return detail.dynamic and origin in stay and attribute in ("", "Arn")


def _harmless(change: Change, stay: Iterable[str]) -> bool:
    if change.action != "Modify" or _replaced(change):
        return False
    if not change.details:
        return bool(change.scope) and {*change.scope} <= _BESIDE
    return {*_names(change, stay)} <= _HARMLESS | _BESIDE


def _holders(logical: str, documents: Sequence[Json], physical: Mapping[str, str]) -> Iterator[str | None]:
    """The names of the roles that a policy is of; None for each that only CloudFormation can tell."""
    seen = False
    for document in documents:
        there = templates.resources(document)
        body = there.get(logical)
        if body is None or body["Type"] not in _POLICIES:
            continue
        seen = True
        said = templates.properties(body).get(_POLICIES[body["Type"]])
        for each in said if isinstance(said, list) else [] if said is None else [said]:
            yield from _named(each, there, physical)
        called = str(templates.properties(body).get("ManagedPolicyName") or "") if body["Type"] == _MANAGED else ""
        for name, other in there.items():
            given = templates.properties(other).get("ManagedPolicyArns")
            named = called and f"/{called}" in str(given)
            if other["Type"] == _ROLE and (named or refers(given, {logical})):
                yield physical.get(name, "")
            if other["Type"] == "AWS::CloudFormation::Stack" and refers(templates.properties(other), {logical}):
                yield None
            if other["Type"] == templates.SAM_FUNCTION and refers(templates.properties(other), {logical}):
                yield physical.get(f"{name}Role", "")
    if not seen:
        yield None


def _named(value: Any, there: Mapping[str, Json], physical: Mapping[str, str]) -> Iterator[str | None]:
    match value:
        case str():
            yield value
        case {"Ref": "AWS::NoValue"}:
            return
        case {"Ref": str(name)} | {"Fn::Sub": str(name)} if (plain := name.strip("${}")) in physical or plain in there:
            yield physical.get(plain, "")  # "": it is made by this very update, and so is nobody's yet
        case _:
            yield None


def refers(value: Any, names: Iterable[str]) -> bool:
    """Whether it speaks of one of these resources or parameters."""
    names = frozenset(names)
    match value:
        case {"Ref": str(name)}:
            return name in names
        case {"Fn::GetAtt": [str(name), *_]}:
            return name in names
        case {"Fn::GetAtt": str(text)}:
            return text.partition(".")[0] in names
        case {"Fn::Sub": said}:
            text = said if isinstance(said, str) else str(said[0]) if isinstance(said, list) and said else ""
            inner = said[1] if isinstance(said, list) and len(said) > 1 else None
            return bool({*re.findall(r"\$\{([A-Za-z0-9]+)", text)} & names) or refers(inner, names)
        case dict():
            return any(refers(each, names) for each in value.values())
        case list():
            return any(refers(each, names) for each in value)
        case _:
            return False


# Before there is a change set


def expected(before: Json, after: Json, parameters: Iterable[str], physical: Mapping[str, str]) -> tuple[Change, ...]:
    """What a change set would list, of what is looked at here. `parameters`: the names of those that change.

    SAM makes a role, FUNCTIONRole, for each of its functions that has none.
    """
    given = frozenset(parameters)
    old, new = templates.resources(before), templates.resources(after)
    found = []
    for name, body in {**old, **new}.items():
        kind = body["Type"]
        plain = _FUNCTION if kind == templates.SAM_FUNCTION else kind
        if plain not in (_FUNCTION, _ROLE, *_POLICIES):
            continue
        if name not in new:
            kept = body.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate")
            found.append(_change("Remove", plain, name, physical, kept=kept))
            if kind == templates.SAM_FUNCTION and templates.setting(before, name, "Role") is None:
                found.append(_change("Remove", _ROLE, f"{name}Role", physical))
        elif name not in old:
            found.append(_change("Add", plain, name, physical))
        elif (
            differing := _of_function(before, after, name, given)
            if kind == templates.SAM_FUNCTION
            else _differing(old[name], new[name], given)
        ):
            replaced = plain == _FUNCTION and bool(templates.REPLACING & {*differing})
            found.append(_change("Modify", plain, name, physical, differing, replaced=replaced))
        if kind == templates.SAM_FUNCTION and name in old and name in new and old[name]["Type"] == kind:
            was, now = (templates.setting(each, name, "Role") for each in (before, after))
            if was is None and now is not None:
                found.append(_change("Remove", _ROLE, f"{name}Role", physical))
            elif was is None and (names := _of_sams_role(before, after, name, given)):
                found.append(_change("Modify", _ROLE, f"{name}Role", physical, names))
    return tuple(found)


def _change(
    action: str,
    kind: str,
    name: str,
    physical: Mapping[str, str],
    names: Iterable[str] = (),
    *,
    replaced: bool = False,
    kept: bool = False,
) -> Change:
    return Change(
        action=action,
        logical_id=name,
        type=kind,
        physical_id=physical.get(name, ""),
        replacement="True" if replaced else "",
        details=tuple(Detail(name=each) for each in names),
        kept=kept,
    )


def _of_sams_role(before: Json, after: Json, name: str, given: frozenset[str]) -> list[str]:
    found = []
    for key in _OF_SAMS_ROLE:
        was, now = templates.setting(before, name, key), templates.setting(after, name, key)
        if was != now or refers(now, given):
            found.append(key)
    for key in _IF_ANY:
        was, now = (templates.setting(each, name, key) for each in (before, after))
        if (was in (None, "Disabled")) != (now in (None, "Disabled")) or refers(now, given):
            found.append(key)
    was, now = (_polled(templates.setting(each, name, "Events")) for each in (before, after))
    return [*found, *(["Events"] if was != now else [])]


def _polled(events: Any) -> Any:
    return {
        key: [each["Type"], *(one for one in _table(each.get("Properties")).items() if one[0] not in _HOW_OFTEN)]
        for key, each in _table(events).items()
        if _table(each).get("Type") in _POLLED
    }


def _table(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _of_function(before: Json, after: Json, name: str, given: frozenset[str]) -> list[str]:
    """Of a function of SAM's, whose role may stand in Globals."""
    found = _differing(templates.resources(before)[name], templates.resources(after)[name], given)
    was, now = (templates.setting(each, name, "Role") for each in (before, after))
    role = ["Role"] if was != now or refers(now, given) else []
    return [each for each in found if each != "Role"] + role


def _differing(old: Json, new: Json, given: frozenset[str]) -> list[str]:
    """The properties of one resource that differ, or that speak of a parameter that does."""
    was, now = templates.properties(old), templates.properties(new)
    names = [key for key in {**was, **now} if was.get(key) != now.get(key) or refers(now.get(key), given)]
    return names + (["Type"] if old["Type"] != new["Type"] else [])


__all__ = ["expected", "line", "lost", "refers", "role_changes", "touched"]
