"""What AWS publishes of each resource type: its properties, their types, and which of them cannot change.

The schemas are those of AWS's registry, in the data files of cfn-lint. Its code is left alone: importing it takes a
second, reading one type's file a millisecond.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from pointsman.localaws.cloudformation.template import Json

_REGION: Final = "us-east-1"  # the one that has every type


class Schema:
    def __init__(self, document: Json) -> None:
        self._document = document

    @cached_property
    def replacing(self) -> frozenset[str]:
        """The properties that cannot change: the resource is made anew."""
        keys = ("createOnlyProperties", "conditionalCreateOnlyProperties")
        names = (path.removeprefix("/properties/") for key in keys for path in self._document.get(key, ()))
        return frozenset(name for name in names if "/" not in name)

    @property
    def identifiers(self) -> list[str]:
        """The properties that name a resource to be imported; none for those AWS makes up itself."""
        paths = [path for path in self._document["primaryIdentifier"] if path not in self._read_only]
        return [path.removeprefix("/properties/") for path in paths]

    @property
    def identity(self) -> str | None:
        """The one attribute that Ref gives, too."""
        paths = self._document["primaryIdentifier"]
        return str(paths[0]).removeprefix("/properties/") if len(paths) == 1 else None

    @property
    def takes_tags(self) -> bool:
        """Whether the stack's tags go into the property Tags, as a list of Key and Value."""
        tagging = self._document.get("tagging", {})
        list_of_pairs = self._document["properties"].get("Tags", {}).get("type") == "array"
        return bool(tagging.get("taggable") and tagging.get("tagUpdatable", True) and list_of_pairs)

    def typed(self, properties: Json) -> Json:
        """CloudFormation takes "128" for 128, "true" for true and 5 for "5" where the schema says so."""
        typed: Json = self._typed(properties, self._document)
        return typed

    def complaints(self, properties: Json) -> list[str]:
        """What is missing and what is too much, as CloudFormation words it."""
        settable = {key for key in self._document["properties"] if f"/properties/{key}" not in self._read_only}
        said = [
            f"Encountered unsupported property {key}"
            for key in sorted(properties.keys() & (self._document["properties"].keys() - settable))
        ]
        return said + list(self._complaints(properties, self._document, "#"))

    @cached_property
    def _read_only(self) -> frozenset[str]:
        return frozenset(self._document.get("readOnlyProperties", ()))

    def _meant(self, node: Json) -> Json:
        while "$ref" in node:
            found = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def _typed(self, value: Any, node: Json) -> Any:
        node = self._meant(node)
        type_ = node.get("type")
        if isinstance(value, dict):
            return {key: self._typed(each, self._member(node, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._typed(each, node.get("items", {})) for each in value]
        if type_ == "string" and isinstance(value, bool | int | float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if type_ == "boolean" and value in ("true", "false"):
            return value == "true"
        if type_ in ("integer", "number") and isinstance(value, str):
            number = _number(value)
            return value if number is None else number
        return value

    def _member(self, node: Json, key: str) -> Json:
        found: Json | None = node.get("properties", {}).get(key)
        if found is None:
            patterns = list(node.get("patternProperties", {}).values())
            found = patterns[0] if len(patterns) == 1 else {}
        return found

    def _complaints(self, value: Any, node: Json, path: str) -> Iterator[str]:
        node = self._meant(node)
        if isinstance(value, dict) and node.get("properties"):
            if node.get("additionalProperties") is False and "patternProperties" not in node:
                for key in sorted(value.keys() - node["properties"].keys()):
                    yield f"{path}: extraneous key [{key}] is not permitted"
            for key in node.get("required", ()):
                if key not in value:
                    yield f"{path}: required key [{key}] not found"
            for key, each in value.items():
                yield from self._complaints(each, self._member(node, key), f"{path}/{key}")
        elif isinstance(value, list):
            for index, each in enumerate(value):
                yield from self._complaints(each, node.get("items", {}), f"{path}/{index}")
        elif isinstance(value, dict | str | int | float):
            expected = node.get("type")
            if expected == "array" or (expected == "object" and not isinstance(value, dict)):
                names = {"array": "JSONArray", "object": "JSONObject", dict: "JSONObject", str: "String"}
                yield f"{path}: expected type: {names[expected]}, found: {names.get(type(value), 'Number')}"


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", text) else None


@lru_cache(maxsize=256)
def schema_of(type_: str) -> Schema | None:
    """None for a type that is not AWS's."""
    name = _types().get(type_)
    return None if name is None else Schema(json.loads((_data() / "resources" / f"{name}.json").read_text("utf-8")))


def is_known(type_: str) -> bool:
    return type_ in _types()


@lru_cache(maxsize=1)
def _types() -> Mapping[str, str]:
    found: dict[str, str] = json.loads((_data() / "providers" / f"{_REGION}.json").read_text("utf-8"))
    return found


@lru_cache(maxsize=1)
def _data() -> Path:
    spec = importlib.util.find_spec("cfnlint")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "data" / "schemas"
