"""Whether two versions may stand on one weighted alias, and what is to be kept ready of them meanwhile. Pure.

Of provisioned concurrency AWS documents, or users report, four rules that decide all of it:

1. A version has one configuration: its own, or that of one alias which reaches it (a weight counts).
2. An alias that has one may be given weights. While they stand, its configuration cannot be changed.
3. An alias that has one takes it along to another version. Until that is ready (minutes) AWS gives the version before
   all the weight, and then takes the weight away; where the new version cannot start, the weight stays for good.
4. SnapStart and provisioned concurrency exclude each other.

So: where the *version* that is served has one, the canary is given as much of its own before it gets traffic, and who
is not served in the end gives back. Where the *alias* has one, the canary cannot have its own (1), and nothing can be
prepared on it: AWS shares the alias's between the two as their weights go.
https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
https://docs.aws.amazon.com/lambda/latest/api/API_GetProvisionedConcurrencyConfig.html ("fluctuates")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.model import Alias, AliasName, Configuration, KeptReady, Routing, Value, Version, counted, role_name

# What makes the two incomparable in time, and in what words.
_TIMED = (
    ("Architectures", "architecture"),
    ("Runtime", "runtime"),
    ("MemorySize", "memory"),
    ("VpcConfig", "network"),
    ("SnapStart", "SnapStart"),
    ("EphemeralStorage", "/tmp"),
    ("Layers", "layers"),
    ("TracingConfig", "tracing"),
)
_ALL_AT_ONCE = "`--all-at-once` moves the alias in one step."


def may_share(baseline: Configuration, canary: Configuration) -> tuple[str, ...]:
    """Why AWS lets the two not share an alias, each reason with what to do; () where it does.

    https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html: the same execution role, the same
    dead-letter configuration or none, both published. It names no other rule.
    """
    reasons: list[str] = []
    for each in (baseline, canary):
        if not each.version.published:
            reasons.append(f"{each.version} is not published, and only published versions can share an alias. Deploy.")
    if baseline.version == canary.version:
        reasons.append(f"the alias serves version {canary.version} already: there is nothing to roll out.")
    role, other = baseline.settings.get("Role", ""), canary.settings.get("Role", "")
    if role != other:
        reasons.append(
            f"version {baseline.version} has the role {role_name(role)}, version {canary.version} "
            f"{role_name(other)}: Lambda lets versions share an alias only with the same role. "
            f"Publish the canary with the same role (its rights may differ), or {_ALL_AT_ONCE}"
        )
    queue, another = baseline.settings.get("DeadLetterConfig"), canary.settings.get("DeadLetterConfig")
    if queue != another:
        reasons.append(
            f"version {baseline.version} has the dead-letter queue {queue or '(none)'}, version {canary.version} "
            f"{another or '(none)'}: Lambda lets versions share an alias only with the same one. "
            "Publish the canary with the same, or let the alias's event-invoke configuration say where failed events "
            f"go (it is no part of a version); or {_ALL_AT_ONCE}"
        )
    return tuple(reasons)


def differences(baseline: Configuration, canary: Configuration) -> tuple[str, ...]:
    """What AWS allows and yet makes durations hard to compare."""
    found = [
        f"{words} differs: {_said(baseline.settings.get(key))} in version {baseline.version}, "
        f"{_said(canary.settings.get(key))} in version {canary.version}; durations show that, too"
        for key, words in _TIMED
        if baseline.settings.get(key) != canary.settings.get(key)
    ]
    if baseline.settings.get("Timeout", 0) > canary.settings.get("Timeout", 0):
        found.append(
            f"version {canary.version} times out after {canary.settings.get('Timeout')} s, "
            f"version {baseline.version} after {baseline.settings.get('Timeout')} s: calls may fail for that alone"
        )
    return tuple(found)


def _said(value: Any) -> str:
    match value:
        case None:
            return "none"
        case list():
            return ", ".join(map(str, value))
        case dict():
            return "another" if value else "none"
        case _:
            return str(value)


# What is kept ready


class Preparation(Value, frozen=True, kw_only=True):
    """What is to be done before the canary gets traffic.

    `refused`: why it cannot be, each with what to do. `number`: so many environments are to be kept ready of the
    canary's version (0: none). `waits_for`: qualifiers that have some already and must be ready first. `shares`: so
    many the alias itself has, which AWS divides between the two. `notes`: what the person asking should know.
    """

    refused: tuple[str, ...] = ()
    number: int = 0
    waits_for: tuple[str, ...] = ()
    shares: int = 0
    notes: tuple[str, ...] = ()


def preparation(
    alias: AliasName,
    baseline: Version,
    canary: Configuration,
    kept: Mapping[str, KeptReady],
    aliases: Sequence[Alias],
) -> Preparation:
    """`kept`: what is kept ready of the function, by version or alias. `aliases`: those it has."""
    version, own = canary.version, kept.get(alias)
    snap = canary.settings.get("SnapStart") == "PublishedVersions"
    others = [each for each in aliases if each.name != alias and each.name in kept and version in names(each.routing)]
    holders = [str(version)] if str(version) in kept else [str(each.name) for each in others]
    if own:
        return _of_alias(alias, version, own, holders, snap=snap)
    if holders:
        what = kept[holders[0]]
        note = f"{holders[0]} keeps {counted(what.number, 'environment')} of version {version} ready: it stays theirs"
        failed = f"{holders[0]}: {_failed(what)}" if what.status == "FAILED" else ""
        return Preparation(waits_for=() if failed else (holders[0],), notes=(note, *([failed] if failed else [])))
    before = kept.get(baseline)
    if before is None:
        lent = [each for each in aliases if each.name in kept and baseline in names(each.routing)]
        note = (
            f"version {baseline} is kept ready for {lent[0].name}, not for {alias}; the canary is not" if lent else ""
        )
        return Preparation(notes=(note,) if note else ())
    if snap:
        note = (
            f"version {baseline} has provisioned concurrency, version {version} has SnapStart, and Lambda excludes both"
        )
        return Preparation(notes=(f"{note}: the canary is restored from its snapshot instead",))
    if before.status == "FAILED":
        return Preparation(notes=(f"version {baseline}: {_failed(before)}; the canary is given none",))
    return Preparation(number=before.number)


def _of_alias(alias: AliasName, version: Version, own: KeptReady, holders: list[str], *, snap: bool) -> Preparation:
    refused: list[str] = []
    if own.status == "FAILED":
        refused.append(
            f"{alias}: {_failed(own)}. Put it right, or delete it, first: "
            "while it has failed, AWS may hold all traffic on the version before."
        )
    if holders:
        refused.append(
            f"{alias} has provisioned concurrency, and so has {holders[0]} for version {version}: Lambda allows one "
            f"configuration a version. Delete that of {holders[0]} (delete-provisioned-concurrency-config)."
        )
    if snap:
        refused.append(
            f"{alias} has provisioned concurrency, version {version} has SnapStart, and Lambda excludes both. "
            "Publish the canary without SnapStart, or delete the alias's provisioned concurrency."
        )
    notes = (
        f"{alias} itself has {counted(own.number, 'provisioned environment')}: AWS divides them as the weights go, and "
        "lets nothing be prepared for the canary, whose first calls may start cold",
        "at the end AWS keeps all traffic on the version before until the canary's are ready: 2 to 8 minutes",
        "to have the canary ready before its first call, provision the version rather than the alias",
    )
    return Preparation(refused=tuple(refused), shares=own.number, waits_for=(alias,), notes=notes)


def _failed(kept: KeptReady) -> str:
    return f"its provisioned concurrency of {kept.number} failed: {kept.reason or 'AWS gives no reason'}"


def names(routing: Routing) -> tuple[Version, ...]:
    """The versions an alias reaches, whatever the weight."""
    return (routing.version, routing.canary.version) if routing.canary else (routing.version,)


def costs(prepared: Preparation, *, memory_mb: int, lasts_s: float) -> tuple[str, ...]:
    """What is paid for twice, and for how long: to be told before the start."""
    minutes = max(1, round(lasts_s / 60))
    if prepared.number:
        more = prepared.number * memory_mb / 1024 * lasts_s
        return (
            f"{counted(prepared.number, 'provisioned environment')} of {memory_mb} MB twice for about {minutes} min "
            f"({more:,.0f} GB-s more), and for the 1 to 10 minutes that starting them takes",
        )
    if prepared.shares:
        return (
            f"{counted(prepared.shares, 'provisioned environment')} of {memory_mb} MB twice while the alias moves at "
            "the end: 2 to 8 minutes",
        )
    return ()


# Giving back


class Provisioned(Value, frozen=True, kw_only=True):
    """What was set aside for a rollout, as the ledger keeps it.

    `number` environments were asked for `canary`, `made` is when in AWS's words ("" while that is not known: asked
    for, and no answer yet). `before`: what `baseline` had then.
    """

    alias: AliasName
    baseline: Version
    canary: Version
    number: int
    before: KeptReady
    made: str = ""


class Return(Value, frozen=True, kw_only=True):
    """Which versions' configurations go, and `notes` on what stays, though it was expected to go, and why."""

    versions: tuple[Version, ...] = ()
    notes: tuple[str, ...] = ()


def returned(
    provisioned: Provisioned, serves: Routing | None, kept: Mapping[str, KeptReady], aliases: Sequence[Alias]
) -> Return:
    """What is no longer needed, read off what the alias serves now (`serves`, None where it is gone).

    However the rollout ended, and whoever ended it: of its two versions the one that is not served gives back. What
    has another number or time than this rollout left or found was changed by somebody else meanwhile, and stays.
    """
    mine, end = provisioned, names(serves) if serves else ()
    if mine.canary not in end:
        return _back(mine.canary, kept, mine.number, mine.made)
    if mine.baseline in end:
        return Return(notes=(f"{mine.alias} serves both versions: both stay ready",))
    if users := [each.name for each in aliases if each.name != mine.alias and mine.baseline in names(each.routing)]:
        note = f"{_stays(mine.baseline, mine.before.number)}: {users[0]} serves it"
        return Return(notes=(note,) if str(mine.baseline) in kept else ())
    return _back(mine.baseline, kept, mine.before.number, mine.before.modified)


def _back(version: Version, kept: Mapping[str, KeptReady], number: int, modified: str) -> Return:
    found = kept.get(str(version))
    if found is None:
        return Return()
    if found.number != number or (modified and found.modified != modified):
        return Return(notes=(f"{_stays(version, found.number)}: somebody set it meanwhile",))
    return Return(versions=(version,))


def _stays(version: Version, number: int) -> str:
    return f"{counted(number, 'provisioned environment')} of version {version} stay, and are paid for"


# What AWS itself does to the alias


def is_aws_moving(wanted: Routing, was: Version, found: Routing, kept: KeptReady | None) -> bool:
    """Whether `found` is what AWS makes of an alias on its way from version `was` to `wanted`, and no drift.

    `kept`: the alias's provisioned concurrency. Without some AWS never adds a weight. The alias's revision id changes
    when AWS takes the weight away: read it again then.
    """
    if not _held_by_aws(wanted, was, found) or kept is None or kept.status == "FAILED":
        return False
    return kept.status == "IN_PROGRESS" or (found.canary is not None and float(found.canary.weight) == 1.0)


def is_aws_stuck(wanted: Routing, was: Version, found: Routing, kept: KeptReady | None) -> bool:
    """Whether AWS gave up on the way: `was` serves everything, and will until somebody clears the weight."""
    return _held_by_aws(wanted, was, found) and kept is not None and kept.status == "FAILED"


def _held_by_aws(wanted: Routing, was: Version, found: Routing) -> bool:
    return (
        wanted.canary is None
        and found.version == wanted.version
        and found.canary is not None
        and found.canary.version == was
    )


__all__ = [
    "Preparation",
    "Provisioned",
    "Return",
    "costs",
    "differences",
    "is_aws_moving",
    "is_aws_stuck",
    "may_share",
    "names",
    "preparation",
    "returned",
]
