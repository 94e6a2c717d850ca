"""`status --all`: every function of every account and region that the file's environments are in, ours or not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from threading import Event

from msgspec.structs import replace

from pointsman import inventory, survey
from pointsman import places as located
from pointsman.config import Environment
from pointsman.errors import AccountMismatch, AwsError, PointsmanError
from pointsman.fleet import Fleet
from pointsman.ledger import Ledger
from pointsman.model import Move, Value
from pointsman.standing import Known, Standing, apart, lost, standings
from pointsman.world import Door, World


class Place(Value, frozen=True, kw_only=True):
    """One account and region. `environments` are the file's that are there; `at`: when it was read, in epoch seconds.

    `lost`: functions that the ledger knows and Lambda does not have any more. `error`: why it could not be read.
    """

    account: str
    region: str
    environments: tuple[str, ...]
    at: float = 0.0
    functions: tuple[Standing, ...] = ()
    lost: tuple[str, ...] = ()
    error: str = ""


class Overview(Value, frozen=True, kw_only=True):
    """`unfinished`: runs that neither ended nor were overtaken, the newest first, a sentence each.

    `apart`: environments whose regions do not serve the same build of a function, a sentence each.
    """

    places: tuple[Place, ...]
    unfinished: tuple[str, ...]
    apart: tuple[str, ...] = ()


def look(world: World, only: Sequence[str] = ()) -> Overview:
    """`only`: functions whose names match one of these globs. Places are read side by side, each within its budget.

    Raises the first error where no place can be read; one of several that cannot be is told in its place.
    """
    found = places_of(world)
    halt = Event()

    def read(place: tuple[Door, tuple[Environment, ...]]) -> Fleet | PointsmanError:
        door, environments = place
        beside = world.beside(say=world.say, echo=world.echo, halted=halt.is_set) if len(found) > 1 else world
        try:
            fleet = inventory.read(beside, door, wanted=lambda name: _matches(name, only))
            _check(fleet, environments)
        except PointsmanError as error:
            return error
        return fleet

    with ThreadPoolExecutor(len(found)) as pool:
        try:
            # One place is read in this thread, where Ctrl-C arrives by itself.
            fleets = list(pool.map(read, found)) if len(found) > 1 else [read(each) for each in found]
        except BaseException:
            halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    errors = [each for each in fleets if isinstance(each, PointsmanError)]
    if errors and len(errors) == len(fleets):
        raise errors[0]
    known = Known(moves=_moves(world.ledger), builds=world.ledger.builds_by_function(), rollouts={})
    places = tuple(_place(world, known, each, fleet, only) for each, fleet in zip(found, fleets, strict=True))
    return Overview(
        places=places,
        unfinished=tuple(survey.unfinished_told(run) for run in world.ledger.open_runs()),
        apart=_apart(world, places),
    )


def _apart(world: World, places: Sequence[Place]) -> tuple[str, ...]:
    builds: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for place in places:
        for name in place.environments:
            environment = world.project.environments[name]
            for function in place.functions if environment.regions else ():
                for row in function.aliases:
                    if row.alias == environment.alias:
                        builds[name, function.function][place.region] = row.build
    return tuple(
        f"{function}: the regions of {name} do not serve the same build: {told}"
        for (name, function), of in builds.items()
        if (told := apart(of))
    )


def places_of(world: World) -> list[tuple[Door, tuple[Environment, ...]]]:
    """A door to each account and region, with the environments that are there: none is read twice.

    Whose account is not declared is asked for (STS) where another environment may be in the same one.
    """
    doors: dict[tuple[str | None, ...], tuple[Door, list[Environment]]] = {}
    for each in world.everywhere():
        key = (each.region, each.profile, each.role_arn, each.account)
        doors.setdefault(key, (world.door(each), []))[1].append(each)
    regions: dict[str, int] = defaultdict(int)
    for door, _ in doors.values():
        regions[door.wire.region] += 1
    found: dict[tuple[str, str], tuple[Door, list[Environment]]] = {}
    for number, (door, environments) in enumerate(doors.values()):
        account = located.account(door.environment)
        if not account and regions[door.wire.region] > 1:
            try:
                account = door.gateway.caller_account()
            except AwsError:  # a place by itself: whoever reads it is told why not
                account = f"unknown {number}"
        found.setdefault((account, door.wire.region), (door, []))[1].extend(environments)
    return [(door, tuple(environments)) for door, environments in found.values()]


def _matches(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatchcase(name, each) for each in only)


def _check(fleet: Fleet, environments: Sequence[Environment]) -> None:
    declared = next((each for each in environments if each.account not in (None, fleet.account)), None)
    if declared:
        raise AccountMismatch(
            f"the credentials belong to account {fleet.account}, but {declared.name} is in account {declared.account}",
            where=f"environment {declared.name}",
            next="Use the right profile, role or credentials.",
        )


def _place(
    world: World,
    known: Known,
    there: tuple[Door, tuple[Environment, ...]],
    fleet: Fleet | PointsmanError,
    only: Sequence[str],
) -> Place:
    door, environments = there
    names = tuple(each.name for each in environments)
    if isinstance(fleet, PointsmanError):
        error = f"{fleet.where}: {fleet.what}" if fleet.where else fleet.what
        account = located.account(door.environment)
        return Place(account=account, region=door.wire.region, environments=names, error=error)
    known = replace(known, rollouts=_rollouts(world.ledger, fleet, known), runs=_runs(world, fleet, known))
    return Place(
        account=fleet.account,
        region=fleet.region,
        environments=names,
        at=fleet.at,
        functions=standings(fleet, known, [str(each.alias) for each in environments]),
        lost=tuple(name for name in lost(fleet, known) if _matches(name, only)),
    )


def _moves(ledger: Ledger) -> dict[tuple[str, str], Move]:
    """Without those of branches' aliases that were cleared up since: they are gone because we deleted them."""
    moves = ledger.last_moves()
    for entry in ledger.all_of("cleared"):
        key = (entry.function, entry.subject.rpartition(":")[2])
        if key in moves and moves[key].at <= entry.at:
            del moves[key]
    return moves


def _runs(world: World, fleet: Fleet, known: Known) -> dict[tuple[str, str], str]:
    """Of the aliases that are elsewhere than the ledger's last move."""
    found = {}
    for member in fleet.members:
        for alias in member.aliases:
            key = (str(member.arn), str(alias.name))
            if key in known.moves and known.moves[key].version != alias.version:
                found[key] = survey.moving(world, member.arn, alias)
    return found


def _rollouts(ledger: Ledger, fleet: Fleet, known: Known) -> dict[tuple[str, str], str]:
    begun = {(entry.function, entry.subject) for entry in ledger.all_of("rollout")}
    found = {}
    for member in fleet.members:
        for alias in member.aliases:
            key = (str(member.arn), str(alias.name))
            if alias.routing.canary or key in begun:
                found[key] = survey.rolling_told(ledger, member.arn, alias, ours=key in known.moves)
    return found


__all__ = ["Overview", "Place", "look", "places_of"]
