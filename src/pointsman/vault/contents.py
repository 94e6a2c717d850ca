"""What a zip from a backup must not have in it. Nothing of it is unpacked to a disk: it is read, and counted.

A store may have been written to by others. The digest says that a package is the one that was saved; this says that
whoever unpacks it, the local AWS for one, stays in his folder and within Lambda's sizes.
"""

from __future__ import annotations

import posixpath
import stat
import zipfile
import zlib
from pathlib import Path

from pointsman.errors import BackupFailed
from pointsman.model import UNZIPPED

_FILES = 300_000
_LINK = 4096
_PIECE = 1 << 20
_WITHIN = ("/opt/", "/var/task/", "/var/lang/", "/var/runtime/", "/tmp/", "/mnt/")


def inspect(path: Path) -> None:
    """Raises BackupFailed, which names the member and what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as zipped:
            members = zipped.infolist()
            if len(members) > _FILES:
                raise _refused(f"it has {len(members)} members")
            left = UNZIPPED
            for member in members:
                _must_stay_inside(member.filename)
                left -= _size(zipped, member, left)
                if stat.S_ISLNK(member.external_attr >> 16):
                    with zipped.open(member) as file:
                        target = file.read(_LINK).decode("utf-8", "replace")
                    _must_lead_inside(member.filename, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refused(f"it cannot be read: {error}") from error


def _size(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, left: int) -> int:
    """By unpacking it to nowhere: what a header says of itself may be a lie."""
    total = 0
    with zipped.open(member) as file:
        while piece := file.read(_PIECE):
            total += len(piece)
            if total > left:
                raise _refused(f"it is larger than {UNZIPPED:,} bytes unzipped, which Lambda refuses")
    return total


def _must_stay_inside(name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or (len(name) > 1 and name[1] == ":") or "\0" in name:
        raise _refused(f"its member {name!r} leads out of the package")


def _must_lead_inside(name: str, target: str) -> None:
    if target.startswith("/"):
        inside = posixpath.normpath(target).startswith(_WITHIN)
    else:
        inside = not posixpath.normpath(posixpath.join(posixpath.dirname(name), target)).startswith("..")
    if not inside:
        raise _refused(f"its link {name!r} leads out of the package, to {target!r}")


def _refused(what: str) -> BackupFailed:
    return BackupFailed(
        f"the zip is not one to restore: {what}",
        next="Nothing was changed. Somebody else may have written to this backup: look at it before it is used.",
    )


__all__ = ["inspect"]
