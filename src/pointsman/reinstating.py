"""What a backup holds of a function, and how it is brought back: documents, and the plan of a restore. Pure.

A plan is made of what is saved and of what is seen, and leaves out what is done already: so it is made anew after an
interruption or a lost answer, and goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias, assert_never

from msgspec import field
from msgspec.structs import replace

from pointsman.errors import BackupFailed, LostRace, UsageError
from pointsman.model import (
    LATEST,
    Alias,
    AliasName,
    CodeSha256,
    Configuration,
    EventSource,
    FunctionArn,
    Permission,
    Routing,
    Value,
    Version,
    counted,
    few,
    size,
)

SCHEMA = 1
_NAMED = 5  # states, and what one had, that a sentence names

# The document


class SavedVersion(Value, frozen=True, kw_only=True):
    """`$LATEST` or a version: `settings` as `Configuration` has them. `image`: REPOSITORY@sha256:DIGEST, of an image.

    `hidden`: why AWS did not show the environment's variables; they are then not in `settings`.
    """

    version: Version
    sha256: CodeSha256
    settings: dict[str, Any]
    description: str = ""
    modified: str = ""
    size: int = 0
    hidden: str = ""
    image: str = ""


class SavedAlias(Value, frozen=True, kw_only=True):
    name: AliasName
    routing: Routing
    description: str = ""


class SavedPolicy(Value, frozen=True, kw_only=True):
    """A resource policy: as AddPermission can say it again, and AWS's own `text`, which may say more."""

    permissions: tuple[Permission, ...]
    text: str


class SavedSource(Value, frozen=True, kw_only=True):
    """An event source mapping, and what it feeds ("" the function itself)."""

    qualifier: str
    mapping: EventSource


class SavedLayer(Value, frozen=True, kw_only=True):
    """A layer version that a saved version has. `problem`: why its content is not in the backup."""

    arn: str
    sha256: CodeSha256 | None = None
    size: int = 0
    description: str = ""
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        return self.arn.split(":")[6]


class KeptLayer(Value, frozen=True, kw_only=True):
    """A document of a layer version, kept before `prune` deleted it."""

    schema: int = SCHEMA
    at: float
    by: str
    layer: SavedLayer


class State(Value, frozen=True, kw_only=True):
    """What a function was beside its versions, as it was last seen at `at`, by whom."""

    at: float
    by: str
    latest: SavedVersion
    aliases: tuple[SavedAlias, ...] = ()
    policies: dict[str, SavedPolicy] = field(default_factory=dict)
    urls: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: tuple[SavedSource, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    reserved: int | None = None
    provisioned: dict[str, int] = field(default_factory=dict)


class Document(Value, frozen=True, kw_only=True):
    """All that is kept of a function in one account and region. Qualifiers are aliases and versions, "" the function.

    `versions`: oldest first, those deleted since (`gone`) among them. Of a version's policy: as it was when the version
    was first saved, or with `again`. `earlier`: former states that had what a later one had not, the newest first.
    Every digest that is named here is in the same store.
    """

    schema: int = SCHEMA
    arn: FunctionArn
    at: float
    by: str
    latest: SavedVersion
    versions: tuple[SavedVersion, ...] = ()
    gone: tuple[Version, ...] = ()
    aliases: tuple[SavedAlias, ...] = ()
    policies: dict[str, SavedPolicy] = field(default_factory=dict)
    urls: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: tuple[SavedSource, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    reserved: int | None = None
    provisioned: dict[str, int] = field(default_factory=dict)
    layers: tuple[SavedLayer, ...] = ()
    notes: tuple[str, ...] = ()
    earlier: tuple[State, ...] = ()

    @property
    def everything(self) -> tuple[SavedVersion, ...]:
        return (*self.versions, *(each.latest for each in self.earlier), self.latest)

    @property
    def stamp(self) -> str:
        """How its state is called."""
        return stamp(self.at)

    @property
    def digests(self) -> dict[CodeSha256, int]:
        """What must be in the store for it, with sizes in bytes."""
        found = {each.sha256: each.size for each in self.everything if not each.sha256.image}
        return found | {each.sha256: each.size for each in self.layers if each.sha256}


class Restoring(Value, frozen=True, kw_only=True):
    """A restore that was begun, kept in the store: what `$LATEST` was, and which versions there were before.

    `mapping`: saved version → the version it was brought back as. `document`: what is brought back, of the function's
    document as it was then: a backup meanwhile saves what is half restored.
    """

    schema: int = SCHEMA
    source: FunctionArn
    target: FunctionArn
    version: Version | None
    was: SavedVersion | None
    newest: Version | None
    at: float
    by: str
    mapping: dict[Version, Version] = field(default_factory=dict)
    done: bool = False
    document: Document | None = None
    every: bool = False


def name_of(arn: FunctionArn, kind: str = "functions") -> str:
    """Where its document lies in the store."""
    return f"{kind}/{arn.account}/{arn.region}/{arn.name}.json"


def saved(found: Configuration, image: str = "") -> SavedVersion:
    return SavedVersion(
        version=found.version,
        sha256=found.sha256,
        settings=found.settings,
        description=found.description,
        modified=found.modified,
        size=found.code_size,
        hidden=found.hidden,
        image=image,
    )


def another(before: Document, versions: Iterable[Configuration]) -> bool:
    """Whether a function of the same name has taken its place: a version is immutable, and this one is not the same."""
    known = {each.version: each for each in before.versions}
    return any(_differs(known[each.version], each) for each in versions if each.version in known)


def _differs(then: SavedVersion, now: Configuration) -> bool:
    shown = not (then.hidden or now.hidden)
    return then.sha256 != now.sha256 or (shown and not like(now.settings, then.settings))


def stamp(at: float) -> str:
    """A moment as states and documents are called by it, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S")


def state(document: Document) -> State:
    """What it is now. Policies of versions stay with the versions."""
    given = {name: getattr(document, name) for name in State.__struct_fields__}
    policies = {qualifier: each for qualifier, each in document.policies.items() if not qualifier.isdecimal()}
    return State(**{**given, "policies": policies})


def states(document: Document) -> tuple[Document, ...]:
    """The document as it is, and as it was: the newest first."""
    of_versions = {qualifier: each for qualifier, each in document.policies.items() if qualifier.isdecimal()}
    return (document, *(_as_it_was(document, each, of_versions) for each in document.earlier))


def _as_it_was(document: Document, then: State, of_versions: dict[str, SavedPolicy]) -> Document:
    given = {name: getattr(then, name) for name in State.__struct_fields__}
    return replace(document, **{**given, "policies": {**of_versions, **then.policies}, "earlier": ()})


def belongings(found: Document | State) -> tuple[str, ...]:
    """What hangs on it, as people call it: what a later state has not is kept of this one."""
    return (
        *(f"alias {each.name}" for each in found.aliases),
        *(f"the URL of {qualifier or 'the function'}" for qualifier in found.urls),
        *(
            f"permission {each.id} on {qualifier or 'the function'}"
            for qualifier, policy in found.policies.items()
            if not qualifier.isdecimal()
            for each in policy.permissions
        ),
        *(f"the asynchronous configuration of {qualifier or 'the function'}" for qualifier in found.events),
        *(f"event source {each.mapping.source or each.mapping.uuid}" for each in found.sources),
        *(f"provisioned concurrency of {qualifier}" for qualifier in found.provisioned),
        *(("the reserved concurrency",) if found.reserved is not None else ()),
    )


def vanished(before: Document, now: Document) -> tuple[str, ...]:
    """What hung on it at the last backup, and does no more."""
    has = {*belongings(now)}
    return tuple(each for each in belongings(before) if each not in has)


def made_anew(before: Document, there: Collection[Version]) -> bool:
    """Whether it was deleted and made again since: none of its versions is there."""
    then = {each.version for each in before.versions} - {*before.gone}
    return bool(then) and not then & {*there}


def choose(saved_: Iterable[Document], as_of: str = "") -> tuple[Document, tuple[str, ...]]:
    """The state that is brought back, of all (the newest first): the one called so; else the newest that has aliases,

    else the newest. With it what there is to say of the others. Raises UsageError for one that is not there.
    """
    found = [each for one in saved_ for each in states(one)]
    if as_of:
        called = [each for each in found if each.stamp == as_of]
        taken = max(called, key=lambda each: len(belongings(each)), default=None)  # of one second that which had more
        if taken is None:
            there = ", ".join(each.stamp for each in found[:_NAMED])
            raise UsageError(f"{found[0].arn.name} has no state {as_of} in the backup", next=f"It has {there}.")
        return taken, ()
    taken = next((each for each in found if each.aliases), found[0])
    notes = []
    if taken is not found[0]:
        notes.append(
            f"this is how it was at {taken.stamp} (UTC), the last that had aliases; as of {found[0].stamp} it had none"
        )
    has = {*belongings(taken)}
    for each in found[found.index(taken) + 1 :][:_NAMED]:
        if more := [one for one in belongings(each) if one not in has]:
            notes.append(f"as of {each.stamp} it also had {few(more)}: `--as-of {each.stamp}` brings that back")
    return taken, tuple(notes)


def joined(before: Document | None, now: Document, there: Collection[Version]) -> Document:
    """What is saved now, and what an earlier document has beside it: versions, layers, and states that are no more."""
    if before is None:
        return now
    earlier = (*((state(before),) if vanished(before, now) or made_anew(before, there) else ()), *before.earlier)
    versions = {each.version: each for each in (*before.versions, *now.versions)}
    layers = {each.arn: each for each in (*now.layers, *(each for each in before.layers if each.sha256))}
    layers |= {each.arn: each for each in now.layers if each.sha256}
    still = {*there}
    kept = {
        qualifier: policy
        for qualifier, policy in before.policies.items()
        if qualifier in versions and qualifier not in {each.version for each in now.versions}
    }
    return replace(
        now,
        versions=tuple(versions[each] for each in sorted(versions)),
        gone=tuple(sorted(each for each in versions if each not in still)),
        policies=kept | now.policies,
        layers=tuple(layers[each] for each in sorted(layers)),
        earlier=earlier,
    )


def chosen(document: Document, text: str) -> SavedVersion:
    """The saved version meant: a build (its description) first, then a number; `build:X` and `version:X` are exact.

    Of several of one build the last. Raises UsageError for none.
    """
    kind, colon, exact = text.partition(":")
    name = exact if colon and kind in ("build", "version") else text
    builds = [each for each in document.versions if each.description == name and kind != "version"]
    numbers = [each for each in document.versions if each.version == name and kind != "build"]
    if not builds and not numbers:
        there = ", ".join(f"{each.version} ({each.description or 'no build'})" for each in document.versions[-10:])
        raise UsageError(
            f"no build or version {name} of {document.arn.name} is saved", next=f"Saved, the last: {there or 'none'}."
        )
    return (builds or numbers)[-1]


# Settings

_WRAPPED = {
    "Environment": "Variables",
    "DeadLetterConfig": "TargetArn",
    "TracingConfig": "Mode",
    "EphemeralStorage": "Size",
    "SnapStart": "ApplyOn",
}
_UNSET: dict[str, Any] = {
    "Environment": {"Variables": {}},
    "Layers": [],
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "DeadLetterConfig": {"TargetArn": ""},
    "TracingConfig": {"Mode": "PassThrough"},
    "EphemeralStorage": {"Size": 512},
    "SnapStart": {"ApplyOn": "None"},
    "FileSystemConfigs": [],
    "KMSKeyArn": "",
    "ImageConfig": {},
}
# What AWS shows although nobody said it: what was saved before it did is not another configuration.
_DEFAULTS = ("LoggingConfig", "TracingConfig", "EphemeralStorage", "SnapStart", "Architectures")
_AT_CREATION = ("TenancyConfig",)


def parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As CreateFunction takes them."""
    return {key: {_WRAPPED[key]: value} if key in _WRAPPED else value for key, value in settings.items()}


def changes(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What UpdateFunctionConfiguration is to be given. The architecture goes with the code."""
    given = {key: value for key, value in wanted.items() if key != "Architectures" and present.get(key) != value}
    cleared = {
        key: _UNSET[key] for key in present if key not in wanted and key in _UNSET and not _default(present, key)
    }
    return cleared | parameters(given)


def _default(present: Mapping[str, Any], key: str) -> bool:
    value = _UNSET[key]
    return bool(present[key] == (value[_WRAPPED[key]] if key in _WRAPPED else value))


def like(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether code would run the same way with both."""
    return all(
        present.get(key) == wanted.get(key) or (key not in wanted and key in _DEFAULTS) for key in {*present, *wanted}
    )


class Carried(Value, frozen=True, kw_only=True):
    """How settings are carried from one place to another. `layers`: ARN there → ARN here, where it is known."""

    source: FunctionArn
    target: FunctionArn
    role: str = ""
    layers: dict[str, str] = field(default_factory=dict)
    without_variables: bool = False

    @property
    def elsewhere(self) -> bool:
        return (self.source.account, self.source.region) != (self.target.account, self.target.region)

    def settings(self, version: SavedVersion) -> dict[str, Any]:
        found = {**version.settings}
        if self.role:
            found["Role"] = self.role
        if "Layers" in found:
            found["Layers"] = [self.layers.get(each, each) for each in found["Layers"]]
        logging, default = found.get("LoggingConfig"), "/aws/lambda/"
        if logging and logging.get("LogGroup") == f"{default}{self.source.name}":
            found["LoggingConfig"] = {**logging, "LogGroup": f"{default}{self.target.name}"}
        for key in self.lost(version):
            del found[key]
        return found

    def lost(self, version: SavedVersion) -> tuple[str, ...]:
        """Settings that name something of the other account or region, which is not here."""
        if not self.elsewhere:
            return ()
        bound = ("VpcConfig", "FileSystemConfigs", "KMSKeyArn", "DeadLetterConfig", "CapacityProviderConfig")
        return tuple(key for key in bound if version.settings.get(key))

    def names_there(self, value: Any) -> bool:
        """Whether it names the other account, or an ARN in the other region."""
        text = str(value)
        if self.target.account != self.source.account and self.source.account in text:
            return True
        return self.target.region != self.source.region and f":{self.source.region}:" in text


# The plan


class CopyLayer(Value, frozen=True, kw_only=True, tag_field="step"):
    """Publish the saved content as a layer here: functions cannot have layers of another region."""

    layer: SavedLayer


class CreateFunction(Value, frozen=True, kw_only=True, tag_field="step"):
    """With the code and configuration of a saved version."""

    version: SavedVersion
    tags: dict[str, str]
    description: str


class BringLatest(Value, frozen=True, kw_only=True, tag_field="step"):
    """Give `$LATEST` a saved version's code and configuration, or (`back`) its own again."""

    version: SavedVersion
    back: bool = False


class PublishVersion(Value, frozen=True, kw_only=True, tag_field="step"):
    version: SavedVersion


class MakeAlias(Value, frozen=True, kw_only=True, tag_field="step"):
    """`routing` in the saved numbers."""

    alias: SavedAlias


class Weigh(Value, frozen=True, kw_only=True, tag_field="step"):
    """Give an alias its weights. Provisioned concurrency comes before: AWS takes none for an alias with weights."""

    alias: SavedAlias


class Grant(Value, frozen=True, kw_only=True, tag_field="step"):
    qualifier: str
    permission: Permission


class GiveUrl(Value, frozen=True, kw_only=True, tag_field="step"):
    qualifier: str
    settings: dict[str, Any]


class ConfigureEvents(Value, frozen=True, kw_only=True, tag_field="step"):
    qualifier: str
    settings: dict[str, Any]


class Reserve(Value, frozen=True, kw_only=True, tag_field="step"):
    number: int


class Provision(Value, frozen=True, kw_only=True, tag_field="step"):
    qualifier: str
    number: int


class MapSource(Value, frozen=True, kw_only=True, tag_field="step"):
    qualifier: str
    settings: dict[str, Any]


Step: TypeAlias = (
    CopyLayer
    | CreateFunction
    | BringLatest
    | PublishVersion
    | MakeAlias
    | Weigh
    | Grant
    | GiveUrl
    | ConfigureEvents
    | Reserve
    | Provision
    | MapSource
)


class Asked(Value, frozen=True, kw_only=True):
    """What is to be brought back. `version`: that one alone. `every`: all, not only what aliases serve."""

    version: Version | None = None
    role: str = ""
    every: bool = False
    event_sources: bool = False
    without_variables: bool = False


class Seen(Value, frozen=True, kw_only=True):
    """The target as it is. `layers`: saved ARN → a layer version here with that content. `begun`: an open restore."""

    function: Configuration | None = None
    versions: tuple[Configuration, ...] = ()
    aliases: tuple[Alias, ...] = ()
    permissions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    provisioned: tuple[str, ...] = ()
    reserved: int | None = None
    sources: tuple[tuple[str, str], ...] = ()
    layers: dict[str, str] = field(default_factory=dict)
    begun: Restoring | None = None


class Reinstatement(Value, frozen=True, kw_only=True):
    """The steps that are left, with what will not be as it was (`notes`). `mapping`: saved → present versions."""

    source: FunctionArn
    target: FunctionArn
    carried: Carried
    steps: tuple[Step, ...] = ()
    mapping: dict[Version, Version] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    why_nothing: str = ""

    @property
    def digests(self) -> tuple[CodeSha256, ...]:
        """The packages that its steps send."""
        found: dict[CodeSha256, None] = {}
        for step in self.steps:
            match step:
                case CopyLayer(layer=SavedLayer(sha256=CodeSha256() as sha256)):
                    found[sha256] = None
                case CreateFunction() | BringLatest() if not step.version.sha256.image:
                    found[step.version.sha256] = None
                case _:
                    pass
        return tuple(found)

    @property
    def back(self) -> CodeSha256 | None:
        """The package that `$LATEST` is to have again."""
        found = (step.version.sha256 for step in self.steps if isinstance(step, BringLatest) and step.back)
        return next((each for each in found if not each.image), None)


def plan(document: Document, target: FunctionArn, asked: Asked, seen: Seen) -> Reinstatement:
    """The steps from what is seen to what is asked. Raises UsageError where that cannot be, LostRace where somebody

    else changed the target since an interrupted restore began.
    """
    carried = Carried(
        source=document.arn,
        target=target,
        role=asked.role,
        layers=seen.layers,
        without_variables=asked.without_variables,
    )
    if target.account != document.arn.account and not asked.role:
        raise UsageError(
            f"the saved role is one of account {document.arn.account}, and {target.name} is to be in {target.account}",
            next="Say which role it is to have: --role ARN.",
        )
    wanted = _wanted(document, asked, seen)
    for each in wanted:
        _must_be_whole(document, each, asked)
    if seen.function is not None and (seen.begun is None or seen.begun.was is not None):
        return _again(document, carried, wanted[0], seen)
    return _anew(document, carried, asked, wanted, seen)


def _wanted(document: Document, asked: Asked, seen: Seen) -> tuple[SavedVersion, ...]:
    """The versions to publish, in their order."""
    if asked.version is not None:
        return tuple(each for each in document.versions if each.version == asked.version)
    if seen.function is not None and seen.begun is None:
        raise UsageError(
            f"{seen.function.arn.name} is there: nothing of it is overwritten",
            next="Say which version to bring back as a new one (`pointsman restore FUNCTION VERSION`), or --name for "
            "another function.",
        )
    served = {version for each in document.aliases for version in routed_to(each.routing)}
    return tuple(each for each in document.versions if asked.every or each.version in served)


def routed_to(routing: Routing) -> tuple[Version, ...]:
    return (routing.version, *([routing.canary.version] if routing.canary else []))


def _must_be_whole(document: Document, version: SavedVersion, asked: Asked) -> None:
    if version.hidden and not asked.without_variables:
        raise UsageError(
            f"AWS did not show the environment variables of version {version.version} when it was saved: "
            f"{version.hidden}",
            next="`--without-variables` brings it back without them; set them yourself afterwards.",
        )
    layers = {each.arn: each for each in document.layers}
    for arn in version.settings.get("Layers", ()):
        if arn not in layers:
            raise BackupFailed(f"the backup says nothing of layer {arn}, which version {version.version} has")


def _again(document: Document, carried: Carried, version: SavedVersion, seen: Seen) -> Reinstatement:
    """One version as a new version of a function that is there; `$LATEST` is lent for it, and given back."""
    latest, begun = seen.function, seen.begun
    assert latest is not None
    wanted = carried.settings(version)
    _may_take_place(version, latest, wanted)
    newest = begun.newest if begun else None
    same = [each for each in seen.versions if _is(each, version, wanted)]
    ours = [each for each in same if begun and (newest is None or each.version > newest)]
    if same and not begun:
        number = same[-1].version
        return Reinstatement(
            source=carried.source,
            target=carried.target,
            carried=carried,
            mapping={version.version: number},
            why_nothing=f"version {number} of {carried.target.name} has exactly this code and configuration",
        )
    was = begun.was if begun and begun.was else saved(latest)
    if begun:
        sides = ((version.sha256, wanted), (was.sha256, was.settings))
        if latest.sha256 not in [sha256 for sha256, _ in sides] or not any(like(latest.settings, s) for _, s in sides):
            raise _overtaken(carried, "$LATEST holds something else")
    steps: list[Step] = [*_layers(document, carried, (version,))]
    if not ours:
        if not _is(latest, version, wanted):
            steps.append(BringLatest(version=version))
        steps.append(PublishVersion(version=version))
    if not (version.sha256 == was.sha256 and like(was.settings, wanted)) and not (
        ours and latest.sha256 == was.sha256 and like(latest.settings, was.settings)
    ):
        steps.append(BringLatest(version=was, back=True))
    return Reinstatement(
        source=carried.source,
        target=carried.target,
        carried=carried,
        steps=tuple(steps),
        mapping={version.version: ours[0].version} if ours else {},
        notes=(*_losses(carried, (version,)), *_as_zip(version)),
    )


def _may_take_place(version: SavedVersion, latest: Configuration, wanted: Mapping[str, Any]) -> None:
    """Raises UsageError for what no update of a function can change."""
    if version.sha256.image != latest.sha256.image:
        kinds = ("a zip", "a container image")
        raise UsageError(
            f"version {version.version} is {kinds[version.sha256.image]}, {latest.arn.name} is now "
            f"{kinds[latest.sha256.image]}: a function cannot change that",
            next="`--name` restores it as another function.",
        )
    for key in _AT_CREATION:
        if latest.settings.get(key) != wanted.get(key):
            raise UsageError(
                f"{key} is {wanted.get(key)} in the backup and {latest.settings.get(key)} now: AWS takes it at "
                "creation only",
                next="`--name` restores it as another function.",
            )


def _anew(
    document: Document, carried: Carried, asked: Asked, wanted: tuple[SavedVersion, ...], seen: Seen
) -> Reinstatement:
    """The whole function, or one version of it as a function of its own."""
    whole, function = asked.version is None, seen.function
    last = document.latest if whole else wanted[-1]
    if whole:
        _must_be_whole(document, last, asked)
    ends = [(each, carried.settings(each)) for each in (*wanted, last)]
    if function is not None and not any(function.sha256 == each.sha256 for each, _ in ends):
        raise _overtaken(carried, "$LATEST holds something else")
    mapping = _matched(carried, ends[:-1], seen)
    steps: list[Step] = [*_layers(document, carried, (*wanted, last))]
    pending = [(each, settings) for each, settings in ends[:-1] if each.version not in mapping]
    at: tuple[SavedVersion, Mapping[str, Any]] | None = None
    if function is None:
        first, settings = pending[0] if pending else ends[-1]
        tags = {key: value for key, value in document.tags.items() if not key.startswith("aws:")}
        description = document.latest.description if whole else ""
        steps.append(CreateFunction(version=first, tags=tags, description=description))
        at = first, settings
    else:
        at = next((each for each in ends if _is(function, *each)), None)
    for each, settings in pending:
        if at is None or not _alike(at, (each, settings)):
            steps.append(BringLatest(version=each))
        at = each, settings
        steps.append(PublishVersion(version=each))
    if whole and (at is None or not _alike(at, ends[-1])):
        steps.append(BringLatest(version=last))
    notes = [*_losses(carried, (*wanted, last))]
    if whole:
        more, told = _belongings(document, carried, asked, {each.version for each in wanted}, seen)
        steps += more
        notes += told
        if left := len(document.versions) - len(wanted):
            notes.append(f"{left} more saved versions, which no alias serves, are left out: --every brings all back")
    if not carried.elsewhere and any(key.startswith("aws:cloudformation:") for key in document.tags):
        stack = document.tags.get("aws:cloudformation:stack-name", "")
        notes.append(f"it was part of stack {stack}, which does not know the one that is made now")
    if not whole:
        notes.append(f"{carried.target.name} is not there: it is made with this version alone, without aliases")
    notes += [note for each in (*wanted, last) for note in _as_zip(each)]
    nothing = "" if steps else "everything is there"
    return Reinstatement(
        source=carried.source,
        target=carried.target,
        carried=carried,
        steps=tuple(steps),
        mapping=mapping,
        notes=tuple(dict.fromkeys(notes)),
        why_nothing=nothing,
    )


def _matched(carried: Carried, wanted: list[tuple[SavedVersion, dict[str, Any]]], seen: Seen) -> dict[Version, Version]:
    """Those that are published already. Two alike in a row are one: Lambda publishes no second.

    Somebody may have deleted some of them meanwhile (`prune`): those are published again.
    """
    mapping: dict[Version, Version] = {}
    left = [*seen.versions]
    last: Configuration | None = None
    for each, settings in wanted:
        if last is None or not _is(last, each, settings):
            last = next((one for one in left if _is(one, each, settings)), None)
        if last is None:
            continue
        mapping[each.version] = last.version
        if last in left:
            left.remove(last)
    if left:
        raise _overtaken(carried, f"version {left[0].version} is not of this restore")
    return mapping


def _is(present: Configuration, version: SavedVersion, settings: Mapping[str, Any]) -> bool:
    return present.sha256 == version.sha256 and like(present.settings, settings)


def _alike(one: tuple[SavedVersion, Mapping[str, Any]], other: tuple[SavedVersion, Mapping[str, Any]]) -> bool:
    return one[0].sha256 == other[0].sha256 and like(one[1], other[1])


def _overtaken(carried: Carried, what: str) -> LostRace:
    return LostRace(
        f"somebody else went on with {carried.target.name} since the restore was interrupted: {what}",
        where=f"restoring {carried.target.name}",
        next="Nothing more was changed. The same command with `--forget` forgets the interrupted restore.",
    )


def _layers(document: Document, carried: Carried, versions: Iterable[SavedVersion]) -> Iterable[CopyLayer]:
    saved_layers = {each.arn: each for each in document.layers}
    asked = dict.fromkeys(arn for each in versions for arn in each.settings.get("Layers", ()))
    for arn in asked:
        if arn in carried.layers:
            continue
        layer = saved_layers.get(arn)
        if layer is None or layer.sha256 is None:
            why = layer.problem if layer else "the backup says nothing of it"
            raise BackupFailed(f"layer {arn} cannot be used here, and its content is not in the backup: {why}")
        yield CopyLayer(layer=layer)


def _losses(carried: Carried, versions: Iterable[SavedVersion]) -> Iterable[str]:
    keys = dict.fromkeys(key for each in versions for key in carried.lost(each))
    if keys:
        yield f"left out, for they name what is in {carried.source.account} {carried.source.region}: {', '.join(keys)}"
    if carried.without_variables and any(each.hidden for each in versions):
        yield "environment variables that AWS did not show are missing"


def _as_zip(version: SavedVersion) -> Iterable[str]:
    if version.sha256.image:
        yield f"the image {version.image} is not in the backup: it must still be in ECR"


def _belongings(
    document: Document, carried: Carried, asked: Asked, versions: set[Version], seen: Seen
) -> tuple[list[Step], list[str]]:
    """Aliases, then what hangs on qualifiers: whoever may call an alias may do so before it has a URL."""
    aliases, weights, notes = _aliases(document, versions, seen)
    left_out = {each.name for each in document.aliases if set(_published(each)) - versions}
    names = {"", *(each.name for each in document.aliases if each.name not in left_out), *versions}
    granted, told = _permissions(document, carried, names, seen)
    steps: list[Step] = [*aliases, *granted]
    notes += told
    for qualifier, settings in document.urls.items():
        if qualifier in names and qualifier not in seen.urls:
            steps.append(GiveUrl(qualifier=qualifier, settings=settings))
            notes.append(f"the URL of {qualifier or 'the function'} will be another: AWS chooses it")
    for qualifier, settings in document.events.items():
        events = settings
        if carried.elsewhere and carried.names_there(settings.get("DestinationConfig", {})):
            events = {key: value for key, value in settings.items() if key != "DestinationConfig"}
            notes.append(f"destinations of {qualifier or 'the function'} are left out: they are in the other place")
        if qualifier in names and qualifier not in seen.events and events:
            steps.append(ConfigureEvents(qualifier=qualifier, settings=events))
    if document.reserved is not None and seen.reserved != document.reserved:
        steps.append(Reserve(number=document.reserved))
    for qualifier, number in document.provisioned.items():
        if qualifier in names and qualifier not in seen.provisioned:
            steps.append(Provision(qualifier=qualifier, number=number))
    sources, told = _sources(document, carried, asked, names, seen)
    return [*steps, *weights, *sources], notes + told


def _published(alias: SavedAlias) -> tuple[Version, ...]:
    return tuple(each for each in routed_to(alias.routing) if each.published)


def _aliases(document: Document, versions: set[Version], seen: Seen) -> tuple[list[Step], list[Step], list[str]]:
    """(those to make, those to give weights, what is left out)"""
    there = {each.name: each for each in seen.aliases}
    made: list[Step] = []
    weights: list[Step] = []
    notes: list[str] = []
    for alias in document.aliases:
        if lacking := sorted(set(_published(alias)) - versions):
            notes.append(f"alias {alias.name} is left out: version {lacking[0]}, which it serves, is not saved")
            continue
        if alias.name not in there:
            made.append(MakeAlias(alias=replace(alias, routing=Routing(version=alias.routing.version))))
        if alias.routing.canary and not (alias.name in there and there[alias.name].routing.canary):
            weights.append(Weigh(alias=alias))
    return made, weights, notes


def _permissions(
    document: Document, carried: Carried, names: Collection[str], seen: Seen
) -> tuple[list[Step], list[str]]:
    steps: list[Step] = []
    notes: list[str] = []
    for qualifier, policy in document.policies.items():
        for each in policy.permissions if qualifier in names else ():
            on = f"permission {each.id} on {qualifier or 'the function'}"
            if each.id in seen.permissions.get(qualifier, ()):
                continue
            if each.beyond:
                notes.append(f"{on} is not brought back: {each.beyond}")
            elif carried.elsewhere and carried.names_there(each.parameters):
                notes.append(f"{on} is left out: it names account {carried.source.account} or its region")
            else:
                steps.append(Grant(qualifier=qualifier, permission=each))
    return steps, notes


def _sources(
    document: Document, carried: Carried, asked: Asked, names: Collection[str], seen: Seen
) -> tuple[list[Step], list[str]]:
    """Only on request, and disabled: on one queue, two consumers take each other's messages."""
    left = [each for each in document.sources if (each.qualifier, each.mapping.source) not in seen.sources]
    if not asked.event_sources:
        told = f"not mapped: {counted(len(left), 'event source')}; --event-sources does it, disabled"
        return [], [told] if left else []
    steps: list[Step] = []
    notes: list[str] = []
    for each in left:
        source = each.mapping.source
        if carried.elsewhere and carried.names_there(each.mapping.settings):
            notes.append(f"event source {source} is left out: it is in the other place")
        elif each.qualifier in names and re.match(r"arn:[^:]+:(sqs|kinesis|dynamodb):", source):
            steps.append(MapSource(qualifier=each.qualifier, settings=each.mapping.settings))
        else:
            notes.append(f"event source {source or each.mapping.uuid} must be mapped by hand")
    return steps, notes


def routed(routing: Routing, mapping: Mapping[Version, Version]) -> Routing:
    """The same in present numbers. Two that have become one version are no canary any more."""
    version = mapping[routing.version] if routing.version.published else routing.version
    canary = routing.canary
    if canary is None or mapping[canary.version] == version:
        return Routing(version=version)
    return Routing(version=version, canary=replace(canary, version=mapping[canary.version]))


def qualified(qualifier: str, mapping: Mapping[Version, Version]) -> str:
    """A qualifier in present numbers."""
    return str(mapping[Version(qualifier)]) if qualifier.isdecimal() else qualifier


def describe(step: Step) -> str:
    match step:
        case CopyLayer(layer=layer):
            return f"publish layer {layer.name} from the backup ({size(layer.size)}), as it is not here"
        case CreateFunction(version=version):
            return f"create the function with {_of(version)}"
        case BringLatest(version=version, back=True):
            return f"put $LATEST back to what it was: {_code(version)}"
        case BringLatest(version=version):
            return f"bring $LATEST to {_of(version)}"
        case PublishVersion(version=version):
            told = f", “{version.description}”" if version.description else ""
            return f"publish that as a new version, for the saved version {version.version}{told}"
        case MakeAlias(alias=alias):
            return f"point alias {alias.name} to what was {alias.routing}"
        case Weigh(alias=alias):
            return f"let alias {alias.name} serve what was {alias.routing}"
        case Grant(qualifier=qualifier, permission=each):
            who = "everybody" if each.parameters["Principal"] == "*" else each.parameters["Principal"]
            return f"permit {who} {each.parameters['Action']} on {qualifier or 'the function'}"
        case GiveUrl(qualifier=qualifier, settings=settings):
            who = "for everybody who knows it" if settings["AuthType"] == "NONE" else "for signed requests"
            return f"give {qualifier or 'the function'} a function URL, {who}"
        case ConfigureEvents(qualifier=qualifier, settings=settings):
            return f"configure asynchronous calls of {qualifier or 'the function'}: {', '.join(settings)}"
        case Reserve(number=number):
            return f"reserve a concurrency of {number}"
        case Provision(qualifier=qualifier, number=number):
            return f"keep {counted(number, 'environment')} ready for {qualifier}"
        case MapSource(qualifier=qualifier, settings=settings):
            return f"map {settings['EventSourceArn']} to {qualifier or 'the function'}, disabled"
        case _:
            assert_never(step)


def _of(version: SavedVersion) -> str:
    what = "what $LATEST was" if version.version == LATEST else f"the saved version {version.version}"
    return f"{what}: {_code(version)}"


def _code(version: SavedVersion) -> str:
    return f"{'image sha256:' if version.sha256.image else 'code '}{version.sha256.short}…"


__all__ = [
    "SCHEMA",
    "Asked",
    "Carried",
    "Document",
    "KeptLayer",
    "Reinstatement",
    "Restoring",
    "SavedAlias",
    "SavedLayer",
    "SavedPolicy",
    "SavedSource",
    "SavedVersion",
    "Seen",
    "State",
    "Step",
    "another",
    "belongings",
    "changes",
    "choose",
    "chosen",
    "describe",
    "joined",
    "like",
    "made_anew",
    "name_of",
    "parameters",
    "plan",
    "qualified",
    "routed",
    "routed_to",
    "saved",
    "stamp",
    "state",
    "states",
    "vanished",
]
