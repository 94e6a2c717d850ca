"""A release of several functions that cannot be finished: what has to be put back, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pointsman.deployments import deployments, previous
from pointsman.model import Alias, AliasName, BuildId, FunctionName, Move, Routing, Value, Version
from pointsman.plan import Expects, Plan, RemoveAlias, RestoreAlias


class Shift(Value, frozen=True, kw_only=True):
    """One function's part of a release: to which version its alias moves, and what it was before (None: not there).

    `function`: as it is called beside the others, which says the region where there are several.
    """

    function: str
    name: FunctionName
    alias: AliasName
    version: Version
    before: Routing | None
    revision: str = ""  # of the alias then
    description: str = ""
    build: BuildId | None = None
    furnished: bool = False  # a new alias that gets permissions, a URL, event sources: those would be left without it

    @property
    def after(self) -> Routing:
        return Routing(version=self.version)

    def may_go_on(self, alias: Alias | None) -> bool:
        """Whether the alias was moved as decided, or nobody touched it since. Who put it back meant what they did."""
        if alias is None or self.before is None:
            return (alias.routing if alias else None) in (self.before, self.after)
        return alias.routing == self.after or (alias.routing == self.before and self.revision in ("", alias.revision))


class Left(Value, frozen=True, kw_only=True):
    """An alias that is not put back: somebody else moved or removed it since, or what hangs on it would be left."""

    function: str
    alias: AliasName
    why: str


def restoration(
    shifts: Sequence[Shift],
    present: Mapping[str, Alias | None],
    *,
    environment: str,
    why: str,
    unsure: Collection[str] = (),
) -> tuple[Plan | Left, ...]:
    """The last one moved goes back first. What is where it was needs nothing, and is left out.

    `present` has each function's alias as it is now. A move of the `unsure` may still be on its way: where they are as
    before they are put there once more, under a new revision id, which a late call no longer fits.
    """
    found = (
        _back(shift, present[shift.function], environment, why, sure=shift.function not in unsure)
        for shift in reversed(shifts)
    )
    return tuple(each for each in found if each is not None)


def _back(shift: Shift, alias: Alias | None, environment: str, why: str, *, sure: bool) -> Plan | Left | None:
    routing = alias.routing if alias else None
    if routing == shift.before and (sure or alias is None):
        return None
    if alias is None:
        return Left(function=shift.function, alias=shift.alias, why="it is gone")
    if routing not in (shift.after, shift.before):
        return Left(function=shift.function, alias=shift.alias, why=f"somebody else moved it on, to {routing}")
    step: RestoreAlias | RemoveAlias
    if shift.before is None and shift.furnished:
        return Left(function=shift.function, alias=shift.alias, why="it is new, and a URL or the like may hang on it")
    if shift.before is None:
        step = RemoveAlias(alias=shift.alias, version=shift.version, reason=why)
    else:
        step = RestoreAlias(
            alias=shift.alias,
            now=alias.version,
            routing=shift.before,
            description=shift.description,
            reason=why,
        )
    return Plan(
        kind="restore",
        function=shift.function,
        environment=environment,
        alias=shift.alias,
        name=shift.name,
        build=BuildId(shift.description) if BuildId.pattern.fullmatch(shift.description) else None,
        version=shift.before.version if shift.before else None,
        artifact=None,
        steps=(step,),
        expects=Expects(alias_revision=alias.revision, alias_routing=str(alias.routing)),
    )


def last_release(moves: Mapping[str, Iterable[Move]]) -> tuple[dict[str, Move], dict[str, Move]]:
    """What moved together last and still stands: (the functions that can go back, those it was the first for).

    `moves` has each function's moves of one alias, oldest first. Raises nothing: no move at all is two empty dicts.
    """
    newest = {name: standing[-1] for name, each in moves.items() if (standing := deployments(each))}
    if not newest:
        return {}, {}
    last = max(newest.values(), key=lambda move: move.at)
    together = {name: move for name, move in newest.items() if move is last or move.release == last.release != ""}
    first = {name for name, move in together.items() if previous(tuple(moves[name]), move.version) is None}
    back = {name: move for name, move in together.items() if name not in first}
    return back, {name: move for name, move in together.items() if name in first}


__all__ = ["Left", "Shift", "last_release", "restoration"]
