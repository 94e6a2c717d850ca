"""A store in a folder: for its owner's eyes only, since environment variables may be secrets."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pointsman.errors import BackupFailed
from pointsman.vault import Changed, Item

_PIECE = 1 << 20


def _must_be_gone(error: OSError) -> None:
    """A folder that may not be read is not an empty one."""
    if not isinstance(error, FileNotFoundError):
        raise error


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)

    def items(self, under: str) -> Iterator[Item]:
        with self._told():
            for folder, folders, files in os.walk(self.root / under, onerror=_must_be_gone):
                folders.sort()
                for file in sorted(files):
                    path = Path(folder, file)
                    if not file.startswith("."):  # what a killed run left half written
                        yield Item(path.relative_to(self.root).as_posix(), path.stat().st_size)

    def read(self, name: str) -> tuple[bytes, str] | None:
        with self._told():
            try:
                content = self._path(name).read_bytes()
            except FileNotFoundError:
                return None
        return content, _mark(content)

    def replace(self, name: str, content: bytes, mark: str | None) -> None:
        with self._told(), self._alone():
            there = self.read(name)
            if (there[1] if there else None) != mark:
                raise Changed(name)
            self._write(name, lambda file: file.write(content))

    def put(self, name: str, source: Path) -> None:
        with self._told(), source.open("rb") as given:
            self._write(name, lambda file: shutil.copyfileobj(given, file, _PIECE))

    def fetch(self, name: str, into: Path, most: int) -> bool:
        with self._told():
            try:
                given = self._path(name).open("rb")
            except FileNotFoundError:
                return False
            with given, into.open("wb") as file:
                left = most + 1
                while left > 0 and (piece := given.read(min(_PIECE, left))):
                    file.write(piece)
                    left -= len(piece)
        return True

    def _path(self, name: str) -> Path:
        if name.startswith("/") or ".." in name.split("/"):
            raise BackupFailed(f"{name!r} is no name in a backup", where=self.place)
        return self.root / name

    def _write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """Under its name once it is whole and on the disk: a power cut leaves the old one, or the new one."""
        path = self._path(name)
        self._make(path.parent)
        handle, part = tempfile.mkstemp(prefix=".part-", dir=path.parent)  # 0600
        try:
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _make(self, folder: Path) -> None:
        """With its parents: `mkdir` gives its mode to the last one alone."""
        for each in (*reversed(folder.parents), folder):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._make(self.root)
        handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{error.filename or self.root}: {error.strerror or error}"
            raise BackupFailed(what, where=f"the backup in {self.place}") from error


def _mark(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


__all__ = ["Folder"]
