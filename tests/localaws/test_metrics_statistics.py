"""What values come to: merged in any order and number, and every statistic CloudWatch has."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws.cloudwatch.statistics import MOST_VALUES, PLAIN, Distribution, statistic

VALUES = st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 2)), min_size=1, max_size=60)


def of(values: list[float]) -> Distribution:
    made = Distribution.of(values[0])
    for value in values[1:]:
        made.merge(Distribution.of(value))
    return made


def compute(name: str, values: list[float]) -> float | None:
    found = statistic(name)
    assert found is not None, name
    return found(of(values))


@given(VALUES)
def test_the_plain_statistics_are_those_of_the_list(values: list[float]) -> None:
    made = of(values)

    assert PLAIN["SampleCount"](made) == len(values)
    assert PLAIN["Sum"](made) == pytest.approx(sum(values), abs=1e-3)
    assert PLAIN["Average"](made) == pytest.approx(sum(values) / len(values), abs=1e-3)
    assert (PLAIN["Minimum"](made), PLAIN["Maximum"](made)) == (min(values), max(values))


@given(VALUES, st.integers(0, 59))
def test_it_does_not_matter_how_values_came_together(values: list[float], cut: int) -> None:
    parts = [part for part in (values[:cut], values[cut:]) if part]
    merged = of(parts[0])
    for part in parts[1:]:
        merged.merge(of(part))

    assert merged.values == of(values).values == Distribution.counted(Counter(values)).values
    assert merged.total == pytest.approx(of(values).total, abs=1e-3)


@given(VALUES, st.floats(0, 100).map(lambda share: round(share, 3)))
def test_a_percentile_is_a_value_that_occurred_with_that_share_below_or_at_it(
    values: list[float], share: float
) -> None:
    found = compute(f"p{share}", values)

    assert found in values
    assert sum(value <= found for value in values) >= share / 100 * len(values) - 1e-6
    assert sum(value < found for value in values) <= share / 100 * len(values) + 1e-6


@given(st.integers(MOST_VALUES + 1, 3 * MOST_VALUES))
def test_many_values_are_rounded_to_half_a_percent_and_sums_are_not(number: int) -> None:
    values = [100 + 900 * n / number for n in range(number)]
    made = Distribution.counted(dict.fromkeys(values, 1.0))

    assert made.values is not None
    assert len(made.values) <= MOST_VALUES
    assert (made.count, made.low, made.high) == (number, values[0], values[-1])
    assert made.total == pytest.approx(math.fsum(values), rel=1e-12)
    median = statistic("p50")
    assert median is not None
    assert median(made) == pytest.approx(values[number // 2], rel=0.01)


def test_memory_is_bounded_over_many_decades() -> None:
    made = Distribution.of(1.0)
    for n in range(10_000):
        made.merge(Distribution.of(10 ** (n / 500)))

    assert made.values is not None
    assert len(made.values) <= MOST_VALUES
    assert made.count == 10_001


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p0", 1),
        ("p50", 5),
        ("p90", 9),
        ("p99.9", 10),
        ("p100", 10),
        ("tm90", 5),  # mean of 1…9
        ("TM(10%:90%)", 5.5),  # of 2…9
        ("TM(2:5)", 4),  # above 2, up to 5
        ("TM(:5)", 3),
        ("tc80", 8),
        ("TC(3:)", 7),
        ("ts50", 15),
        ("TS(80%:)", 19),
        ("wm80", (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 8 + 8) / 10),
        ("PR(:3)", 30),
        ("PR(3:5)", 20),
        ("IQM", 5.5),  # 2.5 … 7.5 ranks: half of 3, 4…7, half of 8
    ],
)
def test_the_others_as_documented(name: str, expected: float) -> None:
    assert compute(name, [float(n) for n in range(1, 11)]) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["", "P", "p101", "avg", "TM(:)", "TM(10%:90)", "PR(10%:90%)", "p-1", "TM(1,2)"])
def test_what_is_no_statistic_is_none(name: str) -> None:
    assert statistic(name) is None


def test_sums_alone_tell_no_percentile_unless_all_values_are_one() -> None:
    percentile = statistic("p90")
    assert percentile is not None

    assert percentile(Distribution(3, 30, 5, 15, None)) is None
    assert percentile(Distribution(3, 30, 10, 10, None)) == 10
