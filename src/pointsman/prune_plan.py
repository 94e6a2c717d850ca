"""What a prune would do: look at an account and region, decide of every version, and keep that for later.

    listing of all versions → policy → aliases, and who names versions → decisions

Looking costs V/50 listings, and then asks only of functions that would lose something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import msgspec

from pointsman import inventory, owners, retention, rollout_record
from pointsman import references as looking
from pointsman.aws.gateway import Gateway
from pointsman.aws.references import ListedLayer
from pointsman.config import Environment, Retention
from pointsman.errors import (
    AccountMismatch,
    AwsError,
    NotFound,
    StalePlan,
    UsageError,
)
from pointsman.fleet import Fleet, Member
from pointsman.ledger import under_way
from pointsman.model import FunctionArn, Value, Version, counted, from_json, to_json
from pointsman.progress import Course
from pointsman.retention import Decision, Known, LayerHeld, Policy, Reference, Retained, Unseen
from pointsman.world import World, unknown

T = TypeVar("T")

PROVISIONED = 20
"""Of so many functions the plan asks for provisioned concurrency; of more it is asked right before their versions go.

AWS lists it by function only, and a plan of a whole account should cost little more than its listing.
"""


class Pruning(Value, frozen=True, kw_only=True):
    """What is decided for one account and region: of every version of every function, and of layers.

    `environment` is the one of the file whose credentials reach it. `at`: when it was looked at, in epoch seconds.
    `idle_pins`, `idle_globs`: what nothing there is meant by; none where it could not be told.
    """

    environment: str
    account: str
    region: str
    at: float
    policy: Policy
    functions: tuple[Retained, ...]
    layers: tuple[Retained, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    notes: tuple[str, ...] = ()
    idle_pins: tuple[str, ...] = ()
    idle_globs: tuple[str, ...] = ()

    @property
    def doomed(self) -> dict[str, frozenset[Version]]:
        """By function; none where nothing of it goes."""
        return doomed(self.functions)

    @property
    def freed(self) -> int:
        return sum(each.freed for each in self.functions)

    @property
    def blind(self) -> bool:
        """Whether something stays because it could not be looked up who uses it."""
        rules = (one.rule for each in (*self.functions, *self.layers) for one in each.decisions)
        return "unseen" in rules or any(each.layers is not None for each in self.unseen)


class Spared(Value, frozen=True, kw_only=True):
    """A version that was to go and stayed, and why. `failed`: it could not be deleted, and is to be tried again."""

    name: str
    version: Version
    why: str
    failed: bool = False


class SavedPruning(Value, frozen=True, kw_only=True):
    """The file that `prune --out` writes and `apply` carries out."""

    schema: int
    prune: tuple[Pruning, ...]


@dataclass(frozen=True)
class Planned:
    """A pruning with what it was decided on, and what stays after all of an earlier one."""

    pruning: Pruning
    fleet: Fleet
    spared: tuple[Spared, ...] = ()

    @cached_property
    def members(self) -> dict[str, Member]:
        return {str(each.name): each for each in self.fleet.members}


def policy_of(declared: Retention, **given: Any) -> Policy:
    """As the file says; what is given (and not None) says otherwise."""
    told = {name: getattr(declared, name) for name in Policy.__struct_fields__}
    return Policy(**{**told, **{name: value for name, value in given.items() if value is not None}})


def plan(
    world: World, environments: Sequence[Environment], policy: Policy, failures: inventory.Failures | None = None
) -> Iterator[Planned]:
    """One for each account and region of these environments. Only looks. `failures` takes those that cannot be read."""
    seen: set[tuple[Any, ...]] = set()
    places: set[tuple[str, str]] = set()
    for environment in environments:
        key = (environment.region, environment.profile, environment.role_arn, environment.account)
        if key in seen:
            continue
        seen.add(key)
        made = inventory.place(environment, partial(look, world, environment, policy), failures)
        if made is None:
            continue
        place = (made.pruning.account, made.pruning.region)
        if place not in places:  # by other credentials it may be the same place
            places.add(place)
            yield made


def look(
    world: World,
    environment: Environment,
    policy: Policy,
    among: Mapping[str, frozenset[Version]] | None = None,
    fleet: Fleet | None = None,
) -> Planned:
    """Decide for one account and region. `among`: of these alone something may go, so only of them more is asked.

    `fleet`: what is there, where that was read already.
    """
    fleet = fleet or inventory.read(world, world.door(environment), aliases=False)
    if environment.account and fleet.account != environment.account:
        raise AccountMismatch(
            f"the credentials belong to account {fleet.account}, but {environment.name} is in account "
            f"{environment.account}",
            where=f"environment {environment.name}",
            next="Nothing was changed. Use the right profile, role or credentials.",
        )
    halt = Event()
    gateway = world.beside(say=world.say, echo=world.echo, halted=halt.is_set).door(environment).gateway
    return _Look(world, gateway, halt, environment, fleet, policy, among).decided()


@dataclass
class _Look:
    """One account and region while it is looked at. Facts are gathered until they decide, and no further."""

    world: World
    gateway: Gateway
    halt: Event
    environment: Environment
    fleet: Fleet
    policy: Policy
    among: Mapping[str, frozenset[Version]] | None
    known: dict[str, Known] = field(default_factory=dict)
    found: dict[str, Retained] = field(default_factory=dict)
    blind: list[Unseen] = field(default_factory=list)  # layers that could not be looked up

    def decided(self) -> Planned:
        fleet, names = self.fleet, frozenset(str(each.name) for each in self.fleet.members)
        held = self._held(names)
        hold_all = tuple(each for each in held if isinstance(each, Unseen))
        by_name = _grouped(each for each in held if isinstance(each, Reference))
        environments = {str(each.alias) for each in self.world.project.environments.values()}
        for each in fleet.members:
            moves = self.world.ledger.moves(each.arn)
            self.known[str(each.name)] = Known(
                references=by_name.get(str(each.name), ()),
                moves=retention.moves_by_alias(moves, frozenset(environments)),
                builds=self._builds(each) if self.policy.pins else {},
                published=self.world.ledger.published_at(each.arn),
                unseen=hold_all,
            )
        self._decide(fleet.members)
        candidates = self._candidates()
        looked, notes = looking.Looked(), tuple[str, ...]()
        listed: list[ListedLayer] = []
        newest: dict[str, int] = {}
        unseen_layers: tuple[Unseen, ...] = ()
        if self.policy.layers and self.among is None:
            try:
                every = list(self.gateway.layers())
                newest = {each.name: each.newest for each in every}
                listed = [each for each in every if each.newest > self.policy.keep_versions]
            except looking.REFUSALS as error:
                unseen_layers = (_unread("the layers", error, layers=()),)
        if candidates or listed:
            looked = self._look_around(names)
        if candidates:
            self._aliases(candidates)
            by_name = _grouped(looked.references)
            for each in candidates:
                known = self.known[str(each.name)]
                self.known[str(each.name)] = msgspec.structs.replace(
                    known,
                    references=(*by_name.get(str(each.name), ()), *known.references),
                    unseen=(*known.unseen, *looked.unseen),
                )
            self._decide(candidates)
            candidates = self._candidates()
            if len(candidates) <= PROVISIONED or self.policy.thorough:
                self._provisioned(candidates)
                self._decide(candidates)
            else:
                notes = (
                    f"provisioned concurrency of {len(candidates)} functions is asked for right before their versions "
                    "go, which stay where they have some (--thorough asks now)",
                )
        layers = self._layers(listed, looked)
        all_known = self.among is None and not unseen_layers  # or a name may be a layer's that was not listed
        pruning = Pruning(
            environment=self.environment.name,
            account=fleet.account,
            region=fleet.region,
            at=fleet.at,
            policy=self.policy,
            functions=tuple(self.found[str(each.name)] for each in fleet.members),
            layers=layers,
            unseen=_unseen((*looked.unseen, *unseen_layers, *self.blind), self.known.values()),
            notes=notes,
            idle_pins=retention.idle_pins(self.policy, fleet, self.known, newest) if all_known else (),
            idle_globs=retention.idle_globs(self.policy, (*names, *newest)) if all_known else (),
        )
        return Planned(pruning, fleet)

    def _decide(self, members: Iterable[Member]) -> None:
        for each in members:
            name = str(each.name)
            self.found[name] = retention.decide(each, self.known[name], self.policy, self.fleet.at)

    def _candidates(self) -> tuple[Member, ...]:
        """Of which something would go by what is known so far."""
        return tuple(each for each in self.fleet.members if self._may_lose(str(each.name)))

    def _may_lose(self, name: str) -> bool:
        doomed = {each.version for each in self.found[name].doomed}
        return bool(doomed) if self.among is None else bool(doomed & self.among.get(name, frozenset()))

    # What the ledger knows

    def _builds(self, member: Member) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for build in self.world.ledger.builds(member.arn).values():
            if build.version:
                found[build.version] = (*found.get(build.version, ()), str(build.id))
        return found

    def _held(self, names: frozenset[str]) -> list[Reference | Unseen]:
        """What rollouts and runs that are not finished have in hand."""
        return [*self._rollouts(), *self._runs(names)]

    def _rollouts(self) -> Iterator[Reference]:
        ledger = self.world.ledger
        seen: set[tuple[str, str]] = set()
        for entry in ledger.all_of("rollout"):
            if (entry.function, entry.subject) in seen or not self._here(entry.function):
                continue
            seen.add((entry.function, entry.subject))
            arn = FunctionArn.parse(entry.function)
            there = rollout_record.known(ledger, arn, entry.subject)
            if there and there.open:
                by = f"the rollout of alias {entry.subject} is not finished: it may serve it, or go back to it"
                for version in (there.rollout.baseline, there.rollout.canary):
                    yield Reference(function=arn.name, version=version, by=by)

    def _runs(self, names: frozenset[str]) -> Iterator[Reference | Unseen]:
        ledger = self.world.ledger
        for run in ledger.open_runs():
            if run.command not in ("deploy", "promote", "rollback"):
                continue
            entries = [
                entry
                for each in (run, *ledger.parts(run.id))
                for entry in ledger.of_run(each.id, "planned", "published", "built", "moved")
            ]
            plans = [each.body["plan"] for each in entries if "plan" in each.body]
            known = {each.function for each in entries if each.function.startswith("arn:")}
            if known and not any(self._here(each) for each in known):
                continue  # another account's or region's
            here = {str(FunctionArn.parse(each).name) for each in known if self._here(each)}
            functions = here | {str(plan["name"]) for plan in plans if plan.get("name")}
            by = f"{run.command} of {run.function} to {run.alias} (run {run.id}) is not finished"
            if not functions:
                functions = {name for each in run.members or (run.function,) if (name := self._called(each))}
            if not functions:
                why = f"{by}, and which function of Lambda's that is, is not known here; `pointsman resume` ends it"
                yield Unseen(source="a run of the ledger", why=why)
            versions = {str(each["version"]) for each in plans if each.get("version")}
            versions |= {each.subject for each in entries if each.kind == "published"}
            # One that was killed, or failed, goes on with what it had decided; before that anything may be meant.
            dead = run.host == os.uname().nodename or self.fleet.at - run.at > retention.DAY_S
            undecided = not plans and run.command != "deploy"
            any_of_them = under_way(run) or undecided or not (run.outcome or dead)
            for name in functions & names:
                if any_of_them:
                    yield Reference(function=name, version=None, by=by)
                for version in versions:
                    yield Reference(function=name, version=Version(version), by=by)

    def _here(self, arn: str) -> bool:
        try:
            parsed = FunctionArn.parse(arn)
        except ValueError:
            return False
        return (parsed.account, parsed.region) == (self.fleet.account, self.fleet.region)

    def _called(self, function: str) -> str:
        """Lambda's name of a function of the file, where that is known without asking."""
        declared = self.world.project.functions.get(function)
        return str(self.world.session(declared, self.environment).declared_name() or "") if declared else ""

    # What AWS knows

    def _look_around(self, names: frozenset[str]) -> looking.Looked:
        course = Course(self.world, "looking who names versions")
        try:
            return looking.look(
                self.gateway,
                names,
                account=self.fleet.account,
                region=self.fleet.region,
                skip=self.policy.skip,
                own=looking.environments(
                    (str(each.name), version.settings)
                    for each in self.fleet.members
                    for version in (each.latest, *each.versions)
                ),
                halt=self.halt,
                reached=course.reached,
            )
        finally:
            course.ended()

    def _aliases(self, members: Sequence[Member]) -> None:
        environments = {str(each.alias) for each in self.world.project.environments.values()}
        for each, found in self._of_each(members, "reading aliases", self.gateway.alias_versions):
            name = str(each.name)
            if isinstance(found, Unseen):
                self.known[name] = msgspec.structs.replace(self.known[name], unseen=(*self.known[name].unseen, found))
                continue
            aliases = frozenset(environments | set(found))
            moves = retention.moves_by_alias(self.world.ledger.moves(each.arn), aliases)
            self.known[name] = msgspec.structs.replace(self.known[name], aliases=found, moves=moves)

    def _provisioned(self, members: Sequence[Member]) -> None:
        for each, found in self._of_each(members, "reading provisioned concurrency", self.gateway.provisioned_of_all):
            name = str(each.name)
            if isinstance(found, Unseen):
                self.known[name] = msgspec.structs.replace(self.known[name], unseen=(*self.known[name].unseen, found))
                continue
            kept = tuple(
                Reference(function=name, version=Version(qualifier), by="it has provisioned concurrency")
                for qualifier in found
                if qualifier.isdecimal()
            )
            self.known[name] = msgspec.structs.replace(
                self.known[name], references=(*self.known[name].references, *kept)
            )

    def _of_each(
        self, members: Sequence[Member], what: str, ask: Callable[[str], T]
    ) -> Iterator[tuple[Member, T | Unseen]]:
        """(function, the answer, or that there is none): at most so many at once as AWS answers in time."""
        course = Course(self.world, what)
        with ThreadPoolExecutor(inventory.AT_ONCE) as pool:
            try:
                asked = [(each, pool.submit(ask, str(each.name))) for each in members]
                for done, (each, future) in enumerate(asked, 1):
                    try:
                        yield each, future.result()
                    except looking.REFUSALS as error:
                        yield each, _unread(what.removeprefix("reading "), error, functions=(str(each.name),))
                    course.reached(done, len(asked), f"of {done} of {counted(len(asked), 'function')}")
            except BaseException:
                self.halt.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                course.ended()

    # Layers

    def _layers(self, listed: Sequence[ListedLayer], looked: looking.Looked) -> tuple[Retained, ...]:
        used: dict[str, str] = dict(looked.layers)
        for each in self.fleet.members:
            for version in (each.latest, *each.versions):
                for arn in version.settings.get("Layers", ()):
                    used.setdefault(arn, f"{each.name}:{version.version} has it")
        made = []
        for layer in listed:
            unseen: tuple[Unseen, ...] = ()
            mine = {int(arn.rpartition(":")[2]): by for arn, by in used.items() if arn.rpartition(":")[0] == layer.arn}
            try:
                dates = self.gateway.layer_dates(layer.name)
                held = LayerHeld(name=layer.name, arn=layer.arn, made=dates, used=mine)
                for one in retention.decide_layer(held, self.policy, self.fleet.at).doomed:
                    if self.gateway.layer_is_shared(layer.name, int(one.version)):
                        mine[int(one.version)] = "its policy shares it, and who uses it there cannot be seen"
            except looking.REFUSALS as error:
                dates = {layer.newest: ""} if not isinstance(error, NotFound) else {}
                unseen = (_unread(f"layer {layer.name}", error, layers=(layer.name,)),)
                if dates and not self.policy.leaves_out(layer.name):
                    self.blind += unseen
            unseen = (*unseen, *(each for each in looked.unseen if each.skip == "cloudformation"))
            held = LayerHeld(name=layer.name, arn=layer.arn, made=dates, used=mine, unseen=unseen)
            made.append(retention.decide_layer(held, self.policy, self.fleet.at))
        return tuple(made)


def _grouped(references: Iterable[Reference]) -> dict[str, tuple[Reference, ...]]:
    found: dict[str, tuple[Reference, ...]] = {}
    for each in references:
        found[each.function] = (*found.get(each.function, ()), each)
    return found


def _unread(source: str, error: AwsError, **of: Any) -> Unseen:
    return Unseen(source=source, why=f"{error.where}: {error.what}", missing=looking.lacking(error), **of)


def _unseen(found: Iterable[Unseen], known: Iterable[Known]) -> tuple[Unseen, ...]:
    """Each once."""
    return tuple(dict.fromkeys((*found, *(each for one in known for each in one.unseen))))


def doomed(functions: Iterable[Retained]) -> dict[str, frozenset[Version]]:
    found = {each.name: frozenset(one.version for one in each.doomed) for each in functions}
    return {name: versions for name, versions in found.items() if versions}


def still(
    world: World, environment: Environment, then: Pruning, allowed: Mapping[str, frozenset[Version]],
    layers: Mapping[str, frozenset[Version]],
) -> Planned:  # fmt: skip
    """Look again: of what was decided to go, what still is to go. Nothing else goes; what stays after all says why."""
    among = dict(allowed) if not layers else None
    made = look(world, environment, then.policy, among)
    now = made.pruning
    if (now.account, now.region) != (then.account, then.region):
        raise StalePlan(
            f"the plan is of {then.account} {then.region}, and {environment.name} is {now.account} {now.region}",
            where="applying a plan of prune",
            next="Nothing was deleted. Make a new plan, and look at it.",
        )
    functions, spared = _narrowed(now.functions, allowed)
    of_layers, also = _narrowed(now.layers, layers)
    return Planned(msgspec.structs.replace(now, functions=functions, layers=of_layers), made.fleet, (*spared, *also))


def _narrowed(
    decided: Sequence[Retained], allowed: Mapping[str, frozenset[Version]]
) -> tuple[tuple[Retained, ...], tuple[Spared, ...]]:
    narrowed, spared = [], []
    for each in decided:
        goes, stays = retention.standing(each, allowed.get(each.name, frozenset()))
        spared += [Spared(name=each.name, version=one.version, why=one.reason) for one in stays]
        decisions = tuple(
            one if one.action == "keep" or one.version in goes else _not_planned(one) for one in each.decisions
        )
        narrowed.append(msgspec.structs.replace(each, decisions=decisions))
    return tuple(narrowed), tuple(spared)


def _not_planned(decision: Decision) -> Decision:
    return msgspec.structs.replace(decision, action="keep", rule="left-out", reason="it was not in the plan")


def save(path: Path, made: Sequence[Pruning]) -> None:
    try:
        path.write_bytes(to_json(SavedPruning(schema=1, prune=tuple(made))))
    except OSError as error:
        raise UsageError(f"cannot write the plan {path}: {error.strerror}", where="--out") from error


def load(path: Path) -> SavedPruning | None:
    """None where the file is no plan of prune: `release.load` says what it is then."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        return from_json(data, SavedPruning)
    except ValueError:
        return None


def again(world: World, saved: SavedPruning, failures: inventory.Failures | None = None) -> Iterator[Planned]:
    """The saved plan as it holds now, one account and region after the other."""
    for then in saved.prune:
        environment = world.environment(then.environment, then.region)
        read = partial(still, world, environment, then, then.doomed, doomed(then.layers))
        if made := inventory.place(environment, read, failures):
            yield made


def idle(made: Sequence[Planned], which: str) -> tuple[str, ...]:
    """Of `idle_pins` or `idle_globs` those that are so in every place."""
    of_each: list[tuple[str, ...]] = [getattr(each.pruning, which) for each in made]
    return tuple(one for one in of_each[0] if all(one in each for each in of_each)) if of_each else ()


def functions_named(world: World, environment: Environment, names: Sequence[str]) -> tuple[str, ...]:
    """Lambda's names of functions of the file, or Lambda's names themselves."""
    found = []
    for name in names:
        declared = world.project.functions.get(name)
        found.append(str(owners.name(world.session(declared, environment))) if declared else name)
    return tuple(found)


def must_exist(made: Sequence[Planned], names: Sequence[str]) -> None:
    """Raises UnknownTarget for a function that none of the places has."""
    there = {name for each in made for name in each.members}
    if wrong := next((name for name in names if name not in there), None):
        raise unknown("function", wrong, there, "There are")
