"""The evidence is right: exact where another way is known, never too strong, and nearly as fast as any could be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from math import ceil, comb, exp, fsum, inf, isfinite, lgamma, log, log1p, log10, prod, sin, sqrt
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.analysis import (
    WORSE,
    Bucket,
    Counts,
    Evidence,
    Judgement,
    Metric,
    combine,
    dispersion,
    information,
    information_bound,
    judge,
    none,
    shares,
    weigh,
)
from pointsman.model import Verdict, from_json, to_json
from pointsman.odds import divergence, log_hypergeometric, log_mgf, nearest_difference, nearest_ratio

ALPHA = 0.01
ERRORS = Metric(name="errors")


def bucket(canary: tuple[int, int], baseline: tuple[int, int], *, seconds: float = 60.0) -> Bucket:
    """(bad, calls) of each."""
    return Bucket(
        metric="errors",
        at=0.0,
        seconds=seconds,
        canary=Counts(bad=canary[0], calls=canary[1]),
        baseline=Counts(bad=baseline[0], calls=baseline[1]),
    )


def judged(metric: Metric, *buckets: Bucket, minimum: int = 0) -> Judgement:
    evidence = none(metric)
    for each in buckets:
        evidence = weigh(evidence, each)
    return judge(evidence, alpha=ALPHA, minimum=minimum)


# --- the numerics


def exact_log_mgf(odds: Fraction, bad: int, canary: int, baseline: int) -> float:
    good = canary + baseline - bad
    terms = (comb(bad, k) * comb(good, canary - k) * odds**k for k in range(min(bad, canary) + 1) if canary - k <= good)
    total = sum(terms, Fraction(0)) / comb(canary + baseline, canary)
    return log(total.numerator) - log(total.denominator)


def test_a_lady_tasting_tea() -> None:
    """Fisher 1935: of 8 cups 4 are chosen; 4, 3, 2, 1, 0 right in 1, 16, 36, 16, 1 of 70 ways."""
    assert exp(log_mgf(log(2), 4, 4, 4)) == pytest.approx((1 + 16 * 2 + 36 * 4 + 16 * 8 + 16) / 70, rel=1e-8)
    assert exp(log_hypergeometric(3, 4, 4, 4)) == pytest.approx(16 / 70, rel=1e-14)


@given(
    st.integers(1, 60), st.integers(1, 400), st.data(), st.sampled_from(["1/200", "1/2", "10/11", "11/10", "3", "200"])
)
def test_small_tables_are_exact_and_rounded_to_the_safe_side(
    canary: int, baseline: int, data: st.DataObject, odds: str
) -> None:
    bad = data.draw(st.integers(0, canary + baseline))

    exact = exact_log_mgf(Fraction(odds), bad, canary, baseline)
    found = log_mgf(log(Fraction(odds)), bad, canary, baseline)

    assert -1e-12 * (1 + abs(exact)) <= found - exact <= 2e-9


@pytest.mark.parametrize("odds", [1 / 30, 1.1, 2.0, 200.0])
@pytest.mark.parametrize(
    ("bad", "canary", "baseline"),
    [
        (2_700, 2_700, 24_300),
        (2_900, 2_900, 26_100),
        (9_000, 6_000, 54_000),
        (20_000, 60_000, 540_000),
        (50_000, 1_000, 10**6),
    ],
)
def test_large_tables_agree_with_the_whole_sum(bad: int, canary: int, baseline: int, odds: float) -> None:
    """Both sides of the place where summing each term gives way to the trapezoidal rule (a spread of 16)."""

    def choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    calls = canary + baseline
    logs = [
        choose(bad, k) + choose(calls - bad, canary - k) + k * log(odds)
        for k in range(max(0, bad - baseline), min(bad, canary) + 1)
    ]
    top = max(logs)
    whole = top + log(fsum(exp(each - top) for each in logs)) - choose(calls, canary)

    assert log_mgf(log(odds), bad, canary, baseline) == pytest.approx(whole, rel=1e-11, abs=3e-8)


@pytest.mark.parametrize("odds", [Fraction(1, 30), Fraction(11, 10), Fraction(200)])
def test_a_handful_among_a_milliard_is_exact(odds: Fraction) -> None:
    found = log_mgf(log(odds), 300_000_000, 7, 10**9)

    assert found == pytest.approx(exact_log_mgf(odds, 300_000_000, 7, 10**9), abs=3e-9)


@pytest.mark.parametrize("calls", [10**4, 10**6, 10**9])
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.3, 0.8])
@pytest.mark.parametrize("odds", [0.5, 1.25, 30.0])
def test_large_tables_read_the_same_from_all_sides(calls: int, share: float, odds: float) -> None:
    """Rows for columns; the baseline's bad calls instead of the canary's: other cells, other sums, the same value."""
    bad, canary, baseline = int(calls * share), calls // 10, calls - calls // 10

    found = log_mgf(log(odds), bad, canary, baseline)

    assert log_mgf(log(odds), canary, bad, calls - bad) == pytest.approx(found, rel=1e-12, abs=4e-9)
    assert bad * log(odds) + log_mgf(-log(odds), bad, baseline, canary) == pytest.approx(found, rel=1e-12, abs=4e-9)


def test_hoeffding_bounds_it_from_above_and_jensen_from_below() -> None:
    for bad, canary, baseline in itertools.product((3, 500, 40_000), (50, 70_000), (100, 900_000)):
        if bad < canary + baseline:
            for odds in (0.1, 1.1, 20.0):
                found = log_mgf(log(odds), bad, canary, baseline)
                share = canary / (canary + baseline)
                assert bad * share * log(odds) <= found <= bad * log1p(share * (odds - 1)) + 1e-12


@given(st.floats(1e-6, 0.9), st.floats(0.001, 0.5), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_nearest_difference_is_the_nearest(rate: float, difference: float, n_c: int, n_b: int) -> None:
    p_c, p_b, _ = nearest_difference(rate, rate, difference, n_c, n_b) if rate + difference < 1 else (0.9, 0.1, 0.0)
    if rate + difference >= 1:
        return

    def distance(p: float) -> float:
        return n_c * divergence(rate, p + difference) + n_b * divergence(rate, p)

    assert p_c - p_b == pytest.approx(difference)
    others = [p_b * (1 + step) for step in (-0.1, -1e-3, 1e-3, 0.1)]
    assert all(distance(p_b) <= distance(p) * (1 + 1e-9) for p in others if 0 < p < 1 - difference)


def test_the_nearest_ratio_keeps_the_expected_number_of_bad_calls() -> None:
    p_c, p_b = nearest_ratio(0.02, 0.02, 3.0, 100, 900)

    assert p_c / (1 - p_c) == pytest.approx(3 * p_b / (1 - p_b))
    assert 100 * p_c + 900 * p_b == pytest.approx(20)


# --- e-values are e-values


def binomial(k: int, n: int, p: float) -> float:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


@lru_cache
def outcomes(metric: Metric) -> list[tuple[tuple[int, int, int, int], Judgement]]:
    """All of two buckets of 3 and 4 calls: bad calls (canary's, baseline's, twice) and what is judged then."""
    found = []
    for c, b in itertools.product(range(4), range(5)):
        first = weigh(none(metric), bucket((c, 3), (b, 4)))
        for c2, b2 in itertools.product(range(4), range(5)):
            found.append(((c, b, c2, b2), judge(weigh(first, bucket((c2, 3), (b2, 4))), alpha=ALPHA)))
    return found


def expectation(metric: Metric, worlds: list[tuple[float, float]], of: Callable[[Judgement], float]) -> float:
    """Each bucket with its own true rates (canary, baseline)."""
    rates = list(itertools.chain(*worlds))
    return fsum(
        10 ** of(judgement) * prod(binomial(k, n, rate) for k, n, rate in zip(bad, (3, 4, 3, 4), rates, strict=True))
        for bad, judgement in outcomes(metric)
    )


@pytest.mark.parametrize(
    "worlds", [[(0.5, 0.5), (0.5, 0.5)], [(0.01, 0.01), (0.9, 0.9)], [(0.2, 0.4), (0.3, 0.3)], [(0.0, 0.3), (0.1, 0.8)]]
)
def test_evidence_of_worse_is_worth_one_at_most_where_it_is_not(worlds: list[tuple[float, float]]) -> None:
    """Whatever the baseline does between buckets. Exactly one where they are equal: nothing is given away."""
    found = expectation(ERRORS, worlds, lambda judgement: judgement.worse)

    assert found <= 1 + 1e-9
    if all(canary == baseline for canary, baseline in worlds):
        assert found == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dispersion", [1.0, 3.0])
@pytest.mark.parametrize("baseline", [0.02, 0.3, 0.6])
@pytest.mark.parametrize("metric", [Metric(name="errors", ratio=2.0), Metric(name="errors", difference=0.2)])
def test_evidence_of_no_worse_is_worth_one_at_most_where_it_is(
    metric: Metric, baseline: float, dispersion: float
) -> None:
    metric = Metric(name="errors", ratio=metric.ratio, difference=metric.difference, dispersion=dispersion)
    odds = 2 * baseline / (1 - baseline)
    edge = baseline + 0.2 if metric.difference else odds / (1 + odds)

    for canary in (edge, (1 + edge) / 2):
        worlds = [(canary, baseline), (edge, baseline)]
        assert expectation(metric, worlds, lambda judgement: judgement.no_worse) <= 1 + 1e-9


def test_a_whole_bucket_against_every_point_of_the_null() -> None:
    """The theorem behind differences, by brute force: E[q/p°] ≤ 1 on the whole null, with calls that differ a lot."""
    n_c, n_b, q_c, q_b, difference = 40, 7, 0.05, 0.08, 0.1
    p_c, p_b, _ = nearest_difference(q_c, q_b, difference, n_c, n_b)

    for base, extra in itertools.product([k / 40 for k in range(37)], [0.1, 0.13, 0.3]):
        if base + extra > 1:
            continue
        mine = [
            binomial(k, n_c, base + extra) * (q_c / p_c) ** k * ((1 - q_c) / (1 - p_c)) ** (n_c - k)
            for k in range(n_c + 1)
        ]
        other = [
            binomial(k, n_b, base) * (q_b / p_b) ** k * ((1 - q_b) / (1 - p_b)) ** (n_b - k) for k in range(n_b + 1)
        ]
        assert fsum(mine) * fsum(other) <= 1 + 1e-9


def test_one_bucket_by_hand() -> None:
    """5 of 10 against 1 of 20: the mixture of Fisher's noncentral over the central probabilities, in fractions."""
    ratios = [exp(5 * log(odds) - exact_log_mgf(Fraction(odds), 6, 10, 20)) for odds in WORSE]
    mixture = fsum(weight * each for weight, each in zip(WORSE.values(), ratios, strict=True))
    kept = 0.2 / sqrt(1 + 60 / 600)

    assert 10 ** judged(ERRORS, bucket((5, 10), (1, 20))).worse == pytest.approx(kept + (1 - kept) * mixture, rel=1e-6)


# --- verdicts


def test_no_data_is_inconclusive_and_never_a_pass() -> None:
    for each in (
        judged(ERRORS),
        judged(ERRORS, bucket((0, 0), (0, 10**6))),
        judged(ERRORS, bucket((9, 10**6), (0, 0))),
    ):
        assert each.verdict is Verdict.INCONCLUSIVE
        assert (each.ratio, each.low, each.high, each.extra_high, each.needed) == (None, 0.0, None, 1.0, None)
        assert "nothing to compare" in each.why
    assert combine([]) is Verdict.INCONCLUSIVE


def test_a_bucket_that_only_one_version_was_called_in_adds_its_totals_only() -> None:
    first = weigh(none(ERRORS), bucket((1, 60), (5, 540)))
    second = weigh(first, bucket((0, 0), (500, 540)))

    assert second.baseline == Counts(calls=1080, bad=505)
    assert judge(second, alpha=ALPHA).worse == judge(first, alpha=ALPHA).worse
    assert second.within == first.within


def test_a_bad_canary_fails_and_the_sentence_has_the_numbers() -> None:
    found = judged(ERRORS, bucket((30, 600), (12, 5400)))

    assert found.verdict is Verdict.FAIL
    assert found.worse > 10
    assert found.low < (found.ratio or 0) < (found.high or 0)
    assert found.why.startswith(
        "errors: 30 of 600 calls of the canary were bad, 12 of 5,400 of the baseline, 23.6 times"
    )
    assert found.extra == pytest.approx(30 / 600 - 12 / 5400)


def test_an_equal_canary_passes_once_it_had_the_minimum_of_calls() -> None:
    minutes = [bucket((60, 6000), (540, 54000))] * 2

    early = judged(ERRORS, *minutes, minimum=15_000)
    late = judged(ERRORS, *minutes, minimum=12_000)

    assert (early.verdict, early.needed) == (Verdict.INCONCLUSIVE, 3_000)
    assert "once the canary had 15,000 calls" in early.why
    assert (late.verdict, late.needed) == (Verdict.PASS, 0)


def test_worse_but_proven_to_be_within_what_is_tolerated_goes_on_and_says_so() -> None:
    tolerant = Metric(name="errors", difference=0.05)

    found = judged(tolerant, *[bucket((900, 60_000), (5_400, 540_000))] * 3)

    assert found.worse > found.limit
    assert found.verdict is Verdict.PASS
    assert found.why.endswith("it is worse, but no more than that")


def test_with_both_tolerances_either_is_enough() -> None:
    """Ten times nearly nothing is within 0.001; 0.01 more of 0.2 is within twice the odds."""
    both = Metric(name="errors", difference=0.001, ratio=2.0)

    rare = judged(both, *[bucket((6, 60_000), (5, 540_000))] * 2)
    common = judged(both, *[bucket((1_260, 6_000), (10_800, 54_000))] * 2)

    assert rare.verdict is common.verdict is Verdict.PASS


def test_verdicts_combine_to_the_worst() -> None:
    bad, quiet = judged(ERRORS, bucket((30, 600), (12, 5400))), judged(ERRORS)

    assert combine([quiet, bad]) is Verdict.FAIL
    assert combine([quiet]) is Verdict.INCONCLUSIVE
    assert shares(0.01, 4) == 0.0025
    with pytest.raises(ValueError, match="at least one"):
        shares(0.01, 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Counts(calls=1, bad=2), "2 bad calls of 1"),
        (lambda: bucket((0, 1), (0, 1), seconds=0), "cannot last 0"),
        (lambda: Metric(name="errors", difference=0.0), "errors: a tolerated difference"),
        (lambda: Metric(name="errors", ratio=1.0), "errors: a tolerated ratio"),
        (lambda: Metric(name="errors", dispersion=0.9), "errors: a dispersion of 0.9"),
        (lambda: weigh(none(Metric(name="slow")), bucket((0, 1), (0, 1))), "'errors' is no evidence about 'slow'"),
        (lambda: judge(none(ERRORS), alpha=0.0), "alpha = 0.0"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


COUNTS = st.integers(0, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(COUNTS, COUNTS), max_size=3), st.sampled_from([None, 1e-6, 0.3]), st.floats(1, 100))
def test_any_counts_give_finite_numbers_that_survive_json(
    counts: list[tuple[tuple[int, int], tuple[int, int]]], difference: float | None, phi: float
) -> None:
    evidence = none(Metric(name="errors", difference=difference, dispersion=phi), Counts(calls=100, bad=3))
    for canary, baseline in counts:
        evidence = weigh(evidence, bucket(canary, baseline))
        again = from_json(to_json(evidence), Evidence)
        found = judge(evidence, alpha=ALPHA)

        assert again == evidence
        assert judge(again, alpha=ALPHA) == found == from_json(to_json(found), Judgement)
        assert all(isfinite(each) for each in (found.worse, found.no_worse, found.low, found.extra, found.extra_high))
        assert found.low <= (inf if found.high is None else found.high)


# --- how often it is wrong, and how fast


def draw(chance: random.Random, n: int, p: float) -> int:
    """A binomial number: by waiting times where few are expected, else by the normal approximation."""
    if p <= 0:
        return 0
    if n * p > 40:
        return min(n, max(0, round(chance.gauss(n * p, sqrt(n * p * (1 - p))))))
    count, at = 0, 0
    while (at := at + int(log(1 - chance.random()) / log1p(-p)) + 1) <= n:
        count += 1
    return count


def minutes(
    chance: random.Random, calls: int, weight: float, rates: Callable[[int], tuple[float, float]]
) -> Iterator[Bucket]:
    """Without end: each call routed at random, and bad at its version's rate of that minute (canary, baseline)."""
    for minute in itertools.count():
        n_c = draw(chance, calls, weight)
        p_c, p_b = rates(minute)
        yield bucket((draw(chance, n_c, p_c), n_c), (draw(chance, calls - n_c, p_b), calls - n_c))


WORLDS: dict[str, Callable[[int, float], float]] = {
    "steady": lambda minute, rate: rate,
    "shared outage": lambda minute, rate: 0.6 if 8 <= minute < 12 else rate,
    "drift": lambda minute, rate: min(0.9, rate * (1 + minute / 10)),
    "cycle": lambda minute, rate: rate * (1 + 0.9 * sin(minute / 8)),
}


@pytest.mark.parametrize("world", WORLDS)
def test_a_healthy_canary_is_rolled_back_once_in_a_hundred_at_most(world: str) -> None:
    """40 rollouts of 18 minutes each; at α = 1 % two alarms or more would come by chance in 6 % of such samples."""
    alarms = 0
    for seed in range(40):
        chance = random.Random(f"{world} {seed}")
        rate, calls = 10 ** chance.uniform(-4, -0.7), chance.choice([60, 600, 6_000, 60_000])
        weight = chance.choice([0.01, 0.1, 0.5])

        def rates(minute: int, rate: float = rate) -> tuple[float, float]:
            return (WORLDS[world](minute, rate),) * 2

        evidence = none(ERRORS)
        for each in itertools.islice(minutes(chance, calls, weight, rates), 18):
            evidence = weigh(evidence, each)
            if judge(evidence, alpha=ALPHA).verdict is Verdict.FAIL:
                alarms += 1
                break
    assert alarms <= 1


def clusters(chance: random.Random, calls: int, rate: float, size: int, weight: float) -> tuple[int, int]:
    """Bad calls (canary's, baseline's) that come `size` together, and go to one version together."""
    canary = baseline = 0
    for _ in range(draw(chance, calls, rate / size)):
        if chance.random() < weight:
            canary += size
        else:
            baseline += size
    return canary, baseline


def test_errors_that_come_together_raise_no_alarm_once_their_dispersion_is_known() -> None:
    alarms, without = 0, 0
    for seed in range(40):
        chance = random.Random(f"clusters {seed}")
        history = [Counts(calls=600, bad=sum(clusters(chance, 600, 0.02, 8, 0.0))) for _ in range(300)]
        known, naive = none(Metric(name="errors", dispersion=dispersion(history))), none(ERRORS)
        failed = blind = False
        for _ in range(20):
            c, b = clusters(chance, 600, 0.02, 8, 0.1)
            each = bucket((c, 60), (b, 540))
            known, naive = weigh(known, each), weigh(naive, each)
            failed = failed or judge(known, alpha=ALPHA).verdict is Verdict.FAIL
            blind = blind or judge(naive, alpha=ALPHA).verdict is Verdict.FAIL
        alarms, without = alarms + failed, without + blind
    assert alarms <= 1
    assert without > 10


def waits(metric: Metric, seeds: int, calls: int, canary: float, baseline: float, *, worse: bool) -> float:
    """The median number of minutes until the e-value reaches 1/α, a tenth of the calls on the canary."""
    found = []
    for seed in range(seeds):
        chance = random.Random(seed)
        evidence = none(metric, Counts(calls=calls * 60, bad=round(calls * 60 * baseline)))
        for minute, each in enumerate(minutes(chance, calls, 0.1, lambda _: (canary, baseline)), 1):
            evidence = weigh(evidence, each)
            judgement = judge(evidence, alpha=ALPHA)
            if (judgement.worse if worse else judgement.no_worse) >= judgement.limit:
                found.append(minute)
                break
    return median(found)


@pytest.mark.parametrize(
    ("calls", "baseline", "times"),
    [(600, 0.0001, 50), (600, 0.01, 3), (600, 0.01, 5), (600, 0.2, 2), (6_000, 0.001, 4), (6_000, 0.001, 10),
     (6_000, 0.01, 1.5), (6_000, 0.0001, 50)],
)  # fmt: skip
def test_a_regression_is_found_within_one_and_a_half_times_the_bound(calls: int, baseline: float, times: float) -> None:
    odds = times * baseline / (1 - baseline)
    canary = odds / (1 + odds)
    bound = information_bound(canary, baseline, weight=0.1, alpha=ALPHA) / calls

    assert waits(ERRORS, 61, calls, canary, baseline, worse=True) <= ceil(1.5 * bound) + 1


@pytest.mark.parametrize(
    ("metric", "calls", "rate"),
    [
        (Metric(name="errors", difference=0.001), 6_000, 0.0001),
        (Metric(name="errors", difference=0.01), 6_000, 0.02),
        (Metric(name="errors"), 6_000, 0.01),
        (Metric(name="errors", ratio=1.5), 600, 0.2),
        (Metric(name="errors", difference=0.001, ratio=2.0), 6_000, 0.01),
    ],
)
def test_an_equal_canary_is_shown_to_be_within_one_and_a_half_times_the_bound(
    metric: Metric, calls: int, rate: float
) -> None:
    bound = information_bound(rate, rate, weight=0.1, alpha=ALPHA, tolerated=metric) / calls

    assert waits(metric, 41, calls, rate, rate, worse=False) <= ceil(1.5 * bound) + 1


def test_a_regression_that_begins_after_two_hours_is_found_in_minutes() -> None:
    """The time before counts as evidence of health; not so much that the canary could live on it for hours."""
    evidence = none(ERRORS)
    steady, failing = bucket((6, 600), (54, 5400)), bucket((30, 600), (54, 5400))
    for _ in range(120):
        evidence = weigh(evidence, steady)
    assert judge(evidence, alpha=ALPHA).verdict is Verdict.PASS

    spent = 0
    while judge(evidence, alpha=ALPHA).verdict is not Verdict.FAIL:
        evidence, spent = weigh(evidence, failing), spent + 1

    assert spent <= 2


def test_the_intervals_hold_the_truth_all_the_time() -> None:
    """Of 40 rollouts at α = 10 %, each looked at 12 times: 4 may be wrong on average, 8 by chance."""
    wrong_ratio = wrong_extra = 0
    for seed in range(40):
        chance = random.Random(f"interval {seed}")
        rate, times = 10 ** chance.uniform(-3, -0.7), chance.choice([0.5, 1.0, 1.7, 4.0])
        odds = times * rate / (1 - rate)
        canary = odds / (1 + odds)
        evidence, ratio_held, extra_held = none(ERRORS), True, True
        for each in itertools.islice(minutes(chance, 3_000, 0.2, lambda _, c=canary, b=rate: (c, b)), 12):
            evidence = weigh(evidence, each)
            found = judge(evidence, alpha=0.1)
            ratio_held = ratio_held and found.low <= times <= (found.high or inf)
            extra_held = extra_held and canary - rate <= found.extra_high
        wrong_ratio, wrong_extra = wrong_ratio + (not ratio_held), wrong_extra + (not extra_held)
    assert wrong_ratio <= 8
    assert wrong_extra <= 8


@pytest.mark.parametrize("calls", [20, 100, 1_000, 30_000])
def test_with_no_bad_call_the_harm_is_bounded_by_about_log_1_over_alpha_per_call(calls: int) -> None:
    evidence = weigh(none(ERRORS, Counts(calls=10**5, bad=1)), bucket((0, calls), (0, calls * 99)))

    assert judge(evidence, alpha=ALPHA).extra_high <= 1.8 * -log(ALPHA) / calls


def test_the_interval_narrows_around_the_estimate() -> None:
    found = judged(ERRORS, *[bucket((3_000, 100_000), (9_000, 900_000))] * 5)

    assert found.ratio == pytest.approx(3 / 97 * 99, rel=1e-3)
    assert found.low == pytest.approx(found.ratio, rel=0.2)
    assert found.high == pytest.approx(found.ratio, rel=0.2)
    assert 0.02 <= found.extra_high <= 0.03


def test_the_estimate_is_of_versions_and_not_of_when_they_were_called() -> None:
    """Simpson: most of the canary's calls fell into an outage of both, most of the baseline's before it."""
    found = judged(ERRORS, bucket((1, 100), (99, 9_900)), bucket((2_500, 5_000), (2_500, 5_000)))

    assert found.ratio == pytest.approx(1.0)
    assert found.extra == pytest.approx(0.0, abs=1e-12)
    assert found.verdict is not Verdict.FAIL


def test_what_is_still_needed_is_about_what_it_then_takes() -> None:
    evidence = none(ERRORS)
    for _ in range(3):
        evidence = weigh(evidence, bucket((2, 60), (6, 540)))
    promised = judge(evidence, alpha=ALPHA).needed or 0
    calls = 0
    while judge(evidence, alpha=ALPHA).verdict is Verdict.INCONCLUSIVE:
        evidence, calls = weigh(evidence, bucket((2, 60), (6, 540))), calls + 60

    assert promised / 2 <= calls <= promised * 2


# --- the bound, and the dispersion


def test_the_information_bound_in_cases_that_can_be_done_by_hand() -> None:
    spotless = Metric(name="errors", difference=0.001)
    one_in_ten = information(0.5, 0.5, 0.5, Metric(name="errors", ratio=9.0))

    # No call bad, the baseline free: each canary call is worth −log(1 − 0.001).
    assert 0.1 * information_bound(0, 0, weight=0.1, alpha=0.01, tolerated=spotless) == pytest.approx(4602.9, rel=1e-3)
    # Odds of 3 and 1/3 are nearest: KL(1/2 ‖ 3/4) = log(4/3)/2 for either.
    assert one_in_ten == pytest.approx(log(4 / 3) / 2)
    # Rare bad calls: one of them is the canary's with 2/11 instead of 1/10.
    assert information(2e-6, 1e-6, 0.1) == pytest.approx(1.1e-6 * divergence(2 / 11, 0.1), rel=1e-4)
    assert information_bound(0.01, 0.01, weight=0.1, alpha=0.01) == inf
    assert information_bound(0.03, 0.01, weight=0.1, alpha=0.01, tolerated=ERRORS) == inf


def history(seed: int, count: int, rate: Callable[[int], float], size: int = 1, calls: int = 600) -> list[Counts]:
    chance = random.Random(seed)
    return [
        Counts(calls=calls, bad=min(calls, size * draw(chance, calls, rate(minute) / size))) for minute in range(count)
    ]


def test_calls_that_fail_one_by_one_have_no_dispersion_whatever_their_drift() -> None:
    for rate in (lambda _: 0.001, lambda _: 0.2, lambda m: 0.001 + m / 5000, lambda m: 0.1 + 0.09 * sin(m / 20)):
        assert median(dispersion(history(seed, 240, rate)) for seed in range(9)) == 1.0


@pytest.mark.parametrize("size", [3, 10])
def test_calls_that_fail_together_are_counted_as_many(size: int) -> None:
    found = [dispersion(history(seed, 720, lambda _: 0.02, size)) for seed in range(9)]

    assert size * 0.8 <= min(found) <= max(found) <= size * 1.6


def test_one_outage_in_the_history_is_no_dispersion_but_several_bursts_are() -> None:
    once = history(1, 240, lambda minute: 0.5 if 100 <= minute < 106 else 0.01)
    often = history(1, 240, lambda minute: 0.5 if minute % 40 == 0 else 0.01)

    assert dispersion(once) < 1.5
    assert dispersion(often) > 50


def test_too_little_data_says_nothing_of_dispersion() -> None:
    assert dispersion([]) == 1.0
    assert dispersion([Counts(calls=600, bad=40 * (minute % 2)) for minute in range(8)]) == 1.0
    assert dispersion([Counts()] * 500) == 1.0


def test_evidence_shrinks_by_the_dispersion() -> None:
    one = judged(ERRORS, bucket((40, 600), (60, 5400)))
    ten = judged(Metric(name="errors", dispersion=10.0), bucket((40, 600), (60, 5400)))

    assert one.worse > 2 > ten.worse > 0
    assert log10(exp(1)) * 60 > one.worse
