"""Invocations: which version runs, how many at once, what is answered, and what goes on after the answer."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias, assert_never
from uuid import uuid4

import msgspec

from pointsman.localaws.contract import Carrier, Executor, Sample, Target
from pointsman.localaws.lambda_.address import Address
from pointsman.localaws.lambda_.asynchronous import Asynchronous
from pointsman.localaws.lambda_.destinations import Destinations, Ran
from pointsman.localaws.lambda_.errors import LambdaError, NotReady, Throttled, too_large
from pointsman.localaws.lambda_.event_queue import Event
from pointsman.localaws.lambda_.payloads import check_json
from pointsman.localaws.lambda_.running import Running
from pointsman.localaws.lambda_.state import LambdaState, Reach
from pointsman.localaws.lambda_.streams import Pipe

MOST_SYNCHRONOUS = 6_291_456
MOST_ASYNCHRONOUS = 1_048_576  # 256 KB until October 2025
MOST_REPLY = 6_291_556
LOG_TAIL = 4096
STARTS = 6  # of what is provisioned, before AWS gives up (recorded)
_BIG = 65_536  # bytes beyond which parsing would hold up the event loop noticeably

InvocationType: TypeAlias = Literal["RequestResponse", "Event", "DryRun"]
LogType: TypeAlias = Literal["None", "Tail"]
Seek: TypeAlias = Callable[[], Reach]

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InvokeReply:
    """What Invoke answers: 200 with what ran, 202 (Event) or 204 (DryRun) with nothing but the request id."""

    status: int
    request_id: str
    payload: bytes = b""
    executed_version: str | None = None
    function_error: str | None = None
    log_result: str | None = None  # base64, when LogType=Tail asked for it


class Invocations:
    """Runs functions of `state` by `executor`, all from one event loop, and what is left to do in the background."""

    def __init__(self, state: LambdaState, executor: Executor, carrier: Carrier | None = None) -> None:
        self._state = state
        self._executor = executor
        self.destinations = None if carrier is None else Destinations(state, carrier, self._forward)
        self._asynchronous = Asynchronous(state, self._attempt, self.destinations)
        self.loop: asyncio.AbstractEventLoop | None = None  # known once anything was asked
        self._running = Running()
        self._background: set[asyncio.Task[None]] = set()
        self._streaming: set[asyncio.Task[InvokeReply]] = set()
        state.changed = self._retire
        state.keep_ready = self._provision
        state.paced.append(self._hurry)
        self._hurried = asyncio.Event()

    def resume(self) -> None:
        """Go on with the events that were accepted before the process last ended."""
        self.loop = asyncio.get_running_loop()
        for number in self._state.queued_events():
            self._start(partial(self._asynchronous.follow, number), f"event {number}")

    async def close(self) -> None:
        """Give up what still runs in the background. The executor is its owner's to close."""
        under_way = [*self._background, *self._streaming]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self.destinations is not None:
            self.destinations.close()

    async def invoke(
        self,
        account: str,
        region: str,
        function_name: str,
        payload: bytes,
        *,
        qualifier: str | None = None,
        invocation_type: InvocationType = "RequestResponse",
        log_type: LogType = "None",
        client_context: str | None = None,
        request_id: str | None = None,
        stream: Pipe | None = None,
    ) -> InvokeReply:
        """Run a function as Invoke does: `function_name` is a name or ARN; an alias's weights are drawn each time.

        With `stream`, the answer goes there, and only an error is in the reply.
        """
        self.loop = asyncio.get_running_loop()
        request_id = request_id or str(uuid4())
        if len(payload) > MOST_SYNCHRONOUS:
            raise too_large(f"Request must be smaller than {MOST_SYNCHRONOUS} bytes for the InvokeFunction operation")
        if invocation_type == "Event" and len(payload) > MOST_ASYNCHRONOUS:
            raise too_large(
                f"{len(payload)} byte payload is too large for the Event invocation type "
                f"(limit {MOST_ASYNCHRONOUS} bytes)"
            )
        if len(payload) > _BIG:
            await asyncio.to_thread(check_json, payload)
        else:
            check_json(payload)
        seek = partial(self._state.reach, account, region, function_name, qualifier)
        run = partial(
            self._run,
            seek,
            payload or b"{}",
            request_id=request_id,
            log_type=log_type,
            client_context=client_context,
            stream=stream,
        )
        match invocation_type:
            case "RequestResponse":
                return await run()
            case "DryRun":
                with suppress(NotReady):  # it exists, which is all that is asked before the reply
                    seek()
                return InvokeReply(204, request_id)
            case "Event":
                given = {"FunctionName": function_name} | ({} if qualifier is None else {"Qualifier": qualifier})
                number = await self._asynchronous.accept(
                    account,
                    region,
                    given,
                    payload or b"{}",
                    request_id=request_id,
                    client_context=client_context,
                )
                self._start(partial(self._asynchronous.follow, number), f"event {request_id} for {function_name}")
                return InvokeReply(202, request_id)
            case _:
                assert_never(invocation_type)

    async def begin_invoke(
        self, account: str, region: str, function_name: str, payload: bytes, **options: Any
    ) -> tuple[Pipe, asyncio.Task[InvokeReply]]:
        """Invoke, and return with the first byte of the answer, or at the end if there is none. Options as `invoke`'s.

        Raises what AWS refuses. The task goes on if nobody reads.
        """
        pipe = Pipe()
        reply = asyncio.ensure_future(self.invoke(account, region, function_name, payload, stream=pipe, **options))
        reply.add_done_callback(lambda _: pipe.end())
        self._streaming.add(reply)
        reply.add_done_callback(self._streaming.discard)
        await pipe.begun.wait()
        if pipe.content_type is None:
            await reply
        return pipe, reply

    async def _run(
        self,
        seek: Seek,
        payload: bytes,
        *,
        request_id: str,
        log_type: LogType,
        client_context: str | None,
        stream: Pipe | None,
    ) -> InvokeReply:
        reach = await self._when_active(seek)
        target, reserved = reach.target, reach.reserved
        sample = partial(
            Sample,
            target.account,
            target.region,
            target.function_name,
            reach.qualifier,
            target.version,
            self._state.now(),
        )
        if stream is not None:
            stream.executed_version = target.version
        ready = self._running.ready(target) < reach.ready
        if ready:
            target = replace(target, initialization="provisioned-concurrency")
        elif reserved is not None and self._running.on_demand(target) >= reserved:
            self._state.occurred(sample("throttled"))
            raise Throttled(for_good=reach.closed)
        with self._running.one_more(target, reach.qualifier, ready=ready, reserved=reserved is not None) as at_once:
            await self._unpacked(target)
            outcome = await self._executor.invoke(
                target,
                payload,
                invoked_arn=reach.arn,
                request_id=request_id,
                client_context=client_context,
                stream=stream,
            )
        error, answer = outcome.error, outcome.payload
        if len(answer) > MOST_REPLY:
            message = f"Response payload size exceeded maximum allowed payload size ({MOST_REPLY} bytes)."
            answer = msgspec.json.encode({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"})
            error = "Unhandled"
        self._state.occurred(
            sample(
                "succeeded" if error is None else "failed",
                outcome.duration_ms,
                at_once.counts,
                at_once.unreserved,
                reach.ready,
                at_once.ready,
            )
        )
        if stream is not None and error is None and stream.content_type is None:  # it does not stream
            stream.begin("application/json")
            stream.write(answer)
            answer = b""
        tail = base64.b64encode(outcome.log[-LOG_TAIL:]).decode() if log_type == "Tail" else None
        return InvokeReply(200, request_id, answer, target.version, error, tail)

    async def _unpacked(self, target: Target) -> None:
        for folder in (target.code, target.opt):
            if folder is not None and not self._state.packages.ready(folder):
                await asyncio.to_thread(self._state.packages.unpack, folder)

    async def _when_active(self, seek: Seek) -> Reach:
        """AWS holds an invocation back while the version is being created; so do we."""
        while True:
            hurried = self._hurried
            try:
                return seek()
            except NotReady as soon:
                with suppress(TimeoutError):
                    await asyncio.wait_for(hurried.wait(), soon.seconds)

    def _hurry(self) -> None:
        """Waits may have become shorter. Called in whatever thread knows."""

        def look_again() -> None:
            self._hurried.set()
            self._hurried = asyncio.Event()

        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(look_again)

    # --- in the background ---

    async def _attempt(self, event: Event) -> Ran:
        here = event.here
        reply = await self._run(
            partial(self._state.reach, here.account, here.region, here.name, here.qualifier),
            event.payload,
            request_id=event.request_id,
            log_type="None",
            client_context=event.client_context,
            stream=None,
        )
        assert reply.executed_version is not None
        return Ran(reply.executed_version, reply.function_error, reply.payload)

    async def _forward(self, account: str, region: str, arn: str, payload: bytes) -> None:
        await self.invoke(account, region, arn, payload, invocation_type="Event")

    def _retire(self, here: Address, version: str | None) -> None:
        """End environments of what changed. Called in whatever thread changed it (CloudFormation's, for one)."""
        if self.loop is None or self.loop.is_closed():  # nothing runs yet, or any more
            return
        ending = partial(self._executor.retire, here.name, here.account, here.region, version)
        self.loop.call_soon_threadsafe(self._start, ending, f"retiring {here.qualified(version)}")

    def _provision(self, here: Address, due: float) -> None:
        """Called in whatever thread asked for it."""
        if self.loop is None or self.loop.is_closed():  # nothing runs yet: what is kept ready starts when called
            self._state.provisioned(here, due, None)
            return
        what = f"provisioning {here.qualified(here.qualifier)}"
        self.loop.call_soon_threadsafe(self._start, partial(self._keep_ready, here, due), what)

    async def _keep_ready(self, here: Address, due: float) -> None:
        seek = partial(self._state.reach, here.account, here.region, here.arn, here.qualifier, choose=lambda: 1.0)
        try:
            reach = await self._when_active(seek)
        except LambdaError:  # it was deleted meanwhile
            return
        target = replace(reach.target, initialization="provisioned-concurrency")
        await self._unpacked(target)
        reason: str | None = "FUNCTION_ERROR_INIT_FAILURE"
        for _ in range(STARTS):
            if await self._executor.prepare(target):
                reason = None
                break
        await asyncio.to_thread(self._state.provisioned, here, due, reason)

    def _start(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        async def watched() -> None:
            try:
                await work()
            except Exception:
                log.exception("%s failed", what)

        task = asyncio.ensure_future(watched())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
