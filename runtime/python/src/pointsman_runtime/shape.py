"""JSON fitted to a type: dataclasses, TypedDicts, and what stands in them. Imported when a configuration was read."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from typing import Any, Union

NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def shaped(value: Any, kind: Any, *, texts: bool) -> tuple[Any, list[str]]:
    """(the value as `kind`, what is wrong with it). Keys that `kind` does not have are left out, not refused: the
    version before and the next one read the same parameters. `texts`: numbers, truth and JSON may come as text."""
    fit = _Fit(texts)
    return fit.to(value, kind, ""), fit.problems


def problems_of(problems: list[str]) -> str:
    return problems[0] if len(problems) == 1 else f"{len(problems)} problems: {'; '.join(problems)}"


class _Fit:
    def __init__(self, texts: bool) -> None:
        self.texts = texts
        self.problems: list[str] = []

    def to(self, value: Any, kind: Any, at: str) -> Any:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any or kind is object:
            return value
        if str(origin).endswith(("Annotated", "Required", "NotRequired", "Final", "ReadOnly")):
            return self.to(value, inner[0], at)
        if origin is Union or origin is getattr(types, "UnionType", Union):
            return self._one_of(value, inner, at)
        if origin is typing.Literal:
            return self._literal(value, inner, at)
        if kind is None or kind is type(None):
            return value if value is None else self._wrong(value, "nothing", at)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._dataclass(value, kind, at)
        if hasattr(kind, "__total__") and isinstance(kind, type):
            return self._keys(value, kind, kind.__required_keys__, at)  # type: ignore[attr-defined]
        if (origin or kind) in (list, tuple, set, frozenset) or _abstract(origin or kind, "Sequence"):
            return self._list(value, origin or kind, inner, at)
        if (origin or kind) is dict or _abstract(origin or kind, "Mapping"):
            value = self._structure(value, dict, at)
            each = inner[1] if len(inner) == 2 else Any
            return {key: self.to(one, each, _under(at, key)) for key, one in (value or {}).items()}
        if kind in NAMES:
            return self._scalar(value, kind, at)
        raise TypeError(f"{at or 'the configuration'} is declared as {kind!r}, which no JSON can be")

    def _wrong(self, value: Any, expected: str, at: str) -> Any:
        """Values stay unnamed: the log is not the place for a password."""
        seen = "null" if value is None else NAMES.get(type(value), type(value).__name__)
        if isinstance(value, str) and self.texts:
            seen = "another text"
        self.problems.append(f"{at or 'it'} is {seen}, and should be {expected}")
        return None

    def _scalar(self, value: Any, kind: Any, at: str) -> Any:
        if isinstance(value, str) and self.texts and kind is not str:
            if kind is bool:
                known = {"true": True, "false": False}.get(value.strip().lower())
                return self._wrong(value, NAMES[bool], at) if known is None else known
            try:
                return kind(value)
            except ValueError:
                return self._wrong(value, NAMES[kind], at)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value if type(value) is kind else self._wrong(value, NAMES[kind], at)

    def _structure(self, value: Any, kind: type, at: str) -> Any:
        if isinstance(value, str) and self.texts:
            try:
                value = json.loads(value)
            except ValueError:
                return self._wrong(value, f"{NAMES[kind]} in JSON", at)
        return value if isinstance(value, kind) else self._wrong(value, NAMES[kind], at)

    def _list(self, value: Any, kind: Any, inner: tuple[Any, ...], at: str) -> Any:
        if isinstance(value, str) and self.texts and not value.lstrip().startswith("["):
            value = [value]  # a list of one, as a parameter of type String
        value = self._structure(value, list, at)
        if value is None:
            return None
        each = inner[0] if inner else Any
        made = [self.to(one, each, f"{at}[{n}]") for n, one in enumerate(value)]
        return kind(made) if kind in (tuple, set, frozenset) else made

    def _one_of(self, value: Any, kinds: tuple[Any, ...], at: str) -> Any:
        # text last where numbers may come as text: everything is a text
        for kind in sorted(kinds, key=lambda kind: kind is str) if self.texts else kinds:
            attempt = _Fit(self.texts)
            fitted = attempt.to(value, kind, at)
            if not attempt.problems:
                return fitted
        some = [kind for kind in kinds if kind is not type(None)]
        if len(some) == 1 and value is not None:
            return self.to(value, some[0], at)  # its own words
        return self._wrong(
            value, " or ".join(NAMES.get(kind, getattr(kind, "__name__", str(kind))) for kind in some), at
        )

    def _literal(self, value: Any, allowed: tuple[Any, ...], at: str) -> Any:
        for one in allowed:
            if (type(one) is type(value) and one == value) or (self.texts and str(one) == value):
                return one
        return self._wrong(value, " or ".join(map(json.dumps, allowed)), at)

    def _dataclass(self, value: Any, kind: Any, at: str) -> Any:
        fields = [field for field in dataclasses.fields(kind) if field.init]
        plain = dataclasses.MISSING
        required = {field.name for field in fields if field.default is plain and field.default_factory is plain}
        before = len(self.problems)
        given = self._keys(value, kind, required, at, {field.name for field in fields})
        if len(self.problems) > before:
            return None
        try:
            return kind(**given)
        except ValueError as error:  # of its own __post_init__
            self.problems.append(f"{at or 'it'}: {error}")
            return None

    def _keys(self, value: Any, kind: Any, required: Any, at: str, known: Any = None) -> dict[str, Any]:
        value = self._structure(value, dict, at)
        if value is None:
            return {}
        hints = typing.get_type_hints(kind, include_extras=True)
        made = {}
        for key, hint in hints.items():
            if known is not None and key not in known:
                continue
            if key in value:
                made[key] = self.to(value[key], hint, _under(at, key))
            elif key in required and not str(typing.get_origin(hint)).endswith(".NotRequired"):
                near = difflib.get_close_matches(key, [other for other in value if other not in hints], n=1)
                self.problems.append(f"{_under(at, key)} is missing{f' (there is {near[0]})' if near else ''}")
        return made


def _under(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _abstract(kind: Any, name: str) -> bool:
    """collections.abc's Sequence, Mapping and their mutable kin."""
    return getattr(kind, "__module__", "") == "collections.abc" and getattr(kind, "__name__", "").endswith(name)
