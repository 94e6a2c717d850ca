"""What rollouts decide, in thousands of simulated ones, claim by claim, beside what its peers do in the same worlds.

    bench/decisions.py [--quick | --full] [--seed N] [--only CLAIM ...]

Peers: CodeDeploy's Canary10Percent5Minutes with the alarm of SAM's documentation (`Errors` of the alias above 0 in two
minutes running); a fixed threshold of 99 % success as in Flagger (looked at each minute, five failures roll back, ten
minutes); Mann–Whitney on minutes as in Kayenta (one look after an hour). Each prints its claim, what was measured, the
seeds, and PASS or FAIL; the exit code is 1 if any fails. docs/rollouts-figures.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from random import Random
from statistics import NormalDist, fmean, median, stdev
from typing import Any, NamedTuple

from msgspec.structs import replace

from pointsman import config
from pointsman.analysis import Bucket, Counts, Metric, information_bound, judge, none, weigh
from pointsman.cli.simulate import declared_policy
from pointsman.model import Version
from pointsman.rollout import Measured, Policy, Step, Tick, WeightConfirmed, advance, begin
from pointsman.simulation import Outage, Run, Traffic, World, measured_policy, run

ALPHA = 0.01
ERRORS = Metric(name="errors")
DEFAULT = declared_policy(config.Rollout())
DAY = 1440


class Found(NamedTuple):
    """One line of a claim."""

    passed: bool | None  # None: told for comparison
    text: str


# One-sided 95 % bounds on a chance (Clopper & Pearson 1934), by halving


def upper(hits: int, tries: int, sure: float = 0.95) -> float:
    return 1.0 if hits == tries else _halved(lambda p: _at_most(hits, tries, p) > 1 - sure)


def lower(hits: int, tries: int, sure: float = 0.95) -> float:
    return 0.0 if not hits else _halved(lambda p: 1 - _at_most(hits - 1, tries, p) < 1 - sure)


def _halved(below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def _at_most(hits: int, tries: int, p: float) -> float:
    if not 0 < p < 1:
        return float(p <= 0)
    logs = (
        math.lgamma(tries + 1) - math.lgamma(k + 1) - math.lgamma(tries - k + 1)
        + k * math.log(p) + (tries - k) * math.log1p(-p)
        for k in range(hits + 1)
    )  # fmt: skip
    return min(1.0, sum(math.exp(each) for each in logs))


# Peers, minute by minute in the same worlds


def codedeploy(traffic: Traffic, dice: Random, late_s: float = 60.0) -> Run:
    """A tenth for five minutes; `late_s`: how late a minute's errors are seen. Red before the start is not counted."""
    world = World(traffic, Policy(steps=(), metrics=(ERRORS,), lag_s=late_s), dice)
    ends, red = world.now + 300, 0
    world.weight = 0.1
    for bucket in minutes(world, late_s):
        red = red + 1 if bucket.canary.bad + bucket.baseline.bad else 0
        if red == 2 and world.now < ends:
            return _ended(world, "rolled back")
        if world.now >= ends:
            break
    return _ended(world, "promoted")


def threshold(traffic: Traffic, dice: Random) -> Run:
    world, failed = World(traffic, Policy(steps=(), metrics=(ERRORS,), lag_s=0.0), dice), 0
    world.weight = 0.1
    for number, bucket in enumerate(minutes(world, 0.0), start=1):
        failed += bucket.canary.bad > 0.01 * bucket.canary.calls
        if failed == 5:
            return _ended(world, "rolled back")
        if number == 10:
            break
    return _ended(world, "promoted")


def kayenta(traffic: Traffic, dice: Random) -> Run:
    world = World(traffic, Policy(steps=(), metrics=(ERRORS,), lag_s=0.0), dice)
    world.weight = 0.1
    found = [bucket for _, bucket in zip(range(60), minutes(world, 0.0), strict=False)]
    rates = [
        [each.bad / max(1, each.calls) for each in side]
        for side in zip(*((b.canary, b.baseline) for b in found), strict=True)
    ]
    return _ended(world, "rolled back" if mann_whitney(*rates) < ALPHA else "promoted")


def minutes(world: World, late_s: float) -> Iterator[Bucket]:
    """Each minute's counts, when they are seen."""
    while True:
        following = (math.floor((world.now - late_s) / 60) + 1) * 60 + late_s
        world.pass_until(following)
        found = [each for each in world.buckets if each.at + 60 <= world.now - late_s]
        world.buckets = [each for each in world.buckets if each not in found]
        yield from found


def _ended(world: World, outcome: str) -> Run:
    return Run(outcome, (world.now - world.began) / 60, world.extra, world.canary_calls, "")


def mann_whitney(one: list[float], two: list[float]) -> float:
    """The chance that `one` ranks so high by accident: normal approximation, ties corrected, one-sided."""
    ranked = sorted((value, side) for side, values in enumerate((one, two)) for value in values)
    ranks, ties, at = 0.0, 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        ranks += sum((at + end + 1) / 2 for _, side in ranked[at:end] if side == 0)
        ties += (end - at) ** 3 - (end - at)
        at = end
    n, m, all_ = len(one), len(two), len(ranked)
    spread = n * m / 12 * (all_ + 1 - ties / (all_ * (all_ - 1)))
    if spread <= 0:
        return 1.0
    return 1 - NormalDist().cdf((ranks - n * (n + 1) / 2 - n * m / 2 - 0.5) / math.sqrt(spread))


PEERS: dict[str, Callable[[Traffic, Random], Run]] = {
    "CodeDeploy + SAM's alarm": codedeploy,
    "99 % success": threshold,
    "Mann–Whitney, 1 h": kayenta,
}


# Many runs


def many(how: Callable[[Traffic, Random], Run], traffic: Traffic, seed: str, first: int, count: int) -> list[Run]:
    return [how(traffic, Random(f"{seed} {number}")) for number in range(first, first + count)]


def ours(policy: Policy, traffic: Traffic, dice: Random, *, learn: bool = False) -> Run:
    """`learn`: from three hours of its own history, as `promote` does."""
    return run(
        measured_policy(policy, traffic, dice) if learn else _known(policy, traffic), traffic, dice, limit=40_000
    )


def _known(policy: Policy, traffic: Traffic) -> Policy:
    return replace(policy, traffic=traffic.calls / 60, usual=traffic.rate)


def step(weight: float, minutes_: float, **more: Any) -> Policy:
    """One long step, nothing early, CloudWatch never late."""
    base = {"metrics": (ERRORS,), "early": False, "lag_s": 0.0, "minimum": 1, "limit_s": 30 * 86_400.0}
    return Policy(steps=(Step(weight=weight, bake_s=minutes_ * 60),), **{**base, **more})  # type: ignore[arg-type]


# Claim 1


def healthy_worlds() -> Iterator[tuple[str, Policy, bool, Traffic]]:
    """Name, policy, whether its dispersion is learnt, traffic."""
    long = step(0.1, 30)
    for rate in (0.0001, 0.001, 0.01, 0.05, 0.2):
        for calls in (60, 6000, 600_000):
            yield f"{rate:.2%}, {calls:,}/min, default", DEFAULT, False, Traffic(calls=calls, rate=rate)
    for rate in (0.001, 0.01, 0.2):
        for calls in (60, 600, 6000):
            yield f"{rate:.2%}, {calls:,}/min, 30 min at 10 %", long, False, Traffic(calls=calls, rate=rate)
    rare = replace(DEFAULT, quiet="go-on", hold_s=7200.0)
    yield "1 %, 1/min, default, quiet = go-on", rare, False, Traffic(calls=1, rate=0.01)
    yield "20 %, 1/min, 3 h at 50 %", step(0.5, 180), False, Traffic(calls=1, rate=0.2)
    usual = Traffic(calls=6000, rate=0.001)
    for begins, ends, rate in ((0.0, 3.0, 0.05), (1.3, 2.1, 0.5), (2.0, 6.0, 0.3), (4.0, 30.0, 0.02), (3.0, 40.0, 1.0)):
        shared = replace(usual, outages=(Outage(begins=begins, ends=ends, rate=rate),))
        name = f"outage of {rate:.0%}, minute {begins:g} to {ends:g}"
        yield f"{name}, default", DEFAULT, False, shared
        yield f"{name}, 30 min at 10 %", long, False, shared
    for policy, said in ((DEFAULT, "default"), (long, "30 min at 10 %")):
        yield f"drift 3x an hour, cycle 50 %, {said}", policy, False, replace(usual, drift=3.0, cycle=0.5)
        yield f"minutes' calls ± 100 %, rates ± 100 %, {said}", policy, False, replace(usual, bursts=1.0, noise=1.0)
        for together in (5, 20):
            for calls, rate in ((6000, 0.01), (6000, 0.001), (600, 0.05)):
                clustered = Traffic(calls=calls, rate=rate, together=together)
                yield f"{rate:.1%}, {calls:,}/min, {together} errors at once, {said}", policy, True, clustered
                ragged = replace(clustered, ragged=True)
                yield f"{rate:.1%}, {calls:,}/min, {together} at once on average, {said}", policy, True, ragged
    for budget in (20, 50):
        spending = declared_policy(config.Rollout(budget=budget))
        for rate in (0.001, 0.05):
            yield f"{rate:.1%}, 6,000/min, budget {budget}", spending, False, Traffic(calls=6000, rate=rate)


def false_rollback(world: tuple[str, Policy, bool, Traffic], seed: str, size: float) -> Found:
    """More runs where it is close: until the upper bound is below α, or the lower one above, or enough is enough."""
    name, policy, learn, traffic = world
    back = asked = tries = 0
    count = 300  # where none goes back, that is enough to know that fewer than 1 % do
    while True:
        found = many(partial(ours, policy, learn=learn), traffic, f"{seed} {name}", tries, count)
        tries += count
        back += sum(each.outcome == "rolled back" for each in found)
        asked += sum(each.outcome == "asked" for each in found)
        count = tries
        if upper(back, tries) <= ALPHA or lower(back, tries) > ALPHA or tries >= 3200 * size:
            break
    text = f"{back:3} of {tries:5} back = {back / tries:.2%}, at most {upper(back, tries):.2%}"
    return Found(back / tries <= ALPHA, f"{name:62} {text}" + (f"; asked {asked / tries:.1%}" if asked else ""))


def peers_healthy(rate: float, seed: str, size: float) -> Found:
    traffic, count = Traffic(calls=6000, rate=rate), max(20, round(100 * size))
    found = {name: many(how, traffic, f"{seed} peers {rate}", 0, count) for name, how in PEERS.items()}
    told = (f"{name} {sum(r.outcome == 'rolled back' for r in runs) / count:.0%}" for name, runs in found.items())
    return Found(None, f"peers roll back healthy ones, {rate:.2%} at 6,000/min: {', '.join(told)}")


def claim_1(seed: str, size: float) -> Iterator[Callable[[], Found]]:
    for world in list(healthy_worlds())[:: 1 if size >= 1 else 3]:
        yield partial(false_rollback, world, seed, size)
    for rate in (0.0001, 0.001, 0.01, 0.05):
        yield partial(peers_healthy, rate, seed, size)


# Claim 2


def how_soon(calls: int, rate: float, times: float, seed: str, size: float) -> Found:
    bad = min(1.0, rate * times)
    name = f"{rate:.2%} to {bad:.2%}, {calls:,}/min"
    bound = information_bound(bad, rate, weight=0.1, alpha=ALPHA) / calls
    if bound > (DAY if size > 1 else 300 if size == 1 else 60):
        return Found(None, f"{name:28} bound {bound:,.0f} minutes: not run")
    traffic = Traffic(calls=calls, rate=rate, bad=bad)
    count = 101 if bound < 10 else round(size * (21 if bound > 300 else 41)) | 1
    found = many(partial(ours, step(0.1, 20 * DAY)), traffic, f"{seed} {name}", 0, count)
    middle, limit = median(each.minutes for each in found), math.ceil(1.5 * bound) + 1
    peers = ""
    if bound < 60:
        told = []
        for peer, how in PEERS.items():
            runs = many(how, traffic, f"{seed} {name}", 0, max(5, count // 5))
            caught = [each for each in runs if each.outcome == "rolled back"]
            told.append(f"{peer} {len(caught) / len(runs):.0%}, {fmean(r.extra for r in runs):,.0f} extra")
        peers = "; " + "; ".join(told)
    extra = fmean(each.extra for each in found)
    text = (
        f"bound {bound:6.1f}, median {middle:6.1f}, limit {limit:4} minutes; {extra:,.0f} extra failed ({count} runs)"
    )
    return Found(middle <= limit, f"{name:28} {text}{peers}")


def claim_2(seed: str, size: float) -> Iterator[Callable[[], Found]]:
    for calls in (600, 6000):
        for rate in (0.0001, 0.001, 0.01, 0.05):
            for times in (2, 3, 5, 50):
                if rate * times <= 1:
                    yield partial(how_soon, calls, rate, times, seed, size)


# Claim 3


def against_codedeploy(calls: int, seed: str, size: float) -> Found:
    traffic, count = Traffic(calls=calls, rate=0.001, bad=0.5), max(50, round(400 * size))
    mine = fmean(r.extra for r in many(partial(ours, DEFAULT), traffic, f"{seed} {calls}", 0, count))
    theirs = fmean(r.extra for r in many(codedeploy, traffic, f"{seed} {calls}", 0, count))
    at_once = fmean(r.extra for r in many(partial(codedeploy, late_s=0.0), traffic, f"{seed} {calls}", 0, count))
    text = f"{mine:,.1f} extra failed, CodeDeploy {theirs:,.1f} ({at_once:,.1f} if CloudWatch were never late): "
    text += f"{mine / theirs:.2f} of it ({mine / at_once:.2f}), {count} runs"
    return Found(mine <= theirs / 2, f"0.1 % to 50 %, {calls:,}/min: {text}")


def within_budget(world: tuple[int, int, float, float, float], seed: str, size: float) -> Found:
    budget, calls, rate, times, since = world
    bad = min(1.0, rate * times)
    traffic = Traffic(calls=calls, rate=rate, bad=bad, since=since)
    name = f"budget {budget:3}, {calls:6,}/min, {rate:.1%} to {bad:.3%}" + (f" from minute {since:g}" if since else "")
    policy = declared_policy(config.Rollout(budget=budget))
    found: list[Run] = []
    while True:  # more where it is close
        found += many(partial(ours, policy), traffic, f"{seed} {name}", len(found), max(25, len(found)))
        extra = [each.extra for each in found]
        mean, count = fmean(extra), len(found)
        if mean + 3 * stdev(extra) / math.sqrt(count) <= budget or count >= 400 * size:
            break
    worst = sorted(extra)[math.ceil(0.95 * count) - 1]
    shares = {each: sum(r.outcome == each for r in found) / count for each in ("rolled back", "asked", "promoted")}
    told = ", ".join(f"{each} {share:.0%}" for each, share in shares.items() if share)
    verdict: bool | None = mean <= budget
    if since and not verdict and bad - rate > 0.02:
        # By then the weight has grown, on evidence that was right: what fails at that weight until it is seen is lost.
        verdict = None
        told += "; late and sudden: no weight but the first keeps the budget"
    return Found(verdict, f"{name:58} mean {mean:7.1f}, 95 % {worst:7.1f} ({count} runs); {told}")


def claim_3(seed: str, size: float) -> Iterator[Callable[[], Found]]:
    for calls in (60, 600, 6000, 60_000):
        yield partial(against_codedeploy, calls, seed, size)
    for budget in (20, 50, 200):
        for calls in (60, 600, 6000, 60_000):
            for rate in (0.001, 0.01, 0.05):
                for times in (1.1, 1.25, 1.5, 1.75, 2, 3, 5, 50, math.inf):
                    yield partial(within_budget, (budget, calls, rate, times, 0.0), seed, size)
    for budget in (20, 50, 200):
        for calls in (600, 6000):
            for times in (2, 5, 50, math.inf):
                for since in (4.0, 10.0):
                    yield partial(within_budget, (budget, calls, 0.001, times, since), seed, size)


# Claim 4


def all_the_way(rate: float, seed: str, size: float) -> Found:
    traffic, count = Traffic(calls=6000, rate=rate), max(100, round(400 * size))
    found = many(partial(ours, DEFAULT, learn=True), traffic, f"{seed} {rate}", 0, count)
    soon = sum(each.outcome == "promoted" and each.minutes < 10 for each in found) / count
    middle = median(each.minutes for each in found)
    return Found(
        soon >= 0.95, f"{rate:.2%}: all traffic within 10 minutes in {soon:.1%}, median {middle:.1f} ({count} runs)"
    )


def no_worse(rate: float, weight: float, metric: Metric, seed: str, size: float) -> Found:
    bound = information_bound(rate, rate, weight=weight, alpha=ALPHA, tolerated=metric) / 6000
    name = f"{rate:.2%}, {weight:.0%} on the canary, tolerated {metric.tolerated}"
    if bound > (600 if size > 1 else 60):
        return Found(None, f"{name:69} bound {bound:,.0f} minutes: not run")
    policy = step(weight, 20 * DAY, early=True, metrics=(metric,))
    count = 101 if bound < 10 else round(size * 31) | 1
    found = many(partial(ours, policy), Traffic(calls=6000, rate=rate), f"{seed} {name}", 0, count)
    middle, limit = median(each.minutes for each in found), math.ceil(1.5 * bound) + 1
    return Found(
        middle <= limit, f"{name:69} bound {bound:6.1f}, median {middle:6.1f}, limit {limit} minutes ({count} runs)"
    )


def claim_4(seed: str, size: float) -> Iterator[Callable[[], Found]]:
    for rate in (0.0001, 0.001, 0.01, 0.05):
        yield partial(all_the_way, rate, seed, size)
    for metric in (Metric(name="errors", difference=0.001), Metric(name="errors", difference=0.01), ERRORS):
        for rate in (0.0001, 0.001, 0.01, 0.05):
            for weight in (0.1, 0.5):
                yield partial(no_worse, rate, weight, metric, seed, size)


# Claim 5


def taken(what: str, limit_ms: float, work: Callable[[], object]) -> Found:
    """In time of the processor; judged by the fastest tenth, for who shares the processor slows it down."""
    times = []
    for _ in range(200):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    times.sort()
    text = f"fastest tenth {times[20]:.2f} ms, median {times[100]:.2f} ms, 95 % {times[190]:.2f} ms"
    return Found(times[20] <= limit_ms, f"{what:60} {text}, limit {limit_ms:g} ms")


def claim_5(_seed: str, _size: float) -> Iterator[Callable[[], Found]]:
    policy = replace(step(0.1, 600), traffic=100.0)
    start, _ = advance(begin(policy, baseline=Version("1"), canary=Version("2"), revision="r", at=0.0), Tick(at=0.0))
    baking, _ = advance(start, WeightConfirmed(at=1.0, revision="s"))
    for said, signal in (("no bucket", Tick(at=2.0)), ("nothing measured", Measured(at=130.0, until=120.0))):
        yield partial(taken, f"one advance, {said}", 1.0, partial(advance, baking, signal))
    small = Bucket(metric="errors", at=60.0, seconds=60.0, canary=Counts(calls=60), baseline=Counts(calls=540, bad=1))
    signal = Measured(at=130.0, until=120.0, buckets=(small,))
    yield partial(taken, "one advance, a bucket of 600 calls, 1 bad", 1.0, partial(advance, baking, signal))
    for rate in (0.0001, 0.01, 0.2):
        canary, rest = Counts(calls=100_000, bad=int(100_000 * rate)), Counts(calls=900_000, bad=int(900_000 * rate))
        bucket = Bucket(metric="errors", at=60.0, seconds=60.0, canary=canary, baseline=rest)
        yield partial(taken, f"one analysis of 10^6 calls, {rate:.2%} bad", 5.0, partial(_analysed, bucket))


def _analysed(bucket: Bucket) -> object:
    return judge(weigh(none(ERRORS), bucket), alpha=ALPHA)


CLAIMS: dict[str, tuple[str, Callable[[str, float], Iterable[Callable[[], Found]]]]] = {
    "1": ("No healthy release is rolled back more often than α = 1 %", claim_1),
    "2": ("Median minutes to roll back ≤ 1.5 × the information bound, in whole minutes, plus one", claim_2),
    "3": ("Extra failed calls: half of CodeDeploy's at most; with a budget, its mean at most", claim_3),
    "4": ("A healthy release has all traffic within 10 minutes in 95 %; no worse: 1.5 × its bound, plus one", claim_4),
    "5": ("One advance ≤ 1 ms, one analysis of 10^6 calls ≤ 5 ms", claim_5),
}


def called(work: Callable[[], Found]) -> Found:
    return work()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_const", dest="size", const=0.25, default=1.0, help="a quarter of it")
    parser.add_argument("--full", action="store_const", dest="size", const=4.0, help="four times as many")
    parser.add_argument("--seed", default="pointsman")
    parser.add_argument("--only", nargs="*", choices=CLAIMS, default=list(CLAIMS))
    asked = parser.parse_args()
    began, failed = time.monotonic(), 0
    with ProcessPoolExecutor(2) as pool:
        for number in asked.only:
            title, claim = CLAIMS[number]
            seed = f"{asked.seed} {number}"
            print(f"\n{number}. {title} (seed {seed!r})", flush=True)
            jobs = claim(seed, asked.size)
            # What is timed is not to share its processor.
            results = map(called, jobs) if number == "5" else pool.map(called, jobs)
            for found in results:
                failed += found.passed is False
                print(
                    f"   {'    ' if found.passed is None else 'PASS' if found.passed else 'FAIL'}  {found.text}",
                    flush=True,
                )
    print(f"\n{'FAIL: ' + str(failed) if failed else 'PASS'}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
