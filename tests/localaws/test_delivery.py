"""Records and dead letters arrive in the local AWS's other services, and accepted events survive a kill."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pointsman.localaws import control
from tests.localaws.conftest import Client, client, make_function, until

FAILING = "def handler(event, context): raise ValueError('asked to')"


def queue(connect: Client) -> tuple[str, str]:
    """(URL, ARN) of a new one."""
    url = connect("sqs").create_queue(QueueName=f"q-{uuid4().hex[:8]}")["QueueUrl"]
    found = connect("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, found["Attributes"]["QueueArn"]


def message(connect: Client, url: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = until(
        lambda: connect("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages"),
        "a message arrives",
    )
    assert len(found) == 1
    return found[0]


@pytest.fixture
def failing(aws: control.Running, connect: Client) -> Callable[..., str]:
    """failing(destination, **CreateFunction's) → a function whose events are not tried again."""

    def make(destination: str | None, **more: Any) -> str:
        name = f"failing-{uuid4().hex[:8]}"
        make_function(aws, name, FAILING, **more)
        ends = {"OnFailure": {"Destination": destination}} if destination else {}
        connect("lambda").put_function_event_invoke_config(
            FunctionName=name, MaximumRetryAttempts=0, DestinationConfig=ends
        )
        return name

    return make


def send(connect: Client, name: str) -> str:
    reply = connect("lambda").invoke(FunctionName=name, Payload=b'{"n": 1}', InvocationType="Event")
    return str(reply["ResponseMetadata"]["RequestId"])


def check(told: dict[str, Any], name: str) -> None:
    assert told["requestContext"]["functionArn"].endswith(f":{name}:$LATEST")
    assert (told["requestPayload"], told["responsePayload"]["errorMessage"]) == ({"n": 1}, "asked to")


def test_to_a_queue(connect: Client, failing: Callable[..., str]) -> None:
    url, arn = queue(connect)
    send(connect, name := failing(arn))
    check(json.loads(message(connect, url)["Body"]), name)


def test_to_a_topic(connect: Client, failing: Callable[..., str]) -> None:
    url, arn = queue(connect)
    topic = connect("sns").create_topic(Name=f"t-{uuid4().hex[:8]}")["TopicArn"]
    connect("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    send(connect, name := failing(topic))
    check(json.loads(json.loads(message(connect, url)["Body"])["Message"]), name)


def test_to_an_event_bus(connect: Client, failing: Callable[..., str]) -> None:
    url, arn = queue(connect)
    events, name = connect("events"), f"b-{uuid4().hex[:8]}"
    bus = events.create_event_bus(Name=name)["EventBusArn"]
    pattern = {"detail-type": ["Lambda Function Invocation Result - Failure"], "source": ["lambda"]}
    events.put_rule(Name=name, EventBusName=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "1", "Arn": arn}])
    send(connect, function := failing(bus))
    event = json.loads(message(connect, url)["Body"])
    assert [part.rpartition(":")[2] for part in event["resources"]] == [f"event-bus/{name}", "$LATEST"]
    check(event["detail"], function)


def test_to_a_bucket(connect: Client, failing: Callable[..., str]) -> None:
    s3, bucket = connect("s3"), f"failed-{uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    send(connect, name := failing(f"arn:aws:s3:::{bucket}"))
    [found] = until(lambda: s3.list_objects_v2(Bucket=bucket).get("Contents"), "an object arrives")
    assert found["Key"].startswith(f"aws/lambda/async/{name}/")
    check(json.loads(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()), name)


@pytest.mark.parametrize(
    "gone",
    [
        None,
        f"arn:aws:sqs:eu-west-1:{control.ACCOUNT}:gone",
        f"arn:aws:sns:eu-west-1:{control.ACCOUNT}:gone",
        f"arn:aws:events:eu-west-1:{control.ACCOUNT}:event-bus/gone",
        "arn:aws:s3:::gone",
    ],
)
def test_to_a_dead_letter_queue_even_if_the_destination_is_gone(
    connect: Client, failing: Callable[..., str], gone: str | None
) -> None:
    url, arn = queue(connect)
    request_id = send(connect, failing(gone, DeadLetterConfig={"TargetArn": arn}))
    letter = message(connect, url)
    assert json.loads(letter["Body"]) == {"n": 1}
    assert {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()} == {
        "RequestID": request_id,
        "ErrorCode": "200",
        "ErrorMessage": "asked to",
    }


def test_a_kill_loses_no_accepted_event(tmp_path: Path) -> None:
    directory = tmp_path / "aws"
    running = control.up(directory, settle_s=0.05)
    try:
        go = tmp_path / "go"
        source = f"""
import os, time
def handler(event, context):
    while not (event.endswith("0") or os.path.exists({str(go)!r})):
        time.sleep(.01)
    open(event, "a").close()
"""
        make_function(running, "slow", source, Timeout=300)
        lambda_ = client(running, "lambda")
        for number in range(30):
            name = json.dumps(str(tmp_path / f"ran-{number}")).encode()
            lambda_.invoke(FunctionName="slow", Payload=name, InvocationType="Event")
        os.kill(running.pid, signal.SIGKILL)
        until(lambda: control.running(directory) is None, "it is dead")
        assert len(list(tmp_path.glob("ran-*"))) <= 3  # the others wait
        go.touch()
        running = control.up(directory, settle_s=0.05)

        until(lambda: len(list(tmp_path.glob("ran-*"))) == 30, "every event runs")
    finally:
        control.down(directory)
