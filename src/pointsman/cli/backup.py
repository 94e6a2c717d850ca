"""`pointsman backup …` and `pointsman restore …`: what is kept beside Lambda, and bringing it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pointsman import backups, places, restoring
from pointsman.aws.identity import partition
from pointsman.cli.terminal import ago
from pointsman.errors import Interrupted, PointsmanError, UsageError
from pointsman.model import FunctionArn, counted, size

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.config import Environment
    from pointsman.ledger import Run


def run(typed: Typed) -> int:
    match typed.asked.backup_command:
        case "verify":
            return _verify(typed)
        case "list":
            return _list(typed)
        case _:
            return _save(typed)


def _environment(typed: Typed) -> Environment:
    found = typed.world.environment_called(typed.asked.env)
    if not typed.asked.region:
        return found
    partition(typed.asked.region)  # one that AWS does not have is refused here
    return places.in_region(found, typed.asked.region)


def _store(typed: Typed) -> Environment:
    """The store is one, whatever regions there are: any of the first environment's reaches it."""
    return places.each(typed.world.environment(None))[0]


def _save(typed: Typed) -> int:
    screen, asked = typed.screen, typed.asked
    if asked.all and (asked.names or asked.only):
        what = asked.names[0] if asked.names else f"--version {asked.only[0]}"
        raise UsageError(f"--all and {what} both say what to back up", next="Leave one of them out.")
    done: backups.Report | None = None
    meant = _meant(typed)
    for environments in meant:
        there = _saved(typed, environments, alone=len(meant) == 1)
        done = done.and_also(there) if done else there
    assert done is not None, "an environment is somewhere"
    found = {each.function for each in done.functions}
    # A function that is in one place need not be in all.
    done = replace(
        done, problems=tuple(each for each in done.problems if not each.absent or each.function not in found)
    )
    if not screen.json:
        several = len({(each.arn.account, each.arn.region) for each in done.functions}) > 1
        rows = [
            (
                each.function,
                *((each.arn.account, each.arn.region) if several else ()),
                str(each.versions),
                str(each.new),
                str(each.gone) if each.gone else "-",
            )
            for each in done.functions
        ]
        where = ("account", "region") if several else ()
        screen.table(("function", *where, "versions saved", "new", "not in Lambda any more"), rows)
        for each in done.functions:
            for note in each.notes:
                screen.print(f"{each.function}: Note: {note}.")
            if each.earlier:
                screen.warn(f"{each.function}: {each.earlier}")
        screen.print(
            f"{done.place}: {counted(done.fetched, 'new package')} ({size(done.bytes)}), {done.known} there before."
        )
        for problem in done.problems:
            partly = " in full" if problem.function in {each.function for each in done.functions} else ""
            screen.warn(f"{problem.function} is not backed up{partly}: {problem.what}. {problem.next}".rstrip())
    screen.result(done, ok=not done.problems)
    return 1 if done.problems else 0


def _meant(typed: Typed) -> list[tuple[Environment, ...]]:
    """The environments of each account and region that is meant: of all, if nobody says of which."""
    if typed.asked.env or typed.asked.region:
        return [(each,) for each in places.each(_environment(typed))]
    from pointsman import overview

    return [environments for _door, environments in overview.places_of(typed.world)]


def _saved(typed: Typed, environments: tuple[Environment, ...], *, alone: bool) -> backups.Report:
    """One account and region. What cannot be read of one of several is told, and the others are saved."""
    world, asked, first = typed.world, typed.asked, environments[0]
    try:
        names = None
        if not asked.all:
            names = list(
                dict.fromkeys(name for each in environments for name in backups.named(world, each, asked.names))
            )
        return backups.backup(world, first, names, to=asked.to, only=asked.only or (), again=asked.again)
    except (UsageError, Interrupted):
        raise
    except PointsmanError as error:
        if alone:
            raise
        called = " ".join(("environment", ", ".join(each.name for each in environments), first.region or "")).strip()
        problem = backups.Problem(function=called, what=error.what, next=error.next)
        place = backups.place(world, asked.to)
        return backups.Report(place=place, functions=(), fetched=0, bytes=0, known=0, problems=(problem,))


def _verify(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    found = backups.verify(world, _store(typed), typed.asked.place)
    if not screen.json:
        for each in found.damage:
            screen.print(f"damaged: {each}")
        counts = f"{counted(found.documents, 'document')}, {counted(found.packages, 'package')} ({size(found.bytes)})"
        verdict = f"{counted(len(found.damage), 'problem')}." if found.damage else "all are what they were."
        screen.print(f"{found.place}: {counts}; {verdict}")
    screen.result(found, ok=not found.damage)
    return 1 if found.damage else 0


def _list(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    place, rows, damage = backups.listing(world, _store(typed), typed.asked.place)
    if not screen.json:
        now = world.clock.now()
        screen.table(
            ("function", "account", "region", "versions", "gone", "aliases", "size", "saved"),
            [
                (
                    each.name.rpartition("/")[2].removesuffix(".json"),
                    each.arn.account,
                    each.arn.region,
                    str(each.versions),
                    str(each.gone) if each.gone else "-",
                    ", ".join(each.aliases) or "-",
                    size(each.bytes),
                    f"{ago(now - each.at)} ago",
                )
                for each in rows
            ],
        )
        for each in rows:
            if each.earlier:
                where = f"{each.arn.name} in {each.arn.account} {each.arn.region}: earlier states"
                screen.print(f"{where} {', '.join(each.earlier)} (`pointsman restore {each.arn.name} --as-of STATE`).")
        for line in damage:
            screen.warn(line)
        if not rows and not damage:
            screen.print(f"There is no backup in {place}: `pointsman backup` makes one.")
    screen.result({"place": place, "functions": rows, "damage": damage}, ok=not damage)
    return 1 if damage else 0


def restore(typed: Typed) -> int:
    """Show the plan; carry it out where `--yes` was given, or somebody at the terminal says so."""
    world, screen, asked = typed.world, typed.screen, typed.asked
    environment = _environment(typed)
    wish = restoring.Wish(
        function=asked.name_of,
        version=asked.which,
        source=asked.source or "",
        as_of=asked.as_of or "",
        name=asked.name or "",
        role=asked.role or "",
        every=asked.every,
        event_sources=asked.event_sources,
        without_variables=asked.without_variables,
    )
    if asked.forget:
        forgotten = restoring.forget(world, environment, wish, asked.place)
        if not screen.json:
            screen.print(f"The restore of {forgotten.target.name} that {forgotten.by} began is forgotten.")
        screen.result({"target": str(forgotten.target), "outcome": "forgotten"})
        return 0
    return _restore(typed, environment, wish, asked.place, agreed=asked.yes)


def resume(typed: Typed, run: Run) -> int:
    """An interrupted restore goes on, as it was asked for."""
    wish, from_ = restoring.of_run(run)
    target = FunctionArn.parse(run.request["target"])
    environment = places.in_region(typed.world.environment_called(run.environment), target.region)
    return _restore(typed, environment, wish, from_, agreed=True, resumes=run.id)


def _restore(
    typed: Typed, environment: Environment, wish: restoring.Wish, from_: str | None, *, agreed: bool, resumes: str = ""
) -> int:
    world, screen = typed.world, typed.screen
    prepared = restoring.prepare(world, environment, wish, from_)
    done = prepared.told("planned" if prepared.made.steps else "unchanged")
    if not screen.json:
        what = f"version {wish.version} of " if wish.version else ""
        when = ago(world.clock.now() - done.saved_at)
        screen.print(screen.bold(f"restore {what}{done.source.name}, saved {when} ago in {done.place}"))
        screen.print(f"  from {done.source}\n  to   {done.target}")
        if prepared.open:
            screen.print(f"  This goes on with the restore that {prepared.open.by} began.")
        for number, line in enumerate(done.steps, 1):
            screen.print(f"  {number}. {line}")
        if done.why:
            screen.print(f"  nothing to do: {done.why}")
        for note in done.notes:
            screen.print(f"  Note: {note}.")
    finishing = prepared.open is not None  # also where all is done, and only the store does not know
    agreed = agreed or bool(done.steps and world.ask and world.ask("Do all this?"))
    if agreed and (done.steps or finishing):
        done = restoring.carry_out(world, environment, prepared, from_, resumes=resumes)
    elif resumes:
        world.ledger.end(resumes, "done")  # nothing is left of it
    if not screen.json:
        _show(typed, done)
    screen.result(done)
    return 0


def _show(typed: Typed, done: restoring.Restored) -> None:
    screen = typed.screen
    if done.outcome == "planned":
        screen.print("Nothing was changed: `--yes` does it.")
        return
    if done.outcome != "done":
        return
    screen.table(("saved version", "is now"), [(old, new) for old, new in sorted(done.mapping.items())])
    for qualifier, url in done.urls.items():
        screen.print(f"The URL of {qualifier or 'the function'} is {url}")
    screen.print(f"{done.target.name} is restored; every digest is the one that was saved.")


__all__ = ["restore", "resume", "run"]
