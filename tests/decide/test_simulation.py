"""The dice are exact, the worlds add up, and the same seed gives the same rollouts."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from pointsman import config, simulation
from pointsman.analysis import Metric
from pointsman.cli import main
from pointsman.cli.simulate import declared_policy
from pointsman.rollout import Policy, Step
from pointsman.simulation import Outage, Traffic, World

POLICY = Policy(steps=(Step(weight=0.1, bake_s=120),), metrics=(Metric(name="errors"),), lag_s=60.0)
WORLD = Traffic(calls=600, rate=0.02)


def chi_square(found: Counter[int], expected: dict[int, float], drawn: int) -> tuple[float, int]:
    """The statistic and its degrees of freedom; values with less than 5 expected are one class."""
    rest = {k for k, p in expected.items() if p * drawn < 5}
    pairs = [(found[k], p * drawn) for k, p in expected.items() if k not in rest]
    known = sum(p for _, p in pairs)
    pairs.append((drawn - sum(n for n, _ in pairs), drawn - known))
    return sum((seen - mean) ** 2 / mean for seen, mean in pairs if mean > 0.5), len(pairs) - 1


@pytest.mark.parametrize(("tries", "share"), [(10, 0.3), (40, 0.5), (200, 0.1), (200, 0.93)])
def test_binomial_dice_are_exact(tries: int, share: float) -> None:
    """On both sides of where the median of uniforms halves the tries. 3.7 deviations: once in 10,000 by chance."""
    dice, drawn = Random(7), 8000
    found = Counter(simulation.binomial(dice, tries, share) for _ in range(drawn))
    expected = {k: math.comb(tries, k) * share**k * (1 - share) ** (tries - k) for k in range(tries + 1)}

    statistic, freedom = chi_square(found, expected, drawn)

    assert statistic < freedom + 3.7 * math.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("mean", [0.7, 25.0, 80.0])
def test_poisson_dice_are_exact(mean: float) -> None:
    dice, drawn = Random(7), 8000
    found = Counter(simulation.poisson(dice, mean) for _ in range(drawn))
    expected = {k: math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(int(mean * 3) + 12)}

    statistic, freedom = chi_square(found, expected, drawn)

    assert statistic < freedom + 3.7 * math.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("size", [1e4, 1e9])
def test_dice_have_the_right_moments_where_numbers_are_large(size: float) -> None:
    dice, drawn = Random(7), 1500
    for values, mean, variance in (
        ([simulation.poisson(dice, size) for _ in range(drawn)], size, size),
        ([simulation.binomial(dice, int(size), 0.3) for _ in range(drawn)], 0.3 * size, 0.21 * size),
    ):
        average = sum(values) / drawn
        spread = sum((each - average) ** 2 for each in values) / (drawn - 1)

        assert average == pytest.approx(mean, abs=4 * math.sqrt(variance / drawn))
        assert spread == pytest.approx(variance, rel=4 * math.sqrt(2 / drawn))


@pytest.mark.parametrize(
    ("share", "tries", "drawn"), [(0.0, 50, 0), (1.0, 50, 50), (0.5, 0, 0), (1e-12, 10, 0), (1 - 1e-15, 10, 10)]
)
def test_dice_at_their_ends(share: float, tries: int, drawn: int) -> None:
    assert simulation.binomial(Random(1), tries, share) == drawn


def world(traffic: Traffic, minutes: int, weight: float = 0.1, seed: int = 3) -> World:
    found = World(traffic, POLICY, Random(seed))
    found.weight = weight
    found.pass_until((found.began // 60 + 1 + minutes) * 60)
    return found


def test_a_worlds_counts_add_up() -> None:
    """Each call is in one bucket, of one version, and what the canary had is what its buckets say."""
    there = world(replace(WORLD, bad=0.1), 200)

    calls = sum(each.canary.calls + each.baseline.calls for each in there.buckets)
    canary = sum(each.canary.calls for each in there.buckets)
    assert [each.at for each in there.buckets] == sorted({each.at for each in there.buckets})
    assert calls == pytest.approx(200 * 600, rel=0.02)
    assert canary == there.canary_calls
    assert canary / calls == pytest.approx(0.1, rel=0.03)
    assert sum(each.canary.bad for each in there.buckets) / canary == pytest.approx(0.1, rel=0.1)
    assert sum(each.baseline.bad for each in there.buckets) / (calls - canary) == pytest.approx(0.02, rel=0.1)
    assert there.extra == pytest.approx(0.08 * canary)


def rates(traffic: Traffic, minutes: int = 400) -> list[float]:
    return [each.baseline.bad / each.baseline.calls for each in world(traffic, minutes).buckets[1:]]


def test_an_outage_hits_both_versions_while_it_lasts() -> None:
    traffic = replace(WORLD, rate=0.0, bad=0.1, outages=(Outage(begins=10.0, ends=20.0, rate=0.5),))
    there = World(traffic, POLICY, Random(1))

    assert [there.rate_at(each, canary=False) for each in (9.9, 10.0, 20.0)] == [0.0, 0.5, 0.0]
    assert there.rate_at(15.0, canary=True) == pytest.approx(0.55)


def test_errors_that_come_together_spread_more_and_are_no_more() -> None:
    """Their number's variance over its mean is the groups' size, or with geometric groups twice that, less one."""
    for traffic, excess in (
        (WORLD, 1.0),
        (replace(WORLD, together=10), 10.0),
        (replace(WORLD, together=10, ragged=True), 19.0),
    ):
        found = [World(traffic, POLICY, Random(seed)).failures(50_000, 0.01) for seed in range(600)]
        mean = sum(found) / len(found)
        spread = sum((each - mean) ** 2 for each in found) / (len(found) - 1)

        assert mean == pytest.approx(500, abs=5 * math.sqrt(500 * excess / 600))
        assert spread / mean == pytest.approx(excess, rel=0.3)


def test_minutes_that_differ_differ_by_as_much_and_on_average_by_nothing() -> None:
    steady, noisy = rates(replace(WORLD, calls=60_000)), rates(replace(WORLD, calls=60_000, noise=0.5))

    assert sum(noisy) / len(noisy) == pytest.approx(0.02, rel=0.1)
    assert max(noisy) > 2 * max(steady)


def test_the_history_is_of_the_same_traffic() -> None:
    before = simulation.history(replace(WORLD, together=20), Random(1), minutes=600)

    assert sum(each.calls for each in before) == pytest.approx(360_000, rel=0.01)
    learnt = simulation.measured_policy(POLICY, replace(WORLD, calls=6000, together=20), Random(1))
    assert 14 < learnt.metrics[0].dispersion < 32
    assert learnt.usual == pytest.approx(0.02, rel=0.2)


def test_the_same_seed_gives_the_same_rollouts_and_more_runs_change_none() -> None:
    few = list(simulation.runs(POLICY, WORLD, seed=5, count=3))

    assert few == list(simulation.runs(POLICY, WORLD, seed=5, count=5))[:3]
    assert few != list(simulation.runs(POLICY, WORLD, seed=6, count=3))


def test_a_rollout_ends_as_its_traffic_deserves() -> None:
    policy = replace(declared_policy(config.Rollout()), traffic=10.0)

    good = simulation.run(policy, replace(WORLD, calls=6000), Random(1))
    bad = simulation.run(policy, replace(WORLD, calls=6000, bad=0.5), Random(1))
    quiet = simulation.run(policy, replace(WORLD, calls=1), Random(1))

    assert good.outcome == "promoted"
    assert good.extra == 0
    assert bad.outcome == "rolled back"
    assert bad.minutes < 5
    assert bad.extra == pytest.approx(0.48 * bad.canary)
    assert (quiet.outcome, quiet.why) == ("asked", "quiet")


def test_a_budget_bounds_what_a_bad_release_costs() -> None:
    """1.5 times 5 %: hard to tell, and so the dearest of all."""
    policy = declared_policy(config.Rollout(budget=20))
    traffic = Traffic(calls=600, rate=0.05, bad=0.075)

    found = simulation.summary(list(simulation.runs(replace(policy, traffic=10.0), traffic, seed=1, count=40)))

    assert found.extra_mean <= 20
    assert found.asked > 0
    assert found.promoted + found.rolled_back + found.asked == pytest.approx(1)


def test_simulate_tells_what_would_happen(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["rollout", "simulate", "--runs", "3", "--calls", "600", "--rate", "1%", "--regression", "8x"]

    assert main([*asked, "--html", "out.html"]) == 0

    table, page = capsys.readouterr().out, (tmp_path / "out.html").read_text()
    for said in (
        "default settings: 2 %, 50 %, then all",
        "8 times the errors",
        "every second call fails",
        "allowed: 1 %",
    ):
        assert said in table
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", ""), "one file, nothing fetched"
    assert main([*asked, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert len(result["worlds"]) == 10
    assert {"rolled_back", "asked", "promoted", "extra_mean"} <= set(result["worlds"][0]["summary"])
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == result, "the same seed, the same figures"
