"""`pointsman history …`: what was done, what an alias served at a moment, and a ledger written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman import chronicle, moments
from pointsman.branches import alias_name
from pointsman.chronicle import Entry, Line, Serving, Wanted
from pointsman.cli.terminal import ago, at
from pointsman.config import Direct, Existing
from pointsman.errors import UsageError
from pointsman.places import titled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pointsman.cli.commands import Typed
    from pointsman.cli.terminal import Screen


def run(typed: Typed) -> int:
    asked = typed.asked
    if asked.rebuild:
        if other := next((each for each in _CHOOSING if getattr(asked, each)), None):
            raise UsageError(
                f"--rebuild writes the whole ledger anew, and --{other} chooses what is shown of one",
                where="--rebuild",
                next=f"Rebuild it; then `pointsman history --{other} …`.",
            )
        return _rebuild(typed)
    if asked.csv and (asked.json or asked.at):
        raise UsageError("--csv is a table of lines, and goes with neither --json nor --at", where="--csv")
    if asked.at and (asked.since or asked.until):
        raise UsageError("--at is one moment, --since and --until a stretch of time", next="Leave one of them out.")
    return _then(typed) if asked.at else _lines(typed)


_CHOOSING = (*("csv", "at", "function", "alias", "region", "build", "commit", "by", "kind", "since", "until", "limit"),)


def _must_be_known(typed: Typed, entries: Sequence[Entry]) -> None:
    """Raises UnknownTarget for a name that neither the file nor the ledger has: nothing would be found, and no why."""
    from pointsman.world import unknown

    asked, project = typed.asked, typed.world.project
    environments = project.environments.values()
    known = chronicle.names(entries)
    on_aws = {
        each.provision.name for each in project.functions.values() if isinstance(each.provision, Direct | Existing)
    }
    functions = {*project.functions, *filter(None, on_aws), *known.functions}
    aliases = {*project.environments, *(str(each.alias) for each in environments), *known.aliases}
    declared = {region for each in environments for region in (each.region, *each.regions) if region}
    ambient = {typed.environ.get(each, "") for each in ("AWS_REGION", "AWS_DEFAULT_REGION")} - {""}
    for name in asked.function or ():
        if name not in functions:
            raise unknown("function", name, functions, "pointsman.toml and the ledger have")
    for name in asked.alias or ():
        branch = name.removeprefix("branch:")
        if not {name, branch, alias_name(branch)} & aliases:
            raise unknown("alias or environment", name, aliases, "pointsman.toml and the ledger have")
    if asked.region and asked.region not in (regions := declared | ambient | known.regions):
        raise unknown("region", asked.region, regions, "pointsman.toml and the ledger have")


def _moment(text: str | None, option: str, now: float, *, end: bool = False) -> float | None:
    if text is None:
        return None
    try:
        return moments.moment(text, now=now, end=end)
    except ValueError as error:
        raise UsageError(str(error), where=option) from error


def _wanted(typed: Typed, now: float) -> Wanted:
    asked, project = typed.asked, typed.world.project
    since, until = _moment(asked.since, "--since", now), _moment(asked.until, "--until", now, end=True)
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"--since {asked.since} ({moments.shown(since)}) is not before --until {asked.until} "
            f"({moments.shown(until)}): nothing can lie between them",
            where="--since",
        )
    aliases: set[str] = set()
    for each in asked.alias or ():
        aliases |= {each, alias_name(each.removeprefix("branch:"))}
        if environment := project.environments.get(each):
            aliases.add(environment.alias)
    return Wanted(
        functions=tuple(asked.function or ()),
        region=asked.region or "",
        aliases=tuple(sorted(aliases)),
        build=asked.build or "",
        commit=(asked.commit or "").lower(),
        by=asked.by or "",
        topics=tuple(asked.kind or ()),
        since=since,
        until=until,
    )


def _lines(typed: Typed) -> int:
    world, screen, asked = typed.world, typed.screen, typed.asked
    now = world.clock.now()
    wanted = _wanted(typed, now)
    limit = asked.limit or (None if asked.csv else 30)
    entries = world.ledger.told()
    _must_be_known(typed, entries)
    lines = chronicle.history(entries, wanted, limit=None if limit is None else limit + 1)
    more = limit is not None and len(lines) > limit
    lines = lines[:limit]
    if asked.csv:
        screen.put(chronicle.csv(lines))
        return 0
    if not screen.json:
        _table(screen, lines, several=len(world.project.functions) > 1)
        if more:
            screen.print(f"Older lines are left out: `--limit` says how many are shown ({limit}).")
        if not entries:
            screen.print("The ledger is empty: nothing was deployed from here yet.")
        elif not lines:
            screen.print(f"Nothing of that kind, in {len(entries)} entries since {at(entries[0].at)}.")
    screen.result(lines)
    return 0


def _table(screen: Screen, lines: Sequence[Line], *, several: bool) -> None:
    """With a column for the function, the region, the account where there are several."""
    told = [[titled(each) for each in line.function.split(", ")] for line in lines]
    functions = [", ".join(dict.fromkeys(name for name, _ in each)) for each in told]
    regions = [
        line.region or ", ".join(dict.fromkeys(region for _, region in each if region)) or "-"
        for line, each in zip(lines, told, strict=True)
    ]
    accounts = [line.account or "-" for line in lines]
    columns = [
        ("when", [at(line.at) for line in lines]),
        *([("function", functions)] if several or len({*functions}) > 1 else []),
        *([("region", regions)] if len({*regions} - {"-"}) > 1 else []),
        *([("account", accounts)] if len({*accounts} - {"-"}) > 1 else []),
        ("what", [line.what for line in lines]),
        ("commit", [line.commit[:10] or "-" for line in lines]),
        ("by", [line.by + (f" ({line.ci})" if line.ci else "") or "-" for line in lines]),
    ]
    screen.table([name for name, _ in columns], list(zip(*(cells for _, cells in columns), strict=True)))


def _then(typed: Typed) -> int:
    world, screen, asked = typed.world, typed.screen, typed.asked
    now = world.clock.now()
    moment = _moment(asked.at, "--at", now)
    assert moment is not None
    if moment > now:
        raise UsageError(f"{asked.at} ({moments.shown(moment)}) has not come yet", where="--at")
    for name in ("build", "commit", "by", "kind", "limit"):
        if getattr(asked, name):
            raise UsageError(f"--at shows aliases, and --{name} chooses lines", next="Leave one of them out.")
    entries = world.ledger.told()
    _must_be_known(typed, entries)
    found = chronicle.then(entries, moment, _wanted(typed, now))
    if not screen.json:
        screen.print(screen.bold(f"At {moments.shown(moment)}, {ago(now - moment)} ago:"))
        places = {":".join(row.arn.split(":")[3:5]) for row in found.aliases}
        several = len(places) > 1
        where = ["region:account"] if several else []
        screen.table(
            ("function", *where, "alias", "version", "build", "commit", "since", "by", "how"),
            [_row(row, several=several) for row in found.aliases],
        )
        for row in found.aliases:
            there = f" in {row.arn.split(':')[3]} ({row.arn.split(':')[4]})" if several else ""
            for note in row.notes:
                screen.print(f"{row.function} {row.alias}{there}: {note}.")
        for told in found.notes:
            screen.print(told)
        if found.begins is not None and not found.aliases:
            screen.print("No alias was known then.")
        elif found.aliases:
            screen.print("So the ledger tells it: a move without Pointsman shows only at the next one with it.")
    screen.result(found)
    return 0


def _row(row: Serving, *, several: bool) -> tuple[str, ...]:
    version = row.version or "not known"
    if row.canary and row.weight:
        version += f" + {row.weight * 100:g} % on {row.canary}"
    return (
        row.function,
        *([":".join(row.arn.split(":")[3:5])] if several else []),
        row.alias,
        version + ("" if row.sure or not row.version else " ?"),
        row.build or "-",
        row.commit[:10] or "-",
        at(row.since) if row.since else "-",
        row.by + (f" ({row.ci})" if row.ci else "") or "-",
        row.how or "-",
    )


def _rebuild(typed: Typed) -> int:
    from pointsman import rebuilding

    world, screen, asked = typed.world, typed.screen, typed.asked
    if not asked.force:
        rebuilding.must_be_needed(world)
    found = rebuilding.rebuild(world, world.functions())
    if not screen.json:
        kept = f" The old one is kept as {found.set_aside}." if found.set_aside else ""
        screen.print(f"Wrote {world.ledger.place} anew: {found.versions} versions, {found.aliases} aliases.{kept}")
        for note in found.notes:
            screen.print(f"{note}.")
    screen.result(found)
    return 0


__all__ = ["run"]
