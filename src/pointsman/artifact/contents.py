"""What a package came to, kept beside it: which files from where, which were left out, and what decided.

`<function>-<16 hex digits>.about` is JSON. One that is missing or damaged costs an explanation and nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from pointsman.artifact import notes
from pointsman.errors import PointsmanError
from pointsman.model import Artifact, CodeSha256, Value, counted, from_json, to_json

Origin = Literal["own", "shared", "dependency"]
LARGEST = 20


class About(Value, frozen=True, kw_only=True):
    """`origins`: o(wn), s(hared) or d(ependency) for each file, in the order of the names' bytes.
    `settings`: key → value, as text. `packages`: name → versions."""

    settings: dict[str, str] = msgspec.field(default_factory=dict)
    packages: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    origins: str = ""
    left_out: tuple[tuple[str, str], ...] = ()


class Listed(Value, frozen=True, kw_only=True):
    """A file of a package. `size` and `packed` (in the zip) are in bytes."""

    name: str
    size: int
    packed: int
    origin: Origin


class Left(Value, frozen=True, kw_only=True):
    """What is not in it, though it lies in the sources; a folder's name ends in `/`."""

    name: str
    rule: str


class Listing(Value, frozen=True, kw_only=True):
    """All of a package. `largest`: the names of the twenty largest files."""

    function: str
    sha256: CodeSha256
    size: int
    unzipped: int
    files: tuple[Listed, ...]
    largest: tuple[str, ...]
    left_out: tuple[Left, ...]


class Contents(Value, frozen=True, kw_only=True):
    """A package as it is compared with another: `files` is name → (digest, mode, origin)."""

    path: str
    sha256: CodeSha256
    files: dict[str, tuple[bytes, int, Origin]]
    about: About | None


class File(Value, frozen=True, kw_only=True):
    """A file that differs: added, removed, or changed in its content, or only in its mode."""

    name: str
    how: Literal["added", "removed", "content", "mode"]
    origin: Origin


class Package(Value, frozen=True, kw_only=True):
    """A dependency with other versions than before; none: it was not there, or is not now."""

    name: str
    was: tuple[str, ...]
    now: tuple[str, ...]


class Setting(Value, frozen=True, kw_only=True):
    """A key with another value than before; None: it had none."""

    key: str
    was: str | None
    now: str | None


class Difference(Value, frozen=True, kw_only=True):
    """Why a package is not the last one. `last`: that one's digest, None where there is none."""

    function: str
    sha256: CodeSha256
    last: CodeSha256 | None
    why: str
    files: tuple[File, ...] = ()
    packages: tuple[Package, ...] = ()
    settings: tuple[Setting, ...] = ()


def keep(made: Artifact, about: About) -> None:
    """Note it beside the package. Raises OSError."""
    path = _beside(Path(made.path))
    data = to_json(about)
    if path.is_file() and path.read_bytes() == data:
        return
    part = path.with_name(f".{path.stem}-{os.urandom(8).hex()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def of(path: Path) -> About | None:
    try:
        return from_json(_beside(path).read_bytes(), About)
    except (OSError, ValueError, PointsmanError):
        return None


def _beside(path: Path) -> Path:
    return path.with_suffix(".about")


def listing(made: Artifact) -> Listing:
    """Raises OSError, BadZipFile where the package is gone or broken."""
    about = of(Path(made.path)) or About()
    sizes = notes.sizes(made)
    names = sorted(sizes, key=str.encode)
    origins = _origins(about, len(names))
    files = [
        Listed(name=name, size=sizes[name][0], packed=sizes[name][1], origin=origin)
        for name, origin in zip(names, origins, strict=True)
    ]
    return Listing(
        function=made.function,
        sha256=made.sha256,
        size=made.size,
        unzipped=made.unzipped,
        files=tuple(files),
        largest=tuple(each.name for each in sorted(files, key=lambda each: (-each.size, each.name))[:LARGEST]),
        left_out=tuple(Left(name=name, rule=rule) for name, rule in about.left_out),
    )


def contents(made: Artifact) -> Contents:
    about = of(Path(made.path))
    held = notes.inventory(made)
    names = sorted(held, key=str.encode)
    origins = _origins(about or About(), len(names))
    files = {name: (held[name].digest, held[name].mode, origin) for name, origin in zip(names, origins, strict=True)}
    return Contents(path=made.path, sha256=made.sha256, files=files, about=about)


def _origins(about: About, count: int) -> list[Origin]:
    known: dict[str, Origin] = {"o": "own", "s": "shared", "d": "dependency"}
    told = about.origins if len(about.origins) == count else "o" * count
    return [known.get(each, "own") for each in told]


def compare(function: str, last: Contents | None, now: Contents) -> Difference:
    """Pure."""
    if last is None:
        return Difference(function=function, sha256=now.sha256, last=None, why="it is the first one here")
    files = []
    for name in sorted(last.files.keys() | now.files.keys()):
        was, is_ = last.files.get(name), now.files.get(name)
        if was and is_ and was[:2] == is_[:2]:
            continue
        how: Literal["added", "removed", "content", "mode"]
        how = "added" if not was else "removed" if not is_ else "content" if was[0] != is_[0] else "mode"
        files.append(File(name=name, how=how, origin=(is_ or was or (b"", 0, "own"))[2]))
    one, other = last.about or now.about or About(), now.about or About()
    packages = [
        Package(name=name, was=one.packages.get(name, ()), now=other.packages.get(name, ()))
        for name in sorted(one.packages.keys() | other.packages.keys())
        if one.packages.get(name) != other.packages.get(name)
    ]
    settings = [
        Setting(key=key, was=one.settings.get(key), now=other.settings.get(key))
        for key in sorted(one.settings.keys() | other.settings.keys())
        if one.settings.get(key) != other.settings.get(key)
    ]
    return Difference(
        function=function,
        sha256=now.sha256,
        last=last.sha256,
        why=_why(last.sha256 == now.sha256, files, packages, settings),
        files=tuple(files),
        packages=tuple(packages),
        settings=tuple(settings),
    )


def _why(identical: bool, files: list[File], packages: list[Package], settings: list[Setting]) -> str:
    """In one sentence."""
    own = [each for each in files if each.origin != "dependency"]
    causes = [
        *([f"{counted(len(own), 'file')} of yours"] if own else ()),
        *([f"{counted(len(packages), 'package')} it depends on"] if packages else ()),
        *([", ".join(f"`{each.key}`" for each in settings)] if settings else ()),
    ]
    if identical:
        return "identical to the last one" + (f", though {', '.join(causes)} changed" if causes else "")
    if not causes and files:
        return f"{counted(len(files), 'file')} of the same packages came out otherwise"
    return f"changed: {', '.join(causes)}" if causes else "the same files, packed by another Pointsman"
