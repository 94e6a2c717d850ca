"""What the values of a period come to: count, sum, extremes, and how often each value occurred. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

MOST_VALUES: Final = 1000
"""Distinct values kept exactly. Beyond, they are rounded to 3 significant digits (0.5 %), or to 2 or 1 where those are
still too many; count, sum and extremes stay exact."""


@dataclass(slots=True)
class Distribution:
    """Values, merged. Without `values` (somebody reported only their sums) there are no percentiles."""

    count: float
    total: float
    low: float
    high: float
    values: dict[float, float] | None

    @classmethod
    def of(cls, value: float, count: float = 1.0) -> Distribution:
        return cls(count, value * count, value, value, {value: count})

    @classmethod
    def counted(cls, values: Mapping[float, float]) -> Distribution:
        """Of how often each value occurred; there is at least one."""
        total = sum(value * count for value, count in values.items())
        made = cls(sum(values.values()), total, min(values), max(values), dict(values))
        made._limit()
        return made

    def merge(self, other: Distribution) -> None:
        self.count += other.count
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        if self.values is None or other.values is None:
            self.values = None
            return
        for value, count in other.values.items():
            self.values[value] = self.values.get(value, 0.0) + count
        self._limit()

    def _limit(self) -> None:
        if self.values is not None and len(self.values) > MOST_VALUES:
            self.values = _rounded(self.values)


def _rounded(values: Mapping[float, float]) -> dict[float, float]:
    rounded: dict[float, float] = {}
    for digits in (3, 2, 1):
        rounded = {}
        for value, count in values.items():
            near = float(f"{value:.{digits - 1}e}")
            rounded[near] = rounded.get(near, 0.0) + count
        if len(rounded) <= MOST_VALUES:
            break
    return rounded


Statistic: TypeAlias = Callable[[Distribution], float | None]
"""None: what was reported does not tell."""

PLAIN: Final[Mapping[str, Statistic]] = {
    "SampleCount": lambda found: found.count,
    "Sum": lambda found: found.total,
    "Average": lambda found: found.total / found.count if found.count else None,
    "Minimum": lambda found: found.low,
    "Maximum": lambda found: found.high,
}
_SHORT = re.compile(r"(p|tm|wm|tc|ts)(\d{1,3}(?:\.\d{1,10})?)", re.IGNORECASE)
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"(TM|WM|TC|TS|PR)\(({_NUMBER})?(%)?:({_NUMBER})?(%)?\)", re.IGNORECASE)


def statistic(name: str) -> Statistic | None:
    """AWS's statistics by name: Average, p99.9, tm90, TM(10%:90%), PR(:300), IQM and so on; None for no such."""
    if name in PLAIN:
        return PLAIN[name]
    if name.upper() == "IQM":
        name = "TM(25%:75%)"
    if (found := _SHORT.fullmatch(name)) and float(found[2]) <= 100:
        share = float(found[2]) / 100
        if found[1].lower() == "p":
            return _of_values(lambda values: _percentile(values, share))
        return _of_values(_RANGED[found[1].upper()], 0.0, share)
    if not (found := _RANGE.fullmatch(name)):
        return None
    kind, low, low_share, high, high_share = found.groups()
    if (low is None and high is None) or (low_share if high is None else high_share) != (
        high_share if low is None else low_share
    ):
        return None
    if not (low_share or high_share):
        return _of_values(_ABSOLUTE[kind.upper()], *(None if end is None else float(end) for end in (low, high)))
    first, last = (default if end is None else float(end) / 100 for end, default in ((low, 0.0), (high, 1.0)))
    return None if kind.upper() == "PR" else _of_values(_RANGED[kind.upper()], first, last)


Values: TypeAlias = list[tuple[float, float]]  # (value, how often), ascending


def _of_values(judge: Callable[..., float | None], *bounds: float | None) -> Statistic:
    def compute(found: Distribution) -> float | None:
        values = found.values
        if values is None:
            if found.low != found.high:
                return None
            values = {found.low: found.count}
        return judge(sorted(values.items()), *bounds)

    return compute


def _percentile(values: Values, share: float) -> float:
    """Nearest rank: a value that did occur, below or at which lies this share."""
    wanted, seen = share * sum(count for _, count in values), 0.0
    for value, count in values:
        seen += count
        if seen >= wanted - 1e-9:
            return value
    return values[-1][0]


def _between(values: Values, first: float, last: float) -> Values:
    """What lies between two shares of the ranks; a value cut by a bound counts with its part."""
    total = sum(count for _, count in values)
    kept: Values = []
    seen = 0.0
    for value, count in values:
        part = min(seen + count, last * total) - max(seen, first * total)
        if part > 1e-9:
            kept.append((value, part))
        seen += count
    return kept


def _within(values: Values, low: float | None, high: float | None) -> Values:
    """AWS: above the lower bound, up to the upper one."""
    return [
        (value, count) for value, count in values if (low is None or value > low) and (high is None or value <= high)
    ]


def _mean(values: Values) -> float | None:
    count = _count(values)
    return _sum(values) / count if count else None


def _count(values: Iterable[tuple[float, float]]) -> float:
    return sum(count for _, count in values)


def _sum(values: Iterable[tuple[float, float]]) -> float:
    return sum(value * count for value, count in values)


def _winsorized(values: Values, low: float | None, high: float | None) -> float | None:
    """The mean with what is outside moved to the bounds."""
    moved = [
        (max(value if high is None else min(value, high), value if low is None else low), count)
        for value, count in values
    ]
    return _mean(moved)


_RANGED: Final[Mapping[str, Callable[[Values, float, float], float | None]]] = {
    "TM": lambda values, first, last: _mean(_between(values, first, last)),
    "TC": lambda values, first, last: _count(_between(values, first, last)),
    "TS": lambda values, first, last: _sum(_between(values, first, last)),
    "WM": lambda values, first, last: _winsorized(values, _percentile(values, first), _percentile(values, last)),
}
_ABSOLUTE: Final[Mapping[str, Callable[[Values, float | None, float | None], float | None]]] = {
    "TM": lambda values, low, high: _mean(_within(values, low, high)),
    "TC": lambda values, low, high: _count(_within(values, low, high)),
    "TS": lambda values, low, high: _sum(_within(values, low, high)),
    "WM": _winsorized,
    "PR": lambda values, low, high: 100 * _count(_within(values, low, high)) / _count(values),
}
