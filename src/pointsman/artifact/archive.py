"""A byte-reproducible zip: equal members give equal bytes, whatever machine, checkout, umask or Python wrote them.

`zipfile` is not used to write: what it puts into the headers has changed between Python versions. The machine's zlib
is not used either: there are several, and they deflate to other bytes (DESIGN.md).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, TypeAlias

import deflate

from pointsman.errors import BuildFailed

Seen: TypeAlias = tuple[int, int, int, int]  # of a file: size, mtime_ns, ctime_ns, inode
YOUNG = 2_000_000_000  # ns in which two changes may look the same; as coarse as file systems' times get (FAT)


class Member(NamedTuple):
    """One file of a package: its `/`-separated name in the zip, and where its content is; of a symlink the target.

    `seen` was looked up before the content is read, so that a change in between shows at the next look.
    """

    name: str
    path: str | os.PathLike[str]
    executable: bool = False
    link: str | None = None
    seen: Seen | None = None

    @property
    def mode(self) -> int:
        return 0o120777 if self.link is not None else 0o100755 if self.executable else 0o100644


class Entry(NamedTuple):
    """One member as it lies in a zip: `digest` is the content's SHA-256, `packed` the bytes it takes there.

    `seen` is of the file it was read from; None for one that was too young to be known by it (packing.py).
    """

    name: str
    mode: int
    size: int
    digest: bytes
    crc: int
    packed: int
    method: int
    seen: Seen | None = None

    @property
    def length(self) -> int:
        """Bytes of header, name and body."""
        return 30 + len(self.name.encode()) + self.packed


class Written(NamedTuple):
    """`digest` is the SHA-256 of the whole zip; sizes in bytes."""

    digest: bytes
    size: int
    unzipped: int
    files: int


# What decides the bytes, beside the members. libdeflate's output does not depend on the processor, but may on its
# version: so that is pinned. Its level 5 is as small as `zip -r`, and 4 takes two thirds of the time. What that loses
# is less than zip's longer headers take, on our trees (bench/package.py), but not for native libraries, where most
# bytes are. Below SMALL, level 1 loses less than a header too, and takes half.
SMALL, LEVEL_OF_SMALL, LEVEL, LEVEL_OF_NATIVE = 8192, 1, 4, 5
MAKER = f"3 deflate-{deflate.__version__} {SMALL} {LEVEL_OF_SMALL} {LEVEL} {LEVEL_OF_NATIVE}"
STORED, DEFLATED = 0, 8
UNIX = 3 << 8
UTF8 = 0x0800
DATE = 0x0021  # 1980-01-01, the first day a zip can tell; at 00:00:00
LIMIT = 0xFFFFFFFF
PACKED_ALREADY = (
    *(
        b"\x1f\x8b\x08",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"GIF8",
        b"wOF2",
        b"wOFF",
        b"\xfd7zXZ\0",
        b"BZh",
        b"\x28\xb5\x2f\xfd",
    ),
    *(b"7z\xbc\xaf\x27\x1c", b"\x04\x22\x4d\x18", b"OggS", b"ID3"),
)
SAMPLED, SAMPLE = 1 << 20, 1 << 16


def packed(data: bytes) -> tuple[int, bytes | bytearray]:
    """(method, body): deflated where that makes it smaller. Decided by the content alone, never by its name."""
    if not data or data.startswith(PACKED_ALREADY) or (data[:4] == b"PK\3\4" and data[8:9] == b"\x08"):
        return STORED, data
    level = LEVEL_OF_SMALL if len(data) < SMALL else LEVEL_OF_NATIVE if data.startswith(b"\x7fELF") else LEVEL
    if len(data) > SAMPLED:  # saves the time, and for a large member the memory, of an attempt that gains nothing
        starts = (0, len(data) // 2, len(data) - SAMPLE)
        samples = [data[start : start + SAMPLE] for start in starts]
        if sum(len(deflate.deflate_compress(each, level)) for each in samples) > 0.98 * SAMPLE * len(samples):
            return STORED, data
    body = deflate.deflate_compress(data, level)
    return (DEFLATED, body) if len(body) < len(data) else (STORED, data)


def header(entry: Entry) -> bytes:
    """The local header. The mode is not in it: it stands in the directory."""
    return _LOCAL(b"PK\3\4", *_facts(entry, name := entry.name.encode())) + name


def _facts(entry: Entry, name: bytes) -> tuple[int, ...]:
    """What local header and directory both tell."""
    _, _, size, _, crc, packed, method, _ = entry
    if len(name) > 0xFFFF or size > LIMIT or packed > LIMIT:
        raise BuildFailed(f"{entry.name} passes what a zip can tell", next="Lambda takes 250 MB, unzipped.")
    return 20 if method else 10, 0 if name.isascii() else UTF8, method, 0, DATE, crc, packed, size, len(name), 0


_LOCAL = struct.Struct("<4s5H3L2H").pack
_CENTRAL = struct.Struct("<4sH5H3L5H2L").pack


class Zip:
    """A zip being written front to back, and hashed on the way. Local records first, then `close`. ≤ 4 GiB in all."""

    def __init__(self, to: BinaryIO) -> None:
        self.size = 0
        self._to, self._digest = to, hashlib.sha256()

    def put(self, data: bytes | bytearray) -> None:
        self._to.write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self, entries: Iterable[Entry]) -> Written:
        """Write the directory of `entries`, whose records have been put in this order, without gaps."""
        directory: list[bytes] = []
        start = unzipped = 0
        for entry in entries:
            name = entry.name.encode()
            following = start + 30 + len(name) + entry.packed
            if following > LIMIT:
                raise BuildFailed(f"the package passes 4 GiB at {entry.name}", next="Lambda takes 250 MB, unzipped.")
            directory += (
                _CENTRAL(b"PK\1\2", UNIX | 20, *_facts(entry, name), 0, 0, 0, entry.mode << 16, start),
                name,
            )
            start = following
            unzipped += entry.size
        assert start == self.size, "a record was put that has no entry"
        files = count = len(directory) // 2
        self.put(b"".join(directory))
        end, length = self.size, self.size - start
        if count > 0xFFFE or end > LIMIT - 1:  # Zip64: its own end record, and a locator pointing at it
            self.put(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, UNIX | 45, 45, 0, 0, count, count, length, start))
            self.put(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
            count, length, start = 0xFFFF, min(length, LIMIT), min(start, LIMIT)
        self.put(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, start, 0))
        return Written(self._digest.digest(), self.size, unzipped, files)
