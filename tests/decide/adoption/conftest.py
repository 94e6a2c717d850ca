"""Folders laid out as text, and the project that `init` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from pointsman import adoption, config
from pointsman.adoption import Found
from pointsman.config import Project

Seen: TypeAlias = Callable[..., tuple[Project, Found]]


def lay(folder: Path, files: Mapping[str, Any]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        match content:
            case bytes():
                (folder / path).write_bytes(content)
            case str():
                (folder / path).write_text(content)
            case _:
                (folder / path).write_text(json.dumps(content))


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    """What is written for a folder with these files, read back, and what was found."""

    def look(files: Mapping[str, Any], kind: str | None = None) -> tuple[Project, Found]:
        folder = tmp_path / "api"
        folder.mkdir(exist_ok=True)
        lay(folder, files)
        found = adoption.look(folder, kind)
        return config.parse(adoption.write(found), file=folder / "pointsman.toml"), found

    return look
