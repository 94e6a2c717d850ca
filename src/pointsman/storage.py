"""Reads how full the code storage is of every account and region in the file: one listing, the layers, the quotas.

Each time usage is learned a sample goes into the ledger: from those it is seen how it grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from pointsman import home, inventory, prune_plan, storing
from pointsman.aws.gateway import Quotas
from pointsman.config import Environment
from pointsman.errors import AccountMismatch, AwsError, LedgerError
from pointsman.fleet import Fleet
from pointsman.ledger import Ledger
from pointsman.model import LayerVersion, from_json, to_json
from pointsman.progress import Course
from pointsman.storing import Report, Sample
from pointsman.world import Door, World

KIND = "storage"
_APART_S = 3600.0  # samples closer than that tell nothing new


def places(environments: Iterable[Environment]) -> list[tuple[Environment, ...]]:
    """Environments by the account and region they lie in, as far as the file tells."""
    found: dict[tuple[str | None, ...], list[Environment]] = {}
    for each in environments:
        found.setdefault((each.region, each.profile, each.role_arn, each.account), []).append(each)
    return [tuple(each) for each in found.values()]


def reports(
    world: World,
    chosen: tuple[Environment, ...] = (),
    *,
    quick: bool = False,
    failures: inventory.Failures | None = None,
) -> list[Report]:
    """Every account and region of the file once, whatever they are called there. `quick`: not what prune would free.

    `failures` takes the places that cannot be read; without it the first is raised.
    """
    found: dict[tuple[str, str], Report] = {}
    for environments in places(chosen or world.everywhere()):
        report = inventory.place(environments[0], partial(_report, world, environments, quick=quick), failures)
        if report is None:
            continue
        place = (report.usage.account, report.usage.region)
        if before := found.get(place):
            report = _of_both(before, report)
        found[place] = report
    return list(found.values())


def _of_both(one: Report, other: Report) -> Report:
    """Two sets of credentials for the same place: one report, by the later reading."""
    from msgspec.structs import replace

    return replace(other, environments=(*one.environments, *other.environments))


def _report(world: World, environments: tuple[Environment, ...], *, quick: bool) -> Report:
    door = world.door(environments[0])
    quotas = door.gateway.quotas()
    fleet = inventory.read(world, door, aliases=False)
    notes: list[str] = []
    layers = _layers(world, door, notes)
    used = storing.usage(fleet, layers, code=quotas.code, limit=quotas.code_limit)
    now = world.clock.now()
    kept = samples(world.ledger, fleet.account, fleet.region)
    sample(world, fleet.account, fleet.region, quotas)
    present = Sample(at=now, code=quotas.code, limit=quotas.code_limit)
    grows = storing.growth([*kept, present], code=quotas.code, limit=quotas.code_limit, now=now)
    if not grows.basis:
        dated = storing.growth(
            storing.grown(fleet, quotas.code), code=quotas.code, limit=quotas.code_limit, now=now, basis="versions"
        )
        grows = dated if dated.basis else grows
    size, count = _published(world.ledger, fleet, now - 30 * storing.DAY_S)
    return Report(
        environments=tuple(each.name for each in environments),
        usage=used,
        growth=grows,
        prunable=None if quick else _prunable(world, environments[0], fleet, notes),
        published=size,
        published_count=count,
        notes=tuple(notes),
    )


def _prunable(world: World, environment: Environment, fleet: Fleet, notes: list[str]) -> int | None:
    """Bytes of the versions that `prune` would delete by the file's policy, as far as it could be looked at."""
    try:
        found = prune_plan.look(world, environment, prune_plan.policy_of(world.project.retention), fleet=fleet).pruning
    except (AwsError, AccountMismatch) as error:
        notes.append(f"what prune would free is not known: {error.what}")
        return None
    if found.unseen:
        notes.append("prune keeps more than it had to, for it could not look everywhere: `pointsman prune` tells where")
    return found.freed


def _layers(world: World, door: Door, notes: list[str]) -> list[LayerVersion]:
    """Every version of every layer with its size: a list does not tell that, so it is asked for once, and kept."""
    course = Course(world, f"reading layers of {door.wire.region}")
    found: list[LayerVersion] = []
    file = world.project.root / home.NAME / "cache" / "layers.json"
    known: dict[str, tuple[int, str]] = {}
    if not world.local:  # a local AWS that was reset uses the same ARNs again
        with suppress(OSError, ValueError):
            known = from_json(file.read_bytes(), dict[str, tuple[int, str]])
    try:
        for layer in door.gateway.layers():
            for each in door.gateway.layer_versions(layer.name):
                if each.arn not in known and (whole := door.gateway.layer_version(each.arn)):
                    known[each.arn] = (whole.size, whole.sha256)
                if each.arn in known:
                    size, sha256 = known[each.arn]
                    found.append(LayerVersion(arn=each.arn, size=size, sha256=sha256))
                    course.reached(len(found), None, f"{len(found)} versions of layers")
    except AwsError as error:
        notes.append(f"layers could not be looked at: {error.what}. What they take is among the rest")
        return []
    finally:
        course.ended()
        if known and not world.local:
            with suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(to_json(known))
    return found


# Samples


def sample(world: World, account: str, region: str, quotas: Quotas) -> None:
    """Keep what was just learned, once an hour at most. A ledger that cannot be written stops nobody from looking."""
    with suppress(LedgerError):
        ledger, now = world.ledger, world.clock.now()
        newest = ledger.newest(KIND, f"{account} {region}")
        if newest is None or not 0 <= now - newest.at < _APART_S:
            ledger.append("", KIND, subject=f"{account} {region}", code=quotas.code, limit=quotas.code_limit)
            ledger.flush()


def samples(ledger: Ledger, account: str, region: str) -> list[Sample]:
    place = f"{account} {region}"
    return [
        Sample(at=each.at, code=each.body["code"], limit=each.body["limit"])
        for each in ledger.all_of(KIND)
        if each.subject == place
    ]


def _published(ledger: Ledger, fleet: Fleet, since: float) -> tuple[int, int]:
    """(bytes, versions) that were published from here since then, deleted ones too."""
    where = f":lambda:{fleet.region}:{fleet.account}:function:"
    found = {
        (each.function, each.subject): int(each.body.get("size") or 0)
        for each in ledger.all_of("published")
        if each.at >= since and where in each.function
    }
    return sum(found.values()), len(found)


__all__ = ["KIND", "places", "reports", "sample", "samples"]
