"""Asynchronous invocations: attempts, waits, records, dead letters, and that nothing accepted is lost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws.contract import Occurrence, Outcome, Sample, Unreachable
from pointsman.localaws.lambda_ import LambdaService, LambdaState
from pointsman.localaws.lambda_.address import Address
from pointsman.localaws.lambda_.asynchronous import Again, Held, judge
from pointsman.localaws.lambda_.destinations import Ran
from pointsman.localaws.lambda_.event_queue import Event, Handling
from pointsman.localaws.lambda_.pace import Pace
from tests.conform.local_lambda import ACCOUNT, REGION, InProcess, package

ROLE = f"arn:aws:iam::{ACCOUNT}:role/role"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
FAILING = {"fail": True}


class Kept:
    """A Carrier that keeps what it is given; an ARN ending in "gone" cannot be reached, one in "odd" fails oddly."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any, Mapping[str, tuple[str, str]]]] = []
        self.events: list[tuple[str, str, list[str], Any]] = []
        self.objects: list[tuple[str, str, Any]] = []

    def message(self, arn: str, body: str, attributes: Mapping[str, tuple[str, str]]) -> None:
        if arn.endswith("gone"):
            raise Unreachable("The specified queue does not exist.")
        if arn.endswith("odd"):
            raise ConnectionError("nobody listens at the topic's subscriber")
        self.messages.append((arn, json.loads(body), attributes))

    def event(self, arn: str, detail_type: str, resources: list[str], detail: bytes) -> None:
        self.events.append((arn, detail_type, resources, json.loads(detail)))

    def store(self, account: str, region: str, bucket_arn: str, key: str, body: bytes) -> None:
        self.objects.append((bucket_arn, key, json.loads(body)))


class Holding(InProcess):
    """Holds invocations back while it is not `free`."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()

    async def invoke(self, *given: Any, **named: Any) -> Outcome:
        running = await super().invoke(*given, **named)
        await self.free.wait()
        return running


class Local:
    """A Lambda in this process, its clock fast enough that AWS's minutes are moments."""

    def __init__(self, directory: Path, *, speed: float = 6000.0) -> None:
        self.executor, self.kept = Holding(), Kept()
        self.state = LambdaState(directory, settle_s=0.0, runtimes=self.executor.runtimes)
        self.state.speed = speed
        self.counted: list[tuple[str, str]] = []
        self.ages_ms: list[float] = []
        self.state.occurred = self.note
        self.service = LambdaService(self.state, self.executor, self.kept)

    def note(self, happened: Sample | Occurrence) -> None:
        match happened:
            case Occurrence(name="AsyncEventAge"):
                self.ages_ms.append(happened.value)
            case Occurrence():
                self.counted.append((happened.name, happened.function_name))
            case Sample():
                return  # of every attempt: test_metrics looks at these

    def make(self, name: str, **more: Any) -> None:
        given = {"Role": ROLE, "Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package()}}
        self.state.create_function(ACCOUNT, REGION, {"FunctionName": name} | given | more)

    def handle(self, name: str, **settings: Any) -> None:
        self.state.put_function_event_invoke_config(ACCOUNT, REGION, {"FunctionName": name} | settings)

    async def send(self, name: str, event: object, **more: Any) -> str:
        payload = json.dumps(event).encode()
        reply = await self.service.invoke(ACCOUNT, REGION, name, payload, invocation_type="Event", **more)
        assert (reply.status, reply.payload) == (202, b"")
        return reply.request_id

    async def drained(self) -> None:
        await until(lambda: not self.state.queued_events())


@asynccontextmanager
async def local(directory: Path, **more: Any) -> AsyncIterator[Local]:
    made = Local(directory, **more)
    yield made
    await made.service.close()
    made.state.close()


async def until(holds: Callable[[], Any], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.005)


def run(scenario: Awaitable[None]) -> None:
    async def whole() -> None:
        await scenario

    asyncio.run(whole())


def arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


# --- what is decided ---

EVENT = Event(1, Address(ACCOUNT, REGION, "f"), "id", b"{}", None, 0.0, 0.0)
DEFAULTS = Handling(2, 21_600.0, None, None)
FAILED = Ran("1", "Unhandled", b"{}")


@pytest.mark.parametrize(
    ("attempts", "age", "handling", "verdict"),
    [
        (1, 0.1, DEFAULTS, Again(60.0)),
        (2, 60.2, DEFAULTS, Again(120.0)),
        (3, 180.3, DEFAULTS, "RetriesExhausted"),
        (1, 0.1, replace(DEFAULTS, most_retries=0), "RetriesExhausted"),
        (1, 0.1, replace(DEFAULTS, oldest_s=60.0), "EventAgeExceeded"),  # recorded: it does not wait to find out
        (1, 0.1, replace(DEFAULTS, oldest_s=90.0), Again(60.0)),
        (2, 60.2, replace(DEFAULTS, oldest_s=90.0), "EventAgeExceeded"),
    ],
)
def test_a_failed_event_is_tried_after_one_minute_and_after_two(
    attempts: int, age: float, handling: Handling, verdict: object
) -> None:
    assert judge(FAILED, replace(EVENT, attempts=attempts), age, handling) == verdict


def test_throttles_wait_longer_each_time_and_never_exhaust_the_retries() -> None:
    throttled = Held(for_good=False, code=429, message="Rate Exceeded.")
    waits = [judge(throttled, replace(EVENT, throttles=n), 0.0, DEFAULTS) for n in range(1, 12)]
    assert waits == [Again(float(s)) for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300)]
    assert judge(throttled, replace(EVENT, throttles=1), 21_600.0, DEFAULTS) == "EventAgeExceeded"


@given(st.integers(0, 2), st.floats(60, 21_600))
def test_every_failing_event_ends_within_its_age(retries: int, oldest: float) -> None:
    handling, age, event = Handling(retries, oldest, None, None), 0.0, EVENT
    while isinstance(
        verdict := judge(FAILED, event := replace(event, attempts=event.attempts + 1), age, handling), Again
    ):
        age += verdict.after_s
    assert age <= oldest
    assert event.attempts <= retries + 1
    assert verdict in ("RetriesExhausted", "EventAgeExceeded")


# --- what happens ---


def test_three_attempts_with_one_request_id_and_one_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path) as aws:
            aws.make("f")
            aws.handle("f", DestinationConfig={"OnFailure": {"Destination": QUEUE}})
            request_id = await aws.send("f", FAILING)
            await aws.drained()

            [(where, told, attributes)] = aws.kept.messages
            assert (where, attributes) == (QUEUE, {})
            assert list(told) == [
                "version", "timestamp", "requestContext", "requestPayload", "responseContext", "responsePayload"
            ]  # fmt: skip
            assert told["requestContext"] == {
                "requestId": request_id,
                "functionArn": f"{arn('f')}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            }
            assert told["requestPayload"] == FAILING
            assert told["responseContext"] == {
                "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"
            }  # fmt: skip
            assert told["responsePayload"]["errorMessage"] == "asked to"
            assert len(aws.executor.ran) == 3
            assert aws.counted == [("AsyncEventsReceived", "f"), ("AsyncEventsDropped", "f")]
            assert [int(age / 60_000) for age in aws.ages_ms] == [0, 1, 3]  # on AWS's clock

    run(scenario())


def test_success_is_reported_by_the_alias_it_was_sent_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path) as aws:
            aws.make("f", Publish=True)
            aws.state.create_alias(ACCOUNT, REGION, {"FunctionName": "f", "Name": "live", "FunctionVersion": "1"})
            bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/b"
            aws.handle("f", Qualifier="live", DestinationConfig={"OnSuccess": {"Destination": bus}})
            await aws.send("f", {"n": 1}, qualifier="live")
            await aws.send("f", {"n": 2})  # $LATEST has no configuration
            await aws.drained()

            [(where, kind, resources, told)] = aws.kept.events
            assert (where, kind) == (bus, "Lambda Function Invocation Result - Success")
            assert resources == [bus, f"{arn('f')}:live"]
            assert told["requestContext"]["condition"] == "Success"
            assert told["responseContext"] == {"statusCode": 200, "executedVersion": "1"}
            assert told["responsePayload"]["event"] == {"n": 1}

    run(scenario())


def test_a_record_goes_to_another_function_or_a_bucket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path) as aws:
            aws.make("f")
            aws.make("next")
            ends = {"OnSuccess": {"Destination": arn("next")}, "OnFailure": {"Destination": "arn:aws:s3:::kept"}}
            aws.handle("f", MaximumRetryAttempts=0, DestinationConfig=ends)
            await aws.send("f", {})
            await aws.send("f", FAILING)
            await aws.drained()

            assert [name for name, _ in aws.executor.ran].count(arn("next")) == 1
            [(bucket, key, told)] = aws.kept.objects
            assert bucket == "arn:aws:s3:::kept"
            assert key.startswith(f"aws/lambda/async/f/{told['timestamp'][:4]}/")
            assert told["requestPayload"] == FAILING

    run(scenario())


def test_a_dead_letter_is_the_event_itself_with_what_went_wrong(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path) as aws:
            aws.make("f", DeadLetterConfig={"TargetArn": QUEUE})
            aws.handle("f", MaximumRetryAttempts=0)
            request_id = await aws.send("f", FAILING)
            await aws.drained()

            assert aws.kept.messages == [
                (
                    QUEUE,
                    FAILING,
                    {
                        "RequestID": ("String", request_id),
                        "ErrorCode": ("Number", "200"),
                        "ErrorMessage": ("String", "asked to"),
                    },
                )
            ]

    run(scenario())


def test_with_nothing_reserved_an_event_is_given_up_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path, speed=1.0) as aws:
            aws.make("f")
            aws.handle("f", DestinationConfig={"OnFailure": {"Destination": QUEUE}})
            aws.state.put_function_concurrency(
                ACCOUNT, REGION, {"FunctionName": "f", "ReservedConcurrentExecutions": 0}
            )
            await aws.send("f", {})
            await aws.drained()

            [(_, told, _)] = aws.kept.messages
            assert told["requestContext"]["condition"] == "ZeroReservedConcurrency"
            assert told["requestContext"]["approximateInvokeCount"] == 0
            assert list(told) == ["version", "timestamp", "requestContext", "requestPayload"]

    run(scenario())


def test_a_throttled_event_runs_when_there_is_room(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path, speed=100.0) as aws:
            aws.make("f")
            aws.state.put_function_concurrency(
                ACCOUNT, REGION, {"FunctionName": "f", "ReservedConcurrentExecutions": 1}
            )
            aws.executor.free.clear()
            await aws.send("f", {"n": 1})
            await until(lambda: len(aws.executor.ran) == 1)
            await aws.send("f", {"n": 2})
            [_, second] = aws.state.queued_events()
            await until(lambda: (event := aws.state.event(second)) and event.throttles == 2)
            aws.executor.free.set()
            await aws.drained()

            assert len(aws.executor.ran) == 2

    run(scenario())


@pytest.mark.parametrize("queue", [f"{QUEUE}-gone", f"{QUEUE}-odd"])
def test_a_destination_that_fails_is_counted_and_the_event_is_over(tmp_path: Path, queue: str) -> None:
    """Else it would run again at every start."""

    async def scenario() -> None:
        async with local(tmp_path) as aws:
            aws.make("f", DeadLetterConfig={"TargetArn": queue})
            ends = {"OnFailure": {"Destination": queue}}
            aws.handle("f", MaximumRetryAttempts=0, DestinationConfig=ends)
            await aws.send("f", FAILING)
            await aws.drained()

            metrics = [metric for metric, _ in aws.counted]
            assert metrics == [
                "AsyncEventsReceived", "AsyncEventsDropped", "DestinationDeliveryFailures", "DeadLetterErrors"
            ]  # fmt: skip

    run(scenario())


def test_destinations_that_invoke_functions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A topic's subscriber is invoked in the thread that publishes, which waits until the event is accepted."""

    class Topic(Kept):
        def __init__(self, aws: Local, together: int) -> None:
            super().__init__()
            self.aws, self.loop = aws, asyncio.get_running_loop()
            self.all_there = threading.Barrier(together)

        def message(self, arn: str, body: str, attributes: Mapping[str, tuple[str, str]]) -> None:
            with suppress(threading.BrokenBarrierError):  # the others are still in line: as many as there can be
                self.all_there.wait(1)
            asyncio.run_coroutine_threadsafe(self.aws.send("subscriber", {}), self.loop).result()
            super().message(arn, body, attributes)

    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        async with local(tmp_path) as aws:
            aws.service = LambdaService(aws.state, aws.executor, topic := Topic(aws, together=2))
            aws.make("f")
            aws.make("subscriber")
            aws.handle("f", DestinationConfig={"OnSuccess": {"Destination": QUEUE}})
            for number in range(4):
                await aws.send("f", {"n": number})
            await aws.drained()

            assert len(topic.messages) == 4
            assert len(aws.executor.ran) == 8

    run(scenario())


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path, speed=1.0) as before:
            before.make("f")
            before.handle("f", DestinationConfig={"OnFailure": {"Destination": QUEUE}})
            request_id = await before.send("f", FAILING)
            await until(lambda: (e := before.state.event(before.state.queued_events()[0])) and e.attempts == 1)
        async with local(tmp_path) as after:
            assert after.kept.messages == []
            after.service.resume()
            await after.drained()

            [(_, told, _)] = after.kept.messages
            assert told["requestContext"]["requestId"] == request_id
            assert told["requestContext"]["approximateInvokeCount"] == 3
            assert len(after.executor.ran) == 2

    run(scenario())


def test_deleting_the_function_deletes_its_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with local(tmp_path, speed=1.0) as aws:
            aws.make("f")
            await aws.send("f", FAILING)
            await until(lambda: aws.executor.ran)
            aws.state.delete_function(ACCOUNT, REGION, {"FunctionName": "f"})
            assert aws.state.queued_events() == []

    run(scenario())


def test_a_new_speed_shortens_a_wait_that_has_begun() -> None:
    async def scenario() -> None:
        speed = 1.0
        pace = Pace(lambda: speed)
        waiting = asyncio.ensure_future(pace.wait(3600.0))
        await asyncio.sleep(0)  # it has begun
        speed = 3_600_000.0
        pace.changed()
        async with asyncio.timeout(60):
            assert await waiting > 3590.0

    run(scenario())
