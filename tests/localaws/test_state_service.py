"""What LambdaService adds to the rules: bytes in and out, waiting, the background, and telling the executor."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws.contract import Outcome, Request, Response, Target
from pointsman.localaws.lambda_ import LambdaService, LambdaState
from tests.conform.local_lambda import ACCOUNT, REGION, InProcess, package
from tests.localaws.test_state import HERE, ROLE


@asynccontextmanager
async def serving(directory: Path, executor: InProcess, settle_s: float = 0.0) -> AsyncIterator[LambdaService]:
    state = LambdaState(directory, settle_s=settle_s, runtimes=executor.runtimes)
    service = LambdaService(state, executor)
    yield service
    await service.close()
    state.close()


async def send(service: LambdaService, method: str, path: str, body: object = None, **query: str) -> Response:
    given = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return await service.handle(Request(method, path, query, {"host": "localhost:9"}, given, ACCOUNT, REGION))


async def created(service: LambdaService) -> None:
    code = {"ZipFile": base64.b64encode(package()).decode()}
    given = {"FunctionName": "f", "Role": ROLE, "Runtime": "python3.11", "Handler": "index.handler", "Code": code}
    assert (await send(service, "POST", "/2015-03-31/functions", given)).status == 201


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work(), 120)

    asyncio.run(bounded())


NOT_BUILT = "NotImplementedException"
NEW = {"FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r", "Code": {}} | {
    "Runtime": "python3.11",
    "Handler": "index.handler",
}


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/2015-03-31/nothing", None, 404, "UnknownOperationException"),
        ("POST", "/2015-03-31/functions", {**NEW, "AcceleratorConfig": {"AcceleratorMemorySize": 16}}, 501, NOT_BUILT),
        ("PUT", "/2015-03-31/functions/f/configuration", b"{nonsense", 400, "InvalidRequestContentException"),
        ("PUT", "/2015-03-31/functions/f/configuration", b"[]", 400, "SerializationException"),
        ("PUT", "/2015-03-31/functions/f/configuration", {"Timeout": "9"}, 400, "SerializationException"),
        ("PUT", "/2015-03-31/functions/f/configuration", {"Timeout": True}, 400, "SerializationException"),
        ("PUT", "/2015-03-31/functions/f/code", {"ZipFile": "no base64!"}, 400, "SerializationException"),
        ("GET", "/2015-03-31/code/" + "0" * 64 + ".zip", None, 404, "ResourceNotFoundException"),
    ],
)
def test_every_refusal_is_lambdas_json(
    *, tmp_path: Path, method: str, path: str, body: object, status: int, code: str
) -> None:
    """Never HTML, never silence: a tool under test must see what it would see on AWS."""

    async def work() -> None:
        async with serving(tmp_path, InProcess()) as service:
            await created(service)
            response = await send(service, method, path, body)

            assert (response.status, response.headers["x-amzn-errortype"]) == (status, code)
            document = json.loads(response.body)
            assert document.get("message") or document.get("Message")
            assert response.headers["x-amzn-requestid"]

    run(work)


def test_unknown_members_and_a_slash_at_the_end_do_no_harm(tmp_path: Path) -> None:
    """The CLI's older models write /2015-03-31/functions/; newer ones than ours send members we never heard of."""

    async def work() -> None:
        async with serving(tmp_path, InProcess()) as service:
            await created(service)
            listed = await send(service, "GET", "/2015-03-31/functions/")
            given = {"Timeout": 9, "FromTheFuture": {"A": [1]}, "MemorySize": None}
            updated = await send(service, "PUT", "/2015-03-31/functions/f/configuration", given)

            assert len(json.loads(listed.body)["Functions"]) == 1
            assert (updated.status, json.loads(updated.body)["Timeout"]) == (200, 9)

    run(work)


def test_what_changed_is_retired_whoever_changed_it(tmp_path: Path) -> None:
    """CloudFormation calls the state, not the service, and from another thread."""

    async def work() -> None:
        executor = InProcess()
        async with serving(tmp_path, executor) as service:
            await created(service)
            arn = f"arn%3Aaws%3Alambda%3A{REGION}%3A{ACCOUNT}%3Afunction%3Af"
            await send(service, "PUT", f"/2015-03-31/functions/{arn}/configuration", {"Timeout": 9})
            state: LambdaState = service._state
            await asyncio.to_thread(state.delete_function, *HERE, {"FunctionName": "f"})
            await until(lambda: len(executor.retired) == 2)

            assert executor.retired == [("f", "$LATEST"), ("f", None)]

    run(work)


def test_an_event_runs_after_the_reply_and_once(tmp_path: Path) -> None:
    async def work() -> None:
        executor = InProcess()
        async with serving(tmp_path, executor, settle_s=3600.0) as service:
            await created(service)  # still pending: the event waits, the reply does not
            reply = await service.invoke(*HERE, "f", b"", invocation_type="Event")

            assert (reply.status, reply.payload, executor.ran) == (202, b"", [])
            service._state.release()
            await until(lambda: executor.ran)
            await until(lambda: not service._invocations._background)
            assert [version for _, version in executor.ran] == ["$LATEST"]

    run(work)


class Broken(InProcess):
    async def invoke(self, target: Target, payload: bytes, **_: Any) -> Outcome:
        raise OSError("no process could be started")


class Talkative(InProcess):
    async def invoke(self, target: Target, payload: bytes, **_: Any) -> Outcome:
        return Outcome(b'"' + b"x" * 6_291_556 + b'"', None, b"y" * 5000, 1.0, 1, None)


def test_a_failure_of_ours_is_a_service_exception(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(tmp_path, Broken()) as service:
            await created(service)
            response = await send(service, "POST", "/2015-03-31/functions/f/invocations", b"{}")
            event = await service.invoke(*HERE, "f", b"{}", invocation_type="Event")

            assert (response.status, json.loads(response.body)["Type"]) == (500, "Service")
            assert event.status == 202  # and the log tells of the rest

    run(work)


def test_a_reply_beyond_6_mb_is_a_function_error(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(tmp_path, Talkative()) as service:
            await created(service)
            reply = await service.invoke(*HERE, "f", b"{}", log_type="Tail")

            assert (reply.status, reply.function_error) == (200, "Unhandled")
            assert json.loads(reply.payload) == {
                "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
                "errorType": "Function.ResponseSizeTooLarge",
            }
            assert reply.log_result is not None
            assert len(reply.log_result) == 5464  # 4096 bytes as base64

    run(work)


def test_big_code_does_not_hold_up_reads(tmp_path: Path) -> None:
    """A 40 MB zip takes a while to parse, hash and write; meanwhile status calls are answered."""

    async def work() -> None:
        async with serving(tmp_path, InProcess()) as service:
            await created(service)
            big = base64.b64encode(package(noise=os.urandom(15_000_000).hex())).decode()
            update = asyncio.ensure_future(send(service, "PUT", "/2015-03-31/functions/f/code", {"ZipFile": big}))
            answered = 0
            while not update.done():
                assert (await send(service, "GET", "/2015-03-31/functions/f/configuration")).status == 200
                answered += 1
                await asyncio.sleep(0)

            assert update.result().status == 200
            assert answered > 20  # on the event loop it would be one or two

    run(work)
