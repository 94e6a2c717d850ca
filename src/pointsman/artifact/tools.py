"""The tools that install and compile, run as a build needs them; and the cache of what they made.

Each set of dependencies is one folder in the cache, named by what decides its content and renamed into place when
complete: an interrupted install leaves nothing that could be taken for a set, and of two at once one wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pointsman.model  # noqa: F401 - first, for it imports msgspec by the shorter way

# isort: split
import msgspec

from pointsman.artifact.archive import YOUNG, Member, Seen
from pointsman.artifact.builds import Builds
from pointsman.artifact.source import RULES, Kind, choose
from pointsman.errors import BuildFailed, UsageError

if TYPE_CHECKING:
    import subprocess

Say = Callable[[str], None]
Halted = Callable[[], bool]

FORMAT = 3  # of an entry: a new number leaves those of an older Pointsman to be forgotten
IN_USE = 3600.0  # seconds since its last use after which an entry may be forgotten
LEFT_BEHIND = 86_400.0  # seconds after which a scratch folder must be that of a build that was killed


class Tools(NamedTuple):
    """Where installs are kept, the whole environment of the tools, whom to tell of progress, and when to stop.

    `builds`: those that share what they make. `limit`: the bytes that the cache may hold before what was not used for
    longest is forgotten.
    """

    cache: Path
    environment: Mapping[str, str]
    say: Say
    builds: Builds
    halted: Halted | None = None
    limit: int = 2 << 30


class Installed(NamedTuple):
    """`tree` lies under the package's root, read only. `packages`: name → versions (Node may hold several of one)."""

    tree: Path
    packages: dict[str, list[str]]
    made_now: bool = False


def once(tools: Tools, kind: str, key: object, install: Callable[[Path], Installed]) -> Installed:
    """The cache's entry for `key`; made by `install(scratch)`, whose `tree` is kept, if there is none.

    Of the builds of one command that ask for it at once one makes it.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True).encode()).hexdigest()[:32]
    entry = tools.cache / f"{kind}-{digest}"
    mine = False

    def make() -> Installed:
        nonlocal mine
        mine = True
        return _once(tools, entry, install)

    made = tools.builds.once(entry, make)
    return made if mine else made._replace(made_now=False)


def _once(tools: Tools, entry: Path, install: Callable[[Path], Installed]) -> Installed:
    if found := _entry(entry):
        return found
    import tempfile

    tools.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools.cache, prefix=".making-") as scratch:
        made = install(Path(scratch).resolve())
        complete = Path(scratch) / "complete"
        complete.mkdir()
        made.tree.rename(complete / "tree")
        about = {"packages": made.packages, "size": _size(complete)}
        (complete / "about.json").write_text(json.dumps(about, sort_keys=True))
        try:
            complete.rename(entry)
        except OSError:
            if not entry.is_dir():  # or another build was first: its entry is as good
                raise
    _forget_oldest(tools, entry)
    return Installed(entry / "tree", made.packages, made_now=True)


def _entry(entry: Path) -> Installed | None:
    try:
        os.utime(entry)  # used: not to be forgotten now
        about = json.loads((entry / "about.json").read_bytes())
        return Installed(entry / "tree", about["packages"])
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):  # half written, when the machine went down: made anew
        with contextlib.suppress(OSError):  # another command was first
            entry.rename(entry.with_name(f".gone-{entry.name}-{os.urandom(4).hex()}"))
        return None


class _Known(NamedTuple):
    name: str
    executable: bool
    link: str | None
    seen: Seen | None


class _Found(msgspec.Struct, array_like=True):
    """What a walk over an entry's tree found, by which rules. `folders`: name → (mtime_ns, ctime_ns, inode)."""

    by: tuple[str, ...]
    folders: dict[str, tuple[int, int, int]]
    members: list[_Known]


def files(installed: Installed, *, young: int = YOUNG) -> list[Member]:
    """All of an entry's tree that is to be packaged: what the last walk found, as long as no folder changed.

    Nobody writes into a file of the cache, so only what was added or removed would count. `young`: the age in ns below
    which a folder may yet change without its times telling. Raises BuildFailed.
    """
    noted, tree = installed.tree.with_name("files"), str(installed.tree)
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
        found = _decode(noted.read_bytes())
        if found.by == _BY and all(_changed(f"{tree}/{name}") == changed for name, changed in found.folders.items()):
            return [
                Member(name, f"{tree}/{name}", executable, link, seen) for name, executable, link, seen in found.members
            ]
    members = choose(installed.tree, kind="installed")
    with contextlib.suppress(OSError):  # the cache may be read only, or deleted meanwhile
        _note(tree, members, noted, young)
    return members


def _note(tree: str, members: list[Member], noted: Path, young: int) -> None:
    import time

    folders = {"": _changed(tree)}
    for each in members:
        name = each.name
        while (cut := name.rfind("/")) > 0 and (name := name[:cut]) not in folders:
            folders[name] = _changed(f"{tree}/{name}")
    if max(max(each[:2]) for each in folders.values()) < time.time_ns() - young:
        known = [_Known(each.name, each.executable, each.link, each.seen) for each in members]
        part = noted.with_name(f".files-{os.urandom(8).hex()}.part")
        part.write_bytes(msgspec.msgpack.encode(_Found(_BY, folders, known)))
        part.replace(noted)


def _changed(folder: str) -> tuple[int, int, int]:
    stat = os.stat(folder)  # noqa: PTH116 - of thousands
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


_BY = (str(FORMAT), *RULES["installed"])
_decode = msgspec.msgpack.Decoder(_Found).decode


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _forget_oldest(tools: Tools, newest: Path) -> None:
    """Keep the cache below its limit. What another build may be reading is left alone."""
    import time

    now = time.time()
    entries: list[tuple[float, int, Path]] = []
    gone: list[Path] = []
    for each in tools.cache.iterdir():
        try:
            used = each.stat().st_mtime
        except FileNotFoundError:  # forgotten by another build meanwhile
            continue
        try:
            if each.name.startswith((".making-", ".gone-")):
                gone += [each] if now - used > LEFT_BEHIND else []
            elif each.is_dir():
                entries.append((used, json.loads((each / "about.json").read_bytes())["size"], each))
        except (FileNotFoundError, ValueError, LookupError, TypeError):  # older, damaged, or gone as well
            if each.is_dir() and now - used > IN_USE:
                gone.append(each)
    total = sum(size for _, size, _ in entries)
    forgotten = 0
    for used, size, entry in sorted(entries):
        if total <= tools.limit or now - used < IN_USE:
            break
        if entry != newest:
            total -= size
            forgotten += size
            gone.append(entry)
    for entry in gone:
        aside = entry.with_name(f".gone-{os.urandom(8).hex()}")  # at once, so that nobody finds half of it
        try:
            entry.rename(aside)
        except OSError:
            continue
        shutil.rmtree(aside, ignore_errors=True)
    if forgotten:
        tools.say(f"the cache passed {tools.limit / 1e9:.1f} GB: forgot {forgotten / 1e6:.0f} MB unused for longest")


def run(
    command: list[str] | str,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    say: Say = lambda _: None,
    explain: Callable[[str], str] = lambda _: "",
    halted: Halted | None = None,
) -> None:
    """Run a tool (a text: through the shell). Raises BuildFailed with its exit code and last lines; `explain` adds what
    to do about them. Interrupted, it ends the tool and all that the tool started; so it does once `halted` says so,
    which is asked ten times a second (in threads, where no Ctrl-C arrives)."""
    import collections
    import signal
    import subprocess

    tail: collections.deque[str] = collections.deque(maxlen=20)
    shown = command if isinstance(command, str) else " ".join([Path(command[0]).name, *command[1:]])
    process = subprocess.Popen(
        command,
        shell=isinstance(command, str),
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout
    ended = _end_once(halted, process) if halted else None
    try:
        usage = False
        for line in process.stdout:
            usage = usage or line.startswith("npm error Usage:")  # 60 lines, after the two that say what is wrong
            if not usage:
                tail.append(line.rstrip())
            say(line.rstrip())
        code = process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        if ended:
            ended.set()
        process.stdout.close()
    if code:
        output = "\n".join(f"  {line}" for line in tail) or "  (it printed nothing)"
        remedy = explain("\n".join(tail))
        if code == 127 and isinstance(command, str):  # as shells have it
            remedy = remedy or "Install that program, or correct `command`: it must be on PATH here."
        raise BuildFailed(f"`{shown}` ended with exit code {code}:\n{output}", next=remedy)


def _end_once(halted: Halted, process: subprocess.Popen[str]) -> threading.Event:
    """Watches from beside, for the run itself waits for the next line of the tool, or of what it left behind.

    Until the event is set.
    """
    import signal

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            if halted():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return

    threading.Thread(target=watch, daemon=True).start()
    return ended


def output(command: list[str], environment: Mapping[str, str], cwd: Path | None = None, *, errors: bool = False) -> str:
    """What a tool that only answers prints; with `errors` also there. Raises BuildFailed."""
    import subprocess

    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise BuildFailed(f"{command[0]} is not on PATH") from error
    if done.returncode:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        raise BuildFailed(f"`{shown}` ended with exit code {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout + (done.stderr if errors else "")


class Program(NamedTuple):
    """A tool by its name on PATH, and what to do where it is not there."""

    name: str
    get: str


def on_path(program: Program, tools: Tools, *, why: str = "") -> str:
    """Where a tool is. Raises BuildFailed that says what needs it and how to get it."""
    if found := shutil.which(program.name, path=tools.environment.get("PATH")):
        return found
    raise BuildFailed(f"{program.name} is not on PATH{f', and {why} needs it' if why else ''}", next=program.get)


def version(command: str, tools: Tools, asked: str = "--version") -> str:
    """What `command --version` says, wherever it says it. A binary that is what it was is not asked again: that takes
    longer than a build.

    Of a script, or of one binary under many names, what it says may depend on more than itself (version managers).
    """
    found = Path(os.path.realpath(shutil.which(command, path=tools.environment.get("PATH")) or ""))
    try:
        stat = found.stat()
        with found.open("rb") as file:
            binary = file.read(4) in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
        identity = [str(found), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    except OSError:
        binary, identity = False, []
    if not binary or found.name != Path(command).name:
        return output([command, asked], tools.environment, errors=True)
    notes = tools.cache / f"{found.name}.version"
    try:
        known = json.loads(notes.read_bytes())
        if known["of"] == identity:
            return str(known["said"])
    except (OSError, ValueError, LookupError, TypeError):  # there is none, or none that can be read
        pass
    said = output([command, asked], tools.environment, errors=True)
    tools.cache.mkdir(parents=True, exist_ok=True)
    part = tools.cache / f".{notes.name}-{os.urandom(8).hex()}.part"
    part.write_text(json.dumps({"of": identity, "said": said}))
    part.replace(notes)
    return said


def refuse_foreign(path: Path, tree: Path, architecture: str) -> None:
    """What an install compiled runs on Lambda only if this is Linux on the function's architecture."""
    machine_ = int(machine(architecture, "62", "183")).to_bytes(2, "little")
    with path.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or head[18:20] != machine_:
        raise BuildFailed(
            f"{path.relative_to(tree)} was compiled for this machine, not for Lambda on {architecture}",
            next='Build where Linux runs on that architecture, or in a container: build = "command".',
        )


def machine(architecture: str, intel: str, arm: str) -> str:
    match architecture:
        case "x86_64":
            return intel
        case "arm64":
            return arm
    raise UsageError(f'architecture = "{architecture}" is neither x86_64 nor arm64')


def mirrored(mirror: Path, path: Path) -> Path:
    """Where an absolute path lies in a scratch folder that mirrors them: `../lib` means there what it means here."""
    return mirror / path.relative_to("/")


def copy(path: Path, to: Path, *, kind: Kind = "sources", never: Iterable[str] = ()) -> None:
    """A folder, without what is left out of that kind of folder; or a file. What a tool may write over is writable."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copyfile(path, to)
        to.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        return
    to.mkdir(exist_ok=True)
    for member in choose(path, kind=kind, never=never):
        goal = to / member.name
        goal.parent.mkdir(parents=True, exist_ok=True)
        if member.link is not None:
            goal.symlink_to(member.link)
        else:
            shutil.copyfile(member.path, goal)
            goal.chmod(0o755 if member.executable else 0o644)


def checkout(root: Path) -> Path:
    """The repository's folder that `root` is in; `root` itself where it is in none."""
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)


def digest(path: Path, *, kind: Kind = "sources") -> str:
    """Of a file, or of what `copy` would copy of a folder: names, modes and content, not where it lies."""
    if path.is_file():
        return sha256(path)
    found = hashlib.sha256()
    for member in sorted(choose(path, kind=kind)):
        found.update(f"{member.name}\0{member.executable}\0{member.link}\0".encode())
        found.update(b"" if member.link is not None else bytes.fromhex(sha256(Path(member.path))))
    return found.hexdigest()


def sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BuildFailed(f"{path} cannot be read: {error.strerror}") from error
