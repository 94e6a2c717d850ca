"""What Lambda would refuse, or could not start: looked for in a package before anything is called, all at once."""

from __future__ import annotations

import collections
import functools
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pointsman.artifact import notes
from pointsman.errors import BuildFailed
from pointsman.model import UNZIPPED, Artifact, BuiltLayer, few

if TYPE_CHECKING:
    import zipfile

ZIPPED = 50 * 1024 * 1024  # in a request; more goes through S3
_PARSING = threading.Lock()  # CPython counts the depth of all its threads in one: SystemError, now and then

Files = Mapping[str, tuple[int, int]]  # of each file its size and mode


class _Content:
    """What is in a package's zip, which is opened when that is first asked for: it takes time with many files."""

    def __init__(self, path: str) -> None:
        self.path = path

    @functools.cached_property
    def _zipped(self) -> zipfile.ZipFile:
        import zipfile

        return zipfile.ZipFile(self.path)

    def read(self, name: str, most: int = -1) -> bytes:
        with self._zipped.open(name) as file:
            return file.read(most)


class Problem(NamedTuple):
    """`what` is wrong, of which package (`where`), and what to do about it."""

    where: str
    what: str
    next: str = ""


def check(
    artifact: Artifact,
    *,
    handler: str | None,
    runtime: str | None,
    bucket: str | None,
    architecture: str | None = None,
    layers: bool = False,
    more: Sequence[Problem] = (),
) -> None:
    """Raise BuildFailed with all that is wrong, and `more`. With `layers` the handler may be in one that is not ours.

    `architecture`: x86_64 or arm64, for which native code must be; None where nobody says.
    """
    refuse([*more, *problems(artifact, handler, runtime, bucket, architecture, elsewhere=layers)])


def refuse(found: Sequence[Problem]) -> None:
    """Raise BuildFailed where there is something, each with what to do."""
    match found:
        case []:
            return
        case [only]:
            raise BuildFailed(only.what, where=only.where, next=only.next)
        case _:
            lines = [f"  {each.where}: {each.what}{_then(each.next)}" for each in found]
            raise BuildFailed(f"{len(found)} things stand in the way:\n" + "\n".join(lines))


def _then(next_: str) -> str:
    return f". {next_}" if next_ else ""


def problems(
    artifact: Artifact,
    handler: str | None,
    runtime: str | None,
    bucket: str | None,
    architecture: str | None,
    *,
    elsewhere: bool = False,
) -> list[Problem]:
    """Of a function's package and the layers that it is built with."""
    where = f"the package of {artifact.function}"
    files = notes.modes(artifact)
    if not files:
        return [Problem(where, "it is empty", "Look at `source`, `include` and `exclude`.")]
    found = [*too_large(((name, size) for name, (size, _) in files.items()), where, artifact.layers)]
    found += _too_large_zipped(artifact, where, bucket)
    elsewhere, content = elsewhere or bool(artifact.layers), _Content(artifact.path)
    if handler and runtime and not handler.startswith("/opt/"):  # /opt is where layers are
        found += _handler(content, files, handler, runtime, where, elsewhere=elsewhere)
    if architecture:
        found += _foreign(content, files, (architecture,), where)
    for layer in artifact.layers:
        found += _of_layer(layer, bucket)
    return found


def native(artifact: Artifact, architecture: str) -> list[Problem]:
    """What of a package is made for another machine than the function has."""
    where = f"the package of {artifact.function}"
    return _foreign(_Content(artifact.path), notes.modes(artifact), (architecture,), where)


def _of_layer(layer: BuiltLayer, bucket: str | None) -> list[Problem]:
    where = f"layer {layer.layer}"
    files = notes.modes(layer.package)
    if not files:
        return [Problem(where, "it is empty", f"Look at `source` of [layer.{layer.layer}].")]
    found = [*_too_large_zipped(layer.package, where, bucket)]
    found += _foreign(_Content(layer.package.path), files, layer.architectures, where)
    families = {re.split("[0-9.]", each)[0] for each in layer.runtimes}
    wanted = {"python": "python/", "nodejs": "nodejs/"}
    folders = [wanted[each] for each in sorted(families & wanted.keys())]
    known = (*folders, "bin/", "lib/", "extensions/", "bootstrap", "ruby/", "java/", "dotnet/")
    if folders and not any(name.startswith(known) for name in files):
        what = f"nothing of it is on a path that {' or '.join(layer.runtimes)} looks at: it has {few(sorted(files))}"
        found.append(Problem(where, what, f"Put it in {' or '.join(folders)}."))
    return found


def too_large(sizes: Iterable[tuple[str, int]], where: str = "", layers: Sequence[BuiltLayer] = ()) -> list[Problem]:
    sizes = tuple(sizes)
    if sum(size for _, size in sizes) + sum(layer.package.unzipped for layer in layers) <= UNZIPPED:
        return []
    total: collections.Counter[str] = collections.Counter()
    for name, size in sizes:
        parts = name.split("/")
        total["/".join(parts[: 2 if parts[0] == "node_modules" else 1])] += size
    for layer in layers:
        total[f"layer {layer.layer}"] = layer.package.unzipped
    largest = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in total.most_common(3))
    together = " with its layers" if layers else ""
    return [
        Problem(
            where,
            f"{total.total():,} bytes unzipped{together} are more than Lambda's {UNZIPPED:,}; the largest: {largest}",
            "`exclude` what the function does not need, or deploy it as a container image.",
        )
    ]


def _too_large_zipped(artifact: Artifact, where: str, bucket: str | None) -> list[Problem]:
    if artifact.size <= ZIPPED or bucket:
        return []
    what = f"{artifact.size:,} bytes zipped are more than the {ZIPPED:,} that fit into a request"
    next_ = "Set `bucket` in [environment.…] to an S3 bucket of the function's region, or `exclude` more."
    return [Problem(where, what, next_)]


# The handler: its file, and the name in it. What cannot be told is not claimed.

# What layers of observers bring. A wrapper's handler is a file as it is: run.sh of the Lambda Web Adapter, as a rule.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
_OF_WRAPPERS = ("newrelic_lambda_wrapper.", "datadog_lambda.")


def _handler(
    content: _Content, files: Files, handler: str, runtime: str, where: str, *, elsewhere: bool
) -> list[Problem]:
    """Only runtimes whose search is known are judged. `elsewhere`: it may be in a layer instead."""
    name = handler.removeprefix("./")
    wrapped = name.startswith(_OF_WRAPPERS) or (name in files and not _is_source(name))
    if wrapped and not runtime.startswith("provided"):
        return []
    folder, _, last = name.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    judge: Callable[[bytes], str] | None = None
    match runtime.rstrip("0123456789.x"):
        case "nodejs":
            if "." not in last:
                return _malformed(handler, "index.handler", where, elsewhere=elsewhere)
            stem, _, called = last.partition(".")
            stem = prefix + stem
            wanted = [stem + end for end in (".js", ".mjs", ".cjs", "", "/index.js")]
            wanted += [f"node_modules/{stem}{end}" for end in (".js", "/index.js", "/package.json")]
            judge = functools.partial(_not_in_node, called=called.partition(".")[0])
        case "python":
            if "." not in last:
                return _malformed(handler, "app.handler", where, elsewhere=elsewhere)
            stem, _, called = name.rpartition(".")
            stem = stem.replace(".", "/")
            wanted = [f"{stem}.py", f"{stem}/__init__.py", f"{stem}.pyc"]
            wanted += [each for each in files if each.startswith(f"{stem}.") and each.endswith(".so")]
            judge = functools.partial(_not_in_python, called=called, runtime=runtime)
        case "ruby":
            wanted = [prefix + last.partition(".")[0] + ".rb"]
        case "provided.al" | "provided":
            return [] if elsewhere else _bootstrap(files, name, where)
        case _:
            return []
    links = [each for each, (_, mode) in files.items() if mode >> 12 == 0o12]
    there = [each for each in wanted if each in files]
    if len(there) == 1 and judge and there[0] not in links and _is_source(there[0]):
        what = judge(content.read(there[0]))
        return (
            [Problem(where, f'handler = "{handler}" is not in {there[0]}: {what}', "Correct `handler`.")]
            if what
            else []
        )
    if there or elsewhere or any(each.startswith(tuple(f"{link}/" for link in links)) for each in wanted):
        return []
    near = _near(files, wanted[0])
    return [
        Problem(
            where,
            f'handler = "{handler}" is looked for in {wanted[0]}, and that is not in the package',
            f"Near it: {', '.join(near)}." if near else "Look at `handler`, `source`, `include` and `exclude`.",
        )
    ]


def _is_source(name: str) -> bool:
    """Of the user's own: what is published as a package may export in ways that only running it tells."""
    return name.endswith((".py", ".js", ".mjs", ".cjs")) and "node_modules/" not in name


def _bootstrap(files: Files, handler: str, where: str) -> list[Problem]:
    """A runtime from a layer (bref …) brings the bootstrap itself, and takes a file of the package as handler."""
    found = files.get("bootstrap")
    if found is None and handler not in files:
        return [Problem(where, "bootstrap is not in the package, and a custom runtime starts by it")]
    if found and not found[1] & 0o111:
        return [Problem(where, "bootstrap is not executable", "chmod +x bootstrap")]
    return []


def _malformed(handler: str, like: str, where: str, *, elsewhere: bool) -> list[Problem]:
    what = f'handler = "{handler}" names no function'
    return [] if elsewhere else [Problem(where, what, f'Write it like "{like}".')]


def _near(files: Iterable[str], wanted: str) -> list[str]:
    """Up to three of the user's own files that might be meant: the same file elsewhere, or a name much like it."""
    import difflib

    own = [name for name in files if not name.startswith("node_modules/")][:2000]
    stem = wanted.rpartition("/")[2].partition(".")[0]
    same = [name for name in own if name.rpartition("/")[2].partition(".")[0] == stem]
    return list(dict.fromkeys([*same, *difflib.get_close_matches(wanted, own, 3, 0.6)]))[:3]


def _not_in_python(text: bytes, called: str, runtime: str) -> str:
    """Why a Python module has no such name, "" where it has, or where only running it would tell."""
    import ast

    try:
        with _PARSING:
            tree = ast.parse(text)
    except RecursionError:
        return ""
    except (SyntaxError, ValueError) as error:
        # A newer Python may take what this one does not; an older one takes less.
        newer = [int(each) for each in re.findall("[0-9]+", runtime)] > list(sys.version_info[:2])
        return "" if newer else f"it is no Python ({getattr(error, 'msg', error)}, line {getattr(error, 'lineno', 0)})"
    bound: set[str] = set()
    for node in _at_import(tree.body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.Import() | ast.ImportFrom():
                bound |= {(each.asname or each.name).split(".")[0] for each in node.names}
            case ast.Name(ctx=ast.Store()):
                bound.add(node.id)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                bound.add(node.name)
    # `from x import *`, a function that sets a global, PEP 562: only running it tells.
    beyond = {"*", "__getattr__"} & bound or any(
        isinstance(node, ast.Global) or (isinstance(node, ast.Name) and node.id in _DYNAMIC) for node in ast.walk(tree)
    )
    if called in bound or beyond or b"sys.modules" in text:
        return ""
    return offer(called, bound, "it defines")


_DYNAMIC = ("globals", "exec", "eval", "vars", "locals", "setattr", "__import__")


def _at_import(body: Sequence[object]) -> Iterable[object]:
    """What is run when a module is imported: all but what is inside functions, classes and lambdas."""
    import ast

    stack = list(body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)  # type: ignore[arg-type]


def _not_in_node(text: bytes, called: str) -> str:
    """The same of a JavaScript module, read as text: any way to export that is not known here makes no claim."""
    source = text.decode(errors="replace")
    literals = _EXPORTS_LITERAL.findall(source)
    rest = _EXPORTS_LITERAL.sub("", source)
    if _UNKNOWN_EXPORTS.search(rest):
        return ""
    found = {each for match in _EXPORTED.findall(rest) for each in match if each}
    for listed in (*literals, *_EXPORT_LIST.findall(rest)):
        for part in filter(None, (each.strip() for each in listed.split(","))):
            named = _LISTED.fullmatch(part)
            if named is None:
                return ""
            found.add(named[2] or named[1])
    return "" if called in found else offer(called, found - {"__esModule"}, "it exports")


_NAME = r"[A-Za-z_$][\w$]*"
_EXPORTS_LITERAL = re.compile(r"module\.exports\s*=\s*\{([^{}()\[\]`]*)\}")
_EXPORT_LIST = re.compile(r"export\s*\{([^{}]*)\}")
_EXPORTED = re.compile(
    rf"\bexports\s*\.\s*({_NAME})|\bexports\s*\[\s*[\"']({_NAME})[\"']\s*\]|defineProperty\(\s*exports\s*,\s*[\"']({_NAME})"
    rf"|export\s+(?:async\s+)?(?:function\s*\*?|class|const|let|var)\s+({_NAME})|export\s+(default)\b"
)
_LISTED = re.compile(rf"(?://[^\n]*\n\s*)*({_NAME})(?:\s+as\s+({_NAME})|\s*:\s*[\w$.\"' ]+)?")
_UNKNOWN_EXPORTS = re.compile(
    r"\bexports\b(?!\s*(?:\.|\[\s*[\"']|,\s*[\"']))"  # handed on, replaced, or given a computed name
    r"|module\s*\[|export\s*\*|export\s+(?:const|let|var)\s*[\[{]|export\s+(?:const|let|var)\b[^;\n]*,\s*[\w$]+\s*="
)


def offer(called: str, found: set[str], it: str) -> str:
    """What there is instead of the name that is called."""
    from difflib import get_close_matches

    near = get_close_matches(called, found, 1, 0.7)
    if near:
        return f"{it} no {called}, but {near[0]}"
    return f"{it} no {called}{f', but {few(sorted(found))}' if found else ''}"


# Native code


def _foreign(content: _Content, files: Files, architectures: Sequence[str], where: str) -> list[Problem]:
    """Programs and libraries that are made for another machine. Only the first bytes of each are read."""
    found: dict[tuple[str, str], dict[str, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    build, origins = _origins(content.path, files)
    there = [name for name, (size, mode) in files.items() if size >= 20 and _may_be_native(name, mode)]
    several = {name for name in there if _one_of_several(name)}
    # What a package brings for each platform it chooses from when it runs; of one's own so does what has the right one.
    looked_at = [name for name in there if name not in several or origins.get(name, "d") != "d"]
    made = {name: _made_for(content.read(name, 20), name) for name in looked_at}
    chosen_from = {_top(name) for name, made_for in made.items() if made_for in architectures}
    for name, made_for in made.items():
        if not made_for or all(made_for == each for each in architectures):
            continue
        if name not in several or _top(name) not in chosen_from:
            found[made_for, origins.get(name, "")][_top(name) or name].append(name)
    wanted = " and ".join(architectures)
    return [
        Problem(
            where,
            f"{few(sorted(names))} {'is' if len(names) == 1 else 'are'} made for {made_for}, not for {wanted}",
            _remedy(origin, build).format(package=package, names=few(sorted(names)), wanted=wanted),
        )
        for (made_for, origin), packages in found.items()
        for package, names in packages.items()
    ]


def _origins(path: str, files: Files) -> tuple[str, Mapping[str, str]]:
    """(how a package was built, of each file whether it is own, shared, or a dependency's); nothing where that is not
    known, as of a ready zip or of what a command made."""
    from pathlib import Path

    from pointsman.artifact import contents

    about = contents.of(Path(path))
    build = about.settings.get("build", "") if about else ""
    if about is None or build not in ("python", "node", "ruby") or len(about.origins) != len(files):
        return build, {}
    return build, dict(zip(sorted(files, key=str.encode), about.origins, strict=True))


def _top(name: str) -> str:
    """The package, or folder at the root, that a file belongs to; "" for one at the root."""
    parts = [each for each in name.split("/") if each not in ("python", "nodejs", "node_modules")]
    return parts[0] if len(parts) > 1 else ""


def _remedy(origin: str, build: str) -> str:
    match origin, build:
        case (("o" | "s"), _):
            return "Build {names} for {wanted}, leave it out with `exclude`, or set `architecture`."
        case "d", "node":
            return (
                "An install script of {package} brought this machine's: run the build on {wanted}, or set"
                " `architecture`. Where the function does not need {package} when it runs, make it a devDependency."
            )
        case "d", _:
            return "Take a release of {package} that has a build for {wanted}, or set `architecture`."
        case _:
            return "Install {package} for Lambda on {wanted} (build = python or node does), or set `architecture`."


_NATIVE = re.compile(r"(\.so(\.\d+)*|\.node)$|(^|/)bootstrap$")
_PLATFORM = re.compile(r"(^|[^a-z0-9])(x64|x86_64|x86|amd64|ia32|arm64|aarch64|armv?[678]?l?|linux\w*|musl|glibc|darwin\w*|macos\w*|win32|win\d*|windows)($|[^a-z0-9])")  # fmt: skip  # noqa: E501


def _may_be_native(name: str, mode: int) -> bool:
    return mode >> 12 == 0o10 and bool(mode & 0o111 or _NATIVE.search(name))


def _one_of_several(name: str) -> bool:
    """Whether its path names a platform: such packages bring one for each, and choose when they run.

    Not so for what Python imports, whose file name always tells (numpy/….cpython-312-x86_64-linux-gnu.so).
    """
    folder, _, last = name.rpartition("/")
    if re.search(r"\.(cpython-|abi3|pypy)", last):
        last = ""
    return bool(_PLATFORM.search(folder.lower()) or _PLATFORM.search(last.lower()))


def _made_for(head: bytes, name: str) -> str:
    """What a program runs on, "" where it is none, or runs anywhere.

    ELF: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html (e_machine at 18, in the file's byte order)
    """
    if head[:4] == b"\x7fELF":
        (machine,) = struct.unpack(">H" if head[5:6] == b"\2" else "<H", head[18:20])
        return _MACHINES.get(machine, "")
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xfe\xed\xfa\xce"):
        return "macOS"
    if head[:4] in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf") and int.from_bytes(head[4:8], "big") < 32:
        return "macOS"  # of several machines; a Java class has its version there, 45 and more
    return "Windows" if head[:2] == b"MZ" and _NATIVE.search(name) else ""


_MACHINES = {
    3: "x86 of 32 bits",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC",
    22: "s390x",
    40: "ARM of 32 bits",
    62: "x86_64",
    183: "arm64",
    243: "RISC-V",
    258: "LoongArch",
}

__all__ = ["ZIPPED", "Problem", "check", "native", "offer", "problems", "refuse", "too_large"]
