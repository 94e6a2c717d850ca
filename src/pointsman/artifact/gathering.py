"""A recipe → the files of its package: dependencies, shared code over them, the function's own over both.

Sources are only read. What has to be compiled or bundled is copied to a scratch folder first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, assert_never

from pointsman.artifact.archive import MAKER, Member
from pointsman.artifact.contents import About
from pointsman.artifact.source import EVERYTHING, Kind, LeftOut, choose, closed, member
from pointsman.artifact.tools import Installed, Tools, copy, files
from pointsman.errors import BuildFailed, UsageError
from pointsman.model import size

if TYPE_CHECKING:
    from pointsman.artifact import Recipe
    from pointsman.artifact.notes import Note

MOST_LEFT_OUT = 1000  # that are told one by one

# What runtimes bring: https://docs.aws.amazon.com/lambda/latest/dg/lambda-nodejs.html, …/lambda-python.html
_SDK_OF_PYTHON = ("boto3", "botocore", "s3transfer")


class Gathered(NamedTuple):
    members: list[Member]
    about: About


class _ByOrigin(NamedTuple):
    """Members by where they are from; of equal names the later one counts."""

    dependency: list[Member]
    shared: list[Member]
    own: list[Member]


class _Job(NamedTuple):
    """What all that follows works with. `left` and `packages` grow."""

    recipe: Recipe
    source: Path
    root: Path
    tools: Tools
    never: Sequence[str]
    scratch: Callable[[], Path]
    left: list[LeftOut]
    packages: dict[str, list[str]]


def gather(
    recipe: Recipe,
    source: Path,
    tools: Tools,
    scratch: Callable[[], Path],
    *,
    never: Sequence[str],
    earlier: Note | None,
) -> Gathered:
    """All that is to be packed. `source`: the folder to package; `scratch` makes one that is there until it is packed.

    `earlier`: the last package, whose files need not be searched for secrets again. Raises BuildFailed, UsageError.
    """
    root = Path(recipe.root).resolve() if recipe.root else source
    job = _Job(recipe, source, root, tools, never, scratch, [], {})
    found = _by_origin(job)
    _tell_left_out(job)
    above = _above(recipe)
    placed = _ByOrigin(found.dependency, _into(above, found.shared), _into(above, found.own))
    by_name: dict[str, tuple[Member, str]] = {}
    for origin, members in zip("dso", placed, strict=True):
        by_name.update((member.name, (member, origin)) for member in members)
    if not by_name:
        raise BuildFailed(f"{source} has no file to package", next="Look at `include` and `exclude`.")
    closed(member for member, _ in by_name.values())
    decided = settings(recipe)
    own = found.own if recipe.build in ("python", "node", "ruby") else _not_brought(found.own)
    _refuse_secrets([*found.shared, *own], recipe, decided, earlier, above)
    left = [(each.name, each.rule) for each in sorted(job.left)[:MOST_LEFT_OUT]]
    about = About(
        settings=decided,
        packages={name: tuple(versions) for name, versions in job.packages.items()},
        origins="".join(by_name[name][1] for name in sorted(by_name, key=str.encode)),
        left_out=tuple(left),
    )
    return Gathered([member for member, _ in by_name.values()], about)


def _by_origin(job: _Job) -> _ByOrigin:
    recipe, source, tools = job.recipe, job.source, job.tools
    installed: Installed | None = None
    match recipe.build:
        case "python":
            from pointsman.artifact import python

            lower: list[Member] = []
            for folder, runtime in _places(recipe):
                installed = python.install(
                    source, tools, runtime=runtime, architecture=recipe.architecture, root=job.root
                )
                lower += _into(folder, _dependencies(job, installed))
            return _ByOrigin(lower, _shared(job), _chosen(job, source, "sources"))
        case "node" if recipe.bundle:
            return _bundled(job)
        case "node":
            from pointsman.artifact import node

            home = node.home(source, job.root)
            installed = node.install(home, tools, architecture=recipe.architecture, root=job.root)
            if installed and recipe.sdk == "leave-out" and (sdk := _sdk_of_node(recipe.runtime)):
                installed = node.without(installed, home, lambda name: fnmatchcase(name, sdk), sdk, tools)
                job.left.append(LeftOut(f"node_modules/{sdk}", 'sdk = "leave-out"'))
            lower = _dependencies(job, installed)
            if home != source and installed:
                tools.say(f"the packages are those of {home / 'package.json'}")
                lower.append(member("package.json", home / "package.json"))  # tells Node what kind of modules these are
            return _ByOrigin(_into(_above(recipe), lower), _shared(job), _chosen(job, source, "sources"))
        case "ruby":
            from pointsman.artifact import builders

            installed = builders.gems(source, tools, runtime=recipe.runtime, architecture=recipe.architecture)
            return _ByOrigin(_dependencies(job, installed), _shared(job), _chosen(job, source, "sources"))
        case "java" | "go" | "dotnet" | "rust" | "make":
            from pointsman.artifact import builders

            installed = builders.compiled(
                recipe.build,
                *_copied(job),
                tools,
                runtime=recipe.runtime,
                architecture=recipe.architecture,
                target=recipe.target or (recipe.function if recipe.build == "make" else None),
            )
            return _ByOrigin([], [], _chosen(job, installed.tree, "made"))
        case "command" | "zip" | "folder":
            return _ByOrigin([], [], _chosen(job, source, "made"))
        case _:
            assert_never(recipe.build)


def _places(recipe: Recipe) -> list[tuple[str, str | None]]:
    """(the folder that dependencies go into, "" or with a `/` at its end; the runtime that they are for)."""
    return [(each.folder, each.runtime) for each in recipe.under] or [("", recipe.runtime)]


def _above(recipe: Recipe) -> str:
    """Where the sources of a layer go: into the first folder that all its places have in common."""
    folders = [folder for folder, _ in _places(recipe)]
    return folders[0] if len(set(folders)) == 1 else f"{folders[0].partition('/')[0]}/"


def _into(folder: str, members: list[Member]) -> list[Member]:
    return [each._replace(name=folder + each.name) for each in members] if folder else members


def _chosen(job: _Job, folder: Path, kind: Kind, include: Sequence[str] | None = None) -> list[Member]:
    recipe = job.recipe
    return choose(
        folder,
        include=recipe.include if include is None else include,
        exclude=recipe.exclude,
        never=job.never,
        handler=recipe.handler if include is None else None,
        kind=kind,
        left_out=job.left,
    )


def _tell_left_out(job: _Job) -> None:
    names = [each.name for each in job.left if each.missed]
    if names:
        shown = sorted({f"{name.partition('/')[0]}/…" if "/" in name.rstrip("/") else name for name in names})
        job.tools.say(f"left out: {', '.join(shown)} (`include` brings back what it names)")


def settings(recipe: Recipe) -> dict[str, str]:
    """What decided the package beside files and dependencies: as text, without what is left at its default."""
    listed = {"include": recipe.include, "exclude": recipe.exclude, "shared": recipe.shared}
    listed["under"] = tuple(each.folder for each in recipe.under)
    texts = {
        **{
            key: str(getattr(recipe, key))
            for key in ("build", "runtime", "architecture", "handler", "command", "target")
        },
        **{key: ", ".join(each) for key, each in listed.items() if each not in ((), ("**",))},
        **({"sdk": recipe.sdk} if recipe.sdk != "keep" else {}),
        **({"bundle": repr(recipe.bundle)} if recipe.bundle else {}),
        "packer": MAKER,
    }
    return {key: each for key, each in texts.items() if each != "None"}


def _refuse_secrets(
    members: list[Member], recipe: Recipe, decided: dict[str, str], earlier: Note | None, above: str
) -> None:
    """`members` are named as in the sources, those of the note as in the package: under `above`."""
    from pointsman.artifact import contents, secrets

    about = contents.of(Path(earlier.made.path)) if earlier else None
    same = earlier and about and about.settings.get("include") == decided.get("include")
    known = {f"{above}{member.name}" for member in members} if earlier and same else set()
    noted = earlier.entries if earlier and same else []
    clean = {(entry.name.removeprefix(above), entry.seen) for entry in noted if entry.name in known}
    secrets.refuse(members, recipe.include, clean)


def _not_brought(made: list[Member]) -> list[Member]:
    """Of a folder that a command filled: without what packages brought, whose tests may hold keys."""
    from pointsman.artifact import secrets

    records = {each.name: Path(each.path).read_bytes() for each in made if each.name.endswith(secrets.RECORD)}
    foreign = secrets.brought((each.name for each in made), records)
    return [each for each in made if each.name not in foreign]


# Dependencies


def _dependencies(job: _Job, installed: Installed | None) -> list[Member]:
    if installed is None:
        return []
    recipe = job.recipe
    for name, versions in installed.packages.items():  # a layer may have others for each Python
        job.packages[name] = list(dict.fromkeys((*job.packages.get(name, ()), *versions)))
    exclude = recipe.exclude
    sdk = _sdk(job, installed)
    if recipe.build == "python" and recipe.sdk == "leave-out":
        exclude = (*exclude, *(f"/{name}" for name in sdk))
        job.left.extend(LeftOut(f"{name}/", 'sdk = "leave-out"') for name in sdk)
        for name in _SDK_OF_PYTHON:
            job.packages.pop(name, None)
    elif sdk and installed.made_now and recipe.sdk == "keep":
        saved = size(sum(path.lstat().st_size for name in sdk for path in (installed.tree / name).rglob("*")))
        name = sdk[0].removeprefix("node_modules/")
        job.tools.say(f'{recipe.runtime} has {name} too: sdk = "leave-out" would save {saved} of the package')
    return choose(installed.tree, exclude=exclude, kind="installed") if exclude else files(installed)


def _sdk(job: _Job, installed: Installed) -> list[str]:
    """The top folders of the AWS SDK, as far as the runtime brings it."""
    runtime = job.recipe.runtime
    if runtime and runtime.startswith("python"):
        found = [path.name for path in sorted(installed.tree.iterdir()) if path.is_dir()]
        return [name for name in found if name.partition("-")[0] in _SDK_OF_PYTHON]
    if sdk := _sdk_of_node(runtime):
        folder = f"node_modules/{sdk.removesuffix('/*')}"
        return [folder] if (installed.tree / folder).is_dir() else []
    return []


def _sdk_of_node(runtime: str | None) -> str | None:
    """The packages that the runtime has: version 3 since Node 18, version 2 before."""
    import re

    found = re.fullmatch(r"nodejs(\d+)\.x", runtime or "")
    return None if not found else "@aws-sdk/*" if int(found[1]) >= 18 else "aws-sdk"


def _bundled(job: _Job) -> _ByOrigin:
    from pointsman.artifact import bundle, node

    recipe, source, tools = job.recipe, job.source, job.tools
    assert recipe.bundle
    sdk = _sdk_of_node(recipe.runtime) if recipe.sdk == "leave-out" else None
    external = tuple(dict.fromkeys((*recipe.bundle.external, *([sdk] if sdk else ()))))
    modules = node.install(source, tools, architecture=recipe.architecture, root=job.root, development=True)
    out = job.scratch() / "bundle"
    _, project = _copied(job)
    bundle.bundle(
        recipe.bundle,
        project,
        source,
        tools,
        out,
        handler=recipe.handler,
        runtime=recipe.runtime,
        external=external,
        modules=modules.tree if modules else None,
    )
    lower: list[Member] = []
    if recipe.bundle.external and (
        whole := node.install(source, tools, architecture=recipe.architecture, root=job.root)
    ):
        names = bundle.kept_outside([*whole.packages], recipe.bundle.external)
        lower = _dependencies(
            job, node.part(whole, names, lambda name: bool(sdk) and fnmatchcase(name, sdk or ""), tools)
        )
    assets = [each for each in recipe.include if each not in EVERYTHING]
    beside = _chosen(job, source, "sources", assets) if assets else []
    return _ByOrigin(lower, [], [*beside, *choose(out, kind="made")])


# Shared code, and copies


def _sharing(job: _Job) -> Iterator[tuple[Path, str]]:
    """(a folder or file of the repository, what it is called in the package: "" for its content at the root)."""
    for text in job.recipe.shared:
        written, _, name = (part.strip() for part in text.partition(" as "))
        path = (job.root / written).resolve()
        if not path.is_relative_to(job.root):
            raise UsageError(
                f'shared = ["{text}"] lies outside of {job.root}, the folder of pointsman.toml',
                next="Move pointsman.toml up to a folder that holds all of it.",
            )
        if not path.exists():
            raise BuildFailed(f'shared = ["{text}"]: there is no {path}', next="Correct `shared`.")
        name = os.path.normpath(name or path.name)
        if name.startswith(("/", "..")):
            raise UsageError(f'shared = ["{text}"]: {name} is not a place in the package', next="Correct `shared`.")
        yield path, "" if name == "." else name


def _shared(job: _Job) -> list[Member]:
    """Shared code under its name, without what is left out of sources too."""
    from pointsman.artifact.source import matcher

    excluded = matcher(job.recipe.exclude)
    found: list[Member] = []
    for path, name in _sharing(job):
        if path.is_file():
            members = [member(name or path.name, path)]
        else:
            left: list[LeftOut] = []
            prefix = f"{name}/" if name else ""
            members = [each._replace(name=prefix + each.name) for each in choose(path, never=job.never, left_out=left)]
            job.left.extend(each._replace(name=prefix + each.name) for each in left)
        for each in members:
            if excluded(each.name):
                job.left.append(LeftOut(each.name, "excluded"))
            else:
                found.append(each)
    return found


def _copied(job: _Job) -> tuple[Path, Path]:
    """(a scratch folder, in it a copy of the sources): shared code lies beside them as in the repository. All of it may
    be written to."""
    mirror = job.scratch() / "sources"
    project = mirror / os.path.relpath(job.source, job.root) if job.source.is_relative_to(job.root) else mirror
    copy(job.source, project, kind="copied", never=job.never)
    for path, _ in _sharing(job):
        goal = mirror / os.path.relpath(path, job.root)
        if not goal.exists():
            copy(path, goal, kind="copied", never=job.never)
    return mirror.resolve(), project.resolve()
