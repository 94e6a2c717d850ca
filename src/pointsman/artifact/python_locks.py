"""Lock files of Python's tools → pinned requirements with hashes, as uv installs them. Pure: text in, lines out.

What a lock pins is installed as it stands (`--no-deps`): nothing is resolved again, and the tool that wrote the lock is
not needed. Formats: https://python-poetry.org/docs (poetry.lock 1.x and 2.x), https://pdm-project.org (pdm.lock 4.x),
https://github.com/pypa/pipfile (Pipfile.lock 6).
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from packaging.markers import InvalidMarker, Marker, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name as canonical
from packaging.version import Version

from pointsman.artifact import stale_locks
from pointsman.errors import BuildFailed


class Pin(NamedTuple):
    """One requirement: `line` is uv's, or `path` a local folder or archive, relative to the lock's folder."""

    line: str
    path: str | None = None


class Locked(NamedTuple):
    pins: list[Pin]
    indexes: list[str]


def environment(python: str, machine: str) -> dict[str, str]:
    """PEP 508's, of CPython on Lambda. python: "3.13.9"; machine: "x86_64" or "aarch64"."""
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "extra": "",
    }


def poetry(lock: str, manifest: Mapping[str, Any], target: Mapping[str, str]) -> Locked:
    """What the project's main dependencies come to. Groups and extras of its own are left out."""
    document = _toml(lock, "poetry.lock")
    packages = document.get("package", [])
    _refuse_stale_poetry(document, manifest, target)
    old_hashes = document.get("metadata", {}).get("files", {})  # lock-version 1.0
    if any("groups" in each for each in packages):  # 2.1: the lock itself says what belongs to what
        chosen = [each for each in packages if not each.get("optional") and _in_main(each, target)]
    else:
        chosen = _reached(packages, manifest, target)
    indexes: list[str] = []
    pins = []
    for each in chosen:
        name, version = each["name"], each["version"]
        source = each.get("source", {})
        hashes = [file["hash"] for file in each.get("files") or old_hashes.get(name, ())]
        match source.get("type", ""):
            case "directory" | "file":
                pins.append(Pin(name, source["url"]))
            case "git":
                pins.append(Pin(_from_git(name, source["url"], source["resolved_reference"], source)))
            case "url":
                pins.append(Pin(_pinned(f"{name} @ {source['url']}", hashes)))
            case kind:
                if kind == "legacy":
                    indexes.append(source["url"])
                pins.append(Pin(_pinned(f"{name}=={version}", hashes)))
    return Locked(pins, _beside_pypi(indexes))


def _refuse_stale_poetry(document: Mapping[str, Any], manifest: Mapping[str, Any], target: Mapping[str, str]) -> None:
    locked: dict[str, list[str]] = {}
    for each in document.get("package", ()):
        if "main" in each.get("groups", ("main",)):
            from_index = each.get("source", {}).get("type", "legacy") == "legacy"
            locked.setdefault(canonical(each["name"]), []).append(str(each["version"]) if from_index else "")
    table = manifest.get("tool", {}).get("poetry", {})
    itself = canonical(str(table.get("name") or manifest.get("project", {}).get("name") or ""))
    asked = [
        (name, _specifiers(str(said.get("version", "*") if isinstance(said, dict) else said)))
        for name, said in _main(manifest)
        if name not in (itself, *UNLOCKED)
        and _wanted(said, target)
        and not (isinstance(said, dict) and "platform" in said)
    ]
    stale_locks.refuse("poetry.lock", asked, locked, "poetry lock")
    stale_locks.refuse_by_hash(document, manifest)


def _in_main(package: Mapping[str, Any], target: Mapping[str, str]) -> bool:
    if "main" not in package["groups"]:
        return False
    markers = package.get("markers", "")
    return _holds(markers.get("main", "") if isinstance(markers, dict) else markers, target)


UNLOCKED = {"pip", "setuptools", "distribute", "wheel"}  # never in locks of Poetry before 1.2


def _reached(
    packages: list[dict[str, Any]], manifest: Mapping[str, Any], target: Mapping[str, str]
) -> list[dict[str, Any]]:
    """By walking from the project's dependencies: what an older lock does not say. Where a lock holds several releases
    of one package, the newest counts that all who ask for it allow: so the walk begins anew when one is ruled out."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for each in packages:
        by_name.setdefault(canonical(each["name"]), []).append(each)
    for several in by_name.values():
        several.sort(key=lambda package: Version(package["version"]), reverse=True)
    table = manifest.get("tool", {}).get("poetry", {})
    itself = canonical(str(table.get("name") or manifest.get("project", {}).get("name") or ""))
    while True:
        found: dict[str, dict[str, Any]] = {}
        seen: set[tuple[str, str]] = set()
        todo = list(_main(manifest))
        while todo:
            name, said = todo.pop()
            if not _wanted(said, target) or name == itself or (name in UNLOCKED and name not in by_name):
                continue
            package = _fitting(name, by_name, said, target)
            if found.get(name, package) is not package:
                break  # the one chosen before is ruled out
            found[name] = package
            todo += _asked(name, package, said, seen)
        else:
            return [found[name] for name in sorted(found)]


def _fitting(
    name: str, by_name: dict[str, list[dict[str, Any]]], said: Any, target: Mapping[str, str]
) -> dict[str, Any]:
    """The newest release that may be meant. Those that may not be are taken from `by_name`."""
    if name not in by_name:
        raise BuildFailed(f"poetry.lock does not know {name}", next="Run `poetry lock`, and commit the file.")
    allowed = _specifiers(str(said.get("version", "*") if isinstance(said, dict) else said))
    there = by_name[name]
    fitting = [each for each in there if _for_python(each, target) and (not allowed or each["version"] in allowed)]
    by_name[name] = fitting or there
    return by_name[name][0]


def _asked(name: str, package: Mapping[str, Any], said: Any, seen: set[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """What a package asks for, with the extras that are asked of it; each once."""
    for extra in ("", *(each.lower() for each in (said.get("extras", ()) if isinstance(said, dict) else ()))):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        listed = package.get("extras", {}).get(extra, ()) if extra else ()
        named = {canonical(Requirement(each.replace("(", "").replace(")", "")).name) for each in listed}
        for other, specs in package.get("dependencies", {}).items():
            for spec in specs if isinstance(specs, list) else [specs]:
                optional = isinstance(spec, dict) and spec.get("optional")
                if extra and canonical(other) in named:
                    yield canonical(other), _without_extra(spec)
                elif not extra and not optional:
                    yield canonical(other), spec


def _main(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, version or table) of what the project needs in production."""
    for text in manifest.get("project", {}).get("dependencies", ()):
        try:
            asked = Requirement(text)
        except InvalidRequirement as error:
            raise BuildFailed(f"{text!r} is no requirement: {error}", where="pyproject.toml") from error
        said = {"version": str(asked.specifier), "extras": sorted(asked.extras), "markers": str(asked.marker or "")}
        yield canonical(asked.name), said
    for name, specs in manifest.get("tool", {}).get("poetry", {}).get("dependencies", {}).items():
        if canonical(name) != "python":
            for spec in specs if isinstance(specs, list) else [specs]:
                if not (isinstance(spec, dict) and spec.get("optional")):
                    yield canonical(name), spec


def _without_extra(spec: Any) -> Any:
    """A dependency of an extra that was asked for: its marker `extra == "…"` is met."""
    if isinstance(spec, dict) and "extra" in str(spec.get("markers", "")):
        return {**spec, "markers": ""}
    return spec


def _wanted(said: Any, target: Mapping[str, str]) -> bool:
    if not isinstance(said, dict):
        return True
    return _allow(said.get("python", "*"), target) and _holds(said.get("markers", ""), target)


def _for_python(package: Mapping[str, Any], target: Mapping[str, str]) -> bool:
    return _allow(package.get("python-versions", "*"), target)


def _allow(pythons: str, target: Mapping[str, str]) -> bool:
    """As Poetry has it: `<=3.9` is of all releases of 3.9, `<=3.9.7` of those up to the seventh."""
    return all(
        each.contains(target["python_full_version" if each.version.count(".") > 1 else "python_version"])
        for each in _specifiers(pythons) or ()
    )


def _specifiers(text: str) -> SpecifierSet | None:
    """Of Poetry's constraints those that are PEP 440's too, and ^ and ~; None for others."""
    parts = []
    for part in (each.strip() for each in text.split(",")):
        numbers = part[1:].split(".")
        if part in ("", "*"):
            continue
        if part[0] in "^~" and part[1:2] != "=" and all(each.isdigit() for each in numbers):
            least = [int(each) for each in numbers]
            kept = next((i for i, each in enumerate(least) if each), len(least) - 1) if part[0] == "^" else 0
            kept = kept if part[0] == "^" else min(1, len(least) - 1)
            above = [*least[:kept], least[kept] + 1]
            parts += [f">={part[1:]}", f"<{'.'.join(map(str, above))}"]
        else:
            parts.append(f"=={part}" if part[0].isdigit() else part)
    try:
        return SpecifierSet(",".join(parts), prereleases=True)
    except InvalidSpecifier:
        return None


def pdm(lock: str, target: Mapping[str, str], manifest: Mapping[str, Any] | None = None) -> Locked:
    """The default group. uv judges the markers, but for local packages, of which a wheel is built before.

    With what the project asks for, a lock without it is refused.
    """
    document = _toml(lock, "pdm.lock")
    packages = document.get("package", [])
    if packages and not any("groups" in each for each in packages):
        raise BuildFailed(
            "pdm.lock does not tell which packages are for production",
            next="Write it with `pdm lock -S inherit_metadata`, and commit it.",
        )
    locked: dict[str, list[str]] = {}
    for each in packages:
        if "default" in each.get("groups", ()):
            from_index = not {"path", "git", "url"} & each.keys()
            locked.setdefault(canonical(each["name"]), []).append(str(each.get("version", "")) if from_index else "")
    project, settings = (manifest or {}).get("project", {}), (manifest or {}).get("tool", {}).get("pdm", {})
    overridden = {canonical(each) for each in settings.get("resolution", {}).get("overrides", {})}
    asked: list[tuple[str, SpecifierSet | None]] = []
    with contextlib.suppress(BuildFailed):  # of requirements that are none nothing is claimed
        asked = [
            (name, None if name in overridden else SpecifierSet(said["version"]))
            for name, said in _main({"project": project})
            if _wanted(said, target)
        ]
    stale_locks.refuse("pdm.lock", asked, locked, "pdm lock")
    pins = []
    for each in packages:
        if "default" not in each.get("groups", ()) or each.get("extras"):  # an entry with extras repeats one without
            continue
        name, marker = each["name"], each.get("marker", "")
        hashes = [file["hash"] for file in each.get("files", ())]
        if "path" in each:
            pins += [Pin(name, each["path"])] if _holds(marker, target, "pdm.lock") else []
        elif "git" in each:
            pins.append(Pin(_from_git(name, each["git"], each["revision"], each, marker)))
        elif "url" in each:
            pins.append(Pin(_pinned(f"{name} @ {each['url']}{_below(each)}", hashes, marker)))
        else:
            pins.append(Pin(_pinned(f"{name}=={each['version']}", hashes, marker)))
    return Locked(pins, [])


def pipfile(lock: str, target: Mapping[str, str], asked: str = "") -> Locked:
    """The default section. uv judges the markers, but for local packages, of which a wheel is built before.

    `asked`: Pipfile, without all of which a lock is refused.
    """
    try:
        document = json.loads(lock)
    except ValueError as error:
        raise BuildFailed(str(error), where="Pipfile.lock") from error
    locked: dict[str, list[str]] = {
        canonical(name): [each.get("version", "").lstrip("=")] for name, each in document.get("default", {}).items()
    }
    wanted = [
        (canonical(name), _specifiers(str(said.get("version", "*") if isinstance(said, dict) else said)))
        for name, said in _toml(asked, "Pipfile").get("packages", {}).items()
        # `sys_platform = "…"` and the like are markers, too
        if not isinstance(said, dict) or (_wanted(said, target) and not default_environment().keys() & said.keys())
    ]
    stale_locks.refuse("Pipfile.lock", wanted, locked, "pipenv lock")
    pins = []
    for name, each in document.get("default", {}).items():
        hashes, marker = each.get("hashes", ()), each.get("markers", "")
        place = each.get("path") or each.get("file", "")
        if "git" in each:
            pins.append(Pin(_from_git(name, each["git"], each["ref"], each, marker)))
        elif "://" in place:
            pins.append(Pin(_pinned(f"{name} @ {place}{_below(each)}", hashes, marker)))
        elif place:
            pins += [Pin(name, place)] if _holds(marker, target, "Pipfile.lock") else []
        else:
            pins.append(Pin(_pinned(f"{name}{each['version']}", hashes, marker)))
    return Locked(pins, _beside_pypi(each["url"] for each in document.get("_meta", {}).get("sources", ())))


def _beside_pypi(indexes: Iterable[str]) -> list[str]:
    """Without PyPI, whatever the lock calls it: that is asked anyway, or the mirror that this machine has of it."""
    return list(dict.fromkeys(each for each in indexes if not _PYPI.fullmatch(each)))


_PYPI = re.compile(r"https?://(?:[^/@]*@)?(?:www\.)?pypi\.(?:python\.)?org(?:/simple|/pypi)?/?", re.IGNORECASE)


def _from_git(name: str, url: str, commit: str, about: Mapping[str, Any], marker: str = "") -> str:
    return _pinned(f"{name} @ git+{url}@{commit}{_below(about)}", (), marker)


def _below(about: Mapping[str, Any]) -> str:
    return f"#subdirectory={about['subdirectory']}" if about.get("subdirectory") else ""


def _pinned(pin: str, hashes: Iterable[str], marker: str = "") -> str:
    return " ".join([pin, *([f"; {marker}"] if marker else ()), *(f"--hash={each}" for each in sorted(hashes))])


def _holds(marker: str, target: Mapping[str, str], lock: str = "poetry.lock") -> bool:
    try:
        return not marker or Marker(marker).evaluate(dict(target))
    except InvalidMarker as error:
        raise BuildFailed(f"the marker {marker!r} is not one: {error}", where=lock) from error


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BuildFailed(str(error), where=name) from error
