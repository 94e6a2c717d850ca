"""What the conformance suite runs against and with: a server for our Lambda, packages, clients, calls."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import threading
import zipfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pointsman.localaws.contract import Outcome, Request, Response, Stream, Target
from pointsman.localaws.event_sources.filters import is_pattern
from pointsman.localaws.lambda_ import Caller, LambdaService, NetworkMissing, ObjectMissing, Visit, addressed

ACCOUNT, REGION = "123456789012", "eu-west-1"
AWS = os.environ.get("POINTSMAN_CONFORM_AWS") == "1"
ENDPOINT = os.environ.get("POINTSMAN_CONFORM_ENDPOINT")
HERE = not AWS and ENDPOINT is None

HANDLER = """\
import json
BUILD = {build!r}
def handler(event, context):
    print("seen", json.dumps(event))
    if isinstance(event, dict) and event.get("fail"):
        raise ValueError("asked to")
    return {{"build": BUILD, "version": context.function_version, "arn": context.invoked_function_arn, "event": event}}
"""


def package(build: str = "one", **files: str) -> bytes:
    """A zip whose handler (index.handler) says which build, version and ARN ran; equal for equal arguments."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"index.py": HANDLER.format(build=build), **files}.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return packed.getvalue()


class InProcess:
    """An Executor that runs a package's Python handler right here: what the rules need of execution, and no more."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []  # (ARN, version)
        self.retired: list[tuple[str, str | None]] = []

    async def invoke(
        self,
        target: Target,
        payload: bytes,
        *,
        invoked_arn: str,
        request_id: str,
        client_context: str | None = None,
        stream: Stream | None = None,  # Python handlers do not stream, on AWS either
    ) -> Outcome:
        self.ran.append((invoked_arn, target.version))
        module, _, name = target.handler.partition(".")
        lines: list[str] = []
        scope: dict[str, Any] = {"print": lambda *words: lines.append(" ".join(map(str, words)))}
        exec((target.code / f"{module}.py").read_text(), scope)
        context = SimpleNamespace(function_version=target.version, invoked_function_arn=invoked_arn)
        error = None
        try:
            answer = scope[name](json.loads(payload), context)
        except ValueError as raised:
            answer, error = {"errorMessage": str(raised), "errorType": "ValueError", "stackTrace": []}, "Unhandled"
        text = [f"START RequestId: {request_id} Version: {target.version}", *lines, f"END RequestId: {request_id}"]
        log = "\n".join([*text, f"REPORT RequestId: {request_id}\tDuration: 1.00 ms", ""])
        return Outcome(json.dumps(answer).encode(), error, log.encode(), 1.0, 1, None)

    async def prepare(self, target: Target) -> bool:
        return "fails when provisioned" not in (target.code / "index.py").read_text()

    def runtimes(self) -> tuple[str, ...]:
        return ("nodejs20.x", "python3.11", "python3.13")

    async def retire(self, function_name: str, account: str, region: str, version: str | None = None) -> None:
        self.retired.append((function_name, version))

    async def close(self) -> None: ...


class NamedSources:
    """Queues and streams that exist unless their name ends in "none"."""

    def visibility_timeout(self, queue_arn: str) -> int | None:
        return None if queue_arn.endswith("none") else 30

    def stream_exists(self, arn: str) -> bool:
        return not arn.endswith("none")

    def is_pattern(self, text: str) -> bool:
        return is_pattern(text)


class HttpServer:
    """HTTP/1.1 on a free port of 127.0.0.1, in a thread of its own: just enough of it for botocore."""

    def __init__(self, service: LambdaService) -> None:
        self._service = service
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        async def finish() -> None:
            self._server.close()
            await self._service.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                names: list[tuple[str, str]] = []
                while (header := (await reader.readline()).decode().rstrip("\r\n")) != "":
                    name, _, value = header.partition(":")
                    names.append((name, value.strip()))
                headers = {name.lower(): value for name, value in names}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                path, _, text = target.partition("?")
                query: dict[str, str] = {}
                for name, value in parse_qsl(text, keep_blank_values=True):
                    query[name] = f"{query[name]},{value}" if name in query else value
                signed = re.search(r"Credential=([^/]+)/", headers.get("authorization", ""))
                account = signed[1] if signed and signed[1].isdecimal() else ACCOUNT
                if (visited := addressed(headers.get("host"), path)) is not None:
                    caller = Caller(signed[1], account) if signed else None
                    port = writer.get_extra_info("sockname")[1]
                    visit = Visit(*visited, method, text, names, body, port, visited[1] != path, caller)
                    response = await self._service.visit(visit)
                else:
                    response = await self._service.handle(Request(method, path, query, headers, body, account, REGION))
                writer.write(_bytes(response, method))
                if response.chunks is not None:
                    async for chunk in response.chunks:
                        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    writer.write(b"0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the client went away, or the server is closing
        finally:
            writer.close()


def _bytes(response: Response, method: str) -> bytes:
    lines = [f"HTTP/1.1 {response.status} -", *(f"{name}: {value}" for name, value in response.headers.items())]
    lines += [f"set-cookie: {cookie}" for cookie in response.cookies]
    if response.chunks is not None:
        lines.append("transfer-encoding: chunked")
    elif response.status != 204:
        lines.append(f"content-length: {len(response.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (
        b"" if method == "HEAD" or response.status == 204 else response.body
    )


def find_network(account: str, region: str, subnets: list[str], groups: list[str]) -> str:
    for group in groups:
        if group != "sg-1":
            raise NetworkMissing(
                "DescribeSecurityGroups", "InvalidGroup.NotFound", f"The security group '{group}' does not exist"
            )
    for subnet in subnets:
        if subnet != "subnet-1":
            raise NetworkMissing(
                "DescribeSubnets", "InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist"
            )
    return "vpc-1"


OBJECTS = {("bucket", "old.zip", None): package("from-s3"), ("bucket", "old.zip", "v0"): package("from-s3-v0")}


IMAGES = {("app", "latest"): "sha256:" + "1" * 64, ("app", "next"): "sha256:" + "2" * 64}


def image_digest(account: str, region: str, repository: str, tag: str) -> str | None:
    return IMAGES.get((repository, tag)) if (account, region) == (ACCOUNT, REGION) else None


def read_object(account: str, region: str, bucket: str, key: str, version: str | None) -> bytes:
    if bucket != "bucket":
        raise ObjectMissing("NoSuchBucket", "The specified bucket does not exist")
    if (bucket, key, version) not in OBJECTS:
        raise ObjectMissing("NoSuchKey", "The specified key does not exist.")
    return OBJECTS[bucket, key, version]


def client_of(service: str, endpoint: str | None, access_key: str = "AKIAIOSFODNN7EXAMPLE") -> Any:
    session = botocore.session.Session()
    if HERE:
        session.set_credentials(access_key, "secret")
    # The suite checks what the service refuses, so botocore must let it through; and a retry would hide a first answer.
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    return session.create_client(service, REGION if HERE else None, endpoint_url=endpoint, config=config)


def settle(client: Any, name: str) -> dict[str, Any]:
    """Wait until nothing is under way, and say how the function then is."""
    waiting = {"Delay": 1 if AWS else 0.02, "MaxAttempts": 300}
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=waiting)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=waiting)
    configuration: dict[str, Any] = client.get_function_configuration(FunctionName=name)
    return configuration


def refused(call: Callable[..., Any], **parameters: Any) -> tuple[str, int, str | None]:
    """(code, HTTP status, sentence) of a call that must fail."""
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    response = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"].get("Message")
