"""What CloudTrail's traces tell of one function: which aliases moved when, by whom, and who published. Pure.

https://docs.aws.amazon.com/lambda/latest/dg/logging-using-cloudtrail.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pointsman.model import AliasName, FunctionArn, Move, Trace, Value, Version

CALLS = (
    *("CreateAlias20150331", "UpdateAlias20150331", "DeleteAlias20150331", "PublishVersion20150331"),
    *("UpdateFunctionCode20150331v2", "CreateFunction20150331", "DeleteFunction20150331"),
)
"""The names of the calls that matter here, as CloudTrail writes them."""
_DATE = re.compile(r"20\d{6}(v\d+)?$")


class Publication(Value, frozen=True, kw_only=True):
    version: Version
    at: float
    by: str


class Observed(Value, frozen=True, kw_only=True):
    """Oldest first. `moves` are those between versions: weights that were set meanwhile are left out."""

    moves: tuple[Move, ...] = ()
    published: tuple[Publication, ...] = ()


def observed(traces: Iterable[Trace], function: FunctionArn) -> Observed:
    """What these traces, in any order but for those of one second, tell of the function.

    A function that was deleted takes its past with it.
    """
    serving: dict[str, Version] = {}
    moves: list[Move] = []
    published: dict[Version, Publication] = {}
    for each in sorted(traces, key=lambda trace: trace.at):
        if each.refused or not _about(each, function):
            continue
        call = _DATE.sub("", each.call)
        match call:
            case "CreateAlias" | "UpdateAlias":
                name, version = _alias(each), _version(each.answered.get("functionVersion"), each.asked)
                if name and version and serving.get(name) != version:
                    was = serving.get(name)
                    serving[name] = version
                    moves.append(Move(alias=name, version=version, was=was, kind="observed", at=each.at, by=each.by))
            case "DeleteAlias":
                name = _alias(each)
                if name and (was := serving.pop(name, None)):
                    moves.append(Move(alias=name, version=was, was=was, kind="removed", at=each.at, by=each.by))
            case "DeleteFunction" if not each.asked.get("qualifier"):
                serving.clear()
                moves.clear()
                published.clear()
            case "PublishVersion" | "UpdateFunctionCode" | "CreateFunction":
                version = _version(each.answered.get("version"), {})
                # An unchanged function is answered with its last version: the first time is when it was published.
                if version and version.published and version not in published:
                    published[version] = Publication(version=version, at=each.at, by=each.by)
    return Observed(moves=tuple(moves), published=tuple(published.values()))


def _about(trace: Trace, function: FunctionArn) -> bool:
    """Callers name a function by its name, its ARN or a part of that, with or without a qualifier."""
    said = str(trace.asked.get("functionName") or "")
    if ":" not in said:
        return said == function.name
    parts = said.split(":")
    if "function" in parts:
        after = parts[parts.index("function") + 1 :]
        return after[:1] == [function.name]
    return parts[0] == function.name


def _alias(trace: Trace) -> AliasName | None:
    try:
        return AliasName(str(trace.asked.get("name") or trace.answered.get("name") or ""))
    except ValueError:
        return None


def _version(answered: object, asked: dict[str, object]) -> Version | None:
    try:
        return Version(str(answered or asked.get("functionVersion") or ""))
    except ValueError:
        return None


__all__ = ["CALLS", "Observed", "Publication", "observed"]
