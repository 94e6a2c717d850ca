"""What was found → the text of a pointsman.toml that `config.parse` accepts: minimal, commented."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pointsman.adoption.found import Candidate, Found, named
from pointsman.config import Existing, Region, fits, toml
from pointsman.errors import UsageError
from pointsman.model import AliasName, FunctionName

_FOR_PRODUCTION = re.compile(r"prod|live|current|release|stable|master|main\b", re.IGNORECASE)


def write(found: Found, *, name: str | None = None, role: str | None = None, region: str | None = None) -> str:
    """A pointsman.toml for what was found. `name` is the (first) function's, `role` its execution role, with which
    Pointsman creates a function that nobody owns.
    """
    if name is not None and not FunctionName.pattern.fullmatch(name):
        raise UsageError(f"{name!r} is not {FunctionName.rule}")
    lines = ["# What every key means: `pointsman config explain`."]
    lines += [_comment(f"- {note}") for note in found.notes]
    lines.append("")
    taken: set[str] = set()
    for candidate in found.functions:
        wanted = name if name and not taken else named(candidate.owner)
        key, more = wanted, 2
        while key in taken:
            key, more = f"{wanted[:60]}-{more}", more + 1
        taken.add(key)
        lines += _function(found, candidate, key, role)
    region = region or (found.region if fits(Region, found.region) else None)
    where = {"region": region, "profile": found.profile, "bucket": found.bucket}
    for key, alias, approve in _environments(found.aliases):
        lines += [f"[environment.{key}]", f"alias = {toml(alias)}"]
        lines += [f"{what} = {toml(value)}" for what, value in where.items() if value]
        lines += ["approve = true"] if approve else []
        lines.append("")
    return "\n".join(lines)


def _comment(text: str) -> str:
    """One line of printable characters, whatever a template had in it."""
    return "".join(each if each.isprintable() else " " for each in f"# {text}")


def _environments(aliases: tuple[str, ...]) -> list[tuple[str, str, bool]]:
    """Name, alias and whether it asks for approval: aliases that exist, else STAGE. Production comes last.

    Where nothing that exists is for production, PROD is to come; where all of it is, nothing comes before it.
    """
    usable = [alias for alias in dict.fromkeys(aliases) if AliasName.pattern.fullmatch(alias)] or ["STAGE"]
    if not any(_FOR_PRODUCTION.search(alias) for alias in usable):
        usable.append("PROD")
    names: dict[str, str] = {}
    for alias in sorted(usable, key=lambda each: bool(_FOR_PRODUCTION.search(each))):
        name = {"stage": "staging", "prod": "production"}.get(alias.lower(), alias.lower()[:60])
        while name in names:
            name += "_"
        names[name] = alias
    return [(name, alias, bool(_FOR_PRODUCTION.search(alias))) for name, alias in names.items()]


def _function(found: Found, candidate: Candidate, key: str, role: str | None) -> Iterator[str]:
    yield f"[function.{key}]"
    if candidate.source != ".":
        yield f"source = {toml(candidate.source)}"
    if candidate.handler:
        yield f"handler = {toml(candidate.handler)}"
    if candidate.runtime:
        if found.kind == "plain" and not role:
            yield "# A guess: take what the function has on AWS."
        yield f"runtime = {toml(candidate.runtime)}"
    if candidate.architecture != "x86_64":
        yield f"architecture = {toml(candidate.architecture)}"
    for what, patterns in (("include", candidate.include), ("exclude", candidate.exclude)):
        if patterns:
            yield f"{what} = {toml(patterns)}"
    if candidate.build == "image":
        if candidate.image is None:
            yield "# A guess: put in the image that is to be deployed, as ECR has it."
        yield f"image = {toml(candidate.image or _guessed_image(key, found.region))}"
    elif candidate.build:
        yield f"build = {toml(candidate.build)}"
        more = {"target": candidate.target, "command": candidate.command, "artifact": candidate.artifact}
        for what, value in more.items():
            if value:
                yield f"{what} = {toml(value)}"
        if candidate.bundle is not None:
            yield f"bundle = {toml(_given(candidate.bundle) or True)}"
    else:
        yield "# Nothing here told how to package it: a zip made elsewhere, or see `pointsman config explain function`."
        yield 'build = "zip"'
        yield 'artifact = "function.zip"'
    yield f"provision = {toml(_provision(candidate, key, role))}"
    yield ""
    tests = [
        (kind, test)
        for kind, test in (("unit", candidate.test.unit), ("integration", candidate.test.integration))
        if test
    ]
    if tests:
        yield f"[function.{key}.test]"
        for kind, test in tests:
            junit = {"junit": test.junit[0]} if test.junit else {}
            against = {"against": test.against} if kind == "integration" else {}
            yield f"{kind} = {toml({'run': test.run, **junit, **against})}"
        yield ""


def _guessed_image(key: str, region: str | None) -> str:
    region = region if fits(Region, region) and region else "eu-west-1"
    name = re.sub("[^a-z0-9]+", "-", key.lower()).strip("-") or "function"
    return f"123456789012.dkr.ecr.{region}.amazonaws.com/{name}:latest"


def _provision(candidate: Candidate, key: str, role: str | None) -> Mapping[str, object]:
    if candidate.provision is None:
        return {"with": "direct", "role": role} if role else {"with": "existing", "name": key}
    said = _given(candidate.provision)
    if isinstance(candidate.provision, Existing) and role:
        return {"with": "direct", **said, "role": role}
    return {"with": str(candidate.provision.__struct_config__.tag), **said}


def _given(value: msgspec.Struct) -> dict[str, Any]:
    """The keys of a table that say something, for a default need not stand in the file."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(value):
        each = getattr(value, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if isinstance(each, msgspec.Struct):
            each, default = _given(each), {}
        if each != default and each is not None:
            found[field.encode_name] = each
    return found
