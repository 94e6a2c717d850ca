"""Install a function's production dependencies in a scratch folder, once for each set of them; never in the sources.

Each set is one folder in the cache, named by what decides its content and renamed into place when complete: an
interrupted install leaves nothing that could be taken for a set, and of two at once one wins.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pointsman.errors import BuildFailed, UsageError

if TYPE_CHECKING:
    import subprocess

Say = Callable[[str], None]
Halted = Callable[[], bool]


class Tools(NamedTuple):
    """Where installs are kept, the whole environment of the tools, whom to tell of progress, and when to stop."""

    cache: Path
    environment: Mapping[str, str]
    say: Say
    halted: Halted | None = None


def install_python(source: Path, tools: Tools, *, runtime: str | None, architecture: str) -> Path | None:
    """The folder that lies over the package's root (wheels unpacked for Lambda), or None without dependencies."""
    wanted = _requirements(source, tools.environment)
    if wanted is None:
        return None
    file, texts = wanted
    version = re.fullmatch(r"python(3\.(\d+))", runtime or "")
    if not version:
        raise UsageError(
            f'{file} asks for packages, but runtime = "{runtime or ""}" does not say for which Python',
            where='build = "python"',
            next='Set runtime, for example runtime = "python3.13".',
        )
    uv = _uv(tools.environment)
    # Runtimes since python3.12 run on Amazon Linux 2023 (glibc 2.34), those before on Amazon Linux 2 (2.26), for which
    # the nearest platform that uv knows and that is not newer is manylinux2014 (2.17).
    glibc = "manylinux_2_34" if int(version[2]) >= 12 else "manylinux2014"
    platform = f"{_machine(architecture, 'x86_64', 'aarch64')}-{glibc}"

    def install(scratch: Path) -> Path:
        tools.say(f"installing the packages of {file} for {runtime} on {architecture}")
        tree = scratch / "tree"
        exported = scratch / "requirements.txt"
        exported.write_text(texts[0])
        asked = exported if file == "uv.lock" else source / file  # in place: its -r and [tool.uv] are relative to it
        options = ["--python-version", version[1], "--python-platform", platform, "--only-binary", ":all:"]
        options += ["--python", sys.executable, "--no-python-downloads", "--link-mode", "copy", "--quiet"]
        command = [uv, "pip", "install", "--target", str(tree), *options, "-r", str(asked)]
        explain = functools.partial(_missing_wheels, f"{runtime} on {platform}")
        run(command, cwd=source, environment=tools.environment, explain=explain, halted=tools.halted)
        tree.mkdir(exist_ok=True)
        _tidy_python(tree)
        return tree

    major = ".".join(_version(uv, tools).split()[1].split(".")[:2])
    return _once(tools.cache, "python", [texts, runtime, platform, f"uv {major}"], install)


SECTIONS = ("dependencies", "optionalDependencies", "peerDependencies")


def install_node(source: Path, tools: Tools, *, architecture: str, above: tuple[Path, ...] = ()) -> Path | None:
    """The folder that holds `node_modules`, or None without production dependencies. `above`: who asks for this one."""
    if source in above:
        raise BuildFailed(f"the local packages {', '.join(map(str, above))} depend on each other in a circle")
    manifest = _package_json(source)
    if not any(manifest.get(section) for section in SECTIONS):
        return None
    lock = _npm_lock(source, manifest)
    local = _local_packages(source, manifest)
    files = {name: (source / name).read_text() for name in (lock, ".npmrc") if name and (source / name).is_file()}
    npm = shutil.which("npm", path=tools.environment.get("PATH"))
    if not npm:
        raise BuildFailed("npm is not on PATH", next="Install Node.js (https://nodejs.org), which brings npm.")
    # Root scripts (`prepare`: husky, tsc …) are for a checkout with its development tools; here are neither.
    manifest = {key: value for key, value in manifest.items() if key != "scripts"}
    cpu = _machine(architecture, "x64", "arm64")

    def install(scratch: Path) -> Path:
        # The scratch folder mirrors absolute paths, so that `file:../lib` means there what it means in the sources.
        mirror, tree = scratch / "mirror", scratch / "tree"
        project = _mirrored(mirror, source)
        modules = project / "node_modules"
        for folder in (modules, tree):
            folder.mkdir(parents=True)
        for name, text in {**files, "package.json": json.dumps(manifest)}.items():
            (project / name).write_text(text)
        for path in local:
            _copy(path, _mirrored(mirror, path))
        if not lock:
            tools.say("there is no package-lock.json: npm chooses versions now, which stay until dependencies change")
        how = ["ci"] if lock else ["install", "--no-package-lock", "--install-links"]
        tools.say(f"npm {how[0]} in a scratch folder")
        # Packages with one build per platform (esbuild, sharp …) must bring Lambda's, not this machine's.
        options = ["--omit=dev", "--os=linux", f"--cpu={cpu}", "--libc=glibc"]
        options += ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        command = [npm, *how, *options]
        run(command, cwd=project, environment=tools.environment, explain=_out_of_step, halted=tools.halted)
        # npm ci links local packages; the package must hold them, with their own dependencies.
        for link in [path for path in (*modules.glob("*"), *modules.glob("@*/*")) if path.is_symlink()]:
            target = Path("/") / link.resolve().relative_to(mirror)
            link.unlink()
            _copy(target, link)
            if own := install_node(target, tools, architecture=architecture, above=(*above, source)):
                shutil.copytree(own / "node_modules", link / "node_modules", symlinks=True)
        _tidy_node(modules, architecture)
        modules.rename(tree / "node_modules")
        return tree

    decides = {key: manifest[key] for key in (*SECTIONS, "devDependencies", "overrides") if key in manifest}
    node = _version("node", tools).split(".")[0]
    key = [decides, files, _digests(local), node, sys.platform, os.uname().machine, cpu]
    return _once(tools.cache, "node", key, install)


def _end_once(halted: Halted, process: subprocess.Popen[str]) -> None:
    """Watches from beside, for the run itself waits for the tool's next line."""
    import signal
    import threading
    import time

    def watch() -> None:
        while process.poll() is None:
            if halted():
                os.killpg(process.pid, signal.SIGKILL)
                return
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()


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
    import contextlib
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
    if halted:
        _end_once(halted, process)
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
        process.stdout.close()
    if code:
        output = "\n".join(f"  {line}" for line in tail) or "  (it printed nothing)"
        raise BuildFailed(f"`{shown}` ended with exit code {code}:\n{output}", next=explain("\n".join(tail)))


def _once(cache: Path, kind: str, key: object, install: Callable[[Path], Path]) -> Path:
    """The cache's entry for `key`; made by `install(scratch)`, which returns the folder to keep, if there is none."""
    import tempfile

    entry = cache / f"{kind}-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}"
    if entry.is_dir():
        return entry
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as scratch:
        made = install(Path(scratch).resolve())
        try:
            made.rename(entry)
        except OSError:
            if not entry.is_dir():  # or another build was first: its entry is as good
                raise
    return entry


def _requirements(source: Path, environment: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """(the file that tells the dependencies, the texts that decide them), or None without any."""
    import tomllib

    project = source / "pyproject.toml"
    manifest: dict[str, Any] = {}
    if project.is_file():
        try:
            manifest = tomllib.loads(project.read_text())
        except tomllib.TOMLDecodeError as error:
            raise BuildFailed(str(error), where=str(project)) from error
    if (source / "uv.lock").is_file():
        options = ["--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate", "--no-python-downloads"]
        text = _output([_uv(environment), "export", *options, "--quiet"], environment, cwd=source)
        _refuse_local(text, "uv.lock")
        return ("uv.lock", [text]) if text.strip() else None
    if (source / "requirements.txt").is_file():
        texts = _with_includes(source / "requirements.txt", ())
        return ("requirements.txt", texts) if "".join(texts).strip() else None
    table = manifest.get("project", {})
    if "dependencies" in table.get("dynamic", ()):
        raise _later(source, '[project] dynamic = ["dependencies"]', "Write them to requirements.txt.")
    if listed := table.get("dependencies"):
        _refuse_local("\n".join(re.sub(r"^[^@;]*@\s*", "", line) for line in listed), "pyproject.toml")
        return "pyproject.toml", [json.dumps([listed, manifest.get("tool", {}).get("uv")], default=str)]
    for other in ("poetry.lock", "Pipfile.lock", "pdm.lock"):
        if (source / other).exists():
            raise _later(source, other, "Export it to requirements.txt.")
    return None


def _with_includes(file: Path, above: tuple[Path, ...]) -> list[str]:
    """The requirements (without comments and blank lines) of a file and of those it names with -r and -c."""
    if file in above:
        return []
    try:
        text = file.read_text()
    except OSError as error:
        raise BuildFailed(f"{file} cannot be read: {error.strerror}") from error
    lines = [bare for line in text.splitlines() if (bare := re.sub(r"(^|\s)#.*", "", line).strip())]
    texts = ["\n".join(lines)]
    wheels = [
        wheel for line in lines if (wheel := re.match(r"(?!-)(?:[\w.\[\],-]+\s*@\s*)?(?:file:)?([^\s:@;]+\.whl)", line))
    ]
    _refuse_local("\n".join(line for line in lines if line not in {wheel.string for wheel in wheels}), file.name)
    # A wheel is built already; under the same name it may be another tomorrow, so its bytes decide too.
    texts += [f"{wheel[1]} {_sha256(file.parent / wheel[1])}" for wheel in wheels]
    for line in lines:
        if named := re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line):
            texts += _with_includes(file.parent / named[1], (*above, file))
    return texts


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BuildFailed(f"{path} cannot be read: {error.strerror}") from error


def _refuse_local(text: str, file: str) -> None:
    """A local package must be built, and its changes would not change its name: not from here."""
    if found := re.search(
        r"^(-e\b.*|--editable\b.*|\.{0,2}/.*|\.{1,2}|file:.*|[\w.\[\],-]+\s*@\s*file:.*)$", text, re.M
    ):
        raise BuildFailed(
            f"{file} asks for the local package `{found[0].strip()}`",
            next="Make a wheel of it and name that (./wheels/NAME.whl), or put its folder into the sources,"
            ' or build the package by build = "command".',
        )


def _npm_lock(source: Path, manifest: Mapping[str, Any]) -> str | None:
    if "workspaces" in manifest:
        raise _later(source, "npm workspaces")
    for name in ("npm-shrinkwrap.json", "package-lock.json"):  # npm prefers them in this order
        if (source / name).is_file():
            return name
    for other in ("pnpm-lock.yaml", "yarn.lock"):
        if (source / other).exists():
            raise _later(source, other)
    return None


def _package_json(source: Path) -> dict[str, Any]:
    file = source / "package.json"
    if not file.is_file():
        return {}
    try:
        manifest = json.loads(file.read_text())
    except ValueError as error:
        raise BuildFailed(f"it is not JSON: {error}", where=str(file)) from error
    if not isinstance(manifest, dict):
        raise BuildFailed("it is not a JSON object", where=str(file))
    return manifest


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
                seen = _local_packages(path, _package_json(path), seen)
    return seen


def _copy(path: Path, to: Path) -> None:
    """A local package, without what is left out of sources too; or a tarball."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copyfile(path, to)
        return
    from pointsman.artifact.source import choose

    for member in choose(path):
        goal = to / member.name
        goal.parent.mkdir(parents=True, exist_ok=True)
        if member.link is not None:
            goal.symlink_to(member.link)
        else:
            shutil.copy(member.path, goal)


def _digests(paths: tuple[Path, ...]) -> list[str]:
    from pointsman.artifact.source import choose

    digest = hashlib.sha256()
    found = [(path, [] if path.is_file() else sorted(choose(path))) for path in paths]
    for path, members in found:
        for member in members:
            digest.update(f"{member.name}\0{member.executable}\0{member.link}\0".encode())
            digest.update(b"" if member.link is not None else hashlib.sha256(Path(member.path).read_bytes()).digest())
        if not members and path.is_file():
            digest.update(path.read_bytes())
    return [*map(str, paths), digest.hexdigest()]


def _tidy_python(tree: Path) -> None:
    """Leave out what tells of the install, not of the package: it differs between machines. METADATA stays."""
    shutil.rmtree(tree / "bin", ignore_errors=True)  # scripts whose first line is the path of this machine's Python
    (tree / ".lock").unlink(missing_ok=True)
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"):
        for file in tree.glob(f"*.dist-info/{name}"):
            file.unlink()


def _tidy_node(modules: Path, architecture: str) -> None:
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
            for path in at.rglob("*.node"):
                _refuse_foreign(path, modules, architecture)


def _refuse_foreign(path: Path, modules: Path, architecture: str) -> None:
    """A module compiled here runs on Lambda only if this is Linux on the function's architecture."""
    with path.open("rb") as file:
        head = file.read(20)
    expected = _machine(architecture, "x64", "arm64")
    built = {b"\x3e\0": "x64", b"\xb7\0": "arm64"}.get(head[18:20]) if head[:4] == b"\x7fELF" else None
    if built != expected:
        raise BuildFailed(
            f"{path.relative_to(modules)} was compiled for this machine, not for Lambda on {architecture}",
            next='Build where Linux runs on that architecture, or in a container: build = "command".',
        )


def _out_of_step(output: str) -> str:
    return "Run `npm install` and commit the lock file." if "in sync" in output else ""


def _missing_wheels(target: str, output: str) -> str:
    """What to do about the packages uv found no wheel of, or nothing if that was not why it failed."""
    found = re.findall(r"Wheels are required for `([^`]+)`|attempted to build `([^`]+)`", output)
    if not found:
        return ""
    names = ", ".join(dict.fromkeys(first or second for first, second in found))
    return (
        f"{names} has no wheel for {target}. Ask for a version that has one (see its files on PyPI),"
        f' or build it in a container: build = "command".'
    )


def _uv(environment: Mapping[str, str]) -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv", path=environment.get("PATH"))
    if not found:
        raise BuildFailed(
            "uv is neither beside Pointsman's Python nor on PATH",
            next="Install it: https://docs.astral.sh/uv/getting-started/installation/",
        )
    return found


def _output(command: list[str], environment: Mapping[str, str], cwd: Path | None = None) -> str:
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
    return done.stdout


def _version(command: str, tools: Tools) -> str:
    """What `command --version` says. A binary that is what it was is not asked again: that takes longer than a build.

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
        return _output([command, "--version"], tools.environment)
    notes = tools.cache / f"{found.name}.version"
    try:
        known = json.loads(notes.read_bytes())
        if known["of"] == identity:
            return str(known["said"])
    except (OSError, ValueError, LookupError, TypeError):  # there is none, or none that can be read
        pass
    said = _output([command, "--version"], tools.environment)
    tools.cache.mkdir(parents=True, exist_ok=True)
    part = tools.cache / f".{notes.name}-{os.urandom(8).hex()}.part"
    part.write_text(json.dumps({"of": identity, "said": said}))
    part.replace(notes)
    return said


def _machine(architecture: str, intel: str, arm: str) -> str:
    match architecture:
        case "x86_64":
            return intel
        case "arm64":
            return arm
    raise UsageError(f'architecture = "{architecture}" is neither x86_64 nor arm64')


def _mirrored(mirror: Path, path: Path) -> Path:
    return mirror / path.relative_to("/")


def _later(source: Path, what: str, instead: str = "") -> BuildFailed:
    return BuildFailed(
        f"{what} cannot be installed from yet",
        where=str(source),
        next=f'{instead} Meanwhile, build = "command" runs the tool you use.'.strip(),
    )
