"""A store of packages by their digest, and of documents by name: in a folder, or in a bucket of S3.

What is in it is whole: a file is there under its name once all of it is. A package is compared with its digest before
it is put there and after it is taken out; a document is replaced only as it was read.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from pointsman.errors import BackupFailed
from pointsman.model import CodeSha256

PACKAGES = "packages"
LARGEST = 300_000_000  # bytes of a zip: Lambda takes 262,144,000 unzipped
_DOCUMENT = 64_000_000


class Item(NamedTuple):
    """What lies under a name, in bytes."""

    name: str
    size: int


class Changed(Exception):
    """A document is no longer what it was when it was read."""


class Shelf(Protocol):
    """Names are paths of letters, digits and `/._-`. `place` is how people call it."""

    place: str

    def items(self, under: str) -> Iterator[Item]: ...
    def read(self, name: str) -> tuple[bytes, str] | None:
        """A document, and a mark of what it is now."""

    def replace(self, name: str, content: bytes, mark: str | None) -> None:
        """Raises Changed where it is not (None: where one is there) what the mark is of."""

    def put(self, name: str, source: Path) -> None: ...
    def fetch(self, name: str, into: Path, most: int) -> bool:
        """False where there is none. Of more than `most` bytes only so many, and one."""


class Vault:
    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    @property
    def place(self) -> str:
        return self.shelf.place

    # Packages

    def packages(self) -> dict[str, int]:
        """Of each that is there its digest in hex, and its size."""
        found = ((re.fullmatch(rf"{PACKAGES}/([0-9a-f]{{64}})\.zip", each.name), each) for each in self.items(PACKAGES))
        return {match[1]: each.size for match, each in found if match}

    def put_package(self, sha256: CodeSha256, source: Path) -> None:
        """Raises BackupFailed where the file is not what its digest says."""
        must_be(sha256, digest_of(source), f"what was to be kept in {self.place}")
        self.shelf.put(self.package(sha256), source)

    def package(self, sha256: CodeSha256) -> str:
        """Its name."""
        return f"{PACKAGES}/{sha256.hex}.zip"

    def fetch_package(self, sha256: CodeSha256, into: Path) -> None:
        """Raises BackupFailed where it is missing, or damaged."""
        if not self.shelf.fetch(self.package(sha256), into, LARGEST):
            raise BackupFailed(
                f"package {self.package(sha256)} is missing",
                where=self.place,
                next="`pointsman backup` puts it there again.",
            )
        must_be(sha256, digest_of(into), f"{self.place}/{self.package(sha256)}")

    def damage(self, sha256: CodeSha256, scratch: Path) -> str:
        """What is wrong with a package, "" where it is whole."""
        try:
            self.fetch_package(sha256, scratch)
        except BackupFailed as error:
            return error.what
        finally:
            scratch.unlink(missing_ok=True)
        return ""

    # Documents

    def items(self, under: str) -> Iterator[Item]:
        return self.shelf.items(under)

    def read(self, name: str) -> tuple[bytes, str] | None:
        found = self.shelf.read(name)
        if found and len(found[0]) > _DOCUMENT:
            raise BackupFailed(f"{name} is {len(found[0])} bytes long, which no document is", where=self.place)
        return found

    def replace(self, name: str, content: bytes, mark: str | None) -> None:
        self.shelf.replace(name, content, mark)


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def sha256_of(digest: bytes) -> CodeSha256:
    return CodeSha256(binascii.b2a_base64(digest, newline=False).decode())


def must_be(sha256: CodeSha256, digest: bytes, what: str) -> None:
    if sha256_of(digest) != sha256:
        raise BackupFailed(
            f"{what} is damaged: its SHA-256 is {digest.hex()}, not {sha256.hex}",
            next="Delete it: `pointsman backup` then fetches it again, as long as a version has it.",
        )


__all__ = ["LARGEST", "PACKAGES", "Changed", "Item", "Shelf", "Vault", "digest_of", "must_be", "sha256_of"]
