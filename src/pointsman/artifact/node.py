"""Node's production dependencies, installed by the package manager whose lock file is there.

npm alone, without workspaces, lays out node_modules as the package will have it. Else the workspace is installed once
for all its members, and node_tree.py takes out of it what one member needs.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pointsman.artifact import node_tree
from pointsman.artifact.node_tree import manifest as package_json
from pointsman.artifact.tools import (
    Installed,
    Program,
    Tools,
    checkout,
    copy,
    digest,
    machine,
    mirrored,
    on_path,
    once,
    refuse_foreign,
    run,
    version,
)
from pointsman.errors import BuildFailed

SECTIONS = ("dependencies", "optionalDependencies", "peerDependencies")
DECIDES = (
    *SECTIONS,
    *("devDependencies", "overrides", "resolutions", "workspaces", "packageManager", "pnpm", "name"),
    *("peerDependenciesMeta", "dependenciesMeta", "bundleDependencies", "bundledDependencies"),
)
LOCKS = {  # npm prefers its two in this order
    "npm-shrinkwrap.json": "npm",
    "package-lock.json": "npm",
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
}
SETTINGS = (".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "pnpm-workspace.yaml", "patches", ".yarn/patches")
SETTINGS_OF_YARN = (".yarn/releases", ".yarn/plugins")

Manager = Literal["npm", "pnpm", "yarn"]


class Workspace(NamedTuple):
    """Where packages are installed together. `members` are folders; `top` is one of them where it is a package."""

    top: Path
    manager: Manager
    lock: str | None
    members: tuple[Path, ...]


def install(
    source: Path, tools: Tools, *, architecture: str, root: Path | None = None, development: bool = False
) -> Installed | None:
    """What holds `node_modules`, or None without production dependencies.

    `root`: where to stop looking upwards for package.json and the workspace it is a member of. `development`: with the
    tools for bundling, for this machine rather than for Lambda.
    """
    source = home(source, root or source)
    if not _asks(package_json(source), development=development):
        return None
    workspace = _workspace(source, root or source)
    if workspace.manager == "npm" and workspace.members == (source,):
        return _by_npm(source, tools, architecture, development=development)
    return _from_workspace(workspace, source, tools, architecture, development=development)


def _asks(manifest: Mapping[str, Any], *, development: bool) -> bool:
    """Whether it has packages to install."""
    return any(manifest.get(section) for section in (*SECTIONS, *(["devDependencies"] if development else ())))


def home(source: Path, root: Path) -> Path:
    """The folder of the package that the sources are part of: where the nearest package.json is, as Node has it."""
    for folder in (source, *source.parents):
        if (folder / "package.json").is_file():
            return folder
        if folder == root or not folder.is_relative_to(root):
            break
    return source


# Which manager


def _workspace(source: Path, root: Path) -> Workspace:
    top = checkout(root)  # a member may have a pointsman.toml of its own
    above = [folder for folder in source.parents if folder.is_relative_to(top)]
    for folder in [] if _lock(source) and not _globs(source) else [source, *above]:
        if (globs := _globs(folder)) and (folder == source or source in _members(folder, globs)):
            lock = _lock(folder)
            members = tuple(dict.fromkeys((folder, *_members(folder, globs))))
            return Workspace(folder, _manager(folder, lock), lock, members)
    lock = _lock(source)
    return Workspace(source, _manager(source, lock), lock, (source,))


def _lock(folder: Path) -> str | None:
    return next((name for name in LOCKS if (folder / name).is_file()), None)


def _manager(folder: Path, lock: str | None) -> Manager:
    if lock:
        return LOCKS[lock]  # type: ignore[return-value]
    for other in ("bun.lock", "bun.lockb"):
        if (folder / other).exists():
            raise BuildFailed(
                f"{other} cannot be installed from",
                where=str(folder),
                next='Keep a package-lock.json (`npm install --package-lock-only`), or use build = "command".',
            )
    named = str(package_json(folder).get("packageManager", "")).partition("@")[0]
    named = "pnpm" if (folder / "pnpm-workspace.yaml").is_file() else named
    if named in ("pnpm", "yarn"):
        raise BuildFailed(
            f"there is no lock file of {named}", where=str(folder), next=f"Run `{named} install`, and commit it."
        )
    return "npm"


def _globs(folder: Path) -> list[str]:
    """Of the members of a workspace: npm's and yarn's, else pnpm's."""
    said = package_json(folder).get("workspaces") or []
    globs = said.get("packages", []) if isinstance(said, dict) else said
    file = folder / "pnpm-workspace.yaml"
    if not globs and file.is_file():
        globs = _yaml(file).get("packages") or []
    return [str(each).removeprefix("./").rstrip("/") for each in globs]


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BuildFailed(f"it is no YAML that can be read: {error}", where=str(file)) from error
    if not isinstance(found, dict | None):
        raise BuildFailed("it is no table of settings", where=str(file))
    return found or {}


def _members(top: Path, globs: list[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for each in globs:
        if each.startswith("!"):
            for path in top.glob(each[1:]):
                found.pop(path, None)
        elif each in ("", "."):
            found[top] = None
        else:
            for path in sorted(top.glob(each)):
                if "node_modules" not in path.parts and (path / "package.json").is_file():
                    found[path] = None
    return list(found)


# npm alone


def _by_npm(
    source: Path, tools: Tools, architecture: str, *, development: bool = False, above: tuple[Path, ...] = ()
) -> Installed | None:
    """`above`: the local packages that ask for this one."""
    if source in above:
        raise BuildFailed(f"the local packages {', '.join(map(str, above))} depend on each other in a circle")
    manifest = package_json(source)
    if not _asks(manifest, development=development):
        return None
    lock = _lock(source)
    lock = lock if lock and LOCKS[lock] == "npm" else None
    local = _local_packages(source, manifest)
    files = {name: (source / name).read_text() for name in (lock, ".npmrc") if name and (source / name).is_file()}
    npm = on_path(NPM, tools)
    manifest = _without_scripts(manifest)

    def make(scratch: Path) -> Installed:
        # The scratch folder mirrors absolute paths, so that `file:../lib` means there what it means in the sources.
        mirror, tree = scratch / "mirror", scratch / "tree"
        project = mirrored(mirror, source)
        modules = project / "node_modules"
        for folder in (modules, tree):
            folder.mkdir(parents=True)
        for name, text in {**files, "package.json": json.dumps(manifest)}.items():
            (project / name).write_text(text)
        for path in local:
            copy(path, mirrored(mirror, path))
        if not lock:
            tools.say("there is no package-lock.json: npm chooses versions now, which stay until dependencies change")
        how = ["ci"] if lock else ["install", "--no-package-lock", "--install-links"]
        tools.say(f"npm {how[0]} in a scratch folder")
        command = [npm, *how, *_npm_options(architecture, development=development)]
        run(command, cwd=project, environment=tools.environment, explain=_out_of_step, halted=tools.halted)
        # npm ci links local packages; the package must hold them, with their own dependencies.
        for link in [path for path in (*modules.glob("*"), *modules.glob("@*/*")) if path.is_symlink()]:
            target = Path("/") / link.resolve().relative_to(mirror)
            link.unlink()
            copy(target, link)
            if own := _by_npm(target, tools, architecture, above=(*above, source)):
                shutil.copytree(own.tree / "node_modules", link / "node_modules", symlinks=True)
        _tidy(modules, None if development else architecture)
        modules.rename(tree / "node_modules")
        return _made(tree, development=development)

    decides = {key: manifest[key] for key in DECIDES if key in manifest and key != "name"}
    # A local package's own lock is none of its sources, and decides what it brings.
    theirs = [path / name for path in local if path.is_dir() for name in (*LOCKS, ".npmrc")]
    locks = [each.read_text() for each in theirs if each.is_file()]
    platform = _platform(tools, architecture, development=development)
    key = [decides, files, [digest(path) for path in local], *([locks] if locks else []), platform]
    return once(tools, "node", key, make)


def programs(source: Path, root: Path, *, development: bool = False) -> list[Program]:
    """What has to be on PATH to install its packages. Raises BuildFailed where a lock is missing."""
    source = home(source, root)
    if not _asks(package_json(source), development=development):
        return []
    return [NODE, *([own] if (own := _program(_workspace(source, root))) else [])]


NODE = Program("node", "Install Node.js (https://nodejs.org).")
NPM = Program("npm", "Install Node.js (https://nodejs.org), which brings npm.")


def _npm_options(architecture: str, *, development: bool) -> list[str]:
    """Packages with one build per platform (esbuild, sharp …) must bring Lambda's, not this machine's."""
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    if development:
        return ["--include=dev", *quiet]
    return ["--omit=dev", "--os=linux", f"--cpu={machine(architecture, 'x64', 'arm64')}", "--libc=glibc", *quiet]


def _platform(tools: Tools, architecture: str, *, development: bool) -> list[object]:
    node = version("node", tools).split(".")[0]
    return [node, sys.platform, os.uname().machine, machine(architecture, "x64", "arm64"), development]


def _without_scripts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Of the user's own packages: `prepare` (husky, tsc …) is for a checkout with its tools, and here are neither."""
    return {key: value for key, value in manifest.items() if key != "scripts"}


def _out_of_step(said: str) -> str:
    return "Run `npm install` and commit the lock file." if "in sync" in said else ""


def _local_packages(source: Path, manifest: Mapping[str, Any], seen: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """The folders and tarballs named by `file:` dependencies, and theirs."""
    for section in ("dependencies", "optionalDependencies", "devDependencies"):
        for spec in manifest.get(section, {}).values():
            if not str(spec).startswith(("file:", "./", "../")):
                continue
            path = Path(os.path.normpath(source / spec.removeprefix("file:")))
            if path in seen or path == source or not path.exists():  # npm tells of a missing one
                continue
            seen = (*seen, path)
            if path.is_dir():
                seen = _local_packages(path, package_json(path), seen)
    return seen


# A workspace, by any of them


def _from_workspace(
    workspace: Workspace, source: Path, tools: Tools, architecture: str, *, development: bool
) -> Installed:
    platform = _platform(tools, architecture, development=development)
    manager, tool = _tool(workspace, tools)
    whole = _install_all(workspace, tools, architecture, manager, [*platform, tool], development=development)
    own = _own_packages(workspace, source, development=development)

    def make(scratch: Path) -> Installed:
        tree = scratch / "tree"
        (tree / "node_modules").mkdir(parents=True)
        top = (whole.tree / _up(workspace)).resolve()
        theirs = {(top / os.path.relpath(path, workspace.top)).resolve(): path for path in workspace.members}

        def lay(real: Path, goal: Path) -> None:
            if path := theirs.get(real):
                _copy_member(path, goal)
            else:
                _linked(real, goal)

        member = top / os.path.relpath(source, workspace.top)
        wanted = node_tree.asked(package_json(source), development=development)
        node_tree.gather(wanted, member, whole.tree.resolve(), tree, lay)
        _tidy(tree / "node_modules", None if development else architecture)
        return _made(tree, development=development)

    place = os.path.relpath(source, workspace.top)
    key = [place, str(whole.tree.parent.name), {os.path.relpath(p, workspace.top): digest(p) for p in own}]
    return once(tools, "node", key, make)


def _up(workspace: Workspace) -> str:
    """Where the workspace lies in its tree: as deep as local packages beside it make it."""
    return os.path.relpath(workspace.top, _base(workspace))


def _base(workspace: Workspace) -> Path:
    """The folder that holds the workspace, and all that its members name by `file:`."""
    local = [path for each in workspace.members for path in _local_packages(each, package_json(each))]
    return Path(os.path.commonpath([workspace.top, *local]))


def _own_packages(workspace: Workspace, source: Path, *, development: bool) -> list[Path]:
    """The members that `source` needs, and those that they need."""
    by_name = {str(package_json(path).get("name")): path for path in workspace.members}
    found: list[Path] = []
    todo = [source]
    for each in todo:
        for name, _ in node_tree.asked(package_json(each), development=development and each == source):
            path = by_name.get(name)
            if path and path != source and path not in found:
                found.append(path)
                todo.append(path)
    return found


def _copy_member(path: Path, goal: Path) -> None:
    copy(path, goal)
    about = package_json(path)
    main = about.get("main")
    if isinstance(main, str) and not _resolves(goal / main):
        raise BuildFailed(
            f"{path}: its `main`, {main}, is not there", next="Build that package first: what is there is packaged."
        )


def _resolves(path: Path) -> bool:
    return any(Path(f"{path}{end}").is_file() for end in ("", ".js", ".json", ".node", "/index.js"))


def _install_all(
    workspace: Workspace,
    tools: Tools,
    architecture: str,
    manager: list[str],
    platform: list[object],
    *,
    development: bool,
) -> Installed:
    """All members, with nothing in them but their package.json, so that only these and the lock decide."""
    base = _base(workspace)
    manifests = {path: _without_scripts(package_json(path)) for path in workspace.members}
    local = [path for each in workspace.members for path in _local_packages(each, package_json(each))]
    local = [path for path in dict.fromkeys(local) if path not in manifests]
    names = [*SETTINGS, *([workspace.lock] if workspace.lock else ())]
    settings = [path for each in workspace.members for name in names if (path := each / name).exists()]

    def make(scratch: Path) -> Installed:
        tree = scratch / "tree"
        there = {path: tree / os.path.relpath(path, base) for path in (*manifests, *local, *settings)}
        for path, manifest in manifests.items():
            there[path].mkdir(parents=True, exist_ok=True)
            (there[path] / "package.json").write_text(json.dumps(manifest))
        for path in (*local, *settings):
            copy(path, there[path], kind="made")
        for name in SETTINGS_OF_YARN:
            if (workspace.top / name).is_dir():
                copy(workspace.top / name, there[workspace.top] / name, kind="made")
        environment = dict(tools.environment) | {"CI": "true"}
        steps = {
            "npm": functools.partial(_npm_workspace, workspace, tools, architecture, development=development),
            "pnpm": functools.partial(_pnpm, there[workspace.top], manager, architecture, development=development),
            "yarn": functools.partial(_yarn, there[workspace.top], manager, architecture, environment, development),
        }
        command = steps[workspace.manager]()
        tools.say(f"{workspace.manager} {' '.join(command[len(manager) :][:1])} in a scratch folder")
        run(
            command,
            cwd=there[workspace.top],
            environment=environment,
            explain=functools.partial(_not_frozen, workspace),
            halted=tools.halted,
        )
        return Installed(tree, {})

    key = [
        workspace.manager,
        {
            os.path.relpath(path, base): {key: each[key] for key in DECIDES if key in each}
            for path, each in manifests.items()
        },
        [[os.path.relpath(path, base), digest(path, kind="made")] for path in (*local, *settings)],
        platform,
    ]
    return once(tools, "workspace", key, make)


def _npm_workspace(workspace: Workspace, tools: Tools, architecture: str, *, development: bool) -> list[str]:
    if not workspace.lock:
        tools.say("there is no package-lock.json: npm chooses versions now, which stay until dependencies change")
    how = ["ci"] if workspace.lock else ["install", "--no-package-lock"]
    return [on_path(NPM, tools), *how, *_npm_options(architecture, development=development)]


def _pnpm(project: Path, manager: list[str], architecture: str, *, development: bool) -> list[str]:
    if not development:
        wanted = {"os": ["linux"], "cpu": [machine(architecture, "x64", "arm64")], "libc": ["glibc"]}
        file = project / "pnpm-workspace.yaml"
        if file.is_file():  # where pnpm reads it since release 10
            import yaml

            settings = _yaml(file)
            file.write_text(yaml.safe_dump({**settings, "supportedArchitectures": wanted}))
        manifest = json.loads((project / "package.json").read_text()) if (project / "package.json").is_file() else {}
        manifest["pnpm"] = {**manifest.get("pnpm", {}), "supportedArchitectures": wanted}
        (project / "package.json").write_text(json.dumps(manifest))
    return [*manager, "install", "--frozen-lockfile", *([] if development else ["--prod"])]


def _yarn(
    project: Path,
    manager: list[str],
    architecture: str,
    environment: dict[str, str],
    development: bool,
) -> list[str]:
    if not _is_berry(project / "yarn.lock"):
        return [
            *manager,
            "install",
            "--frozen-lockfile",
            "--non-interactive",
            *([] if development else ["--production"]),
        ]
    import yaml

    file = project / ".yarnrc.yml"
    settings = _yaml(file) if file.is_file() else {}
    if not development:
        cpu = machine(architecture, "x64", "arm64")
        settings["supportedArchitectures"] = {"os": ["linux"], "cpu": [cpu], "libc": ["glibc"]}
    # Plug'n'Play needs its own loader at run time; from the same lock Yarn installs folders as well.
    file.write_text(yaml.safe_dump({**settings, "nodeLinker": "node-modules", "enableTelemetry": False}))
    environment["YARN_ENABLE_PROGRESS_BARS"] = "0"
    return [*manager, "install", "--immutable"]


def _is_berry(lock: Path) -> bool:
    with lock.open() as file:
        return any(line.startswith("__metadata:") for line in file)


def _tool(workspace: Workspace, tools: Tools) -> tuple[list[str], str]:
    """(how the manager is started, its major release). Raises BuildFailed for one that cannot read the lock."""
    match workspace.manager:
        case "npm":
            return [on_path(NPM, tools)], ""
        case "pnpm":
            pnpm = on_path(_PNPM, tools, why="pnpm-lock.yaml")
            return [pnpm], version(pnpm, tools).split(".")[0]
        case "yarn":
            berry = _is_berry(workspace.top / "yarn.lock")
            if berry and (own := _yarn_path(workspace.top)):
                return ["node", own], Path(own).name
            program = _YARN if berry else _YARN_1
            yarn = on_path(program, tools, why="yarn.lock")
            major = version(yarn, tools).strip().split(".")[0]
            if berry == (major in ("0", "1")):
                raise BuildFailed(
                    f"yarn.lock is of Yarn {'2 or newer' if berry else '1'}, and the yarn on PATH is release {major}",
                    where=str(workspace.top),
                    next=program.get,
                )
            return [yarn], major


_PNPM = Program("pnpm", "Install it: `npm install -g pnpm`, or `corepack enable`.")
_YARN = Program(
    "yarn",
    "Install it: `npm install -g @yarnpkg/cli-dist`, or commit .yarn/releases (`yarn set version stable`).",
)
_YARN_1 = Program("yarn", "Install it: `npm install -g yarn@1`.")


def _program(workspace: Workspace) -> Program | None:
    """None where the project brings it."""
    match workspace.manager:
        case "npm":
            return NPM
        case "pnpm":
            return _PNPM
        case "yarn":
            if not _is_berry(workspace.top / "yarn.lock"):
                return _YARN_1
            return None if _yarn_path(workspace.top) else _YARN


def _yarn_path(top: Path) -> str | None:
    """The release that the project brings itself, relative to its top folder."""
    file = top / ".yarnrc.yml"
    found = re.search(r"(?m)^yarnPath:\s*[\"']?([^\"'\s]+)", file.read_text()) if file.is_file() else None
    return found[1] if found and found[1].startswith(".yarn/releases/") and (top / found[1]).is_file() else None


def _not_frozen(workspace: Workspace, said: str) -> str:
    signs = ("in sync", "FROZEN", "OUTDATED_LOCKFILE", "frozen-lockfile", "lockfile would have been modified")
    if any(sign in said for sign in signs):
        return f"Run `{workspace.manager} install` in {workspace.top}, and commit the lock file."
    return ""


# What was installed


def _made(tree: Path, *, development: bool) -> Installed:
    modules = tree / "node_modules"
    return Installed(tree, {} if development else node_tree.packages(modules))


def _tidy(modules: Path, architecture: str | None) -> None:
    """Leave out npm's own notes, links for the shell, and what compilers leave: all of it differs between machines."""
    for folder, folders, files in os.walk(modules):
        at = Path(folder)
        if at.name == "node_modules":
            (at / ".package-lock.json").unlink(missing_ok=True)
            for name in (".bin", ".cache"):
                if name in folders:
                    folders.remove(name)
                    shutil.rmtree(at / name)
        if at.name == "build" and "config.gypi" in files:  # node-gyp was here: only what it built is kept
            for path in [path for path in at.rglob("*") if path.is_file() and path.suffix != ".node"]:
                path.unlink()
            for path in at.rglob("*.node") if architecture else ():
                refuse_foreign(path, modules, architecture or "")


def part(installed: Installed, wanted: Iterable[str], without: Callable[[str], bool], tools: Tools) -> Installed:
    """Of what was installed only the packages `wanted`, and what they need."""
    return _part(installed, sorted(wanted), without, "part", tools)


def without(installed: Installed, source: Path, left_out: Callable[[str], bool], why: str, tools: Tools) -> Installed:
    """What was installed for `source`, without some packages, and without what only they need."""
    names = sorted(name for name, _ in node_tree.asked(package_json(source)))
    return _part(installed, names, left_out, f"without {why}", tools)


def _part(installed: Installed, names: list[str], left_out: Callable[[str], bool], why: str, tools: Tools) -> Installed:
    def make(scratch: Path) -> Installed:
        tree = scratch / "tree"
        (tree / "node_modules").mkdir(parents=True)
        asked = [node_tree.Asked(name, required=False) for name in names]
        top = installed.tree.resolve()
        node_tree.gather(asked, top, top, tree, _linked, without=left_out)
        return _made(tree, development=False)

    return once(tools, "node", [installed.tree.parent.name, names, why], make)


def _linked(real: Path, goal: Path) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    node_tree.linked(real, goal)
