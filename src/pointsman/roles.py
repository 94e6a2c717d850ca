"""Execution roles, decided: what a role comes to, who shares one, what changed, what a branch's clone is called.

All versions of a function run with the role it had when they were published, and a role's policies are looked up when
code runs: who edits a role for a branch edits it for PROD. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from pointsman.model import AliasName, FunctionArn, Role, Value, Version, role_name, to_json

Parts: TypeAlias = dict[str, str]
"""What a role is made of, in people's words ("inline policy tables") → the digest of what it says."""

TAG_FUNCTION, TAG_BRANCH = "pointsman:function", "pointsman:branch"
TAG_ORIGIN, TAG_PARTS = "pointsman:origin", "pointsman:parts"
_CLONE = re.compile(r".+-branch-[0-9a-f]{10}")


def parts(role: Role) -> Parts:
    """Equal for roles that allow the same, in whatever order their documents say it."""
    found = {"the trust policy": role.trust}
    found |= {f"inline policy {name}": said for name, said in role.inline.items()}
    found |= {f"attached policy {arn}": said for arn, said in role.attached.items()}
    if role.boundary:
        found["the permissions boundary"] = role.boundary
    return {name: _digest(said) for name, said in sorted(found.items())}


def digest(found: Parts) -> str:
    return hashlib.sha256(to_json(found)).hexdigest()


def _digest(said: Any) -> str:
    return hashlib.sha256(to_json(_canonical(said))).hexdigest()[:16]


def _canonical(said: Any) -> Any:
    """In a policy the order of a list means nothing, and one value is a list of one."""
    match said:
        case dict():
            return {key: _canonical(each) for key, each in said.items()}
        case [only]:
            return _canonical(only)
        case list() | tuple():
            return sorted((_canonical(each) for each in said), key=to_json)
        case _:
            return said


def changes(then: Parts, now: Parts) -> tuple[str, ...]:
    """ "inline policy tables changed", "attached policy … added": none where nothing differs."""
    lines = [f"{name} added" for name in now if name not in then]
    lines += [f"{name} removed" for name in then if name not in now]
    lines += [f"{name} changed" for name in now if name in then and now[name] != then[name]]
    return tuple(sorted(lines))


# Who runs with what


class Served(Value, frozen=True, kw_only=True):
    """A version that an alias serves (None: is about to, once it is published), and its role.

    `environment` is "" where the alias is a branch's. `then`: the role's parts at publication, None where unknown.
    """

    alias: AliasName
    environment: str
    version: Version | None
    role: str
    published: float = 0.0
    then: Parts | None = None

    def __str__(self) -> str:
        return f"{self.alias}'s version {self.version}" if self.version else f"{self.alias}'s new version"


class Finding(Value, frozen=True, kw_only=True):
    """shared: a branch and an environment run with one role. changed: a role is no longer what a version was published
    with. other: an alias is to move onto a version with another role. clone: onto one with a branch's role."""

    kind: Literal["shared", "changed", "other", "clone"]
    what: str
    next: str

    def __str__(self) -> str:
        return f"{self.what}. {self.next}"


def shared(served: Iterable[Served]) -> tuple[Finding, ...]:
    """A finding for each role that an environment's version shares with branches' versions."""
    everybody = tuple(served)
    found = []
    for role in sorted({each.role for each in everybody}):
        declared = [each for each in everybody if each.role == role and each.environment]
        branches = [each for each in everybody if each.role == role and not each.environment]
        if declared and branches:
            named = ", ".join(str(each) for each in branches[:3])
            more = f" and {len(branches) - 3} more" if len(branches) > 3 else ""
            found.append(
                Finding(
                    kind="shared",
                    what=f"{_listed(declared)} and {named}{more} share role {role_name(role)}: "
                    f"editing it for a branch changes {_and(each.alias for each in declared)} at once",
                    next='`[branches] role = "per-branch"` gives each branch a clone of its own.',
                )
            )
    return tuple(found)


def changed(served: Iterable[Served], now: Mapping[str, Parts]) -> tuple[Finding, ...]:
    """A finding for each environment's version whose role says something else than when it was published.

    `now`: role ARN → its parts as they are; roles that could not be looked at are left out.
    """
    found = []
    for each in served:
        if not each.environment or each.then is None or each.role not in now:
            continue
        lines = changes(each.then, now[each.role])
        if lines:
            when = datetime.fromtimestamp(each.published, UTC).strftime("%Y-%m-%d %H:%M")
            found.append(
                Finding(
                    kind="changed",
                    what=f"role {role_name(each.role)} changed since {each} was published ({when} UTC): "
                    f"{'; '.join(lines)}; {each.alias} runs with it already",
                    next=f"If that was meant for {each.alias}, `--allow` accepts it; "
                    "if it was meant for a branch, take it back.",
                )
            )
    return tuple(found)


def other(before: Served, version: Version | None, role: str) -> tuple[Finding, ...]:
    """An alias is about to move onto a version with another role than the one it serves has."""
    if not role or not before.role or role == before.role:
        return ()
    named = f"version {version}" if version else "the new version"
    return (
        Finding(
            kind="other",
            what=f"{named} runs with role {role_name(role)}, and {before} with {role_name(before.role)}",
            next="A weighted alias demands one role for both: this move can only be made at once.",
        ),
    )


def _listed(served: Iterable[Served]) -> str:
    return _and(str(each) for each in served)


def _and(words: Iterable[str]) -> str:
    *first, last = [str(word) for word in words]
    return f"{', '.join(first)} and {last}" if first else last


# Clones for branches


def clone_name(function: FunctionArn, branch: str) -> str:
    """The role of a branch's versions: readable, at most 64 characters, one for each branch of each function.

    IAM is global and takes no heed of case, so the digest covers account, region and the branch as it is written.
    """
    tail = hashlib.sha256(f"{function.unqualified}\n{branch}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", branch)
    head = f"{function.name[: max(24, 45 - len(readable))]}-{readable}"
    return f"{head[:46].strip('-')}-branch-{tail}"


def clone_arn(origin: str, function: FunctionArn, branch: str) -> str:
    """In the same account, under the same path as the role it is a clone of."""
    return f"{origin.rpartition('/')[0]}/{clone_name(function, branch)}"


def is_clone(role: str) -> bool:
    """Whether a role's name (or ARN) is one that `clone_name` makes."""
    return _CLONE.fullmatch(role_name(role)) is not None


def clone_tags(origin: Role, function: FunctionArn, branch: str) -> dict[str, str]:
    """The origin's own tags, and ours. Without `TAG_PARTS`: that is set last, when the clone is complete."""
    own = {key: value for key, value in origin.tags.items() if not key.startswith(("aws:", "pointsman:"))}
    marks = {TAG_FUNCTION: str(function.unqualified), TAG_BRANCH: _tag(branch), TAG_ORIGIN: origin.arn}
    return dict(list(own.items())[: 50 - 4]) | marks  # 50 tags are all that a role may have


def ours(role: Role, function: FunctionArn, branch: str) -> bool:
    """Whether we made this role for this branch: nothing else may be changed or deleted."""
    marks = {TAG_FUNCTION: str(function.unqualified), TAG_BRANCH: _tag(branch)}
    return is_clone(role.arn) and all(role.tags.get(key) == value for key, value in marks.items())


def _tag(text: str) -> str:
    """As a tag's value may be written: letters, digits, spaces and _ . : / = + - @, 256 at most."""
    return re.sub(r"[^\w .:/=+@-]", "_", text)[:256]


__all__ = [
    "Finding",
    "Parts",
    "Served",
    "changed",
    "changes",
    "clone_arn",
    "clone_name",
    "clone_tags",
    "digest",
    "is_clone",
    "other",
    "ours",
    "parts",
    "shared",
]
