"""An installed tree of node_modules → the part of it that one package needs, laid out anew. Knows no package manager.

Workspaces are installed as a whole, into one tree that all their members share: with links, with all development tools,
and with what other members need. A package gets what can be reached from its own dependencies by Node's search
(https://nodejs.org/api/modules.html#loading-from-node_modules-folders), at places where that search finds it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pointsman.errors import BuildFailed


class Asked(NamedTuple):
    name: str
    required: bool


def manifest(folder: Path) -> dict[str, Any]:
    """package.json, or {} where there is none. Raises BuildFailed for one that is none."""
    file = folder / "package.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise BuildFailed(f"it is not JSON: {error}", where=str(file)) from error
    if not isinstance(found, dict):
        raise BuildFailed("it is not a JSON object", where=str(file))
    return found


def asked(package: Mapping[str, Any], *, development: bool = False) -> Iterator[Asked]:
    """What a package asks for. Peers and optional ones may be missing."""
    optional = package.get("optionalDependencies") or {}
    for name in package.get("dependencies") or {}:
        if name not in optional:
            yield Asked(name, required=True)
    for section in ("optionalDependencies", "peerDependencies"):
        yield from (Asked(name, required=False) for name in package.get(section) or {})
    if development:
        yield from (Asked(name, required=False) for name in package.get("devDependencies") or {})


def find(folder: Path, name: str, top: Path) -> Path | None:
    """Where Node finds a package that is required in `folder`: its real folder. Not above `top`."""
    for each in (folder, *folder.parents):
        if each.name != "node_modules" and (each / "node_modules" / name).is_dir():
            return (each / "node_modules" / name).resolve()
        if each == top:
            return None
    return None


class _Place:
    """A package in the new tree; `below`: its node_modules. `passed`: names that were looked for here in vain, and
    found higher up: another package of that name must not be put here."""

    def __init__(self, real: Path, goal: Path, above: _Place | None) -> None:
        self.real, self.goal, self.above = real, goal, above
        self.below: dict[str, _Place] = {}
        self.passed: dict[str, Path] = {}


def gather(
    wanted: Iterable[Asked],
    member: Path,
    top: Path,
    to: Path,
    copy: Callable[[Path, Path], None],
    *,
    without: Callable[[str], bool] = lambda _: False,
) -> None:
    """Lay out in `to`/node_modules what is `wanted` in `member` (of the tree under `top`), by `copy(real, goal)`.

    Each package lies as high as it can: at the top, unless another version of it is already in its way.
    """
    root = _Place(member.resolve(), to, None)
    queue = [root]
    for place in queue:  # grows: width first, so that what is asked for directly lies at the top
        for name, required in sorted(wanted if place is root else asked(manifest(place.real))):
            if without(name):
                continue
            real = find(place.real, name, top)
            if real is None:
                if required and place is root:
                    raise BuildFailed(
                        f"{name} was not installed, though package.json asks for it",
                        next="Write the lock file anew, and commit it.",
                    )
                continue
            if made := _put(place, name, real):
                queue.append(made)
    for place in queue[1:]:
        copy(place.real, place.goal)


def _put(asker: _Place, name: str, real: Path) -> _Place | None:
    """Make `name` visible from `asker`; the new place, or None where it is visible already."""
    if real == asker.real:
        return None  # it asks for itself
    chain: list[_Place] = []
    best: _Place | None = None
    at: _Place | None = asker
    while at is not None:
        if name in at.below:
            if at.below[name].real == real:
                for each in chain:
                    each.passed[name] = real
                return None
            break  # another one: only below this may ours lie
        if at.passed.get(name, real) != real:
            break
        best = at
        chain.append(at)
        at = at.above
    assert best, "what a package asks for is placed before what is below it: nothing can be in its way"
    for each in chain[: chain.index(best)]:
        each.passed[name] = real
    best.below[name] = made = _Place(real, best.goal / "node_modules" / name, best)
    return made


def packages(modules: Path) -> dict[str, list[str]]:
    """Name → versions of all that lies in a node_modules, at any depth."""
    found: dict[str, set[str]] = {}
    for folder in _packages(modules):
        about = manifest(folder)
        if "version" in about:
            found.setdefault(str(about.get("name", folder.name)), set()).add(str(about["version"]))
    return {name: sorted(found[name]) for name in sorted(found)}


def _packages(modules: Path) -> Iterator[Path]:
    if not modules.is_dir():
        return
    for each in sorted(modules.iterdir()):
        for folder in sorted(each.iterdir()) if each.name.startswith("@") else [each]:
            if folder.is_dir() and not folder.name.startswith("."):
                yield folder
                yield from _packages(folder / "node_modules")


def linked(folder: Path, goal: Path) -> None:
    """Copy a package without what is installed in it, by hard links: neither is written to afterwards."""
    shutil.copytree(
        folder, goal, symlinks=True, copy_function=link, ignore=lambda _, names: {"node_modules"} & set(names)
    )


def link(source: str, goal: str) -> None:
    try:
        os.link(source, goal)
    except OSError:  # of another file system, or one without links
        shutil.copyfile(source, goal)
        shutil.copymode(source, goal)
