"""How the functions of an account stand: what each alias serves, from which build and commit, and where that is drift.

Pure: a fleet, and what the ledger knows, in; rows out. `overview` asks for both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pointsman.branches import told
from pointsman.fleet import Fleet, Member
from pointsman.model import Alias, AliasName, Build, Configuration, FunctionName, Move, Value, Version
from pointsman.moments import epoch


class Known(Value, frozen=True, kw_only=True):
    """What the ledger says. By the function's ARN, and the alias: the newest move; the rollout, in a sentence.

    `builds`: by the function's ARN, the newest last. `runs`: which run moved the alias to where it is, and has not
    ended, in a sentence.
    """

    moves: Mapping[tuple[str, str], Move]
    builds: Mapping[str, tuple[Build, ...]]
    rollouts: Mapping[tuple[str, str], str]
    runs: Mapping[tuple[str, str], str] = {}


class Serving(Value, frozen=True, kw_only=True):
    """One alias. Times in epoch seconds: `published` is the version's, `since` that of the move which brought it there.

    `weight`: the share that `canary` gets. `drift`: how it differs from the ledger, "" where it does not, or where the
    ledger knows nothing of it; `moving`: it does, by a run that has not ended. `rollout`: what goes on, or was left
    half done. Both are sentences.
    """

    alias: AliasName
    version: Version
    canary: str = ""
    weight: float | None = None
    build: str = ""
    commit: str = ""
    branch: str = ""
    published: float | None = None
    since: float | None = None
    by: str = ""
    drift: str = ""
    moving: str = ""
    rollout: str = ""


class Standing(Value, frozen=True, kw_only=True):
    """One function. `versions`: how many are published; `newest` of them; `code_size` of all and `$LATEST`, in bytes.

    `gone`: aliases that the ledger knows and Lambda does not have any more, a sentence each.
    """

    function: FunctionName
    runtime: str
    versions: int
    newest: str
    newest_at: float | None
    latest_at: float | None
    code_size: int
    aliases: tuple[Serving, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def troubles(self) -> tuple[str, ...]:
        """What somebody should look at, a sentence each."""
        drifts = (f"{each.alias} was moved outside Pointsman: {each.drift}" for each in self.aliases if each.drift)
        moving = (f"{each.alias} is where a run left it: {each.moving}" for each in self.aliases if each.moving)
        return (*drifts, *moving, *(each.rollout for each in self.aliases if each.rollout), *self.gone)


def standings(fleet: Fleet, known: Known, environments: Sequence[str] = ()) -> tuple[Standing, ...]:
    """By name; each one's aliases in the order of `environments` (theirs), then by name."""
    order = {alias: index for index, alias in enumerate(environments)}
    moved: dict[str, set[str]] = defaultdict(set)
    for (function, alias), move in known.moves.items():
        if move.kind != "removed":
            moved[function].add(alias)
    return tuple(_standing(each, known, order, moved[str(each.arn)]) for each in fleet.members)


def lost(fleet: Fleet, known: Known) -> tuple[str, ...]:
    """Functions of that account and region that the ledger has moved aliases of, and that are not in the fleet."""
    there = {str(each.arn) for each in fleet.members}
    place = f":lambda:{fleet.region}:{fleet.account}:function:"
    moved = sorted({arn for (arn, _alias), move in known.moves.items() if place in arn and move.kind != "removed"})
    return tuple(arn.rpartition(":")[2] for arn in moved if arn not in there)


def _standing(member: Member, known: Known, order: Mapping[str, int], moved: set[str]) -> Standing:
    arn = str(member.arn)
    of_version = {each.version: each for each in known.builds.get(arn, ()) if each.version}
    versions = {each.version: each for each in (*member.versions, member.latest)}
    aliases = sorted(member.aliases, key=lambda each: (order.get(each.name, len(order)), each.name))
    there = {str(each.name) for each in aliases}
    newest = member.versions[-1] if member.versions else None
    return Standing(
        function=member.name,
        runtime=member.latest.settings.get("Runtime", "container image"),
        versions=len(member.versions),
        newest=str(newest.version) if newest else "",
        newest_at=epoch(newest.modified) if newest else None,
        latest_at=epoch(member.latest.modified),
        code_size=member.latest.code_size + sum(each.code_size for each in member.versions),
        aliases=tuple(
            _serving(
                each,
                versions.get(each.version),
                known.moves.get((arn, each.name)),
                of_version.get(each.version),
                rollout=known.rollouts.get((arn, each.name), ""),
                moving=known.runs.get((arn, each.name), ""),
            )
            for each in aliases
        ),
        gone=tuple(
            f"{alias} is gone; the ledger's last move of it was to version {known.moves[arn, alias].version}"
            for alias in sorted(moved - there)
        ),
    )


def _serving(
    alias: Alias, version: Configuration | None, last: Move | None, made: Build | None, *, rollout: str, moving: str
) -> Serving:
    drift, known = "", last
    if last and last.version != alias.version:
        known = None
        if not moving:
            drift = f"it serves version {alias.version}, and the ledger's last move was to version {last.version}"
    build = str(known.build) if known and known.build else str(made.id) if made else ""
    if not build and version and version.version.published:
        build = version.description
    canary = alias.routing.canary
    return Serving(
        alias=alias.name,
        version=alias.version,
        canary=str(canary.version) if canary else "",
        weight=float(canary.weight) if canary else None,
        build=build,
        commit=made.commit if made and made.commit else commit_in(build),
        branch=told(alias.description, alias.name).branch,
        published=epoch(version.modified) if version else None,
        since=known.at if known else None,
        by=known.by if known else "",
        drift=drift,
        moving=moving,
        rollout=rollout,
    )


def apart(builds: Mapping[str, str]) -> str:
    """What an environment's regions serve, {region: build}, where it is not one build; "" where it is, or not known."""
    if "" in builds.values() or len({*builds.values()}) < 2:
        return ""
    of: dict[str, list[str]] = defaultdict(list)
    for region, build in builds.items():
        of[build].append(region)
    return "; ".join(f"build {build} in {', '.join(regions)}" for build, regions in of.items())


def commit_in(build: str) -> str:
    """The commit that a build id is, or begins with ("3f9c2ab", "3f9c2ab-1d5e…"): without one it is that by default.

    Digits only are a number that somebody counts.
    """
    found = re.fullmatch(r"([0-9a-f]{7,40})(-[0-9a-f]+)?", build)
    return found[1] if found and not found[1].isdecimal() else ""


__all__ = ["Known", "Serving", "Standing", "apart", "commit_in", "lost", "standings"]
