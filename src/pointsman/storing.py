"""How full an account's code storage is, of what, how fast it grows, and when it will be full. Pure.

AWS counts every version of every function whole, whatever they share, and every version of every layer: 75 GB of an
account in a region unless it was given more. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from pointsman.fleet import Fleet
from pointsman.model import Configuration, LayerVersion, Value, counted
from pointsman.moments import epoch

DAY_S = 86_400.0
AGES = ((7.0, "under 7 days"), (30.0, "7 to 30 days"), (90.0, "30 to 90 days"), (365.0, "90 to 365 days"))
OLDEST = "over a year"
LEAST, LEAST_DAYS = 5, 7.0
"""So many samples, so many days apart, before anything is said of the future."""
LONGEST_DAYS = 180.0
_SURE = 1.645  # of a normal distribution, 90 % between both sides
_WINDOW = 180  # samples, one a day


class Part(Value, frozen=True, kw_only=True):
    """A function, a layer, or all versions of an age: bytes as AWS counts them, of so many versions.

    `repeated`: of these, bytes of code that another version in it holds as well.
    """

    name: str
    size: int
    count: int
    repeated: int = 0


class Usage(Value, frozen=True, kw_only=True):
    """One account in one region, in bytes. `code` is what AWS itself says is used; `other` what of it is not in the
    parts: AWS counts what is being deleted a while longer.

    `latest` of `$LATEST`s, `versions` of published ones. `repeated`: what is counted again although the account holds
    the very same package already. `images`: versions that are container images, which take no storage here.
    """

    account: str
    region: str
    at: float
    code: int
    limit: int
    latest: int
    versions: int
    layers: int
    other: int
    repeated: int
    images: int
    by_function: tuple[Part, ...]
    by_layer: tuple[Part, ...]
    by_age: tuple[Part, ...]

    @property
    def share(self) -> float:
        return self.code / self.limit if self.limit else 0.0


class Sample(Value, frozen=True, kw_only=True):
    """What was used at a time, and of how much."""

    at: float
    code: int
    limit: int = 0


class Growth(Value, frozen=True, kw_only=True):
    """How it grows, in bytes a day, and the epoch second at which it is full: likely, earliest, latest.

    Nine times in ten it lies between `low` and `high`, if it goes on as it did. `full` None: it does not grow, or not
    within a hundred years; `latest` None: perhaps never. `basis`: samples (of the ledger), versions (that are there
    now, by their dates: as if nothing had been deleted); "" where nothing can be said, and `why` says why not. `added`:
    bytes a day that came, whatever went meanwhile; 0 where nothing went.
    """

    basis: str = ""
    why: str = ""
    samples: int = 0
    days: float = 0.0
    per_day: float = 0.0
    added: float = 0.0
    low: float = 0.0
    high: float = 0.0
    full: float | None = None
    earliest: float | None = None
    latest: float | None = None
    points: tuple[Sample, ...] = ()


class Report(Value, frozen=True, kw_only=True):
    """One account and region: what is used, how it grows, and what `prune` would free (None where that is not known).

    `published`: bytes that this ledger's deploys published in the last 30 days, in so many versions. `notes`: what
    could not be looked at.
    """

    environments: tuple[str, ...]
    usage: Usage
    growth: Growth
    prunable: int | None = None
    published: int = 0
    published_count: int = 0
    notes: tuple[str, ...] = ()


# What is used


def usage(fleet: Fleet, layers: Iterable[LayerVersion], *, code: int, limit: int) -> Usage:
    """The account's storage, by function, layer and age. `code` and `limit` as GetAccountSettings tells them."""
    held = [(member.name, each) for member in fleet.members for each in (member.latest, *member.versions)]
    packages = [(name, each) for name, each in held if each.code_size]
    by_layer: dict[str, list[LayerVersion]] = {}
    for layer in layers:
        by_layer.setdefault(layer.arn.split(":")[6], []).append(layer)
    of_layers = sum(each.size for versions in by_layer.values() for each in versions)
    latest = sum(member.latest.code_size for member in fleet.members)
    versions = sum(each.code_size for member in fleet.members for each in member.versions)
    by_function: dict[str, list[Configuration]] = {}
    for name, each in held:
        by_function.setdefault(name, []).append(each)
    return Usage(
        account=fleet.account,
        region=fleet.region,
        at=fleet.at,
        code=code,
        limit=limit,
        latest=latest,
        versions=versions,
        layers=of_layers,
        other=code - latest - versions - of_layers,
        repeated=_repeated(each for _, each in packages),
        images=sum(each.sha256.image for _, each in held),
        by_function=_largest(
            Part(
                name=name,
                size=sum(each.code_size for each in there),
                count=len(there) - 1,  # of $LATEST one does not speak as of a version
                repeated=_repeated(there),
            )
            for name, there in by_function.items()
        ),
        by_layer=_largest(
            Part(
                name=name,
                size=sum(each.size for each in there),
                count=len(there),
                repeated=sum(each.size for each in there)
                - sum({each.sha256 or each.arn: each.size for each in there}.values()),
            )
            for name, there in by_layer.items()
        ),
        by_age=_by_age([each for member in fleet.members for each in member.versions], fleet.at),
    )


def _repeated(versions: Iterable[Configuration]) -> int:
    """Bytes beyond the first of each package."""
    found = [each for each in versions if each.code_size]
    return sum(each.code_size for each in found) - sum({each.sha256: each.code_size for each in found}.values())


def _largest(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda each: (-each.size, each.name)))


def _by_age(versions: Sequence[Configuration], now: float) -> tuple[Part, ...]:
    """Published versions by how long ago that was, the youngest first; all of these ages, empty ones too."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for each in versions:
        at = published(each)
        days = (now - at) / DAY_S if at is not None else math.inf
        name = next((label for most, label in AGES if days < most), OLDEST)
        sizes[name] += each.code_size
        counts[name] += 1
    names = [*(label for _, label in AGES), OLDEST]
    return tuple(Part(name=name, size=sizes[name], count=counts[name]) for name in names)


def published(version: Configuration) -> float | None:
    """When: of a published version LastModified is that."""
    return epoch(version.modified)


# How it grows


def grown(fleet: Fleet, code: int) -> tuple[Sample, ...]:
    """What would have been used at the end of each day, had nothing been deleted: read off the versions' own dates.

    Whatever has no date (layers, `$LATEST`) counts as if it had always been there.
    """
    dated = sorted(
        (at, each.code_size)
        for member in fleet.members
        for each in member.versions
        if (at := published(each)) is not None and at <= fleet.at
    )
    if not dated:
        return ()
    left, found = code, [Sample(at=fleet.at, code=code)]
    end = fleet.at
    while dated and end > fleet.at - LONGEST_DAYS * DAY_S:
        end -= DAY_S
        while dated and dated[-1][0] > end:
            left -= dated.pop()[1]
        found.append(Sample(at=end, code=left))
    return tuple(reversed(found))


def growth(samples: Iterable[Sample], *, code: int, limit: int, now: float, basis: str = "samples") -> Growth:
    """The slope that half of all pairs of samples exceed (Theil and Sen): a prune, or a release of ten functions, moves
    it little. https://doi.org/10.1080/01621459.1968.10480934

    How sure: storage is a sum of what each day added, so errors add up, too. The interval is that of a slope through a
    random walk, 6/5 of the summed squares of its steps; so it widens where days differ much.
    """
    points = _daily(samples, now)
    days = (points[-1].at - points[0].at) / DAY_S if points else 0.0
    if len(points) < LEAST or days < LEAST_DAYS:
        there = f"{counted(len(points), 'day')} with a sample, {days:.0f} days apart" if points else "no sample yet"
        why = f"not enough history: {there}; {LEAST} of them over a week are needed"
        return Growth(why=why, samples=len(points), days=days, points=points)
    slope = median((b.code - a.code) / (b.at - a.at) for n, a in enumerate(points) for b in points[n + 1 :])
    steps = [b.code - a.code - slope * (b.at - a.at) for a, b in pairwise(points)]
    spread = math.sqrt(1.2 * sum(each * each for each in steps) * len(steps) / (len(steps) - 1))
    half = _SURE * spread / (days * DAY_S)
    return Growth(
        basis=basis,
        samples=len(points),
        days=days,
        per_day=slope * DAY_S,
        added=_added(points) / days,
        low=(slope - half) * DAY_S,
        high=(slope + half) * DAY_S,
        full=_full(slope, code, limit, now),
        earliest=_full(slope + half, code, limit, now),
        latest=_full(slope - half, code, limit, now),
        points=points,
    )


def _daily(samples: Iterable[Sample], now: float) -> tuple[Sample, ...]:
    """The last of each day (UTC), at most half a year back."""
    last: dict[int, Sample] = {}
    for each in sorted(samples, key=lambda sample: (sample.at, sample.code)):
        if now - LONGEST_DAYS * DAY_S <= each.at <= now:
            last[int(each.at // DAY_S)] = each
    return tuple(last[day] for day in sorted(last))[-_WINDOW:]


def _added(points: Sequence[Sample]) -> int:
    """What came in all, where anything went; else 0: then the slope says it."""
    steps = [b.code - a.code for a, b in pairwise(points)]
    return sum(each for each in steps if each > 0) if any(each < 0 for each in steps) else 0


def _full(slope: float, code: int, limit: int, now: float) -> float | None:
    """`slope` in bytes a second."""
    if code >= limit:
        return now
    if slope <= 0 or (limit - code) / slope > 36_500 * DAY_S:
        return None
    return now + (limit - code) / slope


# In words


def stored(count: float) -> str:
    """Bytes as AWS counts them: its 75 GB are 75 times 2^30."""
    size = abs(count)
    for unit, word in ((2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if size >= unit:
            return f"{count / unit:.{0 if size >= 100 * unit else 1}f} {word}"
    return f"{count:.0f} B"


def outlook(found: Growth, share: float) -> str:
    """When it will be full, and how sure that is, in one or two sentences."""
    if share >= 1:
        return "It is full: no version can be published any more."
    if not found.basis:
        return f"When it will be full cannot be said: {found.why}."
    since = (
        f"the ledger's samples of {found.days:.0f} days"
        if found.basis == "samples"
        else f"the dates of the versions there now, {found.days:.0f} days back, as if none had been deleted"
    )
    between = f"nine times in ten between {_rate(found.low)} and {_rate(found.high)}"
    grows = f"{_rate(found.per_day)} a day ({between}; from {since})"
    freed = f" Without what was deleted, {_rate(found.added)} a day are added." if found.added > found.per_day else ""
    if found.full is None:
        early = f" Were it the most, it would be full on {day(found.earliest)}." if found.earliest else ""
        return f"It does not grow to speak of: {grows}.{freed}{early}"
    late = f"between {day(found.earliest)} and {day(found.latest)}"
    if not found.latest:
        late = f"not before {day(found.earliest)}, perhaps never"
    return f"Full on {day(found.full)}, if it goes on so: {late}. It grows by {grows}.{freed}"


def _rate(per_day: float) -> str:
    return stored(per_day).replace("-", "−")


def day(at: float | None) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") if at is not None else "never"


__all__ = [
    "Growth",
    "Part",
    "Report",
    "Sample",
    "Usage",
    "day",
    "grown",
    "growth",
    "outlook",
    "published",
    "stored",
    "usage",
]
