"""A byte-reproducible zip: equal members give equal bytes, whatever machine, checkout, umask or Python wrote them.

`zipfile` is not used to write: what it puts into the headers has changed between Python versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pointsman.errors import BuildFailed


class Member(NamedTuple):
    """One file of a package: its `/`-separated name in the zip, and where its content is; of a symlink the target."""

    name: str
    path: Path
    executable: bool = False
    link: str | None = None


class Written(NamedTuple):
    """`digest` is the SHA-256 of the whole zip, `contents` that of what went into it; sizes in bytes."""

    digest: bytes
    size: int
    unzipped: int
    files: int
    contents: bytes = b""


LEVEL = 6
UNIX = 3 << 8
UTF8 = 0x0800
DATE = 0x0021  # 1980-01-01, the first day a zip can tell; at 00:00:00


def write(members: Iterable[Member], to: BinaryIO) -> Written:
    """Write the members, sorted by the bytes of their names; there must not be two of one name. ≤ 4 GiB in all."""
    import hashlib
    import struct
    import zlib

    digest, size = hashlib.sha256(), 0

    def put(data: bytes) -> None:
        nonlocal size
        to.write(data)
        digest.update(data)
        size += len(data)

    directory: list[bytes] = []
    unzipped, inventory = 0, hashlib.sha256()
    for name, member, mode, data in _contents(members):
        inventory.update(_line(name, mode, data))
        body, method = _deflated(data), zlib.DEFLATED
        if len(body) >= len(data):
            body, method = data, 0
        needs = 20 if method else 10
        flags = 0 if name.isascii() else UTF8
        facts = struct.pack(
            "<5H3L2H", needs, flags, method, 0, DATE, zlib.crc32(data), len(body), len(data), len(name), 0
        )
        if size + len(name) + len(body) + 30 > 0xFFFFFFFF:
            raise BuildFailed(f"the package passes 4 GiB at {member.name}", next="Lambda takes 250 MB, unzipped.")
        directory.append(
            struct.pack("<4sH", b"PK\1\2", UNIX | 20) + facts + struct.pack("<3H2L", 0, 0, 0, mode << 16, size) + name
        )
        put(b"PK\3\4" + facts + name)
        put(body)
        unzipped += len(data)
    start, count = size, len(directory)
    put(b"".join(directory))
    end, length = size, size - start
    if count > 0xFFFE or end > 0xFFFFFFFE:  # Zip64: its own end record, and a locator pointing at it
        put(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, UNIX | 45, 45, 0, 0, count, count, length, start))
        put(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
        count, length, start = 0xFFFF, min(length, 0xFFFFFFFF), min(start, 0xFFFFFFFF)
    put(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, start, 0))
    return Written(digest.digest(), size, unzipped, len(directory), inventory.digest())


def contents(members: Iterable[Member]) -> bytes:
    """What `write` would tell as `contents`, without a zip: equal contents are packed into equal bytes."""
    import hashlib

    inventory = hashlib.sha256()
    for name, _member, mode, data in _contents(members):
        inventory.update(_line(name, mode, data))
    return inventory.digest()


def _contents(members: Iterable[Member]) -> Iterator[tuple[bytes, Member, int, bytes]]:
    for name, member in sorted((member.name.encode(), member) for member in members):
        mode = 0o120777 if member.link is not None else 0o100755 if member.executable else 0o100644
        yield name, member, mode, _content(member)


def _line(name: bytes, mode: int, data: bytes) -> bytes:
    import hashlib

    return b"%d %o %s %s\n" % (len(name), mode, name, hashlib.sha256(data).digest())


def _deflated(data: bytes) -> bytes:
    """Raw deflate. The only place where the machine's zlib shows in the bytes (DESIGN.md)."""
    import zlib

    machine = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush()


def _content(member: Member) -> bytes:
    if member.link is not None:
        return member.link.encode()
    try:
        return member.path.read_bytes()
    except OSError as error:
        raise BuildFailed(
            f"{member.name} cannot be read: {error.strerror}", next="Make it readable, or `exclude` it."
        ) from error
