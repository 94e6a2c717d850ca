"""Whether a lock is of what the project asks for today. Pure, and without the tool that wrote it: nothing is resolved.

Only what decides the package is compared: for the function's Python and machine, production's groups (but Poetry's
content-hash is of all groups). What cannot be told (requirements that are none, what only a build of the project tells)
makes no claim.
uv.lock: of each project of one's own `[package.metadata]` is what it asked for when it was locked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name as canonical

from pointsman.errors import BuildFailed

Manifest = Mapping[str, Any]
_ELSEWHERE = ("git", "url", "path", "directory", "editable", "virtual", "workspace")  # sources that are no index


class _Asked(NamedTuple):
    name: str
    extras: frozenset[str]
    specifier: SpecifierSet | None  # None: from a place that is no index

    def __str__(self) -> str:
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{self.name}{extras}{self.specifier if self.specifier is not None else ''}"


def refuse_uv(lock: Manifest, own: str, manifest: Callable[[str], Manifest], target: Mapping[str, str]) -> None:
    """Raise BuildFailed where uv.lock is of another pyproject.toml: the project's, or of a member that it needs.

    `own`: the project's folder, relative to the lock's. `manifest` reads the pyproject.toml of such a folder.
    """
    todo = [each for each in lock.get("package", ()) if _folder(each) == own]
    seen: set[str] = set()
    pythons = str(lock.get("requires-python", ""))
    wanted = manifest(own).get("project", {}).get("requires-python")
    # That of a workspace is what all its members have in common.
    if todo and wanted and not lock.get("manifest", {}).get("members") and not _same_pythons(pythons, wanted):
        raise _stale("uv.lock", own, f'requires-python is "{wanted}", and was "{pythons}"', "uv lock")
    by_name: dict[str, list[Manifest]] = {}
    for each in lock.get("package", ()):
        by_name.setdefault(each["name"], []).append(each)
    while todo:
        package = todo.pop()
        folder = _folder(package)
        if folder is None or folder in seen:
            continue
        seen.add(folder)
        _refuse_project(package, folder, manifest(folder), target if _allows(pythons, target) else None)
        for need in (*package.get("dependencies", ()), *_all(package.get("optional-dependencies", {}))):
            todo += by_name.get(need["name"], ())


def _folder(package: Manifest) -> str | None:
    """Of a project of one's own, relative to the lock's folder."""
    source = package.get("source", {})
    return next((source[each] for each in ("virtual", "editable", "directory") if each in source), None)


def _all(groups: Mapping[str, Any]) -> Iterator[Any]:
    for each in groups.values():
        yield from each


def _refuse_project(package: Manifest, folder: str, manifest: Manifest, target: Mapping[str, str] | None) -> None:
    project = manifest.get("project")
    if project is None or "dependencies" in project.get("dynamic", ()):
        return
    metadata = package.get("metadata", {})
    listed = [*metadata.get("requires-dist", ())]
    for group in _used_groups(manifest):
        listed += metadata.get("requires-dev", {}).get(group, ())
    # Sources of a workspace's root hold for its members too.
    sources: set[str] = {canonical(name) for name, each in uv_sources(manifest) if set(_ELSEWHERE) & set(each)}
    sources |= {each["name"] for each in listed if set(_ELSEWHERE) & set(each)}
    try:
        asked = set(_from_text([*project.get("dependencies", ()), *_groups(manifest)], sources, target))
        locked = set(_from_lock(listed, sources, target))
    except (InvalidMarker, InvalidRequirement, InvalidSpecifier):
        return
    if not metadata and package.get("dependencies"):  # of an early uv: only what it found
        asked = {_Asked(each.name, frozenset(), None) for each in asked}
        found = {_Asked(each["name"], frozenset(), None) for each in package["dependencies"]}
        locked = asked & found
    _compare(asked, locked, folder)


def _compare(asked: set[_Asked], locked: set[_Asked], folder: str) -> None:
    for each in sorted(asked - locked, key=str):
        before = [str(other) for other in locked if other.name == each.name]
        how = f"and was locked as {before[0]}" if before else "and the lock does not know that it does"
        raise _stale("uv.lock", folder, f"pyproject.toml asks for {each}, {how}", "uv lock")
    for each in sorted(locked - asked, key=str):
        raise _stale("uv.lock", folder, f"pyproject.toml no longer asks for {each}", "uv lock")


def _from_text(texts: Iterable[str], sources: set[str], target: Mapping[str, str] | None) -> Iterator[_Asked]:
    for text in texts:
        asked = Requirement(text)
        name = canonical(asked.name)
        if _holds(asked.marker, target):
            specifier = None if asked.url or name in sources else asked.specifier
            yield _Asked(name, frozenset(canonical(each) for each in asked.extras), specifier)


def _from_lock(
    listed: Iterable[Mapping[str, Any]], sources: set[str], target: Mapping[str, str] | None
) -> Iterator[_Asked]:
    for each in listed:
        marker = Marker(each["marker"]) if each.get("marker") else None
        if _holds(marker, target) and "extra ==" not in str(marker or ""):
            specifier = None if each["name"] in sources else SpecifierSet(each.get("specifier", ""))
            yield _Asked(each["name"], frozenset(canonical(extra) for extra in each.get("extras", ())), specifier)


def _holds(marker: Marker | None, target: Mapping[str, str] | None) -> bool:
    """uv writes markers in a form of its own (python_version as python_full_version): what they come to is compared.
    Where the lock is for other Pythons than the function's, it left out what holds for all of those."""
    return marker is None or target is None or marker.evaluate(dict(target))


def uv_sources(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, each in manifest.get("tool", {}).get("uv", {}).get("sources", {}).items():
        for one in each if isinstance(each, list) else [each]:
            yield name, one


def _used_groups(manifest: Manifest) -> list[str]:
    """uv exports those that are installed by default, and we leave out `dev`."""
    groups = manifest.get("tool", {}).get("uv", {}).get("default-groups", ())
    groups = manifest.get("dependency-groups", {}) if groups == "all" else groups
    return [canonical(each) for each in groups if canonical(each) != "dev"]


def _groups(manifest: Manifest) -> Iterator[str]:
    groups: dict[str, Any] = {canonical(name): each for name, each in manifest.get("dependency-groups", {}).items()}

    def listed(name: str, above: tuple[str, ...] = ()) -> Iterator[str]:
        for each in groups.get(name, ()) if name not in above else ():
            if isinstance(each, str):
                yield each
            elif "include-group" in each:
                yield from listed(canonical(each["include-group"]), (*above, name))

    for name in _used_groups(manifest):
        yield from listed(name)


def _same_pythons(locked: str, wanted: str) -> bool:
    try:
        first, second = SpecifierSet(locked), SpecifierSet(wanted)
    except InvalidSpecifier:
        return True
    numbers = [f"3.{minor}.{patch}" for minor in range(30) for patch in (0, 1, 2, 3, 9, 99)]
    return all((each in first) == (each in second) for each in ("2.7.18", *numbers, "4.0.0"))


def _allows(pythons: str, target: Mapping[str, str]) -> bool:
    try:
        return target["python_full_version"] in SpecifierSet(pythons)
    except InvalidSpecifier:
        return False


def refuse(
    lock: str, asked: Iterable[tuple[str, SpecifierSet | None]], locked: Mapping[str, Iterable[str]], command: str
) -> None:
    """Raise BuildFailed where a lock lacks what the project asks for, or has it in no release that would do.

    `locked`: by canonical name the releases that it has, "" for one that is not known.
    """
    for name, specifier in asked:
        if name not in locked:
            raise _stale(lock, ".", f"the project asks for {name}, and the lock does not know it", command)
        versions = [*locked[name]]
        if (
            specifier
            and "" not in versions
            and not any(specifier.contains(each, prereleases=True) for each in versions)
        ):
            what = f"the project asks for {name}{specifier}, and {' and '.join(versions)} is locked"
            raise _stale(lock, ".", what, command)


def refuse_by_hash(lock: Manifest, manifest: Manifest) -> None:
    """The same by the hash that poetry.lock has of [tool.poetry], where that is all that the project asks by.

    What Poetry takes of [project] changed between its releases: such projects are not judged by it.
    """
    kept = lock.get("metadata", {}).get("content-hash")
    table = manifest.get("tool", {}).get("poetry")
    if not kept or table is None or "project" in manifest or "dependency-groups" in manifest:
        return
    decides = {each: table.get(each) for each in ("dependencies", "source", "extras", "dev-dependencies")}
    decides |= {"group": table["group"]} if "group" in table else {}
    if hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest() != kept:
        what = "pyproject.toml has other dependencies, groups, extras or sources than when it was locked (content-hash)"
        raise _stale("poetry.lock", ".", what, "poetry lock")


def _stale(lock: str, folder: str, what: str, command: str) -> BuildFailed:
    place = f"{folder}/pyproject.toml: " if folder != "." else ""
    return BuildFailed(
        f"{lock} is older than what it locks: {place}{what}", next=f"Run `{command}`, and commit {lock}."
    )


__all__ = ["refuse", "refuse_by_hash", "refuse_uv"]
