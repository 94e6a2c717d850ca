"""Records as functions get them, and what functions say of those that failed. Nothing here does anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

from pointsman.localaws.lambda_.destinations import timestamp
from pointsman.localaws.lambda_.wire import Json

MOST_BYTES = 6_291_456  # of one invocation's event

Condition: TypeAlias = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a queue, received: `receipt` deletes it."""

    receipt: str
    record: Json

    @property
    def identifier(self) -> str:
        return str(self.record["messageId"])


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a shard. `key` decides which records must stay in order; `arrived` is in epoch seconds."""

    sequence: int
    key: str
    arrived: float
    record: Json

    @property
    def identifier(self) -> str:
        return str(self.sequence)


def event(records: Sequence[Message | Record]) -> bytes:
    return msgspec.json.encode({"Records": [each.record for each in records]})


def weight(records: Sequence[Message | Record]) -> int:
    """How many bytes they add to an event."""
    return sum(len(msgspec.json.encode(each.record)) + 1 for each in records)


def fitting(records: Sequence[Message | Record], most: int) -> int:
    """How many of the first records one invocation takes: at least one, or it would never be done with."""
    size, count = len(b'{"Records":[]}'), 0
    for each in records[:most]:
        size += weight([each])
        if size > MOST_BYTES and count:
            break
        count += 1
    return count


def failed(answer: bytes, identifiers: Sequence[str]) -> list[str]:
    """Which of `identifiers` a function reported in its answer: none for an empty one, all for what is not understood.

    (ReportBatchItemFailures; recorded, even for an empty string or list as the answer.)
    """
    try:
        found = msgspec.json.decode(answer) if answer else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return list(identifiers)
    if not found:
        return []
    if not isinstance(found, dict):
        return list(identifiers)
    items = found.get("batchItemFailures")
    if items is None:
        return []
    if not isinstance(items, list):
        return list(identifiers)
    named = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in items]
    if any(not isinstance(name, str) or name not in identifiers for name in named):
        return list(identifiers)
    return [identifier for identifier in identifiers if identifier in named]


# --- shapes ---


def sqs_record(arn: str, message: Any) -> Json:
    """A message of moto's, as AWS gives it to a function."""
    attributes = {
        "ApproximateReceiveCount": str(message.approximate_receive_count),
        **({"AWSTraceHeader": trace} if (trace := _trace(message)) else {}),
        "SentTimestamp": str(message.sent_timestamp),
        **({"SequenceNumber": message.sequence_number} if message.sequence_number else {}),
        **({"MessageGroupId": message.group_id} if message.group_id else {}),
        "SenderId": message.sender_id,
        **({"MessageDeduplicationId": message.deduplication_id} if message.deduplication_id else {}),
        "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
    }
    own = {name: _attribute(value) for name, value in message.message_attributes.items()}
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
        "messageAttributes": own,
        "md5OfMessageAttributes": message.attribute_md5 if own else None,
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def forget_null_digest(message: Message) -> None:
    """AWS leaves the digest of no attributes out, unless the mapping has a batching window (recorded)."""
    if message.record["md5OfMessageAttributes"] is None:
        del message.record["md5OfMessageAttributes"]


def _trace(message: Any) -> Any:
    found = message.system_attributes.get("AWSTraceHeader")
    return found.get("StringValue", found.get("string_value")) if isinstance(found, dict) else found


def _attribute(value: Json) -> Json:
    shown: Json = {}
    if (text := value.get("StringValue")) is not None:
        shown["stringValue"] = text
    if (data := value.get("BinaryValue")) is not None:
        shown["binaryValue"] = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return shown | {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}


def kinesis_record(arn: str, shard: str, role: str, record: Any) -> Json:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key,
            "sequenceNumber": str(record.sequence_number),
            "data": record.data,
            "approximateArrivalTimestamp": round(record.created_at, 3),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{record.sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role,
        "awsRegion": arn.split(":")[3],
        "eventSourceARN": arn,
    }


def dynamodb_record(arn: str, found: Json) -> Json:
    """A stream record of moto's, with the size DynamoDB would count."""
    change = found["dynamodb"]
    # moto keeps binary values as bytes; as JSON they are base64
    images: Json = msgspec.to_builtins({n: change[n] for n in ("Keys", "NewImage", "OldImage") if n in change})
    return {
        "eventID": found["eventID"],
        "eventName": found["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": arn.split(":")[3],
        "dynamodb": {
            "ApproximateCreationDateTime": float(int(arrival(found))),
            **images,
            "SequenceNumber": change["SequenceNumber"],
            "SizeBytes": sum(_item_size(image) for image in images.values()),
            "StreamViewType": change["StreamViewType"],
        },
        "eventSourceARN": arn,
    }


def arrival(found: Json) -> float:
    created: datetime = found["dynamodb"]["ApproximateCreationDateTime"]
    return created.replace(tzinfo=UTC).timestamp()  # moto's times are UTC, but do not say so


def _item_size(item: Json) -> int:
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Json) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(base64.b64decode(content))
        case "N":
            digits = len(str(content).lstrip("-").replace(".", "").strip("0"))
            return (digits + 1) // 2 + 1 + int(content.startswith("-"))
        case "SS" | "NS" | "BS":
            return sum(_value_size({kind[0]: each}) for each in content)
        case "L":
            return 3 + sum(1 + _value_size(each) for each in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_size(each) for name, each in content.items())
        case _:
            return 1  # BOOL, NULL


def batch_report(
    source: str,
    function: str,
    shard: str,
    records: Sequence[Record],
    condition: Condition,
    *,
    request_id: str,
    attempts: int,
    now: float,
    executed: tuple[str, str | None] | None,
) -> Json:
    """What an OnFailure destination is told of records that were given up. `executed`: (version, error) of the last."""
    kinesis = source.split(":")[2] == "kinesis"

    def arrived(record: Record) -> str:
        text = timestamp(record.arrived)
        return text if kinesis else f"{text[:19]}Z"

    told: Json = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function,
            "condition": condition,
            "approximateInvokeCount": attempts,
        }
    }
    if executed is not None:
        told["responseContext"] = {"statusCode": 200, "executedVersion": executed[0], "functionError": executed[1]}
    told |= {"version": "1.0", "timestamp": timestamp(now)}
    told["KinesisBatchInfo" if kinesis else "DDBStreamBatchInfo"] = {
        "shardId": shard,
        "startSequenceNumber": records[0].identifier,
        "endSequenceNumber": records[-1].identifier,
        "approximateArrivalOfFirstRecord": arrived(records[0]),
        "approximateArrivalOfLastRecord": arrived(records[-1]),
        "batchSize": len(records),
        "streamArn": source,
    }
    return told
