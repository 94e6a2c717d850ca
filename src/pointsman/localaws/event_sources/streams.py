"""Feeding a function from a DynamoDB or Kinesis stream: each shard in order, a record that fails holds up the next."""

from __future__ import annotations

import asyncio
import zlib
from datetime import datetime
from typing import Final
from uuid import uuid4

from pointsman.localaws.event_sources.feeder import Feeder, Refused, growing
from pointsman.localaws.event_sources.records import Condition, Record, batch_report, event, failed, fitting
from pointsman.localaws.lambda_ import InvokeReply

FINE: Final = "OK"
FAILED: Final = "PROBLEM: Function call failed"


class StreamFeeder(Feeder):
    _done: dict[str, int]  # shard → the last record that is done with
    _waiting = False  # a shard waits for its parents

    async def run(self) -> None:
        """One task for each shard. A shard that appears later is read from its beginning, once its parents are done."""
        source, uuid = self.mapping.source, self.mapping.uuid
        known = await asyncio.to_thread(self._state.checkpoints, uuid)
        reading: dict[str, asyncio.Task[None]] = {}
        woken: dict[str, asyncio.Event] = {}
        first = not known
        self._done = known
        try:
            while not self.stopped:
                self.arrived.clear()
                shards = await self._ask(self._sources.shards, source)
                for shard, facts in shards.items():
                    if shard in reading:
                        woken[shard].set()
                        continue
                    if any(self._done.get(each, -1) < shards[each].last for each in facts.parents if each in shards):
                        continue
                    if shard in known:
                        # moto may have forgotten its last moment when it was killed; new records take those numbers
                        after = min(known[shard], facts.last)
                    else:
                        after = await self._start(shard, facts.last) if first else -1
                        await asyncio.to_thread(self._state.set_checkpoint, uuid, shard, after)
                    self._done[shard] = after
                    woken[shard] = asyncio.Event()
                    reading[shard] = asyncio.create_task(self._read(shard, after, woken[shard]))
                first = first and not shards
                self._waiting = len(reading) < len(shards)
                waiting = asyncio.ensure_future(self.arrived.wait())
                await asyncio.wait({waiting, *reading.values()}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                for task in reading.values():
                    if task.done() and not self.stopped:  # it ends before its time by an exception only
                        task.result()
            for each in woken.values():
                each.set()
            await asyncio.gather(*reading.values())
        finally:
            for task in reading.values():
                task.cancel()
            await asyncio.gather(*reading.values(), return_exceptions=True)

    async def _start(self, shard: str, last: int) -> int:
        """The record after which the mapping begins."""
        match self.mapping.settings["StartingPosition"]:
            case "LATEST":
                return last
            case "AT_TIMESTAMP":
                given = self.mapping.settings["StartingPositionTimestamp"]
                moment = given if isinstance(given, int | float) else datetime.fromisoformat(given).timestamp()
                return await self._ask(self._sources.before, self.mapping.source, shard, moment)
            case _:
                return -1

    async def _read(self, shard: str, after: int, woken: asyncio.Event) -> None:
        lanes = self.mapping.settings["ParallelizationFactor"]
        while found := await self._filled(shard, after, woken):
            passed = [record for record in found if self._filter.passes(record.record)]
            done = await asyncio.gather(*(self._lane(shard, lane) for lane in _lanes(passed, lanes)))
            if not all(done):
                return
            after = self._done[shard] = found[-1].sequence
            await asyncio.to_thread(self._state.set_checkpoint, self.mapping.uuid, shard, after)
            if self._waiting:
                self.arrived.set()

    async def _filled(self, shard: str, after: int, woken: asyncio.Event) -> list[Record]:
        """The next records: a full batch, or what there is when the batching window ends; none only when stopped."""
        lanes = self.mapping.settings["ParallelizationFactor"]
        closing: asyncio.Task[float] | None = None
        try:
            while (function := await self._present()) is not None:
                woken.clear()
                found = await self._ask(
                    self._sources.read, self.mapping.source, shard, after, self._batch * lanes, function["Role"]
                )
                if found and (len(found) >= self._batch or not self._window_s or (closing and closing.done())):
                    return found
                if found and closing is None:
                    closing = self._closing(woken)
                if not self.stopped:
                    await woken.wait()
        finally:
            if closing is not None:
                closing.cancel()
        return []

    async def _lane(self, shard: str, records: list[Record]) -> bool:
        """Whether all of it is done with."""
        while records:
            count = fitting(records, self._batch)
            if not await self._process(shard, records[:count]):
                return False
            records = records[count:]
        return True

    async def _process(self, shard: str, batch: list[Record]) -> bool:
        """Whether the function has taken the batch, or what is left of it has been given up: else it was stopped."""
        settings = self.mapping.settings
        most, oldest = settings["MaximumRetryAttempts"], settings["MaximumRecordAgeInSeconds"]
        attempts, refusals, skipped = 0, 0, 0.0
        last: InvokeReply | None = None
        while batch:
            if oldest != -1:
                limit = self._state.now() + skipped - oldest
                late = [record for record in batch if record.arrived < limit]
                if late:
                    await self._give_up(shard, late, "RecordAgeExceeded", max(attempts, 1), None)
                    batch = [record for record in batch if record.arrived >= limit]
                    continue
            reply = await self._invoke(event(batch))
            if isinstance(reply, Refused):
                refusals += 1
                await self._say(FAILED)
                if self.stopped:
                    return False
                skipped += await self.pause(growing(refusals))
                continue
            attempts += 1
            last = reply
            if reply.function_error is None:
                lost = failed(reply.payload, [record.identifier for record in batch]) if self._reports_items else []
                if not lost:
                    await self._say(FINE)
                    return True
                # Whatever comes after the first that failed is done again, too; what was done makes it a new batch.
                rest = [record for record in batch if record.sequence >= min(int(each) for each in lost)]
                if len(rest) < len(batch):
                    batch, attempts = rest, 0
                    continue
            await self._say(FAILED)
            if settings["BisectBatchOnFunctionError"] and reply.function_error is not None and len(batch) > 1:
                middle = len(batch) // 2
                return await self._process(shard, batch[:middle]) and await self._process(shard, batch[middle:])
            if most != -1 and attempts > most:
                await self._give_up(shard, batch, "RetryAttemptsExhausted", attempts, last)
                return True
            if self.stopped:
                return False
            skipped += await self.pause(growing(attempts))
        return True

    async def _give_up(
        self,
        shard: str,
        records: list[Record],
        condition: Condition,
        attempts: int,
        last: InvokeReply | None,
    ) -> None:
        """Tell the OnFailure destination, if there is one; `last`: what the function answered to the last attempt."""
        destination = self.mapping.settings["DestinationConfig"]["OnFailure"].get("Destination")
        if not destination or self._service.destinations is None:
            return
        told = batch_report(
            self.mapping.source,
            self.mapping.function,
            shard,
            records,
            condition,
            request_id=str(uuid4()) if last is None else last.request_id,
            attempts=attempts,
            now=self._state.now(),
            executed=None if last is None else (last.executed_version or "", last.function_error),
        )
        if destination.split(":")[2] == "s3":
            told["payload"] = event(records).decode()
        moment = told["timestamp"]
        day, second = moment[:10].replace("-", "/"), moment[:19].replace(":", ".")
        key = f"aws/lambda/{self.mapping.uuid}/{shard}/{day}/{second}-{uuid4()}"
        await self._service.destinations.report(self._here, destination, told, key=key)


def _lanes(records: list[Record], count: int) -> list[list[Record]]:
    """Records of one key stay in one lane, so in order."""
    lanes: list[list[Record]] = [[] for _ in range(count)]
    for record in records:
        lanes[zlib.crc32(record.key.encode()) % count].append(record)
    return [lane for lane in lanes if lane]
