"""Python's production dependencies: found in whichever file tells them, installed by uv as wheels for Lambda."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pointsman import runtimes
from pointsman.artifact.tools import (
    Installed,
    Program,
    Tools,
    checkout,
    copy,
    digest,
    machine,
    once,
    output,
    run,
    version,
)
from pointsman.errors import BuildFailed, UsageError

OTHER_LOCKS = ("poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml")  # asked in this order, after requirements.txt


class Wanted(NamedTuple):
    """What `file` asks for. `lines`: a requirements file in which `\\0n\\0` stands for the n-th of `local` (folders of
    packages, wheels and folders of wheels), so that it is the same wherever the sources lie. `closed`: all is in it."""

    file: str
    lines: list[str]
    local: list[Path]
    closed: bool = False


def install(
    source: Path, tools: Tools, *, runtime: str | None, architecture: str, root: Path | None = None
) -> Installed | None:
    """What lies over the package's root (wheels unpacked for Lambda), or None without dependencies.

    `root`: where to stop looking upwards for the lock of a uv workspace; without it only `source` is looked at.
    """
    found = re.fullmatch(r"python3\.(\d+)", runtime or "")
    arch = machine(architecture, "x86_64", "aarch64")
    # Without a runtime only whether there is anything counts: the next thing said is that it is missing.
    release = runtimes.python_release(found[0] if found else "python3.13")
    wanted = _wanted(source, tools, root or source, release, arch)
    if wanted is None:
        return None
    if not found:
        raise UsageError(
            f'{wanted.file} asks for packages, but runtime = "{runtime or ""}" does not say for which Python',
            where='build = "python"',
            next='Set runtime, for example runtime = "python3.13".',
        )
    uv = _uv(tools.environment)
    # Runtimes since python3.12 run on Amazon Linux 2023 (glibc 2.34), those before on Amazon Linux 2 (2.26), for which
    # the nearest platform that uv knows and that is not newer is manylinux2014 (2.17).
    platform = f"{arch}-{'manylinux_2_34' if int(found[1]) >= 12 else 'manylinux2014'}"

    def make(scratch: Path) -> Installed:
        tools.say(f"installing the packages of {wanted.file} for {runtime} on {architecture}")
        tree = scratch / "tree"
        paths = [_as_wheel(path, scratch / f"local-{i}", uv, tools) for i, path in enumerate(wanted.local)]
        asked = scratch / ("pylock.toml" if wanted.file == "pylock.toml" else "requirements.txt")
        if wanted.file == "pyproject.toml":
            asked = source / wanted.file  # in place: what [tool.uv] says of its packages is relative to it
        else:
            text = re.sub(r"\0(\d+)\0", lambda n: str(paths[int(n[1])]), "\n".join(wanted.lines))
            asked.write_text(f"{text}\n")
        options = ["--python-version", release, "--python-platform", platform, "--only-binary", ":all:"]
        options += ["--python", sys.executable, "--no-python-downloads", "--link-mode", "copy", "--quiet"]
        options += ["--no-deps"] if wanted.closed else []
        built = _install(
            [uv, "pip", "install", "--target", str(tree), *options, "-r", str(asked)],
            source,
            tree,
            tools,
            functools.partial(_missing_wheels, f"{runtime} on {platform}"),
        )
        tree.mkdir(exist_ok=True)
        _tidy(tree, [*built, *(path.name.split("-")[0] for path in paths if path.suffix == ".whl")])
        return Installed(tree, _packages(tree))

    tool = "uv " + ".".join(version(uv, tools).split()[1].split(".")[:2])
    local = [digest(path, kind="made") for path in wanted.local]
    settings = _uv_settings(source)  # its indexes and overrides are asked too
    key = [wanted.file, wanted.lines, local, wanted.closed, settings, release, platform, tool]
    return once(tools, "python", key, make)


def _install(command: list[str], source: Path, tree: Path, tools: Tools, explain: Callable[[str], str]) -> list[str]:
    """Install wheels into `tree`. What has none is built, and refused if that needs a compiler: it would be for this
    machine. Returns the packages that were built."""
    refused: dict[str, BuildFailed] = {}
    while True:
        build = [f"--no-binary={name}" for name in refused]
        try:
            run([*command, *build], cwd=source, environment=tools.environment, explain=explain, halted=tools.halted)
            break
        except BuildFailed as error:
            more = [name for name in _without_wheel(str(error)) if name not in refused]
            if not more:
                raise next(iter(refused.values()), error) from error
            tools.say(f"{', '.join(more)} has no wheel: building one, in case it is for any machine")
            refused |= dict.fromkeys(more, error)
    for name, why in refused.items():
        if not _is_pure(tree, name):
            raise why
    return list(refused)


def _about(tree: Path, name: str) -> Path | None:
    """The WHEEL file of an installed package."""
    wanted = re.sub(r"[-_.]+", "-", name).lower()
    for each in tree.glob("*.dist-info"):
        if re.sub(r"[-_.]+", "-", each.name.partition("-")[0]).lower() == wanted:
            return each / "WHEEL"
    return None


def _is_pure(tree: Path, name: str) -> bool:
    about = _about(tree, name)
    tags = re.findall(r"(?m)^Tag: (.*)$", about.read_text()) if about and about.is_file() else []
    return bool(tags) and all(tag.strip().endswith("-none-any") for tag in tags)


def _wanted(source: Path, tools: Tools, root: Path, python: str, arch: str) -> Wanted | None:
    if lock := _uv_lock(source, root):
        _refuse_stale(lock, source, python, arch)
        options = ["--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate", "--no-python-downloads"]
        text = output([_uv(tools.environment), "export", *options, "--quiet"], tools.environment, cwd=source)
        wanted = _read(text, "uv.lock", lock.parent)
        return wanted._replace(closed=True) if wanted.lines else None
    others = [name for name in OTHER_LOCKS if (source / name).is_file()]
    if (source / "requirements.txt").is_file():
        if others:
            tools.say(f"requirements.txt decides, not {others[0]}: remove it to install from the lock")
        wanted = _from_files(source / "requirements.txt", source)
        return wanted if wanted.lines else None
    if others:
        return _from_lock(source, others[0], python, arch)
    manifest = _manifest(source)
    table = manifest.get("project", {})
    if "dependencies" in table.get("dynamic", ()):
        raise BuildFailed(
            '[project] dynamic = ["dependencies"] tells what to install only when the project is built',
            where=str(source),
            next="Write them to requirements.txt, or run `uv lock` and commit uv.lock.",
        )
    if manifest.get("tool", {}).get("poetry", {}).get("dependencies", {}).keys() - {"python"}:
        raise BuildFailed("Poetry's dependencies are not locked", where=str(source), next="Run `poetry lock`.")
    if (source / "Pipfile").is_file():
        raise BuildFailed("Pipfile is not locked", where=str(source), next="Run `pipenv lock`.")
    listed: list[str] = table.get("dependencies", [])
    local: list[str] = []
    if manifest.get("tool", {}).get("uv", {}).get("sources"):
        from pointsman.artifact.stale_locks import uv_sources  # for those who have some: it takes its time

        local = [name for name, each in uv_sources(manifest) if {"path", "workspace"} & set(each)]
    local += [each for each in listed if re.search(r"@\s*(file:|\.{0,2}/)", each)]
    if local:
        raise BuildFailed(
            f"pyproject.toml asks for the local package {local[0]}, and there is no uv.lock",
            where=str(source),
            next="Run `uv lock` and commit uv.lock.",
        )
    return Wanted("pyproject.toml", listed, []) if listed else None


def _manifest(folder: Path) -> dict[str, Any]:
    import tomllib

    file = folder / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BuildFailed(str(error), where=str(file)) from error


def _uv_settings(source: Path) -> str:
    table = _manifest(source).get("tool", {}).get("uv", {})
    own = source / "uv.toml"
    return json.dumps([table, own.read_text() if own.is_file() else ""], sort_keys=True, default=str)


def _uv_lock(source: Path, root: Path) -> Path | None:
    """The lock of the folder, or that of the workspace it is a member of."""
    if (source / "uv.lock").is_file():
        return source / "uv.lock"
    if not (source / "pyproject.toml").is_file() or not source.is_relative_to(root):
        return None
    top = checkout(root)  # a member may have a pointsman.toml of its own
    for folder in source.parents:
        if (folder / "uv.lock").is_file():
            table = _manifest(folder).get("tool", {}).get("uv", {}).get("workspace", {})
            relative = source.relative_to(folder)
            member = any(relative.match(each) for each in table.get("members", ()))
            return folder / "uv.lock" if member else None
        if folder == top:
            return None
    return None


def _refuse_stale(lock: Path, source: Path, python: str, arch: str) -> None:
    """Where uv.lock is of another pyproject.toml: uv would look at what is published, and we only at what lies here."""
    import tomllib

    from pointsman.artifact import python_locks, stale_locks

    try:
        document = tomllib.loads(lock.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BuildFailed(str(error), where=str(lock)) from error
    own = os.path.relpath(source, lock.parent).replace(os.sep, "/")
    target = python_locks.environment(python, arch)
    stale_locks.refuse_uv(document, own, lambda folder: _manifest(lock.parent / folder), target)


def _from_lock(source: Path, name: str, python: str, arch: str) -> Wanted | None:
    text = (source / name).read_text()
    if name == "pylock.toml":
        return Wanted(name, text.splitlines(), [])
    from pointsman.artifact import python_locks as locks  # for those who have one: it takes its time

    target = locks.environment(python, arch)
    match name:
        case "poetry.lock":
            locked = locks.poetry(text, _manifest(source), target)
        case "pdm.lock":
            locked = locks.pdm(text, target, _manifest(source))
        case _:
            asked = source / "Pipfile"
            locked = locks.pipfile(text, target, asked.read_text() if asked.is_file() else "")
    local = [source / pin.path for pin in locked.pins if pin.path]
    lines = [pin.line for pin in locked.pins if not pin.path] + [f"\0{i}\0" for i in range(len(local))]
    # In the file, where uv puts the environment's variables into them, and no error shows them.
    indexes = [f"--extra-index-url {each}" for each in locked.indexes]
    return Wanted(name, [*indexes, *lines], local, closed=True) if lines else None


_LOCAL = re.compile(
    r"(?:(?P<editable>-e|--editable)[\s=]+)?(?P<named>[\w.-]+\s*(?:\[[\w,\s.-]*\])?\s*@\s*)?(?:file:(?://(?=/))?)?"
    r"(?P<path>[^\s;\[@:#]+)(?P<extras>\[[^\]]*\])?(?P<rest>.*)"
)


def _from_files(file: Path, source: Path, above: tuple[Path, ...] = ()) -> Wanted:
    """The requirements of a file and of those it names with -r; what -c names is kept as it is asked."""
    if file in above:
        return Wanted(file.name, [], [])
    try:
        text = file.read_text("utf-8-sig")  # Windows editors put a mark in front
    except OSError as error:
        raise BuildFailed(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        next_ = "Save it as UTF-8: PowerShell's > writes UTF-16."
        raise BuildFailed(f"{file} is not UTF-8 text", next=next_) from error
    return _read(text, file.name, source, file, above)


def _read(text: str, name: str, base: Path, file: Path | None = None, above: tuple[Path, ...] = ()) -> Wanted:
    """The lines without comments. Paths are relative to `base`, as uv and pip have it, those of -r to their file."""
    lines: list[str] = []
    local: list[Path] = []

    def here(path: Path) -> str:
        local.append(path)
        return f"\0{len(local) - 1}\0"

    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).strip()
        if not bare:
            continue
        if file and (named := re.match(r"(-r|--requirement)[\s=]*(\S+)", bare)):
            inner = _from_files(file.parent / named[2], base, (*above, file))
            lines += [_moved(each, len(local)) for each in inner.lines]
            local += inner.local
        elif file and (named := re.match(r"(-c|--constraint|-f|--find-links)[\s=]*(?!\w+://)(\S+)", bare)):
            lines.append(f"{named[1]} {here(file.parent / named[2])}")
        elif bare.startswith("-") and not bare.startswith(("-e", "--editable")):
            lines.append(bare)
        else:
            if file and "--hash" in bare and not _PINNED.match(bare):
                asked = bare.partition("--hash")[0].strip()
                raise BuildFailed(
                    f"{file.name} has a --hash for `{asked}`, which is not pinned: nobody would look at it",
                    next="Pin it with ==, or write the file by `uv pip compile --generate-hashes`.",
                )
            lines.append(_line(bare, name, base, file, here))
    return Wanted(name, lines, local)


# One release, or a place: an address, a path, an archive.
_PINNED = re.compile(
    r"[\w.-]+\s*(\[[^\]]*\]\s*)?(@|\(?===?\s*[^\s,;*)]+\s*(,[^;)]*?)?\)?\s*(;|--hash))|[^;]*?(/|\.(whl|zip|tar\.gz)\b)"
)


def _moved(line: str, by: int) -> str:
    return re.sub(r"\0(\d+)\0", lambda number: f"\0{int(number[1]) + by}\0", line)


def _line(bare: str, name: str, base: Path, file: Path | None, here: Any) -> str:
    found = _LOCAL.fullmatch(bare)
    if not found or "://" in bare.replace("file://", ""):
        return bare
    path, editable = found["path"], found["editable"]
    bases = [base, *([file.parent] if file else ())]
    folder = next((each / path for each in bases if (each / path).exists()), base / path)
    named = found["named"] or ""
    if not (editable or named or "/" in path or path in (".", "..") or path.endswith(".whl")):
        return bare
    if not folder.exists():
        raise BuildFailed(f"{name} asks for the local package {path}, and there is none", next=f"Correct `{bare}`.")
    return f"{named}{here(Path(os.path.normpath(folder)))}{found['extras'] or ''}{found['rest']}"


def _as_wheel(path: Path, scratch: Path, uv: str, tools: Tools) -> Path:
    """A local package as uv may install it: a folder's wheel, built from a copy of it."""
    if path.is_file() and path.suffix == ".whl":
        return path
    if path.is_dir() and not any((path / each).is_file() for each in ("pyproject.toml", "setup.py", "setup.cfg")):
        return path  # --find-links
    if path.is_file() and not path.name.endswith((".tar.gz", ".zip")):
        return path  # -c
    tools.say(f"building a wheel of {path.name}")
    built = scratch / "wheels"
    if path.is_dir():
        copy(path, scratch / path.name, kind="made")
        path = scratch / path.name
    options = ["--wheel", "--out-dir", str(built), "--python", sys.executable, "--no-python-downloads", "--no-sources"]
    run(
        [uv, "build", *options, "--quiet", str(path)],
        cwd=scratch if scratch.is_dir() else path.parent,
        environment={**tools.environment, "SOURCE_DATE_EPOCH": "315532800"},
        halted=tools.halted,
    )
    (wheel,) = built.glob("*.whl")
    if not wheel.stem.endswith("-none-any"):
        raise BuildFailed(
            f"{path.name} has compiled code: {wheel.name} is for this machine",
            next="Build a wheel of it for Lambda's Linux, and name that (./wheels/NAME.whl).",
        )
    return wheel


def _tidy(tree: Path, built: list[str]) -> None:
    """Leave out what tells of the install, not of the package: it differs between machines. METADATA stays."""
    for each in [*(tree / "bin").glob("*")]:
        if not _is_program(each):  # a script: it begins with the path of this machine's Python
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    with suppress(OSError):  # there is none, or programs stay
        (tree / "bin").rmdir()
    (tree / ".lock").unlink(missing_ok=True)
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"):
        for file in tree.glob(f"*.dist-info/{name}"):
            file.unlink()
    for name in built:
        if (about := _about(tree, name)) and about.is_file():  # whichever release of its back end built it here
            about.write_text(re.sub(r"(?m)^Generator:.*\n", "", about.read_text()))


def _is_program(path: Path) -> bool:
    """As ruff's is, or a server's: compiled for Lambda, and the same on any machine."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _packages(tree: Path) -> dict[str, list[str]]:
    names = [path.name.removesuffix(".dist-info").partition("-") for path in sorted(tree.glob("*.dist-info"))]
    return {name: [version] for name, _, version in names}


def _missing_wheels(target: str, said: str) -> str:
    """What to do about the packages uv found no wheel of, or nothing if that was not why it failed."""
    names = _without_wheel(said)
    if not names:
        return ""
    return (
        f"{', '.join(names)} has no wheel for {target}. Ask for a version that has one (see its files on PyPI),"
        f' or build it in a container: build = "command".'
    )


def _without_wheel(said: str) -> list[str]:
    found = re.findall(r"Wheels are required for `([^`]+)`|attempted to build `([^`]+)`", said)
    return list(dict.fromkeys(first or second for first, second in found))


def programs(source: Path, root: Path) -> list[Program]:
    """What has to be on PATH to install its packages: nothing where uv came with Pointsman."""
    asks = any((source / name).is_file() for name in ("requirements.txt", *OTHER_LOCKS)) or _uv_lock(source, root)
    listed = _manifest(source).get("project", {}).get("dependencies")
    return [UV] if (asks or listed) and not _beside().is_file() else []


UV = Program("uv", "Install it: https://docs.astral.sh/uv/getting-started/installation/")


def _beside() -> Path:
    return Path(sys.executable).with_name("uv")


def _uv(environment: Mapping[str, str]) -> str:
    found = str(_beside()) if _beside().is_file() else shutil.which(UV.name, path=environment.get("PATH"))
    if not found:
        raise BuildFailed("uv is neither beside Pointsman's Python nor on PATH", next=UV.get)
    return found
