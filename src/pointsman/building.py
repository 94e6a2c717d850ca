"""A function of the file → its package and its layers'. That takes no ledger and no door to AWS, so `build` starts
without them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pointsman import artifact as packaging
from pointsman import home
from pointsman.artifact import Under
from pointsman.artifact.builds import Builds
from pointsman.config import Direct, Function, Layer, Project
from pointsman.model import Artifact, BuiltLayer, CodeSha256, counted, size

if TYPE_CHECKING:
    from pointsman.artifact.checks import Problem
    from pointsman.artifact.contents import Contents


def build(
    project: Project,
    function: Function,
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    halted: Callable[[], bool] | None = None,
    builds: Builds | None = None,
) -> Artifact:
    """Make the package, or find that it is made already. Raises BuildFailed before anything is asked of AWS.

    `builds`: those of one command; layers are built once for all of them. Of a container image nothing is made here:
    `images` looks which one it is.
    """
    kept = home.make(project.root)
    made = packaging.build(
        recipe(project, function),
        out=kept / "artifacts",
        cache=kept / "cache",
        environment=environ,
        say=say,
        halted=halted,
        builds=(builds := builds or Builds()),
    )
    say(f"packaged {function.name}: {counted(made.files, 'file')}, {size(made.size)}, {made.sha256.short}…")
    layers = []
    for each in layers_of(project, function):
        make = functools.partial(layer, project, each, environ=environ, say=say, halted=halted)
        layers.append(builds.once(("layer", each.name), make))
    return msgspec.structs.replace(made, layers=tuple(layers))


def layers_of(project: Project, function: Function) -> list[Layer]:
    """Those of the file that it names."""
    named = function.provision.layers if isinstance(function.provision, Direct) else ()
    return [project.layers[ref] for ref in named if ref in project.layers]


def recipe(project: Project, function: Function) -> packaging.Recipe:
    """How its package is made."""
    assert function.build != "image", "nothing is built of an image"
    tests = (function.test.unit, function.test.integration)
    return packaging.Recipe(
        function=function.name,
        source=str((project.root / function.source).resolve()),
        build=function.build,
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


def problems(function: Function, made: Artifact, *, bucket: str | None) -> list[Problem]:
    """What Lambda would refuse of a package, or could not start, as far as AWS need not be asked."""
    from pointsman.artifact import checks

    return checks.problems(
        made,
        function.handler,
        function.runtime,
        bucket,
        # Of a function that somebody else made only a look at it tells: `preflight.check_there`.
        function.architecture if isinstance(function.provision, Direct) else None,
        elsewhere=isinstance(function.provision, Direct) and bool(function.provision.layers),  # may be in another's
    )


def layer(
    project: Project,
    layer: Layer,
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    halted: Callable[[], bool] | None = None,
) -> BuiltLayer:
    """The same of a layer."""
    kept = home.make(project.root)
    made = packaging.build(
        layer_recipe(project, layer),
        out=kept / "artifacts" / "layers",
        cache=kept / "cache",
        environment=environ,
        say=say,
        halted=halted,
    )
    runtimes, architectures = _meant_for(project, layer)
    say(f"packaged layer {layer.name}: {counted(made.files, 'file')}, {size(made.size)}, {made.sha256.short}…")
    return BuiltLayer(
        layer=layer.name,
        name=layer.published_as or layer.name,
        package=made,
        runtimes=runtimes,
        architectures=architectures,
        retain=layer.retain,
    )


def layer_recipe(project: Project, layer: Layer) -> packaging.Recipe:
    runtimes, architectures = _meant_for(project, layer)
    return packaging.Recipe(
        function=layer.name,
        source=str((project.root / layer.source).resolve()),
        build=layer.build,
        architecture=next(iter(architectures), "x86_64"),
        include=layer.include,
        exclude=layer.exclude,
        command=layer.command,
        artifact=str((project.root / layer.artifact).resolve()) if layer.artifact else None,
        root=str(project.root.resolve()),
        under=_under(layer.build, runtimes),
    )


def _meant_for(project: Project, layer: Layer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(runtimes, architectures): what the file does not say, the functions that name the layer do."""
    users = [each for each in project.functions.values() if layer in layers_of(project, each)]
    runtimes = layer.runtimes or tuple(dict.fromkeys(each.runtime for each in users if each.runtime))
    return runtimes, layer.architectures or tuple(dict.fromkeys(each.architecture for each in users))


def _under(build: str, runtimes: tuple[str, ...]) -> tuple[Under, ...]:
    """Where runtimes look: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html.

    Python's packages may be compiled for one Python: of several runtimes each has a folder that only it looks at.
    """
    match build:
        case "node":
            return (Under(folder="nodejs/", runtime=None),)
        case "python" if len(runtimes) > 1:
            return tuple(Under(folder=f"python/lib/{each}/site-packages/", runtime=each) for each in runtimes)
        case "python":
            return (Under(folder="python/", runtime=next(iter(runtimes), None)),)
        case _:
            return ()


def reference(image: str) -> tuple[str, str]:
    """(the image without tag and digest, its digest in hex or "")."""
    name, _, digest = image.partition("@sha256:")
    return re.sub(r":[^:/]+$", "", name), digest


def of_image(function: str, repository: str, digest: str, bytes_: int = 0) -> Artifact:
    sha256 = CodeSha256(digest)
    image = f"{repository}@sha256:{digest}"
    return Artifact(function=function, path="", sha256=sha256, size=bytes_, unzipped=0, files=0, image=image)


def intact(made: Artifact) -> bool:
    """Whether the files of what was built earlier still hold it."""
    zips = [] if made.image else [made]
    for each in (*zips, *(layer.package for layer in made.layers)):
        if not Path(each.path).exists() or packaging.inspect(Path(each.path), each.function).sha256 != each.sha256:
            return False
    return True


def last(project: Project, built: Function | Layer) -> Contents | None:
    """What its newest package holds: to be asked before the next one is built."""
    folder = project.root / home.NAME / "artifacts"
    return packaging.last(folder / "layers" if isinstance(built, Layer) else folder, built.name)
