"""Carries out a `Plan`, step by step, and stops at the first surprise.

Every mutating call says whom it expects to find. A lost answer is resolved by reading back: the step either took
effect (go on), or nothing changed (send it again, under the same condition), or somebody else was faster (LostRace).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, assert_never

from pointsman import branches
from pointsman.aws.gateway import Gateway, Package
from pointsman.aws.transports import Clock
from pointsman.belongings import (
    ChangeUrl,
    ConfigureEvents,
    GiveUrl,
    GrantPermission,
    MapEventSource,
    ProvisionConcurrency,
    RemoveUrl,
    RevokePermission,
)
from pointsman.errors import (
    Ambiguous,
    Conflict,
    FunctionFailed,
    InvalidRequest,
    LostRace,
    NotFound,
    PointsmanError,
    PreconditionFailed,
    TimedOut,
)
from pointsman.model import (
    LATEST,
    Alias,
    AliasName,
    Bits,
    Configuration,
    EventSource,
    FunctionArn,
    FunctionName,
    Permission,
    Routing,
    Url,
    Value,
    Version,
    role_name,
)
from pointsman.plan import (
    ApplyStack,
    ApplyTerraform,
    AskApproval,
    CloneRole,
    CreateAlias,
    CreateFunction,
    Expects,
    Plan,
    PointAlias,
    PublishLayer,
    PublishVersion,
    RemoveAlias,
    RestoreAlias,
    ReturnRole,
    RunGate,
    ShiftTraffic,
    Step,
    UpdateCode,
    UpdateConfiguration,
)
from pointsman.roles import is_clone

R = TypeVar("R")
_CANNOT_ASSUME = "cannot be assumed by Lambda"


class Done(Value, frozen=True, kw_only=True):
    """What came of a plan. `published` is False where Lambda found nothing new and answered an older version."""

    version: Version | None
    published: bool = False
    alias: Alias | None = None
    was: Version | None = None
    moved: bool = False
    url: Url | None = None


class Applied(Value, frozen=True, kw_only=True):
    """What came of applying Terraform's plan: the function, and the version it tells of."""

    name: FunctionName
    version: Version | None


class Record(Protocol):
    """What the ledger is told, as soon as it is true."""

    def published(self, function: FunctionArn, version: Version, bits: Bits, *, role: str, anew: bool) -> None: ...
    def moved(self, function: FunctionArn, alias: AliasName, version: Version, was: Version | None) -> None: ...
    def removed(self, function: FunctionArn, alias: AliasName, version: Version) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Hands:
    """Everything a plan needs from outside. The callables raise GateRefused where a gate says no."""

    gateway: Gateway
    undoing: Gateway  # open after a Ctrl-C that stops the other
    clock: Clock
    record: Record
    package: Callable[[], Package]
    gate: Callable[[RunGate, FunctionArn | None, Version | None], None]
    approve: Callable[[AskApproval, Version], None]
    apply_stack: Callable[[ApplyStack], FunctionName]
    clone_role: Callable[[CloneRole], None]
    must_be_assumable: Callable[[str], None]  # raises where Lambda cannot act as a role, however long one waits
    apply_terraform: Callable[[ApplyTerraform], Applied]
    publish_layer: Callable[[PublishLayer], str]
    shift: Callable[[ShiftTraffic, FunctionArn, Version, str, str], Alias]  # + version, description, alias's revision
    say: Callable[[str], None]
    wait_s: float = 300


def wait_until_settled(
    gateway: Gateway,
    clock: Clock,
    name: str,
    *,
    qualifier: str | None = None,
    wait_s: float,
    say: Callable[[str], None],
) -> Configuration:
    """Polls GetFunction until no update is in progress and nothing Pending. Raises FunctionFailed, TimedOut."""
    began, delay = clock.now(), 0.2
    while True:
        found = gateway.function(name, qualifier)
        if found is None:
            raise NotFound(f"{name} is gone", where=f"waiting for {name}")
        if not in_progress(found):
            return sound(found)
        if clock.now() - began > wait_s:
            raise TimedOut(
                f"{name} is still {found.state}, its update {found.update}, after {wait_s:g} s",
                where=f"waiting for {name}",
                next="Look at the function in AWS; `pointsman resume` goes on once it is settled.",
            )
        if delay > 1:
            say(f"waiting for {name}: {found.state}, update {found.update}")
        clock.sleep(delay)
        delay = min(delay * 1.5, 5.0)


def in_progress(found: Configuration) -> bool:
    return found.update == "InProgress" or found.state == "Pending"


def sound(found: Configuration) -> Configuration:
    """The same, or FunctionFailed with AWS's reason where it ended Failed."""
    if found.state == "Failed" or found.update == "Failed":
        reason = found.update_reason if found.update == "Failed" else found.state_reason
        raise FunctionFailed(
            f"{found.arn.name} {found.version} ended Failed: {reason or 'AWS gives no reason'}",
            next="Mend what the reason names, then deploy again.",
        )
    return found


@dataclass
class Execution:
    """One plan on its way: `prepare`, `approve`, `move`, in this order; `done` tells what came of it so far."""

    plan: Plan
    hands: Hands
    name: FunctionName | None = None
    latest: Configuration | None = None  # as last seen: its revision is what the next call expects
    revision: str | None = None
    arn: FunctionArn | None = None
    version: Version | None = None
    published: bool = False
    alias: Alias | None = None
    present: Alias | None = None  # the alias as the owner's step left it, once that was
    looked: bool = False  # looked for
    was: Version | None = None
    moved: bool = False
    url: Url | None = None
    gave_back: bool = False
    layers: dict[str, str] = field(default_factory=dict)  # `layer.NAME`, as plans have it → the version's ARN
    expects: Expects = field(init=False)  # of the alias: what the plan saw, or what the owner's step left
    _gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        self.expects = self.plan.expects
        self.name = self.plan.name
        self.version = self.plan.version
        self.revision = self.plan.expects.function_revision
        self._gateway = self.hands.gateway

    def prepare(self) -> None:
        """Everything that no caller of the alias notices."""
        try:
            for step in self.plan.parts[0]:
                self.carry_out(step)
        except BaseException as error:
            self.give_back(error)
            raise

    def approve(self) -> None:
        for step in self.plan.parts[1]:
            self.carry_out(step)

    def move(self) -> None:
        for step in self.plan.parts[2]:
            self.carry_out(step)

    @property
    def done(self) -> Done:
        return Done(
            version=self.version,
            published=self.published,
            alias=self.alias,
            was=self.was,
            moved=self.moved,
            url=self.url,
        )

    def carry_out(self, step: Step) -> None:
        match step:
            case ApplyStack():
                self.apply_stack(step)
            case CloneRole():
                self.hands.clone_role(step)
            case ReturnRole():
                self.return_role(step)
            case ApplyTerraform():
                self.apply_terraform(step)
            case PublishLayer():
                self.layers[f"layer.{step.layer}"] = self.hands.publish_layer(step)
            case CreateFunction():
                self.create_function(step)
            case UpdateCode():
                self.update_code(step)
            case UpdateConfiguration():
                self.update_configuration(step)
            case RunGate():
                version = LATEST if step.against == "latest" else step.version or self.version
                self.hands.gate(step, self.arn, version)
            case PublishVersion():
                self.publish(step)
            case AskApproval():
                self.hands.approve(step, self.served(step.version))
            case CreateAlias():
                self.create_alias(step)
            case PointAlias():
                self.point_alias(step)
            case ShiftTraffic():
                self.shift_traffic(step)
            case RestoreAlias():
                self.restore_alias(step)
            case RemoveAlias():
                self.remove_alias(step)
            case GrantPermission():
                self.grant(step)
            case RevokePermission():
                self.gone(lambda: self._gateway.revoke(self.function(), step.alias, step.statement), step.statement)
            case ConfigureEvents():
                self.configure_events(step)
            case MapEventSource():
                self.map_event_source(step)
            case ProvisionConcurrency():
                self.provision(step)
            case GiveUrl() | ChangeUrl():
                self.give_url(step)
            case RemoveUrl():
                self.gone(lambda: self._gateway.delete_url(self.function(), step.alias), f"the URL of {step.alias}")
            case _:
                assert_never(step)

    # The function

    def seen(self, found: Configuration) -> None:
        self.latest, self.revision, self.arn = found, found.revision, found.arn.unqualified

    def function(self) -> str:
        if self.name is None:
            raise FunctionFailed("no function is named", next="Check `provision` in pointsman.toml.")
        return self.name

    def settled(self, qualifier: str | None = None) -> Configuration:
        hands = self.hands
        return wait_until_settled(
            hands.gateway, hands.clock, self.function(), qualifier=qualifier, wait_s=hands.wait_s, say=hands.say
        )

    def after_update(self, reply: Configuration) -> None:
        self.seen(self.settled() if in_progress(reply) else sound(reply))

    def create_function(self, step: CreateFunction) -> None:
        name = FunctionName(self.function())

        def look() -> Configuration | None:
            found = self._gateway.function(name)
            if found and found.sha256 != step.sha256:
                raise LostRace(f"somebody else created {name} meanwhile, with other code")
            return found

        package, settings = self.hands.package(), self.with_layers(step.settings)

        def send() -> Configuration:
            return self._gateway.create_function(name, settings, package)

        self.after_update(self.surely(self.once_assumable(step.settings, send), look, f"creating {name}"))
        self.hands.say(f"created function {name}")

    def update_code(self, step: UpdateCode) -> None:
        if self.latest and self.latest.sha256 == step.sha256 and not step.architecture:
            return  # the stack left it there
        name, expecting, package = self.function(), self.expected(), self.hands.package()

        def look() -> Configuration | None:
            found = self._gateway.function(name)
            if found and found.sha256 == step.sha256 and found.revision != expecting:
                return found
            self.must_be_untouched(found, expecting)
            return None

        reply = self.surely(
            lambda: self._gateway.update_code(name, package, expecting=expecting, architecture=step.architecture),
            look,
            f"updating the code of {name}",
        )
        if reply.sha256 != step.sha256:
            raise FunctionFailed(f"AWS stored other code than was sent: {reply.sha256}, not {step.sha256}")
        self.after_update(reply)
        what = "image sha256:" if step.sha256.image else "code "
        self.hands.say(f"updated $LATEST of {name} to {what}{step.sha256.short}…")

    def with_layers(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the versions that were published on the way in their places."""
        refs = settings.get("Layers")
        return {**settings, "Layers": [self.layers.get(ref, ref) for ref in refs]} if refs else settings

    def update_configuration(self, step: UpdateConfiguration) -> None:
        self.may_lend(step)
        name, expecting = self.function(), self.expected()
        settings = self.with_layers(step.settings)
        wanted = {key: value["Variables"] if key == "Environment" else value for key, value in settings.items()}

        def look() -> Configuration | None:
            found = self._gateway.function(name)
            present = {**found.settings, "Description": found.description} if found else {}
            if found and all((present.get(key) or None) == (value or None) for key, value in wanted.items()):
                return found
            self.must_be_untouched(found, expecting)
            return None

        def send() -> Configuration:
            return self._gateway.update_configuration(name, settings, expecting=expecting)

        self.after_update(
            self.surely(self.once_assumable(step.settings, send), look, f"updating the configuration of {name}")
        )
        self.hands.say(f"updated the configuration of $LATEST of {name}")

    def publish(self, step: PublishVersion) -> None:
        name = self.function()
        if self.latest is None:
            # Nothing was sent since the plan looked: what is published must be what was planned, and tested.
            self.seen(self.settled())
            if self.revision != self.plan.expects.function_revision:
                raise self.overtaken(self.latest)
        before = self.latest
        if before is None or before.sha256 != step.sha256:
            raise self.overtaken(before)
        role = before.settings.get("Role", "")
        if role != step.role if step.role else is_clone(role):
            raise LostRace(
                f"$LATEST of {name} has role {role_name(role)}, "
                + (f"not {role_name(step.role)}" if step.role else "which is a branch's"),
                where=f"publishing {name}",
                next="Nothing was published. Deploy again: the plan then gives it the right role first.",
            )

        def look() -> Configuration | None:
            found = self._gateway.function(name)
            if found is None or (found.sha256, found.fingerprint) != (step.sha256, before.fingerprint):
                raise self.overtaken(found)
            # Publishing changes $LATEST's revision id. Publishing unchanged code again answers the same version.
            self.revision = found.revision
            return None

        version = self.surely(
            lambda: self._gateway.publish(
                name, sha256=step.sha256, expecting=self.expected(), description=step.description
            ),
            look,
            f"publishing {name}",
        )
        if version.state == "Pending":
            version = self.settled(version.version)
        sound(version)
        self.version, self.arn = version.version, version.arn.unqualified
        self.published = version.description == step.description
        self.hands.record.published(self.arn, version.version, version.bits, role=role, anew=self.published)
        if self.published:
            self.hands.say(f"published version {version.version} of {name}, build {step.description}")
        else:
            self.hands.say(
                f"nothing new to publish: version {version.version} of {name} is the same code and configuration"
            )

    # Its role

    def may_lend(self, step: UpdateConfiguration) -> None:
        """A branch's role is lent to `$LATEST` only where that has the role it will get back."""
        back = self.returns()
        present = self.latest.settings.get("Role") if self.latest else None
        if (
            back
            and present
            and present not in (back.role, back.lent)
            and not is_clone(present)
            and "Role" in step.settings
        ):
            raise LostRace(
                f"{self.name} has role {role_name(present)} by now, and the plan saw {role_name(back.role)}",
                where="deploying",
                next="Nothing was published. Deploy again: the branch's role is then cloned from that one.",
            )

    def returns(self) -> ReturnRole | None:
        return next((step for step in self.plan.steps if isinstance(step, ReturnRole)), None)

    def return_role(self, step: ReturnRole) -> None:
        """Only where `$LATEST` still has what was lent: a role that somebody else gave it meanwhile stays."""
        name = self.function()

        def send() -> Configuration:
            return self._gateway.update_configuration(name, {"Role": step.role}, expecting=self.expected())

        def look() -> Configuration | None:
            found = self._gateway.function(name)
            if found and found.settings.get("Role") != step.lent:
                return found
            self.must_be_untouched(found, self.expected())
            return None

        for attempt in range(3):
            self.seen(found := self.settled())
            if found.settings.get("Role") != step.lent:
                break
            try:
                self.after_update(self.surely(send, look, f"giving {name} its role back"))
            except LostRace:  # its code was changed in between, say: the role may still be the branch's
                if attempt == 2:
                    raise
            else:
                self.hands.say(f"$LATEST of {name} has role {role_name(step.role)} again")
                break
        self.gave_back = True

    def give_back(self, error: BaseException) -> None:
        """Whatever went wrong, `$LATEST` must not keep a branch's role: the next to publish it may be PROD's deploy."""
        step = self.returns()
        if step is None or self.gave_back or self.name is None:
            return
        self._gateway = self.hands.undoing
        self.hands = replace(self.hands, gateway=self._gateway)
        try:
            self.return_role(step)
        except PointsmanError as also:
            error.add_note(
                f"$LATEST of {self.name} may still have role {role_name(step.lent)} ({also.what}): `pointsman resume`, "
                f"or the next deploy, gives it {role_name(step.role)} back."
            )

    def once_assumable(self, settings: dict[str, Any], send: Callable[[], R]) -> Callable[[], R]:
        """Again while Lambda cannot act as a role that was just made: IAM tells the rest of AWS seconds later."""

        def patient() -> R:
            clock, role, delay = self.hands.clock, settings.get("Role", ""), 0.5
            began = clock.now()
            while True:
                try:
                    return send()
                except InvalidRequest as refused:
                    if _CANNOT_ASSUME not in refused.what:
                        raise
                    if delay == 0.5:
                        self.hands.must_be_assumable(role)
                        self.hands.say(f"waiting until Lambda can act as role {role_name(role)}")
                    if clock.now() - began > self.hands.wait_s:
                        raise
                clock.sleep(delay)
                delay = min(delay * 1.5, 5.0)

        return patient

    def apply_stack(self, step: ApplyStack) -> None:
        self.name = self.hands.apply_stack(step)
        self.seen(self.settled())
        if step.makes_alias or (self.plan.name and self.name != self.plan.name):
            self.look_for_alias()

    def apply_terraform(self, step: ApplyTerraform) -> None:
        applied = self.hands.apply_terraform(step)
        self.name = applied.name
        self.seen(self.settled())
        if step.brings:
            self.brought(step, applied.version)
        if step.makes_alias or (self.plan.name and self.name != self.plan.name):
            self.look_for_alias()

    def brought(self, step: ApplyTerraform, version: Version | None) -> None:
        """The version Terraform published must be the package's, or nothing goes on from here."""
        artifact = self.plan.artifact
        found = self.settled(version) if version else None
        if found is None or artifact is None or found.sha256 != artifact.sha256:
            what = f"version {found.version} holds {found.sha256.short}…" if found else "no output tells a version"
            image = artifact is not None and bool(artifact.image)
            given = "image_uri = the variable" if image else "source_code_hash"
            raise FunctionFailed(
                f"Terraform did not publish the {'image' if image else 'package'}: {what}",
                where=f"applying {step.directory}",
                next=f"Give the module the {'image (' if image else 'zip (`package` or '}`inputs` of provision), with "
                f"{given} and publish = true. No alias was moved.",
            )
        self.version, self.arn = found.version, found.arn.unqualified
        if step.version is None:
            self.published = True
            role = found.settings.get("Role", "")
            self.hands.record.published(self.arn, found.version, found.bits, role=role, anew=True)
            self.hands.say(f"Terraform published version {found.version} of {found.arn.name}")

    # The alias

    def look_for_alias(self) -> None:
        """A stack may make the alias itself; and a function that replaces another has none of its aliases."""
        found = self._gateway.alias(self.function(), self.plan.alias)
        self.expects = Expects(
            alias_revision=found.revision if found else None, alias_routing=str(found.routing) if found else None
        )
        self.present, self.looked = found, True

    def served(self, version: Version | None) -> Version:
        served = version or self.version
        if served is None:
            raise FunctionFailed("the plan moves an alias to a version it never publishes")
        return served

    def create_alias(self, step: CreateAlias) -> None:
        if self.present is not None:
            was = self.present.version
            self.point_alias(PointAlias(alias=step.alias, version=step.version, was=was, reason=step.reason))
            return
        name, version = self.function(), self.served(step.version)
        description = self.description()

        def look() -> Alias | None:
            found = self._gateway.alias(name, step.alias)
            if found and found.routing != Routing(version=version):
                raise LostRace(f"somebody else created alias {step.alias} meanwhile: it serves {found.routing}")
            return found

        self.arrived(
            self.surely(
                lambda: self._gateway.create_alias(name, step.alias, version, description=description),
                look,
                f"creating alias {step.alias}",
            ),
            was=None,
        )

    def point_alias(self, step: PointAlias) -> None:
        if self.expects.alias_routing is None:
            self.create_alias(CreateAlias(alias=step.alias, version=step.version, reason=step.reason))
            return
        routing = Routing(version=self.served(step.version))
        if step.was == routing.version and self.expects.alias_routing == str(routing):
            self.hands.say(f"{step.alias} serves version {routing.version} already")
            return
        moved = self.route(step.alias, step.was, routing, self.description(), f"moving {step.alias}")
        self.arrived(moved, was=step.was)

    def shift_traffic(self, step: ShiftTraffic) -> None:
        if self.expects.alias_routing is None:  # the function was replaced, and has none of its aliases
            self.create_alias(CreateAlias(alias=step.alias, version=step.version, reason=step.reason))
            return
        version = self.served(step.version)
        if step.was == version and self.expects.alias_routing == str(Routing(version=version)):
            self.hands.say(f"{step.alias} serves version {version} already")
            return
        arn = self.arn
        assert arn is not None, "what is looked at, or published, tells it"
        revision = self.expects.alias_revision or ""
        self.arrived(self.hands.shift(step, arn, version, self.description(), revision), was=step.was)

    def restore_alias(self, step: RestoreAlias) -> None:
        back = self.route(step.alias, step.now, step.routing, step.description, f"putting {step.alias} back")
        self.arrived(back, was=step.now)

    def route(self, alias: AliasName, was: Version, routing: Routing, description: str, where: str) -> Alias:
        """The one UpdateAlias, on the revision that the plan saw."""
        name, expecting = self.function(), self.expects
        present = Alias(
            arn=FunctionArn(account="", region="", name=FunctionName(name), qualifier=alias),
            name=alias,
            routing=Routing(version=was),
            revision=expecting.alias_revision or "",
        )

        def look() -> Alias | None:
            found = self._gateway.alias(name, alias)
            if found and found.routing == routing:
                return found
            if found and found.revision == expecting.alias_revision:
                return None
            what = f"it serves {found.routing} now" if found else "it is gone"
            raise LostRace(
                f"somebody else moved {alias} meanwhile: {what}, no longer {expecting.alias_routing}",
                next="Nothing was overwritten. `pointsman status` shows what is live.",
            )

        return self.surely(
            lambda: self._gateway.point(present, routing, expecting=present.revision, description=description),
            look,
            where,
        )

    def remove_alias(self, step: RemoveAlias) -> None:
        """DeleteAlias takes no revision id, and says nothing of an alias that is gone: it may simply be sent again."""
        name, arn = self.function(), self.arn
        self.surely(
            lambda: self._gateway.delete_alias(name, step.alias),
            lambda: None if self._gateway.alias(name, step.alias) else True,
            f"removing {step.alias}",
        )
        if arn is not None:
            self.hands.record.removed(arn, step.alias, step.version)
        self.hands.say(f"removed alias {step.alias} again")

    def arrived(self, alias: Alias, *, was: Version | None) -> None:
        self.alias, self.was, self.moved = alias, was, True
        self.hands.record.moved(alias.arn.unqualified, alias.name, alias.version, was)
        before = f", from version {was}" if was else ""
        self.hands.say(f"{alias.name} serves version {alias.version}{before}")

    # What belongs to the alias. A lost answer is resolved by reading the very thing; what is there already is as good.

    def grant(self, step: GrantPermission) -> None:
        name, wanted = self.function(), step.parameters

        def look() -> Permission | None:
            there = {each.id: each for each in self._gateway.policy(name, step.alias)}
            found = there.get(wanted["StatementId"])
            if found and found.parameters != wanted:
                raise LostRace(f"{step.alias} has another permission called {wanted['StatementId']}")
            return found

        self.surely(
            lambda: self._gateway.grant(name, step.alias, wanted),
            look,
            f"permitting {wanted['Principal']} on {step.alias}",
            found_is_done=True,
        )
        self.hands.say(f"permitted {wanted['Principal']} {wanted['Action']} on {step.alias}")

    def configure_events(self, step: ConfigureEvents) -> None:
        name = self.function()
        self.surely(
            lambda: self._gateway.put_event_invoke(name, step.alias, step.settings),
            lambda: None,  # sent again it does the same
            f"configuring asynchronous calls of {step.alias}",
        )
        self.hands.say(f"configured asynchronous calls of {step.alias}")

    def map_event_source(self, step: MapEventSource) -> None:
        name, source = self.function(), step.settings["EventSourceArn"]

        def look() -> EventSource | None:
            there = self._gateway.event_sources(name, step.alias)
            return next((each for each in there if each.source == source), None)

        self.surely(
            lambda: self._gateway.map_event_source(name, step.alias, step.settings),
            look,
            f"mapping {source} to {step.alias}",
            found_is_done=True,
        )
        self.hands.say(f"mapped {source} to {step.alias}, disabled")

    def provision(self, step: ProvisionConcurrency) -> None:
        name = self.function()
        self.surely(
            lambda: self._gateway.provision(name, step.alias, step.number),
            lambda: None,  # sent again it does the same
            f"provisioning {step.alias}",
        )
        self.hands.say(f"keeping {step.number} environments ready for {step.alias}")

    def give_url(self, step: GiveUrl | ChangeUrl) -> None:
        name = self.function()
        send = self._gateway.create_url if isinstance(step, GiveUrl) else self._gateway.change_url

        def look() -> Url | None:
            found = self._gateway.url(name, step.alias)
            if found and found.auth != step.auth and isinstance(step, GiveUrl):
                raise LostRace(f"somebody else gave {step.alias} a function URL meanwhile, with auth {found.auth}")
            return found if found and found.auth == step.auth else None

        where = f"giving {step.alias} a function URL"
        self.url = self.surely(lambda: send(name, step.alias, step.auth), look, where, found_is_done=True)
        self.hands.say(f"{step.alias} is at {self.url.url}")

    def gone(self, send: Callable[[], None], what: str) -> None:
        """Take something away. What is not there is gone already, so a lost answer is no reason to look."""
        self.surely(send, lambda: None, f"removing {what}")
        self.hands.say(f"removed {what}")

    def description(self) -> str:
        return branches.description(self.plan.build, self.plan.branch)

    # Sending

    def surely(
        self, send: Callable[[], R], look: Callable[[], R | None], where: str, *, found_is_done: bool = False
    ) -> R:
        """Send; on a lost answer or a refused condition look first. `look`: the effect, None if untouched, LostRace.

        `found_is_done`: what is wanted may be there already, whoever made it.
        """
        attempts = 3
        for attempt in range(attempts):
            try:
                return send()
            except Ambiguous as lost:
                self.hands.say(f"{where}: no answer ({lost.what}); looking whether it took effect")
                found = look()
                if found is not None:
                    return found
                if attempt + 1 == attempts:
                    raise
            except (PreconditionFailed, Conflict) as refused:
                # After a lost answer this may be our own call, landed late. Otherwise somebody was faster, and `look`
                # says who and what. Untouched, and only busy for a moment: again.
                found = look()
                if found is not None and (attempt or found_is_done):
                    return found
                if attempt + 1 == attempts or not isinstance(refused, Conflict) or found is not None:
                    raise LostRace(
                        refused.what, where=where, next="Nothing was overwritten. Run the command again to start over."
                    ) from refused
                self.hands.clock.sleep(1.0)
        raise AssertionError("unreachable: the last attempt returned or raised")

    def expected(self) -> str:
        if self.revision is None:
            self.seen(self.settled())
        return self.revision or ""

    def must_be_untouched(self, found: Configuration | None, expecting: str) -> None:
        if found is None or found.revision != expecting:
            raise self.overtaken(found)

    def overtaken(self, found: Configuration | None) -> LostRace:
        what = f"$LATEST holds code {found.sha256.short}…, changed {found.modified}" if found else "it is gone"
        return LostRace(
            f"somebody else changed {self.name} meanwhile: {what}",
            where="deploying",
            next="Nothing of theirs was overwritten or published. Deploy again when they are done.",
        )
