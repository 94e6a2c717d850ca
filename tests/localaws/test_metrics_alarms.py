"""Alarms in time: judged when their periods end, told once, kept over restarts. The clock is the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws.cloudwatch import notices
from pointsman.localaws.cloudwatch.alarms import UNCHECKED, Alarm, Alarms
from pointsman.localaws.cloudwatch.emission import emit
from pointsman.localaws.cloudwatch.metrics import Datum, Metric, Metrics
from pointsman.localaws.cloudwatch.notices import Notice
from pointsman.localaws.cloudwatch.statistics import Distribution
from tests.fakes import FakeClock

PLACE = ("123456789012", "eu-west-1")
T = 1_700_000_040  # a whole minute
TOPIC, HOOK = "arn:aws:sns:eu-west-1:123456789012:t", "arn:aws:lambda:eu-west-1:123456789012:function:f"
Json = dict[str, Any]


class World:
    """Alarms on a directory, by a clock that moves when told to; what was done and announced."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock(T)
        self.directory = directory
        self.done: list[tuple[str, Notice]] = []
        self.announced: list[Notice] = []
        self.open()

    def open(self) -> None:
        self.metrics = Metrics(self.directory / "metrics.db", emit=emit, now=self.clock.now)
        self.alarms = Alarms(
            self.directory / "alarms.db",
            self.metrics,
            act=self.act,
            announce=self.announced.append,
            now=self.clock.now,
        )

    def close(self) -> None:
        self.alarms.close()
        self.metrics.close()

    def act(self, action: str, notice: Notice) -> None:
        if ":ssm:" in action:
            raise ValueError("nobody there")
        self.done.append((action, notice))

    def put(self, name: str = "a", tags: dict[str, str] | None = None, **given: Any) -> Alarm:
        known = {
            "AlarmName": name,
            "MetricName": "Size",
            "Namespace": "Shop",
            "Statistic": "Sum",
            "Period": 10,
            "EvaluationPeriods": 1,
            "Threshold": 3.0,
            "ComparisonOperator": "GreaterThanThreshold",
        }
        return self.alarms.put(*PLACE, "MetricAlarm", known | given, tags or {})

    def compose(self, rule: str, name: str = "c", **given: Any) -> Alarm:
        return self.alarms.put(*PLACE, "CompositeAlarm", {"AlarmName": name, "AlarmRule": rule} | given, {})

    def report(self, *values: float, name: str = "Size", back: float = 1.0) -> None:
        at = self.clock.now() - back
        self.metrics.put(Datum(Metric(*PLACE, "Shop", name), "None", at, Distribution.of(value)) for value in values)

    def after(self, seconds: float) -> str:
        """The state of "a" when they have passed."""
        self.clock.sleep(seconds)
        self.alarms.work()
        return self.alarm().now.value

    def alarm(self, name: str = "a") -> Alarm:
        found = self.alarms.get(*PLACE, name)
        assert found is not None
        return found

    def history(self, type_: str) -> list[str]:
        return [item.summary for item in self.alarms.history(*PLACE) if item.type == type_]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_it_begins_without_data_and_is_judged_when_a_period_ends(world: World) -> None:
    world.put()
    assert (world.alarm().now.value, world.alarm().now.reason) == ("INSUFFICIENT_DATA", UNCHECKED)
    world.clock.sleep(5)
    world.report(5.0)

    assert world.after(4.9) == "INSUFFICIENT_DATA"
    assert world.after(0.1) == "ALARM"
    assert world.alarm().now.since == T + 10
    assert json.loads(world.alarm().now.data or "") == {
        "version": "1.0",
        "queryDate": "2023-11-14T22:14:10.000+0000",
        "startDate": "2023-11-14T22:14:00.000+0000",
        "statistic": "Sum",
        "period": 10,
        "recentDatapoints": [5.0],
        "threshold": 3.0,
        "evaluatedDatapoints": [{"timestamp": "2023-11-14T22:14:00.000+0000", "sampleCount": 1.0, "value": 5.0}],
    }


def test_a_period_of_minutes_is_looked_at_every_minute(world: World) -> None:
    world.put(Period=300)
    world.clock.sleep(30)
    world.report(5.0)

    assert world.after(30) == "ALARM"


def test_an_alarm_that_cannot_be_judged_stops_no_other(world: World) -> None:
    """This one is of a single series, as it must be, until its metric has values."""
    sizes, ages = (
        {"Id": id_, "ReturnData": False, "MetricStat": {"Metric": metric, "Period": 10, "Stat": "Sum"}}
        for id_, metric in (
            ("m1", {"Namespace": "Shop", "MetricName": "Size"}),
            ("m2", {"Namespace": "Shop", "MetricName": "Age"}),
        )
    )
    world.put("odd", Metrics=[sizes, ages, {"Id": "e", "Expression": "IF(DATAPOINT_COUNT(m1), [m1, m2], m1)"}])
    world.put()
    world.clock.sleep(5)
    world.report(5.0)

    assert world.after(5) == "ALARM"


def test_what_is_not_over_does_not_count(world: World) -> None:
    world.put(TreatMissingData="notBreaching")
    assert world.after(10) == "OK"
    world.report(9.0, back=-1)  # in the period that has just begun

    assert world.after(9.9) == "OK"
    assert world.after(0.1) == "ALARM"


def test_it_goes_back_when_the_metric_does_and_tells_each_change_once(world: World) -> None:
    world.put(AlarmActions=[TOPIC], OKActions=[HOOK], InsufficientDataActions=[TOPIC], AlarmDescription="too big")
    states = []
    for value in (9.0, 9.0, 0.0, 0.0, 9.0):
        world.clock.sleep(5)
        world.report(value)
        states.append(world.after(5))

    assert states == ["ALARM", "ALARM", "OK", "OK", "ALARM"]
    assert [(action, notice.before.value, notice.after.value) for action, notice in world.done] == [
        (TOPIC, "INSUFFICIENT_DATA", "ALARM"),
        (HOOK, "ALARM", "OK"),
        (TOPIC, "OK", "ALARM"),
    ]
    assert len(world.announced) == 3
    assert world.history("StateUpdate") == [
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        "Alarm updated from ALARM to OK",
        "Alarm updated from OK to ALARM",
    ]


def test_some_of_the_latest_points(world: World) -> None:
    world.put(EvaluationPeriods=3, DatapointsToAlarm=2)
    states = []
    for value in (9.0, 0.0, 0.0, 9.0, 0.0, 9.0, 0.0, 0.0):
        world.clock.sleep(5)
        world.report(value)
        states.append(world.after(5))

    # One breach alone is not known to be one of two until points around it are there.
    assert states == ["INSUFFICIENT_DATA", "OK", "OK", "OK", "OK", "ALARM", "OK", "OK"]


def test_a_percentile_and_an_expression(world: World) -> None:
    def query(id_: str, name: str) -> Json:
        stat = {"Metric": {"Namespace": "Shop", "MetricName": name}, "Period": 10, "Stat": "Sum"}
        return {"Id": id_, "MetricStat": stat, "ReturnData": False}

    world.put("p", Statistic=None, ExtendedStatistic="p90", Threshold=8.0)
    rate = {"Id": "rate", "Expression": "100 * bad / all", "ReturnData": True}
    given = {"Metrics": [query("bad", "Bad"), query("all", "Size"), rate], "Threshold": 20.0}
    plain = ("MetricName", "Namespace", "Statistic", "Period")
    base = {key: value for key, value in world.put().given.items() if key not in plain}
    world.alarms.put(*PLACE, "MetricAlarm", base | given | {"AlarmName": "m"}, {})
    world.clock.sleep(5)
    world.report(*range(1, 11))
    world.report(12.0, name="Bad")

    world.after(5)

    assert world.alarm("p").now.value == "ALARM"  # the 90th of 1…10 is 9
    assert world.alarm("m").now.value == "ALARM"  # 12 of 55
    assert json.loads(world.alarm("m").now.data or "")["recentDatapoints"] == [pytest.approx(100 * 12 / 55)]


def test_too_few_values_for_a_percentile_change_nothing_if_so_wanted(world: World) -> None:
    world.put(Statistic=None, ExtendedStatistic="p90", EvaluateLowSampleCountPercentile="ignore")
    world.report(*[9.0] * 99)
    assert world.after(10) == "INSUFFICIENT_DATA"

    world.report(*[9.0] * 100)
    assert world.after(10) == "ALARM"


def test_a_state_set_by_hand_lasts_until_the_next_judgement(world: World) -> None:
    world.put(TreatMissingData="notBreaching", AlarmActions=[TOPIC])
    assert world.after(10) == "OK"

    assert world.alarms.set_state(*PLACE, "a", ("ALARM", "a drill", None))
    assert world.after(1) == "ALARM"
    assert world.alarm().now.reason == "a drill"
    assert [notice.after.reason for _, notice in world.done] == ["a drill"]

    assert world.after(9) == "OK"
    assert world.alarm().now.reason.startswith("Threshold Crossed: no datapoints")


def test_a_reason_set_by_hand_gives_way_though_the_state_is_right(world: World) -> None:
    world.put(TreatMissingData="notBreaching")
    world.after(10)
    changed = world.alarm().changed
    world.alarms.set_state(*PLACE, "a", ("OK", "said so", None))

    world.after(10)

    assert world.alarm().now.reason.startswith("Threshold Crossed")
    assert world.alarm().changed == changed


def test_a_failing_action_is_noted_and_stops_no_other(world: World) -> None:
    broken = "arn:aws:ssm:eu-west-1:123456789012:x"
    world.put(AlarmActions=[broken, TOPIC], TreatMissingData="breaching")

    world.after(10)

    assert [action for action, _ in world.done] == [TOPIC]
    assert world.history("Action") == [
        f'Failed to execute action {broken}. Received error: "nobody there"',
        f"Successfully executed action {TOPIC}",
    ]


def test_nothing_is_done_while_actions_are_disabled(world: World) -> None:
    world.put(AlarmActions=[TOPIC], TreatMissingData="breaching", ActionsEnabled=False)

    assert world.after(10) == "ALARM"
    assert (world.done, len(world.announced)) == ([], 1)


def test_state_and_history_survive_a_restart_and_judging_goes_on(world: World) -> None:
    world.put(AlarmActions=[TOPIC], tags={"team": "shop"})
    world.compose('ALARM("a")', OKActions=[TOPIC])
    world.clock.sleep(5)
    world.report(9.0)
    world.after(5)
    world.close()

    world.open()

    assert world.alarm().now.value == world.alarm("c").now.value == "ALARM"
    assert world.alarm().tags == {"team": "shop"}
    assert len(world.history("StateUpdate")) == 3  # "c" first found that "a" did not alarm
    world.clock.sleep(5)
    world.report(0.0)
    assert world.after(5) == "OK"
    assert world.alarm("c").now.value == "OK"


def test_an_alarm_put_again_keeps_its_state(world: World) -> None:
    world.put(TreatMissingData="breaching")
    world.after(10)

    world.put(TreatMissingData="breaching", Threshold=4.0)

    assert world.alarm().now.value == "ALARM"
    assert world.history("ConfigurationUpdate") == ['Alarm "a" created', 'Alarm "a" updated']


def test_a_deleted_alarm_is_not_judged(world: World) -> None:
    world.put(TreatMissingData="breaching", AlarmActions=[TOPIC])
    world.alarms.delete(*PLACE, ["a", "never was"])

    world.clock.sleep(20)
    world.alarms.work()

    assert world.alarms.get(*PLACE, "a") is None
    assert world.done == []
    assert world.history("ConfigurationUpdate")[-1] == 'Alarm "a" deleted'


def test_composite_alarms_follow_at_once_and_name_who_moved_them(world: World) -> None:
    one, _ = world.put("a"), world.put("b")
    world.compose('ALARM("a") AND NOT ALARM(b)', "c", AlarmActions=[TOPIC])
    world.compose(f'OK("c") AND ALARM("{one.arn}")', "d")  # of a composite alarm, and by ARN
    assert world.alarm("c").now.value == world.alarm("d").now.value == "OK"

    world.alarms.set_state(*PLACE, "a", ("ALARM", "drill", None))
    world.alarms.work()

    assert (world.alarm("c").now.value, world.alarm("d").now.value) == ("ALARM", "OK")
    assert world.alarm("c").now.reason == f"{one.arn} transitioned to ALARM at Tuesday 14 November, 2023 22:14:00 UTC"
    assert json.loads(world.alarm("c").now.data or "")["triggeringAlarms"] == [
        {"arn": one.arn, "state": {"value": "ALARM", "timestamp": "2023-11-14T22:14:00.000+0000"}}
    ]
    message = notices.sns_message(world.done[-1][1], "EU (Ireland)")
    assert message["TriggeringChildren"] == [
        {"Arn": one.arn, "State": {"Value": "ALARM", "Timestamp": "2023-11-14T22:14:00.000+0000"}}
    ]

    world.alarms.set_state(*PLACE, "b", ("ALARM", "drill", None))

    assert (world.alarm("c").now.value, world.alarm("d").now.value) == ("OK", "ALARM")


def test_alarms_that_depend_on_each_other_come_to_rest(world: World) -> None:
    world.put("a")
    world.compose("ALARM(a)", "c")
    world.compose("NOT ALARM(c)", "d")
    world.compose("ALARM(a) AND ALARM(d)", "c")  # now in a circle

    world.alarms.set_state(*PLACE, "a", ("ALARM", "drill", None))

    assert world.alarm("c").now.value == "ALARM"
    assert world.alarm("d").now.value == "OK"


def test_what_lambda_and_sns_are_told(world: World) -> None:
    """The shapes are recorded."""
    dimensions = [{"Name": "InstanceId", "Value": "abc"}]
    world.put(AlarmActions=[TOPIC], Statistic="Average", Unit="Seconds", Dimensions=dimensions, AlarmDescription="d")
    world.alarms.set_state(*PLACE, "a", ("ALARM", "testing alarm", None))
    world.alarms.work()
    ((_, notice),) = world.done
    arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"
    at = "2023-11-14T22:14:00.000+0000"

    event = notices.lambda_event(notice)
    assert len(event["alarmData"]["configuration"]["metrics"][0].pop("id")) == 36
    assert event == {
        "source": "aws.cloudwatch",
        "alarmArn": arn,
        "accountId": "123456789012",
        "time": at,
        "region": "eu-west-1",
        "alarmData": {
            "alarmName": "a",
            "state": {"value": "ALARM", "reason": "testing alarm", "timestamp": at},
            "previousState": {"value": "INSUFFICIENT_DATA", "reason": UNCHECKED, "timestamp": at},
            "configuration": {
                "description": "d",
                "metrics": [
                    {
                        "metricStat": {
                            "metric": {"namespace": "Shop", "name": "Size", "dimensions": {"InstanceId": "abc"}},
                            "period": 10,
                            "stat": "Average",
                            "unit": "Seconds",
                        },
                        "returnData": True,
                    }
                ],
            },
        },
    }
    assert notices.subject(notice, "EU (Ireland)") == 'ALARM: "a" in EU (Ireland)'
    assert notices.sns_message(notice, "EU (Ireland)") == {
        "AlarmName": "a",
        "AlarmDescription": "d",
        "AWSAccountId": "123456789012",
        "AlarmConfigurationUpdatedTimestamp": at,
        "NewStateValue": "ALARM",
        "NewStateReason": "testing alarm",
        "StateChangeTime": at,
        "ActionExecutedAfterMuteWindow": False,
        "Region": "EU (Ireland)",
        "AlarmArn": arn,
        "OldStateValue": "INSUFFICIENT_DATA",
        "OKActions": [],
        "AlarmActions": [TOPIC],
        "InsufficientDataActions": [],
        "Trigger": {
            "MetricName": "Size",
            "Namespace": "Shop",
            "StatisticType": "Statistic",
            "Statistic": "AVERAGE",
            "Unit": "Seconds",
            "Dimensions": [{"name": "InstanceId", "value": "abc"}],
            "Period": 10,
            "EvaluationPeriods": 1,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 3.0,
            "TreatMissingData": "",
            "EvaluateLowSampleCountPercentile": "",
        },
    }


def test_the_thread_waits_for_work_and_ends(world: World) -> None:
    """It is idle without alarms, and wakes when one is put whose moment has come."""
    world.alarms.start()
    told: Callable[[], bool] = lambda: bool(world.done)  # noqa: E731
    world.put(TreatMissingData="breaching", AlarmActions=[TOPIC])
    assert not told()

    world.clock.sleep(10)
    world.put("b")  # wakes it

    from tests.localaws.conftest import until

    until(told, "the alarm's action")
