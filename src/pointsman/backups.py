"""Keeping functions beside Lambda: what is new is fetched and put into a store; what is there is verified, and listed.

A document is written when all that it names is in the store: so what a killed run leaves behind is whole, and the next
one fetches only what is missing.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from pointsman import owners
from pointsman.aws.backups import Code, fetch
from pointsman.aws.gateway import configuration
from pointsman.aws.identity import partition
from pointsman.config import Environment
from pointsman.errors import (
    AccessDenied,
    AccountMismatch,
    BackupFailed,
    Interrupted,
    NotFound,
    PointsmanError,
    Unreachable,
    UsageError,
)
from pointsman.fleet import Fleet
from pointsman.model import (
    LATEST,
    Alias,
    Artifact,
    CodeSha256,
    Configuration,
    EventSource,
    FunctionArn,
    FunctionName,
    Value,
    Version,
    counted,
    few,
    from_json,
    size,
    to_json,
)
from pointsman.reinstating import (
    SCHEMA,
    Document,
    KeptLayer,
    Restoring,
    SavedAlias,
    SavedLayer,
    SavedPolicy,
    SavedSource,
    SavedVersion,
    another,
    joined,
    made_anew,
    name_of,
    saved,
    stamp,
    vanished,
)
from pointsman.vault import LARGEST, Changed, Vault, must_be, sha256_of
from pointsman.vault.folder import Folder
from pointsman.world import Door, Session, World

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
T = TypeVar("T")
AT_ONCE = 8
_S3 = "s3://"


class Saved(Value, frozen=True, kw_only=True):
    """One function: versions in its document, those new in it, those that Lambda has no more.

    `earlier`: what it had at the last backup and has no more, and how that comes back.
    """

    function: str
    arn: FunctionArn
    versions: int
    new: int
    gone: int
    notes: tuple[str, ...] = ()
    earlier: str = ""


class Problem(Value, frozen=True, kw_only=True):
    """`absent`: there is no such function in that place."""

    function: str
    what: str
    next: str = ""
    absent: bool = False


class Report(Value, frozen=True, kw_only=True):
    """`fetched` packages are new in the store, `bytes` of them; `known` were there."""

    place: str
    functions: tuple[Saved, ...]
    fetched: int
    bytes: int
    known: int
    problems: tuple[Problem, ...] = ()

    def and_also(self, other: Report) -> Report:
        """Of two regions, in the same place."""
        return Report(
            place=self.place,
            functions=(*self.functions, *other.functions),
            fetched=self.fetched + other.fetched,
            bytes=self.bytes + other.bytes,
            known=self.known + other.known,
            problems=(*self.problems, *other.problems),
        )


class Kept(Value, frozen=True, kw_only=True):
    """A function in a store. `bytes` of the packages that it names; `state`, `earlier`: how its states are called."""

    name: str
    arn: FunctionArn
    at: float
    state: str
    earlier: tuple[str, ...]
    versions: int
    gone: int
    aliases: tuple[str, ...]
    bytes: int
    notes: tuple[str, ...] = ()


class Verified(Value, frozen=True, kw_only=True):
    """`damage`: what is missing or not what it was, a sentence each."""

    place: str
    documents: int
    packages: int
    bytes: int
    damage: tuple[str, ...] = ()


# The store


def place(world: World, to: str | None, option: str = "--to") -> str:
    """Where the backup is: as said (by `option`), or as the file says. A rehearsal's is its own.

    Raises UsageError for nowhere, and for an environment that somebody took for a place.
    """
    if to:
        named_ = {name for each in world.project.environments.values() for name in (each.name, str(each.alias))}
        if to in named_ and not Path(to).exists():
            raise UsageError(
                f"{to} is an environment, and no folder",
                where=option,
                next=f"Its account and region: `--env {to}`. A folder that is called so: `{option} ./{to}`.",
            )
        return to if to.startswith(_S3) else str(Path(to).expanduser().absolute())
    said = world.project.backup.to
    if said is None:
        raise UsageError(
            "nobody says where the backup is", next=f'Give {option} PLACE, or put `to = "…"` into [backup] of the file.'
        )
    return str(world.backup_folder or said)


def opened(
    world: World, environment: Environment, to: str | None = None, run: str = "", *, option: str = "--to"
) -> Vault:
    """The store. Without a run it is only looked at. `option`: by which `to` is said."""
    where = place(world, to, option)
    if not where.startswith(_S3):
        return Vault(Folder(world.project.root / Path(where).expanduser()))
    from pointsman.vault.bucket import Bucket

    kept = world.project.backup
    bucket, _, prefix = where.removeprefix(_S3).partition("/")
    if not bucket:
        raise UsageError(f"{where} names no bucket", next="s3://BUCKET/PREFIX")
    whose = replace(
        environment,
        account=None,
        region=kept.region or environment.region,
        profile=kept.profile or environment.profile,
        role_arn=kept.role_arn or (None if kept.profile else environment.role_arn),
    )
    door = world.door(whose, run)
    sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kept.kms_key} if kept.kms_key else {}
    found = Bucket(door.gateway, bucket, prefix, sealed=sealed, say=lambda _line: None)
    if world.staged and run:
        try:
            next(found.items(""), None)
        except NotFound:
            door.gateway.create_bucket(bucket, door.wire.region)
            world.show(f"rehearsal: made bucket {bucket}")
    return Vault(found)


def document(vault: Vault, name: str) -> tuple[Document, str] | None:
    """A function's document, and its mark. Raises BackupFailed for one that is none."""
    return _read(vault, name, Document)


def begun(vault: Vault, target: FunctionArn) -> tuple[Restoring, str] | None:
    """The last restore of this function."""
    return _read(vault, name_of(target, "restores"), Restoring)


def _read(vault: Vault, name: str, kind: type[T]) -> tuple[T, str] | None:
    found = vault.read(name)
    if found is None:
        return None
    where = f"{vault.place}/{name}"
    try:
        schema = from_json(found[0], _Schema).schema
        if schema != SCHEMA:
            newer = f"it is of schema {schema}, and this Pointsman reads {SCHEMA}"
            raise BackupFailed(newer, where=where, next="Use a newer Pointsman.")
        return from_json(found[0], kind), found[1]
    except ValueError as error:
        next_ = "Move it away: `pointsman backup` begins a new one."
        raise BackupFailed(f"it is damaged: {error}", where=where, next=next_) from error


class _Schema(Value, frozen=True, kw_only=True):
    schema: int


def documents(vault: Vault) -> Iterator[str]:
    return (each.name for each in vault.items("functions") if each.name.endswith(".json"))


def of_function(vault: Vault, name: str) -> list[Document]:
    """A function's document, and those that were set aside when another took its place, the newest first."""
    there = re.compile(re.escape(name.removesuffix(".json")) + r"\.\d{8}T\d{6}\.json")
    aside = [each.name for each in vault.items(name.rpartition("/")[0]) if there.fullmatch(each.name)]
    found = [document(vault, each) for each in (name, *sorted(aside, reverse=True))]
    return [each[0] for each in found if each]


# What is meant


def named(world: World, environment: Environment, given: Sequence[str]) -> list[FunctionName]:
    """Functions of the file by their tables, others by their names on Lambda; without any all of the file."""
    names = []
    for each in given or tuple(world.project.functions):
        if each in world.project.functions:
            names.append(owners.name(world.session(world.functions(each)[0], environment)))
        elif FunctionName.pattern.fullmatch(each):
            names.append(FunctionName(each))
        else:
            raise UsageError(f"{each!r} is neither a function of {world.project.file.name} nor {FunctionName.rule}")
    return list(dict.fromkeys(names))


def must_be_account(environment: Environment, account: str) -> None:
    if environment.account not in (None, account):
        raise AccountMismatch(
            f"the credentials belong to account {account}, but {environment.name} is in account {environment.account}",
            where=f"environment {environment.name}",
            next="Nothing was changed. Use the right profile, role or credentials.",
        )


# Saving


def backup(
    world: World,
    environment: Environment,
    names: Sequence[FunctionName] | None,
    *,
    to: str | None = None,
    only: Collection[str] = (),
    again: bool = False,
) -> Report:
    """These functions, or all of the account and region (None). `only`: of their versions these, by number or alias.

    `again`: look at the policies of all versions once more. What failed of single functions is in the report.
    """
    run = world.run_id()
    door = world.door(environment, run)
    vault = opened(world, environment, to, run)
    work = _Work(world, door, vault, world.say, again=again)
    listed, problems = _listed(door, names)
    for each in listed.values():
        must_be_account(environment, each[0].arn.account)
    chosen = {name: _only(door, each, only) for name, each in listed.items()}
    report = work.save(listed, chosen)
    return _told(world, run, replace(report, problems=(*problems, *report.problems)))


def save(
    world: World,
    door: Door,
    versions: Iterable[Configuration],
    say: Callable[[str], None],
    *,
    fleet: Fleet | None = None,
    packages: Mapping[CodeSha256, Path] | None = None,
) -> Report:
    """Keep these versions, each with what its function is now, before they are deleted or after they are published.

    `fleet`: what was listed of their functions, where it was: it is not listed again. `packages`: zips that are in our
    hands. Raises BackupFailed where a single one could not be kept, and whatever the store says.
    """
    chosen: dict[FunctionName, list[Configuration]] = {}
    for each in versions:
        chosen.setdefault(each.arn.name, []).append(each)
    run = world.run_id()
    work = _Work(world, door, opened(world, door.environment, None, run), say, packages=packages or {})
    known = {each.name: [each.latest, *each.versions] for each in fleet.members} if fleet else {}
    listed, problems = _listed(door, [name for name in chosen if name not in known])
    listed |= {name: known[name] for name in chosen if name in known}
    report = work.save(listed, {name: chosen[name] for name in listed})
    report = _told(world, run, replace(report, problems=(*problems, *report.problems)))
    for one in report.functions:
        if one.earlier:
            world.show(f"{one.function}: {one.earlier}")
    if report.problems:
        first = report.problems[0]
        more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
        raise BackupFailed(f"{first.what}{more}", where=f"backing up {first.function}", next=first.next)
    return report


def save_layers(
    world: World, door: Door, layers: Iterable[tuple[str, int]], say: Callable[[str], None]
) -> dict[tuple[str, int], str]:
    """Keep the content of these layer versions (name, number), before they are deleted. Of those that could not be

    kept why. A document of each is in `layers/`, as that of a function has it.
    """
    vault = opened(world, door.environment, None, world.run_id())
    known = vault.packages()
    account, region = door.gateway.caller_account(), door.wire.region
    failed = {}
    with _scratch() as scratch:
        for name, number in layers:
            arn = f"arn:{partition(region)}:lambda:{region}:{account}:layer:{name}:{number}"
            at = f"layers/{account}/{region}/{name}/{number}.json"
            try:
                found = _kept_layer(door, vault, arn, known, scratch)
                if found.problem:
                    failed[name, number] = found.problem
                    continue
                there = vault.read(at)
                with suppress(Changed):  # another prune was faster: a layer version never changes
                    kept = KeptLayer(at=world.clock.now(), by=world.actor.by, layer=found)
                    vault.replace(at, to_json(kept), there[1] if there else None)
            except Interrupted:
                raise
            except PointsmanError as error:
                failed[name, number] = error.what
            else:
                say(f"backed up layer {name}:{number} in {vault.place}")
    return failed


def published(session: Session, arn: FunctionArn, version: Version, package: Artifact | None) -> str:
    """Keep what a deploy has published. Why that could not be done; "" where it is.

    `package` is in our hands, and is not fetched. The deploy goes on either way: what is served does not depend on a
    backup. One that was not kept is tried again with the next deploy of it.
    """
    world, subject = session.world, f"{arn.unqualified}:{version}"
    if session.ledger.newest("kept", subject):
        return ""
    try:
        found = session.gateway.function(arn.name, version)
        if found is None:
            raise NotFound(f"version {version} is gone")
        packages = {package.sha256: Path(package.path)} if package and package.path else {}
        door = world.door(session.environment, session.run, session.function.name)
        report = save(world, door, [found], session.say, packages=packages)
    except Interrupted:
        raise
    except (PointsmanError, OSError) as error:  # a package that is gone from here, a full disk
        what = error.what if isinstance(error, PointsmanError) else f"{error.filename}: {error.strerror}"
        return f"version {version} of {arn.name} is not backed up: {what}"
    session.ledger.append(session.run, "kept", function=session.function.name, subject=subject, place=report.place)
    session.say(f"backed up version {version} of {arn.name} in {report.place}")
    return ""


def _listed(
    door: Door, names: Iterable[FunctionName] | None
) -> tuple[dict[FunctionName, list[Configuration]], list[Problem]]:
    found: dict[FunctionName, list[Configuration]] = {}
    problems: list[Problem] = []
    if names is None:
        every: dict[FunctionName, dict[Version, Configuration]] = {}
        for each in door.gateway.everything():  # a page that is read while versions come may repeat one
            every.setdefault(each.arn.name, {})[each.version] = each
        # What has no $LATEST was deleted while it was listed.
        return {name: [*them.values()] for name, them in every.items() if LATEST in them}, problems
    for name in names:
        try:
            found[name] = door.gateway.listing(name, configuration)
        except NotFound:
            what = f"there is no such function in {door.wire.region}"
            problems.append(Problem(function=name, what=what, absent=True))
        except AccessDenied as error:
            problems.append(Problem(function=name, what=error.what, next=error.next))
    return found, problems


def _only(door: Door, listed: list[Configuration], only: Collection[str]) -> list[Configuration]:
    """Of one function's versions those that are meant. Raises UsageError for one that there is not."""
    there = {str(each.version): each for each in listed if each.version.published}
    if not only:
        return [*there.values()]
    name = listed[0].arn.name
    meant: dict[str, Configuration] = {}
    for each in only:
        numbers = [each]
        if not each.isdecimal():
            alias = door.gateway.alias(name, each)
            numbers = _served(alias) if alias else []
        if not numbers or any(number not in there for number in numbers):
            raise UsageError(f"{name} has no version or alias {each}", next="`pointsman versions` lists them.")
        meant |= {number: there[number] for number in numbers}
    return [*meant.values()]


def _served(alias: Alias) -> list[str]:
    canary = alias.routing.canary
    return [str(alias.version), *([str(canary.version)] if canary else [])]


def _told(world: World, run: str, report: Report) -> Report:
    for each in report.functions:
        world.ledger.append(
            run, "backed up", function=str(each.arn), subject=str(each.arn), place=report.place, versions=each.versions,
            new=each.new,
        )  # fmt: skip
    return report


@dataclass
class _Look:
    """What one function is now, beside its versions."""

    code: Code
    aliases: tuple[Alias, ...]
    urls: dict[str, dict[str, object]]
    events: dict[str, dict[str, object]]
    provisioned: dict[str, int]
    policies: dict[str, SavedPolicy] = field(default_factory=dict)


@dataclass
class _Work:
    world: World
    door: Door
    vault: Vault
    say: Callable[[str], None]
    again: bool = False
    packages: Mapping[CodeSha256, Path] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # layers whose content could not be had

    def save(
        self,
        listed: Mapping[FunctionName, list[Configuration]],
        chosen: Mapping[FunctionName, Sequence[Configuration]],
    ) -> Report:
        if not listed:
            return Report(place=self.vault.place, functions=(), fetched=0, bytes=0, known=0)
        failed: dict[FunctionName, PointsmanError] = {}
        latest = {name: next(each for each in all_ if each.version == LATEST) for name, all_ in listed.items()}
        wanted = {name: [*chosen.get(name, ()), latest[name]] for name in listed}
        before = self._each(
            "documents", [*listed], lambda name: document(self.vault, name_of(latest[name].arn)), failed, quiet=True
        )
        damaged = {*failed}  # of these the file is what is to be named
        known = self.vault.packages()
        there = len(known)
        with _scratch() as scratch:
            layers = self._layers(wanted, before, known, scratch)
            got, lost, weight = self._fetch(wanted, known, scratch)
        sources = self._sources()
        images = self._images(wanted, before, failed)
        looks = self._each("functions", [name for name in listed if name not in failed], self._look, failed)
        self._policies(wanted, before, looks, failed)
        done = []
        for name, look in looks.items():
            if name in failed:
                continue
            try:
                if latest[name].sha256 in lost:
                    raise lost[latest[name].sha256]
                done.append(
                    self._write(
                        listed=listed[name],
                        wanted=wanted[name],
                        look=look,
                        layers=layers,
                        sources=sources.get(name, ()),
                        images=images,
                        lost=lost,
                    )
                )
            except PointsmanError as error:
                failed[name] = error
        problems = [
            Problem(
                function=name, what=f"{error.where}: {error.what}" if name in damaged else error.what, next=error.next
            )
            for name, error in failed.items()
        ]
        problems += [
            Problem(function=each.arn.name, what=f"version {each.version}: {lost[each.sha256].what}")
            for name in wanted
            if name not in failed
            for each in wanted[name]
            if each.sha256 in lost
        ]
        problems += [
            Problem(function=next(name for name in wanted if arn in _refs(wanted[name])), what=f"layer {arn}: {why}")
            for arn, why in self.refused.items()
        ]
        return Report(
            place=self.vault.place,
            functions=tuple(done),
            fetched=got,
            bytes=weight,
            known=there,
            problems=tuple(problems),
        )

    # Packages

    def _fetch(
        self, wanted: Mapping[FunctionName, Sequence[Configuration]], known: dict[str, int], scratch: Path
    ) -> tuple[int, dict[CodeSha256, PointsmanError], int]:
        """Each package once, whoever has it. (how many, those that could not be had, bytes)"""
        from_: dict[CodeSha256, Configuration] = {}
        for versions in wanted.values():
            for each in versions:  # $LATEST, which may be changed while it is fetched, comes last
                if not each.sha256.image and known.get(each.sha256.hex) != each.code_size:
                    from_.setdefault(each.sha256, each)
        meter = _Meter(self, "packages", len(from_), sum(each.code_size for each in from_.values()))
        lost: dict[CodeSha256, PointsmanError] = {}

        def one(sha256: CodeSha256) -> None:
            version = from_[sha256]
            if sha256 in self.packages:
                self.vault.put_package(sha256, self.packages[sha256])
            else:
                keep_code(self.door, self.vault, version, scratch / sha256.hex)
            meter.tick(version.code_size)

        self._each("packages", [*from_], one, lost, quiet=True)
        kept = [each for sha256, each in from_.items() if sha256 not in lost]
        known |= {each.sha256.hex: each.code_size for each in kept}
        return len(kept), lost, sum(each.code_size for each in kept)

    def _layers(
        self,
        wanted: Mapping[FunctionName, Sequence[Configuration]],
        before: Mapping[FunctionName, tuple[Document, str] | None],
        known: dict[str, int],
        scratch: Path,
    ) -> dict[str, SavedLayer]:
        found = {
            each.arn: each
            for there in before.values()
            if there
            for each in there[0].layers
            if each.sha256 and each.sha256.hex in known
        }
        refs = dict.fromkeys(arn for versions in wanted.values() for arn in _refs(versions) if arn not in found)

        def one(arn: str) -> SavedLayer:
            return _kept_layer(self.door, self.vault, arn, known, scratch)

        failed: dict[str, PointsmanError] = {}
        found |= self._each("layers", [*refs], one, failed)
        for arn, error in failed.items():
            found[arn] = SavedLayer(arn=arn, problem=error.what)
            self.refused[arn] = error.what
        return found

    def _images(
        self,
        wanted: Mapping[FunctionName, Sequence[Configuration]],
        before: Mapping[FunctionName, tuple[Document, str] | None],
        failed: dict[FunctionName, PointsmanError],
    ) -> dict[CodeSha256, str]:
        """Of each image where it lies in ECR, which only GetFunction tells."""
        found = {
            each.sha256: each.image for there in before.values() if there for each in there[0].everything if each.image
        }
        asked = {
            each.sha256: each
            for name, versions in wanted.items()
            if name not in failed
            for each in reversed(versions)
            if each.sha256.image and each.sha256 not in found
        }

        def one(sha256: CodeSha256) -> str:
            each = asked[sha256]
            return self.door.gateway.code_of(each.arn.name, each.version if each.version.published else None).image

        unread: dict[CodeSha256, PointsmanError] = {}
        found |= self._each("images", [*asked], one, unread)
        for name, versions in wanted.items():  # several functions may run one image
            for each in versions:
                if each.sha256 in unread:
                    failed.setdefault(name, unread[each.sha256])
        return found

    # What a function is beside its code

    def _look(self, name: FunctionName) -> _Look:
        gateway = self.door.gateway
        return _Look(
            code=gateway.code_of(name),
            aliases=gateway.aliases(name),
            urls=gateway.url_settings(name),
            events=gateway.event_settings(name),
            provisioned={qualifier: each.number for qualifier, each in gateway.kept_ready_of_all(name).items()},
        )

    def _policies(
        self,
        wanted: Mapping[FunctionName, Sequence[Configuration]],
        before: Mapping[FunctionName, tuple[Document, str] | None],
        looks: Mapping[FunctionName, _Look],
        failed: dict[FunctionName, PointsmanError],
    ) -> None:
        """The function's, its aliases'; and of versions those that are new or had one: each costs a call."""
        asked: list[tuple[FunctionName, str]] = []
        for name, look in looks.items():
            there = before.get(name)
            old = there[0] if there else None
            seen = {each.version for each in old.versions} if old else set()
            had = {*old.policies} if old else set()
            asked += [(name, qualifier) for qualifier in ("", *(each.name for each in look.aliases))]
            asked += [
                (name, each.version)
                for each in wanted[name]
                if each.version.published and (self.again or each.version not in seen or each.version in had)
            ]
        unread: dict[tuple[FunctionName, str], PointsmanError] = {}
        found = self._each("policies", asked, lambda one: self.door.gateway.whole_policy(*one), unread)
        for (name, _), error in unread.items():
            failed.setdefault(name, error)
        for (name, qualifier), policy in found.items():
            if policy:
                looks[name].policies[qualifier] = SavedPolicy(permissions=policy[0], text=policy[1])

    def _sources(self) -> dict[FunctionName, list[tuple[str, EventSource]]]:
        """One listing for all functions, which is one call for a hundred mappings."""
        found: dict[FunctionName, list[tuple[str, EventSource]]] = {}
        for arn, each in self.door.gateway.all_event_sources():
            found.setdefault(arn.name, []).append((arn.qualifier or "", each))
        return found

    # The document

    def _write(
        self,
        *,
        listed: Sequence[Configuration],
        wanted: Sequence[Configuration],
        look: _Look,
        layers: Mapping[str, SavedLayer],
        sources: Iterable[tuple[str, EventSource]],
        images: Mapping[CodeSha256, str],
        lost: Collection[CodeSha256],
    ) -> Saved:
        kept = [saved(each, images.get(each.sha256, "")) for each in wanted if each.sha256 not in lost]
        latest = kept[-1]
        arn = listed[0].arn.unqualified
        now = Document(
            arn=arn,
            at=self.world.clock.now(),
            by=self.world.actor.by,
            latest=latest,
            versions=tuple(sorted(kept[:-1], key=lambda each: each.version)),
            aliases=tuple(
                SavedAlias(name=each.name, routing=each.routing, description=each.description) for each in look.aliases
            ),
            policies=look.policies,
            urls=look.urls,
            events=look.events,
            sources=tuple(SavedSource(qualifier=qualifier, mapping=each) for qualifier, each in sources),
            tags=look.code.tags,
            reserved=look.code.reserved,
            provisioned=look.provisioned,
            layers=tuple(layers[ref] for ref in sorted(_refs(wanted))),
            notes=tuple(_notes(kept, [layers[ref] for ref in _refs(wanted)])),
        )
        there = [each.version for each in listed]
        name = name_of(arn)
        for _ in range(10):
            found = document(self.vault, name)
            before = found[0] if found else None
            told = _earlier(before, now, there) if before else ""
            try:
                if before and another(before, listed):
                    told = self._set_aside(name, before)
                    before = None
                whole = joined(before, now, there)
                self.vault.replace(name, to_json(whole), found[1] if found else None)
            except Changed:
                continue  # another backup was faster: what it wrote is joined, too
            new = len({each.version for each in whole.versions} - {each.version for each in before.versions} if before
                      else whole.versions)  # fmt: skip
            return Saved(
                function=arn.name,
                arn=arn,
                versions=len(whole.versions),
                new=new,
                gone=len(whole.gone),
                notes=whole.notes,
                earlier=told,
            )
        raise BackupFailed(f"others keep writing {name}", where=self.vault.place, next="Try again.")

    def _set_aside(self, name: str, before: Document) -> str:
        """A function that took another's place begins a document of its own; the old one's versions are kept."""
        aside = f"{name.removesuffix('.json')}.{before.stamp}.json"
        there = self.vault.read(aside)
        self.vault.replace(aside, to_json(before), there[1] if there else None)
        return f"it is another function than the one saved; that one is kept as {aside} ({_back(before)})"

    def _each(
        self,
        what: str,
        items: Sequence[I],
        do: Callable[[I], R],
        failed: dict[I, PointsmanError],
        *,
        quiet: bool = False,
    ) -> dict[I, R]:
        """Several at once. What fails is told in `failed`, and the others go on."""
        meter = None if quiet else _Meter(self, what, len(items))
        done: dict[I, R] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = {pool.submit(do, each): each for each in items}
            try:
                for future in as_completed(futures):
                    try:
                        done[futures[future]] = future.result()
                    except PointsmanError as error:
                        failed[futures[future]] = error
                    if meter:
                        meter.tick(0)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # those under way end first, and are whole
                raise
        return {each: done[each] for each in items if each in done}


def _earlier(before: Document, now: Document, there: Collection[Version]) -> str:
    """That it was otherwise at the last backup, said once: when that state is kept."""
    if gone := vanished(before, now):
        what = f"since the last backup {few(gone)} went"
    elif made_anew(before, there):
        what = "it was made anew since the last backup"
    else:
        return ""
    return f"{what}; how it was is kept as {before.stamp} ({_back(before)})"


def _back(before: Document) -> str:
    return f"`pointsman restore {before.arn.name} --as-of {before.stamp}`"


def _kept_layer(door: Door, vault: Vault, arn: str, known: dict[str, int], scratch: Path) -> SavedLayer:
    """A layer version, its content in the store. `known`: what is there, by digest; it is added to."""
    asked = door.gateway.layer_content(arn)
    if asked is None:
        return SavedLayer(arn=arn, problem="it is deleted; functions keep it, and nobody else can have it")
    told = asked[0]
    sha256 = CodeSha256(told.sha256)
    if known.get(sha256.hex) != told.size:

        def anew() -> str:
            again = door.gateway.layer_content(arn)
            return again[1] if again else ""

        part = scratch / f"{threading.get_ident()}.layer"
        _keep(vault, _Wanted(f"layer {arn}", sha256, told.size), part, anew)
        known[sha256.hex] = told.size
    return SavedLayer(
        arn=arn,
        sha256=sha256,
        size=told.size,
        description=told.description,
        runtimes=told.runtimes,
        architectures=told.architectures,
    )


def keep_code(door: Door, vault: Vault, version: Configuration, part: Path) -> None:
    """Fetch the code of a version and put it into the store. `part`: a file to have it in meanwhile."""
    name, qualifier = version.arn.name, version.version if version.version.published else None
    wanted = _Wanted(f"the code of {name}:{version.version}", version.sha256, version.code_size, qualifier is None)
    _keep(vault, wanted, part, lambda: door.gateway.code_of(name, qualifier).location)


class _Wanted(NamedTuple):
    what: str
    sha256: CodeSha256
    size: int
    moves: bool = False  # it may be changed while it is fetched, as `$LATEST`


def _fetched(what: str, most: int, part: Path, address: Callable[[], str]) -> bytes:
    """An address is good for ten minutes, a connection may break: each of three attempts asks anew."""
    for _ in range(2):
        try:
            return fetch(address(), what, part, most or LARGEST)
        except Unreachable:
            pass
    return fetch(address(), what, part, most or LARGEST)


def _keep(vault: Vault, wanted: _Wanted, part: Path, address: Callable[[], str]) -> None:
    try:
        digest = _fetched(wanted.what, wanted.size, part, address)
        if wanted.moves and sha256_of(digest) != wanted.sha256:
            raise BackupFailed(f"{wanted.what} was changed while it was saved", next="Back it up again.")
        must_be(wanted.sha256, digest, wanted.what)
        vault.put_package(wanted.sha256, part)
    finally:
        part.unlink(missing_ok=True)


class _Meter:
    """How far it is and how long it will take, said every second at most, and at the end."""

    def __init__(self, work: _Work, what: str, items: int, weight: int = 0) -> None:
        self.work, self.what, self.items, self.weight = work, what, items, weight
        self.done = self.bytes = 0
        self.began = self.said = work.world.clock.now()
        self.lock = threading.Lock()

    def tick(self, weight: int) -> None:
        with self.lock:
            self.done += 1
            self.bytes += weight
            now = self.work.world.clock.now()
            if self.items < 2 or (now - self.said < 1 and self.done < self.items):
                return
            self.said = now
            passed = now - self.began
            share = self.bytes / self.weight if self.weight else self.done / self.items
            left = f", about {_duration(passed / share - passed)} left" if 0 < share < 1 and passed > 1 else ""
            of = f", {size(self.bytes)} of {size(self.weight)}" if self.weight else ""
            self.work.say(f"{self.done} of {self.items} {self.what}{of}{left}")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"


def _refs(versions: Iterable[Configuration]) -> list[str]:
    return list(dict.fromkeys(arn for each in versions for arn in each.settings.get("Layers", ())))


def _notes(kept: Sequence[SavedVersion], layers: Iterable[SavedLayer]) -> Iterator[str]:
    if images := [str(each.version) for each in kept if each.sha256.image]:
        yield (
            f"{counted(len(images), 'version')} (with $LATEST) are container images: their digests are recorded, the "
            "images themselves stay in ECR and must be kept there"
        )
    if hidden := [each for each in kept if each.hidden]:
        where = ", ".join(str(each.version) for each in hidden[:5])
        yield f"AWS did not show the environment variables of {where}: {hidden[0].hidden}"
    for each in layers:
        if each.problem:
            yield f"the content of layer {each.arn} is not saved: {each.problem}"


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for its owner alone, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pointsman-backup-") as folder:
        yield Path(folder)


# Looking at a store


def listing(world: World, environment: Environment, from_: str | None) -> tuple[str, list[Kept], tuple[str, ...]]:
    """(the place, what is in it, by account, region and name; what cannot be read, a sentence each)."""
    vault = opened(world, environment, from_, option="--from")
    rows = []
    damage = []
    for name in documents(vault):
        try:
            found = document(vault, name)
        except BackupFailed as error:
            damage.append(f"{error.where}: {error.what}. {error.next}")
            continue
        if found is None:
            continue
        each = found[0]
        rows.append(
            Kept(
                name=name,
                arn=each.arn,
                at=each.at,
                state=each.stamp,
                earlier=tuple(stamp(one.at) for one in each.earlier),
                versions=len(each.versions),
                gone=len(each.gone),
                aliases=tuple(f"{alias.name} → {alias.routing.version}" for alias in each.aliases),
                bytes=sum(each.digests.values()),
                notes=each.notes,
            )
        )
    return vault.place, rows, tuple(damage)


def verify(world: World, environment: Environment, from_: str | None) -> Verified:
    """Every document read, every package hashed again."""
    vault = opened(world, environment, from_, option="--from")
    damage: list[str] = []
    needed: dict[CodeSha256, list[str]] = {}
    count = 0
    for name in documents(vault):
        count += 1
        try:
            found = document(vault, name)
        except BackupFailed as error:
            damage.append(str(error).partition("\n")[0])
            continue
        if found is None:
            continue
        if not name.startswith(name_of(found[0].arn).removesuffix("json")):
            damage.append(f"{vault.place}/{name}: it is the document of {found[0].arn}")
        for each in found[0].everything:
            if not each.sha256.image:
                needed.setdefault(each.sha256, []).append(f"{found[0].arn.name}:{each.version}")
        for layer in found[0].layers:
            if layer.sha256:
                needed.setdefault(layer.sha256, []).append(layer.arn)
    there = vault.packages()
    for name in (each.name for each in vault.items("layers")):
        count += 1
        try:
            kept = _read(vault, name, KeptLayer)
        except BackupFailed as error:
            damage.append(str(error).partition("\n")[0])
            continue
        if kept and kept[0].layer.sha256:
            needed.setdefault(kept[0].layer.sha256, []).append(kept[0].layer.arn)
    if not count and not there:
        raise BackupFailed(f"there is no backup in {vault.place}", next="`pointsman backup` makes one.")
    damage += [_missing(vault, sha256, who) for sha256, who in needed.items() if sha256.hex not in there]
    by_digest = {each.hex: each for each in needed}
    work = _Work(world, world.door(environment), vault, world.say)
    failed: dict[str, PointsmanError] = {}
    meter = _Meter(work, "packages", len(there), sum(there.values()))
    with _scratch() as scratch:

        def one(digest: str) -> str:
            sha256 = by_digest.get(digest) or sha256_of(bytes.fromhex(digest))
            found = vault.damage(sha256, scratch / digest)
            meter.tick(there[digest])
            who = needed.get(sha256, [])
            return f"{found} (it is the code of {_some(who)})" if found and who else found

        checked = work._each("packages", sorted(there), one, failed, quiet=True)
    damage += [each for each in checked.values() if each]
    damage += [f"{digest}: {error.what}" for digest, error in failed.items()]
    return Verified(
        place=vault.place,
        documents=count,
        packages=len(there),
        bytes=sum(there.values()),
        damage=tuple(damage),
    )


def _missing(vault: Vault, sha256: CodeSha256, who: Sequence[str]) -> str:
    return f"{vault.place}/packages/{sha256.hex}.zip is missing: it is the code of {_some(who)}"


def _some(who: Sequence[str]) -> str:
    return ", ".join(who[:3]) + (f" and {len(who) - 3} more" if len(who) > 3 else "")


__all__ = [
    "Kept",
    "Problem",
    "Report",
    "Saved",
    "Verified",
    "backup",
    "begun",
    "document",
    "documents",
    "keep_code",
    "listing",
    "must_be_account",
    "named",
    "of_function",
    "opened",
    "place",
    "published",
    "save",
    "save_layers",
    "verify",
]
