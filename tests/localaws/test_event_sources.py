"""Queues and streams feed functions: each record once when all is well, again when it is not, and in order."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from tests.localaws.conftest import Client, client, make_function, until

# Logs what it got, and then does as the records say.
SAW = """
import base64, json
def data(record):
    if "body" in record:
        return json.loads(record["body"])
    if "kinesis" in record:
        return json.loads(base64.b64decode(record["kinesis"]["data"]))
    return {name: list(value.values())[0] for name, value in record["dynamodb"].get("NewImage", {}).items()}

def identifier(record):
    if "body" in record:
        return record["messageId"]
    return (record.get("kinesis") or {}).get("sequenceNumber") or record["dynamodb"]["SequenceNumber"]

def handler(event, context):
    print("saw " + json.dumps({"version": context.function_version, "records": event["Records"]}))
    seen = [data(record) for record in event["Records"]]
    if any(each.get("raise") for each in seen):
        raise ValueError("asked to")
    return {"batchItemFailures": [
        {"itemIdentifier": identifier(record)} for record, each in zip(event["Records"], seen) if each.get("fail")
    ]}
"""


class Seen:
    """What a function logged of the batches it got."""

    def __init__(self, aws: control.Running, name: str) -> None:
        self._aws, self._name = aws, name

    def batches(self) -> list[list[dict[str, Any]]]:
        events = control.log_events(self._aws, self._name)
        return [json.loads(e.message[4:])["records"] for e in events if e.message.startswith("saw ")]

    def versions(self) -> list[str]:
        events = control.log_events(self._aws, self._name)
        return [json.loads(e.message[4:])["version"] for e in events if e.message.startswith("saw ")]

    def wait(self, holds: Callable[[list[list[dict[str, Any]]]], Any], what: str, within_s: float = 60) -> Any:
        return until(lambda: (found := self.batches()) and holds(found) and found, what, within_s)


@pytest.fixture(scope="module")
def connect(aws: control.Running) -> Client:
    """One client for each service: these tests send much."""
    return cache(lambda service: client(aws, service))


@pytest.fixture
def function(aws: control.Running) -> Iterator[Callable[..., tuple[str, Seen]]]:
    """function(source, **CreateFunction's) → its name and what it saw."""
    made: list[str] = []

    def create(source: str = SAW, **more: Any) -> tuple[str, Seen]:
        name = f"fed-{uuid4().hex[:8]}"
        make_function(aws, name, source, **more)
        made.append(name)
        return name, Seen(aws, name)

    yield create
    lambda_ = client(aws, "lambda")
    for name in made:
        lambda_.delete_function(FunctionName=name)


@pytest.fixture
def mapping(aws: control.Running) -> Iterator[Callable[..., dict[str, Any]]]:
    """Make a mapping and wait until it is enabled; gone after the test."""
    lambda_ = client(aws, "lambda")
    made: list[str] = []

    def create(**given: Any) -> dict[str, Any]:
        found: dict[str, Any] = lambda_.create_event_source_mapping(**given)
        made.append(found["UUID"])
        settled(lambda_, found["UUID"])
        return found

    yield create
    for uuid in made:
        settled(lambda_, uuid)
        lambda_.delete_event_source_mapping(UUID=uuid)


def settled(lambda_: Any, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: (got := lambda_.get_event_source_mapping(UUID=uuid))["State"] in ("Enabled", "Disabled") and got,
        "the mapping settles",
    )
    return found


def queue(connect: Client, **attributes: str) -> tuple[str, str]:
    """(URL, ARN) of a new one."""
    sqs = connect("sqs")
    name = f"q-{uuid4().hex[:8]}" + (".fifo" if "FifoQueue" in attributes else "")
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "3"} | attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def send(connect: Client, url: str, document: object, **more: Any) -> None:
    connect("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(document), **more)


def left(connect: Client, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = connect("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(number) for number in found.values())


def bodies(batches: list[list[dict[str, Any]]]) -> list[Any]:
    return [json.loads(record["body"]) for batch in batches for record in batch]


# --- queues ---


def test_a_queue_feeds_a_function(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    url, arn = queue(connect)
    mapping(FunctionName=name, EventSourceArn=arn)
    attributes = {
        "author": {"DataType": "String", "StringValue": "me"},
        "photo": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    }
    send(connect, url, {"n": 1}, MessageAttributes=attributes)

    [[record]] = seen.wait(lambda found: True, "the message comes")
    assert list(record) == [
        "messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfMessageAttributes",
        "md5OfBody", "eventSource", "eventSourceARN", "awsRegion",
    ]  # fmt: skip
    assert (record["body"], record["eventSource"], record["eventSourceARN"]) == ('{"n": 1}', "aws:sqs", arn)
    assert set(record["attributes"]) == {
        "ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"
    }  # fmt: skip
    assert record["messageAttributes"] == {
        "author": {"stringValue": "me", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
        "photo": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
    }
    until(lambda: left(connect, url) == 0, "the message is deleted")


def test_what_fails_comes_again_and_then_goes_to_the_dead_letters(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function(Timeout=1)
    dead_url, dead_arn = queue(connect)
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, arn = queue(connect, VisibilityTimeout="1", RedrivePolicy=policy)
    mapping(FunctionName=name, EventSourceArn=arn, BatchSize=1)
    send(connect, url, {"raise": 1})

    until(lambda: left(connect, dead_url) == 1, "it becomes a dead letter")
    counts = [record["attributes"]["ApproximateReceiveCount"] for batch in seen.batches() for record in batch]
    assert counts == ["1", "2"]


def test_only_the_reported_messages_come_again(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function(Timeout=1)
    url, arn = queue(connect, VisibilityTimeout="1")
    for number in range(3):
        send(connect, url, {"n": number, "fail": number == 1})
    mapping(FunctionName=name, EventSourceArn=arn, FunctionResponseTypes=["ReportBatchItemFailures"])

    seen.wait(lambda found: sum(each["n"] == 1 for each in bodies(found)) >= 2, "the failed one comes again")
    assert sorted(each["n"] for each in bodies(seen.batches()) if each["n"] != 1) == [0, 2]
    assert left(connect, url) == 1


def test_a_batching_window_gathers(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    url, arn = queue(connect)
    for number in range(12):
        send(connect, url, {"n": number})
    mapping(FunctionName=name, EventSourceArn=arn, BatchSize=20, MaximumBatchingWindowInSeconds=1)

    seen.wait(lambda found: len(bodies(found)) == 12, "all come")
    assert [len(batch) for batch in seen.batches()] == [12]


def test_a_fifo_queue_stays_in_order_by_group(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function(Timeout=1)
    url, arn = queue(connect, FifoQueue="true", ContentBasedDeduplication="true", VisibilityTimeout="1")
    mapping(FunctionName=name, EventSourceArn=arn, BatchSize=1)
    for number in range(6):
        send(connect, url, {"n": number}, MessageGroupId=str(number % 2))

    seen.wait(lambda found: len(bodies(found)) == 6, "all come")
    order = [each["n"] for each in bodies(seen.batches())]
    assert [n for n in order if n % 2 == 0] == [0, 2, 4]
    assert [n for n in order if n % 2 == 1] == [1, 3, 5]
    assert "MessageGroupId" in seen.batches()[0][0]["attributes"]


def test_a_filter_deletes_what_does_not_match(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    url, arn = queue(connect)
    pattern = {"body": {"kind": ["good"], "n": [{"numeric": [">", 1]}]}}
    mapping(FunctionName=name, EventSourceArn=arn, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]})
    connect("sqs").send_message(QueueUrl=url, MessageBody="no JSON")
    for number in range(4):
        send(connect, url, {"kind": "good" if number != 3 else "bad", "n": number})

    seen.wait(bodies, "the matching one comes")
    until(lambda: left(connect, url) == 0, "the others are deleted")
    assert bodies(seen.batches()) == [{"kind": "good", "n": 2}]


def test_a_message_is_fed_once_however_many_feeders_wait(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    url, arn = queue(connect, VisibilityTimeout="30")
    mapping(FunctionName=name, EventSourceArn=arn, BatchSize=1, ScalingConfig={"MaximumConcurrency": 8})
    for number in range(40):
        send(connect, url, {"n": number})

    seen.wait(lambda found: len(bodies(found)) >= 40, "all come")
    until(lambda: left(connect, url) == 0, "all are deleted")
    assert sorted(each["n"] for each in bodies(seen.batches())) == list(range(40))


def test_the_alias_decides_which_version_is_fed(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function(Publish=True)
    lambda_ = connect("lambda")
    lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    url, arn = queue(connect)
    made = mapping(FunctionName=f"{name}:live", EventSourceArn=arn)
    assert made["FunctionArn"].endswith(f":{name}:live")
    send(connect, url, {"n": 1})
    seen.wait(lambda found: len(found) == 1, "version 1 is fed")

    lambda_.update_function_configuration(FunctionName=name, Description="changed")
    lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    lambda_.publish_version(FunctionName=name)
    lambda_.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    send(connect, url, {"n": 2})

    seen.wait(lambda found: len(found) == 2, "version 2 is fed")
    assert seen.versions() == ["1", "2"]


def test_a_disabled_mapping_feeds_nothing_until_enabled(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    other, other_seen = function()
    url, arn = queue(connect)
    made = mapping(FunctionName=name, EventSourceArn=arn, Enabled=False)
    lambda_ = connect("lambda")
    assert made["State"] == "Disabled"
    send(connect, url, {"n": 1})
    send(connect, (mirror := queue(connect))[0], {"n": 2})
    mapping(FunctionName=other, EventSourceArn=mirror[1])  # had the first been fed, so it would be by then
    other_seen.wait(lambda found: found, "the other is fed")
    assert seen.batches() == []

    assert lambda_.update_event_source_mapping(UUID=made["UUID"], Enabled=True)["State"] == "Enabling"
    assert settled(lambda_, made["UUID"])["State"] == "Enabled"

    seen.wait(lambda found: bodies(found) == [{"n": 1}], "it is fed now")


def test_a_mapping_follows_to_another_function(connect: Client, function: Any, mapping: Any) -> None:
    (first, first_seen), (second, second_seen) = function(), function()
    url, arn = queue(connect)
    uuid = mapping(FunctionName=first, EventSourceArn=arn)["UUID"]
    send(connect, url, {"n": 1})
    first_seen.wait(lambda found: found, "the first is fed")

    updated = connect("lambda").update_event_source_mapping(UUID=uuid, FunctionName=second)
    assert (updated["State"], updated["FunctionArn"].split(":")[-1]) == ("Updating", second)
    settled(connect("lambda"), uuid)
    send(connect, url, {"n": 2})

    second_seen.wait(lambda found: bodies(found) == [{"n": 2}], "the second is fed")
    assert bodies(first_seen.batches()) == [{"n": 1}]


# --- streams ---


def table(connect: Client, view: str = "NEW_AND_OLD_IMAGES") -> tuple[str, str]:
    """(name, stream ARN) of a new one."""
    name = f"t-{uuid4().hex[:8]}"
    made = connect("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
    )
    return name, made["TableDescription"]["LatestStreamArn"]


def put(connect: Client, name: str, key: str, **more: Any) -> None:
    connect("dynamodb").put_item(TableName=name, Item={"k": {"S": key}} | more)


def keys(batches: list[list[dict[str, Any]]]) -> list[list[str]]:
    return [[record["dynamodb"]["Keys"]["k"]["S"] for record in batch] for batch in batches]


def test_a_table_feeds_a_function_its_changes(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    items, arn = table(connect)
    put(connect, items, "hello", binary={"B": b"foobar"})
    mapping(FunctionName=name, EventSourceArn=arn, StartingPosition="TRIM_HORIZON")
    put(connect, items, "hello", binary={"B": b"foobar"})  # changes nothing: DynamoDB records nothing
    put(connect, items, "hello", n={"N": "1"})
    connect("dynamodb").delete_item(TableName=items, Key={"k": {"S": "hello"}})

    seen.wait(lambda found: sum(map(len, found)) == 3, "three changes come")
    records = [record for batch in seen.batches() for record in batch]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    first = records[0]
    assert list(first) == [
        "eventID", "eventName", "eventVersion", "eventSource", "awsRegion", "dynamodb", "eventSourceARN"
    ]  # fmt: skip
    assert (first["eventVersion"], first["awsRegion"], first["eventSourceARN"]) == ("1.1", "eu-west-1", arn)
    change = first["dynamodb"]
    assert abs(change["ApproximateCreationDateTime"] - time.time()) < 120
    assert change["NewImage"] == {"k": {"S": "hello"}, "binary": {"B": base64.b64encode(b"foobar").decode()}}
    assert "OldImage" not in change
    assert change["SizeBytes"] == 2 * len("khello") + len("binaryfoobar")
    found = until(
        lambda: connect("lambda").list_event_source_mappings(FunctionName=name)["EventSourceMappings"], "it is listed"
    )
    assert [each["LastProcessingResult"] for each in found] == ["OK"]


def test_latest_begins_with_what_comes_next(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    items, arn = table(connect)
    put(connect, items, "before")
    uuid = mapping(FunctionName=name, EventSourceArn=arn, StartingPosition="LATEST")["UUID"]
    markers = iter(range(1000))

    def fed() -> Any:
        put(connect, items, f"after-{next(markers)}")  # when it begins cannot be seen from outside, on AWS neither
        return seen.batches()

    until(fed, "what comes next is fed")
    assert all(key.startswith("after-") for batch in keys(seen.batches()) for key in batch)
    assert uuid


def test_a_failing_batch_is_split_retried_and_reported(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    items, arn = table(connect)
    url, destination = queue(connect)
    for key in ("a", "b", "c", "d"):
        put(connect, items, key, **({"raise": {"BOOL": True}} if key == "c" else {}))
    mapping(
        FunctionName=name,
        EventSourceArn=arn,
        StartingPosition="TRIM_HORIZON",
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": destination}},
    )

    until(lambda: left(connect, url) == 1, "the failure is reported")
    seen.wait(lambda found: ["d"] in keys(found), "the rest goes on")
    assert keys(seen.batches()) == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["c"], ["d"]]
    [message] = connect("sqs").receive_message(QueueUrl=url)["Messages"]
    told = json.loads(message["Body"])
    assert list(told) == ["requestContext", "responseContext", "version", "timestamp", "DDBStreamBatchInfo"]
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 2
    assert told["requestContext"]["functionArn"].endswith(f":{name}")
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    info = told["DDBStreamBatchInfo"]
    assert (info["batchSize"], info["streamArn"]) == (1, arn)
    assert info["startSequenceNumber"] == info["endSequenceNumber"]


def test_a_reported_record_and_those_after_it_come_again(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    items, arn = table(connect)
    for key in ("a", "b", "c"):
        put(connect, items, key, **({"fail": {"BOOL": True}} if key == "b" else {}))
    mapping(
        FunctionName=name,
        EventSourceArn=arn,
        StartingPosition="TRIM_HORIZON",
        MaximumRetryAttempts=1,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )

    seen.wait(lambda found: ["a", "b", "c"] in keys(found), "the first batch")
    put(connect, items, "d")

    seen.wait(lambda found: ["d"] in keys(found), "it is given up")
    assert keys(seen.batches()) == [["a", "b", "c"], ["b", "c"], ["b", "c"], ["d"]]


def stream(connect: Client, shards: int = 1) -> tuple[str, str]:
    name = f"s-{uuid4().hex[:8]}"
    connect("kinesis").create_stream(StreamName=name, ShardCount=shards)
    return name, connect("kinesis").describe_stream(StreamName=name)["StreamDescription"]["StreamARN"]


def put_record(connect: Client, name: str, key: str, document: object) -> None:
    connect("kinesis").put_record(StreamName=name, Data=json.dumps(document).encode(), PartitionKey=key)


def data(batches: list[list[dict[str, Any]]]) -> list[Any]:
    return [json.loads(base64.b64decode(record["kinesis"]["data"])) for batch in batches for record in batch]


def test_a_kinesis_stream_feeds_every_shard_in_order(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    source, arn = stream(connect, shards=2)
    mapping(
        FunctionName=name, EventSourceArn=arn, StartingPosition="TRIM_HORIZON", ParallelizationFactor=2, BatchSize=2
    )
    for number in range(16):
        put_record(connect, source, str(number % 4), {"n": number})

    seen.wait(lambda found: len(data(found)) == 16, "all come")
    order = [each["n"] for each in data(seen.batches())]
    for key in range(4):
        assert [n for n in order if n % 4 == key] == list(range(key, 16, 4))
    record = seen.batches()[0][0]
    assert list(record) == [
        "kinesis", "eventSource", "eventVersion", "eventID", "eventName", "invokeIdentityArn", "awsRegion",
        "eventSourceARN",
    ]  # fmt: skip
    assert record["eventID"].startswith("shardId-00000000000")
    assert record["invokeIdentityArn"] == f"arn:aws:iam::{control.ACCOUNT}:role/role"


def test_a_kinesis_record_is_filtered_by_its_data(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    source, arn = stream(connect)
    pattern = json.dumps({"data": {"kind": ["good"]}, "partitionKey": ["p"]})
    given = {"FilterCriteria": {"Filters": [{"Pattern": pattern}]}, "StartingPosition": "TRIM_HORIZON"}
    mapping(FunctionName=name, EventSourceArn=arn, **given)
    for number, (key, kind) in enumerate([("q", "good"), ("p", "bad"), ("p", "good")]):
        put_record(connect, source, key, {"n": number, "kind": kind})

    seen.wait(data, "the matching one comes")
    assert data(seen.batches()) == [{"n": 2, "kind": "good"}]


def test_a_split_shard_is_finished_before_its_children(connect: Client, function: Any, mapping: Any) -> None:
    name, seen = function()
    source, arn = stream(connect)
    for number in range(4):
        put_record(connect, source, "p", {"n": number})
    connect("kinesis").split_shard(
        StreamName=source, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    for number in range(4, 8):
        put_record(connect, source, "p", {"n": number})
    mapping(FunctionName=name, EventSourceArn=arn, StartingPosition="TRIM_HORIZON", BatchSize=1)

    seen.wait(lambda found: len(data(found)) >= 8, "all come")
    assert [each["n"] for each in data(seen.batches())] == list(range(8))
    assert len({record["eventID"].split(":")[0] for batch in seen.batches() for record in batch}) == 2


# --- durability ---


def test_a_restart_feeds_on_where_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "aws"
    running = control.up(directory, settle_s=0.05)
    try:

        def connect(service: str) -> Any:
            return client(running, service)

        make_function(running, "fed", SAW)
        source, arn = stream(connect)
        uuid = connect("lambda").create_event_source_mapping(
            FunctionName="fed", EventSourceArn=arn, StartingPosition="TRIM_HORIZON"
        )["UUID"]
        put_record(connect, source, "p", {"n": 1})
        Seen(running, "fed").wait(lambda found: data(found) == [{"n": 1}], "the first record comes")
        until(
            lambda: connect("lambda").get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "OK",
            "it is taken",
        )
        control.down(directory)
        running = control.up(directory, settle_s=0.05)
        assert connect("lambda").get_event_source_mapping(UUID=uuid)["State"] == "Enabled"
        put_record(connect, source, "p", {"n": 2})
        Seen(running, "fed").wait(lambda found: {"n": 2} in data(found), "the second record comes")
        assert data(Seen(running, "fed").batches()) == [{"n": 1}, {"n": 2}]
    finally:
        control.down(directory)


# --- what is refused ---


def test_a_queue_hidden_for_less_than_the_function_may_take_is_refused(connect: Client, function: Any) -> None:
    name, _ = function(Timeout=60)
    _, arn = queue(connect, VisibilityTimeout="30")
    with pytest.raises(ClientError) as refused:
        connect("lambda").create_event_source_mapping(FunctionName=name, EventSourceArn=arn)
    error = refused.value.response["Error"]
    assert (error["Code"], error["Message"]) == (
        "InvalidParameterValueException",
        "Queue visibility timeout: 30 seconds is less than Function timeout: 60 seconds",
    )


@pytest.mark.parametrize("pattern", ["null", '"simple string"', '{"eventSource": "aws:sqs"}', '{"eventSource": []}'])
def test_a_filter_that_is_none_is_refused(connect: Client, function: Any, pattern: str) -> None:
    name, _ = function()
    _, arn = queue(connect)
    with pytest.raises(ClientError, match=r"Invalid filter pattern definition\."):
        connect("lambda").create_event_source_mapping(
            FunctionName=name, EventSourceArn=arn, FilterCriteria={"Filters": [{"Pattern": pattern}]}
        )


def test_a_stacks_mapping_feeds_its_function_and_goes_with_the_stack(connect: Client, function: Any) -> None:
    name, seen = function()
    pattern = json.dumps({"body": {"kind": ["good"]}})
    mapped = {
        "FunctionName": name,
        "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]},
        "FilterCriteria": {"Filters": [{"Pattern": pattern}]},
    }
    resources = {
        "Queue": {"Type": "AWS::SQS::Queue"},
        "Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": mapped},
    }
    outputs = {"Url": {"Value": {"Ref": "Queue"}}, "Mapping": {"Value": {"Ref": "Mapping"}}}
    cloudformation, stack = connect("cloudformation"), f"stack-{uuid4().hex[:8]}"
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps({"Resources": resources, "Outputs": outputs}))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 0.1})
    [found] = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    values = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
    send(connect, values["Url"], {"kind": "good"})
    seen.wait(lambda batches: bodies(batches) == [{"kind": "good"}], "the message comes")

    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 0.1})

    lambda_ = connect("lambda")
    with pytest.raises(lambda_.exceptions.ResourceNotFoundException):
        lambda_.get_event_source_mapping(UUID=values["Mapping"])
