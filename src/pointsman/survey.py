"""What there is: status, versions, diff. Asks AWS and changes nothing there."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from pointsman import home as kept
from pointsman import owners
from pointsman import places as located
from pointsman.branches import told
from pointsman.config import Environment, Existing, Function
from pointsman.errors import NotFound, NotMade, PointsmanError, UnknownTarget
from pointsman.ledger import Entry, Ledger, Run, under_way
from pointsman.model import (
    LATEST,
    Alias,
    AliasName,
    BuildId,
    CodeSha256,
    Configuration,
    FunctionArn,
    Value,
    Version,
    plain,
)
from pointsman.standing import apart
from pointsman.world import Session, World


class AliasStatus(Value, frozen=True, kw_only=True):
    """One alias: what it serves, since when, by whom. `drift`: how it differs from the ledger, "" if it does not.

    `moving`: it does, by a run that has not ended, a sentence. `apart`: what the environment's regions serve, where
    that is not the same build, "" else.
    `environment` or `branch` says whose it is; neither where it is somebody else's.
    """

    alias: AliasName
    environment: str
    branch: str
    version: Version
    canary: str
    weight: float | None
    build: str
    commit: str
    since: float | None
    by: str
    drift: str
    moving: str = ""
    apart: str = ""


class FunctionStatus(Value, frozen=True, kw_only=True):
    """One function in one place, as far as the credentials of its environments reach.

    `deployed`: whether it is there; what is told of it is empty where it is not, or where `error` says why it could not
    be read. `environments`: those of the file that are in this place.
    """

    function: str
    name: str
    region: str
    account: str
    state: str
    update: str
    modified: str
    runtime: str
    sha256: str
    aliases: tuple[AliasStatus, ...]
    missing: tuple[str, ...]
    unfinished: str = ""
    rollouts: tuple[str, ...] = ()  # those under way, and aliases that are half-way without one, a sentence each
    environments: tuple[str, ...] = ()
    deployed: bool = True
    error: str = ""


class VersionRow(Value, frozen=True, kw_only=True):
    version: Version
    builds: tuple[str, ...]
    aliases: tuple[str, ...]
    sha256: str
    modified: str
    code_size: int
    state: str


class Difference(Value, frozen=True, kw_only=True):
    """`code` is True where the code differs; `files` names what changed, where both packages are still here.

    `images`: the digests of two container images that differ.
    """

    a: str
    b: str
    code: bool
    settings: dict[str, tuple[Any, Any]]
    files: dict[str, str] | None
    images: tuple[str, str] | None = None


def places(world: World, function: Function) -> list[tuple[Session, tuple[Environment, ...]]]:
    """One session per set of credentials and region, with the environments that share it."""
    found: dict[tuple[object, ...], list[Environment]] = defaultdict(list)
    for each in world.everywhere():
        own = each.functions.get(function.name)
        found[(each.region, each.profile, each.role_arn, each.account, own and own.stack)].append(each)
    return [(world.session(function, group[0]), tuple(group)) for group in found.values()]


def status(world: World, functions: tuple[Function, ...]) -> list[FunctionStatus]:
    """Of each function in each place; one that is not there, or cannot be read, hides none of the others.

    Raises the first error where no place can be read.
    """
    found: list[FunctionStatus] = []
    errors: list[PointsmanError] = []
    for session, group in (there for each in functions for there in places(world, each)):
        try:
            found.append(status_of(session, group))
        except PointsmanError as error:
            missing = isinstance(error, NotMade) and not _was_there(session)
            if not missing:
                errors.append(error)
            found.append(_unread(session, group, "" if missing else f"{error.what}. {error.next}".rstrip(". ")))
    if errors and len(errors) == len(found):
        raise errors[0]
    return _told_apart(found)


def _was_there(session: Session) -> bool:
    """Whether the ledger has moved an alias of it: then it was deleted since, and not merely not deployed yet."""
    try:
        name, region, account = owners.name(session), session.wire.region, _account(session)
    except NotFound:  # its stack is not there
        return False
    moved = (FunctionArn.parse(arn) for (arn, _), move in session.ledger.last_moves().items() if move.kind != "removed")
    return any(each.name == name and each.region == region and account in ("", each.account) for each in moved)


def _account(session: Session) -> str:
    """As far as it is known without asking."""
    there = session.environment
    return located.account(there) or session.wire.identity.account or (located.REHEARSED if session.world.local else "")


def _unread(session: Session, environments: tuple[Environment, ...], error: str) -> FunctionStatus:
    try:
        region = session.wire.region
    except PointsmanError:
        region = session.environment.region or ""
    return FunctionStatus(
        function=session.function.name,
        name=session.declared_name() or session.function.name,
        region=region,
        account=_account(session),
        state="",
        update="",
        modified="",
        runtime="",
        sha256="",
        aliases=(),
        missing=tuple(str(each.alias) for each in environments),
        environments=tuple(each.name for each in environments),
        deployed=False,
        error=error,
    )


def _told_apart(found: list[FunctionStatus]) -> list[FunctionStatus]:
    """With the regions of an environment that serve different builds marked."""
    builds: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for each in found:
        for row in each.aliases:
            if row.environment:
                builds[each.function, row.environment][each.region] = row.build
    told_of = {key: apart(of) for key, of in builds.items()}

    def marked(each: FunctionStatus, row: AliasStatus) -> AliasStatus:
        return msgspec.structs.replace(row, apart=told_of.get((each.function, row.environment), ""))

    return [
        msgspec.structs.replace(each, aliases=tuple(marked(each, row) for row in each.aliases))
        if each.aliases
        else each
        for each in found
    ]


def _saved(session: Session, name: str) -> str:
    """That a backup has it, where that is a folder: for this nobody is called."""
    folder = session.world.backup_folder
    if folder and any(folder.glob(f"functions/*/{session.wire.region}/{name}.json")):
        return f"; `pointsman restore {name}` brings back what the backup in {folder} has of it"
    return ""


def status_of(session: Session, environments: tuple[Environment, ...]) -> FunctionStatus:
    name = owners.name(session)
    latest = session.gateway.function(name)
    if latest is None:
        session.check_account(None)  # with the wrong credentials it is no wonder that it is not there
        what, saved = f"there is no function {name} in {session.wire.region}", _saved(session, name)
        if isinstance(session.function.provision, Existing):
            raise NotFound(what, next=f"Whoever makes it makes it there; or mend its name, or the region{saved}.")
        raise NotMade(what, next=f"`pointsman deploy --to {session.environment.name}` creates it{saved}.")
    session.check_account(latest.arn)
    aliases = session.gateway.aliases(name)
    arn = latest.arn.unqualified
    by_alias = {each.alias: each.name for each in environments}
    described = {each.alias: index for index, each in enumerate(environments)}
    rows = [_alias_status(session, arn, each, by_alias.get(each.name, "")) for each in aliases]
    rows.sort(key=lambda row: (described.get(row.alias, len(described)), row.alias))
    there = {each.name for each in aliases}
    return FunctionStatus(
        function=session.function.name,
        name=name,
        region=arn.region,
        account=arn.account,
        state=latest.state,
        update=latest.update,
        modified=latest.modified,
        runtime=latest.settings.get("Runtime", ""),
        sha256=latest.sha256,
        aliases=tuple(rows),
        missing=tuple(str(each.alias) for each in environments if each.alias not in there),
        unfinished=_unfinished(session, arn),
        rollouts=tuple(told for each in aliases if (told := rolling_told(session.ledger, arn, each))),
        environments=tuple(each.name for each in environments),
    )


def rolling_told(ledger: Ledger, arn: FunctionArn, alias: Alias, *, ours: bool = True) -> str:
    """The alias's rollout, or that it is half-way without one, in a sentence; "" where neither is so.

    `ours`: it is an alias of a function of the file, so that there is a command that puts it back.
    """
    from pointsman import rollout_record, story

    if alias.routing.canary is None and not ledger.newest("rollout", alias.name):
        return ""
    there = rollout_record.known(ledger, arn, alias.name)
    if there and there.open:
        lease = rollout_record.watcher(ledger, there)
        who = f"watched by {lease.holder}" if lease else f"nobody watches it: `pointsman rollout resume {alias.name}`"
        return f"rollout of {alias.name} to version {there.canary}: {story.state_sentence(there.rollout)} ({who})"
    if alias.routing.canary is None:
        return ""
    told = f"{alias.name} is half-way through a shift that this ledger does not know: {alias.routing}"
    back = f"`pointsman rollout abort {alias.name}` puts it back to version {alias.version}"
    return f"{told}; {back}" if ours else told


def _unfinished(session: Session, arn: FunctionArn) -> str:
    mine = {session.title, str(arn)}  # a restore's is the ARN
    run = next((each for each in session.ledger.open_runs() if mine & {*each.titles}), None)
    if run is None:
        return ""
    return unfinished_told(run)


def unfinished_told(run: Run) -> str:
    """A run that has not ended, in a sentence."""
    if run.command == "restore":
        what = f"a restore of {run.request['target'].rpartition(':')[2]} that {run.by} began (run {run.id})"
        if under_way(run):
            return f"{what} is under way"
        return f"{what} did not finish: {run.error or 'it was killed'}. `pointsman resume` goes on"
    if under_way(run):
        return f"{called(run)} is under way (run {run.id}, process {run.pid} of {run.by})"
    why = run.error or "it was killed"
    return f"{called(run)} (run {run.id}) did not finish: {why}. `pointsman resume` goes on"


def called(run: Run) -> str:
    """What a run does: "deploy to PROD"; of a place as a whole, "prune of 123456789012 eu-west-1"."""
    if run.function:
        return f"{run.command} to {run.alias}"
    place = " ".join(str(run.request[key]) for key in ("account", "region") if run.request.get(key))
    return f"{run.command} of {place}" if place else run.command


def moving(world: World, arn: FunctionArn, alias: Alias) -> str:
    """The run that has not ended and moved the alias to where it is, in a sentence; "" where there is none.

    Its call was announced in the ledger, and what came of it was not written any more.
    """
    from pointsman import interrupted  # not needed where all is as the ledger has it

    ledger = world.ledger
    for run in ledger.open_runs():
        for part in ledger.parts(run.id) if run.members else (run,):
            called = any(_moves(each, arn, alias, part) for each in ledger.of_run(part.id, "call"))
            if called and alias.version in interrupted.told(world, part).versions:
                return unfinished_told(run)
    return ""


def _moves(call: Entry, arn: FunctionArn, alias: Alias, run: Run) -> bool:
    region = call.body.get("region") or run.request.get("region") or arn.region
    place = (region, call.body.get("account") or arn.account)
    named = call.subject == f"alias {alias.name} of {arn.name}"
    return named and call.body["action"] in _ALIAS_CALLS and place == (arn.region, arn.account)


_ALIAS_CALLS = ("lambda:CreateAlias", "lambda:UpdateAlias")


def _alias_status(session: Session, arn: FunctionArn, alias: Alias, environment: str) -> AliasStatus:
    moves = session.ledger.moves(arn, alias.name)
    last = moves[-1] if moves else None
    drifted = last is not None and last.version != alias.version
    by_run = moving(session.world, arn, alias) if drifted else ""
    drift = f"the ledger's last move was to version {last.version}" if last and drifted and not by_run else ""
    known = None if drifted else last
    build = str(known.build) if known and known.build else _build_of(session, arn, alias)
    made = session.ledger.build(arn, build) if build else None
    canary = alias.routing.canary
    return AliasStatus(
        alias=alias.name,
        environment=environment,
        branch=told(alias.description, alias.name).branch,
        version=alias.version,
        canary=str(canary.version) if canary else "",
        weight=float(canary.weight) if canary else None,
        build=build,
        commit=made.commit if made else "",
        since=known.at if known else None,
        by=known.by if known else "",
        drift=drift,
        moving=by_run,
    )


def _build_of(session: Session, arn: FunctionArn, alias: Alias) -> str:
    """The build an alias's version came from: from the ledger, else as the version describes itself."""
    for name, build in session.ledger.builds(arn).items():
        if build.version == alias.version:
            return name
    if not alias.version.published:
        return ""
    found = session.gateway.function(arn.name, alias.version)
    return found.description if found and BuildId.pattern.fullmatch(found.description) else ""


def versions(world: World, function: Function, environment: Environment) -> list[VersionRow]:
    """Newest first, every page."""
    session = world.session(function, environment)
    name = owners.name(session)
    found = list(session.gateway.versions(name))
    serving: dict[str, list[str]] = defaultdict(list)
    for alias in session.gateway.aliases(name):
        serving[alias.version].append(str(alias.name))
        if alias.routing.canary:
            serving[alias.routing.canary.version].append(f"{alias.name} ({alias.routing.canary.weight})")
    builds: dict[str, list[str]] = defaultdict(list)
    if found:
        for build in session.ledger.builds(found[0].arn.unqualified).values():
            if build.version:
                builds[build.version].append(str(build.id))
    rows = [
        VersionRow(
            version=each.version,
            builds=tuple(dict.fromkeys((*builds[each.version], *([each.description] if each.description else [])))),
            aliases=tuple(serving[each.version]),
            sha256=each.sha256,
            modified=each.modified,
            code_size=each.code_size,
            state=each.state,
        )
        for each in found
    ]
    return sorted(rows, key=lambda row: row.version, reverse=True)


def compared(world: World, to: str | None, a: str, b: str) -> tuple[Environment, Environment]:
    """(where builds and versions are looked for, the environment whose regions a diff goes over)."""
    named = [found for each in (a, b) if (found := _environment_of(world, each))]
    home = named[0] if to is None and len(named) == 2 else world.environment(to)
    return home, max((home, *named), key=lambda each: len(located.each(each)))


def _environment_of(world: World, text: str) -> Environment | None:
    """That which an environment, or the alias of one, is named by; None for builds, versions and other aliases."""
    kind, _, rest = text.rpartition(":")
    environments = world.project.environments.values()
    found = next((each for each in environments if kind in ("", "alias") and rest in (each.name, each.alias)), None)
    region = world.options.region
    return located.in_region(found, region) if found and region in found.regions else found


def diff(
    world: World, function: Function, environment: Environment, a: str, b: str, *, near: str | None = None
) -> Difference:
    """Two builds, versions or aliases side by side: settings always, files where both packages are still here.

    An alias of another environment is looked at where that one is; of several regions in `near`, if it is there.
    """

    def side(text: str) -> Configuration:
        where = located.each(_environment_of(world, text) or environment)
        place = next((each for each in where if each.region == near), where[0])
        session = world.session(function, place)
        return _configuration(session, owners.name(session), text)

    one, other = side(a), side(b)
    settings = {
        key: (one.settings.get(key), other.settings.get(key))
        for key in sorted({*one.settings, *other.settings})
        if one.settings.get(key) != other.settings.get(key)
    }
    code = one.sha256 != other.sha256
    return Difference(
        a=_title(a, one),
        b=_title(b, other),
        code=code,
        settings=settings,
        files=_files(world, one, other) if code else {},
        images=(one.sha256, other.sha256) if code and one.sha256.image and other.sha256.image else None,
    )


def _configuration(session: Session, name: str, text: str) -> Configuration:
    if text == LATEST:
        found = session.gateway.function(name)
    else:
        latest = session.gateway.function(name)
        if latest is None:
            session.check_account(None)
            where = session.environment
            raise NotFound(
                f"there is no function {name} in {session.wire.region}",
                where=f"environment {where.name}",
                next=f"`pointsman deploy --to {where.name}` creates it.",
            )
        arn = latest.arn.unqualified
        from pointsman.observe import resolve  # not needed for `status`, which must start fast

        version, _build = resolve(session, arn, text)
        found = session.gateway.function(name, version)
    if found is None:
        raise UnknownTarget(f"{text} of {name} is not there", next="`pointsman versions` lists what there is.")
    return found


def _title(asked: str, found: Configuration) -> str:
    return asked if asked in (found.version, LATEST) else f"{asked} (version {found.version})"


def _files(world: World, one: Configuration, other: Configuration) -> dict[str, str] | None:
    """{path: "added" | "removed" | "changed"}, or None where a package is no longer in this checkout."""
    import zipfile

    folder = world.project.root / kept.NAME / "artifacts"
    contents = []
    for each in (one, other):
        path = _artifact(folder, each.sha256)
        if path is None:
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                contents.append({info.filename: info.CRC for info in archive.infolist()})
        except (OSError, zipfile.BadZipFile):
            return None
    before, after = contents
    changed: dict[str, str] = {}
    for name in sorted({*before, *after}):
        if name not in before:
            changed[name] = "added"
        elif name not in after:
            changed[name] = "removed"
        elif before[name] != after[name]:
            changed[name] = "changed"
    return changed


def _artifact(folder: Path, sha256: str) -> Path | None:
    digest = CodeSha256(sha256).hex[:16]
    return next(iter(folder.glob(f"*-{digest}.zip")), None)


__all__ = [
    "Difference",
    "FunctionStatus",
    "VersionRow",
    "called",
    "diff",
    "plain",
    "status",
    "versions",
]
