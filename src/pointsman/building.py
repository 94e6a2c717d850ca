"""A function of the file → its package. That takes no ledger and no door to AWS, so `build` starts without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pointsman import artifact as packaging
from pointsman.config import Function, Project
from pointsman.errors import NotYet
from pointsman.model import Artifact, counted, size

if TYPE_CHECKING:
    from pointsman.artifact.contents import Contents


def build(
    project: Project,
    function: Function,
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    halted: Callable[[], bool] | None = None,
) -> Artifact:
    """Make the package, or find that it is made already. Raises BuildFailed before anything is asked of AWS."""
    tests = (function.test.unit, function.test.integration)
    recipe = packaging.Recipe(
        function=function.name,
        source=str((project.root / function.source).resolve()),
        build=_buildable(function),
        handler=function.handler,
        runtime=function.runtime,
        architecture=function.architecture,
        include=function.include,
        exclude=function.exclude,
        command=function.command,
        artifact=str((project.root / function.artifact).resolve()) if function.artifact else None,
        root=str(project.root.resolve()),
        shared=function.shared,
        sdk=function.sdk,
        bundle=function.bundle,
        target=function.target,
        never=tuple(path for test in tests if test for path in test.junit),
    )
    home = project.root / ".pointsman"
    made = packaging.build(
        recipe, out=home / "artifacts", cache=home / "cache", environment=environ, say=say, halted=halted
    )
    say(f"packaged {function.name}: {counted(made.files, 'file')}, {size(made.size)}, {made.sha256.short}…")
    return made


def last(project: Project, function: Function) -> Contents | None:
    """What its newest package holds: to be asked before the next one is built."""
    return packaging.last(project.root / ".pointsman" / "artifacts", function.name)


def _buildable(function: Function) -> packaging.Kind:
    if function.build == "image":
        raise NotYet(
            f'function.{function.name}.build = "image": container images are not deployed by this version',
            next='Use "python", "node", "command" or "zip".',
        )
    return function.build
