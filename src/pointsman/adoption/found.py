"""What every source says in the same words: the functions it declares, who owns them, what a person should know."""

from __future__ import annotations

import re
from typing import Literal

from pointsman.config import Bundle, Provision, Tests
from pointsman.model import Value

Kind = Literal["lambroll", "serverless", "claudia", "sam", "cdk", "cloudformation", "terraform", "live", "plain"]

Build = Literal["node", "python", "go", "rust", "java", "dotnet", "ruby", "make", "command", "zip", "image"]


class Candidate(Value, frozen=True, kw_only=True):
    """A function that can be deployed from `source`. `owner` is how its owner calls it; `name` is AWS's, where known.

    `provision` is None where nobody is known to own it: then it exists already, under its own name. Its owner moves the
    aliases `owned`; `aliases` are those that it leaves to others. `image`: where a container image lies in ECR, with
    build "image"; None where that is not known here.
    """

    owner: str
    source: str = "."
    handler: str | None = None
    runtime: str | None = None
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    build: Build | None = None
    target: str | None = None
    bundle: Bundle | None = None
    command: str | None = None
    artifact: str | None = None
    image: str | None = None
    test: Tests = Tests()
    provision: Provision | None = None
    name: str | None = None
    aliases: tuple[str, ...] = ()
    owned: tuple[str, ...] = ()


class Found(Value, frozen=True, kw_only=True):
    """What a folder holds. `told` says what was recognised, a line each with the file it came from; `notes` are what
    was not understood or chosen among several, a sentence each with what to do about it.

    `aliases` exist, and are nobody else's to move. `depth` is how far below the folder the deciding file lies.
    """

    kind: Kind
    functions: tuple[Candidate, ...]
    told: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    region: str | None = None
    profile: str | None = None
    bucket: str | None = None
    depth: int = 0


def named(text: str) -> str:
    """The nearest name that AWS takes for a function."""
    return re.sub("[^A-Za-z0-9_-]+", "-", text).strip("-")[:64] or "function"
