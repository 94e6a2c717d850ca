"""CloudWatch's metric math: parse once, evaluate on series. Pure.

Rules as documented: between two series a missing point counts as 0; a point that divides by zero is dropped; a
condition without a point gives none; AVG counts missing points, MIN, MAX and STDDEV do not.
"""

from __future__ import annotations

import math
import operator
import re
import statistics
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final, TypeAlias


class ExpressionError(Exception):
    """The expression cannot be parsed or evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class Series:
    points: Mapping[int, float]  # by the period's first second
    period: int
    label: str = ""


Value: TypeAlias = float | Series | list[Series]


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    given: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


Node: TypeAlias = float | Name | Text | Call

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|(?P<name>[A-Za-z_]\w*)|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/^<>()\[\],]))"
)
_LEVELS: Final = (("OR", "||"), ("AND", "&&"), ("==", "!=", "<", ">", "<=", ">="), ("+", "-"), ("*", "/"))
_SAME: Final = {"||": "OR", "&&": "AND"}
_LIST: Final = "[]"
_NEGATIVE: Final = "NEGATIVE"


@lru_cache(256)
def parse(text: str) -> Node:
    tokens: list[str] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"Unexpected character '{text[at:].lstrip()[0]}'")
        tokens.append(found[0].strip())
        at = found.end()
    parser = _Parser(tokens)
    node = parser.level(0)
    parser.end()
    return node


class _Parser:
    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        found = self._next
        if found == "" or (wanted and found not in wanted):
            raise ExpressionError(f"Unexpected {found!r}" if found else "Unexpected end of the expression")
        self._at += 1
        return found

    def end(self) -> None:
        if self._next:
            self._take(")")  # which it is not, or it would have been taken
            raise ExpressionError("Unexpected ')'")

    def level(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._signed()
        left = self.level(level + 1)
        while self._next in _LEVELS[level]:
            sign = self._take()
            left = Call(_SAME.get(sign, sign), (left, self.level(level + 1)))
        return left

    def _signed(self) -> Node:
        signs = 0
        while self._next in ("-", "+"):
            signs += self._take() == "-"
        power = self._power()
        return Call(_NEGATIVE, (power,)) if signs % 2 else power

    def _power(self) -> Node:
        base = self._atom()
        if self._next != "^":
            return base
        self._take()
        return Call("^", (base, self._signed()))

    def _atom(self) -> Node:
        self._depth += 1
        if self._depth > 100:
            raise ExpressionError("The expression is nested too deeply")
        try:
            token = self._take()
            if token == "(":
                inner = self.level(0)
                self._take(")")
                return inner
            if token == "[":
                return Call(_LIST, self._arguments("]"))
            if token[0] in "\"'":
                return Text(token[1:-1])
            if token[0].isdigit() or token[0] == ".":
                return float(token)
            if not (token[0].isalpha() or token[0] == "_"):
                raise ExpressionError(f"Unexpected {token!r}")
            if self._next != "(":
                return Name(token)
            self._take()
            return Call(token, self._arguments(")"))
        finally:
            self._depth -= 1

    def _arguments(self, close: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while self._next != close:
            found.append(self.level(0))
            if self._next != close:
                self._take(",")
        self._take()
        return tuple(found)


def names(node: Node) -> set[str]:
    """The ids an expression may stand on. (Words like REPEAT have capitals, ids begin small.)"""
    match node:
        case Name(text):
            return {text} if text[0].islower() else set()
        case Call(_, given):
            return set().union(*(names(each) for each in given))
        case _:
            return set()


# --- evaluating ---


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression can see: the values behind ids, and the moments at which a full series has points."""

    ids: Mapping[str, Value]
    metrics: Mapping[str, Series] = field(default_factory=dict)  # those of `ids` that are no expressions, in order
    moments: range = range(0)

    @property
    def period(self) -> int:
        return self.moments.step


def evaluate(node: Node, scope: Scope) -> Value:
    match node:
        case float():
            return node
        case Name(text):
            if text not in scope.ids:
                raise ExpressionError(f"Undefined id '{text}'")
            return scope.ids[text]
        case Text():
            raise ExpressionError("A text can only be the argument of METRICS")
        case Call(name, given):
            return _call(name, given, scope)


def _call(name: str, given: tuple[Node, ...], scope: Scope) -> Value:
    if name in _BINARY:
        left, right = (evaluate(each, scope) for each in given)
        return _binary(_BINARY[name], left, right)
    if name == "METRICS":
        part = given[0].text if given and isinstance(given[0], Text) else ""
        return [series for id_, series in scope.metrics.items() if part in id_]
    if name == "FILL" and len(given) == 2:
        how = given[1].text if isinstance(given[1], Name) and given[1].text in _FILLERS else None
        filler = how or evaluate(given[1], scope)
        return _each(evaluate(given[0], scope), lambda series: _fill(series, filler, scope))
    if name == "SORT" and len(given) in (3, 4):
        words = [each.text for each in given[1:3] if isinstance(each, Name)]
        if len(words) != 2 or words[0] not in ("AVG", "MIN", "MAX", "SUM") or words[1] not in ("ASC", "DESC"):
            raise ExpressionError("SORT needs AVG, MIN, MAX or SUM, and ASC or DESC")
        key = _AGGREGATES[words[0]]
        found = sorted(
            _list(evaluate(given[0], scope)),
            key=lambda series: key(list(series.points.values()), len(scope.moments)),
            reverse=words[1] == "DESC",
        )
        return found if len(given) == 3 else found[: _index(evaluate(given[3], scope))]
    if name not in _FUNCTIONS:
        raise ExpressionError(f"Unknown function '{name}'")
    few, most, function = _FUNCTIONS[name]
    if not few <= len(given) <= most:
        raise ExpressionError(f"Wrong number of arguments for {name}")
    return function(scope, *(evaluate(each, scope) for each in given))


def _compare(holds: Callable[[float, float], bool]) -> Callable[[float, float], float]:
    return lambda a, b: float(holds(a, b))


def _power(a: float, b: float) -> float:
    try:
        result = a**b
    except (OverflowError, ZeroDivisionError):
        return math.nan
    return result if isinstance(result, float) else math.nan  # a root of a negative number


_BINARY: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan,
    "^": _power,
    "==": _compare(operator.eq),
    "!=": _compare(operator.ne),
    "<": _compare(operator.lt),
    ">": _compare(operator.gt),
    "<=": _compare(operator.le),
    ">=": _compare(operator.ge),
    "AND": lambda a, b: float(bool(a) and bool(b)),
    "OR": lambda a, b: float(bool(a) or bool(b)),
}


def _binary(apply: Callable[[float, float], float], left: Value, right: Value) -> Value:
    match left, right:
        case float(), float():
            return apply(left, right)
        case list(), list():
            raise ExpressionError("Two arrays of time series cannot be combined")
        case list(), _:
            return [_combined(apply, each, right) for each in left]
        case _, list():
            return [_combined(apply, left, each) for each in right]
        case _:
            return _combined(apply, left, right)


def _combined(apply: Callable[[float, float], float], left: Value, right: Value) -> Series:
    whole = left if isinstance(left, Series) else right
    assert isinstance(whole, Series)
    moments = set[int]()
    period = 0
    for side in (left, right):
        if isinstance(side, Series):
            moments.update(side.points)
            period = max(period, side.period)
    return _series(whole, ((at, apply(_at(left, at) or 0.0, _at(right, at) or 0.0)) for at in sorted(moments)), period)


def _at(value: Value, at: int) -> float | None:
    match value:
        case float():
            return value
        case Series():
            return value.points.get(at)
        case _:
            raise ExpressionError("An array of time series cannot stand here")


def _series(like: Series, points: Iterable[tuple[int, float]], period: int | None = None) -> Series:
    kept = {at: value for at, value in points if math.isfinite(value)}
    return replace(like, points=kept, period=period or like.period)


def _each(value: Value, function: Callable[[Series], Series]) -> Value:
    match value:
        case Series():
            return function(value)
        case list():
            return [function(each) for each in value]
        case _:
            raise ExpressionError("A time series is needed, not a number")


def _list(value: Value) -> list[Series]:
    match value:
        case Series():
            return [value]
        case list():
            return value
        case _:
            raise ExpressionError("An array of time series is needed, not a number")


def _scalar(value: Value) -> float:
    if not isinstance(value, float):
        raise ExpressionError("A number is needed, not a time series")
    return value


def _index(value: Value) -> int:
    number = _scalar(value)
    if not 0 <= number <= 500:
        raise ExpressionError("A number from 0 to 500 is needed")
    return int(number)


# --- functions ---

_FILLERS: Final = ("REPEAT", "LINEAR")


def _fill(series: Series, filler: str | Value, scope: Scope) -> Series:
    known = sorted(series.points.items())
    full = sorted({*range(scope.moments.start, scope.moments.stop, series.period), *series.points})

    def missing(at: int) -> float:
        if not isinstance(filler, str):
            found = _at(filler, at)
            return math.nan if found is None else found
        after = bisect(known, (at, math.inf))
        if after == 0 or (filler == "LINEAR" and after == len(known)):
            return math.nan
        before_at, before = known[after - 1]
        if filler == "REPEAT":
            return before
        after_at, value = known[after]
        return before + (value - before) * (at - before_at) / (after_at - before_at)

    return _series(series, ((at, series.points[at] if at in series.points else missing(at)) for at in full))


_AGGREGATES: Final[Mapping[str, Callable[[list[float], int], float]]] = {
    "SUM": lambda values, _all: math.fsum(values),
    "AVG": lambda values, all_: math.fsum(values) / all_ if all_ else math.nan,
    "MIN": lambda values, _all: min(values, default=math.nan),
    "MAX": lambda values, _all: max(values, default=math.nan),
    "STDDEV": lambda values, _all: statistics.pstdev(values) if values else math.nan,
    "DATAPOINT_COUNT": lambda values, _all: float(len(values)),
}


def _aggregate(apply: Callable[[list[float], int], float]) -> Callable[..., Value]:
    def function(scope: Scope, value: Value) -> Value:
        if isinstance(value, Series):
            return apply(list(value.points.values()), len(scope.moments))
        several = _list(value)
        moments = sorted({at for series in several for at in series.points})
        period = max((series.period for series in several), default=scope.period)
        return _series(
            Series({}, period),
            ((at, apply([s.points[at] for s in several if at in s.points], len(several))) for at in moments),
        )

    return function


def _pointwise(apply: Callable[[float], float]) -> Callable[..., Value]:
    def function(_scope: Scope, value: Value) -> Value:
        return _each(value, lambda series: _series(series, ((at, apply(v)) for at, v in series.points.items())))

    return function


def _stepwise(apply: Callable[[int, float], float]) -> Callable[..., Value]:
    """Of each point and the one before: apply(seconds between, difference)."""

    def of(series: Series) -> Series:
        known = sorted(series.points.items())
        return _series(series, ((at, apply(at - before, v - w)) for (before, w), (at, v) in pairwise(known)))

    return lambda _scope, value: _each(value, of)


def _running_sum(_scope: Scope, value: Value) -> Value:
    def of(series: Series) -> Series:
        known = sorted(series.points)
        return _series(series, zip(known, accumulate(series.points[at] for at in known), strict=True))

    return _each(value, of)


def _if(scope: Scope, condition: Value, then: Value, otherwise: Value | None = None) -> Value:
    if isinstance(condition, float):
        chosen = then if condition else otherwise
        return Series({}, scope.period) if chosen is None else chosen
    if not isinstance(condition, Series):
        raise ExpressionError("The condition of IF must be a time series or a number")

    def at(moment: int, holds: float) -> float:
        found = _at(then, moment) if holds else None if otherwise is None else _at(otherwise, moment)
        return found if found is not None else 0.0 if holds else math.nan

    return _series(condition, ((moment, at(moment, holds)) for moment, holds in condition.points.items()))


def _calendar(of: Callable[[datetime], int]) -> Callable[..., Value]:
    def function(scope: Scope, value: Value) -> Value:
        return _each(
            value, lambda s: replace(s, points={t: float(of(datetime.fromtimestamp(t, UTC))) for t in scope.moments})
        )

    return function


def _slice(_scope: Scope, value: Value, first: Value, last: Value | None = None) -> Value:
    return _list(value)[_index(first) : None if last is None else _index(last)]


def _one(which: int) -> Callable[..., Value]:
    def function(scope: Scope, value: Value) -> Value:
        several = _list(value)
        return several[which] if several else Series({}, scope.period)

    return function


def _period(_scope: Scope, value: Value) -> Value:
    if not isinstance(value, Series):
        raise ExpressionError("PERIOD needs a metric")
    return float(value.period)


_FUNCTIONS: Final[Mapping[str, tuple[int, int, Callable[..., Value]]]] = {
    **{name: (1, 1, _aggregate(apply)) for name, apply in _AGGREGATES.items()},
    _NEGATIVE: (1, 1, lambda _scope, value: _binary(operator.mul, -1.0, value)),
    _LIST: (0, 500, lambda _scope, *values: [series for value in values for series in _list(value)]),
    "ABS": (1, 1, _pointwise(abs)),
    "CEIL": (1, 1, _pointwise(lambda v: float(math.ceil(v)))),
    "FLOOR": (1, 1, _pointwise(lambda v: float(math.floor(v)))),
    "LOG": (1, 1, _pointwise(lambda v: math.log(v) if v > 0 else math.nan)),
    "LOG10": (1, 1, _pointwise(lambda v: math.log10(v) if v > 0 else math.nan)),
    "DIFF": (1, 1, _stepwise(lambda _seconds, difference: difference)),
    "DIFF_TIME": (1, 1, _stepwise(lambda seconds, _difference: float(seconds))),
    "RATE": (1, 1, _stepwise(lambda seconds, difference: difference / seconds)),
    "RUNNING_SUM": (1, 1, _running_sum),
    "IF": (2, 3, _if),
    "PERIOD": (1, 1, _period),
    "TIME_SERIES": (1, 1, lambda scope, value: Series(dict.fromkeys(scope.moments, _scalar(value)), scope.period)),
    "METRIC_COUNT": (1, 1, lambda _scope, value: float(len(_list(value)))),
    "REMOVE_EMPTY": (1, 1, lambda _scope, value: [series for series in _list(value) if series.points]),
    "FIRST": (1, 1, _one(0)),
    "LAST": (1, 1, _one(-1)),
    "SLICE": (2, 3, _slice),
    "MINUTE": (1, 1, _calendar(lambda t: t.minute)),
    "HOUR": (1, 1, _calendar(lambda t: t.hour)),
    "DAY": (1, 1, _calendar(lambda t: t.isoweekday())),
    "DATE": (1, 1, _calendar(lambda t: t.day)),
    "MONTH": (1, 1, _calendar(lambda t: t.month)),
    "YEAR": (1, 1, _calendar(lambda t: t.year)),
    "EPOCH": (1, 1, _calendar(lambda t: int(t.timestamp()))),
}
