"""Programs that are compiled, or put together by a Makefile: what their manifests say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pointsman.adoption.code import candidate
from pointsman.adoption.found import Build, Candidate, named
from pointsman.adoption.tree import Tree, items, table, text_of, within
from pointsman.config import Handler, Runtime, fits

_OWN = "provided.al2023"  # the runtime of what brings a `bootstrap`
_GRADLE = ("build.gradle", "build.gradle.kts")


class Program(NamedTuple):
    """What a manifest makes. `target` names it where there are several; `handler` is "" where it could not be read."""

    build: Build
    name: str
    target: str | None
    handler: str
    runtime: str


def programs(tree: Tree, home: str, notes: list[str]) -> tuple[Candidate, ...]:
    """A function for each program that the folder's manifests make; none where they make none."""
    found = tuple(_programs(tree, "" if home == "." else f"{home}/"))
    for each in found:
        if not each.handler:
            notes.append(f"{each.name}'s handler was not recognised: say it in `handler`, as Lambda is to be told it.")
    return tuple(
        candidate(
            tree,
            home,
            each.name,
            notes,
            handler=each.handler or None,
            runtime=each.runtime,
            build=each.build,
            target=each.target,
        )
        for each in found
    )


def builder(tree: Tree, place: str, method: str, family: str) -> Build | None:
    """What makes of the folder what SAM's BuildMethod, or the runtime, asks for; None where its manifest is not there.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/building-custom-runtimes.html
    """
    home = "" if place == "." else f"{place}/"
    asked = method.lower()
    if asked == "makefile":
        return "make" if tree.is_file(f"{home}Makefile") else None
    if asked.startswith("rust"):
        return "rust" if tree.is_file(f"{home}Cargo.toml") else None
    if asked.startswith("go") or (not asked and family in ("go", "provided")):
        return "go" if tree.is_file(f"{home}go.mod") else None
    if not asked and family == "java":
        return "java" if any(tree.is_file(f"{home}{name}") for name in ("pom.xml", *_GRADLE)) else None
    if not asked and family == "dotnet":
        return "dotnet" if _projects(tree, home) else None
    if not asked and family == "ruby":
        return "ruby"
    return None


def _programs(tree: Tree, home: str) -> Iterator[Program]:
    made = _made(tree.text(f"{home}Makefile"))
    if made and not tree.is_file(f"{home}package.json"):
        for name in made:
            yield Program("make", name, name, *_of_a_makefile(tree, home))
    elif tree.is_file(f"{home}Cargo.toml"):
        names = list(dict.fromkeys(_binaries(tree, home)))
        for name in names:
            yield Program("rust", named(name), name if len(names) > 1 else None, "bootstrap", _OWN)
    elif tree.is_file(f"{home}go.mod"):
        module = re.search(r"^module\s+\"?([^\s\"]+)", tree.text(f"{home}go.mod"), re.M)
        name = named(re.sub(r"/v\d+$", "", module[1]).rpartition("/")[2] if module else tree.name)
        folders = _mains(tree, home)
        if "." in folders:
            yield Program("go", name, None, "bootstrap", _OWN)
        else:
            for folder in folders:
                yield Program("go", named(folder.rpartition("/")[2]), folder, "bootstrap", _OWN)
    elif any(tree.is_file(f"{home}{name}") for name in ("pom.xml", *_GRADLE)) and not tree.is_file(
        f"{home}package.json"
    ):
        yield Program("java", named(tree.name), None, _java_handler(tree, home), _java(tree, home))
    elif projects := _projects(tree, home):
        framework = re.search(r"<TargetFramework>net(\d+)\.", tree.text(projects[0]))
        runtime = f"dotnet{framework[1]}" if framework and fits(Runtime, f"dotnet{framework[1]}") else "dotnet8"
        yield Program("dotnet", named(projects[0].rpartition("/")[2].rpartition(".")[0]), None, "", runtime)


def _made(makefile: str) -> list[str]:
    """The functions that a Makefile for `sam build` has targets for."""
    if "ARTIFACTS_DIR" not in makefile:
        return []
    return [name for name in re.findall(r"^build-([A-Za-z0-9_.-]+)\s*:(?!=)", makefile, re.M) if name.strip(".")]


def _of_a_makefile(tree: Tree, home: str) -> tuple[str, str]:
    """Handler and runtime of what a Makefile puts together: what lies beside it tells."""
    from pointsman.adoption.plain import function

    if home or any(tree.is_file(name) for name in ("Cargo.toml", "go.mod")):
        return "bootstrap", _OWN
    beside = function(tree, [])
    return (beside.handler, beside.runtime) if beside.handler and beside.runtime else ("bootstrap", _OWN)


def _binaries(tree: Tree, home: str) -> Iterator[str]:
    """Cargo's rule: [[bin]] tables, src/main.rs under the package's name, src/bin; members of a workspace, too."""
    said = tree.table(f"{home}Cargo.toml")
    for each in items(said.get("bin")):
        if name := text_of(table(each).get("name")):
            yield name
    package = text_of(table(said.get("package")).get("name"))
    own = tree.is_file(f"{home}src/main.rs") and not _is_a_bin(said, "src/main.rs")
    others = not said.get("bin") and any(path.startswith(f"{home}src/bin/") for path in tree.ending(".rs"))
    if package and (own or others):
        yield package
    for member in items(table(said.get("workspace")).get("members")):
        place = within(home, member) if isinstance(member, str) and "*" not in member else None
        if place and place != ".":
            yield from _binaries(tree, f"{place}/")


def _is_a_bin(said: Any, path: str) -> bool:
    return any(table(each).get("path") == path for each in items(said.get("bin")))


def _mains(tree: Tree, home: str) -> list[str]:
    """The folders that hold a program in Go, from the module's."""
    files = [path for path in tree.ending(".go") if path.startswith(home) and not path.endswith("_test.go")]
    mains = [path for path in files if re.search(r"^package main\b", tree.text(path), re.M)]
    return list(dict.fromkeys(path.removeprefix(home).rpartition("/")[0] or "." for path in mains))


def _java(tree: Tree, home: str) -> str:
    said = "".join(tree.text(f"{home}{name}") for name in ("pom.xml", *_GRADLE))
    maven = r"compiler\.(?:release|source|target)>|java\.version>|<(?:release|source)>"
    found = re.search(rf"(?:{maven}|VERSION_|JavaLanguageVersion\.of\()\s*(?:1[._])?(8|11|17|21|25)\b", said)
    return f"java{found[1]}" if found and fits(Runtime, f"java{found[1]}") and found[1] != "8" else "java21"


def _java_handler(tree: Tree, home: str) -> str:
    """The only class that is a handler by its interface."""
    found = []
    for path in tree.ending(".java"):
        text = tree.text(path)
        name = re.search(r"\bclass\s+(\w+)[^{]*\bimplements\b[^{]*\bRequest(?:Stream)?Handler\b", text)
        if path.startswith(home) and name:
            package = re.search(r"^\s*package\s+([\w.]+)\s*;", text, re.M)
            found.append(f"{package[1]}.{name[1]}" if package else name[1])
    handler = f"{found[0]}::handleRequest" if len(found) == 1 else ""
    return handler if fits(Handler, handler) else ""


def _projects(tree: Tree, home: str) -> list[str]:
    endings = (".csproj", ".fsproj", ".vbproj")
    return [path for path in tree.ending(*endings) if path.startswith(home) and "/" not in path.removeprefix(home)]
