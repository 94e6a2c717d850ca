"""moto's queues and streams, as those who feed functions need them: read at once, and told of what arrives."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

from pointsman.localaws.event_sources import filters
from pointsman.localaws.event_sources.records import (
    Message,
    Record,
    arrival,
    dynamodb_record,
    kinesis_record,
    sqs_record,
)
from pointsman.localaws.lambda_.wire import Json
from pointsman.localaws.moto_bridge import MotoBridge

DYNAMODB_KEEPS_S: Final = 86_400.0
FIRST_SEQUENCE: Final = 49_654_321 << 160  # 56 digits, as AWS's begin


@dataclass(frozen=True, slots=True)
class Shard:
    last: int  # the sequence number of its last record so far
    parents: tuple[str, ...] = ()  # those that were split or merged into it: their records come first


class MotoSources:
    """A `contract.Sources`, and reading from them. Every method may block for a moment, and takes ARNs."""

    def __init__(self, moto: MotoBridge) -> None:
        self._moto = moto

    # --- for those who map ---

    def visibility_timeout(self, queue_arn: str) -> int | None:
        with self._moto.using("sqs", writes=False):
            queue = _queue(queue_arn)
            return None if queue is None else int(queue.visibility_timeout)

    def stream_exists(self, arn: str) -> bool:
        with self._moto.using(arn.split(":")[2], writes=False):
            return _stream(arn) is not None

    def is_pattern(self, text: str) -> bool:
        self._moto.load()
        return filters.is_pattern(text)

    # --- queues ---

    def receive(self, queue_arn: str, most: int) -> tuple[list[Message], float | None]:
        """(messages, when one that is hidden now will be visible, in epoch seconds, if nothing else happens)."""
        with self._moto.using("sqs", writes=True):
            queue = _queue(queue_arn)
            if queue is None:
                return [], None
            from moto.sqs.models import sqs_backends

            backend = sqs_backends[queue.account_id][queue.region]
            found = backend.receive_message(queue.name, most, 0, queue.visibility_timeout, ["All"])
            messages = [Message(str(message.receipt_handle), sqs_record(queue_arn, message)) for message in found]
            shown_at = [max(each.visible_at, each.delayed_until) / 1000 for each in queue._messages]
        return messages, min((moment for moment in shown_at if moment > time.time()), default=None)

    def delete(self, queue_arn: str, receipts: list[str]) -> None:
        with self._moto.using("sqs", writes=True):
            from moto.sqs.exceptions import ReceiptHandleIsInvalid

            if (queue := _queue(queue_arn)) is not None:
                for receipt in receipts:
                    try:
                        queue.delete_message(receipt)
                    except ReceiptHandleIsInvalid:  # the queue was purged meanwhile
                        continue

    # --- streams ---

    def shards(self, arn: str) -> dict[str, Shard]:
        """By name; none if the stream is gone."""
        with self._moto.using(arn.split(":")[2], writes=False):
            stream = _stream(arn)
            if stream is None:
                return {}
            if arn.split(":")[2] == "dynamodb":
                return {stream.id: Shard(stream.starting_sequence_number + len(stream.items) - 1)}
            return {
                each.shard_id: Shard(
                    each.get_max_sequence_number(), tuple(filter(None, (each.parent, each.adjacent_parent)))
                )
                for each in stream.shards.values()
            }

    def before(self, arn: str, shard: str, moment: float) -> int:
        """The sequence number of the last record of a Kinesis shard that came before `moment`."""
        with self._moto.using("kinesis", writes=False):
            return int(_stream(arn).shards[shard].get_sequence_number_at(moment))

    def read(self, arn: str, shard: str, after: int, most: int, role: str) -> list[Record]:
        """The records after a sequence number, without those that AWS would have thrown away by now."""
        service = arn.split(":")[2]
        with self._moto.using(service, writes=False):
            stream = _stream(arn)
            if stream is None:
                return []
            if service == "dynamodb":
                oldest = time.time() - DYNAMODB_KEEPS_S
                start = max(after + 1 - stream.starting_sequence_number, 0)
                changes = (item.to_json() for item in islice(stream.items, start, None))
                return [_change(arn, each) for each in islice((c for c in changes if arrival(c) > oldest), most)]
            oldest = time.time() - stream.retention_period_hours * 3600
            records = stream.shards[shard].records.items()
            fresh = ((number, each) for number, each in records if number > after and each.created_at > oldest)
            return [
                Record(number, each.partition_key, each.created_at, kinesis_record(arn, shard, role, each))
                for number, each in islice(fresh, most)
            ]


def _change(arn: str, found: Json) -> Record:
    change = found["dynamodb"]
    return Record(int(change["SequenceNumber"]), repr(change["Keys"]), arrival(found), dynamodb_record(arn, found))


def _queue(arn: str) -> Any:
    from moto.sqs.models import sqs_backends

    _, _, _, region, account, name = arn.split(":", 5)
    return sqs_backends[account][region].queues.get(name)


def _stream(arn: str) -> Any:
    """A DynamoDB table's shard (moto has one for each), or a Kinesis stream; None if it is not there (any more)."""
    _, _, service, region, account, name = arn.split(":", 5)
    if service == "dynamodb":
        from moto.dynamodb.models import dynamodb_backends

        _, table_name, _, label = name.split("/", 3)
        table = dynamodb_backends[account][region].tables.get(table_name)
        return table.stream_shard if table is not None and table.latest_stream_label == label else None
    from moto.kinesis.models import kinesis_backends

    # A consumer with dedicated throughput reads the same records: stream/NAME/consumer/...
    return kinesis_backends[account][region].streams.get(name.split("/")[1])


# --- what moto lacks ---


def tell_arrivals(arrived: Callable[[str], None]) -> None:
    """Have moto call `arrived(arn)` whenever a queue or stream has something new, in whatever thread that happens.

    On the way, what moto has not: queues whose messages cannot be lost or received twice by callers at the same time,
    FIFO groups that stay in order when a receiver gives up, streams without records of what did not change, and
    Kinesis sequence numbers as long as AWS's (moto's 1 and 2 could be anything), and shards that
    keep their records when they are split or merged, and then get no more.
    """
    _have_queues_tell(arrived)
    _have_streams_tell(arrived)


def _have_queues_tell(arrived: Callable[[str], None]) -> None:
    from moto.sqs.models import Queue, SQSBackend

    lock = threading.RLock()

    def add_message(self: Any, message: Any) -> None:
        with lock:
            _add(self, message)
        arrived(self.queue_arn)

    def delete_message(self: Any, receipt_handle: str) -> None:
        with lock:
            _delete(self, receipt_handle)
        arrived(self.queue_arn)  # the next message of a FIFO group may have waited for it

    def purge_queue(self: Any, queue_name: str) -> None:
        with lock:
            _purge(self, queue_name)

    def change_message_visibility(self: Any, queue_name: str, *given: Any, **named: Any) -> None:
        with lock:
            _change(self, queue_name, *given, **named)
        arrived(self.queues[queue_name].queue_arn)

    def receive_message(
        self: Any, queue_name: str, count: int, wait_seconds_timeout: int, *given: Any, **named: Any
    ) -> Any:
        deadline = time.monotonic() + wait_seconds_timeout
        while True:
            with lock:
                queue = self.get_queue(queue_name)
                for message in [each for each in queue.pending_messages if each.visible]:
                    queue.pending_messages.discard(message)
                found = _receive(self, queue_name, count, 0, *given, **named)
            if found or (left := deadline - time.monotonic()) <= 0:
                return found
            queue.wait_for_messages(min(left, 1.0))  # one that becomes visible does not tell

    _add, _delete, _purge = Queue.add_message, Queue.delete_message, SQSBackend.purge_queue
    _change, _receive = SQSBackend.change_message_visibility, SQSBackend.receive_message
    cast(Any, Queue).add_message = add_message
    cast(Any, Queue).delete_message = delete_message
    cast(Any, SQSBackend).purge_queue = purge_queue
    cast(Any, SQSBackend).change_message_visibility = change_message_visibility
    cast(Any, SQSBackend).receive_message = receive_message


def _have_streams_tell(arrived: Callable[[str], None]) -> None:
    from moto.dynamodb.models.table import StreamShard
    from moto.kinesis.models import Record as KinesisRecord
    from moto.kinesis.models import Shard as KinesisShard
    from moto.kinesis.models import Stream

    def add(self: Any, old: Any, new: Any) -> None:
        if old is not None and new is not None and old.to_json() == new.to_json():
            return  # DynamoDB writes no record of it
        _append(self, old, new)
        arrived(f"{self.table.table_arn}/stream/{self.table.latest_stream_label}")

    def number_record(self: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
        sequence = next(reversed(self.records), FIRST_SEQUENCE + (self._shard_id << 4)) + 1
        self.records[sequence] = KinesisRecord(partition_key, data, sequence, explicit_hash_key)
        return str(sequence)

    def put_record(self: Any, *given: Any, **named: Any) -> Any:
        placed = _put(self, *given, **named)
        arrived(self.arn)
        return placed

    def apart(change: Callable[..., None]) -> Callable[..., None]:
        def changed(self: Any, *named: str) -> None:
            parents = [self.shards[name] for name in named if name in self.shards]
            kept = [shard.records for shard in parents]
            for shard in parents:
                shard.records = OrderedDict()
            try:
                change(self, *named)
            finally:
                for shard, records in zip(parents, kept, strict=True):
                    shard.records = records
            arrived(self.arn)

        return changed

    def get_shard_for_key(self: Any, *key: str) -> Any:
        every, self.shards = self.shards, {name: shard for name, shard in self.shards.items() if shard.is_open}
        try:
            return _find(self, *key)
        finally:
            self.shards = every

    _append, _put, _find = StreamShard.add, Stream.put_record, Stream.get_shard_for_key
    cast(Any, StreamShard).add = add
    cast(Any, KinesisShard).put_record = number_record
    cast(Any, Stream).put_record = put_record
    cast(Any, Stream).get_shard_for_key = get_shard_for_key
    cast(Any, Stream).split_shard = apart(Stream.split_shard)
    cast(Any, Stream).merge_shards = apart(Stream.merge_shards)
