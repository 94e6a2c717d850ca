"""Event source mappings as recorded on AWS: their states, defaults and refusals. (Feeding: tests/localaws.)"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.conform.local_lambda import AWS, HERE, client_of, refused

Create = Callable[..., str]
Map = Callable[..., dict[str, Any]]
WRONG = "InvalidParameterValueException"
GONE = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")


@pytest.fixture
def queue(endpoint: str | None, account: str, region: str) -> Iterator[str]:
    """The ARN of a queue. Our suite's Lambda knows queues by name only."""
    name = f"conform-{uuid4().hex[:12]}"
    arn = f"arn:aws:sqs:{region}:{account}:{name}"
    if HERE:
        yield arn
        return
    sqs = client_of("sqs", endpoint)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    yield arn
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def mapped(lambda_client: Any) -> Iterator[Map]:
    """Make a mapping; gone after the test."""
    made: list[str] = []

    def create(**given: Any) -> dict[str, Any]:
        found: dict[str, Any] = lambda_client.create_event_source_mapping(**given)
        made.append(found["UUID"])
        return found

    yield create
    for uuid in made:
        try:
            settled(lambda_client, uuid)
            lambda_client.delete_event_source_mapping(UUID=uuid)
        except lambda_client.exceptions.ResourceNotFoundException:  # the test deleted it
            continue


def settled(client: Any, uuid: str) -> dict[str, Any]:
    """Wait until nothing is under way; raises ResourceNotFoundException once it is deleted."""
    deadline = time.monotonic() + (300 if AWS else 60)
    while True:
        found: dict[str, Any] = client.get_event_source_mapping(UUID=uuid)
        if found["State"] in ("Enabled", "Disabled"):
            return shown(found)
        assert time.monotonic() < deadline, found
        time.sleep(1 if AWS else 0.02)


def shown(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key not in ("ResponseMetadata", "LastModified")}


def arn_of(client: Any, name: str) -> str:
    return str(client.get_function_configuration(FunctionName=name)["FunctionArn"])


def test_a_queues_mapping_from_creation_to_deletion(
    lambda_client: Any, function: Create, mapped: Map, queue: str
) -> None:
    name = function()
    _, _, _, region, account, _ = queue.split(":")
    made = mapped(FunctionName=name, EventSourceArn=queue)
    uuid = made["UUID"]
    whole = {
        "UUID": uuid,
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "EventSourceArn": queue,
        "EventSourceMappingArn": f"arn:aws:lambda:{region}:{account}:event-source-mapping:{uuid}",
        "FunctionArn": arn_of(lambda_client, name),
        "FunctionResponseTypes": [],
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
    }
    assert (made["ResponseMetadata"]["HTTPStatusCode"], made["LastModified"].tzinfo is not None) == (202, True)
    assert shown(made) == whole
    assert settled(lambda_client, uuid) == whole | {"State": "Enabled"}

    changed = {"MaximumBatchingWindowInSeconds": 1, "BatchSize": 15}
    assert shown(lambda_client.update_event_source_mapping(UUID=uuid, **changed)) == whole | changed | {
        "State": "Updating"
    }
    assert settled(lambda_client, uuid) == whole | changed | {"State": "Enabled"}
    for enabled, under_way, then in ((False, "Disabling", "Disabled"), (True, "Enabling", "Enabled")):
        assert lambda_client.update_event_source_mapping(UUID=uuid, Enabled=enabled)["State"] == under_way
        assert settled(lambda_client, uuid) == whole | changed | {"State": then}

    deleting = lambda_client.delete_event_source_mapping(UUID=uuid)
    assert (deleting["ResponseMetadata"]["HTTPStatusCode"], deleting["State"]) == (202, "Deleting")
    with pytest.raises(ClientError) as gone:
        settled(lambda_client, uuid)
    assert gone.value.response["Error"]["Code"] == GONE[0]


def test_made_disabled_it_is_so_at_once(function: Create, mapped: Map, queue: str) -> None:
    assert mapped(FunctionName=function(), EventSourceArn=queue, Enabled=False)["State"] == "Disabled"


def test_the_functions_arn_is_qualified_as_given(lambda_client: Any, function: Create, mapped: Map, queue: str) -> None:
    name = function(Publish=True)
    arn = arn_of(lambda_client, name)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for given, suffix in (
        (f"{name}:$LATEST", ":$LATEST"),
        (f"{name}:1", ":1"),
        (f"{name}:live", ":live"),
        (arn, ""),
        (f"{arn}:1", ":1"),
        (f"{arn}:live", ":live"),
    ):
        made = mapped(FunctionName=given, EventSourceArn=queue)
        assert made["FunctionArn"] == arn + suffix
        settled(lambda_client, made["UUID"])
        lambda_client.delete_event_source_mapping(UUID=made["UUID"])
        with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
            settled(lambda_client, made["UUID"])


def test_a_mapping_outlives_its_function(lambda_client: Any, function: Create, mapped: Map, queue: str) -> None:
    name = function()
    uuid = mapped(FunctionName=name, EventSourceArn=queue)["UUID"]
    settled(lambda_client, uuid)
    lambda_client.delete_function(FunctionName=name)
    assert lambda_client.get_event_source_mapping(UUID=uuid)["State"] == "Enabled"


def test_a_second_of_the_same_is_refused(lambda_client: Any, function: Create, mapped: Map, queue: str) -> None:
    name = function()
    uuid = mapped(FunctionName=name, EventSourceArn=queue)["UUID"]
    assert refused(lambda_client.create_event_source_mapping, FunctionName=name, EventSourceArn=queue) == (
        "ResourceConflictException",
        409,
        f'An event source mapping with SQS arn (" {queue} ") and function (" {name} ") already exists. '
        f"Please update or delete the existing mapping with UUID {uuid}",
    )


def test_lists_filter_and_page(lambda_client: Any, function: Create, mapped: Map, queue: str) -> None:
    name, other = function(Publish=True), function()
    made = [mapped(FunctionName=each, EventSourceArn=queue)["UUID"] for each in (name, f"{name}:1", other)]

    def listed(**by: Any) -> list[str]:
        pages = lambda_client.get_paginator("list_event_source_mappings").paginate(
            **by, PaginationConfig={"PageSize": 1}
        )
        return sorted(each["UUID"] for page in pages for each in page["EventSourceMappings"])

    assert listed(EventSourceArn=queue) == sorted(made)
    assert listed(FunctionName=name) == [made[0]]
    assert listed(FunctionName=f"{name}:1", EventSourceArn=queue) == [made[1]]
    assert listed(FunctionName="conform-none") == []
    assert listed(EventSourceArn=f"{queue}-none") == []


def test_tags(lambda_client: Any, function: Create, mapped: Map, queue: str) -> None:
    made = mapped(FunctionName=function(), EventSourceArn=queue, Tags={"a": "1", "b": "2"})
    resource = made["EventSourceMappingArn"]
    assert "Tags" not in made
    lambda_client.tag_resource(Resource=resource, Tags={"c": "3"})
    lambda_client.untag_resource(Resource=resource, TagKeys=["a", "none"])
    assert lambda_client.list_tags(Resource=resource)["Tags"] == {"b": "2", "c": "3"}
    gone = resource.replace(made["UUID"], str(uuid4()))
    assert refused(lambda_client.list_tags, Resource=gone) == (*GONE[:2], f"Event source mapping not found: {gone}")


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
def test_one_that_is_not_there(lambda_client: Any, operation: str) -> None:
    assert refused(getattr(lambda_client, f"{operation}_event_source_mapping"), UUID=str(uuid4())) == GONE


def test_what_is_refused_before_the_function_is_looked_for(lambda_client: Any, queue: str) -> None:
    create, name = lambda_client.create_event_source_mapping, "conform-none"
    assert refused(create, FunctionName=name) == (WRONG, 400, "Unrecognized event source.")
    assert refused(create, FunctionName=name, EventSourceArn=queue) == (WRONG, 400, "Function does not exist")
    ends = {"OnSuccess": {"Destination": queue}}
    assert refused(create, FunctionName=name, EventSourceArn=queue, DestinationConfig=ends) == (
        WRONG,
        400,
        "Unsupported DestinationConfig parameter for given event source mapping type.",
    )


def test_a_source_that_is_not_there(lambda_client: Any, function: Create, queue: str) -> None:
    create, name = lambda_client.create_event_source_mapping, function()
    assert refused(create, FunctionName=name, EventSourceArn=f"{queue}-none") == (
        WRONG,
        400,
        "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
        "SQS Error Message: The specified queue does not exist.",
    )
    stream = queue.replace(":sqs:", ":kinesis:").replace(":conform-", ":stream/conform-") + "-none"
    assert refused(create, FunctionName=name, EventSourceArn=stream, StartingPosition="LATEST") == (
        WRONG,
        400,
        f"Stream not found: {stream}",
    )


def test_large_batches_take_time(lambda_client: Any, function: Create, mapped: Map, queue: str) -> None:
    name = function()
    sentence = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
    given = {"FunctionName": name, "EventSourceArn": queue}
    assert refused(lambda_client.create_event_source_mapping, **given, BatchSize=11) == (WRONG, 400, sentence)
    uuid = mapped(**given)["UUID"]
    settled(lambda_client, uuid)
    assert refused(lambda_client.update_event_source_mapping, UUID=uuid, BatchSize=15) == (WRONG, 400, sentence)


@pytest.mark.parametrize("pattern", ["null", '"simple string"', '{"eventSource": "aws:sqs"}', '{"eventSource": []}'])
def test_a_pattern_that_is_none(lambda_client: Any, function: Create, queue: str, pattern: str) -> None:
    given = {"FunctionName": function(), "EventSourceArn": queue}
    criteria = {"Filters": [{"Pattern": pattern}]}
    assert refused(lambda_client.create_event_source_mapping, **given, FilterCriteria=criteria) == (
        WRONG,
        400,
        "Invalid filter pattern definition.",
    )


def test_where_a_stream_is_read_from_must_be_said(
    lambda_client: Any, function: Create, account: str, region: str
) -> None:
    table = f"arn:aws:dynamodb:{region}:{account}:table/conform/stream/2025-01-01T00:00:00.000"
    given = {"FunctionName": function(), "EventSourceArn": table}
    create = lambda_client.create_event_source_mapping
    assert refused(create, **given) == (
        WRONG,
        400,
        "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
        "Member must not be null.",
    )
    late = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1741010802}
    assert refused(create, **given, **late) == (WRONG, 400, f"Unsupported starting position for arn type: {table}")
    assert refused(create, **given, StartingPosition="invalid")[:2] == ("ValidationException", 400)


def test_the_defaults_of_a_stream(
    lambda_client: Any, function: Create, mapped: Map, endpoint: str | None, account: str
) -> None:
    name = f"conform-{uuid4().hex[:12]}"
    stream = f"arn:aws:kinesis:{lambda_client.meta.region_name}:{account}:stream/{name}"
    if not HERE:
        kinesis = client_of("kinesis", endpoint)
        kinesis.create_stream(StreamName=name, ShardCount=1)
        kinesis.get_waiter("stream_exists").wait(StreamName=name)
    made = mapped(FunctionName=function(), EventSourceArn=stream, StartingPosition="TRIM_HORIZON")
    rest = {
        key: value
        for key, value in shown(made).items()
        if key not in ("UUID", "EventSourceArn", "EventSourceMappingArn", "FunctionArn")
    }
    assert rest == {
        "BatchSize": 100,
        "BisectBatchOnFunctionError": False,
        "DestinationConfig": {"OnFailure": {}},
        "FunctionResponseTypes": [],
        "LastProcessingResult": "No records processed",
        "MaximumBatchingWindowInSeconds": 0,
        "MaximumRecordAgeInSeconds": -1,
        "MaximumRetryAttempts": -1,
        "ParallelizationFactor": 1,
        "StartingPosition": "TRIM_HORIZON",
        "State": "Creating",
        "StateTransitionReason": "User action",
        "TumblingWindowInSeconds": 0,
    }
    if not HERE:
        settled(lambda_client, made["UUID"])
        kinesis.delete_stream(StreamName=name)
