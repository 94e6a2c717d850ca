"""Claudia.js's claudia.json: it made the function, and keeps no more than its name, role and region."""

from __future__ import annotations

import re

from pointsman.adoption.code import candidate, node_here, package
from pointsman.adoption.found import Found
from pointsman.adoption.plain import function as plain_function
from pointsman.adoption.tree import Tree, table, text_of
from pointsman.config import Existing, Region, fits
from pointsman.model import FunctionName


def look(tree: Tree) -> Found | None:
    """The function of the nearest claudia.json, or of a package.json whose scripts call claudia; None without either.

    https://github.com/claudiajs/claudia/blob/master/docs/create.md
    """
    path = next(iter(tree.called("claudia.json")), None)
    home = path.rpartition("/")[0] if path else ""
    inside = Tree(tree.root / home)
    scripts = " ; ".join(str(each) for each in table(package(inside).get("scripts")).values())
    if path is None and not re.search(r"\bclaudia (create|update)\b", scripts):
        return None
    said = tree.table(path) if path else {}
    notes: list[str] = []
    kept = table(said.get("lambda"))
    name = text_of(kept.get("name")) or _option(scripts, "name") or text_of(package(inside).get("name")) or tree.name
    region = text_of(kept.get("region")) or _option(scripts, "region")
    module = text_of(table(said.get("api")).get("module")) or _option(scripts, "api-module")
    handler = f"{module}.proxyRouter" if module else _option(scripts, "handler")
    plain = plain_function(inside, notes)
    if handler is None:
        handler = plain.handler
        notes.append(f"Claudia keeps no handler: {handler or 'none'} is a guess from the code.")
    else:
        notes = [note for note in notes if "handler" not in note.lower()]
    if path is None:
        notes.append("There is no claudia.json, so name and region are those of package.json's scripts.")
    # `claudia update --version NAME` makes or moves alias NAME; "latest" is Claudia's own, for $LATEST.
    aliases = [
        each for each in re.findall(r"--version[= ]+[\"']?([A-Za-z0-9_-]+)", scripts) if each not in ("latest", "patch")
    ]
    usable = FunctionName(name) if FunctionName.pattern.fullmatch(name) else None
    made = candidate(
        tree,
        home or ".",
        name,
        notes,
        handler=handler,
        runtime=f"nodejs{node_here()}.x" if plain.runtime is None else plain.runtime,
        build="node",
        name=usable,
        provision=Existing(name=usable) if usable else None,
        aliases=tuple(dict.fromkeys(aliases)),
    )
    role = text_of(kept.get("role"))
    told = [
        f"{path or 'package.json'}: function {name} ({handler or 'no handler'}), region {region or 'of the caller'}"
    ]
    if role:
        told.append(f"{path}: role {role}, which stays as it is")
    runtime = plain.runtime or f"nodejs{node_here()}.x"
    notes.append(f"Claudia does not say the runtime: {runtime} is a guess, used for the build only.")
    if table(said.get("api")).get("id"):
        notes.append(f"{path}: the API in front is Claudia's. Its stages call the alias of their name; leave them so.")
    return Found(
        kind="claudia",
        functions=(made,),
        told=tuple(told),
        notes=tuple(dict.fromkeys(notes)),
        aliases=made.aliases,
        region=region if fits(Region, region) else None,
        depth=(path or "").count("/"),
    )


def _option(scripts: str, name: str) -> str | None:
    found = re.search(rf"--{name}[= ]+[\"']?([\w./-]+)", scripts)
    return found[1] if found else None
