"""lambroll's function.json: the parameters of CreateFunction, with Go templates in them. https://github.com/fujiwara/lambroll"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from pointsman.adoption.code import candidate
from pointsman.adoption.found import Found
from pointsman.adoption.tree import Tree, items, parsed, table, text_of
from pointsman.config import Direct, Existing, LayerArn, RoleArn, Variable, fits
from pointsman.model import FunctionName

_KEPT = {  # what `direct` looks after, and what is no setting
    *("FunctionName", "Role", "Handler", "Runtime", "MemorySize", "Timeout", "Environment", "Layers", "Description"),
    *("Architectures", "Code", "PackageType", "Publish", "Tags", "$schema"),
}
_OPEN, _SHUT = "⟨", "⟩"  # around what a template leaves open


def look(tree: Tree) -> Found | None:
    """The function of the folder's function.json or function.jsonnet, else those of the folders in it; None without."""
    found: dict[str, Found] = {}
    for path in tree.called("function.json", "function.jsonnet"):
        each = _one(tree, path)
        if each:
            found.setdefault(path.rpartition("/")[0], each)
    first = next(iter(found.values()), None)
    if first is None or "" in found:
        return first
    return replace(
        first,
        functions=tuple(function for each in found.values() for function in each.functions),
        told=tuple(dict.fromkeys(line for each in found.values() for line in each.told)),
        notes=tuple(dict.fromkeys(note for each in found.values() for note in each.notes)),
    )


def _one(tree: Tree, path: str) -> Found | None:
    text = tree.text(path)
    said = _read(tree, text, path)
    if "FunctionName" in said or (said.keys() & {"Handler", "Runtime"} and "Role" in said):
        return _found(tree, path, said)
    return _unread(tree, path, text) if path.endswith("net") and "FunctionName" in text else None


def _read(tree: Tree, text: str, path: str) -> Mapping[str, Any]:
    """The file with its templates put in where they say something here. Plain Jsonnet (comments, bare keys, trailing
    commas) reads as YAML does; with its language in it, it does not.
    """

    def put(found: re.Match[str]) -> str:
        inside = found[1].strip()
        value = _template(tree, inside)
        shown = f"{_OPEN}{re.sub('[^A-Za-z0-9_. -]', '', inside)}{_SHUT}" if value is None else value
        quoted = text[: found.start()].rpartition("\n")[2].count('"') % 2
        return shown if quoted or (value is not None and re.fullmatch("[0-9]+|true|false", value)) else f'"{shown}"'

    text = re.sub(r"\{\{-?(.*?)-?\}\}", put, text)
    if path.endswith("net"):
        return parsed(re.sub(r"(?m)(^|\s)(//|#).*$", r"\1", text), json=False)
    return parsed(text, json=True)


def _template(tree: Tree, inside: str) -> str | None:
    """What one template gives: a default, or an attribute of a Terraform state that lies here."""
    words = re.findall(r"`([^`]*)`|\\?\"([^\"\\]*)\\?\"|(\S+)", inside)
    values = [next(filter(None, each), "") for each in words]
    match values:
        case ["env", _, default] | ["env", _, default, *_]:
            return default
        case ["tfstate" | "tfstatef", address, *rest] if not rest:
            return _in_state(tree, address)
    return None


def _in_state(tree: Tree, address: str) -> str | None:
    kind, _, rest = address.partition(".")
    name, _, attribute = rest.partition(".")
    for path in tree.called("terraform.tfstate"):
        state = tree.table(path, largest=50_000_000)
        if kind == "output":
            return text_of(table(table(state.get("outputs")).get(name)).get("value"))
        for each in items(state.get("resources")):
            resource = table(each)
            if (resource.get("type"), resource.get("name")) == (kind, name):
                found = [table(table(one).get("attributes")).get(attribute) for one in items(resource.get("instances"))]
                return text_of(next(iter(found), None))
    return None


def _found(tree: Tree, path: str, said: Mapping[str, Any]) -> Found:
    notes: list[str] = []
    home = path.rpartition("/")[0]
    name = _plain(said.get("FunctionName"))
    if name is None or not FunctionName.pattern.fullmatch(name):
        shown = str(said.get("FunctionName", "nothing")).replace(_OPEN, "{{ ").replace(_SHUT, " }}")
        notes.append(f"{path}: FunctionName is {shown}, which is not known here: put it into `provision`.")
        name = None
    role = _plain(said.get("Role"))
    source = _source(tree, home)
    provision: Direct | Existing | None = Existing(name=FunctionName(name)) if name else None
    if fits(RoleArn, role):
        provision = _direct(said, role or "", name, path, notes)
    elif "Role" in said:
        notes.append(f"{path}: Role is not known here, so the settings stay lambroll's: `existing`, not `direct`.")
    if said.get("PackageType") == "Image":
        notes.append(f'{path}: a container image: set build = "image" and `image` yourself.')
    if others := sorted(said.keys() - _KEPT):
        notes.append(f"{path}: {', '.join(others[:12])} stay as they are on AWS: this file has no key for them.")
    for beside in ("function_url.json", "function_url.jsonnet"):
        if tree.is_file(f"{home}/{beside}" if home else beside):
            notes.append(f"{beside}: the function URL stays as it is; `[branches] preview` gives branches their own.")
    handler, runtime = _plain(said.get("Handler")), _plain(said.get("Runtime"))
    made = candidate(
        tree,
        source,
        name or tree.name,
        notes,
        handler=handler,
        runtime=runtime,
        where=path,
        provision=provision,
        name=name,
        architecture="arm64" if items(said.get("Architectures"))[:1] == ["arm64"] else "x86_64",
        exclude=_ignored(tree, home, source),
        aliases=("current",),
    )
    if made.build == "node" and not tree.is_file("package.json" if source == "." else f"{source}/package.json"):
        notes.append("lambroll zips node_modules as it lies there; here `build` installs what package.json says.")
    told = [f"{path}: function {name or 'without a known name'} ({handler}, {runtime}), code in {source}"]
    told.append("lambroll's alias, current, is taken over: it serves what callers get.")
    return Found(
        kind="lambroll",
        functions=(made,),
        told=tuple(told),
        notes=tuple(notes),
        aliases=made.aliases,
        depth=path.count("/"),
    )


def _unread(tree: Tree, path: str, text: str) -> Found:
    """Jsonnet with its language in it: what stands there as plain text, and how to get the rest."""
    literal = {
        key: found[1]
        for key in ("FunctionName", "Handler", "Runtime")
        if (found := re.search(rf"{key}['\"]?\s*:\s*['\"]([^'\"{{}}]+)['\"]\s*,", text))
    }
    notes = [f"{path} is Jsonnet with logic in it: `lambroll render > function.json`, then init again."]
    name = literal.get("FunctionName")
    usable = FunctionName(name) if name and FunctionName.pattern.fullmatch(name) else None
    made = candidate(
        tree,
        _source(tree, path.rpartition("/")[0]),
        usable or tree.name,
        notes,
        handler=literal.get("Handler"),
        runtime=literal.get("Runtime"),
        name=usable,
        provision=Existing(name=usable) if usable else None,
        aliases=("current",),
    )
    return Found(kind="lambroll", functions=(made,), notes=tuple(notes), aliases=made.aliases, depth=path.count("/"))


def _plain(value: object) -> str | None:
    return value if isinstance(value, str) and value and _OPEN not in value else None


def _direct(said: Mapping[str, Any], role: str, name: str | None, path: str, notes: list[str]) -> Direct:
    """The settings that stand there in plain; what is left out is left as it is on AWS."""
    variables = table(table(said.get("Environment")).get("Variables"))
    literal = {key: each for key, each in variables.items() if _plain(each) is not None and fits(Variable, key)}
    if unnamed := sorted(key for key in variables if not fits(Variable, key)):
        notes.append(
            f"{path}: variables {', '.join(unnamed[:12])} cannot be called so (a letter, then letters, digits and _, "
            "two characters at least), and are left out."
        )
    if open_ := sorted(variables.keys() - literal.keys() - {*unnamed}):
        notes.append(f"{path}: variables {', '.join(open_[:12])} are not known here, and stay as they are on AWS.")
    layers = [each for each in items(said.get("Layers")) if fits(LayerArn, each)]
    if len(layers) != len(items(said.get("Layers"))):
        notes.append(f"{path}: not all of Layers is known here: they stay as they are on AWS.")
        layers = []
    return Direct(
        role=role,
        name=FunctionName(name) if name else None,
        memory=_number(said.get("MemorySize"), 128, 32_768),
        timeout=_number(said.get("Timeout"), 1, 5_400),
        environment=literal or None,
        description=(_plain(said.get("Description")) or "")[:256] or None,
        layers=tuple(layers[:5]),
    )


def _number(value: object, least: int, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


def _source(tree: Tree, home: str) -> str:
    """`--src` as scripts say it, beside function.json where they do not."""
    for path in tree.ending(".sh", "Makefile", ".yml", ".yaml"):
        if path.count("/") > 1:
            break
        found = re.search(r"lambroll\b[^\n]*--src[= ]+[\"']?([\w./-]+)", tree.text(path))
        place = "/".join(filter(None, (home, found[1].strip("./")))) if found else ""
        if place and tree.is_folder(place):
            return place
    return home or "."


def _ignored(tree: Tree, home: str, source: str) -> tuple[str, ...]:
    """.lambdaignore's globs, and lambroll's own files."""
    place = next((each for each in (source, home) if tree.is_file(f"{each or '.'}/.lambdaignore")), None)
    text = tree.text(f"{place or '.'}/.lambdaignore") if place is not None else ""
    lines = [line.strip() for line in text.splitlines()]
    globs = [line for line in lines if line and not line.startswith("#") and line.isprintable()]
    own = [".lambdaignore"] if text else []
    if source == (home or "."):
        own += [
            name
            for name in ("function.json", "function.jsonnet", "function_url.json", "function_url.jsonnet")
            if tree.is_file(f"{home}/{name}" if home else name)
        ]
    return (*globs[:200], *own)
