"""Accounts that the storage report is shown: growing, nearly full, new, empty, with names that nobody should choose."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from random import Random

from pointsman import storing
from pointsman.fleet import Fleet, Member
from pointsman.model import LATEST, CodeSha256, Configuration, FunctionArn, FunctionName, LayerVersion, Version
from pointsman.storing import DAY_S, Report, Sample

NOW = 1_790_000_000.0
GB = 2**30
LIMIT = 75 * GB
ACCOUNT, REGION = "123456789012", "eu-west-1"


def digest(text: str) -> CodeSha256:
    return CodeSha256(b64encode(hashlib.sha256(text.encode()).digest()).decode())


def version(name: str, number: int, size: int, days: float, code: str = "") -> Configuration:
    """Version `number` of a function (0: `$LATEST`), so many days old."""
    label = Version(str(number)) if number else LATEST
    return Configuration(
        arn=FunctionArn(account=ACCOUNT, region=REGION, name=FunctionName(name), qualifier=label),
        version=label,
        sha256=digest(code or f"{name} {number}"),
        revision="r",
        settings={},
        fingerprint="f",
        modified=datetime.fromtimestamp(NOW - days * DAY_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        code_size=size,
    )


def member(name: str, *published: tuple[int, float]) -> Member:
    """A function whose versions have these sizes and ages in days, the oldest first."""
    versions = tuple(version(name, n, size, days) for n, (size, days) in enumerate(published, 1))
    return Member(latest=version(name, 0, published[-1][0] if published else 1000, 0.0), versions=versions)


def layer(name: str, number: int, size: int) -> LayerVersion:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}:{number}"
    return LayerVersion(arn=arn, size=size, sha256=digest(f"{name} {number}"))


def fleet(*members: Member) -> Fleet:
    return Fleet(account=ACCOUNT, region=REGION, at=NOW, members=members)


def report(found: Fleet, samples: list[Sample], *, layers: tuple[LayerVersion, ...] = (), more: int = 0) -> Report:
    held = sum(each.code_size for one in found.members for each in (one.latest, *one.versions))
    code = held + sum(each.size for each in layers) + more
    return Report(
        environments=("staging", "production"),
        usage=storing.usage(found, layers, code=code, limit=LIMIT),
        growth=storing.growth([*samples, Sample(at=NOW, code=code)], code=code, limit=LIMIT, now=NOW),
        prunable=code // 3,
        published=5 * GB,
        published_count=120,
    )


def growing() -> Report:
    """Sixty days of deploys, a prune in the middle."""
    dice = Random(3)
    members = [
        member(f"function-{n:02d}", *((dice.randrange(5, 60) * 2**20, 200 - 1.6 * k) for k in range(120)))
        for n in range(9)
    ]
    there = fleet(*members)
    layers = (layer("common", 1, 40 * 2**20), layer("common", 2, 41 * 2**20), layer("numeric", 7, 60 * 2**20))
    final = report(there, [], layers=layers).usage.code
    samples, code = [], float(final)
    for day in range(1, 60):
        code -= dice.expovariate(1 / 0.3) * GB
        code += 6 * GB if day == 30 else 0
        samples.append(Sample(at=NOW - day * DAY_S, code=round(code)))
    return report(there, samples, layers=layers)


def full() -> Report:
    return report(fleet(member("api", *((300 * 2**20, 100 - k / 3) for k in range(240)))), [], more=4 * GB)


def new() -> Report:
    return report(fleet(member("greeting", (150, 0.1), (146, 0.0))), [])


def empty() -> Report:
    return report(fleet(), [])


def nasty() -> Report:
    """What a name cannot hold on AWS, but notes and names of environments can."""
    from msgspec.structs import replace

    return replace(
        growing(),
        environments=("<script>alert(1)</script>", "x" * 300),
        notes=("layers could not be looked at: <b>User</b> is not authorized \x1b[31m to perform: lambda:ListLayers",),
    )
