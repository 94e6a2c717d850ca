"""What a function gets of a record and says of it: shapes, sizes, filters, failures."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws.event_sources.filters import Filter, is_pattern
from pointsman.localaws.event_sources.records import (
    MOST_BYTES,
    Record,
    batch_report,
    dynamodb_record,
    event,
    failed,
    fitting,
)

TABLE = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2025"


def sqs(body: str) -> dict[str, Any]:
    return {"eventSource": "aws:sqs", "body": body, "messageAttributes": {"kind": {"stringValue": "good"}}}


def kinesis(data: bytes) -> dict[str, Any]:
    return {"eventSource": "aws:kinesis", "kinesis": {"data": base64.b64encode(data).decode(), "partitionKey": "p"}}


@pytest.mark.parametrize(
    ("pattern", "record", "passes"),
    [
        ({"body": {"a": [1]}}, sqs('{"a": 1}'), True),
        ({"body": {"a": [1]}}, sqs('{"a": 2}'), False),
        ({"body": {"a": [1]}}, sqs("text"), False),
        ({"body": {"a": {"b": [{"exists": True}]}}}, sqs('{"a": {"b": 0}}'), True),
        ({"body": ["text"]}, sqs("text"), True),
        ({"body": ["text"]}, sqs("other"), False),
        ({"body": ["text"]}, sqs('{"text": 1}'), False),
        ({"messageAttributes": {"kind": {"stringValue": ["good"]}}}, sqs("text"), True),
        ({"data": {"a": [1]}}, kinesis(b'{"a": 1}'), True),
        ({"data": {"a": [1]}}, kinesis(b"\xff"), False),
        ({"data": {"a": [1]}, "partitionKey": ["q"]}, kinesis(b'{"a": 1}'), False),
        ({"partitionKey": ["p"]}, kinesis(b"text"), True),
        ({"eventName": ["INSERT"]}, {"eventSource": "aws:dynamodb", "eventName": "INSERT"}, True),
        ({"dynamodb": {"NewImage": {"n": {"S": [{"prefix": "x"}]}}}},
         {"eventSource": "aws:dynamodb", "dynamodb": {"NewImage": {"n": {"S": "xy"}}}}, True),
    ],
)  # fmt: skip
def test_a_filter_compares_data_of_its_own_kind_only(
    pattern: dict[str, Any], record: dict[str, Any], *, passes: bool
) -> None:
    assert is_pattern(json.dumps(pattern))
    assert Filter([json.dumps(pattern)]).passes(record) is passes


def test_any_of_several_patterns_is_enough_and_none_lets_all_through() -> None:
    patterns = ['{"body": {"a": [1]}}', '{"body": {"b": [1]}}']
    assert Filter(patterns).passes(sqs('{"b": 1}'))
    assert not Filter(patterns).passes(sqs('{"c": 1}'))
    assert Filter([]).passes(sqs("anything"))


@pytest.mark.parametrize(
    "answer", [b"", b'""', b"[]", b"null", b"{}", b'{"batchItemFailures": []}', b'{"batchItemFailures": null}']
)
def test_an_empty_answer_reports_no_failure(answer: bytes) -> None:
    assert failed(answer, ["1", "2"]) == []


@pytest.mark.parametrize(
    "items",
    [
        [{"itemIdentifier": 123}],
        [{"itemIdentifier": ""}],
        [{"itemIdentifier": None}],
        [{"foo": 123}],
        [{"foo": None}],
        [{"itemIdentifier": "not there"}],
        [{"itemIdentifier": "1"}, {"itemIdentifier": "not there"}],
        "1",
    ],
)
def test_an_answer_that_names_no_record_of_the_batch_fails_all_of_it(items: object) -> None:
    assert failed(json.dumps({"batchItemFailures": items}).encode(), ["1", "2"]) == ["1", "2"]
    assert failed(b"not JSON", ["1", "2"]) == ["1", "2"]


def test_the_reported_ones_fail() -> None:
    answer = b'{"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "1"}]}'
    assert failed(answer, ["1", "2", "3"]) == ["1", "3"]


# Recorded sizes: (keys, new image, old image) → SizeBytes
@pytest.mark.parametrize(
    ("images", "size"),
    [
        (({"my_partition_key": {"S": "hello world"}},
          {"my_partition_key": {"S": "hello world"}, "binary_key": {"B": b"foobar"}}, None), 70),
        (({"id": {"S": "id_value"}}, {"id": {"S": "id_value"}, "id2": {"S": "id2_new_value"}},
          {"id": {"S": "id_value"}}), 46),
        (({"my_partition_key": {"S": "testId0"}},
          {"my_partition_key": {"S": "testId0"}, "should_fail": {"BOOL": False}}, None), 58),
    ],
)  # fmt: skip
def test_the_size_of_a_change_is_dynamodbs(images: tuple[Any, Any, Any], size: int) -> None:
    named = {name: image for name, image in zip(("Keys", "NewImage", "OldImage"), images, strict=True) if image}
    change = {
        "ApproximateCreationDateTime": datetime(2026, 1, 1, 0, 0, 1, 500_000),
        "SequenceNumber": "1",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    record = dynamodb_record(TABLE, {"eventID": "e", "eventName": "INSERT", "dynamodb": change | named})
    assert record["dynamodb"]["SizeBytes"] == size
    assert record["dynamodb"]["ApproximateCreationDateTime"] == 1_767_225_601
    assert json.loads(msgspec.json.encode(record))["dynamodb"].keys() >= named.keys()


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=12), st.integers(1, 12))
def test_an_event_takes_what_fits_and_always_something(sizes: list[int], most: int) -> None:
    records = [Record(number, "k", 0.0, {"data": "x" * size}) for number, size in enumerate(sizes)]
    count = fitting(records, most)
    assert 1 <= count <= min(most, len(records))
    assert count == 1 or len(event(records[:count])) <= MOST_BYTES
    assert count == min(most, len(records)) or len(event(records[: count + 1])) > MOST_BYTES


def test_a_report_says_which_records_were_given_up() -> None:
    records = [Record(number, "k", 1_767_225_600.25 + number, {}) for number in (3, 4)]
    stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
    given_up = {"request_id": "id", "attempts": 2, "now": 1_767_225_700.0}

    told = batch_report(stream, "f", "shard", records, "RetryAttemptsExhausted", **given_up, executed=("1", None))
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "1", "functionError": None}
    assert told["KinesisBatchInfo"] == {
        "shardId": "shard",
        "startSequenceNumber": "3",
        "endSequenceNumber": "4",
        "approximateArrivalOfFirstRecord": "2026-01-01T00:00:03.250Z",
        "approximateArrivalOfLastRecord": "2026-01-01T00:00:04.250Z",
        "batchSize": 2,
        "streamArn": stream,
    }
    told = batch_report(TABLE, "f", "shard", records, "RecordAgeExceeded", **given_up, executed=None)
    assert "responseContext" not in told
    assert told["DDBStreamBatchInfo"]["approximateArrivalOfFirstRecord"] == "2026-01-01T00:00:03Z"
