"""Reads what an account holds in one region, in as few calls as that takes: one listing of all versions, and aliases.

V versions of F functions cost V/50 ListFunctions and F ListAliases (one for each 50 aliases), all within one budget.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any, TypeAlias, TypeVar

import msgspec

from pointsman import places
from pointsman.aws.gateway import Gateway
from pointsman.config import Environment
from pointsman.errors import AwsError, Interrupted, LedgerError, NotFound, PointsmanError, UsageError
from pointsman.fleet import Fleet, Member
from pointsman.model import Alias, Configuration, FunctionName, Value, counted
from pointsman.progress import Course
from pointsman.world import Door, World

T = TypeVar("T")

AT_ONCE = 12  # calls under way together: at 15 a second that is enough for answers that take 0.8 s
_LONG = 1000  # versions; whoever has more of them waits a while, and is told how long


class Unread(Value, frozen=True, kw_only=True):
    """An account and region that could not be read, by one of the file's environments; why, and what to do about it."""

    environment: str
    account: str
    region: str
    error: str
    next: str


Failures: TypeAlias = list[tuple[Environment, PointsmanError]]


def place(environment: Environment, look: Callable[[], T], failures: Failures | None = None) -> T | None:
    """What `look` tells of one account and region: an error says which. None where `failures` took it instead.

    What would come to the same everywhere is raised nevertheless.
    """
    try:
        return look()
    except (Interrupted, LedgerError, UsageError):
        raise
    except PointsmanError as error:
        if not error.where.startswith(f"environment {environment.name}"):
            error.where = f"environment {_called(environment)}: {error.where}".removesuffix(": ")
        if failures is None:
            raise
        failures.append((environment, error))
        return None


def unread(failures: Sequence[tuple[Environment, PointsmanError]]) -> tuple[Unread, ...]:
    return tuple(
        Unread(
            environment=environment.name,
            account=places.account(environment),
            region=environment.region or "",
            error=f"{error.where}: {error.what}",
            next=error.next,
        )
        for environment, error in failures
    )


def _called(environment: Environment) -> str:
    where = " ".join(filter(None, (places.account(environment), environment.region)))
    return f"{environment.name} ({where})" if where else environment.name


def read(
    world: World, door: Door, *, aliases: bool = True, wanted: Callable[[str], bool] = lambda _name: True
) -> Fleet:
    """Every function with all its versions and (unless told otherwise) its aliases, as they are now.

    `wanted`: only functions of these names. What is deleted meanwhile is left out. On Ctrl-C nothing more is sent.
    Raises AwsError where the listing fails.
    """
    halt = Event()

    def halted() -> bool:
        return halt.is_set() or (world.halted is not None and world.halted())

    gateway = world.beside(say=world.say, echo=world.echo, halted=halted).door(door.environment).gateway
    account, region = door.environment.account or "", door.wire.region
    course = Course(world, f"reading {f'{account} {region}'.strip()}")
    versions: dict[FunctionName, list[Configuration]] = defaultdict(list)
    asked: dict[FunctionName, Future[tuple[Alias, ...] | None]] = {}
    known: dict[Any, Any] = {}
    of_all: int | None = None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for number, each in enumerate(gateway.everything(), 1):
                if number == _LONG:
                    of_all = _functions(gateway)
                name = each.arn.name
                if not wanted(name):
                    continue
                if aliases and name not in asked:
                    asked[name] = pool.submit(_aliases, gateway, name)
                versions[name].append(_shared(each, known))
                if number % 50 == 0:
                    more = f"{counted(number, 'version')} of {counted(len(versions), 'function')}"
                    course.reached(len(versions), of_all, more)
            for done, each_asked in enumerate(asked.values(), 1):
                each_asked.result()
                course.reached(done, len(asked), f"aliases of {done} of {counted(len(asked), 'function')}")
        except BaseException:
            halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            course.ended()
    members = []
    for name in sorted(versions):
        found = asked[name].result() if aliases else ()
        if found is not None:
            members += _members(versions[name], found)
    if members:
        account = members[0].arn.account
    return Fleet(
        account=account or door.gateway.caller_account(), region=region, at=world.clock.now(), members=tuple(members)
    )


def _members(found: Iterable[Configuration], aliases: tuple[Alias, ...]) -> list[Member]:
    """One function; none where `$LATEST` is not listed: it was deleted while we read."""
    by_version = {each.version: each for each in found}  # a page that is read while versions come may repeat one
    latest = next((each for version, each in by_version.items() if version == "$LATEST"), None)
    if latest is None:
        return []
    published = sorted((each for each in by_version.values() if each.version.published), key=lambda each: each.version)
    return [Member(latest=latest, versions=tuple(published), aliases=aliases)]


def _aliases(gateway: Gateway, name: FunctionName) -> tuple[Alias, ...] | None:
    """None where the function is gone meanwhile."""
    try:
        return gateway.aliases(name)
    except NotFound:
        return None


def _functions(gateway: Gateway) -> int | None:
    """How many there are, to tell how long it takes; None where that may not be asked."""
    with suppress(AwsError):
        return gateway.quotas().functions
    return None


def _shared(each: Configuration, known: dict[Any, Any]) -> Configuration:
    """The same with equal parts held once: versions of a function mostly differ in little but number and code."""

    def one(part: Any, key: Any = None) -> Any:
        return known.setdefault(part if key is None else key, part)

    arn = msgspec.structs.replace(
        each.arn,
        account=one(each.arn.account),
        region=one(each.arn.region),
        name=one(each.arn.name, ("name", each.arn.name)),
        qualifier=one(each.arn.qualifier),
    )
    return msgspec.structs.replace(
        each,
        arn=arn,
        version=one(each.version, ("version", each.version)),
        sha256=one(each.sha256, ("sha256", each.sha256)),
        settings=one(each.settings, ("settings", each.fingerprint)),
        fingerprint=one(each.fingerprint),
        description=one(each.description),
        modified=one(each.modified),
    )


__all__ = ["Failures", "Unread", "place", "read", "unread"]
