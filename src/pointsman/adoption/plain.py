"""A folder that no other tool owns: the handler it holds, or the programs that are compiled of it."""

from __future__ import annotations

import re

from pointsman.adoption.code import NODE, TYPESCRIPT, candidate, has_esbuild, node_here, package, python_here
from pointsman.adoption.compiled import programs
from pointsman.adoption.found import Candidate, Found, named
from pointsman.adoption.tree import Tree, table
from pointsman.config import Bundle

_CALLED = "(handler|lambdaHandler|lambda_handler)"
_PYTHON = ("lambda_function.py", "app.py", "main.py", "handler.py", "index.py")


def look(tree: Tree) -> Found:
    notes: list[str] = []
    functions = programs(tree, ".", notes) or (function(tree, notes, alone=True),)
    if functions[0].build is None:  # nothing here: below, perhaps
        below = next((found for folder in tree.folders[1:] if (found := programs(tree, folder, []))), ())
        if below:
            functions = below
            notes[:] = [f"{below[0].source} is the nearest folder with something to compile."]
    told = tuple(
        f"{each.owner}: {each.handler}, {each.runtime}, code in {each.source}" for each in functions if each.handler
    )
    return Found(kind="plain", functions=functions, told=told, notes=tuple(notes))


def function(tree: Tree, notes: list[str], *, owner: str | None = None, alone: bool = False) -> Candidate:
    """The function that the folder holds; a note where none was recognised. `alone`: no tool tells its runtime."""
    said = package(tree)
    main = said.get("main")
    mains = [main, f"{main}.js"] if isinstance(main, str) else []
    names = [*(name for name in mains if name.endswith(NODE)), *(f"index{suffix}" for suffix in NODE), *_PYTHON]
    name = next((name for name in names if ".." not in name and tree.is_file(name)), None) or _only_with_a_handler(tree)
    owner = owner or named(str(said.get("name") or tree.name))
    if name is None:
        notes.append("No handler was recognised: say what to package, and how.")
        return candidate(tree, ".", owner, notes)
    text = tree.text(name)
    if name.endswith(".py"):
        called = re.search(r"^(?:async )?def (lambda_handler|handler)\(", text, re.M) or re.search(
            r"^(?:async )?def (\w+)\(\s*event\b", text, re.M
        )
        version = re.search(r"requires-python\s*=\s*\"[~>=]*\s*(3\.(?:9|1[0-4]))\b", tree.text("pyproject.toml"))
        # Without a word of it in the folder: what this machine has, so that it can be rehearsed here.
        says = "`requires-python` in pyproject.toml"
        runtime = f"python{version[1] if version else python_here()}"
    else:
        called = _exported(text)
        called = called or re.search(r"exports\.(\w+)\s*=", text)
        version = re.search(r"(18|20|22|24)\b", str(table(said.get("engines")).get("node", "")))
        says = "`engines` in package.json"
        runtime = f"nodejs{version[1] if version else node_here()}.x"
    if alone and not version:
        notes.append(f"No {says} tells which runtime it wants: {runtime} is what this machine has. Check `runtime`.")
    found = next(filter(None, called.groups()), "") if called else ""
    if not found:
        found = "lambda_handler" if name.endswith(".py") else "handler"
        notes.append(f"{name} has no {found} that was recognised: check `handler`.")
    handler = f"{name.removeprefix('./').rpartition('.')[0]}.{found}"
    if not name.endswith(TYPESCRIPT):
        return candidate(tree, ".", owner, notes, handler=handler, runtime=runtime)
    if not has_esbuild(tree):
        notes.append(f"{name} has to be compiled: `npm install --save-dev esbuild` does for `bundle`.")
    return candidate(tree, ".", owner, notes, handler=handler, runtime=runtime, bundle=Bundle())


def _only_with_a_handler(tree: Tree) -> str | None:
    """The one file beside the manifest, whatever it is called, with a handler by one of the usual names."""
    beside = [path for path in tree.ending(*NODE, *TYPESCRIPT, ".py") if "/" not in path and not path.endswith(".d.ts")]
    found = [path for path in beside if _has_handler(path, tree.text(path))]
    return found[0] if len(found) == 1 else None


def _has_handler(path: str, text: str) -> bool:
    if path.endswith(".py"):
        return re.search(r"^(?:async )?def (lambda_handler|handler)\(", text, re.M) is not None
    return _exported(text) is not None


def _exported(text: str) -> re.Match[str] | None:
    written = rf"exports\.{_CALLED}\b|export\s+(?:const|let|(?:async\s+)?function)\s+{_CALLED}\b"
    return re.search(written, text)
