"""What a package holds, noted beside it: so that the next build need not look into it, nor read what did not change.

A note is `<function>-<16 hex digits>.note` beside its zip: MessagePack, then its SHA-256. One that is missing, damaged,
or by another maker costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

from pointsman.artifact.archive import MAKER, Entry
from pointsman.model import Artifact, CodeSha256, from_json, to_json

if TYPE_CHECKING:
    import zipfile


class Note(NamedTuple):
    """A package that is, or was, here; and what it holds, in its order."""

    made: Artifact
    entries: list[Entry]


class _Written(msgspec.Struct, array_like=True):
    """`maker` tells by which rules the bytes were made: only by the same ones can they be used for another zip."""

    maker: str
    made: bytes  # JSON
    entries: list[Entry]


class Held(NamedTuple):
    """One file of a package: the SHA-256 of its content, its size, its mode (0o100644, 0o100755, 0o120777: a link)."""

    digest: bytes
    size: int
    mode: int


def keep(made: Artifact, entries: list[Entry]) -> None:
    """Note what a package holds. Raises OSError."""
    path = _beside(Path(made.path))
    data = msgspec.msgpack.encode(_Written(MAKER, to_json(made), entries))
    part = path.with_name(f".{path.stem}-{os.urandom(8).hex()}.part")
    try:
        part.write_bytes(data + hashlib.sha256(data).digest())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def of(path: Path, sha256: CodeSha256) -> Note | None:
    """The note of the zip at `path`, if it is of these bytes."""
    note = _read(_beside(path))
    return note if note and note.made.sha256 == sha256 else None


def newest(out: Path, function: str) -> Note | None:
    """Of the function's newest package that has one and is here, its `path` as of now."""
    try:
        with os.scandir(out) as found:
            names = [each for each in found if _is_note(each.name, function)]
            names.sort(key=lambda each: each.stat().st_mtime_ns, reverse=True)
    except OSError:
        return None
    for name in names:
        path = Path(name.path).with_suffix(".zip")
        if (note := _read(Path(name.path))) and path.is_file():
            return note._replace(made=msgspec.structs.replace(note.made, path=str(path)))
    return None


def inventory(made: Artifact) -> dict[str, Held]:
    """What a package holds, by name: from its note, else out of the zip itself. Raises OSError, BadZipFile."""
    if note := of(Path(made.path), made.sha256):
        return {entry.name: Held(entry.digest, entry.size, entry.mode) for entry in note.entries}
    return held(Path(made.path))


def held(path: Path | IO[bytes]) -> dict[str, Held]:
    """The same of any zip, which is read whole."""
    import zipfile

    with zipfile.ZipFile(path) as zipped:
        return {
            each.filename: Held(hashlib.sha256(zipped.read(each)).digest(), each.file_size, _mode(each))
            for each in members(zipped)
        }


def modes(made: Artifact) -> dict[str, tuple[int, int]]:
    """(size, mode) of each file in it: less than `inventory`, and cheap without a note too."""
    return {name: (size, mode) for name, size, _, mode in _listed(made)}


def sizes(made: Artifact) -> dict[str, tuple[int, int]]:
    """(size, bytes in the zip) of each file in it."""
    return {name: (size, packed) for name, size, packed, _ in _listed(made)}


def _listed(made: Artifact) -> list[tuple[str, int, int, int]]:
    """(name, size, bytes in the zip, mode)"""
    if note := of(Path(made.path), made.sha256):
        return [(entry.name, entry.size, entry.packed, entry.mode) for entry in note.entries]
    import zipfile

    with zipfile.ZipFile(made.path) as zipped:
        return [(each.filename, each.file_size, each.compress_size, _mode(each)) for each in members(zipped)]


def members(zipped: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """A zip's files, without its folders."""
    return [each for each in zipped.infolist() if not each.is_dir()]


# Made at import, for threads read notes side by side: see `model.from_json`.
_decode = msgspec.msgpack.Decoder(_Written).decode


def _mode(info: zipfile.ZipInfo) -> int:
    # A zip from Windows has no permissions: Lambda lets everything in it be executed.
    if info.create_system != 3:
        return 0o100755
    mode = info.external_attr >> 16
    return mode if mode >> 12 else 0o100000 | mode  # zipfile.writestr and others leave the kind out: it is a file


def _beside(path: Path) -> Path:
    return path.with_suffix(".note")


def _is_note(name: str, function: str) -> bool:
    stem = name[len(function) + 1 : -len(".note")]
    return name == f"{function}-{stem}.note" and len(stem) == 16


def _read(path: Path) -> Note | None:
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            return None
        note = _decode(data[:-32])
        return Note(from_json(note.made, Artifact), note.entries) if note.maker == MAKER else None
    except (OSError, ValueError):
        return None
