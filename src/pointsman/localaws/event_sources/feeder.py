"""What feeding from a queue and feeding from a stream have in common: the function, its answers, waiting."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from pointsman.localaws.event_sources.backends import MotoSources
from pointsman.localaws.event_sources.filters import Filter
from pointsman.localaws.lambda_ import InvokeReply, LambdaError, LambdaService, LambdaState
from pointsman.localaws.lambda_.address import Address, address
from pointsman.localaws.lambda_.errors import Throttled
from pointsman.localaws.lambda_.event_sources import EventSourceMapping

WITHOUT_FUNCTION_S: Final = 5.0  # how long to wait before looking for a function again that is gone
FIRST_WAIT_S: Final = 0.25  # recorded: doubled each time, eight attempts fit in a minute
LONGEST_WAIT_S: Final = 60.0

T = TypeVar("T")

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """The function did not get to run. `gone`: there is none any more."""

    request_id: str
    gone: bool


class Feeder(ABC):
    """Feeds one mapping until stopped."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        state: LambdaState,
        service: LambdaService,
        sources: MotoSources,
        threads: Executor,
    ) -> None:
        self.mapping = mapping
        self.arrived = asyncio.Event()
        self._state = state
        self._service = service
        self._sources = sources
        self._threads = threads
        self._ending = asyncio.Event()
        self._said = mapping.result
        self._here: Address = address("Invoke", mapping.account, mapping.region, mapping.function)
        settings = mapping.settings
        criteria = settings.get("FilterCriteria", {}).get("Filters", ())
        self._filter = Filter([criterion["Pattern"] for criterion in criteria])
        self._batch: int = settings["BatchSize"]
        self._window_s = float(settings["MaximumBatchingWindowInSeconds"])
        self._reports_items = "ReportBatchItemFailures" in settings["FunctionResponseTypes"]

    @abstractmethod
    async def run(self) -> None: ...

    def stop(self) -> None:
        """End once the batches under way are done with, or would have to wait before the next attempt."""
        self._ending.set()
        self.arrived.set()

    @property
    def stopped(self) -> bool:
        return self._ending.is_set()

    async def _invoke(self, payload: bytes) -> InvokeReply | Refused:
        here = self._here
        try:
            return await self._service.invoke(here.account, here.region, self.mapping.function, payload)
        except LambdaError as refusal:
            if not isinstance(refusal, Throttled):
                log.warning("%s could not be fed: %s", self.mapping.function, refusal)
            return Refused("", gone=refusal.status == 404)

    async def _function(self) -> dict[str, Any] | None:
        """Its configuration; None when it is gone."""
        here = self._here
        given = {"FunctionName": here.name} | ({} if here.qualifier is None else {"Qualifier": here.qualifier})
        try:
            return await asyncio.to_thread(self._state.get_function_configuration, here.account, here.region, given)
        except LambdaError:
            return None

    async def _present(self) -> dict[str, Any] | None:
        """Wait until the function is there; None when stopped meanwhile."""
        while not self.stopped:
            if (found := await self._function()) is not None:
                return found
            await self.pause(WITHOUT_FUNCTION_S)
        return None

    async def pause(self, seconds: float) -> float:
        """Wait as `Pace.wait` does, but no longer than until stopped."""
        pausing = asyncio.ensure_future(self._state.pace.wait(seconds))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({pausing, ending}, return_when=asyncio.FIRST_COMPLETED)
            return pausing.result() if pausing.done() else 0.0
        finally:
            pausing.cancel()
            ending.cancel()

    def _closing(self, woken: asyncio.Event) -> asyncio.Task[float]:
        """Done, and `woken` set, when the batching window ends that begins now."""
        closing = asyncio.create_task(self._state.pace.wait(self._window_s))
        closing.add_done_callback(lambda _: woken.set())
        return closing

    async def _ask(self, question: Callable[..., T], *given: Any) -> T:
        """Something of `sources`, which may wait until moto is loaded: not among the threads that everybody shares."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(question, *given))

    async def _say(self, result: str) -> None:
        if result != self._said:
            self._said = result
            await asyncio.to_thread(self._state.note_result, self.mapping.uuid, result)


def growing(attempt: int) -> float:
    """How long to wait after the n-th attempt that failed."""
    return min(FIRST_WAIT_S * 2.0 ** (attempt - 1), LONGEST_WAIT_S)
