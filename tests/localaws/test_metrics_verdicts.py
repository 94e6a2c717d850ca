"""When an alarm alarms: AWS's documented tables, its recorded sentences, and what holds for all data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws.cloudwatch.rules import RuleError, children, holds, parse_rule
from pointsman.localaws.cloudwatch.verdicts import EXTRA, Point, Rule, State, Verdict, judge

T = 1_700_000_000 // 60 * 60  # 14/11/23 22:13:00
OK, ALARM, UNKNOWN, SAME = "OK", "ALARM", "INSUFFICIENT_DATA", None


def points(text: str) -> list[Point]:
    """One character a period: 0 is within, X breaches, - is missing."""
    values = {"0": 0.0, "X": 9.0, "-": None}
    return [Point(T + 60 * n, values[mark]) for n, mark in enumerate(text.replace(" ", ""))]


def judged(text: str, missing: str = "missing", *, to_alarm: int | None = None, periods: int = 3) -> Verdict:
    return judge(points(text), Rule("GreaterThanThreshold", 3.0, periods, to_alarm, missing))


@pytest.mark.parametrize(
    ("text", "to_alarm", "expected"),
    [
        ("0 - X - X", 3, (OK, OK, OK, OK)),
        ("0 - - - -", 3, (OK, OK, OK, OK)),
        ("- - - - -", 3, (UNKNOWN, SAME, ALARM, OK)),
        ("0 X X - X", 3, (ALARM, ALARM, ALARM, ALARM)),
        ("- - - - X", 3, (UNKNOWN, SAME, ALARM, OK)),
        ("- - X - -", 3, (ALARM, SAME, ALARM, OK)),
        ("X - - - -", 3, (ALARM, SAME, ALARM, OK)),
        ("0 - X - X", 2, (ALARM, ALARM, ALARM, ALARM)),
        ("0 0 X 0 X", 2, (ALARM, ALARM, ALARM, ALARM)),
        ("0 - X - -", 2, (OK, OK, ALARM, OK)),
        ("- - - - 0", 2, (OK, OK, ALARM, OK)),
        ("- - - - X", 2, (UNKNOWN, SAME, ALARM, OK)),
        ("- - - X -", 2, (ALARM, SAME, ALARM, OK)),
    ],
)
def test_the_documented_tables(text: str, to_alarm: int, expected: tuple[State | None, ...]) -> None:
    treatments = ("missing", "ignore", "breaching", "notBreaching")

    assert tuple(judged(text, each, to_alarm=to_alarm).state for each in treatments) == expected


MARKS = st.text(alphabet="0X-", min_size=3 + EXTRA, max_size=3 + EXTRA)
TREATMENTS = st.sampled_from(["missing", "ignore", "breaching", "notBreaching"])


@given(MARKS.filter(lambda text: text.count("-") <= EXTRA), TREATMENTS, st.integers(1, 3))
def test_with_enough_points_only_the_latest_count(text: str, missing: str, to_alarm: int) -> None:
    latest = text.replace("-", "")[-3:]

    assert judged(text, missing, to_alarm=to_alarm).state == (ALARM if latest.count("X") >= to_alarm else OK)


@given(MARKS, TREATMENTS, st.integers(1, 3))
def test_only_breaching_points_alarm_unless_missing_ones_are_told_to(text: str, missing: str, to_alarm: int) -> None:
    if judged(text, missing, to_alarm=to_alarm).state == ALARM and missing != "breaching":
        assert "X" in text


@given(MARKS, TREATMENTS, st.integers(1, 3))
def test_fewer_points_to_alarm_alarm_no_less(text: str, missing: str, to_alarm: int) -> None:
    if judged(text, missing, to_alarm=to_alarm).state == ALARM:
        assert judged(text, missing, to_alarm=1).state == ALARM


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        # recorded
        (
            judged("--X", periods=1),
            "Threshold Crossed: 1 datapoint [9.0 (14/11/23 22:15:00)] was greater than the threshold (3.0).",
        ),
        (
            judged("----", "breaching", periods=2),
            "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as "
            "[Breaching].",
        ),
        (
            judged("---", "notBreaching", periods=1),
            "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as "
            "[NonBreaching].",
        ),
        (judged("---", periods=1), "Insufficient Data: 1 datapoint was unknown."),
        # as people quote them
        (
            judged("--X", periods=1, to_alarm=1),
            "Threshold Crossed: 1 out of the last 1 datapoints [9.0 (14/11/23 22:15:00)] was greater than the "
            "threshold (3.0) (minimum 1 datapoint for OK -> ALARM transition).",
        ),
        (
            judged("--0", periods=1, to_alarm=1),
            "Threshold Crossed: 1 out of the last 1 datapoints [0.0 (14/11/23 22:15:00)] was not greater than the "
            "threshold (3.0) (minimum 1 datapoint for ALARM -> OK transition).",
        ),
        (
            judged("000XX", to_alarm=2),
            "Threshold Crossed: 2 out of the last 3 datapoints [9.0 (14/11/23 22:17:00), 9.0 (14/11/23 22:16:00)] were "
            "greater than the threshold (3.0) (minimum 2 datapoints for OK -> ALARM transition).",
        ),
    ],
)
def test_the_reason_is_worded_as_on_aws(verdict: Verdict, reason: str) -> None:
    assert verdict.reason == reason


# --- composite alarms ---

STATES = {"a": "ALARM", "b": "OK", "c (1)": "INSUFFICIENT_DATA"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ALARM("a")', True),
        ("ALARM(a) AND NOT OK(b)", False),
        ("ALARM(a) OR ALARM(b) AND ALARM(b)", True),
        ("(ALARM(a) OR ALARM(b)) AND ALARM(b)", False),
        ('NOT (ALARM(b) OR OK("c (1)"))', True),
        ('INSUFFICIENT_DATA("c (1)") AND TRUE', True),
        ("FALSE OR OK(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:b)", True),
        ("ALARM(gone)", False),
    ],
)
def test_composite_rules(text: str, expected: bool) -> None:
    assert holds(parse_rule(text), lambda name: STATES.get(name.rpartition(":")[2])) is expected


def test_a_rule_names_each_alarm_once() -> None:
    assert children(parse_rule('ALARM(a) AND (NOT OK("b c") OR INSUFFICIENT_DATA(a))')) == ["a", "b c"]


@pytest.mark.parametrize("text", ["", "ALARM", "ALARM()", "ALARM(a", "a", "ALARM(a) ALARM(b)", "NOT", "(TRUE", 'OK(")'])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        parse_rule(text)
