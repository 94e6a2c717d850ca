"""Bringing back what a store holds: looked at, planned, shown, and then carried out, with every digest compared.

A restore that was begun is written down in the store before anything is changed: what `$LATEST` was, and which versions
there were. The same command again, on any machine that reaches the store, goes on from what it finds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from pointsman import backups
from pointsman.aws.gateway import Gateway, Package
from pointsman.config import Direct, Environment, Existing
from pointsman.errors import (
    Ambiguous,
    BackupFailed,
    Conflict,
    FunctionFailed,
    LostRace,
    NotFound,
    PointsmanError,
    PreconditionFailed,
    UsageError,
)
from pointsman.execute import wait_until_settled
from pointsman.model import (
    AliasName,
    Bits,
    BuildId,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    Move,
    Value,
    Version,
    to_json,
)
from pointsman.provision import uploads
from pointsman.reinstating import (
    Asked,
    BringLatest,
    ConfigureEvents,
    CopyLayer,
    CreateFunction,
    Document,
    GiveUrl,
    Grant,
    MakeAlias,
    MapSource,
    Provision,
    PublishVersion,
    Reinstatement,
    Reserve,
    Restoring,
    SavedLayer,
    SavedVersion,
    Seen,
    Step,
    changes,
    chosen,
    describe,
    like,
    name_of,
    parameters,
    plan,
    qualified,
    routed,
    saved,
)
from pointsman.vault import Changed, Vault
from pointsman.vault.bucket import Bucket
from pointsman.vault.contents import inspect
from pointsman.world import Door, World

_IN_A_REQUEST = 50_000_000  # bytes of a zip; larger ones go by way of S3
_ATTEMPTS = 5
_LIKELY = 20  # versions of a layer that are worth a call each, to find one with the same content


class Wish(Value, frozen=True, kw_only=True):
    """What was typed. `source`: ACCOUNT/REGION whose backup it is, where several have a function of this name."""

    function: str
    version: str | None = None
    source: str = ""
    name: str = ""
    role: str = ""
    every: bool = False
    event_sources: bool = False
    without_variables: bool = False


class Restored(Value, frozen=True, kw_only=True):
    """`outcome`: planned (only shown), done, or unchanged. `mapping`: saved version → present version."""

    source: FunctionArn
    target: FunctionArn
    place: str
    saved_at: float
    outcome: str
    steps: tuple[str, ...]
    mapping: dict[Version, Version]
    notes: tuple[str, ...] = ()
    why: str = ""
    urls: dict[str, str] = msgspec.field(default_factory=dict)
    run: str = ""


@dataclass
class Prepared:
    """A restore that was looked at. `made` is its plan, which is made anew on the way."""

    vault: Vault
    door: Door
    document: Document
    target: FunctionArn
    asked: Asked
    open: Restoring | None
    made: Reinstatement

    def told(self, outcome: str, **more: object) -> Restored:
        return replace(
            Restored(
                source=self.document.arn,
                target=self.target,
                place=self.vault.place,
                saved_at=self.document.at,
                outcome=outcome,
                steps=tuple(describe(each) for each in self.made.steps),
                mapping=self.made.mapping,
                notes=self.made.notes,
                why=self.made.why_nothing,
            ),
            **more,
        )


def prepare(world: World, environment: Environment, wish: Wish, from_: str | None) -> Prepared:
    """Look at the backup and the target, and plan. Changes nothing."""
    door = world.door(environment)
    vault = backups.opened(world, environment, from_)
    account = door.gateway.caller_account()
    backups.must_be_account(environment, account)
    here = f"{account}/{door.wire.region}"
    name = _name(world, environment, wish.function)
    document = _document(vault, name, wish.source or here, said=bool(wish.source))
    version = chosen(document, wish.version) if wish.version else None
    target = FunctionArn(
        account=account,
        region=door.wire.region,
        name=FunctionName(wish.name or name),
        partition=document.arn.partition,
    )
    asked = Asked(
        version=version.version if version else None,
        role=wish.role,
        every=wish.every,
        event_sources=wish.event_sources,
        without_variables=wish.without_variables,
    )
    found = backups.begun(vault, target)
    open_ = found[0] if found and not found[0].done else None
    if open_ and (open_.source, open_.version) != (document.arn, asked.version):
        what = f"version {open_.version}" if open_.version else "the function"
        raise UsageError(
            f"a restore of {what} from {open_.source} was interrupted on {target.name}, by {open_.by}",
            where=f"restoring {target.name}",
            next="Type that one again, and it goes on; or `pointsman restore --forget` forgets it.",
        )
    seen = _look(door.gateway, document, target, asked, open_)
    return Prepared(
        vault=vault,
        door=door,
        document=document,
        target=target,
        asked=asked,
        open=open_,
        made=plan(document, target, asked, seen),
    )


def carry_out(world: World, environment: Environment, prepared: Prepared, from_: str | None) -> Restored:
    """Do it, in a run of its own. Lost answers are resolved by looking again."""
    if prepared.made.why_nothing and prepared.open is None:
        return prepared.told("unchanged")
    run = world.run_id()
    door = world.door(environment, run, prepared.target.name)
    vault = backups.opened(world, environment, from_, run)
    with _scratch() as scratch:
        return _Restore(world, run, door, vault, prepared, scratch).carry_out()


def forget(world: World, environment: Environment, wish: Wish, from_: str | None) -> Restoring:
    """An interrupted restore is not gone on with. Raises NotFound where there is none."""
    run = world.run_id()
    door = world.door(environment)
    vault = backups.opened(world, environment, from_, run)
    name = FunctionName(wish.name or _name(world, environment, wish.function))
    target = FunctionArn(account=door.gateway.caller_account(), region=door.wire.region, name=name)
    found = backups.begun(vault, target)
    if found is None or found[0].done:
        raise NotFound(f"no restore of {name} was interrupted", next="There is nothing to forget.")
    vault.replace(name_of(target, "restores"), to_json(replace(found[0], done=True)), found[1])
    return found[0]


# Looking


def _name(world: World, environment: Environment, text: str) -> FunctionName:
    """As `backups.named`, and of the file's functions also those that their owner knows no more."""
    if text not in world.project.functions:
        return backups.named(world, environment, [text])[0]
    function = world.functions(text)[0]
    session = world.session(function, environment)
    match function.provision:
        case Direct() | Existing():
            return FunctionName(session.declared_name() or text)
        case _:
            known = world.ledger.remembered("provisioned", session.provision_key) or {}
            return FunctionName(known["name"]) if known.get("name") else backups.named(world, environment, [text])[0]


def _document(vault: Vault, name: FunctionName, source: str, *, said: bool) -> Document:
    """That of this place; where it has none, the only one there is."""
    there = [each for each in backups.documents(vault) if each.endswith(f"/{name}.json")]
    own = f"functions/{source}/{name}.json"
    if own not in there and (said or len(there) != 1):
        saved_ = ", ".join(each.removeprefix("functions/").removesuffix(f"/{name}.json") for each in there)
        raise NotFound(
            f"{vault.place} has no backup of {name} of {source}",
            where=f"restoring {name}",
            next=f"It has one of {saved_}: say which by --source." if there else "`pointsman backup list` shows all.",
        )
    found = backups.document(vault, own if own in there else there[0])
    assert found is not None, "it was listed"
    if name_of(found[0].arn) not in (own, *there):
        raise BackupFailed(f"the document of {name} is one of {found[0].arn}", where=vault.place)
    return found[0]


def _look(gateway: Gateway, document: Document, target: FunctionArn, asked: Asked, begun: Restoring | None) -> Seen:
    name = target.name
    function = gateway.function(name)
    layers = _layers(gateway, document, target, asked)
    if function is None:
        return Seen(begun=begun, layers=layers)
    seen = Seen(function=function, versions=tuple(gateway.versions(name)), begun=begun, layers=layers)
    if asked.version is not None:
        return seen
    qualifiers = [each for each in document.policies if not each.isdecimal()]
    aliases = gateway.aliases(name)
    there = {"", *(each.name for each in aliases)}
    policies = {each: gateway.whole_policy(name, each) for each in qualifiers if each in there}
    return replace(
        seen,
        aliases=aliases,
        permissions={each: tuple(one.id for one in policy[0]) for each, policy in policies.items() if policy},
        urls=tuple(gateway.url_settings(name)) if document.urls else (),
        events=tuple(gateway.event_settings(name)) if document.events else (),
        provisioned=tuple(gateway.kept_ready_of_all(name)) if document.provisioned else (),
        reserved=gateway.code_of(name).reserved if document.reserved is not None else None,
        sources=tuple(
            (arn.qualifier or "", each.source) for arn, each in gateway.all_event_sources() if arn.name == name
        )
        if asked.event_sources
        else (),
    )


def _layers(gateway: Gateway, document: Document, target: FunctionArn, asked: Asked) -> dict[str, str]:
    """Which layer versions here have the content of the saved ones: the same, or copies."""
    of = [each for each in document.everything if asked.version in (None, each.version)]
    refs = {arn for each in of for arn in each.settings.get("Layers", ())}
    found: dict[str, str] = {}
    for layer in document.layers:
        if layer.arn not in refs:
            continue
        if layer.arn.split(":")[3] == target.region and _usable(gateway, layer):
            found[layer.arn] = layer.arn
        elif copy := _copy(gateway, layer):
            found[layer.arn] = copy
    return found


def _usable(gateway: Gateway, layer: SavedLayer) -> bool:
    try:
        there = gateway.layer_version(layer.arn)
    except PointsmanError:
        return False
    return there is not None and layer.sha256 in (None, there.sha256)


def _copy(gateway: Gateway, layer: SavedLayer) -> str:
    for number, each in enumerate(gateway.layer_versions(layer.name)):
        if number >= _LIKELY:
            break
        there = gateway.layer_version(each.arn)
        if there and there.sha256 == layer.sha256:
            return there.arn
    return ""


# Doing


@dataclass
class _Restore:
    world: World
    run: str
    door: Door
    vault: Vault
    prepared: Prepared
    scratch: Path
    mapping: dict[Version, Version] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    packages: dict[CodeSha256, Path] = field(default_factory=dict)
    made: Reinstatement = field(init=False)
    open: Restoring = field(init=False)
    mark: str | None = None

    def __post_init__(self) -> None:
        self.made = self.prepared.made

    @property
    def name(self) -> FunctionName:
        return self.prepared.target.name

    @property
    def gateway(self) -> Gateway:
        return self.door.gateway

    def carry_out(self) -> Restored:
        prepared = self.prepared
        self._stand_in()
        # All packages are looked at before anything is changed; that of $LATEST is in the store once it is kept.
        own = prepared.made.back
        for sha256 in prepared.made.digests:
            if sha256 != own or prepared.open:
                self._package(sha256)
        self._begin()
        try:
            return self._begun(own)
        except Ambiguous as error:
            error.next = "It may have taken effect: the same command again looks, and goes on from there."
            raise
        except PointsmanError as error:
            error.add_note("The restore is begun: the same command again goes on from there, --forget gives it up.")
            raise

    def _begun(self, own: CodeSha256 | None) -> Restored:
        prepared = self.prepared
        if own:
            self._package(own)
        done: list[str] = []
        for left in range(_ATTEMPTS - 1, -1, -1):
            self.made = self._planned()
            self.mapping |= self.made.mapping
            try:
                for step in self.made.steps:
                    self._do(step)
                    done.append(describe(step))
                    self.world.say(f"done: {describe(step)}")
                break
            except Ambiguous as lost:
                if not left:
                    raise
                self.world.say(f"no answer ({lost.what}): looking whether it took effect")
            except PreconditionFailed as error:
                raise self._overtaken(error.what) from error
        self._write_down(done=True)
        self.world.ledger.append(
            self.run, "restored", function=str(prepared.target), subject=str(prepared.target),
            source=str(prepared.document.arn), place=self.vault.place, mapping=dict(self.mapping),
        )  # fmt: skip
        return prepared.told("done", steps=tuple(done), mapping=self.mapping, urls=self.urls, run=self.run)

    def _planned(self) -> Reinstatement:
        document, target, asked = self.prepared.document, self.prepared.target, self.prepared.asked
        if self.gateway.function(self.name) is not None:
            self._settled()
        return plan(document, target, asked, _look(self.gateway, document, target, asked, self.open))

    def _begin(self) -> None:
        """Write down what is begun. Of a function that is there `$LATEST` is kept first, for it is lent."""
        found = backups.begun(self.vault, self.prepared.target)
        self.mark = found[1] if found else None
        if self.prepared.open is not None:
            if found is None or found[0] != self.prepared.open:
                raise self._overtaken("another restore of it went on")
            self.open = found[0]
            self.mapping |= self.open.mapping
            return
        was, newest = None, None
        present = self.gateway.function(self.name)
        if present is not None:
            was = saved(self._kept(), "")
            if present.sha256.image:
                was = replace(was, image=self.gateway.code_of(self.name).image)
            versions = [each.version for each in self.gateway.versions(self.name)]
            newest = max(versions) if versions else None
        self.open = Restoring(
            source=self.prepared.document.arn,
            target=self.prepared.target,
            version=self.prepared.asked.version,
            was=was,
            newest=newest,
            at=self.world.clock.now(),
            by=self.world.actor.by,
        )
        self._write_down()

    def _kept(self) -> Configuration:
        """`$LATEST`, once its package is in the store."""
        present = self._settled()
        if present.hidden:
            raise UsageError(
                f"AWS does not show the environment variables of {self.name}: {present.hidden}",
                next="$LATEST could not be put back afterwards. Grant the credentials kms:Decrypt, or use --name.",
            )
        if not present.sha256.image and present.sha256.hex not in self.vault.packages():
            self.world.say(f"keeping $LATEST of {self.name}, to put it back afterwards")
            part = self.scratch / "latest"
            backups.keep_code(self.door, self.vault, present, part)
        return present

    def _write_down(self, *, done: bool = False) -> None:
        name = name_of(self.prepared.target, "restores")
        self.open = replace(self.open, mapping=dict(self.mapping), done=done)
        content = to_json(self.open)
        try:
            self.vault.replace(name, content, self.mark)
        except Changed as error:
            raise self._overtaken("another restore of it was begun") from error
        found = self.vault.read(name)
        self.mark = found[1] if found else None

    def _stand_in(self) -> None:
        """A role that a rehearsal lacks."""
        creates = next((each for each in self.made.steps if isinstance(each, CreateFunction)), None)
        if self.world.staged and creates:
            from pointsman.provision import rehearsal

            role = str(self.made.carried.settings(creates.version).get("Role", ""))
            rehearsal.role(self.gateway, role, self.world.say)

    def _do(self, step: Step) -> None:
        gateway, name = self.gateway, self.name
        match step:
            case CopyLayer():
                self._copy_layer(step)
            case CreateFunction():
                self._create(step)
            case BringLatest():
                self._bring(step)
            case PublishVersion():
                self._publish(step)
            case MakeAlias():
                self._alias(step)
            case Grant():
                self._once(lambda: gateway.permit(name, self._on(step.qualifier), step.permission.parameters))
            case GiveUrl():
                self.urls[step.qualifier] = gateway.give_url(name, self._on(step.qualifier), step.settings)
            case ConfigureEvents():
                gateway.configure_events(name, self._on(step.qualifier), step.settings)
            case Reserve():
                gateway.reserve(name, step.number)
            case Provision():
                gateway.provision(name, self._on(step.qualifier), step.number)
            case MapSource():
                self._once(lambda: gateway.map_source(name, self._on(step.qualifier), step.settings))
            case _:
                assert_never(step)

    def _on(self, qualifier: str) -> str:
        return qualified(qualifier, self.mapping)

    def _once(self, send: Callable[[], None]) -> None:
        """What is there already is there."""
        try:
            send()
        except Conflict as error:
            self.world.say(f"it is there already: {error.what}")

    def _copy_layer(self, step: CopyLayer) -> None:
        layer = step.layer
        assert layer.sha256 is not None, "the plan refuses a layer without content"
        made = self.gateway.publish_layer(
            layer.name,
            self._package(layer.sha256).parameters(),
            description=layer.description,
            runtimes=layer.runtimes,
            architectures=layer.architectures,
        )
        self._must_be(layer.sha256, made.sha256)
        self.layers[layer.arn] = made.arn

    @property
    def carried(self) -> Callable[[SavedVersion], dict[str, Any]]:
        return replace(self.made.carried, layers={**self.made.carried.layers, **self.layers}).settings

    def _create(self, step: CreateFunction) -> None:
        version = step.version
        package = Package(image=version.image) if version.sha256.image else self._package(version.sha256)
        settings = parameters(self.carried(version))
        more = {"Tags": step.tags or None, "Description": step.description or None}
        try:
            found = self.gateway.create_function(
                self.name, {**settings, **{key: each for key, each in more.items() if each}}, package
            )
        except Conflict as error:
            raise self._overtaken(f"somebody else made it: {error.what}") from error
        self._must_be(version.sha256, found.sha256)
        self._settled()

    def _bring(self, step: BringLatest) -> None:
        """Code, then configuration, each conditional on the revision that was seen."""
        version = step.version
        wanted = version.settings if step.back else self.carried(version)
        latest = self._settled()
        architecture = next(iter(wanted.get("Architectures", ())), None)
        present = next(iter(latest.settings.get("Architectures", ())), None)
        other = architecture if architecture != present else None
        if latest.sha256 != version.sha256 or other:
            package = Package(image=version.image) if version.sha256.image else self._package(version.sha256)
            found = self.gateway.update_code(self.name, package, expecting=latest.revision, architecture=other)
            self._must_be(version.sha256, found.sha256)
            latest = self._settled()
        if given := changes(latest.settings, wanted):
            self.gateway.update_configuration(self.name, given, expecting=latest.revision)
            latest = self._settled()
        if latest.sha256 != version.sha256 or not like(latest.settings, wanted):
            raise self._overtaken("$LATEST is not what was just put there")

    def _publish(self, step: PublishVersion) -> None:
        version, latest = step.version, self._settled()
        if latest.sha256 != version.sha256 or not like(latest.settings, self.carried(version)):
            raise self._overtaken("$LATEST holds something else than what was to be published")
        found = self.gateway.publish(
            self.name, sha256=version.sha256, expecting=latest.revision, description=version.description
        )
        if found.state == "Pending":
            found = self._settled(found.version)
        self._must_be(version.sha256, found.sha256)
        self.mapping[version.version] = found.version
        self._write_down()
        if BuildId.pattern.fullmatch(version.description):
            role = str(found.settings.get("Role", ""))
            bits = Bits(sha256=found.sha256, fingerprint=found.fingerprint)
            arn, build = self.prepared.target, BuildId(version.description)
            self.world.ledger.published(self.run, arn, found.version, bits, build, role=role)
        self.world.say(f"saved version {version.version} is version {found.version} now")

    def _alias(self, step: MakeAlias) -> None:
        saved_ = step.alias
        routing = routed(saved_.routing, self.mapping)
        alias = self.gateway.alias(self.name, saved_.name)
        if alias is None:
            alias = self.gateway.create_alias(self.name, saved_.name, routing.version, description=saved_.description)
        if alias.routing != routing:
            alias = self.gateway.point(alias, routing, expecting=alias.revision, description=saved_.description)
        self._moved(alias.name, routing.version)

    def _moved(self, alias: AliasName, version: Version) -> None:
        """What the alias of the deleted function served before is nothing that this one can be rolled back to."""
        ledger, arn = self.world.ledger, self.prepared.target
        at, by = self.world.clock.now(), self.world.actor.by
        if before := ledger.moves(arn, alias):
            gone = before[-1].version
            ledger.moved(
                self.run, arn, Move(alias=alias, version=gone, was=gone, kind="removed", at=at, by=by, release=self.run)
            )
        ledger.moved(
            self.run, arn, Move(alias=alias, version=version, was=None, kind="restored", at=at, by=by, release=self.run)
        )

    def _settled(self, qualifier: str | None = None) -> Configuration:
        return wait_until_settled(
            self.gateway,
            self.world.clock,
            self.name,
            qualifier=qualifier,
            wait_s=self.world.options.wait_s,
            say=self.world.say,
        )

    # Packages

    def _package(self, sha256: CodeSha256) -> Package:
        """Out of the store, compared and inspected once; large ones by way of S3."""
        if sha256 not in self.packages:
            path = self.scratch / f"{sha256.hex}.zip"
            self.vault.fetch_package(sha256, path)
            inspect(path)
            self.packages[sha256] = path
        path = self.packages[sha256]
        if path.stat().st_size <= _IN_A_REQUEST:
            return Package(zip=path.read_bytes())
        if bucket := self.door.environment.bucket:
            key = f"{uploads.OURS}restored/{sha256.hex}.zip"
            uploads.store(self.gateway, bucket, key, path, self.world.say)
            return Package(bucket=bucket, key=key)
        if isinstance(self.vault.shelf, Bucket):
            shelf = self.vault.shelf
            return Package(bucket=shelf.bucket, key=shelf.key(self.vault.package(sha256)))
        raise BackupFailed(
            f"a package of {path.stat().st_size:,} bytes goes by way of S3, and no bucket is named",
            where=f"restoring {self.name}",
            next=f"Nothing was changed. Add `bucket` to [environment.{self.door.environment.name}].",
        )

    def _must_be(self, wanted: CodeSha256, found: str) -> None:
        if found != wanted:
            raise FunctionFailed(
                f"AWS stored other code than the backup has: {found}, not {wanted}",
                where=f"restoring {self.name}",
            )

    def _overtaken(self, what: str) -> LostRace:
        return LostRace(
            what,
            where=f"restoring {self.name}",
            next="Nothing more was changed. Look at the function; the same command again goes on if it can.",
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pointsman-restore-") as folder:
        yield Path(folder)


__all__ = ["Prepared", "Restored", "Wish", "carry_out", "forget", "prepare"]
