"""Packages of functions and layers on disk, by content: code/<sha256>.zip, and unpacked/<sha256>/ once they are run.

Several layers are laid over each other in opt/<sha256 of all>/.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from pointsman.localaws.lambda_.errors import invalid, too_large

MOST_ZIPPED = 52_428_800  # in the request; through S3 only the unzipped size counts
MOST_UNZIPPED = 262_144_000

_BAD_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


@dataclass(frozen=True, slots=True)
class Package:
    digest: str  # SHA-256 of the zip, hexadecimal
    size: int  # of the zip, in bytes
    unzipped: int

    @property
    def sha256(self) -> str:
        """As AWS writes it (CodeSha256)."""
        return sha256_of(self.digest)


def sha256_of(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def inspect(zipped: bytes, *, uploaded: bool) -> Package:
    """What AWS would know of a zip, refused as AWS refuses. `uploaded`: it came in the request, not through S3."""
    if uploaded and len(zipped) > MOST_ZIPPED:
        raise too_large(f"Zipped size must be smaller than {MOST_ZIPPED} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as wrong:
        raise invalid(_BAD_ZIP) from wrong
    if not entries:
        raise invalid("Uploaded file must be a non-empty zip")
    if any(not _stays_inside(entry.filename) for entry in entries):
        raise invalid(_BAD_ZIP)
    unzipped = sum(entry.file_size for entry in entries)
    check_unzipped(unzipped)
    return Package(hashlib.sha256(zipped).hexdigest(), len(zipped), unzipped)


def check_unzipped(size: int, layers: int = 0) -> None:
    """`layers`: what the function's layers take of the room there is."""
    if size >= MOST_UNZIPPED - layers:
        raise invalid(f"Unzipped size must be smaller than {MOST_UNZIPPED - layers} bytes")


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _outside(directory: Path) -> Path:
    """A folder for this directory's unpacked code, of this user alone, that lies in no project.

    Node looks for modules in every folder above the code: unpacked inside a project, a function whose package lacks a
    dependency would find it in the project's own node_modules, and work here though not on AWS.
    """
    home = Path(tempfile.gettempdir()) / f"pointsman-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    facts = home.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise PermissionError(f"{home} belongs to somebody else or is open to others: remove it")
    return home / hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]


class Packages:
    """The zips of one directory. Safe from several threads: a file appears whole (by renaming) or not at all."""

    def __init__(self, directory: Path) -> None:
        self._zips = directory / "code"
        self._unpacked = _outside(directory) / "unpacked"
        self._ready: set[Path] = set()
        self._opt = self._unpacked.with_name("opt")
        self._laid: dict[str, tuple[str, ...]] = {}  # which layers a folder in there is of
        for folder in (self._zips, self._unpacked, self._opt):
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, package: Package, zipped: bytes) -> None:
        path = self.zip(package.digest)
        if not path.exists():
            draft = path.with_suffix(f".{uuid4().hex}.new")  # which snapshots pass over
            draft.write_bytes(zipped)
            draft.replace(path)

    def zip(self, digest: str) -> Path:
        return self._zips / f"{digest}.zip"

    def folder(self, digest: str) -> Path:
        """Where the package's files are, once they are unpacked."""
        return self._unpacked / digest

    def ready(self, folder: Path) -> bool:
        """Whether `folder` is unpacked. Asked at every invocation, so the disk is asked once."""
        if folder in self._ready:
            return True
        if folder.is_dir():
            self._ready.add(folder)
            return True
        return False

    def opt(self, layers: Sequence[str]) -> Path:
        """Where the files of these layers are, once they are unpacked; what two of them have is the later one's."""
        if len(layers) == 1:
            return self.folder(layers[0])
        folder = self._opt / hashlib.sha256("".join(layers).encode()).hexdigest()
        self._laid[folder.name] = tuple(layers)
        return folder

    def unpack(self, folder: Path) -> None:
        """Fill a `folder` of ours, unless it is there. May take a while."""
        if folder.is_dir():
            return
        draft = folder.with_name(f"{folder.name}.{uuid4().hex}")
        try:
            if folder.parent == self._opt:
                self._lay(self._laid[folder.name], draft)
            else:
                _unpack(self.zip(folder.name), draft)
            draft.rename(folder)
        except Exception:  # zipfile raises what its decompressors do
            shutil.rmtree(draft, ignore_errors=True)
            if not folder.is_dir():  # otherwise another thread was quicker
                raise

    def _lay(self, layers: Sequence[str], target: Path) -> None:
        target.mkdir()
        for digest in layers:
            self.unpack(self.folder(digest))
            _lay_over(self.folder(digest), target)

    def unzipped_size(self, digest: str) -> int:
        with zipfile.ZipFile(self.zip(digest)) as archive:
            return sum(entry.file_size for entry in archive.infolist())

    def close(self) -> None:
        """Remove what was unpacked: it is made again when something runs."""
        shutil.rmtree(self._unpacked.parent, ignore_errors=True)

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove every package but these. Only at start: later, a process may still read a deleted version's files."""
        for path in self._zips.iterdir():
            if path.name.removesuffix(".zip") not in digests:
                path.unlink()
        for path in self._unpacked.iterdir():
            if path.name not in digests:
                shutil.rmtree(path)
        for path in self._opt.iterdir():
            shutil.rmtree(path)


def _lay_over(upper: Path, lower: Path) -> None:
    """Link `upper`'s files into `lower`, in place of what is there, and never through a symbolic link."""
    for entry in os.scandir(upper):
        path = lower / entry.name
        if entry.is_dir(follow_symlinks=False):
            if path.is_symlink() or path.is_file():
                path.unlink()
            path.mkdir(exist_ok=True)
            _lay_over(Path(entry.path), path)
        else:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            os.link(entry.path, path, follow_symlinks=False)


def _unpack(source: Path, target: Path) -> None:
    """Like `unzip`: permissions and symbolic links are kept, which zipfile's own extraction loses.

    Links that lead outside are left out, and so is what would be made outside by way of others.
    """
    with zipfile.ZipFile(source) as archive:
        links: list[tuple[Path, str]] = []
        target.mkdir()
        for entry in archive.infolist():
            path = target / entry.filename
            mode = entry.external_attr >> 16
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(mode):
                links.append((path, archive.read(entry).decode()))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, path.open("wb") as plain:
                    shutil.copyfileobj(packed, plain, 1 << 20)
                # Zips made on Windows, or by writestr(), carry no permissions; Lambda then cannot read them either,
                # but nobody learns anything from that here.
                path.chmod((stat.S_IMODE(mode) & 0o777) | 0o644)
        # Links last, so that no entry can be written through one.
        inside = target.resolve()
        for path, destination in links:
            folder = Path(os.path.realpath(path.parent))  # resolve() raises for links in a circle
            if folder.is_relative_to(inside) and Path(os.path.realpath(folder / destination)).is_relative_to(inside):
                folder.mkdir(parents=True, exist_ok=True)
                path.symlink_to(destination)
