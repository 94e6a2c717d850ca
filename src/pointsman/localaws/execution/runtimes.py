"""Which Lambda runtimes this machine can run, and the command that starts each."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from uv import find_uv_bin

from pointsman.localaws.contract import Target
from pointsman.localaws.execution.layers import Layers, Opt

_HERE = Path(__file__).parent
_OURS = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PYTHONS = tuple(f"python3.{minor}" for minor in range(10, 15))  # awslambdaric needs 3.10
_PROVIDED = ("provided.al2", "provided.al2023")
# What AWS's Python runtimes bring: the interface client, and the SDK with what it stands on. Nothing else of our own
# installation may be seen by a function, or it would work here and fail on AWS.
_INTERFACE = ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")
_SDK = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")


class CannotStart(Exception):
    """The runtime will not start; `kind` is Lambda's errorType, the text its reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    environment: Mapping[str, str]  # what this runtime adds to every function's
    shown: str = "/var/runtime/bootstrap"  # what stands for argv[0] on AWS, and in its error texts
    places: Mapping[str, str] = field(default_factory=dict)  # path here → what an error calls it on AWS
    framed: bool = True  # it may be given a descriptor for framed log messages
    opt: Opt | None = None


class Runtimes:
    """Found on `path`; what must be installed goes to `cache`, what is made for one run to `scratch`."""

    def __init__(self, *, scratch: Path, cache: Path, path: str, home: Path, namespaces: bool = True) -> None:
        self._scratch = scratch
        self._cache = cache
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:  # a read-only home: nothing is kept then
            self._cache = scratch
        self._pythons = dict(_find_pythons(path, home))
        self._node = _find_node(path)
        self._prepared: dict[str, asyncio.Task[Path]] = {}
        self._broken: set[str] = set()
        interpreters = [*self._pythons.values(), *([self._node[0]] if self._node else [])]
        needed = (scratch, self._cache, _HERE, Path(sys.prefix), *map(Path, interpreters))
        self._layers = Layers(needed, namespaces=namespaces)

    def names(self) -> tuple[str, ...]:
        """Lambda's identifiers. A Python other than ours is offered until preparing it has failed."""
        node = (f"nodejs{self._node[1]}.x",) if self._node else ()
        return tuple(sorted({*node, *_PROVIDED, *(self._pythons.keys() - self._broken)}))

    def close(self) -> None:
        """Give up what is being prepared."""
        self._layers.close()
        for task in self._prepared.values():
            task.cancel()

    async def command(self, target: Target) -> Command:
        """How to start `target`. Raises CannotStart with Lambda's words, or ours where Lambda has none."""
        if target.opt is None:
            return await self._command(target, None)
        opt = await self._layers.opt(target.opt)
        command = await self._command(target, opt)
        return replace(command, environment=_with_layers(command.environment, target, opt.root), opt=opt)

    async def _command(self, target: Target, opt: Opt | None) -> Command:
        name = target.runtime
        if name.startswith("provided"):
            return _bootstrap(target.code, opt)
        if name in self._pythons and name not in self._broken:
            return await self._python(name, target, opt)
        if self._node and name == f"nodejs{self._node[1]}.x":
            # Left alone, V8 lets its heap grow by the machine's memory, not the function's, and is then killed for it
            heap = max(32, target.memory_mb - 50)
            argv = (self._node[0], f"--max-old-space-size={heap}", str(_HERE / "node" / "runtime.cjs"))
            return Command(
                argv,
                {"LAMBDA_RUNTIME_DIR": str(_HERE / "node"), "PATH": _path(argv[0])},
                places={str(_HERE / "node"): "/var/runtime"},
            )
        reason = f"{name} cannot be run on this machine; it has {', '.join(self.names())}"
        raise CannotStart("Runtime.Unavailable", reason)

    async def _python(self, name: str, target: Target, opt: Opt | None) -> Command:
        task = self._prepared.get(name)
        if task is None:
            task = self._prepared[name] = asyncio.create_task(self._prepare(name))
        try:
            folder = await asyncio.shield(task)
        except CannotStart:
            self._broken.add(name)
            raise
        executable, start = self._pythons[name], str(_HERE / "python" / "start.py")
        bytecode = self._scratch / "bytecode" / name
        # Layers' files are all in /opt, whosever they are: their bytecode is told apart by the folder they come from.
        layers = () if opt is None else (opt.root, str(bytecode / opt.folder.name))
        return Command(
            (executable, "-S", start, target.handler, str(bytecode), *layers),
            {
                "LAMBDA_RUNTIME_DIR": str(folder),
                "PYTHONPATH": str(folder),
                "PYTHONDONTWRITEBYTECODE": "1",  # the unpacked package stays as it is, whoever imports from it
                "PATH": _path(executable),
            },
            places={str(folder): "/var/runtime", f"{Path(executable).parents[1]}/lib/python": "/var/lang/lib/python"},
        )

    async def _prepare(self, name: str) -> Path:
        """The folder that stands for /var/runtime: links to exactly what AWS provides, as Python `name` can import it.

        It is kept for the next time, with the bytecode of what it links to.
        """
        modules = {found.name: found for found in map(_installed, (*_INTERFACE, *_SDK)) if found}
        if name != _OURS:  # the interface client is a C extension: each minor version needs its own
            modules = {k: v for k, v in modules.items() if k.split(".")[0] not in _INTERFACE}
            modules |= {found.name: found for found in (await self._install(name)).iterdir()}
        identity = hashlib.sha256(repr(sorted(modules.items())).encode()).hexdigest()[:12]
        folder = self._cache / f"{name}-{identity}"
        if not folder.exists():
            partial = Path(tempfile.mkdtemp(dir=self._cache))
            for module, source in modules.items():
                (partial / module).symlink_to(source)
            _settle(partial, folder)
        return folder

    async def _install(self, name: str) -> Path:
        release = version("awslambdaric")
        folder = self._cache / f"{name}-awslambdaric-{release}"
        if folder.exists():
            return folder
        partial = Path(tempfile.mkdtemp(dir=self._cache))
        process = await asyncio.create_subprocess_exec(
            *(find_uv_bin(), "pip", "install", "--quiet", "--python", self._pythons[name]),
            *("--target", str(partial), f"awslambdaric=={release}"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            reason = said.decode(errors="replace").strip()
            raise CannotStart("Runtime.Unavailable", f"awslambdaric {release} cannot be installed for {name}: {reason}")
        _settle(partial, folder)
        return folder


def _settle(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:  # another server was quicker
        shutil.rmtree(partial, ignore_errors=True)


def _bootstrap(code: Path, opt: Opt | None) -> Command:
    bootstrap, started, shown = code / "bootstrap", str(code / "bootstrap"), "/var/task/bootstrap"
    if opt is not None and not bootstrap.is_file():
        bootstrap, started, shown = opt.folder / "bootstrap", f"{opt.root}/bootstrap", "/opt/bootstrap"
    kind = "Runtime.InvalidEntrypoint"
    if not bootstrap.is_file():
        raise CannotStart(kind, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
    if not bootstrap.stat().st_mode & 0o111:  # asked of the file, not of os.access: root may execute nothing too
        raise CannotStart(kind, f"fork/exec {shown}: permission denied")
    return Command((started,), {"LAMBDA_RUNTIME_DIR": str(code), "PATH": _path(None)}, shown=shown, framed=False)


def _with_layers(environment: Mapping[str, str], target: Target, root: str) -> dict[str, str]:
    """The variables by which runtimes and programs find what layers bring, in the order AWS has them."""
    name = target.runtime
    new = dict(environment) | {"PATH": f"{environment['PATH']}:{root}/bin", "RUBYLIB": f"{root}/ruby/lib"}
    if name.startswith("python"):
        packages = (f"{root}/python/lib/{name}/site-packages", f"{root}/python", environment["PYTHONPATH"])
        new["PYTHONPATH"] = os.pathsep.join(packages)
    if name.startswith("nodejs"):
        major = name.removeprefix("nodejs").removesuffix(".x")
        new["NODE_PATH"] = f"{root}/nodejs/node{major}/node_modules:{root}/nodejs/node_modules"
    return new


def _path(executable: str | None) -> str:
    first = [str(Path(executable).parent)] if executable else []
    return os.pathsep.join([*first, "/usr/local/bin", "/usr/bin", "/bin"])


def _installed(module: str) -> Path | None:
    """Where a top-level module lives: its package folder or its single file."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def _find_pythons(path: str, home: Path) -> Iterator[tuple[str, str]]:
    """(runtime, interpreter); ours is the interpreter beneath the virtual environment, which costs less to start."""
    folders = [Path(part) for part in path.split(os.pathsep) if part]
    elsewhere = [*home.glob(".pyenv/versions/*/bin"), *home.glob(".local/share/uv/python/*/bin")]
    for name in _PYTHONS:
        if name == _OURS:
            yield name, os.path.realpath(sys.executable)
            continue
        for folder in [*folders, *elsewhere]:
            # a pyenv shim is there for every version, selected or not, and fails for the others
            if folder.name != "shims" and os.access(folder / name, os.X_OK):
                yield name, str(folder / name)
                break


def _find_node(path: str) -> tuple[str, int] | None:
    node = shutil.which("node", path=path)
    if node is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.", answer.stdout)
    return (node, int(found[1])) if found and int(found[1]) >= 18 else None
