"""Lambda over HTTP: every path is answered here, and invocations are handed to the executor."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias, assert_never
from uuid import uuid4

import msgspec

from pointsman.localaws.contract import Executor, Request, Response, Target
from pointsman.localaws.lambda_.address import Address
from pointsman.localaws.lambda_.errors import LambdaError, NotReady, Throttled, not_built, too_large
from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.wire import Json, parameters, refusal, reply, route, validate

MOST_REQUEST = 70_167_211  # any request; what a zip of 50 MB becomes as base64, and some
MOST_SYNCHRONOUS = 6_291_456
MOST_ASYNCHRONOUS = 1_048_576  # 256 KB until October 2025
MOST_REPLY = 6_291_556
LOG_TAIL = 4096
OLDEST_EVENT_S = 21_600
_BIG = 65_536  # bytes beyond which parsing would hold up the event loop noticeably

InvocationType: TypeAlias = Literal["RequestResponse", "Event", "DryRun"]
LogType: TypeAlias = Literal["None", "Tail"]
Seek: TypeAlias = Callable[[], tuple[Target, str]]
Operation: TypeAlias = Callable[[str, str, Json], Json]

log: Final = logging.getLogger(__name__)
_CODE = re.compile(r"/2015-03-31/code/([0-9a-f]{64})\.zip")


@dataclass(frozen=True, slots=True)
class InvokeReply:
    """What Invoke answers: 200 with what ran, 202 (Event) or 204 (DryRun) with nothing but the request id."""

    status: int
    request_id: str
    payload: bytes = b""
    executed_version: str | None = None
    function_error: str | None = None
    log_result: str | None = None  # base64, when LogType=Tail asked for it


class LambdaService:
    """Answers Lambda's HTTP API from `state` and runs functions by `executor`; all calls from one event loop."""

    def __init__(self, state: LambdaState, executor: Executor) -> None:
        self._state = state
        self._executor = executor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: Counter[tuple[str, str, str]] = Counter()  # by function
        self._background: set[asyncio.Task[None]] = set()
        state.changed = self._retire
        self._operations: Mapping[str, Operation] = {
            "AddPermission": state.add_permission,
            "CreateAlias": state.create_alias,
            "CreateFunction": state.create_function,
            "DeleteAlias": state.delete_alias,
            "DeleteFunction": state.delete_function,
            "DeleteFunctionCodeSigningConfig": state.delete_function_code_signing_config,
            "DeleteFunctionConcurrency": state.delete_function_concurrency,
            "DeleteFunctionEventInvokeConfig": state.delete_function_event_invoke_config,
            "DeleteProvisionedConcurrencyConfig": state.delete_provisioned_concurrency_config,
            "GetAccountSettings": state.get_account_settings,
            "GetAlias": state.get_alias,
            "GetFunction": state.get_function,
            "GetFunctionCodeSigningConfig": state.get_function_code_signing_config,
            "GetFunctionConcurrency": state.get_function_concurrency,
            "GetFunctionConfiguration": state.get_function_configuration,
            "GetFunctionEventInvokeConfig": state.get_function_event_invoke_config,
            "GetFunctionRecursionConfig": state.get_function_recursion_config,
            "GetPolicy": state.get_policy,
            "GetProvisionedConcurrencyConfig": state.get_provisioned_concurrency_config,
            "GetRuntimeManagementConfig": state.get_runtime_management_config,
            "ListAliases": state.list_aliases,
            "ListFunctionEventInvokeConfigs": state.list_function_event_invoke_configs,
            "ListFunctions": state.list_functions,
            "ListFunctionsByCodeSigningConfig": state.list_functions_by_code_signing_config,
            "ListProvisionedConcurrencyConfigs": state.list_provisioned_concurrency_configs,
            "ListTags": state.list_tags,
            "ListVersionsByFunction": state.list_versions_by_function,
            "PublishVersion": state.publish_version,
            "PutFunctionCodeSigningConfig": state.put_function_code_signing_config,
            "PutFunctionConcurrency": state.put_function_concurrency,
            "PutFunctionEventInvokeConfig": state.put_function_event_invoke_config,
            "PutFunctionRecursionConfig": state.put_function_recursion_config,
            "PutProvisionedConcurrencyConfig": state.put_provisioned_concurrency_config,
            "PutRuntimeManagementConfig": state.put_runtime_management_config,
            "RemovePermission": state.remove_permission,
            "TagResource": state.tag_resource,
            "UntagResource": state.untag_resource,
            "UpdateAlias": state.update_alias,
            "UpdateFunctionCode": state.update_function_code,
            "UpdateFunctionConfiguration": state.update_function_configuration,
            "UpdateFunctionEventInvokeConfig": state.update_function_event_invoke_config,
        }

    async def close(self) -> None:
        """Give up what still runs in the background. The executor is its owner's to close."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # --- HTTP ---

    async def handle(self, request: Request) -> Response:
        self._loop = asyncio.get_running_loop()
        request_id = str(uuid4())
        try:
            response = await self._answer(request, request_id)
        except LambdaError as error:
            response = refusal(error)
        except Exception:
            log.exception("the local Lambda failed at %s %s", request.method, request.path)
            response = refusal(
                LambdaError("ServiceException", 500, "The local Lambda failed; its log says how.", "Service")
            )
        return Response(response.status, response.body, {"x-amzn-requestid": request_id, **response.headers})

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
        if operation in ("Invoke", "InvokeAsync"):
            return await self._invoke_over_http(operation, parameters(operation, path, request), request, request_id)
        method = self._operations.get(operation)
        if method is None:
            raise not_built(f"the operation {operation}")
        call = partial(_call, method, operation, path, request)
        # Reads are a look-up and stay here; writes may wait for the disk, for S3, or for a zip to be hashed.
        document = call() if request.method == "GET" else await asyncio.to_thread(call)
        if operation == "GetFunction" and (host := request.headers.get("host")):
            document["Code"]["Location"] = f"http://{host}{document['Code']['Location']}"
        return reply(status, document)

    def _code(self, digest: str) -> Response:
        try:
            return Response(200, self._state.packages.zip(digest).read_bytes(), {"content-type": "application/zip"})
        except FileNotFoundError:
            raise LambdaError("ResourceNotFoundException", 404, "No version has this code any more.") from None

    async def _invoke_over_http(self, operation: str, given: Json, request: Request, request_id: str) -> Response:
        validate(operation, given)
        invoke = partial(
            self.invoke, request.account, request.region, given["FunctionName"], qualifier=given.get("Qualifier")
        )
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

    # --- invocations ---

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
    ) -> InvokeReply:
        """Run a function as Invoke does: `function_name` is a name or ARN; an alias's weights are drawn each time."""
        self._loop = asyncio.get_running_loop()
        request_id = request_id or str(uuid4())
        if len(payload) > MOST_SYNCHRONOUS:
            raise too_large(f"Request must be smaller than {MOST_SYNCHRONOUS} bytes for the InvokeFunction operation")
        if invocation_type == "Event" and len(payload) > MOST_ASYNCHRONOUS:
            raise too_large(
                f"{len(payload)} byte payload is too large for the Event invocation type "
                f"(limit {MOST_ASYNCHRONOUS} bytes)"
            )
        if len(payload) > _BIG:
            await asyncio.to_thread(_check_json, payload)
        else:
            _check_json(payload)
        seek = partial(self._state.target, account, region, function_name, qualifier)
        run = partial(
            self._run, seek, payload or b"{}", request_id=request_id, log_type=log_type, client_context=client_context
        )
        match invocation_type:
            case "RequestResponse":
                return await run()
            case "Event" | "DryRun":
                with suppress(NotReady):  # it exists, which is all that is asked before the reply
                    await asyncio.to_thread(seek)
            case _:
                assert_never(invocation_type)
        if invocation_type == "DryRun":
            return InvokeReply(204, request_id)
        self._start(partial(_when_free, run), f"event {request_id} for {function_name}")
        return InvokeReply(202, request_id)

    async def _run(
        self,
        seek: Seek,
        payload: bytes,
        *,
        request_id: str,
        log_type: LogType,
        client_context: str | None,
    ) -> InvokeReply:
        target, arn = await _when_active(seek)
        function = (target.account, target.region, target.function_name)
        reserved = self._state.reserved(target)
        if reserved is not None and self._running[function] >= reserved:
            raise Throttled
        self._running[function] += 1
        try:
            outcome = await self._executor.invoke(
                target, payload, invoked_arn=arn, request_id=request_id, client_context=client_context
            )
        finally:
            self._running[function] -= 1
            if not self._running[function]:
                del self._running[function]
        error, answer = outcome.error, outcome.payload
        if len(answer) > MOST_REPLY:
            message = f"Response payload size exceeded maximum allowed payload size ({MOST_REPLY} bytes)."
            answer = msgspec.json.encode({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"})
            error = "Unhandled"
        tail = base64.b64encode(outcome.log[-LOG_TAIL:]).decode() if log_type == "Tail" else None
        return InvokeReply(200, request_id, answer, target.version, error, tail)

    # --- in the background ---

    def _retire(self, here: Address, version: str | None) -> None:
        """End environments of what changed. Called in whatever thread changed it (CloudFormation's, for one)."""
        if self._loop is None or self._loop.is_closed():  # nothing runs yet, or any more
            return
        ending = partial(self._executor.retire, here.name, here.account, here.region, version)
        self._loop.call_soon_threadsafe(self._start, ending, f"retiring {here.qualified(version)}")

    def _start(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        async def watched() -> None:
            try:
                await work()
            except Exception:
                log.exception("%s failed", what)

        task = asyncio.ensure_future(watched())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _when_active(seek: Seek) -> tuple[Target, str]:
    """AWS holds an invocation back while the version is being created; so do we."""
    while True:
        try:
            return await asyncio.to_thread(seek)
        except NotReady as soon:
            await asyncio.sleep(soon.seconds)


async def _when_free(run: Callable[[], Awaitable[object]], patience_s: float = OLDEST_EVENT_S) -> None:
    """AWS tries a throttled event again, for six hours unless told otherwise."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            await run()
        except Throttled:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def _call(method: Operation, operation: str, path: Mapping[str, str], request: Request) -> Json:
    return method(request.account, request.region, parameters(operation, path, request))


def _check_json(payload: bytes) -> None:
    if not payload:
        return
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise LambdaError(
            "InvalidRequestContentException",
            400,
            f"Could not parse request body into json: Could not parse payload into json: {wrong}",
        ) from wrong
