"""Bringing back what a store holds: looked at, planned, shown, and then carried out, with every digest compared.

A restore that was begun is written down in the store before anything is changed: what `$LATEST` was, and which versions
there were. The same command again, on any machine that reaches the store, goes on from what it finds.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from pointsman import backups
from pointsman.aws.gateway import Gateway, Package
from pointsman.aws.identity import partition
from pointsman.config import Direct, Environment, Existing
from pointsman.errors import (
    AccessDenied,
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
from pointsman.ledger import Run
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
    from_json,
    plain,
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
    SavedAlias,
    SavedLayer,
    SavedVersion,
    Seen,
    Step,
    Weigh,
    changes,
    choose,
    chosen,
    describe,
    like,
    name_of,
    parameters,
    plan,
    qualified,
    routed,
    routed_to,
    saved,
)
from pointsman.vault import Changed, Vault
from pointsman.vault.bucket import Bucket
from pointsman.vault.contents import inspect
from pointsman.world import Door, World

COMMAND = "restore"  # as the ledger has it
_STAMP = re.compile(r"\d{8}T\d{6}")
_IN_A_REQUEST = 50 << 20  # bytes of a zip; larger ones go by way of S3
_ATTEMPTS = 5
_LIKELY = 20  # versions of a layer that are worth a call each, to find one with the same content


class Wish(Value, frozen=True, kw_only=True):
    """What was typed. `source`: ACCOUNT/REGION whose backup it is, where several have a function of this name.

    `as_of`: how the state is called that is meant (`reinstating.stamp`).
    """

    function: str
    version: str | None = None
    source: str = ""
    as_of: str = ""
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
    wish: Wish
    notes: tuple[str, ...] = ()

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
                notes=(*self.made.notes, *self.notes),
                why=self.made.why_nothing,
            ),
            **more,
        )


def prepare(world: World, environment: Environment, wish: Wish, from_: str | None) -> Prepared:
    """Look at the backup and the target, and plan. Changes nothing."""
    wish = _whole(wish)
    door = world.door(environment)
    vault = backups.opened(world, environment, from_, option="--from")
    account = door.gateway.caller_account()
    backups.must_be_account(environment, account)
    here = f"{account}/{door.wire.region}"
    name = _name(world, environment, wish.function)
    target = _target(door, account, wish.name or name)
    _must_be_role(wish.role, target)
    found = backups.begun(vault, target)
    open_ = found[0] if found and not found[0].done else None
    notes: tuple[str, ...] = ()
    try:
        if open_ and open_.document:
            document = open_.document
            version = _same(open_, name, wish)
        else:
            saved_ = _documents(vault, name, wish.source or here, said=bool(wish.source))
            document, version, notes = _chosen(saved_, wish)
            if open_ and (open_.source, open_.version) != (document.arn, version):
                raise UsageError("another one")
    except UsageError:
        if open_ is None:
            raise
        what = f"version {open_.version}" if open_.version else "the function"
        raise UsageError(
            f"a restore of {what} from {open_.source} was interrupted on {target.name}, by {open_.by}",
            where=f"restoring {target.name}",
            next=f"`{command(world, open_, environment, from_)} --yes` goes on with it; "
            f"`{command(world, open_, environment, from_)} --forget` forgets it.",
        ) from None
    asked = Asked(
        version=version,
        role=wish.role,
        every=wish.every if open_ is None else open_.every or wish.every,
        event_sources=wish.event_sources,
        without_variables=wish.without_variables,
    )
    try:
        made = plan(document, target, asked, _look(door.gateway, document, target, asked, open_))
    except LostRace as error:
        if open_:
            again = command(world, open_, environment, from_)
            error.next = f"Nothing more was changed. `{again} --forget` forgets the interrupted restore."
        raise
    return Prepared(
        vault=vault, door=door, document=document, target=target, asked=asked, open=open_, made=made, wish=wish,
        notes=notes,
    )  # fmt: skip


def command(world: World, begun: Restoring, environment: Environment, from_: str | None) -> str:
    """What was typed to begin it, but for `--yes`."""
    source, target = begun.source, begun.target
    words = ["pointsman restore", str(source.name)]
    words += [f"version:{begun.version}"] if begun.version else []
    words += ["--name", str(target.name)] if target.name != source.name else []
    words += ["--env", environment.name]
    own = world.project.environments.get(environment.name, environment).region
    words += ["--region", target.region] if environment.region not in (None, own) else []
    words += ["--from", from_] if from_ else []
    return " ".join(words)


def _whole(wish: Wish) -> Wish:
    """`greeting.20261130T183100`, as the documents are called that were set aside, is a name and a state."""
    name, dot, as_of = wish.function.rpartition(".")
    if not dot or not _STAMP.fullmatch(as_of):
        return wish
    return replace(wish, function=name, as_of=wish.as_of or as_of)


def _must_be_role(role: str, target: FunctionArn) -> None:
    """Raises UsageError for one that Lambda would refuse, once all else is done."""
    if not role:
        return
    arn = re.fullmatch(r"arn:(aws[a-z-]*):iam::(\d{12}):role/[\w+=,.@/-]+", role)
    if arn is None:
        there = f"arn:{target.partition}:iam::{target.account}:role/{role}"
        like_it = (
            there if re.fullmatch(r"[\w+=,.@-]+", role) else f"arn:{target.partition}:iam::{target.account}:role/NAME"
        )
        raise UsageError(
            f"{role!r} is no ARN of a role", where="--role", next=f"Nothing was changed. Such as {like_it}."
        )
    if arn[2] != target.account:
        raise UsageError(
            f"{role} is a role of account {arn[2]}, and {target.name} is to be in {target.account}",
            where="--role",
            next="Nothing was changed. A function has a role of its own account.",
        )


def _same(begun: Restoring, name: str, wish: Wish) -> Version | None:
    """The version that is gone on with. Raises UsageError where something else is asked than what was begun."""
    document = begun.document
    assert document is not None
    version = chosen(document, wish.version).version if wish.version else None
    asked = (name, wish.source or _place(begun.source), wish.as_of or document.stamp, version)
    if asked != (begun.source.name, _place(begun.source), document.stamp, begun.version):
        raise UsageError("another one")
    return version


def _place(arn: FunctionArn) -> str:
    return f"{arn.account}/{arn.region}"


def _chosen(saved_: list[Document], wish: Wish) -> tuple[Document, Version | None, tuple[str, ...]]:
    """The state to bring back, or the document that has the version: the newest that has."""
    if not wish.version:
        document, notes = choose(saved_, wish.as_of)
        return document, None, notes
    if wish.as_of:
        document, _ = choose(saved_, wish.as_of)
        return document, chosen(document, wish.version).version, ()
    for document in saved_:
        with suppress(UsageError):
            return document, chosen(document, wish.version).version, ()
    return saved_[0], chosen(saved_[0], wish.version).version, ()


def carry_out(
    world: World, environment: Environment, prepared: Prepared, from_: str | None, *, resumes: str = ""
) -> Restored:
    """Do it, in a run of its own. Lost answers are resolved by looking again."""
    if prepared.made.why_nothing and prepared.open is None:
        return prepared.told("unchanged")
    request = {"target": str(prepared.target), "wish": plain(prepared.wish), "from": from_ or "", "resumes": resumes}
    run = world.begin(world.run_id(), COMMAND, (), environment, request).id
    restore: _Restore | None = None
    try:
        door = world.door(environment, run, prepared.target.name)
        vault = backups.opened(world, environment, from_, run, option="--from")
        with _scratch() as scratch:
            restore = _Restore(world, run, door, vault, prepared, scratch)
            done = restore.carry_out()
    except BaseException as error:
        if prepared.open or (restore and restore.began):
            world.end_badly(run, error, outcome="failed")
        else:  # nothing was changed, and there is nothing to go on with
            world.end_badly(run, error, outcome="refused")
        raise
    _settle(world, prepared.target, but=run)
    world.ledger.end(run, "done")
    return done


def _settle(world: World, target: FunctionArn, *, but: str = "") -> None:
    """The runs that this function's restore was interrupted in have nothing left to go on with."""
    for each in [*world.ledger.open_runs()]:
        if each.command == COMMAND and each.request.get("target") == str(target) and each.id != but:
            world.ledger.end(each.id, "done")


def of_run(run: Run) -> tuple[Wish, str | None]:
    """What that run was asked, and `--from`."""
    return from_json(to_json(run.request["wish"]), Wish), run.request.get("from") or None


def forget(world: World, environment: Environment, wish: Wish, from_: str | None) -> Restoring:
    """An interrupted restore is not gone on with. Raises NotFound where there is none."""
    wish = _whole(wish)
    run = world.run_id()
    door = world.door(environment)
    vault = backups.opened(world, environment, from_, run, option="--from")
    target = _target(door, door.gateway.caller_account(), wish.name or _name(world, environment, wish.function))
    found = backups.begun(vault, target)
    if found is None or found[0].done:
        _settle(world, target)
        raise NotFound(f"no restore of {target.name} was interrupted", next="There is nothing to forget.")
    try:
        vault.replace(name_of(target, "restores"), to_json(replace(found[0], done=True)), found[1])
    except Changed as error:
        raise LostRace(
            f"the restore of {target.name} went on just now", next="Look at it again before it is forgotten."
        ) from error
    _settle(world, target)
    return found[0]


def _target(door: Door, account: str, name: str) -> FunctionArn:
    try:
        called = FunctionName(name)
    except ValueError as error:
        raise UsageError(str(error), where="--name") from error
    region = door.wire.region
    return FunctionArn(account=account, region=region, name=called, partition=partition(region))


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


def _documents(vault: Vault, name: FunctionName, source: str, *, said: bool) -> list[Document]:
    """Those of this place, the newest first; where it has none, of the only one there is."""
    there = [each for each in backups.documents(vault) if each.endswith(f"/{name}.json")]
    own = f"functions/{source}/{name}.json"
    if own not in there and (said or len(there) != 1):
        saved_ = ", ".join(each.removeprefix("functions/").removesuffix(f"/{name}.json") for each in there)
        raise NotFound(
            f"{vault.place} has no backup of {name} of {source}",
            where=f"restoring {name}",
            next=f"It has one of {saved_}: say which by --source." if there else "`pointsman backup list` shows all.",
        )
    found = backups.of_function(vault, own if own in there else there[0])
    for each in found:
        if name_of(each.arn) not in (own, *there):
            raise BackupFailed(f"the document of {name} is one of {each.arn}", where=vault.place)
    return found


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
    except AccessDenied:  # another account's
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
    began: bool = False

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
            error.add_note(
                "The restore is begun: `pointsman resume`, or the same command again, goes on; --forget gives it up."
            )
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
        if prepared.asked.version is None:
            self._catch_up()
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
        there = found[0] if found and not found[0].done else None
        if there != self.prepared.open:  # since it was looked at: somebody may have sat at the question for long
            raise self._overtaken("another restore of it went on")
        if there is not None:
            self.open = there
            self.mapping |= there.mapping
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
            document=self._needed(),
            every=self.prepared.asked.every,
        )
        self._write_down()
        self.began = True

    def _needed(self) -> Document:
        """Of the document what this restore brings back."""
        document, asked = self.prepared.document, self.prepared.asked
        served = {each for alias in document.aliases for each in routed_to(alias.routing)}
        wanted = {asked.version} if asked.version else served
        versions = tuple(each for each in document.versions if asked.every or each.version in wanted)
        return replace(document, versions=versions, earlier=())

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
        if found is None or found[0] != content:
            raise self._overtaken("another restore of it went on")
        self.mark = found[1]

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
            case MakeAlias() | Weigh():
                self._alias(step.alias)
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

    def _alias(self, saved_: SavedAlias) -> None:
        routing = routed(saved_.routing, self.mapping)
        alias = self.gateway.alias(self.name, saved_.name)
        if alias is None:
            alias = self.gateway.create_alias(self.name, saved_.name, routing.version, description=saved_.description)
        if alias.routing != routing:
            alias = self.gateway.point(alias, routing, expecting=alias.revision, description=saved_.description)
        if routing.canary is None:
            self._moved(alias.name, routing.version)

    def _catch_up(self) -> None:
        """An alias was made, and the answer lost or the restore killed: the ledger is without that. Write it down."""
        for each in self.prepared.document.aliases:
            if each.routing.canary or each.routing.version not in self.mapping:
                continue
            version = self.mapping[each.routing.version]
            moves = self.world.ledger.moves(self.prepared.target, each.name)
            if moves and moves[-1].version == version:
                continue
            there = self.gateway.alias(self.name, each.name)
            if there and there.version == version:
                self._moved(each.name, version)

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


__all__ = ["COMMAND", "Prepared", "Restored", "Wish", "carry_out", "command", "forget", "of_run", "prepare"]
