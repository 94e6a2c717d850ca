"""`pointsman status --all` on the screen: a table for each account and region, and what somebody should look at."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from pointsman.cli.terminal import ago
from pointsman.errors import UsageError
from pointsman.model import counted, size

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.cli.terminal import Screen
    from pointsman.overview import Place
    from pointsman.standing import Serving, Standing


def run(typed: Typed) -> int:
    from pointsman import overview

    world, screen, asked = typed.world, typed.screen, typed.asked
    if asked.only and not asked.all:
        raise UsageError("--only picks some of all functions", next="Say `status --all --only GLOB`.")
    if asked.function:
        raise UsageError("--function names one of the file, --all means all there are", next="Leave one of them out.")
    found = overview.look(world, asked.only or ())
    unread = [each for each in found.places if each.error]
    if not screen.json:
        now = world.clock.now()
        for index, place in enumerate(found.places):
            if index:
                screen.print()
            _show(screen, place, now)
        if found.apart or found.unfinished:
            screen.print()
        for line in found.apart:
            screen.print(f"! {line}.")
        for line in found.unfinished:
            screen.print(f"Unfinished: {line}.")
    names = [
        name for place in found.places for name in (*(str(each.function) for each in place.functions), *place.lost)
    ]
    for glob in asked.only or () if not unread else ():
        if not fnmatch.filter(names, glob):
            screen.warn(f"no function is called {glob}.")
    screen.result(found, ok=not unread)
    return 1 if unread else 0


def _show(screen: Screen, place: Place, now: float) -> None:
    where = f"{place.account} {place.region}".strip()
    whose = screen.bold(where) + f" ({', '.join(place.environments)})"
    if place.error:
        screen.print(f"{whose}: could not be read. {place.error}")
        return
    functions, versions = place.functions, sum(each.versions for each in place.functions)
    code = size(sum(each.code_size for each in functions))
    told = f"{counted(len(functions), 'function')}, {counted(versions, 'published version')}, {code} of code"
    screen.print(f"{whose}: {told}")
    rows = [row for each in functions for row in _rows(each, now)]
    screen.table(("function", "versions", "alias", "serves", "build", "commit", "since", "age"), rows, cut=(0, 2, 4))
    for each in functions:
        for trouble in each.troubles:
            screen.print(f"! {each.function}: {trouble}.")
    for name in place.lost:
        screen.print(f"! {name}: the ledger knows it, and it is not there any more.")


def _rows(function: Standing, now: float) -> list[tuple[str, ...]]:
    """A line for each alias, under the function's name; `age` is that of the version, `since` when it was moved to."""
    head = (str(function.function), f"{function.versions:,}" if function.versions else "-")
    if not function.aliases:
        return [(*head, "-", "$LATEST", "-", "-", "-", _ago(now, function.latest_at))]
    return [
        (
            *(head if index == 0 else ("", "")),
            str(each.alias),
            _serves(each),
            each.build or "-",
            each.commit[:10] or "-",
            _ago(now, each.since),
            _ago(now, each.published),
        )
        for index, each in enumerate(function.aliases)
    ]


def _serves(alias: Serving) -> str:
    if alias.weight is None:
        return str(alias.version)
    return f"{alias.version} + {alias.weight * 100:g}% on {alias.canary}"


def _ago(now: float, at: float | None) -> str:
    return "-" if at is None else ago(now - at)


__all__ = ["run"]
