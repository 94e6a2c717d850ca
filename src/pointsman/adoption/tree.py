"""A folder as `init` reads it: its files, their texts, and what JSON, YAML and TOML in them say. Never raises."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from posixpath import normpath
from typing import Any

_TOOLS = ("node_modules", "target", "build", "dist", "coverage", "venv", "cdk.out", "__pycache__", "site-packages")
_LARGEST = 1_000_000  # bytes; CloudFormation takes templates of 1 MB at most
_MOST = 5_000  # files
_DEEPEST = 4  # folders


class Tree:
    """Paths are relative to `root`, with slashes. Hidden files are not listed, but can be read by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept: dict[str, Any] = {}  # what was parsed already, by whoever parsed it

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The nearest first, without what tools fill. A name that is no text cannot stand in the file."""
        found: list[str] = []
        folders = [""]
        for depth in range(_DEEPEST + 1):
            below: list[str] = []
            for folder in folders:
                for name, is_folder in self._inside(folder):
                    if not is_folder:
                        found.append(folder + name)
                    elif name not in _TOOLS and depth < _DEEPEST:
                        below.append(f"{folder}{name}/")
                if len(found) > _MOST:
                    return tuple(found[:_MOST])
            folders = below
        return tuple(found)

    def _inside(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if entry.name.isprintable()
                    and not entry.name.startswith(".")
                    and (entry.is_dir() or entry.is_file())
                )
        except OSError:
            return []

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Those that hold files, "." first, then the nearest."""
        return tuple(dict.fromkeys((".", *(path.rpartition("/")[0] or "." for path in self.files))))

    def ending(self, *suffixes: str) -> tuple[str, ...]:
        return tuple(path for path in self.files if path.endswith(suffixes))

    def called(self, *names: str) -> tuple[str, ...]:
        return tuple(path for path in self.files if path.rpartition("/")[2] in names)

    def is_file(self, path: str) -> bool:
        try:
            return (self.root / path).is_file()
        except (OSError, ValueError):  # too long, or a null character
            return False

    def is_folder(self, path: str) -> bool:
        try:
            return (self.root / path).is_dir()
        except (OSError, ValueError):
            return False

    def text(self, path: str, *, largest: int = _LARGEST) -> str:
        """The file's text; "" for what is no text, too large, not there or not readable."""
        try:
            file = self.root / path
            if not file.is_file() or file.stat().st_size > largest:
                return ""
            raw = file.read_bytes()
            return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except (OSError, ValueError):
            return ""

    def table(self, path: str, *, largest: int = _LARGEST) -> Mapping[str, Any]:
        """A JSON, YAML or TOML file's table, by its ending and its first letter; empty for anything else."""
        text = self.text(path, largest=largest)
        if path.endswith(".toml"):
            return toml(text)
        return parsed(text, json=path.endswith((".json", ".tfstate")) or text.lstrip()[:1] == "{")


def beside(*parts: str) -> str | None:
    """The parts joined to one path, which may lead out of the folder; None for an absolute one."""
    path = normpath("/".join(part for part in parts if part not in ("", ".")) or ".")
    return None if path.startswith("/") or not path.isprintable() else path


def within(*parts: str) -> str | None:
    """The same; None where it leads out of the folder."""
    path = beside(*parts)
    return None if path is None or path.startswith("../") or path == ".." else path


def table(value: object) -> Mapping[str, Any]:
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def text_of(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def parsed(text: str, *, json: bool) -> Mapping[str, Any]:
    """JSON or YAML, CloudFormation's tags in their long form; an empty table for anything else."""
    from json import loads

    try:
        return table(loads(text) if json else yaml(text))
    except (ValueError, RecursionError):
        return {}


def toml(text: str) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def yaml(text: str) -> object:
    """Plain values only, whatever tags say. Raises ValueError."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
        key = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
        match node:
            case yaml.SequenceNode():
                return {key: loader.construct_sequence(node, deep=True)}
            case yaml.MappingNode():
                return {key: loader.construct_mapping(node, deep=True)}
            case _:
                return {key: node.value}

    Loader.add_multi_constructor("!", tagged)
    if text.count("*") > 1_000 and text.count("&") > 5:
        raise ValueError("more aliases than any template has")  # "a billion laughs"
    try:
        return yaml.load(text, Loader)  # a SafeLoader: it builds plain values only
    except (yaml.YAMLError, AttributeError, TypeError) as error:  # PyYAML lets the latter two through for odd keys
        raise ValueError(str(error)) from error
