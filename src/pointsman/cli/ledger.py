"""`pointsman ledger …`: the ledger itself: created, looked at, copied once from a file to a table or back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from pointsman import config
from pointsman.cli.terminal import ago, at
from pointsman.errors import UsageError
from pointsman.ledger import Entry, Ledger
from pointsman.model import size

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.world import World


def run(typed: Typed) -> int:
    match typed.asked.ledger_command:
        case "init":
            return _init(typed)
        case "status":
            return _status(typed)
        case _:
            return _copy(typed)


def _init(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    if world.shared:
        from pointsman.ledger.team import create

        table, _name = world.ledger_table()
        done = create(table, world.clock, wait_s=typed.asked.wait)
    else:
        done = [] if world.ledger_path.exists() else [f"created {world.ledger_path}"]
    ledger = world.ledger
    if not screen.json:
        for line in done:
            screen.print(f"  {line}")
        screen.print(f"{ledger.place} is ready{'' if done else ': there was nothing to do'}.")
    screen.result({"place": ledger.place, "done": done})
    return 0


def _status(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    ledger = world.ledger
    last = next(iter(ledger.entries(limit=1)), None)
    leases = ledger.leases()
    found: dict[str, Any] = {
        "kind": "dynamodb" if world.shared else "sqlite",
        "place": ledger.place,
        "entries": ledger.count(),
        "size": _size(world),
        "mirror": str(world.ledger_path) if world.shared else None,
        "last": last,
        "leases": leases,
    }
    if not screen.json:
        now = world.clock.now()
        kind = "a table of DynamoDB" if world.shared else "a file of SQLite"
        screen.print(f"{ledger.place}: {kind}, {_counted(found['entries'])}{_large(found['size'])}")
        if world.shared:
            screen.print(f"  its mirror here: {world.ledger_path}")
        if last:
            screen.print(f"  the last entry: {last.kind}, {at(last.at)} ({ago(now - last.at)} ago), run {last.run}")
        screen.table(
            ("lease", "holder", "ends in", "token"),
            [(each.name, each.holder, ago(each.expires - now), str(each.token)) for each in leases],
        )
    screen.result(found)
    return 0


def _size(world: World) -> int | None:
    """Bytes: a file's now, a table's as AWS counted them within the last six hours; None where it has not yet."""
    if not world.shared:
        return world.ledger_path.stat().st_size
    described = world.ledger_table()[0].described()
    return described.size or None if described else None


def _large(found: int | None) -> str:
    return "" if found is None else f", {size(found)}"


def _copy(typed: Typed) -> int:
    world, screen, asked = typed.world, typed.screen, typed.asked
    if (asked.source is None) == (asked.target is None):
        raise UsageError("say either --from or --to", next="The other side is the ledger of pointsman.toml.")
    other = _checked(world, asked.source or asked.target, must_be_there=asked.source is not None)
    with closing(other):
        source, target = (other, world.ledger) if asked.source else (world.ledger, other)
        if source.place == target.place:
            raise UsageError(f"both are {source.place}", next="Copy it to somewhere else.")
        entries = tuple(reversed(source.entries()))
        there = tuple(reversed(target.entries()))
        begun = _same(there, entries)  # a copy that was cut short goes on
        if there and not begun and not asked.force:
            raise UsageError(
                f"{target.place} has {_counted(len(there))} of its own",
                next="`--force` appends all the same; what is there stays.",
            )
        copied = target.add(entries[len(there) :] if begun else entries)
        if not screen.json:
            already = f" ({_counted(len(there))} there already)" if begun and there else ""
            screen.print(f"Copied {_counted(copied)} from {source.place} to {target.place}{already}.")
        screen.result({"from": source.place, "to": target.place, "copied": copied})
    return 0


def _checked(world: World, url: str, *, must_be_there: bool) -> Ledger:
    """Raises UsageError for what is no ledger's url, or a file that is not there."""
    if not config.fits(config.LedgerUrl, url):
        raise UsageError(f'{url!r} is neither "sqlite:PATH" nor "dynamodb://TABLE"', where="ledger copy")
    if must_be_there and url.startswith("sqlite:"):
        path = world.project.root / url.removeprefix("sqlite:")
        if not path.exists():
            raise UsageError(f"there is no file {path}", where="ledger copy --from")
    return world.open_ledger(url)


def _same(there: Sequence[Entry], entries: Sequence[Entry]) -> bool:
    """Whether what is there is the beginning of these, but for numbers."""
    return len(there) <= len(entries) and _bare(there) == _bare(entries[: len(there)])


def _bare(entries: Iterable[Entry]) -> list[Entry]:
    return [
        msgspec.structs.replace(each, seq=0, body={key: value for key, value in each.body.items() if key != "intent"})
        for each in entries
    ]


def _counted(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
