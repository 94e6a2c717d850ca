"""Asynchronous invocations: run until they succeed or are given up, across restarts, and then reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, assert_never
from uuid import uuid4

import msgspec

from pointsman.localaws.contract import Occurrence
from pointsman.localaws.lambda_.destinations import Condition, Destinations, Ran, record
from pointsman.localaws.lambda_.errors import LambdaError, Throttled
from pointsman.localaws.lambda_.event_queue import Event, Handling
from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.wire import Json

FIRST_RETRY_S = 60.0
SLOWEST_RETRY_S = 300.0  # after throttles

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """It did not get to run: throttled, or Lambda itself failed. `for_good`: nothing may run at all."""

    for_good: bool
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Again:
    after_s: float


Counted: TypeAlias = Literal["AsyncEventsReceived", "AsyncEventAge", "AsyncEventsDropped"]
Outcome: TypeAlias = Ran | Held
Attempt: TypeAlias = Callable[[Event], Awaitable[Outcome]]
"""Raises LambdaError when the function or its alias is gone."""


def judge(outcome: Outcome, event: Event, age_s: float, handling: Handling) -> Again | Condition:
    """What becomes of an event after `outcome`, which `event` already counts. An event is given up as soon as the next
    attempt would come too late (recorded)."""
    match outcome:
        case Ran(error=None):
            return "Success"
        case Ran():
            if event.attempts > handling.most_retries:
                return "RetriesExhausted"
            wait = FIRST_RETRY_S * event.attempts
        case Held(for_good=True):
            return "ZeroReservedConcurrency"
        case Held():
            wait = min(2.0 ** (event.throttles - 1), SLOWEST_RETRY_S)
        case _:
            assert_never(outcome)
    return Again(wait) if age_s + wait <= handling.oldest_s else "EventAgeExceeded"


class Asynchronous:
    """Works off the queue of `state`. An event that was running when the process ended runs again."""

    def __init__(self, state: LambdaState, attempt: Attempt, destinations: Destinations | None) -> None:
        self._state = state
        self._attempt = attempt
        self._destinations = destinations

    async def accept(self, account: str, region: str, given: Json, payload: bytes, **options: Any) -> int:
        """As `EventQueue.accept_event`: the number of the event, for `follow`."""
        event = await asyncio.to_thread(self._state.accept_event, account, region, given, payload, **options)
        self._count("AsyncEventsReceived", event)
        return event.id

    async def follow(self, number: int) -> None:
        """See one event through to its end."""
        while (found := await asyncio.to_thread(self._state.event, number)) is not None:
            if (left := found.due_at - self._state.now()) > 0:
                found = replace(found, skipped=found.skipped + await self._state.pace.wait(left))
            if await self._tried(found):
                return

    async def _tried(self, event: Event) -> bool:
        """True once there is nothing left to do for it."""
        here = event.here
        waited_s = self._state.now() - event.accepted_at + event.skipped
        self._count("AsyncEventAge", event, round(waited_s * 1000, 3))
        try:
            outcome = await self._attempt(event)
            handling = await asyncio.to_thread(self._state.handling, here)
        except Throttled as throttled:
            handling = await asyncio.to_thread(self._state.handling, here)
            outcome = Held(throttled.for_good, throttled.status, throttled.message or "")
        except LambdaError as gone:
            log.warning("an event for %s is dropped: %s", here.qualified(here.qualifier), gone)
            self._count("AsyncEventsDropped", event)
            await asyncio.to_thread(self._state.forget_event, event)
            return True
        except Exception:
            log.exception("event %s for %s goes back to the queue", event.request_id, here.qualified(here.qualifier))
            handling = await asyncio.to_thread(self._state.handling, here)
            outcome = Held(for_good=False, code=500, message="The local Lambda failed.")
        if isinstance(outcome, Ran):
            event = replace(event, attempts=event.attempts + 1, throttles=0)
        else:
            event = replace(event, throttles=event.throttles + 1)
        now = self._state.now()
        verdict = judge(outcome, event, now - event.accepted_at + event.skipped, handling)
        if isinstance(verdict, Again):
            await asyncio.to_thread(self._state.postpone_event, replace(event, due_at=now + verdict.after_s))
            return False
        await self._report(event, outcome, verdict, handling, now)
        await asyncio.to_thread(self._state.forget_event, event)
        return True

    async def _report(
        self, event: Event, outcome: Outcome, condition: Condition, handling: Handling, now: float
    ) -> None:
        here = event.here
        if condition != "Success":
            self._count("AsyncEventsDropped", event)
        if self._destinations is None:
            return
        ran = outcome if isinstance(outcome, Ran) else None
        destination = handling.on_success if condition == "Success" else handling.on_failure
        if destination:
            told = record(event, condition, now, ran)
            key = f"aws/lambda/async/{here.name}/{told['timestamp'][:10].replace('-', '/')}/{_moment(told)}-{uuid4()}"
            await self._destinations.report(here, destination, told, key=key)
        if condition != "Success":
            version = here if ran is None else replace(here, qualifier=ran.version)
            try:
                buried_at = await asyncio.to_thread(self._state.dead_letters, version)
            except LambdaError:  # deleted while it ran
                return
            if buried_at:
                code, message = (
                    (200, _message(outcome.answer)) if isinstance(outcome, Ran) else (outcome.code, outcome.message)
                )
                await self._destinations.bury(event, buried_at, code, message)

    def _count(self, name: Counted, event: Event, value: float = 1.0) -> None:
        here = event.here
        now = self._state.now()
        self._state.occurred(Occurrence(here.account, here.region, here.name, here.qualifier, now, name, value))


def _moment(told: dict[str, str]) -> str:
    return told["timestamp"][:19].replace(":", ".")


def _message(answer: bytes) -> str:
    """The error message that a function's answer holds."""
    try:
        found = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return str(found.get("errorMessage", "")) if isinstance(found, dict) else ""
