"""Named copies of all a local AWS knows: saved while it serves or not, loaded as a whole or not at all.

Loading goes in two steps. What is to come is made ready beside what there is, and a rename decides: before it nothing
has changed; after it `finish` brings the rest about, in this process or, if that is killed, at the server's next start.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pointsman.localaws import control
from pointsman.localaws.control import FACTS, LIFE, LocalAwsError

__all__ = ["Snapshot", "copy_state", "finish", "load", "remove", "save", "saved"]

_MANIFEST: Final = "snapshot.json"
_BESIDE: Final = "beside"
_INCOMING: Final = "incoming"
_PARTIAL, _DONE = f"{_INCOMING}.partial", f"{_INCOMING}.done"
# Of the process, or what a person told it to do: no part of what AWS knows.
_NOT_STATE: Final = frozenset(
    {FACTS, f"{FACTS}.new", LIFE, "up.lock", "server.log", "chaos.json", "chaos.new", _INCOMING, _PARTIAL, _DONE}
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BY_CONTENT: Final = re.compile(r"[0-9a-f]{64}(\.zip)?")  # never changed once written, so a link is a copy
_NOT_COPIED: Final = ("-wal", "-shm", "-journal", ".new")
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True)
class Snapshot:
    """`saved` is in epoch seconds. `size`: bytes of all its files; those unchanged since cost the disk nothing more."""

    name: str
    saved: float
    size: int


def save(directory: Path, shelf: Path, name: str, *, beside: Collection[str] = ()) -> Snapshot:
    """Copy the state in `directory`, and the databases `beside` it, to `shelf`. LocalAwsError when `name` is taken."""
    target = _place(shelf, name)
    if target.exists():
        raise LocalAwsError(f"There is a snapshot {name} already. Remove it first, or take another name.")
    directory = directory.absolute()
    if not directory.exists():
        raise LocalAwsError("There is nothing to save: the local AWS was never started here.")
    draft = shelf / f".{name}.{os.getpid()}"
    _discard(draft)
    draft.mkdir(parents=True)
    try:
        with control.locked(directory / "up.lock", _PATIENCE_S):
            running = control.running(directory)
            if running is None:
                finish(directory)
                copy_state(directory, draft)
            else:
                status, said = control.ask(
                    running, "POST", "/_pointsman/snapshot", timeout=_PATIENCE_S, body={"to": str(draft)}
                )
                if status != 200:
                    raise LocalAwsError(str(said["message"]))
            entries = sorted(each.name for each in draft.iterdir())
            for database in beside:
                if (directory.parent / database).exists():
                    (draft / _BESIDE).mkdir(exist_ok=True)
                    _copy_database(directory.parent / database, draft / _BESIDE / database)
        snapshot = Snapshot(name, time.time(), sum(path.lstat().st_size for path in draft.rglob("*") if path.is_file()))
        facts = {"saved": snapshot.saved, "size": snapshot.size, "entries": entries, "made_by": _versions()}
        there = {each: (draft / _BESIDE / each).exists() for each in beside}
        (draft / _MANIFEST).write_text(json.dumps(facts | {"beside": there}))
        draft.rename(target)
    finally:
        _discard(draft)
    return snapshot


def load(directory: Path, shelf: Path, name: str) -> control.Running | None:
    """Put a snapshot in the place of what `directory` holds; a running local AWS comes back at the same port.

    Killed at any moment, it leaves all of the old state or all of the new one.
    """
    directory = directory.absolute()
    source, facts = _found(shelf, name)
    if facts["made_by"] != _versions():
        raise LocalAwsError(
            f"Snapshot {name} was saved with {_said(facts['made_by'])}, and {_said(_versions())} cannot read all of it."
        )
    running = control.running(directory)
    control.down(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with control.locked(directory / "up.lock", _PATIENCE_S):
            if control.alive(directory):
                raise LocalAwsError("Somebody started the local AWS meanwhile. Try again.")
            finish(directory)
            _copy_tree(source, directory / _PARTIAL)
            (directory / _PARTIAL).rename(directory / _INCOMING)
            finish(directory)
    finally:
        if running is not None:
            running = control.up(directory, port=running.port)
    return running


def saved(shelf: Path) -> list[Snapshot]:
    """All snapshots, oldest first."""
    names = [each.name for each in shelf.iterdir() if _NAME.fullmatch(each.name)] if shelf.exists() else []
    found = [(name, _found(shelf, name)[1]) for name in names]
    return sorted((Snapshot(name, facts["saved"], facts["size"]) for name, facts in found), key=lambda each: each.saved)


def remove(shelf: Path, name: str) -> None:
    source, _ = _found(shelf, name)
    gone = shelf / f".{name}.gone"
    _discard(gone)
    source.rename(gone)
    _discard(gone)


# --- for the server, and for whoever holds its locks ---


def copy_state(directory: Path, target: Path, *, only: str | None = None, but: str | None = None) -> None:
    """Copy what AWS knows, or `only` one entry of it, or all `but` one. Nothing may write to that meanwhile."""
    for entry in _state(directory):
        if only not in (None, entry.name) or entry.name == but:
            continue
        if entry.is_dir():
            _copy_tree(entry, target / entry.name)
        else:
            _copy(entry, target / entry.name)


def finish(directory: Path) -> None:
    """Bring a load about that was decided. The server of `directory` must not be running yet."""
    incoming = directory / _INCOMING
    if incoming.exists():
        facts = json.loads((incoming / _MANIFEST).read_bytes())
        for entry in list(_state(directory)):
            if entry.name not in facts["entries"]:
                _discard(entry)
        for name in facts["entries"]:
            if (incoming / name).exists():  # otherwise it was moved before we were killed
                _discard(directory / name)
                (incoming / name).rename(directory / name)
        for name, kept in facts["beside"].items():
            source, target = incoming / _BESIDE / name, directory.parent / name
            if source.exists() or not kept:
                for suffix in ("", "-wal", "-shm"):
                    target.with_name(name + suffix).unlink(missing_ok=True)
            if source.exists():
                source.rename(target)
        incoming.rename(directory / _DONE)
    _discard(directory / _PARTIAL)
    _discard(directory / _DONE)


# --- files ---


def _state(directory: Path) -> Iterator[Path]:
    return (entry for entry in directory.iterdir() if entry.name not in _NOT_STATE)


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir()
    for entry in source.iterdir():
        if entry.is_dir():
            _copy_tree(entry, target / entry.name)
        else:
            _copy(entry, target / entry.name)


def _copy(source: Path, target: Path) -> None:
    if source.name.endswith(_NOT_COPIED):
        return
    if source.suffix == ".db":
        _copy_database(source, target)
    elif _BY_CONTENT.fullmatch(source.name):
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)


def _copy_database(source: Path, target: Path) -> None:
    """With what is still in its write-ahead log, whoever has it open."""
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file; whoever opens it decides anew


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- the shelf ---


def _place(shelf: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise LocalAwsError(
            f"{name!r} cannot be a snapshot's name: up to 64 letters, digits, dots, dashes and underscores, and the "
            "first a letter or digit."
        )
    return shelf / name


def _found(shelf: Path, name: str) -> tuple[Path, dict[str, Any]]:
    place = _place(shelf, name)
    try:
        return place, json.loads((place / _MANIFEST).read_bytes())
    except FileNotFoundError:
        raise LocalAwsError(f"There is no snapshot {name}.") from None


def _versions() -> dict[str, str]:
    """What moto's state can be read by: the same moto and Python that wrote it."""
    from importlib.metadata import version

    return {"moto": version("moto"), "Python": ".".join(platform.python_version_tuple()[:2])}


def _said(versions: dict[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())
