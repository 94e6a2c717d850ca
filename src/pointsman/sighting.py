"""What `init` sees on AWS of the functions that a folder declares: whether they are there, their aliases, their code.

Reads only. What a folder says stays as it is where its owner would bring it back; a live function fills what is open.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pointsman import artifact as packaging
from pointsman.adoption import Candidate, Found, sources_of
from pointsman.config import CloudFormation, Existing, Image, fits, toml
from pointsman.errors import NotFound, PointsmanError
from pointsman.model import Alias, Configuration, FunctionName, few
from pointsman.world import Session, World

_AN_ENVIRONMENT = re.compile(
    r"(stag|test|qa|uat|dev|int\b|integ|pre|prod|live|current|release|stable|main\b|master|default|blue|green|canary)",
    re.IGNORECASE,
)
_NAMED = 20  # files that `include` and `exclude` name one by one


def look(world: World, found: Found) -> Found:
    """The same, as it is on AWS. `world` is of the file that would be written: its functions stand in `found`'s order.

    Raises the first error of AWS or of the credentials: then nothing is known of any of them.
    """
    functions: list[Candidate] = []
    told, notes = list(found.told), list(found.notes)
    common: list[str] | None = None
    for candidate, function in zip(found.functions, world.project.functions.values(), strict=True):
        session = world.session(function, world.environment(None))
        name = _name(session, candidate, notes) or (session.declared_name() if candidate.provision is None else None)
        live = session.gateway.function(name) if name else None
        if live is None:
            if name:
                another = "" if candidate.name else ": `pointsman init --function-name NAME` takes another"
                notes.append(f"There is no function {name} in {session.wire.region} yet{another}.")
            functions.append(candidate)
            continue
        aliases = session.gateway.aliases(live.arn.name)
        told.append(_line(live, aliases))
        functions.append(_fitted(session, _filled(session, candidate, live), live, notes))
        free = _free(candidate, aliases, notes)
        common = free if common is None else [each for each in common if each in free]
    if common == []:
        notes.append("On AWS there is no alias yet that is for this file to move: the first deploy makes STAGE.")
    kept = tuple(common) if common else () if common is not None else found.aliases
    return replace(found, functions=tuple(functions), told=tuple(told), notes=tuple(dict.fromkeys(notes)), aliases=kept)


def named(world: World, found: Found, name: FunctionName) -> Found:
    """The one live function, with its code where the folder has it. Raises NotFound.

    Its owner is the folder's, where that declares it; the stack that its tags name; else somebody unknown.
    """
    function = next(iter(world.project.functions.values()))
    session = world.session(function, world.environment(None))
    live = session.gateway.function(name)
    if live is None:
        raise NotFound(
            f"there is no function {name} in {session.wire.region}",
            next="Check the name, --region and --profile. Nothing was written.",
        )
    declared = next((each for each in found.functions if each.name == name), None)
    notes = [*found.notes] if declared else []
    kind = found.kind if declared else "live"
    told = [line for line in found.told if declared.owner in line or name in line] if declared else []
    aliases = session.gateway.aliases(name)
    told.append(_line(live, aliases))
    candidate = declared or _undeclared(session, live, notes)
    candidate = _fitted(session, _filled(session, candidate, live), live, notes)
    free = _free(candidate, aliases, notes)
    if not free:
        notes.append(f"{name} has no alias yet that is for this file to move: the first deploy makes STAGE.")
    return replace(
        found,
        kind=kind,
        functions=(candidate,),
        told=tuple(told),
        notes=tuple(dict.fromkeys(notes)),
        aliases=tuple(free),
        region=live.arn.region,
    )


def _name(session: Session, candidate: Candidate, notes: list[str]) -> str | None:
    """What it is called on AWS: as its own files say it, or as its stack does."""
    if candidate.name or not isinstance(candidate.provision, CloudFormation):
        return candidate.name
    from pointsman.provision import cloudformation

    wanted = candidate.provision
    stack = session.gateway.stack(wanted.stack)
    if stack is None:
        notes.append(f"There is no stack {wanted.stack} in {session.wire.region} yet: the first deploy creates it.")
        return None
    try:
        return cloudformation.function_name(session.gateway, stack, wanted.function)
    except PointsmanError as error:
        notes.append(f"{error.what}.")
        return None


def _line(live: Configuration, aliases: tuple[Alias, ...]) -> str:
    if live.sha256.image:
        runs = "a container image"
    else:
        runs = f"{live.settings.get('Handler', 'no handler')}, {live.settings.get('Runtime', 'no runtime')}"
    shown = ", ".join(f"{each.name} → {each.version}" for each in aliases[:8]) or "no alias"
    return f"AWS {live.arn.region}: function {live.arn.name} ({runs}), {shown}"


def _filled(session: Session, candidate: Candidate, live: Configuration) -> Candidate:
    """What the folder left open, or guessed, as it is; what an owner declares is the owner's to say."""
    said: dict[str, Any] = {"name": str(live.arn.name)}
    guessed = candidate.provision is None or isinstance(candidate.provision, Existing)
    if live.sha256.image and candidate.build != "image" and guessed:  # what else was taken for its code is none of it
        candidate = Candidate(owner=candidate.owner, build="image", provision=candidate.provision, test=candidate.test)
    if live.sha256.image and candidate.build == "image" and candidate.image is None:
        image = session.gateway.code_of(live.arn.name, None).image_uri
        said["image"] = image if fits(Image, image) else None
    for key, setting in (("handler", "Handler"), ("runtime", "Runtime")):
        if live.settings.get(setting) and (guessed or getattr(candidate, key) is None):
            said[key] = live.settings[setting]
    if guessed:
        said["architecture"] = live.settings.get("Architectures", ["x86_64"])[0]
    return replace(candidate, **said)


def _undeclared(session: Session, live: Configuration, notes: list[str]) -> Candidate:
    """A function that no file here declares: its sources by its handler, its owner by its tags."""
    name, settings = live.arn.name, live.settings
    tags = session.gateway.tags(name)
    stack, logical = tags.get("aws:cloudformation:stack-name"), tags.get("aws:cloudformation:logical-id")
    if stack and logical:
        notes.append(
            f"{name} belongs to stack {stack} (so its tags say): its settings stay the stack's, which is only read."
        )
        provision: Existing | CloudFormation = CloudFormation(stack=stack, function=logical)
    else:
        provision = Existing(name=name)
        direct = {
            "with": "direct",
            "name": str(name),
            "role": settings.get("Role"),
            "memory": settings.get("MemorySize"),
        }
        direct["timeout"] = settings.get("Timeout")
        notes.append(
            "Its settings stay as they are. To have them kept by this file: provision = "
            + toml({key: each for key, each in direct.items() if each})
        )
    if live.sha256.image:
        return Candidate(owner=str(name), build="image", provision=provision)
    handler, runtime = settings.get("Handler"), settings.get("Runtime")
    root = session.world.project.root
    return sources_of(root, name, notes, handler=handler, runtime=runtime, provision=provision)


def _free(candidate: Candidate, aliases: tuple[Alias, ...], notes: list[str]) -> list[str]:
    """The aliases that this file may move: none of its stack's or Terraform's, none that follows $LATEST."""
    mine = [each for each in aliases if each.name not in candidate.owned and each.version.published]
    likely = [each for each in mine if _AN_ENVIRONMENT.search(each.name)] if len(mine) > 3 else mine
    if others := [each.name for each in aliases if each not in likely]:
        notes.append(f"Other aliases are left as they are: {', '.join(others[:8])}.")
    return [str(each.name) for each in sorted(likely, key=lambda each: each.name)]


# The code


def _fitted(session: Session, candidate: Candidate, live: Configuration, notes: list[str]) -> Candidate:
    """`include` and `exclude` as the deployed package has them, so that a deploy brings the same files."""
    if candidate.build not in ("node", "python") or live.code_size > 50_000_000:
        return candidate
    root = session.world.project.root / candidate.source
    code = session.gateway.code(live.arn.name)
    if code is None or not root.is_dir():
        return candidate
    there = packaging.held(io.BytesIO(code))
    here = _chosen(root, candidate)
    more = sorted(name for name in there.keys() - here if _same(root / name, there[name].digest))
    less = sorted(name for name in here - there.keys())
    if len(more) > _NAMED or len(less) > _NAMED or not here & there.keys():
        notes.append(
            f"The deployed package of {live.arn.name} holds other files than this folder ({len(there)} there, "
            f"{len(here)} here): look at `source`, `include` and `exclude`."
        )
        return candidate
    changed = sorted(name for name in here & there.keys() if not _same(root / name, there[name].digest))
    if changed:
        notes.append(f"Other than deployed: {few(changed)}. A deploy brings what is here.")
    if more:
        notes.append(f"The deployed package of {live.arn.name} holds {few(more)}, too: `include` names them.")
    if less:
        notes.append(f"It does not hold {few(less)}: `exclude` names them.")
    return replace(
        candidate,
        include=(*(candidate.include or ("**",)), *map(_exactly, more)) if more else candidate.include,
        exclude=(*candidate.exclude, *map(_exactly, less)),
    )


def _chosen(root: Path, candidate: Candidate) -> set[str]:
    """The files of the folder that would be packaged, without dependencies."""
    from pointsman.artifact.source import choose

    tests = (candidate.test.unit, candidate.test.integration)
    members = choose(
        root,
        include=candidate.include or ("**",),
        exclude=candidate.exclude,
        never=[path for test in tests if test for path in test.junit],
        handler=candidate.handler,
    )
    return {member.name for member in members}


def _exactly(name: str) -> str:
    """A .gitignore pattern for just this file."""
    return "/" + re.sub(r"([*?\[\]\\!#])", r"\\\1", name)


def _same(path: Path, digest: bytes) -> bool:
    import hashlib

    try:
        return path.is_file() and hashlib.sha256(path.read_bytes()).digest() == digest
    except (OSError, ValueError):
        return False


__all__ = ["look", "named"]
