"""The same bits in another place: a build of one account or region, brought to where it is promoted.

The package is taken from where it is: here, by its digest; the other environment's bucket, where S3 copies it; or
Lambda itself, which keeps the code of every version. Its digest is compared before it goes up, and by what Lambda
answers after. The settings are those of the environment it is promoted to.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from pointsman import artifact as packaging
from pointsman import branches, home, images, owners, places
from pointsman.aws.gateway import Package
from pointsman.config import CloudFormation, Direct, Environment, Existing, Terraform
from pointsman.errors import AwsError, BuildFailed, NotFound, PointsmanError, UnknownTarget, UsageError
from pointsman.ledger import Run
from pointsman.model import (
    Artifact,
    BuildId,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    Value,
    Version,
    from_json,
    size,
    to_json,
)
from pointsman.observe import described, of_alias, resolve
from pointsman.owners import Found
from pointsman.provision import uploads
from pointsman.world import Session


class Source(Value, frozen=True, kw_only=True):
    """A version in another place: `environment` is there. `verdict`: what its integration tests said."""

    environment: Environment
    arn: FunctionArn
    version: Version
    build: BuildId
    sha256: CodeSha256
    verdict: str

    def __str__(self) -> str:
        where = f"{self.environment.name} ({self.arn.account}, {self.arn.region})"
        return f"version {self.version} of {self.arn.name} in {where}"


# Where it is


def find(session: Session, target: str) -> Source | None:
    """What is promoted, where the file or the ledger tells that it is elsewhere; None where it is looked for here.

    Asks AWS only for what an alias of another place serves.
    """
    kind, rest = _parsed(target)
    others = _others(session)
    if kind == "version" or not others:
        return None
    if kind == "branch":
        where = places.each(session.world.of_branch(rest))
    else:
        environments = session.world.project.environments.values()
        named = next((each for each in environments if rest in (each.name, each.alias)), None)
        where = places.each(named) if named and kind in ("", "alias") else ()
    if where:
        if any(_same(session, each, session.environment) for each in where):
            return None
        return _served(session, _near(session, where))
    if kind not in ("", "build"):
        return None
    homes = [each for each in session.ledger.homes(rest) if each[1].function == session.function.name]
    if homes:
        return _of_ledger(session, rest, homes)
    # A number that no ledger knows: as a version it would mean other bits here than the build of another place.
    return look(session, target) if not kind and rest.isdecimal() else None


def look(session: Session, target: str) -> Source | None:
    """The same without a ledger: the versions in the other places are asked for that build. None where none has it."""
    kind, rest = _parsed(target)
    if kind not in ("", "build"):
        return None
    for each in _others(session):
        there = _at(session, each)
        try:
            name = owners.name(there)
            found = there.gateway.function(name)
            if found is None:
                continue
            there.check_account(found.arn)
            arn = found.arn.unqualified
            version, build = resolve(there, arn, f"build:{rest}")
        except UnknownTarget:
            continue
        except (AwsError, UsageError) as error:
            session.say(f"{each.name} could not be asked for build {rest}: {error.what}")
            continue
        return _source(there, arn, version, build)
    return None


def build_meant(session: Session, target: str) -> str:
    """The build that may be asked for; "" where it is an alias, a version or a branch, or there are no other places."""
    kind, rest = _parsed(target)
    if not _others(session) or kind not in ("", "build"):
        return ""
    environments = session.world.project.environments.values()
    return "" if any(rest in (each.name, each.alias) for each in environments) and not kind else rest


def _parsed(target: str) -> tuple[str, str]:
    kind, _, rest = target.partition(":")
    if kind in ("build", "version", "alias", "branch"):
        return kind, rest
    return ("branch", target) if branches.pull_request(target) else ("", target)


def _others(session: Session) -> list[Environment]:
    """Every other place of the file, those of the same region first."""
    declared = session.world.project.environments.values()
    found = [
        place for each in declared for place in places.each(each) if not _same(session, place, session.environment)
    ]
    return sorted(found, key=lambda each: each.region != session.environment.region)


def _same(session: Session, one: Environment, other: Environment) -> bool:
    """Whether two are one account and region, as far as the file tells; no call is made for it."""
    world = session.world

    def key(each: Environment) -> tuple[str, str]:
        known = places.account(each) or (places.REHEARSED if world.local else each.profile or "")
        try:
            return known, world.wire(each)[0].region
        except PointsmanError:  # a profile that this machine does not have: what is wrong there is said when it is used
            return known, ""

    return key(one) == key(other)


def _near(session: Session, where: tuple[Environment, ...]) -> Environment:
    return next((each for each in where if each.region == session.environment.region), where[0])


def _at(session: Session, environment: Environment) -> Session:
    """A session that only looks."""
    return session.world.session(session.world.functions(session.function.name)[0], environment)


def _served(session: Session, where: Environment) -> Source:
    there = _at(session, where)
    name = owners.name(there)
    alias = there.gateway.alias(name, where.alias)
    if alias is None:
        there.check_account(None)
        raise NotFound(
            f"there is no alias {where.alias} of {name} in {where.name}",
            next=f"`pointsman deploy --to {where.name}` comes first.",
        )
    arn = alias.arn.unqualified
    there.check_account(arn)
    version, build = of_alias(there, arn, alias)
    return _source(there, arn, version, build)


def _source(there: Session, arn: FunctionArn, version: Version, build: BuildId | None) -> Source:
    found = there.gateway.function(arn.name, version)
    if found is None:
        raise UnknownTarget(f"there is no version {version} of {arn.name} in {there.environment.name}")
    return Source(
        environment=there.environment,
        arn=arn,
        version=version,
        build=build or described(found) or BuildId(found.sha256.hex[:12]),
        sha256=found.sha256,
        verdict=there.ledger.verdict(arn, version),
    )


def _of_ledger(session: Session, build: str, homes: Iterable[tuple[FunctionArn, Run]]) -> Source | None:
    """The place the build was deployed to, in this region if it was; None where that is here."""
    world, ledger = session.world, session.ledger
    found: list[Source] = []
    for arn, run in homes:
        known = ledger.build(arn, build)
        if run.command != "deploy" or known is None or known.version is None:
            continue
        try:
            environment = world.environment_called(run.environment)
        except PointsmanError:
            continue  # of a file that was
        environment = places.in_region(environment, arn.region) if environment.regions else environment
        if _same(session, environment, session.environment):
            return None
        found.append(
            Source(
                environment=environment,
                arn=arn,
                version=known.version,
                build=known.id,
                sha256=known.sha256,
                verdict=ledger.verdict(arn, known.version),
            )
        )
    return next((each for each in found if each.arn.region == session.wire.region), found[0] if found else None)


# What it is to become


def there(session: Session) -> Found:
    """The function it is brought to. Raises NotFound, UsageError where that is its owner's to make or to change."""
    provision, where = session.function.provision, f"environment {session.environment.name}"
    first = f"`pointsman deploy --to {session.environment.name}` applies it, with a package; then promote."
    name: FunctionName
    if owner := owners.brings_code(session):
        raise UsageError(
            f"{owner} brings the code itself: what is put there beside it, its next update puts back",
            where=where,
            next=f"Bring the build there by its owner: `pointsman deploy --to {session.environment.name}`.",
        )
    match provision:
        case CloudFormation() | Terraform():
            try:
                name = owners.name(session)
            except NotFound as error:
                raise NotFound(error.what, where=where, next=f"The owner's step comes first: {first}") from error
        case _:
            name = FunctionName(session.declared_name() or session.function.name)
    function = session.gateway.function(name)
    if function is None and not isinstance(provision, Direct):
        session.check_account(None)
        owned = "somebody else makes it" if isinstance(provision, Existing) else "its owner has not made it there"
        raise NotFound(
            f"there is no function {name} in {session.wire.region}, and {owned}",
            where=where,
            next="Have it made there; then promote." if isinstance(provision, Existing) else first,
        )
    return Found(function=function, name=name)


def package_of(session: Session, source: Source) -> Artifact:
    """The package as it was built; where no ledger tells that, as much as Lambda knows of it."""
    folder = session.world.project.root / home.NAME / "artifacts"
    if source.sha256.image:
        return images.at(session, source.sha256)
    layered = _layered(session)
    for entry in session.ledger.all_of("packaged"):
        if entry.function != session.function.name:
            continue
        made = from_json(to_json(entry.body["artifact"]), Artifact)
        if made.sha256 == source.sha256 and not made.image and (made.layers or not layered):
            path = str(packaging.place(folder, session.function.name, source.sha256))
            return replace(made, path=path)
    if layered:
        raise UsageError(
            f"the ledger does not tell with which layers build {source.build} was made",
            where=f"function.{session.function.name}.layers",
            next=f"Promote with the ledger of who deployed it, or `pointsman deploy --to {session.environment.name}`.",
        )
    found = _configuration(session, source)
    return Artifact(
        function=session.function.name,
        path=str(packaging.place(folder, session.function.name, source.sha256)),
        sha256=source.sha256,
        size=found.code_size,
        unzipped=0,
        files=0,
    )


def _layered(session: Session) -> bool:
    provision = session.function.provision
    return isinstance(provision, Direct) and any(each in session.world.project.layers for each in provision.layers)


def _configuration(session: Session, source: Source) -> Configuration:
    where = _at(session, source.environment)
    found = where.gateway.function(source.arn.name, source.version)
    if found is None or found.sha256 != source.sha256:
        holds = f"holds {found.sha256.short}…, not {source.sha256.short}…" if found else "is gone"
        raise BuildFailed(
            f"{source} {holds}",
            where=f"bringing build {source.build} to {session.environment.name}",
            next="The function was deleted or made anew since: deploy the build again.",
        )
    return found


# On its way


def package(session: Session, made: Artifact, source: Source) -> Package:
    """What Lambda is given. Raises BuildFailed where no place has exactly these bytes."""
    bucket, path, key = session.environment.bucket, Path(made.path), uploads.key_of(made)
    here = path.is_file() and _holds(path, made)
    if bucket and not here and _copied(session, made, source, bucket, key):
        return Package(bucket=bucket, key=key)
    if not here:
        _fetched(session, made, source)
    if not bucket:
        if made.size > _MOST_IN_REQUEST:
            raise BuildFailed(
                f"{size(made.size)} is more than a request takes ({size(_MOST_IN_REQUEST)})",
                where=f"environment {session.environment.name}",
                next="Give it a `bucket` in its region.",
            )
        return Package(zip=path.read_bytes())
    uploads.store(session.gateway, bucket, key, path, session.say)
    return Package(bucket=bucket, key=key)


_MOST_IN_REQUEST = 50 << 20


def _holds(path: Path, made: Artifact) -> bool:
    try:
        return packaging.inspect(path, made.function).sha256 == made.sha256
    except BuildFailed:
        return False


def _copied(session: Session, made: Artifact, source: Source, bucket: str, key: str) -> bool:
    """From bucket to bucket, where these credentials may read the one and write the other; else it goes by here."""
    where = _at(session, source.environment).environment.bucket
    if not where:
        return False
    try:
        found = session.gateway.stored(where, key)
        if found is None or found.size != made.size:
            return False
        if where != bucket:
            session.gateway.copy_object(where, key, bucket, key)
            session.say(f"copied {size(made.size)} from s3://{where}/{key} to s3://{bucket}/{key}")
    except AwsError as error:
        session.say(f"s3://{where} cannot be copied from: {error.what}")
        return False
    return True


def _fetched(session: Session, made: Artifact, source: Source) -> None:
    """The zip from Lambda, where the version is, kept beside our own packages."""
    path, where = Path(made.path), f"bringing build {source.build} to {session.environment.name}"
    session.say(f"fetching {size(made.size)}: {source}")
    code = _at(session, source.environment).gateway.code(source.arn.name, str(source.version))
    if code is None:
        raise BuildFailed(f"{source} is gone", where=where, next="Deploy the build again.")
    session.world.make_home()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{session.run}.part")
    try:
        part.write_bytes(code)
        found = packaging.inspect(part, made.function).sha256
        if found != made.sha256:
            raise BuildFailed(
                f"{source} was fetched as {found.short}…, and is {made.sha256.short}…",
                where=where,
                next="Nothing was changed. Try again; deploy the build again if it stays so.",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


__all__ = ["Source", "build_meant", "find", "look", "package", "package_of", "there"]
