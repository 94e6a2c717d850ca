"""The Serverless Framework's serverless.yml: its stack owns the functions, we bring code, versions and aliases.

Variables: https://www.serverless.com/framework/docs/guides/variables
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pointsman.adoption.code import candidate, holds, npm_install
from pointsman.adoption.found import Found
from pointsman.adoption.tree import Tree, items, table, text_of, within
from pointsman.config import Existing, Region, fits
from pointsman.model import FunctionName

_UNKNOWN = object()


def look(tree: Tree) -> Found | None:
    """The functions of the nearest serverless file, as its default stage names them; None where there is none."""
    there = tree.called("serverless.yml", "serverless.yaml", "serverless.json")
    if not there:
        return _in_code(tree)
    for_aws = [path for path in there if _is_for_aws(tree, path)]
    if not for_aws:
        return None
    path, *others = for_aws
    home = path.rpartition("/")[0]
    said = _Said(tree, home, tree.table(path))
    provider = table(said.value(said.root.get("provider")))
    service = said.root.get("service")
    service = said.text(table(service).get("name") if isinstance(service, dict) else service)
    stage = said.stage
    region = said.text(provider.get("region"))
    told, notes = [f"{path}: service {service}, stage {stage}, region {region or 'of the caller'}"], []
    if others:
        shown = ", ".join(others[:5])
        notes.append(f"{path} was taken, as the nearest; there are others: {shown}. Run init in their folders.")
    plugins = _plugins(said)
    functions = []
    for key, raw in _functions(said).items():
        each = table(said.value(raw))
        handler = said.text(each.get("handler"))
        if handler is None:
            what = "is a container image" if "image" in each else "has no handler that could be read"
            notes.append(f"{path}: {key} {what}, and was left out.")
            continue
        name = said.text(each.get("name")) if "name" in each else f"{service}-{stage}-{key}" if service else None
        if name is None or not FunctionName.pattern.fullmatch(name):
            notes.append(f"{path}: {key}'s name on AWS could not be read: check `provision`.")
            name = None
        runtime = said.text(each.get("runtime")) or said.text(provider.get("runtime"))
        handler, source = handler.removeprefix("./"), home or "."
        # serverless-python-requirements: the folder whose files lie at the package's root
        module = within(home, said.text(each.get("module")) or ".")
        if module and holds(tree, module, handler, runtime) and not holds(tree, source, handler, runtime):
            source = module
        scripted = runtime is None or runtime.startswith(("nodejs", "python"))
        here = holds(tree, source, handler, runtime) or not holds(tree, source, handler, runtime, typescript=True)
        needs = not (scripted and here) or _made_by_a_plugin(tree, source, handler, runtime, plugins)
        alias = text_of(table(each.get("deploymentSettings")).get("alias"))
        functions.append(
            candidate(
                tree,
                source,
                key,
                notes,
                handler=handler,
                runtime=runtime,
                where=path,
                provision=Existing(name=FunctionName(name)) if name else None,
                name=name,
                owned=(alias,) if alias else (),
                architecture="arm64" if {**provider, **each}.get("architecture") == "arm64" else "x86_64",
                **_packaged(said, each, service or key, key=key, notes=notes, needs=needs),
            )
        )
        told.append(f"{path}: function {key} is {name or 'unnamed'} on AWS ({handler}, {runtime or 'no runtime'})")
        if alias:
            notes.append(f"{path}: alias {alias} of {key} is the Framework's to move: let callers use another.")
    if not functions:
        return None
    notes.append(f"Another stage is another function: this file is for stage {stage}.")
    notes.append("`serverless deploy` still brings infrastructure, settings, and its own code: deploy after it.")
    return Found(
        kind="serverless",
        functions=tuple(functions),
        told=tuple(told),
        notes=tuple(dict.fromkeys(notes)),
        region=region if fits(Region, region) else None,
        profile=said.text(provider.get("profile")),
        depth=path.count("/"),
    )


def _is_for_aws(tree: Tree, path: str) -> bool:
    provider = tree.table(path).get("provider")
    if isinstance(provider, str):  # short for { name = … }, or a variable's to say
        return provider == "aws" or provider.startswith("${")
    return isinstance(provider, dict) and provider.get("name", "aws") == "aws"


def _in_code(tree: Tree) -> Found | None:
    path = next((each for each in tree.called("serverless.ts", "serverless.js")), None)
    if path is None:
        return None
    from pointsman.adoption.plain import function

    notes = [f"{path} is a program: `npx serverless print > serverless.yml` in another folder shows what it says."]
    return Found(kind="serverless", functions=(function(tree, notes),), notes=tuple(notes), depth=path.count("/"))


class _Said:
    """A serverless file with its variables resolved, as far as the folder alone can tell."""

    def __init__(self, tree: Tree, home: str, root: Mapping[str, Any]) -> None:
        self.tree, self.home, self.root = tree, home, root
        self._budget = 2_000  # look-ups; a file may refer to itself in circles
        self.stage = "dev"
        self.stage = self.text(table(root.get("provider")).get("stage")) or "dev"

    def text(self, raw: object) -> str | None:
        value = self.value(raw)
        return str(value) if isinstance(value, str | int | float) and value not in ("", True, False) else None

    def value(self, raw: object) -> Any:
        """The value with its variables put in; None where one of them cannot be known here."""
        if not isinstance(raw, str):
            return raw
        text = raw
        for _ in range(20):
            inner = re.search(r"\$\{([^${}]*)\}", text)
            if inner is None:
                return text
            found = self._variable(inner[1])
            if found is _UNKNOWN:
                return None
            if inner[0] == text and not isinstance(found, str):
                return found
            if isinstance(found, dict | list):
                return None
            text = text[: inner.start()] + str(found) + text[inner.end() :]
        return None

    def _variable(self, inside: str) -> Any:
        """The first of its comma-separated sources that gives something."""
        self._budget -= 1
        if self._budget < 0:
            return _UNKNOWN
        for source in re.split(r",\s*(?![^(]*\))", inside):
            if (found := self._source(source.strip())) is not _UNKNOWN:
                return found
        return _UNKNOWN

    def _source(self, source: str) -> Any:
        literal = re.fullmatch(r"""'([^']*)'|"([^"]*)"|(true|false|-?[0-9]+)""", source)
        if literal:
            return next(each for each in literal.groups() if each is not None)
        if source in ("opt:stage", "sls:stage", "self:provider.stage"):
            return self.stage
        if source.startswith("self:"):
            return self._under(self.root, source.removeprefix("self:"))
        file = re.fullmatch(r"file\(([^)]+)\)(?::(.+))?", source)
        if file and (path := within(self.home, file[1].strip("'\" "))):
            whole = self.tree.table(path)
            return self._under(whole, file[2]) if file[2] else (whole or _UNKNOWN)
        return _UNKNOWN

    def _under(self, value: Any, dotted: str) -> Any:
        for part in filter(None, dotted.split(".")):
            value = self.value(value)
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return _UNKNOWN
        value = self.value(value)
        return _UNKNOWN if value is None else value


def _functions(said: _Said) -> Mapping[str, Any]:
    """`functions`: a table, or a list of tables, each perhaps in a file of its own."""
    value = said.value(said.root.get("functions"))
    tables = [table(said.value(each)) for each in items(value)] or [table(value)]
    return {key: each for one in tables for key, each in one.items()}


_BUNDLERS = {"serverless-bundle", "serverless-esbuild", "serverless-webpack"}
_WRAPPERS = {"serverless-rack", "serverless-wsgi"}  # the handler's file is theirs, and lies in the package alone


def _plugins(said: _Said) -> set[str]:
    """`plugins`: a list, or a table with one."""
    value = said.value(said.root.get("plugins"))
    return {each for each in items(table(value).get("modules") or value) if isinstance(each, str)}


def _made_by_a_plugin(tree: Tree, source: str, handler: str, runtime: str | None, plugins: set[str]) -> bool:
    """Whether only the Framework's own package holds what the handler names, in a language that Lambda runs."""
    if plugins & _WRAPPERS and not holds(tree, source, handler, runtime):
        return True
    return bool(plugins & _BUNDLERS) and (runtime or "nodejs").startswith("nodejs")


def _packaged(
    said: _Said, function: Mapping[str, Any], service: str, *, key: str, notes: list[str], needs: bool
) -> dict[str, Any]:
    """`package`: the function's own over the service's; the Framework's own zip where it `needs` to be compiled.

    https://www.serverless.com/framework/docs/providers/aws/guide/packaging
    """
    whole, own = table(said.value(said.root.get("package"))), table(said.value(function.get("package")))
    artifact = said.text(own.get("artifact") or whole.get("artifact"))
    if artifact and within(said.home, artifact):
        return {"build": "zip", "artifact": artifact}
    if needs:
        alone = bool(whole.get("individually") or own.get("individually"))
        made = f".serverless/{key if alone else service}.zip"
        notes.append(
            f"Functions that have to be compiled are taken as `npx serverless package` makes them, from {made}. Where "
            "another command makes a smaller package, take that for `command` and `artifact`."
        )
        install = npm_install(said.tree, f"{said.home}/" if said.home else "")
        return {"build": "command", "command": f"{install}npx serverless package", "artifact": made}
    patterns = [*_texts(said, whole, "patterns"), *_texts(said, own, "patterns")]
    patterns += [f"!{each}" for part in (whole, own) for each in _texts(said, part, "exclude")]  # before version 3
    patterns += [each for part in (whole, own) for each in _texts(said, part, "include")]
    left_out = [each[1:].removeprefix("./") for each in patterns if each.startswith("!") and len(each) > 1]
    only = [each.removeprefix("./") for each in patterns if not each.startswith("!")]
    if any(each in ("**", "**/*", "*") for each in left_out):
        return {"include": tuple(only)} if only else {}
    back = [f"!{each}" for each in only if left_out]
    return {"exclude": (*left_out, *back)} if left_out else {}


def _texts(said: _Said, part: Mapping[str, Any], key: str) -> list[str]:
    return [each for each in items(said.value(part.get(key))) if isinstance(each, str) and each.isprintable() and each]
