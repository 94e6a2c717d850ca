"""`pointsman branch …`: the aliases of branches, and clearing up after those that are gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pointsman import branching, clearing
from pointsman.branches import titled
from pointsman.branching import Cleared
from pointsman.cli.terminal import ago
from pointsman.errors import PointsmanError, UsageError

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed


def run(typed: Typed) -> int:
    match typed.asked.branch_command:
        case "list":
            return _list(typed)
        case "sync":
            return _sync(typed)
        case _:
            return _delete(typed)


def _list(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    try:
        there = branching.remote(world, typed.asked.remote)
    except PointsmanError as error:
        there = None
        note = f"which of them are gone is not known: {error.where}: {error.what}"
        screen.say(note) if screen.json else screen.print(f"Note: {note}")
    rows = [row for each in typed.functions for row in branching.rows(world, each, there)]
    if not screen.json:
        now = world.clock.now()
        screen.table(
            ("function", "branch", "alias", "version", "build", "since", "by", "on remote", "preview"),
            [
                (
                    row.function,
                    row.branch,
                    row.alias,
                    row.version,
                    row.build or "-",
                    f"{ago(now - row.since)} ago" if row.since else "-",
                    row.by or "-",
                    {True: "yes", False: "gone", None: "?"}[row.on_remote] + (", protected" if row.protected else ""),
                    row.preview or "-",
                )
                for row in rows
            ],
        )
        if not rows:
            screen.print("No alias of a branch: `pointsman deploy --branch` makes one.")
    screen.result(rows)
    return 0


def _sync(typed: Typed) -> int:
    world, asked = typed.world, typed.asked
    there = branching.remote(world, asked.remote, _open_ones(asked.pull_requests))
    plans = [made for each in typed.functions for made in branching.plan_sync(world, each, there)]
    return _told(typed, plans, "Nothing to clear up: of no branch that has an alias it is known that it is gone.")


def _delete(typed: Typed) -> int:
    world, asked = typed.world, typed.asked
    functions = typed.functions
    plans: list[clearing.Clearing] = []
    for each in functions:
        try:
            plans += branching.plan_delete(world, each, asked.name)
        except PointsmanError as error:
            if error.code != "not_found" or (each is functions[-1] and not plans):
                raise
    return _told(typed, plans, "")


def _told(typed: Typed, plans: list[clearing.Clearing], nothing: str) -> int:
    """Show the plan; carry it out where `--yes` was given, or somebody at the terminal says so."""
    world, screen = typed.world, typed.screen
    if not screen.json:
        for made in plans:
            screen.print(screen.bold(f"{made.function}: {titled(made.branch)}"))
            for number, step in enumerate(made.steps, 1):
                screen.print(f"  {number}. {clearing.describe(step)}")
            for note in made.kept:
                screen.print(f"  Note: {note}.")
    agreed = typed.asked.yes or bool(plans and world.ask and world.ask("Delete all this?"))
    done = [Cleared(plan=made, outcome="planned") for made in plans]
    for index, made in enumerate(plans if agreed else ()):
        try:
            done[index] = branching.carry_out(world, world.functions(made.function)[0], made)
        except PointsmanError as error:
            for each in plans[:index]:
                error.add_note(f"Deleted before: {each.function}, {titled(each.branch)}.")
            raise
    if not screen.json:
        if not plans:
            screen.print(nothing)
        elif agreed:
            screen.print("All of it is deleted.")
        else:
            screen.print("Nothing was deleted: `--yes` does it.")
    screen.result(done)
    return 0


def _open_ones(text: str | None) -> frozenset[str] | None:
    """The open pull requests somebody listed. An empty list must be said in a word: it may be a command that failed."""
    if text is None:
        return None
    numbers = re.findall(r"[^\s,]+", text)
    if numbers == ["none"]:
        return frozenset()
    if not numbers or not all(each.isdecimal() for each in numbers):
        raise UsageError(
            f"{text!r} lists no pull requests", where="--pull-requests", next="Say 12,15 or, where none is open, none."
        )
    return frozenset(numbers)


__all__ = ["run"]
