"""What a git branch's alias is called, and how an alias tells whose it is. Pure.

A *branch* here is its name as git has it ("feature/x"), or `pr:123`: a pull request, which no branch can be called, as
git allows no colon in a name. The alias is a function of that text alone, so every machine finds the same one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from fnmatch import fnmatchcase

from pointsman.model import AliasName, BuildId, Value

_LONGEST = 64  # of what is made readable; a name that is legal as it stands may have all of Lambda's 128 characters
_PULL_REQUEST = re.compile(r"pr:([1-9][0-9]*)")
# What only we make. A branch that is called so itself is given a name of its own, or two could share an alias.
_OURS = re.compile(r"(?i:pr-[0-9]+)|.*--[0-9a-f]{10}")
_MOST_DESCRIBED = 256  # https://docs.aws.amazon.com/lambda/latest/api/API_CreateAlias.html


def alias_name(branch: str) -> AliasName:
    """ "feature-123" is itself, "pr:7" is pr-7; any other is made readable, and told from its likes by its digest.

    "feature/x" → "feature-x--0f3c2a91be": ten digits (40 bits) of the SHA-256 of the name in UTF-8.
    """
    if asked := _PULL_REQUEST.fullmatch(branch):
        return AliasName(f"pr-{asked[1]}")
    if AliasName.pattern.fullmatch(branch) and not _OURS.fullmatch(branch):
        return AliasName(branch)
    digest = hashlib.sha256(branch.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    letters = unicodedata.normalize("NFKD", branch).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^a-zA-Z0-9_]+", "-", letters)[: _LONGEST - len(digest) - 2].strip("-")
    return AliasName(f"{readable or 'branch'}--{digest}")


def pull_request(branch: str) -> str:
    """The number of the pull request, "" where it is a branch."""
    asked = _PULL_REQUEST.fullmatch(branch)
    return asked[1] if asked else ""


def titled(branch: str) -> str:
    return f"pull request {number}" if (number := pull_request(branch)) else f"branch {branch}"


class Told(Value, frozen=True, kw_only=True):
    """What an alias's description says. `branch` is "" where the alias is no branch's."""

    branch: str = ""
    build: BuildId | None = None


def description(build: BuildId | None, branch: str) -> str:
    """ "branch feature/x, build 101"; of an environment's alias the build id alone. git allows no space in a name."""
    if not branch:
        return build or ""
    tail = f", build {build}" if build else ""
    most = _MOST_DESCRIBED - len(tail)
    title = titled(branch).encode("utf-8", "replace").decode()  # what is no text, AWS would not take
    return f"{title if len(title) <= most else f'{title[: most - 1]}…'}{tail}"


_DESCRIBED = re.compile(r"(branch|pull request) (\S+?)(?:, build (\S+))?")


def told(text: str, alias: str) -> Told:
    """A description read back. It names a branch only where that branch's alias is this one, or its name was cut."""
    found = _DESCRIBED.fullmatch(text)
    if found is None:
        return Told(build=BuildId(text) if BuildId.pattern.fullmatch(text) else None)
    kind, name, build = found.groups()
    branch = f"pr:{name}" if kind == "pull request" else name
    cut = len(text) == _MOST_DESCRIBED and name.endswith("…")
    if not cut and alias_name(branch) != alias:
        branch = ""
    return Told(branch=branch, build=BuildId(build) if build and BuildId.pattern.fullmatch(build) else None)


def protected(branch: str, alias: str, protect: tuple[str, ...]) -> bool:
    """Whether `[branches] protect` names it, as a branch or as an alias; "release/*" names many."""
    # By the alias made of it, too: of a long branch the description has no more than the beginning.
    return any(fnmatchcase(branch, each) or fnmatchcase(alias, each) or alias_name(each) == alias for each in protect)


__all__ = ["Told", "alias_name", "description", "protected", "pull_request", "titled", "told"]
