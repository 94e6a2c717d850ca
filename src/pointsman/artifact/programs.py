"""Which programs a build starts, told without building: `doctor` looks for them before a build does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from pointsman.artifact import builders, bundle, node, python
from pointsman.artifact.tools import Program

if TYPE_CHECKING:
    from pointsman.artifact import Recipe


def needed(recipe: Recipe) -> list[Program]:
    """What has to be on PATH. Raises BuildFailed, UsageError for sources that no program could build."""
    source = Path(recipe.source).resolve()
    root = Path(recipe.root).resolve() if recipe.root else source
    match recipe.build:
        case "python":
            return python.programs(source, root)
        case "node" if recipe.bundle:
            return [*node.programs(source, root, development=True), *bundle.programs(source)]
        case "node":
            return node.programs(source, root)
        case "ruby":
            return builders.programs("ruby", source) if (source / "Gemfile").is_file() else []
        case "java" | "go" | "dotnet" | "rust" | "make":
            return builders.programs(recipe.build, source)
        case "command" | "zip" | "folder":
            return []  # of a command the shell alone knows
        case _:
            assert_never(recipe.build)


__all__ = ["Program", "needed"]
