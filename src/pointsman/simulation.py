"""What a rollout would do: the same machine and the same statistics, on traffic that is drawn. Pure but for its dice.

A minute's calls are Poisson; each is the canary's with the weight in force; each fails by its version's rate. Failures
may come in groups that one version gets whole (`together`), as of one sick environment; both versions may share
trouble (`outages`), drift, a daily cycle, and minutes that differ (`bursts`, `noise`). CloudWatch is modelled by the
policy: buckets of a period, complete `lag_s` after their end. Every run is one rollout from its beginning to its end,
or to where a person would be asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from pointsman import analysis
from pointsman.analysis import Bucket, Counts
from pointsman.model import Value, Version
from pointsman.rollout import (
    Action,
    AnySignal,
    GatePassed,
    Gating,
    Measure,
    Measured,
    Nothing,
    Policy,
    Promote,
    Promoted,
    Restore,
    RolledBack,
    RunGates,
    SetWeight,
    Tick,
    WeightConfirmed,
    advance,
    begin,
)

CALL_S = 1.0
"""How long AWS takes to change an alias, and a watcher to ask for it."""


class Outage(Value, frozen=True, kw_only=True):
    """From minute to minute (after the start) calls of both versions fail with this probability, too."""

    begins: float
    ends: float
    rate: float


class Traffic(Value, frozen=True, kw_only=True):
    """`calls` a minute of which `rate` fail anyway; of the canary's `bad` (None: as many) from minute `since` on.

    `drift`: the rate grows by so many times of itself an hour. `cycle`: calls and rate swing by this part of
    themselves, once a day, beginning at a time of day that is drawn. `bursts`, `noise`: by so much of themselves (one
    standard deviation) the calls and the rate of every minute differ, by chance. `together`: so many failures come at
    once; with `ragged` that is their mean, and how many is geometric.
    """

    calls: float
    rate: float
    bad: float | None = None
    since: float = 0.0
    outages: tuple[Outage, ...] = ()
    drift: float = 0.0
    cycle: float = 0.0
    bursts: float = 0.0
    noise: float = 0.0
    together: int = 1
    ragged: bool = False


class Run(NamedTuple):
    """How one rollout ended: promoted, rolled back, or asked (a person would have been). `minutes` from its beginning.

    `extra`: so many calls failed more than the baseline's would have, on average: the dice of single calls left out.
    """

    outcome: str
    minutes: float
    extra: float
    canary: int
    why: str


class Summary(Value, frozen=True, kw_only=True):
    """Many runs in the same world. Shares of runs; `minutes` and `extra` as median and 95th percentile, and mean."""

    runs: int
    promoted: float
    rolled_back: float
    asked: float
    minutes: float
    minutes_95: float
    extra: float
    extra_95: float
    extra_mean: float


def run(policy: Policy, traffic: Traffic, dice: Random, *, limit: int = 5000) -> Run:
    """One rollout, until it ends (or after so many actions)."""
    world = World(traffic, policy, dice)
    start = begin(policy, baseline=Version("1"), canary=Version("2"), revision="", at=world.now)
    rollout, action = advance(start, Tick(at=world.now))
    for _action in range(limit):
        # Nobody is there to answer: what a person would be asked, the run ends with.
        if rollout.ended or (isinstance(rollout.state, Gating) and rollout.state.moment in ("quiet", "spent")):
            break
        rollout, action = advance(rollout, world.answer(action))
    match rollout.state:
        case Promoted():
            outcome, why = "promoted", ""
        case RolledBack(why=why):
            outcome = "rolled back"
        case Gating(moment=why):
            outcome = "asked"
        case state:
            outcome, why = type(state).__name__.lower(), ""
    return Run(outcome, (world.now - world.began) / 60, world.extra, world.canary_calls, why)


def runs(policy: Policy, traffic: Traffic, *, seed: int, count: int) -> Iterator[Run]:
    """Each has dice of its own, so that one more run changes none of the others."""
    return (run(policy, traffic, Random(f"{seed} {number}")) for number in range(count))


def summary(found: Sequence[Run]) -> Summary:
    minutes, extra = sorted(each.minutes for each in found), sorted(each.extra for each in found)
    return Summary(
        runs=len(found),
        promoted=sum(each.outcome == "promoted" for each in found) / len(found),
        rolled_back=sum(each.outcome == "rolled back" for each in found) / len(found),
        asked=sum(each.outcome == "asked" for each in found) / len(found),
        minutes=_at(minutes, 0.5),
        minutes_95=_at(minutes, 0.95),
        extra=_at(extra, 0.5),
        extra_95=_at(extra, 0.95),
        extra_mean=sum(extra) / len(extra),
    )


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share * len(ordered) >= 1 else 0)]


def history(traffic: Traffic, dice: Random, minutes: int = 180) -> list[Counts]:
    """The minutes before a rollout, for `analysis.dispersion` and the usual rate."""
    world = World(traffic, Policy(steps=()), dice)
    found = []
    for minute in range(-minutes, 0):
        world.luck = (_factor(dice, traffic.bursts), _factor(dice, traffic.noise))
        calls = poisson(dice, world.calls_at(minute))
        found.append(Counts(calls=calls, bad=world.failures(calls, world.rate_at(minute, canary=False))))
    return found


class World:
    """Alias and CloudWatch. Time passes only while an action waits; whatever passes has calls in it."""

    def __init__(self, traffic: Traffic, policy: Policy, dice: Random) -> None:
        self.traffic, self.policy, self.dice = traffic, policy, dice
        self.phase = dice.random()
        # A rollout begins at any second of a minute.
        self.began = self.now = 1_700_000_040.0 + dice.random() * policy.period_s
        self.weight = 0.0
        self.extra, self.canary_calls = 0.0, 0
        self.buckets: list[Bucket] = []
        self.minute, self.luck = -math.inf, (1.0, 1.0)

    def answer(self, action: Action) -> AnySignal:
        match action:
            case SetWeight(routing=routing):
                self.pass_until(self.now + CALL_S)
                self.weight = float(routing.canary.weight) if routing.canary else 0.0
                return WeightConfirmed(at=self.now, revision="")
            case Promote() | Restore():
                self.pass_until(self.now + CALL_S)
                self.weight = 0.0  # what follows is no longer this rollout's
                return WeightConfirmed(at=self.now, revision="")
            case Measure(at=at, since=since):
                self.pass_until(max(at, self.now + 1.0))
                until = math.floor((self.now - self.policy.lag_s) / self.policy.period_s) * self.policy.period_s
                found = tuple(each for each in self.buckets if since <= each.at < until)
                self.buckets = [each for each in self.buckets if each.at >= until]
                return Measured(at=self.now, until=max(since, until), buckets=found)
            case RunGates(moment=moment):
                return GatePassed(at=self.now, moment=moment)
            case Nothing():
                return Tick(at=self.now)

    def pass_until(self, until: float) -> None:
        """Calls are made in stretches that end with a period, or where the weight changes."""
        period = self.policy.period_s
        while self.now < until:
            begins = math.floor(self.now / period) * period
            ends = min(until, begins + period)
            self.stretch(self.now, ends, whole=self.now == begins and ends == begins + period)
            self.now = ends

    def stretch(self, begins: float, ends: float, *, whole: bool) -> None:
        """Calls of a period that was cut are counted in it; the machine leaves out those of other weights."""
        if self.weight <= 0 and not whole:
            return
        minute = (begins - self.began) / 60
        if begins // 60 != self.minute:
            self.minute = begins // 60
            self.luck = (_factor(self.dice, self.traffic.bursts), _factor(self.dice, self.traffic.noise))
        calls = poisson(self.dice, self.calls_at(minute) * (ends - begins) / 60)
        canary_calls = binomial(self.dice, calls, self.weight)
        good, bad = self.rate_at(minute, canary=False), self.rate_at(minute, canary=True)
        self.extra += canary_calls * (bad - good)
        self.canary_calls += canary_calls
        canary = Counts(calls=canary_calls, bad=self.failures(canary_calls, bad))
        rest = calls - canary_calls
        baseline = Counts(calls=rest, bad=self.failures(rest, good))
        self._count(begins, canary, baseline)

    def _count(self, begins: float, canary: Counts, baseline: Counts) -> None:
        period = self.policy.period_s
        at = math.floor(begins / period) * period
        last = self.buckets[-1] if self.buckets and self.buckets[-1].at == at else None
        if last:
            self.buckets.pop()
            canary, baseline = last.canary + canary, last.baseline + baseline
        for metric in self.policy.metrics[:1]:
            self.buckets.append(Bucket(metric=metric.name, at=at, seconds=period, canary=canary, baseline=baseline))

    def calls_at(self, minute: float) -> float:
        swing = 1 + self.traffic.cycle * math.sin(2 * math.pi * (minute / 1440 + self.phase))
        return self.luck[0] * self.traffic.calls * swing

    def rate_at(self, minute: float, *, canary: bool) -> float:
        traffic = self.traffic
        rate = traffic.bad if canary and traffic.bad is not None and minute >= traffic.since else traffic.rate
        swing = 1 + traffic.cycle * math.sin(2 * math.pi * (minute / 1440 + self.phase) + 1)
        rate = min(1.0, self.luck[1] * rate * swing * (1 + max(0.0, traffic.drift * minute / 60)))
        for outage in traffic.outages:
            if outage.begins <= minute < outage.ends:
                rate = 1 - (1 - rate) * (1 - outage.rate)
        return rate

    def failures(self, calls: int, rate: float) -> int:
        size, dice = self.traffic.together, self.dice
        if size <= 1:
            return binomial(dice, calls, rate)
        groups = binomial(dice, calls // size, rate)
        if not self.traffic.ragged or not groups:
            return min(calls, size * groups)
        # Beyond the first of each: a negative binomial, as a Poisson with a gamma mean.
        return min(calls, groups + poisson(dice, dice.gammavariate(groups, size - 1)))


def _factor(dice: Random, spread: float) -> float:
    """A gamma variate of mean 1 and that standard deviation."""
    return dice.gammavariate(1 / spread**2, spread**2) if spread else 1.0


def poisson(dice: Random, mean: float) -> int:
    """Exact: halves the mean by gamma variates until it is small (Ahrens & Dieter 1974), then multiplies uniforms."""
    found = 0
    while mean > 30:
        order = int(mean * 7 / 8)
        waited = dice.gammavariate(order, 1.0)
        if waited > mean:
            return found + binomial(dice, order - 1, mean / waited)
        found, mean = found + order, mean - waited
    product, least = 1.0, math.exp(-mean)
    while True:
        product *= dice.random()
        if product <= least:
            return found
        found += 1


def binomial(dice: Random, tries: int, share: float) -> int:
    """Exact: by the median of the order statistics while there are many (Relles 1972), then one by one."""
    if share <= 0 or tries <= 0:
        return 0
    if share >= 1:
        return tries
    found = 0
    while tries * min(share, 1 - share) > 12 and tries > 16:
        middle = 1 + tries // 2
        drawn = dice.betavariate(middle, tries + 1 - middle)
        if share >= drawn:
            found, tries, share = found + middle, tries - middle, (share - drawn) / (1 - drawn)
        else:
            tries, share = middle - 1, share / drawn
        if share <= 0 or tries <= 0:
            return found
        if share >= 1:
            return found + tries
    few = share if share <= 0.5 else 1 - share
    # From one success to the next: gaps are geometric.
    hits, position, scale = 0, 0, math.log1p(-few)
    while True:
        position += 1 + int(math.log(1.0 - dice.random()) / scale)
        if position > tries:
            break
        hits += 1
    return found + (hits if share <= 0.5 else tries - hits)


def measured_policy(policy: Policy, traffic: Traffic, dice: Random) -> Policy:
    """The policy with what a rollout learns of the time before it: how failures cluster, how many there are usually."""
    before = history(traffic, dice)
    total = sum(before, Counts())
    dispersion = analysis.dispersion(before)
    metrics = tuple(replace(each, dispersion=dispersion) for each in policy.metrics)
    return replace(
        policy, metrics=metrics, traffic=traffic.calls / 60, usual=total.bad / total.calls if total.calls else None
    )
