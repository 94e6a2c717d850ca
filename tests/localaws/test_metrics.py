"""Metrics and alarms of a real local AWS: from an invocation to the message that an alarm sends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws import control
from tests.localaws.conftest import Client, client, make_function, until

SOURCE = """\
def handler(event, context):
    if event.get("fail"):
        raise ValueError("asked to")
    return context.function_version
"""


def dimensions(name: str, alias: str | None = None, version: str | None = None) -> list[dict[str, str]]:
    given = {"FunctionName": name, "Resource": alias and f"{name}:{alias}", "ExecutedVersion": version}
    return [{"Name": key, "Value": value} for key, value in given.items() if value is not None]


def query(id_: str, metric: str, of: list[dict[str, str]], period: int = 60, stat: str = "Sum") -> dict[str, Any]:
    named = {"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": of}
    return {"Id": id_, "MetricStat": {"Metric": named, "Period": period, "Stat": stat}, "ReturnData": False}


def total(cloudwatch: Any, metric: str, of: list[dict[str, str]]) -> float | None:
    """The sum of the last minutes; None without data."""
    now = datetime.now(UTC)
    reply = cloudwatch.get_metric_data(
        MetricDataQueries=[query("m", metric, of) | {"ReturnData": True}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
    )
    values = reply["MetricDataResults"][0]["Values"]
    return sum(values) if values else None


def invoke(lambda_: Any, name: str, times: int = 1, **event: Any) -> list[str]:
    """The versions that ran."""
    replies = [lambda_.invoke(FunctionName=name, Payload=json.dumps(event)) for _ in range(times)]
    return [reply["ExecutedVersion"] for reply in replies]


@pytest.fixture
def weighted(aws: control.Running, connect: Client) -> str:
    """An alias "live" whose calls go to two versions alike."""
    name = "weighted"
    lambda_ = connect("lambda")
    make_function(aws, name, SOURCE, Publish=True)
    lambda_.update_function_configuration(FunctionName=name, Description="two")
    lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    lambda_.publish_version(FunctionName=name)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    return name


def test_an_alias_with_weights_is_measured_by_version(weighted: str, connect: Client) -> None:
    cloudwatch, lambda_ = connect("cloudwatch"), connect("lambda")

    ran = invoke(lambda_, f"{weighted}:live", 20)
    failed = invoke(lambda_, f"{weighted}:live", 4, fail=True)
    invoke(lambda_, weighted)

    for version in ("1", "2"):
        of = dimensions(weighted, "live", version)
        assert total(cloudwatch, "Invocations", of) == (ran + failed).count(version) > 0
        assert total(cloudwatch, "Errors", of) == failed.count(version)
    assert total(cloudwatch, "Errors", dimensions(weighted, "live")) == 4
    assert total(cloudwatch, "Invocations", dimensions(weighted)) == 25
    assert total(cloudwatch, "Invocations", [*dimensions(weighted), {"Name": "Resource", "Value": weighted}]) == 1
    assert (total(cloudwatch, "Duration", dimensions(weighted)) or 0) > 0


def test_a_throttled_call_is_counted_as_one(aws: control.Running, connect: Client) -> None:
    cloudwatch, lambda_ = connect("cloudwatch"), connect("lambda")
    make_function(aws, "closed", SOURCE)
    lambda_.put_function_concurrency(FunctionName="closed", ReservedConcurrentExecutions=0)

    with pytest.raises(lambda_.exceptions.TooManyRequestsException):
        invoke(lambda_, "closed")

    assert total(cloudwatch, "Throttles", dimensions("closed")) == 1
    assert total(cloudwatch, "Invocations", dimensions("closed")) is None


TOGETHER = """
import os, time
def handler(event, context):
    open(f"{event['folder']}/{context.aws_request_id}", "w").close()
    while len(os.listdir(event["folder"])) < event["most"]:
        time.sleep(.01)
"""
"""Answers once as many calls as it is told are at work."""


def test_calls_beside_what_is_provisioned_spill_over(aws: control.Running, connect: Client, tmp_path: Path) -> None:
    cloudwatch, lambda_ = connect("cloudwatch"), connect("lambda")
    make_function(aws, "ready", TOGETHER, Publish=True, Timeout=60)
    given = {"FunctionName": "ready", "Qualifier": "1"}
    lambda_.put_provisioned_concurrency_config(**given, ProvisionedConcurrentExecutions=1)
    until(
        lambda: lambda_.get_provisioned_concurrency_config(**given)["Status"] == "READY", "what is provisioned is ready"
    )
    of = [*dimensions("ready"), {"Name": "Resource", "Value": "ready:1"}]
    invoke(lambda_, "ready:1", 2, folder=str(tmp_path), most=1)
    assert total(cloudwatch, "ProvisionedConcurrencyInvocations", of) == 2
    assert total(cloudwatch, "ProvisionedConcurrencySpilloverInvocations", of) == 0

    with ThreadPoolExecutor(2) as threads:  # one has to run beside it
        both = {"folder": str(tmp_path), "most": 4}
        for reply in [threads.submit(invoke, connect("lambda"), "ready:1", **both) for _ in range(2)]:
            reply.result()

    assert total(cloudwatch, "ProvisionedConcurrencyInvocations", of) == 3
    assert total(cloudwatch, "ProvisionedConcurrencySpilloverInvocations", of) == 1


def test_an_error_rate_alarms_tells_everybody_and_calms_down(aws: control.Running, connect: Client) -> None:
    cloudwatch, lambda_, sqs, sns = (connect(name) for name in ("cloudwatch", "lambda", "sqs", "sns"))
    make_function(aws, "guarded", SOURCE)
    hook = make_function(aws, "hook", SOURCE)
    queues = {}
    for name in ("by-topic", "by-rule"):
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        queues[name] = (url, arn)
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queues["by-topic"][1])
    events = connect("events")
    pattern = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"]}
    events.put_rule(Name="alarms", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="alarms", Targets=[{"Id": "q", "Arn": queues["by-rule"][1]}])
    of = dimensions("guarded")
    rate = {"Id": "rate", "Expression": "100 * errors / calls", "Label": "error rate", "ReturnData": True}

    cloudwatch.put_metric_alarm(
        AlarmName="too-many-errors",
        Metrics=[query("errors", "Errors", of, 1), query("calls", "Invocations", of, 1), rate],
        EvaluationPeriods=3,
        DatapointsToAlarm=1,
        Threshold=10,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=[topic, hook],
    )
    invoke(lambda_, "guarded", 4, fail=True)

    def state() -> str:
        return str(cloudwatch.describe_alarms(AlarmNames=["too-many-errors"])["MetricAlarms"][0]["StateValue"])

    until(lambda: state() == "ALARM", "the alarm")
    (told,) = until(lambda: sqs.receive_message(QueueUrl=queues["by-topic"][0]).get("Messages"), "SNS is told")
    message = json.loads(json.loads(told["Body"])["Message"])
    assert (message["AlarmName"], message["NewStateValue"]) == ("too-many-errors", "ALARM")
    assert message["NewStateReason"].startswith("Threshold Crossed: ")
    (told,) = until(lambda: sqs.receive_message(QueueUrl=queues["by-rule"][0]).get("Messages"), "EventBridge is told")
    assert json.loads(told["Body"])["detail"]["configuration"]["metrics"][-1]["expression"] == "100 * errors / calls"
    until(lambda: total(cloudwatch, "Invocations", dimensions("hook")) == 1, "the function is invoked")
    until(lambda: state() == "OK", "calm")


def test_a_stack_makes_changes_and_removes_alarms(connect: Client) -> None:
    cloudwatch, formation = connect("cloudwatch"), connect("cloudformation")

    def template(threshold: str) -> str:
        alarm = {
            "Namespace": "AWS/Lambda",
            "MetricName": "Errors",
            "Dimensions": [{"Name": "FunctionName", "Value": "f"}],
            "Statistic": "Sum",
            "Period": "60",  # as YAML templates often have them
            "EvaluationPeriods": "1",
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Tags": [{"Key": "team", "Value": "shop"}],
        }
        rule = {"Fn::Sub": 'ALARM("${Errors}") AND NOT FALSE'}
        resources = {
            "Errors": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm},
            "Both": {"Type": "AWS::CloudWatch::CompositeAlarm", "Properties": {"AlarmName": "both", "AlarmRule": rule}},
        }
        outputs = {"Name": {"Value": {"Ref": "Errors"}}, "Arn": {"Value": {"Fn::GetAtt": "Errors.Arn"}}}
        return json.dumps({"Resources": resources, "Outputs": outputs})

    formation.create_stack(StackName="alarms", TemplateBody=template("1"))
    formation.get_waiter("stack_create_complete").wait(StackName="alarms", WaiterConfig={"Delay": 0.1})
    (stack,) = formation.describe_stacks(StackName="alarms")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    name = outputs["Name"]
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (alarm["AlarmArn"], alarm["Threshold"], alarm["Period"]) == (outputs["Arn"], 1.0, 60)
    assert name.startswith("alarms-Errors-")
    assert cloudwatch.list_tags_for_resource(ResourceARN=outputs["Arn"])["Tags"] == [{"Key": "team", "Value": "shop"}]
    (both,) = cloudwatch.describe_alarms(AlarmNames=["both"], AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert both["AlarmRule"] == f'ALARM("{name}") AND NOT FALSE'

    formation.update_stack(StackName="alarms", TemplateBody=template("2.5"))
    formation.get_waiter("stack_update_complete").wait(StackName="alarms", WaiterConfig={"Delay": 0.1})
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["Threshold"] == 2.5

    formation.delete_stack(StackName="alarms")
    formation.get_waiter("stack_delete_complete").wait(StackName="alarms", WaiterConfig={"Delay": 0.1})
    found = cloudwatch.describe_alarms(AlarmNames=[name, "both"], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    assert (found["MetricAlarms"], found["CompositeAlarms"]) == ([], [])


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """The directory of a local AWS that a test may kill."""
    yield tmp_path
    control.down(tmp_path)


def test_metrics_and_alarms_outlive_a_kill(own: Path) -> None:
    running = control.up(own, settle_s=0.05)
    make_function(running, "f", SOURCE)
    invoke(client(running, "lambda"), "f", 3)
    cloudwatch = client(running, "cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="a",
        Namespace="AWS/Lambda",
        MetricName="Invocations",
        Dimensions=dimensions("f"),
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
    )
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="drill")
    assert total(cloudwatch, "Invocations", dimensions("f")) == 3  # asked for, so on disk

    os.kill(running.pid, signal.SIGKILL)
    until(lambda: control.running(own) is None, "it is gone")
    began = time.monotonic()
    again = client(control.up(own), "cloudwatch")

    assert total(again, "Invocations", dimensions("f")) == 3
    (alarm,) = again.describe_alarms(AlarmNames=["a"])["MetricAlarms"]
    assert alarm["StateValue"] == "ALARM", f"{time.monotonic() - began:.1f} s"
    assert [item["HistoryItemType"] for item in again.describe_alarm_history(AlarmName="a")["AlarmHistoryItems"]][
        -2:
    ] == ["StateUpdate", "ConfigurationUpdate"]
