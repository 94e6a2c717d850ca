"""One file of JavaScript out of the handler and all it imports, by the project's own esbuild. In a scratch folder."""

from __future__ import annotations

import json
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.artifact import checks, node_tree
from pointsman.artifact.node_tree import manifest as package_json
from pointsman.artifact.tools import Program, Tools, run
from pointsman.errors import BuildFailed, UsageError

if TYPE_CHECKING:
    from pointsman.config import Bundle

ENTRIES = (".ts", ".mts", ".cts", ".tsx", ".js", ".mjs", ".cjs", ".jsx")


def bundle(
    how: Bundle,
    project: Path,
    source: Path,
    tools: Tools,
    out: Path,
    *,
    handler: str | None,
    runtime: str | None,
    external: tuple[str, ...],
    modules: Path | None,
) -> None:
    """Write the bundle into `out`, where the handler will be looked for.

    `project` is a copy of `source` that may be written to. `modules`: what holds the node_modules to bundle from.
    """
    entry, place = _entry(project, handler)
    if modules:
        shutil.rmtree(project / "node_modules", ignore_errors=True)
        # As a copy, by hard links: a link to the cache would leave the cache's path in what is written.
        shutil.copytree(modules / "node_modules", project / "node_modules", symlinks=True, copy_function=node_tree.link)
    target = how.target or _target(runtime)
    tool = _esbuild(project, source, tools)
    command = [*tool, entry, "--bundle", "--platform=node", "--log-level=warning"]
    command += [f"--format={how.format}", f"--outfile={out / place}{'.mjs' if how.format == 'esm' else '.js'}"]
    command += [*([f"--target={target}"] if target else ()), *(["--minify"] if how.minify else ())]
    command += [*(["--sourcemap"] if how.sourcemap else ()), *(f"--external:{each}" for each in external), *how.options]
    tools.say(f"esbuild {entry}")
    run(command, cwd=project, environment=tools.environment, explain=_unresolved, halted=tools.halted)
    _refuse_without_handler(
        [*tool, entry], how, project, tools, out.with_name("exports"), handler=handler or "", external=external
    )


def _refuse_without_handler(
    command: list[str], how: Bundle, project: Path, tools: Tools, out: Path, *, handler: str, external: tuple[str, ...]
) -> None:
    """Where the entry exports by another name. A bundle of CommonJS does not tell, minified or not: so esbuild is asked
    for the entry's own exports as a module, first alone, then with all that it hands on from its own files."""
    wanted = handler.rpartition("/")[2].partition(".")[2].partition(".")[0]
    if not wanted or any(each.startswith(_DECIDE_EXPORTS) for each in how.options):
        return
    found: set[str] = set()
    for whole in ((), ("--bundle", *(f"--external:{each}" for each in external), *how.options)):
        made, about = out / "exports.mjs", out / "exports.json"
        asked = ["--platform=node", "--format=esm", "--log-level=silent", f"--outfile={made}", f"--metafile={about}"]
        try:
            run([*command, *whole, *asked], cwd=project, environment=tools.environment, halted=tools.halted)
            told = json.loads(about.read_text())
            (exported,) = (each["exports"] for each in told["outputs"].values() if "entryPoint" in each)
            kinds = {name: each.get("format") for name, each in told["inputs"].items()}
        except (BuildFailed, OSError, ValueError, KeyError):
            if tools.halted and tools.halted():
                raise
            return
        found = set(exported)
        if wanted in found or kinds.get(command[-1]) != "esm" or _HANDED_ON.search(made.read_text() if whole else ""):
            return
    raise BuildFailed(
        f'handler = "{handler}" is not in {command[-1]}: {checks.offer(wanted, found, "it exports")}',
        next="Correct `handler`.",
    )


_DECIDE_EXPORTS = (
    "--footer",
    "--banner",
    "--global-name",
    "--format",
    "--inject",
    "--metafile",
    "--out",
    "--splitting",
)
_HANDED_ON = re.compile(r"(?m)^export \* from|__reExport\(")  # what others export, only running it tells


def _entry(project: Path, handler: str | None) -> tuple[str, str]:
    """(the file that holds the handler, its place without an ending)."""
    if not handler:
        raise UsageError("`bundle` needs `handler`, the file to begin with", next='Set handler = "index.handler".')
    name = handler.removeprefix("./")
    folder, slash, last = name.rpartition("/")
    place = f"{folder}{slash}{last.partition('.')[0]}"
    for end in ENTRIES:
        if (project / f"{place}{end}").is_file():
            return f"{place}{end}", place
    raise BuildFailed(
        f'handler = "{handler}" would be bundled from {place}.ts or .js, and there is neither',
        next="Look at `handler` and `source`.",
    )


def _target(runtime: str | None) -> str | None:
    found = re.fullmatch(r"nodejs(\d+)\.x", runtime or "")
    return f"node{found[1]}" if found else None


def _esbuild(project: Path, source: Path, tools: Tools) -> list[str]:
    """The project's own, as its lock has it; else one that is installed beside the sources; else that on PATH."""
    if (own := project / "node_modules" / "esbuild" / "bin" / "esbuild").is_file():
        return [str(own)]
    if beside := _beside(source):
        return [str(beside)]
    if found := shutil.which(ESBUILD.name, path=tools.environment.get("PATH")):
        return [found]
    raise BuildFailed("there is no esbuild: neither in package.json, nor installed, nor on PATH", next=ESBUILD.get)


def _beside(source: Path) -> Path | None:
    places = (each / "node_modules" / ".bin" / "esbuild" for each in (source, *source.parents))
    return next((each for each in places if each.is_file()), None)


def programs(source: Path) -> list[Program]:
    """What has to be on PATH to bundle: nothing where the project has its own."""
    asked = package_json(source)
    own = any("esbuild" in asked.get(section, {}) for section in ("devDependencies", "dependencies"))
    return [] if own or _beside(source) else [ESBUILD]


ESBUILD = Program("esbuild", "`npm install --save-dev esbuild`, and commit the lock file.")


def _unresolved(said: str) -> str:
    if "Could not resolve" in said:
        return "Add the package to package.json, or, if the runtime or a layer brings it, to `external` of [….bundle]."
    return ""


def kept_outside(installed: list[str], external: tuple[str, ...]) -> list[str]:
    """Of the installed packages those that stay packages: the bundle imports them at run time."""
    wanted = {"/".join(each.split("/")[: 2 if each.startswith("@") else 1]) for each in external}
    return [name for name in installed if any(fnmatchcase(name, each) for each in wanted)]
