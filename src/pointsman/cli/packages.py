"""What `build --list` and `build --explain` show to people."""

from __future__ import annotations

from pointsman.artifact.contents import Difference, Listing
from pointsman.cli.terminal import Screen
from pointsman.model import counted, size


def show_listing(screen: Screen, listing: Listing) -> None:
    """The largest files first, the others by name; then what was left out."""
    unzipped = f"{size(listing.unzipped)} unzipped, {size(listing.size)} zipped"
    screen.print()
    screen.print(screen.bold(f"{listing.function}: {counted(len(listing.files), 'file')}, {unzipped}"))
    place = {name: number for number, name in enumerate(listing.largest)}
    files = sorted(listing.files, key=lambda each: (place.get(each.name, len(place)), each.name))
    rows = [(size(each.size), size(each.packed), each.origin, each.name) for each in files]
    screen.table(("size", "zipped", "from", "file"), rows)
    if listing.left_out:
        screen.print()
        screen.table(("left out", "by"), [(each.name, each.rule) for each in listing.left_out])


def show_difference(screen: Screen, difference: Difference) -> None:
    """The reason in a sentence; then each of the user's own files, packages and settings. Files of packages are many,
    and follow from those: they are counted."""
    screen.print()
    screen.print(screen.bold(f"{difference.function}: {difference.why}"))
    if difference.last and difference.last != difference.sha256:
        screen.print(f"last {difference.last}, now {difference.sha256}")
    own = [each for each in difference.files if each.origin != "dependency"]
    screen.table(("file", "what"), [(each.name, each.how) for each in own])
    screen.table(
        ("package", "was", "is"),
        [(each.name, ", ".join(each.was) or "-", ", ".join(each.now) or "-") for each in difference.packages],
    )
    screen.table(
        ("setting", "was", "is"), [(each.key, each.was or "-", each.now or "-") for each in difference.settings]
    )
    if others := len(difference.files) - len(own):
        screen.print(f"and {counted(others, 'file')} of dependencies")


__all__ = ["Difference", "Listing", "show_difference", "show_listing"]
