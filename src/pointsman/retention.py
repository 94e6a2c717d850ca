"""Which versions may go, and why each of the others stays. Pure.

`decide` says something of every version: keep or delete, and the reason in words. The first rule that holds keeps it:
`$LATEST`; an alias; whoever names it by its number; a rollout or a run that is not finished; the deployments a rollback
would want; pins; names that are left out; the newest ones; the young ones. What could not be looked up keeps whatever
it might have named: absence of evidence is no reason to delete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from pointsman.deployments import deployments
from pointsman.fleet import Fleet, Member
from pointsman.model import LATEST, Configuration, Move, Value, Version, few
from pointsman.moments import epoch

DAY_S = 86_400
Rule: TypeAlias = Literal[
    "latest", "alias", "reference", "deployment", "pin", "left-out", "newest", "young", "unseen", "surplus"
]


class Policy(Value, frozen=True, kw_only=True):
    """What is kept beside what is in use. `keep_deployments`: of each alias; `keep_versions`: of each function.

    `pins`: "7", "101" (a build's id), "version:7", "build:101", and each of them of one function, as in "checkout:7",
    "checkout:build:101"; of a layer, "common:3". `only`, `but`: names of functions and layers, as
    globs; what they leave out is kept whole. `skip`: services that are not looked at. `thorough`: before a version is
    deleted it is asked for permissions of its own.
    """

    keep_deployments: int = 10
    keep_days: float = 30
    keep_versions: int = 10
    pins: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    layers: bool = True
    thorough: bool = False

    def leaves_out(self, name: str) -> bool:
        wanted = not self.only or any(fnmatchcase(name, glob) for glob in self.only)
        return not wanted or any(fnmatchcase(name, glob) for glob in self.but)

    def pinned(self, name: str, version: str, builds: Iterable[str] = ()) -> str:
        """The pin that says so, "" where none does."""
        return next((pin for pin in self.pins if _means(pin, name, version, builds)), "")

    def pinned_layer(self, name: str, number: int) -> str:
        """The same for a layer's version: a pin of one names the layer."""
        pins = (pin for pin in self.pins if pin.startswith(f"{name}:"))
        return next((pin for pin in pins if _kind(pin.removeprefix(f"{name}:"), str(number), ())), "")


def _means(pin: str, name: str, version: str, builds: Iterable[str]) -> bool:
    """A function that is called "build" or "version" makes "build:7" mean either: what may be meant is kept."""
    of_one = pin.removeprefix(f"{name}:")
    return _kind(pin, version, builds) or (of_one != pin and _kind(of_one, version, builds))


def _kind(which: str, version: str, builds: Iterable[str]) -> bool:
    """As `promote` and `restore` read it."""
    kind, _, rest = which.partition(":")
    return (
        which == version
        or which in builds
        or (kind == "version" and rest == version)
        or (kind == "build" and rest in builds)
    )


class Reference(Value, frozen=True, kw_only=True):
    """Somebody who names a version of a function by its number; no version: who may mean any of them.

    `by` is who, as in "`by` names it": "rule nightly on bus default".
    """

    function: str
    version: Version | None
    by: str


class Unseen(Value, frozen=True, kw_only=True):
    """What could not be looked up, and why. `functions`: only these could have been named there; None: any.

    None at all where it is layers that could not be looked up: `layers`, by name; () for all of them. `skip` is what
    the service is left out by, `missing` the permission that was not there; "" where it is neither.
    """

    source: str
    why: str
    functions: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    skip: str = ""
    missing: str = ""

    @property
    def holds(self) -> str:
        """What stays for it, in words."""
        if self.layers is not None:
            whose = f"layer {few(self.layers)}" if self.layers else "all layers"
            return f"the versions of {whose} stay, and functions are decided all the same"
        if self.functions is not None:
            return f"the versions of {few(self.functions)} stay, and others are decided all the same"
        return "it may name any version of any function, so all stay that were to go"

    @property
    def way_out(self) -> str:
        needs = f"The credentials need {self.missing}" if self.missing else ""
        skips = f"`--skip {self.skip}` decides without it" if self.skip else ""
        skips = "`[retention] layers = false` leaves them alone" if self.layers is not None else skips
        return "; ".join(filter(None, (needs, skips)))


class Known(Value, frozen=True, kw_only=True):
    """What is known of one function beside its versions. `aliases`: what each names, weights (of 0, too) included.

    From the ledger: `moves` by alias, oldest first; `builds` and `published` (epoch seconds) by version.
    """

    aliases: Mapping[str, tuple[Version, ...]] = {}
    references: tuple[Reference, ...] = ()
    moves: Mapping[str, tuple[Move, ...]] = {}
    builds: Mapping[str, tuple[str, ...]] = {}
    published: Mapping[str, float] = {}
    unseen: tuple[Unseen, ...] = ()


class Decision(Value, frozen=True, kw_only=True):
    """`size` in bytes: what the account's code storage has of it."""

    version: Version
    action: Literal["keep", "delete"]
    rule: Rule
    reason: str
    size: int = 0


class Retained(Value, frozen=True, kw_only=True):
    """What is decided of each version of one function or layer, oldest first."""

    name: str
    arn: str
    decisions: tuple[Decision, ...]
    notes: tuple[str, ...] = ()

    @property
    def doomed(self) -> tuple[Decision, ...]:
        return tuple(each for each in self.decisions if each.action == "delete")

    @property
    def freed(self) -> int:
        return sum(each.size for each in self.doomed)


def decide(member: Member, known: Known, policy: Policy, now: float) -> Retained:
    """Every version's decision. Equal inputs give equal decisions; `now` in epoch seconds."""
    name = str(member.name)
    named: dict[Version | None, tuple[Rule, str]] = {}  # None: all of them

    def keep(version: Version | None, rule: Rule, reason: str) -> None:
        named.setdefault(version, (rule, reason))

    for alias, serves in sorted(known.aliases.items()):
        for place, version in enumerate(serves):
            keep(version, "alias", f"alias {alias} {'names it beside another' if place else 'serves it'}")
    for one in known.references:
        keep(one.version, "reference", one.by)
    for alias, version, place in _wanted(known, policy):
        back = f"{place} before the one it serves" if place else "the last one the ledger knows"
        keep(version, "deployment", f"deployment of alias {alias} that a rollback would want ({back})")

    left_out = policy.leaves_out(name)
    order = {each.version: place for place, each in enumerate(reversed(member.versions))}  # 0: the newest
    decisions = []
    for each in member.versions:
        version, newer = each.version, order[each.version]
        at = _born(each.modified, known.published.get(version))
        days = (now - at) / DAY_S if at is not None else None
        builds = called(each, known)
        keeps = named.get(version) or named.get(None)
        if keeps is None and (pin := policy.pinned(name, version, builds)):
            keeps = "pin", f"pinned ({pin})"
        if keeps is None and left_out:
            keeps = "left-out", f"{name} is left out by the names given"
        if keeps is None:
            keeps = _spared(newer, days, policy, "version")
        if keeps is None and (unseen := _blind(name, known.unseen)):
            keeps = "unseen", f"it may be in use: {unseen}"
        reason = keeps[1] if keeps else f"{_aged(days)} old, {newer} newer, and nobody names it"
        decisions.append(
            Decision(
                version=version,
                action="keep" if keeps else "delete",
                rule=keeps[0] if keeps else "surplus",
                reason=reason,
                size=each.code_size,
            )
        )
    unpublished = "$LATEST is the function itself, and never deleted"
    size = member.latest.code_size
    decisions.append(Decision(version=LATEST, action="keep", rule="latest", reason=unpublished, size=size))
    return Retained(
        name=name,
        arn=str(member.arn),
        decisions=tuple(decisions),
        notes=_notes(known, any(each.action == "delete" for each in decisions)),
    )


def called(version: Configuration, known: Known) -> tuple[str, ...]:
    """The builds it is of: by the ledger, and by its own description."""
    return (*known.builds.get(version.version, ()), *([version.description] if version.description else []))


def idle_pins(policy: Policy, fleet: Fleet, known: Mapping[str, Known], layers: Mapping[str, int]) -> tuple[str, ...]:
    """Pins that no version of a function or layer is meant by. `layers`: their newest numbers, by name."""
    left = set(policy.pins)
    for member in fleet.members:
        for each in member.versions if left else ():
            builds = called(each, known[str(member.name)])
            left -= {pin for pin in left if _means(pin, str(member.name), each.version, builds)}
    for pin in tuple(left):
        name, _, rest = pin.partition(":")
        number = rest.removeprefix("version:")
        if name in layers and number.isdecimal() and 1 <= int(number) <= layers[name]:
            left.discard(pin)
    return tuple(pin for pin in policy.pins if pin in left)


def idle_globs(policy: Policy, names: Iterable[str]) -> tuple[str, ...]:
    """Of `only` and `but` those that nothing is called by."""
    there = tuple(names)
    globs = dict.fromkeys((*policy.only, *policy.but))
    return tuple(glob for glob in globs if not any(fnmatchcase(name, glob) for name in there))


def _wanted(known: Known, policy: Policy) -> Iterable[tuple[str, Version, int]]:
    """(alias, version, how many deployments back): what each alias may be rolled back to."""
    for alias, moves in sorted(known.moves.items()):
        standing = deployments(moves)
        for back, move in enumerate(reversed(standing[-policy.keep_deployments :])):
            yield alias, move.version, back


def _notes(known: Known, doomed: bool) -> tuple[str, ...]:
    if not doomed:
        return ()
    if not known.moves:
        return ("the ledger knows no deployment of it: decided by versions and days only",)
    untold = sorted(set(known.aliases) - set(known.moves))
    return tuple(
        f"the ledger knows no deployment of its alias {alias}: of that, only what it names stays" for alias in untold
    )


def _spared(newer: int, days: float | None, policy: Policy, what: str) -> tuple[Rule, str] | None:
    if newer < policy.keep_versions:
        reason = f"one of the newest {policy.keep_versions}" if newer else f"the newest {what}"
        return "newest", reason
    if days is None:
        return "young", "when it was published is not known"
    if days < policy.keep_days:
        return "young", f"{_aged(days)} old, younger than {policy.keep_days:g} days"
    return None


def _blind(name: str, unseen: Iterable[Unseen]) -> str:
    for each in unseen:
        named = each.layers if each.layers is not None else each.functions
        if named is None or name in named:
            return f"{each.source} could not be looked up"
    return ""


def _aged(days: float | None) -> str:
    if days is None:
        return "of unknown age"
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} h" if days * 24 >= 1 else "less than 1 h"


def _born(modified: str, published: float | None) -> float | None:
    """Epoch seconds: when it was published by the ledger, or changed last by Lambda, whichever is later."""
    told = epoch(modified)
    return max(told, published or 0.0) if told is not None else None


# Layers


class LayerHeld(Value, frozen=True, kw_only=True):
    """A layer's versions: number → when it was made (as AWS tells), and of some who uses or shares them."""

    name: str
    arn: str
    made: Mapping[int, str]
    used: Mapping[int, str] = {}
    unseen: tuple[Unseen, ...] = ()


def decide_layer(layer: LayerHeld, policy: Policy, now: float) -> Retained:
    """The same for a layer: what no function has, beyond the newest ones, and old enough. Sizes are not known."""
    decisions = []
    numbers = sorted(layer.made)
    for newer, number in enumerate(reversed(numbers)):
        at = _born(layer.made[number], None)
        days = (now - at) / DAY_S if at is not None else None
        keeps: tuple[Rule, str] | None = None
        if used := layer.used.get(number):
            keeps = "reference", used
        elif pin := policy.pinned_layer(layer.name, number):
            keeps = "pin", f"pinned ({pin})"
        elif policy.leaves_out(layer.name):
            keeps = "left-out", f"{layer.name} is left out by the names given"
        else:
            keeps = _spared(newer, days, policy, "layer version")
        if keeps is None and (unseen := _blind(layer.name, layer.unseen)):
            keeps = "unseen", f"it may be in use: {unseen}"
        decisions.append(
            Decision(
                version=Version(str(number)),
                action="keep" if keeps else "delete",
                rule=keeps[0] if keeps else "surplus",
                reason=keeps[1] if keeps else f"{_aged(days)} old, {newer} newer, and no function has it",
            )
        )
    return Retained(name=layer.name, arn=layer.arn, decisions=tuple(reversed(decisions)))


# Versions in texts

# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html: name, partial ARN or ARN, each with a qualifier
_NAMED = re.compile(
    r"(?<![A-Za-z0-9_-])"
    r"(?:(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>[0-9]{12}):function:|function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64}):(?P<version>[1-9][0-9]*)(?![A-Za-z0-9_-])"
)


def versions_in(text: str, functions: frozenset[str], *, account: str, region: str) -> set[tuple[str, Version]]:
    """Every version of one of these functions that a text names: "checkout:7", "…:function:checkout:7", an ARN.

    An ARN of another account or region is another function's.
    """
    found: set[tuple[str, Version]] = set()
    for each in _NAMED.finditer(text):
        if each["name"] in functions and each["account"] in (None, account) and each["region"] in (None, region):
            found.add((each["name"], Version(each["version"])))
    return found


def spans(versions: Iterable[Version]) -> str:
    """Numbers in short: "1-30, 33"."""
    numbers = sorted({int(each) for each in versions if each.published})
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(str(end) for end in run) for run in runs)


def within(text: str) -> frozenset[Version]:
    """What `spans` said."""
    found: set[Version] = set()
    for each in filter(None, text.split(", ")):
        first, _, last = each.partition("-")
        found |= {Version(str(number)) for number in range(int(first), int(last or first) + 1)}
    return frozenset(found)


def standing(decided: Retained, allowed: frozenset[Version]) -> tuple[tuple[Version, ...], tuple[Decision, ...]]:
    """(what goes, what of it stays after all): of versions that were to go once, as it is decided now."""
    now = {each.version: each for each in decided.decisions}
    meant = [now[version] for version in sorted(allowed) if version in now]
    return (
        tuple(each.version for each in meant if each.action == "delete"),
        tuple(each for each in meant if each.action == "keep"),
    )


def moves_by_alias(moves: Sequence[Move], names: frozenset[str]) -> dict[str, tuple[Move, ...]]:
    """Those of these aliases, oldest first."""
    found: dict[str, tuple[Move, ...]] = {}
    for each in moves:
        if each.alias in names:
            found[each.alias] = (*found.get(each.alias, ()), each)
    return found


__all__ = [
    "Decision",
    "Known",
    "LayerHeld",
    "Policy",
    "Reference",
    "Retained",
    "Rule",
    "Unseen",
    "called",
    "decide",
    "decide_layer",
    "idle_globs",
    "idle_pins",
    "moves_by_alias",
    "spans",
    "standing",
    "versions_in",
    "within",
]
