"""What Lambda reports of an asynchronous invocation, and to whom: destinations and dead-letter queues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from pointsman.localaws.contract import Carrier, Occurrence, Unreachable
from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.errors import LambdaError
from pointsman.localaws.lambda_.event_queue import Event
from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.wire import Json

Condition: TypeAlias = Literal["Success", "RetriesExhausted", "EventAgeExceeded", "ZeroReservedConcurrency"]
Lost: TypeAlias = Literal["DestinationDeliveryFailures", "DeadLetterErrors"]
Forward: TypeAlias = Callable[[str, str, str, bytes], Awaitable[object]]
"""(account, region, function ARN, payload): an asynchronous invocation of another function"""

LONGEST_ERROR = 1024  # characters of an error message that a dead letter carries
_THREADS: Final = 8

log: Final = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def embedded(payload: bytes) -> Any:
    """A payload inside a document: as the JSON it is, or as text."""
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload.decode("utf-8", "replace")
    return msgspec.Raw(payload)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a function answered; `error` says that it failed."""

    version: str
    error: str | None
    answer: bytes


def record(event: Event, condition: Condition, now: float, ran: Ran | None) -> Json:
    """AWS's invocation record. `ran`: what ran last; None: nothing did."""
    told: Json = {
        "version": "1.0",
        "timestamp": timestamp(now),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": event.here.qualified(event.here.qualifier or LATEST),
            "condition": condition,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": embedded(event.payload),
    }
    if ran is not None:
        told["responseContext"] = {"statusCode": 200, "executedVersion": ran.version}
        if ran.error is not None:
            told["responseContext"]["functionError"] = ran.error
        told["responsePayload"] = embedded(ran.answer)
    return told


class Destinations:
    """Delivers through `carrier`. What does not arrive is logged and counted: nobody is left to be told."""

    def __init__(self, state: LambdaState, carrier: Carrier, forward: Forward) -> None:
        self._state = state
        self._carrier = carrier
        self._forward = forward
        # A topic or bus may invoke a function, and whoever carries waits until the event is accepted. That takes one of
        # the threads that everybody shares: were all of these carrying, each would wait for the others for ever.
        self._threads = ThreadPoolExecutor(_THREADS, "destinations")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def report(self, here: Address, arn: str, told: Json, *, key: str) -> None:
        """Send the record `told` about `here` to a destination; `key` names it should that be a bucket."""
        body = _encode(told)
        try:
            match arn.split(":")[2]:
                case "lambda":
                    await self._forward(here.account, arn.split(":")[3], arn, body)
                case "events":
                    context = told["requestContext"]
                    result = "Success" if context["condition"] == "Success" else "Failure"
                    kind = f"Lambda Function Invocation Result - {result}"
                    resources = [arn, context["functionArn"]]
                    await self._carry(self._carrier.event, arn, kind, resources, body)
                case "s3":
                    await self._carry(self._carrier.store, here.account, here.region, arn, key, body)
                case _:
                    await self._carry(self._carrier.message, arn, body.decode(), {})
        except Exception as problem:  # noqa: BLE001 - whatever it is, the event has come to its end
            self._lost("DestinationDeliveryFailures", here, arn, problem)

    async def bury(self, event: Event, arn: str, code: int, message: str) -> None:
        """Send the event to a dead-letter queue or topic."""
        attributes = {
            "RequestID": ("String", event.request_id),
            "ErrorCode": ("Number", str(code)),
            "ErrorMessage": ("String", message[:LONGEST_ERROR] or "-"),
        }
        try:
            await self._carry(self._carrier.message, arn, event.payload.decode("utf-8", "replace"), attributes)
        except Exception as problem:  # noqa: BLE001 - as above
            self._lost("DeadLetterErrors", event.here, arn, problem)

    async def _carry(self, carry: Callable[..., None], *given: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, carry, *given)

    def _lost(self, name: Lost, here: Address, arn: str, problem: Exception) -> None:
        unexpected = None if isinstance(problem, Unreachable | LambdaError) else problem
        log.warning("%s could not report to %s: %s", here.qualified(here.qualifier), arn, problem, exc_info=unexpected)
        now = self._state.now()
        self._state.occurred(Occurrence(here.account, here.region, here.name, here.qualifier, now, name))
