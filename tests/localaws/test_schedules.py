"""When schedules are due, by a clock that tests set; and that they fire, in a real local AWS whose clock is hurried."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws import control
from pointsman.localaws.event_inputs import InputError, input_of
from pointsman.localaws.recurrence import (
    At,
    Cron,
    ExpressionError,
    Rate,
    Recurrence,
    Within,
    parse_rule,
    parse_schedule,
    zone_of,
)
from pointsman.localaws.schedules import Schedules, Timetable
from tests.localaws.conftest import client, make_function, until

OFF = {"Mode": "OFF"}
ROLE = f"arn:aws:iam::{control.ACCOUNT}:role/role"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def said(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


# --- expressions ---


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 12 * * ? *", ["2026-11-22 12:00", "2026-11-23 12:00"]),
        ("5,35 14 * * ? *", ["2026-11-22 14:05", "2026-11-22 14:35"]),
        ("0/25 9 * * ? *", ["2026-11-22 09:50", "2026-11-23 09:00"]),
        ("*/30 23-0 * * ? *", ["2026-11-22 23:00", "2026-11-22 23:30"]),
        ("0 18 ? * MON-FRI *", ["2026-11-23 18:00", "2026-11-24 18:00"]),
        ("0 18 ? * sat-mon *", ["2026-11-22 18:00", "2026-11-23 18:00"]),
        ("15 10 ? * 6L *", ["2026-11-27 10:15", "2026-12-25 10:15"]),  # the last Friday
        ("0 2 ? * SAT#3 *", ["2026-12-19 02:00", "2027-01-16 02:00"]),
        ("0 0 ? * 2#5 *", ["2026-11-30 00:00", "2027-03-29 00:00"]),  # few months have five Mondays
        ("0 0 ? * L *", ["2026-11-28 00:00", "2026-12-05 00:00"]),
        ("0 0 L * ? *", ["2026-11-30 00:00", "2026-12-31 00:00"]),
        ("0 0 L-2 * ? *", ["2026-11-28 00:00", "2026-12-29 00:00"]),
        ("0 0 LW * ? *", ["2026-11-30 00:00", "2026-12-31 00:00"]),
        ("0 0 22W * ? *", ["2026-11-23 00:00", "2026-12-22 00:00"]),  # November's is a Sunday
        ("0 0 1W 5,8 ? *", ["2027-05-03 00:00", "2027-08-02 00:00"]),  # no day of another month
        ("0 0 31 * ? *", ["2026-12-31 00:00", "2027-01-31 00:00"]),
        ("0 0 29 FEB ? *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 29 2 ? 2097-2110", ["2104-02-29 00:00", "2108-02-29 00:00"]),  # 2100 has none
        ("0 5 ? JAN 1-5 2022", [None]),
        ("0 0 30 2 ? *", [None]),
    ],
)
def test_when_cron_is_due(expression: str, expected: list[str | None]) -> None:
    cron, moment = Cron(expression), at("2026-11-22 09:43:30")
    for due in expected:
        found = cron.next(moment)
        assert said(found) == due
        moment = moment if found is None else found


@st.composite
def expressions(draw: st.DrawFn) -> str:
    def numbers(low: int, high: int) -> str:
        value = st.integers(low, high).map(str)
        ranges = st.tuples(value, value).map("-".join)
        steps = st.tuples(st.one_of(st.just("*"), value, ranges), st.integers(1, high).map(str)).map("/".join)
        return draw(
            st.one_of(st.just("*"), st.lists(st.one_of(value, ranges, steps), min_size=1, max_size=3).map(",".join))
        )

    nearest = st.integers(1, 31).map("{}W".format)
    days = draw(st.one_of(st.just(numbers(1, 31)), st.sampled_from(["L", "LW", "L-3"]), nearest))
    nth = st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}")
    weekdays = draw(st.one_of(st.just(numbers(1, 7)), st.sampled_from(["L", "2L", "FRIL", "MON-WED"]), nth))
    both = (days, "?") if draw(st.booleans()) else ("?", weekdays)
    return f"{numbers(0, 59)} {numbers(0, 23)} {both[0]} {numbers(1, 12)} {both[1]} *"


@given(expressions(), st.integers(0, 4_000_000_000), st.integers(1, 2_000_000))
def test_cron_leaves_nothing_out_and_is_not_early(expression: str, moment: int, later: int) -> None:
    """From whatever moment before it, the next time is the same."""
    cron = Cron(expression)
    due = cron.next(moment)
    if due is None:
        assert cron.next(moment + later) is None
        return
    assert due > moment
    assert due % 60 == 0
    assert cron.next(due - 1) == due
    if moment + later < due:
        assert cron.next(moment + later) == due
    else:
        assert (cron.next(moment + later) or due + 1) > due


@given(st.integers(0, 59), st.integers(0, 23), st.integers(1, 7), st.integers(0, 4_000_000_000))
def test_cron_by_its_definition(minute: int, hour: int, weekday: int, moment: int) -> None:
    found = Cron(f"{minute} {hour} ? * {weekday} *").next(moment)
    assert found is not None
    begin = datetime.fromtimestamp(moment, UTC).replace(second=0)
    each_minute = (begin + timedelta(minutes=n) for n in range(1, 8 * 24 * 60))
    assert found == next(
        each.timestamp()
        for each in each_minute
        if (each.minute, each.hour, each.isoweekday() % 7 + 1) == (minute, hour, weekday)
    )


def test_a_time_zone_with_summer_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    noon = Cron("0 12 * * ? *", berlin)
    assert said(noon.next(at("2026-03-27 12:00:00"))) == "2026-03-28 11:00"
    assert said(noon.next(at("2026-03-28 12:00:00"))) == "2026-03-29 10:00"
    # 2:30 does not exist on the 29th, and exists twice on October's 25th.
    early = Cron("30 2 * * ? *", berlin)
    assert said(early.next(at("2026-03-28 02:00:00"))) == "2026-03-30 00:30"
    first = early.next(at("2026-10-24 12:00:00"))
    assert said(first) == "2026-10-25 00:30"
    assert said(early.next(first or 0)) == "2026-10-26 01:30"


# What AWS took, and what it refused (recorded).
TAKEN = [
    *("rate(1 minute)", "rate(10 minutes)", "rate(1 hour)", "rate(2 days)", "cron(0 2 ? * SAT *)"),
    *("cron(15 10 ? * 6L 2002-2005)", "cron(* * ? * SAT#3 *)", "cron(0/5 5 ? JAN 1-5 2022)", "cron(0/15 * * * ? *)"),
    *("cron(0/30 20-23 ? * MON-FRI *)", "cron(0-15/1 8-8 ? * 2,3,4,5,6,7 *)", "cron(30-30 13-13 ? * 2,4,6 *)"),
    *("cron(1-31/30 1-1 ? * 1,7 *)", "cron(*/15 * * * ? *)", "cron(0-59/10 0-23/2 ? * * *)"),
]
REFUSED = [
    *("rate(10 seconds)", "rate(10 years)", "rate()", "rate(10)", "rate(10 minutess)", "rate(foo minutes)"),
    *("rate(-10 minutes)", "rate( 10 minutes )", " rate(10 minutes)", "cron(0 1 * * * *)", "cron(7 20 * * NOT *)"),
    *("cron(INVALID)", "cron(0 dummy ? * MON-FRI *)", "cron(71 8 1 * ? *)", "cron()"),
]


@pytest.mark.parametrize("text", TAKEN)
def test_what_both_take(text: str) -> None:
    assert parse_rule(text, 0) == parse_schedule(text, UTC, 0)


@pytest.mark.parametrize("text", REFUSED)
def test_what_both_refuse(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_rule(text, 0)
    with pytest.raises(ExpressionError):
        parse_schedule(text, UTC, 0)


@pytest.mark.parametrize("text", ["rate(1 minutes)", "rate(10 hour)", "rate(0 minutes)", "rate(10 MINUTES)"])
def test_a_rule_minds_plurals(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_rule(text, 0)


def test_what_only_schedules_know() -> None:
    assert parse_schedule("rate(1 minutes)", UTC, 7) == Rate(60, 7)
    assert parse_schedule("at(2026-11-22T10:00:00)", zone_of("Europe/Berlin"), 0) == At(at("2026-11-22 09:00:00"))
    for text in ("at(2021-12-31T23:59:59Z)", "at(2021-12-31)", "at(2021-13-31T00:00:00)"):
        with pytest.raises(ExpressionError):
            parse_schedule(text, UTC, 0)
    with pytest.raises(ExpressionError):
        zone_of("Europe/Atlantis")


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(0, 100_000))
def test_a_rate_is_in_step(period: int, since: int, moment: int) -> None:
    due = Rate(period, since).next(moment)
    assert 0 < due - moment <= period
    assert (due - since) % period == 0


def test_between_two_dates() -> None:
    week = Within(Rate(60, 600), 600, 720)
    assert [week.next(each) for each in (0, 600, 659, 660, 720)] == [600, 660, 660, 720, None]


# --- the timetable ---


class Clock:
    def __init__(self, moment: float = 1000.0) -> None:
        self.moment = moment

    def __call__(self) -> float:
        return self.moment


def test_each_time_is_due_once() -> None:
    clock = Clock()
    table = Timetable(clock)
    assert table.left_s() is None
    table.follow({"a": Rate(60, 1000), "b": Rate(90, 1000)})
    assert table.left_s() == 60
    clock.moment = 1059.9
    assert table.take_due() == []
    clock.moment = 1060
    assert table.take_due() == [("a", 1060)]
    assert table.take_due() == []
    assert table.left_s() == 30


def test_what_stays_keeps_its_time_and_what_goes_is_not_due() -> None:
    clock = Clock()
    table = Timetable(clock)
    table.follow({"stays": Rate(60, 1000), "goes": Rate(60, 1000), "changes": Rate(60, 1000)})
    clock.moment = 1060  # due, and not taken yet
    table.follow({"stays": Rate(60, 1000), "changes": Rate(60, 1010)})
    assert table.take_due() == [("stays", 1060)]
    clock.moment = 1070
    assert table.take_due() == [("changes", 1070)]


def test_what_was_missed_is_not_made_up_for() -> None:
    clock = Clock()
    table = Timetable(clock)
    table.follow({"a": Rate(600, 1000), "b": At(1900)})
    clock.moment = 1000 + 3 * 600 + 100  # the machine slept
    assert table.take_due() == []
    clock.moment = 1000 + 4 * 600
    assert table.take_due() == [("a", 3400)]


def test_another_speed_changes_how_long_is_left() -> None:
    clock = Clock()
    table = Timetable(clock)
    table.follow({"a": Rate(3600, 1000), "once": At(9000)})
    clock.moment = 1600
    table.hurry(60)
    assert table.left_s() == 50
    clock.moment = 1650
    assert table.take_due() == [("a", 4600)]
    clock.moment = 1724
    assert table.take_due() == [("a", 8200), ("once", 9000)]

    table.hurry(1)
    assert table.moment() == 1724
    table.follow({"a": Rate(3600, 1000), "once": At(9000)})
    assert table.left_s() == 2876  # of "a": what is done once is done
    clock.moment = 9000
    assert ("once", 9000) not in table.take_due()


def test_a_clock_hurried_to_the_end_of_the_calendar() -> None:
    clock = Clock()
    table = Timetable(clock)
    table.follow({"cron": Cron("* * * * ? *", ZoneInfo("Pacific/Kiritimati")), "rate": Rate(60, 0)})
    table.hurry(1e12)
    for _ in range(3):
        clock.moment += 10
        table.take_due()
    assert table.left_s() is not None


class Given:
    """A source in memory."""

    def __init__(self, recurrences: Mapping[str, Recurrence]) -> None:
        self.given = recurrences
        self.fired: list[str] = []

    def recurrences(self) -> Mapping[str, Recurrence]:
        return self.given

    def fire(self, key: str, at: float) -> None:
        self.fired.append(key)
        if key == "broken":
            raise ValueError("asked to")


def test_what_fails_hinders_nobody() -> None:
    async def fire_three_times() -> None:
        source = Given({"broken": Rate(60, 0), "fine": Rate(60, 0)})
        schedules = Schedules(source, Timetable(time.time), lambda: 6000.0)
        try:
            schedules.changed()
            async with asyncio.timeout(60):
                while min(source.fired.count("broken"), source.fired.count("fine")) < 3:
                    await asyncio.sleep(0.005)
        finally:
            await schedules.close()

    asyncio.run(fire_three_times())


# --- what targets get ---

EVENT = {
    "id": "i",
    "detail-type": "d t",
    "time": "now",
    "resources": ["r"],
    "detail": {"a": {"b": ["x", 1]}, "y": True},
}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({}, json.dumps(EVENT, separators=(",", ":"))),
        ({"Input": '{"mine": 1}'}, '{"mine": 1}'),
        ({"InputPath": "$.detail.a.b[0]"}, '"x"'),
        ({"InputPath": "$.detail-type"}, '"d t"'),
        ('{"t": <t>, "a": <a>, "said": "at <t>, <y>"}', '{"t": "now", "a": {"b":["x",1]}, "said": "at now, true"}'),
        ('"<t> <gone>: <a>"', '"now : {b:[x,1]}"'),
        ('{"gone": <gone>}', '{"gone": ""}'),
        ('"<aws.events.rule-name> <aws.events.rule-arn>"', '"rule arn"'),
        ('"one <t>"\n"two <aws.events.event.ingestion-time>"', '"one now"\n"two 1970-01-01T00:00:00Z"'),
    ],
)
def test_input(target: Any, expected: str) -> None:
    if isinstance(target, str):
        paths = {"t": "$.time", "a": "$.detail.a", "y": "$.detail.y", "gone": "$.detail.gone"}
        target = {"InputTransformer": {"InputPathsMap": paths, "InputTemplate": target}}
    assert input_of(target, EVENT, rule_name="rule", rule_arn="arn", ingested=0) == expected


def test_what_is_no_text_cannot_stand_between_quotes_of_json() -> None:
    template = {"InputPathsMap": {"a": "$.detail.a"}, "InputTemplate": '{"said": "<a>"}'}
    with pytest.raises(InputError, match="<a> is no text"):
        input_of({"InputTransformer": template}, EVENT, rule_name="rule", rule_arn="arn", ingested=0)


def test_the_whole_event_in_a_template() -> None:
    template = '{"outline": <aws.events.event>, "all": <aws.events.event.json>}'
    target = {"InputTransformer": {"InputTemplate": template}}
    found = json.loads(input_of(target, EVENT, rule_name="rule", rule_arn="arn", ingested=0))
    assert found["all"] == EVENT
    assert found["outline"] == {"id": "i", "detailType": "d t", "time": "now", "resources": ["r"]}


# --- in a local AWS whose minutes last half a second ---


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hurried")


@pytest.fixture(scope="module")
def hurried(home: Path) -> Iterator[control.Running]:
    running = control.up(home, settle_s=0.05)
    control.chaos(running, "PUT", clock=120)
    yield running
    control.down(home)


@pytest.fixture
def queue(hurried: control.Running, request: pytest.FixtureRequest) -> tuple[str, str]:
    """(URL, ARN)"""
    sqs = client(hurried, "sqs")
    url = sqs.create_queue(QueueName=request.node.originalname)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return url, attributes["QueueArn"]


def bodies(running: control.Running, url: str, number: int) -> list[str]:
    """As many messages as asked for, or a few more."""
    sqs = client(running, "sqs")
    found: list[str] = []

    def enough() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            found.append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= number

    until(enough, f"{number} messages")
    return found


def put(running: control.Running, name: str, expression: str, *targets: Mapping[str, Any]) -> str:
    """A rule and its targets; its ARN."""
    events = client(running, "events")
    arn: str = events.put_rule(Name=name, ScheduleExpression=expression)["RuleArn"]
    given = [{"Id": str(number), **target} for number, target in enumerate(targets)]
    assert events.put_targets(Rule=name, Targets=given)["FailedEntryCount"] == 0
    return arn


def test_a_rule_reaches_a_queue_every_minute(hurried: control.Running, queue: tuple[str, str]) -> None:
    url, arn = queue
    rule = put(hurried, "rate", "rate(1 minute)", {"Arn": arn})

    found = [json.loads(body) for body in bodies(hurried, url, 4)][:4]
    client(hurried, "events").disable_rule(Name="rate")

    assert len({event.pop("id") for event in found}) == 4
    times = [datetime.fromisoformat(event.pop("time")) for event in found]
    assert all(event == found[0] for event in found)
    assert found[0] == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": control.ACCOUNT,
        "region": "eu-west-1",
        "resources": [rule],
        "detail": {},
    }
    assert {later - sooner for sooner, later in pairwise(times)} == {timedelta(minutes=1)}
    assert {moment.second for moment in times} == {0}


def test_a_rule_reaches_every_kind_of_target(hurried: control.Running, home: Path, queue: tuple[str, str]) -> None:
    url, queue_arn = queue
    sns, states, logs, lambda_ = (client(hurried, each) for each in ("sns", "stepfunctions", "logs", "lambda"))
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    steps = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}
    machine = states.create_state_machine(name="m", definition=json.dumps(steps), roleArn=ROLE)["stateMachineArn"]
    logs.create_log_group(logGroupName="/rules")
    group = f"arn:aws:logs:eu-west-1:{control.ACCOUNT}:log-group:/rules"
    make_function(
        hurried, "scheduled", "def handler(event, context): print(event['said'], context.invoked_function_arn)"
    )
    lambda_.publish_version(FunctionName="scheduled")
    alias = lambda_.create_alias(FunctionName="scheduled", Name="live", FunctionVersion="1")["AliasArn"]
    stream = f"arn:aws:kinesis:eu-west-1:{control.ACCOUNT}:stream/none"
    absent = f"arn:aws:sqs:eu-west-1:{control.ACCOUNT}:none"

    targets = [
        {"Arn": arn, "Input": json.dumps({"said": arn.split(":")[2]})}
        for arn in (stream, absent, alias, topic, machine, group)
    ]
    put(hurried, "kinds", "cron(* * * * ? *)", *targets)

    def lines(name: str) -> list[str]:
        try:
            return [each["message"] for each in logs.filter_log_events(logGroupName=name)["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []

    assert bodies(hurried, url, 2)[0] == '{"said": "sns"}'
    until(lambda: f"lambda {alias}\n" in lines("/aws/lambda/scheduled"), "the alias was invoked")
    until(lambda: '{"said": "logs"}' in lines("/rules"), "a line was logged")
    found = until(lambda: states.list_executions(stateMachineArn=machine)["executions"][1:], "two executions")
    assert states.describe_execution(executionArn=found[0]["executionArn"])["input"] == '{"said": "states"}'
    client(hurried, "events").disable_rule(Name="kinds")
    until(lambda: "does not reach kinesis" in (home / "server.log").read_text(), "the log names what is not served")
    assert absent in (home / "server.log").read_text()


def test_a_rule_that_is_disabled_or_deleted_is_silent(hurried: control.Running, queue: tuple[str, str]) -> None:
    url, arn = queue
    events = client(hurried, "events")

    def heard(*names: str) -> None:
        until(lambda: set(bodies(hurried, url, 2 * len(names))) == set(names), f"only {names} fire")

    for name in ("off", "gone", "witness"):
        put(hurried, name, "rate(1 minute)", {"Arn": arn, "Input": name})
    heard("off", "gone", "witness")

    events.disable_rule(Name="off")
    events.remove_targets(Rule="gone", Ids=["0"])
    events.delete_rule(Name="gone")
    heard("witness")

    events.enable_rule(Name="off")
    heard("off", "witness")

    events.put_rule(Name="off", ScheduleExpression="rate(1 day)")
    heard("witness")
    events.disable_rule(Name="witness")


def test_a_schedule_takes_no_events(hurried: control.Running, queue: tuple[str, str]) -> None:
    url, arn = queue
    events = client(hurried, "events")
    put(hurried, "daily", "rate(100 days)", {"Arn": arn, "Input": "schedule"})
    events.put_rule(Name="disabled", EventPattern='{"source": ["s"]}', State="DISABLED")
    events.put_rule(Name="pattern", EventPattern='{"source": ["s"]}')
    for name in ("disabled", "pattern"):
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn, "Input": name}])

    events.put_events(Entries=[{"Source": "s", "DetailType": "d", "Detail": "{}"}])
    assert bodies(hurried, url, 1) == ["pattern"]


SERVERLESS = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.11
      Handler: index.handler
      InlineCode: "def handler(event, context): print(event['by'], context.function_version)"
      AutoPublishAlias: live
      Events:
        Rule: {Type: Schedule, Properties: {Schedule: rate(1 minute), Input: '{"by": "a rule"}'}}
        Schedule: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute), Input: '{"by": "a schedule"}'}}
Outputs: {Alias: {Value: !Ref Fn.Alias}}
"""


def test_serverless_events_reach_the_alias(hurried: control.Running) -> None:
    cf, logs = client(hurried, "cloudformation"), client(hurried, "logs")
    cf.create_stack(StackName="sam", TemplateBody=SERVERLESS, Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
    cf.get_waiter("stack_create_complete").wait(StackName="sam", WaiterConfig={"Delay": 1})
    (output,) = cf.describe_stacks(StackName="sam")["Stacks"][0]["Outputs"]
    name = output["OutputValue"].split(":")[6]

    def lines() -> set[str]:
        try:
            return {each["message"] for each in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]}
        except logs.exceptions.ResourceNotFoundException:
            return set()

    until(lambda: {"a rule 1\n", "a schedule 1\n"} <= lines(), "both invoke version 1, by the alias")
    cf.delete_stack(StackName="sam")
    until(lambda: "Fn" not in str(client(hurried, "scheduler").list_schedules()), "the schedule goes with the stack")


@pytest.mark.parametrize("text", ["rate(1 minutes)", "cron(0 1 * * * *)", "rate(0 minutes)", "cron(71 8 1 * ? *)"])
def test_put_rule_refuses(hurried: control.Running, text: str) -> None:
    with pytest.raises(ClientError) as refused:
        client(hurried, "events").put_rule(Name="refused", ScheduleExpression=text)
    found = refused.value.response["Error"]
    assert (found["Code"], found["Message"]) == ("ValidationException", "Parameter ScheduleExpression is not valid.")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"InputPath": "$.detail", "Input": "{}"}, "Only one of Input, InputPath, or InputTransformer"),
        ({"InputTransformer": {"InputTemplate": '"<none>"'}}, "contains invalid placeholder none"),
    ],
)
def test_put_targets_refuses(hurried: control.Running, given_: dict[str, Any], message: str) -> None:
    events = client(hurried, "events")
    events.put_rule(Name="daily", ScheduleExpression="rate(1 day)")
    target = {"Id": "1", "Arn": f"arn:aws:sqs:eu-west-1:{control.ACCOUNT}:q"}
    with pytest.raises(ClientError, match=message):
        events.put_targets(Rule="daily", Targets=[target | given_])


def test_schedules_of_the_scheduler(hurried: control.Running, queue: tuple[str, str]) -> None:
    url, arn = queue
    scheduler = client(hurried, "scheduler")
    target = {"Arn": arn, "RoleArn": ROLE}
    made = scheduler.create_schedule(
        Name="rate", ScheduleExpression="rate(1 minutes)", FlexibleTimeWindow=OFF, Target=target
    )["ScheduleArn"]
    event = json.loads(bodies(hurried, url, 2)[0])
    assert (event["source"], event["resources"], event["detail"]) == ("aws.scheduler", [made], "{}")

    context = {"Input": '{"arn": "<aws.scheduler.schedule-arn>"}'}
    scheduler.update_schedule(
        Name="rate", ScheduleExpression="cron(* * * * ? *)", FlexibleTimeWindow=OFF, Target=target | context
    )
    assert scheduler.get_schedule(Name="rate")["State"] == "ENABLED"
    until(lambda: json.dumps({"arn": made}) in bodies(hurried, url, 1), "the input with its ARN")
    scheduler.delete_schedule(Name="rate")


def test_once(hurried: control.Running, queue: tuple[str, str]) -> None:
    """Some hours ahead, for the clock is hurried."""
    url, arn = queue
    scheduler = client(hurried, "scheduler")
    event = {"Arn": arn, "RoleArn": ROLE}
    scheduler.create_schedule(Name="clock", ScheduleExpression="rate(1 minute)", FlexibleTimeWindow=OFF, Target=event)
    now = datetime.fromisoformat(json.loads(bodies(hurried, url, 1)[-1])["time"])
    scheduler.delete_schedule(Name="clock")
    soon = (now + timedelta(minutes=5)).strftime("at(%Y-%m-%dT%H:%M:%S)")
    for name, then in (("kept", "NONE"), ("deleted", "DELETE")):
        scheduler.create_schedule(
            Name=name, ScheduleExpression=soon, FlexibleTimeWindow=OFF, Target=event | {"Input": name},
            ActionAfterCompletion=then,
        )  # fmt: skip

    found = [body for body in bodies(hurried, url, 2) if body in ("kept", "deleted")]
    assert sorted(found) == ["deleted", "kept"]
    assert scheduler.get_schedule(Name="kept")["ActionAfterCompletion"] == "NONE"
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name="deleted")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"ScheduleExpression": "at(2021-12-31)"}, "Invalid Schedule Expression at(2021-12-31)."),
        ({"ScheduleExpression": "cron()"}, "Invalid Schedule Expression cron()."),
        ({"ScheduleExpressionTimezone": "Europe/Atlantis"}, "Invalid Schedule Expression Timezone Europe/Atlantis."),
        ({"GroupName": "none"}, "Schedule group none does not exist."),
    ],
)
def test_create_schedule_refuses(hurried: control.Running, given_: dict[str, str], message: str) -> None:
    whole: dict[str, Any] = {"ScheduleExpression": "rate(1 hour)", "FlexibleTimeWindow": OFF} | given_
    target = {"Arn": f"arn:aws:sqs:eu-west-1:{control.ACCOUNT}:q", "RoleArn": ROLE}
    with pytest.raises(ClientError) as refused:
        client(hurried, "scheduler").create_schedule(Name="refused", Target=target, **whole)
    assert message in (refused.value.response["Error"]["Message"], refused.value.response.get("Message"))


def test_a_restart_goes_on_and_makes_up_for_nothing(tmp_path: Path) -> None:
    running = control.up(tmp_path, settle_s=0.05)
    try:
        control.chaos(running, "PUT", clock=0.001)  # nothing becomes due in this life, however long it takes
        sqs = client(running, "sqs")
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        put(running, "rule", "rate(1 minute)", {"Arn": arn, "Input": "rule"})
        soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
        for name, moment in (("missed", soon), ("to come", soon + timedelta(days=1))):
            client(running, "scheduler").create_schedule(
                Name=name.split()[0],
                ScheduleExpression=moment.strftime("at(%Y-%m-%dT%H:%M:%S)"),
                FlexibleTimeWindow=OFF,
                Target={"Arn": arn, "RoleArn": ROLE, "Input": name},
            )
        control.down(tmp_path)
        until(lambda: datetime.now(UTC) > soon, "it is past the time of one")

        running = control.up(tmp_path, settle_s=0.05)
        control.chaos(running, "PUT", clock=120)
        url = client(running, "sqs").get_queue_url(QueueName="q")["QueueUrl"]
        found: list[str] = []
        until(lambda: found.extend(bodies(running, url, 1)) or "rule" in found, "it has read what there is")
        client(running, "events").disable_rule(Name="rule")  # a thousand of its messages would come first
        control.chaos(running, "PUT", clock=86_400)  # not before: it would make up for nothing
        until(lambda: found.extend(bodies(running, url, 1)) or "to come" in found, "the other one")
        assert set(found) == {"rule", "to come"}
    finally:
        control.down(tmp_path)
