"""What Terraform's own files say, as far as they can be read without running Terraform: modules, and their values.

python-hcl2 parses; here expressions are followed through variables, locals, references and child modules. What cannot
be known (a data source, a resource's computed attribute) is None. https://developer.hashicorp.com/terraform/language
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pointsman.adoption.tree import Tree, beside, items, parsed, table, within

_HERE = "\x01"  # in front of a path from the tree's root; others are from the root module's folder
_LARGEST = 300_000  # bytes of one file
_FILES = 300
_DEEPEST = 40  # steps of one expression; references may go in circles


class Ref(NamedTuple):
    """An attribute of a resource or of a module from elsewhere: `aws_lambda_function.api`, in its module, `.arn`."""

    module: tuple[str, ...]
    address: str
    attribute: str


class Module:
    """A folder's files as one module. `given` are the values of its variables, from its caller or from tfvars."""

    def __init__(
        self,
        tree: Tree,
        folder: str,
        *,
        workspace: str,
        broken: list[str],
        parent: Module | None = None,
        name: str = "",
    ) -> None:
        self.tree, self.folder, self.workspace, self.broken, self.parent = tree, folder, workspace, broken, parent
        self.root: Module = parent.root if parent else self
        self.path: tuple[str, ...] = (*parent.path, name) if parent else ()
        self.given: dict[str, Any] = {}
        self.children: dict[str, Module] = {}
        self.blocks: dict[str, dict[tuple[str, ...], Any]] = {}
        self.where: dict[tuple[str, ...], str] = {}  # which file a block stands in
        for path in files_of(tree, folder):
            said = read(tree, path)
            if said is None:
                broken.append(path)
                continue
            for kind, (labels, body) in _blocks(said):
                known = self.blocks.setdefault(kind, {})
                if kind in ("locals", "terraform"):
                    for key, each in table(body).items():
                        known[(key,)] = each
                else:
                    known.setdefault(labels, body)
                    self.where.setdefault((kind, *labels), path)

    def of(self, kind: str) -> Mapping[tuple[str, ...], Mapping[str, Any]]:
        return {labels: table(body) for labels, body in self.blocks.get(kind, {}).items()}

    def child(self, name: str) -> Module | None:
        """The local module that a module call brings in; None for one from elsewhere."""
        if name in self.children:
            return self.children[name]
        call = self.of("module").get((name,))
        source = self.text(call.get("source")) if call else None
        if call is None or source is None or not source.startswith(("./", "../")) or len(self.path) > 4:
            return None
        folder = within(self.folder, source)
        if folder is None or not files_of(self.tree, folder):
            return None
        made = Module(self.tree, folder, workspace=self.workspace, broken=self.broken, parent=self, name=name)
        made.given = {
            key: self.value(each) for key, each in call.items() if key not in ("source", "version", "providers")
        }
        self.children[name] = made
        return made

    def everywhere(self) -> Iterator[Module]:
        """This module and the local ones it calls, at any depth."""
        yield self
        for (name, *_), _body in list(self.of("module").items()):
            inner = self.child(name)
            if inner is not None:
                yield from inner.everywhere()

    # Values

    def text(self, raw: object) -> str | None:
        value = self.value(raw)
        return value.replace(_HERE, "") if isinstance(value, str) else None

    def place(self, raw: object) -> str | None:
        """A path as one from the tree's root; it may lead out of that."""
        value = self.value(raw)
        if not isinstance(value, str):
            return None
        return beside(value.removeprefix(_HERE)) if value.startswith(_HERE) else beside(self.root.folder, value)

    def value(self, raw: Any, deep: int = 0) -> Any:
        """A parsed value with everything put in; None where something in it is not known."""
        if deep > _DEEPEST:
            return None
        if isinstance(raw, list):
            return [self.value(each, deep + 1) for each in raw]
        if isinstance(raw, dict):
            return {_bare(key): self.value(each, deep + 1) for key, each in raw.items()}
        if not isinstance(raw, str):
            return raw
        if expression := _alone(raw):
            found = self._expression(expression, deep + 1)
            return self._followed(found, deep + 1) if isinstance(found, Ref) else found
        return self._template(raw[1:-1], deep) if raw.startswith('"') and raw.endswith('"') and len(raw) > 1 else raw

    def ref(self, raw: object) -> Ref | None:
        """What an expression that is nothing but a reference points at, through locals, variables and modules."""
        expression = _alone(raw)
        found = self._expression(expression, 0) if expression else None
        return found if isinstance(found, Ref) else None

    def variable(self, raw: object) -> str | None:
        """The variable whose value something is, and nothing else."""
        found = re.fullmatch(r"var\.([A-Za-z0-9_-]+)", _alone(raw) or "")
        return found[1] if found else None

    def _template(self, text: str, deep: int) -> str | None:
        parts: list[str] = []
        at = 0
        while (start := text.find("${", at)) >= 0:
            end = _closing(text, start + 1)
            if end < 0:
                return None
            parts.append(text[at:start])
            found = self._expression(text[start + 2 : end].strip(), deep + 1)
            found = self._followed(found, deep + 1) if isinstance(found, Ref) else found
            if found is None or isinstance(found, dict | list):
                return None
            parts.append(str(found).lower() if isinstance(found, bool) else str(found))
            at = end + 1
        return "".join((*parts, text[at:].replace('\\"', '"')))

    def _expression(self, text: str, deep: int) -> Any:
        """A value, a Ref, or None."""
        if deep > _DEEPEST or not text:
            return None
        if text[0] == '"' and _string_ends(text) == len(text) - 1:
            return self._template(text[1:-1], deep)
        if re.fullmatch(r"-?[0-9]+", text):
            return int(text) if len(text) < 20 else None
        if text in ("true", "false"):
            return text == "true"
        if text[0] == "[" and _closing(text, 0) == len(text) - 1:
            return [self._known(word, deep + 1) for word in _split(text[1:-1])]
        if text[0] == "(" and _closing(text, 0) == len(text) - 1:
            return self._expression(text[1:-1].strip(), deep + 1)
        if (cut := _outside(text, "?")) > 0:
            return self._chosen(text, cut, deep)
        if found := re.match(r"([a-z_0-9]+)\(", text):
            if _closing(text, found.end() - 1) == len(text) - 1:
                return self._call(found[1], _split(text[found.end() : -1]), deep + 1)
            return None
        return self._reference(text, deep)

    def _chosen(self, text: str, cut: int, deep: int) -> Any:
        """`condition ? one : other`."""
        other = _outside(text[cut + 1 :], ":")
        condition = re.fullmatch(r"(.+?)\s*(==|!=)\s*(.+)", text[:cut].strip(), re.DOTALL)
        if condition:
            left, right = (self._known(each, deep + 1) for each in (condition[1], condition[3]))
            if left is None and condition[1] != "null":
                return None
            yes = (left == right) == (condition[2] == "==")
        else:
            yes = self._known(text[:cut].strip(), deep + 1)
            if not isinstance(yes, bool):
                return None
        rest = text[cut + 1 :]
        return self._expression((rest[:other] if yes else rest[other + 1 :]).strip(), deep + 1)

    def _known(self, text: str, deep: int) -> Any:
        found = self._expression(text.strip(), deep)
        return self._followed(found, deep) if isinstance(found, Ref) else found

    def _call(self, name: str, words: list[str], deep: int) -> Any:
        if name in ("coalesce", "try", "one"):
            return next((found for word in words if (found := self._expression(word, deep)) is not None), None)
        given = [self._known(word, deep) for word in words]
        if any(each is None for each in given) or not given:
            return None
        function = _FUNCTIONS.get(name)
        try:
            return function(*given) if function else None
        except (TypeError, ValueError, AttributeError, IndexError, KeyError):
            return None  # called with what Terraform would refuse, too

    def _reference(self, text: str, deep: int) -> Any:
        parts = re.findall(r"[A-Za-z_][A-Za-z0-9_-]*|\[[^\]]*\]", text)
        if re.sub(r"[A-Za-z_][A-Za-z0-9_-]*|\[[^\]]*\]|\.|[0-9]+|\*", "", text).strip() or not parts:
            return None
        indices = [part for part in parts if part.startswith("[")]
        match [part for part in parts if not part.startswith("[")]:
            case ["var", name, *rest]:
                return self._dig(self._variable(name, deep + 1), (*rest, *indices), deep)
            case ["local", name, *rest]:
                raw = self.blocks.get("locals", {}).get((name,))
                if (expression := _alone(raw)) and not rest:
                    return self._expression(expression, deep + 1)
                return self._dig(self.value(raw, deep + 1), (*rest, *indices), deep)
            case ["path", "module"]:
                return f"{_HERE}{self.folder}"
            case ["path", "root" | "cwd"]:
                return f"{_HERE}{self.root.folder}"
            case ["terraform", "workspace"]:
                return self.workspace
            case ["module", name, output, *_]:
                inner = self.child(name)
                if inner is None:
                    return Ref(self.path, f"module.{name}", output)
                said = inner.of("output").get((output,), {}).get("value")
                return (inner.ref(said) or inner.value(said, deep + 1)) if said is not None else None
            case ["data", kind, name, attribute, *_]:
                return Ref(self.path, f"data.{kind}.{name}", attribute)
            case [kind, name, attribute, *_] if "_" in kind:
                return Ref(self.path, f"{kind}.{name}", attribute)
        return None

    def _variable(self, name: str, deep: int) -> Any:
        if name in self.given:
            return self.given[name]
        return self.value(self.of("variable").get((name,), {}).get("default"), deep)

    def _dig(self, value: Any, keys: tuple[str, ...], deep: int) -> Any:
        for key in keys:
            index: Any = self._expression(key[1:-1].strip(), deep + 1) if key.startswith("[") else key
            there = isinstance(value, dict) and isinstance(index, str) and index in value
            if isinstance(value, list) and isinstance(index, int):
                there = 0 <= index < len(value)
            if not there:
                return None
            value = value[index]
        return value

    def _followed(self, ref: Ref, deep: int) -> Any:
        """What a resource's own block gives the attribute, where it does."""
        module = self.at(ref.module)
        if module is None:
            return None
        body = module.body(ref.address)
        attribute = "function_name" if ref.attribute == "id" and "aws_lambda_function" in ref.address else ref.attribute
        attribute = attribute.removeprefix("lambda_") if ref.address.startswith("module.") else attribute
        return module.value(body.get(attribute), deep + 1) if body else None

    def at(self, path: tuple[str, ...]) -> Module | None:
        module: Module | None = self.root
        for name in path:
            module = module.child(name) if module else None
        return module

    def body(self, address: str) -> Mapping[str, Any] | None:
        """The block of a resource, a data source or a module call."""
        match address.split("."):
            case ["data", kind, name]:
                return self.of("data").get((kind, name))
            case ["module", name]:
                return self.of("module").get((name,))
            case [kind, name]:
                return self.of("resource").get((kind, name))
        return None


def files_of(tree: Tree, folder: str) -> tuple[str, ...]:
    """A folder's files: HCL, OpenTofu's own, and the same as JSON."""
    return tuple(
        path for path in tree.ending(".tf", ".tofu", ".tf.json") if (path.rpartition("/")[0] or ".") == folder
    )[:_FILES]


def read(tree: Tree, path: str) -> Mapping[str, Any] | None:
    """One file parsed; None where it is no HCL. Once for each tree: modules are called many times, and it is slow."""
    if path not in tree.kept:
        text = tree.text(path, largest=_LARGEST)
        tree.kept[path] = _quoted(parsed(text, json=True)) or None if path.endswith(".json") else _parsed(text)
    found: Mapping[str, Any] | None = tree.kept[path]
    return found


def _quoted(value: Any) -> Any:
    """JSON's strings as HCL's: templates, all of them. https://developer.hashicorp.com/terraform/language/syntax/json"""
    match value:
        case str():
            return f'"{value}"'
        case list():
            return [_quoted(each) for each in value]
        case dict():
            return {str(key): _quoted(each) for key, each in value.items()}
    return value


def _alone(raw: object) -> str | None:
    """The expression that a value is and nothing else: bare, or as "${…}", which every version before 0.12 wanted."""
    if not isinstance(raw, str):
        return None
    text = raw[1:-1] if raw.startswith('"${') and raw.endswith('}"') else raw
    return text[2:-1].strip() if text.startswith("${") and _closing(text, 1) == len(text) - 1 else None


def _parsed(text: str) -> Mapping[str, Any] | None:
    import hcl2
    from hcl2.utils import SerializationOptions
    from lark.exceptions import LarkError

    options = SerializationOptions(with_comments=False, explicit_blocks=False, preserve_heredocs=False)
    try:
        return table(hcl2.loads(text if text.endswith("\n") else f"{text}\n", serialization_options=options))
    except (LarkError, ValueError, RuntimeError, RecursionError, KeyError, IndexError, AttributeError, TypeError):
        return None  # python-hcl2 has no error of its own for what its grammar takes and its reader does not


def values(tree: Tree, path: str) -> Mapping[str, Any]:
    """A tfvars file: constants only."""
    if path.endswith(".json"):
        return tree.table(path)
    said = read(tree, path) or {}
    empty = Module(tree, "/", workspace="default", broken=[])  # a folder that no tree lists
    return {key: empty.value(each) for key, each in said.items()}


def _blocks(said: Mapping[str, Any]) -> Iterator[tuple[str, tuple[tuple[str, ...], Any]]]:
    """Every block: its kind, its labels, its body."""
    labels = {"resource": 2, "data": 2, "module": 1, "variable": 1, "output": 1, "provider": 1}
    for kind, each in said.items():
        for one in items(each) or [each]:
            yield from ((kind, found) for found in _labelled(one, labels.get(kind, 0), ()))


def _labelled(body: Any, count: int, before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not count:
        yield before, body
        return
    for key, inner in table(body).items():
        for each in inner if isinstance(inner, list) else [inner]:
            yield from _labelled(each, count - 1, (*before, _bare(key)))


def _bare(key: object) -> str:
    return str(key).strip('"')


# Splitting expressions: strings and brackets are looked past.


def _string_ends(text: str) -> int:
    """Where the string that begins the text ends; -1 where it does not."""
    at = 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text.startswith("${", at):
            at = _closing(text, at + 1)
            if at < 0:
                return -1
        elif text[at] == '"':
            return at
        at += 1
    return -1


def _closing(text: str, at: int) -> int:
    """Where the bracket at `at` is closed; -1 where it is not."""
    deep = 0
    while at < len(text):
        if text[at] == '"':
            end = _string_ends(text[at:])
            if end < 0:
                return -1
            at += end
        elif text[at] in "([{":
            deep += 1
        elif text[at] in ")]}":
            deep -= 1
            if deep == 0:
                return at
        at += 1
    return -1


def _outside(text: str, mark: str) -> int:
    """Where a character stands outside of all strings and brackets; -1 where it does not."""
    at = 0
    while at < len(text):
        if text[at] == mark:
            return at
        if text[at] == '"':
            end = _string_ends(text[at:])
            at = at + end if end > 0 else len(text)
        elif text[at] in "([{":
            end = _closing(text, at)
            at = end if end > 0 else len(text)
        at += 1
    return -1


def _split(text: str) -> list[str]:
    """A call's arguments."""
    words = []
    while (cut := _outside(text, ",")) >= 0:
        words.append(text[:cut].strip())
        text = text[cut + 1 :]
    return [*words, text.strip()] if text.strip() else words


def _all(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _format(template: str, *given: Any) -> str:
    return re.sub(r"%[sdv]", "{}", template.replace("{", "{{").replace("}", "}}")).format(*given)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "format": _format,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "replace": lambda text, one, other: text.replace(one, other),
    "join": lambda mark, *parts: mark.join(str(each) for part in parts for each in _all(part)),
    "basename": lambda text: text.rstrip("/").rpartition("/")[2],
    "dirname": lambda text: text.rpartition("/")[0],
    "abspath": lambda text: text,
    "pathexpand": lambda text: text,
    "tostring": str,
    "trimsuffix": lambda text, end: text.removesuffix(end),
    "trimprefix": lambda text, start: text.removeprefix(start),
    "trimspace": lambda text: text.strip(),
    "substr": lambda text, at, count: text[at : at + count] if count >= 0 else text[at:],
    "lookup": lambda found, key, *default: found.get(key, *default),
    "tolist": list,
    "toset": list,
}
