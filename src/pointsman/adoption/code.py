"""What code itself says: where a handler lies, how it is built, which runtime will do, and which tests it has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from pointsman.adoption.found import Candidate, named
from pointsman.adoption.tree import Tree, table
from pointsman.config import Handler, Provision, Runtime, Test, Tests, fits

NODE = (".js", ".mjs", ".cjs")
TYPESCRIPT = (".ts", ".mts", ".tsx")

# Runtimes that Lambda creates no function with any more, by family, and what to take instead. Those past their date
# only: one that is deprecated still works. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
_RETIRED = (
    (r"nodejs(4\.3|6\.10|8\.10|10\.x|12\.x|14\.x)?", "nodejs22.x"),
    (r"python(2\.7|3\.6|3\.7)", "python3.13"),
    (r"ruby2\.[57]", "ruby3.4"),
    (r"dotnetcore[123]\.[01]", "dotnet8"),
    (r"java8", "java21"),
    (r"go1\.x|provided", "provided.al2023"),
)


def candidate(
    tree: Tree,
    source: str,
    owner: str,
    notes: list[str],
    *,
    handler: str | None = None,
    runtime: str | None = None,
    provision: Provision | None = None,
    name: str | None = None,
    where: str = "",
    **more: Any,
) -> Candidate:
    """A function whose code lies in `source`, with how it is built and tested as that folder tells it.

    `where` is the file that declares its runtime: one that is no longer taken has to be changed there.
    """
    home = "" if source == "." else f"{source}/"
    build: Literal["node", "python", "ruby"] | None = None
    if (runtime or "").startswith("nodejs") or (not runtime and tree.is_file(f"{home}package.json")):
        build = "node"
    elif (runtime or "").startswith("python") or (not runtime and _has_python(tree, home)):
        build = "python"
    elif (runtime or "").startswith("ruby"):
        build = "ruby"
    tests = (
        _npm_tests(tree, home, notes)
        if build == "node"
        else _python_tests(tree, source)
        if build == "python"
        else Tests()
    )
    more.setdefault("build", build)
    if where and successor(runtime):
        notes.append(
            f"{where}: Lambda no longer takes {owner}'s Runtime, {runtime}: make it {successor(runtime)} there, "
            "or nothing can be created or updated."
        )
    return Candidate(
        owner=owner,
        source=source,
        handler=handler if _is_handler(handler, runtime) else None,
        runtime=runtime if fits(Runtime, runtime) and not successor(runtime) else None,
        test=tests,
        provision=provision,
        name=name,
        **more,
    )


def _is_handler(handler: str | None, runtime: str | None) -> bool:
    """Node, Python and Ruby want a module's name and one in it; others a class, a program or anything."""
    if not fits(Handler, handler):
        return False
    compiled = runtime is not None and not runtime.startswith(("nodejs", "python", "ruby"))
    return compiled or re.search(r"[^.]\.[^.]", handler or "") is not None


def _has_python(tree: Tree, home: str) -> bool:
    return any(True for _ in (tree.root / home).glob("*.py"))


def successor(runtime: str | None) -> str | None:
    """What to take instead of a runtime that Lambda no longer creates functions with."""
    return next((better for family, better in _RETIRED if runtime and re.fullmatch(family, runtime)), None)


def holds(tree: Tree, folder: str, handler: str, runtime: str | None, *, typescript: bool = False) -> bool:
    """Whether the handler's file is in the folder. Node's handlers keep dots in file names, Python's are packages."""
    stem = handler.rpartition(".")[0]
    node = [f"{stem}{suffix}" for suffix in (*NODE, *(TYPESCRIPT if typescript else ()))]
    python = [f"{stem.replace('.', '/')}.py"]
    family = (runtime or "")[:6]
    names = {"nodejs": node, "python": python}.get(family, [*node, *python])
    return any(tree.is_file(f"{folder}/{name}") for name in names)


def home_of(tree: Tree, handler: str | None, runtime: str | None) -> str | None:
    """The folder, this or one in it, that holds the handler's file."""
    if not handler or not fits(Handler, handler):
        return None
    return next((folder for folder in tree.folders if holds(tree, folder, handler, runtime)), None)


def python_here() -> str:
    """This Python, as far as Lambda has it."""
    return f"3.{max(10, min(14, sys.version_info.minor))}"


def node_here() -> str:
    """The major of this machine's Node where Lambda has it, else the newest long-lived one."""
    node = shutil.which("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout if node else ""
    found = re.match(r"v(18|20|22|24)\.", said)
    return found[1] if found else "22"


def has_esbuild(tree: Tree, home: str = "") -> bool:
    """Whether the project brings the program that a bundle is made by."""
    said = package(tree, home)
    return any("esbuild" in table(said.get(key)) for key in ("dependencies", "devDependencies"))


def npm_install(tree: Tree, home: str) -> str:
    """What goes before a command that needs the project's own packages; "" where it has none."""
    said = package(tree, home)
    if not any(said.get(key) for key in ("dependencies", "devDependencies")):
        return ""
    locked = any(tree.is_file(f"{home}{lock}") for lock in ("package-lock.json", "npm-shrinkwrap.json"))
    return "npm ci && " if locked else "npm install --no-audit --no-fund && "


# Tests


def package(tree: Tree, home: str = "") -> Mapping[str, Any]:
    return tree.table(f"{home}package.json")


def _npm_tests(tree: Tree, home: str, notes: list[str]) -> Tests:
    """From package.json's scripts: of the unit and of the integration tests the script that writes a report."""
    said = package(tree, home)
    scripts = {key: each for key, each in table(said.get("scripts")).items() if isinstance(each, str)}
    tests: dict[bool, tuple[str, str | None]] = {}
    for key, script in scripts.items():
        words = {each.lower() for each in re.findall("[A-Z]?[a-z0-9]+", key)}
        integration = bool(words & {"itest", "itests", "integration", "e2e", "acceptance"})
        if not integration and not words & {"test", "tests", "unit"}:
            continue
        # Neither npm's stand-in, nor what does not end, calls what is deployed, or what a word shows to do otherwise.
        if words & {"watch", "lint", "coverage", "deploy", "setup", "debug", "update"} or re.search(
            r"no test specified|no tests|not implemented|claudia test-lambda|\binvoke\b", script, re.IGNORECASE
        ):
            continue
        report = re.search(r"=[\"']?([\w./-]+\.xml)\b", script)
        known = tests.get(integration)
        if known is None or (report and not known[1]):
            tests[integration] = (key, report[1] if report else None)
    install = npm_install(tree, home)
    runs = {
        which: Test(
            run=f"{install}npm run {quote(key)}",
            junit=(report,) if report else (),
            against=_against(tree.root / home, scripts[key]) if which else "version",
        )
        for which, (key, report) in tests.items()
    }
    if any(which and test.against == "latest" for which, test in runs.items()):
        notes.append(
            "The integration tests name no qualifier, so they test $LATEST. Let them invoke POINTSMAN_QUALIFIER, "
            'then take against = "version".'
        )
    return Tests(unit=runs.get(False), integration=runs.get(True))


def _python_tests(tree: Tree, source: str) -> Tests:
    """By pytest, where it is asked for: tests/ or tests/unit, and tests/integration."""
    folder = tree.root / source
    inside = Tree(folder)
    if not any("pytest" in inside.text(path) for path in inside.ending(".txt", ".toml") if "/" not in path):
        return Tests()
    pytest = "python -m pytest --junitxml="
    inner = next(
        (each for each in ("tests/integration", "integration-tests", "integration_tests") if (folder / each).is_dir()),
        None,
    )
    unit = next((each for each in ("tests/unit", "tests", "test") if (folder / each).is_dir()), None)
    ignore = f" --ignore={inner}" if inner and inner.startswith(f"{unit}/") else ""
    return Tests(
        unit=Test(run=f"{pytest}junit-unit.xml {unit}{ignore}", junit=("junit-unit.xml",)) if unit else None,
        integration=Test(
            run=f"{pytest}junit-integration.xml {inner}",
            junit=("junit-integration.xml",),
            against=_against(folder, f" {inner}"),
        )
        if inner
        else None,
    )


def _against(folder: Path, command: str) -> Literal["version", "latest"]:
    """Whether the tests that a command runs call a version: then they speak of a qualifier."""
    tree = Tree(folder)
    words = [word for word in re.findall(r"(?<=\s)\w[\w./-]*", command) if ".." not in word]
    places = [word.strip("/") for word in words if tree.is_folder(word)]
    sources = (
        path
        for path in tree.ending(*NODE, ".ts", ".py")
        if any(path.startswith(f"{place}/") for place in places)
        or (not places and re.search(r"test|integration|e2e", path.rpartition("/")[0]))
    )
    if any(re.search("POINTSMAN_|Qualifier", tree.text(path)) for path in islice(sources, 500)):
        return "version"
    return "latest"


__all__ = [
    "NODE",
    "TYPESCRIPT",
    "candidate",
    "has_esbuild",
    "holds",
    "home_of",
    "named",
    "node_here",
    "npm_install",
    "package",
    "python_here",
    "successor",
]
