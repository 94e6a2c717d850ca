"""A folder that no other tool owns: the handler it holds."""

from __future__ import annotations

import re

from pointsman.adoption.code import NODE, candidate, node_here, package, python_here
from pointsman.adoption.found import Candidate, Found, named
from pointsman.adoption.tree import Tree, table

_PYTHON = ("lambda_function.py", "app.py", "main.py", "handler.py", "index.py")


def look(tree: Tree) -> Found:
    notes: list[str] = []
    functions = (function(tree, notes),)
    return Found(kind="plain", functions=functions, notes=tuple(notes))


def function(tree: Tree, notes: list[str], *, owner: str | None = None) -> Candidate:
    """The function that the folder holds; a note where none was recognised."""
    said = package(tree)
    main = said.get("main")
    mains = [main, f"{main}.js"] if isinstance(main, str) else []
    names = [*(name for name in mains if name.endswith(NODE)), *(f"index{suffix}" for suffix in NODE), *_PYTHON]
    name = next((name for name in names if ".." not in name and tree.is_file(name)), None)
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
        runtime = f"python{version[1] if version else python_here()}"
    else:
        called = re.search(r"exports\.(handler)\b|export\s+(?:const|let|(?:async\s+)?function)\s+(handler)\b", text)
        called = called or re.search(r"exports\.(\w+)\s*=", text)
        version = re.search(r"(18|20|22|24)\b", str(table(said.get("engines")).get("node", "")))
        runtime = f"nodejs{version[1] if version else node_here()}.x"
    found = next(filter(None, called.groups()), "") if called else ""
    if not found:
        found = "lambda_handler" if name.endswith(".py") else "handler"
        notes.append(f"{name} has no {found} that was recognised: check `handler`.")
    handler = f"{name.removeprefix('./').rpartition('.')[0]}.{found}"
    return candidate(tree, ".", owner, notes, handler=handler, runtime=runtime)
