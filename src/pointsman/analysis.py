"""Is the canary worse? Exact, anytime-valid evidence from counts of calls, bucket by bucket. Pure.

    evidence = none(metric)                       before the rollout
    evidence = weigh(evidence, bucket)            each minute
    judgement = judge(evidence, alpha=0.01)       as often as wanted: looking costs nothing

Three e-processes run side by side (Ramdas, Grünwald, Vovk & Shafer 2023, "Game-theoretic statistics and safe
anytime-valid inference"): while a hypothesis is true, the probability that its e-value *ever* reaches 1/α is at most α
(Ville 1939). *Worse* is tested given each bucket's number of bad calls (Fisher's noncentral hypergeometric), so no
baseline need be steady. *No worse than tolerated* is its mirror for odds ratios; for differences it is the e-variable
of Turner, Ly & Grünwald (2024, "Generic e-variables for exact sequential k-sample tests that allow for optional
stopping"). docs/analysis.md derives it all, and says what is guaranteed and what is only measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import exp, inf, isfinite, log, log1p, sqrt

import msgspec

from pointsman.model import Value, Verdict
from pointsman.odds import divergence, log_mgf, nearest_difference, nearest_ratio

LN10 = log(10)

# Odds ratios for which evidence is summed, and how likely each is held to be beforehand. Large ones may be far apart:
# who expects 30 times and meets 50 learns 1 % slower. Nothing is staked below 1.1: nobody would notice.
WORSE = {
    1.1: 0.02, 1.25: 0.04, 1.5: 0.09, 1.75: 0.06, 2.0: 0.12, 2.5: 0.11, 3.0: 0.11, 4.0: 0.1, 5.0: 0.08, 7.0: 0.06,
    10.0: 0.07, 17.0: 0.05, 30.0: 0.07, 80.0: 0.01, 200.0: 0.01,
}  # fmt: skip
ODDS = (*(1 / each for each in reversed(WORSE)), *WORSE)
# A fifth is kept for regressions that begin later than the rollout (a leak, a cache that ran out).
KEPT, PATIENCE_S = 0.2, 600.0
# Differences of rates that are excluded one by one, from the largest: 0.5 down to 0.000008, by √2.
DIFFERENCES = tuple(2 ** (-k / 2) for k in range(34, 1, -1))
HEDGE = 0.1  # of each bucket's stake: an outage in one bucket costs at most log 10 of evidence
CAP = 14.0  # nats: evidence of good times that a canary may have in store when it turns bad
EQUAL = 0.6  # how likely it is held beforehand that there is no difference at all
MEMORY = 64.0  # bad calls from which the next bucket's rates are foretold: few enough to learn soon
FIRST_GUESS = (500.0, 0.5)  # calls, bad ones: forgotten as soon as there is more to remember
LEAST_ALPHA = 1e-5


class Counts(Value, frozen=True, kw_only=True):
    """Calls, and the bad ones among them."""

    calls: int = 0
    bad: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.calls:
            raise ValueError(f"{self.bad} bad calls of {self.calls} cannot be: count 0 <= bad <= calls")

    def __add__(self, other: Counts) -> Counts:
        return Counts(calls=self.calls + other.calls, bad=self.bad + other.bad)

    def __str__(self) -> str:
        return f"{self.bad:,} of {self.calls:,}"


class Bucket(Value, frozen=True, kw_only=True):
    """One period of one metric, both versions: it begins `at` (epoch seconds) and lasts `seconds`."""

    metric: str
    at: float
    seconds: float
    canary: Counts
    baseline: Counts

    def __post_init__(self) -> None:
        if not 0 < self.seconds < inf:
            raise ValueError(f"a bucket cannot last {self.seconds} seconds")


class Metric(Value, frozen=True, kw_only=True):
    """What is compared, and how much worse is tolerated: an extra share of bad calls, or a ratio of odds.

    With both, what exceeds either one is not yet too much: only what exceeds both. With neither, the ratio is 2
    (`slow`: 1.5). `dispersion` (φ ≥ 1) says how many bad calls come together: all evidence is divided by it.
    """

    name: str
    difference: float | None = None
    ratio: float | None = None
    dispersion: float = 1.0

    def __post_init__(self) -> None:
        if self.difference is not None and not 0 < self.difference <= 0.5:
            raise ValueError(f"{self.name}: a tolerated difference of {self.difference} is not above 0 and at most 0.5")
        if self.ratio is not None and not 1 < self.ratio <= 1000:
            raise ValueError(f"{self.name}: a tolerated ratio of {self.ratio} is not above 1 and at most 1000")
        if not 1 <= self.dispersion < inf:
            raise ValueError(f"{self.name}: a dispersion of {self.dispersion} is not at least 1")

    @property
    def tolerated_ratio(self) -> float | None:
        """The ratio in force, None where only a difference is."""
        if self.ratio is None and self.difference is None:
            return 1.5 if self.name == "slow" else 2.0
        return self.ratio

    @property
    def tolerated(self) -> str:
        """In words."""
        parts = [f"{self.difference:.3g} more of all calls bad"] if self.difference is not None else []
        parts += [f"{ratio:g} times the odds"] if (ratio := self.tolerated_ratio) is not None else []
        return " or ".join(parts)


class Evidence(Value, frozen=True, kw_only=True):
    """All buckets of one metric so far, in constant size. Numbers are in nats (log e) unless said otherwise."""

    metric: Metric
    canary: Counts
    baseline: Counts
    seconds: float  # of the buckets that could be compared
    likelihood: tuple[float, ...]  # log likelihood ratio against 1, for each of ODDS and for the tolerated ratio
    worse: tuple[float, ...]  # wealth of each of WORSE, stakes included
    within_ratio: tuple[float, ...]  # wealth of each alternative below the tolerated ratio
    within: tuple[tuple[float, float], ...]  # wealth against each of DIFFERENCES and the tolerated one: see _exclude
    memory: tuple[float, float]  # the baseline's calls and bad ones, as far as they are remembered
    strata: tuple[float, float, float, float]  # Mantel–Haenszel: odds' numerator, denominator, difference's, weight


class Judgement(Value, frozen=True, kw_only=True):
    """What the evidence says, with its numbers.

    `worse`, `no_worse` and `limit` are log10 of e-values: worse ≥ limit proves that the canary is worse, no_worse ≥
    limit that it is not worse than tolerated. `ratio` is the estimated odds ratio and `low`..`high` its interval, valid
    at all times together with probability 1 − α; None: no estimate, no upper bound. `extra` is the estimated extra
    share of bad calls, `extra_high` its upper bound, valid likewise (1.0 with no data). `needed`: calls of the canary
    until a verdict if all goes on as estimated; None where none is in sight.
    """

    metric: str
    verdict: Verdict
    canary: Counts
    baseline: Counts
    worse: float
    no_worse: float
    limit: float
    ratio: float | None
    low: float
    high: float | None
    extra: float
    extra_high: float
    needed: int | None
    why: str


def none(metric: Metric, history: Counts | None = None) -> Evidence:
    """No evidence yet. `history`: the baseline's counts before the rollout, a first guess of its rate; no evidence."""
    return Evidence(
        metric=metric,
        canary=Counts(),
        baseline=Counts(),
        seconds=0.0,
        likelihood=(0.0,) * (len(ODDS) + 1),
        worse=tuple(log((1 - KEPT) * weight) for weight in WORSE.values()),
        within_ratio=tuple(log(weight) for _, weight in _alternatives(metric.tolerated_ratio)),
        within=((log(EQUAL), log(1 - EQUAL)),) * len(_differences(metric)),
        memory=_remember(FIRST_GUESS, history or Counts()),
        strata=(0.0, 0.0, 0.0, 0.0),
    )


def weigh(evidence: Evidence, bucket: Bucket) -> Evidence:
    """The evidence with one bucket more. Where either version had no call, only the totals grow.

    The order of buckets matters little, but each must be weighed once. Raises ValueError for another metric's bucket.
    """
    metric, canary, baseline = evidence.metric, bucket.canary, bucket.baseline
    if bucket.metric != metric.name:
        raise ValueError(f"a bucket of {bucket.metric!r} is no evidence about {metric.name!r}")
    totals = {"canary": evidence.canary + canary, "baseline": evidence.baseline + baseline}
    if not canary.calls or not baseline.calls:
        return msgspec.structs.replace(evidence, **totals)
    by_odds = _by_odds(metric, canary, baseline)
    return msgspec.structs.replace(
        evidence,
        **totals,
        seconds=evidence.seconds + bucket.seconds,
        likelihood=tuple(old + new for old, new in zip(evidence.likelihood, by_odds, strict=True)),
        worse=_stake(evidence, bucket.seconds, by_odds),
        within_ratio=_capped(
            [
                old + (by_odds[at] if at is not None else 0.0) - by_odds[-1]
                for old, (at, _) in zip(evidence.within_ratio, _alternatives(metric.tolerated_ratio), strict=True)
            ]
        ),
        within=_exclude(evidence, canary, baseline),
        memory=_remember(evidence.memory, baseline),
        strata=_stratify(evidence.strata, canary, baseline),
    )


def _by_odds(metric: Metric, canary: Counts, baseline: Counts) -> tuple[float, ...]:
    """log P_ψ(e_c | e) / P_1(e_c | e) for each of ODDS and for the tolerated ratio, divided by the dispersion."""
    bad = canary.bad + baseline.bad
    if bad in (0, canary.calls + baseline.calls):
        return (0.0,) * (len(ODDS) + 1)
    logs = [log(each) for each in ODDS]
    found = [canary.bad * each - log_mgf(each, bad, canary.calls, baseline.calls) for each in logs]
    # The tolerated ratio is what others are compared with: rounding must not make it less likely.
    tolerated = log(metric.tolerated_ratio or 1.0)
    found.append(canary.bad * tolerated - log_mgf(tolerated, bad, canary.calls, baseline.calls, down=True))
    return tuple(each / metric.dispersion for each in found)


def _stake(evidence: Evidence, seconds: float, by_odds: tuple[float, ...]) -> tuple[float, ...]:
    """What was kept is staked little by little, so that evidence may also begin to gather late."""
    staked = _kept(evidence.seconds) - _kept(evidence.seconds + seconds)
    gains = by_odds[len(WORSE) : -1]
    return tuple(
        _log_sum((old, log(staked * weight))) + gain
        for old, weight, gain in zip(evidence.worse, WORSE.values(), gains, strict=True)
    )


def _kept(seconds: float) -> float:
    return KEPT / sqrt(1 + seconds / PATIENCE_S)


@lru_cache(maxsize=64)
def _alternatives(ratio: float | None) -> tuple[tuple[int | None, float], ...]:
    """What a canary within the tolerated ratio may be: (index in ODDS; None: equal, weight). Equal is likeliest."""
    if ratio is None:
        return ()
    others = [index for index, each in enumerate(ODDS) if 0.1 <= each < ratio and not 0.9 < each < 1.2]
    return ((None, 0.6), *((index, 0.4 / len(others)) for index in others))


def _exclude(evidence: Evidence, canary: Counts, baseline: Counts) -> tuple[tuple[float, float], ...]:
    """Against each difference d: the likelihood of rates foretold, over that of the nearest ones with p_c − p_b ≥ d.

    Two are foretold: that the versions are equal, and that they differ as they did. Each is a column of `within`.
    Valid for whole buckets: docs, "No worse by a difference".
    """
    n_c, n_b = canary.calls, baseline.calls
    made: list[tuple[float, float]] = []
    foretold = _foretold(evidence)
    for wealth, difference in zip(evidence.within, _differences(evidence.metric), strict=True):
        both: list[float] = []
        for old, (q_c, q_b) in zip(wealth, foretold, strict=True):
            if q_c - q_b >= difference:
                both.append(old)  # foretold to be that much worse: nothing to win against it
                continue
            p_c, p_b, slope = nearest_difference(q_c, q_b, difference, n_c, n_b)
            gain = (
                canary.bad * log(q_c / p_c)
                + (n_c - canary.bad) * log1p((p_c - q_c) / (1 - p_c))
                + baseline.bad * log(q_b / p_b)
                + (n_b - baseline.bad) * log1p((p_b - q_b) / (1 - p_b))
                - abs(slope)
            ) / evidence.metric.dispersion
            hedged = log(HEDGE + (1 - HEDGE) * exp(gain)) if gain < 50 else gain + log(1 - HEDGE)
            both.append(old + hedged)
        equal, apart = _capped(both)
        made.append((equal, apart))
    return tuple(made)


def _differences(metric: Metric) -> tuple[float, ...]:
    return DIFFERENCES if metric.difference is None else (*DIFFERENCES, metric.difference)


def _foretold(evidence: Evidence) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rates (canary, baseline) to expect next, known before the bucket: equal ones, and such that differ as before.

    That difference counts as much as calls stand behind it, against as many as have two bad ones among them.
    """
    calls, bad = evidence.memory
    rate = min(0.999, bad / calls)
    _, _, shift, weight = evidence.strata
    other = rate + shift / (weight + min(2000.0, 2 / rate))
    return (rate, rate), (min(0.999, max(rate / 50, other)), rate)


def _remember(memory: tuple[float, float], baseline: Counts) -> tuple[float, float]:
    calls, bad = memory[0] + baseline.calls, memory[1] + baseline.bad
    keep = min(1.0, MEMORY / bad)
    return calls * keep, bad * keep


def _stratify(
    strata: tuple[float, float, float, float], canary: Counts, baseline: Counts
) -> tuple[float, float, float, float]:
    """Mantel & Haenszel 1959: compared within buckets, so that weights and outages that move together do no harm."""
    calls = canary.calls + baseline.calls
    return (
        strata[0] + canary.bad * ((baseline.calls - baseline.bad) / calls),
        strata[1] + baseline.bad * ((canary.calls - canary.bad) / calls),
        strata[2] + (canary.bad * (baseline.calls / calls) - baseline.bad * (canary.calls / calls)),
        strata[3] + canary.calls * (baseline.calls / calls),
    )


def judge(evidence: Evidence, *, alpha: float, minimum: int = 0) -> Judgement:
    """The verdict at `alpha`, this metric's share of the error allowed; to pass, the canary had `minimum` calls.

    FAIL: it is worse, by more than is tolerated as far as can be seen, and not proven to be within that. PASS: it is
    proven to be. Else INCONCLUSIVE. (What is tolerated narrows FAIL only: α holds with it as without.)
    Raises ValueError for an alpha outside [0.00001, 1).
    """
    if not LEAST_ALPHA <= alpha < 1:
        raise ValueError(f"alpha = {alpha} is not between {LEAST_ALPHA:g} and 1: take 0.01, say")
    limit = -log(alpha)
    worse = _log_sum((*evidence.worse, log(_kept(evidence.seconds))))
    no_worse = _no_worse(evidence)
    proven = no_worse >= limit
    up, down, shift, weight = evidence.strata
    extra, ratio = shift / weight if weight else 0.0, up / down if down else None
    if worse >= limit and not proven and beyond(evidence.metric, extra, ratio):
        verdict = Verdict.FAIL
    elif proven and evidence.canary.calls >= minimum:
        verdict = Verdict.PASS
    else:
        verdict = Verdict.INCONCLUSIVE
    low, high = _interval(evidence, limit)
    judged = Judgement(
        metric=evidence.metric.name,
        verdict=verdict,
        canary=evidence.canary,
        baseline=evidence.baseline,
        worse=worse / LN10,
        no_worse=no_worse / LN10,
        limit=limit / LN10,
        ratio=ratio,
        low=low,
        high=high,
        extra=extra,
        extra_high=_extra_high(evidence, limit),
        needed=None,
        why="",
    )
    needed = _needed(evidence, judged, minimum) if verdict is Verdict.INCONCLUSIVE else 0
    judged = msgspec.structs.replace(judged, needed=needed)
    return msgspec.structs.replace(judged, why=_why(evidence.metric, judged, minimum))


def beyond(metric: Metric, extra: float, ratio: float | None) -> bool:
    """Whether the estimates exceed what was said to be tolerated (both, where both were); true where nothing was."""
    over = metric.difference is None or extra > metric.difference
    return over and (metric.ratio is None or ratio is None or ratio > metric.ratio)


def _no_worse(evidence: Evidence) -> float:
    """Where both a ratio and a difference are tolerated, exceeding both is the hypothesis: either's evidence is against
    it, and so is their mean."""
    found: list[float] = []
    if evidence.within_ratio:
        found.append(_log_sum(evidence.within_ratio))
    if evidence.metric.difference is not None:
        found.append(_log_sum(evidence.within[-1]))
    return _log_sum(found) - log(len(found))


def _interval(evidence: Evidence, limit: float) -> tuple[float, float | None]:
    """All odds ratios that the mixture over ODDS does not refute, rounded outward: {ψ: log mixture − log L(ψ) < limit}.

    log L is concave in log ψ. So between two points it lies below the chords beyond them, extended.
    """
    middle = len(WORSE)
    at = [log(each) for each in (*ODDS[:middle], 1.0, *ODDS[middle:])]
    height = [*evidence.likelihood[:middle], 0.0, *evidence.likelihood[middle:-1]]
    sides = list(WORSE.values())
    weights = [*(each * 0.45 for each in reversed(sides)), 0.1, *(each * 0.45 for each in sides)]
    floor = _log_sum([log(weight) + each for weight, each in zip(weights, height, strict=True)]) - limit
    high = _crossing(at, height, floor)
    low = _crossing([-each for each in reversed(at)], height[::-1], floor)
    return (0.0 if low is None else exp(-low)), (None if high is None else exp(high))


def _crossing(at: list[float], height: list[float], floor: float) -> float | None:
    """Where the concave curve through these points has certainly fallen below `floor`; None: perhaps never."""
    last = max(index for index, each in enumerate(height) if each >= floor)
    bounds: list[float] = []
    if last > 0 and (slope := (height[last] - height[last - 1]) / (at[last] - at[last - 1])) < 0:
        bounds.append(at[last] + (floor - height[last]) / slope)
    if last + 1 < len(at):
        bounds.append(at[last + 1])
    if last + 2 < len(at):
        slope = (height[last + 2] - height[last + 1]) / (at[last + 2] - at[last + 1])
        bounds.append(at[last + 1] + (floor - height[last + 1]) / slope)
    # The largest of ODDS once more beyond: further away nothing can be told.
    found = min(bounds, default=inf)
    return found if found <= 2 * at[-1] else None


def _extra_high(evidence: Evidence, limit: float) -> float:
    """The smallest of DIFFERENCES that is refuted together with all larger ones: so one refutation that is wrong is
    enough for the bound to be wrong, and each has a probability of α."""
    bound = 1.0
    for difference, wealth in zip(reversed(DIFFERENCES), evidence.within[len(DIFFERENCES) - 1 :: -1], strict=True):
        if _log_sum(wealth) < limit:
            break
        bound = difference
    return bound


def _needed(evidence: Evidence, judged: Judgement, minimum: int) -> int | None:
    """By the estimates so far: evidence still missing, over what a call brings."""
    canary, baseline = evidence.canary, evidence.baseline
    if not canary.calls or not baseline.calls:
        return None
    if judged.no_worse >= judged.limit:
        return minimum - canary.calls
    rate = (baseline.bad + 0.5) / (baseline.calls + 1)
    ratio = min(1000.0, max(0.001, judged.ratio if judged.ratio is not None else 1.0))
    share = ratio * rate / (1 - rate + ratio * rate)
    weight = canary.calls / (canary.calls + baseline.calls)
    found: list[float] = []
    for have, tolerated in ((judged.worse, None), (judged.no_worse, evidence.metric)):
        if tolerated is None and share <= rate:
            continue
        gain = information(share, rate, weight, tolerated) / (weight * evidence.metric.dispersion)
        if gain > 0:
            found.append((judged.limit - have) * LN10 / gain)
    calls = min(found, default=inf)
    return max(1, round(calls)) if calls < 1e9 else None


def _why(metric: Metric, judged: Judgement, minimum: int) -> str:
    if not judged.canary.calls or not judged.baseline.calls:
        missing = "the canary" if not judged.canary.calls else "the baseline"
        return f"{metric.name}: no call of {missing} was counted yet, so there is nothing to compare"
    counted = f"{metric.name}: {judged.canary} calls of the canary were bad, {judged.baseline} of the baseline"
    if judged.ratio is not None and judged.canary.bad:
        upper = f"{judged.low:.2g} to {judged.high:.3g}" if judged.high is not None else f"at least {judged.low:.2g}"
        counted += f", {judged.ratio:.3g} times the odds ({upper})"
    worse = f"evidence that it is worse is 10^{judged.worse:.1f}, 10^{judged.limit:.1f} is enough"
    no_worse = f"evidence that it is within what is tolerated ({metric.tolerated}) is 10^{judged.no_worse:.1f}"
    match judged.verdict:
        case Verdict.FAIL:
            return f"{counted}; {worse}"
        case Verdict.PASS:
            tail = "; it is worse, but no more than that" if judged.worse >= judged.limit else ""
            return f"{counted}; {no_worse}, 10^{judged.limit:.1f} is enough{tail}"
        case _ if judged.no_worse >= judged.limit:
            return f"{counted}; {no_worse}; it passes once the canary had {minimum:,} calls"
        case _:
            ahead = f"about {judged.needed:,} more calls of the canary would tell" if judged.needed else "none in sight"
            return f"{counted}; no verdict yet: {worse}; {no_worse}; {ahead}"


def combine(judgements: Iterable[Judgement]) -> Verdict:
    """The worst verdict; inconclusive where there is none."""
    return max((each.verdict for each in judgements), default=Verdict.INCONCLUSIVE)


def shares(alpha: float, metrics: int) -> float:
    """Each metric's share of α, so that all together err with probability α at most (Bonferroni)."""
    if metrics < 1:
        raise ValueError("there is no metric to share alpha over: name at least one")
    return alpha / metrics


def information(canary: float, baseline: float, weight: float, tolerated: Metric | None = None) -> float:
    """Nats that one call of the alias brings on average, at best, with true rates and the canary's `weight`.

    Against "equally good", or with `tolerated` against "worse than that": KL divergence to the nearest rates that the
    hypothesis allows. 0 where the hypothesis is true.
    """
    canary, baseline = (min(max(each, 1e-12), 1 - 1e-12) for each in (canary, baseline))

    def distance(p_c: float, p_b: float) -> float:
        return weight * divergence(canary, p_c) + (1 - weight) * divergence(baseline, p_b)

    if tolerated is None:
        if canary <= baseline:
            return 0.0
        pooled = weight * canary + (1 - weight) * baseline
        return distance(pooled, pooled)
    found = [0.0]
    difference, ratio = tolerated.difference, tolerated.tolerated_ratio
    if difference is not None and canary - baseline < difference:
        p_c, p_b, _ = nearest_difference(canary, baseline, difference, weight, 1 - weight)
        found.append(distance(p_c, p_b))
    if ratio is not None and canary * (1 - baseline) < ratio * baseline * (1 - canary):
        found.append(distance(*nearest_ratio(canary, baseline, ratio, weight, 1 - weight)))
    return max(found)


def information_bound(
    canary: float, baseline: float, *, weight: float, alpha: float, tolerated: Metric | None = None
) -> float:
    """Calls of the alias that any test needs on average until its e-value is 1/α: log(1/α) over `information`; inf.

    With `tolerated`: until it is shown to be no worse than that.
    """
    gain = information(canary, baseline, weight, tolerated)
    return -log(alpha) / gain if gain > 0 else inf


def dispersion(buckets: Sequence[Counts]) -> float:
    """φ: how many bad calls come together, from the baseline's own minutes before the rollout; 1.0 if there are few.

    Each minute is compared with the mean of its neighbours, so that drift and daily cycles do not count: φ is how much
    further it lies from that than calls that fail one by one would. Minutes around a single outage (at most ten, if
    they alone make more than half of φ) are left out. Rounded up by a standard error; 1.0 unless above 1 by two.
    An estimate, and no guarantee: give it a day of minutes, for what came only once looks like an outage.
    """
    found: list[tuple[float, float]] = []  # how far apart, squared, and how far it would be by chance
    for one, two, three in zip(buckets, buckets[1:], buckets[2:], strict=False):
        calls = one.calls + two.calls + three.calls
        if not (one.calls and two.calls and three.calls):
            continue
        rate = (one.bad + two.bad + three.bad) / calls
        apart = one.bad / one.calls - 2 * two.bad / two.calls + three.bad / three.calls
        unit = 1 / one.calls + 4 / two.calls + 1 / three.calls
        found.append((apart * apart / unit * calls / 3, rate * (1 - rate) * calls * calls / (3 * (calls - 1))))
    whole, outage = _excess(found), 12
    if len(found) < 3 * outage:
        return whole
    at = max(range(len(found) - outage + 1), key=lambda first: sum(seen for seen, _ in found[first : first + outage]))
    rest = _excess([*found[:at], *found[at + outage :]])
    return rest if rest < whole / 2 else whole


def _excess(found: Sequence[tuple[float, float]]) -> float:
    expected = sum(chance for _, chance in found)
    if len(found) < 10 or expected < 5:
        return 1.0
    ratio = sum(seen for seen, _ in found) / expected
    # Twice, because neighbours share minutes: their squares are correlated (4/9 and 1/36).
    if ratio < 1 + 2 * sqrt(2 * sum(2 * chance * chance + chance for _, chance in found)) / expected:
        return 1.0
    return ratio + sqrt(2 * sum((seen - ratio * chance) ** 2 for seen, chance in found)) / expected


def _capped(wealth: Sequence[float]) -> tuple[float, ...]:
    """What exceeds CAP in all is given away, which may be done at any time; each keeps its share of the rest."""
    over = max(0.0, _log_sum(wealth) - CAP) if wealth else 0.0
    return tuple(each - over for each in wealth)


def _log_sum(logs: Sequence[float]) -> float:
    """log Σ exp."""
    top = max(logs)
    if not isfinite(top):
        return top
    return top + log(sum(exp(each - top) for each in logs))


__all__ = [
    "Bucket",
    "Counts",
    "Evidence",
    "Judgement",
    "Metric",
    "combine",
    "dispersion",
    "information",
    "information_bound",
    "judge",
    "none",
    "shares",
    "weigh",
]
