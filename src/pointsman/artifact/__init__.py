"""Packages: a recipe in, one immutable zip and its digest out. Nothing is written but in `out` and `cache`.

`build` makes a package, `inspect` reads one that exists, `checks` says what Lambda would refuse, before any call.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal

from pointsman.config import Bundle
from pointsman.errors import BuildFailed, UsageError
from pointsman.model import UNZIPPED, Artifact, CodeSha256, Value

if TYPE_CHECKING:
    from pointsman.artifact.archive import Member, Written
    from pointsman.artifact.builds import Builds
    from pointsman.artifact.contents import Contents, Difference, Listing
    from pointsman.artifact.notes import Held, Note
    from pointsman.artifact.tools import Tools

__all__ = ["Kind", "Recipe", "Under", "build", "explain", "held", "inspect", "inventory", "last", "listing", "place"]

KEPT = 5


Kind = Literal["python", "node", "ruby", "java", "go", "dotnet", "rust", "make", "command", "zip", "folder"]


class Under(Value, frozen=True, kw_only=True):
    """A folder of a layer, with a `/` at its end, and the runtime whose dependencies lie in it."""

    folder: str
    runtime: str | None


class Recipe(Value, frozen=True, kw_only=True):
    """What to package. `source` is absolute, `artifact` (what `command` makes, or the zip) and `never` relative to it.
    `include` and `exclude` have .gitignore's rules. `never`: what must not decide a package, like test reports.
    `root`, absolute, holds all that a build may look at beside `source`: locks of workspaces, and `shared` code, which
    is relative to it. `target`: make's is build-TARGET, cargo's a binary.

    `under`: the folders that everything goes into, of a layer; of Python's dependencies one for each runtime.
    """

    function: str
    source: str
    build: Kind
    handler: str | None = None
    runtime: str | None = None
    architecture: str = "x86_64"
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    command: str | None = None
    artifact: str | None = None
    never: tuple[str, ...] = ()
    root: str | None = None
    shared: tuple[str, ...] = ()
    sdk: Literal["keep", "leave-out"] = "keep"
    bundle: Bundle | None = None
    target: str | None = None
    under: tuple[Under, ...] = ()


def build(
    recipe: Recipe,
    *,
    out: Path,
    cache: Path,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    halted: Callable[[], bool] | None = None,
    builds: Builds | None = None,
) -> Artifact:
    """Make `out/<function>-<first 16 hex digits of its SHA-256>.zip`. Raises BuildFailed, UsageError for the recipe.

    Equal sources and locks give equal bytes. `cached`: that zip was there already. The newest five of a function stay.
    `builds`: those of one command, which share what they make.
    """
    from pointsman.artifact.builds import Builds
    from pointsman.artifact.tools import Tools

    try:
        return _build(recipe, out.resolve(), Tools(cache.resolve(), environment, say, builds or Builds(), halted))
    except (BuildFailed, UsageError) as error:
        error.where = error.where or f"building {recipe.function}"
        raise


def _build(recipe: Recipe, out: Path, tools: Tools) -> Artifact:
    from pointsman.artifact import checks, contents, gathering, notes

    source = Path(recipe.source).resolve()
    if not source.is_dir():
        raise BuildFailed(f"there is no folder {source}", next="Correct `source`.")
    never = [str(source / path) for path in recipe.never] + [str(out), str(tools.cache)]
    if recipe.build in ("command", "zip"):
        source = _ready(recipe, source, tools)
        if source.is_file():
            return _taken(recipe, source, out)
    with contextlib.ExitStack() as until_packed:

        @functools.cache
        def scratch() -> Path:
            import tempfile  # 20 ms, so only for those who compile

            tools.cache.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(dir=tools.cache, prefix=".making-", ignore_cleanup_errors=True)
            return Path(until_packed.enter_context(folder)).resolve()

        note = notes.newest(out, recipe.function)
        members, about = gathering.gather(recipe, source, tools, scratch, never=never, earlier=note)
        checks.refuse(checks.too_large((member.name, member.seen[0] if member.seen else 0) for member in members))
        made = _pack(recipe.function, out, members, note)
    contents.keep(made, about)
    return made


def _taken(recipe: Recipe, zipped: Path, out: Path) -> Artifact:
    """A ready zip, as it is."""
    from pointsman.artifact import contents, gathering, secrets

    seen = inspect(zipped, recipe.function)
    secrets.refuse_in_zip(zipped, recipe.include)
    with _part(out, recipe.function) as part:
        made = _keep(recipe.function, out, part, _copied(seen, part))
    contents.keep(made, contents.About(settings=gathering.settings(recipe)))
    return made


def inspect(path: Path, function: str) -> Artifact:
    """A zip that exists, read whole: Raises BuildFailed for one that is broken or that Lambda could not unzip."""
    import zipfile
    import zlib

    from pointsman.artifact import notes

    def refuse(what: str) -> BuildFailed:
        return BuildFailed(f"{path} {what}", next="Make the zip anew.")

    try:
        with zipfile.ZipFile(path) as zipped:
            files = notes.members(zipped)
            for info in files:
                if info.flag_bits & 0x1:
                    raise refuse(f"is encrypted ({info.filename})")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise refuse(f"holds {info.filename} by a compression other than deflate")
                if info.orig_filename.startswith("/") or ".." in info.orig_filename.split("/"):
                    raise refuse(f"holds {info.orig_filename}, which lies outside of it")
                if "\\" in info.orig_filename:
                    raise refuse(f"holds {info.orig_filename}: a zip's folders are separated by /, not by \\")
            unzipped = sum(info.file_size for info in files)
            if unzipped <= UNZIPPED and (broken := zipped.testzip()):
                raise refuse(f"is damaged: {broken} does not have its checksum")
    except FileNotFoundError as error:
        raise BuildFailed(f"there is no {path}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise refuse(f"is not a zip that can be read: {error}") from error
    return Artifact(
        function=function,
        path=str(path),
        sha256=_digest_of(path),
        size=path.stat().st_size,
        unzipped=unzipped,
        files=len(files),
    )


def last(out: Path, function: str) -> Contents | None:
    """What the function's newest package holds, to be compared with the next; None where there is none to be read."""
    import re
    import zipfile

    from pointsman.artifact import contents

    mine = re.compile(rf"{re.escape(function)}-[0-9a-f]{{16}}.zip")
    found = [each for each in out.iterdir() if mine.fullmatch(each.name)] if out.is_dir() else []
    for path in sorted(found, key=_modified, reverse=True):
        with contextlib.suppress(OSError, zipfile.BadZipFile):
            sha256 = _digest_of(path)
            return contents.contents(
                Artifact(function=function, path=str(path), sha256=sha256, size=0, unzipped=0, files=0)
            )
    return None


def explain(before: Contents | None, made: Artifact) -> Difference:
    """Why a package is not the one before it."""
    from pointsman.artifact import contents

    return contents.compare(made.function, before, contents.contents(made))


def listing(made: Artifact) -> Listing:
    """What a package holds, and what was left out of it."""
    from pointsman.artifact import contents

    return contents.listing(made)


def inventory(artifact: Artifact) -> dict[str, Held]:
    """What a package holds, by name: the SHA-256 of each file, its size and mode. At once for one that we made."""
    from pointsman.artifact import notes

    return notes.inventory(artifact)


def held(path: Path | IO[bytes]) -> dict[str, Held]:
    """The same of any zip, which is read whole. Raises OSError, BadZipFile."""
    from pointsman.artifact import notes

    return notes.held(path)


def _ready(recipe: Recipe, source: Path, tools: Tools) -> Path:
    """The zip or folder that `artifact` names; by build = "command", made by this very run of the command.

    TEMPLATE#FUNCTION is that function's asset in what `cdk synth` made.
    """
    from pointsman.artifact.tools import run

    if not recipe.artifact:
        raise UsageError(f'build = "{recipe.build}" needs `artifact`, the zip or folder to package')
    path = source / recipe.artifact
    if recipe.build == "command":
        if not recipe.command:
            raise UsageError('build = "command" needs `command`')
        before = _identity(path)
        tools.say(f"$ {recipe.command}")
        run(recipe.command, cwd=source, environment=tools.environment, say=tools.say, halted=tools.halted)
        if before and _identity(path) == before:
            raise BuildFailed(
                f"`{recipe.command}` ended well, but did not touch {recipe.artifact}, which is from before",
                next="Let the command write it each time (make -B), or correct `artifact`.",
            )
    if not path.exists() and (named := path.name.rpartition("#"))[0]:
        from pointsman import assembly

        return assembly.asset(path.with_name(named[0]), named[2])
    if not path.exists():
        done = f"`{recipe.command}` ended well, but " if recipe.build == "command" else ""
        raise BuildFailed(f"{done}there is no {recipe.artifact}", next="Correct `artifact`.")
    return path.resolve()


def _identity(path: Path) -> frozenset[tuple[str, int, int, int, int]]:
    """What changes when a file, or anything in a folder, is written; empty for nothing at all."""
    found = [path, *path.rglob("*")] if path.is_dir() else [path] if path.exists() else []
    stats = [(str(each), each.lstat()) for each in found]
    return frozenset((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats)


def _pack(function: str, out: Path, members: list[Member], note: Note | None) -> Artifact:
    """Pack the members, with the newest earlier package at hand."""
    from pointsman.artifact.packing import NotAsNoted

    if note:
        try:
            with Path(note.made.path).open("rb") as file:
                return _pack_beside(function, out, members, note, file)
        except (NotAsNoted, FileNotFoundError):  # damaged, or forgotten by another build meanwhile
            for suffix in (".zip", ".note", ".about"):
                with contextlib.suppress(OSError):
                    Path(note.made.path).with_suffix(suffix).unlink()
    return _pack_beside(function, out, members, None, None)


def _pack_beside(function: str, out: Path, members: list[Member], note: Note | None, file: BinaryIO | None) -> Artifact:
    import os

    import msgspec

    from pointsman.artifact import notes, packing

    with contextlib.ExitStack() as until_named:
        part = until_named.enter_context(_part(out, function))
        earlier = None
        if note and file:
            earlier = packing.Earlier(file, _raw(note.made.sha256), note.entries)
        with contextlib.ExitStack() as until_written:
            entries, written = packing.pack(members, earlier, lambda: until_written.enter_context(part.open("xb")))
        if written:
            made = _keep(function, out, part, written)
            notes.keep(made, entries)
            return made
    assert note
    made = msgspec.structs.replace(note.made, cached=True)
    if entries == note.entries:
        os.utime(Path(made.path).with_suffix(".note"))
    else:
        notes.keep(made, entries)
    os.utime(made.path)  # the newest again
    return made


@contextlib.contextmanager
def _part(out: Path, function: str) -> Iterator[Path]:
    """The name of a file that nobody reads, and that is gone afterwards."""
    import os

    out.mkdir(parents=True, exist_ok=True)
    part = out / f".{function}-{os.urandom(8).hex()}.part"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _copied(seen: Artifact, part: Path) -> Written:
    import shutil

    from pointsman.artifact.archive import Written

    shutil.copyfile(seen.path, part)
    if _digest_of(part) != seen.sha256:
        raise BuildFailed(f"{seen.path} changed while it was read", next="Build again.")
    return Written(_raw(seen.sha256), seen.size, seen.unzipped, seen.files)


def place(out: Path, function: str, sha256: CodeSha256) -> Path:
    """Where a package lies: named by its content."""
    return out / f"{function}-{_raw(sha256).hex()[:16]}.zip"


def _raw(sha256: CodeSha256) -> bytes:
    import base64

    return base64.b64decode(sha256)


def _digest_of(path: Path) -> CodeSha256:
    import base64
    import hashlib

    with path.open("rb") as file:
        return CodeSha256(base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode())


def _keep(function: str, out: Path, part: Path, written: Written) -> Artifact:
    """Give a complete zip its name, and forget the oldest."""
    import base64
    import os

    sha256 = CodeSha256(base64.b64encode(written.digest).decode())
    path = place(out, function, sha256)
    cached = path.is_file() and _digest_of(path) == sha256
    if cached:
        os.utime(path)  # the newest again
    else:
        part.replace(path)
    _forget_oldest(out, function, path)
    return Artifact(
        function=function,
        path=str(path),
        sha256=sha256,
        size=written.size,
        unzipped=written.unzipped,
        files=written.files,
        cached=cached,
    )


def _forget_oldest(folder: Path, function: str, newest: Path) -> None:
    import re

    mine = re.compile(rf"{re.escape(function)}-[0-9a-f]{{16}}\.zip")
    kept = [each for each in folder.iterdir() if mine.fullmatch(each.name) and each != newest]
    for old in sorted(kept, key=_modified, reverse=True)[KEPT - 1 :]:
        old.unlink(missing_ok=True)
        for beside in (".note", ".about"):
            old.with_suffix(beside).unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another build was quicker to forget it
        return 0.0
