"""Code that another tool deployed: where its zip holds the files of our package, that zip is taken for the package.

Two tools zip the same files to different bytes (order, times, compression), and CodeSha256 is of the bytes. Without
this, the first deploy of a function taken over would upload and publish what is there already.
"""

from __future__ import annotations

from pathlib import Path

from pointsman import artifact as packaging
from pointsman.errors import BuildFailed, PointsmanError
from pointsman.model import Artifact, Configuration, few
from pointsman.world import Session

_LARGEST = 100_000_000  # bytes of a zip that is fetched to be compared


def taken_over(session: Session, made: Artifact, function: Configuration | None) -> Artifact:
    """The deployed zip as our package, where it holds the same files; else `made`.

    Asks nothing where the ledger knows a build of this function: then its code is ours, or was compared before.
    """
    if function is None or made.image or function.sha256.image:  # an image is what its digest says
        return made
    if function.sha256 == made.sha256 or function.code_size > _LARGEST:
        return made
    arn = function.arn.unqualified
    known = session.ledger.remembered("taken over", str(arn))
    ours = (made.sha256, function.sha256)
    if known is not None and (known["package"], known["deployed"]) != ours:
        return made
    if known is None and session.ledger.builds(arn):
        return made
    theirs = _kept(made, function) or _fetched(session, made, function)
    if theirs is None:
        return made
    if known is None:
        if different := differences(Path(made.path), Path(theirs.path)):
            session.say(f"{arn.name} holds other files than this package: {'; '.join(different)}")
            return made
        session.say(f"{arn.name} holds exactly these files in another zip: that one is taken for the package")
        if session.run:
            subject, name = str(arn), session.function.name
            session.ledger.append(
                session.run, "taken over", function=name, subject=subject, package=ours[0], deployed=ours[1]
            )
    return theirs


def differences(ours: Path, theirs: Path) -> list[str]:
    """How two zips differ in files, a few named; empty where they hold the same.

    Times and order count for nothing, permissions only where one of ours is a program: theirs must be one, too.
    """
    here, there = packaging.held(ours), packaging.held(theirs)
    both = here.keys() & there.keys()
    found = {
        "only here": here.keys() - there.keys(),
        "only there": there.keys() - here.keys(),
        "of other content": {name for name in both if here[name].digest != there[name].digest},
        "a program here only": {name for name in both if here[name].mode & ~there[name].mode & 0o100},
    }
    return [f"{what}: {few(sorted(names))}" for what, names in found.items() if names]


def _kept(made: Artifact, function: Configuration) -> Artifact | None:
    path = packaging.place(Path(made.path).parent, made.function, function.sha256)
    if not path.is_file():
        return None
    found = packaging.inspect(path, made.function)
    return found if found.sha256 == function.sha256 else None


def _fetched(session: Session, made: Artifact, function: Configuration) -> Artifact | None:
    """The deployed zip beside our own packages; None where it cannot be had. Then ours goes up, which is no harm."""
    path = packaging.place(Path(made.path).parent, made.function, function.sha256)
    part = path.with_suffix(".part")
    try:
        code = session.gateway.code(function.arn.name, str(function.version))
        if code is None:
            return None
        part.write_bytes(code)
        found = packaging.inspect(part, made.function)
        if found.sha256 != function.sha256:
            return None
        part.replace(path)
    except BuildFailed as error:  # a zip that Lambda took and we do not
        session.say(f"the deployed code of {function.arn.name} cannot be compared: {error.what}")
        return None
    except PointsmanError as error:
        session.say(f"the deployed code of {function.arn.name} could not be fetched: {error.what}")
        return None
    finally:
        part.unlink(missing_ok=True)
    return packaging.inspect(path, made.function)
