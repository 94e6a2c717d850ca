"""Lambda over HTTP: every path is answered here, and invocations are handed to the executor."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Final
from uuid import uuid4

from pointsman.localaws.contract import Carrier, Executor, Request, Response
from pointsman.localaws.lambda_.errors import Denied, LambdaError, not_built, too_large
from pointsman.localaws.lambda_.invocations import Invocations
from pointsman.localaws.lambda_.operations import INVOCATIONS, OPERATIONS
from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.streams import EVENT_STREAM, invoke_complete, payload_chunk
from pointsman.localaws.lambda_.url_answers import UrlAnswers
from pointsman.localaws.lambda_.visits import Visit
from pointsman.localaws.lambda_.wire import Json, parameters, refusal, reply, route, validate

MOST_REQUEST = 70_167_211  # any request; what a zip of 50 MB becomes as base64, and some

log: Final = logging.getLogger(__name__)
_CODE = re.compile(r"/2015-03-31/code/([0-9a-f]{64})\.zip")


class LambdaService:
    """Answers Lambda's HTTP API from `state` and runs functions by `executor`; all calls from one event loop."""

    def __init__(self, state: LambdaState, executor: Executor, carrier: Carrier | None = None) -> None:
        self._state = state
        self._invocations = Invocations(state, executor, carrier)
        self.invoke = self._invocations.invoke
        self.resume = self._invocations.resume
        self.destinations = self._invocations.destinations
        self._urls = UrlAnswers(state, self._invocations)

    async def close(self) -> None:
        await self._invocations.close()

    # --- HTTP ---

    async def handle(self, request: Request) -> Response:
        self._invocations.loop = asyncio.get_running_loop()
        request_id = str(uuid4())
        try:
            response = await self._answer(request, request_id)
        except Denied as error:
            response = refusal(error.of(request.caller) if request.caller else error)
        except LambdaError as error:
            response = refusal(error)
        except Exception:
            log.exception("the local Lambda failed at %s %s", request.method, request.path)
            response = refusal(
                LambdaError("ServiceException", 500, "The local Lambda failed; its log says how.", "Service")
            )
        return replace(response, headers={"x-amzn-requestid": request_id, **response.headers})

    async def visit(self, visit: Visit) -> Response:
        """A request to a function URL."""
        try:
            return await self._urls.answer(visit)
        except Exception:
            log.exception(
                "the local Lambda failed at the function URL %s, %s %s", visit.url_id, visit.method, visit.path
            )
            return Response(500, b"The local Lambda failed; its log says how.", {"content-type": "text/plain"})

    async def _answer(self, request: Request, request_id: str) -> Response:
        if request.method == "GET" and (code := _CODE.fullmatch(request.path)):
            return await asyncio.to_thread(self._code, code[1])
        found = route(request)
        if found is None:
            raise LambdaError(
                "UnknownOperationException", 404, f"Lambda has no {request.method} {request.path}.", type=""
            )
        (operation, status), path = found
        if len(request.body) > MOST_REQUEST:
            raise too_large(f"Request must be smaller than {MOST_REQUEST} bytes for the {operation} operation")
        if operation in INVOCATIONS:
            return await self._invoke_over_http(operation, parameters(operation, path, request), request, request_id)
        answer = OPERATIONS.get(operation)
        if answer is None:
            raise not_built(f"the operation {operation}")

        def call() -> Json:
            return answer(self._state, request.account, request.region, parameters(operation, path, request))

        # Reads are a look-up and stay here; writes may wait for the disk, for S3, or for a zip to be hashed.
        document = call() if request.method == "GET" else await asyncio.to_thread(call)
        # Where a package is to be had comes as a path.
        for part in (document.get("Code"), document.get("Content")):
            if part and "Location" in part and (host := request.headers.get("host")):
                part["Location"] = f"http://{host}{part['Location']}"
        return reply(document.pop("StatusCode", status), document)

    def _code(self, digest: str) -> Response:
        try:
            return Response(200, self._state.packages.zip(digest).read_bytes(), {"content-type": "application/zip"})
        except FileNotFoundError:
            raise LambdaError("ResourceNotFoundException", 404, "No version has this code any more.") from None

    async def _invoke_over_http(self, operation: str, given: Json, request: Request, request_id: str) -> Response:
        validate(operation, given)
        invoke = partial(
            self._invocations.invoke,
            request.account,
            request.region,
            given["FunctionName"],
            qualifier=given.get("Qualifier"),
        )
        if operation == "InvokeWithResponseStream":
            return await self._stream_over_http(given, request, request_id)
        if operation == "InvokeAsync":
            await invoke(given["InvokeArgs"], invocation_type="Event", request_id=request_id)
            return reply(202, {"Status": 202})
        answer = await invoke(
            given["Payload"],
            invocation_type=given.get("InvocationType", "RequestResponse"),
            log_type=given.get("LogType", "None"),
            client_context=given.get("ClientContext"),
            request_id=request_id,
        )
        headers = {
            "x-amz-executed-version": answer.executed_version,
            "x-amz-function-error": answer.function_error,
            "x-amz-log-result": answer.log_result,
            "content-type": "application/json" if answer.status == 200 else None,
        }
        return Response(
            answer.status, answer.payload, {name: value for name, value in headers.items() if value is not None}
        )

    async def _stream_over_http(self, given: Json, request: Request, request_id: str) -> Response:
        options = {
            "qualifier": given.get("Qualifier"),
            "log_type": given.get("LogType", "None"),
            "client_context": given.get("ClientContext"),
            "request_id": request_id,
        }
        call = (request.account, request.region, given["FunctionName"], given["Payload"])
        if given.get("InvocationType") == "DryRun":
            return Response((await self._invocations.invoke(*call, **options, invocation_type="DryRun")).status)
        pipe, reply = await self._invocations.begin_invoke(*call, **options)

        async def messages() -> AsyncIterator[bytes]:
            async for chunk in pipe:
                yield payload_chunk(chunk)
            ended = await reply
            yield invoke_complete(ended.function_error, ended.payload, ended.log_result)

        headers = {"content-type": EVENT_STREAM, "x-amz-executed-version": pipe.executed_version}
        return Response(200, b"", headers, chunks=messages())
