"""Feeding a function from an SQS queue: messages that it did not fail at are deleted, the others come again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pointsman.localaws.event_sources.feeder import Feeder, Refused, growing
from pointsman.localaws.event_sources.records import (
    MOST_BYTES,
    Message,
    event,
    failed,
    fitting,
    forget_null_digest,
    weight,
)
from pointsman.localaws.lambda_ import InvokeReply

BATCHES_AT_ONCE: Final = 5  # with how many AWS begins; ScalingConfig can say otherwise
_RECEIVED_AT_ONCE: Final = 10


class QueueFeeder(Feeder):
    async def run(self) -> None:
        most = self.mapping.settings.get("ScalingConfig", {}).get("MaximumConcurrency", BATCHES_AT_ONCE)
        free = asyncio.Semaphore(most)
        handling: set[asyncio.Task[None]] = set()

        async def handle(batch: list[Message]) -> None:
            try:
                await self._handle(batch)
            finally:
                free.release()

        try:
            while not self.stopped:
                await free.acquire()
                batch = await self._gathered()
                if not batch:
                    break
                task = asyncio.create_task(handle(batch))
                handling.add(task)
                task.add_done_callback(handling.discard)
            if handling:
                await asyncio.wait(handling)
        except asyncio.CancelledError:
            for task in handling:
                task.cancel()
            await asyncio.gather(*handling, return_exceptions=True)
            raise

    async def _gathered(self) -> list[Message]:
        """A batch: full, or as full as the batching window lets it get; empty only when stopped."""
        gathered: list[Message] = []
        size = 0
        closing: asyncio.Task[float] | None = None
        try:
            while not self.stopped:
                if not gathered and await self._present() is None:
                    break
                self.arrived.clear()
                wanted = min(self._batch - len(gathered), _RECEIVED_AT_ONCE)
                found, next_at = await self._ask(self._sources.receive, self.mapping.source, wanted)
                if not self._window_s:
                    for message in found:
                        forget_null_digest(message)
                passed = await self._passed(found)
                gathered += passed
                size += weight(passed)
                if len(gathered) >= self._batch or size > MOST_BYTES:
                    break
                if len(found) == wanted:  # there may be more
                    continue
                if gathered and closing is None:
                    if not self._window_s:
                        break
                    closing = self._closing(self.arrived)
                if closing is not None and closing.done():
                    break
                with suppress(TimeoutError):  # what is hidden now is visible then
                    async with asyncio.timeout(None if next_at is None else max(next_at - time.time(), 0.001)):
                        await self.arrived.wait()
        finally:
            if closing is not None:
                closing.cancel()
        return gathered

    async def _passed(self, found: Sequence[Message]) -> list[Message]:
        """What the filter lets through; AWS deletes the rest."""
        passed = [message for message in found if self._filter.passes(message.record)]
        if len(passed) < len(found):
            await self._delete([message for message in found if message not in passed])
        return passed

    async def _handle(self, batch: list[Message]) -> None:
        while batch:
            now = batch[: fitting(batch, self._batch)]
            batch = batch[len(now) :]
            reply = await self._run(now)
            if isinstance(reply, InvokeReply) and reply.function_error is None:
                identifiers = [message.identifier for message in now]
                lost = failed(reply.payload, identifiers) if self._reports_items else []
                await self._delete([message for message in now if message.identifier not in lost])

    async def _run(self, batch: list[Message]) -> InvokeReply | None:
        """The function's answer; None when it could not run before the messages are visible again."""
        timeout = await self._ask(self._sources.visibility_timeout, self.mapping.source)
        deadline = time.monotonic() + (timeout or 0)
        attempts = 0
        while isinstance(reply := await self._invoke(event(batch)), Refused):
            attempts += 1
            wait = growing(attempts)
            if reply.gone or time.monotonic() + wait > deadline:
                return None
            await self.pause(wait)
            if self.stopped:
                return None
        return reply

    async def _delete(self, messages: Sequence[Message]) -> None:
        if messages:
            receipts = [message.receipt for message in messages]
            await self._ask(self._sources.delete, self.mapping.source, receipts)
