"""`pointsman storage`: how full the code storage is, of what, and until when; in the terminal and as a page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman import inventory, places, plots, storage, storage_page, storing
from pointsman.errors import UsageError
from pointsman.model import counted
from pointsman.storing import Report, stored

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.cli.terminal import Screen

_ROWS = 12


def run(typed: Typed) -> int:
    world, screen, asked = typed.world, typed.screen, typed.asked
    chosen = places.each(world.environment(asked.to)) if asked.to else ()
    if asked.html and asked.html != "-":
        _must_be_writable(Path(asked.html))
    failures: inventory.Failures = []
    found = storage.reports(world, chosen, quick=asked.quick, failures=failures)
    if failures and not found:
        raise failures[0][1]
    unread = inventory.unread(failures)
    for one in unread:
        screen.warn(f"{one.error.rstrip('.')}. {one.next}".strip())
    if asked.html == "-" and not screen.json:
        screen.put(storage_page.html(found))
        return 1 if unread else 0
    if asked.html and asked.html != "-":
        Path(asked.html).write_text(storage_page.html(found), encoding="utf-8")
    if not screen.json:
        for index, report in enumerate(found):
            if index:
                screen.print()
            _show(screen, report)
        if asked.html and asked.html != "-":
            screen.print(f"\nwrote {asked.html}")
    screen.result([*found, *unread], ok=not unread)
    return 1 if unread else 0


def _must_be_writable(path: Path) -> None:
    """Before all that reading."""
    folder = path.parent
    if not folder.is_dir():
        why, next_ = f"there is no folder {folder}", "Make it, or name another one."
    elif path.is_dir():
        why, next_ = "it is a folder", "Name a file in it."
    elif not os.access(path if path.exists() else folder, os.W_OK):
        why, next_ = "you may not write there", "Name another file; `--html -` prints the page."
    else:
        return
    raise UsageError(f"cannot write {path}: {why}", where="--html", next=next_)


def _show(screen: Screen, report: Report) -> None:
    used = report.usage
    names = ", ".join(report.environments)
    screen.print(screen.bold(f"{used.account} {used.region} ({names})"))
    full = plots.bar(used.share, 30)
    screen.print(f"{full} {stored(used.code)} of {stored(used.limit)}, {used.share:.1%}")
    screen.print(storing.outlook(report.growth, used.share))
    _plot(screen, report)
    versions = sum(each.count for each in used.by_function)
    parts = [
        f"{stored(used.versions)} in {counted(versions, 'version')}",
        f"{stored(used.latest)} in $LATEST of {counted(len(used.by_function), 'function')}",
        f"{stored(used.layers)} in {counted(sum(each.count for each in used.by_layer), 'layer version')}",
        *([f"{stored(used.other)} that AWS counts and no list shows"] if used.other else []),
    ]
    screen.print("; ".join(parts) + ".")
    if used.repeated:
        screen.print(f"{stored(used.repeated)} of it is the same package again: AWS counts each version whole.")
    if used.images:
        images = counted(used.images, "version")
        screen.print(f"{images} {'is a container image' if used.images == 1 else 'are container images'}: none of it.")
    if report.prunable is not None:
        screen.print(f"`pointsman prune` would free {stored(report.prunable)}.")
    if report.published_count:
        told = f"{stored(report.published)} in {counted(report.published_count, 'version')}"
        screen.print(f"Published from here in the last 30 days: {told}.")
    for note in report.notes:
        screen.print(f"{note[0].upper()}{note[1:]}.")
    ages = [(each.name, str(each.count), stored(each.size)) for each in used.by_age if each.count]
    if ages:
        screen.print()
        screen.table(("published", "versions", "size"), ages)
    _parts(screen, report, "function")
    _parts(screen, report, "layer")


def _parts(screen: Screen, report: Report, what: str) -> None:
    used = report.usage
    parts = used.by_function if what == "function" else used.by_layer
    if not parts:
        return
    screen.print()
    screen.table(
        (what, "versions", "size", "of all", "same package again", ""),
        [
            (
                each.name,
                str(each.count),
                stored(each.size),
                f"{each.size / used.code:.1%}" if used.code else "-",
                stored(each.repeated) if each.repeated else "-",
                plots.bar(each.size / max(parts[0].size, 1), 12),
            )
            for each in parts[:_ROWS]
        ],
    )
    if len(parts) > _ROWS:
        rest = sum(each.size for each in parts[_ROWS:])
        screen.print(f"and {counted(len(parts) - _ROWS, f'smaller {what}')} with {stored(rest)} (all: --json, --html)")


def _plot(screen: Screen, report: Report) -> None:
    """What was used and where it leads, in braille; nothing where only today is known."""
    used, grows = report.usage, report.growth
    points = [(each.at, float(each.code)) for each in grows.points]
    if len(points) < 2:
        return
    ahead = storage_page.future(grows, used)
    low, high = storage_page.span(points, ahead)
    top = storage_page.ceiling(points, ahead, used.limit)
    width = min(72, shutil.get_terminal_size().columns - 12)
    drawn = [*points, *((x, used.code + grows.per_day * (x - used.at) / storing.DAY_S) for x, _, _ in ahead)]
    lines = plots.braille(
        drawn,
        x=plots.Scale(low=low, high=high),
        y=plots.Scale(low=0.0, high=top),
        width=width,
        height=6,
        limit=used.limit if used.limit <= top else None,
    )
    for row, line in enumerate(lines):
        label = stored(top) if row == 0 else "0" if row == len(lines) - 1 else ""
        screen.print(f"{label:>9} {line}".rstrip())
    now = int((used.at - low) / (high - low) * width)
    first, last = storing.day(low), storing.day(high) if ahead else ""
    axis = first.ljust(max(now - 1, len(first) + 1)) + "now"
    screen.print(" " * 10 + f"{axis.ljust(width - len(last))}{last}")


__all__ = ["run"]
