"""One task for each enabled mapping: started, stopped and replaced as mappings change, woken when something arrives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from pointsman.localaws.event_sources.backends import MotoSources
from pointsman.localaws.event_sources.feeder import Feeder
from pointsman.localaws.event_sources.queues import QueueFeeder
from pointsman.localaws.event_sources.streams import StreamFeeder
from pointsman.localaws.lambda_ import LambdaService, LambdaState
from pointsman.localaws.lambda_.event_sources import EventSourceMapping

_THREADS = 4
_AFTER_FAILURE_S = 5.0

log: Final = logging.getLogger(__name__)


class Feeding:
    """All feeders of one local Lambda. Made, started and closed on the event loop; told of arrivals from anywhere."""

    def __init__(self, state: LambdaState, service: LambdaService, sources: MotoSources) -> None:
        self._state = state
        self._service = service
        self._sources = sources
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, tuple[Feeder, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(_THREADS, "event-sources")
        state.mappings_changed = lambda: self._soon(self._follow)
        self._follow()

    async def close(self) -> None:
        """What is being processed is broken off: it comes again after the next start."""
        self._closed = True
        tasks = {task for _, task in self._running.values()} | self._ending
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def arrived(self, arn: str) -> None:
        if any(feeder.mapping.source.startswith(arn) for feeder, _ in list(self._running.values())):
            self._soon(lambda: self._wake(arn))

    def _wake(self, arn: str) -> None:
        for feeder, _ in self._running.values():
            if feeder.mapping.source.startswith(arn):  # a stream's consumer is named below it
                feeder.arrived.set()

    def _soon(self, call: Callable[[], Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _follow(self) -> None:
        """Make what runs what the mappings say."""
        if self._closed:
            return
        wanted = {mapping.uuid: mapping for mapping in self._state.mappings() if mapping.enabled}
        for uuid, (feeder, task) in list(self._running.items()):
            if uuid not in wanted or wanted[uuid].modified != feeder.mapping.modified:
                # It ends once what it has taken is done with; whoever follows it waits for that.
                feeder.stop()
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
                del self._running[uuid]
                if uuid in wanted:
                    self._start(wanted[uuid], task)
        for uuid, mapping in wanted.items():
            if uuid not in self._running:
                self._start(mapping, None)

    def _start(self, mapping: EventSourceMapping, before: asyncio.Task[None] | None) -> None:
        kind = QueueFeeder if mapping.kind == "sqs" else StreamFeeder
        feeder = kind(mapping, self._state, self._service, self._sources, self._threads)

        async def whole() -> None:
            if before is not None:
                await asyncio.wait({before})
            await asyncio.sleep(max(mapping.settles_at - self._state.now(), 0))
            while not feeder.stopped:
                try:
                    await feeder.run()
                except Exception:
                    log.exception("feeding %s from %s failed", mapping.function, mapping.source)
                    await feeder.pause(_AFTER_FAILURE_S)

        self._running[mapping.uuid] = feeder, self._loop.create_task(whole())
