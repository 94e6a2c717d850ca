"""Metric math, by AWS's documentation: "-" there is a point that is not there."""

from __future__ import annotations

import ast
import math
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws.cloudwatch.expressions import ExpressionError, Scope, Series, Value, evaluate, names, parse

Points = list[float | None]


def series(points: Points, label: str = "") -> Series:
    return Series({60 * n: float(v) for n, v in enumerate(points) if v is not None}, 60, label)


def points(value: Value, length: int = 5) -> Points:
    assert isinstance(value, Series), value
    return [value.points.get(60 * n) for n in range(length)]


def run(text: str, length: int = 5, **metrics: Points) -> Value:
    known = {id_: series(given, id_) for id_, given in metrics.items()}
    return evaluate(parse(text), Scope(known, known, range(0, 60 * length, 60)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metric1 < metric2", [0, 0, 1, 0]),
        ("metric1 >= 30", [1, 0, 0, 0]),
        ("metric1 > 15 AND metric2 > 15", [1, 0, 0, 0]),
        ("metric1 > 15 && metric2 > 15", [1, 0, 0, 0]),
        ("metric1 > 25 OR metric2 == 20", [1, 0, 1, 0]),
        ("metric1 > 25 || metric2 != 20", [1, 0, 0, 0]),
    ],
)
def test_comparisons_and_logic_as_in_the_documented_table(text: str, expected: Points) -> None:
    assert points(run(text, metric1=[30, 20, 0, 0], metric2=[20, None, 20, None]), 4) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IF(metric1, metric2, metric3)", [30, 0, 20, None, None]),
        ("IF(metric1, 5, metric3)", [5, 5, 20, None, None]),
        ("IF(metric1, metric2, 5)", [30, 0, 5, 5, None]),
        ("IF(metric1, metric2)", [30, 0, None, None, None]),
        ("IF(1, metric3)", [0, 0, 20, None, 20]),
        ("IF(0, metric3)", [None] * 5),
    ],
)
def test_if_as_in_the_documented_tables(text: str, expected: Points) -> None:
    found = run(text, metric1=[1, 1, 0, 0, None], metric2=[30, None, 0, 0, 30], metric3=[0, 0, 20, None, 20])

    assert points(found) == expected


def test_an_error_rate_has_no_point_where_nothing_was_invoked() -> None:
    assert points(run("100 * e / i", e=[1, None, 0, None, 2], i=[4, 10, 5, None, 0])) == [25, 0, 0, None, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m + n", [3, 1, 4, 5, None]),  # a missing point counts as 0
        ("-m", [-1, None, -4, -5, None]),
        ("FILL(m, 7)", [1, 7, 4, 5, 7]),
        ("FILL(m, REPEAT)", [1, 1, 4, 5, 5]),
        ("FILL(m, LINEAR)", [1, 2.5, 4, 5, None]),
        ("FILL(m, n)", [1, 1, 4, 5, None]),
        ("SUM([m, n])", [3, 1, 4, 5, None]),
        ("MAX([m, n])", [2, 1, 4, 5, None]),
        ("AVG([m, n])", [1.5, 0.5, 2, 2.5, None]),
        ("MIN(METRICS())", [1, 1, 4, 5, None]),
        ('SUM(METRICS("n"))', [2, 1, None, None, None]),
        ("STDDEV([m, n])", [0.5, 0, 0, 0, None]),
        ("DATAPOINT_COUNT([m, n])", [2, 1, 1, 1, None]),
        ("m / SUM(m)", [0.1, None, 0.4, 0.5, None]),
        ("m - AVG(m)", [-1, None, 2, 3, None]),  # of five periods
        ("m * METRIC_COUNT(METRICS())", [2, None, 8, 10, None]),
        ("DIFF(m)", [None, None, 3, 1, None]),
        ("DIFF_TIME(m)", [None, None, 120, 60, None]),
        ("RATE(m)", [None, None, 3 / 120, 1 / 60, None]),
        ("RUNNING_SUM(m)", [1, None, 5, 10, None]),
        ("m / PERIOD(m)", [1 / 60, None, 4 / 60, 5 / 60, None]),
        ("TIME_SERIES(MAX(m))", [5] * 5),
        ("CEIL(m / 2)", [1, None, 2, 3, None]),
        ("FLOOR(m / 2)", [0, None, 2, 2, None]),
        ("ABS(n - m)", [1, 1, 4, 5, None]),
        ("LOG10(m * 0)", [None] * 5),
        ("m ^ 2", [1, None, 16, 25, None]),
        ("FIRST(SORT(METRICS(), SUM, DESC))", [1, None, 4, 5, None]),
        ("LAST(SLICE([m, n], 1))", [2, 1, None, None, None]),
        ("EPOCH(m)", [0, 60, 120, 180, 240]),
    ],
)
def test_functions(text: str, expected: Points) -> None:
    assert points(run(text, m=[1, None, 4, 5, None], n=[2, 1, None, None, None])) == pytest.approx(expected)


def test_an_array_goes_through_operators_one_by_one() -> None:
    found = run("METRICS() / 2 + m", m=[2, 4], n=[6, 8])

    assert isinstance(found, list)
    assert [points(each, 2) for each in found] == [[3, 6], [5, 8]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Unexpected end"),
        ("m +", "Unexpected end"),
        ("m n", "Unexpected 'n'"),
        ("(m", "Unexpected end"),
        ("m)", "Unexpected"),
        ("m # 2", "Unexpected character '#'"),
        ("FOO(m)", "Unknown function 'FOO'"),
        ("RATE(m, m)", "Wrong number of arguments for RATE"),
        ("x", "Undefined id 'x'"),
        ("METRICS() + METRICS()", "Two arrays"),
        ("RATE(5)", "A time series is needed"),
        ("(" * 500, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=said.replace("(", r"\(")):
        run(text, m=[1])


def test_the_ids_it_stands_on() -> None:
    assert names(parse("IF(e1 > 0.5, FILL(m1, REPEAT), SORT([m2], AVG, DESC))")) == {"e1", "m1", "m2"}


# Python's own arithmetic is the witness for precedence.
_ARITHMETIC = st.recursive(
    st.integers(0, 9).map(str) | st.just("m"),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(" ".join)
        | inner.map("({})".format)
        | inner.map(lambda text: f"-({text})")
    ),
    max_leaves=12,
)
_PYTHON: dict[type, Any] = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def _witness(node: ast.expr) -> float:
    match node:
        case ast.BinOp(left, ast.Div(), right):
            divisor = _witness(right)
            return _witness(left) / divisor if divisor else math.nan
        case ast.BinOp(left, op, right):
            return float(_PYTHON[type(op)](_witness(left), _witness(right)))
        case ast.UnaryOp(_, operand):
            return -_witness(operand)
        case ast.Constant(value):
            assert isinstance(value, int)
            return float(value)
        case _:
            return 3.0


@given(_ARITHMETIC)
def test_arithmetic_binds_as_everywhere(text: str) -> None:
    expected = _witness(ast.parse(text, mode="eval").body)
    known = {"m": 3.0}

    found = evaluate(parse(text), Scope(known, {}, range(0, 60, 60)))

    assert found == pytest.approx(expected, nan_ok=True)


@given(st.text(alphabet="m1 +-*/^()[],.<>=!&|\"'ABFILSUMRT", max_size=30))
def test_any_text_is_evaluated_or_refused(text: str) -> None:
    try:
        run(text, m1=[1, None, 3])
    except ExpressionError as error:
        assert str(error)
