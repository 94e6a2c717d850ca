"""Pruning: delete what is decided, and nothing else.

A function's aliases are read again right before its versions go; what gained protection since it was decided stays.
Every deletion is in the ledger before it is sent, deleting what is gone is no error: so it may be stopped anywhere, go
on anywhere, and run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any

from pointsman import inventory, leases, prune_plan, retention
from pointsman import references as looking
from pointsman.config import Environment
from pointsman.errors import (
    AccessDenied,
    Ambiguous,
    AwsError,
    Conflict,
    Interrupted,
    InvalidRequest,
    LedgerError,
    LostRace,
    NotFound,
    PointsmanError,
)
from pointsman.fleet import Fleet
from pointsman.ledger import Run, under_way
from pointsman.model import Configuration, Value, Version, counted, from_json, plain, to_json
from pointsman.progress import Course
from pointsman.retention import Policy, Retained, spans, within
from pointsman.world import Door, World

COMMAND = "prune"
AT_ONCE = 16  # deletions under way together
LEASE_S = 60.0
BeforeDelete = Callable[[World, Door, Sequence[Configuration], Fleet], object]
"""Called with the versions that are to go, before the first of them does. Where it raises PointsmanError they stay."""


class Pruned(Value, frozen=True, kw_only=True):
    """What became of it. `deleted`: versions by function, in short ("1-30, 33"); `freed` in bytes."""

    environment: str
    account: str
    region: str
    run: str
    deleted: dict[str, str]
    layers: dict[str, str]
    versions: int
    freed: int
    spared: tuple[prune_plan.Spared, ...] = ()
    backed_up: int = 0  # versions of functions

    @property
    def failed(self) -> tuple[prune_plan.Spared, ...]:
        return tuple(each for each in self.spared if each.failed)


def carry_out(
    world: World,
    made: prune_plan.Planned,
    *,
    before_delete: BeforeDelete | None = None,
    resumes: str = "",
    agreed: float | None = None,
) -> Pruned:
    """Delete what is decided. Raises LostRace while another prune of this account and region is at work.

    `agreed`: when somebody said that it may go, in epoch seconds, where that was not just now.
    """
    pruning = made.pruning
    environment = world.environment(pruning.environment, pruning.region)
    request: dict[str, object] = {
        "policy": plain(pruning.policy),
        "account": pruning.account,
        "region": pruning.region,
    }
    request["agreed"] = world.clock.now() if agreed is None else agreed
    run = world.begin(world.run_id(), COMMAND, (), environment, {**request, "resumes": resumes})
    try:
        with _alone(world, run.id, pruning):
            world.ledger.append(
                run.id,
                "planned",
                subject=f"{pruning.account} {pruning.region}",
                doomed={name: spans(versions) for name, versions in pruning.doomed.items()},
                layers={name: spans(versions) for name, versions in prune_plan.doomed(pruning.layers).items()},
            )
            done = _Deletion(world, environment, run.id, made, before_delete).done()
    except BaseException as error:
        world.end_badly(run.id, error)
        raise
    if done.failed:
        world.ledger.end(run.id, "failed", f"{counted(len(done.failed), 'version')} could not be deleted")
    else:
        world.ledger.end(run.id, "done" if done.versions or done.layers else "unchanged")
    return done


def resume(world: World, run: Run) -> prune_plan.Planned:
    """What is left of an interrupted prune, as it holds now: of what it was to delete, and nothing else."""
    if under_way(run):
        raise LostRace(f"prune (run {run.id}) is still under way", next=f"Wait for process {run.pid} of {run.by}.")
    asked = run.request
    policy = from_json(to_json(asked["policy"]), Policy)
    then = prune_plan.Pruning(
        environment=run.environment,
        account=asked["account"],
        region=asked["region"],
        at=run.at,
        policy=policy,
        functions=(),
    )
    allowed, layers = meant(world, run)
    environment = world.environment_of(run)
    made = inventory.place(environment, partial(prune_plan.still, world, environment, then, allowed, layers))
    assert made is not None  # or it was raised
    return made


def meant(world: World, run: Run) -> tuple[dict[str, frozenset[Version]], dict[str, frozenset[Version]]]:
    """What a prune was to delete: versions of functions, and of layers; nothing where it had not decided yet."""
    entries = world.ledger.of_run(run.id, "planned")
    body = entries[-1].body if entries else {"doomed": {}, "layers": {}}
    functions, layers = body["doomed"], body["layers"]
    return (
        {name: within(text) for name, text in functions.items()},
        {name: within(text) for name, text in layers.items()},
    )


def agreed(run: Run, now: float) -> float | None:
    """When it was agreed to, if that still holds: for a day. Later nobody may remember what it was about."""
    at = float(run.request.get("agreed") or run.at)
    return at if 0 <= now - at < retention.DAY_S else None


@contextmanager
def _alone(world: World, run: str, pruning: prune_plan.Pruning) -> Iterator[None]:
    """Two at once would do no harm, only the work twice: deleting what is gone is no error."""
    place = f"{pruning.account} {pruning.region}"

    def taken(by: str) -> LostRace:
        return LostRace(
            f"another prune is at work there: {by}",
            where=f"pruning {place}",
            next=f"Nothing was deleted. Wait for it; one that died is replaced after {LEASE_S:g} s.",
        )

    with (
        leases.alone(world.ledger, f"prune {place}", run, LEASE_S, taken) as lease,
        leases.beating(world.ledger, lease, LEASE_S / 4, LEASE_S),
    ):
        yield


@dataclass
class _Deletion:
    """Functions one after the other, their versions side by side: no function's aliases are read long before it."""

    world: World
    environment: Environment
    run: str
    made: prune_plan.Planned
    before_delete: BeforeDelete | None
    halt: Event = field(default_factory=Event)
    deleted: dict[str, list[Version]] = field(default_factory=dict)
    spared: list[prune_plan.Spared] = field(default_factory=list)
    barred: dict[str, str] = field(default_factory=dict)  # functions of which nothing may be deleted, and why
    kept: int = 0  # versions that were backed up

    def __post_init__(self) -> None:
        beside = self.world.beside(say=self.world.say, echo=self.world.echo, halted=self.halt.is_set)
        self.door = beside.door(self.environment, self.run)
        self.spared += self.made.spared

    def done(self) -> Pruned:
        pruning = self.made.pruning
        work = {each.name: tuple(one.version for one in each.doomed) for each in pruning.functions if each.doomed}
        course = Course(self.world, f"pruning {pruning.account} {pruning.region}")
        self._back_up(work)
        total = sum(map(len, work.values()))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                self._all(pool, work, lambda count: course.reached(count, total, f"{count} of {total} versions"))
                layers = self._layers(pruning.layers)
            except BaseException:
                self.halt.set()
                pool.shutdown(wait=True, cancel_futures=True)
                with suppress(LedgerError):  # each deletion is there already
                    self._told()
                raise
            finally:
                course.ended()
        freed = self._told()
        return Pruned(
            environment=pruning.environment,
            account=pruning.account,
            region=pruning.region,
            run=self.run,
            deleted={name: spans(versions) for name, versions in self.deleted.items()},
            layers=layers,
            versions=sum(map(len, self.deleted.values())),
            freed=freed,
            spared=tuple(self.spared),
            backed_up=self.kept,
        )

    def _all(
        self, pool: ThreadPoolExecutor, work: dict[str, tuple[Version, ...]], reached: Callable[[int], None]
    ) -> None:
        looks: dict[Future[Any], str] = {}
        deletes: dict[Future[Any], tuple[str, Version]] = {}
        left, ready = list(reversed(work)), list[tuple[str, Version]]()
        count = 0
        while left or ready or looks or deletes:
            while ready and len(deletes) < 2 * AT_ONCE:
                name, version = ready.pop()
                deletes[pool.submit(self._delete, name, version)] = (name, version)
            # The next functions are looked at when their turn is near, and not before.
            while left and len(looks) < AT_ONCE and len(ready) < AT_ONCE:
                name = left.pop()
                looks[pool.submit(self._in_use, name)] = name
            done, _ = wait([*looks, *deletes], return_when=FIRST_COMPLETED)
            for future in done:
                if future in looks:
                    name = looks.pop(future)
                    goes = self._once_more(name, work[name], future)
                    ready[:0] = [(name, version) for version in reversed(goes)]
                    count += len(work[name]) - len(goes)
                else:
                    name, version = deletes.pop(future)
                    self._settle(name, version, future)
                    count += 1
            reached(count)

    def _back_up(self, work: dict[str, tuple[Version, ...]]) -> None:
        """All of them at once; where that fails, each function by itself: what is not backed up is not deleted.

        Of a function that cannot be kept whole, each version by itself, until two fail for the same reason.
        """
        if self.before_delete is None or not work:
            return
        there = {name: {each.version: each for each in member.versions} for name, member in self.made.members.items()}
        doomed = {name: [there[name][version] for version in versions] for name, versions in work.items()}
        fleet = self.made.fleet
        try:
            self.before_delete(self.world, self.door, [one for each in doomed.values() for one in each], fleet)
            self.kept = sum(map(len, doomed.values()))
            return
        except Interrupted:
            raise
        except PointsmanError as error:
            self.world.say(f"the backup failed: {error.what}; again, function by function")
        for name, versions in doomed.items():
            why = self._backup_of(versions)
            failed: dict[Version, str] = {}
            of_all = why if len(versions) == 1 else ""
            for each in versions if why else ():
                one = of_all or self._backup_of([each])
                if one in failed.values():
                    of_all = one  # it is about none of them: the place is full, or not there
                if one:
                    failed[each.version] = one
            for version, one in failed.items():
                self._spare(name, (version,), f"its backup failed: {one}", failed=True)
            work[name] = tuple(version for version in work[name] if version not in failed)
            if not work[name]:
                del work[name]

    def _backup_of(self, versions: Sequence[Configuration]) -> str:
        """Why they could not be backed up; "" where they are."""
        assert self.before_delete is not None
        try:
            self.before_delete(self.world, self.door, versions, self.made.fleet)
        except Interrupted:
            raise
        except PointsmanError as error:
            return error.what
        self.kept += len(versions)
        return ""

    def _in_use(self, name: str) -> dict[str, str]:
        """By version, why it stays: what can cheaply be read once more."""
        gateway = self.door.gateway
        found = {
            str(version): f"alias {alias} names it by now"
            for alias, serves in gateway.alias_versions(name).items()
            for version in serves
        }
        return {**dict.fromkeys(gateway.provisioned_of_all(name), "it has provisioned concurrency"), **found}

    def _once_more(
        self, name: str, versions: tuple[Version, ...], future: Future[dict[str, str]]
    ) -> tuple[Version, ...]:
        """What is still not in use."""
        try:
            used = future.result()
        except NotFound:
            used = {}  # the function is gone, its versions with it
        except looking.REFUSALS as error:
            self._spare(name, versions, f"whether it is in use could not be read again: {error.what}", failed=True)
            return ()
        for version in versions:
            if version in used:
                self._spare(name, (version,), used[version])
        return tuple(version for version in versions if version not in used)

    def _delete(self, name: str, version: Version) -> str:
        """Why it stays after all; "" where it is gone."""
        if why := self.barred.get(name):
            return why
        gateway = self.door.gateway
        if self.made.pruning.policy.thorough and gateway.policy(name, version):
            return "it has permissions of its own: somebody calls it by its number"
        _surely(partial(gateway.delete_version, name, version))
        return ""

    def _settle(self, name: str, version: Version, future: Future[str]) -> None:
        try:
            why = future.result()
        except (Conflict, InvalidRequest) as error:  # an alias names it by now; CloudFront has replicas of it
            self._spare(name, (version,), error.what)
        except AccessDenied as error:
            why = self.barred.setdefault(name, _denied(error, name, version))
            self._spare(name, (version,), why, failed=True)
        else:
            if why:
                self._spare(name, (version,), why, failed=name in self.barred)
            else:
                self.deleted.setdefault(name, []).append(version)

    def _spare(self, name: str, versions: Iterable[Version], why: str, *, failed: bool = False) -> None:
        self.spared += [prune_plan.Spared(name=name, version=version, why=why, failed=failed) for version in versions]

    def _unsaved(self, doomed: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Those that could not be backed up, and why."""
        from pointsman import backups

        try:
            return backups.save_layers(self.world, self.door, doomed, self.world.say)
        except Interrupted:
            raise
        except PointsmanError as error:
            return dict.fromkeys(doomed, error.what)

    def _layers(self, layers: Sequence[Retained]) -> dict[str, str]:
        gone: dict[str, list[Version]] = {}
        doomed = [(layer.name, int(each.version)) for layer in layers for each in layer.doomed]
        unsaved = self._unsaved(doomed) if self.before_delete and doomed else {}
        for layer in layers:
            for each in layer.doomed:
                number = int(each.version)
                if why := unsaved.get((layer.name, number)):
                    self._spare(f"layer {layer.name}", (each.version,), f"its backup failed: {why}", failed=True)
                    continue
                try:
                    _surely(partial(self.door.gateway.delete_layer_version, layer.name, number))
                except (AccessDenied, Conflict, InvalidRequest) as error:
                    why = _denied(error, layer.name, each.version)
                    self._spare(f"layer {layer.name}", (each.version,), why, failed=True)
                else:
                    gone.setdefault(layer.name, []).append(each.version)
        return {name: spans(versions) for name, versions in gone.items()}

    def _told(self) -> int:
        """Written down, a line a function: what went, and how many bytes that frees."""
        freed = 0
        for name, versions in self.deleted.items():
            member = self.made.members[name]
            sizes = {each.version: each.code_size for each in member.versions}
            size = sum(sizes[version] for version in versions)
            freed += size
            facts = {"versions": spans(versions), "count": len(versions), "freed": size}
            self.world.ledger.append(self.run, "pruned", function=str(member.arn), subject=name, **facts)
        return freed


def _denied(error: AwsError, name: str, version: Version) -> str:
    """What AWS says, as it holds for all versions; and the permission, where AWS does not name it."""
    told = error.what.replace(f"{name}:{version}", name).rstrip(".")
    needed = looking.lacking(error)
    return told if needed in told else f"{told}. The credentials need {needed}"


def _surely(send: Callable[[], object]) -> None:
    """Deleting what is gone is no error, so a lost answer is asked for again."""
    for left in (2, 1, 0):
        try:
            send()
        except Ambiguous:
            if not left:
                raise
        else:
            return
